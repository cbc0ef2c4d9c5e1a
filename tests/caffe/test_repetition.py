"""A net's text read by its repetitions is the message that protobuf's parser makes of the whole."""

from __future__ import annotations

import cases
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.caffe.caffe_pb2 import NetParameter
from bnfold.caffe.repetition import parse_net
from bnfold.caffe.scan import Prototxt


def parsed(text: str) -> NetParameter | None:
    """By repetitions; None where protobuf itself is to be asked."""
    try:
        return parse_net(text, list(Prototxt(text).fields()))
    except (text_format.ParseError, ValueError):
        return None


def whole(text: str) -> NetParameter | None:
    try:
        return text_format.Parse(text, NetParameter())
    except text_format.ParseError:
        return None


@pytest.mark.parametrize("name", cases.goldens())
def test_a_golden_is_the_same_message(name: str) -> None:
    text = (cases.GOLDEN / name / "net.prototxt").read_text()
    found = parsed(text)
    assert found is not None
    assert found == whole(text)


PIECES = [
    'name: "a"',
    'name: "b" ',
    'type: "ReLU"',
    "type: RELU",
    'bottom: "x"',
    'bottom: "y",',
    'top: "x";',
    'top: "z" # made here: "z"\n',
    "top: 'q'",
    'top: "two" "parts"',
    'top: "\\x41\\n"',
    'top: "é"',
    'param { name: "w" }',
    "relu_param { negative_slope: 0.5 }",
    "relu_param < negative_slope: 0.25 >",
    "# nothing\n",
    "phase: TEST",
]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["layer", "layers", "layer:"]), st.lists(st.sampled_from(PIECES), max_size=7)),
        max_size=5,
    ),
    st.sampled_from(["", 'name: "net"', 'name: "net" name: "again"', 'input: "x"']),
)
def test_what_is_read_is_what_protobuf_reads(layers: list[tuple[str, list[str]]], head: str) -> None:
    """It may leave a text to protobuf, but never reads one otherwise, nor one that protobuf would not take."""
    text = head + "\n" + "\n".join(f"{kind} {{ {' '.join(pieces)}\n}}" for kind, pieces in layers)
    found = parsed(text)
    if found is not None:
        assert found == whole(text)


def test_layers_that_say_the_same_are_read_once_and_stay_apart() -> None:
    layer = 'layer {{ name: "{0}" type: "Scale" bottom: "x" top: "{0}" scale_param {{ bias_term: true }} }}'
    found = parsed("".join(map(layer.format, "ab")))
    assert found is not None
    found.layer[0].scale_param.bias_term = False
    assert [(one.name, list(one.top), one.scale_param.bias_term) for one in found.layer] == [
        ("a", ["a"], False),
        ("b", ["b"], True),
    ]
