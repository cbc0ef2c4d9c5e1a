"""One pass over the data: both networks run, every pair of blobs is measured, and the report is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnfold.compare.batches import Layout, Run
from bnfold.compare.classify import Classification, find_scores, near_chance, require_labels
from bnfold.compare.detect import Detection, detector_reads, find_detections, same_detector
from bnfold.compare.divergence import first_divergent_layer
from bnfold.compare.exact import LEAST_TOLERANCE, ROUNDING, Distances, Exact, as_exact
from bnfold.compare.gates import agreement_gate, boxes_gate, compared_gate, outputs_gate, tolerance_gate, top1_gate
from bnfold.compare.kernels import span
from bnfold.compare.metrics import BlobError, SampleError, figures, relative
from bnfold.compare.models import Model
from bnfold.compare.ranges import layer_ranges, own_tops, weight_ratios
from bnfold.compare.records import BlobDiff, DiffReport, Gate, LayerRange, SampleDiff, Uncompared
from bnfold.compare.saturation import MOSTLY, Positions, Saturating, saturating
from bnfold.compare.ties import Ties
from bnfold.data.samples import Samples
from bnfold.errors import UnsupportedError
from bnfold.net import Array, Shape

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all; the library itself prints nothing."""

NO_PARTNER = "has no partner of the same shape"

Spans = dict[str, tuple[float, float]]


