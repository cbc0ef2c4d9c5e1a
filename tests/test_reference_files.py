"""The oracle's own readers: text format, wire format, and the generations of net descriptions."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import pytest
import reference
from reference.binary import read_blob, read_weights
from reference.text import parse


def varint(value: int) -> bytes:
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def packed(values: Iterable[float], kind: str = "f") -> bytes:
    return b"".join(struct.pack(f"<{kind}", value) for value in values)


def shape(*dims: int) -> bytes:
    return message(7, message(1, b"".join(varint(dim) for dim in dims)))


def test_text_has_comments_quotes_and_brackets_of_both_kinds() -> None:
    net = parse("""
        name: 'a "b" # c'  # a comment
        layer < top: "x\\ty" "\\101\\x42" ; > layer { top: 'z', dim: [1, -2, 3] dim: 4 }
        state: { phase: TEST level: 0x10 }
    """)
    assert net.word("name") == 'a "b" # c'
    assert [layer.words("top") for layer in net.subs("layer")] == [["x\tyAB"], ["z"]]
    assert net.subs("layer")[1].integers("dim") == [1, -2, 3, 4]
    assert (net.sub("state").word("phase"), net.sub("state").integer("level", 0)) == ("TEST", 16)


def test_text_numbers_and_words_are_read_as_what_the_reader_asks_for() -> None:
    param = parse("a: 1e-5 b: .5 c: 3. d: 2f e: True f: false g: 1 h: MAX i: -inf pool: 1")
    assert [param.number(name, 9) for name in "abcd"] == [1e-5, 0.5, 3.0, 2.0]
    assert [param.flag(name, name == "f") for name in "efg"] == [True, False, True]
    assert (param.word("h"), param.number("i", 0), param.number("absent", 7)) == ("MAX", -np.inf, 7)
    assert param.enum("pool", "MAX", {0: "MAX", 1: "AVE"}) == "AVE"


def test_text_mentions_of_one_message_are_merged() -> None:
    layer = parse("p { a: 1 } p { b: 2 a: 3 }")
    assert (layer.sub("p").integer("a", 0), layer.sub("p").integer("b", 0)) == (3, 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: 1\nb 2", "line 2: ':'"), ("a {\n b: 1\n", "line 3"), ("a: @", "line 1: cannot read"), ("a: }", "a value")],
)
def test_text_errors_name_the_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    "data",
    [
        message(5, packed([1, 2, 3, 4])),
        message(5, packed([1, 2, 3])) + message(5, packed([4])),
        b"".join(varint(5 << 3 | 5) + packed([value]) for value in (1, 2, 3, 4)),
        message(8, packed([1, 2, 3, 4], "d")),
        b"".join(varint(8 << 3 | 1) + packed([value], "d") for value in (1, 2, 3, 4)),
        number(10, 2) + message(12, packed([1, 2, 3, 4], "e")),
        number(10, 1) + message(12, packed([1, 2, 3, 4])),
        message(5, packed([1, 2, 3, 4])) + message(10, packed([9, 9])) + number(12, 3),
        message(5, packed([1, 2, 3, 4])) + message(6, packed([9, 9, 9, 9])),
    ],
    ids=["packed", "chunks", "unpacked", "doubles", "unpacked doubles", "halves", "raw floats", "vitis", "diff"],
)
def test_blob_data_is_read_in_every_form(data: bytes) -> None:
    blob = read_blob(shape(2, 2) + data)
    np.testing.assert_array_equal(blob, [[1, 2], [3, 4]])


def test_blob_shapes_are_read_in_every_form() -> None:
    data = message(5, packed(range(6)))
    assert read_blob(b"".join(number(i + 1, n) for i, n in enumerate((1, 1, 2, 3))) + data).shape == (1, 1, 2, 3)
    assert read_blob(message(7, number(1, 2) + number(1, 3)) + data).shape == (2, 3)
    assert read_blob(message(7, b"") + message(5, packed([1]))).shape == ()
    assert read_blob(data).shape == (6,)


def test_weights_of_all_generations_are_found_by_name() -> None:
    blob = message(5, packed([7]))
    content = (
        message(1, b"net")
        + message(100, message(1, b"v2") + message(7, blob))
        + message(2, message(4, b"v1") + message(6, blob))
        + message(2, message(1, message(1, b"v0") + message(50, blob)))
        + message(100, message(1, b"no blobs"))
    )
    assert {name: [blob.tolist() for blob in blobs] for name, blobs in read_weights(content).items()} == {
        "v0": [7],
        "v1": [7],
        "v2": [7],
    }


@pytest.mark.parametrize("content", [b"\xa2\x06\x05ab", b"\x80", b"\x0b", b"\x0d\x00"])
def test_damaged_weights_are_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="byte"):
        read_weights(content)


def test_v0_padding_goes_into_the_convolution() -> None:
    net = reference.load(
        """
        input: "data" input_dim: 1 input_dim: 1 input_dim: 3 input_dim: 3
        layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
        layers { layer { name: "c" type: "conv" num_output: 1 kernelsize: 3 biasterm: false } bottom: "pad" top: "c" }
        layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
        """,
        weights={"c": [np.ones((1, 1, 3, 3))]},
    )
    assert net.inputs == {"data": (1, 1, 3, 3)}
    top = net.run({"data": np.ones((1, 1, 3, 3))})["c"]
    np.testing.assert_array_equal(top[0, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


def test_phase_rules_choose_the_layers_of_test() -> None:
    net = reference.load("""
        input: "x" state { level: 2 stage: "a" }
        layer { name: "no" type: "AbsVal" bottom: "x" top: "y" include { phase: TRAIN } }
        layer { name: "no" type: "AbsVal" bottom: "x" top: "y" include { stage: "a" stage: "b" } }
        layer { name: "no" type: "AbsVal" bottom: "x" top: "y" exclude { min_level: 1 } }
        layer { name: "no" type: "AbsVal" bottom: "x" top: "y" include { not_stage: "a" } include { max_level: 1 } }
        layer { name: "yes" type: "AbsVal" bottom: "x" top: "y" include { phase: TRAIN } include { phase: TEST } }
    """)
    assert [layer.name for layer in net.layers] == ["yes"]


def test_training_nets_end_in_softmax_and_need_no_label() -> None:
    net = reference.load("""
        layer { name: "data" type: "Data" top: "data" top: "label" }
        layer { name: "labels" type: "Slice" bottom: "label" top: "a" top: "b" }
        layer { name: "f" type: "TanH" bottom: "data" top: "f" }
        layer { name: "r" type: "ReLU" bottom: "f" top: "f" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "a" top: "loss" }
        layer { name: "hit" type: "Accuracy" bottom: "f" bottom: "b" top: "hit" }
    """)
    assert list(net.inputs) == ["data"]
    assert net.outputs == ["loss"]
    loss = net.run({"data": np.array([[0.0, np.arctanh(0.5)]])})["loss"]
    np.testing.assert_allclose(loss, [[1 / (1 + np.exp(0.5)), 1 / (1 + np.exp(-0.5))]])


def test_overwritten_versions_are_kept_on_request() -> None:
    text = """
        input: "x"
        layer { name: "twice" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
        layer { name: "minus" type: "Power" bottom: "y" top: "y" power_param { scale: -1 } }
        layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
    """
    net = reference.load(text)
    assert net.outputs == ["y"]
    run = {key: blob.tolist() for key, blob in net.run({"x": [[-1.0]]}, versions=True).items()}
    assert run == {"x": [[-1]], "y@twice": [[-2]], "y@minus": [[2]], "y": [[2]]}
    assert sorted(net.run({"x": [[-1.0]]})) == ["x", "y"]


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ('layer { name: "a" type: "TanH" bottom: "z" top: "y" }', "'a' reads z"),
        ('layer { name: "a" type: "TanH" bottom: "x" top: "y" } layer { name: "b" type: "TanH" bottom: "x" top: "y" }',
         "'b' writes y a second time"),
        ('layer { name: "a" type: "TanH" bottom: "x" top: "y" } layers { name: "b" }', "both `layer` and `layers`"),
    ],
)  # fmt: skip
def test_impossible_nets_are_an_error(layers: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        reference.load('input: "x" ' + layers)


def test_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="input 'x' is missing"):
        reference.load('input: "x"').run({})
