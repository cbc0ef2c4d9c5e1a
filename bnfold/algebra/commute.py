"""When an affine may change sides with an operator, and what it becomes there: the algebra as a table.

With A an affine and L a layer, each law states when `A(L(x)) = L(A'(x))` holds exactly.

    moving back      Given:  b -> L -> t -> A          Result:  b -> A' -> L -> (A's top)
    moving forward   Given:  A -> t -> L -> u          Result:  t' -> L -> A' -> u

    Pass        the same affine on both sides, if the conditions hold
    Clip        s*min(max(x, a), b) + h = min(max(s*x + h, s*a + h), s*b + h), s >= 0
    Move        the affine goes with the elements
    Join        each bottom has its own part of it
    Sum         s*sum(c*x) + h = c1*(s*x1 + h/c1) + sum(c*(s*x))
                s*(g*x + y) + h = g*(s*x) + (s*y + h) = (s*g)*x + (s*y + h)
    Product     s*(x*y) = (s*x)*y
    Extreme     s*max(x, y) + h = max(s*x + h, s*y + h), s >= 0
    Choice      s*(m ? x : y) + h = m ? s*x + h : s*y + h

`back` and `forward` have a row for each, but for Clip, whose own bounds change with the affine: `clipped_back` and
`clipped_forward`. A law that does not hold raises `Blocked` with the reason. Nothing here looks at the graph or at a
language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from math import isfinite, prod
from typing import TypeVar

import numpy as np

from bnfold.algebra import movement
from bnfold.algebra.affine import MAX_VALUES, Affine, Values, aligned, everywhere
from bnfold.algebra.operators import Choice, Clip, Extreme, Join, Move, Pass, Product, Steps, Sum
from bnfold.algebra.records import Blocked, block, require
from bnfold.algebra.scaled import largest_of, loses_digits

Affines = Sequence[Affine | None]
"""One entry for each bottom (moving back) or top (moving forward); None where nothing has to be done."""

Commuting = Pass | Move | Join | Sum | Product | Extreme | Choice
"""The operators that an affine can get past."""

Laid = TypeVar("Laid", Steps, Steps | None)

NOTHING = Affine()
"""What a bottom carries that carries no affine."""


def back(
    operator: Commuting, affine: Affine, top: int, bottoms: Sequence[str], *, alone: bool = True
) -> Iterable[Affines]:
    """What a layer's bottoms have to carry, so that it carries `affine` on one of its tops.

    Args:
        operator: what the layer is.
        affine: what its top has to carry.
        top: the index of that top.
        bottoms: the names of its bottoms; a blob that is read twice has one name.
        alone: no other layer reads its first bottom, so elements that a Move leaves out may get any affine; else the
            caller asks the others.

    Returns:
        Alternatives, each with an entry for every bottom; the caller takes the first that can be carried out.

    Raises:
        Blocked: nothing passes.
    """
    count = len(bottoms)
    match operator:
        case Pass():
            require(top == 0, "its other tops do not hold values of the channels")
            inside = movement.back(operator.steps, affine)
            if not affine.keeps_zero:
                require(everywhere(np.not_equal(operator.total, 0)), "a shift in front of it vanishes in the mean")
                inside = _weighed(inside, 1 / operator.total)
            return [[_passed(operator, inside), *[None] * (count - 1)]]
        case Move():
            return [[moved, *[None] * (count - 1)] for moved in _moved_back(operator, affine, top, alone)]
        case Join():
            return [[None if part.is_identity else part for part in _parts(operator, affine)]]
        case Sum():
            return _gated_back(operator, affine, bottoms) if operator.gates else _sum_back(operator, affine, bottoms)
        case Product():
            return _product_back(operator, affine, count)
        case Extreme():
            require(affine.keeps_order, "a maximum or minimum needs every scale >= 0")
            return [[movement.back(steps, affine) for steps in laid_over_top(operator.laid, count)]]
        case Choice():
            parts = [affine if index != operator.added else affine.without_shift() for index in range(len(bottoms))]
            return [
                [
                    None if steps is None or part.is_identity else movement.back(steps, part)
                    for steps, part in zip(operator.laid, parts, strict=True)
                ]
            ]


def forward(operator: Commuting, affines: Affines, tops: int) -> Affines:
    """What leaves a layer when `affines` stand on its bottoms, None where there is none: an entry for every top.

    Raises:
        Blocked: they do not pass.
    """
    match operator:
        case Pass():
            first, *others = affines
            if first is None or any(others):
                raise Blocked("it reads something other than the values of this blob")
            outside = _weighed(_passed(operator, first), operator.total)
            return [movement.forward(operator.steps, outside), *[None] * (tops - 1)]
        case Move():
            first = affines[0]
            # A further bottom is read for its shape alone.
            return [first and movement.forward(steps, first) for steps in operator.tops]
        case Join():
            return [_joined(operator, affines)]
        case Sum():
            return [_sum_forward(operator, affines)]
        case Product():
            return [_product_forward(operator, affines)]
        case Extreme():
            same = _same_on_all(_over_top(affines, operator.laid))
            require(same.keeps_order, "a maximum or minimum needs every scale >= 0")
            return [same]
        case Choice():
            chosen = [
                (affine, steps) for affine, steps in zip(affines, operator.laid, strict=True) if steps is not None
            ]
            over = _over_top(*zip(*chosen, strict=True))
            return [_same_on_all(over) if operator.added < 0 else _with_added(*over)]


# Layers that pass an affine unchanged.


def _passed(operator: Pass, affine: Affine) -> Affine:
    """The affine on the bottom, if it fulfils the conditions."""
    block("" if affine.keeps_zero else operator.zero)
    block("" if affine.keeps_order else operator.order)
    block("" if affine.keeps_strict_order else operator.strict)
    block("" if affine.sign else operator.factor)
    try:
        return affine.constant_along(operator.plane)
    except Blocked:
        raise Blocked(movement.MIXED) from None


def _weighed(affine: Affine, total: float | Values) -> Affine:
    """The affine with its shift multiplied by `total`, the sum of the layer's weights."""
    if not isinstance(total, np.ndarray):
        return affine if total == 1 else Affine(affine.scale, affine.shift * total)
    shift, factor = aligned(affine.shift, total)
    return Affine(affine.scale, shift * factor)


