"""Giving an ONNX node new constants, and writing an affine as nodes.

    Given:   m = MatMul(x, W), y = Add(m, b)      While folding:  y = MatMul(x, W) with the bias b
                                                  Result:         m' = MatMul(x, W'), y = Add(m', b')

Conv and Gemm have a place for a bias; a MatMul has none, so it and the Add behind it are one layer while a net is
folded. On a matrix what comes of that is a Gemm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Window
from bnfold.algebra.scaled import Rounded, largest_of
from bnfold.net import Array, Blobs, Layer, LazyArray, Names, Shape
from bnfold.onnx.file import element_type
from bnfold.onnx.node import FLOATS, ConstantInput, Data, Fused, Node, Slot

Values = npt.NDArray[np.float64]


# Linear layers.


def absorb(layer: Layer, weight: LazyArray, bias: Values | None) -> None:
    """Give a linear node new values; alpha and beta of a Gemm are in them.

    Args:
        layer: the node.
        weight: of the shape and type of the old one.
        bias: laid over the top as the operator's bias is; None where there is none.
    """
    node: Node = layer.param
    place = 1 if isinstance(node.slots[0], Data) else 0
    stored = list(layer.blobs.stored)
    slots = list(node.slots)
    _put(slots, stored, place, weight)
    if bias is not None:
        _put(slots, stored, 2, Rounded(np.ascontiguousarray(_as_stored(layer, bias)), weight.dtype))
    layer.blobs = Blobs(stored)
    if layer.type == "Gemm":
        node = node.edited("alpha", "beta") if bias is not None else node.edited("alpha")
    layer.param = replace(node, slots=tuple(slots))


def join(layer: Layer, weight: LazyArray, bias: Values | None, window: Window) -> None:
    """Give a Conv values of another kernel, whose size the last axes of the weight say.

    Args:
        layer, weight, bias: as in `absorb`.
        window: how it slides from now on.
    """
    absorb(layer, weight, bias)
    before, after = zip(*window.pads, strict=True)
    layer.param = layer.param.edited(
        "auto_pad",
        dilations=window.dilation,
        group=window.group,
        kernel_shape=weight.shape[2:],
        pads=(*before, *after),
        strides=window.stride,
    )


def _put(slots: list[Slot], stored: list[Array | LazyArray], place: int, values: LazyArray) -> None:
    """Have a place of a node's inputs hold new values."""
    present = slots[place] if place < len(slots) else None
    if isinstance(present, ConstantInput) and present.blob >= 0:
        stored[present.blob] = values
        return
    slots += [None] * (place + 1 - len(slots))
    slots[place] = ConstantInput("", None, len(stored))
    stored.append(values)


def _as_stored(layer: Layer, bias: Values) -> Values:
    """A bias as the node wants it: a vector, (M, 1) along the rows of a Gemm or MatMul, or a matrix."""
    left = layer.type in {"Gemm", "MatMul"} and isinstance(layer.param.slots[1], Data)
    if layer.type == "Gemm" and bias.size > bias.shape[0 if left else 1]:
        return bias
    return bias.reshape(-1, 1) if left else bias.reshape(-1)


# A MatMul and the bias behind it.


def fuse_biases(context: FoldContext) -> None:
    """Make one layer of each MatMul and the Add of a bias behind it, where nobody else reads what is between."""
    net = context.net
    kept = {*net.outputs, *context.keep, *(net.front.protected(net) if net.front is not None else ())}
    left = any(layer.type == "MatMul" and layer.param.constant(0) is not None for layer in net.layers)
    shapes = net.front.shapes(net) if left and net.front is not None else {}
    for layer in [layer for layer in net.layers if layer.type == "Add" and len(layer.bottoms) == 1]:
        between = layer.bottoms[0]
        matmul = net.producer(between)
        if matmul is None or matmul.type != "MatMul" or len(matmul.bottoms) != 1 or between in kept:
            continue
        if matmul.param.fused is not None or len(matmul.param.slots) != 2:
            continue
        if id(layer) in context.excluded or id(matmul) in context.excluded or len(net.uses(between)) != 1:
            continue
        bias = _bias_of(matmul, layer, shapes)
        if bias is None:
            continue
        top = layer.tops[0]
        net.remove(layer)
        net.rename(between, top)
        node: Node = matmul.param
        slots = (*node.slots, ConstantInput(bias.name, bias.value, len(matmul.blobs)))
        matmul.param = replace(node, slots=slots, fused=Fused(node, matmul.blobs, between, layer))
        matmul.blobs = Blobs((*matmul.blobs.stored, *layer.blobs.stored))


