"""The pass of `kernels` in machine code that numba makes: a pair is loaded once, and goes into every sum.

numpy passes over each block some twenty times, and takes more than twice as long. But the code is made first, which
takes seconds, or one once numba has kept it: `worthwhile` of `backends` says from how many values on that pays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from bnfold.compare.backends import FIRST_CODE, ROWS, SQUARED, BinCounter, Float64, Numpy
from bnfold.net import Array

# numba notices a change of this file alone: what the code is made of stands here, or is given to it.
AT_ONCE = 1 << 11  # values that stay in the first level cache while they are passed over
FOUND = (
    *("low", "partner_low", "high", "partner_high", "peak", "place"),
    *("squared_candidate", "sum_abs", "sum_error", "zero"),
)
MOST = 0x7FFFFFFF  # an int32 without its sign
INFINITY = 0x7F800000  # float32's bits

_SIDE = numba.types.Array(numba.float32, 3, "C", readonly=True)
_SIGNATURE = numba.boolean(_SIDE, _SIDE, numba.float64[:, ::1], numba.float64[:, :, ::1], numba.int64[::1], numba.int64)


def _made(function: Callable[..., bool]) -> Callable[..., bool]:
    """Machine code, kept on the disk where there is a folder for it; the order of the sums is the processor's."""
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"nnan", "ninf", "nsz", "reassoc", "contract"},
    }
    made: Callable[..., bool]
    try:
        made = numba.njit(_SIGNATURE, cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor at home
        made = numba.njit(_SIGNATURE, **options)(function)
    return made


@_made
def _pass_over(
    reference: Array, candidate: Array, found: Array, by_channel: Array, bins: Array, first_code: int
) -> bool:
    """One block, if all of its values are finite.

    Extremes are those of keys: integers that rise with the value, of which several are compared at once.

    Args:
        reference, candidate: (samples, channels, values).
        found: `FOUND` for each sample; extremes as keys.
        by_channel: sums of e^2 and r^2, (2, samples, channels), 0 before.
        bins: the histogram, to which the block is added.
        first_code: the leading bits of what is in the first bin.

    Returns:
        Whether they are; if not, no more than `found` and `by_channel` was written to.
    """
    codes = np.empty(AT_ONCE, np.uint8)
    counted = np.zeros((8, bins.size), np.int32)  # one entry twice in a row would wait for itself
    first, last = np.int32(first_code), np.int32(bins.size - 1)
    size = reference.shape[2]
    for sample in range(reference.shape[0]):
        r, c = reference[sample].reshape(-1), candidate[sample].reshape(-1)
        low = partner_low = np.int32(MOST)
        high = partner_high = np.int32(-MOST)
        largest, place = np.int64(-1), 0
        all_candidate = all_abs = all_error = 0.0
        equal = 0
        for start in range(0, r.size, AT_ONCE):
            ours, theirs = r[start : start + AT_ONCE], c[start : start + AT_ONCE]
            our_bits, their_bits = ours.view(np.int32), theirs.view(np.int32)
            for at in range(ours.size):
                one, two = our_bits[at], their_bits[at]
                key = np.int32(one ^ ((one >> 31) & MOST))
                low, high = min(low, key), max(high, key)
                key = np.int32(two ^ ((two >> 31) & MOST))
                partner_low, partner_high = min(partner_low, key), max(partner_high, key)
            if max(high, partner_high) >= INFINITY or min(low, partner_low) <= ~INFINITY:
                return False
            squared_candidate = sum_abs = sum_error = 0.0
            zero, top = 0, np.int64(0)
            for at in range(ours.size):
                one, two = np.float64(ours[at]), np.float64(theirs[at])
                error = two - one
                magnitude = abs(error)
                squared_candidate += two * two
                sum_abs += magnitude
                sum_error += error
                zero += 1 if ours[at] == theirs[at] else 0
                top = max(top, np.float64(magnitude).view(np.int64))  # of what is not negative, bits are keys
                code = np.int32((np.float32(magnitude).view(np.int32) >> 21) - first)
                codes[at] = np.uint8(min(max(code, np.int32(0)), last))
            if top > largest:
                largest, place = top, start
            all_candidate += squared_candidate
            all_abs += sum_abs
            all_error += sum_error
            equal += zero
            eights = ours.size & ~7
            for at in range(0, eights, 8):
                counted[0, codes[at]] += 1
                counted[1, codes[at + 1]] += 1
                counted[2, codes[at + 2]] += 1
                counted[3, codes[at + 3]] += 1
                counted[4, codes[at + 4]] += 1
                counted[5, codes[at + 5]] += 1
                counted[6, codes[at + 6]] += 1
                counted[7, codes[at + 7]] += 1
            for at in range(eights, ours.size):
                counted[0, codes[at]] += 1
            at = 0
            while at < ours.size:
                channel = (start + at) // size
                stop = min((channel + 1) * size - start, ours.size)
                own, partner = ours[at:stop], theirs[at:stop]
                squared = squared_reference = 0.0
                for position in range(own.size):
                    one = np.float64(own[position])
                    error = np.float64(partner[position]) - one
                    squared += error * error
                    squared_reference += one * one
                by_channel[0, sample, channel] += squared
                by_channel[1, sample, channel] += squared_reference
                at = stop
        peak = np.int64(largest).view(np.float64)
        while abs(np.float64(c[place]) - np.float64(r[place])) != peak:
            place += 1
        keys = float(low), float(partner_low), float(high), float(partner_high)
        sums = all_candidate, all_abs, all_error, float(equal)
        for row, figure in enumerate((*keys, peak, float(place), *sums)):
            found[row, sample] = figure
    bins += counted.sum(axis=0)
    return True


class Compiled(Numpy):
    """Takes blocks of float32 that are finite, and leaves the others to numpy."""

    block = 1 << 18  # both sides of it fit a second level cache, and 20 threads seldom wait for Python between two
    rows = tuple(ROWS.index(name) for name in FOUND)

    def at_once(self, reference: Array, candidate: Array, counter: BinCounter) -> tuple[Float64, Float64] | None:
        """By the compiled pass, where the block is one for it."""
        if any(side.dtype != np.float32 or not side.flags.c_contiguous for side in (reference, candidate)):
            return None
        found, by_channel = np.empty((len(FOUND), len(reference))), np.zeros((2, *reference.shape[:2]))
        if not _pass_over(reference, candidate, found, by_channel, counter.found[0], FIRST_CODE):
            return None
        keys = found[:4].astype(np.int32)
        found[:4] = (keys ^ ((keys >> 31) & MOST)).view(np.float32)
        figures = np.zeros((len(ROWS), len(reference)))
        figures[self.rows, :], figures[SQUARED] = found, by_channel.sum(axis=2)
        return figures, by_channel.sum(axis=1)[:, np.newaxis]
