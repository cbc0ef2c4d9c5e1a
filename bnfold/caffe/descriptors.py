"""What protobuf's descriptors say, and how to set a field, as every supported release of protobuf understands it."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_LABEL_REPEATED = 3


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field is a list. `label` is deprecated since protobuf 6.31, which brought `is_repeated`."""
    described: Any = field
    if hasattr(described, "is_repeated"):
        return bool(described.is_repeated)
    return bool(described.label == _LABEL_REPEATED)


def is_message(field: FieldDescriptor) -> bool:
    """Whether the values of a field are messages."""
    return bool(field.type == FieldDescriptor.TYPE_MESSAGE)


def put(message: Any, name: str, value: Any) -> None:
    """Set a field to what another message has in one of its type: a value, a message or a list, which is added to."""
    slot = getattr(message, name)
    if hasattr(slot, "MergeFrom"):
        slot.MergeFrom(value)
    else:
        setattr(message, name, value)
