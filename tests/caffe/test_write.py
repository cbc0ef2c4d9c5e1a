"""Saving Caffe files: what did not change keeps its bytes and its text, what changed is what other readers see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from nets import net as net_of
from wire_encoder import blob, doubles, floats, halves, layer, layer_v0, layer_v1, length, number, shape, tag

import bnfold
from bnfold.caffe import blobs
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.caffe.patch import encode
from bnfold.caffe.strip import stripped
from bnfold.caffe.weights import read_weights
from bnfold.caffe.wire import fields
from bnfold.caffe.write import prototxt_text
from bnfold.errors import ParseError, UsageError
from bnfold.net import Array, Blobs, Layer, Net

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
ZOO = ROOT.parent / "shared" / "zoo"

PROTOTXT = """\
# A net of two layers.
name: "two"

# what comes in
layer {
    name: "data"  type: "Input"  top: "data"
    input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } }
}
# The convolution,
# with no bias.
layer {
    name: "conv"   # its name
    type: "Convolution"
    bottom: "data"
    top: "conv"
    param { lr_mult: 1 decay_mult: 0 }
    convolution_param { num_output: 3 kernel_size: 1 bias_term: false weight_filler { type: "xavier" } }
}
layer {
    name: "act"
    type: "ReLU"
    bottom: "conv"
    top: "conv" # in place
}
"""

WEIGHT = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
UNKNOWN = length(106, number(1, 3), number(4, 1), number(2, 0), length(999, "nobody knows"))
CONV = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=UNKNOWN + length(7777, "nor this"))
CAFFEMODEL = b"".join(
    [
        length(1, "two"),
        layer("data", "Data", extra=length(4, "data")),
        CONV,
        layer("act", "ReLU", extra=length(3, "conv") + length(4, "conv")),
        layer("loss", "SoftmaxWithLoss", blob([7], 1)),
        number(5, 1),
    ]
)


@pytest.fixture
def load(tmp_path: Path):
    def load(prototxt: str = PROTOTXT, caffemodel: bytes = CAFFEMODEL) -> Net:
        (tmp_path / "net.prototxt").write_text(prototxt)
        (tmp_path / "net.caffemodel").write_bytes(caffemodel)
        return bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")

    return load


@pytest.fixture
def saved(tmp_path: Path):
    def saved(net: Net, strip: bool = False) -> tuple[str, bytes]:
        bnfold.save_caffe(net, tmp_path / "out.prototxt", strip=strip)
        return (tmp_path / "out.prototxt").read_text(), (tmp_path / "out.caffemodel").read_bytes()

    return saved


def changed(net: Net, name: str, **changes: object) -> Net:
    """A copy of the net with one layer's attributes replaced."""
    layers = [replace(each, **changes) if each.name == name else each for each in net.layers]  # type: ignore[arg-type]
    return Net(net.name, layers, net.inputs, net.outputs, net.public, file=net.file, origin=net.origin)


def with_bias(net: Net, bias: Array) -> Net:
    conv = next(each for each in net.layers if each.name == "conv")
    param = LayerParameter()
    param.CopyFrom(conv.param)
    param.convolution_param.bias_term = True
    param.param.add(lr_mult=2)
    return changed(net, "conv", blobs=Blobs([*conv.blobs.stored, bias]), param=param)


def fields_of(message: bytes) -> list[tuple[int, bytes]]:
    return [(field.number, message[field.at : field.end]) for field in fields(message, 0, len(message))]


# Nothing changed


def test_a_net_that_did_not_change_comes_out_as_it_was(load, saved) -> None:
    assert saved(load()) == (PROTOTXT, CAFFEMODEL)


def test_duplicates_and_everything_else_in_the_file_stay_too(load, saved) -> None:
    caffemodel = layer("conv", "Convolution", blob([9] * 6, 3, 2, 1, 1)) + CAFFEMODEL + tag(9, 3) + tag(9, 4)
    assert saved(load(caffemodel=caffemodel))[1] == caffemodel


def cases() -> list[Path]:
    return sorted(path.parent for path in GOLDEN.glob("*/net.caffemodel"))


def load_case(folder: Path) -> Net:
    shapes = folder / "input_shapes.json"
    return bnfold.load(
        folder / "net.prototxt",
        folder / "net.caffemodel",
        input_shapes=json.loads(shapes.read_text()) if shapes.exists() else None,
    )