# Layers that cut at bounds.


def clipped_back(clip: Clip, affine: Affine) -> Clip:
    """The Clip that cuts `affine(x)` where `clip` cuts x, so that the affine itself may pass.

    `s*min(max(x, a), b) + h` is `min(max(s*x + h, s*a + h), s*b + h)` for s >= 0; for s < 0 the bounds change places.
    """
    turned = everywhere(affine.scale < 0)
    require(turned or affine.keeps_order, "scales of both signs turn its bounds over in some channels")
    low, high = (-clip.high, -clip.low) if turned else (clip.low, clip.high)
    moved = Affine(-affine.scale, affine.shift) if turned else affine
    return clip._replace(low=_bound(low, moved, clip), high=_bound(high, moved, clip))


def clipped_forward(clip: Clip, affine: Affine) -> Clip:
    """The Clip in front of an affine: `min(max(s*x, a), b) = s*min(max(x, a/s), b/s)`.

    A shift h would make a bound `a - h`, in which digits are lost.
    """
    require(affine.keeps_zero, "a shift in front of it would be taken off its bounds, where digits are lost")
    if affine.keeps_order and all(bound == 0 or not isfinite(bound) for bound in (clip.low, clip.high)):
        return clip  # a factor leaves a bound of 0 where it is
    require(everywhere(affine.scale != 0), "a scale of 0 leaves it no bounds")
    return clipped_back(clip, Affine(1 / affine.scale, affine.shift))


def _bound(bound: float, affine: Affine, clip: Clip) -> float:
    """A bound after an affine, which must be the same number for all elements."""
    if not isfinite(bound):
        return bound
    values = affine.scale * bound + affine.shift
    first = float(values.flat[0])
    require(everywhere(values == first), "its bounds are the same for all channels, and would differ")
    storable = abs(first) <= largest_of(clip.dtype) and not loses_digits(abs(first), clip.dtype)
    require(storable, f"its bounds would leave the normal numbers of {np.dtype(clip.dtype)}")
    return first


# Layers that move data.


def _moved_back(operator: Move, affine: Affine, top: int, alone: bool) -> list[Affine | None]:
    """The affine on the bottom; where others read that, also with what the layer leaves out along an axis changed."""
    alone = alone and len(operator.tops) == 1
    moved = movement.back(operator.tops[top], affine, alone=alone)
    others = () if operator.apart else (steps for index, steps in enumerate(operator.tops) if index != top)
    require(all(movement.sees_nothing(steps, moved) for steps in others), "another top shares its channels")
    if moved.is_identity:
        return [None]
    wider = [] if alone or len(operator.tops) > 1 else movement.widened(moved)
    return [moved, *(wide for wide in wider if movement.forward(operator.tops[top], wide).equals(affine))]


