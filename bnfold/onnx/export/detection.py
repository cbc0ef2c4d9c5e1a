"""SSD's layers in standard operators: prior boxes as constants, and the decoding of detections.

DetectionOutput in Caffe, per image: decode a box for every prior; per class but the background take the scores above
the threshold, the best `top_k` of them, and suppress greedily; keep the best `keep_top_k` of all classes; give rows
(image, label, score, box), ordered by label, then by score. Nothing in the whole batch gives one row
(image, -1, -1, -1, -1, -1, -1) per image.

Here TopK and ScatterElements hide all scores but the `top_k`, NonMaxSuppression suppresses, a second TopK over the
survivors of all classes keeps `keep_top_k`, and a third, over `label*k + place`, brings them in order.

RefineDet's reads confidences and locations of a first step, too: a prior without an object there is background, and
the others are moved by it before they are moved by the second.

Formulas: prior_box_layer.cpp, detection_output_layer.cpp and bbox_util.cpp of SSD and of RefineDet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bnfold.caffe.layers import DetectionOutput, PriorBox
from bnfold.caffe.layers.detection import BOX_ROW, INSET, INSET_SIZE, PriorGrid, face_moves
from bnfold.net import Array, Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, halves, reduce, reshape, scaled, size_of_batch, transpose

LOWEST = float(np.finfo(np.float32).min)
SMALLEST = float(np.finfo(np.float32).tiny)
SHARED_LABEL = -1  # bbox_util.cpp, DecodeBBoxesAll
ALONE = 2**20
"""Further away than any box of an image."""


def prior_box(block: Block) -> str:
    """The boxes of every cell of the feature map, which only depend on shapes: a Constant.

    Cell (h, w) is centred at `((w + offset)*step_w, (h + offset)*step_h)`. For each min_size m there come m x m, then
    sqrt(m*max) squared, then `m*sqrt(r) x m/sqrt(r)` for every other ratio r. The second row is the variances.
    Synopsys' Caffe has the second elsewhere, y in front of x, or boxes that are listed, as OpenVINO's has.
    """
    view = PriorBox.of(block.layer)
    if view.faceboxes:
        moves = [(size - 1, move) for size in view.min_sizes for move in face_moves(size)]
        sides = np.array([[size, size] for size, _ in moves], dtype=np.float64)
        return _priors(block, view.grid, sides, np.array([move for _, move in moves], dtype=np.float64))
    if view.listed:
        return _priors(block, view.grid, np.array(view.listed), yx=view.yx)
    sizes: list[tuple[float, float]] = []
    insets: list[float] = []
    for number, smallest in enumerate(view.min_sizes):
        side = math.sqrt(smallest * view.max_sizes[number]) if view.max_sizes else 0.0
        first, second = [(float(smallest),) * 2], [(side, side)] if view.max_sizes else []
        roots = [math.sqrt(ratio) for ratio in view.aspect_ratios[1:]]
        rest = [(smallest * root, smallest / root) for root in roots]
        if view.order == "tf":
            insets += [INSET if smallest == INSET_SIZE else 0.0] + [0.0] * len(rest + second)
            sizes += first + rest + second
        else:
            sizes += (second + first if view.order == "keras" else first + second) + rest
    inset = np.array(insets)[:, None] if any(insets) else 0.0
    return _priors(block, view.grid, np.array(sizes), inset=inset, yx=view.yx)


def _priors(
    block: Block,
    grid: PriorGrid,
    sizes: Array,
    moves: Array | float = 0.0,
    *,
    inset: Array | float = 0.0,
    yx: bool = False,
) -> str:
    """Boxes of `sizes` (A, 2), width and height, around the centre of each cell, or `moves` (A, 2) away from it.

    They begin and end `inset` (A, 1) of the image further inside; `yx` has y in front of x.
    """
    _, _, height, width = block.images()
    block.affords(8 * len(sizes) * height * width)
    cells = np.array([height, width])
    image = np.array(grid.image or block.images(1)[2:], dtype=np.float64)
    step = np.array(grid.step) if grid.step else image / cells
    y, x = np.meshgrid(
        *[(np.arange(count) + o) * s for count, o, s in zip(cells, grid.offset, step, strict=True)], indexing="ij"
    )
    centres = np.stack([x, y], axis=-1)[:, :, None, :] + moves
    size = image[::-1]
    corners = [(centres - sizes / 2) / size + inset, (centres + sizes / 2) / size - inset]
    boxes = np.concatenate([corner[..., ::-1] if yx else corner for corner in corners], axis=-1)
    if grid.clip:
        boxes = boxes.clip(0, 1)
    variances = np.broadcast_to(np.array(grid.variances), boxes.shape)
    values = np.stack([boxes.reshape(-1), variances.reshape(-1)])[None]
    return block.constant(values)


def detection_output(block: Block) -> str:
    """Decoded, suppressed and ordered detections, (1, 1, K, 7): NonMaxSuppression between TopKs."""
    view = DetectionOutput.of(block.layer)
    nbottom = block.layer.param.detection_output_param.nbottom
    if not (view.parts or view.objectness is not None or len(block.bottoms) == 3 < nbottom):
        raise Refused(
            f"it has {len(block.bottoms)} bottoms, and only the meaning of 3, or of RefineDet's 5, is known, or with "
            f"nbottom {nbottom} of {2 * nbottom + 1} or {3 * nbottom}"
        )
    if view.nms_eta != 1:
        raise Refused(f"eta {view.nms_eta:g} changes the threshold while suppressing, which NonMaxSuppression cannot")
    if view.share_location and view.background == SHARED_LABEL:
        raise Refused(
            f"background_label_id {SHARED_LABEL} is the label of the boxes that all classes share, so that SSD's Caffe "
            "decodes none and stops"
        )
    block.affords(view.num_classes)
    read = _in_parts(block, view) if view.parts else _whole(block, view)
    priors = read.priors
    labels = [label for label in range(view.num_classes) if label != view.background]
    boxes = _decoded(block, view, read, labels)
    scores = reshape(block, read.confidences, (0, priors, view.num_classes), "conf")
    if view.objectness is not None:
        scores = _objects(block, scores, view.objectness, priors, view.num_classes)
    scores = transpose(block, scores, (0, 2, 1), "scores")
    if len(labels) < view.num_classes:
        scores = block("Gather", scores, block.integers(labels, "labels"), axis=1, step="foreground")
    candidates = best(block, scores, view.nms_top_k, priors)
    threshold = LOWEST if view.confidence_threshold is None else view.confidence_threshold
    turned = view.code_type != "CENTER_SIZE"
    survivors = suppressed(block, boxes, candidates, priors, len(labels), threshold, view.nms_threshold, turned=turned)
    total = len(labels) * priors
    kept = min(view.keep_top_k, total) if view.keep_top_k > -1 else total
    return _rows(block, boxes, survivors, priors, labels, kept)


class _Read(NamedTuple):
    """What a DetectionOutput reads: (N, P*classes*4) and (N, P*classes) tensors, and the rows of P priors."""

    locations: str
    confidences: str
    boxes: str
    variances: str
    priors: int


def _whole(block: Block, view: DetectionOutput) -> _Read:
    """Locations, confidences and priors, a bottom each."""
    priors = math.prod(block.shapes[2][1:]) // 8
    _check_counts(block, view, priors)
    locations, confidences, both = block.bottoms[:3]
    return _Read(locations, confidences, *_prior_rows(block, 2, both), priors)


def _in_parts(block: Block, view: DetectionOutput) -> _Read:
    """The same of Synopsys' bottoms, the parts side by side in the order in which its Caffe reads their boxes."""
    parts, shapes = view.parts, block.shapes
    block.fixes_batch("its Caffe gives every image the boxes of the first")
    if shapes[0][0] != 1:
        raise Refused("its Caffe gives every image the boxes of the first")
    if view.layout and not view.share_location:
        raise Refused(f"its Caffe reads the priors of {view.layout} wrongly where classes have boxes of their own")
    if view.layout and len(block.bottoms) == 3 * parts:
        raise Refused(f"its Caffe reads priors in parts otherwise, or not at all, with {view.layout}")
    if any(len(shape) != 3 for shape in shapes[2 * parts :]):
        raise Refused("its priors are not (1, 2, boxes*4)")
    each = 4 * (1 if view.share_location else view.num_classes)
    counts, places = _boxes_of_parts(block, view, each)
    priors = block.bottoms[2 * parts]
    if len(block.bottoms) > 2 * parts + 1:
        priors = block("Concat", *block.bottoms[2 * parts :], axis=2, step="priors_of_parts")
    laid = [math.prod(shape[1:]) // 8 for shape in shapes[2 * parts :]]
    if laid not in (counts, [sum(counts)]):
        raise Refused(f"its parts have {counts} boxes, and there are priors of {laid}")
    boxes, variances = _prior_rows(block, 2 * parts, priors)
    if view.layout:
        # The variances stay where they are: Caffe reads those by their place alone.
        boxes = reshape(block, boxes, (sum(counts), 4), "prior_boxes")
        boxes = block("Gather", boxes, block.integers(np.concatenate(places), "planes"), axis=0, step="priors_by_plane")
    # As a convolution leaves them, coordinates lie planes apart, and not boxes.
    planes = [math.prod(shape[2:]) for shape in shapes[parts:]] if view.layout == "no_permute" else counts
    locations = _side_by_side(block, view, block.bottoms[parts : 2 * parts], planes, each, "loc")
    confidences = _side_by_side(block, view, block.bottoms[:parts], counts, view.num_classes, "conf")
    return _Read(locations, confidences, boxes, variances, sum(counts))


def _boxes_of_parts(block: Block, view: DetectionOutput, each: int) -> tuple[list[int], list[Array]]:
    """How many boxes of `each` coordinates each part has, and for each part the priors of its boxes in their order."""
    counts: list[int] = []
    places = []
    for part in range(view.parts):
        confidences, locations = block.shapes[part], block.shapes[view.parts + part]
        count = math.prod(locations[1:]) // each
        if (math.prod(locations[1:]), math.prod(confidences[1:])) != (count * each, count * view.num_classes):
            raise Refused(f"part {part}, of {count} boxes, has {math.prod(confidences[1:])} confidences")
        cell = _boxes_of_a_cell(view, part, confidences, locations)
        if count % cell:
            raise Refused(f"part {part}, of {count} boxes, has no cells of {cell}")
        block.affords(count)
        places.append(sum(counts) + np.arange(count).reshape(-1, cell).T.reshape(-1))
        counts.append(count)
    return counts, places


def _side_by_side(
    block: Block, view: DetectionOutput, parts: Sequence[str], planes: Sequence[int], width: int, name: str
) -> str:
    """Parts as one row, box by box, where each box has `width` numbers and a layout has them in planes."""
    rows = []
    for part, (x, plane) in enumerate(zip(parts, planes, strict=False)):
        if view.layout:
            x = reshape(block, x, (-1, width, plane), f"{name}{part}_planes")
            x = transpose(block, x, (0, 2, 1), f"{name}{part}_boxes")
        rows.append(reshape(block, x, (1, -1), f"{name}{part}_row"))
    return block("Concat", *rows, axis=1, step=f"{name}_of_parts")


def _boxes_of_a_cell(view: DetectionOutput, part: int, confidences: Shape, locations: Shape) -> int:
    """How many boxes lie in a cell of a part, whose priors lie together; 1 where its boxes do, too."""
    if view.layout == "no_permute":
        if len(confidences) != 4 or len(locations) != 4 or locations[1] % 4:
            raise Refused(f"part {part} is no plane of locations and confidences")
        cell = locations[1] // 4
        if confidences[1:] != (view.num_classes, cell, math.prod(locations[2:])):
            raise Refused(f"the confidences of part {part} are not by class, box and place")
        return cell
    if any(size != 1 for shape in (confidences, locations) for size in shape[2:]):
        raise Refused(f"part {part} is not flat")
    if view.layout and not (part < len(view.ratios) and view.ratios[part] > 0):
        raise Refused(f"part {part} has no ratio above 0")
    return view.ratios[part] if view.layout else 1


def _check_counts(block: Block, view: DetectionOutput, priors: int) -> None:
    """A fork that lays its priors by a rule of its own is one whose boxes we do not know."""
    images = [shape[0] for place, shape in enumerate(block.shapes) if place != 2]
    if len(set(images)) > 1:
        raise Refused(f"locations and confidences are of {', '.join(map(str, images))} images")
    locations, confidences = (math.prod(shape[1:]) for shape in block.shapes[:2])
    located = priors * 4 * (1 if view.share_location else view.num_classes)
    if (locations, confidences) != (located, priors * view.num_classes):
        raise Refused(
            f"{priors} priors of {view.num_classes} classes need {located} locations and "
            f"{priors * view.num_classes} confidences, but there are {locations} and {confidences}"
        )
    if view.objectness is None:
        return
    if not view.share_location:
        raise Refused("RefineDet's Caffe moves boxes twice only where all classes share them")
    if [math.prod(shape[1:]) for shape in block.shapes[3:]] != [2 * priors, 4 * priors]:
        raise Refused(f"the first step of {priors} priors needs {2 * priors} confidences and {4 * priors} locations")


def _objects(block: Block, scores: str, objectness: float, priors: int, classes: int) -> str:
    """(N, P, C) scores; a prior whose first step finds no object there is 1 for class 0 and 0 for the others."""
    first = reshape(block, block.bottoms[3], (0, priors, 2), "first_conf")
    objects = cut(block, first, [2], [1], [2], step="objects")
    none = block("Less", objects, block.floats(objectness, "objectness"), step="no_object")
    return block("Where", none, block.floats(np.eye(1, classes)[None], "nothing"), scores, step="objects_conf")


def _decoded(block: Block, view: DetectionOutput, read: _Read, labels: list[int]) -> str:
    """The box of every prior: (N, 1, P, 4), or (N, labels, P, 4) where each label has its own."""
    if view.code_type not in ("CORNER", "CENTER_SIZE", "CORNER_SIZE"):
        raise Refused(f"code_type {view.code_type} is none of CORNER, CENTER_SIZE, CORNER_SIZE")
    classes = 1 if view.share_location else view.num_classes
    priors = read.priors
    loc = reshape(block, read.locations, (0, priors, classes, 4), "loc")
    loc = transpose(block, loc, (0, 2, 1, 3), "per_class")
    if not view.share_location and len(labels) < classes:
        loc = block("Gather", loc, block.integers(labels, "located"), axis=1, step="loc_foreground")
    prior = reshape(block, read.boxes, (1, 1, priors, 4), "priors")
    variance = reshape(block, read.variances, (1, 1, priors, 4), "variances")
    if view.objectness is not None:
        first = reshape(block, block.bottoms[4], (0, 1, priors, 4), "first_loc")
        prior = _moved(block, view, first, prior, variance, "first_")
    return _moved(block, view, loc, prior, variance)


def _moved(block: Block, view: DetectionOutput, loc: str, prior: str, variance: str, name: str = "") -> str:
    """Boxes where `loc` moves them to from their priors (bbox_util.cpp, DecodeBBox)."""
    if not view.variance_encoded_in_target:
        loc = block("Mul", loc, variance, step=f"{name}varied")
    if view.code_type == "CORNER":
        return block("Add", prior, loc, step=f"{name}boxes")
    low, high = halves(block, prior, 3, f"{name}prior_low", f"{name}prior_high")
    size = block("Sub", high, low, step=f"{name}prior_size")
    if view.code_type == "CORNER_SIZE":
        sizes = block("Concat", size, size, axis=3, step=f"{name}sizes")
        return block("Add", prior, block("Mul", loc, sizes, step=f"{name}sized"), step=f"{name}boxes")
    shift, growth = halves(block, loc, 3, f"{name}loc_low", f"{name}loc_high")
    middle = scaled(block, block("Add", low, high, step=f"{name}prior_sum"), 0.5, f"{name}prior_centre")
    centre = block("Add", block("Mul", shift, size, step=f"{name}shift"), middle, step=f"{name}centre")
    grown = block("Exp", growth, step=f"{name}growth") if name else block("Exp", growth)
    half = scaled(block, block("Mul", grown, size, step=f"{name}size"), 0.5, f"{name}half")
    corners = [block("Sub", centre, half, step=f"{name}low"), block("Add", centre, half, step=f"{name}high")]
    return block("Concat", *corners, axis=3, step=f"{name}boxes")


def _prior_rows(block: Block, index: int, priors: str) -> tuple[str, str]:
    """The boxes and the variances of priors, which are bottom `index` or have its first size."""
    if block.shapes[index][0] != 1 or block.bottoms[index] in block.graph.batched:
        # Caffe reads the priors of the first image for all.
        priors = cut(block, priors, [0], [0], [1], step="first_priors")
    boxes, variances = (
        cut(block, priors, [1], [row], [row + 1], step=f"{name}_row")
        for row, name in enumerate(("priors", "variances"))
    )
    return boxes, variances


def best(block: Block, scores: str, top_k: int, boxes: int) -> str:
    """(N, C, P) scores with all but the `top_k` best of each class pushed below every threshold."""
    if not 0 <= top_k < boxes:
        return scores
    values, places = block.several("TopK", scores, block.integers([top_k], "top_k"), outputs=2, axis=2, step="best")
    lowest = block("Expand", block.floats([LOWEST], "lowest"), block("Shape", scores, step="scores_shape"))
    return block("ScatterElements", lowest, places, values, axis=2, step="candidates")


def suppressed(
    block: Block,
    boxes: str,
    scores: str,
    priors: int,
    classes: int,
    threshold: float,
    overlap: float,
    *,
    turned: bool = False,
) -> str:
    """(N, classes*P) scores with those that do not survive at the lowest float.

    Boxes are (N, 1, P, 4) or (N, classes, P, 4). NonMaxSuppression wants one set of boxes for all classes, so boxes
    per class become images of their own; where they may be `turned`, their corners are in no order.
    """
    # OpenVINO suppresses at the threshold, too, so that boxes which do not touch would suppress each other at 0.
    overlap = max(overlap, SMALLEST)
    own = _own_boxes(block)
    flat_boxes = reshape(block, _in_order(block, boxes, priors, turned), (-1, priors, 4), "nms_boxes")
    flat_scores = reshape(block, scores, (-1, 1, priors), "nms_scores") if own else scores
    selected = non_max_suppression(block, flat_boxes, flat_scores, priors, overlap, threshold, center_point_box=0)
    # (image, class, box) as one number into the flat scores.
    weights = [priors, priors, 1] if own else [classes * priors, priors, 1]
    weighted = block("Mul", selected, block.integers(weights, "strides"), step="offsets")
    places = reduce(block, "ReduceSum", weighted, [1], keep=False, step="places")
    flat = reshape(block, scores, (-1,), "flat_scores")
    values = block("Gather", flat, places, axis=0, step="survivors")
    lowest = block("Expand", block.floats([LOWEST], "gone"), block("Shape", flat, step="flat_shape"))
    return reshape(
        block,
        block("ScatterElements", lowest, places, values, axis=0, step="alive"),
        (-1, classes * priors),
        "alive_rows",
    )


def non_max_suppression(
    block: Block, boxes: str, scores: str, most: int, overlap: float, threshold: float, **attributes: int
) -> str:
    """(image, class, box) of each of the `most` best that no better one overlaps by more; in float32, as it takes no
    other type.
    """
    return block(
        "NonMaxSuppression",
        block.as_float32(boxes, "nms_boxes32"),
        block.as_float32(scores, "nms_scores32"),
        block.integers([most], "most"),
        block.floats32([min(overlap, 1.0)], "overlap"),
        block.floats32([threshold], "threshold"),
        step="nms",
        **attributes,
    )


def _in_order(block: Block, boxes: str, priors: int, turned: bool) -> str:
    """Boxes whose low corners come first, as NonMaxSuppression wants them."""
    low, high = halves(block, boxes, 3, "box_low", "box_high")
    if not turned:
        return block("Concat", low, block("Max", low, high, step="not_swapped"), axis=3, step="proper")
    # Caffe gives a box with swapped corners no area, and it overlaps no other. The operator would swap them back,
    # and OpenCV 5 takes two boxes without area for one, so each goes to a place of its own.
    least = reduce(block, "ReduceMin", block("Sub", high, low, step="sides"), [3], keep=True, step="least")
    x = ALONE + 2.0 * _numbers(block, priors)
    y = np.zeros(priors)
    alone = block.floats(np.stack([x, y, x + 1, y + 1], axis=-1)[None, None], "alone")
    return block("Where", block("Greater", least, block.floats(0.0, "no_side")), boxes, alone, step="proper")


def _rows(block: Block, boxes: str, survivors: str, priors: int, labels: list[int], kept: int) -> str:
    """The `kept` best of (N, labels*P) survivors as rows, by image, label, score."""
    count = block.integers([kept], "keep")
    scores, places = block.several("TopK", survivors, count, outputs=2, axis=1, step="kept")
    priors_constant = block.integers(priors, "priors_count")
    label = block("Div", places, priors_constant, step="label")
    alive = block("Greater", scores, block.floats(LOWEST, "none"), step="is_alive")
    label_or_last = block("Where", alive, label, block.integers(len(labels), "last"), step="label_or_last")
    key = block("Mul", label_or_last, block.integers(kept, "keys"), step="label_key")
    key = block("Add", key, block.integers(_numbers(block, kept), "places_key"), step="key")
    _, order = block.several("TopK", key, count, outputs=2, axis=1, largest=0, step="order")
    image = _images_of(block, scores, kept)
    row = block("Mul", image, block.integers(kept, "row_length"), step="row_start")
    row = block("Add", row, reshape(block, order, (-1, 1), "order_column"), step="row")
    score, place, label = (
        block("Gather", reshape(block, tensor, (-1,), f"{name}s_flat"), row, axis=0, step=f"ordered_{name}")
        for tensor, name in ((scores, "score"), (places, "place"), (label, "label"))
    )
    prior = block("Sub", place, block("Mul", label, priors_constant, step="label_start"), step="prior")
    own = label if _own_boxes(block) else block("Mul", label, block.integers(0, "shared"), step="no_label")
    box = block("GatherND", boxes, block("Concat", image, own, prior, axis=1, step="box_place"), step="box")
    named = block("Gather", block.floats(labels, "names"), label, step="name")
    number = block.as_float(image, "image_number")
    rows = block("Concat", number, named, score, box, axis=1, step="rows")
    return reshape(block, or_nothing(block, rows, score), (1, 1, -1, BOX_ROW), "blob")


def _images_of(block: Block, rows: str, length: int) -> str:
    """The number of the image that each of (N, length) entries belongs to, as a column."""
    if not block.batched:
        return block.integers(np.repeat(_numbers(block, block.shape[0]), length)[:, None], "image")
    ones = block("Expand", block.floats([1.0], "entry"), block("Shape", rows, step="entries"), step="all_entries")
    places = transpose(block, block("NonZero", ones, step="entry_places"), (1, 0), "entry_rows")
    return cut(block, places, [1], [0], [1], step="image")


def _numbers(block: Block, count: int) -> Array:
    """0, 1, 2, ... in a constant that may be refused."""
    block.affords(count)
    numbers: Array = np.arange(count)
    return numbers


def or_nothing(block: Block, rows: str, scores: str) -> str:
    """Those of (M, 7) rows whose scores, M in any shape, survived; if none did, one (image, -1, ...) for each image.

    The rows of nothing stand behind the others from the start, and are chosen like them. So only what is chosen has a
    size that is known at run time, and that size is never 0: OpenCV 5 dies of GatherND by no indices, and tract takes
    for granted that there is a first row.
    """
    alive = block("Greater", reshape(block, scores, (-1,), "row_scores"), block.floats(LOWEST, "none"), step="is_kept")
    alive = block.as_float(alive, "kept_rows")
    total = reduce(block, "ReduceSum", alive, [0], step="kept_count")
    none = block.as_float(block("Equal", total, block.floats(0.0, "zero")), "is_nothing")
    if block.batched:
        batch = size_of_batch(block, block.bottom)
        images = block("NonZero", block("Expand", block.floats([1.0], "one"), batch, step="ones"), step="images")
        images = block.as_float(transpose(block, images, (1, 0), "images_column"), "numbers")
    else:
        batch = block.integers([block.shape[0]], "images")
        images = block.floats(_numbers(block, block.shape[0])[:, None], "numbers")
    nothing = block(
        "Pad", images, block.integers([0, 0, 0, BOX_ROW - 1], "pads"), block.floats(-1.0, "minus"), mode="constant"
    )
    none = block("Expand", none, batch, step="nothing_rows")
    chosen = block("NonZero", block("Concat", alive, none, axis=0, step="chosen_rows"), step="chosen")
    both = block("Concat", rows, nothing, axis=0, step="rows_or_nothing")
    return block("Gather", both, reshape(block, chosen, (-1,), "chosen_places"), axis=0, step="given")


def _own_boxes(block: Block) -> bool:
    return not block.layer.type.startswith("Yolo") and not DetectionOutput.of(block.layer).share_location


FUNCTIONS: Mapping[str, LayerFunction] = {
    "DetectionOutput": detection_output,
    "DetectionOutputRefine": detection_output,
    "PriorBox": prior_box,
    "PriorBoxClustered": prior_box,
}
