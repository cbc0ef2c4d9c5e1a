"""A file gets its name when its proof has passed, whatever ends the proof; and no file is read and written at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from command_line import FOLD, GOLDEN, NET, Run, files

import bnfold
from bnfold import pipeline
from bnfold.caffe.frontend import Caffe
from bnfold.compare.records import DiffReport
from bnfold.errors import ModelError, WriteError
from bnfold.io.files import OutputSet

ROOT = Path(__file__).parents[1]
FAILS = ("--tolerance", "1e-12")
IN_PLACE = ("fold", *NET, "-o", "net.prototxt", "--in-place")


# A proof that fails.


def test_a_failed_proof_writes_nothing_and_says_so(run: Run) -> None:
    outcome = run(*FOLD, "-o", "out.onnx", *FAILS, "--json", "report.json")
    assert outcome.code == 1
    assert set(files()) == {*NET, "report.json"}
    said = "out.prototxt, out.caffemodel, out.onnx were not written, since the proof failed"
    assert said in outcome.out
    report = json.loads(Path("report.json").read_text())
    assert report["written"] == []
    assert any(said in note for note in report["notes"])


@pytest.mark.parametrize("options", [IN_PLACE, FOLD])
def test_a_failed_proof_leaves_older_files_as_they_were(run: Run, options: tuple[str, ...]) -> None:
    for suffix in ("prototxt", "caffemodel"):
        Path(f"out.{suffix}").write_bytes(b"older")
    before = files()
    assert run(*options, *FAILS).code == 1
    assert files() == before


def test_what_failed_is_kept_under_another_name_when_asked(run: Run) -> None:
    before = files()
    outcome = run(*IN_PLACE, *FAILS, "--keep-failed")
    assert outcome.code == 1
    assert "see net.prototxt.failed, net.caffemodel.failed" in outcome.out
    after = files()
    assert set(after) - set(before) == {"net.prototxt.failed", "net.caffemodel.failed"}
    assert {name: after[name] for name in NET} == before
    # It is what would have been written.
    run(*FOLD)
    assert after["net.caffemodel.failed"] == Path("out.caffemodel").read_bytes()


def test_without_a_proof_a_file_is_written_at_once(run: Run) -> None:
    assert run(*IN_PLACE, "--no-verify").code == 0
    assert len(bnfold.load(*NET).layers) == 7


def test_a_proof_reads_weights_beside_the_model_where_both_lie_until_then(run: Run) -> None:
    # An older data file of that name holds other numbers: a proof that read it would fail.
    Path("out.onnx.data").write_bytes(bytes(1 << 16))
    assert run("fold", *NET, "-o", "out.onnx", "--external-data").code == 0
    assert run("diff", "net.prototxt", "out.onnx").code == 0


def test_reports_call_files_by_the_names_that_they_get(run: Run) -> None:
    outcome = run(*FOLD, "-o", "out.onnx", "--json", "r.json", "--markdown", "r.md", "--html", "r.html")
    texts = [outcome.out, *(Path(f"r.{suffix}").read_text() for suffix in ("json", "md", "html"))]
    for text in texts:
        assert "out.onnx" in text
        assert ".bnfold-" not in text


def test_a_link_without_the_suffix_is_written_through_and_proved(run: Run) -> None:
    Path("out.onnx").symlink_to("model")
    assert run("fold", *NET, "-o", "out.onnx", "--external-data").code == 0
    assert Path("out.onnx").is_symlink()
    assert Path("model").stat().st_size
    assert run("diff", "net.prototxt", "out.onnx").code == 0


# A proof that does not end.


def test_a_proof_that_stops_with_an_error_writes_nothing_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> DiffReport:
        raise ModelError("onnxruntime cannot run the model")

    monkeypatch.setattr(pipeline, "prove", stop)
    before = files()
    outcome = run(*IN_PLACE)
    assert outcome.code == 2
    assert outcome.err == (
        "bnfold: onnxruntime cannot run the model; net.prototxt, net.caffemodel were not written, since the proof did "
        "not end; --no-verify writes without a proof\n"
    )
    assert files() == before


WAITING = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # nohup, or a shell without job control, may have started the tests
from bnfold import pipeline
from bnfold.__main__ import run
from bnfold.onnx.graph import WeightStore
def wait(*_, **__):
    with WeightStore() as held:
        held._opened()
        print("comparing", flush=True)
        time.sleep(60)
pipeline.prove = wait
sys.argv[0] = "bnfold"
run()
"""


