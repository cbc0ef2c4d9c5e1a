"""ONNX models as comparing needs them: more outputs, other inputs, a file of weights that several share."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import deepcopy
from io import BytesIO
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import onnx

from bnfold.errors import WriteError
from bnfold.io.mapping import release_pages
from bnfold.net import Array, DType
from bnfold.onnx.file import values_of
from bnfold.onnx.node import attribute_value, bodies, captured, captured_by, held_by, model_of
from bnfold.onnx.save import DataFile, WholeModel, fill, same_bytes, write_external
from bnfold.onnx.shapes import Types, held, infer, inferred_ports
from bnfold.onnx.weight import Weight, little_endian

IN_MEMORY = 1 << 22
"""Bytes of weights up to which a model is run from memory; more go through a file, which a session maps.

Run from memory they are there four times over, and no budget counts them; `tests/compare/test_memory.py` fails then. A
file also takes less time, but for the smallest.
"""
PIECE = 1 << 16  # values that are looked at at once
SHAPES = 1 << 10
"""Bytes of the largest weight whose values may decide about shapes."""
WEIGHTED = {"Conv": "weight", "ConvTranspose": "transposed", "Gemm": "gemm", "MatMul": "columns"}


def exposed(model: onnx.ModelProto, tensors: Iterable[str]) -> bytes:
    """The serialised model, with `tensors` as outputs besides its own.

    Concatenated protobuf messages merge, so the weights are not copied in order to add names to a list.
    """
    return bytes(model.SerializeToString() + _outputs(model, tensors).SerializeToString())


def sent_model(
    proto: bytes, weights: Iterable[tuple[str, tuple[int, ...], str, bytes]]
) -> tuple[onnx.ModelProto, tuple[Weight, ...]]:
    """A model that came as bytes, with weights that came as (name, shape, type, little-endian bytes)."""
    stored = [
        Weight(name, np.frombuffer(data, little_endian(np.dtype(dtype))).reshape(shape), shape, np.dtype(dtype))
        for name, shape, dtype, data in weights
    ]
    return onnx.ModelProto.FromString(proto), tuple(stored)


def with_input_sizes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int | None]]) -> onnx.ModelProto:
    """The model with other sizes of its inputs' first axes, and without the shapes that it states elsewhere.

    Args:
        model: its own message is not changed.
        shapes: input -> sizes, None for one that stays.
    """
    cut = _unsaid(deepcopy(model))
    for port in cut.graph.input:
        for dim, size in zip(port.type.tensor_type.shape.dim, shapes.get(port.name, ()), strict=False):
            if size is not None:
                dim.dim_value = held(size)
    return cut


def _unsaid(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the shapes that a model states of anything but its inputs; returns the model."""
    del model.graph.value_info[:]
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    return model


def with_inputs_for(model: onnx.ModelProto, weights: Iterable[Weight]) -> onnx.ModelProto:
    """The model with an input for each large weight that it lacks, and the values of the small ones."""
    whole = deepcopy(model)
    have = {port.name for port in model.graph.input}
    for weight in weights:
        if weight.nbytes <= SHAPES:
            fill(whole, [weight])
        elif weight.name not in have:
            whole.graph.input.append(weight.port())
    return whole


def sizes_of(types: Types) -> dict[str, int]:
    """Bytes of the tensors whose shapes are known."""
    found = {}
    for name, shape in types.shapes.items():
        if types.elements.get(name) and min(shape, default=0) >= 0:
            item = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(types.elements[name])).itemsize
            found[name] = prod(shape) * item
    return found


def inferred(
    model: onnx.ModelProto, weights: Iterable[Weight], inputs: Mapping[str, Sequence[int | None]]
) -> tuple[Types, dict[str, Array | None]]:
    """What follows from the shapes of a model's inputs, whatever it says itself: shapes and types, and small values."""
    whole = _unsaid(with_inputs_for(model, weights))
    for port in whole.graph.input:
        if port.name in inputs:
            port.CopyFrom(
                onnx.helper.make_tensor_value_info(port.name, port.type.tensor_type.elem_type, inputs[port.name])
            )
    inside = [one for one in whole.graph.initializer if one.data_location != onnx.TensorProto.EXTERNAL]
    constants: dict[str, Array | None] = {one.name: values_of(one, None) for one in inside}
    return infer(whole, (), constants), constants


