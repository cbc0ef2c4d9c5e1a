"""Layers that pool regions of interest, and the one that proposes them.

Formulas: roi_pooling_layer.cpp of Fast R-CNN, psroi_pooling_layer.cu of R-FCN, proposal_layer.py of Faster R-CNN and
proposal_layer.cpp of the forks that have one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bnfold.caffe.layers import Proposal, ROIPooling
from bnfold.net import Array, Shape, sizes
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.detection import LOWEST, non_max_suppression
from bnfold.onnx.export.forms import cut, halves, reduce, reshape, scaled, shifted, transpose

SMALLEST_REGION = 0.1
"""R-FCN's least width and height of a region, in cells."""


def roi_pooling(block: Block) -> str:
    """The largest pixel of each of h x w bins of a region whose corners are rounded: MaxRoiPool."""
    view = ROIPooling.of(block.layer)
    regions = _regions(block)
    if view.pad_ratio:
        regions = _grown(block, regions, view.pad_ratio)
    return block("MaxRoiPool", block.bottom, regions, pooled_shape=list(view.pooled), spatial_scale=view.spatial_scale)


def _grown(block: Block, regions: str, ratio: float) -> str:
    """Regions with `(x2 - x1 + 1)*ratio` more on each side (MS-CNN, roi_pooling_layer.cpp)."""
    image, near, far = (
        cut(block, regions, [1], [first], [last], step=word)
        for word, first, last in (("image", 0, 1), ("near", 1, 3), ("far", 3, 5))
    )
    sides = shifted(block, block("Sub", far, near, step="distance"), 1.0, "sides")
    pad = scaled(block, sides, ratio, "pad")
    corners = block("Sub", near, pad, step="first"), block("Add", far, pad, step="last")
    return block("Concat", image, *corners, axis=1, step="grown")


def _regions(block: Block) -> str:
    """(R, 5): image, then corners."""
    return block.bottoms[1] if len(block.shapes[1]) == 2 else reshape(block, block.bottoms[1], (-1, 5), "regions")


def _column(block: Block, regions: str, at: int, shape: Shape, name: str, word: str) -> str:
    """One number of every region."""
    return reshape(block, cut(block, regions, [1], [at], [at + 1], step=name), shape, f"{name}_{word}")


def roi_align(block: Block) -> str:
    """CaffeROIAlign's, not RoiAlign: four samples of at most four pixels of each bin, the largest counts: Gather, Max.

    sides = max(x2 - x1 + 1, 1)      bin = sides/pooled, its edges clipped to the plane
    pixels: the first four, by rows, with whole coordinates in [ceil(start), floor(end)]
    samples (+-0.5, +-0.5) in coordinates of the region clipped to [-1, 1], weights max(0, 1 - |distance|) each
    """
    view = ROIPooling.of(block.layer)
    batch, channels, height, width = block.images()
    block.fixes_batch("its regions index the images")
    regions = _regions(block)
    axes = [
        _bins(block, regions, corner, bins, size, view.spatial_scale, name)
        for corner, bins, size, name in ((2, view.pooled[0], height, "y"), (1, view.pooled[1], width, "x"))
    ]
    (first_row, rows, top, tall), (first_column, columns, left, wide) = axes
    across = block("Max", columns, block.floats(1.0, "one"), step="across")
    image = reshape(block, cut(block, regions, [1], [0], [1], step="image"), (-1, 1, 1), "image_number")
    base = block("Mul", image, block.floats(float(height * width), "plane"), step="image_start")
    last = transpose(block, block.bottom, (0, 2, 3, 1), "channels_last")
    flat = reshape(block, last, (batch * height * width, channels), "pixels")
    sums: list[str] = []
    for k in range(4):
        down = block("Floor", block("Div", block.floats(float(k), f"{k}/number"), across, step=f"{k}/part"))
        along = block("Sub", block.floats(float(k), f"{k}/again"), block("Mul", down, across), step=f"{k}/along")
        row = block("Add", first_row, down, step=f"{k}/row")
        column = block("Add", first_column, along, step=f"{k}/column")
        inside = block("And", block("Less", down, rows), block("Less", along, columns), step=f"{k}/inside")
        weight = block.as_float(inside, f"{k}/counts")
        place = block("Add", block("Mul", row, block.floats(float(width), f"{k}/width")), column, step=f"{k}/in_plane")
        place = block("Mul", block("Add", place, base, step=f"{k}/place"), weight, step=f"{k}/valid")
        pixel = block("Gather", flat, block.as_integer(place), axis=0, step=f"{k}/pixel")
        near = [
            [
                _nearness(block, at, start, extent, sample, f"{k}/{name}{number}")
                for number, sample in enumerate(SAMPLES)
            ]
            for at, start, extent, name in ((row, top, tall, "y"), (column, left, wide, "x"))
        ]
        for number, (y, x) in enumerate((y, x) for y in near[0] for x in near[1]):
            factor = block("Mul", block("Mul", y, x), weight, step=f"{k}/factor{number}")
            factor = reshape(block, factor, (-1, *view.pooled, 1), f"{k}/weight{number}")
            part = block("Mul", pixel, factor, step=f"{k}/part{number}")
            if k == 0:
                sums.append(part)
            else:
                sums[number] = block("Add", sums[number], part, step=f"{k}/sum{number}")
    largest = sums[0]
    for other in sums[1:]:
        largest = block("Max", largest, other, step="largest")
    return transpose(block, largest, (0, 3, 1, 2), "channels_second")


