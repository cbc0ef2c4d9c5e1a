"""ONNX's operators of detectors in numpy for the float64 run: onnx's own compute value after value in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array


class NonMaxSuppression(OpRun):
    """Each box that is chosen against those whose first sides meet its own, which an order by these tells.

    Classes are often kept apart by an offset of their boxes, so that hardly any of thousands meet.
    """

    def _run(
        self,
        boxes: Array,
        scores: Array,
        most: Array | None = None,
        overlap: Array | None = None,
        least: Array | None = None,
        *,
        center_point_box: int,
    ) -> tuple[Array]:
        count, limit, low = (0 if given is None or not given.size else given.item() for given in (most, overlap, least))
        found: list[tuple[int, int, int]] = []
        for image, label in np.ndindex(*scores.shape[:2]):
            corners, own = _corners(boxes[image], is_center=bool(center_point_box)), scores[image, label]
            left = np.argsort(-own, kind="stable")  # of equal ones the first counts
            if least is not None and least.size:
                left = left[own[left] > low]
            found += [(image, label, place) for place in _unsuppressed(corners, left, limit, count)]
        return (np.array(found, np.int64).reshape(-1, 3),)


SLACK = 1e-9  # for the rounding of a sum of coordinates


def _unsuppressed(corners: Array, order: Array, limit: float, most: int) -> list[int]:
    """The boxes that are chosen, the best first.

    Args:
        corners: (boxes, 2, 2), the low and the high corner of each.
        order: places of boxes, the best first.
        limit: a box that overlaps a better one by more is none; of a negative one each is looked at.
        most: how many are chosen.
    """
    rising = np.argsort(corners[:, 0, 0], kind="stable")
    rank = np.empty_like(rising)
    rank[rising] = np.arange(len(rising))
    corners = corners[rising]
    starts, widest = corners[:, 0, 0], np.fmax.reduce(corners[:, 1, 0] - corners[:, 0, 0], initial=0.0)
    dead, chosen = np.zeros(len(corners), bool), list[int]()
    for place, at in zip(order.tolist(), rank[order].tolist(), strict=True):
        if len(chosen) >= most:
            break
        if not dead[at]:
            chosen.append(place)
            box = corners[at]
            first = box[0, 0] - widest - SLACK * (abs(box[0, 0]) + widest)  # what begins before it ends before the box
            near = slice(*np.searchsorted(starts, [first, box[1, 0]]) if limit >= 0 else (None,))
            dead[near] |= _overlaps(box, corners[near]) > limit
    return chosen


class RoiAlign(OpRun):
    """The average, or the largest term, of bilinear samples in each bin of a region, as onnxruntime takes them.

    With a weight `w` of each row and column, `y = w_rows @ x @ w_columns`. Regions lie half a pixel lower from opset 16
    on, where the mode is `half_pixel`; otherwise one has a side of 1 at least.
    """

    def _run(
        self,
        x: Array,
        regions: Array,
        images: Array,
        *,
        mode: str,
        output_height: int,
        output_width: int,
        sampling_ratio: int,
        spatial_scale: float,
        coordinate_transformation_mode: str,
    ) -> tuple[Array]:
        aligned = coordinate_transformation_mode == "half_pixel" and self.run_params["opsets"][""] >= 16
        bins = np.array([output_height, output_width])
        y = np.zeros((len(regions), x.shape[1], *bins), x.dtype)
        for place, (region, image) in enumerate(zip(regions, images.tolist(), strict=True)):
            low, high = (region * spatial_scale - 0.5 * aligned).reshape(2, 2)[:, ::-1]
            sides = high - low if aligned else np.maximum(high - low, 1.0)
            grid = [sampling_ratio] * 2 if sampling_ratio > 0 else np.ceil(sides / bins).astype(int).clip(0).tolist()
            if not all(grid):
                continue
            rows, columns = map(_Taps.of, low, sides, bins.tolist(), grid, x.shape[2:])
            if mode.lower() == "avg":
                y[place] = rows.averaging @ x[image][:, rows.read, columns.read] @ columns.averaging.T
            else:
                terms = np.max(
                    [
                        x[image][:, one[:, np.newaxis], other] * (weight[:, np.newaxis] * factor)
                        for one, weight in rows.ends
                        for other, factor in columns.ends
                    ],
                    axis=0,
                )
                y[place] = terms.reshape(-1, bins[0], grid[0], bins[1], grid[1]).max(axis=(2, 4))
        return (y,)


class MaxRoiPool(OpRun):
    """The largest value in each bin of a region whose corners are rounded, halves away from 0; 0 in an empty bin.

    Where a bin begins and ends is told in float32, as onnxruntime does (`roi_pool.cc`).
    """

    def _run(self, x: Array, regions: Array, *, pooled_shape: Sequence[int], spatial_scale: float) -> tuple[Array]:
        y = np.zeros((len(regions), x.shape[1], *pooled_shape), x.dtype)
        bins, sizes = np.array(pooled_shape, np.float32), np.array(x.shape[2:])
        for found, (image, *corners) in zip(y, regions, strict=True):
            places = np.array(corners).reshape(2, 2)[:, ::-1] * spatial_scale
            low, high = np.trunc(places + np.copysign(0.5, places)).astype(int)
            side = np.maximum(high - low + 1, 1).astype(np.float32) / bins
            rows, columns = (
                [
                    slice(*np.clip([first + int(np.floor(one * size)), first + int(np.ceil((one + 1) * size))], 0, end))
                    for one in np.arange(count, dtype=np.float32)
                ]
                for first, size, count, end in zip(low, side, pooled_shape, sizes, strict=True)
            )
            for row, along in enumerate(rows):
                if along.stop > along.start:
                    line = x[int(image)][:, along].max(axis=1)
                    for column, part in enumerate(columns):
                        if part.stop > part.start:
                            found[:, row, column] = line[:, part].max(axis=1)
        return (y,)


class _Taps(NamedTuple):
    """The samples of a region along one axis: which values each lies between, and how much it takes of either."""

    low: Array
    high: Array
    weights: Array
    bins: int

    @classmethod
    def of(cls, start: float, side: float, bins: int, grid: int, size: int) -> _Taps:
        """Of so many bins with so many samples each; what lies more than a pixel outside is 0."""
        places = start + (np.arange(bins * grid) + 0.5) * (side / (bins * grid))
        inside = (places >= -1) & (places <= size)
        places = places.clip(0, size - 1)
        low = places.astype(int)
        part = places - low
        return cls(low, np.minimum(low + 1, size - 1), np.array([1 - part, part]) * inside, bins)

    @property
    def ends(self) -> list[tuple[Array, Array]]:
        """The values below, and those above, each with its weight."""
        return [(self.low, self.weights[0]), (self.high, self.weights[1])]

    @property
    def read(self) -> slice:
        """All that is read."""
        return slice(self.low.min(), self.high.max() + 1)

    @property
    def averaging(self) -> Array:
        """(bins, values that are read): what each bin takes of each value."""
        first = self.low.min()
        taken = np.zeros((self.bins, self.high.max() + 1 - first))
        grid = len(self.low) // self.bins
        for at, weights in self.ends:
            np.add.at(taken, (np.arange(len(at)) // grid, at - first), weights / grid)
        return taken


def _corners(boxes: Array, *, is_center: bool) -> Array:
    """The low and the high corner of each box, (boxes, 2, 2): of two in any order, or of its centre and its sides."""
    first, second = boxes[:, :2], boxes[:, 2:]
    both = (
        (first - second / 2, first + second / 2)
        if is_center
        else (np.minimum(first, second), np.maximum(first, second))
    )
    return np.stack(both, axis=1)


def _overlaps(one: Array, others: Array) -> Array:
    """The intersection of a box with each of others over their union; NaN where neither has an area."""
    sides = np.minimum(one[1], others[:, 1]) - np.maximum(one[0], others[:, 0])
    shared = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(shared / ((one[1] - one[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - shared))
