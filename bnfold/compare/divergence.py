"""Which layer is at fault: the first whose error is larger than what it reads can explain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from bnfold.compare.models import Model, Writer
from bnfold.compare.records import BlobDiff, FirstDivergent

FLOOR = 1e-6  # relative errors below are float32 rounding: 2^-23 = 1.2e-7, summed over a few hundred terms
AMPLIFIED = 1e-4  # likewise behind a layer without weights: Softmax makes 1e-4 of one class out of 1e-6 of another
GROWTH = 10.0  # rounding grows by about the square root of the depth, never tenfold in one layer
ALONE = 0.9  # share of the squared error that one channel must carry to be named


def first_divergent_layer(ours: Model, theirs: Model, blobs: Sequence[BlobDiff]) -> FirstDivergent | None:
    """The first blob with `error > 10 * max(error of what its layer reads, 1e-6)`.

    A layer without weights has 1e-4 in place of 1e-6, unless all that it reads is equal: nothing is amplified then. The
    compared blobs are in the candidate's order of execution.
    """
    errors = {blob.partner: blob.channel_rel for blob in blobs}
    for blob in blobs:
        before, learned, known = 0.0, theirs.writers[blob.partner].weighted, True
        for tensor in upstream(blob.partner, theirs.reads, errors):
            if tensor in errors:
                before = max(before, errors[tensor])
            elif tensor in theirs.writers:
                learned, known = learned or theirs.writers[tensor].weighted, False
        floor = FLOOR if learned or (known and not before) else AMPLIFIED
        if blob.channel_rel > GROWTH * max(before, floor):
            worst = blob.channel, blob.channel_rel, blob.channel_share
            return blame(ours, theirs, blob.blob, {one.blob: one.partner for one in blobs}, before, worst)
    return None


def blame(
    ours: Model,
    theirs: Model,
    blob: str,
    pairs: Mapping[str, str],
    before: float,
    worst: tuple[int | None, float, float],
) -> FirstDivergent:
    """The record of the first blob that differs.

    Args:
        ours, theirs: the reference and the candidate.
        blob: as the reference calls it.
        pairs: blob of the reference -> blob of the candidate, of all that could be compared.
        before: the largest error of what it is made of.
        worst: its channel with the largest error, that error, and the share that it has.
    """
    makers = _makers(theirs, pairs[blob], pairs.values())
    # Only what learned something can have learned something wrong.
    weighted = [writer.layer for writer in makers if writer.weighted]
    channel, error, share = worst
    layer = weighted[0] if weighted else theirs.writers[pairs[blob]].layer
    known = {writer.layer for writer in theirs.writers.values()}
    return FirstDivergent(
        layer,
        blob,
        channel if share > ALONE else None,
        before,
        error,
        tuple(dict.fromkeys(writer.layer for writer in makers)),
        tuple(dict.fromkeys(writer.layer for writer in _makers(ours, blob, pairs) if writer.layer not in known)),
    )


def _makers(model: Model, blob: str, compared: Collection[str]) -> list[Writer]:
    """What writes a blob, and what it is made of that was not compared, in order of execution."""
    stops = set(compared)
    inside = {blob, *upstream(blob, model.reads, stops)} - (stops - {blob})
    return [writer for tensor, writer in model.writers.items() if tensor in inside]


def upstream(tensor: str, reads: Mapping[str, Sequence[str]], stops: Collection[str] = ()) -> Iterator[str]:
    """Everything that `tensor` is computed from, back to the nearest of `stops`."""
    seen: set[str] = set()
    waiting = list(reads.get(tensor, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            if name not in stops:
                waiting.extend(reads.get(name, ()))
