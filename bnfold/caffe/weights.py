"""Reading a caffemodel: one record per layer, its learned blobs as views on the mapped file.

Only the name, the type and the blobs of each layer are looked at, since Caffe's forks disagree about the number of
nearly every other field. The file is mapped, the walk touches headers only, and a packed blob is never copied:

    NetParameter  layer  = 100  LayerParameter    name 1  type 2  blobs 7       (version 2)
                  layers = 2    V1LayerParameter  name 4          blobs 6       (version 1)
                                  layer = 1  V0LayerParameter  name 1  type 2  blobs 50   (version 0)

A blob that makes no sense by itself (5 values for a shape of 6) is a `Record.problem` and no error, because Caffe does
not look at layers that the net has not got either; bytes that are not protobuf are an error at once.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bnfold.caffe.blobs import read_blob
from bnfold.caffe.hdf5 import SAVED_BESIDE, SOLVER_STATE, read_layers
from bnfold.errors import ParseError
from bnfold.io.files import descriptor_of
from bnfold.io.formats import HEAD, is_text, other_format
from bnfold.io.mapping import map_file
from bnfold.io.wire import LENGTH, VARINT, Buffer, Field, WireError, fields, varint
from bnfold.net import NO_BLOBS, Array, Blobs, LazyArray

# Each layer and each blob costs memory of ours whatever its size in the file, so a hostile file must meet an end.
# Published nets have below 3,000 layers.
MAX_LAYERS = 250_000
MAX_BLOBS = 500_000

_NET_LAYER, _NET_LAYERS_V1 = 100, 2
_NET_BEGINS = (1, _NET_LAYERS_V1, 3, _NET_LAYER)  # name and input are 1 and 3
_ONNX_GRAPH = 7, LENGTH  # where a NetParameter has a number
_V1_LAYER_V0, _V1_TYPE = 1, 5

# version -> field numbers of name, type (V1 has a number there, which is of no use without its table) and blobs
_NUMBERS = {0: (1, 2, 50), 1: (4, None, 6), 2: (1, 2, 7)}
RULES = INCLUDE, EXCLUDE = 8, 9  # of version 2


@dataclass(slots=True, eq=False)
class Record:
    """One layer of a caffemodel.

    Attributes:
        name: the layer's name, by which weights are matched to a prototxt.
        type: the type's word as the file has it; None in V1 files, which store a number.
        blobs: what it learned, in the shapes that the file says; read-only.
        version: 2 for a `LayerParameter`, 1 for a `V1LayerParameter`, 0 for a `V0LayerParameter` in one.
        buffer: the file that it is in, mapped.
        begin, at, end: offsets in the file: the whole field begins with its tag at `begin`, its message at `at`.
        problem: what is wrong with its blobs, a sentence for a `WeightsError`; empty when they are sound.
        numbered: the blobs of an HDF5 snapshot by number; those that a layer shares with another may be missing.
        has_rules: a layer of version 2 says in which states it runs.
    """

    name: str
    type: str | None
    blobs: Blobs
    version: int
    buffer: mmap.mmap = field(repr=False)
    begin: int
    at: int
    end: int
    problem: str = ""
    numbered: Mapping[int, Array] = field(default_factory=dict, repr=False)
    has_rules: bool = False

    @property
    def is_binary(self) -> bool:
        """Whether it has bytes that can be written back, which a layer of an HDF5 snapshot has not."""
        return self.end > 0

    @property
    def name_bytes(self) -> bytes:
        """The name as it is in the file, in whatever encoding."""
        if self.name.isascii():
            return self.name.encode()
        number = _NUMBERS[self.version][0]
        names = self._fields(number)
        return bytes(self.buffer[names[-1].at : names[-1].end])

    @property
    def type_number(self) -> int:
        """The number that V1 has for a type, 0 (NONE) where there is none."""
        types = [field for field in fields(self.buffer, self.at, self.end) if field[:2] == (_V1_TYPE, VARINT)]
        return varint(self.buffer, types[-1].at, types[-1].end)[0] if self.version == 1 and types else 0

    def blob_fields(self) -> list[Field]:
        """Where each of `blobs` is in the file."""
        return self._fields(_NUMBERS[self.version][2])

    def _fields(self, number: int) -> list[Field]:
        found = _layer_fields(self.buffer, self.version, self.at, self.end)
        return [field for field in found if field.number == number and field.wire == LENGTH]


@dataclass(slots=True, eq=False)
class WeightsFile:
    """A mapped caffemodel: its records in the order of the file.

    An HDF5 snapshot has records too, but none whose bytes could be written back: then `is_binary` is False. The map
    stays valid when the file is replaced by renaming another one over it (the old one lives on unseen).
    """

    path: Path
    buffer: mmap.mmap = field(repr=False)
    is_binary: bool = True
    records: list[Record] = field(default_factory=list, repr=False)
    _by_name: dict[str, Record] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> Record | None:
        """The record of the layer `name`: the last that has blobs, since Caffe copies them in order; else the last."""
        if not self._by_name:
            for record in self.records:
                if record.blobs or not (known := self._by_name.get(record.name)) or not known.blobs:
                    self._by_name[record.name] = record
        return self._by_name.get(name)

    @property
    def version(self) -> int:
        """The oldest version among the records (V1 and V0 may stand side by side)."""
        return min((record.version for record in self.records), default=2)


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Map a caffemodel and find its layers.

    Args:
        path: a binary NetParameter of any version and of every fork, or an HDF5 snapshot (`.caffemodel.h5`).

    Raises:
        ParseError: it cannot be read, is not a caffemodel, or is truncated or damaged (then with the byte).
    """
    path = Path(path)
    file = WeightsFile(path, map_file(path))
    try:
        if file.buffer[: len(HDF5_MAGIC)] == HDF5_MAGIC:
            _read_hdf5(file)
        else:
            _walk(file)
    except WireError as error:
        damage = "is damaged or cut short, or is not a caffemodel"
        raise ParseError(_other_format(file.buffer) or f"{damage}: {error}; copy it again", path) from None
    if not any(record.blobs for record in file.records):  # other messages have fields of these numbers, too
        other = _other_format(file.buffer) if file.is_binary else ""
        if other or not file.records:
            raise ParseError(other or "holds no layers, so it is not a caffemodel", path)
    _refuse_two_versions(file)
    return file


