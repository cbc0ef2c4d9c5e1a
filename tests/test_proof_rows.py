"""What `bnfold fold` and `bnfold diff` say and return where a proof proves little: exit codes, sentences, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from nets import FACTOR, net

import bnfold
from bnfold.net import Blobs

TINY = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 8 kernel_size: 3 bias_term: false } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
    layer { name: "sc" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
    layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
ROOT = 'layer { name: "root" type: "Power" bottom: "data" top: "root" power_param { power: 0.5 } }'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weight = np.random.default_rng(1).normal(0, 0.1, (5, 800)).astype(np.float32)
    made = net(TINY, fc=[weight, np.array([4000, 0, 0, 0, 0], np.float32)])
    bnfold.save_caffe(made, "tiny.prototxt")
    wrong = bnfold.fold(made).net
    layer = next(layer for layer in wrong.layers if layer.name == "conv")
    layer.blobs = Blobs([layer.blobs[0] * np.float32(1.5), *layer.blobs.stored[1:]])
    bnfold.save_caffe(wrong, "wrong.prototxt")


FOLD = ("fold", "tiny.prototxt", "tiny.caffemodel", "-o", "out.prototxt")


def test_a_saturated_output_hides_no_fault(run: Run) -> None:
    outcome = run("diff", "tiny.prototxt", "wrong.prototxt", "--outputs-only")
    assert outcome.code == 1
    assert "output 'prob' is saturated by Softmax at 100 % of its positions" in " ".join(outcome.out.split())
    assert "blob 'fc' differs" in " ".join(outcome.out.split())
    assert run(*FOLD, "--outputs-only").code == 0


def test_data_that_is_not_finite_proves_nothing(run: Run) -> None:
    np.savez("nan.npz", data=np.full((2, 3, 12, 12), np.nan, np.float32))
    for arguments in (("diff", "tiny.prototxt", "wrong.prototxt"), FOLD):
        outcome = run(*arguments, "--data", "nan.npz")
        assert outcome.code == 1
        assert "Nothing is proved: output 'prob' has no finite value in common" in " ".join(outcome.out.split())
        assert "--data" in outcome.out
    assert not Path("out.prototxt").exists()
    assert run(*FOLD, "--no-verify").code == 0


def test_noise_that_a_root_cannot_take_is_drawn_without_signs(run: Run) -> None:
    lines = TINY.replace('bottom: "data" top: "conv"', 'bottom: "root" top: "conv"').splitlines()
    bnfold.save_caffe(net("\n".join([lines[1], ROOT, *lines[2:]])), "root.prototxt")
    outcome = run("fold", "root.prototxt", "root.caffemodel", "-o", "out.prototxt")
    assert outcome.code == 0
    assert "|x| of x from N(0, s^2)" in " ".join(outcome.out.split())


def test_an_unknown_layer_in_front_of_every_output_proves_nothing(run: Run) -> None:
    python = 'layer { name: "odd" type: "Python" bottom: "data" top: "odd" python_param { module: "m" layer: "L" } }'
    behind = TINY.replace('bottom: "data" top: "conv"', 'bottom: "odd" top: "conv"').splitlines()
    other = (
        'layer { name: "other" type: "InnerProduct" bottom: "odd" top: "fc2" inner_product_param { num_output: 1 } }'
    )
    one = np.ones(8)
    given = {"conv": [np.ones((8, 3, 3, 3))], "bn": [one, one, one[:1]], "sc": [one, one]}
    given |= {"fc": [np.ones((5, 800)), one[:5]], "other": [np.ones((1, 7)), one[:1]]}
    bnfold.save_caffe(net("\n".join([behind[1], python, *behind[2:], other]), **given), "odd.prototxt")
    assert run("fold", "odd.prototxt", "odd.caffemodel", "-o", "out.prototxt", "--no-verify").code == 0
    for path in ("out.prototxt", "out.caffemodel"):
        Path(path).unlink()
    outcome = run("fold", "odd.prototxt", "odd.caffemodel", "-o", "out.prototxt", "--strip")
    said = " ".join(outcome.out.split())
    assert outcome.code == 1
    assert "no output was compared" in said
    assert "0 of 2 outputs compared; 2 stand behind layer 'odd', which cannot be run" in said
    assert not Path("out.prototxt").exists()


def test_a_label_that_is_no_class_stops_before_anything_is_written(run: Run) -> None:
    np.savez("labels.npz", data=np.zeros((2, 3, 12, 12), np.float32), label=np.array([1, 30]))
    outcome = run(*FOLD, "--data", "labels.npz")
    assert outcome.code == 2
    assert "label 30 of sample 1: the network has 5 classes" in outcome.err
    assert not Path("out.prototxt").exists()


def test_a_normalisation_far_from_zero_is_warned_of(run: Run) -> None:
    far = """
        input: "data" input_shape { dim: 1 dim: 16 }
        layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }
        layer { name: "fc" type: "InnerProduct" bottom: "bn" top: "fc" inner_product_param { num_output: 4 } }
    """
    mean, variance = np.full(16, 2e4), np.ones(16)
    bnfold.save_caffe(net(far, bn=[mean * FACTOR, variance * FACTOR, np.array([FACTOR], np.float32)]), "far.prototxt")
    outcome = run("fold", "far.prototxt", "far.caffemodel", "-o", "out.prototxt")
    assert outcome.code == 0
    assert "its mean lies 2.0e+04 standard deviations from 0" in " ".join(outcome.out.split())


def test_a_tolerance_below_float32_leaves_the_originals(run: Run) -> None:
    before = Path("tiny.prototxt").read_bytes(), Path("tiny.caffemodel").read_bytes()
    arguments = ("fold", "tiny.prototxt", "tiny.caffemodel", "-o", "tiny.prototxt", "--in-place")
    assert run(*arguments, "--tolerance", "1e-9").code == 1
    assert (Path("tiny.prototxt").read_bytes(), Path("tiny.caffemodel").read_bytes()) == before
