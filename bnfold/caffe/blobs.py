"""Reading one BlobProto: where its values lie, in which type and shape.

    num, channels, height, width 1-4 | data 5 (float) | diff 6 | shape 7 | double_data 8 | double_diff 9
    raw_data_type 10, raw_data 12 (NVCaffe: DOUBLE 0, FLOAT 1, FLOAT16 2)

Values may come packed (one run of bytes), in several packed chunks, or unpacked (a tag before each value): protobuf
allows all three. Vitis uses 10 and 12 for other things, with other wire types, which tells them apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from bnfold.caffe.limits import INT_MAX, MAX_AXES
from bnfold.io.wire import FIXED32, FIXED64, LENGTH, VARINT, Buffer, Field, WireError, fields, signed, varint
from bnfold.net import PIECE, Array, DType, LazyArray, Shape, pieces_of, sizes

LEGACY_DIMS = (1, 2, 3, 4)
DATA, DIFF, SHAPE, DOUBLE_DATA, DOUBLE_DIFF, RAW_TYPE, RAW_DATA = 5, 6, 7, 8, 9, 10, 12

FLOAT: DType = np.dtype("<f4")
DOUBLE: DType = np.dtype("<f8")
_HALF: DType = np.dtype("<f2")
_RAW_TYPES = {0: DOUBLE, 1: FLOAT, 2: _HALF}
_REPEATED = {DATA: FLOAT, DIFF: FLOAT, DOUBLE_DATA: DOUBLE, DOUBLE_DIFF: DOUBLE}


@dataclass(frozen=True, eq=False, slots=True)
class Half:
    """A blob stored in float16, read as float32 (exactly): a `LazyArray`, so that reading it costs no memory."""

    stored: Array

    @property
    def shape(self) -> Shape:
        """The true shape."""
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32: nothing else here computes in half precision."""
        return np.dtype(np.float32)

    def array(self) -> Array:
        """The values as float32."""
        return self.stored.astype(np.float32)

    def chunks(self) -> Iterator[Array]:
        """The same values in flat pieces."""
        return (piece.astype(np.float32) for piece in pieces_of(self.stored))


