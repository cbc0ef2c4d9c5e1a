"""Layers of networks that were found in the wild and read wrongly, each with what is right."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cases import TESTS, TOLERANCE, Case, assert_answers, by_onnxruntime
from nets import net as parsed

import bnfold
from bnfold.caffe.batchnorm import read_batchnorm
from bnfold.errors import ModelError, UnsupportedError
from bnfold.onnx import to_onnx

FAULTS = TESTS / "faults"


def test_priors_of_each_image_are_those_of_the_first() -> None:
    case = Case(FAULTS / "detection_priors_per_image")
    net = bnfold.load(case.prototxt)
    assert_answers(by_onnxruntime(net, case.inputs), case.answers, TOLERANCE)
    assert_answers(by_onnxruntime(bnfold.fold(net).net, case.inputs), case.answers, TOLERANCE)


def test_a_convolution_without_spatial_axes_is_a_product() -> None:
    case = Case(FAULTS / "convolution_without_spatial_axes")
    net = bnfold.load(case.prototxt, case.caffemodel)
    assert_answers(by_onnxruntime(net, case.inputs), case.answers, TOLERANCE)
    assert_answers(by_onnxruntime(bnfold.fold(net).net, case.inputs), case.answers, TOLERANCE)


@pytest.mark.parametrize("name", ["crop_without_offset", "yolo_detection_output_two_bottoms"])
def test_a_case_without_outputs_gives_what_the_oracle_gives_and_folds(name: str) -> None:
    case = Case(FAULTS / name)
    net = bnfold.load(case.prototxt, case.caffemodel)
    rng = np.random.default_rng(0)
    inputs = {blob: rng.standard_normal(shape).astype(np.float32) for blob, shape in net.inputs.items()}
    folded = bnfold.fold(net)
    assert not folded.report.kept
    ours = by_onnxruntime(net, inputs)
    assert_answers(by_onnxruntime(folded.net, inputs), ours, 1e-5)
    if name != "crop_without_offset":  # the oracle is of today, and starts at 0
        theirs = reference.load(case.prototxt, case.caffemodel).run(inputs)
        assert_answers(ours, {blob: theirs[blob] for blob in ours}, TOLERANCE)


def test_a_bare_upsample_is_asked_about() -> None:
    case = Case(FAULTS / "upsample_without_param")
    with pytest.raises(ModelError, match=r"layer2-upsample.*nothing says its factor, and forks differ"):
        bnfold.load(case.prototxt, case.caffemodel)


BN = """
input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }
layer { name: "ip" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "bn" type: "BN" bottom: "y" top: "z" bn_param { scale_filler { value: 1 } MORE } }
"""


def test_four_blobs_with_a_scale_filler_have_the_smaller_eps() -> None:
    case = Case(FAULTS / "bn_scale_shift_four_blobs")
    net = bnfold.load(case.prototxt, case.caffemodel)
    bn = next(layer for layer in net.layers if layer.type == "BN")
    assert read_batchnorm(bn).eps == pytest.approx(1e-10)
    assert not bnfold.fold(net).report.kept


def test_statistics_of_the_batch_stay() -> None:
    blobs = [np.full(4, value, np.float32) for value in (2, 1, 0.5, 3)]
    assert not bnfold.fold(parsed(BN.replace("MORE", ""), bn=blobs)).report.kept
    (kept,) = bnfold.fold(parsed(BN.replace("MORE", "moving_average: false"), bn=blobs)).report.kept
    assert "batch" in kept.reason


QUANTISED = """
input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
layer { name: "c" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 4 kernel_size: 1 input_scale: 1 input_zero_point: 0 output_scale: SCALE } }
"""


def test_fields_of_integers_at_their_identity_are_nothing_and_otherwise_stop_the_layer() -> None:
    assert not parsed(QUANTISED.replace("SCALE", "1")).notes
    net = parsed(QUANTISED.replace("SCALE", "0.5"))
    assert "`output_scale` of its convolution_param is not 1, so it computes in integers" in net.notes[0]
    with pytest.raises(UnsupportedError, match="computes in integers"):
        to_onnx(net)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('type: "Crop" bottom: "x" bottom: "x" crop_param { center_crop: true }', "center_crop"),
        ('type: "Reduction" bottom: "x" reduction_param { keepdim: 1 }', "keepdim"),
        (
            'type: "Convolution" bottom: "x" convolution_param { num_output: 2 kernel_size: 1 fusion_type: 1 }',
            "fusion_type",
        ),
    ],
)
def test_a_field_of_a_fork_that_nobody_knows_is_named(text: str, field: str) -> None:
    head = 'input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }'
    (note,) = parsed(f'{head} layer {{ name: "l" {text} top: "y" }}').notes
    assert f"`{field}`" in note
