"""What is in memory at once while networks are compared: how many samples, runs and blobs.

Two runs, one that is computed and one that is measured, if they fit beside the weights; else one; else the networks run
in segments, in each of which some of the blobs are outputs and the others not held; and if need be with the weights of
one network at a time. Nothing is run here: `engine` runs what is planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import prod
from typing import TypeVar

from bnfold.compare.backends import MANY
from bnfold.compare.batches import BatchLayout
from bnfold.compare.divergence import upstream
from bnfold.compare.exact import COARSE, MOVED
from bnfold.compare.measure import MeasurePlan
from bnfold.compare.memory import COMPILED, Needs
from bnfold.compare.models import Model
from bnfold.compare.stretches import MOVES
from bnfold.compare.ties import TIED, Ties
from bnfold.data.samples import Samples
from bnfold.errors import UsageError
from bnfold.options import CompareOptions
from bnfold.runtime import Session, TensorPort

OVERLAPPING = 2.5  # times the blobs of a run: two runs, and what is free between blobs that are measured already
SPREAD = 4 << 20  # bytes by which two processes may differ in what they hold before they compare
AHEAD = 2  # runs whose samples are decoded ahead

Value = TypeVar("Value")


@dataclass(slots=True)
class Side:
    """A candidate as the pass needs it: the network, what it is fed, and what is compared of it.

    Attributes:
        model: the network.
        inputs: input of the reference -> its input.
        pairs: blob of the reference -> its blob.
        watched: blobs of the reference, and of this network, of which only the range is wanted.
        ties: the blobs of indices.
        plan: None until the shapes are known.
    """

    model: Model
    inputs: Mapping[str, str]
    pairs: Mapping[str, str]
    watched: tuple[tuple[str, ...], tuple[str, ...]]
    ties: Ties
    plan: MeasurePlan | None = None


@dataclass(slots=True)
class Segment:
    """Blobs that some networks give in one run: all, or as many as there is memory for.

    Attributes:
        networks: the networks.
        names: blobs of the reference that are compared.
        watched: for each candidate, what is watched, of the reference and of it.
        ties: for each candidate.
        beside: blobs of the reference among those of another segment, which what is made here is made of.
        sessions: those that are open, by the place of the network, the reference being 0.
    """

    networks: Networks
    names: list[str]
    watched: list[tuple[list[str], list[str]]]
    ties: list[Ties]
    beside: list[str] = field(default_factory=list)
    sessions: dict[int, Session] = field(default_factory=dict)

    def outputs(self, place: int) -> list[str]:
        """The blobs that one network gives, those that ties are told by among them."""
        sides = self.networks.sides
        if place:
            side, watched = sides[place - 1], self.watched[place - 1][1]
            names = [side.pairs[name] for name in (*self.names, *self.beside) if name in side.pairs]
            return list(dict.fromkeys([*names, *watched, *side.ties.wanted[1]]))
        names = [*self.names, *self.beside, *(name for watched in self.watched for name in watched[0])]
        return list(dict.fromkeys([*names, *(name for side in sides for name in side.ties.wanted[0])]))

    def close(self) -> None:
        """Free what the networks hold until they run again."""
        self.sessions.clear()
        for ties in self.ties:
            ties.close()


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of one pass. The place of the reference is 0, that of the first candidate 1.

    Attributes:
        reference: the network that the candidates are compared with.
        sides: the candidates.
        further: blobs that the reference gives before the pass besides what is compared.
    """

    reference: Model
    sides: Sequence[Side]
    further: Sequence[str] = ()

    @property
    def models(self) -> list[Model]:
        """The networks by their places."""
        return [self.reference, *(side.model for side in self.sides)]

    def feeds(self, place: int, values: Mapping[str, Value]) -> dict[str, Value]:
        """What is given by input of the reference, by input of one network."""
        inputs = self.sides[place - 1].inputs if place else {}
        return {inputs[name] if place else name: value for name, value in values.items()}

    def segment(self) -> Segment:
        """An empty segment."""
        ties = [replace(side.ties, candidate=side.model, counts={}) for side in self.sides]
        return Segment(self, [], [([], []) for _ in self.sides], ties)

    def whole(self) -> Segment:
        """All that is compared or watched in one segment."""
        segment = self.segment()
        segment.names += dict.fromkeys(name for side in self.sides for name in side.pairs)
        segment.watched = [(list(side.watched[0]), list(side.watched[1])) for side in self.sides]
        return segment


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory for weights, blobs and code.

    Attributes:
        size: bytes that this process may take.
        asked: bytes that all processes together may hold, where a user said so (`--memory`).
        share: how many processes share the memory.
    """

    size: int
    asked: int | None
    share: int

    def require(self, plan: MemoryPlan) -> None:
        """Raise UsageError, with the least that would be enough, where a plan takes more."""
        if not plan.missing:
            return
        memory = self.share * self.size if self.asked is None else self.asked
        amount = _mib(memory) if self.asked is None else _as_given(memory)
        least = _mib(memory + self.share * (plan.missing + SPREAD))
        raise UsageError(
            f"{amount} is too little memory: comparing these networks"
            + (f" in {self.share} workers" if self.share > 1 else "")
            + f" takes at least {least}, {_mib(plan.largest)} of it for one blob or the outputs of both"
            + (f", and {_mib(plan.double)} for the weights of the float64 run" if plan.double else "")
        )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What is in memory at once.

    Attributes:
        layout: with the batch that was chosen.
        segments: in the order of their runs.
        overlapping: whether one run is measured while the next is computed.
        alternating: whether there are the weights of one network at a time.
        missing: bytes that are still too many; 0 where everything fits.
        largest: bytes of the blobs of the largest segment.
        double: bytes of the weights of the float64 run.
    """

    layout: BatchLayout
    segments: list[Segment]
    overlapping: bool
    alternating: bool = False
    missing: int = 0
    largest: int = 0
    double: int = 0


