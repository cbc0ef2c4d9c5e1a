"""The layers that take an affine into their weights, and how each weight changes.

With W the weight, b the bias, s and h the affine's scale and shift, o an output and i an input channel:

    backward, A(L(x)):   W'[o, i] = s[o]*W[o, i]        b'[o] = s[o]*b[o] + h[o]
    forward,  L(A(x)):   W'[o, i] = W[o, i]*s[i]        b'[o] = b[o] + sum over i and the kernel of W[o, i]*h[i]

The layouts differ, and each is written once below as the view in which o and i are axes of their own:

    Convolution     [group, Cout/group, Cin/group, kernel]
    Deconvolution   [group, Cin/group, Cout/group, kernel]     not [Cout, ...]: most merge scripts get this wrong
    InnerProduct    [N, C, spatial], or [C, spatial, N] with `transpose`
    Embed           [inputs, N]

Nothing here looks at the graph; a row that cannot take the affine raises `Blocked`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Affine, Vector
from bnfold.algebra.commute import Place, require
from bnfold.algebra.records import Blocked
from bnfold.algebra.scaled import Rounded, Scaled, exact_values, scaled, stays_finite
from bnfold.caffe.layers import UNKNOWN, Convolution, InnerProduct, canonical_axis
from bnfold.net import Array, Blobs, Layer, LazyArray, Shape

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter


SUMMED_AT_ONCE = 1 << 20


class Change(NamedTuple):
    """What becomes of a layer that absorbs: new learned blobs and, where a bias was added, new parameters."""

    blobs: Blobs
    param: LayerParameter


class Linear(NamedTuple):
    """The weight of a linear layer, seen so that outputs and inputs are axes.

    Attributes:
        view: shape of the weight in which a channel vector broadcasts.
        outputs: shape that a vector over the output channels takes in that view.
        inputs: shape that a vector over the input channels takes in that view.
        summed: the axes that a sum over inputs and kernel runs over.
    """

    view: Shape
    outputs: Shape
    inputs: Shape
    summed: tuple[int, ...]


# How each layer type sees its weight. The last argument is the number of channels that come in, 0 where it is unknown.


def convolution(place: Place) -> Linear:
    """(Cout, Cin/group, *kernel)."""
    weight = place.layer.blobs.shapes[0]
    view = Convolution.of(place.layer, len(weight) - 2)
    _require_plain(view)
    group, kernel = view.group, weight[2:]
    ones = (1,) * len(kernel)
    return Linear(
        view=(group, weight[0] // group, weight[1], *kernel),
        outputs=(group, weight[0] // group, 1, *ones),
        inputs=(group, 1, weight[1], *ones),
        summed=tuple(range(2, 3 + len(kernel))),
    )


def deconvolution(place: Place) -> Linear:
    """(Cin, Cout/group, *kernel)."""
    weight = place.layer.blobs.shapes[0]
    view = Convolution.of(place.layer, len(weight) - 2)
    _require_plain(view)
    group, kernel = view.group, weight[2:]
    ones = (1,) * len(kernel)
    return Linear(
        view=(group, weight[0] // group, weight[1], *kernel),
        outputs=(group, 1, weight[1], *ones),
        inputs=(group, weight[0] // group, 1, *ones),
        summed=(1, *range(3, 3 + len(kernel))),
    )


def _require_plain(view: Convolution) -> None:
    require(view.axis == 1, f"its channel axis is {view.axis}")
    require(view.relu is None, "a ReLU is fused into it")


def inner_product(place: Place) -> Linear:
    """(N, K) with K = C*spatial, or (K, N) with `transpose`."""
    view = InnerProduct.of(place.layer)
    require(view.relu is None, "a ReLU is fused into it")
    rank = len(place.bottoms[0])
    axis = canonical_axis(view.axis, rank)
    require(axis == 1, f"it works from axis {axis} on, so its channels are not the affine's")
    require(UNKNOWN not in place.bottoms[0][1:], "it flattens a size that is unknown")
    channels = place.bottoms[0][1] if rank > 1 else 1
    spatial = int(np.prod(place.bottoms[0][2:]))
    if view.transpose:
        return Linear((channels, spatial, view.num_output), (1, 1, -1), (-1, 1, 1), (0, 1))
    return Linear((view.num_output, channels, spatial), (-1, 1, 1), (1, -1, 1), (1, 2))


def embed(place: Place) -> Linear:
    """(inputs, N): a row for each index."""
    require(len(place.bottoms[0]) == 1, "its channels are not the affine's")
    return Linear(place.layer.blobs.shapes[0], (1, -1), (0, 0), ())


# Taking an affine.


def absorb_backward(place: Place, affine: Affine) -> Change:
    """`A(L(x))` as one layer.

    Raises:
        Blocked: the layer is not linear along the affine's channels, or a new weight would not be finite.
    """
    layer = place.layer
    linear = _linear(place)
    weight = scaled(layer.blobs.stored[0], linear.view, _shaped(affine.scale, linear.outputs))
    bias = affine.shift
    if len(layer.blobs) > 1:
        bias = affine.scale * exact_values(layer.blobs.stored[1]).reshape(-1) + affine.shift
    return _changed(layer, weight, bias, needs_bias=len(layer.blobs) > 1 or not affine.keeps_zero)


def absorb_forward(place: Place, affine: Affine) -> Change:
    """`L(A(x))` as one layer.

    Raises:
        Blocked: likewise, or a shift would meet a padding.
    """
    layer = place.layer
    require(layer.type in FORWARD, f"{layer.type} takes no affine from in front")
    FORWARD[layer.type](place, affine)
    linear = _linear(place)
    gain = _weighted_sum(layer.blobs.stored[0], linear, affine.shift) if not affine.keeps_zero else 0.0
    weight = scaled(layer.blobs.stored[0], linear.view, _shaped(affine.scale, linear.inputs))
    bias = gain + (exact_values(layer.blobs.stored[1]).reshape(-1) if len(layer.blobs) > 1 else 0.0)
    return _changed(layer, weight, bias, needs_bias=len(layer.blobs) > 1 or not affine.keeps_zero)


def _linear(place: Place) -> Linear:
    layer = place.layer
    require(len(layer.blobs) > 0, "it has no learned weight")
    require(len(layer.bottoms) == len(layer.tops) == 1, "it works on several blobs with one weight")
    return LINEAR[layer.type](place)


def _shaped(vector: Vector, shape: Shape) -> npt.NDArray[np.float64]:
    return np.ascontiguousarray(vector, np.float64).reshape(shape)


def _weighted_sum(blob: Array | LazyArray, linear: Linear, shift: Vector) -> Vector:
    """`sum of W[o, i]*h[i]` over inputs and kernel, shape (Cout,), accumulated in float64."""
    product = scaled(blob, linear.view, _shaped(shift, linear.inputs))
    # No factor differs along the kernel, so that is summed first: what is left is small.
    kernel = tuple(axis for axis in linear.summed if all(factor.shape[axis] == 1 for factor in product.factors))
    weight = product.weight.reshape(linear.view)
    # Where there is no kernel nothing is small, so the outputs are taken in pieces: a second copy would double a file.
    axis = max(set(range(weight.ndim)) - set(linear.summed), key=lambda axis: weight.shape[axis])
    step = max(1, SUMMED_AT_ONCE * weight.shape[axis] // max(1, weight.size))
    sums = []
    for start in range(0, weight.shape[axis], step):
        piece = (*[slice(None)] * axis, slice(start, start + step))
        exact = weight[piece].sum(axis=kernel, dtype=np.float64, keepdims=True)
        for factor in product.factors:
            exact *= factor[piece] if factor.shape[axis] > 1 else factor
        sums.append(exact.sum(axis=linear.summed, keepdims=True))
    total: Vector = np.concatenate(sums, axis=axis).reshape(-1)
    return total


def _changed(layer: Layer, weight: Scaled, bias: npt.ArrayLike, needs_bias: bool) -> Change:
    require(stays_finite(weight), "a folded weight would not be finite")
    if not needs_bias:
        return Change(Blobs((weight, *layer.blobs.stored[1:])), layer.param)
    stored = layer.blobs.shapes[1] if len(layer.blobs) > 1 else (-1,)
    rounded = Rounded(np.asarray(bias, np.float64).reshape(stored), weight.dtype)
    with np.errstate(over="ignore"):
        require(bool(np.all(np.isfinite(rounded.array()))), "a folded bias would not be finite")
    return Change(Blobs((weight, rounded, *layer.blobs.stored[2:])), _with_bias(layer))


def _with_bias(layer: Layer) -> LayerParameter:
    """The parameters of a layer that has a bias: the flag, and a `param {}` for it where the weight has one."""
    field = _bias_field(layer)
    present: LayerParameter = layer.param
    param: Any = getattr(present, field)
    if len(layer.blobs) > 1 or (param.bias_term and len(present.param) != 1):
        return present
    changed = type(present)()
    changed.CopyFrom(layer.param)
    flags: Any = getattr(changed, field)
    flags.bias_term = True
    if len(changed.param) == 1:
        changed.param.add().CopyFrom(changed.param[0])
        changed.param[1].ClearField("name")
    return changed


def _bias_field(layer: Layer) -> str:
    """The field that holds `bias_term`; Tengine has one of its own for a depthwise convolution."""
    is_tengine = layer.param.HasField("DepthwiseConvolution_param") and not layer.param.HasField("convolution_param")
    return "DepthwiseConvolution_param" if is_tengine else BIAS_FIELD[layer.type]


# What a layer asks of an affine in front of it.


def _any(_: Place, affine: Affine) -> None:
    del affine


def _convolution_forward(place: Place, affine: Affine) -> None:
    """A shift in front of a padding is missing at the border."""
    view = Convolution.of(place.layer, len(place.layer.blobs.shapes[0]) - 2)
    require(not any(view.pad) or affine.keeps_zero, "a shift in front of its padding would be wrong at the border")


def _deconvolution_forward(place: Place, affine: Affine) -> None:
    """How many terms an output pixel sums differs from pixel to pixel, but for 1x1 with stride 1."""
    view = Convolution.of(place.layer, len(place.layer.blobs.shapes[0]) - 2)
    pointwise = all(k == 1 for k in view.kernel) and all(s == 1 for s in view.stride) and not any(view.pad)
    require(pointwise or affine.keeps_zero, "a shift in front of it reaches its outputs unevenly")


LINEAR: Mapping[str, Callable[[Place], Linear]] = {
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "Embed": embed,
    "InnerProduct": inner_product,
}

FORWARD: Mapping[str, Callable[[Place, Affine], None]] = {
    "Convolution": _convolution_forward,
    "ConvolutionDepthwise": _convolution_forward,
    "Deconvolution": _deconvolution_forward,
    "DepthwiseConvolution": _convolution_forward,
    "InnerProduct": _any,
}

BIAS_FIELD: Mapping[str, str] = {
    "Convolution": "convolution_param",
    "ConvolutionDepthwise": "convolution_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "Embed": "embed_param",
    "InnerProduct": "inner_product_param",
}


def rewritten_as_scale(layer: Layer, affine: Affine, dtype: np.dtype[Any]) -> Change:
    """A Scale layer that computes `affine`, stored as `dtype`, with a bias only where there is a shift.

    Raises:
        Blocked: a value would not be finite as `dtype`.
    """
    with np.errstate(over="ignore"):
        values = [affine.scale.astype(dtype), affine.shift.astype(dtype)]
    if not all(np.all(np.isfinite(value)) for value in values):
        raise Blocked("its scale or shift would not be finite as a stored value")
    param = type(layer.param)()
    for descriptor, value in layer.param.ListFields():
        if descriptor.name in KEPT_IN_SCALE:
            target = getattr(param, descriptor.name)
            if hasattr(target, "MergeFrom"):
                target.MergeFrom(value)
            else:
                setattr(param, descriptor.name, value)
    param.type = "Scale"
    param.scale_param.SetInParent()
    if not affine.keeps_zero:
        param.scale_param.bias_term = True
    return Change(Blobs(values if not affine.keeps_zero else values[:1]), param)


KEPT_IN_SCALE = frozenset({"bottom", "exclude", "include", "name", "phase", "top"})
