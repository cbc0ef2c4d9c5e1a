"""Kills `bnfold fold` at chosen lines of its own code; a script for test_kill.py, in a process without threads.

    python tests/killing.py FOLDER POINTS [in-place]

FOLDER holds in.prototxt and in.caffemodel, and old.prototxt and old.caffemodel, the pair that stands where the result
goes. The command runs once to the end, and its lines are counted. Then it runs POINTS times more, each time in a child
that kills itself at another line; what it leaves is written down, read, repaired by a run that is not killed, and
written down again. The account goes to FOLDER/account.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bnfold
from bnfold.algebra import fold  # noqa: F401
from bnfold.caffe import weights, write  # noqa: F401  (imported before forking, so that each child is quick)
from bnfold.cli import main
from bnfold.io import files

PACKAGE = str(Path(bnfold.__file__).parent)
PAIR = ("out.prototxt", "out.caffemodel")


class Counter:
    """Counts the lines of the package that are run, notes when writing begins, and kills at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.lines, self.writing, self.kill_at = 0, 0, kill_at

    def trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "call" and frame.f_code is files.OutputSet._commit.__code__:
            self.writing = self.writing or self.lines
        if event == "line":
            self.lines += 1
            if self.lines == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def command(folder: Path, in_place: bool) -> list[str]:
    if in_place:
        return ["fold", *map(str, pair(folder)), "-o", str(folder / PAIR[0]), "--in-place", "--no-verify"]
    inputs = [str(folder / f"in{Path(name).suffix}") for name in PAIR]
    return ["fold", *inputs, "-o", str(folder / PAIR[0]), "--no-verify"]


def pair(folder: Path) -> list[Path]:
    return [folder / name for name in PAIR]


def run(folder: Path, in_place: bool, counter: Counter | None = None) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            if counter:
                sys.settrace(counter.trace)
            main(command(folder, in_place))
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            sys.settrace(None)
    return 0


def prepare(folder: Path) -> None:
    """The old pair and nothing else."""
    for path in folder.iterdir():
        if path.name not in ("in.prototxt", "in.caffemodel", "old.prototxt", "old.caffemodel", "account.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in pair(folder):
        shutil.copyfile(folder / f"old{path.suffix}", path)


def contents(folder: Path) -> dict[str, str]:
    """What stands there besides inputs, as hexadecimal; "" for a folder."""
    kept = ("in.", "old.", "account.")
    return {
        path.name: path.read_bytes().hex() if path.is_file() else ""
        for path in sorted(folder.iterdir())
        if not path.name.startswith(kept)
    }


def complaint(folder: Path) -> str:
    """What reading the pair says; empty when it reads."""
    try:
        bnfold.load(*pair(folder))
    except bnfold.BnfoldError as error:
        return str(error)
    return ""


def killed(folder: Path, in_place: bool, line: int) -> dict[str, Any]:
    prepare(folder)
    child = os.fork()
    if not child:
        run(folder, in_place, Counter(line))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    after = {"left": contents(folder), "complaint": complaint(folder)}
    code = run(folder, in_place)
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"line": line, "signal": signalled, **after, "code": code, "repaired": contents(folder)}


def points(counter: Counter, count: int) -> list[int]:
    """A quarter spread over the lines up to the commit, the rest over those from there on, where it matters."""
    early = [1 + counter.writing * i // (count // 4) for i in range(count // 4)]
    late = count - len(early)
    span = counter.lines - counter.writing
    return sorted(early + [counter.writing + 1 + span * i // late for i in range(late)])


def account(folder: Path, count: int, in_place: bool) -> dict[str, Any]:
    prepare(folder)
    run(folder, in_place)  # imports what is imported late, whose lines run once only
    prepare(folder)
    counter = Counter()
    run(folder, in_place, counter)
    new = contents(folder)
    return {
        "lines": counter.lines,
        "lines after commit": counter.lines - counter.writing,
        "new": new,
        "points": [killed(folder, in_place, line) for line in points(counter, count)],
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "account.json").write_text(json.dumps(account(place, int(sys.argv[2]), "in-place" in sys.argv)))
