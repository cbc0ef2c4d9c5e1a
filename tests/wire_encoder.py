"""A tiny protobuf encoder, the tests' own: the package's encoder shall not judge itself.

A message is bytes; `length(7, a, b)` is field 7 whose payload is `a` and `b` in a row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def tag(number: int, wire: int) -> bytes:
    return varint(number * 8 + wire)


def number(field: int, value: int) -> bytes:
    return tag(field, 0) + varint(value)


def length(field: int, *payload: bytes | str) -> bytes:
    joined = b"".join(part.encode() if isinstance(part, str) else part for part in payload)
    return tag(field, 2) + varint(len(joined)) + joined


def floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def doubles(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def halves(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def shape(*dims: int) -> bytes:
    """Field 7 of a BlobProto."""
    return length(7, length(1, *map(varint, dims)))


def blob(values: Sequence[float], *dims: int) -> bytes:
    """A BlobProto of packed floats."""
    return length(5, floats(values)) + (shape(*dims) if dims else b"")


def layer(name: str, layer_type: str, *blobs: bytes, extra: bytes = b"") -> bytes:
    """A field of NetParameter: one V2 layer."""
    return length(100, length(1, name), length(2, layer_type), *(length(7, one) for one in blobs), extra)


def layer_v1(name: str, layer_type: int, *blobs: bytes) -> bytes:
    return length(2, length(4, name), number(5, layer_type), *(length(6, one) for one in blobs))


def layer_v0(name: str, layer_type: str, *blobs: bytes) -> bytes:
    return length(2, length(1, length(1, name), length(2, layer_type), *(length(50, one) for one in blobs)))
