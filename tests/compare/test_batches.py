"""What a sample is: a row of every input, or a whole run where the first axis is of planes or steps."""

from pathlib import Path

import nets
import numpy as np
import pytest
from onnx import ModelProto, helper, parser
from onnx_models import change, model

import bnfold
from bnfold.compare.batches import layout_of
from bnfold.compare.comparison import compare
from bnfold.data.samples import Feed
from bnfold.net import Net

FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("shape", "made", "batched"),
    [
        ((3, 8, 9), [(1, 5)], False),
        ((3, 8, 9), [(None, 4), (None,)], False),  # boxes and scores
        ((3, 8, 9), [(300, 4)], False),
        ((3, 8, 9), [(3, 5)], True),
        ((3, 8, 9), [], True),  # a number of samples that was asked for
        ((3, 3, 8, 9), [(1, 5)], True),
        ((1, 8, 9), [(5,)], True),
        ((None, 8, 9), [(5,)], True),
        ((6, 8, 9), [(1, 5)], False),
        ((6, 8, 9), [(48, 5)], True),  # a row for each step of each sample
        ((6, 8, 9), [(8, 6, 5)], True),  # steps first
        ((3, 8, 9), [(1, 3, 8, 9)], False),
        ((6, 8, 9), [(None, 5)], True),
        ((6, 8), [()], False),
    ],
)
def test_a_first_axis_is_of_samples_where_an_output_has_it(
    shape: tuple[int | None, ...], made: list[tuple[int | None, ...]], batched: bool
) -> None:
    feeds = {"x": Feed(shape, FLOAT)}
    assert layout_of(feeds, feeds, {"x": "x"}, made).batched == batched


def image_net(*size: int | str) -> ModelProto:
    """An image without a batch, as torchvision's detectors take it, and five scores."""
    random = np.random.default_rng(0)
    weights = {
        "front": np.array([0]),
        "w": random.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "b": random.normal(0, 0.3, 6).astype(np.float32),
        "fc": random.normal(0, 0.5, (6, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["image", "front"], ["data"], "front"),
        helper.make_node("Conv", ["data", "w", "b"], ["conv"], "conv"),
        helper.make_node("Relu", ["conv"], ["relu"], "relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "fc"], ["scores"], "fc"),
    ]
    return model(nodes, {"image": (3, *size)}, ["scores"], weights)


def caffe_image_net(seed: int = 0) -> Net:
    return nets.net(
        """
        input: "image" input_shape { dim: 3 dim: 8 dim: 9 }
        layer { name: "front" type: "Reshape" bottom: "image" top: "front"
          reshape_param { shape { dim: 1 } axis: 0 num_axes: 0 } }
        layer { name: "conv" type: "Convolution" bottom: "front" top: "conv"
          convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
        layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
        """,
        seed,
    )


def pairs() -> list[tuple[ModelProto | Net, ModelProto | Net, ModelProto | Net]]:
    """A network, the same one, and a wrong one."""
    onnx, caffe = image_net(8, 9), caffe_image_net()
    return [(onnx, onnx, change(onnx, "b", (2,), 0.5)), (caffe, bnfold.fold(caffe).net, caffe_image_net(1))]


def test_planes_of_an_image_are_no_samples(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(1)
    images = random.normal(0, 1, (5, 3, 8, 9)).astype(np.float32)
    for number in range(2):
        Image.fromarray(random.integers(0, 255, (8, 9, 3), np.uint8)).save(tmp_path / f"{number}.png")
    for reference, same, wrong in pairs():
        noise = compare(reference, same)
        assert (noise.passed, noise.sample_count) == (True, 3)
        assert not compare(reference, wrong).passed
        for data, count in ((images, 5), (images[0], 1), (str(tmp_path), 2)):
            report = compare(reference, same, data)
            assert (report.passed, report.sample_count) == (True, count)
            assert not compare(reference, wrong, data).passed


def test_an_image_of_open_sizes_gets_the_usual_ones() -> None:
    notes = compare(image_net("height", "width"), image_net("height", "width")).notes
    assert any("'image' 3x224x224" in note for note in notes), notes


ROW = """<ir_version: 8, opset_import: ["": 17]> g (float[%s,4] x) => (float[%s,4] y)
<float[4,4] w = {1, 2, -1, 0.5, 3, -2, 1, 0, 0.25, 1, 1, -1, 2, 0, 1, 3}, int64[1] axis = {1}, int64 zero = {0},
 int64 one = {1}, int64 last = {%d}, float off = {0.5}>
{ m = MatMul (x, w) s = Shape (x) n = Gather (s, zero) rows = Range (zero, n, one) later = Greater (rows, last)
  flags = Cast <to = 1> (later) wrong = Mul (flags, off) column = Unsqueeze (wrong, axis) y = Add (m, column) }"""


@pytest.mark.parametrize(
    ("batch", "last", "count", "gate"),
    [("N", 0, 1, "rows"), ("N", 0, 2, "tolerance"), ("8", 5, 1, "rows"), ("8", 5, 3, "rows"), ("8", 5, 9, "tolerance")],
)
def test_a_row_that_no_sample_reached_is_held_to_the_last_one(batch: str, last: int, count: int, gate: str) -> None:
    right, wrong = (parser.parse_model(ROW % (batch, batch, row)) for row in (99, last))
    data = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    assert bnfold.compare(right, right, data).passed
    report = bnfold.compare(right, wrong, data, layers=False)
    assert next(found.name for found in report.gates if not found.passed) == gate
    assert ("in row " in report.verdict) == (gate == "rows" or count == 9)
    assert report.sample_count == count
