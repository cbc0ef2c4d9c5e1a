"""Layers that pool regions of interest, and the one that proposes them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bnfold.caffe.layers import Proposal, PSROIPooling, ROIPooling
from bnfold.net import Array
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.detection import LOWEST
from bnfold.onnx.export.forms import cut, reduce, reshape, scaled, shifted, transpose

SMALLEST_REGION = 0.1
"""R-FCN's least width and height of a region, in cells."""


def roi_pooling(block: Block) -> str:
    """The largest pixel of each of h x w bins of a region whose corners are rounded: MaxRoiPool."""
    view = ROIPooling.of(block.layer)
    regions = _regions(block)
    return block("MaxRoiPool", block.bottom, regions, pooled_shape=list(view.pooled), spatial_scale=view.spatial_scale)


def _regions(block: Block) -> str:
    """(R, 5): image, then corners."""
    return block.bottoms[1] if len(block.shapes[1]) == 2 else reshape(block, block.bottoms[1], (-1, 5), "regions")


def psroi_pooling(block: Block) -> str:
    """The mean of channel `(c*g + i)*g + j` over bin (i, j) of each region, 0 where the bin is empty.

        start = round(x1)*scale      end = (round(x2) + 1)*scale      bin = max(end - start, 0.1)/g
        bin i covers pixels floor(i*bin + start) to ceil((i + 1)*bin + start), clipped to the plane

    Each bin is a 0/1 mask over all pixels of all images; one MatMul per bin sums what the masks let through.
    """
    view = PSROIPooling.of(block.layer)
    group, channels = view.group_size, view.output_dim
    batch, _, height, width = block.images()
    block.fixes_batch("its regions index the images")
    regions = _regions(block)
    rows = _inside(block, regions, view, 2, height, "y")
    columns = _inside(block, regions, view, 1, width, "x")
    # (i, j, R, image, y, x): which pixels belong to bin (i, j) of region R.
    masks = block(
        "Mul",
        reshape(block, rows, (group, 1, -1, 1, height, 1), "row_masks"),
        reshape(block, columns, (1, group, -1, 1, 1, width), "column_masks"),
        step="pixels",
    )
    if batch > 1:
        image = cut(block, regions, [1], [0], [1], step="image")
        # The difference of two whole numbers is below a half only where they are equal.
        apart = block("Abs", block("Sub", image, block.floats(np.arange(batch), "images"), step="apart"))
        own = block("Cast", block("Less", apart, block.floats(0.5, "half")), to=block.float_type, step="own")
        masks = block("Mul", masks, reshape(block, own, (1, 1, -1, batch, 1, 1), "own_image"), step="own_pixels")
    pixels = batch * height * width
    masks = reshape(block, masks, (group * group, -1, pixels), "masks")
    bins = reshape(block, block.bottom, (batch, channels, group * group, height * width), "bins")
    bins = reshape(
        block, transpose(block, bins, (2, 0, 3, 1), "bins_first"), (group * group, pixels, channels), "values"
    )
    total = block("MatMul", masks, bins)
    count = block("Max", reduce(block, "ReduceSum", masks, [2], step="count"), block.floats(1.0, "one"))
    mean = transpose(block, block("Div", total, count, step="mean"), (1, 2, 0), "regions_first")
    return reshape(block, mean, (-1, channels, group, group), "planes")


