"""The pass of `kernels` in machine code that numba makes: a pair is loaded once, and goes into every sum.

numpy passes over each block some twenty times, and takes more than twice as long. But the code is made first, which
takes seconds, or one once numba has kept it: `worthwhile` of `backends` says from how many values on that pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from bnfold.compare.backends import FIRST_CODE, ROWS, BinCounter, Float64, Numpy
from bnfold.net import Array

# numba notices a change of this file alone: what the code is made of stands here, or is given to it.
AT_ONCE = 1 << 11  # values that stay in the first level cache while their bins are counted
FOUND = ("peak", "place", "sum_abs", "sum_error", "squared_reference", "squared_candidate", "zero")

_SIDE = numba.types.Array(numba.float32, 3, "C", readonly=True)
_SIGNATURE = numba.void(_SIDE, _SIDE, numba.float64[:, ::1], numba.float64[:, ::1], numba.int64[::1], numba.int64)


def _made(function: Callable[..., None]) -> Callable[..., None]:
    """Machine code, kept on the disk where there is a folder for it; the order of the sums is the processor's."""
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"nnan", "ninf", "nsz", "reassoc", "contract"},
    }
    try:
        return numba.njit(_SIGNATURE, cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor at home
        return numba.njit(_SIGNATURE, **options)(function)


@_made
def _pass_over(reference: Any, candidate: Any, found: Any, by_channel: Any, bins: Any, first_code: int) -> None:
    """One block whose values are finite.

    Args:
        reference, candidate: (samples, channels, values).
        found: `FOUND` for each sample.
        by_channel: sum of e^2, (samples, channels).
        bins: the histogram, to which the block is added.
        first_code: the leading bits of what is in the first bin.
    """
    codes = np.empty(AT_ONCE, np.uint8)
    even, odd = np.zeros_like(bins), np.zeros_like(bins)  # one entry twice in a row would wait for itself
    for sample in range(reference.shape[0]):
        r, c = reference[sample].reshape(-1), candidate[sample].reshape(-1)
        largest, place = np.int64(-1), 0
        all_abs = all_error = all_reference = all_candidate = 0.0
        equal = 0
        for start in range(0, r.size, AT_ONCE):
            ours, theirs = r[start : start + AT_ONCE], c[start : start + AT_ONCE]
            sum_abs = sum_error = squared_reference = squared_candidate = 0.0
            zero, top = 0, np.int64(0)
            for at in range(ours.size):
                one, two = np.float64(ours[at]), np.float64(theirs[at])
                error = two - one
                size = abs(error)
                sum_abs += size
                sum_error += error
                squared_reference += one * one
                squared_candidate += two * two
                zero += ours[at] == theirs[at]
                top = max(top, np.float64(size).view(np.int64))  # of what is not negative, the bits rise with it
                code = (np.float32(size).view(np.int32) >> 21) - first_code
                codes[at] = min(max(code, 0), bins.size - 1)
            if top > largest:
                largest, place = top, start
            for at in range(0, ours.size - 1, 2):
                even[codes[at]] += 1
                odd[codes[at + 1]] += 1
            if ours.size % 2:
                even[codes[ours.size - 1]] += 1
            all_abs += sum_abs
            all_error += sum_error
            all_reference += squared_reference
            all_candidate += squared_candidate
            equal += zero
        peak = np.int64(largest).view(np.float64)
        while abs(np.float64(c[place]) - np.float64(r[place])) != peak:
            place += 1
        figures = peak, float(place), all_abs, all_error, all_reference, all_candidate, float(equal)
        for row, figure in enumerate(figures):
            found[row, sample] = figure
        for channel in range(reference.shape[1]):
            squared = 0.0
            for at in range(reference.shape[2]):
                error = np.float64(candidate[sample, channel, at]) - np.float64(reference[sample, channel, at])
                squared += error * error
            by_channel[sample, channel] = squared
    bins += even + odd


class Compiled(Numpy):
    """Takes blocks of float32 that are finite, and leaves the others to numpy."""

    block = 1 << 18  # both sides of it fit a second level cache, and 20 threads seldom wait for Python between two
    rows = tuple(ROWS.index(name) for name in FOUND)

    def at_once(self, reference: Array, candidate: Array, counter: BinCounter) -> tuple[Float64, Float64] | None:
        """By the compiled pass, where the block is one for it."""
        if any(side.dtype != np.float32 or not side.flags.c_contiguous for side in (reference, candidate)):
            return None
        ends = self.ends(reference, candidate)
        if not math.isfinite(self.total(ends)):
            return None
        found, by_channel = np.empty((len(FOUND), len(reference))), np.empty(reference.shape[:2])
        _pass_over(reference, candidate, found, by_channel, counter.found[0], FIRST_CODE)
        figures = np.zeros((len(ROWS), len(reference)))
        figures[: len(ends)], figures[self.rows, :] = ends, found
        return self.totalled(figures, by_channel)
