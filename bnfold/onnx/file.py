"""Reading an ONNX file without its weights, which stay in it and are mapped:

    ModelProto  graph = 7  GraphProto  node = 1         NodeProto
                                       initializer = 5  TensorProto  float_data = 4, raw_data = 9, double_data = 10

The walk reads headers only, so a model of 2 GiB costs no more than its nodes until a weight is asked for. It also notes
where each field lies, so that `bnfold.onnx.write` can write back what did not change as it was.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bnfold.errors import ParseError, WeightsError
from bnfold.io.formats import HEAD, is_text, other_format
from bnfold.io.mapping import map_file
from bnfold.io.wire import LENGTH, Buffer, Field, WireError, encode_field, fields
from bnfold.net import Array, DType, Shape
from bnfold.onnx.node import all_bodies, set_nodes
from bnfold.onnx.order import run_order
from bnfold.onnx.save import EXTERNAL_FROM
from bnfold.onnx.weight import ONNX_TYPES, Weight, little_endian

GRAPH = 7
"""The field of ModelProto that has the graph."""
NODE, NAME, INITIALIZER, INPUT, OUTPUT, VALUE_INFO, SPARSE_INITIALIZER = 1, 2, 5, 11, 12, 13, 15
"""Fields of GraphProto."""
_CAFFE_LAYER = 100  # of NetParameter; ModelProto has no such field
_ATTRIBUTE, _TENSOR = 5, 5
_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA = 4, 9, 10
_MAPPED = {_RAW_DATA: None, _FLOAT_DATA: TensorProto.FLOAT, _DOUBLE_DATA: TensorProto.DOUBLE}
"""Payloads that are the little-endian values themselves, and the type that says so; raw data are of any type."""
_VALUES = ["data_location", *(one.name for one in TensorProto.DESCRIPTOR.fields if one.name.endswith("_data"))]
"""The fields of TensorProto that hold its values, or say where they lie."""
MAX_DENSE = 1 << 24
"""Values that a sparse initialiser may have when it is written out."""
_LARGE_NODE = 1 << 16
ANEW = "write the model anew"
NO_NODES = "is not an ONNX model, or one without any node"


@lru_cache(maxsize=64)
def element_type(number: int) -> DType | None:
    """The numpy type of an ONNX element type; None for strings, complex numbers and those below a byte."""
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError):
        return None
    if number == TensorProto.BFLOAT16 and dtype.itemsize != 2:
        return None  # an onnx that has no such type
    return dtype if dtype.kind in "biufV" and number not in _BELOW_A_BYTE else None


_BELOW_A_BYTE = {
    getattr(TensorProto, name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(TensorProto, name)
}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A stored tensor.

    Attributes:
        header: its message, without the values where they are mapped.
        shape: its sizes.
        dtype: its type; None where numpy has none for it.
        view: the values, where they are mapped.
        external: whether they lie in a file of their own.
    """

    header: TensorProto
    shape: Shape
    dtype: DType | None
    view: Array | None = None
    external: bool = False

    @property
    def name(self) -> str:
        """What the graph calls it."""
        return self.header.name

    @property
    def weight(self) -> Weight | None:
        """As it is written again; None where its values are not mapped."""
        if self.view is None or self.dtype is None:
            return None
        return Weight(self.name, self.view, self.shape, self.dtype)

    def bare(self) -> TensorProto:
        """Its message without the values, and without where they lie."""
        message = deepcopy(self.header)
        for name in _VALUES:
            message.ClearField(name)
        return message

    def array(self) -> Array | None:
        """The values, read-only; None where they cannot be read as an array."""
        if self.view is not None or self.dtype is None:
            return self.view
        try:
            array = np.asarray(numpy_helper.to_array(self.header))
        except Exception:  # too few values for the shape, a type that this onnx does not know ...
            return None
        array.flags.writeable = False
        return array if array.shape == self.shape else None


