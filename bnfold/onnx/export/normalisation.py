"""Layers that normalise by statistics or by what they read, and the learned affines that follow them.

Formulas: batch_norm_layer.cpp, scale_layer.cpp, bias_layer.cpp, lrn_layer.cpp, mvn_layer.cpp and softmax_layer.cpp of
BVLC; normalize_layer.cpp of SSD and of NormFace, axpy_layer.cpp of SENet, grn_layer.cpp of OpenVINO's Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfold.caffe.batchnorm import Statistics, read_batchnorm
from bnfold.caffe.layers import dropout_scale, factor_of_channels
from bnfold.caffe.layers.normalisation import normalized_axes
from bnfold.errors import WeightsError
from bnfold.net import Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, pad, reduce, reshape, scaled, shifted, softmax


def axpy(block: Block) -> str:
    """`a*x + y` with a of shape (N, C[, 1, 1]), which broadcasts over the plane: Mul, Add."""
    a, x, y = block.bottoms
    if len(block.shapes[0]) != len(block.shapes[1]):
        a = reshape(block, a, (0, 0) + (1,) * (len(block.shapes[1]) - 2), "scale")
    return block("Add", block("Mul", x, a), y)


def broadcast_mul(block: Block) -> str:
    """`x*y`, one of shape (N, C[, 1, 1]), which broadcasts over the plane of the other: Mul."""
    small = factor_of_channels(block.layer, block.shapes)
    tensors, rank = list(block.bottoms), len(block.tops[0])
    if len(block.shapes[small]) < rank:
        tensors[small] = reshape(block, tensors[small], (0, 0) + (1,) * (rank - 2), "scale")
    return block("Mul", *tensors)


def batch_norm(block: Block) -> str:
    """`gamma*(x - mean)/sqrt(variance + eps) + beta`: BatchNormalization, with mean and variance already corrected.

    Statistics of the batch are ReduceMeans. Where mean is 0 and variance + eps is 1 it is a Mul and an Add.
    """
    if not len(block.layer.blobs):
        raise WeightsError(f"{block.layer}: it has no learned statistics; load the net with its caffemodel")
    statistics = read_batchnorm(block.layer, block.graph.net.batchnorm_layout, block.graph.net.zero_factor)
    if statistics.batch_statistics:
        block.fixes_batch("its statistics follow each batch")
        axes = [axis for axis in range(block.rank) if axis != 1]
        y = _learned_affine(block, _standardised(block, axes, statistics.eps), statistics)
    elif block.rank < 2 or statistics.layout == "segnet" or _is_misread(block):
        y = _learned_affine(block, block.bottom, statistics)
    else:
        channels = statistics.channels
        gamma = np.ones(channels) if statistics.gamma is None else statistics.gamma
        beta = np.zeros(channels) if statistics.beta is None else statistics.beta
        learned = {"gamma": gamma, "beta": beta, "mean": statistics.mean, "variance": statistics.variance}
        stored = [block.floats(values, name) for name, values in learned.items()]
        y = block("BatchNormalization", block.bottom, *stored, epsilon=float(statistics.eps))
    return block("Relu", y) if statistics.relu else y


def _is_misread(block: Block) -> bool:
    """Whether what runs the model takes the statistics of a BatchNormalization from its batch: onnx does below 14."""
    return block.is_double and block.opset < 14


def _standardised(block: Block, axes: list[int], eps: float, *, behind_root: bool = False) -> str:
    """`(x - E x)/sqrt(E (x - E x)^2 + eps)`, E being the mean over `axes`; or with eps behind the root."""
    centred = _centred(block, axes)
    variance = _mean(block, block("Mul", centred, centred, step="square"), axes, "variance")
    if behind_root:
        return block("Div", centred, shifted(block, block("Sqrt", variance), eps, "eps"))
    return block("Div", centred, block("Sqrt", shifted(block, variance, eps, "eps")))


def _centred(block: Block, axes: list[int]) -> str:
    """`x - E x = (x - a) - E (x - a)`, a being the first x: where x is constant nothing is left, not even rounding."""
    first = cut(block, block.bottom, axes, [0] * len(axes), [1] * len(axes), step="first") if axes else block.bottom
    moved = block("Sub", block.bottom, first, step="moved")
    return block("Sub", moved, _mean(block, moved, axes, "mean"))


def _mean(block: Block, x: str, axes: list[int], step: str) -> str:
    """The mean over axes; of a batch first over the plane, since OpenCV 5 gets axes 0, 2, 3 at once wrong."""
    if axes[:1] == [0] and axes[1:]:
        x, axes = reduce(block, "ReduceMean", x, axes[1:], step=f"{step}_plane"), [0]
    return reduce(block, "ReduceMean", x, axes, step=step)


def _learned_affine(block: Block, x: str, statistics: Statistics) -> str:
    """`gamma*x + beta`, with stored statistics multiplied in where they count."""
    scale, shift = statistics.affine(standardised=statistics.batch_statistics)
    along = (-1,) + (1,) * (block.rank - 2)
    y = block("Mul", x, block.floats(scale.reshape(along), "scale")) if (scale != 1).any() else x
    return block("Add", y, block.floats(shift.reshape(along), "shift")) if shift.any() else y


def bias(block: Block) -> str:
    """`x + bias`, learned or the second bottom, along `axis` and the axes behind it: Add."""
    return block("Add", block.bottom, _aligned(block, 0, block.layer.param.bias_param.axis, "bias"))


def scale(block: Block) -> str:
    """`scale*x + bias`, along `axis` and the axes behind it: Mul, Add; with two bottoms the scale is the second.

    Along the channels it is a BatchNormalization with mean 0, variance 1 and epsilon 0, whose numbers are the same:
    runtimes that keep channels in blocks take it as it is, and would lay everything out anew for a Mul and an Add.
    """
    view = block.layer.param.scale_param
    if _lies_along_channels(block, view.axis):
        (channels,) = block.stored_shape(0, "scale")
        bias = block.learned(1, "bias", (channels,)) if view.bias_term else block.floats(np.zeros(channels), "bias")
        mean, variance = (block.floats(np.full(channels, v), w) for v, w in ((0.0, "mean"), (1.0, "variance")))
        learned = block.learned(0, "scale", (channels,))
        return block("BatchNormalization", block.bottom, learned, bias, mean, variance, epsilon=0.0)
    y = block("Mul", block.bottom, _aligned(block, 0, view.axis, "scale"))
    if not view.bias_term:
        return y
    if len(block.bottoms) == 1:
        return block("Add", y, _aligned(block, 1, view.axis, "bias"))
    learned = block.learned(0, "bias", _spread(block, block.shapes[1], view.axis))
    return block("Add", y, learned)


def _lies_along_channels(block: Block, axis: int) -> bool:
    """Whether a Scale has one value for each channel, and may be a BatchNormalization."""
    if len(block.bottoms) > 1 or block.rank < 3 or block.axis(axis) != 1 or _is_misread(block):
        return False
    shape = block.stored_shape(0, "scale")
    return len(shape) == 1 and shape[0] > 1


def _aligned(block: Block, index: int, axis: int, word: str) -> str:
    """The learned blob or the second bottom with trailing axes of 1, so that it broadcasts where Caffe puts it."""
    if len(block.bottoms) == 1:
        return block.learned(index, word, _spread(block, block.stored_shape(index, word), axis))
    shape = block.shapes[1]
    spread = _spread(block, shape, axis, learned=False)
    if spread == shape:
        return block.bottoms[1]
    # 0 copies: what is in front of the added axes may be an open batch.
    return reshape(block, block.bottoms[1], (0,) * len(shape) + spread[len(shape) :] if shape else spread, word)


def _spread(block: Block, shape: Shape, axis: int, *, learned: bool = True) -> Shape:
    """`shape` laid on the bottom's axes from `axis` on; the axes in front broadcast by themselves."""
    per_item = not learned and block.bottoms[1] in block.graph.batched
    if math.prod(shape) == 1 and len(shape) <= 1 and not per_item:
        return (1,) * min(max(len(shape), 1), block.rank)
    start = block.axis(axis)
    if start == 0 and learned:
        block.fixes_batch("its learned values lie along the batch")
    return shape + (1,) * (block.rank - start - len(shape))