def working_bytes(model: onnx.ModelProto, sizes: Mapping[str, int], inner: Mapping[int, int] = {}) -> int:
    """The most that a run holds at once if each tensor goes with its last reader, and outputs stay.

    Args:
        model: the network.
        sizes: tensor -> bytes.
        inner: place of a node -> bytes that its bodies hold meanwhile, see `inner_bytes`.
    """
    nodes = model.graph.node
    outputs = {output.name for output in model.graph.output}
    now = most = 0
    for place, (node, read_last) in enumerate(zip(nodes, last_readers(model.graph), strict=True)):
        now += sum(sizes.get(name, 0) for name in node.output)
        most = max(most, now + inner.get(place, 0))
        now -= sum(sizes.get(name, 0) for name in read_last - outputs)
    return most


def inner_bytes(model: onnx.ModelProto, types: Types, values: Mapping[str, Array | None]) -> dict[int, int]:
    """Place of a node -> the most that one of its bodies holds at once, as far as sizes follow from those around it.

    What is known of these is as `inferred` gives it.
    """
    found: dict[int, int] = {}
    for place, node in enumerate(model.graph.node):
        for body in bodies(node):
            inside = _as_model(model, node, body, types)
            for name in captured_by(body):
                value = values.get(name)
                if value is not None and value.size <= SHAPES:
                    inside.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
            known = inferred(inside, (), {})
            held = working_bytes(inside, sizes_of(known[0]), inner_bytes(inside, *known))
            found[place] = max(found.get(place, 0), held)
    return found


def _as_model(model: onnx.ModelProto, node: onnx.NodeProto, body: onnx.GraphProto, types: Types) -> onnx.ModelProto:
    """A body without its large weights, with an input for each of these and for what it captures."""
    graph = onnx.GraphProto(node=body.node, output=body.output)
    first = 0 if node.op_type == "Scan" else 2  # what Scan reads of its rows has one axis less, which no shape tells
    carried = dict(zip((port.name for port in body.input[first:]), node.input[first:], strict=False))
    for port in body.input:
        outer = carried.get(port.name, "") if node.op_type == "Loop" and not _is_sized(port) else ""
        graph.input.append(_port(port.name, types.elements.get(outer, 0), types.shapes.get(outer)) if outer else port)
    for tensor in body.initializer:
        if prod(tensor.dims) <= SHAPES and tensor.data_location != onnx.TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(_port(tensor.name, tensor.data_type, tuple(tensor.dims)))
    graph.input.extend(_port(name, types.elements.get(name, 0), types.shapes.get(name)) for name in captured_by(body))
    return model_of(graph, model)


def _is_sized(port: onnx.ValueInfoProto) -> bool:
    shape = port.type.tensor_type.shape
    return port.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in shape.dim)


