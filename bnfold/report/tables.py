"""The tables of the page as records: columns that hold nothing are left out and named, numbers know how they sort."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bnfold.compare.metrics import PAGE, Metric
from bnfold.compare.records import (
    BlobDiff,
    ClassifierDiff,
    DetectorDiff,
    DiffReport,
    Flip,
    LayerRange,
    SampleDiff,
    Stray,
)
from bnfold.net import sizes
from bnfold.report import columns, figures
from bnfold.report.figures import bits, near_one, ordinary, small
from bnfold.report.picture import ROLES, Outcome

NAME, TEXT, NUMBER, SENTENCE = "name", "t", "n", "why"
"""Kinds of column, as CSS classes: the name of the row, a word, a number, a sentence."""

Record = TypeVar("Record")
Number = TypeVar("Number", bound=float | None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what it says, the number that it sorts by (a word sorts by itself), and where it leads."""

    text: str
    value: float | None = None
    href: str = ""

    @property
    def sort_key(self) -> str:
        """The number as JavaScript's `Number` reads it; what is none sorts last. Empty for a word."""
        if self.value is None:
            return ""
        if math.isnan(self.value):
            return "-Infinity"
        return repr(self.value) if math.isfinite(self.value) else "Infinity" if self.value > 0 else "-Infinity"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `anchor` is its id in the page, `style` its CSS class."""

    cells: Sequence[Cell]
    anchor: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that sorts and filters; `left_out` are the headings of columns that hold nothing."""

    name: str
    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageColumn(Generic[Record]):
    """A heading, its kind, and what a record has below it."""

    heading: str
    kind: str
    cell: Callable[[Record], Cell]


def word(
    heading: str, text: Callable[[Record], str], kind: str = TEXT, href: Callable[[Record], str] = lambda _: ""
) -> PageColumn[Record]:
    """A column of words, each of which may lead somewhere."""
    return PageColumn(heading, kind, lambda record: Cell(text(record), href=href(record)))


def number(
    heading: str, value: Callable[[Record], Number], written: Callable[[Number], str] = str
) -> PageColumn[Record]:
    """A column of numbers; one that is not known is written as `written` does and sorts last."""

    def cell(record: Record) -> Cell:
        found = value(record)
        return Cell(written(found), math.nan if found is None else found)

    return PageColumn(heading, NUMBER, cell)


def table(
    name: str,
    caption: str,
    columns: Sequence[PageColumn[Record]],
    records: Iterable[Record],
    anchor: str = "",
    style: Callable[[Record], str] = lambda _: "",
) -> Table:
    """A table without its empty columns.

    Args:
        name: its id in the page; also what a browser remembers its sorting under.
        caption: what it shows, for those who hear the page.
        columns: from left to right.
        records: one for each row.
        anchor: what the ids of its rows begin with, before their numbers; they have none without.
        style: the CSS class of a row.
    """
    rows = [
        Row([column.cell(record) for column in columns], anchor and f"{anchor}-{place}", style(record))
        for place, record in enumerate(records)
    ]
    shown = [
        place
        for place, column in enumerate(columns)
        if column.kind == NAME or not rows or any(row.cells[place].text for row in rows)
    ]
    left_out = tuple(column.heading for place, column in enumerate(columns) if place not in shown)
    kept = [Row([row.cells[place] for place in shown], row.anchor, row.style) for row in rows]
    return Table(name, caption, [(columns[place].heading, columns[place].kind) for place in shown], kept, left_out)


def layer_table(outcomes: Sequence[Outcome], errors: dict[str, tuple[float, str]]) -> Table:
    """What became of every layer.

    Args:
        outcomes: one record per layer of the original network.
        errors: layer -> the largest error of its blobs relative to their range, and where the page tells of it.
    """

    def error(outcome: Outcome) -> Cell:
        value, href = errors.get(outcome.name, (None, ""))
        return Cell(small(value), math.nan if value is None else value, href)

    columns: list[PageColumn[Outcome]] = [
        word("layer", lambda outcome: outcome.name or "(no name)", NAME, lambda outcome: f"#node-{outcome.row}"),
        number("number", lambda outcome: outcome.row),
        word("type", lambda outcome: outcome.type),
        word("what became of it", lambda outcome: ROLES[outcome.role]),
        word("into", lambda outcome: ", ".join(outcome.into), SENTENCE),
        word("through", lambda outcome: ", ".join(outcome.through), SENTENCE),
        word("why", lambda outcome: outcome.reason, SENTENCE),
        PageColumn("error of its blob", NUMBER, error),
    ]
    return table("layers", "what became of every layer", columns, outcomes, "layer", lambda outcome: outcome.role)


