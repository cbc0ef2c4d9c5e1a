"""The one thing that folding moves: an affine `y = scale*x + shift`, constant along most axes of its blob.

BatchNorm (Ioffe and Szegedy, arXiv:1502.03167, section 3.1), Scale, Bias, Power with power 1, Mul and Add with a
constant are all of this form at inference. Scale and shift are arrays that broadcast over the blob, *aligned with its
first axis*: a channel affine has shape (1, C) whatever the rank of its blob, and even if that is unknown; a factor
behind a linear layer of rank 3 has (1, 1, K); one number has (). Affines compose,

    outer(inner(x)) = (outer.scale*inner.scale)*x + (outer.scale*inner.shift + outer.shift)

and two exact predicates say which layers one may be moved through. Both compare with `== 0` and `>= 0`, never with a
tolerance: a shift of 1e-30 in front of a zero padding is a different network.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bnfold.algebra.records import Blocked, require

if TYPE_CHECKING:
    from bnfold.net import Shape

Values = npt.NDArray[np.float64]
"""Factors, summands or weights, in the precision in which folding computes."""

MAX_VALUES = 1 << 24
"""Values of a scale or a shift; more would be a network in itself, and a text may claim 2^31."""

LEAST_FACTOR = 2.0**-60
"""float32 ends at 2**-149, and values and weights are a few powers of two away from 1."""
MAX_SHIFT = 2.0**9
"""Values around 1 keep 14 of their 24 bits beside a shift that is so much larger."""


@dataclass(frozen=True, eq=False, slots=True, init=False)
class Affine:
    """`y = scale*x + shift` in float64, along any axes of a blob; by default the identity.

    Attributes:
        scale: the factors. Along an axis of size 1, and along axes behind its last one, they are constant.
        shift: the summands, of the same rank as `scale`. The last axis is of size 1 in at most one of the two.
    """

    scale: Values
    shift: Values

    def __init__(self, scale: npt.ArrayLike = 1.0, shift: npt.ArrayLike = 0.0) -> None:
        scale, shift = aligned(np.asarray(scale, np.float64), np.asarray(shift, np.float64))
        if not (scale.size and shift.size):  # over a blob without elements all affines are one
            scale, shift = np.ones(()), np.zeros(())
        rank = scale.ndim
        while rank and scale.shape[rank - 1] == shift.shape[rank - 1] == 1:
            rank -= 1
        if rank < scale.ndim:
            scale, shift = scale.reshape(scale.shape[:rank]), shift.reshape(shift.shape[:rank])
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "shift", shift)

    @classmethod
    def along(cls, axis: int, scale: npt.ArrayLike, shift: npt.ArrayLike) -> Affine:
        """An affine along one axis, from vectors or numbers."""
        vectors = (np.asarray(values, np.float64).reshape(-1) for values in (scale, shift))
        return cls(*(vector.reshape(*[1] * axis, -1) for vector in vectors))

    @property
    def shape(self) -> Shape:
        """The shape that scale and shift have together."""
        return np.broadcast_shapes(self.scale.shape, self.shift.shape)

    @property
    def count(self) -> int:
        """How many positions it tells apart: 1 for a single number, even where that is written for each channel."""
        return prod(np.broadcast_shapes(compact(self.scale).shape, compact(self.shift).shape))

    @property
    def is_identity(self) -> bool:
        """Whether every scale is 1 and every shift 0."""
        return everywhere(self.scale == 1.0) and everywhere(self.shift == 0.0)

    def stored_as(self, dtype: npt.DTypeLike) -> Affine:
        """The same affine with its values rounded to a type."""
        with np.errstate(over="ignore"):
            return Affine(*(values.astype(dtype).astype(np.float64) for values in (self.scale, self.shift)))

    @property
    def sign(self) -> float:
        """1 or -1 where every scale is that, as in `x + h` and `h - x`; else 0."""
        return next((sign for sign in (1.0, -1.0) if everywhere(self.scale == sign)), 0.0)

    @property
    def is_finite(self) -> bool:
        """Whether no scale or shift is NaN or infinite."""
        return everywhere(np.isfinite(self.scale)) and everywhere(np.isfinite(self.shift))

    @property
    def keeps_zero(self) -> bool:
        """Whether 0 stays 0 everywhere: zeros that enter from outside (padding, a threshold) need no care."""
        return everywhere(self.shift == 0.0)

    @property
    def keeps_order(self) -> bool:
        """Whether a maximum stays the maximum everywhere."""
        return everywhere(self.scale >= 0.0)

    @property
    def keeps_strict_order(self) -> bool:
        """Whether a maximum also stays where it is, in float32 too: no two values become equal.

        A scale of 0 makes all equal; a tiny one does where the products underflow, and a shift that is far larger than
        the scale does where it swallows the values that it is added to.
        """
        kept = (self.scale >= LEAST_FACTOR) & (self.scale <= 1 / LEAST_FACTOR)
        return everywhere(kept & (abs(self.shift) <= MAX_SHIFT * self.scale))

    def then(self, outer: Affine) -> Affine:
        """`outer(self(x))`.

        Raises:
            Blocked: it would have too many values.
        """
        arrays = scale, shift, outer_scale, outer_shift = aligned(self.scale, self.shift, outer.scale, outer.shift)
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            try:
                values = prod(np.broadcast_shapes(*shapes))
            except ValueError:
                raise Blocked("the two affines have different numbers of channels") from None
            require(values <= MAX_VALUES, f"a composition of {values:,} values is too large")
        gained = outer_scale * shift + outer_shift
        return Affine(outer_scale * scale, gained if np.count_nonzero(gained) else 0.0)

    def without_shift(self) -> Affine:
        """The scale alone."""
        return Affine(self.scale)

    def constant_along(self, axes: Collection[int]) -> Affine:
        """The same affine with some axes reduced to size 1.

        Raises:
            Blocked: it varies along one of these axes.
        """
        scale, shift = constant_along(self.scale, axes), constant_along(self.shift, axes)
        return self if scale is self.scale and shift is self.shift else Affine(scale, shift)

    def equals(self, other: Affine) -> bool:
        """Whether both have the same scale and shift everywhere, exactly."""
        return _same(self.scale, other.scale) and _same(self.shift, other.shift)


def everywhere(holds: npt.NDArray[np.bool_]) -> bool:
    """Whether a condition holds for every value; of the few of an affine it asks in half the time of `holds.all()`."""
    return bool(np.count_nonzero(holds) == holds.size)


def aligned(*arrays: Values) -> tuple[Values, ...]:
    """Arrays of one rank, which broadcast as if aligned with their first axes."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) == 1:
        return arrays
    return tuple(of_rank(array, max(ranks)) for array in arrays)


def of_rank(values: Values, rank: int) -> Values:
    """The values with at least `rank` axes: axes of size 1 are added at the end."""
    return values.reshape(values.shape + (1,) * (rank - values.ndim))


def compact(values: Values) -> Values:
    """The values with every axis along which they are constant reduced to size 1."""
    for axis in range(values.ndim):
        first = values[(*[slice(None)] * axis, slice(1))]
        if values.shape[axis] > 1 and everywhere(values == first):
            values = first
    return values


def constant_along(array: Values, axes: Collection[int]) -> Values:
    """The array with some axes reduced to size 1; axes beyond its rank are ignored.

    Raises:
        Blocked: its values differ along one of these axes.
    """
    for axis in range(array.ndim):
        if axis in axes and array.shape[axis] > 1:
            first = array[(*[slice(None)] * axis, slice(1))]
            require(everywhere(array == first), f"the affine varies along axis {axis}")
            array = first
    return array


def _same(one: Values, other: Values) -> bool:
    one, other = aligned(one, other)
    pairs = zip(one.shape, other.shape, strict=True)
    return all(a == b or 1 in (a, b) for a, b in pairs) and everywhere(one == other)
