"""The report for a terminal: the verdict first, then a few lines; tables where something failed, or by -v.

Names come from files and may hold anything, so every one of them goes in by `words`, which leaves nothing in it that a
terminal would obey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.algebra.records import Dropped, Folded, FoldReport, Joined, Kept, Merged, Moved
from bnfold.report.causes import kept_by_cause, said_once
from bnfold.report.cost import Cost, costs, total
from bnfold.report.figures import class_name, count, ordinary, percent, small
from bnfold.report.figures import names as listed
from bnfold.report.grid import Column, Grid, Part, Style, words

if TYPE_CHECKING:
    from bnfold.compare.records import BlobDiff, ClassifierDiff, DetectorDiff, DiffReport
    from bnfold.net import Net, Shape
    from bnfold.report.run import RunReport

ROWS = 12  # of a table, before it refers to the other renderings
CAUSES = 3  # of layers that stay, where not all is asked for
GOOD: Style = "bold green"
BAD: Style = "bold red"
WARN: Style = "yellow"
QUIET: Style = "dim"


def as_text(run: RunReport, *, verbosity: int = 0, rows: int = ROWS, files: Sequence[Path] = ()) -> list[Part]:
    """The whole run, for `bnfold.report.grid.printed`.

    Args:
        run: what a run did and found.
        verbosity: 0 for some ten lines, with tables where a proof failed; 1 with all tables; -1 for the verdict alone.
        rows: how many folded layers and blobs a table lists at most.
        files: more files that were written: the reports.
    """
    failed = [proof for proof in run.proofs if not proof.passed]
    parts: list[Part] = []
    if run.proofs:
        parts.append(words(run.verdict, BAD if failed else GOOD))
    elif run.fold is not None:
        parts.append(words("Folded. Nothing was compared.", WARN))
    if verbosity < 0:
        return parts
    for proof in failed:
        parts += _failure(proof, rows)
    if run.fold is not None:
        parts += fold_lines(run.fold, verbosity)
        parts += _cost_lines(run, verbosity)
    parts += [line for proof in run.proofs for line in _proof_lines(proof)]
    notes = [*run.notes, *(run.fold.notes if run.fold is not None else ())]
    notes += [note for proof in run.proofs for note in proof.notes]
    parts += [words(f"note: {note}", WARN) for note in said_once(notes)]
    if verbosity > 0:
        if run.fold is not None:
            parts += fold_tables(run.fold, rows)
        for proof in run.proofs:
            if proof.passed:
                parts += _tables(proof, rows)
    parts += [words(f"wrote {path}") for path in [*run.written, *files]]
    parts += [words(f"not written, since its proof failed: {path}", BAD) for path in run.rejected]
    return parts


def fold_lines(report: FoldReport, verbosity: int = 0) -> Iterator[Part]:
    """What folded into what, and what stays and why, in a few lines."""
    if not report.records:
        yield words(f"{count(report.layers_before, 'layer')}; there is no affine layer to fold")
        return
    gone: dict[str, int] = {}
    into: set[str] = set()
    joined = 0
    for record in report.records:
        if isinstance(record, Merged):
            gone[record.type] = gone.get(record.type, 0) + len(record.layers)
        elif isinstance(record, Folded | Dropped):
            gone[record.type] = gone.get(record.type, 0) + 1
        joined += isinstance(record, Joined)
        if isinstance(record, Folded):
            into.update(record.into)
    kept = report.kept
    line = f"{report.layers_before:,} -> {count(report.layers_after, 'layer')}"
    if gone:
        kinds = " and ".join(f"{number:,} {kind}" for kind, number in sorted(gone.items(), key=lambda item: -item[1]))
        line += f"; {kinds} went" + (f", into {count(len(into), 'layer')}" if into else "")
    if joined:
        line += f"; {count(joined, 'sum')} of parallel branches joined"
    yield words(f"{line}; {len(kept):,} kept")
    groups = kept_by_cause(kept)
    shown = groups if verbosity > 0 else groups[:CAUSES]
    for cause, records in shown:
        example = f" ({listed([record.layer for record in records], 3 if verbosity <= 0 else 1000)})"
        yield words(f"kept {len(records):,} {records[0].type}{example}: {cause}", WARN)
    if hidden := sum(len(records) for _, records in groups[len(shown) :]):
        yield words(f"kept {hidden:,} more for {count(len(groups) - len(shown), 'other cause')}; -v lists them", WARN)


def _cost_lines(run: RunReport, verbosity: int) -> Iterator[Part]:
    if run.fold is None or run.original is None or run.folded is None:
        return
    before, after = costs_of(run.original), costs_of(run.folded)
    changed = [kind for kind in dict.fromkeys((*before, *after)) if _layers(before, kind) != _layers(after, kind)]
    kinds = "".join(f"; {kind} {_layers(before, kind):,} -> {_layers(after, kind):,}" for kind in changed)
    old, new = total(before), total(after)
    at_least = "" if old.complete and new.complete else "at least "
    yield words(
        f"{old.parameters:,} -> {new.parameters:,} parameters; {at_least}{amount(old.multiply_adds)} -> "
        f"{amount(new.multiply_adds)} multiply-adds{kinds}"
    )
    if verbosity > 0:
        yield _cost_table(before, after)


def _cost_table(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> Grid:
    grid = Grid(
        [
            Column("operator"),
            Column("before", number=True),
            Column("after", number=True),
            Column("parameters before", 2, number=True),
            Column("parameters after", 2, number=True),
            Column("multiply-adds before", 1, number=True),
            Column("multiply-adds after", 1, number=True),
        ]
    )
    for kind in dict.fromkeys((*before, *after)):
        old, new = before.get(kind, Cost()), after.get(kind, Cost())
        grid.add(
            kind,
            f"{old.layers:,}",
            f"{new.layers:,}",
            f"{old.parameters:,}",
            f"{new.parameters:,}",
            amount(old.multiply_adds),
            amount(new.multiply_adds),
        )
    return grid


def _layers(found: Mapping[str, Cost], kind: str) -> int:
    return found[kind].layers if kind in found else 0


def costs_of(net: Net) -> dict[str, Cost]:
    """What each type of layer of a net costs."""
    from bnfold.caffe.layers import infer_shapes

    shapes: Mapping[str, Shape | None] = net.front.shapes(net) if net.front is not None else infer_shapes(net)
    return costs(net, shapes)


def amount(number: int) -> str:
    """A large number in three figures.

    Examples:
        >>> amount(950), amount(1_534_000), amount(11_558_837_248)
        ('950', '1.53 M', '11.6 G')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def fold_tables(report: FoldReport, rows: int = ROWS) -> Iterator[Part]:
    """What folded into what, layer by layer."""
    grid = Grid([Column("layer"), Column("type", 1), Column("went into")])
    for record in report.records:
        if isinstance(record, Folded):
            grid.add(record.layer, record.type, _into(record))
        elif isinstance(record, Merged):
            grid.add(listed(record.layers), record.type, f"merged into {listed(record.into)}")
        elif isinstance(record, Joined):
            branches = f" with {listed(record.branches)}" if record.branches else ""
            grid.add(record.layer, record.type, f"joined into {listed(record.into)}{branches}")
        elif isinstance(record, Moved):
            grid.add(record.layer, record.type, f"scale and bias went forward into {listed(record.into)}")
        elif isinstance(record, Dropped):
            grid.add(record.layer, record.type, "dropped: it does nothing at inference")
        elif isinstance(record, Kept) and record.now != record.type:
            grid.add(record.layer, record.type, f"stays, as a {record.now}")
    hidden = len(grid.rows) - rows
    if hidden > 0:
        del grid.rows[rows:]
        grid.caption = f"... and {hidden:,} more; --json and --html have all"
    if grid.rows:
        yield grid


