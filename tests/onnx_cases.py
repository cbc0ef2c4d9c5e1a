"""Cases of `tests/golden_onnx`: small ONNX models with inputs, and the outputs of the model as it is.

`LEFT.tsv` says how many affines are in each, and the fewest that anything was seen to leave.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, numpy_helper

Array = npt.NDArray[Any]

FOLDER = Path(__file__).parent / "golden_onnx"
TOLERANCE = 2e-5
"""Of the range of a value, for float32."""


@dataclass(frozen=True, slots=True)
class OnnxCase:
    """One model of a case."""

    case: str
    model: str
    affines: int
    fewest: int

    @property
    def path(self) -> Path:
        return FOLDER / self.case / self.model

    def inputs(self) -> dict[str, Array]:
        return dict(np.load(FOLDER / self.case / "inputs.npz"))

    def outputs(self) -> dict[str, Array]:
        return dict(np.load(FOLDER / self.case / "outputs.npz"))

    def __str__(self) -> str:
        return f"{self.case}/{self.model}"


def cases() -> list[OnnxCase]:
    with (FOLDER / "LEFT.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [OnnxCase(row["case"], row["model"], int(row["affines"]), int(row["fewest"])) for row in rows]


def run(model: ModelProto | bytes, feeds: Mapping[str, Array], wanted: Iterable[str] = ()) -> dict[str, Array]:
    """What a model computes, without any optimisation: its outputs, and other values by name."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    have = {output.name for output in ModelProto.FromString(data).graph.output}
    extra = ModelProto()
    extra.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in have)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data + extra.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {port.name: feeds[port.name] for port in session.get_inputs()}
    return dict(zip(names, session.run(names, given), strict=True))


def values_of(model: ModelProto) -> list[str]:
    """The names of what the nodes compute, sequences and the like left out."""
    odd = {"SequenceConstruct", "SplitToSequence", "Optional"}
    return [name for node in model.graph.node if node.op_type not in odd for name in node.output if name]


def error(value: Array, expected: Array) -> float:
    """The largest difference, of the range of what was expected; equal non-finite values do not differ."""
    one, other = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    if one.shape != other.shape:
        return float("inf")
    if not one.size:
        return 0.0
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.ptp(other[finite])), float(np.abs(other[finite]).max()), 1e-30)
    return float(np.abs(one[finite] - other[finite]).max() / scale)


def affines_in(model: ModelProto) -> int:
    """BatchNormalizations, and arithmetic with one constant for each channel, in the graph itself."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        port.name: tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim)
        for port in (*inferred.value_info, *model.graph.input, *model.graph.output)
        if port.type.tensor_type.HasField("shape")
    }
    count = 0
    for node in model.graph.node:
        read = [constants[name] for name in node.input if name in constants]
        if node.op_type == "Constant":
            constants[node.output[0]] = np.asarray(_stated(node))
        elif node.op_type in {"Identity", "Reshape", "Concat", "Unsqueeze"} and len(read) == len(node.input):
            constants[node.output[0]] = _arranged(node.op_type, read)
        count += node.op_type == "BatchNormalization"
        if node.op_type in {"Add", "Div", "Mul", "Sub"} and len(read) == 1:
            count += _is_by_channel(read[0], shapes.get(node.output[0]))
    return count


def _stated(node: NodeProto) -> Array:
    value = onnx.helper.get_attribute_value(node.attribute[0])
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _arranged(op_type: str, read: list[Array]) -> Array:
    if op_type == "Concat":
        return np.concatenate(read)
    if op_type == "Unsqueeze":
        return np.expand_dims(read[0], tuple(int(axis) for axis in read[1].reshape(-1)))
    return read[0].reshape([int(size) for size in read[1]]) if op_type == "Reshape" else read[0]


def _is_by_channel(constant: Array, shape: tuple[int, ...] | None) -> bool:
    if shape is None:
        return constant.ndim == 3 and constant.shape[1:] == (1, 1)
    full = (1,) * (len(shape) - constant.ndim) + constant.shape
    return len(full) == len(shape) >= 2 and [axis for axis, size in enumerate(full) if size != 1] == [1]
