"""The table of blobs, as every rendering shows it: all read the table of metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bnfold.compare.metrics import METRICS, Metric
from bnfold.compare.records import BlobDiff, Place
from bnfold.report import figures


def columns(rendering: str, blobs: Sequence[BlobDiff]) -> list[Metric]:
    """The metrics that a rendering shows of these blobs; one that is seldom needed only where it says something."""
    return [
        metric for metric in offered(rendering) if not metric.seldom or any(blob.figures[metric.name] for blob in blobs)
    ]


def offered(rendering: str) -> list[Metric]:
    """The metrics that a rendering has columns for."""
    return [metric for metric in METRICS if rendering in metric.shown]


def cell(metric: Metric, blob: BlobDiff) -> str:
    """What one blob's cell of a column says; of a blob that is finite nowhere, no figure that would look equal."""
    if blob.says_nothing and metric.written in FIGURES:
        return "-"
    return WRITTEN[metric.written](blob.figures[metric.name])


def place(found: Place | None) -> str:
    """Where a value is: the sample's name, and the index in it.

    Examples:
        >>> place(Place(3, "cat.png", (0, 7, 7)))
        'cat.png [0, 7, 7]'
    """
    return "" if found is None else f"{found.name} {list(found.index)}"


FIGURES = frozenset({"decibels", "near_one", "ordinary", "percent", "small"})
WRITTEN: dict[str, Callable[[Any], str]] = {
    "decibels": figures.decibels,
    "near_one": figures.near_one,
    "number": lambda value: "" if value is None else f"{value:,}",
    "ordinary": figures.ordinary,
    "percent": figures.percent,
    "place": place,
    "small": figures.small,
}