def test_a_model_that_onnxruntime_cannot_run_is_named_with_what_it_lacks(run: Run) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    net (float[1,2,5,5] x) => (float[1,2,5,5] z)
    <float[2,2,1,1] w = {1.0, 2.0, -3.0, 4.0}, float k = {2.0}>
    { c = Conv (x, w)  y = Mul (c, k)  z = own.Strange (y) }
    """
    Path("odd.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    before = files()
    done = run("fold", "odd.onnx", "-o", "out.onnx")
    assert done.code == 2
    assert done.err == (
        "bnfold: odd.onnx: onnxruntime cannot load the model: Fatal error: own:Strange(-1) is not a registered "
        "function/op; what cannot be run cannot be compared; out.onnx was not written, since the proof did not end; "
        "--no-verify writes without a proof\n"
    )
    assert files() == before
    assert run("fold", "odd.onnx", "-o", "out.onnx", "--no-verify").code == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Conv", "Strange"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_stopped_while_it_compares_leaves_the_originals_and_nothing_else(
    run: Run, tmp_path_factory: pytest.TempPathFactory, number: int, code: int
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    before = files()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", WAITING, *IN_PLACE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [path for path in temporary.iterdir() if path.name.startswith("bnfold-")]
        process.send_signal(number)
        _, said = process.communicate(timeout=600)
    assert process.returncode == code
    expected = "bnfold: interrupted; net.prototxt, net.caffemodel were not written, since the proof did not end"
    assert said.decode().strip() == expected
    assert files() == before
    assert not list(temporary.iterdir())


# Reports.


@pytest.mark.parametrize(("kind", "begin"), [("markdown", "### "), ("html", "<!doctype html>"), ("json", "{\n")])
def test_a_dash_prints_a_rendering_and_nothing_else(run: Run, kind: str, begin: str) -> None:
    printed = run(*FOLD, f"--{kind}", "-")
    assert printed.code == 0
    assert printed.out.startswith(begin)
    run(*FOLD, f"--{kind}", "report")
    # A page tells when it was made, and by which command.
    assert len(printed.out.splitlines()) == len(Path("report").read_text(encoding="utf-8").splitlines())
    assert "wrote out.prototxt" not in printed.out


def test_two_dashes_are_refused_before_any_work(run: Run) -> None:
    outcome = run(*FOLD, "--json", "-", "--markdown", "-")
    assert outcome.code == 2
    assert "only one of them can be printed" in outcome.err
    assert set(files()) == set(NET)


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("html", "report.json", "--json"),
        ("json", "report.HTML", "--html"),
        ("json", "report.md", "--markdown"),
        ("markdown", "report.htm", "--html"),
    ],
)
def test_a_report_under_the_suffix_of_another_is_refused_before_any_work(
    run: Run, kind: str, name: str, meant: str
) -> None:
    outcome = run(*FOLD, f"--{kind}", name)
    assert outcome.code == 2
    assert f"--{kind} {name}: a file called so holds what {meant} writes" in outcome.err
    assert set(files()) == set(NET)


def test_an_extra_that_is_missing_is_found_before_any_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("work was begun"))
    outcome = run(*FOLD, "--html", "report.html")
    assert outcome.code == 2
    assert "--html needs jinja2: pip install 'bnfold[html]'" in outcome.err


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of the shell, for which `bnfold` is a command."""
    script = f'bnfold() {{ "{sys.executable}" -m bnfold "$@"; }}\n{script}'
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=given, capture_output=True, text=True, timeout=600)


def test_a_report_to_standard_output_is_appended_where_that_leads(run: Run) -> None:
    Path("log").write_text("first\n")
    done = shell(f"bnfold {' '.join(FOLD)} --json /dev/stdout >> log", Path())
    assert done.returncode == 0, done.stderr
    log = Path("log").read_text()
    assert log.startswith('first\n{\n "schema"')
    assert log.endswith("wrote out.prototxt, out.caffemodel\n")


