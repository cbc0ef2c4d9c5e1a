"""The layers that scale and shift, as affines.

BatchNorm   scale = gamma/sqrt(variance + eps)    shift = beta - mean*scale     (gamma 1, beta 0 where it has none)
Scale       scale = blobs[0]                      shift = blobs[1] or 0
Bias        scale = 1                             shift = blobs[0]
Power       scale = scale                         shift = shift                 (power 1)
Eltwise     scale = coeff                         shift = 0                     (SUM of one bottom)
Dropout     scale = 1, or 1 - ratio in the forks that scale at TEST
"""

from __future__ import annotations

import numpy as np

from bnfold.algebra import reasons
from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Alias, Opaque, Operator
from bnfold.algebra.records import Blocked, require
from bnfold.caffe.batchnorm import read_batchnorm, trains
from bnfold.caffe.layers import UNKNOWN, Eltwise, dropout_scale
from bnfold.caffe.limits import MAX_CHANNELS
from bnfold.caffe.operators.context import LayerContext
from bnfold.errors import ModelError, UnsupportedError
from bnfold.net import Array, Layer, Shape


def batch_norm(context: LayerContext) -> Affine:
    """`y = gamma*(x - mean)/sqrt(variance + eps) + beta` (batch_norm_layer.cpp)."""
    layer, fold = context.layer, context.fold
    bottom = context.shape(layer.bottoms[0])
    _require_channels(layer, bottom)
    require(len(layer.blobs) > 0, "it has no learned values")
    try:
        statistics = read_batchnorm(layer, fold.net.batchnorm_layout, fold.net.zero_factor)
    except UnsupportedError as error:
        raise Blocked(str(error).removeprefix(f"{layer}: ")) from error
    if bottom is not None and bottom[1] not in (statistics.channels, UNKNOWN):
        raise ModelError(
            f"{layer}: its statistics are of {statistics.channels} channels, and its bottom has {bottom[1]}"
        )
    require(not statistics.relu, "a ReLU is fused into it")
    _require_few(layer, statistics.channels)
    if statistics.batch_statistics:
        learns = statistics.layout == "segnet"
        require(statistics.layout != "ducha", "moving_average is false, so its statistics follow each batch")
        require(not learns, "bn_mode is LEARN, so its statistics follow each batch and none are stored")
        require(
            fold.assumes(layer),
            f"{_why(layer)}, so its statistics follow each batch; "
            "fold it with --assume-global-stats if the stored ones are meant",
        )
        fold.assumed.append(layer)
        statistics = read_batchnorm(layer, fold.net.batchnorm_layout, fold.net.zero_factor, stored=True)
    if statistics.factor == 0 and statistics.layout == "bvlc":
        fold.notes.append(f"{layer}: its scale_factor is 0, {_of_zero_factor(context)}")
    return Affine.along(1, *statistics.affine())


def _why(layer: Layer) -> str:
    is_set = layer.param.batch_norm_param.HasField("use_global_stats")
    return "use_global_stats is false" if is_set else "its phase is TRAIN"


def _of_zero_factor(context: LayerContext) -> str:
    if not any(np.count_nonzero(blob) for blob in context.layer.blobs[:2]):
        return "so it was never trained"
    chosen = context.fold.net.zero_factor
    counts = "as they stand" if chosen == "one" else "as 0, as in Caffe"
    return f"and its mean and variance count {counts}, as --zero-scale-factor {chosen} says"


def bias(context: LayerContext) -> Affine:
    """`y = x + bias` (bias_layer.cpp)."""
    return Affine(shift=learned(context, 0, context.layer.param.bias_param.axis))


def dropout(context: LayerContext) -> Operator:
    """`y = x`, or `(1 - ratio)*x` where `scale_train: false` moves the scaling to TEST (dropout_layer.cpp)."""
    require(not trains(context.layer.param), "its phase is TRAIN, so it drops at random")
    return _times(dropout_scale(context.layer))