def blob_table(report: DiffReport, name: str, nodes: dict[str, str]) -> Table:
    """Every compared blob; `nodes` says where the picture of the network shows a layer."""

    def style(blob: BlobDiff) -> str:
        beyond = "beyond" if blob.judged > report.tolerance else ""
        return f"{'output' if blob.is_output else ''} {beyond}".strip()

    shown: list[PageColumn[BlobDiff]] = [
        word("blob", lambda blob: blob.blob + (f" = {blob.partner}" if blob.partner != blob.blob else ""), NAME),
        number("depth", lambda blob: blob.depth),
        word("layer", lambda blob: blob.layer, href=lambda blob: nodes.get(blob.layer, "")),
        word("type", lambda blob: blob.type),
        word("shape", lambda blob: sizes(blob.shape)),
        *map(_measured, columns.offered(PAGE)),
    ]
    return table(name, "compared blobs", shown, report.blobs, name, style)


def _measured(metric: Metric) -> PageColumn[BlobDiff]:
    if metric.written == "place":
        return word(metric.heading, lambda blob: columns.cell(metric, blob))

    def cell(blob: BlobDiff) -> Cell:
        value = blob.figures[metric.name]
        # What is seldom and says nothing here is left empty, so that a column without any falls away.
        text = "" if metric.seldom and not value else columns.cell(metric, blob)
        return Cell(text, math.nan if value is None else float(value))

    return PageColumn(metric.heading, NUMBER, cell)


def sample_table(samples: Sequence[SampleDiff], name: str) -> Table:
    """The samples that differ most, with the number of each where that is not its name."""

    def beside_name(sample: SampleDiff) -> int | None:
        return None if sample.name == str(sample.sample) else sample.sample

    columns: list[PageColumn[SampleDiff]] = [
        word("sample", lambda sample: sample.name, NAME),
        number("number", beside_name, lambda number: "" if number is None else str(number)),
        word("output", lambda sample: sample.blob),
        number("max abs", lambda sample: sample.max_abs, small),
        number("of range", lambda sample: sample.max_rel, small),
        number("rel. L2", lambda sample: sample.l2_rel, small),
        number("cosine", lambda sample: sample.cosine, near_one),
    ]
    return table(name, "samples", columns, samples)


def flip_table(found: ClassifierDiff, name: str) -> Table:
    """The samples that get another answer."""

    def called(label: int | None) -> str:
        return "" if label is None else figures.class_name(label, found.class_names)

    columns: list[PageColumn[Flip]] = [
        word("sample", lambda flip: flip.name, NAME),
        word("label", lambda flip: called(flip.label)),
        word("reference", lambda flip: called(flip.reference.label)),
        number("score", lambda flip: flip.reference.score, ordinary),
        word("candidate", lambda flip: called(flip.candidate.label)),
        number("its score", lambda flip: flip.candidate.score, ordinary),
    ]
    return table(name, "samples with another answer", columns, found.flips)


def box_table(found: DetectorDiff, name: str) -> Table:
    """Boxes without a partner."""
    strays = [("missed", stray) for stray in found.missed] + [("extra", stray) for stray in found.extra]
    columns: list[PageColumn[tuple[str, Stray]]] = [
        word("sample", lambda row: row[1].name, NAME),
        word("", lambda row: row[0]),
        number("class", lambda row: row[1].box.label),
        number("score", lambda row: row[1].box.score, ordinary),
        word("corners", lambda row: ", ".join(map(ordinary, row[1].box.corners))),
    ]
    return table(name, "boxes without a partner", columns, strays)


def range_table(ranges: Sequence[LayerRange], name: str) -> Table:
    """What one int8 step per tensor would lose, by layer."""
    columns: list[PageColumn[LayerRange]] = [
        word("layer", lambda entry: entry.layer, NAME),
        number("ratio before", lambda entry: entry.ratio_before, ordinary),
        number("ratio after", lambda entry: entry.ratio_after, ordinary),
        number("bits lost", lambda entry: entry.bits_lost, bits),
        number("top's range before", lambda entry: entry.activation_before, ordinary),
        number("top's range after", lambda entry: entry.activation_after, ordinary),
    ]
    caption = "ranges of weights and activations"
    return table(name, caption, columns, ranges, style=lambda entry: "beyond" if entry.worse else "")
