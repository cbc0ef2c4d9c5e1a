"""Files that were given for something else: each is called what it is, and what to do is said where there is a way."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import tarfile
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from wire_encoder import length

from bnfold import BnfoldError, Comparison, compare, fold, load
from bnfold.data.datasets import open_samples
from bnfold.data.preparation import read_mean
from bnfold.data.samples import Feed
from bnfold.io.formats import MODELS, other_format

SAMPLES = Path(__file__).parents[2] / "sample_models"
NET = SAMPLES / "digits_resnet.prototxt"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"


def zipped(name: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, "x" * 10)
    return archive.getvalue()


def tarred() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        file.addfile(tarfile.TarInfo("net.caffemodel"))
    return archive.getvalue()


def numpy_file(write: object) -> bytes:
    written = io.BytesIO()
    write(written, np.ones(3))  # type: ignore[operator]
    return written.getvalue()


HEADER = json.dumps({"conv.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
GRAPH_DEF = length(1, length(1, "input") + length(2, "Placeholder"))
EXPORT, PAGE_ABOUT = "export the model to ONNX", "the download failed"
KNOWN = {
    "git-lfs": (POINTER, "a git-lfs pointer", "git lfs pull"),
    "html": (PAGE, "a web page", PAGE_ABOUT),
    "json": (b'{"message": "Not Found"}', "JSON", PAGE_ABOUT),
    "onnx json": (b'{\n  "irVersion": "8",\n  "graph": {}}', "JSON of an ONNX model", r"onnx\.load\(FILE, 'json'\)"),
    "onnx text": (b"ir_version: 8\ngraph {\n}\n", "text of an ONNX model", r"onnx\.load\(FILE, 'textproto'\)"),
    "printed": (b"<\n   ir_version: 8,\n>\ng () => () {}", "text of an ONNX model", r"onnx\.load\(FILE, 'onnxtxt'\)"),
    "safetensors": (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "weights alone", EXPORT),
    "gguf": (b"GGUF\3\0\0\0", "weights alone", EXPORT),
    "pb": (GRAPH_DEF, "a graph of TensorFlow", EXPORT),
    "saved_model": (b"\x08\x01" + length(2, length(2, GRAPH_DEF)), "a model of TensorFlow", EXPORT),
    "tflite": (b"\x20\0\0\0TFL3\0\0\0\0", "a model of TensorFlow Lite", EXPORT),
    "mlmodel": (b"\x08\4" + length(2, length(1, length(1, "image"))), "a model of Core ML", EXPORT),
    "engine": (b"ptrt\0\0\0\0", "an engine of TensorRT", "converted from"),
    "pt": (zipped("archive/data.pkl"), "a model of PyTorch", EXPORT),
    "pickle": (pickle.dumps({"a": 1}, 4), "a pickle", EXPORT),
    "darknet": (b"[net]\nbatch=1\n", "a network of Darknet", EXPORT),
    "darknet weights": (b"\0\0\0\0\2\0\0\0\5\0\0\0\x80\1\0\0\0\0\0\0\0\0\xa0\x3f", "Darknet's weights", EXPORT),
    "label map": (b"# VOC\nitem {\n  name: 'cat'\n  label: 1\n}\n", "a map of labels", ""),
    "pbtxt": (b'node {\n  name: "x"\n  op: "Placeholder"\n}\n', "a graph of TensorFlow as text", EXPORT),
    "ncnn": (b"7767517\n3 3\nInput data 0 1 data\n", "a network of ncnn", "converted from"),
    "zip": (zipped("net.caffemodel"), "an archive", "unpack it"),
    "tar": (tarred(), "an archive", "unpack it"),
    "gz": (gzip.compress(b"layer { }"), "a compressed file", "unpack it"),
    "npz": (numpy_file(np.savez), "a NumPy file", ""),
    "npy": (numpy_file(np.save), "a NumPy file", ""),
    "png": (b"\x89PNG\r\n\x1a\n", "an image", ""),
}


@pytest.mark.parametrize(("kind", "wanted"), sorted(product(KNOWN, MODELS)))
def test_a_model_that_is_none_is_called_what_it_is(kind: str, wanted: str, tmp_path: Path) -> None:
    content, what, advice = KNOWN[kind]
    path = tmp_path / f"net.{wanted}"
    path.write_bytes(content)
    with pytest.raises(BnfoldError, match=rf"net\.{wanted}: is .*{what}.* and not {MODELS[wanted]}.*{advice}"):
        load(path)


@pytest.mark.parametrize("kind", ["pt", "tflite", "safetensors", "npz"])
def test_a_model_of_another_kind_is_called_what_it_is_when_it_is_compared(kind: str, tmp_path: Path) -> None:
    content, what, advice = KNOWN[kind]
    (tmp_path / f"net.{kind}").write_bytes(content)
    with pytest.raises(BnfoldError, match=rf"net\.{kind}: is .*{what}.* and not a model in ONNX.*{advice}"):
        Comparison(tmp_path / f"net.{kind}")


@pytest.mark.parametrize(
    ("suffix", "sentence"),
    [
        ("prototxt", "is text and not a model in ONNX: was a prototxt given in its place?"),
        ("caffemodel", "is a caffemodel and not a model in ONNX: its name has to end in .caffemodel"),
    ],
)
def test_a_model_of_caffe_that_is_called_onnx_is_called_what_it_is(suffix: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(NET.with_suffix(f".{suffix}").read_bytes())
    with pytest.raises(BnfoldError, match=rf"net\.onnx: {re.escape(sentence)}$"):
        load(tmp_path / "net.onnx")


FOLDERS = {
    "saved": (("saved_model.pb", "a.onnx"), f"it holds a model of TensorFlow: {EXPORT} with its own tools first"),
    "net.mlpackage": (("Manifest.json",), f"it holds a model of Core ML: {EXPORT} with its own tools first"),
    "one": (("a.onnx", "a.txt"), "give a file, as '{}/a.onnx'"),
    "two": (("a.onnx", "b.onnx"), "give a file"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_of_a_folder_it_is_said_what_to_give_in_its_place(name: str, tmp_path: Path) -> None:
    contents, sentence = FOLDERS[name]
    folder = tmp_path / name
    folder.mkdir()
    for one in contents:
        (folder / one).touch()
    with pytest.raises(BnfoldError) as said:
        load(folder)
    assert str(said.value) == f"{folder}: is a folder; {sentence.format(folder)}"


@pytest.mark.parametrize(
    ("kind", "wanted", "sentence"),
    [
        ("png", "caffemodel", "is an image and not a caffemodel"),
        ("tflite", "caffemodel", f"is a model of TensorFlow Lite and not a caffemodel: {EXPORT}"),
        ("tflite", "an image", "is a model of TensorFlow Lite and not an image"),
        ("gz", "an image", "is a compressed file and not an image: unpack it first"),
    ],
)
def test_only_who_wants_a_model_is_told_to_export_one(kind: str, wanted: str, sentence: str) -> None:
    assert other_format(KNOWN[kind][0], wanted).partition(" with its own")[0] == sentence


@pytest.mark.parametrize("kind", ["git-lfs", "html"])
@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.h5", "d.txt", "d", "d.mdb", "images/0.png"])
def test_data_that_was_not_fetched_is_called_what_it_is(name: str, kind: str, tmp_path: Path) -> None:
    content, what, advice = KNOWN[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    place = path.parent if name.endswith(".png") else path
    with pytest.raises(BnfoldError, match=rf"{name}: is {what} and not .*: .*{advice}"):
        open_samples(place, {"data": Feed((1, 1, 8, 8), np.dtype(np.float32))})


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.h5", "images/0.png"])
def test_data_without_a_byte_are_called_empty(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    place = path.parent if name.endswith(".png") else path
    with pytest.raises(BnfoldError, match=rf"{name}: is empty$"):
        open_samples(place, {"data": Feed((1, 1, 8, 8), np.dtype(np.float32))})


def test_a_mean_that_was_not_fetched_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(POINTER)
    with pytest.raises(BnfoldError, match="is a git-lfs pointer and not the mean of images: run `git lfs pull`"):
        read_mean(str(tmp_path / "mean.binaryproto"))


def test_weights_beside_a_model_that_were_not_fetched_are_called_what_they_are(tmp_path: Path) -> None:
    values = np.arange(6000, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [6000])],
        [onnx.helper.make_tensor_value_info("y", 1, [6000])],
        [onnx.numpy_helper.from_array(values, "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").write_bytes(POINTER)
    with pytest.raises(BnfoldError, match=r"tensor 'w' lies at byte 0 of 'm.data', which is a git-lfs pointer and not"):
        load(path)


def test_what_is_said_of_models_alone_is_not_said_of_data() -> None:
    assert other_format(KNOWN["pt"][0], "an image") == "is a model of PyTorch or Keras and not an image"
    assert other_format(KNOWN["png"][0], "an image") == ""


@pytest.mark.parametrize("begin", ["# TFL3\n", "#  GGUF\n", "name: '<html>'\n", "\n\n# <b>\n"])
def test_a_prototxt_may_begin_with_words_of_others(begin: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    text = NET.read_text(encoding="utf-8")
    path.write_text(begin + text.replace('name: "digits_resnet"', "", 1), encoding="utf-8")
    assert len(load(path).layers) == len(load(NET).layers)


def test_a_caffemodel_that_is_cut_short_is_no_web_page(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(length(1, "a" * ord("<")) + length(100, "cut")[:-1])
    with pytest.raises(BnfoldError, match="is damaged or cut short"):
        load(path)


def test_records_are_printed_in_a_line() -> None:
    net = load(NET, NET.with_suffix(".caffemodel"))
    report = compare(net, fold(net).net)
    assert report.worst is not None
    assert repr(report.worst).startswith(f"<BlobDiff '{report.worst.blob}'")
    opened = Comparison(net)
    for record in (report, report.worst, net, net.layers[1], net.layers[1].blobs, opened, opened.reference):
        assert "\n" not in repr(record)
        assert len(repr(record)) < 200, record
