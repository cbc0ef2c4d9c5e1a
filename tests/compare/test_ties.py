"""Indices on equal values: counted, and not as differences; indices on unequal ones: differences."""

import pickle
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import change, model
from onnx_texts import model as text_model
from present import present

import bnfold
from bnfold.compare import comparison
from bnfold.compare import engine as engines
from bnfold.compare.comparison import compare
from bnfold.compare.models import Model, open_model
from bnfold.compare.planning import Segment
from bnfold.compare.pointers import Pointer, Steps, along_classes, in_plane, in_tensor, on_step
from bnfold.compare.ties import TIED, Ties, ties
from bnfold.net import Array, Net
from bnfold.onnx.graph import WeightStore
from bnfold.runtime import Provider, Session

pytestmark = pytest.mark.usefixtures("in_one_process")

UNPOOLING = """
input: "data" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "pool1" type: "Pooling" bottom: "one" top: "pool1" top: "mask1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "pool2" type: "Pooling" bottom: "pool1" top: "pool2" top: "mask2"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "up2" type: "Upsample" bottom: "pool2" bottom: "mask2" top: "up2" upsample_param { scale: 2 } }
layer { name: "up1" type: "Upsample" bottom: "up2" bottom: "mask1" top: "up1" upsample_param { scale: 2 } }
layer { name: "two" type: "Convolution" bottom: "up1" top: "two"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layer { name: "pool3" type: "Pooling" bottom: "two" top: "pool3" top: "mask3"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "up3" type: "Upsample" bottom: "pool3" bottom: "mask3" top: "up3" upsample_param { scale: 2 } }
"""
WEIGHTS = np.array([[1, 1], [-1, 1], [1, -1]], np.float32).reshape(3, 2, 1, 1)
BIAS = np.zeros(3, np.float32)


def unpooling(shift: float = 0.0, **weights: Sequence[Array]) -> Net:
    """A net whose first convolution gives equal values for (1, 2) and (2, 1), unless one weight is `shift` off."""
    moved = WEIGHTS.copy()
    moved[0, 1] -= shift
    return nets.net(UNPOOLING, one=[moved, BIAS], **weights)


def images() -> np.ndarray:
    data = np.random.default_rng(0).normal(0, 1, (2, 2, 8, 8)).astype(np.float32)
    data[:, :, 2, 2], data[:, :, 2, 3] = (1, 9), (9, 1)  # a tie in one window of the first channel
    return data


def test_a_mask_on_equal_values_is_a_tie_and_what_stands_behind_is_compared() -> None:
    report = compare(unpooling(), unpooling(1e-6), images())
    assert report.passed, report.verdict
    notes = [note for note in report.notes if "equal values" in note]
    assert "blob 'mask1': 2 of 96 indices differ on equal values, not counted" in notes[0]
    assert "what stands behind was compared with the reference's" in notes[0]
    assert {blob.blob: blob.max_rel < 1e-5 for blob in report.blobs} == dict.fromkeys(
        (b.blob for b in report.blobs), True
    )


def test_the_candidate_runs_once_more_where_it_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, session = [], Model.session

    def on_the_host(self: Model, blobs: Iterable[str], store: WeightStore, threads: int, *chosen: Any) -> Session:
        ran.append(chosen)
        return session(self, blobs, store, threads)

    monkeypatch.setattr(Model, "session", on_the_host)
    monkeypatch.setattr(comparison, "require_provider", lambda wanted, _: (wanted, Provider(wanted)))
    assert compare(unpooling(), unpooling(1e-6), images(), provider="cuda", tf32=True).passed
    assert ran == [("cuda", True)] * 3  # the reference, and the candidate twice


def test_outputs_alone_are_compared_with_the_ties_settled_too() -> None:
    assert compare(unpooling(), unpooling(1e-6), images(), layers=False).passed


def test_a_fault_behind_a_tie_is_found() -> None:
    weight, bias = unpooling().layers[-3].blobs
    wrong = unpooling(1e-6, two=[weight, bias + np.array([0.0, 0.01], np.float32)])
    report = compare(unpooling(), wrong, images())
    assert not report.passed
    assert report.first_divergent is not None
    assert report.first_divergent.layer == "two"
    assert not compare(unpooling(), unpooling(1e-6, two=[1.01 * weight, bias]), images(), layers=False).passed


def test_a_mask_on_unequal_values_is_a_difference() -> None:
    report = compare(unpooling(), unpooling(0.5), images())
    assert not report.passed
    assert next(blob for blob in report.blobs if blob.blob == "mask1").max_abs > 0


def tied(reference: Sequence[object], candidate: Sequence[object], scores: Array, tolerance: float = 1e-4) -> Array:
    ours, theirs = (np.array(one, np.float64) for one in (reference, candidate))
    return ties(ours, theirs, {"scores": scores}, tolerance, Pointer(("scores",), along_classes), len(scores))


def test_only_indices_of_equal_scores_are_settled() -> None:
    scores = np.array([[1.0, 1.0 - 1e-6, 0.0], [1.0, 0.5, 0.0]])
    assert tied([[0], [0]], [[1], [1]], scores).tolist() == [[True], [False]]


@pytest.mark.parametrize("neighbour", [[0.0, 1.0, 0.5], [0.0, 100.0, 50.0]])
def test_a_sample_is_judged_by_its_own_range_whatever_stands_beside_it(neighbour: list[float]) -> None:
    scores = np.array([[0.0, 1.0, 0.999], neighbour])
    assert not tied([[1], [1]], [[2], [1]], scores).any()


def test_indices_per_position_and_over_a_whole_sample_are_both_understood() -> None:
    scores = np.zeros((1, 3, 2, 2))
    scores[0, 0] = 1
    scores[0, 1, 1, 1] = 1
    per_position = np.zeros((1, 1, 2, 2))
    assert tied(per_position.tolist(), np.ones((1, 1, 2, 2)).tolist(), scores, 0).sum() == 1
    assert tied([[[3]]], [[[7]]], scores, 0).sum() == 1
    assert tied([[[3]]], [[[6]]], scores, 0).sum() == 0


def test_masks_point_into_a_plane_in_caffe_and_into_the_whole_tensor_in_onnx() -> None:
    values = np.arange(24.0).reshape(1, 2, 3, 4)
    places = np.array([5.0, 11.0]).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(in_plane(values, places), np.array([5.0, 23.0]).reshape(1, 2, 1, 1))
    np.testing.assert_array_equal(
        in_tensor(values, np.array([5.0, 23.0]).reshape(1, 2, 1, 1)), in_plane(values, places)
    )


def test_values_that_are_not_finite_do_not_stretch_the_range() -> None:
    scores = np.array([[1.0, 0.9, np.inf], [np.nan, 1.0, 1.0]])
    assert tied([[0], [1]], [[1], [2]], scores).tolist() == [[False], [True]]