def _into(record: Folded) -> str:
    through = f" through {listed(record.through)}" if record.through else ""
    return f"{listed(record.into)}{through}{' (forward)' if record.forward else ''}"


def _proof_lines(proof: DiffReport) -> Iterator[Part]:
    """One line for a proof: the file, the data, the worst blob, the answers."""
    parts = [proof.data]
    if proof.worst is not None:
        parts.append(
            "equal bit for bit"
            if proof.worst.max_abs == 0
            else f"worst blob '{proof.worst.blob}', {small(proof.worst.max_rel)} of its range"
        )
    found = proof.classifier
    if found is not None and found.labelled:
        parts.append(f"top-1 {percent(found.reference_top1)} -> {percent(found.candidate_top1)}")
    elif found is not None:
        parts.append(f"same answer {percent(found.agreement)}")
    if proof.detector is not None:
        parts.append(f"{proof.detector.matched:,} of {count(proof.detector.reference_boxes, 'box', 'boxes')} matched")
    mark = "proved" if proof.passed else "FAILED"
    yield words(f"{mark} {proof.candidate}: {'; '.join(parts)}", "" if proof.passed else BAD)
    worse = [entry for entry in proof.ranges if entry.worse]
    if worse:
        names = listed([f"{entry.layer} (-{entry.bits_lost:.1f} bits)" for entry in worse], 3)
        yield words(f"per-tensor int8 got worse in {count(len(worse), 'layer')}: {names}", WARN)


