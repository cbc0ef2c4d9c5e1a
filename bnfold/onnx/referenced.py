"""Operators that few weights are made by, whose values onnx's own arithmetic in numpy computes as runtimes do."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TypeProto, ValueInfoProto, defs, helper, numpy_helper, shape_inference

from bnfold.net import Array, Shape
from bnfold.onnx.call import Call, NotConstant

REFERENCED = frozenset(
    (
        *("Acos", "Acosh", "And", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cosh", "CumSum", "DepthToSpace", "Elu"),
        *("EyeLike", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN"),
        *("LeakyRelu", "Less", "LessOrEqual", "Mish", "Not", "Or", "PRelu"),
        *("Pad", "Selu", "Shrink", "Sinh", "Softsign"),
        *("SpaceToDepth", "Tan", "ThresholdedRelu", "Trilu", "Xor"),
    )
)
REFERENCED_TYPES = frozenset(("bool", "float32", "float64", "int32", "int64"))
MAX_REFERENCED = 1 << 22
"""Values that one of them may read or make, which takes a second at most."""


def inferred_shape(call: Call) -> Shape:
    """The shape that onnx infers of what it computes here; of no more values than `MAX_REFERENCED`."""
    held = _held(call)
    if call.opset < 13 or any(value.dtype.name not in REFERENCED_TYPES for value in held.values()):
        raise NotConstant  # older ones have other laws, and of coarser types runtimes round otherwise
    types = {name: helper.make_tensor_type_proto(_code(value), value.shape) for name, value in held.items()}
    values = {name: numpy_helper.from_array(value, name) for name, value in held.items() if value.ndim < 2}
    schema, opset = defs.get_schema(call.node.op_type, call.opset), helper.make_opsetid("", call.opset)
    try:
        found = shape_inference.infer_node_outputs(schema, call.node, types, values, None, [opset], 8)
    except Exception as error:  # its exceptions share no base but Exception
        raise NotConstant from error
    made = found[call.node.output[0]].tensor_type if call.node.output[0] in found else TypeProto.Tensor()
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else MAX_REFERENCED + 1 for dim in made.shape.dim)
    if not made.HasField("shape") or max(prod(shape), *(one.size for one in held.values())) > MAX_REFERENCED:
        raise NotConstant
    return shape


def referenced(call: Call) -> Array:
    """What onnx's own arithmetic in numpy makes of an operator, where that is what runtimes make."""
    from onnx.reference import ReferenceEvaluator  # takes long, and is seldom needed

    held, shape = _held(call), inferred_shape(call)
    ports = [helper.make_tensor_value_info(name, _code(value), value.shape) for name, value in held.items()]
    graph = helper.make_graph([call.node], "g", ports, [ValueInfoProto(name=call.node.output[0])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", call.opset)])
    try:
        made: Any = ReferenceEvaluator(model).run(None, held)
    except Exception as error:  # what it refuses, the runtime refuses, too
        raise NotConstant from error
    if made[0].shape != shape:
        raise NotConstant
    return np.asarray(made[0])


def _held(call: Call) -> dict[str, Array]:
    return {name: call[place] for place, name in enumerate(call.node.input) if name}


def _code(value: Array) -> int:
    return helper.np_dtype_to_tensor_dtype(value.dtype)