def dropout(block: Block) -> str:
    """`x`: Identity; in forks that scale at TEST, `(1 - ratio)*x`: Mul."""
    factor = dropout_scale(block.layer)
    return block("Identity", block.bottom) if factor == 1 else scaled(block, block.bottom, factor)


def each(block: Block) -> list[str]:
    """Each top is the bottom of its place: Identity."""
    return [block("Identity", bottom) for bottom in block.bottoms]


def eltwise_affine(block: Block) -> str:
    """`slope*x + bias` along the channels, or with one slope and one bias for all: Mul, Add."""
    along = (1,) * (block.rank - 2)
    slope, bias = (
        block.learned(index, word, (math.prod(block.stored_shape(index, word)), *along))
        for index, word in enumerate(("slope", "bias"))
    )
    return block("Add", block("Mul", block.bottom, slope), bias)


def lrn(block: Block) -> str:
    """`x / (k + alpha/size * sum x^2)^beta` across channels: LRN; in the plane `x * (1 + alpha*AVE(x^2))^-beta`."""
    view = block.layer.param.lrn_param
    across = view.norm_region == view.ACROSS_CHANNELS
    if across and block.is_double:
        return _lrn_by_parts(block)
    if across:
        numbers: dict[str, Any] = {"alpha": float(view.alpha), "beta": float(view.beta), "bias": float(view.k)}
        return block("LRN", block.bottom, size=view.local_size, **numbers)
    reach = (view.local_size - 1) // 2
    square = block("Mul", block.bottom, block.bottom, step="square")
    if reach:
        # The padding counts in the divisor, as real zeros do in every runtime.
        around = [0, 0, reach, reach]
        square = pad(block, square, around, around)
    average = block("AveragePool", square, kernel_shape=[view.local_size] * 2, strides=[1, 1])
    return _damped(block, average, view.alpha, 1.0, view.beta)