def segmenter() -> ModelProto:
    weights = {"w": np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32)}
    weights["w"][1] = weights["w"][0]
    weights["b"] = np.array([0, 0, -9], np.float32)
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["score"], "score"),
        helper.make_node("ArgMax", ["score"], ["best"], "best", axis=1),
    ]
    return model(nodes, {"data": (1, 2, 4, 4)}, ["best"], weights)


def test_a_network_that_ends_in_argmax_is_judged_by_its_scores() -> None:
    report = compare(segmenter(), change(segmenter(), "b", (1,), 1e-6))
    assert report.passed
    assert any("indices differ on equal values, not counted" in note for note in report.notes)
    report = compare(segmenter(), change(segmenter(), "b", (1,), 5.0))
    assert not report.passed
    assert compare(segmenter(), change(segmenter(), "b", (1,), 1e-6), layers=False).passed


def unpooling_onnx() -> ModelProto:
    weights = {"w": WEIGHTS, "b": BIAS, "v": np.random.default_rng(1).normal(size=(2, 3, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["one"], "one"),
        helper.make_node("MaxPool", ["one"], ["pool", "places"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxUnpool", ["pool", "places"], ["up"], "up", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["up", "v"], ["two"], "two"),
    ]
    return model(nodes, {"data": (1, 2, 8, 8)}, ["two"], weights)


def test_masks_of_onnx_models_are_settled_too() -> None:
    report = compare(unpooling_onnx(), change(unpooling_onnx(), "w", (0, 1, 0, 0), -1e-6), images())
    assert report.passed, report.verdict
    assert any(note.startswith("blob 'places': 2 of 96 indices") for note in report.notes)
    assert not compare(unpooling_onnx(), change(unpooling_onnx(), "w", (0, 1, 0, 0), -0.5), images()).passed


def chooser(op_type: str, axis: int, **attributes: Any) -> ModelProto:
    """Scores of 3 classes over 4 places, two classes alike, and what the indices choose from a table."""
    weights = {"w": np.array([[1.0, -1.0], [1.0, -1.0], [-9.0, 0.5]], np.float32).T.copy()}
    weights["table"] = np.array([[1.0], [20.0], [300.0]], np.float32)
    weights["k"] = np.array([2])
    inputs = ["score", "k"] if op_type == "TopK" else ["score"]
    outputs = ["best", "which"] if op_type == "TopK" else ["which"]
    nodes = [
        helper.make_node("MatMul", ["data", "w"], ["score"], "score"),
        helper.make_node(op_type, inputs, outputs, "which", axis=axis, **attributes),
        helper.make_node("Gather", ["table", "which"], ["chosen"], "chosen"),
    ]
    return model(nodes, {"data": (2, 4, 2)}, ["chosen"], weights)


@pytest.mark.parametrize(
    "made", [chooser("ArgMax", 2, keepdims=0), chooser("ArgMax", -1), chooser("ArgMin", 2), chooser("TopK", -1)]
)
def test_indices_along_any_axis_of_an_onnx_model_are_settled(made: ModelProto) -> None:
    data = np.abs(np.random.default_rng(0).normal(3, 1, (2, 4, 2))).astype(np.float32) * np.array([1, 0], np.float32)
    data *= np.sign(2.0 - np.arange(8).reshape(2, 4, 1)) if made.graph.node[1].op_type == "ArgMin" else 1
    moved = change(made, "w", (0, 1), 1e-6)
    moved = change(moved, "w", (0, 0), -1e-6)
    report = compare(made, moved, data.astype(np.float32))
    assert report.passed, report.verdict
    assert any(note.startswith("blob 'which':") for note in report.notes)
    assert not compare(made, change(made, "w", (0, 1), 1.0), data.astype(np.float32)).passed


def detector(factor: float, shift: float = 0.0) -> ModelProto:
    """The best three of all scores of one image, as detectors choose them without a batch, and their places' values.

    The image is resized to a size of which the model says one number by a Cast.
    """
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Slice", ["shape", "zero", "three"], ["front"], "front"),
        helper.make_node("Constant", [], ["wide"], "wide", value=numpy_helper.from_array(np.array([4.0], np.float32))),
        helper.make_node("Cast", ["wide"], ["width"], "cast", to=7),
        helper.make_node("Concat", ["front", "width"], ["sizes"], "sizes", axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["resized"], "resize", mode="nearest"),
        helper.make_node("Mul", ["resized", "factor"], ["m"], "mul"),
        helper.make_node("Reshape", ["m", "all"], ["score"], "flat"),
        helper.make_node("TopK", ["score", "three"], ["best", "which"], "best"),
        helper.make_node("Gather", ["table", "which"], ["chosen"], "chosen"),
        helper.make_node("Add", ["chosen", "shift"], ["box"], "box"),
    ]
    weights = {
        "factor": np.array([1, factor, 1, 1], np.float32),
        "table": np.array([3, -1, 4, -2], np.float32),
        "shift": np.array(shift, np.float32),
        "all": np.array([-1]),
        "zero": np.array([0]),
        "three": np.array([3]),
    }
    inputs = [helper.make_tensor_value_info("x", 1, [1, 1, 1, 4])]
    outputs = [helper.make_tensor_value_info("box", 1, ["K"])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_the_best_of_a_list_without_a_batch_are_settled_where_a_size_of_the_model_is_cast_too() -> None:
    scores = np.array([1, 1, 0.5, 0], np.float32).reshape(1, 1, 1, 4)
    report = compare(detector(1), detector(1 + 1e-6), scores)
    assert report.passed, report.verdict
    assert any(note.startswith("blob 'which': 2 of 3 indices differ on equal values") for note in report.notes)
    assert not compare(detector(1), detector(1 + 1e-6, 0.01), scores).passed
    assert not compare(detector(1), detector(1.1), scores).passed


def suppressing(
    factor: float = 1.0, stretch: float = 1.0, overlap: float = 0.5, shift: float = 0.0, in_body: bool = True
) -> ModelProto:
    """The boxes that overlap no better one too much, moved: by NonMaxSuppression, as PyTorch exports it in a body."""
    inside = """
        three = Unsqueeze (boxes, first)
        rated = Unsqueeze (scores, firsts)
        kept = NonMaxSuppression (three, rated, most, overlap)
        {} = Gather <axis = 1> (kept, last)
    """
    choice = "sum = ReduceSum <keepdims = 0> (x) none = Less (sum, nought)"
    choice += f"""which = If (none) <
        then_branch = empty () => (int64[M] then) {{ then = Constant <value = int64[1] {{0}}> () }},
        else_branch = some () => (int64[K] else) {{ {inside.format("else")} }}>"""
    parsed = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        detector (float[4] x) => (float[K, 4] box) {{
            scores = Mul (x, factor)
            boxes = Mul (given, stretch)
            {choice if in_body else inside.format("which")}
            chosen = Gather (boxes, which)
            box = Add (chosen, shift)
        }}""")
    stored = {
        "factor": np.array([1, factor, 1, 1], np.float32),
        # The second overlaps the first by 1/2, the others nothing.
        "given": np.array([[0, 0, 4, 2], [0, 0, 2, 2], [9, 9, 7, 6], [-3, -5, -1, -2]], np.float32),
        "stretch": np.array([[stretch], [1], [1], [1]], np.float32),
        "most": np.array([9]),
        "overlap": np.array([overlap], np.float32),
        "shift": np.array([shift, -2, 3, 1], np.float32),
        "first": np.array([0]),
        "firsts": np.array([0, 1]),
        "last": np.array(2),
        "nought": np.array(0, np.float32),
    }
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return parsed


@pytest.mark.parametrize(("in_body", "layers"), [(True, True), (True, False), (False, True)])
def test_boxes_that_are_kept_in_another_order_or_number_by_rounding_are_settled(in_body: bool, layers: bool) -> None:
    scores = np.array([1, 2, 2, 1.5], np.float32)

    def against(**changes: Any) -> bnfold.DiffReport:
        return compare(suppressing(in_body=in_body), suppressing(in_body=in_body, **changes), scores, layers=layers)

    reordered, fewer = against(factor=1 - 1e-6), against(stretch=1 - 1e-6)
    assert reordered.passed, reordered.verdict
    whole = 4 if in_body else 12
    assert any(f"2 of {whole} integers differ that the same operator makes" in note for note in reordered.notes)
    assert fewer.passed, fewer.verdict
    assert any(f"{whole} of {whole} integers differ that the same operator makes" in note for note in fewer.notes)
    for wrong in (
        {"factor": 0.99},
        {"stretch": 0.99},
        {"overlap": 0.499},
        {"factor": 1 - 1e-6, "shift": 0.1},
        {"stretch": 1 - 1e-6, "shift": 0.1},
    ):
        assert not against(**wrong).passed, wrong


def staged(factor: float, shift: float = 0.0) -> ModelProto:
    """The best 3 of 4, of these those whose second score is high, and of those the boxes that overlap no better one."""
    parsed = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        detector (float[4] x) => (float[K, 4] box) {
            first = Mul (x, factor)
            best, order = TopK (first, three)
            second = Gather (seconds, order)
            high = Greater (second, half)
            places = NonZero (high)
            place = Squeeze (places, nought)
            boxes = Gather (given, order)
            left = Gather (boxes, place)
            scores = Gather (second, place)
            listed = Unsqueeze (left, nought)
            rated = Unsqueeze (scores, firsts)
            kept = NonMaxSuppression (listed, rated, three)
            which = Gather <axis = 1> (kept, last)
            chosen = Gather (left, which)
            box = Add (chosen, shift)
        }""")
    stored = {
        "factor": np.array([1, 1, 1, factor], np.float32),
        "seconds": np.array([0.9, 0.7, 0.2, 0.8], np.float32),
        "given": np.array([[0, 0, 4, 2], [5, 0, 7, 2], [9, 9, 7, 6], [-3, -5, -1, -2]], np.float32),
        "half": np.array(0.5, np.float32),
        "three": np.array([3]),
        "nought": np.array([0]),
        "firsts": np.array([0, 1]),
        "last": np.array(2),
        "shift": np.array([shift, -2, 3, 1], np.float32),
    }
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return parsed


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 - 1e-6])
@pytest.mark.parametrize("room", [1 << 30, 1])
def test_more_or_fewer_boxes_behind_an_order_that_is_a_tie_are_settled(
    factor: float, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "memory_budget", lambda *_: room)
    scores = np.array([3, 2, 1, 1], np.float32)
    report = compare(staged(2 - factor), staged(factor), scores)
    assert report.passed, report.verdict
    assert any("blob 'order': 1 of 3 indices differ on equal values" in note for note in report.notes)
    assert not compare(staged(2 - factor), staged(factor, 0.01), scores).passed
    assert not compare(staged(2 - factor), staged(factor + np.copysign(0.01, factor - 1)), scores).passed


