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
from bnfold.onnx.operators.passing import between
from bnfold.onnx.operators.place import NodeContext, Unfit, axis_of
from bnfold.onnx.sizes import UNKNOWN


def concat(place: NodeContext) -> Operator:
    """Concat: one behind the other along an axis, constants among them."""
    place.only_data()
    every = range(len(place.layer.bottoms))
    axis = axis_of(place.node.attribute("axis", 1), len(place.bottom()))
    return Join(axis, tuple(place.bottom(index)[axis] for index in every))


def sum_(place: NodeContext) -> Operator:
    """Sum: the sum of data."""
    place.only_data()
    return Sum((1.0,) * len(place.layer.bottoms), laid(place))


def mean(place: NodeContext) -> Operator:
    """Mean: the mean of data."""
    place.only_data()
    count = len(place.layer.bottoms)
    return Sum((1.0 / count,) * count, laid(place))


def extreme(place: NodeContext) -> Operator:
    """Max, Min: the largest or the smallest of data; of data and one number, a Clip."""
    bound = place.learned(1) if len(place.node.slots) == 2 else None
    if bound is not None and prod(bound.shape) == 1 and len(bound.shape) <= len(place.bottom()):
        number = float(exact_values(bound).item())
        return between(place, number, np.inf) if place.layer.type == "Max" else between(place, -np.inf, number)
    place.only_data()
    return Extreme(laid(place))


def matrices(place: NodeContext) -> Operator:
    """MatMul of data: `s*(x*y)` is `(s*x)*y` with one s for each row, and `x*(s*y)` with one for each column."""
    x, y, top = place.bottom(0), place.bottom(1), place.top()
    if min(len(x), len(y)) < 2 or len(place.layer.bottoms) != 2:
        raise Unfit("it does not read two matrices")
    rows, columns = Axes((*range(len(x) - 1), None)), Axes((*range(len(y) - 2), None, len(y) - 1))
    return Product(((rows, *lay((*x[:-1], 1), top)), (columns, *lay((*y[:-2], 1, y[-1]), top))))


def einsum(place: NodeContext) -> Operator:
    """Einsum: the sum of products of data, over the letters that the result has not."""
    letters, out = factors(place)
    if not out or len(letters) != len(place.node.slots):
        raise Unfit("its equation leaves letters out")
    laid = []
    for index, slot in enumerate(place.node.slots):
        if isinstance(slot, BottomInput):
            own, shape = letters[index], place.bottom(slot.index)
            if len(own) != len(shape) or len(set(own)) < len(own):
                raise Unfit("its equation takes a diagonal")
            order = tuple(own.index(letter) if letter in own else None for letter in out)
            laid.append((Axes(order), *lay(tuple(1 if axis is None else shape[axis] for axis in order), place.top())))
    return Product(tuple(laid))


def factors(place: NodeContext) -> tuple[list[str], str]:
    """The letters of each factor of an Einsum and of its result, none where these are not said one by one."""
    terms, _, out = place.node.attribute("equation", "").replace(" ", "").partition("->")
    return terms.split(","), "" if "." in terms else out


def laid(place: NodeContext) -> tuple[Steps, ...]:
    """How each bottom is broadcast over the top; nothing where all have its shape."""
    shapes = [place.bottom(index) for index in range(len(place.layer.bottoms))]
    top = place.top()
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
