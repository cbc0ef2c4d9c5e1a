"""The terminal rendering: what it must say, and that names are never markup."""

from report.runs import NASTY, failed, folding, renamed, run_report

from bnfold.algebra.records import FoldReport, Kept
from bnfold.report.text import as_text, plain


def text(*proofs, fold=None, width=200):
    return plain([as_text(run_report(*proofs, fold=fold))], width)


def test_a_fault_is_shown_with_layer_channel_gates_and_verdict():
    said = text(failed())
    assert "first out of line: layer 'conv1', channel 4" in said
    assert "FAIL tolerance" in said
    assert "FAIL min-agreement" in said
    assert "ok   outputs" in said
    assert said.rstrip().splitlines()[-1].startswith("The networks differ")


def test_accuracy_and_flipped_samples_are_listed():
    report = failed()
    said = text(report)
    assert "top-1" in said
    assert "same answer" in said
    assert report.classifier.flips
    assert all(f"{flip.reference.score:.4g}" in said for flip in report.classifier.flips[:12])


def test_folding_is_told_with_reasons_and_counts():
    said = text(fold=folding())
    assert "conv1 through pool1, relu1" in said
    assert "bn2, scale2" in said
    assert "12 -> 8 layers, 1,234 -> 1,200 parameters" in said
    assert "BatchNorm, now Scale" in said
    assert NASTY in said


def test_a_name_that_looks_like_markup_is_shown_as_it_is():
    assert NASTY in text(renamed(), width=400)


def test_a_long_table_stops_and_says_so():
    report = failed()
    said = plain([as_text(run_report(report), rows=2)], 200)
    assert "and 4 more blobs that differ less" in said


def test_layers_that_stay_for_one_reason_share_a_row():
    reason = "use_global_stats is false, so its statistics follow each batch"
    report = FoldReport([Kept(f"bn{number}", "BatchNorm", reason, "BatchNorm") for number in range(5)])
    said = text(fold=report)
    assert said.count(reason) == 1
    assert "bn0, bn1, bn2 and 2 more" in said


def test_reasons_without_end_stop_and_the_rest_is_counted():
    report = FoldReport([Kept(f"s{number}", "Scale", f"reason {number}", "Scale") for number in range(30)])
    assert "... and 18 more that stay" in text(fold=report)


def test_a_net_without_affines_is_told_so():
    assert "there is no affine layer to fold" in text(fold=FoldReport())
