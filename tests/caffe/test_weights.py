"""Reading caffemodels: every version and layout of blobs, nothing copied, nothing hostile believed."""

from __future__ import annotations

import contextlib
import mmap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    shape,
    tag,
    varint,
)

from bnfold.caffe import blobs, weights
from bnfold.caffe.weights import WeightsFile, read_weights
from bnfold.errors import BnfoldError, ParseError

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"


@pytest.fixture
def read(tmp_path: Path):
    def read(*content: bytes) -> WeightsFile:
        path = tmp_path / "net.caffemodel"
        path.write_bytes(b"".join(content))
        return read_weights(path)

    return read


def values(array: object) -> list[float]:
    return np.asarray(array).ravel().tolist()


# Versions


def test_layers_of_version_2_are_found_in_order_with_names_types_and_blobs(read) -> None:
    file = read(
        length(1, "net"),
        layer("conv", "Convolution", blob([1, 2, 3, 4], 2, 2), blob([5, 6], 2)),
        layer("relu", "ReLU"),
    )
    assert [(record.name, record.type, record.version) for record in file.records] == [
        ("conv", "Convolution", 2),
        ("relu", "ReLU", 2),
    ]
    weight, bias = file.records[0].blobs
    assert weight.tolist() == [[1, 2], [3, 4]]
    assert bias.tolist() == [5, 6]
    assert len(file.records[1].blobs) == 0


def test_version_1_has_its_names_and_blobs_elsewhere(read) -> None:
    record = read(layer_v1("conv", 4, blob([1, 2], 2))).records[0]
    assert (record.name, record.type, record.version, record.type_number) == ("conv", None, 1, 4)
    assert values(record.blobs[0]) == [1, 2]


def test_version_0_is_a_layer_inside_a_layer(read) -> None:
    record = read(layer_v0("conv", "conv", blob([1, 2], 2))).records[0]
    assert (record.name, record.type, record.version) == ("conv", "conv", 0)
    assert values(record.blobs[0]) == [1, 2]


def test_a_record_knows_its_bytes(read) -> None:
    first, second = layer("a", "ReLU"), layer("b", "ReLU")
    file = read(length(1, "net"), first, number(5, 1), second)
    record = file.records[1]
    assert bytes(file.buffer[record.begin : record.end]) == second
    assert bytes(record.raw) == second[3:]


def test_the_last_of_two_layers_of_one_name_wins_unless_it_learned_nothing(read) -> None:
    file = read(
        layer("a", "InnerProduct", blob([1], 1)),
        layer("a", "InnerProduct", blob([2], 1)),
        layer("a", "InnerProduct"),
        layer("b", "ReLU"),
    )
    found = file.find("a")
    assert found is not None
    assert values(found.blobs[0]) == [2]
    assert file.find("b") is file.records[3]
    assert file.find("c") is None


def test_a_name_that_is_not_utf8_is_read_as_latin1(read) -> None:
    record = read(length(100, length(1, b"caf\xe9"), length(2, "ReLU"))).records[0]
    assert record.name == "café"
    assert record.name_bytes == b"caf\xe9"


def test_hostile_names_are_names(read) -> None:
    names = ["a\0b", "a\nb", "<script>", "../../etc/passwd", ""]
    file = read(*(layer(name, "ReLU") for name in names))
    assert [record.name for record in file.records] == names


# Layouts of a blob

FOUR = [1.5, -2.0, 3.25, -4.0]


@pytest.mark.parametrize(
    "message",
    [
        length(5, floats(FOUR)),
        length(5, floats(FOUR[:1])) + length(5, floats(FOUR[1:])),
        length(5, floats(FOUR[:2])) + shape(2, 2) + length(5) + length(5, floats(FOUR[2:])),
        b"".join(tag(5, 5) + floats([value]) for value in FOUR),
        tag(5, 5) + floats(FOUR[:1]) + length(5, floats(FOUR[1:3])) + tag(5, 5) + floats(FOUR[3:]),
        length(8, doubles(FOUR)),
        b"".join(tag(8, 1) + doubles([value]) for value in FOUR),
        length(5, floats([9, 9, 9, 9])) + length(8, doubles(FOUR)),
        length(6, floats([9, 9, 9, 9])) + length(5, floats(FOUR)) + length(9, doubles([9, 9, 9, 9])),
        number(10, 2) + length(12, halves(FOUR)),
        number(10, 1) + length(12, floats(FOUR)),
        length(12, doubles(FOUR)) + number(10, 0),
        length(12, doubles(FOUR)),
        number(10, 2) + length(12, halves(FOUR)) + length(5, floats([9, 9, 9, 9])),
        length(10, floats([7])) + length(11, doubles([7])) + number(12, 3) + length(5, floats(FOUR)),
    ],
    ids=[
        "packed",
        "two chunks",
        "chunks around the shape",
        "unpacked",
        "mixed",
        "double",
        "double unpacked",
        "double wins over float",
        "gradients are skipped",
        "raw half",
        "raw float",
        "raw double",
        "raw without a type is double",
        "raw wins over float",
        "Vitis' mask and format",
    ],
)
def test_the_values_of_every_layout_are_found(read, message: bytes) -> None:
    for dims in (b"", shape(2, 2)) if message.count(shape(2, 2)) == 0 else (b"",):
        record = read(layer("a", "Scale", message + dims)).records[0]
        assert record.problem == ""
        assert values(record.blobs[0]) == FOUR
        assert not record.blobs[0].flags.writeable


