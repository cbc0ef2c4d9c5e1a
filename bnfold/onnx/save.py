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

from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto

from bnfold.onnx.builder import ONNX_TYPES, Weight

LARGEST_MESSAGE = 2**31 - 1
EXTERNAL_FROM = 1024
"""Bytes below which a weight stays in the model: shapes and axes must be readable without the other file."""
PAGE = 4096
LENGTH_DELIMITED = 2


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


def write_external(sink: Sink, data: Sink, location: str, model: ModelProto, weights: Iterable[Weight]) -> None:
    """Write the model to `sink` and its large weights to `data`, a file called `location` in the same folder."""
    complete = ModelProto()
    complete.CopyFrom(model)
    offset = 0
    for weight in weights:
        if weight.nbytes < EXTERNAL_FROM:
            fill(complete, [weight])
            continue
        gap = -offset % PAGE
        data.write(bytes(gap))
        offset += gap
        tensor = complete.graph.initializer.add()
        tensor.CopyFrom(_header(weight))
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(weight.nbytes))):
            tensor.external_data.append(StringStringEntryProto(key=key, value=value))
        for piece in weight.pieces():
            data.write(piece)
        offset += weight.nbytes
    sink.write(complete.SerializeToString(deterministic=True))


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
    return TensorProto(dims=weight.shape, data_type=ONNX_TYPES[weight.dtype.name], name=weight.name)


def _tensor_head(weight: Weight) -> tuple[bytes, Iterator[memoryview]]:
    """What stands in front of the raw data, and the raw data."""
    head = _header(weight).SerializeToString(deterministic=True) + _tag(TensorProto, "raw_data", weight.nbytes)
    return head, iter(weight.pieces())


def _tag(message: type[ModelProto | GraphProto | TensorProto], field: str, length: int) -> bytes:
    """The key of a length-delimited field, and the length."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
