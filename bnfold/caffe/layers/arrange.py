"""Layers that join, cut or repeat what they read, without weights of their own."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, canonical_axis, fields_at_least_1
from bnfold.caffe.layers.row import LayerType, count, covered, merged
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes


def written_axis(layer: Layer) -> int:
    """The axis along which a Concat joins, or that a Slice cuts, as written; once called `concat_dim` or `slice_dim`.

    Raises:
        ModelError: both names are given.
    """
    param, old = ROWS[layer.type].parameters(layer), f"{layer.type.lower()}_dim"
    if not param.HasField(old):
        return int(param.axis)
    if param.HasField("axis"):
        raise ModelError(f"{layer}: axis and {old} are the same; keep axis")
    return int(getattr(param, old))


def crop_offsets(layer: Layer, rank: int) -> tuple[int, ...]:
    """Where a Crop starts along each of `rank` axes; 0 along those in front of `axis`.

    Raises:
        ModelError: there are neither none, nor one, nor as many offsets as axes to cut.
    """
    param = layer.param.crop_param
    axis, offsets = canonical_axis(param.axis, rank, layer), tuple(param.offset)
    cut = rank - axis
    if len(offsets) not in (0, 1, cut):
        raise ModelError(f"{layer}: {counted(len(offsets), 'offset')} for {counted(cut, 'axis')}")
    return (0,) * axis + (offsets if len(offsets) == cut else (offsets or (0,)) * cut)


class Eltwise(NamedTuple):
    """What an Eltwise says.

    Attributes:
        operation: "PROD", "SUM" or "MAX"; Synopsys has "DIV" and "MIN" too.
        coeff: SUM's factor for each bottom, 1 unless given.
        axis: where the second bottom is laid along the first, if their shapes differ (Synopsys).
    """

    operation: str
    coeff: tuple[float, ...]
    axis: int = 0

    @classmethod
    def of(cls, layer: Layer, bottoms: int) -> Self:
        """Read an Eltwise of so many bottoms.

        Raises:
            ModelError: there are coefficients, but not one for each bottom, or they belong to no SUM; or it
                divides more than two.
        """
        param = layer.param.eltwise_param
        operation = param.EltwiseOp.Name(param.operation)
        coeff = tuple(param.coeff)
        if operation == "DIV" and bottoms != 2:
            raise ModelError(f"{layer}: DIV divides one bottom by another, and there are {bottoms}")
        if coeff and operation != "SUM":
            raise ModelError(f"{layer}: coeff is for SUM, not for {operation}")
        if coeff and len(coeff) != bottoms:
            raise ModelError(f"{layer}: {counted(len(coeff), 'value')} of coeff for {counted(bottoms, 'bottom')}")
        return cls(operation, coeff or (1.0,) * bottoms, param.axis)

    def laid(self, layer: Layer, first: Shape, second: Shape) -> Shape:
        """The shape in which the second bottom broadcasts over the first: its own, then 1 for each axis behind it.

        Raises:
            ModelError: it does not lie along the first from `axis` on.
        """
        if second == first or of_channels(first, second):
            return second
        if not second:
            return (1,) * len(first)
        start = canonical_axis(self.axis, len(first), layer)
        covered(layer, first, second, start)
        return second + (1,) * (len(first) - start - len(second))


def of_channels(first: Shape, second: Shape) -> bool:
    """Whether an Eltwise's second bottom is one number for each channel, (N, C, 1, 1), of a first with a plane.

    Converters from PyTorch write squeeze and excitation so. BVLC's Caffe refuses it, and OpenCV spreads it over the
    plane (dnn/src/layers/eltwise_layer.cpp, hasVecInput).
    """
    if second == first or len(second) != len(first) or len(first) < 3:
        return False
    same = all(a == b or UNKNOWN in (a, b) for a, b in zip(first[:2], second[:2], strict=True))
    return same and all(size == 1 for size in second[2:])


def slice_parts(layer: Layer, size: int) -> tuple[int, ...]:
    """The size of each part into which a Slice cuts an axis of `size`: at its points, or evenly.

    Raises:
        ModelError: the points do not cut `size` into one part for each top, or it does not divide evenly.
    """
    points, tops = tuple(layer.param.slice_param.slice_point), len(layer.tops)
    if not points:
        if size % tops:
            raise ModelError(f"{layer}: {size} does not divide evenly among {tops} tops")
        return (size // tops,) * tops
    edges = (0, *points, size)
    if len(points) != tops - 1 or any(a >= b for a, b in pairwise(edges)):
        raise ModelError(f"{layer}: slice points {points} do not cut {size} into {tops} parts")
    return tuple(b - a for a, b in pairwise(edges))


def batch_reindex(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """As many samples as there are indices (batch_reindex_layer.cpp, Reshape)."""
    bottom, indices = bottoms
    if len(indices) != 1:
        raise ModelError(f"{layer}: its indices have shape {sizes(indices)}, but must have one axis")
    return [(indices[0], *bottom[1:])]


def filter_(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """As many samples of each bottom as the last one, one value for each sample, picks (filter_layer.cpp, Reshape)."""
    *filtered, selector = bottoms
    if len(layer.tops) != len(filtered):
        raise ModelError(f"{layer}: {counted(len(layer.tops), 'top')} for {counted(len(filtered), 'bottom')} to filter")
    if any(size not in (1, UNKNOWN) for size in selector[1:]):
        raise ModelError(f"{layer}: its selector has shape {sizes(selector)}, but must have one value for each sample")
    if not selector:
        raise ModelError(f"{layer}: its selector has no axes, but must have one value for each sample")
    for bottom in filtered:
        merged(layer, bottom[:1], selector[:1])
    return [(UNKNOWN, *bottom[1:]) for bottom in filtered]


def concat(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The sum of the sizes along the axis; all others must agree (concat_layer.cpp, Reshape)."""
    axis = canonical_axis(written_axis(layer), len(bottoms[0]), layer)
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
    """The second bottom's sizes from `axis` on (crop_layer.cpp, Reshape)."""
    bottom, reference = bottoms
    if len(bottom) != len(reference):
        raise ModelError(f"{layer}: bottoms of {sizes(bottom)} and {sizes(reference)} differ in rank")
    axis = canonical_axis(layer.param.crop_param.axis, len(bottom), layer)
    for i, offset in enumerate(crop_offsets(layer, len(bottom))):
        if i >= axis and UNKNOWN not in (bottom[i], reference[i]) and offset + reference[i] > bottom[i]:
            raise ModelError(
                f"{layer}: {reference[i]} from offset {offset} on reaches beyond axis {i} of {sizes(bottom)}"
            )
    return [(*bottom[:axis], *reference[axis:])]


