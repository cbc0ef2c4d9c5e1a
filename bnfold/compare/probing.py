"""Whether two stretches of pointwise nodes are one function, whatever they are written as.

    LeakyRelu(0.1) = PRelu([0.1])        Clip(0, inf) = Relu        BatchNormalization = Mul, Add

Either is run in its own opset on the same numbers: powers of 2 of either sign, what the nodes themselves say (bounds,
slopes, thresholds), a little less and more of that, and what lies between any two of these. Where the functions are
f and g, they are apart by the largest

    abs(f(x) - g(x)) / max over abs(w) <= max(abs(x), 1) of max(abs(f(w)), abs(g(w)))

since what cancels at x was rounded at the size that it has around 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from bnfold.compare.models import Model
from bnfold.errors import ModelError
from bnfold.net import Array, Shape
from bnfold.onnx.pointwise import Stretch, channels_of, numbers_said, shapes_of, stretch_model
from bnfold.runtime import Session, to_host

EXPONENTS = range(-12, 17)  # of the powers of 2
BESIDE = 2.0**-7  # of what is said: so far from it are the numbers in front of and behind it
FEW = 64  # constants up to so many are said as numbers
MOST = 1 << 22  # values that are computed
AXES = 4  # behind the channels

Side = tuple[Model, Stretch, Mapping[str, Array]]
"""A network, a stretch of it, and what is stored of it."""


def apart(one: Side, other: Side) -> float | None:
    """How far two stretches are apart, 1 at most; None where they cannot be run so."""
    sides = [
        (model, stretch, {name: stored[name] for name in stretch.constants & stored.keys()})
        for model, stretch, stored in (one, other)
    ]
    types = {stored.dtype for _, _, held in sides for stored in held.values() if stored.dtype.kind == "f"}
    dtype = types.pop() if len(types) == 1 else np.dtype(np.float32)
    probes, shape = _probes(sides, dtype), _shape(sides)
    if any(stretch.stored - stored.keys() for _, stretch, stored in sides):
        return None
    if shape is None or types or len(probes) * prod(shape) > MOST:
        return None
    along = shape[1:] if shape[:1] == (1,) else shape
    x = np.broadcast_to(probes.reshape(-1, *(1,) * len(along)), (len(probes), *along))
    values = []
    for model, stretch, stored in sides:
        try:
            session = Session(stretch_model(model.proto, stretch, stored, dtype), threads=1)
            values.append(to_host(session.run({stretch.front: x}, [stretch.blob])[stretch.blob]).astype(np.float64))
        except ModelError:
            return None
    return _largest(probes.astype(np.float64), *values) if values[0].shape == values[1].shape == x.shape else None


def _largest(probes: Array, first: Array, second: Array) -> float:
    """The largest distance; what is not finite on either side is equal only to itself."""
    with np.errstate(all="ignore"):
        sizes = np.fmax(np.abs(first), np.abs(second))
        order = np.argsort(np.abs(probes), kind="stable")
        sorted_sizes = np.where(np.isfinite(sizes), sizes, 0)[order]
        reach = np.searchsorted(np.abs(probes)[order], np.maximum(np.abs(probes), 1), side="right") - 1
        size = np.maximum.accumulate(sorted_sizes)[reach]
        distance = np.abs(first - second) / np.where(size > 0, size, 1)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return float(np.where(same, 0, np.where(np.isfinite(distance), np.minimum(distance, 1), 1)).max(initial=0))


def _shape(sides: Sequence[Side]) -> Shape | None:
    """A shape of the blob with which all constants broadcast; None where there is none."""
    channels = set().union(*(channels_of(stretch, stored) for _, stretch, stored in sides))
    shapes = [shape for _, stretch, stored in sides for shape in shapes_of(stretch, stored)]
    tried: list[Shape] = [(1, *channels, *(1,) * axes) for axes in range(AXES)] if channels else [()]
    for shape in tried if len(channels) < 2 else ():
        try:
            whole = np.broadcast_shapes(shape, *shapes)
        except ValueError:
            continue
        if not channels or whole[: len(shape)] == shape:
            return whole
    return None


def _probes(sides: Sequence[Side], dtype: np.dtype[np.generic]) -> Array:
    """The numbers, as the type has them."""
    said = [number for _, stretch, _ in sides for number in numbers_said(stretch.nodes)]
    constants = (stored for _, _, held in sides for stored in held.values() if stored.size <= FEW)
    said += [float(number) for stored in constants if stored.dtype.kind == "f" for number in stored.flat]
    known = np.array([2.0**exponent for exponent in EXPONENTS] + [abs(number) for number in said if number])
    known = np.concatenate([known, known * (1 - BESIDE), known * (1 + BESIDE)])
    known = np.unique(np.concatenate([[0.0], known[np.isfinite(known)]]))
    known = np.unique(np.concatenate([known, (known[1:] + known[:-1]) / 2]))
    with np.errstate(over="ignore"):
        probes = np.concatenate([-known[::-1], known]).astype(dtype)
    return probes[np.isfinite(probes)]
