"""A candidate matched with its reference: what of the two is compared, and the report of what was found."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bnfold.compare import gates
from bnfold.compare.backends import worthwhile
from bnfold.compare.batches import BatchLayout
from bnfold.compare.classify import find_scores, require_labels
from bnfold.compare.detect import detector_reads, find_detections, same_detector
from bnfold.compare.divergence import first_divergent_layer, upstream
from bnfold.compare.exact import same_makers
from bnfold.compare.measure import Measurement, MeasurePlan, Spans
from bnfold.compare.metrics import BlobError, figures
from bnfold.compare.models import Model
from bnfold.compare.partial import differing_behind, made_otherwise, same_behind
from bnfold.compare.planning import Side
from bnfold.compare.records import (
    NO_PARTNER,
    OTHER_SHAPE,
    BlobDiff,
    ClassifierDiff,
    DetectorDiff,
    DiffReport,
    FirstDivergent,
    Gate,
    LayerRange,
    Uncompared,
)
from bnfold.compare.rounding import RoundingJudge, rounding_note
from bnfold.compare.saturation import MOSTLY, Positions, Saturating, saturating
from bnfold.compare.ties import Ties
from bnfold.compare.unproved import unproved
from bnfold.data.samples import Noise, Samples
from bnfold.errors import named, quoted
from bnfold.net import Array, Shape
from bnfold.options import CompareOptions
from bnfold.runtime import Execution

WORSE = 2.0  # a ratio of weight ranges that is twice as large: the median channel loses a bit
GROWN = "more than rounding mostly adds, though within the tolerance; --exact tells whether it is rounding"
BARE = (
    "in no sample there was an element to compare; the same layers, with equal weights, make it of what was compared; "
    "give samples in which there is something by --data"
)
UNLIKE = (
    "behind what cannot be run the layers are not the same in both networks, or read what was not compared, so that is "
    "not proved"
)
TF32_NOTE = (
    "products had the 10 bits of TF32 (--tf32): with it 42 of 208 networks differed by more than 1e-4 on an H200, "
    "without it none but an ArgMax of ties"
)


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
        saturating: output, or what layers read that cannot be run -> what saturates it.
        fronts: what is compared only in case the output behind it hides its errors.
        tops: layer -> own top, of the weighted layers whose activation range is reported, in either network.
        ties: the blobs of indices.
        all_pairs: `pairs` as they were, where only outputs are compared.
        resized: sentences on blobs, but outputs, that hold another number of values in the candidate.
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
    saturating: dict[str, Saturating] = field(default_factory=dict)
    fronts: set[str] = field(default_factory=set)
    tops: tuple[dict[str, str], dict[str, str]] = ({}, {})
    ties: Ties = field(init=False)
    all_pairs: dict[str, str] = field(init=False)
    resized: list[str] = field(default_factory=list)

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
                    self.notes.append(f"output '{name}': {shapes}, and where a size is 1 is not compared")
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

    def report(self, found: Measurement, ran: tuple[Execution | None, Execution | None]) -> DiffReport:
        """Everything found, with the gates.

        Args:
            found: in all samples.
            ran: where either network was run.
        """
        options = self.options
        if found.inexact:  # of other samples alone it would say nothing of this data
            found.notes.append(f"no exact column: {found.inexact}")
            for error in found.errors.values():
                error.exact_sums = None
        hiding = [name for name, positions in found.positions.items() if self._hides(name, positions, found)]
        blobs = self._blobs(found, hiding)
        classifier = found.classification.result(self.data.class_names) if found.classification else None
        detector = found.detection.result() if found.detection and found.detection.is_one else None
        boxes = detector.blob if detector is not None else None
        lost, uncompared = self._without_partner()
        steady = boxes is not None and self._steady(boxes, blobs)
        judged = [blob for blob in blobs if not (steady and blob.blob == boxes)]
        judge = RoundingJudge(self, found)
        decided, rounding, unlooked = judge.verdict(blobs)
        rounded = [name for name, by_rounding in decided.items() if by_rounding]
        seen_through = boxes is not None and self._seen_through(boxes, blobs)
        behind = self.ours.uncompared.reads if self._hides_the_same() else None
        bare = self._bare(found, blobs)
        otherwise = self._made_otherwise()
        conditions = [
            gates.compared_gate(blobs, uncompared, boxes, seen_through, behind, bare),
            gates.outputs_gate(lost, otherwise, self._inner(by_user=False)),
            *gates.shapes_gates(self.resized),
            gates.tolerance_gate([blob for blob in judged if blob.blob not in rounded], options.limit),
            *gates.rows_gates(found.fillers, options.limit),
            *rounding,
            *self._answer_gates(detector, steady, classifier),
        ]
        notes = [*self.notes, *found.notes, *unlooked, *unproved(self, found, blobs, classifier)]
        notes += self._output_notes(bare, [*lost, *otherwise])
        notes += self._order_notes()
        notes += [self._hidden(name, found.positions[name].share) for name in hiding]
        notes += [rounding_note(name, found.distances[name], by_rounding) for name, by_rounding in decided.items()]
        notes += [TF32_NOTE] if any(execution is not None and execution.tf32 for execution in ran) else []
        first = first_divergent_layer(self.ours, self.theirs, judged) if options.layers else None
        # Of types of 2 bytes, and of what a float64 run was asked about, there are words already.
        if first is not None and judge.coarse is None and not rounded and all(gate.passed for gate in conditions):
            notes.append(_growth_note(first))
        unpaired, extra = self._unpaired() if options.layers else (lost, [])
        return DiffReport(
            reference=self.ours.name,
            candidate=self.theirs.name,
            data=self.data.description,
            seed=options.seed,
            tolerance=options.limit,
            blobs=tuple(blobs),
            samples=tuple(sorted(found.samples, key=lambda sample: sample.sample)),
            unpaired=tuple(unpaired),
            extra=tuple(extra),
            classifier=classifier,
            detector=detector,
            first_divergent=first,
            ranges=self._ranges(found),
            gates=tuple(conditions),
            notes=tuple(notes),
            uncompared=uncompared,
            as_exact=tuple(rounded),
            sample_count=found.count,
            reference_on=ran[0],
            candidate_on=ran[1],
        )

    def _answer_gates(
        self, detector: DetectorDiff | None, steady: bool, classifier: ClassifierDiff | None
    ) -> Iterator[Gate]:
        """What boxes have to meet, and what the options ask of a classifier. Raises UsageError where there is none."""
        if detector is not None:
            yield gates.boxes_gate(detector, steady)
        if self.options.min_agreement is not None:
            yield gates.agreement_gate(classifier, self.options.min_agreement)
        if self.options.max_top1_drop is not None:
            yield gates.top1_gate(classifier, self.options.max_top1_drop)

    def _output_notes(self, bare: Sequence[str], known: Collection[str]) -> Iterator[str]:
        """What of the outputs is not proved.

        Args:
            bare: those in which nothing was compared, by equal layers.
            known: those that fail already.
        """
        if inner := [*self._inner(by_user=True).values()]:
            yield gates.computed_alone(inner)
        if bare:
            yield f"{named('output', bare)}: {BARE}"
        if unlike := [name for name in self._differing_behind() if name not in known]:
            yield f"{named('output', unlike)}: {UNLIKE}"

    def _unpaired(self) -> tuple[list[str], list[str]]:
        """The blobs of the reference and of the candidate that are compared with nothing."""
        partners = set(self.pairs.values())
        ours = [name for name in self.ours.writers if name not in self.pairs]
        return ours, [name for name in self.theirs.writers if name not in partners]

    def _hides(self, name: str, positions: Positions, found: Measurement) -> bool:
        """Whether an output is saturated, or equal where what it is made of differs: classes that never win, steps."""
        fronts, limit = self.fronts.intersection(self.saturating[name].fronts), self.options.limit
        beyond = any(found.errors[front].judged > limit for front in fronts)
        return positions.share >= MOSTLY or (beyond and found.errors[name].judged <= limit)

    def _hidden(self, name: str, share: float) -> str:
        """The note on an output that shows too little, with what it is judged by."""
        cause = self.saturating[name]
        kind = "output" if name in self.ours.outputs else "blob"
        sentence = f"{kind} '{name}' is saturated by {cause.layer_type} at {share * 100:.4g} % of its positions"
        if share < MOSTLY:
            sentence = f"{kind} '{name}' shows little of what {cause.layer_type} reads"
        fronts = quoted(front for front in cause.fronts if front in self.pairs)
        if fronts:
            return f"{sentence}, so it is judged by what stands in front of it: {fronts}"
        return f"{sentence}, and nothing in front of it could be compared, so it proves little"

    def _seen_through(self, boxes: str, blobs: Sequence[BlobDiff]) -> bool:
        """Whether something that the boxes are made of was compared."""
        made_of = set(upstream(self.pairs[boxes], self.theirs.reads))
        return any(blob.partner in made_of for blob in blobs)

    def _steady(self, boxes: str, blobs: Sequence[BlobDiff]) -> bool:
        """Whether all that the boxes are made of is within the tolerance, by equal layers."""
        read = [blob.judged for blob in blobs if blob.blob in self.ours.reads[boxes]]
        alike = same_detector(self.ours, self.theirs, boxes, self.pairs[boxes])
        return alike and bool(read) and max(read) <= self.options.limit

    def _bare(self, found: Measurement, blobs: Sequence[BlobDiff]) -> list[str]:
        """The outputs without elements that the same nodes make in both of what was compared."""
        empty = [blob.blob for blob in blobs if blob.is_output and 0 in blob.shape and blob.blob == blob.partner]
        held = {name for name, error in found.errors.items() if error.finite}
        leaves = {**self.inputs, **{name: self.pairs[name] for name in held}} if empty and held else {}
        return [name for name in empty if leaves and same_makers(self.ours, self.theirs, name, leaves)]

    def _without_partner(self) -> tuple[list[str], tuple[Uncompared, ...]]:
        """The reference's outputs that the candidate has not, and all outputs that were not compared."""
        hidden = {output.blob: output for output in self.theirs.uncompared.outputs}
        alone = [name for name in self.ours.outputs if name not in self.pairs]
        reasons = {name: OTHER_SHAPE if name in self.all_pairs else NO_PARTNER for name in alone}
        uncompared = (hidden.get(name) or Uncompared(name, reason) for name, reason in reasons.items())
        lost = [name for name in alone if name not in hidden or self.theirs.incomparable.nodes]
        # What is drawn in one of the networks alone is another thing.
        lost += [out.blob for out in self.ours.incomparable.outputs if out.blob not in hidden]
        return lost, (*self.ours.uncompared.outputs, *uncompared)

    def _inner(self, *, by_user: bool) -> dict[str, str]:
        """The reference's outputs whose partners are none in the candidate, with these: of the user's own pairs, which
        pass, or of the others, which do not."""
        theirs, known = {*self.theirs.outputs}, self.options.map
        pairs = ((name, self.all_pairs[name]) for name in self.ours.outputs if name in self.all_pairs)
        return {name: one for name, one in pairs if one not in theirs and (known.get(name) == one) == by_user}

    def _order_notes(self) -> Iterator[str]:
        """What others get who take the inputs or outputs of an ONNX model by their places; of the first that moved."""
        if self.ours.net is not None or self.theirs.net is not None:
            return
        for kind, ours, theirs in (
            ("input", list(self.ours.feeds), list(self.theirs.feeds)),
            ("output", self.ours.outputs, self.theirs.outputs),
        ):
            places = {name: place for place, name in enumerate(theirs)}
            for place, name in enumerate(ours):
                found = places.get(self.partners.get(name, ""), place)
                if found != place:
                    yield (
                        f"{kind} '{name}' is the candidate's {kind} {found + 1} and the reference's {place + 1}: who "
                        f"takes {kind}s by their places, and not by name, gets another one"
                    )
                    break

    def _hides_the_same(self) -> bool:
        """Whether what of the reference is not compared is the same in the candidate, and reads only what is."""
        if self.ours.net is None:
            return self.ours.incomparable.are_those_of(self.theirs.incomparable, self.partners)
        return same_behind(self.ours.unrunnable, self.theirs.unrunnable, self.partners)

    def _differing_behind(self) -> list[str]:
        """The outputs that are not compared, and not known to be made by the same layers of what is."""
        if self.ours.net is None:
            return [] if self._hides_the_same() else [output.blob for output in self.ours.uncompared.outputs]
        return differing_behind(self.ours.unrunnable, self.theirs.unrunnable, self.partners)

    def _made_otherwise(self) -> list[str]:
        """The outputs without numbers whose last node says or reads other things: labels, where it splits, a blob; and
        those behind layers of Caffe that cannot be run and are others in the candidate."""
        if self.ours.net is not None and self.theirs.net is not None:
            return made_otherwise(self.ours, self.theirs, self.partners)
        ours, theirs = self.ours.incomparable.made, self.theirs.incomparable.made
        found = [name for name in ours if name in theirs and (ours[name] != theirs[name] or self._reads_other(name))]
        return found + [name for name in self._drawn_otherwise() if name not in found]

    def _drawn_otherwise(self) -> Iterator[str]:
        """The outputs made of what a node draws that says or reads other things in the candidate, or is in one alone;
        a shape is read of any blob."""
        ours, theirs = self.ours.incomparable, self.theirs.incomparable
        others = {
            name
            for name in ours.draws.keys() & theirs.draws.keys()
            if ours.draws[name] != theirs.draws[name]
            or (not self.ours.makers[name].op_type.endswith("Like") and self._reads_other(name))
        }
        for output, roots in ours.drawn_for.items():
            if output in theirs.drawn_for and (roots & others or roots != theirs.drawn_for[output]):
                yield output

    def _reads_other(self, name: str) -> bool:
        """Whether the nodes that make a value in both networks read blobs that are partners of others, or copies."""
        partners = self.partners
        known = set(partners.values())
        for read, other in zip(self.ours.makers[name].input, self.theirs.makers[name].input, strict=False):
            wanted = {partners[source] for source in self.ours.copied_from(read) if source in partners}
            given = known.intersection(self.theirs.copied_from(other))
            if wanted and given and wanted.isdisjoint(given):
                return True
        return False

    def _blobs(self, found: Measurement, hiding: Sequence[str]) -> list[BlobDiff]:
        """What was found of each blob, in the order of the candidate; no fronts of outputs that hide nothing."""
        idle = self.fronts - {front for name in hiding for front in self.saturating[name].fronts}
        order = {blob: place for place, blob in enumerate(self.theirs.writers)}
        depths = {layer: depth for depth, layer in enumerate(self.theirs.layers)}
        blobs = [self._blob(name, error, depths) for name, error in found.errors.items() if name not in idle]
        return sorted(blobs, key=lambda blob: order[blob.partner])

    def _blob(self, name: str, error: BlobError, depths: Mapping[str, int]) -> BlobDiff:
        partner = self.pairs[name]
        writer = self.theirs.writers[partner]
        return BlobDiff(
            blob=name,
            partner=partner,
            layer=writer.layer,
            reference_layer=self.ours.writers[name].layer,
            type=writer.type,
            depth=depths[writer.layer],
            shape=error.shape,
            is_output=name in self.ours.outputs,
            figures=figures(error),
        )

    def _ranges(self, found: Measurement) -> tuple[LayerRange, ...]:
        if not self.options.layers:
            return ()
        ours, theirs = dict(found.reference_spans), dict(found.candidate_spans)
        for name, error in found.errors.items():
            if error.low <= error.high:
                ours[name] = error.low, error.high
                theirs[self.pairs[name]] = error.partner_low, error.partner_high
        ratios = _ratios(self.ours)
        before, after = (_activations(tops, spans) for tops, spans in zip(self.tops, (ours, theirs), strict=True))
        return tuple(
            LayerRange(
                layer,
                ratios.get(layer),
                ratio,
                before.get(layer),
                after.get(layer),
                ratio >= WORSE * ratios.get(layer, ratio),
            )
            for layer, ratio in _ratios(self.theirs).items()
        )


