"""The report for a pull request: the verdict, the gates, and short tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bnfold.algebra.records import FoldReport
from bnfold.compare.metrics import MARKDOWN
from bnfold.compare.records import ClassifierDiff, DiffReport
from bnfold.errors import counted, few
from bnfold.report.causes import kept_by_cause, said_once
from bnfold.report.columns import cell, columns
from bnfold.report.cost import COSTS, changes
from bnfold.report.figures import answers, bits, ordinary, same_answer, small
from bnfold.report.run import RunReport
from bnfold.report.words import visible

ROWS = 10
SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#!|~&$])")
MENTION = re.compile(r"(?<!\w)@(?=\w)")


def as_markdown(run: RunReport, *, rows: int = ROWS) -> str:
    """The whole run, short: of each table so many rows at most."""
    mark = "✅" if run.passed else "❌"
    lines = [f"### {mark} bnfold: {escape(run.verdict)}" if run.proofs else "### bnfold", ""]
    if run.fold is not None:
        lines += fold_markdown(run.fold, rows)
    if costs := changes(run):
        lines += _table(COSTS, [[cell.replace("->", "→") for cell in cells] for cells in costs], left=1)
    if len(run.proofs) > 1 and run.fold is None:
        lines += _over_all(run.proofs)
    for proof in run.proofs:
        lines += diff_markdown(proof, rows)
    lines += [f"> {escape(note)}\n" for note in said_once(run.all_notes)]
    return "\n".join(lines).rstrip() + "\n"


def fold_markdown(report: FoldReport, rows: int) -> Iterator[str]:
    """What folding saved, and what it left and why."""
    joined = f", {counted(len(report.joined), 'sum')} of branches joined" if report.joined else ""
    folded, merged = len(report.folded), sum(len(record.layers) for record in report.merged)
    yield (
        f"**{report.layers_before:,} → {counted(report.layers_after, 'layer')}**, {report.parameters_before:,} → "
        f"{counted(report.parameters_after, 'parameter')}; {folded:,} folded, {merged:,} merged{joined}, "
        f"{len(report.kept):,} kept.\n"
    )
    groups = kept_by_cause(report.kept)
    if groups:
        shown = [(few([k.layer for k in kept], 3), kept[0].type, why) for why, kept in groups[:rows]]
        yield from _table(("kept", "type", "why"), shown, left=3)
        yield from _more(sum(len(kept) for _, kept in groups[rows:]))


def _over_all(proofs: Sequence[DiffReport]) -> Iterator[str]:
    """One line for each of many pairs of models."""
    rows = [
        (
            "✅" if proof.passed else "❌",
            proof.reference,
            proof.candidate,
            proof.error if proof.worst is None else proof.worst.blob,
            "" if proof.worst is None else small(proof.worst.judged),
            "" if proof.classifier is None else same_answer(proof.classifier),
        )
        for proof in proofs
    ]
    yield from _table(("", "reference", "candidate", "worst blob", "of range", "same answer"), rows, left=4)


def diff_markdown(report: DiffReport, rows: int) -> Iterator[str]:
    """One comparison."""
    data = f"{escape(report.data)}. {escape(report.ran)}".rstrip()
    yield f"`{_code(report.reference)}` against `{_code(report.candidate)}`: {data}\n"
    for gate in report.gates:
        yield f"- {'✅' if gate.passed else '❌'} **{gate.name}**: {escape(gate.sentence)}"
    yield ""
    if report.first_divergent is not None:
        first = report.first_divergent
        channel = f", channel {first.channel}" if first.channel is not None else ""
        growth = f"relative error {small(first.before)} → {small(first.after)}"
        yield f"First divergent layer: **{escape(first.layer)}**{channel} ({growth}){escape(first.lost)}.\n"
    if report.classifier is not None:
        yield from _classifier(report.classifier, rows)
    if report.detector is not None:
        found = report.detector
        yield (
            f"Boxes: {found.matched:,} of {found.reference_boxes:,} matched, {found.missed_boxes:,} missed, "
            f"{found.extra_boxes:,} extra.\n"
        )
    shown = [*report.outputs, *report.intermediate[: max(rows - len(report.outputs), 0)]]
    if shown:
        metrics = columns(MARKDOWN, shown)
        head = ("blob", "layer", *(metric.heading for metric in metrics))
        cells = [(blob.blob, blob.layer, *(cell(metric, blob) for metric in metrics)) for blob in shown]
        yield from _table(head, cells, left=2)
    yield from _more(len(report.blobs) - len(shown))
    worse = [entry for entry in report.ranges if entry.worse]
    if worse:
        names = few([f"{entry.layer} (-{bits(entry.bits_lost)} bits)" for entry in worse])
        layers = f"{counted(len(worse), 'layer')}; quantise them per channel"
        yield f"⚠️ Per-tensor int8 is less precise than for the reference in {layers}: {escape(names)}.\n"
    yield from (f"> {escape(note)}\n" for note in said_once(report.notes))


def _classifier(found: ClassifierDiff, rows: int) -> Iterator[str]:
    yield from _table((found.blob, "reference", "candidate"), answers(found), left=1)
    if found.flips:
        flips = [
            (
                flip.name,
                "" if flip.label is None else str(flip.label),
                f"{flip.reference.label} ({ordinary(flip.reference.score)})",
                f"{flip.candidate.label} ({ordinary(flip.candidate.score)})",
            )
            for flip in found.flips[:rows]
        ]
        yield from _table(("flipped sample", "label", "reference", "candidate"), flips, left=4)
        yield from _more(found.flipped - min(rows, len(found.flips)))


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, and that mentions nobody.

    Examples:
        >>> escape("a_b <c> |d|")
        'a\\\\_b \\\\<c\\\\> \\\\|d\\\\|'
    """
    # GitHub looks for mentions after unescaping, so only an invisible space between @ and the name helps.
    return MENTION.sub("@\u200b", SPECIAL.sub(r"\\\1", visible(" ".join(text.split()))))


def _code(text: str) -> str:
    return visible(" ".join(text.split())).replace("`", "'")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> Iterator[str]:
    yield f"| {' | '.join(map(escape, head))} |"
    yield f"|{'|'.join(':--' if place < left else '--:' for place in range(len(head)))}|"
    yield from (f"| {' | '.join(map(escape, row))} |" for row in rows)
    yield ""


def _more(number: int) -> Iterator[str]:
    if number > 0:
        yield f"... and {number:,} more.\n"
