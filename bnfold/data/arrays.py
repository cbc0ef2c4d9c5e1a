"""Reading numpy's files, from whoever they come: never a pickle, numbers only, and only the arrays that are wanted.

An archive of three megabytes can unpack to three gigabytes. So the headers are read first, and an array's values when
it is asked for, never more of them than its header says and the archive has. Large ones that are not packed are mapped.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Collection, Container, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from bnfold.errors import ParseError
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import MappedFile, open_regular, release_pages
from bnfold.net import Array, DType, Shape

LABELS = ("label", "labels", "y", "target", "targets")
"""What the array of the true classes may be called, in numpy's files and in HDF5."""
DAMAGED = "is damaged, or is not an array in NumPy's format; write it again with numpy.save or numpy.savez"
NUMBERS = "biuf"
_Made = TypeVar("_Made")
MAX_HEADER = 10_000  # characters, numpy's own limit
_KINDS = {"U": "text", "S": "text", "O": "objects", "c": "complex numbers"}
MAPPED = 1 << 26  # bytes, from which on an array is not read before its rows are


class Header(NamedTuple):
    """What an array is, without its values; in Fortran's order its first axis varies fastest."""

    shape: Shape
    dtype: DType
    fortran: bool = False


class _Entry(NamedTuple):
    """An array as it stands in a file.

    Attributes:
        stream: from its header on.
        path: of the file.
        who: what begins a sentence on it.
        size: bytes that it may have.
        place: the file and the offset where it is mapped from; None where it is packed.
    """

    stream: IO[bytes]
    path: Path
    who: str
    size: int
    place: tuple[IO[bytes], int] | None


def label_among(names: Container[str], inputs: Container[str]) -> str | None:
    """The array of a file that has the true classes: the first of `LABELS` that is there and no input.

    Examples:
        >>> label_among(["x", "y", "labels"], ["x"]), label_among(["x", "y"], ["x", "y"])
        ('labels', None)
    """
    return next((name for name in LABELS if name in names and name not in inputs), None)


def read_headers(path: Path) -> dict[str, Header]:
    """The arrays of an `.npz` by name; that of an `.npy` is called "". Raises as `read_arrays`."""
    return _each(path, lambda _, entry: _header(entry))


def read_arrays(
    path: Path, names: Collection[str] | None = None, rows: Sequence[int] | None = None
) -> dict[str, Array]:
    """Some of the arrays of an `.npz` by name, or all; that of an `.npy` is called "".

    Args:
        path: the file.
        names: of the arrays.
        rows: those that will be looked at, in their order, or all; others are 0 where they would have to be held, and
            nothing behind the last is unpacked.

    Raises:
        ParseError: the file cannot be read, is damaged, or holds something else than real numbers where it was asked.
    """

    def wanted(name: str, entry: _Entry) -> Array | None:
        if names is None or name in names:
            return _array(entry, rows)
        _header(entry)  # which may be damaged
        return None

    return {name: array for name, array in _each(path, wanted).items() if array is not None}


def row_of(array: Array, number: int) -> Array:
    """A row; of an array that is mapped a copy, and the pages that it was read from are given back."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = getattr(base, "obj", base)  # of the view that numpy has of a buffer
    if not isinstance(base, MappedFile):
        return np.asarray(array[number])
    row = np.array(array[number])
    release_pages(base)
    return row


def _each(path: Path, made: Callable[[str, _Entry], _Made]) -> dict[str, _Made]:
    """Name -> what is made of an array of the file. Raises ParseError."""
    with open_regular(path) as file:
        try:
            if file.read(4) != b"PK\x03\x04":
                return {"": made("", _Entry(file, path, "", _size(file), (file, 0)))}
            with ZipFile(file) as archive:
                found = {}
                for info in archive.infolist():
                    name = info.filename.removesuffix(".npy")
                    with archive.open(info) as stream:
                        place = (file, _start(file, info)) if info.compress_type == ZIP_STORED else None
                        found[name] = made(name, _Entry(stream, path, f"'{name}' in it ", info.file_size, place))
                return found
        except ParseError:
            raise
        except MemoryError:
            raise ParseError("says that it holds more than there is memory for", path) from None
        except Exception:
            # zipfile, zlib and numpy have each exceptions of their own, and what numpy says is advice about pickles.
            file.seek(0)
            other = other_format(file.read(HEAD), "a NumPy file")
            raise ParseError(other or DAMAGED, path) from None


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _start(file: IO[bytes], info: ZipInfo) -> int:
    """Where the contents of a file in an archive begin, behind its own header, a name and what is said further."""
    file.seek(info.header_offset + 26)
    name, further = struct.unpack("<HH", file.read(4))
    return int(info.header_offset + 30 + name + further)


def _header(entry: _Entry) -> Header:
    """What the stream says first."""
    version = npy.read_magic(entry.stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(entry.stream, max_header_size=MAX_HEADER)
    return Header(shape, dtype, fortran)


def _array(entry: _Entry, rows: Sequence[int] | None) -> Array:
    """An array, or some of its rows, as `read_arrays` says."""
    stream, path = entry.stream, entry.path
    shape, dtype, fortran = _header(entry)
    if dtype.kind not in NUMBERS:
        raise ParseError(f"{entry.who}holds {_KINDS.get(dtype.kind, dtype)} and not real numbers", path)
    count = math.prod(shape)
    if any(length < 0 for length in shape) or count * dtype.itemsize > entry.size:
        raise ParseError(DAMAGED, path)
    if entry.place is not None and count * dtype.itemsize >= MAPPED:
        file, start = entry.place
        values = np.frombuffer(MappedFile(file.fileno(), path), dtype, count, start + stream.tell())
    else:
        values = np.zeros(count, dtype)  # whose pages take no memory before they are written to
        room = values.view(np.uint8).data
        if rows is None or fortran or len(shape) == 0 or shape[0] < 2:  # one row goes with all samples of others
            _fill(room, stream, path)
        else:
            _fill_rows(room, stream, path, [row for row in rows if row < shape[0]], len(room) // shape[0])
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _fill_rows(room: memoryview, stream: IO[bytes], path: Path, rows: Sequence[int], size: int) -> None:
    """Rows of so many bytes; those that follow each other at once."""
    starts = [row for place, row in enumerate(rows) if not place or row != rows[place - 1] + 1]
    stops = [row + 1 for place, row in enumerate(rows) if place + 1 == len(rows) or rows[place + 1] != row + 1]
    for start, stop, before in zip(starts, stops, [0, *stops], strict=False):
        stream.seek((start - before) * size, os.SEEK_CUR)
        _fill(room[start * size : stop * size], stream, path)


def _fill(room: memoryview, stream: IO[bytes], path: Path) -> None:
    done = 0
    while done < len(room):
        piece = stream.read(min(1 << 20, len(room) - done))
        if not piece:
            raise ParseError(DAMAGED, path)
        room[done : done + len(piece)] = piece
        done += len(piece)
