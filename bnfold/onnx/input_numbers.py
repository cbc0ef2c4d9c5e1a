"""What a model makes of the whole numbers that an input takes: places behind arithmetic, and numbers that it knows.

Given:   n = Less(x, 0), i = Where(n, x + 30, x), y = Gather(table, i)      Result:  i is x where x is not below 0
Given:   y = Equal(Expand(x, shape), 16000)                                 Result:  16000 is known of x
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from bnfold.net import Array, DType
from bnfold.onnx.call import Call
from bnfold.onnx.constants import compute
from bnfold.onnx.node import RESHAPING, opset_of
from bnfold.onnx.weight import Weight

ALIKE = 13
"""The opset whose arithmetic that of opset 7 and newer is, but for types that came later."""
ARITHMETIC = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"),
        *("Mod", "Mul", "Neg", "Not", "Or", "Sub", "Where", "Xor"),
    )
)
"""Operators that work on whole numbers one by one."""
FAR_BELOW = -1e3  # of what is added to scores that do not count
FEW = 4  # numbers of which a comparison says something
COPYING = RESHAPING | {"Cast", "Expand", "Tile"}
"""Operators that give the numbers of their first input, some perhaps several times."""
MOST = 1 << 16  # numbers that are looked for
EXACT = 1 << 24  # below which float32, in which values are drawn, holds every whole number


def made_of(proto: ModelProto, weights: Sequence[Weight], name: str, values: Array) -> dict[str, Array]:
    """Tensor -> what the model makes of values of one input, one by one, with constants of one number at most.

    Args:
        proto: the model.
        weights: constants that are not in the message.
        name: the input.
        values: a vector.
    """
    opset = opset_of(proto)
    if opset < 7:
        return {}  # older operators broadcast by an attribute
    known = {one: value.reshape(()) for one, value in stored_numbers(proto, weights, 1).items() if value.size}
    made = {name: values}
    for node in proto.graph.node:
        if node.op_type in RESHAPING and node.input[0] in made:
            made[node.output[0]] = made[node.input[0]]
        elif node.op_type == "Constant" and (constant := compute(Call(node, opset, ()), 1)) is not None:
            known |= {node.output[0]: constant.reshape(())} if constant.size == 1 else {}
        elif node.op_type in ARITHMETIC and not made.keys().isdisjoint(node.input):
            found = compute(Call(node, max(opset, ALIKE), [made.get(one, known.get(one)) for one in node.input]))
            if found is not None and found.shape == values.shape:
                made[node.output[0]] = found
    return made


def stored_numbers(proto: ModelProto, weights: Sequence[Weight], most: int) -> dict[str, Array]:
    """Name -> what is stored under it, but text, of so many values at most."""
    held = [one for one in proto.graph.initializer if prod(one.dims) <= most and not one.data_location]
    found = {one.name: numpy_helper.to_array(one) for one in held if one.data_type != TensorProto.STRING}
    return found | {one.name: one.array() for one in weights if prod(one.shape) <= most and one.dtype != object}


def marked(proto: ModelProto, weights: Sequence[Weight], name: str, values: Array) -> list[int]:
    """Of whole numbers that one input takes the few of which a comparison says something else than of the others.

    Given:   Equal(x, 1), which makes a mask      Result:  [1]

    Arguments as of `made_of`.
    """
    found: set[int] = set()
    for flags in made_of(proto, weights, name, values).values():
        if flags.dtype == np.bool_ and flags.shape == values.shape:
            few = np.flatnonzero(flags != (2 * np.count_nonzero(flags) > flags.size))
            found.update(values[few].tolist() if len(few) <= FEW else ())
    return sorted(found)


def known_of(proto: ModelProto, weights: Sequence[Weight], name: str) -> list[int]:
    """The numbers that the values of one input are compared with by Equal, or by OneHot, which counts from 0; sorted.

    Arguments as of `made_of`.
    """
    constants, same, found = stored_numbers(proto, weights, MOST), {name}, set[int]()
    for node in proto.graph.node:
        first, second = (*node.input, "", "")[:2]
        if node.op_type in COPYING and first in same:
            same.add(node.output[0])
        elif node.op_type in COPYING and first in constants:
            constants[node.output[0]] = constants[first]
        elif node.op_type == "Constant" and (constant := compute(Call(node, ALIKE, ()), MOST)) is not None:
            constants[node.output[0]] = constant
        elif node.op_type in ("Equal", "OneHot") and not same.isdisjoint((first, second)):
            values = constants.get(second if first in same else first, np.empty(0))
            numbers = values.flat if values.dtype.kind in "iuf" else ()
            whole = {int(value) for value in numbers if -EXACT < value < EXACT and value == int(value)}
            found |= whole if node.op_type == "Equal" else set(range(min(max(whole, default=0), MOST)))
    return sorted(found)


def makes_mask(proto: ModelProto, weights: Sequence[Weight], name: str, dtype: DType) -> bool:
    """Whether an input of real values says which of others count, as where -1e4 is added to the scores of the others.

    Given:   m = Mul(Sub(1, x), -1e4), which is 0 where x is 1, and -1e4 where it is 0

    Arguments as of `made_of`, and the type of the input.
    """
    made = made_of(proto, weights, name, np.array([0, 1], dtype)).values() if dtype.kind == "f" else ()
    return any(one.dtype.kind == "f" and one.max() == 0 and one.min() <= FAR_BELOW for one in made)
