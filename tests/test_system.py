"""What the system gives or refuses: streams, pipes, limits, signals of a host program, and nothing told to anybody."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from command_line import FOLD, GOLDEN, NET, Run, files
from nets import net

import bnfold
from bnfold.errors import UnsupportedError
from bnfold.net import Blobs

ROOT = Path(__file__).parents[1]
OTHER = 'layer { name: "r" type: "ReLU" bottom: "data" top: "y" }'


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of the shell, for which `bnfold` is a command."""
    script = f'bnfold() {{ "{sys.executable}" -m bnfold "$@"; }}\n{script}'
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", script], env=given, capture_output=True, text=True, timeout=600)


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, text=True, timeout=600)


# Streams and pipes.


@pytest.mark.parametrize(
    "script",
    [
        "bnfold inspect <(cat net.prototxt) <(cat net.caffemodel)",
        "cat net.prototxt | bnfold inspect /dev/stdin net.caffemodel",
        "bnfold inspect /dev/stdin net.caffemodel < net.prototxt",
        "cat net.caffemodel | bnfold inspect net.prototxt /dev/stdin",
    ],
)
def test_a_stream_is_read_once_and_is_as_good_as_a_file(run: Run, script: str) -> None:
    done = shell(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run("inspect", *NET).out


@pytest.mark.parametrize("name", ["net.prototxt", "net.caffemodel", "model.onnx"])
@pytest.mark.parametrize("command", ["inspect", "diff -q {name}", "fold -q -o out.onnx"])
def test_a_model_that_is_piped_in_is_known_by_its_contents(run: Run, name: str, command: str) -> None:
    assert run("export", *NET, "-o", "model.onnx").code == 0
    words = command.format(name=name)
    weights = {"inspect": " net.caffemodel", "fold": " net.caffemodel", "diff": ":net.caffemodel"}[command.split()[0]]
    weights *= name.endswith("prototxt")
    Path("spaced").write_bytes(b"\n" * name.endswith("prototxt") + Path(name).read_bytes())
    piped = shell(f"cat spaced | bnfold {words} /dev/stdin{weights} --batch 1")
    assert (piped.returncode, piped.stderr) == (0, "")
    from_its_path = run(*f"{words} {name}{weights} --batch 1".split())
    assert piped.stdout.splitlines()[:1] == from_its_path.out.splitlines()[:1] != []


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="names descriptors as Linux and macOS do")
def test_an_onnx_model_behind_a_descriptor_has_its_initialisers_frozen(run: Run) -> None:
    assert run("export", *NET, "-o", "model.onnx").code == 0
    for name, is_onnx in (("model.onnx", True), ("net.caffemodel", False)):
        descriptor = os.open(name, os.O_RDONLY)
        piped = f"/dev/fd/{descriptor}"
        try:
            done = run("diff", "--freeze-initializers", piped, piped)
            mixed = run("diff", "--freeze-initializers", piped, "model.onnx")
        finally:
            os.close(descriptor)
        assert (f"note: {piped}: --freeze-initializers changes nothing" in done.out) == is_onnx
        assert ("--freeze-initializers would be ignored: no model is ONNX" in done.err) != is_onnx
        assert (done.code, mixed.code) == (0 if is_onnx else 2, 0)
        assert (f"{piped}: --freeze" in mixed.out) == is_onnx


def test_a_caffemodel_is_compared_as_the_network_that_it_carries(run: Run) -> None:
    assert run("export", "net.caffemodel", "-o", "model.onnx").code == 0
    assert run("diff", "net.caffemodel", "model.onnx", "--caffemodel-dialect", "bvlc").code == 0
    pair = "net.prototxt:net.caffemodel"
    assert "ignored" not in run("diff", "net.caffemodel", pair, "--caffemodel-dialect", "bvlc").err
    for candidate in ("model.onnx", pair):
        idle = run("diff", "net.prototxt", candidate, "--caffemodel-dialect", "bvlc")
        assert (idle.code, "--caffemodel-dialect would be ignored" in idle.err) == (2, True)


