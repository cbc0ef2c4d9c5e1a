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
Pads = list[tuple[int, int]]


def convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Weight (Cout, Cin/group, k...); out = floor((H + pads - (d*(k-1) + 1)) / s) + 1."""
    param = layer.sub("convolution_param")
    if layer.word("type") == "Convolution3D":
        param = with_depth(layer.sub("convolution3d_param") or param)
    group = param.integer("group", 1)
    if layer.word("type") in ("ConvolutionDepthwise", "DepthwiseConv"):
        group = bottoms[0].shape[1]
    axis = param.integer("axis", 1) % bottoms[0].ndim
    tops = []
    for bottom in bottoms:
        batch = bottom.reshape(-1, *bottom.shape[axis:])
        top = convolve(batch, blobs, param, group)
        tops.append(top.reshape(*bottom.shape[:axis], *top.shape[1:]))
    return tops


def nd_convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Video-caffe's, whose sizes are in shapes."""
    param = layer.sub("convolution_param")
    return [convolve(bottom, blobs, of_shapes(param), param.integer("group", 1)) for bottom in bottoms]


def of_shapes(param: Message) -> Message:
    """`kernel_shape { dim: .. }` and its like as a list of sizes."""
    joined = Message(param)
    for name in ("kernel", "stride", "pad"):
        if f"{name}_shape" in param:
            joined["kernel_size" if name == "kernel" else name] = [*param.sub(f"{name}_shape").integers("dim")]
    return joined


