"""The parameters of a layer as a flat list of names and values, for formats that know no messages.

A field is named by its path, joined by `_`: `python_param { module: "m" }` is `python_param_module`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_encoding
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.descriptors import is_repeated
from bnfold.caffe.scan import Prototxt, TextField
from bnfold.net import Layer

FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
TRUTH = {"false": 0, "true": 1}
WORD = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,"']+""")


def attributes(layer: Layer) -> dict[str, Any]:
    """Every field that the `*_param` messages of a layer set: one value, or a list for a repeated field.

    Enumerators go by name, truth is 0 or 1, and several messages of one field are numbered from 0. What no dialect has
    is read off the layer's text, where a number is a float if any of its field has a fraction.
    """
    known = {
        name: value
        for field, parameter in layer.param.ListFields()
        if field.name.endswith("_param") and isinstance(parameter, Message)
        for name, value in _inside(field.name, parameter)
    }
    return _in_text(layer) | known


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
    single = not is_repeated(field)
    items = [value] if single else list(value)
    if field.enum_type is not None:
        items = [field.enum_type.values_by_number[item].name for item in items]
    elif field.cpp_type in FLOATS:
        items = [float(item) for item in items]
    elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        items = [int(item) for item in items]
    return items[0] if single else items


def _in_text(layer: Layer) -> dict[str, Any]:
    """The parameters that the schema has not."""
    if layer.source is None or layer.source.text is None:
        return {}
    text = Prototxt(layer.source.text)
    known = layer.param.DESCRIPTOR.fields_by_name
    values: dict[str, list[Any]] = {}
    for whole in text.fields():
        for field in text.fields(whole.at, whole.stop) if whole.opener == "{" else ():
            # Of a layer with unknown fields they may stand among known ones.
            foreign = field.name not in known or layer.opaque
            if foreign and field.name.endswith("_param") and field.opener in ("{", "<"):
                _collect(text, field, field.name, values)
    return {name: found[0] if len(found) == 1 else _of_one_kind(found) for name, found in values.items()}


def _collect(text: Prototxt, message: TextField, prefix: str, values: dict[str, list[Any]]) -> None:
    for field in text.fields(message.at, message.stop):
        name = f"{prefix}_{field.name}"
        if field.opener in ("{", "<"):
            _collect(text, field, name, values)
        else:
            words = WORD.findall(text.text, field.at, field.stop)
            if words:
                values.setdefault(name, []).extend(map(_value, words))


def _value(word: str) -> Any:
    with contextlib.suppress(ValueError):
        if word[0] in "\"'":
            return text_encoding.CUnescape(word[1:-1]).decode("utf-8", "replace")
        if -(1 << 63) <= int(word) < 1 << 63:
            return int(word)
    with contextlib.suppress(ValueError):
        return float(word.rstrip("fF"))
    return TRUTH.get(word, word)


def _of_one_kind(values: list[Any]) -> list[Any]:
    """ONNX's lists hold one kind of value."""
    if all(isinstance(value, int) for value in values):
        return values
    if all(isinstance(value, int | float) for value in values):
        return [float(value) for value in values]
    return [str(value) for value in values]
