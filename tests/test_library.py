"""The library as its callers see it: short lines, pickles, bytes and streams, sentences for wrong arguments."""

from __future__ import annotations

import copy
import dataclasses
import gc
import io
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
from cases import by_onnxruntime, golden
from nets import net as layered
from onnx import ModelProto, OperatorSetIdProto, TensorProto, helper, save_model
from onnx.numpy_helper import from_array, to_array
from onnx_models import classifier

import bnfold
from bnfold.algebra.records import Record
from bnfold.data.samples import Noise
from bnfold.errors import ModelError, UsageError
from bnfold.net import Blobs, Net

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_models" / "digits_cifar10"
PROTOTXT, CAFFEMODEL = SAMPLE.with_suffix(".prototxt"), SAMPLE.with_suffix(".caffemodel")
CLIENT = ROOT / "tests" / "client"


@pytest.fixture(scope="module")
def net() -> bnfold.Net:
    return bnfold.load(PROTOTXT, CAFFEMODEL)


@pytest.fixture(scope="module")
def result(net: bnfold.Net) -> bnfold.FoldResult:
    return bnfold.fold(net)


def image(net: bnfold.Net) -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(7).normal(0, 1, shape).astype(np.float32) for name, shape in net.inputs.items()}


def test_every_record_is_one_short_line(net: bnfold.Net, result: bnfold.FoldResult) -> None:
    diff = bnfold.compare(net, result.net)
    prepared = bnfold.Preparation(mean=np.zeros((3, 224, 224)), crop=(224, 224))
    options = bnfold.CompareOptions(preparation=prepared, reading=bnfold.ReadOptions(batch=8))
    assert repr(prepared).endswith(", crop=(224, 224))")  # what is as it is by default is not said
    assert repr(options).endswith(", reading=ReadOptions(batch=8))")
    for record in (net, result, result.report, diff, prepared, options, bnfold.OnnxOptions(opset=13)):
        assert "\n" not in repr(record)
        assert len(repr(record)) < 250
    assert repr(net).startswith("<Net 'digits_cifar10': 15 layers, ")
    assert "passed" in repr(diff)


MISFITS: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
    "has 2x3x1x1, and needs": lambda weight: [np.ones((2, 3, 1, 1), np.float32)],
    "has 144, and needs": lambda weight: [weight.reshape(-1)],
    "and 3, and needs": lambda weight: [weight, np.ones(3, np.float32)],
    "and 16 and 16, and needs": lambda weight: [weight, *np.ones((2, 16), np.float32)],
}


@pytest.mark.parametrize("sentence", MISFITS)
def test_weights_of_another_shape_that_a_caller_gives_are_refused_wherever_they_go(
    tmp_path: Path, sentence: str
) -> None:
    read = bnfold.load(SAMPLE.parent / "digits_resnet.prototxt", SAMPLE.parent / "digits_resnet.caffemodel")
    net = read.copy()
    net["conv1"].blobs = Blobs(MISFITS[sentence](net["conv1"].blobs[0]))
    for use in (
        lambda: bnfold.fold(net),
        lambda: bnfold.compare(net, read),
        lambda: bnfold.save_caffe(net, tmp_path / "net.prototxt"),
        lambda: bnfold.save_onnx(net, tmp_path / "net.onnx"),
    ):
        with pytest.raises(bnfold.WeightsError) as caught:
            use()
        assert "digits_resnet.prototxt: the weights of 1 layer do not fit the network\n  layer 'conv1'" in str(
            caught.value
        )
        assert sentence in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_a_caller_doubles_are_taken(tmp_path: Path, net: bnfold.Net) -> None:
    doubled = net.copy()
    for layer in doubled.layers:
        if layer.type == "Convolution":
            layer.blobs = Blobs(2 * blob for blob in layer.blobs)
    bnfold.save_caffe(doubled, tmp_path / "net.prototxt")
    again = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert bnfold.compare(doubled, again).passed
    assert not bnfold.compare(net, again).passed


def test_a_notebook_shows_a_table_with_names_escaped(net: bnfold.Net, result: bnfold.FoldResult) -> None:
    strange = net.copy()
    strange.name = "<script>"
    for record in (strange, result, result.report, bnfold.compare(net, result.net)):
        shown = record._repr_html_()
        assert shown.startswith("<div>")
        assert "<script>" not in shown


def test_every_report_renders_itself(net: bnfold.Net, result: bnfold.FoldResult) -> None:
    for report in (result.report, result, bnfold.compare(net, result.net)):
        assert report.to_dict()["schema"] == "bnfold-report"
        assert report.to_json().endswith("}\n")
        assert report.to_markdown()
        assert "<!doctype html>" in report.to_html()


def test_a_layer_is_had_by_its_name(net: bnfold.Net) -> None:
    assert net["conv1"].type == "Convolution"
    with pytest.raises(KeyError, match=r"no layer 'conv_1'; did you mean conv1"):
        net["conv_1"]
    wrong: dict[Any, str] = {
        1: r"'1': a name is a str, and not int; net\.layers\[1\] is one by its place",
        -1: r"and not int; net\.layers\[-1\] is one",
        400: r"'400': a name is a str, and not int\W*$",
        1.5: r"and not float\W*$",
        b"conv1": r"and not bytes\W*$",
        False: r"'False': a name is a str, and not bool\W*$",
    }
    for key, said in wrong.items():
        with pytest.raises(KeyError, match=said):
            net[key]
    assert "conv1" in net
    assert "conv_1" not in net
    with pytest.raises(TypeError, match="not iterable"):
        list(cast(Any, net))


def test_what_an_onnx_layer_learned_has_no_name_by_which_it_is_shared() -> None:
    net = bnfold.load(classifier())
    assert {(len(layer.blobs), layer.param_names) for layer in net.layers if len(layer.blobs) == 2} == {(2, ("", ""))}


def test_lists_of_records_have_a_length(result: bnfold.FoldResult) -> None:
    assert len(result.report.folded) == 3
    assert result.report.kept == []


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("folded", [False, True])
def test_a_copy_and_a_pickle_compute_the_same(net: bnfold.Net, again: Callable[[Net], Net], folded: bool) -> None:
    original = bnfold.fold(net).net if folded else net
    other = again(original)
    assert other is not original
    before, after = by_onnxruntime(original, image(net)), by_onnxruntime(other, image(net))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert len(bnfold.fold(other).report.folded) == (0 if folded else 3)


