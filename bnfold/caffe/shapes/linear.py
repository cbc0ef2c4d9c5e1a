"""Shapes of the layers that multiply by learned weights, and of those that scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bnfold.caffe.params import (
    UNKNOWN,
    Bias,
    Convolution,
    Embed,
    InnerProduct,
    Parameter,
    Recurrent,
    Scale,
    canonical_axis,
    sizes,
)
from bnfold.caffe.shapes.rules import count, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


def axpy(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`a*x + y` with a of (N, C) or (N, C, 1, 1)."""
    factor, first, second = bottoms
    top = merged(layer, first, second)
    merged(layer, factor[:2], top[:2])
    if any(size not in (1, UNKNOWN) for size in factor[2:]):
        raise ModelError(f"{layer}: its first bottom has shape {sizes(factor)}, but must be one number per channel")
    return [top]


def bias(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The first bottom's."""
    view = Bias.of(layer)
    _span(layer, view.axis, view.num_axes, bottoms)
    return [bottoms[0]]


def convolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each bottom makes a top: (..., num_output, spatial...)."""
    return [_convolved(layer, bottom) for bottom in bottoms]


def _convolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.convolved(bottom[axis + 1 :])
    if any(size < 1 and size != UNKNOWN for size in top):
        raise ModelError(
            f"{layer}: kernel {sizes(view.kernel)} spans {sizes(view.extent)}, "
            f"which does not fit a plane of {sizes(bottom[axis + 1 :])} with pad {sizes(view.pad)}"
        )
    return (*bottom[:axis], view.num_output, *top)


def convolution_view(layer: Layer, bottom: Shape) -> tuple[int, Convolution]:
    """The channel axis and the parameters, which must fit the bottom's channels.

    Raises:
        ModelError: they do not.
    """
    axis = canonical_axis(layer.param.convolution_param.axis, len(bottom), layer)
    view = Convolution.of(layer, len(bottom) - axis - 1)
    channels = bottom[axis]
    if (channels != UNKNOWN and channels % view.group) or view.num_output % view.group:
        raise ModelError(
            f"{layer}: group {view.group} does not divide {sizes((channels,))} input and "
            f"{view.num_output} output channels"
        )
    return axis, view


def deconvolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each bottom makes a top: (..., num_output, spatial...)."""
    return [_deconvolved(layer, bottom) for bottom in bottoms]


def _deconvolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.deconvolved(bottom[axis + 1 :])
    if any(size < 1 and size != UNKNOWN for size in top):
        raise ModelError(f"{layer}: pad {sizes(view.pad)} leaves nothing of a plane of {sizes(bottom[axis + 1 :])}")
    return (*bottom[:axis], view.num_output, *top)


def embed(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One more axis of num_output."""
    return [(*bottoms[0], Embed.of(layer).num_output)]


def im2col(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A convolution's windows laid out along the channel axis."""
    return [_columns(layer, bottom) for bottom in bottoms]


def _columns(layer: Layer, bottom: Shape) -> Shape:
    axis = canonical_axis(layer.param.convolution_param.axis, len(bottom), layer)
    view = Convolution.of(layer, len(bottom) - axis - 1)
    channels = bottom[axis] if bottom[axis] == UNKNOWN else bottom[axis] * prod(view.kernel)
    return (*bottom[:axis], channels, *view.convolved(bottom[axis + 1 :]))


def inner_product(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes in front of `axis`, then num_output; a second bottom is the weight."""
    view = InnerProduct.of(layer)
    axis = canonical_axis(view.axis, len(bottoms[0]), layer)
    needed = [count(bottoms[0][axis:]) * view.num_output, *map(count, bottoms[1:])]
    if min(needed) > 0 and len(set(needed)) > 1:
        raise ModelError(f"{layer}: its weight, the second bottom, has {needed[1]} values, and {needed[0]} are needed")
    return [(*bottoms[0][:axis], view.num_output)]


def parameter(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """The shape that it says."""
    return [Parameter.of(layer).shape]


def recurrent(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(T, N, D), then (1, N, D) for each exposed state."""
    view = Recurrent.of(layer)
    if len(bottoms) != len(layer.bottoms):
        raise ModelError(f"{layer}: {len(bottoms)} shapes for {len(layer.bottoms)} bottoms")
    if len(bottoms[1]) != 2:
        raise ModelError(f"{layer}: its second bottom has shape {sizes(bottoms[1])}, but must be (T, N)")
    time, batch = merged(layer, bottoms[0][:2], bottoms[1])
    exposed = view.states if view.expose_hidden else 0
    return [(time, batch, view.num_output), *[(1, batch, view.num_output)] * exposed]


def scale(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The first bottom's."""
    view = Scale.of(layer)
    _span(layer, view.axis, view.num_axes, bottoms)
    return [bottoms[0]]


def _span(layer: Layer, axis: int, num_axes: int, bottoms: Sequence[Shape]) -> Shape:
    """The part of the first bottom's shape that the factors lie along.

    Raises:
        ModelError: they reach beyond it, or a second bottom has another shape.
    """
    bottom = bottoms[0]
    if len(bottoms) == 2:
        if not bottoms[1]:
            return ()
        first = canonical_axis(axis, len(bottom), layer)
        part = bottom[first : first + len(bottoms[1])]
        if len(part) < len(bottoms[1]):
            raise ModelError(
                f"{layer}: {sizes(bottoms[1])} from axis {first} on reaches beyond a bottom of {sizes(bottom)}"
            )
        return merged(layer, part, bottoms[1])
    if num_axes == 0:
        return ()
    first = canonical_axis(axis, len(bottom), layer)
    if num_axes == -1:
        return bottom[first:]
    if num_axes < -1 or first + num_axes > len(bottom):
        raise ModelError(f"{layer}: axis {axis} and num_axes {num_axes} reach beyond a bottom of {sizes(bottom)}")
    return bottom[first : first + num_axes]


# Shapes of the learned blobs. None is "as stored".


def batch_norm_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Mean, variance and factor where there are three; the other dialects tell themselves apart by their shapes."""
    if len(layer.blobs) not in (0, 3) or (not layer.blobs and _has_own_scale(layer)):
        return None
    channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
    return [(channels,), (channels,), (1,)]


def _has_own_scale(layer: Layer) -> bool:
    param = layer.param.batch_norm_param
    fields = ("scale_bias", "scale_filler", "bias_filler", "use_weight_bias", "bias_term")
    return any(param.HasField(name) for name in fields)


def bn_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Four of (1, C, 1, 1) in PSPNet, two in SegNet."""
    if len(layer.blobs) not in (2, 4) or len(bottoms[0]) < 2:
        return None
    return [(1, bottoms[0][1], 1, 1)] * len(layer.blobs)


def bias_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Nothing with two bottoms."""
    view = Bias.of(layer)
    part = _span(layer, view.axis, view.num_axes, bottoms)
    return [] if len(bottoms) == 2 else [part]


def convolution_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (Cout, Cin/group, kernel...), bias (Cout)."""
    axis, view = convolution_view(layer, bottoms[0])
    weight = (view.num_output, bottoms[0][axis] // view.group, *view.kernel)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


def deconvolution_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (Cin, Cout/group, kernel...), bias (Cout)."""
    axis, view = convolution_view(layer, bottoms[0])
    weight = (bottoms[0][axis], view.num_output // view.group, *view.kernel)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


def embed_blobs(layer: Layer, _: Sequence[Shape]) -> list[Shape] | None:
    """Weight (input_dim, N), bias (N)."""
    view = Embed.of(layer)
    return [(view.input_dim, view.num_output), (view.num_output,)][: 2 if view.bias else 1]


def inner_product_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (N, K) or, transposed, (K, N), bias (N); as stored where the weight is a bottom."""
    if len(bottoms) > 1:
        return None
    view = InnerProduct.of(layer)
    flat = count(bottoms[0][canonical_axis(view.axis, len(bottoms[0]), layer) :])
    weight = (flat, view.num_output) if view.transpose else (view.num_output, flat)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


def eltwise_affine_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Slope and bias, one for each channel; where one for all channels is stored, that."""
    shared = len(layer.blobs) > 0 and count(layer.blobs.shapes[0]) == 1
    return [() if shared else (bottoms[0][1],)] * 2


def normalize_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """One factor for all channels, or one for each."""
    return [() if layer.param.norm_param.channel_shared else (bottoms[0][1],)]


def parameter_blobs(layer: Layer, _: Sequence[Shape]) -> list[Shape] | None:
    """What it gives is what it learned."""
    return [Parameter.of(layer).shape]


def prelu_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """One slope for all channels, or one for each."""
    return [() if layer.param.prelu_param.channel_shared else (bottoms[0][1],)]


def recurrent_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """In the order of Caffe's unrolled net: W_x, b, [W_static,] W_h; the RNN's output W_o, b_o follow."""
    view = Recurrent.of(layer)
    rows, hidden = view.gates * view.num_output, view.num_output
    shapes: list[Shape] = [(rows, count(bottoms[0][2:])), (rows,)]
    if view.static is not None:
        shapes.append((rows, count(bottoms[view.static][1:])))
    shapes.append((rows, hidden))
    return shapes if layer.type == "LSTM" else [*shapes, (hidden, hidden), (hidden,)]


def scale_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Factors unless they are a bottom, then the bias, of one shape."""
    view = Scale.of(layer)
    part = _span(layer, view.axis, view.num_axes, bottoms)
    return [part] * ((len(bottoms) == 1) + view.bias)
