"""The constants that a node joins, sums or compares with data, which are layers of their own while a net is folded.

    Given:   y = Concat(x, k)      While folding:  p = Identity(k), y = Concat(x, p)      Result:  y = Concat(x, k')

So an affine on y finds a layer behind each bottom, and the constant takes its own part.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from onnx import helper

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Blobs, Layer, Names, Net
from bnfold.onnx.node import BottomInput, ConstantInput, Node

JOINING = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})


def part_constants(context: FoldContext) -> None:
    """Make a layer of each constant that stands beside data, where all constants of its node are of a float type."""
    net, parts = context.net, []
    names = Names((*net.origin.names, *(blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops))), "_")
    for layer in net.layers:
        node: Node = layer.param
        constants = [slot for slot in node.slots if isinstance(slot, ConstantInput)]
        joins = layer.type in JOINING and layer.bottoms and id(layer) not in context.excluded and not _clips(layer)
        if joins and constants and min(constant.blob for constant in constants) >= 0:
            held = [_holding(constant, layer, names) for constant in constants]
            others, data = iter(held), iter(layer.bottoms)
            read = [next(data) if isinstance(slot, BottomInput) else next(others).tops[0] for slot in node.slots]
            net.reads(layer, read)
            layer.param = replace(node, slots=tuple(map(BottomInput, range(len(node.slots)))), whole=node)
            layer.blobs = Blobs()
            parts += held
    net.insert_first(parts)


def _clips(layer: Layer) -> bool:
    """Whether a layer is the larger or the smaller of data and one number, which is a Clip."""
    return layer.type in ("Max", "Min") and len(layer.bottoms) == 1 and [*map(prod, layer.blobs.shapes)] == [1]


def _holding(constant: ConstantInput, layer: Layer, names: Names) -> Layer:
    """A layer that gives a constant of another one."""
    param = Node(
        helper.make_node("Identity", [""], [""], name=layer.name), layer.param.opset, (replace(constant, blob=0),), (0,)
    )
    top = names.new(constant.name or layer.name)
    return Layer(layer.name, "Identity", [], [top], Blobs((layer.blobs.stored[constant.blob],)), param)


def join_constants(net: Net) -> None:
    """Make each node what it was, with the values that its constants have by now."""
    for layer in [layer for layer in net.layers if layer.param.whole is not None]:
        node: Node = layer.param.whole
        read = list(zip(node.slots, layer.bottoms, strict=True))
        makers = [net.producer(bottom) for slot, bottom in read if isinstance(slot, ConstantInput)]
        net.reads(layer, [bottom for slot, bottom in read if isinstance(slot, BottomInput)])
        layer.param, layer.blobs = node, Blobs(blob for maker in makers if maker for blob in maker.blobs.stored)
        for maker in filter(None, makers):
            net.remove(maker)
