"""Layers that look at the plane through windows, or resize it: pooling in all forms, Upsample, Interp."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from reference.binary import Array
from reference.layers_linear import of_shapes, same, synopsys_pads, with_depth
from reference.text import Message

Pair = tuple[int, int]

METHODS = {0: "MAX", 1: "AVE", 2: "STOCHASTIC", 3: "AVE_EXC_PAD"}
LOWEST = -float(np.finfo(np.float32).max)  # -FLT_MAX: what Caffe's maximum starts from


def pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """MAX or AVE; a second top of MAX holds where in the plane each maximum lies."""
    (bottom,) = bottoms
    param = layer.sub("pooling_param")
    method = param.enum("pool", "MAX", METHODS)
    if method == "AVE" and not param.flag("avg_include_pad", True):  # Intel's
        method = "AVE_EXC_PAD"
    round_up = param.enum("round_mode", "CEIL", {0: "CEIL", 1: "FLOOR"}) == "CEIL" and param.flag("ceil_mode", True)
    if bottom.ndim == 5:
        return [pool_volume(bottom, param, method, round_up)]
    kernel = pair(param, "kernel_size", "kernel_h", "kernel_w", 0)
    stride, pad = pair(param, "stride", "stride_h", "stride_w", 1), pair(param, "pad", "pad_h", "pad_w", 0)
    if method == "MDS":
        return [position_sensitive(bottom, kernel, stride, pad, param.integer("dilation", 1))]
    if param.flag("global_pooling", False):
        kernel = (bottom.shape[2], bottom.shape[3])
    pads = synopsys_pads(param) or [(pad[0], pad[0]), (pad[1], pad[1])]
    sizes = None
    if param.integer("pad_type", 0) == 1:
        pads, (rows, columns) = same(bottom.shape[2:], kernel, stride, (1, 1))
        sizes = rows, columns
    top, mask = pool(bottom, method, kernel, stride, pads, round_up, sizes)
    return [top, mask] if len(layer.words("top")) > 1 else [top]


def pooling3d(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """C3D's, with fields of their own for the depth."""
    param = layer.sub("pooling3d_param") or layer.sub("pooling_param")
    return [pool_volume(bottoms[0], with_depth(param), param.enum("pool", "MAX", METHODS))]


def nd_pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Video-caffe's, whose sizes are in shapes, rounded down."""
    param = layer.sub("pooling_param")
    return [pool_volume(bottoms[0], of_shapes(param), param.enum("pool", "MAX", METHODS), round_up=False)]


