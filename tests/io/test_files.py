"""Files appear whole, together, or not at all: checked by failing, interrupting and killing at every step."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnfold.errors import LeftoverWarning, UsageError, WriteError
from bnfold.io import files
from bnfold.io.files import Output, OutputSet, interrupted, nearby

ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(params=["with locks", "without locks"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a system that can lock a folder and on one that cannot."""
    if request.param == "without locks":
        monkeypatch.setattr(files, "fcntl", None)
    return tmp_path


def write_pair(folder: Path, what: bytes) -> None:
    with OutputSet() as outputs:
        outputs.open(folder / "net.caffemodel").write(what)
        outputs.open(folder / "net.prototxt").write(what)


# What is there afterwards


def test_a_file_is_there_when_the_block_ends_and_not_before(folder: Path) -> None:
    with OutputSet() as outputs:
        output = outputs.open(folder / "a")
        output.write(b"one")
        output.write(memoryview(bytes(range(256)) * 4096))
        output.write(b"")
        assert not (folder / "a").exists()
    assert contents(folder) == {"a": b"one" + bytes(range(256)) * 4096}


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="only Linux takes advice")
@pytest.mark.parametrize("knows_advice", [True, False])
def test_the_disk_begins_while_a_large_file_is_written_and_once_with_each_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch, knows_advice: bool
) -> None:
    told: list[tuple[int, int]] = []

    def advise(descriptor: int, at: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        told.append((at, at + size))
        if not knows_advice:
            raise OSError(errno.ENOTSUP, "no advice")

    monkeypatch.setattr(files, "AHEAD", 1 << 20)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    piece = bytes(range(256)) * 1200
    floats: Any = memoryview(piece).cast("f")
    with OutputSet() as outputs:
        output = outputs.open(folder / "a")
        for _ in range(12):
            assert output.write(floats) == len(piece)
    assert contents(folder) == {"a": piece * 12}
    assert [begin for begin, _ in told] == [0, *(end for _, end in told[:-1])]
    assert len(piece) * 12 - told[-1][1] < 1 << 20


def test_text_is_written_as_utf8_with_what_was_not_text_given_back(folder: Path) -> None:
    with OutputSet() as outputs:
        outputs.write_text(folder / "a", "é\udcff\n")
    assert contents(folder) == {"a": "é".encode() + b"\xff\n"}


def test_a_pair_replaces_a_pair_and_leaves_nothing_else(folder: Path) -> None:
    for what in (b"old", b"new"):
        write_pair(folder, what)
        assert contents(folder) == {"net.caffemodel": what, "net.prototxt": what}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_everything_as_it_was(folder: Path, error: type[BaseException]) -> None:
    (folder / "a").write_bytes(b"old")

    def write_and_fail() -> None:
        with OutputSet() as outputs:
            outputs.open(folder / "a").write(b"new" * 100_000)
            outputs.open(folder / "b").write(b"new")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert contents(folder) == {"a": b"old"}


@pytest.mark.parametrize(
    "happens",
    [lambda file: os.truncate(file, 1), Path.unlink, lambda file: os.replace(shutil.copy(file, f"{file}2"), file)],
    ids=["cut", "removed", "replaced"],
)
def test_a_finished_file_that_somebody_else_changes_gets_no_name(
    folder: Path, happens: Callable[[Path], object]
) -> None:
    def write_and_change() -> None:
        with OutputSet() as outputs:
            outputs.open(folder / "net").write(b"proved")
            outputs.open(folder / "weights").write(b"proved")
            outputs.finish()
            happens(outputs.staged(folder / "net"))

    with pytest.raises(WriteError, match="net: somebody changed or removed the new file before it got this name"):
        write_and_change()
    assert contents(folder) == {}


def test_nothing_to_write_is_nothing_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with OutputSet():
        pass
    assert contents(folder) == {}


def test_the_old_file_keeps_its_mode_and_a_new_one_follows_the_umask(folder: Path) -> None:
    (folder / "old").write_bytes(b"")
    (folder / "old").chmod(0o640)
    before = os.umask(0o027)
    try:
        with OutputSet() as outputs:
            outputs.open(folder / "old").write(b"x")
            outputs.open(folder / "new").write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "old").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o640


def test_a_very_long_name_can_be_written(folder: Path) -> None:
    name = "ü" * 120 + ".caffemodel"
    with OutputSet() as outputs:
        outputs.open(folder / name).write(b"x")
    assert contents(folder) == {name: b"x"}


# What is refused


def test_writing_onto_an_input_is_refused_unless_in_place(folder: Path) -> None:
    source = folder / "a"
    source.write_bytes(b"old")
    (folder / "link").symlink_to(source)
    for path in (source, folder / "." / "a", folder / "link"):
        with pytest.raises(UsageError, match="--in-place"), OutputSet([source]) as outputs:
            outputs.open(path)
    with OutputSet([source], in_place=True) as outputs:
        outputs.open(source).write(b"new")
    assert source.read_bytes() == b"new"


