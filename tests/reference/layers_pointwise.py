"""Layers that treat every element alike: activations, powers, and sums or products of whole blobs."""

from __future__ import annotations

from functools import reduce

import numpy as np

from reference.binary import Array
from reference.text import Message


def absval(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.abs(bottoms[0])]


def atan(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.arctan(bottoms[0])]


def axpy(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """a*x + y with a (N, C) or (N, C, 1, 1)."""
    a, x, y = bottoms
    return [a.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * x + y]


def ceil(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.ceil(bottoms[0])]


def floor(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.floor(bottoms[0])]


def rounded(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """To the nearest integer, halves to the even one (C's rint)."""
    return [np.rint(bottoms[0])]


def sine(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.sin(bottoms[0])]


def softsign(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [bottoms[0] / (1 + np.abs(bottoms[0]))]


def broadcast_mul(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """The larger bottom, each channel times its number of the smaller."""
    large, small = sorted(bottoms, key=lambda bottom: -bottom.size)
    return [large * small.reshape(*large.shape[:2], *[1] * (large.ndim - 2))]


def signed_sqrt(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """sqrt(x) from 0 on, -sqrt(-x) below."""
    x = bottoms[0]
    return [np.where(x >= 0, 1, -1) * np.sqrt(np.where(x >= 0, x, -x))]


def scaled_tanh(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("scaled_tanh_param")
    return [param.number("alpha", np.nan) * np.tanh(param.number("beta", np.nan) * bottoms[0])]


def thresholded_relu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    alpha = layer.sub("thresholded_relu_param").number("alpha", 1)
    return [np.where(bottoms[0] > alpha, bottoms[0], 0)]


def bnll(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """log(1 + e^x), written so that e^x cannot overflow."""
    return [np.maximum(bottoms[0], 0) + np.log1p(np.exp(-np.abs(bottoms[0])))]


def clip(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("clip_param")
    return [np.minimum(np.maximum(bottoms[0], param.number("min", 0)), param.number("max", 0))]


def dropout(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Nothing at TEST; a fork whose training does not scale (`scale_train: false`) scales here."""
    param = layer.sub("dropout_param")
    if param.flag("scale_train", True):
        return [bottoms[0].copy()]
    return [bottoms[0] * (1 - param.number("dropout_ratio", 0.5))]


def eltwise(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """PROD, SUM with one coefficient per bottom, MAX, MIN or DIV; Synopsys' second bottom may lie along `axis`."""
    param = layer.sub("eltwise_param")
    operation = param.enum("operation", "SUM", {0: "PROD", 1: "SUM", 2: "MAX", 3: "DIV", 4: "MIN"})
    if len(bottoms) > 1 and bottoms[1].ndim < bottoms[0].ndim:
        behind = bottoms[0].ndim - param.integer("axis", 0) % bottoms[0].ndim - bottoms[1].ndim
        bottoms[1] = bottoms[1].reshape(*bottoms[1].shape, *[1] * behind)
    if operation == "DIV":
        return [bottoms[0] / bottoms[1]]
    if operation == "MIN":
        return [reduce(np.minimum, bottoms)]
    if operation == "PROD":
        return [reduce(np.multiply, bottoms)]
    if operation == "MAX":
        return [reduce(np.maximum, bottoms)]
    coefficients = param.numbers("coeff") or [1.0] * len(bottoms)
    return [reduce(np.add, [c * bottom for c, bottom in zip(coefficients, bottoms, strict=True)])]


def elu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    alpha = layer.sub("elu_param").number("alpha", 1)
    return [np.maximum(bottoms[0], 0) + alpha * np.expm1(np.minimum(bottoms[0], 0))]


def exp(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """base^(scale*x + shift), where base -1 means e."""
    param = layer.sub("exp_param")
    base = param.number("base", -1)
    exponent = param.number("scale", 1) * bottoms[0] + param.number("shift", 0)
    return [np.exp(exponent if base == -1 else exponent * float(np.log(base)))]


def log(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """log_base(scale*x + shift), where base -1 means e."""
    param = layer.sub("log_param")
    base = param.number("base", -1)
    natural = np.log(param.number("scale", 1) * bottoms[0] + param.number("shift", 0))
    return [natural if base == -1 else natural / float(np.log(base))]


def power(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """(scale*x + shift)^power; power 0 gives 1 everywhere."""
    param = layer.sub("power_param")
    return [(param.number("scale", 1) * bottoms[0] + param.number("shift", 0)) ** param.number("power", 1)]


def prelu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """max(x, 0) + slope*min(x, 0), with one slope per channel, or one for all."""
    (bottom,) = bottoms
    slope = blobs[0].reshape(-1, *[1] * (bottom.ndim - 2))
    return [np.maximum(bottom, 0) + slope * np.minimum(bottom, 0)]


def apl(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """max(x, 0) + sum of a*max(b - x, 0): value k of a sample has the a and b at k*sums to (k + 1)*sums in memory."""
    bottom, sums = bottoms[0], layer.sub("apl_param").integer("sums", 0)
    slopes, offsets = (blob.reshape(-1) for blob in blobs)
    top = np.maximum(bottom, 0).reshape(len(bottom), -1)
    for sample, values in enumerate(bottom.reshape(len(bottom), -1)):
        for k, x in enumerate(values):
            for s in range(k * sums, (k + 1) * sums):
                top[sample, k] += slopes[s] * max(offsets[s] - x, 0)
    return [top.reshape(bottom.shape)]


def relu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """max(x, 0) + slope*min(x, 0); Synopsys' bounds follow: 6, a maximum above 0, a minimum that is not 0.

    The first number of a second bottom is in the place of the maximum that is said.
    """
    param = layer.sub("relu_param")
    top = np.maximum(bottoms[0], 0) + param.number("negative_slope", 0) * np.minimum(bottoms[0], 0)
    if param.flag("relu6", False):
        top = np.minimum(top, 6)
    maximum = bottoms[1].flat[0] if len(bottoms) > 1 else param.number("maximum", 0)
    if maximum > 0:
        top = np.minimum(top, maximum)
    if param.number("minimum", 0) != 0:
        top = np.maximum(top, param.number("minimum", 0))
    return [top]


def relu6(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    param = layer.sub("relu6_param")
    slope, threshold = param.number("negative_slope", 0), param.number("threshold", 6)
    return [np.minimum(np.maximum(bottoms[0], 0) + slope * np.minimum(bottoms[0], 0), threshold)]


def selu(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """lambda*x above zero, lambda*alpha*(e^x - 1) below it, with the constants of Klambauer et al. 2017."""
    param = layer.sub("selu_param")
    alpha, scale = param.number("alpha", 1.6732632423543772), param.number("lambda", 1.0507009873554805)
    return [scale * (np.maximum(bottoms[0], 0) + alpha * np.expm1(np.minimum(bottoms[0], 0)))]


def sigmoid(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [1 / (1 + np.exp(-bottoms[0]))]


def swish(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """x*sigmoid(beta*x)."""
    beta = layer.sub("swish_param").number("beta", 1)
    return [bottoms[0] / (1 + np.exp(-beta * bottoms[0]))]


def tanh(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return [np.tanh(bottoms[0])]


def threshold(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """1 above the threshold, 0 at it and below."""
    limit = layer.sub("threshold_param").number("threshold", 0)
    return [(bottoms[0] > limit).astype(bottoms[0].dtype)]
