"""Changing a binary message in place: the fields that changed, and no others, so that what nobody knows survives.

A caffemodel's layer may have fields of a fork that the union schema has not, or has under another number. So a changed
layer is not parsed and serialised again. It is walked, and only those fields are replaced whose value differs between
the message as it was read and the message as it shall be; sub-messages likewise.

    Given:   106 { 1: 64  4: 3  999: x }    was { bias_term: false }    becomes { bias_term: true }
    Result:  106 { 1: 64  2: 1  4: 3  999: x }

Numbers of the union that no dialect uses are turned into real ones on the way (`dialects.REAL_NUMBERS`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.descriptors import Descriptor, is_message, is_repeated, put
from bnfold.caffe.dialects import REAL_NUMBERS
from bnfold.io.wire import LENGTH, Buffer, encode_field, encode_tag, fields


class Patched(NamedTuple):
    """One field of a message: new bytes, tag included, or (`new` is None) `buffer[begin:end]` as it is."""

    number: int
    begin: int = 0
    end: int = 0
    new: bytes | None = None

    def place(self, buffer: Buffer) -> tuple[Buffer, int, int]:
        """Where the bytes are: what holds them, and from where to where."""
        return (buffer, self.begin, self.end) if self.new is None else (self.new, 0, len(self.new))


def parts_of(buffer: Buffer, at: int, end: int) -> list[Patched]:
    """The fields of the message in `buffer[at:end]`, as they are. Raises WireError."""
    return [Patched(number, begin, stop) for number, _, begin, _, stop in fields(buffer, at, end)]


def replace_part(parts: list[Patched], number: int, new: bytes) -> None:
    """Put `new`, one or more encoded fields of this number or nothing, in the place of those that are there."""
    indices = [index for index, part in enumerate(parts) if part.number == number]
    if indices:
        parts[:] = [part for index, part in enumerate(parts) if index == indices[0] or part.number != number]
        parts[indices[0] : indices[0] + 1] = [Patched(number, new=new)] if new else []
    elif new:
        later = (index for index, part in enumerate(parts) if part.number > number)
        parts.insert(next(later, len(parts)), Patched(number, new=new))


def patch_parts(parts: list[Patched], buffer: Buffer, old: Message, new: Message, skip: Collection[str] = ()) -> None:
    """Change what differs between `old` and `new`, two messages of the type that `parts` of `buffer` spell.

    Fields named in `skip` are left alone. Raises WireError when a sub-message that must change is damaged.
    """
    for field in _differing(old, new):
        if field.name in skip:
            continue
        number = real_number(field)
        present = [part for part in parts if part.number == number]
        single = is_message(field) and not is_repeated(field)
        if single and present and old.HasField(field.name) and new.HasField(field.name):
            patched = _patched(present, buffer, getattr(old, field.name), getattr(new, field.name))
            replace_part(parts, number, encode_field(number, patched))
        else:
            replace_part(parts, number, encode_only(new, field))


def joined(parts: list[Patched], buffer: Buffer) -> bytes:
    """The bytes of a (small) message."""
    return b"".join(bytes(buffer[part.begin : part.end]) if part.new is None else part.new for part in parts)


def encode(message: Message) -> bytes:
    """A message in binary, with real field numbers."""
    return _renumbered(message.SerializeToString(deterministic=True), message.DESCRIPTOR)


def encode_only(message: Message, field: FieldDescriptor) -> bytes:
    """One field of a message in binary, tag included; nothing where it is not set."""
    alone = type(message)()
    if is_repeated(field) or message.HasField(field.name):
        put(alone, field.name, getattr(message, field.name))
    return encode(alone)


@cache
def real_number(field: FieldDescriptor) -> int:
    """The number that a field has in files."""
    message: Descriptor = field.containing_type
    known = REAL_NUMBERS.get(message.full_name.removeprefix("bnfold.caffe."), {})
    return known.get(field.name, field.number)


def _patched(present: list[Patched], buffer: Buffer, old: Message, new: Message) -> bytes:
    # A message that comes in several pieces counts as their concatenation.
    payload = b"".join(_payloads(present, buffer))
    inner = parts_of(payload, 0, len(payload))
    patch_parts(inner, payload, old, new)
    return joined(inner, payload)


def _payloads(present: list[Patched], buffer: Buffer) -> Iterator[bytes]:
    for part in present:
        source, begin, end = part.place(buffer)
        for field in fields(source, begin, end):
            if field.wire == LENGTH:
                yield bytes(source[field.at : field.end])


def _differing(old: Message, new: Message) -> list[FieldDescriptor]:
    """The fields whose value or presence differs, by number."""
    before = {field.number: (field, value) for field, value in old.ListFields()}
    after = {field.number: (field, value) for field, value in new.ListFields()}
    return [
        (after.get(number) or before[number])[0]
        for number in sorted(before.keys() | after.keys())
        if number not in before or number not in after or before[number][1] != after[number][1]
    ]


def _renumbered(payload: bytes, message: Descriptor) -> bytes:
    """A serialised message with the union's own numbers replaced by real ones, in sub-messages too."""
    known = message.fields_by_number
    pieces: list[bytes] = []
    for number, wire, begin, at, end in fields(payload, 0, len(payload)):
        field = known.get(number)
        if field is None:
            pieces.append(payload[begin:end])
        elif is_message(field):
            pieces.append(encode_field(real_number(field), _renumbered(payload[at:end], field.message_type)))
        elif real_number(field) != number:
            length = payload[begin:end][len(encode_tag(number, wire)) :]
            pieces.append(encode_tag(real_number(field), wire) + length)
        else:
            pieces.append(payload[begin:end])
    return b"".join(pieces)
