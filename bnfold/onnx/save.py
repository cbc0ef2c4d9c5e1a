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

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, helper

from bnfold.io.wire import LENGTH, MAX_MESSAGE, encode_tag, encode_varint
from bnfold.onnx.weight import Weight

LARGEST_MESSAGE = MAX_MESSAGE
EXTERNAL_FROM = 1024
"""Bytes below which a weight stays in the model: shapes and axes must be readable without the other file."""
PAGE = 4096


class Sink(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Append `data`."""


def fill(model: ModelProto, weights: Iterable[Weight]) -> ModelProto:
    """Put the initialisers into the message itself, and return it."""
    for weight in weights:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(_header(weight))
        tensor.raw_data = b"".join(weight.pieces())
    return model


def size_of(model: ModelProto, weights: Iterable[Weight]) -> int:
    """Bytes that `write_model` writes when every weight is inside."""
    graph = _graph_size(model.graph, list(weights))
    return len(_shell(model)) + len(_tag(ModelProto, "graph", graph)) + graph


def write_model(sink: Sink, model: ModelProto, weights: Iterable[Weight]) -> None:
    """Write the model with all weights inside."""
    inside = list(weights)
    sink.write(_shell(model))
    sink.write(_tag(ModelProto, "graph", _graph_size(model.graph, inside)))
    sink.write(model.graph.SerializeToString(deterministic=True))
    for weight in inside:
        header, raw = _tensor_head(weight)
        sink.write(_tag(GraphProto, "initializer", len(header) + weight.nbytes))
        sink.write(header)
        for piece in raw:
            sink.write(piece)


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
        if key in self._placed and _same_bytes(self._placed[key][0], weight):
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
    complete = ModelProto()
    complete.CopyFrom(model)
    for weight in weights:
        if weight.nbytes < EXTERNAL_FROM:
            fill(complete, [weight])
            continue
        tensor = complete.graph.initializer.add()
        tensor.CopyFrom(_header(weight))
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": data.location, "offset": str(data.place(weight)), "length": str(weight.nbytes)}
        tensor.external_data.extend(StringStringEntryProto(key=key, value=value) for key, value in place.items())
    sink.write(complete.SerializeToString(deterministic=True))


def _same_bytes(one: Weight, other: Weight) -> bool:
    """Whether two weights of one shape and type are the same to the bit; most that differ do so in the first piece."""
    pieces = zip(one.pieces(), other.pieces(), strict=False)
    return all(np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) for a, b in pieces)


def _shell(model: ModelProto) -> bytes:
    """Everything but the graph."""
    shell = ModelProto()
    shell.CopyFrom(model)
    shell.ClearField("graph")
    return shell.SerializeToString(deterministic=True)


def _graph_size(graph: GraphProto, weights: list[Weight]) -> int:
    size = graph.ByteSize()
    for weight in weights:
        tensor = len(_tensor_head(weight)[0]) + weight.nbytes
        size += len(_tag(GraphProto, "initializer", tensor)) + tensor
    return size


def _header(weight: Weight) -> TensorProto:
    return TensorProto(
        dims=weight.shape, data_type=int(helper.np_dtype_to_tensor_dtype(weight.dtype)), name=weight.name
    )


def _tensor_head(weight: Weight) -> tuple[bytes, Iterator[memoryview]]:
    """What stands in front of the raw data, and the raw data."""
    head = _header(weight).SerializeToString(deterministic=True) + _tag(TensorProto, "raw_data", weight.nbytes)
    return head, iter(weight.pieces())


def _tag(message: type[ModelProto | GraphProto | TensorProto], field: str, length: int) -> bytes:
    """The key of a length-delimited field, and the length."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return encode_tag(number, LENGTH) + encode_varint(length)
