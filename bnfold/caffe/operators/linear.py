"""The layers that absorb, each with how its weight is seen so that outputs and inputs are axes.

Convolution     see `bnfold.algebra.operators.sliding`, and for Deconvolution
InnerProduct    [N, C, ...], or [C, ..., N] with `transpose`
Local           [Cout, Cin, kernel, rows, columns], of the top
Embed           [inputs, N]
LSTM, RNN       [gates*D, C, ...], of what is read at each step
"""

from __future__ import annotations

from math import prod

from bnfold.algebra import reasons
from bnfold.algebra.operators import Constant, Linear, Opaque, Port, Window, sliding
from bnfold.algebra.records import Blocked, require
from bnfold.algebra.scaled import exact_values
from bnfold.caffe.layers import UNKNOWN, Convolution, InnerProduct
from bnfold.caffe.layers.convolution import Local
from bnfold.caffe.operators.context import LayerContext
from bnfold.net import Array, Layer

SEVERAL = "it works on several blobs with one weight"


def convolution(context: LayerContext) -> Linear | Opaque:
    """(Cout, Cin/group, *kernel) (base_conv_layer.cpp, forward_cpu_gemm)."""
    layer, view, axis = _convolution(context)
    window = Window(view.stride, view.dilation, tuple(zip(view.before, view.after, strict=True)), view.group)
    no_shift = reasons.BORDER if view.padded else ""
    linear = _sliding(layer, view, axis, False)
    return _of_each(layer, linear._replace(no_shift=no_shift, window=window if axis == 1 else None))


def deformable_convolution(context: LayerContext) -> Linear:
    """(Cout, Cin/group, *kernel), over pixels at places that the second bottom says (deformable_conv_layer.cpp)."""
    layer = context.layer
    require(len(layer.blobs) > 0, "it has no learned weight")
    return _sliding(layer, Convolution.of(layer, 2), 1, False)._replace(no_shift=reasons.OUTSIDE)


def deconvolution(context: LayerContext) -> Linear | Opaque:
    """(Cin, Cout/group, *kernel) (deconv_layer.cpp). But for 1x1, pixels of the top sum different numbers of terms."""
    layer, view, axis = _convolution(context)
    pointwise = all(k == 1 for k in (*layer.blobs.shapes[0][2:], *view.stride)) and not view.padded
    return _of_each(layer, _sliding(layer, view, axis, True)._replace(no_shift="" if pointwise else reasons.UNEVEN))


def _sliding(layer: Layer, view: Convolution, axis: int, transposed: bool) -> Linear:
    """Along the axis of the channels; all in front of it is the batch (base_conv_layer.cpp, Reshape)."""
    linear = sliding(layer.blobs.stored[0], _bias(layer, axis), view.group, transposed, axis)
    return linear._replace(no_backward="a ReLU is fused into it" if view.relu is not None else "")


def _of_each(layer: Layer, linear: Linear) -> Linear | Opaque:
    """A convolution, or of several blobs what it is to each of them, since none lets anything pass alone."""
    return linear if len(layer.bottoms) == 1 else Opaque(SEVERAL, linear)


def _convolution(context: LayerContext) -> tuple[Layer, Convolution, int]:
    layer = _learning(context)
    weight = layer.blobs.shapes[0]
    bottom, *others = map(context.shape, layer.bottoms)
    require(all(other == bottom for other in others), SEVERAL)
    if bottom is None and layer.type == "ConvolutionDepthwise":
        raise Blocked(f"the shape of '{layer.bottoms[0]}' is unknown")
    view = Convolution.of(layer, len(weight) - 2, bottom)
    return layer, view, context.axis(view.axis)


def local(context: LayerContext) -> Linear:
    """(Cout, 1, Cin*k*k, pixels of the top), and a bias for each value of the top (local_layer.cpp)."""
    layer = _with_weight(context)
    view, top = Local.of(layer), context.shape(layer.tops[0])
    require(view is not None and top is not None and UNKNOWN not in top[2:], "its size is unknown")
    assert view is not None
    assert top is not None
    channels = layer.blobs.shapes[0][2] // view.kernel**2
    biased = len(layer.blobs) > 1
    return Linear(
        weight=layer.blobs.stored[0],
        bias=exact_values(layer.blobs.stored[1]).reshape(1, *top[1:]) if biased else None,
        view=(view.num_output, channels, view.kernel**2, *top[2:]),
        outputs=(Port(1, (0,)), Port(2, (3,)), Port(3, (4,))),
        inputs=(Port(1, (1,)),),
        summed=(1, 2),
        no_shift=reasons.BORDER if view.pad else "",
        no_bias="" if biased else "it has no bias, which would be one for each pixel",
    )


