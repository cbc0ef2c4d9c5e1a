"""`bnfold fold` killed anywhere leaves the old pair, or the new one, or a gap that is noticed and that a rerun closes.

The lines are those of our own code in order of execution, so each run kills at the same places; `killing.py` does it.
Ctrl-C comes at stepped delays into a process of its own, since there the answer of the process counts, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cases import golden

from bnfold import __main__ as program

TESTS = Path(__file__).parent
GOLDEN = golden("seed_resnet_bn_scale")
POINTS = 100
OLD, STAGING = ".bnfold-old", ".bnfold-"


@pytest.mark.parametrize("target", ["beside", "in-place"])
def test_a_run_that_is_killed_leaves_the_old_pair_or_the_new_or_a_gap_that_is_noticed(
    tmp_path: Path, target: str
) -> None:
    account = what_kills_leave(tmp_path, target)
    every_point_killed_the_run(account)
    what_is_there_under_its_name_is_whole_and_of_one_run(account)
    what_stands_aside_is_the_old_file(account)
    a_rerun_closes_every_gap_and_leaves_nothing_else(account)


def what_kills_leave(folder: Path, target: str) -> dict[str, Any]:
    """What 100 kills left, on a pair that stood there before: another's, or the input itself."""
    for name in ("in", "old"):
        shutil.copyfile(GOLDEN.prototxt, folder / f"{name}.prototxt")
        shutil.copyfile(GOLDEN.caffemodel, folder / f"{name}.caffemodel")
    script = [sys.executable, str(TESTS / "killing.py"), str(folder), str(POINTS), target]
    subprocess.run(script, check=True, timeout=1800)
    found: dict[str, Any] = json.loads((folder / "account.json").read_text())
    found["old"] = {f"out.{kind}": (folder / f"old.{kind}").read_bytes().hex() for kind in ("caffemodel", "prototxt")}
    return found


def every_point_killed_the_run(account: dict[str, Any]) -> None:
    assert [point["signal"] for point in account["points"]] == [signal.SIGKILL] * POINTS
    assert len({point["line"] for point in account["points"]}) == POINTS
    assert account["lines after commit"] > POINTS


def what_is_there_under_its_name_is_whole_and_of_one_run(account: dict[str, Any]) -> None:
    for point in account["points"]:
        named = {name: value for name, value in point["left"].items() if name in account["new"]}
        of_one_run = any(named.items() <= run.items() for run in (account["old"], account["new"]))
        # A new one beside a gap is noticed; the gap says what to do.
        assert of_one_run, point["line"]
        assert len(named) == 2 or "a run was killed while it replaced this file" in point["complaint"], point["line"]
        assert len(named) < 2 or not point["complaint"], point["line"]


def what_stands_aside_is_the_old_file(account: dict[str, Any]) -> None:
    kinds = set()
    for point in account["points"]:
        for name, value in point["left"].items():
            if name.endswith(OLD):
                assert value == account["old"][name.removesuffix(OLD)]
            elif name not in account["new"]:
                assert name.startswith(STAGING)
        kinds.add(tuple(point["left"]))
    assert len(kinds) > 5, "the kills met too few states to mean anything"


def a_rerun_closes_every_gap_and_leaves_nothing_else(account: dict[str, Any]) -> None:
    for point in account["points"]:
        assert (point["code"], point["repaired"]) == (0, account["new"]), point["line"]


# A real process, by the clock.


