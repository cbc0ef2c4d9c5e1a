"""The report for a terminal: the verdict first, then a few lines; tables where something failed, or by -v.

Names come from files and may hold anything, so every one of them goes in by `words`, which leaves nothing in it that a
terminal would obey.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.algebra.records import Dropped, Folded, FoldReport, Joined, Kept, Merged, Moved
from bnfold.errors import counted, few, listed
from bnfold.report.causes import kept_by_cause, said_once
from bnfold.report.cost import COSTS, changes
from bnfold.report.figures import answers, class_name, ordinary, percent, same_answer, small
from bnfold.report.grid import Column, Grid, Part, Style, words

if TYPE_CHECKING:
    from bnfold.compare.records import BlobDiff, ClassifierDiff, DetectorDiff, DiffReport
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
    parts: list[Part] = []
    if run.proofs:
        parts.append(words(run.verdict, GOOD if run.passed else BAD))
    elif run.fold is not None:
        parts.append(words("Folded. Nothing was compared.", WARN))
    if verbosity < 0:
        return parts
    parts += _failures(run.proofs, verbosity, rows)
    if run.fold is not None:
        parts += fold_lines(run.fold, verbosity)
        parts += _cost_table(run, verbosity)
    parts += _proof_lines(run.proofs)
    notes = [*run.all_notes, *(note for proof in run.proofs for note in proof.notes)]
    parts += [words(f"note: {note}", WARN) for note in said_once(notes)]
    if verbosity > 0:
        parts += fold_tables(run.fold, rows) if run.fold is not None else ()
        parts += (part for proof in run.proofs if proof.passed for part in _tables(proof, rows))
    if wrote := [str(path) for path in (*run.written, *files)]:
        parts.append(words(f"wrote {few(wrote, ROWS)}"))
    return parts


def _failures(proofs: Sequence[DiffReport], verbosity: int, rows: int) -> Iterator[Part]:
    """Where the error of each comparison begins that failed, and the tables of the first, by -v of all."""
    failed = [proof for proof in proofs if not (proof.passed or proof.error)]
    unlike = list({proof.verdict: proof for proof in reversed(failed)}.values())[::-1]  # one of those that fail alike
    for proof in unlike:
        yield from _beginning(proof, len(unlike) > 1)
    for proof in unlike if verbosity > 0 else unlike[:1]:
        for gate in proof.gates if verbosity > 0 else ():
            yield words(f"{'ok  ' if gate.passed else 'FAIL'} {gate.name}: {gate.sentence}", "" if gate.passed else BAD)
        yield from _tables(proof, rows)
    if len(unlike) > 1 and verbosity == 0:
        yield words(f"-v has the tables of {counted(len(unlike) - 1, 'other comparison')} that failed", QUIET)


def fold_lines(report: FoldReport, verbosity: int) -> Iterator[Part]:
    """What folded into what, and what stays and why, in a few lines."""
    if not report.records:
        yield words(f"{counted(report.layers_before, 'layer')}; there is no affine layer to fold")
        return
    folded = Counter(record.type for record in report.folded)
    merged = Counter(record.type for record in report.merged for _ in record.layers)
    dropped = Counter(record.type for record in report.records if isinstance(record, Dropped))
    into = {name for record in report.folded for name in record.into}
    joined, kept = len(report.joined), report.kept
    line = f"{report.layers_before:,} -> {counted(report.layers_after, 'layer')}"
    if folded:
        line += f"; {_by_type(folded)} into {counted(len(into), 'layer')}"
    if merged:
        line += f"; {_by_type(merged)} merged"
    if dropped:
        line += f"; {_by_type(dropped)} dropped"
    if joined:
        line += f"; {counted(joined, 'sum')} of parallel branches joined"
    now = Counter(f"{record.type} as {record.now}" for record in kept if record.now != record.type)
    yield words(f"{line}; {len(kept):,} kept{f' ({_by_type(now)})' if now else ''}")
    groups = kept_by_cause(kept)
    shown = groups if verbosity > 0 else groups[:CAUSES]
    for cause, records in shown:
        example = f" ({few([record.layer for record in records], 3 if verbosity <= 0 else 1000)})"
        yield words(f"kept {len(records):,} {records[0].type}{example}: {cause}", WARN)
    if hidden := sum(len(records) for _, records in groups[len(shown) :]):
        yield words(f"kept {hidden:,} more for {counted(len(groups) - len(shown), 'other cause')}; -v lists them", WARN)


def _by_type(numbers: Counter[str]) -> str:
    """`15 BatchNorm, 14 Scale and 2 Bias`."""
    return listed([f"{number:,} {layer_type}" for layer_type, number in numbers.most_common()])


def _cost_table(run: RunReport, verbosity: int) -> Iterator[Grid]:
    operator, *figures = COSTS
    grid = Grid([Column(operator), *(Column(heading, rank, number=True) for rank, heading in enumerate(figures))])
    for cells in changes(run, every=verbosity > 0):
        grid.add(*cells, style="bold" if cells[0] == "all" else "")
    if grid.rows:
        yield grid


def fold_tables(report: FoldReport, rows: int) -> Iterator[Part]:
    """What folded into what, layer by layer."""
    grid = Grid([Column("layer"), Column("type", 1), Column("went into")])
    for record in report.records:
        if isinstance(record, Folded):
            grid.add(record.layer, record.type, _into(record))
        elif isinstance(record, Merged):
            grid.add(few(record.layers), record.type, f"merged into {few(record.into)}")
        elif isinstance(record, Joined):
            branches = f" with {few(record.branches)}" if record.branches else ""
            grid.add(record.layer, record.type, f"joined into {few(record.into)}{branches}")
        elif isinstance(record, Moved):
            grid.add(record.layer, record.type, f"scale and bias went forward into {few(record.into)}")
        elif isinstance(record, Dropped):
            grid.add(record.layer, record.type, "dropped: it does nothing at inference")
        elif isinstance(record, Kept) and record.now != record.type:
            grid.add(record.layer, record.type, f"stays, as a {record.now}")
    hidden = len(grid.rows) - rows
    del grid.rows[rows:]
    if grid.rows:
        yield grid
    if hidden > 0:
        yield words(f"... and {hidden:,} more; --json and --html have all", QUIET)


def _into(record: Folded) -> str:
    through = f" through {few(record.through)}" if record.through else ""
    return f"{few(record.into)}{through}{' (forward)' if record.forward else ''}"


def _proof_lines(proofs: Sequence[DiffReport]) -> Iterator[Part]:
    """A line for each proof: the files, the data, the worst blob, the answers. What is true of several is said once."""
    files: dict[tuple[bool, str, str], list[str]] = {}
    for proof in proofs:
        if not proof.equal or len(proofs) > 1:  # of a single one the verdict has said so
            files.setdefault((proof.passed, proof.data, _found(proof)), []).append(proof.candidate)
    last_data = ""
    for (passed, data, found), candidates in files.items():
        shown_data = "the same data" if data == last_data else data
        last_data = data
        mark = "proved" if passed else "FAILED"
        yield words(f"{mark} {few(candidates)}: {shown_data}{found}", "" if passed else BAD)
    for names in dict.fromkeys(_worse(proof) for proof in proofs):
        if names:
            layers = f"{counted(len(names), 'layer')}; quantise them per channel"
            yield words(f"per-tensor int8 is less precise than for the reference in {layers}: {few(names, 3)}", WARN)


def _worse(proof: DiffReport) -> tuple[str, ...]:
    return tuple(f"{entry.layer} (-{entry.bits_lost:.1f} bits)" for entry in proof.ranges if entry.worse)


def _found(proof: DiffReport) -> str:
    """The worst blob and the answers."""
    text = ""
    if proof.worst is not None and proof.worst.max_abs == 0:
        text = "; equal bit for bit" if proof.passed else ""
    elif proof.worst is not None:
        rounded = ", by rounding alone" if proof.passed and proof.worst.blob in proof.as_exact else ""
        text = f"; worst blob '{proof.worst.blob}', {small(proof.worst.judged)} of its range{rounded}"
    found, boxes = proof.classifier, proof.detector
    if found is not None and found.labelled:
        text += f"; top-1 {percent(found.reference_top1)} -> {percent(found.candidate_top1)}"
    elif found is not None:
        text += f"; same answer {same_answer(found)}"
    if boxes is not None:
        text += f"; {boxes.matched:,} of {counted(boxes.reference_boxes, 'box')} matched"
    return text


def _beginning(proof: DiffReport, named: bool) -> Iterator[Part]:
    """Where the error begins."""
    found = proof.first_divergent
    if found is not None:
        channel = f", channel {found.channel}" if found.channel is not None else ""
        yield words(
            f"first divergent layer{f' of {proof.candidate}' if named else ''}: '{found.layer}'{channel} (blob "
            f"'{found.blob}'): relative error {small(found.before)} -> {small(found.after)}{found.lost}",
            BAD,
        )


def _tables(proof: DiffReport, rows: int) -> Iterator[Part]:
    yield words(f"{proof.reference} against {proof.candidate}", QUIET)
    if proof.ran:
        yield words(proof.ran, QUIET)
    if proof.blobs:
        yield from _blob_table(proof, rows)
    if proof.classifier is not None:
        yield from _classifier(proof.classifier, rows)
    if proof.detector is not None:
        yield from _detector(proof.detector, rows)


def _blob_table(report: DiffReport, rows: int) -> Iterator[Part]:
    """Outputs first, then the blobs that differ most."""
    from bnfold.compare.metrics import TERMINAL  # a fold that compares nothing needs none of this
    from bnfold.report.columns import cell as written
    from bnfold.report.columns import columns

    shown: Sequence[BlobDiff] = [*report.outputs[:rows], *report.intermediate[:rows]]
    metrics = columns(TERMINAL, shown)
    # Of the metrics, the error relative to the range decides, so it stays longest.
    ranked = [
        Column(metric.heading, 0 if metric.name == "judged" else rank + 2, metric.written != "place")
        for rank, metric in enumerate(metrics)
    ]
    grid = Grid([Column("blob"), Column("layer", 1), *ranked])
    for blob in shown:
        style: Style = "red" if blob.judged > report.tolerance else "bold" if blob.is_output else ""
        grid.add(blob.blob, blob.layer, *(written(metric, blob) for metric in metrics), style=style)
    yield grid
    hidden = len(report.blobs) - len(shown)
    if hidden > 0:
        yield words(f"and {hidden:,} more blobs that differ less; --json and --html have all", QUIET)


def _classifier(found: ClassifierDiff, rows: int) -> Iterator[Part]:
    grid = Grid([Column(f"'{found.blob}'"), Column("reference", number=True), Column("candidate", number=True)])
    for cells in answers(found):
        grid.add(*cells)
    yield grid
    if found.flips:
        grid = Grid([Column("flipped sample"), Column("label", 1), Column("reference"), Column("candidate")])
        for flip in found.flips[:rows]:
            both = [
                f"{class_name(answer.label, found.class_names)} ({ordinary(answer.score)})"
                for answer in (flip.reference, flip.candidate)
            ]
            grid.add(flip.name, "" if flip.label is None else class_name(flip.label, found.class_names), *both)
        yield grid
        if found.flipped > rows:
            yield words(f"... and {found.flipped - rows:,} more flipped", QUIET)


def _detector(found: DetectorDiff, rows: int) -> Iterator[Part]:
    yield words(
        f"'{found.blob}': {found.matched:,} of {counted(found.reference_boxes, 'box')} matched (IoU >= "
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
