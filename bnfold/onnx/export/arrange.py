"""Layers that join, cut, move or repeat what they read; each function names the ONNX operators that do it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from bnfold.caffe.layers import (
    DepthToSpace,
    Eltwise,
    Pad,
    SpaceToBatch,
    channel_groups,
    permutation,
    pixel_shuffle_factor,
)
from bnfold.caffe.layers.arrange import crop_offsets, slice_parts, written_axis
from bnfold.caffe.layers.reorder import expanded_axes, reversed_axes, squeezed_axes, stack_axis
from bnfold.net import Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import (
    channels_first,
    channels_last,
    cut,
    pad,
    reshape,
    scaled,
    split,
    transpose,
    unsqueeze,
)


def batch_reindex(block: Block) -> str:
    """Items of the first bottom in the order that the second names: Gather on axis 0."""
    indices = block.as_integer(block.bottoms[1])
    if len(block.shapes[1]) != 1:
        indices = reshape(block, indices, (-1,), "flat")
    return block("Gather", block.bottom, indices, axis=0)


def filter_(block: Block) -> list[str]:
    """The samples for which the last bottom has no 0: Cast to bool, Compress on axis 0."""
    *filtered, selector = block.bottoms
    if len(block.shapes[-1]) != 1:
        selector = reshape(block, selector, (-1,), "flat")
    picked = block("Cast", selector, to=TensorProto.BOOL, step="picked")
    return [block("Compress", bottom, picked, axis=0) for bottom in filtered]


def concat(block: Block) -> str:
    """All bottoms side by side along `axis`, in their order: Concat."""
    axis = block.axis(written_axis(block.layer))
    return block("Concat", *block.bottoms, axis=axis) if len(block.bottoms) > 1 else block.bottom


def crop(block: Block) -> str:
    """The first bottom from `offset` on, in the size of the second along `axis` and the axes behind it: Slice."""
    axis = block.axis(block.layer.param.crop_param.axis)
    axes = list(range(axis, block.rank))
    block.fixes_batch("it crops the batch", axes)
    starts = list(crop_offsets(block.layer, block.rank)[axis:])
    ends = [start + block.shapes[1][at] for start, at in zip(starts, axes, strict=True)]
    return cut(block, block.bottom, axes, starts, ends)


def depth_to_space(block: Block) -> str:
    """Channels become pixels: DepthToSpace, between two Transposes where the channels are last."""
    view = DepthToSpace.of(block.layer)
    x = channels_first(block, last=view.last)
    y = block("DepthToSpace", x, blocksize=view.block, mode=view.mode)
    return channels_last(block, y, last=view.last)


def space_to_depth(block: Block) -> str:
    """Pixels become channels, the inverse of DepthToSpace: SpaceToDepth, or Reshape, Transpose, Reshape for CRD."""
    view = DepthToSpace.of(block.layer)
    x = channels_first(block, last=view.last)
    if view.mode == "CRD":
        r = view.block
        _, channels, height, width = block.shape
        x = reshape(block, x, (-1, channels, height // r, r, width // r, r), "cells")
        x = transpose(block, x, (0, 1, 3, 5, 2, 4), "channels")
        return reshape(block, x, (-1, channels * r * r, height // r, width // r), "deep")
    y = block("SpaceToDepth", x, blocksize=view.block)
    return channels_last(block, y, last=view.last)


def space_to_batch(block: Block) -> str:
    """Pixels become samples, those of one place in each block together: Pad, Reshape, Transpose, Reshape."""
    view, top, x = SpaceToBatch.of(block.layer, block.shape), block.tops[0], block.bottom
    if any(map(any, view.pads)):
        behind = (0,) * (block.rank - 1 - len(view.pads))
        before, after = ((0, *(pads[side] for pads in view.pads), *behind) for side in (0, 1))
        x = pad(block, x, before, after)
    cells = [part for size, (cell, _) in zip(top[1:], view.each, strict=False) for part in (size, cell)]
    x = reshape(block, x, (-1, *cells, *top[1 + len(view.blocks) :]), "cells")
    outer, inner = range(1, len(cells), 2), range(2, len(cells) + 1, 2)
    x = transpose(block, x, (*inner, 0, *outer, *range(len(cells) + 1, block.rank + len(view.blocks))))
    return reshape(block, x, (-1, *top[1:]), "samples")


def batch_to_space(block: Block) -> str:
    """Samples become pixels, the inverse of SpaceToBatchND: Reshape, Transpose, Reshape, Slice."""
    view, rest = SpaceToBatch.of(block.layer, block.shape), block.shape[1:]
    count = len(view.blocks)
    x = reshape(block, block.bottom, (*view.blocks, -1, *rest), "cells")
    woven = [axis for at in range(count) for axis in (count + 1 + at, at)]
    x = transpose(block, x, (count, *woven, *range(2 * count + 1, block.rank + count)))
    whole = [size * cell for size, cell in zip(rest, view.blocks, strict=False)]
    x = reshape(block, x, (-1, *whole, *rest[count:]), "pixels")
    if not any(map(any, view.pads)):
        return x
    ends = [size - behind for size, (_, behind) in zip(whole, view.pads, strict=True)]
    return cut(block, x, range(1, count + 1), [before for before, _ in view.pads], ends)


def gs_tiling(block: Block) -> str:
    """Channels become pixels, or pixels channels, whichever way the layer says: DepthToSpace or SpaceToDepth."""
    return (depth_to_space if DepthToSpace.of(block.layer).up else space_to_depth)(block)


def eltwise(block: Block) -> str:
    """PROD, MAX, MIN, DIV, or SUM with a factor for each bottom: a chain of Mul, Max, Min, Div or Add.

    Max takes any number of inputs, and pnnx keeps two of them. Only the second bottom broadcasts.
    """
    view = Eltwise.of(block.layer, len(block.bottoms))
    tensors = list(block.bottoms)
    if len(tensors) > 1 and len(block.shapes[1]) < block.rank:
        laid = view.laid(block.layer, block.shape, block.shapes[1])
        if block.bottoms[1] in block.graph.batched:
            laid = (-1, *laid[1:])
        tensors[1] = reshape(block, tensors[1], laid, "laid")
    if any(len(shape) != block.rank for shape in block.shapes[2:]):
        raise Refused("its bottoms differ in their number of axes")
    if view.operation == "SUM":
        tensors = [scaled(block, x, c, f"scale{i}") for i, (x, c) in enumerate(zip(tensors, view.coeff, strict=True))]
    operator = {"DIV": "Div", "MAX": "Max", "MIN": "Min", "PROD": "Mul", "SUM": "Add"}[view.operation]
    result = tensors[0]
    for other in tensors[1:]:
        result = block(operator, result, other)
    return result


def flatten(block: Block) -> str:
    """The axes from `axis` to `end_axis` become one: Flatten, or Reshape where something stays behind or in front."""
    view = block.layer.param.flatten_param
    start = block.axis(view.axis)
    end = block.axis(view.end_axis)
    if start == 1 and end == block.rank - 1:
        return block("Flatten", block.bottom, axis=1)
    block.fixes_batch("it flattens the batch away", [start])
    return reshape(block, block.bottom, (*(0,) * start, -1, *block.shape[end + 1 :]))


def pad_layer(block: Block) -> str:
    """A constant, the edge or a mirror around the blob: Pad; a mirror that repeats the edge: Gather on each axis."""
    view = Pad.of(block.layer, block.shape)
    pads = list(zip(view.before, view.after, strict=True))
    if any(pads[0]):
        block.fixes_batch("it pads the batch")
    if view.mode == "SYMMETRIC":
        x = block.bottom
        for axis, (before, after) in enumerate(pads):
            if before or after:
                block.affords(block.shape[axis] + before + after)
                places = np.pad(np.arange(block.shape[axis]), (before, after), mode="symmetric")
                x = block("Gather", x, block.integers(places, f"places{axis}"), axis=axis)
        return x
    if view.mode == "CONSTANT":
        return pad(block, block.bottom, view.before, view.after, view.value)
    amounts = block.integers([*view.before, *view.after], "pads")
    return block("Pad", block.bottom, amounts, mode=view.mode.lower())


def reverse(block: Block) -> str:
    """Axes turned round: Slice with step -1."""
    axes = reversed_axes(block.layer, block.rank)
    if not axes:
        return block("Identity", block.bottom)
    block.fixes_batch("it turns the batch round", axes)
    back = [-1] * len(axes)
    return cut(block, block.bottom, axes, back, [-block.shape[axis] - 1 for axis in axes], back)


def squeeze(block: Block) -> str:
    """Axes of size 1 taken away: Reshape, since the operator's axes moved with the opsets."""
    gone = squeezed_axes(block.layer, block.shape)
    block.fixes_batch("it takes the batch axis away", gone)
    top = block.tops[0]
    return reshape(block, block.bottom, (-1, *top[1:]) if top and 0 not in gone else top)


