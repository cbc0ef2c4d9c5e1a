"""The one pass over a pair of blobs: the sums, extremes and counts that every figure is made of.

Letters, as in `docs/report.md`: r and c are values of the reference and the candidate, e = c - r. Sums are float64,
made by blocks that stay in a processor's cache. The code is written once, against the array API standard: numpy runs
it on the host, CuPy and torch where their arrays lie, and only what comes of the pass crosses to the host.

A histogram's bins are the leading bits of |e| as a float32: its exponent and the first two bits behind the point, so
four bins an octave with the lower edges 2^E * (1, 1.25, 1.5, 1.75). What lies outside goes to the first or last bin.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from bnfold.compare.backends import (
    COUNTS,
    HIGHEST,
    LARGEST,
    LOWEST,
    LOWEST_EXPONENT,
    PEAK,
    PLACE,
    ROWS,
    SHORT,
    SUMS,
    Backend,
    Float64,
    Int64,
    backend_of,
)
from bnfold.net import Array
from bnfold.runtime import AnyArray


@dataclass(slots=True)
class Passed:
    """What one pass over a pair of blobs gives, for each sample where it says so.

    Attributes:
        low, high, partner_low, partner_high: per sample, of the values that are finite on both sides.
        peak, place: per sample, the largest |e| and its flat index in the sample, infinite where one side alone is not
            finite.
        sum_abs, sum_error, squared_error, squared_reference, squared_candidate, product: per sample.
        channel_error, channel_reference: sums of e^2 and r^2 for each channel, all samples together.
        zero, lost, undefined, above: how many values are equal; are finite on one side alone or differ in kind; are not
            finite on both sides; are above the tolerance of their sample's range (those that are lost among them).
        nan, inf, partner_nan, partner_inf: counts.
        bins: how many values that differ lie in each bin.
    """

    low: Float64
    high: Float64
    partner_low: Float64
    partner_high: Float64
    peak: Float64
    sum_abs: Float64
    sum_error: Float64
    squared_error: Float64
    squared_reference: Float64
    squared_candidate: Float64
    product: Float64
    channel_error: Float64
    channel_reference: Float64
    place: Int64
    bins: Int64
    zero: int = 0
    lost: int = 0
    undefined: int = 0
    nan: int = 0
    inf: int = 0
    partner_nan: int = 0
    partner_inf: int = 0
    above: int = 0


ALIKE = 0.125  # of (sum r^2 + sum c^2): sum r*c from there on follows from the squares

Cut = tuple[slice, slice, slice]


def alike(first: Array, second: Array) -> npt.NDArray[np.bool_]:
    """Where two arrays have the same value, NaN being that of NaN."""
    same: npt.NDArray[np.bool_] = (first == second) | np.isnan(first) & np.isnan(second)
    return same


def span(low: float, high: float) -> float:
    """The range that errors are held against: `high - low`, else the largest magnitude, else 1.

    One beyond float64 counts as its largest number, beside which a large error is still an error.

    Examples:
        >>> span(-1.0, 3.0), span(2.0, 2.0), span(0.0, 0.0)
        (4.0, 2.0, 1.0)
    """
    if low > high:  # no value at all
        return 1.0
    return min(float(high - low), sys.float_info.max) or float(max(abs(low), abs(high))) or 1.0


@cache
def bin_edge(index: int) -> float:
    """The lower edge of a bin; `bin_edge(i + 1)` is its upper one.

    Examples:
        >>> bin_edge(4 * 44), bin_edge(4 * 44 + 1), bin_edge(4 * 43)
        (1.0, 1.25, 0.5)
    """
    octave, quarter = divmod(index, 4)
    return math.ldexp(1 + quarter / 4, LOWEST_EXPONENT + octave)


def measure_together(
    references: Sequence[AnyArray],
    candidates: Sequence[AnyArray],
    view: tuple[int, int, int],
    tolerance: float,
    compiled: bool = False,
) -> list[Passed]:
    """Pass over pairs of blobs that are seen alike, as if they were the samples of one: a GPU is asked once for all.

    Args:
        references, candidates: arrays of one array library on one device.
        view: how each is seen: (samples, channels, values a channel), none of them 0.
        tolerance: of a sample's range; what `above` counts against.
        compiled: take compiled code on the host.
    """
    backend = backend_of(references[0], compiled)
    if backend.on_host and len(references) > 1:
        pairs = zip(references, candidates, strict=True)
        return [measure_together([one], [two], view, tolerance, compiled)[0] for one, two in pairs]
    seen = [[backend.xp.reshape(blob, view) for blob in side] for side in (references, candidates)]
    # On the host blocks are converted, since a blob of bytes as a whole would take eight times its memory.
    sides = [side[0] if backend.on_host else backend.behind(list(map(backend.real, side))) for side in seen]
    with np.errstate(all="ignore"):  # undefined values are counted, and overflow is what the figures then say
        return _measure(backend, sides[0], sides[1], len(references), tolerance)


def _measure(backend: Backend, reference: AnyArray, candidate: AnyArray, blobs: int, tolerance: float) -> list[Passed]:
    count, channels, size = reference.shape
    parts = _parts(size, backend.row)
    sides = [backend.xp.reshape(side, (count, channels * parts, size // parts)) for side in (reference, candidate)]
    counter = backend.counter(blobs)
    cuts = list(_blocks(backend, count, channels * parts, size // parts))
    found: list[Float64] = []
    squares = np.zeros((2, blobs, channels * parts))
    for cut in cuts:
        ours, theirs = (backend.real(side[cut]) for side in sides)
        summed = backend.at_once(ours, theirs, counter)
        if summed is None:
            block = _Block(backend, ours, theirs)
            summed = block.figures(blobs)
            counter.add(block.code(LARGEST if summed[0][PEAK].max() >= LARGEST else math.inf))
        rows, by_channel = summed
        squares[:, :, cut[1]] += by_channel
        found.append(rows)
    table = _gathered(cuts, found, count, size // parts)
    figures = dict(zip(ROWS, table, strict=True))
    product, above = _looked_at_again(backend, sides, cuts, found, figures, tolerance)
    bins, channel_sums = counter.counts(), squares.reshape(2, blobs, channels, parts).sum(axis=3)
    passed, totals = [], table[-len(COUNTS) :].reshape(len(COUNTS), blobs, -1).sum(axis=2)
    for number in range(blobs):
        own = slice(number * (count // blobs), (number + 1) * (count // blobs))
        sums = {name: figures[name][own] for name in (*LOWEST, *HIGHEST, *SUMS)}
        counts = {name: int(total) for name, total in zip(COUNTS, totals[:, number], strict=True)}
        bins[number, 0] -= counts["zero"] + counts["lost"]  # they count as errors of 0 in it
        passed.append(
            Passed(
                **sums,
                **counts,  # type: ignore[arg-type]
                product=product[own],
                place=figures["place"][own].astype(np.int64),
                channel_error=channel_sums[0, number],
                channel_reference=channel_sums[1, number],
                bins=bins[number],
                above=int(above[own].sum()),
            )
        )
    return passed


def _looked_at_again(
    backend: Backend,
    sides: Sequence[AnyArray],
    cuts: Sequence[Cut],
    found: Sequence[Float64],
    figures: Mapping[str, Float64],
    tolerance: float,
) -> tuple[Float64, Float64]:
    """Of each sample the sum of r*c, which the squares tell where both are alike, and how many |e| are too large."""
    limits = tolerance * np.array([span(*ends) for ends in zip(figures["low"], figures["high"], strict=True)])
    above = figures["lost"].copy()
    both = figures["squared_reference"] + figures["squared_candidate"]
    product = (both - figures["squared_error"]) / 2
    unlike = (both > 0) & ~(product > ALIKE * both)
    product[unlike] = 0.0  # what would be left of the squares is their rounding
    for cut, rows in zip(cuts, found, strict=True):
        at = cut[0]
        if unlike[at].any():
            products = _Block(backend, *(backend.real(side[cut]) for side in sides)).product()
            product[at] += np.where(unlike[at], products, 0.0)
        if (rows[PEAK] > limits[at]).any():
            above[at] += _Block(backend, *(backend.real(side[cut]) for side in sides)).above(limits[at])
    return product, above


def _parts(size: int, row: int) -> int:
    """Into how many equal parts a row is cut to be no longer than `row`; 1 where only cuts with a rest would do."""
    least = -(-size // row)
    return next((parts for parts in range(least, 2 * least) if size % parts == 0), 1)


def _blocks(backend: Backend, count: int, channels: int, size: int) -> Iterator[Cut]:
    """Cuts whose values stay in the cache together, in an order that depends on the shape alone."""
    parts = -(-size // backend.row)
    width = -(-size // parts)
    most = backend.row if width < SHORT else backend.block
    rows = max(1, most // width)
    if rows < channels:
        rows -= rows % max(1, backend.row // width)  # as many as make whole dot products
    samples = max(1, most // (channels * size))
    for sample in range(0, count, samples):
        for channel in range(0, channels, rows):
            for start in range(0, size, width):
                yield (
                    slice(sample, min(sample + samples, count)),
                    slice(channel, min(channel + rows, channels)),
                    slice(start, min(start + width, size)),
                )


def _gathered(cuts: Sequence[Cut], found: Sequence[Float64], count: int, size: int) -> Float64:
    """The figures of every sample, (`ROWS`, samples), from those of the blocks, which come in the order of samples."""
    table = np.empty((len(ROWS), count))
    each = sum(1 for cut in cuts if cut[0] == cuts[0][0])  # blocks of the same samples
    start = np.array([cut[1].start * size + cut[2].start for cut in cuts[:each]], np.float64).reshape(-1, 1)
    width = np.array([cut[2].stop - cut[2].start for cut in cuts[:each]], np.float64).reshape(-1, 1)
    whole = len(cuts) if found[-1].shape == found[0].shape else len(cuts) - each  # the last samples may be fewer
    for first, last in ((0, whole), (whole, len(cuts))):
        if first == last:
            continue
        rows = np.stack(found[first:last], axis=1)  # (figures, samples' blocks, samples)
        rows = rows.reshape(len(ROWS), -1, each, rows.shape[2]).transpose(0, 2, 1, 3).reshape(len(ROWS), each, -1)
        at = slice(cuts[first][0].start, cuts[last - 1][0].stop)
        np.minimum.reduce(rows[: len(LOWEST)], axis=1, out=table[: len(LOWEST), at])
        np.maximum.reduce(rows[len(LOWEST) : PLACE], axis=1, out=table[len(LOWEST) : PLACE, at])
        np.add.reduce(rows[PLACE + 1 :], axis=1, out=table[PLACE + 1 :, at])
        channel, position = np.divmod(rows[PLACE], width)
        places = np.where(rows[PEAK] == table[PEAK, at], start + channel * size + position, np.inf)
        np.minimum.reduce(places, axis=0, out=table[PLACE, at])
    return table


class _Block:
    """One block of a pair of blobs, (samples, channels, values), with 0 on both sides where either is not finite.

    The same infinity, or NaN, on both sides is agreement: a network may be undefined there in both forms. What is
    finite on one side alone, or an infinity against another, is lost.
    """

    __slots__ = ("backend", "candidate", "ends", "lost", "nonfinite", "reference", "same", "size")

    def __init__(self, backend: Backend, reference: AnyArray, candidate: AnyArray) -> None:
        self.backend = backend
        self.lost = self.size = None
        self.nonfinite: list[AnyArray] = []
        self.ends = backend.ends(reference, candidate)
        # NaN and infinity stay in a sum, and a sum that only overflows takes the careful way for nothing.
        if math.isfinite(backend.total(self.ends)):
            self.same = backend.same(reference, candidate)
            self.reference, self.candidate = backend.double(reference, 0), backend.double(candidate, 1)
        else:
            self._take_out_nonfinite(reference, candidate)

    def _take_out_nonfinite(self, reference: AnyArray, candidate: AnyArray) -> None:
        xp = self.backend.xp
        sound = xp.isfinite(reference) & xp.isfinite(candidate)
        agreed = (reference == candidate) | (xp.isnan(reference) & xp.isnan(candidate))
        self.lost, self.same = ~(sound | agreed), agreed
        kinds = [kind(side) for side in (reference, candidate) for kind in (xp.isnan, xp.isinf)]
        self.nonfinite = [~sound, *kinds]
        sides = [xp.astype(side, xp.float64) for side in (reference, candidate)]
        none, most = xp.zeros_like(sides[0]), xp.full_like(sides[0], math.inf)
        self.ends = [
            end(xp.where(sound, side, otherwise), axis=(1, 2))
            for end, otherwise in ((xp.min, most), (xp.max, -most))
            for side in sides
        ]
        self.reference, self.candidate = (xp.where(sound, side, none) for side in sides)

    def figures(self, blobs: int) -> tuple[Float64, Float64]:
        """On the host: `ROWS` for each sample, and the sums of e^2 and r^2 for each of so many blobs and channels.

        A backend may write e over c, and |e| over e; each is the last to be wanted of the one before.
        """
        backend, xp = self.backend, self.backend.xp
        reference = backend.row_squares(self.reference)
        candidate = backend.dot(self.candidate, self.candidate)
        error = backend.difference(self.candidate, self.reference)
        squares = [backend.row_squares(error), reference, candidate]
        sum_error = backend.summed(error)
        magnitude = backend.magnitude(error)
        self.size = backend.single(magnitude)
        counts = [backend.counted(self.same)]
        sums = [*squares, backend.summed(magnitude), sum_error]
        flat = xp.reshape(magnitude, (magnitude.shape[0], -1))
        if self.lost is not None:
            counts += [backend.counted(mask) for mask in (self.lost, *self.nonfinite)]
            flat = xp.where(xp.reshape(self.lost, flat.shape), xp.full_like(flat, math.inf), flat)
        return backend.joined([*self.ends, *backend.peak(flat), *sums, *counts], blobs)

    def code(self, most: float) -> AnyArray:
        """The histogram's bin of each |e|, which is at most `most` then; in the backend's type for it."""
        return self.backend.codes(self.backend.clipped(self.size, most < math.inf))

    def product(self) -> Float64:
        """Sum of r*c, for each sample."""
        return self.backend.host(self.backend.dot(self.reference, self.candidate))

    def above(self, limits: Float64) -> Float64:
        """How many |e| are larger than their sample's limit, for each sample."""
        backend, xp = self.backend, self.backend.xp
        bounds = xp.reshape(backend.given(limits), (-1, 1, 1))
        beyond = xp.abs(backend.difference(self.candidate, self.reference)) > bounds
        return backend.host(xp.astype(xp.count_nonzero(beyond, axis=(1, 2)), xp.float64))