def test_a_prototxt_without_weights_beside_it_is_compared_if_it_needs_none(run: Run) -> None:
    text = 'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    Path("plain.prototxt").write_text(text)
    assert run("diff", "plain.prototxt", "plain.prototxt").code == 0
    Path("bare.prototxt").write_bytes(Path("net.prototxt").read_bytes())
    needing = run("diff", "net.prototxt", "bare.prototxt")
    assert needing.code == 2
    assert "bare.prototxt: no caffemodel was given, and" in needing.err
    assert "call the two bare.prototxt:net.caffemodel" in needing.err
    Path("other.caffemodel").touch()  # which of the two is meant, nothing tells
    assert "call the two bare.prototxt:WEIGHTS.caffemodel" in run("diff", "net.prototxt", "bare.prototxt").err


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("field", ["", 'type: "Upsample"'])
def test_which_of_two_networks_is_meant_is_said(run: Run, place: int, field: str) -> None:
    shape = "input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }" if field else ""
    layer = f'layer {{ name: "odd" {field} bottom: "data" top: "y" }}' if field else OTHER
    Path("other.prototxt").write_text(f'input: "data" {shape} {layer}')
    names = ["net.prototxt", "net.prototxt"]
    names[place] = "other.prototxt"
    refused = run("diff", *names)
    assert (refused.code, refused.err.count("other.prototxt")) == (2, 1), refused.err


def test_a_net_from_streams_is_folded_and_proved(run: Run) -> None:
    done = shell("bnfold fold <(cat net.prototxt) <(cat net.caffemodel) -o out.prototxt -o out.onnx")
    assert done.returncode == 0, done.stderr
    assert "The networks compute the same" in done.stdout
    assert done.stdout.endswith("wrote out.prototxt, out.caffemodel, out.onnx\n")


def test_a_dash_is_told_what_standard_input_is_called(run: Run) -> None:
    assert "No such file or directory; standard input is called /dev/stdin" in run("inspect", "-").err


def test_caffemodels_may_have_more_names_than_a_path_has_letters(run: Run) -> None:
    names = [f"{number:09}.caffemodel" for number in range(400)]
    for name in names:
        os.link("net.caffemodel", name)
    assert run("fold", "net.prototxt", ",".join(names), "-o", "out.onnx", "--no-verify").code == 0


def test_a_name_that_is_too_long_is_the_one_that_is_named(run: Run) -> None:
    Path("out.onnx").touch()
    name = "a" * 300 + ".onnx"
    assert f"{name}: cannot be read: File name too long" in run("fold", name, "-o", "out.onnx").err


def test_an_empty_stream_is_empty(run: Run) -> None:
    done = shell("bnfold inspect /dev/stdin < /dev/null")
    assert (done.returncode, done.stderr) == (2, "bnfold: /dev/stdin: is empty\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "pipe"),
        ("inspect", "net.prototxt", "pipe"),
        ("convert", "pipe", "-o", "out.prototxt"),
        ("diff", "net.prototxt", "pipe.onnx"),
        ("diff", "net.prototxt:pipe", "net.prototxt"),
        (*FOLD, "--data", "pipe"),
        (*FOLD, "--data", "pipe.npz"),
        (*FOLD, "--data", "pipe.npy"),
        (*FOLD, "--data", "list.txt"),
        (*FOLD, "--data", "data.npz", "--mean", "pipe.binaryproto"),
        (*FOLD, "--data", "data.npz", "--mean", "pipe.npy"),
        (*FOLD, "--json", "pipe"),
        ("fold", *NET, "-o", "pipe.onnx"),
    ],
    ids=" ".join,
)
def test_a_pipe_is_no_file_and_nobody_waits_for_it(run: Run, arguments: tuple[str, ...]) -> None:
    for name in ("pipe", "pipe.onnx", "pipe.npz", "pipe.npy", "pipe.binaryproto"):
        os.mkfifo(name)
    Path("list.txt").write_text("pipe 3\n")
    inputs: dict[str, Any] = GOLDEN.inputs
    np.savez("data.npz", **inputs)
    signal.alarm(60)  # else a fault would hold the tests up
    try:
        outcome = run(*arguments)
    finally:
        signal.alarm(0)
    assert outcome.code == 2
    assert "is not a regular file" in outcome.err
    assert "out.prototxt" not in files()