def _inside(block: Block, regions: str, view: PSROIPooling, corner: int, size: int, name: str) -> str:
    """(g, R, size): 1 where a row or column lies in bin i of a region."""
    start, end = (
        _rounded(
            block,
            reshape(block, cut(block, regions, [1], [at], [at + 1], step=f"{name}{at}"), (1, -1, 1), f"{name}{at}_row"),
            f"{name}{at}",
        )
        for at in (corner, corner + 2)
    )
    first = scaled(block, start, view.spatial_scale, f"{name}_start")
    last = scaled(block, shifted(block, end, 1.0, f"{name}_past"), view.spatial_scale, f"{name}_end")
    extent = block("Sub", last, first, step=f"{name}_extent")
    extent = block("Max", extent, block.floats(SMALLEST_REGION, f"{name}_smallest"), step=f"{name}_size")
    # A division, as in Caffe: multiplying by the inverse would round a bin's edge to another pixel.
    bin_size = block("Div", extent, block.floats(view.group_size, f"{name}_bins"), step=f"{name}_bin")
    numbers = np.arange(view.group_size)[:, None, None]
    low = block("Mul", bin_size, block.floats(numbers, f"{name}_numbers"), step=f"{name}_low_offset")
    high = block("Mul", bin_size, block.floats(numbers + 1, f"{name}_next"), step=f"{name}_high_offset")
    low = block("Floor", block("Add", low, first, step=f"{name}_low"), step=f"{name}_from")
    high = block("Ceil", block("Add", high, first, step=f"{name}_high"), step=f"{name}_to")
    pixels = block.floats(np.arange(size), f"{name}_pixels")
    outside = [block("Less", pixels, low, step=f"{name}_below"), block("Less", pixels, high, step=f"{name}_before")]
    inside = block("And", block("Not", outside[0], step=f"{name}_after"), outside[1], step=f"{name}_inside")
    return block("Cast", inside, to=block.float_type, step=f"{name}_mask")


def _rounded(block: Block, x: str, name: str) -> str:
    """To the nearest whole number, halves away from 0; ONNX's Round takes halves to the even one."""
    size = block(
        "Floor", shifted(block, block("Abs", x, step=f"{name}_abs"), 0.5, f"{name}_half"), step=f"{name}_floor"
    )
    return block("Mul", block("Sign", x, step=f"{name}_sign"), size, step=f"{name}_rounded")


def proposal(block: Block) -> list[str]:
    """Faster R-CNN's proposals, one image: anchors moved by the regression, clipped, the best of them suppressed.

    Boxes are `[x1, x2]` with both ends inside, so sides are `x2 - x1 + 1`: NonMaxSuppression sees x2 + 1.
    A box below the least size keeps its place with score 0.
    """
    view = Proposal.of(block.layer)
    if len(block.bottoms) < 3:
        raise Refused("without its third bottom the size of the image is not known")
    images, channels, height, width = block.images()
    if images != 1:
        raise Refused("it takes one image")
    block.fixes_batch("it takes one image")
    anchors = _anchors(view)
    count = len(anchors)
    if channels != 2 * count:
        raise Refused(f"its {channels} channels are not a background and a foreground score for {count} anchors")
    total = count * height * width
    block.affords(4 * total)
    size = reshape(block, block.bottoms[2], (-1,), "image")
    score = cut(block, block.bottom, [1], [count], [2 * count], step="foreground")
    score = reshape(block, transpose(block, score, (0, 2, 3, 1), "scores_last"), (total,), "scores")
    deltas = reshape(block, block.bottoms[1], (count, 4, height, width), "deltas")
    deltas = reshape(block, transpose(block, deltas, (2, 3, 0, 1), "deltas_last"), (total, 4), "moves")
    boxes = _moved(block, deltas, _shifted_anchors(anchors, view.feat_stride, height, width))
    limit = shifted(block, block("Concat", *_picked(block, size, (1, 0, 1, 0)), axis=0, step="limits"), -1.0, "last")
    boxes = block("Max", block("Min", boxes, limit, step="inside"), block.floats(0.0, "zero"), step="clipped")
    low, high = (cut(block, boxes, [1], [at], [at + 2], step=name) for at, name in ((0, "low"), (2, "high")))
    sides = shifted(block, block("Sub", high, low, step="extent"), 1.0, "sides")
    least = scaled(block, _picked(block, size, (2,))[0], float(view.min_size), "least")
    small = block("Cast", block("Less", sides, least, step="small"), to=block.float_type, step="is_small")
    large = block("Sub", block.floats(1.0, "one"), reduce(block, "ReduceMax", small, [1], keep=False, step="any_small"))
    score = block("Mul", score, large, step="sized_scores")
    return _chosen(block, view, boxes, score, total)


