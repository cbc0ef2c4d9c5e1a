"""How far two blobs are apart: the measure of a pair, which merges, and the one table of what is said of it.

A metric is a row of `METRICS`: its name (in Python and JSON), its heading, its formula, how it is computed from the
running measure and how it is written. Terminal, Markdown, page, JSON and the table of `docs/report.md` read it there.
How it merges is said by the fields of `BlobError` that it is computed from.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bnfold.compare.backends import BINS, COUNTS, SUMS, Float64, Int64, backend_of
from bnfold.compare.kernels import Passed, bin_edge, measure_together, span
from bnfold.compare.merging import BY_MAX, BY_MIN, BY_SUM, FIRST, by_name, rule
from bnfold.compare.records import Histogram, Place
from bnfold.net import Array, Shape
from bnfold.options import ROUNDING
from bnfold.runtime import AnyArray


def l2_rel(squared_error: float, squared_reference: float) -> float:
    """`sqrt(sum e^2 / sum r^2)`: 0 where nothing differs, infinite where the reference is all 0."""
    return relative(math.sqrt(squared_error), math.sqrt(squared_reference))


def cosine(squared_reference: float, squared_candidate: float, product: float) -> float:
    """`sum r*c / (|r| |c|)`: 1 where both are all 0, 0 where one of them is; NaN where a square passes float64."""
    norm = math.sqrt(squared_reference) * math.sqrt(squared_candidate)
    if math.isinf(norm):
        return math.nan
    if norm > 0:
        # Rounding may step over 1, which acos would refuse.
        return min(1.0, max(-1.0, float(product) / norm))
    return float(squared_reference == squared_candidate)


def snr_db(squared_error: float, squared_reference: float) -> float:
    """`10*log10(sum r^2 / sum e^2)`, in decibels; NaN where the reference's squares pass float64."""
    if squared_error == 0:
        return math.inf
    if math.isinf(squared_reference):
        return math.nan
    if squared_reference == 0:
        return -math.inf
    return 10 * (math.log10(squared_reference) - math.log10(squared_error))


def relative(error: float, size: float) -> float:
    """`error / size`: no error is 0 whatever the size, one against nothing infinite, one against infinity unknown."""
    if error == 0:
        return 0.0
    if math.isinf(size):
        return math.nan
    return float(error / size) if size > 0 else math.inf


def in_pieces(*arrays: Array) -> Iterator[list[Float64]]:
    """Pieces of arrays of equal size, in float64: converted as a whole, each would take the memory of two blobs."""
    flat = [values.reshape(-1) for values in arrays]
    for start in range(0, flat[0].size, PIECE):
        yield [values[start : start + PIECE].astype(np.float64) for values in flat]


PIECE = 1 << 16  # values


def extremes(values: AnyArray) -> tuple[float, float]:
    """The least and the largest finite value, wherever they lie; infinity and -infinity where none is finite."""
    if 0 in values.shape:
        return math.inf, -math.inf
    backend = backend_of(values)
    xp, values = backend.xp, values if backend.on_host else backend.real(values)
    low, high = float(xp.min(values)), float(xp.max(values))
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite, infinite = xp.isfinite(values), xp.full_like(values, math.inf)
    return float(xp.min(xp.where(finite, values, infinite))), float(xp.max(xp.where(finite, values, -infinite)))


def magnitude(low: float, high: float) -> float:
    """The largest magnitude of values between two ends; 0 where there are none."""
    return max(abs(low), abs(high)) if low <= high else 0.0