def _lrn_by_parts(block: Block) -> str:
    """LRN across channels without the operator, which onnx's evaluator computes wrongly."""
    view = block.layer.param.lrn_param
    reach = (view.local_size - 1) // 2
    square = block("Mul", block.bottom, block.bottom, step="square")
    padded = pad(block, square, [0, reach, 0, 0], [0, reach, 0, 0])
    total = cut(block, padded, [1], [0], [block.shape[1]], step="first")
    for start in range(1, view.local_size):
        total = block("Add", total, cut(block, padded, [1], [start], [start + block.shape[1]]))
    return _damped(block, total, view.alpha / view.local_size, view.k, view.beta)


def _damped(block: Block, squares: str, alpha: float, k: float, beta: float) -> str:
    """`x * (k + alpha*squares)^-beta`."""
    base = shifted(block, scaled(block, squares, alpha), k)
    return block("Mul", block.bottom, block("Pow", base, block.floats(-beta, "exponent")))


def mvn(block: Block) -> str:
    """`(x - mean)/(sqrt(E (x - mean)^2) + eps)` over the plane, or over channels and plane: Slice, ReduceMean, Div."""
    view = block.layer.param.mvn_param
    axes = list(range(1 if view.across_channels else 2, block.rank))
    if not view.normalize_variance:
        return _centred(block, axes)
    return _standardised(block, axes, view.eps, behind_root=not view.add_eps_before_sqrt)


def normalization(block: Block) -> str:
    """`x / sqrt(sum of x^2)` for each sample, (N, C): ReduceSum, Sqrt, Div."""
    if block.rank != 2:
        raise Refused("forks disagree about the axes over which it sums, unless there are two")
    return block("Div", block.bottom, block("Sqrt", _sum_of_squares(block, [1])))


def norm(block: Block) -> str:
    """`x / (sqrt(sum of x^2) + 1e-6)` for each sample, (N, C, 1, 1): ReduceSum, Sqrt, Add, Div, Reshape."""
    if block.rank != 2 or block.layer.blobs:
        raise Refused("forks disagree about what it adds to the sum, unless it reads two axes and learned nothing")
    length = shifted(block, block("Sqrt", _sum_of_squares(block, [1])), 1e-6, "eps")
    return reshape(block, block("Div", block.bottom, length), (0, 0, 1, 1))


def normalize(block: Block) -> str | list[str]:
    """`x / sqrt(sum x^2 + eps) * scale` over channels, or over channels and plane: ReduceSum, Sqrt, Div, Mul.

    Synopsys may add eps to the root. NormFace's is another layer: see `_normalize_pixels`.
    """
    param, view = block.layer.param, block.layer.param.norm_param
    if param.HasField("normalize_param"):
        return _normalize_pixels(block)
    if not block.layer.blobs and not param.HasField("norm_param"):
        raise Refused(
            "it learned nothing, and Caffes disagree about what it computes then; if it is NormFace's, say so: "
            'normalize_param { normalize_type: "L2" }'
        )
    axes = list(range(1, block.rank)) if view.across_spatial else [1]
    total = _sum_of_squares(block, axes)
    if view.across_spatial and not view.add_eps_before_sqrt:
        norm = shifted(block, block("Sqrt", total), view.eps, "eps")
    else:
        norm = block("Sqrt", shifted(block, total, view.eps, "eps"))
    y = block("Div", block.bottom, norm)
    count = 1 if view.channel_shared else block.shape[1]
    return block("Mul", y, block.learned(0, "scale", (count,) + (1,) * (block.rank - 2)))


