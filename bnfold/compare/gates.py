"""The conditions that a candidate has to meet, each as a record with its sentence."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence

from bnfold.compare.exact import Distances
from bnfold.compare.records import NO_PARTNER, OTHER_SHAPE, BlobDiff, ClassifierDiff, DetectorDiff, Gate, Uncompared
from bnfold.errors import UsageError, first_of, is_everyday, named

NO_CLASSIFIER = "--min-agreement needs a classifier: a Softmax output, or labels"
NO_SAMPLES = "labels say what the samples are, and no samples are given: noise has no classes"
NO_LABELS = "--max-top1-drop needs a classifier, and --data with labels"


def compared_gate(
    blobs: Sequence[BlobDiff],
    uncompared: Sequence[Uncompared],
    boxes: str | None,
    may_have_none: bool,
    behind: Collection[str] | None,
    bare: Collection[str],
) -> Gate:
    """Some output was compared, each has values that are finite in both networks, and not all blobs are 0.

    Where none was, the same holds of what makes them all.

    Args:
        blobs: that were compared.
        uncompared: the outputs that were not.
        boxes: the output of a detector, if there is one.
        may_have_none: whether it says enough without a box, since something that they are made of is compared.
        behind: what outputs behind layers that cannot be run are made of, by the same layers in both; None where these
            differ.
        bare: outputs without elements that the same layers make of what was compared.
    """
    outputs = [blob for blob in blobs if blob.is_output]
    judged = outputs or [blob for blob in blobs if behind is not None and blob.blob in behind]
    measured = [blob for blob in judged if blob.blob not in bare]
    empty = [blob for blob in measured if not blob.finite and not (may_have_none and blob.blob == boxes)]
    finite, blank = len(measured) - len(empty) if outputs else 0, bool(judged) and all(map(is_blank, blobs))
    if empty:
        sentence = _nothing_in(empty, boxes)
    elif blank:
        sentence = "all that was compared is 0 or not finite, and says nothing; give other samples by --data"
    elif outputs and not measured:
        sentence = f"no output has an element{_way_out((), same_behind=True)}"
    elif outputs:
        sentence = f"{finite} of {len(outputs) + len(uncompared)} outputs have finite values in common"
    else:
        sentence = f"no output was compared{_way_out(uncompared, behind is not None)}"
    return Gate("compared", 1, finite, (bool(outputs) or behind is not None) and not empty and not blank, sentence)


def _nothing_in(empty: Sequence[BlobDiff], boxes: str | None) -> str:
    """The sentence on outputs, or what makes them, without a value that is finite in both networks."""
    names = [blob.blob for blob in empty]
    kind = "output" if empty[0].is_output else "blob"
    outputs = f"{named(kind, names)} {'has' if len(names) == 1 else 'have'}"
    if all(0 in blob.shape for blob in empty):
        return f"{outputs} no elements, so there is nothing to compare"
    if names == [boxes]:
        return f"output '{boxes}' has no box; give samples in which there is something to find by --data"
    return f"{outputs} no finite value in common; give other samples by --data"


def _way_out(uncompared: Sequence[Uncompared], same_behind: bool) -> str:
    """What follows where no output was compared, to end the sentence with."""
    if same_behind:
        return ", but the same layers make them of what was compared"
    if not uncompared:
        return ", since the reference has none"
    if all(output.reason == NO_PARTNER for output in uncompared):
        return "; pair outputs of other names with --map A=B"
    if all(output.reason != OTHER_SHAPE for output in uncompared):
        return "; neither noise nor --data reaches one, and fold --no-verify writes without a proof"
    return ""


def is_blank(blob: BlobDiff) -> bool:
    """Whether no value is finite in both networks, or all those are 0 in both."""
    return not blob.finite or blob.low == blob.high == blob.partner_low == blob.partner_high == 0.0


def tolerance_gate(blobs: Sequence[BlobDiff], tolerance: float) -> Gate:
    """Every compared blob within `tolerance` of its range; of noise in each sample, by the range that it has there.

    Where there are blobs and no finite value in any, what was found is NaN, and does not pass.
    """
    worst = max((blob for blob in blobs if not blob.says_nothing), key=lambda blob: blob.judged, default=None)
    value = worst.judged if worst is not None else math.nan if blobs else 0.0
    passed = value <= tolerance
    if worst is None:
        sentence = "no compared blob has a finite value" if blobs else "no blob was compared"
    elif math.isinf(value):
        sentence = f"blob '{worst.blob}' is not finite, or of another shape, in one of the networks"
    else:
        sentence = (
            f"blob '{worst.blob}' differs by {beside(value, tolerance)} of its range"
            f"{' in one sample' if value != worst.max_rel else ''}, "
            f"{'within' if passed else 'beyond'} the tolerance {tolerance:g}"
        )
    return Gate("tolerance", tolerance, value, passed, sentence)


def rounding_gate(inexact: Mapping[str, Distances]) -> Gate:
    """In types of 2 bytes nothing farther from a float64 run than rounding explains, though the tolerance has room."""
    if not inexact:
        return Gate("rounding", 1, 0, True, "rounding explains what differs")
    name, found = next(iter(inexact.items()))
    explained = found.candidate - found.excess
    sentence = (
        f"blob '{name}' is within the tolerance, but has a channel that is rms {found.candidate:.1e} of its range from "
        f"a float64 run, of which rounding explains {explained:.1e}"
    )
    return Gate("rounding", 1, found.candidate / explained if explained else math.inf, False, sentence)


def beside(
    value: float, limit: float, passes: Callable[[float, float], bool] = operator.le, form: str = "e", least: int = 1
) -> str:
    """A value in few figures, as everywhere, or in as many more as tell whether it passes a limit."""
    if form == "e" and is_everyday(value):
        form, least = "#g", 2
    roundings = (f"{value:{form[:-1]}.{digits}{form[-1]}}".rstrip(".") for digits in range(least, 18))
    return next(figures for figures in roundings if passes(float(figures), limit) == passes(value, limit))


def computed_alone(blobs: Sequence[str]) -> str:
    """What is said of blobs of the candidate whose partners are outputs of the reference, and which are none."""
    return f"the candidate computes {named('blob', blobs)}, and gives no such output"


def outputs_gate(lost: Sequence[str], otherwise: Sequence[str], inner: Mapping[str, str]) -> Gate:
    """Every output of the reference has a partner, which is an output too.

    Args:
        lost: those that have none.
        otherwise: those without numbers that the candidate makes otherwise, as by other labels, or of another blob.
        inner: output of the reference -> its partner that the candidate computes and does not give, unless the user
            has paired them.
    """
    losses = [f"no partner of the same name and shape for {named('output', lost)}"] if lost else []
    if inner:
        ours, theirs = next(iter(inner.items()))
        losses.append(f"{computed_alone([*inner.values()])}; --map {ours}={theirs} compares it all the same")
    if otherwise:
        losses.append(
            f"the candidate makes {named('output', otherwise)} by other settings or weights, or of another blob"
        )
    sentence = "; ".join(losses) or "every output has its partner"
    return Gate("outputs", 0, len(lost) + len(otherwise) + len(inner), not losses, sentence)


def shapes_gates(resized: Sequence[str]) -> list[Gate]:
    """Every blob that both have holds as many values in both; no gate where that is so.

    Args:
        resized: a sentence on each blob that does not, in order of execution.
    """
    if not resized:
        return []
    return [Gate("shapes", 0, len(resized), False, first_of(resized))]


def rows_gates(fillers: Mapping[str, tuple[float, int]], tolerance: float) -> list[Gate]:
    """The rows of a run that repeat the last sample, where there are fewer, give what it gives; no gate where they do.

    Args:
        fillers: output -> the largest error of such a row, of its range, and the row.
        tolerance: what that may be.
    """
    beyond = {name: found for name, found in fillers.items() if not found[0] <= tolerance}
    if not beyond:
        return []
    name = max(beyond, key=lambda name: beyond[name])
    value, row = beyond[name]
    sentence = (
        f"output '{name}' differs by {beside(value, tolerance)} of its range in row {row + 1} of a run, where both "
        "networks were fed what the last sample before it has"
    )
    return [Gate("rows", tolerance, value, False, sentence)]


def boxes_gate(detector: DetectorDiff, steady: bool) -> Gate:
    """No box without a partner, unless a rounding decides.

    Args:
        detector: the boxes.
        steady: everything that the detector reads is within the tolerance. A stray then is a score at the threshold,
            an overlap at that of the suppression, or the last of equals: a jump of the layer, not of the networks.
    """
    strays = detector.missed_boxes + detector.extra_boxes
    sentence = f"{detector.missed_boxes} boxes missed and {detector.extra_boxes} extra of {detector.reference_boxes}"
    if strays and steady:
        sentence += ", all at a threshold, since the scores and places behind them are within the tolerance"
    return Gate("boxes", 0, strays, steady or strays == 0, sentence)


def agreement_gate(classifier: ClassifierDiff | None, least: float) -> Gate:
    """At least a share `least` of the samples with the same answer.

    Raises:
        UsageError: nothing was classified.
    """
    if classifier is None:
        raise UsageError(NO_CLASSIFIER)
    value = classifier.agreement
    share = beside(value * 100, least * 100, operator.ge, "g", 4)
    sentence = f"the answers agree for {share} % of {classifier.samples} samples, {least * 100:.4g} % needed"
    return Gate("min-agreement", least, value, value >= least, sentence)


def top1_gate(classifier: ClassifierDiff | None, most: float) -> Gate:
    """A loss of top-1 accuracy of at most `most`, as a share.

    Raises:
        UsageError: nothing was classified, or there are no labels.
    """
    drop = classifier.top1_drop if classifier is not None else None
    if drop is None:
        raise UsageError(NO_LABELS)
    limit = most + 1e-12  # shares of counts: below one sample in any data set, above the rounding of a difference
    share = beside(drop * 100, limit * 100, form="g", least=4)
    sentence = f"top-1 accuracy drops by {share} %, {most * 100:.4g} % allowed"
    return Gate("max-top1-drop", most, drop, drop <= limit, sentence)
