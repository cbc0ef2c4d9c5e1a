"""HDF5 snapshots of Caffe: read like caffemodels, saved as caffemodels."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from wire_encoder import blob, layer

import bnfold
from bnfold.caffe.caffe_pb2 import NetParameter
from bnfold.caffe.weights import read_weights
from bnfold.errors import BnfoldError, ParseError, WeightsError

PROTOTXT = """\
name: "h5"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "block/conv" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "act" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 2 bias_term: false } }
"""
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1) - 2
BIAS = np.array([1, 2, 3], np.float32)
DENSE = np.arange(96, dtype=np.float64).reshape(2, 48)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file["data/block/conv/0"] = WEIGHT
        file["data/block/conv/1"] = BIAS
        file.create_group("data/act")
        file.create_dataset("data/fc/0", data=DENSE, chunks=(1, 48), compression="gzip")
    return path


def test_layers_and_blobs_are_found(snapshot: Path) -> None:
    file = read_weights(snapshot)
    assert [record.name for record in file.records] == ["block/conv", "fc"]
    weight, bias = file.records[0].blobs
    assert np.array_equal(weight, WEIGHT)
    assert np.array_equal(bias, BIAS)
    assert np.array_equal(file.records[1].blobs[0], DENSE)
    assert weight.base is not None  # a view on the file
    assert not any(array.flags.writeable for record in file.records for array in record.blobs)


def test_a_net_with_a_snapshot_is_saved_as_a_caffemodel(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    net = bnfold.load(tmp_path / "net.prototxt", snapshot)
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    assert (tmp_path / "out.prototxt").read_text() == PROTOTXT
    message = NetParameter.FromString((tmp_path / "out.caffemodel").read_bytes())
    assert [each.name for each in message.layer] == ["data", "block/conv", "act", "fc"]
    assert list(message.layer[1].blobs[1].data) == BIAS.tolist()
    assert list(message.layer[3].blobs[0].double_data) == DENSE.ravel().tolist()
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    for one, other in zip(net.layers, again.layers, strict=True):
        assert [array.tolist() for array in one.blobs] == [array.tolist() for array in other.blobs]


SHARING = """\
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" PARAM inner_product_param { num_output: 3 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" PARAM inner_product_param { num_output: 3 } }
"""


@pytest.mark.parametrize(("own", "param"), [(0, 'param { } param { name: "shared" }'), (1, 'param { name: "shared" }')])
def test_a_layer_that_shares_some_of_its_blobs_has_the_others_stored(tmp_path: Path, own: int, param: str) -> None:
    weight = np.arange(9, dtype=np.float32).reshape(3, 3) - 4
    expected = [weight, BIAS]
    expected[own] = 2 * expected[own]
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["data/a/0"], file["data/a/1"], file[f"data/b/{own}"] = weight, BIAS, expected[own]
    (tmp_path / "net.prototxt").write_text(SHARING.replace("PARAM", param))
    net = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.h5")
    assert [blob.tolist() for blob in net["b"].blobs] == [blob.tolist() for blob in expected]
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert [blob.tolist() for blob in again["b"].blobs] == [blob.tolist() for blob in expected]
    (tmp_path / "net.prototxt").write_text(SHARING.replace("PARAM", ""))
    with pytest.raises(WeightsError, match=r"'b' .*has (3x3, and needs 3x3 and 3|blobs 1 only; the others are shared)"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.h5")


def test_what_an_end_leaves_out_still_shares_its_weights(tmp_path: Path) -> None:
    """Caffe stores a shared blob with its first owner alone, and takes of a binary file the last one."""
    weight = np.arange(9, dtype=np.float32).reshape(3, 3) - 4
    text = SHARING.replace("PARAM", 'param { name: "w" } param { name: "b" }').replace('bottom: "a"', 'bottom: "x"')
    (tmp_path / "net.prototxt").write_text(text)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["data/a/0"], file["data/a/1"] = weight, BIAS
    net = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.h5", until=["b"])
    assert [one.name for one in net.layers] == ["data", "b"]
    assert [one.tolist() for one in net["b"].blobs] == [weight.tolist(), BIAS.tolist()]

    other = blob((2 * weight).ravel().tolist(), 3, 3), blob((2 * BIAS).tolist(), 3)
    records = [layer("a", "InnerProduct", blob(weight.ravel().tolist(), 3, 3), blob(BIAS.tolist(), 3))]
    records.append(layer("b", "InnerProduct", *other))
    (tmp_path / "net.caffemodel").write_bytes(b"".join(records))
    whole, ended = (
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", until=end) for end in ([], ["a"])
    )
    assert [one.tolist() for one in ended["a"].blobs] == [one.tolist() for one in whole["a"].blobs]
    assert ended["a"].blobs[1].tolist() == (2 * BIAS).tolist()


def test_what_caffe_did_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for keys, sentence in [
        (["weights/0"], "no snapshot of Caffe's"),
        (["data"], "no snapshot of Caffe's"),
        (["iter", "history/0"], "is the state of a solver and not a caffemodel"),
    ]:
        with h5py.File(path, "w") as file:
            for key in keys:
                file[key] = BIAS
        with pytest.raises(ParseError, match=sentence):
            read_weights(path)


@pytest.mark.parametrize(("stored", "read"), [("<f2", "f4"), (">f2", "f4"), (">f4", "f4"), (">f8", "f8")])
def test_floats_of_another_width_or_byte_order_are_converted_as_for_caffe(
    tmp_path: Path, stored: str, read: str
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data/a/0"] = np.array([1.5, -0.25, 384], stored)
    (values,) = read_weights(tmp_path / "x.h5").records[0].blobs
    assert (values.dtype, values.tolist()) == (np.dtype(read), [1.5, -0.25, 384])


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [("data/a/1", BIAS, "has blobs 1 only"), ("data/a/0", np.array([1], np.int64), "blob 0 holds int64")],
)
def test_blobs_that_make_no_sense_are_a_problem_of_their_layer(
    tmp_path: Path, key: str, value: object, problem: str
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file[key] = value
    assert problem in read_weights(tmp_path / "x.h5").records[0].problem


def test_a_file_that_links_to_itself_or_elsewhere_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data/a/0"] = BIAS
        file["data/again"] = file["data"]
        file["data/b"] = h5py.SoftLink("/data")
        file["data/c"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ParseError, match="nested more than 100 deep"):
        read_weights(tmp_path / "x.h5")


def test_a_snapshot_cut_anywhere_is_read_or_refused_with_a_sentence(snapshot: Path, tmp_path: Path) -> None:
    whole = snapshot.read_bytes()
    path = tmp_path / "cut.h5"
    outcomes = set()
    for end in range(8, len(whole), 97):
        path.write_bytes(whole[:end])
        try:
            outcomes.add(len(read_weights(path).records))
        except BnfoldError as error:
            outcomes.add(str(error).startswith(f"{path}: "))
    assert outcomes <= {True, 2}


def test_without_h5py_the_sentence_says_what_to_install(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ParseError, match=rf"^{snapshot}: is an HDF5 snapshot, .* 'bnfold\[hdf5\]'"):
        read_weights(snapshot)
