"""Reads the learned blobs out of a caffemodel, straight from protobuf's wire format.

Only the numbers that all dialects agree on are looked at:

    NetParameter      layers = 2 (V1), layer = 100
    LayerParameter    name = 1, blobs = 7
    V1LayerParameter  layer = 1 (V0), name = 4, blobs = 6
    V0LayerParameter  name = 1, blobs = 50
    BlobProto         num, channels, height, width = 1..4, data = 5, shape = 7, double_data = 8,
                      raw_data_type = 10, raw_data = 12 (NVCaffe; Vitis uses both numbers with other wire types)
    BlobShape         dim = 1
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
RAW_TYPES: dict[int, str] = {0: "<f8", 1: "<f4", 2: "<f2"}


def read_weights(content: bytes) -> dict[str, list[Array]]:
    """Layer name -> its blobs. Layers without blobs are left out; of two layers of one name the later one counts."""
    weights = {}
    for number, wire, layer in fields(content):
        if wire != BYTES or number not in (2, 100):
            continue
        name, blobs = read_layer(layer) if number == 100 else read_v1_layer(layer)
        if blobs:
            weights[name] = blobs
    return weights


def param_counts(content: bytes) -> dict[str, int]:
    """Layer name -> how many `param {}` its record has, which for a BN tells two Caffes apart."""
    counts = {}
    for number, wire, layer in fields(content):
        if number == 100 and wire == BYTES:
            counts[read_layer(layer)[0]] = sum(inner == 6 for inner, _, _ in fields(layer))
    return counts


def read_layer(content: bytes, name_number: int = 1, blobs_number: int = 7) -> tuple[str, list[Array]]:
    name, blobs = "", []
    for number, wire, value in fields(content):
        if number == name_number and wire == BYTES:
            name = value.decode("utf-8")
        elif number == blobs_number and wire == BYTES:
            blobs.append(read_blob(value))
    return name, blobs


def read_v1_layer(content: bytes) -> tuple[str, list[Array]]:
    """A V1 layer, or the V0 layer inside it."""
    for number, wire, value in fields(content):
        if number == 1 and wire == BYTES:
            return read_layer(value, name_number=1, blobs_number=50)
    return read_layer(content, name_number=4, blobs_number=6)


def read_blob(content: bytes) -> Array:
    """A blob in its own shape, as float32, or float64 if it was stored so; NVCaffe's half floats become float32."""
    legacy = {}
    shape: list[int] | None = None
    floats: list[bytes] = []
    doubles: list[bytes] = []
    raw, raw_type = b"", None
    for number, wire, value in fields(content):
        if number in (1, 2, 3, 4) and wire == VARINT:
            legacy[number] = value
        elif number == 5 and wire in (BYTES, FIXED32):
            floats.append(value)
        elif number == 7 and wire == BYTES:
            shape = read_shape(value)
        elif number == 8 and wire in (BYTES, FIXED64):
            doubles.append(value)
        elif number == 10 and wire == VARINT:
            raw_type = value
        elif number == 12 and wire == BYTES:
            raw = value
    if shape is None:
        shape = [legacy.get(number, 0) for number in (1, 2, 3, 4)] if legacy else []
    if doubles:
        flat = np.frombuffer(b"".join(doubles), "<f8")
    elif floats or raw_type is None:
        flat = np.frombuffer(b"".join(floats), "<f4")
    else:
        flat = np.frombuffer(raw, RAW_TYPES[raw_type])
        flat = flat.astype(np.float32) if flat.dtype.itemsize == 2 else flat
    if not shape and flat.size != 1:
        shape = [flat.size]
    return flat.reshape(shape)


def read_shape(content: bytes) -> list[int]:
    dims = []
    for number, wire, value in fields(content):
        if number != 1:
            continue
        if wire == VARINT:
            dims.append(value)
            continue
        position = 0
        while position < len(value):
            dim, position = read_varint(value, position)
            dims.append(dim)
    return dims


def fields(content: bytes) -> Iterator[tuple[int, int, Any]]:
    """Each field of a message: its number, its wire type, and an int for a varint or else the bytes."""
    position = 0
    while position < len(content):
        key, position = read_varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = read_varint(content, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = read_varint(content, position)
        elif wire in (FIXED32, FIXED64):
            size = struct.calcsize("<i" if wire == FIXED32 else "<q")
        else:
            raise ValueError(f"byte {position}: wire type {wire} is not used by protobuf any more")
        if position + size > len(content):
            raise ValueError(f"byte {position}: field {number} is cut off")
        yield number, wire, content[position : position + size]
        position += size


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, least significant first, and the position after it."""
    value = shift = 0
    while True:
        if position >= len(content):
            raise ValueError(f"byte {position}: a varint is cut off")
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
