"""Shapes of what layers of Caffe make that are not known, so that what stands behind them can be run.

Given:   conv1 -> x (1x8x12x12) -> odd (a type that nobody knows) -> y -> conv2 (weight 16x8x3x3)
Assumed: y is 1x8x12x12, as x is, since conv2 can read that

A shape is taken that every layer behind it can read, with the weights that it has. Folding does not depend on the size
of a plane, so a proof on another one is a proof; what reads one size alone, as an InnerProduct, says which. Planes on
which a kernel lies partly in the padding wherever it is go last: what its taps there hold would show in nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from math import prod

from bnfold.caffe.hints import InputHint, hint_of
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.layers.convolution import DECONVOLUTIONS, KERNELS, Convolution
from bnfold.caffe.layers.infer import blob_shapes, bottom_shapes, output_shapes, row_of
from bnfold.caffe.layers.pooling import Pooling
from bnfold.errors import ModelError
from bnfold.net import Layer, Net, Shape

Shapes = Mapping[str, Shape | None]
ROWS = 4  # of what has as many as the data decides: boxes
SCALES = (1, 1 / 2, 2, 1 / 4, 4, 1 / 8, 8, 1 / 16, 16, 1 / 32, 32)  # of planes, as pooling and resizing have them
SIDES = range(1, 33)
TRIES = 10_000  # of planes that are not met near the layers of one network


def assumed_shapes(net: Net) -> dict[str, Shape | None]:
    """As `infer_shapes`, and of what unknown layers make the shapes that all behind them can read, if there are such.

    Args:
        net: with weights, which say what reads them.
    """
    shapes = infer_shapes(net)
    left = iter(range(TRIES))
    for place, layer in enumerate(net.layers):
        for top in layer.tops:
            if shapes[top] is None and not _waits(layer, shapes):
                behind = net.layers[place + 1 :]
                tried = (_behind(behind, shapes, {top: shape}) for shape in _choices(net, layer, top, shapes, left))
                shapes = _best(behind, filter(None, tried)) or shapes
    return shapes


def shapes_given(net: Net, fed: Mapping[str, Shape]) -> dict[str, Shape | None]:
    """As `infer_shapes`, given the shapes of some blobs that have none; without them where they do not fit."""
    shapes = infer_shapes(net)
    return _behind(net.layers, shapes, fed) or shapes


def hidden_by_shapes(net: Net, fed: Mapping[str, Shape]) -> list[str]:
    """The layers behind blobs that are fed of which some weights, or a part of a window, meet no value there."""
    shapes, reached, found = shapes_given(net, fed), set(fed), list[str]()
    for layer in net.layers:
        if not reached.isdisjoint(layer.bottoms):
            reached.update(layer.tops)
            found += [] if _is_shown(layer, shapes) else [layer.name]
    return found


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


def _behind(layers: Sequence[Layer], shapes: Shapes, new: Mapping[str, Shape]) -> dict[str, Shape | None] | None:
    """All shapes, with some new ones and what follows from these; None where a layer cannot have them."""
    found, reached = {**shapes, **new}, set(new)
    try:
        for layer in layers:
            if not reached.isdisjoint(layer.bottoms) and reached.isdisjoint(layer.tops):
                made = dict(zip(layer.tops, _tops(layer, found), strict=True))
                found |= made
                reached |= {top for top, shape in made.items() if shape is not None}
    except ModelError:
        return None
    return found


def _best(layers: Sequence[Layer], found: Iterator[dict[str, Shape | None]]) -> dict[str, Shape | None] | None:
    """The first shapes that let each kernel behind show all its taps; the first of all where there are no such."""
    first = None
    for shapes in found:
        if all(_is_shown(layer, shapes) for layer in layers):
            return shapes
        first = first or shapes
    return first


def _is_shown(layer: Layer, shapes: Shapes) -> bool:
    """Whether each tap of a layer's kernel meets its plane, and no window of a pooling is wider than that."""
    bottom, top = shapes.get(next(iter(layer.bottoms), "")), shapes.get(next(iter(layer.tops), ""))
    if bottom is None or top is None or UNKNOWN in (*bottom, *top):
        return True
    if layer.type in ("NdPooling", "Pooling", "Pooling3D"):
        pool = Pooling.of(layer, bottom)
        return all(size <= side for size, side in zip(pool.kernel, pool.image, strict=True))
    if layer.type not in KERNELS:
        return True
    spatial = len(layer.blobs.shapes[0]) - 2 if len(layer.blobs) else len(bottom) - 2
    view = Convolution.of(layer, spatial, bottom)
    planes = (top, bottom) if layer.type in DECONVOLUTIONS else (bottom, top)
    windows = (view.kernel, view.stride, view.before, view.dilation)
    axes = zip(*(shape[len(shape) - spatial :] for shape in planes), *windows, strict=True)
    return all(
        any(0 <= stride * place + dilation * tap - before < wide for place in range(places))
        for wide, places, kernel, stride, before, dilation in axes
        for tap in range(kernel)
    )


