"""ONNX models as a comparison runs them: with other inputs and outputs, and a file of weights that several share."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from bnfold.onnx.node import bodies, held_by
from bnfold.onnx.save import DataFile, WholeModel, fill, write_external
from bnfold.onnx.shapes import Types, held, infer, inferred_ports
from bnfold.onnx.weight import Weight, little_endian

SHAPES = 1 << 10
"""Bytes of the largest weight whose values may decide about shapes."""


def exposed(model: onnx.ModelProto, tensors: Iterable[str]) -> bytes:
    """The serialised model, with `tensors` as outputs besides its own.

    Concatenated protobuf messages merge, so the weights are not copied in order to add names to a list.
    """
    return bytes(model.SerializeToString() + _outputs(model, tensors).SerializeToString())


def further_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> Iterator[onnx.ValueInfoProto]:
    """What a model lists as outputs to have `tensors` among them; a runtime infers their types."""
    have = {output.name for output in model.graph.output}
    return (onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in have)


def _outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A message with nothing but the further outputs."""
    extra = onnx.ModelProto()
    extra.graph.output.extend(further_outputs(model, tensors))
    return extra


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


LARGEST = "@largest"
"""Suffix of the output that holds the largest magnitude of a tensor."""


def telling_shapes(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """The model with nothing but the shapes of some tensors as outputs, called `name@shape`.

    Args:
        model: its own message is not changed.
        tensors: in the order in which they are made.
    """
    return _telling(model, tensors, SHAPE, lambda name, told: [onnx.helper.make_node("Shape", [name], [told])])


def telling_largest(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """The model with nothing but `max |x|` of some tensors x as outputs, float32 numbers called `name@largest`.

    Args:
        model: its own message is not changed.
        tensors: of floats, in the order in which they are made.
    """

    def nodes(name: str, told: str) -> list[onnx.NodeProto]:
        cast, magnitudes = f"{told}@cast", f"{told}@magnitudes"
        return [
            onnx.helper.make_node("Cast", [name], [cast], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Abs", [cast], [magnitudes]),
            onnx.helper.make_node("ReduceMax", [magnitudes], [told], keepdims=0),
        ]

    return _telling(model, tensors, LARGEST, nodes)


def _telling(
    model: onnx.ModelProto, tensors: Iterable[str], suffix: str, nodes: Callable[[str, str], list[onnx.NodeProto]]
) -> onnx.ModelProto:
    """The model with nothing as outputs but what some nodes tell of each of some tensors.

    Nodes that nobody reads run by their place, the last one first: so each tensor goes as soon as it would without.
    """
    cut, names = deepcopy(model), list(tensors)
    for name in reversed(names):
        cut.graph.node.extend(nodes(name, name + suffix))
    del cut.graph.output[:]
    cut.graph.output.extend(further_outputs(cut, [name + suffix for name in names]))
    return cut


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


NO_NUMBERS = ("CategoryMapper", "LabelEncoder", "Optional", "Sequence", "String")


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


def _makes_no_numbers(node: onnx.NodeProto) -> bool:
    text = onnx.TensorProto.STRING
    return any(word in node.op_type for word in NO_NUMBERS) or any(
        one.name.startswith("value_string") or one.t.data_type == text or (one.name == "to" and one.i == text)
        for one in node.attribute
    )


IN_MEMORY = 1 << 22
"""Bytes of weights up to which a model is run from memory; more go through a file, which a session maps.

Run from memory they are there four times over, and no budget counts them; `tests/compare/test_memory.py` fails then. A
file also takes less time, but for the smallest.
"""


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


def mapped_bytes(model: onnx.ModelProto, weights: Sequence[Weight]) -> int:
    """Bytes of the weights that a session maps from a file; those of small networks are in memory before it runs."""
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    stored = sum(weight.nbytes for weight in weights)
    return (stored if stored > IN_MEMORY else 0) + sum(
        prod(tensor.dims) * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        for tensor in outside
    )


def sent_model(
    proto: bytes, weights: Iterable[tuple[str, tuple[int, ...], str, bytes]]
) -> tuple[onnx.ModelProto, tuple[Weight, ...]]:
    """A model that came as bytes, with weights that came as (name, shape, type, little-endian bytes)."""
    stored = [
        Weight(name, np.frombuffer(data, little_endian(np.dtype(dtype))).reshape(shape), shape, np.dtype(dtype))
        for name, shape, dtype, data in weights
    ]
    return onnx.ModelProto.FromString(proto), tuple(stored)
