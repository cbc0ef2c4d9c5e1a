"""Synopsys' layers that pick elements by where they are: StridedSlice, Piece, Gather, GatherND, GatherV2."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple, Self

from bnfold.caffe.caffe_pb2 import StridedSliceParameter
from bnfold.caffe.layers.axes import UNKNOWN, canonical_axis
from bnfold.caffe.layers.row import LayerType
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes


class Cut(NamedTuple):
    """What a StridedSlice or a Piece says.

    Attributes:
        picked: for each axis of the bottom the places along it that stay, in their order; None for all.
        order: for each axis of the top the axis of the bottom that it was; None for a new one. One that is not named
            has one place left.
    """

    picked: tuple[range | None, ...]
    order: tuple[int | None, ...]

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read either.

        Raises:
            ModelError: what it takes is not there, or nothing, or depends on a size that is unknown.
        """
        if layer.type == "Piece":
            return cls(_piece(layer, bottom), tuple(range(len(bottom))))
        param = layer.param.strided_slice_param
        strides = tuple(param.strides) or (1,) * len(param.begin)
        if not len(param.begin) == len(param.end) == len(strides) or 0 in strides:
            raise ModelError(f"{layer}: begin, end and strides are of different numbers, or a stride is 0")
        axes, order = _along(layer, param, bottom) if param.axes else _in_order(layer, param, bottom)
        picked: list[range | None] = [None] * len(bottom)
        for index, axis in axes.items():
            picked[axis] = _range(layer, param, bottom, index, axis, strides[index])
        return cls(tuple(picked), order)

    @property
    def gone(self) -> list[int]:
        """The axes of the bottom of which one place is left, and no axis."""
        return [axis for axis in range(len(self.picked)) if axis not in self.order]


def _piece(layer: Layer, bottom: Shape) -> tuple[range | None, ...]:
    """`size` places from `begin` on along each axis; -1 are those that are left (piece_layer.cpp)."""
    param = layer.param.piece_param
    picked: list[range | None] = []
    if not len(param.begin) == len(param.size) == len(bottom):
        raise ModelError(f"{layer}: begin and size do not say one number for each axis of {sizes(bottom)}")
    for axis, (start, count, size) in enumerate(zip(param.begin, param.size, bottom, strict=True)):
        if start == 0 and count == -1:
            picked.append(None)
            continue
        _require_size(layer, bottom, axis)
        stop = size if count == -1 else start + count
        if not 0 <= start < stop <= size:
            raise ModelError(f"{layer}: {count} from {start} on are not there along axis {axis} of {sizes(bottom)}")
        picked.append(range(start, stop))
    return tuple(picked)


def _along(layer: Layer, param: StridedSliceParameter, bottom: Shape) -> tuple[dict[int, int], tuple[int, ...]]:
    """Which axis each of `begin` is of where `axes` says it, as in ONNX; the masks mean nothing then."""
    axes = [canonical_axis(axis, len(bottom), layer) for axis in param.axes]
    # Where all axes are named, the fork takes them in their order, whatever is said.
    ordered = len(axes) < len(bottom) or axes == sorted(axes)
    if len(axes) != len(param.begin) or len(set(axes)) < len(axes) or not ordered:
        raise ModelError(f"{layer}: axes {tuple(axes)} do not say one axis for each of begin")
    return dict(enumerate(axes)), tuple(range(len(bottom)))


def _in_order(
    layer: Layer, param: StridedSliceParameter, bottom: Shape
) -> tuple[dict[int, int], tuple[int | None, ...]]:
    """Which axis each of `begin` is of, one after the other but for what the masks say, and the axes of the top."""
    entries, rank = range(len(param.begin)), len(bottom)
    ellipses = [index for index in range(32) if _bit(param.ellipsis_mask, index)]
    if len(ellipses) > 1 or any(index not in entries for index in ellipses):
        raise ModelError(f"{layer}: ellipsis_mask {param.ellipsis_mask} is no one place of begin")
    new = [index for index in entries if _bit(param.new_axis_mask, index) and index not in ellipses]
    spanned = rank - (len(entries) - len(new) - len(ellipses))
    if spanned < len(ellipses):
        raise ModelError(f"{layer}: begin is of more axes than the {rank} of its bottom")
    axes: dict[int, int] = {}
    order: list[int | None] = []
    at = 0
    for index in entries:
        if index in ellipses:
            order += range(at, at + spanned)
            at += spanned
        elif index in new:
            order.append(None)
        else:
            axes[index] = at
            order += [] if _bit(param.shrink_axis_mask, index) else [at]
            at += 1
    return axes, (*order, *range(at, rank))


