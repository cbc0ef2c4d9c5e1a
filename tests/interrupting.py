"""Ctrl-C at the n-th line of some files, for tests that try every line that there is."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any


class CtrlC:
    """Sends Ctrl-C in the body of a `with` when so many lines of some files have run, and bears it.

    Args:
        step: at which line, counted from 1.
        files: how the names of these files end.
    """

    def __init__(self, step: int, files: tuple[str, ...]) -> None:
        self._left, self._files = step, files

    @property
    def came(self) -> bool:
        """Whether the body had so many lines."""
        return self._left <= 0

    def __enter__(self) -> CtrlC:
        sys.settrace(self._trace)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(self._files):
            return None
        if event != "call":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._trace
