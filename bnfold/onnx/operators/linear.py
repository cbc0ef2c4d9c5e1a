"""Linear layers: how each sees its weight, and where its bias lies; normalisations, which end in an affine.

Each function states the formula of the ONNX operator that it names first.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np
from onnx import TensorProto

from bnfold.algebra import reasons
from bnfold.algebra.operators import PLANE, Axes, Linear, Opaque, Operator, Pass, Port, Product, Window, sliding
from bnfold.algebra.scaled import exact_values, scaled
from bnfold.net import Array, LazyArray, Shape, sizes
from bnfold.onnx.file import element_type
from bnfold.onnx.node import Windows
from bnfold.onnx.operators.context import MAX_VALUES, SAME, NodeContext, Unfit, axis_of, why_unknown
from bnfold.onnx.operators.join import einsum as product
from bnfold.onnx.operators.join import factors, lay, matrices
from bnfold.onnx.operators.quantised import dequantised
from bnfold.onnx.sizes import UNKNOWN


def conv(context: NodeContext) -> Operator:
    """Conv: `w (*) x + b`, the weight being (Cout, Cin/group, *kernel)."""
    if (scale := dequantised(context, 1)) is not None:
        return _with_bias(context, scale)
    node, weight, group = context.node, *_grouped(context)
    kernel = tuple(weight.shape[2:])
    same = node.attribute("auto_pad", "NOTSET") in SAME and any(size > 1 for size in kernel)
    border = reasons.BORDER if any(node.ints("pads")) or same else ""
    return _sliding(context, border)._replace(window=_window(context, kernel, group))


def _sliding(context: NodeContext, no_shift: str, *, transposed: bool = False, bias: int = 2) -> Linear:
    """A convolution with its bias, the input of that number; one that is fixed keeps everything away."""
    weight, group = _grouped(context)
    stored, fixed = _bias(context, bias, weight.shape[1] * group if transposed else weight.shape[0])
    linear = sliding(weight, stored, group, transposed)
    return linear._replace(no_shift=fixed or no_shift, no_backward=fixed, no_bias=fixed)


def _window(context: NodeContext, kernel: Shape, group: int) -> Window | None:
    """How a convolution slides; None where that depends on a size that is unknown."""
    count, mode = len(kernel), context.node.attribute("auto_pad", "NOTSET")
    windows = Windows.of(context.node.attributes, count)
    if windows is None:
        return None
    both = list(zip(windows.before, windows.behind, strict=True))
    if mode == "VALID":
        both = [(0, 0)] * count
    elif mode in SAME:
        plane = context.bottom()[2:]
        if len(plane) != count or min(plane) < 0:
            return None
        both = []
        for size, reach, stride in zip(plane, windows.reach(kernel), windows.strides, strict=True):
            whole = (-(-size // stride) - 1) * stride + reach - size
            if whole < -1:  # runtimes differ in which pixels a kernel skips that is so much shorter than its stride
                return None
            whole = max(whole, 0)
            less, more = whole // 2, whole - whole // 2
            both.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return Window(windows.strides, windows.dilations, tuple(both), group)


def _with_bias(context: NodeContext, scale: Linear) -> Linear:
    """A convolution whose weight is the scale of a quantised one, with its bias."""
    bias, fixed = _bias(context, 2, scale.outputs[0].size(scale.view))
    return scale._replace(bias=bias, no_backward=fixed, no_bias=fixed)


def deform_conv(context: NodeContext) -> Operator:
    """DeformConv: `w (*) x + b`, with x read at places that are data, 0 outside of the image; b is input 4."""
    return _sliding(context, reasons.OUTSIDE, bias=3)


def conv_transpose(context: NodeContext) -> Operator:
    """ConvTranspose: the transpose of a convolution plus b, the weight being (Cin, Cout/group, *kernel)."""
    if context.node.attribute("group", 1) == 1 and (scale := dequantised(context, 1)) is not None:
        return _with_bias(context, scale)
    node, weight = context.node, _grouped(context)[0]
    plain = all(size == 1 for size in weight.shape[2:]) and all(step == 1 for step in node.ints("strides"))
    plain = plain and not any(node.ints("pads")) and not any(node.ints("output_padding"))
    plain = plain and not node.has("output_shape") and node.attribute("auto_pad", "NOTSET") == "NOTSET"
    return _sliding(context, "" if plain else reasons.UNEVEN, transposed=True)


def _grouped(context: NodeContext) -> tuple[Array | LazyArray, int]:
    """The weight of a convolution, and its number of groups. Raises Unfit where they do not fit together."""
    weight, group = _weight(context, 1), context.node.attribute("group", 1)
    if len(weight.shape) < 3 or group < 1 or weight.shape[0] % group:
        raise Unfit("its weight does not fit its groups")
    return weight, group


def gemm(context: NodeContext) -> Operator:
    """Gemm: `alpha*A*B + beta*C`, A or B transposed or not; one of them is learned."""
    node = context.node
    left = context.data(0) is None
    if (scale := dequantised(context, 1)) is not None:
        bias, fixed = _gemm_bias(context, 1, scale.outputs[0].size(scale.view))
        return scale._replace(bias=bias, no_backward=fixed, no_bias=fixed)
    weight = _weight(context, 0 if left else 1)
    shape = tuple(weight.shape)
    if len(shape) != 2 or not context.layer.bottoms:
        raise Unfit("its weight is no matrix")
    turned = bool(node.attribute("transA" if left else "transB", 0))
    other = bool(node.attribute("transB" if left else "transA", 0))
    out = (1 if turned else 0) if left else (0 if turned else 1)
    alpha = node.attribute("alpha", 1.0)
    if alpha != 1.0:
        weight = scaled(weight, shape, np.full((1, 1), alpha))
    top_axis, bottom_axis = (0, 1 if other else 0) if left else (1, 0 if other else 1)
    bias, fixed = _gemm_bias(context, top_axis, shape[out])
    return Linear(
        weight=weight,
        bias=bias,
        view=shape,
        outputs=(Port(top_axis, (out,)),),
        inputs=(Port(bottom_axis, (1 - out,)),),
        summed=(1 - out,),
        no_shift=fixed,
        no_backward=fixed,
        no_bias=fixed,
        beside=None if node.given(2) else _beside(context, top_axis, bottom_axis),
    )


def fused(context: NodeContext) -> Operator:
    """com.microsoft.FusedConv, com.microsoft.FusedGemm: a Conv or Gemm, what may be added to it, and an activation."""
    linear = (conv if context.layer.type.endswith("Conv") else gemm)(context)
    activation = context.node.attribute("activation", "")
    if not isinstance(linear, Linear) or not (activation or context.node.given(3)):
        return linear
    behind = f"its {activation} comes behind its weight" if activation else "what it adds comes behind its weight"
    return linear._replace(no_backward=linear.no_backward or behind, window=None, beside=None)


def fused_matmul(context: NodeContext) -> Operator:
    """com.microsoft.FusedMatMul: `alpha*A*B`, A or B transposed over their last two axes; B is learned, or data."""
    node = context.node
    turned = [context.flag("transA", False), context.flag("transB", False)]
    if context.flag("transBatchA", False) or context.flag("transBatchB", False):
        raise Unfit("it moves the batch of what it reads")
    if context.works_on_data:
        return matrices(context, *turned)
    weight, bottom, top = _weight(context, 1), context.bottom(), context.top()
    shape = tuple(weight.shape)
    if len(shape) != 2 or len(bottom) < 2 or len(top) != len(bottom):
        raise Unfit("its weight, or what it reads, is no matrix")
    out, summed = (0, 1) if turned[1] else (1, 0)
    top_axis, bottom_axis = len(top) - 1, len(bottom) - (2 if turned[0] else 1)
    alpha = np.full((1, 1), node.attribute("alpha", 1.0))
    return Linear(
        weight=scaled(weight, shape, alpha),
        bias=None,
        view=shape,
        outputs=(Port(top_axis, (out,)),),
        inputs=(Port(bottom_axis, (summed,)),),
        summed=(summed,),
        no_bias="it has no bias",
        beside=_beside(context, top_axis, bottom_axis),
    )


def matmul_of_bits(context: NodeContext) -> Operator:
    """com.microsoft.MatMulNBits: `x*W + b`, W being `(q - zero)*scale` by blocks of each column.

    The scale takes factors; onnxruntime's own quantiser writes some of either sign.
    """
    node, rank = context.node, len(context.bottom())
    scale, zero, count = context.learned(2), context.values(3), node.attribute("N", 0)
    if scale is None or rank < 1 or count < 1 or prod(scale.shape) % count:
        raise Unfit("its scale is none of its columns")
    if node.given(3) and zero is None:
        raise Unfit(f"its zero point {why_unknown(context, 3)}")
    bias, fixed = _bias(context, 5, count)
    largest = 0.0 if zero is None or zero.dtype.kind not in "fV" else float(np.abs(exact_values(zero)).max(initial=0.0))
    return Linear(
        weight=scale,
        bias=None if bias is None else bias.reshape((1,) * (rank - 1) + (-1,)),
        view=(count, prod(scale.shape) // count),
        outputs=(Port(rank - 1, (0,)),),
        inputs=(Port(0, ()),),
        no_shift="its weight is quantised, and takes no shift from in front",
        no_backward=fixed,
        no_bias=fixed or "it has no bias",
        multiplied=largest + 2.0 ** node.attribute("bits", 4),
    )


def linear_model(context: NodeContext) -> Operator:
    """ai.onnx.ml.LinearClassifier, ai.onnx.ml.LinearRegressor: scores, `coefficients*x + intercepts`."""
    node, shape = context.node, context.bottom()
    weight, bias = (np.array(node.floats(name), np.float32) for name in ("coefficients", "intercepts"))
    count = node.attribute("targets", 1) if context.layer.type.endswith("Regressor") else bias.size
    view = (count, shape[1] if len(shape) == 2 else 0)
    if (
        context.element != TensorProto.FLOAT
        or min(view) < 1
        or prod(view) != weight.size
        or bias.size not in (0, count)
    ):
        raise Unfit("what it reads is no float32 matrix with a column for each of its coefficients")
    return Linear(
        weight=weight.reshape(view),
        bias=exact_values(bias).reshape(1, -1) if bias.size else None,
        view=view,
        outputs=(Port(1, (0,)),),
        inputs=(Port(1, (1,)),),
        summed=(1,),
        no_backward="its scores are compared, or go through a function",
    )


def hard_sigmoid(context: NodeContext) -> Operator:
    """HardSigmoid: `min(max(alpha*x + beta, 0), 1)`, which takes one number from in front."""
    beta = np.array(_attribute(context, "beta", 0.5), np.float64)
    linear = _number(_attribute(context, "alpha", 0.2), beta)
    return linear._replace(inputs=(Port(0, ()),), no_backward="it cuts at 0 and 1")


def selu(context: NodeContext) -> Operator:
    """Selu: `gamma*(max(x, 0) + min(alpha*exp(x) - alpha, 0))`, whose gamma takes one number from behind."""
    gamma = _attribute(context, "gamma", 1.0507010221481323)
    behind = "what it reads is the power of a number"
    return _number(gamma, None)._replace(outputs=(Port(0, ()),), no_forward=behind, no_bias="it has no bias")


def _attribute(context: NodeContext, name: str, default: float) -> float:
    """A number of an activation. Raises Unfit where it is coarser than the data."""
    if context.element == TensorProto.DOUBLE:
        raise Unfit("its numbers are float32, and what it reads float64")
    return context.node.attribute(name, default)


def _number(weight: float, bias: Array | None) -> Linear:
    """A layer of which the weight is one number."""
    return Linear(np.full(1, weight, np.float32), bias, view=(1,), outputs=())


def _gemm_bias(context: NodeContext, axis: int, size: int) -> tuple[Array | None, str]:
    """`beta*C` over the top, of full size along one axis; or why it is fixed."""
    if not context.node.given(2):
        return None, ""
    stored = context.learned(2)
    if stored is None:
        return None, f"its bias {why_unknown(context, 2)}"
    values = context.node.attribute("beta", 1.0) * exact_values(stored)
    full = (1,) * (2 - values.ndim) + values.shape
    if len(full) != 2 or full[axis] not in (1, size) or 0 in full:
        return None, f"its bias has the shape {sizes(stored.shape)}, which does not fit"
    if full[1 - axis] * size > MAX_VALUES:
        return None, "its bias has a value for each row, which are too many"
    wanted = [full[1 - axis]] * 2
    wanted[axis] = size
    return np.broadcast_to(values.reshape(full), wanted), ""


def matmul(context: NodeContext) -> Operator:
    """MatMul: `x*W` or `W*x` over the last two axes; axes of W in front of them go with those of x; `x*y` of data."""
    if context.works_on_data:
        return matrices(context)
    left = context.data(0) is None
    if (
        len(context.layer.bottoms) == 2 == len(context.bottom(1))
        and (scale := dequantised(context, len(context.top()) - 1)) is not None
    ):
        rank, (port,) = len(context.top()), scale.outputs
        return scale._replace(
            bias=_added(context, rank, port.axis, port.size(scale.view)), bias_apart=len(context.bottom()) != 2
        )
    weight = _weight(context, 0 if left else 1)
    shape, bottom, top = tuple(weight.shape), context.bottom(), context.top()
    count = len(shape)
    if not shape or not bottom:
        raise Unfit("one of its sides has no axes")
    lost = len(bottom) == 1  # a vector has one axis less in the result
    if len(top) + lost < count:
        raise Unfit("its shapes do not fit")
    end = 2 if left and not lost else 1
    top_axis, bottom_axis = len(top) - end, len(bottom) - end
    if count == 1:
        lone = "its weight is a vector, without an axis of its output"
        beside = _beside(context, UNKNOWN, bottom_axis)
        return Linear(weight, None, shape, (), (Port(bottom_axis, (0,)),), (0,), no_bias=lone, beside=beside)
    out, summed = (count - 2, count - 1) if left else (count - 1, count - 2)
    outputs, inputs = [Port(top_axis, (out,))], [Port(bottom_axis, (summed,))]
    for axis in (axis for axis in range(count - 2) if shape[axis] != 1):
        outputs.append(Port(len(top) + lost - count + axis, (axis,)))
        own = len(bottom) - count + axis
        if own >= 0 and not lost and bottom[own] == shape[axis]:
            inputs.append(Port(own, (axis,)))
    if len(context.node.proto.input) != 2:
        raise Unfit("it does not read two matrices")
    bias = _added(context, len(top), top_axis, shape[out])
    no_bias = "" if count == 2 else "its weight is a batch of matrices, to which no bias is added"
    return Linear(
        weight=weight,
        bias=bias,
        view=shape,
        outputs=tuple(outputs),
        inputs=tuple(inputs),
        summed=(summed,),
        no_bias="it makes a vector of a vector" if left and lost else no_bias,
        bias_apart=len(bottom) != 2,
        beside=_beside(context, top_axis, bottom_axis),
    )


def _added(context: NodeContext, rank: int, axis: int, size: int) -> Array | None:
    """What is added to a product of matrices, as it lies over the top along one axis; None where nothing is."""
    if (stored := context.learned(2)) is None:
        return None
    values = np.broadcast_to(exact_values(stored).reshape(-1), (size,))
    return values.reshape([-1 if one == axis else 1 for one in range(rank)])


def _beside(context: NodeContext, top_axis: int, bottom_axis: int) -> Product:
    """How what a product of matrices reads lies over what it gives, but for the axes of both that the weight knows."""
    bottom, top = context.bottom(), context.top()
    others = [axis for axis in range(len(bottom)) if axis != bottom_axis]
    order = [*[None] * (len(top) - len(others) - (top_axis >= 0)), *others]
    if top_axis >= 0:
        order.insert(top_axis, None)
    laid = lay(tuple(1 if axis is None else bottom[axis] for axis in order), top)
    return Product(((Axes(tuple(order)), *laid),))


def einsum(context: NodeContext) -> Operator:
    """Einsum: `sum of W*x` over the letters that the result has not; of data, a product."""
    letters, out = factors(context)
    at = 0 if context.data(0) is None else 1
    weight = context.learned(at)
    if weight is None or len(letters) != 2 or len(context.layer.bottoms) != 1 or not out:
        return product(context)
    own, other, shape, bottom = letters[at], letters[1 - at], tuple(weight.shape), context.bottom()
    whole = len(own) == len(set(own)) == len(shape) and len(other) == len(set(other)) == len(bottom)
    alike = whole and all(shape[own.index(one)] == bottom[other.index(one)] for one in set(own) & set(other))
    if not alike:
        return product(context)
    alone = set(other) - {*own, *out}
    return Linear(
        weight=weight,
        bias=None,
        view=shape,
        outputs=tuple(Port(out.index(one), (axis,)) for axis, one in enumerate(own) if one in out),
        inputs=tuple(Port(other.index(one), (axis,)) for axis, one in enumerate(own) if one in other),
        summed=tuple(axis for axis, one in enumerate(own) if one not in out),
        no_shift="it sums what it reads along an axis that its weight has not got" if alone else "",
        no_bias="it has no bias",
        beside=product(context),
    )


def recurrent(context: NodeContext) -> Operator:
    """LSTM, GRU, RNN: `x_t*W^T + Wb` is all that they do with a step; W is (directions, gates*hidden, inputs).

    Wb is the first half of B, whose other half goes with the state.
    """
    weight = _weight(context, 1)
    shape = tuple(weight.shape)
    if len(shape) != 3:
        raise Unfit("its weight is no matrix for each direction")
    bias, fixed = None, ""
    if context.node.given(3):
        stored = context.learned(3)
        if stored is None:
            fixed = f"its bias {why_unknown(context, 3)}"
        elif tuple(stored.shape) != (shape[0], 2 * shape[1]):
            fixed = f"its bias has the shape {sizes(stored.shape)}, which does not fit"
        else:
            bias = exact_values(stored)[:, : shape[1]].reshape(1, shape[0], 1, shape[1])
    return Linear(
        weight=weight,
        bias=bias,
        view=shape,
        outputs=(Port(1, (0,)), Port(3, (1,))),
        inputs=(Port(2, (2,)),),
        summed=(2,),
        no_shift=fixed,
        no_backward=reasons.GATED,
        no_bias=fixed,
    )


def attention(context: NodeContext) -> Operator:
    """com.microsoft.Attention: `x*W + b` is all that it does with a row of x; W gives queries, keys and values."""
    weight = _weight(context, 1)
    shape = tuple(weight.shape)
    if len(shape) != 2:
        raise Unfit("its weight is no matrix")
    bias, fixed = _bias(context, 2, shape[1])
    return Linear(
        weight=weight,
        bias=None if bias is None else bias.reshape(1, 1, -1),
        view=shape,
        outputs=(Port(2, (1,)),),
        inputs=(Port(2, (0,)),),
        summed=(0,),
        no_shift=fixed,
        no_backward="its queries and keys go through a softmax",
        no_bias=fixed,
    )


def biased_gelu(context: NodeContext) -> Operator:
    """com.microsoft.BiasGelu, com.microsoft.FastGelu: `f(x + b)`, whose b takes a shift from in front."""
    bottom, dtype = context.bottom(), element_type(context.element)
    if not bottom or dtype is None or bottom[-1] < 1:
        raise Unfit(f"{reasons.NOT_LINEAR}; how many values it adds is unknown")
    bias, fixed = _bias(context, 1, bottom[-1])
    last = len(bottom) - 1
    return Linear(
        weight=np.ones(bottom[-1], dtype),
        bias=None if bias is None else bias.reshape((1,) * last + (-1,)),
        view=bottom[-1:],
        outputs=(Port(last, (0,)),),
        inputs=(Port(last, (0,)),),
        factor=reasons.NOT_LINEAR,
        no_shift=fixed,
        no_backward=reasons.NOT_LINEAR,
        no_bias=fixed,
    )


def _weight(context: NodeContext, index: int) -> Array | LazyArray:
    """The weight, where input 0 is data, or input 1 where that is it. Raises Unfit, with why it cannot change."""
    if context.data(0 if index else 1) != 0 and context.data(index) != 0:
        raise Unfit("what it works on is a constant, too")
    weight = context.learned(index)
    if weight is None:
        raise Unfit(f"its weight {why_unknown(context, index)}")
    return weight


def _bias(context: NodeContext, index: int, channels: int) -> tuple[Array | None, str]:
    """The bias of a convolution, (1, C); or why it is fixed."""
    if not context.node.given(index):
        return None, ""
    stored = context.learned(index)
    if stored is None:
        return None, f"its bias {why_unknown(context, index)}"
    if tuple(stored.shape) != (channels,):
        return None, f"its bias has {prod(stored.shape)} values for {channels} channels"
    return exact_values(stored).reshape(1, -1), ""


# Normalisations: what they compute, then an affine, which takes others from behind as a linear layer does.


def instance_normalization(context: NodeContext) -> Operator:
    """InstanceNormalization: `scale*(x - mean)/sqrt(variance + epsilon) + B` of each plane."""
    return _normalization(context, 1, PLANE)


def group_normalization(context: NodeContext) -> Operator:
    """GroupNormalization: `scale*(x - mean)/sqrt(variance + epsilon) + B` of groups; both by group below opset 21."""
    channels, groups = context.bottom()[1], context.node.attribute("num_groups", 0)
    over = PLANE if channels == groups else (1, *PLANE)
    if context.node.opset >= 21:
        coarse = context.element == TensorProto.DOUBLE and context.node.attribute("stash_type", 1) != context.element
        return _normalization(context, 1, () if coarse else over)  # a shift would be rounded as what is computed
    if channels < 1 or channels % groups or tuple(_weight(context, 1).shape) != (groups,):
        raise Unfit("its scale is one of each group, of which it has another number")
    return _normalization(context, 1, over, channels // groups)


def layer_normalization(context: NodeContext) -> Operator:
    """LayerNormalization, RMSNormalization, SimplifiedLayerNormalization: `scale*norm(x) + B` of the last axis.

    RMSNormalization, of which onnxruntime has its own under the other name, has no mean and no B.
    """
    rank = len(context.bottom())
    if axis_of(context.node.attribute("axis", -1), rank) != rank - 1:
        raise Unfit("it normalises several axes at once")
    centred = context.layer.type == "LayerNormalization" and len(context.layer.tops) == 1
    return _normalization(context, rank - 1, (rank - 1,) if centred else ())


def in_pattern(context: NodeContext, name: str, *, scaled_last: bool) -> Operator:
    """An affine in one of `bnfold.onnx.patterns`: `scale*x + B` where data may be scaled last, else opaque."""
    scale = context.learned(1 if context.data(1) is None else 0)
    if not scaled_last or context.layer.type != "Mul" or scale is None or len(scale.shape) != 1:
        return Opaque(f"runtimes compute it and what is around it as one node, {name}")
    axis, bias = len(context.bottom()) - 1, context.learned(2)
    return Linear(
        weight=scale,
        bias=None if bias is None else exact_values(bias).reshape((1,) * axis + (-1,)),
        view=tuple(scale.shape),
        outputs=(Port(axis, (0,)),),
        no_forward=reasons.NORMALISES,
        no_bias="it has no bias" if bias is None else "",
    )


def skip_layer_normalization(context: NodeContext) -> Operator:
    """com.microsoft.SkipLayerNormalization, com.microsoft.SkipSimplifiedLayerNormalization: `scale*norm(x + y) + B`.

    The sum is an output of its own; the simplified one has no mean and no B.
    """
    return _normalization(context, len(context.bottom()) - 1, (), place=2)


def _normalization(
    context: NodeContext, axis: int, centred: Collection[int], each: int = 1, place: int = 1
) -> Operator:
    """One whose scale lies along an axis, and that subtracts the mean over some axes, if any.

    The scale is the input of the number `place`, and the bias, if it may have one, the next.
    """
    may_add = context.layer.type not in UNBIASED
    scale, stored = _weight(context, place), context.learned(place + 1) if may_add else None
    if may_add and context.node.given(place + 1) and stored is None:
        raise Unfit(f"its bias {why_unknown(context, place + 1)}")
    if len(scale.shape) != 1 or (stored is not None and stored.shape != scale.shape):
        raise Unfit("its scale and bias are no vectors of one length")
    if context.node.outputs[0] != 0:
        raise Unfit("nobody reads what it normalises")
    bias = None if stored is None else exact_values(stored).reshape((1,) * axis + (-1,))
    return Linear(
        weight=scale,
        bias=bias,
        view=tuple(scale.shape),
        outputs=(Port(axis, (0,), each),),
        no_forward=reasons.NORMALISES,
        no_bias="" if may_add else "it has no bias",
        tail=context.layer.type in {*UNBIASED, "LayerNormalization", "com.microsoft.SkipLayerNormalization"},
        beside=Pass(plane=centred, total=0.0) if centred else None,
    )


UNBIASED = frozenset(
    {"RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization"}
)
"""Normalisations that multiply last, and add nothing."""
