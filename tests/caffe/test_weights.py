"""Reading caffemodels: every version and layout of blobs, nothing copied, nothing hostile believed."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
from saving import CONV, WEIGHT, Load, Read
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
)

from bnfold.caffe import blobs
from bnfold.caffe.weights import read_weights

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"


def values(array: object) -> list[float]:
    return np.asarray(array).ravel().tolist()


# Versions


def test_layers_of_version_2_are_found_in_order_with_names_types_and_blobs(read: Read) -> None:
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


def test_version_1_has_its_names_and_blobs_elsewhere(read: Read) -> None:
    record = read(layer_v1("conv", 4, blob([1, 2], 2))).records[0]
    assert (record.name, record.type, record.version, record.type_number) == ("conv", None, 1, 4)
    assert values(record.blobs[0]) == [1, 2]


def test_version_0_is_a_layer_inside_a_layer(read: Read) -> None:
    record = read(layer_v0("conv", "conv", blob([1, 2], 2))).records[0]
    assert (record.name, record.type, record.version) == ("conv", "conv", 0)
    assert values(record.blobs[0]) == [1, 2]


def test_a_record_knows_its_bytes(read: Read) -> None:
    first, second = layer("a", "ReLU"), layer("b", "ReLU")
    file = read(length(1, "net"), first, number(5, 1), second)
    record = file.records[1]
    assert bytes(file.buffer[record.begin : record.end]) == second
    assert record.buffer[record.at : record.end] == second[3:]


def test_the_last_of_two_layers_of_one_name_wins_unless_it_learned_nothing(read: Read) -> None:
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


@pytest.mark.parametrize("first", [WEIGHT, [2.0, *WEIGHT[1:]]])
def test_that_a_layer_is_stored_twice_is_said_where_the_records_differ(load: Load, first: list[float]) -> None:
    once = layer("act", "ReLU"), layer("gone", "Scale", blob([1], 1)), layer("gone", "Scale", blob([2], 1))
    net = load(caffemodel=b"".join([layer("conv", "Convolution", blob(first, 3, 2, 1, 1)), CONV, *once]))
    assert values(net.layers[-2].blobs[0]) == WEIGHT
    said = ["two records of one layer differ, and the last holds, as in Caffe: 'conv' in net.caffemodel"]
    assert net.notes == (said if first != WEIGHT else [])


def test_a_name_that_is_not_utf8_is_read_as_latin1(read: Read) -> None:
    record = read(length(100, length(1, b"caf\xe9"), length(2, "ReLU"))).records[0]
    assert record.name == "café"
    assert record.name_bytes == b"caf\xe9"


def test_hostile_names_are_names(read: Read) -> None:
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
def test_the_values_of_every_layout_are_found(read: Read, message: bytes) -> None:
    for dims in (b"", shape(2, 2)) if message.count(shape(2, 2)) == 0 else (b"",):
        record = read(layer("a", "Scale", message + dims)).records[0]
        assert record.problem == ""
        assert values(record.blobs[0]) == FOUR
        assert not record.blobs[0].flags.writeable


def test_half_precision_is_read_as_float32_when_it_is_read(read: Read) -> None:
    stored = (
        read(layer("a", "Scale", number(10, 2) + length(12, halves(FOUR)) + shape(2, 2))).records[0].blobs.stored[0]
    )
    assert isinstance(stored, blobs.Half)
    assert stored.shape == (2, 2)
    assert stored.array().dtype == stored.dtype == np.float32
    assert np.concatenate(list(stored.chunks())).tolist() == FOUR


def test_packed_values_are_views_on_the_file(read: Read) -> None:
    file = read(
        layer("a", "Scale", blob(FOUR, 2, 2), length(8, doubles(FOUR)), number(10, 1) + length(12, floats(FOUR)))
    )
    for array in file.records[0].blobs:
        while isinstance(array.base, np.ndarray):
            array = array.base
        base = array.base
        assert (base.obj if isinstance(base, memoryview) else base) is file.buffer
    assert isinstance(file.buffer, mmap.mmap)


def test_a_long_unpacked_blob_is_read_fast_and_whole(read: Read) -> None:
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
def test_the_shape_is_the_one_that_caffe_would_see(read: Read, dims: bytes, wanted: tuple[int, ...]) -> None:
    record = read(layer("a", "Scale", length(5, floats(FOUR)) + dims)).records[0]
    assert record.problem == ""
    assert record.blobs.shapes == (wanted,)


def test_an_empty_shape_is_a_scalar_and_an_empty_blob_is_empty(read: Read) -> None:
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
        shape(0),
        length(7),
        number(1, 4),
        number(1, -4) + number(2, -1) + number(3, 1) + number(4, 1),
    ],
)
def test_a_shape_that_does_not_fit_is_a_problem_of_the_layer_and_no_crash(read: Read, dims: bytes) -> None:
    record = read(layer("a", "Scale", blob([1], 1), length(5, floats(FOUR)) + dims)).records[0]
    assert record.problem.startswith("blob 1 says that its shape is ")
    assert record.problem.endswith(", and holds 4 values")
    assert len(record.problem) < 300
    assert values(record.blobs[1]) == FOUR


@pytest.mark.parametrize("dims", [shape(*[1] * 40, 4), shape(*[1] * 100_000)])
def test_a_shape_of_too_many_axes_is_named(read: Read, dims: bytes) -> None:
    record = read(layer("a", "Scale", blob([1], 1), length(5, floats(FOUR)) + dims)).records[0]
    shown = "blob 1 says that its shape is 1x1x1x1x1x1x1x1x..."
    assert record.problem == f"{shown}, of more axes than the 32 that Caffe allows"
    assert values(record.blobs[1]) == FOUR


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (number(10, 3) + length(12, b"12345678"), "blob 0 is stored as raw data of type 3"),
        (number(10, 1) + length(12, b"12345"), "blob 0 has 5 bytes of raw data, no multiple of 4"),
    ],
)
def test_raw_data_that_makes_no_sense_is_a_problem(read: Read, message: bytes, problem: str) -> None:
    assert read(layer("a", "Scale", message)).records[0].problem.startswith(problem)


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
