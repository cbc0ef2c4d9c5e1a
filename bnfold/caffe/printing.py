"""Printing a layer as prototxt: the order of Caffe's own files, the indentation of the file that it came from.

    layer {
      name: "conv1"
      type: "Convolution"
      bottom: "data"
      top: "conv1"
      param { lr_mult: 1 decay_mult: 1 }
      convolution_param {
        num_output: 64
        weight_filler { type: "xavier" }
      }
    }

Numbers are the shortest that read back as the same float; strings are UTF-8 with control characters escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.descriptors import is_message, is_repeated

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter

DEFAULT_INDENT = "  "

APART = frozenset({"blobs", "bottom", "name", "top", "type"})
"""The fields that a layer in memory has beside `param`, which are written by these, or not at all (blobs in a text)."""


def print_layer(
    name: str, layer_type: str, bottoms: Sequence[str], tops: Sequence[str], param: LayerParameter, indent: str
) -> str:
    """A layer from `layer {` to its closing brace, without a newline at the end.

    Args:
        name, layer_type, bottoms, tops: what is printed for these, whatever `param` says.
        param: everything else; blobs are left out.
        indent: one level of indentation.
    """
    head = [
        ("name", name),
        ("type", layer_type),
        *(("bottom", blob) for blob in bottoms),
        *(("top", blob) for blob in tops),
    ]
    lines = [f"{indent}{key}: {quote(value)}" for key, value in head]
    lines += _lines((item for item in param.ListFields() if item[0].name not in APART), indent, 1)
    return "\n".join(["layer {", *lines, "}"])


def indentation_of(texts: Iterable[str]) -> str:
    """One level of indentation as the first text with a second line has it."""
    for text in texts:
        if found := re.search(r"\n([ \t]+)\S", text):
            return found.group(1)
    return DEFAULT_INDENT


def quote(value: str) -> str:
    """A string field's value between double quotes, every control character escaped."""
    return '"' + _UNSAFE.sub(_escape, value) + '"'


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return _ESCAPES.get(character) or f"\\{ord(character):03o}"


def _lines(items: Iterable[tuple[FieldDescriptor, Any]], indent: str, depth: int) -> list[str]:
    lines: list[str] = []
    for field, value in items:
        for one in value if is_repeated(field) else (value,):
            lines += _field(field, one, indent, depth)
    return lines


def _field(field: FieldDescriptor, value: Any, indent: str, depth: int) -> list[str]:
    margin = indent * depth
    if not is_message(field):
        return [f"{margin}{field.name}: {_scalar(field, value)}"]
    if (depth > 1 or not field.name.endswith("_param")) and _is_flat(value):
        inner = " ".join(line.strip() for line in _lines(value.ListFields(), indent, 0))
        return [f"{margin}{field.name} {{ {inner} }}" if inner else f"{margin}{field.name} {{ }}"]
    return [f"{margin}{field.name} {{", *_lines(value.ListFields(), indent, depth + 1), f"{margin}}}"]


def _is_flat(message: Message) -> bool:
    """Whether a message fits one line: only a few numbers and words."""
    fields = message.ListFields()
    count = sum(len(value) if is_repeated(field) else 1 for field, value in fields)
    return count <= 8 and all(not is_message(field) for field, _ in fields)


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else str(value)
    if field.type == FieldDescriptor.TYPE_STRING:  # bytes are weights alone, which no text holds
        return quote(value)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return shortest_float(value)
    return repr(value)


def shortest_float(value: float) -> str:
    """The fewest digits that read back as the same float32."""
    with np.errstate(over="ignore"):
        for digits in range(6, 9):
            text = f"{value:.{digits}g}"
            if np.float32(text) == np.float32(value):
                return text
    return f"{value:.9g}"


_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f]')
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
