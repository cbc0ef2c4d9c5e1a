"""The terminal rendering: what it must say, and that names are never markup."""

import dataclasses
import re
import unicodedata

import pytest
from present import present
from report.runs import NASTY, failed, folding, renamed, run_report
from report.test_picture import folded

import bnfold
from bnfold.algebra.records import FoldReport, Kept, Record
from bnfold.compare.gates import beside
from bnfold.compare.records import DiffReport
from bnfold.report.grid import Column, Grid, laid_out, printed, words
from bnfold.report.html import as_html
from bnfold.report.markdown import as_markdown
from bnfold.report.run import RunReport
from bnfold.report.text import as_text
from bnfold.report.words import visible


def text(*proofs: DiffReport, fold: FoldReport | None = None, width: int = 200, verbosity: int = 0) -> str:
    return printed(as_text(run_report(*proofs, fold=fold), verbosity=verbosity), width)


def test_a_fault_is_shown_with_layer_channel_gates_and_verdict() -> None:
    lines = text(failed()).splitlines()
    assert lines[0].startswith("The networks differ: blob 'relu1' differs by ")
    assert "; the answers agree for " in lines[0]
    assert lines[1].startswith("first divergent layer: 'conv1', channel 4")
    assert not [line for line in lines if line.startswith(("ok ", "FAIL "))]  # the verdict says them
    every = text(failed(), verbosity=1)
    assert all(said in every for said in ("FAIL tolerance", "FAIL min-agreement", "ok   outputs"))


def test_accuracy_and_flipped_samples_are_listed() -> None:
    report = failed()
    said = text(report)
    assert "top-1" in said
    assert "same answer" in said
    assert present(report.classifier).flips
    assert all(f"{flip.reference.score:.4g}" in said for flip in present(report.classifier).flips[:12])


def test_flipped_samples_are_counted_and_not_only_those_that_are_listed() -> None:
    report = failed()
    found = dataclasses.replace(present(report.classifier), flipped=5000, samples=250_000, agreement=0.99998)
    said = text(dataclasses.replace(report, classifier=found))
    assert len(found.flips) < 4988
    assert "... and 4,988 more flipped" in said
    assert "same answer" in said
    assert "99.99 %" in said


def test_folding_is_told_with_reasons_and_counts() -> None:
    said = text(fold=folding(), verbosity=1)
    line = (
        "12 -> 8 layers; 1 BatchNorm into 1 layer; 2 BatchNorm merged; 1 Dropout dropped; 1 kept (1 BatchNorm as Scale)"
    )
    assert line in said
    assert "conv1 through pool1, relu1" in said
    assert "bn2, scale2" in said
    assert "stays, as a Scale" in said
    assert NASTY in said


def test_lines_in_a_pipe_are_not_broken() -> None:
    line = words("word " * 100 + "\nanother")
    assert list(laid_out([line], 40, wrapped=False)) == [line]
    assert max(map(len, printed([line], 40).splitlines())) <= 40


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert NASTY in text(renamed(), width=400)


def test_a_long_table_stops_and_says_so() -> None:
    report = failed()
    said = printed(as_text(run_report(report), rows=2), 200)
    assert "and 4 more blobs that differ less" in said


def test_layers_that_stay_for_one_reason_share_a_row() -> None:
    reason = "use_global_stats is false, so its statistics follow each batch"
    report = FoldReport([Kept(f"bn{number}", "BatchNorm", reason, "BatchNorm") for number in range(5)])
    said = text(fold=report)
    assert said.count(reason) == 1
    assert "bn0, bn1, bn2 and 2 more" in said


def test_reasons_without_end_stop_and_the_rest_is_counted() -> None:
    report = FoldReport([Kept(f"s{number}", "Scale", f"reason {number}", "Scale") for number in range(30)])
    assert "kept 27 more for 27 other causes; -v lists them" in text(fold=report)
    assert "reason 29" in text(fold=report, verbosity=1)


def test_a_name_adds_no_line_and_moves_no_cursor() -> None:
    run = run_report(renamed(new="a\x1b[2J\u202eb\nThe networks compute the same."))
    for said in (printed(as_text(run), 400), as_markdown(run), as_html(run)):
        assert "x1b" in said
        assert not {"\x1b", "\u202e"} & set(said)
    assert not re.search("^The networks compute the same", printed(as_text(run), 400), re.MULTILINE)


def test_names_of_one_cause_are_listed_when_asked_for() -> None:
    records: list[Record] = [
        Kept(f"s{number}", "Scale", f"forward: layer 'relu{number}' (ReLU): no", "Scale") for number in range(62)
    ]
    assert "kept 62 Scale (s0, s1, s2 and 59 more): forward: a ReLU: no" in text(fold=FoldReport(records))
    assert "s61" in text(fold=FoldReport(records), verbosity=1)


