"""Layers that normalise or scale: BatchNorm in all its dialects, Scale, Bias, LRN, MVN, Normalize, Softmax."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reference.binary import Array
from reference.layers_window import pool
from reference.text import Message


class Statistics(NamedTuple):
    """What a BatchNorm's blobs mean, one value per channel each, and its eps; scale and bias where it has them."""

    mean: Array
    variance: Array
    scale: Array | None
    bias: Array | None
    eps: float


def batch_norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """(x - mean)/sqrt(variance + eps) [*scale + bias]; with `use_global_stats: false` the batch's own statistics.

    They are the batch's, too, where the layer itself is in the phase TRAIN and nothing else is said. Synopsys'
    `add_eps_before_sqrt: false` divides by sqrt(variance) + eps.
    """
    (bottom,) = bottoms
    param = layer.sub("batch_norm_param")
    channels = bottom.shape[1] if bottom.ndim > 1 else 1
    mean, variance, scale, bias, eps = batch_norm_statistics(param, [blob.reshape(-1) for blob in blobs], channels)
    if not param.flag("use_global_stats", layer.word("phase", "TEST") in ("TEST", "1")):
        mean, variance = of_batch(bottom)
    if param.flag("add_eps_before_sqrt", True):
        top = (bottom - column(mean, bottom)) / np.sqrt(column(variance, bottom) + eps)
    else:
        top = (bottom - column(mean, bottom)) / (np.sqrt(column(variance, bottom)) + eps)
    if scale is not None and bias is not None:
        top = top * column(scale, bottom) + column(bias, bottom)
    return [np.maximum(top, 0) if param.flag("relu", False) else top]


def batch_norm_statistics(param: Message, blobs: list[Array], channels: int) -> Statistics:
    """Which blob is which.

    3 blobs:                  mean, variance, factor           BVLC: both are divided by factor, 0 where that is 0
    5 blobs, the third (1):   mean, variance, factor, scale, bias    NVCaffe 0.17, Intel; a zero factor counts as 1,
                              and eps as 1e-5 at least
    4 or 5 blobs otherwise:   scale, bias, mean, variance [, unused]       NVCaffe 0.15, Vitis, Jacinto
    """
    eps = param.number("eps", 1e-5)
    if len(blobs) == 3:
        factor = blobs[2].item()
        k = 0.0 if factor == 0 else 1 / factor
        if param.flag("scale_bias", False):
            raise ValueError("scale_bias needs five blobs, not three")
        return Statistics(k * blobs[0], k * blobs[1], None, None, eps)
    scale_bias_last = param.flag("scale_bias", False) or (blobs[2].size == 1 and channels > 1)
    if len(blobs) == 5 and scale_bias_last:
        k = 1 / (blobs[2].item() or 1.0)
        return Statistics(k * blobs[0], k * blobs[1], blobs[3], blobs[4], max(eps, 1e-5))
    return Statistics(blobs[2], blobs[3], blobs[0], blobs[1], eps)


def sync_bn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """(x - mean)/sqrt(variance + eps)*slope + bias (sync_bn_layer.cu of yjxiong's Caffe, which has no CPU form)."""
    (bottom,) = bottoms
    slope, bias, mean, variance = (column(blob.reshape(-1), bottom) for blob in blobs)
    return [(bottom - mean) / np.sqrt(variance + layer.sub("bn_param").number("eps", 1e-5)) * slope + bias]