@pytest.mark.parametrize("wrong", [False, True])
def test_segments_settle_as_one_run_does_and_shapes_take_one_run_of_each_network(
    wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, shapes, ran, again = engines.Engine._given, engines.Engine.shapes, list[int](), list[int]()
    seen: list[tuple[int, list[int]]] = []

    def counted(self: engines.Engine, segment: Segment, place: int, feeds: Any) -> Any:
        values = given(self, segment, place, feeds)
        ran.append(place)
        again.append(sum(ties._again is not None for one in self.segments for ties in one.ties))
        return values

    def told(self: engines.Engine, data: Any) -> Any:
        found = shapes(self, data)
        seen.append((len(self.segments), list(ran)))
        return found

    ours = unpooling()
    weight, bias = ours.layers[-3].blobs
    theirs = unpooling(1e-6, two=[weight, bias + np.array([0.0, 0.01 * wrong], np.float32)])
    whole = compare(ours, theirs, images())
    assert whole.passed is not wrong
    monkeypatch.setattr(engines.Engine, "_given", counted)
    monkeypatch.setattr(engines.Engine, "shapes", told)
    for room in (1, 4000):
        monkeypatch.setattr(engines, "memory_budget", lambda *_, room=room: room)
        ran.clear()
        found = compare(ours, theirs, images())
        assert (found.blobs, found.gates) == (whole.blobs, whole.gates)
    assert [runs for _, runs in seen] == [[0, 1]] * 2
    assert min(segments for segments, _ in seen) > 1
    assert max(again) <= 1


def test_a_segment_begins_with_the_indices_that_another_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask points at unequal values: a first run has the reference's, a second its own, and so on behind it."""
    shown, wrong = images()[:1], unpooling(0.5)
    whole = compare(unpooling(), wrong, shown)
    tries, settled, resolve = list[int](), Ties._settled, Ties.resolve

    def counted(self: Ties, *given: Any) -> Any:
        tries[-1] += 1
        return settled(self, *given)

    def begun(self: Ties, *given: Any, **options: Any) -> Any:
        tries.append(-1)
        return resolve(self, *given, **options)

    monkeypatch.setattr(Ties, "_settled", counted)
    monkeypatch.setattr(Ties, "resolve", begun)
    monkeypatch.setattr(engines, "memory_budget", lambda *_: 1)
    found = compare(unpooling(), wrong, shown)
    assert not whole.passed
    assert (found.blobs, found.gates) == (whole.blobs, whole.gates)
    assert tries[0] > 1
    assert len(tries) > 2
    assert set(tries[1:]) == {1}


def test_a_body_that_computes_otherwise_settles_nothing() -> None:
    scores = np.array([1, 2, 2, 1.5], np.float32)
    other = suppressing(1 - 1e-6)
    node = next(node for node in other.graph.node if node.op_type == "If")
    body = next(one.g for one in node.attribute if one.name == "else_branch")
    body.node[-2].input[3] = "nought"
    assert not compare(suppressing(), other, scores).passed


def two_classes(factor: float = 1.0, stretch: float = 1.0, offset: float = 0.0) -> ModelProto:
    """The boxes that are kept of a class whose scores are far smaller than those of the other one."""
    parsed = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        detector (float[1, 2, 4] x) => (int64[K, 3] kept, float[1, 4, 4] moved) {
            scores = Mul (x, factor)
            boxes = Mul (given, stretch)
            moved = Add (boxes, offset)
            kept = NonMaxSuppression (moved, scores, most, overlap)
        }""")
    stored = {
        "factor": np.array([[1, 1, 1, 1], [1, factor, 1, 1]], np.float32),
        # The second overlaps the first by 1/2, the others nothing.
        "given": np.array([[[0, 0, 4, 2], [0, 0, 2, 2], [9, 9, 7, 6], [-3, -5, -1, -2]]], np.float32),
        "stretch": np.array([[stretch], [1], [1], [1]], np.float32),
        "offset": np.array([[0], [0], [0], [offset]], np.float32),
        "most": np.array([9]),
        "overlap": np.array([0.5], np.float32),
    }
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return parsed


@pytest.mark.parametrize("layers", [True, False])
def test_scores_of_a_class_and_sides_of_boxes_have_to_be_equal_by_themselves(layers: bool) -> None:
    scores = np.array([[[4000, 1, -3000, 2], [1, 2, 2, 1.5]]], np.float32)

    def against(offset: float = 0.0, **changes: Any) -> bnfold.DiffReport:
        return compare(two_classes(offset=offset), two_classes(offset=offset, **changes), scores, layers=layers)

    for right in (against(factor=1 - 1e-6), against(stretch=1 - 1e-6)):
        assert right.passed, right.verdict
        assert any("integers differ that the same operator makes" in note for note in right.notes)
    for wrong in (against(factor=0.99), against(factor=0.9), against(2e3, stretch=0.99)):
        assert not wrong.passed
        assert "'kept'" in wrong.verdict
    assert against(2e3, stretch=1 - 1e-6).passed


@pytest.mark.parametrize("layers", [True, False])
def test_scores_have_to_be_equal_by_the_range_of_their_own_sample(layers: bool) -> None:
    large = [[4000, 1, -3000, 2], [0, 0, 0, 0]]
    data = np.array([[[0.4, 0.1, -0.3, 0.2], [1, 2, 2, 1.5]], large], np.float32)
    right, wrong = (compare(two_classes(), two_classes(factor), data, layers=layers) for factor in (1 - 1e-6, 0.9))
    assert right.passed, right.verdict
    assert any("integers differ that the same operator makes" in note for note in right.notes)
    assert not wrong.passed
    assert "'kept'" in wrong.verdict


@pytest.mark.parametrize("layers", [True, False])
def test_an_integer_that_a_body_makes_of_enlarged_values_is_no_choice(layers: bool) -> None:
    def counted(factor: float = 1.0) -> ModelProto:
        inside = "{0}1 = Mul (z, many) {0}2 = Floor ({0}1) {0} = Cast <to = 7> ({0}2)"
        parsed = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
            agraph (float[4] x) => (int64[4] y) {{
                z = Mul (x, factor)
                sum = ReduceSum <keepdims = 0> (x)
                none = Less (sum, nought)
                y = If (none) <then_branch = negative () => (int64[4] t) {{ {inside.format("t")} }},
                               else_branch = other () => (int64[4] e) {{ {inside.format("e")} }}>
            }}""")
        stored = {
            "factor": np.array([1, factor, 1, 1], np.float32),
            "many": np.array(1e6, np.float32),
            "nought": np.array(0, np.float32),
        }
        parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
        return parsed

    values = np.array([3.2, 0.1, -0.2, 0.3], np.float32)
    report = compare(counted(), counted(1.003), values, layers=layers)
    assert not report.passed
    assert "blob 'y'" in report.verdict