def deformable_convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """A convolution that reads tap k of pixel p at p*s - pad + k*d + step(k, p), as deformable_im2col.cu does.

    Inside of [0, H) x [0, W) it is bilinear, with what is beyond the last row or column taken from it; outside 0.
    """
    param, (image, steps) = layer.sub("deformable_convolution_param"), bottoms
    (tall, wide), stride, pads, dilation = window(param, 2)
    groups, group = param.integer("deformable_group", 4), param.integer("group", 1)
    batch, channels, height, width = image.shape
    plane = steps.shape[2:]
    columns = np.zeros((batch, channels, tall, wide, *plane))
    for n, c, i, j, y, x in np.ndindex(*columns.shape):
        first = 2 * ((c // (channels // groups) * tall + i) * wide + j)
        down = y * stride[0] - pads[0][0] + i * dilation[0] + steps[n, first, y, x]
        along = x * stride[1] - pads[1][0] + j * dilation[1] + steps[n, first + 1, y, x]
        if 0 <= down < height and 0 <= along < width:
            above, left = int(down), int(along)
            below, right = min(above + 1, height - 1), min(left + 1, width - 1)
            a, b = down - above, along - left
            upper = image[n, c, above, left] * (1 - b) + image[n, c, above, right] * b
            lower = image[n, c, below, left] * (1 - b) + image[n, c, below, right] * b
            columns[n, c, i, j, y, x] = upper * (1 - a) + lower * a
    weight = blobs[0].reshape(group, -1, channels // group, tall, wide)
    top = np.einsum("gockl,ngcklyx->ngoyx", weight, columns.reshape(batch, group, -1, tall, wide, *plane))
    top = top.reshape(batch, -1, *plane)
    return [top + blobs[1].reshape(-1, 1, 1) if len(blobs) > 1 else top]


def squeeze_convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Synopsys': blobs weight, bias, weight mask, bias mask, and two numbers of training."""
    param = layer.sub("squeeze_convolution_param")
    count = 2 if param.flag("bias_term", True) else 1
    masked = [blob * mask.reshape(blob.shape) for blob, mask in zip(blobs[:count], blobs[count:], strict=False)]
    return [convolve(bottom, masked, param, param.integer("group", 1)) for bottom in bottoms]


def masked(blobs: list[Array]) -> list[Array]:
    """Dynamic Network Surgery's: weight, bias, weight mask, bias mask (compress_conv_layer.cpp)."""
    half = len(blobs) // 2
    return [blob * mask.reshape(blob.shape) for blob, mask in zip(blobs[:half], blobs[half:], strict=True)]


def pruned_convolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return convolution(layer, bottoms, masked(blobs))


def pruned_inner_product(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    return inner_product(layer, bottoms, masked(blobs))


def with_depth(param: Message) -> Message:
    """C3D's fields for the depth, joined with those for the plane into one value per axis."""
    joined = Message(param)
    depths = (("kernel_size", "kernel_depth", None), ("stride", "temporal_stride", 1), ("pad", "temporal_pad", 0))
    for name, depth, default in depths:
        plane = param.integer(name, default or 0)
        joined[name] = [param.integer(depth, plane if default is None else default), plane, plane]
    return joined


def convolve(bottom: Array, blobs: list[Array], param: Message, group: int) -> Array:
    kernel, stride, pads, dilation = window(param, bottom.ndim - 2)
    batch, channels = bottom.shape[:2]
    weight = by_tap(blobs[0].reshape(group, -1, channels // group, *kernel))
    sizes = out_sizes(bottom.shape[2:], kernel, stride, pads, dilation)
    if param.integer("pad_type", 0) == 1:
        pads, sizes = same(bottom.shape[2:], kernel, stride, dilation)
    padded = np.pad(bottom, [(0, 0), (0, 0), *pads])
    top = np.zeros((batch, group, weight.shape[-2], prod(sizes)), bottom.dtype)
    for tap, place in taps(kernel, sizes, stride, dilation):
        columns = padded[place].reshape(batch, group, channels // group, -1)
        factor = weight[tap]
        top += factor @ columns if channels > group else factor * columns
    return with_bias(top.reshape(batch, -1, *sizes), blobs, param)


def deconvolution(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Weight (Cin, Cout/group, k...); out = s*(H-1) + d*(k-1) + 1 - pads."""
    param = layer.sub("convolution_param")
    if layer.word("type") == "Deconvolution3D":
        param = with_depth(layer.sub("convolution3d_param") or param)
    is_depthwise = layer.word("type") == "DepthwiseDeconvolution"
    axis = param.integer("axis", 1) % bottoms[0].ndim
    tops = []
    for bottom in bottoms:
        batch = bottom.reshape(-1, *bottom.shape[axis:])
        top = deconvolve(batch, blobs, param, batch.shape[1] if is_depthwise else param.integer("group", 1))
        tops.append(top.reshape(*bottom.shape[:axis], *top.shape[1:]))
    return tops


def deconvolve(bottom: Array, blobs: list[Array], param: Message, group: int) -> Array:
    kernel, stride, pads, dilation = window(param, bottom.ndim - 2)
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
    inside = tuple(slice(before, n - after) for (before, after), n in zip(pads, full, strict=True))
    return with_bias(top[(slice(None), slice(None), *inside)], blobs, param)


def local(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Each value of the top has a weight (C*k*k) of its own, of (M, 1, C*k*k, pixels), and a bias (local_layer.cpp)."""
    param, (image,) = layer.sub("local_param"), bottoms
    size, stride, pad = (param.integer(name, one) for name, one in (("kernel_size", 0), ("stride", 1), ("pad", 0)))
    padded = np.pad(image, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    rows, columns = ((extent - size) // stride + 1 for extent in padded.shape[2:])
    top = np.zeros((len(image), param.integer("num_output", 0), rows, columns), image.dtype)
    for n, m, i, j in np.ndindex(*top.shape):
        window = padded[n, :, i * stride : i * stride + size, j * stride : j * stride + size]
        top[n, m, i, j] = window.ravel() @ blobs[0].reshape(top.shape[1], -1, rows, columns)[m, :, i, j]
    return [top + blobs[1].reshape(top.shape[1:]) if len(blobs) > 1 else top]


def im2col(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Top (N, C*k..., out...): the channel runs slowest, then the kernel's rows, then its columns."""
    (bottom,) = bottoms
    kernel, stride, pads, dilation = window(layer.sub("convolution_param"), bottom.ndim - 2)
    padded = np.pad(bottom, [(0, 0), (0, 0), *pads])
    sizes = out_sizes(bottom.shape[2:], kernel, stride, pads, dilation)
    columns = [padded[place] for _, place in taps(kernel, sizes, stride, dilation)]
    return [np.stack(columns, axis=2).reshape(bottom.shape[0], -1, *sizes)]


def window(param: Message, axes: int) -> tuple[Axes, Axes, Pads, Axes]:
    """Kernel, stride, pads and dilation, each per spatial axis."""
    pads = [(p, p) for p in per_axis(param, axes, "pad", "pad_h", "pad_w", 0)]
    return (
        per_axis(param, axes, "kernel_size", "kernel_h", "kernel_w", 0),
        per_axis(param, axes, "stride", "stride_h", "stride_w", 1),
        synopsys_pads(param) or pads,
        per_axis(param, axes, "dilation" if param.integers("dilation") else "hole", "hole_h", "hole_w", 1),
    )


def synopsys_pads(param: Message) -> Pads:
    """Four pads, empty where none is above 0."""
    top, bottom, left, right = (param.integer(f"pad_{side}", 0) for side in "tblr")
    return [(top, bottom), (left, right)] if top or bottom or left or right else []


def same(sizes: Axes, kernel: Axes, stride: Axes, dilation: Axes) -> tuple[Pads, Axes]:
    """TensorFlow's SAME: ceil(H/s) windows; the dilation does not count in the padding, half of which is in front."""
    pads, outs = [], []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        out = -(-n // s)
        total = max(k - (s if n % s == 0 else n % s), 0)
        pads.append((total // 2, max((out - 1) * s + d * (k - 1) + 1 - n - total // 2, 0)))
        outs.append(out)
    return pads, tuple(outs)


def per_axis(param: Message, axes: int, name: str, name_h: str, name_w: str, default: int) -> Axes:
    """A value given as `_h` and `_w`, once per axis, or once for all."""
    if name_h in param or name_w in param:
        return param.integer(name_h, default), param.integer(name_w, default)
    values = param.integers(name) or [default]
    if axes == 0:
        return ()
    return tuple(values) if len(values) == axes else (values[0],) * axes


def out_sizes(sizes: Axes, kernel: Axes, stride: Axes, pads: Pads, dilation: Axes) -> Axes:
    return tuple(
        (n + before + after - (d * (k - 1) + 1)) // s + 1
        for n, k, s, (before, after), d in zip(sizes, kernel, stride, pads, dilation, strict=True)
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
    """y = x W^T + b over everything from `axis` on; weight (N, K), or (K, N) with `transpose`.

    Further bottoms are the weight, by whose rows the outputs are counted, and the bias (OpenVINO).
    """
    bottom, blobs = bottoms[0], [*bottoms[1:], *blobs]
    param = layer.sub("inner_product_param")
    axis = param.integer("axis", 1) % bottom.ndim
    flat = bottom.reshape(*bottom.shape[:axis], -1)
    outputs = param.integer("num_output", 0)
    transposed = param.flag("transpose", False)
    outputs = bottoms[1].shape[0] if len(bottoms) > 1 and not transposed else outputs
    weight = blobs[0].reshape(-1, outputs) if transposed else blobs[0].reshape(outputs, -1).T
    if param.flag("normalize", False) and len(bottoms) == 1:
        weight = weight / np.sqrt((weight**2).sum(axis=0) + 1e-6)
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


def lstm_of_crnn(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Sequence by sequence, step by step, from 0: blobs W_x (4D, I), W_h (4D, D), b (4D); gates i, f, o, g."""
    param, (bottom,) = layer.sub("lstm_param"), bottoms
    size = param.integer("num_output", 0)
    flat = bottom.ndim == 2 or "batch_size" in param
    batch = param.integer("batch_size", 1) if flat else bottom.shape[1]
    x = bottom.reshape(bottom.shape[0] // batch if flat else bottom.shape[0], batch, -1)
    top = np.zeros((*x.shape[:2], size), bottom.dtype)
    for n in range(batch):
        h, c = np.zeros((2, size), bottom.dtype)
        for t in range(len(x)):
            i, f, o, g = (blobs[0] @ x[t, n] + blobs[1] @ h + blobs[2]).reshape(4, size)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = top[t, n] = sigmoid(o) * np.tanh(c)
    return [top.reshape(-1, size) if flat else top]


def lstm_unit(layer: Message, bottoms: list[Array], blobs: list[Array]) -> list[Array]:
    """Of c, the gates i, f, o, g and cont: the next c and h (lstm_unit_layer.cpp)."""
    cell, gates, cont = bottoms
    i, f, o, g = np.split(gates, 4, axis=2)
    c = cont[:, :, np.newaxis] * sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return [c, sigmoid(o) * np.tanh(c)]


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
