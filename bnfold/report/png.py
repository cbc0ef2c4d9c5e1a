"""Pictures as PNG data URIs, with nothing but zlib: reports must not need an imaging library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from bnfold.net import Array


def png(picture: Array) -> bytes:
    """An RGB picture as a PNG file.

    Args:
        picture: (height, width, 3) of uint8.
    """
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def data_uri(picture: Array | None) -> str:
    """A picture as `png` takes it as what goes into `src`; empty when there is none."""
    return "" if picture is None else "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
