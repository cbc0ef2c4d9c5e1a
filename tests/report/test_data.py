"""The report as data: complete, plain, and as the documentation says."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx_models import change, classifier
from report.runs import NASTY, failed, folding, renamed, run_report

from bnfold.compare import records
from bnfold.compare.comparison import compare
from bnfold.report.data import as_data, as_json

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "report.md"


def test_the_report_survives_json() -> None:
    data = as_data(run_report(failed(), fold=folding()))
    assert json.loads(as_json(run_report(failed(), fold=folding()))) == data
    assert (data["schema"], data["version"]) == ("bnfold-report", 2)
    assert data["passed"] is False
    comparison = data["comparisons"][0]
    assert comparison["first_divergent"]["layer"] == "conv1"
    assert comparison["first_divergent"]["channel"] == 4
    assert {gate["name"]: gate["passed"] for gate in comparison["gates"]} == {
        "compared": True,
        "outputs": True,
        "tolerance": False,
        "min-agreement": False,
    }
    assert comparison["classifier"]["top1_drop"] is not None
    assert "picture" not in comparison["classifier"]["flips"][0]
    assert [record["kind"] for record in data["fold"]["records"]] == ["folded", "merged", "dropped", "kept"]


def test_figures_are_those_of_the_records() -> None:
    report = failed()
    comparison = as_data(run_report(report))["comparisons"][0]
    for blob, data in zip(report.blobs, comparison["blobs"], strict=True):
        assert data["max_abs"] == blob.max_abs
        assert data["histogram"]["zero"] + sum(data["histogram"]["counts"]) == blob.values
        assert data["worst"]["index"] == list(blob.worst.index)


def test_what_is_not_finite_is_null() -> None:
    data = as_data(run_report(compare(classifier(), change(classifier(), "conv1_b", (0,), math.nan))))
    assert data["comparisons"][0]["blobs"][0]["max_abs"] is None
    assert data["comparisons"][0]["blobs"][0]["partner_nan"] > 0
    equal = as_data(run_report(compare(classifier(), classifier())))
    assert equal["comparisons"][0]["blobs"][0]["snr_db"] is None
    json.dumps(data, allow_nan=False)


def test_names_are_kept_as_they_are() -> None:
    data = as_data(run_report(renamed()))
    assert NASTY in [blob["blob"] for blob in data["comparisons"][0]["blobs"]]


@pytest.mark.skipif(not DOCUMENTATION.exists(), reason="the documentation is not beside the tests")
def test_every_key_is_documented() -> None:
    words = DOCUMENTATION.read_text()
    keys = set(_keys(as_data(run_report(failed(), fold=folding()))))
    shapes = [
        records.DetectorDiff,
        records.Stray,
        records.Box,
        records.FirstDivergent,
        records.LayerRange,
        records.Flip,
    ]
    keys |= {field.name for shape in shapes for field in dataclasses.fields(shape)} - {"picture"}
    assert {key for key in keys if f"`{key}`" not in words} == set()


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value[:3]:
            yield from _keys(item)
