"""What exporters write as small expressions, computed as the runtime would: in the stored type, by numpy.

`Expand(CastLike(0, x), [8])` is a bias of eight zeros, `Unsqueeze(gamma, [1, 2])` a scale that broadcasts. bnfold folds
no constants that no affine needs; the nodes stay as long as anybody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, TensorProto, numpy_helper

from bnfold.net import Array, DType, Shape
from bnfold.onnx.arithmetic import on_at, over_norm, places_along, scattered
from bnfold.onnx.call import Call, NotConstant
from bnfold.onnx.error_function import erf
from bnfold.onnx.file import element_type
from bnfold.onnx.node import STANDARD, is_newer, written_out
from bnfold.onnx.referenced import REFERENCED, inferred_shape, referenced
from bnfold.onnx.schemas import takes

SEVERAL = frozenset({"Split", "TopK"})
"""Operators of which not only the first output is computed."""

MAX_COMPUTED = 1 << 26
"""Values that all expressions of a model may have together: a text of 100 bytes may ask for 2^40."""

COPIES = 4
"""As many may they have for each value that the model stores: standardised weights are computed in so many steps."""


def compute(call: Call, allowed: int = MAX_COMPUTED) -> Array | None:
    """An output of a node; None where it is no expression that is computed here.

    Args:
        call: the node.
        allowed: how many values it may have that are not a view of another constant's.
    """
    expression = EXPRESSIONS.get(call.node.op_type)
    if expression is None or call.node.domain not in STANDARD or (call.output and call.node.op_type not in SEVERAL):
        return None
    if is_newer(call.node.op_type, call.opset) or not takes(call.node.op_type, call.opset, call.inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            if (1 if expression.size is None else prod(expression.size(call))) > allowed:
                return None  # before numpy makes it
            value = np.asarray(expression.value(call))
    except (NotConstant, ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError):
        return None  # sizes and numbers that numpy refuses, the runtime refuses, too
    value.flags.writeable = False
    return value


def _broadcast(call: Call) -> Shape:
    return np.broadcast_shapes(*(value.shape for value in call.inputs if value is not None))


def _steps(call: Call) -> Shape:
    start, limit, delta = (float(call[place].reshape(())) for place in range(3))
    return (max(0, int((limit - start) / delta) + 1),)


def _constant(call: Call) -> Array:
    (attribute,) = call.node.attribute
    said = written_out(attribute)
    return _tensor(attribute) if said is None else said


def _tensor(attribute: AttributeProto) -> Array:
    """The values of an attribute that is a tensor within the model."""
    tensor, is_one = attribute.t, attribute.name == "value" and attribute.type == AttributeProto.TENSOR
    if not is_one or element_type(tensor.data_type) is None or tensor.data_location == TensorProto.EXTERNAL:
        raise NotConstant
    return np.asarray(numpy_helper.to_array(tensor))


def _as(value: Array, target: DType | None) -> Array:
    if target is None:
        raise NotConstant
    if not np.can_cast(value.dtype, target) and not value.dtype.isbuiltin == target.isbuiltin == 1:
        # numpy rounds to numbers of ml_dtypes twice, and ONNX cuts what is too large for them: only what they can hold.
        held = value.astype(target)
        if not np.isfinite(value).all() or not np.array_equal(held.astype(value.dtype), value):
            raise NotConstant
        return held
    if target.kind in "iub" and value.dtype.kind == "f":
        limits = np.iinfo(target) if target.kind != "b" else None
        if limits is not None and not np.all((value >= limits.min) & (value <= limits.max)):
            raise NotConstant  # undefined in C, and in ONNX
    return value.astype(target, copy=False)


def _axes(call: Call, rank: int) -> list[int]:
    axes = call.numbers(1, "axes")
    if not all(-rank <= axis < rank for axis in axes):
        raise NotConstant
    return [axis % rank for axis in axes]


def _unsqueeze(call: Call) -> Array:
    count = len(call.numbers(1, "axes"))
    axes = _axes(call, call[0].ndim + count)
    return np.expand_dims(call[0], tuple(axes))


def _squeeze(call: Call) -> Array:
    if not call.given(1) and "axes" not in call.attributes:
        return call[0].squeeze()
    if not (axes := _axes(call, call[0].ndim)):
        raise NotConstant  # no axes are all of size 1 to some runtimes, and none to others
    return call[0].squeeze(tuple(axes))


def _reshape(call: Call) -> Array:
    wanted = call.numbers(1, "shape")
    if not call.attribute("allowzero", 0):
        wanted = [call[0].shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return call[0].reshape(wanted)


def _concat(call: Call) -> Array:
    parts = [call[place] for place in range(len(call.node.input))]
    return np.concatenate(parts, axis=call.attribute("axis", 1 if call.opset < 4 else 0))


def _slice(call: Call) -> Array:
    starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
    axes = call.numbers(3, "axes", range(len(starts)))
    steps = call.numbers(4, "", [1] * len(starts))
    window = [slice(None)] * call[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        window[axis] = slice_of(start, end, step, call[0].shape[axis])
    return call[0][tuple(window)]


def _split(call: Call) -> Array:
    axis, count = call.attribute("axis", 0), len(call.node.output)
    sizes = call.numbers(1, "split", [-(-call[0].shape[axis] // count)] * count)
    stops = np.cumsum(sizes)[:-1]
    return np.split(call[0], stops, axis)[call.output]


def slice_of(start: int, end: int, step: int, size: int) -> slice:
    """What ONNX's Slice takes of an axis: negative numbers count from the end, what lies outside is cut off."""
    if step == 0 or (step < 0 and end in ENDS):
        raise ValueError  # onnxruntime takes these ends as the beginning of the axis, as nobody else does
    start, end = (value + size if value < 0 else value for value in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


ENDS = (2**31 - 1, 2**63 - 1)
"""What stands for the end of an axis of any size where a Slice goes forward."""


def _shape(call: Call) -> Array:
    start, end = call.attribute("start", 0), call.attribute("end", len(call.shape() or ()))
    return np.array(_known(call, slice(start, end)), np.int64)


def _known(call: Call, axes: slice = slice(None)) -> Shape:
    """Sizes of the first input, which are all that a node reads of it."""
    shape = call.shape()
    if shape is None or any(size < 0 for size in shape[axes]):
        raise NotConstant
    return shape[axes]


def _constant_of_shape(call: Call) -> Array:
    written = call.attributes.get("value")
    fill = np.zeros(1, np.float32) if written is None else _tensor(written).reshape(-1)
    return np.full(call.numbers(0), fill[0], fill.dtype)


def _expanded(call: Call) -> Shape:
    return np.broadcast_shapes(call[0].shape, tuple(call.numbers(1)))


def _range(call: Call) -> Array:
    dtype, stated = call[0].dtype, [float(call[place].reshape(())) for place in range(3)]
    if not all(value.is_integer() for value in stated):
        raise NotConstant  # runtimes differ in how they round each step
    start, limit, delta = (int(call[place].reshape(())) for place in range(3))
    steps = np.arange(start, limit, delta)
    made = np.asarray(steps, dtype)
    if not np.array_equal(made, steps):
        raise NotConstant  # more digits than the type has
    return made


def _elementwise(function: Callable[..., Any]) -> Callable[[Call], Array]:
    def rule(call: Call) -> Array:
        values = [call[place] for place in range(len(call.node.input))]
        if call.opset < 7:
            raise NotConstant  # older ones broadcast by an attribute
        return np.asarray(function(*values), values[0].dtype)

    return rule


def _divide(one: Array, other: Array) -> Array:
    if one.dtype.kind not in "iu":
        return np.asarray(one / other)
    if np.any(other == 0):
        raise NotConstant
    return np.asarray(np.sign(one) * np.sign(other) * (np.abs(one) // np.abs(other)))  # C rounds to 0


def _mod(call: Call) -> Array:
    one, other = call[0], call[1]
    if one.dtype.kind not in "iu" or np.any(other == 0):
        raise NotConstant
    return np.asarray((np.fmod if call.attribute("fmod", 0) else np.mod)(one, other))


def _reduced(function: Callable[..., Any]) -> Callable[[Call], Array]:
    def rule(call: Call) -> Array:
        axes = _axes(call, call[0].ndim) if call.given(1) or "axes" in call.attributes else None
        if not axes and call.attribute("noop_with_empty_axes", 0):
            raise NotConstant  # runtimes differ in whether a norm of each value alone is its magnitude
        kept = bool(call.attribute("keepdims", 1))
        return np.asarray(function(call[0], axis=tuple(axes) if axes else None, keepdims=kept), call[0].dtype)

    return rule


def _mean(call: Call) -> Array:
    if call[0].dtype.kind != "f":
        raise NotConstant  # runtimes differ in how they round
    return _reduced(np.mean)(call)


def _normalized(call: Call) -> Array:
    """`gamma*(x - mean)/sqrt(variance + epsilon) + beta`, of a weight that is standardised by its own statistics.

    In training mode, which has more outputs, it computes these itself.
    """
    value = call[0]
    is_training = bool(call.attribute("training_mode", 0))
    if call.opset < (14 if any(call.node.output[1:]) else 9) or value.dtype.kind != "f" or value.ndim < 2:
        raise NotConstant
    by_channel = (call[place].astype(np.float64).reshape(-1, *[1] * (value.ndim - 2)) for place in range(1, 5))
    gamma, beta, mean, variance = by_channel
    if is_training:
        others = (0, *range(2, value.ndim))
        mean = np.asarray(np.mean(value, axis=others, dtype=np.float64, keepdims=True))[0]
        variance = np.asarray(np.var(value, axis=others, dtype=np.float64, keepdims=True))[0]
    deviation = np.sqrt(variance + call.attribute("epsilon", 1e-5))
    return (gamma * (value - mean) / deviation + beta).astype(value.dtype)


def _places(call: Call, indices: Array) -> tuple[Array, ...]:
    """Places along the first axes, as GatherND and ScatterND have them along the last axis of their indices."""
    if call.attribute("batch_dims", 0) or call.attribute("reduction", "none") != "none" or not indices.ndim:
        raise NotConstant
    return tuple(np.moveaxis(indices, -1, 0))


def _scattered(call: Call) -> Array:
    """`x` with updates at some places, each of which is named once."""
    value, places = call[0], _places(call, call[1])
    if call[2].shape != value[places].shape:
        raise NotConstant
    numbers = np.ravel_multi_index(places, value.shape[: len(places)], "wrap") if places else np.zeros(0)
    if np.unique(numbers).size != numbers.size:
        raise NotConstant  # runtimes differ in which of two is the last
    return scattered(value, places, call[2])


def _scattered_along(call: Call) -> Array:
    """`x` with updates at places of their own along an axis, each of which is named once."""
    (value, index), axis = (call[0], call[1]), call.attribute("axis", 0)
    if call.attribute("reduction", "none") != "none" or index.shape != call[2].shape:
        raise NotConstant
    rising = np.sort(np.where(index < 0, index + value.shape[axis], index), axis)
    if (np.diff(rising, axis=axis) == 0).any():
        raise NotConstant  # runtimes differ in which of two is the last
    return scattered(value, _along(call), call[2])


def _along(call: Call) -> tuple[Array, ...]:
    """Places along an axis, as GatherElements and ScatterElements have them."""
    if call[1].ndim != call[0].ndim:
        raise NotConstant
    return places_along(call[1], call.attribute("axis", 0))


def _extreme_place(call: Call) -> Array:
    """Where the largest or smallest is along an axis."""
    if np.isnan(call[0]).any():
        raise NotConstant  # runtimes differ in whether it is larger than all
    return referenced(call)


def _largest(call: Call) -> Array:
    """The k largest or smallest along an axis from the first on, or where they are; of equal ones the first."""
    value, axis = call[0], call.attribute("axis", -1)
    if call.opset < 11 or not call.attribute("sorted", 1) or np.isnan(value).any():
        raise NotConstant  # older ones have k as an attribute; else runtimes differ in the order
    (count,), size = call.numbers(1), value.shape[axis]
    if not 0 <= count <= size:
        raise NotConstant
    if call.attribute("largest", 1):
        places = size - 1 - np.flip(np.argsort(np.flip(value, axis), axis, kind="stable"), axis)
    else:
        places = np.argsort(value, axis, kind="stable")
    places = places.take(range(count), axis)
    return places if call.output else np.take_along_axis(value, places, axis)


def _compressed(call: Call) -> Array:
    """Those that a mask keeps along an axis, or of all values."""
    axis = call.attribute("axis", 0) if "axis" in call.attributes else None
    if not call[0].ndim or call[1].ndim != 1 or len(call[1]) > (call[0].size if axis is None else call[0].shape[axis]):
        raise NotConstant
    return np.compress(call[1], call[0], axis)


def _normed(call: Call) -> Array:
    """`x` over the norm of order p along an axis, and 0 where that is 0."""
    value, axis, order = call[0], call.attribute("axis", -1), call.attribute("p", 2)
    if order not in (1, 2) or value.dtype.kind != "f":
        raise NotConstant
    return over_norm(value.astype(np.float64), axis, order).astype(value.dtype)


def _dropped(call: Call) -> Array:
    """`x` at inference."""
    if call.opset < 7 or (call.given(2) and call[2].any()):
        raise NotConstant  # older ones say so by an attribute
    return call[0]


def _clip(call: Call) -> Array:
    low, high = (call[place] if call.given(place) else None for place in (1, 2))
    if call.opset < 11:
        raise NotConstant  # older ones have bounds in attributes
    value = call[0] if low is None else np.maximum(call[0], low)
    return np.asarray(value if high is None else np.minimum(value, high), call[0].dtype)


def _matmul(call: Call) -> Array:
    """A product of matrices and vectors, as what a weight is divided by is made of one (spectral norm)."""
    one, other = call[0], call[1]
    if one.dtype.kind != "f":
        raise NotConstant
    return np.asarray(one.astype(np.float64) @ other.astype(np.float64), one.dtype)


def _dequantized(call: Call) -> Array:
    """`(q - zero)*scale`, of a number or one for each channel, computed in float32; a weight stays quantised."""
    stored, scale, zero = call[0], call[1], call[2] if call.given(2) else np.zeros((), np.int64)
    if stored.dtype.kind not in "iu" or max(stored.ndim, scale.ndim, zero.ndim) > 1 or scale.dtype.itemsize > 4:
        raise NotConstant
    if call.attribute("block_size", 0) or call.attribute("output_dtype", 0):
        raise NotConstant
    difference = np.asarray(stored.astype(np.int64) - zero, np.float32)
    value = difference * scale.astype(np.float32)
    return np.asarray(value.reshape(stored.shape), scale.dtype)


def _quantized(call: Call) -> Array:
    """`round(x/scale) + zero`, cut to what the type holds, of one scale or one for each index of an axis."""
    value, scale, zero = call[0], call[1], call[2] if call.given(2) else np.zeros((), np.uint8)
    types = (value.dtype.name, scale.dtype.name)
    if types != ("float32", "float32") or zero.dtype.name not in {"int8", "uint8", "int16", "uint16"}:
        raise NotConstant
    if any(call.attribute(name, 0) for name in ("block_size", "output_dtype", "precision")):
        raise NotConstant
    if max(scale.size, zero.size) > 1:
        shape = [1] * value.ndim
        shape[call.attribute("axis", 1)] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape if zero.size > 1 else ())
    steps, limits = np.rint(value / scale), np.iinfo(zero.dtype)
    if not np.isfinite(steps).all():
        raise NotConstant  # runtimes differ in which number NaN becomes
    return np.clip(steps + zero, limits.min, limits.max).astype(zero.dtype)


def _softmax(call: Call) -> Array:
    if call.opset < 13 or call[0].dtype.kind != "f":
        raise NotConstant  # older ones make a matrix of it
    axis = call.attribute("axis", -1)
    powers = np.exp(call[0].astype(np.float64) - np.max(call[0], axis=axis, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True), call[0].dtype)


def _contraction(call: Call) -> Shape:
    """As many products as a MatMul, a Gemm or an Einsum computes, or more, as a shape."""
    if call.node.op_type == "Einsum":
        if "." in call.attribute("equation", ""):
            raise NotConstant  # of axes without a letter
        terms = call.attribute("equation", "").replace(" ", "").split("->")[0].split(",")
        read = [value.shape for value in call.inputs if value is not None]
        sizes = {
            letter: size
            for term, shape in zip(terms, read, strict=True)
            for letter, size in zip(term, shape, strict=True)
        }
        return (*sizes.values(),)
    one, other = call[0], call[1]
    return (one.size, other.size // max(1, one.shape[0 if call.attribute("transA", 0) else -1]))


ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Div": _divide,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Max": lambda *values: reduce(np.maximum, values),
    "Mean": lambda *values: reduce(np.add, values) / len(values),
    "Min": lambda *values: reduce(np.minimum, values),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": lambda value: 1 / value,
    "Relu": lambda value: np.maximum(value, 0),
    "Round": np.rint,
    "Sigmoid": lambda value: 1 / (1 + np.exp(-value)),
    "Sign": np.sign,
    "Sin": np.sin,
    "Softplus": lambda value: np.logaddexp(0, value),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Sum": lambda *values: reduce(np.add, values),
    "Tanh": np.tanh,
}


class Expression(NamedTuple):
    """How the value of an operator is computed.

    Attributes:
        value: of a node.
        size: the shape, or the number of values, that it makes; None where it makes no more than it reads.
        shape_alone: the place of an input of which it reads no value, -1 for none.
    """

    value: Callable[[Call], Array]
    size: Callable[[Call], Sequence[int]] | None = None
    shape_alone: int = -1


def _as_first(call: Call) -> Shape:
    return call[0].shape


EXPRESSIONS: Mapping[str, Expression] = {
    **dict.fromkeys(("ArgMax", "ArgMin"), Expression(_extreme_place, inferred_shape)),
    "BatchNormalization": Expression(_normalized),
    "Cast": Expression(lambda call: _as(call[0], element_type(call.attribute("to", 0))), _as_first),
    "CastLike": Expression(
        lambda call: _as(call[0], call.types[1] if len(call.types) > 1 else None), _as_first, shape_alone=1
    ),
    "Clip": Expression(_clip, _as_first),
    "Compress": Expression(_compressed),
    "Concat": Expression(_concat, lambda call: (sum(value.size for value in call.inputs if value is not None),)),
    "Constant": Expression(_constant),
    "ConstantOfShape": Expression(_constant_of_shape, lambda call: call.numbers(0)),
    "DequantizeLinear": Expression(_dequantized, _as_first),
    "Dropout": Expression(_dropped),
    "Einsum": Expression(referenced, _contraction),
    "Equal": Expression(lambda call: np.asarray(call[0] == call[1]), _broadcast),
    "Erf": Expression(_elementwise(erf), _as_first),
    "Expand": Expression(lambda call: np.array(np.broadcast_to(call[0], _expanded(call)), order="C"), _expanded),
    "Flatten": Expression(lambda call: call[0].reshape(prod(call[0].shape[: call.attribute("axis", 1)]), -1)),
    "Gather": Expression(
        lambda call: np.take(call[0], call[1], axis=call.attribute("axis", 0)),
        lambda call: (*call[1].shape, call[0].size // max(1, len(call[0])) if call[0].ndim else 1),
    ),
    "GatherElements": Expression(lambda call: call[0][_along(call)], lambda call: call[1].shape),
    "GatherND": Expression(
        lambda call: call[0][_places(call, call[1])],
        lambda call: (*call[1].shape[:-1], *call[0].shape[call[1].shape[-1] :]),
    ),
    "Gemm": Expression(referenced, _contraction),
    "Identity": Expression(lambda call: call[0]),
    "LpNormalization": Expression(_normed, _as_first),
    "MatMul": Expression(_matmul, _contraction),
    "Mod": Expression(_mod, _broadcast),
    "NonZero": Expression(
        lambda call: np.array(np.nonzero(np.atleast_1d(call[0]))), lambda call: (call[0].size, call[0].ndim)
    ),
    "OneHot": Expression(
        lambda call: on_at(call[0], call[1], call[2], call.attribute("axis", -1)),
        lambda call: (*call[0].shape, *map(int, call[1].reshape(-1))),
    ),
    "QuantizeLinear": Expression(_quantized, _as_first),
    "Range": Expression(_range, _steps),
    "ReduceL1": Expression(_reduced(lambda value, **how: np.sum(np.abs(value), **how))),
    "ReduceL2": Expression(_reduced(lambda value, **how: np.sqrt(np.sum(value * value, **how)))),
    "ReduceMax": Expression(_reduced(np.max)),
    "ReduceMean": Expression(_mean),
    "ReduceMin": Expression(_reduced(np.min)),
    "ReduceProd": Expression(_reduced(np.prod)),
    "ReduceSum": Expression(_reduced(np.sum)),
    "ReduceSumSquare": Expression(_reduced(lambda value, **how: np.sum(value * value, **how))),
    "Reshape": Expression(_reshape),
    "ScatterElements": Expression(_scattered_along, lambda call: (max(call[0].size, call[1].size),)),
    "ScatterND": Expression(_scattered, lambda call: (max(call[0].size, call[1].size, call[2].size),)),
    "Shape": Expression(_shape, shape_alone=0),
    "Size": Expression(lambda call: np.asarray(prod(_known(call)), np.int64), shape_alone=0),
    "Slice": Expression(_slice),
    "Softmax": Expression(_softmax, _as_first),
    "Split": Expression(_split),
    "Squeeze": Expression(_squeeze),
    "Tile": Expression(
        lambda call: np.tile(call[0], call.numbers(1)), lambda call: (call[0].size, *map(abs, call.numbers(1)))
    ),
    "TopK": Expression(_largest),
    "Transpose": Expression(
        lambda call: call[0].transpose(call.attribute("perm", ()) if "perm" in call.attributes else None)
    ),
    "Unsqueeze": Expression(_unsqueeze),
    "Where": Expression(lambda call: np.where(call[0], call[1], call[2]), _broadcast),
    **dict.fromkeys(REFERENCED, Expression(referenced, inferred_shape)),
    **{name: Expression(_elementwise(function), _broadcast) for name, function in ELEMENTWISE.items()},
}


def shape_alone(op_type: str) -> int:
    """The place of the input of which an operator reads no value, -1 for none."""
    return EXPRESSIONS[op_type].shape_alone if op_type in EXPRESSIONS else -1