class Masked(NamedTuple):
    """Values beside which a mask stands, as of -1e9 at places that do not count.

    A mask leaves nothing between: each value is smaller than a hundredth of the largest, or larger than half of it.

    Attributes:
        most: the bound of the small ones.
        error: by how much one of these differs at most, of the largest of them.
        is_more: whether that is more than the rounding of the large ones, of which there are several, and the small
            ones are too many to lie near 0 by chance, as one score of ten does in a few of thousands of samples.
        is_one_number: whether these are one number, to which small ones may have been added.
    """

    most: float
    error: float
    is_more: bool
    is_one_number: bool

    @classmethod
    def of(cls, reference: Array, candidate: Array) -> Masked | None:
        """Those of the reference that are finite in both; None where there is no mask."""
        large, low, high, others, error = magnitude(*extremes(reference)), math.inf, -math.inf, 0.0, 0.0
        count = near_zero = 0
        for r, c in in_pieces(reference, candidate):
            sound = np.isfinite(r) & np.isfinite(c)
            r, c = r[sound], c[sound]
            far, small = np.abs(r) >= large / 2, np.abs(r) <= FAR * large
            if not (far | small).all():
                return None
            low, high = min(low, float(r[far].min(initial=low))), max(high, float(r[far].max(initial=high)))
            count += int(np.count_nonzero(far))
            near_zero += int(np.count_nonzero(r[small]))
            others = max(others, float(np.abs(r[small]).max(initial=0)))
            error = max(error, float(np.abs(r - c)[small].max(initial=0)))
        if count < 2 or not others:
            return None
        rounded = large * ROUNDING.get(reference.dtype.name, ROUNDING["float32"])
        is_more = error > NOISE * rounded and near_zero >= BY_CHANCE
        return cls(FAR * large, error / others, is_more, high - low <= NOISE * (others + rounded))


def beside_mask(values: Array) -> Array | None:
    """Where the values stand that count beside a mask of one number; None where there is no such mask.

    Examples:
        >>> scores = np.array([-1e9, 0.5, 2.0, -1e9 + 64], np.float32)
        >>> scores[beside_mask(scores)].tolist()
        [0.5, 2.0]
    """
    found = Masked.of(values, values)
    return np.abs(values) <= found.most if found is not None and found.is_one_number else None


@dataclass(frozen=True, slots=True)
class SampleError:
    """The errors of one blob in one sample, for the record of the sample."""

    max_abs: float
    max_rel: float
    l2_rel: float
    cosine: float


Worst = tuple[float, int, tuple[int, ...], str]
"""An error with the sample, the index in it, and the sample's name."""


def worse(first: Worst | None, second: Worst | None) -> Worst | None:
    """The larger error; of equal ones that of the lower sample, then of the lower index."""
    if first is None or second is None:
        return first or second
    return min(first, second, key=lambda worst: (-worst[0], *worst[1:3]))


Sized = tuple[int, float, int]
"""How many samples have a range of one binary exponent, their largest error, and the sample that has it."""


def by_size(first: Sized, second: Sized) -> Sized:
    """All of them; of equal errors the lower sample."""
    return first[0] + second[0], *min(first[1:], second[1:], key=lambda error: (-error[0], error[1]))


def by_channel(first: Float64 | None, second: Float64 | None) -> Float64 | None:
    """The sums of each channel; of all together where there are as many channels as there were boxes."""
    if first is None or second is None:
        return second if first is None else first
    with np.errstate(over="ignore"):
        return np.asarray([first.sum() + second.sum()] if first.shape != second.shape else first + second)


