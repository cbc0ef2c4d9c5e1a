"""What a terminal of 80 columns shows, held whole: a fold, a fold that failed, and a net of which 60 layers stay."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from report.test_picture import chain

import bnfold
from bnfold.net import Blobs
from bnfold.pipeline import Folding, Job, Reading, Writing, inspect, run
from bnfold.report import plan
from bnfold.report.grid import Part, printed
from bnfold.report.text import as_text

SAMPLES = Path(__file__).parents[2] / "sample_models"
MEASURED = re.compile(
    r"(?:1 - )?\d\.\d+e[-+]\d+|\d{1,3}\.?\d*(?= %)|\b\d+\.\d\d?\b|\b0\.0\d\d\b|"
    r"(?<=worst blob[ \n])'[^']*'|(?<=cpu )\(.*\)"
)


def shown(parts: Iterable[Part]) -> str:
    """The text at 80 columns; what depends on the processor becomes #, with two spaces around it in a table."""
    text = printed(parts, 80)
    assert max(map(len, text.splitlines())) <= 80
    lines = MEASURED.sub("#", text).splitlines()
    return "".join(re.sub(" {2,}", "  ", line) + "\n" if "#" in line else f"{line}\n" for line in lines)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    for name in ("digits_cifar10.prototxt", "digits_cifar10.caffemodel", "digits_test.npz"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    reading = Reading(Path("digits_cifar10.prototxt"), "digits_cifar10.caffemodel")
    return Job(reading, Writing((Path("out.prototxt"), Path("out.onnx"))), samples="digits_test.npz")


def test_a_fold_is_told_in_ten_lines_with_the_verdict_first(job: Job) -> None:
    said = shown(as_text(run(job), files=[Path("report.html")]))
    assert said == FOLDED
    assert len(said.splitlines()) <= 10


FOLDED = """\
The networks compute the same within # of the range.
15 -> 12 layers; 3 BatchNorm into 3 layers; 0 kept
operator     layers   multiply-adds        parameters
BatchNorm    3 -> 0        640 -> 0          131 -> 0
all        15 -> 12  180 k -> 180 k  20,061 -> 19,994
proved out.prototxt, out.onnx: 360 samples of digits_test.npz; worst blob
#, # of its range; top-1 # % -> # %
wrote out.prototxt, out.caffemodel, out.onnx, report.html
"""


def test_a_fold_that_failed_begins_with_where_it_begins(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from bnfold.algebra import FoldResult

    true_fold = bnfold.fold

    def wrong_fold(*args: object, **options: object) -> FoldResult:
        result = true_fold(*args, **options)  # type: ignore[arg-type]
        layer = next(layer for layer in result.net.layers if layer.name == "conv2")
        weight = np.array(layer.blobs[0])
        weight[3] *= 1.5
        layer.blobs = Blobs([weight, *layer.blobs.stored[1:]])
        return result

    monkeypatch.setattr("bnfold.algebra.fold", wrong_fold)
    report = run(job)
    assert not report.passed
    assert shown(as_text(report, rows=2)) == FAILED


FAILED = """\
The networks differ: blob 'bn2' differs by # of its range, beyond the
tolerance 0.0001; the error starts at layer 'conv2'.
first divergent layer: 'conv2', channel 3 (blob 'bn2'): relative error #
-> #; the reference also has layer 'bn2' there
digits_cifar10.prototxt against out.prototxt
Both networks ran on cpu #.
blob      layer     max abs  of range  rel. L2       cosine  SNR dB
prob  prob  #  #  #  #  #
bn2  conv2  #  #  #  #  #
Sigmoid3  Sigmoid3  #  #  #  #  #
and 7 more blobs that differ less; --json and --html have all
'prob'       reference   candidate
top-1  # %  # %
top-5  # %  # %
same answer  # %  360 of 360
15 -> 12 layers; 3 BatchNorm into 3 layers; 0 kept
operator     layers   multiply-adds        parameters
BatchNorm    3 -> 0        640 -> 0          131 -> 0
all        15 -> 12  180 k -> 180 k  20,061 -> 19,994
FAILED out.prototxt, out.onnx: 360 samples of digits_test.npz; worst blob #,
# of its range; top-1 # % -> # %
note: out.prototxt, out.caffemodel, out.onnx were not written, since the proof
failed; --keep-failed leaves what failed as NAME.failed
"""


def on_a_terminal(*command: str, folder: Path, **environment: str) -> str:
    """All that a command writes on a terminal of 60 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    given |= {"PYTHONPATH": str(SAMPLES.parent), "TERM": "xterm-256color"} | environment
    child = subprocess.Popen(
        [sys.executable, "-m", "bnfold", *command], cwd=folder, env=given, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # how Linux ends a terminal
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    assert child.wait() == 0, said
    return said.decode()


def test_a_terminal_is_told_in_its_width_and_colours_unless_it_asks_not_to_be(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(chain(122), encoding="utf-8")
    coloured = on_a_terminal("inspect", "net.prototxt", folder=tmp_path)
    assert "\x1b[33mkept 60 Power (p1, p2, p3 and 57 more): both ways: a" in coloured
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        said = on_a_terminal("inspect", "net.prototxt", folder=tmp_path, **environment)
        assert "\x1b" not in said
        assert said == re.sub("\x1b\\[[0-9;]*m", "", coloured)
        assert max(map(len, said.splitlines())) <= 60


def test_a_dumb_terminal_gets_no_bar_and_no_empty_line_of_one(job: Job, tmp_path: Path) -> None:
    command = ("fold", "digits_cifar10.prototxt", "digits_cifar10.caffemodel", "-o", "out.onnx")
    assert "\x1b[?25l" in on_a_terminal(*command, folder=tmp_path)
    assert on_a_terminal(*command, folder=tmp_path, TERM="dumb").startswith("The networks compute the same")


def test_60_layers_that_stay_for_one_cause_take_few_lines(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(chain(122), encoding="utf-8")
    said = shown(plan.as_text(inspect(Reading(tmp_path / "net.prototxt"), Folding())))
    assert said == STAY


STAY = """\
123 -> 123 layers; 61 kept
kept 60 Power (p1, p2, p3 and 57 more): both ways: a Sigmoid: it is not linear,
and makes something else of a factor and of a shift
kept 1 Power (p0): backward: 'x0' is an input of the network; forward: layer
's0' (Sigmoid): it is not linear, and makes something else of a factor and of a
shift
note: no weights were given, so the plan assumes scales of both signs

no findings
"""
