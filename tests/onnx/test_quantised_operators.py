"""Operators of quantised networks in float64 give what onnxruntime gives, and whole numbers exactly."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.onnx.double import in_double
from bnfold.onnx.evaluator import Evaluator
from bnfold.onnx.quantised_operators import QUANTISED_OPERATORS
from bnfold.runtime import Session

RANDOM = np.random.default_rng(0)
NBITS = {f"codes{bits}": RANDOM.integers(0, 256, (5, 3, 16 * bits // 8)).astype(np.uint8) for bits in (2, 4, 8)}
STORED: dict[str, Array] = {
    **NBITS,
    "image": RANDOM.integers(0, 256, (2, 4, 6, 6)).astype(np.uint8),
    "weight": RANDOM.integers(-128, 128, (6, 2, 3, 3)).astype(np.int8),
    "weight0": np.array(0, np.int8),
    "weight7": np.array(7, np.int8),
    "bias": RANDOM.integers(-5000, 5000, 6).astype(np.int32),
    "a": RANDOM.integers(0, 256, (2, 3, 4)).astype(np.uint8),
    "b": RANDOM.integers(-128, 128, (4, 5)).astype(np.int8),
    "a_zero": np.array(131, np.uint8),
    "b_zero": np.array(-3, np.int8),
    "b_zeros": np.array([3, -2, 7, 0, -100], np.int8),
    "scale": np.array(0.03, np.float32),
    "y_scale": np.array(2.3, np.float32),
    "scales5": RANDOM.uniform(0.01, 0.05, 5).astype(np.float32),
    "scales6": RANDOM.uniform(0.01, 0.05, 6).astype(np.float32),
    "bias5": RANDOM.normal(size=5).astype(np.float32),
    "scales15": RANDOM.uniform(0.01, 0.05, 15).astype(np.float32),
    "zeros4": RANDOM.integers(0, 256, 10).astype(np.uint8),
    "zeros8": RANDOM.integers(0, 256, 15).astype(np.uint8),
    "real_zeros": RANDOM.uniform(3, 12, 15).astype(np.float32),
}
TRIED = [
    "ConvInteger <group = 2> (image, weight)",
    "ConvInteger <group = 2, pads = [1, 0, 0, 2], strides = [2, 1]> (image, weight, a_zero, weight7)",
    "DynamicQuantizeLinear (x)",
    "MatMulInteger (a, b)",
    "MatMulInteger (a, b, a_zero, b_zero)",
    "MatMulInteger (a, b, a_zero, b_zeros)",
    "QLinearConv <group = 2> (image, scale, a_zero, weight, scale, weight0, y_scale, a_zero)",
    "QLinearConv <group = 2, strides = [2, 1]> (image, scale, a_zero, weight, scales6, weight0, scale, a_zero, bias)",
    "QLinearMatMul (a, scale, a_zero, b, scale, b_zero, y_scale, a_zero)",
    "QLinearMatMul (a, scale, a_zero, b, scales5, b_zeros, y_scale, a_zero)",
    "com.microsoft.DynamicQuantizeMatMul (x, b, scale)",
    "com.microsoft.DynamicQuantizeMatMul (x, b, scales5, b_zeros, bias5)",
    "com.microsoft.MatMulIntegerToFloat (a, b, scale, scale)",
    "com.microsoft.MatMulIntegerToFloat (a, b, scale, scales5, a_zero, b_zeros, bias5)",
    "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16> (wide, codes4, scales15)",
    "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16, bits = 4> (wide, codes4, scales15, zeros4, , bias5)",
    "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16, bits = 4> (wide, codes4, scales15, real_zeros)",
    "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16, bits = 8> (wide, codes8, scales15)",
    "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16, bits = 8> (wide, codes8, scales15, zeros8)",
]


def _made(call: str) -> onnx.ModelProto:
    """A model that makes y, and what else the operator gives."""
    whole = "float" if "com." in call else "uint8" if "QLinear" in call else "int32"
    ports = f"{whole} y" if "Dynamic" not in call or "com." in call else "uint8 y, float s, uint8 z"
    named = ports.replace("float ", "").replace("uint8 ", "").replace("int32 ", "")
    parsed = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[2,3,4] x, float[2,3,40] wide) => ({ports}) {{ {named} = {call} }}"""
    )
    for name in {one.strip() for one in call[call.rindex("(") + 1 : -1].split(",")} & STORED.keys():
        parsed.graph.initializer.append(numpy_helper.from_array(STORED[name], name))
    for output in parsed.graph.output:
        output.type.tensor_type.ClearField("shape")
    return parsed


@pytest.mark.parametrize("call", TRIED)
def test_an_operator_of_quantised_networks_is_computed_in_float64(call: str) -> None:
    random = np.random.default_rng(1)
    feeds = {"x": random.normal(size=(2, 3, 4)), "wide": random.normal(size=(2, 3, 40))}
    single = {name: values.astype(np.float32) for name, values in feeds.items()}
    parsed = _made(call)
    found = Evaluator(in_double(parsed, (), None), ()).run(single)
    for name, wanted in Session(parsed).run(single).items():
        if wanted.dtype == np.float32:
            assert found[name].dtype == np.float64
            np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)
        else:
            assert found[name].dtype == wanted.dtype
            np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("low", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize("high", [-3.0, 0.0, 2.0, 5.0])
def test_steps_that_a_layer_finds_have_0_among_them(low: float, high: float) -> None:
    x = np.linspace(low, high, 24, dtype=np.float32).reshape(2, 3, 4)
    parsed = _made("DynamicQuantizeLinear (x)")
    feeds = {"x": x, "wide": np.zeros((2, 3, 40), np.float32)}
    found, wanted = Evaluator(in_double(parsed, (), None), ()).run(feeds), Session(parsed).run(feeds)
    np.testing.assert_allclose(found["s"], wanted["s"], rtol=1e-6)
    np.testing.assert_array_equal(found["z"], wanted["z"])
    np.testing.assert_array_equal(found["y"], wanted["y"])


def test_a_product_that_quantises_what_it_reads_by_itself_has_no_form_in_float64() -> None:
    parsed = _made(
        "com.microsoft.MatMulNBits <K = 40, N = 5, block_size = 16, accuracy_level = 4> (wide, codes4, scales15)"
    )
    with pytest.raises(UnsupportedError, match="MatMulNBits quantises"):
        Evaluator(in_double(parsed, (), None), ()).run({"wide": np.zeros((2, 3, 40))})


def test_each_of_these_operators_is_tried() -> None:
    assert {made.split()[0].split(".")[-1] for made in TRIED} == {one.__name__ for one in QUANTISED_OPERATORS}
