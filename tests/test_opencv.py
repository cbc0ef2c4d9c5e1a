"""The Caffe files that we write, in a reader that is not ours: OpenCV's, for the goldens that it gets right itself.

It is wrong or lost on the others as Caffe's own authors wrote them, so nothing about our files can be learned there.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from cases import TESTS, TOLERANCE, ZOO, Array, distance, golden, goldens

import bnfold
from bnfold.net import Net

RIGHT = {
    "avepool_bn",
    "avepool_pad_bn",
    "bn_before_conv_and_output",
    "bn_before_conv_nopad",
    "bn_before_conv_pad",
    "bn_before_ip",
    "bn_before_two_convs",
    "bn_dropout_between",
    "bn_eps",
    "bn_nonzero_zero_variance",
    "bn_on_input",
    "bn_relu_pool_conv",
    "bn_scale_factor_one",
    "bn_scale_factor_zero",
    "bn_twice",
    "bn_two_readers",
    "concat_bn",
    "concat_one_branch_blocked",
    "concat_same_blob_twice",
    "conv_bias_bn_only",
    "conv_depthwise",
    "conv_dilated",
    "conv_grouped",
    "conv_power_affine",
    "conv_rect",
    "conv_scale_nobias",
    "conv_scale_only",
    "conv_two_bns",
    "conv_two_readers",
    "crelu_negation",
    "deconv",
    "deconv_depthwise",
    "deconv_grouped",
    "eltwise_max_bn",
    "eltwise_prod_bn",
    "eltwise_sum_bn",
    "flatten_bn",
    "flatten_spatial_bn",
    "global_avepool_bn_ip",
    "input_dim_legacy",
    "input_shape_two",
    "ip_axis2_bn_not_channel",
    "ip_bn",
    "maxpool_bn_scale_mixed_sign",
    "maxpool_pad_bn",
    "names_not_in_place",
    "op_absval",
    "op_bnll",
    "op_concat_axis2",
    "op_concat_axis_neg",
    "op_crop",
    "op_crop_axis1",
    "op_deconv_bilinear",
    "op_eltwise_coeff3",
    "op_eltwise_max3",
    "op_eltwise_prod3",
    "op_elu",
    "op_exp",
    "op_exp_natural",
    "op_flatten_axis",
    "op_flatten_mid",
    "op_ip_axis2",
    "op_lrn_within",
    "op_mvn",
    "op_mvn_across_nonorm",
    "op_pool_ave_ceil",
    "op_pool_ave_ceil_pad",
    "op_pool_ave_clip",
    "op_pool_ave_global",
    "op_pool_ave_rect",
    "op_pool_ave_stride_gt_kernel",
    "op_pool_max_ceil",
    "op_pool_max_ceil_pad",
    "op_pool_max_clip",
    "op_pool_max_global",
    "op_pool_max_mask",
    "op_pool_max_rect",
    "op_power",
    "op_power_sqrt_square",
    "op_power_zero",
    "op_prelu",
    "op_prelu_2d",
    "op_prelu_shared",
    "op_relu_slope",
    "op_reshape_axis",
    "op_reshape_infer",
    "op_scale_axis_mid",
    "op_sigmoid",
    "op_slice_dim_legacy",
    "op_slice_points",
    "op_softmax_axis",
    "op_softmax_axis2",
    "op_softmax_axis_neg",
    "op_split_silence",
    "op_swish",
    "op_tanh",
    "ov_ip_normalize_bn",
    "ov_prior_clustered",
    "ov_prior_clustered_clip_no_step",
    "param_lr_three_old",
    "preact_resnet",
    "psp_interp_size",
    "psp_interp_zoom",
    "relu_bn",
    "relu_scale_nobias",
    "scale_axis0_full",
    "scale_hw_not_channel",
    "scale_nobias_before_conv_pad",
    "scale_scalar",
    "scale_two_bottoms_se",
    "seed_cifar_bn_only_after_pool",
    "seed_keras_batchnorm",
    "seed_resnet_bn_scale",
    "shared_conv_different_bn",
    "shared_conv_one_bn",
    "shared_everything",
    "slice_bn",
    "snps_conv_depthwise_group_not_given_bn",
    "snps_conv_depthwise_multiplier_bn",
    "snps_correlation",
    "snps_dropout_scale_train_false_bn",
    "snps_flow_warp",
    "snps_hardsigmoid_alpha_beta_bn",
    "snps_hardsigmoid_bn",
    "snps_hardswish_bn",
    "snps_mish_bn",
    "snps_mvn_eps_before_sqrt",
    "snps_roi_pooling",
    "snps_shuffle_channel_bn",
    "snps_shuffle_channel_group2_depthwise",
    "snps_swish_bn",
    "soe_convdepthwise_bn",
    "soe_pool_ceil_mode_false_bn",
    "soe_psroi_pooling",
    "soe_roi_pooling_half_edges",
    "ssd_mbox_head_batch2_bn",
    "ssd_normalize_channel",
    "ssd_normalize_spatial_shared",
    "ssd_permute",
    "ssd_permute_batch_moved_bn",
    "ssd_permute_flatten_axis2_bn",
    "ssd_permute_flatten_ip_bn",
    "ssd_priorbox",
    "ssd_priorbox_clip_noflip",
    "yolo_relu6",
    "yolo_reorg_bn",
}
"""The goldens whose own files OpenCV answers as Caffe did."""

RIGHT_WHEN_FOLDED = {
    "conv_bias_layer",
    "ducha_bn",
    "ducha_bn_small_variance",
    "ducha_bn_var_eps",
    "ducha_eltwise_affine_bn",
    "ducha_eltwise_affine_fillers",
    "genet_cudnn_batch_norm",
    "op_parameter",
    "psp_bn_conv",
    "psp_bn_frozen_momentum",
    "psp_interp_then_bn",
    "psp_pyramid",
    "seed_phase_train_test_bn",
    "segnet_bn_inference",
    "senet_axpy",
    "snps_bn_eps_before_sqrt_said",
    "snps_bn_eps_behind_sqrt",
    "snps_bn_icnet",
    "snps_bn_segnet_inference",
    "snps_bn_update_global_stats",
    "snps_squeeze_convolution_bn",
    "soe_axpy_bn",
    "soe_depthwise_convolution_bn",
    "yolo_depthwise_bn_before",
    "yolo_depthwise_convolution_bn",
    "yolo_depthwise_no_bn",
}
"""The goldens that OpenCV answers rightly only after folding, mostly since the layer that it lacks is gone."""

LOST = {"soe_pool_ceil_mode_false_bn"}
"""A pooling that rounds down: OpenCV knows `ceil_mode` alone and BVLC `round_mode` alone, and we write BVLC's."""

