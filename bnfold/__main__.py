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


def run() -> None:
    """Run the command line as a process of its own.

    Such a process is short and makes next to no cycles, so looking for them (an eighth of the time that folding
    ResNet-152 takes, `benchmarks/run.py`) would find nothing.
    """
    signal.signal(signal.SIGINT, _leave)
    from bnfold.cli import main

    gc.disable()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            # Python would die of the signal itself where Ctrl-C came in the middle of an `exec`.
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(INTERRUPTED)
        raise
    finally:
        # What is left is Python's own leaving, with the answer that was given already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.freeze()


if __name__ == "__main__":
    run()
