"""The layers that copy elements and compute nothing, as steps of a movement."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from bnfold.algebra.affine import MAX_VALUES
from bnfold.algebra.movement import channels_to_pixels, pixels_to_channels
from bnfold.algebra.operators import Axes, Move, Regroup, Spread, Step, Take
from bnfold.algebra.records import require
from bnfold.caffe.layers import UNKNOWN, canonical_axis
from bnfold.caffe.layers.arrange import crop_offsets, written_axis
from bnfold.caffe.layers.indexing import Cut, gathered
from bnfold.caffe.layers.reorder import (
    DepthToSpace,
    channel_groups,
    expanded_axes,
    permutation,
    pixel_shuffle_factor,
    reversed_axes,
    squeezed_axes,
)
from bnfold.caffe.operators.context import LayerContext
from bnfold.net import Shape

BATCH = -2
"""The name of the batch's size, which every movement leaves alone."""

SIZE_UNKNOWN = "how it moves data depends on a size that is unknown"
MIXES_SAMPLES = "it moves data between samples"


def movement(*steps: Step) -> Move:
    """A layer of one top, whose elements take these steps."""
    return Move((steps,))


def crop(context: LayerContext) -> Move:
    """The window that starts at the offsets; its size is the second bottom's from `axis` on.

    Source: crop_layer.cpp.
    """
    bottom, top = context.bottom, context.tops[0]
    axes = range(canonical_axis(context.layer.param.crop_param.axis, len(top)), len(top))
    starts = crop_offsets(context.layer, len(top))
    known = [bottom[axis] if UNKNOWN not in (axis and bottom[axis], top[axis]) else UNKNOWN for axis in range(len(top))]
    steps = [Take(axis, slice(starts[axis], starts[axis] + top[axis]), known[axis]) for axis in axes]
    return movement(*steps)


def flatten(context: LayerContext) -> Move:
    """Rows in C order.

    Source: flatten_layer.cpp.
    """
    return movement(
        _regrouped(context.bottom, context.tops[0], context.axis(context.layer.param.flatten_param.axis) > 0)
    )


def permute(context: LayerContext) -> Move:
    """Axes in another order.

    Source: permute_layer.cpp of SSD's Caffe; Transpose of CRNN's.
    """
    return movement(Axes(permutation(context.layer, len(context.bottom))))


def pixel_shuffle(context: LayerContext) -> Move:
    """Channels (C, r, r) become blocks of r x r pixels.

    Source: Shi et al. 2016, arXiv:1609.05158; tiling_layer.cpp of Vitis' Caffe.
    """
    return movement(*channels_to_pixels(_samples(context), pixel_shuffle_factor(context.layer), "CRD"))


def reorg(context: LayerContext) -> Move:
    """Darknet's reorganisation: it reads the bottom as if it had the top's layout, whatever the sizes say.

    With stride s and channels C, darknet's `reorg_cpu` copies bottom[c, h, w] of a blob that it indexes as
    (C/s^2, H*s, W*s), from the place (c mod C/s^2, h*s + c / (C/s^2) / s, w*s + c / (C/s^2) mod s).
    """
    param, bottom = context.layer.param.reorg_param, _known(context)
    stride = param.stride
    if param.reverse:
        return movement(*channels_to_pixels(_samples(context), stride))
    _, channels, height, width = bottom
    inner = channels // stride**2
    require(inner > 0 and channels % stride**2 == 0, f"its {channels} channels are no multiple of {stride}x{stride}")
    whole = (BATCH, channels, height, width)
    parts = (BATCH, inner, height, stride, width, stride)
    moved = (BATCH, stride, stride, inner, height, width)
    steps = (Regroup(whole, parts), Axes((0, 3, 5, 1, 2, 4)), Regroup(moved, whole))
    return movement(*steps, Regroup(whole, (BATCH, *context.tops[0][1:])))


