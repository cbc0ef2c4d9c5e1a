"""The command line: what it writes, what it says, and with which code it leaves."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_line import FOLD, GOLDEN, NET, TEXT, Run, files

import bnfold
from bnfold.cli import main


def test_fold_writes_what_is_asked_for_and_says_what_it_did(run: Run) -> None:
    outcome = run(*FOLD, "-o", "out.onnx", "-v")
    assert outcome.code == 0
    assert set(files()) == {*NET, "out.prototxt", "out.caffemodel", "out.onnx"}
    for said in ("bn2a_branch1", "13 -> 7 layers", "wrote out.prototxt, out.caffemodel, out.onnx"):
        assert said in outcome.out
    assert outcome.out.count("The networks compute the same") == 1
    types = [layer.type for layer in bnfold.load("out.prototxt", "out.caffemodel").layers]
    assert types.count("Convolution") == 3
    assert not {"BatchNorm", "Scale"} & set(types)


@pytest.mark.parametrize(
    ("command", "means"),
    [
        ("fold", "1 the networks differ beyond the tolerance, or nothing could be proved"),
        ("diff", "1 the networks differ beyond the tolerance, or nothing could be proved"),
        ("inspect", "1 findings, with --strict"),
        ("export", ""),
        ("convert", ""),
        ("help", ""),
    ],
)
def test_help_says_what_a_command_takes_and_what_its_exit_codes_mean(run: Run, command: str, means: str) -> None:
    said = " ".join(run("help", command).out.split())
    assert f"Example: bnfold {command} " in said
    assert " ".join(f"Exit codes: 0 done {means} 2 wrong usage".split()) in said
    assert ("NET.prototxt|MODEL.onnx" in said) == (command in ("fold", "inspect"))


@pytest.mark.parametrize("command", main.commands)
def test_short_help_fits_on_a_screen_and_names_every_option(
    monkeypatch: pytest.MonkeyPatch, run: Run, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(command, "--help").out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) < 80
    assert "\n\n\n" not in "\n".join(lines)
    assert any(line.startswith(f"Example: bnfold {command} ") for line in lines)
    said = set(re.findall(r"--[\w-]+", " ".join(lines)))
    shown = [one for one in main.commands[command].params if isinstance(one, click.Option) and not one.hidden]
    assert [one.name for one in shown if said.isdisjoint([*one.opts, *one.secondary_opts])] == []
    full = run("help", command).out
    assert [one.opts for one in shown if one.opts[-1] not in full] == []


def test_of_quiet_and_verbose_the_last_counts(run: Run) -> None:
    assert len(run(*FOLD, "-v", "-q").out) < len(run(*FOLD).out) < len(run(*FOLD, "-q", "-v").out)


def test_what_is_left_beside_an_output_is_a_line_even_where_warnings_are_errors(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("export", *NET, "-o", "net.onnx", "--external-data").code == 0
        outcome = run("export", *NET, "-o", "net.onnx")
    assert outcome.code == 0
    assert outcome.out == "wrote net.onnx\n"
    assert outcome.err.startswith("bnfold: warning: net.onnx.data: stays as it was; net.onnx has its weights itself")


def test_a_pipe_gets_no_colours_no_progress_and_no_cut_names(run: Run) -> None:
    name = "a_layer_whose_name_is_long_enough_to_be_cut_in_two_by_any_table_of_eighty_columns"
    Path("net.prototxt").write_text(TEXT.replace('"res2a"', f'"{name}"'), encoding="utf-8")
    outcome = run(*FOLD, "-v")
    assert outcome.err == ""
    assert "\x1b" not in outcome.out
    assert name in outcome.out


def test_no_verify_compares_nothing(run: Run) -> None:
    outcome = run(*FOLD, "--no-verify", "--json", "report.json")
    assert outcome.code == 0
    report = json.loads(Path("report.json").read_text())
    assert report["comparisons"] == []
    assert "compute the same" not in outcome.out


def test_no_flag_states_a_default() -> None:
    """Each click of our range reads one in its own way: with 8.3 `flag_value=False, default=True` left proofs out."""
    flags = [option for command in main.commands.values() for option in command.params if getattr(option, "is_flag", 0)]
    alone = [option for option in flags if not option.secondary_opts]
    assert len(alone) > 30
    assert {str(option.default) for option in alone} <= {"False", "None", "Sentinel.UNSET"}


def test_export_writes_every_layer_unfolded(run: Run) -> None:
    import onnx

    assert run("export", *NET, "-o", "out.onnx", "--opset", "15").code == 0
    model = onnx.load("out.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 15
    assert [node.name for node in model.graph.node].count("res2a_branch1") == 1
    assert any(node.name.startswith("bn2a_branch1") for node in model.graph.node)


def test_convert_writes_caffe_unfolded(run: Run) -> None:
    outcome = run("convert", *NET, "-o", "out.prototxt")
    assert outcome.code == 0
    assert outcome.out.splitlines() == ["wrote out.prototxt, out.caffemodel"]
    assert len(bnfold.load("out.prototxt", "out.caffemodel").layers) == len(bnfold.load(*NET).layers)


def test_convert_refuses_sizes_that_do_not_fit_though_no_weights_say_so(run: Run) -> None:
    Path("net.prototxt").write_text("""
        input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
        layer {
          name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 9 }
        }
    """)
    outcome = run("convert", "net.prototxt", "-o", "out.prototxt")
    assert outcome.code == 2
    assert (
        "net.prototxt: layer 'c' (Convolution): kernel 9x9 spans 9x9, which does not fit a plane of 4x4" in outcome.err
    )
    assert not Path("out.prototxt").exists()


def test_convert_without_weights_writes_a_prototxt_alone(run: Run) -> None:
    outcome = run("convert", "net.prototxt", "-o", "out.prototxt")
    assert (outcome.code, outcome.out) == (0, "wrote out.prototxt\n")
    assert set(files()) == {*NET, "out.prototxt"}


def test_inspect_writes_nothing_and_works_without_weights(run: Run) -> None:
    before = files()
    for args in (NET, NET[:1]):
        outcome = run("inspect", *args)
        assert outcome.code == 0
        assert "13 -> 7 layers" in outcome.out
        assert ("no weights were given" in outcome.out) == (args == NET[:1])
    assert files() == before


def test_inspect_is_strict_about_findings_when_asked(run: Run) -> None:
    Path("net.prototxt").write_text(TEXT.replace("use_global_stats: true", "use_global_stats: false"), encoding="utf-8")
    assert run("inspect", *NET).code == 0
    outcome = run("inspect", *NET, "--strict", "--json", "-")
    assert outcome.code == 1
    inspection = json.loads(outcome.out)
    assert inspection["schema"] == "bnfold-inspection"
    assert inspection["findings"]
    assert {"rule", "severity", "message", "why", "instead"} <= inspection["findings"][0].keys()
    assert {record["kind"] for record in inspection["plan"]["records"]} == {"kept"}


def test_diff_compares_any_two_models(run: Run) -> None:
    run(*FOLD, "-o", "out.onnx")
    for candidate in ("out.onnx", "out.prototxt", "out.prototxt:out.caffemodel"):
        assert run("diff", "net.prototxt", candidate).code == 0
    assert run("diff", "out.onnx", "net.prototxt:net.caffemodel", "--outputs-only").code == 0


def test_a_difference_beyond_the_tolerance_is_exit_code_1(run: Run) -> None:
    outcome = run(*FOLD, "--tolerance", "0", "--json", "report.json")
    assert outcome.code == 1
    assert "The networks differ" in outcome.out
    assert not json.loads(Path("report.json").read_text())["passed"]
    assert set(files()) == {*NET, "report.json"}
    run(*FOLD)
    assert run("diff", "net.prototxt", "out.prototxt", "--tolerance", "0").code == 1


def test_the_json_report_holds_what_the_terminal_says(run: Run) -> None:
    run(*FOLD, "-o", "out.onnx", "--json", "report.json", "--html", "report.html", "--markdown", "report.md")
    report = json.loads(Path("report.json").read_text())
    assert (report["schema"], report["version"], report["passed"]) == ("bnfold-report", 2, True)
    assert report["written"] == ["out.prototxt", "out.caffemodel", "out.onnx"]
    assert [record["kind"] for record in report["fold"]["records"]] == ["folded"] * 6
    assert report["fold"]["layers_before"] == 13
    assert report["fold"]["layers_after"] == 7
    assert [comparison["candidate"] for comparison in report["comparisons"]] == ["out.prototxt", "out.onnx"]
    for comparison in report["comparisons"]:
        (output,) = [blob for blob in comparison["blobs"] if blob["is_output"]]
        assert output["blob"] == "res2a"
        assert 0 <= output["max_rel"] < 1e-6
    assert "<html" in Path("report.html").read_text(encoding="utf-8")
    assert Path("report.md").read_text(encoding="utf-8").startswith("#")


def test_json_to_a_dash_is_all_that_is_printed(run: Run) -> None:
    outcome = run(*FOLD, "--json", "-")
    assert json.loads(outcome.out)["passed"]


def test_every_surviving_blob_is_compared_unless_outputs_alone_are_wanted(run: Run) -> None:
    run(*FOLD, "--json", "many.json")
    run("fold", *NET, "-o", "more.prototxt", "--layers", "--json", "more.json")
    run("fold", *NET, "-o", "less.prototxt", "--outputs-only", "--json", "few.json")
    many, more, few = (
        [blob["blob"] for blob in json.loads(Path(name).read_text())["comparisons"][0]["blobs"]]
        for name in ("many.json", "more.json", "few.json")
    )
    assert few == ["res2a"]
    assert {"res2a", "res2a_branch1", "res2a_branch2a"} <= set(many)
    assert more == many
    assert "--layers" not in run("fold", "--help").out + run("help", "fold").out


def test_input_shape_and_batch_say_what_the_file_does_not(run: Run) -> None:
    assert run(*FOLD, "--input-shape", "data=1,3,20,24", "--batch", "5").code == 0
    assert bnfold.load("out.prototxt", "out.caffemodel").inputs == {"data": (5, 3, 20, 24)}
    assert run("export", *NET, "-o", "out.onnx", "--input-shape", "data=2x3x8x8").code == 0


def test_keep_and_exclude_are_respected_and_reported(run: Run) -> None:
    outcome = run(*FOLD, "--keep", "res2a_branch1@res2a_branch1", "--exclude", "*2a_branch2a", "--json", "report.json")
    assert outcome.code == 0
    records = json.loads(Path("report.json").read_text())["fold"]["records"]
    reasons = {record["layer"]: record["reason"] for record in records if record["kind"] == "kept"}
    assert "--exclude" in reasons["bn2a_branch2a"]
    assert "--exclude" in reasons["scale2a_branch2a"]
    assert "--keep" in reasons["scale2a_branch1"]


def test_in_place_replaces_the_input(run: Run) -> None:
    assert run("fold", *NET, "-o", "net.prototxt", "--in-place").code == 0
    assert set(files()) == set(NET)
    assert len(bnfold.load(*NET).layers) == 7


def test_an_unknown_field_is_passed_over_when_asked(run: Run) -> None:
    Path("net.prototxt").write_text(TEXT.replace("num_output:", "num_ouput: 3 num_output:", 1), encoding="utf-8")
    outcome = run(*FOLD, "--ignore-unknown-fields")
    assert outcome.code == 0
    assert "num_ouput" in outcome.out


def test_a_caffemodel_that_carries_its_network_is_enough(run: Run) -> None:
    assert run("fold", "net.caffemodel", "-o", "out.prototxt").code == 0


def test_a_comma_in_the_name_of_a_caffemodel_joins_only_files_that_are_not_there(run: Run) -> None:
    Path("net.caffemodel").rename("a,b.caffemodel")
    assert run("fold", "net.prototxt", "a,b.caffemodel", "-o", "out.onnx").code == 0


def test_without_a_command_it_shows_the_commands(run: Run) -> None:
    outcome = run()
    assert outcome.code == 0
    assert [name for name in ("fold", "export", "convert", "inspect", "diff") if f"\n  {name} " in outcome.out] == [
        "fold", "export", "convert", "inspect", "diff"
    ]  # fmt: skip


def test_code_of_a_module_that_was_cut_off_is_no_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr("bnfold.pipeline.require_paths", load)
    outcome = run("inspect", "net.prototxt")
    assert outcome.code == 2
    assert "bnfold: code that Python keeps of a module is cut short" in outcome.err


def test_a_fault_of_our_own_is_no_difference_between_networks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("bnfold.pipeline.save", fail)
    outcome = run(*FOLD)
    assert outcome.code == 70
    assert "ZeroDivisionError: oops" in outcome.err
    assert outcome.err.splitlines()[-1] == "bnfold: this is a fault of bnfold and not of your files; please report it"


# As a process of its own.


def python(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, text=True, check=False)


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    done = python("-m", "bnfold", "--version", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("bnfold, version ")


@pytest.mark.parametrize("args", [["--help"], ["fold", "--help"]], ids=" ".join)
def test_help_waits_for_no_heavy_import(args: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom bnfold.cli import main\n"
        f"try: main({args})\nexcept SystemExit: pass\n"
        "heavy = {'google', 'numpy', 'onnx', 'onnxruntime', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = python("-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("args", "spared"),
    [
        (["inspect", "net.prototxt"], {"numpy.ma", "onnx", "onnxruntime", "rich"}),
        (["inspect", *NET], {"numpy.ma", "onnx", "onnxruntime", "rich"}),
        (["fold", *NET, "--no-verify", "-o", "out.prototxt"], {"numpy.ma", "onnx", "onnxruntime", "rich"}),
        (["fold", *NET, "--no-verify", "-o", "out.onnx"], {"numpy.ma", "onnxruntime", "rich"}),
    ],
)
def test_a_command_waits_for_no_import_that_it_does_not_need(args: list[str], spared: set[str], run: Run) -> None:
    script = (
        "import sys\nfrom bnfold.cli import main\n"
        f"try: main({args})\nexcept SystemExit as left: assert not left.code\n"
        f"loaded = {spared} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = python("-c", script, folder=Path.cwd())
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bnfold", "inspect", str(GOLDEN.prototxt), "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there is no terminal to be had on this system")
def test_a_terminal_shows_how_far_the_comparison_is(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "bnfold", "fold", str(GOLDEN.prototxt), str(GOLDEN.caffemodel), "-o", "a.onnx"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b"".join(read_all(ours))
        assert process.stdout is not None
        assert b"\x1b" not in process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"comparing with a.onnx" in shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there is no terminal to be had on this system")
def test_a_terminal_gets_colours_around_the_same_lines_unless_it_wants_none(tmp_path: Path) -> None:
    def shown(**environment: str) -> str:
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "bnfold", "inspect", str(GOLDEN.prototxt)]
        with subprocess.Popen(
            command, stdout=theirs, stderr=theirs, cwd=tmp_path, env=os.environ | {"TERM": "xterm"} | environment
        ):
            os.close(theirs)
            told = b"".join(read_all(ours)).decode()
        os.close(ours)
        return told

    coloured, plain = shown(NO_COLOR=""), shown(NO_COLOR="1")
    assert "\x1b[1m" in coloured
    assert "\x1b[33mnote: " in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain == shown(TERM="dumb")


def read_all(descriptor: int) -> Iterator[bytes]:
    """What comes from a terminal until its other side is closed, which Linux reports as an error."""
    while True:
        try:
            chunk = os.read(descriptor, io.DEFAULT_BUFFER_SIZE)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def test_the_help_at_80_columns_says_of_each_command_a_whole_sentence(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run("--help").out
    assert "..." not in said.partition("Commands:")[2]
    assert "Caffe or ONNX" in said
    assert said.endswith("\n  'bnfold COMMAND --help' shows an example and the usual options.\n")
    assert "a .prototxt beside its .caffemodel" in run("diff", "--help").out


@pytest.mark.parametrize("words", [["--help"], ["fold", "--help"], ["help", "diff"]], ids=" ".join)
def test_the_help_fits_a_terminal_of_40_columns(monkeypatch: pytest.MonkeyPatch, run: Run, words: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = run(*words).out.splitlines()
    # No command is broken, nor what may be typed for an option.
    assert [line for line in lines if len(line) > 40 and not line.startswith(("Example: ", "  --"))] == []
