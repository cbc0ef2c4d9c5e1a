"""How an affine follows elements from blob to blob, step by step.

Each step of `bnfold.algebra.operators` says where elements go; an affine that stands on them goes with them. Forward,
each element takes its scale and shift along. Back, each element of the bottom gets those that stand on its copies,
which must agree; where no copy is, it gets the identity.

An axis along which the affine is constant is not followed at all, so its size may be large or unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from bnfold.algebra.affine import MAX_VALUES, Affine, Values, aligned, compact, constant_along, everywhere, of_rank
from bnfold.algebra.operators import UNKNOWN_SIZE, Axes, Regroup, Spread, Step, Steps, Take
from bnfold.algebra.records import Blocked, require
from bnfold.net import Shape
from bnfold.net import sizes as as_text

CONTRADICTORY = "the sizes that are said of it contradict each other"
"""What numpy finds where a file declares shapes that its layers do not have."""
MIXED = "it mixes values that are scaled or shifted differently"


def forward(steps: Steps, affine: Affine) -> Affine:
    """The affine on what the steps make: `L(A(x)) = A'(L(x))`.

    Raises:
        Blocked: it depends on a size that is unknown or too large.
    """
    scale, shift = affine.scale, affine.shift
    try:
        for step in steps:
            scale, shift = _carried(step, scale), _carried(step, shift)
    except (IndexError, ValueError):
        raise Blocked(CONTRADICTORY) from None
    return Affine(scale, shift)


def sees_nothing(steps: Steps, affine: Affine) -> bool:
    """Whether an affine in front of the steps changes nothing behind them, since they take only other elements.

    Raises:
        Blocked: that depends on a size that is unknown or too large.
    """
    return forward(steps, affine).is_identity


def back(steps: Steps, affine: Affine, *, alone: bool = True) -> Affine:
    """The affine in front of the steps: `A(L(x)) = L(A'(x))`.

    Args:
        steps: the movement from the bottom to one top.
        affine: what stands on that top.
        alone: no other layer reads the bottom, so elements that this top leaves out may be changed or not.

    Raises:
        Blocked: copies of one element are scaled or shifted differently, or a size is unknown or too large.
    """
    scale, shift = affine.scale, affine.shift
    try:
        for step in reversed(steps):
            scale, shift = _brought(step, scale, 1.0, alone), _brought(step, shift, 0.0, alone)
    except (IndexError, ValueError):
        raise Blocked(CONTRADICTORY) from None
    return Affine(scale, shift)


def widened(affine: Affine) -> Iterator[Affine]:
    """The affine with the identity along an axis replaced by what stands elsewhere along it, where that is one thing.

    Given:   k at the steps 1, 2, ... of channel 0, 1 at its step 0 and in all others     Result:  k in channel 0
    """
    scale, shift = aligned(affine.scale, affine.shift)
    scale, shift = np.broadcast_arrays(scale, shift)
    changed = (scale != 1) | (shift != 0)
    varying = [axis for axis in range(scale.ndim) if scale.shape[axis] > 1]
    for axis in varying if len(varying) > 1 else ():
        first = np.expand_dims(changed.argmax(axis), axis)
        wide = [np.take_along_axis(values, first, axis) for values in (scale, shift)]
        if everywhere(~changed | ((scale == wide[0]) & (shift == wide[1]))):
            yield Affine(*wide)


def channels_to_pixels(shape: Shape, block: int, mode: str = "DCR") -> Steps:
    """(N, C*r*r, H, W) to (N, C, H*r, W*r): channel `(i*r + j)*C + c`, or in the mode CRD `(c*r + i)*r + j`, to (i, j).

    Source: ONNX DepthToSpace; CRD is the pixel shuffle of Shi et al. 2016, arXiv:1609.05158.
    """
    n, deep, height, width = shape
    c = deep // block**2
    if mode == "CRD":
        parts, order = (n, c, block, block, height, width), (0, 1, 4, 2, 5, 3)
    else:
        parts, order = (n, block, block, c, height, width), (0, 3, 4, 1, 5, 2)
    plane = (size * block if size >= 0 else UNKNOWN_SIZE for size in (height, width))
    return (Regroup(shape, parts), Axes(order), Regroup((n, c, height, block, width, block), (n, c, *plane)))


def pixels_to_channels(shape: Shape, block: int, mode: str = "DCR") -> Steps:
    """The same backwards, (N, C, H*r, W*r) to (N, C*r*r, H, W): ONNX SpaceToDepth."""
    n, c, *plane = shape
    rows, columns = (size // block if size >= 0 else UNKNOWN_SIZE for size in plane)
    cells, order = (n, c, rows, block, columns, block), (0, 1, 3, 5, 2, 4) if mode == "CRD" else (0, 3, 5, 1, 2, 4)
    moved = tuple(cells[axis] for axis in order)
    return (Regroup(shape, cells), Axes(order), Regroup(moved, (n, c * block**2, rows, columns)))


def _carried(step: Step, values: Values) -> Values:
    match step:
        case Axes(order):
            values = of_rank(values, 1 + max((axis for axis in order if axis is not None), default=-1))
            gone = [axis for axis in range(values.ndim) if axis not in order]
            values = np.squeeze(constant_along(values, gone), tuple(gone))
            kept = sorted(axis for axis in order if axis is not None)
            values = values.transpose([kept.index(axis) for axis in order if axis is not None])
            return np.expand_dims(values, [place for place, axis in enumerate(order) if axis is None])
        case Take(axis, indices, _):
            if axis >= values.ndim or values.shape[axis] == 1:
                return values
            require(step.size >= 0, f"how long axis {axis} is, is unknown")
            return values[(*[slice(None)] * axis, indices)]
        case Spread():
            return values
        case Regroup(before, after, given):
            return _regrouped(values, before, after, given)


def _brought(step: Step, values: Values, outside: float, alone: bool) -> Values:
    match step:
        case Axes(order):
            values = of_rank(values, len(order))
            named = [(axis, place) for place, axis in enumerate(order) if axis is not None]
            new = [place for place, axis in enumerate(order) if axis is None]
            values = np.squeeze(constant_along(values, new), tuple(new))
            present = [place for place in range(len(order)) if place not in new]
            values = values.transpose([present.index(place) for _, place in sorted(named)])
            axes = {axis for axis, _ in named}
            return np.expand_dims(values, [axis for axis in range(max(axes, default=-1) + 1) if axis not in axes])
        case Take():
            return _scattered(step, values, outside, alone)
        case Spread(axis):
            return constant_along(values, (axis,))
        case Regroup(before, after, given):
            return _regrouped(values, after, before, given and given[::-1])


def _scattered(step: Take, values: Values, outside: float, alone: bool) -> Values:
    """Each index of the axis gets what stands on its copies, the identity where there is none."""
    axis, size = step.axis, step.size
    is_constant = axis >= values.ndim or values.shape[axis] == 1
    if is_constant and (alone or everywhere(values == outside)):
        return values
    require(size >= 0, f"how long axis {axis} is, is unknown")
    require(size * values.size <= MAX_VALUES, f"an axis of {size:,} is too long to be followed")
    values = np.moveaxis(of_rank(values, axis + 1), axis, 0)
    result = np.full((size, *values.shape[1:]), outside)
    result[step.indices] = values
    require(everywhere(result[step.indices] == values), MIXED)
    if everywhere(result == result[:1]):
        result = result[:1]
    return np.moveaxis(result, 0, axis)


def _regrouped(values: Values, before: Shape, after: Shape, given: tuple[Shape, Shape] | None = None) -> Values:
    """Values that broadcast over `before` as values that broadcast over `after`.

    Where several axes become one, or one becomes several, `given` supplies sizes that are unknown: the values vary
    along the single axis, so its given size is right. Of the several, the axes of unknown size must be neighbours, and
    the values constant along them.
    """
    same = _named(before) != _named(after) or -1 in before or -1 in after or _known(before) == _known(after)
    require(same, f"{as_text(before)} and {as_text(after)} hold different elements")
    values = compact(of_rank(values, len(before)))
    sizes: list[int] = []
    result: list[int] = []
    alike: list[int] = []
    for old, new in _groups(before, after):
        own = values.shape[old]
        if all(size == 1 for size in own):
            sizes += own
            result += [1] * len(after[new])
        elif len(own) == len(after[new]) == 1 and before[old] == after[new]:
            sizes += own
            result += own
        else:
            full, made = before[old], after[new]
            if min((*full, *made)) < 0:
                unknown = f"how it moves data depends on a size that is unknown, {as_text(before)}"
                require(given is not None and 1 in (len(full), len(made)), unknown)
                several = full if len(made) == 1 else made
                loose = [axis for axis, size in enumerate(several) if size < 0]
                require(not loose or loose[-1] - loose[0] < len(loose), unknown)
                if len(made) == 1:
                    require(all(own[axis] == 1 for axis in loose), unknown)
                else:
                    alike += (len(result) + axis for axis in loose)
                full, made = (one[part] for one, part in zip(given or (), (old, new), strict=True))
                require(min((*full, *made)) >= 0, unknown)
            require(prod(full) == prod(made), f"{as_text(before)} and {as_text(after)} hold different elements")
            sizes += full
            result += made
    require(prod(sizes) <= MAX_VALUES, f"its {as_text(before)} elements are too many to follow one by one")
    values = compact(np.broadcast_to(values, sizes).reshape(result))
    require(
        all(axis >= values.ndim or values.shape[axis] == 1 for axis in alike),
        f"how it moves data depends on a size that is unknown, {as_text(after)}",
    )
    return values


def _groups(before: Shape, after: Shape) -> Iterator[tuple[slice, slice]]:
    """The axes that become each other: as many small groups as the sizes allow, in order.

    A cut is allowed where as many elements lie in front of it on both sides. Behind a size of -1 nobody knows that
    from the front, so the end is cut from the back.
    """
    cuts = {(0, 0), (len(before), len(after)), *_cuts(before, after)}
    cuts |= {(len(before) - i, len(after) - j) for i, j in _cuts(before[::-1], after[::-1])}
    start = (0, 0)
    for cut in sorted(cuts):
        if cut != start and cut[1] >= start[1]:
            yield slice(start[0], cut[0]), slice(start[1], cut[1])
            start = cut


def _cuts(before: Shape, after: Shape) -> Iterator[tuple[int, int]]:
    ends = [_prefixes(before), _prefixes(after)]
    for product in ends[0].keys() & ends[1].keys():
        (first, last), (other_first, other_last) = ends[0][product], ends[1][product]
        yield first, other_first
        yield last, other_last


def _prefixes(shape: Shape) -> dict[tuple[int, ...], tuple[int, int]]:
    """How many elements lie in front -> the first and the last cut with so many in front; named sizes as factors."""
    product, names = 1, []
    prefixes: dict[tuple[int, ...], tuple[int, int]] = {(1,): (0, 0)}
    for position, size in enumerate(shape):
        if size in (-1, 0):
            break
        if size < 0:
            names.append(size)
        else:
            product *= size
        key = (product, *sorted(names))
        prefixes[key] = (prefixes.get(key, (position + 1, 0))[0], position + 1)
    return prefixes


def _named(shape: Shape) -> list[int]:
    """The sizes that are unknown, sorted."""
    return sorted(size for size in shape if size < 0)


def _known(shape: Shape) -> int:
    """The product of the sizes that are known."""
    return prod(size for size in shape if size >= 0)