def test_one_file_cannot_be_two_outputs(folder: Path) -> None:
    with pytest.raises(UsageError, match="two outputs"), OutputSet() as outputs:
        _ = [outputs.open(path) for path in (folder / "a", folder / "." / "a")]
    assert contents(folder) == {}


def test_a_target_that_cannot_be_a_file_is_refused_with_a_sentence(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    for name, sentence in [
        ("folder", "is a folder"),
        ("loop", "symbolic link"),
        ("pipe", "is not a regular file; give another name"),
        ("missing/a", "there is no folder .*missing; make it first"),
        ("a\0b", "cannot be written"),
        ("x" * 300, "cannot be written: File name too long"),
    ]:
        path = folder / name
        with pytest.raises(WriteError, match=sentence) as caught, OutputSet() as outputs:
            outputs.open(path).write(b"x")
        assert str(caught.value).startswith(f"{path}: ")


def test_a_read_only_file_and_a_read_only_folder_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, for whom nothing is read-only.
    (folder / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WriteError, match="a: is read-only; give another name"), OutputSet() as outputs:
        outputs.open(folder / "a")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match="b: cannot be written: Permission denied"), OutputSet() as outputs:
        outputs.open(folder / "b")


def test_a_symbolic_link_is_written_through_even_if_it_leads_nowhere(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "old").write_bytes(b"old")
    (folder / "link").symlink_to("old")
    (folder / "dangling").symlink_to("sub/new")
    with OutputSet() as outputs:
        outputs.open(folder / "link").write(b"1")
        outputs.open(folder / "dangling").write(b"2")
    assert (folder / "link").is_symlink()
    assert (folder / "dangling").is_symlink()
    assert (folder / "old").read_bytes() == b"1"
    assert (folder / "sub" / "new").read_bytes() == b"2"


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a").write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="a: cannot be written: No space left on device"), OutputSet() as outputs:
        outputs.open(folder / "a").write(b"new" * 100_000)
    monkeypatch.undo()
    assert contents(folder) == {"a": b"old"}


def test_a_write_that_finds_no_room_is_a_sentence_of_that_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with OutputSet() as outputs:
        output = outputs.open(folder / "a")
        with monkeypatch.context() as patch:
            patch.setattr(output, "_file", Full())
            with pytest.raises(WriteError, match="a: cannot be written: No space left"):
                output.write(b"new")
    assert contents(folder) == {"a": b""}


# Failing and being killed between the steps of a replacement


