"""Weights behind a DequantizeLinear, `(q - zero)*scale`: its scale takes what is one factor for each output.

    Given:   w = DequantizeLinear(q, scale), c = Conv(x, w, b) -> A      Result:  w' = DequantizeLinear(q, s*scale)

The numbers that are stored stay, and so does the type that runtimes compute in. A factor below 0 turns the numbers
over, `q*scale = (-q)*(-scale)`, since runtimes may rely on a scale that is positive. What is made of them has another
value, so it gets another name. From in front the scale takes one number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnfold.algebra.operators import Linear, Port
from bnfold.algebra.scaled import exact_values, scaled
from bnfold.net import Array, Blobs, Layer, LazyArray, Names, Net, Shape, blobs_of
from bnfold.onnx.node import ConstantInput, Node
from bnfold.onnx.operators.context import NodeContext, Unfit, axis_of, why_unknown

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
    maker = None if place is None else context.fold.net.producer(context.layer.bottoms[place])
    if place is None or maker is None or maker.type != "DequantizeLinear":
        return None
    said = f"its weight {why_unknown(context, 1)}"
    scale = _scale_of(NodeContext(maker, context.fold), context.bottom(place), context.layer, said)
    return Linear(
        weight=scale,
        bias=None,
        view=tuple(scale.shape),
        outputs=(Port(port, (0,)),),
        inputs=(Port(0, ()),),
        no_shift=f"{said}, which takes no shift from in front",
        positive=f"{said}, whose scale has to stay positive",
        turns=_turns(maker.param),
    )


def _turns(node: Node) -> bool:
    """Whether each number has one of the other sign, as the least of a signed type has not, around 0."""
    held = node.constant(0)
    if held is None or held.value is None or held.value.dtype.kind != "i" or not _around_zero(node):
        return False
    return bool(np.all(held.value > np.iinfo(held.value.dtype).min))


def _around_zero(node: Node) -> bool:
    """Whether the zero point is 0 for certain."""
    zero = node.constant(2)
    return not node.given(2) or (zero is not None and zero.value is not None and not np.any(zero.value))


def _scale_of(maker: NodeContext, shape: Shape, reader: Layer, said: str) -> Array | LazyArray:
    """The scale of a DequantizeLinear, a number for each output of what reads it. Raises Unfit."""
    net, layer, node = maker.fold.net, maker.layer, maker.node
    scale, (blob,) = maker.learned(1), layer.tops
    if scale is None or not isinstance(node.slots[0], ConstantInput):
        raise Unfit(f"{said}, whose scale or numbers are computed")
    kept = blob in net.outputs or blob in maker.fold.keep or blob in net.origin.pinned
    if kept or len(net.uses(blob)) != 1 or id(layer) in maker.fold.excluded:
        raise Unfit(f"{said}, which must stay, or which others read, too")
    axis = _output_axis(reader, len(shape))
    if scale.shape == shape[axis : axis + 1] and axis == axis_of(node.attribute("axis", 1), len(shape)):
        return scale
    is_one = scale.shape in ((), (1,)) and node.opset >= BY_AXIS and shape[axis] > 0
    if not is_one or node.attribute("block_size", 0) or not _around_zero(node):
        raise Unfit(f"{said}, whose scale and zero point are not those of its outputs")
    return np.broadcast_to(maker.layer.blobs[0].reshape(-1), shape[axis : axis + 1])


def _output_axis(reader: Layer, rank: int) -> int:
    """The axis of a layer's weight that is its output, counted from the back where no rank is given."""
    turned = reader.type == "Gemm" and reader.param.attribute("transB", 0)
    return 0 if reader.type == "Conv" or turned else 1 if reader.type == "ConvTranspose" else rank - 1


def rescale(net: Net, reader: Layer, place: int, scale: LazyArray) -> None:
    """Give the DequantizeLinear that makes an input of a layer another scale."""
    maker = net.producer(reader.bottoms[place])
    assert maker is not None
    node: Node = maker.param.rewritten()
    if maker.blobs.shapes[0] != scale.shape:  # one for each output by now; a zero point of 0 goes without saying
        node = replace(node.rewritten(axis=_output_axis(reader, 0)), slots=node.slots[:2])
    maker.param, maker.blobs = replace(node, rescaled=True), Blobs([scale])


def finish_rescaled(net: Net) -> None:
    """Turn numbers over whose scale came out below 0, and give what is made by another scale another name."""
    changed = [layer for layer in net.layers if layer.param.rescaled]
    if not changed:
        return
    names = Names((*net.origin.names, *blobs_of(net)), "_")
    for layer in changed:
        reader = next(iter(net.uses(layer.tops[0]))).layer
        net.rename(layer.tops[0], names.new(f"{layer.tops[0]}/{reader.name}"))
        _turn_over(layer, reader)
        layer.param = replace(layer.param, rescaled=False)


def _turn_over(layer: Layer, reader: Layer) -> None:
    """Make each scale of a DequantizeLinear positive, where its numbers have others of the other sign."""
    (scale,), numbers = layer.blobs.stored, layer.param.slots[0].value
    signs = np.where(exact_values(scale) < 0, -1.0, 1.0)
    if np.any(signs < 0) and _turns(layer.param):
        along = [1] * numbers.ndim
        along[_output_axis(reader, numbers.ndim)] = -1
        turned = ConstantInput("", numbers * signs.reshape(along).astype(numbers.dtype))
        layer.blobs = Blobs([scaled(scale, scale.shape, signs)])
        layer.param = replace(layer.param, slots=(turned, *layer.param.slots[1:]))