@pytest.mark.parametrize("place", ["/dev/fd/1", "/dev/null", ">(cat > copy; rm -f wait)"])
def test_a_report_goes_to_what_is_open_already(run: Run, place: str) -> None:
    Path("wait").touch()
    done = shell(
        f"bnfold {' '.join(FOLD)} --json {place}; [ -e copy ] && while [ -e wait ]; do sleep 0.1; done", Path()
    )
    assert "Traceback" not in done.stderr
    said = Path("copy").read_text() if "copy" in place else done.stdout
    assert ('"schema": "bnfold-report"' in said) == (place != "/dev/null")
    assert "wrote out.prototxt" in done.stdout


# Every file is one of its own.


def with_data() -> None:
    """Samples in three forms, and a mean."""
    case: dict[str, Any] = GOLDEN.inputs
    np.savez("d.npz", **case)
    np.save("mean.npy", np.zeros(3, np.float32))
    image = pytest.importorskip("PIL.Image")
    Path("imgs").mkdir()
    for number in range(2):
        image.new("RGB", (16, 16), (number * 100, 50, 9)).save(f"imgs/{number}.png")
    Path("list.txt").write_text("imgs/0.png 1\nimgs/1.png 0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (*FOLD, "--data", "d.npz", "--json", "d.npz"),
        (*FOLD, "--data", "imgs", "--html", "imgs/1.png"),
        (*FOLD, "--data", "list.txt", "--markdown", "list.txt"),
        (*FOLD, "--data", "list.txt", "--markdown", "imgs/0.png"),
        (*FOLD, "--data", "imgs", "--mean", "mean.npy", "--json", "mean.npy"),
        ("diff", "net.prototxt", "net.prototxt", "--data", "d.npz", "--json", "d.npz"),
        ("diff", "net.prototxt", "net.prototxt", "--json", "net.caffemodel"),
        ("inspect", *NET, "--json", "net.caffemodel"),
        ("fold", *NET, "-o", "y.onnx", "--external-data", "--json", "y.onnx.data"),
        ("fold", *NET, "-o", "y.onnx", "--json", "y.onnx.data"),
        ("export", *NET, "-o", "y.onnx", "-o", "./y.onnx"),
        ("convert", *NET, "-o", "net.prototxt"),
        (*FOLD, "--json", "out.caffemodel"),
        (*FOLD, "--json", "r", "--html", "./r"),
        (*IN_PLACE, "--json", "net.caffemodel"),
        ("fold", *NET, "-o", "linked.prototxt"),
    ],
    ids=" ".join,
)
def test_a_file_that_would_be_read_and_written_or_written_twice_is_refused(
    run: Run, arguments: tuple[str, ...]
) -> None:
    with_data()
    Path("linked.prototxt").symlink_to("net.prototxt")
    before = files()
    images = files(Path("imgs"))
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("bnfold: ")
    assert files() == before
    assert files(Path("imgs")) == images


def test_a_new_file_in_the_folder_of_the_data_is_none_of_the_data(run: Run) -> None:
    with_data()
    Path("net.prototxt").write_text(Path("net.prototxt").read_text().replace("dim: 1", "dim: 2", 1))
    assert run(*FOLD, "--data", "imgs", "--json", "imgs/report.json").code == 0


# Two runs onto one pair.


def test_of_two_runs_onto_one_pair_one_wins_whole_and_the_other_says_so(tmp_path: Path) -> None:
    def begun(what: bytes) -> OutputSet:
        outputs = OutputSet()
        for name in ("a.prototxt", "a.caffemodel"):
            outputs.open(tmp_path / name).write(what)
        return outputs

    first, second = begun(b"first"), begun(b"second")
    with first:
        pass
    with (
        pytest.raises(WriteError, match=r"a\.prototxt: another run wrote it meanwhile, and what it wrote stays"),
        second,
    ):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a.prototxt": b"first",
        "a.caffemodel": b"first",
    }


RACE = """
import sys
from pathlib import Path
from bnfold.errors import WriteError
from bnfold.io.files import OutputSet
what = sys.argv[1].encode() * 20
print("ready", flush=True)
won = lost = 0
for _ in range(300):
    try:
        with OutputSet() as outputs:
            for name in ("a.prototxt", "a.caffemodel"):
                outputs.open(Path(name)).write(what)
        won += 1
    except WriteError as error:
        assert "another run wrote it meanwhile" in str(error), error
        lost += 1
print(won, lost)
"""


