"""Which layers are a per-channel affine `y = scale*x + shift` at inference, and which one.

    BatchNorm   scale = gamma/sqrt(variance + eps)    shift = beta - mean*scale     (gamma 1, beta 0 where it has none)
    Scale       scale = blobs[0]                      shift = blobs[1] or 0
    Bias        scale = 1                             shift = blobs[0]
    Power       scale = scale                         shift = shift                 (power 1)
    Dropout     scale = 1, or 1 - ratio in the forks that scale at TEST

EltwiseAffine is ducha-aiki's word for a Scale with a bias; SeLuDropout and SpatialDropout do nothing at TEST.

mean and variance are already divided by the factor (`bnfold.caffe.batchnorm`). `AFFINES` is the table; a layer whose
type is in it but which is no affine as it stands is `Blocked`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.records import Blocked
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import ZeroFactor, read_batchnorm
from bnfold.caffe.layers import UNKNOWN, Bias, Dropout, Power, Scale, canonical_axis
from bnfold.errors import ModelError, UnsupportedError
from bnfold.net import Array, Layer, Shape

MOST_CHANNELS = 1 << 20
"""A text says sizes that no file stands behind, and each channel of an affine takes memory."""


@dataclass(slots=True)
class Reading:
    """How the user wants doubtful layers to be read, and what reading them showed.

    Attributes:
        assume_global_stats: take a BatchNorm that follows its batch as if it used its stored statistics.
        layout: the BatchNorm layout to read by, None to recognise it.
        zero_factor: what scale_factor 0 beside statistics means, None to refuse.
        notes: filled with sentences for the user.
    """

    assume_global_stats: bool = False
    layout: str | None = None
    zero_factor: ZeroFactor | None = None
    notes: list[str] = field(default_factory=list)


def recognise(layer: Layer, bottom: Shape | None, reading: Reading) -> Affine | None:
    """The affine that a layer computes along axis 1 of its first bottom.

    Args:
        layer: any layer.
        bottom: shape of its first bottom, None when unknown.
        reading: how to read doubtful layers.

    Returns:
        None when the type is not one of `AFFINES`, or the layer is no affine (it takes its factor from a second
        bottom, it has a power).

    Raises:
        Blocked: the type is an affine's, but this layer is none along the channels.
        ModelError: its statistics make no sense.
    """
    read = AFFINES.get(layer.type)
    if read is None or len(layer.bottoms) != 1 or len(layer.tops) != 1:
        return None
    if layer.opaque:
        raise Blocked(layer.opaque)
    if bottom is None:
        raise Blocked(f"the shape of '{layer.bottoms[0]}' is unknown")
    if len(bottom) < 2:
        raise Blocked(f"'{layer.bottoms[0]}' has no channel axis, its shape is {bottom}")
    if bottom[1] == UNKNOWN:
        raise Blocked(f"how many channels '{layer.bottoms[0]}' has is unknown")
    if bottom[1] > MOST_CHANNELS:
        raise Blocked(f"'{layer.bottoms[0]}' has {bottom[1]:,} channels, more than any trained network")
    with np.errstate(all="ignore"):
        affine = read(layer, bottom, reading)
    if affine is not None and not affine.is_finite:
        raise Blocked("its scale or shift is not finite")
    return affine


def batch_norm(layer: Layer, bottom: Shape, reading: Reading) -> Affine:
    """`y = gamma*(x - mean)/sqrt(variance + eps) + beta`."""
    try:
        statistics = read_batchnorm(layer, reading.layout, reading.zero_factor)
    except UnsupportedError as error:
        raise Blocked(str(error).removeprefix(f"{layer}: ")) from error
    if statistics.channels != bottom[1]:
        raise ModelError(
            f"{layer}: its statistics are of {statistics.channels} channels, and its bottom has {bottom[1]}"
        )
    if statistics.relu:
        raise Blocked("a ReLU is fused into it")
    if statistics.batch_statistics and statistics.layout == "ducha":
        raise Blocked("moving_average is false, so its statistics follow each batch")
    if statistics.batch_statistics and statistics.layout == "segnet":
        raise Blocked("bn_mode is LEARN, so its statistics follow each batch and none are stored")
    if statistics.batch_statistics:
        if not reading.assume_global_stats:
            raise Blocked(
                "use_global_stats is false, so its statistics follow each batch; "
                "fold it with --assume-global-stats if the stored ones are meant"
            )
        reading.notes.append(f"{layer}: taken as use_global_stats: true, as --assume-global-stats asks")
    if statistics.factor == 0 and statistics.layout == "bvlc":
        reading.notes.append(f"{layer}: its scale_factor is 0, so it was never trained")
    scale = 1.0 / np.sqrt(statistics.variance + statistics.eps)
    if statistics.gamma is not None:
        scale = statistics.gamma * scale
    shift = -statistics.mean * scale
    if statistics.beta is not None:
        shift = shift + statistics.beta
    return Affine.of(scale, shift, bottom[1])


def bias(layer: Layer, bottom: Shape, _: Reading) -> Affine:
    """`y = x + bias`."""
    view = Bias.of(layer)
    return Affine.of(1.0, along_channels(layer, 0, view.axis, bottom), bottom[1])


def dropout(layer: Layer, bottom: Shape, _: Reading) -> Affine:
    """`y = x`, or `(1 - ratio)*x` where `scale_train: false` moves the scaling to TEST."""
    view = Dropout.of(layer)
    return Affine.of(view.test_scale, 0.0, bottom[1])


def eltwise_affine(layer: Layer, bottom: Shape, _: Reading) -> Affine:
    """`y = slope*x + bias`."""
    slope, bias = (along_channels(layer, index, 1, bottom) for index in range(2))
    return Affine.of(slope, bias, bottom[1])


def power(layer: Layer, bottom: Shape, _: Reading) -> Affine | None:
    """`y = scale*x + shift` when the power is 1; with another power it is no affine."""
    view = Power.of(layer)
    if view.power != 1.0:
        return None
    return Affine.of(view.scale, view.shift, bottom[1])


def scale(layer: Layer, bottom: Shape, _: Reading) -> Affine:
    """`y = gamma*x + beta`."""
    view = Scale.of(layer)
    gamma = along_channels(layer, 0, view.axis, bottom)
    beta = along_channels(layer, 1, view.axis, bottom) if len(layer.blobs) > 1 else 0.0
    return Affine.of(gamma, beta, bottom[1])


def along_channels(layer: Layer, index: int, axis: int, bottom: Shape) -> Array:
    """The values of a learned blob per channel, shape (C,) or (1,), when it differs along the channels only.

    Args:
        layer: whose blob it is.
        index: which of its blobs; it covers the axes of the bottom from `axis` on.
        axis: the first axis that it covers.
        bottom: shape of what it is applied to.

    Raises:
        Blocked: the values differ along another axis, or there are none.
    """
    if index >= len(layer.blobs):
        raise Blocked("it has no learned values")
    learned = layer.blobs[index]
    if learned.size == 1:
        return learned.reshape(1).astype(np.float64)
    start = canonical_axis(axis, len(bottom))
    if start == 1 and learned.ndim == 1:
        return learned.astype(np.float64)
    shape = (1,) * start + learned.shape + (1,) * (len(bottom) - start - learned.ndim)
    values = np.moveaxis(learned.reshape(shape), 1, 0).reshape(shape[1], -1)
    if not np.array_equal(values, np.broadcast_to(values[:, :1], values.shape), equal_nan=True):
        raise Blocked("its learned values differ along an axis that is not the channel axis")
    return values[:, 0].astype(np.float64)


Read = Callable[[Layer, Shape, Reading], Affine | None]

AFFINES: Mapping[str, Read] = {
    **dict.fromkeys(BATCHNORMS, batch_norm),
    "Bias": bias,
    "Dropout": dropout,
    "EltwiseAffine": eltwise_affine,
    "Power": power,
    "Scale": scale,
    "SeLuDropout": dropout,
    "SpatialDropout": dropout,
}
