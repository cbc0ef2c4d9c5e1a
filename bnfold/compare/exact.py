"""Both networks against the truth: a float64 run of the original, to see whether folding moved towards it or away.

It also decides, unasked, where the tolerance is passed by rounding alone: a Sigmoid of scores around 4000 turns their
rounding into 1e-4 of its own range, in the original as in the folded network, and which of the two rounds better at a
place is chance. A blob is as exact as the reference if all compared blobs in front of it are, and

    its own stretch is off by no more than rounding explains (`stretches.py`),
    or the same layer makes it in both of what it reads, without weights or with equal ones of a normalisation.

A fault is not: beside a weight that is wrong by a thousandth, float32 rounds a thousand times better. With t the
float64 run, a note says how far both are from it.

In float16 and bfloat16 (if the networks run so) the weights are no truth either: those that a fold computed are rounded
once, and a network whose sums cancel shows it. So the candidate runs in float32 too, as it is and MOVED times with each
weight that is not the reference's half a unit in its last place off, up or down by chance. With q what the largest of
these moves the blob by, in each sample and channel

    rms(c - t)  <=  2 * rms(r - t) + 3 * q + u / sqrt(12) * max abs(r)

where u is the distance of two values around 1 in that type. q counts up to the tolerance, since sums
that cancel so far that the rounding of weights alone loses more prove nothing. Where channels have a few values, as the
scores of classes, r may meet the truth in one of them by chance: then 4 times the root mean square over the channels of
rms(r - t) is added, and 2*u takes the place of u / sqrt(12). Where they have more, the same holds of one number of each
channel besides, the share of the truth t' without its mean in its n values v, sum(v*t') / sqrt(n * sum(t'^2)): a
channel that is wrong by a factor shows that whole, and many weights that are rounded by chance hardly move it. (As much
of a channel's t' as is moved of half of the channels' is its q at least: draws may cancel.) One blob of which that is
not true speaks against all: a tolerance of 1e-2 hides faults of a channel in one place that pass for rounding in
another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bnfold.compare.backends import Float64
from bnfold.compare.divergence import upstream
from bnfold.compare.kernels import alike
from bnfold.compare.metrics import PIECE
from bnfold.compare.models import Model, same_stored
from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.options import ROUNDING as UNITS

if TYPE_CHECKING:
    from bnfold.onnx.evaluator import Evaluator

LEAST_TOLERANCE = 1e-6  # who asks for less than float32 gives is taken at his word
CHANCE = 2.0
TOO_FAR = 1e-2  # a reference so far from the truth is not rounded: onnx's arithmetic reads an operator otherwise
UNITS_TOO_FAR = 8.0  # nor is one that is farther away than so many units, where they are a large share of a flat sample
UNIT = 2.0**-23  # the distance of two floats around 1
ROUNDING = 100.0  # times the tolerance: what is farther away at the first place is no rounding, and a float64 run slow
FEW = 8  # values of a sample of which a mean says nothing
UNITS_OF_FEW = 8  # how many units of their own largest value these may be off; a sum of 64 terms is off by 2
CHANCE_OF_ONE = 4.0  # of 10,000 values hardly one is so many times as far off as their root mean square
UNITS_OF_ONE = 2.0  # each of several operators behind one another rounds by half a unit
MOVED = 8  # seldom are so many draws all far smaller than what the rounding of one channel's weights did
CHANCE_OF_MOVED = 3.0  # times the most of so many draws: of 100,000 channels 30 are farther off than twice that
COARSE = ("bfloat16", "float16")  # types whose rounding of the weights that a fold computed counts
NORMALISING = (
    *("GroupNormalization", "InstanceNormalization", "LayerNormalization", "MeanVarianceNormalization"),
    *("SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
)
EVERY_SAMPLE = 16  # of so many samples each one is judged; of more, the one with the largest error

Figures: TypeAlias = tuple[Float64, Float64, Float64, Float64]
"""Of each channel how far reference and candidate are off, by how much chance is, and how far the candidate moved."""


@dataclass(frozen=True, slots=True)
class Distances:
    """How far the reference and the candidate are from the truth: root mean squares, as shares of the blob's range.

    Attributes:
        reference, candidate: the distances.
        unit: the distance of two floats at the blob's largest value, likewise.
        moved: how far rounding the candidate's weights otherwise moves it.
        too_far: a reference that is so far away is not rounded.
        strays: whether its own stretch is off by more than rounding; None where that was not looked at.
        unseen: by which share of itself a channel may be off and pass for rounding, the largest of all; of types of 2
            bytes, and else 0.
    """

    reference: float
    candidate: float
    unit: float = UNIT
    moved: float = 0.0
    too_far: float = TOO_FAR
    strays: bool | None = None
    unseen: float = 0.0

    @classmethod
    def of(cls, truth: Array, reference: Array, candidate: Array, size: float, largest: float = 0.0) -> Distances:
        """Of one sample of one blob; infinite where one is finite and the truth is not, or the other way round.

        Where both are the same value that says nothing: they overflow together, or the truth is none there.

        Args:
            truth, reference, candidate: equally shaped values.
            size: the blob's range.
            largest: the largest magnitude of its values.
        """
        (ours,), (theirs,) = _apart([one.reshape(1, -1) for one in (truth, reference, candidate)], size).tolist()
        return cls(ours, theirs, UNIT * max(1.0, largest / size))

    @classmethod
    def by_channel(cls, values: Sequence[Array], size: float, coarse: Coarse) -> Distances:
        """As `of`, of the channel along the first axis that speaks most against the candidate.

        Args:
            values: the truth, the reference, and the candidate; then the candidate in float32, as it is and with its
                weights rounded otherwise.
            size: as in `of`.
            coarse: what holds in the type of the values.
        """
        if not values[0].size:
            return cls(0.0, 0.0)
        flat = [one.reshape(len(one), -1) for one in values]
        still, *others = flat[3:]
        reference, candidate = _apart(flat[:3], size)
        moved, few = np.minimum(_moved(still, others, size), coarse.tolerance), flat[0].shape[1] < FEW
        largest = np.abs(np.where(np.isfinite(flat[1]), flat[1], 0.0)).max(axis=1).astype(np.float64)
        units = (UNITS_OF_ONE if few else 1 / math.sqrt(12)) * 2 * coarse.rounding * largest / size
        if few:
            units += CHANCE_OF_ONE * _usual(reference, coarse)
        found: list[Figures] = [(reference, candidate, units, moved)]
        lengths = np.sqrt(np.square(np.where(np.isfinite(flat[0]), flat[0], 0.0)).mean(axis=1)) / size
        if not few:
            figures, lengths = _by_factor(flat, UNITS_OF_ONE * 2 * coarse.rounding * largest / size, size, coarse)
            found.append(figures)
        ours, _, chance, most = found[-1]
        explained = CHANCE * ours + CHANCE_OF_MOVED * most + chance
        shares = np.divide(explained, lengths, out=np.zeros_like(explained), where=lengths > 0)
        ours, theirs, units, most = np.concatenate(found, axis=1)
        tells = _tells(ours, units, coarse.too_far)
        worst = np.lexsort((theirs, tells, _excess(ours, theirs, units, most, tells) > 0))[-1]  # as by `weight`
        return cls(
            reference=float(ours[worst]),
            candidate=float(theirs[worst]),
            unit=float(units[worst]),
            moved=float(most[worst]),
            too_far=coarse.too_far,
            unseen=float(min(shares.max(), 1.0)),
        )

    def joined(self, other: Distances) -> Distances:
        """Of two samples the one that speaks more against the candidate."""
        worse = max(self, other, key=lambda one: one.weight)
        return replace(worse, strays=self.strays or other.strays, unseen=min(self.unseen, other.unseen))

    @property
    def excess(self) -> float:
        """By how much the candidate is farther away than chance explains; at most 0 where it is as exact."""
        return float(_excess(self.reference, self.candidate, self.unit, self.moved, self.tells))

    @property
    def tells(self) -> bool:
        """Whether the float64 run is a truth to the reference: not behind a jump that rounding decides otherwise."""
        return bool(_tells(self.reference, self.unit, self.too_far))

    @property
    def weight(self) -> tuple[bool, bool, float]:
        """Of two samples the larger speaks more against the candidate."""
        return self.excess > 0, self.tells, self.candidate


def _tells(reference: float | Float64, unit: float | Float64, too_far: float) -> npt.NDArray[np.bool_]:
    """`Distances.tells`, of one channel or of each of some."""
    return np.less_equal(reference, np.maximum(too_far, np.multiply(UNITS_TOO_FAR, unit)))


def _excess(
    reference: float | Float64,
    candidate: float | Float64,
    unit: float | Float64,
    moved: float | Float64,
    tells: bool | npt.NDArray[np.bool_],
) -> Float64:
    """`Distances.excess`, of one channel or of each of some."""
    with np.errstate(invalid="ignore"):  # of an infinite reference and candidate
        beyond = np.asarray(candidate) - np.multiply(CHANCE, reference) - np.multiply(CHANCE_OF_MOVED, moved) - unit
    exact = np.equal(candidate, reference) & np.isfinite(reference)
    return np.where(exact, 0.0, np.where(tells, beyond, candidate))


def _apart(values: Sequence[Array], size: float) -> Float64:
    """Of each row the root mean square errors of two others against the first, (2, rows), as shares of `size`."""
    squared, count = np.zeros((2, len(values[0]))), np.zeros(len(values[0]))
    lost = np.zeros(squared.shape, bool)
    for rows, (exact, *found) in _in_blocks(values):
        same = alike(*found)
        sound = np.isfinite(exact) & (np.isfinite(found[0]) | ~same)
        count[rows] += sound.sum(axis=1)
        for side, one in enumerate(found):
            lost[side, rows] |= ((np.isfinite(one) != np.isfinite(exact)) & ~same).any(axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                errors = np.where(sound, (one - exact) / size, 0.0)  # whose squares would pass float64 sooner
                squared[side, rows] += np.square(errors).sum(axis=1)
    return np.where(lost, np.inf, np.sqrt(squared / np.maximum(count, 1.0)))


def _moved(still: Array, others: Sequence[Array], size: float) -> Float64:
    """Of each row the largest root mean square difference of others from `still`, as a share of `size`; infinite where
    one alone is finite.
    """
    squared, count = np.zeros((len(others), len(still))), np.zeros(len(still))
    lost = np.zeros(squared.shape, bool)
    for rows, (first, *found) in _in_blocks([still, *others]):
        sound = np.isfinite(first)
        count[rows] += sound.sum(axis=1)
        for place, one in enumerate(found):
            lost[place, rows] |= (np.isfinite(one) != sound).any(axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                errors = np.where(sound, (one - first) / size, 0.0)
                squared[place, rows] += np.einsum("rc,rc->r", errors, errors)
    distances: Float64 = np.where(lost, np.inf, np.sqrt(squared / np.maximum(count, 1.0))).max(axis=0)
    return distances


def _in_blocks(values: Sequence[Array]) -> Iterator[tuple[slice, list[Float64]]]:
    """Blocks of equally shaped (rows, columns) in float64, few enough values to stay in cache, and their rows."""
    rows, columns = values[0].shape
    step = max(1, PIECE // max(columns, 1))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        for left in range(0, columns, PIECE):
            yield part, [one[part, left : left + PIECE].astype(np.float64) for one in values]


def _by_factor(values: Sequence[Array], units: Float64, size: float, coarse: Coarse) -> tuple[Figures, Float64]:
    """What each channel has of the truth without its mean, sum(v*t') / sqrt(n * sum(t'^2)), in each of the values; and
    the root mean square of that truth.
    """
    length, true, ours, theirs, still, *others = _along_truth(values) / size
    reference, candidate = np.abs(ours - true), np.abs(theirs - true)
    moved, known = np.abs(np.array(others) - still).max(axis=0), np.where(length > 0, length, 1.0)
    moved = np.minimum(np.maximum(moved, np.median(moved / known) * known), coarse.tolerance)
    return (reference, candidate, units + CHANCE_OF_ONE * _usual(reference, coarse), moved), length


def _usual(reference: Float64, coarse: Coarse) -> float:
    """The root mean square of how far the channels of a reference are off, of those that are not lost."""
    sane = reference[reference <= coarse.tolerance]
    return math.sqrt(float(np.square(sane).sum()) / max(len(sane), 1))


def _along_truth(values: Sequence[Array]) -> Float64:
    """Of each row the root mean square of the first values without their mean, and the share of it in each of all."""
    shares = np.empty((1 + len(values), len(values[0])))
    for row in range(0, len(values[0]), step := max(1, PIECE // values[0].shape[1])):
        flat = np.array([one[row : row + step] for one in values], np.float64)
        sound = np.isfinite(flat).all(axis=0)
        flat, count = np.where(sound, flat, 0.0), np.maximum(sound.sum(axis=1), 1)
        varying = np.where(sound, flat[0] - (flat[0].sum(axis=1) / count)[:, np.newaxis], 0.0)
        length = np.sqrt(np.square(varying).sum(axis=1) / count)
        along = np.einsum("kcn,cn->kc", flat, varying) / (count * np.where(length > 0, length, 1.0))
        shares[:, row : row + step] = [length, *along]
    return shares


class Coarse(NamedTuple):
    """What holds of weights of 2 bytes: half a unit in the last place of values, the tolerance, how far is too far."""

    rounding: float
    tolerance: float
    too_far: float

    @classmethod
    def of(cls, stored: str, run: str, tolerance: float) -> Coarse | None:
        """Of the type of the weights and that of the values; None for finer weights."""
        return cls(UNITS[run], tolerance, 10 * tolerance) if stored in COARSE else None


def as_exact(reference: Model, candidate: Model, pairs: Mapping[str, str], found: Mapping[str, Distances]) -> set[str]:
    """The blobs that are as exact as the reference's: each stretch up to them is, or is the same function in both.

    Of types of 2 bytes a blob may be so by itself.
    """
    exact: set[str] = set()
    pairs = {blob: partner for blob, partner in pairs.items() if blob in found}
    for blob, partner in pairs.items():  # in order of execution
        apart = found[blob]
        in_front = exact.issuperset(pairs.keys() & set(upstream(blob, reference.reads, pairs)))
        by_itself = apart.excess <= 0 if apart.strays is None else in_front and not apart.strays
        if by_itself or (in_front and same_function(reference, candidate, blob, partner, pairs)):
            exact.add(blob)
    return exact


def same_function(reference: Model, candidate: Model, blob: str, partner: str, pairs: Mapping[str, str]) -> bool:
    """Whether the same operators make a blob in both of the blobs that its layer reads, by no weights but a norm's."""
    ours = _formula(reference, blob, {name: pairs.get(name) for name in reference.reads[blob]})
    read = {pairs[name] for name in reference.reads[blob] if name in pairs}
    return ours is not None and ours == _formula(candidate, partner, {name: name for name in read})


