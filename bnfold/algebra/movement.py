"""Where each channel goes in the layers that only move data.

Each function carries an array of channel numbers, shaped like one sample of the first bottom (C, ...), to every top.
Which channels a layer mixes is then read off instead of derived anew for each layer: see `commute.moves`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bnfold.algebra.records import Blocked
from bnfold.caffe.layers import (
    Crop,
    Flatten,
    Permute,
    PixelShuffle,
    Reorg,
    Reshape,
    ShuffleChannel,
    Slice,
    canonical_axis,
)

if TYPE_CHECKING:
    from bnfold.algebra.commute import Place

Labels = npt.NDArray[np.intp]


def crop(place: Place, labels: Labels) -> list[Labels]:
    """The window that starts at the offsets; its size is the second bottom's from `axis` on."""
    top = place.tops[0]
    starts = Crop.of(place.layer).offsets(place.layer, len(top))
    window = tuple(slice(start, start + size) for start, size in zip(starts[1:], top[1:], strict=True))
    return [labels[window]]


def flatten(place: Place, labels: Labels) -> list[Labels]:
    """Rows in C order."""
    axis = canonical_axis(Flatten.of(place.layer).axis, len(place.bottoms[0]))
    return _reshaped(place, labels) if axis > 0 else _mixes_samples()


def permute(place: Place, labels: Labels) -> list[Labels]:
    """Axes in another order, the samples staying first."""
    order = Permute.of(place.layer).full_order(place.layer, len(place.bottoms[0]))
    if order[0] != 0:
        _mixes_samples()
    return [labels.transpose([axis - 1 for axis in order[1:]])]


def pixel_shuffle(place: Place, labels: Labels) -> list[Labels]:
    """Channels (C, r, r) become blocks of r x r pixels."""
    return _shuffled(place, labels, PixelShuffle.of(place.layer).upscale_factor)


def reorg(place: Place, labels: Labels) -> list[Labels]:
    """Darknet's reorganisation: it reads the bottom as if it had the top's layout, whatever the sizes say.

    With stride s and channels C, darknet's `reorg_cpu` copies bottom[c, h, w] of a blob that it indexes as
    (C/s^2, H*s, W*s), from the place (c mod C/s^2, h*s + c / (C/s^2) / s, w*s + c / (C/s^2) mod s).
    """
    view = Reorg.of(place.layer)
    if view.reverse:
        raise Blocked("its reverse form is not known exactly")
    stride = view.stride
    channels, height, width = labels.shape
    inner = channels // stride**2
    if inner == 0 or channels % stride**2:
        raise Blocked(f"its {channels} channels are no multiple of {stride}x{stride}")
    c, h, w = np.meshgrid(np.arange(channels), np.arange(height), np.arange(width), indexing="ij")
    rows, columns = h * stride + c // inner // stride, w * stride + c // inner % stride
    source = columns + width * stride * (rows + height * stride * (c % inner))
    return [labels.reshape(-1)[source.reshape(-1)].reshape(place.tops[0][1:])]


def reshape(place: Place, labels: Labels) -> list[Labels]:
    """The same order, other axes; the samples must stay the first axis. Intel's form shuffles pixels instead."""
    factor = Reshape.of(place.layer).pixel_shuffle
    return _reshaped(place, labels) if factor == 1 else _shuffled(place, labels, factor)


def shuffle_channel(place: Place, labels: Labels) -> list[Labels]:
    """(group, C/group, ...) transposed to (C/group, group, ...)."""
    group = ShuffleChannel.of(place.layer).group
    return [labels.reshape(group, -1, *labels.shape[1:]).swapaxes(0, 1).reshape(labels.shape)]


def slice_(place: Place, labels: Labels) -> list[Labels]:
    """Consecutive parts along `axis`; all channels of some samples along axis 0."""
    axis = canonical_axis(Slice.of(place.layer).axis, len(place.bottoms[0]))
    if axis == 0:
        return [labels] * len(place.tops)
    stops = np.cumsum([top[axis] for top in place.tops])
    return list(np.split(labels, stops[:-1], axis=axis - 1))


def _shuffled(place: Place, labels: Labels, factor: int) -> list[Labels]:
    channels, height, width = place.tops[0][1:]
    blocks = labels.reshape(channels, factor, factor, height // factor, width // factor)
    return [blocks.transpose(0, 3, 1, 4, 2).reshape(channels, height, width)]


def _reshaped(place: Place, labels: Labels) -> list[Labels]:
    top = place.tops[0]
    return [labels.reshape(top[1:])] if prod(top[1:]) == labels.size else _mixes_samples()


def _mixes_samples() -> list[Labels]:
    raise Blocked("it moves data between samples")