def bare(param: LayerParameter) -> LayerParameter:
    copy = LayerParameter()
    copy.CopyFrom(param)
    for name in ("name", "type", "bottom", "top"):
        copy.ClearField(name)
    return copy


def said(net: Net) -> list[object]:
    """Everything that a net says, in a form that compares."""
    layers = [
        (
            each.name,
            each.type,
            each.bottoms,
            each.tops,
            bare(each.param),
            [(array.shape, array.dtype, array.tobytes()) for array in each.blobs],
        )
        for each in net.layers
    ]
    return [net.name, layers, net.inputs, net.outputs, net.public]


@pytest.mark.parametrize("folder", cases(), ids=lambda folder: folder.name)
def test_every_golden_survives_loading_and_saving(folder: Path, saved, tmp_path: Path) -> None:
    net = load_case(folder)
    caffemodel = saved(net)[1]
    if net.origin and net.origin.weights[0].version == 2:
        assert caffemodel == (folder / "net.caffemodel").read_bytes()
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert said(again) == said(net)


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared is not here")
def test_every_net_of_the_zoo_survives_loading_and_saving(saved, tmp_path: Path) -> None:
    folders = sorted(path.parent for path in ZOO.glob("*/*/net.caffemodel"))
    assert len(folders) > 30
    for folder in folders:
        net = load_case(folder)
        caffemodel = saved(net)[1]
        if net.origin and net.origin.weights[0].version == 2:
            assert caffemodel == (folder / "net.caffemodel").read_bytes(), folder
        assert said(bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")) == said(net), folder


# Something changed


def test_a_layer_that_changed_is_patched_and_keeps_fields_that_nobody_knows(load, saved) -> None:
    text, caffemodel = saved(with_bias(load(), np.float32([7, 8, 9])))
    message = NetParameter.FromString(caffemodel)
    conv = message.layer[1]
    assert conv.convolution_param.bias_term
    assert [spec.lr_mult for spec in conv.param] == [1, 2]
    assert list(conv.blobs[0].data) == WEIGHT
    assert list(conv.blobs[1].data) == [7, 8, 9]
    assert list(conv.blobs[1].shape.dim) == [3]
    numbers = [field for field, _ in fields_of(fields_of(caffemodel)[2][1])]
    assert numbers == [1, 2, 6, 6, 7, 7, 106, 7777]
    inside = next(payload for field, payload in fields_of(fields_of(caffemodel)[2][1]) if field == 106)
    assert fields_of(inside) == [(1, b"\x03"), (4, b"\x01"), (2, b"\x01"), (999, b"nobody knows")]
    # All else is as it was, and so is the rest of the prototxt.
    begin, end = CAFFEMODEL.index(CONV), CAFFEMODEL.index(CONV) + len(CONV)
    assert caffemodel.startswith(CAFFEMODEL[:begin])
    assert caffemodel.endswith(CAFFEMODEL[end:])
    printed = """\
layer {
    name: "conv"
    type: "Convolution"
    bottom: "data"
    top: "conv"
    param { lr_mult: 1 decay_mult: 0 }
    param { lr_mult: 2 }
    convolution_param {
        num_output: 3
        bias_term: true
        kernel_size: 1
        weight_filler { type: "xavier" }
    }
}
"""
    begin = PROTOTXT.index('layer {\n    name: "conv"')
    assert text == PROTOTXT[:begin] + printed + PROTOTXT[PROTOTXT.index('layer {\n    name: "act"') :]


def test_a_layer_that_went_is_dropped_and_training_layers_stay(load, saved) -> None:
    net = load()
    net.remove(net.layers[2])
    text, caffemodel = saved(net)
    assert [each.name for each in NetParameter.FromString(caffemodel).layer] == ["data", "conv", "loss"]
    assert "act" not in text


def test_a_changed_layer_loses_its_outdated_duplicates(load, saved) -> None:
    duplicate = layer("conv", "Convolution", blob([9] * 6, 3, 2, 1, 1))
    net = with_bias(load(caffemodel=duplicate + CAFFEMODEL), np.float32([7, 8, 9]))
    assert [each.name for each in NetParameter.FromString(saved(net)[1]).layer] == ["data", "conv", "act", "loss"]


def test_a_new_layer_comes_after_the_layer_in_front_of_it(load, saved) -> None:
    net = load()
    scale = Layer("scale", "Scale", ["conv"], ["scale"], Blobs([np.float32([1, 2, 3])]), LayerParameter())
    layers = [*net.layers[:2], scale, net.layers[2]]
    text, caffemodel = saved(Net(net.name, layers, net.inputs, public=net.public, file=net.file, origin=net.origin))
    message = NetParameter.FromString(caffemodel)
    assert [each.name for each in message.layer] == ["data", "conv", "scale", "act", "loss"]
    assert (message.layer[2].type, list(message.layer[2].bottom), list(message.layer[2].top)) == (
        "Scale",
        ["conv"],
        ["scale"],
    )
    assert 'layer {\n    name: "scale"\n    type: "Scale"\n    bottom: "conv"\n    top: "scale"\n}\n' in text


def test_a_layer_of_another_type_is_written_anew(load, saved) -> None:
    param = LayerParameter()
    param.scale_param.bias_term = True
    net = changed(load(), "conv", type="Scale", blobs=Blobs([np.float32([1, 2]), np.float32([3, 4])]), param=param)
    text, caffemodel = saved(net)
    conv = NetParameter.FromString(caffemodel).layer[1]
    assert (conv.name, conv.type) == ("conv", "Scale")
    assert conv.scale_param.bias_term
    assert not conv.HasField("convolution_param")
    assert [list(each.data) for each in conv.blobs] == [[1, 2], [3, 4]]
    assert "scale_param {\n        bias_term: true\n    }" in text


def test_only_the_names_of_blobs_change_in_the_text_where_nothing_else_did(load, saved) -> None:
    net = load()
    net.rename("conv", "relu", public="relu")
    text, caffemodel = saved(net)
    message = NetParameter.FromString(caffemodel)
    assert list(message.layer[2].bottom) != list(message.layer[2].top) == ["relu"]
    assert 'top: "relu" # in place' in text
    assert "# with no bias." in text


def test_a_layer_of_an_unknown_type_keeps_its_text_when_a_blob_is_renamed(load, saved) -> None:
    odd = 'layer {\n  name: "odd" type: "Odd" bottom: "conv" top: "odd"\n  odd_param { depth: 3 # deep\n  }\n}\n'
    net = load(PROTOTXT + odd)
    net.rename("odd", "strange")
    for strip in (False, True):
        assert odd.replace('top: "odd"', 'top: "strange"') in saved(net, strip)[0]


def test_values_are_written_in_the_type_that_they_have(load, saved) -> None:
    lazy = blobs.Half(np.float16([1.5, 2.5, 3.5, 4.5, 5.5, 6.5]).reshape(3, 2, 1, 1))
    for stored in (np.arange(6, dtype=np.float64).reshape(3, 2, 1, 1), lazy):
        caffemodel = saved(changed(load(), "conv", blobs=Blobs([stored])))[1]
        written = NetParameter.FromString(caffemodel).layer[1].blobs[0]
        wanted = np.asarray(stored.array() if isinstance(stored, blobs.Half) else stored)
        assert list(written.double_data if wanted.dtype == np.float64 else written.data) == wanted.ravel().tolist()
        assert list(written.shape.dim) == [3, 2, 1, 1]


def test_an_array_that_is_no_plain_run_of_memory_is_written_in_its_order(load, saved) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3).T
    caffemodel = saved(changed(load(), "conv", blobs=Blobs([weight])))[1]
    assert list(NetParameter.FromString(caffemodel).layer[1].blobs[0].data) == weight.ravel().tolist()


