"""A disk that is full, too small or read-only, a target that is a folder or a link: a sentence, and the old files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import golden

from bnfold import __main__

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = golden("seed_resnet_bn_scale")

# Python ignores SIGXFSZ, so a file that grows too large is an error of write(2), as on a full disk.
LIMITED = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); "


def fold(output: Path, before: str = "import runpy; ") -> subprocess.CompletedProcess[str]:
    arguments = ["bnfold", "fold", str(GOLDEN.prototxt), str(GOLDEN.caffemodel), "--no-verify", "-o", str(output)]
    run = f"{before}import sys; sys.argv[:] = {arguments!r}; runpy.run_module('bnfold', run_name='__main__')"
    # The limit is set by Python here, so this Python would keep the code of what loads bnfold cut off.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, env=environment, timeout=600)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def old_pair(folder: Path) -> dict[str, bytes]:
    shutil.copyfile(GOLDEN.prototxt, folder / "out.prototxt")
    (folder / "out.caffemodel").write_bytes(b"old")
    return contents(folder)


def is_refused(run: subprocess.CompletedProcess[str], *words: str) -> None:
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("bnfold: ")
    assert run.stderr.count("\n") == 1
    for word in words:
        assert word in run.stderr


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own of 8 kB, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "bnfold", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small disk takes root's rights")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_file_that_may_not_grow_is_refused_and_the_old_pair_stays(tmp_path: Path) -> None:
    before = old_pair(tmp_path)
    is_refused(fold(tmp_path / "out.prototxt", LIMITED), "cannot be written: File too large")
    assert contents(tmp_path) == before


def test_a_full_disk_is_refused_and_the_old_pair_stays(disk: Path) -> None:
    before = old_pair(disk)
    assert GOLDEN.caffemodel.stat().st_size < 8192, "the pair fits once, and not twice"
    is_refused(fold(disk / "out.prototxt"), "cannot be written: No space left on device")
    assert contents(disk) == before


def test_a_read_only_disk_is_refused_and_the_old_pair_stays(disk: Path) -> None:
    before = old_pair(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    is_refused(fold(disk / "out.prototxt"), "out.prototxt: is read-only; give another name")
    is_refused(fold(disk / "other.prototxt"), "other.prototxt: cannot be written: Read-only file system")
    assert contents(disk) == before


def test_a_folder_in_the_place_of_either_file_is_refused(tmp_path: Path) -> None:
    for name in ("out.prototxt", "out.caffemodel"):
        (tmp_path / name).mkdir()
        is_refused(fold(tmp_path / "out.prototxt"), f"{name}: is a folder")
        assert contents(tmp_path) == {}
        (tmp_path / name).rmdir()


def test_links_are_written_through_and_stay_links(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("out.prototxt", "out.caffemodel"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    run = fold(tmp_path / "out.prototxt")
    assert run.returncode == 0, run.stderr
    assert all((tmp_path / name).is_symlink() for name in ("out.prototxt", "out.caffemodel"))
    assert sorted(contents(tmp_path / "far")) == ["out.caffemodel", "out.prototxt"]


# What is printed.


def say(shell: str, *arguments: str, buffered: bool = True) -> subprocess.CompletedProcess[str]:
    """bnfold as a shell starts it, with the redirections of `shell`."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "bnfold", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "" if buffered else "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [("--help",), ("inspect", str(GOLDEN.prototxt))])
def test_a_report_that_finds_no_room_is_a_sentence(arguments: tuple[str, ...], buffered: bool) -> None:
    is_refused(say(">/dev/full", *arguments, buffered=buffered), "the report cannot be written: No space left")


@pytest.mark.parametrize(
    ("command", "more", "fate"),
    [
        ("fold", ("--json", "/dev/full"), "out.onnx was written, and proved before that\n"),
        ("fold", ("--json", "/dev/full", "--no-verify"), "out.onnx was written before that\n"),
        ("fold", (), "out.onnx was written, and proved before that\n"),
        ("export", (), "out.onnx was written before that\n"),
        ("fold", ("--tolerance", "0"), "out.onnx was not written, since the proof failed\n"),
    ],
)
def test_a_report_that_finds_no_room_says_what_became_of_the_model(
    tmp_path: Path, command: str, more: tuple[str, ...], fate: str
) -> None:
    out = tmp_path / "out.onnx"
    arguments = [command, str(GOLDEN.prototxt), str(GOLDEN.caffemodel), "-o", str(out), *more]
    run = say("" if "--json" in more else ">/dev/full", *arguments)
    is_refused(run, "cannot be written: No space left on device; ", fate)
    assert out.exists() == ("not written" not in fate)


def test_a_model_that_finds_no_room_is_not_said_to_lack_a_proof(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("one.onnx", "two.onnx")]
    limited = f"{LIMITED}import sys; sys.argv[0] = 'bnfold'; runpy.run_module('bnfold', run_name='__main__')"
    arguments = ["fold", str(GOLDEN.prototxt), str(GOLDEN.caffemodel), "-o", paths[0], "-o", paths[1]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", limited, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    is_refused(run, f"{paths[0]}: cannot be written: File too large; {paths[0]}, {paths[1]} were not written\n")
    assert not list(tmp_path.iterdir())


def test_a_command_under_a_limit_of_size_keeps_no_code_cut_off(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for limit, kept in (("ulimit -f 1; ", False), ("", True)):
        command = ["bash", "-c", f"{limit}exec {sys.executable} -m bnfold nothing"]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        assert (run.returncode, bool(list(tmp_path.rglob("options.*.pyc")))) == (2, kept), run.stderr
        shutil.rmtree(tmp_path)


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_change_no_exit_code(shell: str) -> None:
    assert say(shell, "inspect", str(GOLDEN.prototxt)).returncode == 0
    assert say(shell, "inspect", "nothing.prototxt").returncode == 2


def test_a_stream_put_in_the_place_of_a_closed_one_is_left_open_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    __main__._open_what_is_closed()
    opened: Any = sys.stdout
    os.close(opened.fileno())
    assert not opened.buffer.raw.closefd  # or Python's -X dev warns, when the process ends, that nobody closed it


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    arguments = ["fold", str(GOLDEN.prototxt), str(GOLDEN.caffemodel), "--no-verify", "-o"]
    assert say("<&- >&- 2>&-", *arguments, str(tmp_path / "closed.prototxt")).returncode == 0
    assert say("", *arguments, str(tmp_path / "open.prototxt")).returncode == 0
    for suffix in (".prototxt", ".caffemodel"):
        closed, opened = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("closed", "open"))
        assert closed == opened


def test_a_reader_that_has_gone_is_no_matter_for_words() -> None:
    run = say("| true", "inspect", str(GOLDEN.prototxt))
    assert run.stderr == ""


def test_weights_that_find_no_room_while_they_are_compared_are_a_sentence(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bnfold

    monkeypatch.setattr("bnfold.onnx.graph.IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    net = golden("seed_resnet_bn_scale").load()
    (disk / "filler").write_bytes(bytes(8000))
    with pytest.raises(bnfold.BnfoldError, match="while they are compared, and cannot be written: No space left"):
        bnfold.compare(net, net)
    assert sorted(path.name for path in disk.iterdir()) == ["filler"]
