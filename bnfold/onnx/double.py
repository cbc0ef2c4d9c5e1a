"""An ONNX model in float64, for a run that shows what float32 rounded away; or in float32, for one that can be run.

Every float becomes a double: initialisers and constants, inputs, the target of a Cast. What is whole, a flag or a
string stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.errors import UnsupportedError
from bnfold.net import Array, DType
from bnfold.onnx.file import values_of
from bnfold.onnx.functions import NoBody, without_calls
from bnfold.onnx.node import all_bodies, fed_tensor, written_out
from bnfold.onnx.weight import Weight

TYPED = {
    "Attention": "softmax_precision",
    "BlackmanWindow": "output_datatype",
    "Cast": "to",
    "DequantizeLinear": "output_dtype",
    "EyeLike": "dtype",
    "HammingWindow": "output_datatype",
    "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
    "RandomNormal": "dtype",
    "RandomUniform": "dtype",
}
"""Operators that say their result's type in an attribute, or that in which they compute it."""
SINGLE = {
    "ConstantOfShape": helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))),
    **{
        operator: helper.make_attribute(TYPED[operator], TensorProto.FLOAT)
        for operator in ("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix")
    },
}
"""What operators say that make float32 unless they are told otherwise."""


class Conversion(NamedTuple):
    """From some float types to another one.

    Attributes:
        sources: ONNX's numbers of the types that change.
        target: the number of the type that they become.
    """

    sources: frozenset[int]
    target: int

    def tells(self, dtype: DType) -> bool:
        """Whether a numpy type is one that changes."""
        return dtype in {helper.tensor_dtype_to_np_dtype(number) for number in self.sources}

    @property
    def dtype(self) -> DType:
        """The target as numpy has it."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.target))

    def of(self, values: Array) -> Array:
        """Values in the target, those of types that stay as they are."""
        with np.errstate(over="ignore"):
            return values.astype(self.dtype) if self.tells(values.dtype) else values


WIDE = Conversion(frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}), TensorProto.DOUBLE)
RUNNABLE = Conversion(frozenset({TensorProto.BFLOAT16, TensorProto.DOUBLE}), TensorProto.FLOAT)
"""To the type that every runtime has all operators of."""
FINER = Conversion(frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16}), TensorProto.FLOAT)
"""From the types of 2 bytes to one that can be run and rounds some thousand times finer."""


def in_double(model: ModelProto, weights: Sequence[Weight], folder: Path | None) -> ModelProto:
    """The same network in float64, weights and all.

    Args:
        model: the model, perhaps without its weights.
        weights: these.
        folder: where external weights of `model` lie.

    Raises:
        UnsupportedError: bodies of functions cannot be put in the place of calls.
    """
    double = converted(model, folder, WIDE)
    for weight in weights:
        double.graph.initializer.append(numpy_helper.from_array(WIDE.of(weight.array()), weight.name))
    return double


def converted(model: ModelProto, folder: Path | None, conversion: Conversion) -> ModelProto:
    """The same network with values of other types, bodies of functions in the place of calls.

    Raises:
        UnsupportedError: as `in_double`.
    """
    try:
        result = without_calls(model)
    except NoBody as error:
        raise UnsupportedError(f"calls of functions cannot be replaced by bodies: {error}") from error
    _convert_graph(result.graph, folder, conversion)
    return result


def _convert_graph(graph: GraphProto, folder: Path | None, conversion: Conversion) -> None:
    for one in [graph, *all_bodies(graph.node)]:
        del one.value_info[:]
        for port in (*one.input, *one.output):
            if (fed := fed_tensor(port)) is not None and fed.elem_type in conversion.sources:
                fed.elem_type = conversion.target
        for tensor in (*one.initializer, *(sparse.values for sparse in one.sparse_initializer)):
            _convert_tensor(tensor, folder, conversion)
        for node in one.node:
            _convert_node(node, folder, conversion)


def _convert_node(node: NodeProto, folder: Path | None, conversion: Conversion) -> None:
    unsaid = SINGLE.get(node.op_type)
    if unsaid is not None and all(attribute.name != unsaid.name for attribute in node.attribute):
        node.attribute.append(unsaid)
    for attribute in list(node.attribute):
        if attribute.type == AttributeProto.TENSOR:
            _convert_tensor(attribute.t, folder, conversion)
        elif attribute.type == AttributeProto.SPARSE_TENSOR:
            _convert_tensor(attribute.sparse_tensor.values, folder, conversion)
        elif attribute.name == TYPED.get(node.op_type) and attribute.i in conversion.sources:
            attribute.i = conversion.target
        elif (
            node.op_type == "Constant" and (said := written_out(attribute)) is not None and conversion.tells(said.dtype)
        ):
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(conversion.of(said))))


def _convert_tensor(tensor: TensorProto, folder: Path | None, conversion: Conversion) -> None:
    if tensor.data_type in conversion.sources:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(conversion.of(values_of(tensor, folder)), name))


def input_types(model: ModelProto) -> dict[str, DType]:
    """Input -> the type of its values, of those that are tensors and no lists of them."""
    fed = {port.name: fed_tensor(port) for port in model.graph.input}
    return {
        name: np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        for name, tensor in fed.items()
        if tensor is not None
    }
