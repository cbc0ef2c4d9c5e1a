"""The layers that let an affine pass, and what it becomes on the other side: the algebra as a table.

With A an affine and L a layer, each row of `COMMUTE` states when `A(L(x)) = L(A'(x))` holds exactly.

    moving back      Given:  b -> L -> t -> A          Result:  b -> A' -> L -> (A's top)
    moving forward   Given:  A -> t -> L -> u          Result:  t' -> L -> A' -> u

There are three kinds of row. A layer that *passes* an affine has the same one on both sides, if a predicate holds. A
layer that *moves* data copies each input element to some places and computes nothing, so an affine passes when it
treats alike all channels that the movement mixes. A layer that *joins* several bottoms has laws of its own.

A row that does not hold raises `Blocked` with the reason. Nothing here looks at the graph: shapes and parameters only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Affine
from bnfold.algebra.movement import (
    Labels,
    crop,
    flatten,
    permute,
    pixel_shuffle,
    reorg,
    reshape,
    shuffle_channel,
    slice_,
)
from bnfold.algebra.records import Blocked
from bnfold.caffe.layers import UNKNOWN, Concat, Eltwise, Pooling, Scale, canonical_axis, sizes
from bnfold.net import Layer, Shape

Moved = Sequence[Affine | None]
"""One entry for each bottom (moving back) or top (moving forward); None where nothing has to be done."""


MOST_MOVED = 1 << 24
"""Elements of a sample that are followed through a layer, 8 bytes each; a text may claim 2^31."""


class Place(NamedTuple):
    """A layer with the shapes around it: all that a law may look at.

    A law that needs a shape which is not known (an opaque layer stands in front) raises `Blocked`.
    """

    layer: Layer
    shapes: Mapping[str, Shape | None]

    @property
    def bottoms(self) -> tuple[Shape, ...]:
        """The shapes of what the layer reads."""
        return tuple(map(self._known, self.layer.bottoms))

    @property
    def tops(self) -> tuple[Shape, ...]:
        """The shapes of what the layer writes."""
        return tuple(map(self._known, self.layer.tops))

    def _known(self, blob: str) -> Shape:
        shape = self.shapes.get(blob)
        if shape is None:
            raise Blocked(f"the shape of '{blob}' is unknown")
        return shape


class Law(NamedTuple):
    """One row of the table.

    Attributes:
        back: (place, affine, index of the top it stands on) -> alternatives, each an entry for every bottom; the
            first alternative that can be carried out is taken.
        forward: (place, the affine on each bottom or None) -> an entry for every top.
        says: the law in one line.
    """

    back: Callable[[Place, Affine, int], Iterable[Moved]]
    forward: Callable[[Place, Moved], Moved]
    says: str


def require(holds: bool, reason: str) -> None:
    """Block with `reason` unless the condition holds."""
    if not holds:
        raise Blocked(reason)


# Layers that pass an affine unchanged, each as the condition for it.


def rectifier(_: Place, affine: Affine) -> None:
    """`max(x, 0) + slope*min(x, 0)` is linear on each side of its knee, which a positive factor leaves in place."""
    require(affine.keeps_zero, "a shift moves the knee")
    require(affine.keeps_order, "a negative scale turns it over")


def pooling(place: Place, affine: Affine) -> None:
    """MAX needs order kept; a padded AVE counts zeros that it does not sum, so it needs zero kept."""
    pool = Pooling.of(place.layer, place.bottoms[0])
    require(pool.windows_never_empty, "a window of it lies outside the image, and what it gives then is no average")
    if pool.method == "MAX":
        require(affine.keeps_order, "MAX pooling needs every scale >= 0")
        if len(place.tops) > 1:
            require(affine.keeps_strict_order, "MAX pooling with a mask needs every scale > 0")
    elif pool.method == "AVE":
        counted = any(pool.pad) and pool.counts_padding
        require(affine.keeps_zero or not counted, "padded AVE pooling needs every shift == 0")
    else:
        raise Blocked(f"{pool.method} pooling is no fixed function")


def interpolation(_: Place, affine: Affine) -> None:
    """Each output is a weighted mean of inputs, weights summing to 1; its pads only crop."""
    del affine


def upsample(place: Place, affine: Affine) -> None:
    """Nearest repeats each pixel; by a pooling mask it writes zeros wherever the mask does not point."""
    require(len(place.bottoms) == 1 or affine.keeps_zero, "upsampling by a mask writes zeros, so every shift must be 0")


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").partition("\n")[0]


def passes(condition: Callable[[Place, Affine], None]) -> Law:
    """The law of a layer with the same affine on its first bottom and on its first top."""

    def back(place: Place, affine: Affine, top: int) -> Iterable[Moved]:
        require(top == 0, "its other tops are no values of the channels")
        condition(place, affine)
        return [[affine, *[None] * (len(place.bottoms) - 1)]]

    def forward(place: Place, affines: Moved) -> Moved:
        first, *others = affines
        require(first is not None and not any(others), "it reads this blob for something else than its values")
        assert first is not None
        condition(place, first)
        return [first, *[None] * (len(place.tops) - 1)]

    return Law(back, forward, _first_line(condition))


# Layers that move data.


def moves(movement: Callable[[Place, Labels], list[Labels]]) -> Law:
    """The law of a layer that copies elements: channels that it mixes must be treated alike.

    `movement` carries the channel numbers of one sample, shape `bottom[1:]`, to every top, which pairs each channel
    of a top with the channels of the bottom that reach it.
    """

    def pairs(place: Place) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        bottom = place.bottoms[0]
        require(len(bottom) >= 2, "its bottom has no channel axis")
        for shape in (bottom, *place.tops):
            require(UNKNOWN not in shape[1:], f"how it moves data depends on a size that is unknown, {sizes(shape)}")
            require(prod(shape[1:]) <= MOST_MOVED, f"its {sizes(shape)} elements are too many to follow one by one")
        labels = np.broadcast_to(np.arange(bottom[1]).reshape(-1, *[1] * (len(bottom) - 2)), bottom[1:])
        return [_distinct_pairs(moved) for moved in movement(place, labels)]

    def back(place: Place, affine: Affine, top: int) -> Iterable[Moved]:
        by_top = pairs(place)
        source, target = by_top[top]
        for index, (other, _) in enumerate(by_top):
            require(index == top or not np.intersect1d(source, other).size, "another top shares its channels")
        moved = _carried(affine, target, source, place.bottoms[0][1])
        return [[moved, *[None] * (len(place.bottoms) - 1)]]

    def forward(place: Place, affines: Moved) -> Moved:
        first = affines[0]
        if first is None:
            # A further bottom is read for its shape alone.
            return [None] * len(place.tops)
        return [
            _carried(first, source, target, shape[1])
            for (source, target), shape in zip(pairs(place), place.tops, strict=True)
        ]

    return Law(back, forward, f"moves data: {_first_line(movement)}")


def _distinct_pairs(moved: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(channel of the bottom, channel of the top) for every pair that the movement connects."""
    require(moved.ndim >= 1, "its top has no channel axis")
    targets = np.arange(len(moved))
    plane = tuple(range(1, moved.ndim))
    first = moved.min(axis=plane)
    if np.array_equal(first, moved.max(axis=plane)):
        # The usual case: each channel of the top comes from one of the bottom, and nothing has to be copied or sorted.
        return first, targets
    rows = moved.reshape(len(moved), -1)
    stride = int(rows.max()) + 1
    flat = np.unique(rows + stride * targets[:, None])
    return flat % stride, flat // stride