def same_makers(reference: Model, candidate: Model, blob: str, leaves: Mapping[str, str]) -> bool:
    """Whether the same nodes, with equal weights, make a blob of the same name in both of some partners, at which the
    way back ends.
    """
    waiting, seen = [(blob, blob)], set[tuple[str, str]]()
    stored: set[tuple[str, str]] = set()
    while waiting:
        ours, theirs = one = waiting.pop()
        if one in seen or leaves.get(ours) == theirs or one == ("", ""):
            continue
        seen.add(one)
        node, other = reference.makers.get(ours), candidate.makers.get(theirs)
        if ours in leaves or (node is None) != (other is None):
            return False
        if node is None or other is None:
            stored.add(one)
            continue
        read, others = reference.inputs[ours], candidate.inputs[theirs]
        if reference.settings(ours) != candidate.settings(theirs) or len(read) != len(others):
            return False
        waiting += zip(read, others, strict=True)
    before, after = reference.stored({one for one, _ in stored}), candidate.stored({other for _, other in stored})
    return all(one in before and same_stored(before[one], after.get(other)) for one, other in stored)


def _formula(model: Model, blob: str, leaves: Mapping[str, str | None]) -> tuple[object, ...] | None:
    """The operators from `leaves` to `blob`, nested; None if they read anything else."""
    node = model.makers.get(blob)
    if node is None:
        return None
    inputs = [_operand(model, name, node.op_type, leaves) for name in model.inputs[blob]]
    if None in inputs or (None,) in inputs:
        return None
    return (model.settings(blob), tuple(inputs))


