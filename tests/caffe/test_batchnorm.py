"""Every layout of BatchNorm and its relatives: recognised, read, or refused with a choice."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

import bnfold
from bnfold.caffe.batchnorm import (
    LAYOUTS,
    TYPES,
    AmbiguousLayout,
    AmbiguousZeroFactor,
    Statistics,
    layout_notes,
    read_batchnorm,
)
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.errors import UsageError, WeightsError
from bnfold.net import Blobs, Layer
from bnfold.options import CHOICES

MEAN = np.array([0.5, -1.0, 2.0], np.float32)
VARIANCE = np.array([4.0, 0.25, 9.0], np.float32)
GAMMA = np.array([1.5, -2.0, 0.5], np.float32)
BETA = np.array([-0.5, 0.25, 3.0], np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def layer(*blobs: np.ndarray, layer_type: str = "BatchNorm", param: str = "") -> Layer:
    message = text_format.Parse(f"name: 'bn' type: '{layer_type}' {param}", LayerParameter())
    return Layer("bn", layer_type, ["x"], ["y"], Blobs(blobs), message)


def four_dimensional(*blobs: np.ndarray) -> list[np.ndarray]:
    return [blob.reshape(1, -1, 1, 1) for blob in blobs]


def applied(statistics: Statistics, x: np.ndarray) -> np.ndarray:
    y = (x - statistics.mean) / np.sqrt(statistics.variance + statistics.eps)
    gamma = 1.0 if statistics.gamma is None else statistics.gamma
    beta = 0.0 if statistics.beta is None else statistics.beta
    return gamma * y + beta


def test_bvlc_statistics_are_divided_by_the_factor_in_float64() -> None:
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(999.98)))
    assert read.layout == "bvlc"
    assert read.mean.dtype == np.float64
    np.testing.assert_array_equal(read.mean, np.float64(MEAN) / np.float64(np.float32(999.98)))
    np.testing.assert_allclose(read.variance, np.float64(VARIANCE) / np.float64(np.float32(999.98)), rtol=1e-15)
    assert read.gamma is None
    assert read.beta is None
    assert not read.batch_statistics


def test_eps_is_the_field_as_float32() -> None:
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(1), param="batch_norm_param { eps: 0.001 }"))
    assert read.eps == float(np.float32(0.001))


def test_legacy_four_dimensional_statistics_are_read_flat() -> None:
    read = read_batchnorm(layer(*four_dimensional(MEAN, VARIANCE, scalar(2))))
    np.testing.assert_array_equal(read.mean, MEAN / 2)


def test_factor_zero_beside_zero_statistics_needs_no_choice() -> None:
    read = read_batchnorm(layer(0 * MEAN, 0 * VARIANCE, scalar(0)))
    assert read.factor == 0
    assert not read.variance.any()


def test_factor_zero_beside_statistics_stops_with_the_choice() -> None:
    with pytest.raises(AmbiguousZeroFactor, match="--zero-scale-factor caffe or --zero-scale-factor one"):
        read_batchnorm(layer(MEAN, VARIANCE, scalar(0)))


def test_the_two_readings_of_factor_zero_differ() -> None:
    stopped = layer(MEAN, VARIANCE, scalar(0))
    caffe, one = read_batchnorm(stopped, zero_factor="caffe"), read_batchnorm(stopped, zero_factor="one")
    assert not caffe.mean.any()
    assert not caffe.variance.any()
    np.testing.assert_array_equal(one.mean, MEAN)
    assert not np.allclose(applied(caffe, np.ones(3)), applied(one, np.ones(3)))


def test_batch_statistics_make_stored_ones_irrelevant() -> None:
    read = read_batchnorm(
        layer(MEAN * np.nan, VARIANCE, scalar(0), param="batch_norm_param { use_global_stats: false }")
    )
    assert read.batch_statistics


def test_nvcaffe_does_not_divide_and_floors_eps() -> None:
    param = "batch_norm_param { scale_bias: true eps: 1e-7 }"
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(1), GAMMA, BETA, param=param))
    assert read.layout == "nvcaffe"
    assert read.eps == 1e-5
    np.testing.assert_array_equal(read.gamma, GAMMA)
    np.testing.assert_array_equal(read.beta, BETA)


def test_nvcaffe_old_format_keeps_its_statistics_beside_a_zero() -> None:
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(0), GAMMA, BETA, param="batch_norm_param { scale_bias: true }"))
    np.testing.assert_array_equal(read.variance, VARIANCE)


def test_nvcaffe_at_test_ignores_use_global_stats() -> None:
    param = "batch_norm_param { scale_bias: false use_global_stats: false }"
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(1), param=param))
    assert read.layout == "nvcaffe"
    assert not read.batch_statistics


def test_nvcaffe_fields_beside_a_real_factor_contradict_each_other() -> None:
    blobs = layer(MEAN, VARIANCE, scalar(999.98), GAMMA, BETA, param="batch_norm_param { scale_bias: true }")
    with pytest.raises(
        AmbiguousLayout, match=r"5 blobs \(3, 3, 1, 3, 3\) and the fields scale_bias.*layout nvcaffe or"
    ):
        read_batchnorm(blobs)
    divided, undivided = read_batchnorm(blobs, layout="intel"), read_batchnorm(blobs, layout="nvcaffe")
    assert not np.allclose(applied(divided, np.ones(3)), applied(undivided, np.ones(3)))


@pytest.mark.parametrize("last", [[], [np.zeros((1, 1, 1, 1), np.float32)]], ids=["four", "five"])
def test_nvcaffe015_has_gamma_and_beta_first(last: list[np.ndarray]) -> None:
    read = read_batchnorm(layer(*four_dimensional(GAMMA, BETA, MEAN, VARIANCE), *last))
    assert read.layout == "nvcaffe015"
    np.testing.assert_array_equal(read.gamma, GAMMA)
    np.testing.assert_array_equal(read.variance, VARIANCE)


def test_a_scalar_last_that_is_not_zero_stops() -> None:
    with pytest.raises(AmbiguousLayout, match="--batchnorm-layout nvcaffe015"):
        read_batchnorm(layer(GAMMA, BETA, MEAN, VARIANCE, scalar(7)))


def test_intel_divides_and_carries_gamma_beta_and_relu() -> None:
    read = read_batchnorm(layer(MEAN, VARIANCE, scalar(2), GAMMA, BETA, param="batch_norm_param { relu: true }"))
    assert read.layout == "intel"
    assert read.relu
    np.testing.assert_array_equal(read.mean, MEAN / 2)
    np.testing.assert_array_equal(read.beta, BETA)


def test_five_blobs_with_factor_zero_and_no_field_stop() -> None:
    with pytest.raises(AmbiguousLayout, match="nvcaffe or --batchnorm-layout intel"):
        read_batchnorm(layer(MEAN, VARIANCE, scalar(0), GAMMA, BETA))


def test_one_channel_in_four_dimensions_with_a_zero_last_is_nvcaffe015() -> None:
    blobs = four_dimensional(scalar(2), scalar(3), scalar(4), scalar(5), scalar(0))
    assert read_batchnorm(layer(*blobs)).mean == 4


def test_one_channel_of_three_blobs_is_bvlc() -> None:
    assert read_batchnorm(layer(scalar(4), scalar(8), scalar(2))).mean == 2


def test_one_channel_that_could_be_any_order_stops() -> None:
    with pytest.raises(AmbiguousLayout, match=r"nvcaffe015 or .* nvcaffe or .* intel"):
        read_batchnorm(layer(*four_dimensional(scalar(2), scalar(3), scalar(4), scalar(5), scalar(6))))


def test_cudnn_batchnorm_is_bvlc() -> None:
    np.testing.assert_array_equal(
        read_batchnorm(layer(MEAN, VARIANCE, scalar(2), layer_type="CuDNNBatchNorm")).mean, MEAN / 2
    )


def test_pspnet_bn_has_no_factor() -> None:
    param = "bn_param { frozen: true momentum: 0.95 eps: 0.5 }"
    read = read_batchnorm(layer(*four_dimensional(GAMMA, BETA, MEAN, VARIANCE), layer_type="BN", param=param))
    assert read.layout == "pspnet"
    assert read.eps == 0.5
    np.testing.assert_array_equal(read.mean, MEAN)


@pytest.mark.parametrize("param", ["", "bn_param { frozen: true slope_filler { value: 1 } }"])
def test_tsns_bn_stores_what_it_multiplies_by_and_the_user_says_so(param: str) -> None:
    inverse = np.array([2.0, 0.25, 30.0], np.float32)
    bn = layer(*[blob.reshape(1, 3) for blob in (GAMMA, BETA, MEAN, inverse)], layer_type="BN", param=param)
    with pytest.raises(AmbiguousLayout, match=r"until December 2015 the variance: choose with .* tsn or .* pspnet"):
        read_batchnorm(bn)
    x = np.array([3.0, -5.0, 7.0])
    expected = np.float64(GAMMA) * (x - MEAN) * inverse + BETA
    np.testing.assert_allclose(applied(read_batchnorm(bn, "tsn"), x), expected, rtol=1e-14)
    assert abs(applied(read_batchnorm(bn, "pspnet"), x) - expected).max() > 1


def test_four_rates_beside_blobs_of_two_axes_are_pspnets() -> None:
    param = "bn_param { frozen: true } param {} param {} param {} param {}"
    flat = [blob.reshape(1, 3) for blob in (GAMMA, BETA, MEAN, VARIANCE)]
    assert read_batchnorm(layer(*flat, layer_type="BN", param=param)).layout == "pspnet"


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_what_is_no_inverse_of_a_deviation_names_layer_and_channel(value: float) -> None:
    bn = layer(GAMMA, BETA, MEAN, np.array([1, value, 1], np.float32), layer_type="BN")
    with pytest.raises(WeightsError, match=r"layer 'bn' \(BN\): 1/sqrt\(variance \+ eps\) of channel 1 is -?[02]"):
        read_batchnorm(bn, "tsn")


def test_segnet_inference_is_a_plain_affine() -> None:
    read = read_batchnorm(
        layer(*four_dimensional(GAMMA, BETA), layer_type="BN", param="bn_param { bn_mode: INFERENCE }")
    )
    np.testing.assert_array_equal(applied(read, np.ones(3)), np.float64(GAMMA) + BETA)
    assert not read.batch_statistics


def test_segnet_learn_follows_the_batch() -> None:
    read = read_batchnorm(layer(*four_dimensional(GAMMA, BETA), layer_type="BN"))
    assert read.batch_statistics
    assert read.eps == 1e-9


def test_of_a_bn_that_is_not_read_no_reading_is_told() -> None:
    bn = layer(GAMMA, BETA, MEAN, VARIANCE, layer_type="BN")
    (doubt,) = layout_notes([bn])
    assert "read as ducha-aiki's, whose eps is 1e-10" in doubt
    bn.opaque = "its parameters are elsewhere"
    assert not layout_notes([bn])


def test_a_bn_mode_beside_four_blobs_stops() -> None:
    with pytest.raises(AmbiguousLayout, match=r"pspnet or .* segnet"):
        read_batchnorm(layer(GAMMA, BETA, MEAN, VARIANCE, layer_type="BN", param="bn_param { bn_mode: INFERENCE }"))


@pytest.mark.parametrize("blobs", [(), (MEAN,), (MEAN, VARIANCE), (MEAN, VARIANCE[:2], scalar(1)), (MEAN,) * 6])
def test_blobs_of_no_layout_are_refused_with_what_was_seen(blobs: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(WeightsError, match=r"layer 'bn' \(BatchNorm\): (\d|no) blobs"):
        read_batchnorm(layer(*blobs))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_statistic_that_is_not_finite_names_layer_and_channel(value: float) -> None:
    broken = MEAN.copy()
    broken[1] = value
    with pytest.raises(WeightsError, match=r"layer 'bn' \(BatchNorm\): mean of channel 1"):
        read_batchnorm(layer(broken, VARIANCE, scalar(1)))


def test_a_variance_without_a_square_root_names_layer_and_channel() -> None:
    with pytest.raises(WeightsError, match=r"variance \+ eps of channel 2 is -0.99999"):
        read_batchnorm(layer(MEAN, np.array([1, 1, -1], np.float32), scalar(1)))


def test_a_denormal_negative_variance_is_what_eps_is_for() -> None:
    read = read_batchnorm(layer(MEAN, np.array([1, 1, -7e-44], np.float32), scalar(1)))
    assert read.variance[2] < 0
    assert (read.variance + read.eps > 0).all()


def test_a_factor_that_is_not_finite_is_refused() -> None:
    with pytest.raises(WeightsError, match="scale factor is nan"):
        read_batchnorm(layer(MEAN, VARIANCE, scalar(np.nan)))


def test_an_unknown_layout_is_a_usage_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"takes 'bvlc', 'cudnn', .* 'segnet', 'tsn' or None, and not str 'torch'"):
        bnfold.load(b"layer {}", batchnorm_layout="torch")


def test_a_layout_for_another_type_leaves_this_one_recognised() -> None:
    assert read_batchnorm(layer(MEAN, VARIANCE, scalar(1)), layout="pspnet").layout == "bvlc"


def test_the_tables_are_sorted_and_agree() -> None:
    assert list(LAYOUTS) == sorted(LAYOUTS) == list(CHOICES["BatchNormLayout"])
    assert list(TYPES) == sorted(TYPES)
    assert {name for family in TYPES.values() for name in family.layouts} == set(LAYOUTS)