def eltwise(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The first bottom's (eltwise_layer.cpp, Reshape); the second may lie along it from `axis` on, or be `of_channels`.

    The former is Synopsys' Caffe's.
    """
    view = Eltwise.of(layer, len(bottoms))
    top, *others = bottoms
    if others and (len(others[0]) < len(top) or of_channels(top, others[0])):
        view.laid(layer, top, others.pop(0))
    for bottom in others:
        top = merged(layer, top, bottom)
    return [top]


def silence(_: Layer, __: Sequence[Shape]) -> list[Shape]:
    """Nothing (silence_layer.hpp)."""
    return []


def slice_(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One part per top (slice_layer.cpp, Reshape)."""
    bottom = bottoms[0]
    axis = canonical_axis(written_axis(layer), len(bottom), layer)
    if bottom[axis] == UNKNOWN:
        raise ModelError(f"{layer}: axis {axis} of {sizes(bottom)} has no known size to cut")
    return [(*bottom[:axis], part, *bottom[axis + 1 :]) for part in slice_parts(layer, bottom[axis])]


def split(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, for each top (split_layer.cpp, Reshape)."""
    return [bottoms[0]] * len(layer.tops)


def tile(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`tiles` times the size along `axis` (tile_layer.cpp, Reshape)."""
    bottom, param = bottoms[0], layer.param.tile_param
    fields_at_least_1(layer, param, "tiles")
    axis = canonical_axis(param.axis, len(bottom), layer)
    return [(*bottom[:axis], count((bottom[axis], param.tiles)), *bottom[axis + 1 :])]


def tile_nd(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each size times its number of copies, 1 behind the last that is said (tile_nd_layer.cpp, Reshape)."""
    bottom, copies = bottoms[0], tuple(layer.param.tile_nd_param.multiples)
    at_least_1(layer, "multiples", copies)
    if not 1 <= len(copies) <= len(bottom):
        raise ModelError(f"{layer}: multiples are {len(copies)}, for a bottom of {counted(len(bottom), 'axis')}")
    return [tuple(count(pair) for pair in zip_longest(bottom, copies, fillvalue=1))]


def broadcast_to(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The shape that it says, to which the bottom broadcasts, aligned at the last axis (broadcast_to_layer.cpp)."""
    bottom, top = bottoms[0], tuple(layer.param.broadcast_to_param.shape)
    laid = zip(reversed(bottom), reversed(top), strict=False)
    if len(top) < len(bottom) or any(size not in (1, wanted, UNKNOWN) for size, wanted in laid):
        raise ModelError(f"{layer}: {sizes(bottom)} does not broadcast to {sizes(top)}")
    return [top]


ROWS: Mapping[str, LayerType] = {
    "BatchReindex": LayerType(batch_reindex, bottoms=(2, 2), rank=1),
    "BroadcastTo": LayerType(broadcast_to, reads={"broadcast_to_param": "shape"}, dialects="Synopsys"),
    "Concat": LayerType(concat, bottoms=(1, None), reads={"concat_param": "axis concat_dim"}),
    "Crop": LayerType(
        crop,
        bottoms=(2, 2),
        reads={"crop_param": "axis offset"},
        shape_only=(1,),
        note="the second bottom is read for its shape",
    ),
    "Eltwise": LayerType(
        eltwise,
        bottoms=(1, None),
        reads={"eltwise_param": "operation coeff axis"},
        keeps="each",
        aligned=True,
        note="Synopsys' DIV, MIN and `axis` too; a second bottom (N, C, 1, 1) is spread over the plane, as OpenCV does",
    ),
    "Filter": LayerType(
        filter_, bottoms=(2, None), rank=1, note="the last bottom picks the samples whose value is not 0"
    ),
    "Silence": LayerType(silence, bottoms=(1, None)),
    "Slice": LayerType(slice_, reads={"slice_param": "axis slice_dim slice_point"}),
    "Split": LayerType(split, reads={"split_param": ""}, keeps="shape", aligned=True),
    "Tile": LayerType(tile, reads={"tile_param": "axis tiles"}),
    "TileND": LayerType(tile_nd, reads={"tile_nd_param": "multiples"}, dialects="Synopsys"),
}