def total_of(values: Float64) -> float:
    """The sum, infinite or NaN where it passes what float64 holds; the figures made of it then say so."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.sum())


BY_WORSE, BY_CHANNEL, BY_SIZE = rule(worse), rule(by_channel), rule(by_name(by_size))

MUCH = 0.01  # of its own size: what a channel too small to be judged has to differ by to be named
NOISE = 4.0  # times the rounding of the largest value, and what half of the channels differ by
ENOUGH = 16  # values of a channel: of fewer, all may lie near 0 by chance, or be what was rounded worst of thousands

BY_CHANCE = 4
"""Values beside a mask of several numbers, at least: k of n values of any size lie below a hundredth of the largest and
the others above half of it in about `binomial(n, k) * 0.01**k * 0.5**(n - k)` of all samples: 4e-8 at most at k = 4."""
FAR = 0.01  # of the largest magnitude: what is smaller, beside nothing up to half of it, stands beside a mask

OUTLYING = 100.0
"""Times the range that half of the samples have at most: one of all samples that is more would hide most of them."""

LARGEST_BYTE = 255.0
"""What errors of whole numbers are relative to at most: among a million classes, too, the next one is another one."""


@dataclass(slots=True)
class BlobError:
    """The running measure of one pair of blobs.

    Args:
        tolerance: relative to the range; what `above` counts against.
        by_own_range: each sample is judged by the range that the blob has in it, since samples differ in magnitude.

    `add` takes a batch at a time, `merge` another measure; what is kept does not grow with the number of samples.
    The fields are those of `kernels.Passed`, whether the values are whole numbers by their type, the sums of both
    networks' squares against an exact run, the largest error beside a mask, and of samples by the binary exponent of
    the range that they have, as a word since JSON knows no numbers as names.
    """

    tolerance: float
    by_own_range: bool = False
    shape: Shape = field(default=(), metadata=FIRST)
    whole: bool = field(default=False, metadata=FIRST)
    values: int = field(default=0, metadata=BY_SUM)
    zero: int = field(default=0, metadata=BY_SUM)
    lost: int = field(default=0, metadata=BY_SUM)
    undefined: int = field(default=0, metadata=BY_SUM)
    above: int = field(default=0, metadata=BY_SUM)
    nan: int = field(default=0, metadata=BY_SUM)
    inf: int = field(default=0, metadata=BY_SUM)
    partner_nan: int = field(default=0, metadata=BY_SUM)
    partner_inf: int = field(default=0, metadata=BY_SUM)
    sum_abs: float = field(default=0.0, metadata=BY_SUM)
    sum_error: float = field(default=0.0, metadata=BY_SUM)
    squared_error: float = field(default=0.0, metadata=BY_SUM)
    squared_reference: float = field(default=0.0, metadata=BY_SUM)
    squared_candidate: float = field(default=0.0, metadata=BY_SUM)
    product: float = field(default=0.0, metadata=BY_SUM)
    low: float = field(default=math.inf, metadata=BY_MIN)
    high: float = field(default=-math.inf, metadata=BY_MAX)
    partner_low: float = field(default=math.inf, metadata=BY_MIN)
    partner_high: float = field(default=-math.inf, metadata=BY_MAX)
    largest: Worst | None = field(default=None, metadata=BY_WORSE)
    sample_rel: float = field(default=0.0, metadata=BY_MAX)
    sizes: dict[str, Sized] = field(default_factory=dict, metadata=BY_SIZE)
    channels: Float64 | None = field(default=None, metadata=BY_CHANNEL)
    channel_squares: Float64 | None = field(default=None, metadata=BY_CHANNEL)
    bins: Int64 = field(default_factory=lambda: np.zeros(BINS, np.int64), metadata=BY_SUM)
    exact_sums: Float64 | None = field(default=None, metadata=BY_CHANNEL)
    beside: float = field(default=0.0, metadata=BY_MAX)

    def add(
        self,
        reference: AnyArray,
        candidate: AnyArray,
        first: int = 0,
        names: Sequence[str] = (),
        *,
        by_sample: bool = True,
    ) -> list[SampleError]:
        """Measure one batch.

        Args:
            reference, candidate: equally shaped arrays of numpy, or of one library of the array API on one device;
                axis 0 is the sample (if `by_sample`) and axis 1 the channel.
            first: number of the first sample of the batch.
            names: the samples' names, numbers when there are none.
            by_sample: False for a blob that belongs to the whole batch, which then counts as its first sample.

        Returns:
            The errors of each sample, one entry for the whole batch unless `by_sample`.

        Raises:
            ValueError: the shapes differ.
        """
        return add_together([self], [reference], [candidate], first, names, by_sample=by_sample)[0]

    def take_in(self, passed: Passed, first: int, names: Sequence[str], inner: Shape) -> None:
        """Add what one pass found; `inner` is the shape of a sample, and the others as in `add`."""
        for name in (*COUNTS, "above", "bins"):
            setattr(self, name, getattr(self, name) + getattr(passed, name))
        for name in (*SUMS, "product"):
            setattr(self, name, getattr(self, name) + total_of(getattr(passed, name)))
        self.low, self.high = min(self.low, float(passed.low.min())), max(self.high, float(passed.high.max()))
        self.partner_low = min(self.partner_low, float(passed.partner_low.min()))
        self.partner_high = max(self.partner_high, float(passed.partner_high.max()))
        self.channels = by_channel(self.channels, passed.channel_error)
        self.channel_squares = by_channel(self.channel_squares, passed.channel_reference)
        sample = int(passed.peak.argmax())
        if passed.peak[sample] > 0:
            index = tuple(int(part) for part in np.unravel_index(int(passed.place[sample]), inner or (1,)))
            name = names[sample] if sample < len(names) else str(first + sample)
            self.largest = worse(self.largest, (float(passed.peak[sample]), first + sample, index, name))

    def add_exact(self, exact: Array, reference: Array, candidate: Array) -> None:
        """Measure one batch of both networks against the float64 run of the reference."""
        sums = np.zeros(4)
        for truth, *found in in_pieces(exact, reference, candidate):
            for side, values in enumerate(found):
                sound = np.isfinite(truth) & np.isfinite(values)
                with np.errstate(over="ignore"):
                    sums[2 * side] += np.square(values[sound] - truth[sound]).sum()
                    sums[2 * side + 1] += np.square(truth[sound]).sum()
        self.exact_sums = by_channel(self.exact_sums, sums)

    def look_beside_mask(self, reference: Array, candidate: Array) -> None:
        """Judge the values of one sample beside which a mask stands without it.

        If its values are farther apart than those of one number, the others may be what rounding left of such, and
        differ so.
        """
        found = Masked.of(reference, candidate)
        if found is not None and (found.is_one_number or found.is_more):
            self.beside = max(self.beside, found.error)

    @property
    def finite(self) -> int:
        """How many values are finite on both sides, and so in the sums."""
        return self.values - self.undefined

    @property
    def max_abs(self) -> float:
        """The largest error."""
        return self.largest[0] if self.largest is not None else 0.0

    @property
    def worst(self) -> Place | None:
        """Where it is."""
        return Place(self.largest[1], self.largest[3], self.largest[2]) if self.largest is not None else None

    @property
    def range(self) -> float:
        """What relative errors are relative to."""
        return span(self.low, self.high) if self.values else 1.0

    @property
    def typical(self) -> float:
        """What a sample is held against that has no larger range of its own: the range of all.

        Where that is `OUTLYING` times what half of the samples have at most, it is this, rounded up to a power of two.
        """
        ranges, count = sorted(self.sizes, key=int), sum(size[0] for size in self.sizes.values())
        below = 0
        for exponent in ranges:
            below += self.sizes[exponent][0]
            if 2 * below > count:
                usual = _power(exponent)
                return usual if self.range > OUTLYING * usual else self.range
        return self.range

    @property
    def farthest(self) -> tuple[float, int | None]:
        """The largest error of one sample, and which: by its own range, rounded up to a power of two, or `typical`."""
        usual = 0.0 if self.by_own_range else self.typical
        if usual == self.range or not self.sizes:
            return relative(self.max_abs, self.range), self.largest[1] if self.largest is not None else None
        found = (
            (relative(error, max(_power(exponent), usual)), sample)
            for exponent, (_, error, sample) in self.sizes.items()
        )
        return max(found, key=lambda one: (one[0], -one[1]))

    @property
    def judged(self) -> float:
        """What the tolerance is held against."""
        error = self.sample_rel if self.by_own_range else max(self.farthest[0], relative(self.max_abs, self.range))
        return max(error, relative(self.max_abs, LARGEST_BYTE)) if self.whole else error

    @property
    def worst_channel(self) -> tuple[int | None, float, float]:
        """The channel with the largest squared error; its root over that of a channel's part of sum r^2; its share."""
        if self.channels is None:
            return None, 0.0, 0.0
        errors = self.channels
        place, error, share = int(errors.argmax()), 0.0, 0.0
        if errors[place] > 0:
            error = relative(math.sqrt(errors[place]), math.sqrt(self.squared_reference / errors.size))
            total = total_of(errors)
            share = float(errors[place]) / total if math.isfinite(total) else math.nan
        if math.isinf(self.max_abs) and self.largest is not None:
            place, error, share = self.largest[2][0], math.inf, 1.0
        return (place if errors.size > 1 and error != 0 else None), error, share

    @property
    def blank_channels(self) -> tuple[int, int]:
        """How many channels have no value but 0 (or one that is not finite) on both sides, and how many there are."""
        if self.channels is None or self.channel_squares is None:
            return 0, 0
        return int(np.count_nonzero((self.channels == 0) & (self.channel_squares == 0))), self.channels.size

    def small_channel(self, rounding: float) -> tuple[int, float] | None:
        """A channel that differs by a hundredth of itself, though the blob's range is too large for that to be judged.

        Only one that differs by several times what half of the others do says more than the noise of the arithmetic:
        by 4 times where a channel has enough values, by 16 where it has one. Of others those count that are not 0
        throughout, since a ReLU hides what they differ by.

        Args:
            rounding: half a unit in the last place of the blob's values, relative.

        Returns:
            The channel with the largest error of these, and `sqrt(sum e^2 / sum r^2)` in it; None where there is none.
        """
        if self.channels is None or self.channel_squares is None or self.channels.size < 2:
            return None
        errors, squares, each = self.channels, self.channel_squares, self.values / self.channels.size
        alive = np.sort(errors[(errors > 0) | (squares > 0)])
        if not alive.size:
            return None
        noise = NOISE**2 * max(1, ENOUGH / each)
        rounded = rounding * magnitude(self.low, self.high)
        squared = each * rounded * rounded  # infinite beyond float64, where `**` raises
        apart = (errors > noise * max(alive[(alive.size - 1) // 2], squared)) & (errors > MUCH**2 * squares)
        if not apart.any():
            return None
        place = int(np.where(apart, errors, 0).argmax())
        return place, l2_rel(float(errors[place]), float(squares[place]))

    def histogram(self) -> Histogram:
        """The histogram of the absolute error, without its empty ends."""
        used = np.flatnonzero(self.bins)
        if not used.size:
            return Histogram(self.zero, (), ())
        low, high = int(used[0]), int(used[-1]) + 1
        edges = tuple(bin_edge(index) for index in range(low, high + 1))
        return Histogram(self.zero, edges, tuple(int(count) for count in self.bins[low:high]))

    def exact(self, side: int) -> float | None:
        """`l2_rel` of the reference (0) or the candidate (1) against the exact run; None where there was none."""
        if self.exact_sums is None:
            return None
        error, squared = self.exact_sums[2 * side : 2 * side + 2]
        return l2_rel(float(error), float(squared))


def add_together(
    errors: Sequence[BlobError],
    references: Sequence[AnyArray],
    candidates: Sequence[AnyArray],
    first: int,
    names: Sequence[str] = (),
    *,
    by_sample: bool = True,
    compiled: bool = False,
) -> list[list[SampleError]]:
    """`BlobError.add` for several blobs of equal shape, type and tolerance, each with its own measure.

    Raises:
        ValueError: a candidate's shape is another.
    """
    shape = tuple(references[0].shape)
    for one, candidate in zip(errors, candidates, strict=True):
        if shape != tuple(candidate.shape):
            raise ValueError(f"shape {shape} against {tuple(candidate.shape)}")
        one.shape = one.shape or shape  # the last batch may be smaller
    if 0 in shape:
        return [[] for _ in errors]
    whole = shape if by_sample and shape else (1, *shape)
    view = (whole[0], whole[1] if len(whole) > 1 else 1, math.prod(whole[2:]))
    found = measure_together(references, candidates, view, errors[0].tolerance, compiled)
    samples = [_by_sample(passed) for passed in found]
    for one, passed, own in zip(errors, found, samples, strict=True):
        one.values += math.prod(shape)
        one.whole = "int" in str(references[0].dtype)  # as numpy, CuPy and torch call them alike
        one.take_in(passed, first, names, whole[1:])
        one.sample_rel = max(one.sample_rel, *(sample.max_rel for sample in own))
        for number, (low, high, error) in enumerate(zip(passed.low, passed.high, passed.peak, strict=True), first):
            if low <= high:
                exponent, counted = _exponent(float(low), float(high))
                here = counted, float(error), number
                one.sizes[exponent] = by_size(one.sizes[exponent], here) if exponent in one.sizes else here
    return samples


def _exponent(low: float, high: float) -> tuple[str, int]:
    """That of the power of two above a range, and how many samples that counts as: of what is 0 everywhere as none."""
    if low == high == 0:
        return str(sys.float_info.min_exp), 0
    return str(min(math.frexp(span(low, high))[1], sys.float_info.max_exp - 1)), 1


def _power(exponent: str) -> float:
    """2 to that."""
    return math.ldexp(1.0, int(exponent))


def _by_sample(passed: Passed) -> list[SampleError]:
    """The errors of each sample; without a value that is finite on both sides no figure of all of them is known."""
    columns = (
        *(passed.peak, passed.low, passed.high),
        *(passed.squared_error, passed.squared_reference, passed.squared_candidate, passed.product),
    )
    found = []
    for peak, low, high, error, reference, candidate, product in zip(*(one.tolist() for one in columns), strict=True):
        known = 1.0 if low <= high else math.nan
        l2, angle = l2_rel(error, reference), cosine(reference, candidate, product)
        found.append(SampleError(peak, relative(peak, span(low, high)), known * l2, known * angle))
    return found


TERMINAL, MARKDOWN, PAGE = "terminal", "markdown", "page"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Attributes:
        name: of the attribute of a `BlobDiff`, and of the key in JSON.
        heading: of the column; empty where no table has it.
        formula: what it is, as `docs/report.md` says it.
        value: of a measure.
        written: how people read it, by the name of a function of `bnfold.report.figures`.
        shown: which renderings have it in their table of blobs.
        seldom: leave the column out where it says nothing of any blob.
    """

    name: str
    heading: str
    formula: str
    value: Callable[[BlobError], Any]
    written: str = ""
    shown: tuple[str, ...] = ()
    seldom: bool = False


def _seen(name: str) -> Callable[[BlobError], float]:
    """An extreme, 0 where no value was finite on both sides."""
    return lambda error: getattr(error, name) if error.low <= error.high else 0.0


EVERYWHERE = (TERMINAL, MARKDOWN, PAGE)
METRICS: tuple[Metric, ...] = (
    Metric("values", "", "how many values there were", lambda e: e.values),
    Metric("finite", "", "how many of them are finite on both sides; only these say anything", lambda e: e.finite),
    Metric(
        "max_abs",
        "max abs",
        "`max abs(e)`; infinite where a value is finite on one side alone",
        lambda e: e.max_abs,
        "small",
        EVERYWHERE,
    ),
    Metric(
        "max_rel",
        "",
        "`max abs(e) / (max r - min r)`; if the range is 0 then by `max abs(r)`, and if that is 0 by 1",
        lambda e: relative(e.max_abs, e.range),
    ),
    Metric(
        "judged",
        "of range",
        "what the tolerance is held against: `max_rel`; of noise, whose samples differ in magnitude, the largest of "
        "the samples' own, each by the range of that sample; where half of the samples have a range of at most "
        "s, and `max r - min r > 100 * s`, also that of each by its own range, or by s if that is larger, both rounded "
        "up to a power of two; of whole numbers, where a difference of 1 is no rounding, at least `max abs(e) / 255`",
        lambda e: e.judged,
        "small",
        EVERYWHERE,
    ),
    Metric("mean_abs", "mean abs", "`sum abs(e) / n`", lambda e: e.sum_abs / max(e.finite, 1), "small", (PAGE,)),
    Metric(
        "bias",
        "bias",
        "`sum e / n`: far from 0 beside `mean_abs` means a shift, not noise",
        lambda e: e.sum_error / max(e.finite, 1),
        "small",
        (PAGE,),
    ),
    Metric(
        "l2_rel",
        "rel. L2",
        "`sqrt(sum e^2 / sum r^2)`",
        lambda e: l2_rel(e.squared_error, e.squared_reference),
        "small",
        EVERYWHERE,
    ),
    Metric(
        "cosine",
        "cosine",
        "`sum r*c / sqrt(sum r^2 * sum c^2)`; 1 if both are all 0",
        lambda e: cosine(e.squared_reference, e.squared_candidate, e.product),
        "near_one",
        EVERYWHERE,
    ),
    Metric(
        "snr_db",
        "SNR dB",
        "`10 * log10(sum r^2 / sum e^2) = -20 * log10(l2_rel)`; infinite if nothing differs. float32 rounding alone "
        "gives 120 to 140",
        lambda e: snr_db(e.squared_error, e.squared_reference),
        "decibels",
        EVERYWHERE,
    ),
    Metric(
        "above",
        "above tol.",
        "the share of values with `abs(e) > tolerance * range of the blob in its own sample`",
        lambda e: e.above / max(e.values, 1),
        "percent",
        (PAGE,),
    ),
    Metric(
        "channel",
        "channel",
        "the channel (axis 1, or 0 of a blob without a row for each sample) with the largest `sum e^2`",
        lambda e: e.worst_channel[0],
        "number",
        (PAGE,),
    ),
    Metric(
        "channel_rel", "", "`sqrt(C * sum e^2 of that channel / sum r^2)` of C channels", lambda e: e.worst_channel[1]
    ),
    Metric(
        "channel_share",
        "its share",
        "the part of `sum e^2` in that channel; near 100 % means that it differs alone",
        lambda e: e.worst_channel[2],
        "percent",
        (PAGE,),
    ),
    Metric(
        "exact",
        "exact/ref",
        "`l2_rel` of the reference against a float64 run of the reference (`--exact`)",
        lambda e: e.exact(0),
        "small",
        (TERMINAL, PAGE),
        seldom=True,
    ),
    Metric(
        "partner_exact",
        "exact/cand",
        "`l2_rel` of the candidate against the same",
        lambda e: e.exact(1),
        "small",
        (TERMINAL, PAGE),
        seldom=True,
    ),
    Metric("low", "min", "`min r`, of the values that are finite on both sides", _seen("low"), "ordinary", (PAGE,)),
    Metric("high", "max", "`max r`, likewise", _seen("high"), "ordinary", (PAGE,)),
    Metric("partner_low", "", "`min c`, likewise", _seen("partner_low")),
    Metric("partner_high", "", "`max c`, likewise", _seen("partner_high")),
    Metric(
        "nan",
        "NaN ref",
        "how many are NaN in the reference. The same on both sides is agreement and is left out of all sums",
        lambda e: e.nan,
        "number",
        (PAGE,),
        seldom=True,
    ),
    Metric("partner_nan", "NaN cand", "in the candidate", lambda e: e.partner_nan, "number", (PAGE,), seldom=True),
    Metric("inf", "inf ref", "how many are infinite in the reference", lambda e: e.inf, "number", (PAGE,), seldom=True),
    Metric("partner_inf", "inf cand", "in the candidate", lambda e: e.partner_inf, "number", (PAGE,), seldom=True),
    Metric(
        "worst",
        "worst at",
        "where `max_abs` is: `sample` (number), `name`, and `index` inside the sample",
        lambda e: e.worst,
        "place",
        (TERMINAL, PAGE),
    ),
    Metric(
        "histogram",
        "",
        "of `abs(e)`: `zero` counts equal values, with 0 and -0 and two NaNs among them; `counts` has for each bin i "
        "how many lie between `edges` i and i + 1; `total` is all of these, without what is not finite on one side "
        "alone. The edges are the float's own leading bits, `2^E * (1, 1.25, 1.5, 1.75)`; the first bin has all that "
        "is below 7e-14, the last all above 1e6",
        lambda e: e.histogram(),
    ),
)


def figures(error: BlobError) -> dict[str, Any]:
    """Every metric of one measure, by name."""
    return {metric.name: metric.value(error) for metric in METRICS}
