"""Ctrl-C that stays Ctrl-C: libraries in C may catch it and raise something of their own in its place."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn whatever is raised after Ctrl-C into the `KeyboardInterrupt` that it was.

    Where Ctrl-C means something else to the caller, or in another thread, to which it never comes, nothing changes.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        arrived.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, note)
    except ValueError:
        # Not the main thread.
        before = None
    try:
        yield
    except Exception:
        if arrived:
            raise KeyboardInterrupt from None
        raise
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)
