"""The report on a candidate that was measured: the gates, what was found of each blob, and what all that proves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bnfold.compare import gates
from bnfold.compare.detect import same_detector
from bnfold.compare.divergence import first_divergent_layer, upstream
from bnfold.compare.exact import same_makers
from bnfold.compare.hidden_differences import hidden_differences
from bnfold.compare.incomparable_nodes import nodes_made_otherwise
from bnfold.compare.matched import MatchedCandidate
from bnfold.compare.measure import Measurement, Spans
from bnfold.compare.metrics import BlobError, figures
from bnfold.compare.models import Model
from bnfold.compare.records import (
    NO_PARTNER,
    OTHER_SHAPE,
    BlobDiff,
    ClassifierDiff,
    DetectorDiff,
    DiffReport,
    Gate,
    LayerRange,
    Uncompared,
)
from bnfold.compare.rounding import RoundingJudge, rounding_note
from bnfold.compare.saturation import MOSTLY
from bnfold.compare.unproved import unproved
from bnfold.compare.unrunnable_layers import agreeing, differing_behind, layers_made_otherwise, same_behind
from bnfold.errors import named, quoted
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
OTHER_VALUE = 100.0  # times the tolerance: a blob that is so far off is another value, or wrong, and not imprecise
MEANT = (
    "another tool may have left the name to another value: --map A=B pairs that with what it is, and --outputs-only "
    "compares the outputs alone"
)
TF32_NOTE = (
    "products had the 10 bits of TF32 (--tf32): with it 42 of 208 networks differed by more than 1e-4 on an H200, "
    "without it none but an ArgMax of ties"
)


def report_on(
    matched: MatchedCandidate, found: Measurement, ran: tuple[Execution | None, Execution | None] = (None, None)
) -> DiffReport:
    """Everything found in all samples, with the gates, and where either network was run.

    Raises:
        UsageError: a gate needs a classifier, and there is none.
    """
    if found.inexact:  # of other samples alone it would say nothing of this data
        found.notes.append(f"no exact column: {found.inexact}")
        for error in found.errors.values():
            error.exact_sums = None
    return _Report(matched, found, ran).made()


@dataclass(frozen=True)
class _Report:
    """What is found out for the report on one candidate, each thing once."""

    matched: MatchedCandidate
    found: Measurement
    ran: tuple[Execution | None, Execution | None]

    def made(self) -> DiffReport:
        """The report."""
        matched, found, layers = self.matched, self.found, self.matched.options.layers
        judge = RoundingJudge(matched, found)
        decided, rounding, unlooked = judge.verdict(self.blobs)
        rounded = [name for name, by_rounding in decided.items() if by_rounding]
        conditions = [*self._gates(rounded, rounding)]
        notes = [*matched.notes, *found.notes, *unlooked, *self._notes(decided)]
        first = first_divergent_layer(matched.ours, matched.theirs, self.judged) if layers else None
        # Of types of 2 bytes, and of what a float64 run was asked about, there are words already.
        if first is not None and judge.coarse is None and not rounded and all(gate.passed for gate in conditions):
            growth = f"from {first.before or 0:.1g} to {first.after:.1e}"
            notes.append(f"the relative error grows {growth} at {first.place}, {GROWN}")
        partners = set(matched.pairs.values())
        return DiffReport(
            reference=matched.ours.name,
            candidate=matched.theirs.name,
            data=matched.data.description,
            seed=matched.options.seed,
            tolerance=matched.options.limit,
            blobs=tuple(self.blobs),
            samples=tuple(sorted(found.samples, key=lambda sample: sample.sample)),
            unpaired=tuple(name for name in matched.ours.writers if name not in matched.pairs) if layers else self.lost,
            extra=tuple(name for name in matched.theirs.writers if name not in partners) if layers else (),
            classifier=self.classifier,
            detector=self.detector,
            first_divergent=first,
            ranges=self._ranges(),
            gates=tuple(conditions),
            notes=tuple(notes),
            uncompared=self.uncompared,
            as_exact=tuple(rounded),
            unproved=tuple(self.hidden),
            sample_count=found.count,
            reference_on=self.ran[0],
            candidate_on=self.ran[1],
        )

    def _gates(self, rounded: Collection[str], rounding: Sequence[Gate]) -> Iterator[Gate]:
        """What the candidate has to meet, but for blobs that were rounded beyond the tolerance; the gate of types of 2
        bytes, `rounding`, is among it. Raises UsageError where one needs a classifier, and there is none.
        """
        matched, found, options = self.matched, self.found, self.matched.options
        boxes = self.detector.blob if self.detector is not None else None
        behind = matched.ours.uncompared.reads if self.hides_the_same else None
        yield gates.compared_gate(
            self.blobs, self.uncompared, boxes, boxes is not None and self._seen_through(boxes), behind, self.bare
        )
        yield gates.outputs_gate(self.lost, self.made_otherwise, self._inner(by_user=False))
        yield from gates.shapes_gates(matched.resized)
        yield gates.tolerance_gate([blob for blob in self.judged if blob.blob not in rounded], options.limit)
        yield from gates.rows_gates(found.fillers, options.limit)
        yield from rounding
        if self.detector is not None:
            yield gates.boxes_gate(self.detector, self.steady)
        if options.min_agreement is not None:
            yield gates.agreement_gate(self.classifier, options.min_agreement)
        if options.max_top1_drop is not None:
            yield gates.top1_gate(self.classifier, options.max_top1_drop)

    def _notes(self, decided: Mapping[str, bool]) -> Iterator[str]:
        """What is not proved, and why; `decided`: blob beyond the tolerance -> whether by rounding."""
        found = self.found
        yield from unproved(self.matched, found, self.blobs, self.classifier, self.hidden)
        if inner := [*self._inner(by_user=True).values()]:
            yield gates.computed_alone(inner)
        if self.bare:
            yield f"{named('output', self.bare)}: {BARE}"
        known = {*self.lost, *self.made_otherwise}
        if unlike := [name for name in self._differing_behind() if name not in known]:
            yield f"{named('output', unlike)}: {UNLIKE}"
        yield from self._port_notes()
        yield from (self._hidden(name, found.positions[name].share) for name in self.hiding)
        if differing := [name for name in self._far_apart_inside if not decided.get(name)]:
            do = "does" if len(differing) == 1 else "do"
            yield f"all outputs agree, and {named('blob', differing)} inside {do} not; {MEANT}"
        yield from (rounding_note(name, found.distances[name], one) for name, one in decided.items())
        if any(execution is not None and execution.tf32 for execution in self.ran):
            yield TF32_NOTE

    @property
    def _far_apart_inside(self) -> list[str]:
        """Blobs of other values in a candidate that somebody else made, if all outputs agree and say something."""
        limit, saturating = self.matched.options.limit, self.matched.saturating
        telling = {*self.matched.ours.outputs}.union(*(saturating[name].fronts for name in self.hiding))
        differ = any(one.judged > limit for one in self.blobs if one.blob in telling)
        if self.matched.is_fold or differ or self.uncompared:
            return []
        return [one.blob for one in self.judged if one.judged > OTHER_VALUE * limit]

    @cached_property
    def hidden(self) -> dict[str, tuple[str, float]]:
        """The layers that hold other values in the candidate, of which nothing is seen."""
        matched, errors = self.matched, {blob.blob: blob.judged for blob in self.blobs}
        return hidden_differences(matched.ours, matched.theirs, matched.partners, errors)

    @cached_property
    def hiding(self) -> list[str]:
        """The outputs that are saturated, or equal where what makes them differs: classes that never win, steps."""
        matched, errors, limit = self.matched, self.found.errors, self.matched.options.limit
        beyond = {name for name in matched.fronts & errors.keys() if errors[name].judged > limit}
        return [
            name
            for name, positions in self.found.positions.items()
            if positions.share >= MOSTLY
            or (errors[name].judged <= limit and not beyond.isdisjoint(matched.saturating[name].fronts))
        ]

    @cached_property
    def blobs(self) -> list[BlobDiff]:
        """What was found of each blob, in the order of the candidate; no fronts of outputs that hide nothing."""
        matched, theirs = self.matched, self.matched.theirs
        idle = matched.fronts - {front for name in self.hiding for front in matched.saturating[name].fronts}
        order = {blob: place for place, blob in enumerate(theirs.writers)}
        depths = {layer: depth for depth, layer in enumerate(theirs.layers)}
        blobs = [self._blob(name, error, depths) for name, error in self.found.errors.items() if name not in idle]
        return sorted(blobs, key=lambda blob: order[blob.partner])

    @cached_property
    def classifier(self) -> ClassifierDiff | None:
        """How far both networks recognise the same."""
        found = self.found.classification
        return found.result(self.matched.data.class_names) if found else None

    @cached_property
    def detector(self) -> DetectorDiff | None:
        """How far both networks detect the same."""
        found = self.found.detection
        return found.result() if found and found.is_one else None

    @cached_property
    def steady(self) -> bool:
        """Whether all that boxes are made of is within the tolerance, by equal layers."""
        if self.detector is None:
            return False
        matched, boxes = self.matched, self.detector.blob
        read = [blob.judged for blob in self.blobs if blob.blob in matched.ours.reads[boxes]]
        alike = same_detector(matched.ours, matched.theirs, boxes, matched.pairs[boxes])
        return alike and bool(read) and max(read) <= matched.options.limit

    @cached_property
    def judged(self) -> list[BlobDiff]:
        """The blobs that are held to the tolerance: of boxes that are steady the places say nothing."""
        return [blob for blob in self.blobs if not (self.steady and self.detector and blob.blob == self.detector.blob)]

    @cached_property
    def bare(self) -> list[str]:
        """The outputs without elements that the same nodes make in both of what was compared."""
        matched = self.matched
        empty = [blob.blob for blob in self.blobs if blob.is_output and 0 in blob.shape and blob.blob == blob.partner]
        held = {name for name, error in self.found.errors.items() if error.finite}
        leaves = {**matched.inputs, **{name: matched.pairs[name] for name in held}} if empty and held else {}
        return [name for name in empty if leaves and same_makers(matched.ours, matched.theirs, name, leaves)]

    @cached_property
    def lost(self) -> tuple[str, ...]:
        """The reference's outputs that the candidate has not."""
        ours, theirs = self.matched.ours, self.matched.theirs
        hidden = {output.blob for output in theirs.uncompared.outputs}
        alone = [name for name in self._alone if name not in hidden or theirs.incomparable.nodes]
        # What is drawn in one of the networks alone is another thing.
        return (*alone, *(out.blob for out in ours.incomparable.outputs if out.blob not in hidden))

    @cached_property
    def uncompared(self) -> tuple[Uncompared, ...]:
        """All of the reference's outputs that were not compared."""
        matched = self.matched
        hidden = {output.blob: output for output in matched.theirs.uncompared.outputs}
        reasons = {name: OTHER_SHAPE if name in matched.all_pairs else NO_PARTNER for name in self._alone}
        found = (hidden.get(name) or Uncompared(name, reason) for name, reason in reasons.items())
        return (*matched.ours.uncompared.outputs, *found)

    @property
    def _alone(self) -> list[str]:
        return [name for name in self.matched.ours.outputs if name not in self.matched.pairs]

    @cached_property
    def behind(self) -> dict[str, str]:
        """The partners, and those among what layers of Caffe make that cannot be run."""
        matched = self.matched
        return matched.partners | agreeing(matched.ours.unrunnable, matched.theirs.unrunnable, matched.partners)

    @cached_property
    def hides_the_same(self) -> bool:
        """Whether what of the reference is not compared is the same in the candidate, and reads only what is."""
        ours, theirs, partners = self.matched.ours, self.matched.theirs, self.matched.partners
        if ours.net is None:
            return ours.incomparable.are_those_of(theirs.incomparable, partners)
        return same_behind(ours.unrunnable, theirs.unrunnable, self.behind)

    @cached_property
    def made_otherwise(self) -> list[str]:
        """The outputs that were not compared, and that other nodes or layers make in the candidate, or of others."""
        ours, theirs, partners = self.matched.ours, self.matched.theirs, self.matched.partners
        if ours.net is not None and theirs.net is not None:
            return layers_made_otherwise(ours, theirs, self.behind)
        return nodes_made_otherwise(ours, theirs, partners)

    def _seen_through(self, boxes: str) -> bool:
        """Whether something that the boxes are made of was compared."""
        made_of = set(upstream(self.matched.pairs[boxes], self.matched.theirs.reads))
        return any(blob.partner in made_of for blob in self.blobs)

    def _differing_behind(self) -> list[str]:
        """The outputs that are not compared, and not known to be made by the same layers of what is."""
        ours, theirs = self.matched.ours, self.matched.theirs
        if ours.net is None:
            return [] if self.hides_the_same else [output.blob for output in ours.uncompared.outputs]
        return differing_behind(ours.unrunnable, theirs.unrunnable, self.behind)

    def _inner(self, *, by_user: bool) -> dict[str, str]:
        """The reference's outputs whose partners are none in the candidate, with these: of the user's own pairs, which
        pass, or of the others, which do not."""
        matched = self.matched
        theirs, known = {*matched.theirs.outputs}, matched.options.map
        pairs = ((name, matched.all_pairs[name]) for name in matched.ours.outputs if name in matched.all_pairs)
        return {name: one for name, one in pairs if one not in theirs and (known.get(name) == one) == by_user}

    def _port_notes(self) -> Iterator[str]:
        """What others get who take the inputs or outputs of an ONNX model by their places, or as they are; of the first
        that moved, and of the first of another type.
        """
        first, second, partners = self.matched.ours, self.matched.theirs, self.matched.partners
        if first.net is not None or second.net is not None:
            return
        kinds = ("input", [*first.feeds], [*second.feeds]), ("output", first.outputs, second.outputs)
        for kind, ours, theirs in kinds:
            places = {name: place for place, name in enumerate(theirs)}
            for place, name in enumerate(ours):
                found = places.get(partners.get(name, ""), place)
                if found != place:
                    yield (
                        f"{kind} '{name}' is the candidate's {kind} {found + 1} and the reference's {place + 1}: who "
                        f"takes {kind}s by their places, and not by name, gets another one"
                    )
                    break
        types, others = first.own.output_types, second.own.output_types
        for name, one in types.items():
            other = others.get(partners.get(name, ""), one)
            if one != other:
                said = f"output '{name}' is {one} in the reference and {other} in the candidate"
                yield f"{said}: its values were compared; see that what reads it takes {other}"
                break

    def _hidden(self, name: str, share: float) -> str:
        """The note on an output that shows too little, with what it is judged by."""
        matched, cause = self.matched, self.matched.saturating[name]
        kind = "output" if name in matched.ours.outputs else "blob"
        sentence = f"{kind} '{name}' is saturated by {cause.layer_type} at {share * 100:.4g} % of its positions"
        if share < MOSTLY:
            sentence = f"{kind} '{name}' shows little of what {cause.layer_type} reads"
        fronts = quoted(front for front in cause.fronts if front in matched.pairs)
        if fronts:
            return f"{sentence}, so it is judged by what stands in front of it: {fronts}"
        return f"{sentence}, and nothing in front of it could be compared, so it proves little"

    def _blob(self, name: str, error: BlobError, depths: Mapping[str, int]) -> BlobDiff:
        ours, theirs, partner = self.matched.ours, self.matched.theirs, self.matched.pairs[name]
        writer = theirs.writers[partner]
        return BlobDiff(
            blob=name,
            partner=partner,
            layer=writer.layer,
            reference_layer=ours.writers[name].layer,
            type=writer.type,
            depth=depths[writer.layer],
            shape=error.shape,
            is_output=name in ours.outputs,
            figures=figures(error),
        )

    def _ranges(self) -> tuple[LayerRange, ...]:
        """What per-tensor int8 makes of each layer with weights, where all blobs were compared."""
        matched = self.matched
        if not matched.options.layers:
            return ()
        old, new = _ratios(matched.ours), _ratios(matched.theirs)
        before, after = map(_activations, matched.tops, self.found.spans(matched.pairs))
        worse = {name: math.isfinite(ratio) and ratio >= WORSE * old.get(name, ratio) for name, ratio in new.items()}
        return tuple(
            LayerRange(name, old.get(name), ratio, before.get(name), after.get(name), worse[name])
            for name, ratio in new.items()
        )


def _activations(tops: Mapping[str, str], spans: Spans) -> dict[str, float]:
    """Layer -> range of its own top, where any value was seen."""
    seen = {layer: spans[blob] for layer, blob in tops.items() if blob in spans}
    return {layer: high - low for layer, (low, high) in seen.items() if low <= high}


def _ratios(model: Model) -> dict[str, float]:
    """Weighted layer -> largest / median over channels of `max |weight|`, of those that are not all 0.

    Per-tensor int8 has one step for all channels of a layer, `max |w| / 127`. A channel whose weights reach only to
    1/16 of that has 4 bits less. Folding multiplies each channel by its own `gamma/sqrt(variance + eps)`, which can
    spread the ranges; the ratio says what the typical channel loses.
    """
    from bnfold.onnx.stored_values import channel_ranges

    found = {}
    for layer, ranges in channel_ranges(model.parts):
        alive = ranges[ranges > 0]
        with np.errstate(over="ignore", invalid="ignore"):
            found[layer] = float(alive.max() / np.median(alive)) if alive.size else 1.0
    model.release_pages()
    return found
