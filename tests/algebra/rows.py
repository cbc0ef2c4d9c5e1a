"""What the tests of single rows share: a layer for bnfold, the same layer for the oracle, and affines of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import reference
from google.protobuf import text_format

from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Place
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers import output_shapes
from bnfold.net import Blobs, Layer, Shape

Array = npt.NDArray[np.float64]
Rng = np.random.Generator
Kind = Callable[[Rng, int], Affine]
"""Makes an affine of so many channels."""


def layer_of(text: str, bottoms: int = 1, tops: int = 1, blobs: Sequence[npt.NDArray[Any]] = ()) -> Layer:
    """The inside of a `layer { ... }` as a layer 'x' that reads b0, b1, ... and writes t0, t1, ..."""
    param = text_format.Parse(text, LayerParameter())
    return Layer(
        "x", param.type, [f"b{i}" for i in range(bottoms)], [f"t{i}" for i in range(tops)], Blobs(blobs), param
    )


def place_of(layer: Layer, bottoms: Sequence[Shape]) -> Place:
    """The layer between blobs of the shapes that bnfold infers."""
    tops = output_shapes(layer, bottoms)
    assert tops is not None
    return Place(layer, dict(zip(layer.bottoms, bottoms, strict=True)) | dict(zip(layer.tops, tops, strict=True)))


def run(text: str, bottoms: Sequence[Array], tops: int = 1, blobs: Sequence[Array] = ()) -> list[Array]:
    """What the oracle says that the layer computes, in float64."""
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    return reference.forward(reference.layer(f"{text} {names}"), bottoms, blobs)


def applied(affine: Affine | None, blob: Array) -> Array:
    """`scale*x + shift` along axis 1; None does nothing."""
    if affine is None:
        return blob
    column = (-1, *[1] * (blob.ndim - 2))
    return affine.scale.reshape(column) * blob + affine.shift.reshape(column)


def difference(one: Sequence[Array], other: Sequence[Array]) -> float:
    """The largest difference of two lists of blobs, relative to the largest value."""
    assert [blob.shape for blob in one] == [blob.shape for blob in other]
    largest = max(float(np.abs(blob).max()) for blob in one)
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)) / max(largest, 1e-300)


def signed(rng: Rng, shape: Shape) -> Array:
    """Values of both signs around 1, all distinct."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(rng: Rng, count: int) -> Array:
    """Positive values that differ from each other by a tenth at least."""
    return rng.permutation(0.5 + 0.2 * np.arange(count) + rng.uniform(0, 0.1, count))


# Kinds of affine, by what the predicates say of them.


def any_affine(rng: Rng, channels: int) -> Affine:
    """Both signs of scale, and shifts."""
    scale = distinct(rng, channels) * np.resize([-1.0, 1.0], channels)
    return Affine(scale, distinct(rng, channels) * rng.choice([-1.0, 1.0], channels))


def keeps_zero(rng: Rng, channels: int) -> Affine:
    """Both signs of scale, no shift."""
    return any_affine(rng, channels).without_shift()


def keeps_order(rng: Rng, channels: int) -> Affine:
    """No negative scale, one that is 0, and shifts."""
    affine = keeps_strict_order(rng, channels)
    affine.scale[rng.integers(channels)] = 0.0
    return affine


def keeps_strict_order(rng: Rng, channels: int) -> Affine:
    """Positive scales, and shifts."""
    affine = any_affine(rng, channels)
    return Affine(np.abs(affine.scale), affine.shift)


def keeps_both(rng: Rng, channels: int) -> Affine:
    """No negative scale, one that is 0, no shift."""
    return keeps_order(rng, channels).without_shift()


def uniform(rng: Rng, channels: int) -> Affine:
    """One negative scale and one shift for all channels."""
    return any_affine(rng, 1).repeat(channels)