def test_the_quiet_rendering_is_the_verdict_alone() -> None:
    (line,) = text(failed(), verbosity=-1, width=1000).splitlines()
    assert line.startswith("The networks differ")


def test_what_is_true_of_two_outputs_is_said_once() -> None:
    net, result = folded("digits_train_test")
    proof = bnfold.compare(net, result.net)
    other = dataclasses.replace(proof, candidate="other.onnx")
    said = printed(as_text(RunReport(net, result.net, result.report, proofs=(proof, other))), 200)
    assert said.count("The networks compute the same") == 1
    assert f"proved {proof.candidate}, other.onnx: {proof.data}; " in said
    assert len(said.splitlines()) <= 10
    # Where they differ in their figures, the data is said once, and the verdict gives the worst.
    gates = [dataclasses.replace(gate, value=4e-5) if gate.name == "tolerance" else gate for gate in proof.gates]
    other = dataclasses.replace(other, gates=tuple(gates))
    run = RunReport(net, result.net, result.report, proofs=(proof, other))
    assert run.verdict == "The networks compute the same within 4.0e-05 of the range."


def test_of_many_comparisons_it_is_said_first_how_many_failed_and_why() -> None:
    net, result = folded("digits_train_test")
    proof = bnfold.compare(net, result.net)
    others = [dataclasses.replace(proof, candidate=f"{number}.onnx") for number in range(20)]
    verdict = run_report(*others, dataclasses.replace(failed(), candidate="bad.onnx")).verdict
    assert verdict.startswith("1 of 21 comparisons failed. bad.onnx: The networks differ: ")
    assert "compute the same" not in verdict  # a line of each says so


def test_of_many_that_failed_one_has_its_tables_and_each_the_layer_where_it_begins() -> None:
    bad = failed()
    gates = [tuple(dataclasses.replace(gate, sentence=f"fault {number}") for gate in bad.gates) for number in range(3)]
    others = [dataclasses.replace(bad, candidate=f"{number}.onnx", gates=gates[number]) for number in range(3)]
    said = text(*others)
    assert [f"first divergent layer of {number}.onnx: 'conv1'" in said for number in range(3)] == [True] * 3
    assert said.count("of range") == 1
    assert "-v has the tables of 2 other comparisons that failed" in said
    assert text(*others, verbosity=1).count("of range") == 3


@pytest.mark.parametrize(
    ("value", "limit", "said"),
    [(0.966, 1e-4, "0.97"), (12.0, 1e-4, "12"), (0.0200004, 0.02, "0.0200004"), (1.004e-4, 1e-4, "1.004e-04")],
)
def test_a_value_beside_a_limit_has_two_figures_or_as_many_as_tell_them_apart(
    value: float, limit: float, said: str
) -> None:
    assert beside(value, limit) == said


def test_a_number_stays_beside_its_unit() -> None:
    said = printed([words("top-1 99.44 % -> 99.44 % of 12 k")], 16)
    assert said.splitlines() == ["top-1 99.44 %", "-> 99.44 % of", "12 k"]


def test_a_paragraph_stays_as_far_right_as_it_begins() -> None:
    said = printed([words("  - one two three"), words("  one two three")], 12)
    assert said.splitlines() == ["  - one two", "    three", "  one two", "  three"]


NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_number_breaks_over_lines_and_no_line_is_too_wide(width: int) -> None:
    report = failed()
    lines = text(report, width=width).splitlines()
    few = printed(as_text(run_report(report), rows=1), width)
    assert "more flipped" in few
    assert "--html" in few
    assert max(map(len, [*lines, *few.splitlines()])) <= width
    whole = set(NUMBER.findall(text(report, width=1000)))
    start = next(index for index, line in enumerate(lines) if line.startswith("blob "))
    for line in lines[start + 1 : start + 8]:
        assert {number for number in NUMBER.findall(line) if "e-" in number} <= whole
    assert "of range" in lines[start]


def test_columns_go_by_rank_and_names_lose_their_middle() -> None:
    grid = Grid([Column("name"), Column("kind", 2), Column("error", 1, True), Column("of range", 0, True)])
    grid.add("inception_4a/3x3_reduce/bn", "BatchNorm", "1.2e-07", "3.4e-05")
    wide, narrow, slim = (printed([grid], width).splitlines() for width in (80, 44, 24))
    assert wide[1].split() == ["inception_4a/3x3_reduce/bn", "BatchNorm", "1.2e-07", "3.4e-05"]
    assert narrow[1].split()[1:] == ["BatchNorm", "1.2e-07", "3.4e-05"]
    assert narrow[1].startswith("incep")
    assert "…" in narrow[1]
    assert slim[0].split() == ["name", "of", "range"]
    assert slim[1].endswith("3.4e-05")


