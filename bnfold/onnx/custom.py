"""Nodes of the domain `caffe`, for layers that ONNX has no words for; only written when the user allows it.

The node's operator is the layer's type, its inputs are the bottoms and then the learned blobs, and its attributes are
the fields that the layer's parameters set, joined by `_`: `python_param { module: "m" }` is `python_param_module`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import helper

from bnfold.net import Layer
from bnfold.onnx.builder import Graph

DOMAIN = "caffe"

FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def custom(graph: Graph, layer: Layer) -> None:
    """Add the node of a layer that has no ONNX form."""
    learned = [graph.learned(layer, index, f"blob{index}") for index in range(len(layer.blobs))]
    attributes = {
        name: value
        for field, parameter in layer.param.ListFields()
        if field.name.endswith("_param") and isinstance(parameter, Message)
        for name, value in _attributes(field.name, parameter)
    }
    graph.nodes.append(
        helper.make_node(
            layer.type,
            [*layer.bottoms, *learned],
            list(layer.tops),
            name=layer.name,
            doc_string=str(layer),
            domain=DOMAIN,
            **attributes,
        )
    )


def _attributes(prefix: str, message: Message) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        name = f"{prefix}_{field.name}"
        if field.message_type is None:
            yield name, _plain(field, value)
        elif isinstance(value, Message):
            yield from _attributes(name, value)
        else:
            for index, item in enumerate(value):
                yield from _attributes(f"{name}_{index}", item)


def _plain(field: FieldDescriptor, value: Any) -> Any:
    """One value or a list, with enumerators by name and truth as 0 and 1."""
    single = not hasattr(value, "__iter__") or isinstance(value, str | bytes)
    items = [value] if single else list(value)
    if field.enum_type is not None:
        items = [field.enum_type.values_by_number[item].name for item in items]
    elif field.cpp_type in FLOATS:
        items = [float(item) for item in items]
    elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        items = [int(item) for item in items]
    return items[0] if single else items