def reshape(context: LayerContext) -> Move:
    """The same order, other axes. Intel's form shuffles pixels instead.

    Source: reshape_layer.cpp; `pixelshuffler` of Intel's Caffe.
    """
    factor = context.layer.param.reshape_param.pixelshuffler
    if factor != 1:
        return movement(*channels_to_pixels(_samples(context), factor, "CRD"))
    bottom, top = context.bottom, context.tops[0]
    require(bool(bottom) and bool(top), SIZE_UNKNOWN)
    unknown = bottom[0] == UNKNOWN and UNKNOWN in (*bottom[1:], *top[1:])
    return movement(_regrouped(bottom, top, bottom[0] == top[0] and not unknown))


def shuffle_channel(context: LayerContext) -> Move:
    """(group, C/group, ...) transposed to (C/group, group, ...).

    Source: ShuffleNet, arXiv:1707.01083.
    """
    group = channel_groups(context.layer)
    channels, *plane = context.bottom[1:]
    require(channels != UNKNOWN, SIZE_UNKNOWN)
    named = tuple(range(BATCH - 1, BATCH - 1 - len(plane), -1))
    whole = (BATCH, channels, *named)
    order = (0, 2, 1, *range(3, 3 + len(plane)))
    parts, swapped = (BATCH, group, channels // group, *named), (BATCH, channels // group, group, *named)
    return movement(Regroup(whole, parts), Axes(order), Regroup(swapped, whole))


def slice_(context: LayerContext) -> Move:
    """Consecutive parts along `axis`.

    Source: slice_layer.cpp.
    """
    bottom, tops = context.bottom, context.tops
    axis = context.axis(written_axis(context.layer))
    stops = np.cumsum([0, *(top[axis] for top in tops)])
    # A net takes batches of any size, so nothing may differ from sample to sample.
    size = bottom[axis] if axis else UNKNOWN
    return Move(tuple((Take(axis, slice(start, stop), size),) for start, stop in pairwise(stops)), apart=True)


def depth_to_space(context: LayerContext) -> Move:
    """Channels become pixels, or pixels channels, between two changes of axes where the channels are last.

    Source: Synopsys' Caffe, ONNX DepthToSpace; GSTiling of Vitis' Caffe; dtow_layer.cpp of RealSR's.
    """
    view = DepthToSpace.of(context.layer)
    _known(context)
    first = (0, 3, 1, 2) if view.last else (0, 1, 2, 3)
    shape = tuple(_samples(context)[axis] for axis in first)
    steps = (channels_to_pixels if view.up else pixels_to_channels)(shape, view.block, view.mode)
    return movement(Axes(first), *steps, Axes((0, 2, 3, 1))) if view.last else movement(*steps)


def _samples(context: LayerContext) -> Shape:
    """The shape of the bottom for any batch."""
    return (BATCH, *context.bottom[1:])


def _known(context: LayerContext) -> Shape:
    """The shape of the bottom, of which nothing but the batch may be unknown."""
    require(UNKNOWN not in context.bottom[1:], SIZE_UNKNOWN)
    return context.bottom


def reverse(context: LayerContext) -> Move:
    """Axes turned round.

    Source: Synopsys' and CRNN's Caffe; flip_layer.cpp of happynear's.
    """
    bottom = context.bottom
    axes = reversed_axes(context.layer, len(bottom))
    require(UNKNOWN not in [bottom[axis] for axis in axes], SIZE_UNKNOWN)
    steps = [Take(axis, np.arange(bottom[axis])[::-1], bottom[axis] if axis else UNKNOWN) for axis in axes]
    return movement(*steps)


def expand_dims(context: LayerContext) -> Move:
    """New axes of size 1, but none in front of the samples.

    Source: ExpandDimsND of Synopsys' Caffe.
    """
    order = expanded_axes(context.layer, len(context.bottom))
    require(order[:1] == (0,), MIXES_SAMPLES)
    return movement(Axes(order))


def unstack(context: LayerContext) -> Move:
    """One element of `axis` for each top; along the samples nothing passes.

    Source: Unstack of Synopsys' Caffe.
    """
    bottom, axis = context.bottom, context.axis(context.layer.param.unstack_param.axis)
    require(axis > 0, MIXES_SAMPLES)
    others = Axes(tuple(other for other in range(len(bottom)) if other != axis))
    tops = range(len(context.layer.tops))
    return Move(tuple((Take(axis, slice(top, top + 1), bottom[axis]), others) for top in tops), apart=True)


def squeeze(context: LayerContext) -> Move:
    """Axes of size 1 taken away.

    Source: Synopsys' Caffe.
    """
    gone = squeezed_axes(context.layer, context.bottom)
    require(0 not in gone, MIXES_SAMPLES)
    return movement(Axes(tuple(axis for axis in range(len(context.bottom)) if axis not in gone)))


def tile(context: LayerContext) -> Move:
    """The bottom as a whole, `tiles` times along `axis`; what varies along an axis of unknown size does not pass.

    Source: tile_layer.cpp.
    """
    param = context.layer.param.tile_param
    return _tiled(context, {context.axis(param.axis): param.tiles})


def tile_nd(context: LayerContext) -> Move:
    """The bottom as a whole, as often as is said along each axis; what varies along one of unknown size does not pass.

    Source: tile_nd_layer.cpp of Synopsys' Caffe.
    """
    return _tiled(context, dict(enumerate(context.layer.param.tile_nd_param.multiples)))


def _tiled(context: LayerContext, copies: Mapping[int, int]) -> Move:
    steps, bottom = [], context.bottom
    for axis, times in copies.items():
        size = bottom[axis] if axis else UNKNOWN
        require(size * times <= MAX_VALUES, "the axis that it repeats is too long to follow")
        steps += [Take(axis, np.tile(np.arange(max(size, 0)), times), size)] if times > 1 else []
    return movement(*steps)


def broadcast_to(context: LayerContext) -> Move:
    """Repeated along axes of size 1, but none in front of the samples.

    Source: broadcast_to_layer.cpp of Synopsys' Caffe.
    """
    bottom, top = context.bottom, context.tops[0]
    require(len(bottom) == len(top) and bottom[:1] == top[:1], MIXES_SAMPLES)
    return movement(*(Spread(axis) for axis, size in enumerate(bottom) if size != top[axis]))


def cut(context: LayerContext) -> Move:
    """The indices that it keeps along each axis, and new axes, but none in front of the samples.

    Source: strided_slice_layer.cpp and piece_layer.cpp of Synopsys' Caffe.
    """
    view = Cut.of(context.layer, context.bottom)
    require(view.order[:1] == (0,), MIXES_SAMPLES)
    steps: list[Step] = []
    for axis, picked in enumerate(view.picked):
        if picked is not None:
            stop = picked.stop if picked.stop >= 0 else None
            size = context.bottom[axis] if axis else UNKNOWN
            steps.append(Take(axis, slice(picked.start, stop, picked.step), size))
    return movement(*steps, Axes(view.order))


def gather(context: LayerContext) -> Move:
    """Some elements of an axis, perhaps as a table; of samples no table.

    Source: gather_layer.cpp of Synopsys' Caffe.
    """
    param, bottom = context.layer.param.gather_param, context.bottom
    require(len(param.indices) > 0, "it lists no indices, so it is another Caffe's layer")
    axis, shape = context.axis(param.axis), gathered(context.layer)
    require(axis > 0 or len(shape) == 1, MIXES_SAMPLES)
    steps: list[Step] = [Take(axis, np.array(param.indices), bottom[axis] if axis else UNKNOWN)]
    named = tuple(range(BATCH, BATCH - len(bottom), -1))
    before = (*named[:axis], len(param.indices), *named[axis + 1 :])
    return movement(*steps, Regroup(before, (*named[:axis], *shape, *named[axis + 1 :])))


def _regrouped(bottom: Shape, top: Shape, keeps_samples: bool) -> Step:
    """The same elements under another shape, whatever the batch; where samples mix, of a first axis of unknown size."""
    first = BATCH if keeps_samples else UNKNOWN
    return Regroup((first, *bottom[1:]), (first, *top[1:]))
