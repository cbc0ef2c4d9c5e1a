"""Indices that differ because two values are equal: ArgMax or a pooling mask on a near tie.

An index is no measure: one rounding can turn class 3 into class 300, or send a pooled value to another pixel. So where
the indices of the two networks differ, the values decide that the reference's layer chose from. If those at both places
are equal within what the tolerance allows each of the two to move,

    r[i] - r[j] <= 2 * tolerance * range of r in this sample,

and so are the candidate's, by its own range with 0 in it, the answer is a tie: it is counted, and not as a difference.
(Without the candidate's, a blob that is 0 throughout in the reference would excuse any index and any flag of it.) What
stands behind such an index would differ all the same (an unpooling writes elsewhere), so the candidate runs once more
with the reference's index in the place of its own, and what stands behind is compared as strictly as everything else.

A value of Ceil, Floor, Round, QuantizeLinear or a Cast to integers is such an index, too: it says in which step of a
stair a value lies. The value at another step is the one of that step that is nearest: a value beside an edge may lie on
either side of it. So is Sign, and a flag of Caffe's Threshold, of Greater, Less and Equal: a stair of two steps, at a
limit that is stored or computed. Of two blobs that are computed the larger range counts.

Which boxes NonMaxSuppression keeps, and in which order, follows from many values at once, and so does what a body of If
or Loop makes of these boxes. Nothing is looked up then: where the same operator with the same settings gives other
integers, and all that it reads is equal in both networks, floats within the tolerance and others exactly, they are a
tie as a whole, though there be more or fewer of them. Scores are ordered within a class, so the range of that counts,
and boxes overlap by their sides, so the largest of these counts, wherever they lie. What is beyond the tolerance is
equal where it is compared for itself by the range of its sample: a float64 run decides about that. (Other bodies may
enlarge what they read, and an integer that they make is judged as any value is.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.batches import Run, has_rows
from bnfold.compare.divergence import upstream
from bnfold.compare.kernels import span
from bnfold.compare.models import Model, values_stored
from bnfold.errors import ModelError
from bnfold.net import Array, DType
from bnfold.options import ROUNDING
from bnfold.runtime import ELEMENTS, AnyArray, Session, to_host

if TYPE_CHECKING:
    from onnx import NodeProto

Look = Callable[[Array, Array], Array | None]
"""(values, indices) -> the values at the indices, in the shape of the indices; None where they cannot be read so."""
Opening = Callable[[Model, Sequence[str]], Session]
"""(candidate, blobs) -> something that computes these besides its outputs."""
AGREED = 4 << 20
"""Bytes of indices that are kept from one segment to the next."""
ORIGIN = np.zeros(())
"""The limit of a Sign, and of the difference of two blobs."""


class Pointer(NamedTuple):
    """How the indices of a blob are read.

    Attributes:
        values: the blob that they point into, or two, whose difference counts.
        look: gives the values at some indices.
        what: what a tie is, for the report.
        limit: of flags, where one turns into the other.
        steps: of values that were rounded to steps of which there is a first and a last one.
    """

    values: tuple[str, ...]
    look: Look
    what: str = "indices differ on equal values"
    limit: Array = ORIGIN
    steps: Steps | None = None


class Steps(NamedTuple):
    """Where the steps of a blob lie.

    Attributes:
        sizes: the scale and the zero point of QuantizeLinear, a number each or one for each place along `axis`.
        axis: of the sizes.
        numbers: all that there are, rising, where they are not all whole numbers of a type.
    """

    sizes: Sequence[Array] = ()
    axis: int = 1
    numbers: Array | None = None

    def allowed(self, values: Array, whole: DType, tolerance: float, by_sample: bool, least: float) -> Array:
        """How far two values may be apart that are equal, in a shape that broadcasts to theirs.

        Values beyond the last step are cut off, and channels have steps of their own: of those that are between the
        steps of one channel the tolerance is a share, or rounding is one of all that it has.
        """
        wide, by_channel = values.astype(np.float64), any(size.size > 1 for size in self.sizes)
        kept = {0} if by_sample else set[int]()
        kept |= {self.axis % wide.ndim} if by_channel and wide.ndim else set()
        axes = tuple(axis for axis in range(wide.ndim) if axis not in kept)

        def extent(of: Array) -> Array:
            sound = np.isfinite(of)
            low = of.min(axis=axes, keepdims=True, where=sound, initial=least)
            high = of.max(axis=axes, keepdims=True, where=sound, initial=-least)
            size = np.where(high > low, high - low, np.maximum(np.abs(low), np.abs(high)))
            return np.where(np.isfinite(size), size, 0.0)

        unit = ROUNDING.get(values.dtype.name, ROUNDING["float32"])
        between = 2 * tolerance * extent(np.clip(wide, *self.ends(whole, wide.ndim)))
        return np.minimum(2 * tolerance * extent(wide), np.maximum(between, UNITS_BETWEEN * unit * extent(wide)))

    def ends(self, whole: DType, rank: int) -> tuple[Array, Array]:
        """The values of the first and the last step."""
        if self.numbers is not None:
            first, last = float(self.numbers[0]), float(self.numbers[-1])
        elif whole.kind in "iu" and self.sizes:
            first, last = float(np.iinfo(whole).min), float(np.iinfo(whole).max)
        else:
            first, last = -np.inf, np.inf
        scale, zero = self.scale_and_zero(rank)
        with np.errstate(invalid="ignore"):  # of a scale of 0
            low, high = ((end - zero) * scale for end in (first, last))
        return np.fmin(low, high), np.fmax(low, high)

    def scale_and_zero(self, rank: int) -> list[Array]:
        """The scale and the zero point: one number for all, or one for each place along the axis."""
        behind = max(rank - 1 - self.axis % max(rank, 1), 0)
        known = (*self.sizes, *UNSCALED[len(self.sizes) :])
        return [size.astype(np.float64).reshape(-1, *[1] * behind) for size in known]


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
        own = {}
        for name, pointer in pointers.items():
            made = candidate.writers[pairs[name]].type == reference.writers[name].type
            same = (
                pointer_of(candidate, pairs[name])
                if made and (candidate.net is None) == (reference.net is None)
                else None
            )
            if same is not None:
                own[name] = same
            elif all(blob in pairs for blob in pointer.values):  # Caffe's Threshold is several nodes in ONNX
                own[name] = pointer._replace(values=tuple(pairs[blob] for blob in pointer.values))
        known = {name: decision_of(reference, candidate, name, pairs[name]) for name in pairs if name in data}
        decisions = {name: one for name, one in known.items() if one is not None}
        partners = {name: partner for name, partner in pairs.items() if name in pointers or name in decisions}
        return cls(candidate, pointers, partners, own, decisions, judged, tolerance)

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
        self, first: Mapping[str, Array], second: Mapping[str, Array], run: Run, rows: int, opening: Opening
    ) -> Mapping[str, AnyArray]:
        """The candidate's blobs as they are with the reference's indices where both point at equal values.

        Args:
            first, second: blobs of the reference and of the candidate; what `wanted` says is among them.
            run: the samples that are counted, and what the candidate was fed.
            rows: how many rows a blob has that has one for each sample; another is one sample.
            opening: what opens the candidate to be run again.
        """
        chosen = self._settled(first, second, rows)
        hoped = {partner: _in_form_of(first[name], second[partner]) for name, partner in self.partners.items()}
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

    def _settled(
        self, first: Mapping[str, Array], second: Mapping[str, Array], rows: int
    ) -> dict[str, tuple[Array, Array]]:
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
                also = ties(ours, candidate, second, self.tolerance, own, rows, least=0.0)
                tied &= also.reshape(tied.shape)
            indices = np.where(tied, reference, candidate.reshape(reference.shape)).reshape(candidate.shape)
            chosen[name] = indices.astype(candidate.dtype, copy=False), tied
        return chosen

    def _decides_alike(self, name: str, first: Mapping[str, Array], second: Mapping[str, Array], rows: int) -> bool:
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
        self,
        first: Mapping[str, Array],
        second: Mapping[str, Array],
        hoped: dict[str, Array],
        run: Run,
        rows: int,
        opening: Opening,
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
    from bnfold.onnx.node import captured

    ours, theirs = reference.makers.get(blob), candidate.makers.get(partner)
    if ours is None or theirs is None or reference.settings(blob) != candidate.settings(partner):
        return None
    if not _suppresses(ours, list(ours.output).index(blob)):
        return None
    names, others = ([*node.input, *captured(node)] for node in (ours, theirs))
    if len(names) != len(others):
        return None
    known, stored = _known(reference, names), _known(candidate, others)
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
    from bnfold.onnx.node import bodies, captured

    if node.op_type == "NonMaxSuppression":
        return True
    for body in bodies(node):
        makers = {name: inner for inner in body.node for name in inner.output}
        reads = {name: [*inner.input, *captured(inner)] for name, inner in makers.items()}
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


def pointer_of(model: Model, blob: str) -> Pointer | None:
    """What a blob points into, if it holds indices: ArgMax, TopK, the mask of a MAX pooling, steps; else None."""
    writer = model.writers.get(blob)
    if writer is None or not model.reads[blob] or not {*model.writers, *model.feeds}.issuperset(model.reads[blob]):
        return None
    if model.net is None:
        rule = ONNX_POINTERS.get(writer.type)
        if rule is None:
            return None
        from bnfold.onnx.narrow import STORED

        return rule(model, blob, model.makers.get(blob + STORED) or model.makers[blob])
    values = model.reads[blob][:1]
    layer = model.net.producer(blob)
    if layer is None:
        return None
    if layer.type == "ArgMax" and not layer.param.argmax_param.out_max_val:
        param = layer.param.argmax_param
        look = partial(along_axis, axis=param.axis, keepdims=True) if param.HasField("axis") else along_classes
        return Pointer(values, look)
    if layer.type == "Threshold":
        limit = np.asarray(layer.param.threshold_param.threshold)
        return Pointer(values, partial(on_side, limit=limit, turns=(False, True)), NEAR_LIMIT, limit)
    return Pointer(values, in_plane) if layer.type == "Pooling" and layer.tops.index(blob) == 1 else None


def _follows_values(model: Model) -> set[str]:
    """The blobs that follow the values of the inputs, or of a list: a size that is rounded does not, nor ever moves."""
    found: set[str] = set()
    for blob, writer in model.writers.items():
        if writer.type not in SIZES and any(read in found or read not in model.writers for read in model.reads[blob]):
            found.add(blob)
    return found


def _onnx_indices(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """How the indices of an ONNX node are read; None where it gives none."""
    if node.op_type in {"MaxPool", "TopK"} and node.output[0] == blob:
        return None  # the values themselves
    said = {attribute.name: attribute.i for attribute in node.attribute}
    values = model.reads[blob][:1]
    if node.op_type == "MaxPool":
        return Pointer(values, in_tensor) if not said.get("storage_order") else None
    is_top = node.op_type == "TopK"
    whole = is_top or bool(said.get("keepdims", 1))
    return Pointer(values, partial(along_axis, axis=said.get("axis", -1 if is_top else 0), keepdims=whole))


def _onnx_steps(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """How the steps of an ONNX node are read; None where they are of sizes that are computed."""
    from bnfold.onnx.narrow import narrow_numbers

    numbers = narrow_numbers(model.proto, blob)
    target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
    if target is not None and numbers is None and (target not in ELEMENTS or ELEMENTS[target].kind not in "iu"):
        return None  # it rounds, or widens
    names = [name for name in node.input[1:] if name]
    known = _known(model, names)
    if any(name not in known or known[name].ndim > 1 for name in names):
        return None
    sizes = [known[name] for name in names]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    steps = Steps(sizes, axis, numbers)
    look = partial(on_step, steps=steps, edges=STEPS[node.op_type])
    ending = steps if sizes or numbers is not None else None
    return Pointer(model.reads[blob][:1], look, "values differ by a step whose edge is near", steps=ending)


def _onnx_flags(model: Model, _: str, node: NodeProto) -> Pointer | None:
    """What the flags of a comparison, or the signs, say of which values; None where these are stored."""
    known = _known(model, node.input)
    values = tuple(name for name in node.input if name not in known)
    if not values:
        return None
    limit, turns = next(iter(known.values()), ORIGIN), TURNS[node.op_type]
    if node.input[0] in known:  # the limit is above
        turns = turns[::-1]
    return Pointer(values, partial(on_side, limit=limit, turns=turns), NEAR_LIMIT, limit)


def _known(model: Model, names: Iterable[str]) -> dict[str, Array]:
    """Those of some tensors of an ONNX model that are stored, or that a Constant says."""
    return {name: values_stored(held) for name, held in model.stored({*names}).items()}


STEPS = {"Cast": None, "Ceil": (-1.0, 0.0), "Floor": (0.0, 1.0), "QuantizeLinear": (-0.5, 0.5), "Round": (-0.5, 0.5)}
"""Operator -> from where to where a step of it reaches, from the whole number on that it gives; None to cut off."""
TURNS: dict[str, tuple[object, object]] = {
    "Equal": (False, False),
    "Greater": (False, True),
    "GreaterOrEqual": (False, True),
    "Less": (True, False),
    "LessOrEqual": (True, False),
    "Sign": (-1, 1),
}
"""Operator -> what it gives below a limit and above; Sign's is 0."""
ONNX_POINTERS: Mapping[str, Callable[[Model, str, NodeProto], Pointer | None]] = {
    **dict.fromkeys(("ArgMax", "ArgMin", "MaxPool", "TopK"), _onnx_indices),
    **dict.fromkeys(STEPS, _onnx_steps),
    **dict.fromkeys(TURNS, _onnx_flags),
}
SIZES = frozenset({"Shape", "Size"})
NEAR_LIMIT = "flags differ at a limit that is near"
WHOLE = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""ONNX's numbers of the integers, and of flags."""
UNITS_BETWEEN = 64.0  # in the last place of the largest value: what rounding takes of one beside an edge
LEAST_EXTENT = 0.01  # of the values: rounding, which is no share of a smaller range
UNSCALED = (np.ones(1), np.zeros(1))
"""The scale and the zero point where there are none."""


