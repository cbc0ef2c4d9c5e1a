"""What is said once for many: sentences that differ only in names and numbers."""

from __future__ import annotations

from pathlib import Path

from command_line import Run

from bnfold.algebra.records import Kept
from bnfold.report.causes import kept_by_cause, said_once


def test_sentences_that_differ_only_in_names_and_numbers_are_counted() -> None:
    sentences = [
        f"line {line}: ignored '{name}' in layer 'l{line}' (Data)" for line, name in ((3, "a"), (4, "b"), (9, "c"))
    ]
    assert said_once([*sentences, "something else"]) == [f"{sentences[0]} (and 2 more like this)", "something else"]


def test_what_is_said_twice_is_said_once_and_not_counted() -> None:
    assert said_once(["a", "a"]) == ["a"]


def test_layers_that_stay_for_one_cause_and_notes_alike_are_one_row_each(run: Run) -> None:
    count = 30
    layers = 'input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }\n'
    bottom = "data"
    for index in range(count):
        layers += f'layer {{ name: "t{index}" type: "TanH" bottom: "{bottom}" top: "t{index}" }}\n'
        layers += f'layer {{ name: "p{index}" type: "Power" bottom: "t{index}" top: "p{index}" '
        layers += "power_param { shift: 1 } }\n"
        layers += f'layer {{ name: "end{index}" type: "TanH" bottom: "p{index}" top: "e{index}" }}\n'
        bottom = f"e{index}"
    Path("net.prototxt").write_text(layers)
    outcome = run("fold", "net.prototxt", "-o", "out.prototxt", "--markdown", "r.md")
    assert outcome.code == 0, outcome
    for text in (outcome.out, Path("r.md").read_text()):
        rows = [line for line in text.splitlines() if "Power" in line and "p0" in line]
        assert len(rows) == 1
        assert "p29" not in text
    assert "27 more" in outcome.out


def test_a_sentence_that_several_layers_have_word_for_word_keeps_its_names() -> None:
    same = "it sets an unknown field 'channel_shared' of BiasParameter"
    assert [said for said, _ in kept_by_cause([Kept("a", "Bias", same, "Bias"), Kept("b", "Bias", same, "Bias")])] == [
        same
    ]
    kept = [Kept(name, "Bias", f"it sets an unknown field '{name}' of BiasParameter", "Bias") for name in "ab"]
    assert [said for said, _ in kept_by_cause(kept)] == ["it sets an unknown field of BiasParameter"]
    two = [Kept("a", "Bias", "'x' is an output", "Bias"), Kept("b", "Bias", "'y' is an output", "Bias")]
    assert [said for said, _ in kept_by_cause(two)] == ["a blob is an output"]
