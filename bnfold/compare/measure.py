"""What is compared, decided once (`MeasurePlan`), and what has been found so far (`Measurement`), which merges.

A plan can be sent to another process. A measurement holds sums, extremes, counts and the worst of each kind: nothing
in it grows with the number of samples. Parts of the data are measured anywhere and merged in the order of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from inspect import signature
from math import prod
from typing import Any

import numpy as np

from bnfold.compare.backends import backend_of
from bnfold.compare.batches import BatchLayout, Run
from bnfold.compare.classify import Classification
from bnfold.compare.detect import Detection
from bnfold.compare.exact import Distances
from bnfold.compare.kernels import alike, span
from bnfold.compare.merging import BY_NAME, BY_SUM, FIRST, OPTIONAL, by_name, keep_worst, rule
from bnfold.compare.metrics import BlobError, SampleError, add_together, extremes
from bnfold.compare.records import SampleDiff
from bnfold.compare.saturation import Positions
from bnfold.compare.threads import result_of
from bnfold.data.samples import Samples
from bnfold.errors import UsageError
from bnfold.net import Array, Shape
from bnfold.runtime import AnyArray, to_host

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all; the library itself prints nothing.

One that has a method `pieces` is told the pieces done and the pieces in all by it, too.
"""


def require_progress(progress: object) -> None:
    """Stop at what cannot be called as a progress is. Raises UsageError."""
    if progress is None:
        return
    wanted = "progress is called with the samples done and the samples in all"
    if not callable(progress):
        raise UsageError(f"{wanted}, and not {type(progress).__name__}")
    with suppress(ValueError):  # a function in C need not tell what it takes
        takes = signature(progress)
        try:
            takes.bind(0, 0)
        except TypeError:
            raise UsageError(f"{wanted}, and this function takes {takes}") from None


def tell_pieces(progress: Any, done: int, total: int) -> None:
    """Tell a progress how many pieces are done, if it wants to know."""
    if hasattr(progress, "pieces"):
        progress.pieces(done, total)


@dataclass(frozen=True, slots=True)
class NamedProgress:
    """The progress of several things that are done in one pass: `say` is called with the name of each."""

    say: Callable[[str, int, int], None]
    names: tuple[str, ...]

    def __call__(self, done: int, total: int) -> None:
        """Samples."""
        for name in self.names:
            self.say(name, done, total)

    def pieces(self, done: int, total: int) -> None:
        """Pieces."""
        for name in self.names if hasattr(self.say, "pieces") else ():
            self.say.pieces(name, done, total)  # type: ignore[attr-defined]


Counts = dict[str, tuple[int, int]]
Spans = dict[str, tuple[float, float]]

ACROSS = 4.0
SAMPLES = 500  # of the samples, those that differ most are kept


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """What is compared.

    Attributes:
        pairs: blob of the reference -> blob of the candidate.
        layout: how samples make up a run.
        tolerance: relative to a blob's range.
        outputs: the compared blobs that are outputs of the reference.
        boxes, scores: the blob of a detector's boxes, and that of a classifier's scores, if there are such.
        labels: the true class of each sample.
        saturating: output -> the type of the layer that saturates it.
        watched: blobs of either network that are compared with nothing, and whose range is reported.
        compiled: whether the host measures by compiled code, which rounds its sums in another order.
        by_own_range: each sample is judged by the range that a blob has in it.
        last: the outputs, and what stands in front of those that show little: nothing else shows what a mask hides.
    """

    pairs: Mapping[str, str]
    layout: BatchLayout
    tolerance: float
    outputs: frozenset[str] = frozenset()
    boxes: str | None = None
    scores: str | None = None
    labels: Array | None = None
    saturating: Mapping[str, str] = field(default_factory=dict)
    watched: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    compiled: bool = False
    by_own_range: bool = False
    last: frozenset[str] = frozenset()

    def part(self, names: Sequence[str], watched: tuple[tuple[str, ...], tuple[str, ...]]) -> MeasurePlan:
        """The plan for some of the pairs."""
        wanted = set(names)
        kept = {name: partner for name, partner in self.pairs.items() if name in wanted}
        return replace(
            self,
            pairs=kept,
            outputs=self.outputs & kept.keys(),
            boxes=self.boxes if self.boxes in kept else None,
            scores=self.scores if self.scores in kept else None,
            saturating={name: layer_type for name, layer_type in self.saturating.items() if name in kept},
            watched=watched,
        )


