"""The one pass over a pair of blobs: the sums, extremes and counts that every figure is made of.

Letters, as in `docs/report.md`: r and c are values of the reference and the candidate, e = c - r. Sums are float64,
made by blocks that stay in a processor's cache. The code is written once, against the array API standard: numpy runs
it on the host, CuPy and torch where their arrays lie, and only what comes of the pass crosses to the host.

A histogram's bins are the leading bits of |e| as a float32: its exponent and the first two bits behind the point, so
four bins an octave with the lower edges 2^E * (1, 1.25, 1.5, 1.75). What lies outside goes to the first or last bin.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.net import Array

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LOWEST_EXPONENT = -44  # 6e-14: below, an error is that of the smallest bin
BINS = 256  # 64 octaves of 4, up to 1e6: the codes are bytes, of which two are counted at once
SMALLEST, LARGEST = math.ldexp(1.0, LOWEST_EXPONENT), math.ldexp(1.75, LOWEST_EXPONENT + BINS // 4 - 1)

BLOCK = 1 << 15  # values of a block: five arrays of it in float64 fit the second level cache
ROW = 1 << 13  # values of one dot product: BLAS shares longer ones among threads, which changes how they round
SHORT = 32  # rows below are not worth a dot product each
CODES = 1 << 19  # codes that are counted at once


@dataclass(slots=True)
class Passed:
    """What one pass gives, by sample where it says so.

    Attributes:
        low, high, partner_low, partner_high: per sample, of the values that are finite on both sides.
        peak, place: per sample, the largest |e| and its flat index in the sample, infinite where one side alone is not
            finite.
        sum_abs, sum_error, squared_error, squared_reference, squared_candidate, product: per sample.
        channel_error: sum of e^2 for each channel, all samples together.
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


SUMS = ("sum_abs", "sum_error", "squared_error", "squared_reference", "squared_candidate", "product")
COUNTS = ("zero", "lost", "undefined", "nan", "inf", "partner_nan", "partner_inf")
PEAK = 4  # the place of the peaks among the rows: behind the four extremes, before their places
ROWS = PEAK + 2 + len(SUMS)

Cut = tuple[slice, slice, slice]


def span(low: float, high: float) -> float:
    """The range that errors are held against: `high - low`, else the largest magnitude, else 1.

    Examples:
        >>> span(-1.0, 3.0), span(2.0, 2.0), span(0.0, 0.0)
        (4.0, 2.0, 1.0)
    """
    if low > high:  # no value at all
        return 1.0
    return float(high - low) or float(max(abs(low), abs(high))) or 1.0


def bin_edge(index: int) -> float:
    """The lower edge of a bin; `bin_edge(i + 1)` is its upper one.

    Examples:
        >>> bin_edge(4 * 44), bin_edge(4 * 44 + 1), bin_edge(4 * 43)
        (1.0, 1.25, 0.5)
    """
    octave, quarter = divmod(index, 4)
    return math.ldexp(1 + quarter / 4, LOWEST_EXPONENT + octave)


def measure(reference: Any, candidate: Any, view: tuple[int, int, int], tolerance: float) -> Passed:
    """Pass over one pair of blobs.

    Args:
        reference, candidate: arrays of one array library on one device.
        view: how both are seen: (samples, channels, values a channel), none of them 0.
        tolerance: of a sample's range; what `above` counts against.
    """
    backend = backend_of(reference)
    sides = [backend.real(backend.xp.reshape(side, view)) for side in (reference, candidate)]
    with np.errstate(all="ignore"):  # undefined values are counted, and overflow is what the figures then say
        return _measure(backend, sides[0], sides[1], tolerance)