class OtherFile(NamedTuple):
    """A file that holds tensors of a model: where it really lies, and its contents, mapped."""

    path: Path
    buffer: mmap.mmap


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """An ONNX file: its message without the stored tensors, and where each field of it lies.

    Attributes:
        path: the file.
        buffer: its bytes.
        model: the message; no initialisers, and no values of large Constant nodes.
        outer: the fields of the model.
        inner: the fields of the graph.
        tensors: the initialisers, in the order of the file.
        sparse: likewise those that are stored as sparse tensors, written out.
        constants: number of a Constant node -> its values, where they are large.
        files: the files beside the model that hold tensors, by what it calls them.
        is_sorted: whether the file has the nodes in an order in which they run, as they are here.
    """

    path: Path
    buffer: Buffer
    model: ModelProto
    outer: tuple[Field, ...]
    inner: tuple[Field, ...]
    tensors: tuple[Tensor, ...]
    sparse: tuple[Tensor, ...] = ()
    constants: dict[int, Tensor] = field(default_factory=dict)
    files: Mapping[str, OtherFile] = field(default_factory=dict)
    is_sorted: bool = True

    @property
    def keeps_outside(self) -> bool:
        """Whether tensors lie in files of their own."""
        return any(tensor.external for tensor in self.tensors)

    @property
    def paths(self) -> list[Path]:
        """Every file that the model lies in."""
        return [self.path, *(file.path for file in self.files.values())]

    def declared_inputs(self) -> list[ValueInfoProto]:
        """The inputs of the graph as the file has them; `model` has the sizes that whoever read it gave."""
        places = (part for part in self.inner if part[:2] == (INPUT, LENGTH))
        return [ValueInfoProto.FromString(bytes(self.buffer[part.at : part.end])) for part in places]


class OnnxFile(NamedTuple):
    """An ONNX file.

    Attributes:
        model: its message, without the weights that are large and lie in it.
        weights: these, as views.
        folder: where its other weights lie, under the names that it calls them by.
        mapped: the files that all of them lie in.
    """

    model: ModelProto
    weights: tuple[Weight, ...]
    folder: Path
    mapped: tuple[mmap.mmap, ...]


def read_onnx(path: Path) -> OnnxFile:
    """Map a model; weights that lie in files of their own stay there.

    Raises:
        BnfoldError: as `read_document`.
    """
    document = read_document(path)
    folder, buffers = path.resolve().parent, (document.buffer, *(file.buffer for file in document.files.values()))
    mapped = tuple(one for one in buffers if isinstance(one, mmap.mmap))
    if document.keeps_outside:
        # Weights on a store and in a folder cannot both be beside the model.
        model = ModelProto.FromString(bytes(document.buffer[:]))
        set_nodes(model.graph, [model.graph.node[number] for number in run_order(model.graph.node)])
        if not all(file.path.is_relative_to(folder) for file in document.files.values()):
            folder = path.parent.resolve()
        for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
            if entry.key == "location" and entry.value in document.files:
                location = os.path.relpath(document.files[entry.value].path, folder)
                try:
                    entry.value = location
                except UnicodeEncodeError:
                    raise WeightsError(f"{path}: weights lie in {location}, which is no UTF-8; rename it") from None
        return OnnxFile(model, (), folder, mapped)
    weights = []
    for tensor in document.tensors:
        if (weight := tensor.weight) is not None and weight.dtype.name in ONNX_TYPES:
            weights.append(weight)
        else:
            document.model.graph.initializer.append(whole(tensor))
    nodes = document.model.graph.node
    for number, constant in document.constants.items():
        fill_constant(nodes[number], constant)
    document.model.graph.sparse_initializer.extend(_sparse(document.buffer, document.inner))
    return OnnxFile(document.model, tuple(weights), folder, mapped)


def read_document(path: Path) -> Document:
    """Map a model, and the files that hold its tensors. Raises as `document_of`."""
    return document_of(map_file(path), path)


