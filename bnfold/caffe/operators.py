"""A Caffe layer as an operator: all that the laws know of Caffe, one row for each layer type.

    BatchNorm   scale = gamma/sqrt(variance + eps)    shift = beta - mean*scale     (gamma 1, beta 0 where it has none)
    Scale       scale = blobs[0]                      shift = blobs[1] or 0
    Bias        scale = 1                             shift = blobs[0]
    Power       scale = scale                         shift = shift                 (power 1)
    Dropout     scale = 1, or 1 - ratio in the forks that scale at TEST

    Convolution     its weight is [group, Cout/group, Cin/group, kernel]
    Deconvolution   [group, Cin/group, Cout/group, kernel]     not [Cout, ...]: most merge scripts get this wrong
    InnerProduct    [N, C, ...], or [C, ..., N] with `transpose`
    Embed           [inputs, N]

A row is a function from a layer and the shapes around it to an operator. It raises `Blocked` with the reason where it
is none: a layer of `AFFINES` is then kept with that reason, any other is opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import (
    PLANE,
    Alias,
    Axes,
    Constant,
    Extreme,
    Join,
    Linear,
    Move,
    Opaque,
    Operator,
    Pass,
    Port,
    Product,
    Regroup,
    Spread,
    Step,
    Steps,
    Sum,
    Take,
    Window,
)
from bnfold.algebra.records import Blocked, require
from bnfold.algebra.scaled import exact_values
from bnfold.caffe import rewriting
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import read_batchnorm
from bnfold.caffe.layers import (
    UNKNOWN,
    Bias,
    Concat,
    Convolution,
    Crop,
    Dropout,
    Eltwise,
    Flatten,
    InnerProduct,
    Permute,
    PixelShuffle,
    Pooling,
    Power,
    Reorg,
    Reshape,
    Scale,
    ShuffleChannel,
    Slice,
    canonical_axis,
    infer_shapes,
)
from bnfold.errors import ModelError, UnsupportedError
from bnfold.net import Array, Layer, LazyArray, Net, Shape

MOST_CHANNELS = 1 << 20
"""A text says sizes that no file stands behind, and each channel of an affine takes memory."""

BATCH = -2
"""The name of the batch's size, which every movement leaves alone."""