# While Python starts it answers Ctrl-C by itself, so the clock starts at the first step behind ours being asked.
STARTED = b"started\n"
START = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell without job control may have started the tests
from bnfold import __main__
__main__._open_what_is_closed = lambda: print({STARTED.decode().strip()!r}, file=sys.stderr, flush=True)
__main__.run()
"""


def process(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START, "fold", "net.prototxt", "net.caffemodel", "-o", "out.prototxt"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    # In its development mode Python itself complains of the file that Ctrl-C had it leave open while importing.
    environment |= {"PYTHONDEVMODE": "", "PYTHONWARNINGS": ""}
    return subprocess.Popen(
        [*command, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, path in (("prototxt", GOLDEN.prototxt), ("caffemodel", GOLDEN.caffemodel)):
        shutil.copyfile(path, tmp_path / f"net.{kind}")
        shutil.copyfile(path, tmp_path / f"out.{kind}")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("verify", [True, False])
def test_ctrl_c_at_any_moment_is_a_sentence_and_leaves_no_half(folder: Path, verify: bool) -> None:
    before = contents(folder)
    arguments = [] if verify else ["--no-verify"]
    with process(folder, *arguments) as whole:
        assert whole.stderr is not None
        assert whole.stderr.readline() == STARTED
        start = time.monotonic()
        whole.communicate(timeout=600)
        assert whole.returncode == 0
    duration = time.monotonic() - start
    after = contents(folder)
    codes = []
    for step in range(16):
        for name, content in before.items():
            (folder / name).write_bytes(content)
        child = process(folder, *arguments)
        assert child.stderr is not None
        assert child.stderr.readline() == STARTED
        time.sleep(duration * step / 16)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=600)
        codes.append(child.returncode)
        assert contents(folder) in (before, after)
        assert child.returncode in (0, 130), said.decode()
        assert b"Traceback" not in said, said.decode()
    assert 130 in codes


def test_a_signal_while_compiled_code_is_loaded_is_sent_again_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception within its start ends the process: one of some hundred that were stopped while onnx was loaded."""
    sent: list[int] = []
    monkeypatch.setattr(program, "_send_again", sent.append)
    monkeypatch.setattr(program, "arrived", [])

    class ExtensionFileLoader:
        def create_module(self) -> None:
            program._stop(signal.SIGTERM, sys._getframe())

    ExtensionFileLoader().create_module()
    assert (sent, program.arrived) == ([signal.SIGTERM], [])
    with pytest.raises(program.Stopped):
        program._stop(signal.SIGTERM, sys._getframe())
    assert (sent, program.arrived) == ([signal.SIGTERM], [signal.SIGTERM])


LOST = """
import io, signal, sys, time
from contextlib import suppress
from bnfold import __main__ as program

class Signalling:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

class File(io.RawIOBase):
    def close(self):
        signal.raise_signal(signal.SIGINT)

class Named:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGINT)

def in_a_destructor():
    Signalling()

def in_code_in_c():
    File()

def by_who_suppresses_all():
    with suppress(BaseException):
        signal.raise_signal(signal.SIGINT)

def while_a_class_is_made():
    type("Made", (), {"name": Named()})

def command(stopped_by):
    globals()[sys.argv[1]]()
    time.sleep(600)

program._command = lambda: command
program.run()
"""


@pytest.mark.parametrize("how", ["in_a_destructor", "in_code_in_c", "by_who_suppresses_all", "while_a_class_is_made"])
def test_ctrl_c_that_is_dropped_on_its_way_is_not_lost(how: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "PYTHONDEVMODE": ""}  # which has C say what it drops
    command = [sys.executable, "-c", LOST, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (130, "")


WHILE_LEAVING = """
import signal, sys
from bnfold import __main__ as program

def late(number, handler, change=signal.signal):
    if handler is signal.SIG_IGN:
        signal.raise_signal(signal.SIGTERM)
    return change(number, handler)

def command(stopped_by):
    signal.signal = late
    if sys.argv[1] == "130":
        signal.raise_signal(signal.SIGINT)

program._command = lambda: command
program.run()
"""


@pytest.mark.parametrize("code", [0, 130])
def test_a_signal_while_the_process_leaves_changes_no_answer(code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", WHILE_LEAVING, str(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (code, "")


ANSWERED = """
import signal, time
from contextlib import suppress
from bnfold import __main__ as program

def command(stopped_by):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        with suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.3)
        print("cleared")

program._command = lambda: command
program.run()
"""


def test_a_second_signal_that_is_dropped_while_the_first_is_answered_does_not_come_again() -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", ANSWERED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleared\n", "")


LEFT = """
import atexit, os, signal, sys
from bnfold import __main__ as program

class Library:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGSEGV):
        kill(pid, number)

sys.library = Library()  # which dies when Python takes it down
atexit.register(print, "cleared up")

def command(stopped_by):
    print("begun")
    if sys.argv[1] == "interrupted":
        signal.raise_signal(signal.SIGINT)

program._command = lambda: command
program.run()
"""


def test_an_interrupted_process_does_not_die_of_libraries_that_are_taken_down() -> None:
    """One did, behind its sentence, of some thousands that were interrupted."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    for how, code in (("interrupted", 130), ("ended", -signal.SIGSEGV)):
        done = subprocess.run([sys.executable, "-c", LEFT, how], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (code, "begun\ncleared up\n"), how
