"""Reading an ONNX model as far as comparing needs: who writes and reads which tensor, and what the weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.errors import UnsupportedError, WriteError
from bnfold.net import Array, Net
from bnfold.onnx.api import to_onnx
from bnfold.onnx.double import in_double, inputs_of
from bnfold.onnx.save import DataFile, same_bytes, write_external, write_model
from bnfold.onnx.shapes import held
from bnfold.onnx.weight import Weight, little_endian

IN_MEMORY = 1 << 26
"""Bytes of weights up to which a model is run from memory; more go through a file."""
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
        Weight(name, np.frombuffer(data, little_endian(np.dtype(kind))).reshape(shape), shape, np.dtype(kind))
        for name, shape, kind, data in weights
    ]
    return onnx.ModelProto.FromString(proto), tuple(stored)


def with_first_axis(model: onnx.ModelProto, inputs: Sequence[str], size: int) -> onnx.ModelProto:
    """The model with another first axis of its inputs; what it says of its other shapes is left out."""
    cut = deepcopy(model)
    del cut.graph.value_info[:]
    for port in cut.graph.input:
        if port.name in inputs and port.type.tensor_type.shape.dim:
            port.type.tensor_type.shape.dim[0].dim_value = held(size)
    for port in cut.graph.output:
        port.type.tensor_type.ClearField("shape")
    return cut


def with_inputs_for(model: onnx.ModelProto, weights: Iterable[Weight]) -> onnx.ModelProto:
    """The model with inputs in the place of weights that it is without."""
    whole = deepcopy(model)
    have = {port.name for port in model.graph.input}
    whole.graph.input.extend(weight.port() for weight in weights if weight.name not in have)
    return whole


def lists_in(model: onnx.ModelProto) -> set[str]:
    """What nodes make that is no tensor and no output, as a SplitToSequence does: nothing can be compared by it."""
    if not any("Sequence" in node.op_type or "Optional" in node.op_type for node in model.graph.node):
        return set()
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # whatever onnx makes of what makes no sense; the runtime will say it
        return set()
    return {port.name for port in inferred.value_info if not port.type.HasField("tensor_type")}


OWN = "@own"
"""What a tensor that became an input adds to its name, so that what the network computes for it can be read, too."""


def with_inputs(model: onnx.ModelProto, tensors: Mapping[str, tuple[np.dtype[Any], int]]) -> onnx.ModelProto:
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
    for name, (dtype, axes) in tensors.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        cut.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * axes))
    return cut


class WeightStore:
    """Where networks that are run side by side have their weights, in one file that a runtime can map: equal ones once.

    Memory then holds neither messages nor copies of weights, and 2 GiB are no limit. Small networks need none of that.
    """

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._stored: _Stored | None = None
        self._models = 0

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take was said when it was put
            self._kept.close()

    def put(self, model: onnx.ModelProto, tensors: Iterable[str], weights: Sequence[Weight]) -> Path | bytes:
        """An exported network as a runtime takes it, with `tensors` as outputs besides its own.

        Returns:
            Its bytes if it is small, else its file, which lasts as long as the store.

        Raises:
            WriteError: there is no room for it where temporary files lie.
        """
        complete = deepcopy(model)
        complete.MergeFrom(_outputs(model, tensors))
        if sum(weight.nbytes for weight in weights) <= IN_MEMORY:
            stream = BytesIO()
            write_model(stream, complete, weights)
            return stream.getvalue()
        try:
            return self._write(complete, weights)
        except OSError as error:
            raise WriteError(
                f"{gettempdir()}: the weights of large networks lie there while they are compared, and cannot be "
                f"written: {error.strerror or error}; name a folder with more room in TMPDIR, or give --no-verify"
            ) from None

    def _write(self, model: onnx.ModelProto, weights: Sequence[Weight]) -> Path:
        stored = self._stored = self._stored or self._opened()
        self._models += 1
        path = stored.folder / f"model{self._models}.onnx"
        with path.open("wb") as file:
            write_external(file, stored.data, model, weights)
        stored.file.flush()
        return path

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


def _outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A message with nothing but the further outputs; the runtime infers their types."""
    extra = onnx.ModelProto()
    have = {output.name for output in model.graph.output}
    wanted = [name for name in dict.fromkeys(tensors) if name not in have]
    extra.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return extra


Parts = tuple[onnx.ModelProto, Sequence[Weight], Path | None]
"""A model, the weights that it is without, and where its external ones lie."""


def equal_models(ours: Parts, theirs: Parts) -> bool:
    """Whether two models hold the same nodes and the same values, wherever these lie."""
    said = []
    for model, _, _ in (ours, theirs):
        graph = deepcopy(model.graph)
        del graph.initializer[:]
        versions = sorted((version.domain, version.version) for version in model.opset_import)
        said.append((graph, versions, list(model.functions)))
    if said[0] != said[1]:
        return False
    stored, others = (_stored(model, weights) for model, weights, _ in (ours, theirs))
    return stored.keys() == others.keys() and all(
        _same(_read(one, ours[2]), _read(others[name], theirs[2])) for name, one in stored.items()
    )


