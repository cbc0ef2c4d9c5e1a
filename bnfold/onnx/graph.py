"""Reading an ONNX model as far as comparing needs: who writes and reads which tensor, and what the weights are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.errors import ParseError
from bnfold.net import Array, Net

WEIGHTED = {"Conv": "weight", "ConvTranspose": "transposed", "Gemm": "gemm", "MatMul": "columns"}


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file; weights that lie in files of their own stay there.

    Raises:
        ParseError: the file cannot be read or is not an ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror or error}", path) from error
    except Exception as error:  # protobuf's DecodeError, which only bnfold.caffe may import
        raise ParseError("is not an ONNX model", path) from error
    if not model.graph.node:
        raise ParseError("is not an ONNX model, or one without any node", path)
    return model


def exposed(model: onnx.ModelProto, tensors: Iterable[str]) -> bytes:
    """The serialised model, with `tensors` as outputs besides its own.

    Concatenated protobuf messages merge, so the weights are not copied in order to add names to a list.
    """
    extra = onnx.ModelProto()
    have = {output.name for output in model.graph.output}
    extra.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in have)
    return bytes(model.SerializeToString() + extra.SerializeToString())


def channel_ranges(model: onnx.ModelProto, folder: Path | None = None) -> Iterator[tuple[str, Array]]:
    """Each weighted node's name, and for each of its output channels the largest magnitude of the weights."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        kind = WEIGHTED.get(node.op_type)
        if kind is not None and len(node.input) > 1 and node.input[1] in stored:
            weight = numpy_helper.to_array(stored[node.input[1]], str(folder or ""))
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
    """A Caffe network in float64, by onnx's own reference arithmetic in numpy: slow, and nobody's optimisation.

    Args:
        net: the network.
        blobs: what to compute besides its outputs.

    Raises:
        UnsupportedError: a layer cannot be written in float64.
    """

    def __init__(self, net: Net, blobs: Sequence[str]) -> None:
        from bnfold.onnx import to_onnx

        model = onnx.ModelProto.FromString(exposed(to_onnx(net, dtype=np.float64), blobs))
        self._evaluator = ReferenceEvaluator(model)
        self._names = [output.name for output in model.graph.output]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Blob -> values, in float64."""
        with np.errstate(all="ignore"):  # a network may be undefined in places; both runs show it as NaN
            values = self._evaluator.run(self._names, dict(feeds))
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}
