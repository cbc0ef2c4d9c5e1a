"""Walking protobuf's wire format without a schema: which fields lie where in a buffer, and nothing more.

A message is a row of fields: a tag (a varint, `number << 3 | wire type`) and a payload. The walk reads tags and lengths
and jumps over every payload, so its cost follows the number of fields and not the size of the file. It calls nothing
recursively, never reads outside the span it was given, and every fault is a sentence with the byte where it is.

Never done here: knowing what a field means, copying a payload, trusting a length.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from bnfold.errors import ParseError

# The three wire types that have a use of their own here; FIXED64 and FIXED32 are payloads of 8 and 4 bytes.
VARINT = 0
FIXED64 = 1
LENGTH = 2
GROUP_START = 3
GROUP_END = 4
FIXED32 = 5

# protobuf's own readers stop at the same two limits.
MAX_VARINT_BYTES = 10
MAX_GROUP_DEPTH = 100
MAX_MESSAGE = (1 << 31) - 1
"""Bytes of the largest message that protobuf's implementations read."""

Buffer: TypeAlias = bytes | memoryview | mmap.mmap


class WireError(ParseError):
    """The bytes are not a protobuf message; `offset` is where that shows."""

    def __init__(self, message: str, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{message} at byte {offset}")


class Field(NamedTuple):
    """One field of a message: its number, its wire type, and where it lies in the buffer.

    `begin` is the first byte of the tag, `at` the first byte of the payload and `end` the byte after it.
    """

    number: int
    wire: int
    begin: int
    at: int
    end: int


def fields(buffer: Buffer, at: int, end: int) -> Iterator[Field]:
    """The fields of the message in `buffer[at:end]`, in order; a group is one field. Raises `WireError`."""
    new = tuple.__new__  # NamedTuple's own constructor costs as much as the rest of the loop
    while at < end:
        begin = at
        tag = buffer[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = varint(buffer, at, end)
        wire = tag & 7
        if wire == LENGTH:
            if at < end and (length := buffer[at]) < 0x80:
                at += 1
            else:
                length, at = varint(buffer, at, end)
            stop = at + length
        elif wire == VARINT:
            stop = at + 1 if at < end and buffer[at] < 0x80 else varint(buffer, at, end)[1]
        elif wire == FIXED32:
            stop = at + 4
        elif wire == FIXED64:
            stop = at + 8
        else:
            stop = _past_group(buffer, tag, begin, at, end)
        if stop > end:
            raise WireError(f"a field needs {stop - at:,} bytes, and only {end - at:,} are left", begin)
        if not 8 <= tag < 1 << 32:
            raise WireError("a field has a number that protobuf does not allow", begin)
        yield new(Field, (tag >> 3, wire, begin, at, stop))
        at = stop


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """The unsigned number that starts at `at`, and the position after it. Raises `WireError`."""
    begin, shift, number = at, 0, 0
    while at < end:
        byte = buffer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift == 7 * MAX_VARINT_BYTES:
            raise WireError(f"a number goes on for more than {MAX_VARINT_BYTES} bytes", begin)
    raise WireError("the file ends inside a number", begin)


def signed(number: int) -> int:
    """What a varint of type int32 or int64 means: negative numbers are stored as 64-bit two's complement."""
    return number - (1 << 64) if number >= 1 << 63 else number


def encode_varint(number: int) -> bytes:
    """The bytes of a number from 0 to 2^64 - 1."""
    if number <= 0x7F:
        return _SINGLE_BYTES[number : number + 1]
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SINGLE_BYTES = bytes(range(0x80))


def encode_tag(number: int, wire: int) -> bytes:
    """The bytes in front of a payload."""
    return encode_varint(number << 3 | wire)


def encode_field(number: int, payload: bytes) -> bytes:
    """A whole length-delimited field: a string, bytes or a message."""
    return encode_tag(number, LENGTH) + encode_varint(len(payload)) + payload


def _past_group(buffer: Buffer, tag: int, begin: int, at: int, end: int) -> int:
    """The position after a group (protobuf's old, bracketed messages), whose inner fields nobody here reads."""
    open_groups: list[int] = []
    while True:
        wire = tag & 7
        if wire == GROUP_START:
            open_groups.append(tag >> 3)
            if len(open_groups) > MAX_GROUP_DEPTH:
                raise WireError(f"groups are nested more than {MAX_GROUP_DEPTH} deep", begin)
        elif wire == GROUP_END:
            if not open_groups or open_groups.pop() != tag >> 3:
                raise WireError("a group ends that was not open", begin)
            if not open_groups:
                return at
        elif wire == VARINT:
            at = varint(buffer, at, end)[1]
        elif wire == LENGTH:
            length, at = varint(buffer, at, end)
            at += length
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        else:
            raise WireError("a field has a wire type that protobuf does not know", begin)
        if at >= end:
            raise WireError("the file ends inside a group", begin)
        begin = at
        tag, at = varint(buffer, at, end)
