"""Whether two detectors find the same boxes: partners by class and overlap, and those without a partner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnfold.caffe.layers.detection import BOX_ROW
from bnfold.compare.merging import BY_MAX, BY_SUM, keep_worst, rule
from bnfold.compare.models import Model
from bnfold.compare.records import Box, DetectorDiff, Stray
from bnfold.compare.unrunnable_layers import layer_settings
from bnfold.net import Array, Shape

MIN_IOU = 0.5
SLACK = 1e-4
"""Of the extent of all boxes: what corners may differ by where a box is so thin that areas are rounding errors."""
STRAYS = 1000  # of either side that are listed: those with the highest scores; all are counted
DETECTION = ("DetectionOutput", "DetectionOutputRefine")  # also the end of YoloDetectionOutput


def _surest(first: list[Stray], second: list[Stray]) -> list[Stray]:
    """The strays with the highest scores."""
    return keep_worst(first, second, _order, STRAYS)


def _order(stray: Stray) -> tuple[float, int, int, tuple[float, ...]]:
    score = stray.box.score
    return (-score if score == score else -np.inf, stray.sample, stray.box.label, stray.box.corners)


def _place(stray: Stray) -> tuple[int, int, float, tuple[float, ...]]:
    return stray.sample, stray.box.label, *_order(stray)[:1], stray.box.corners


@dataclass(slots=True)
class Detection:
    """What is counted of one pair of detection blobs, shape (1, 1, K, 7) with K as the boxes come.

    Args:
        blob: the output, as the reference calls it.
        min_iou: the overlap that partners need.
    """

    blob: str
    min_iou: float = MIN_IOU
    counts: Array = field(default_factory=lambda: np.zeros(2, np.int64), metadata=BY_SUM)
    matched: int = field(default=0, metadata=BY_SUM)
    sum_iou: float = field(default=0.0, metadata=BY_SUM)
    max_score_diff: float = field(default=0.0, metadata=BY_MAX)
    missed: list[Stray] = field(default_factory=list, metadata=rule(_surest))
    extra: list[Stray] = field(default_factory=list, metadata=rule(_surest))
    boxless: int = field(default=0, metadata=BY_SUM)  # batches whose rows are no boxes

    def add(
        self, reference: Array, candidate: Array, numbers: range, names: Sequence[str], batch: int = 0
    ) -> tuple[Array, Array] | None:
        """Match one batch; of more than there are `numbers` the images behind them are padding.

        Returns:
            The rows of the reference that have a partner, and the partners, both (matched, 7), for `BlobError`; None
            where a row is no box, so that the blob, whose shape alone is a detector's, is compared as it stands.
        """
        images = max(batch, len(numbers))
        if not (only_boxes(reference, images) and only_boxes(candidate, images)):
            self.boxless += 1
            return None
        sides = real_rows(reference, len(numbers)), real_rows(candidate, len(numbers))
        self.counts += [len(side) for side in sides]
        pairs, overlaps = match(sides[0], sides[1], self.min_iou)
        self.matched += len(pairs)
        self.sum_iou += sum(overlaps)
        left, right = ([pair[side] for pair in pairs] for side in (0, 1))
        ours, theirs = sides[0][left], sides[1][right]
        if pairs:
            self.max_score_diff = max(self.max_score_diff, _apart(ours[:, 2], theirs[:, 2]))
        self.missed = _surest(self.missed, _strays(sides[0], left, numbers, names))
        self.extra = _surest(self.extra, _strays(sides[1], right, numbers, names))
        return ours, theirs

    @property
    def is_one(self) -> bool:
        """Whether the rows are boxes, as far as there were any."""
        return bool(self.counts.any()) or not self.boxless

    def result(self) -> DetectorDiff:
        """What was counted, as a record."""
        mean = self.sum_iou / self.matched if self.matched else 1.0
        ours, theirs = self.counts.tolist()
        missed, extra = (tuple(sorted(strays, key=_place)) for strays in (self.missed, self.extra))
        return DetectorDiff(
            self.blob, self.min_iou, ours, theirs, self.matched, mean, self.max_score_diff, missed, extra
        )


def _apart(ours: Array, theirs: Array) -> float:
    """The largest difference of two scores; equal ones are not apart, though they be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs))
    return float(np.fmax.reduce(apart))


def _strays(rows: Array, used: Sequence[int], numbers: range, names: Sequence[str]) -> list[Stray]:
    """The rows without a partner, as records."""
    alone = [rows[place] for place in sorted(set(range(len(rows))) - set(used))]
    return [Stray(numbers[int(row[0])], names[int(row[0])], box(row)) for row in alone]


def only_boxes(blob: Array, images: int) -> bool:
    """Whether each row is a detection in one of so many images, or stands for "nothing": all 0 or -1 from the label on.

    An ONNX model does not say that it detects, and a plane of one image that is seven wide has a detector's shape.
    """
    rows = np.asarray(blob, np.float64).reshape(-1, BOX_ROW)
    nothing = (rows[:, 1:] == rows[:, 1:2]).all(axis=1) & np.isin(rows[:, 1], (0, -1))
    whole = (rows[:, :2] >= 0) & (rows[:, :2] == np.floor(rows[:, :2])) & (rows[:, :2] < (images, np.inf))
    return bool((nothing | whole.all(axis=1)).all())


