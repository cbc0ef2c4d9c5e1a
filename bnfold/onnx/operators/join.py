"""What joins several blobs, and how one is broadcast over another.

Each function states the formula of the ONNX operator that it names first.
"""

from __future__ import annotations

from math import prod

import numpy as np

from bnfold.algebra.operators import Axes, Extreme, Join, Operator, Product, Spread, Step, Steps, Sum
from bnfold.algebra.scaled import exact_values
from bnfold.net import Shape
from bnfold.onnx.node import BottomInput
from bnfold.onnx.operators.context import NodeContext, Unfit, axis_of
from bnfold.onnx.operators.passing import between
from bnfold.onnx.sizes import UNKNOWN


def concat(context: NodeContext) -> Operator:
    """Concat: one behind the other along an axis, constants among them."""
    context.only_data()
    every = range(len(context.layer.bottoms))
    axis = axis_of(context.node.attribute("axis", 1), len(context.bottom()))
    return Join(axis, tuple(context.bottom(index)[axis] for index in every))


def sum_(context: NodeContext) -> Operator:
    """Sum: the sum of data."""
    context.only_data()
    return Sum((1.0,) * len(context.layer.bottoms), laid(context))


def mean(context: NodeContext) -> Operator:
    """Mean: the mean of data."""
    context.only_data()
    count = len(context.layer.bottoms)
    return Sum((1.0 / count,) * count, laid(context))


def extreme(context: NodeContext) -> Operator:
    """Max, Min: the largest or the smallest of data; of data and one number, a Clip."""
    bound = context.learned(int(context.data(0) is not None)) if len(context.node.slots) == 2 else None
    if bound is not None and prod(bound.shape) == 1 and len(bound.shape) <= len(context.bottom()):
        number = float(exact_values(bound).item())
        return between(context, number, np.inf) if context.layer.type == "Max" else between(context, -np.inf, number)
    context.only_data()
    return Extreme(laid(context))


def matrices(context: NodeContext) -> Operator:
    """MatMul of data: `s*(x*y)` is `(s*x)*y` with one s for each row, and `x*(s*y)` with one for each column."""
    x, y, top = context.bottom(0), context.bottom(1), context.top()
    if min(len(x), len(y)) < 2 or len(context.layer.bottoms) != 2:
        raise Unfit("it does not read two matrices")
    rows, columns = Axes((*range(len(x) - 1), None)), Axes((*range(len(y) - 2), None, len(y) - 1))
    return Product(((rows, *lay((*x[:-1], 1), top)), (columns, *lay((*y[:-2], 1, y[-1]), top))))


def einsum(context: NodeContext) -> Operator:
    """Einsum: the sum of products of data, over the letters that the result has not."""
    letters, out = factors(context)
    if not out or len(letters) != len(context.node.slots):
        raise Unfit("its equation leaves letters out")
    laid = []
    for index, slot in enumerate(context.node.slots):
        if isinstance(slot, BottomInput):
            own, shape = letters[index], context.bottom(slot.index)
            if len(own) != len(shape) or len(set(own)) < len(own):
                raise Unfit("its equation takes a diagonal")
            order = tuple(own.index(letter) if letter in own else None for letter in out)
            laid.append((Axes(order), *lay(tuple(1 if axis is None else shape[axis] for axis in order), context.top())))
    return Product(tuple(laid))


def factors(context: NodeContext) -> tuple[list[str], str]:
    """The letters of each factor of an Einsum and of its result, none where these are not said one by one."""
    terms, _, out = context.node.attribute("equation", "").replace(" ", "").partition("->")
    return terms.split(","), "" if "." in terms else out


def laid(context: NodeContext) -> tuple[Steps, ...]:
    """How each bottom is broadcast over the top; nothing where all have its shape."""
    shapes = [context.bottom(index) for index in range(len(context.layer.bottoms))]
    top = context.top()
    steps = tuple(lay(shape, top) for shape in shapes)
    return steps if any(steps) else ()


def lay(bottom: Shape, top: Shape) -> Steps:
    """How a blob is broadcast to a shape: axes of size 1 in front, and what is 1 repeated.

    Where it is not known whether two sizes are the same, the blob counts as repeated: what it takes is then constant
    along that axis, which is right in either case.
    """
    missing = len(top) - len(bottom)
    if missing < 0:
        raise Unfit("its shapes do not fit")
    steps: list[Step] = [Axes((*[None] * missing, *range(len(bottom))))] if missing else []
    for axis, (size, wanted) in enumerate(zip((*[1] * missing, *bottom), top, strict=True)):
        if size != wanted or size == UNKNOWN:
            steps.append(Spread(axis))
    return tuple(steps)
