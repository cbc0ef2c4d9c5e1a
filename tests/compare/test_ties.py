"""Indices on equal scores: not counted; indices on unequal ones: counted."""

import numpy as np
from onnx import helper
from onnx_models import change, model

from bnfold.compare.comparison import compare
from bnfold.compare.ties import settle_ties


def test_only_indices_of_equal_scores_are_settled():
    scores = np.array([[1.0, 1.0 - 1e-6, 0.0], [1.0, 0.5, 0.0]])
    settled, tied = settle_ties(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]]), scores, 1e-4)
    assert settled.tolist() == [[0.0], [1.0]]
    assert tied == 1


def test_indices_per_position_and_over_a_whole_sample_are_both_understood():
    scores = np.zeros((1, 3, 2, 2))
    scores[0, 0] = 1
    scores[0, 1, 1, 1] = 1
    per_position = np.zeros((1, 1, 2, 2))
    assert settle_ties(per_position, np.ones((1, 1, 2, 2)), scores, 0)[1] == 1
    assert settle_ties(np.array([[[3.0]]]), np.array([[[7.0]]]), scores, 0)[1] == 1
    assert settle_ties(np.array([[[3.0]]]), np.array([[[6.0]]]), scores, 0)[1] == 0


def segmenter():
    weights = {"w": np.random.default_rng(0).normal(size=(3, 2, 1, 1)).astype(np.float32)}
    weights["w"][1] = weights["w"][0]
    weights["b"] = np.array([0, 0, -9], np.float32)
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["score"], "score"),
        helper.make_node("ArgMax", ["score"], ["best"], "best", axis=1),
    ]
    return model(nodes, {"data": (1, 2, 4, 4)}, ["best"], weights)


def test_a_network_that_ends_in_argmax_is_judged_by_its_scores():
    report = compare(segmenter(), change(segmenter(), "b", (1,), 1e-6))
    assert report.passed
    assert "indices differ on equal scores, not counted" in report.notes[0]
    report = compare(segmenter(), change(segmenter(), "b", (1,), 5.0))
    assert not report.passed
    assert compare(segmenter(), change(segmenter(), "b", (1,), 1e-6), layers=False).passed
