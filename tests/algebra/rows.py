"""What the tests of single rows share: a layer for bnfold, the same layer for the oracle, and affines of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import reference
from google.protobuf import text_format

from bnfold.algebra import absorb
from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Linear, Opaque, Operator
from bnfold.algebra.records import Blocked
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.frontend import CAFFE
from bnfold.caffe.layers import output_shapes
from bnfold.net import Blobs, Layer, Net, Shape

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


def context_of(layer: Layer, bottoms: Sequence[Shape | None], **said: Any) -> FoldContext:
    """The layer alone in a net, between blobs of the shapes that bnfold infers."""
    known = [bottom for bottom in bottoms if bottom is not None]
    tops = output_shapes(layer, known) if len(known) == len(bottoms) else [None] * len(layer.tops)
    assert tops is not None
    shapes = {**dict(zip(layer.bottoms, bottoms, strict=True)), **dict(zip(layer.tops, tops, strict=True))}
    return FoldContext(Net("alone", [layer], {}), shapes, **said)


def operator_of(layer: Layer, bottoms: Sequence[Shape | None]) -> Operator:
    """What the layer is to the laws.

    Raises:
        Blocked: nothing passes it, with the reason.
    """
    operator = CAFFE.operator(layer, context_of(layer, bottoms))
    if isinstance(operator, Opaque):
        raise Blocked(operator.reason)
    return operator


def absorb_backward(layer: Layer, bottoms: Sequence[Shape | None], affine: Affine) -> Layer:
    """The layer with an affine from behind in it."""
    operator = operator_of(layer, bottoms)
    assert isinstance(operator, Linear)
    changed = replace(layer)
    CAFFE.absorb(Net("alone", [changed], {}), changed, *absorb.absorb_backward(operator, affine)[:2])
    return changed


def absorb_forward(layer: Layer, bottoms: Sequence[Shape | None], affine: Affine) -> Layer:
    """The layer with an affine from in front in it."""
    operator = operator_of(layer, bottoms)
    assert isinstance(operator, Linear)
    changed = replace(layer)
    CAFFE.absorb(Net("alone", [changed], {}), changed, *absorb.absorb_forward(operator, affine)[:2])
    return changed


def run(text: str, bottoms: Sequence[Array], tops: int = 1, blobs: Sequence[Array] = ()) -> list[Array]:
    """What the oracle says that the layer computes, in float64."""
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    return reference.forward(reference.layer(f"{text} {names}"), bottoms, blobs)


def applied(affine: Affine | None, blob: Array) -> Array:
    """`scale*x + shift`, both aligned with the first axis of x; None does nothing."""
    if affine is None:
        return blob
    scale, shift = (
        values.reshape(values.shape + (1,) * (blob.ndim - values.ndim)) for values in (affine.scale, affine.shift)
    )
    return np.asarray(scale * blob + shift)


def channel_affine(scale: npt.ArrayLike, shift: npt.ArrayLike, channels: int) -> Affine:
    """One value for each channel, from values that broadcast over them."""
    return Affine.along(1, np.broadcast_to(scale, channels), np.broadcast_to(shift, channels))


def take(affine: Affine, channels: npt.NDArray[np.intp] | slice) -> Affine:
    """The affine of the chosen channels, in their order."""
    scale, shift = np.broadcast_arrays(affine.scale, affine.shift)
    return Affine.along(1, scale.reshape(-1)[channels], shift.reshape(-1)[channels])


def channels_of(affine: Affine) -> int:
    """How many channels an affine is of."""
    return affine.shape[1] if len(affine.shape) > 1 else 1


def difference(one: Sequence[Array], other: Sequence[Array]) -> float:
    """The largest difference of two lists of blobs, relative to the largest value."""
    assert [blob.shape for blob in one] == [blob.shape for blob in other]
    largest = max(float(np.abs(blob).max()) for blob in one)
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)) / max(largest, 1e-300)


def signed(rng: Rng, shape: Shape) -> Array:
    """Values of both signs around 1, all distinct."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def mask_and_values(rng: Rng) -> list[Array]:
    """A plane of 3x3 and distinct places for it in one of 6x6."""
    places = np.stack([np.sort(rng.permutation(36)[:9]).reshape(3, 3) for _ in range(8)])
    return [signed(rng, (2, 4, 3, 3)), places.reshape(2, 4, 3, 3).astype(np.float64)]


def distinct(rng: Rng, count: int) -> Array:
    """Positive values that differ from each other by a tenth at least."""
    return rng.permutation(0.5 + 0.2 * np.arange(count) + rng.uniform(0, 0.1, count))


# Kinds of affine, by what the predicates say of them.


def any_affine(rng: Rng, channels: int) -> Affine:
    """Both signs of scale, and shifts."""
    scale = distinct(rng, channels) * np.resize([-1.0, 1.0], channels)
    return Affine.along(1, scale, distinct(rng, channels) * rng.choice([-1.0, 1.0], channels))


def shift(rng: Rng, channels: int) -> Affine:
    """A shift, and no factor."""
    return Affine(shift=any_affine(rng, channels).shift)


def keeps_zero(rng: Rng, channels: int) -> Affine:
    """Both signs of scale, no shift."""
    return any_affine(rng, channels).without_shift()


def keeps_order(rng: Rng, channels: int) -> Affine:
    """No negative scale, one that is 0, and shifts."""
    affine = keeps_strict_order(rng, channels)
    affine.scale.reshape(-1)[rng.integers(channels)] = 0.0
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
    return take(any_affine(rng, 1), np.zeros(channels, np.intp))
