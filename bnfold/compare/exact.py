"""Both networks against the truth: a float64 run of the original, to see whether folding moved towards it or away.

It also decides, unasked, where the tolerance is passed by rounding alone: a Sigmoid of scores around 4000 turns their
rounding into 1e-4 of its own range, in the original as in the folded network, and which of the two rounds better at a
place is chance. With t the float64 run, a blob is as exact as the reference if, for each sample,

    rms(c - t)  <=  2 * rms(r - t) + 2^-23 * max(range, max abs(r))

or if the same layer makes it in both, of blobs of which that is true, without weights or with equal ones of a
normalisation: of a plane that is constant it divides what rounding left by sqrt(epsilon). The factor is the chance: two
programs that round equally well are seldom twice as far from the truth over a whole blob. A fault is: beside a weight
that is wrong by a thousandth, float32 rounds a thousand times better. What rounding left of one channel hides no fault
of another: none may be off by more than the tolerance, and 4 times as far as in the reference. A few values, as one
score a sample, are no whole blob, and may lie near 0 by chance, where what was added up to them is as large as in other
samples: they may be 8 units off of the largest value of the run.

In float16 and bfloat16 (if the networks run so) the weights are no truth either: those that a fold computed are rounded
once, and a network whose sums cancel shows it. So the candidate runs in float32 too, as it is and MOVED times with each
weight that is not the reference's half a unit in its last place off, up or down by chance. With q what the largest of
these moves the blob by, in each sample and channel

    rms(c - t)  <=  2 * rms(r - t) + 3 * q + u / sqrt(12) * max abs(r)

where u is the distance of two values around 1 in that type. q counts up to the tolerance, since sums
that cancel so far that the rounding of weights alone loses more prove nothing. Where channels have a few values, as the
scores of classes, r may meet the truth in one of them by chance: then 4 times the root mean square over the channels of
rms(r - t) is added, and 2*u takes the place of u / sqrt(12). One blob of which that is not true
speaks against all: a tolerance of 1e-2 hides faults of a channel in one place that pass for rounding in another.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.divergence import upstream
from bnfold.compare.kernels import span
from bnfold.compare.metrics import ENOUGH, NOISE, extremes, in_pieces, magnitude
from bnfold.compare.models import Model, is_copy
from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.options import ROUNDING as UNITS

if TYPE_CHECKING:
    from bnfold.onnx.evaluator import Evaluator

LEAST_TOLERANCE = 1e-6  # who asks for less than float32 gives is taken at his word
CHANCE = 2.0
ASTRAY = 1e-2  # a reference so far from the truth is not rounded: onnx's arithmetic reads an operator otherwise
UNITS_ASTRAY = 8.0  # nor is one that is farther away than so many units, where they are a large share of a flat sample
UNIT = 2.0**-23  # the distance of two floats around 1
ROUNDING = 100.0  # times the tolerance: what is farther away at the first place is no rounding, and a float64 run slow
FEW = 8  # values of a sample of which a mean says nothing
UNITS_OF_FEW = 8  # how many units of the largest value of all samples these may be off; a sum of 64 terms is off by 2
CHANCE_OF_ONE = 4.0  # of 10,000 values hardly one is so many times as far off as their root mean square
UNITS_OF_ONE = 2.0  # each of several operators behind one another rounds by half a unit
MOVED = 8  # seldom are so many draws all far smaller than what the rounding of one channel's weights did
CHANCE_OF_MOVED = 3.0  # times the most of so many draws: of 100,000 channels 30 are farther off than twice that
COARSE = ("bfloat16", "float16")  # types whose rounding of the weights that a fold computed counts
NORMALISING = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "MeanVarianceNormalization")
EVERY_SAMPLE = 16  # of so many samples each one is judged; of more, the one with the largest error


@dataclass(frozen=True, slots=True)
class Distances:
    """How far the reference and the candidate are from the truth: root mean squares, as shares of the blob's range.

    Attributes:
        reference, candidate: the distances.
        unit: the distance of two floats at the blob's largest value, likewise.
        moved: how far rounding the candidate's weights otherwise moves it.
        astray: a reference that is so far away is not rounded.
        narrow: the largest excess of a channel, each held to its own range.
        alone: how far the candidate is from the truth in a channel in which the reference is much nearer to it.
    """

    reference: float
    candidate: float
    unit: float = UNIT
    moved: float = 0.0
    astray: float = ASTRAY
    narrow: float = 0.0
    alone: float = 0.0

    @classmethod
    def of(cls, truth: Array, reference: Array, candidate: Array, size: float, largest: float = 0.0) -> Distances:
        """Of one sample of one blob; infinite where one is finite and the truth is not, or the other way round.

        Where both are the same value that says nothing: they overflow together, or the truth is none there.

        Args:
            truth, reference, candidate: equally shaped values.
            size: the blob's range.
            largest: the largest magnitude of its values.
        """
        squared, count = [0.0, 0.0], 0
        for exact, *found in in_pieces(truth, reference, candidate):
            same = (found[0] == found[1]) | np.isnan(found[0]) & np.isnan(found[1])
            sound = np.isfinite(exact) & (np.isfinite(found[0]) | ~same)
            count += int(sound.sum())
            for side, values in enumerate(found):
                if ((np.isfinite(values) != np.isfinite(exact)) & ~same).any():
                    squared[side] = np.inf
                    continue
                with np.errstate(over="ignore"):
                    errors = (values[sound] - exact[sound]) / size  # whose squares would pass float64 sooner
                    squared[side] += float(np.square(errors).sum())
        ours, theirs = (math.sqrt(total / max(count, 1)) for total in squared)
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
        few = values[0].size < FEW * len(values[0])
        channels = []
        for true, ours, theirs, still, *others in zip(*values, strict=True):
            found = cls.of(true, ours, theirs, size)
            units = UNITS_OF_ONE if few else 1 / math.sqrt(12)
            unit = units * 2 * coarse.rounding * magnitude(*extremes(ours)) / size
            apart = max(cls.of(still, still, other, size).candidate for other in others)
            channels.append(cls(found.reference, found.candidate, unit, min(apart, coarse.tolerance), coarse.astray))
        if few:
            known = [one.reference for one in channels if one.reference <= coarse.tolerance]
            usual = CHANCE_OF_ONE * math.sqrt(math.fsum(one * one for one in known) / max(len(known), 1))
            channels = [replace(one, unit=one.unit + usual) for one in channels]
        return max(channels, key=lambda one: one.weight, default=cls(0.0, 0.0))

    @classmethod
    def in_channels(cls, truth: Array, reference: Array, candidate: Array) -> float:
        """The largest excess of a channel along the first axis, by its own range.

        Of a few values r may meet the truth by chance, and c be what was rounded worst: they may be as far off as a
        `BlobError.small_channel`, beside what half of the channels of r are.
        """
        if 0 < truth.size < FEW * len(truth):
            flat = [side.reshape(len(side), -1).astype(np.float64) for side in (truth, reference, candidate)]
            with np.errstate(all="ignore"):
                ours, theirs = (np.sqrt(np.square(side - flat[0]).mean(axis=1)) for side in flat[1:])
            usual = NOISE * math.sqrt(ENOUGH / flat[0].shape[1]) * np.sort(ours)[(len(ours) - 1) // 2]
            excess = theirs - CHANCE * ours - UNITS_OF_FEW * UNIT * np.abs(flat[0]).max(axis=1) - usual
            return float(np.max(excess, initial=0.0, where=np.isfinite(excess)))
        worst = 0.0
        for true, ours, theirs in zip(truth, reference, candidate, strict=True):
            ends = extremes(ours)
            worst = max(worst, cls.of(true, ours, theirs, span(*ends), magnitude(*ends)).excess)
        return worst

    @classmethod
    def in_one(cls, size: float, truth: Array, reference: Array, candidate: Array) -> float:
        """The largest distance of the candidate in a channel in which the reference is much nearer; 0 of a few values.

        Args:
            size: as in `of`.
            truth, reference, candidate: with the channel as first axis.
        """
        if truth.size < FEW * len(truth):
            return 0.0
        each = (
            cls.of(*sides, size, magnitude(*extremes(sides[1])))
            for sides in zip(truth, reference, candidate, strict=True)
        )
        return max(
            (one.candidate for one in each if one.candidate > CHANCE_OF_ONE * one.reference + one.unit), default=0.0
        )

    def joined(self, other: Distances) -> Distances:
        """Of two samples the one that speaks more against the candidate, with the larger excess of a channel."""
        worse = max(self, other, key=lambda one: one.weight)
        return replace(worse, narrow=max(self.narrow, other.narrow), alone=max(self.alone, other.alone))

    @property
    def excess(self) -> float:
        """By how much the candidate is farther away than chance explains; at most 0 where it is as exact."""
        if self.candidate == self.reference < math.inf:
            return 0.0
        if not self.tells:
            return self.candidate
        return self.candidate - CHANCE * self.reference - CHANCE_OF_MOVED * self.moved - self.unit

    @property
    def tells(self) -> bool:
        """Whether the float64 run is a truth to the reference: not behind a jump that rounding decides otherwise."""
        return self.reference <= max(self.astray, UNITS_ASTRAY * self.unit)

    @property
    def weight(self) -> tuple[bool, bool, float]:
        """Of two samples the larger speaks more against the candidate."""
        return self.excess > 0, self.tells, self.candidate


class Coarse(NamedTuple):
    """What holds of weights of 2 bytes: half a unit in the last place of values, the tolerance, how far is too far."""

    rounding: float
    tolerance: float
    astray: float

    @classmethod
    def of(cls, stored: str, run: str, tolerance: float) -> Coarse | None:
        """Of the type of the weights and that of the values; None for finer weights."""
        return cls(UNITS[run], tolerance, 10 * tolerance) if stored in COARSE else None


def as_exact(
    reference: Model,
    candidate: Model,
    pairs: Mapping[str, str],
    found: Mapping[str, Distances],
    tolerance: float = math.inf,
    within: Collection[str] = (),
) -> set[str]:
    """The blobs that are as exact as the reference's, by their own distances or by those of what they are made of.

    What is made of a blob may show a channel that is small in it, so there each channel has to be as exact. Where both
    read the same rounding, which is far from the truth, it is none to what they make of it.

    Args:
        reference, candidate: the networks.
        pairs: blob of the reference -> blob of the candidate.
        found: blob -> its distances.
        tolerance: what a channel alone may be off by, and what is far.
        within: the blobs in which both are the same up to that.
    """
    exact: set[str] = set()
    narrowly: set[str] = set()
    for blob, partner in pairs.items():  # in order of execution
        if blob not in found:
            continue
        made_of = [read for read in reference.reads[blob] if read in reference.writers]
        nearest = set(upstream(blob, reference.reads, found)).intersection(found, within)
        shared = any(found[name].reference > tolerance for name in nearest)
        by_itself = found[blob].excess <= 0 and found[blob].alone <= tolerance and not shared
        by_read = (
            bool(made_of) and narrowly.issuperset(made_of) and same_function(reference, candidate, blob, partner, pairs)
        )
        if by_itself or by_read:
            exact.add(blob)
        if by_read or (by_itself and found[blob].narrow <= 0):
            narrowly.add(blob)
    return exact


def same_function(reference: Model, candidate: Model, blob: str, partner: str, pairs: Mapping[str, str]) -> bool:
    """Whether the same operators make a blob in both of the blobs that its layer reads, by no weights but a norm's."""
    ours = _formula(reference, blob, {name: pairs.get(name) for name in reference.reads[blob]})
    read = {pairs[name] for name in reference.reads[blob] if name in pairs}
    return ours is not None and ours == _formula(candidate, partner, {name: name for name in read})


