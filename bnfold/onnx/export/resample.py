"""Layers that change the resolution: Interp, Upsample."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bnfold.caffe.layers import Interp, Upsample
from bnfold.onnx.export.builder import Block, LayerFunction
from bnfold.onnx.export.forms import cut, reshape, size_of_batch


def interp(block: Block) -> str:
    """Bilinear with aligned corners, `source = o*(H-1)/(H'-1)`, after cropping by the pads: Slice, Resize."""
    view = Interp.of(block.layer)
    height, width = block.shape[2:]
    x = block.bottom
    if view.pad_beg or view.pad_end:
        ends = [height + view.pad_end, width + view.pad_end]
        x = cut(block, x, [2, 3], [-view.pad_beg] * 2, ends, step="crop")
    return resized(block, x, block.tops[0][2:], mode="linear", coordinate_transformation_mode="align_corners")


def resized(block: Block, x: str, plane: tuple[int, ...], **attributes: str) -> str:
    """`x`, whose first axes are those of the first bottom, with another plane."""
    if block.batched:
        kept = block("Concat", size_of_batch(block, x), block.integers([block.shape[1], *plane], "plane"), axis=0)
    else:
        kept = block.integers([*block.shape[:2], *plane], "sizes")
    # An absent roi and scales are empty names; before opset 13 an empty tensor stood for scales, which all read still.
    scales = "" if block.opset >= 13 else block.floats32([], "scales")
    roi = "" if block.opset >= 13 else block.floats32([], "roi")
    return block("Resize", x, roi, scales, kept, **attributes)


def upsample(block: Block) -> str:
    """Each pixel repeated scale x scale times: Resize to the nearest; or, with a mask, put where the mask points."""
    view = Upsample.of(block.layer)
    if len(block.bottoms) == 2:
        return _unpooled(block)
    if view.size is None and not any(view.pad_out):
        scales = block.floats32([1, 1, *view.scale], "scales")
        roi = "" if block.opset >= 13 else block.floats32([], "roi")
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return block("Resize", block.bottom, roi, scales, **mode)
    return resized(
        block,
        block.bottom,
        block.tops[0][2:],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _unpooled(block: Block) -> str:
    """`zeros(plane)[mask] = x` in each plane: ScatterElements.

    Not MaxUnpool: it counts through the whole tensor, where Caffe's mask counts through one plane, and fewer runtimes
    have it.
    """
    channels, *plane = block.shape[1:]
    pixels, larger = math.prod(plane), math.prod(block.tops[0][2:])
    x = reshape(block, block.bottom, (0, channels, pixels), "flat")
    places = block("Cast", reshape(block, block.bottoms[1], (0, channels, pixels), "mask"), to=block.int_type)
    if block.batched:
        shape = block("Concat", size_of_batch(block, x), block.integers([channels, larger], "plane"), axis=0)
    else:
        shape = block.integers([block.shape[0], channels, larger], "plane")
    zeros = block("Expand", block.floats([0.0], "zero"), shape)
    y = block("ScatterElements", zeros, places, x, axis=2)
    return reshape(block, y, (0, channels, *block.tops[0][2:]), "planes")


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Interp": interp,
    "Upsample": upsample,
}
