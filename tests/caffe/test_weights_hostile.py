"""Reading what is no caffemodel, a damaged one, or one made to hurt: a sentence, little memory, no crash."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from saving import Read
from wire_encoder import (
    blob,
    doubles,
    floats,
    halves,
    layer,
    layer_v0,
    layer_v1,
    length,
    number,
    tag,
    varint,
)

from bnfold.caffe import weights
from bnfold.caffe.weights import read_weights
from bnfold.errors import BnfoldError, ParseError

FOUR = [1.5, -2.0, 3.25, -4.0]


# Files that are no caffemodels


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404", "is a web page"),
        (b"\n\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run `git lfs pull`"),
        (b'name: "net"\nlayer {\n  name: "a"\n}\n', "is text and not a caffemodel"),
        (b'net: "train_val.prototxt"\nbase_lr: 0.01\n', "is text and not a caffemodel"),
        (b"n01440764 tench\nn01443537 goldfish\n", "is text and not a caffemodel"),
        (b"\xef\xbb\xbflayer { }", "is text and not a caffemodel"),
        (b'layer {\n  name: "a"\n  blobs {\n data: 1 } }', "is a caffemodel as text, and Caffe reads it as binary"),
        (b"PK\x03\x04\0\0\0\0", "is an archive"),
        (b"\x1f\x8b\x08\0\0\0\0", "is a compressed file and not a caffemodel"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "is damaged or cut short, or is not an HDF5 file: Unable to"),
        (length(1, "net"), "holds no layers"),
        (
            b"\x08\x64" + length(2, "net_iter_100.caffemodel") + length(3, length(5, b"1234")),
            "is the state of a solver",
        ),
        (b"\x08\x64" + length(3, length(5, b"1234")) + b"\x20\x01", "give the .caffemodel that was saved beside it"),
        (b"\x08\x01\x10\x03\x18\x01\x20\x01" + length(5, b"123456789012"), "is one blob, as the file of a mean is"),
        (length(5, b"123456789012") + length(7, length(1, b"\1\3")), "is one blob, as the file of a mean is"),
        (b"\x08\x0a" + length(2, "pytorch") + length(7, length(2, "main_graph")), "is an ONNX model"),
        (b"\x08\x64" + length(9, "?"), "holds no layers"),
        (b"\x80" * 50, "is damaged or cut short, or is not a caffemodel"),
        (layer("a", "ReLU")[:-1], "is damaged or cut short"),
        (layer("a", "Scale", length(5, b"12345")), "take 5 bytes, no multiple of 4 at byte"),
    ],
)
def test_what_is_no_caffemodel_is_named(read: Read, content: bytes, sentence: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(content)
    assert sentence in str(caught.value)
    assert "net.caffemodel: " in str(caught.value)
    assert caught.value.file is not None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, sentence in [
        (tmp_path / "missing.caffemodel", "No such file"),
        (tmp_path, "is a folder; give a file"),
        (Path("/dev/zero"), "is not a regular file; copy what it holds into one"),
        (Path("a\0b"), "null"),
    ]:
        with pytest.raises(ParseError) as caught:
            read_weights(path)
        assert sentence in str(caught.value)


def every_layout(version: int = 2) -> bytes:
    new = [
        layer("a", "Scale", blob(FOUR, 2, 2), length(5, floats([1])) + length(5, floats([2])) + length(6, floats([3]))),
        layer("b", "Scale", number(10, 2) + length(12, halves(FOUR)), length(8, doubles([1])) + number(2, 1)),
    ]
    old = [layer_v1("c", 4, tag(5, 5) + floats([1])), layer_v0("d", "conv", blob([1, 2], 2))]
    rest = tag(7, 3) + number(1, 1) + tag(7, 4)
    return b"".join([length(1, "net"), *(new if version == 2 else old), rest])


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_cut_anywhere_is_read_or_refused_with_a_sentence(tmp_path: Path, version: int) -> None:
    whole = every_layout(version)
    path = tmp_path / "net.caffemodel"
    whole_layers = []
    refused = 0
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        try:
            whole_layers.append(len(read_weights(path).records))
        except BnfoldError as error:
            refused += str(error).startswith(f"{path}: ")
    assert sorted(set(whole_layers)) == [1, 2]
    assert refused == len(whole) + 1 - len(whole_layers)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), version=st.sampled_from([1, 2]))
def test_a_file_with_any_bytes_changed_is_read_or_refused_with_a_sentence(
    data: st.DataObject, version: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(every_layout(version))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.caffemodel"
    path.write_bytes(content)
    with contextlib.suppress(BnfoldError):
        for record in read_weights(path).records:
            assert all(array.size <= len(content) for array in record.blobs)


@pytest.mark.parametrize("old", [layer_v1("c", 4, blob([3], 1)), layer_v0("c", "conv", blob([3], 1))])
@pytest.mark.parametrize("turned", [False, True])
def test_a_file_of_two_versions_is_refused_as_caffe_does(read: Read, old: bytes, turned: bool) -> None:
    parts = [layer("a", "Scale", blob([1], 1)), old]
    with pytest.raises(ParseError, match=r"layer 'c' as `layers` \(V1\) and 'a' as `layer` \(V2\)"):
        read(*(parts[::-1] if turned else parts))
    assert [record.version < 2 for record in read(old, old).records] == [True, True]


def test_a_million_layers_are_refused_without_taking_the_memory(read: Read) -> None:
    with pytest.raises(ParseError, match=f"more than {weights.MAX_LAYERS:,} layers"):
        read(length(100) * 1_000_000)


def test_a_million_blobs_are_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BLOBS", 10_000)
    with pytest.raises(ParseError, match="blobs, which no network has"):
        read(length(100, length(7) * 20_000))


def test_memory_follows_the_layers_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.caffemodel"
    with path.open("wb") as stream:
        size = 64 << 20
        values_field = tag(5, 2) + varint(size)
        stream.write(tag(100, 2) + varint(size + len(values_field) + 3 + 5) + length(1, "a"))
        stream.write(tag(7, 2) + varint(size + len(values_field)) + values_field)
        stream.truncate(stream.tell() + size)
    tracemalloc.start()
    try:
        file = read_weights(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.records[0].blobs.shapes == ((size // 4,),)
    assert peak < 1 << 20
