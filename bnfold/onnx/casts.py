"""An affine between Casts of a network of 2 bytes, which is computed in float32 and rounded again.

    Given:   Conv -> c -> Cast(float) -> BatchNormalization -> Cast(float16) -> y      Result:  Conv -> y

What the convolution gives in the end is rounded to float16 as y is, so nothing leaves its range that would not have.
"""

from __future__ import annotations

from onnx import TensorProto

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Layer
from bnfold.onnx.node import SHORT

AFFINES = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Neg", "Sub"})


def pair_casts(context: FoldContext) -> list[tuple[Layer, Layer]]:
    """Pairs of Casts from and to a type of 2 bytes with one affine between them, and nothing else that reads it."""
    net, pairs = context.net, []
    fixed = {*net.outputs, *context.keep, *(net.front.protected(net) if net.front is not None else ())}
    for down in [layer for layer in net.layers if layer.type == "Cast" and len(layer.bottoms) == 1]:
        affine = net.producer(down.bottoms[0])
        up = net.producer(affine.bottoms[0]) if affine is not None and len(affine.bottoms) == 1 else None
        if affine is None or up is None or affine.type not in AFFINES or up.type != "Cast":
            continue
        between, three = (up.tops[0], affine.tops[0]), (up, affine, down)
        alone = all(len(net.uses(blob)) == 1 and blob not in fixed for blob in between)
        short, wide = context.types[id(up)]
        returns = short in SHORT and wide == TensorProto.FLOAT and context.types[id(down)] == (wide, short)
        if alone and returns and not any(id(layer) in context.excluded for layer in three):
            pairs.append((up, down))
    return pairs


def drop_casts(context: FoldContext) -> None:
    """Take out the pairs between which nothing is left."""
    net = context.net
    fixed = {*net.inputs, *net.outputs, *context.keep, *(net.front.protected(net) if net.front is not None else ())}
    for up, down in context.casts:
        bottom, top = up.bottoms[0], down.tops[0]
        if [use.layer for use in net.uses(up.tops[0])] == [down] and bottom not in fixed:
            net.remove(down)
            net.remove(up)
            net.rename(bottom, top)
