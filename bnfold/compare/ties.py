"""Indices that differ because two values are equal: ArgMax or a pooling mask on a near tie.

An index is no measure: one rounding can turn class 3 into class 300, or send a pooled value to another pixel. So where
the indices of the two networks differ, the values decide that the reference's layer chose from. If those at both places
are equal within what the tolerance allows each of the two to move,

    r[i] - r[j] <= 2 * tolerance * range of r in this sample,

and so are the candidate's, by its own range with 0 in it, the answer is a tie: it is counted, and not as a difference.
(Without the candidate's, a blob that is 0 throughout in the reference would excuse any index and any flag of it.) What
stands behind such an index would differ all the same (an unpooling writes elsewhere), so the candidate runs once more
with the reference's index in the place of its own, and what stands behind is compared as strictly as everything else.

An index may also be a step of a stair, see `pointers`.

Which boxes NonMaxSuppression keeps, and in which order, follows from many values at once, and so does what a body of If
or Loop makes of these boxes. Nothing is looked up then: where the same operator with the same settings gives other
integers, and all that it reads is equal in both networks, floats within the tolerance and others exactly, they are a
tie as a whole, though there be more or fewer of them. Scores are ordered within a class, so the range of that counts,
and boxes overlap by their sides, so the largest of these counts, wherever they lie. What is beyond the tolerance is
equal where it is compared for itself by the range of its sample: a float64 run decides about that. (Other bodies may
enlarge what they read, and an integer that they make is judged as any value is.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.batches import BlobValues, Run, has_rows
from bnfold.compare.divergence import upstream
from bnfold.compare.kernels import alike, span
from bnfold.compare.models import Model
from bnfold.compare.pointers import NEAR_LIMIT, Pointer, known_values, pointer_of
from bnfold.errors import ModelError
from bnfold.net import Array, DType, Shape
from bnfold.runtime import AnyArray, Session, to_host

if TYPE_CHECKING:
    from onnx import NodeProto

Opening = Callable[[Model, Sequence[str]], Session]
"""(candidate, blobs) -> something that computes these besides its outputs."""
AGREED = 4 << 20
"""Bytes of indices that are kept from one segment to the next."""
TIED = 28  # bytes for each value of a blob that is looked at for ties, most of them for the place where it is
PIECE = 1 << 14  # values that are looked at at once, since several of float64 stand beside each

Extent = Callable[[Array], Array]
"""Values -> of how large a difference of them the tolerance is a share, in a shape that broadcasts to theirs."""


class Decision(NamedTuple):
    """A blob of integers that the same operator makes in both networks.

    Attributes:
        reads: what the operator reads in the reference and in the candidate, with its extent where the tolerance is no
            share of the range in a sample.
        what: what a tie is, for the report.
    """

    reads: tuple[tuple[str, str, Extent | None], ...]
    what: str = "integers differ that the same operator makes of equal values"


@dataclass(slots=True)
class Ties:
    """The blobs of indices that both networks have, and the ties found so far.

    Attributes:
        candidate: the network that is run again.
        pointers: index blob of the reference -> what it points into, in order of execution.
        partners: index blob of the reference -> that of the candidate.
        own: index blob of the reference -> what its partner points into, as far as that is known.
        decisions: blob of the reference -> how it is made, where it points nowhere.
        judged: the blobs of the reference that are compared for themselves, by the range in each sample.
        tolerance: relative to the range.
        fed: the inputs of the reference, which both networks have alike.
        counts: index blob -> ties, and indices compared.
        agreed: first sample of a run -> the indices that the candidate was run again with, which segments share.
    """

    candidate: Model
    pointers: dict[str, Pointer]
    partners: dict[str, str]
    own: dict[str, Pointer]
    decisions: dict[str, Decision]
    judged: Collection[str]
    tolerance: float
    fed: Collection[str] = ()
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    agreed: dict[int, dict[str, Array]] = field(default_factory=dict)
    _again: Session | None = None

    @classmethod
    def of(
        cls,
        reference: Model,
        candidate: Model,
        pairs: Mapping[str, str],
        tolerance: float,
        judged: Collection[str] = (),
    ) -> Ties:
        """The ties that can be resolved between two networks, given all pairs of blobs, and those that are compared."""
        data = _follows_values(reference)
        pointers = {
            name: pointer for name in pairs if name in data and (pointer := pointer_of(reference, name)) is not None
        }
        own, is_one_language = {}, (candidate.net is None) == (reference.net is None)
        for name, pointer in pointers.items():
            is_one_type = candidate.writers[pairs[name]].type == reference.writers[name].type
            may_be_same = is_one_language and (pointer.part is not None or is_one_type)
            same = pointer_of(candidate, pairs[name]) if may_be_same else None
            if pointer.part is not None and (same is None or (same.part, same.limit) != (pointer.part, pointer.limit)):
                continue  # what jumps elsewhere gives other values
            if same is not None:
                own[name] = same
            elif all(blob in pairs for blob in pointer.values):  # Caffe's Threshold is several nodes in ONNX
                own[name] = pointer._replace(values=tuple(pairs[blob] for blob in pointer.values))
        pointers = {name: pointer for name, pointer in pointers.items() if pointer.part is None or name in own}
        known = {name: decision_of(reference, candidate, name, pairs[name]) for name in pairs if name in data}
        decisions = {name: one for name, one in known.items() if one is not None}
        partners = {name: partner for name, partner in pairs.items() if name in pointers or name in decisions}
        return cls(candidate, pointers, partners, own, decisions, judged, tolerance, frozenset(reference.feeds))

    @property
    def indices(self) -> dict[str, str]:
        """Those of `partners` that say no more than which; of others each value counts that is on the same side."""
        known = {name: self.pointers.get(name) for name in self.partners}
        return {name: self.partners[name] for name, one in known.items() if one is None or one.part is None}

    @property
    def wanted(self) -> tuple[list[str], list[str]]:
        """The blobs that have to be computed of the reference and of the candidate."""
        ours, theirs = (
            [blob for pointer in pointers.values() for blob in pointer.values] for pointers in (self.pointers, self.own)
        )
        reads = [read for decision in self.decisions.values() for read in decision.reads]
        ours, theirs = [*ours, *(read for read, *_ in reads)], [*theirs, *(read for _, read, _ in reads)]
        return [*self.partners, *ours], [*self.partners.values(), *theirs]

    def resolve(
        self, first: BlobValues, second: BlobValues, run: Run, rows: int, opening: Opening
    ) -> Mapping[str, AnyArray]:
        """The candidate's blobs as they are with the reference's indices where both point at equal values.

        Args:
            first, second: blobs of the reference and of the candidate; what `wanted` says is among them.
            run: the samples that are counted, and what the candidate was fed.
            rows: how many rows a blob has that has one for each sample; another is one sample.
            opening: what opens the candidate to be run again.
        """
        chosen = self._settled(first, second, rows)
        hoped = {
            partner: self.instead(name, _in_form_of(first[name], second[partner]), second[partner])
            for name, partner in self.partners.items()
        }
        if not all(_alike(second[name], values) for name, values in hoped.items()):
            indices = {self.partners[name]: indices for name, (indices, _) in chosen.items()}
            if any(read in indices for reads in self.candidate.reads.values() for read in reads):
                second, chosen, indices = self._rerun(first, second, hoped, run, rows, opening)
            second = {**second, **indices}
        for name, (values, tied) in chosen.items():
            counted = slice(len(run.numbers)) if has_rows(values, rows) else ...
            found, seen = self.counts.get(name, (0, 0))
            self.counts[name] = found + int(tied[counted].sum()), seen + values[counted].size
        return second

    def close(self) -> None:
        """Free what the candidate that is run again holds until then."""
        self._again = None

    def take_counts(self) -> dict[str, tuple[int, int]]:
        """The counts so far; those of the next runs begin anew."""
        taken, self.counts = self.counts, {}
        return taken

    def notes(self) -> list[str]:
        """A sentence for every blob that had ties, and for every one that is compared with another limit."""
        read = {blob for reads in self.candidate.reads.values() for blob in reads}
        return [
            f"blob '{name}': {tied:,} of {seen:,} {(self.pointers | self.decisions)[name].what}, not counted"
            + ("; what stands behind was compared with the reference's" if self.partners[name] in read else "")
            for name, (tied, seen) in self.counts.items()
            if tied
        ] + [
            f"blob '{name}' has another limit in the candidate; a value between the two is another flag there"
            for name, own in self.own.items()
            if not np.array_equal(np.squeeze(own.limit), np.squeeze(self.pointers[name].limit))
        ]

    def instead(self, name: str, indices: Array, values: Array) -> Array:
        """What stands in the place of a blob's own values: indices, or of values those alone that are on another side;
        all where the shapes differ.
        """
        pointer = self.pointers.get(name)
        if pointer is None or pointer.part is None or indices.shape != values.shape:
            return indices
        return np.where(pointer.part(indices) != pointer.part(values), indices, values)

    def _settled(self, first: BlobValues, second: BlobValues, rows: int) -> dict[str, tuple[Array, Array]]:
        """Index blob of the reference -> the candidate's indices with the reference's at ties, and where those are."""
        chosen = {}
        for name, partner in self.partners.items():
            reference, candidate = first[name], second[partner]
            pointer = self.pointers.get(name)
            if pointer is None and self._decides_alike(name, first, second, rows):
                same = reference.shape == candidate.shape
                chosen[name] = reference, reference != candidate if same else np.ones(reference.shape, bool)
                continue
            if pointer is None or reference.size != candidate.size:
                chosen[name] = candidate, np.zeros(candidate.shape, bool)
                continue
            tied = ties(reference, candidate.reshape(reference.shape), first, self.tolerance, pointer, rows)
            if name in self.own and tied.any():
                ours, own = reference.reshape(candidate.shape), self.own[name]
                also = ties(ours, candidate, second, self.tolerance, own, rows, least=0.0, kind=candidate.dtype)
                tied &= also.reshape(tied.shape)
            if tied.any():
                tied &= ~self._exact(name, first, second, reference.shape)
            indices = np.where(tied, reference, candidate.reshape(reference.shape)).reshape(candidate.shape)
            chosen[name] = indices.astype(candidate.dtype, copy=False), tied
        return chosen

    def _exact(self, name: str, first: BlobValues, second: BlobValues, shape: Shape) -> Array:
        """Where flags say on which side of a limit whole numbers are that both networks have: no rounding does that."""
        pointer, found = self.pointers[name], np.array(True)
        own = self.own[name].values if name in self.own else pointer.values
        for value, partner in zip(pointer.values, own, strict=False):
            is_fed, ours = value in self.fed, first[value]
            if pointer.what != NEAR_LIMIT or ours.dtype.kind not in "biu" or not (is_fed or name in self.own):
                return np.zeros(shape, bool)
            theirs = ours if is_fed else second[partner]
            found = found & (ours == theirs if ours.shape == theirs.shape else np.array(False))
        return np.broadcast_to(found, shape)

    def _decides_alike(self, name: str, first: BlobValues, second: BlobValues, rows: int) -> bool:
        """Whether a decision is one between integers, and is made of equal values."""
        if first[name].dtype != second[self.partners[name]].dtype or first[name].dtype.kind not in "biu":
            return False
        for ours, theirs, extent in self.decisions[name].reads:
            r, c = first[ours], second[theirs]
            if r.shape != c.shape or r.dtype != c.dtype:
                return False
            if not _within(r, c, self.tolerance, rows):
                if ours not in self.judged or r.dtype.kind != "f":
                    return False
            elif extent is not None and r.size and not _apart_by(r, c, self.tolerance * extent(r)):
                return False
        return True

    def _rerun(
        self, first: BlobValues, second: BlobValues, hoped: dict[str, Array], run: Run, rows: int, opening: Opening
    ) -> tuple[Mapping[str, AnyArray], dict[str, tuple[Array, Array]], dict[str, Array]]:
        """Run the candidate with all of the reference's indices, then with its own in the place of those that are no
        ties, until all that it was given are what it is to have; its own run, without ties, where it cannot run so.

        Indices that it chose otherwise in front would not fit those behind.
        """
        from bnfold.onnx.graph import OWN, with_inputs

        if self._again is None:
            cut = with_inputs(self.candidate.proto, {name: (value.dtype, value.ndim) for name, value in hoped.items()})
            blobs = [*(name for name in second if name not in hoped), *(name + OWN for name in hoped)]
            self._again = opening(replace(self.candidate, proto=cut), blobs)
        own = {
            name: (second[partner], np.zeros(second[partner].shape, bool)) for name, partner in self.partners.items()
        }
        # Each time one more blob of indices in a row is resolved, at least; those of another segment are it at once.
        for indices, most in ((self.agreed.get(run.numbers.start, {}), 1), (hoped, len(hoped) + 1)):
            for _ in range(most if indices else 0):
                given = indices
                try:
                    made = self._again.run({**run.feeds, **given})
                except ModelError:
                    break
                found = {name.removesuffix(OWN): value for name, value in made.items() if name not in given}
                found |= {name: to_host(found[name]) for name in dict.fromkeys(self.wanted[1])}
                chosen = self._settled(first, found, rows)
                indices = {self.partners[name]: value for name, (value, _) in chosen.items()}
                if all(_alike(indices[name], given[name]) for name in given):
                    held = [value.nbytes for one in (*self.agreed.values(), indices) for value in one.values()]
                    if sum(held) <= AGREED:
                        self.agreed[run.numbers.start] = indices
                    return found, chosen, indices
        return second, own, {}


def decision_of(reference: Model, candidate: Model, blob: str, partner: str) -> Decision | None:
    """How a blob is made, where the same operator makes it in both, and what is stored for that is equal; else None."""
    ours, theirs = reference.makers.get(blob), candidate.makers.get(partner)
    if ours is None or theirs is None or reference.settings(blob) != candidate.settings(partner):
        return None
    if not _suppresses(ours, list(ours.output).index(blob)):
        return None
    names, others = reference.inputs[blob], candidate.inputs[partner]
    if len(names) != len(others):
        return None
    known, stored = known_values(reference, names), known_values(candidate, others)
    extents: list[Extent | None] = [None] * len(names)
    if ours.op_type == "NonMaxSuppression":
        is_center = any(one.name == "center_point_box" and one.i for one in ours.attribute)
        extents[:2] = partial(_sides, is_center=is_center), _of_class
    reads = []
    for name, other, extent in zip(names, others, extents, strict=True):
        if name in known and other in stored:
            if not np.array_equal(known[name], stored[other]):
                return None
        elif name in reference.writers and other in candidate.writers:
            reads.append((name, other, extent))
        elif name or other:
            return None
    return Decision(tuple(reads))


def _suppresses(node: NodeProto, place: int) -> bool:
    """Whether NonMaxSuppression gives what a node has at a place among its outputs, or integers of a body follow it."""
    from bnfold.onnx.node import bodies, reads_of

    if node.op_type == "NonMaxSuppression":
        return True
    for body in bodies(node):
        makers = {name: inner for inner in body.node for name in inner.output}
        reads = {name: reads_of(inner) for name, inner in makers.items()}
        port = body.output[place - len(node.output)]  # a Loop's body says first whether it goes on
        behind = {port.name, *upstream(port.name, reads)} & makers.keys()
        found = (_suppresses(makers[name], list(makers[name].output).index(name)) for name in behind)
        if port.type.tensor_type.elem_type in WHOLE and any(found):
            return True
    return False


def _sides(boxes: Array, *, is_center: bool) -> Array:
    """The largest side of the boxes of each image, (images, 1, 1)."""
    with np.errstate(invalid="ignore"):
        sides = boxes[..., 2:] if is_center else boxes[..., 2:] - boxes[..., :2]
    return _at_least(np.abs(sides), boxes, (1, 2))


def _of_class(scores: Array) -> Array:
    """The range of the scores of each class in each image, (images, classes, 1)."""
    lows = np.min(scores, axis=2, keepdims=True, where=np.isfinite(scores), initial=np.inf)
    with np.errstate(invalid="ignore"):
        return _at_least(scores - lows, scores, (2,))


def _at_least(extents: Array, values: Array, axes: tuple[int, ...]) -> Array:
    """The largest extent along some axes, or the share of the values that rounding takes."""

    def largest(of: Array) -> Array:
        return np.asarray(np.max(of, axis=axes, keepdims=True, where=np.isfinite(of), initial=0.0), np.float64)

    return np.maximum(largest(extents), LEAST_EXTENT * largest(np.abs(values)))


def _follows_values(model: Model) -> set[str]:
    """The blobs that follow the values of the inputs, or of a list: a size that is rounded does not, nor ever moves."""
    found: set[str] = set()
    for blob, writer in model.writers.items():
        if writer.type not in SIZES and any(read in found or read not in model.writers for read in model.reads[blob]):
            found.add(blob)
    return found


SIZES = frozenset({"Shape", "Size"})
WHOLE = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""ONNX's numbers of the integers, and of flags."""
LEAST_EXTENT = 0.01  # of the values: rounding, which is no share of a smaller range