def document_of(data: Buffer, path: Path, *, outside: bool = True) -> Document:
    """The same for a model in memory; `path` is what messages call it, and beside what tensors lie, if `outside`.

    Raises:
        ParseError: a file cannot be read or is not an ONNX model.
        WeightsError: a tensor is said to lie where it does not, or may not.
    """
    try:
        return _document(path, data, outside)
    except WireError as error:
        damage = f"is not an ONNX model, or is damaged or cut short: {error}; copy or export it again"
        raise ParseError(_other_format(data) or damage, path) from error
    except (ParseError, WeightsError, MemoryError):
        raise
    except Exception as error:  # protobuf's DecodeError, which only bnfold.caffe may import
        raise ParseError("is not an ONNX model", path) from error


def _other_format(buffer: Buffer) -> str:
    """What a file is that calls itself an ONNX model and is none; empty when that cannot be told."""
    head = bytes(buffer[:HEAD])
    if other := other_format(head, "onnx"):
        return other
    if is_text(head):
        return "is text and not a model in ONNX: was a prototxt given in its place?"
    with suppress(WireError):
        if any(part[:2] == (_CAFFE_LAYER, LENGTH) for part in fields(buffer, 0, len(buffer))):
            return "is a caffemodel and not a model in ONNX: its name has to end in .caffemodel"
    return ""


def _document(path: Path, buffer: Buffer, outside: bool) -> Document:
    outer = tuple(fields(buffer, 0, len(buffer)))
    graphs = [part for part in outer if part[:2] == (GRAPH, LENGTH)]
    if len(graphs) > 1:
        # protobuf merges what comes twice; nobody writes such a file on purpose.
        return _document(path, ModelProto.FromString(bytes(buffer[:])).SerializeToString(), outside)
    if not graphs:
        raise ParseError(_other_format(buffer) or NO_NODES, path)
    (graph,) = graphs
    inner = tuple(fields(buffer, graph.at, graph.end))
    constants: dict[int, Tensor] = {}
    pieces, nodes = [], 0
    for part in inner:
        if part.wire == LENGTH and part.number in (INITIALIZER, SPARSE_INITIALIZER):
            continue
        piece = bytes(buffer[part.begin : part.end])
        if part[:2] == (NODE, LENGTH):
            if part.end - part.at >= _LARGE_NODE and (slim := _slim_constant(buffer, part)) is not None:
                piece, constants[nodes] = slim
            nodes += 1
        pieces.append(piece)
    around = b"".join(buffer[part.begin : part.end] for part in outer if part is not graph)
    model = ModelProto.FromString(around + encode_field(GRAPH, b"".join(pieces)))
    if not model.graph.node:
        raise ParseError(NO_NODES, path)
    for word in _words(model):
        if isinstance(word, bytes):  # what protobuf makes of a string that it cannot read
            raise ParseError(f"is damaged: a name in it is no UTF-8: {word!r}; copy or export it again", path)
    beside = _Beside(path, outside)
    stored = [part for part in inner if part[:2] == (INITIALIZER, LENGTH)]
    tensors = tuple(_tensor(buffer, part.at, part.end, beside) for part in stored)
    sparse = tuple(map(_dense, _sparse(buffer, inner)))
    return _sorted(Document(path, buffer, model, outer, inner, tensors, sparse, constants, beside.files))


def _sorted(document: Document) -> Document:
    """The file as if it had its nodes in the order in which they run."""
    nodes = document.model.graph.node
    order = run_order(nodes)
    if order == list(range(len(order))):
        return document
    set_nodes(document.model.graph, [nodes[number] for number in order])
    places = [place for place, part in enumerate(document.inner) if part[:2] == (NODE, LENGTH)]
    inner = list(document.inner)
    for place, number in zip(places, order, strict=True):
        inner[place] = document.inner[places[number]]
    constants = {place: document.constants[n] for place, n in enumerate(order) if n in document.constants}
    return replace(document, inner=tuple(inner), constants=constants, is_sorted=False)


def _words(model: ModelProto) -> Iterator[str]:
    """The names in a model, but for those of initialisers, which nothing could read by such a name."""
    yield from (opset.domain for opset in model.opset_import)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    outer = [model.graph.node, *(function.node for function in model.functions)]
    inner = [body for nodes in outer for body in all_bodies(nodes)]
    for nodes in (*outer, *(body.node for body in inner)):
        for node in nodes:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            for attribute in node.attribute:
                yield attribute.name
    for graph in (model.graph, *inner):
        yield graph.name
        for port in (*graph.input, *graph.output, *graph.value_info):
            yield port.name
            yield from (dim.dim_param for dim in port.type.tensor_type.shape.dim)