@pytest.mark.slow
def test_a_pair_that_many_runs_write_is_never_mixed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, name], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in ("first", "second", "third")
    ]
    counts = []
    for process in runs:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        counts.append([int(word) for word in said.split()[1:]])
    assert all(won + lost == 300 for won, lost in counts)
    assert sum(lost for _, lost in counts), "the runs never met"
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(found) == {"a.prototxt", "a.caffemodel"}
    assert len(set(found.values())) == 1


def test_files_whose_names_agree_at_first_do_not_meet(tmp_path: Path) -> None:
    names = ["n" * 200 + end for end in ("a", "b")]
    sets = [OutputSet() for _ in names]
    for outputs, name in zip(sets, names, strict=True):
        outputs.open(tmp_path / name).write(name.encode())
    for outputs in sets:
        with outputs:
            pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in names}


def test_what_a_killed_run_left_is_cleared_and_what_a_live_one_has_is_not(tmp_path: Path) -> None:
    abandoned = tmp_path / ".bnfold-0123456789abcdef"
    abandoned.mkdir()
    (abandoned / "huge").write_bytes(b"x")
    live = OutputSet()
    live.open(tmp_path / "b").write(b"live")
    assert not abandoned.exists()
    with OutputSet() as outputs:
        outputs.open(tmp_path / "a").write(b"a")
    with live:
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


# Names.


@pytest.mark.parametrize("length", [235, 244, 255])
def test_a_name_may_be_as_long_as_the_file_system_lets_it(run: Run, length: int) -> None:
    name = "n" * (length - len(".caffemodel")) + ".prototxt"
    for _ in range(2):  # the second time there are old ones to be moved aside
        assert run("fold", *NET, "-o", name).code == 0
    assert len(files()) == 4
    assert run("fold", *NET, "-o", name, *FAILS, "--keep-failed").code == 1
    assert len(files()) == 6


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_names_that_are_not_utf_8_are_read_and_written(run: Run) -> None:
    stem = os.fsdecode(b"caf\xe9")
    for suffix in ("prototxt", "caffemodel"):
        shutil.copyfile(f"net.{suffix}", f"{stem}.{suffix}")
    model = (f"{stem}.prototxt", f"{stem}.caffemodel")
    reports = [word for kind in ("json", "html", "markdown") for word in (f"--{kind}", f"{stem}.{kind}")]
    outcome = run("fold", *model, "-o", f"{stem}2.prototxt", "-o", f"{stem}.onnx", *reports)
    assert outcome.code == 0, outcome.err
    assert os.fsencode(stem) + b".html" in os.listdir(b".")
    for kind in ("json", "html", "markdown"):
        assert Path(f"{stem}.{kind}").read_bytes().decode("utf-8")
    written = json.loads(Path(f"{stem}.json").read_bytes())["written"]
    assert written == [f"{stem}2.prototxt", f"{stem}2.caffemodel", f"{stem}.onnx"]
    assert run("diff", f"{stem}.prototxt", f"{stem}.onnx").code == 0
    assert run("inspect", *model, "--json", "-").code == 0
    refused = run("export", *model, "-o", f"{stem}3.onnx", "--external-data")
    assert refused.code == 2
    assert "names its weights' file in UTF-8" in refused.err


def test_a_file_that_has_an_output_less_is_not_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = 'layer { name: "size" type: "Crop" bottom: "data" bottom: "conv1" top: "size" crop_param { axis: 2 } }'
    text = """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                convolution_param { num_output: 2 kernel_size: 3 } }
        layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "bn1" }
    """
    bnfold.save_caffe(nets.net(text + reader), "size.prototxt")
    monkeypatch.setattr(Caffe, "outputs_are_unread", False)
    outcome = run("fold", "size.prototxt", "size.caffemodel", "-o", "out.prototxt")
    assert outcome.code == 2
    assert "out.prototxt: a layer reads 'bn1', and what is read is no output of a Caffe network" in outcome.err
    assert not Path("out.prototxt").exists()
