"""The command `bnfold`, and `python -m bnfold`."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from bnfold.cli import Commands

UNUSABLE = 2
LEAST_MEMORY = 256 << 20  # bytes of address space in which numpy can be loaded with certainty
ASKING = frozenset({"-h", "--help", "-V", "--version", "help"})  # need none of it
arrived: list[int] = []
"""The signals that asked this process to stop."""
answered: list[bool] = []
"""That the answer is given, which no further signal changes."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP.

    CPython marks a KeyboardInterrupt that leaves an `exec` of text, by which dataclasses are made, and kills the
    process at its end whoever has caught it; not so a subclass.
    """

    def __del__(self) -> None:
        """Send the signal again where code has dropped it: a destructor, a callback of a weak reference, code in C."""
        if not isinstance(self.__context__, Stopped) and signal.getsignal(arrived[-1]) is _stop:  # none is answered
            _send_again(arrived[-1])


def _stop(number: int, frame: FrameType | None) -> None:
    """Answer Ctrl-C, SIGTERM and SIGHUP alike: what is half done is cleared up on the way out."""
    if answered:
        return
    if _loads_extension(frame):  # an exception in the middle of onnx's own start ends the process by SIGSEGV
        _send_again(number)
        return
    arrived.append(number)
    raise Stopped


def _loads_extension(frame: FrameType | None) -> bool:
    """Whether Python is loading a module of compiled code, which runs Python as it starts."""
    while frame is not None:
        if type(frame.f_locals.get("self")).__name__ == "ExtensionFileLoader":
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    # To the process, so that it interrupts what the main thread waits for; on Windows os.kill would end it.
    again = partial(os.kill, os.getpid()) if os.name == "posix" else signal.raise_signal
    threading.Timer(0.01, again, [number]).start()


def _tell_unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Say nothing of a signal that came in a destructor or a callback of a weak reference; it is sent again."""
    if not isinstance(lost.exc_value, Stopped):
        sys.__unraisablehook__(lost)


def _open_what_is_closed() -> None:
    """Give a process that was started without a standard stream an empty one, or the next file would take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, closefd=False))  # noqa: SIM115 - as Python's own


def _heed_limits() -> None:
    """Say that a limit leaves no room for numpy, whose OpenBLAS would end the process with 1 by itself.

    Under a limit of a file's size Python would keep the code of modules cut off, for every later command to fail on.
    """
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_FSIZE, getrlimit
    except ImportError:  # not on Windows
        return
    if getrlimit(RLIMIT_FSIZE)[0] != RLIM_INFINITY:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # for the processes that a comparison starts
    limit = getrlimit(RLIMIT_AS)[0]
    if limit != RLIM_INFINITY and limit < LEAST_MEMORY and not ASKING.intersection(sys.argv):
        needed = LEAST_MEMORY >> 20
        sys.stderr.write(f"bnfold: this process may use {limit >> 20} MB (ulimit -v), and needs {needed} MB at least\n")
        sys.exit(UNUSABLE)


def _command() -> Commands:
    """The command line, or a sentence where the system does not let it be loaded (`ulimit -n 4`, `ulimit -v 20000`)."""
    try:
        from bnfold.cli import main
    except (EOFError, ImportError, MemoryError, OSError) as error:
        said = str(error)
        if isinstance(error, EOFError):
            from bnfold.report.messages import CUT_SHORT

            said = CUT_SHORT
        if isinstance(error, ModuleNotFoundError):
            from bnfold.report.messages import not_loaded

            said = not_loaded(error)
        sys.stderr.write(f"bnfold: cannot start: {said}\n")
        sys.exit(UNUSABLE)
    return main


def _leave(code: str | int | None) -> NoReturn:
    """End an interrupted process without taking down its compiled libraries: see docs/architecture.md."""
    atexit._run_exitfuncs()  # temporary files and other processes are cleared up as ever
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # who reads it has gone
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def run() -> None:
    """Run the command line as a process of its own, whose signals are its own to answer."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # `nohup` and shells without job control have a process ignore some, and mean it.
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    sys.unraisablehook = _tell_unraisable
    try:
        for number in numbers:
            signal.signal(number, _stop)
        _open_what_is_closed()
        _heed_limits()
        # Its threads would spin beside ours, and take memory that a limit may not leave: see docs/architecture.md.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _command()(stopped_by=arrived)
    except Stopped:
        sys.exit(128 + arrived[0])
    except MemoryError:  # again, while the first one was answered
        sys.stderr.write("bnfold: out of memory; nothing was left half-written\n")
        sys.exit(UNUSABLE)
    except Exception:  # Python before 3.12 makes a RuntimeError of what is raised while a class is made
        if not arrived:
            raise
        sys.exit(128 + arrived[0])
    finally:
        answered.append(True)  # CPython looks for signals behind a call, `signal.signal` among them
        # What is left is Python's own leaving, with the answer that was given already.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        leaving = sys.exc_info()[1]
        if arrived and isinstance(leaving, SystemExit):
            _leave(leaving.code)
        # Python seeks cycles among all that is left before it ends, for nothing: see docs/architecture.md.
        gc.freeze()


if __name__ == "__main__":
    run()
