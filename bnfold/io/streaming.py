"""Bytes on their way into a file: the system copies them while numpy computes the next ones.

    stream = Stream(descriptor)
    stream.write(memoryview(values))    # the first large one begins a thread; small files never need it
    stream.drain()                      # here all of it is in the file

The thread does nothing but `write(2)`, which needs none of Python's locks. What is handed over travels by two queues
that cannot be left half-way by Ctrl-C: one of buffers, one of answers.
"""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Thread

LARGE = 1 << 16
"""Bytes from which a buffer is handed over; below that a thread costs more than it saves."""

_AHEAD = 4
_STEP = 1 << 24
_RESERVED = 1 << 26
UNLIMITED = 1 << 62


class Stream:
    """Writes to the end of a descriptor, which stays the caller's to close.

    Args:
        descriptor: open for writing, at its end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = self._reserved = self._begun = 0
        self._given: SimpleQueue[memoryview | None] = SimpleQueue()
        self._answers: SimpleQueue[Exception | None] = SimpleQueue()
        self._waiting = 0
        self._stopped = False
        self._thread: Thread | None = None

    def write(self, view: memoryview) -> None:
        """Append bytes, which must not change before `drain`.

        Raises:
            OSError: of this write, or of one before.
        """
        if self._thread is None and view.nbytes < LARGE:
            self._append(view)
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, daemon=True)
            self._thread.start()
        self._given.put(view)
        self._waiting += 1
        self._await(_AHEAD)

    def drain(self) -> None:
        """Wait until everything is written, and give back what was reserved beyond it. Raises OSError."""
        self._await(0)
        self.stop()
        if self._reserved:
            os.ftruncate(self._descriptor, self._size)

    def stop(self) -> None:
        """End the thread, whatever is still to be written; does nothing the second time."""
        self._stopped = True
        if self._thread is not None:
            self._given.put(None)
            self._thread.join()
            self._thread = None

    def _await(self, most: int) -> None:
        """Wait for answers until at most `most` are missing."""
        while self._waiting > most:
            error = self._answers.get()
            self._waiting -= 1
            if error is not None:
                raise error

    def _work(self) -> None:
        while (view := self._given.get()) is not None and not self._stopped:
            try:
                self._append(view)
            except Exception as error:  # else nobody would answer, and the other side wait for ever
                self._answers.put(error)
            else:
                self._answers.put(None)

    def _append(self, view: memoryview) -> None:
        if view.nbytes >= LARGE:
            self._reserve(self._size + view.nbytes)
        while view:
            written = os.write(self._descriptor, view[:_STEP])
            view = view[written:]
            self._size += written
        if self._size - self._begun >= _STEP and hasattr(os, "posix_fadvise"):
            # Linux answers this by starting to write to the disk, in the background: fsync has less to wait for.
            os.posix_fadvise(self._descriptor, self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._size

    def _reserve(self, size: int) -> None:
        """Have the system find room for many bytes at once, which costs it half of finding room for each write."""
        if size <= self._reserved or not hasattr(os, "posix_fallocate"):
            return
        wanted = max(_RESERVED, size - self._reserved)
        try:
            os.posix_fallocate(self._descriptor, self._reserved, wanted)
        except OSError:
            # A full disk may have room for the rest; where nothing can be reserved there is no use in asking again.
            self._reserved = UNLIMITED
        else:
            self._reserved += wanted