def test_indices_of_another_number_are_a_difference() -> None:
    data = np.random.default_rng(0).normal(3, 1, (2, 4, 2)).astype(np.float32)
    more = chooser("TopK", -1)
    next(one for one in more.graph.initializer if one.name == "k").CopyFrom(numpy_helper.from_array(np.array([3]), "k"))
    assert (
        "no partner of the same name and shape for output 'chosen'" in compare(chooser("TopK", -1), more, data).verdict
    )


@pytest.mark.parametrize("param", ["axis: 2", "axis: 1 top_k: 2", "axis: -1"])
def test_indices_along_any_axis_of_a_caffe_net_are_settled(param: str) -> None:
    text = f"""
    input: "data" input_shape {{ dim: 1 dim: 3 dim: 3 dim: 3 }}
    layer {{ name: "scale" type: "Scale" bottom: "data" top: "scale" scale_param {{ axis: 1 num_axes: 3 }} }}
    layer {{ name: "best" type: "ArgMax" bottom: "scale" top: "best" argmax_param {{ {param} }} }}
    """
    moved = np.ones((3, 3, 3), np.float32)
    moved[1, 1, 1] += 1e-6
    reference, candidate = (nets.net(text, scale=[gamma]) for gamma in (np.ones((3, 3, 3)), moved))
    report = compare(reference, candidate, np.ones((2, 3, 3, 3), np.float32))
    assert report.passed, report.verdict
    assert any(note.startswith("blob 'best':") for note in report.notes)


def test_values_farther_apart_than_float64_reaches_are_no_tie() -> None:
    most = np.finfo(np.float64).max
    values = np.array([[[most], [-most], [most]]])
    values = np.concatenate([values, values])
    assert tied([[[0]], [[0]]], [[[1]], [[2]]], values).reshape(-1).tolist() == [False, True]


STAIRS = [
    "Cast",
    "Ceil",
    "Floor",
    "Round",
    "QuantizeLinear",
    "QuantizeLinear, of constants",
    "QuantizeLinear, by channels",
]


def stair(kind: str, factor: float, shift: float = 0.0) -> ModelProto:
    """x * factor through a stair, whose steps are 1 or, where it has a scale, 1/4; and 1.5 times that, shifted."""
    op_type = kind.split(",")[0]
    weights = {"factor": np.array([factor], np.float32), "behind": np.array([1.5], np.float32)}
    sizes, dequantised = [], "q"
    nodes = [helper.make_node("Mul", ["x", "factor"], ["m"], "mul")]
    if op_type == "QuantizeLinear":
        count = () if kind != STAIRS[-1] else (3,)
        weights |= {"scale": np.full(count, 0.25, np.float32), "zero": np.full(count, 3, np.int8)}
        sizes, dequantised = ["scale", "zero"], "d"
        if kind == STAIRS[-2]:
            tensors = {name: numpy_helper.from_array(weights.pop(name)) for name in sizes}
            nodes += [helper.make_node("Constant", [], [name], value=tensor) for name, tensor in tensors.items()]
    nodes.append(helper.make_node(op_type, ["m", *sizes], ["q"], "stair"))
    if kind == "Cast":
        nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.INT64))
        nodes.append(helper.make_node("Cast", ["q"], ["d"], "back", to=TensorProto.FLOAT))
        dequantised = "d"
    if sizes:
        nodes.append(helper.make_node("DequantizeLinear", ["q", *sizes], ["d"], "back"))
    nodes.append(helper.make_node("Mul", [dequantised, "behind"], ["s"], "scaled"))
    weights["shift"] = np.array([shift], np.float32)
    nodes.append(helper.make_node("Add", ["s", "shift"], ["y"], "y"))
    return model(nodes, {"x": (2, 3, 4)}, ["y"], weights)


