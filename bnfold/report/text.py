"""The report for a terminal, with rich.

Names come from files and may hold anything, so every one of them goes in by `words`, as text that knows no markup and
has nothing in it that a terminal would obey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bnfold.algebra.records import Dropped, Folded, FoldReport, Joined, Kept, Merged
from bnfold.compare.metrics import TERMINAL
from bnfold.report.columns import cell as written
from bnfold.report.columns import columns
from bnfold.report.figures import count, ordinary, percent, small
from bnfold.report.figures import names as listed
from bnfold.report.words import visible

if TYPE_CHECKING:
    from bnfold.compare.records import BlobDiff, ClassifierDiff, DetectorDiff, DiffReport, RunReport

ROWS = 12  # of a table, before it refers to the other renderings
GOOD, BAD, QUIET = "bold green", "bold red", "dim"


def words(text: str, style: str = "") -> Text:
    """Text in which what is not to be seen is written out."""
    return Text(visible(text), style)


def cell(text: str, style: str = "") -> Text:
    """Text of a table, in one line."""
    return words(text.replace("\n", "\\n"), style)


def as_text(run: RunReport, *, rows: int = ROWS) -> RenderableType:
    """The whole run as one renderable, for `rich.console.Console.print`.

    Args:
        run: what a run did and found.
        rows: how many folded layers and blobs to list at most.
    """
    parts: list[RenderableType] = []
    if run.fold is not None:
        parts += fold_text(run.fold, rows)
    for proof in run.proofs:
        parts += diff_text(proof, rows)
    parts += [words(f"note: {note}", style="yellow") for note in run.notes]
    parts += [words(f"wrote {path}") for path in run.written]
    return Group(*parts)


def fold_text(report: FoldReport, rows: int = ROWS) -> Iterator[RenderableType]:
    """What folded into what, what stayed and why, and what that saves."""
    gone: list[tuple[str, str, str]] = []
    for record in report.records:
        if isinstance(record, Folded):
            gone.append((record.layer, record.type, _into(record)))
        elif isinstance(record, Merged):
            gone.append((listed(record.layers), record.type, f"merged into {listed(record.into)}"))
        elif isinstance(record, Joined):
            branches = f" with {listed(record.branches)}" if record.branches else ""
            gone.append((record.layer, record.type, f"joined into {listed(record.into)}{branches}"))
        elif isinstance(record, Dropped):
            gone.append((record.layer, record.type, "dropped: it does nothing at inference"))
    if gone:
        table = _table("layer", "type", "went into")
        for row in gone[:rows]:
            table.add_row(*map(cell, row))
        yield table
    if len(gone) > rows:
        yield words(f"... and {len(gone) - rows:,} more", style=QUIET)
    yield from _kept(list(report.kept), rows)
    if joined := list(report.joined):
        yield words(f"{count(len(joined), 'sum')} of parallel branches became one convolution each")
    if not report.records:
        yield words("there is no affine layer to fold")
    yield words(
        f"{report.layers_before:,} -> {count(report.layers_after, 'layer')}, "
        f"{report.parameters_before:,} -> {count(report.parameters_after, 'parameter')}"
    )
    yield from (words(f"note: {note}", style="yellow") for note in report.notes)


def _kept(records: Sequence[Kept], rows: int) -> Iterator[RenderableType]:
    """What stays, the layers with one reason in one row."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in records:
        kind = record.type if record.now == record.type else f"{record.type}, now {record.now}"
        groups.setdefault((kind, record.reason), []).append(record.layer)
    if not groups:
        return
    table = _table("kept", "type", "why")
    for (kind, reason), layers in list(groups.items())[:rows]:
        table.add_row(cell(listed(layers, 3)), cell(kind), cell(reason))
    yield table
    hidden = sum(len(layers) for layers in list(groups.values())[rows:])
    if hidden:
        yield words(f"... and {hidden:,} more that stay; --json and --html have all", style=QUIET)


def _into(record: Folded) -> str:
    through = f" through {listed(record.through)}" if record.through else ""
    return f"{listed(record.into)}{through}{' (forward)' if record.forward else ''}"