SAMPLES = (-0.5, 0.5)
SMALLEST_EXTENT = 1e-12


def _bins(
    block: Block, regions: str, corner: int, bins: int, size: int, scale: float, name: str
) -> tuple[str, str, str, str]:
    """Along one axis: the first pixel of each bin and how many it has, the region's start, and its extent.

    All have three axes, (R, bins, 1) for rows and (R, 1, bins) for columns, or (R, 1, 1).
    """
    start, end = (
        scaled(block, _column(block, regions, at, (-1, 1, 1), f"{name}{at}", "all"), scale, f"{name}{at}_scaled")
        for at in (corner, corner + 2)
    )
    extent = block("Sub", end, start, step=f"{name}_extent")
    side = block(
        "Max", shifted(block, extent, 1.0, f"{name}_past"), block.floats(1.0, f"{name}_least"), step=f"{name}_side"
    )
    step = block("Div", side, block.floats(float(bins), f"{name}_bins"), step=f"{name}_bin")
    numbers = np.arange(bins + 1).reshape((1, -1, 1) if name == "y" else (1, 1, -1))
    edges = block("Add", block("Mul", step, block.floats(numbers, f"{name}_numbers")), start, step=f"{name}_edges")
    edges = block("Clip", edges, block.floats(0.0, f"{name}_zero"), block.floats(float(size), f"{name}_size"))
    axis = 1 if name == "y" else 2
    low = cut(block, edges, [axis], [0], [bins], step=f"{name}_low")
    high = cut(block, edges, [axis], [1], [bins + 1], step=f"{name}_high")
    first = block("Ceil", low, step=f"{name}_first")
    last = block("Min", block("Floor", high), block.floats(size - 1.0, f"{name}_last"), step=f"{name}_end")
    count = shifted(block, block("Sub", last, first, step=f"{name}_span"), 1.0, f"{name}_count")
    # A region of no extent must not divide 0 by 0.
    return first, count, start, block("Max", extent, block.floats(SMALLEST_EXTENT, f"{name}_tiny"), step=f"{name}_wide")


def _nearness(block: Block, at: str, start: str, extent: str, sample: float, name: str) -> str:
    """`max(0, 1 - |2*(at - start)/extent - 1 - sample|)`, the coordinate clipped to [-1, 1] first."""
    part = block("Div", block("Sub", at, start, step=f"{name}_from"), extent, step=f"{name}_part")
    coordinate = shifted(block, scaled(block, part, 2.0, f"{name}_twice"), -1.0, f"{name}_centred")
    coordinate = block(
        "Clip", coordinate, block.floats(-1.0, f"{name}_min"), block.floats(1.0, f"{name}_max"), step=f"{name}_clipped"
    )
    away = block("Abs", shifted(block, coordinate, -sample, f"{name}_away"), step=f"{name}_distance")
    return block("Relu", block("Sub", block.floats(1.0, f"{name}_one"), away, step=f"{name}_left"), step=name)


def psroi_pooling(block: Block) -> str:
    """The mean of channel `(c*g + i)*g + j` over bin (i, j) of each region, 0 where the bin is empty: MatMul.

        start = round(x1)*scale      end = (round(x2) + 1)*scale      bin = max(end - start, 0.1)/g
        bin i covers pixels floor(i*bin + start) to ceil((i + 1)*bin + start), clipped to the plane

    Each bin is a 0/1 mask over all pixels of all images; one MatMul per bin sums what the masks let through.
    """
    param = block.layer.param.psroi_pooling_param
    group, channels = param.group_size, param.output_dim
    batch, _, height, width = block.images()
    block.fixes_batch("its regions index the images")
    regions = _regions(block)
    rows = _inside(block, regions, 2, height, "y")
    columns = _inside(block, regions, 1, width, "x")
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
        own = block.as_float(block("Less", apart, block.floats(0.5, "half")), "own")
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


