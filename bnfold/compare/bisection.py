"""The first blob beyond the tolerance, found by halving: one blob at a time is an output, in log2(n) runs.

Errors are taken to stay once they are there, as they do in a chain. It looks at the run of the sample in which an
output differs most, and needs the memory of that run's outputs and one blob.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnfold.compare.batches import run_at
from bnfold.compare.engine import Engine
from bnfold.compare.metrics import BlobError, relative
from bnfold.compare.records import BlobDiff, FirstDivergent
from bnfold.compare.ties import Ties

if TYPE_CHECKING:
    from bnfold.compare.opened import Opened
    from bnfold.onnx.graph import WeightStore


def first_beyond(opened: Opened, output: BlobDiff, store: WeightStore) -> tuple[FirstDivergent, int] | None:
    """The first blob that differs by more than the tolerance of its range.

    Args:
        opened: the candidate, with all blobs that both networks have.
        output: one that differs, and in which sample.
        store: where the weights lie.

    Returns:
        The blob with its layer, and how many runs it took; None where the output is within the tolerance in that run.
    """
    order = {blob: place for place, blob in enumerate(opened.theirs.writers)}
    names = sorted(opened.pairs, key=lambda name: order[opened.pairs[name]])
    names = names[: names.index(output.blob) + 1]
    sample = output.worst.sample if output.worst is not None else 0
    measured: dict[str, BlobError] = {}

    def differs(name: str) -> bool:
        measured[name] = error = _measured(opened, name, sample, store)
        return relative(error.max_abs, error.range) > opened.options.limit

    if not differs(names[-1]):
        return None
    within, beyond = -1, len(names) - 1
    while beyond - within > 1:
        middle = (within + beyond) // 2
        if differs(names[middle]):
            beyond = middle
        else:
            within = middle
    name = names[beyond]
    channel, after, _ = measured[name].worst_channel
    before = measured[names[within]].worst_channel[1] if within >= 0 else 0.0
    layer = opened.theirs.writers[opened.pairs[name]].layer
    suspects = [opened.theirs.writers[opened.pairs[between]].layer for between in names[within + 1 : beyond + 1]]
    return FirstDivergent(layer, name, channel, before, after, tuple(dict.fromkeys(suspects))), len(measured)


def _measured(opened: Opened, name: str, sample: int, store: WeightStore) -> BlobError:
    """One blob, in the run of one sample."""
    partner = opened.pairs[name]
    ties = Ties.of(opened.ours, opened.theirs, {name: partner}, opened.options.limit)
    side = replace(opened.side(), pairs={name: partner}, watched=((), ()), ties=ties)
    error = BlobError(opened.options.limit)
    layout = opened.layout
    run = run_at(opened.data, layout, sample // layout.batch * layout.batch)
    with Engine(opened.ours, [side], layout, opened.data, opened.options, store, fixed=True) as engine:
        for first, second in engine.give(run):
            r, c = first[name], second[partner]
            if r.size == c.size:
                by_sample = layout.has_rows(r)
                rows = slice(len(run.numbers)) if by_sample else ...
                error.add(r[rows], c.reshape(r.shape)[rows], run.numbers.start, by_sample=by_sample)
    return error