class NetworkNeeds:
    """The memory that each network needs, by the batch; `ports` is what the session of each says of its outputs."""

    def __init__(
        self,
        networks: Networks,
        ports: Sequence[Mapping[str, TensorPort]],
        layout: BatchLayout,
        data: Samples,
        options: CompareOptions,
    ) -> None:
        self.networks, self.ports, self.options, self.count = networks, ports, options, data.count
        self._feeds, self._inputs = layout.feeds, layout.sizes(data)
        self._observed: Sequence[Mapping[str, int]] = [{} for _ in ports]
        self._known: dict[int, list[Needs]] = {}

    def add(self, observed: Sequence[Mapping[str, int]]) -> None:
        """Take note of sizes that only a run tells: of each network, tensor -> bytes per sample."""
        if observed != self._observed:  # or all shapes would be inferred once more
            self._observed = observed
            self._known.clear()

    def of(self, batch: int) -> list[Needs]:
        """Of each network in runs of so many samples."""
        if batch not in self._known:
            self._known[batch] = [self._of_one(place, batch) for place in range(len(self.ports))]
        return self._known[batch]

    def _of_one(self, place: int, batch: int) -> Needs:
        inputs = {name: (shape[0] or batch, *shape[1:]) for name, shape in self._inputs.items() if shape}
        known = {name: _nbytes(port, batch) for name, port in self.ports[place].items()}
        observed = {name: size * batch for name, size in self._observed[place].items()}
        model, provider = self.networks.models[place], self.options.providers[bool(place)]
        return Needs.of(model, self.networks.feeds(place, inputs), known | observed, provider)

    def inputs(self, batch: int) -> int:
        """Bytes of what is fed in a run."""
        ports = (TensorPort(shape, self._feeds[name].dtype) for name, shape in self._inputs.items())
        return sum(_nbytes(port, batch) for port in ports)


