"""The libraries that blobs are measured by, where the array API standard does not say how.

Numpy runs the pass of `kernels` on the host, by blocks in memory that each thread keeps; CuPy and torch run it where
their arrays lie.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.net import Array
from bnfold.runtime import AnyArray

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LOWEST_EXPONENT = -44  # 6e-14: below, an error is that of the smallest bin
BINS = 256  # 64 octaves of 4, up to 1e6: the codes are bytes, of which two are counted at once
SMALLEST, LARGEST = math.ldexp(1.0, LOWEST_EXPONENT), math.ldexp(1.75, LOWEST_EXPONENT + BINS // 4 - 1)

BLOCK = 1 << 16  # values of a block: what is made of them fits a second level cache, and takes longer than to ask for
ROW = 1 << 13  # values of one dot product: BLAS shares longer ones among threads, which changes how they round
SHORT = 32  # rows below are not worth a dot product each
VIEWS = 1 << 10  # of a thread's memory, that are kept
LINE = 64  # bytes of a cache line: what begins at one is read by half as many steps
CODES = 1 << 19  # codes that are counted at once
MANY = 1 << 28  # pairs: compiled code saves the second that it takes to be loaded

LOWEST = ("low", "partner_low")
HIGHEST = ("high", "partner_high", "peak")
SUMS = ("squared_error", "squared_reference", "squared_candidate", "sum_abs", "sum_error")
COUNTS = ("zero", "lost", "undefined", "nan", "inf", "partner_nan", "partner_inf")
ROWS = (*LOWEST, *HIGHEST, "place", *SUMS, *COUNTS)  # what a block gives for each of its samples
PEAK, PLACE = ROWS.index("peak"), ROWS.index("place")
SQUARED = slice(ROWS.index("squared_error"), ROWS.index("squared_candidate"))  # what is summed for each channel, too


class Backend:
    """What the array API standard does not say: how large blocks are, the bits of a float, counting.

    Args:
        xp: the namespace.
        like: an array of the library, for its device.
    """

    on_host = False
    block = row = 1 << 62  # a GPU takes a blob at once
    together = 1 << 25  # values of blobs that a GPU takes as one

    def __init__(self, xp: Any, like: AnyArray) -> None:
        self.xp = xp
        self.device = getattr(like, "device", None)
        self.smallest = xp.asarray(SMALLEST, dtype=xp.float32, device=self.device)
        self.largest = xp.asarray(LARGEST, dtype=xp.float32, device=self.device)

    def real(self, array: AnyArray) -> AnyArray:
        """The array as float32 or float64; either holds what the other types of ONNX hold, but for 64 bits."""
        xp = self.xp
        return array if array.dtype in (xp.float32, xp.float64) else xp.astype(array, xp.float64)

    def given(self, array: Float64) -> AnyArray:
        """A numpy array as one of this library, on its device."""
        return self.xp.asarray(array, device=self.device)

    def host(self, array: AnyArray) -> Float64:
        """An array of this library as numpy's, in float64."""
        try:
            return np.asarray(np.from_dlpack(array), np.float64)
        except (BufferError, RuntimeError, TypeError):  # it lies on a device that numpy cannot see
            import array_api_compat

            return np.asarray(np.from_dlpack(array_api_compat.to_device(array, "cpu")), np.float64)

    def behind(self, blobs: list[AnyArray]) -> AnyArray:
        """Blobs joined along their first axis."""
        return blobs[0] if len(blobs) == 1 else self.xp.concat(blobs, axis=0)

    def least(self, values: AnyArray) -> AnyArray:
        """The least of the (samples, channels, values) for each sample, (samples,)."""
        return self.xp.min(values, axis=(1, 2))

    def most(self, values: AnyArray) -> AnyArray:
        """The largest of the (samples, channels, values) for each sample, (samples,)."""
        return self.xp.max(values, axis=(1, 2))

    def ends(self, reference: AnyArray, candidate: AnyArray) -> list[AnyArray]:
        """The least value of each sample on either side, and the largest."""
        return [end(side) for end in (self.least, self.most) for side in (reference, candidate)]

    def total(self, ends: list[AnyArray]) -> float:
        """The sum of a block's extremes, which is finite if they are."""
        return float(self.xp.sum(self.xp.stack(ends)))

    def peak(self, flat: AnyArray) -> tuple[AnyArray, AnyArray]:
        """The largest value of each row of (samples, values), and its place, both (samples,)."""
        xp = self.xp
        place = xp.argmax(flat, axis=1)
        return xp.reshape(xp.take_along_axis(flat, xp.reshape(place, (-1, 1)), axis=1), (-1,)), place

    def joined(self, rows: list[AnyArray], blobs: int) -> tuple[Float64, Float64]:
        """What `_Block.figures` gives, in one piece to the host.

        Args:
            rows: of each sample; e^2 and r^2 by channel in the place of their sums; those that are missing at the end
                are 0.
            blobs: as whose samples the channels are summed.

        Returns:
            The rows for each sample, and the sums of e^2 and r^2 for each blob and channel.
        """
        xp = self.xp
        wide = [xp.astype(row, xp.float64, copy=False) for row in rows]
        by_channel = xp.stack(wide[SQUARED])
        _, count, channels = by_channel.shape
        wide[SQUARED] = [xp.sum(by_channel[side, ...], axis=1) for side in range(2)]
        summed = xp.sum(xp.reshape(by_channel, (2, blobs, count // blobs, channels)), axis=2)
        found = self.host(xp.concat([xp.reshape(xp.stack(wide), (-1,)), xp.reshape(summed, (-1,))]))
        figures = np.zeros((len(ROWS), count))
        figures[: len(rows)] = found[: len(rows) * count].reshape(len(rows), count)
        return figures, found[len(rows) * count :].reshape(2, blobs, channels)

    def double(self, values: AnyArray, side: int) -> AnyArray:
        """As float64; `side` is 0 for the reference, 1 for the candidate."""
        del side
        return self.xp.astype(values, self.xp.float64)

    def difference(self, candidate: AnyArray, reference: AnyArray) -> AnyArray:
        """c - r."""
        return candidate - reference

    def magnitude(self, error: AnyArray) -> AnyArray:
        """|e|."""
        return self.xp.abs(error)

    def same(self, reference: AnyArray, candidate: AnyArray) -> AnyArray:
        """Where both are equal."""
        return reference == candidate

    def counted(self, mask: AnyArray) -> AnyArray:
        """How many are True for each sample, (samples,)."""
        return self.xp.count_nonzero(mask, axis=(1, 2))

    def single(self, magnitude: AnyArray) -> AnyArray:
        """|e| as float32."""
        return self.xp.astype(magnitude, self.xp.float32)

    def clipped(self, size: AnyArray, bounded: bool) -> AnyArray:
        """At least the smallest edge of the histogram; at most the largest, where some may be beyond."""
        size = self.xp.maximum(size, self.smallest)
        return self.xp.minimum(size, self.largest) if bounded else size

    def dot(self, left: AnyArray, right: AnyArray) -> AnyArray:
        """The sum of the products of each sample, (samples,)."""
        return self.xp.vecdot(*(self.xp.reshape(side, (side.shape[0], -1)) for side in (left, right)))

    def summed(self, values: AnyArray) -> AnyArray:
        """The sum of each sample, (samples,)."""
        return self.xp.sum(values, axis=(1, 2))

    def row_squares(self, error: AnyArray) -> AnyArray:
        """The sum of the squares of each row, (samples, channels)."""
        return self.xp.vecdot(error, error)

    def codes(self, size: AnyArray) -> AnyArray:
        """Bin numbers, by arithmetic that is exact: powers of two, and what is between two of them."""
        xp = self.xp
        size = xp.astype(size, xp.float64)
        octave = xp.floor(xp.log2(size))
        octave = octave - xp.astype(xp.pow(2.0, octave) > size, xp.float64)  # log2 may round up to the next power
        octave = octave + xp.astype(xp.pow(2.0, octave + 1) <= size, xp.float64)
        quarter = xp.floor((size / xp.pow(2.0, octave) - 1) * 4)
        return xp.astype((octave - LOWEST_EXPONENT) * 4 + quarter, xp.int64)

    def count(self, codes: AnyArray, bins: int) -> Int64:
        """How often each of so many numbers is there."""
        xp = self.xp
        edges = xp.searchsorted(xp.sort(codes), xp.arange(bins + 1, dtype=codes.dtype, device=self.device))
        return np.diff(self.host(xp.astype(edges, xp.float64))).astype(np.int64)

    def counter(self, blobs: int) -> BinCounter:
        """Something that counts block by block."""
        return BinCounter(self, blobs)

    def at_once(self, reference: AnyArray, candidate: AnyArray, counter: BinCounter) -> tuple[Float64, Float64] | None:
        """What `_Block.figures` gives, the histogram counted, where the library has a pass of its own for a block."""
        del reference, candidate, counter
        return None


class Bits(Backend):
    """A library whose arrays show the bits of their values, as `view`, and that counts, as `bincount`."""

    def codes(self, size: AnyArray) -> AnyArray:
        """Bin numbers, from the bits of a float32."""
        return (size.view(self.xp.int32) >> 21) - FIRST_CODE

    def count(self, codes: AnyArray, bins: int) -> Int64:
        """How often each of so many numbers is there."""
        found = self.xp.bincount(codes, minlength=bins)
        return self.host(self.xp.astype(found, self.xp.float64)).astype(np.int64)


class Numpy(Bits):
    """The host's own arrays, in memory that each thread keeps: blocks of one sample are what most blobs are made of."""

    on_host = True
    block, row = BLOCK, ROW

    def __init__(self) -> None:
        super().__init__(np if hasattr(np, "vecdot") else _OlderNumpy(), np.zeros(1))

    def given(self, array: Float64) -> AnyArray:
        """The array itself."""
        return array

    def host(self, array: AnyArray) -> Float64:
        """The array itself."""
        return np.asarray(array, np.float64)

    def least(self, values: Array) -> Array:
        """The least of the (samples, channels, values) for each sample, (samples,)."""
        return np.asarray(np.minimum.reduce(values, axis=(1, 2)))

    def most(self, values: Array) -> Array:
        """The largest of the (samples, channels, values) for each sample, (samples,)."""
        return np.asarray(np.maximum.reduce(values, axis=(1, 2)))

    def total(self, ends: list[Array]) -> float:
        """The same without an array, where a block is of one sample."""
        if ends[0].size > 1:
            return float(np.sum(ends))
        one, two, three, four = ends
        return float(one.item() + two.item() + three.item() + four.item())

    def peak(self, flat: Array) -> tuple[Array, Array]:
        """The same, by numpy's own indexing."""
        place = flat.argmax(axis=1)
        return np.asarray(flat[np.arange(len(flat)), place]), place

    def joined(self, rows: list[Array], blobs: int) -> tuple[Float64, Float64]:
        """The same, where everything lies on the host and blobs come one by one."""
        del blobs
        by_channel = np.stack(rows[SQUARED])
        rows[SQUARED] = np.add.reduce(by_channel, axis=2)
        figures = np.zeros((len(ROWS), by_channel.shape[1]))
        for row, values in enumerate(rows):
            figures[row] = values
        return figures, np.add.reduce(by_channel, axis=1)[:, np.newaxis]

    def dot(self, left: Array, right: Array) -> Array:
        """The sum of the products of each sample, in pieces that BLAS does not share among threads."""
        pieces = _pieces(left.shape)
        return np.asarray(np.add.reduce(self.xp.vecdot(left.reshape(pieces), right.reshape(pieces)), axis=1))

    def summed(self, values: Array) -> Array:
        """The dot product of each sample with ones, which takes half the time of numpy's own pairwise sum."""
        pieces = _pieces(values.shape)
        return np.asarray(np.add.reduce(self.xp.vecdot(values.reshape(pieces), _ONES[: pieces[2]]), axis=1))

    def row_squares(self, error: Array) -> Array:
        """The sum of the squares of each row, by a dot product where it is long enough."""
        if error.shape[2] < SHORT:
            return np.asarray(np.add.reduce(np.square(error), axis=2))
        return np.asarray(self.xp.vecdot(error, error))

    def double(self, values: Array, side: int) -> Array:
        """The same, in memory that is kept for each side."""
        wide = _scratch(side, values.shape, np.float64)
        np.copyto(wide, values)
        return wide

    def difference(self, candidate: Array, reference: Array) -> Array:
        """c - r, in the place of c."""
        return np.asarray(np.subtract(candidate, reference, out=candidate))

    def magnitude(self, error: Array) -> Array:
        """|e|, in the place of e."""
        return np.asarray(np.abs(error, out=error))

    def same(self, reference: Array, candidate: Array) -> Array:
        """Where both are equal, in memory that is kept."""
        return np.asarray(np.equal(reference, candidate, out=_scratch(3, reference.shape, np.bool_)))

    def counted(self, mask: Array) -> Array:
        """How many are True, for each sample; without an axis ten times as fast."""
        return np.array([np.count_nonzero(own) for own in mask.reshape(len(mask), -1)])

    def single(self, magnitude: Array) -> Array:
        """The same, in memory that is kept."""
        size = _scratch(2, magnitude.shape, np.float32)
        np.copyto(size, magnitude, casting="same_kind")
        return size

    def clipped(self, size: Array, bounded: bool) -> Array:
        """The same, in its place; beside an array, numpy takes the larger ones twice as fast as beside a number."""
        flat = size.reshape(-1)
        for start in range(0, flat.size, BLOCK):  # compiled code leaves larger blocks than numpy's own
            part = flat[start : start + BLOCK]
            np.maximum(part, _SMALLEST[: part.size], out=part)
        return np.asarray(np.minimum(size, self.largest, out=size)) if bounded else size

    def codes(self, size: Array) -> Array:
        """Ten bits, of which the lower eight tell the bins apart; in the place of what they are made of."""
        bits = size.view(np.int32)
        bits >>= 21
        return bits

    def counter(self, blobs: int) -> BinCounter:
        """One that counts pairs of bytes."""
        return _PairCounter(self, blobs)


@cache
def _pieces(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """How a block is seen for dot products as long as BLAS may take: (samples, pieces, values)."""
    count, rows, width = shape
    joint = next((joint for joint in range(min(rows, ROW // width), 1, -1) if rows % joint == 0), 1)
    return count, rows // joint, joint * width


class BinCounter:
    """Counts bin numbers of so many blobs, a block at a time."""

    def __init__(self, backend: Backend, blobs: int) -> None:
        self.backend = backend
        self.found = np.zeros((blobs, BINS), np.int64)

    def add(self, codes: AnyArray) -> None:
        """Count a block, in which the blobs lie one behind the other."""
        xp, blobs = self.backend.xp, len(self.found)
        codes = xp.reshape(codes, (blobs, -1))
        if blobs > 1:
            first = BINS * xp.arange(blobs, dtype=codes.dtype, device=self.backend.device)
            codes = codes + xp.reshape(first, (-1, 1))
        self.found += self.backend.count(xp.reshape(codes, (-1,)), self.found.size).reshape(self.found.shape)

    def counts(self) -> Int64:
        """All that was counted."""
        return self.found


class _PairCounter(BinCounter):
    """Counts two bytes at once, in a table of 65,536: half the steps, and seldom the same entry twice in a row."""

    def __init__(self, backend: Backend, blobs: int) -> None:
        super().__init__(backend, blobs)
        self.size = 0
        self.pairs: Int64 | None = None

    def add(self, codes: Array) -> None:
        """Count a block, when enough of them have come."""
        if self.size + codes.size > CODES + BLOCK:
            self._count()
        own = self._codes(self.size, codes.size)
        np.copyto(own, codes.reshape(-1), casting="unsafe")
        own -= FIRST_BYTE
        self.size += codes.size

    def counts(self) -> Int64:
        """All that was counted."""
        self._count()
        if self.pairs is not None:
            pairs = self.pairs.reshape(BINS, BINS)
            self.found += pairs.sum(axis=0) + pairs.sum(axis=1)
        return self.found

    def _codes(self, start: int, size: int) -> Array:
        return _scratch(4, (CODES + BLOCK,), np.uint8)[start : start + size]

    def _count(self) -> None:
        codes = self._codes(0, self.size)
        even = self.size & ~1 if self.size >= BINS * BINS else 0
        self.size = 0
        if even:
            index = _scratch(5, (CODES // 2 + BLOCK // 2,), np.intp)[: even // 2]
            np.copyto(index, codes[:even].view(np.uint16))  # what bincount would make anew each time
            found = np.bincount(index)
            if self.pairs is None:
                self.pairs = np.zeros(BINS * BINS, np.int64)
            self.pairs[: len(found)] += found
        self.found[0] += np.bincount(codes[even:], minlength=BINS)


class _OlderNumpy:
    """The names of the standard that numpy has since 2.0; all others are numpy's own."""

    concat = staticmethod(np.concatenate)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def astype(array: Array, dtype: Any, copy: bool = True) -> Array:
        """`numpy.astype`."""
        return array.astype(dtype, copy=copy)

    @staticmethod
    def asarray(values: AnyArray, dtype: Any = None, device: Any = None) -> Array:
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
        self.memory: dict[int, npt.NDArray[np.uint8]] = {}
        self.views: dict[tuple[int, tuple[int, ...]], Array] = {}


def _scratch(number: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of this thread, of which it has one for each number."""
    views, memory = _BUFFERS.views, _BUFFERS.memory
    if (number, shape) not in views:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if number not in memory or len(memory[number]) < size:
            room = np.empty(max(size, BLOCK * np.dtype(dtype).itemsize) + LINE, np.uint8)
            memory[number] = room[-room.ctypes.data % LINE :]
            views.clear()
        if len(views) >= VIEWS:
            views.clear()
        views[number, shape] = memory[number][:size].view(dtype).reshape(shape)
    return views[number, shape]


_BUFFERS = _Buffers()
FIRST_CODE = (127 + LOWEST_EXPONENT) << 2
FIRST_BYTE = np.uint8(FIRST_CODE % BINS)
_ONES = np.ones(ROW)
_SMALLEST = np.full(BLOCK, SMALLEST, np.float32)
_NUMPY = Numpy()
_BACKENDS: dict[tuple[str, str, bool], Backend] = {}


@cache
def _compiled() -> Backend:
    from bnfold.compare.compiled import Compiled  # numba is an extra, and slow to import

    return Compiled()


def _compiled_cuda(xp: Any, array: AnyArray) -> Backend | None:
    """Numba's code for an array on a GPU, where there is what makes it, and it works."""
    if not hasattr(array, "__cuda_array_interface__"):
        return None
    try:
        from bnfold.compare.compiled_cuda import CompiledCuda

        made = CompiledCuda(xp, array)
        some = xp.ones((1, 1, SHORT), dtype=xp.float32, device=made.device)
        made.at_once(some, some, made.counter(1))
    except Exception:  # an ImportError, or whatever it makes of a driver, or of a numpy, that it does not know
        return None
    return made


def worthwhile(values: int) -> bool:
    """Whether so many pairs are enough for compiled code to be made, and there is a numba that makes it."""
    if values < MANY:
        return False
    try:
        return bool(_compiled())
    except ImportError:  # there is none, or none for this numpy
        return False


def backend_of(array: AnyArray, compiled: bool = False) -> Backend:
    """What measures arrays of this kind.

    Args:
        array: of any library.
        compiled: take numba's code where there is some for such arrays.

    Raises:
        ImportError: the array is not numpy's, and array-api-compat is not installed; or numba is not.
    """
    if isinstance(array, np.ndarray | np.generic):
        return _compiled() if compiled else _NUMPY
    import array_api_compat

    xp = array_api_compat.array_namespace(array)
    key = xp.__name__, str(array.device), compiled
    if key not in _BACKENDS:
        plain = Bits if hasattr(array, "view") and hasattr(xp, "bincount") else Backend
        _BACKENDS[key] = (compiled and _compiled_cuda(xp, array)) or plain(xp, array)
    return _BACKENDS[key]
