"""What a program sets on a net is written, or refused with a reason: never left out without a word."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

import bnfold
from bnfold.caffe.caffe_pb2 import NetParameter
from bnfold.errors import ModelError, UnsupportedError, UsageError
from bnfold.net import Blobs, Layer, Net, Shape, Use

TEXT = b"""# the first line
name: "small"  # what it is called
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"  # kept
        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "act" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX global_pooling: true } }
"""


@pytest.fixture
def caffe() -> Net:
    net = bnfold.load(TEXT)
    net["conv"].blobs = Blobs([np.array([[1, -2], [3, 4]], np.float32).reshape(2, 2, 1, 1)])
    statistics = [[0.5, -1.0], [2.0, 3.0], [1.0]]
    net["norm"].blobs = Blobs(np.array(values, np.float32) for values in statistics)
    return net


@pytest.fixture
def model(caffe: Net) -> Net:
    return bnfold.load(bnfold.to_onnx(caffe).SerializeToString())


def saved_caffe(net: Net, folder: Path) -> Net:
    bnfold.save_caffe(net, folder / "out.prototxt")
    return bnfold.load(folder / "out.prototxt", folder / "out.caffemodel")


def saved_onnx(net: Net, folder: Path) -> Net:
    """Read again from each of the three forms in which an ONNX net is written, which are alike."""
    bnfold.save_onnx(net, folder / "out.onnx")
    stream = io.BytesIO()
    bnfold.save_onnx(net, stream)
    assert stream.getvalue() == (folder / "out.onnx").read_bytes()
    assert bnfold.to_onnx(net) == onnx.load(folder / "out.onnx")
    onnx.checker.check_model(onnx.load(folder / "out.onnx"), full_check=True)
    return bnfold.load(folder / "out.onnx")


def test_names_that_a_program_gives_are_written_to_onnx(model: Net, tmp_path: Path) -> None:
    model.name = "another"
    model["conv"].name = "first"
    again = saved_onnx(model, tmp_path)
    assert (again.name, [layer.name for layer in again.layers]) == ("another", ["first", "norm", "act", "pool"])
    assert bnfold.compare(model, again, tolerance=0).passed
    assert saved_onnx(bnfold.fold(model).net, tmp_path)["first"].type == "Conv"


def test_a_graph_without_a_name_gets_one(model: Net, tmp_path: Path) -> None:
    message = bnfold.to_onnx(model)
    message.graph.ClearField("name")
    model = bnfold.load(message)
    model.name = "another"
    bnfold.save_onnx(model, tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx").graph.name == "another"


def test_a_node_without_a_name_keeps_none(model: Net) -> None:
    message = bnfold.to_onnx(model)
    message.graph.node[0].name = ""
    model = bnfold.load(message)
    model[message.graph.node[0].output[0]].blobs = Blobs(2 * blob for blob in model.layers[0].blobs)
    assert bnfold.to_onnx(model).graph.node[0].name == ""


def test_names_that_a_program_gives_are_written_to_caffe(caffe: Net, tmp_path: Path) -> None:
    caffe.name = "another"
    caffe["conv"].name = "first"
    again = saved_caffe(caffe, tmp_path)
    assert (again.name, again.layers[1].name) == ("another", "first")
    text = (tmp_path / "out.prototxt").read_text()
    assert text.startswith('# the first line\nname: "another"  # what it is called\n')
    assert "# kept" in text
    assert bnfold.compare(caffe, again, tolerance=0).passed


def test_a_prototxt_without_a_name_gets_one(tmp_path: Path) -> None:
    net = bnfold.load(TEXT.replace(b'name: "small"', b""))
    net.name = "another"
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    assert (tmp_path / "out.prototxt").read_text().startswith('name: "another"\n# the first line\n')


def test_what_is_written_into_a_param_is_written_to_caffe(caffe: Net, tmp_path: Path) -> None:
    read = saved_caffe(caffe, tmp_path)
    for number, net in enumerate((caffe, read, pickle.loads(pickle.dumps(read)))):
        net["conv"].param.convolution_param.stride.append(2)
        (tmp_path / str(number)).mkdir()
        again = saved_caffe(net, tmp_path / str(number))
        assert list(again["conv"].param.convolution_param.stride) == [2]
        assert bnfold.compare(net, again, tolerance=0).passed
        message = NetParameter.FromString((tmp_path / str(number) / "out.caffemodel").read_bytes())
        assert [list(layer.convolution_param.stride) for layer in message.layer if layer.name == "conv"] == [[2]]


def test_the_shape_of_an_input_is_written_to_caffe(caffe: Net, tmp_path: Path) -> None:
    caffe.inputs["data"] = (3, 2, 5, 6)
    assert saved_caffe(caffe, tmp_path).inputs == {"data": (3, 2, 5, 6)}
    caffe.inputs.clear()
    with pytest.raises(UsageError, match=r"'data' \(Input\): what it makes, 'data', is no longer an input of the net"):
        bnfold.save_caffe(caffe, tmp_path / "gone.prototxt")


def test_what_reads_an_older_version_of_a_blob_reads_it_in_the_file(caffe: Net, tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in caffe.layers}
    layers["pool"].bottoms[0] = layers["conv"].tops[0]  # in front of the normalisation in place
    assert bnfold.compare(caffe, saved_caffe(caffe, tmp_path), tolerance=0).passed


def test_a_caffemodel_is_written_whole_without_the_files_behind_it(caffe: Net, tmp_path: Path) -> None:
    read = saved_caffe(caffe, tmp_path)
    read.origin = None
    (tmp_path / "again").mkdir()
    assert bnfold.compare(caffe, saved_caffe(read, tmp_path / "again"), tolerance=0).passed


def test_an_output_that_is_read_is_refused_where_a_file_would_lose_it(caffe: Net, tmp_path: Path) -> None:
    caffe.outputs.append(caffe["act"].tops[0])
    with pytest.raises(UnsupportedError, match=r"out\.prototxt: a layer reads 'conv', and what is read is no output"):
        saved_caffe(caffe, tmp_path)
    assert len(bnfold.to_onnx(caffe).graph.output) == 2


def test_outputs_that_are_renamed_or_added_keep_their_types(model: Net, tmp_path: Path) -> None:
    message = bnfold.to_onnx(model)
    message.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model = bnfold.load(message)
    model.outputs.append(model["conv"].tops[0])
    saved_onnx(model, tmp_path)
    assert onnx.load(tmp_path / "out.onnx").graph.output[0] == message.graph.output[0]
    model.layers[-1].tops[0] = model.outputs[0] = "other"
    saved_onnx(model, tmp_path)
    ports = onnx.load(tmp_path / "out.onnx").graph.output
    assert [port.name for port in ports] == model.outputs
    assert [[dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in ports] == [
        [1, 2, 1, 1],
        [1, 2, 4, 4],
    ]


def more(noun: str) -> Callable[[Net], object]:
    return lambda net: getattr(net["conv"], noun).append("data" if noun == "bottoms" else "more")


def without_top(net: Net) -> None:
    net["pool"].tops.clear()
    net.outputs.clear()


def written_into(net: Net) -> None:
    net["conv"].param.attributes["strides"].ints[:] = [2, 2]
    net["conv"].blobs = Blobs(2 * blob for blob in net["conv"].blobs)


def beside(net: Net, proto: onnx.NodeProto) -> None:
    """Put in a node that reads what the first one does."""
    conv = net["conv"]
    param = replace(conv.param, number=-1, proto=proto)
    net.insert(Layer(proto.name, param.layer_type, list(conv.bottoms), ["new"], conv.blobs, param), after=conv)


REFUSED: dict[str, Callable[[Net], Any]] = {
    r"'conv' \(Conv\): it has 2 bottoms, and its param reads 1": more("bottoms"),
    r"'conv' \(Conv\): it has 0 bottoms, and its param reads 1": lambda net: net["conv"].bottoms.clear(),
    r"'conv' \(Conv\): it has 2 tops, and its param makes 1": more("tops"),
    r"'pool' \(.*\): it has 0 tops, and its param makes 1": without_top,
    r"'conv' \(Conv\): it has . blobs, and its param reads .": (
        lambda net: setattr(net["conv"], "blobs", Blobs([*net["conv"].blobs, net["conv"].blobs[0]]))
    ),
    r"'norm' \(Conv\): another node has its name, and runtimes": lambda net: setattr(net["conv"], "name", "norm"),
    r"'conv' \(Conv\): another node has its name, and runtimes": lambda net: beside(net, net["conv"].param.proto),
    r"'new' \(Odd\): the model does not say which version of 'odd' it uses": (
        lambda net: beside(net, helper.make_node("Odd", ["x"], ["y"], name="new", domain="odd"))
    ),
    r"'conv' \(Conv\): a program has written into its node; set layer.param to param.edited": written_into,
    r"inputs of an ONNX net stay those of its file, 'data'; they are now 'data', 'x'": lambda net: net.inputs.update(
        x=(1, 2)
    ),
    r"input 'data' is 1x2x4x4 there, and stays so": lambda net: net.inputs.update(data=(7, 2, 4, 4)),
    r"Net\.public says what is in Caffe's files": lambda net: net.public.update(conv="x"),
    r"Net\.preparation says what is in Caffe's files": lambda net: net.preparation.update(data="grey"),
    r"Net\.batchnorm_layout says what is in Caffe's": lambda net: setattr(net, "batchnorm_layout", "bvlc"),
    r"Net\.zero_factor says what is in Caffe's files": lambda net: setattr(net, "zero_factor", "one"),
    r"no layer makes the net's output 'nobody'": lambda net: net.outputs.append("nobody"),
    r"a blob has a name of one letter or more": lambda net: net["conv"].tops.__setitem__(0, ""),
    r"Net\.origin is what bnfold.load has put there, and not NoneType": lambda net: setattr(net, "origin", None),
    r"Net\.front is what bnfold.load has put there, and not int": lambda net: setattr(net, "front", 3),
    r"'conv' \(Conv\): its source is what bnfold.load has": lambda net: setattr(net["conv"], "source", 3),
    r"outputs, notes, public and preparation of a net hold str, and not 3": lambda net: net.notes.append(3),  # type: ignore[arg-type]
    r"Net\.file is a str, and not NoneType": lambda net: setattr(net, "file", None),
    r"names are UTF-8 in every file, and 'a\\udc80' is not": lambda net: setattr(net["conv"], "name", "a\udc80"),
    r"names are UTF-8 in every file, and 'b\\udc80' is not": lambda net: net.rename(net["conv"].tops[0], "b\udc80"),
    r"names are UTF-8 in every file, and 'c\\udc80' is not": lambda net: setattr(net, "name", "c\udc80"),
}


@pytest.mark.parametrize("said", REFUSED)
@pytest.mark.parametrize("write", [saved_onnx, lambda net, folder: bnfold.to_onnx(net)], ids=["file", "message"])
def test_what_a_model_cannot_hold_is_refused(
    model: Net, tmp_path: Path, said: str, write: Callable[[Net, Path], object]
) -> None:
    REFUSED[said](model)
    with pytest.raises((UsageError, ModelError), match=said):
        write(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_that_no_file_can_hold_are_refused_in_caffe(caffe: Net, tmp_path: Path) -> None:
    caffe["conv"].type = "a\udc80"
    for use in (bnfold.fold, bnfold.to_onnx, lambda net: saved_caffe(net, tmp_path)):
        with pytest.raises(UsageError, match=r"names are UTF-8 in every file, and 'a\\udc80' is not"):
            use(caffe)


def test_what_a_body_reads_is_not_another_blob_without_another_body(tmp_path: Path) -> None:
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "body", [], [port("y")])
    node = helper.make_node("If", ["flag"], ["out"], then_branch=body, else_branch=body)
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "g", [flag, port("x"), port("z")], [port("out")], [from_array(np.ones(1), "w")])
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    net["out"].bottoms[1] = "z"
    with pytest.raises(UsageError, match=r"'out' \(If\): its bodies read 'x', and a param with other bodies"):
        bnfold.save_onnx(net, tmp_path / "out.onnx")


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("name", ["local", "deeper", "stored"])
def test_a_blob_with_the_name_of_what_a_body_makes_behind_it_is_refused(name: str, is_first: bool) -> None:
    """Runtimes refuse such a name where it is there already, and take it where the body stands in front."""
    inner = helper.make_graph([helper.make_node("Abs", ["local"], ["deeper"])], "inner", [], [port("deeper")])
    nodes = [
        helper.make_node("Mul", ["x", "stored"], ["local"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
    ]
    body = helper.make_graph(nodes, "body", [], [port("y")], [from_array(np.array([3, -4], np.float32), "stored")])
    nodes = [
        helper.make_node("Neg", ["x"], ["before"]),
        helper.make_node("If", ["flag"], ["out"], name="choice", then_branch=body, else_branch=body),
        helper.make_node("Exp", ["before"], ["behind"]),
        helper.make_node("Sub", ["out", "behind"], ["z"]),
    ]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "g", [flag, port("x")], [port("z")])
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    edited = net.copy()
    edited.rename("before" if is_first else "behind", name)
    if is_first:
        with pytest.raises(UsageError, match=rf"'choice' \(If\): its bodies make '{name}', and a value in front of it"):
            bnfold.to_onnx(edited)
    else:
        assert bnfold.compare(net, bnfold.load(bnfold.to_onnx(edited)), tolerance=0).passed


def port(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def test_a_layer_of_another_net_is_neither_taken_out_nor_followed(caffe: Net) -> None:
    other = caffe.copy()
    new = Layer("new", "ReLU", ["pool"], ["new"], Blobs(), caffe["act"].param)
    with pytest.raises(
        UsageError, match=r"'pool' \(Pooling\): is no layer of this net, so nothing can stand behind it"
    ):
        caffe.insert(new, after=other["pool"])
    with pytest.raises(UsageError, match=r"'pool' \(Pooling\): is no layer of this net"):
        caffe.remove(other["pool"])
    caffe["pool"].bottoms[0] = "data"
    caffe.remove(caffe["pool"])
    assert [layer.name for layer in caffe.layers] == ["data", "conv", "norm", "act"]


def test_a_blob_that_there_is_not_cannot_be_renamed_nor_one_be_written_twice(caffe: Net) -> None:
    with pytest.raises(UsageError, match="cannot rename 'nobody' to 'x'"):
        caffe.rename("nobody", "x")
    with pytest.raises(UsageError, match="cannot rename 'pool' to 'conv'"):
        caffe.rename("pool", "conv")
    twice = Layer("twice", "ReLU", ["pool"], ["conv"], Blobs(), caffe["act"].param)
    with pytest.raises(UsageError, match=r"'twice' \(ReLU\): blob 'conv' is written by layer 'act' \(ReLU\) already"):
        caffe.insert(twice, after=caffe["pool"])


def another(net: Net) -> Layer:
    return Layer("new", "ReLU", ["pool"], ["new"], Blobs(), net["act"].param)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda net: net.remove("pool"), r"are bnfold.Layer, and not str; net\['pool'\] is the layer of that name"),
        (lambda net: net.without("pool"), "layers are given as a list of bnfold.Layer, and not as str"),
        (lambda net: net.without(net["pool"]), "layers are given as a list of bnfold.Layer, and not as Layer"),
        (lambda net: net.without(["pool"]), r"not str; net\['pool'\] is the layer of that name"),
        (lambda net: net.without([net.copy()["pool"]]), r"layer 'pool' \(Pooling\): is no layer of this net"),
        (lambda net: net.with_layers(None), "layers are given as a list of bnfold.Layer, and not as NoneType"),
        (lambda net: net.with_layers([3]), "the layers of a net are bnfold.Layer, and not int"),
        (lambda net: net.with_layers(net.layers, notes="a"), "notes takes Sequence.str., and not str 'a'"),
        (lambda net: net.called("pool"), "names of blobs takes Mapping.str, str., and not str 'pool'"),
        (lambda net: net.called({"pool": 3}), "names of blobs takes Mapping.str, str., and not dict"),
        (lambda net: net.insert(another(net), after="pool"), "the layers of a net are bnfold.Layer, and not str"),
        (lambda net: net.insert(None, after=net["pool"]), "the layers of a net are bnfold.Layer, and not NoneType"),
        (lambda net: net.insert_behind([net["pool"]]), "given as a list of bnfold.Layer, and not as Layer"),
        (lambda net: net.insert_behind([[net["pool"]]]), r"a pair \(after, layer\), and not 1 layer"),
        (lambda net: net.insert_behind(None), r"a list of pairs \(after, layer\), and not NoneType"),
        (lambda net: net.insert_behind([(net["pool"], replace(another(net), tops=["conv"]))]), "'conv' is written by"),
        (lambda net: net.insert_first([replace(another(net), tops=["conv"])]), "'conv' is written by"),
        (
            lambda net: net.insert_first([Layer("new", "ReLU", net.name, ["new"], Blobs(), None)]),
            "its bottoms and tops are lists",
        ),
        (lambda net: net.insert_first(another(net)), "layers are given as a list of bnfold.Layer, and not as Layer"),
        (lambda net: net.reads("pool", ["data"]), "the layers of a net are bnfold.Layer, and not str"),
        (lambda net: net.reads(net.copy()["pool"], ["data"]), r"layer 'pool' \(Pooling\): is no layer of this net"),
        (lambda net: net.reads(net["pool"], "data"), "what a layer reads takes Iterable.str., and not str 'data'"),
        (lambda net: net.reads(net["pool"], iter([3])), "a blob is meant by its name, and not by 3"),
        (lambda net: net.reconnect(net["pool"], "data"), "what Net.reconnect changes takes Use, and not Layer"),
        (lambda net: net.reconnect(Use(net["pool"], 7), "data"), r"'pool' \(Pooling\): it does not read a bottom 7"),
        (lambda net: net.reconnect(Use(net.copy()["pool"], 0), "data"), "it does not read a bottom 0 in this net"),
        (lambda net: net.reconnect(Use(net["pool"], 0), None), "a blob is meant by its name, and not by None"),
        (lambda net: net.rename("pool", 3), "a blob is meant by its name, and not by 3"),
        (lambda net: net.rename("pool", ""), "a blob is meant by its name, and not by ''"),
        (lambda net: net.rename("pool", "new", public=3), "a blob is meant by its name, and not by 3"),
        (lambda net: net.producer(net["pool"]), "a blob is meant by its name, and not by Layer"),
        (lambda net: net.uses(["pool"]), r"a blob is meant by its name, and not by \['pool'\]"),
        (lambda net: net.public_name(None), "a blob is meant by its name, and not by None"),
    ],
)
def test_an_edit_of_the_wrong_kind_is_a_sentence_at_the_call_and_leaves_the_net_as_it_was(
    caffe: Net, edit: Callable[[Any], object], said: str
) -> None:
    before = [str(layer) + repr(layer.bottoms) + repr(layer.tops) for layer in caffe.layers]
    with pytest.raises(UsageError, match=said):
        edit(caffe)
    assert [str(layer) + repr(layer.bottoms) + repr(layer.tops) for layer in caffe.layers] == before
    assert [len(caffe.uses(top)) for layer in caffe.layers for top in layer.tops][-1] == 0
    assert all(use.layer in caffe.layers for layer in caffe.layers for top in layer.tops for use in caffe.uses(top))


def test_the_sizes_of_an_open_input_are_given_where_it_is_read(model: Net) -> None:
    message = bnfold.to_onnx(model)
    message.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model = bnfold.load(message)
    model.inputs["data"] = (7, 2, 4, 4)
    for use in (bnfold.to_onnx, lambda net: bnfold.compare(net, message), pickle.dumps):
        with pytest.raises(UsageError, match=r"'data' was read as \?x2x4x4, and keeps its sizes; bnfold.load gives it"):
            use(model)
    assert bnfold.load(message, batch=7).inputs == {"data": (7, 2, 4, 4)}


def summing() -> onnx.ModelProto:
    """A BatchNormalization whose shift goes past a sum over the plane, and says so often as the plane has pixels."""
    random = np.random.default_rng(0)
    sizes = {"scale": (3,), "shift": (3,), "mean": (3,), "variance": (3,), "weight": (3, 2), "bias": (2,)}
    stored = [from_array(random.uniform(1, 2, size).astype(np.float32), name) for name, size in sizes.items()]
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], name="pool", kernel_shape=[1, 1], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["p", "scale", "shift", "mean", "variance"], ["n"], name="norm"),
        helper.make_node("ReduceSum", ["n", "axes"], ["s"], name="sum", keepdims=0),
        helper.make_node("Gemm", ["s", "weight", "bias"], ["y"], name="fc"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], [*stored, from_array(np.array([2, 3]), "axes")])
    graph.value_info.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "pn")
    graph.value_info.append(helper.make_tensor_value_info("half", TensorProto.FLOAT, [1, 3, 4, 4]))
    graph.node.insert(0, helper.make_node("MaxPool", ["x"], ["half"], name="half", kernel_shape=[1, 1], strides=[2, 2]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def put_in_front(net: Net, layer: Layer) -> None:
    """Make what stands behind the first layer read a new one."""
    net.insert(layer, after=net["half"])
    net["pool"].bottoms[0] = layer.tops[0]


@pytest.mark.parametrize(
    "edit",
    [
        lambda net: setattr(net["pool"], "param", net["pool"].param.edited(strides=[2, 2])),
        lambda net: net["pool"].bottoms.__setitem__(0, "half"),
        lambda net: put_in_front(
            net, Layer("new", "MaxPool", ["x"], ["new"], Blobs(), replace(net["half"].param, number=-1))
        ),
        lambda net: put_in_front(net, replace(net["half"].copy(), name="new", tops=["new"])),
    ],
    ids=["another node", "another bottom", "a new layer", "a layer twice"],
)
def test_sizes_that_a_file_says_hold_no_more_behind_what_an_edit_changed(edit: Callable[[Net], None]) -> None:
    net = bnfold.load(summing())
    edit(net)
    folded = bnfold.fold(net)
    assert [record.layer for record in folded.report.folded] == ["norm"]
    assert bnfold.compare(net, folded.net).passed


@pytest.mark.parametrize("batch", [None, 3], ids=["as declared", "of a batch that was given"])
def test_sizes_that_an_edit_changed_are_written_as_they_are_now(batch: int | None) -> None:
    model = summing()
    for port in (*model.graph.input, *model.graph.value_info):
        port.type.tensor_type.shape.dim[0].dim_param = "N"
    net = bnfold.load(onnx.shape_inference.infer_shapes(model), batch=batch)
    net["half"].param = net["half"].param.edited(strides=[1, 1])
    net["pool"].bottoms[0] = "half"
    written = bnfold.to_onnx(net)
    onnx.checker.check_model(written, full_check=True)
    said = {port.name: port.type for port in (*written.graph.value_info, *written.graph.output)}
    dims = {name: [dim.dim_param or dim.dim_value for dim in kind.tensor_type.shape.dim] for name, kind in said.items()}
    assert dims == {"s": ["N", 3], "y": ["N", 2]} | {name: ["N", 3, 8, 8] for name in ("half", "p", "n")}


def test_an_output_that_is_new_says_its_type_and_sizes_as_far_as_they_are_known(tmp_path: Path) -> None:
    model = summing()
    for declared in (*model.graph.input, *model.graph.value_info):
        declared.type.tensor_type.shape.dim[0].dim_param = "N"
    model.opset_import.add(domain="odd", version=1)
    net = bnfold.load(model, batch=3)
    halved = Layer("new", "MaxPool", ["x"], ["new"], Blobs(), replace(net["half"].param, number=-1))
    net.insert(halved, after=net["half"])
    custom = replace(net["half"].param, number=-1, proto=helper.make_node("Odd", ["x"], ["odd"], domain="odd"))
    net.insert(Layer("odd", "odd.Odd", ["p"], ["odd"], Blobs(), custom), after=net["pool"])
    net.outputs += ["new", "half", "n", "odd"]
    said = {port.name: port.type.tensor_type for port in bnfold.to_onnx(net).graph.output}
    dims = {name: [dim.dim_param or dim.dim_value for dim in kind.shape.dim] for name, kind in said.items()}
    half = ["N", 3, 4, 4]
    assert dims == {"y": [], "new": half, "half": half, "n": ["N", 3, 8, 8], "odd": []}
    assert [said[name].elem_type for name in ("new", "half", "n", "odd")] == [1, 1, 1, 0]
    net.outputs.remove("odd")
    net.remove(net["odd"])
    net.outputs.remove("y")
    saved_onnx(net, tmp_path)


def test_the_type_of_values_that_an_edit_changed_is_written_as_it_is_now(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xaby"]
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Neg", ["b"], ["y"], name="neg"),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[3:], value_info=ports[1:3])
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8))
    net["cast"].param = net["cast"].param.edited(to=TensorProto.DOUBLE)
    saved_onnx(net, tmp_path)
    written = onnx.load(tmp_path / "out.onnx").graph
    said = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", 3]) for name in "aby"]
    assert [*written.value_info, *written.output] == said


def test_a_bias_of_a_fold_that_a_program_puts_elsewhere_is_not_taken_to_keep_sizes() -> None:
    random = np.random.default_rng(0)
    sizes = {"weight": (3, 3), "shift": (3,)}
    stored = [from_array(random.uniform(1, 2, size).astype(np.float32), name) for name, size in sizes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["m"], name="matmul"),
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Add", ["m", "shift"], ["a"], name="add"),
        helper.make_node("Sum", ["a", "r"], ["y"], name="sum"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    )
    net = bnfold.load(model)
    matmul = net["matmul"]
    net.rename("r", "s")
    param = replace(net["add"].param, number=-1, replaces=matmul.param.proto)
    values = Blobs([np.ones((4, 1, 3), np.float32)])
    net.insert(Layer("bias", "Add", ["s"], ["r"], values, param), after=net["relu"])
    net["sum"].bottoms[1] = "r"
    said = {port.name: port.type.tensor_type.shape.dim for port in bnfold.to_onnx(net).graph.output}
    assert [dim.dim_value for dim in said["y"]] == [4, 2, 3]


def test_new_values_are_not_those_of_another_node_that_reads_the_old_ones(model: Net, tmp_path: Path) -> None:
    conv = model["conv"]
    again = replace(conv.copy(), name="again", tops=["again"])
    model.insert(again, after=conv)
    again.blobs = Blobs(2 * values for values in again.blobs)
    model.outputs.append("again")
    written = saved_onnx(model, tmp_path)
    assert np.array_equal(2 * np.asarray(written["conv"].blobs[0]), written["again"].blobs[0])
    model["norm"].bottoms[0] = "again"
    model.outputs[-1] = conv.tops[0]
    assert bnfold.compare(model, bnfold.fold(model).net).passed


def small(nodes: list[onnx.NodeProto], sizes: dict[str, Shape], *ports: onnx.ValueInfoProto) -> Net:
    """A net of one input and one output, whose constants differ everywhere."""
    random = np.random.default_rng(0)
    stored = [from_array(random.uniform(1, 2, size).astype(np.float32), name) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "g", [*ports[:1]], [*ports[1:]], stored)
    return bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8))


def dims_of(net: Net) -> list[list[int]]:
    onnx.checker.check_model(bnfold.to_onnx(net), full_check=True)
    outputs = bnfold.to_onnx(net).graph.output
    return [[dim.dim_value for dim in said.type.tensor_type.shape.dim] for said in outputs]


@pytest.mark.parametrize("first", [bnfold.fold, lambda net: bnfold.FoldResult(net, bnfold.FoldReport())])
def test_weights_of_other_shapes_give_other_sizes_in_front_of_a_fold_and_behind_it(
    first: Callable[[Net], bnfold.FoldResult],
) -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, size]) for name, size in (("x", 4), ("y", 3))]
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["m"], name="mul"),
        helper.make_node("Gemm", ["m", "weight", "bias"], ["y"], name="fc", alpha=2.0),
    ]
    net = first(small(nodes, {"factor": (4,), "weight": (4, 3), "bias": (3,)}, *said)).net
    net["fc"].blobs = Blobs(np.concatenate([blob, blob], axis=-1) for blob in net["fc"].blobs)
    assert dims_of(net) == [[2, 6]]
    folded = bnfold.fold(net).net
    assert [layer.name for layer in folded.layers] == ["fc"]
    assert dims_of(folded) == [[2, 6]]
    assert bnfold.compare(net, folded).passed


def test_an_affine_that_a_program_has_read_another_blob_has_the_sizes_of_that() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 1]) for name in "xy"]
    nodes = [
        helper.make_node("Div", ["x", "divisor"], ["d"], name="div"),
        helper.make_node("Add", ["d", "shift"], ["y"], name="add"),
    ]
    net = small(nodes, {"divisor": (1, 1), "shift": (1,)}, *said)
    turned = replace(net["div"].param, number=-1, proto=helper.make_node("Transpose", ["d"], ["t"]))
    net.insert(Layer("t", "Transpose", ["d"], ["t"], Blobs(), replace(turned, slots=turned.slots[:1])), net["div"])
    net["add"].bottoms[0] = "t"
    assert dims_of(net) == [[1, 2]]
    folded = bnfold.fold(net).net
    assert dims_of(folded) == [[1, 2]]
    assert bnfold.compare(net, folded).passed


def test_a_cast_that_does_something_behind_another_type_stays() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="first", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Cast", ["b"], ["c"], name="second", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["c", "factor"], ["d"], name="mul"),
        helper.make_node("Relu", ["d"], ["y"], name="last"),
    ]
    net = small(nodes, {"factor": (3,)}, *said)
    assert [layer.name for layer in bnfold.fold(net).net.layers] == ["act", "mul", "last"]
    net["first"].param = net["first"].param.edited(to=TensorProto.DOUBLE)
    folded = bnfold.fold(net).net
    assert [layer.name for layer in folded.layers] == ["first", "act", "second", "mul", "last"]
    assert bnfold.compare(net, folded).passed


def test_an_output_that_a_fold_or_a_list_made_keeps_its_type() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2, 3]) for name in "xy"]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["m"], name="matmul"),
        helper.make_node("Add", ["m", "shift"], ["a"], name="add"),
        helper.make_node("Mul", ["a", "factor"], ["y"], name="mul"),
    ]
    net = bnfold.fold(small(nodes, {"weight": (3, 3), "shift": (1, 3), "factor": (3,)}, *said)).net
    net.rename("y", "other")
    net.outputs = ["other"]
    assert dims_of(net) == [[2, 2, 3]]
    parts = helper.make_node("SplitToSequence", ["x"], ["list"], name="parts", axis=0)
    given = helper.make_node("ConcatFromSequence", ["list"], ["y"], axis=0)
    graph = helper.make_graph([parts, given], "g", said[:1], said[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    net = bnfold.load(onnx.shape_inference.infer_shapes(model))
    net.outputs.append("list")
    stated = bnfold.to_onnx(net).graph.output[1].type
    assert stated.HasField("sequence_type")
    net["parts"].param = net["parts"].param.edited(axis=1)
    assert bnfold.to_onnx(net).graph.output[1].type == stated


def test_sizes_that_nobody_knows_are_not_taken_for_the_same() -> None:
    nodes = [helper.make_node("NonZero", [name], [f"{name}n"], name=f"{name}n") for name in "xz"]
    nodes.append(helper.make_node("Cast", ["xn"], ["y"], name="y", to=TensorProto.FLOAT))
    said = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "g", [port("x"), port("z")], [said])
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8))
    net["y"].bottoms[0] = "zn"
    (dims,) = (port.type.tensor_type.shape.dim for port in bnfold.to_onnx(net).graph.output)
    assert [dim.dim_value for dim in dims] == [1, 0]


def test_layers_that_a_program_puts_into_another_order_are_written_in_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="a"),
        helper.make_node("Constant", [], ["two"], value_floats=[2.0, 2.0]),
        helper.make_node("Mul", ["x", "two"], ["b"], name="b"),
        helper.make_node("Add", ["a", "b"], ["y"], name="y"),
    ]
    graph = helper.make_graph(nodes, "g", [port("x")], [port("y")])
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8))
    net.layers.reverse()
    net.layers.append(net.layers.pop(0))
    net["a"].bottoms[0] = "b"
    assert [layer.name for layer in saved_onnx(net, tmp_path).layers] == ["b", "a", "y"]


def test_what_reads_no_more_than_a_type_or_a_shape_stands_in_front_of_who_reads_it() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["a"], name="add"),
        helper.make_node("Mul", ["a", "factor"], ["y"], name="mul"),
    ]
    net = small(nodes, {"factor": (3,)}, *said)
    again = replace(net["shape"].copy(), name="again", tops=["again"])
    net.insert(again, after=net["shape"])
    net.layers.sort(key=lambda layer: layer.name == "shape")
    net.outputs.append("again")
    written = bnfold.to_onnx(net)
    onnx.checker.check_model(written, full_check=True)
    assert [node.op_type for node in written.graph.node] == ["Shape", "Shape", "ConstantOfShape", "Add", "Mul"]


def test_a_new_affine_that_takes_another_in_is_written_in_its_type() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4, 4]) for name in "xy"]
    nodes = [
        helper.make_node("GlobalLpPool", ["x"], ["p"], name="pool"),
        helper.make_node("Mul", ["p", "factor"], ["y"], name="mul"),
    ]
    said[1].type.tensor_type.shape.dim[2].dim_value = said[1].type.tensor_type.shape.dim[3].dim_value = 1
    net = small(nodes, {"factor": (3, 1, 1)}, *said)
    negative = replace(net["pool"].param, number=-1, proto=helper.make_node("Neg", ["x"], ["n"], name="neg"))
    net.layers.insert(0, Layer("neg", "Neg", ["x"], ["n"], Blobs(), negative))
    net["pool"].bottoms[0] = "n"
    folded = bnfold.fold(net).net
    assert [layer.type for layer in folded.layers] == ["BatchNormalization", "GlobalLpPool"]
    assert bnfold.compare(net, folded).passed


def test_a_constant_of_no_axes_may_be_reckoned_with() -> None:
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    net = small([helper.make_node("Mul", ["x", "factor"], ["y"], name="mul")], {"factor": ()}, *said)
    (factor,) = net["mul"].blobs
    net["mul"].blobs = Blobs(2 * blob for blob in net["mul"].blobs)
    assert bnfold.load(bnfold.to_onnx(net))["mul"].blobs[0] == 2 * factor
    assert net["mul"].blobs.shapes == ((),)


def branching() -> onnx.ModelProto:
    """A MaxPool that both bodies of an If read, which say its size, and what `summing` does behind that."""
    model = summing()
    said = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 3, 8, 8])
    body = helper.make_graph([helper.make_node("Relu", ["p"], ["b"])], "body", [], [said])
    model.graph.node.insert(2, helper.make_node("If", ["flag"], ["i"], name="if", then_branch=body, else_branch=body))
    model.graph.node[3].input[0] = "i"
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.usefixtures("in_one_process")
def test_sizes_in_bodies_hold_no_more_behind_what_an_edit_changed(tmp_path: Path) -> None:
    net = bnfold.load(branching())
    net["pool"].param = net["pool"].param.edited(strides=[2, 2])
    again = saved_onnx(net, tmp_path)
    assert [dim.dim_value for dim in port_of(again, "i").type.tensor_type.shape.dim] == [1, 3, 4, 4]
    folded = bnfold.fold(net)
    assert [record.layer for record in folded.report.folded] == ["norm"]
    assert bnfold.compare(net, folded.net).passed


@pytest.mark.usefixtures("in_one_process")
def test_a_loop_still_runs_behind_what_an_edit_changed() -> None:
    def said(name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    steps = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["in", "p"], ["out"])]
    given = [said("round", (), TensorProto.INT64), said("go", (), TensorProto.BOOL), said("in", (1, 3, 8, 8))]
    body = helper.make_graph(steps, "body", given, [said("on", (), TensorProto.BOOL), said("out", (1, 3, 8, 8))])
    model = summing()
    model.graph.initializer.extend([from_array(np.array(2), "rounds"), from_array(np.array(True), "start")])
    model.graph.node.insert(2, helper.make_node("Loop", ["rounds", "start", "p"], ["i"], name="loop", body=body))
    model.graph.node[3].input[0] = "i"
    net = bnfold.load(model)
    net["pool"].param = net["pool"].param.edited(strides=[2, 2])
    assert bnfold.compare(net, bnfold.fold(net).net).passed


def port_of(net: Net, name: str) -> onnx.ValueInfoProto:
    return next(port for port in bnfold.to_onnx(net).graph.value_info if port.name == name)


TRANSFORMED = {"weight": (3, 3), "shift": (3,), "factor": (3,)}


def test_what_a_fold_adds_leaves_the_sizes_that_a_file_says() -> None:
    random = np.random.default_rng(0)
    stored = [from_array(random.uniform(1, 2, size).astype(np.float32), name) for name, size in TRANSFORMED.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["m"], name="matmul"),
        helper.make_node("Mul", ["m", "factor"], ["f"], name="mul"),
        helper.make_node("Add", ["f", "shift"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["y"], name="act"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    folded = bnfold.fold(bnfold.load(model, batch=3)).net
    assert [layer.type for layer in folded.layers] == ["MatMul", "Add", "Relu"]
    written = bnfold.to_onnx(folded).graph
    assert written.value_info
    assert all(port.type == ports[1].type for port in (*written.value_info, *written.output))


BROKEN: dict[str, Callable[[Net], object]] = {
    "Net.layers is a list, and not NoneType": lambda net: setattr(net, "_layers", None),
    "the layers of a net are bnfold.Layer, and not str": lambda net: net.layers.append("x"),  # type: ignore[arg-type]
    "Net.inputs is a dict, and not NoneType": lambda net: setattr(net, "inputs", None),
    "outputs, notes, public and preparation of a net hold str, and not 3": lambda net: setattr(net, "outputs", [3]),
    "its blobs are list, and not": lambda net: setattr(net.layers[1], "blobs", [3]),
    "Net.file is a str, and not int": lambda net: setattr(net, "file", 3),
    "Net.front is what bnfold.load has put there, and not int": lambda net: setattr(net, "front", 3),
    "Net.batchnorm_layout takes 'bvlc', .* or None, and not str 'x'": lambda net: setattr(net, "batchnorm_layout", "x"),
    "Net.zero_factor takes 'caffe', 'one' or None, and not str 'x'": lambda net: setattr(net, "zero_factor", "x"),
    "Net.origin is what bnfold.load has put there": lambda net: setattr(net, "origin", 3),
    "names are UTF-8": lambda net: setattr(net, "name", "\udc80"),
    "it makes": lambda net: net.layers.append(net.layers[-1]),
}


@pytest.mark.parametrize("language", ["caffe", "model"])
@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_net_is_shown_and_neither_pickled_nor_taken_for_whole(
    said: str, language: str, request: pytest.FixtureRequest
) -> None:
    net: Net = request.getfixturevalue(language)
    BROKEN[said](net)
    shown = repr(net)
    assert shown.startswith("<Net '")
    assert said == "it makes" or re.search(f"that an edit has broken: .*{said}", shown)
    assert shown.isprintable()
    assert net._repr_html_().startswith("<div>")
    assert repr(bnfold.FoldResult(net, bnfold.FoldReport())).startswith("<FoldResult: <Net '")
    with pytest.raises((UsageError, ModelError), match=said):
        pickle.dumps(net)
    for again in (copy.copy, copy.deepcopy, Net.copy):
        with suppress(UsageError):  # weights are not looked at, since a copy shares them
            again(net)


def test_a_comparison_is_neither_copied_nor_pickled(caffe: Net) -> None:
    comparison = bnfold.Comparison(caffe)
    for again in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(
            UsageError, match="a Comparison holds open files and running networks, and cannot be copied"
        ):
            again(comparison)


@pytest.mark.parametrize("brought", [lambda net: net, lambda net: pickle.loads(pickle.dumps(net))], ids=["", "pickled"])
@pytest.mark.parametrize("name", ["conv", "added"])
def test_a_layer_of_another_file_is_written_with_its_own_weights(
    caffe: Net, tmp_path: Path, brought: Callable[[Net], Net], name: str
) -> None:
    other = saved_caffe(caffe, tmp_path)
    caffe["conv"].blobs = Blobs([-3 * caffe["conv"].blobs[0]])
    (tmp_path / "own").mkdir()
    net = saved_caffe(caffe, tmp_path / "own")
    other = brought(other)
    for layer in other.layers:
        layer.name = name if layer.name == "conv" else layer.name
    taken = [other[name] if layer.name == "conv" else layer for layer in net.layers]
    joined = net.with_layers(taken)
    (tmp_path / "joined").mkdir()
    written = saved_caffe(joined, tmp_path / "joined")
    assert np.array_equal(written[name].blobs[0], other[name].blobs[0])
    assert not np.array_equal(net["conv"].blobs[0], other[name].blobs[0])
    assert bnfold.compare(joined, written).passed
    stored = bnfold.load(tmp_path / "joined" / "out.caffemodel")
    assert [layer.name for layer in stored.layers if layer.blobs] == [name, "norm"]


def test_a_node_of_another_model_is_refused_and_its_weights_are_taken(model: Net, caffe: Net, tmp_path: Path) -> None:
    caffe["conv"].blobs = Blobs([-3 * caffe["conv"].blobs[0]])
    other = bnfold.load(bnfold.to_onnx(caffe))
    mixed = model.with_layers([other["conv"] if layer.name == "conv" else layer for layer in model.layers])
    for use in (
        bnfold.fold,
        bnfold.to_onnx,
        lambda net: saved_onnx(net, tmp_path),
        lambda net: bnfold.compare(net, net),
    ):
        with pytest.raises(
            UsageError, match=r"'conv' \(Conv\): its node was read from another file, .*; give its blobs"
        ):
            use(mixed)
    model["conv"].blobs = other["conv"].blobs
    assert np.array_equal(saved_onnx(model, tmp_path)["conv"].blobs[0], other["conv"].blobs[0])
    assert bnfold.compare(caffe, model).passed


def test_weights_that_layers_share_by_name_and_that_differ_are_refused(tmp_path: Path) -> None:
    conv = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" param { name: "w" }
                      convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }"""
    head = 'input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }'
    net = bnfold.load("\n".join([head, conv % ("a", "data", "a"), conv % ("b", "a", "b")]).encode())
    weight = np.arange(1, 5, dtype=np.float32).reshape(2, 2, 1, 1)
    net["a"].blobs, net["b"].blobs = Blobs([weight]), Blobs([weight.copy()])
    read = saved_caffe(net, tmp_path)
    assert bnfold.compare(net, read).passed
    read["b"].blobs = Blobs([weight * 2])
    with pytest.raises(
        UsageError, match=r"'b' \(Convolution\): it shares weights as 'w' with layer 'a' \(Convolution\)"
    ):
        bnfold.save_caffe(read, tmp_path / "other.prototxt")
    assert bnfold.compare(read, bnfold.to_onnx(read)).passed
    read["b"].param.convolution_param.num_output = 3
    read["b"].blobs = Blobs([np.vstack([weight, -weight[:1]])])
    with pytest.raises(UsageError, match=r"'b' \(Convolution\): it shares weights as 'w' .*, which has others"):
        bnfold.save_caffe(read, tmp_path / "other.prototxt")
    assert bnfold.compare(read, bnfold.to_onnx(read)).passed


