"""The constants that a node joins with data, be it summed or compared, which are layers of their own in a fold.

    Given:   y = Concat(x, k)      While folding:  p = Identity(k), y = Concat(x, p)      Result:  y = Concat(x, k')

So an affine on y finds a layer behind each bottom, and the constant takes its own part.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TypeGuard

from onnx import helper

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Blobs, Layer, Names, Net, blobs_of
from bnfold.onnx.node import BottomInput, ConstantInput, Node, Slot, puts_zeros

SCATTERING = frozenset({"ScatterElements", "ScatterND"})
JOINING = SCATTERING | {"Concat", "Max", "Mean", "Min", "Sum", "Where"}
SHIFTING = frozenset({"Add", "BatchNormalization", "Sub"})
"""What adds something to each of its channels."""
MOST_ZEROS = 1 << 20
"""Zeros that are written out with a shift: models say by a shape how many there are."""


def detach_constants(context: FoldContext) -> None:
    """Make a layer of each constant of a float type that stands beside data, but for zeros under a factor."""
    net, detached = context.net, list[Layer]()
    names = Names((*net.origin.names, *blobs_of(net)), "_")
    for layer in net.layers:
        node: Node = layer.param
        if layer.type not in JOINING or not layer.bottoms or id(layer) in context.excluded or _clips(layer):
            continue
        if puts_zeros(layer) and not _is_shifted(layer, net):
            continue
        held = {slot: _holding(slot, layer, names) for slot in node.slots if _is_stored(slot)}
        if not held:
            continue
        data = iter(layer.bottoms)
        read = [held[slot].tops[0] if slot in held else next(data) for slot in node.slots if _is_read(slot)]
        places = iter(range(len(read)))
        slots = tuple(BottomInput(next(places)) if _is_read(slot) else slot for slot in node.slots)
        net.reads(layer, read)
        layer.param, layer.blobs = replace(node, slots=slots, whole=node), Blobs()
        detached += held.values()
    net.insert_first(detached)


def _is_shifted(layer: Layer, net: Net) -> bool:
    """Whether something is added to what is scattered onto zeros, which take that, if they are no large part of a file.

    With a mask zeros take no more than one number, since they are one.
    """
    readers = [use.layer for use in net.uses(layer.tops[0])] if layer.type in SCATTERING and layer.tops else []
    adds = len(readers) == 1 and len(readers[0].bottoms) == 1 and readers[0].type in SHIFTING
    return adds and sum(map(prod, layer.blobs.shapes)) <= MOST_ZEROS


def _is_stored(slot: Slot) -> TypeGuard[ConstantInput]:
    return isinstance(slot, ConstantInput) and slot.blob >= 0


def _is_read(slot: Slot) -> bool:
    """Whether a bottom stands at a place while a net is folded."""
    return isinstance(slot, BottomInput) or _is_stored(slot)


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


def attach_constants(net: Net) -> None:
    """Make each node what it was, with the values that its constants have by now."""
    for layer in [layer for layer in net.layers if layer.param.whole is not None]:
        node: Node = layer.param.whole
        read = list(zip(filter(_is_read, node.slots), layer.bottoms, strict=True))
        makers = [net.producer(bottom) for slot, bottom in read if _is_stored(slot)]
        net.reads(layer, [bottom for slot, bottom in read if isinstance(slot, BottomInput)])
        layer.param, layer.blobs = node, Blobs(blob for maker in makers if maker for blob in maker.blobs.stored)
        for maker in filter(None, makers):
            net.remove(maker)