def _bias_of(matmul: Layer, add: Layer, shapes: Mapping[str, Shape | None]) -> ConstantInput | None:
    """The constant that an Add adds, if it is one value for each output of the MatMul."""
    place = 0 if isinstance(add.param.slots[1], Data) else 1
    constant, node = add.param.constant(place), matmul.param
    left = isinstance(node.slots[1], Data)
    weight = node.constant(0 if left else 1)
    if constant is None or constant.blob < 0 or weight is None or weight.blob < 0:
        return None
    shape, size = matmul.blobs.shapes[weight.blob], add.blobs.shapes[constant.blob]
    if len(shape) != 2 or (left and len(shapes.get(matmul.bottoms[0]) or ()) < 2):
        return None  # a column would make a matrix of the vector that a MatMul of a vector gives
    wanted = (shape[0], 1) if left else (shape[1],)
    fits = size == wanted and add.blobs.stored[0].dtype == matmul.blobs.stored[weight.blob].dtype
    return constant if fits else None


def part_biases(context: FoldContext) -> None:
    """Make nodes of their own of what MatMuls add: the old ones where nothing changed."""
    net = context.net
    blobs = {blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops)}
    names = Names(net.origin.names | blobs | set(context.shapes), "_")
    behind: list[tuple[Layer, Layer]] = []
    for layer in net.layers:
        node: Node = layer.param
        top, fused = layer.tops[0] if layer.tops else "", node.fused
        if fused is not None and _is_as_before(layer, fused):
            layer.param, layer.blobs = fused.param, fused.blobs
            between, add = fused.between, fused.add
            add.bottoms, add.tops = [between], [top]
        elif layer.type == "MatMul" and len(node.proto.input) == 2 and node.constant(2) is not None:
            if _becomes_gemm(layer, context):
                continue
            between = names.new(f"{fused.between if fused is not None else top}/{layer.name}")
            add = _adding(layer, between)
        else:
            continue
        behind.append((layer, add))
        readers = list(net.uses(top))
        net.rename(top, between)
        for use in readers:  # they stay with the name, which the other layer writes from now on
            net.reconnect(use, top)
    net.insert_behind(behind)


def _becomes_gemm(layer: Layer, context: FoldContext) -> bool:
    """Write a MatMul of a matrix with a bias as the one node that ONNX has for it."""
    node: Node = layer.param
    bias = node.constant(2)
    shape = context.shapes.get(layer.bottoms[0])
    if bias is None or shape is None or len(shape) != 2:
        return False
    if node.opset < 13 and layer.blobs.stored[bias.blob].dtype.name == "bfloat16":
        return False
    layer.type = "Gemm"
    proto = deepcopy(node.proto)
    proto.op_type = "Gemm"
    layer.param = replace(node, proto=proto, fused=None)
    return True


def _is_as_before(layer: Layer, fused: Fused) -> bool:
    before = (*fused.blobs.stored, *fused.add.blobs.stored)
    return all(one is other for one, other in zip(layer.blobs.stored, before, strict=True))


def _adding(layer: Layer, between: str) -> Layer:
    """Take from a layer what it adds; returns the layer that adds it, the old one where there was one."""
    node: Node = layer.param
    bias = node.constant(2)
    assert bias is not None
    stored = layer.blobs.stored[bias.blob]
    layer.param = replace(node, slots=node.slots[:2], fused=None)
    layer.blobs = Blobs(blob for index, blob in enumerate(layer.blobs.stored) if index != bias.blob)
    if node.fused is not None:
        add = node.fused.add
        return Layer(add.name, add.type, [between], list(layer.tops), Blobs((stored,)), add.param, add.source)
    proto = helper.make_node("Add", ["", ""], [""], name=f"{layer.name}/bias")
    param = Node(proto, node.opset, (Data(0), ConstantInput("", None, 0)), (0,))
    return Layer(proto.name, "Add", [between], list(layer.tops), Blobs((stored,)), param)