def _refuse_two_versions(file: WeightsFile) -> None:
    """Caffe stops at `layers` (V1) beside `layer` (V2), as two files joined end to end have them."""
    new = [record.name for record in file.records if record.version == 2]
    old = [record.name for record in file.records if record.version < 2]
    if new and old:
        raise ParseError(
            f"has layer '{old[0]}' as `layers` (V1) and '{new[0]}' as `layer` (V2), and Caffe reads only one kind: "
            "were two caffemodels joined? Give both by name instead",
            file.path,
        )


def carries_net(path: Path) -> bool:
    """Whether a model is a caffemodel: by its name, or by how it begins where it comes through a stream."""
    if descriptor_of(path) is None:
        return path.suffix.lower() == ".caffemodel"
    contents = map_file(path)  # text has no such bytes, and a line feed in front of it is a tag of protobuf's
    return re.search(rb"[\0-\x08]", contents) is not None and begins_as_caffemodel(contents)


def begins_as_caffemodel(contents: Buffer) -> bool:
    """Whether the first field is one of a NetParameter: its name, an input or a layer; an ONNX model has a graph."""
    first = None
    with suppress(WireError):
        for one in fields(contents, 0, len(contents)):
            first = first or one
            if one[:2] == _ONNX_GRAPH:
                return False
    return first is not None and first.wire == LENGTH and first.number in _NET_BEGINS


def _walk(file: WeightsFile) -> None:
    """Fill `file.records`."""
    blob_count = 0
    for number, wire, begin, at, end in fields(file.buffer, 0, len(file.buffer)):
        if wire != LENGTH or number not in (_NET_LAYER, _NET_LAYERS_V1):
            continue
        record = _record(file.buffer, 2 if number == _NET_LAYER else 1, begin, at, end)
        file.records.append(record)
        blob_count += len(record.blobs)
        if len(file.records) > MAX_LAYERS or blob_count > MAX_BLOBS:
            raise ParseError(
                f"has more than {MAX_LAYERS:,} layers or {MAX_BLOBS:,} blobs, which no network has", file.path
            )