def _range(layer: Layer, param: StridedSliceParameter, bottom: Shape, index: int, axis: int, step: int) -> range | None:
    """The places that one of `begin` and `end` leave along its axis (strided_slice_layer.cpp)."""
    masks = () if param.axes else (param.begin_mask, param.end_mask, param.shrink_axis_mask)
    opened, endless, shrinks = (_bit(mask, index) for mask in masks or (0, 0, 0))
    begin, end, size = param.begin[index], param.end[index], bottom[axis]
    if not shrinks and step == 1 and (opened or begin == 0) and (endless or end == INT_MAX):
        return None
    _require_size(layer, bottom, axis)
    if begin < 0 and (shrinks or not opened) and bottom[index : index + 1] != (size,):
        raise ModelError(f"{layer}: its Caffe counts begin {begin}, the one of axis {axis}, from the end of another")
    start = min(max(begin + size, 0) if begin < 0 else begin, size - 1)
    if shrinks:
        if step < 0:
            raise ModelError(f"{layer}: along axis {axis} it takes one place with a stride of {step}")
        return range(start, start + 1)
    if opened:
        start = 0 if step > 0 else size - 1
    stop = min(end + size if end < 0 else end, size)
    if endless:
        stop = size if step > 0 else -1
    elif stop < 0 and step < 0:
        raise ModelError(f"{layer}: end {end} is in front of axis {axis}, which versions of its Caffe read differently")
    if not range(start, stop, step):
        raise ModelError(f"{layer}: from {begin} to {end} by {step} there is nothing along axis {axis}")
    return range(start, stop, step)


def _bit(mask: int, index: int) -> bool:
    return bool(mask >> index & 1)


def _require_size(layer: Layer, bottom: Shape, axis: int) -> None:
    if bottom[axis] == UNKNOWN:
        raise ModelError(f"{layer}: axis {axis} of {sizes(bottom)} has no known size to cut")


def cut(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """As many places as it leaves along each axis, 1 for a new one (strided_slice_layer.cpp, piece_layer.cpp)."""
    view = Cut.of(layer, bottoms[0])
    left = [size if places is None else len(places) for size, places in zip(bottoms[0], view.picked, strict=True)]
    return [tuple([1 if axis is None else left[axis] for axis in view.order])]


def gathered(layer: Layer) -> Shape:
    """The shape of the places that a Gather or a GatherND takes; () for one.

    Raises:
        ModelError: there are more or fewer of them.
    """
    param = ROWS[layer.type].parameters(layer)
    shape = tuple(param.shape if layer.type == "Gather" else param.indices_shape)
    shape = () if shape == (0,) else shape
    if not param.indices or prod(shape) != len(param.indices):
        raise ModelError(f"{layer}: {counted(len(param.indices), 'index')} for a shape of {sizes(shape)}")
    return shape


def gather(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The shape of the indices in the place of the axis (gather_layer.cpp, Reshape); without any it is another's."""
    bottom, param = bottoms[0], layer.param.gather_param
    if not layer.param.HasField("gather_param"):
        return None
    axis, shape = canonical_axis(param.axis, len(bottom), layer), gathered(layer)
    _require_places(layer, param.indices, bottom, axis)
    return [(*bottom[:axis], *shape, *bottom[axis + 1 :])]


def gather_nd(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The shape of the indices but for the last axis, then the axes that they do not know (gather_nd_layer.cpp)."""
    bottom, shape = bottoms[0], gathered(layer)
    if not shape or shape[-1] > len(bottom):
        raise ModelError(f"{layer}: indices of shape {sizes(shape)} cannot index a blob of {sizes(bottom)}")
    for axis in range(shape[-1]):
        _require_places(layer, layer.param.gather_nd_param.indices[axis :: shape[-1]], bottom, axis)
    return [(*shape[:-1], *bottom[shape[-1] :])]


def _require_places(layer: Layer, indices: Sequence[int], bottom: Shape, axis: int) -> None:
    if bottom[axis] != UNKNOWN and max(indices) >= bottom[axis]:
        raise ModelError(f"{layer}: there is no place {max(indices)} along axis {axis} of {sizes(bottom)}")


def gather_v2(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The second bottom's shape in the place of the axis (gather_v2_layer.cpp, Reshape)."""
    bottom, places = bottoms
    axis = canonical_axis(layer.param.gather_v2_param.axis, len(bottom), layer)
    return [(*bottom[:axis], *places, *bottom[axis + 1 :])]


ROWS: Mapping[str, LayerType] = {
    "Gather": LayerType(gather, rank=1, reads={"gather_param": "indices shape axis"}, dialects="Synopsys"),
    "GatherND": LayerType(gather_nd, rank=1, reads={"gather_nd_param": "indices indices_shape"}, dialects="Synopsys"),
    "GatherV2": LayerType(
        gather_v2,
        bottoms=(2, 2),
        rank=1,
        reads={"gather_v2_param": "axis"},
        dialects="Synopsys",
        note="the second bottom says which",
    ),
    "Piece": LayerType(cut, reads={"piece_param": "begin size"}, dialects="Synopsys"),
    "StridedSlice": LayerType(
        cut,
        reads={
            "strided_slice_param": "begin end strides axes begin_mask end_mask ellipsis_mask new_axis_mask "
            "shrink_axis_mask"
        },
        dialects="Synopsys",
        note="as TensorFlow's, but a `begin` behind the end is the last place; what versions of the fork read "
        "differently is refused",
    ),
}
