"""Write a model while its weights stream past, so that they are never all in memory, nor twice.

A model file is a protobuf message, written here from the outside in:

    ModelProto   ir_version, producer, opset_import, ...   as protobuf serialises them
                 graph (7), with its length
    GraphProto     nodes, inputs, outputs, value_info      as protobuf serialises them
                   initializer (5), each with its length
    TensorProto      dims (1), data_type (2), name (8)     as protobuf serialises them
                     raw_data (9)                          from `Weight.pieces`

A message may hold at most 2 GiB. Larger models, or those for which the user asks, keep their weights in a file beside
the model, each aligned so that a runtime can map it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Protocol

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto

from bnfold.io.wire import LENGTH, encode_tag, encode_varint
from bnfold.onnx.weight import Weight

EXTERNAL_FROM = 1024
"""Bytes below which a weight stays in the model: shapes and axes must be readable without the other file."""
PAGE = 4096


class Sink(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Append `data`."""


class Initialiser:
    """An initialiser as it is written, `len` bytes: its message without the values, and these.

    Attributes:
        header, weight: the two.
        head: all in front of the values, from the field of the graph on.
    """

    __slots__ = ("head", "header", "weight")

    def __init__(self, header: TensorProto, weight: Weight) -> None:
        self.header, self.weight = header, weight
        message = header.SerializeToString(deterministic=True)
        message += field_head(TensorProto.RAW_DATA_FIELD_NUMBER, weight.nbytes)
        self.head = field_head(GraphProto.INITIALIZER_FIELD_NUMBER, len(message) + weight.nbytes) + message

    def __len__(self) -> int:
        return len(self.head) + self.weight.nbytes

    def inside(self) -> TensorProto:
        """The message with the values in it."""
        tensor = deepcopy(self.header)
        tensor.raw_data = b"".join(self.weight.pieces())
        return tensor

    def outside(self, data: DataFile) -> TensorProto:
        """The message that says where in another file the values are, which are written there."""
        tensor = deepcopy(self.header)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": data.location, "offset": data.place(self.weight), "length": self.weight.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


Piece = bytes | memoryview | Initialiser
"""A field as it is serialised or lies in a file, or an initialiser whose values are read when it is written."""


def write_pieces(sink: Sink, pieces: Iterable[Piece]) -> None:
    """Write fields, the values of initialisers piece by piece."""
    for piece in pieces:
        if isinstance(piece, Initialiser):
            sink.write(piece.head)
            for values in piece.weight.pieces():
                sink.write(values)
        else:
            sink.write(piece)


def field_head(number: int, length: int) -> bytes:
    """What stands in front of a field of so many bytes."""
    return encode_tag(number, LENGTH) + encode_varint(length)


def fill(model: ModelProto, weights: Iterable[Weight]) -> ModelProto:
    """Put the initialisers into the message itself, and return it."""
    model.graph.initializer.extend(Initialiser(weight.header(), weight).inside() for weight in weights)
    return model


class WholeModel:
    """A model as it is written with all weights inside, `size` bytes."""

    def __init__(self, model: ModelProto, weights: Iterable[Weight]) -> None:
        self._graph = model.graph
        self._inside = [Initialiser(weight.header(), weight) for weight in weights]
        size = model.graph.ByteSize() + sum(map(len, self._inside))
        shell = deepcopy(model)
        shell.ClearField("graph")
        self._front = shell.SerializeToString(deterministic=True) + field_head(ModelProto.GRAPH_FIELD_NUMBER, size)
        self.size = len(self._front) + size

    def write(self, sink: Sink) -> None:
        """All of it, the values piece by piece."""
        write_pieces(sink, [self._front, self._graph.SerializeToString(deterministic=True), *self._inside])


class DataFile:
    """The file that holds the weights of a model beside it, or of several: each aligned, equal ones once.

    Args:
        sink: the file, empty.
        location: what the models call it: its name in their folder.
    """

    def __init__(self, sink: Sink, location: str) -> None:
        self._sink, self.location = sink, location
        self._end = 0
        self._placed: dict[tuple[str, tuple[int, ...], str], tuple[Weight, int]] = {}

    def place(self, weight: Weight) -> int:
        """Write a weight, unless one of its name has the same values; returns its offset."""
        key = (weight.name, weight.shape, weight.dtype.str)
        if key in self._placed and same_bytes(self._placed[key][0], weight):
            return self._placed[key][1]
        gap = -self._end % PAGE
        self._sink.write(bytes(gap))
        offset = self._end + gap
        for piece in weight.pieces():
            self._sink.write(piece)
        self._end = offset + weight.nbytes
        self._placed[key] = weight, offset
        return offset


def write_external(sink: Sink, data: DataFile, model: ModelProto, weights: Iterable[Weight]) -> None:
    """Write the model to `sink` and its large weights to `data`."""
    complete = deepcopy(model)
    for weight in weights:
        if weight.nbytes < EXTERNAL_FROM:
            fill(complete, [weight])
        else:
            complete.graph.initializer.append(Initialiser(weight.header(), weight).outside(data))
    sink.write(complete.SerializeToString(deterministic=True))


def same_bytes(one: Weight, other: Weight) -> bool:
    """Whether two weights of one shape and type are the same to the bit; most that differ do so in the first piece."""
    pieces = zip(one.pieces(), other.pieces(), strict=False)
    return all(np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) for a, b in pieces)
