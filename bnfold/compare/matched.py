"""A candidate matched with its reference: what of the two is compared, and what is measured of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from bnfold.compare.backends import worthwhile
from bnfold.compare.batches import BatchLayout
from bnfold.compare.classify import find_scores, require_labels
from bnfold.compare.detect import detector_reads, find_detections
from bnfold.compare.measure import MeasurePlan
from bnfold.compare.models import Model
from bnfold.compare.planning import Side
from bnfold.compare.saturation import Saturating, saturating
from bnfold.compare.ties import Ties
from bnfold.data.samples import Noise, Samples
from bnfold.net import Array, Shape
from bnfold.options import CompareOptions

UNSHAPED = "where a size is 1 is not compared"


@dataclass(slots=True)
class MatchedCandidate:
    """A candidate with the reference that it is compared with, and what is known of both before anything runs.

    Attributes:
        ours, theirs: the reference and the candidate.
        inputs: input of the reference -> input of the candidate.
        pairs: blob of the reference -> blob of the candidate; all that both have.
        layout, data, labels: what is fed.
        options: what is compared, and what may differ.
        notes: sentences for the report.
        unsized: what both networks take, with the sizes that they leave open.
        is_fold: whether the candidate is known to be a fold of the reference, in which equal names are equal blobs.
        saturating: output, or what layers read that cannot be run -> what saturates it.
        fronts: what is compared only in case the output behind it hides its errors.
        tops: layer -> own top, of the weighted layers whose activation range is reported, in either network.
        ties: the blobs of indices.
        all_pairs: `pairs` as they were, where only outputs are compared.
        resized: sentences on blobs, but outputs, that hold another number of values in the candidate.
        unlooked: why no float64 run looked at what differs within the tolerance, where one might have.
    """

    ours: Model
    theirs: Model
    inputs: dict[str, str]
    pairs: dict[str, str]
    layout: BatchLayout
    data: Samples
    labels: Array | None
    options: CompareOptions
    notes: list[str]
    unsized: BatchLayout
    is_fold: bool
    saturating: dict[str, Saturating] = field(init=False)
    fronts: set[str] = field(init=False, default_factory=set)
    tops: tuple[dict[str, str], dict[str, str]] = field(init=False, default=({}, {}))
    ties: Ties = field(init=False)
    all_pairs: dict[str, str] = field(init=False)
    resized: list[str] = field(init=False, default_factory=list)
    unlooked: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.saturating, self.all_pairs = saturating(self.ours), dict(self.pairs)
        by_sample = isinstance(self.data, Noise) or self.data.count == 1  # else by the range of all samples
        judged: Collection[str] = self.pairs if self.options.layers and by_sample else ()
        self.ties = Ties.of(self.ours, self.theirs, self.pairs, self.options.limit, judged)
        if self.options.layers:
            weighted = {writer.layer for writer in self.theirs.writers.values() if writer.weighted}
            self.tops = _own_tops(self.ours, weighted), _own_tops(self.theirs, weighted)
        else:
            wanted = {*self.ours.outputs, *self.ours.uncompared.reads, *detector_reads(self.ours)}
            fronts = {front for output in self.saturating.values() for front in output.fronts} - wanted
            wanted |= fronts
            self.pairs = {name: partner for name, partner in self.pairs.items() if name in wanted}
            self.fronts = fronts & self.pairs.keys()

    def side(self) -> Side:
        """The candidate as the pass over the data needs it."""
        return Side(self.theirs, self.inputs, self.pairs, self.watched, self.ties)

    def whole(self) -> MatchedCandidate:
        """The same, of which every blob is compared that both have."""
        return replace(self, options=replace(self.options, layers=True), pairs=dict(self.all_pairs))

    @property
    def partners(self) -> dict[str, str]:
        """Blob or input of the reference -> of the candidate; all that both have."""
        return {**self.inputs, **self.all_pairs}

    @property
    def watched(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The own tops of either network that are compared with nothing."""
        compared = (self.pairs.keys(), set(self.pairs.values()))
        ours, theirs = (
            tuple(blob for blob in tops.values() if blob not in known)
            for tops, known in zip(self.tops, compared, strict=True)
        )
        return ours, theirs

    def decide(self, first: Mapping[str, Shape], second: Mapping[str, Shape]) -> MeasurePlan:
        """What is compared, now that the shapes of either network's blobs are known."""
        boxes = find_detections(self.ours, self.pairs, first, second)
        alike = (self.ours.net is None) == (self.theirs.net is None)
        for name, partner in list(self.pairs.items()):
            if name == boxes or first[name] == second[partner]:
                continue
            shapes = f"its shape is {first[name]} in the reference and {second[partner]} in the candidate"
            if _squeezed(first[name]) == _squeezed(second[partner]):
                if alike and name in self.ours.outputs:  # in Caffe a blob has a plane where it has none in ONNX
                    self.notes.append(f"output '{name}': {shapes}, and {UNSHAPED}")
                continue
            self.notes.append(f"blob '{name}' was not compared: {shapes}")
            if name not in self.ours.outputs and prod(first[name]) != prod(second[partner]):
                writer = self.ours.writers[name]
                made = f"blob '{name}', which layer '{writer.layer}' ({writer.type}) makes"
                self.resized.append(f"{made}, has another size: {shapes}")
            del self.pairs[name]
        scores = find_scores(self.ours, self.pairs, first, self.labels, self.layout.batch)
        if scores is not None:
            require_labels(self.labels, first[scores][1], self.data.name)
        elif self.labels is not None:
            self.notes.append("the labels say nothing here: no output has one score for each of so many classes")
        fronts = {front for cause in self.saturating.values() for front in cause.fronts}
        return MeasurePlan(
            pairs=self.pairs,
            layout=self.layout,
            tolerance=self.options.limit,
            outputs=frozenset(name for name in self.ours.outputs if name in self.pairs),
            boxes=boxes,
            scores=scores if self.layout.batched else None,
            labels=self.labels,
            saturating={name: cause.layer_type for name, cause in self.saturating.items() if name in self.pairs},
            watched=self.watched,
            compiled=worthwhile(self.data.count * sum(prod(first[name]) for name in self.pairs) // self.layout.batch),
            by_own_range=isinstance(self.data, Noise),
            last=frozenset(self.pairs.keys() & {*self.ours.outputs, *fronts}),
        )


def _own_tops(model: Model, layers: Collection[str]) -> dict[str, str]:
    """Layer -> its first top."""
    tops: dict[str, str] = {}
    for blob, writer in model.writers.items():
        if writer.layer in layers:
            tops.setdefault(writer.layer, blob)
    return tops


def _squeezed(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]