def _measure(backend: Backend, reference: Any, candidate: Any, tolerance: float) -> Passed:
    count, channels, size = reference.shape
    counter = backend.counter()
    found: dict[int, list[tuple[Cut, Float64]]] = {}  # first sample -> its blocks
    for cut in _blocks(backend, count, channels, size):
        block = _Block(backend, reference[cut], candidate[cut])
        figures = block.figures()
        samples = cut[0].stop - cut[0].start
        peak = figures[PEAK * samples : (PEAK + 1) * samples].max()
        counter.add(block.code(LARGEST if peak >= LARGEST else math.inf))
        found.setdefault(cut[0].start, []).append((cut, figures))
    passed = _empty(count, channels)
    for blocks in found.values():
        limits, peaks = _gather(passed, blocks, size, tolerance)
        for (cut, _), peak in zip(blocks, peaks, strict=True):
            if (peak > limits).any():
                block = _Block(backend, reference[cut], candidate[cut])
                passed.above += block.above(limits)
    passed.above += passed.lost
    passed.bins += counter.counts()
    passed.bins[0] -= passed.zero + passed.lost  # they count as errors of 0 in it
    return passed


def _empty(count: int, channels: int) -> Passed:
    return Passed(
        low=np.zeros(count),
        high=np.zeros(count),
        partner_low=np.zeros(count),
        partner_high=np.zeros(count),
        peak=np.zeros(count),
        place=np.zeros(count, np.int64),
        sum_abs=np.zeros(count),
        sum_error=np.zeros(count),
        squared_error=np.zeros(count),
        squared_reference=np.zeros(count),
        squared_candidate=np.zeros(count),
        product=np.zeros(count),
        channel_error=np.zeros(channels),
        bins=np.zeros(BINS, np.int64),
    )


