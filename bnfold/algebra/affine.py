"""The one thing that folding moves: a per-channel affine `y = scale*x + shift`.

BatchNorm, Scale, Bias and Power with power 1 are all of this form at inference. Affines compose,

    outer(inner(x)) = (outer.scale*inner.scale)*x + (outer.scale*inner.shift + outer.shift)

and two exact predicates say which layers one may be moved through. Both compare with `== 0` and `>= 0`, never with a
tolerance: a shift of 1e-30 in front of a zero padding is a different network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """Per-channel `y = scale*x + shift`, in float64, along axis 1 of a blob.

    Attributes:
        scale: factor of each channel, shape (C,).
        shift: what each channel gains, shape (C,).
    """

    scale: Vector
    shift: Vector

    @classmethod
    def of(cls, scale: npt.ArrayLike, shift: npt.ArrayLike, channels: int) -> Affine:
        """An affine over `channels` channels from values that broadcast to shape (C,)."""
        return cls(_along(scale, channels), _along(shift, channels))

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """The affine that changes nothing."""
        return cls.of(1.0, 0.0, channels)

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return len(self.scale)

    @property
    def is_identity(self) -> bool:
        """Whether every scale is 1 and every shift 0."""
        return bool((self.scale == 1.0).all() and (self.shift == 0.0).all())

    @property
    def is_finite(self) -> bool:
        """Whether no scale or shift is NaN or infinite."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def fits(self, dtype: npt.DTypeLike) -> bool:
        """Whether every scale and shift is finite as a stored value, too."""
        largest = np.finfo(dtype).max
        return bool((np.abs(self.scale) <= largest).all() and (np.abs(self.shift) <= largest).all())

    @property
    def is_uniform(self) -> bool:
        """Whether all channels are treated alike, so that mixing them changes nothing."""
        return bool((self.scale == self.scale[:1]).all() and (self.shift == self.shift[:1]).all())

    @property
    def keeps_zero(self) -> bool:
        """Whether 0 stays 0 in every channel: zeros that enter from outside (padding, a knee) need no care."""
        return bool((self.shift == 0.0).all())

    @property
    def keeps_order(self) -> bool:
        """Whether a maximum stays the maximum in every channel."""
        return bool((self.scale >= 0.0).all())

    @property
    def keeps_strict_order(self) -> bool:
        """Whether a maximum also stays where it is: no scale is 0, so no two values become equal."""
        return bool((self.scale > 0.0).all())

    def then(self, outer: Affine) -> Affine:
        """`outer(self(x))`."""
        if not any(vector.strides[0] for vector in (self.scale, self.shift, outer.scale, outer.shift)):
            # One number for all channels needs no memory for each.
            scale, shift = outer.scale[:1] * self.scale[:1], outer.scale[:1] * self.shift[:1] + outer.shift[:1]
            return Affine.of(scale, shift, self.channels)
        return Affine(outer.scale * self.scale, outer.scale * self.shift + outer.shift)

    def without_shift(self) -> Affine:
        """The scale alone."""
        return Affine(self.scale, np.broadcast_to(np.zeros(1), self.shift.shape))

    def take(self, channels: npt.NDArray[np.intp] | slice) -> Affine:
        """The affine of the chosen channels, in their order."""
        return Affine(self.scale[channels], self.shift[channels])

    def repeat(self, times: int) -> Affine:
        """Each channel's values `times` times in a row: the affine of a blob flattened from axis 1."""
        return Affine(np.repeat(self.scale, times), np.repeat(self.shift, times))

    def embedded(self, start: int, channels: int) -> Affine:
        """This affine on the channels from `start`, the identity on the rest of `channels`."""
        scale, shift = np.ones(channels), np.zeros(channels)
        scale[start : start + self.channels] = self.scale
        shift[start : start + self.channels] = self.shift
        return Affine(scale, shift)

    def equals(self, other: Affine) -> bool:
        """Whether both have the same scale and shift, exactly."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.shift, other.shift)


def _along(values: npt.ArrayLike, channels: int) -> Vector:
    """The values as float64, shape (C,); those that are one for all take no memory for each."""
    exact = np.asarray(values, np.float64)
    return exact if exact.shape == (channels,) else np.broadcast_to(exact, (channels,))
