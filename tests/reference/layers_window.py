"""Layers that look at the plane through windows, or resize it: pooling in all forms, Upsample, Interp."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from reference.binary import Array
from reference.text import Message

Pair = tuple[int, int]

METHODS = {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
LOWEST = -float(np.finfo(np.float32).max)  # -FLT_MAX: what Caffe's maximum starts from


def pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """MAX or AVE; a second top of MAX holds where in the plane each maximum lies."""
    (bottom,) = bottoms
    param = layer.sub("pooling_param")
    kernel = pair(param, "kernel_size", "kernel_h", "kernel_w", 0)
    if param.flag("global_pooling", False):
        kernel = (bottom.shape[2], bottom.shape[3])
    round_up = param.enum("round_mode", "CEIL", {0: "CEIL", 1: "FLOOR"}) == "CEIL" and param.flag("ceil_mode", True)
    method = param.enum("pool", "MAX", METHODS)
    stride, pad = pair(param, "stride", "stride_h", "stride_w", 1), pair(param, "pad", "pad_h", "pad_w", 0)
    top, mask = pool(bottom, method, kernel, stride, pad, round_up)
    return [top, mask] if len(layer.words("top")) > 1 else [top]


def pair(param: Message, name: str, name_h: str, name_w: str, default: int) -> Pair:
    """Height and width of a window property."""
    both = param.integer(name, default)
    return param.integer(name_h, both), param.integer(name_w, both)


def pool(
    bottom: Array, method: str, kernel: Pair, stride: Pair, pad: Pair, round_up: bool = True
) -> tuple[Array, Array]:
    """The pooled planes, and where each maximum lies (-1 for an empty window; zeros for AVE)."""
    if method not in ("MAX", "AVE"):
        raise ValueError(f"{method} pooling is not supported")
    height, width = bottom.shape[2:]
    rows, columns = pooled_sizes((height, width), kernel, stride, pad, round_up)
    # Every window lies inside the padded plane, whatever the overhang; what it meets there must not count.
    over_h = max(0, (rows - 1) * stride[0] + kernel[0] - pad[0] - height)
    over_w = max(0, (columns - 1) * stride[1] + kernel[1] - pad[1] - width)
    around = [(0, 0), (0, 0), (pad[0], over_h), (pad[1], over_w)]
    padded = np.pad(bottom, around, constant_values=-np.inf if method == "MAX" else 0)
    place = np.pad(np.arange(height * width).reshape(1, 1, height, width), around, constant_values=-1)

    top = np.full((*bottom.shape[:2], rows, columns), LOWEST if method == "MAX" else 0, bottom.dtype)
    mask = np.full(top.shape, -1 if method == "MAX" else 0, bottom.dtype)
    for i, j in np.ndindex(*kernel):
        down = slice(i, i + stride[0] * (rows - 1) + 1, stride[0])
        along = slice(j, j + stride[1] * (columns - 1) + 1, stride[1])
        seen = padded[:, :, down, along]
        if method == "AVE":
            top += seen
            continue
        greater = seen > top  # strictly: of equal values the first one wins
        top = np.where(greater, seen, top)
        mask = np.where(greater, place[:, :, down, along].astype(bottom.dtype), mask)
    if method == "AVE":
        size_h = window_sizes(rows, height, kernel[0], stride[0], pad[0])
        size_w = window_sizes(columns, width, kernel[1], stride[1], pad[1])
        top = top / np.outer(size_h, size_w).astype(bottom.dtype)
    return top, mask


def pooled_sizes(sizes: Pair, kernel: Pair, stride: Pair, pad: Pair, round_up: bool) -> Pair:
    """ceil((H + 2p - k)/s) + 1, less one where the last window would start beyond the image and its first padding."""
    rounding = ceil if round_up else floor
    h, w = (rounding((n + 2 * p - k) / s) + 1 for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True))
    if any(pad):
        h -= (h - 1) * stride[0] >= sizes[0] + pad[0]
        w -= (w - 1) * stride[1] >= sizes[1] + pad[1]
    return h, w


def window_sizes(count: int, size: int, kernel: int, stride: int, pad: int) -> Array:
    """AVE's divisor along one axis: the part of each window in [-pad, size + pad), below 0 if it starts beyond."""
    starts = np.arange(count) * stride - pad
    return np.minimum(starts + kernel, size + pad) - starts