def test_half_precision_is_read_as_float32_when_it_is_read(read) -> None:
    stored = (
        read(layer("a", "Scale", number(10, 2) + length(12, halves(FOUR)) + shape(2, 2))).records[0].blobs.stored[0]
    )
    assert isinstance(stored, blobs.Half)
    assert stored.shape == (2, 2)
    assert stored.array().dtype == stored.dtype == np.float32
    assert np.concatenate(list(stored.chunks())).tolist() == FOUR


def test_packed_values_are_views_on_the_file(read) -> None:
    file = read(
        layer("a", "Scale", blob(FOUR, 2, 2), length(8, doubles(FOUR)), number(10, 1) + length(12, floats(FOUR)))
    )
    for array in file.records[0].blobs:
        while isinstance(array.base, np.ndarray):
            array = array.base
        base = array.base
        assert (base.obj if isinstance(base, memoryview) else base) is file.buffer
    assert isinstance(file.buffer, mmap.mmap)


def test_a_long_unpacked_blob_is_read_fast_and_whole(read) -> None:
    count = 300_001
    table = np.empty(count, np.dtype([("tag", "u1"), ("value", "<f4")]))
    table["tag"], table["value"] = 0x2D, np.arange(count)
    record = read(
        layer("a", "Scale", table.tobytes() + shape(count) + tag(5, 5) + floats([7])[:0] + floats([7]))
    ).records[0]
    assert record.blobs[0].shape == (count + 1,)  # one value too many for the shape, so it comes flat
    assert record.problem != ""
    assert np.array_equal(record.blobs[0][:-1], np.arange(count))
    assert record.blobs[0][-1] == 7


# Shapes


@pytest.mark.parametrize(
    ("dims", "wanted"),
    [
        (b"", (4,)),
        (shape(4), (4,)),
        (shape(1, 2, 1, 2), (1, 2, 1, 2)),
        (length(7, number(1, 2), number(1, 2)), (2, 2)),
        (shape(2) + shape(2), (2, 2)),
        (number(1, 1) + number(2, 1) + number(3, 2) + number(4, 2), (1, 1, 2, 2)),
        (number(1, 1) + number(2, 4) + number(3, 1) + number(4, 1) + shape(2, 2), (1, 4, 1, 1)),
        (number(1, 0) + number(2, 0) + number(3, 0) + number(4, 0) + shape(2, 2), (2, 2)),
    ],
    ids=["none", "1-D", "4-D", "unpacked dims", "merged", "legacy", "legacy wins, as in Caffe", "legacy zeros"],
)
def test_the_shape_is_the_one_that_caffe_would_see(read, dims: bytes, wanted: tuple[int, ...]) -> None:
    record = read(layer("a", "Scale", length(5, floats(FOUR)) + dims)).records[0]
    assert record.problem == ""
    assert record.blobs.shapes == (wanted,)


def test_an_empty_shape_is_a_scalar_and_an_empty_blob_is_empty(read) -> None:
    record = read(layer("a", "Scale", length(5, floats([3])) + length(7), b"", shape(0, 5))).records[0]
    assert record.blobs.shapes == ((), (0,), (0, 5))
    assert record.problem == ""


