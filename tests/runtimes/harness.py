"""Running a case in a runtime, and judging what it gave against a real Caffe's outputs."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import numpy as np
import reference
from cases import DEEP_TOLERANCE, GOLDEN, TOLERANCE, ZOO, Array, Case, golden, goldens

import bnfold
from bnfold.net import Net

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 300
"""Seconds for one model."""
WORDS = 200
FORMS = ("as it is", "folded")
ROW = 7
"""Numbers of a detection: image, label, score and four corners."""
SAME_SCORE = 1e-6
"""Ten roundings of a float32 near 1."""
EMPTY_WINDOW = np.finfo(np.float32).min

# Answers that are indices: a rounding may decide between two equal scores, so the scores behind them are compared.
SCORES = {"segnet_sun_low_res": "conv1_1_D"}


Kind = Literal["equal", "differs", "refused"]
NUMBER = re.compile(r"\d\.\de[+-]\d\d")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one model in one runtime.

    Attributes:
        kind: equal; differs (it ran, and gave something else); refused (it did not run).
        distance: the largest difference from Caffe's output relative to the range, where one can be taken.
        words: what a number does not say, or the runtime's words.
    """

    kind: Kind
    distance: float | None = None
    words: str = ""

    def __str__(self) -> str:
        distance = "" if self.distance is None else f"{self.distance:.1e}"
        return " ".join(part for part in (self.kind, distance, self.words) if part)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What str() gave."""
        kind, _, rest = text.partition(" ")
        number, _, words = rest.partition(" ")
        if NUMBER.fullmatch(number):
            return cls(cast(Kind, kind), float(number), words)
        return cls(cast(Kind, kind), None, rest)


def zoo() -> list[str]:
    """The networks of the zoo that have a real Caffe's outputs; none where ../shared is not there."""
    return sorted(str(path.parent.relative_to(ZOO)) for path in ZOO.glob("*/*/outputs.npz"))


def case_of(name: str) -> Case:
    """The case of a name: a golden's, or that of a network of the zoo, which has a slash."""
    return Case(ZOO / name) if "/" in name else golden(name)


def names() -> list[str]:
    """All of them."""
    return goldens() + zoo()


class Worker:
    """One runtime in its own process and environment, started again whenever it dies."""

    def __init__(self, python: Path, engine: str) -> None:
        self._command = [str(python), str(WORKER), engine]
        self.process: subprocess.Popen[str] | None = None
        self.versions: dict[str, str] = {}
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop()

    def run(self, model: Path, feeds: Mapping[str, Array], outputs: list[str]) -> dict[str, Array]:
        """The outputs by name. Raises Refusal with the runtime's words."""
        if self.process is None:
            self._start()
        sent, given = model.with_suffix(".feeds.npz"), model.with_suffix(".answers.npz")
        np.savez(sent, *feeds.values())
        job = {"model": model, "feeds": sent, "answers": given, "inputs": list(feeds), "outputs": outputs}
        reply = self._ask(json.dumps(job, default=str))
        if reply:
            raise Refusal(said(reply["refused"], reply["printed"]))
        with np.load(given) as arrays:
            return dict(zip(outputs, arrays.values(), strict=True))

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout
        self.versions = json.loads(self.process.stdout.readline() or "{}")
        if not self.versions:
            raise RuntimeError(f"{' '.join(self._command)}: {self.process.communicate()[1]}")

    def _ask(self, job: str) -> dict[str, str]:
        assert self.process
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.write(job + "\n")
            self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        code = self.process.wait() if ready else 0
        self._stop()
        reason = f"died: {signal.Signals(-code).name}" if ready else f"took more than {PATIENCE} s"
        return {"refused": f"the process {reason}", "printed": ""}

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            with suppress(BrokenPipeError):
                self.process.communicate()
            self.process = None


class Refusal(Exception):
    """A runtime did not run a model, and said why."""


def said(words: str, printed: str) -> str:
    """One short line of what a runtime said; what it printed comes in where it raised nothing of its own."""
    complaints = [line for line in printed.splitlines() if COMPLAINT.search(line) and not WARNING.search(line)]
    if complaints and not RAISED.match(words):
        words = f"{words}: {complaints[-1]}"
    for pattern, instead in NOISE:
        words = pattern.sub(instead, words)
    words = " ".join(words.split())
    return words if len(words) <= WORDS else words[: WORDS - 1].rstrip() + "…"