@pytest.mark.parametrize("kind", STAIRS)
def test_a_step_whose_edge_is_near_is_a_tie(kind: str) -> None:
    data = np.random.default_rng(0).normal(0, 3, (2, 3, 4)).astype(np.float32)
    edge = {"Cast": -2.0, "Ceil": 2.0, "Floor": 2.0, "Round": 2.5}.get(kind, 1.125)
    data[1, 2, 3] = edge
    report = compare(stair(kind, 1.0 - 1e-6), stair(kind, 1.0 + 1e-6), {"x": data})
    assert report.passed, report.verdict
    assert any("blob 'q': 1 of 24 values differ by a step whose edge is near" in note for note in report.notes)
    assert not compare(stair(kind, 1.0 - 1e-6), stair(kind, 1.0 + 1e-6, shift=0.1), {"x": data}).passed
    data[1, 2, 3] = edge * 0.98
    assert not compare(stair(kind, 1.0), stair(kind, 1.04), {"x": data}, tolerance=1e-3).passed


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-10.5, 15), "blob 'q': 1 of 24 values differ by a step whose edge is near"),
        ((-10.45, 15.05), "blob 'zero': 1 of 1 values differ by a step whose edge is near"),
    ],
)
def test_a_step_that_follows_from_all_values_is_a_tie_where_its_edge_is_near(
    ends: tuple[float, float], said: str
) -> None:
    """Of scale 0.1, as one value lies beside the edge of a step, or all of them beside that of the zero point."""

    def quantised(factor: float, shift: float = 0.0) -> ModelProto:
        nodes = [
            helper.make_node("Mul", ["x", "factors"], ["m"], "mul"),
            helper.make_node("DynamicQuantizeLinear", ["m"], ["q", "size", "zero"], "quantised"),
            helper.make_node("DequantizeLinear", ["q", "size", "zero"], ["d"], "back"),
            helper.make_node("Add", ["d", "shift"], ["y"], "y"),
        ]
        weights = {"factors": np.array([factor, 1, 1, factor], np.float32), "shift": np.array([shift], np.float32)}
        return model(nodes, {"x": (2, 3, 4)}, ["y"], weights)

    data = np.random.default_rng(0).uniform(-3, 3, (2, 3, 4)).astype(np.float32)
    data[0, 0, :2], data[1, 2, 3] = ends, 1.15
    report = compare(quantised(1 - 1e-6), quantised(1 + 1e-6), {"x": data})
    assert report.passed, report.verdict
    assert any(said in note for note in report.notes), report.notes
    assert not compare(quantised(1 - 1e-6), quantised(1 + 1e-6, shift=0.01), {"x": data}).passed
    assert not compare(quantised(0.99), quantised(1.01), {"x": data}, tolerance=1e-3).passed


@pytest.mark.parametrize("opset", [11, 18])
def test_the_largest_of_two_values_that_are_nearly_equal_is_a_tie(opset: int) -> None:
    def largest(factor: float, shift: float = 0.0) -> ModelProto:
        nodes = [
            helper.make_node("Mul", ["x", "factors"], ["m"], "mul"),
            helper.make_node("Hardmax", ["m"], ["q"], "largest", axis=1),
            helper.make_node("Add", ["q", "shift"], ["y"], "y"),
        ]
        weights = {"factors": np.array([[1, 1, factor, 1]], np.float32), "shift": np.array([shift], np.float32)}
        return model(nodes, {"x": (3, 4)}, ["y"], weights, opset)

    data = np.array([[1, 2, 2, 0], [3, 1, 2, -1], [0, 1, 2, 4]], np.float32)
    report = compare(largest(1 - 1e-6), largest(1 + 1e-6), {"x": data})
    assert report.passed, report.verdict
    assert any("blob 'q': 2 of 12 indices differ on equal values" in note for note in report.notes)
    assert not compare(largest(1 - 1e-6), largest(1 + 1e-6, shift=0.1), {"x": data}).passed
    wrong = compare(largest(0.9), largest(1.1), {"x": data}, tolerance=0.05)
    assert next(blob for blob in wrong.blobs if blob.blob == "q").max_abs == 1


def mask(op_type: str, factor: float, shift: float = 0.0, *, limit: str = "stored") -> ModelProto:
    """x where x * factor is on one side of a limit, as a flag says, and 0 elsewhere; and that, shifted."""
    weights = {"factor": factor, "limit": 1.125, "shift": shift}
    tensors = {name: np.array([value], np.float32) for name, value in weights.items()}
    nodes = [helper.make_node("Mul", ["x", "factor"], ["m"], "mul")]
    sides = ["m", "limit"]
    if limit == "a Constant":
        value = numpy_helper.from_array(tensors.pop("limit"))
        nodes.append(helper.make_node("Constant", [], ["limit"], value=value))
    if limit == "stored first":
        sides.reverse()
    if limit == "computed":  # |x| where it is no larger, and so x itself where that is positive
        nodes.append(helper.make_node("Abs", ["x"], ["a"], "abs"))
        nodes.append(helper.make_node("Min", ["a", "limit"], ["l"], "least"))
        sides[1] = "l"
    if op_type == "Sign":
        nodes.append(helper.make_node("Sub", sides, ["d"], "difference"))
        sides = ["d"]
    nodes += [
        helper.make_node(op_type, sides, ["q"], "flags"),
        helper.make_node("Cast", ["q"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "x"], ["w"], "w"),
        helper.make_node("Add", ["w", "shift"], ["y"], "y"),
    ]
    return model(nodes, {"x": (2, 3, 4)}, ["y"], tensors)