def test_a_mean_file_is_read_only_where_it_lies_beside_the_prototxt(run: Run, tmp_path: Path) -> None:
    from bnfold.data.preparation import from_net
    from bnfold.errors import ParseError, UsageError

    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (folder, tmp_path):
        np.save(place / "mean.npy", np.full((3, 1, 1), 7 if place is folder else 9, np.float32))
    os.mkfifo(folder / "fifo.binaryproto")
    layer = 'layer {{ name: "data" type: "ImageData" top: "data" transform_param {{ mean_file: "{}" }} }}'
    reader = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }'

    def said(mean: str) -> object:
        (folder / "net.prototxt").write_text(layer.format(mean) + reader)
        return from_net(bnfold.load(folder / "net.prototxt", guess_shapes=True))

    for name in ("mean.npy", "data/of/the/training/mean.npy"):
        preparation = said(name)
        assert float(np.max(preparation.mean)) == 7  # type: ignore[attr-defined]
    for name in ("../mean.npy", str(tmp_path / "mean.npy")):  # never the file outside: the one beside, which has 7
        assert float(np.max(said(name).mean)) == 7  # type: ignore[attr-defined]
    (folder / "mean.npy").unlink()
    for name in ("../mean.npy", str(tmp_path / "mean.npy")):
        with pytest.raises(UsageError, match="is not there; give the mean with --mean"):
            said(name)
    with pytest.raises(ParseError, match="is not a regular file"):
        said("fifo.binaryproto")


# Sizes.


def test_a_caffemodel_beyond_what_caffe_reads_is_refused_by_its_size(tmp_path: Path) -> None:
    rows = (1 << 31) // 4 // 1024
    text = 'input: "data" input_shape { dim: 1 dim: 1024 } layer { name: "fc" type: "InnerProduct" bottom: "data" '
    text += 'top: "fc" inner_product_param { num_output: %d bias_term: false } }'
    for fewer, fits in ((0, False), (1, True)):
        made = net(text % (rows - fewer), fc=[np.zeros((rows - fewer, 1024), np.float32)])
        if fits:
            # Below the limit it would be written; that takes 2 GiB of the disk, so the size is all that is asked.
            continue
        made.layers[-1].blobs = Blobs([np.broadcast_to(np.float32(1), (rows, 1024))])
        with pytest.raises(
            UnsupportedError, match=r"out\.caffemodel: would have 2,147,483,\d+ bytes, and Caffe reads no"
        ):
            bnfold.save_caffe(made, tmp_path / "out.prototxt")
    assert not list(tmp_path.iterdir())


