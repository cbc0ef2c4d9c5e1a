"""Bad input on the command line: one sentence, exit code 2, and every file as it was."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cases import golden
from command_line import FOLD, GOLDEN, MODEL, NET, TEXT, Run, files

import bnfold
from bnfold.net import Blobs


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


def with_statistics(change: Callable[[list[np.ndarray]], None]) -> bytes:
    """The caffemodel with other statistics in its first BatchNorm."""
    net = bnfold.load(GOLDEN.prototxt, GOLDEN.caffemodel)
    layer = next(layer for layer in net.layers if layer.type == "BatchNorm")
    blobs = [np.array(blob) for blob in layer.blobs]
    change(blobs)
    layer.blobs = Blobs(blobs)
    return written(net)


def written(net: bnfold.Net) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        bnfold.save_caffe(net, Path(folder) / "net.prototxt")
        return (Path(folder) / "net.caffemodel").read_bytes()


def put(blob: int, index: int, value: float) -> Callable[[list[np.ndarray]], None]:
    def change(blobs: list[np.ndarray]) -> None:
        blobs[blob][index] = value

    return change


AGAIN = 'layer { name: "again" type: "ReLU" bottom: "data" top: "res2a_branch1" }'
ODD = 'layer { name: "odd" type: "Odd" bottom: "res2a" top: "odd" }'

NPY = io.BytesIO()
np.save(NPY, np.zeros((2, 3, 16, 16), np.float32))

Content = str | bytes | None

BAD: dict[str, tuple[tuple[str, ...], dict[str, Content], str]] = {
    "a bottom that nobody makes": (
        FOLD,
        {"net.prototxt": changed('bottom: "data"', 'bottom: "date"')},
        r"net.prototxt: layer 'res2a_branch1' \(Convolution\) reads 'date', which no layer makes",
    ),
    "a caffemodel cut short": (
        FOLD,
        {"net.caffemodel": MODEL[:-1]},
        r"net.caffemodel: is damaged or cut short.* byte \d+; copy it again",
    ),
    "a caffemodel cut very short": (FOLD, {"net.caffemodel": MODEL[:10]}, "net.caffemodel: is damaged or cut short"),
    "a caffemodel that does not exist": (
        ("fold", "net.prototxt", "nix", *FOLD[3:]),
        {},
        "nix: cannot be read: No such",
    ),
    "a caffemodel that is a folder": (("fold", "net.prototxt", "x", *FOLD[3:]), {"x": None}, "x: is a folder"),
    "a caffemodel that is empty": (FOLD, {"net.caffemodel": b""}, "net.caffemodel: is empty"),
    "a caffemodel with bytes overwritten": (
        FOLD,
        {"net.caffemodel": MODEL[:40] + b"\xff" * 60 + MODEL[100:]},
        "net.caffemodel: is damaged or cut short",
    ),
    "a command that is none": (("fuse",), {}, "No such command 'fuse'"),
    "a field that no Caffe has": (
        FOLD,
        {"net.prototxt": changed("num_output:", "num_ouput: 3 num_output:")},
        r"net.prototxt:13:23: unknown field 'num_ouput' .* --ignore-unknown-fields",
    ),
    "a folder as output": ((*FOLD[:-1], "x.prototxt"), {"x.prototxt": None}, "x.prototxt: is a folder"),
    "a gate without what it needs": (
        (*FOLD, "--max-top1-drop", "0.1"),
        {},
        "--max-top1-drop needs a classifier, and --data with labels",
    ),
    "a gate without a classifier": ((*FOLD, "--min-agreement", "0.1"), {}, "--min-agreement needs a classifier"),
    "a layer that cannot be exported": (
        ("export", *NET, "-o", "out.onnx"),
        {"net.prototxt": TEXT + ODD},
        r"cannot be written as ONNX .*\n  layer 'odd' \(Odd\)",
    ),
    "a layout that is none": (
        (*FOLD, "--batchnorm-layout", "nix"),
        {},
        "--batchnorm-layout.*'nix' is not one of 'bvlc'",
    ),
    "a mean that is none": ((*FOLD, "--data", "x.npy", "--mean", "1,b"), {}, "the mean '1,b' is neither numbers"),
    "a missing caffemodel": (
        ("fold", "net.prototxt", "-o", "out.prototxt"),
        {},
        "no caffemodel was given, and 9 of .*; name it behind the prototxt, as in 'net.prototxt net.caffemodel'",
    ),
    "a missing caffemodel for an export": (("export", "net.prototxt", "-o", "a.onnx"), {}, "no caffemodel was given"),
    "a model to compare that does not exist": (("diff", "net.prototxt", "nix.onnx"), {}, "nix.onnx: cannot be read"),
    "a model to compare that is none": (("diff", "net.prototxt", "b.onnx"), {"b.onnx": b"\xff"}, "b.onnx: is not an"),
    "text to compare": (
        ("diff", "net.prototxt", "b.onnx"),
        {"b.onnx": b"hello"},
        "b.onnx: is text and not a model in O",
    ),
    "a model to compare of unknown suffix": (
        ("diff", "net.prototxt", "b.pb"),
        {"b.pb": b"hello"},
        "candidate 'b.pb' is neither an",
    ),
    "a NaN in a mean": (FOLD, {"net.caffemodel": with_statistics(put(0, 2, np.nan))}, "mean of channel 2 is nan"),
    "a NaN in a variance, exported": (
        ("export", *NET, "-o", "out.onnx"),
        {"net.caffemodel": with_statistics(put(1, 5, np.nan))},
        r"layer 'bn2a_branch1' \(BatchNorm\): variance of channel 5 is nan",
    ),
    "a mean that is not finite": (
        (*FOLD, "--data", "x.npy", "--mean", "nan"),
        {},
        "the command line: the mean and",
    ),
    "a memory without a unit": ((*FOLD, "--memory", "4"), {}, "expected SIZE like 500M or 4G, 1M at least, got '4'"),
    "a memory without end": (
        (*FOLD, "--memory", "1e400"),
        {},
        "expected SIZE like 500M or 4G, 1M at least, got '1e400'",
    ),
    "a scale that is not finite": (
        (*FOLD, "--data", "x.npy", "--scale", "inf"),
        {},
        "scale of images must be finite",
    ),
    "a tolerance without end": ((*FOLD, "--tolerance", "inf"), {}, "the tolerance is inf; it must be 0 or more"),
    "a tolerance that passes anything": ((*FOLD, "--tolerance", "5"), {}, "with 5 of its range a blob may hold"),
    "an input of two shapes": (
        (*FOLD, "--input-shape", "data=1,3,16,16", "--input-shape", "data=1,3,8,8"),
        {},
        "--input-shape: 'data' is given two values",
    ),
    "arrays that would be prepared": (
        (*FOLD, "--data", "x.npy", "--scale", "2"),
        {"x.npy": NPY.getvalue()},
        "2 samples of x.npy: what prepares images does nothing to arrays",
    ),
    "a negative tolerance": ((*FOLD, "--tolerance", "-1"), {}, "the tolerance is -1; it must be 0 or more"),
    "a negative variance": (
        FOLD,
        {"net.caffemodel": with_statistics(put(1, 3, -1e6))},
        r"layer 'bn2a_branch1' \(BatchNorm\): variance \+ eps of channel 3 is -1",
    ),
    "a prototxt cut short": (FOLD, {"net.prototxt": TEXT[:-3]}, r"net.prototxt:84:7: the '\{' of 'layer' is never"),
    "a prototxt that does not exist": (
        ("fold", "nix", "net.caffemodel", *FOLD[3:]),
        {},
        "nix: cannot be read: No such",
    ),
    "a prototxt that does not parse": (
        FOLD,
        {"net.prototxt": changed('top: "data"', 'top "data"')},
        "net.prototxt:5:7: expected ':'",
    ),
    "a prototxt that is a folder": (("fold", "x", "net.caffemodel", *FOLD[3:]), {"x": None}, "x: is a folder"),
    "a prototxt that is binary": (FOLD, {"net.prototxt": bytes(range(256))}, "net.prototxt: is binary"),
    "a prototxt that is empty": (FOLD, {"net.prototxt": ""}, "net.prototxt: is empty"),
    "a prototxt for a caffemodel": (("fold", NET[0], NET[0], *FOLD[3:]), {}, "net.prototxt: is text and not a caffem"),
    "a prototxt for a caffemodel and the other way round": (
        ("fold", NET[1], NET[0], *FOLD[3:]),
        {},
        "the prototxt comes first: net.prototxt net.caffemodel",
    ),
    "a report in a folder that is not there": ((*FOLD, "--json", "nix/r.json"), {}, "nix/r.json: there is no folder"),
    "a report of a comparison onto a model": (
        ("diff", "net.prototxt", "net.prototxt", "--json", NET[1]),
        {},
        "is an input",
    ),
    "a report of an inspection onto the input": (("inspect", *NET, "--json", NET[0]), {}, "net.prototxt: is an input"),
    "a report onto an output": ((*FOLD, "--json", "out.prototxt"), {}, "out.prototxt: two outputs"),
    "a report onto another": ((*FOLD, "--json", "r", "--html", "r"), {}, "r: two outputs"),
    "a report onto the input": (
        (*FOLD, "--json", "net.prototxt"),
        {},
        "net.prototxt: is an input of this run, so it cannot",
    ),
    "a report onto the input, in place": (
        (*FOLD, "--in-place", "--json", NET[0]),
        {},
        "net.prototxt: is an input",
    ),
    "a scale factor of 0 beside statistics": (
        FOLD,
        {"net.caffemodel": with_statistics(put(2, 0, 0))},
        "--zero-scale-factor caffe or --zero-scale-factor one",
    ),
    "a shape for no input": (
        (*FOLD, "--input-shape", "nix=1,3,8,8"),
        {},
        r"--input-shape nix: the network has no input of that name \(there is 'data'\)",
    ),
    "a shape of other channels": ((*FOLD, "--input-shape", "data=1,4,8,8"), {}, "weights of 2 layers do not fit"),
    "a shape that is none": (
        (*FOLD, "--input-shape", "data=1,x"),
        {},
        "expected BLOB=N,C,H,W like data=1,3,224,224, got 'data=1,x'",
    ),
    "a shape with a zero": ((*FOLD, "--input-shape", "data=0,3,8,8"), {}, "got 'data=0,3,8,8'"),
    "a shape without a name": ((*FOLD, "--input-shape", "1,3,8,8"), {}, "got '1,3,8,8'"),
    "a shape without numbers": ((*FOLD, "--input-shape", "data"), {}, "got 'data'"),
    "an infinite variance": (
        FOLD,
        {"net.caffemodel": with_statistics(put(1, 1, np.inf))},
        "variance of channel 1 is inf",
    ),
    "a seed below zero": ((*FOLD, "--seed", "-1"), {}, "-1 is not in the range x>=0"),
    "images scaled and not given": ((*FOLD, "--scale", "2"), {}, "--scale prepares images, and --data is not given"),
    "images prepared and not given": (
        (*FOLD, "--crop", "5", "--swap-channels"),
        {},
        "--swap-channels and --crop prepare images, and --data is not given",
    ),
    "an option that is none": ((*FOLD, "--nix"), {}, r"No such option.*--nix.* \('bnfold fold --help'"),
    "an opset that is a word": ((*FOLD, "--opset", "new"), {}, "Invalid value for '--opset': 'new' is no whole number"),
    "a part of a seed": ((*FOLD, "--seed", "1.5"), {}, "'1.5' is no whole number"),
    "a tolerance that is a word": ((*FOLD, "--tolerance", "low"), {}, "'low' is no number"),
    "an opset that is none": ((*FOLD, "--opset", "99"), {}, "99 is not in the range"),
    "an output in a folder that is not there": ((*FOLD[:-1], "nix/out.prototxt"), {}, "nix/.*: there is no folder"),
    "an output of no known format": ((*FOLD[:-1], "out.pb"), {}, "out.pb: the suffix chooses the format, and must be"),
    "an output of the other format, converted": (("convert", *NET, "-o", "a.onnx"), {}, "'bnfold export'"),
    "an output of the other format, exported": (("export", *NET, "-o", "a.prototxt"), {}, "'bnfold convert'"),
    "an output onto the caffemodel": (
        ("fold", "net.prototxt", "out.caffemodel", "-o", "out.prototxt"),
        {"out.caffemodel": MODEL},
        "out.caffemodel: is an input of this run",
    ),
    "an output onto the input": ((*FOLD[:-1], "net.prototxt"), {}, "is an input of this run; .* --in-place"),
    "an output twice": ((*FOLD, "-o", "out.prototxt"), {}, "two outputs of one run cannot be the same file"),
    "data that does not exist": ((*FOLD, "--data", "nix.npz"), {}, "the data 'nix.npz' does not exist"),
    "data that is none": ((*FOLD, "--data", "x.npz"), {"x.npz": b"hello"}, "x.npz: "),
    "no blob to keep": ((*FOLD, "--keep", "nix"), {}, "--keep nix: the network has no blob of that name"),
    "no layer to exclude": (
        (*FOLD, "--exclude", "nix*"),
        {},
        r"--exclude nix\*: the network has no layer of that name",
    ),
    "no output": (("fold", *NET), {}, "Missing option '-o'"),
    "no prototxt": (("fold", "-o", "out.prototxt"), {}, r"Missing argument 'NET.prototxt\|MODEL.onnx'"),
    "sizes that do not fit": (
        FOLD,
        {"net.prototxt": changed("num_output: ", "num_output: 1")},
        r"layer 'res2a' \(Eltwise\): bottoms of 1x18x16x16 and 1x8x16x16 must have the same shape",
    ),
    "two makers of a blob": (
        FOLD,
        {"net.prototxt": TEXT + AGAIN},
        r"layer 'again' \(ReLU\) writes 'res2a_branch1', which layer 'scale2a_branch1' has written already",
    ),
    "weights of another network": (
        FOLD,
        {"net.caffemodel": golden("ip_bn").caffemodel.read_bytes()},
        "the weights of 9 layers do not fit the network: is it the caffemodel of another network?",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_leaves_every_file_as_it_was(run: Run, what: str) -> None:
    args, contents, sentence = BAD[what]
    for name, content in contents.items():
        if content is None:
            Path(name).mkdir()
        else:
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    before = files()
    outcome = run(*args)
    assert outcome.code == 2
    assert outcome.out == ""
    assert files() == before
    first, *listed = outcome.err.splitlines()
    assert first.startswith("bnfold: ")
    # Only a list of layers may follow.
    assert all(line.startswith("  layer '") for line in listed)
    assert re.search(sentence, outcome.err), outcome.err


def test_weights_that_are_missing_or_misshapen_are_named_all_at_once(run: Run) -> None:
    Path("net.caffemodel").write_bytes(golden("ip_bn").caffemodel.read_bytes())
    lines = run(*FOLD).err.splitlines()
    assert len(lines) == 1 + 9


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 2, "out of memory")],
    ids=["interrupted", "out of memory"],
)
def test_a_run_that_is_stopped_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr("bnfold.pipeline.save", stop)
    outcome = run(*FOLD)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.strip() == f"bnfold: {said}; nothing was left half-written"