def _picked(block: Block, size: str, places: tuple[int, ...]) -> list[str]:
    return [cut(block, size, [0], [at], [at + 1], step=f"image{number}_{at}") for number, at in enumerate(places)]


def _anchors(view: Proposal) -> Array:
    """(A, 4): for every ratio a side rounded to whole pixels, then every scale, centred on the first cell."""
    centre = 0.5 * (view.base_size - 1)
    anchors = []
    for ratio in view.ratios:
        width = _half_away(math.sqrt(view.base_size**2 / ratio))
        height = _half_away(width * ratio)
        for scale in view.scales:
            half = 0.5 * (np.array([width, height]) * scale - 1)
            anchors.append([*(centre - half), *(centre + half)])
    return np.array(anchors)


def _half_away(x: float) -> int:
    return math.floor(x + 0.5)


def _shifted_anchors(anchors: Array, stride: int, height: int, width: int) -> Array:
    """(H*W*A, 4)."""
    y, x = np.mgrid[:height, :width] * stride
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    moved: Array = (shifts + anchors).reshape(-1, 4)
    return moved


def _moved(block: Block, deltas: str, anchors: Array) -> str:
    """`centre + shift*size -+ e^growth*size/2`."""
    sizes = anchors[:, 2:] - anchors[:, :2] + 1
    centres = anchors[:, :2] + 0.5 * sizes
    shift, growth = (cut(block, deltas, [1], [at], [at + 2], step=name) for at, name in ((0, "shift"), (2, "growth")))
    moved = block("Mul", shift, block.floats(sizes, "anchor_sizes"), step="moved")
    centre = block("Add", moved, block.floats(centres, "anchor_centres"), step="centre")
    half = block("Mul", block("Exp", growth), block.floats(sizes / 2, "half_sizes"), step="half")
    corners = [block("Sub", centre, half, step="corner_low"), block("Add", centre, half, step="corner_high")]
    return block("Concat", *corners, axis=1, step="boxes")


def _chosen(block: Block, view: Proposal, boxes: str, score: str, total: int) -> list[str]:
    first = min(view.pre_nms_topn, total)
    score, order = block.several("TopK", score, block.integers([first], "first"), outputs=2, axis=0, step="best")
    boxes = block("Gather", boxes, order, axis=0, step="best_boxes")
    past = block("Add", boxes, block.floats([0.0, 0.0, 1.0, 1.0], "past"), step="open_boxes")
    selected = block(
        "NonMaxSuppression",
        block.as_float32(reshape(block, past, (1, first, 4), "nms_boxes"), "nms_boxes32"),
        block.as_float32(reshape(block, score, (1, 1, first), "nms_scores"), "nms_scores32"),
        block.integers([view.post_nms_topn], "most"),
        block.floats32([min(view.nms_threshold, 1.0)], "overlap"),
        block.floats32([LOWEST], "threshold"),
        step="nms",
    )
    where = reshape(block, cut(block, selected, [1], [2], [3], step="box_number"), (-1,), "places")
    regions = block("Gather", boxes, where, axis=0, step="chosen")
    # Image 0 in front of each box.
    regions = block("Pad", regions, block.integers([0, 1, 0, 0], "image_pads"), mode="constant", step="regions")
    if len(block.layer.tops) == 1:
        return [regions]
    return [regions, block("Gather", score, where, axis=0, step="chosen_scores")]


FUNCTIONS: Mapping[str, LayerFunction] = {
    "PSROIPooling": psroi_pooling,
    "Proposal": proposal,
    "ROIPooling": roi_pooling,
}