def _carried(
    affine: Affine, source: npt.NDArray[np.intp], target: npt.NDArray[np.intp], channels: int
) -> Affine | None:
    """The affine whose channel `target[i]` is channel `source[i]` of `affine`, identity where nothing arrives."""
    scale, shift = np.ones(channels), np.zeros(channels)
    scale[target], shift[target] = affine.scale[source], affine.shift[source]
    alike = np.array_equal(scale[target], affine.scale[source]) and np.array_equal(shift[target], affine.shift[source])
    require(alike, "it mixes channels that are scaled or shifted differently")
    moved = Affine(scale, shift)
    return None if moved.is_identity else moved


# Layers that join several bottoms.


def joins(back: Callable[[Place, Affine, int], Iterable[Moved]], forward: Callable[[Place, Moved], Moved]) -> Law:
    """The law of a layer with one for each direction."""
    return Law(back, forward, _first_line(back))


def concat_back(place: Place, affine: Affine, _: int) -> Iterable[Moved]:
    """On the channel axis each bottom gets its own channels; on another axis each gets all of it."""
    if _concat_axis(place) != 1:
        return [[affine] * len(place.bottoms)]
    starts = np.cumsum([0, *(shape[1] for shape in place.bottoms)])
    parts = [affine.take(slice(start, stop)) for start, stop in pairwise(starts)]
    return [[None if part.is_identity else part for part in parts]]


def concat_forward(place: Place, affines: Moved) -> Moved:
    """The inverse: bottoms without an affine count as the identity on the channel axis, and block on another one."""
    if _concat_axis(place) != 1:
        return [_same_on_all(affines)]
    parts = [affine or Affine.identity(shape[1]) for affine, shape in zip(affines, place.bottoms, strict=True)]
    return [Affine(np.concatenate([part.scale for part in parts]), np.concatenate([part.shift for part in parts]))]


def _concat_axis(place: Place) -> int:
    axis = canonical_axis(Concat.of(place.layer).axis, len(place.tops[0]))
    require(axis != 0 or all(len(shape) > 1 for shape in place.bottoms), "its bottoms have no channel axis")
    return axis


