"""Weights behind a DequantizeLinear, `(q - zero)*scale`: its scale takes what is one factor for each output.

    Given:   w = DequantizeLinear(q, scale), c = Conv(x, w, b) -> A      Result:  w' = DequantizeLinear(q, s*scale)

The numbers that are stored stay, and so does the type that runtimes compute in. A factor below 0 turns the numbers
over, `(q - zero)*scale = ((2*zero - q) - zero)*(-scale)`, since runtimes may rely on a scale that is positive. Where a
number leaves its type by that, a zero point that is not 0 turns over with them, as each bit does,
`q - zero = ~zero - ~q`; one that is 0 stays, since runtimes may rely on that, too. What is made of them has another
value, so it gets another name. From in front the scale takes one number. A Transpose or a
Reshape may stand between, as long as the outputs are one axis of the numbers, too, and so may a Mul by a constant or a
Cast to another type of floats, in whose range the weight has to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnfold.algebra.operators import Linear, Port
from bnfold.algebra.scaled import exact_values, largest_of, scaled
from bnfold.net import Array, Blobs, DType, Layer, LazyArray, Names, Net, Shape, blobs_of, values_of
from bnfold.onnx.call import Call
from bnfold.onnx.constants import compute
from bnfold.onnx.file import element_type
from bnfold.onnx.node import ConstantInput, Node, is_float
from bnfold.onnx.operators.context import DEQUANTISED, SCALING, NodeContext, Unfit, axis_of, dequantising

STORED = "what it makes is a weight, whose scale takes factors through the layers that read it alone"
"""Why no affine passes a DequantizeLinear of stored numbers."""

BY_AXIS = 13
"""The opset since which a DequantizeLinear may have one scale for each index of an axis."""


def dequantised(context: NodeContext, port: int) -> Linear | None:
    """A layer without a bias whose weight is the scale of its second input; None where no DequantizeLinear makes that.

    Args:
        context: the layer.
        port: the axis of its top that is the weight's output.

    Raises:
        Unfit: the scale cannot take a factor, with why.
    """
    place = context.data(1)
    way = [] if place is None else dequantising(context.fold.net, context.layer.bottoms[place])
    if place is None or not way:
        return None
    said = f"its weight '{context.layer.bottoms[place]}' is quantised: it comes from {way[0]}"
    scale, axis = _scale_of(context, way, context.bottom(place), said)
    multiplied, narrowest = _largest_number(way[0].param) * _gain(way), _narrowest(way, scale.dtype)
    if narrowest is None:
        raise Unfit(f"{said}, and then rounded to whole numbers")
    if not float(np.abs(values_of(scale)).max(initial=0)) * multiplied <= largest_of(narrowest):
        raise Unfit(f"{said}, and not finite")
    return Linear(
        weight=scale,
        bias=None,
        view=tuple(scale.shape),
        outputs=(Port(port, (axis,)),),
        inputs=(Port(0, ()),),
        no_shift=f"{said}, which takes no shift from in front",
        positive=f"{said}, whose scale has to stay positive",
        multiplied=multiplied,
        rounded=narrowest,
        turns=len(scale.shape) == 1 and (_turns(way[0].param) or bool(np.any(_zero_point(way[0].param)))),
    )


def _largest_number(node: Node) -> float:
    """What no number of a DequantizeLinear is farther from its zero point than."""
    held, zero = node.constant(0), _zero_point(node)
    if held is None or held.value is None or held.value.size == 0:
        return 1.0
    least, most = (0.0, 0.0) if zero is None else (float(zero.min()), float(zero.max()))
    return max(float(held.value.max()) - least, most - float(held.value.min()))


def _gain(way: Sequence[Layer]) -> float:
    """What no factor behind a DequantizeLinear makes its numbers more than times as large by, at least 1."""
    gain = most = 1.0
    for layer in way:
        if layer.type in SCALING:
            factor = np.abs(exact_values(layer.blobs.stored[0]))
            gain *= float(factor.max(initial=0) if layer.type == "Mul" else 1 / factor.min(initial=np.inf))
            most = max(most, gain)
    return most


def _types(way: Sequence[Layer], scale: DType) -> list[DType | None]:
    """The types that a weight has on its way, the first of which is that of its scale."""
    said = {"Cast": "to", "DequantizeLinear": "output_dtype"}
    targets = [layer.param.attribute(said[layer.type], 0) for layer in way if layer.type in said]
    return [scale, *(element_type(target) for target in targets if target)]


def _narrowest(way: Sequence[Layer], scale: DType) -> DType | None:
    """The type of the smallest range that a weight has on its way; None where it is rounded to whole numbers."""
    types = [dtype for dtype in _types(way, scale) if dtype is not None and is_float(dtype)]
    return min(types, key=largest_of) if len(types) == len(_types(way, scale)) else None


def _turns(node: Node) -> bool:
    """Whether each number has one of the other sign around the zero point, as the least of a signed type has not."""
    held, zero = node.constant(0), _zero_point(node)
    if held is None or held.value is None or held.value.dtype.kind not in "iu" or zero is None:
        return False
    limits, rank = np.iinfo(held.value.dtype), held.value.ndim
    alike = tuple(axis for axis in range(rank) if zero.ndim != rank or zero.shape[axis] == 1)
    least, most = (found(held.value, axis=alike, keepdims=True).astype(np.int64) for found in (np.min, np.max))
    return bool(np.all(2 * zero - most >= limits.min) and np.all(2 * zero - least <= limits.max))


def _zero_point(node: Node) -> Array | None:
    """The zero point as it lies over the numbers; None where it is not known."""
    held, zero = node.constant(0), node.constant(2)
    if not node.given(2):
        return np.zeros((), np.int64)
    if zero is None or zero.value is None or zero.value.dtype.kind not in "iu":
        return None
    if zero.value.size == 1:
        return zero.value.astype(np.int64).reshape(())
    if held is None or held.value is None or zero.value.ndim != 1:
        return None
    return _along(zero.value.astype(np.int64), node.attribute("axis", 1), held.value.ndim)


def _scale_of(context: NodeContext, way: Sequence[Layer], shape: Shape, said: str) -> tuple[Array | LazyArray, int]:
    """The scale of a DequantizeLinear, and the axis of it that has a number for each output of what reads it.

    Raises:
        Unfit: it has none.
    """
    fold, net, maker = context.fold, context.fold.net, way[0]
    node: Node = maker.param
    scale = NodeContext(maker, fold).learned(1)
    if scale is None or not isinstance(node.slots[0], ConstantInput):
        raise Unfit(f"{said}, whose scale or numbers are computed")
    for layer in way:
        (blob,) = layer.tops
        if layer.type in SCALING and fold.shapes.get(blob) != fold.shapes.get(layer.bottoms[0]):
            raise Unfit(f"{said}, and enlarged by {layer}")
        kept = blob in net.outputs or blob in fold.keep or blob in net.origin.pinned
        if kept or len(_readers(net, blob)) != 1 or id(layer) in fold.excluded:
            raise Unfit(f"{said}, which must stay, or which others read, too")
    count, axis = shape[_output_axis(context.layer)], _stored_axis(way, context.layer)
    rank = len(fold.shapes.get(maker.tops[0]) or shape)
    if axis is not None and scale.shape == (count,) and axis_of(axis, rank) == axis_of(node.attribute("axis", 1), rank):
        return scale, 0
    if node.attribute("block_size", 0) and axis is not None and len(scale.shape) == rank:
        of_outputs = axis_of(axis, rank)
        if of_outputs != axis_of(node.attribute("axis", 1), rank) and scale.shape[of_outputs] == count:
            return scale, of_outputs
    by_axis = maker.type != "DequantizeLinear" or node.opset >= BY_AXIS
    is_one = scale.shape in ((), (1,)) and by_axis and count > 0
    if axis is None or not is_one or node.attribute("block_size", 0) or _zero_point(node) is None:
        raise Unfit(f"{said}, whose scale and zero point are not those of its outputs")
    return np.broadcast_to(maker.blobs[0].reshape(-1), (count,)), 0


def _readers(net: Net, blob: str) -> list[Layer]:
    """What reads the values of a blob; exporters make a bias of zeros by the shape of a weight."""
    return [use.layer for use in net.uses(blob) if net.front is None or net.front.reads_values(use.layer, use.index)]


def _stored_axis(way: Sequence[Layer], reader: Layer) -> int | None:
    """The axis of the stored numbers that is the output of what reads them; None where there is none."""
    wanted, held = _output_axis(reader), way[0].param.slots[0].value
    if len(way) == 1:
        return wanted
    for axis, size in enumerate(() if held is None else held.shape):
        numbers = np.arange(size, dtype=np.int32)  # of the outputs, if this is their axis
        moved: Array | None = np.broadcast_to(_along(numbers, axis, held.ndim), held.shape)
        for layer in (one for one in way[1:] if one.type != "Cast" and one.type not in SCALING):
            known = [getattr(slot, "value", None) for slot in layer.param.slots[1:]]
            moved = None if moved is None else compute(Call(layer.param.proto, layer.param.opset, [moved, *known]))
        if (
            moved is not None
            and moved.ndim > wanted
            and moved.shape[wanted] == size
            and np.all(np.moveaxis(moved, wanted, -1) == numbers)
        ):
            return axis
    return None


def _along(values: Array, axis: int, rank: int) -> Array:
    """Values along one axis of an array of a rank."""
    along = [1] * rank
    along[axis] = -1
    return values.reshape(along)


def _output_axis(reader: Layer) -> int:
    """The axis of a layer's weight that is its output."""
    turned = reader.type == "Gemm" and reader.param.attribute("transB", 0)
    return 0 if reader.type == "Conv" or turned else 1 if reader.type == "ConvTranspose" else -1


