"""Reading numpy's files, from whoever they come: never a pickle, numbers only, and only the arrays that are wanted.

An archive of three megabytes can unpack to three gigabytes. So the headers are read first, and an array's values when
it is asked for, never more of them than its header says and the archive has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy

from bnfold.errors import ParseError
from bnfold.io.mapping import open_regular
from bnfold.net import Array, Shape

LABELS = ("label", "labels", "y", "target", "targets")
"""What the array of the true classes may be called, in numpy's files and in HDF5."""
NUMBERS = "biuf"
MAX_HEADER = 10_000  # characters, numpy's own limit


class Header(NamedTuple):
    """What an array is, without its values."""

    shape: Shape
    dtype: np.dtype[Any]


def label_among(names: Container[str], inputs: Container[str]) -> str | None:
    """The array of a file that has the true classes: the first of `LABELS` that is there and no input.

    Examples:
        >>> label_among(["x", "y", "labels"], ["x"]), label_among(["x", "y"], ["x", "y"])
        ('labels', None)
    """
    return next((name for name in LABELS if name in names and name not in inputs), None)


def read_headers(path: Path) -> dict[str, Header]:
    """The arrays of an `.npz` by name; that of an `.npy` is called "". Raises as `read_arrays`."""
    return {name: Header(array.shape, array.dtype) for name, array in _read(path, ()).items()}


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Some of the arrays of an `.npz` by name, or all; that of an `.npy` is called "".

    Raises:
        ParseError: the file cannot be read, is damaged, or holds something else than real numbers where it was asked.
    """
    found = _read(path, names)
    return {name: array for name, array in found.items() if names is None or name in names}


def _read(path: Path, names: Collection[str] | None) -> dict[str, Any]:
    """Arrays where they were asked for, headers elsewhere."""
    with open_regular(path) as file:
        try:
            if file.read(4) != b"PK\x03\x04":
                return {"": _array(file, path, names is None or "" in names, _size(file))}
            with ZipFile(file) as archive:
                found = {}
                for entry in archive.infolist():
                    name = entry.filename.removesuffix(".npy")
                    with archive.open(entry) as stream:
                        found[name] = _array(stream, path, names is None or name in names, entry.file_size)
                return found
        except ParseError:
            raise
        except MemoryError:
            raise ParseError("says that it holds more than there is memory for", path) from None
        except Exception:
            # zipfile, zlib and numpy have each exceptions of their own, and what numpy says is advice about pickles.
            raise ParseError("is damaged, or is no array in numpy's format", path) from None


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _array(stream: IO[bytes], path: Path, wanted: bool, size: int) -> Any:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream, max_header_size=MAX_HEADER)
    if not wanted:
        return Header(shape, dtype)
    if dtype.kind not in NUMBERS:
        raise ParseError(f"holds {dtype} and not real numbers", path)
    count = math.prod(shape)
    if any(length < 0 for length in shape) or count * dtype.itemsize > size:
        raise ParseError("is damaged, or is no array in numpy's format", path)
    values = np.empty(count, dtype)
    room, done = values.view(np.uint8).data, 0
    while done < len(room):
        piece = stream.read(min(1 << 20, len(room) - done))
        if not piece:
            raise ParseError("is damaged, or is no array in numpy's format", path)
        room[done : done + len(piece)] = piece
        done += len(piece)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)