def test_an_unchanged_blob_keeps_its_layout_beside_a_new_one(load, saved) -> None:
    half = number(10, 2) + length(12, halves(WEIGHT)) + shape(3, 2, 1, 1)
    net = with_bias(load(caffemodel=layer("conv", "Convolution", half)), np.float32([7, 8, 9]))
    conv = fields_of(fields_of(saved(net)[1])[0][1])
    assert [payload for field, payload in conv if field == 7] == [half, blob([7, 8, 9], 3)]


def test_a_parameter_that_the_record_has_in_two_pieces_is_patched_as_one(load, saved) -> None:
    pieces = length(106, number(1, 3)) + length(106, number(2, 0), number(4, 1))
    record = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=pieces)
    caffemodel = saved(with_bias(load(caffemodel=record), np.float32([7, 8, 9])))[1]
    conv = NetParameter.FromString(caffemodel).layer[0]
    assert (conv.convolution_param.num_output, conv.convolution_param.bias_term) == (3, True)


def test_a_damaged_parameter_of_a_layer_that_changed_is_an_error_and_writes_nothing(load, tmp_path: Path) -> None:
    record = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=length(106, b"\x08"))
    net = load(caffemodel=record)
    bnfold.save_caffe(net, tmp_path / "same.prototxt")
    with pytest.raises(ParseError, match=r"net\.caffemodel: is damaged: .* at byte"):
        bnfold.save_caffe(with_bias(net, np.float32([7, 8, 9])), tmp_path / "out.prototxt")
    assert not list(tmp_path.glob("out.*"))