def _formula(model: Model, blob: str, leaves: Mapping[str, str | None]) -> tuple[object, ...] | None:
    """The operators from `leaves` to `blob`, nested; None if they read anything else."""
    node = model.makers.get(blob)
    if node is None:
        return None
    inputs = [_operand(model, name, node.op_type, leaves) for name in node.input]
    if None in inputs or (None,) in inputs:
        return None
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return (node.op_type, list(node.output).index(blob), tuple(attributes), tuple(inputs))


def _operand(model: Model, name: str, reader: str, leaves: Mapping[str, str | None]) -> tuple[object, ...] | None:
    """What a node reads: a leaf, what other nodes make of these, or what is stored."""
    if name in leaves:
        return (leaves[name],)
    node = model.makers.get(name)
    if node is not None and is_copy(node, name):
        return _operand(model, node.input[0], reader, leaves)
    return _formula(model, name, leaves) or _constant(model, name, reader)


def _constant(model: Model, name: str, reader: str) -> tuple[object, ...] | None:
    """What is stored under a name: of a normalisation, or one value, or integers; None of other weights."""
    from bnfold.onnx.graph import stored_weights

    stored = stored_weights(model.parts, {name}).get(name)
    if stored is None or not (reader in NORMALISING or prod(stored.shape) == 1 or stored.dtype.kind == "i"):
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
