"""What a command says when something stops it: one sentence for each exception, and where its output cannot go."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bnfold.errors import BnfoldError, WriteError, as_subject
from bnfold.options import WEIGHTS
from bnfold.report.words import shortened, visible

if TYPE_CHECKING:
    from bnfold.report.run import RunReport

DISTRIBUTIONS = {"PIL": "Pillow", "google": "protobuf"}
"""Module -> the package that has it, where the two have different names."""
OF_MEMORY = ("memory", "failed to map segment")
"""Words of the loader where it was given no memory."""
CUT_SHORT = "code that Python keeps of a module is cut short, as by a full disk; remove the folders __pycache__"
REPORT = re.compile(rb'\s*{\s*"schema": "bnfold-')
"""How a file that `--json` wrote begins."""
UNUSABLE, FAULTY = 2, 70
"""Exit codes: wrong usage or a file that cannot be used; a fault of bnfold itself."""


class ReportLost(WriteError):
    """What a command says cannot be printed: its reader has gone, or the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the report cannot be written: {error.strerror or error}")
        self.reader_has_gone = isinstance(error, BrokenPipeError)


class Printed:
    """Standard output whose errors are raised as `ReportLost`, to tell them from those of files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As a stream has it."""
        with _losing():
            return self._stream.write(text)

    def flush(self) -> None:
        """As a stream has it."""
        with _losing():
            self._stream.flush()


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportLost(error) from None


@contextmanager
def telling(report: RunReport) -> Iterator[None]:
    """Note on an exception that stops the report which files were written, and which were not."""
    try:
        yield
        sys.stdout.flush()
    except BaseException as error:
        if report.written:
            proved = ", and proved" if report.proofs else ""
            error.add_note(f"{as_subject(report.written)} written{proved} before that")
        if report.rejected:
            error.add_note(f"{as_subject(report.rejected)} not written, since the proof failed")
        raise


def answer(error: Exception) -> tuple[str, int]:
    """The message for an exception, and the exit code."""
    if isinstance(error, BnfoldError):
        return with_notes(shortened(visible(str(error))), error), UNUSABLE
    if isinstance(error, MemoryError):
        return with_notes("out of memory", error, "nothing was left half-written"), UNUSABLE
    if isinstance(error, OSError):
        # Files that are read or written have their own sentences; this is what the system refuses otherwise.
        name = f"{visible(str(error.filename))}: " if error.filename is not None else ""
        return with_notes(f"the system refuses: {name}{error.strerror or error}", error), UNUSABLE
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return with_notes("the system allows no further thread (see `ulimit -u`)", error), UNUSABLE
    if isinstance(error, ImportError) and not (error.name or "").startswith("bnfold"):
        return with_notes(not_loaded(error), error), UNUSABLE
    if isinstance(error, SystemError):  # what C code makes of an allocation that failed
        return with_notes(f"Python itself failed (out of memory?): {error}", error), UNUSABLE
    if isinstance(error, EOFError):
        return with_notes(CUT_SHORT, error), UNUSABLE
    # Python would leave with 1, which means here that two networks differ.
    with suppress(OSError, MemoryError):
        import traceback

        traceback.print_exception(error)
    return "this is a fault of bnfold and not of your files; please report it", FAULTY


def write_error(path: Path, message: str, code: int) -> None:
    """Say what stopped a command in place of its report as JSON, so that nobody takes one of another run for it.

    Args:
        path: - for standard output. A file is written where there is none yet, or one that bnfold wrote for programs;
            not where the message says what is wrong with that very file.
        message: as it is printed.
        code: the exit code.
    """
    import json

    text = json.dumps({"schema": "bnfold-error", "version": 1, "message": message, "exit_code": code}) + "\n"
    with suppress(OSError, ValueError, BnfoldError):
        if str(path) == "-":
            print(text, end="", flush=True)
        elif message.startswith(f"{path}: ") or f"--json {path}: " in message:
            return
        elif not path.exists() or (path.is_file() and REPORT.match(_begin(path))):
            from bnfold.io.files import OutputSet

            with OutputSet() as outputs:
                outputs.write_text(path, text)


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def not_loaded(error: ImportError) -> str:
    """What keeps a library from being loaded, and what to do: it is missing, it is broken, or memory is short."""
    package = (error.name or "").partition(".")[0]
    # numpy says on several lines what the loader said on one.
    said = visible(" ".join(str(error).strip().splitlines()[-1:]))
    name = visible(DISTRIBUTIONS.get(package, package))
    if isinstance(error, ModuleNotFoundError) and package:
        if error.name == package:
            return f"the Python package {name} is missing; 'pip install {name}' installs it"
        return f"the Python package {name} is incomplete: {said}; 'pip install --force-reinstall {name}' may repair it"
    if any(word in str(error) for word in OF_MEMORY):
        return f"a library cannot be loaded (out of memory?): {said}"
    again = f"; 'pip install --force-reinstall {name}' may repair it" if name else ""
    return f"a library cannot be loaded: {said}{again}"


def with_notes(message: str, error: BaseException, otherwise: str = "") -> str:
    """A message with what became of the files, as it was noted on the exception."""
    return "; ".join([message, *map(visible, getattr(error, "__notes__", [otherwise] if otherwise else []))])


def forget(stream: TextIO) -> None:
    """Send what a stream could not write to the null device, or Python would fail once more at its exit, with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


NO_NUMBER = {"float": "no number", "integer": "no whole number"}
"""What click calls a kind of number -> what a word is that it cannot read as one."""


def misused(message: str, command: str, words: Sequence[str]) -> str:
    """The message for a wrong command line; a file whose name begins with a dash was taken for options."""
    said = visible(message.rstrip(".").replace("\n", " "))
    options = takewhile(lambda word: word != "--", words)
    file = visible(next((word for word in options if word.startswith("-") and os.path.isfile(word)), ""))
    said += f"; write the file '{file}' as './{file}', since options begin with a dash" if file else ""
    if said.startswith("No such command") and os.path.isfile(words[0]):
        said = f"a command stands in front of a file, as in 'bnfold inspect {visible(words[0])}'"
    said = re.sub(" is not a valid (integer|float)( range)?$", lambda kind: f" is {NO_NUMBER[kind[1]]}", said)
    return f"{said} ('{command} --help' lists what there is)"


def too_many(command: str, extra: list[str], words: list[str]) -> str:
    """What to write instead of a file in a place where there is none."""
    behind = words[words.index("--") :] if "--" in words else []
    if option := next((word for word in behind[1:] if word.startswith("-") and not os.path.isfile(word)), ""):
        return f"{visible(option)} stands after '--', which only files may follow; put options before it"
    file, suffix = f"{visible(extra[0])} is one file too many", Path(extra[0]).suffix.lower()
    if command == "diff":
        return f"{file}: two models are compared, with weights that lie elsewhere as NET.prototxt:WEIGHTS.caffemodel"
    if suffix in (".onnx", ".prototxt") and command != "inspect":
        return f"{file}: outputs are named with -o, as in '-o {visible(extra[0])}'"
    if suffix in WEIGHTS:
        return f"{file}: several caffemodels are joined by commas, as in a.caffemodel,b.caffemodel"
    return f"{visible(extra[0])} is one argument too many"
