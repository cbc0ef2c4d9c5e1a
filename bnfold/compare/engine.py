"""The pass over the data: samples are decoded ahead, both networks run, and what they gave is measured meanwhile.

The runs are cut into pieces of equal size, which depend on the data and the batch alone. Each piece is measured by
itself and the pieces merge in their order, so that it makes no difference to a bit of the report where they were
measured, and in what order.

What is in memory at once follows from a budget. Two runs, one that is computed and one that is measured, if they fit
beside the weights; else one; else the networks run in segments, in each of which some of the blobs are outputs and the
others not held; and if need be with the weights of one network at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

from bnfold.compare.backends import MANY
from bnfold.compare.batches import BatchLayout, Run, runs
from bnfold.compare.divergence import upstream
from bnfold.compare.exact import COARSE, MOVED
from bnfold.compare.measure import Counts, Measurement, MeasurePlan, Progress
from bnfold.compare.memory import COMPILED, VALUE, Needs, memory_budget
from bnfold.compare.merging import merge
from bnfold.compare.models import Model
from bnfold.compare.stretches import MOVES
from bnfold.compare.threads import Threads, result_of
from bnfold.compare.ties import Ties
from bnfold.data.samples import Samples
from bnfold.errors import ModelError, UnsupportedError, UsageError, telling_which
from bnfold.io.mapping import require_unchanged
from bnfold.net import Array, Shape
from bnfold.options import CompareOptions
from bnfold.runtime import AnyArray, Execution, Session, TensorPort, give_back, processors, to_host

if TYPE_CHECKING:
    from bnfold.onnx.evaluator import Evaluator
    from bnfold.onnx.graph import WeightStore

PIECE = 16  # runs that are measured together, wherever that is
OVERLAPPING = 2.5  # times the blobs of a run: two runs, and what is free between blobs that are measured already
AHEAD = 2  # runs whose samples are decoded ahead
MET = 3  # runs that are made to see how large tensors are whose sizes the data decide

Opening = Callable[[], "Evaluator | None"]
"""What opens a float64 run, or cannot."""


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
    """Blobs that the networks give in one run: all, or as many as there is memory for.

    Attributes:
        names: blobs of the reference that are compared.
        watched: for each candidate, what is watched, of the reference and of it.
        ties: for each candidate.
        beside: blobs of the reference among those of another segment, which what is made here is made of.
        sessions: those that are open, by the place of the network, the reference being 0.
        telling: the place of a network -> that with shapes as outputs, and what these are called.
    """

    names: list[str]
    watched: list[tuple[list[str], list[str]]]
    ties: list[Ties]
    beside: list[str] = field(default_factory=list)
    sessions: dict[int, Session] = field(default_factory=dict)
    telling: dict[int, tuple[Model, list[str]]] = field(default_factory=dict)

    def close(self) -> None:
        """Free what the networks hold until they run again."""
        self.sessions.clear()
        for ties in self.ties:
            ties.close()


class Engine:
    """Networks that are open to be run and measured.

    Args:
        reference, sides: the networks.
        layout, data: what is fed.
        options: threads, providers, memory.
        store: where the weights lie as long as this is used.
        exact: what opens the float64 run of the reference, if it is wanted.
        further: more blobs that the reference has to be able to give.
        threads: that measure; as many as there are processors by default.
        fixed: the batch is decided already.
        share: how many processes share the memory.
    """

    def __init__(
        self,
        reference: Model,
        sides: Sequence[Side],
        layout: BatchLayout,
        data: Samples,
        options: CompareOptions,
        store: WeightStore,
        *,
        exact: Opening | None = None,
        further: Sequence[str] = (),
        threads: int | None = None,
        fixed: bool = False,
        share: int = 1,
    ) -> None:
        self.reference, self.sides, self.layout = reference, sides, layout
        self._options, self._store = options, store
        self._in_double, self._further = exact is not None, further
        self._threads = threads or processors()
        self._inputs, self._count, self._data = layout.sizes(data), data.count, data
        self._first: tuple[Run, list[Mapping[str, AnyArray]], list[Counts]] | None = None
        self._share = share
        for model in (reference, *(side.model for side in sides)):
            model.release_pages()  # of which writing the candidate may have read all
        self._held = memory_budget(options.memory, self._threads, share)
        self.overlapping, self.alternating = True, False
        self._judged: list[str] = []
        whole = self._segment()
        whole.names += dict.fromkeys(name for side in sides for name in side.pairs)
        for own, side in zip(whole.watched, sides, strict=True):
            for blobs, wanted in zip(own, side.watched, strict=True):
                blobs += wanted
        self._whole, self.segments = whole, [whole]
        self._open(whole, further)
        self.executions: list[Execution] = [session.execution for session in whole.sessions.values()]
        self._ports = [session.outputs for session in whole.sessions.values()]
        self._planned: dict[int, list[Needs]] = {}
        self._met: list[dict[str, int]] = [{} for _ in self.executions]
        if self._held is not None:
            self._met = [self._meet(place, need.unsized) for place, need in enumerate(self._needs())]
            self._planned.clear()
        self._plan(further, fixed=fixed, refusing=self._in_double or options.memory is not None)
        self.exact = exact() if exact is not None else None
        if self.segments[0] is not whole:
            whole.sessions.clear()
            self._open(self.segments[0], further)
        self._pool: Threads | None = None

    def __enter__(self) -> Engine:
        there = any(execution.values != "host" for execution in self.executions)
        self._pool = Threads(1 if there else self._threads, "bnfold-measure")
        self._decoders = Threads(self._threads, "bnfold-decode")
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._decoders):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        self.close_sessions()
        for segment in self.segments:
            segment.ties.clear()

    def close_sessions(self) -> None:
        """Free what the networks hold until they run again."""
        for segment in self.segments:
            segment.close()
        give_back()

    @property
    def session(self) -> Session:
        """The reference, which gives its outputs and what it was asked for further, as long as no run has ended."""
        sessions = self.segments[0].sessions
        if 0 not in sessions:
            sessions[0] = self._session(self.segments[0], 0, self._further)
        return sessions[0]

    @property
    def compiled(self) -> bool:
        """Whether compiled code measures, as was decided with the plans."""
        return any(side.plan is not None and side.plan.compiled for side in self.sides)

    def shapes(self, data: Samples) -> list[dict[str, Shape]]:
        """Of each network, the reference first, the shapes of all that is compared; one run is made for it."""
        run = next(self._runs(data, range(1)))
        if len(self.segments) > 1:
            return self._told(run)
        given = self._run(self._whole, run)
        # The counts are of a run that may be made again, or by others.
        self._first = run, given, [ties.take_counts() for ties in self._whole.ties]
        return [{name: tuple(value.shape) for name, value in values.items()} for values in given]

    def _told(self, run: Run) -> list[dict[str, Shape]]:
        """The shapes where not all fits at once, by one run: what ties need is given, all else tells its shape."""
        from bnfold.onnx.graph import SHAPE, telling_shapes

        segment, fetched = self._segment(), [self._fetched(self._whole, place) for place in range(1 + len(self.sides))]
        for place, names in enumerate(fetched):
            model, order = self._model(place), {name: number for number, name in enumerate(self._model(place).makers)}
            asked = sorted(set(names).difference(self._fetched(segment, place)), key=lambda name: order.get(name, -1))
            telling = replace(model, proto=telling_shapes(model.proto, asked))
            segment.telling[place] = telling, [name + SHAPE for name in asked]
        for ties, (candidate, _) in zip(segment.ties, [*segment.telling.values()][1:], strict=True):
            ties.candidate = candidate
        given = self._run(segment, run)
        return [
            {
                name: tuple(to_host(values[name + SHAPE]).tolist() if name + SHAPE in values else values[name].shape)
                for name in names
            }
            for names, values in zip(fetched, given, strict=True)
        ]

    def give(self, run: Run) -> Iterator[list[Mapping[str, AnyArray]]]:
        """What each network gives for a run, the reference first: all at once, or a segment at a time."""
        for _, given in self.give_by_segment(run):
            yield given

    def give_by_segment(self, run: Run) -> Iterator[tuple[Segment, list[Mapping[str, AnyArray]]]]:
        """As `give`, each time with the segment."""
        for segment in self.segments:
            yield segment, [_on_host(values, list(values)) for values in self._run(segment, run)]

    def open_exact(self, opening: Opening, judged: Sequence[str] = ()) -> Evaluator | None:
        """The float64 run of the reference, beside which what is in flight is planned anew.

        Args:
            opening: what opens it, or cannot.
            judged: blobs whose stretches are held against it, in their order, by which segments follow one another;
                without any, all blobs are given in segments of any order.

        Raises:
            UnsupportedError: there is no room for it.
        """
        if self.exact is None or judged:
            self.close_sessions()
            self._in_double, self._judged, self.alternating = True, list(judged), False
            if judged:
                self._whole = replace(self._segment(), names=self._judged)
            self.segments = [self._whole]
            try:
                self._plan((), fixed=True, refusing=True)
                self.exact = self.exact or opening()
            except UsageError as error:
                raise UnsupportedError(str(error)) from None
            finally:
                self._in_double = self.exact is not None
        return self.exact

    def pieces(self, count: int) -> list[range]:
        """The runs of each piece."""
        number = -(-count // self.layout.batch)
        return [range(start, min(start + PIECE, number)) for start in range(0, number, PIECE)]

    def measure(self, data: Samples, piece: range, progress: Progress | None = None) -> list[Measurement]:
        """Run and measure one piece; a measurement for each candidate."""
        plans = [side.plan for side in self.sides if side.plan is not None]
        found = [Measurement.begun(plan) for plan in plans]
        for place, segment in enumerate(self.segments):
            parts = [
                plan.part(segment.names, (tuple(watched[0]), tuple(watched[1])))
                for plan, watched in zip(plans, segment.watched, strict=True)
            ]
            measured = [Measurement.begun(part) for part in parts]
            last = place == len(self.segments) - 1
            self._measure(data, piece, segment, parts, measured, progress if last else None)
            for whole, part, ties in zip(found, measured, segment.ties, strict=True):
                if place:
                    part.count = 0
                else:
                    part.ties = ties.take_counts()
                merge(whole, part)
        for side in self.sides:
            side.ties.agreed.clear()
        return found

    def _measure(
        self,
        data: Samples,
        piece: range,
        segment: Segment,
        parts: Sequence[MeasurePlan],
        measured: Sequence[Measurement],
        progress: Progress | None,
    ) -> None:
        assert self._pool is not None
        waiting: list[Callable[[], None]] = []

        def finish(stop: int) -> None:
            for done in waiting:
                done()
            waiting.clear()
            if progress is not None and stop:
                progress(stop, data.count)

        stop = 0
        try:
            for run in self._runs(data, piece):
                if self._first is not None and self._first[0].numbers == run.numbers:
                    (_, given, counts), self._first = self._first, None
                    for ties, known in zip(segment.ties, counts, strict=True):
                        ties.counts = known
                else:
                    given = self._run(segment, run)
                exact = self._in_float64(run, segment, measured)
                finish(stop)
                for place, (part, measurement) in enumerate(zip(parts, measured, strict=True)):
                    waiting.append(measurement.add(part, run, given[0], given[1 + place], data, exact, self._pool))
                del given, exact  # or the next run would stand beside it in memory
                stop = run.numbers.stop
                if not self.overlapping:
                    finish(stop)
                    give_back()
        finally:
            finish(stop)

    def _runs(self, data: Samples, piece: range) -> Iterator[Run]:
        ahead = Ahead(data, self._decoders, AHEAD * self.layout.batch) if getattr(data, "parallel", False) else data
        return runs(ahead, self.layout, piece)

    def _run(self, segment: Segment, run: Run) -> list[Mapping[str, AnyArray]]:
        """What each network gives for a run, the reference first."""
        given = [self._given(segment, 0, run.feeds)]
        rows = self.layout.batch if self.layout.batched else 0
        for place, (side, ties) in enumerate(zip(self.sides, segment.ties, strict=True), start=1):
            feeds = {side.inputs[name]: values for name, values in run.feeds.items()}
            second = self._given(segment, place, feeds)
            if ties.partners:
                first = _on_host(given[0], ties.wanted[0])
                second = _on_host(second, ties.wanted[1])
                second = ties.resolve(first, second, replace(run, feeds=feeds), rows, partial(self._opened, place))
                if self.alternating:
                    ties.close()
            given.append(second)
        return given

    def _given(self, segment: Segment, place: int, feeds: Mapping[str, Array]) -> Mapping[str, AnyArray]:
        """What one network gives; the sessions of other segments are closed."""
        if place not in segment.sessions:
            for other in self.segments:
                if other is not segment:
                    other.close()
            segment.sessions[place] = self._session(segment, place)
        model = self._model(place)
        require_unchanged(model.mapped)  # where onnxruntime maps files that were cut off, a run ends the process
        with telling_which(model.name):
            given = segment.sessions[place].run(feeds, self._fetched(segment, place))
        if self.alternating:
            del segment.sessions[place]
        if not self.overlapping:
            give_back()
        return given

    def _fetched(self, segment: Segment, place: int) -> list[str]:
        """What a network has to give in a segment."""
        _, shapes = segment.telling.get(place, (None, []))
        if place:
            side, watched = self.sides[place - 1], segment.watched[place - 1][1]
            names = [side.pairs[name] for name in (*segment.names, *segment.beside) if name in side.pairs]
            return list(dict.fromkeys([*names, *shapes, *watched, *side.ties.wanted[1]]))
        names = [*segment.names, *segment.beside, *(name for watched in segment.watched for name in watched[0])]
        names += shapes
        return list(dict.fromkeys([*names, *(name for side in self.sides for name in side.ties.wanted[0])]))

    def _open(self, segment: Segment, further: Sequence[str]) -> None:
        """Open all networks for a segment, the reference so that it gives more blobs."""
        for place in range(1 + len(self.sides)):
            segment.sessions[place] = self._session(segment, place, () if place else further)

    def _session(self, segment: Segment, place: int, further: Sequence[str] = ()) -> Session:
        model, _ = segment.telling.get(place, (self._model(place), ()))
        return self._opened(place, model, [*self._fetched(segment, place), *further])

    def _opened(self, place: int, model: Model, blobs: Sequence[str]) -> Session:
        """A network, or another one in its place, that computes some blobs besides its outputs."""
        options = self._options
        return model.session(blobs, self._store, options.threads, options.providers[bool(place)], options.tf32)

    def _model(self, place: int) -> Model:
        return self.sides[place - 1].model if place else self.reference

    def _segment(self) -> Segment:
        """An empty segment."""
        ties = [replace(side.ties, candidate=side.model, counts={}) for side in self.sides]
        return Segment([], [([], []) for _ in self.sides], ties)

    def _plan(self, further: Sequence[str], *, fixed: bool, refusing: bool) -> None:
        """Choose batch, runs in flight and segments so that everything fits.

        Args:
            further: what the reference has to give besides.
            fixed: the batch is decided already.
            refusing: raise where nothing fits.

        Raises:
            UsageError: with the least that would.
        """
        whole = self._whole
        if self._held is None:
            return
        needs = self._needs()
        pairs = zip(needs[1:], self.sides, strict=True)
        moved = max((need.double_weights // 2 for need, side in pairs if self._moves(side)), default=0)
        double = needs[0].double_weights + moved if self._in_double else 0
        held = self._held - double - self._code(needs)
        again = [need.weights for need, side in zip(needs[1:], self.sides, strict=True) if side.ties.partners]
        weights = sum(need.weights for need in needs) + sum(again)
        if not fixed and self.layout.is_open:
            run = self._bytes(whole, needs) + self._working(needs, further)
            batch = self.layout.batch * (held - weights) // max(run, 1)
            self.layout = replace(self.layout, batch=min(self.layout.batch, max(1, batch)))
            needs = self._needs()
        left = held - self._working(needs, further) - weights
        blobs = self._bytes(whole, needs)
        self.overlapping = OVERLAPPING * blobs <= left
        if blobs <= left:
            return
        self.segments = list(self._cut(whole, needs, left))
        if (most := max(self._bytes(segment, needs) for segment in self.segments)) <= left:
            return
        self.alternating = True
        left += weights - max(need.weights for need in needs)
        self.segments = list(self._cut(whole, needs, left))
        if most > left and refusing:
            asked = self._options.memory
            memory = self._share * self._held if asked is None else asked
            least = _mib(memory + self._share * (most - left))
            raise UsageError(
                f"{_mib(memory) if asked is None else _as_given(memory)} is too little memory: comparing these networks"
                + (f" in {self._share} workers" if self._share > 1 else "")
                + f" takes at least {least}, {_mib(most)} of it for one blob or the outputs of both"
                + (f", and {_mib(double)} for the weights of the float64 run" if double else "")
            )

    def _code(self, needs: Sequence[Needs]) -> int:
        """Bytes for code that numba compiles, where a budget has to hold them and there may be values enough for it."""
        if self._options.memory is None or find_spec("numba") is None:
            return 0
        names = self._whole.names
        shapes = [self._ports[0][name].shape if name in self._ports[0] else () for name in names]
        closed = all(shape and None not in shape[1:] for shape in shapes)
        # A value has a byte at least.
        most = self._count * sum(needs[0].sizes.get(name, 0) for name in names) // self.layout.batch
        return 0 if closed and most < MANY else COMPILED

    def _needs(self) -> list[Needs]:
        """Of each network, the reference first."""
        batch = self.layout.batch
        if batch not in self._planned:
            self._planned[batch] = [self._needed(place, batch) for place in range(1 + len(self.sides))]
        return self._planned[batch]

    def _needed(self, place: int, batch: int) -> Needs:
        """Of one network."""
        inputs = {
            self.sides[place - 1].inputs[name] if place else name: (shape[0] or batch, *shape[1:])
            for name, shape in self._inputs.items()
            if shape
        }
        known = {name: _nbytes(port, batch) for name, port in self._ports[place].items()}
        met = {name: size * batch for name, size in self._met[place].items()}
        return Needs.of(self._model(place), inputs, known | met, self._options.providers[bool(place)])

    def _meet(self, place: int, tensors: Sequence[str]) -> dict[str, int]:
        """Tensor -> the bytes of it a sample that the first runs need at the most, where the data decide that.

        A run whose only outputs are shapes holds no more than one for the network's own outputs. What cannot be run,
        or is no tensor, has no size here.
        """
        from bnfold.onnx.graph import SHAPE, lists_in, telling_shapes

        model, ports, found = self._model(place), self._ports[place], dict[str, int]()
        lists = lists_in(model.proto, model.weights) if tensors else ()
        asked = [name for name in tensors if name not in lists]
        if not asked:
            return found
        layout = replace(self.layout, batch=1) if self.layout.is_open else self.layout
        telling = replace(model, proto=telling_shapes(model.proto, asked))
        try:
            session = self._opened(place, telling, ())
            for run in runs(self._data, layout, range(min(MET, -(-self._count // layout.batch)))):
                renamed = self.sides[place - 1].inputs if place else {name: name for name in run.feeds}
                told = session.run({renamed[name]: values for name, values in run.feeds.items()})
                for name in asked:
                    size = int(prod(told[name + SHAPE])) * (ports[name].dtype.itemsize if name in ports else VALUE)
                    found[name] = max(found.get(name, 0), -(-size // layout.batch))
        except ModelError:  # what the pass over the data says, too
            pass
        return found

    def _working(self, needs: Sequence[Needs], further: Sequence[str]) -> int:
        """Bytes that a run takes besides weights and what is compared, samples that are decoded ahead among them."""
        batch = self.layout.batch
        feeds = self.layout.feeds
        inputs = sum(_nbytes(TensorPort(shape, feeds[name].dtype), batch) for name, shape in self._inputs.items())
        double = needs[0].double_working(inputs, 2 + MOVES if self._judged else 1) if self._in_double else 0
        blobs = sum(needs[0].sizes.get(name, 0) for name in further)
        return max(need.working for need in needs) + double + blobs + (2 + AHEAD) * inputs

    def _bytes(self, segment: Segment, needs: Sequence[Needs]) -> int:
        """Bytes of what the networks give, and of what float64 runs begin at."""
        beside = sum(needs[0].sizes.get(name, 0) for name in segment.beside)
        return (2 + MOVES) * needs[0].widening * beside + sum(
            self._size(needs, place, name) for place in range(len(needs)) for name in self._fetched(segment, place)
        )

    def _size(self, needs: Sequence[Needs], place: int, name: str) -> int:
        """Bytes of a blob.

        A candidate whose indices may be tied is run twice, and one of 2 bytes in float32, too, with its weights as they
        are and moved; the reference in float64.
        """
        times = 1
        if place:
            side = self.sides[place - 1]
            times += bool(side.ties.partners) + (needs[place].widening // 2 * (1 + MOVED) if self._moves(side) else 0)
        elif self._judged:
            return 3 * needs[0].sizes.get(name, 0) // 2  # where values count, and where a mask is
        elif self._in_double:
            times += needs[0].widening
        return needs[place].sizes.get(name, 0) * times

    def _moves(self, side: Side) -> bool:
        """Whether a candidate runs in float32 with its weights rounded otherwise, beside the float64 run."""
        return self._in_double and side.model.own.stored_type in COARSE

    def _cut(self, whole: Segment, needs: Sequence[Needs], left: int) -> Iterator[Segment]:
        """Segments whose blobs fit, one blob each at least; the networks' outputs in the first, as all have them."""
        if self._judged:
            yield from self._cut_in_order(needs, left)
            return
        outputs = [name for name in whole.names if name in self.reference.outputs]
        names = [*outputs, *(name for name in whole.names if name not in outputs)]
        wanted: list[tuple[str, tuple[int, int] | None]] = [(name, None) for name in names]
        for place, watched in enumerate(whole.watched):
            wanted += [(blob, (place, side)) for side, blobs in enumerate(watched) for blob in blobs]
        always = self._bytes(self._segment(), needs)
        segment, held = self._segment(), always
        for name, watch in wanted:
            if watch is None:
                partners = [(place, side.pairs.get(name, "")) for place, side in enumerate(self.sides, start=1)]
                size = sum(self._size(needs, place, blob) for place, blob in ((0, name), *partners))
            else:
                size = self._size(needs, watch[0] + 1 if watch[1] else 0, name)
            if held > always and held + size > left and (watch is not None or name not in outputs):
                yield segment
                segment, held = self._segment(), always
            (segment.names if watch is None else segment.watched[watch[0]][watch[1]]).append(name)
            held += size
        yield segment

    def _cut_in_order(self, needs: Sequence[Needs], left: int) -> Iterator[Segment]:
        """Segments one behind the other, each with what is compared nearest in front of its blobs."""
        segment, known = self._segment(), set(self._judged)
        held = always = self._bytes(segment, needs)
        for name in self._judged:
            in_front = known.intersection(upstream(name, self.reference.reads, known))
            while True:
                more = replace(segment, names=[name], beside=sorted(in_front.difference(segment.names, segment.beside)))
                size = self._bytes(more, needs) - always
                if not segment.names or held + size <= left:
                    break
                yield segment
                segment, held = self._segment(), always
            segment.names.append(name)
            segment.beside += more.beside
            held += size
        yield segment

    def _in_float64(self, run: Run, segment: Segment, measured: Sequence[Measurement]) -> Mapping[str, Array]:
        """A segment's blobs in float64; nothing, for the rest of the piece, once the exact run has failed."""
        if self.exact is None or any(measurement.inexact for measurement in measured):
            return {}
        try:
            return self.exact.run(run.feeds, segment.names)
        except UnsupportedError as error:
            for measurement in measured:
                measurement.inexact = str(error)
            return {}


class Ahead:
    """Samples of which those that come next are decoded ahead, by several threads.

    Args:
        data: whose samples may be asked for from any thread.
        threads: that decode.
        most: how many are decoded ahead.
    """

    def __init__(self, data: Samples, threads: Threads, most: int) -> None:
        self._data, self._threads, self._most = data, threads, most
        self._waiting: dict[int, Future[dict[str, Array]]] = {}
        self._stop = 0

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of the data."""
        return getattr(self._data, name)

    def sample(self, number: int) -> dict[str, Array]:
        """One sample, and the next ones on their way."""
        stop = min(number + 1 + self._most, self._data.count)
        for later in range(self._stop if number in self._waiting else number, stop):
            self._waiting[later] = self._threads.submit(self._data.sample, later)
        self._stop = stop
        return result_of(self._waiting.pop(number))


def _on_host(values: Mapping[str, AnyArray], names: Sequence[str]) -> dict[str, AnyArray]:
    """The values, those of some names on the host."""
    return {**values, **{name: to_host(values[name]) for name in names}}


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
