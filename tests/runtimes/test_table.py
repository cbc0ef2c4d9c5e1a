"""docs/runtimes.md is what the record says, the record has every case, and a runtime's answer is judged fairly."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cases import ZOO, golden, goldens
from runtimes import record
from runtimes.environments import PYPROJECT, RUNTIMES, requirements
from runtimes.harness import Refusal, Verdict, Worker, compare, in_order, judge_case, said, zoo
from runtimes.table import PAGE, render

ANSWER = np.array([[0.0, 1.0, -1.0, 2.0]], np.float32)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(Path(sys.executable), "onnxruntime") as started:
        yield started


def test_the_page_is_what_the_record_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(record.read()), "run tests/runtimes/table.py"


def test_every_golden_is_tried_or_said_to_be_not_tried_in_every_runtime() -> None:
    recorded = record.read()
    assert list(recorded) == [runtime.name for runtime in RUNTIMES if runtime.name in recorded or not runtime.needs_gpu]
    for entry in recorded.values():
        tried = [case for case in entry.cases if "/" not in case]
        assert not set(tried) & set(entry.untried)
        assert sorted([*tried, *entry.untried]) == goldens()


def test_the_page_says_how_many_were_not_tried_and_when() -> None:
    page = PAGE.read_text(encoding="utf-8")
    said = set(re.findall(r"^- (.+): (\d+) not tried on (\S+), ", page, re.MULTILINE))
    recorded = [
        (runtime.title, recorded.untried) for runtime in RUNTIMES if (recorded := record.read().get(runtime.name))
    ]
    assert said == {(title, str(len(cases)), min(cases.values())) for title, cases in recorded if cases}
    for title, cases in recorded:
        (row,) = re.findall(rf"^\| {re.escape(title)} \| `.*$", page, re.MULTILINE)
        assert (f"{len(cases)} not tried" in row) == bool(cases)


def test_what_was_not_tried_is_neither_equal_nor_refused() -> None:
    entry = record.Entry({"package": "1"}, {"old": (Verdict("equal"),) * 2}, {"new": "2026-01-31"})
    page = render({"tract": entry})
    assert "| tract | `tract` | package 1 | 1 of 2, 1 not tried | 0 of 0 |" in page
    assert "- tract: 1 not tried on 2026-01-31, " in page
    assert "| `new` | not tried |" in page
    assert "Of 2 goldens 1 are equal everywhere." in page
    assert "`old`" not in page


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the zoo in ../shared")
def test_the_record_has_every_network_of_the_zoo_in_every_runtime() -> None:
    for entry in record.read().values():
        assert [case for case in entry.cases if "/" in case] == zoo()


def test_every_runtime_has_a_dependency_group_and_a_marker() -> None:
    options = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    markers = {marker.partition(":")[0] for marker in options["markers"]}
    assert {runtime.name for runtime in RUNTIMES} < markers
    assert all(requirements(runtime.name) for runtime in RUNTIMES)


def test_the_oldest_environment_pins_every_lower_bound() -> None:
    assert all(requirement.count("==") == 1 for requirement in requirements("oldest_onnxruntime"))


def test_a_worker_runs_a_case_and_is_there_for_the_next_after_a_refusal(worker: Worker, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.onnx"
    nonsense.write_bytes(b"nonsense")
    with pytest.raises(Refusal, match=r"(?i)protobuf"):
        worker.run(nonsense, {}, [])
    assert judge_case(worker, golden("op_softmax_axis2"), "as it is").kind == "equal"


def test_a_worker_that_dies_is_a_refusal_and_starts_again(worker: Worker, tmp_path: Path) -> None:
    assert worker.process
    worker.process.kill()
    with pytest.raises(Refusal, match="the process died: SIGKILL"):
        worker.run(tmp_path / "model.onnx", {}, [])
    assert judge_case(worker, golden("op_softmax_axis2"), "as it is").kind == "equal"


@pytest.mark.parametrize(
    ("ours", "kind", "words"),
    [
        (ANSWER + 1e-6, "equal", ""),
        (ANSWER + 1e-2, "differs", ""),
        (ANSWER.reshape(2, 2), "differs", "shape 2×2 instead of 1×4"),
        (np.where(ANSWER == 1, np.nan, ANSWER), "differs", "not finite"),
    ],
)
def test_an_answer_is_equal_within_the_tolerance_and_in_shape(ours: np.ndarray, kind: str, words: str) -> None:
    verdict = compare(ours, ANSWER, 2e-5)
    assert (verdict.kind, verdict.words) == (kind, words)


def test_an_empty_pooling_window_is_no_part_of_the_range_and_has_to_be_empty() -> None:
    answer = np.array([np.finfo(np.float32).min, 1.0], np.float32)
    assert compare(answer, answer, 2e-5).kind == "equal"
    assert compare(np.array([-np.inf, 1.0]), answer, 2e-5).kind == "differs"


def test_detections_of_one_score_may_change_places_and_others_may_not() -> None:
    answer = np.array([[0, 1, 0.9, 1, 1, 2, 2], [0, 1, 0.5, 3, 3, 4, 4], [0, 1, 0.5 - 1e-7, 5, 5, 6, 6]])
    moved, count = in_order(answer[[0, 2, 1]], answer)
    assert count == 2
    assert compare(moved, answer, 2e-5).kind == "equal"
    better_first, _ = in_order(answer[[1, 0, 2]], answer)
    assert compare(better_first, answer, 2e-5).kind == "differs"


def test_a_scalar_may_come_as_one_element() -> None:
    assert compare(np.ones(1), np.ones(()), 2e-5).kind == "equal"


def test_a_verdict_is_read_as_it_was_written() -> None:
    for verdict in (
        Verdict("equal"),
        Verdict("equal", 2.5e-6),
        Verdict("equal", 2.5e-6, "(2 rows)"),
        Verdict("differs", words="not finite"),
    ):
        assert Verdict.parse(str(verdict)) == verdict


def test_words_are_one_short_line_without_paths() -> None:
    words = said("the converter wrote nothing", "loading /tmp/a/b/c/model.onnx failed: no such thing\nbye\n")
    assert words == "the converter wrote nothing: loading model.onnx failed: no such thing"
    assert len(said("x" * 1000, "")) == 200