def _same(one: Weight, other: Weight) -> bool:
    return one.dtype.name == other.dtype.name and one.shape == other.shape and same_bytes(one, other)


def _stored(model: onnx.ModelProto, weights: Sequence[Weight]) -> dict[str, onnx.TensorProto | Weight]:
    """Name -> a stored value, wherever it lies."""
    inside = {tensor.name: tensor for tensor in model.graph.initializer}
    return inside | {weight.name: weight for weight in weights}


def _read(stored: onnx.TensorProto | Weight, folder: Path | None) -> Weight:
    if isinstance(stored, Weight):
        return stored
    return Weight.of(stored.name, numpy_helper.to_array(stored, str(folder or "")))


def channel_ranges(
    model: onnx.ModelProto, weights: Sequence[Weight] = (), folder: Path | None = None
) -> Iterator[tuple[str, Array]]:
    """Each weighted node's name, and for each of its output channels the largest magnitude of the weights."""
    stored = _stored(model, weights)
    for node in model.graph.node:
        kind = WEIGHTED.get(node.op_type)
        if kind is None or len(node.input) < 2 or node.input[1] not in stored:
            continue
        weight = _read(stored[node.input[1]], folder).array()
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if weight.size:
            yield node.name or node.output[0], _ranges(weight, kind, attributes)


def _ranges(weight: Array, kind: str, attributes: dict[str, int]) -> Array:
    """max |weight| per output channel, wherever the operator keeps that axis."""
    magnitude = np.abs(weight)
    if kind == "transposed":  # (Cin, Cout/group, ...), Cin being group runs of Cin/group
        group = attributes.get("group", 1)
        grouped = magnitude.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        return np.asarray(grouped.max(axis=(1, 3)).reshape(-1))
    if kind == "columns" or (kind == "gemm" and not attributes.get("transB", 0)):
        magnitude = np.moveaxis(magnitude, -1, 0)
    return np.asarray(magnitude.reshape(len(magnitude), -1).max(axis=1))


class Evaluator:
    """A network in float64, by onnx's own reference arithmetic in numpy: slow, and nobody's optimisation.

    Args:
        model: in float64, complete.
        blobs: what to compute besides its outputs.

    Raises:
        UnsupportedError: onnx's reference arithmetic does not know an operator.
    """

    def __init__(self, model: onnx.ModelProto, blobs: Sequence[str]) -> None:
        try:
            self._evaluator = ReferenceEvaluator(onnx.ModelProto.FromString(exposed(model, blobs)))
        except Exception as error:
            raise UnsupportedError(f"onnx's reference arithmetic cannot take the network ({error})") from error
        self._types = inputs_of(model)
        self._names = list(dict.fromkeys([*(output.name for output in model.graph.output), *blobs]))

    @classmethod
    def of_net(cls, net: Net, blobs: Sequence[str]) -> Evaluator:
        """Of a Caffe network.

        Raises:
            UnsupportedError: a layer cannot be written in float64.
        """
        return cls(to_onnx(net, dtype=np.float64), blobs)

    @classmethod
    def of_model(
        cls, model: onnx.ModelProto, weights: Sequence[Weight], folder: Path | None, blobs: Sequence[str]
    ) -> Evaluator:
        """Of an ONNX network, perhaps without its weights, and these.

        Raises:
            UnsupportedError: an operator has no form in float64.
        """
        return cls(in_double(model, weights, folder), blobs)

    def __reduce__(self) -> tuple[Callable[[bytes], Evaluator], tuple[bytes]]:
        """As another process gets it: all that is computed is an output of the model by now.

        Raises:
            UnsupportedError: it is larger than protobuf lets a message be.
        """
        try:
            return _sent_evaluator, (self._evaluator.proto_.SerializeToString(),)
        except Exception as error:  # protobuf's own, which shares no base with others
            raise UnsupportedError(f"a float64 network of 2 GB or more cannot be sent ({error})") from error

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Blob -> values, in float64.

        Raises:
            UnsupportedError: the reference arithmetic fails.
        """
        given = {name: np.asarray(feeds[name], dtype) for name, dtype in self._types.items() if name in feeds}
        try:
            with np.errstate(all="ignore"):  # a network may be undefined in places; both runs show it as NaN
                values = self._evaluator.run(self._names, given)
        except Exception as error:  # whatever numpy or onnx make of an operator that they implement in part
            raise UnsupportedError(f"onnx's reference arithmetic cannot run the network ({error})") from error
        found = zip(self._names, values, strict=True)
        return {name: np.asarray(value) for name, value in found if isinstance(value, np.ndarray | np.generic)}


def _sent_evaluator(model: bytes) -> Evaluator:
    return Evaluator(onnx.ModelProto.FromString(model), ())
