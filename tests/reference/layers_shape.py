"""Layers that move, cut, join or pick values, and the reductions."""

from __future__ import annotations

from math import prod

import numpy as np

from reference.binary import Array
from reference.text import Message

REDUCTIONS = {1: "SUM", 2: "ASUM", 3: "SUMSQ", 4: "MEAN"}


def argmax(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Without axis over all of an image: (N, 1 or 2, top_k, 1...), indices, then with out_max_val values.

    With axis along it: indices, or values with out_max_val. Of equal values the one with the larger index is first.
    """
    (bottom,) = bottoms
    param = layer.sub("argmax_param")
    top_k, wants_values = param.integer("top_k", 1), param.flag("out_max_val", False)
    has_axis = "axis" in param
    axis = param.integer("axis", 1) % bottom.ndim
    values = bottom if has_axis else bottom.reshape(len(bottom), -1)
    order = np.argsort(values, axis, kind="stable")  # Synopsys' min_first: the smallest, by the smaller index
    if not param.flag("min_first", False):
        order = np.flip(order, axis)
    order = order.take(range(top_k), axis)
    best = np.take_along_axis(values, order, axis)
    indices = order.astype(bottom.dtype)
    if has_axis:
        return [best if wants_values else indices]
    top = np.stack([indices, best] if wants_values else [indices], axis=1)
    return [top.reshape(*top.shape, *[1] * (bottom.ndim - 3))]


def batch_reindex(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0][bottoms[1].reshape(-1).astype(np.int64)]]


def filter_(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Of each bottom the samples whose value in the last bottom is not 0."""
    picked = bottoms[-1].reshape(len(bottoms[-1])) != 0
    return [bottom[picked] for bottom in bottoms[:-1]]


def concat(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("concat_param")
    return [np.concatenate(bottoms, param.integer("axis", param.integer("concat_dim", 1)))]


def crop(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The first bottom cut to the second's size on the axes from `axis` (2) on; offset once, or one per axis."""
    bottom, like = bottoms
    param = layer.sub("crop_param")
    axis = param.integer("axis", 2) % bottom.ndim
    offsets = param.integers("offset") or [0]
    if len(offsets) == 1:
        offsets = offsets * (bottom.ndim - axis)
    cuts = [slice(offset, offset + size) for offset, size in zip(offsets, like.shape[axis:], strict=True)]
    return [bottom[(*[slice(None)] * axis, *cuts)]]


def flatten(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The axes from `axis` (1) to `end_axis` (-1), both included, become one."""
    (bottom,) = bottoms
    param = layer.sub("flatten_param")
    start, end = param.integer("axis", 1) % bottom.ndim, param.integer("end_axis", -1) % bottom.ndim
    return [bottom.reshape(*bottom.shape[:start], prod(bottom.shape[start : end + 1]), *bottom.shape[end + 1 :])]


def parameter(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [blobs[0].copy()]


def permute(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Axis i of the top is axis order[i] of the bottom; axes that are not named follow in order."""
    order = layer.sub("permute_param").integers("order")
    order += [axis for axis in range(bottoms[0].ndim) if axis not in order]
    return [bottoms[0].transpose(order)]


def pixel_shuffle(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Channel (c*r + i)*r + j becomes pixel (i, j) of each r x r block of channel c."""
    param = layer.sub("pixel_shuffle_param") or layer.sub("pixelshuffle_param")
    if layer.word("type") == "Tiling":
        times = layer.sub("tiling_param").integer("tile_dim", 0)
    else:
        times = param.integer("upscale_factor", param.integer("sigma", round(param.integer("scale", 1) ** 0.5)))
    batch, channels, height, width = bottoms[0].shape
    blocks = bottoms[0].reshape(batch, channels // times**2, times, times, height, width)
    return [blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * times, width * times)]


def reduction(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """All axes from `axis` (0) on are reduced to one value, times coeff."""
    param = layer.sub("reduction_param")
    operation = param.enum("operation", "SUM", REDUCTIONS)
    axis = param.integer("axis", 0) % bottoms[0].ndim
    flat = bottoms[0].reshape(*bottoms[0].shape[:axis], -1)
    if operation == "ASUM":
        flat = np.abs(flat)
    elif operation == "SUMSQ":
        flat = flat**2
    top = flat.mean(-1) if operation == "MEAN" else flat.sum(-1)
    return [np.asarray(param.number("coeff", 1) * top)]


def reorg(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Darknet's reorg, which its callers feed the unreorganised shape (C, H, W), so that it computes, on flat planes,

        top[k][j][i] = bottom[k % c][j*s + k//c//s][i*s + k//c % s]      with c = C/s^2,

    where top is indexed as if (C, H, W) and bottom as if (c, H*s, W*s). It is not space-to-depth. Reverse inverts
    the formula: (C, H, W) becomes (c, H*s, W*s), which is depth-to-space.
    """
    param = layer.sub("reorg_param")
    times = param.integer("stride", 1)
    batch, channels, height, width = bottoms[0].shape
    few = channels // times**2
    if param.flag("reverse", False):
        blocks = bottoms[0].reshape(batch, times, times, few, height, width)
        return [blocks.transpose(0, 3, 4, 1, 5, 2).reshape(batch, few, height * times, width * times)]
    blocks = bottoms[0].reshape(batch, few, height, times, width, times)
    moved = blocks.transpose(0, 3, 5, 1, 2, 4)
    return [moved.reshape(batch, channels * times**2, height // times, width // times)]


def reshape(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The span of `num_axes` axes from `axis` gets a new shape, in which 0 copies the axis it stands at, -1 infers."""
    (bottom,) = bottoms
    param = layer.sub("reshape_param")
    times = param.integer("pixelshuffler", 1)
    if times > 1:
        batch, channels, height, width = bottom.shape
        blocks = bottom.reshape(batch, channels // times**2, times, times, height, width)
        return [blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * times, width * times)]
    axis, axes = param.integer("axis", 0), param.integer("num_axes", -1)
    start = axis if axis >= 0 else bottom.ndim + axis + 1
    end = bottom.ndim if axes == -1 else start + axes
    dims = param.sub("shape").integers("dim")
    middle = [bottom.shape[start + i] if dim == 0 else dim for i, dim in enumerate(dims)]
    return [bottom.reshape(*bottom.shape[:start], *middle, *bottom.shape[end:])]


def shuffle_channel(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """ShuffleNet: channel g*n + i goes to i*group + g."""
    group = layer.sub("shuffle_channel_param").integer("group", 1)
    (bottom,) = bottoms
    grouped = bottom.reshape(len(bottom), group, -1, *bottom.shape[2:])
    return [grouped.swapaxes(1, 2).reshape(bottom.shape)]


def each(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return bottoms


def silence(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return []


def slice_(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Cut at slice_point, or into even parts."""
    param = layer.sub("slice_param")
    axis = param.integer("axis", param.integer("slice_dim", 1))
    return list(np.split(bottoms[0], param.integers("slice_point") or len(layer.words("top")), axis))


def split(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0].copy() for _ in layer.words("top")]


def tile(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The bottom, repeated as a whole along `axis`."""
    param = layer.sub("tile_param")
    return [np.concatenate([bottoms[0]] * param.integer("tiles", 1), param.integer("axis", 1))]
