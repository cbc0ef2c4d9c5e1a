"""Synopsys' arithmetic of blobs, the second a bottom or learned: Add, Sub, Mul ... as in NumPy, MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.layers.row import LayerType, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


def operands(layer: Layer, bottoms: Sequence[Shape]) -> tuple[Shape, Shape]:
    """The shapes of the two operands.

    Raises:
        ModelError: there is one bottom, and not one learned blob beside it.
    """
    if len(bottoms) == 2:
        return bottoms[0], bottoms[1]
    if len(layer.blobs) != 1:
        raise ModelError(f"{layer}: with one bottom it takes one learned blob, and it has {len(layer.blobs)}")
    return bottoms[0], tuple(layer.blobs.shapes[0])


def broadcast(layer: Layer, first: Shape, second: Shape) -> Shape:
    """The shape of both together, aligned at the last axis, sizes of 1 growing.

    Raises:
        ModelError: two sizes differ and neither is 1.
    """
    rank = max(len(first), len(second))
    top = []
    for a, b in zip((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second, strict=True):
        if 1 not in (a, b) and a != b and UNKNOWN not in (a, b):
            raise ModelError(f"{layer}: {sizes(first)} and {sizes(second)} do not broadcast to one shape")
        top.append(b if a == 1 else a if b in (1, UNKNOWN) else b)
    return tuple(top)


def arithmetic(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """What both operands broadcast to (Synopsys' Caffe); the first's where the learned second is missing."""
    if len(bottoms) == 1 and not len(layer.blobs):
        return [bottoms[0]]
    return [broadcast(layer, *operands(layer, bottoms))]


def factors(layer: Layer, bottoms: Sequence[Shape]) -> tuple[Shape, Shape]:
    """The shapes of the two that a MatMul multiplies.

    Raises:
        ModelError: they are no matrices, or none that its Caffe multiplies.
    """
    learned = tuple(layer.param.matmul_param.blob_shape)
    first, second = (bottoms[0], learned) if learned and len(bottoms) == 1 else operands(layer, bottoms)
    # By one matrix all others are multiplied as if they were one, which its Caffe cannot turn.
    alone = len(second) == 2 < len(first) and not layer.param.matmul_param.transpose_a
    if min(len(first), len(second)) < 2 or not (alone or len(first) == len(second)):
        raise ModelError(f"{layer}: {sizes(first)} and {sizes(second)} are not matrices that can be multiplied")
    return first, second


def matmul(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The product of the last two axes, one by one along those in front, or all by one matrix (matmul_layer.cpp)."""
    param = layer.param.matmul_param
    if len(bottoms) == 1 and not len(layer.blobs) and not param.blob_shape:
        return None
    first, second = factors(layer, bottoms)
    rows, inner = first[:-3:-1] if param.transpose_a else first[-2:]
    other, columns = second[:-3:-1] if param.transpose_b else second[-2:]
    merged(layer, (inner,), (other,))
    before = first[:-2] if len(second) < len(first) else merged(layer, first[:-2], second[:-2])
    return [(*before, rows, columns)]


def matmul_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The shape that `blob_shape` says, or as stored; nothing where the second matrix is a bottom."""
    shape = tuple(layer.param.matmul_param.blob_shape)
    return [] if len(bottoms) > 1 else [shape] if shape else None


def gemm(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The product of two matrices, transposed or not, to which a third broadcasts (gemm_layer.cpp, Reshape)."""
    param = layer.param.gemm_param
    if any(len(bottom) != 2 for bottom in bottoms[:2]) or not {param.transA, param.transB} <= {0, 1}:
        raise ModelError(f"{layer}: transA and transB are not 0 or 1, or its first bottoms are no matrices")
    (rows, inner), (other, columns) = (
        bottom[::-1] if transposed else bottom
        for bottom, transposed in zip(bottoms, (param.transA, param.transB), strict=False)
    )
    merged(layer, (inner,), (other,))
    added = bottoms[2]
    if added != (1,) and (len(added) != 2 or any(a not in (1, b) for a, b in zip(added, (rows, columns), strict=True))):
        raise ModelError(f"{layer}: {sizes(added)} is not added to {sizes((rows, columns))}")
    return [(rows, columns)]


def as_stored(_: Layer, __: Sequence[Shape]) -> list[Shape] | None:
    """Only the file knows."""
    return None


def _row(products: Literal["", "value"] = "", **reads: str) -> LayerType:
    return LayerType(
        arithmetic,
        bottoms=(1, 2),
        blobs=as_stored,
        reads=reads,
        products=products,
        dialects="Synopsys",
        note="broadcasts as NumPy does; the second operand is a bottom or learned; Add, Sub, Mul, Div, Maximum and "
        "Minimum also as the Python layer `eltwise.Eltwise` of two bottoms, with coefficients of 1 and -1",
    )


ROWS: Mapping[str, LayerType] = {
    "Add": _row(),
    "Div": _row(),
    "FloorDiv": _row(),
    "FloorMod": _row(),
    "Gemm": LayerType(gemm, bottoms=(3, 3), reads={"gemm_param": "alpha beta transA transB"}, dialects="Synopsys"),
    "MatMul": LayerType(
        matmul,
        bottoms=(1, 2),
        blobs=matmul_blobs,
        reads={"matmul_param": "transpose_a transpose_b blob_shape"},
        products="row",
        dialects="MACE, Synopsys",
        note="by one learned matrix it is read as an InnerProduct",
    ),
    "Maximum": _row(),
    "Minimum": _row(),
    "Mul": _row("value", mul_param="mul_shape"),
    "Pow": _row(),
    "Sub": _row(),
}