@pytest.mark.parametrize("insert", [False, True])
def test_a_layer_without_weights_beside_those_of_others_is_refused(caffe: Net, tmp_path: Path, insert: bool) -> None:
    """Nobody could read the caffemodel again; a prototxt alone, and what a filler says, are whole."""
    bare = bnfold.load(TEXT)
    other = bare["conv"]
    layer = Layer("more", "Convolution", ["pool"], ["more"], Blobs(), copy.deepcopy(other.param))
    if not insert:
        layer.source = other.source
    caffe.insert(layer, after=caffe["pool"])
    caffe.outputs = ["more"]
    with pytest.raises(bnfold.WeightsError, match=r"'more' \(Convolution\): has no weights, and needs 2x2x1x1"):
        saved_caffe(caffe, tmp_path)
    assert not list(tmp_path.iterdir())
    layer.param.convolution_param.weight_filler.type = "constant"
    layer.param.convolution_param.weight_filler.value = -3
    assert saved_caffe(caffe, tmp_path)["more"].blobs[0].ravel().tolist() == [-3] * 4
    bare.insert(layer, after=bare["pool"])
    bare.outputs = ["more"]
    assert [path.name for path in bnfold.save_caffe(bare, tmp_path / "bare.prototxt")] == ["bare.prototxt"]