def _blocks(backend: Backend, count: int, channels: int, size: int) -> Iterator[Cut]:
    """Cuts whose values stay in the cache together, in an order that depends on the shape alone."""
    parts = -(-size // backend.row)
    width = -(-size // parts)
    most = backend.row if width < SHORT else backend.block
    rows = max(1, most // width)
    samples = max(1, most // (channels * size))
    for sample in range(0, count, samples):
        for channel in range(0, channels, rows):
            for start in range(0, size, width):
                yield (
                    slice(sample, min(sample + samples, count)),
                    slice(channel, min(channel + rows, channels)),
                    slice(start, min(start + width, size)),
                )


def _gather(
    passed: Passed, blocks: list[tuple[Cut, Float64]], size: int, tolerance: float
) -> tuple[Float64, list[Float64]]:
    """Put the blocks of the same samples together; gives the samples' limits, and the peaks of each block."""
    at = blocks[0][0][0]
    samples = at.stop - at.start
    rows = np.stack([figures[: ROWS * samples] for _, figures in blocks]).reshape(len(blocks), ROWS, samples)
    low, high, partner_low, partner_high, peak, place = (rows[:, row] for row in range(PEAK + 2))
    passed.low[at], passed.high[at] = low.min(axis=0), high.max(axis=0)
    passed.partner_low[at], passed.partner_high[at] = partner_low.min(axis=0), partner_high.max(axis=0)
    passed.peak[at] = peak.max(axis=0)
    index = np.empty(place.shape, np.int64)
    for number, (cut, _) in enumerate(blocks):
        channel, position = np.divmod(place[number].astype(np.int64), cut[2].stop - cut[2].start)
        index[number] = (cut[1].start + channel) * size + cut[2].start + position
    passed.place[at] = np.where(peak == passed.peak[at], index, np.iinfo(np.int64).max).min(axis=0)
    for name, sums in zip(SUMS, rows[:, PEAK + 2 :].sum(axis=0), strict=True):
        getattr(passed, name)[at] = sums
    for cut, figures in blocks:
        counts = figures[ROWS * samples :]
        for name, count in zip(COUNTS, counts[: len(COUNTS)].tolist(), strict=True):
            setattr(passed, name, getattr(passed, name) + int(count))
        passed.channel_error[cut[1]] += counts[len(COUNTS) :]
    limits = [span(*ends) for ends in zip(passed.low[at], passed.high[at], strict=True)]
    return tolerance * np.array(limits), list(peak)


class _Block:
    """One block of a pair of blobs, (samples, channels, values), with 0 on both sides where either is not finite.

    The same infinity, or NaN, on both sides is agreement: a network may be undefined there in both forms. What is
    finite on one side alone, or an infinity against another, is lost.
    """

    __slots__ = ("backend", "candidate", "ends", "error", "lost", "magnitude", "reference", "strange")

    def __init__(self, backend: Backend, reference: Any, candidate: Any) -> None:
        xp = backend.xp
        self.backend = backend
        self.lost = self.magnitude = None
        self.strange: list[Any] = []
        self.ends = [end(side, axis=(1, 2)) for side in (reference, candidate) for end in (xp.min, xp.max)]
        # NaN and infinity stay in a sum, and a sum that only overflows takes the careful way for nothing.
        if math.isfinite(backend.total(self.ends)):
            self.reference, self.candidate = backend.double(reference, 0), backend.double(candidate, 1)
        else:
            self._take_out_strange(reference, candidate)
        self.error = backend.difference(self.candidate, self.reference)

    def _take_out_strange(self, reference: Any, candidate: Any) -> None:
        xp = self.backend.xp
        sound = xp.isfinite(reference) & xp.isfinite(candidate)
        agreed = (reference == candidate) | (xp.isnan(reference) & xp.isnan(candidate))
        self.lost = ~(sound | agreed)
        kinds = [kind(side) for side in (reference, candidate) for kind in (xp.isnan, xp.isinf)]
        self.strange = [~sound, *kinds]
        sides = [xp.astype(side, xp.float64) for side in (reference, candidate)]
        none, most = xp.zeros_like(sides[0]), xp.full_like(sides[0], math.inf)
        self.ends = [
            end(xp.where(sound, side, otherwise), axis=(1, 2))
            for side in sides
            for end, otherwise in ((xp.min, most), (xp.max, -most))
        ]
        self.reference, self.candidate = (xp.where(sound, side, none) for side in sides)

    def figures(self) -> Float64:
        """On the host, one behind the other: the rows of figures by sample, the counts, and e^2 by channel."""
        backend, error = self.backend, self.error
        xp, (count, _, size) = backend.xp, error.shape
        if size < SHORT:
            by_channel = xp.sum(error * error, axis=2)
            error, reference, candidate = (
                xp.reshape(side, (count, 1, -1)) for side in (error, self.reference, self.candidate)
            )
            squared = xp.vecdot(error, error)
        else:
            by_channel = squared = xp.vecdot(error, error)
            reference, candidate = self.reference, self.candidate
        magnitude = self.magnitude = backend.magnitude(error)
        sums = (
            backend.summed(magnitude),
            backend.summed(error),
            squared,
            xp.vecdot(reference, reference),
            xp.vecdot(candidate, candidate),
            xp.vecdot(reference, candidate),
        )
        flat = xp.reshape(magnitude, (count, -1))
        counts = [backend.zeros(flat)]
        if self.lost is not None:
            counts += [xp.count_nonzero(mask) for mask in (self.lost, *self.strange)]
            counts[0] = counts[0] - counts[1]
            flat = xp.where(xp.reshape(self.lost, (count, -1)), xp.full_like(flat, math.inf), flat)
        place = xp.argmax(flat, axis=1)
        peak = backend.at(flat, place)
        rows = [*self.ends, peak, place, xp.reshape(xp.sum(xp.stack(sums), axis=2), (-1,))]
        return backend.joined(rows, counts, xp.sum(by_channel, axis=0) if count > 1 else by_channel[0])

    def code(self, most: float) -> Any:
        """The histogram's bin of each |e|, which is at most `most` then; in the backend's type for it."""
        return self.backend.codes(self.backend.single(self.magnitude, most < math.inf))

    def above(self, limits: Float64) -> int:
        """How many |e| are larger than their sample's limit."""
        xp = self.backend.xp
        bounds = xp.reshape(self.backend.given(limits), (-1, 1, 1))
        return int(xp.count_nonzero(xp.abs(self.error) > bounds))


class Backend:
    """What the array API standard does not say: how large blocks are, the bits of a float, counting.

    Args:
        xp: the namespace.
        like: an array of the library, for its device.
    """

    on_host = False
    block = row = 1 << 62  # a GPU takes a blob at once

    def __init__(self, xp: Any, like: Any) -> None:
        self.xp = xp
        self.device = getattr(like, "device", None)
        self.smallest = xp.asarray(SMALLEST, dtype=xp.float32, device=self.device)
        self.largest = xp.asarray(LARGEST, dtype=xp.float32, device=self.device)

    def real(self, array: Any) -> Any:
        """The array as float32 or float64; either holds what the other types of ONNX hold, but for 64 bits."""
        xp = self.xp
        return array if array.dtype in (xp.float32, xp.float64) else xp.astype(array, xp.float64)

    def given(self, array: Float64) -> Any:
        """An array of the host, here."""
        return self.xp.asarray(array, device=self.device)

    def host(self, array: Any) -> Float64:
        """An array of here, on the host."""
        try:
            return np.asarray(np.from_dlpack(array), np.float64)
        except (BufferError, RuntimeError, TypeError):  # it lies on a device that numpy cannot see
            import array_api_compat

            return np.asarray(np.from_dlpack(array_api_compat.to_device(array, "cpu")), np.float64)

    def total(self, ends: list[Any]) -> float:
        """The sum of a block's extremes, which is finite if they are."""
        return float(self.xp.sum(self.xp.stack(ends)))

    def at(self, flat: Any, place: Any) -> Any:
        """Of each row, the value at its place."""
        xp = self.xp
        return xp.reshape(xp.take_along_axis(flat, xp.reshape(place, (-1, 1)), axis=1), (-1,))

    def joined(self, rows: list[Any], counts: list[Any], channels: Any) -> Float64:
        """Everything found, on the host, with as many counts as there are names of them."""
        xp = self.xp
        counts = [xp.reshape(count, (1,)) for count in counts]
        counts += [xp.zeros_like(counts[0])] * (len(COUNTS) - len(counts))
        return self.host(xp.concat([xp.astype(part, xp.float64, copy=False) for part in (*rows, *counts, channels)]))

    def double(self, values: Any, side: int) -> Any:
        """As float64, of one side."""
        del side
        return self.xp.astype(values, self.xp.float64)

    def difference(self, candidate: Any, reference: Any) -> Any:
        """c - r."""
        return candidate - reference

    def magnitude(self, error: Any) -> Any:
        """|e|."""
        return self.xp.abs(error)

    def zeros(self, values: Any) -> Any:
        """How many are 0."""
        return self.xp.count_nonzero(values == 0)

    def single(self, magnitude: Any, bounded: bool) -> Any:
        """As float32, at least the smallest edge of the histogram; at most the largest, where some may be beyond."""
        xp = self.xp
        size = xp.maximum(xp.astype(magnitude, xp.float32), self.smallest)
        return xp.minimum(size, self.largest) if bounded else size

    def summed(self, values: Any) -> Any:
        """The sum of each row."""
        return self.xp.sum(values, axis=2)

    def codes(self, magnitude: Any) -> Any:
        """Bin numbers, by arithmetic that is exact: powers of two, and what is between two of them."""
        xp = self.xp
        size = xp.astype(magnitude, xp.float64)
        octave = xp.floor(xp.log2(size))
        octave = octave - xp.astype(xp.pow(2.0, octave) > size, xp.float64)  # log2 may round up to the next power
        octave = octave + xp.astype(xp.pow(2.0, octave + 1) <= size, xp.float64)
        quarter = xp.floor((size / xp.pow(2.0, octave) - 1) * 4)
        return xp.astype((octave - LOWEST_EXPONENT) * 4 + quarter, xp.int64)

    def count(self, codes: Any) -> Int64:
        """How often each bin number is there."""
        xp = self.xp
        ordered = xp.sort(xp.reshape(codes, (-1,)))
        edges = xp.searchsorted(ordered, xp.arange(BINS + 1, dtype=ordered.dtype, device=self.device))
        return np.diff(self.host(xp.astype(edges, xp.float64))).astype(np.int64)

    def counter(self) -> Counter:
        """Something that counts block by block."""
        return Counter(self)


class _Bits(Backend):
    """A library whose arrays show the bits of their values, as `view`, and that counts, as `bincount`."""

    def codes(self, magnitude: Any) -> Any:
        """Bin numbers, from the bits of a float32."""
        return (magnitude.view(self.xp.int32) >> 21) - FIRST_CODE

    def count(self, codes: Any) -> Int64:
        """How often each bin number is there."""
        found = self.xp.bincount(self.xp.reshape(codes, (-1,)), minlength=BINS)
        return self.host(self.xp.astype(found, self.xp.float64)).astype(np.int64)


class _Numpy(_Bits):
    """The host's own arrays."""

    on_host = True
    block, row = BLOCK, ROW

    def __init__(self) -> None:
        super().__init__(np if hasattr(np, "vecdot") else _OlderNumpy, np.zeros(1))

    def given(self, array: Float64) -> Any:
        """The array itself."""
        return array

    def host(self, array: Any) -> Float64:
        """The array itself."""
        return np.asarray(array, np.float64)

    def total(self, ends: list[Array]) -> float:
        """The same without an array, where a block is of one sample."""
        return float(sum(end.item() for end in ends)) if ends[0].size == 1 else float(np.sum(ends))

    def at(self, flat: Array, place: Array) -> Array:
        """By numpy's own indexing."""
        return np.asarray(flat[np.arange(len(flat)), place])

    def joined(self, rows: list[Array], counts: list[Any], channels: Array) -> Float64:
        """The same, with numpy's conversions."""
        numbers = [*map(float, counts), *[0.0] * (len(COUNTS) - len(counts))]
        return np.concatenate([*rows, numbers, channels], dtype=np.float64)

    def summed(self, values: Array) -> Array:
        """The dot product of each row with ones, which takes half the time of numpy's own pairwise sum."""
        return np.asarray(self.xp.vecdot(values, _ONES[: values.shape[2]]))

    def double(self, values: Array, side: int) -> Array:
        """As float64, of one side, in memory that the thread has."""
        wide = _scratch(side, values.shape, np.float64)
        np.copyto(wide, values)
        return wide

    def difference(self, candidate: Array, reference: Array) -> Array:
        """c - r."""
        return np.asarray(np.subtract(candidate, reference, out=_scratch(2, candidate.shape, np.float64)))

    def magnitude(self, error: Array) -> Array:
        """|e|."""
        return np.asarray(np.abs(error, out=_scratch(3, error.shape, np.float64)))

    def zeros(self, values: Array) -> int:
        """How many are 0."""
        return int(np.count_nonzero(np.equal(values, 0, out=_scratch(4, values.shape, np.bool_))))

    def single(self, magnitude: Array, bounded: bool) -> Array:
        """As float32."""
        size = _scratch(5, magnitude.shape, np.float32)
        np.copyto(size, magnitude, casting="same_kind")
        np.maximum(size, self.smallest, out=size)
        return np.asarray(np.minimum(size, self.largest, out=size)) if bounded else size

    def codes(self, magnitude: Array) -> Array:
        """Bin numbers as bytes, which are made from what is in `magnitude`."""
        bits = magnitude.view(np.int32)
        bits >>= 21
        bits -= FIRST_CODE
        return bits.astype(np.uint8)

    def counter(self) -> Counter:
        """One that counts pairs of bytes."""
        return _PairCounter(self)


class Counter:
    """Counts bin numbers, a block at a time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.found = np.zeros(BINS, np.int64)

    def add(self, codes: Any) -> None:
        """Count a block."""
        self.found += self.backend.count(codes)

    def counts(self) -> Int64:
        """All that was counted."""
        return self.found


class _PairCounter(Counter):
    """Counts two bytes at once, in a table of 65,536: half the steps, and seldom the same entry twice in a row."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.waiting: list[Array] = []
        self.size = 0

    def add(self, codes: Any) -> None:
        """Count a block, when enough of them have come."""
        self.waiting.append(codes.reshape(-1))
        self.size += codes.size
        if self.size >= CODES:
            self._count()

    def counts(self) -> Int64:
        """All that was counted."""
        self._count()
        return self.found

    def _count(self) -> None:
        if not self.waiting:
            return
        codes = self.waiting[0] if len(self.waiting) == 1 else np.concatenate(self.waiting)
        self.waiting, self.size = [], 0
        even = len(codes) & ~1
        if even < 1 << 16:
            self.found += np.bincount(codes, minlength=BINS)
            return
        pairs = np.bincount(codes[:even].view(np.uint16), minlength=BINS * BINS).reshape(BINS, BINS)
        self.found += pairs.sum(axis=0) + pairs.sum(axis=1)
        if even < len(codes):
            self.found[codes[-1]] += 1


class _OlderNumpy:
    """The names of the standard that numpy has since 2.0."""

    float32, float64, int32, int64 = np.float32, np.float64, np.int32, np.int64
    abs, argmax, bincount, count_nonzero = np.abs, np.argmax, np.bincount, np.count_nonzero
    concat = np.concatenate
    full_like, isfinite, isinf, isnan, max, maximum = (
        np.full_like, np.isfinite, np.isinf, np.isnan, np.max, np.maximum,
    )  # fmt: skip
    min, minimum, reshape, stack, sum, where = np.min, np.minimum, np.reshape, np.stack, np.sum, np.where
    zeros_like = np.zeros_like

    @staticmethod
    def astype(array: Array, dtype: Any, copy: bool = True) -> Array:
        """`numpy.astype`."""
        return array.astype(dtype, copy=copy)

    @staticmethod
    def asarray(values: Any, dtype: Any = None, device: Any = None) -> Array:
        """`numpy.asarray`, on the only device."""
        del device
        return np.asarray(values, dtype)

    @staticmethod
    def vecdot(left: Array, right: Array) -> Array:
        """`numpy.vecdot`."""
        return np.asarray(np.einsum("...i,...i->...", left, right))


class _Buffers(threading.local):
    """The memory that a thread's blocks are measured in.

    New arrays for each block would be pages from the system each time, for which all threads wait: sixteen threads then
    measure no more than one.
    """

    def __init__(self) -> None:
        self.kept: dict[int, npt.NDArray[np.uint8]] = {}


def _scratch(number: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of this thread, of which it has one for each number."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    kept = _BUFFERS.kept
    if number not in kept or len(kept[number]) < size:
        kept[number] = np.empty(max(size, BLOCK * np.dtype(dtype).itemsize), np.uint8)
    return np.asarray(kept[number][:size].view(dtype).reshape(shape))


_BUFFERS = _Buffers()
FIRST_CODE = (127 + LOWEST_EXPONENT) << 2
_ONES = np.ones(ROW)
_NUMPY = _Numpy()
_BACKENDS: dict[tuple[str, str], Backend] = {}


def backend_of(array: Any) -> Backend:
    """What measures arrays of this kind.

    Raises:
        ImportError: the array is not numpy's, and array-api-compat is not installed.
    """
    if isinstance(array, np.ndarray):
        return _NUMPY
    import array_api_compat

    xp = array_api_compat.array_namespace(array)
    key = xp.__name__, str(array.device)
    if key not in _BACKENDS:
        _BACKENDS[key] = (_Bits if hasattr(array, "view") and hasattr(xp, "bincount") else Backend)(xp, array)
    return _BACKENDS[key]
