"""Weights at the ends of float32: a layer that cannot be folded says why by its name, and numpy is never heard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from cases import golden
from nets import net

import bnfold
from bnfold import pipeline
from bnfold.algebra import fold
from bnfold.algebra.scaled import NotFiniteError, checked_while_computed
from bnfold.net import Net
from bnfold.pipeline import Job, Reading, Writing

ROOT = Path(__file__).resolve().parents[1]

DATA = 'input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }\n'
CONV = (
    'layer { name: "c" type: "Convolution" bottom: "%s" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }\n'
)
NORM = 'layer { name: "b" type: "BatchNorm" bottom: "%s" top: "b" }\n'
SCALE = 'layer { name: "s" type: "Scale" bottom: "%s" top: "s" scale_param { bias_term: true } }\n'
POWER = 'layer { name: "%s" type: "Power" bottom: "%s" top: "%s" power_param { scale: %s shift: %s } }\n'


@pytest.fixture(autouse=True)
def numpy_is_strict() -> object:
    """Whatever numpy would warn of is an error here, unless the code says that it expects it."""
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        yield


def conv(weight: float, bias: float = 1.0) -> list[np.ndarray]:
    return [np.full((2, 2, 1, 1), weight), np.array([bias, 1.0])]


def norm(mean: float, variance: float, factor: float = 1.0) -> list[np.ndarray]:
    return [np.array([mean, 1.0]), np.array([variance, 1.0]), np.array([factor])]


def scale(gamma: float, beta: float) -> list[np.ndarray]:
    return [np.array([gamma, 1.0]), np.array([beta, 0.0])]


def made(text: str, weights: Mapping[str, Sequence[np.ndarray]]) -> Net:
    with np.errstate(over="ignore"):
        return net(DATA + text, **weights)


FOLDED = {
    "gamma 1e38 on a weight of 1": (CONV % "data" + SCALE % "c", {"c": conv(1.0), "s": scale(1e38, 0.0)}),
    "gamma below the smallest normal number": (CONV % "data" + SCALE % "c", {"c": conv(1.0), "s": scale(1e-45, 0.0)}),
    "variance 7e-46": (CONV % "data" + NORM % "c", {"c": conv(1.0), "b": norm(1.0, 7e-46)}),
    "variance -7e-44": (CONV % "data" + NORM % "c", {"c": conv(1.0), "b": norm(1.0, -7e-44)}),
    "variance 7e5": (CONV % "data" + NORM % "c", {"c": conv(1.0), "b": norm(1.0, 7e5)}),
    "factor 1e-45": (CONV % "data" + NORM % "c", {"c": conv(1.0), "b": norm(1e-45, 1e-45, 1e-45)}),
    "a shift of 3e38 summed in front": (SCALE % "data" + CONV % "s", {"s": scale(1.0, 3e38), "c": conv(0.25)}),
}


@pytest.mark.parametrize("what", FOLDED)
def test_extreme_values_that_fit_are_folded_to_finite_ones(what: str) -> None:
    result = fold(made(*FOLDED[what]))
    assert not list(result.report.kept)
    for layer in result.net.layers:
        assert all(np.isfinite(blob).all() for blob in layer.blobs)


KEPT = {
    "gamma 1e38 on a weight of 1000": (
        CONV % "data" + SCALE % "c",
        {"c": conv(1e3), "s": scale(1e38, 0.0)},
        "layer 'c' (Convolution): a folded weight would not be finite",
    ),
    "two biases of 3e38": (
        CONV % "data" + SCALE % "c",
        {"c": conv(1.0, 3e38), "s": scale(1.0, 3e38)},
        "layer 'c' (Convolution): a folded bias would not be finite",
    ),
    "a mean of 3e38 over a factor of 1e-38": (
        CONV % "data" + NORM % "c",
        {"c": conv(1.0), "b": norm(3e38, 1.0, 1e-38)},
        "layer 'c' (Convolution): a folded bias would not be finite",
    ),
    "a weight that is no number": (
        CONV % "data" + NORM % "c",
        {"c": conv(np.nan), "b": norm(1.0, 1.0)},
        "layer 'c' (Convolution): a folded weight would not be finite",
    ),
    "an infinite weight times 0": (
        CONV % "data" + SCALE % "c",
        {"c": conv(np.inf), "s": scale(0.0, 0.0)},
        "layer 'c' (Convolution): a folded weight would not be finite",
    ),
    "a gamma that is no number": (
        CONV % "data" + SCALE % "c",
        {"c": conv(1.0), "s": scale(np.nan, 0.0)},
        "its scale or shift is not finite",
    ),
    "a factor on weights below the normal numbers": (
        CONV % "data" + SCALE % "c",
        {"c": conv(1e-40), "s": scale(1.7, 0.0)},
        "layer 'c' (Convolution): a folded weight would be too small for all digits of float32",
    ),
    "a factor of 1e-10 on weights of 1e-30": (
        CONV % "data" + POWER % ("p", "c", "p", "1e-10", "0"),
        {"c": conv(1e-30, 1e-30)},
        "layer 'c' (Convolution): a folded weight would be too small for all digits of float32",
    ),
    "a factor of 1e-20 and another in one channel": (
        POWER % ("p", "data", "p", "1e-20", "0") + SCALE % "p",
        {"s": scale(1e-20, 0.0)},
        "layer 's' (Scale): the composition would be too small for all digits of float32",
    ),
    "a factor of 1e-3 and one of 1e-40 in one channel": (
        POWER % ("p", "data", "p", "1e-3", "0") + SCALE % "p",
        {"s": scale(1e-40, 0.0)},
        "layer 's' (Scale): the composition would be too small for all digits of float32",
    ),
    "a factor of 1e-10 on a parameter of 1e-30": (
        'layer { name: "k" type: "Parameter" top: "k" parameter_param { shape { dim: 2 } } }'
        + POWER % ("p", "k", "p", "1e-10", "0"),
        {"k": [np.full(2, 1e-30)]},
        "layer 'k' (Parameter): a folded constant would be too small for all digits of float32",
    ),
    "a factor in front of a weight of 3e38": (
        SCALE % "data" + CONV % "s",
        {"s": scale(1e30, 0.0), "c": conv(3e38)},
        "layer 'c' (Convolution): a folded weight would not be finite",
    ),
    "two factors of 1e38": (
        POWER % ("p", "data", "p", "1e38", "0") + POWER % ("q", "p", "q", "1e38", "0"),
        {},
        "layer 'q' (Power): the composition would not be finite as a stored value",
    ),
    "a BatchNorm in front of a gamma of 3e38": (
        NORM % "data" + SCALE % "b",
        {"b": norm(1.0, 1e-12), "s": scale(3e38, 3e38)},
        "layer 's' (Scale): the composition would not be finite as a stored value",
    ),
    "a dozen factors of 3e38, beyond float64": (
        "".join(POWER % (f"p{i}", f"p{i - 1}" if i else "data", f"p{i}", "3e38", "1") for i in range(12)),
        {},
        "layer 'p1' (Power): the composition would not be finite as a stored value",
    ),
}


@pytest.mark.parametrize("what", KEPT)
def test_what_would_overflow_is_kept_with_the_name_of_the_layer(what: str, tmp_path: Path) -> None:
    text, weights, reason = KEPT[what]
    result = fold(made(text, weights))
    assert any(reason in kept.reason for kept in result.report.kept)
    bnfold.save_caffe(result.net, tmp_path / "out.prototxt")


@pytest.mark.parametrize(("front", "weight", "behind"), [("1e-20", 1e-30, 1e20), ("1e20", 1e20, 1e-20)])
def test_what_a_weight_cannot_take_alone_it_takes_with_what_comes_later(
    front: str, weight: float, behind: float
) -> None:
    text = POWER % ("p", "data", "p", front, "0") + CONV % "p" + POWER % ("q", "c", "q", f"{behind:g}", "0")
    result = fold(made(text, {"c": conv(weight)}))
    assert [record.layer for record in result.report.folded] == ["p", "q"]
    assert result.net.layers[-1].blobs[0] == pytest.approx(float(front) * weight * behind, rel=1e-6)


def test_a_channel_whose_factor_has_few_digits_already_is_no_obstacle() -> None:
    result = fold(made(POWER % ("p", "data", "p", "0.5", "0") + SCALE % "p", {"s": scale(1e-40, 0.0)}))
    assert [layer.type for layer in result.net.layers if layer.blobs] == ["Scale"]
    assert len(result.report.merged) == 1


REFUSED = {
    "variance 0 without eps": (0.0, 1.0, "variance + eps of channel 0 is 0"),
    "variance -1": (-1.0, 1.0, "variance + eps of channel 0 is -0.99999"),
    "variance NaN": (np.nan, 1.0, "variance of channel 0 is nan"),
    "variance infinite": (np.inf, 1.0, "variance of channel 0 is inf"),
    "factor NaN": (1.0, np.nan, "its scale factor is nan"),
    "factor infinite": (1.0, np.inf, "its scale factor is inf"),
    "factor -1": (1.0, -1.0, "variance + eps of channel 0 is -0.99999"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_statistics_that_make_no_sense_name_layer_and_channel(what: str) -> None:
    variance, factor, sentence = REFUSED[what]
    layer = NORM % "c" if variance else NORM.replace("top", "batch_norm_param { eps: 0 } top") % "c"
    with pytest.raises(bnfold.BnfoldError, match=r"^layer 'b' \(BatchNorm\): ") as caught:
        fold(made(CONV % "data" + layer, {"c": conv(1.0), "b": norm(1.0, variance, factor)}))
    assert sentence in str(caught.value)


def test_the_command_is_clean_under_dev_mode_with_warnings_as_errors(tmp_path: Path) -> None:
    case = golden("seed_resnet_bn_scale")
    for path in (case.prototxt, case.caffemodel):
        shutil.copyfile(path, tmp_path / path.name)
    command = [
        "fold",
        "net.prototxt",
        "net.caffemodel",
        "-o",
        "out.prototxt",
        "-o",
        "out.onnx",
        "--html",
        "report.html",
    ]
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "bnfold", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("what", "output"), [*((what, "out.prototxt") for what in KEPT), ("gamma 1e38 on a weight of 1000", "out.onnx")]
)
def test_what_overflows_is_found_while_it_is_written_and_kept_for_the_same_reason(
    what: str, output: str, tmp_path: Path
) -> None:
    """A run looks at products as it writes them; what it says and writes is what a fold that looks first gives."""
    text, weights, _ = KEPT[what]
    bnfold.save_caffe(made(text, weights), tmp_path / "net.prototxt")
    caffemodel = tmp_path / "net.caffemodel"
    reading = Reading(tmp_path / "net.prototxt", str(caffemodel) if caffemodel.exists() else None)
    with np.errstate(all="warn"):
        report = pipeline.run(Job(reading, Writing((tmp_path / output,)), verify=False))
        expected = fold(pipeline.read(reading))
    assert report.fold == expected.report
    assert report.written
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_fold_that_looks_at_products_later_raises_where_one_is_not_finite() -> None:
    text, weights, _ = KEPT["gamma 1e38 on a weight of 1000"]
    net = made(text, weights)
    with checked_while_computed():
        later = fold(net)
    assert not list(later.report.kept)
    with pytest.raises(NotFiniteError):
        _ = [
            list(blob.chunks()) for layer in later.net.layers for blob in layer.blobs.stored if hasattr(blob, "chunks")
        ]
    assert list(fold(net).report.kept)


@pytest.mark.parametrize(("size", "passed"), [(1.0, True), (1e3, False)])
def test_what_is_too_large_between_two_layers_alone_fails_a_proof_that_meets_it(size: float, passed: bool) -> None:
    """Folded it is 2e33, as the formula says; the original gives infinity."""
    before = made(CONV % "data" + POWER % ("p", "c", "p", "1e-8", "0"), {"c": conv(1e37, 0.0)})
    result = fold(before)
    assert not list(result.report.kept)
    x = np.random.default_rng(1).uniform(0.5, 1.5, (3, 2, 4, 4)) * size
    with np.errstate(all="warn"):
        report = bnfold.compare(before, result.net, {"data": x.astype(np.float32)})
    assert report.passed == passed
