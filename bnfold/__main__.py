"""The command `bnfold`, and `python -m bnfold`."""

from __future__ import annotations

import gc
import os
import signal
import sys

INTERRUPTED = 130

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Answer Ctrl-C before anything has begun: there is nothing to clear up, and no use in a traceback."""
    del number, frame
    os._exit(INTERRUPTED)


def _open_what_is_closed() -> None:
    """Give a process that was started without a standard stream an empty one, or the next file would take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode))  # noqa: SIM115 - as long as the process


def run() -> None:
    """Run the command line as a process of its own.

    Such a process is short and makes next to no cycles, so looking for them would take its time and find nothing. No
    more is there for OpenBLAS to do, whose threads would spin beside ours; and what is in memory at the end need not be
    taken apart piece by piece.
    """
    signal.signal(signal.SIGINT, _leave)
    _open_what_is_closed()
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bnfold.cli import main

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    finally:
        # What is left is Python's own leaving, with the answer that was given already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The command has flushed what it said, or has said why it could not.
    os._exit(code)


if __name__ == "__main__":
    run()
