"""The rendering for a pull request: short, complete in what matters, and names are never markup."""

import re
from dataclasses import replace

from onnx_models import classifier
from present import present
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


def test_outputs_come_first_and_take_the_room_of_others() -> None:
    report = failed()
    outputs = [blob.blob for blob in report.outputs]
    others = sorted((blob for blob in report.blobs if not blob.is_output), key=lambda blob: -blob.judged)
    for rows in (1, 3):
        said = as_markdown(run_report(report), rows=rows)
        table = said[said.index("| blob |") :].split("\n\n")[0].splitlines()[2:]
        wanted = [*outputs, *(blob.blob for blob in others)][: max(rows, len(outputs))]
        assert [line.split(" | ")[0].removeprefix("| ") for line in table] == [escape(name) for name in wanted]


def test_flips_name_the_true_class_where_it_is_known() -> None:
    report = failed()
    found = present(report.classifier)
    labelled, plain = replace(found.flips[0], name="cat", label=3), replace(found.flips[0], name="dog", label=None)
    said = as_markdown(run_report(replace(report, classifier=replace(found, flips=(labelled, plain), flipped=2))))
    assert "| cat | 3 | " in said
    assert "| dog |  | " in said


def test_the_share_of_same_answers_has_its_count() -> None:
    found = replace(present(failed().classifier), agreement=2 / 3, samples=4_500)
    report = run_report(replace(failed(), classifier=found))
    assert "| same answer | 66.67 % | 3,000 of 4,500 |" in as_markdown(report)


def test_several_comparisons_have_one_table_over_all() -> None:
    report = failed()
    nothing = replace(report, reference="a.onnx", candidate="b.onnx", blobs=(), error="a.onnx: is no model")
    said = as_markdown(run_report(report, nothing))
    head = "|  | reference | candidate | worst blob | of range | same answer |"
    assert head in said
    table = said[said.index(head) :].split("\n\n")[0].splitlines()[2:]
    both = as_markdown(run_report(compare(classifier(), classifier()), report)).split(head)[1].splitlines()[2:4]
    assert [line.split(" | ")[0] for line in both] == ["| ✅", "| ❌"]
    assert [line.split(" | ")[3] for line in table] == [present(report.worst).blob, escape("a.onnx: is no model")]
    assert head not in as_markdown(run_report(report))
    assert head not in as_markdown(run_report(report, nothing, fold=folding())), "a fold's proofs are of one network"