def steps(monkeypatch: pytest.MonkeyPatch, fail_at: int, error: BaseException) -> list[str]:
    """Make the n-th change of a folder fail."""
    done: list[str] = []

    def failing(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            done.append(name)
            if len(done) == fail_at:
                raise error
            return original(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    failing("replace")
    return done


@pytest.mark.parametrize("fail_at", range(1, 6))
def test_a_failure_at_any_step_leaves_the_old_pair(folder: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int) -> None:
    write_pair(folder, b"old")
    with monkeypatch.context() as patch:
        done = steps(patch, fail_at, OSError(errno.EIO, "Input/output error"))
        if fail_at <= 4:
            with pytest.raises(WriteError, match="Input/output error"):
                write_pair(folder, b"new")
            assert contents(folder) == {"net.caffemodel": b"old", "net.prototxt": b"old"}
        else:
            write_pair(folder, b"new")
            assert len(done) == 4


def failing(monkeypatch: pytest.MonkeyPatch, name: str, of: Callable[[Any], bool]) -> None:
    """Have a function of os fail as on a disk that fails."""
    original = getattr(os, name)

    def call(what: Any, *arguments: Any, **options: Any) -> Any:
        if of(what):
            raise OSError(errno.EIO, "Input/output error")
        return original(what, *arguments, **options)

    monkeypatch.setattr(os, name, call)


LEFT_BEHIND: dict[str, tuple[Callable[[Any], bool], str, list[str]]] = {
    "fsync": (lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode), "so its files may be the old ones again", []),
    "unlink": (
        lambda path: str(path).endswith(files.OLD_SUFFIX),
        "could not be removed",
        ["net.caffemodel.bnfold-old"],
    ),
    "rmdir": (lambda path: True, "this folder could not be removed", [".bnfold-"]),
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_a_disk_does_not_do_behind_whole_outputs_is_a_warning_that_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_pair(folder, b"old")
    of, sentence, left = LEFT_BEHIND[name]
    with monkeypatch.context() as patch:
        failing(patch, name, of)
        with pytest.warns(LeftoverWarning, match=f"^{folder}.*{sentence}") as warned:
            write_pair(folder, b"new")
    assert {(folder / name).read_bytes() for name in ("net.caffemodel", "net.prototxt")} == {b"new"}
    there = [path.name for path in folder.iterdir()]
    assert all(any(path.startswith(one) for path in there) for one in left)
    assert len(warned) == (2 if name == "unlink" else 1)
    write_pair(folder, b"newer")
    if name == "unlink":
        assert contents(folder) == {"net.caffemodel": b"newer", "net.prototxt": b"newer"}


def test_an_old_file_that_cannot_be_put_back_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(folder, b"old")
    done: list[str] = []

    def from_the_second_on(path: Path) -> bool:
        done.append(path.name)
        return len(done) > 1

    with monkeypatch.context() as patch:
        failing(patch, "replace", from_the_second_on)
        with pytest.raises(WriteError) as failed:
            write_pair(folder, b"new")
    path = folder / "net.caffemodel"
    assert failed.value.__notes__ == [f"the old {path} could not be put back, and is {path}.bnfold-old"]


def test_a_failure_leaves_no_new_file_where_there_was_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, 2, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(WriteError):
        write_pair(folder, b"new")
    monkeypatch.undo()
    assert contents(folder) == {}


class Killed(BaseException):
    """Stands for `kill -9`: nothing is put back."""


@pytest.mark.parametrize("step", range(1, 5))
def test_a_crash_at_any_step_is_noticed_and_the_next_run_repairs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write_pair(folder, b"old")
    pair = {"net.caffemodel", "net.prototxt"}
    with monkeypatch.context() as patch:
        real = os.replace
        calls = 0

        def replace(source: str, target: str) -> None:
            nonlocal calls
            calls += 1
            if calls >= step:  # also where what was moved would be put back
                patch.setattr(Path, "unlink", lambda *_, **__: None)
                raise Killed
            real(source, target)

        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            write_pair(folder, b"new")
    found = {name: what for name, what in contents(folder).items() if name in pair}
    assert len(found) < 2 or set(found.values()) == {b"old"}
    for name in pair - set(found):
        assert f"{name}.bnfold-old" in interrupted(folder / name)
        assert (folder / f"{name}.bnfold-old").read_bytes() == b"old"
    write_pair(folder, b"newer")
    assert contents(folder) == {"net.caffemodel": b"newer", "net.prototxt": b"newer"}


def test_a_leftover_of_a_crash_is_put_back_when_the_next_run_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(folder, b"new")
    (folder / "net.prototxt").unlink()
    for name in ("net.prototxt", "net.caffemodel"):
        (folder / f"{name}.bnfold-old").write_bytes(b"old")
    steps(monkeypatch, 3, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(WriteError):
        write_pair(folder, b"newer")
    monkeypatch.undo()
    assert contents(folder) == {"net.caffemodel": b"old", "net.prototxt": b"old"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nett.prototxt", "net.prototxt"), ("net.protoxt", "net.prototxt"), ("h.prototxt", ""), ("x.npy", "")],
)
def test_a_file_of_the_same_suffix_alone_was_not_meant(tmp_path: Path, name: str, meant: str) -> None:
    for there in ("net.prototxt", "f.prototxt", "u.npy"):
        (tmp_path / there).touch()
    assert nearby(tmp_path / name) == (f" (did you mean '{meant}'?)" if meant else "")


def test_a_file_that_is_there_was_not_interrupted(folder: Path) -> None:
    assert interrupted(folder / "a") == ""
    (folder / "a.bnfold-old").write_bytes(b"")
    assert "a run was killed" in interrupted(folder / "a")
    (folder / "a").write_bytes(b"")
    assert interrupted(folder / "a") == ""


def test_a_file_in_a_folder_that_may_not_be_looked_into_was_not_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "stat", refuse)
    assert interrupted(folder / "a") == ""


def test_a_process_that_the_host_forks_meanwhile_keeps_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = []  # descriptors of the same locks, as a child of `os.fork` has them as long as it lives

    class Forking(files._Lock):
        def __init__(self, folder: Path, *, wait: bool = True) -> None:
            del wait
            super().__init__(folder, wait=False)
            assert self.is_held, "would wait for the end of the child"
            forked.append(os.dup(self._fd))

    monkeypatch.setattr(files, "_Lock", Forking)
    write_pair(tmp_path, b"new")
    for descriptor in forked:
        os.close(descriptor)
    assert contents(tmp_path) == {"net.caffemodel": b"new", "net.prototxt": b"new"}


def test_ctrl_c_during_the_renames_waits_for_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(folder, b"old")
    place = Output.place

    def interrupted_place(output: Output, name: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        place(output, name)

    monkeypatch.setattr(Output, "place", interrupted_place)
    with pytest.raises(KeyboardInterrupt):
        write_pair(folder, b"new")
    assert contents(folder) == {"net.caffemodel": b"new", "net.prototxt": b"new"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
