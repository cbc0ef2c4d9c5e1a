"""Paths and names of every kind that a program can give: taken, or a sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
from command_line import Run

import bnfold
from bnfold.errors import ParseError, UsageError, WriteError
from bnfold.net import Net
from bnfold.pipeline import require_paths

SAMPLE = Path(__file__).parents[1] / "sample_models" / "digits_cifar10"
PROTOTXT, CAFFEMODEL = SAMPLE.with_suffix(".prototxt"), SAMPLE.with_suffix(".caffemodel")
LIBRARY: Any = bnfold  # as a program sees it that no type checker reads


class Says:
    """A path that says what it was told."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def __fspath__(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


class Broken(PosixPath):
    """A path that says nothing."""

    def __fspath__(self) -> str:
        raise RuntimeError("mine")


@pytest.fixture(scope="module")
def net() -> Net:
    return bnfold.load(PROTOTXT, CAFFEMODEL)


USES: dict[str, Callable[[Net, Any], object]] = {
    "load": lambda net, path: LIBRARY.load(path),
    "load, weights": lambda net, path: LIBRARY.load(PROTOTXT, path),
    "load, several weights": lambda net, path: LIBRARY.load(PROTOTXT, [path]),
    "compare, reference": lambda net, path: LIBRARY.compare(path, net),
    "compare, candidate": lambda net, path: LIBRARY.compare(net, path),
    "compare, samples": lambda net, path: LIBRARY.compare(net, net, path),
    "compare, checkpoint": lambda net, path: LIBRARY.compare(net, net, checkpoint=path),
    "save_onnx": lambda net, path: LIBRARY.save_onnx(net, path),
    "save_onnx, of ONNX": lambda net, path: LIBRARY.save_onnx(LIBRARY.load(LIBRARY.to_onnx(net)), path),
    "save_caffe": lambda net, path: LIBRARY.save_caffe(net, path),
    "save_caffe, weights": lambda net, path: LIBRARY.save_caffe(net, "net.prototxt", path),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        (Says(3), "a Says is not a valid path: .*int"),
        (Says(None), "a Says is not a valid path: .*NoneType"),
        (Says(RuntimeError("mine")), "a Says is not a valid path: mine"),
        (Broken("net.prototxt"), "a Broken is not a valid path: mine"),
        ("net\ud800", r"'net\\ud800': no file can have this name, which has an unpaired surrogate"),
        (Path("net\ud800"), r"'net\\ud800': no file can have this name, which has an unpaired surrogate"),
        ("net\0", r"'net\\x00': no file can have this name, which has a NUL"),
    ],
    ids=["number", "nothing", "raises", "subclass", "text", "path", "NUL"],
)
def test_what_says_no_path_is_a_sentence(
    net: Net, path: Any, said: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        USES[use](net, path)
    assert not list(tmp_path.iterdir())


def test_advice_on_what_says_no_path_is_a_sentence() -> None:
    for path in ("net\ud800", Path("net\ud800"), Broken("net.prototxt")):
        with pytest.raises(UsageError, match=r"no file can have this name|is not a valid path: mine"):
            bnfold.advise(path)


def test_what_says_a_path_in_bytes_is_one(net: Net, tmp_path: Path) -> None:
    place = Says(os.fsencode(tmp_path / "net.onnx"))
    LIBRARY.save_onnx(net, place)
    assert LIBRARY.compare(net, place).passed
    np.save(tmp_path / "data.npy", np.ones((1, 1, 8, 8), np.float32))
    assert LIBRARY.compare(net, net, Says(os.fsencode(tmp_path / "data.npy"))).passed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_checkpoint_that_is_a_pipe_or_has_too_long_a_name_is_a_sentence(net: Net, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"pipe' is no checkpoint of a comparison"):  # reading it waits for ever
        bnfold.compare(net, net, checkpoint=tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"the checkpoint '.*' cannot be written: File name too long"):
        bnfold.compare(net, net, checkpoint=tmp_path / ("x" * 300))


def test_a_folder_without_rights_is_a_sentence_for_external_data(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object, *more: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    bnfold.save_onnx(net, tmp_path / "net.onnx", external_data=True)
    monkeypatch.setattr(Path, "lstat", refused)
    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(WriteError, match=r"other\.onnx: cannot be written: Permission denied"):
        bnfold.save_onnx(net, tmp_path / "other.onnx", external_data=True)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody may search, be the tests root's or not."""
    stat = os.stat

    def refused(path: Any, *more: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and Path(os.path.abspath(os.fsdecode(path))).parent == tmp_path / "locked":
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *more, **options)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "stat", refused)
    return tmp_path / "locked"


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.mdb", "x.txt", "x"])
def test_data_in_a_folder_without_rights_are_not_said_to_be_missing(
    run: Run, net: Net, locked: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=rf"^the data '{locked / name}' cannot be read: Permission denied$"):
        bnfold.compare(net, net, locked / name)
    outcome = run("diff", "net.prototxt", "net.prototxt", "--data", str(locked / name))
    assert outcome.err == f"bnfold: the data '{locked / name}' cannot be read: Permission denied\n"


@pytest.mark.parametrize("line", ["locked/x.png", "locked/x.png 3"])
def test_a_list_names_the_line_whose_file_nobody_may_look_for(net: Net, locked: Path, line: str) -> None:
    (locked.parent / "list.txt").write_text(f"{line}\n")
    with pytest.raises(ParseError, match=r"list\.txt:1: the file 'locked/x\.png' cannot be read: Permission denied"):
        bnfold.compare(net, net, locked.parent / "list.txt")


@pytest.mark.parametrize("row", ["locked/a.onnx net.prototxt", "net.prototxt net.prototxt locked/x.npz"])
def test_a_table_says_why_it_or_what_it_names_cannot_be_read(run: Run, locked: Path, row: str) -> None:
    assert run("diff", "--pairs", "table").err == "bnfold: table: cannot be read: No such file or directory\n"
    Path("table").write_text(f"{row}\n")
    said = run("diff", "--pairs", "table").err
    assert said.startswith("bnfold: table:1: 'locked/")
    assert said.endswith("cannot be read: Permission denied\n")


def test_metadata_that_no_model_can_hold_are_a_sentence(net: Net) -> None:
    for metadata in ({"key": "a\udc80"}, {"a\udc80": "value"}):
        with pytest.raises(UsageError, match=r"metadata of a model is UTF-8, and 'a\\udc80' is not"):
            bnfold.to_onnx(net, metadata=metadata)


@pytest.mark.parametrize(
    "name", ["conv2", "data", "prob", "Sigmoid", "kernel_shape", "conv2/weight", "digits_cifar10", "ai.bnfold"]
)
def test_a_model_with_a_name_that_is_no_text_is_a_sentence(net: Net, tmp_path: Path, name: str) -> None:
    message = bnfold.to_onnx(net)
    message.opset_import.add(domain="ai.bnfold", version=1)
    path = tmp_path / "net.onnx"
    path.write_bytes(message.SerializeToString().replace(name.encode(), name[:-1].encode() + b"\xe9"))
    for use in (bnfold.load, lambda path: bnfold.load(path.read_bytes()), lambda path: bnfold.compare(path, net)):
        with pytest.raises(
            ParseError, match=r"is damaged: a name in it is no UTF-8: b'.*\\xe9.*; copy or export it again"
        ):
            use(path)


@pytest.mark.parametrize("name", [b"conv2", b"data", b"prob"])
def test_caffe_files_with_names_that_are_no_text_end_in_no_traceback(tmp_path: Path, name: bytes) -> None:
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    for old, new in ((PROTOTXT, prototxt), (CAFFEMODEL, caffemodel)):
        new.write_bytes(old.read_bytes().replace(name, name[:-1] + b"\xe9"))
    result = bnfold.fold(bnfold.load(prototxt, caffemodel))
    bnfold.save_caffe(result.net, tmp_path / "out.prototxt")
    assert bnfold.compare(tmp_path / "out.prototxt", result.net).passed


def test_a_link_to_nothing_says_where_it_leads(run: Run) -> None:
    Path("gone.onnx").symlink_to("nowhere.onnx")
    said = run("inspect", "gone.onnx").err
    assert said == "bnfold: gone.onnx: cannot be read: it is a symbolic link to nowhere.onnx, which does not exist\n"


@pytest.mark.parametrize("read", ["samples.npz", "."])
def test_nothing_is_written_onto_data_that_is_read(read: str, tmp_path: Path) -> None:
    (tmp_path / "samples.npz").write_bytes(b"samples")
    (tmp_path / "net.onnx").write_bytes(b"model")
    data = [tmp_path / read]
    require_paths([tmp_path / "net.onnx"], reports=[tmp_path / "other.json"], data=data)
    why = (
        ", so it cannot be written as well; give another"
        if read != "."
        else f", since it lies in the folder {data[0]}; "
    )
    with pytest.raises(UsageError, match=rf"samples\.npz: is an input of this run{re.escape(why)}"):
        require_paths([tmp_path / "net.onnx"], reports=[tmp_path / "samples.npz"], data=data)
