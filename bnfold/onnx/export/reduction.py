"""Layers that reduce axes: ArgMax, BatchReduction, CTCGreedyDecoder, Reduction, Synopsys' ReduceMean and its like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfold.caffe.layers.reduction import BatchReduction, CTCGreedyDecoder, Reduced, reduction_operation
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, reduce, reshape, scaled, transpose


def argmax(block: Block) -> str:
    """Where the `top_k` largest values are, as float: TopK.

    Without an axis everything behind the first axis is searched, and `out_max_val` adds the values as a second row;
    with one it gives the values instead. Of equal values Caffe names the one with the larger index first and ONNX the
    one with the smaller, so the axis is searched backwards; of the smallest, both name the smaller.
    """
    view = block.layer.param.argmax_param
    whole = not view.HasField("axis")
    axis = 1 if whole else block.axis(view.axis)
    block.fixes_batch("it searches the batch", [axis])
    searched = list(range(1, block.rank)) if whole else [axis]
    size, ends = math.prod(block.shape[one] for one in searched), [-block.shape[one] - 1 for one in searched]
    x, first = block.bottom, [-1] * len(searched)
    if searched and not view.min_first:
        # Before Flatten: tract cannot take this Slice past one that stands in front of it.
        x = cut(block, x, searched, first, ends, first, step="backwards")
    if whole and block.rank != 2:
        x = block("Flatten", x, axis=1)
    least: dict[str, Any] = {"largest": 0} if view.min_first else {}
    values, places = block.several("TopK", x, block.integers([view.top_k], "k"), outputs=2, axis=axis, **least)
    if not view.min_first:
        places = block("Sub", block.integers(size - 1, "last"), places)
    indices = block.as_float(places)
    if not whole:
        return values if view.out_max_val else indices
    both = block("Concat", indices, values, axis=1) if view.out_max_val else indices
    return reshape(block, both, (-1, *block.tops[0][1:]))


def batch_reduction(block: Block) -> str:
    """The mean or the sum of an axis, or of each of its parts, side by side: ReduceMean or ReduceSum, Slice, Concat."""
    view = BatchReduction.of(block.layer, block.shape)
    block.fixes_batch("it reduces the batch", [view.axis])
    operator = "ReduceMean" if view.mean else "ReduceSum"
    if not view.keep:
        return reduce(block, operator, block.bottom, [view.axis], keep=False)
    reduced, start = [], 0
    for number, size in enumerate(view.parts):
        part = cut(block, block.bottom, [view.axis], [start], [start + size], step=f"part{number}")
        reduced.append(reduce(block, operator, part, [view.axis], keep=True, step=f"reduced{number}"))
        start += size
    return block("Concat", *reduced, axis=view.axis)


def ctc_greedy_decoder(block: Block) -> list[str]:
    """The best class of each step that is neither blank nor a repetition, moved to the front, -1 behind: ArgMax, TopK.

    A sequence ends in front of the first step but the first whose indicator is 0. What drops out is sorted behind the
    rest, which keeps its order: steps are keys of their own.
    """
    if len(block.bottoms) > 2 and len(block.layer.tops) > 1:
        raise Refused("its last top says how often its third bottom, the labels, was found")
    view = CTCGreedyDecoder.of(block.layer, block.shape)
    steps, sequences, classes = block.shape[:3]
    block.fixes_batch("its first axis is the steps of a sequence")
    if min(steps, sequences) < 0:
        raise Refused("how many steps and sequences there are is known only when the model runs")
    scores = block.bottom if block.rank == 3 else reshape(block, block.bottom, (steps, sequences, classes), "scores")
    marks = reshape(block, block.bottoms[1], (steps, sequences), "marks")
    unmarked = block("Equal", marks, block.floats(0.0, "nothing"), step="unmarked")
    unmarked = block.as_float(unmarked, "unmarked_steps")
    before = np.tril(np.ones((steps, steps)))
    before[:, 0] = 0
    ends = block("MatMul", block.floats(before, "steps_before"), unmarked, step="ends")
    best = block("ArgMax", scores, axis=2, keepdims=0, step="best")
    dropped = [
        block("Greater", ends, block.floats(0.5, "half"), step="ended"),
        block("Equal", best, block.integers(view.blank, "blank"), step="blanks"),
    ]
    if view.merges and steps > 1:
        nobody = block.integers(np.full((1, sequences), -1), "nobody")
        earlier = block("Concat", nobody, cut(block, best, [0], [0], [steps - 1], step="but_last"), axis=0)
        dropped.append(block("Equal", best, earlier, step="repeated"))
    gone = dropped[0]
    for number, other in enumerate(dropped[1:]):
        gone = block("Or", gone, other, step=f"dropped{number}")
    late = block("Mul", block.as_float(gone), block.floats(float(steps), "late"), step="late_steps")
    keys = block("Add", late, block.floats(np.arange(steps)[:, None], "steps"), step="keys")
    every = block.integers([steps], "every")
    found, order = block.several("TopK", keys, every, outputs=2, axis=0, largest=0, step="order")
    labels = block("GatherElements", block.as_float(best), order, axis=0, step="labels")
    kept = block("Less", found, block.floats(steps - 0.5, "last"), step="kept")
    labels = block("Where", kept, labels, block.floats(-1.0, "filler"), step="filled")
    tops = [reshape(block, transpose(block, labels, (1, 0), "by_sequence"), (sequences, steps, 1, 1), "sequences")]
    if len(block.layer.tops) > 1:
        largest = reduce(block, "ReduceMax", scores, [2], keep=False, step="largest")
        counted = block.as_float(block("Not", dropped[0]), "counted")
        total = reduce(block, "ReduceSum", block("Mul", largest, counted), [0], keep=False, step="total")
        tops.append(reshape(block, block("Neg", total), (sequences, 1, 1, 1), "sums"))
    return tops


def _reduced(operator: str, words: str) -> LayerFunction:
    def function(block: Block) -> str:
        axes, keep = Reduced.of(block.layer, block.rank)
        block.fixes_batch("it reduces the batch", axes)
        return reduce(block, operator, block.bottom, axes, keep=keep)

    function.__doc__ = f"The {words} over the axes that are named, kept as 1 or not: {operator}."
    return function


def norm(block: Block) -> str:
    """The sum of magnitudes over the axes that are named, or the root of that of squares: ReduceSum, Sqrt.

    Not ReduceL1: OpenVINO takes its axes for all of them.
    """
    axes, keep = Reduced.of(block.layer, block.rank)
    block.fixes_batch("it reduces the batch", axes)
    squares = block.layer.type == "ReduceL2"
    x = block("Mul", block.bottom, block.bottom, step="square") if squares else block("Abs", block.bottom)
    total = reduce(block, "ReduceSum", x, axes, keep=keep)
    return block("Sqrt", total) if squares else total


def reduction(block: Block) -> str:
    """SUM, ASUM, SUMSQ or MEAN over `axis` and all axes behind it, times `coeff`: ReduceSum or ReduceMean.

    Not ReduceL1: OpenVINO takes its axes for all of them.
    """
    param, operation = block.layer.param.reduction_param, reduction_operation(block.layer)
    axis = block.axis(param.axis)
    axes = list(range(axis, block.rank))
    x = block.bottom
    if operation == "ASUM":
        x = block("Abs", x)
    elif operation == "SUMSQ":
        x = block("Mul", x, x, step="square")
    operator = "ReduceMean" if operation == "MEAN" else "ReduceSum"
    return scaled(block, reduce(block, operator, x, axes, keep=False), param.coeff)


FUNCTIONS: Mapping[str, LayerFunction] = {
    "ArgMax": argmax,
    "BatchReduction": batch_reduction,
    "CTCGreedyDecoder": ctc_greedy_decoder,
    "ReduceL1": norm,
    "ReduceL2": norm,
    "ReduceLogSumExp": _reduced("ReduceLogSumExp", "logarithm of the sum of e^x"),
    "ReduceLogsumexp": _reduced("ReduceLogSumExp", "logarithm of the sum of e^x"),
    "ReduceMax": _reduced("ReduceMax", "largest"),
    "ReduceMean": _reduced("ReduceMean", "mean"),
    "ReduceMin": _reduced("ReduceMin", "smallest"),
    "ReduceProd": _reduced("ReduceProd", "product"),
    "ReduceSum": _reduced("ReduceSum", "sum"),
    "Reduction": reduction,
}