def eltwise_back(place: Place, affine: Affine, _: int) -> Iterable[Moved]:
    """SUM: scale to all, shift/c to one. PROD: scale to one. MAX: all of it to every bottom."""
    view, count = Eltwise.of(place.layer, len(place.bottoms)), len(place.bottoms)
    if view.operation == "SUM":
        return _sum_back(affine, place.layer.bottoms, view.coeff)
    if view.operation == "PROD":
        require(affine.keeps_zero, "a product takes a scale, but no shift")
        return ([affine if index == chosen else None for index in range(count)] for chosen in range(count))
    require(affine.keeps_order, "a maximum needs every scale >= 0")
    return [[affine] * count]


def _sum_back(affine: Affine, bottoms: Sequence[str], coeff: Sequence[float]) -> Iterable[Moved]:
    """`s*sum(c*x) + h = c1*(s*x1 + h/c1) + sum(c*(s*x))`; a blob whose every c is 0 does not matter.

    A blob that is read several times has the sum of its coefficients as c1, and is changed for each of its readings.
    """
    scaled = affine.without_shift()
    totals = dict.fromkeys(bottoms, 0.0)
    matters = {bottom for bottom, c in zip(bottoms, coeff, strict=True) if c != 0 and not scaled.is_identity}
    everyone = [scaled if bottom in matters else None for bottom in bottoms]
    if affine.keeps_zero:
        yield everyone
        return
    for bottom, c in zip(bottoms, coeff, strict=True):
        totals[bottom] += c
    require(any(totals.values()), "a sum whose coefficients cancel takes no shift")
    for chosen, total in totals.items():
        if total != 0:
            shifted = Affine(affine.scale, affine.shift / total)
            yield [shifted if bottom == chosen else part for bottom, part in zip(bottoms, everyone, strict=True)]


def eltwise_forward(place: Place, affines: Moved) -> Moved:
    """SUM: one scale on all bottoms and any shifts. PROD: scales multiply. MAX: the same on all."""
    view = Eltwise.of(place.layer, len(place.bottoms))
    channels = place.tops[0][1]
    present = [affine or Affine.identity(channels) for affine in affines]
    if view.operation == "SUM":
        counted = [(affine, c) for affine, c in zip(present, view.coeff, strict=True) if c != 0]
        if not counted:
            return [None]
        scale = counted[0][0].scale
        alike = all(np.array_equal(scale, affine.scale) for affine, _ in counted)
        require(alike, "a sum needs the same scale on all its bottoms")
        return [Affine(scale, np.sum([c * affine.shift for affine, c in counted], axis=0))]
    if view.operation == "PROD":
        require(all(affine.keeps_zero for affine in present), "a product lets a scale pass, but no shift")
        return [Affine(np.prod([affine.scale for affine in present], axis=0), np.zeros(channels))]
    same = _same_on_all(affines)
    require(same.keeps_order, "a maximum needs every scale >= 0")
    return [same]


def product_back(place: Place, affine: Affine, _: int) -> Iterable[Moved]:
    """`s*(x*g) = (s*x)*g = x*(s*g)`: one of them takes the factor. A learned bias behind it cannot be scaled here."""
    require(len(place.bottoms) == 2 and not len(place.layer.blobs), "it adds a learned bias")
    require(affine.keeps_zero, "a product takes a scale, but no shift")
    return [[affine, None], [None, affine]] if _is_along_channels(place) else [[affine, None]]


def product_forward(place: Place, affines: Moved) -> Moved:
    """`(s*x)*(u*g) = s*u*(x*g)`."""
    first, second = affines
    require(not len(place.layer.blobs), "it adds a learned bias")
    require(all(affine is None or affine.keeps_zero for affine in affines), "a product lets a scale pass, but no shift")
    scale = np.ones(place.tops[0][1])
    if first is not None:
        scale = scale * first.scale
    if second is not None:
        require(_is_along_channels(place) or second.is_uniform, "the channels of its second bottom lie elsewhere")
        scale = scale * (second.scale if _is_along_channels(place) else second.scale[:1])
    return [Affine(scale, np.zeros_like(scale))]


def _is_along_channels(place: Place) -> bool:
    """Whether axis 1 of the second bottom is multiplied onto axis 1 of the first."""
    first, second = place.bottoms
    return len(second) > 1 and canonical_axis(Scale.of(place.layer).axis, len(first)) == 0


def _same_on_all(affines: Moved) -> Affine:
    first, *others = affines
    alike = first is not None and all(other is not None and first.equals(other) for other in others)
    require(alike, "its other bottoms do not carry the same affine")
    assert first is not None
    return first


COMMUTE: Mapping[str, Law] = {
    "Concat": joins(concat_back, concat_forward),
    "Crop": moves(crop),
    "Eltwise": joins(eltwise_back, eltwise_forward),
    "Flatten": moves(flatten),
    "Interp": passes(interpolation),
    "PReLU": passes(rectifier),
    "Permute": moves(permute),
    "PixelShuffle": moves(pixel_shuffle),
    "Pooling": passes(pooling),
    "ReLU": passes(rectifier),
    "Reorg": moves(reorg),
    "Reshape": moves(reshape),
    "Scale": joins(product_back, product_forward),
    "ShuffleChannel": moves(shuffle_channel),
    "Slice": moves(slice_),
    "Upsample": passes(upsample),
}