def _sparse(buffer: Buffer, inner: Iterable[Field]) -> Iterator[SparseTensorProto]:
    """The sparse initialisers among the fields of a graph."""
    for part in inner:
        if part[:2] == (SPARSE_INITIALIZER, LENGTH):
            yield SparseTensorProto.FromString(bytes(buffer[part.at : part.end]))


def _tensor(buffer: Buffer, at: int, end: int, beside: _Beside | None = None) -> Tensor:
    """A stored tensor; its message is without the values, if they are many and can be mapped."""
    if end - at >= EXTERNAL_FROM:
        parts = list(fields(buffer, at, end))
        large = [part for part in parts if part.number in _MAPPED and part.wire == LENGTH]
        if len(large) == 1 and (tensor := _mapped(buffer, parts, large[0])) is not None:
            return tensor
    header = TensorProto.FromString(bytes(buffer[at:end]))
    shape, dtype = tuple(header.dims), element_type(header.data_type)
    if beside is None or header.data_location != TensorProto.EXTERNAL:
        return Tensor(header, shape, dtype)
    return Tensor(header, shape, dtype, beside.view(header, shape, dtype), external=True)


def _mapped(buffer: Buffer, parts: Iterable[Field], values: Field) -> Tensor | None:
    """The tensor of these fields, one of them its values, as a view; None where they do not fit its shape and type."""
    header = TensorProto.FromString(b"".join(buffer[part.begin : part.end] for part in parts if part is not values))
    shape, dtype, wanted = tuple(header.dims), element_type(header.data_type), _MAPPED[values.number]
    if dtype is None or min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != values.end - values.at:
        return None
    if wanted not in (None, header.data_type) or header.data_location == TensorProto.EXTERNAL:
        return None
    return Tensor(header, shape, dtype, _view(buffer, values.at, shape, dtype))


def _view(buffer: Buffer, at: int, shape: Shape, dtype: DType) -> Array:
    view: Array = np.ndarray(shape, little_endian(dtype), buffer, at)
    view.flags.writeable = False
    return view


def _slim_constant(buffer: Buffer, part: Field) -> tuple[bytes, Tensor] | None:
    """A Constant node without the values of its tensor; None for every other node."""
    kept, found = [], None
    for inner in fields(buffer, part.at, part.end):
        if inner[:2] == (_ATTRIBUTE, LENGTH) and inner.end - inner.at >= _LARGE_NODE:
            attribute = list(fields(buffer, inner.at, inner.end))
            tensors = [one for one in attribute if one[:2] == (_TENSOR, LENGTH)]
            if len(tensors) != 1 or found is not None:
                return None
            found = _tensor(buffer, tensors[0].at, tensors[0].end)
            if found.view is None:
                return None
            rest = b"".join(buffer[one.begin : one.end] for one in attribute if one is not tensors[0])
            kept.append(encode_field(_ATTRIBUTE, rest + encode_field(_TENSOR, found.header.SerializeToString())))
        else:
            kept.append(bytes(buffer[inner.begin : inner.end]))
    slim = b"".join(kept)
    if found is None or NodeProto.FromString(slim).op_type != "Constant":
        return None
    return encode_field(NODE, slim), found


def whole(tensor: Tensor) -> TensorProto:
    """The message of a tensor with its values in it."""
    if tensor.view is None:
        return tensor.header
    message = tensor.bare()
    message.raw_data = tensor.view.tobytes()
    return message


