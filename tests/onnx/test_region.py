"""Pooling of regions against the oracle, and proposals against a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from single_layer import assert_close, by_oracle, exported, layer_net

from bnfold import fold, save_caffe
from bnfold.errors import UnsupportedError
from bnfold.net import Array, Net, Shape
from bnfold.onnx import to_onnx


def regions(rng: np.random.Generator, count: int, images: int) -> Array:
    """Regions of an image of 100 x 80 pixels, some beyond its edge, some of no size."""
    start = rng.uniform(-10, 90, (count, 2))
    size = rng.uniform(0, 60, (count, 2)) * rng.integers(0, 2, (count, 1))
    image = rng.integers(0, images, (count, 1))
    return np.concatenate([image, start, start + size], axis=1).astype(np.float32)


@pytest.mark.parametrize("ratio", ["", "pad_ratio: 0.25"])
@pytest.mark.parametrize("opset", [11, 17])
def test_roi_pooling_gives_what_the_oracle_gives(opset: int, ratio: str) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 1, (2, 3, 10, 13)).astype(np.float32), regions(rng, 30, 2)]
    text = f'type: "ROIPooling" roi_pooling_param {{ pooled_h: 3 pooled_w: 4 spatial_scale: 0.125 {ratio} }}'
    net = layer_net(text, [x.shape for x in inputs])
    assert_close(exported(net, inputs, opset=opset), by_oracle(text, net, inputs))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("opset", [11, 17])
def test_psroi_pooling_gives_what_the_oracle_gives(opset: int, images: int) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(0, 1, (images, 18, 10, 13)).astype(np.float32), regions(rng, 30, images)]
    text = 'type: "PSROIPooling" psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.125 }'
    net = layer_net(text, [x.shape for x in inputs])
    assert_close(exported(net, inputs, opset=opset), by_oracle(text, net, inputs))


def proposals(scores: Array, deltas: Array, image: Array, least: float, first: int, most: int) -> tuple[Array, Array]:
    """mini-caffe's Proposal by its loops: stride 16, base 16, ratios 0.5 and 1, scale 2, overlap 0.5."""
    anchors = []
    for ratio in (0.5, 1.0):
        width = round(float(np.sqrt(256 / ratio)))
        height = np.floor(width * ratio + 0.5)
        half = 0.5 * (np.array([width, height]) * 2 - 1)
        anchors.append(np.concatenate([7.5 - half, 7.5 + half]))
    boxes, values = [], []
    for row, column, k in np.ndindex(scores.shape[2], scores.shape[3], 2):
        box = anchors[k] + 16 * np.array([column, row, column, row])
        size = box[2:] - box[:2] + 1
        centre = box[:2] + size / 2
        move = deltas[0, 4 * k : 4 * k + 4, row, column]
        centre, half = centre + move[:2] * size, np.exp(move[2:]) * size / 2
        limit = np.array([image[1], image[0]] * 2) - 1
        box = np.clip(np.concatenate([centre - half, centre + half]), 0, limit)
        large = (box[2:] - box[:2] + 1 >= least * image[2]).all()
        boxes.append(box)
        values.append(scores[0, 2 + k, row, column] * large)
    kept: list[int] = []
    for i in sorted(range(len(values)), key=lambda i: -values[i])[:first]:
        if len(kept) < most and all(overlap(boxes[i], boxes[j]) <= 0.5 for j in kept):
            kept.append(i)
    return np.array([[0, *boxes[i]] for i in kept]), np.array([values[i] for i in kept])


def overlap(one: Array, other: Array) -> float:
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) + 1, 0)
    areas = [np.prod(box[2:] - box[:2] + 1) for box in (one, other)]
    return float(np.prod(sides) / (areas[0] + areas[1] - np.prod(sides)))


@pytest.mark.parametrize(("first", "most"), [(6000, 300), (20, 5)])
def test_proposals_are_those_of_mini_caffe(first: int, most: int) -> None:
    rng = np.random.default_rng(3)
    scores = rng.random((1, 4, 5, 6)).astype(np.float32)
    deltas = rng.normal(0, 0.4, (1, 8, 5, 6)).astype(np.float32)
    image = np.array([[70, 90, 1.5]], np.float32)
    text = (
        'type: "Proposal" proposal_param { feat_stride: 16 base_size: 16 min_size: 16 ratio: 0.5 ratio: 1 scale: 2 '
        f"pre_nms_topn: {first} post_nms_topn: {most} nms_thresh: 0.5 }}"
    )
    inputs = [scores, deltas, image]
    net = layer_net(text, [x.shape for x in inputs], 2)
    assert_close(exported(net, inputs), proposals(scores, deltas, image[0], 16, first, most))


