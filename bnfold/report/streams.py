"""Where the output of a command goes: a report whose reader has gone, and an error in place of a report as JSON."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bnfold.errors import BnfoldError, WriteError, as_subject

if TYPE_CHECKING:
    from bnfold.report.run import RunReport

REPORT = re.compile(rb'\s*{\s*"schema": "bnfold-')
"""How a file that `--json` wrote begins."""


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
def noting_files(report: RunReport) -> Iterator[None]:
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


def discard(stream: TextIO) -> None:
    """Send what a stream could not write to the null device, or Python would fail once more at its exit, with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
