"""Which layer is at fault: the first whose error is larger than what it reads can explain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
        for tensor in _upstream(blob.partner, reads, errors):
            if tensor in errors:
                before = max(before, errors[tensor])
            elif tensor in writers:
                between.append(tensor)
        learned = any(writers[tensor].weighted for tensor in between)
        if blob.channel_rel > GROWTH * max(before, FLOOR if learned else AMPLIFIED):
            order = {tensor: place for place, tensor in enumerate(writers)}
            between.sort(key=lambda tensor: order[tensor])
            suspects = tuple(dict.fromkeys(writers[tensor].layer for tensor in between))
            # Only what learned something can have learned something wrong.
            weighted = [writers[tensor].layer for tensor in between if writers[tensor].weighted]
            layer = weighted[0] if weighted else writers[blob.partner].layer
            channel = blob.channel if blob.channel_share > ALONE else None
            return FirstDivergent(layer, blob.blob, channel, before, blob.channel_rel, suspects)
    return None


def _upstream(tensor: str, reads: Mapping[str, Sequence[str]], stops: Mapping[str, float]) -> Iterator[str]:
    """Everything that `tensor` is computed from, back to the nearest compared blobs."""
    seen: set[str] = set()
    waiting = list(reads.get(tensor, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            if name not in stops:
                waiting.extend(reads.get(name, ()))