def bn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """PSPNet, ducha-aiki (4 blobs: slope, bias, mean, variance), or SegNet (2: scale, shift, statistics or none).

    The four-blob layers differ in eps: 1e-5, or `var_eps`, 1e-10. Where no field tells, PSPNet's caffemodel has four
    `param {}` for the layer; this oracle sees no caffemodel here, and takes the text's word (see `is_psp`).
    """
    (bottom,) = bottoms
    param = layer.sub("bn_param")
    flat = [column(blob.reshape(-1), bottom) for blob in blobs]
    if len(flat) == 4:
        slope, bias, mean, variance = flat
        if not param.flag("moving_average", True):
            mean, variance = (column(statistic, bottom) for statistic in of_batch(bottom))
        eps = param.number("eps", 1e-5) if is_psp(layer, param) else param.number("var_eps", 1e-10)
        return [(bottom - mean) / np.sqrt(variance + eps) * slope + bias]
    scale, shift = flat
    if param.enum("bn_mode", "LEARN", {0: "LEARN", 1: "INFERENCE"}) == "INFERENCE":
        return [bottom * scale + shift]
    mean, variance = (column(statistic, bottom) for statistic in of_batch(bottom))
    return [(bottom - mean) / (np.sqrt(variance) + 1e-9) * scale + shift]


def is_psp(layer: Message, param: Message) -> bool:
    """Whether a BN of four blobs is PSPNet's; `params_in_file` is set by whoever read the caffemodel."""
    if any(name in param for name in ("scale_filler", "shift_filler", "var_eps", "moving_average", "decay")):
        return False
    return bool(param) or len(layer.get("param", [])) == 4 or layer.integer("params_in_file", 0) == 4


def cudnn_batch_norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """GENet's: scale, bias, mean, variance, eps at least 1e-5; with three blobs it is BVLC's."""
    if len(blobs) == 3:
        return batch_norm(layer, bottoms, blobs)
    (bottom,) = bottoms
    scale, bias, mean, variance = (column(blob.reshape(-1), bottom) for blob in blobs)
    eps = max(layer.sub("cudnn_batch_norm_param").number("eps", 1e-5), 1e-5)
    return [(bottom - mean) / np.sqrt(variance + eps) * scale + bias]


