"""An affine that makes values equal by rounding does not pass a pooling with a mask, since the mask would move."""

import nets
import numpy as np
import pytest

import bnfold
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

TEXT = """
input: "data" input_shape { dim: 1 dim: 3 dim: 64 dim: 64 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" top: "mask"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "scale" type: "Scale" bottom: "pool" top: "scale" scale_param { bias_term: true } }
layer { name: "up" type: "Upsample" bottom: "scale" bottom: "mask" top: "up" upsample_param { scale: 2 } }
"""
ONES = np.ones(4, np.float32)


def mask(net: bnfold.Net) -> np.ndarray:
    data = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    return Session(to_onnx(net, outputs=["mask"]).SerializeToString()).run({"data": data}, ["mask"])["mask"]


@pytest.mark.parametrize(("scale", "shift"), [(1e-44, 0.0), (1.0, 1e5)])
def test_what_rounding_would_make_equal_is_kept(scale: float, shift: float) -> None:
    net = nets.net(TEXT, scale=[scale * ONES, shift * ONES])
    folded = bnfold.fold(net)
    (record,) = folded.report.kept
    assert "MAX pooling with a mask needs every scale > 0, and neither a tiny one nor a shift" in record.reason
    assert [layer.type for layer in folded.net.layers][-2:] == ["Scale", "Upsample"]
    weight, bias = (np.asarray(blob, np.float64) for blob in net.layers[1].blobs)
    moved = nets.net(TEXT, scale=[ONES, 0 * ONES], conv=[scale * weight, scale * bias + shift])
    assert (mask(moved) != mask(net)).any()


DECONVNET = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "bn" type: BN bottom: "conv" top: "conv" bn_param { bn_mode: INFERENCE } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" top: "mask"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "up" type: UNPOOLING bottom: "pool" bottom: "mask" top: "up"
  unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 16 } }
layers { name: "deconv" type: DECONVOLUTION bottom: "up" top: "deconv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "bn2" type: BN bottom: "deconv" top: "deconv" bn_param { bn_mode: INFERENCE } }
"""


def test_a_deconvnet_folds_and_is_compared_behind_its_unpooling() -> None:
    affines = {name: [factor * (1 + np.arange(4)), np.arange(4) - 1.5] for name, factor in (("bn", 0.5), ("bn2", -2))}
    net = nets.net(DECONVNET, **affines)
    folded = bnfold.fold(net)
    assert [record.layer for record in folded.report.folded] == ["bn", "bn2"]
    report = bnfold.compare(net, folded.net)
    assert report.passed
    assert {blob.layer for blob in report.blobs} >= {"up", "deconv"}
    weight, bias = net["deconv"].blobs
    wrong = nets.net(DECONVNET, deconv=[np.asarray(weight) * 1.1, bias], **affines)
    assert not bnfold.compare(net, bnfold.fold(wrong).net).passed


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.1), (2.0, -300.0)])
def test_an_affine_of_usual_size_passes_and_leaves_the_mask(scale: float, shift: float) -> None:
    net = nets.net(TEXT, scale=[scale * ONES, shift * ONES])
    folded = bnfold.fold(net).net
    assert [layer.type for layer in folded.layers] == ["Input", "Convolution", "Pooling", "Upsample"]
    assert (mask(folded) != mask(net)).mean() < 1e-3
