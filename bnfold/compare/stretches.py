"""Each stretch of a candidate by itself: held against what the reference's own layers make of the same, in float64.

Behind a normalisation of a constant plane both networks hold what rounding left, divided by sqrt(epsilon). A float64
run from the inputs on is as far from the one as from the other there: a fault passes for rounding, or rounding for a
fault. So let t(x) be what the reference's layers between a blob and the compared blobs nearest in front of it make of
these in float64: t(r') of the reference's own, t(c') of the candidate's. In each sample and channel

    rms(c - t(c'))  <=  2 * min(rms(r - t(r')), 50 * q) + 3 * q + 2^-23 * max(range, max abs(t(c')))

where q is how far t(c') moves as each value of c', of what is stored and of what is computed in between is a unit in
its last place off, up or down by chance: the most of MOVES draws. (Of a Sigmoid and its like, which float32 computes to
a unit of 1, a unit of that; and of what a Sigmoid gives 2^-23 is explained at least.) The second q counts up to the
tolerance, since what is lost where sums cancel proves nothing; behind a normalisation or a division, which enlarge what
rounding left, it counts as it is, unless a step (of a Floor or a comparison, as in bins of regions) is among the layers
and may be what moves t. (A reference that is farther from t than 50 * q does not round, but reads an operator
otherwise; on a GPU its products may have fewer bits, and it counts.) A channel of nearly equal values rounds as one
value does, which may meet t by chance, and its sums may pass through larger ones than q tells of: r counts in every
channel for as many q as it is off in one, up to a tenth of the tolerance. Of a few values r may meet t by chance: NOISE
times what half of the channels are off by is added, for n values sqrt(16 / n) times more, and 8 units take the place of
one.

Three draws of a channel whose values are nearly equal may all be small by chance, and they leave out that every partial
sum of a product of matrices is rounded, too: a channel that is near 0 by chance shows it. So a stretch that rounding
does not explain, but for a factor below NEAR, is looked at AGAIN: q is the root mean square of so many draws then, in
which each sum of products is off by what its partial sums lose (`bnfold.onnx.partial_sums`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bnfold.compare.exact import CHANCE, CHANCE_OF_MOVED, FEW, UNIT, UNITS_OF_FEW
from bnfold.compare.kernels import alike
from bnfold.compare.metrics import ENOUGH, NOISE, beside_mask
from bnfold.compare.saturation import SQUASHING
from bnfold.errors import UnsupportedError
from bnfold.net import Array

if TYPE_CHECKING:
    from bnfold.onnx.evaluator import Evaluator

_Made = TypeVar("_Made")

MOVES = 3
OF_ANOTHER = 0.1  # of the tolerance: where q is larger, so many q as another channel is off hide a weight wrong by 1 %
PIECE = 1 << 14  # values that are moved or measured at once, in cache
EXPONENT = np.uint64(0x7FF << 52)  # the bits of a float64's exponent
SMALLEST, LARGEST = 2.0**-126, float(np.finfo(np.float32).max)  # normal magnitudes of float32
AGAIN = 16  # draws, by which a root mean square is known to a fifth
NEAR = 16.0  # times what rounding explains: partial sums of some thousand products lose no more than that
HALF_UNIT = 1 / math.sqrt(12)  # of a unit in the last place: the root mean square of what rounding to it takes
FAIR = 50.0  # float32 sums of thousands of terms are hardly so many times as far off as their terms' last places


@dataclass(slots=True)
class MadeBlob:
    """A blob that the layers in front of it make.

    Attributes:
        reference, candidate: its values in either network, in the reference's shape.
        rows: how many samples it has a row for; None where it has none for each.
        enlarges: whether a normalisation or a division is among the layers, and no step.
        counts: where values say something: not where both have the same that is not finite, nor in a mask, which would
            hide what stands beside it; None where all do.
        masked: where they are in a mask, and judged one by one; None where none are.
        least: what the unit is at least that of: 1 where they are made as 1 - v, and else 0.
    """

    reference: Array
    candidate: Array
    rows: int | None
    enlarges: bool
    counts: Array | None = None
    masked: Array | None = None
    least: float = 0.0

    @classmethod
    def of(cls, reference: Array, candidate: Array, rows: int | None, enlarges: bool, least: float = 0.0) -> MadeBlob:
        """One whose `counts` are found."""
        made = cls(reference, candidate, rows, enlarges, least=least)
        places = [...] if rows is None else range(rows)
        beside = {row: small for row in places if (small := beside_mask(reference[row])) is not None}
        finite = np.isfinite(reference)
        if beside or not finite.all():
            counts = finite | ~alike(reference, candidate)
            made.masked = np.zeros_like(counts)
            for row, small in beside.items():
                made.masked[row] = counts[row] & ~small
            made.counts = counts & ~made.masked
        return made

    def channels(self, values: Array) -> Array:
        """Values as (rows, channels, values), NaN where they do not count."""
        held = values if values.dtype.kind == "f" else values.astype(np.float64)
        held = held if self.counts is None else np.where(self.counts, held, np.nan)
        if self.rows is not None:
            return held[: self.rows].reshape(self.rows, *(held.shape[1:2] or (1,)), -1)
        along = np.moveaxis(held, 1, 0) if held.ndim > 1 else np.atleast_1d(held)
        return along.reshape(1, len(along), -1)

    def apart(self, values: Array, exact: Array) -> Array:
        """Root mean squares of the differences in each row and channel."""
        first, second = self.channels(values), self.channels(exact)
        total, count = np.zeros((2, first.shape[0] * first.shape[1]))
        flat = [one.reshape(len(total), first.shape[2]) for one in (first, second)]
        step = max(1, PIECE // max(first.shape[2], 1))
        for start in range(0, len(total), step):
            part = slice(start, start + step)
            ours, theirs = (one[part] for one in flat)
            with np.errstate(all="ignore"):
                squares = np.square(np.subtract(ours, theirs, dtype=np.float64)).sum(axis=-1)
                if np.isfinite(squares).all():
                    total[part], count[part] = squares, first.shape[2]
                    continue
                errors = _errors(ours, theirs)
                counts = ~np.isnan(errors)
                total[part], count[part] = np.square(np.where(counts, errors, 0)).sum(axis=-1), counts.sum(axis=-1)
        return np.asarray(np.sqrt(total / np.maximum(count, 1))).reshape(first.shape[:2])

    def share(self, exact: Array, ours: Array, moves: Array, most: Array, fair: float) -> float:
        """How far the candidate is off, as a share of what rounding explains: the largest of all channels.

        Args:
            exact: t(c').
            ours, moves: root mean squares of the reference, and q.
            most: what q counts up to in each row.
            fair: how many times q the reference may be off.
        """
        theirs, held = self.apart(self.candidate, exact), self.channels(exact)
        unit = UNIT * _extent(held, -1)
        shares = np.divide(ours, moves, out=np.zeros_like(ours), where=(moves > 0) & (ours <= fair * moves))
        usual = moves * shares.max(axis=-1, keepdims=True, initial=0)
        ours = np.maximum(ours, np.minimum(usual, OF_ANOTHER * most))
        if (count := held.shape[-1]) < FEW:
            usual = NOISE * math.sqrt(ENOUGH / count)
            unit, ours, moves = UNITS_OF_FEW * unit, ours + usual * _middle(ours), moves + usual * _middle(moves)
        unit = np.maximum(unit, UNIT * self.least)
        explained = CHANCE * np.minimum(ours, fair * moves + unit) + unit
        explained += CHANCE_OF_MOVED * (moves if self.enlarges else np.minimum(moves, most))
        if not ((theirs <= explained) & np.isfinite(theirs)).all():
            with np.errstate(all="ignore"):
                share = np.where((theirs <= explained) & np.isfinite(theirs), 0.0, theirs / explained)
            return float(share.max()) if np.isfinite(share).all() else math.inf
        if self.masked is None:
            return 0.0
        in_mask = exact[self.masked]
        near = np.abs(_errors(self.candidate[self.masked], in_mask)) <= UNITS_OF_FEW * UNIT * np.abs(in_mask)
        return 0.0 if near.all() else math.inf


def straying(
    truth: Evaluator,
    feeds: Mapping[str, Array],
    stretches: Mapping[str, MadeBlob],
    tolerance: float,
    fair: float = FAIR,
    beside: Mapping[str, tuple[Array, Array]] = {},
) -> set[str]:
    """The blobs whose own stretch is off by more than rounding explains.

    Args:
        truth: the float64 run of the reference.
        feeds: what both networks were fed.
        stretches: blob of the reference -> its stretch.
        tolerance: as a share of a blob's range in each row, what q counts up to.
        fair: how many times q the reference may be off.
        beside: other blobs that are compared, which stretches begin at -> values in either network.
    """
    found = _straying(truth, feeds, stretches, tolerance, fair, beside, again=False)
    values = {**{name: (one.reference, one.candidate) for name, one in stretches.items()}, **beside}
    for name in [name for name, share in found.items() if share <= NEAR]:  # each with what it begins at alone
        begins = truth.fronts([name], {*values, *feeds} - {name})
        known = {front: values[front] for front in begins & values.keys()}
        fed = {front: feeds[front] for front in begins & feeds.keys()}
        if not _straying(truth, fed, {name: stretches[name]}, tolerance, fair, known, again=True):
            del found[name]
    return {*found}


def _straying(
    truth: Evaluator,
    feeds: Mapping[str, Array],
    stretches: Mapping[str, MadeBlob],
    tolerance: float,
    fair: float,
    beside: Mapping[str, tuple[Array, Array]],
    *,
    again: bool,
) -> dict[str, float]:
    """The same, with the shares; `again` by more draws, in which partial sums are rounded."""
    real = truth.real_values()
    # Integers that are equal in both networks are neither off nor any truth that rounding moves.
    whole = {name: one for name, one in stretches.items() if one.reference.dtype.kind in "biu"}
    settled = {name: one.reference for name, one in whole.items() if np.array_equal(one.reference, one.candidate)}

    def made_of(place: int, seed: int | None) -> Iterator[tuple[str, Array | None]]:
        blobs = {name: _as_read((one.reference, one.candidate), place) for name, one in stretches.items()}
        random = np.random.default_rng(seed)

        def rounded(name: str, values: Array, op_type: str = "") -> Array:
            return _moved(values, random, float(op_type in SQUASHING)) if name in real else values

        def instead(name: str, values: Array) -> Array:
            return (blobs[name] if seed is None else rounded(name, blobs[name])).astype(values.dtype, copy=False)

        def summed(values: Array, size: Array) -> Array:
            return values + random.standard_normal(size.shape) * (HALF_UNIT * UNIT) * size

        moved, known = dict(feeds), {name: _in_double(_as_read(values, place)) for name, values in beside.items()}
        if seed is not None:
            moved, known = ({name: rounded(name, one) for name, one in some.items()} for some in (moved, known))
        by_chance = (None, None) if seed is None else (rounded, summed if again else None)
        run = truth.each(moved, list(blobs), instead, by_chance[0], {**settled, **known}, by_chance[1])
        del moved, known
        for name, values in run:
            yield name, values.reshape(blobs[name].shape) if values.size == blobs[name].size else None

    found, earlier = dict.fromkeys(stretches, math.inf), {name: list[Array]() for name in stretches}
    # As many draws at once as memory is planned for.
    for start in range(MOVES, AGAIN if again else MOVES, MOVES):
        for name, _, moves in _moved_by(made_of, range(start, min(start + MOVES, AGAIN)), stretches):
            earlier[name] += moves
    # All runs are at the same blob, and keep none: in float64 they would take twice the memory of both networks.
    for (name, ours), (_, exact, moves) in zip(
        made_of(0, None), _moved_by(made_of, range(MOVES), stretches), strict=True
    ):
        if ours is not None and exact is not None:
            one, q = stretches[name], _together(earlier[name] + moves, again)
            most = tolerance * _extent(one.channels(one.reference), (-2, -1))[:, np.newaxis]
            found[name] = one.share(exact, one.apart(one.reference, ours), q, most, fair)
            if found[name] <= 1:
                del found[name]
    return found


def _moved_by(
    made_of: Callable[[int, int | None], Iterator[tuple[str, Array | None]]],
    seeds: Iterable[int],
    stretches: Mapping[str, MadeBlob],
) -> Iterator[tuple[str, Array | None, list[Array]]]:
    """Blob, t(c'), and by how much each of some draws moves it in each row and channel."""
    draws = [_until_it_fails(made_of(1, seed)) for seed in seeds]
    for name, exact in made_of(1, None):
        moves = list[Array]()
        for other, values in filter(None, [next(draw, None) for draw in draws]):
            assert other == name, "all runs give the same blobs in the same order"
            if values is not None and exact is not None:
                with np.errstate(all="ignore"):
                    sound = np.isfinite(exact.sum() + values.sum())
                still = exact if sound else np.where(np.isfinite(exact) & np.isfinite(values), exact, values)
                moves.append(stretches[name].apart(still, values))
        yield name, exact, moves


def _together(moves: list[Array], again: bool) -> Array:
    """What some draws move each channel by: the most of few, the root mean square of many."""
    if not moves:
        return np.zeros((1, 1))
    return np.asarray(np.sqrt(np.mean(np.square(moves), axis=0)) if again else np.maximum.reduce(moves))


def _as_read(values: tuple[Array, Array], place: int) -> Array:
    """Values of either network, in the reference's kind of numbers: Caffe's indices are real, and ONNX's are not."""
    kind, own = values[0].dtype, values[place].dtype
    if kind.kind == own.kind or {kind.kind, own.kind}.isdisjoint("biu"):
        return values[place]
    with np.errstate(invalid="ignore"):
        return values[place].astype(kind)


def _in_double(values: Array) -> Array:
    """As a float64 run has them."""
    return values.astype(np.float64, copy=False) if values.dtype.kind == "f" else values


def _until_it_fails(made: Iterator[_Made]) -> Iterator[_Made]:
    """What a run gives: where a size is among the values that are moved, it may end before the others."""
    with suppress(UnsupportedError):
        yield from made


def _moved(values: Array, random: np.random.Generator, least: float) -> Array:
    """Each value that is not 0 a unit of float32 in its last place off, or that of `least`, in float64."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return values
    moved = np.empty(values.shape, np.float64)
    flat, found = values.reshape(-1), moved.reshape(-1)
    lowest = np.float64(max(least, SMALLEST)).view(np.uint64) & EXPONENT
    with np.errstate(all="ignore"):
        for start in range(0, values.size, PIECE):
            piece, here = flat[start : start + PIECE], found[start : start + PIECE]
            here[:] = piece
            # The power of two at or below each magnitude; the unit is that over 2^23, with a sign by chance.
            bits = here.view(np.uint64) & EXPONENT
            units = np.maximum(bits, lowest, out=bits).view(np.float64)
            # As `random.integers(0, 2, piece.size)` draws them, 32 at once.
            drawn = random.integers(0, 1 << 32, -(-piece.size // 32), np.uint32).astype("<u4", copy=False)
            signs = np.unpackbits(drawn.view(np.uint8), count=piece.size, bitorder="little").view(np.int8)
            signs += signs
            signs -= 1
            signs *= here != 0
            units *= UNIT
            units *= signs.astype(np.float64)
            here += units
            if not (here.min() >= -LARGEST and here.max() <= LARGEST):  # or something is no number
                np.copyto(here, piece, where=~(np.abs(piece, dtype=np.float64) < LARGEST))
    return moved


def _errors(values: Array, exact: Array) -> Array:
    """The differences, infinite where one side alone is finite, NaN where none is."""
    with np.errstate(all="ignore"):
        errors = values.astype(np.float64) - exact
    broken = np.isfinite(values) != np.isfinite(exact)
    return np.where(broken, np.inf, np.where(np.isfinite(values), errors, np.nan))


def _extent(values: Array, axes: int | tuple[int, ...]) -> Array:
    """The larger one of range and magnitude along some axes."""
    low, high = np.min(values, axes, initial=np.inf), np.max(values, axes, initial=-np.inf)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        sound = np.isfinite(values)
        low = np.min(values, axes, initial=np.inf, where=sound)
        high = np.max(values, axes, initial=-np.inf, where=sound)
    with np.errstate(over="ignore"):  # of values of both signs near the largest, which is infinite
        return np.where(low <= high, np.maximum(high - low, np.maximum(abs(low), abs(high))), 0.0)


def _middle(each: Array) -> Array:
    """What half of the channels have at most, in each row."""
    return np.sort(each, axis=-1)[..., [(each.shape[-1] - 1) // 2]]
