"""Weights that a prototxt gives itself: constant and bilinear fillers, which Caffe leaves where a file has none.

    constant    every value is `value`
    bilinear    (1 - |x/f - c|) * (1 - |y/f - c|),   f = ceil(k/2),  c = (2f - 1 - f%2) / (2f)      (filler.hpp)

All other fillers draw random numbers, so they are no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from bnfold.caffe.caffe_pb2 import FillerParameter
from bnfold.caffe.layers import row_of
from bnfold.net import Array, Blobs, Layer, Shape

MAX_VALUES = 1 << 26


def filled(layer: Layer, shapes: Sequence[Shape]) -> Blobs | None:
    """What a layer has in Caffe when nothing is stored for it; None where that is random, or is not said.

    Args:
        layer: without blobs.
        shapes: of the blobs that it needs.
    """
    row = row_of(layer)
    if row is None or not row.fillers or sum(map(prod, shapes)) > MAX_VALUES:
        return None
    names = row.fillers.split(" ")
    if layer.type == "Scale" and len(layer.bottoms) > 1:
        names = names[1:]  # the factor is a bottom
    param = row.parameters(layer)
    # A first filler that is not written is a constant, too, but nobody means it.
    if len(shapes) > len(names) or not param.HasField(names[0]):
        return None
    blobs = [_values(getattr(param, name), shape) for name, shape in zip(names, shapes, strict=False)]
    known = [blob for blob in blobs if blob is not None]
    return Blobs(known) if len(known) == len(shapes) else None


def has_filler(layer: Layer) -> bool:
    """Whether a filler says what the first blob is, once its shape is known."""
    row = row_of(layer)
    if row is None or not row.fillers:
        return False
    param, name = row.parameters(layer), row.fillers.split(" ")[0]
    return param.HasField(name) and getattr(param, name).type in ("constant", "bilinear")


def _values(filler: FillerParameter, shape: Shape) -> Array | None:
    if filler.type == "constant":
        values = np.full(shape, filler.value, np.float32)
    elif filler.type == "bilinear" and len(shape) == 4 and shape[2] == shape[3]:
        size = shape[2]
        factor = ceil(size / 2)
        centre = (2 * factor - 1 - factor % 2) / (2 * factor)
        ramp = 1 - np.abs(np.arange(size) / factor - centre)
        values = np.broadcast_to(np.outer(ramp, ramp).astype(np.float32), shape).copy()
    else:
        return None
    values.flags.writeable = False
    return values