def test_a_column_goes_where_two_names_would_look_the_same() -> None:
    grid = Grid([Column("name"), Column("kind", 2), Column("error", 1, True), Column("of range", 0, True)])
    for block in (1, 2):
        grid.add(f"/layer4/block.{block}/conv1/Conv_output_0", "Conv", "1.2e-07", "3.4e-05")
    shown = {width: printed([grid], width).splitlines() for width in range(40, 70)}
    assert {len({line.split()[0] for line in lines[1:]}) for lines in shown.values()} == {2}
    assert [shown[width][0].split()[1:-2] for width in (40, 50, 60)] == [[], ["error"], ["kind", "error"]]
    # Where no choice of columns tells them apart, as many are shown as fit.
    assert printed([grid], 38).splitlines()[0].split()[1:-2] == ["kind", "error"]


def test_wide_letters_take_two_columns() -> None:
    grid = Grid([Column("layer"), Column("error", 0, True)])
    for name in ("conv", "\u5c64\u4e00" * 12, "a\u5c64\u4e00" * 9, "\U0001f600"):
        grid.add(name, "1.2e-04")

    def wide(line: str) -> int:
        return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line)

    for width in (80, 30, 29, 28):
        lines = printed([grid], width).splitlines()
        assert {wide(line) for line in lines[1:]} == {wide(lines[1])}
        assert wide(lines[1]) <= width
    sentence = " ".join(["\u5c64\u4e00\u7573"] * 20)
    assert max(map(wide, printed([words(sentence)], 30).splitlines())) <= 30


def test_of_many_blobs_that_differ_by_rounding_the_verdict_names_three() -> None:
    net, result = folded("digits_train_test")
    proof = dataclasses.replace(bnfold.compare(net, result.net), as_exact=tuple(f"b{number}" for number in range(50)))
    assert proof.verdict.endswith("by rounding alone, as a float64 run shows: 'b0', 'b1', 'b2' and 47 more.")
    gates = tuple(dataclasses.replace(gate, value=0.0) for gate in proof.gates)
    assert dataclasses.replace(proof, gates=gates).verdict.startswith("The networks compute the same; beyond")
    exact = dataclasses.replace(proof, gates=gates, as_exact=())
    assert exact.verdict == "The networks compute the same, bit for bit."


def test_a_worst_blob_that_rounding_explains_is_called_so() -> None:
    net, result = folded("digits_train_test")
    proof = bnfold.compare(net, result.net)
    worst = proof.worst
    assert worst is not None
    assert "by rounding alone" not in text(proof)
    assert "of its range, by rounding alone" in " ".join(
        text(dataclasses.replace(proof, as_exact=(worst.blob,))).split()
    )


def test_a_failed_proof_is_not_called_equal_and_no_equal_one_told_twice() -> None:
    equal = DiffReport("a.onnx", "b.onnx", "no data was needed", 0, 1e-4, equal=True)
    assert text(equal) == "The networks are the same to the last weight, so nothing had to be run.\n"
    assert "proved b.onnx: no data was needed" in text(equal, failed())
    blobs = [dataclasses.replace(blob, figures={**blob.figures, "max_abs": 0, "judged": 0}) for blob in failed().blobs]
    assert "equal bit for bit" not in text(dataclasses.replace(failed(), blobs=tuple(blobs)))


def test_a_page_has_no_empty_column_of_answers_and_groups_the_digits_of_counts() -> None:
    report = dataclasses.replace(failed(), classifier=None, blobs=failed().blobs[:1] * 1000)
    page = as_html(run_report(report))
    assert "same answer" in as_html(run_report(failed()))
    assert "same answer" not in page
    assert "<td>1,000</td>" in page


def test_notes_that_differ_in_names_alone_are_told_once_everywhere() -> None:
    report = dataclasses.replace(failed(), notes=tuple(f"blob 'odd_{number}' is odd" for number in range(40)))
    run = run_report(report)
    for said in (printed(as_text(run), 400), as_markdown(run), as_html(run)):
        assert "and 39 more like this" in said
        assert "odd_17" not in said


def test_a_net_without_affines_is_told_so() -> None:
    assert "there is no affine layer to fold" in text(fold=FoldReport())


def test_each_character_that_a_terminal_obeys_is_written_out_and_no_letter_is() -> None:
    obeyed = [*range(10), *range(11, 32), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F]
    obeyed += [*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
    for code in obeyed:
        assert visible(f"a{chr(code)}b").isprintable(), hex(code)
    for kept in ("\n", "a\nb", "\u00a0", "\u200d", "\u5c42", "\U000f0001"):
        assert visible(kept) == kept
