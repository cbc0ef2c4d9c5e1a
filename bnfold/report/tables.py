"""The tables of the page as records: columns that hold nothing are left out and named, numbers know how they sort."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bnfold.compare.metrics import PAGE, Metric
from bnfold.compare.records import BlobDiff, ClassifierDiff, DetectorDiff, DiffReport, LayerRange, SampleDiff
from bnfold.net import sizes
from bnfold.report import columns, figures
from bnfold.report.figures import bits, near_one, ordinary, small
from bnfold.report.picture import ROLES, Fate

NAME, TEXT, NUMBER, SENTENCE = "name", "t", "n", "why"
"""Kinds of column, as CSS classes: the name of the row, a word, a number, a sentence."""


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


def table(name: str, caption: str, columns: Sequence[tuple[str, str]], rows: Iterable[Row]) -> Table:
    """A table without its empty columns.

    Args:
        name: its id in the page; also what a browser remembers its sorting under.
        caption: what it shows, for those who hear the page.
        columns: (heading, kind) of each.
        rows: with a cell for each column.
    """
    filled = list(rows)
    shown = [
        place
        for place, (_, kind) in enumerate(columns)
        if kind == NAME or not filled or any(row.cells[place].text for row in filled)
    ]
    left_out = tuple(heading for place, (heading, _) in enumerate(columns) if place not in shown)
    kept = [Row([row.cells[place] for place in shown], row.anchor, row.style) for row in filled]
    return Table(name, caption, [columns[place] for place in shown], kept, left_out)


def layer_table(fates: Sequence[Fate], errors: dict[str, tuple[float, str]]) -> Table:
    """What became of every layer.

    Args:
        fates: one record per layer of the original network.
        errors: layer -> the largest error of its blobs relative to their range, and where the page tells of it.
    """

    def row(fate: Fate) -> Row:
        error, href = errors.get(fate.name, (None, ""))
        return Row(
            [
                Cell(fate.name or "(no name)", href=f"#node-{fate.row}"),
                Cell(str(fate.row), fate.row),
                Cell(fate.type),
                Cell(ROLES[fate.role]),
                Cell(", ".join(fate.into)),
                Cell(", ".join(fate.through)),
                Cell(fate.reason),
                Cell(small(error), error if error is not None else math.nan, href),
            ],
            f"layer-{fate.row}",
            fate.role,
        )

    headings = [
        ("layer", NAME),
        ("number", NUMBER),
        ("type", TEXT),
        ("what became of it", TEXT),
        ("into", SENTENCE),
        ("through", SENTENCE),
        ("why", SENTENCE),
        ("error of its blob", NUMBER),
    ]
    return table("layers", "what became of every layer", headings, map(row, fates))


def blob_table(report: DiffReport, name: str, nodes: dict[str, str]) -> Table:
    """Every compared blob; `nodes` says where the picture of the network shows a layer."""
    metrics = columns.offered(PAGE)

    def row(place: int, blob: BlobDiff) -> Row:
        partner = f" = {blob.partner}" if blob.partner != blob.blob else ""
        cells = [
            Cell(blob.blob + partner),
            Cell(str(blob.depth), blob.depth),
            Cell(blob.layer, href=nodes.get(blob.layer, "")),
            Cell(blob.type),
            Cell(sizes(blob.shape)),
            *(_measured(metric, blob) for metric in metrics),
        ]
        beyond = "beyond" if blob.max_rel > report.tolerance else ""
        return Row(cells, f"{name}-{place}", f"{'output' if blob.is_output else ''} {beyond}".strip())

    headings = [
        ("blob", NAME),
        ("depth", NUMBER),
        ("layer", TEXT),
        ("type", TEXT),
        ("shape", TEXT),
        *((metric.heading, TEXT if metric.written == "place" else NUMBER) for metric in metrics),
    ]
    rows = (row(place, blob) for place, blob in enumerate(report.blobs))
    return table(name, "compared blobs", headings, rows)


def sample_table(samples: Sequence[SampleDiff], name: str) -> Table:
    """The samples that differ most."""

    def row(sample: SampleDiff) -> Row:
        return Row(
            [
                Cell(sample.name),
                Cell(str(sample.sample), sample.sample),
                Cell(sample.blob),
                Cell(small(sample.max_abs), sample.max_abs),
                Cell(small(sample.max_rel), sample.max_rel),
                Cell(small(sample.l2_rel), sample.l2_rel),
                Cell(near_one(sample.cosine), sample.cosine),
            ]
        )

    headings = [
        ("sample", NAME),
        ("number", NUMBER),
        ("output", TEXT),
        ("max |e|", NUMBER),
        ("of its range", NUMBER),
        ("rel. L2", NUMBER),
        ("cosine", NUMBER),
    ]
    return table(name, "samples", headings, map(row, samples))


def flip_table(found: ClassifierDiff, name: str) -> Table:
    """The samples that get another answer."""
    headings = [
        ("sample", NAME),
        ("true", TEXT),
        ("reference", TEXT),
        ("score", NUMBER),
        ("candidate", TEXT),
        ("its score", NUMBER),
    ]
    rows = (
        Row(
            [
                Cell(flip.name),
                Cell("" if flip.label is None else figures.class_name(flip.label, found.class_names)),
                Cell(figures.class_name(flip.reference.label, found.class_names)),
                Cell(ordinary(flip.reference.score), flip.reference.score),
                Cell(figures.class_name(flip.candidate.label, found.class_names)),
                Cell(ordinary(flip.candidate.score), flip.candidate.score),
            ]
        )
        for flip in found.flips
    )
    return table(name, "samples with another answer", headings, rows)


def box_table(found: DetectorDiff, name: str, most: int) -> Table:
    """Boxes without a partner, at most so many of each side."""
    headings = [("sample", NAME), ("", TEXT), ("class", NUMBER), ("score", NUMBER), ("corners", TEXT)]
    rows = (
        Row(
            [
                Cell(stray.name),
                Cell(kind),
                Cell(str(stray.box.label), stray.box.label),
                Cell(ordinary(stray.box.score), stray.box.score),
                Cell(", ".join(map(ordinary, stray.box.corners))),
            ]
        )
        for kind, strays in (("missed", found.missed), ("extra", found.extra))
        for stray in strays[:most]
    )
    return table(name, "boxes without a partner", headings, rows)


def range_table(ranges: Sequence[LayerRange], name: str) -> Table:
    """What one int8 step per tensor would lose, by layer."""
    headings = [
        ("layer", NAME),
        ("ratio before", NUMBER),
        ("ratio after", NUMBER),
        ("bits lost", NUMBER),
        ("activations before", NUMBER),
        ("activations after", NUMBER),
    ]
    rows = (
        Row(
            [
                Cell(entry.layer),
                Cell(ordinary(entry.ratio_before), entry.ratio_before),
                Cell(ordinary(entry.ratio_after), entry.ratio_after),
                Cell(bits(entry.bits_lost), entry.bits_lost),
                _optional(ordinary(entry.activation_before), entry.activation_before),
                _optional(ordinary(entry.activation_after), entry.activation_after),
            ],
            style="beyond" if entry.worse else "",
        )
        for entry in ranges
    )
    return table(name, "ranges of weights and activations", headings, rows)


def _measured(metric: Metric, blob: BlobDiff) -> Cell:
    value = blob.figures[metric.name]
    text = columns.cell(metric, blob)
    if metric.written == "place":
        return Cell(text)
    # What is seldom and says nothing here is left empty, so that a column without any falls away.
    return Cell("" if metric.seldom and not value else text, math.nan if value is None else float(value))


def _optional(text: str, value: float | None) -> Cell:
    return Cell(text, math.nan if value is None else value)