def test_a_fields_real_number_is_written_and_not_that_of_the_union() -> None:
    # The union moved these out of the way of other dialects' fields.
    reorg = LayerParameter(name="r", reorg_param={"stride": 2})
    assert [field for field, _ in fields_of(reorg.SerializeToString())] == [1, 10147]
    assert [field for field, _ in fields_of(encode(reorg))] == [1, 147]
    relu = LayerParameter(convolution_param={"relu": True})
    assert fields_of(encode(relu)) == [(106, number(19, 1))]


# Versions


def test_version_1_and_0_come_out_as_version_2_with_the_bytes_of_their_blobs(load, saved) -> None:
    weight = blob(WEIGHT)[:] + number(1, 3) + number(2, 2) + number(3, 1) + number(4, 1) + length(6, floats([1]))
    loss = blob([7], 1)
    for conv, other in (
        (layer_v1("conv", 4, weight), layer_v1("loss", 21, loss)),
        (layer_v0("conv", "conv", weight), layer_v0("loss", "softmax_loss", loss)),
    ):
        caffemodel = saved(load(caffemodel=length(1, "two") + conv + other))[1]
        message = NetParameter.FromString(caffemodel)
        assert message.name == "two"
        assert not message.layers
        assert [(each.name, each.type) for each in message.layer] == [
            ("conv", "Convolution"),
            ("loss", "SoftmaxWithLoss"),
        ]
        assert message.layer[0].convolution_param.num_output == 3
        assert list(message.layer[0].bottom) == ["data"]
        assert length(7, weight) in caffemodel
        assert length(7, loss) in caffemodel


def test_a_v1_prototxt_comes_out_as_v2(load, saved) -> None:
    prototxt = """\
name: "old"
input: "data"
input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
         convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
"""
    text, caffemodel = saved(load(prototxt))
    assert "layers" not in text
    assert 'type: "Convolution"' in text
    assert "input_dim: 1 input_dim: 2" in text or "dim: 1" in text
    assert caffemodel == CAFFEMODEL


# Several files, none, other encodings