def _read_hdf5(file: WeightsFile) -> None:
    file.is_binary = False
    for name, stored, problem in read_layers(file.path, file.buffer):
        blobs = NO_BLOBS if problem else Blobs(stored.values())
        file.records.append(Record(name, None, blobs, 2, file.buffer, 0, 0, 0, problem, stored))


def _record(buffer: mmap.mmap, version: int, begin: int, at: int, end: int) -> Record:
    if version == 1 and any(field.number == _V1_LAYER_V0 for field in fields(buffer, at, end)):
        version = 0
    name_number, type_number, blob_number = _NUMBERS[version]
    name, word, has_rules = "", None, False
    blobs: list[Array | LazyArray] = []
    problems: list[str] = []
    for number, wire, _, start, stop in _layer_fields(buffer, version, at, end):
        if wire != LENGTH:
            continue
        if number == name_number:
            name = decode_name(buffer[start:stop])
        elif number == type_number:
            word = decode_name(buffer[start:stop])
        elif number in RULES:
            has_rules |= version == 2
        elif number == blob_number:
            blob, problem = read_blob(buffer, start, stop)
            if problem:
                problems.append(f"blob {len(blobs)} {problem}")
            blobs.append(blob)
            if len(blobs) > MAX_BLOBS:
                break
    return Record(
        name,
        word,
        Blobs(blobs) if blobs else NO_BLOBS,
        version,
        buffer,
        begin,
        at,
        end,
        problem="; ".join(problems),
        has_rules=has_rules,
    )


def _layer_fields(buffer: Buffer, version: int, at: int, end: int) -> Iterator[Field]:
    """The fields of a layer, wherever its version keeps them."""
    if version > 0:
        return fields(buffer, at, end)
    # V0 keeps the connections outside and everything else inside; Caffe drops whatever else is outside.
    inner = (layer for layer in fields(buffer, at, end) if layer[:2] == (_V1_LAYER_V0, LENGTH))
    return (known for layer in inner for known in fields(buffer, layer.at, layer.end))


def decode_name(text: bytes) -> str:
    """A name as text: UTF-8 where it is that, Latin-1 (which accepts every byte) otherwise."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _other_format(buffer: mmap.mmap) -> str:
    """What a file is that calls itself a caffemodel and is none; empty when that cannot be told."""
    head = bytes(buffer[:HEAD])
    if other := other_format(head, "caffemodel"):
        return other
    if is_text(head):
        if re.search(rb"\bblobs\s*:?\s*[{<\[]", buffer):
            return (
                "is a caffemodel as text, and Caffe reads it as binary: make it so "
                "(protoc --encode=caffe.NetParameter caffe.proto)"
            )
        return "is text and not a caffemodel: was the prototxt given in its place?"
    return f"is {what} and not a caffemodel{_NEXT.get(what, '')}" if (what := message_of(buffer)) else ""


def message_of(contents: Buffer) -> str:
    """What a message of protobuf's is that has fields which no network has; empty for any other."""
    kinds = set[tuple[int, int]]()
    with suppress(WireError):
        kinds.update(one[:2] for one in fields(contents, 0, len(contents)))
    if kinds >= _BLOB_WITH_SHAPE or {(1, VARINT), (2, VARINT)} <= kinds:
        return "one blob, as the file of a mean is,"
    if (1, VARINT) not in kinds:
        return ""
    if _ONNX_GRAPH in kinds:
        return "an ONNX model"
    return SOLVER_STATE if kinds <= _SOLVER_STATE else ""


HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# BlobProto: data, shape. In a NetParameter these numbers are of flags.
_BLOB_WITH_SHAPE = {(5, LENGTH), (7, LENGTH)}
# SolverState: iter, learned_net, history, current_step.
_SOLVER_STATE = {(1, VARINT), (2, LENGTH), (3, LENGTH), (4, VARINT)}
# What a message is that was given as weights -> what to do.
_NEXT = {"an ONNX model": ", and needs no prototxt beside it", SOLVER_STATE: SAVED_BESIDE}
