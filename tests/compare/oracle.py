"""The measures as they were computed in float64 over whole blobs, in a dozen passes: slow, and the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.compare.records import Place

Array = Any
Shape = tuple[int, ...]

Float64 = npt.NDArray[np.float64]

LOW, HIGH, STEP = -14.0, 8.0, 0.125  # log10 of the histogram's edges, and the width of its bins
BINS = round((HIGH - LOW) / STEP)


@dataclass(slots=True)
class Sums:
    """The sums behind relative L2, cosine and signal-to-noise, of any set of value pairs."""

    squared_error: Float64
    squared_reference: Float64
    squared_candidate: Float64
    product: Float64

    @classmethod
    def of(cls, reference: Float64, candidate: Float64, axes: tuple[int, ...]) -> Sums:
        """Over `axes` of two equally shaped arrays."""
        error = candidate - reference
        return cls(
            np.square(error).sum(axis=axes),
            np.square(reference).sum(axis=axes),
            np.square(candidate).sum(axis=axes),
            (reference * candidate).sum(axis=axes),
        )

    def total(self) -> Sums:
        """All sets together."""
        return Sums(
            self.squared_error.sum(), self.squared_reference.sum(), self.squared_candidate.sum(), self.product.sum()
        )

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.squared_error + other.squared_error,
            self.squared_reference + other.squared_reference,
            self.squared_candidate + other.squared_candidate,
            self.product + other.product,
        )

    def __getitem__(self, index: int) -> Sums:
        return Sums(
            self.squared_error[index],
            self.squared_reference[index],
            self.squared_candidate[index],
            self.product[index],
        )

    @property
    def l2_rel(self) -> float:
        """`sqrt(sum e^2 / sum r^2)`: 0 where nothing differs, infinite where the reference is all 0."""
        return relative(math.sqrt(self.squared_error), math.sqrt(self.squared_reference))

    @property
    def cosine(self) -> float:
        """`sum r*c / (|r| |c|)`: 1 where both are all 0, 0 where one of them is."""
        norm = math.sqrt(self.squared_reference) * math.sqrt(self.squared_candidate)
        if norm > 0:
            # Rounding may step over 1, which acos would refuse.
            return min(1.0, max(-1.0, float(self.product) / norm))
        return float(self.squared_reference == self.squared_candidate)

    @property
    def snr_db(self) -> float:
        """`10*log10(sum r^2 / sum e^2)`, in decibels."""
        if self.squared_error == 0:
            return math.inf
        if self.squared_reference == 0:
            return -math.inf
        return 10 * (math.log10(self.squared_reference) - math.log10(self.squared_error))


def relative(error: float, size: float) -> float:
    """`error / size`, where no error is 0 whatever the size, and an error against nothing is infinite."""
    if error == 0:
        return 0.0
    return float(error / size) if size > 0 else math.inf


def span(low: float, high: float) -> float:
    """The range that errors are held against: `high - low`, else the largest magnitude, else 1.

    Example:
        >>> span(-1.0, 3.0), span(2.0, 2.0), span(0.0, 0.0)
        (4.0, 2.0, 1.0)
    """
    if low > high:  # no value at all
        return 1.0
    return float(high - low) or float(max(abs(low), abs(high))) or 1.0


@dataclass(slots=True)
class SampleError:
    """The errors of one blob in one sample, for the record of the sample."""

    max_abs: float
    max_rel: float
    sums: Sums


@dataclass(slots=True)
class BlobError:
    """The running measure of one pair of blobs.

    Args:
        tolerance: relative to the range; what `above` counts against.

    `add` takes a batch at a time; what is kept does not grow with the number of samples.
    """

    tolerance: float
    shape: Shape = ()
    values: int = 0
    max_abs: float = 0.0
    sum_abs: float = 0.0
    sum_error: float = 0.0
    finite: int = 0
    above: int = 0
    low: float = math.inf
    high: float = -math.inf
    partner_low: float = math.inf
    partner_high: float = -math.inf
    worst: Place | None = None
    nan: int = 0
    inf: int = 0
    partner_nan: int = 0
    partner_inf: int = 0
    zero: int = 0
    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channels: Sums | None = None

    def add(
        self, reference: Array, candidate: Array, first: int = 0, names: Sequence[str] = (), *, by_sample: bool = True
    ) -> list[SampleError]:
        """Measure one batch.

        Args:
            reference, candidate: equally shaped; axis 0 is the sample (if `by_sample`) and axis 1 the channel.
            first: number of the first sample of the batch.
            names: the samples' names, numbers when there are none.
            by_sample: False for a blob that belongs to the whole batch, which then counts as its first sample.

        Returns:
            The errors of each sample, one entry for the whole batch unless `by_sample`.

        Raises:
            ValueError: the shapes differ.
        """
        if reference.shape != candidate.shape:
            raise ValueError(f"shape {reference.shape} against {candidate.shape}")
        self.shape = self.shape or reference.shape  # the last batch may be smaller
        if reference.size == 0:
            return []
        whole = reference.shape if by_sample and reference.ndim else (1, *reference.shape)
        view = (whole[0], whole[1] if len(whole) > 1 else 1, -1)
        r, c = (np.asarray(array, np.float64).reshape(view) for array in (reference, candidate))
        self._count_strange(r, c)
        r, c, sound, broken = _finite(r, c)
        lows, highs = _extremes(r, sound)
        self.low, self.high = min(self.low, *lows), max(self.high, *highs)
        partner_lows, partner_highs = _extremes(c, sound)
        self.partner_low = min(self.partner_low, *partner_lows)
        self.partner_high = max(self.partner_high, *partner_highs)
        error = np.abs(c - r)
        sums = Sums.of(r, c, axes=(2,))
        scale = np.array([span(*pair) for pair in zip(lows, highs, strict=True)])
        lost = 0 if broken is None else int(np.count_nonzero(broken))
        self.values += r.size
        self.finite += int(np.count_nonzero(np.isfinite(reference) & np.isfinite(candidate)))
        self.sum_abs += float(error.sum())
        self.sum_error += float((c - r).sum())
        self.above += int(np.count_nonzero(error > self.tolerance * scale[:, None, None])) + lost
        self._sort_into_bins(error, lost)
        if broken is not None:
            error[broken] = math.inf
        self._remember_worst(error, whole[1:], first, names)
        channels = Sums(*(part.sum(axis=0) for part in _parts(sums)))
        if self.channels is None:
            self.channels = channels
        elif self.channels.product.shape == channels.product.shape:
            self.channels += channels
        else:  # as many channels as there were boxes in the batch
            self.channels = self.channels.total() + channels.total()
        peaks = error.max(axis=(1, 2))
        return [
            SampleError(float(peak), relative(float(peak), float(size)), sums[index].total())
            for index, (peak, size) in enumerate(zip(peaks, scale, strict=True))
        ]

    def _count_strange(self, r: Float64, c: Float64) -> None:
        self.nan += int(np.isnan(r).sum())
        self.inf += int(np.isinf(r).sum())
        self.partner_nan += int(np.isnan(c).sum())
        self.partner_inf += int(np.isinf(c).sum())

    def _sort_into_bins(self, error: Float64, lost: int) -> None:
        differing = error[error > 0]
        self.zero += error.size - differing.size - lost
        place = np.clip((np.log10(differing) - LOW) / STEP, 0, BINS - 1).astype(np.int64)
        self.bins += np.bincount(place, minlength=BINS)

    def _remember_worst(self, error: Float64, shape: Shape, first: int, names: Sequence[str]) -> None:
        place = int(error.argmax())
        largest = float(error.reshape(-1)[place])
        if largest > self.max_abs:
            self.max_abs = largest
            sample, inside = divmod(place, error[0].size)
            name = names[sample] if sample < len(names) else str(first + sample)
            index = tuple(int(part) for part in np.unravel_index(inside, shape or (1,)))
            self.worst = Place(first + sample, name, index)

    @property
    def range(self) -> float:
        """What relative errors are relative to."""
        return span(self.low, self.high) if self.values else 1.0

    @property
    def sums(self) -> Sums:
        """Of all values together."""
        return self.channels.total() if self.channels is not None else Sums(*np.zeros((4, 1))).total()

    @property
    def worst_channel(self) -> tuple[int | None, float, float]:
        """The channel with the largest mean square error; its root over the blob's root mean square; its share."""
        if self.channels is None:
            return None, 0.0, 0.0
        errors: Float64 = np.atleast_1d(self.channels.squared_error)
        place, error, share = int(errors.argmax()), 0.0, 0.0
        if errors[place] > 0:
            error = relative(math.sqrt(errors[place]), math.sqrt(self.sums.squared_reference / errors.size))
            share = float(errors[place] / errors.sum())
        if math.isinf(self.max_abs) and self.worst is not None:
            place, error, share = self.worst.index[0], math.inf, 1.0
        return (place if errors.size > 1 and error > 0 else None), error, share


def _parts(sums: Sums) -> tuple[Float64, Float64, Float64, Float64]:
    return sums.squared_error, sums.squared_reference, sums.squared_candidate, sums.product


def _finite(
    r: Float64, c: Float64
) -> tuple[Float64, Float64, npt.NDArray[np.bool_] | bool, npt.NDArray[np.bool_] | None]:
    """Both sides with 0 where either is not finite; where both are finite; and where they do not agree about that.

    The same infinity, or NaN, on both sides is agreement: a network may be undefined there in both forms.
    """
    strange = ~(np.isfinite(r) & np.isfinite(c))
    if not strange.any():
        return r, c, True, None
    agreed: Any = (r == c) | (np.isnan(r) & np.isnan(c))
    return np.where(strange, 0.0, r), np.where(strange, 0.0, c), ~strange, strange & ~agreed


def _extremes(values: Float64, sound: npt.NDArray[np.bool_] | bool) -> tuple[list[float], list[float]]:
    """The smallest and largest sound value of each sample."""
    lows = values.min(axis=(1, 2), where=sound, initial=math.inf)
    highs = values.max(axis=(1, 2), where=sound, initial=-math.inf)
    return lows.tolist(), highs.tolist()
