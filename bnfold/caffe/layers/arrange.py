"""Layers that join, cut, move or repeat what they read, without weights of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least, canonical_axis, sizes
from bnfold.caffe.layers.row import DETECTORS, OTHERS, LayerType, count, four_axes, merged
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

OPERATIONS = ("PROD", "SUM", "MAX")


class Concat(NamedTuple):
    """What a Concat says: the axis along which it joins, as written; `concat_dim` is its old name."""

    axis: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Concat.

        Raises:
            ModelError: both names of the axis are given.
        """
        param = layer.param.concat_param
        if not param.HasField("concat_dim"):
            return cls(param.axis)
        if param.HasField("axis"):
            raise ModelError(f"{layer}: axis and concat_dim are the same; keep axis")
        return cls(param.concat_dim)


class Crop(NamedTuple):
    """What a Crop says: from `axis` on, as written, the first bottom is cut to the sizes of the second."""

    axis: int
    offset: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Crop."""
        param = layer.param.crop_param
        return cls(param.axis, tuple(param.offset))

    def offsets(self, layer: Layer, rank: int) -> tuple[int, ...]:
        """Where the cut starts along each of `rank` axes; 0 along those in front of `axis`.

        Raises:
            ModelError: there are neither none, nor one, nor as many offsets as axes to cut.
        """
        axis = canonical_axis(self.axis, rank, layer)
        cut = rank - axis
        if len(self.offset) not in (0, 1, cut):
            raise ModelError(f"{layer}: {len(self.offset)} offsets for {cut} axes")
        listed = self.offset if len(self.offset) == cut else (self.offset or (0,)) * cut
        return (0,) * axis + listed


class Eltwise(NamedTuple):
    """What an Eltwise says.

    Attributes:
        operation: "PROD", "SUM" or "MAX".
        coeff: SUM's factor for each bottom, 1 unless given.
    """

    operation: str
    coeff: tuple[float, ...]

    @classmethod
    def of(cls, layer: Layer, bottoms: int) -> Self:
        """Read an Eltwise of so many bottoms.

        Raises:
            ModelError: there are coefficients, but not one for each bottom, or they belong to no SUM.
        """
        param = layer.param.eltwise_param
        operation = OPERATIONS[param.operation] if param.operation in (0, 1, 2) else str(param.operation)
        coeff = tuple(param.coeff)
        if coeff and operation != "SUM":
            raise ModelError(f"{layer}: coeff is for SUM, not for {operation}")
        if coeff and len(coeff) != bottoms:
            raise ModelError(f"{layer}: {len(coeff)} values of coeff for {bottoms} bottoms")
        return cls(operation, coeff or (1.0,) * bottoms)


class Flatten(NamedTuple):
    """What a Flatten says: the axes from `axis` to `end_axis`, both included and as written, become one."""

    axis: int
    end_axis: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Flatten."""
        param = layer.param.flatten_param
        return cls(param.axis, param.end_axis)


class Permute(NamedTuple):
    """What a Permute says: the axes that come first; those not named follow in order."""

    order: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Permute."""
        return cls(tuple(layer.param.permute_param.order))

    def full_order(self, layer: Layer, rank: int) -> tuple[int, ...]:
        """`order` with the axes that it does not name.

        Raises:
            ModelError: an axis is named twice, or the blob has none of that number.
        """
        if any(axis >= rank for axis in self.order) or len(set(self.order)) < len(self.order):
            raise ModelError(f"{layer}: order {self.order} names no distinct axes of a blob of {rank} axes")
        return self.order + tuple(axis for axis in range(rank) if axis not in self.order)


class Reshape(NamedTuple):
    """What a Reshape says.

    Attributes:
        dims: the new axes; 0 copies the old size, -1 takes what is left.
        axis, num_axes: the span of old axes that they replace; -1 axes is all to the end.
        pixel_shuffle: Intel Caffe's factor r that moves r*r channels into each pixel's r*r neighbours; 1 does nothing.
    """

    dims: Shape
    axis: int
    num_axes: int
    pixel_shuffle: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Reshape."""
        param = layer.param.reshape_param
        return cls(tuple(param.shape.dim), param.axis, param.num_axes, param.pixelshuffler)

    def span(self, layer: Layer, rank: int) -> tuple[int, int]:
        """First old axis replaced and first one behind; an insertion may stand at either end.

        Raises:
            ModelError: the span leaves the blob.
        """
        start = self.axis if self.axis >= 0 else rank + self.axis + 1
        stop = rank if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= stop <= rank or self.num_axes < -1:
            raise ModelError(f"{layer}: axis {self.axis}, num_axes {self.num_axes} leave a blob of {rank} axes")
        return start, stop


