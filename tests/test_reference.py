"""The oracle against the outputs that real Caffes gave: the goldens, and the zoo where it is there."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from cases import load_arrays

Array = npt.NDArray[Any]

TESTS = Path(__file__).parent
GOLDEN = sorted(path.parent for path in TESTS.glob("golden/*/net.prototxt"))
ZOO = TESTS.parent.parent / "shared" / "zoo"
ZOO_CASES = sorted(path.parent for path in ZOO.glob("*/*/net.prototxt"))
ANSWERED = [case for case in ZOO_CASES if (case / "outputs.npz").exists()]

# Of an output's range. Caffe computed in float32, the oracle in float64.
TOLERANCE = 2e-5
# Untrained and deep: float32 against float64 of the oracle itself is 2.4e-4 of the range in the worst of them.
DEEP_TOLERANCE = 1e-3
DEEP = {"inception-v3", "inception-v4", "resnet101"}

needs_zoo = pytest.mark.skipif(not ZOO_CASES, reason="needs the zoo in ../shared")


def load(case: Path) -> reference.ReferenceNet:
    return reference.load(case / "net.prototxt", case / "net.caffemodel")


def assert_answers_as_caffe(case: Path, tolerance: float) -> None:
    net = load(case)
    shapes_file = case / "input_shapes.json"
    input_shapes = json.loads(shapes_file.read_text()) if shapes_file.exists() else None
    blobs = net.run(load_arrays(case / "inputs.npz"), input_shapes=input_shapes)
    answers = load_arrays(case / "outputs.npz")
    assert sorted(net.outputs) == sorted(answers)
    detectors = {top for layer in net.layers if layer.type == "DetectionOutput" for top in layer.tops}
    for name, answer in answers.items():
        ours = blobs[name]
        assert ours.shape == answer.shape, name
        if name in detectors:
            ours = with_ties_as_in(answer, ours)
        assert distance(ours, answer) < tolerance, name


def distance(ours: Array, answer: Array) -> float:
    """The largest difference, relative to the answer's range; -FLT_MAX, from an empty window, is no part of a range."""
    empty = answer == np.finfo(np.float32).min
    assert (ours[empty] == answer[empty]).all()
    ours, answer = ours[~empty], answer[~empty]
    extent = max(float(np.ptp(answer)), float(np.abs(answer).max())) or 1.0
    return float(np.abs(ours - answer).max()) / extent


def with_ties_as_in(answer: Array, ours: Array) -> Array:
    """Our detections, neighbours of equal score swapped to the answer's order: float32 cannot tell which is first."""
    rows = list(ours.reshape(-1, 7))
    placed = []
    for row in answer.reshape(-1, 7):
        tied = [i for i, other in enumerate(rows) if np.abs(other[:3] - row[:3]).max() < 1e-6]
        best = min(tied or [0], key=lambda i: float(np.abs(rows[i] - row).max()))
        placed.append(rows.pop(best))
    return np.array(placed).reshape(ours.shape)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_golden_outputs_are_those_of_a_real_caffe(case: Path) -> None:
    assert_answers_as_caffe(case, TOLERANCE)


@needs_zoo
@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_zoo_outputs_are_those_of_a_real_caffe(case: Path) -> None:
    assert_answers_as_caffe(case, DEEP_TOLERANCE if case.name in DEEP else TOLERANCE)


@needs_zoo
@pytest.mark.parametrize("name", ["hyperlpr_finemapping_fp16", "vgg68_landmarks_merged_by_peer"])
def test_a_twin_model_computes_what_its_twin_does(name: str) -> None:
    twin = ZOO / "trained" / name.removesuffix("_fp16").removesuffix("_merged_by_peer")
    net = load(ZOO / "trained" / name)
    blobs = net.run(load_arrays(twin / "inputs.npz"))
    for output, answer in load_arrays(twin / "outputs.npz").items():
        assert distance(blobs[output], answer) < (5e-4 if name.endswith("_fp16") else TOLERANCE)  # halves: 2^-11


@needs_zoo
def test_vitis_batch_norms_are_read_as_scale_bias_mean_variance() -> None:
    net = load(ZOO / "trained" / "vitis_espnet_encoder")
    blobs = net.run({"data": np.random.default_rng(1).normal(size=(1, 3, 64, 128))}, versions=True)
    (norm, *_) = [layer for layer in net.layers if layer.type == "BatchNorm"]
    scale, bias, mean, variance, _ = (blob.astype(np.float64) for blob in norm.blobs)
    expected = (blobs[norm.bottoms[0]] - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(blobs[norm.tops[0]], expected, rtol=1e-12, atol=1e-12)


def test_every_golden_is_there() -> None:
    assert len(GOLDEN) == 313


def test_float32_runs_stay_float32() -> None:
    case = TESTS / "golden" / "seed_resnet_bn_scale"
    blobs = load(case).run(load_arrays(case / "inputs.npz"), dtype=np.float32)
    assert {blob.dtype for blob in blobs.values()} == {np.dtype(np.float32)}


def test_the_oracle_imports_nothing_from_what_it_judges() -> None:
    allowed = {"__future__", "collections", "dataclasses", "functools", "math", "numpy", "pathlib", "re", "reference"}
    allowed |= {"ast", "itertools", "struct", "typing"}  # ast: a `param_str` is a Python literal
    for path in (TESTS / "reference").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] in allowed, path
