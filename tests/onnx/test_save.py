"""Writing models while the weights stream past."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from cases import golden, goldens

from bnfold.errors import LeftoverWarning, UnsupportedError, UsageError, WriteError
from bnfold.io.files import OutputSet
from bnfold.loading import load
from bnfold.net import Array, Blobs, Shape
from bnfold.onnx import save, save_onnx, to_onnx
from bnfold.onnx.export.network import build
from bnfold.runtime import Session

TEXT = """
input: "x" input_shape { dim: 1 dim: 64 dim: 2 dim: 2 }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 100 } }
"""


class Counted:
    """A lazy array that remembers how it was read."""

    def __init__(self, values: Array) -> None:
        self.values = values
        self.largest_piece = 0
        self.whole = 0

    @property
    def shape(self) -> Shape:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def array(self) -> Array:
        self.whole += 1
        return self.values.copy()

    def chunks(self) -> Iterator[Array]:
        flat = self.values.reshape(-1)
        for start in range(0, len(flat), 1000):
            self.largest_piece = max(self.largest_piece, 1000)
            yield flat[start : start + 1000]


@pytest.mark.parametrize("name", goldens())
def test_a_streamed_file_is_the_same_message(name: str) -> None:
    net = golden(name).load()
    file = io.BytesIO()
    save_onnx(net, file)
    assert onnx.ModelProto.FromString(file.getvalue()) == to_onnx(net)


def test_lazy_weights_are_streamed_and_never_read_whole(tmp_path: Path) -> None:
    net = nets.net(TEXT)
    layer = net.layers[-1]
    weight, bias = layer.blobs
    counted = Counted(weight)
    layer.blobs = Blobs([counted, bias])
    save_onnx(net, tmp_path / "net.onnx")
    assert counted.whole == 0
    assert counted.largest_piece == 1000
    stored = onnx.load(tmp_path / "net.onnx").graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), weight)


def test_float32_weights_become_doubles_in_a_double_model(tmp_path: Path) -> None:
    net = nets.net(TEXT)
    save_onnx(net, tmp_path / "net.onnx", dtype=np.float64)
    stored = onnx.load(tmp_path / "net.onnx").graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), net.layers[-1].blobs[0].astype(np.float64))


def test_half_weights_become_floats() -> None:
    half = np.linspace(-1, 1, 25600, dtype=np.float16).reshape(100, 256)
    net = nets.net(TEXT)
    net.layers[-1].blobs = Blobs([half, np.zeros(100, np.float32)])
    stored = to_onnx(net).graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), half.astype(np.float32))


def test_the_size_is_known_before_writing() -> None:
    net = nets.net(TEXT)
    file = io.BytesIO()
    save_onnx(net, file)
    model, weights = build(net)
    assert save.WholeModel(model, weights).size == len(file.getvalue())


def test_external_data_lies_beside_the_model_and_runs(tmp_path: Path) -> None:
    net = nets.net(TEXT)
    save_onnx(net, tmp_path / "net.onnx", external_data=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    x = np.ones((1, 64, 2, 2), np.float32)
    inside, beside = Session(to_onnx(net)), Session(tmp_path / "net.onnx")
    np.testing.assert_array_equal(beside.run({"x": x})["ip"], inside.run({"x": x})["ip"])


@pytest.mark.parametrize("language", ["Caffe", "ONNX"])
def test_the_files_are_told_and_weights_that_an_older_model_left_beside(tmp_path: Path, language: str) -> None:
    net = nets.net(TEXT) if language == "Caffe" else load(to_onnx(nets.net(TEXT)).SerializeToString())
    path, data = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    assert save_onnx(net, path, external_data=True) == [path, data]
    before = data.read_bytes()
    with pytest.warns(LeftoverWarning, match=r"net\.onnx\.data: stays as it was; .*net\.onnx has its weights itself"):
        assert save_onnx(net, path) == [path]
    assert data.read_bytes() == before
    data.unlink()
    assert save_onnx(net, path) == [path]
    assert save_onnx(net, io.BytesIO()) == []


def test_nothing_is_said_of_what_lies_beside_a_model_that_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "net.onnx.data").touch()
    with suppress(KeyError), OutputSet() as files:
        files.open_alone(tmp_path / "net.onnx")
        raise KeyError


def test_external_data_is_aligned_and_small_weights_stay_inside(tmp_path: Path) -> None:
    net = nets.net(TEXT)
    save_onnx(net, tmp_path / "net.onnx", external_data=True)
    weights = onnx.load(tmp_path / "net.onnx", load_external_data=False).graph.initializer
    places = {weight.name: {entry.key: entry.value for entry in weight.external_data} for weight in weights}
    assert places["ip/weight"] == {"location": "net.onnx.data", "offset": "0", "length": str(4 * 25600)}
    assert places["ip/bias"] == {}


def test_a_model_beyond_two_gigabytes_goes_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.onnx.api.MAX_MESSAGE", 10_000)
    net = nets.net(TEXT)
    save_onnx(net, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.data").stat().st_size == 4 * 25600
    with pytest.raises(UnsupportedError, match="passes 2 GiB"):
        to_onnx(net)
    with pytest.raises(UsageError, match="give the path of the model"):
        save_onnx(net, io.BytesIO())


@pytest.mark.parametrize("external", [False, True])
def test_the_same_net_gives_the_same_files(tmp_path: Path, external: bool) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_onnx(nets.net(TEXT), tmp_path / folder / "net.onnx", external_data=external)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_refused_net_leaves_no_file(tmp_path: Path) -> None:
    net = nets.net('input: "x" input_shape { dim: 1 } layer { name: "o" type: "Oracle" bottom: "x" top: "o" }')
    with pytest.raises(UnsupportedError, match="'o' \\(Oracle\\)"):
        save_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="there is no folder"):
        save_onnx(nets.net(TEXT), tmp_path / "no" / "net.onnx")