@dataclass(frozen=True, slots=True)
class Caffe:
    """Caffe as a front end of the algebra (`bnfold.algebra.frontend`)."""

    def prepare(self, context: FoldContext) -> None:
        """Split every BatchNorm with a fused ReLU in two."""
        rewriting.unfuse_relus(context)

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """The shape of every blob."""
        return infer_shapes(net)

    def protected(self, net: Net) -> Mapping[str, str]:
        """None: nothing captures a blob."""
        del net
        return {}

    def taken_names(self, net: Net) -> Iterable[str]:
        """None but those of blobs."""
        del net
        return ()

    def reads_values(self, layer: Layer, index: int) -> bool:
        """False for what says only how large something is to be."""
        return index not in SHAPE_ONLY.get(layer.type, ())

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a layer is.

        Raises:
            Blocked: the type is an affine's, but this layer is none.
            ModelError: its statistics make no sense.
        """
        read = OPERATORS.get(layer.type)
        if read is None:
            return Opaque(layer.opaque)
        try:
            require(not layer.opaque, layer.opaque)
            with np.errstate(all="ignore"):
                operator = read(Place(layer, context))
            if isinstance(operator, Affine):
                require(operator.is_finite, "its scale or shift is not finite")
        except Blocked as blocked:
            if layer.type in AFFINES and len(layer.bottoms) == len(layer.tops) == 1:
                raise
            return Opaque(str(blocked))
        return operator

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None) -> None:
        """New blobs, and where a bias is new what Caffe needs beside it."""
        del net
        rewriting.absorb(layer, weight, bias)

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext) -> str:
        """Why no Scale could say it."""
        return rewriting.refuses(layer, affine, context)

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """As a Scale, if it took others in or is a BatchNorm."""
        if composed or layer.type in BATCHNORMS:
            rewriting.rewrite_as_scale(layer, affine, context, composed=composed)

    def finish(self, context: FoldContext) -> None:
        """Blobs shared by name that came out different are no longer shared."""
        rewriting.unshare(context)


@dataclass(frozen=True, slots=True)
class Place:
    """A layer with the shapes around it: all that a row may look at."""

    layer: Layer
    context: FoldContext

    @property
    def bottom(self) -> Shape:
        """The shape of the first bottom.

        Raises:
            Blocked: it is unknown (an opaque layer stands in front).
        """
        return self.known(self.layer.bottoms[0])

    @property
    def bottoms(self) -> tuple[Shape, ...]:
        """The shapes of all bottoms. Raises likewise."""
        return tuple(map(self.known, self.layer.bottoms))

    @property
    def tops(self) -> tuple[Shape, ...]:
        """The shapes of all tops. Raises likewise."""
        return tuple(map(self.known, self.layer.tops))

    def shape(self, blob: str) -> Shape | None:
        """The shape of a blob, None where it is unknown."""
        return self.context.shapes.get(blob)

    def known(self, blob: str) -> Shape:
        """The shape of a blob. Raises `Blocked` where it is unknown."""
        shape = self.shape(blob)
        if shape is None:
            raise Blocked(f"the shape of '{blob}' is unknown")
        return shape


# Affines.


def batch_norm(place: Place) -> Affine:
    """`y = gamma*(x - mean)/sqrt(variance + eps) + beta` (batch_norm_layer.cpp)."""
    layer, context = place.layer, place.context
    bottom = place.shape(layer.bottoms[0])
    require(bottom is None or len(bottom) > 1, f"'{layer.bottoms[0]}' has no channel axis, its shape is {bottom}")
    try:
        statistics = read_batchnorm(layer, context.net.batchnorm_layout, context.net.zero_factor)
    except UnsupportedError as error:
        raise Blocked(str(error).removeprefix(f"{layer}: ")) from error
    if bottom is not None and bottom[1] not in (statistics.channels, UNKNOWN):
        raise ModelError(
            f"{layer}: its statistics are of {statistics.channels} channels, and its bottom has {bottom[1]}"
        )
    require(not statistics.relu, "a ReLU is fused into it")
    require(statistics.channels <= MOST_CHANNELS, _too_many(layer, statistics.channels))
    if statistics.batch_statistics:
        learns = statistics.layout == "segnet"
        require(statistics.layout != "ducha", "moving_average is false, so its statistics follow each batch")
        require(not learns, "bn_mode is LEARN, so its statistics follow each batch and none are stored")
        require(
            context.assume_global_stats,
            "use_global_stats is false, so its statistics follow each batch; "
            "fold it with --assume-global-stats if the stored ones are meant",
        )
        context.notes.append(f"{layer}: taken as use_global_stats: true, as --assume-global-stats asks")
    if statistics.factor == 0 and statistics.layout == "bvlc":
        context.notes.append(f"{layer}: its scale_factor is 0, so it was never trained")
    scale = 1.0 / np.sqrt(statistics.variance + statistics.eps)
    if statistics.gamma is not None:
        scale = statistics.gamma * scale
    shift = -statistics.mean * scale
    if statistics.beta is not None:
        shift = shift + statistics.beta
    return Affine.along(1, scale, shift)


def bias(place: Place) -> Operator:
    """`y = x + bias`; with two bottoms the second is the bias."""
    if len(place.layer.bottoms) > 1:
        return added(place)
    return Affine(np.ones(()), learned(place, 0, Bias.of(place.layer).axis))


def dropout(place: Place) -> Operator:
    """`y = x`, or `(1 - ratio)*x` where `scale_train: false` moves the scaling to TEST."""
    scale = Dropout.of(place.layer).test_scale
    return Alias() if scale == 1.0 else Affine(np.asarray(scale, np.float64), np.zeros(()))


def eltwise_affine(place: Place) -> Affine:
    """`y = slope*x + bias`."""
    return Affine(learned(place, 0, 1), learned(place, 1, 1))


def power(place: Place) -> Operator:
    """`y = scale*x + shift` when the power is 1; with another power it is no affine."""
    view = Power.of(place.layer)
    if view.power != 1.0:
        return Opaque()
    return Affine(np.asarray(view.scale, np.float64), np.asarray(view.shift, np.float64))


def scale(place: Place) -> Operator:
    """`y = gamma*x + beta`; with two bottoms gamma is the second."""
    layer, axis = place.layer, Scale.of(place.layer).axis
    if len(layer.bottoms) > 1:
        return multiplied(place)
    return Affine(learned(place, 0, axis), learned(place, 1, axis) if len(layer.blobs) > 1 else np.zeros(()))


def split(_: Place) -> Alias:
    """Every top is the bottom."""
    return Alias()


def learned(place: Place, index: int, axis: int) -> Array:
    """A learned blob as it lies over the bottom from `axis` on, with size 1 where nothing varies.

    Raises:
        Blocked: there is none, or where it lies depends on a shape that is unknown.
    """
    layer = place.layer
    if index >= len(layer.blobs):
        raise Blocked("it has no learned values")
    values = layer.blobs[index]
    if values.size == 1:
        return values.reshape(()).astype(np.float64)
    shape = place.shape(layer.bottoms[0])
    start = axis if axis >= 0 else canonical_axis(axis, len(place.bottom))
    require(shape is None or len(shape) > 1, f"'{layer.bottoms[0]}' has no channel axis, its shape is {shape}")
    require(max(values.shape) <= MOST_CHANNELS, _too_many(layer, max(values.shape)))
    laid = values.reshape((1,) * start + values.shape)
    for along in range(start, laid.ndim) if values.ndim > 1 else ():
        first = laid.take([0], along)
        if np.array_equal(laid, np.broadcast_to(first, laid.shape), equal_nan=True):
            laid = first
    return laid.astype(np.float64)


def _too_many(layer: Layer, channels: int) -> str:
    return f"'{layer.bottoms[0]}' has {channels:,} channels, more than any trained network"


# Layers that pass an affine.


def rectifier(_: Place) -> Pass:
    """`max(x, 0) + slope*min(x, 0)` is linear on each side of 0, which a positive factor leaves in place."""
    return Pass(zero="a shift would move ReLU's threshold away from 0", order="a negative scale turns it over")


def pooling(place: Place) -> Operator:
    """MAX needs order kept; a padded AVE counts zeros that it does not sum, so it needs zero kept."""
    shape = place.shape(place.layer.bottoms[0])
    pool = Pooling.of(place.layer, shape or (UNKNOWN,) * 4)
    if not pool.windows_never_empty:
        return Opaque("a pooling window contains no input pixel, and what it gives then is no average")
    if pool.method == "MAX":
        strict = "MAX pooling with a mask needs every scale > 0" if len(place.layer.tops) > 1 else ""
        return Pass(order="MAX pooling needs every scale >= 0", strict=strict, plane=PLANE)
    if pool.method == "AVE":
        counted = any(pool.pad) and pool.counts_padding
        return Pass(zero="padded AVE pooling needs every shift == 0" if counted else "", plane=PLANE)
    return Opaque(f"{pool.method} pooling is no fixed function")


def interpolation(_: Place) -> Pass:
    """Each output is a weighted mean of inputs, weights summing to 1; its pads only crop."""
    return Pass(plane=PLANE)


def upsample(place: Place) -> Pass:
    """Nearest repeats each pixel; by a pooling mask it writes zeros wherever the mask does not point."""
    masked = len(place.layer.bottoms) > 1
    return Pass(zero="upsampling by a mask writes zeros, so every shift must be 0" if masked else "", plane=PLANE)


# Layers that move data.


def crop(place: Place) -> Move:
    """The window that starts at the offsets; its size is the second bottom's from `axis` on."""
    bottom, top = place.bottom, place.tops[0]
    view = Crop.of(place.layer)
    axes = range(canonical_axis(view.axis, len(top)), len(top))
    starts = view.offsets(place.layer, len(top))
    known = [bottom[axis] if UNKNOWN not in (axis and bottom[axis], top[axis]) else UNKNOWN for axis in range(len(top))]
    steps = [Take(axis, slice(starts[axis], starts[axis] + top[axis]), known[axis]) for axis in axes]
    return Move((tuple(steps),))