WRITTEN = (RIGHT | RIGHT_WHEN_FOLDED) - LOST


def by_opencv(prototxt: Path, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of the file `prototxt`, and of the caffemodel beside it; `net` only says which layers write them.

    OpenCV finds a blob by the name of its layer (which it changes to the top's for some), and fuses and transforms on
    its own unless it is told not to.
    """
    model = cv2.dnn.readNetFromCaffe(str(prototxt), str(prototxt.with_suffix(".caffemodel")))
    model.enableFusion(False)
    model.enableWinograd(False)
    for name, values in inputs.items():
        model.setInput(values.astype(np.float32), name)
    known = set(model.getLayerNames())
    found = {}
    for blob in net.outputs:
        layer = net.producer(blob)
        assert layer is not None
        name = layer.name if layer.name in known else blob
        found[blob] = model.forwardAndRetrieve([name])[0][layer.tops.index(blob)]
    return found


def worst(prototxt: Path, net: Net, name: str) -> float:
    """How far OpenCV's outputs are from Caffe's; infinite where it gives none."""
    case = golden(name)
    try:
        ours = by_opencv(prototxt, net, case.inputs)
        return max(distance(ours[blob], answer) for blob, answer in case.answers.items())
    except (AssertionError, cv2.error, IndexError, KeyError):
        return math.inf


def judge(files: str, names: Sequence[str]) -> None:
    """What the child process does: a golden and its distance per line."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            case, net = golden(name), golden(name).load()
            prototxt = case.prototxt
            if files != "original":
                net = net if files == "converted" else bnfold.fold(net).net
                prototxt = Path(folder) / "written.prototxt"
                bnfold.save_caffe(net, prototxt, strip=files == "stripped")
            print(name, worst(prototxt, net, name), flush=True)


def judged(files: str) -> dict[str, float]:
    """Golden -> how far OpenCV is from Caffe, found out in a child process.

    OpenCV now and then divides by zero and takes Python along: then another child goes on, and only a golden that
    crashes twice has no answer.
    """
    verdicts: dict[str, float] = {}
    waiting, crashed = goldens(), ""
    while waiting:
        call = f"import test_opencv; test_opencv.judge({files!r}, {waiting})"
        script = f"import sys; sys.path.insert(0, {str(TESTS)!r}); {call}"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode <= 0, done.stderr
        found = [line.split() for line in done.stdout.splitlines()]
        verdicts |= {name: float(distance) for name, distance in found}
        waiting = waiting[len(found) :]
        if waiting and waiting[0] == crashed:
            verdicts[waiting.pop(0)] = math.inf
        crashed = waiting[0] if waiting else ""
    return verdicts


def right(verdicts: dict[str, float]) -> set[str]:
    return {name for name, distance in verdicts.items() if distance <= TOLERANCE}


@pytest.mark.parametrize("files", ["folded", "stripped"])
def test_opencv_reads_our_folded_files_as_caffe_would(files: str) -> None:
    verdicts = judged(files)
    assert verdicts.keys() == set(goldens())
    wrong = {name: verdicts[name] for name in WRITTEN - right(verdicts)}
    assert not wrong
    assert right(verdicts) == WRITTEN


def test_opencv_reads_our_unfolded_files_as_caffe_would() -> None:
    assert right(judged("converted")) == WRITTEN - {"conv_bias_layer", "op_parameter"}


READ_THE_ZOO = """
import sys
from pathlib import Path
import cv2
import bnfold
from cases import Case
for folder in map(Path, sys.argv[2:]):
    net = Case(folder).load()
    for name, written in (("converted", net), ("folded", bnfold.fold(net).net)):
        prototxt = Path(sys.argv[1]) / f"{name}.prototxt"
        bnfold.save_caffe(written, prototxt)
        cv2.dnn.readNetFromCaffe(str(prototxt), str(prototxt.with_suffix(".caffemodel")))
    print(folder.name)
"""


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the zoo in ../shared")
def test_opencv_reads_every_network_of_the_zoo_as_we_write_it(tmp_path: Path) -> None:
    """Its parser and its importer; what some layer types compute it does not know before it is asked."""
    folders = sorted(path.parent for path in ZOO.glob("*/*/net.caffemodel"))
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{READ_THE_ZOO}"
    call = [sys.executable, "-c", script, str(tmp_path), *map(str, folders)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [folder.name for folder in folders], done.stderr
    assert len(folders) > 30


def test_the_list_of_what_opencv_gets_right_is_the_truth() -> None:
    assert right(judged("original")) == RIGHT
