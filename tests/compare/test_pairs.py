"""Many comparisons by one table."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import Run
from onnx_models import change, classifier

from bnfold.cli import main
from bnfold.compare import pairs
from bnfold.compare.comparison import compare
from bnfold.compare.pairs import PairRow, read_pairs
from bnfold.compare.records import DiffReport
from bnfold.errors import BnfoldError, ParseError


def test_a_table_may_have_a_head_comments_commas_and_quotes(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(
        'reference,candidate,data\n# nothing\n\na.onnx, b.onnx\n"c d.onnx"\te.prototxt:f.caffemodel x/\n'
        'v:1/a.onnx,b.onnx,x:y/\n"a.onnx","b.onnx",""\n'
    )
    place = str(tmp_path)
    assert read_pairs(table) == [
        PairRow(4, f"{place}/a.onnx", f"{place}/b.onnx", table=table),
        PairRow(5, f"{place}/c d.onnx", f"{place}/e.prototxt:{place}/f.caffemodel", f"{place}/x", table),
        PairRow(6, f"{place}/v:1/a.onnx", f"{place}/b.onnx", f"{place}/x:y", table),
        PairRow(7, f"{place}/a.onnx", f"{place}/b.onnx", table=table),
    ]


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "e.caffemodel").touch()
    (folder / "table").write_text("e.prototxt:f.caffemodel e.prototxt\n")
    (row,) = read_pairs(folder / "table")
    names = ("e.prototxt", "f.caffemodel", "e.prototxt", "e.caffemodel")
    assert row.models == [folder / name for name in names]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="names descriptors as Linux and macOS do")
def test_paths_of_a_table_in_a_pipe_are_seen_from_the_working_directory() -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as table:
        table.write("a.onnx x/b.onnx\n")
    (row,) = read_pairs(Path(f"/dev/fd/{reading}"))
    os.close(reading)
    assert (row.reference, row.candidate) == ("a.onnx", "x/b.onnx")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.onnx", "expected REFERENCE CANDIDATE"),
        ("a b c d", "got 4 words"),
        ("a", "got 1 word$"),
        ('"a b', "no closing"),
        ("# none", "no models"),
        ("a.onnx b\0.onnx", "table: is no text"),
    ],
)
def test_a_line_that_is_no_pair_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "table").write_text(text)
    with pytest.raises(BnfoldError, match=sentence):
        read_pairs(tmp_path / "table")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_table_that_is_a_device_or_a_pipe_is_not_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table")
    for path in (tmp_path / "table", Path("/dev/full")):
        with pytest.raises(ParseError, match=f"^{path}: is not a regular file"):
            read_pairs(path)


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


def test_a_line_that_cannot_be_compared_leaves_the_others_their_reports(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    onnx.save(change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0), tmp_path / "c.onnx")
    (tmp_path / "b.onnx").write_text("nonsense")
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx b.onnx\nb.onnx a.onnx\na.onnx c.onnx\n")
    words = ("diff", "--pairs", str(tmp_path / "table"), "--checkpoint", str(tmp_path / "state"))
    files = {name: tmp_path / f"r.{name}" for name in ("json", "html", "markdown")}
    found = run(*words, *(word for name, path in files.items() for word in (f"--{name}", str(path))))
    assert found.code == 2
    sentences = [line.removeprefix("bnfold: ") for line in found.err.splitlines()]
    places = [f"{tmp_path / 'table'}:{line}: {tmp_path / 'b.onnx'}: " for line in (2, 3)]
    assert [said.startswith(place) for said, place in zip(sentences, places, strict=True)] == [True, True]
    assert all(sentence in found.out for sentence in sentences)
    comparisons = json.loads(files["json"].read_text())["comparisons"]
    assert [one["passed"] for one in comparisons] == [True, False, False, False]
    assert "rel. L2" in found.out  # the table of the one that differs
    assert [one["error"] for one in comparisons] == ["", *sentences, ""]
    for line, passed in enumerate((True, False, False, False), start=1):
        own = json.loads((tmp_path / f"r.{line}.json").read_text())
        assert (own["passed"], own["comparisons"]) == (passed, comparisons[line - 1 : line])
    over_all = [line for line in files["markdown"].read_text().splitlines() if line.startswith(("| ✅", "| ❌"))]
    assert ["is text and not a model in ONNX" in line for line in over_all] == [False, True, True, False]
    assert files["html"].read_text().count(f'<td class="why">{sentences[0]}'.replace("'", "&#39;")) == 1
    # Again, with the reports there, whose places are looked at before; and mended, the same command goes on.
    assert run(*words, "--json", str(files["json"])).err == found.err
    onnx.save(classifier(), tmp_path / "b.onnx")
    assert run(*words).code == 1
    assert sorted(path.name for path in tmp_path.glob("state*")) == [f"state.{line}" for line in (1, 2, 3, 4)]


def test_a_table_of_one_reference_has_its_lines_over_all(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    onnx.save(change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0), tmp_path / "b.onnx")
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx b.onnx\n")
    said = run("diff", "--pairs", str(tmp_path / "table"), "--markdown", "-").out
    assert [line[:4] for line in said.splitlines() if line.startswith(("| ✅", "| ❌"))] == ["| ✅ ", "| ❌ "]


def test_a_fault_of_bnfold_in_a_line_leaves_the_others_their_reports(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(reference: str, candidate: str, *rest: Any, **named: Any) -> DiffReport:
        assert not candidate.endswith("b.onnx")
        return compare(reference, candidate, *rest, **named)

    for name in ("a", "b"):
        onnx.save(classifier(), tmp_path / f"{name}.onnx")
    monkeypatch.setattr(pairs, "compare", broken)
    (tmp_path / "table").write_text("a.onnx b.onnx\na.onnx a.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--json", str(tmp_path / "r.json"))
    assert (found.code, "table:1: this is a fault of bnfold" in found.err) == (70, True)
    assert [one["passed"] for one in json.loads((tmp_path / "r.json").read_text())["comparisons"]] == [False, True]


def test_a_signal_that_a_library_answers_stops_all_lines(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_given: Any, **_named: Any) -> DiffReport:
        arrived.append(15)
        raise OSError("interrupted system call")

    arrived: list[int] = []
    onnx.save(classifier(), tmp_path / "a.onnx")
    monkeypatch.setattr(pairs, "compare", stopped)
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx a.onnx\n")
    with pytest.raises(SystemExit, match="143"):
        main(["diff", "--pairs", str(tmp_path / "table")], stopped_by=arrived)
    assert arrived == [15]


def test_a_table_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("reference,candidate\na.onnx,b.onnx\n", encoding="utf-8-sig")
    assert [row.number for row in read_pairs(tmp_path / "table")] == [2]


@pytest.mark.parametrize("line", ["a.onnx none.onnx", "a.onnx a.onnx none.npz", 'a.onnx ""', ". ."])
def test_every_line_is_looked_at_before_any_is_compared(run: Run, tmp_path: Path, line: str) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    (tmp_path / "table").write_text(f"a.onnx a.onnx\n{line}\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--checkpoint", str(tmp_path / "state"))
    assert (found.code, f"{tmp_path / 'table'}:2: " in found.err) == (2, True)
    assert not list(tmp_path.glob("state*"))


def test_nothing_that_a_table_names_is_written(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    table = tmp_path / "table"
    table.write_text("a.onnx a.onnx images.npz\n")
    before = {path: path.read_bytes() for path in (table, tmp_path / "a.onnx", tmp_path / "images.npz")}
    for path, content in before.items():
        for option in ("--json", "--html", "--markdown"):
            found = run("diff", "--pairs", str(table), option, str(path))
            assert (found.code, "is an input of this run" in found.err) == (2, True)
            assert path.read_bytes() == content


@pytest.mark.parametrize("folder", [".", "/"])
def test_a_report_that_is_a_folder_is_a_sentence(run: Run, tmp_path: Path, folder: str) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    (tmp_path / "table").write_text("a.onnx a.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--json", folder)
    assert (found.code, "is a folder" in found.err) == (2, True)


def test_data_for_all_lines_is_not_ignored_in_silence(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    data = str(tmp_path / "data.npz")
    np.savez(data, x=np.ones((4, 3, 8, 8), np.float32))
    (tmp_path / "table").write_text("a.onnx a.onnx data.npz\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), "--data", data)
    assert (found.code, "--data would be ignored: each line" in found.err) == (2, True)
    (tmp_path / "table").write_text("a.onnx a.onnx data.npz\na.onnx a.onnx\n")
    assert run("diff", "--pairs", str(tmp_path / "table"), "--data", data).code == 0


def test_a_state_is_kept_in_a_file_of_its_own(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    model = str(tmp_path / "a.onnx")
    file = str(tmp_path / "file")
    for words in (("--checkpoint", file, "--json", file), ("--checkpoint", model), ("--checkpoint", f"{file}/none/x")):
        found = run("diff", model, model, *words)
        assert found.code == 2, words
        assert not Path(file).exists()


def test_the_images_of_a_table_are_prepared_as_asked(run: Run, tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    images = Path(__file__).parents[2] / "sample_models" / "digits" / "0"
    (tmp_path / "table").write_text(f'a.onnx a.onnx "{images}"\n')
    assert run("diff", "--pairs", str(tmp_path / "table"), "--mean", "5").code == 0
    np.savez(tmp_path / "arrays.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    (tmp_path / "table").write_text("a.onnx a.onnx arrays.npz\n")
    assert "does nothing to arrays" in run("diff", "--pairs", str(tmp_path / "table"), "--mean", "5").err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--tolerance", "-1"), "the tolerance is -1; it must be 0 or more"),
        (("--provider", "none"), "--provider none: there is no such provider"),
        (("--tf32",), "--tf32 would be ignored: cpu cannot multiply in TF32"),
    ],
)
def test_an_option_that_fits_no_line_is_said_once(
    run: Run, tmp_path: Path, option: tuple[str, ...], sentence: str
) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    (tmp_path / "table").write_text("a.onnx a.onnx\na.onnx a.onnx\n")
    found = run("diff", "--pairs", str(tmp_path / "table"), *option, "--json", str(tmp_path / "r.json"))
    assert (found.code, found.err.count(sentence), found.out) == (2, 1, "")
    said = json.loads((tmp_path / "r.json").read_text())
    assert (said["schema"], said["exit_code"], sentence in said["message"]) == ("bnfold-error", 2, True)
