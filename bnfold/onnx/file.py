"""Reading an ONNX file without its weights, which stay in it and are mapped:

    ModelProto  graph = 7  GraphProto  initializer = 5  TensorProto  raw_data = 9

The walk reads headers only, so a model of 2 GiB costs no more than its nodes until a weight is asked for.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper

from bnfold.errors import ParseError
from bnfold.io.mapping import map_file
from bnfold.io.wire import LENGTH, Field, WireError, encode_field, fields
from bnfold.onnx.export.builder import ONNX_TYPES, Weight
from bnfold.onnx.save import EXTERNAL_FROM

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


class OnnxFile(NamedTuple):
    """An ONNX file.

    Attributes:
        model: its message, without the weights that are large and lie in it.
        weights: these, as views.
        buffer: what they are views on.
    """

    model: ModelProto
    weights: tuple[Weight, ...]
    buffer: mmap.mmap


def read_onnx(path: Path) -> OnnxFile:
    """Map a model; weights that lie in files of their own stay there.

    Raises:
        ParseError: the file cannot be read or is not an ONNX model.
    """
    buffer = map_file(path)
    weights: list[Weight] = []
    try:
        model = ModelProto.FromString(b"".join(_without_weights(buffer, weights)))
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
            # Weights on a shelf and in a folder cannot both be beside the model.
            model, weights = ModelProto.FromString(buffer[:]), []
    except WireError as error:
        raise ParseError(f"is not an ONNX model: {error}", path) from error
    except Exception as error:  # protobuf's DecodeError, which only bnfold.caffe may import
        raise ParseError("is not an ONNX model", path) from error
    if not model.graph.node:
        raise ParseError("is not an ONNX model, or one without any node", path)
    return OnnxFile(model, tuple(weights), buffer)


def _without_weights(buffer: mmap.mmap, weights: list[Weight]) -> Iterator[bytes]:
    """The model's bytes without the weights that are put into `weights`."""
    for field in fields(buffer, 0, len(buffer)):
        if field[:2] == (_GRAPH, LENGTH):
            graph = fields(buffer, field.at, field.end)
            yield encode_field(_GRAPH, b"".join(_kept(buffer, inner, weights) for inner in graph))
        else:
            yield buffer[field.begin : field.end]


def _kept(buffer: mmap.mmap, field: Field, weights: list[Weight]) -> bytes:
    """A field of the graph; nothing for an initialiser that becomes a weight."""
    if field[:2] == (_INITIALIZER, LENGTH) and field.end - field.at >= EXTERNAL_FROM:
        weight = _weight(buffer, field)
        if weight is not None:
            weights.append(weight)
            return b""
    return buffer[field.begin : field.end]


def _weight(buffer: mmap.mmap, field: Field) -> Weight | None:
    """An initialiser as a view; None where it is stored in another way, or in a type that has no array."""
    parts = list(fields(buffer, field.at, field.end))
    raw = [part for part in parts if part[:2] == (_RAW_DATA, LENGTH)]
    if len(raw) != 1:
        return None
    tensor = TensorProto.FromString(b"".join(buffer[part.begin : part.end] for part in parts if part is not raw[0]))
    if tensor.data_type not in ONNX_TYPES.values() or tensor.data_location == TensorProto.EXTERNAL:
        return None
    dtype, shape = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)), tuple(tensor.dims)
    (place,) = raw
    if min(shape, default=0) < 0 or np.prod(shape, dtype=object) * dtype.itemsize != place.end - place.at:
        return None
    view = np.ndarray(shape, dtype.newbyteorder("<"), buffer, place.at)
    return Weight(tensor.name, view, shape, dtype)
