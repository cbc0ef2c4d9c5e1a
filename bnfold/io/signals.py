"""Signals that wait while a few files are renamed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

# Windows has no SIGHUP.
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP arrive when the body is done, where a handler in Python answers them.

    A handler that is not Python's is its owner's business; without a handler the process ends at once, as it would at
    `kill -9`.
    """
    arrived: list[int] = []
    before = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda number, _: arrived.append(number))
    except ValueError:  # not the main thread, to which alone Python gives signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(arrived):
            signal.raise_signal(number)
