"""Bodies of If, Loop and Scan as networks of their own.

    Given:   y = If (c) <then_branch = { Conv -> BatchNormalization }>      Result:  y = If (c) <then_branch = { Conv }>

What a body captures from the graphs around it is an input of that network. A weight that it captures is an initialiser
there; others may read it, so one that changes becomes the body's own, under a new name. A large one that others do read
is an input, too, and stays: it would be stored twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bnfold.algebra.frontend import InnerNet
from bnfold.errors import BnfoldError, counted
from bnfold.net import Layer, Net, Shape, blobs_of
from bnfold.onnx.file import element_type
from bnfold.onnx.functions import NORMALISATIONS
from bnfold.onnx.node import (
    ARITHMETIC,
    Node,
    all_nodes,
    captured,
    captured_by,
    constants_among,
    is_float,
    model_of,
    names_in,
)
from bnfold.onnx.origin import OnnxOrigin
from bnfold.onnx.write import whole_message
from bnfold.options import ReadOptions

MAX_COPIED = 1 << 20
"""Bytes of a weight up to which a body gets its own where others read the old one."""


class _Untyped(Exception):
    """What a body reads has no known type or shape; the message names it."""


def bodies_of(net: Net, read: Callable[[bytes, ReadOptions, str], Net]) -> Iterator[InnerNet]:
    """The bodies in the layers of a net; those in bodies are bodies of these. `read` makes a net of a model's bytes."""
    for layer in net.layers:
        for attribute in list(layer.param.proto.attribute):
            if attribute.type != AttributeProto.GRAPH:
                continue
            name, inside, why = f"{attribute.name} of {layer}", None, ""
            try:
                inside = _read(net, layer, attribute, read)
            except (_Untyped, BnfoldError, ValueError) as error:  # protobuf holds no message above 2 GiB
                why = _left(attribute.g, name, str(error), _floats(net))
            yield InnerNet(attribute.name, layer, inside, why, partial(_put, net, layer, attribute.name))


def _read(net: Net, layer: Layer, attribute: AttributeProto, read: Callable[[bytes, ReadOptions, str], Net]) -> Net:
    """The net of a body. A size of what goes from turn to turn that a turn may change is taken for unknown.

    Raises:
        _Untyped: of what it reads a type or a number of axes is unknown.
    """
    model = _model(net, layer, attribute)
    carried = _carried(layer, attribute)
    while True:
        inside = read(model.SerializeToString(), ReadOptions(), net.file)
        shapes: Mapping[str, Shape] = inside.origin.types.shapes
        is_same = True
        for port in (port for port in model.graph.input if port.name in carried):
            before, after = shapes.get(port.name, ()), shapes.get(carried[port.name])
            if after is None or len(after) != len(before):
                raise _Untyped(f"the shape of '{port.name}' may change from turn to turn")
            for dim, old, new in zip(port.type.tensor_type.shape.dim, before, after, strict=True):
                if old != new and (dim.HasField("dim_value") or dim.dim_param):
                    dim.Clear()
                    is_same = False
        if is_same:
            return _known_inside(inside, net, attribute)


def _left(body: GraphProto, name: str, why: str, floats: Collection[str]) -> str:
    """A sentence on the affines in a body in which nothing is folded; empty where there are none.

    `floats` are the constants of a float type around it.
    """
    nodes = list(all_nodes(body.node))
    held = {one.name: element_type(one.data_type) for one in body.initializer}
    held |= {made: element_type(one.data_type) for made, one in constants_among(nodes).items()}
    known = {made for made, kind in held.items() if kind is not None and is_float(kind)}.union(floats)
    arithmetic = [one.input for one in nodes if one.op_type in ARITHMETIC]
    count = sum(one.op_type in NORMALISATIONS for one in nodes)
    count += sum(len(known.intersection(names)) == 1 for names in arithmetic)
    return f"{counted(count, 'affine')} in {name}: nothing is folded there, since {why}" if count else ""


def _floats(net: Net) -> set[str]:
    """The constants of a float type in a graph."""
    constants = net.origin.constants.items()
    return {name for name, value in constants if value is not None and is_float(value.dtype)}


