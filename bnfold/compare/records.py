"""What a comparison of two networks found, as values: text, JSON, Markdown and HTML are renderings of these.

Letters, for a blob with reference values `r` and candidate values `c`: the error is `e = c - r`, and the blob's
range is `max(r) - min(r)` over all samples (`max |r|` where that is 0, and 1 where that is 0 too).
Sums run over the values that are finite on both sides; `docs/report.md` explains every figure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.errors import few, named, plural
from bnfold.io.rendered import Rendered
from bnfold.net import Array, Shape, sizes
from bnfold.runtime import Execution


@dataclass(frozen=True, slots=True)
class Place:
    """Where one value sits: the sample (its number and name), and the index inside the sample's array."""

    sample: int
    name: str
    index: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values have an error of which size.

    Attributes:
        zero: how many values are equal; 0 equals -0 here, and NaN equals NaN.
        edges: of the bins, rising, one more than there are bins.
        counts: values per bin, neither the first nor the last of which is empty.
    """

    zero: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many values were compared."""
        return self.zero + sum(self.counts)

    def quantile(self, share: float) -> float:
        """The error that `share` of the values do not exceed, rounded up to the edge of its bin."""
        seen = self.zero
        if not self.total or seen >= share * self.total:
            return 0.0
        for edge, count in zip(self.edges[1:], self.counts, strict=True):
            seen += count
            if seen >= share * self.total:
                return edge
        return float("inf")


@dataclass(frozen=True, slots=True, repr=False)
class BlobDiff:
    """One blob of both networks, over all samples.

    Attributes:
        blob, partner: its name in the reference and in the candidate.
        layer, type: the layer of the candidate that writes it; `reference_layer` the one of the reference.
        depth: position of that layer in the candidate, 0 for the first.
        shape: of one run, with the batch.
        is_output: whether it is an output of the reference.
        figures: the metrics by name, which are attributes, too: `blob.max_rel`. `bnfold.compare.metrics.METRICS` says
            what there is, and what each of them is.
    """

    blob: str
    partner: str
    layer: str
    reference_layer: str
    type: str
    depth: int
    shape: Shape
    is_output: bool
    figures: Mapping[str, Any]

    def __repr__(self) -> str:
        figures = ", ".join(
            f"{name} {self.figures[name]:.2g}" for name in ("judged", "max_abs") if name in self.figures
        )
        return f"<BlobDiff '{self.blob}' of {self.type} '{self.layer}', {sizes(self.shape)}: {figures}>"

    @property
    def says_nothing(self) -> bool:
        """Whether no value is finite in either network, or there is none: its figures are 0 and mean nothing."""
        return not self.figures["finite"] and not self.figures["max_abs"]

    def __getattr__(self, name: str) -> Any:
        """A metric by its name."""
        # Copying and unpickling ask for attributes before there are any.
        if name.startswith("__") or name == "figures" or name not in self.figures:
            raise AttributeError(f"a compared blob has no '{name}'")
        return self.figures[name]


@dataclass(frozen=True, slots=True)
class SampleDiff:
    """One sample over all outputs: the figures of the output that differs most, relative to its own range."""

    sample: int
    name: str
    blob: str
    max_abs: float
    max_rel: float
    l2_rel: float
    cosine: float

    @property
    def says_nothing(self) -> bool:
        """Whether no value of the sample is finite in either network."""
        return math.isnan(self.l2_rel) and not self.max_abs


