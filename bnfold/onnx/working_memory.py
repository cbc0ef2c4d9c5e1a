"""How much memory an ONNX model takes while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
import onnx

from bnfold.net import Array
from bnfold.onnx.graph import SHAPES, inferred
from bnfold.onnx.node import attribute_value, bodies, captured, captured_by, model_of
from bnfold.onnx.shapes import Types
from bnfold.onnx.weight import Weight


def sizes_of(types: Types) -> dict[str, int]:
    """Bytes of the tensors whose shapes are known."""
    found = {}
    for name, shape in types.shapes.items():
        if types.elements.get(name) and min(shape, default=0) >= 0:
            item = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(types.elements[name])).itemsize
            found[name] = prod(shape) * item
    return found


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
    graph.input.extend(_fed_ports(node, body, types))
    for tensor in body.initializer:
        if prod(tensor.dims) <= SHAPES and tensor.data_location != onnx.TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(_port(tensor.name, tensor.data_type, tuple(tensor.dims)))
    graph.input.extend(_port(name, types.elements.get(name, 0), types.shapes.get(name)) for name in captured_by(body))
    return model_of(graph, model)


def _fed_ports(node: onnx.NodeProto, body: onnx.GraphProto, types: Types) -> Iterator[onnx.ValueInfoProto]:
    """The inputs of a body, with the shapes that their node hands on where they say none: a Loop carries its values,
    and a Scan carries some and gives of the others a row along an axis. (Before opset 9 it has lengths in front.)
    """
    scanned: dict[str, int] = {}
    outer = dict.fromkeys((port.name for port in body.input), "")
    if node.op_type == "Loop":
        outer |= zip((port.name for port in body.input[2:]), node.input[2:], strict=False)
    elif node.op_type == "Scan" and len(node.input) == len(body.input):
        outer |= zip(list(outer), node.input, strict=False)
        rows = [*outer][len(outer) - attribute_value(node, "num_scan_inputs", 0) :]
        axes = next((one.ints for one in node.attribute if one.name == "scan_input_axes"), None) or [0] * len(rows)
        scanned = dict(zip(rows, axes, strict=False))
    for port in body.input:
        name = outer[port.name]
        if not name or _is_sized(port):
            yield port
            continue
        shape = types.shapes.get(name)
        if shape and port.name in scanned:
            axis = scanned[port.name] % len(shape)
            shape = (*shape[:axis], *shape[axis + 1 :])
        yield _port(port.name, types.elements.get(name, 0), shape)


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


def cast_bytes(model: onnx.ModelProto, weights: Iterable[Weight]) -> int:
    """Bytes that weights of float16 take besides where they are computed in float32: a session casts and keeps them."""
    stored = [(one.shape, one.element) for one in weights] + [
        (one.dims, one.data_type) for one in model.graph.initializer
    ]
    return sum(4 * prod(shape) for shape, element in stored if element == onnx.TensorProto.FLOAT16)
