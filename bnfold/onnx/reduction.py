"""Layers that reduce axes: Reduction and ArgMax."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bnfold.onnx.builder import Block, LayerFunction
from bnfold.onnx.forms import cut, reduce, reshape, scaled
from bnfold.params import ArgMax, Reduction, canonical_axis


def argmax(block: Block) -> str:
    """Where the `top_k` largest values are, as float: TopK.

    Without an axis everything behind the first axis is searched, and `out_max_val` adds the values as a second row;
    with one it gives the values instead. Of equal values Caffe names the one with the larger index first and ONNX the
    one with the smaller, so the axis is searched backwards.
    """
    view = ArgMax.of(block.layer)
    if view.axis is None:
        axis, size = 1, math.prod(block.shape[1:])
        x = block("Flatten", block.bottom, axis=1) if block.rank != 2 else block.bottom
    else:
        axis = canonical_axis(view.axis, block.rank, block.layer)
        size, x = block.shape[axis], block.bottom
    backwards = cut(block, x, [axis], [-1], [-size - 1], [-1], step="backwards")
    values, places = block.several("TopK", backwards, block.integers([view.top_k], "k"), outputs=2, axis=axis)
    indices = block("Cast", block("Sub", block.integers(size - 1, "last"), places), to=block.float_type)
    if view.axis is not None:
        return values if view.out_max_val else indices
    shape = (-1, *block.tops[0][1:])
    if not view.out_max_val:
        return reshape(block, indices, shape)
    return reshape(block, block("Concat", indices, values, axis=1), shape)


def reduction(block: Block) -> str:
    """SUM, ASUM, SUMSQ or MEAN over `axis` and all axes behind it, times `coeff`: ReduceSum or ReduceMean.

    Not ReduceL1: OpenVINO takes its axes for all of them.
    """
    view = Reduction.of(block.layer)
    axis = canonical_axis(view.axis, block.rank, block.layer)
    axes = list(range(axis, block.rank))
    x = block.bottom
    if view.operation == "ASUM":
        x = block("Abs", x)
    elif view.operation == "SUMSQ":
        x = block("Mul", x, x, step="square")
    operator = "ReduceMean" if view.operation == "MEAN" else "ReduceSum"
    return scaled(block, reduce(block, operator, x, axes, keep=False), view.coeff)


FUNCTIONS: Mapping[str, LayerFunction] = {
    "ArgMax": argmax,
    "Reduction": reduction,
}
