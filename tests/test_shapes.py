"""Shapes: every golden's outputs, the traps of Caffe's arithmetic, and refusals of whatever does not fit."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter, NetStateRule
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Net, Shape
from bnfold.shapes import BLOB_SHAPES, SHAPES, blob_shapes, infer_shapes, output_shapes

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def layer_of(text: str, *, bottoms: int = 1, tops: int = 1, blobs: Sequence[Shape] = ()) -> Layer:
    """`type: "Pooling" pooling_param {...}` as a layer 'x' with so many bottoms and tops."""
    param = text_format.Parse(text, LayerParameter())
    learned = Blobs(np.zeros(shape, np.float32) for shape in blobs)
    return Layer("x", param.type, [f"b{i}" for i in range(bottoms)], [f"t{i}" for i in range(tops)], learned, param)


def tops_of(text: str, *bottoms: Shape, tops: int = 1) -> list[Shape]:
    shapes = output_shapes(layer_of(text, bottoms=len(bottoms), tops=tops), bottoms)
    assert shapes is not None
    return shapes


def is_in_test_net(param: LayerParameter) -> bool:
    def matches(rule: NetStateRule) -> bool:
        return not rule.HasField("phase") or rule.phase == 1

    return any(map(matches, param.include)) if param.include else not any(map(matches, param.exclude))


def golden_net(folder: Path) -> tuple[Net, dict[str, str]]:
    """The TEST net of a case and, for each name in the file, the blob that is its last version."""
    written = text_format.Parse((folder / "net.prototxt").read_text(), NetParameter())
    stored = NetParameter.FromString((folder / "net.caffemodel").read_bytes())
    learned = {layer.name: Blobs(np.zeros(list(blob.shape.dim)) for blob in layer.blobs) for layer in stored.layer}
    inputs = {name: array.shape for name, array in np.load(folder / "inputs.npz").items()}
    given_shapes = folder / "input_shapes.json"
    if given_shapes.exists():
        inputs |= {name: tuple(shape) for name, shape in json.loads(given_shapes.read_text()).items()}
    version = {name: name for name in inputs}
    layers = []
    for param in filter(is_in_test_net, written.layer):
        if not param.bottom and all(top in inputs or top == "label" for top in param.top):
            continue
        if "label" in param.bottom:
            continue
        bottoms = [version[bottom] for bottom in param.bottom]
        for top in param.top:
            version[top] = f"{top}@{param.name}" if top in version else top
        tops = [version[top] for top in param.top]
        layers.append(Layer(param.name, param.type, bottoms, tops, learned.get(param.name, Blobs()), param))
    return Net(folder.name, layers, inputs), version


@pytest.mark.parametrize("case", CASES)
def test_inferred_shapes_are_those_of_the_golden_outputs(case: str) -> None:
    net, version = golden_net(GOLDEN / case)
    shapes = infer_shapes(net)
    outputs = np.load(GOLDEN / case / "outputs.npz")
    assert outputs.files
    for name in outputs.files:
        inferred = shapes[version[name]]
        assert inferred is not None, name
        actual = outputs[name].shape
        assert len(inferred) == len(actual), (name, inferred, actual)
        assert all(a in (-1, b) for a, b in zip(inferred, actual, strict=True)), (name, inferred, actual)


@pytest.mark.parametrize("case", CASES)
def test_promised_blob_shapes_are_those_of_the_golden_weights(case: str) -> None:
    net, _ = golden_net(GOLDEN / case)
    shapes = infer_shapes(net)
    for layer in net.layers:
        bottoms = [shape for shape in map(shapes.__getitem__, layer.bottoms) if shape is not None]
        promised = blob_shapes(layer, bottoms)
        if promised is not None:
            assert tuple(promised) == layer.blobs.shapes, layer