class _FieldRuns:
    """The runs of bytes that hold one repeated field."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.count = 0
        self._runs = array("Q")  # offset, count, stride; a hostile file has one for each few bytes

    def add(self, offset: int, count: int, stride: int) -> None:
        self._runs.extend((offset, count, stride))
        self.count += count

    def read(self, buffer: Buffer) -> Array:
        """All values, flat: a view where they are one packed run, else a read-only copy."""
        runs = self._runs
        if len(runs) == 3 and runs[2] == self.dtype.itemsize:
            return np.ndarray((self.count,), self.dtype, buffer, runs[0])
        joined = np.empty(self.count, self.dtype)
        at = 0
        for offset, count, stride in zip(*(iter(runs),) * 3, strict=True):
            joined[at : at + count] = np.ndarray((count,), self.dtype, buffer, offset, (stride,))
            at += count
        joined.flags.writeable = False
        return joined


def read_blob(buffer: Buffer, at: int, end: int) -> tuple[Array | LazyArray, str]:
    """The blob in `buffer[at:end]`, and what is wrong with it (empty when nothing is).

    A blob that is wrong comes back flat, with the values that are there. Raises `WireError` when the bytes are damaged.
    """
    values: dict[int, _FieldRuns] = {}
    legacy: dict[int, int] = {}
    dims: list[int] | None = None
    raw: tuple[int, int] | None = None
    raw_type = 0
    while at < end:
        for field in fields(buffer, at, end):
            number, wire, _, start, stop = field
            at = stop
            if number in _REPEATED and wire != VARINT:
                at = _read_values(buffer, field, end, values)
                if at > stop:
                    break  # go on behind the run
            elif number == SHAPE and wire == LENGTH:
                dims = [] if dims is None else dims
                _read_dims(buffer, start, stop, dims)
            elif number in LEGACY_DIMS and wire == VARINT:
                legacy[number] = signed(varint(buffer, start, stop)[0])
            elif number == RAW_TYPE and wire == VARINT:
                raw_type = varint(buffer, start, stop)[0]
            elif number == RAW_DATA and wire == LENGTH:
                raw = start, stop
    flat, problem = _values(buffer, values, raw, raw_type)
    if problem:
        return flat, problem
    shape, problem = _shape(flat.size, legacy, dims)
    if flat.dtype == _HALF:
        return Half(flat.reshape(shape)), problem
    return flat.reshape(shape), problem


def _read_values(buffer: Buffer, field: Field, end: int, values: dict[int, _FieldRuns]) -> int:
    """Add a field to the values of its number, packed ones or one a field; where the last field of its run ends."""
    number, wire, begin, start, stop = field
    dtype = _REPEATED[number]
    size = dtype.itemsize
    if wire == LENGTH:
        if (stop - start) % size:
            raise WireError(f"a blob's values take {stop - start} bytes, no multiple of {size}", begin)
        at, count, stride = stop, (stop - start) // size, size
    elif wire == (FIXED32 if size == 4 else FIXED64):
        stride = size + 1
        count = _unpacked_run(buffer, begin, stride, end)
        at = begin + count * stride
    else:
        return stop
    if count and number not in (DIFF, DOUBLE_DIFF):
        values.setdefault(number, _FieldRuns(dtype)).add(start, count, stride)
    return at


def _values(
    buffer: Buffer, values: dict[int, _FieldRuns], raw: tuple[int, int] | None, raw_type: int
) -> tuple[Array, str]:
    """The flat values, by the forks' precedence: raw_data, then double_data, then data."""
    if raw is None or raw[0] == raw[1]:
        runs = values.get(DOUBLE_DATA) or values.get(DATA)
        return runs.read(buffer) if runs else np.ndarray(0, FLOAT, b""), ""
    start, stop = raw
    if raw_type not in _RAW_TYPES:
        return np.empty(0, FLOAT), f"is stored as raw data of type {raw_type}, which is no floating-point type"
    dtype = _RAW_TYPES[raw_type]
    if (stop - start) % dtype.itemsize:
        return np.empty(0, FLOAT), f"has {stop - start} bytes of raw data, no multiple of {dtype.itemsize}"
    return np.ndarray(((stop - start) // dtype.itemsize,), dtype, buffer, start), ""


def _shape(count: int, legacy: dict[int, int], dims: list[int] | None) -> tuple[Shape, str]:
    """The shape that fits `count` values: the legacy one if given, as in Caffe, else `shape`, else flat."""
    said = [tuple(dims)] if dims is not None else []
    if legacy:
        said.insert(0, tuple(legacy.get(number, 0) for number in LEGACY_DIMS))
    if not said:
        return (count,), ""
    for shape in said:
        if _is_possible(shape) and prod(shape) == count:
            return shape, ""
    shown = sizes(said[0][:8]) + ("x..." if len(said[0]) > 8 else "")
    if len(said[0]) > MAX_AXES:
        return (count,), f"says that its shape is {shown}, of more axes than the {MAX_AXES} that Caffe allows"
    return (count,), f"says that its shape is {shown}, and holds {count:,} values"


def _is_possible(shape: Sequence[int]) -> bool:
    """Whether Caffe (and numpy) would make a blob of that shape, empty ones included."""
    return len(shape) <= MAX_AXES and min(shape, default=0) >= 0 and prod(filter(None, shape)) <= INT_MAX


def _read_dims(buffer: Buffer, at: int, end: int, dims: list[int]) -> None:
    """Append the dims of a BlobShape (`repeated int64 dim = 1`, packed or not), one too many at the most."""
    for number, wire, _, start, stop in fields(buffer, at, end):
        if number != 1 or wire not in (VARINT, LENGTH):
            continue
        while start < stop and len(dims) <= MAX_AXES:
            dim, start = varint(buffer, start, stop)
            dims.append(signed(dim))


def _unpacked_run(buffer: Buffer, begin: int, stride: int, end: int) -> int:
    """How many values in a row have the tag at `begin`: walked one by one, a large blob would take seconds."""
    tag, limit = buffer[begin], (end - begin) // stride
    count = 1
    while count < limit and buffer[begin + count * stride] == tag:
        count += 1
        if count == 16:  # long enough to be worth numpy's overhead
            return _long_run(np.ndarray((limit,), np.uint8, buffer, begin, (stride,)), tag, count)
    return count


def _long_run(tags: Array, tag: int, count: int) -> int:
    block = 256
    while count < tags.size:
        other = np.flatnonzero(tags[count : count + block] != tag)
        if other.size:
            return count + int(other[0])
        count = min(count + block, tags.size)
        block = min(block * 4, PIECE)
    return count
