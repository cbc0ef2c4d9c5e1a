"""Shapes of what layers of Caffe make that are not known, so that what stands behind them can be run.

Given:   conv1 -> x (1x8x12x12) -> odd (a type that nobody knows) -> y -> conv2 (weight 16x8x3x3)
Assumed: y is 1x8x12x12, as x is, since conv2 can read that

A shape is taken that every layer behind it can read, with the weights that it has. Folding does not depend on the size
of a plane, so a proof on another one is a proof; what reads one size alone, as an InnerProduct, says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from math import prod
from typing import NamedTuple, cast

from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.layers.infer import blob_shapes, bottom_shapes, output_shapes, row_of
from bnfold.caffe.told import told
from bnfold.caffe.weights import WeightsFile
from bnfold.errors import ModelError
from bnfold.net import Layer, Net, Shape

Shapes = Mapping[str, Shape | None]
ROWS = 4  # of what has as many as the data decides: boxes
SCALES = (1, 1 / 2, 2, 1 / 4, 4, 1 / 8, 8, 1 / 16, 16, 1 / 32, 32)  # of planes, as pooling and resizing have them
SIDES = range(1, 33)
MANY = 64  # layers of unknown types, beyond which planes are not searched


class _Stored(NamedTuple):
    """What layers have learned, as `told` asks a caffemodel for it."""

    layers: Mapping[str, Layer]

    def find(self, name: str) -> Layer | None:
        """The layer of that name."""
        return self.layers.get(name)


def assumed_shapes(net: Net) -> dict[str, Shape | None]:
    """As `infer_shapes`, and of what unknown layers make the shapes that all behind them can read, if there are such.

    Args:
        net: with weights, which say what reads them.
    """
    shapes = infer_shapes(net)
    search = sum(row_of(layer) is None for layer in net.layers) <= MANY
    for place, layer in enumerate(net.layers):
        for top in layer.tops:
            if shapes[top] is None and not _waits(layer, shapes):
                behind = net.layers[place + 1 :]
                tried = (_behind(behind, {**shapes, top: shape}) for shape in _choices(net, layer, top, shapes, search))
                shapes = next(filter(None, tried), shapes)
    return shapes


def shapes_given(net: Net, fed: Mapping[str, Shape]) -> dict[str, Shape | None]:
    """As `infer_shapes`, given the shapes of some blobs that have none; without them where they do not fit."""
    shapes = infer_shapes(net)
    return (_behind(net.layers, {**shapes, **fed}) if fed else None) or shapes


def _waits(layer: Layer, shapes: Shapes) -> bool:
    """Whether it is known what a layer makes of its bottoms, whose shapes are not."""
    return row_of(layer) is not None and bottom_shapes(layer, shapes) is None


def _tops(layer: Layer, shapes: Shapes) -> Sequence[Shape | None]:
    """The shape of each top. Raises ModelError where the layer, or what it learned, is for other bottoms."""
    bottoms = bottom_shapes(layer, shapes)
    if bottoms is None:
        return [None] * len(layer.tops)
    learned = blob_shapes(layer, bottoms) or ()
    for wanted, has in zip(learned, layer.blobs.shapes, strict=False):
        if prod(wanted) != prod(has):
            raise ModelError(f"{layer}: has learned for other bottoms")
    return output_shapes(layer, bottoms) or [None] * len(layer.tops)


def _behind(layers: Sequence[Layer], shapes: dict[str, Shape | None]) -> dict[str, Shape | None] | None:
    """All that follows from some shapes, None where a layer cannot have them."""
    try:
        for layer in layers:
            if any(shapes.get(top) is None for top in layer.tops) or not layer.tops:
                shapes.update(zip(layer.tops, _tops(layer, shapes), strict=True))
    except ModelError:
        return None
    return shapes


def _choices(net: Net, layer: Layer, top: str, shapes: Shapes, search: bool) -> Iterator[Shape]:
    """What a top may be, the likely first: as what reads it says, as a bottom is, as what it meets is, others."""
    said = told(net.layers, cast("Sequence[WeightsFile]", [_Stored({one.name: one for one in net.layers})]), top)
    read = [shape for bottom in layer.bottoms if (shape := shapes.get(bottom)) is not None and UNKNOWN not in shape]
    met = [
        shape
        for use in net.uses(top)
        for bottom in use.layer.bottoms
        if bottom != top and (shape := shapes.get(bottom)) is not None and UNKNOWN not in shape
    ]
    fed = [shape for shape in net.inputs.values() if shape]
    if said.shape is not None:
        yield said.shape
    yield from read
    yield from met
    likely = [shape for shape in (*read, *met, *fed) if len(shape) > 2]
    channels = [said.channels] if said.channels else [shape[1] for shape in likely]
    for shape in likely:
        yield from ((shape[0], count, *shape[2:]) for count in dict.fromkeys(channels))
    rows = [shape[0] for shape in (*read, *met, *fed) if shape][:1] or [1]
    if said.shape is not None:
        yield (*rows, *said.shape[1:])
    for shape in read:
        yield from ((shape[0], *turned) for turned in permutations(shape[1:]))
        yield (shape[0], prod(shape[1:]))
    if not search:
        return
    planes = [tuple(max(int(size * scale), 1) for size in shape[2:]) for shape in likely for scale in SCALES]
    planes += [(side,) * said.axes for side in SIDES]
    for plane in dict.fromkeys(planes):
        yield from ((*rows, count, *plane) for count in dict.fromkeys(channels))
