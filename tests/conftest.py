"""Fixtures that several test files use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import pytest
from command_line import MODEL, TEXT, Outcome, Run
from hypothesis import settings

from bnfold.cli import main
from bnfold.compare import models
from bnfold.runtime import Session

# The same examples in each run; `--hypothesis-profile=default` draws others.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script's shell has what it starts in the background ignore Ctrl-C, and all that tests start would do so, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

PASSED_PER_DOT = 100
_passed = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The tests stay to the end: half a million objects that no search for cycles need look through, then or before.

    Afterwards the search comes at each 10,000th new object, not at each 700th, and Hypothesis is told of each.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """One dot for a hundred tests that passed: what fifteen thousand tests say is to fit on a screen."""
    if report.when != "call" or not report.passed or hasattr(report, "wasxfail") or config.get_verbosity() > 0:
        return None
    return "passed", "" if next(_passed) % PASSED_PER_DOT else ".", "PASSED"


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for() -> Iterator[None]:
    """No test outlives a power cut, and each file that is written waits 3 ms for the disk; commands of their own do.

    What becomes of a disk that fails, and in which order files are written, tests/io has, by its own functions.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which wants an open file, too
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in a folder that holds net.prototxt and net.caffemodel."""
    (tmp_path / "net.prototxt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "net.caffemodel").write_bytes(MODEL)
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(args=list(args), prog_name="bnfold")
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that would run in a process of their own run here, since starting one takes longer than most models.

    For files whose models all end. That such a process gives the same values, and when, tests/compare/test_isolated.py
    says.
    """
    monkeypatch.setattr(models, "IsolatedSession", lambda model, _, **options: Session(model, **options))