def _choices(net: Net, layer: Layer, top: str, shapes: Shapes, left: Iterator[int]) -> Iterator[Shape]:
    """What a top may be, the likely first: as what reads it says, as a bottom is, as what it meets is, others; of these
    as many as are left.
    """
    known = {blob: shape for blob, shape in shapes.items() if shape and UNKNOWN not in shape}
    read = [known[bottom] for bottom in layer.bottoms if bottom in known]
    met = [known[one] for use in net.uses(top) for one in use.layer.bottoms if one != top and one in known]
    hint = _hint_of(net, top)
    if hint.shape is not None:
        yield hint.shape
    yield from read
    yield from met
    near = [*read, *met, *known.values()]
    rows = near[0][0] if near else 1
    channels = _likely_channels(net, layer, top, known, [*read, *met])
    planes = dict.fromkeys(shape[2:] for shape in near if len(shape) > 2)
    yield from ((rows, count, *plane) for plane in planes for count in channels)
    if hint.shape is not None:
        yield (rows, *hint.shape[1:])
    for shape in read:
        yield from ((rows, *turned) for turned in permutations(shape[1:]))
        yield (rows, prod(shape[1:]))
    far = dict.fromkeys((count, *plane) for plane in _other_planes(planes, hint.axes) for count in channels)
    yield from ((rows, *one) for _, one in zip(left, far, strict=False))


def _likely_channels(
    net: Net, layer: Layer, top: str, known: Mapping[str, Shape], beside: Sequence[Shape]
) -> dict[int, None]:
    """How many channels a top may have, the likely first: as what reads it says, as its layer learned, as a Concat
    lacks, as what the layer reads or the top meets has.
    """
    hint = _hint_of(net, top)
    found = dict.fromkeys(filter(None, [hint.channels, *(shape[0] for shape in layer.blobs.shapes if shape)]))
    found |= dict.fromkeys(_left_by_others(net, top, known))
    return found | dict.fromkeys(shape[1] for shape in beside if len(shape) > 1 and not hint.channels)


def _other_planes(planes: Iterable[Shape], axes: int) -> list[Shape]:
    """Planes as pooling and resizing make them of these, and those of equal sides."""
    scaled = [tuple(max(int(size * scale), 1) for size in plane) for plane in planes for scale in SCALES]
    return scaled + [(side,) * axes for side in SIDES]


def _hint_of(net: Net, blob: str) -> InputHint:
    return hint_of(net.layers, lambda layer: layer.blobs.shapes, blob)


def _left_by_others(net: Net, top: str, known: Mapping[str, Shape]) -> Iterator[int]:
    """The channels that a Concat behind a top needs of it, by what reads that."""
    for layer in (use.layer for use in net.uses(top) if use.layer.type == "Concat"):
        others = [known[bottom][1] for bottom in layer.bottoms if bottom in known and len(known[bottom]) > 1]
        rest = (_hint_of(net, layer.tops[0]).channels or 0) - sum(others)
        if rest > 0 and len(others) == len(layer.bottoms) - 1:
            yield rest
