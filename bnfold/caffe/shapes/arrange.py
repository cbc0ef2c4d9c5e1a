"""Shapes of the layers that keep, join, cut, move, pool or resize what they read."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bnfold.caffe.params import (
    LRN,
    SPP,
    UNKNOWN,
    ArgMax,
    Concat,
    Crop,
    Eltwise,
    Flatten,
    Interp,
    Permute,
    PixelShuffle,
    Pooling,
    Reduction,
    Reorg,
    Reshape,
    ShuffleChannel,
    Slice,
    Softmax,
    Tile,
    Upsample,
    canonical_axis,
    sizes,
)
from bnfold.caffe.params.axes import LARGEST
from bnfold.caffe.shapes.rules import count, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


def argmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """With an axis: top_k along it. Without: (N, 1 or 2, top_k), filled up with 1 to the bottom's rank."""
    bottom, view = bottoms[0], ArgMax.of(layer)
    axis = None if view.axis is None else canonical_axis(view.axis, len(bottom), layer)
    candidates = count(bottom[1:]) if axis is None else bottom[axis]
    if candidates != UNKNOWN and view.top_k > candidates:
        raise ModelError(f"{layer}: top_k {view.top_k} is more than the {candidates} candidates")
    if axis is None:
        filled = (1,) * (len(bottom) - 3)
        return [(bottom[0], 2 if view.out_max_val else 1, view.top_k, *filled)]
    return [(*bottom[:axis], view.top_k, *bottom[axis + 1 :])]