def expand_dims(block: Block) -> str:
    """New axes of size 1: Unsqueeze."""
    new = [place for place, axis in enumerate(expanded_axes(block.layer, block.rank)) if axis is None]
    return unsqueeze(block, block.bottom, new) if new else block.bottom


def stack(block: Block) -> str:
    """The bottoms side by side along a new axis: Unsqueeze, Concat."""
    axis = stack_axis(block.layer, block.rank)
    parts = [unsqueeze(block, x, [axis], f"part{index}") for index, x in enumerate(block.bottoms)]
    return block("Concat", *parts, axis=axis)


def unstack(block: Block) -> list[str]:
    """One element of `axis` for each top, without the axis: Gather by a number."""
    axis = block.axis(block.layer.param.unstack_param.axis)
    block.fixes_batch("it takes the batch apart", [axis])
    numbers = range(len(block.layer.tops))
    return [
        block("Gather", block.bottom, block.integers(at, f"part{at}/number"), axis=axis, step=f"part{at}")
        for at in numbers
    ]


def permute(block: Block) -> str:
    """Axes in another order, those not named behind: Transpose."""
    return transpose(block, block.bottom, permutation(block.layer, block.rank))


def pixel_shuffle(block: Block) -> str:
    """Channel `(c*r + i)*r + j` goes to row i, column j of each r x r block of pixels: DepthToSpace, CRD."""
    return _shuffled(block, pixel_shuffle_factor(block.layer))


