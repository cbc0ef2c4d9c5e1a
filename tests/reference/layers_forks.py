"""Layers that only forks have: Synopsys', FlowNet's, OpenVINO's, soeaver's, ducha-aiki's; by their semantics alone."""

from __future__ import annotations

import ast
from collections.abc import Callable
from itertools import product
from math import ceil, floor, log
from typing import Any

import numpy as np

from reference.binary import Array
from reference.layers_linear import sigmoid
from reference.layers_window import round_half_away
from reference.text import Message

OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "FloorDiv": lambda x, y: np.floor(x / y),
    "FloorMod": lambda x, y: x - np.floor(x / y) * y,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
}


def arithmetic(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """NumPy's broadcasting operation of two bottoms, or of a bottom and a learned blob."""
    first, second = [*bottoms, *blobs]
    return [OPERATIONS[layer.word("type")](first, second)]


def channel_norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.sqrt((bottoms[0] ** 2).sum(1, keepdims=True))]


def continuation_indicator(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """(T, N): 0 at the first step, 1 behind it."""
    param = layer.sub("continuation_indicator_param")
    batch = bottoms[0].shape[0] if bottoms else param.integer("batch_size", 0)
    top = np.ones((param.integer("time_step", 0), batch))
    top[0] = 0
    return [top]


def correlation(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """For each move (j down, i along) the mean over k x k x C of a*b, or of |a - b|, window by window."""
    param = layer.sub("correlation_param")
    pad, k, reach = (param.integer(name, 0) for name in ("pad", "kernel_size", "max_displacement"))
    stride, step = param.integer("stride_1", 1), param.integer("stride_2", 1)
    a, b = (np.pad(bottom, [(0, 0), (0, 0), (pad, pad), (pad, pad)]) for bottom in bottoms)
    border = 2 * (reach + (k - 1) // 2)
    rows, columns = (ceil((n - border) / stride) for n in a.shape[2:])
    moves = [m * step for m in range(-(reach // step), reach // step + 1)]
    subtracts = param.enum("correlation_type", "MULTIPLY", {0: "MULTIPLY", 1: "SUBTRACT"}) == "SUBTRACT"
    top = np.zeros((len(a), len(moves) ** 2, rows, columns), a.dtype)
    for channel, (j, i) in enumerate(product(moves, moves)):
        for y, x in np.ndindex(rows, columns):
            y1, x1 = y * stride + reach, x * stride + reach
            one = a[:, :, y1 : y1 + k, x1 : x1 + k]
            other = b[:, :, y1 + j : y1 + j + k, x1 + i : x1 + i + k]
            top[:, channel, y, x] = (np.abs(one - other) if subtracts else one * other).mean((1, 2, 3))
    return [top]


def correlation_1d(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """As correlation, but along the rows alone, which have zeros beside them; with single_direction 1 to the right."""
    param = layer.sub("correlation_param")
    pad, k, reach = (param.integer(name, 0) for name in ("pad", "kernel_size", "max_displacement"))
    stride, step, half = param.integer("stride_1", 1), param.integer("stride_2", 1), (k - 1) // 2
    a, b = (np.pad(bottom, [(0, 0), (0, 0), (0, 0), (pad, pad)]) for bottom in bottoms)
    rows, columns = ceil((a.shape[2] - 2 * half) / stride), ceil((a.shape[3] - 2 * half - 2 * reach) / stride)
    first = 0 if param.integer("single_direction", 0) == 1 else -(reach // step)
    subtracts = param.enum("correlation_type", "MULTIPLY", {0: "MULTIPLY", 1: "SUBTRACT"}) == "SUBTRACT"
    tops = []
    for move in range(first, reach // step + 1):
        top = np.zeros((len(a), rows, columns), a.dtype)
        for y, x in np.ndindex(rows, columns):
            at, left = slice(y * stride, y * stride + k), x * stride + reach
            one, other = a[:, :, at, left : left + k], b[:, :, at, left + move * step : left + move * step + k]
            top[:, y, x] = (np.abs(one - other) if subtracts else one * other).mean((1, 2, 3))
        tops.append(top)
    return [np.stack(tops, 1)]


def depth_to_space(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Channel (i*r + j)*C + c, or with CRD (c*r + i)*r + j, is pixel (i, j); SpaceToDepth is the inverse."""
    up = layer.word("type") == "DepthToSpace"
    param = layer.sub("depth_to_space_param" if up else "space_to_depth_param")
    r, layout = param.integer("block_size", 1), param.word("data_format", "NHWC")
    x = bottoms[0].transpose(0, 3, 1, 2) if layout == "NHWC" else bottoms[0]
    batch, channels, height, width = x.shape
    if up:
        few = channels // r**2
        shape, order = ((few, r, r), (0, 1, 4, 2, 5, 3)) if layout == "CRD" else ((r, r, few), (0, 3, 4, 1, 5, 2))
        top = x.reshape(batch, *shape, height, width).transpose(order).reshape(batch, few, height * r, width * r)
    else:
        cells = x.reshape(batch, channels, height // r, r, width // r, r)
        order = (0, 1, 3, 5, 2, 4) if layout == "CRD" else (0, 3, 5, 1, 2, 4)
        top = cells.transpose(order).reshape(batch, channels * r * r, height // r, width // r)
    return [top.transpose(0, 2, 3, 1) if layout == "NHWC" else top]


def flow_warp(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Bilinear at (x + flow_x, y + flow_y), right and lower neighbours held inside; 0 or NaN outside the image."""
    image, flow = bottoms
    fill = layer.sub("flow_warp_param").enum("fill_value", "ZERO", {1: "ZERO", 2: "NOT_A_NUMBER"})
    height, width = image.shape[2:]
    top = np.full_like(image, 0 if fill == "ZERO" else np.nan)
    for n, y, x in np.ndindex(len(image), height, width):
        along, down = x + flow[n, 0, y, x], y + flow[n, 1, y, x]
        if not (0 <= along < width and 0 <= down < height):
            continue
        left, above = int(along), int(down)
        right, below = min(left + 1, width - 1), min(above + 1, height - 1)
        a, b = along - left, down - above
        upper = image[n, :, above, left] * (1 - a) + image[n, :, above, right] * a
        lower = image[n, :, below, left] * (1 - a) + image[n, :, below, right] * a
        top[n, :, y, x] = upper * (1 - b) + lower * b
    return [top]


def spatial_transformer(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Each pixel of the top from four of the bottom, at the place that theta maps it to; there are zeros around."""
    param, (image, given) = layer.sub("st_param"), bottoms
    batch, channels, height, width = image.shape
    tall, wide = param.integer("output_H", height), param.integer("output_W", width)
    said = [param.number(f"theta_{row}_{column}", np.nan) for row in (1, 2) for column in (1, 2, 3)]
    top = np.zeros((batch, channels, tall, wide))
    for n, s, t in np.ndindex(batch, tall, wide):
        theta = np.array(said)
        theta[np.isnan(theta)] = given[n].ravel()
        x, y = theta.reshape(2, 3) @ [s / tall * 2 - 1, t / wide * 2 - 1, 1]
        x, y = (x + 1) / 2 * height, (y + 1) / 2 * width
        for row in (floor(x), floor(x) + 1):
            for column in (floor(y), floor(y) + 1):
                if 0 <= row < height and 0 <= column < width:
                    top[n, :, s, t] += (1 - abs(x - row)) * (1 - abs(y - column)) * image[n, :, row, column]
    return [top]


def grn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    bias = layer.sub("grn_param").number("bias", 1e-7)
    return [bottoms[0] / np.sqrt((bottoms[0] ** 2).sum(1, keepdims=True) + bias)]


def hard_sigmoid(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("hardsigmoid_param" if "hardsigmoid_param" in layer else "hard_sigmoid_param")
    return [np.clip(param.number("alpha", 0.2) * bottoms[0] + param.number("beta", 0.5), 0, 1)]


def hard_swish(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0] * np.clip(bottoms[0] + 3, 0, 6) / 6]


def hard_tanh(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.clip(bottoms[0], -1, 1)]


def layer_norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Over all axes behind the first, then a scale and a shift for each element."""
    (bottom,) = bottoms
    axes = tuple(range(1, bottom.ndim))
    eps = layer.sub("layer_norm_param").number("eps", 1e-5)
    top = (bottom - bottom.mean(axes, keepdims=True)) / np.sqrt(bottom.var(axes, keepdims=True) + eps)
    return [top * blobs[0] + blobs[1] if blobs else top]


def log_softmax(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    axis = layer.sub("log_softmax_param").integer("axis", 1)
    low = bottoms[0] - bottoms[0].max(axis, keepdims=True)
    return [low - np.log(np.exp(low).sum(axis, keepdims=True))]


def mish(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    softplus = np.maximum(bottoms[0], 0) + np.log1p(np.exp(-np.abs(bottoms[0])))
    return [bottoms[0] * np.tanh(softplus)]


def pad(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Before and after, for each axis; a constant, or by a mode."""
    mirror = layer.word("type") == "MirrorPad"
    param = layer.sub("mirror_pad_param" if mirror else "pad_param")
    amounts = np.array(param.integers("paddings")).reshape(-1, 2)
    mode: Any = param.word("mode", "CONSTANT").lower()
    if mode == "constant":
        return [np.pad(bottoms[0], amounts, constant_values=param.number("constant_values", 0))]
    return [np.pad(bottoms[0], amounts, mode=mode)]


def padding(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Of the plane, in the words of three forks: zeros, a constant, or a mirror that repeats the edge."""
    param = layer.sub("padding_param")
    height, width = bottoms[0].shape[2:]
    if any(name in param for name in ("pad_up", "pad_down", "pad_left", "pad_right")):
        names = (("pad_up", "pad_down"), ("pad_left", "pad_right"))
        amounts = [[param.integer(name, 0) for name in pair] for pair in names]
        return [np.pad(bottoms[0], [(0, 0), (0, 0), *amounts], mode="symmetric")]
    if param.flag("pad_to_power_of_2", False):
        amounts = []
        for size in (height, width):
            more = 2 ** ceil(log(size, 2)) - size
            amounts.append([more // 2, more - more // 2])
    elif any(name in param for name in ("pad_method", "pad_t", "pad_b", "pad_l", "pad_r")):
        amounts = [[param.integer(f"pad_{side}", 0) for side in pair] for pair in ("tb", "lr")]
    else:
        both = param.integer("pad", 0)
        h, w = param.integer("pad_h", both), param.integer("pad_w", both)
        amounts = [
            [param.integer("pad_h_top", h), param.integer("pad_h_bottom", h)],
            [param.integer("pad_w_left", w), param.integer("pad_w_right", w)],
        ]
    return [np.pad(bottoms[0], [(0, 0), (0, 0), *amounts], constant_values=param.number("pad_value", 0))]


def batch_reduction(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Part after part of an axis, each as long as a level squared; a single level 1 is the whole axis, which goes."""
    param = layer.sub("batch_reduction_param")
    levels, how = param.integers("level") or [1], param.sub("reduction_param")
    axis = how.integer("axis", 0)
    reduce = np.mean if how.enum("operation", "SUM", {1: "SUM", 4: "MEAN"}) == "MEAN" else np.sum
    if list(levels) == [1]:
        return [np.asarray(reduce(bottoms[0], axis))]
    ends = np.cumsum([level**2 for level in levels])[:-1]
    return [np.stack([reduce(part, axis) for part in np.split(bottoms[0], ends, axis)], axis)]


def reduced(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    name = layer.word("type").removeprefix("Reduce").lower()
    param = layer.sub(f"reduce_{name}_param")
    axes = tuple(param.integers("axis")) or None
    return [np.asarray(getattr(bottoms[0], name)(axes, keepdims=param.flag("keepdims", False)))]


def relux(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("relux_param")
    below = param.number("negative_slope", 0) * np.minimum(bottoms[0], 0)
    return [np.minimum(np.maximum(bottoms[0], 0), param.number("maximal_value", 6)) + below]


def resample(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """FlowNet's: pixel by pixel, weights k(dx)*k(dy) over the neighbours inside the image, divided by their sum."""
    bottom, param = bottoms[0], layer.sub("resample_param")
    height, width = bottom.shape[2:]
    if len(bottoms) == 2:
        rows, columns = bottoms[1].shape[2:]
    else:
        rows, columns = param.integer("height", 0), param.integer("width", 0)
    fx, fy = width / columns, height / rows
    kind = param.enum("type", "LINEAR", {1: "NEAREST", 2: "LINEAR", 3: "CUBIC"})
    smooth = param.flag("antialias", True) and (fx > 1 or fy > 1)
    ax, ay = (1 / fx, 1 / fy) if smooth else (1.0, 1.0)
    reach = 4 if kind == "CUBIC" else 2
    rx, ry = 2 if fx < 1 else ceil(reach / ax), 2 if fy < 1 else ceil(reach / ay)
    top = np.zeros((*bottom.shape[:2], rows, columns), bottom.dtype)
    for i, j in np.ndindex(rows, columns):
        x, y = j * fx + fy / 2 - 0.5, i * fy + fx / 2 - 0.5
        x0, y0 = round_half_away(x), round_half_away(y)
        if kind == "NEAREST":
            top[:, :, i, j] = bottom[:, :, y0, x0]
            continue
        total = 0.0
        for v, u in product(range(y0 - ry, y0 + ry + 1), range(x0 - rx, x0 + rx + 1)):
            if 0 <= v < height and 0 <= u < width:
                weight = weigh(kind, ax * (x - u)) * weigh(kind, ay * (y - v))
                top[:, :, i, j] += weight * bottom[:, :, v, u]
                total += weight
        top[:, :, i, j] /= total
    return [top]


def weigh(kind: str, distance: float) -> float:
    """A triangle, or Catmull and Rom's cubic."""
    d = abs(distance)
    if kind == "LINEAR":
        return max(1 - d, 0)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def resize(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """ResizeBilinear and ResizeNearestNeighbor: along rows, then along columns."""
    linear = layer.word("type") == "ResizeBilinear"
    param = layer.sub("resize_bilinear_param" if linear else "resize_nearest_neighbor_param")
    first = 2 if param.word("data_format", "NHWC") == "NCHW" else 1
    top = bottoms[0]
    for axis, name in ((first, "height"), (first + 1, "width")):
        size = top.shape[axis]
        wanted = param.integer(f"output_{name}", floor(np.float32(size) * np.float32(param.number(f"scale_{name}", 1))))
        low, high, weight = (linear_places if linear else nearest_places)(param, size, wanted)
        weight = weight.reshape(-1, *[1] * (top.ndim - 1 - axis))
        top = top.take(low, axis) * (1 - weight) + top.take(high, axis) * weight
    return [top]


def deephi_resize(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Each plane by cv::resize: bilinear about the pixels' centres, or the pixel at floor(o * (1/(wanted/size)))."""
    param = layer.sub("deephi_resize_param")
    linear = param.enum("resize_type", "NEAREST", {0: "BILINEAR", 1: "NEAREST"}) == "BILINEAR"
    top = bottoms[0]
    for axis, name in ((2, "height"), (3, "width")):
        size = top.shape[axis]
        scaled = int(np.float32(size) * np.float32(param.number(f"scale_{name[0]}", 1)))
        wanted = param.integer(f"new_{name}", scaled)
        if linear:
            pixels = [between(top, axis, (o + 0.5) * size / wanted - 0.5) for o in range(wanted)]
            top = np.stack(pixels, axis)
        else:
            top = top.take([min(floor(o * (1 / (wanted / size))), size - 1) for o in range(wanted)], axis)
    return [top]


def between(values: Array, axis: int, place: float) -> Array:
    """The value between two neighbours along an axis, of which the outermost goes on for ever."""
    low = floor(place)
    pair = np.clip([low, low + 1], 0, values.shape[axis] - 1)
    first: Array = values.take(pair[0], axis)
    return first + (place - low) * np.asarray(values.take(pair[1], axis) - first)


def linear_places(param: Message, size: int, wanted: int) -> tuple[Array, Array, Array]:
    places = np.arange(wanted)
    if param.flag("align_corners", False) and wanted > 1:
        source = places * (size - 1) / (wanted - 1)
    elif param.flag("half_pixel_centers", False) or param.flag("pytorch_half_pixel", False):
        source = (places + 0.5) * size / wanted - 0.5
        if param.flag("pytorch_half_pixel", False) and wanted == 1:
            source = np.array([-0.5])
    else:
        source = places * size / wanted
    low, high = np.floor(source).astype(int), np.ceil(source).astype(int)
    return low.clip(0), high.clip(0, size - 1), source - np.floor(source)


def nearest_places(param: Message, size: int, wanted: int) -> tuple[Array, Array, Array]:
    places, step = np.arange(wanted), size / wanted
    if param.flag("align_corners", False) and wanted > 1:
        source = np.floor(places * (size - 1) / (wanted - 1) + 0.5)
    elif param.flag("half_pixel_centers", False):
        source = np.floor((places + 0.5) * step)
    elif param.flag("half_pixel_onnx", False):
        source = np.floor((places + 0.5) * step - 0.5)
    else:
        source = np.floor(places * step)
    index = source.astype(int).clip(0, size - 1)
    return index, index, np.zeros(wanted)


def reverse(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.flip(bottoms[0], tuple(layer.sub("reverse_param").integers("axis") or [0]))]


def crelu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Along concat_axis, ReLU of the bottom in front of ReLU of its negative, both with negative_slope."""
    param = layer.sub("crelu_param")
    axis, slope = param.integer("concat_axis", 1), param.number("negative_slope", 0)
    halves = [np.where(half > 0, half, slope * half) for half in (bottoms[0], -bottoms[0])]
    return [np.concatenate(halves, axis)]


def flip(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The columns from right to left (flip_width, true), the rows from below (flip_height, false)."""
    param = layer.sub("flip_param")
    rows, columns = param.flag("flip_height", False), param.flag("flip_width", True)
    return [bottoms[0][:, :, :: -1 if rows else 1, :: -1 if columns else 1]]


def dtow(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """MDTOW: channel (c*p + i)*p + j of the bottom is pixel (i, j) of a block of channel c; MWTOD: the inverse."""
    param = layer.sub("dtow_param")
    p, down = param.integer("psize", 2), param.enum("method", "MDTOW", {1: "MDTOW", 2: "MWTOD"}) == "MWTOD"
    batch, channels, height, width = bottoms[0].shape
    if down:
        top = np.zeros((batch, channels * p * p, height // p, width // p), bottoms[0].dtype)
    else:
        top = np.zeros((batch, channels // (p * p), height * p, width * p), bottoms[0].dtype)
    deep, wide = (top, bottoms[0]) if down else (bottoms[0], top)
    for c, i, j in np.ndindex(wide.shape[1], p, p):
        if down:
            deep[:, (c * p + i) * p + j] = wide[:, c, i::p, j::p]
        else:
            wide[:, c, i::p, j::p] = deep[:, (c * p + i) * p + j]
    return [top]


def roi_align(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """CaffeROIAlign: of each bin at most four pixels, by rows, weighed at four samples; the largest sum."""
    features, regions = bottoms
    param = layer.sub("roi_align_param")
    bins, factor = (param.integer("pooled_h", 0), param.integer("pooled_w", 0)), param.number("spatial_scale", 1)
    top = np.zeros((len(regions), features.shape[1], *bins), features.dtype)
    sizes = features.shape[2:]
    for r, (image, x1, y1, x2, y2) in enumerate(regions):
        starts, ends = (y1 * factor, x1 * factor), (y2 * factor, x2 * factor)
        steps = [max(end - start + 1, 1) / n for start, end, n in zip(starts, ends, bins, strict=True)]
        for place in np.ndindex(*bins):
            spans = []
            for k, start, step, size in zip(place, starts, steps, sizes, strict=True):
                low, high = (min(max(start + step * edge, 0), size) for edge in (k, k + 1))
                spans.append(range(ceil(low), min(floor(high), size - 1) + 1))
            pixels = list(product(*spans))[:4]
            sums = []
            for sample in product((-0.5, 0.5), repeat=2):
                total: Array = np.zeros(features.shape[1], features.dtype)
                for pixel in pixels:
                    weight = 1.0
                    for at, start, end, where in zip(pixel, starts, ends, sample, strict=True):
                        coordinate = np.clip(2 * (at - start) / max(end - start, 1e-12) - 1, -1, 1)
                        weight *= max(0, 1 - abs(coordinate - where))
                    total += weight * features[int(image)][(slice(None), *pixel)]
                sums.append(total)
            top[(r, slice(None), *place)] = np.max(sums, axis=0)
    return [top]


def rrelu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The mean of 1/a over [lb, ub] as slope below 0."""
    param = layer.sub("rrelu_param")
    low, high = param.number("lb", 5), param.number("ub", 10)
    slope = log(high / low) / (high - low) if high > low else 1 / low
    return [np.maximum(bottoms[0], 0) + slope * np.minimum(bottoms[0], 0)]


def space_to_batch(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Every block-th element from each place of the block on, block after block; the samples stay together."""
    param = layer.sub("space_to_batch_nd_param")
    blocks, amounts = param.integers("block_shape"), np.array(param.integers("paddings")).reshape(-1, 2)
    whole = np.pad(bottoms[0], [(0, 0), *amounts, *[(0, 0)] * (bottoms[0].ndim - 1 - len(blocks))])
    parts = []
    for place in np.ndindex(*blocks):
        taken = (slice(start, None, step) for start, step in zip(place, blocks, strict=True))
        parts.append(whole[(slice(None), *taken)])
    return [np.concatenate(parts)]


def batch_to_space(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The inverse, element by element of the block, and cut off at both ends."""
    param, bottom = layer.sub("batch_to_space_nd_param"), bottoms[0]
    blocks, crops = param.integers("block_shape"), np.array(param.integers("crops")).reshape(-1, 2)
    count = len(bottom) // int(np.prod(blocks))
    plane = [size * step for size, step in zip(bottom.shape[1:], blocks, strict=False)]
    top = np.zeros((count, *plane, *bottom.shape[1 + len(blocks) :]), bottom.dtype)
    for index, place in enumerate(np.ndindex(*blocks)):
        taken = (slice(start, None, step) for start, step in zip(place, blocks, strict=True))
        top[(slice(None), *taken)] = bottom[index * count : (index + 1) * count]
    kept = (slice(before, size - behind) for size, (before, behind) in zip(plane, crops, strict=True))
    return [top[(slice(None), *kept)]]


def expand_dims(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """One axis after the other: the i-th named one at its number plus i, those below 0 counted from behind the last."""
    top, rank = bottoms[0], bottoms[0].ndim
    for index, axis in enumerate(layer.sub("expand_dims_nd_param").integers("axis")):
        top = np.expand_dims(top, (axis if axis >= 0 else axis + rank + 1) + index)
    return [top]


def stack(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.stack(bottoms, layer.sub("stack_param").integer("axis", 0))]


def unstack(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    axis, tops = layer.sub("unstack_param").integer("axis", 0), len(layer.words("top"))
    return list(np.moveaxis(bottoms[0], axis, 0)[:tops])


def squeeze(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    axes = layer.sub("squeeze_param").integers("axis")
    return [bottoms[0].squeeze(tuple(axes) or None)]


def transpose(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0].transpose(layer.sub("transpose_param").integers("dim"))]


def upsample_darknet(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    stride = layer.sub("upsample_darknet_param").integer("stride", 1)
    return [bottoms[0].repeat(stride, axis=2).repeat(stride, axis=3)]


def proposal(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Faster R-CNN's on one image, in PVANet's words, Synopsys' or Vitis'."""
    param = layer.sub("proposal_param")
    if "nms_iou_th" in param:
        return vitis_proposal(param, bottoms)
    if any(name in param for name in ("max_rois", "anchor_base_size", "rpn_min_size", "anchor_scale")):
        return synopsys_proposal(layer, param, bottoms)
    ratios, scales = param.numbers("ratio") or [0.5, 1, 2], param.numbers("scale") or [8, 16, 32]
    anchors = anchors_of(param.integer("base_size", 16), ratios, scales)
    scores, boxes = placed(bottoms, anchors, param.integer("feat_stride", 16), (2, 3, 0, 1))
    info = bottoms[2].reshape(-1)
    boxes = inside(boxes, info[0], info[1])
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    least = param.number("min_size", 16)
    small = (sides[:, 0] < least * info[3 if len(info) > 3 else 2]) | (sides[:, 1] < least * info[2])
    scores = np.where(small, 0, scores)
    order = np.argsort(-scores, kind="stable")[: param.integer("pre_nms_topn", 6000)]
    kept = nms(boxes, order.tolist(), param.number("nms_thresh", 0.7))[: param.integer("post_nms_topn", 300)]
    rois = np.concatenate([np.zeros((len(kept), 1)), boxes[kept]], axis=1)
    return [rois, scores[kept]][: len(layer.words("top"))]


def python(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Code of which forks' networks make use; blobs has none."""
    module = layer.sub("python_param").word("module")
    return {"rpn.proposal_layer": python_proposal, "eltwise": python_eltwise}[module](layer, bottoms)


def python_eltwise(layer: Message, bottoms: list[Array]) -> list[Array]:
    """Synopsys' Eltwise in Python, with coefficients for a sum alone."""
    said = ast.literal_eval(layer.sub("python_param").word("param_str"))
    first, second = bottoms
    if said["operation"] == 1:
        first, second = (k * bottom for k, bottom in zip(said["coeff"], bottoms, strict=True))
    return [(np.multiply, np.add, np.maximum, np.divide, np.minimum)[said["operation"]](first, second)]


def python_proposal(layer: Message, bottoms: list[Array]) -> list[Array]:
    """py-faster-rcnn's ProposalLayer at the TEST defaults of its config: small boxes drop out."""
    said = ast.literal_eval("{" + layer.sub("python_param").word("param_str").strip("{}") + "}")
    anchors = anchors_of(16, [0.5, 1, 2], list(said.get("scales", (8, 16, 32))))
    scores, boxes = placed(bottoms, anchors, said["feat_stride"], (2, 3, 0, 1))
    info = bottoms[2][0]
    boxes = inside(boxes, info[0], info[1])
    keep = (boxes[:, 2:] - boxes[:, :2] + 1 >= 16 * info[2]).all(axis=1)
    boxes, scores = boxes[keep], scores[keep]
    order = np.argsort(-scores, kind="stable")[:6000]
    kept = nms(boxes, order.tolist(), 0.7)[:300]
    rois = np.concatenate([np.zeros((len(kept), 1)), boxes[kept]], axis=1)
    return [rois, scores[kept].reshape(-1, 1)][: len(layer.words("top"))]


def gs_tiling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Element by element, as Vitis' Caffe walks the bottom."""
    param = layer.sub("gs_tiling_param")
    s, bottom = param.integer("stride", 0), bottoms[0]
    batch, channels, height, width = bottom.shape
    if param.flag("reverse", False):
        few = channels // (s * s)
        top = np.zeros((batch, few, height * s, width * s))
        for c in range(channels):
            row, column = divmod(c // few, s)
            top[:, c % few, row::s, column::s] = bottom[:, c]
        return [top]
    top = np.zeros((batch, channels * s * s, height // s, width // s))
    for row in range(s):
        for column in range(s):
            first = (row * s + column) * channels
            top[:, first : first + channels] = bottom[:, :, row::s, column::s]
    return [top]


def unpooling(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Window by window, as extended-caffe does it."""
    param = layer.sub("unpooling_param")
    method = param.word("unpool")
    bottom = bottoms[0]
    image = bottom.shape[2:]
    if len(bottoms) == 2:
        kernel = [ceil(new / old) for new, old in zip(bottoms[1].shape[2:], image, strict=True)]
        stride = [1 if k == new else k for k, new in zip(kernel, bottoms[1].shape[2:], strict=True)]
        pad = [
            floor(((old - 1) * s + k - new) / 2)
            for old, s, k, new in zip(image, stride, kernel, bottoms[1].shape[2:], strict=True)
        ]
    else:
        kernel, stride, pad = (
            [param.integer(f"out_{word}_{side}", param.integer(f"out_{full}", default)) for side in "hw"]
            for word, full, default in (("kernel", "kernel_size", 0), ("stride", "stride", 1), ("pad", "pad", 0))
        )
    size = [(old - 1) * s - 2 * p + k for old, s, p, k in zip(image, stride, pad, kernel, strict=True)]
    top, count = np.zeros((*bottom.shape[:2], *size)), np.zeros(size)
    for h in range(image[0]):
        for w in range(image[1]):
            y, x = h * stride[0] - pad[0], w * stride[1] - pad[1]
            if method == "FIXED":
                middle = [int((2 * at + k - 1) / 2) for at, k in ((y, kernel[0]), (x, kernel[1]))]
                row, column = (min(max(at, 0), end - 1) for at, end in zip(middle, size, strict=True))
                top[:, :, row, column] = bottom[:, :, h, w]
                continue
            inside_top = (slice(max(y, 0), y + kernel[0]), slice(max(x, 0), x + kernel[1]))
            top[(..., *inside_top)] += bottom[:, :, h, w, None, None]
            count[inside_top] += 1
    if method != "FIXED":
        top /= np.maximum(count, 1)
    return [top / (kernel[0] * kernel[1]) if method == "DIV" else top]


def unpooling_by_mask(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Pixel by pixel, as DeconvNet's Caffe does it: where the mask points, or without one where a stride begins."""
    param = layer.sub("unpooling_param")
    bottom = bottoms[0]
    size = [param.integer(f"unpool_{side}", param.integer("unpool_size", 0)) for side in "hw"]
    stride = [param.integer(f"stride_{side}", param.integer("stride", 1)) for side in "hw"]
    top = np.zeros((*bottom.shape[:2], size[0] * size[1]))
    for n, c, h, w in np.ndindex(bottom.shape):
        row, column = (min(at * s, end - 1) for at, s, end in zip((h, w), stride, size, strict=True))
        place = row * size[1] + column if len(bottoms) == 1 else int(bottoms[1][n, c, h, w])
        top[n, c, place] = bottom[n, c, h, w]
    return [top.reshape(*bottom.shape[:2], *size)]


def ctc_greedy_decoder(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Sequence by sequence, step by step."""
    param = layer.sub("ctc_decoder_param")
    steps, sequences, classes = bottoms[0].shape[:3]
    scores, marks = bottoms[0].reshape(steps, sequences, classes), bottoms[1].reshape(steps, sequences)
    blank = param.integer("blank_index", -1)
    blank = classes - 1 if blank < 0 else blank
    labels, sums = np.full((sequences, steps, 1, 1), -1.0), np.zeros((sequences, 1, 1, 1))
    for n in range(sequences):
        found, previous = 0, -1
        for t in range(steps):
            if t and marks[t, n] == 0:
                break
            best = int(scores[t, n].argmax())
            sums[n] -= scores[t, n].max()
            if best != blank and not (param.flag("ctc_merge_repeated", True) and best == previous):
                labels[n, found] = best
                found += 1
            previous = best
    return [labels, sums][: len(layer.words("top"))]


def synopsys_proposal(layer: Message, param: Message, bottoms: list[Array]) -> list[Array]:
    """Small boxes drop out but for the very last; of equal scores the later box comes first."""
    ratios = [0.5, 1, 2] if param.integer("anchor_ratio", 3) == 3 else [1.0]
    scales = [8.0, 16, 32] if param.integer("anchor_scale", 3) == 3 else [32.0]
    anchors = anchors_of(param.integer("anchor_base_size", 16), ratios, scales)
    scores, boxes = placed(bottoms, anchors, param.integer("feat_stride", 16), (0, 1, 2, 3))
    info = bottoms[2].reshape(-1)
    boxes = inside(boxes, floor(info[0]), floor(info[1]))
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    large = (sides >= param.number("rpn_min_size", 16) * info[2]).all(axis=1)
    large[-1] = True
    order = [i for i in np.argsort(scores, kind="stable")[::-1] if large[i]]
    kept = nms(boxes, order, param.number("rpn_nms_thresh", 0.7))[: param.integer("max_rois", 300)]
    rois = np.concatenate([np.zeros((len(kept), 1)), boxes[kept]], axis=1)
    return [rois, scores[kept].reshape(-1, 1)][: len(layer.words("top"))]


def vitis_proposal(param: Message, bottoms: list[Array]) -> list[Array]:
    """Box by box, as Vitis' Caffe walks them: listed anchors, one pixel back; sides without the +1 of the others."""
    anchors = [[box.number(side, 0) for side in ("left", "top", "right", "bottom")] for box in param.subs("anchor")]
    scores, moves, (high, wide, scale) = bottoms[0][0], bottoms[1][0], bottoms[2].reshape(-1)
    boxes, values = [], []
    for a, row, column in np.ndindex(len(anchors), *scores.shape[1:]):
        x, y = param.integer("stride_w", 0) * column - 1, param.integer("stride_h", 0) * row - 1
        left, top, right, bottom = anchors[a]
        width, height = right - left + 1, bottom - top + 1
        move = moves[4 * a : 4 * a + 4, row, column]
        middle = x + left + width / 2 + move[0] * width, y + top + height / 2 + move[1] * height
        half = np.exp(move[2]) * width / 2, np.exp(move[3]) * height / 2
        box = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]]
        boxes.append([max(min(side, (wide, high)[i % 2] - 1), 0) for i, side in enumerate(box)])
        values.append(scores[len(anchors) + a, row, column])
    kept: list[list[float]] = []
    for i in np.argsort(-np.array(values), kind="stable")[: param.integer("nms_input_num", 6000)]:
        x1, y1, x2, y2 = boxes[i]
        if x2 - x1 <= param.number("min_width", 0) * scale or y2 - y1 <= param.number("min_height", 0) * scale:
            continue
        for other in kept:
            across, down = min(x2, other[2]) - max(x1, other[0]), min(y2, other[3]) - max(y1, other[1])
            both = max(across, 0) * max(down, 0)
            areas = (x2 - x1) * (y2 - y1) + (other[2] - other[0]) * (other[3] - other[1])
            if both / (areas - both) >= param.number("nms_iou_th", 0):
                break
        else:
            kept.append(boxes[i])
    rows = [[0, *box] for box in kept[: param.integer("nms_output_num", 300)]]
    return [np.array(rows or [[0, 0, 0, 1, 1]])]


def anchors_of(base: int, ratios: list[float], scales: list[float]) -> Array:
    """For each ratio a box of whole sides and the base's area, then each scale, around the base's centre."""
    boxes = []
    for ratio in ratios:
        width = round_half_away((base * base / ratio) ** 0.5)
        height = round_half_away(width * ratio)
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            centre = (base - 1) / 2
            boxes.append([centre - x, centre - y, centre + x, centre + y])
    return np.array(boxes)


def placed(bottoms: list[Array], anchors: Array, stride: int, order: tuple[int, ...]) -> tuple[Array, Array]:
    """Foreground scores and moved boxes; `order` is of anchor, row, column and coordinate (2, 3, 0, 1: row first)."""
    count = len(anchors)
    _, _, height, width = bottoms[0].shape
    by_cell = order[0] != 0
    scores = bottoms[0][0, count:]
    moves = bottoms[1][0].reshape(count, 4, height, width).transpose(0, 2, 3, 1)
    rows, columns = np.mgrid[:height, :width] * stride
    shift = np.stack([columns, rows, columns, rows], axis=-1)
    boxes = anchors[:, None, None] + shift
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    centre = boxes[..., :2] + sides / 2 + moves[..., :2] * sides
    half = np.exp(moves[..., 2:]) * sides / 2
    moved = np.concatenate([centre - half, centre + half], axis=-1)
    if by_cell:
        scores, moved = scores.transpose(1, 2, 0), moved.transpose(1, 2, 0, 3)
    return scores.reshape(-1), moved.reshape(-1, 4)


def inside(boxes: Array, height: float, width: float) -> Array:
    return np.stack([boxes[:, i].clip(0, (width, height)[i % 2] - 1) for i in range(4)], axis=1)


def nms(boxes: Array, order: list[int], threshold: float) -> list[int]:
    """Greedy, best first; sides are +1, and what overlaps by more than the threshold goes."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    for i in order:
        for k in kept:
            sides = np.minimum(boxes[i, 2:], boxes[k, 2:]) - np.maximum(boxes[i, :2], boxes[k, :2]) + 1
            shared = max(sides[0], 0) * max(sides[1], 0)
            if shared / (areas[i] + areas[k] - shared) > threshold:
                break
        else:
            kept.append(int(i))
    return kept


def yolov3_detection_output(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """All images' boxes in one list, a box for each class above the threshold; rows say image 0."""
    param = layer.sub("yolov3_detection_output_param")
    per_cell, classes = param.integer("num_box", 3), param.integer("num_classes", 20)
    masks = np.array(param.integers("mask")).reshape(param.integer("mask_group_num", 2), -1)
    biases = np.array(param.numbers("biases")).reshape(-1, 2)
    found = []
    for bottom, mask, scale in zip(bottoms, masks, param.integers("anchors_scale"), strict=True):
        _, _, height, width = bottom.shape
        cells = bottom.reshape(len(bottom), per_cell, -1, height, width)
        for n, y, x, a in product(range(len(bottom)), range(height), range(width), range(per_cell)):
            cell = cells[n, a, :, y, x]
            centre = (x + sigmoid(cell[0])) / width, (y + sigmoid(cell[1])) / height
            half = [np.exp(cell[2 + i]) * biases[mask[a], i] / (scale * (width, height)[i]) / 2 for i in range(2)]
            box = [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]]
            scores = sigmoid(cell[4]) * sigmoid(cell[5 : 5 + classes])
            best = int(scores.argmax())
            if scores[best] > param.number("confidence_threshold", 0.01):
                found.append([0, best + 1, scores[best], *box])
    return [yolo_rows(found, param, bottoms[0])]


def yolo_rows(found: list[list[float]], param: Message, like: Array) -> Array:
    """What no better box overlaps from the threshold on, best first; nothing is one row of -1 for each image."""
    kept: list[list[float]] = []
    for row in sorted(found, key=lambda row: -row[2]):
        overlaps = [overlap(row[3:], other[3:]) for other in kept]
        if max(overlaps, default=-1) < param.number("nms_threshold", 0.45):
            kept.append(row)
    kept = kept or [[image, *[-1] * 6] for image in range(len(like))]
    return np.array(kept, like.dtype).reshape(1, 1, -1, 7)


def overlap(one: list[float], other: list[float]) -> float:
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in range(2)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(areas) - shared)) if shared > 0 else 0.0


def strided_slice(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """As numpy's brackets: a range, a number, a new axis or an ellipsis in each place; or ranges along named axes.

    Other than there, what begins behind the end begins at the last place (strided_slice_layer.cpp).
    """
    param, shape = layer.sub("strided_slice_param"), bottoms[0].shape
    begin, end, axes = (param.integers(word) for word in ("begin", "end", "axes"))
    strides = param.integers("strides") or [1] * len(begin)
    if axes:
        top = bottoms[0]
        for axis, start, stop, step in zip(axes, begin, end, strides, strict=True):
            places = slice(min(start, shape[axis] - 1), stop, step)
            top = np.moveaxis(np.moveaxis(top, axis, 0)[places], 0, axis)
        return [top]

    def masked(word: str, bit: int) -> bool:
        return bool(param.integer(f"{word}_mask", 0) & 2**bit)

    brackets: list[Any] = []
    left = list(shape)
    for bit, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        behind = sum(not masked("new_axis", later) for later in range(bit + 1, len(begin)))
        if masked("ellipsis", bit):
            brackets.append(...)
            left = left[len(left) - behind :]
        elif masked("new_axis", bit):
            brackets.append(None)
        else:
            first = min(start, left.pop(0) - 1)
            opened, endless = masked("begin", bit), masked("end", bit)
            places = slice(None if opened else first, None if endless else stop, step)
            brackets.append(first if masked("shrink_axis", bit) else places)
    return [bottoms[0][tuple(brackets)]]


def piece(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("piece_param")
    said = zip(param.integers("begin"), param.integers("size"), strict=True)
    return [bottoms[0][tuple(slice(start, None if size == -1 else start + size) for start, size in said)]]


def gather(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("gather_param")
    shape = [size for size in param.integers("shape") if size]
    return [bottoms[0].take(np.reshape(param.integers("indices"), shape), param.integer("axis", 0))]


def gather_nd(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("gather_nd_param")
    places = np.reshape(param.integers("indices"), param.integers("indices_shape"))
    return [bottoms[0][tuple(np.moveaxis(places, -1, 0))]]


def gather_v2(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0].take(bottoms[1].astype(int), layer.sub("gather_v2_param").integer("axis", 0))]


def tile_nd(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    copies = list(layer.sub("tile_nd_param").integers("multiples"))
    return [np.tile(bottoms[0], copies + [1] * (bottoms[0].ndim - len(copies)))]


def broadcast_to(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.broadcast_to(bottoms[0], layer.sub("broadcast_to_param").integers("shape"))]


def norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """ReduceL1 and ReduceL2; ReduceLogSumExp has other words for its axes, and drops them unless it is told."""
    kind = layer.word("type").removeprefix("Reduce").lower()
    param = layer.sub(f"reduce_{kind}_param")
    if kind == "logsumexp":
        axes, keep = param.integers("axis"), param.flag("keepdims", False)
        return [np.log(np.exp(bottoms[0]).sum(tuple(axes) or None, keepdims=keep))]
    axes, keep = param.integers("axes"), param.integer("keepdims", 1) == 1
    powers = np.abs(bottoms[0]) ** int(kind[1])
    return [powers.sum(tuple(axes) or None, keepdims=keep) ** (1 / int(kind[1]))]


def lp_normalization(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("lp_normalization_param")
    p = param.integer("p", 2)
    return [bottoms[0] / (np.abs(bottoms[0]) ** p).sum(tuple(param.integers("axis")), keepdims=True) ** (1 / p)]


def matmul(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    first, second = [*bottoms, *blobs]
    param = layer.sub("matmul_param")
    if param.flag("transpose_a", False):
        first = first.swapaxes(-1, -2)
    return [first @ (second.swapaxes(-1, -2) if param.flag("transpose_b", False) else second)]


def gemm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("gemm_param")
    a, b = (x.T if param.integer(word, 0) else x for x, word in zip(bottoms, ("transA", "transB"), strict=False))
    return [param.number("alpha", 1) * (a @ b) + param.number("beta", 1) * bottoms[2]]
