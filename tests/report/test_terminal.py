"""What a terminal of 80 columns shows, held whole: a fold, a fold that failed, and a net of which 60 layers stay."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from report.test_picture import chain

import bnfold
from bnfold.net import Blobs
from bnfold.pipeline import Job, Reading, Writing, inspect, run
from bnfold.report import plan
from bnfold.report.grid import Part, printed
from bnfold.report.text import as_text

SAMPLES = Path(__file__).parents[2] / "sample_models"
MEASURED = re.compile(r"\d\.\d+e[-+]\d+|\d{1,2}\.?\d*(?= %)")


def shown(parts: Iterable[Part]) -> str:
    """The text at 80 columns; figures that depend on the processor become #, and folders are left out."""
    text = printed(parts, 80)
    return "".join(f"{line.rstrip()}\n" for line in MEASURED.sub("#", text).splitlines())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    for name in ("digits_cifar10.prototxt", "digits_cifar10.caffemodel", "digits_test.npz"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    reading = Reading(Path("digits_cifar10.prototxt"), "digits_cifar10.caffemodel")
    return Job(reading, Writing((Path("out.prototxt"), Path("out.onnx"))), samples="digits_test.npz")


FOLDED = """\
The networks compute the same within # of the range.
15 -> 12 layers; 3 BatchNorm went, into 3 layers; 0 kept
"""


def test_a_fold_is_told_in_ten_lines_with_the_verdict_first(job: Job) -> None:
    said = shown(as_text(run(job)))
    lines = said.splitlines()
    assert len(lines) <= 13  # ten of them, of which some are longer than 80 columns
    assert said.startswith(FOLDED)
    assert lines[-3:] == ["wrote out.prototxt", "wrote out.caffemodel", "wrote out.onnx"]
    assert max(map(len, lines)) <= 80


def test_a_fold_that_failed_begins_with_where_it_begins(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from bnfold.algebra import sweep

    true_fold = bnfold.fold

    def wrong_fold(*args: object, **options: object) -> sweep.FoldResult:
        result = true_fold(*args, **options)  # type: ignore[arg-type]
        layer = next(layer for layer in result.net.layers if layer.name == "conv2")
        weight = np.array(layer.blobs[0])
        weight[3] *= 1.5
        layer.blobs = Blobs([weight, *layer.blobs.stored[1:]])
        return result

    monkeypatch.setattr("bnfold.algebra.fold", wrong_fold)
    report = run(job)
    assert not report.passed
    lines = shown(as_text(report)).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("first divergent layer: 'conv2'"))
    assert lines[0].startswith(("The networks differ", "out.prototxt: The networks differ"))
    assert first <= 12
    assert [line for line in lines if line.startswith("FAIL tolerance")]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.startswith("wrote ")]
    assert any("not written, since its proof failed" in line for line in lines)


def test_60_layers_that_stay_for_one_cause_take_few_lines(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(chain(122), encoding="utf-8")
    said = shown(plan.as_text(inspect(Reading(tmp_path / "net.prototxt"))))
    assert said == STAY


STAY = """\
123 -> 123 layers; 61 kept
kept 60 Power (p1, p2, p3 and 57 more): backward: a Sigmoid neither absorbs an
affine nor lets one pass; forward: a Sigmoid neither absorbs an affine nor lets
one pass
kept 1 Power (p0): backward: 'x0' is an input of the network; forward: layer
's0' (Sigmoid) neither absorbs an affine nor lets one pass
note: no weights were given, so the plan assumes scales of both signs

no findings
"""
