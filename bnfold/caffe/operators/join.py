"""The layers that join several bottoms: one behind the other, or element by element."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.operators import Axes, Extreme, Join, Operator, Product, Spread, Steps, Sum
from bnfold.algebra.records import require
from bnfold.caffe.layers import UNKNOWN, Eltwise, canonical_axis, of_channels, written_axis
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.operators.context import LayerContext
from bnfold.net import Shape


def concat(context: LayerContext) -> Join:
    """One behind the other; along the batch, whose size may change, all alike.

    Source: concat_layer.cpp.
    """
    axis = canonical_axis(written_axis(context.layer), len(context.tops[0]))
    return Join(axis, tuple(bottom[axis] if axis else UNKNOWN for bottom in context.bottoms))


def eltwise(context: LayerContext) -> Operator:
    """SUM with its coefficients, PROD, MAX, MIN; DIV takes a factor above the line alone.

    Source: eltwise_layer.cpp; DIV, MIN and `axis` of Synopsys' Caffe; a bottom of channels as in OpenCV's.
    """
    view = Eltwise.of(context.layer, len(context.layer.bottoms))
    shapes = [context.shape(bottom) for bottom in context.layer.bottoms]
    laid: tuple[Steps, ...] = ()
    first, second = shapes[:2] if len(shapes) > 1 else (None, None)
    if first is not None and second is not None and (len(second) < len(first) or of_channels(first, second)):
        start = view.axis if len(second) < len(first) else 0
        laid = ((), _from_axis(context, start), *[()] * (len(shapes) - 2))
    if view.operation == "SUM":
        return Sum(view.coeff, laid, stored=not laid and np.dtype(context.fold.stored_type) == np.float32)
    if view.operation == "DIV":
        return Product(((), None))
    return Product(laid) if view.operation == "PROD" else Extreme(laid)


def broadcast_sum(context: LayerContext) -> Sum:
    """`x + y` or `x - y`, both broadcasting.

    Source: Add and Sub of Synopsys' Caffe.
    """
    return Sum((1.0, -1.0 if layer_type_of(context.layer) == "Sub" else 1.0), _broadcast(context))


def broadcast_product(context: LayerContext) -> Product:
    """`x*y`, or `x/y`, in which y takes no factor.

    Source: Mul and Div of Synopsys' Caffe.
    """
    first, second = _broadcast(context)
    return Product((first, None if layer_type_of(context.layer) == "Div" else second))


def broadcast_extreme(context: LayerContext) -> Extreme:
    """The larger or the smaller of two bottoms, both broadcasting.

    Source: Maximum and Minimum of Synopsys' Caffe.
    """
    require(len(context.layer.bottoms) == 2, "what it is compared with was learned")
    return Extreme(_broadcast(context))


def _broadcast(context: LayerContext) -> tuple[Steps, Steps]:
    """How two bottoms lie over the top, aligned at its last axis as in NumPy."""
    top = context.tops[0]
    first, second = (_laid(bottom, top, len(top) - len(bottom)) for bottom in context.bottoms)
    return first, second


def multiplied_by_channels(context: LayerContext) -> Product:
    """`x*y`, one of them a number for each channel that is laid over the plane of the other.

    Source: broadcast_mul_layer.cpp of jolibrain's Caffe.
    """
    first, second = (_laid(bottom, context.tops[0], 0) for bottom in context.bottoms)
    return Product((first, second))


def matrices(context: LayerContext) -> Product:
    """`s*(x*y)` is `(s*x)*y` with one s for each row, and `x*(s*y)` with one for each column.

    Source: matmul_layer.cpp of Synopsys' Caffe.
    """
    require(
        len(context.layer.bottoms) == 2, "what it multiplies by was learned, and is no matrix that is as it is stored"
    )
    param, top = context.layer.param.matmul_param, context.tops[0]
    x, y = context.bottoms
    row, column = len(x) - (1 if param.transpose_a else 2), len(y) - (2 if param.transpose_b else 1)
    rows, columns = Axes((*range(len(x) - 2), row, None)), Axes((*range(len(y) - 2), None, column))
    over = len(top) - len(y)
    return Product(((rows, *_laid((*top[:-1], 1), top, 0)), (columns, *_laid((*top[over:-2], 1, top[-1]), top, over))))


def added(context: LayerContext) -> Sum:
    """`x + y`, y laid over x from an axis on.

    Source: bias_layer.cpp.
    """
    return Sum((1.0, 1.0), ((), _from_axis(context, context.layer.param.bias_param.axis)))


def gated(context: LayerContext) -> Sum:
    """`g*x + y` with one g for each channel: a scale to x or to g, and all of an affine to y.

    Source: axpy_layer.cpp of SENet's Caffe.
    """
    return Sum((0.0, 1.0, 1.0), (_laid(context.bottoms[0], context.tops[0], 0), (), ()), (None, 0, None))


def multiplied(context: LayerContext) -> Product:
    """`x*y`, y laid over x from an axis on. A learned bias behind it cannot be scaled here.

    Source: scale_layer.cpp.
    """
    require(not len(context.layer.blobs), "it adds a learned bias")
    return Product(((), _from_axis(context, context.layer.param.scale_param.axis)))


def _from_axis(context: LayerContext, axis: int) -> Steps:
    """How a second bottom lies over the first from `axis` on, which of a single number says nothing."""
    first, second = context.bottoms[:2]
    return _laid(second, first, canonical_axis(axis, len(first)) if second else 0)


def _laid(blob: Shape, over: Shape, start: int) -> Steps:
    """How a blob lies over another whose axis `start` is its first: it is repeated where it has size 1, or no axis."""
    behind = len(over) - start - len(blob)
    laid = (1,) * start + blob + (1,) * behind
    spread = [Spread(axis) for axis, (size, wanted) in enumerate(zip(laid, over, strict=True)) if size == 1 != wanted]
    axes = [Axes((*[None] * start, *range(len(blob)), *[None] * behind))] if start or behind else []
    return (*axes, *spread)
