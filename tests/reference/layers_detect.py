"""Layers of detectors: prior boxes, and the decoding of predictions into detections."""

from __future__ import annotations

import numpy as np

from reference.binary import Array
from reference.layers_linear import sigmoid
from reference.text import Message

CODES = {1: "CORNER", 2: "CENTER_SIZE", 3: "CORNER_SIZE"}


def prior_box(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """At each cell, per min_size m: a square m, a square sqrt(m*max), and m*sqrt(r) x m/sqrt(r) per ratio r."""
    param = layer.sub("prior_box_param")
    sizes: list[tuple[float, float]] = []
    if param.flag("faceboxes", False):
        moves: list[tuple[float, float]] = []
        for size in map(int, param.numbers("min_size")):
            step, numbers = {32: (8, range(-2, 2)), 64: (16, range(-1, 1))}.get(size, (0, range(1)))
            moves += [(x * step, y * step) for y in numbers for x in numbers]
            sizes += [(size - 1, size - 1)] * len(numbers) ** 2
        return [priors(param, bottoms, sizes, moves)]
    if widths := param.numbers("box_width"):
        return [priors(param, bottoms, list(zip(widths, param.numbers("box_height"), strict=True)))]
    largest, keras = param.numbers("max_size"), param.flag("keras", False)
    tensorflow = param.flag("tf", False) and not keras
    insets: list[float] = []
    for i, smallest in enumerate(map(int, param.numbers("min_size"))):
        boxes: list[tuple[float, float]] = [(smallest, smallest)]
        boxes += [(smallest * ratio**0.5, smallest / ratio**0.5) for ratio in aspect_ratios(param)]
        if largest:
            place = len(boxes) if tensorflow else 0 if keras else 1
            boxes.insert(place, ((smallest * int(largest[i])) ** 0.5,) * 2)
        insets += [0.05 if tensorflow and smallest == 60 else 0, *[0] * (len(boxes) - 1)]
        sizes += boxes
    return [priors(param, bottoms, sizes, insets=insets)]


def aspect_ratios(param: Message) -> list[float]:
    """The ratios other than 1, each once, each followed by its inverse with `flip`."""
    ratios = [1.0]
    for ratio in param.numbers("aspect_ratio"):
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flag("flip", True) else [ratio]
    return [ratio for ratio in ratios if abs(ratio - 1) >= 1e-6]


def prior_box_clustered(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """At each cell one box per given width and height."""
    param = layer.sub("prior_box_param")
    return [priors(param, bottoms, list(zip(param.numbers("width"), param.numbers("height"), strict=True)))]


def priors(
    param: Message,
    bottoms: list[Array],
    sizes: list[tuple[float, float]],
    moves: list[tuple[float, float]] | None = None,
    insets: list[float] | None = None,
) -> Array:
    """(1, 2, H*W*boxes*4): boxes (xmin, ymin, xmax, ymax) relative to the image; then the variances.

    Each box lies `moves` (x, y) away from its cell's centre, and begins and ends `insets` of the image inside.
    """
    rows, columns = bottoms[0].shape[2:]
    square = param.integer("img_size", 0)
    image_h = param.integer("img_h", square) or bottoms[1].shape[2]
    image_w = param.integer("img_w", square) or bottoms[1].shape[3]
    step = param.number("step", 0)
    step_h = param.number("step_h", step) or image_h / rows
    step_w = param.number("step_w", step) or image_w / columns
    offset = param.number("offset", 0.5)
    offset_h, offset_w = param.number("offset_h", offset), param.number("offset_w", offset)

    width, height = np.array(sizes).T
    aside, down = np.array(moves or [(0, 0)]).T
    x = ((np.arange(columns) + offset_w) * step_w).reshape(1, -1, 1) + aside
    y = ((np.arange(rows) + offset_h) * step_h).reshape(-1, 1, 1) + down
    inset = np.array(insets or [0])
    corners = [
        (x - width / 2) / image_w + inset,
        (y - height / 2) / image_h + inset,
        (x + width / 2) / image_w - inset,
        (y + height / 2) / image_h - inset,
    ]
    if param.flag("yx_order", False):
        corners = [corners[i] for i in (1, 0, 3, 2)]
    boxes = np.stack([np.broadcast_to(corner, (rows, columns, len(sizes))) for corner in corners], axis=-1)
    if param.flag("clip", False):
        boxes = boxes.clip(0, 1)
    variance = param.numbers("variance") or [0.1]
    variances = np.broadcast_to(variance, boxes.shape)
    return np.stack([boxes.reshape(-1), variances.reshape(-1)])[np.newaxis].astype(bottoms[0].dtype)


def detection_output(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """SSD: decode, suppress per class, keep the best keep_top_k of an image; rows in order of image, class, score."""
    param = layer.sub("detection_output_param")
    parts = param.integer("nbottom", 6)
    if len(bottoms) in (2 * parts + 1, 3 * parts):
        bottoms = from_parts(param, bottoms, parts)
    classes, background = param.integer("num_classes", 0), param.integer("background_label_id", 0)
    prior, variance = bottoms[2][:1].reshape(2, -1, 4)  # the first image's, for all
    batch, count = len(bottoms[0]), len(prior)
    shared = param.flag("share_location", True)
    locations = bottoms[0].reshape(batch, count, 1 if shared else classes, 4)
    scores = bottoms[1].reshape(batch, count, classes)
    refined = len(bottoms) == 5 < parts
    if refined:
        nothing = bottoms[3].reshape(batch, count, 2)[:, :, 1] < np.float32(param.number("objectness_score", 0.01))
        scores = np.where(nothing[:, :, None], np.eye(1, classes)[None], scores)
    keep_top_k = param.integer("keep_top_k", -1)

    rows = []
    for image in range(batch):
        kept = []
        for label in range(classes):
            if label == background:
                continue
            start = decoded(bottoms[4][image].reshape(count, 4), prior, variance, param) if refined else prior
            boxes = decoded(locations[image, :, 0 if shared else label], start, variance, param)
            score = scores[image, :, label]
            kept += [[image, label, score[i], *boxes[i]] for i in suppressed(boxes, score, param)]
        if 0 <= keep_top_k < len(kept):
            best = sorted(kept, key=lambda row: -row[2])[:keep_top_k]
            kept = sorted(best, key=lambda row: row[1])  # stable: within a class still by score
        rows += kept
    return [detections(rows, batch, bottoms[0])]


def from_parts(param: Message, bottoms: list[Array], parts: int) -> list[Array]:
    """The three bottoms of SSD from Synopsys', by plane: confidences, then locations, then priors, of one image."""
    classes, shared = param.integer("num_classes", 0), param.flag("share_location", True)
    by_ratio, by_plane = param.flag("ratio_permute", False), param.flag("no_permute", False)
    locations, confidences = [], []
    order: list[int] = []
    for part in range(parts):
        confidence, location = bottoms[part][0], bottoms[parts + part][0]
        ratios = 1
        if by_plane:  # [ratio][4][y][x] and [class][ratio][y*x]
            ratios = len(location) // 4
            location = location.reshape(ratios, 4, -1).transpose(0, 2, 1).reshape(-1, 4)
            confidence = confidence.reshape(classes, -1).T
        elif by_ratio:  # [4][box] and [class][box]
            ratios = param.integer(f"ratio{part}", 3 if part == 0 else 6)
            location, confidence = location.reshape(4, -1).T, confidence.reshape(classes, -1).T
        confidences.append(confidence.reshape(-1, classes))
        locations.append(location.reshape(-1, 4 if shared else 4 * classes))
        cells = len(confidences[-1]) // ratios
        # Where priors lie [y][x][ratio], and boxes [ratio][y][x].
        start = len(order)
        order += [start + cell * ratios + ratio for ratio in range(ratios) for cell in range(cells)]
    boxes, variances = np.concatenate(bottoms[2 * parts :], 2)[0].reshape(2, -1, 4)
    priors = np.stack([boxes[order].reshape(-1), variances.reshape(-1)])
    return [np.concatenate(locations).reshape(1, -1), np.concatenate(confidences).reshape(1, -1), priors[None]]


def detections(rows: list[list[float]], batch: int, like: Array) -> Array:
    """(1, 1, rows, 7); when nothing at all was found, one row (image, -1, -1, -1, -1, -1, -1) per image."""
    rows = rows or [[image, *[-1] * 6] for image in range(batch)]
    return np.array(rows, like.dtype).reshape(1, 1, -1, 7)


def decoded(location: Array, prior: Array, variance: Array, param: Message) -> Array:
    """Boxes (xmin, ymin, xmax, ymax) from predictions relative to their priors."""
    code = param.enum("code_type", "CORNER", CODES)
    offset: Array = location if param.flag("variance_encoded_in_target", False) else location * variance
    size = prior[:, 2:] - prior[:, :2]
    if code in ("CORNER", "CORNER_SIZE"):
        corners: Array = prior + (offset if code == "CORNER" else offset * np.tile(size, 2))
        return corners
    centre = offset[:, :2] * size + (prior[:, :2] + prior[:, 2:]) / 2
    half = np.exp(offset[:, 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def suppressed(boxes: Array, score: Array, param: Message) -> list[int]:
    """Greedy suppression: the boxes that stay, best first, of the top_k above confidence_threshold."""
    nms = param.sub("nms_param")
    threshold, eta, top_k = nms.number("nms_threshold", 0.3), nms.number("eta", 1), nms.integer("top_k", -1)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > param.number("confidence_threshold", LOWEST)]
    kept: list[int] = []
    for i in order[: top_k if top_k >= 0 else None]:
        if not kept or overlap(boxes[i], boxes[kept]).max() <= threshold:
            kept.append(int(i))
            threshold *= eta if eta < 1 and threshold > 0.5 else 1
    return kept


def overlap(box: Array, others: Array) -> Array:
    """Intersection over union; a box whose corners are swapped has no area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    union = area(box) + area(others) - shared
    ratio: Array = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return ratio


def area(boxes: Array) -> Array:
    size = boxes[..., 2:] - boxes[..., :2]
    return np.where((size < 0).any(axis=-1), 0, size.prod(axis=-1))


def yolo_detection_output(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """YOLO v2: channels (box, [x, y, w, h, object, classes...]); suppression across classes, scales and images.

    x = (column + sigmoid(x))/W, w = exp(w)*bias/W; score = sigmoid(object)*max softmax(classes), kept if >= threshold;
    label is the class + 1. A second bottom has the same biases.
    """
    param = layer.sub("yolo_detection_output_param")
    parts = [decoded_cells(bottom, param) for bottom in bottoms]
    corners, score, label = (np.concatenate(part) for part in zip(*parts, strict=True))

    rows: list[list[float]] = []
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if score[i] < param.number("confidence_threshold", 0.01):
            break
        if not kept or overlap(corners[i], corners[kept]).max() < param.number("nms_threshold", 0.45):
            kept.append(int(i))
            rows.append([0, label[i], score[i], *corners[i]])
    return [detections(rows, len(bottoms[0]), bottoms[0])]


def decoded_cells(bottom: Array, param: Message) -> tuple[Array, Array, Array]:
    """Corners, scores and labels of every box of a square plane, by image, row, column, box."""
    boxes_per_cell = param.integer("num_box", len(param.numbers("biases")) // 2 or 5)
    classes = param.integer("num_classes", 20)
    side = bottom.shape[3]
    cells = bottom.transpose(0, 2, 3, 1).reshape(len(bottom), side, side, boxes_per_cell, -1)
    biases = np.array(param.numbers("biases")).reshape(-1, 2)[:boxes_per_cell]
    column, row = np.arange(side).reshape(1, -1, 1), np.arange(side).reshape(-1, 1, 1)
    x = (column + sigmoid(cells[..., 0])) / side
    y = (row + sigmoid(cells[..., 1])) / side
    w, h = np.moveaxis(np.exp(cells[..., 2:4]) * biases / side, -1, 0)
    powers = np.exp(cells[..., 5 : 5 + classes] - cells[..., 5 : 5 + classes].max(-1, keepdims=True))
    score = sigmoid(cells[..., 4]) * (powers / powers.sum(-1, keepdims=True)).max(-1)
    label = powers.argmax(-1) + 1
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1).reshape(-1, 4)
    return corners, score.reshape(-1), label.reshape(-1)


LOWEST = -float(np.finfo(np.float32).max)