def _operand(model: Model, name: str, reader: str, leaves: Mapping[str, str | None]) -> tuple[object, ...] | None:
    """What a node reads: a leaf, what other nodes make of these, or what is stored."""
    name = model.source(name, leaves)
    return (leaves[name],) if name in leaves else _formula(model, name, leaves) or _constant(model, name, reader)


def _constant(model: Model, name: str, reader: str) -> tuple[object, ...] | None:
    """What is stored under a name: of a normalisation, or one value, or integers; None of other weights."""
    from bnfold.onnx.stored_values import as_weight

    if name not in model.initializers:
        return None
    stored = as_weight(model.initializers[name], model.folder)
    if not (reader in NORMALISING or prod(stored.shape) == 1 or stored.dtype.kind == "i"):
        return None
    return (stored.dtype.name, stored.shape, stored.array().tobytes())


def open_exact(reference: Model, notes: list[str]) -> Evaluator | None:
    """The float64 run of the reference, or None with a note that says why there is none."""
    from bnfold.onnx.evaluator import Evaluator

    blobs = list(reference.writers)
    try:
        if reference.net is not None:
            return Evaluator.of_net(reference.net, blobs)
        return Evaluator.of_model(reference.proto, reference.weights, reference.folder, blobs)
    except UnsupportedError as error:
        notes.append(f"no exact column: {error}")
        return None