def inner_product(context: LayerContext) -> Linear:
    """(N, K) with K the sizes from `axis` on, or (K, N) with `transpose` (inner_product_layer.cpp)."""
    layer = _with_weight(context)
    view = InnerProduct.of(layer)
    bottom = context.shape(layer.bottoms[0])
    axis = context.axis(view.axis)
    flattened = () if bottom is None else bottom[axis:]
    no_forward = ""
    if bottom is None or UNKNOWN in flattened:
        no_forward = "it flattens a size that is unknown"
        flattened = (prod(layer.blobs.shapes[0]) // view.num_output,)
    first = 0 if view.transpose else 1
    inputs = tuple(range(first, first + len(flattened)))
    return Linear(
        weight=layer.blobs.stored[0],
        bias=_bias(layer, axis),
        view=(*flattened, view.num_output) if view.transpose else (view.num_output, *flattened),
        outputs=(Port(axis, (len(flattened) if view.transpose else 0,)),),
        inputs=tuple(Port(axis + index, (seen,)) for index, seen in enumerate(inputs)),
        summed=inputs,
        no_forward=no_forward,
        no_backward="a ReLU is fused into it" if view.relu is not None else "",
    )


def embed(context: LayerContext) -> Linear:
    """(inputs, N): a row for each index (embed_layer.cpp)."""
    layer = _with_weight(context)
    axis = len(context.bottom)
    outputs = (Port(axis, (1,)),)
    return Linear(
        layer.blobs.stored[0], _bias(layer, axis), layer.blobs.shapes[0], outputs, no_forward="it reads indices"
    )


def recurrent(context: LayerContext) -> Linear:
    """W_x x_t + b, with W_x (gates*D, C, ...), is all that they do with x (lstm_layer.cpp, rnn_layer.cpp).

    The state and a static input have weights of their own, and `cont` has none.
    """
    layer = context.layer
    require(len(layer.blobs) > 1, "it has no learned weight")
    rows, sample = layer.blobs.shapes[0][0], context.bottom[2:]
    require(UNKNOWN not in sample, "it flattens a size that is unknown")
    inputs = tuple(range(1, 1 + len(sample)))
    return Linear(
        weight=layer.blobs.stored[0],
        bias=_bias(layer, 2),
        view=(rows, *sample),
        outputs=(Port(2, (0,)),),
        inputs=tuple(Port(2 + index, (seen,)) for index, seen in enumerate(inputs)),
        summed=inputs,
        no_backward=reasons.GATED,
    )


def normalize(context: LayerContext) -> Linear:
    """`x/norm(x)` times a learned scale, which takes a factor (normalize_layer.cpp)."""
    layer = _with_weight(context)
    shared = layer.param.norm_param.channel_shared
    return Linear(
        weight=layer.blobs.stored[0],
        bias=None,
        view=(prod(layer.blobs.shapes[0]),),
        outputs=() if shared else (Port(1, (0,)),),
        no_bias="it adds no bias",
        no_forward="it divides by a norm",
    )


def layer_norm(context: LayerContext) -> Linear:
    """What is normalised times a scale plus a shift, learned for every element of a sample (Synopsys' Caffe)."""
    layer = _with_weight(context)
    require(len(layer.blobs) == 2, "it has no learned scale and shift")
    shape = tuple(layer.blobs.shapes[0])
    return Linear(
        weight=layer.blobs.stored[0],
        bias=exact_values(layer.blobs.stored[1]).reshape(1, *shape),
        view=shape,
        outputs=tuple(Port(1 + axis, (axis,)) for axis in range(len(shape))),
        no_forward="it normalises",
    )


def parameter(context: LayerContext) -> Constant:
    """What it learned is its top (parameter_layer.hpp)."""
    require(len(context.layer.blobs) > 0, "it has no learned value")
    return Constant(context.layer.blobs.stored[0])


def _with_weight(context: LayerContext) -> Layer:
    layer = _learning(context)
    require(len(layer.bottoms) == len(layer.tops) == 1, SEVERAL)
    return layer


def _learning(context: LayerContext) -> Layer:
    require(len(context.layer.blobs) > 0, "it has no learned weight")
    return context.layer


def _bias(layer: Layer, axis: int) -> Array | None:
    """The bias as it lies over the top, whose outputs are along `axis`; None where there is none."""
    if len(layer.blobs) < 2:
        return None
    return exact_values(layer.blobs.stored[1]).reshape(*[1] * axis, -1)
