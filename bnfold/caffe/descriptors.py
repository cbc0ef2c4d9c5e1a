"""What protobuf's descriptors say, and how to set a field, as every supported release of protobuf understands it."""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_LABEL_REPEATED = 3

Descriptor: TypeAlias = Any
"""Of a message or an enum: protobuf has a class for each of its implementations."""


def is_repeated(field: Descriptor) -> bool:
    """Whether a field is a list. `label` is deprecated since protobuf 6.31, which brought `is_repeated`."""
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == _LABEL_REPEATED)


def is_message(field: FieldDescriptor) -> bool:
    """Whether the values of a field are messages."""
    return bool(field.type == FieldDescriptor.TYPE_MESSAGE)


def put(message: Message, name: str, value: object) -> None:
    """Set a field to what another message has in one of its type: a value, a message or a list, which is added to."""
    slot = getattr(message, name)
    if hasattr(slot, "MergeFrom"):
        slot.MergeFrom(value)
    else:
        setattr(message, name, value)