def rescale(net: Net, reader: Layer, place: int, scale: LazyArray) -> DType:
    """Give the DequantizeLinear that makes an input of a layer another scale; returns the type of the input."""
    way = dequantising(net, reader.bottoms[place])
    maker = way[0]
    node: Node = maker.param.rewritten()
    if maker.blobs.shapes[0] != scale.shape:  # one for each output by now
        zero, slots = node.constant(2), node.slots[:2]  # a zero point of 0 goes without saying
        if zero is not None and zero.value is not None and np.any(zero.value):
            slots = (*slots, ConstantInput("", np.broadcast_to(zero.value.reshape(-1), scale.shape).copy()))
        node = replace(node.rewritten(axis=_stored_axis(way, reader)), slots=slots)
    maker.param, maker.blobs = replace(node, rescaled=True), Blobs([scale])
    return _types(way, scale.dtype)[-1] or scale.dtype


def finish_rescaled(net: Net) -> None:
    """Turn numbers over whose scale came out below 0, and give what is made by another scale another name."""
    changed = [layer for layer in net.layers if layer.param.rescaled]
    if not changed:
        return
    names = Names((*net.origin.names, *blobs_of(net)), "_")
    for layer in changed:
        way = [layer]
        while way[-1].type in DEQUANTISED:
            way += _readers(net, way[-1].tops[0])
        *way, reader = way
        for one in way:
            net.rename(one.tops[0], names.new(f"{one.tops[0]}/{reader.name}"))
        _turn_over(layer)
        layer.param = replace(layer.param, rescaled=False)


def _turn_over(layer: Layer) -> None:
    """Make each scale of a DequantizeLinear positive, where its numbers have others of the other sign."""
    (scale,), numbers, zero = layer.blobs.stored, layer.param.slots[0].value, _zero_point(layer.param)
    signs = np.where(exact_values(scale) < 0, -1.0, 1.0)
    if not np.any(signs < 0) or zero is None or signs.ndim > 1:
        return
    _, kept, *others = layer.param.slots
    along = _along(signs.astype(np.int64), layer.param.attribute("axis", 1), numbers.ndim)
    if _turns(layer.param):
        turned = (zero + along * (numbers - zero)).astype(numbers.dtype)
    elif np.any(zero):
        turned, stored = np.where(along < 0, ~numbers, numbers), layer.param.constant(2).value
        others = [ConstantInput("", np.where(signs < 0, ~stored, stored))]
    else:
        return
    layer.blobs = Blobs([scaled(scale, scale.shape, signs)])
    layer.param = replace(layer.param, slots=(ConstantInput("", turned), kept, *others))