# Limits. Python itself needs four descriptors and some memory to start.


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count other things")
@pytest.mark.parametrize("limit", ["-n 5", "-n 8", "-v 20000", "-v 50000", "-v 80000", "-v 100000", "-v 200000"])
def test_what_the_system_refuses_is_a_sentence_and_exit_code_2(run: Run, limit: str) -> None:
    before = set(files())
    done = shell(f"ulimit {limit}; bnfold {' '.join(FOLD)} > printed")
    said = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    if done.returncode:  # another machine may do with less
        assert done.returncode == 2
        assert said[-1].startswith("bnfold: ")
        assert set(files()) == before | {"printed"}
    else:
        assert {"out.prototxt", "out.caffemodel"} <= set(files())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(24, "Too many open files"), "the system refuses: Too many open files"),
        (PermissionError(13, "Permission denied", "/some/where"), "the system refuses: /some/where: Permission denied"),
        (
            RuntimeError("can't start new thread"),
            "the system allows no further thread (see `ulimit -u` and `ulimit -v`)",
        ),
        (ImportError("libx.so: failed to map segment", name="numpy"), "(out of memory?): libx.so: failed"),
        (
            ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"),
            "the Python package onnxruntime is missing; 'pip install onnxruntime' installs it",
        ),
        (ModuleNotFoundError("No module named 'google'", name="google"), "'pip install protobuf' installs it"),
        (
            ModuleNotFoundError("No module named 'onnx.parser'", name="onnx.parser"),
            "the Python package onnx is incomplete: No module named 'onnx.parser'; "
            "'pip install --force-reinstall onnx' may repair it",
        ),
        (
            ImportError("libz.so.1: cannot open shared object file", name="onnx"),
            "a library cannot be loaded: libz.so.1: cannot open shared object file; "
            "'pip install --force-reinstall onnx' may repair it",
        ),
        (MemoryError(), "out of memory; nothing was left half-written"),
    ],
)
def test_the_culprit_is_named_and_it_is_not_the_report(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("bnfold.pipeline.read", fail)
    outcome = run(*FOLD)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert "report" not in outcome.err
    assert "memory" not in outcome.err or "memory" in sentence


def test_a_folder_that_is_gone_is_said(run: Run, tmp_path: Path) -> None:
    done = shell(f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir ../gone && bnfold inspect net.prototxt")
    assert (done.returncode, done.stderr) == (
        2,
        "bnfold: the folder that this was started in is gone; go to another one\n",
    )


def test_a_package_without_which_nothing_starts_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n")
    done = shell(f"PYTHONPATH={tmp_path}:$PYTHONPATH bnfold --help")
    assert done.returncode == 2
    said = "bnfold: cannot start: the Python package click is missing; 'pip install click' installs it\n"
    assert done.stderr == said


def test_an_import_that_fails_of_our_own_is_a_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("cannot import name 'x'", name="bnfold.net")

    monkeypatch.setattr("bnfold.pipeline.read", fail)
    assert run(*FOLD).code == 70


@pytest.mark.parametrize(
    "option", ["--batch=99999999999999999999", "--batch=2147483647", "--input-shape=data=1,3,99999999999999999999,5"]
)
def test_a_number_beyond_every_limit_is_refused(run: Run, option: str) -> None:
    outcome = run(*FOLD, option)
    assert outcome.code == 2
    assert "more than Caffe allows" in outcome.err


def test_a_system_without_fchmod_and_locks_writes_all_the_same(run: Run) -> None:
    script = (
        "import os, sys\n"
        "for name in ('fchmod', 'O_TMPFILE', 'posix_fallocate', 'posix_fadvise', 'link'): delattr(os, name)\n"
        "sys.modules['fcntl'] = None\n"
        "from bnfold.cli import main\n"
        f"main({list(FOLD)!r})\n"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert set(files()) == {*NET, "out.prototxt", "out.caffemodel"}


@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize("report", [(), ("--json", "report.json")])
def test_a_folder_that_cannot_be_removed_is_a_line_and_no_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch, report: tuple[str, ...]
) -> None:
    def rmdir(path: Any) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", rmdir)
        outcome = run(*FOLD, "--no-verify", *report)
    assert outcome.code == 0
    assert {*NET, "out.prototxt", "out.caffemodel", *report[1:]} <= set(files())
    said = r"bnfold: warning: .*\.bnfold-\w+: this folder could not be removed \(Input/output error\); nothing in it .*"
    assert outcome.err
    assert all(re.fullmatch(said, line) for line in outcome.err.splitlines())


@pytest.mark.parametrize("output", ["there/out.onnx", "there/out.prototxt", "link/out.onnx"])
@pytest.mark.parametrize("after", [False, True])
def test_a_folder_that_is_removed_during_the_proof_is_no_reason_to_write_without_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, output: str, after: bool
) -> None:
    from bnfold import pipeline

    real = pipeline.prove

    def removed() -> None:
        shutil.rmtree("there")
        Path("link").unlink()

    def prove(*arguments: Any) -> Any:
        if not after:
            removed()
        proofs = real(*arguments)
        removed()
        return proofs

    monkeypatch.setattr(pipeline, "prove", prove)
    Path("there").mkdir()
    Path("link").symlink_to("there")
    outcome = run("fold", *NET, "-o", output)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--no-verify" not in outcome.err
    changed = "somebody changed or removed the new file before it got this name"
    said = changed if after else "since somebody removed what was to be proved, or the folder"
    assert said in outcome.err
    assert not Path("there").exists()


@pytest.mark.parametrize("command", [("fold",), ("fold", "--no-verify"), ("export",), ("fold", "--outputs-only")])
def test_a_source_that_is_written_to_meanwhile_gives_no_output(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    from bnfold import pipeline

    to_onnx, prove = pipeline.FORMATS["onnx"], pipeline.prove

    def write() -> None:
        with open("net.caffemodel", "r+b") as file:
            file.seek(-400, os.SEEK_END)
            file.write(bytes(range(200)))

    def saved(*arguments: Any) -> Any:
        written = to_onnx(*arguments)
        write()
        return written

    def proved(*arguments: Any) -> Any:
        write()
        return prove(*arguments)

    if "--outputs-only" in command:
        monkeypatch.setattr(pipeline, "prove", proved)
    else:
        monkeypatch.setitem(cast("Any", pipeline.FORMATS), "onnx", saved)
    outcome = run(*command, *NET, "-o", "out.onnx")
    assert outcome.code == 2
    assert "net.caffemodel: was written to after it was read" in outcome.err
    assert "--no-verify" not in outcome.err
    assert not Path("out.onnx").exists()


# A library in somebody's program.

HOST = """
import ctypes, signal
libc = ctypes.CDLL(None)
made = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
address = ctypes.cast(made, ctypes.c_void_p).value
libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    libc.signal(number, address)
import sys
finders = list(sys.meta_path)
hooks = sys.excepthook, sys.unraisablehook
import bnfold, bnfold.onnx, bnfold.runtime, bnfold.compare.comparison, bnfold.pipeline
net = bnfold.load("net.prototxt", "net.caffemodel")
result = bnfold.fold(net)
bnfold.save_caffe(result.net, "out.prototxt")
bnfold.save_onnx(result.net, "out.onnx")
assert bnfold.compare(net, result.net).passed
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    assert libc.signal(number, address) == address, number
assert sys.meta_path == finders
assert hooks == (sys.excepthook, sys.unraisablehook)
"""


@pytest.mark.skipif(os.name != "posix", reason="takes a C library with signal(2)")
def test_a_host_keeps_its_signal_handlers_and_import_hooks(run: Run) -> None:
    done = python(HOST)
    assert done.returncode == 0, done.stderr


def test_no_file_is_read_by_the_encoding_of_the_locale(run: Run) -> None:
    script = "import warnings; warnings.filterwarnings('error', category=EncodingWarning, module='bnfold')\n"
    options = ["--json", "report.json", "--html", "report.html", "--markdown", "report.md"]
    script += f"from bnfold.cli import main\nmain({[*FOLD, '-o', 'out.onnx', *options]!r})\n"
    done = python(script, PYTHONWARNDEFAULTENCODING="1")
    assert done.returncode == 0, done.stderr


def test_a_handler_of_the_hosts_in_python_waits_for_renames_and_is_called() -> None:
    from bnfold.io.signals import defer_signals

    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: called.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            assert called == []
        assert called == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


# Nothing is told to anybody.


@pytest.mark.parametrize("program", ["python -m bnfold " + " ".join(FOLD), "library", "loaded before"])
def test_nothing_is_written_below_the_home_folder(
    run: Run, tmp_path_factory: pytest.TempPathFactory, program: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    library = "import bnfold\nnet = bnfold.load('net.prototxt', 'net.caffemodel')\nbnfold.compare(net, net)\n"
    if program == "library":
        command = [sys.executable, "-c", library]
    elif program == "loaded before":
        command = [sys.executable, "-c", f"import bnfold.runtime\nbnfold.runtime.engine()\n{library}"]
    else:
        command = [sys.executable, *program.split()[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [str(path) for path in home.rglob("*")] == []