def test_a_pickled_net_is_written_as_the_original_is(net: bnfold.Net, tmp_path: Path) -> None:
    bnfold.save_caffe(pickle.loads(pickle.dumps(net)), tmp_path / "a.prototxt")
    again = bnfold.load(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    before, after = by_onnxruntime(net, image(net)), by_onnxruntime(again, image(net))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_net_that_nobody_holds_lets_its_file_go_at_once() -> None:
    """Not when garbage is collected next: until then its descriptor is open, and no other file may take its name."""
    gc.disable()
    try:
        net = bnfold.load(PROTOTXT, CAFFEMODEL)
        result = bnfold.fold(net)
        assert bnfold.compare(net, result.net).passed
        file = weakref.ref(net.origin.weights[0].buffer)
        del net, result
        assert file() is None
    finally:
        gc.enable()


def test_an_onnx_net_pickles_too(net: bnfold.Net, tmp_path: Path) -> None:
    bnfold.save_onnx(net, tmp_path / "net.onnx")
    model = bnfold.load(tmp_path / "net.onnx")
    for one in (model, bnfold.fold(model).net):
        again = pickle.loads(pickle.dumps(one))
        assert [layer.name for layer in again.layers] == [layer.name for layer in one.layers]
        assert bnfold.compare(one, again, tolerance=0).passed


@pytest.mark.parametrize(
    ("options", "folded"),
    [({}, 0), ({"freeze_initializers": True}, 1), ({"input_shapes": {"data": (4, 3, 6, 7)}}, 0), ({"batch": 3}, 0)],
)
def test_a_pickled_onnx_net_is_read_as_it_was(options: dict[str, Any], folded: int) -> None:
    model = bnfold.to_onnx(small_bn())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    net = bnfold.load(model, **options)
    again = pickle.loads(pickle.dumps(net))
    assert again.inputs == net.inputs
    assert [len(bnfold.fold(one).report.folded) for one in (net, again)] == [folded, folded]
    result = bnfold.fold(net).net
    assert bnfold.to_onnx(pickle.loads(pickle.dumps(result))) == bnfold.to_onnx(result)


def small_bn() -> bnfold.Net:
    """A convolution and its BatchNorm."""
    return layered(
        """
        input: "data" input_shape { dim: 2 dim: 3 dim: 6 dim: 7 }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
        """
    )


def external(net: bnfold.Net, path: Path, location: str = "weights/all.bin") -> bytes:
    """The net as an ONNX file with its weights in a file in another folder; gives the model that is whole."""
    model = bnfold.to_onnx(net)
    contents = model.SerializeToString()
    (path.parent / location).parent.mkdir(exist_ok=True)
    save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return contents


def test_an_onnx_net_whose_weights_lie_outside_pickles_too(net: bnfold.Net, tmp_path: Path) -> None:
    contents = external(net, tmp_path / "net.onnx")
    model = bnfold.load(tmp_path / "net.onnx")
    assert pickle.loads(pickle.dumps(model)).origin.document.buffer == contents
    folded = bnfold.fold(model).net
    assert bnfold.compare(folded, pickle.loads(pickle.dumps(folded)), tolerance=0).passed


@pytest.mark.parametrize("location", ["", "net.onnx.data", "weights/all.bin"])
def test_an_onnx_net_is_saved_onto_its_own_file(net: bnfold.Net, tmp_path: Path, location: str) -> None:
    path = tmp_path / "net.onnx"
    contents = external(net, path, location) if location else bnfold.to_onnx(net).SerializeToString()
    if not location:
        path.write_bytes(contents)
    model = bnfold.load(path)
    folded = bnfold.fold(model).net
    for _ in range(2):
        bnfold.save_onnx(folded, path)
    assert bnfold.compare(folded, path, tolerance=0).passed
    assert bnfold.compare(contents, model, tolerance=0).passed
    bnfold.save_onnx(model, path)
    assert bnfold.compare(contents, path, tolerance=0).passed


@pytest.mark.parametrize("language", ["Caffe", "ONNX"])
@pytest.mark.parametrize(
    "arrange",
    [np.asfortranarray, lambda weight: np.repeat(weight, 2, axis=0)[::2], lambda weight: weight[::-1][::-1]],
    ids=["Fortran", "strided", "reversed"],
)
def test_weights_that_are_put_in_may_lie_in_any_order(
    net: bnfold.Net, language: str, arrange: Callable[[np.ndarray], np.ndarray]
) -> None:
    one = net.copy() if language == "Caffe" else bnfold.load(bnfold.to_onnx(net))
    one["conv2"].blobs = Blobs([arrange(2 * one["conv2"].blobs[0])])
    values = {tensor.name: to_array(tensor) for tensor in bnfold.to_onnx(one).graph.initializer}
    assert np.array_equal(values["conv2/weight"], 2 * net["conv2"].blobs[0])
    assert bnfold.compare(one, bnfold.fold(one).net).passed
    assert np.array_equal(pickle.loads(pickle.dumps(one))["conv2"].blobs[0], one["conv2"].blobs[0])


@pytest.mark.parametrize(
    ("language", "blobs", "said"),
    [
        ("Caffe", [3], "its blobs are list, and not bnfold.Blobs of arrays"),
        (
            "Caffe",
            Blobs([np.zeros((16, 16, 5, 5), np.int8)]),
            "blob 0 is of int8, and has to be of a floating-point type",
        ),
        ("Caffe", Blobs([np.zeros((16, 16, 5, 5), "V4")]), "blob 0 is of .V4, and has to be of a floating-point type"),
        ("Caffe", Blobs([np.zeros((16, 16, 5, 5), complex)]), "blob 0 is of complex128, and has to be of a floating"),
        ("ONNX", Blobs([np.zeros((16, 16, 5, 5))]), "blob 0 is of float64, and has to be of float32"),
        ("ONNX", Blobs([np.zeros((16, 16, 5, 5), ">f4")]), "blob 0 is of >f4, and has to be of float32"),
    ],
)
def test_weights_that_no_file_can_hold_are_a_sentence(net: bnfold.Net, language: str, blobs: Any, said: str) -> None:
    one = net.copy() if language == "Caffe" else bnfold.load(bnfold.to_onnx(net))
    one["conv2"].blobs = blobs
    for call in (bnfold.fold, bnfold.to_onnx, lambda net: bnfold.compare(net, net)):
        with pytest.raises(UsageError, match=rf"^layer 'conv2' \(Conv.*\): {said}"):
            call(one)


def edited(**values: Any) -> Callable[[bnfold.Net], None]:
    """An edit of 'conv2', whatever the types say."""

    def edit(net: bnfold.Net) -> None:
        for name, value in values.items():
            setattr(net["conv2"], name, value)

    return edit


BROKEN: dict[str, Callable[[bnfold.Net], object]] = {
    r"conv2' \(Conv.*\): its param is a (LayerParameter|Node), and not NoneType": edited(param=None),
    r"conv2' \(Conv.*\): its bottoms and tops are lists of names, and not None and \['conv2'\]": edited(bottoms=None),
    r"conv2' \(Conv.*\): its bottoms and tops are lists .* and not \['.*'\] and 'conv2'": edited(tops="conv2"),
    r"conv2' \(Conv.*\): names and types are str, and not 3": edited(bottoms=[3]),
    r"None' \(Conv.*\): names and types are str, and not None": edited(name=None),
    r"conv2' \(Conv.*\): no layer makes its bottom 'nobody'": edited(bottoms=["nobody"]),
    r"conv2' \(Conv.*\): it makes 'conv1', which layer 'conv1' \(Conv.*\) has made already": edited(tops=["conv1"]),
    r"^Net.inputs is a dict, and not NoneType": lambda net: setattr(net, "inputs", None),
    r"^input 'data': its shape is a tuple of int, and not \(1.0, 1, 8, 8\)": (
        lambda net: net.inputs.update(data=(1.0, 1, 8, 8))  # type: ignore[arg-type]
    ),
    r"^the layers of a net are bnfold.Layer, and not str": lambda net: net.layers.append("relu"),  # type: ignore
}


@pytest.mark.parametrize("language", ["Caffe", "ONNX"])
@pytest.mark.parametrize("said", BROKEN)
def test_a_net_that_an_edit_has_broken_is_a_sentence(net: bnfold.Net, tmp_path: Path, said: str, language: str) -> None:
    read = net if language == "Caffe" else bnfold.load(bnfold.to_onnx(net))
    one = read.copy()
    BROKEN[said](one)
    save = bnfold.save_caffe if language == "Caffe" else bnfold.save_onnx
    for use in (
        bnfold.fold,
        bnfold.to_onnx,
        lambda net: bnfold.compare(net, read),
        lambda net: save(net, tmp_path / "net"),
    ):
        with pytest.raises((UsageError, ModelError), match=said):
            use(one)
    assert not list(tmp_path.iterdir())


def test_an_input_that_a_program_has_taken_away_is_a_sentence(net: bnfold.Net) -> None:
    one = net.copy()
    one.inputs.clear()
    with pytest.raises(
        bnfold.UnsupportedError, match=r"'data' \(Input\): what it makes is no longer an input of the net"
    ):
        bnfold.to_onnx(one)


@pytest.mark.parametrize("language", ["Caffe", "ONNX"])
def test_weights_that_are_masked_or_gone_are_a_sentence(net: bnfold.Net, language: str) -> None:
    one = net.copy() if language == "Caffe" else bnfold.load(bnfold.to_onnx(net))
    weight = one["conv2"].blobs[0]
    one["conv2"].blobs = Blobs([np.ma.masked_less(weight, 0)])
    with pytest.raises(UsageError, match=r"conv2' \(Conv.*\): blob 0 is masked, and no file can hold a mask; fill it"):
        bnfold.to_onnx(one)
    one["conv2"].blobs = Blobs([np.ma.masked_array(weight)])
    bnfold.to_onnx(one)
    one["conv2"].blobs = Blobs()
    with pytest.raises(
        bnfold.BnfoldError, match=r"conv2' \(Conv.*\): (has no weights|it has 0 blobs), and (needs|its param reads)"
    ):
        bnfold.to_onnx(one)


def test_a_node_is_another_operator_by_its_param_alone(net: bnfold.Net, tmp_path: Path) -> None:
    one = bnfold.load(bnfold.to_onnx(net))
    one["Sigmoid1"].type = "Tanh"
    for use in (bnfold.fold, bnfold.to_onnx, lambda net: bnfold.save_onnx(net, tmp_path / "net.onnx")):
        with pytest.raises(
            UsageError, match=r"layer 'Sigmoid1' \(Tanh\): its param is a Sigmoid, and what a node computes"
        ):
            use(one)


def test_weights_are_not_written_for_two_layers_of_one_name(net: bnfold.Net, tmp_path: Path) -> None:
    one = net.copy()
    one["conv2"].name = "conv1"
    with pytest.raises(UsageError, match=r"layer 'conv1' \(Convolution\): another layer has its name, by which"):
        bnfold.save_caffe(one, tmp_path / "net.prototxt")
    assert not list(tmp_path.iterdir())


def test_a_layer_keeps_its_type_whatever_its_parameters_say_of_it(net: bnfold.Net, tmp_path: Path) -> None:
    one = net.copy()
    param = copy.deepcopy(one["conv2"].param)
    param.ClearField("type")
    one["conv2"].param = param
    bnfold.save_caffe(one, tmp_path / "net.prototxt")
    assert bnfold.compare(net, bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")).passed
    assert bnfold.load(tmp_path / "net.caffemodel", input_shapes=net.inputs)["conv2"].type == "Convolution"


CALLS: dict[str, Callable[[bnfold.Net, Path], object]] = {
    "compare": lambda net, _: bnfold.compare(net, net),
    "fold": lambda net, _: bnfold.fold(net),
    "save": lambda net, path: bnfold.save_onnx(net, path.with_name("new.onnx")),
    "to_onnx": lambda net, _: bnfold.to_onnx(net),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("suffix", [".caffemodel", ".onnx"])
def test_a_net_whose_file_was_written_to_since_is_a_sentence(
    net: bnfold.Net, tmp_path: Path, suffix: str, call: str
) -> None:
    path = (tmp_path / "net").with_suffix(suffix)
    path.write_bytes(CAFFEMODEL.read_bytes() if suffix == ".caffemodel" else bnfold.to_onnx(net).SerializeToString())
    loaded = bnfold.load(PROTOTXT, path) if suffix == ".caffemodel" else bnfold.load(path)
    path.write_bytes(b"")  # the end of a process that touches what was mapped
    with pytest.raises(bnfold.ParseError, match=rf"net\{suffix}: was written to after it was read, .*; load it again"):
        CALLS[call](loaded, path)


def test_a_model_that_is_written_to_its_own_open_file_is_a_sentence(net: bnfold.Net, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    bnfold.save_onnx(net, path)
    model = bnfold.load(path)
    with (
        path.open("wb") as file,
        pytest.raises(bnfold.ParseError, match=r"net\.onnx: was written to after it was read"),
    ):
        bnfold.save_onnx(model, file)


@pytest.mark.parametrize("suffix", [".caffemodel", ".onnx"])
def test_a_model_is_not_written_over_what_it_is_read_from(net: bnfold.Net, tmp_path: Path, suffix: str) -> None:
    path = (tmp_path / "net").with_suffix(suffix)
    before = CAFFEMODEL.read_bytes() if suffix == ".caffemodel" else bnfold.to_onnx(net).SerializeToString()
    path.write_bytes(before)
    loaded = bnfold.load(PROTOTXT, path) if suffix == ".caffemodel" else bnfold.load(path)
    with (
        path.open("r+b") as file,
        pytest.raises(
            bnfold.UsageError, match=rf"net\{suffix}: the weights of the net are still read from this .*path"
        ),
    ):
        bnfold.save_onnx(loaded, file)
    assert path.read_bytes() == before


def test_a_model_that_was_renamed_keeps_its_weights(net: bnfold.Net, tmp_path: Path) -> None:
    path, renamed, weights = tmp_path / "out.onnx", tmp_path / "renamed.onnx", tmp_path / "out.onnx.data"
    bnfold.save_onnx(net, path, external_data=True)
    path.rename(renamed)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    before = weights.read_bytes()
    for one in (net, bnfold.load(bnfold.to_onnx(net)), bnfold.load(renamed)):
        with pytest.raises(
            UsageError, match=r"out\.onnx\.data: holds the weights of .*renamed\.onnx, .* another name$"
        ):
            bnfold.save_onnx(one, path, external_data=True)
    assert weights.read_bytes() == before
    renamed.unlink()
    bnfold.save_onnx(net, path, external_data=True)


def test_a_model_that_was_removed_can_be_saved_under_its_name_again(net: bnfold.Net, tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    bnfold.save_onnx(net, path, external_data=True)
    model = bnfold.load(path)
    path.unlink()
    bnfold.save_onnx(model, path)
    assert bnfold.compare(net, path).passed


def test_models_come_from_bytes_and_streams(net: bnfold.Net, tmp_path: Path) -> None:
    bnfold.save_onnx(net, tmp_path / "net.onnx")
    with (
        PROTOTXT.open("rb") as prototxt,
        CAFFEMODEL.open("rb") as caffemodel,
        (tmp_path / "net.onnx").open("rb") as file,
    ):
        loaded = [
            bnfold.load(PROTOTXT.read_bytes(), CAFFEMODEL.read_bytes()),
            bnfold.load(prototxt, caffemodel),
            bnfold.load(file),
        ]
    for one in loaded:
        assert [kept.layer for kept in bnfold.fold(one).report.kept] == []
        answers = bnfold.compare(net, one)
        assert answers.passed


FORMS: dict[str, Callable[[bytes, Path], Any]] = {
    "net": lambda contents, _: bnfold.load(contents),
    "message": lambda contents, _: ModelProto.FromString(contents),
    "bytes": lambda contents, _: contents,
    "stream": lambda contents, _: io.BytesIO(contents),
    "path": lambda _, path: path,
    "name": lambda _, path: str(path),
}


@pytest.mark.parametrize("reference", FORMS)
@pytest.mark.parametrize("candidate", FORMS)
def test_a_model_is_compared_in_any_form(net: bnfold.Net, tmp_path: Path, reference: str, candidate: str) -> None:
    path, contents = tmp_path / "net.onnx", bnfold.to_onnx(net).SerializeToString()
    path.write_bytes(contents)
    forms = [FORMS[name](contents, path) for name in (reference, candidate)]
    report = bnfold.compare(*forms, tolerance=0)
    assert report.passed
    assert len(report.blobs) == 15


def test_options_of_reading_mean_the_same_for_a_model_in_memory(net: bnfold.Net, tmp_path: Path) -> None:
    path, model = tmp_path / "net.onnx", bnfold.to_onnx(net)
    path.write_bytes(model.SerializeToString())
    forms = (path, model, model.SerializeToString())
    options = bnfold.CompareOptions(reading=bnfold.ReadOptions(until=("conv1",)))
    assert [len(bnfold.compare(form, form, options=options).blobs) for form in forms] == [1, 1, 1]
    for form in forms:
        assert bnfold.load(form, batch=3).inputs == {"data": (3, 1, 8, 8)}
        with pytest.raises(UsageError, match="--input-shape x: the network has no input of that name"):
            bnfold.compare(form, form, input_shapes={"x": (1, 1, 8, 8)})


class Place:
    """A path of somebody's own, as `os.DirEntry` is one."""

    def __init__(self, path: str | bytes) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


@pytest.mark.parametrize("as_said", [str, os.fsencode])
def test_a_path_may_be_of_any_kind(net: bnfold.Net, tmp_path: Path, as_said: Callable[[Path], str | bytes]) -> None:
    def place(path: Path) -> Any:
        return Place(as_said(path))

    assert len(bnfold.load(place(PROTOTXT), place(CAFFEMODEL)).layers) == 15
    bnfold.save_onnx(net, place(tmp_path / "net.onnx"))
    assert bnfold.load(place(tmp_path / "net.onnx")).language == "ONNX"
    assert bnfold.compare(place(tmp_path / "net.onnx"), place(PROTOTXT)).passed


def test_a_shallow_copy_is_a_net_of_its_own(net: bnfold.Net) -> None:
    assert copy.copy(net)["conv1"] is not net["conv1"]
    assert copy.copy(net).origin is net.origin


def test_weights_in_memory_go_with_a_prototxt_on_the_disk(tmp_path: Path) -> None:
    assert bnfold.load(PROTOTXT, CAFFEMODEL.read_bytes()).file == str(PROTOTXT)
    with pytest.raises(bnfold.ParseError, match=r"^.*missing\.prototxt: cannot be read: No such file"):
        bnfold.load(tmp_path / "missing.prototxt", CAFFEMODEL.read_bytes())
    with pytest.raises(bnfold.ParseError, match=r"^weights\.caffemodel: is text and not a caffemodel") as caught:
        bnfold.load(PROTOTXT, b"abc")
    assert caught.value.file is None


def test_a_caffemodel_alone_comes_from_bytes_and_is_named_without_a_folder() -> None:
    contents = CAFFEMODEL.read_bytes()
    assert len(bnfold.load(contents, input_shapes={"data": (1, 1, 8, 8)}).layers) == 15
    with pytest.raises(bnfold.ParseError, match=r"^net\.caffemodel: is damaged or cut short"):
        bnfold.load(contents[:3000])
    with pytest.raises(bnfold.ParseError, match=r"^net\.prototxt:1:7: the '\{' of 'layer' is never closed"):
        bnfold.load(b"layer { nonsense")
    with pytest.raises(bnfold.ParseError, match=r"^net\.prototxt:1:1: this is a solver"):
        bnfold.load(b'net: "train.prototxt" base_lr: 0.1')
    with pytest.raises(bnfold.ParseError, match=r"^model\.onnx: is not an ONNX model"):
        bnfold.load(b"\x08\x03abc")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_prototxt_comes_from_bytes_in_whatever_encoding(encoding: str) -> None:
    text = "# für Ziffern\n" + PROTOTXT.read_text()
    assert len(bnfold.load(text.encode(encoding), CAFFEMODEL.read_bytes()).layers) == 15


def test_a_small_onnx_model_with_layers_in_its_names_is_no_prototxt() -> None:
    model = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["layer"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("layer", TensorProto.FLOAT, [1, 3])],
    )
    contents = ModelProto(ir_version=8, graph=model, opset_import=[OperatorSetIdProto(version=17)]).SerializeToString()
    assert b"\0" not in contents
    assert bnfold.load(contents).language == "ONNX"


@pytest.mark.parametrize("producer", ["", "an exporter"])
def test_onnx_bytes_without_a_version_of_the_format_are_no_caffemodel(net: bnfold.Net, producer: str) -> None:
    model = bnfold.to_onnx(net)
    model.ClearField("ir_version")
    model.producer_name = producer
    assert bnfold.load(model.SerializeToString()).language == "ONNX"


def test_an_onnx_net_becomes_a_message_without_a_second_copy_of_its_weights(tmp_path: Path) -> None:
    model = classifier(classes=4608)
    del model.graph.initializer[:]
    shapes = {"conv1": (512, 3, 3, 3), "conv2": (512, 512, 3, 3), "fc": (4608, 512)}
    for layer, shape in shapes.items():
        weight, bias = np.ones(shape, np.float32), np.ones(shape[0], np.float32)
        model.graph.initializer.extend([from_array(weight, f"{layer}_w"), from_array(bias, f"{layer}_b")])
    contents = model.SerializeToString()
    (tmp_path / "net.onnx").write_bytes(contents)
    net = bnfold.load(tmp_path / "net.onnx")
    tracemalloc.start()
    try:
        again = bnfold.to_onnx(net)
        peak = tracemalloc.get_traced_memory()[1]  # of Python's own memory, and not of the message
    finally:
        tracemalloc.stop()
    assert again == model
    assert peak < 0.75 * len(contents)  # the larger of two weights, which are half of it each


def test_one_name_to_keep_is_one_name() -> None:
    case = golden("seed_resnet_bn_scale")
    one = bnfold.load(case.prototxt, case.caffemodel)
    blob = next(layer.tops[0] for layer in one.layers if layer.type == "BatchNorm")
    assert any(blob in layer.tops for layer in bnfold.fold(one, keep=blob).net.layers)


def closed() -> io.BytesIO:
    stream = io.BytesIO()
    stream.close()
    return stream


def unreadable() -> io.BufferedWriter:
    return io.BufferedWriter(io.BytesIO())


MASKED = np.ma.masked_less(np.array([1.0, -1.0]).reshape(2, 1, 1, 1) * np.ones((2, 1, 8, 8)), 0)
LIBRARY: Any = bnfold  # as a program sees it that no type checker reads


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda net: LIBRARY.fold(LIBRARY.fold(net)), "and got FoldResult; give its .net"),
        (lambda net: LIBRARY.compare(net, LIBRARY.fold(net)), "and not FoldResult; give its .net"),
        (lambda net: LIBRARY.fold("net.prototxt"), "fold takes a net that bnfold.load has read, and got str"),
        (
            lambda net: LIBRARY.load(LIBRARY.to_onnx(net).graph),
            "a GraphProto is a part of a model; give the whole ModelProto",
        ),
        (
            lambda net: LIBRARY.load(["a.prototxt", "a.caffemodel"]),
            "and not list; its two files are two arguments",
        ),
        (lambda net: LIBRARY.compare(net, net, [np.zeros(3)]), "not list; np.stack makes an array of a list of them"),
        (lambda net: LIBRARY.compare(net, net, []), "not list; np.stack makes an array of a list of them"),
        (
            lambda net: LIBRARY.compare(net, net, ["a.png", Path("b.png")]),
            "not list; of several images give their folder, or a text file with a path in each line",
        ),
        (lambda net: LIBRARY.compare(net, 3), "^candidate: a model is a path"),
        (lambda net: LIBRARY.Comparison(3), "^reference: a model is a path"),
        (
            lambda net: LIBRARY.load(PROTOTXT, until="x"),
            r"takes Sequence\[str\], and not str 'x'; give a list, \['x'\]$",
        ),
        (lambda net: LIBRARY.to_onnx(net, options=3), "^options are an OnnxOptions, or its fields"),
        (lambda net: LIBRARY.load(3), "a model is a path, bytes, a binary stream or an ONNX message, and not int"),
        (lambda net: LIBRARY.load(PROTOTXT.read_text()), "a str is the path of a model; give the text .* as bytes"),
        (lambda net: LIBRARY.load(PROTOTXT, until="prob"), "the option until takes Sequence.str., and not str"),
        (lambda net: LIBRARY.load(PROTOTXT, batch="2"), "the option batch takes int or None, and not str"),
        (lambda net: LIBRARY.load(PROTOTXT, options=bnfold.CompareOptions()), "a ReadOptions, .* not CompareOptions"),
        (lambda net: LIBRARY.advise(net), "advice is on a prototxt, its path or its text, and not on Net"),
        (lambda net: LIBRARY.advise("m.onnx"), "m.onnx: advice is on how a Caffe .* give the path or the text of its"),
        (lambda net: LIBRARY.to_onnx(net, opset="13"), "the option opset takes int, and not str"),
        (lambda net: LIBRARY.compare(net, 3), "a model is a path, bytes, .* or an ONNX message, and not int"),
        (lambda net: LIBRARY.compare(net, PROTOTXT.read_text()), "a str is the path of a model; give the text"),
        (lambda net: LIBRARY.compare(net, net, input_shapes={"data": (1, 1, 8, 8)}), "and both are read already"),
        (
            lambda net: LIBRARY.load(LIBRARY.to_onnx(net), level=1),
            "--level: these options are for Caffe files",
        ),
        (lambda net: LIBRARY.save_caffe("x", "y.prototxt"), "str"),
        (
            lambda net: LIBRARY.save_caffe(LIBRARY.load(LIBRARY.to_onnx(net).SerializeToString()), "y"),
            "save it with save_",
        ),
        (lambda net: LIBRARY.to_onnx(None), "NoneType"),
        (
            lambda net: LIBRARY.to_onnx(net, dtype="nonsense"),
            "dtype nonsense: a model is written in float32 or float64",
        ),
        (lambda net: LIBRARY.to_onnx(net, metadata={"a": 3}), "metadata takes Mapping.str, str. or None, and not dict"),
        (lambda net: LIBRARY.to_onnx(net, outputs=[3]), r"outputs takes Sequence.str. or None, and not list \[3\]"),
        (lambda net: LIBRARY.load(PROTOTXT, 3), "as paths, a single one also as bytes or a stream, and not as int"),
        (lambda net: LIBRARY.load(PROTOTXT, [b"x"]), "caffemodels are given as paths, .* and not as bytes"),
        (lambda net: LIBRARY.load(PROTOTXT, batch=True), "the option batch takes int or None, and not bool"),
        (lambda net: LIBRARY.load(PROTOTXT, stages=3), "the option stages takes Iterable.str., and not int"),
        (lambda net: LIBRARY.load(PROTOTXT, input_shapes={"data": 3}), "input_shapes takes Mapping.* and not dict"),
        (lambda net: LIBRARY.load(PROTOTXT, crop_offset="x"), "takes 'caffe', 'aligned' or None, and not str 'x'"),
        (lambda net: LIBRARY.load(PROTOTXT, zero_scale_factor="x"), "takes 'caffe', 'one' or None, and not str 'x'"),
        (
            lambda net: LIBRARY.load(PROTOTXT, batchnorm_layout="x"),
            "takes 'bvlc', .* or None, and not str 'x'",
        ),
        (lambda net: LIBRARY.load(unreadable()), "the stream that a model is read from cannot be read: read"),
        (lambda net: LIBRARY.load(closed()), "the stream that a model is read from is closed"),
        (
            lambda net: LIBRARY.fold(Net("net", [], {})),
            "fold takes a net that bnfold.load has read, and this one has no language",
        ),
        (lambda net: LIBRARY.compare(net, net, Noise({}, 0)), "there are no samples"),
        (lambda net: LIBRARY.fold(net, keep=[3]), r"keep takes str or Iterable.str., and not list \[3\]"),
        (lambda net: LIBRARY.fold(net, exclude=None), "exclude takes str or Iterable.str., and not NoneType"),
        (lambda net: LIBRARY.fold(net, join="no"), "join takes bool, and not str 'no'"),
        (lambda net: LIBRARY.fold(net, join=2.5), "join takes bool, and not float"),
        (lambda net: LIBRARY.save_caffe(net, None), r"prototxt takes str or os.PathLike\[str\], and not NoneType"),
        (lambda net: LIBRARY.save_caffe(net, "x", dialect="x"), "dialect takes 'bvlc' or 'keep', and not str 'x'"),
        (lambda net: LIBRARY.save_onnx(net, None), "a path or an open binary file, and not to NoneType"),
        (lambda net: LIBRARY.save_onnx(net, io.StringIO()), "a path or an open binary file, and not to StringIO"),
        (lambda net: LIBRARY.save_onnx(net, closed()), "a path or an open binary file, and not to BytesIO"),
        (lambda net: LIBRARY.save_onnx(net, "x.prototxt"), "^x.prototxt: what is written there is an ONNX model; "),
        (lambda net: LIBRARY.save_onnx(net, Path("x.caffemodel")), "what is written there is an ONNX model; give a"),
        (lambda net: LIBRARY.save_caffe(net, "x.onnx"), "^x.onnx: what is written there is a prototxt; give a name"),
        (lambda net: LIBRARY.save_caffe(net, "x.caffemodel"), "what is written there is a prototxt; give a name"),
        (lambda net: LIBRARY.save_caffe(net, "x", "x.onnx"), "^x.onnx: what is written there is a caffemodel; give"),
        (lambda net: LIBRARY.compare(net, net, map="a=b"), "the option map takes Mapping.str, str., and not str 'a=b'"),
        (lambda net: LIBRARY.advise(PROTOTXT, "net"), "advise takes a net that bnfold.load has read, and got str"),
        (
            lambda net: LIBRARY.load(LIBRARY.to_onnx(net).SerializeToString(), batch=0),
            "a batch of 0: it must be 1 or more",
        ),
        (lambda net: LIBRARY.compare(LIBRARY.to_onnx(net), net, batch=-1), "a batch of -1: it must be 1 or more"),
        (
            lambda net: LIBRARY.load(LIBRARY.to_onnx(net).SerializeToString(), input_shapes={"data": (1, 1, 8, 0)}),
            r"input 'data' cannot have the shape \(1, 1, 8, 0\): sizes are positive numbers",
        ),
        (
            lambda net: LIBRARY.load(LIBRARY.to_onnx(net).SerializeToString(), input_shapes={"data": (1, 1, 8)}),
            "input 'data' has 4 axes, and was given 3 sizes",
        ),
        (lambda net: LIBRARY.compare(net, net, threads=-1), "threads is from 0, for any, to 512 at most, and not -1"),
        (
            lambda net: LIBRARY.compare(net, net, np.zeros((2, 1, 8, 8)), labels=5),
            "there are 2 samples and 1 label",
        ),
        (
            lambda net: LIBRARY.compare(net, net, np.zeros((2, 1, 8, 8)), labels=np.zeros((2, 1))),
            r"the labels have shape \(2, 1\), and must be one class number per sample: labels.reshape\(-1\)",
        ),
        (
            lambda net: LIBRARY.compare(net, net, np.zeros((2, 1, 8, 8)), labels=np.eye(2, 10)),
            r"the labels have shape \(2, 10\), and .*: of one-hot rows, labels.argmax\(axis=1\)",
        ),
        (
            lambda net: LIBRARY.compare(net, net, {"data": np.zeros((2, 1, 8, 8)), "label": np.eye(2, 10)}),
            r"the labels have shape \(2, 10\), and .*: of one-hot rows, labels.argmax\(axis=1\)",
        ),
        (lambda net: LIBRARY.load(b""), "what was given as a model has 0 bytes"),
        (lambda net: LIBRARY.load(io.BytesIO()), r"is empty or at its end; stream.seek\(0\) rewinds it"),
        (lambda net: LIBRARY.compare(net, net, tf32=True), "--tf32 would be ignored: cpu cannot multiply in TF32"),
        (lambda net: LIBRARY.compare(net, net, reading=None), "the option reading takes ReadOptions, and not NoneType"),
        (
            lambda net: LIBRARY.compare(net, net, checkpoint=3),
            "checkpoint takes str, os.PathLike.str. or None",
        ),
        (lambda net: LIBRARY.compare(net, net, np.zeros((1, 1, 8, 8), complex)), "complex128, and takes real numbers"),
        (lambda net: LIBRARY.compare(net, net, np.full((1, 1, 8, 8), "a")), "<U1, and takes real numbers"),
        (
            lambda net: LIBRARY.compare(net, net, progress=3),
            "progress is called with the samples done and the samples in all, and not int",
        ),
        (
            lambda net: LIBRARY.compare(net, net, progress=lambda done: None),
            r"called with the samples done and the samples in all, and this function takes \(done\)",
        ),
        (
            lambda net: LIBRARY.Comparison(net).against(net, lambda *, done, total: None),
            r"and this function takes \(\*, done, total\)",
        ),
        (lambda net: LIBRARY.fold(net, keep=np.array("x")), r"keep takes str or Iterable.str., and not ndarray"),
        (lambda net: LIBRARY.fold(net, keep=io.StringIO("x")), r"keep takes str or Iterable.str., and not StringIO"),
        (lambda net: LIBRARY.fold(net, exclude=iter([3])), r"exclude takes str or Iterable.str., and not list \[3\]"),
        (lambda net: LIBRARY.fold(net, join=np.zeros(2)), "join takes bool, and not ndarray"),
        (lambda net: LIBRARY.fold(net, join=None), "join takes bool, and not NoneType"),
        (lambda net: LIBRARY.fold(net, join=[]), r"join takes bool, and not list"),
        (lambda net: LIBRARY.compare(net, net, exact=np.zeros(2)), "the option exact takes bool, and not ndarray"),
        (
            lambda net: LIBRARY.load(PROTOTXT, input_shapes={"data": (size for size in (1, 1, 8, 8))}),
            "input_shapes takes Mapping.* and not dict",
        ),
        (lambda net: LIBRARY.save_caffe(net, "x", outputs="y"), "outputs takes OutputSet or None, and not str 'y'"),
        (lambda net: LIBRARY.compare(net, net, MASKED), "^given arrays: 'data' is a masked array; fill"),
        (
            lambda net: LIBRARY.compare(net, net, MASKED.data, labels=np.ma.masked_array([1, 2], [True, False])),
            "^the labels are masked; -1 says that a class is not known",
        ),
        (lambda net: LIBRARY.compare(net, net, "x" * 5000), "^the data 'x+' does not exist"),
        (lambda net: LIBRARY.compare(net, net, checkpoint="a\0b"), "no file can have this name, which has a NUL"),
        (
            lambda net: LIBRARY.compare(net, net, checkpoint="/"),
            "^'/' is no checkpoint of a comparison; name another file",
        ),
        (lambda net: LIBRARY.compare(net, net, checkpoint="x" * 5000), "cannot be written: File name too long"),
        (lambda net: LIBRARY.Preparation(swap_channels="no"), "the preparation: swap_channels takes bool, and not str"),
        (lambda net: LIBRARY.Preparation(mean=np.ma.masked_less([1, -1], 0)), "the preparation: its mean is masked"),
        (lambda net: LIBRARY.Comparison(net).against_all(None), "against_all takes a list of models, and not NoneType"),
        (lambda net: LIBRARY.Comparison(net).against_all("x"), "against_all takes a list of models, and not str"),
        (lambda net: LIBRARY.Comparison(net).against_all([net], folded=[True] * 2), "one bool for each of 1 candidate"),
        (
            lambda net: LIBRARY.Comparison(net).against_all([net], folded=3),
            "folded is a list of one bool for each of 1",
        ),
        (lambda net: LIBRARY.Comparison(net).against_all([net], folded="y"), "one bool for each of 1 candidate"),
        (lambda net: LIBRARY.Comparison(net).against_all([net], run_equal=[]), "run_equal takes bool, and not list"),
        (lambda net: LIBRARY.Blobs(None), "blobs are given as a list of arrays, and not as NoneType"),
        (lambda net: LIBRARY.Blobs(np.zeros(())), "blobs are given as a list of arrays, and not as ndarray"),
        (lambda net: LIBRARY.Blobs([net["conv2"].blobs[0], [1.0]]), "blob 1 is list, and not an array"),
        (lambda net: LIBRARY.load(PROTOTXT, [None]), "caffemodels are given as paths, .* and not as NoneType"),
        (
            lambda net: LIBRARY.advise(PROTOTXT, LIBRARY.load(LIBRARY.to_onnx(net))),
            "advice is on a prototxt, and the net beside it is ONNX; give the one that it says",
        ),
        (lambda net: LIBRARY.compare(net, net, checkpoint=""), "'': no file can have this name, which is empty"),
        (lambda net: LIBRARY.load(""), "'': no file can have this name, which is empty"),
        (lambda net: LIBRARY.compare(net, net, tolerance=True), "the option tolerance takes float .*, and not bool"),
        (lambda net: LIBRARY.compare(net, net, tolerance=10**400), "the option tolerance takes float .*, and not int"),
        (lambda net: LIBRARY.compare(net, net, min_agreement=-(10**400)), "min_agreement takes float .*, and not int"),
        (lambda net: LIBRARY.to_onnx(net, dtype=None), "dtype None: a model is written in float32 or float64"),
        (
            lambda net: LIBRARY.to_onnx(LIBRARY.load(LIBRARY.to_onnx(net)), dtype=np.zeros(3)),
            r"dtype \[0. 0. 0.\]: a model is written in float32 or float64",
        ),
        (lambda net: LIBRARY.to_onnx(net, dtype={"a": 3}), "dtype {'a': 3}: a model is written in float32 or float64"),
        (lambda net: LIBRARY.Preparation(origin=np.zeros(3)), "origin takes str, and not ndarray"),
        (lambda net: LIBRARY.Preparation(scale="1"), "mean and scale are numbers, resize and crop .height, width."),
        (lambda net: LIBRARY.Preparation(scale=1j), "mean and scale are numbers, resize and crop .height, width."),
        (lambda net: LIBRARY.Preparation(scale=bytearray(1)), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.Preparation(scale=True), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.Preparation(mean=b"abc"), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.Preparation(resize=b"ab"), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.Preparation(crop=memoryview(b"ab")), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.RunReport(bnfold.fold(net)), "original takes Net or None, and not FoldResult"),
        (lambda net: LIBRARY.RunReport(net, net, bnfold.fold(net)), "give the .report of what bnfold.fold gave"),
        (lambda net: LIBRARY.RunReport(proofs=bnfold.compare(net, net)), r"of one proof \(proof,\)"),
        (lambda net: LIBRARY.RunReport(proofs=[net]), "proofs is a tuple of what bnfold.compare gave"),
        (lambda net: LIBRARY.RunReport(notes="abc"), "notes is a tuple of sentences, and not str 'abc'"),
        (lambda net: LIBRARY.RunReport(notes=(1,)), r"notes is a tuple of sentences, and not tuple \(1,\)"),
        (lambda net: LIBRARY.RunReport(written="a.onnx"), "written is a tuple of paths, and not str 'a.onnx'"),
        (lambda net: LIBRARY.RunReport(rejected=None), "rejected is a tuple of paths, and not NoneType None"),
        (
            lambda net: LIBRARY.load("a.prototxt:b.caffemodel"),
            "a prototxt and its caffemodel are two arguments: 'a.prototxt', 'b.caffemodel'",
        ),
        (lambda net: LIBRARY.load(bytearray(b"a")), r"and not bytearray; give bytes\(..\) of it"),
        (
            lambda net: LIBRARY.compare(net, net, reference_provider=""),
            "--reference-provider : there is no such provider",
        ),
        (lambda net: LIBRARY.Preparation(mean=np.datetime64(1, "D")), "mean and scale are numbers, resize and crop"),
        (lambda net: LIBRARY.Preparation(mean=["b"]), "mean and scale are numbers, resize and crop .height, width."),
        (lambda net: LIBRARY.Preparation(resize=8), "mean and scale are numbers, resize and crop .height, width."),
        (lambda net: LIBRARY.Preparation(crop=(8, 0)), "resize and crop are .height, width., in pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_argument_of_the_wrong_kind_is_a_sentence(net: bnfold.Net, call: Callable[[Any], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(net)


def test_numbers_may_be_numpys(net: bnfold.Net, tmp_path: Path) -> None:
    sizes = np.array([2, 1, 8, 8])
    for given in ({"batch": np.int64(2)}, {"input_shapes": {"data": sizes}}):
        read = LIBRARY.load(PROTOTXT, CAFFEMODEL, **given)
        assert read.inputs == {"data": (2, 1, 8, 8)}
        bnfold.save_onnx(read, tmp_path / "net.onnx", opset=np.int32(15))
        assert LIBRARY.compare(tmp_path / "net.onnx", read, seed=np.uint8(1)).passed
    preparation = LIBRARY.Preparation(resize=sizes[2:], crop=sizes[2:])
    assert (preparation.resize, preparation.crop) == ((8, 8), (8, 8))
    assert preparation.size_before_crop((4, 4)) == (8, 8)


@pytest.mark.parametrize("blobs", [np.array(["conv1"]), iter(["conv1"]), {"conv1"}, np.array([], str)])
def test_words_may_come_in_an_array(net: bnfold.Net, blobs: Any) -> None:
    wanted = ["conv1"] if not isinstance(blobs, np.ndarray) or blobs.size else net.outputs
    assert LIBRARY.load(PROTOTXT, CAFFEMODEL, until=blobs).outputs == wanted
    LIBRARY.load(bnfold.to_onnx(net), until=np.array(wanted))


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype(np.float32)])
def test_the_default_type_is_none_that_an_onnx_net_would_ignore_whoever_says_it(net: bnfold.Net, dtype: Any) -> None:
    model = bnfold.to_onnx(net, dtype=dtype)
    assert bnfold.to_onnx(bnfold.load(model), dtype=dtype) == model


def test_what_is_no_name_at_all_is_no_layer(net: bnfold.Net) -> None:
    for name in (np.zeros(3), 0, None, np.array("conv1")):
        with pytest.raises(KeyError, match="there is no layer"):
            LIBRARY.load(PROTOTXT, CAFFEMODEL)[name]
        assert name not in net
    with pytest.raises(KeyError, match=r"net\.layers\[3\] is one by its place"):
        LIBRARY.load(PROTOTXT, CAFFEMODEL)[3]


def test_words_may_come_from_an_iterator(net: bnfold.Net) -> None:
    assert "bn2" in {layer.name for layer in LIBRARY.fold(net, exclude=iter(["bn2"])).net.layers}
    assert bnfold.load(PROTOTXT, stages=iter(["deploy"])).layers


def test_the_root_is_no_model() -> None:
    with pytest.raises(bnfold.ParseError, match=r"^/: is a folder; give a file"):
        bnfold.load("/")


def test_a_stream_that_cannot_be_written_is_a_sentence(net: bnfold.Net, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        (tmp_path / "file").open("rb") as unwritable,
        pytest.raises(bnfold.WriteError, match="open file cannot be"),
    ):
        bnfold.save_onnx(net, unwritable)


def test_a_name_that_is_none_is_no_layer(net: bnfold.Net) -> None:
    with pytest.raises(KeyError, match="no layer '3'"):
        LIBRARY.fold(net).net[3]


def test_the_client_program_folds_shares_and_draws_and_says_why_it_cannot() -> None:
    spec = spec_from_file_location("client", CLIENT / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    said = module.report_on(PROTOTXT, CAFFEMODEL)
    assert "<FoldResult: <Net 'digits_cifar10'" in said
    assert said.endswith(bnfold.__version__)
    assert len({len(bnfold.fold(net).report.folded) for net in module.shared(PROTOTXT, CAFFEMODEL)}) == 1
    assert all(module.pages(PROTOTXT, CAFFEMODEL, PROTOTXT.parent / "digits"))
    assert "nowhere.onnx" in module.refusal("nowhere.onnx")


def test_every_record_that_a_report_holds_has_a_public_name() -> None:
    public = [getattr(bnfold, name) for name in bnfold.__all__]
    homes = [module for name, module in sys.modules.items() if name.startswith("bnfold.")]
    classes = [kind for module in homes for kind in vars(module).values() if isinstance(kind, type)]
    known = {kind.__name__: {kind.__name__} for kind in classes if dataclasses.is_dataclass(kind)}
    known["Record"] = {kind.__name__ for kind in get_args(Record)}
    for record in filter(dataclasses.is_dataclass, public):
        words = {word for field in dataclasses.fields(record) for word in re.findall(r"\w+", str(field.type))}
        assert {name for word in words & known.keys() for name in known[word]} <= set(bnfold.__all__), record


@pytest.mark.slow
def test_a_client_is_checked_by_its_types() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")

    clients = [str(CLIENT / name) for name in ("client.py", "every_name.py", "wrong.py")]
    command = [sys.executable, "-m", "mypy", "--strict", *clients]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    (complaint, sum_of_all) = done.stdout.splitlines()
    assert complaint.startswith('tests/client/wrong.py:5: error: Module has no attribute "flod"')
    assert sum_of_all == "Found 1 error in 1 file (checked 3 source files)", done.stderr


class Own:
    """Samples of a class that a program writes."""

    count: Any = 20
    description = "its own"
    labels: Any = None
    class_names: Any = ()

    def sample(self, number: int) -> Any:
        return {"data": np.random.default_rng(number).random((1, 8, 8), np.float32)}

    def name(self, number: int) -> str:
        return str(number)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 2.5}, "its own: the count of samples takes int, and not float"),
        ({"count": np.int64(20)}, r"its own: the count of samples is int64; give int\(count\)"),
        ({"description": None}, "samples of a class of its own, Own: the description takes str, and not NoneType"),
        ({"name": lambda own, number: number}, "its own: the name of a sample takes str, and not int"),
        ({"name": "a.png"}, r"its own: name is a method, name\(number\), and not str"),
        ({"labels": [1] * 20}, "its own: labels are an array of one for each of 20 samples, and not list"),
        ({"labels": np.zeros(3, int)}, "its own: labels are an array of one for each of 20 samples, and not 3"),
        ({"class_names": None}, "its own: class_names takes Sequence.str., and not NoneType"),
        ({"sample": lambda own, number: None}, "its own: a sample is a dict from input to array, and not NoneType"),
        (
            {"sample": lambda own, number: {"data": np.ones((1, 8, 8 + number))}},
            r"'data' are 1x8x8 \('0'\) and 1x8x9 \('1'\)",
        ),
        (
            {"sample": lambda own, number: Own.sample(own, number) if number < 2 else {"x": 1}},
            r"its own: there is nothing for input 'data' \(it has 'x'\)",
        ),
    ],
)
def test_samples_of_a_class_of_its_own_that_do_not_fit_are_a_sentence(
    net: bnfold.Net, wrong: dict[str, Any], said: str
) -> None:
    own: Any = type("Own", (Own,), wrong)()
    with pytest.raises(UsageError, match=said):
        LIBRARY.compare(net, LIBRARY.fold(net).net, own)


