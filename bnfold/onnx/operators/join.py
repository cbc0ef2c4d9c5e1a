"""What joins several blobs, and how one is broadcast over another.

Each function states the formula of the ONNX operator that it names first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from bnfold.algebra.operators import Axes, Choice, Extreme, Join, Operator, Product, Spread, Step, Steps, Sum
from bnfold.algebra.scaled import exact_values
from bnfold.net import Shape
from bnfold.onnx.node import BottomInput, puts_zeros
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


def where(context: NodeContext) -> Operator:
    """Where: x or y at each place, as a mask says; x times the mask where y is 0."""
    data = {place: index for place in (1, 2) if (index := context.data(place)) is not None}
    return _choice(context, {place: lay(context.bottom(index), context.top()) for place, index in data.items()})


def scatter_nd(context: NodeContext) -> Operator:
    """ScatterND: data, and updates at or added at places that their indices name along its first axes."""
    places = context.shape_of(1)
    if not places or not 0 <= places[-1] <= len(context.top()):
        raise Unfit("how many axes its indices name is unknown")
    return _scattered(context, set(range(places[-1])))


def scatter_elements(context: NodeContext) -> Operator:
    """ScatterElements: data, and updates, each at a place of its own along an axis, or added there."""
    top, sizes = context.top(), context.shape_of(2)
    named = {axis_of(context.node.attribute("axis", 0), len(top))}
    if len(sizes) != len(top):
        raise Unfit("its shapes do not fit")
    return _scattered(
        context, named | {axis for axis, size in enumerate(sizes) if size != top[axis] or size == UNKNOWN}
    )


def _scattered(context: NodeContext, named: set[int]) -> Operator:
    """Data with updates in it, which may have more axes in front, by the axes along which these lie anywhere."""
    reduction = context.node.attribute("reduction", "none")
    if reduction not in ("add", "none"):
        raise Unfit("it puts its updates together with what is there")
    top, laid = context.top(), dict[int, Steps]()
    rank = len(top)
    if (index := context.data(0)) is not None:
        laid[0] = lay(context.bottom(index), top)
    if (index := context.data(2)) is not None:
        shape = context.bottom(index)
        sizes = tuple(1 if axis in named else shape[axis - rank] for axis in range(rank))
        order = Axes(tuple(None if axis in named else axis - rank + len(shape) for axis in range(rank)))
        laid[2] = (order, *lay(sizes, top))
    found = _choice(context, laid)
    if reduction == "add" and isinstance(found, Choice) and index is not None:
        return found._replace(added=index)
    return found


def _choice(context: NodeContext, laid: Mapping[int, Steps]) -> Operator:
    """What puts elements of two inputs into one blob, by how each is laid over it; one alone where the other is 0."""
    every = [laid.get(place) for place, slot in enumerate(context.node.slots) if isinstance(slot, BottomInput)]
    if len(laid) == 1 and puts_zeros(context.layer):
        return Product(tuple(every))
    if len(laid) != 2:
        raise Unfit("a constant stands among what it reads")
    return Choice(tuple(every))


def matrices(context: NodeContext, turned: bool = False, other_turned: bool = False) -> Operator:
    """MatMul of data: `s*(x*y)` is `(s*x)*y` with one s for each row, and `x*(s*y)` with one for each column.

    Either may be transposed over its last two axes in front of that.
    """
    x, y, top = context.bottom(0), context.bottom(1), context.top()
    if min(len(x), len(y)) < 2 or len(context.layer.bottoms) != 2:
        raise Unfit("it does not read two matrices")
    row, column = len(x) - (1 if turned else 2), len(y) - (2 if other_turned else 1)
    rows, columns = Axes((*range(len(x) - 2), row, None)), Axes((*range(len(y) - 2), None, column))
    return Product(((rows, *lay((*x[:-2], x[row], 1), top)), (columns, *lay((*y[:-2], 1, y[column]), top))))


def einsum(context: NodeContext) -> Product:
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
