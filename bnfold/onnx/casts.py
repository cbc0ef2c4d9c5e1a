"""An affine between Casts of a network of 2 bytes, which is computed in float32 and rounded again.

    Given:   Conv -> c -> Cast(float) -> BatchNormalization -> Cast(float16) -> y      Result:  Conv -> y

What the convolution gives in the end is rounded to float16 as y is, so nothing leaves its range that would not have. A
Relu may stand between, too: rounding keeps order and 0, so it gives the same of what is rounded.

    Given:   Conv -> c -> Cast(float) -> Resize -> r -> Cast(float16) -> BatchNormalization -> y
    Result:  Conv -> c -> Cast(float) -> Resize -> r -> Cast(float16) -> y

What gives means or copies of what it reads stays in its type, and affines pass both Casts as they would pass it alone.
"""

from __future__ import annotations

from onnx import TensorProto

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Layer, Net
from bnfold.onnx.node import ARITHMETIC, SHORT

AFFINES = ARITHMETIC | {"BatchNormalization", "Neg"}
MEANS = frozenset({"AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMean", "Resize", "Upsample"})
"""Operators that give means or copies of what they read (a cubic Resize nearly so), as affines pass them in float16."""


def pair_casts(context: FoldContext) -> dict[int, tuple[Layer, Layer]]:
    """Either Cast, by identity -> the pair, from and to a type of 2 bytes around affines, means and at most a Relu."""
    net, pairs = context.net, dict[int, tuple[Layer, Layer]]()
    casts = [layer for layer in net.layers if layer.type == "Cast" and len(layer.bottoms) == 1]
    fixed = _fixed(context) if casts else set()
    for down in casts:
        up, count, relus = down, 0, 0
        while len(up.bottoms) == 1 == len(net.uses(up.bottoms[0])) and up.bottoms[0] not in fixed:
            maker = net.producer(up.bottoms[0])
            if maker is None or id(maker) in context.excluded:
                break
            up, count = maker, count + 1
            relus += up.type == "Relu"
            if up.type not in AFFINES | MEANS and (up.type != "Relu" or relus > 1):
                break
        short, wide = context.types[id(up)]
        returns = short in SHORT and wide == TensorProto.FLOAT and context.types[id(down)] == (wide, short)
        has_relu = relus == 0 or short == TensorProto.FLOAT16  # runtimes have none of bfloat16
        if up.type == "Cast" and count - relus > 1 and returns and has_relu and id(down) not in context.excluded:
            pairs |= dict.fromkeys((id(up), id(down)), (up, down))
    return pairs


def between_casts(net: Net, up: Layer, down: Layer) -> list[Layer] | None:
    """The layers between two Casts by now, each read by the next one alone; None where the Casts are gone."""
    layers, blob = list[Layer](), up.tops[0]
    while [down] != (readers := [use.layer for use in net.uses(blob)]):
        if len(readers) != 1:
            return None
        layers += readers
        blob = readers[0].tops[0]
    return layers


def drop_casts(context: FoldContext) -> list[Layer]:
    """Take out the pairs between which no affine is left, and return them."""
    net, gone = context.net, list[Layer]()
    fixed = _fixed(context) if context.casts else set()
    for up, down in {id(up): (up, down) for up, down in context.casts.values()}.values():
        bottom, top, left = up.bottoms[0], down.tops[0], between_casts(net, up, down)
        if left is not None and all(layer.type == "Relu" for layer in left) and (left or bottom not in fixed):
            net.remove(down)
            net.remove(up)
            for relu in left:
                net.reads(relu, [bottom])
                bottom = relu.tops[0]
            net.rename(bottom, top)
            gone += [up, down]
    return gone


def _fixed(context: FoldContext) -> set[str]:
    """The blobs that must stay, under their names; all layers are looked at for it."""
    net = context.net
    protected = net.front.protected(net) if net.front is not None else ()
    return {*net.inputs, *net.outputs, *context.keep, *protected}
