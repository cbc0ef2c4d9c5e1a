"""Whether two stretches of pointwise nodes are one function, whatever they are written as.

    LeakyRelu(0.1) = PRelu([0.1])        Clip(0, inf) = Relu        BatchNormalization = Mul, Add

Either is run in its own opset on the same numbers: powers of 2 of either sign, what the nodes themselves say (bounds,
slopes, thresholds), a little less and more of that, and what lies between any two of these. Where the functions are
f and g, they are apart by the largest

    abs(f(x) - g(x)) / max over abs(w) <= max(2*abs(x), 1) of max(abs(f(w)), abs(g(w)))

since what cancels at x was rounded at the size that it has around 0, or behind x where a Relu begins there.

Of stretches in front of or behind a layer that computes otherwise in the two, a fold may have moved an affine into that
layer. Then they are held against each other but for an affine, see `bent` and `bounded_otherwise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from bnfold.compare.kernels import alike
from bnfold.compare.models import Model
from bnfold.errors import ModelError
from bnfold.net import Array, Shape
from bnfold.onnx.pointwise import JUMPING, Stretch, channels_of, numbers_said, shapes_of, stretch_model
from bnfold.runtime import Session, to_host

EXPONENTS = range(-12, 17)  # of the powers of 2
BESIDE = 2.0**-7  # of what is said: so far from it are the numbers in front of and behind it
FEW = 64  # constants up to so many are said as numbers
MOST = 1 << 22  # values that are computed
AXES = 4  # behind the channels
STILL = 1e-3  # of a value: where the largest numbers change it by less, it has come to its end

Side = tuple[Model, Stretch, Mapping[str, Array]]
"""A network, a stretch of it, and what is stored of it."""


def apart(probes: Array, first: Array, second: Array) -> float:
    """How far two stretches are apart, 1 at most; what is not finite on either side is equal only to itself."""
    with np.errstate(all="ignore"):
        sizes = np.fmax(np.abs(first), np.abs(second))
        order = np.argsort(np.abs(probes), kind="stable")
        sorted_sizes = np.where(np.isfinite(sizes), sizes, 0)[order]
        reach = np.searchsorted(np.abs(probes)[order], np.maximum(2 * np.abs(probes), 1), side="right") - 1
        size = np.maximum.accumulate(sorted_sizes)[reach]
        distance = np.abs(first - second) / np.where(size > 0, size, 1)
    return float(
        np.where(alike(first, second), 0, np.where(np.isfinite(distance), np.minimum(distance, 1), 1)).max(initial=0)
    )


def bent(probes: Array, first: Array, second: Array) -> float:
    """How far two stretches of one blob are from `f = a*g + b` in each channel, of the largest value, 1 at most.

    An affine may be moved into the layer behind them, and nothing else may. So it is 1 where a number around 0, at
    which no affine overflows, is finite in one of them alone: x and x*x/x differ at 0.
    """
    first, second = _by_channel(first), _by_channel(second)
    sound = np.isfinite(first) & np.isfinite(second)
    near = np.abs(probes) <= 1  # beside the largest numbers nothing shows that is 1 off where one is 0
    if (np.isfinite(first) != np.isfinite(second))[near].any():
        return 1.0
    parts = (part for s in sound.T for part in (s, s & near))
    columns = zip(np.repeat(first.T, 2, axis=0), np.repeat(second.T, 2, axis=0), parts, strict=True)
    return max((min(_residual(f[s], g[s]), _residual(g[s], f[s])) for f, g, s in columns if s.any()), default=0.0)


def bent_across(probes: Array, first: Array, second: Array) -> float:
    """The same of stretches in front of and behind a layer that gives one of its values at each place, taken as one.
    Of the largest or the smallest that is right if they fall nowhere; 1 where they do.
    """
    falls = any(np.any(values[1:] < values[:-1]) for values in (first, second))
    return 1.0 if falls else bent(probes, first, second)


def bounded_otherwise(_: Array, first: Array, second: Array, *, is_read: bool = False) -> float:
    """How far what two stretches make of far numbers is apart at either end, of the larger one, 1 at most.

    It is the same, perhaps with the ends exchanged, whatever affine has been moved in front of one of them. Where a
    layer reads what they make (`is_read`), an affine may have been moved into that, too; then only how many of the ends
    are bounded is the same.
    """
    ours, theirs = (np.sort(_limits(_by_channel(values)), axis=0) for values in (first, second))
    with np.errstate(all="ignore"):
        sizes = np.maximum(np.abs(ours).max(axis=0), np.abs(theirs).max(axis=0))
        distance = np.where(ours == theirs, 0, np.abs(ours - theirs) / np.where(np.isfinite(sizes), sizes, 1))
    if is_read:
        distance = np.not_equal(*(np.isfinite(ends).sum(axis=0) for ends in (ours, theirs))).astype(np.float64)
    # What is one number throughout, or none, tells nothing of what stands in front of it.
    varies = [(one[0] != one[1]) | np.isinf(one[0]) for one in (ours, theirs)]
    with np.errstate(invalid="ignore"):  # of either infinity
        tells = varies[0] & varies[1] & ~np.isnan(ours + theirs).all(axis=0)
    return float(np.minimum(np.where(tells & ~np.isnan(distance), distance, 0), 1).max(initial=0))


class Jump(NamedTuple):
    """`x` beyond a limit and 0 elsewhere: ThresholdedRelu's, or, if it is even, Shrink's of bias 0."""

    limit: float
    is_even: bool


def jump_of(side: Side) -> Jump | None:
    """The gate that a stretch is, whose limit is one of its constants; None where it is none that jumps."""
    model, stretch, stored = side
    made = probed(side, (model, Stretch((), stretch.front, stretch.front), {}))
    if made is None:
        return None
    _, values, x = made
    for limit in {float(held.item()) for held in stored.values() if held.size == 1}:
        for is_even in (False, True) if limit > 0 else (False,):
            beyond = (np.abs(x) if is_even else x) > limit
            if limit and np.all((values == np.where(beyond, x, 0)) | (np.abs(x) == abs(limit))):
                return Jump(limit, is_even)
    return None


def _limits(values: Array) -> Array:
    """What becomes of either end; infinite where it still grows there. The numbers are those of `_far`."""
    ends = []
    for end, before in ((values[0], values[1]), (values[-1], values[-2])):
        with np.errstate(all="ignore"):
            grows = ~(np.abs(end - before) <= STILL * np.maximum(np.abs(end), np.abs(before)))
            ends.append(np.where(np.isfinite(end) & grows, np.copysign(np.inf, end - before), end))
    return np.stack(ends)


def _residual(f: Array, g: Array) -> float:
    """How far f is from what two of its values make of g, of its largest value."""
    low, high = g.argmin(), g.argmax()
    size, step = np.abs(f).max(), g[high] - g[low]
    with np.errstate(all="ignore"):
        slope = (f[high] - f[low]) / step if step else 0.0
        left = np.abs(f - f[low] - slope * (g - g[low])).max()
    return float(min(1.0, left / size)) if size > 0 and np.isfinite(left) else 0.0


def _by_channel(values: Array) -> Array:
    """What a stretch makes, (numbers, values)."""
    return values.reshape(len(values), -1)


def probed(*pair: Side, far: bool = False) -> tuple[Array, Array, Array] | None:
    """Numbers, or far ones alone, and in float64 what two stretches make of each; None where they cannot be run so."""
    sides = [
        (model, stretch, {name: stored[name] for name in stretch.constants & stored.keys()})
        for model, stretch, stored in pair
    ]
    dtypes = {stored.dtype for _, _, held in sides for stored in held.values()}
    reals, whole = ([one for one in dtypes if one.kind in kinds] for kinds in ("f", "iu"))
    shape = _shape(sides)
    if any(stretch.stored - stored.keys() for _, stretch, stored in sides) or shape is None or len(reals) > 1:
        return None
    for dtype in (*(reals or [np.dtype(np.float32)]), *(whole if not reals and len(whole) == 1 else ())):
        probes = _far(dtype) if far else _probes(sides, dtype)
        if len(probes) * prod(shape) > MOST:
            return None
        along = shape[1:] if shape[:1] == (1,) else shape
        x = np.broadcast_to(probes.reshape(-1, *(1,) * len(along)), (len(probes), *along))
        try:
            first, second = (_made_by(model, stretch, stored, x).astype(np.float64) for model, stretch, stored in sides)
        except ModelError:  # with whole numbers among its constants it may be one of these
            continue
        return (probes.astype(np.float64), first, second) if first.shape == second.shape == x.shape else None
    return None


def _made_by(model: Model, stretch: Stretch, stored: Mapping[str, Array], x: Array) -> Array:
    if not stretch.nodes:
        return x
    session = Session(stretch_model(model.proto, stretch, stored, x.dtype), threads=1)
    return to_host(session.run({stretch.front: x}, [stretch.blob])[stretch.blob])


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


def _far(dtype: np.dtype[np.generic]) -> Array:
    """Numbers that lie beyond all that is said, two of either sign."""
    largest = 2.0 ** (100 if dtype.kind == "f" else 8 * dtype.itemsize - 2)
    largest = 2.0**15 if dtype == np.float16 else largest
    return np.array([-largest, -largest / 2, largest / 2, largest]).astype(dtype)


def _probes(sides: Sequence[Side], dtype: np.dtype[np.generic]) -> Array:
    """The numbers, as the type has them."""
    said = [number for _, stretch, _ in sides for number in numbers_said(stretch.nodes)]
    constants = (stored for _, _, held in sides for stored in held.values() if stored.size <= FEW)
    said += [float(number) for stored in constants if stored.dtype.kind in "fiu" for number in stored.flat]
    powers, numbers = (np.array(one) for one in ([2.0**one for one in EXPONENTS], [abs(one) for one in said if one]))
    jumps = any(node.op_type in JUMPING for _, stretch, _ in sides for node in stretch.nodes)
    at = powers if jumps else np.concatenate([powers, numbers])  # at a jump itself, rounding decides
    known = np.concatenate([powers, numbers])
    known = np.concatenate([at, known * (1 - BESIDE), known * (1 + BESIDE)])
    known = np.unique(np.concatenate([[0.0], known[np.isfinite(known)]]))
    known = np.unique(np.concatenate([known, (known[1:] + known[:-1]) / 2]))
    if dtype.kind != "f":
        known = np.unique(np.concatenate([np.rint(known), *(np.rint(numbers) + step for step in (-1, 0, 1))]))
        both, info = np.concatenate([-known[::-1], known]), np.iinfo(dtype.name)
        return both[(both >= info.min) & (both <= info.max)].astype(dtype)
    with np.errstate(over="ignore"):
        probes = np.concatenate([-known[::-1], known]).astype(dtype)
    return probes[np.isfinite(probes)]