def _inside(block: Block, regions: str, corner: int, size: int, name: str) -> str:
    """(g, R, size): 1 where a row or column lies in bin i of a region."""
    param = block.layer.param.psroi_pooling_param
    start, end = (
        _rounded(block, _column(block, regions, at, (1, -1, 1), f"{name}{at}", "row"), f"{name}{at}")
        for at in (corner, corner + 2)
    )
    first = scaled(block, start, param.spatial_scale, f"{name}_start")
    last = scaled(block, shifted(block, end, 1.0, f"{name}_past"), param.spatial_scale, f"{name}_end")
    extent = block("Sub", last, first, step=f"{name}_extent")
    extent = block("Max", extent, block.floats(SMALLEST_REGION, f"{name}_smallest"), step=f"{name}_size")
    # A division, as in Caffe: multiplying by the inverse would round a bin's edge to another pixel.
    bin_size = block("Div", extent, block.floats(param.group_size, f"{name}_bins"), step=f"{name}_bin")
    numbers = np.arange(param.group_size)[:, None, None]
    low = block("Mul", bin_size, block.floats(numbers, f"{name}_numbers"), step=f"{name}_low_offset")
    high = block("Mul", bin_size, block.floats(numbers + 1, f"{name}_next"), step=f"{name}_high_offset")
    low = block("Floor", block("Add", low, first, step=f"{name}_low"), step=f"{name}_from")
    high = block("Ceil", block("Add", high, first, step=f"{name}_high"), step=f"{name}_to")
    pixels = block.floats(np.arange(size), f"{name}_pixels")
    outside = [block("Less", pixels, low, step=f"{name}_below"), block("Less", pixels, high, step=f"{name}_before")]
    inside = block("And", block("Not", outside[0], step=f"{name}_after"), outside[1], step=f"{name}_inside")
    return block.as_float(inside, f"{name}_mask")


def _rounded(block: Block, x: str, name: str) -> str:
    """To the nearest whole number, halves away from 0; ONNX's Round takes halves to the even one."""
    size = block(
        "Floor", shifted(block, block("Abs", x, step=f"{name}_abs"), 0.5, f"{name}_half"), step=f"{name}_floor"
    )
    return block("Mul", block("Sign", x, step=f"{name}_sign"), size, step=f"{name}_rounded")


def proposal(block: Block) -> list[str]:
    """Anchors of one image, moved by the regression, clipped, the best of them suppressed: TopK, NonMaxSuppression.

    Boxes are `[x1, x2]` with both ends inside, so sides are `x2 - x1 + 1`: NonMaxSuppression sees x2 + 1, but for
    Vitis' Caffe. A box below the least size keeps its place with score 0, or drops out.
    """
    view = Proposal.of(block.layer)
    if len(block.bottoms) < 3:
        raise Refused("without its third bottom the size of the image is not known")
    images, channels, height, width = block.images()
    if images != 1:
        raise Refused("it takes one image")
    block.fixes_batch("it takes one image")
    anchors = np.array(view.listed) - 1 if view.listed else _anchors(view)
    count = len(anchors)
    if channels != 2 * count:
        raise Refused(f"its {channels} channels are not a background and a foreground score for {count} anchors")
    if block.shapes[1] != (1, 4 * count, height, width):
        needed = sizes((1, 4 * count, height, width))
        raise Refused(f"its second bottom has shape {sizes(block.shapes[1])}, and its scores need {needed} moves")
    if math.prod(block.shapes[2]) < 3:
        raise Refused(f"its third bottom, {sizes(block.shapes[2])}, is not the image's height, width and scale")
    total = count * height * width
    block.affords(4 * total)
    size = reshape(block, block.bottoms[2], (-1,), "image")
    score = cut(block, block.bottom, [1], [count], [2 * count], step="foreground")
    if view.words == "synopsys":
        return _synopsys(block, view, size, score, anchors)
    if view.words == "vitis":
        return [_vitis(block, view, size, score, anchors)]
    score = reshape(block, transpose(block, score, (0, 2, 3, 1), "scores_last"), (total,), "scores")
    deltas = reshape(block, block.bottoms[1], (count, 4, height, width), "deltas")
    deltas = reshape(block, transpose(block, deltas, (2, 3, 0, 1), "deltas_last"), (total, 4), "moves")
    boxes = _moved(block, deltas, _shifted_anchors(anchors, view.feat_stride, height, width))
    boxes = _clipped(block, boxes, size)
    # The width is held to the second scale, where there are four numbers.
    scales = (3, 2) if math.prod(block.shapes[2]) > 3 else (2, 2)
    small = _is_small(block, boxes, view, block("Concat", *_picked(block, size, scales), axis=0, step="scales"))
    if view.words == "python":
        gone = block("Greater", small, block.floats(0.5, "half"), step="is_dropped")
        score = block("Where", gone, block.floats(LOWEST, "lowest"), score, step="scores_left")
        regions, *rest = _chosen(block, view, boxes, score, total)
        return [regions, *[reshape(block, scores, (-1, 1), "scores_column") for scores in rest]]
    large = block("Sub", block.floats(1.0, "one"), small)
    score = block("Mul", score, large, step="sized_scores")
    return _chosen(block, view, boxes, score, total)


