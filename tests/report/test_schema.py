"""The JSON is what the schemas of docs/ say, and these can say no."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from command_line import FOLD, NET, Run
from onnx_models import classifier
from report.runs import failed, run_report

from bnfold.advice.records import Finding
from bnfold.algebra.records import FoldReport, Record
from bnfold.compare import records
from bnfold.compare.comparison import compare
from bnfold.compare.metrics import METRICS
from bnfold.io.environment import Environment, FileFacts
from bnfold.report.data import ADDED, LEFT_OUT, as_data, as_json
from bnfold.runtime import Execution

DOCS = Path(__file__).parents[2] / "docs"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def validate(data: object, name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.validate(data, schema(name))


def test_the_report_of_a_fold_fits_its_schema(run: Run) -> None:
    outcome = run(*FOLD, "-o", "out.onnx", "--json", "-")
    data = json.loads(outcome.out)
    validate(data, "report")
    assert {file["role"] for file in data["environment"]["files"]} == {"read", "written"}
    assert all(len(file["sha256"]) == 64 for file in data["environment"]["files"])


def test_a_report_has_the_hash_of_every_file_that_was_named(run: Run) -> None:
    np.savez("data.npz", data=np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32))
    outcome = run(*FOLD, "-o", "out.onnx", "--data", "data.npz", "--json", "-")
    files = {file["path"]: file for file in json.loads(outcome.out)["environment"]["files"]}
    assert files["data.npz"]["sha256"] == hashlib.sha256(Path("data.npz").read_bytes()).hexdigest()
    Path("table.txt").write_text("out.onnx out.onnx data.npz\n", encoding="utf-8")
    outcome = run("diff", "--pairs", "table.txt", "--json", "-")
    told = [Path(file["path"]).name for file in json.loads(outcome.out)["environment"]["files"]]
    assert told == ["out.onnx", "out.onnx", "table.txt", "data.npz"]


def test_an_inspection_fits_its_schema(run: Run) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    data = json.loads(run("inspect", *NET, "--json", "-").out)
    validate(data, "inspection")
    data["plan"]["records"][0].update(kind="lost")
    with pytest.raises(jsonschema.ValidationError):
        validate(data, "inspection")


def test_a_plan_is_in_an_inspection_what_a_fold_is_in_a_report() -> None:
    own, reports = schema("inspection")["$defs"], schema("report")["$defs"]
    assert own == {name: reports[name] for name in ("names", "fold")}


def test_the_schema_refuses_what_is_no_report(run: Run) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    data = json.loads(run(*FOLD, "--json", "-").out)
    faults: tuple[Callable[[Any], object], ...] = (
        lambda one: one.pop("verdict"),
        lambda one: one.update(version=1),
        lambda one: one["fold"]["records"][0].update(kind="lost"),
        lambda one: one["comparisons"][0]["gates"][0].pop("sentence"),
    )
    for spoil in faults:
        spoilt = copy.deepcopy(data)
        spoil(spoilt)
        with pytest.raises(jsonschema.ValidationError):
            validate(spoilt, "report")


def test_figures_of_nothing_are_null() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    values = np.full((2, 3, 8, 8), np.nan, np.float32)
    data = json.loads(as_json(run_report(compare(classifier(), classifier(1), values))))
    validate(data, "report")
    (found,) = data["comparisons"]
    silent = [*found["blobs"], *found["samples"]]
    assert {one[name] for one in silent for name in ("max_abs", "max_rel", "l2_rel", "cosine")} == {None}
    assert {gate["name"]: (gate["passed"], gate["value"]) for gate in found["gates"]}["tolerance"] == (False, None)
    assert found["verdict"].startswith("Nothing is proved: output 'prob' has no finite value in common")
    found["blobs"][0]["judged"] = 0.0
    with pytest.raises(jsonschema.ValidationError):
        validate(data, "report")


def test_the_schema_knows_every_kind_of_record() -> None:
    kinds = schema("report")["$defs"]["fold"]["properties"]["records"]["items"]["properties"]["kind"]["enum"]
    assert kinds == sorted(record.__name__.lower() for record in get_args(Record))


FIGURES = {metric.name for metric in METRICS}
PLACES: dict[str, list[type]] = {
    "report/$defs/fold/properties/records/items": list(get_args(Record)),
    "report/$defs/fold": [FoldReport],
    "report/$defs/comparison": [records.DiffReport],
    "report/$defs/comparison/properties/gates/items": [records.Gate],
    "report/$defs/comparison/properties/blobs/items": [records.BlobDiff],
    "report/$defs/comparison/properties/blobs/items/properties/worst": [records.Place],
    "report/$defs/comparison/properties/blobs/items/properties/histogram": [records.Histogram],
    "report/$defs/comparison/properties/samples/items": [records.SampleDiff],
    "report/$defs/comparison/properties/first_divergent": [records.FirstDivergent],
    "report/$defs/comparison/properties/classifier": [records.ClassifierDiff],
    "report/$defs/comparison/properties/classifier/properties/flips/items": [records.Flip],
    "report/$defs/comparison/properties/detector": [records.DetectorDiff],
    "report/$defs/comparison/properties/ranges/items": [records.LayerRange],
    "report/$defs/comparison/properties/uncompared/items": [records.Uncompared],
    "report/$defs/answer": [records.Answer],
    "report/$defs/strays/items": [records.Stray],
    "report/$defs/strays/items/properties/box": [records.Box],
    "report/$defs/execution": [Execution],
    "report/$defs/environment": [Environment],
    "report/$defs/environment/properties/files/items": [FileFacts],
    "inspection/properties/findings/items": [Finding],
}
"""Where a schema describes a record -> the kinds of record that stand there."""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.rpartition("/")[2])
def test_the_schema_describes_every_key_of_a_record(place: str) -> None:
    name, *steps = place.split("/")
    described = schema(name)
    for step in steps:
        described = described[step]
    keys: set[str] = set()
    for kind in PLACES[place]:
        keys |= {field.name for field in dataclasses.fields(kind)} - {*LEFT_OUT.get(kind, ())} | {*ADDED.get(kind, ())}
    keys |= {"kind"} if place.endswith("records/items") else set()
    keys |= FIGURES if records.BlobDiff in PLACES[place] else set()
    assert set(described["properties"]) == keys - ({"shapes"} if FoldReport in PLACES[place] else set())


def test_the_report_of_a_comparison_that_fails_fits_its_schema() -> None:
    validate(as_data(run_report(failed())), "report")


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["fold", "-o", "out.onnx"], ["diff", "missing.onnx"], ["diff", "--pairs"]], ids=" ".join
)
def test_an_error_is_json_where_the_report_is(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments, "missing.prototxt", "--json", "-")
    assert outcome.code == 2
    error = json.loads(outcome.out)
    validate(error, "error")
    for key in error:
        with pytest.raises(pytest.importorskip("jsonschema").ValidationError):
            validate({**error, key: 0}, "error")
    assert error["schema"] == "bnfold-error"
    assert error["exit_code"] == 2
    assert "missing." in error["message"]


def test_an_error_takes_the_place_of_an_older_report_and_of_nothing_else(run: Run) -> None:
    failing = ["inspect", "missing.prototxt", "--json"]
    assert run("inspect", "net.prototxt", "--json", "said.json").code == 0
    for _ in range(2):  # the second time in place of an error
        outcome = run(*failing, "said.json")
        error = json.loads(Path("said.json").read_bytes())
        validate(error, "error")
        assert f"bnfold: {error['message']}\n" == outcome.err
        assert error["exit_code"] == outcome.code == 2
    run("inspect", "--nonsense", "--json=new.json")
    assert json.loads(Path("new.json").read_bytes())["message"].startswith("No such option")
    network = Path("net.prototxt").read_bytes()
    Path("other.json").write_text('{"mine": 1}')
    assert run(*FOLD[:-1], "both.onnx", "--json", "both.onnx").code == 2
    assert not Path("both.onnx").exists()
    for kept in ("net.prototxt", "other.json", "nowhere/said.json"):
        assert run(*failing, kept).code == 2
    assert Path("net.prototxt").read_bytes() == network
    assert Path("other.json").read_text() == '{"mine": 1}'
    assert not Path("nowhere").exists()