def _normalize_pixels(block: Block) -> list[str]:
    """`x / sqrt(sum x^2 + 1e-6)` or `x / (sum |x| + 1e-6)` over channels, and the norm or 1/norm: ReduceSum, Sqrt, Div.

    The top has four axes whatever the bottom has (NormFace, normalize_layer.cpp).
    """
    view = block.layer.param.normalize_param
    x = block.bottom if block.rank == 4 else reshape(block, block.bottom, (0,) * block.rank + (1,) * (4 - block.rank))
    if view.normalize_type == "L2":
        square = block("Mul", x, x, step="square")
        norm = block("Sqrt", shifted(block, reduce(block, "ReduceSum", square, [1], step="sum"), 1e-6, "eps"))
    elif view.normalize_type == "L1":
        size = block("Abs", x, step="size")
        norm = shifted(block, reduce(block, "ReduceSum", size, [1], step="sum"), 1e-6, "eps")
    else:
        raise Refused(f"its normalize_type is '{view.normalize_type}', and L1 and L2 are known")
    y = block("Div", x, norm)
    if len(block.layer.tops) == 1:
        return [y]
    if view.HasField("rescale"):
        return [y, block("Reciprocal", norm)]
    if view.HasField("fix_gradient") or view.HasField("bp_norm"):
        return [y, norm]
    raise Refused(
        "its second top is the norm in newer Caffes of NormFace, where it may say bp_norm, and 1/norm in older ones"
    )


def _sum_of_squares(block: Block, axes: list[int]) -> str:
    square = block("Mul", block.bottom, block.bottom, step="square")
    return reduce(block, "ReduceSum", square, axes, step="sum")


def channel_norm(block: Block) -> str:
    """`sqrt(sum of x^2 over channels)`, one channel: ReduceSum, Sqrt."""
    return block("Sqrt", _sum_of_squares(block, [1]))


def grn(block: Block) -> str:
    """`x / sqrt(sum of x^2 over channels + bias)`: ReduceSum, Sqrt, Div."""
    root = block("Sqrt", shifted(block, _sum_of_squares(block, [1]), block.layer.param.grn_param.bias, "bias"))
    return block("Div", block.bottom, root)


def lp_normalization(block: Block) -> str:
    """`x / (sum of |x|^p)^(1/p)` over the axes that are named: ReduceSum, Sqrt or Pow, Div; NaN where all x are 0."""
    axes, p = normalized_axes(block.layer, block.rank), block.layer.param.lp_normalization_param.p
    block.fixes_batch("it normalises over the batch", axes)
    if p == 2:
        return block("Div", block.bottom, block("Sqrt", _sum_of_squares(block, axes)))
    x = block("Abs", block.bottom)
    if p == 1:
        return block("Div", block.bottom, reduce(block, "ReduceSum", x, axes))
    total = reduce(block, "ReduceSum", block("Pow", x, block.floats(p, "p"), step="powers"), axes)
    return block("Div", block.bottom, block("Pow", total, block.floats(1 / p, "root"), step="norm"))


def layer_norm(block: Block) -> str:
    """`(x - mean)/sqrt(variance + eps) * scale + shift` over a sample, by parts: LayerNormalization is of opset 17."""
    param = block.layer.param.layer_norm_param
    y = _standardised(block, list(range(1, block.rank)), param.eps)
    if not param.elementwise_affine:
        return y
    y = block("Mul", y, block.learned(0, "scale", block.shape[1:]))
    return block("Add", y, block.learned(1, "shift", block.shape[1:]))


def log_softmax(block: Block) -> str:
    """`x - ln(sum e^x)` along `axis`: LogSoftmax, which flattens before opset 13 unless the axis is the last."""
    axis = block.axis(block.layer.param.log_softmax_param.axis)
    return softmax(block, block.bottom, axis, block.rank, operator="LogSoftmax")


def softmax_layer(block: Block) -> str:
    """`e^x / sum e^x` along `axis`: Softmax."""
    axis = block.axis(block.layer.param.softmax_param.axis)
    return softmax(block, block.bottom, axis, block.rank)


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Axpy": axpy,
    "BroadcastMul": broadcast_mul,
    "BN": batch_norm,
    "BatchNorm": batch_norm,
    "Bias": bias,
    "ChannelNorm": channel_norm,
    "ChannelwiseAffine": eltwise_affine,
    "CuDNNBatchNorm": batch_norm,
    "Dropout": dropout,
    "EltwiseAffine": eltwise_affine,
    "GRN": grn,
    "GradientBlock": each,
    "GradientClip": dropout,
    "GradientReversal": dropout,
    "GradientScaler": dropout,
    "GradientSilent": dropout,
    "LRN": lrn,
    "LayerNorm": layer_norm,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "MVN": mvn,
    "NeedRemove": dropout,
    "Norm": norm,
    "Normalization": normalization,
    "Normalize": normalize,
    "Noise": dropout,
    "OutputDecay": dropout,
    "Scale": scale,
    "SyncBN": batch_norm,
    "Softmax": softmax_layer,
    "SeLuDropout": dropout,
    "SpatialDropout": dropout,
}
