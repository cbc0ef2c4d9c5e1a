"""Boxes: partners by class and overlap, strays, and the row that stands for nothing."""

import numpy as np
import pytest
from nets import net
from onnx import ModelProto, helper
from onnx_models import model
from present import present

from bnfold.compare.comparison import compare
from bnfold.compare.detect import Detection, iou, match, only_boxes, real_rows, same_detector
from bnfold.compare.models import open_model
from bnfold.net import Array
from bnfold.onnx import to_onnx

ROWS = np.array(
    [
        [0, 1, 0.9, 0.1, 0.1, 0.5, 0.5],
        [0, 2, 0.8, 0.1, 0.1, 0.5, 0.5],
        [1, 1, 0.7, 0.2, 0.2, 0.6, 0.6],
    ]
)


def test_overlap_is_intersection_over_union() -> None:
    ours = np.array([[0, 0, 2, 2], [0, 0, 1, 1.0]])
    theirs = np.array([[1, 1, 3, 3], [0, 0, 1, 1], [5, 5, 6, 6.0]])
    np.testing.assert_allclose(iou(ours, theirs), np.array([[1 / 7, 1 / 4, 0], [0, 1, 0]]))


def test_boxes_without_area_overlap_where_they_are_one_rounding_apart() -> None:
    points = np.array([[0.25, 0.5, 0.25, 0.5], [0.75, 0.5, 0.75, 0.5], [0.1, 0.1, 0.9, 0.1], [0, 0, 1, 1.0]])
    moved = points * (1 + 1e-7)
    found = iou(points, moved)
    assert found.diagonal().min() > 0.99
    assert (found - np.diag(found.diagonal()) < 0.01).all()
    assert iou(points[:1], points[:1] + np.array([0.1, 0, 0.1, 0]))[0, 0] == 0
    turned = np.array([[0.5, 0.5, 0.4, 0.6], [0, 0, 1, 1.0]])
    assert iou(turned, turned + 1e-9)[0, 0] > 0.99
    assert iou(points[:1], points[:1])[0, 0] == 1


def test_boxes_of_another_class_or_image_are_no_partners() -> None:
    shuffled = ROWS[[2, 1, 0]]
    assert match(ROWS, shuffled, 0.5)[0] == [(0, 2), (1, 1), (2, 0)]
    assert match(ROWS[:1], ROWS[1:2], 0.5)[0] == []
    assert match(ROWS[:1], np.array([[1, *ROWS[0, 1:]]]), 0.5)[0] == []


def test_each_box_has_one_partner_and_the_best_goes_first() -> None:
    ours = np.array([[0, 1, 0.9, 0, 0, 10, 10], [0, 1, 0.8, 0, 0, 9, 10.0]])
    theirs = np.array([[0, 1, 0.9, 0, 0, 9, 10.0]])
    pairs, overlaps = match(ours, theirs, 0.5)
    assert pairs == [(1, 0)]
    assert overlaps == [1.0]


NET = """
input: "loc" input_shape {{ dim: 1 dim: 8 }} input: "conf" input_shape {{ dim: 1 dim: 4 }}
input: "prior" input_shape {{ dim: 1 dim: 2 dim: 8 }}
layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
  detection_output_param {{ num_classes: 2 nms_param {{ nms_threshold: {} top_k: 30 }} keep_top_k: {} }} }}
"""


def test_a_detector_is_the_same_as_operators_of_onnx_and_another_with_other_thresholds() -> None:
    ours, same, other = (net(NET.format(threshold, 20)) for threshold in (0.45, 0.45, 0.5))
    models = [open_model(one, "") for one in (ours, same, to_onnx(ours), other)]
    assert [same_detector(models[0], one, "out", "out") for one in models] == [True, True, True, False]
    assert compare(ours, to_onnx(ours)).passed
    assert not compare(ours, to_onnx(net(NET.format(0.45, 1)))).passed


def test_of_boxes_in_one_place_those_of_one_score_are_partners() -> None:
    rows = np.array([[0, 1, score, 0.1, 0.1, 0.5, 0.5] for score in (0.9, 0.8, 0.7)])
    assert match(rows, rows[1:], 0.5)[0] == [(1, 0), (2, 1)]


@pytest.mark.parametrize("nothing", [[-1] * 7, [0] * 7, [-1, 0, 0, 0, 0, 0, 0]])
def test_the_row_of_an_empty_result_is_no_box(nothing: float) -> None:
    assert len(real_rows(np.array([[[nothing]]]), 1)) == 0


def test_missed_and_extra_boxes_carry_their_sample() -> None:
    detection = Detection("detections")
    moved = ROWS.copy()
    moved[2, 3:] += 0.35
    moved[0, 2] = 0.6
    ours, theirs = present(detection.add(ROWS[None, None], moved[None, None], range(10, 12), ["a.jpg", "b.jpg"]))
    found = detection.result()
    assert (found.reference_boxes, found.candidate_boxes, found.matched) == (3, 3, 2)
    assert found.max_score_diff == pytest.approx(0.3)
    assert found.mean_iou == 1
    assert [(stray.sample, stray.name, stray.box.label) for stray in found.missed] == [(11, "b.jpg", 1)]
    assert found.extra[0].box.corners == pytest.approx((0.55, 0.55, 0.95, 0.95))
    assert ours.shape == theirs.shape == (2, 7)


