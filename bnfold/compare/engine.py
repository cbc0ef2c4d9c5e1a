"""The pass over the data: samples are decoded ahead, both networks run, and what they gave is measured meanwhile.

The runs are cut into pieces of equal size, which depend on the data and the batch alone. Each piece is measured by
itself and the pieces merge in their order, so that it makes no difference to a bit of the report where they were
measured, and in what order.

What is in memory at once follows from a budget: see `planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from bnfold.compare.batches import BatchLayout, Run, runs
from bnfold.compare.measure import Counts, Measurement, MeasurePlan, Progress
from bnfold.compare.memory import VALUE, memory_budget
from bnfold.compare.merging import merge
from bnfold.compare.models import Model
from bnfold.compare.planning import AHEAD, MemoryBudget, NetworkNeeds, Networks, Planner, Segment
from bnfold.compare.threads import Threads, result_of
from bnfold.data.samples import Samples
from bnfold.errors import ModelError, UnsupportedError, UsageError, telling_which
from bnfold.io.mapping import require_unchanged
from bnfold.net import Array, Shape
from bnfold.options import CompareOptions
from bnfold.runtime import AnyArray, Execution, Session, give_back, processors, to_host

if TYPE_CHECKING:
    from bnfold.onnx.evaluator import Evaluator
    from bnfold.onnx.graph import WeightStore

PIECE = 16  # runs that are measured together, wherever that is
OBSERVED = 3  # runs that are made to see how large tensors are whose sizes the data decide

Opening = Callable[[], "Evaluator | None"]
"""What opens a float64 run, or cannot."""


class Engine:
    """Networks that are open to be run and measured.

    Args:
        networks, layout, data, options, store: what is run and fed, and how.
        exact: what opens the float64 run of the reference, if it is wanted.
        share: how many processes share the processors and the memory of this machine.

    Raises:
        UsageError: there is too little memory, and the user has set a limit or wants the float64 run.
    """

    def __init__(
        self,
        networks: Networks,
        layout: BatchLayout,
        data: Samples,
        options: CompareOptions,
        store: WeightStore,
        *,
        exact: Opening | None = None,
        share: int = 1,
    ) -> None:
        self.networks, self.layout = networks, layout
        self._options, self._store, self._data = options, store, data
        self._threads = processors(share)
        self._first: tuple[Run, list[Mapping[str, AnyArray]], list[Counts]] | None = None
        self._give_back()  # writing the candidate may have read all of its source
        room = memory_budget(options.memory, self._threads, share)  # before sessions take any
        self.overlapping, self.alternating = True, False
        self._whole = networks.whole()
        self.segments = [self._whole]
        sessions = [
            self._session(self._whole, place, () if place else networks.further)
            for place in range(len(networks.models))
        ]
        self._whole.sessions.update(enumerate(sessions))
        self.executions: list[Execution] = [session.execution for session in sessions]
        there = any(execution.values != "host" for execution in self.executions)
        self._pool = Threads(1 if there else self._threads, "bnfold-measure")
        self._decoders = Threads(self._threads, "bnfold-decode")
        self._budget: MemoryBudget | None = None
        if room is not None:
            self._budget = MemoryBudget(room, options.memory, share)
            self._needs = NetworkNeeds(networks, [session.outputs for session in sessions], layout, data, options)
            unsized = [need.unsized for need in self._needs.of(layout.batch)]
            self._needs.add([self._observed_sizes(place, names) for place, names in enumerate(unsized)])
            in_double = exact is not None
            self._plan(in_double=in_double, further=networks.further, refusing=in_double or options.memory is not None)
        self.layout = replace(self.layout, planned=True)
        self.exact = exact() if exact is not None else None
        if self.segments[0] is not self._whole:
            self._whole.sessions.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._decoders):
            pool.shutdown(cancel_futures=True)
        self.close_sessions()
        for segment in self.segments:
            segment.ties.clear()

    def close_sessions(self) -> None:
        """Free what the networks hold until they run again."""
        for segment in self.segments:
            segment.close()
        self._give_back()

    def _give_back(self) -> None:
        """Give the system what is free, and the pages of the sources: weights that were looked at are read again."""
        for model in self.networks.models:
            model.release_pages()
        if self._options.memory is not None:
            self._store.end_idle()
        give_back()

    @property
    def session(self) -> Session:
        """The reference, which gives its outputs and what it was asked for further, as long as no run has ended."""
        sessions = self.segments[0].sessions
        if 0 not in sessions:
            sessions[0] = self._session(self.segments[0], 0, self.networks.further)
        return sessions[0]

    def telling_largest(self) -> Session | None:
        """The reference, which gives the largest magnitude of each of its blobs of float16; None without such."""
        from bnfold.onnx.graph import telling_largest

        reference = self.networks.reference
        if names := reference.float16_blobs():
            return self._opened(0, replace(reference, proto=telling_largest(reference.proto, names)), ())
        return None

    @property
    def compiled(self) -> bool:
        """Whether compiled code measures, as was decided with the plans."""
        return any(side.plan is not None and side.plan.compiled for side in self.networks.sides)

    def shapes(self, data: Samples) -> list[dict[str, Shape]]:
        """Of each network, the reference first, the shapes of all that is compared; one run is made for it."""
        run = next(self._runs(data, range(1)))
        if len(self.segments) > 1:
            return self._shapes_without_blobs(run)
        given = self._run(self._whole, run)
        # The counts are of a run that may be made again, or by others.
        self._first = run, given, [ties.take_counts() for ties in self._whole.ties]
        return [{name: tuple(value.shape) for name, value in values.items()} for values in given]

    def _shapes_without_blobs(self, run: Run) -> list[dict[str, Shape]]:
        """The shapes where not all fits at once, by one run: what ties need is given, all else tells its shape."""
        from bnfold.onnx.graph import SHAPE, telling_shapes

        telling, shapes, compared = list[Model](), list[list[str]](), list[list[str]]()
        for place, model in enumerate(self.networks.models):
            compared.append(self._whole.outputs(place))
            order = {name: number for number, name in enumerate(model.makers)}
            given = self.networks.segment().outputs(place)
            names = sorted(set(compared[-1]).difference(given), key=lambda name: order.get(name, -1))
            telling.append(replace(model, proto=telling_shapes(model.proto, names)))
            shapes.append([name + SHAPE for name in names])
        sides = [replace(side, model=model) for side, model in zip(self.networks.sides, telling[1:], strict=True)]
        segment = Networks(telling[0], sides).segment()
        segment.watched = [(shapes[0], own) for own in shapes[1:]]
        return [
            {
                name: tuple(to_host(values[name + SHAPE]).tolist() if name + SHAPE in values else values[name].shape)
                for name in names
            }
            for names, values in zip(compared, self._run(segment, run), strict=True)
        ]

    def give(self, run: Run) -> Iterator[tuple[Segment, list[Mapping[str, AnyArray]]]]:
        """What each network gives for a run, the reference first: all at once, or a segment at a time."""
        for segment in self.segments:
            yield segment, [_on_host(values, list(values)) for values in self._run(segment, run)]

    def open_exact(self, opening: Opening, judged: Sequence[str]) -> Evaluator | None:
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
            if judged:
                self._whole = replace(self.networks.segment(), names=list(judged))
            self.segments, self.alternating = [self._whole], False
            try:
                self._plan(in_double=True, judged=bool(judged))
                self.exact = self.exact or opening()
            except UsageError as error:
                raise UnsupportedError(str(error)) from None
        return self.exact

    def pieces(self, count: int) -> list[range]:
        """The runs of each piece."""
        number = -(-count // self.layout.batch)
        return [range(start, min(start + PIECE, number)) for start in range(0, number, PIECE)]

    def measure(self, data: Samples, piece: range, progress: Progress | None = None) -> list[Measurement]:
        """Run and measure one piece; a measurement for each candidate."""
        plans = [side.plan for side in self.networks.sides if side.plan is not None]
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
        for side in self.networks.sides:
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
                    self._give_back()
        finally:
            finish(stop)

    def _runs(self, data: Samples, piece: range) -> Iterator[Run]:
        ahead = Ahead(data, self._decoders, AHEAD * self.layout.batch) if getattr(data, "parallel", False) else data
        return runs(ahead, self.layout, piece)

    def _run(self, segment: Segment, run: Run) -> list[Mapping[str, AnyArray]]:
        """What each network gives for a run, the reference first."""
        given = [self._given(segment, 0, run.feeds)]
        rows = self.layout.batch if self.layout.batched else 0
        for place, ties in enumerate(segment.ties, start=1):
            feeds = self.networks.feeds(place, run.feeds)
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
        model = segment.networks.models[place]
        require_unchanged(model.mapped)  # where onnxruntime maps files that were cut off, a run ends the process
        with telling_which(model.name):
            given = segment.sessions[place].run(feeds, segment.outputs(place))
        if self.alternating:
            del segment.sessions[place]
        if not self.overlapping or self._options.memory is not None:
            self._give_back()
        return given

    def _session(self, segment: Segment, place: int, further: Sequence[str] = ()) -> Session:
        return self._opened(place, segment.networks.models[place], [*segment.outputs(place), *further])

    def _opened(self, place: int, model: Model, blobs: Sequence[str]) -> Session:
        """A network, or another one in its place, that computes some blobs besides its outputs."""
        options = self._options
        return model.session(blobs, self._store, options.threads, options.providers[bool(place)], options.tf32)

    def _plan(
        self, *, in_double: bool, further: Sequence[str] = (), judged: bool = False, refusing: bool = True
    ) -> None:
        """Let everything fit into the budget, see `Planner`; with `refusing`, raise a UsageError where it does not."""
        if self._budget is None:
            return
        plan = Planner(self._needs, self.layout, self._whole, further, in_double, judged).plan(self._budget.size)
        self.layout, self.segments = plan.layout, plan.segments
        self.overlapping, self.alternating = plan.overlapping, plan.alternating
        self._give_back()  # inferring shapes reads small weights, and with each the pages around it
        if refusing:
            self._budget.require(plan)

    def _observed_sizes(self, place: int, tensors: Sequence[str]) -> dict[str, int]:
        """Tensor -> the bytes of it a sample that the first runs need at the most, where the data decide that.

        A run whose only outputs are shapes holds no more than one for the network's own outputs. What cannot be run,
        or is no tensor, has no size here.
        """
        from bnfold.onnx.graph import SHAPE, lists_in, telling_shapes

        model, ports, found = self.networks.models[place], self._needs.ports[place], dict[str, int]()
        lists = lists_in(model.proto, model.weights) if tensors else ()
        names = [name for name in tensors if name not in lists]
        if not names:
            return found
        layout = replace(self.layout, batch=1) if self.layout.is_open else self.layout
        telling = replace(model, proto=telling_shapes(model.proto, names))
        try:
            session = self._opened(place, telling, ())
            for run in runs(self._data, layout, range(min(OBSERVED, -(-self._data.count // layout.batch)))):
                shapes = session.run(self.networks.feeds(place, run.feeds))
                for name in names:
                    size = int(prod(shapes[name + SHAPE])) * (ports[name].dtype.itemsize if name in ports else VALUE)
                    found[name] = max(found.get(name, 0), -(-size // layout.batch))
        except ModelError:  # what the pass over the data says, too
            pass
        return found

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
