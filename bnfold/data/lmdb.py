"""Caffe's LMDB: `key -> Datum` in key order, as `convert_imageset` writes it and the Data layer reads it.

    Datum { channels 1, height 2, width 3, data 4 (uint8, planes), label 5, float_data 6, encoded 7 }   (caffe.proto)

`data` are planes in the order blue, green, red, or the bytes of an image file where `encoded` is set. SSD's
AnnotatedDatum holds a Datum in field 1, where a Datum has a number.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnfold.data.decoding import decode_image
from bnfold.data.pages import Pages
from bnfold.data.pixels import Kind, kind_of
from bnfold.data.samples import Part
from bnfold.errors import ParseError, UsageError
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import map_file
from bnfold.io.wire import FIXED32, LENGTH, VARINT, Buffer, WireError, fields, signed, varint
from bnfold.net import Array

if TYPE_CHECKING:
    from PIL import Image

CHANNELS, HEIGHT, WIDTH, DATA, LABEL, FLOATS, ENCODED = range(1, 8)


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
    """The records of an LMDB by number; whoever unpickles it maps the file again.

    Attributes:
        path: the folder with `data.mdb`, or a file.
        pages: of the file.
        keys: in their order.
        places: first byte and size of each record, int64 (records, 2).
    """

    path: Path
    pages: Pages
    keys: list[bytes]
    places: Array
    _content: mmap.mmap | None = None

    def __getstate__(self) -> tuple[Path, Pages, list[bytes], Array]:
        return self.path.absolute(), self.pages, self.keys, self.places  # workers may run in another folder

    def __setstate__(self, state: tuple[Path, Pages, list[bytes], Array]) -> None:
        self.path, self.pages, self.keys, self.places = state
        self._content = None

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self.keys)

    @property
    def files(self) -> list[Path]:
        """The file that it is."""
        return [_file_of(self.path)]

    def name(self, number: int) -> str:
        """The key: `convert_imageset` writes the sample's number in eight digits, and its path."""
        return self.keys[number].decode(errors="backslashreplace")

    def where(self, number: int) -> str:
        """Database and key."""
        return f"{self.path}: record '{self.name(number)}'"

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
            said = f"{channels}x{height}x{width} and has {len(raw):,} bytes and {len(floats) // 4:,} floats"
            raise ParseError(f"record '{self.name(number)}' is {said}", self.path)
        values: Array = np.frombuffer(raw, np.uint8) if size == len(raw) else np.frombuffer(floats, "<f4")
        return values.reshape(shape).transpose(1, 2, 0)

    def labels(self, part: Part) -> Array | None:
        """The label of each record (records,) that will be taken, -1 of others; None where none of them says one."""
        known, labels = False, np.full(self.count, -1, np.int64)
        taken = part.numbers(self.count)
        for number in range(self.count) if taken is None else taken:
            datum = self._datum(number)
            known |= LABEL in datum.numbers
            labels[number] = datum.numbers.get(LABEL, 0)
        return labels if known else None

    def _datum(self, number: int) -> Datum:
        at, size = self.places[number]
        try:
            return parse(memoryview(self._mapped())[at : at + size])
        except (WireError, struct.error) as error:
            raise ParseError(f"record '{self.name(number)}' is no Datum: {error}", self.path) from None

    def _decoded(self, number: int, datum: Datum, *, whole: bool = True, grey: bool = False) -> Image.Image:
        return decode_image(bytes(datum.data or b""), self.path, self.name(number), whole=whole, grey=grey)

    def _mapped(self) -> mmap.mmap:
        if self._content is None:
            content = _contents(self.path)
            if Pages.of(content, self.path) != self.pages:
                raise ParseError("is another LMDB than in the process that asks, or was written to since", self.path)
            self._content = content
        return self._content


def open_database(path: Path, part: Part) -> tuple[Database, Array | None]:
    """The records at a path, and the labels of those that will be taken.

    Raises:
        UsageError: nothing is in the database.
        ParseError: it is damaged.
    """
    content = _contents(path)
    pages = Pages.of(content, path)
    keys, places = pages.records(content, path)
    if not keys:
        raise UsageError(f"there is no record in '{path}'")
    database = Database(path, pages, keys, places, content)
    return database, database.labels(part)


def _contents(path: Path) -> mmap.mmap:
    """The file, mapped. Raises ParseError where it is something else, by how it begins."""
    content = map_file(_file_of(path))
    if other := other_format(content[:HEAD], "an LMDB"):
        raise ParseError(other, _file_of(path))
    if hasattr(mmap, "MADV_RANDOM"):  # of large records only the headers are read at first
        content.madvise(mmap.MADV_RANDOM)
    return content


def _file_of(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path