def test_detectors_with_different_numbers_of_boxes_are_compared_by_their_boxes() -> None:
    weights = {"zero": np.zeros((1, 1, 1, 1), np.float32)}

    def detector(rows: Array) -> ModelProto:
        nodes = [
            helper.make_node("ReduceMean", ["data"], ["mean"], "mean", keepdims=1),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"], "mul"),
            helper.make_node("Add", ["nothing", "rows"], ["boxes"], "boxes"),
        ]
        found = weights | {"rows": rows[None, None].astype(np.float32)}
        return model(nodes, {"data": (1, 1, 2, 2)}, ["boxes"], found)

    rows = ROWS.copy()
    rows[:, 0] = 0
    assert compare(detector(rows), detector(rows[[1, 2, 0]])).passed
    report = compare(detector(rows), detector(rows[:2]))
    assert not report.passed
    assert len(present(report.detector).missed) == 3  # one in each of three samples of noise
    assert "3 boxes missed and 0 extra of 9" in report.verdict


@pytest.mark.parametrize("low", [2.0, -3.0, 0.25])
def test_a_plane_that_is_seven_wide_is_compared_as_it_stands(low: float) -> None:
    def scaled(factor: float) -> ModelProto:
        nodes = [helper.make_node("Mul", ["data", "factor"], ["plane"], "mul")]
        return model(nodes, {"data": (1, 1, 5, 7)}, ["plane"], {"factor": np.array([factor], np.float32)})

    planes = np.random.default_rng(0).uniform(low, low + 0.5, (4, 1, 5, 7)).astype(np.float32)
    assert compare(scaled(1.0), scaled(1.0), planes).passed
    report = compare(scaled(1.0), scaled(1.5), planes)
    assert report.detector is None
    assert (report.passed, report.blobs[0].values) == (False, planes.size)
    assert report.blobs[0].max_abs == pytest.approx(np.abs(planes).max() / 2, rel=1e-6)


def test_rows_are_boxes_by_whole_numbers_and_nothing_is_all_0_or_minus_1() -> None:
    for rows in (ROWS, [[-1] * 7], [[1, *[-1] * 6]], [[-1, *[0] * 6]], np.zeros((0, 7))):
        assert only_boxes(np.array(rows)[None, None], 2)
    for row in ([2, 1, 0.9, 0, 0, 1, 1], [0, 0.5, 1, 0, 0, 1, 1], [0, np.nan, 1, 0, 0, 1, 1], [-1, 0, 0, 3, 0, 0, 0]):
        assert not only_boxes(np.array([*ROWS, row])[None, None], 2)


def test_no_boxes_on_either_side_prove_nothing_unless_what_they_are_made_of_was_compared() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["mean"], "mean", keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"], "mul"),
        helper.make_node("Add", ["nothing", "rows"], ["boxes"], "boxes"),
    ]
    found = {"zero": np.zeros((1, 1, 1, 1), np.float32), "rows": np.full((1, 1, 1, 7), -1, np.float32)}
    detector = model(nodes, {"data": (1, 1, 2, 2)}, ["boxes"], found)
    assert compare(detector, detector).passed
    report = compare(detector, detector, layers=False)
    assert report.verdict.startswith("Nothing is proved: output 'boxes' has no box; give samples")


def test_boxes_without_an_end_are_partners_only_of_themselves() -> None:
    endless = np.array([[0, 1, 0.9, -np.inf, 0, np.inf, 1.0]])
    assert match(endless, endless, 0.5)[0] == [(0, 0)]
    assert match(endless, ROWS[:1], 0.5)[0] == []


def test_boxes_without_an_end_are_partners_of_their_equals() -> None:
    """Of noise, YOLO's exponentials overflow; one box as large as numbers go makes all others thin beside it."""
    rows = np.array(
        [
            [0, 1, 0.9, -3e38, -3e38, np.inf, 3e38],
            [0, 1, 0.8, 0.1, 0.1, 0.5, 0.5],
            [0, 1, 0.7, 0.2, 0.3, 0.6, 0.9],
            [0, 1, 0.6, -np.inf, -3e38, np.inf, np.inf],
        ]
    )
    order = [3, 1, 0, 2]
    assert sorted(match(rows, rows[order], 0.5)[0]) == [(row, order.index(row)) for row in range(4)]


def test_boxes_and_scores_of_any_number_are_matched_without_a_warning() -> None:
    random = np.random.default_rng(0)
    pool = np.array([0, 0.25, 1, 2, np.nan, np.inf, -np.inf, 1.7e308, -1.7e308])
    for _ in range(300):
        sides = [random.choice(pool, (1, 1, count, 7)) for count in random.integers(1, 6, 2)]
        for side in sides:
            side[..., :2] = random.choice([0, 1, np.inf], (*side.shape[:3], 2))  # a class without a number is none
        found = Detection("boxes")
        found.add(sides[0], sides[1], range(2), ["a", "b"])
        assert found.result().matched <= min(found.counts)


def test_equal_scores_that_are_infinite_are_not_apart() -> None:
    rows = ROWS.copy()
    rows[0, 2] = np.inf
    found = Detection("boxes")
    found.add(rows, rows.copy(), range(2), ["a", "b"])
    assert (found.matched, found.max_score_diff) == (3, 0)
