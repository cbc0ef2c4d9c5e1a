"""Hostile data for a comparison: arrays, means and pictures that are not what they say."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bnfold.data.arrays import read_arrays
from bnfold.data.datasets import Files, Images
from bnfold.data.preparation import Preparation, read_mean_file
from bnfold.errors import BnfoldError, ParseError


def npy(shape: str, data: bytes = b"", dtype: str = "'<f4'") -> bytes:
    """A file in numpy's format with any header."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zipped(content: bytes, name: str = "data.npy") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return write


def damaged(path: Path) -> None:
    """A sound archive with a byte of its compressed data changed."""
    np.savez_compressed(path, data=np.arange(1000, dtype=np.float32))
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)


ARRAYS: dict[str, bytes | Callable[[Path], None]] = {
    "huge.npy": npy("(1000000000000, 1, 8, 8)"),
    "negative.npy": npy("(-1, 8)"),
    "pickle.npy": npy("(1,)", b"cos\nsystem\n(S'true'\ntR.", "'|O'"),
    "pickle.npz": zipped(npy("(1,)", b"cos\nsystem\n(S'true'\ntR.", "'|O'")),
    "text.npy": npy("(2,)", b"\0" * 40, "'<U5'"),
    "dates.npy": npy("(2,)", b"\0" * 16, "'<M8[s]'"),
    "fields.npy": npy("(2,)", b"\0" * 16, "[('a','<f4'),('b','<f4')]"),
    "complex.npy": npy("(2,)", b"\0" * 16, "'<c8'"),
    "short.npy": npy("(4,)", b"\0" * 15),
    "brackets.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 200_000) + b"(" * 200_000,
    "code.npy": npy("(__import__('os').getpid(),)"),
    "nothing.npy": b"",
    "short.npz": zipped(npy("(1000,)")),
    "damaged.npz": damaged,
    "no_zip.npz": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_hostile_array_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    path, content = tmp_path / name, ARRAYS[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    with pytest.raises(ParseError) as caught:
        read_arrays(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "allow_pickle" not in str(caught.value)


def test_names_in_an_archive_are_names_and_no_paths(tmp_path: Path) -> None:
    zipped(npy("(1,)", b"\0" * 4), "../../x.npy")(tmp_path / "names.npz")
    assert list(read_arrays(tmp_path / "names.npz")) == ["../../x"]
    assert [path.name for path in tmp_path.iterdir()] == ["names.npz"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\xff\xff\xff\xff\x07\x10\xff\xff\xff\xff\x07",
        b"\xff" * 50,
        b"",
        b"\x2a\x03abc",
    ],
)
def test_a_hostile_mean_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(content)
    with pytest.raises(BnfoldError, match=r"^\S+mean\.binaryproto: is not a (BlobProto|mean image): "):
        read_mean_file(tmp_path / "mean.binaryproto")


def picture(width: int, height: int) -> bytes:
    """A PNG that says its size and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("50,000 x 50,000.png", picture(50_000, 50_000)),
        ("14,000 x 14,000.png", picture(14_000, 14_000)),
        ("10,000 x 10,000.png", picture(10_000, 10_000)),
        ("0 x 0.png", picture(0, 0)),
        ("cut.png", picture(100, 100)[:60]),
        ("garbage.jpg", b"\xff\xd8\xff" + b"garbage" * 100),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_picture_is_refused_in_a_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    images = Images("data", 1, (8, 8), Files([tmp_path / name], tmp_path), Preparation())
    with pytest.raises(BnfoldError, match="cannot be read as an image"):
        images.sample(0)
