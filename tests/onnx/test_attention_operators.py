"""onnxruntime's operators of transformers, and the standard's, are computed in float64 as onnxruntime computes them."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.onnx.attention_operators import ATTENTION_OPERATORS
from bnfold.onnx.double import in_double
from bnfold.onnx.evaluator import Evaluator
from bnfold.runtime import Session

RANDOM = np.random.default_rng(0)


def _normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def _mask(*shape: int) -> Array:
    return np.asarray(RANDOM.integers(0, 2, shape), np.int32)


STORED: dict[str, Array] = {
    "added": _normal(2, 4, 3, 5),
    "added1": _normal(1, 4, 3, 3),
    "bias24": _normal(24),
    "bias28": _normal(28),
    "cos": np.cos(np.outer(np.arange(9), [1.0, 0.3])).astype(np.float32),
    "ends": np.array([2, 3], np.int32),
    "ends_starts": np.array([3, 2, 1, 0], np.int32),
    "from": np.array([4]),
    "key": _normal(2, 5, 8),
    "key4": _normal(2, 4, 5, 2),
    "mask2": np.array([[1, 1, 0], [1, 0, 0]], np.int32),
    "mask25": np.array([[1, 1, 0, 1, 1], [0, 0, 1, 0, 1]], np.int32),
    "mask3": _mask(2, 3, 3),
    "mask355": _mask(2, 3, 5),
    "past": _normal(2, 2, 4, 2, 2),
    "past_key": _normal(2, 4, 2, 2),
    "past_value": _normal(2, 4, 2, 2),
    "places": np.array([[3, 1, 8], [0, 0, 5]]),
    "qkv": _normal(2, 3, 4, 3, 2),
    "sin": np.sin(np.outer(np.arange(9), [1.0, 0.3])).astype(np.float32),
    "value": _normal(2, 5, 8),
    "value12": _normal(2, 5, 12),
    "value4": _normal(2, 4, 5, 2),
    "w24": _normal(8, 24),
    "w28": _normal(8, 28),
    "x4": _normal(2, 2, 3, 6),
    "x4d": _normal(2, 2, 3, 4),
    "words": np.array([[1, 4, 0], [2, 2, 3]], np.int32),
    "segments": np.array([[0, 1, 0], [1, 1, 0]], np.int32),
    "word_table": _normal(5, 6),
    "place_table": _normal(4, 6),
    "segment_table": _normal(2, 6),
    "scale6": _normal(6),
    "shift6": _normal(6),
    "places32": np.array([[3, 1, 0], [0, 2, 2]], np.int32),
}
TRIED = [
    ("Attention <num_heads = 4> (x, w24, bias24)", "y"),
    ("Attention <num_heads = 2, scale = 0.3> (x, w24, , mask2)", "y"),
    ("Attention <num_heads = 2, mask_filter_value = -3.0> (x, w24, bias24, mask3)", "y"),
    ("Attention <num_heads = 4, unidirectional = 1> (x, w24, bias24, ends)", "y"),
    ("Attention <num_heads = 4> (x, w24, bias24, ends_starts, , added1)", "y"),
    ("Attention <num_heads = 4, qkv_hidden_sizes = [8, 8, 12]> (x, w28, bias28, mask2)", "y"),
    ("Attention <num_heads = 4, unidirectional = 1> (x, w24, bias24, mask25, past)", "y, z"),
    ("EmbedLayerNormalization (words, segments, word_table, place_table, segment_table, scale6, shift6)", "y, i"),
    ("EmbedLayerNormalization <epsilon = 0.1> (words, , word_table, place_table, , scale6, shift6, mask2)", "y, i"),
    (
        "EmbedLayerNormalization <mask_index_type = 0> (words, , word_table, place_table, , scale6, shift6, mask2)",
        "y, i",
    ),
    (
        "EmbedLayerNormalization (words, segments, word_table, place_table, segment_table, scale6, shift6, , places32)",
        "y, i, z",
    ),
    ("MultiHeadAttention <num_heads = 4> (x, key, value)", "y"),
    ("MultiHeadAttention <num_heads = 2, scale = 0.4> (x, key, value, bias24, mask25, )", "y"),
    ("MultiHeadAttention <num_heads = 4> (x, key, value12, bias28)", "y"),
    ("MultiHeadAttention <num_heads = 4> (x, key, value, , mask355, added)", "y"),
    ("MultiHeadAttention <num_heads = 4> (x, key4, value4)", "y"),
    ("MultiHeadAttention <num_heads = 4> (x, key4, value4, bias24)", "y"),
    ("MultiHeadAttention <num_heads = 4, unidirectional = 1> (x, x, x, bias24, , , past_key, past_value)", "y, z, u"),
    ("RotaryEmbedding (x, places, cos, sin)", "y"),
    ("RotaryEmbedding <interleaved = 1> (x, from, cos, sin)", "y"),
    ("RotaryEmbedding <num_heads = 1, rotary_embedding_dim = 4> (x, places, cos, sin)", "y"),
    ("RotaryEmbedding (x4d, places, cos, sin)", "y"),
    ("RotaryEmbedding <interleaved = 1, num_heads = 2, rotary_embedding_dim = 4> (x4, places, cos, sin)", "y"),
]


def _made(call: str, outputs: str = "y", opset: int = 17) -> onnx.ModelProto:
    ports = ", ".join(f"{'int32' if name == 'i' else 'float'} {name}" for name in outputs.split(", "))
    parsed = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g (float[2,3,8] x) => ({ports}) {{ {outputs} = {call} }}"""
    )
    for name in {one.strip() for one in call[call.rindex("(") + 1 : -1].split(",")} & STORED.keys():
        parsed.graph.initializer.append(numpy_helper.from_array(STORED[name], name))
    for output in parsed.graph.output:
        output.type.tensor_type.ClearField("shape")
    return parsed


