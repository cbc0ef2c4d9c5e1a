"""Stand-in weights for a net that came without any, so that a plan can be made from the prototxt alone.

A plan asks the weights for little: signs, zeros, and whether two layers that share a weight still agree. The stand-ins
answer so that a plan never promises a move that only some weights allow: every learned factor has both signs, no
learned shift is 0, and no two layers learned the same unless they share it. What follows from the arithmetic holds for
stand-ins too: a BatchNorm that learned no gamma divides by a deviation, which is positive.

Never done here: a guess at accuracy, or weights that anyone should run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from zlib import crc32

import numpy as np
import numpy.typing as npt

from bnfold.caffe.batchnorm import DUCHA_FIELDS, LAYOUTS
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.layers import KERNELS, UNKNOWN, blob_shapes, infer_shapes, learns_scale, row_of
from bnfold.caffe.layers.axes import written
from bnfold.caffe.layers.infer import possible_shapes
from bnfold.caffe.limits import INT_MAX, MAX_CHANNELS
from bnfold.errors import ModelError
from bnfold.net import Array, Blobs, Layer, Net, Shape

Values = npt.NDArray[np.float32]


def with_placeholder_weights(net: Net) -> Net:
    """A copy of a net in which every layer that learns, and has learned nothing yet, has stand-ins.

    Args:
        net: any net; it is not changed. Layers that have blobs keep them.

    Returns:
        A net whose large weights take no memory: one number, seen in the weight's shape. A layer whose learned shapes
        cannot be known (an unknown type, a bottom of unknown size), or are beyond any trained network's, stays without
        blobs.

    Raises:
        ModelError: the sizes of the net do not fit each other.
    """
    known = infer_shapes(net)
    shapes, filled = dict(known), net.copy()
    left = INT_MAX
    for layer in filled.layers:
        bottoms = _guessed_bottoms(layer, shapes)
        if bottoms is not None and any(shapes[top] is None for top in layer.tops):
            _guess_tops(layer, bottoms, shapes)
        if not len(layer.blobs) and bottoms is not None:
            try:
                blobs = stand_ins(layer, bottoms, net.batchnorm_layout)
            except ModelError:
                if all(known[bottom] is not None for bottom in layer.bottoms):
                    raise
                continue  # what was guessed does not fit, and says nothing about the net
            left -= sum(blob.size for blob in blobs)
            if left < 0:
                break
            layer.blobs = Blobs(blobs)
    return filled


def _guessed_bottoms(layer: Layer, shapes: Mapping[str, Shape | None]) -> list[Shape] | None:
    """The shapes of the bottoms; behind a layer of unknown type a linear layer reads as little as it can."""
    if layer.type in KERNELS and len(layer.bottoms) == 1:
        channels = layer.param.convolution_param.group
        least: Shape | None = (UNKNOWN, channels, UNKNOWN, UNKNOWN)
    else:
        least = (UNKNOWN, 1) if layer.type == "InnerProduct" else None
    bottoms = [shapes.get(bottom) or least for bottom in layer.bottoms]
    known = [shape for shape in bottoms if shape is not None]
    return known if len(known) == len(bottoms) else None


def _guess_tops(layer: Layer, bottoms: Sequence[Shape], shapes: dict[str, Shape | None]) -> None:
    """Shapes of tops that are unknown: an unknown type with one bottom is taken for a dropout written in Python."""
    tops: Sequence[Shape] = ()
    if row_of(layer):
        tops = possible_shapes(layer, bottoms) or ()
    elif len(bottoms) == 1:
        tops = [bottoms[0]] * len(layer.tops)
    shapes.update(zip(layer.tops, tops, strict=False))


def stand_ins(layer: Layer, bottoms: Sequence[Shape], layout: str | None = None) -> list[Array]:
    """The blobs that a layer might have learned, [] where it learns none, has too many or nobody knows their shapes."""
    family = BATCHNORMS.get(layer.type)
    if family is not None:
        channels = bottoms[0][1] if bottoms and len(bottoms[0]) > 1 else 1
        if channels == UNKNOWN or channels > MAX_CHANNELS:
            return []
        known = layout if layout in family.layouts else None
        return _statistics(layer, channels, known or _suggested_layout(layer, channels))
    shapes = blob_shapes(layer, bottoms) or []
    row = row_of(layer)
    make = VALUES[row.stand_in] if row else _weights
    if any(prod(shape) > (INT_MAX if make is _weights else MAX_CHANNELS) for shape in shapes):
        return []
    return [make(layer, index, shape) for index, shape in enumerate(shapes)]


# BatchNorm: how many blobs there are, and in which order, is for the prototxt to suggest.


def _suggested_layout(layer: Layer, channels: int) -> str:
    """A row of `bnfold.caffe.batchnorm.LAYOUTS` that the fields of the layer do not contradict."""
    layouts = BATCHNORMS[layer.type].layouts
    if len(layouts) == 1:
        return layouts[0]
    if layer.type == "BN":
        param = layer.param.bn_param
        if len(layer.param.param) > 3 or any(param.HasField(name) for name in ("var_eps", "moving_average")):
            return "ducha" if any(param.HasField(name) for name in DUCHA_FIELDS) else "pspnet"
        segnet = any(param.HasField(name) for name in ("bn_mode", "scale_filler", "shift_filler"))
        return "segnet" if segnet else "pspnet"
    if layer.param.HasField("cudnn_batch_norm_param"):
        return "cudnn"
    if learns_scale(layer) and (layer.param.batch_norm_param.scale_bias or len(layer.param.param) != 4):
        return "nvcaffe"
    if written(layer.param.batch_norm_param, "use_weight_bias"):
        return "intel"
    # Two `param {}` that learn and two that do not: gamma, beta, mean, variance.
    return "nvcaffe015" if len(layer.param.param) > 3 and channels > 1 else "bvlc"


def _statistics(layer: Layer, channels: int, layout: str) -> list[Array]:
    """The blobs of a layout, each where `LAYOUTS` has it; a BatchNorm's gamma and beta where the layer says so."""
    count, lies = {"bvlc": 3, "intel": 3, "nvcaffe": 3, "segnet": 2}.get(layout, 4), LAYOUTS[layout]
    param = layer.param.batch_norm_param
    if layout == "intel" and written(param, "use_weight_bias"):
        count = 4 if written(param, "bias_term") is False else 5
    elif layout == "nvcaffe" and learns_scale(layer):
        count = 5
    learned: list[tuple[int | None, Array]] = [
        (lies.mean, _shift(layer, 0, (channels,))),
        (lies.variance, _positive(layer, 1, (channels,))),
        (lies.gamma, _factor(layer, 2, (channels,))),
        (lies.beta, _shift(layer, 3, (channels,))),
        (lies.factor, np.ones(1, dtype=np.float32)),
    ]
    placed = {place % count: blob for place, blob in learned if place is not None and place < count}
    return [placed[place] for place in range(count)]