def values_of(tensor: TensorProto, folder: Path | None) -> Array:
    """The values of a tensor that may lie in a file of the model's folder. Raises WeightsError where they do not."""
    view = None
    if tensor.data_type == TensorProto.STRING:  # as it is, of which onnx would make Python's own
        return np.array([*tensor.string_data], object).reshape(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        beside = _Beside((folder or Path()) / "model.onnx", True)
        view = beside.view(tensor, tuple(tensor.dims), element_type(tensor.data_type))
    return numpy_helper.to_array(tensor, str(folder or "")) if view is None else view


def fill_constant(node: NodeProto, constant: Tensor) -> None:
    """Put the values back into a slim Constant."""
    for attribute in node.attribute:
        if attribute.HasField("t"):
            attribute.t.CopyFrom(whole(constant))


def _dense(sparse: SparseTensorProto) -> Tensor:
    """A sparse tensor written out; without values where that is too much, or makes no sense."""
    header = TensorProto(name=sparse.values.name, dims=sparse.dims, data_type=sparse.values.data_type)
    shape, dtype = tuple(sparse.dims), element_type(sparse.values.data_type)
    if dtype is None or min(shape, default=0) < 0 or prod(shape) > MAX_DENSE:
        return Tensor(header, shape, None)
    try:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        dense = np.zeros(shape, dtype)
        if indices.min(initial=0) < 0:
            return Tensor(header, shape, None)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
    except Exception:  # indices outside, too few values ...
        return Tensor(header, shape, None)
    dense.flags.writeable = False
    return Tensor(header, shape, dtype, dense)


class _Beside:
    """The files beside a model that hold its tensors, each mapped once.

    Args:
        path: the model.
        outside: whether to map them at all.

    Attributes:
        files: the mapped files, by what the model calls them.
    """

    def __init__(self, path: Path, outside: bool) -> None:
        self._path, self._outside = path, outside
        self.files: dict[str, OtherFile] = {}

    def view(self, header: TensorProto, shape: Shape, dtype: DType | None) -> Array | None:
        """The values of a tensor that lies outside; None where numpy has no type for it."""
        if not self._outside:
            return None
        place = {entry.key: entry.value for entry in header.external_data}
        buffer = self._open(header.name, place.get("location", ""))
        try:
            offset, size = int(place.get("offset") or 0), int(place.get("length") or len(buffer))
        except ValueError:
            raise self._fault(header.name, f"has an offset or a length that is no number; {ANEW}") from None
        if dtype is None:
            return None
        need = prod(shape) * dtype.itemsize if min(shape, default=0) >= 0 else -1
        length = size if place.get("length") else need
        if need < 0 or need != length:
            raise self._fault(
                header.name, f"has {length} bytes outside, and its shape and type need {max(need, 0)}; {ANEW}"
            )
        lies = f"lies at byte {offset} of '{place.get('location', '')}', which"
        if offset < 0:
            raise self._fault(header.name, f"{lies} no file has; {ANEW}")
        if offset + need > len(buffer):
            short = f"has {len(buffer):,} bytes and not {offset + need:,}; copy it again"
            other = other_format(bytes(buffer[:HEAD]), "the weights of a model")
            raise self._fault(header.name, f"{lies} {other or short}")
        return _view(buffer, offset, shape, dtype) if need else np.zeros(shape, dtype)

    def _open(self, name: str, location: str) -> mmap.mmap:
        if location not in self.files:
            file = self._found(name, location)
            try:
                self.files[location] = OtherFile(file, map_file(file))
            except ParseError as error:
                raise self._fault(name, f"lies in a file of its own: {error}; copy that beside the model") from None
        return self.files[location].buffer

    def _found(self, name: str, location: str) -> Path:
        """Where a file really lies. A store of downloads keeps models as links to files that have other names."""
        real = self._path.parent.resolve(), self._path.resolve().parent
        try:
            beside = [folder / location for folder in (self._path.parent, real[1])]
            file = next(filter(Path.exists, beside), beside[1]).resolve()
            if location and file not in real and any(map(file.is_relative_to, real)):
                return file
        except (OSError, ValueError, RuntimeError):  # a NUL in the name, a circle of links ...
            pass
        raise self._fault(
            name, f"is said to be in '{location}', which is not a file in the folder of the model; put it there"
        )

    def _fault(self, name: str, says: str) -> WeightsError:
        return WeightsError(f"{self._path}: tensor '{name}' {says}")