def spp(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Level i pools into 2^i x 2^i bins: k = s = ceil(H/bins), pad = (k*bins - H + 1)//2; flattened and joined."""
    (bottom,) = bottoms
    param = layer.sub("spp_param")
    levels = []
    for level in range(param.integer("pyramid_height", 0)):
        bins = 2**level
        height, width = bottom.shape[2:]
        kernel = (ceil(height / bins), ceil(width / bins))
        pad = ((kernel[0] * bins - height + 1) // 2, (kernel[1] * bins - width + 1) // 2)
        top, _ = pool(bottom, param.enum("pool", "MAX", METHODS), kernel, kernel, pad)
        levels.append(top)
    if len(levels) == 1:
        return levels
    return [np.concatenate([top.reshape(len(top), -1) for top in levels], axis=1)]


def roi_pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Fast R-CNN: MAX over pooled_h x pooled_w bins of each region (image, x1, y1, x2, y2), 0 in an empty bin."""
    features, regions = bottoms
    param = layer.sub("roi_pooling_param")
    rows, columns = param.integer("pooled_h", 0), param.integer("pooled_w", 0)
    factor = param.number("spatial_scale", 1)
    regions = regions.reshape(-1, 5)
    top = np.zeros((len(regions), features.shape[1], rows, columns), features.dtype)
    for r, region in enumerate(regions):
        image = features[int(region[0])]
        x1, y1, x2, y2 = (round_half_away(value * factor) for value in region[1:])
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i, j in np.ndindex(rows, columns):
            down = inside(floor(i * height / rows) + y1, ceil((i + 1) * height / rows) + y1, image.shape[1])
            along = inside(floor(j * width / columns) + x1, ceil((j + 1) * width / columns) + x1, image.shape[2])
            seen = image[:, down, along].reshape(len(image), -1)
            if seen.size:
                top[r, :, i, j] = seen.max(axis=1)
    return [top]


def psroi_pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """R-FCN: bin (i, j) of output c averages channel (c*group + i)*group + j over its part of the region."""
    features, regions = bottoms
    param = layer.sub("psroi_pooling_param")
    group, outputs = param.integer("group_size", 0), param.integer("output_dim", 0)
    factor = param.number("spatial_scale", 1)
    regions = regions.reshape(-1, 5)
    top = np.zeros((len(regions), outputs, group, group), features.dtype)
    for r, region in enumerate(regions):
        image = features[int(region[0])]
        x1, y1 = (round_half_away(value) * factor for value in region[1:3])
        x2, y2 = ((round_half_away(value) + 1) * factor for value in region[3:5])
        height, width = max(y2 - y1, 0.1) / group, max(x2 - x1, 0.1) / group
        for c, i, j in np.ndindex(outputs, group, group):
            down = inside(floor(i * height + y1), ceil((i + 1) * height + y1), image.shape[1])
            along = inside(floor(j * width + x1), ceil((j + 1) * width + x1), image.shape[2])
            seen = image[(c * group + i) * group + j, down, along]
            if seen.size:
                top[r, c, i, j] = seen.mean()
    return [top]


def round_half_away(value: float) -> int:
    """C's round()."""
    return int(np.copysign(floor(abs(value) + 0.5), value))


def inside(start: int, stop: int, size: int) -> slice:
    return slice(min(max(start, 0), size), min(max(stop, 0), size))


def upsample(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """With a mask (SegNet): each value goes where its maximum was, zeros elsewhere. Without (YOLO): pixels repeat."""
    bottom = bottoms[0]
    param = layer.sub("upsample_param")
    if len(bottoms) == 1:
        times = int(param.number("scale", 1))
        return [bottom.repeat(times, axis=2).repeat(times, axis=3)]
    batch, channels, height, width = bottom.shape
    both = param.integer("scale", 2)
    height = height * param.integer("scale_h", both) - param.flag("pad_out_h", False)
    width = width * param.integer("scale_w", both) - param.flag("pad_out_w", False)
    height, width = param.integer("upsample_h", height), param.integer("upsample_w", width)
    top = np.zeros((batch, channels, height * width), bottom.dtype)
    places = bottoms[1].reshape(batch, channels, -1).astype(np.int64)
    np.put_along_axis(top, places, bottom.reshape(batch, channels, -1), axis=2)
    return [top.reshape(batch, channels, height, width)]


def interp(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Bilinear with aligned corners, after cropping by pad_beg and pad_end (both <= 0)."""
    param = layer.sub("interp_param")
    begin, end = -param.integer("pad_beg", 0), -param.integer("pad_end", 0)
    height, width = bottoms[0].shape[2:]
    cropped = bottoms[0][:, :, begin : height - end, begin : width - end]
    shrink, zoom = param.integer("shrink_factor", 1), param.integer("zoom_factor", 1)
    sizes = [(n - 1) // shrink + 1 for n in cropped.shape[2:]]
    sizes = [n + (n - 1) * (zoom - 1) for n in sizes]
    if len(bottoms) == 2:
        sizes = list(bottoms[1].shape[2:])
    elif "height" in param:
        sizes = [param.integer("height", 0), param.integer("width", 0)]
    return [stretched(stretched(cropped, 2, sizes[0]), 3, sizes[1])]


def stretched(image: Array, axis: int, size: int) -> Array:
    """Linear interpolation along one axis: position o reads at o*(n - 1)/(size - 1)."""
    n = image.shape[axis]
    at = np.arange(size) * ((n - 1) / (size - 1) if size > 1 else 0.0)
    below = np.minimum(at.astype(np.int64), n - 1)
    above = np.minimum(below + 1, n - 1)
    weight = (at - below).astype(image.dtype).reshape(-1, *[1] * (image.ndim - 1 - axis))
    result: Array = image.take(below, axis) * (1 - weight) + image.take(above, axis) * weight
    return result
