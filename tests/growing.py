"""Whether what a piece of work costs grows as the work does, held on machines that do other things beside.

No time is asserted: two sizes are timed in turns, and their ratio counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 6


def growth(small: Callable[[], object], large: Callable[[], object], below: float) -> float:
    """How many times the processor time of `small` the time of `large` is, each the least of several runs in turns.

    Ends as soon as the ratio is below what is asked for: a busy machine makes a run longer and never shorter, so that
    more runs only come nearer to the cost itself. Python's own search for cycles, which is not linear, stays out of it.
    """
    least, most = _seconds(small), _seconds(large)
    for _ in range(TRIES):
        if most < below * least:
            break
        least, most = min(least, _seconds(small)), min(most, _seconds(large))
    return most / least


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.enable()
