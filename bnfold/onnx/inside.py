"""Bodies of If, Loop and Scan as networks of their own.

    Given:   y = If (c) <then_branch = { Conv -> BatchNormalization }>      Result:  y = If (c) <then_branch = { Conv }>

What a body captures from the graphs around it is an input of that network. A weight that it captures is an initialiser
there; others may read it, so one that changes becomes the body's own, under a new name. A large one that others do read
is an input, too, and stays: it would be stored twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from bnfold.algebra.frontend import InnerNet
from bnfold.errors import BnfoldError
from bnfold.net import Layer, Net
from bnfold.onnx.functions import left_in_body
from bnfold.onnx.node import Node, captured, names_in
from bnfold.onnx.origin import OnnxOrigin
from bnfold.onnx.write import whole_message
from bnfold.options import ReadOptions

MAX_COPIED = 1 << 20
"""Bytes of a weight up to which a body gets its own where others read the old one."""


class _Untyped(Exception):
    """What a body reads has no known type or shape; the message names it."""


def bodies_of(net: Net, read: Callable[[bytes, ReadOptions, str], Net]) -> Iterator[InnerNet]:
    """The bodies in the layers of a net; those in bodies are bodies of these.

    Args:
        net: one of ONNX.
        read: what makes a net of a model in memory.
    """
    for layer in net.layers:
        for said in list(layer.param.proto.attribute):
            if said.type != AttributeProto.GRAPH:
                continue
            name, inside, why = f"{said.name} of {layer}", None, ""
            try:
                data = _model(net, layer, said).SerializeToString()
                inside = _known_inside(read(data, ReadOptions(), net.file), net, said)
            except _Untyped as untyped:
                why = left_in_body(said.g, name, str(untyped))
            except (BnfoldError, ValueError) as error:  # protobuf holds no message above 2 GiB
                why = left_in_body(said.g, name, str(error))
            yield InnerNet(said.name, layer, inside, why, partial(_put, net, layer, said.name))


def _captured(said: AttributeProto) -> list[str]:
    return captured(NodeProto(attribute=[said]))


def _model(net: Net, layer: Layer, said: AttributeProto) -> ModelProto:
    """A body of a layer as a model."""
    origin: OnnxOrigin = net.origin
    whole, model = origin.document.model, ModelProto()
    model.ir_version = whole.ir_version
    model.opset_import.extend(whole.opset_import)
    model.functions.extend(whole.functions)
    model.graph.CopyFrom(said.g)
    called = origin.types.called(origin.sizes_named)
    readers = Counter(name for one in layer.param.proto.attribute for name in _captured(one))
    for name in _captured(said):
        value, alone = origin.constants.get(name), readers[name] == origin.readings.get(name) == 1
        if value is not None and (alone or value.nbytes <= MAX_COPIED):
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            continue
        port, element, dims = (
            ValueInfoProto(name=name),
            origin.types.elements.get(name),
            origin.types.dims(name, called),
        )
        if element is not None and dims is not None:
            port.type.CopyFrom(helper.make_tensor_type_proto(element, dims))
        model.graph.input.append(port)
    for port in model.graph.input:
        if not port.type.tensor_type.HasField("shape") or not port.type.tensor_type.elem_type:
            raise _Untyped(f"the shape or type of '{port.name}' is unknown")
    return model


def _known_inside(inside: Net, net: Net, said: AttributeProto) -> Net:
    """The net of a body, which takes no name of those around it, and whose captured weights others read, too."""
    origin: OnnxOrigin = inside.origin
    around: OnnxOrigin = net.origin
    blobs = {blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops)}
    readings = Counter(origin.readings) + Counter(_captured(said))
    inside.origin = replace(origin, names=origin.names | around.names | blobs, readings=readings)
    return inside


def _put(net: Net, layer: Layer, attribute: str, inside: Net) -> None:
    """Have a layer of a net hold a net in the place of one of its bodies."""
    node: Node = layer.param
    around = {*_captured(node.attributes[attribute])}
    graph = whole_message(inside).graph
    for held in (graph.input, graph.initializer, graph.value_info):
        for one in [one for one in held if one.name in around]:
            held.remove(one)  # type: ignore[arg-type]
    changed: dict[str, Any] = {attribute: graph}
    node = node.rewritten(**changed)
    read, known = captured(node.proto), {*node.captures}
    inner = [name for name in read if name not in known]
    outside = len(layer.bottoms) - node.inner
    layer.param = replace(node, captures=tuple(name for name in read if name in known), inner=len(inner))
    net.reads(layer, [*layer.bottoms[:outside], *inner])
    net.origin = replace(net.origin, names=net.origin.names | {*names_in(graph)})