def _shuffled(block: Block, factor: int) -> str:
    return block("DepthToSpace", block.bottom, blocksize=factor, mode="CRD")


def reorg(block: Block) -> str:
    """Darknet's reorg (blas.c), which is not SpaceToDepth: with c = C/s^2 the flat bottom is seen as (c, H, s, W, s).

    The two axes of size s go in front, and the flat result is seen as (C*s^2, H/s, W/s). Reversed, the bottom is
    seen as (s, s, c, H, W): DepthToSpace.
    """
    param = block.layer.param.reorg_param
    s = param.stride
    _, channels, height, width = block.shape
    if param.reverse:
        return block("DepthToSpace", block.bottom, blocksize=s, mode="DCR")
    if channels % (s * s):
        raise Refused(f"its {channels} channels do not divide by stride^2, {s * s}, and darknet then reads beyond them")
    x = reshape(block, block.bottom, (-1, channels // (s * s), height, s, width, s), "cells")
    x = transpose(block, x, (0, 3, 5, 1, 2, 4))
    return reshape(block, x, (-1, channels * s * s, height // s, width // s), "channels")


def reshape_layer(block: Block) -> str:
    """The sizes that infer_shapes found: Reshape; an open batch stays in front by a 0, or the layer fixes it."""
    factor = block.layer.param.reshape_param.pixelshuffler
    if factor > 1:
        return _shuffled(block, factor)
    top = block.tops[0]
    if block.batched:
        top = _open_batch(block, top)
    return reshape(block, block.bottom, top)


def _open_batch(block: Block, top: Shape) -> Shape:
    """`top` for every batch: its first size copied, or what is left, where the other sizes do not hold the batch."""
    if block.layer.tops[0] not in block.graph.batched:
        block.fixes_batch("its shape says the batch size")
    same = top[0] == block.shape[0] and math.prod(top[1:]) == math.prod(block.shape[1:])
    return (0 if same else -1, *top[1:])


def shuffle_channel(block: Block) -> str:
    """Channels seen as (group, C/group) transposed: Reshape, Transpose, Reshape."""
    group = channel_groups(block.layer)
    channels, *plane = block.shape[1:]
    pixels = math.prod(plane)
    x = reshape(block, block.bottom, (0, group, channels // group, pixels), "groups")
    return reshape(block, transpose(block, x, (0, 2, 1, 3)), (0, channels, *plane), "channels")


def silence(block: Block) -> list[str]:
    """Nothing: the layer only keeps its bottoms from being outputs (silence_layer.hpp)."""
    del block
    return []


def slices(block: Block) -> list[str]:
    """Consecutive parts along `axis`: Split."""
    axis = block.axis(written_axis(block.layer))
    block.fixes_batch("it cuts the batch", [axis])
    return split(block, block.bottom, slice_parts(block.layer, block.shape[axis]), axis)


def alias(block: Block) -> list[str]:
    """Every top is the bottom: Identity."""
    return [block.bottom] * len(block.layer.tops)


def tile(block: Block) -> str:
    """The bottom `tiles` times along `axis`: Tile."""
    param = block.layer.param.tile_param
    axis = block.axis(param.axis)
    repeats = [param.tiles if at == axis else 1 for at in range(block.rank)]
    return block("Tile", block.bottom, block.integers(repeats, "repeats"))


def tile_nd(block: Block) -> str:
    """The bottom as often as is said along each axis: Tile."""
    multiples = tuple(block.layer.param.tile_nd_param.multiples)
    return block("Tile", block.bottom, block.integers([*multiples, *[1] * (block.rank - len(multiples))], "repeats"))


def broadcast_to(block: Block) -> str:
    """The bottom repeated along axes of size 1 to the shape that is said: Expand."""
    if len(block.tops[0]) == block.rank:
        block.fixes_batch("its shape says the batch size")
    return block("Expand", block.bottom, block.integers(block.tops[0], "shape"))


FUNCTIONS: Mapping[str, LayerFunction] = {
    "BatchReindex": batch_reindex,
    "BatchToSpaceND": batch_to_space,
    "BroadcastTo": broadcast_to,
    "Concat": concat,
    "Crop": crop,
    "DepthToSpace": depth_to_space,
    "Dtow": gs_tiling,
    "Eltwise": eltwise,
    "ExpandDimsND": expand_dims,
    "Filter": filter_,
    "Flatten": flatten,
    "Flip": reverse,
    "GSTiling": gs_tiling,
    "MirrorPad": pad_layer,
    "Pad": pad_layer,
    "Padding": pad_layer,
    "Permute": permute,
    "PixelShuffle": pixel_shuffle,
    "Reorg": reorg,
    "Reshape": reshape_layer,
    "Reverse": reverse,
    "ShuffleChannel": shuffle_channel,
    "Silence": silence,
    "Slice": slices,
    "SpaceToBatchND": space_to_batch,
    "SpaceToDepth": space_to_depth,
    "Split": alias,
    "Squeeze": squeeze,
    "Stack": stack,
    "Tile": tile,
    "TileND": tile_nd,
    "Tiling": pixel_shuffle,
    "Transpose": permute,
    "Unstack": unstack,
}