@pytest.mark.parametrize(
    "dims",
    [
        shape(5),
        shape(2, 3),
        shape(-1, -4),
        shape(2**31, 2**31),
        shape(0, 2**62, 2**62, 2**62),
        shape(*[2**63 - 1] * 30),
        shape(*[1] * 40, 4),
        shape(*[1] * 100_000),
        shape(0),
        length(7),
        number(1, 4),
        number(1, -4) + number(2, -1) + number(3, 1) + number(4, 1),
    ],
)
def test_a_shape_that_does_not_fit_is_a_problem_of_the_layer_and_no_crash(read, dims: bytes) -> None:
    record = read(layer("a", "Scale", blob([1], 1), length(5, floats(FOUR)) + dims)).records[0]
    assert record.problem.startswith("blob 1 says that its shape is ")
    assert record.problem.endswith(", and holds 4 values")
    assert len(record.problem) < 300
    assert values(record.blobs[1]) == FOUR


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (number(10, 3) + length(12, b"12345678"), "blob 0 is stored as raw data of type 3"),
        (number(10, 1) + length(12, b"12345"), "blob 0 has 5 bytes of raw data, no multiple of 4"),
    ],
)
def test_raw_data_that_makes_no_sense_is_a_problem(read, message: bytes, problem: str) -> None:
    assert read(layer("a", "Scale", message)).records[0].problem.startswith(problem)


# Files that are no caffemodels


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404", "is a web page"),
        (b"\n\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run `git lfs pull`"),
        (b'name: "net"\nlayer {\n  name: "a"\n}\n', "is text and not a caffemodel"),
        (b"\xef\xbb\xbflayer { }", "is text and not a caffemodel"),
        (b"PK\x03\x04\0\0\0\0", "is a zip archive"),
        (b"\x1f\x8b\x08\0\0\0\0", "compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "is a damaged HDF5 file"),
        (length(1, "net"), "holds no layers"),
        (b"\x80" * 50, "is damaged or cut short, or is not a caffemodel"),
        (layer("a", "ReLU")[:-1], "is damaged or cut short"),
        (layer("a", "Scale", length(5, b"12345")), "take 5 bytes, no multiple of 4 at byte"),
    ],
)
def test_what_is_no_caffemodel_is_named(read, content: bytes, sentence: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(content)
    assert sentence in str(caught.value)
    assert "net.caffemodel: " in str(caught.value)
    assert caught.value.file is not None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, sentence in [
        (tmp_path / "missing.caffemodel", "No such file"),
        (tmp_path, "Is a directory"),
        (Path("/dev/zero"), "is not a regular file"),
        (Path("a\0b"), "null"),
    ]:
        with pytest.raises(ParseError) as caught:
            read_weights(path)
        assert sentence in str(caught.value)


def every_layout() -> bytes:
    return b"".join(
        [
            length(1, "net"),
            layer(
                "a", "Scale", blob(FOUR, 2, 2), length(5, floats([1])) + length(5, floats([2])) + length(6, floats([3]))
            ),
            layer("b", "Scale", number(10, 2) + length(12, halves(FOUR)), length(8, doubles([1])) + number(2, 1)),
            layer_v1("c", 4, tag(5, 5) + floats([1])),
            layer_v0("d", "conv", blob([1, 2], 2)),
            tag(7, 3) + number(1, 1) + tag(7, 4),
        ]
    )


def test_a_file_cut_anywhere_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    whole = every_layout()
    path = tmp_path / "net.caffemodel"
    whole_layers = []
    refused = 0
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        try:
            whole_layers.append(len(read_weights(path).records))
        except BnfoldError as error:
            refused += str(error).startswith(f"{path}: ")
    assert sorted(set(whole_layers)) == [1, 2, 3, 4]
    assert refused == len(whole) + 1 - len(whole_layers)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused_with_a_sentence(
    data: st.DataObject, tmp_path_factory
) -> None:
    content = bytearray(every_layout())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.caffemodel"
    path.write_bytes(content)
    with contextlib.suppress(BnfoldError):
        for record in read_weights(path).records:
            assert all(array.size <= len(content) for array in record.blobs)


def test_a_million_layers_are_refused_without_taking_the_memory(read) -> None:
    with pytest.raises(ParseError, match=f"more than {weights.MAX_LAYERS:,} layers"):
        read(length(100) * 1_000_000)


def test_a_million_blobs_are_refused(read, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared is not here")
def test_every_caffemodel_of_the_zoo_is_read() -> None:
    paths = sorted(ZOO.rglob("*.caffemodel"))
    assert len(paths) > 30
    for path in paths:
        file = read_weights(path)
        assert file.records, path
        assert not any(record.problem for record in file.records), path


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared is not here")
def test_half_precision_files_give_what_their_float_twins_give() -> None:
    half, full = (
        read_weights(ZOO / "trained" / name / "net.caffemodel")
        for name in ("hyperlpr_finemapping_fp16", "hyperlpr_finemapping")
    )
    compared = 0
    for record in full.records:
        twin = half.find(record.name)
        for mine, other in zip(record.blobs, twin.blobs if twin else (), strict=True):
            assert np.allclose(mine, other, rtol=1e-3, atol=1e-6)
            compared += 1
    assert compared == 8
