"""Saving Caffe files in odd circumstances: several sources or none, strange names, stripped, in place, for OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import net as net_of
from saving import CAFFEMODEL, PROTOTXT, WEIGHT, Load, Save, fields_of, said, with_bias
from wire_encoder import blob, doubles, floats, layer, length, number, tag

import bnfold
from bnfold.caffe.blobs import DIFF, DOUBLE_DIFF
from bnfold.caffe.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter
from bnfold.caffe.strip import strip_blob, stripped
from bnfold.caffe.weights import read_weights
from bnfold.caffe.write import prototxt_text
from bnfold.errors import ParseError, UsageError
from bnfold.net import Blobs, Layer, Net

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


def test_a_net_from_memory_is_written_whole(saved: Save, tmp_path: Path) -> None:
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


def test_hostile_names_are_written_so_that_they_read_back(tmp_path: Path, saved: Save) -> None:
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


def test_strip_drops_what_only_training_needs_from_both_files(load: Load, saved: Save) -> None:
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


def test_strip_keeps_the_names_of_shared_weights(load: Load, saved: Save) -> None:
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


def test_a_phase_that_makes_a_layer_train_is_not_stripped() -> None:
    trains, infers = (LayerParameter(name="bn", type="BatchNorm", phase=phase) for phase in (TRAIN, TEST))
    assert stripped(trains) is trains
    assert not stripped(infers).HasField("phase")


def test_a_stripped_net_loads_as_the_same_net_but_for_what_was_stripped(
    load: Load, saved: Save, tmp_path: Path
) -> None:
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


def test_writing_onto_the_input_is_refused_and_in_place_is_safe(load: Load, tmp_path: Path) -> None:
    net = load()
    for path in ("net.prototxt", "net.caffemodel"):
        other = {"net.prototxt": "x.caffemodel", "net.caffemodel": "x.prototxt"}[path]
        pair = sorted([path, other], key=lambda name: name.endswith("caffemodel"))
        with pytest.raises(UsageError, match="is an input"):
            bnfold.save_caffe(net, *(tmp_path / name for name in pair))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]
    bnfold.save_caffe(with_bias(net, np.array([7, 8, 9], np.float32)), tmp_path / "net.prototxt", in_place=True)
    again = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert [array.tolist() for array in again.layers[1].blobs][1] == [7, 8, 9]
    assert net.layers[1].blobs[0].ravel().tolist() == WEIGHT  # the old map still shows the old file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.caffemodel", "net.prototxt"]


def test_saving_tells_what_it_wrote(load: Load, tmp_path: Path) -> None:
    written = bnfold.save_caffe(load(), tmp_path / "out.prototxt")
    assert written == [tmp_path / "out.prototxt", tmp_path / "out.caffemodel"]


def test_a_net_whose_replacement_was_killed_says_where_it_is(load: Load, tmp_path: Path) -> None:
    load()
    (tmp_path / "net.prototxt").rename(tmp_path / "net.prototxt.bnfold-old")
    with pytest.raises(ParseError, match=r"a run was killed .*net\.prototxt\.bnfold-old"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt.bnfold-old").rename(tmp_path / "net.prototxt")
    (tmp_path / "net.caffemodel").rename(tmp_path / "net.caffemodel.bnfold-old")
    with pytest.raises(ParseError, match=r"a run was killed .*net\.caffemodel\.bnfold-old"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def test_the_same_net_gives_the_same_bytes(load: Load, saved: Save) -> None:
    net = with_bias(load(), np.array([7, 8, 9], np.float32))
    assert saved(net) == saved(net)


def test_our_reader_and_protobuf_agree_on_what_we_wrote(load: Load, saved: Save, tmp_path: Path) -> None:
    saved(with_bias(load(), np.array([7, 8, 9], np.float32)))
    file = read_weights(tmp_path / "out.caffemodel")
    message = NetParameter.FromString((tmp_path / "out.caffemodel").read_bytes())
    assert [record.name for record in file.records] == [each.name for each in message.layer]
    for record, each in zip(file.records, message.layer, strict=True):
        assert [array.ravel().tolist() for array in record.blobs] == [list(one.data) for one in each.blobs]


def test_what_lies_between_gradients_stays_in_order() -> None:
    """A field of a blob in front of a gradient, one between two, and two neighbours behind them."""
    kept = [length(place, bytes([place]) * place) for place in (5, 7, 8, 14)]
    blob = kept[0] + length(DIFF, b"diff") + kept[1] + length(DOUBLE_DIFF, b"more") + kept[2] + kept[3]
    spans = strip_blob(blob, 0, len(blob))
    assert len(spans) == 3
    assert b"".join(blob[start:stop] for start, stop in spans) == b"".join(kept)
