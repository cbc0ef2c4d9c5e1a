"""Values of types that no array of numpy has, float8 and those below a byte, read and given as float32.

    Given:   QuantizeLinear -> q -> DequantizeLinear
    Result:  QuantizeLinear -> q@stored -> Cast -> q -> Cast -> q@read -> DequantizeLinear

Each of their numbers is one of float32 too, so nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from bnfold.net import Array
from bnfold.onnx.graph import with_inputs_for
from bnfold.onnx.node import attribute_value, captured, set_nodes
from bnfold.onnx.shapes import inferred_ports
from bnfold.onnx.weight import Weight

NARROW = frozenset(
    number
    for number in helper.get_all_tensor_dtypes()
    if TensorProto.DataType.Name(number).startswith(("FLOAT4", "FLOAT8", "INT2", "INT4", "UINT2", "UINT4"))
    and np.dtype(helper.tensor_dtype_to_np_dtype(number)).isbuiltin == 2  # as ml_dtypes defines it, and older onnx not
)
STORED, READ = "@stored", "@read"


def with_narrow_values_read(model: ModelProto, weights: Sequence[Weight]) -> ModelProto:
    """The model, of which what nodes make in such types is float32 between two Casts; the same where nothing is."""
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type in NARROW}
    stored |= {weight.name for weight in weights if weight.element in NARROW}
    targets = {one.i for node in model.graph.node for one in node.attribute if one.name in ("to", "output_dtype")}
    makers = (node for node in model.graph.node if node.op_type not in ("Cast", "DequantizeLinear"))
    if NARROW.isdisjoint(targets) and all(stored.isdisjoint(node.input) for node in makers):
        return model
    types = {port.name: port.type.tensor_type.elem_type for port in inferred_ports(with_inputs_for(model, weights))}
    inside = {name for node in model.graph.node for name in captured(node)}
    made = {name for node in model.graph.node for name in node.output}
    narrow = {name: types[name] for name in types if types[name] in NARROW and name in made and name not in inside}
    result = deepcopy(model)
    _read(result.graph, narrow)
    return result


def _read(graph: GraphProto, narrow: Mapping[str, int]) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        made = [name for name in node.output if name in narrow]
        for names, ending in ((node.input, READ), (node.output, STORED)):
            for place, name in enumerate(names):
                if name in narrow:
                    names[place] = name + ending
        nodes.append(node)
        for name in made:
            nodes.append(helper.make_node("Cast", [name + STORED], [name], name + STORED, to=TensorProto.FLOAT))
            read = helper.make_node("Cast", [name], [name + READ], name + READ, to=narrow[name])
            if TensorProto.DataType.Name(narrow[name]).startswith("FLOAT8"):
                read.attribute.append(helper.make_attribute("saturate", 0))  # infinity stays what it is
            nodes.append(read)
    set_nodes(graph, nodes)
    for port in (*graph.output, *graph.value_info):
        if port.name in narrow:
            port.type.tensor_type.elem_type = TensorProto.FLOAT


def narrow_numbers(model: ModelProto, blob: str) -> Array | None:
    """All finite numbers of the type that a blob is stored in, rising; None where that is a type of numpy's."""
    kept = next((node for node in model.graph.node if node.output[0] == blob + READ), None)
    if kept is None:
        return None
    dtype = helper.tensor_dtype_to_np_dtype(attribute_value(kept, "to", 0))
    with np.errstate(all="ignore"):
        numbers = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    return np.unique(numbers[np.isfinite(numbers)])