@dataclass(frozen=True, slots=True)
class Answer:
    """What one network says about one sample: the class and its score."""

    label: int
    score: float

    def is_right(self, label: int) -> bool:
        """Whether this is the true class; a score that is NaN is no answer."""
        return self.label == label and not math.isnan(self.score)


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample whose answer differs between the two networks.

    Attributes:
        sample, name: which one.
        label: its true class, None when unknown.
        reference, candidate: the two answers.
        reference_score_then: what the reference gave the candidate's answer, and the other way round.
        picture: the sample as an RGB image (height, width, 3) of uint8, None where it is none.
    """

    sample: int
    name: str
    label: int | None
    reference: Answer
    candidate: Answer
    reference_score_then: float
    candidate_score_then: float
    picture: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ClassifierDiff:
    """Whether both networks recognise the same.

    Attributes:
        blob: the output with one score per class.
        samples: how many were classified: by one of the networks at least, in scores without a NaN.
        agreement: the share of these with the same first answer; 0 where there are none.
        labelled: whether the true classes are known; the four accuracies are None otherwise.
        known: for how many samples they are.
        flipped: how many samples have another first answer.
        flips: those among them of which the reference was surest, by the difference of its scores for both answers.
        class_names: name of each class, empty when unknown.
    """

    blob: str
    classes: int
    samples: int
    agreement: float
    labelled: bool
    known: int
    reference_top1: float | None
    reference_top5: float | None
    candidate_top1: float | None
    candidate_top5: float | None
    flipped: int
    flips: tuple[Flip, ...]
    class_names: tuple[str, ...] = ()

    @property
    def top1_drop(self) -> float | None:
        """How much of the top-1 accuracy the candidate loses; negative where it gains."""
        if self.reference_top1 is None or self.candidate_top1 is None:
            return None
        return self.reference_top1 - self.candidate_top1


@dataclass(frozen=True, slots=True)
class Box:
    """A detection: class, score, and the corners as the network gives them (usually shares of the image)."""

    label: int
    score: float
    corners: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stray:
    """A box of one network without a partner in the other."""

    sample: int
    name: str
    box: Box


@dataclass(frozen=True, slots=True)
class DetectorDiff:
    """Whether both networks detect the same: boxes of one class are partners when they overlap enough.

    Attributes:
        blob: the output with rows image, label, score, xmin, ymin, xmax, ymax.
        min_iou: the overlap (intersection over union) that partners need.
        mean_iou: over the matched boxes; 1 when there are none.
        max_score_diff: the largest difference of a matched pair's scores.
        missed: boxes of the reference alone, those with the highest scores; `extra`: of the candidate alone.
    """

    blob: str
    min_iou: float
    reference_boxes: int
    candidate_boxes: int
    matched: int
    mean_iou: float
    max_score_diff: float
    missed: tuple[Stray, ...]
    extra: tuple[Stray, ...]

    @property
    def missed_boxes(self) -> int:
        """How many boxes the reference alone has."""
        return self.reference_boxes - self.matched

    @property
    def extra_boxes(self) -> int:
        """How many boxes the candidate alone has."""
        return self.candidate_boxes - self.matched


@dataclass(frozen=True, slots=True)
class FirstDivergent:
    """The first layer whose error grows out of line.

    Attributes:
        layer: of the candidate; the first that differs more than its inputs explain.
        blob: its top, as the reference calls it.
        channel: where the error is largest, None where all channels carry it or there are none.
        before, after: relative error (`channel_rel`) of what the layer reads, at most, and of what it writes.
        suspects: layers between the last blob that was in line and this one; one of these is at fault.
        missing: those of the reference in that stretch of whose names the candidate has none: folded away, or lost.
    """

    layer: str
    blob: str
    channel: int | None
    before: float
    after: float
    suspects: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the error starts, as far as is known."""
        others = [name for name in self.suspects if name != self.layer]
        return f"one of the {named('layer', [self.layer, *others])}" if others else f"layer '{self.layer}'"

    @property
    def lost(self) -> str:
        """What else the reference has there, to be put behind a sentence; empty where that is nothing."""
        return f"; the reference also has {named('layer', self.missing)} there" if self.missing else ""