def _growth_note(first: FirstDivergent) -> str:
    growth = f"from {first.before or 0:.1g} to {first.after:.1e}"
    return f"the relative error grows {growth} at {first.place}, {GROWN}"


def _activations(tops: Mapping[str, str], spans: Spans) -> dict[str, float]:
    """Layer -> range of its own top, where any value was seen."""
    seen = {layer: spans[blob] for layer, blob in tops.items() if blob in spans}
    return {layer: high - low for layer, (low, high) in seen.items() if low <= high}


def _own_tops(model: Model, layers: Collection[str]) -> dict[str, str]:
    """Layer -> its first top."""
    tops: dict[str, str] = {}
    for blob, writer in model.writers.items():
        if writer.layer in layers:
            tops.setdefault(writer.layer, blob)
    return tops


def _ratios(model: Model) -> dict[str, float]:
    """Weighted layer -> largest / median over channels of `max |weight|`, of those that are not all 0.

    Per-tensor int8 has one step for all channels of a layer, `max |w| / 127`. A channel whose weights reach only to
    1/16 of that has 4 bits less. Folding multiplies each channel by its own `gamma/sqrt(variance + eps)`, which can
    spread the ranges; the ratio says what the typical channel loses.
    """
    from bnfold.onnx.graph import channel_ranges

    found = {}
    for layer, ranges in channel_ranges(model.parts):
        alive = ranges[ranges > 0]
        with np.errstate(over="ignore", invalid="ignore"):
            found[layer] = float(alive.max() / np.median(alive)) if alive.size else 1.0
    model.release_pages()
    return found


def _squeezed(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]