@dataclass(frozen=True, slots=True)
class Planner:
    """Chooses batch, runs in flight and segments so that everything fits into a budget.

    Attributes:
        known: what the networks need.
        layout: the batch is chosen where it is open and none was planned before.
        whole: all that is compared.
        further: blobs that the reference gives besides.
        in_double: whether the reference is run in float64, too.
        judged: whether the blobs are held against that run stretch by stretch, in the order in which they are made.
    """

    known: NetworkNeeds
    layout: BatchLayout
    whole: Segment
    further: Sequence[str] = ()
    in_double: bool = False
    judged: bool = False

    def plan(self, budget: int) -> MemoryPlan:
        """The plan for so many bytes, which may be too few: see `MemoryPlan.missing`."""
        needs, sides = self._needs, self._networks.sides
        moved = max((n.double_weights // 2 for n, s in zip(needs[1:], sides, strict=True) if self._moves(s)), default=0)
        double = needs[0].double_weights + moved if self.in_double else 0
        held = budget - double - self._code()
        again = [need.weights for need, side in zip(needs[1:], sides, strict=True) if side.ties.partners]
        weights = sum(need.weights for need in needs) + sum(again)
        chosen = self
        if not self.layout.planned and self.layout.is_open:
            run = self._bytes(self.whole) + self._working()
            batch = self.layout.batch * (held - weights) // max(run, 1)
            chosen = replace(self, layout=replace(self.layout, batch=min(self.layout.batch, max(1, batch))))
        return chosen._in_segments(held - chosen._working() - weights, weights, double)

    def _in_segments(self, left: int, weights: int, double: int) -> MemoryPlan:
        """The plan where the batch is chosen.

        Args:
            left: bytes for what the networks give.
            weights: bytes of the weights of all networks, for which there is room besides.
            double: bytes of the weights of the float64 run, likewise.
        """
        blobs = self._bytes(self.whole)
        plan = MemoryPlan(replace(self.layout, planned=True), [self.whole], overlapping=OVERLAPPING * blobs <= left)
        if blobs <= left:
            return plan
        segments = list(self._cut(left))
        if (largest := max(map(self._bytes, segments))) <= left:
            return replace(plan, segments=segments)
        left += weights - max(need.weights for need in self._needs)
        segments, missing = list(self._cut(left)), max(0, largest - left)
        return replace(plan, segments=segments, alternating=True, missing=missing, largest=largest, double=double)

    @property
    def _networks(self) -> Networks:
        return self.known.networks

    @property
    def _needs(self) -> list[Needs]:
        """Of each network in a run."""
        return self.known.of(self.layout.batch)

    def _code(self) -> int:
        """Bytes for code that numba compiles, where a budget has to hold them and there may be values enough for it."""
        if self.known.options.memory is None or find_spec("numba") is None:
            return 0
        names, ports = self.whole.names, self.known.ports[0]
        shapes: list[tuple[int | None, ...]] = [ports[name].shape if name in ports else () for name in names]
        closed = all(shape and None not in shape[1:] for shape in shapes)
        values = sum(map(self._values, names))
        return 0 if closed and self.known.count * values // self.layout.batch < MANY else COMPILED

    def _working(self) -> int:
        """Bytes that a run takes besides weights and what is compared, samples that are decoded ahead among them."""
        needs, inputs = self._needs, self.known.inputs(self.layout.batch)
        double = needs[0].double_working(inputs, 2 + MOVES if self.judged else 1) if self.in_double else 0
        blobs = sum(needs[0].sizes.get(name, 0) for name in self.further)
        tied = max((self._values(name) for side in self._networks.sides for name in side.ties.pointers), default=0)
        return max(need.working for need in needs) + double + blobs + tied * TIED + (2 + AHEAD) * inputs

    def _values(self, name: str) -> int:
        """How many values a blob of the reference has; 0 where its session does not give it."""
        port = self.known.ports[0].get(name)
        return 0 if port is None else self._needs[0].sizes.get(name, 0) // port.dtype.itemsize

    def _bytes(self, segment: Segment) -> int:
        """Bytes of what the networks give, and of what float64 runs begin at."""
        needs = self._needs
        beside = sum(needs[0].sizes.get(name, 0) for name in segment.beside)
        return (2 + MOVES) * needs[0].widening * beside + sum(
            self._size(place, name) for place in range(len(needs)) for name in segment.outputs(place)
        )

    def _size(self, place: int, name: str) -> int:
        """Bytes of a blob.

        A candidate whose indices may be tied is run twice, and one of 2 bytes in float32, too, with its weights as they
        are and moved; the reference in float64.
        """
        need, times = self._needs[place], 1
        if place:
            side = self._networks.sides[place - 1]
            times += bool(side.ties.partners) + (need.widening // 2 * (1 + MOVED) if self._moves(side) else 0)
        elif self.judged:
            return 3 * need.sizes.get(name, 0) // 2  # where values count, and where a mask is
        elif self.in_double:
            times += need.widening
        return need.sizes.get(name, 0) * times

    def _moves(self, side: Side) -> bool:
        """Whether a candidate runs in float32 with its weights rounded otherwise, beside the float64 run."""
        return self.in_double and side.model.own.stored_type in COARSE

    def _cut(self, left: int) -> Iterator[Segment]:
        """Segments whose blobs fit, one blob each at least; the networks' outputs in the first, as all have them."""
        if self.judged:
            yield from self._cut_in_order(left)
            return
        networks, whole = self._networks, self.whole
        outputs = [name for name in whole.names if name in networks.reference.outputs]
        names = [*outputs, *(name for name in whole.names if name not in outputs)]
        wanted: list[tuple[str, tuple[int, int] | None]] = [(name, None) for name in names]
        for place, watched in enumerate(whole.watched):
            wanted += [(blob, (place, side)) for side, blobs in enumerate(watched) for blob in blobs]
        segment = networks.segment()
        held = always = self._bytes(segment)
        for name, watch in wanted:
            if watch is None:
                partners = [(place, side.pairs.get(name, "")) for place, side in enumerate(networks.sides, start=1)]
                size = sum(self._size(place, blob) for place, blob in ((0, name), *partners))
            else:
                size = self._size(watch[0] + 1 if watch[1] else 0, name)
            if held > always and held + size > left and (watch is not None or name not in outputs):
                yield segment
                segment, held = networks.segment(), always
            (segment.names if watch is None else segment.watched[watch[0]][watch[1]]).append(name)
            held += size
        yield segment

    def _cut_in_order(self, left: int) -> Iterator[Segment]:
        """Segments one behind the other, each with what is compared nearest in front of its blobs."""
        networks, judged = self._networks, self.whole.names
        segment, known = networks.segment(), set(judged)
        held = always = self._bytes(segment)
        for name in judged:
            in_front = known.intersection(upstream(name, networks.reference.reads, known))
            while True:
                more = replace(segment, names=[name], beside=sorted(in_front.difference(segment.names, segment.beside)))
                size = self._bytes(more) - always
                if not segment.names or held + size <= left:
                    break
                yield segment
                segment, held = networks.segment(), always
            segment.names.append(name)
            segment.beside += more.beside
            held += size
        yield segment


def _nbytes(port: TensorPort, batch: int) -> int:
    """The bytes of an output, where its shape is known before it runs."""
    sizes = [batch if axis == 0 and size is None else size or 1 for axis, size in enumerate(port.shape)]
    return int(prod(sizes)) * port.dtype.itemsize


def _mib(size: int) -> str:
    """Bytes as `--memory` takes them, rounded up."""
    return f"{-(-size >> 20)}M"


def _as_given(size: int) -> str:
    """Bytes as a user gave them."""
    return f"{size:,} bytes" if size % (1 << 20) or not size else _mib(size)
