"""Whether two classifiers recognise the same: accuracy, agreement, and every answer that flips."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bnfold.compare.merging import BY_MAX, BY_SUM, keep_worst, rule
from bnfold.compare.models import Model
from bnfold.compare.records import Answer, ClassifierDiff, Flip
from bnfold.data.samples import Samples, picture_of_sample
from bnfold.errors import UsageError
from bnfold.net import Array, Shape

FLIPS = 1000  # flipped samples that are listed: those of which the reference was surest; all are counted
PICTURES = 100  # of these that are shown


def _surest(first: list[Flip], second: list[Flip]) -> list[Flip]:
    """The flips of which the reference was surest, with pictures of the first ones."""

    def order(flip: Flip) -> tuple[float, int]:
        margin = flip.reference.score - flip.reference_score_then
        return (-margin if margin == margin else -math.inf, flip.sample)

    kept = keep_worst(first, second, order, FLIPS)
    return kept[:PICTURES] + [replace(flip, picture=None) for flip in kept[PICTURES:]]


@dataclass(slots=True)
class Classification:
    """What is counted of one pair of score blobs.

    Args:
        blob: the output, as the reference calls it.
        labels: the true class of every sample, None when unknown.

    Ties go to the lower class, as Caffe's ArgMax and Accuracy do with equal scores. NaN is no right answer. A sample
    without an answer of either network is not counted as classified.
    """

    blob: str
    labels: Array | None
    samples: int = field(default=0, metadata=BY_SUM)
    agreeing: int = field(default=0, metadata=BY_SUM)
    classes: int = field(default=0, metadata=BY_MAX)
    known: int = field(default=0, metadata=BY_SUM)
    # [reference, candidate] x [top 1, top 5]
    hits: Array = field(default_factory=lambda: np.zeros((2, 2), np.int64), metadata=BY_SUM)
    flips: list[Flip] = field(default_factory=list, metadata=rule(_surest))

    def add(self, reference: Array, candidate: Array, numbers: range, samples: Samples) -> None:
        """Count one batch; both are (samples, classes) up to axes of size 1."""
        r, c = (np.asarray(scores).reshape(len(numbers), -1) for scores in (reference, candidate))
        self.classes = r.shape[1]
        first, second = r.argmax(axis=1), c.argmax(axis=1)
        silent = [np.isnan(scores.max(axis=1)) for scores in (r, c)]
        answered = ~(silent[0] & silent[1])
        flipped = answered & ((first != second) | (silent[0] != silent[1]))
        self.samples += int(answered.sum())
        self.agreeing += int((answered & ~flipped).sum())
        labels = np.full(len(numbers), -1) if self.labels is None else self.labels[numbers.start : numbers.stop]
        for side, scores in enumerate((r, c)):
            self.hits[side] += np.array([in_top(scores, labels, top).sum() for top in (1, 5)])
        self.known += int((labels >= 0).sum())
        found = []
        for row in np.flatnonzero(flipped).tolist():
            number = numbers[row]
            ours, theirs = int(first[row]), int(second[row])
            found.append(
                Flip(
                    number,
                    samples.name(number),
                    int(labels[row]) if labels[row] >= 0 else None,
                    Answer(ours, float(r[row, ours])),
                    Answer(theirs, float(c[row, theirs])),
                    float(r[row, theirs]),
                    float(c[row, ours]),
                )
            )
        before = {flip.sample for flip in self.flips}
        self.flips = [
            replace(flip, picture=picture_of_sample(samples, flip.sample))
            if place < PICTURES and flip.sample not in before
            else flip
            for place, flip in enumerate(_surest(self.flips, found))
        ]

    def result(self, class_names: Sequence[str] = ()) -> ClassifierDiff:
        """What was counted, as a record."""
        (ours1, ours5), (theirs1, theirs5) = (self.hits / self.known).tolist() if self.known else [[None] * 2] * 2
        return ClassifierDiff(
            blob=self.blob,
            classes=self.classes,
            samples=self.samples,
            agreement=self.agreeing / self.samples if self.samples else 0.0,
            labelled=self.known > 0,
            known=self.known,
            reference_top1=ours1,
            reference_top5=ours5,
            candidate_top1=theirs1,
            candidate_top5=theirs5,
            flipped=self.samples - self.agreeing,
            flips=tuple(sorted(self.flips, key=lambda flip: flip.sample)),
            class_names=tuple(class_names),
        )


def in_top(scores: Array, labels: Array, top: int) -> Array:
    """Whether each sample's true class is among its `top` best; unknown classes (-1) are not.

    A class is among the best when fewer than `top` others score higher, or as high with a lower number.
    """
    known = (labels >= 0) & (labels < scores.shape[1])
    place = np.where(known, labels, 0).astype(np.int64)[:, None]
    own = np.take_along_axis(scores, place, axis=1)
    earlier = np.arange(scores.shape[1])[None] < place
    better = ~(scores <= own) | ((scores == own) & earlier)  # NaN goes first, as argmax takes it
    return np.asarray(known & ~np.isnan(own[:, 0]) & (better.sum(axis=1) < top))


def find_scores(
    reference: Model, pairs: Mapping[str, str], shapes: Mapping[str, Shape], labels: Array | None, batch: int
) -> str | None:
    """The output with one score per class for each sample of a batch, or None.

    A Softmax output is one. Without Softmax, labels say that the network classifies, and the first output with
    enough classes is taken: a landmark regressor has the same shape, so shape alone says nothing.
    """
    outputs = [name for name in reference.outputs if name in pairs and _is_row(shapes.get(name, ()), batch)]
    for name in outputs:
        if reference.writers[name].type.startswith("Softmax"):
            return name
    if labels is not None:
        most = np.fmax.reduce(labels, initial=0)  # what is no number is for `require_labels` to say
        return next((name for name in outputs if shapes[name][1] > most), None)
    return None


def given_labels(labels: Sequence[int] | Array) -> Array:
    """The labels that a caller gives, as an array.

    Raises:
        UsageError: they are no list, or masked.
    """
    if np.ma.is_masked(labels):
        raise UsageError("the labels are masked; -1 says that a class is not known")
    try:
        array = np.asarray(labels)
    except ValueError:  # rows of different lengths
        raise UsageError("labels are a list of one class number for each sample, and not of lists") from None
    if array.dtype == object and not array.shape:  # of an iterator, say
        raise UsageError(f"labels are a list of one class number for each sample, and not {type(labels).__name__}")
    return array


def require_labels(labels: Array | None, classes: float, named: Callable[[int], str]) -> None:
    """Stop where a label is none of the classes; -1 says that it is not known.

    Args:
        labels: one per sample.
        classes: how many the network has; infinite where it is no classifier.
        named: the name of a sample.

    Raises:
        UsageError: with the first such label and its sample.
    """
    if labels is None:
        return
    wrong = np.flatnonzero((labels < -1) | (labels >= classes) | (labels != np.rint(labels)))
    if wrong.size:
        first = int(wrong[0])
        label = f"label {labels[first]:g} of sample {named(first)}"
        if classes == math.inf:
            raise UsageError(f"{label}: a label is the number of a class, or -1 where that is not known")
        raise UsageError(
            f"{label}: the network has {classes} classes, 0 to {classes - 1} (and -1 means that the class is not known)"
        )


def near_chance(found: ClassifierDiff) -> str | None:
    """A note where the reference itself recognises no more than chance would; None where it does.

    With K classes and n labelled samples chance gives `p = 1/K`, and the standard deviation of a share is
    `sqrt(p*(1 - p)/n)`. Near chance is within three of them, and two below the half-way point `(1 + p)/2`, so that a
    handful of samples says nothing.
    """
    share, chance, count = found.reference_top1, 1 / max(found.classes, 1), found.known
    if share is None or not count:
        return None
    middle = (1 + chance) / 2
    by_chance = chance + 3 * math.sqrt(chance * (1 - chance) / count)
    if share > by_chance or share > middle - 2 * math.sqrt(middle * (1 - middle) / count):
        return None
    return (
        f"the reference itself is right for {share * 100:.4g} % of {count:,} labelled samples, and chance for "
        f"{chance * 100:.4g} %: do the labels number the classes as the network does, and is the data "
        "prepared as it was in training (--mean, --scale, --swap-channels, --resize, --crop)?"
    )


def _is_row(shape: Shape, batch: int) -> bool:
    return len(shape) >= 2 and shape[0] == batch and shape[1] >= 2 and all(size == 1 for size in shape[2:])
