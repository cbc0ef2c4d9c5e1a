"""The sample models are genuine: they know the digits that they never saw, and three programs agree on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import opencv_process
import pytest
import reference
from google.protobuf import text_format
from numpy.typing import NDArray
from PIL import Image

from bnfold.caffe import caffe_pb2

SAMPLES = Path(__file__).resolve().parents[1] / "sample_models"
SCORES = {"digits_cifar10": "ip1", "digits_resnet": "fc10", "digits_train_test": "ip2"}


def prototxt(name: str) -> Any:
    return text_format.Parse((SAMPLES / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def caffemodel(name: str) -> Any:
    return caffe_pb2.NetParameter.FromString((SAMPLES / f"{name}.caffemodel").read_bytes())


def held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(SAMPLES / "digits_test.npz") as arrays:
        return arrays["data"], arrays["label"]


def oracle_scores(name: str, weights: dict[str, list[NDArray[Any]]] | None = None) -> NDArray[Any]:
    net = reference.load(SAMPLES / f"{name}.prototxt", SAMPLES / f"{name}.caffemodel", weights)
    return np.asarray(net.run({"data": held_out()[0]})[SCORES[name]])


def stated_right(name: str) -> int:
    """How many digits of the 360 the README says that the model has right."""
    row = next(line for line in (SAMPLES / "README.md").read_text().splitlines() if line.startswith(f"| `{name}`"))
    found = re.search(r"\| (\d+) of 360 \(([\d.]+) %\) \|$", row)
    assert found is not None
    assert found[2] == f"{int(found[1]) / 360:.2%}".rstrip("%")
    return int(found[1])


def test_the_folder_has_every_file_and_stays_under_two_megabytes() -> None:
    expected = ["README.md", "make.py", "digits_test.npz", "digits_test.txt"]
    expected += [f"{name}.{suffix}" for name in SCORES for suffix in ("prototxt", "caffemodel")]
    assert [name for name in expected if not (SAMPLES / name).is_file()] == []
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("name", SCORES)
def test_the_oracle_recognises_as_many_held_out_digits_as_the_readme_says(name: str) -> None:
    right = int((oracle_scores(name).argmax(1) == held_out()[1]).sum())
    assert right == stated_right(name)
    assert right >= 0.95 * 360


@pytest.mark.parametrize("name", SCORES)
def test_a_reader_that_forgets_the_factor_is_reduced_to_guessing(name: str) -> None:
    norms = [layer for layer in caffemodel(name).layer if layer.type == "BatchNorm"]
    assert norms
    forgetful = {}
    for layer in norms:
        mean, variance, factor = (np.asarray(blob.data, np.float32) for blob in layer.blobs)
        assert factor.shape == (1,)
        assert factor[0] > 900
        assert (variance > 0).all()
        forgetful[layer.name] = [mean, variance, np.ones_like(factor)]
    right = (oracle_scores(name, forgetful).argmax(1) == held_out()[1]).mean()
    assert right < 0.3


@pytest.mark.parametrize("name", SCORES)
def test_opencv_gives_the_scores_of_the_oracle(name: str, tmp_path: Path) -> None:
    deploy = prototxt(name)
    at_test = [layer for layer in deploy.layer if not any(rule.phase == caffe_pb2.TRAIN for rule in layer.include)]
    layers = [layer for layer in at_test if layer.type not in ("Data", "Input", "Accuracy", "SoftmaxWithLoss")]
    del deploy.layer[:]
    deploy.layer.add(name="data", type="Input", top=["data"]).input_param.shape.add(dim=[1, 1, 8, 8])
    for layer in layers:
        layer.ClearField("include")
        deploy.layer.append(layer)
    (tmp_path / "net.prototxt").write_text(text_format.MessageToString(deploy))

    weights = SAMPLES / f"{name}.caffemodel"
    scores = opencv_process.forward(tmp_path / "net.prototxt", weights, {"data": held_out()[0]}, SCORES[name])
    expected = oracle_scores(name)
    assert np.abs(scores.reshape(expected.shape) - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", SCORES)
def test_the_caffemodel_is_a_snapshot_of_the_train_net(name: str) -> None:
    layers = caffemodel(name).layer
    assert {layer.phase for layer in layers} == {caffe_pb2.TRAIN}
    assert layers[0].type == "Data"
    assert layers[-1].type == "SoftmaxWithLoss"
    written: set[str] = set()
    readers: list[str] = []
    for layer in layers:
        assert written.issuperset(layer.bottom), layer.name
        readers += [bottom for bottom in layer.bottom if bottom not in layer.top]
        written.update(layer.top)
        for blob in layer.blobs:
            assert len(blob.data) == np.prod(blob.shape.dim), layer.name
    assert len(readers) == len(set(readers)), "what several layers read goes through a Split"


def test_the_twins_of_a_batchnorm_share_one_name_and_differ_in_phase() -> None:
    for name in ("bn1", "bn2"):
        train, test = (layer for layer in prototxt("digits_train_test").layer if layer.name == name)
        assert (train.include[0].phase, train.batch_norm_param.use_global_stats) == (caffe_pb2.TRAIN, False)
        assert (test.include[0].phase, test.batch_norm_param.use_global_stats) == (caffe_pb2.TEST, True)


def test_the_images_are_rows_of_the_npz_after_mean_and_scale() -> None:
    data, label = held_out()
    listed = [line.split() for line in (SAMPLES / "digits_test.txt").read_text().splitlines()]
    images = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.glob("digits/*/*.png")}
    assert {path for path, _ in listed} == images
    assert len(listed) == 100
    for path, digit in listed:
        row = int(Path(path).stem)
        assert Path(path).parent.name == digit == str(label[row])
        image = np.asarray(Image.open(SAMPLES / path))
        assert image is not None
        assert np.array_equal((image.astype(np.float32) - 73) * np.float32(0.00390625), data[row, 0]), path
