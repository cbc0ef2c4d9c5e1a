"""Comparing takes more samples at once than the networks say, where they let it, and finds the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nets
import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import classifier, model
from present import present

import bnfold
from bnfold.compare.comparison import compare
from bnfold.errors import UsageError
from bnfold.net import Array
from bnfold.onnx import to_onnx

if TYPE_CHECKING:
    from bnfold.compare.models import Source

TEXT = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
"""
TIED = TEXT + 'layer { name: "r" type: "Reshape" bottom: "fc" top: "r" reshape_param { shape { dim: 5 dim: 1 } } }'
IMAGES = np.random.default_rng(0).normal(0, 8, (21, 3, 8, 8)).astype(np.float32)


def batch(reference: "Source", candidate: "Source", images: Array = IMAGES, **options: Any) -> int:
    return compare(reference, candidate, images, **options).outputs[0].shape[0]


@pytest.mark.parametrize("onnx", [False, True])
def test_a_net_of_one_sample_runs_on_many(onnx: bool) -> None:
    net = nets.net(TEXT)
    folded = bnfold.fold(net).net
    candidate = to_onnx(folded) if onnx else folded
    assert batch(net, candidate) == 21
    assert batch(net, candidate, batch=1) == 1
    assert batch(net, candidate, IMAGES[:3]) == 1  # nothing is gained
    wide, one_by_one = compare(net, candidate, IMAGES), compare(net, candidate, IMAGES, batch=1)
    assert [blob.blob for blob in wide.blobs] == [blob.blob for blob in one_by_one.blobs]
    for ours, theirs in zip(wide.blobs, one_by_one.blobs, strict=True):
        assert ours.values == theirs.values
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-5)
    assert len(wide.samples) == 21
    assert wide.passed
    assert one_by_one.passed
    fault = nets.net(TEXT, 1)
    assert not compare(net, fault, IMAGES).passed


def test_a_net_that_fixes_its_batch_keeps_it() -> None:
    net = nets.net(TIED)
    assert batch(net, bnfold.fold(net).net) == 5  # the shape that its Reshape makes of one sample
    assert compare(net, bnfold.fold(net).net, IMAGES).passed


def test_an_onnx_model_whose_values_depend_on_the_batch_keeps_it() -> None:
    nodes = [helper.make_node("Softmax", ["data"], ["y"], "y", axis=0)]
    across = model(nodes, {"data": (1, 3, 8, 8)}, ["y"])
    assert batch(across, across) == 1
    fixed = model(
        [helper.make_node("Add", ["data", "c"], ["y"], "y")],
        {"data": (1, 3, 8, 8)},
        ["y"],
        {"c": np.ones((1, 3, 8, 8), np.float32)},
    )
    assert batch(fixed, fixed) == 21
    constant = model(
        [helper.make_node("Reshape", ["data", "s"], ["y"], "y")],
        {"data": (1, 3, 8, 8)},
        ["y"],
        {"s": np.array([1, 192])},
    )
    assert batch(constant, constant) == 1


def test_an_onnx_model_takes_as_many_samples_as_the_caller_says(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for said in ("N", 1, 4):
        onnx.save(classifier(batch=said), path)
        for source in (classifier(batch=said), path, bnfold.load(path)):
            assert batch(source, source, batch=2) == 2


@pytest.mark.parametrize(
    "options", [{"batch": 10**20}, {"batch": 2 * 10**9}, {"input_shapes": {"data": (10**20, 3, 8, 8)}}]
)
def test_an_onnx_model_that_no_memory_holds_is_refused_in_a_sentence(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(classifier(batch="N"), path)
    with pytest.raises(UsageError, match=r"is more than ONNX allows|comparing takes about"):
        compare(path, path, IMAGES, **options)


def test_models_that_leave_their_batch_open_take_no_more_than_there_is() -> None:
    made = classifier(batch="N")
    assert batch(made, made, IMAGES[:5]) == 5


def test_noise_is_the_same_whatever_the_batch() -> None:
    first, second = (compare(nets.net(text), nets.net(text)) for text in (TEXT, TEXT.replace("dim: 1", "dim: 10", 1)))
    assert len(first.samples) == len(second.samples) == 3
    assert first.data == second.data


def test_a_part_of_the_samples_is_compared_with_its_labels() -> None:
    made, labels = classifier(), np.arange(21) % 5
    report = compare(made, made, IMAGES, labels=labels, sample_limit=6, sample_seed=1)
    whole = compare(made, made, IMAGES, labels=labels)
    assert (len(report.samples), present(report.classifier).samples) == (6, 6)
    assert report.data == "6, chosen by seed 1, of 21 samples of given arrays"
    assert [sample.name for sample in report.samples] != [sample.name for sample in whole.samples][:6]
    with pytest.raises(UsageError, match=r"--limit and --sample \(sample_limit, sample_seed\) take a part"):
        compare(made, made, sample_limit=6)
