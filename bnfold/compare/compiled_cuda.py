"""The pass of `kernels` on a GPU of NVIDIA's, in machine code that numba makes: a pair is loaded once.

Asked for one operation at a time, a library passes over the values some twenty times, in float64. Numba's simulator
runs the same code without a GPU; what it lacks (the bits of a float, what a warp exchanges) is not used.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
from numba import float64, int32

from bnfold.compare.backends import BINS, LOWEST_EXPONENT, ROWS, BinCounter, Bits, Float64
from bnfold.runtime import AnyArray

cuda: Any = import_module("numba.cuda")  # numba's own or that of numba-cuda, which takes its place; neither has types

THREADS = 128  # of a block
PART = 1 << 13  # values that a block takes at a time: rows of one sample, or a part of one
EACH = 16  # values of a row that are worth a thread
MOST = float(np.finfo(np.float32).max)
LEAST = ("low", "partner_low")
LARGEST = ("high", "partner_high", "peak")
SUMS = ("squared_candidate", "sum_abs", "sum_error", "zero", "nonfinite")
FOUND = (*LEAST, *LARGEST, "place", *SUMS)
PEAK, PLACE = FOUND.index("peak"), FOUND.index("place")
ENDS, ADDED = PLACE + 1, len(SUMS)  # numba takes numbers for sizes


@cuda.jit(cache=True)  # type: ignore[untyped-decorator]
def _pass_over(
    reference: AnyArray,
    candidate: AnyArray,
    blob_samples: int,
    rows: int,
    lanes: int,
    found: AnyArray,
    squares: AnyArray,
    bins: AnyArray,
) -> None:
    """Some threads share a row; what they found is added by halves, for each row e^2 and r^2, and for all the others.

    Args:
        reference, candidate: (samples, channels, values); a row is a channel of a sample.
        blob_samples: of a blob.
        rows: of a sample that a block takes at a time.
        lanes: threads that share a row, a power of two.
        found: `FOUND` for each time, (figures, samples, times), of the values that are finite on both sides;
            "nonfinite" counts the others, and "place" is the index in the sample.
        squares: sums of e^2 and r^2 for each part of a row, (2, samples, channels, parts).
        bins: the histogram of each blob without the errors of 0, to which the values are added.
    """
    ends = cuda.shared.array((ENDS, THREADS), float64)
    sums = cuda.shared.array((ADDED, THREADS), float64)
    both = cuda.shared.array((2, THREADS), float64)
    counted = cuda.shared.array(BINS, int32)
    own, size, parts, times = cuda.threadIdx.x, reference.shape[2], squares.shape[3], found.shape[2]
    lane = own % lanes
    for item in range(cuda.blockIdx.x, reference.shape[0] * times, cuda.gridDim.x):
        sample, time = item // times, item % times
        first, start = time // parts * rows, time % parts * PART
        last, stop = min(first + rows, reference.shape[1]), min(start + PART, size)
        for at in range(own, BINS, THREADS):
            counted[at] = 0
        cuda.syncthreads()
        low = partner_low = math.inf
        high = partner_high = -math.inf
        peak, place = -1.0, 0
        squared_candidate = sum_abs = sum_error = 0.0
        zero = nonfinite = 0
        for joint in range(first, last, THREADS // lanes):
            row = joint + own // lanes
            squared_error = squared_reference = 0.0
            for at in range(start + lane, stop if row < last else 0, lanes):
                one, two = float64(reference[sample, row, at]), float64(candidate[sample, row, at])
                if not (abs(one) <= MOST and abs(two) <= MOST):
                    nonfinite += 1
                    continue
                error = two - one
                magnitude = abs(error)
                low, high = min(low, one), max(high, one)
                partner_low, partner_high = min(partner_low, two), max(partner_high, two)
                squared_error += error * error
                squared_reference += one * one
                squared_candidate += two * two
                sum_abs += magnitude
                sum_error += error
                if magnitude > peak:
                    peak, place = magnitude, row * size + at
                if magnitude == 0.0:
                    zero += 1
                else:  # four bins an octave, of the value as a float32
                    fraction, exponent = math.frexp(float64(np.float32(min(magnitude, MOST))))
                    code = (exponent - 1 - LOWEST_EXPONENT) * 4 + int((2.0 * fraction - 1.0) * 4.0)
                    cuda.atomic.add(counted, min(max(code, 0), BINS - 1), 1)
            both[0, own], both[1, own] = squared_error, squared_reference
            cuda.syncthreads()
            half = lanes // 2
            while half > 0:
                if lane < half:
                    both[0, own] += both[0, own + half]
                    both[1, own] += both[1, own + half]
                cuda.syncthreads()
                half //= 2
            if lane == 0 and row < last:
                squares[0, sample, row, time % parts] = both[0, own]
                squares[1, sample, row, time % parts] = both[1, own]
        ends[0, own], ends[1, own], ends[2, own], ends[3, own] = low, partner_low, high, partner_high
        ends[PEAK, own], ends[PLACE, own] = peak, float64(place)
        sums[0, own], sums[1, own], sums[2, own] = squared_candidate, sum_abs, sum_error
        sums[3, own], sums[4, own] = float64(zero), float64(nonfinite)
        cuda.syncthreads()
        half = THREADS // 2
        while half > 0:
            if own < half:
                other = own + half
                ends[0, own], ends[1, own] = min(ends[0, own], ends[0, other]), min(ends[1, own], ends[1, other])
                ends[2, own], ends[3, own] = max(ends[2, own], ends[2, other]), max(ends[3, own], ends[3, other])
                higher, same = ends[PEAK, other] > ends[PEAK, own], ends[PEAK, other] == ends[PEAK, own]
                if higher or (same and ends[PLACE, other] < ends[PLACE, own]):
                    ends[PEAK, own], ends[PLACE, own] = ends[PEAK, other], ends[PLACE, other]
                for figure in range(ADDED):
                    sums[figure, own] += sums[figure, other]
            cuda.syncthreads()
            half //= 2
        if own < ENDS:
            found[own, sample, time] = ends[own, 0]
        elif own < ENDS + ADDED:
            found[own, sample, time] = sums[own - ENDS, 0]
        for at in range(own, BINS, THREADS):
            if counted[at] > 0:
                cuda.atomic.add(bins, (sample // blob_samples, at), counted[at])
        cuda.syncthreads()


class CompiledCuda(Bits):
    """Takes blobs of float32 that are finite, and leaves the others to the library."""

    together = 1 << 27  # nothing but their copies is held
    blocks = 1 << 11  # as many as an H100 holds at once

    def at_once(self, reference: AnyArray, candidate: AnyArray, counter: BinCounter) -> tuple[Float64, Float64] | None:
        """By the compiled pass, where the blobs are some for it."""
        xp, (count, channels, size) = self.xp, reference.shape
        if any(side.dtype != xp.float32 for side in (reference, candidate)):
            return None
        rows, parts, blobs = max(1, PART // size), -(-size // PART), len(counter.found)
        lanes = min(THREADS, 1 << (max(1, size // EACH).bit_length() - 1))
        shapes = (len(FOUND), count, -(-channels // rows) * parts), (2, count, channels, parts)
        found, squares = (xp.empty(shape, dtype=xp.float64, device=self.device) for shape in shapes)
        bins = xp.zeros((blobs, BINS), dtype=xp.int32, device=self.device)
        _pass_over[self.blocks, THREADS](reference, candidate, count // blobs, rows, lanes, found, squares, bins)
        highest = xp.max(found[len(LEAST) : PLACE, :, :], axis=2)
        place = found[PLACE, :, :]
        at_peak = xp.where(found[PEAK, :, :] == highest[-1, :, None], place, xp.full_like(place, math.inf))
        given = [
            xp.min(found[: len(LEAST), :, :], axis=2),
            highest,
            xp.min(at_peak, axis=1),
            xp.sum(found[ENDS:, :, :], axis=2),
            xp.sum(squares, axis=(2, 3)),
            xp.sum(xp.reshape(squares, (2, blobs, count // blobs, channels, parts)), axis=(2, 4)),
            xp.astype(bins, xp.float64),
        ]
        sizes = np.cumsum([(len(FOUND) + 2) * count, 2 * blobs * channels])
        rest = self.host(xp.concat([xp.reshape(one, (-1,)) for one in given]))
        figures, by_channel, counts = np.split(rest, sizes)
        names = (*FOUND, "squared_error", "squared_reference")
        named = dict(zip(names, figures.reshape(len(names), count), strict=True))
        if named["nonfinite"].any():
            return None
        counter.found += counts.reshape(blobs, BINS).astype(np.int64)
        zero = named["zero"].reshape(blobs, -1).sum(axis=1)
        counter.found[:, 0] += zero.astype(np.int64)  # where errors of 0 are counted, too
        return np.array([named.get(row, np.zeros(count)) for row in ROWS]), by_channel.reshape(2, blobs, channels)