def flatten(place: Place) -> Move:
    """Rows in C order."""
    require(canonical_axis(Flatten.of(place.layer).axis, len(place.bottom)) > 0, MIXES_SAMPLES)
    return Move(((_regrouped(place.bottom, place.tops[0]),),))


def permute(place: Place) -> Move:
    """Axes in another order."""
    return Move(((Axes(Permute.of(place.layer).full_order(place.layer, len(place.bottom))),),))


def pixel_shuffle(place: Place) -> Move:
    """Channels (C, r, r) become blocks of r x r pixels."""
    return _shuffled(place, PixelShuffle.of(place.layer).upscale_factor)


def reorg(place: Place) -> Move:
    """Darknet's reorganisation: it reads the bottom as if it had the top's layout, whatever the sizes say.

    With stride s and channels C, darknet's `reorg_cpu` copies bottom[c, h, w] of a blob that it indexes as
    (C/s^2, H*s, W*s), from the place (c mod C/s^2, h*s + c / (C/s^2) / s, w*s + c / (C/s^2) mod s).
    """
    view = Reorg.of(place.layer)
    require(not view.reverse, "its reverse form is not known exactly")
    stride, bottom = view.stride, place.bottom
    require(UNKNOWN not in bottom[1:], "how it moves data depends on a size that is unknown")
    _, channels, height, width = bottom
    inner = channels // stride**2
    require(inner > 0 and channels % stride**2 == 0, f"its {channels} channels are no multiple of {stride}x{stride}")
    whole = (BATCH, channels, height, width)
    parts = (BATCH, inner, height, stride, width, stride)
    moved = (BATCH, stride, stride, inner, height, width)
    steps = (Regroup(whole, parts), Axes((0, 3, 5, 1, 2, 4)), Regroup(moved, whole))
    return Move(((*steps, Regroup(whole, (BATCH, *place.tops[0][1:]))),))