def real_rows(blob: Array, images: int) -> Array:
    """The detections of the first `images` images, (K, 7); the row of -1 or 0 that stands for "nothing" is none."""
    rows = np.asarray(blob, np.float64).reshape(-1, BOX_ROW)
    known = (rows[:, 0] >= 0) & (rows[:, 0] < images) & (rows[:, 1] >= 0) & (rows[:, 1] < np.inf)
    real = known & (rows[:, 1:3] != 0).any(axis=1)
    return np.asarray(rows[real])


def box(row: Array) -> Box:
    """One row as a record."""
    return Box(int(row[1]), float(row[2]), (float(row[3]), float(row[4]), float(row[5]), float(row[6])))


def match(ours: Array, theirs: Array, min_iou: float) -> tuple[list[tuple[int, int]], list[float]]:
    """Partners among (K, 7) and (L, 7) rows, of one image and one class, greedily by overlap: the pair that overlaps
    most goes first, each box has one partner.
    """
    overlap = np.asarray(iou(ours[:, 3:], theirs[:, 3:]))
    overlap[(ours[:, None, :2] != theirs[None, :, :2]).any(axis=2)] = -1
    # Equal rows are partners before others in their place, whose scores differ.
    equal = (ours[:, None] == theirs[None]).all(axis=2)
    pairs, overlaps = [], []
    free_rows, free_columns = set(range(len(ours))), set(range(len(theirs)))
    for place in np.argsort(-(overlap + equal), axis=None, kind="stable").tolist():
        row, column = divmod(place, len(theirs))
        if overlap[row, column] < min_iou:
            break
        if row in free_rows and column in free_columns:
            pairs.append((row, column))
            overlaps.append(float(overlap[row, column]))
            free_rows.remove(row)
            free_columns.remove(column)
    return pairs, overlaps


def iou(ours: Array, theirs: Array) -> Array:
    """Intersection over union of every pair; (K, 4) and (L, 4) corners give (K, L).

    A box without area (a decoder's `exp` underflows, or a border clips it) would overlap with nothing, not even with
    itself one rounding away. So where both are thinner than `SLACK` of the extent of all boxes, each is taken as larger
    by that much on every side, and one that is turned inside out is turned back.
    """
    corners = np.concatenate([ours, theirs]).reshape(-1)
    finite = corners[np.isfinite(corners)]
    with np.errstate(over="ignore", invalid="ignore"):  # YOLO takes exponentials, so a box may have no end
        found = _iou(ours, theirs)
        slack = SLACK * float(np.ptp(finite)) if finite.size else 0.0
        thin, partly = (_thinner(side, slack) for side in (ours, theirs))
        if thin.any() and partly.any():
            found[np.ix_(thin, partly)] = _iou(_grown(ours[thin], slack or 1.0), _grown(theirs[partly], slack or 1.0))
    return found


def _thinner(boxes: Array, slack: float) -> Array:
    """Which boxes have a side of at most `slack`, or are turned inside out."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).min(axis=1) <= slack)


def _grown(boxes: Array, slack: float) -> Array:
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low - slack, high + slack], axis=1)


def _iou(ours: Array, theirs: Array) -> Array:
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    whole = area(ours)[:, None] + area(theirs)[None] - shared
    found = np.nan_to_num(shared / np.where(whole > 0, whole, 1.0), nan=0.0, posinf=0.0)
    equal = (ours[:, None] == theirs[None]).all(axis=2)
    return np.where(equal, 1.0, found)


def area(boxes: Array) -> Array:
    """The areas (K,) of boxes (K, 4), 0 for one that is turned inside out."""
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1))


def detector_reads(model: Model) -> list[str]:
    """What the network's DetectionOutput layers read: scores, places and priors."""
    return [
        bottom
        for blob in model.outputs
        if blob in model.writers and model.writers[blob].type.endswith(DETECTION)
        for bottom in model.reads[blob]
    ]


def same_detector(ours: Model, theirs: Model, blob: str, partner: str) -> bool:
    """Whether the boxes come from one layer in both, with equal thresholds as far as one can see."""
    mine, other = (
        model.net.producer(name) if model.net is not None else None for model, name in ((ours, blob), (theirs, partner))
    )
    if mine is None or not mine.type.endswith(DETECTION):
        return False
    if other is None:  # an ONNX model, which holds the layer as operators
        return True
    return mine.type == other.type and layer_settings(mine) == layer_settings(other)


def find_detections(
    reference: Model, pairs: Mapping[str, str], ours: Mapping[str, Shape], theirs: Mapping[str, Shape]
) -> str | None:
    """The output of a DetectionOutput layer, or an output with rows of seven of an ONNX file, or None; by the shapes of
    either network's blobs.
    """
    for name in reference.outputs:
        shapes = ours.get(name, ()), theirs.get(pairs.get(name, ""), ())
        rows = all(len(shape) == 4 and (*shape[:2], shape[3]) == (1, 1, BOX_ROW) for shape in shapes)
        if rows and (reference.net is None or reference.writers[name].type.endswith(DETECTION)):
            return name
    return None