def pool_volume(bottom: Array, param: Message, method: str, round_up: bool = True) -> Array:
    """On the plane, then on the depth: a maximum of maxima, or an average of averages, whose divisors multiply."""
    batch, channels, depth, height, width = bottom.shape
    listed = [param.integers(name) or [default] for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))]
    kernel, stride, pad = (values * (3 // len(values)) for values in listed)
    if param.flag("global_pooling", False):
        kernel, stride = [depth, height, width], [1, 1, 1]
    flat = bottom.reshape(batch, channels * depth, height, width)
    pads = [(size, size) for size in pad]
    top, _ = pool(flat, method, (kernel[1], kernel[2]), (stride[1], stride[2]), pads[1:], round_up)
    rows, columns = top.shape[2:]
    deep = top.reshape(batch, channels, depth, rows * columns)
    top, _ = pool(deep, method, (kernel[0], 1), (stride[0], 1), [pads[0], (0, 0)], round_up)
    return top.reshape(batch, channels, -1, rows, columns)


def position_sensitive(bottom: Array, kernel: Pair, stride: Pair, pad: Pair, dilation: int) -> Array:
    """MDS: the k*k groups of channels, one for each place of the window, each read at its place and summed."""
    places = kernel[0] * kernel[1]
    few = bottom.shape[1] // places
    rows, columns = (
        (n + 2 * p - (dilation * (k - 1) + 1)) // s + 1
        for n, k, s, p in zip(bottom.shape[2:], kernel, stride, pad, strict=True)
    )
    padded = np.pad(bottom, [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    top = np.zeros((len(bottom), few, rows, columns), bottom.dtype)
    for number, (i, j) in enumerate(np.ndindex(*kernel)):
        down = slice(i * dilation, i * dilation + stride[0] * (rows - 1) + 1, stride[0])
        along = slice(j * dilation, j * dilation + stride[1] * (columns - 1) + 1, stride[1])
        top += padded[:, number * few : (number + 1) * few, down, along]
    return top


def pair(param: Message, name: str, name_h: str, name_w: str, default: int) -> Pair:
    """Height and width of a window property."""
    both = param.integer(name, default)
    return param.integer(name_h, both), param.integer(name_w, both)


def pool(
    bottom: Array,
    method: str,
    kernel: Pair,
    stride: Pair,
    pads: list[Pair],
    round_up: bool = True,
    sizes: Pair | None = None,
) -> tuple[Array, Array]:
    """The pooled planes, and where each maximum lies (-1 for an empty window; zeros for AVE).

    `pads` are before and after, of rows and columns; `sizes` how many windows there are, by Caffe's rule if None.
    """
    if method not in ("MAX", "AVE", "AVE_EXC_PAD", "AVE_TF"):
        raise ValueError(f"{method} pooling is not supported")
    height, width = bottom.shape[2:]
    rows, columns = sizes or pooled_sizes((height, width), kernel, stride, pads, round_up)
    # Every window lies inside the padded plane, whatever the overhang; what it meets there must not count.
    over_h = max(0, (rows - 1) * stride[0] + kernel[0] - pads[0][0] - height)
    over_w = max(0, (columns - 1) * stride[1] + kernel[1] - pads[1][0] - width)
    around = [(0, 0), (0, 0), (pads[0][0], over_h), (pads[1][0], over_w)]
    padded = np.pad(bottom, around, constant_values=-np.inf if method == "MAX" else 0)
    place = np.pad(np.arange(height * width).reshape(1, 1, height, width), around, constant_values=-1)

    top = np.full((*bottom.shape[:2], rows, columns), LOWEST if method == "MAX" else 0, bottom.dtype)
    mask = np.full(top.shape, -1 if method == "MAX" else 0, bottom.dtype)
    for i, j in np.ndindex(*kernel):
        down = slice(i, i + stride[0] * (rows - 1) + 1, stride[0])
        along = slice(j, j + stride[1] * (columns - 1) + 1, stride[1])
        seen = padded[:, :, down, along]
        if method != "MAX":
            top += seen
            continue
        greater = seen > top  # strictly: of equal values the first one wins
        top = np.where(greater, seen, top)
        mask = np.where(greater, place[:, :, down, along].astype(bottom.dtype), mask)
    if method != "MAX":
        outside = method == "AVE"
        size_h = window_sizes(rows, height, kernel[0], stride[0], pads[0], outside)
        size_w = window_sizes(columns, width, kernel[1], stride[1], pads[1], outside)
        top = top / np.outer(size_h, size_w).astype(bottom.dtype)
    return top, mask


def pooled_sizes(sizes: Pair, kernel: Pair, stride: Pair, pads: list[Pair], round_up: bool) -> Pair:
    """ceil((H + pads - k)/s) + 1, less one where the last window would start beyond the image and its first padding."""
    rounding = ceil if round_up else floor
    h, w = (rounding((n + sum(p) - k) / s) + 1 for n, k, s, p in zip(sizes, kernel, stride, pads, strict=True))
    if any(map(any, pads)):
        h -= (h - 1) * stride[0] >= sizes[0] + pads[0][0]
        w -= (w - 1) * stride[1] >= sizes[1] + pads[1][0]
    return h, w


def window_sizes(count: int, size: int, kernel: int, stride: int, pads: Pair, outside: bool) -> Array:
    """AVE's divisor along one axis: the part of each window in the padded image, below 0 if it starts beyond.

    Synopsys' AVE_EXC_PAD counts what lies inside the image alone (`outside` False).
    """
    starts = np.arange(count) * stride - pads[0]
    if not outside:
        return np.minimum(starts + kernel, size) - np.maximum(starts, 0)
    return np.minimum(starts + kernel, size + pads[1]) - starts


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
        pads = [(pad[0], pad[0]), (pad[1], pad[1])]
        top, _ = pool(bottom, param.enum("pool", "MAX", METHODS), kernel, kernel, pads)
        levels.append(top)
    if len(levels) == 1:
        return levels
    return [np.concatenate([top.reshape(len(top), -1) for top in levels], axis=1)]


def roi_pooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Fast R-CNN: MAX over pooled_h x pooled_w bins of each region (image, x1, y1, x2, y2), 0 in an empty bin.

    MS-CNN's pad_ratio first adds that part of the region's width and height on each side.
    """
    features, regions = bottoms
    param = layer.sub("roi_pooling_param")
    rows, columns = param.integer("pooled_h", 0), param.integer("pooled_w", 0)
    factor = param.number("spatial_scale", 1)
    regions = regions.reshape(-1, 5)
    top = np.zeros((len(regions), features.shape[1], rows, columns), features.dtype)
    for r, region in enumerate(regions):
        image = features[int(region[0])]
        more = (region[3:] - region[1:3] + 1) * param.number("pad_ratio", 0)
        corners = np.concatenate([region[1:3] - more, region[3:] + more])
        x1, y1, x2, y2 = (round_half_away(value * factor) for value in corners)
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


def plus_upsample(param: Message, bottoms: list[Array]) -> list[Array]:
    """caffe_plus': pixel h*H // H', or bilinear at h*(H - 1)/(H' - 1)."""
    bottom = bottoms[0]
    size = [
        n * param.integer(f"{word}_scale", 2) for n, word in zip(bottom.shape[2:], ("height", "width"), strict=True)
    ]
    if "height" in param:
        size = [param.integer("height", 32), param.integer("width", 32)]
    if len(bottoms) == 2:
        size = list(bottoms[1].shape[2:])
    top = np.zeros((*bottom.shape[:2], *size), bottom.dtype)
    linear = param.enum("mode", "BILINEAR", {0: "NEAREST", 1: "BILINEAR"}) == "BILINEAR"
    for y, x in np.ndindex(*size):
        if not linear:
            top[:, :, y, x] = bottom[:, :, y * bottom.shape[2] // size[0], x * bottom.shape[3] // size[1]]
            continue
        at = [i * (n - 1) / (m - 1) if m > 1 else 0.0 for i, n, m in zip((y, x), bottom.shape[2:], size, strict=True)]
        for row in range(bottom.shape[2]):
            for column in range(bottom.shape[3]):
                share = max(0.0, 1 - abs(at[0] - row)) * max(0.0, 1 - abs(at[1] - column))
                if share > 0:
                    top[:, :, y, x] += share * bottom[:, :, row, column]
    return [top]


def upsample(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """With a mask (SegNet): each value goes where its maximum was, zeros elsewhere. Without (YOLO): pixels repeat."""
    bottom = bottoms[0]
    param = layer.sub("upsample_param")
    if any(word in param for word in ("mode", "height", "height_scale")):
        return plus_upsample(param, bottoms)
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
    sizes = list(cropped.shape[2:])
    shrink, zoom = param.integer("shrink_factor", 1), param.integer("zoom_factor", 1)
    one_factor = ("shrink_factor" in param) != ("zoom_factor" in param)
    if len(bottoms) == 2:
        sizes = list(bottoms[1].shape[2:])
    elif "height" in param and not one_factor:
        sizes = [param.integer("height", 0), param.integer("width", 0)]
    elif "shrink_factor" in param or "zoom_factor" in param:
        sizes = [(n - 1) // shrink + 1 for n in sizes]
        sizes = [n + (n - 1) * (zoom - 1) for n in sizes]
    else:
        sizes = [n * param.integer("full_zoom_factor", 1) for n in sizes]
    return [stretched(stretched(cropped, 2, sizes[0]), 3, sizes[1])]


def icnet_subgraph(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The bottom and its averages over windows of four sizes, each interpolated to the bottom's plane."""
    (bottom,) = bottoms
    top = bottom.copy()
    for kernel, stride in (((33, 65), (33, 65)), ((17, 33), (16, 32)), ((13, 25), (10, 20)), ((8, 15), (5, 10))):
        averages, _ = pool(bottom, "AVE_EXC_PAD", kernel, stride, [(0, 0), (0, 0)])
        top += stretched(stretched(averages, 2, bottom.shape[2]), 3, bottom.shape[3])
    return [top]


def stretched(image: Array, axis: int, size: int) -> Array:
    """Linear interpolation along one axis: position o reads at o*(n - 1)/(size - 1)."""
    n = image.shape[axis]
    at = np.arange(size) * ((n - 1) / (size - 1) if size > 1 else 0.0)
    below = np.minimum(at.astype(np.int64), n - 1)
    above = np.minimum(below + 1, n - 1)
    weight = (at - below).astype(image.dtype).reshape(-1, *[1] * (image.ndim - 1 - axis))
    result: Array = image.take(below, axis) * (1 - weight) + image.take(above, axis) * weight
    return result
