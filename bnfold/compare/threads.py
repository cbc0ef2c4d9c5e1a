"""Threads that Ctrl-C cannot leave waiting for ever.

Most locks of Python's executors are taken by code in Python. An exception that a signal raises in the main thread right
behind one being taken leaves it taken, and then the thread that needs it never ends, nor does whoever joins it. So the
main thread takes them while signals are deferred, and waits in a queue, which is written in C.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

from bnfold.io.signals import defer_signals

T = TypeVar("T")
P = ParamSpec("P")


class Threads(ThreadPoolExecutor):
    """As `ThreadPoolExecutor`. What its futures give is to be asked for by `result_of`."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call `fn`; a thread that starts for it defers the signals as long as it lives."""
        with defer_signals():
            return super().submit(fn, *args, **kwargs)


def result_of(future: Future[T], interval: float | None = None) -> T:
    """What a future gives; its exception is raised.

    Args:
        future: one of `Threads`.
        interval: seconds of one wait, where signals are handed over between two of them.
    """
    # One queue for all waits: the future would be in the others, which it holds, and its result live on in the circle.
    done: SimpleQueue[Future[T]] = SimpleQueue()
    with defer_signals():
        future.add_done_callback(done.put)
    finished: Future[T] | None = None
    while finished is None:
        with suppress(Empty):
            finished = done.get(timeout=interval)
    return finished.result()