@dataclass(frozen=True, slots=True)
class LayerRange:
    """What per-tensor int8 makes of one weighted layer before and after.

    Attributes:
        layer: of the candidate.
        ratio_before, ratio_after: largest / median over output channels of `max |weight|`; None where there is none.
        activation_before, activation_after: range of the layer's own top; None where it was not observed.
        worse: the ratio at least doubled: the median channel lost a bit or more of its int8 weights.
    """

    layer: str
    ratio_before: float | None
    ratio_after: float
    activation_before: float | None
    activation_after: float | None
    worse: bool

    @property
    def bits_lost(self) -> float:
        """log2 of the growth of the ratio: the bits that the median channel lost; 0 of weights that are not finite."""
        if not self.ratio_before or not self.ratio_after or not math.isfinite(self.ratio_before + self.ratio_after):
            return 0.0
        return float(np.log2(self.ratio_after / self.ratio_before))


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition that the candidate has to meet: its name, what was allowed, what was found, the sentence.

    What was found is NaN where there was nothing to be held to it.
    """

    name: str
    limit: float
    value: float
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Uncompared:
    """An output of the reference that was not compared, and why: a clause that begins with `stands` or `has`."""

    blob: str
    reason: str


NO_PARTNER = "has no partner of the same name and shape"
OTHER_SHAPE = "has another shape in the candidate"


def _described(execution: Execution) -> str:
    """A provider with its device and versions, and what it left to the CPU."""
    about = [part for part in (execution.device, execution.versions) if part]
    about += ["with TF32"] if execution.tf32 else []
    if execution.values != "host":
        about.append(f"measured there by {execution.values}")
    if execution.fallback is None:
        about.append("this onnxruntime does not say which nodes fell back to the CPU")
    elif execution.fallback:
        shown = ", ".join(execution.fallback[:5]) + (" .." if len(execution.fallback) > 5 else "")
        about.append(
            f"{len(execution.fallback)} {plural('node', len(execution.fallback))} fell back to the CPU: {shown}"
        )
    return f"{execution.provider} ({'; '.join(about)})"


@dataclass(frozen=True, slots=True, repr=False)
class DiffReport(Rendered):
    """Everything that a comparison found.

    Attributes:
        reference, candidate: what was compared, as the user called it.
        data: what was fed, in a sentence: kind, count, distribution, seed.
        samples: those that differ most of the `sample_count` that were compared, in the order of the data.
        blobs: the compared blobs in the candidate's order of execution.
        unpaired: outputs and blobs of the reference without a partner; `extra` those of the candidate.
        uncompared: the outputs of the reference that could not be compared.
        as_exact: blobs beyond the tolerance that are no farther from a float64 run of the reference than the reference.
        unproved: layers that hold other values in the candidate, of which the data showed nothing.
        equal: the networks are the same to the last weight, and nothing was run.
        classifier, detector: how far both recognise and detect the same; None where no output is of that kind.
        first_divergent: None where no layer's error grows out of line.
        ranges: what per-tensor int8 makes of each layer with weights.
        gates: the conditions that were asked; the comparison passed if each of them did.
        notes: sentences about what could not be measured or was assumed.
        reference_on, candidate_on: where either network was run, and by what; None where none was.
        error: why a line of a table of models could not be compared; empty where it was.
    """

    reference: str
    candidate: str
    data: str
    seed: int
    tolerance: float
    blobs: tuple[BlobDiff, ...] = ()
    samples: tuple[SampleDiff, ...] = ()
    unpaired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    classifier: ClassifierDiff | None = None
    detector: DetectorDiff | None = None
    first_divergent: FirstDivergent | None = None
    ranges: tuple[LayerRange, ...] = ()
    gates: tuple[Gate, ...] = ()
    notes: tuple[str, ...] = ()
    uncompared: tuple[Uncompared, ...] = ()
    as_exact: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    equal: bool = False
    sample_count: int = 0
    reference_on: Execution | None = None
    candidate_on: Execution | None = None
    error: str = ""

    def __repr__(self) -> str:
        result = "passed" if self.passed else "FAILED"
        return f"<DiffReport: {result}, {len(self.blobs)} blobs of {self.candidate}, worst {self._worst}>"

    @property
    def _worst(self) -> str:
        if self.worst is None:
            return "none"
        return f"'{self.worst.blob}' {f'{self.worst.judged:.1e}' if self.worst.judged else 0}"

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def ran(self) -> str:
        """Where the networks were run, as a sentence; empty where none was."""
        if self.reference_on is None or self.candidate_on is None:
            return ""
        ours = _described(self.reference_on)
        if self.reference_on == self.candidate_on:
            return f"Both networks ran on {ours}."
        return f"The reference ran on {ours}, the candidate on {_described(self.candidate_on)}."

    @property
    def outputs(self) -> Sequence[BlobDiff]:
        """The compared blobs that are outputs of the reference."""
        return [blob for blob in self.blobs if blob.is_output]

    @property
    def intermediate(self) -> Sequence[BlobDiff]:
        """The compared blobs that are no outputs, those that differ most first."""
        return sorted((blob for blob in self.blobs if not blob.is_output), key=lambda blob: -blob.judged)

    @property
    def worst(self) -> BlobDiff | None:
        """The blob that differs most relative to its range; of noise in one sample. None where none says anything."""
        return max((blob for blob in self.blobs if not blob.says_nothing), key=lambda blob: blob.judged, default=None)

    @property
    def judged(self) -> float:
        """The largest error that was held to the tolerance; 0 where none was."""
        found = (gate.value for gate in self.gates if gate.name == "tolerance" and not math.isnan(gate.value))
        return max(found, default=0.0)

    @property
    def coverage(self) -> str:
        """How many outputs were compared, and why the others were not; empty where all were."""
        if not self.uncompared:
            return ""
        compared = len(self.outputs)
        reasons = Counter(output.reason for output in self.uncompared)
        verbs = {"stands": "stand", "has": "have"}
        clauses = []
        for reason, count in reasons.items():
            verb, _, rest = reason.partition(" ")
            clauses.append(f"{count} {verbs.get(verb, verb) if count > 1 else verb} {rest}")
        return f"{compared} of {compared + len(self.uncompared)} outputs compared; {'; '.join(clauses)}"

    @property
    def verdict(self) -> str:
        """The result as one sentence, with the reason where it is bad and with what was not compared."""
        if self.equal:
            return "The networks are the same to the last weight, so nothing had to be run."
        covered = f" ({self.coverage})" if self.coverage else ""
        failed = [gate for gate in self.gates if not gate.passed]
        if failed:
            measured = [gate for gate in failed if not math.isnan(gate.value)]
            sentences = "; ".join(gate.sentence for gate in measured or failed)
            seen = self.blobs or any(output.reason == OTHER_SHAPE for output in self.uncompared)
            if all(gate.name == "compared" or (gate.name == "outputs" and not seen) for gate in measured):
                return f"Nothing is proved: {sentences}{covered}."
            place = f"; the error starts at {self.first_divergent.place}" if self.first_divergent else ""
            return f"The networks differ: {sentences}{place}{covered}."
        same = f" within {self.judged:.1e} of the range" if self.judged else "" if self.as_exact else ", bit for bit"
        rounded = ""
        if self.as_exact:
            names = few([f"'{name}'" for name in self.as_exact], 3)
            rounded = f"; beyond the tolerance by rounding alone, as a float64 run shows: {names}"
        unseen = ""
        if self.unproved:
            layers, hold = ("layers", "hold") if len(self.unproved) > 1 else ("layer", "holds")
            names = few([f"'{name}'" for name in self.unproved], 3)
            unseen = f"; of {layers} {names}, which {hold} other values, the data shows nothing"
        return f"The networks compute the same{same}{rounded}{unseen}{covered}."
