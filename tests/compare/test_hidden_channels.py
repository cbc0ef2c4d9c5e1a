"""Channels and numbers of which nothing that was compared shows a thing: they are said not to be proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import change, model

import bnfold
from bnfold.net import Array
from bnfold.onnx.nudging import NUDGED
from bnfold.runtime import Session

pytestmark = pytest.mark.usefixtures("in_one_process")

SHAPE: dict[str, tuple[int | str, ...]] = {"x": (2, 3, 6, 6)}
RANDOM = np.random.default_rng(4)
NORM = {
    "gamma": np.array([0.5, 1.5, 0.7, 1.2], np.float32),
    "beta": np.array([0.3, -0.4, 0.8, -0.9], np.float32),
    "mean": np.array([0.2, -0.6, 0.4, 0.1], np.float32),
    "var": np.array([0.9, 1.1, 1.4, 0.6], np.float32),
}


def norm(read: str, top: str) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [read, *NORM], [top], top)


def filters(letter: str, bias: Array) -> dict[str, Array]:
    weight = RANDOM.normal(0, 0.3, (4, 3, 1, 1)).astype(np.float32)
    return {f"w{letter}": weight, f"b{letter}": bias.astype(np.float32)}


def folded(original: onnx.ModelProto) -> onnx.ModelProto:
    from bnfold.onnx.edition import message_of
    from bnfold.onnx.save import fill

    proto, weights = message_of(bnfold.fold(bnfold.load(original)).net)
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    fill(whole, weights)
    assert not any(node.op_type == "BatchNormalization" for node in whole.graph.node)
    return whole


def two_branches(least: float) -> onnx.ModelProto:
    """Two convolutions, the larger of both, and a normalisation, whose folding names both anew."""
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], "a"),
        helper.make_node("Conv", ["x", "wb", "bb"], ["b"], "b"),
        helper.make_node("Max", ["a", "b"], ["m"], "m"),
        norm("m", "y"),
    ]
    weights = {**filters("a", np.zeros(4)), **filters("b", np.array([0, least, 0, 0])), **NORM}
    return model(nodes, SHAPE, ["y"], weights)


def sloped(bias: float, slopes: Array) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], "a"),
        helper.make_node("PRelu", ["a", "slopes"], ["p"], "p"),
        norm("p", "y"),
    ]
    positive = NORM | {"beta": np.zeros(4, np.float32), "mean": np.zeros(4, np.float32)}
    return model(nodes, SHAPE, ["y"], {**filters("a", np.full(4, bias)), **positive, "slopes": slopes.reshape(4, 1, 1)})


def activated(node: str, bounds: Mapping[str, Array], beta: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], "a"),
        norm("a", "n"),
        helper.make_node(node, ["n", *bounds], ["r"], "r"),
        helper.make_node("Conv", ["r", "last"], ["y"], "y"),
    ]
    last = RANDOM.normal(0, 1, (2, 4, 1, 1)).astype(np.float32)
    betas = NORM["beta"] + np.array([0, beta, 0, 0], np.float32)
    return model(nodes, SHAPE, ["y"], {**filters("a", np.zeros(4)), **NORM, "beta": betas, "last": last, **bounds})


def notes(report: bnfold.DiffReport) -> list[str]:
    return [note for note in report.notes if "shows in" in note]


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("factor", [1.0, 1.03, -1.0])
def test_a_channel_that_a_max_never_takes_is_said_not_to_be_proved(layers: bool, factor: float) -> None:
    original = two_branches(-1e4)
    weight = numpy_helper.to_array(next(one for one in folded(original).graph.initializer if one.name == "wb"))
    wrong = change(folded(original), "wb", (1,), (factor - 1) * weight[1])
    report = bnfold.compare(original, wrong, layers=layers)
    assert report.passed
    (note,) = notes(report)
    assert "(1 of 4 channels)" in note
    assert "behind Max 'y'" in note
    assert not bnfold.compare(original, change(folded(original), "wb", (0,), 0.01), layers=layers).passed


def test_a_channel_that_a_where_never_takes_is_said_not_to_be_proved() -> None:
    """What it chooses by are flags, which are not made larger."""
    nodes = [
        helper.make_node("Conv", ["x", "wa", "ba"], ["a"], "a"),
        helper.make_node("Conv", ["x", "wb", "bb"], ["b"], "b"),
        helper.make_node("Greater", ["a", "b"], ["flags"], "flags"),
        helper.make_node("Where", ["flags", "a", "b"], ["y"], "y"),
    ]
    weights = {**filters("a", np.zeros(4)), **filters("b", np.array([0, -1e4, 0, 0]))}
    original = model(nodes, SHAPE, ["y"], weights)
    report = bnfold.compare(original, change(original, "wb", (1,), 0.03), layers=False)
    assert report.passed
    assert "'b' (1 of 4 channels) shows in no sample behind Where 'y'" in notes(report)[0]
    assert not bnfold.compare(original, change(original, "wb", (0,), 0.03), layers=False).passed


def test_channels_that_are_taken_somewhere_need_no_word() -> None:
    original = two_branches(0)
    assert not notes(bnfold.compare(original, folded(original)))
    assert not notes(bnfold.compare(original, original))


@pytest.mark.parametrize("layers", [True, False])
def test_another_slope_behind_a_blob_of_another_name_that_is_never_negative_is_not_proved(layers: bool) -> None:
    slopes = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    original, below = sloped(1e4, slopes), sloped(0, slopes)
    assert not notes(bnfold.compare(original, folded(original), layers=layers))
    report = bnfold.compare(original, change(folded(original), "slopes", (1,), 0.2), layers=layers)
    assert report.passed
    (note,) = notes(report)
    assert "'slopes' (4 of 4 channels)" in note
    assert not bnfold.compare(below, change(folded(below), "slopes", (1,), 0.2), layers=layers).passed


@pytest.mark.parametrize(("node", "bounds"), [("Relu", {}), ("Clip", {"low": np.float32(0), "high": np.float32(6)})])
def test_by_the_outputs_alone_a_dead_channel_is_not_proved(node: str, bounds: dict[str, Array]) -> None:
    original = activated(node, bounds, -1e4)
    wrong = change(folded(original), "wa", (1,), 0.5)
    report = bnfold.compare(original, wrong, layers=False)
    assert report.passed
    assert f"'n' (1 of 4 channels) shows in no sample behind {node} 'r'" in notes(report)[0]
    assert not bnfold.compare(original, wrong).passed
    assert not notes(bnfold.compare(activated(node, bounds, 0), folded(activated(node, bounds, 0)), layers=False))


def words(shift: float) -> onnx.ModelProto:
    """Vectors whose channels lie last, of which a Relu keeps one at 0 where it is shifted far."""
    random = np.random.default_rng(6)
    nodes = [
        helper.make_node("MatMul", ["x", "wa"], ["a"], "a"),
        helper.make_node("Add", ["a", "shifts"], ["n"], "n"),
        helper.make_node("Relu", ["n"], ["r"], "r"),
        helper.make_node("MatMul", ["r", "last"], ["y"], "y"),
    ]
    weights = {"wa": random.normal(0, 1, (3, 4)), "last": random.normal(0, 1, (4, 2)), "shifts": [0, shift, 0.1, 0]}
    return model(nodes, {"x": (2, 5, 3)}, ["y"], {name: np.array(one, np.float32) for name, one in weights.items()})


def test_a_dead_channel_of_vectors_is_not_proved() -> None:
    """Each of the vectors shows something, and so does each channel but one."""
    for shift, channel in ((-1e4, 1), (-1e4, 2), (0, 1)):
        wrong = change(words(shift), "wa", (slice(None), channel), 0.05)
        report = bnfold.compare(words(shift), wrong, layers=False)
        hidden = (shift, channel) == (-1e4, 1)
        assert report.passed == hidden
        assert bool(notes(report)) == hidden
        assert not hidden or "'n' (1 of 4 channels)" in notes(report)[0]


def test_a_channel_that_one_sample_alone_shows_needs_no_word() -> None:
    data = np.random.default_rng(5).normal(0, 3, (6, 3, 6, 6)).astype(np.float32)
    original = two_branches(0)
    first = data * np.array([1, 1, 0, 0, 0, 0], np.float32).reshape(6, 1, 1, 1)
    assert not notes(bnfold.compare(original, folded(original), first))
    assert notes(bnfold.compare(original, folded(original), first[2:]))


def choosing(by: str, factor: float = 1.0) -> onnx.ModelProto:
    """Six vectors, of which those are left that their scores choose."""
    random = np.random.default_rng(2)
    weights: dict[str, Array] = {
        "ws": random.normal(0, 0.3, (6, 3, 6, 6)).astype(np.float32) * np.float32(factor),
        "wv": random.normal(0, 0.3, (24, 3, 6, 6)).astype(np.float32),
        "row": np.array([1, 1, 6]),
        "vectors": np.array([1, 6, 4]),
        "most": np.array([3]),
        "overlap": np.array([0.5], np.float32),
        "least": np.array([-1e9], np.float32),
        "zero": np.array(0, np.float32),
        "place": np.array(2),
        "true": np.array(True),
    }
    nms = helper.make_node("NonMaxSuppression", ["values", "scores", "most", "overlap", "least"], ["left"], "left")
    body = helper.make_graph([nms], "body", [], [helper.make_tensor_value_info("left", 7, ["boxes", 3])])
    if_ = helper.make_node("If", ["true"], ["left"], "left", then_branch=body, else_branch=body)
    twice = helper.make_node("Add", ["scores", "scores"], ["twice"], "twice")
    top = helper.make_node("TopK", ["twice", "most"], ["high", "where"], "where", axis=2)
    ports = [helper.make_tensor_value_info("high", 1, None), helper.make_tensor_value_info("where", 7, None)]
    chosen = helper.make_graph([twice, top], "chosen", [], ports)
    best = helper.make_node("If", ["true"], ["best", "places"], "places", then_branch=chosen, else_branch=chosen)
    places = helper.make_node("Gather", ["left", "place"], ["places"], "places", axis=1)
    nodes = {
        "ArgMax": [helper.make_node("ArgMax", ["s"], ["places"], "places", axis=1)],
        "Greater": [
            helper.make_node("Greater", ["scores", "zero"], ["flags"], "flags"),
            helper.make_node("NonZero", ["flags"], ["left"], "left"),
            helper.make_node("Gather", ["left", "place"], ["places"], "places", axis=0),
        ],
        "If": [if_, places],
        "If of a TopK": [best],
        "NonMaxSuppression": [nms, places],
        "TopK": [helper.make_node("TopK", ["scores", "most"], ["best", "places"], "places", axis=2)],
    }[by]
    front = [
        helper.make_node("Conv", ["x", "ws"], ["s"], "s"),
        helper.make_node("Reshape", ["s", "row"], ["scores"], "scores"),
        helper.make_node("Conv", ["x", "wv"], ["v"], "v"),
        helper.make_node("Reshape", ["v", "vectors"], ["values"], "values"),
    ]
    gather = helper.make_node("Gather", ["values", "places"], ["y"], "y", axis=1)
    return model([*front, *nodes, gather], {"x": (1, 3, 6, 6)}, ["y"], weights)


def shown(by: str, factor: float = 1.0) -> onnx.ModelProto:
    """The same, of which the best scores are seen in an output, too."""
    made = choosing(by, factor)
    made.graph.node.append(helper.make_node("Add", ["best", "best"], ["seen"], "seen"))
    made.graph.output.append(helper.make_tensor_value_info("seen", 1, None))
    return made


@pytest.mark.parametrize("by", ["ArgMax", "Greater", "If", "If of a TopK", "NonMaxSuppression", "TopK"])
def test_scores_that_only_choose_are_said_not_to_be_proved(by: str) -> None:
    right, wrong = (bnfold.compare(choosing(by), choosing(by, factor), layers=False) for factor in (1, 1.05))
    assert right.passed
    assert not any("only chooses" in note for note in right.notes)
    assert (wrong.passed, wrong.outputs[0].max_abs) == (True, 0)
    (note,) = (note for note in wrong.notes if "only chooses" in note)
    assert note.endswith("none of its values shows in what was compared, so it is not proved, nor what makes it")
    assert not bnfold.compare(choosing(by), choosing(by, 1.05)).passed


@pytest.mark.parametrize("by", ["If of a TopK", "TopK"])
def test_scores_that_choose_and_show_are_compared(by: str) -> None:
    assert not bnfold.compare(shown(by), shown(by, 1.05), layers=False).passed
    near = bnfold.compare(shown(by), shown(by, 1 + 1e-6), layers=False)
    assert near.passed
    assert not any("only chooses" in note for note in near.notes)


@pytest.mark.parametrize(("beta", "runs"), [(0, 1), (-1e4, 3)])
def test_no_more_samples_are_run_than_until_every_channel_shows(
    beta: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Session.run

    def run(self: Session, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        asked.extend(name for name in outputs or () if name.endswith(NUDGED))
        return real(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", run)
    original = activated("Relu", {}, beta)
    data = np.random.default_rng(5).normal(0, 3, (6, 3, 6, 6)).astype(np.float32)
    report = bnfold.compare(original, folded(original), data, layers=False)
    assert bool(notes(report)) == (beta != 0)
    assert len(asked) == runs


def test_a_body_that_calls_what_it_makes_as_its_node_does_can_be_given_it() -> None:
    reference, wrong = choosing("If"), choosing("If")
    stored = next(tensor for tensor in wrong.graph.initializer if tensor.name == "ws")
    weights = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array(weights[[1, 0, 2, 3, 4, 5]], "ws"))  # other boxes are left
    report = bnfold.compare(reference, wrong)
    assert not report.passed
    assert "blob 's' differs" in report.verdict
    assert bnfold.compare(reference, reference).passed
