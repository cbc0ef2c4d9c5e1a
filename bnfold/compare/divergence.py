"""Which layer is at fault: the first whose error is larger than what it reads can explain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from bnfold.compare.models import Writer
from bnfold.compare.records import BlobDiff, FirstDivergent

FLOOR = 1e-6  # relative errors below are float32 rounding: 2^-23 = 1.2e-7, summed over a few hundred terms
AMPLIFIED = 1e-4  # likewise behind a layer without weights: Softmax makes 1e-4 of one class out of 1e-6 of another
GROWTH = 10.0  # rounding grows by about the square root of the depth, never tenfold in one layer
ALONE = 0.9  # share of the squared error that one channel must carry to be named


def first_divergent_layer(
    blobs: Sequence[BlobDiff], writers: Mapping[str, Writer], reads: Mapping[str, Sequence[str]]
) -> FirstDivergent | None:
    """The first blob with `error > 10 * max(error of what its layer reads, 1e-6)`; 1e-4 behind layers without weights.

    Args:
        blobs: the compared blobs in the candidate's order of execution.
        writers, reads: of the candidate.
    """
    errors = {blob.partner: blob.channel_rel for blob in blobs}
    for blob in blobs:
        before, between = 0.0, [blob.partner]
        for tensor in upstream(blob.partner, reads, errors):
            if tensor in errors:
                before = max(before, errors[tensor])
            elif tensor in writers:
                between.append(tensor)
        learned = any(writers[tensor].weighted for tensor in between)
        if blob.channel_rel > GROWTH * max(before, FLOOR if learned else AMPLIFIED):
            worst = blob.channel, blob.channel_rel, blob.channel_share
            return blame(blob.blob, blob.partner, between, before, worst, writers)
    return None


def blame(
    blob: str,
    partner: str,
    between: Sequence[str],
    before: float,
    worst: tuple[int | None, float, float],
    writers: Mapping[str, Writer],
) -> FirstDivergent:
    """The record of the first blob that differs.

    Args:
        blob, partner: its names.
        between: itself, and what it is made of that was not compared; of the candidate.
        before: the largest error of what all these are made of.
        worst: its channel with the largest error, that error, and the share that it has.
        writers: of the candidate.
    """
    inside = set(between)
    makers = [writer for tensor, writer in writers.items() if tensor in inside]
    suspects = tuple(dict.fromkeys(writer.layer for writer in makers))
    # Only what learned something can have learned something wrong.
    weighted = [writer.layer for writer in makers if writer.weighted]
    channel, error, share = worst
    layer = weighted[0] if weighted else writers[partner].layer
    return FirstDivergent(layer, blob, channel if share > ALONE else None, before, error, suspects)


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
