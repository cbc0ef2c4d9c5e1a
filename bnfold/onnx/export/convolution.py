"""Layers that multiply by learned weights: convolutions of every kind, InnerProduct, Embed, Parameter.

Formulas: base_conv_layer.cpp, inner_product_layer.cpp, embed_layer.cpp and parameter_layer.hpp of BVLC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfold.caffe.layers import Convolution, InnerProduct, parameter_shape
from bnfold.caffe.layers.convolution import Local, convolution_view
from bnfold.net import Shape
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.flow import bilinear
from bnfold.onnx.export.forms import cut, rectified, reduce, reshape, split, window

ND_UNSURE = "its Caffe may leave axes of size 1 out"


def convolution(block: Block) -> list[str]:
    """`y = w (*) x + b` with weight (Cout, Cin/group, k...): Conv; further bottoms go through the same weights."""
    return [_windowed(block, index, "Conv") for index in range(len(block.bottoms))]


def nd_convolution(block: Block) -> list[str]:
    """`y = w (*) x + b`, where no axis of the top has size 1, which its Caffe may leave out: Conv."""
    block.require_known_top(ND_UNSURE)
    return convolution(block)


def deconvolution(block: Block) -> list[str]:
    """The transpose of a convolution with weight (Cin, Cout/group, k...): ConvTranspose, whose layout is the same."""
    return [_windowed(block, index, "ConvTranspose") for index in range(len(block.bottoms))]


def _windowed(block: Block, index: int, operator: str) -> str:
    shape = block.shapes[index]
    axis, view = convolution_view(block.layer, shape)
    channels, flat = shape[axis], not view.kernel
    if flat:
        # Without spatial axes it is a matrix; ONNX's convolutions need an axis, and one of size 1 changes nothing.
        view = view._replace(kernel=(1,), stride=(1,), before=(0,), after=(0,), dilation=(1,))
    weight_shape: Shape
    if operator == "Conv":
        weight_shape = (view.num_output, channels // view.group, *view.kernel)
    else:
        weight_shape = (channels, view.num_output // view.group, *view.kernel)
    weights = [block.learned(0, "weight", weight_shape)]
    if view.bias:
        weights.append(block.learned(1, "bias", (view.num_output,)))
    x = block.bottoms[index]
    if axis != 1 or flat:
        # Caffe takes everything in front of the channel axis as the batch.
        x = reshape(block, x, (-1, *shape[axis:], *(1,) * flat), "batch")
    y = _multiplied(block, operator, x, weights, view, channels)
    if axis != 1 or flat:
        block.fixes_batch("its channels are the batch", [axis])
        if axis > 1:
            block.fixes_batch("its axes in front of the channels are written out")
        top = block.tops[index]
        y = reshape(block, y, (-1, *top[1:]) if axis == 1 else top, "unbatch")
    return y if view.relu is None else rectified(block, y, view.relu)


def _multiplied(block: Block, operator: str, x: str, weights: list[str], view: Convolution, channels: int) -> str:
    """The operator itself, `weights` being weight and perhaps bias."""
    sliding = _sliding(view)
    if not (block.is_double and operator == "ConvTranspose" and view.group > 1):
        return block(operator, x, *weights, group=view.group, **sliding)
    # onnx's evaluator cannot run grouped ConvTranspose.
    parts = zip(
        split(block, x, [channels // view.group] * view.group, 1, "groups"),
        split(block, weights[0], [channels // view.group] * view.group, 0, "group_weights"),
        strict=True,
    )
    y = block("Concat", *[block(operator, part, weight, **sliding) for part, weight in parts], axis=1)
    if not view.bias:
        return y
    return block("Add", y, reshape(block, weights[1], (-1,) + (1,) * len(view.kernel), "bias"))


def _sliding(view: Convolution) -> dict[str, Any]:
    return window(view.kernel, view.stride, view.before, view.after, dilations=list(view.dilation))


def deformable_convolution(block: Block) -> str:
    """`w (*) x` with each tap moved by the second bottom: the taps by FlowWarp's bilinear, then Conv of 1x1.

    Not DeformConv: it weighs what is outside of the image as 0, where Caffe's last row and column go on for a pixel.
    """
    view, group = Convolution.of(block.layer, 2), block.layer.param.deformable_convolution_param.deformable_group
    _, channels, height, width = block.images()
    plane, taps = block.tops[0][2:], math.prod(view.kernel)
    block.affords(2 * taps * math.prod(plane))
    steps = reshape(block, block.bottoms[1], (-1, taps, 2, *plane), "steps")
    places = []
    for axis, name in enumerate("yx"):
        first = np.arange(plane[axis]) * view.stride[axis] - view.before[axis]
        grid = np.arange(view.kernel[axis])[:, None] * view.dilation[axis] + first
        grid = grid[:, None, :, None] if axis == 0 else grid[None, :, None, :]
        moved = cut(block, steps, [2], [axis], [axis + 1], step=f"{name}_steps")
        moved = reshape(block, moved, (-1, *view.kernel, *plane), f"{name}_taps")
        place = block("Add", moved, block.floats(grid[None], f"{name}_grid"), step=f"{name}_place")
        places.append(reshape(block, place, (-1, 1, taps * math.prod(plane)), f"{name}_flat"))
    flat = reshape(block, block.bottom, (-1, channels // group, height * width), "image")
    columns = bilinear(block, flat, channels // group, (places[0], places[1]), (height, width), 0.0)
    columns = reshape(block, columns, (-1, channels * taps, *plane), "columns")
    weight = block.learned(0, "weight", (view.num_output, channels // view.group, *view.kernel))
    weights = [reshape(block, weight, (view.num_output, -1, 1, 1), "flat_weight")]
    if view.bias:
        weights.append(block.learned(1, "bias", (view.num_output,)))
    return block("Conv", columns, *weights, group=view.group)


def embed(block: Block) -> str:
    """`y[..., :] = weight[x] + b`: Gather of rows by the bottom cast to integers."""
    param = block.layer.param.embed_param
    indices = block.as_integer(block.bottom)
    y = block("Gather", block.learned(0, "weight", (param.input_dim, param.num_output)), indices, axis=0)
    return block("Add", y, block.learned(1, "bias", (param.num_output,))) if param.bias_term else y


def im2col(block: Block) -> str:
    """Each window of k x k pixels becomes C*k*k channels, channel `(c*kh + i)*kw + j`: Conv with one-hot kernels."""
    axis = block.axis(block.layer.param.convolution_param.axis)
    if axis != 1:
        raise Refused(f"its channel axis is {axis} and not 1")
    view = Convolution.of(block.layer, block.rank - 2, block.shape)
    if not view.kernel:
        raise Refused("it has no spatial axes, and ONNX's convolutions need one")
    return _unfolded(block, view.kernel, **_sliding(view))


def _unfolded(block: Block, kernel: Shape, **attributes: Any) -> str:
    """Each window as channels, those of one channel together: Conv with one-hot kernels."""
    channels, taps = block.shape[1], math.prod(kernel)
    block.affords(taps * taps * channels)
    kernels = np.tile(np.eye(taps).reshape(taps, 1, *kernel), (channels,) + (1,) * (1 + len(kernel)))
    return block("Conv", block.bottom, block.floats(kernels, "pick"), group=channels, **attributes)


def local(block: Block) -> str:
    """`sum of w[pixel]*x + b[pixel]` over the windows that Im2col lays out: Conv, Mul, ReduceSum, Add."""
    view = Local.of(block.layer)
    if view is None:
        raise Refused("it has no `local_param`")
    top = block.tops[0]
    values, pixels = block.shape[1] * view.kernel**2, math.prod(top[2:])
    x = _unfolded(block, (view.kernel, view.kernel), **view.window(), step="windows")
    x = reshape(block, x, (-1, 1, values, pixels), "pixels")
    weight = block.learned(0, "weight", (view.num_output, values, pixels))
    y = reduce(block, "ReduceSum", block("Mul", x, weight, step="products"), [2], keep=False, step="sum")
    y = reshape(block, y, (-1, *top[1:]), "plane")
    return block("Add", y, block.learned(1, "bias", top[1:]), step="biased") if view.bias else y


def inner_product(block: Block) -> str:
    """`y = x w' + b` over all axes from `axis` on: Flatten, Gemm, and the axes in front put back.

    With two bottoms the second is the weight, and only the bias is learned; with three the third is the bias.
    """
    view = InnerProduct.of(block.layer, block.shapes)
    axis = block.axis(view.axis)
    block.fixes_batch("its weights lie along the batch", [axis])
    size = math.prod(block.shape[axis:])
    x = block.bottom
    if (block.rank, axis) != (2, 1):
        x = block("Flatten", x, axis=axis)
    shape = (size, view.num_output) if view.transpose else (view.num_output, size)
    if len(block.bottoms) == 1:
        weights = [block.learned(0, "weight", shape)]
    elif block.shapes[1] == shape:
        weights = [block.bottoms[1]]
    else:
        weights = [reshape(block, block.bottoms[1], shape, "weight")]
    if len(block.bottoms) > 2:
        weights.append(reshape(block, block.bottoms[2], (view.num_output,), "bias"))
    elif view.bias:
        weights.append(block.learned(2 - len(block.bottoms), "bias", (view.num_output,)))
    y = block("Gemm", x, *weights, transB=int(not view.transpose))
    if axis != 1:
        known = -1 in block.shape[1:axis] and not block.batched
        leading = (block.shape[0] if known else -1, *block.shape[1:axis]) if axis else ()
        y = reshape(block, y, (*leading, view.num_output), "axes")
    return y if view.relu is None else rectified(block, y, view.relu)


def parameter(block: Block) -> str:
    """The learned blob itself: Identity."""
    return block("Identity", block.learned(0, "value", parameter_shape(block.layer)))


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Convolution": convolution,
    "Convolution3D": convolution,
    "ConvolutionDepthwise": convolution,
    "Deconvolution": deconvolution,
    "Deconvolution3D": deconvolution,
    "DeformableConvolution": deformable_convolution,
    "DepthwiseConv": convolution,
    "DepthwiseConvolution": convolution,
    "DepthwiseDeconvolution": deconvolution,
    "Embed": embed,
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Local": local,
    "NdConvolution": nd_convolution,
    "Parameter": parameter,
}
