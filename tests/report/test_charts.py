"""The charts of the page: where a point lies says its error, and what has no logarithm has a place of its own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from report.runs import failed

from bnfold.compare.records import BlobDiff, DiffReport, Histogram
from bnfold.report.charts import BAND, DepthChart, depth_chart, histogram_chart


def changed(blob: BlobDiff, **figures: object) -> BlobDiff:
    return replace(blob, figures={**blob.figures, **figures})


def with_errors(*errors: float, tolerance: float = 1e-4) -> DiffReport:
    report = failed()
    blobs = tuple(changed(report.blobs[0], judged=error, l2_rel=error / 2) for error in errors)
    return replace(report, blobs=blobs, tolerance=tolerance)


def heights(chart: DepthChart) -> list[float]:
    return [point.y for point in chart.lines[0].points]


def test_ten_times_the_error_is_one_decade_higher() -> None:
    chart = depth_chart(with_errors(1e-7, 1e-6, 1e-5))
    first, second, third = heights(chart)
    assert first > second > third
    assert first - second == pytest.approx(second - third, abs=0.2)
    assert chart.zero is None
    assert chart.infinite is None


def test_an_error_of_0_lies_in_a_band_below_every_decade() -> None:
    chart = depth_chart(with_errors(0.0, 1e-9, 1e-3))
    zero, small, _ = heights(chart)
    assert zero == chart.zero
    assert zero - small >= BAND / 2
    assert all(tick.at < chart.bottom - BAND + 0.1 for tick in chart.decades)


def test_an_error_that_is_not_finite_lies_in_a_band_above_every_decade() -> None:
    chart = depth_chart(with_errors(math.inf, 1e-3, math.nan))
    infinite, finite, undefined = heights(chart)
    assert infinite == undefined == chart.infinite
    assert infinite < min(tick.at for tick in chart.decades)
    assert finite > infinite


def test_equal_networks_have_a_chart_too() -> None:
    chart = depth_chart(with_errors(0.0, 0.0, tolerance=0.0))
    assert set(heights(chart)) == {chart.zero} == {chart.tolerance.at}


def test_a_blob_that_is_finite_nowhere_has_no_error() -> None:
    report = with_errors(1e-6, 0.0, 1e-5)
    nowhere = changed(report.blobs[1], finite=0, max_abs=0.0)
    chart = depth_chart(replace(report, blobs=(report.blobs[0], nowhere, report.blobs[2])))
    assert [point.row for point in chart.lines[0].points] == [0, 2]
    assert chart.zero is None


def test_every_second_decade_is_labelled() -> None:
    labels = [tick.text for tick in depth_chart(with_errors(2e-9, 1e-3)).decades]
    assert labels == ["1e-9", "1e-7", "1e-5", "1e-3"]


def test_a_point_says_its_blob_and_error_and_leads_to_its_row() -> None:
    report = failed()
    for row, point in enumerate(depth_chart(report).lines[0].points):
        assert point.row == row
        assert point.text.startswith(f"{report.blobs[row].blob}: ")


def test_bars_are_as_high_as_their_counts_and_the_zeros_stand_apart() -> None:
    histogram = Histogram(30, (1.1e-7, 3.3e-7, 1.1e-6, 3.1e-6), (10, 0, 20))
    blob = changed(failed().blobs[0], histogram=histogram)
    chart = histogram_chart(blob)
    assert [bar.zero for bar in chart.bars] == [True, False, False, False]
    tallest = chart.bars[0].height
    assert [bar.height / tallest for bar in chart.bars] == pytest.approx([1, 1 / 3, 0, 2 / 3], abs=0.01)
    gaps = [right.x - left.x for left, right in zip(chart.bars, chart.bars[1:], strict=False)]
    assert gaps[0] > 1.4 * gaps[1]
    assert [tick.text for tick in chart.columns] == ["0", "1e-7", "1e-6"]


@pytest.mark.parametrize(("error", "low", "high"), [(1.5e308, "1e-5", "1e309"), (1e-323, "1e-324", "1e-4")])
def test_errors_at_the_ends_of_float64_have_their_decades(error: float, low: str, high: str) -> None:
    chart = depth_chart(with_errors(error, 1e-4))
    assert (chart.decades[0].text, chart.decades[-1].text) == (low, high)
    assert chart.decades[0].at > chart.decades[-1].at
