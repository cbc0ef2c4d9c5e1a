"""Synopsys' arithmetic of two blobs that broadcast as in NumPy, the second a bottom or learned: Add, Sub, Mul ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.layers.row import LayerType
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
        note="broadcasts as NumPy does; the second operand is a bottom or learned; all but Pow also as the Python "
        "layer `eltwise.Eltwise` of two bottoms, with coefficients of 1 and -1",
    )


ROWS: Mapping[str, LayerType] = {
    "Add": _row(),
    "Div": _row(),
    "Maximum": _row(),
    "Minimum": _row(),
    "Mul": _row("value", mul_param="mul_shape"),
    "Pow": _row(),
    "Sub": _row(),
}
