"""Folding every golden net: as few affine layers are left as the algebra allows, and a real Caffe's outputs still come.

The folded net is run by the oracle from its own text and weights, so neither the exporter nor the writer of caffemodels
is in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import reference
from arrays import stored
from cases import GOLDEN, TOLERANCE, golden, goldens

from bnfold.algebra import FoldResult, fold
from bnfold.caffe.write import prototxt_text
from bnfold.net import Layer, Net

CASES = goldens()

LEFT: Mapping[str, int] = {
    "avepool_pad_bn": 1,
    "bn_batch_stats_in_test": 2,
    "bn_before_conv_and_output": 1,
    "bn_before_conv_pad": 1,
    "bn_on_input": 1,
    "concat_one_branch_blocked": 1,
    "concat_same_blob_twice": 1,
    "conv_two_bns": 2,
    "conv_two_readers": 1,
    "crelu_negation": 1,
    "ducha_rrelu_bn": 1,  # its shift would move the threshold
    "ip_axis2_bn_not_channel": 1,
    "op_parameter": 1,  # it scales an input
    "ov_grn_bn": 1,  # behind a norm
    "preact_resnet": 2,
    "relu_scale_nobias": 1,  # some of its scales are negative
    "scale_axis0_full": 1,
    "scale_hw_not_channel": 1,
    "segnet_bn_learn_batch_stats": 1,
    "snps_add_broadcast_bn": 1,  # one operand is an input
    "snps_eltwise_div": 2,  # behind AbsVal, and a shift behind a quotient
    "snps_eltwise_min_bn": 1,  # some of its scales are negative
    "snps_eltwise_sum_broadcast_bn": 1,  # one operand is an input
    "snps_mvn_eps_before_sqrt": 1,  # behind a norm
    "snps_normalize_eps_behind_sqrt": 1,  # a shift behind a scale without one
    "snps_pool_ave_pad_same_bn": 1,  # a shift behind a padded average
    "snps_pool_max_pad_lrtb_bn": 1,  # some of its scales are negative
    "snps_relu6_scale_behind": 1,  # behind a bound
    "snps_roi_align": 1,  # behind the largest of weighted sums
    "snps_roi_pooling": 1,  # a shift behind bins that may be empty
    "snps_shuffle_channel_group2_depthwise": 1,  # its shift would move a threshold, and a padding is in front
    "snps_upsample_mask_pad_out": 1,  # a shift behind zeros that are put in
    "soe_axpy_bn": 1,  # the gate is read off the branch that it multiplies, and comes out of a Sigmoid
    "soe_psroi_pooling": 1,  # a shift behind bins that may be empty
    "soe_relux_bn": 1,  # behind a bound
    "soe_roi_pooling_half_edges": 1,  # a shift behind bins that may be empty
    "ssd_detector_with_bn": 1,
    "ssd_permute_batch_moved_bn": 1,  # it varies along the batch
    "ssd_permute_flatten_axis2_bn": 1,  # it varies along the plane
    "yolo_relu6": 1,  # its Power reads an input, and the ReLU6 behind it has a second knee
    "yolo_reorg_bn": 1,
    "yolo_upsample3_concat_bn": 1,  # its bottom has two readers
}
"""How many affine layers the algebra cannot take out of each net; 0 where it is not listed.

The scales of maxpool_bn_scale_mixed_sign are all positive in its caffemodel, whatever its name says, so it has 0.
"""


@pytest.fixture(scope="module")
def folded() -> dict[str, tuple[Net, FoldResult]]:
    """Each net is folded once."""
    return {}


def load_and_fold(name: str, done: dict[str, tuple[Net, FoldResult]]) -> tuple[Net, FoldResult]:
    if name not in done:
        net = golden(name).load()
        done[name] = net, fold(net)
    return done[name]


def affines(net: Net) -> list[Layer]:
    """The layers that scale and shift channels, by their type and parameters alone."""
    return [layer for layer in net.layers if is_affine(layer)]


def is_affine(layer: Layer) -> bool:
    if layer.type in ("BatchNorm", "BN", "CuDNNBatchNorm"):
        return True
    if layer.type == "Power":
        return bool(layer.param.power_param.power == 1)
    return layer.type in ("Bias", "Scale") and len(layer.bottoms) == 1


def run(net: Net, folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """A net in memory by the oracle, in float64."""
    weights = {layer.name: list(layer.blobs) for layer in net.layers if layer.blobs}
    inputs = stored(folder / "inputs.npz")
    read = reference.load(prototxt_text(net), folder / "net.caffemodel", weights=weights)
    return read.run(inputs, input_shapes=net.inputs)


@pytest.mark.parametrize("name", CASES)
def test_no_affine_is_left_that_the_algebra_could_move(name: str, folded: dict[str, tuple[Net, FoldResult]]) -> None:
    _, result = load_and_fold(name, folded)
    left = affines(result.net)
    assert len(left) == LEFT.get(name, 0), [kept.reason for kept in result.report.kept]
    assert {layer.name for layer in left} == {kept.layer for kept in result.report.kept}


@pytest.mark.parametrize("name", CASES)
def test_the_folded_net_gives_the_outputs_of_a_real_caffe(name: str, folded: dict[str, tuple[Net, FoldResult]]) -> None:
    _, result = load_and_fold(name, folded)
    blobs = run(result.net, GOLDEN / name)
    expected = stored(GOLDEN / name / "outputs.npz")
    assert set(result.net.outputs) >= set(expected)
    for output, values in expected.items():
        span = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
        np.testing.assert_allclose(blobs[output], values, rtol=0, atol=TOLERANCE * span, err_msg=output)


@pytest.mark.parametrize("name", CASES)
def test_every_blob_that_survives_in_a_file_keeps_its_value(
    name: str, folded: dict[str, tuple[Net, FoldResult]]
) -> None:
    net, result = load_and_fold(name, folded)
    before, after = run(net, GOLDEN / name), run(result.net, GOLDEN / name)
    survived = before.keys() & after.keys()
    assert survived >= set(net.outputs)
    for blob in survived:
        span = float(np.ptp(before[blob])) or float(np.abs(before[blob]).max()) or 1.0
        np.testing.assert_allclose(after[blob], before[blob], rtol=0, atol=1e-5 * span, err_msg=blob)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("op_")])
def test_folding_a_folded_golden_changes_nothing(name: str, folded: dict[str, tuple[Net, FoldResult]]) -> None:
    _, result = load_and_fold(name, folded)
    again = fold(result.net).net
    assert prototxt_text(again) == prototxt_text(result.net)
    for one, other in zip(result.net.layers, again.layers, strict=True):
        assert one.blobs.stored == other.blobs.stored


def test_the_table_names_goldens_that_exist() -> None:
    assert set(LEFT) <= set(CASES)