# Layers that join several bottoms.


def _parts(operator: Join, affine: Affine) -> Iterator[Affine]:
    """The part of an affine on the top that belongs to each bottom."""
    scale, shift = aligned(affine.scale, affine.shift)
    axis = operator.axis
    if axis >= scale.ndim or scale.shape[axis] == shift.shape[axis] == 1:
        yield from [affine] * len(operator.sizes)
        return
    known = [size for size in operator.sizes if size >= 0]
    rest = max(scale.shape[axis], shift.shape[axis]) - sum(known)  # what a single bottom of unknown length has
    is_known = len(known) + (rest > 0) >= len(operator.sizes)
    require(is_known, f"how long its bottoms are along axis {axis} is unknown")
    for start, stop in pairwise(np.cumsum([0, *(size if size >= 0 else rest for size in operator.sizes)])):
        part = (*[slice(None)] * axis, slice(start, stop))
        yield Affine(*(values[part] if values.shape[axis] > 1 else values for values in (scale, shift)))


def _joined(operator: Join, affines: Affines) -> Affine:
    """The affines one behind the other, the identity where there is none."""
    carried = [(index, affine) for index, affine in enumerate(affines) if affine]
    first, axis = carried[0][1], operator.axis
    alike = all(first.equals(other) for other in _distinct(affine for _, affine in carried))
    if alike and len(carried) == len(operator.sizes) and (axis >= len(first.shape) or first.shape[axis] == 1):
        return first
    require(
        min(operator.sizes) >= 0, "its bottoms carry different affines, and how long they are along its axis is unknown"
    )
    both = [values for _, affine in carried for values in (affine.scale, affine.shift)]
    arrays = aligned(np.empty((1,) * (axis + 1)), *both)[1:]
    parts = [*zip(arrays[::2], arrays[1::2], strict=True)]
    shapes = [(*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in chain.from_iterable(parts)]
    common, stops = np.broadcast_shapes(*shapes), np.cumsum((0, *operator.sizes))
    require(prod(common) * stops[-1] <= MAX_VALUES, "an affine of so many values is too large")
    scale = np.ones((*common[:axis], stops[-1], *common[axis + 1 :]))
    shift = np.zeros(scale.shape)
    for (index, _), part in zip(carried, parts, strict=True):
        own = (*[slice(None)] * axis, slice(*stops[index : index + 2]))
        scale[own], shift[own] = part
    return Affine(scale, shift)


def _distinct(affines: Iterable[Affine]) -> Iterable[Affine]:
    """Each object once, so that many bottoms that carry nothing are compared once."""
    return {id(affine): affine for affine in affines}.values()


def _sum_back(operator: Sum, affine: Affine, bottoms: Sequence[str]) -> Iterator[Affines]:
    """`s*sum(c*x) + h = c1*(s*x1 + h/c1) + sum(c*(s*x))`; a blob whose every c is 0 does not matter.

    A blob that is read several times has the sum of its coefficients as c1, and is changed for each of its readings.
    """
    laid = laid_over_top(operator.laid, len(bottoms))
    scaled, coefficients = affine.without_shift(), operator.coefficients
    matters = {bottom for bottom, c in zip(bottoms, coefficients, strict=True) if c != 0 and not scaled.is_identity}
    everyone = [
        movement.back(steps, scaled) if bottom in matters else None for bottom, steps in zip(bottoms, laid, strict=True)
    ]
    if affine.keeps_zero:
        yield everyone
        return
    totals = dict.fromkeys(bottoms, 0.0)
    for bottom, c in zip(bottoms, coefficients, strict=True):
        totals[bottom] += c
    require(any(totals.values()), "a sum whose coefficients cancel takes no shift")
    for chosen, total in totals.items():
        if total != 0:
            shifted = Affine(affine.scale, affine.shift / total)
            with suppress(Blocked):  # a bottom that is spread where the shift varies
                yield [
                    movement.back(steps, shifted) if bottom == chosen else part
                    for bottom, steps, part in zip(bottoms, laid, everyone, strict=True)
                ]


def _gated_back(operator: Sum, affine: Affine, bottoms: Sequence[str]) -> Iterator[Affines]:
    """`s*(g*x + y) + h = g*(s*x) + (s*y + h) = (s*g)*x + (s*y + h)`: a shift goes to what no gate multiplies."""
    laid, scaled = laid_over_top(operator.laid, len(bottoms)), affine.without_shift()
    summands = [index for index, c in enumerate(operator.coefficients) if c != 0]
    free = [index for index in summands if operator.gates[index] is None]
    require(len(set(bottoms)) == len(bottoms), "a gated sum that reads a blob twice takes nothing")
    require(bool(free) or affine.keeps_zero, "a product takes a scale, but no shift")
    for takers in (summands, {index if operator.gates[index] is None else operator.gates[index] for index in summands}):
        for shifted in free if not affine.keeps_zero else [None]:
            with suppress(Blocked):  # a bottom that is spread where the affine varies
                yield [
                    movement.back(steps, Affine(affine.scale, affine.shift / operator.coefficients[index]))
                    if index == shifted
                    else movement.back(steps, scaled)
                    if index in takers and not scaled.is_identity
                    else None
                    for index, steps in enumerate(laid)
                ]


def _sum_forward(operator: Sum, affines: Affines) -> Affine | None:
    """One scale on all bottoms, and any shifts; with a gate the two scales multiply, and neither may shift."""
    present = [affine or NOTHING for affine in _over_top(affines, operator.laid)]
    for index, gate in enumerate(operator.gates):
        if gate is not None:
            both = present[index].keeps_zero and present[gate].keeps_zero
            require(both, "a gate lets a scale pass, but no shift")
            present[index] = present[index].then(present[gate])
    counted = [(affine, c) for affine, c in zip(present, operator.coefficients, strict=True) if c != 0]
    if not counted:
        return None
    first = counted[0][0].without_shift()
    alike = all(first.equals(affine.without_shift()) for affine in _distinct(affine for affine, _ in counted))
    require(alike, "a sum needs the same scale on all its bottoms")
    first_shift, *shifts = aligned(*(c * affine.shift for affine, c in counted if affine is not NOTHING), NOTHING.shift)
    return Affine(first.scale, sum(shifts, start=first_shift))


def _product_back(operator: Product, affine: Affine, count: int) -> Iterator[Affines]:
    """`s*(x*y) = (s*x)*y = x*(s*y)`: one of them takes the factor."""
    require(affine.keeps_zero, "a product takes a scale, but no shift")
    for chosen, steps in enumerate(laid_over_top(operator.laid, count)):
        if steps is not None:
            with suppress(Blocked):  # a bottom that is spread where the scale varies
                moved = movement.back(steps, affine)
                yield [moved if index == chosen else None for index in range(count)]


def _product_forward(operator: Product, affines: Affines) -> Affine:
    """`(s*x)*(u*y) = s*u*(x*y)`."""
    require(all(affine is None or affine.keeps_zero for affine in affines), "a product lets a scale pass, but no shift")
    product = Affine()
    for affine, steps in zip(affines, laid_over_top(operator.laid, len(affines)), strict=True):
        if affine is not None:
            if steps is None:
                raise Blocked("its product is not linear in this blob")
            product = product.then(movement.forward(steps, affine))
    return product


def laid_over_top(laid: Sequence[Laid], count: int) -> Sequence[Laid]:
    """How each bottom is laid over the top, as many as `count`; where an operator has no `laid`, all have its shape."""
    return laid or ((),) * count


def _over_top(affines: Affines, laid: Sequence[Steps]) -> Affines:
    """Each bottom's affine as it lies over the top."""
    return [
        affine and movement.forward(steps, affine)
        for affine, steps in zip(affines, laid_over_top(laid, len(affines)), strict=True)
    ]


def _with_added(there: Affine | None, added: Affine | None) -> Affine | None:
    """The affine behind what is added to some elements of a blob: `(s*x + h) + s*u = s*(x + u) + h`."""
    scale = (there or NOTHING).without_shift()
    require((added or NOTHING).equals(scale), "what it adds does not carry the same scale, without a shift")
    return there


def _same_on_all(affines: Affines) -> Affine:
    first, *others = affines
    if first is None or not all(other is not None and first.equals(other) for other in others):
        raise Blocked("its other bottoms do not carry the same affine")
    return first
