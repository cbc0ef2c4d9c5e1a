"""Caffe's LMDB: `key -> Datum` in key order, as `convert_imageset` writes it and the Data layer reads it.

    Datum { channels 1, height 2, width 3, data 4 (uint8, planes), label 5, float_data 6, encoded 7 }   (caffe.proto)

`data` are planes in the order blue, green, red, or the bytes of an image file where `encoded` is set. SSD's
AnnotatedDatum holds a Datum in field 1, where a Datum has a number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from bnfold.data.decoding import decode
from bnfold.data.pages import Pages, damaged
from bnfold.data.pixels import Kind, kind_of
from bnfold.data.samples import Part
from bnfold.errors import ParseError, UsageError
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import map_file
from bnfold.io.wire import FIXED32, LENGTH, VARINT, Buffer, WireError, fields, signed, varint
from bnfold.net import Array

if TYPE_CHECKING:
    import mmap

    from PIL import Image

CHANNELS, HEIGHT, WIDTH, DATA, LABEL, FLOATS, ENCODED = range(1, 8)
_OPENED: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()  # by device and number of the file
_OPENING = Lock()


@dataclass(slots=True)
class Datum:
    """One record, parsed; `data` and `floats` are views on it."""

    numbers: dict[int, int] = field(default_factory=dict)
    data: memoryview | None = None
    floats: list[bytes] = field(default_factory=list)

    @property
    def encoded(self) -> bool:
        """Whether the data are the bytes of an image file."""
        return bool(self.numbers.get(ENCODED, 0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = (self.numbers.get(number, 0) for number in (CHANNELS, HEIGHT, WIDTH))
        return channels, height, width


def parse(record: Buffer, annotated: bool = True) -> Datum:
    """A Datum, or that inside an AnnotatedDatum where there may be one. Raises WireError."""
    view = memoryview(record)
    datum = Datum()
    for found in fields(view, 0, len(view)):
        if found.number == 1 and found.wire == LENGTH:
            if not annotated:
                raise WireError("it holds a message where a Datum has a number,", found.at)
            return parse(view[found.at : found.end], annotated=False)
        if found.wire == VARINT:
            datum.numbers[found.number] = signed(varint(view, found.at, found.end)[0])
        elif found.number == DATA and found.wire == LENGTH:
            datum.data = view[found.at : found.end]
        elif found.number == FLOATS and found.wire in (LENGTH, FIXED32):
            datum.floats.append(bytes(view[found.at : found.end]))
    return datum


@dataclass(slots=True)
class Database:
    """The records of an LMDB by number; whoever unpickles it opens the database again.

    Attributes:
        path: the folder with `data.mdb`, or a file.
        pages: of the file, all of which were checked.
        keys: in their order.
    """

    path: Path
    pages: Pages
    keys: list[bytes]
    _environment: Any = None

    def __getstate__(self) -> tuple[Path, Pages, list[bytes]]:
        return self.path.absolute(), self.pages, self.keys  # workers may run in another folder

    def __setstate__(self, state: tuple[Path, Pages, list[bytes]]) -> None:
        self.path, self.pages, self.keys = state
        self._environment = None

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self.keys)

    def name(self, number: int) -> str:
        """The key: `convert_imageset` writes the sample's number in eight digits, and its path."""
        return self.keys[number].decode(errors="backslashreplace")

    def where(self, number: int) -> str:
        """Database and key."""
        return f"{self.path}: record '{self.name(number)}'"

    def content(self, number: int) -> bytes:
        """The record."""
        with _reading(self._opened(), self.path) as transaction:
            return transaction.get(self.keys[number]) or b""

    def kind(self, number: int) -> Kind:
        """What a record holds."""
        datum = self._datum(number)
        if datum.encoded:
            return kind_of(self._decoded(number, datum, whole=False))
        return Kind(datum.shape[1:], None, False)

    def load(self, number: int, *, grey: bool = False) -> Image.Image | Array:
        """A decoded image, or pixels (height, width, channels). Raises ParseError where the record is damaged."""
        datum = self._datum(number)
        if datum.encoded:
            return self._decoded(number, datum, grey=grey)
        channels, height, width = shape = datum.shape
        size = channels * height * width
        raw, floats = datum.data or b"", b"".join(datum.floats)
        if min(shape) < 1 or size not in (len(raw), len(floats) // 4):
            claimed = f"{channels}x{height}x{width} and has {len(raw):,} bytes and {len(floats) // 4:,} floats"
            raise ParseError(f"record '{self.name(number)}' is {claimed}", self.path)
        values: Array = np.frombuffer(raw, np.uint8) if size == len(raw) else np.frombuffer(floats, "<f4")
        return values.reshape(shape).transpose(1, 2, 0)

    def labels(self, part: Part) -> Array | None:
        """The label of each record (records,) that will be taken, -1 of others; None where none of them says one."""
        known, labels = False, np.full(self.count, -1, np.int64)
        with _reading(self._opened(), self.path, buffers=True) as transaction:
            taken = part.numbers(self.count)
            for number in range(self.count) if taken is None else taken:
                datum = self._parsed(transaction.get(self.keys[number]), number)
                known |= LABEL in datum.numbers
                labels[number] = datum.numbers.get(LABEL, 0)
        return labels if known else None

    def _datum(self, number: int) -> Datum:
        with _reading(self._opened(), self.path) as transaction:
            return self._parsed(transaction.get(self.keys[number]), number)

    def _parsed(self, record: Buffer | None, number: int) -> Datum:
        if record is None:
            raise damaged(self.path, f"it lists '{self.name(number)}', and finds no record of it")
        try:
            return parse(record)
        except (WireError, struct.error) as error:
            raise ParseError(f"record '{self.name(number)}' is no Datum: {error}", self.path) from None

    def _decoded(self, number: int, datum: Datum, *, whole: bool = True, grey: bool = False) -> Image.Image:
        return decode(BytesIO(datum.data or b""), self.path, self.name(number), whole=whole, grey=grey)

    def _opened(self) -> Any:
        if self._environment is None:
            if Pages.of(_contents(self.path), self.path) != self.pages:
                raise ParseError(
                    "is another LMDB than in the process that asks, or was written to since; start again", self.path
                )
            self._environment = _environment(self.path)
        return self._environment


def open_database(path: Path, part: Part) -> tuple[Database, Array | None]:
    """The records at a path, and the labels of those that will be taken.

    Raises:
        UsageError: the package `lmdb` is not installed, or nothing is in the database.
        ParseError: it is damaged.
    """
    _package()
    content = _contents(path)
    pages = Pages.of(content, path)
    keys = pages.keys(content, path)
    if not keys:
        raise UsageError(f"there is no record in '{path}'")
    database = Database(path, pages, keys)
    return database, database.labels(part)


def _contents(path: Path) -> mmap.mmap:
    """The file, mapped. Raises ParseError where it is something else, by how it begins."""
    content = map_file(_file_of(path))
    if other := other_format(content[:HEAD], "an LMDB"):
        raise ParseError(other, _file_of(path))
    return content


def _environment(path: Path) -> Any:
    """The database, opened once however many read it, since LMDB allows a process no more."""
    lmdb = _package()
    file = _file_of(path).stat()
    with _OPENING:
        found = _OPENED.get((file.st_dev, file.st_ino))
        if found is None:
            try:
                found = lmdb.open(
                    str(path), subdir=path.is_dir(), readonly=True, lock=False, create=False, readahead=False
                )
            except lmdb.Error as error:
                raise ParseError(f"is no LMDB, or a damaged one: {error}; copy it again", path) from None
            _OPENED[file.st_dev, file.st_ino] = found
    return found


@contextmanager
def _reading(environment: Any, path: Path, *, buffers: bool = False) -> Iterator[Any]:
    """A transaction that reads. Raises ParseError where the database is damaged."""
    try:
        with environment.begin(buffers=buffers) as transaction:
            yield transaction
    except _package().Error as error:
        raise damaged(path, str(error)) from None


def _package() -> ModuleType:
    try:
        return import_module("lmdb")
    except ImportError:
        raise UsageError("reading an LMDB needs the package lmdb: pip install 'bnfold[lmdb]'") from None


def _file_of(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path