@dataclass(slots=True)
class Measurement:
    """The running measures of a comparison.

    Attributes:
        ours, theirs: the reference and the candidate.
        pairs: blob of the reference -> blob of the candidate.
        layout, data, labels: what is fed.
        truth: the float64 run of the reference, if wanted.
        notes: sentences for the report.
        same_behind: what cannot be run is the same in both networks, and reads only what is compared.
        saturating, positions: output -> what saturates it, and how many of its positions are saturated.
        fronts: what is compared only in case the output behind it is saturated.
        distances: doubtful blob -> how far either network is from a float64 run.
        watched: layer -> own top, for either side.
        ties: indices that differ because values are equal.
        spans: layer -> smallest and largest value of its own top, for either side.
    """

    ours: Model
    theirs: Model
    pairs: dict[str, str]
    layout: Layout
    data: Samples
    labels: Array | None
    tolerance: float
    layers: bool
    truth: Exact | None
    notes: list[str]
    same_behind: bool = False
    errors: dict[str, BlobError] = field(default_factory=dict)
    samples: list[SampleDiff] = field(default_factory=list)
    classification: Classification | None = None
    detection: Detection | None = None
    ties: Ties = field(init=False)
    saturating: dict[str, Saturating] = field(default_factory=dict)
    positions: dict[str, Positions] = field(default_factory=dict)
    fronts: set[str] = field(default_factory=set)
    distances: dict[str, Distances] = field(default_factory=dict)
    watched: tuple[dict[str, str], dict[str, str]] = ({}, {})
    spans: tuple[Spans, Spans] = field(default_factory=lambda: ({}, {}))

    def __post_init__(self) -> None:
        self.saturating = saturating(self.ours)
        self.ties = Ties.of(self.ours, self.theirs, self.pairs, self.tolerance)
        if not self.layers:
            wanted = {*self.ours.outputs, *self.ours.hidden.reads, *detector_reads(self.ours)}
            fronts = {front for output in self.saturating.values() for front in output.fronts} - wanted
            wanted |= fronts
            self.pairs = {name: partner for name, partner in self.pairs.items() if name in wanted}
            self.fronts = fronts & self.pairs.keys()
        self.watched = self._watched()

    @property
    def wanted(self) -> tuple[list[str], list[str]]:
        """The blobs that either network has to give."""
        return (
            [*self.pairs, *self.watched[0].values(), *self.ties.wanted[0]],
            [*self.pairs.values(), *self.watched[1].values(), *self.ties.wanted[1]],
        )

    def add(self, run: Run, first: Mapping[str, Array], second: Mapping[str, Array]) -> None:
        """Measure one run: what the reference gave, and what the candidate gave for the same inputs."""
        if not self.errors:
            self._settle(first, second)
        self._measure(run, first, second)
        for spans, layers, values in zip(self.spans, self.watched, (first, second), strict=True):
            _stretch(spans, layers, values)

    def _watched(self) -> tuple[dict[str, str], dict[str, str]]:
        """Layer -> own top, of the weighted layers whose activation range is reported; none if only outputs count."""
        if not self.layers:
            return {}, {}
        weighted = {writer.layer for writer in self.theirs.writers.values() if writer.weighted}
        return own_tops(self.ours, weighted), own_tops(self.theirs, weighted)

    def _settle(self, first: Mapping[str, Array], second: Mapping[str, Array]) -> None:
        """Decide, now that all shapes are known, what is scores, what is boxes, and what cannot be compared."""
        shapes = {name: first[name].shape for name in self.pairs}
        boxes = find_detections(self.ours, self.pairs, shapes)
        if boxes is not None:
            self.detection = Detection(boxes)
        for name, partner in list(self.pairs.items()):
            if name != boxes and _squeezed(first[name].shape) != _squeezed(second[partner].shape):
                self.notes.append(
                    f"blob '{name}' was not compared: its shape is {first[name].shape} in the reference and "
                    f"{second[partner].shape} in the candidate"
                )
                del self.pairs[name]
        scores = find_scores(self.ours, self.pairs, shapes, self.labels)
        if scores is not None:
            require_labels(self.labels, shapes[scores][1], self.data.name)
        elif self.labels is not None:
            self.notes.append("the labels say nothing here: no output has one score for each of so many classes")
        if scores is not None and self.layout.batched:
            self.classification = Classification(scores, self.labels)
        self.errors = {name: BlobError(self.tolerance) for name in self.pairs}

    def _exactly(self, run: Run) -> Mapping[str, Array]:
        """Every blob in float64; nothing, and a note, once the exact run has failed."""
        if self.truth is None:
            return {}
        try:
            return self.truth.run(run.feeds)
        except UnsupportedError as error:
            self.notes.append(f"no exact column: {error}")
            self.truth = None
            return {}

    def _measure(self, run: Run, first: Mapping[str, Array], second: Mapping[str, Array]) -> None:
        count = len(run.numbers)
        names = [self.data.name(number) for number in run.numbers]
        exact = self._exactly(run)
        by_output: dict[str, list[SampleError]] = {}
        for name, partner in self.pairs.items():
            r, c = first[name], second[partner]
            boxes = self.detection is not None and name == self.detection.blob
            if self.detection is not None and boxes:
                r, c = (rows.T for rows in self.detection.add(r, c, run.numbers, names))
            by_sample = not boxes and self.layout.batched and r.ndim > 0 and r.shape[0] == self.layout.batch
            rows = slice(count) if by_sample else ...
            r, c = r[rows], c.reshape(r.shape)[rows]
            if name in self.saturating:
                self.positions.setdefault(name, Positions()).add(self.saturating[name].layer_type, r)
            found = self.errors[name].add(r, c, run.numbers.start, names, by_sample=by_sample)
            if self.truth is not None and name in exact and not boxes:
                self.errors[name].add_exact(exact[name].reshape(first[name].shape)[rows], r, c)
            if name in self.ours.outputs and found:
                by_output[name] = found if by_sample else found * count
        if by_output:
            self.samples += [
                _worst_output(number, sample, {name: errors[place] for name, errors in by_output.items()})
                for place, (number, sample) in enumerate(zip(run.numbers, names, strict=True))
            ]
        if self.classification is not None:
            name = self.classification.blob
            self.classification.add(first[name][:count], second[self.pairs[name]][:count], run.numbers, self.data)

    def report(self, seed: int, min_agreement: float | None, max_top1_drop: float | None) -> DiffReport:
        """Everything found, with the gates."""
        order = {blob: place for place, blob in enumerate(self.theirs.writers)}
        saturated = [name for name, positions in self.positions.items() if positions.share >= MOSTLY]
        idle = self.fronts - {front for name in saturated for front in self.saturating[name].fronts}
        measured = [name for name in self.errors if name not in idle]
        blobs = sorted((self._blob(name) for name in measured), key=lambda blob: order[blob.partner])
        classifier = self.classification.result(self.data.class_names) if self.classification else None
        detector = self.detection.result() if self.detection else None
        hidden = {output.blob: output for output in self.theirs.hidden.outputs}
        alone = [name for name in self.ours.outputs if name not in self.pairs]
        lost = [name for name in alone if name not in hidden]
        steady = detector is not None and self._steady(detector.blob, blobs)
        judged = [blob for blob in blobs if not (steady and detector is not None and blob.blob == detector.blob)]
        outputs = [blob for blob in blobs if blob.is_output]
        uncompared = tuple(hidden.get(name) or Uncompared(name, NO_PARTNER) for name in alone)
        uncompared = (*self.ours.hidden.outputs, *uncompared)
        gates: list[Gate] = [compared_gate(outputs, uncompared, detector, self.same_behind), outputs_gate(lost)]
        doubtful = [name for name in self.doubtful if name in self.distances]
        exact = as_exact(self.ours, self.theirs, self.pairs, self.distances)
        rounded = [name for name in doubtful if name in exact]
        gates.append(tolerance_gate([blob for blob in judged if blob.blob not in rounded], self.tolerance))
        if detector is not None:
            gates.append(boxes_gate(detector, steady))
        if min_agreement is not None:
            gates.append(agreement_gate(classifier, min_agreement))
        if max_top1_drop is not None:
            gates.append(top1_gate(classifier, max_top1_drop))
        if classifier is not None and (doubt := near_chance(classifier)) is not None:
            self.notes.append(doubt)
        for blob in outputs:
            if 0 < blob.finite < blob.values:
                share = 1 - blob.finite / blob.values
                self.notes.append(f"output '{blob.blob}': {share:.2%} of its values are not finite, and say nothing")
        self.notes += self.ties.notes()
        self.notes += map(self._saturated, saturated)
        self.notes += [self._rounded(name, name in exact) for name in doubtful]
        unpaired = [name for name in self.ours.writers if name not in self.pairs]
        paired = set(self.pairs.values())
        extra = [name for name in self.theirs.writers if name not in paired]
        return DiffReport(
            self.ours.name,
            self.theirs.name,
            self.data.description,
            seed,
            self.tolerance,
            tuple(blobs),
            tuple(self.samples),
            tuple(unpaired if self.layers else lost),
            tuple(extra if self.layers else ()),
            classifier,
            detector,
            first_divergent_layer(judged, self.theirs.writers, self.theirs.reads) if self.layers else None,
            self._ranges(),
            tuple(gates),
            tuple(self.notes),
            uncompared,
            tuple(rounded),
        )

    @property
    def doubtful(self) -> list[str]:
        """The blobs beyond the tolerance, if rounding may have brought them there and a float64 run could tell."""
        if self.ours.net is None or self.tolerance < LEAST_TOLERANCE:
            return []
        indices = {*self.ties.pointers, self.detection.blob if self.detection is not None else ""}
        errors = {name: relative(error.max_abs, error.range) for name, error in self.errors.items()}
        beyond = [name for name in self.ours.writers if errors.get(name, 0.0) > self.tolerance and name not in indices]
        if not beyond or errors[beyond[0]] > ROUNDING * self.tolerance:
            return []
        return beyond

    def judge(
        self, run: Run, exact: Mapping[str, Array], first: Mapping[str, Array], second: Mapping[str, Array]
    ) -> None:
        """Hold one run against the float64 run; of each blob the sample counts that speaks most against it."""
        for name, partner in self.pairs.items():
            r, c, truth = first[name], second[partner], exact.get(name)
            boxes = self.detection is not None and name == self.detection.blob
            if truth is None or boxes or truth.size != r.size or c.size != r.size:
                continue
            by_sample = self.layout.batched and r.ndim > 0 and r.shape[0] == self.layout.batch
            for row in range(len(run.numbers)) if by_sample else [...]:
                true, ours, theirs = (values.reshape(r.shape)[row] for values in (truth, r, c))
                found = Distances.of(true, ours, theirs, self.errors[name].range)
                if name not in self.distances or found.weight > self.distances[name].weight:
                    self.distances[name] = found

    def _rounded(self, name: str, exact: bool) -> str:
        """The note on a blob beyond the tolerance of which a float64 run decided."""
        found = self.distances[name]
        said = f"rms {found.candidate:.1e} of its range from a float64 run, the reference {found.reference:.1e}"
        if not exact:
            return f"blob '{name}' is beyond the tolerance, and not by rounding: {said}"
        by_read = "; what it is made of is as exact as the reference's" if found.excess > 0 else ""
        return f"blob '{name}' is beyond the tolerance by rounding: {said}{by_read}"

    def _saturated(self, name: str) -> str:
        """The note on a saturated output, with what it is judged by."""
        cause, share = self.saturating[name], self.positions[name].share
        said = f"output '{name}' is saturated by {cause.layer_type} at {share:.0%} of its positions"
        fronts = ", ".join(f"'{front}'" for front in cause.fronts if front in self.pairs)
        if fronts:
            return f"{said}, so it is judged by what stands in front of it: {fronts}"
        return f"{said}, and nothing in front of it could be compared: it says little"

    def _steady(self, boxes: str, blobs: Sequence[BlobDiff]) -> bool:
        """Whether all that the boxes are made of is within the tolerance, by equal layers."""
        read = [blob.max_rel for blob in blobs if blob.blob in self.ours.reads[boxes]]
        alike = same_detector(self.ours, self.theirs, boxes, self.pairs[boxes])
        return alike and bool(read) and max(read) <= self.tolerance

    def _blob(self, name: str) -> BlobDiff:
        error, partner = self.errors[name], self.pairs[name]
        writer = self.theirs.writers[partner]
        places = {layer: place for place, layer in enumerate(self.theirs.layers)}
        return BlobDiff(
            blob=name,
            partner=partner,
            layer=writer.layer,
            reference_layer=self.ours.writers[name].layer,
            type=writer.type,
            depth=places[writer.layer],
            shape=error.shape,
            is_output=name in self.ours.outputs,
            figures=figures(error),
        )

    def _ranges(self) -> tuple[LayerRange, ...]:
        if not self.layers:
            return ()
        before, after = ({layer: span(*ends) for layer, ends in spans.items()} for spans in self.spans)
        return tuple(layer_ranges(weight_ratios(self.ours), weight_ratios(self.theirs), before, after))


def _squeezed(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]


def _worst_output(number: int, sample: str, outputs: Mapping[str, SampleError]) -> SampleDiff:
    """The record of one sample: of the output that differs most."""
    name, error = max(outputs.items(), key=lambda item: item[1].max_rel)
    return SampleDiff(number, sample, name, error.max_abs, error.max_rel, error.l2_rel, error.cosine)


def _stretch(spans: Spans, layers: Mapping[str, str], values: Mapping[str, Array]) -> None:
    """Widen each layer's range by what its top holds now."""
    for layer, blob in layers.items():
        finite = values[blob][np.isfinite(values[blob])]
        if finite.size:
            low, high = spans.get(layer, (np.inf, -np.inf))
            spans[layer] = min(low, float(finite.min())), max(high, float(finite.max()))
