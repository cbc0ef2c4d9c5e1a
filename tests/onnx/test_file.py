"""An ONNX file is read without its weights, and with them it is what onnx itself reads."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import golden, goldens
from onnx import ModelProto, TensorProto, helper, numpy_helper
from present import present

from bnfold import compare, load
from bnfold.errors import ParseError, WeightsError
from bnfold.onnx import save_onnx
from bnfold.onnx.file import read_onnx
from bnfold.onnx.graph import WeightStore
from bnfold.onnx.save import EXTERNAL_FROM, DataFile, fill
from bnfold.onnx.weight import Weight


def sorted_initialisers(model: ModelProto) -> dict[str, bytes]:
    return {tensor.name: tensor.SerializeToString() for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", goldens())
def test_model_and_weights_together_are_the_file(name: str, tmp_path: Path) -> None:
    save_onnx(golden(name).load(), tmp_path / "net.onnx")
    whole = onnx.load(tmp_path / "net.onnx")
    file = read_onnx(tmp_path / "net.onnx")
    assert all(weight.nbytes >= EXTERNAL_FROM - 64 for weight in file.weights)
    joined = fill(file.model, file.weights)
    assert sorted_initialisers(joined) == sorted_initialisers(whole)
    del joined.graph.initializer[:], whole.graph.initializer[:]
    assert joined == whole


def model(*tensors: TensorProto) -> ModelProto:
    """A model that adds its first initialiser to its input, a sample of 1,000 values; the others lie unused."""
    node = helper.make_node("Add", ["x", tensors[0].name], ["y"], name="add")
    x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1000])] for name in "xy")
    graph = helper.make_graph([node], "net", x, y, initializer=list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


VALUES = np.linspace(-2, 3, 1000, dtype=np.float32)


def test_weights_that_are_stored_otherwise_stay_in_the_message(tmp_path: Path) -> None:
    listed = TensorProto(name="listed", dims=[1000], data_type=TensorProto.FLOAT, float_data=VALUES.tolist())
    short = TensorProto(name="short", dims=[999], data_type=TensorProto.FLOAT, raw_data=VALUES.tobytes())
    negative = TensorProto(name="negative", dims=[-1000, -1], data_type=TensorProto.FLOAT, raw_data=VALUES.tobytes())
    odd = TensorProto(name="odd", dims=[4000], data_type=TensorProto.INT8, raw_data=VALUES.tobytes())
    onnx.save(model(listed, short, negative, odd, numpy_helper.from_array(VALUES, "raw")), tmp_path / "net.onnx")
    file = read_onnx(tmp_path / "net.onnx")
    assert [weight.name for weight in file.weights] == ["listed", "raw"]
    assert [tensor.name for tensor in file.model.graph.initializer] == ["short", "negative", "odd"]
    for weight in file.weights:
        np.testing.assert_array_equal(weight.stored, VALUES)


def test_weights_beside_the_file_stay_there(tmp_path: Path) -> None:
    beside = model(numpy_helper.from_array(VALUES, "weight"))
    onnx.save(beside, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    file = read_onnx(tmp_path / "net.onnx")
    assert file.weights == ()
    assert compare(str(tmp_path / "net.onnx"), model(numpy_helper.from_array(VALUES, "weight"))).passed


@pytest.mark.parametrize("data_beside_link", [False, True])
def test_a_model_that_is_a_link_has_its_weights_beside_either(tmp_path: Path, data_beside_link: bool) -> None:
    for name in ("store", "seen"):
        (tmp_path / name).mkdir()
    beside = model(numpy_helper.from_array(VALUES, "weight"))
    onnx.save(beside, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.onnx").rename(tmp_path / "store" / "a3f1")
    (tmp_path / "net.data").rename(tmp_path / ("seen/net.data" if data_beside_link else "store/77c0"))
    path = tmp_path / "seen" / "net.onnx"
    path.symlink_to(Path("..", "store", "a3f1"))
    if not data_beside_link:
        (tmp_path / "seen" / "net.data").symlink_to(Path("..", "store", "77c0"))
    assert compare(str(path), load(path)).passed
    assert compare(str(path), model(numpy_helper.from_array(VALUES, "weight"))).passed
    wrong = VALUES.copy()
    wrong.flat[7] *= np.float32(1.01)
    assert not compare(str(path), model(numpy_helper.from_array(wrong, "weight"))).passed


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes in Linux")
def test_a_link_to_weights_of_a_name_that_is_no_utf_8_is_a_sentence(tmp_path: Path) -> None:
    path, store = tmp_path / "net.onnx", tmp_path / os.fsdecode(b"\xff")
    beside = model(numpy_helper.from_array(VALUES, "weight"))
    onnx.save(beside, path, save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").rename(store)
    (tmp_path / "net.data").symlink_to(store)
    with pytest.raises(WeightsError, match=r"net\.onnx: weights lie in .*, which is no UTF-8; rename it"):
        compare(str(path), beside)


def test_weights_that_were_cut_off_are_a_sentence_of_a_comparison(tmp_path: Path) -> None:
    beside, path = model(numpy_helper.from_array(VALUES, "weight")), tmp_path / "net.onnx"
    onnx.save(beside, path, save_as_external_data=True, location="net.data", size_threshold=0)
    os.truncate(tmp_path / "net.data", 1000)
    said = (
        r"net\.onnx: tensor 'weight' lies at byte 0 of 'net\.data', which has 1,000 bytes and not [0-9,]+; copy it ag"
    )
    with pytest.raises(WeightsError, match=said):
        compare(str(path), model(numpy_helper.from_array(VALUES, "weight")))


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_runs_from_the_store_as_a_message_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    monkeypatch.setattr("bnfold.onnx.graph.IN_MEMORY", 0)
    onnx.save(model(numpy_helper.from_array(VALUES, "weight")), tmp_path / "net.onnx")
    other = VALUES + np.float32(0.5 if changed else 0)
    onnx.save(model(numpy_helper.from_array(other, "weight")), tmp_path / "other.onnx")
    report = compare(str(tmp_path / "net.onnx"), str(tmp_path / "other.onnx"))
    assert report.passed is not changed
    assert (
        present(compare(str(tmp_path / "other.onnx"), model(numpy_helper.from_array(other, "weight"))).worst).max_abs
        == 0
    )


@pytest.mark.parametrize("content", [b"", b"\x08\x08", b"\x3a\xff\xff\xff\x07\x0a", b"name: 'net'", bytes(2000)])
def test_what_is_no_model_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ParseError, match=r"net\.onnx"):
        read_onnx(tmp_path / "net.onnx")


def weight(name: str, values: np.ndarray) -> Weight:
    return Weight(name, values, values.shape, values.dtype)


def test_equal_weights_of_one_name_lie_in_a_file_once() -> None:
    sink = io.BytesIO()
    data = DataFile(sink, "weights")
    first = data.place(weight("w", VALUES))
    changed = VALUES.copy()
    changed[-1] += 1
    second = data.place(weight("w", changed))
    assert data.place(weight("w", changed.copy())) == second != first
    assert data.place(weight("v", VALUES)) not in (first, second)
    for offset, values in ((first, VALUES), (second, changed)):
        np.testing.assert_array_equal(np.frombuffer(sink.getvalue(), np.float32, 1000, offset), values)


def test_a_shelf_keeps_two_models_apart_and_goes_with_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.onnx.graph.IN_MEMORY", 0)
    bare = model(numpy_helper.from_array(VALUES, "weight"))
    del bare.graph.initializer[:]
    with WeightStore() as store:
        both = [[weight("weight", VALUES * sign)] for sign in (np.float32(1), np.float32(-1))]
        stored = [store.put(bare, [], weights) for weights in (*both, both[0])]
        read = []
        for content, folder in stored:
            (tensor,) = onnx.load_model_from_string(content).graph.initializer
            read.append(numpy_helper.to_array(tensor, str(folder)))
        assert stored[2] == stored[0]
        assert (present(stored[0][1]) / "weights").stat().st_size < 3 * VALUES.nbytes
    np.testing.assert_array_equal(read, [VALUES, -VALUES, VALUES])
    assert not present(stored[0][1]).exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a git-lfs pointer"),
        (b"<!DOCTYPE html><html>404", "is a web page"),
        (b'<?xml version="1.0"?><net name="x" version="11">', "is an XML file, as OpenVINO writes, and not an? "),
        (b"\x1f\x8b\x08\0\0\0\0", "is a compressed file and not a .*: unpack it first"),
        (b"PK\x03\x04\0\0\0\0net.onnx", "is an archive and not a .*: unpack it"),
        (b"PK\x03\x04\0\0\0\0archive/data.pkl", "is a model of PyTorch or Keras"),
        (b"\x1c\0\0\0TFL3\0\0", "is a model of TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "is an HDF5 file"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\0", "is a pickle, as PyTorch writes"),
    ],
)
@pytest.mark.parametrize("name", ["net.onnx", "net.prototxt"])
def test_a_file_of_another_tool_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ParseError, match=sentence):
        load(path)
