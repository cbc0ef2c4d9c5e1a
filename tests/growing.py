"""Whether what a piece of work costs grows as the work does, held on machines that do other things beside.

No time is asserted: two sizes are timed in turns, and their ratio counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 6


def growth(small: Callable[[], object], large: Callable[[], object], below: float) -> float:
    """How many times the processor time of `small` the time of `large` is.

    Python's own search for cycles, which is not linear, stays out of it.
    """
    return ratio(lambda: seconds(small), lambda: seconds(large), below)


def ratio(small: Callable[[], float], large: Callable[[], float], below: float) -> float:
    """How many times the cost `small()` the cost `large()` is, each the least of several runs in turns.

    Ends as soon as the ratio is below what is asked for: a busy machine makes a run longer and never shorter, so that
    more runs only come nearer to the cost itself.
    """
    least, most = small(), large()
    for _ in range(TRIES):
        if most < below * least:
            break
        least, most = min(least, small()), min(most, large())
    return most / least


def seconds(work: Callable[[], object]) -> float:
    """What one run takes, in seconds of processor."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.enable()