@pytest.mark.parametrize("op_type", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sign"])
@pytest.mark.parametrize("limit", ["stored", "stored first", "a Constant", "computed"])
def test_a_flag_whose_limit_is_near_is_a_tie(op_type: str, limit: str) -> None:
    data = np.random.default_rng(0).normal(0, 3, (2, 3, 4)).astype(np.float32)
    data[np.abs(data) < 1.25] = 3
    data[1, 2, 3] = 1.125

    def made(factor: float, shift: float = 0.0) -> ModelProto:
        return mask(op_type, factor, shift, limit=limit)

    below = 1.0 if op_type == "Equal" else 1 - 1e-6
    report = compare(made(below), made(1 + 1e-6), {"x": data})
    assert report.passed, report.verdict
    assert any("blob 'q': 1 of 24 flags differ at a limit that is near" in note for note in report.notes)
    assert not compare(made(below), made(1 + 1e-6, shift=0.1), {"x": data}).passed
    wrong = compare(made(1.0 if op_type == "Equal" else 0.98), made(1.04), {"x": data}, tolerance=1e-3)
    assert next(blob for blob in wrong.blobs if blob.blob == "q").max_abs == 1 + (op_type == "Sign")


THRESHOLDED = "q = ThresholdedRelu <alpha = %s> (m)"
SHRUNK = "q = Shrink <lambd = %s> (m)"
LIMIT = "l = Constant <value_float = %s> () z = Constant <value_float = 0.0> () "
CHOSEN = LIMIT + "b = LessOrEqual (m, l) q = Where (b, z, m)"
CHOSEN_BY_SIZE = LIMIT + "a = Abs (m) b = Greater (a, l) q = Where (b, m, z)"
MASKED = LIMIT + "f = Less (l, m) k = Cast <to = 1> (f) q = Mul (k, m)"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (THRESHOLDED, THRESHOLDED),
        (SHRUNK, SHRUNK),
        (THRESHOLDED, CHOSEN),
        (MASKED, THRESHOLDED),
        (CHOSEN, MASKED),
        (SHRUNK, CHOSEN_BY_SIZE),
    ],
)
def test_a_value_at_a_jump_that_is_near_is_a_tie_and_no_other_value_is(text: str, other: str) -> None:
    data = np.random.default_rng(0).normal(0, 3, (2, 3, 4)).astype(np.float32)
    data[np.abs(data) < 1.25] = 3
    data[1, 2, 3] = 1.125

    def made(jump: str, factor: float, at: float = 1.125, shift: float = 0.0) -> ModelProto:
        nodes = f"m = Mul (x, factor) {jump % at} y = Add (q, shift)"
        weights = f"float factor = {{{factor}}}, float shift = {{{shift}}}"
        return onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": 17]> g (float[2,3,4] x) => (float[2,3,4] y) <{weights}> {{ {nodes} }}'
        )

    report = compare(made(text, 1 - 1e-6), made(other, 1 + 1e-6), {"x": data})
    assert report.passed, report.verdict
    assert any("blob 'q': 1 of 24 values differ at a jump that is near" in note for note in report.notes)
    for wrong in (made(other, 1.001), made(other, 1 + 1e-6, 1.1249), made(other, 1 + 1e-6, shift=0.1)):
        assert not compare(made(text, 1 - 1e-6), wrong, {"x": data}).passed
    far = compare(made(text, 0.98), made(other, 1.04), {"x": data}, tolerance=1e-3)
    assert next(blob for blob in far.blobs if blob.blob == "q").max_abs > 0.5


def test_values_behind_a_jump_are_looked_at_as_any_values_are() -> None:
    data = np.random.default_rng(0).uniform(1, 3, (2, 3, 64)).astype(np.float32)

    def made(small: float, front: str) -> ModelProto:
        nodes = [
            helper.make_node("Mul", ["x", "factors"], [front], "mul"),
            helper.make_node("ThresholdedRelu", [front], ["y"], "y", alpha=1e-9),
        ]
        factors = np.array([[1], [1], [1e-4 * small]], np.float32)
        return model(nodes, {"x": (2, 3, 64)}, ["y"], {"factors": factors})

    report = compare(made(1, "a"), made(1.2, "b"), {"x": data})
    assert report.passed
    assert any("blob 'y': channel 2 differs by 20 % of itself" in note for note in report.notes), report.notes