def _clipped(block: Block, boxes: str, size: str) -> str:
    """Boxes within `[0, W - 1] x [0, H - 1]`."""
    limit = shifted(block, block("Concat", *_picked(block, size, (1, 0, 1, 0)), axis=0, step="limits"), -1.0, "last")
    return block("Max", block("Min", boxes, limit, step="inside"), block.floats(0.0, "zero"), step="clipped")


def _is_small(block: Block, boxes: str, view: Proposal, scales: str) -> str:
    """1 for each box with a width or height below the least, of (width, height) scales; 0 for the others."""
    low, high = halves(block, boxes, 1, "low", "high")
    sides = shifted(block, block("Sub", high, low, step="extent"), 1.0, "sides")
    least = block("Mul", scales, block.floats(view.min_size, "min_size"), step="least")
    small = block.as_float(block("Less", sides, least, step="small"), "is_small")
    return reduce(block, "ReduceMax", small, [1], keep=False, step="any_small")


def _synopsys(block: Block, view: Proposal, size: str, score: str, anchors: Array) -> list[str]:
    """Boxes by anchor, row, column, the last one first: of equal scores the later one counts. Small ones drop out.

    The very last box is never held to the least size. All boxes take part in the suppression.
    """
    total = len(anchors) * math.prod(block.shape[2:])
    if view.pre_nms_topn < total:
        raise Refused(f"pre_nms_topn {view.pre_nms_topn} sorts a part of its {total} boxes, in an order of its own")
    backwards = np.arange(total)[::-1]
    score = block("Gather", reshape(block, score, (total,), "scores"), block.integers(backwards, "backwards"), axis=0)
    deltas, placed = _by_anchor(block, view, anchors)
    deltas = block("Gather", deltas, block.integers(backwards, "moves_backwards"), axis=0, step="moves_back")
    boxes = _moved(block, deltas, placed[::-1])
    boxes = _clipped(block, boxes, block("Floor", size, step="whole_image"))
    scale = _picked(block, size, (2,))[0]
    small = _is_small(block, boxes, view, scale)
    tested = np.ones(total)
    tested[0] = 0  # the last box, which comes first here
    small = block("Mul", small, block.floats(tested, "tested"), step="dropped")
    lowest = block.floats(LOWEST, "lowest")
    dropped = block("Greater", small, block.floats(0.5, "half"), step="is_dropped")
    score_or_none = block("Where", dropped, lowest, score, step="scores_left")
    regions, scores = _survivors(block, view, boxes, score_or_none, total)
    return [regions, reshape(block, scores, (-1, 1), "scores_column")][: len(block.layer.tops)]


def _vitis(block: Block, view: Proposal, size: str, score: str, anchors: Array) -> str:
    """Boxes by anchor, row, column; of the best `pre_nms_topn` those drop out that are no larger than the least size.

    Where none is left one region stays, (0, 0, 0, 1, 1). An overlap of just the threshold suppresses on its CPU, and
    neither on its GPU nor here.
    """
    total = len(anchors) * math.prod(block.shape[2:])
    score = reshape(block, score, (total,), "scores")
    boxes = _clipped(block, _moved(block, *_by_anchor(block, view, anchors)), size)
    score, boxes, first = _best(block, view, boxes, score, total)
    low, high = halves(block, boxes, 1, "low", "high")
    least = block("Mul", _picked(block, size, (2,))[0], block.floats(view.min_size, "min_size"), step="least")
    large = block.as_float(block("Greater", block("Sub", high, low, step="extent"), least, step="large"), "is_large")
    all_large = reduce(block, "ReduceMin", large, [1], keep=False, step="both_large")
    kept = block("Greater", all_large, block.floats(0.5, "half"), step="is_kept")
    score = block("Where", kept, score, block.floats(LOWEST, "lowest"), step="scores_left")
    regions, scores = _survivors(block, view, boxes, score, first)
    alive = block.as_float(block("Greater", scores, block.floats(LOWEST, "none"), step="is_alive"), "alive")
    living = reduce(block, "ReduceSum", alive, [0], step="alive_count")
    none = block.as_float(block("Equal", living, block.floats(0.0, "zero_alive"), step="is_none"), "is_nothing")
    rows = block("Concat", regions, block.floats([[0.0, 0.0, 0.0, 1.0, 1.0]], "nothing"), axis=0, step="or_nothing")
    given = block("NonZero", block("Concat", alive, none, axis=0, step="given_rows"), step="given")
    return block("Gather", rows, reshape(block, given, (-1,), "given_places"), axis=0, step="given_regions")