widen = by_name(lambda first, second: (min(first[0], second[0]), max(first[1], second[1])))
"""Ranges that hold those of both tables."""
_added = by_name(lambda first, second: (first[0] + second[0], first[1] + second[1]))


def _once(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _worst_samples(first: list[SampleDiff], second: list[SampleDiff]) -> list[SampleDiff]:
    return keep_worst(first, second, lambda sample: (-sample.max_rel, sample.sample), SAMPLES)


@dataclass(slots=True)
class Measurement:
    """What was found of one candidate so far.

    Attributes:
        errors: blob of the reference -> its measure.
        count: how many samples were measured.
        samples: those that differ most, the worst first.
        classification, detection: of the answers, and of the boxes.
        positions: output -> how many of its positions are saturated.
        spans: of either network, blob -> smallest and largest finite value, for what is watched, and of the inputs.
        distances: blob that is doubtful -> how far either network is from a float64 run, in the sample that speaks most
            against the candidate.
        ties: blob of indices -> how many differ on equal values, and how many there are.
        notes: sentences for the report.
        inexact: why the float64 run failed, of the first piece in which it did.
        fillers: output -> the largest error of a row that repeats the last sample, since there were too few of them, of
            its range, and the row.
    """

    errors: dict[str, BlobError] = field(default_factory=dict, metadata=BY_NAME)
    count: int = field(default=0, metadata=BY_SUM)
    samples: list[SampleDiff] = field(default_factory=list, metadata=rule(_worst_samples))
    classification: Classification | None = field(default=None, metadata=OPTIONAL)
    detection: Detection | None = field(default=None, metadata=OPTIONAL)
    positions: dict[str, Positions] = field(default_factory=dict, metadata=BY_NAME)
    reference_spans: Spans = field(default_factory=dict, metadata=rule(widen))
    candidate_spans: Spans = field(default_factory=dict, metadata=rule(widen))
    distances: dict[str, Distances] = field(default_factory=dict, metadata=rule(by_name(Distances.joined)))
    ties: Counts = field(default_factory=dict, metadata=rule(_added))
    notes: list[str] = field(default_factory=list, metadata=rule(_once))
    inexact: str = field(default="", metadata=FIRST)
    fillers: dict[str, tuple[float, int]] = field(default_factory=dict, metadata=rule(by_name(max)))

    @classmethod
    def begun(cls, plan: MeasurePlan) -> Measurement:
        """A measurement to which nothing was added yet."""
        return cls(
            errors={name: BlobError(plan.tolerance, plan.by_own_range) for name in plan.pairs},
            classification=Classification(plan.scores, plan.labels) if plan.scores is not None else None,
            detection=Detection(plan.boxes) if plan.boxes is not None else None,
            positions={name: Positions() for name in plan.saturating},
        )

    def add(
        self,
        plan: MeasurePlan,
        run: Run,
        first: Mapping[str, AnyArray],
        second: Mapping[str, AnyArray],
        data: Samples,
        exact: Mapping[str, Array],
        threads: Executor,
    ) -> Callable[[], None]:
        """Begin to measure one run, the blobs side by side.

        Args:
            plan: this measurement was begun with it.
            run: the samples.
            first, second: what the reference gave, and the candidate.
            data: for the samples' names and pictures.
            exact: what a float64 run of the reference gave, if there was one.
            threads: where it is measured. A measurement takes one run at a time.

        Returns:
            What waits until it is done, and must be called before the next run is added.
        """
        names = [data.name(number) for number in run.numbers]
        # A thread gets its own blobs and no others, so that the memory of each is free as soon as it is measured.
        waiting = [
            threads.submit(
                self._blobs,
                plan,
                run,
                {name: (first[name], second[plan.pairs[name]]) for name in group},
                names,
                {name: exact[name] for name in group if name in exact},
            )
            for group in _together(plan, first, second)
        ]
        watched = tuple(
            {name: values[name] for name in names} for names, values in zip(plan.watched, (first, second), strict=True)
        )
        values = {name: feed for name, feed in run.feeds.items() if feed.dtype.kind in "fiu"}
        others: list[Future[Any]] = [threads.submit(self._watch, values | watched[0], watched[1])]
        if self.classification is not None and plan.scores is not None:
            scores = first[plan.scores], second[plan.pairs[plan.scores]]
            others.append(threads.submit(self._classify, self.classification, run, scores, data))

        def finish() -> None:
            found = {name: errors for future in waiting for name, errors in result_of(future).items()}
            for future in others:
                result_of(future)
            self._rank(plan, run, names, found)
            self.count += len(run.numbers)

        return finish

    def spans(self, pairs: Mapping[str, str]) -> tuple[Spans, Spans]:
        """Of either network, blob or input -> smallest and largest finite value; `pairs` as in the plan."""
        ours, theirs = dict(self.reference_spans), dict(self.candidate_spans)
        for name, error in self.errors.items():
            if error.low <= error.high:
                ours[name] = error.low, error.high
                theirs[pairs[name]] = error.partner_low, error.partner_high
        return ours, theirs

    def _blobs(
        self,
        plan: MeasurePlan,
        run: Run,
        group: Mapping[str, tuple[AnyArray, AnyArray]],
        names: Sequence[str],
        exact: Mapping[str, Array],
    ) -> dict[str, list[SampleError]]:
        """Measure blobs that are alike; of each the errors of every sample."""
        count = len(run.numbers)
        found: dict[str, list[SampleError]] = {}
        seen: dict[str, tuple[AnyArray, AnyArray]] = {}
        by_sample = False
        for name, (r, c) in group.items():
            boxes = False
            if name == plan.boxes and self.detection is not None:
                r, c = to_host(r), to_host(c)
                matched = self.detection.add(r, c, run.numbers, names, plan.layout.batch)
                if boxes := matched is not None:
                    self.errors[name].shape = self.errors[name].shape or r.shape
                    r, c = (rows.T for rows in matched)
            by_sample = not boxes and plan.layout.has_rows(r)
            shape, rows = tuple(r.shape), (slice(count), ...) if by_sample else ...
            if type(r) is not type(c):
                r, c = to_host(r), to_host(c)
            if prod(shape) != prod(c.shape):
                found[name] = self._misshapen(run, name, names, shape, tuple(c.shape))
                continue
            c = c if tuple(c.shape) == shape else c.reshape(shape)
            if name in plan.outputs and by_sample and (worst := _filler_error(r, c, count)) is not None:
                self.fillers[name] = max(worst, self.fillers.get(name, worst))
            r, c = seen[name] = r[rows], c[rows]
            if name in plan.saturating:
                self.positions[name].add(plan.saturating[name], r)
            if name in plan.last and not boxes:
                pair = to_host(r), to_host(c)
                for sample in zip(*pair, strict=True) if by_sample else [pair]:
                    self.errors[name].look_beside_mask(*sample)
            if name in exact and not boxes and exact[name].size == prod(shape):
                self.errors[name].add_exact(exact[name].reshape(shape)[rows], to_host(r), to_host(c))
        if seen:
            ours, theirs = zip(*seen.values(), strict=True)
            measures = [self.errors[name] for name in seen]
            each = add_together(
                measures, ours, theirs, run.numbers.start, names, by_sample=by_sample, compiled=plan.compiled
            )
            found |= {name: errors if by_sample else errors * count for name, errors in zip(seen, each, strict=True)}
        return found

    def _misshapen(self, run: Run, name: str, names: Sequence[str], ours: Shape, theirs: Shape) -> list[SampleError]:
        """A blob whose shape follows the values, and differs: none of its values has a partner in this run."""
        shapes = f"its shape is {ours} in the reference and {theirs} in the candidate"
        self.notes = _once(self.notes, [f"blob '{name}': {shapes} for sample {names[0]}"])
        nothing = np.zeros(max(prod(ours), prod(theirs)), np.float32)
        found = self.errors[name].add(nothing, np.full_like(nothing, np.nan), run.numbers.start, names, by_sample=False)
        return found * len(run.numbers)

    def _watch(self, first: Mapping[str, AnyArray], second: Mapping[str, AnyArray]) -> None:
        self.reference_spans = widen(self.reference_spans, {name: extremes(blob) for name, blob in first.items()})
        self.candidate_spans = widen(self.candidate_spans, {name: extremes(blob) for name, blob in second.items()})

    def _classify(
        self, classification: Classification, run: Run, scores: tuple[AnyArray, AnyArray], data: Samples
    ) -> None:
        count = len(run.numbers)
        classification.add(to_host(scores[0])[:count], to_host(scores[1])[:count], run.numbers, data)

    def _rank(self, plan: MeasurePlan, run: Run, names: Sequence[str], found: Mapping[str, list[SampleError]]) -> None:
        """Keep the samples that differ most, each by its worst output."""
        outputs = {name: errors for name, errors in found.items() if name in plan.outputs and errors}
        if not outputs:
            return
        ranked = []
        for place, (number, sample) in enumerate(zip(run.numbers, names, strict=True)):
            here = ((name, errors[place]) for name, errors in outputs.items())
            name, error = max(here, key=lambda one: one[1].max_rel)
            ranked.append(SampleDiff(number, sample, name, error.max_abs, error.max_rel, error.l2_rel, error.cosine))
        self.samples = _worst_samples(self.samples, ranked)


def _filler_error(r: AnyArray, c: AnyArray, count: int) -> tuple[float, int] | None:
    """The largest error of the rows behind the samples, of its range, and the row; None where none is larger than that
    of the last sample, which they repeat.

    Rounding may differ a little from row to row. What is ACROSS times as far off is no rounding of the same numbers.
    """
    if count >= r.shape[0]:
        return None
    found: list[tuple[float, int]] = []
    last = [to_host(one[count - 1 : count]) for one in (r, c)]
    usual = _largest_gap(*last)
    for row in range(count, r.shape[0]):
        ours, theirs = to_host(r[row : row + 1]), to_host(c[row : row + 1])
        if not all(np.array_equal(*one) for one in zip((ours, theirs), last, strict=True)):
            gap = _largest_gap(ours, theirs)
            found += [(gap / span(*extremes(ours)), row)] if gap > ACROSS * usual else []
    return max(found, default=None)


def _largest_gap(ours: Array, theirs: Array) -> float:
    """The largest difference, infinite where one side alone is finite."""
    with np.errstate(all="ignore"):
        gap = np.abs(np.subtract(ours, theirs, dtype=np.float64))
    gap = np.where(np.isfinite(ours) & np.isfinite(theirs), gap, np.where(alike(ours, theirs), 0, np.inf))
    return float(gap.max(initial=0))


def _together(plan: MeasurePlan, first: Mapping[str, AnyArray], second: Mapping[str, AnyArray]) -> list[list[str]]:
    """The blobs, those that lie on a GPU and are alike in groups: it takes them as one, and as long for one as for all.

    On the host each is by itself, for threads to share.
    """
    groups: dict[Any, list[list[str]]] = {}
    for name, partner in plan.pairs.items():
        r, c = first[name], second[partner]
        key: Any = name
        if type(r) is type(c) and not isinstance(r, np.ndarray) and name != plan.boxes:
            key = tuple(r.shape), tuple(c.shape), str(r.dtype), str(c.dtype)
        parts = groups.setdefault(key, [[]])
        if parts[-1] and len(parts[-1]) * prod(r.shape) > backend_of(r, plan.compiled).together:
            parts.append([])
        parts[-1].append(name)
    return [part for parts in groups.values() for part in parts]
