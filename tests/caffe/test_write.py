"""Saving Caffe files: what did not change keeps its bytes and its text, what changed is what other readers see."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from saving import (
    CAFFEMODEL,
    CONV,
    PROTOTXT,
    WEIGHT,
    ZOO,
    Load,
    Save,
    cases,
    changed,
    fields_of,
    load_case,
    said,
    with_bias,
)
from wire_encoder import blob, floats, halves, layer, layer_v0, layer_v1, length, number, shape, tag

import bnfold
from bnfold.caffe import blobs
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.caffe.patch import encode
from bnfold.errors import ParseError
from bnfold.net import Blobs, Layer, Net

LAYER = NetParameter.LAYER_FIELD_NUMBER

# Nothing changed


def test_a_net_that_did_not_change_comes_out_as_it_was(load: Load, saved: Save) -> None:
    assert saved(load()) == (PROTOTXT, CAFFEMODEL)


def test_duplicates_and_everything_else_in_the_file_stay_too(load: Load, saved: Save) -> None:
    caffemodel = layer("conv", "Convolution", blob([9] * 6, 3, 2, 1, 1)) + CAFFEMODEL + tag(9, 3) + tag(9, 4)
    assert saved(load(caffemodel=caffemodel))[1] == caffemodel


@pytest.mark.parametrize("folder", cases(), ids=lambda folder: folder.name)
def test_every_golden_survives_loading_and_saving(folder: Path, saved: Save, tmp_path: Path) -> None:
    net = load_case(folder)
    caffemodel = saved(net, dialect="keep")[1]
    if net.origin and net.origin.weights[0].version == 2:
        stored = (folder / "net.caffemodel").read_bytes()
        if made_plain := _made_plain(net):
            assert _changed_layers(stored, caffemodel) == made_plain
        else:
            assert caffemodel == stored
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert said(again) == said(net)
    assert not _made_plain(again)


def _made_plain(net: Net) -> list[str]:
    """The layers that are read, and so written, as plain ones with other weights (`bnfold.caffe.plain`)."""
    sentence = r"layer '(.+)' \(\w+\): (?:read as the \w+ that it is at inference|its weights are normalised once), .*"
    return [found[1] for note in net.notes if (found := re.fullmatch(sentence, note))]


def _changed_layers(before: bytes, after: bytes) -> list[str]:
    """The names of the layers that differ, where nothing else does."""
    pairs = [pair for pair in zip(fields_of(before), fields_of(after), strict=True) if pair[0] != pair[1]]
    assert all(number == LAYER for pair in pairs for number, _ in pair)
    layers = [tuple(LayerParameter.FromString(field) for _, field in pair) for pair in pairs]
    assert all(old.name == new.name for old, new in layers)
    return [new.name for _, new in layers]


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared is not here")
def test_every_net_of_the_zoo_survives_loading_and_saving(saved: Save, tmp_path: Path) -> None:
    folders = sorted(path.parent for path in ZOO.glob("*/*/net.caffemodel"))
    assert len(folders) > 30
    for folder in folders:
        net = load_case(folder)
        caffemodel = saved(net, dialect="keep")[1]
        if net.origin and net.origin.weights[0].version == 2:
            assert caffemodel == (folder / "net.caffemodel").read_bytes(), folder
        assert said(bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")) == said(net), folder


# Something changed


def test_a_layer_that_changed_is_patched_and_keeps_fields_that_nobody_knows(load: Load, saved: Save) -> None:
    text, caffemodel = saved(with_bias(load(), np.array([7, 8, 9], np.float32)))
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


def test_a_layer_that_went_is_dropped_and_training_layers_stay(load: Load, saved: Save) -> None:
    net = load()
    net.remove(net.layers[2])
    text, caffemodel = saved(net)
    assert [each.name for each in NetParameter.FromString(caffemodel).layer] == ["data", "conv", "loss"]
    assert "act" not in text


def test_a_changed_layer_loses_its_outdated_duplicates(load: Load, saved: Save) -> None:
    duplicate = layer("conv", "Convolution", blob([9] * 6, 3, 2, 1, 1))
    net = with_bias(load(caffemodel=duplicate + CAFFEMODEL), np.array([7, 8, 9], np.float32))
    assert [each.name for each in NetParameter.FromString(saved(net)[1]).layer] == ["data", "conv", "act", "loss"]


def test_a_new_layer_comes_after_the_layer_in_front_of_it(load: Load, saved: Save) -> None:
    net = load()
    scale = Layer("scale", "Scale", ["conv"], ["scale"], Blobs([np.array([1, 2, 3], np.float32)]), LayerParameter())
    layers = [*net.layers, scale]
    text, caffemodel = saved(Net(net.name, layers, net.inputs, public=net.public, file=net.file, origin=net.origin))
    message = NetParameter.FromString(caffemodel)
    assert [each.name for each in message.layer] == ["data", "conv", "act", "scale", "loss"]
    assert (message.layer[3].type, list(message.layer[3].bottom), list(message.layer[3].top)) == (
        "Scale",
        ["conv"],
        ["scale"],
    )
    assert 'layer {\n    name: "scale"\n    type: "Scale"\n    bottom: "conv"\n    top: "scale"\n}\n' in text


def test_a_layer_of_another_type_is_written_anew(load: Load, saved: Save) -> None:
    param = LayerParameter()
    param.scale_param.bias_term = True
    net = changed(load(), "conv", type="Scale", blobs=Blobs(list(np.array([[1, 2], [3, 4]], np.float32))), param=param)
    text, caffemodel = saved(net)
    conv = NetParameter.FromString(caffemodel).layer[1]
    assert (conv.name, conv.type) == ("conv", "Scale")
    assert conv.scale_param.bias_term
    assert not conv.HasField("convolution_param")
    assert [list(each.data) for each in conv.blobs] == [[1, 2], [3, 4]]
    assert "scale_param {\n        bias_term: true\n    }" in text


def test_only_the_names_of_blobs_change_in_the_text_where_nothing_else_did(load: Load, saved: Save) -> None:
    net = load()
    net.rename("conv", "relu", public="relu")
    text, caffemodel = saved(net)
    message = NetParameter.FromString(caffemodel)
    assert list(message.layer[2].bottom) != list(message.layer[2].top) == ["relu"]
    assert 'top: "relu" # in place' in text
    assert "# with no bias." in text


def test_a_layer_of_an_unknown_type_keeps_its_text_when_a_blob_is_renamed(load: Load, saved: Save) -> None:
    odd = 'layer {\n  name: "odd" type: "Odd" bottom: "conv" top: "odd"\n  odd_param { depth: 3 # deep\n  }\n}\n'
    net = load(PROTOTXT + odd)
    net.rename("odd", "strange")
    for strip in (False, True):
        assert odd.replace('top: "odd"', 'top: "strange"') in saved(net, strip)[0]


def test_values_are_written_in_the_type_that_they_have(load: Load, saved: Save) -> None:
    lazy = blobs.Half(np.array([1.5, 2.5, 3.5, 4.5, 5.5, 6.5], np.float16).reshape(3, 2, 1, 1))
    for stored in (np.arange(6, dtype=np.float64).reshape(3, 2, 1, 1), lazy):
        caffemodel = saved(changed(load(), "conv", blobs=Blobs([stored])))[1]
        written = NetParameter.FromString(caffemodel).layer[1].blobs[0]
        wanted = np.asarray(stored.array() if isinstance(stored, blobs.Half) else stored)
        assert list(written.double_data if wanted.dtype == np.float64 else written.data) == wanted.ravel().tolist()
        assert list(written.shape.dim) == [3, 2, 1, 1]


def test_an_array_that_is_no_plain_run_of_memory_is_written_in_its_order(load: Load, saved: Save) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3).T
    caffemodel = saved(changed(load(), "conv", blobs=Blobs([weight])))[1]
    assert list(NetParameter.FromString(caffemodel).layer[1].blobs[0].data) == weight.ravel().tolist()


def test_an_unchanged_blob_keeps_its_layout_beside_a_new_one(load: Load, saved: Save) -> None:
    half = number(10, 2) + length(12, halves(WEIGHT)) + shape(3, 2, 1, 1)
    net = with_bias(load(caffemodel=layer("conv", "Convolution", half)), np.array([7, 8, 9], np.float32))
    conv = fields_of(fields_of(saved(net)[1])[0][1])
    assert [payload for field, payload in conv if field == 7] == [half, blob([7, 8, 9], 3)]


def test_a_parameter_that_the_record_has_in_two_pieces_is_patched_as_one(load: Load, saved: Save) -> None:
    pieces = length(106, number(1, 3)) + length(106, number(2, 0), number(4, 1))
    record = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=pieces)
    caffemodel = saved(with_bias(load(caffemodel=record), np.array([7, 8, 9], np.float32)))[1]
    conv = NetParameter.FromString(caffemodel).layer[0]
    assert (conv.convolution_param.num_output, conv.convolution_param.bias_term) == (3, True)


def test_a_damaged_parameter_of_a_layer_that_changed_is_an_error_and_writes_nothing(load: Load, tmp_path: Path) -> None:
    record = layer("conv", "Convolution", blob(WEIGHT, 3, 2, 1, 1), extra=length(106, b"\x08"))
    net = load(caffemodel=record)
    bnfold.save_caffe(net, tmp_path / "same.prototxt")
    with pytest.raises(ParseError, match=r"net\.caffemodel: is damaged: .* at byte \d+; copy it again$"):
        bnfold.save_caffe(with_bias(net, np.array([7, 8, 9], np.float32)), tmp_path / "out.prototxt")
    assert not list(tmp_path.glob("out.*"))


def test_a_fields_real_number_is_written_and_not_that_of_the_union() -> None:
    # The union moved these out of the way of other dialects' fields.
    interp = LayerParameter(name="i", interp_param={"height": 2})
    assert [field for field, _ in fields_of(interp.SerializeToString())] == [1, 10143]
    assert [field for field, _ in fields_of(encode(interp))] == [1, 143]
    relu = LayerParameter(convolution_param={"relu": True})
    assert fields_of(encode(relu)) == [(106, number(19, 1))]


# Versions


def test_version_1_and_0_come_out_as_version_2_with_the_bytes_of_their_blobs(load: Load, saved: Save) -> None:
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


def test_a_v1_prototxt_comes_out_as_v2(load: Load, saved: Save) -> None:
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
    assert re.findall(r"dim: (\d)", text) == ["1", "2", "4", "4"]
    assert caffemodel == CAFFEMODEL