def eltwise(context: LayerContext) -> Operator:
    """`y = coeff*x`, a sum of one bottom, which FlowNet2's Caffe allows (eltwise_layer.cpp)."""
    view = Eltwise.of(context.layer, 1)
    if view.operation != "SUM":
        return Opaque()
    (scale,) = view.coeff
    require(scale != 0.0, "its coefficient is 0")
    return _times(scale)


def _times(scale: float) -> Operator:
    """`y = scale*x`, which is x itself for 1."""
    return Alias() if scale == 1.0 else Affine(scale)


def eltwise_affine(context: LayerContext) -> Affine:
    """`y = slope*x + bias` (ducha-aiki's Caffe; channelwise_affine_layer.cpp)."""
    return Affine(learned(context, 0, 1), learned(context, 1, 1))


def power(context: LayerContext) -> Operator:
    """`y = scale*x + shift` when the power is 1; with another power, or scale 0, it is no affine (power_layer.cpp)."""
    view = context.layer.param.power_param
    if view.power != 1.0:
        return Opaque(reasons.NOT_LINEAR)
    require(view.scale != 0.0, "its scale is 0, so it gives its shift whatever it reads, even what is not a number")
    return Affine(view.scale, view.shift)


def scale(context: LayerContext) -> Affine:
    """`y = gamma*x + beta` (scale_layer.cpp)."""
    layer, axis = context.layer, context.layer.param.scale_param.axis
    return Affine(learned(context, 0, axis), learned(context, 1, axis) if len(layer.blobs) > 1 else 0.0)


def arithmetic(context: LayerContext) -> Affine:
    """`x + y`, `x - y`, `x*y` or `x/y`, where y was learned and does not enlarge x (Synopsys' Caffe)."""
    layer = context.layer
    require(len(layer.blobs) == 1, "it has no learned operand")
    rank, learned_shape = len(context.bottom), layer.blobs.shapes[0]
    require(context.tops[0] == context.bottom, "it enlarges its bottom")
    _require_few(layer, max(learned_shape, default=1))
    values = layer.blobs[0].astype(np.float64).reshape((1,) * (rank - len(learned_shape)) + learned_shape)
    if layer.type in ("Add", "Sub"):
        return Affine(shift=values if layer.type == "Add" else -values)
    return Affine(values if layer.type == "Mul" else 1.0 / values)


def split(_: LayerContext) -> Alias:
    """Every top is the bottom (split_layer.cpp, gradient_reversal_layer.cpp, output_decay_layer.cpp)."""
    return Alias()


def each(context: LayerContext) -> Alias:
    """Each top is the bottom of the same index (gradient_block_layer.cpp)."""
    require(len(context.layer.bottoms) == 1, "it copies several blobs")
    return Alias()


def learned(context: LayerContext, index: int, axis: int) -> Array:
    """A learned blob as it lies over the bottom from `axis` on, with size 1 where nothing varies.

    Raises:
        Blocked: there is none, or where it lies depends on a shape that is unknown.
    """
    layer = context.layer
    if index >= len(layer.blobs):
        raise Blocked("it has no learned values")
    values = layer.blobs[index]
    if values.size == 1:
        return values.reshape(()).astype(np.float64)
    shape = context.shape(layer.bottoms[0])
    start = context.axis(axis)
    _require_channels(layer, shape)
    _require_few(layer, max(values.shape))
    laid = values.reshape((1,) * start + values.shape)
    for along in range(start, laid.ndim) if values.ndim > 1 else ():
        first = laid.take([0], along)
        if np.array_equal(laid, np.broadcast_to(first, laid.shape), equal_nan=True):
            laid = first
    return laid.astype(np.float64)


def _require_channels(layer: Layer, bottom: Shape | None) -> None:
    if bottom is not None and len(bottom) < 2:
        raise Blocked(f"'{layer.bottoms[0]}' has no channel axis, its shape is {bottom}")


def _require_few(layer: Layer, channels: int) -> None:
    if channels > MAX_CHANNELS:
        raise Blocked(f"'{layer.bottoms[0]}' has {channels:,} channels, more than any trained network")
