"""Layers that compare two images, or move one (correlation_layer.cu, flow_warp_layer.cu, st_layer.cu)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.caffe.layers.flow import Correlation, SpatialTransformer
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, pad, reduce, reshape, shifted

MAX_MOVES = 4096
"""Moves become a few nodes each."""


def correlation(block: Block) -> str:
    """The mean product, or absolute difference, of patches: Slice, Mul, ReduceMean for each move of the second."""
    param, view = block.layer.param.correlation_param, Correlation.of(block.layer)
    count = len(view.moves[0]) * len(view.moves[1])
    if view.moves[1][0] < -view.reaches[1]:
        raise Refused("with single_direction -1 its Caffe reads in front of a row's beginning")
    if count > MAX_MOVES:
        raise Refused(f"its {count:,} moves would be written out one by one")
    around = [0, 0, *view.pads]
    first, second = (
        pad(block, x, around, around, step=f"{name}_padded") if param.pad else x
        for x, name in zip(block.bottoms, ("first", "second"), strict=True)
    )
    spans = [(size - 1) * param.stride_1 + param.kernel_size for size in block.tops[0][2:]]
    single = param.kernel_size == 1
    sides, strides = [param.kernel_size] * 2, [param.stride_1] * 2

    def patches(x: str, down: int, along: int, name: str) -> str:
        starts = [view.reaches[0] + down, view.reaches[1] + along]
        ends = [start + span for start, span in zip(starts, spans, strict=True)]
        return cut(block, x, [2, 3], starts, ends, strides if single else None, step=name)

    fixed = patches(first, 0, 0, "patches")
    means = []
    for down in view.moves[0]:
        for along in view.moves[1]:
            name = f"{down}_{along}"
            moved = patches(second, down, along, f"{name}/moved")
            if param.correlation_type == param.SUBTRACT:
                pair = block("Abs", block("Sub", fixed, moved, step=f"{name}/sub"), step=f"{name}/abs")
            else:
                pair = block("Mul", fixed, moved, step=f"{name}/mul")
            mean = reduce(block, "ReduceMean", pair, [1], step=f"{name}/mean")
            if not single:
                mean = block("AveragePool", mean, step=f"{name}/patch", kernel_shape=sides, strides=strides)
            means.append(mean)
    return block("Concat", *means, axis=1) if len(means) > 1 else means[0]


def flow_warp(block: Block) -> str:
    """`image[y + flow_y, x + flow_x]`, bilinear: four GatherElements on the flat plane, weighed; outside 0 or NaN."""
    param = block.layer.param.flow_warp_param
    _, channels, height, width = block.images()
    block.affords(2 * height * width)
    places = []
    for axis, grid in ((1, np.arange(height)[:, None]), (0, np.arange(width)[None])):
        name = "xy"[axis]
        flow = cut(block, block.bottoms[1], [1], [axis], [axis + 1], step=f"{name}_flow")
        grid = np.broadcast_to(grid, (1, 1, height, width))
        place = block("Add", flow, block.floats(grid, f"{name}_grid"), step=f"{name}_place")
        places.append(reshape(block, place, (0, 1, height * width), f"{name}_flat"))
    flat = reshape(block, block.bottom, (0, channels, height * width), "image")
    outside = float("nan") if param.fill_value == param.NOT_A_NUMBER else 0.0
    value = bilinear(block, flat, channels, (places[0], places[1]), (height, width), outside)
    return reshape(block, value, (0, channels, height, width), "planes")


def bilinear(
    block: Block, flat: str, channels: int, places: tuple[str, str], plane: tuple[int, int], outside: float
) -> str:
    """Values between pixels: four GatherElements, weighed.

    Args:
        block: the layer.
        flat: images (N, C, H*W).
        channels: C.
        places: rows and columns, each (N, 1, P); between two pixels values are interpolated, and the last one goes on
            for a pixel.
        plane: (H, W).
        outside: the value of the places in front of 0 and from H or W on.

    Returns:
        (N, C, P).
    """
    parts = []
    for place, size, name in zip(places, plane, "yx", strict=True):
        inside = block(
            "And",
            block("Not", block("Less", place, block.floats(0.0, f"{name}_first"), step=f"{name}_below"), step=name),
            block("Less", place, block.floats(float(size), f"{name}_size"), step=f"{name}_before"),
            step=f"{name}_inside",
        )
        # What lies outside, or is not a number, has no index.
        place = block("Where", inside, place, block.floats(0.0, f"{name}_zero"), step=f"{name}_kept")
        low = block("Floor", place, step=f"{name}_low")
        weight = block("Sub", place, low, step=f"{name}_weight")
        last = block.floats(size - 1.0, f"{name}_last")
        high = block("Min", shifted(block, low, 1.0, f"{name}_next"), last, step=f"{name}_to")
        parts.append((low, high, weight, inside))
    (top, bottom, down, in_column), (left, right, along, in_row) = parts
    # GatherElements wants an index for each channel.
    every = block.floats(np.zeros((1, channels, 1)), "channels")

    def pixels(row: str, column: str, name: str) -> str:
        index = block("Mul", row, block.floats(float(plane[1]), f"{name}_width"), step=f"{name}_row")
        index = block("Add", block("Add", index, column, step=f"{name}_index"), every, step=f"{name}_every")
        return block("GatherElements", flat, block.as_integer(index, f"{name}_at"), axis=2)

    def between(low: str, high: str, weight: str, name: str) -> str:
        change = block("Sub", high, low, step=f"{name}_change")
        return block("Add", low, block("Mul", change, weight, step=f"{name}_part"), step=name)

    above = between(pixels(top, left, "top_left"), pixels(top, right, "top_right"), along, "above")
    below = between(pixels(bottom, left, "bottom_left"), pixels(bottom, right, "bottom_right"), along, "below")
    value = between(above, below, down, "value")
    kept = block("And", in_row, in_column, step="inside")
    return block("Where", kept, value, block.floats(outside, "outside"), step="filled")


def spatial_transformer(block: Block) -> str:
    """`bottom[theta (s, t, 1)]`, bilinear, zeros around: places by MatMul, then as FlowWarp in a plane with a rim."""
    view = SpatialTransformer.of(block.layer, block.shape)
    _, channels, height, width = block.images()
    theta = reshape(block, block.bottoms[1], (-1, view.theta.count(None)), "theta")
    places = []
    for name, (weights, constant) in zip("yx", view.places(), strict=True):
        block.affords(weights.size)
        place = block("MatMul", theta, block.floats(weights, f"{name}_weights"), step=f"{name}_moved")
        place = block("Add", place, block.floats(constant[None] + 1, f"{name}_rim"), step=f"{name}_place")
        places.append(reshape(block, place, (-1, 1, constant.size), f"{name}_flat"))
    rim = pad(block, block.bottom, [0, 0, 1, 1], [0, 0, 1, 1], step="padded")
    plane = (height + 2, width + 2)
    flat = reshape(block, rim, (0, channels, plane[0] * plane[1]), "image")
    value = bilinear(block, flat, channels, (places[0], places[1]), plane, 0.0)
    return reshape(block, value, (0, channels, *view.size), "planes")


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Correlation": correlation,
    "Correlation1D": correlation,
    "FlowWarp": flow_warp,
    "SpatialTransformer": spatial_transformer,
}