def reshape(place: Place) -> Move:
    """The same order, other axes; the samples must stay the first axis. Intel's form shuffles pixels instead."""
    factor = Reshape.of(place.layer).pixel_shuffle
    if factor != 1:
        return _shuffled(place, factor)
    bottom, top = place.bottom, place.tops[0]
    require(bool(bottom) and bool(top) and bottom[0] == top[0], MIXES_SAMPLES)
    unknown = bottom[0] == UNKNOWN and UNKNOWN in (*bottom[1:], *top[1:])
    require(not unknown, "how it moves data depends on a size that is unknown")
    return Move(((_regrouped(bottom, top),),))


def shuffle_channel(place: Place) -> Move:
    """(group, C/group, ...) transposed to (C/group, group, ...)."""
    group = ShuffleChannel.of(place.layer).group
    channels, *plane = place.bottom[1:]
    require(channels != UNKNOWN, "how it moves data depends on a size that is unknown")
    named = tuple(range(BATCH - 1, BATCH - 1 - len(plane), -1))
    whole = (BATCH, channels, *named)
    order = (0, 2, 1, *range(3, 3 + len(plane)))
    parts, swapped = (BATCH, group, channels // group, *named), (BATCH, channels // group, group, *named)
    return Move(((Regroup(whole, parts), Axes(order), Regroup(swapped, whole)),))


def slice_(place: Place) -> Move:
    """Consecutive parts along `axis`."""
    bottom, tops = place.bottom, place.tops
    axis = canonical_axis(Slice.of(place.layer).axis, len(bottom))
    stops = np.cumsum([0, *(top[axis] for top in tops)])
    # A net takes batches of any size, so nothing may differ from sample to sample.
    size = bottom[axis] if axis else UNKNOWN
    return Move(tuple((Take(axis, slice(start, stop), size),) for start, stop in pairwise(stops)))


def _regrouped(bottom: Shape, top: Shape) -> Step:
    """The same elements of each sample under another shape."""
    return Regroup((BATCH, *bottom[1:]), (BATCH, *top[1:]))


def _shuffled(place: Place, factor: int) -> Move:
    bottom, (_, channels, height, width) = place.bottom, place.tops[0]
    named = (BATCH, channels, factor, factor, *bottom[2:])
    moved = (BATCH, channels, bottom[2], factor, bottom[3], factor)
    steps = (Regroup((BATCH, *bottom[1:]), named), Axes((0, 1, 4, 2, 5, 3)))
    return Move(((*steps, Regroup(moved, (BATCH, channels, height, width))),))


# Layers that join several bottoms.


def concat(place: Place) -> Join:
    """One behind the other; along the batch, whose size may change, all alike."""
    axis = canonical_axis(Concat.of(place.layer).axis, len(place.tops[0]))
    return Join(axis, tuple(bottom[axis] if axis else UNKNOWN for bottom in place.bottoms))


def eltwise(place: Place) -> Operator:
    """SUM with its coefficients, PROD, MAX."""
    view = Eltwise.of(place.layer, len(place.layer.bottoms))
    if view.operation == "SUM":
        return Sum(view.coeff)
    return Product() if view.operation == "PROD" else Extreme()


def added(place: Place) -> Sum:
    """`x + y`, y laid over x from an axis on."""
    return Sum((1.0, 1.0), ((), _laid(place, Bias.of(place.layer).axis)))


def multiplied(place: Place) -> Product:
    """`x*y`, y laid over x from an axis on. A learned bias behind it cannot be scaled here."""
    require(not len(place.layer.blobs), "it adds a learned bias")
    return Product(((), _laid(place, Scale.of(place.layer).axis)))


def _laid(place: Place, axis: int) -> Steps:
    """How a second bottom lies over the first from `axis` on."""
    first, second = place.bottoms
    start = canonical_axis(axis, len(first))
    covered = range(start, start + len(second))
    spread = [Spread(axis) for axis in range(len(first)) if axis not in covered]
    return (Axes((*[None] * start, *range(len(second)), *[None] * (len(first) - covered.stop))), *spread)


# Layers that absorb.


def convolution(place: Place) -> Linear:
    """(Cout, Cin/group, *kernel)."""
    layer, weight, view = _convolution(place)
    group, kernel = view.group, weight[2:]
    plane = tuple(range(3, 3 + len(kernel)))
    return Linear(
        weight=layer.blobs.stored[0],
        bias=_bias(layer, 1),
        view=(group, weight[0] // group, weight[1], *kernel),
        outputs=(Port(1, (0, 1)),),
        inputs=(Port(1, (0, 2)),),
        summed=(2, *plane),
        padded="a shift in front of its padding would be wrong at the border" if any(view.pad) else "",
        backward="a ReLU is fused into it" if view.relu is not None else "",
        window=Window(view.stride, view.dilation, tuple((pad, pad) for pad in view.pad), group),
    )


def deconvolution(place: Place) -> Linear:
    """(Cin, Cout/group, *kernel). How many terms an output pixel sums differs from pixel to pixel, but for 1x1."""
    layer, weight, view = _convolution(place)
    group, kernel = view.group, weight[2:]
    plane = tuple(range(3, 3 + len(kernel)))
    pointwise = all(k == 1 for k in kernel) and all(s == 1 for s in view.stride) and not any(view.pad)
    return Linear(
        weight=layer.blobs.stored[0],
        bias=_bias(layer, 1),
        view=(group, weight[0] // group, weight[1], *kernel),
        outputs=(Port(1, (0, 2)),),
        inputs=(Port(1, (0, 1)),),
        summed=(1, *plane),
        padded="" if pointwise else "a shift in front of it reaches its outputs unevenly",
        backward="a ReLU is fused into it" if view.relu is not None else "",
    )


def _convolution(place: Place) -> tuple[Layer, Shape, Convolution]:
    layer = _with_weight(place)
    weight = layer.blobs.shapes[0]
    view = Convolution.of(layer, len(weight) - 2)
    require(view.axis == 1, f"its channel axis is {view.axis}")
    return layer, weight, view


def inner_product(place: Place) -> Linear:
    """(N, K) with K the sizes from `axis` on, or (K, N) with `transpose`."""
    layer = _with_weight(place)
    view = InnerProduct.of(layer)
    bottom = place.shape(layer.bottoms[0])
    require(bottom is not None or view.axis >= 0, f"the shape of '{layer.bottoms[0]}' is unknown")
    axis = view.axis if bottom is None else canonical_axis(view.axis, len(bottom))
    flattened = () if bottom is None else bottom[axis:]
    forward = ""
    if bottom is None or UNKNOWN in flattened:
        forward = "it flattens a size that is unknown"
        flattened = (prod(layer.blobs.shapes[0]) // view.num_output,)
    first = 0 if view.transpose else 1
    inputs = tuple(range(first, first + len(flattened)))
    return Linear(
        weight=layer.blobs.stored[0],
        bias=_bias(layer, axis),
        view=(*flattened, view.num_output) if view.transpose else (view.num_output, *flattened),
        outputs=(Port(axis, (len(flattened) if view.transpose else 0,)),),
        inputs=tuple(Port(axis + index, (place,)) for index, place in enumerate(inputs)),
        summed=inputs,
        forward=forward,
        backward="a ReLU is fused into it" if view.relu is not None else "",
    )


def embed(place: Place) -> Linear:
    """(inputs, N): a row for each index."""
    layer = _with_weight(place)
    axis = len(place.bottom)
    outputs = (Port(axis, (1,)),)
    return Linear(layer.blobs.stored[0], _bias(layer, axis), layer.blobs.shapes[0], outputs, forward="it reads indices")


def normalize(place: Place) -> Linear:
    """`x/norm(x)` times a learned scale, which takes a factor (normalize_layer.cpp)."""
    layer = _with_weight(place)
    shared = layer.param.norm_param.channel_shared
    return Linear(
        weight=layer.blobs.stored[0],
        bias=None,
        view=(prod(layer.blobs.shapes[0]),),
        outputs=() if shared else (Port(1, (0,)),),
        unbiased="it adds no bias",
        forward="it divides by a norm",
    )


def parameter(place: Place) -> Constant:
    """What it learned is its top."""
    require(len(place.layer.blobs) > 0, "it has no learned value")
    return Constant(place.layer.blobs.stored[0])


def _with_weight(place: Place) -> Layer:
    layer = place.layer
    require(len(layer.blobs) > 0, "it has no learned weight")
    require(len(layer.bottoms) == len(layer.tops) == 1, "it works on several blobs with one weight")
    return layer


def _bias(layer: Layer, axis: int) -> Array | None:
    """The bias as it lies over the top, whose outputs are along `axis`; None where there is none."""
    if len(layer.blobs) < 2:
        return None
    return exact_values(layer.blobs.stored[1]).reshape(*[1] * axis, -1)


MIXES_SAMPLES = "it moves data between samples"

Row = Callable[[Place], Operator]

AFFINES: Mapping[str, Row] = {
    **dict.fromkeys(BATCHNORMS, batch_norm),
    "Bias": bias,
    "Dropout": dropout,
    "EltwiseAffine": eltwise_affine,
    "Power": power,
    "Scale": scale,
    "SeLuDropout": dropout,
    "SpatialDropout": dropout,
}

PASSING: Mapping[str, Row] = {
    "Bias": added,
    "Concat": concat,
    "Crop": crop,
    "Eltwise": eltwise,
    "Flatten": flatten,
    "Interp": interpolation,
    "PReLU": rectifier,
    "Permute": permute,
    "PixelShuffle": pixel_shuffle,
    "Pooling": pooling,
    "ReLU": rectifier,
    "Reorg": reorg,
    "Reshape": reshape,
    "Scale": multiplied,
    "ShuffleChannel": shuffle_channel,
    "Slice": slice_,
    "Upsample": upsample,
}

LINEAR: Mapping[str, Row] = {
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "DepthwiseDeconvolution": deconvolution,
    "Embed": embed,
    "InnerProduct": inner_product,
    "Normalize": normalize,
    "Parameter": parameter,
}

BACKWARD_ONLY = frozenset({"Embed", "Normalize", "Parameter"})

OPERATORS: Mapping[str, Row] = {"Split": split, **PASSING, **LINEAR, **AFFINES}

SHAPE_ONLY: Mapping[str, Collection[int]] = {
    "Crop": (1,),
    "PriorBox": (0, 1),
    "PriorBoxClustered": (0, 1),
}

CAFFE = Caffe()