def judge_case(worker: Worker, case: Case, form: str) -> Verdict:
    """Export one case in one of FORMS, run it, and compare it with Caffe."""
    net = case.load()
    if form == "folded":
        net = bnfold.fold(net).net
    feeds = {name: case.inputs[net.public_name(name)] for name in net.inputs}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        bnfold.save_onnx(net, model)
        try:
            given = worker.run(model, feeds, list(net.outputs))
        except Refusal as refusal:
            return Verdict("refused", words=str(refusal))
    return judge(case, net, given)


def judge(case: Case, net: Net, given: Mapping[str, Array]) -> Verdict:
    """The worst of all outputs."""
    tolerance = TOLERANCE if case.folder.parent == GOLDEN else DEEP_TOLERANCE
    verdicts = []
    for name, answer in case.answers.items():
        ours = given[next(blob for blob in net.outputs if net.public_name(blob) == name)]
        words = ""
        if case.name in SCORES:
            ours, answer = (scores_of(case, indices) for indices in (ours, answer))
        elif answer.shape[-1:] == (ROW,) and answer.shape == ours.shape:
            ours, moved = in_order(ours, answer)
            words = f"({moved} rows of equal score in another order)" if moved else ""
        verdict = compare(ours, answer, tolerance)
        verdicts.append(replace(verdict, words=words) if verdict.kind == "equal" else verdict)
    return max(
        verdicts, key=lambda verdict: (verdict.kind == "differs", verdict.distance is None, verdict.distance or 0)
    )


def compare(ours: Array, answer: Array, tolerance: float) -> Verdict:
    """One output against Caffe's. A runtime that knows no scalars gives (1,), which is not held against it."""
    if ours.shape != answer.shape and not (ours.size == answer.size == 1):
        return Verdict("differs", words=f"shape {shape(ours)} instead of {shape(answer)}")
    ours, answer = ours.reshape(-1).astype(np.float64), answer.reshape(-1).astype(np.float64)
    empty = answer == EMPTY_WINDOW
    if (ours[empty] != EMPTY_WINDOW).any():
        return Verdict("differs", words=f"{ours[empty][0]:g} instead of -FLT_MAX for an empty window")
    ours, answer = ours[~empty], answer[~empty]
    if not np.isfinite(ours).all():
        return Verdict("differs", words="not finite")
    extent = max(float(np.ptp(answer)), float(np.abs(answer).max())) or 1.0
    distance = float(np.abs(ours - answer).max()) / extent
    return Verdict("equal" if distance <= tolerance else "differs", distance)


def in_order(ours: Array, answer: Array) -> tuple[Array, int]:
    """Detections in the order of Caffe's, where a rounding may decide between two of one score; how many had moved.

    Rows are (image, label, score, box). Only rows of one image and label are paired anew, and only where Caffe's scores
    of them are as good as equal.
    """
    rows, wanted = ours.reshape(-1, ROW), answer.reshape(-1, ROW)
    order = np.arange(len(rows))
    begin = 0
    for end in range(1, len(wanted) + 1):
        here, before = wanted[min(end, len(wanted) - 1)], wanted[end - 1]
        if end < len(wanted) and (here[:2] == before[:2]).all() and abs(here[2] - before[2]) <= SAME_SCORE:
            continue
        left = list(range(begin, end))
        for index in range(begin, end):
            order[index] = min(left, key=lambda other: float(np.abs(rows[other] - wanted[index]).sum()))
            left.remove(order[index])
        begin = end
    return rows[order].reshape(ours.shape), int((order != np.arange(len(rows))).sum())


def scores_of(case: Case, indices: Array) -> Array:
    """The scores of the classes that were chosen, as an exact run has them."""
    scores = reference.load(case.prototxt, case.caffemodel).run(case.inputs)[SCORES[case.name]]
    return np.take_along_axis(scores, indices.astype(int), 1)


def shape(array: Array) -> str:
    return "×".join(map(str, array.shape)) or "scalar"


RAISED = re.compile(r"\w+(Error|Exception)?:")
COMPLAINT = re.compile(
    r"error|fail|unsupport|not support|unknown|invalid|can't|cannot|not exist|mismatch", re.IGNORECASE
)
WARNING = re.compile(r"\[W:onnxruntime")
NOISE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"(/[\w.+-]+){3,}/"), ""),
    (re.compile(r"\[ONNXRuntimeError\] : \d+ : "), ""),
    (re.compile(r"Stack backtrace:.*", re.DOTALL), ""),
    (re.compile(r"0x[0-9a-f]{6,}"), "0x…"),
    (re.compile(r"\d{4}-\d\d-\d\d [\d:.]+ "), ""),
)
"""What changes from run to run or tells nobody anything."""