VITIS = """type: "Proposal" proposal_param {{
  stride_h: 16 stride_w: 8 nms_iou_th: {overlap} nms_input_num: {first} nms_output_num: {most} {least}
  anchor {{ left: -12.5 top: -20 right: 20 bottom: 36 }} anchor {{ left: 2 top: 1 right: 14 bottom: 9.25 }}
  anchor {{ left: -40 top: -8 right: 60 bottom: 30 }} }}"""


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize(
    ("first", "most", "least", "overlap", "kept"),
    [
        (6000, 300, "", 0.7, (20, 90)),
        (40, 300, "min_width: 9 min_height: 12", 0.5, (5, 30)),
        (6000, 5, "min_width: 16", 0.3, (5, 5)),
        (6000, 300, "min_height: 60", 0.7, (1, 1)),
    ],
)
def test_proposals_are_those_of_vitis(
    first: int, most: int, least: str, overlap: float, kept: tuple[int, int], opset: int
) -> None:
    rng = np.random.default_rng(7)
    scores = rng.random((1, 6, 5, 6)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (1, 12, 5, 6)).astype(np.float32)
    inputs = [scores, deltas, np.array([[70.5, 50, 1.25]], np.float32)]
    text = VITIS.format(first=first, most=most, least=least, overlap=overlap)
    net = layer_net(text, [x.shape for x in inputs])
    (wanted,) = by_oracle(text, net, inputs)
    assert kept[0] <= len(wanted) <= kept[1]
    assert_close(exported(net, inputs, opset=opset), [wanted])
    if least == "min_height: 60":
        assert wanted.tolist() == [[0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("moves", "image", "reason"),
    [
        ((1, 8, 5, 2), (1, 3), "its second bottom has shape 1x8x5x2, and its scores need 1x8x5x6 moves"),
        ((2, 8, 5, 6), (1, 3), "its second bottom has shape 2x8x5x6, and its scores need 1x8x5x6 moves"),
        ((1, 8, 5, 6), (1, 2), "its third bottom, 1x2, is not the image's height, width and scale"),
    ],
)
def test_a_proposal_of_bottoms_that_do_not_fit_each_other_is_refused(moves: Shape, image: Shape, reason: str) -> None:
    text = 'type: "Proposal" proposal_param { ratio: 0.5 ratio: 1 scale: 2 }'
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(layer_net(text, [(1, 4, 5, 6), moves, image]))


PYTHON = 'type: "Python" python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{}" }}'
RPN = [
    ("'feat_stride': 16", 9, (100, 150, 1.5)),
    ("{'feat_stride': 8, 'scales': [2, 4]}", 6, (60.5, 77.3, 0.5)),
    ("'feat_stride': 16\\n'scales': !!python/tuple [4, 8, 16, 32]", 12, (300, 400, 2.0)),
]


@pytest.mark.parametrize(("said", "anchors", "image"), RPN)
def test_a_python_proposal_layer_is_the_proposal_that_it_computes(
    said: str, anchors: int, image: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(anchors)
    scores = rng.random((1, 2 * anchors, 6, 9)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (1, 4 * anchors, 6, 9)).astype(np.float32)
    inputs = [scores, deltas, np.array([image], np.float32)]
    text = PYTHON.format(said)
    net = layer_net(text, [x.shape for x in inputs], 2)
    wanted = reference_of(said, net, inputs)
    assert 10 < len(wanted[0]) <= 300
    assert_close(exported(net, inputs), wanted)
    (note,) = (note for note in net.notes if "ProposalLayer" in note)
    assert "RPN_POST_NMS_TOP_N 300, RPN_NMS_THRESH 0.7, RPN_MIN_SIZE 16; no code of it is run" in note


def reference_of(said: str, net: Net, inputs: list[Array]) -> list[Array]:
    plain = said.replace("\\n", ", ").replace("!!python/tuple ", "")
    return by_oracle(PYTHON.format(plain), net, inputs, 2)


def test_no_proposal_is_left_where_all_boxes_are_small() -> None:
    scores, deltas = np.ones((1, 18, 2, 2), np.float32), np.full((1, 36, 2, 2), -9.0, np.float32)
    inputs = [scores, deltas, np.array([[32, 32, 1]], np.float32)]
    net = layer_net(PYTHON.format("'feat_stride': 16"), [x.shape for x in inputs])
    assert exported(net, inputs)[0].shape == (0, 5)


OTHERS = [
    "'feat_stride': 16, 'ratios': [1]",
    "'scales': [2, 4]",
    "'feat_stride': 2.5",
    "'feat_stride': 16, 'scales': []",
    "'feat_stride': 16, 'scales': [8 16]",
]
OTHERS += ["", "feat_stride: 1.5.2", "feat_stride: 16, scales: [1.2.3]", "feat_stride: 16 scales"]


@pytest.mark.parametrize("said", OTHERS)
def test_a_fork_of_the_python_proposal_layer_that_says_something_else_stays_code(said: str) -> None:
    net = layer_net(PYTHON.format(said), [(1, 18, 2, 2), (1, 36, 2, 2), (1, 3)])
    assert [note.startswith("what a layer of type 'Python' computes is code outside") for note in net.notes] == [True]
    with pytest.raises(UnsupportedError, match="Python code outside the network"):
        to_onnx(net)


def test_another_python_layer_stays_code_outside_the_network() -> None:
    net = layer_net(PYTHON.replace("rpn.proposal_layer", "my.proposal_layer").format("'feat_stride': 16"), [(1, 3)])
    with pytest.raises(UnsupportedError, match="Python code outside the network"):
        to_onnx(net)


def test_a_python_proposal_layer_is_written_as_it_was(tmp_path: Path) -> None:
    net = layer_net(PYTHON.format("'feat_stride': 16"), [(1, 18, 2, 2), (1, 36, 2, 2), (1, 3)])
    save_caffe(fold(net).net, tmp_path / "out.prototxt")
    written = (tmp_path / "out.prototxt").read_text()
    assert 'layer: "ProposalLayer"' in written
    assert "proposal_param" not in written
