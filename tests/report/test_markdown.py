"""The rendering for a pull request: short, complete in what matters, and names are never markup."""

import re
from dataclasses import replace

from onnx_models import classifier
from report.runs import NASTY, failed, folding, renamed, run_report
from report.test_picture import folded

from bnfold.algebra.records import FoldReport
from bnfold.compare.comparison import compare
from bnfold.report.markdown import as_markdown, escape
from bnfold.report.run import RunReport


def test_the_verdict_is_the_headline() -> None:
    assert as_markdown(run_report(failed())).startswith("### ❌ bnfold: The networks differ")
    assert as_markdown(run_report(compare(classifier(), classifier()))).startswith(
        "### ✅ bnfold: The networks compute"
    )


def test_gates_fault_answers_and_folding_are_told() -> None:
    said = as_markdown(run_report(failed(), fold=folding()))
    assert "- ❌ **min-agreement**" in said
    assert "First divergent layer: **conv1**, channel 4 (relative error" in said
    assert "| top-1 |" in said
    assert "flipped sample" in said
    assert "12 → 8 layers" in said


def test_what_operators_cost_is_a_table() -> None:
    net, result = folded("digits_train_test")
    said = as_markdown(RunReport(net, result.net, result.report))
    assert "| operator | layers | multiply-adds | parameters |\n|:--|--:|--:|--:|\n| BatchNorm | 2 → 0 |" in said
    assert "operator" not in as_markdown(RunReport(net, net, FoldReport()))


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    for report in (failed(), renamed()):
        width = 0
        for line in as_markdown(run_report(report, fold=folding())).splitlines():
            cells = len(re.findall(r"(?<!\\)\|", line))
            width = 0 if not line.startswith("|") else width or cells
            assert cells == width


def test_a_proof_that_ran_nothing_has_no_empty_table() -> None:
    said = as_markdown(run_report(replace(failed(), blobs=())))
    assert "| blob |" in as_markdown(run_report(failed()))
    assert "| blob |" not in said


def test_names_are_escaped_and_mention_nobody() -> None:
    said = as_markdown(run_report(renamed()))
    assert escape(NASTY) in said
    assert "<script>" not in said
    assert escape("conv1@bn1") == "conv1@bn1"
    assert escape("@octocat #12 a`b") == "@\u200boctocat \\#12 a\\`b"


def test_rows_are_limited_and_the_rest_is_counted() -> None:
    said = as_markdown(run_report(failed()), rows=3)
    assert "... and 4 more." in said