def test_weights_of_several_files_become_one(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    (tmp_path / "a.caffemodel").write_bytes(CAFFEMODEL)
    better = [2.0 * value for value in WEIGHT]
    (tmp_path / "b.caffemodel").write_bytes(length(1, "b") + layer("conv", "Convolution", blob(better, 3, 2, 1, 1)))
    net = bnfold.load(tmp_path / "net.prototxt", [tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"])
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    message = NetParameter.FromString((tmp_path / "out.caffemodel").read_bytes())
    assert message.name == "two"
    assert [each.name for each in message.layer] == ["data", "act", "loss", "conv"]
    assert list(message.layer[3].blobs[0].data) == better


def test_a_net_without_weights_is_a_prototxt_alone(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    net = bnfold.load(tmp_path / "net.prototxt")
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    assert (tmp_path / "out.prototxt").read_text() == PROTOTXT
    with pytest.raises(UsageError, match="there are none to write"):
        bnfold.save_caffe(net, tmp_path / "more.prototxt", tmp_path / "more.caffemodel")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "out.prototxt"]


def test_a_net_from_memory_is_written_whole(saved, tmp_path: Path) -> None:
    net = net_of(PROTOTXT)
    saved(net)
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert said(again) == said(net)


def test_an_input_that_no_layer_makes_gets_a_layer() -> None:
    relu = Layer("r", "ReLU", ["data"], ["r"], Blobs(), LayerParameter())
    text = prototxt_text(Net("n", [relu], {"data": (1, 2, 3)}))
    assert "input_param {\n    shape { dim: 1 dim: 2 dim: 3 }\n  }" in text
    assert text.index('"Input"') < text.index('"ReLU"')


def test_a_name_in_another_encoding_still_finds_its_weights(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes(PROTOTXT.replace('"conv"   #', '"caf\xe9"   #').encode("latin-1"))
    record = length(100, length(1, b"caf\xe9"), length(2, "Convolution"), length(7, blob(WEIGHT, 3, 2, 1, 1)))
    (tmp_path / "net.caffemodel").write_bytes(record)
    net = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    written = NetParameter.FromString((tmp_path / "out.caffemodel").read_bytes())
    assert f'"{written.layer[0].name}"' in (tmp_path / "out.prototxt").read_text()
    assert said(bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")) == said(net)


def test_hostile_names_are_written_so_that_they_read_back(tmp_path: Path, saved) -> None:
    names = ['a"b', "a\\b", "a\nb", "a\tb", "a\x01b", "é<script>", "../x", "#"]
    layers = [
        Layer(name, "ReLU", [before], [name], Blobs(), LayerParameter())
        for before, name in zip(["data", *names], names, strict=False)
    ]
    bnfold.save_caffe(Net("n", layers, {"data": (1, 2)}), tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt")
    assert [each.name for each in again.layers] == ["data", *names]
    assert [each.tops for each in again.layers[1:]] == [[name] for name in names]


def test_numbers_are_printed_so_that_they_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    slopes = [0.1, 1.0, -0.0, 1e-30, 3.4e38, float("inf"), *rng.normal(size=50).astype(np.float32).tolist()]
    layers = []
    for index, slope in enumerate(slopes):
        param = LayerParameter()
        param.relu_param.negative_slope = slope
        layers.append(Layer(f"r{index}", "ReLU", ["data"], [f"r{index}"], Blobs(), param))
    bnfold.save_caffe(Net("n", layers, {"data": (1, 2)}), tmp_path / "out.prototxt")
    text = (tmp_path / "out.prototxt").read_text()
    assert "negative_slope: 0.1\n" in text
    again = bnfold.load(tmp_path / "out.prototxt")
    assert [each.param.relu_param.negative_slope for each in again.layers[1:]] == [
        np.float32(slope) for slope in slopes
    ]


# Stripping


def test_strip_drops_what_only_training_needs_from_both_files(load, saved) -> None:
    specs = length(6, tag(3, 5) + floats([1])) + length(8, number(1, 1)) + number(10, 1)
    fillers = length(106, number(1, 3), number(4, 1), number(2, 0), length(7, length(1, "xavier")), length(999, "kept"))
    with_diff = blob(WEIGHT, 3, 2, 1, 1) + length(6, floats(WEIGHT)) + length(9, doubles([1]))
    record = layer("conv", "Convolution", with_diff, extra=specs + fillers)
    prototxt = PROTOTXT.replace("param { lr_mult", "include { phase: TEST } param { lr_mult")
    text, caffemodel = saved(load(prototxt, record + layer("loss", "SoftmaxWithLoss")), strip=True)
    conv = fields_of(fields_of(caffemodel)[0][1])
    assert [field for field, _ in conv] == [1, 2, 7, 106]
    assert conv[2][1] == blob(WEIGHT, 3, 2, 1, 1)
    assert [field for field, _ in fields_of(conv[3][1])] == [1, 4, 2, 999]
    assert len(fields_of(caffemodel)) == 1
    for word in ("lr_mult", "filler", "include", "xavier"):
        assert word not in text
    assert "# The convolution,\n# with no bias.\nlayer {" in text
    assert 'top: "conv" # in place' in text


def test_strip_keeps_the_names_of_shared_weights(load, saved) -> None:
    prototxt = PROTOTXT.replace("param { lr_mult: 1", 'param { name: "shared" lr_mult: 1')
    specs = length(6, length(1, "shared"), tag(3, 5) + floats([1])) + length(6, tag(3, 5) + floats([1]))
    record = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=specs)
    text, caffemodel = saved(load(prototxt, record), strip=True)
    assert 'param { name: "shared" }' in text
    assert [payload for field, payload in fields_of(fields_of(caffemodel)[0][1]) if field == 6] == [length(1, "shared")]


def test_strip_keeps_fillers_that_mean_something() -> None:
    dummy, norm, deconv = (
        LayerParameter(dummy_data_param={"data_filler": [{"value": 3}]}),
        LayerParameter(batch_norm_param={"scale_filler": {"value": 1}}),
        LayerParameter(convolution_param={"weight_filler": {"type": "bilinear"}}),
    )
    assert stripped(dummy) is dummy
    assert stripped(norm) is norm
    assert stripped(deconv, fillers=False) is deconv
    assert not stripped(deconv).convolution_param.HasField("weight_filler")


def test_a_stripped_net_loads_as_the_same_net_but_for_what_was_stripped(load, saved, tmp_path: Path) -> None:
    net = load()
    saved(net, strip=True)
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert [(each.name, each.type, each.bottoms, each.tops) for each in again.layers] == [
        (each.name, each.type, each.bottoms, each.tops) for each in net.layers
    ]
    assert [each.blobs[0].tolist() for each in again.layers if each.blobs] == [
        each.blobs[0].tolist() for each in net.layers if each.blobs
    ]


# Files


def test_writing_onto_the_input_is_refused_and_in_place_is_safe(load, tmp_path: Path) -> None:
    net = load()
    for path in ("net.prototxt", "net.caffemodel"):
        other = {"net.prototxt": "x.caffemodel", "net.caffemodel": "x.prototxt"}[path]
        pair = sorted([path, other], key=lambda name: name.endswith("caffemodel"))
        with pytest.raises(UsageError, match="is an input"):
            bnfold.save_caffe(net, *(tmp_path / name for name in pair))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]
    bnfold.save_caffe(with_bias(net, np.float32([7, 8, 9])), tmp_path / "net.prototxt", in_place=True)
    again = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert [array.tolist() for array in again.layers[1].blobs][1] == [7, 8, 9]
    assert net.layers[1].blobs[0].ravel().tolist() == WEIGHT  # the old map still shows the old file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_saving_tells_what_it_wrote(load, tmp_path: Path) -> None:
    written = bnfold.save_caffe(load(), tmp_path / "out.prototxt")
    assert written == [tmp_path / "out.prototxt", tmp_path / "out.caffemodel"]


def test_a_net_whose_replacement_was_killed_says_where_it_is(load, tmp_path: Path) -> None:
    load()
    (tmp_path / "net.prototxt").rename(tmp_path / "net.prototxt.bnfold-old")
    with pytest.raises(ParseError, match=r"a run was killed .*net\.prototxt\.bnfold-old"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt.bnfold-old").rename(tmp_path / "net.prototxt")
    (tmp_path / "net.caffemodel").rename(tmp_path / "net.caffemodel.bnfold-old")
    with pytest.raises(ParseError, match=r"a run was killed .*net\.caffemodel\.bnfold-old"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def test_the_same_net_gives_the_same_bytes(load, saved) -> None:
    net = with_bias(load(), np.float32([7, 8, 9]))
    assert saved(net) == saved(net)


# A reader that is not ours


def run_opencv(prototxt: Path, caffemodel: Path, inputs: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    net.enableFusion(False)
    net.enableWinograd(False)
    for name, value in inputs.items():
        net.setInput(value, name)
    return dict(zip(outputs, net.forward(outputs), strict=True))


def close(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return all(
        one[name].shape == other[name].shape
        and np.allclose(one[name], other[name], rtol=0, atol=2e-5 * max(1e-9, float(np.ptp(other[name]))))
        for name in other
    )


@pytest.mark.parametrize("strip", [False, True])
def test_opencv_computes_with_our_files_what_caffe_computed(tmp_path: Path, strip: bool) -> None:
    compared, wrong = 0, []
    for folder in cases():
        if folder.name in NOT_FOR_OPENCV:
            continue
        inputs, outputs = (dict(np.load(folder / f"{kind}.npz")) for kind in ("inputs", "outputs"))
        try:
            theirs = run_opencv(folder / "net.prototxt", folder / "net.caffemodel", inputs, list(outputs))
        except cv2.error:
            continue
        if not close(theirs, outputs):
            continue
        folded = bnfold.fold(load_case(folder)).net
        bnfold.save_caffe(folded, tmp_path / "out.prototxt", strip=strip)
        ours = run_opencv(tmp_path / "out.prototxt", tmp_path / "out.caffemodel", inputs, list(outputs))
        compared += 1
        if not close(ours, outputs):
            wrong.append(folder.name)
    assert not wrong
    assert compared > 60


# The file is refused on purpose: its scale factor of 0 has two meanings.
NOT_FOR_OPENCV = frozenset({"bn_scale_factor_zero"})


def test_our_reader_and_protobuf_agree_on_what_we_wrote(load, saved, tmp_path: Path) -> None:
    saved(with_bias(load(), np.float32([7, 8, 9])))
    file = read_weights(tmp_path / "out.caffemodel")
    message = NetParameter.FromString((tmp_path / "out.caffemodel").read_bytes())
    assert [record.name for record in file.records] == [each.name for each in message.layer]
    for record, each in zip(file.records, message.layer, strict=True):
        assert [array.ravel().tolist() for array in record.blobs] == [list(one.data) for one in each.blobs]
