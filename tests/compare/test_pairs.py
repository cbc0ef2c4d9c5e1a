"""Many comparisons by one table."""

import json
from pathlib import Path

import onnx
import pytest
from command_line import Run
from onnx_models import change, classifier

from bnfold.compare.pairs import PairRow, read_pairs
from bnfold.errors import BnfoldError


def test_a_table_may_have_a_head_comments_commas_and_quotes(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text('reference,candidate,data\n# nothing\n\na.onnx, b.onnx\n"c d.onnx"\te.prototxt:f.caffemodel x/\n')
    place = str(tmp_path)
    assert read_pairs(table) == [
        PairRow(4, f"{place}/a.onnx", f"{place}/b.onnx"),
        PairRow(5, f"{place}/c d.onnx", f"{place}/e.prototxt:{place}/f.caffemodel", f"{place}/x"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.onnx", "expected REFERENCE CANDIDATE"),
        ("a b c d", "got 4 words"),
        ('"a b', "no closing"),
        ("# none", "no models"),
    ],
)
def test_a_line_that_is_no_pair_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "table").write_text(text)
    with pytest.raises(BnfoldError, match=sentence):
        read_pairs(tmp_path / "table")


def test_each_pair_has_its_report_and_one_that_differs_decides(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    onnx.save(change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0), tmp_path / "b.onnx")
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx b.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--json", str(tmp_path / "r.json"))
    assert found.code == 1
    comparisons = json.loads((tmp_path / "r.json").read_text())["comparisons"]
    assert [comparison["passed"] for comparison in comparisons] == [True, False]


def test_each_pair_has_files_of_its_own_and_a_line_in_the_table_over_all(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    onnx.save(change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0), tmp_path / "b.onnx")
    (tmp_path / "table").write_text("# two\nb.onnx a.onnx\na.onnx a.onnx\n")
    files = {name: str(tmp_path / f"r.{name}") for name in ("json", "html", "markdown")}
    said = run(
        "diff",
        "--pairs",
        str(tmp_path / "table"),
        *(word for name, path in files.items() for word in (f"--{name}", path)),
    )
    assert all(f"r{line}.{name}" in said.out.partition("wrote ")[2] for name in files for line in ("", ".2", ".3"))
    assert "<h1>2 comparisons: FAILED</h1>" in (tmp_path / "r.html").read_text()
    for line, passed in ((2, False), (3, True)):
        own = json.loads((tmp_path / f"r.{line}.json").read_text())
        assert own["passed"] is passed
        assert len(own["comparisons"]) == 1
        assert sorted(file["path"] for file in own["environment"]["files"])[0].endswith("a.onnx")
        assert ("✅" if passed else "❌") in (tmp_path / f"r.{line}.markdown").read_text().splitlines()[0]
        assert "b.onnx" in (tmp_path / "r.2.html").read_text()
        assert "b.onnx" not in (tmp_path / "r.3.html").read_text()
    table = [line for line in (tmp_path / "r.markdown").read_text().splitlines() if line.startswith(("| ✅", "| ❌"))]
    assert ["b.onnx" in line for line in table] == [True, False]


def test_a_pairs_own_report_does_not_take_the_place_of_a_model(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "r.1.onnx")
    (tmp_path / "table").write_text("r.1.onnx r.1.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--json", str(tmp_path / "r.onnx"))
    assert found.code == 2
    assert "r.1.onnx" in found.err


def test_an_error_names_the_line(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_text("nonsense")
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx b.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"))
    assert found.code == 2
    assert "line 2 of the table" in found.err