# Affines that stay.


def refuses(layer: Layer, affine: Affine, context: FoldContext) -> str:
    """Why an affine could not be written in the place of a node; empty if it can."""
    dtype = _type_of(layer, context)
    if dtype is None:
        return "the type of its values is unknown"
    limit = largest_of(dtype)
    if not bool((np.abs(affine.scale) <= limit).all() and (np.abs(affine.shift) <= limit).all()):
        return "the composition would not be finite as a stored value"
    if _channels(layer, affine, context) is None:
        if context.shapes.get(layer.bottoms[0]) is None:
            return f"the shape of '{layer.bottoms[0]}' is unknown"
        if not affine.keeps_zero and not bool((affine.scale == 1.0).all()):
            return "together they would be a factor and a summand, which are two nodes as before"
    return ""


def rewrite(layer: Layer, affine: Affine, context: FoldContext) -> None:
    """Write an affine in the place of a node.

    Along axis 1 it is one BatchNormalization (mean 0, variance 1, epsilon 0), which runtimes fuse and lay out as they
    do convolutions; along another axis a Mul or an Add.
    """
    dtype = _type_of(layer, context)
    assert dtype is not None
    channels = _channels(layer, affine, context)
    if channels is not None:
        values = [np.broadcast_to(part.reshape(-1), (channels,)) for part in (affine.scale, affine.shift)]
        _become(layer, "BatchNormalization", [*values, np.zeros(channels), np.ones(channels)], dtype, epsilon=0.0)
        return
    shape = context.shapes.get(layer.bottoms[0])
    assert shape is not None
    if affine.keeps_zero:
        _become(layer, "Mul", [_trailing(affine.scale, len(shape))], dtype)
    else:
        _become(layer, "Add", [_trailing(affine.shift, len(shape))], dtype)


def _channels(layer: Layer, affine: Affine, context: FoldContext) -> int | None:
    """How many channels a BatchNormalization in the place of an affine has; None where it cannot be one."""
    dtype, shape = _type_of(layer, context), context.shapes.get(layer.bottoms[0])
    if dtype is None or (dtype.name == "bfloat16" and layer.param.opset < 14):
        return None
    if shape is not None and len(shape) < 2:
        return None
    sizes = affine.shape
    varies = [axis for axis, size in enumerate(sizes) if size != 1]
    return sizes[1] if varies == [1] else None


def _trailing(values: Values, rank: int) -> Values:
    """Values laid over a blob's first axes as ONNX lays them, over its last."""
    full = values.reshape(values.shape + (1,) * (rank - values.ndim))
    sizes: Sequence[int] = full.shape
    first = next((axis for axis, size in enumerate(sizes) if size != 1), full.ndim)
    return full.reshape(full.shape[first:])


def stored_statistics(layer: Layer) -> Node | None:
    """A BatchNormalization in training mode without it, None for every other node."""
    node: Node = layer.param
    if layer.type != "BatchNormalization" or "training_mode" not in node.attributes:
        return None
    node = node.edited("training_mode")
    del node.proto.output[1:]  # what else it gives in training mode has no name
    return replace(node, outputs=node.outputs[:1])


def _become(layer: Layer, op_type: str, values: Sequence[Values], dtype: np.dtype[Any], **attributes: Any) -> None:
    node: Node = layer.param
    proto = helper.make_node(op_type, [""] * (1 + len(values)), [""], name=node.proto.name, **attributes)
    proto.doc_string = node.proto.doc_string
    slots: tuple[Slot, ...] = (Data(0), *(ConstantInput("", None, index) for index in range(len(values))))
    layer.type = op_type
    layer.blobs = Blobs(Rounded(np.ascontiguousarray(one), dtype) for one in values)
    layer.param = replace(node, proto=proto, slots=slots, outputs=(0,))


def _type_of(layer: Layer, context: FoldContext) -> np.dtype[Any] | None:
    """The float type of what a node gives."""
    for blob in layer.blobs.stored:
        return blob.dtype
    names = layer.source.tops if layer.source is not None else layer.tops
    found = element_type(context.net.origin.types.elements.get(names[0], 0))
    return found if found is not None and found.name in FLOATS else None
