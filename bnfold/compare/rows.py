"""Whether a network computes each row of its batch by itself: then what holds of a few rows holds of any number.

A value is a constant, or sizes of inputs alone, or it has a row for each row of the inputs along its first axis, made
of that row alone, by the same function whichever it is and however many there are. An operator of `ROWWISE` keeps that
where it acts along other axes; of any other nothing is known, and further runs tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.net import Array, Shape

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

    from bnfold.compare.models import Model

COUNT = 1009
"""Rows for which shapes are inferred: a prime number, which no product or quotient of other sizes is by chance."""


@dataclass(frozen=True, slots=True)
class _RowReading:
    """A node that reads rows, with what is known of its values.

    Attributes:
        node: the node.
        said: its attributes.
        shapes: value -> shape, of `COUNT` rows.
        values: those that are constant or sizes, where they are few.
        rows: the values that have rows.
    """

    node: NodeProto
    said: Mapping[str, AttributeProto]
    shapes: Mapping[str, Shape]
    values: Mapping[str, Array | None]
    rows: set[str]

    @property
    def rank(self) -> int:
        """Of the first input."""
        return len(self.shapes[self.node.input[0]])

    @property
    def is_first(self) -> bool:
        """Whether it is the first input alone that has rows."""
        return self.node.input[0] in self.rows and self.rows.isdisjoint(self.node.input[1:])

    def number(self, name: str, default: int) -> int:
        """A whole number among the attributes."""
        return self.said[name].i if name in self.said else default

    def numbers(self, name: str, place: int) -> list[float]:
        """Numbers that are an attribute in some versions of an operator, and an input in others; none where unknown."""
        if name in self.said:
            return [*self.said[name].ints, *self.said[name].floats]
        value = self.values.get(self.node.input[place]) if len(self.node.input) > place else None
        return [] if value is None else [float(one) for one in value.reshape(-1)]

    def beside_rows(self, axes: Sequence[float]) -> bool:
        """Whether some axes of the first input are known, and none of them is that of the rows."""
        return len(axes) > 0 and all(axis % self.rank for axis in axes)

    def spares_rows(self, name: str) -> bool:
        """Whether a constant broadcasts along the axis of the rows of what has as many axes as the first output."""
        shape, axes = self.shapes[name], len(self.shapes[self.node.output[0]])
        return len(shape) < axes or (len(shape) == axes and shape[0] == 1)


def rows_alone(model: Model) -> bool:
    """Whether all that a network makes of its inputs has a row for each of their rows, made of that row alone.

    Args:
        model: the network, of ONNX; the first axis of each of its inputs is open, and that of the rows.
    """
    from bnfold.onnx.graph import inferred
    from bnfold.onnx.node import STANDARD

    if not all(feed.ranked for feed in model.feeds.values()):
        return False
    types, values = inferred(
        model.proto, model.weights, {name: (COUNT, *feed.shape[1:]) for name, feed in model.feeds.items()}
    )
    rows, sizes = {*model.feeds}, set[str]()
    for node in model.proto.graph.node:
        read, made = set(filter(None, node.input)), set(filter(None, node.output))
        if node.domain not in STANDARD or not (read or node.op_type == "Constant"):
            return False
        if any(one.HasField("g") or one.graphs for one in node.attribute):
            return False
        if rows.isdisjoint(read):
            if not sizes.isdisjoint(read):
                if node.op_type not in OF_SIZES:
                    return False
                sizes |= made
        elif node.op_type in ("Shape", "Size"):
            sizes |= made
        else:
            reading = _RowReading(node, {one.name: one for one in node.attribute}, types.shapes, values, rows)
            shapes = [types.shapes.get(name) for name in (*read, *made)]
            is_met = not sizes.isdisjoint(read) and node.op_type not in ("Reshape", "Resize")
            if is_met or None in shapes or not all(types.shapes[name][:1] == (COUNT,) for name in made):
                return False
            if node.op_type not in ROWWISE or not ROWWISE[node.op_type](reading):
                return False
            rows |= made
    return sizes.isdisjoint(port.name for port in model.proto.graph.output)


def _pointwise(reading: _RowReading) -> bool:
    """Of blobs with as many axes as the result, and of constants that broadcast along the first of them.

    Before version 7 `axis` says where a constant's axes begin.
    """
    node, axes = reading.node, len(reading.shapes[reading.node.output[0]])
    return reading.number("axis", 1) > 0 and all(
        len(reading.shapes[name]) == axes if name in reading.rows else reading.spares_rows(name)
        for name in filter(None, node.input)
    )


def _normalised(reading: _RowReading) -> bool:
    """By statistics that are stored: not while it is trained."""
    return reading.is_first and not reading.number("training_mode", 0) and len(reading.node.output) == 1


def _unused(reading: _RowReading) -> bool:
    """A Dropout that is not told to draw."""
    return reading.is_first and len(reading.node.input) < 3 and len(reading.node.output) == 1


def _of_samples(reading: _RowReading) -> bool:
    """What has its samples along the first axis, by its definition (onnx's Operators.md)."""
    return reading.is_first and len(reading.node.output) == 1


def _along(default: int) -> Callable[[_RowReading], bool]:
    """Along an axis that an attribute says, or in some versions along all from it on."""
    return lambda reading: reading.is_first and reading.beside_rows([reading.number("axis", default)])


def _in_steps(reading: _RowReading) -> bool:
    """By scales that are constant, and vary along the axis that is said, if along any."""
    axis = reading.number("axis", 1)
    return reading.is_first and all(
        len(reading.shapes[name]) < 2 and (set(reading.shapes[name]) <= {1} or reading.beside_rows([axis]))
        for name in filter(None, reading.node.input[1:])
    )


def _reduced(reading: _RowReading) -> bool:
    """Along axes that are said: without any, of one row all is reduced, and all that has the size 1 is squeezed."""
    return reading.is_first and reading.beside_rows(reading.numbers("axes", 1))


def _joined(reading: _RowReading) -> bool:
    return reading.rows.issuperset(reading.node.input) and reading.beside_rows([reading.number("axis", 0)])


def _cut(reading: _RowReading) -> bool:
    return reading.is_first and reading.beside_rows(reading.numbers("axes", 3))


def _padded(reading: _RowReading) -> bool:
    """By nothing at both ends of the first axis; with axes of its own it is not looked at."""
    pads = reading.numbers("pads", 1)
    return reading.is_first and len(reading.node.input) < 4 and not any(pads[:: max(reading.rank, 1)]) and bool(pads)


def _scaled(reading: _RowReading) -> bool:
    """To a size for each axis, or by a factor, which is 1 where the size stays; where a region is cut out it is not."""
    read, kept = reading.node.input, {"axes", "keep_aspect_ratio_policy"}.isdisjoint(reading.said)
    is_cut = any(one.s == b"tf_crop_and_resize" for one in reading.said.values())
    factors = reading.numbers("scales", min(len(read) - 1, 2))
    return reading.is_first and kept and not is_cut and (len(read) > 3 or factors[:1] == [1.0])


def _taken(reading: _RowReading) -> bool:
    """Places in each row, or rows of places in a table."""
    table, places = reading.node.input
    if table in reading.rows:
        return reading.is_first and reading.beside_rows([reading.number("axis", 0)])
    return places in reading.rows and not reading.number("axis", 0)


def _multiplied(reading: _RowReading) -> bool:
    """Rows by a matrix, or matrices of which each row has its own."""
    first, second = reading.node.input
    if reading.is_first:
        return reading.rank > 1 and (len(reading.shapes[second]) < 3 or reading.spares_rows(second))
    axes = len(reading.shapes[second])
    if first in reading.rows:
        return axes > 2 and reading.rank == axes
    return axes > 2 and (reading.rank < 3 or reading.spares_rows(first))


def _gemm(reading: _RowReading) -> bool:
    return (
        reading.is_first and not reading.number("transA", 0) and all(map(reading.spares_rows, reading.node.input[2:]))
    )


def _transposed(reading: _RowReading) -> bool:
    return [*reading.said["perm"].ints][:1] == [0] if "perm" in reading.said else False


OF_SIZES = frozenset(
    ("Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Squeeze", "Sub", "Unsqueeze")
)
"""Operators that make sizes of sizes; what chooses among them, as Min does, might give each number of rows its own."""

ROWWISE: Mapping[str, Callable[[_RowReading], bool]] = {
    **dict.fromkeys(
        (
            *("Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp"),
            *("Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN"),
            *("LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not"),
            *("Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin"),
            *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where", "Xor"),
        ),
        _pointwise,
    ),
    **dict.fromkeys(
        (
            *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "GlobalAveragePool"),
            *("GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool"),
            *("MaxPool", "SpaceToDepth"),
        ),
        _of_samples,
    ),
    **dict.fromkeys(
        ("Hardmax", "LayerNormalization", "LogSoftmax", "LpNormalization", "RMSNormalization", "Softmax", "TopK"),
        _along(-1),
    ),
    **dict.fromkeys(("ArgMax", "ArgMin", "Split"), _along(0)),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _in_steps),
    **dict.fromkeys(("Flatten", "Reshape", "Unsqueeze"), lambda reading: reading.is_first),
    **dict.fromkeys(
        (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
            *("ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze"),
        ),
        _reduced,
    ),
    **dict.fromkeys(("Resize", "Upsample"), _scaled),
    "BatchNormalization": _normalised,
    "Concat": _joined,
    "Dropout": _unused,
    "Gather": _taken,
    "Gemm": _gemm,
    "MatMul": _multiplied,
    "Pad": _padded,
    "Slice": _cut,
    "Transpose": _transposed,
}
"""Operator -> whether it makes each row of its outputs, which have as many along their first axes, of that row alone.

Of what only changes the shape, the values stay in their order, so that as many rows are the same rows.
"""