def ties(
    reference: Array,
    candidate: Array,
    blobs: Mapping[str, Array],
    tolerance: float,
    pointer: Pointer,
    rows: int = 0,
    *,
    least: float = np.inf,
) -> Array:
    """Where indices differ that point at equal values of one network.

    Args:
        reference, candidate: equally shaped indices.
        blobs: of the network; what the indices point into is among them.
        tolerance: relative to the range of the values.
        pointer: how the indices are read. Those that cannot be read so are no ties.
        rows: how many samples have a row each, and so a range of its own, where both blobs have as many; 0 for none.
        least: 0 where the range reaches to 0 at least; infinity where it is that of the values alone.
    """
    differing, none = reference != candidate, np.zeros(reference.shape, bool)
    if not differing.any():
        return none
    sides = [blobs[name] for name in pointer.values]
    values = sides[0] if len(sides) == 1 else np.subtract(*(side.astype(np.float64) for side in sides))
    ours, theirs = (pointer.look(values, indices) for indices in (reference, candidate))
    if ours is None or theirs is None:
        return none
    by_sample = has_rows(reference, rows) and has_rows(values, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        if pointer.steps is not None:
            allowed = pointer.steps.allowed(values, reference.dtype, tolerance, by_sample, least)
        else:
            allowed = 2 * tolerance * np.max([_ranges(side, values, by_sample, least) for side in sides], axis=0)
            allowed = allowed.reshape(-1, *[1] * (reference.ndim - 1))
        gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return np.asarray(differing & (gap <= allowed))


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
    same = (reference == candidate) | np.isnan(reference) & np.isnan(candidate)
    return bool((same | (gap <= allowed)).all())


def _ranges(side: Array, values: Array, by_sample: bool, least: float) -> Array:
    """The range of a blob in each sample of what is made of it, or in all."""
    samples = np.broadcast_to(side, values.shape).reshape(len(values) if by_sample else 1, -1)
    if samples.dtype.kind in "biu":  # whole numbers know no infinity to begin from
        samples = samples.astype(np.float64)
    finite = np.isfinite(samples)
    lows = samples.min(axis=1, where=finite, initial=least)
    highs = samples.max(axis=1, where=finite, initial=-least)
    return np.array([span(float(low), float(high)) for low, high in zip(lows, highs, strict=True)])


def along_classes(values: Array, indices: Array) -> Array | None:
    """ArgMax: (N, 1, ...) indices along axis 1; without an axis in Caffe, over everything behind N."""
    if indices.shape[:2] != (len(values), 1):
        return None  # several best, or values beside indices
    rows = values
    if indices.shape[2:] != values.shape[2:]:
        rows = values.reshape(len(values), -1, *[1] * (indices.ndim - 2))
        if indices.shape[2:] != rows.shape[2:]:
            return None
    return np.asarray(np.take_along_axis(rows, _inside(indices, rows.shape[1]), axis=1))


def along_axis(values: Array, indices: Array, *, axis: int, keepdims: bool) -> Array | None:
    """ONNX's ArgMax, ArgMin and TopK: the place along one axis, which is left out without `keepdims`."""
    if not -values.ndim <= axis < values.ndim:
        return None
    places = indices if keepdims else np.expand_dims(indices, axis)
    if places.ndim != values.ndim or np.delete(places.shape, axis).tolist() != np.delete(values.shape, axis).tolist():
        return None
    return np.asarray(np.take_along_axis(values, _inside(places, values.shape[axis]), axis=axis)).reshape(indices.shape)


def in_plane(values: Array, indices: Array) -> Array | None:
    """Caffe's mask: the place in the plane of one channel (`pooling_layer.cpp`)."""
    if indices.shape[:2] != values.shape[:2]:
        return None
    planes = values.reshape(*values.shape[:2], -1)
    places = _inside(indices.reshape(*indices.shape[:2], -1), planes.shape[2])
    return np.asarray(np.take_along_axis(planes, places, axis=2)).reshape(indices.shape)


def in_tensor(values: Array, indices: Array) -> Array | None:
    """ONNX's MaxPool: the place in the whole tensor."""
    return np.asarray(values.reshape(-1)[_inside(indices, values.size)])


def on_step(values: Array, whole: Array, *, steps: Steps, edges: tuple[float, float] | None) -> Array | None:
    """The nearest values that give such whole numbers, or such numbers of float8.

    Args:
        values, whole: what is read and what is made of it.
        steps: where they lie.
        edges: from where to where a step reaches; None for what is cut off towards 0 and becomes an integer.
    """
    numbers = steps.numbers
    if values.shape != whole.shape or whole.dtype.kind not in "fiu":
        return None
    if numbers is None and edges is None and (values.dtype.kind, whole.dtype.kind) not in (("f", "i"), ("f", "u")):
        return None  # it rounds to another type, or widens
    scale, zero = steps.scale_and_zero(values.ndim)
    if numbers is not None:
        turns = np.array([-np.inf, *(numbers[1:] + numbers[:-1]) / 2, np.inf])
        place = np.searchsorted(numbers[:-1], whole)
        with np.errstate(invalid="ignore"):  # of a scale of 0
            low, high = ((turns[one] - zero) * scale for one in (place, place + 1))
        return np.asarray(np.clip(values.astype(np.float64), low, high))
    below, above = (-1.0 * (whole <= 0), 1.0 * (whole >= 0)) if edges is None else edges
    low, high = ((whole - zero + edge) * scale for edge in (below, above))
    if whole.dtype.kind in "iu":  # what is beyond the type comes out as its bounds
        bounds = np.iinfo(whole.dtype)
        low[whole == bounds.min], high[whole == bounds.max] = -np.inf, np.inf
    return np.asarray(np.clip(values.astype(np.float64), low, high)).reshape(values.shape)


def on_side(values: Array, flags: Array, *, limit: Array, turns: tuple[object, object]) -> Array | None:
    """The nearest values that give such flags.

    Args:
        values, flags: what is compared with a limit, and the answers.
        limit: one for all, or as it broadcasts to the values.
        turns: the answers below and above it; another one is that of the limit itself.
    """
    if values.shape != flags.shape or np.broadcast_shapes(values.shape, limit.shape) != values.shape:
        return None
    wide, limit = values.astype(np.float64), limit.astype(np.float64)
    below, above = (flags == turn for turn in turns)
    sides = [below & above, below, above]
    return np.select(sides, [wide, np.minimum(wide, limit), np.maximum(wide, limit)], limit)


def _inside(indices: Array, size: int) -> Array:
    """Indices as integers in the range of an axis: an empty window has -1, and a damaged index may be any number."""
    return np.asarray(np.clip(np.nan_to_num(indices), 0, max(size - 1, 0)), np.int64)
