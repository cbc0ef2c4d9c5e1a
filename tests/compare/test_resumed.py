"""The report of a run that broke off and went on is that of an unbroken one, to the byte, wherever it broke off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare.hostile_samples import LOUD, Float64
from compare.small_pair import images, said
from compare.test_comparison import traced
from compare.test_proof import DRAWS, drawing, spread
from compare.test_ties import images as tied_images
from compare.test_ties import unpooling_onnx
from onnx import ModelProto, helper
from onnx_models import change, classifier, model

import bnfold
from bnfold.compare import checkpoint, engine
from bnfold.compare.comparison import compare
from bnfold.compare.measure import Measurement
from bnfold.compare.records import DiffReport
from bnfold.data.samples import Samples
from bnfold.net import Array
from bnfold.onnx.evaluator import Evaluator

pytestmark = pytest.mark.usefixtures("in_one_process")

COUNT = 7


def noise(*shape: int) -> Array:
    return np.random.default_rng(5).normal(0, 1, (COUNT, *shape)).astype(np.float32)


def with_nan() -> Array:
    """Samples of which one has a NaN and another one infinities."""
    found = images(COUNT)
    found[2, 0, 3, 3], found[4, 1] = np.nan, np.inf
    return found


def half_blank() -> Array:
    """Samples of which one plane is 0 in all, and another one in some."""
    found = images(COUNT)
    found[:, 1], found[3:, 2] = 0, 0
    return found


def detector(shift: float = 0.0) -> ModelProto:
    """Rows of a detector that follow the image, and one of nothing where its mean is negative."""
    rows = np.array([[0, 1, 0.9, 0.1, 0.1, 0.5, 0.5], [0, 2, 0.8, 0.1, 0.1, 0.5, 0.5]], np.float32)[None, None]
    rows[..., 3:] += np.float32(shift)
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["mean"], "mean", keepdims=1),
        helper.make_node("Sign", ["mean"], ["sign"], "sign"),
        helper.make_node("Mul", ["rows", "sign"], ["boxes"], "boxes"),
    ]
    return model(nodes, {"data": (1, 3, 8, 8)}, ["boxes"], {"rows": rows})


def following(shift: float = 0.0) -> ModelProto:
    """A blob whose shape follows the values."""
    nodes = [
        helper.make_node("Add", ["data", "shift"], ["moved"], "add"),
        helper.make_node("Relu", ["moved"], ["r"], "relu"),
        helper.make_node("NonZero", ["r"], ["y"], "nonzero"),
    ]
    return model(nodes, {"data": (1, 3, 8, 8)}, ["y", "r"], {"shift": np.array([shift], np.float32)})


def loud(count: int = COUNT) -> Array:
    """Samples of which two have a value that `Float64` fails by, each by its own."""
    found = images(count)
    for sample in (count // 2, count - 2):
        found[sample, 0, 3, 3] = LOUD + sample
    return found


WRONG = partial(change, weight="conv2_w", index=(3, 1, 0, 0))
CASES: dict[str, Callable[[], tuple[Any, Any, Any, dict[str, Any]]]] = {
    "one sample alone": lambda: (traced(1), traced(1), noise(3, 4, 4), {}),
    "one sample alone, folded": lambda: (
        bnfold.load(traced(1)), bnfold.fold(bnfold.load(traced(1))).net, noise(3, 4, 4), {},
    ),
    "one sample alone, exactly": lambda: (traced(1), traced(1), noise(3, 4, 4), {"exact": True}),
    "one sample alone, noise": lambda: (traced(1), traced(1), None, {}),
    "noise": lambda: (classifier(batch=1), WRONG(classifier(batch=1), amount=1e-3), None, {}),
    "labels": lambda: (
        classifier(), WRONG(classifier(), amount=1.0), images(COUNT), {"labels": np.arange(COUNT) % 5 - 1},
    ),
    "exactly": lambda: (classifier(), WRONG(classifier(), amount=1e-3), images(COUNT), {"exact": True}),
    "outputs": lambda: (classifier(), WRONG(classifier(), amount=1e-3), images(COUNT), {"layers": False}),
    "halving": lambda: (classifier(), WRONG(classifier(), amount=1.0), images(COUNT), {"bisect": True}),
    "NaN": lambda: (classifier(), WRONG(classifier(), amount=1e-3), with_nan(), {}),
    "planes of 0": lambda: (classifier(), WRONG(classifier(), amount=1e-3), half_blank(), {}),
    "constant": lambda: (classifier(), classifier(), np.full((COUNT, 3, 8, 8), 2.5, np.float32), {}),
    "small channels": lambda: (spread(1e-5), spread(1e-5, 1.5), noise(3, 16, 16), {}),
    "rounding": lambda: (
        classifier(), WRONG(classifier(), amount=1e-6), images(COUNT), {"tolerance": 2e-6, "layers": False},
    ),
    "ties": lambda: (
        unpooling_onnx(), change(unpooling_onnx(), "w", (0, 1, 0, 0), -1e-6), np.tile(tied_images(), (3, 1, 1, 1)), {},
    ),
    "drawn": lambda: (drawing(DRAWS["RandomNormalLike"]), drawing(DRAWS["RandomNormalLike"]), noise(4), {}),
    "boxes": lambda: (detector(), detector(0.01), images(COUNT), {}),
    "shapes that follow values": lambda: (following(), following(0.5), images(COUNT), {}),
}  # fmt: skip


class Pieces:
    """A progress that knows how many pieces there are."""

    total = 0

    def __call__(self, done: int, total: int) -> None:
        pass

    def pieces(self, done: int, total: int) -> None:
        self.total = total


def resumed(monkeypatch: pytest.MonkeyPatch, file: Path, stop: int, *pair: Any, **options: Any) -> DiffReport:
    """The report of a run that was broken off before it measured piece `stop`, and went on from its checkpoint."""
    real = engine.Engine.measure

    def measure(self: engine.Engine, data: Samples, piece: range, *more: Any) -> list[Measurement]:
        if piece.start >= stop:
            raise RuntimeError("the disk is gone")
        return real(self, data, piece, *more)

    with monkeypatch.context() as broken:
        broken.setattr(engine.Engine, "measure", measure)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            compare(*pair, checkpoint=file, **options)
    return compare(*pair, checkpoint=file, **options)


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_goes_on_reports_what_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(engine, "PIECE", 1)
    reference, candidate, data, options = CASES[name]()
    told = Pieces()
    unbroken = said(compare(reference, candidate, data, progress=told, **options))
    assert told.total > 1
    for stop in range(told.total):
        report = resumed(monkeypatch, tmp_path / f"{stop}.json", stop, reference, candidate, data, **options)
        assert said(report) == unbroken, stop
    done = compare(reference, candidate, data, checkpoint=tmp_path / "1.json", **options)  # nothing is left to measure
    assert said(done) == unbroken


def test_a_float64_run_that_fails_for_some_samples_has_no_column_wherever_the_run_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it failed by before the run broke off is not what the rest of it would be reported by."""
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(engine, "PIECE", 1)
    monkeypatch.setattr(Evaluator, "run", Float64.real)
    pair, data = (classifier(), WRONG(classifier(), amount=1e-3)), loud()
    Float64.begin()
    report = compare(*pair, data, exact=True)
    assert [note for note in report.notes if "exact column" in note] == ["no exact column: 1003 is too loud"]
    assert all(blob.exact is None for blob in report.blobs)
    for stop in range(4):
        resumed_report = resumed(monkeypatch, tmp_path / f"{stop}.json", stop, *pair, data, exact=True)
        assert said(resumed_report) == said(report), stop


def test_ties_are_counted_once_where_the_blobs_are_compared_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, candidate, data, _ = CASES["ties"]()
    data = data[: len(data) // 3]
    whole = compare(reference, candidate, data)
    assert any(note.endswith("compared with the reference's") for note in whole.notes)
    turns: list[int] = []
    real = engine.Engine.measure

    def measure(self: engine.Engine, *given: Any) -> list[Measurement]:
        turns.append(len(self.segments))
        return real(self, *given)

    monkeypatch.setattr(engine.Engine, "measure", measure)
    monkeypatch.setattr(engine, "memory_budget", lambda *_: 1_000)
    assert compare(reference, candidate, data).notes == whole.notes
    assert min(turns) > 1
