"""The two charts of the page, as geometry: where axes, ticks, lines and bars lie. `charts.html` draws them as SVG.

Both have a logarithmic axis of errors. An error of 0 (equal bit for bit) has no logarithm and lies in a band of its own
below the axis, one that is not finite in a band above it; neither is drawn as if it were the smallest decade.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnfold.compare.records import BlobDiff, DiffReport, Histogram
from bnfold.errors import counted
from bnfold.report.figures import small

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 14, 44
BAND = 26  # height of the band for errors of 0, and of the one for errors that are not finite
BAR_WIDTH, BAR_HEIGHT = 480, 240
LABELS = 12  # ticks of the horizontal axis of the depth chart, at most


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis, in pixels."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """One blob's error; `row` is the number of its row in the table, `text` what is shown when one points at it."""

    x: float
    y: float
    row: int
    text: str


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One error of all blobs; `style` is its CSS class."""

    name: str
    style: str
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class DepthChart:
    """The errors through the depth of the net, in pixels of a picture of `WIDTH` x `HEIGHT`."""

    lines: tuple[ErrorLine, ...]
    columns: tuple[Tick, ...]
    decades: tuple[Tick, ...]
    tolerance: Tick
    zero: float | None
    infinite: float | None
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM
    band: int = BAND
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Bar:
    """Values with errors of one size, in pixels."""

    x: float
    y: float
    width: float
    height: float
    text: str
    zero: bool


@dataclass(frozen=True, slots=True)
class HistogramChart:
    """How many values have an error of which size, in pixels of a picture of `BAR_WIDTH` x `BAR_HEIGHT`."""

    bars: tuple[Bar, ...]
    columns: tuple[Tick, ...]
    counts: tuple[Tick, ...]
    left: float = LEFT
    right: float = BAR_WIDTH - RIGHT
    bottom: float = BAR_HEIGHT - BOTTOM
    width: int = BAR_WIDTH
    height: int = BAR_HEIGHT


def depth_chart(report: DiffReport) -> DepthChart:
    """The largest and the relative L2 error of every blob, in order of execution, with the tolerance as a line.

    A blob that is finite nowhere has no error: it is left out.
    """
    rows = [row for row, blob in enumerate(report.blobs) if not blob.says_nothing]
    blobs = [report.blobs[row] for row in rows]
    drawn = (
        ("largest error, of the blob's range", "largest", [blob.judged for blob in blobs]),
        ("relative L2 error", "l2", [blob.l2_rel for blob in blobs]),
    )
    errors = [error for _, _, values in drawn for error in values]
    finite = [error for error in [*errors, report.tolerance] if 0 < error < math.inf] or [1.0]
    low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
    high += high == low
    zero = HEIGHT - BOTTOM - BAND / 2 if any(error == 0 for error in errors) or report.tolerance == 0 else None
    infinite = TOP + BAND / 2 if any(not math.isfinite(error) for error in errors) else None
    top = TOP + (BAND if infinite is not None else 0)
    bottom = HEIGHT - BOTTOM - (BAND if zero is not None else 0)

    def height_of(error: float) -> float:
        if error == 0 and zero is not None:
            return zero
        if not math.isfinite(error) and infinite is not None:
            return infinite
        return level(math.log10(error))

    def level(decade: float) -> float:
        return round(bottom - (decade - low) / (high - low) * (bottom - top), 1)

    step = (WIDTH - RIGHT - LEFT) / max(len(blobs), 1)
    places = [round(LEFT + (index + 0.5) * step, 1) for index in range(len(blobs))]

    def line(name: str, style: str, values: Sequence[float]) -> ErrorLine:
        points = tuple(
            Point(x, height_of(value), row, f"{blob.blob}: {name} {small(value)}")
            for row, x, value, blob in zip(rows, places, values, blobs, strict=True)
        )
        path = "M" + "L".join(f"{point.x} {point.y}" for point in points) if points else ""
        return ErrorLine(name, style, path, points)

    return DepthChart(
        lines=tuple(line(*one) for one in drawn),
        columns=tuple(Tick(places[index], str(blobs[index].depth)) for index in _spread(len(blobs), LABELS)),
        decades=tuple(Tick(level(decade), f"1e{decade}") for decade in range(low, high + 1, 2)),
        tolerance=Tick(height_of(report.tolerance), f"tolerance {report.tolerance:g}"),
        zero=zero,
        infinite=infinite,
    )


def _spread(count: int, most: int) -> range:
    """At most `most` numbers below `count`, equally far apart."""
    return range(0, count, max(1, math.ceil(count / most)))


def histogram_chart(blob: BlobDiff) -> HistogramChart:
    """How many values have an error of which size, one bar for half a decade; the exact zeros stand apart."""
    bars = halves(blob.histogram)
    largest = max((number for _, number in bars), default=0) or 1
    bottom, slot = BAR_HEIGHT - BOTTOM, (BAR_WIDTH - RIGHT - LEFT) / (len(bars) + 0.5)

    def left_of(place: int) -> float:
        return round(LEFT + slot * (place + (0.5 if place else 0)), 1)

    drawn = []
    for place, (label, number) in enumerate(bars):
        size = round(number / largest * (bottom - TOP), 1)
        equal = label == "0"
        text = f"{'equal bit for bit' if equal else f'|e| from {label}'}: {counted(number, 'value')}"
        drawn.append(Bar(left_of(place), bottom - size, round(slot * 0.86, 1), size, text, equal))
    # Whole decades alone are labelled, every second one where there are many; half of one is written beside no other.
    whole = [place for place, (label, _) in enumerate(bars) if place and label[0] == "1"]
    labelled = [0, *(whole or range(1, len(bars)))[:: 2 if len(whole) > 6 else 1]]
    ticks = (0.5, 1.0) if largest > 1 else (1.0,)
    return HistogramChart(
        bars=tuple(drawn),
        columns=tuple(Tick(round(left_of(place) + slot * 0.43, 1), bars[place][0]) for place in labelled),
        counts=tuple(Tick(round(bottom - share * (bottom - TOP), 1), f"{round(share * largest):,}") for share in ticks),
    )


def halves(histogram: Histogram) -> list[tuple[str, int]]:
    """The histogram's bins put together to half decades, the exact zeros first; label and count.

    Examples:
        >>> halves(Histogram(5, (1.9e-7, 2.4e-7, 3.6e-7, 4.8e-7), (1, 2, 3)))
        [('0', 5), ('1e-7', 3), ('3e-7', 3)]
    """
    bars: dict[int, int] = {}
    for edge, count in zip(histogram.edges, histogram.counts, strict=False):
        half = math.floor(math.log10(edge) * 2 + 1e-9)
        bars[half] = bars.get(half, 0) + count
    shown = range(min(bars), max(bars) + 1) if bars else range(0)
    labels = [(f"{1 if half % 2 == 0 else 3}e{half // 2}", bars.get(half, 0)) for half in shown]
    return [("0", histogram.zero), *labels]
