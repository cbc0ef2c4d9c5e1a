"""Signals that wait while a few files are renamed, or a lock is taken."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

# Windows has no SIGHUP.
STOPPING = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP arrive when the body is done, whoever answers them.

    They are blocked for this thread, and no handler is touched: whether a host program has one of its own, in C, cannot
    be asked. Where the system gives them to another thread they come at once, and the body must bear that; threads that
    start in the body defer them as long as they live.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