def _carried(layer: Layer, attribute: AttributeProto) -> dict[str, str]:
    """What a turn of a Loop or Scan reads of the one before it, without a shape of its own -> what makes it there."""
    inputs, outputs = attribute.g.input, [port.name for port in attribute.g.output]
    node: Node = layer.param
    first, last = (2, None) if layer.type == "Loop" else (0, len(inputs) - node.attribute("num_scan_inputs", 0))
    made = outputs[1:] if layer.type == "Loop" else outputs
    ports = inputs[first:last] if layer.type in ("Loop", "Scan") else []
    return {port.name: top for port, top in zip(ports, made, strict=False) if not _is_typed(port)}


def _is_typed(port: ValueInfoProto) -> bool:
    return port.type.tensor_type.HasField("shape") and bool(port.type.tensor_type.elem_type)


def _model(net: Net, layer: Layer, attribute: AttributeProto) -> ModelProto:
    """A body of a layer as a model."""
    origin: OnnxOrigin = net.origin
    model = model_of(attribute.g, origin.document.model)
    types = origin.declared  # a fold is right for all sizes that the file leaves open
    called = types.called(origin.sizes_named)

    def give(port: ValueInfoProto, name: str, without: int | None = None) -> None:
        """Have an input be what a value around the body is, perhaps without one of its axes."""
        element, dims = types.elements.get(name), types.dims(name, called)
        if element is not None and dims is not None and (without is None or -len(dims) <= without < len(dims)):
            if without is not None:
                del dims[without]
            port.type.CopyFrom(helper.make_tensor_type_proto(element, dims))

    for port, name, axis in _given(layer, model.graph):
        if not _is_typed(port):
            give(port, name, axis)
    readers = Counter(name for one in layer.param.proto.attribute for name in captured_by(one.g))
    for name in captured_by(attribute.g):
        value, alone = origin.constants.get(name), readers[name] == origin.readings.get(name) == 1
        if value is not None and (alone or value.nbytes <= MAX_COPIED):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            continue
        give(model.graph.input.add(name=name), name)
    for port in model.graph.input:
        if not _is_typed(port):
            raise _Untyped(f"the shape or type of '{port.name}' is unknown")
    return model


def _given(layer: Layer, body: GraphProto) -> Iterator[tuple[ValueInfoProto, str, int | None]]:
    """The inputs of a body, each with what a Loop or Scan gives it and the axis along which it is taken apart.

    What a Loop counts and asks by itself is given types here.
    """
    node: Node = layer.param
    names = node.proto.input
    if layer.type == "Loop":
        for port, element in zip(body.input, (TensorProto.INT64, TensorProto.BOOL), strict=False):
            if not _is_typed(port):
                port.type.CopyFrom(helper.make_tensor_type_proto(element, ()))
        yield from ((port, name, None) for port, name in zip(body.input[2:], names[2:], strict=False))
    elif layer.type == "Scan" and node.opset > 8:  # before, a batch stood in front
        scanned = node.attribute("num_scan_inputs", 0)
        states = len(body.input) - scanned
        axes = [*[None] * states, *(node.ints("scan_input_axes") or (0,) * scanned)]
        yield from zip(body.input, names, axes, strict=False)


def _known_inside(inside: Net, net: Net, attribute: AttributeProto) -> Net:
    """The net of a body, which takes no name of those around it, and whose captured weights others read, too."""
    origin: OnnxOrigin = inside.origin
    around: OnnxOrigin = net.origin
    readings = Counter(origin.readings) + Counter(captured_by(attribute.g))
    inside.origin = replace(origin, names=origin.names.union(around.names, blobs_of(net)), readings=readings)
    return inside


def _put(net: Net, layer: Layer, attribute: str, inside: Net) -> None:
    """Have a layer of a net hold a net in the place of one of its bodies."""
    node: Node = layer.param
    around = {*captured_by(node.attributes[attribute].g)}
    graph = whole_message(inside).graph
    for held in (graph.initializer, graph.value_info):
        for one in [one for one in held if one.name in around]:
            held.remove(one)  # type: ignore[arg-type]
    del graph.input[:]
    graph.input.extend(node.attributes[attribute].g.input)
    changed: dict[str, Any] = {attribute: graph}
    node = node.rewritten(**changed)
    read, known = captured(node.proto), {*node.captures}
    inner = [name for name in read if name not in known]
    outside = len(layer.bottoms) - node.inner
    layer.param = replace(node, captures=tuple(name for name in read if name in known), inner=len(inner))
    net.reads(layer, [*layer.bottoms[:outside], *inner])
    net.origin = replace(net.origin, names=net.origin.names | {*names_in(graph)})
