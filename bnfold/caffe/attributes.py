"""The parameters of a layer as a flat list of names and values, for formats that know no messages.

A field is named by its path, joined by `_`: `python_param { module: "m" }` is `python_param_module`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter

FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def attributes(param: LayerParameter) -> dict[str, Any]:
    """Every field that the `*_param` messages of a layer set: one value, or a list for a repeated field.

    Enumerators go by name, truth is 0 or 1, and several messages of one field are numbered from 0.
    """
    return {
        name: value
        for field, parameter in param.ListFields()
        if field.name.endswith("_param") and isinstance(parameter, Message)
        for name, value in _inside(field.name, parameter)
    }


def _inside(prefix: str, message: Message) -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        name = f"{prefix}_{field.name}"
        if field.message_type is None:
            yield name, _plain(field, value)
        elif isinstance(value, Message):
            yield from _inside(name, value)
        else:
            for index, item in enumerate(value):
                yield from _inside(f"{name}_{index}", item)


def _plain(field: FieldDescriptor, value: Any) -> Any:
    single = not hasattr(value, "__iter__") or isinstance(value, str | bytes)
    items = [value] if single else list(value)
    if field.enum_type is not None:
        items = [field.enum_type.values_by_number[item].name for item in items]
    elif field.cpp_type in FLOATS:
        items = [float(item) for item in items]
    elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        items = [int(item) for item in items]
    return items[0] if single else items