# Values. All are exact in float32 and float16, and none is 0.


def _weights(layer: Layer, index: int, shape: Shape) -> Array:
    """One number of the layer's own in the shape of a weight, without the weight's memory."""
    return np.broadcast_to(_positive(layer, index, (1,)).reshape(()), shape)


def _positive(layer: Layer, index: int, shape: Shape) -> Values:
    """Numbers from 1/2 to 2, different in neighbouring channels and in other layers."""
    count = int(np.prod(shape, dtype=np.int64))
    steps = (_seed(layer, index) + 37 * np.arange(count)) % 97
    return (0.5 + steps / 64).astype(np.float32).reshape(shape)


def _factor(layer: Layer, index: int, shape: Shape) -> Values:
    """Numbers of both signs; a single one is negative."""
    values = _positive(layer, index, shape)
    values.reshape(-1)[::2] *= -1
    return values


def _shift(layer: Layer, index: int, shape: Shape) -> Values:
    """Numbers of both signs, the other way round than `_factor`'s, so that the two do not cancel."""
    return np.negative(_factor(layer, index, shape), out=np.empty(shape, dtype=np.float32))


def _scale(layer: Layer, index: int, shape: Shape) -> Values:
    """Gamma, then beta; with two bottoms the factor is a bottom, and beta is all that is learned."""
    return _factor(layer, index, shape) if index == 0 and len(layer.bottoms) == 1 else _shift(layer, index, shape)


def _seed(layer: Layer, index: int) -> int:
    """The same for the same layer in every run, and for all blobs that share a name."""
    specs = layer.param.param
    shared = specs[index].name if index < len(specs) else ""
    return crc32(f"{shared or layer.name}\n{'' if shared else index}".encode())


VALUES: dict[str, Callable[[Layer, int, Shape], Array]] = {
    "positive": _positive,
    "scale": _scale,
    "shift": _shift,
    "weight": _weights,
}
"""What `LayerType.stand_in` names."""
