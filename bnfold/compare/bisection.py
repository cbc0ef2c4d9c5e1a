"""The first blob beyond the tolerance, found by halving: one blob at a time is an output, in log2(n) runs.

Errors are taken to stay once they are there, as they do in a chain. Where a branch that is right was looked at, what is
found still reads a blob that differs; then that one's own past is halved. It looks at the run of the sample in which
an output differs most, and needs the memory of that run's outputs and one blob.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnfold.compare.batches import run_at
from bnfold.compare.divergence import blame, upstream
from bnfold.compare.engine import Engine
from bnfold.compare.metrics import BlobError
from bnfold.compare.planning import Networks
from bnfold.compare.records import BlobDiff, FirstDivergent
from bnfold.compare.ties import Ties
from bnfold.data.samples import Noise

if TYPE_CHECKING:
    from bnfold.compare.matched import MatchedCandidate
    from bnfold.onnx.graph import WeightStore


def first_beyond(
    matched: MatchedCandidate, output: BlobDiff, sample: int, store: WeightStore
) -> tuple[FirstDivergent, int] | None:
    """The first blob that differs by more than the tolerance of its range, in one sample where it is noise.

    All blobs that both networks have are matched. An output that differs does so by its own range, where one of all
    samples says less.

    Returns:
        The blob with its layer, and how many runs it took; None where the output is within the tolerance in that run.
    """
    partners = {partner: name for name, partner in matched.pairs.items()}
    reads, writers = matched.theirs.reads, matched.theirs.writers
    measured: dict[str, BlobError] = {}
    by_own_range = isinstance(matched.data, Noise) or output.judged > output.max_rel

    def differs(name: str) -> bool:
        if name not in measured:
            measured[name] = _measured(matched, name, sample, store, by_own_range)
        return measured[name].judged > matched.options.limit

    wrong: str | None = output.blob
    if not differs(output.blob):
        return None
    while wrong is not None:
        made_of = set(upstream(matched.pairs[wrong], reads))
        names = [*(partners[tensor] for tensor in writers if tensor in partners and tensor in made_of), wrong]
        name = _halved(names, differs)
        stretch = upstream(matched.pairs[name], reads, partners)
        before = [partners[tensor] for tensor in stretch if tensor in partners]
        wrong = next(filter(differs, before), None)
    error = max((measured[read].worst_channel[1] for read in before), default=0.0)
    return blame(matched.ours, matched.theirs, name, matched.pairs, error, measured[name].worst_channel), len(measured)


def _halved(names: Sequence[str], differs: Callable[[str], bool]) -> str:
    """A blob that differs, behind one that does not or at the start; the last one does."""
    within, beyond = -1, len(names) - 1
    while beyond - within > 1:
        middle = (within + beyond) // 2
        if differs(names[middle]):
            beyond = middle
        else:
            within = middle
    return names[beyond]


def _measured(matched: MatchedCandidate, name: str, sample: int, store: WeightStore, by_own_range: bool) -> BlobError:
    """One blob, in the run of one sample."""
    partner = matched.pairs[name]
    ties = Ties.of(matched.ours, matched.theirs, {name: partner}, matched.options.limit)
    side = replace(matched.side(), pairs={name: partner}, watched=((), ()), ties=ties)
    error = BlobError(matched.options.limit, by_own_range)
    layout = matched.layout
    run = run_at(matched.data, layout, sample // layout.batch * layout.batch)
    with Engine(Networks(matched.ours, [side]), layout, matched.data, matched.options, store) as engine:
        for _, (first, second) in engine.give(run):
            r, c = first[name], second[partner]
            if r.size == c.size:
                by_sample = layout.has_rows(r)
                rows = slice(len(run.numbers)) if by_sample else ...
                error.add(r[rows], c.reshape(r.shape)[rows], run.numbers.start, by_sample=by_sample)
    return error