def of_batch(bottom: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel over everything else."""
    axes = tuple(axis for axis in range(bottom.ndim) if axis != 1)
    return bottom.mean(axes), bottom.var(axes)


def column(values: Array, bottom: Array) -> Array:
    """One value per channel, shaped to broadcast over axis 1 of a bottom."""
    return values.reshape(-1, *[1] * (bottom.ndim - 2))


def scale(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """x*scale + bias, where scale is learned or the second bottom and lies along the axes from `axis` on."""
    param = layer.sub("scale_param")
    factor, learned = second_operand(param, bottoms, blobs)
    top = bottoms[0] * factor
    return [top + learned[0].reshape(factor.shape) if param.flag("bias_term", False) else top]


def bias(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """x + bias, where bias is learned or the second bottom."""
    summand, _ = second_operand(layer.sub("bias_param"), bottoms, blobs)
    return [bottoms[0] + summand]


def eltwise_affine(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """ducha-aiki's: slope*x + bias with one of each for every channel, or one for all."""
    slope, bias = (blob.reshape(-1, *[1] * (bottoms[0].ndim - 2)) for blob in blobs)
    return [slope * bottoms[0] + bias]


def second_operand(param: Message, bottoms: list[Array], blobs: list[Array]) -> tuple[Array, list[Array]]:
    """The scale (or bias) shaped to broadcast over the first bottom, and the blobs that are left."""
    shape = bottoms[0].shape
    axis = param.integer("axis", 1) % len(shape)
    if len(bottoms) == 2:
        operand, covered = bottoms[1], bottoms[1].shape
    else:
        axes = param.integer("num_axes", 1)
        operand, blobs = blobs[0], blobs[1:]
        covered = shape[axis:] if axes == -1 else shape[axis : axis + axes]
    after = 0 if not covered else len(shape) - axis - len(covered)
    return operand.reshape((*covered, *[1] * after)), blobs


def lrn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Across channels x/(k + alpha/size * sum x^2)^beta; within one x*(1 + alpha * AVE(x^2))^-beta, k unused."""
    (bottom,) = bottoms
    param = layer.sub("lrn_param")
    size, alpha, beta = param.integer("local_size", 5), param.number("alpha", 1), param.number("beta", 0.75)
    region = param.enum("norm_region", "ACROSS_CHANNELS", {0: "ACROSS_CHANNELS", 1: "WITHIN_CHANNEL"})
    if region == "WITHIN_CHANNEL":
        side = (size, size)
        mean, _ = pool(bottom**2, "AVE", kernel=side, stride=(1, 1), pads=[((size - 1) // 2,) * 2] * 2)
        return [bottom * (1 + alpha * mean) ** -beta]
    reach = (size - 1) // 2
    padded = np.pad(bottom**2, [(0, 0), (reach, size - 1 - reach), *[(0, 0)] * (bottom.ndim - 2)])
    total = sum(padded[:, shift : shift + bottom.shape[1]] for shift in range(size))
    return [bottom / (param.number("k", 1) + alpha / size * total) ** beta]


def mvn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """(x - mean)/(sqrt(variance) + eps) over H, W, or over C, H, W; eps is added to the standard deviation."""
    (bottom,) = bottoms
    param = layer.sub("mvn_param")
    axes = tuple(range(1 if param.flag("across_channels", False) else 2, bottom.ndim))
    centred = bottom - bottom.mean(axes, keepdims=True)
    if not param.flag("normalize_variance", True):
        return [centred]
    if param.flag("add_eps_before_sqrt", False):
        return [centred / np.sqrt((centred**2).mean(axes, keepdims=True) + param.number("eps", 1e-9))]
    deviation = np.sqrt((centred**2).mean(axes, keepdims=True))
    return [centred / (deviation + param.number("eps", 1e-9))]


def normalize(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """x / sqrt(sum x^2 + eps) * scale over channels, or over C, H, W; scale per channel, or one for all.

    NormFace's, told by its parameters, has neither scale nor eps: each pixel is divided by its L2 or L1 norm.
    """
    (bottom,) = bottoms
    if "normalize_param" in layer:
        return normalize_pixels(layer, bottom)
    param = layer.sub("norm_param")
    axes = (1, 2, 3) if param.flag("across_spatial", True) else (1,)
    total, eps = (bottom**2).sum(axes, keepdims=True), param.number("eps", 1e-10)
    norm = np.sqrt(total + eps)
    if param.flag("across_spatial", True) and not param.flag("add_eps_before_sqrt", True):
        norm = np.sqrt(total) + eps
    return [bottom / norm * column(blobs[0].reshape(-1), bottom)]


def normalization(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Sample by sample, each divided by its length."""
    return [np.stack([sample / np.linalg.norm(sample) for sample in bottoms[0]])]


def norm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """norm_layer.cpp's loops over pixels, of which an (N, C) has one; its top is (num, channels, height, width)."""
    return [np.stack([sample / (np.linalg.norm(sample) + 1e-6) for sample in bottoms[0]])[:, :, None, None]]


def normalize_pixels(layer: Message, bottom: Array) -> list[Array]:
    """NormFace's forward loops: num, channels, height and width are what Blob says of absent axes, 1."""
    param = layer.sub("normalize_param")
    image = bottom.reshape(*bottom.shape, *[1] * (4 - bottom.ndim))
    norm = np.zeros((image.shape[0], 1, *image.shape[2:]))
    for channel in np.split(image, image.shape[1], axis=1):
        norm += np.abs(channel) if param.word("normalize_type", "L2") == "L1" else channel**2
    norm += 1e-6
    if param.word("normalize_type", "L2") == "L2":
        norm = np.sqrt(norm)
    beside = [1 / norm if "rescale" in param else norm] if len(layer["top"]) > 1 else []
    return [image / norm, *beside]


def softmax(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    (bottom,) = bottoms
    axis = layer.sub("softmax_param").integer("axis", 1)
    powers = np.exp(bottom - bottom.max(axis, keepdims=True))
    return [powers / powers.sum(axis, keepdims=True)]