def ties(
    reference: Array,
    candidate: Array,
    blobs: BlobValues,
    tolerance: float,
    pointer: Pointer,
    rows: int = 0,
    *,
    least: float = np.inf,
    kind: DType | None = None,
) -> Array:
    """Where indices differ that point at equal values of one network.

    Args:
        reference, candidate: equally shaped indices.
        blobs: of the network; what the indices point into is among them.
        tolerance: relative to the range of the values.
        pointer: how the indices are read. Those that cannot be read so are no ties.
        rows: how many samples have a row each, and so a range of its own, where both blobs have as many; 0 for none.
        least: 0 where the range reaches to 0 at least; infinity where it is that of the values alone.
        kind: the type that the indices have in that network; that of the reference by default.
    """
    kind = reference.dtype if kind is None else kind
    part = pointer.part or np.asarray
    differing, found = part(reference) != part(candidate), np.zeros(reference.shape, bool)
    if not differing.any():
        return found
    sides = [blobs[name] for name in pointer.values]
    values = sides[0] if len(sides) == 1 else np.subtract(*(side.astype(np.float64) for side in sides))
    ours, theirs = (pointer.reader(values, indices, kind) for indices in (reference, candidate))
    if ours is None or theirs is None:
        return found
    by_sample = has_rows(reference, rows) and has_rows(values, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        if pointer.steps is not None and pointer.steps.have_ends:
            allowed = pointer.steps.allowed(values, kind, tolerance, by_sample, least)
        else:
            allowed = 2 * tolerance * np.max([_ranges(side, values, by_sample, least) for side in sides], axis=0)
            allowed = allowed.reshape((-1, *[1] * (reference.ndim - 1))[: reference.ndim])
        most, flat = np.broadcast_to(allowed, found.shape or (1,)), found.reshape(-1)
        places = np.flatnonzero(differing)
        for start in range(0, len(places), PIECE):
            some = places[start : start + PIECE]
            first, second = ours(some), theirs(some)
            if first is None or second is None:
                break
            flat[some] = np.abs(first.astype(np.float64) - second) <= most[np.unravel_index(some, most.shape)]
    return found


def _in_form_of(reference: Array, candidate: Array) -> Array:
    """The reference's indices as the candidate has them, or its own where they cannot be so."""
    if reference.size == candidate.size:
        return reference.reshape(candidate.shape).astype(candidate.dtype, copy=False)
    return reference if (reference.dtype, reference.ndim) == (candidate.dtype, candidate.ndim) else candidate


def _alike(ours: Array, theirs: Array) -> bool:
    return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


def _within(reference: Array, candidate: Array, tolerance: float, rows: int) -> bool:
    """Whether all values of a blob are equal: floats within the tolerance of the range of each sample."""
    if reference.dtype.kind != "f":
        return np.array_equal(reference, candidate)
    if not reference.size:
        return True
    allowed = tolerance * _ranges(reference, reference, has_rows(reference, rows), np.inf)
    return _apart_by(reference, candidate, allowed.reshape(-1, *[1] * (reference.ndim - 1)))


def _apart_by(reference: Array, candidate: Array, allowed: Array) -> bool:
    """Whether no value differs by more than is allowed; the same that is not finite does not differ."""
    with np.errstate(over="ignore", invalid="ignore"):
        gap = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
    return bool((alike(reference, candidate) | (gap <= allowed)).all())


def _ranges(side: Array, values: Array, by_sample: bool, least: float) -> Array:
    """The range of a blob in each sample of what is made of it, or in all."""
    samples = np.broadcast_to(side, values.shape).reshape(len(values) if by_sample else 1, -1)
    if samples.dtype.kind in "biu":  # whole numbers know no infinity to begin from
        samples = samples.astype(np.float64)
    finite = np.isfinite(samples)
    lows = samples.min(axis=1, where=finite, initial=least)
    highs = samples.max(axis=1, where=finite, initial=-least)
    return np.array([span(float(low), float(high)) for low, high in zip(lows, highs, strict=True)])
