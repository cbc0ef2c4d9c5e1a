"""An ONNX model in float64, for a run that shows what float32 rounded away.

Every float becomes a double: initialisers and constants, inputs, the target of a Cast. What is whole, a flag or a
string stays. What an operator's definition fixes to float32 (quantisation) has no form in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.onnx.weight import Weight

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
FIXED = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
TYPED = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}
"""Operators that say their result's type in an attribute."""


def in_double(model: ModelProto, weights: Sequence[Weight], folder: Path | None) -> ModelProto:
    """The same network in float64, weights and all.

    Args:
        model: the model, perhaps without its weights.
        weights: these.
        folder: where external weights of `model` lie.

    Raises:
        UnsupportedError: an operator that float64 cannot be put into.
    """
    double = ModelProto()
    double.CopyFrom(model)
    _convert_graph(double.graph, folder)
    for function in double.functions:
        for node in function.node:
            _convert_node(node, folder)
    for weight in weights:
        values = np.frombuffer(b"".join(weight.pieces()), weight.dtype.newbyteorder("<")).reshape(weight.shape)
        double.graph.initializer.append(numpy_helper.from_array(_wide(values), weight.name))
    return double


def _convert_graph(graph: GraphProto, folder: Path | None) -> None:
    del graph.value_info[:]
    for port in (*graph.input, *graph.output):
        if port.type.tensor_type.elem_type in FLOATS:
            port.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        _convert_tensor(tensor, folder)
    for node in graph.node:
        _convert_node(node, folder)


def _convert_node(node: NodeProto, folder: Path | None) -> None:
    if node.op_type in FIXED:
        raise UnsupportedError(f"{node.op_type} '{node.name}' has no form in float64")
    for attribute in list(node.attribute):
        if attribute.type == AttributeProto.GRAPH:
            _convert_graph(attribute.g, folder)
        elif attribute.type == AttributeProto.TENSOR:
            _convert_tensor(attribute.t, folder)
        elif attribute.name == TYPED.get(node.op_type) and attribute.i in FLOATS:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name in CONSTANTS:
            values = CONSTANTS[attribute.name](attribute)
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))


def _convert_tensor(tensor: TensorProto, folder: Path | None) -> None:
    if tensor.data_type in FLOATS:
        name = tensor.name
        values = numpy_helper.to_array(tensor, base_dir=str(folder or ""))
        tensor.CopyFrom(numpy_helper.from_array(_wide(values), name))


def _wide(values: Array) -> Array:
    """Floats as float64 (bfloat16's kind is V to numpy); anything else as it is."""
    return values.astype(np.float64) if values.dtype.kind in "fV" else values


CONSTANTS: Mapping[str, Callable[[AttributeProto], Array]] = {
    "value_float": lambda attribute: np.array(attribute.f, np.float64),
    "value_floats": lambda attribute: np.array(attribute.floats, np.float64),
}
"""How a Constant may say floats without a tensor."""


def inputs_of(model: ModelProto) -> dict[str, np.dtype[Any]]:
    """Input -> the type of its values."""
    return {
        port.name: np.dtype(helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type))
        for port in model.graph.input
    }