def _failure(proof: DiffReport, rows: int) -> Iterator[Part]:
    """What went wrong: where it begins, the gates, and then the tables."""
    found = proof.first_divergent
    if found is not None:
        channel = f", channel {found.channel}" if found.channel is not None else ""
        yield words(
            f"first divergent layer: '{found.layer}'{channel} (blob '{found.blob}'): relative error "
            f"{small(found.before)} -> {small(found.after)}",
            BAD,
        )
    for gate in proof.gates:
        yield words(f"{'ok  ' if gate.passed else 'FAIL'} {gate.name}: {gate.sentence}", "" if gate.passed else BAD)
    yield from _tables(proof, rows)


def _tables(proof: DiffReport, rows: int) -> Iterator[Part]:
    yield words(f"{proof.reference} against {proof.candidate}", QUIET)
    if proof.ran:
        yield words(proof.ran, QUIET)
    if proof.blobs:
        yield _blob_table(proof, rows)
    if proof.classifier is not None:
        yield from _classifier(proof.classifier, rows)
    if proof.detector is not None:
        yield from _detector(proof.detector, rows)


def _blob_table(report: DiffReport, rows: int) -> Grid:
    """Outputs first, then the blobs that differ most."""
    from bnfold.compare.metrics import TERMINAL  # a fold that compares nothing needs none of this
    from bnfold.report.columns import cell as written
    from bnfold.report.columns import columns

    worst = sorted((blob for blob in report.blobs if not blob.is_output), key=lambda blob: -blob.max_rel)
    shown: Sequence[BlobDiff] = [*report.outputs[:rows], *worst[:rows]]
    metrics = columns(TERMINAL, shown)
    ranked = [Column(metric.heading, rank, metric.written != "place") for rank, metric in enumerate(metrics)]
    # Of the metrics, the error relative to the range decides, so it stays longest.
    ranked = [
        Column(column.heading, 0 if metric.name == "max_rel" else column.rank + 2, column.number)
        for column, metric in zip(ranked, metrics, strict=True)
    ]
    grid = Grid([Column("blob"), Column("layer", 1), *ranked])
    for blob in shown:
        style: Style = "red" if blob.max_rel > report.tolerance else "bold" if blob.is_output else ""
        grid.add(blob.blob, blob.layer, *(written(metric, blob) for metric in metrics), style=style)
    hidden = len(report.blobs) - len(shown)
    if hidden > 0:
        grid.caption = f"and {hidden:,} more blobs that differ less; --json and --html have all"
    return grid


def _classifier(found: ClassifierDiff, rows: int) -> Iterator[Part]:
    grid = Grid([Column(f"'{found.blob}'"), Column("reference", number=True), Column("candidate", number=True)])
    if found.labelled:
        grid.add("top-1", percent(found.reference_top1), percent(found.candidate_top1))
        grid.add("top-5", percent(found.reference_top5), percent(found.candidate_top5))
    same = round(found.agreement * found.samples)
    grid.add("same answer", percent(found.agreement), f"{same:,} of {found.samples:,}")
    yield grid
    if found.flips:
        grid = Grid([Column("flipped sample"), Column("label", 1), Column("reference"), Column("candidate")])
        for flip in found.flips[:rows]:
            answers = [
                f"{class_name(answer.label, found.class_names)} ({ordinary(answer.score)})"
                for answer in (flip.reference, flip.candidate)
            ]
            grid.add(flip.name, "" if flip.label is None else class_name(flip.label, found.class_names), *answers)
        if len(found.flips) > rows:
            grid.caption = f"... and {len(found.flips) - rows:,} more flipped"
        yield grid


def _detector(found: DetectorDiff, rows: int) -> Iterator[Part]:
    yield words(
        f"'{found.blob}': {found.matched:,} of {count(found.reference_boxes, 'box', 'boxes')} matched (IoU >= "
        f"{found.min_iou:g}, mean {found.mean_iou:.4f}), {found.missed_boxes:,} missed, {found.extra_boxes:,} extra, "
        f"largest difference of scores {small(found.max_score_diff)}"
    )
    strays = [*(("missed", stray) for stray in found.missed), *(("extra", stray) for stray in found.extra)]
    if strays:
        grid = Grid(
            [Column("box"), Column("sample"), Column("class", 1, True), Column("score", 0, True), Column("corners", 2)]
        )
        for kind, stray in strays[:rows]:
            corners = ", ".join(ordinary(corner) for corner in stray.box.corners)
            grid.add(kind, stray.name, str(stray.box.label), ordinary(stray.box.score), corners)
        yield grid
