"""Files appear together or leave a gap that is noticed, wherever the process that writes them is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnfold.io.files import OutputSet

ROOT = Path(__file__).resolve().parents[2]


def write_pair(folder: Path, what: bytes) -> None:
    with OutputSet() as outputs:
        outputs.open(folder / "net.caffemodel").write(what)
        outputs.open(folder / "net.prototxt").write(what)


CHILD = """
import sys, itertools
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bnfold.io.files import OutputSet
folder = Path(sys.argv[2])
print("ready", flush=True)
for number in itertools.count():
    what = str(number).encode() * 50_000
    with OutputSet() as outputs:
        outputs.open(folder / "net.caffemodel").write(what)
        outputs.open(folder / "net.prototxt").write(what)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", CHILD, str(ROOT), str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.008, 0.015, 0.03, 0.05])
def test_a_killed_process_never_leaves_a_new_file_beside_an_old_one(
    child: subprocess.Popen[bytes], tmp_path: Path, delay: float
) -> None:
    time.sleep(delay)
    child.kill()
    child.wait()
    found = [tmp_path / name for name in ("net.caffemodel", "net.prototxt") if (tmp_path / name).exists()]
    assert len({path.read_bytes() for path in found}) <= 1
    write_pair(tmp_path, b"next")
    assert (tmp_path / "net.prototxt").read_bytes() == b"next"


# Killed at each single system call: the child counts what files.py asks of the system and kills itself there.

SUICIDE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bnfold.io import files
folder, wanted, after, calls = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "after", 0
if sys.argv[5] == "without locks":
    files.fcntl = None

def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        is_wanted = calls == wanted
        if is_wanted and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return function(*arguments, **options)
        finally:
            if is_wanted:
                os.kill(os.getpid(), signal.SIGKILL)
    return call

for name in ("open", "fsync", "mkdir", "replace", "rmdir", "close", "unlink", "chmod"):
    setattr(os, name, counted(getattr(os, name)))
with files.OutputSet() as outputs:
    for name in ("net.caffemodel", "net.prototxt", "net.onnx"):
        output = outputs.open(folder / name)
        for _ in range(8):
            output.write(b"new" * 30_000)
print(calls)
"""
OLD, NEW = b"old", b"new" * 240_000
NAMES = ("net.caffemodel", "net.prototxt", "net.onnx")


def suicide(folder: Path, wanted: int, when: str, how: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-S", "-c", SUICIDE, str(ROOT), str(folder), str(wanted), when, how]
    return subprocess.run(command, capture_output=True, check=False)


def write_old(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(OLD)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["with locks", "without locks"])
def test_a_process_killed_at_any_system_call_leaves_all_old_or_all_new_or_a_gap(tmp_path: Path, how: str) -> None:
    # About 120 points in all: before and after each call, with locks and without.
    write_old(tmp_path / "counting")
    complete = suicide(tmp_path / "counting", 0, "before", how)
    assert complete.returncode == 0, complete.stderr
    calls = int(complete.stdout)
    assert calls > 20
    for wanted in range(1, calls + 1):
        for when in ("before", "after"):
            folder = tmp_path / f"{wanted}{when}"
            write_old(folder)
            assert suicide(folder, wanted, when, how).returncode == -signal.SIGKILL
            found = {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}
            assert set(found.values()) in ({OLD}, {NEW}, set())
            for name in set(NAMES) - set(found):
                assert (folder / f"{name}.bnfold-old").read_bytes() == OLD
            with OutputSet() as outputs:
                for name in NAMES:
                    outputs.open(folder / name).write(b"newer")
            assert {name: (folder / name).read_bytes() for name in NAMES} == dict.fromkeys(NAMES, b"newer")
            if how == "with locks":
                assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


# Sends Ctrl-C at the n-th line of our own code, for every n there is; what is left must be gone with the set.
INTERRUPTED = """
import gc, os, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from interrupting import CtrlC
from bnfold.io.files import OutputSet
folder = Path(sys.argv[3])

def write():
    with OutputSet() as outputs:
        outputs.open(folder / "net.caffemodel").write(b"new")
        outputs.open(folder / "net.prototxt").write(b"new")

def left_at(step):
    with CtrlC(step, ("files.py", "signals.py", "contextlib.py")) as ctrl_c:
        write()
    gc.collect()
    names = sorted(os.listdir(folder))
    for name in names:
        os.unlink(folder / name)
    return ctrl_c.came, names

step, halves, said = 1, [], []
sys.unraisablehook = lambda lost: isinstance(lost.exc_value, KeyboardInterrupt) or said.append(str(lost.exc_value))
came, names = left_at(step)
while came:
    if names not in ([], ["net.caffemodel", "net.prototxt"]):
        halves.append((step, names))
    step += 1
    came, names = left_at(step)
print(step, halves + said)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be deferred on this system")
def test_ctrl_c_at_any_line_leaves_both_files_or_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(ROOT), str(ROOT / "tests"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    steps, halves = done.stdout.split(maxsplit=1)
    assert int(steps) > 100, "the steps are too few to mean anything"
    assert halves == "[]\n"
