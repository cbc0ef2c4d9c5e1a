"""Affines and aliases: normalisation by stored statistics, arithmetic with a constant, what gives what it reads.

Each function states the formula of the ONNX operator that it names first.
"""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import TensorProto

from bnfold.algebra.affine import Affine, compact
from bnfold.algebra.operators import Alias, Constant, Operator, Pass, Product, Steps, Sum
from bnfold.algebra.records import Blocked
from bnfold.algebra.scaled import exact_values
from bnfold.net import Array
from bnfold.onnx.casts import AFFINES, between_casts
from bnfold.onnx.file import element_type
from bnfold.onnx.node import SHORT, Node
from bnfold.onnx.operators.context import MAX_VALUES, NodeContext, Unfit, why_unknown
from bnfold.onnx.operators.join import laid, lay


def is_in_training(node: Node) -> bool:
    """Whether a BatchNormalization normalises by its batch: before opset 14 it says so by giving more than y."""
    return bool(node.attribute("training_mode", 0)) if node.opset >= 14 else any(node.proto.output[1:])


def batch_normalization(context: NodeContext) -> Operator:
    """BatchNormalization: `gamma*(x - mean)/sqrt(variance + epsilon) + beta`.

    Opset 14 brought `training_mode`; before 9, `spatial: 0` has parameters of the shape of a sample.
    """
    node = context.node
    if len(context.layer.tops) > 1:
        raise Blocked("it is in training mode and gives its statistics, which follow each batch")
    if is_in_training(node):
        if context.is_fixed:
            raise Blocked("it is in training mode and standardises a weight, by statistics that no batch changes")
        if not context.fold.assumes(context.layer):
            raise Blocked("it is in training mode, so its statistics follow each batch; --assume-global-stats folds it")
        context.fold.assumed.append(context.layer)
    gamma, beta, mean, variance = (
        _parameter(context, index, word) for index, word in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    shape, channels = context.fold.shapes.get(context.layer.bottoms[0]) if context.layer.bottoms else None, -1
    if shape is not None:
        channels = shape[1] if len(shape) > 1 else 0
    if node.opset < 9 and not node.attribute("spatial", 1):
        alike = len({one.shape for one in (gamma, beta, mean, variance)}) == 1
        if not alike or (shape is not None and gamma.ndim != len(shape) - 1):
            raise Blocked("its parameters have not the shape of one sample (spatial 0)")
    elif not all(one.shape == (gamma.size,) for one in (gamma, beta, mean, variance)):
        raise Blocked("its parameters are no vectors of one length")
    elif channels >= 0 and gamma.size != channels:
        raise Blocked(f"its parameters are of {gamma.size} channels, and what it reads has {channels}")
    scale = gamma / np.sqrt(variance + np.float64(np.float32(node.attribute("epsilon", 1e-5))))
    shift = beta - mean * scale
    return Affine(scale[None], shift[None])


def _parameter(context: NodeContext, index: int, word: str) -> Array:
    stored = context.learned(index)
    if stored is None:
        raise Blocked(f"its {word} {why_unknown(context, index)}")
    return exact_values(stored)


def scaler(context: NodeContext) -> Operator:
    """ai.onnx.ml.Scaler: `scale*(x - offset)`, with a number for each feature, or one for all."""
    node, shape = context.node, context.bottom()
    scale, offset = np.array(node.floats("scale"), np.float64), np.array(node.floats("offset"), np.float64)
    features = shape[1] if len(shape) == 2 else 0
    if context.element != TensorProto.FLOAT:
        raise Blocked("what it reads is not float32, and would be rounded to that in front of it instead of behind")
    if scale.size != offset.size or features < 1 or scale.size not in (1, features):
        raise Unfit("it has not a scale and an offset for each of the columns that it reads")
    return Affine(scale[None], (-offset * scale)[None])


def negate(context: NodeContext) -> Operator:
    """Neg: `-x`."""
    kind = element_type(context.element)
    if kind is not None and kind.kind == "i":
        raise Unfit("what it reads are whole numbers, as sizes are")
    return Affine(-1.0)


def add(context: NodeContext) -> Operator:
    """Add: `x + c`, or a sum of data."""
    return _shifted(context, 1.0) if context.has_constant else Sum((1.0, 1.0), _both(context))


def subtract(context: NodeContext) -> Operator:
    """Sub: `x - c`, `c - x`, or a difference of data."""
    return _shifted(context, -1.0) if context.has_constant else Sum((1.0, -1.0), _both(context))


def _both(context: NodeContext) -> tuple[Steps, ...]:
    """How each of two blobs is broadcast. Raises Unfit where there are not two."""
    if len(context.layer.bottoms) != 2:
        raise Unfit("it does not read two blobs")
    return laid(context)


def _shifted(context: NodeContext, sign: float) -> Operator:
    constant = _laid_constant(context, axes=MAX_VALUES)
    if context.data(0) is None:  # c - x
        return Affine(sign, constant)
    return Affine(shift=sign * constant)


def multiply(context: NodeContext) -> Operator:
    """Mul: `c*x`, or a product of data, or of data and a c that is no affine's."""
    if not context.has_constant:
        return Product(_both(context))
    return _affine_or_factor(context, inverse=False)


def divide(context: NodeContext) -> Operator:
    """Div: `x/c`, or a quotient of data, of which the divisor takes nothing."""
    if not context.has_constant:
        both = _both(context)
        return Product((both[0] if both else (), None))
    if context.data(0) is None:
        raise Unfit("it divides a constant by what it reads, which is no affine")
    return _affine_or_factor(context, inverse=True)


def _affine_or_factor(context: NodeContext, inverse: bool) -> Operator:
    """`c*x` or `x/c`, or data times something fixed, which is no affine."""
    try:
        constant = _laid_constant(context)
    except (Blocked, Unfit) as unread:
        try:
            return Product((lay(context.bottom(), context.top()),), str(unread) if isinstance(unread, Blocked) else "")
        except Unfit:
            raise unread from None
    return Affine(1 / constant if inverse else constant)


def _laid_constant(context: NodeContext, axes: int = 1) -> Array:
    """The constant of a node with one, with its axes where those of the blob are.

    Raises:
        Unfit: it makes no affine.
        Blocked: it may make one, by sizes that the file leaves open.
    """
    index = 0 if context.data(0) is None else 1
    constant = context.learned(index)
    if constant is None or not context.layer.bottoms:
        raise Unfit(f"its constant {why_unknown(context, index)}")
    shape = tuple(constant.shape)
    if not shape:
        return exact_values(constant)
    if prod(shape) > MAX_VALUES:
        raise Unfit(f"its constant has {prod(shape):,} values, more than an affine may have")
    values = exact_values(constant)
    if prod(shape) > max(shape):  # a map, of which exporters write out what they have repeated
        values = compact(values)
    if sum(size != 1 for size in values.shape) > axes:
        raise Unfit("its constant varies along more than one axis")
    bottom = context.bottom()
    if len(shape) > len(bottom):
        raise Unfit("its constant gives what it reads more axes")
    full = (1,) * (len(bottom) - len(shape)) + shape
    for axis, (size, wanted) in enumerate(zip(bottom, full, strict=True)):
        if wanted != 1 and size != wanted:
            if size >= 0:
                raise Unfit("its constant enlarges what it reads")
            raise Blocked(
                f"its constant has {wanted} values along axis {axis}, of which the model leaves the size open; where "
                "that is 1 it would enlarge what it reads"
            )
    return values.reshape((1,) * (len(bottom) - len(shape)) + values.shape)


def alias(context: NodeContext) -> Operator:
    """Identity: `x`."""
    constant = context.learned(0)
    return Alias() if constant is None else Constant(constant)


def power(context: NodeContext) -> Operator:
    """Pow: `x`, where the exponent is 1."""
    exponent = context.values(1)
    if exponent is None or exponent.size != 1 or exponent.item() != 1 or exponent.ndim > len(context.bottom()):
        raise Unfit("a power of what is scaled or shifted is no affine of its power")
    return Alias()


def cast(context: NodeContext) -> Operator:
    """Cast: `x`, where it is of that type already, or where one affine behind it is all that is not rounded to that."""
    if context.element == context.node.attribute("to", 0):
        return Alias()
    if id(context.layer) in context.fold.casts and _passes(context):
        return Pass()
    if context.element in SHORT and context.node.attribute("to", 0) == TensorProto.FLOAT:
        short = TensorProto.DataType.Name(context.element).lower()
        raise Unfit(f"an affine is rounded to {short} in front of it, and behind it to float32")
    raise Unfit("it may round to another type")


def _passes(context: NodeContext) -> bool:
    """Whether a Cast is one of a pair with no affine between by now, or the first of one with a single one between."""
    up, down = context.fold.casts[id(context.layer)]
    affines = [layer for layer in between_casts(context.fold.net, up, down) or () if layer.type in AFFINES]
    return not affines or (len(affines) == 1 and context.layer is up)


def cast_like(context: NodeContext) -> Operator:
    """CastLike: the first input, where it is of the second's type already."""
    before, after = context.fold.types.get(id(context.layer), (0, 0))
    if context.data(0) != 0 or not before == after != 0:
        raise Unfit("it may round to another type")
    return Alias()


def dropout(context: NodeContext) -> Operator:
    """Dropout: `x` at inference, which opset 12 and newer say by an input."""
    if len(context.layer.tops) > 1:
        raise Unfit("its mask is read")
    if context.node.given(2):
        training = context.values(2)
        if training is None or bool(np.any(training)):
            raise Unfit("it may be in training mode")
    return Alias()