THRESHOLD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 3 dim: 3 }
layer { name: "scale" type: "Scale" bottom: "data" top: "scale" scale_param { axis: 1 num_axes: 3 } }
layer { name: "flags" type: "Threshold" bottom: "scale" top: "flags" threshold_param { threshold: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "flags" top: "fc" inner_product_param { num_output: 2 } }
"""


@pytest.mark.parametrize("written", [False, True])
def test_a_threshold_of_a_caffe_net_is_settled_too(tmp_path: Path, written: bool) -> None:
    random = np.random.default_rng(0)
    data = random.normal(0, 1, (2, 3, 3, 3)).astype(np.float32)
    data[1, 1, 1, 1] = 0.5
    fc = [random.normal(size=(2, 27)).astype(np.float32), np.zeros(2, np.float32)]

    def made(gamma: float) -> Net:
        gammas = np.ones((3, 3, 3), np.float32)
        gammas[1, 1, 1] = gamma
        return nets.net(THRESHOLD, scale=[gammas], fc=fc)

    bnfold.save_onnx(made(1 + 1e-6), tmp_path / "net.onnx")
    report = compare(made(1.0), tmp_path / "net.onnx" if written else made(1 + 1e-6), data)
    assert report.passed, report.verdict
    assert any("blob 'flags': 1 of 54 flags differ at a limit that is near" in note for note in report.notes)
    assert not compare(made(1.0), made(1.04), data).passed


def test_a_limit_that_no_value_tells_from_another_is_said() -> None:
    data = np.where(np.random.default_rng(0).normal(size=(2, 3, 4)) > 0, 2, 0).astype(np.float32)
    reference, said = mask("Greater", 1.0), "blob 'q' has another limit in the candidate"
    assert not any(note.startswith(said) for note in compare(reference, mask("Greater", 1.0), {"x": data}).notes)
    moved = compare(reference, change(reference, "limit", (0,), 0.5), {"x": data})
    assert moved.passed
    assert any(note.startswith(said) for note in moved.notes)
    ours, theirs = (nets.net(THRESHOLD.replace("0.5", limit), scale=[np.ones((3, 3, 3))]) for limit in ("0.5", "0.51"))
    assert any(note.startswith("blob 'flags' has another limit") for note in compare(ours, theirs).notes)


@pytest.mark.parametrize("op_type", ["Greater", "ArgMax"])
def test_values_that_are_equal_in_the_reference_alone_excuse_nothing(op_type: str) -> None:
    """Behind a ReLU many are 0: all there lie at a limit of 0, and every class is the best."""

    def made(bias: float) -> ModelProto:
        weights = {"w": np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)}
        weights |= {"b": np.full(4, bias, np.float32), "zero": np.zeros(1, np.float32)}
        weights["one"] = np.ones(1, np.float32)
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv"),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("ArgMax", ["r"], ["q"], "q", axis=1)
            if op_type == "ArgMax"
            else helper.make_node("Greater", ["r", "zero"], ["q"], "q"),
            helper.make_node("Cast", ["q"], ["f"], "cast", to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["f"], ["s"], "sum"),
            helper.make_node("Sub", ["s", "one"], ["y"], "y"),
        ]
        return model(nodes, {"x": (1, 3, 8, 8)}, ["y"], weights)

    data = np.random.default_rng(0).normal(0, 10, (4, 3, 8, 8)).astype(np.float32)
    assert compare(made(-30.0), made(-30.0), data, layers=False).passed
    assert not compare(made(-30.0), made(-25.0), data, layers=False).passed


def test_what_a_type_cannot_hold_comes_out_as_its_bounds() -> None:
    sizes: list[Array] = [np.array(0.5, np.float32), np.array(0, np.int8)]
    values, whole = np.array([-90.0, 0.2, 90.0]), np.array([-128, 1, 127], np.int8)
    found = on_step(values, whole, steps=Steps(sizes))
    assert np.array_equal(present(found), [-90.0, 0.25, 90.0])
    assert on_step(values, whole[:2], steps=Steps(sizes)) is None


def test_a_cast_to_integers_cuts_off_on_both_sides_of_zero() -> None:
    values, whole = np.array([-2.5, -0.5, 0.5, 3.5], np.float32), np.array([-3, -1, 1, 4], np.int64)
    found = on_step(values, whole, steps=Steps(edges=None))
    assert np.array_equal(present(found), [-3.0, -1.0, 1.0, 4.0])
    found = on_step(values, np.array([0, 0, 0, -4], np.int64), steps=Steps(edges=None))
    assert np.array_equal(present(found), [-1.0, -0.5, 0.5, -4.0])
    assert on_step(values, whole.astype(np.float32), steps=Steps(edges=None)) is None
    assert on_step(values.astype(np.int32), whole, steps=Steps(edges=None)) is None


@pytest.mark.parametrize(
    ("off", "tolerance", "passed"), [(0, 1e-4, True), (1, 1e-4, False), (1, 1e-2, True), (3, 1e-2, False)]
)
def test_whole_numbers_of_a_wide_range_are_not_off_by_one(off: int, tolerance: float, passed: bool) -> None:
    """Places of a vocabulary: 30,000 is no range of which 1 is a rounding, though a user may allow for it in bytes."""
    table = np.random.default_rng(0).permutation(30000).astype(np.int64)

    def made(table: Array) -> ModelProto:
        gathered = helper.make_node("Gather", ["table", "x"], ["y"], "y")
        return model([gathered], {"x": (2, 40)}, ["y"], {"table": table}, dtype=TensorProto.INT64)

    data = np.random.default_rng(1).integers(0, 30000, (2, 40))
    report = compare(made(table), made(table + off), {"x": data}, tolerance=tolerance)
    assert report.passed is passed
    assert present(report.worst).judged == pytest.approx(off / 255)


@pytest.mark.parametrize("op_type", ["Equal", "Greater", "Less"])
def test_flags_of_whole_numbers_are_compared(op_type: str) -> None:
    data = np.array([[0, 1, 2, 3]], np.float32)

    def made(limit: int) -> ModelProto:
        nodes = [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            helper.make_node(op_type, ["i", "limit"], ["f"]),
            helper.make_node("Cast", ["f"], ["y"], to=TensorProto.FLOAT),
        ]
        return model(nodes, {"x": (1, 4)}, ["y"], {"limit": np.array(limit, np.int64)})

    assert compare(made(1), made(1), {"x": data}).passed
    report = compare(made(1), made(2), {"x": data})
    assert next(blob for blob in report.blobs if blob.blob == "f").max_abs == 1
    assert not report.passed


@pytest.mark.parametrize("fed", [True, False])
def test_a_flag_of_a_whole_number_at_the_limit_is_no_tie(fed: bool) -> None:
    """No rounding brings 2 to another side of 2."""

    def made(op_type: str) -> ModelProto:
        head = '<ir_version: 8, opset_import: ["" : 17]> g (int64[2, 4] x) => (float[2, 4] y)'
        front = "" if fed else "i = Add (x, one)"
        body = f"{front} f = {op_type} ({'x' if fed else 'i'}, limit) y = Cast <to = 1> (f)"
        return text_model(f"{head} {{ {body} }}", one=np.array(1), limit=np.array(2))

    data = {"x": np.array([[0, 1, 2, 3], [3, 2, 1, 0]])}
    assert compare(made("Less"), made("Less"), data).passed
    assert not compare(made("Less"), made("LessOrEqual"), data).passed


@pytest.mark.parametrize(
    "body",
    [
        *("q = QuantizeLinear (x, k) y = DequantizeLinear (q, k)", "q = Cast <to = 7> (x) y = Cast <to = 1> (q)"),
        "q, s, z = DynamicQuantizeLinear (x) y = DequantizeLinear (q, s, z)",
        *(f"y = {op_type} (x)" for op_type in ("Ceil", "Floor", "Hardmax", "Round", "Shrink", "Sign")),
        *("g = Greater (x, k) y = Where (g, x, k)", "v, i = TopK (x, one) y = Cast <to = 1> (i)"),
    ],
)
def test_what_tells_ties_is_sent_to_workers(body: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[q, r] y)'
    made = open_model(text_model(f"{head} {{ {body} }}", k=np.array(0.1, np.float32), one=np.array([1])), "reference")
    found = Ties.of(made, made, {name: name for name in made.makers}, 1e-3)
    assert found.pointers
    # The candidate goes as its model, as that of all that is sent.
    told = {one.name: getattr(found, one.name) for one in fields(found) if one.name != "candidate"}
    assert pickle.loads(pickle.dumps(told))["fed"] == {"x"}


def in_narrow_type(kind: str, factor: float, values: Array) -> ModelProto:
    """Values that become a type that numpy has not and come back, in more blobs than are fetched one by one."""
    element, quantised = TensorProto.DataType.Value(kind.partition(",")[0]), "cast" not in kind
    made, read = ("QuantizeLinear", "DequantizeLinear") if quantised else ("Cast", "Cast")
    sizes = ["scale", "zero"] if quantised else []
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["scaled"], "scaled"),
        helper.make_node(made, ["scaled", *sizes], ["small"], "small"),
        helper.make_node(read, ["small", *sizes], ["back"], "back"),
        *(helper.make_node("Relu", ["back"], [f"y{index}"], f"y{index}") for index in range(12)),
    ]
    if not quantised:
        nodes[1].attribute.append(helper.make_attribute("to", element))
        nodes[2].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    zero = np.zeros((), helper.tensor_dtype_to_np_dtype(element))
    weights = {"factor": np.array([factor], np.float32)}
    weights |= {"scale": np.array(0.25, np.float32), "zero": zero} if quantised else {}
    built = model(nodes, {"x": values.shape}, [f"y{index}" for index in range(12)], weights, opset=21)
    built.ir_version = 10
    return built


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT8E5M2, by a cast", "INT4", "UINT4"])
def test_values_of_types_that_numpy_has_not_are_compared_and_settled(kind: str) -> None:
    values: Array = np.random.default_rng(1).normal(0, 1, (2, 4, 5, 5)).astype(np.float32)
    between = {"FLOAT8E4M3FN": 1.0625, "FLOAT8E5M2": 1.125}.get(kind.partition(",")[0], 0.5)
    values[0, 0, 0, 0] = between * (1.0 if "cast" in kind else 0.25)
    reference = in_narrow_type(kind, 1 - 1e-6, values)
    near = compare(reference, in_narrow_type(kind, 1 + 1e-6, values), values)
    assert near.passed, near.verdict
    assert {"small", "back"} <= {blob.blob for blob in near.blobs}
    assert any("'small': 1 of 200 values differ by a step whose edge is near" in note for note in near.notes)
    far = compare(reference, in_narrow_type(kind, 1 + 2e-3, values), values)
    assert {"small", "back"} <= {blob.blob for blob in far.blobs if blob.judged > far.tolerance}


def test_steps_of_a_scale_of_0_are_no_ties() -> None:
    values: Array = np.array([1.0, 2.0])
    numbers: Array = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    looked_at = on_step(values, numbers[[0, 4]], steps=Steps([np.zeros(1)], 0, numbers))
    assert np.isnan(present(looked_at)).all()


@pytest.mark.parametrize(("saturate", "largest"), [(0, 1e9), (1, 57344)])
def test_an_infinity_of_float8_stays_one(saturate: int, largest: float) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["small"], "small", to=TensorProto.FLOAT8E5M2, saturate=saturate),
        helper.make_node("Cast", ["small"], ["back"], "back", to=TensorProto.FLOAT),
        helper.make_node("Clip", ["back", "", "most"], ["y"], "y"),
    ]
    built = model(nodes, {"x": (1, 2)}, ["y"], {"most": np.array(1e9, np.float32)}, opset=21)
    built.ir_version = 10
    report = compare(built, built, np.array([[1, 1e6]], np.float32))
    assert report.outputs[0].high == largest


@pytest.mark.parametrize("kind", ["BFLOAT16, by a cast", "FLOAT8E4M3FN", "INT4"])
def test_outputs_of_types_that_numpy_has_not_are_compared(kind: str) -> None:
    values: Array = np.random.default_rng(1).normal(0, 1, (2, 4, 5, 5)).astype(np.float32)
    one, other = (in_narrow_type(kind, factor, values) for factor in (1.0, 1.5))
    for made in (one, other):
        element = TensorProto.DataType.Value(kind.partition(",")[0])
        made.graph.output.append(helper.make_tensor_value_info("small", element, values.shape))
    assert compare(one, one, values, layers=False).passed
    differing = compare(one, other, values, layers=False)
    assert "small" in {blob.blob for blob in differing.blobs if blob.judged > differing.tolerance}


def stepped(factor: float, wrong: float = 1.0, size: float = 1.0) -> ModelProto:
    """Channels of which the first is `factor` times as large, in steps that are as large as each, and back."""
    random = np.random.default_rng(5)
    scale = np.array([factor, 1, 1, 1], np.float32)
    weight = random.normal(0, 0.3, (4, 3, 1, 1)).astype(np.float32) * scale.reshape(4, 1, 1, 1)
    weight[1] *= wrong
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        helper.make_node("QuantizeLinear", ["c", "sizes", "zero"], ["q"], "q", axis=1),
        helper.make_node("DequantizeLinear", ["q", "sizes", "zero"], ["d"], "d", axis=1),
        helper.make_node("Div", ["d", "scale"], ["y"], "y"),
    ]
    weights = {"w": weight, "sizes": scale * np.float32(size), "zero": np.zeros(4, np.int8)}
    return model(nodes, {"x": (4, 3, 8, 8)}, ["y"], {**weights, "scale": scale.reshape(4, 1, 1)})


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("factor", [1e2, 1e4, 1e6])
def test_steps_of_a_small_channel_are_not_tied_by_the_range_of_another(factor: float, layers: bool) -> None:
    assert compare(stepped(factor), stepped(factor, 1 + 1e-7), layers=layers).passed
    for wrong in (1.03, 2.0, -1.0):
        report = compare(stepped(factor), stepped(factor, wrong), layers=layers)
        assert not report.passed
        assert "y" in {blob.blob for blob in report.blobs if blob.judged > report.tolerance}


def test_steps_that_end_far_below_the_values_are_not_tied_by_those() -> None:
    values: Array = np.random.default_rng(6).normal(0, 5, (4, 3, 8, 8)).astype(np.float32)
    values[:, :, 0, 0] *= 1e4  # in the last step
    original, wrong = stepped(1, size=0.05), stepped(1, 1.01, size=0.05)
    assert compare(original, stepped(1, 1 + 1e-7, size=0.05), values).passed
    steps = next(blob for blob in compare(original, wrong, values).blobs if blob.blob == "q")
    assert steps.judged > 1e-4


def test_steps_that_another_type_ends_elsewhere_are_no_ties() -> None:
    """What lies beyond 127 is 127 as int8, and itself as uint8."""

    def quantised(kind: type) -> ModelProto:
        nodes = [
            helper.make_node("Abs", ["x"], ["a"], "abs"),
            helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], "y"),
        ]
        return model(nodes, {"x": (2, 8)}, ["y"], {"scale": np.array(1, np.float32), "zero": np.array(0, kind)})

    data = np.random.default_rng(0).uniform(-200, 200, (2, 8)).astype(np.float32)
    report = compare(quantised(np.int8), quantised(np.uint8), {"x": data})
    assert (report.passed, [note for note in report.notes if "edge is near" in note]) == (False, [])
    assert compare(quantised(np.int8), quantised(np.uint8), {"x": data / 2}).passed


def test_rounding_of_all_values_ties_what_is_left_beside_an_edge() -> None:
    steps = Steps([np.array(0.001), np.array(0, np.int8)])
    values: Array = np.array([[1000.0, 0.0005, -1000.0]], np.float32)
    allowed = steps.allowed(values, np.dtype(np.int8), 1e-4, True, np.inf)
    assert allowed.shape == (1, 1)
    assert 2e-4 * 0.255 < float(allowed[0, 0]) < 0.01  # 64 units in the last place of 2,000, and no share of it


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("number", [np.int8, np.int32])
def test_looking_for_ties_takes_no_more_memory_than_is_planned_for(number: type, every: int) -> None:
    """However many of them differ."""
    values = np.random.default_rng(0).normal(size=(1, 4, 1 << 15)).astype(np.float32)
    steps = Steps([np.full(4, 0.1), np.zeros(4)], 1)
    reference = np.clip(np.rint(values / 0.1), -128, 127).astype(number)
    candidate = reference + (np.arange(values.shape[-1]) % every == 0).astype(number)
    pointer = Pointer(("x",), None, steps=steps)
    tracemalloc.start()
    try:
        found = ties(reference, candidate, {"x": values}, 1e-3, pointer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < found.sum() < found.size / every
    assert peak <= TIED * values.size