def _by_anchor(block: Block, view: Proposal, anchors: Array) -> tuple[str, Array]:
    """The moves of all boxes by anchor, row, column, (A*H*W, 4), and the anchors that they move, in that order."""
    count, (_, _, height, width) = len(anchors), block.images()
    deltas = reshape(block, block.bottoms[1], (count, 4, height, width), "deltas")
    deltas = transpose(block, deltas, (0, 2, 3, 1), "deltas_last")
    placed = _shifted_anchors(anchors, view.feat_stride, height, width).reshape(-1, count, 4)
    return reshape(block, deltas, (count * height * width, 4), "moves"), placed.swapaxes(0, 1).reshape(-1, 4)


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


def _shifted_anchors(anchors: Array, strides: tuple[int, int], height: int, width: int) -> Array:
    """(H*W*A, 4)."""
    y, x = np.mgrid[:height, :width] * np.reshape(strides, (2, 1, 1))
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    moved: Array = (shifts + anchors).reshape(-1, 4)
    return moved


def _moved(block: Block, deltas: str, anchors: Array) -> str:
    """`centre + shift*size -+ e^growth*size/2`."""
    sizes = anchors[:, 2:] - anchors[:, :2] + 1
    centres = anchors[:, :2] + 0.5 * sizes
    shift, growth = halves(block, deltas, 1, "shift", "growth")
    moved = block("Mul", shift, block.floats(sizes, "anchor_sizes"), step="moved")
    centre = block("Add", moved, block.floats(centres, "anchor_centres"), step="centre")
    half = block("Mul", block("Exp", growth), block.floats(sizes / 2, "half_sizes"), step="half")
    corners = [block("Sub", centre, half, step="corner_low"), block("Add", centre, half, step="corner_high")]
    return block("Concat", *corners, axis=1, step="boxes")


def _chosen(block: Block, view: Proposal, boxes: str, score: str, total: int) -> list[str]:
    score, boxes, first = _best(block, view, boxes, score, total)
    return _survivors(block, view, boxes, score, first)[: len(block.layer.tops)]


def _best(block: Block, view: Proposal, boxes: str, score: str, total: int) -> tuple[str, str, int]:
    """The `pre_nms_topn` best scores, their boxes, and how many that are."""
    first = min(view.pre_nms_topn, total)
    score, order = block.several("TopK", score, block.integers([first], "first"), outputs=2, axis=0, step="best")
    return score, block("Gather", boxes, order, axis=0, step="best_boxes"), first


def _survivors(block: Block, view: Proposal, boxes: str, score: str, first: int) -> list[str]:
    """The regions of `first` boxes that no better one suppresses, image 0 in front of each, and their scores."""
    past = boxes
    if view.words != "vitis":
        past = block("Add", boxes, block.floats([0.0, 0.0, 1.0, 1.0], "past"), step="open_boxes")
    past, scores = reshape(block, past, (1, first, 4), "nms_boxes"), reshape(block, score, (1, 1, first), "nms_scores")
    selected = non_max_suppression(block, past, scores, view.post_nms_topn, view.nms_threshold, LOWEST)
    where = reshape(block, cut(block, selected, [1], [2], [3], step="box_number"), (-1,), "places")
    regions = block("Gather", boxes, where, axis=0, step="chosen")
    # Image 0 in front of each box.
    regions = block("Pad", regions, block.integers([0, 1, 0, 0], "image_pads"), mode="constant", step="regions")
    return [regions, block("Gather", score, where, axis=0, step="chosen_scores")]


FUNCTIONS: Mapping[str, LayerFunction] = {
    "PSROIPooling": psroi_pooling,
    "Proposal": proposal,
    "ROIAlign": roi_align,
    "ROIPooling": roi_pooling,
}
