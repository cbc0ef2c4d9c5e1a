"""What the partial sums of a sum of products come to is what they come to one by one."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import model

from bnfold.net import Array
from bnfold.onnx.evaluator import Evaluator

RANDOM = np.random.default_rng(0)


def _summed(operator: str, x: Array, weight: Array, **attributes: Any) -> Array:
    """What `each` gives a sum of products as the size of its partial sums."""
    found: list[Array] = []

    def take(values: Array, size: Array) -> Array:
        found.append(size)
        assert size.shape == values.shape
        return values + 1

    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    made = model([node], {"x": x.shape}, ["y"], {"w": weight}, 17)
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    truth = Evaluator.of_model(made, (), None, ["y"])
    (_, moved), (_, still) = *truth.each({"x": x}, summed=take), *truth.each({"x": x})
    np.testing.assert_allclose(moved, still + 1)
    return np.asarray(found[0])


def _real(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def _rooted(products: Array) -> Array:
    """Of products along the last axis."""
    return np.asarray(np.sqrt(np.square(np.cumsum(products.astype(np.float64), axis=-1)).sum(axis=-1)))


def test_a_product_of_matrices_has_a_partial_sum_for_each_term() -> None:
    x, weight = _real(2, 3, 12), _real(12, 5)
    wanted = _rooted(x[:, :, np.newaxis] * weight.T)
    np.testing.assert_allclose(_summed("MatMul", x, weight), wanted)


def test_a_gemm_is_read_as_its_attributes_say() -> None:
    x, weight = _real(12, 3), _real(5, 12)
    wanted = _rooted(x.T[:, np.newaxis] * weight)
    np.testing.assert_allclose(_summed("Gemm", x, weight, transA=1, transB=1), wanted)


def test_a_product_that_onnxruntime_has_fused_with_transposes_is_one() -> None:
    x, weight = _real(2, 12, 3), _real(2, 5, 12)
    wanted = 0.5 * _rooted(np.swapaxes(x, 1, 2)[:, :, np.newaxis] * weight[:, np.newaxis])
    said = {"domain": "com.microsoft", "transA": 1, "transB": 1, "alpha": 0.5}
    np.testing.assert_allclose(_summed("FusedMatMul", x, weight, **said), wanted)


def test_a_convolution_adds_channel_by_channel_within_a_group() -> None:
    x, weight = _real(2, 6, 4, 4), _real(4, 3, 1, 1)
    parts = x.reshape(2, 2, 1, 3, 4, 4) * weight.reshape(1, 2, 2, 3, 1, 1)
    wanted = _rooted(np.moveaxis(parts, 3, -1)).reshape(2, 4, 4, 4)
    np.testing.assert_allclose(_summed("Conv", x, weight, group=2), wanted)


def test_a_convolution_of_no_sample_has_no_sum() -> None:
    assert _summed("Conv", _real(0, 6, 4, 4), _real(4, 3, 1, 1), group=2).shape == (0, 4, 4, 4)


@pytest.mark.parametrize(("x", "weight"), [(_real(3, 1), _real(1, 2)), (np.ones((3, 8), int), np.ones((8, 2), int))])
def test_a_sum_of_one_product_or_of_whole_numbers_is_not_rounded_on_its_way(x: Array, weight: Array) -> None:
    node, kind = helper.make_node("MatMul", ["x", "w"], ["y"]), helper.np_dtype_to_tensor_dtype(x.dtype)
    made = model([node], {"x": x.shape}, ["y"], {"w": weight}, 17, kind)
    truth = Evaluator.of_model(made, (), None, ["y"])

    def refuse(values: Array, size: Array) -> Array:
        raise AssertionError

    assert dict(truth.each({"x": x}, summed=refuse))["y"].shape == (3, 2)


def test_of_many_products_some_partial_sums_stand_for_all() -> None:
    x, weight = np.ones((1, 1600), np.float32), np.ones((1600, 1), np.float32)
    found = _summed("MatMul", x, weight)
    assert found == pytest.approx(_rooted(np.ones((1, 1, 1600))), rel=0.05)


def test_an_instance_normalisation_is_rounded_term_by_term() -> None:
    x, scale, bias = _real(2, 3, 4, 5), _real(3), _real(3)
    made = model(
        [helper.make_node("InstanceNormalization", ["x", "scale", "bias"], ["y"], epsilon=0.1)],
        *({"x": x.shape}, ["y"], {"scale": scale, "bias": bias}, 17),
    )
    truth = Evaluator.of_model(made, (), None, ["y"])
    terms: list[Array] = []

    def take(name: str, values: Array, op_type: str) -> Array:
        terms.extend([values] if name == "y" and not op_type else [])
        return values

    ((_, rounded),) = truth.each({"x": x}, rounded=take)
    ((_, exact),) = truth.each({"x": x})
    factor = scale[:, np.newaxis, np.newaxis] / np.sqrt(
        x.astype(float).var(axis=(2, 3), keepdims=True) + np.float32(0.1)
    )
    np.testing.assert_allclose(terms[0], x * factor)
    np.testing.assert_allclose(terms[0] + terms[1], exact, atol=1e-12)
    np.testing.assert_allclose(rounded, exact, atol=1e-12)