CONV_OF_ONE = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" param { name: "%s" }
                        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }"""


def row(folder: Path, share: str, weights: dict[str, float]) -> Net:
    """A row of convolutions that share weights under that name, read from files that store those of some of them."""
    folder.mkdir()
    names = ["data", "a", "b"]
    head = 'input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }'
    text = "\n".join([head, *(CONV_OF_ONE % (name, names[at], name, share) for at, name in enumerate(names[1:]))])
    stored = NetParameter()
    for name, factor in weights.items():
        blob = stored.layer.add(name=name, type="Convolution").blobs.add()
        blob.data[:], blob.shape.dim[:] = [factor, 2, 3, 4], [2, 2, 1, 1]
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(stored.SerializeToString())
    return bnfold.load(folder / "net.prototxt", folder / "net.caffemodel")


def with_an_owner_that_shares_no_more(net: Net, _: Net) -> Net:
    param = copy.deepcopy(net["a"].param)
    del param.param[:]
    net["a"].param, net["a"].blobs = param, Blobs([-net["a"].blobs[0]])
    return net


def with_the_owner_of_another(net: Net, other: Net) -> Net:
    return net.with_layers([other["a"], net["b"]])


def with_the_sharer_in_another(net: Net, other: Net) -> Net:
    return other.with_layers([other["a"], net["b"]])


@pytest.mark.parametrize(
    "edit",
    [
        with_an_owner_that_shares_no_more,
        with_the_owner_of_another,
        with_the_sharer_in_another,
    ],
)
def test_weights_that_one_layer_alone_stored_are_written_for_who_shared_them(
    tmp_path: Path, edit: Callable[[Net, Net], Net]
) -> None:
    edited = edit(row(tmp_path / "one", "w", {"a": 1}), row(tmp_path / "other", "", {"a": 5, "b": 6}))
    written = saved_caffe(edited, tmp_path)
    assert written["b"].blobs[0].ravel().tolist() == [1, 2, 3, 4]
    assert bnfold.compare(edited, written).passed


def test_a_layer_that_is_there_twice_is_written_twice(tmp_path: Path) -> None:
    net = row(tmp_path / "one", "", {"a": 1, "b": 2})
    again = replace(net["b"].copy(), name="c", bottoms=["b"], tops=["c"])
    net.outputs = ["c"]
    net.insert(again, net["b"])
    written = saved_caffe(net, tmp_path)
    assert [layer.blobs[0].ravel()[0] for layer in written.layers if layer.blobs] == [1, 2, 2]
    assert bnfold.compare(net, written).passed


def test_weights_that_layers_share_may_be_of_other_types_and_no_other_values(tmp_path: Path) -> None:
    net = row(tmp_path / "one", "w", {"a": 1})
    net["b"].blobs = Blobs([net["b"].blobs[0].astype(np.float64)])
    assert bnfold.compare(net, saved_caffe(net, tmp_path)).passed
    net["b"].blobs = Blobs([net["b"].blobs[0] * 2])
    with pytest.raises(UsageError, match="it shares weights as 'w' with layer 'a'"):
        bnfold.save_caffe(net, tmp_path / "other.prototxt")


@pytest.mark.parametrize("is_node", [False, True], ids=["initialiser", "node"])
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"middle": "scale"}, r"\(Mul\): it makes 'scale', and an input or a constant of the model has that name"),
        ({"y": "x"}, r"\(Add\): it makes 'x', and an input or a constant of the model has that name"),
    ],
)
def test_a_blob_with_the_name_of_a_constant_or_an_input_is_refused(
    tmp_path: Path, is_node: bool, names: dict[str, str], sentence: str
) -> None:
    values = {"scale": np.array([2, 3], np.float32), "shift": np.array([5, 7], np.float32)}
    tensors = [from_array(value, name) for name, value in values.items()]
    nodes = [helper.make_node("Mul", ["x", "scale"], ["middle"]), helper.make_node("Add", ["middle", "shift"], ["y"])]
    if is_node:
        nodes = [*(helper.make_node("Constant", [], [one.name], value=one) for one in tensors), *nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [] if is_node else tensors)
    net = bnfold.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    edited = net.called(names)
    with pytest.raises(UsageError, match=sentence):
        bnfold.save_onnx(edited, tmp_path / "out.onnx")
    with pytest.raises(UsageError, match=sentence):
        bnfold.compare(net, edited)


def test_a_model_without_a_node_is_refused(model: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer left"):
        bnfold.save_onnx(model.without(model.layers), tmp_path / "out.onnx")


FITTING: dict[str, tuple[dict[str, Any], Shape, dict[str, Shape], dict[str, Shape]]] = {
    "Conv": ({}, (1, 4, 5, 5), {"w": (3, 4, 1, 1)}, {"w": (3, 2, 1, 1)}),
    "Conv of groups": ({"group": 2}, (1, 4, 5, 5), {"w": (6, 2, 1, 1)}, {"w": (5, 2, 1, 1)}),
    "Conv with a bias": ({}, (1, 4, 5, 5), {"w": (3, 4, 1, 1), "b": (3,)}, {"b": (2,)}),
    "Conv with a matrix as bias": ({}, (1, 4, 5, 5), {"w": (3, 4, 1, 1), "b": (3,)}, {"b": (3, 3)}),
    "ConvTranspose": ({}, (1, 4, 5, 5), {"w": (4, 2, 1, 1)}, {"w": (3, 2, 1, 1)}),
    "ConvTranspose with a bias": ({"group": 2}, (1, 4, 5, 5), {"w": (4, 2, 1, 1), "b": (4,)}, {"b": (2,)}),
    "Gemm": ({}, (2, 4), {"w": (4, 3)}, {"w": (3, 3)}),
    "Gemm turned": ({"transB": 1}, (2, 4), {"w": (3, 4), "b": (3,)}, {"b": (4,)}),
    "MatMul": ({}, (2, 3, 4), {"w": (2, 4, 3)}, {"w": (2, 3, 4)}),
    "MatMul of many": ({}, (2, 3, 4), {"w": (2, 4, 3)}, {"w": (3, 4, 3)}),
    "BatchNormalization": ({}, (1, 4, 5, 5), dict.fromkeys("wbmv", (4,)), {"m": (3,)}),
    "InstanceNormalization": ({}, (1, 4, 5, 5), dict.fromkeys("wb", (4,)), {"b": (5,)}),
    "PRelu": ({}, (1, 4, 5, 5), {"w": (4, 1, 1)}, {"w": (3, 1, 1)}),
    "Add": ({}, (1, 4, 5, 5), {"w": (4, 1, 1)}, {"w": (3, 1, 1)}),
    "RNN": (
        {"hidden_size": 2},
        (3, 1, 4),
        {"w": (1, 2, 4), "r": (1, 2, 2)},
        {"w": (1, 2, 3)},
    ),
}
"""What a node reads: attributes, shapes of data and weights; and of weights that runtimes refuse in their place."""


@pytest.mark.parametrize("case", FITTING)
def test_weights_that_do_not_fit_what_a_node_reads_are_refused_as_runtimes_do(case: str, tmp_path: Path) -> None:
    attributes, data, weights, others = FITTING[case]
    op_type = case.split()[0]
    said = [helper.make_tensor_value_info("x", TensorProto.FLOAT, data), helper.make_empty_tensor_value_info("y")]
    said[1].type.tensor_type.elem_type = TensorProto.FLOAT
    node = helper.make_node(op_type, ["x", *weights], ["y"], name="node", **attributes)
    net = small([node], weights, *said)
    assert bnfold.compare(net, net.copy()).passed
    random = np.random.default_rng(1)
    names = dict(zip(weights, net["node"].blobs, strict=True))
    blobs = [random.uniform(-2, -1, others.get(name, blob.shape)).astype(np.float32) for name, blob in names.items()]
    net["node"].blobs = Blobs(blobs)
    for use in (bnfold.to_onnx, lambda net: bnfold.save_onnx(net, tmp_path / "out.onnx")):
        with pytest.raises(UsageError, match=r"layer 'node' .*: what it reads does not fit together.*: 'x \d"):
            use(net)
    message = bnfold.to_onnx(small([node], {**weights, **others}, *said))  # not edited, so written as it was
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        ort.InferenceSession(message.SerializeToString()).run(None, {"x": np.ones(data, np.float32)})


def test_weights_of_more_channels_fit_behind_others_that_give_them() -> None:
    said = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size, 2, 2]) for name, size in (("x", 4), ("y", 2))
    ]
    nodes = [helper.make_node("Conv", [a, w], [b], name=w) for a, w, b in (("x", "one", "c"), ("c", "two", "y"))]
    net = small(nodes, {"one": (3, 4, 1, 1), "two": (2, 3, 1, 1)}, *said)
    net["one"].blobs = Blobs([np.concatenate([net["one"].blobs[0], -net["one"].blobs[0]])])
    with pytest.raises(
        UsageError, match=r"layer 'two' \(Conv\): what it reads does not fit together.*: 'c \?x6x2x2', 'two 2"
    ):
        bnfold.to_onnx(net)
    net["two"].blobs = Blobs([np.concatenate([net["two"].blobs[0], net["two"].blobs[0]], axis=1)])
    assert bnfold.compare(net, bnfold.load(bnfold.to_onnx(net))).passed
