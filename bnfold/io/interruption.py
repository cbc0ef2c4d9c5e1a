"""Ctrl-C that stays Ctrl-C: libraries in C may catch it and raise something of their own in its place."""

from __future__ import annotations

import _thread
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SOON = 0.001  # seconds


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn whatever is raised after Ctrl-C into the `KeyboardInterrupt` that it was.

    Python cannot raise in a destructor or in the callback of a weak reference: it would print a traceback there and go
    on. Ctrl-C that comes in one comes again a little later.

    Where Ctrl-C means something else to the caller, or in another thread, to which it never comes, nothing changes.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        arrived.append(number)
        raise KeyboardInterrupt

    def unraisable(what: UnraisableHookArgs) -> None:
        if arrived and what.exc_type is KeyboardInterrupt:
            _thread.start_new_thread(_interrupt_soon, ())
        else:
            hook(what)

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    try:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, note)
            sys.unraisablehook = unraisable
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
            sys.unraisablehook = hook


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C arrive when the body is done: for a few renames, and for libraries in C++ that it kills in loading."""
    arrived: list[int] = []
    try:
        before = signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    except ValueError:  # not the main thread, to which alone Python gives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def _interrupt_soon() -> None:
    time.sleep(SOON)
    _thread.interrupt_main(signal.SIGINT)