class Slice(NamedTuple):
    """What a Slice says.

    Attributes:
        axis: the axis that it cuts, as written; `slice_dim` is its old name.
        points: where it cuts; empty cuts evenly.
    """

    axis: int
    points: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Slice.

        Raises:
            ModelError: both names of the axis are given.
        """
        param = layer.param.slice_param
        points = tuple(param.slice_point)
        if not param.HasField("slice_dim"):
            return cls(param.axis, points)
        if param.HasField("axis"):
            raise ModelError(f"{layer}: axis and slice_dim are the same; keep axis")
        return cls(param.slice_dim, points)

    def parts(self, layer: Layer, size: int, tops: int) -> tuple[int, ...]:
        """The size of each of `tops` parts of an axis of `size`.

        Raises:
            ModelError: the points do not cut `size` into that many parts, or it does not divide evenly.
        """
        if not self.points:
            if tops < 1 or size % tops:
                raise ModelError(f"{layer}: {size} does not divide evenly among {tops} tops")
            return (size // tops,) * tops
        edges = (0, *self.points, size)
        if len(self.points) != tops - 1 or any(a >= b for a, b in pairwise(edges)):
            raise ModelError(f"{layer}: slice points {self.points} do not cut {size} into {tops} parts")
        return tuple(b - a for a, b in pairwise(edges))


class Tile(NamedTuple):
    """What a Tile says: how often it repeats the bottom along `axis`, as written."""

    axis: int
    tiles: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Tile.

        Raises:
            ModelError: `tiles` is missing or below 1.
        """
        param = layer.param.tile_param
        at_least(layer, "tiles", (param.tiles,), 1)
        return cls(param.axis, param.tiles)


class Reorg(NamedTuple):
    """What YOLO's Reorg says: blocks of stride x stride pixels become channels, or back with `reverse`."""

    stride: int
    reverse: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Reorg.

        Raises:
            ModelError: `stride` is missing or 0.
        """
        param = layer.param.reorg_param
        at_least(layer, "stride", (param.stride,), 1)
        return cls(param.stride, param.reverse)

    def rearranged(self, layer: Layer, bottom: Shape) -> Shape:
        """(N, C*s*s, H/s, W/s), or (N, C/(s*s), H*s, W*s).

        Raises:
            ModelError: the sizes do not divide.
        """
        batch, channels, height, width = bottom
        s = self.stride
        divided = (channels,) if self.reverse else (height, width)
        by = s * s if self.reverse else s
        if any(size != UNKNOWN and size % by for size in divided):
            raise ModelError(f"{layer}: {sizes(divided)} does not divide by {by}")
        grow, shrink = (s, 1) if self.reverse else (1, s)
        plane = [size if size == UNKNOWN else size * grow // shrink for size in (height, width)]
        deep = channels if channels == UNKNOWN else channels // by if self.reverse else channels * s * s
        return (batch, deep, *plane)


class PixelShuffle(NamedTuple):
    """What a PixelShuffle says: r*r channels become the r x r pixels that stand in the place of each pixel."""

    upscale_factor: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a PixelShuffle.

        Raises:
            ModelError: `upscale_factor` is missing or 0.
        """
        factor = layer.param.pixel_shuffle_param.upscale_factor
        at_least(layer, "upscale_factor", (factor,), 1)
        return cls(factor)


