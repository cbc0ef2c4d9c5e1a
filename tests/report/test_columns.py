"""The one table of metrics, which every rendering and the documentation read."""

import dataclasses
import math

import pages
import pytest
from report.runs import failed, run_report

from bnfold.compare import metrics
from bnfold.compare.metrics import EVERYWHERE, METRICS, Metric
from bnfold.report import columns, markdown, text
from bnfold.report.data import as_data
from bnfold.report.figures import small
from bnfold.report.grid import printed
from bnfold.report.html import as_html


def test_a_row_of_the_table_is_all_that_a_new_metric_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Metric("rms", "root of squares", "`sqrt(mean e^2)`", lambda e: e.squared_error**0.5, "small", EVERYWHERE)
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, row))
    monkeypatch.setattr(columns, "METRICS", (*METRICS, row))
    run = run_report(failed())
    worst = max(run.proofs[0].outputs, key=lambda blob: blob.rms)
    assert worst.rms > 0
    said = small(worst.rms)
    table = printed(text.as_text(run), 300)
    for shown in (markdown.as_markdown(run), table, as_html(run)):
        assert "root of squares" in shown
        assert said in shown
    blobs = {blob["blob"]: blob for blob in as_data(run)["comparisons"][0]["blobs"]}
    assert blobs[worst.blob]["rms"] == worst.rms
    assert "| `rms` | root of squares | `sqrt(mean e^2)` |" in pages.columns()


def test_a_column_that_says_nothing_is_left_out() -> None:
    (report,) = run_report(failed()).proofs
    assert "NaN ref" not in [metric.heading for metric in columns.columns("page", report.blobs)]
    strange = dataclasses.replace(report.blobs[0], figures={**report.blobs[0].figures, "nan": 3})
    assert "NaN ref" in [metric.heading for metric in columns.columns("page", [strange])]


def test_what_is_no_metric_is_no_attribute_of_a_blob() -> None:
    blob = failed().blobs[0]
    with pytest.raises(AttributeError, match="a compared blob has no 'max_abz'"):
        _ = blob.max_abz


def test_a_blob_that_is_finite_nowhere_has_no_figure_that_looks_like_equality() -> None:
    (report,) = run_report(failed()).proofs
    blob = report.blobs[0]
    nowhere = dataclasses.replace(blob, figures={**blob.figures, "finite": 0, "max_abs": 0.0, "cosine": 1.0})
    alone = dataclasses.replace(blob, figures={**blob.figures, "finite": 0, "max_abs": math.inf})
    by_name = {metric.name: metric for metric in METRICS}
    assert [columns.cell(by_name[name], nowhere) for name in ("max_abs", "judged", "l2_rel", "cosine")] == ["-"] * 4
    assert columns.cell(by_name["max_abs"], alone) == "∞"
    assert columns.cell(by_name["max_abs"], blob) == small(blob.max_abs) != "-"
