"""Ctrl-C at every step of handing work to a thread, and of waiting for it, leaves no thread that waits for ever."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from queue import Empty

import pytest

from bnfold.compare.threads import Threads, result_of

ROOT = Path(__file__).parents[2]

# Raises a signal at the n-th step of Python's own code for locks, executors and futures, for every n there is.
SCRIPT = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from interrupting import CtrlC
from bnfold.compare.threads import Threads, result_of

signal.signal(signal.SIGINT, signal.default_int_handler)
ours = sys.argv[1] == "ours"

def interrupted_at(step):
    pool = (Threads if ours else ThreadPoolExecutor)(2)
    begin = threading.Event()
    with CtrlC(step, ("threading.py", "thread.py", "_base.py")) as ctrl_c:
        first = pool.submit(abs, -1)
        second = pool.submit(begin.wait, 0.002)
        for future in (first, second):
            result_of(future) if ours else future.result()
    pool.shutdown(wait=False, cancel_futures=True)
    for thread in pool._threads:
        thread.join(60 if ours else 5)
        if thread.is_alive():
            print("a thread waits for ever, interrupted at step", step, flush=True)
            os._exit(1)
    return ctrl_c.came

step = 1
while interrupted_at(step):
    step += 1
print(step, "steps", flush=True)
os._exit(0)
"""


def tried(kind: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, kind],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONDEVMODE": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be deferred on this system")
def test_ctrl_c_at_every_step_leaves_no_thread_waiting() -> None:
    done = tried("ours")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 20, "the steps are too few to mean anything"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be deferred on this system")
def test_pythons_own_executor_does_not_bear_it() -> None:
    done = tried("python")
    assert done.returncode != 0, "Threads would be needed no more"
    assert "waits for ever" in done.stdout or "unlocked lock" in done.stderr


@pytest.mark.parametrize("interval", [None, 0.001])
def test_what_a_thread_raises_is_raised_and_what_it_gives_is_not_kept(interval: float | None) -> None:
    def fails() -> None:
        time.sleep(0.01)
        raise Empty

    class Values:
        pass

    def gives() -> Values:
        time.sleep(0.01)
        return Values()

    with Threads(1) as threads:
        with pytest.raises(Empty):
            result_of(threads.submit(fails), interval)
        gc.disable()
        try:
            known = weakref.ref(result_of(threads.submit(gives), interval))
            threads.submit(int).result()  # the thread lets go of what it did before
            assert known() is None
        finally:
            gc.enable()
