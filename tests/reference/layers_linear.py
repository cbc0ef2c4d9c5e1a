"""Layers that are linear in their weights: convolutions, inner products, and the recurrent layers made of them.

A convolution is written as a sum over the taps t of its kernel, one matrix product per tap:

    Convolution     y[o] = sum_t W[:, :, t] @ x[s*o + d*t - p]
    Deconvolution   y[s*i + d*t - p] += W[:, :, t].T @ x[i]        (its transpose)
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from reference.binary import Array
from reference.text import Message

Axes = tuple[int, ...]


def convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Weight (Cout, Cin/group, k...); out = floor((H + 2p - (d*(k-1) + 1)) / s) + 1."""
    param = layer.sub("convolution_param")
    group = param.integer("group", 1)
    if layer.word("type") == "ConvolutionDepthwise":
        group = bottoms[0].shape[1]
    return [convolve(bottom, blobs, param, group) for bottom in bottoms]


def convolve(bottom: Array, blobs: list[Array], param: Message, group: int) -> Array:
    kernel, stride, pad, dilation = window(param, bottom.ndim - 2)
    batch, channels = bottom.shape[:2]
    weight = by_tap(blobs[0].reshape(group, -1, channels // group, *kernel))
    padded = np.pad(bottom, [(0, 0), (0, 0), *((p, p) for p in pad)])
    sizes = out_sizes(bottom.shape[2:], kernel, stride, pad, dilation)
    top = np.zeros((batch, group, weight.shape[-2], prod(sizes)), bottom.dtype)
    for tap, place in taps(kernel, sizes, stride, dilation):
        columns = padded[place].reshape(batch, group, channels // group, -1)
        factor = weight[tap]
        top += factor @ columns if channels > group else factor * columns
    return with_bias(top.reshape(batch, -1, *sizes), blobs, param)


def deconvolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Weight (Cin, Cout/group, k...); out = s*(H-1) + d*(k-1) + 1 - 2p."""
    param = layer.sub("convolution_param")
    is_depthwise = layer.word("type") == "DepthwiseDeconvolution"
    groups = [bottom.shape[1] if is_depthwise else param.integer("group", 1) for bottom in bottoms]
    return [deconvolve(bottom, blobs, param, group) for bottom, group in zip(bottoms, groups, strict=True)]


def deconvolve(bottom: Array, blobs: list[Array], param: Message, group: int) -> Array:
    kernel, stride, pad, dilation = window(param, bottom.ndim - 2)
    batch, channels = bottom.shape[:2]
    sizes = bottom.shape[2:]
    weight = by_tap(blobs[0].reshape(group, channels // group, -1, *kernel))
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)]
    top = np.zeros((batch, group * weight.shape[-1], *full), bottom.dtype)
    columns = bottom.reshape(batch, group, channels // group, -1)
    for tap, place in taps(kernel, sizes, stride, dilation):
        factor = weight[tap].swapaxes(1, 2)
        share = factor @ columns if channels > group else factor * columns
        top[place] += share.reshape(batch, -1, *sizes)
    inside = tuple(slice(p, n - p) for p, n in zip(pad, full, strict=True))
    return with_bias(top[(slice(None), slice(None), *inside)], blobs, param)


def im2col(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Top (N, C*k..., out...): the channel runs slowest, then the kernel's rows, then its columns."""
    (bottom,) = bottoms
    kernel, stride, pad, dilation = window(layer.sub("convolution_param"), bottom.ndim - 2)
    padded = np.pad(bottom, [(0, 0), (0, 0), *((p, p) for p in pad)])
    sizes = out_sizes(bottom.shape[2:], kernel, stride, pad, dilation)
    columns = [padded[place] for _, place in taps(kernel, sizes, stride, dilation)]
    return [np.stack(columns, axis=2).reshape(bottom.shape[0], -1, *sizes)]


def window(param: Message, axes: int) -> tuple[Axes, Axes, Axes, Axes]:
    """Kernel, stride, pad and dilation, each per spatial axis."""
    if param.integer("axis", 1) != 1:
        raise ValueError("only channels on axis 1 are supported")
    return (
        per_axis(param, axes, "kernel_size", "kernel_h", "kernel_w", 0),
        per_axis(param, axes, "stride", "stride_h", "stride_w", 1),
        per_axis(param, axes, "pad", "pad_h", "pad_w", 0),
        per_axis(param, axes, "dilation", "", "", 1),
    )


def per_axis(param: Message, axes: int, name: str, name_h: str, name_w: str, default: int) -> Axes:
    """A value given as `_h` and `_w`, once per axis, or once for all."""
    if name_h in param or name_w in param:
        return param.integer(name_h, default), param.integer(name_w, default)
    values = param.integers(name) or [default]
    return tuple(values) if len(values) == axes else (values[0],) * axes


def out_sizes(sizes: Axes, kernel: Axes, stride: Axes, pad: Axes, dilation: Axes) -> Axes:
    return tuple(
        (n + 2 * p - (d * (k - 1) + 1)) // s + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
    )


def taps(kernel: Axes, sizes: Axes, stride: Axes, dilation: Axes) -> Iterator[tuple[Axes, tuple[slice, ...]]]:
    """Each tap of a kernel, and where it lies on a padded (N, C, ...) image at all `sizes` positions."""
    for tap in np.ndindex(*kernel):
        places = (
            slice(t * d, t * d + s * (n - 1) + 1, s) for t, n, s, d in zip(tap, sizes, stride, dilation, strict=True)
        )
        yield tap, (slice(None), slice(None), *places)


def by_tap(weight: Array) -> Array:
    """A weight (group, a, b, k...) as (k..., group, a, b): one stack of matrices per tap."""
    return np.moveaxis(weight, (0, 1, 2), (-3, -2, -1))


def with_bias(top: Array, blobs: list[Array], param: Message) -> Array:
    """Add the bias to axis 1."""
    if not param.flag("bias_term", True):
        return top
    bias: Array = blobs[1].reshape(-1, *[1] * (top.ndim - 2))
    return top + bias


def inner_product(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """y = x W^T + b over everything from `axis` on; weight (N, K), or (K, N) with `transpose`."""
    (bottom,) = bottoms
    param = layer.sub("inner_product_param")
    axis = param.integer("axis", 1) % bottom.ndim
    flat = bottom.reshape(*bottom.shape[:axis], -1)
    outputs = param.integer("num_output", 0)
    transposed = param.flag("transpose", False)
    weight = blobs[0].reshape(-1, outputs) if transposed else blobs[0].reshape(outputs, -1).T
    top = flat @ weight
    return [top + blobs[1].reshape(-1) if param.flag("bias_term", True) else top]


def embed(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Each index picks a row of the weight (input_dim, num_output)."""
    param = layer.sub("embed_param")
    weight = blobs[0].reshape(param.integer("input_dim", 0), param.integer("num_output", 0))
    top = weight[bottoms[0].astype(np.int64)]
    return [top + blobs[1].reshape(-1) if param.flag("bias_term", True) else top]


def lstm(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Blobs W_x (4D, I), b (4D), [W_static (4D, S)], W_h (4D, D); gates in order i, f, o, g:

    c' = cont*sigmoid(f)*c + sigmoid(i)*tanh(g),  h' = sigmoid(o)*tanh(c'),  and the gates read cont*h.
    """
    param = layer.sub("recurrent_param")
    size, exposed = param.integer("num_output", 0), param.flag("expose_hidden", False)
    steps, batch = bottoms[0].shape[:2]
    gates = recurrent_input(bottoms, blobs, exposed, hidden=2)
    weight = blobs[-1]
    h, c = np.zeros((2, batch, size), bottoms[0].dtype)
    if exposed:
        h, c = (bottom.reshape(batch, size) for bottom in bottoms[-2:])
    tops = []
    for t in range(steps):
        cont = bottoms[1][t].reshape(batch, 1)
        i, f, o, g = np.split(gates[t] + (cont * h) @ weight.T, 4, axis=1)
        c = cont * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        tops.append(h)
    return [np.stack(tops), *([h[np.newaxis], c[np.newaxis]] if exposed else [])]


def rnn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Blobs W_x, b_h, [W_static], W_h, W_o, b_o: h' = tanh(W_x x + b_h + W_h (cont*h)), top = tanh(W_o h' + b_o)."""
    param = layer.sub("recurrent_param")
    size, exposed = param.integer("num_output", 0), param.flag("expose_hidden", False)
    steps, batch = bottoms[0].shape[:2]
    driven = recurrent_input(bottoms, blobs, exposed, hidden=1)
    weight_h, weight_o, bias_o = blobs[-3:]
    h = bottoms[-1].reshape(batch, size) if exposed else np.zeros((batch, size), bottoms[0].dtype)
    tops = []
    for t in range(steps):
        cont = bottoms[1][t].reshape(batch, 1)
        h = np.tanh(driven[t] + (cont * h) @ weight_h.T)
        tops.append(np.tanh(h @ weight_o.T + bias_o.reshape(-1)))
    return [np.stack(tops), *([h[np.newaxis]] if exposed else [])]


def recurrent_input(bottoms: list[Array], blobs: list[Array], exposed: bool, hidden: int) -> Array:
    """(T, N, ...): what x, the bias, and the static third bottom where there is one give to each step."""
    x = bottoms[0].reshape(*bottoms[0].shape[:2], -1)
    driven = x @ blobs[0].reshape(-1, x.shape[2]).T + blobs[1].reshape(-1)
    if len(bottoms) - (hidden if exposed else 0) == 3:
        static = bottoms[2].reshape(x.shape[1], -1)
        driven = driven + static @ blobs[2].reshape(-1, static.shape[1]).T
    result: Array = driven
    return result


def sigmoid(x: Array) -> Array:
    top: Array = 1 / (1 + np.exp(-x))
    return top