def _port(name: str, element: int, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    """An input of a type and a shape, negative sizes of which are not known."""
    sizes = None if shape is None else [size if size >= 0 else None for size in shape]
    return onnx.helper.make_tensor_value_info(name, element, sizes)


def last_readers(graph: onnx.GraphProto) -> list[set[str]]:
    """For each node what nobody reads after it, of what nodes make."""
    last: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        last |= dict.fromkeys((*node.output, *node.input, *captured(node)), place)
    made = {name for node in graph.node for name in node.output}
    ending: list[set[str]] = [set() for _ in graph.node]
    for name in made - {""}:
        ending[last[name]].add(name)
    return ending


def mapped_bytes(model: onnx.ModelProto, weights: Sequence[Weight]) -> int:
    """Bytes of the weights that a session maps from a file; those of small networks are in memory before it runs."""
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    stored = sum(weight.nbytes for weight in weights)
    return (stored if stored > IN_MEMORY else 0) + sum(
        prod(tensor.dims) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        for tensor in outside
    )


def cast_bytes(model: onnx.ModelProto, weights: Iterable[Weight]) -> int:
    """Bytes that weights of float16 take besides where they are computed in float32: a session casts and keeps them."""
    stored = [(one.shape, one.element) for one in weights] + [
        (one.dims, one.data_type) for one in model.graph.initializer
    ]
    return sum(4 * prod(shape) for shape, element in stored if element == onnx.TensorProto.FLOAT16)


def lists_in(model: onnx.ModelProto, weights: Iterable[Weight]) -> set[str]:
    """What nodes make that holds no numbers, and is no output: lists, as a SplitToSequence makes them, and text."""
    text = any(tensor.data_type == onnx.TensorProto.STRING for tensor in model.graph.initializer)
    if not text and not any(map(_makes_no_numbers, model.graph.node)):
        return set()
    found = {
        port.name
        for port in inferred_ports(with_inputs_for(model, weights))
        if not port.type.HasField("tensor_type") or port.type.tensor_type.elem_type == onnx.TensorProto.STRING
    }
    return found - {port.name for port in model.graph.output}


NO_NUMBERS = ("CategoryMapper", "LabelEncoder", "Optional", "Sequence", "String")


def _makes_no_numbers(node: onnx.NodeProto) -> bool:
    text = onnx.TensorProto.STRING
    return any(word in node.op_type for word in NO_NUMBERS) or any(
        one.name.startswith("value_string") or one.t.data_type == text or (one.name == "to" and one.i == text)
        for one in node.attribute
    )


OWN = "@own"
"""Suffix of the value that the network computes for a tensor that became an input."""


def with_inputs(model: onnx.ModelProto, tensors: Mapping[str, tuple[DType, int]]) -> onnx.ModelProto:
    """The model with some of its tensors given from outside.

    Args:
        model: its own message is not changed.
        tensors: name -> type and number of axes; the model computes `name@own`, which nobody reads.
    """
    cut = deepcopy(model)
    for node in cut.graph.node:
        for place, name in enumerate(node.output):
            if name in tensors:
                node.output[place] = name + OWN
        for body in bodies(node):
            _call_otherwise(body, tensors.keys(), {})
    for name, (dtype, axes) in tensors.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        cut.graph.input.append(onnx.helper.make_tensor_value_info(name, element, [None] * axes))
    return cut


def _call_otherwise(body: onnx.GraphProto, names: Collection[str], around: Mapping[str, str]) -> None:
    """Rename what a body makes under the names of inputs, which no node may make.

    Args:
        body: changed in place.
        names: the inputs.
        around: old name -> new one, of what the graphs around it make.
    """
    made = {held.name for held in held_by(body)} | {name for node in body.node for name in node.output}
    called = {**around, **{name: f"{name}{OWN}@body" for name in made.intersection(names)}}
    for node in body.node:
        for listed in (node.input, node.output):
            listed[:] = [called.get(name, name) for name in listed]
        for inner in bodies(node):
            _call_otherwise(inner, names, called)
    for one in (*held_by(body), *body.output, *body.value_info):
        one.name = called.get(one.name, one.name)


SHAPE = "@shape"
"""Suffix of the output that holds the shape of a tensor."""


def telling_shapes(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """The model with nothing but the shapes of some tensors as outputs, called `name@shape`.

    Nodes that nobody reads run by their place, the last one first: so each tensor goes as soon as it would without.

    Args:
        model: its own message is not changed.
        tensors: in the order in which they are made.
    """
    cut = deepcopy(model)
    names = [name + SHAPE for name in tensors]
    cut.graph.node.extend(
        onnx.helper.make_node("Shape", [name.removesuffix(SHAPE)], [name]) for name in reversed(names)
    )
    del cut.graph.output[:]
    cut.graph.output.extend(further_outputs(cut, names))
    return cut


class Process(Protocol):
    """A process that runs networks."""

    def close(self) -> None:
        """End it."""


class WeightStore:
    """Where networks that are run side by side have their weights, in one file that a runtime can map: equal ones once.

    Memory then holds neither messages nor copies of weights, and 2 GiB are no limit. Small networks need none of that.

    It has the processes, too, that ran networks which are closed (`compare.isolated`), for the next ones to run in: to
    start one takes longer than small networks run. They end with the store.

    Args:
        around: a store that lasts longer, which has the processes then.
    """

    def __init__(self, around: WeightStore | None = None) -> None:
        self._kept, self._around = ExitStack(), around
        self._idle: list[Process] | None = []
        self._stored: _Stored | None = None
        self._placed: dict[tuple[int, int], tuple[onnx.ModelProto, Sequence[Weight], bytes]] = {}
        self._sources: dict[mmap.mmap, None] = {}

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_idle()
        self._idle = None
        with suppress(OSError):  # what a full disk did not take was said when it was put
            self._kept.close()

    def idle_process(self) -> Process | None:
        """A process that waits for another network, which it does no longer; None where none does."""
        if self._around is not None:
            return self._around.idle_process()
        return self._idle.pop() if self._idle else None

    def add_idle(self, process: Process) -> None:
        """Have a process wait for another network until this is used no longer."""
        if self._around is not None:
            self._around.add_idle(process)
        elif self._idle is None:
            process.close()
        else:
            self._idle.append(process)

    def end_idle(self) -> None:
        """End the processes that wait, and give back their memory."""
        while self._idle:
            self._idle.pop().close()

    def put(
        self,
        model: onnx.ModelProto,
        tensors: Iterable[str],
        weights: Sequence[Weight],
        sources: Iterable[mmap.mmap] = (),
    ) -> tuple[bytes, Path | None]:
        """A model as a runtime takes it.

        Args:
            model: without its weights.
            tensors: that are outputs besides its own.
            weights: its weights.
            sources: the files that these lie in. Their pages are given back as they are read.

        Returns:
            Its bytes, and the folder of its weights, which lasts as long as the store; None where they are in it.

        Raises:
            WriteError: there is no room for it where temporary files lie.
        """
        self._sources |= dict.fromkeys(sources)
        if sum(weight.nbytes for weight in weights) <= IN_MEMORY:
            stream = BytesIO()
            WholeModel(model, self._given_back(weights)).write(stream)
            return stream.getvalue() + _outputs(model, tensors).SerializeToString(), None
        try:
            stored = self._stored = self._stored or self._opened()
            known = id(model), id(weights)
            if known not in self._placed:
                stream = BytesIO()
                write_external(stream, stored.data, model, self._given_back(weights))
                stored.file.flush()
                self._placed[known] = model, weights, stream.getvalue()  # both, or others might get their numbers
        except OSError as error:
            raise WriteError(
                f"{gettempdir()}: the weights of large networks lie there while they are compared, and cannot be "
                f"written: {error.strerror or error}; name a folder with more room in TMPDIR, or give --no-verify"
            ) from None
        return self._placed[known][-1] + _outputs(model, tensors).SerializeToString(), stored.folder

    def _given_back(self, weights: Iterable[Weight]) -> Iterator[Weight]:
        """The weights one by one; each may have been compared with those of other networks."""
        for weight in weights:
            yield weight
            for source in self._sources:
                release_pages(source)

    def _opened(self) -> _Stored:
        # What is mapped cannot be deleted everywhere; what is left then is the system's to clean.
        folder = Path(self._kept.enter_context(TemporaryDirectory(prefix="bnfold-", ignore_cleanup_errors=True)))
        file = self._kept.enter_context((folder / "weights").open("wb"))
        return _Stored(folder, file, DataFile(file, "weights"))


class _Stored(NamedTuple):
    """The folder of a store, and the file in it that has all weights."""

    folder: Path
    file: BinaryIO
    data: DataFile


def further_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> Iterator[onnx.ValueInfoProto]:
    """What a model lists as outputs to have `tensors` among them; a runtime infers their types."""
    have = {output.name for output in model.graph.output}
    return (onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in have)


def _outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A message with nothing but the further outputs."""
    extra = onnx.ModelProto()
    extra.graph.output.extend(further_outputs(model, tensors))
    return extra


Parts = tuple[onnx.ModelProto, Sequence[Weight], Path | None]
"""A model, the weights that it is without, and where its external ones lie."""


def equal_models(ours: Parts, theirs: Parts) -> bool:
    """Whether two models hold the same nodes and the same values, wherever these lie."""
    contents = []
    for model, _, _ in (ours, theirs):
        graph = deepcopy(model.graph)
        del graph.initializer[:]
        versions = sorted((version.domain, version.version) for version in model.opset_import)
        contents.append((graph, versions, list(model.functions)))
    if contents[0] != contents[1]:
        return False
    stored, others = (stored_under(model, weights) for model, weights, _ in (ours, theirs))
    return stored.keys() == others.keys() and all(
        same_weight(as_weight(one, ours[2]), as_weight(others[name], theirs[2])) for name, one in stored.items()
    )


def stored_weights(parts: Parts, names: Collection[str] | None = None) -> dict[str, Weight]:
    """Name -> what is stored, wherever it lies; of some names or of all."""
    model, weights, folder = parts
    stored = stored_under(model, weights)
    return {name: as_weight(one, folder) for name, one in stored.items() if names is None or name in names}


def same_weight(one: Weight, other: Weight) -> bool:
    """Whether two are equal in type, shape and every value."""
    return one.dtype.name == other.dtype.name and one.shape == other.shape and same_bytes(one, other)


def stored_under(model: onnx.ModelProto, weights: Sequence[Weight]) -> dict[str, onnx.TensorProto | Weight]:
    """Name -> a stored value, wherever it lies."""
    inside = {tensor.name: tensor for tensor in model.graph.initializer}
    return inside | {weight.name: weight for weight in weights}


def as_weight(stored: onnx.TensorProto | Weight, folder: Path | None) -> Weight:
    """What is stored, as a weight; external values lie in the folder."""
    if isinstance(stored, Weight):
        return stored
    return Weight.of(stored.name, values_of(stored, folder))


def channel_ranges(parts: Parts) -> Iterator[tuple[str, Array]]:
    """Each weighted node's name, and for each of its output channels the largest magnitude of the weights."""
    model, weights, folder = parts
    stored = stored_under(model, weights)
    for node in model.graph.node:
        layout = WEIGHTED.get(node.op_type)
        if layout is None or len(node.input) < 2 or node.input[1] not in stored:
            continue
        weight = as_weight(stored[node.input[1]], folder)
        if weight.nbytes:
            yield node.name or node.output[0], _ranges(weight, layout, node)


def _ranges(weight: Weight, layout: str, node: onnx.NodeProto) -> Array:
    """max |weight| per output channel, wherever the operator keeps that axis; no more of it is in memory than a piece.

    The weight is seen as (groups, rows, channels, values): a run of values is of one channel.
    """
    group, channels, length = 1, weight.shape[0], prod(weight.shape[1:])
    if layout == "transposed":  # (Cin, Cout/group, ...), Cin being group runs of Cin/group
        group, channels, length = attribute_value(node, "group", 1), weight.shape[1], prod(weight.shape[2:])
    elif layout == "columns" or (layout == "gemm" and not attribute_value(node, "transB", 0)):
        channels, length = weight.shape[-1], 1
    found, at = np.zeros((group, channels), weight.dtype), 0
    rows = prod(weight.shape) // (group * channels * length)
    for piece in weight.pieces():
        values = np.frombuffer(piece, little_endian(weight.dtype))
        for start in range(0, values.size, PIECE):
            some = np.abs(values[start : start + PIECE])
            begins = np.arange(at - at % length, at + some.size, length) - at
            runs = some if length == 1 else np.maximum.reduceat(some, np.maximum(begins, 0))
            _raise(found, runs, at // length, rows)
            at += some.size
    return found.reshape(-1)


def _raise(found: Array, runs: Array, first: int, rows: int) -> None:
    """Raise maxima, (groups, channels), to those of some runs, `first` being the number of the first of these."""
    channels, done = found.shape[1], 0
    while done < runs.size:
        row, channel = divmod(first + done, channels)
        whole = 0 if channel else min((runs.size - done) // channels, rows - row % rows)
        part = runs[done : done + (whole * channels or channels - channel)]
        own = found[row // rows, channel : channel + part.size]
        np.maximum(own, part.reshape(max(whole, 1), -1).max(axis=0), out=own)
        done += part.size