class ShuffleChannel(NamedTuple):
    """What a ShuffleChannel says: channels seen as (group, C/group) are transposed."""

    group: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a ShuffleChannel.

        Raises:
            ModelError: `group` is 0.
        """
        group = layer.param.shuffle_channel_param.group
        at_least(layer, "group", (group,), 1)
        return cls(group)


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


def permute(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's sizes in the new order."""
    return [tuple(bottoms[0][axis] for axis in Permute.of(layer).full_order(layer, len(bottoms[0])))]


def pixel_shuffle(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Channels become pixels."""
    return [_pixel_shuffled(layer, four_axes(layer, bottoms[0]), PixelShuffle.of(layer).upscale_factor)]


def reorg(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Pixels become channels, or back."""
    return [Reorg.of(layer).rearranged(layer, four_axes(layer, bottoms[0]))]


def reshape(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The span becomes `dims`: 0 copies, one -1 takes what is left."""
    bottom, view = bottoms[0], Reshape.of(layer)
    if view.pixel_shuffle != 1:
        return [_pixel_shuffled(layer, four_axes(layer, bottom), view.pixel_shuffle)]
    start, stop = view.span(layer, len(bottom))
    if view.dims.count(-1) > 1 or any(not -1 <= size <= INT_MAX for size in view.dims):
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


def split(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, for each top."""
    return [bottoms[0]] * len(layer.tops)


def tile(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`tiles` times the size along `axis`."""
    bottom, view = bottoms[0], Tile.of(layer)
    axis = canonical_axis(view.axis, len(bottom), layer)
    size = bottom[axis] if bottom[axis] == UNKNOWN else bottom[axis] * view.tiles
    return [(*bottom[:axis], size, *bottom[axis + 1 :])]


ROWS: Mapping[str, LayerType] = {
    "BatchReindex": LayerType(shapes=batch_reindex, least=2, most=2, rank=1),
    "Concat": LayerType(shapes=concat, most=None, reads={"concat_param": "axis concat_dim"}),
    "Crop": LayerType(
        shapes=crop,
        least=2,
        most=2,
        reads={"crop_param": "axis offset"},
        note="the second bottom is read for its shape",
    ),
    "Eltwise": LayerType(shapes=eltwise, most=None, reads={"eltwise_param": "operation coeff"}),
    "Flatten": LayerType(shapes=flatten, reads={"flatten_param": "axis end_axis"}),
    "Permute": LayerType(shapes=permute, reads={"permute_param": "order"}, dialects=DETECTORS),
    "PixelShuffle": LayerType(shapes=pixel_shuffle, reads={"pixel_shuffle_param": "upscale_factor"}, dialects=OTHERS),
    "Reorg": LayerType(
        shapes=reorg,
        reads={"reorg_param": "stride reverse"},
        dialects="MobileNet-YOLO, Intel, ncnn, Tengine",
        note="as darknet computes it, which is not space-to-depth",
    ),
    "Reshape": LayerType(
        shapes=reshape,
        reads={"reshape_param": "shape axis num_axes pixelshuffler"},
        note="Intel's `pixelshuffler` too",
    ),
    "ShuffleChannel": LayerType(
        shapes=shuffle_channel,
        rank=2,
        reads={"shuffle_channel_param": "group"},
        dialects="ncnn, Tengine, MACE, X2Paddle, TI, minicaffe",
    ),
    "Silence": LayerType(shapes=silence, most=None),
    "Slice": LayerType(shapes=slice_, reads={"slice_param": "axis slice_dim slice_point"}),
    "Split": LayerType(shapes=split, reads={"split_param": ""}),
    "Tile": LayerType(shapes=tile, reads={"tile_param": "axis tiles"}),
}