def test_an_answer_that_flips_needs_no_picture_of_a_sample(net: bnfold.Net) -> None:
    turned = net.copy()
    scores = turned[net.layers[-2].name]
    scores.blobs = Blobs([-blob for blob in scores.blobs])
    own: Any = Own()
    for change in ({}, {"sample_limit": 10, "sample_seed": 1}):
        for bare in (own, type("Own", (Own,), {"picture": None})()):
            found = LIBRARY.compare(net, turned, bare, layers=False, **change).classifier
            assert found.flipped == found.samples > 0
            assert {flip.picture for flip in found.flips} == {None}
    for picture, said in (
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((0, 0, 3), np.uint8), r"uint8 \(0, 0, 3\)"),
        (np.zeros((8, 8, 3)), "float64"),
        ([], "list"),
    ):
        own = type("Own", (Own,), {"picture": lambda own, number, picture=picture: picture})()
        with pytest.raises(UsageError, match=f"its own: a picture is an array of uint8, .* or None, and not {said}"):
            LIBRARY.compare(net, turned, own, layers=False)


def test_samples_that_lack_something_or_are_a_class_are_a_sentence(net: bnfold.Net) -> None:
    bare: Any = type("Bare", (), {"sample": Own.sample, "count": 2})
    with pytest.raises(UsageError, match="samples are an object, not the class Bare itself; pass an instance"):
        bnfold.compare(net, net, bare)
    with pytest.raises(UsageError, match="its own, Bare, have 'class_names', 'description', 'labels', 'name', too"):
        bnfold.compare(net, net, bare())
    own: Any = Own()
    assert LIBRARY.compare(net, LIBRARY.fold(net).net, own).sample_count == 20