def batch_reindex(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """As many samples as there are indices."""
    bottom, indices = bottoms
    if len(indices) != 1:
        raise ModelError(f"{layer}: its indices have shape {sizes(indices)}, but must have one axis")
    return [(indices[0], *bottom[1:])]


def concat(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The sum of the sizes along the axis; all others must agree."""
    axis = canonical_axis(Concat.of(layer).axis, len(bottoms[0]), layer)
    rest = (*bottoms[0][:axis], UNKNOWN, *bottoms[0][axis + 1 :])
    along = 0
    for bottom in bottoms:
        if len(bottom) != len(rest):
            raise ModelError(f"{layer}: bottoms of {sizes(bottoms[0])} and {sizes(bottom)} differ in rank")
        others = (*bottom[:axis], UNKNOWN, *bottom[axis + 1 :])
        if others != rest:
            rest = merged(layer, rest, others)
        along = UNKNOWN if UNKNOWN in (along, bottom[axis]) else along + bottom[axis]
    return [(*rest[:axis], along, *rest[axis + 1 :])]


def crop(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The second bottom's sizes from `axis` on."""
    bottom, reference = bottoms
    if len(bottom) != len(reference):
        raise ModelError(f"{layer}: bottoms of {sizes(bottom)} and {sizes(reference)} differ in rank")
    view = Crop.of(layer)
    axis = canonical_axis(view.axis, len(bottom), layer)
    for i, offset in enumerate(view.offsets(layer, len(bottom))):
        if i >= axis and UNKNOWN not in (bottom[i], reference[i]) and offset + reference[i] > bottom[i]:
            raise ModelError(
                f"{layer}: {reference[i]} from offset {offset} on reaches beyond axis {i} of {sizes(bottom)}"
            )
    return [(*bottom[:axis], *reference[axis:])]


def eltwise(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """All bottoms have the top's shape."""
    Eltwise.of(layer, len(bottoms))
    top = bottoms[0]
    for bottom in bottoms[1:]:
        top = merged(layer, top, bottom)
    return [top]


def flatten(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes from `axis` to `end_axis` become one."""
    bottom, view = bottoms[0], Flatten.of(layer)
    start = canonical_axis(view.axis, len(bottom), layer)
    stop = canonical_axis(view.end_axis, len(bottom), layer) + 1
    if stop <= start:
        raise ModelError(f"{layer}: axis {view.axis} is behind end_axis {view.end_axis} of {sizes(bottom)}")
    return [(*bottom[:start], count(bottom[start:stop]), *bottom[stop:])]


def interp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that the factors or sizes say."""
    bottom = four_axes(layer, bottoms[0])
    return [(*bottom[:2], *Interp.of(layer).resized(layer, bottom[2:]))]


def lrn(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's."""
    LRN.of(layer)
    return [four_axes(layer, bottoms[0])]


def permute(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's sizes in the new order."""
    return [tuple(bottoms[0][axis] for axis in Permute.of(layer).full_order(layer, len(bottoms[0])))]


def pixel_shuffle(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Channels become pixels."""
    return [_pixel_shuffled(layer, four_axes(layer, bottoms[0]), PixelShuffle.of(layer).upscale_factor)]


def pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then one size per window; a second top is the mask of a MAX pooling."""
    view = Pooling.of(layer, bottoms[0])
    top = (*bottoms[0][:2], *view.output)
    return [top, top] if len(layer.tops) == 2 and view.method == "MAX" else [top]


def reduction(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes in front of `axis`."""
    return [bottoms[0][: canonical_axis(Reduction.of(layer).axis, len(bottoms[0]), layer)]]


def reorg(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Pixels become channels, or back."""
    return [Reorg.of(layer).rearranged(layer, four_axes(layer, bottoms[0]))]


def reshape(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The span becomes `dims`: 0 copies, one -1 takes what is left."""
    bottom, view = bottoms[0], Reshape.of(layer)
    if view.pixel_shuffle != 1:
        return [_pixel_shuffled(layer, four_axes(layer, bottom), view.pixel_shuffle)]
    start, stop = view.span(layer, len(bottom))
    if view.dims.count(-1) > 1 or any(not -1 <= size <= LARGEST for size in view.dims):
        raise ModelError(f"{layer}: dims {view.dims} are no sizes with at most one -1")
    if any(size == 0 and start + i >= len(bottom) for i, size in enumerate(view.dims)):
        raise ModelError(f"{layer}: a 0 in dims {view.dims} has nothing to copy in a bottom of {sizes(bottom)}")
    dims = [bottom[start + i] if size == 0 else size for i, size in enumerate(view.dims)]
    top = [*bottom[:start], *dims, *bottom[stop:]]
    if -1 in view.dims:
        place = start + view.dims.index(-1)
        top[place] = _what_is_left(layer, bottom, (*top[:place], *top[place + 1 :]))
    elif UNKNOWN not in bottom and prod(top) != prod(bottom):
        raise ModelError(f"{layer}: a bottom of {sizes(bottom)} cannot become {sizes(top)}")
    return [tuple(top)]


def _what_is_left(layer: Layer, bottom: Shape, rest: Shape) -> int:
    """The size that makes `rest` hold what `bottom` holds; unknown sizes cancel where as many are left."""
    unknown = bottom.count(UNKNOWN)
    if unknown != rest.count(UNKNOWN):
        return UNKNOWN
    whole, part = abs(prod(bottom)), abs(prod(rest))
    if whole % part:
        raise ModelError(f"{layer}: a bottom of {sizes(bottom)} does not divide by {sizes(rest)}")
    return whole // part


def _pixel_shuffled(layer: Layer, bottom: Shape, factor: int) -> Shape:
    batch, channels, height, width = bottom
    if factor < 1 or (channels != UNKNOWN and channels % factor**2):
        raise ModelError(f"{layer}: pixels cannot be shuffled by {factor} from {channels} channels")
    deep = channels if channels == UNKNOWN else channels // factor**2
    return (batch, deep, *(size if size == UNKNOWN else size * factor for size in (height, width)))


def same(_: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's."""
    return [bottoms[0]]


def shuffle_channel(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's."""
    group, channels = ShuffleChannel.of(layer).group, bottoms[0][1]
    if channels != UNKNOWN and channels % group:
        raise ModelError(f"{layer}: group {group} does not divide {channels} channels")
    return [bottoms[0]]


def silence(_: Layer, __: Sequence[Shape]) -> list[Shape]:
    """Nothing."""
    return []


def slice_(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One part per top."""
    bottom, view = bottoms[0], Slice.of(layer)
    axis = canonical_axis(view.axis, len(bottom), layer)
    if bottom[axis] == UNKNOWN:
        raise ModelError(f"{layer}: axis {axis} of {sizes(bottom)} has no known size to cut")
    parts = view.parts(layer, bottom[axis], len(layer.tops))
    return [(*bottom[:axis], part, *bottom[axis + 1 :]) for part in parts]


def softmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's."""
    canonical_axis(Softmax.of(layer).axis, len(bottoms[0]), layer)
    return [bottoms[0]]


def split(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, for each top."""
    return [bottoms[0]] * len(layer.tops)


def spp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C, 1, 1) for one level; for more, every level flattened, one behind the other."""
    levels = SPP.of(layer, bottoms[0]).levels
    batch, channels = bottoms[0][:2]
    if len(levels) == 1:
        return [(batch, channels, *levels[0].output)]
    windows = sum(prod(level.output) for level in levels)
    return [(batch, channels if channels == UNKNOWN else channels * windows)]


def tile(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`tiles` times the size along `axis`."""
    bottom, view = bottoms[0], Tile.of(layer)
    axis = canonical_axis(view.axis, len(bottom), layer)
    size = bottom[axis] if bottom[axis] == UNKNOWN else bottom[axis] * view.tiles
    return [(*bottom[:axis], size, *bottom[axis + 1 :])]


def upsample(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the larger plane; a mask must have the bottom's shape."""
    bottom = four_axes(layer, bottoms[0])
    if len(bottoms) == 2:
        merged(layer, bottom, bottoms[1])
    return [(*bottom[:2], *Upsample.of(layer).resized(bottom[2:]))]


def four_axes(layer: Layer, bottom: Shape) -> Shape:
    """The bottom itself.

    Raises:
        ModelError: it is not (N, C, H, W).
    """
    if len(bottom) != 4:
        raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} is not (N, C, H, W)")
    return bottom
