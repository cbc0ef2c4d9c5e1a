"""The rows of the page's and the terminal's tables: what is beyond the tolerance, what leads where, what is empty."""

import math
from dataclasses import replace

import pytest
from present import present
from report.runs import failed, folding, run_report

from bnfold.algebra.records import Joined, Moved, Record
from bnfold.compare.records import BlobDiff, DetectorDiff, DiffReport
from bnfold.report.grid import Grid, printed
from bnfold.report.picture import Outcome
from bnfold.report.tables import (
    Cell,
    PageColumn,
    Table,
    blob_table,
    flip_table,
    layer_table,
    sample_table,
    table,
    word,
)
from bnfold.report.text import as_text


@pytest.fixture(scope="module")
def report() -> DiffReport:
    return failed()


def column(made: Table, heading: str) -> list[Cell]:
    place = [heading for heading, _ in made.columns].index(heading)
    return [row.cells[place] for row in made.rows]


def test_cells_sort_as_numbers_and_what_is_unknown_last() -> None:
    keys = [Cell("", value).sort_key for value in (None, 0.5, -2.0, math.inf, -math.inf, math.nan)]
    assert keys == ["", "0.5", "-2.0", "Infinity", "-Infinity", "-Infinity"]


def test_columns_without_text_go_and_rows_are_numbered() -> None:
    columns: list[PageColumn[str]] = [
        word("name", str, "name"),
        word("empty", lambda _: ""),
        word("twice", "{0}{0}".format),
    ]
    made = table("letters", "letters", columns, "ab", "letter", lambda letter: letter.upper())
    assert [heading for heading, _ in made.columns] == ["name", "twice"]
    assert made.left_out == ("empty",)
    assert [(row.anchor, row.style) for row in made.rows] == [("letter-0", "A"), ("letter-1", "B")]
    assert [cell.text for cell in column(made, "twice")] == ["aa", "bb"]
    assert table("none", "", columns, "").left_out == (), "an empty table keeps its head"


def test_each_layer_of_the_page_has_its_name_its_place_and_the_error_of_its_blob() -> None:
    outcomes = [Outcome(0, "conv", "Conv", "kept"), Outcome(1, "", "Mul", "gone", into=("conv", "other"))]
    made = layer_table(outcomes, {"conv": (-0.25, "#blob-3")})
    assert column(made, "layer") == [Cell("conv", None, "#node-0"), Cell("(no name)", None, "#node-1")]
    assert [cell.text for cell in column(made, "into")] == ["", "conv, other"]
    known, unknown = column(made, "error of its blob")
    assert (known, unknown.text, unknown.sort_key) == (Cell("-0.25", -0.25, "#blob-3"), "", "-Infinity")
    assert [row.style for row in made.rows] == ["kept", "gone"]


def test_blobs_beyond_the_tolerance_and_outputs_are_marked(report: DiffReport) -> None:
    blobs = [
        replace(blob, is_output=place % 2 == 0, figures={**blob.figures, "judged": judged})
        for place, (blob, judged) in enumerate(zip(report.blobs, (0.0, 1.0, 2.0, 0.5), strict=False))
    ]
    made = blob_table(replace(report, blobs=tuple(blobs), tolerance=1.0), "blobs", {blobs[1].layer: "#node-7"})
    assert [row.style for row in made.rows] == ["output", "", "output beyond", ""]
    assert [cell.href for cell in column(made, "layer")] == ["", "#node-7", "", ""]
    assert [cell.text for cell in column(made, "depth")] == [str(blob.depth) for blob in blobs]
    assert [cell.value for cell in column(made, "depth")] == [blob.depth for blob in blobs]


def test_a_blob_whose_partner_has_another_name_says_so(report: DiffReport) -> None:
    first, second = report.blobs[:2]
    pair = replace(first, partner="other"), replace(second, partner=second.blob)
    made = blob_table(replace(report, blobs=pair), "blobs", {})
    assert [cell.text for cell in column(made, "blob")] == [f"{first.blob} = other", second.blob]


def test_a_sample_that_is_called_by_its_number_is_not_numbered_as_well(report: DiffReport) -> None:
    named = [replace(report.samples[0], sample=4, name="cat.png"), replace(report.samples[1], sample=7, name="7")]
    numbers = column(sample_table(named, "samples"), "number")
    assert [(cell.text, cell.sort_key) for cell in numbers] == [("4", "4"), ("", "-Infinity")]
    assert sample_table(named[1:], "samples").left_out == ("number",)


def test_flips_without_labels_have_no_column_of_them(report: DiffReport) -> None:
    found = present(report.classifier)
    assert flip_table(found, "flips").left_out == ()
    unlabelled = replace(found, flips=tuple(replace(flip, label=None) for flip in found.flips))
    assert flip_table(unlabelled, "flips").left_out == ("label",)


def grids(*reports: DiffReport) -> list[Grid]:
    return [part for part in as_text(run_report(*reports), verbosity=1) if isinstance(part, Grid)]


def test_a_terminal_shows_blobs_beyond_the_tolerance_in_red_and_outputs_bold(report: DiffReport) -> None:
    def judged(blob: BlobDiff) -> float:
        return {report.blobs[0].blob: 2.0, report.blobs[1].blob: 1.0}.get(blob.blob, 0.0)

    blobs = tuple(replace(blob, figures={**blob.figures, "judged": judged(blob)}) for blob in report.blobs)
    shown = next(
        grid for grid in grids(replace(report, blobs=blobs, tolerance=1.0)) if grid.columns[0].heading == "blob"
    )
    styles = {cells[0]: style for cells, style in shown.rows}
    assert styles[report.blobs[0].blob] == "red"
    assert styles[report.blobs[1].blob] == ""
    assert {styles[blob.blob] for blob in report.outputs} == {"bold"}


def test_a_terminal_has_no_empty_table_of_boxes(report: DiffReport) -> None:
    found = DetectorDiff("boxes", 0.5, 3, 3, 3, mean_iou=1.0, max_score_diff=0.0, missed=(), extra=())
    assert "box" not in [grid.columns[0].heading for grid in grids(replace(report, detector=found))]


def test_a_terminal_tells_of_branches_that_were_joined_and_affines_that_went_forward() -> None:
    records: list[Record] = [
        Joined("sum", "Eltwise", ("a",), ("b", "c")),
        Joined("other", "Eltwise", ("d",)),
        Moved("norm", "LayerNormalization", ("fc",)),
    ]
    said = printed(as_text(run_report(failed(), fold=replace(folding(), records=records)), verbosity=2), 200)
    assert "joined into a with b, c" in said
    assert "joined into d\n" in said
    assert "scale and bias went forward into fc" in said
