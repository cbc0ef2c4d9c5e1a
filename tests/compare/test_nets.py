"""Comparing Caffe networks: the sample models and the zoo, against their folded selves and against planted faults."""

from pathlib import Path

import numpy as np
import pytest
from arrays import stored
from present import present

import bnfold
from bnfold.compare.comparison import compare
from bnfold.errors import UsageError
from bnfold.net import Blobs, Net

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
ZOO = ROOT.parent / "shared" / "zoo" / "trained"
MODELS = ("digits_cifar10", "digits_resnet", "digits_train_test")

in_zoo = pytest.mark.skipif(not ZOO.exists(), reason="../shared/zoo is not there")


def load(name: str, batch: int = 8) -> Net:
    weights = SAMPLES / f"{name}.caffemodel"
    return bnfold.load(SAMPLES / f"{name}.prototxt", weights, input_shapes={"data": (batch, 1, 8, 8)})


def faulty(net: Net, layer_name: str, blob: int, index: tuple[int, ...], amount: float) -> Net:
    """A copy with one learned value changed by `amount` times the largest of its blob."""
    copy = net.copy()
    layer = next(layer for layer in copy.layers if layer.name == layer_name)
    blobs = [array.copy() for array in layer.blobs]
    blobs[blob][index] += amount * np.abs(blobs[blob]).max()
    layer.blobs = Blobs(blobs)
    return copy


@pytest.mark.parametrize("name", MODELS)
def test_folding_a_sample_model_changes_no_answer(name: str) -> None:
    net = load(name)
    report = compare(net, bnfold.fold(net).net, SAMPLES / "digits_test.npz", min_agreement=1, max_top1_drop=0)
    assert report.passed, report.verdict
    assert not [note for note in report.notes if "more than rounding" in note]
    assert present(report.classifier).samples == 360
    classifier = present(report.classifier)
    assert classifier.reference_top1 == present(classifier.candidate_top1) > 0.99
    assert present(report.classifier).flips == ()
    assert report.first_divergent is None


@pytest.mark.parametrize("name", MODELS)
def test_a_fault_in_any_layer_is_named_with_its_channel(name: str) -> None:
    net = load(name)
    folded = bnfold.fold(net).net
    random = np.random.default_rng(1)
    for layer in folded.layers:
        for blob, array in enumerate(layer.blobs):
            # The middle of a kernel, since a corner of it may see nothing but padding.
            index = (int(random.integers(array.shape[0])), *(size // 2 for size in array.shape[1:]))
            report = compare(net, faulty(folded, layer.name, blob, index, 0.2))
            assert report.first_divergent is not None, (layer.name, blob)
            assert (report.first_divergent.layer, report.first_divergent.channel) == (layer.name, index[0])


def test_images_of_a_sample_model_are_prepared_as_its_prototxt_says() -> None:
    net = load("digits_train_test")
    from_images = compare(net, net, SAMPLES / "digits_test.txt")
    assert "minus mean 73; times 0.00390625 (from transform_param of 'digits')" in from_images.data
    arrays = stored(SAMPLES / "digits_test.npz")
    rows = [int(Path(line.split()[0]).stem) for line in (SAMPLES / "digits_test.txt").read_text().splitlines()]
    from_arrays = compare(net, net, arrays["data"][rows], labels=arrays["label"][rows])
    top1 = present(present(from_images.classifier).reference_top1)
    assert present(from_arrays.classifier).reference_top1 == top1 > 0.98
    for ours, theirs in zip(from_images.blobs, from_arrays.blobs, strict=True):
        assert (ours.low, ours.high) == (theirs.low, theirs.high)


def test_the_exact_column_shows_both_near_the_truth() -> None:
    net = load("digits_cifar10")
    report = compare(net, bnfold.fold(net).net, exact=True)
    assert all(0 <= blob.exact < 1e-5 for blob in report.blobs)
    assert all(0 <= blob.partner_exact < 1e-5 for blob in report.blobs)
    report = compare(net, faulty(net, "conv2", 0, (0, 0, 2, 2), 0.5), exact=True)
    blob = next(blob for blob in report.blobs if blob.blob == "conv2")
    assert blob.exact < 1e-5 < 1e-3 < blob.partner_exact


def test_an_onnx_export_is_compared_with_its_prototxt(tmp_path: Path) -> None:
    net = load("digits_resnet")
    bnfold.save_onnx(bnfold.fold(net).net, tmp_path / "folded.onnx")
    prototxt = SAMPLES / "digits_resnet.prototxt"
    shapes = {"data": (8, 1, 8, 8)}
    report = compare(prototxt, tmp_path / "folded.onnx", input_shapes=shapes)
    assert report.passed, report.verdict
    assert len(report.blobs) > 30
    assert compare(f"{prototxt}:{SAMPLES / 'digits_resnet.caffemodel'}", net, input_shapes=shapes).passed
    with pytest.raises(UsageError, match="1x1x8x8 in the candidate"):
        compare(net, bnfold.to_onnx(load("digits_resnet", batch=1)))


@pytest.mark.parametrize("batch", [1, 7, 360])
def test_the_size_of_the_batch_is_the_callers(batch: int) -> None:
    net = load("digits_cifar10")
    report = compare(net, bnfold.fold(net).net, SAMPLES / "digits_test.npz", batch=batch)
    assert report.passed
    assert report.blobs[-1].shape == (batch, 10)
    assert len(report.samples) == 360


@in_zoo
def test_our_folding_and_a_well_known_script_agree() -> None:
    ours, theirs = (ZOO / name / "net.prototxt" for name in ("vgg68_landmarks", "vgg68_landmarks_merged_by_peer"))
    report = compare(ours, theirs, tolerance=1e-5, exact=True)
    assert report.passed, report.verdict
    assert report.classifier is None  # landmarks are no classes, though they have the shape of scores
    assert len(report.blobs) >= 8
    assert {entry.layer for entry in report.ranges if entry.worse} >= {"conv1", "conv2"}
    assert all(blob.exact < 1e-5 for blob in report.blobs)