def _agrees(parsed: onnx.ModelProto) -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    found = Evaluator(in_double(parsed, (), None), ()).run({"x": x})
    for name, wanted in Session(parsed).run({"x": x}).items():
        assert found[name].dtype == (np.int32 if name == "i" else np.float64)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("call", "outputs"), TRIED)
def test_an_operator_of_transformers_is_computed_in_float64(call: str, outputs: str) -> None:
    _agrees(_made(f"com.microsoft.{call}", outputs))


@pytest.mark.parametrize(
    "call",
    [
        "Attention <q_num_heads = 4, kv_num_heads = 4> (x, key, value)",
        "Attention <q_num_heads = 4, kv_num_heads = 4, is_causal = 1, softcap = 2.0> (x, x, x)",
        "Attention <q_num_heads = 4, kv_num_heads = 4, scale = 0.2> (x, key, value, added)",
        "RotaryEmbedding <num_heads = 2> (x, cos, sin, places)",
        "RotaryEmbedding <num_heads = 1, interleaved = 1, rotary_embedding_dim = 4> (x, cos, sin, places)",
    ],
)
def test_the_standard_s_operator_of_that_name_is_computed_in_float64_too(call: str) -> None:
    _agrees(_made(call, opset=23))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("Attention <num_heads = 4, do_rotary = 1> (x, w24, bias24)", "Attention turns what it reads"),
        ("MultiHeadAttention <num_heads = 4> (qkv)", "keys and values in one"),
        ("MultiHeadAttention <num_heads = 4, unidirectional = 1> (x, key, value)", "not as many as its queries"),
        ("RotaryEmbedding <is_packed_batching = 1> (x, places, cos, sin)", "samples of other lengths"),
    ],
)
def test_a_mode_without_a_form_in_float64_is_refused(call: str, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        Evaluator(in_double(_made(f"com.microsoft.{call}"), (), None), ()).run({"x": np.zeros((2, 3, 8))})


def test_each_of_these_operators_is_tried() -> None:
    assert {made.split()[0] for made, _ in TRIED} == {one.__name__ for one in ATTENTION_OPERATORS}