def diff_text(report: DiffReport, rows: int = ROWS) -> Iterator[RenderableType]:
    """One comparison: the outputs, the blobs that differ most, the answers, and the verdict last."""
    yield words(f"{report.reference} against {report.candidate}: {report.data}", style=QUIET)
    if report.ran:
        yield words(report.ran, style=QUIET)
    yield _blob_table(report, rows)
    if report.classifier is not None:
        yield from _classifier(report.classifier, rows)
    if report.detector is not None:
        yield from _detector(report.detector, rows)
    if report.first_divergent is not None:
        found = report.first_divergent
        channel = f", channel {found.channel}" if found.channel is not None else ""
        yield words(
            f"first out of line: layer '{found.layer}'{channel} (blob '{found.blob}'): relative error "
            f"{small(found.before)} -> {small(found.after)}",
            style="yellow",
        )
    worse = [entry for entry in report.ranges if entry.worse]
    if worse:
        names = listed([f"{entry.layer} (-{entry.bits_lost:.1f} bits)" for entry in worse])
        yield words(f"per-tensor int8 got worse in {count(len(worse), 'layer')}: {names}", style="yellow")
    yield from (words(f"note: {note}", style="yellow") for note in report.notes)
    for gate in report.gates:
        yield words(
            f"{'ok  ' if gate.passed else 'FAIL'} {gate.name}: {gate.sentence}", style="" if gate.passed else BAD
        )
    yield words(report.verdict, style=GOOD if report.passed else BAD)


def _blob_table(report: DiffReport, rows: int) -> Table:
    worst = sorted((blob for blob in report.blobs if not blob.is_output), key=lambda blob: -blob.max_rel)
    shown: Sequence[BlobDiff] = [*report.outputs, *worst[:rows]]
    metrics = columns(TERMINAL, shown)
    table = _table("blob", "layer", *(metric.heading for metric in metrics), left=2)
    for blob in shown:
        table.add_row(
            cell(blob.blob, "bold" if blob.is_output else ""),
            cell(blob.layer),
            *(cell(written(metric, blob)) for metric in metrics),
            style="red" if blob.max_rel > report.tolerance else "",
        )
    hidden = len(worst) - rows
    if hidden > 0:
        table.caption = f"and {hidden:,} more blobs that differ less; --json and --html have all"
    return table


def _classifier(found: ClassifierDiff, rows: int) -> Iterator[RenderableType]:
    table = _table(f"'{found.blob}'", "reference", "candidate")
    if found.labelled:
        table.add_row("top-1", percent(found.reference_top1), percent(found.candidate_top1))
        table.add_row("top-5", percent(found.reference_top5), percent(found.candidate_top5))
    same = round(found.agreement * found.samples)
    table.add_row("same answer", f"{percent(found.agreement)}", f"{same:,} of {found.samples:,}")
    yield table
    if found.flips:
        table = _table("flipped sample", "label", "reference", "candidate")
        for flip in found.flips[:rows]:
            answers = [
                f"{_class(answer.label, found.class_names)} ({ordinary(answer.score)})"
                for answer in (flip.reference, flip.candidate)
            ]
            label = "" if flip.label is None else _class(flip.label, found.class_names)
            table.add_row(cell(flip.name), cell(label), *map(cell, answers))
        yield table
    if found.flipped > rows:
        yield words(f"... and {found.flipped - rows:,} more flipped", style=QUIET)


def _class(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


def _detector(found: DetectorDiff, rows: int) -> Iterator[RenderableType]:
    yield words(
        f"'{found.blob}': {found.matched:,} of {count(found.reference_boxes, 'box', 'boxes')} matched (IoU >= "
        f"{found.min_iou:g}, mean {found.mean_iou:.4f}), {found.missed_boxes:,} missed, {found.extra_boxes:,} extra, "
        f"largest difference of scores {small(found.max_score_diff)}"
    )
    strays = [*(("missed", stray) for stray in found.missed), *(("extra", stray) for stray in found.extra)]
    if strays:
        table = _table("box", "sample", "class", "score", "corners")
        for kind, stray in strays[:rows]:
            corners = ", ".join(ordinary(corner) for corner in stray.box.corners)
            table.add_row(kind, cell(stray.name), str(stray.box.label), ordinary(stray.box.score), corners)
        yield table


def _table(*columns: str, left: int = 9) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", caption_justify="left")
    for place, column in enumerate(columns):
        table.add_column(words(column), justify="left" if place < left else "right", overflow="fold")
    return table


def plain(renderables: Iterable[RenderableType], width: int = 120) -> str:
    """As a string without colours, for files and tests."""
    import io

    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, highlight=False, markup=False)
    for renderable in renderables:
        console.print(renderable)
    return stream.getvalue()
