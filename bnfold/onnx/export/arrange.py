"""Layers that join, cut, move or repeat what they read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bnfold.caffe.layers import (
    Concat,
    Crop,
    Eltwise,
    Flatten,
    Permute,
    PixelShuffle,
    Reorg,
    Reshape,
    ShuffleChannel,
    Slice,
    Tile,
    canonical_axis,
)
from bnfold.net import Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, reshape, scaled, split, transpose


def batch_reindex(block: Block) -> str:
    """Items of the first bottom in the order that the second names: Gather on axis 0."""
    indices = block("Cast", block.bottoms[1], to=block.int_type)
    if len(block.shapes[1]) != 1:
        indices = reshape(block, indices, (-1,), "flat")
    return block("Gather", block.bottom, indices, axis=0)


def concat(block: Block) -> str:
    """All bottoms side by side along `axis`, in their order."""
    axis = canonical_axis(Concat.of(block.layer).axis, block.rank, block.layer)
    return block("Concat", *block.bottoms, axis=axis) if len(block.bottoms) > 1 else block.bottom


def crop(block: Block) -> str:
    """The first bottom from `offset` on, in the size of the second along `axis` and the axes behind it: Slice."""
    view = Crop.of(block.layer)
    axis = canonical_axis(view.axis, block.rank, block.layer)
    if axis == 0:
        block.fixes_batch("it crops the batch")
    axes = list(range(axis, block.rank))
    starts = list(view.offsets(block.layer, block.rank)[axis:])
    ends = [start + block.shapes[1][at] for start, at in zip(starts, axes, strict=True)]
    return cut(block, block.bottom, axes, starts, ends)


def eltwise(block: Block) -> str:
    """PROD, MAX, or SUM with a factor for each bottom: a chain of Mul, Max or Add, which broadcast nothing here.

    Max takes any number of inputs, and pnnx keeps two of them.
    """
    view = Eltwise.of(block.layer, len(block.bottoms))
    if any(len(shape) != block.rank for shape in block.shapes):
        raise Refused("its bottoms differ in their number of axes")
    tensors = list(block.bottoms)
    if view.operation == "SUM":
        tensors = [scaled(block, x, c, f"scale{i}") for i, (x, c) in enumerate(zip(tensors, view.coeff, strict=True))]
    operator = {"MAX": "Max", "PROD": "Mul", "SUM": "Add"}.get(view.operation)
    if operator is None:
        raise Refused(f"operation {view.operation} is none of PROD, SUM, MAX")
    result = tensors[0]
    for other in tensors[1:]:
        result = block(operator, result, other)
    return result


def flatten(block: Block) -> str:
    """The axes from `axis` to `end_axis` become one: Flatten, or Reshape where something stays behind or in front."""
    view = Flatten.of(block.layer)
    start = canonical_axis(view.axis, block.rank, block.layer)
    end = canonical_axis(view.end_axis, block.rank, block.layer)
    if start == 1 and end == block.rank - 1:
        return block("Flatten", block.bottom, axis=1)
    if start == 0:
        block.fixes_batch("it flattens the batch away")
    return reshape(block, block.bottom, (*(0,) * start, -1, *block.shape[end + 1 :]))


def permute(block: Block) -> str:
    """Axes in another order, those not named behind: Transpose."""
    return transpose(block, block.bottom, Permute.of(block.layer).full_order(block.layer, block.rank))


def pixel_shuffle(block: Block) -> str:
    """Channel `(c*r + i)*r + j` goes to row i, column j of each r x r block of pixels: DepthToSpace, CRD."""
    return _shuffled(block, PixelShuffle.of(block.layer).upscale_factor)


def _shuffled(block: Block, factor: int) -> str:
    return block("DepthToSpace", block.bottom, blocksize=factor, mode="CRD")


def reorg(block: Block) -> str:
    """Darknet's reorg, which is not space-to-depth: with c = C/s^2 the flat bottom is seen as (c, H, s, W, s).

    The two axes of size s go in front, and the flat result is seen as (C*s^2, H/s, W/s). Reversed, the bottom is
    seen as (s, s, c, H, W): DepthToSpace.
    """
    view = Reorg.of(block.layer)
    s = view.stride
    _, channels, height, width = block.shape
    if view.reverse:
        return block("DepthToSpace", block.bottom, blocksize=s, mode="DCR")
    if channels % (s * s):
        raise Refused(f"its {channels} channels do not divide by stride^2, {s * s}, and darknet then reads beyond them")
    x = reshape(block, block.bottom, (-1, channels // (s * s), height, s, width, s), "cells")
    x = transpose(block, x, (0, 3, 5, 1, 2, 4))
    return reshape(block, x, (-1, channels * s * s, height // s, width // s), "channels")


def reshape_layer(block: Block) -> str:
    """The sizes that infer_shapes found; an open batch stays in front by a 0, or the layer fixes it."""
    view = Reshape.of(block.layer)
    if view.pixel_shuffle > 1:
        return _shuffled(block, view.pixel_shuffle)
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
    group = ShuffleChannel.of(block.layer).group
    channels, *plane = block.shape[1:]
    pixels = math.prod(plane)
    x = reshape(block, block.bottom, (0, group, channels // group, pixels), "groups")
    return reshape(block, transpose(block, x, (0, 2, 1, 3)), (0, channels, *plane), "channels")


def silence(block: Block) -> list[str]:
    """Nothing: the layer only keeps its bottoms from being outputs."""
    del block
    return []


def slices(block: Block) -> list[str]:
    """Consecutive parts along `axis`: Split."""
    view = Slice.of(block.layer)
    axis = canonical_axis(view.axis, block.rank, block.layer)
    if axis == 0:
        block.fixes_batch("it cuts the batch")
    parts = view.parts(block.layer, block.shape[axis], len(block.layer.tops))
    return split(block, block.bottom, parts, axis)


def alias(block: Block) -> list[str]:
    """Split: every top is the bottom."""
    return [block.bottom] * len(block.layer.tops)


def tile(block: Block) -> str:
    """The bottom `tiles` times along `axis`."""
    view = Tile.of(block.layer)
    axis = canonical_axis(view.axis, block.rank, block.layer)
    repeats = [view.tiles if at == axis else 1 for at in range(block.rank)]
    return block("Tile", block.bottom, block.integers(repeats, "repeats"))


FUNCTIONS: Mapping[str, LayerFunction] = {
    "BatchReindex": batch_reindex,
    "Concat": concat,
    "Crop": crop,
    "Eltwise": eltwise,
    "Flatten": flatten,
    "Permute": permute,
    "PixelShuffle": pixel_shuffle,
    "Reorg": reorg,
    "Reshape": reshape_layer,
    "ShuffleChannel": shuffle_channel,
    "Silence": silence,
    "Slice": slices,
    "Split": alias,
    "Tile": tile,
}
