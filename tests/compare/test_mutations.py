"""A proof that can fail: of wrong folds, one channel of one layer times 1.5, the default proof passes none.

`python tests/mutations.py` measures the same on the zoo's nets; docs/report.md has its table.
"""

from pathlib import Path

import numpy as np
import pytest
from cases import ZOO, Case, golden
from mutations import measure, of_case
from nets import net

import bnfold
from bnfold.net import Blobs
from bnfold.options import CompareOptions


@pytest.mark.parametrize("name", ["seed_resnet_bn_scale", "seed_cifar_bn_only_after_pool", "seed_phase_train_test_bn"])
def test_of_the_wrong_variants_of_a_golden_none_passes(name: str) -> None:
    result = of_case(golden(name), per_layer=4, factor=1.5)
    assert result.changing > 2
    assert result.passed == []


SATURATED = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 8 kernel_size: 3 bias_term: false } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
    layer { name: "sc" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
    layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.mark.parametrize("layers", [True, False])
def test_a_softmax_that_is_sure_whatever_it_sees_hides_no_wrong_channel(layers: bool) -> None:
    """One class is ahead by far: Softmax gives 1 and zeros for any input, and the scores in front say what is wrong."""
    weight = np.random.default_rng(1).normal(0, 0.1, (5, 800)).astype(np.float32)
    original = net(SATURATED, fc=[weight, np.array([4000, 0, 0, 0, 0], np.float32)])
    folded = bnfold.fold(original).net
    result = measure("saturated", original, folded, ["conv"], 8, 1.5, CompareOptions(layers=layers))
    assert result.changing == 8
    assert result.passed == []


def test_classes_that_never_win_are_part_of_the_proof() -> None:
    """Rows of the last layer are swapped, doubled and zeroed: the answers stay the same."""
    weight = np.random.default_rng(1).normal(0, 0.1, (5, 800)).astype(np.float32)
    original = net(SATURATED, fc=[weight, np.array([400, 0, 0, 0, 0], np.float32)])
    folded = bnfold.fold(original).net
    for rows in (
        weight[[0, 2, 1, 3, 4]],
        weight * np.array([[1], [1], [2], [1], [1]]),
        weight * np.array([[1], [1], [1], [0], [1]]),
    ):
        wrong = folded.copy()
        layer = next(layer for layer in wrong.layers if layer.name == "fc")
        layer.blobs = Blobs([rows.astype(np.float32), *layer.blobs.stored[1:]])
        assert not bnfold.compare(original, wrong).passed
        assert not bnfold.compare(original, wrong, layers=False).passed
    assert bnfold.compare(original, folded).passed


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the zoo in ../shared")
@pytest.mark.parametrize("name", ["mtcnn_fast_det1_bn"])
def test_of_the_wrong_variants_of_a_trained_net_none_passes(name: str) -> None:
    result = of_case(Case(ZOO / "trained" / name), per_layer=2, factor=1.5)
    assert result.changing
    assert result.passed == []


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("change", ["swapped", "doubled", "zeroed"])
def test_rows_of_classes_that_noise_never_chooses_are_part_of_the_proof(change: str, layers: bool) -> None:
    models = Path(__file__).parents[2] / "sample_models"
    original = bnfold.load(models / "digits_resnet.prototxt", models / "digits_resnet.caffemodel")
    wrong = bnfold.fold(original).net
    layer = next(layer for layer in wrong.layers if layer.name == "fc10")
    rows = layer.blobs[0].copy()
    if change == "swapped":
        rows[[2, 5]] = rows[[5, 2]]
    else:
        rows[2] *= {"doubled": 2, "zeroed": 0}[change]
    layer.blobs = Blobs([rows, *layer.blobs.stored[1:]])
    found = bnfold.compare(original, wrong, layers=layers, bisect=not layers)
    assert (found.passed, found.first_divergent and found.first_divergent.layer) == (False, "fc10")
    assert bnfold.compare(original, bnfold.fold(original).net, layers=layers).passed
