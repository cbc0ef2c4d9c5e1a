"""Kinds of faults that other people's files showed, each by a small net of our own in tests/faults."""

from __future__ import annotations

import pytest
from cases import TESTS
from nets import net

import bnfold
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.write import prototxt_text
from bnfold.net import Net
from bnfold.onnx import to_onnx

FAULTS = TESTS / "faults"


def load(name: str, prototxt: str = "net.prototxt", **options: object) -> Net:
    """A case as it is read; more options as in `bnfold.load`."""
    return bnfold.load(FAULTS / name / prototxt, FAULTS / name / "net.caffemodel", **options)  # type: ignore[arg-type]


def layers(net: Net) -> list[str]:
    return [f"{layer.type} {layer.name}" for layer in net.layers]


# What is put out


def test_what_silence_swallowed_is_put_out_where_nothing_else_is() -> None:
    net = load("silence_eats_the_output")
    assert net.outputs == ["class8_ab"]
    assert "'Silence' (Silence) swallowed all that the net computes: 'class8_ab' became its output" in net.notes
    assert [output.name for output in to_onnx(bnfold.fold(net).net).graph.output] == ["class8_ab"]


def test_silence_beside_an_output_stays_silent() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 2 }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
        layer { name: "b" type: "TanH" bottom: "data" top: "b" }
        layer { name: "hush" type: "Silence" bottom: "b" }
    """
    quiet = build(parse_prototxt(text))
    assert quiet.outputs == ["a"]
    assert not quiet.notes
    assert "Silence hush" in layers(quiet)


def test_an_input_that_only_silence_reads_is_no_output() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 2 } input: "info" input_shape { dim: 1 dim: 3 }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
        layer { name: "hush" type: "Silence" bottom: "a" bottom: "info" }
    """
    assert build(parse_prototxt(text)).outputs[-1:] == ["a"]


# What a data layer did


def test_what_the_data_layer_did_is_said_and_stands_in_the_onnx() -> None:
    net = load("preprocessing_not_said")
    words = "crop 16x16; mean 104,117,123; scale 0.00390625"
    (note,) = [note for note in net.notes if "prepared" in note]
    assert note == (
        "input 'data': 'data' (Data) prepared its samples (crop 16x16, mean 104,117,123, scale 0.00390625), "
        "and the net does not"
    )
    model = to_onnx(bnfold.fold(net).net)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"preprocessing:data": words}


def test_a_crop_alone_changes_no_values_and_is_no_preparation_to_speak_of() -> None:
    text = """
        layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 4 scale: 1 } }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
    """
    assert not [note for note in build(parse_prototxt(text)).notes if "prepared" in note]


# What is written

IN_PLACE = 'layer {{ name: "{0}" type: "{1}" bottom: "data" top: "data" }}'


@pytest.mark.parametrize("readers", ["Scale", "BatchNorm"])
def test_an_input_that_is_overwritten_and_put_out_keeps_its_public_name(readers: str) -> None:
    """Folding moves what reads the input behind what overwrites it."""
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 4 dim: 4 }}
        layer {{ name: "first" type: "{readers}" bottom: "data" top: "b" }}
        {IN_PLACE.format("act", "TanH")}
        {IN_PLACE.format("then", "Scale")}
        layer {{ name: "second" type: "Scale" bottom: "b" top: "b" }}
        layer {{ name: "end" type: "TanH" bottom: "b" top: "end" }}
    """
    folded = bnfold.fold(net(text)).net
    again = build(parse_prototxt(prototxt_text(folded)))
    assert sorted(map(again.public_name, again.outputs)) == ["data", "end"]
    assert {layer.name: layer.bottoms for layer in again.layers} == {
        layer.name: layer.bottoms for layer in folded.layers
    }


# What need not be refused


def test_unknown_fields_of_data_layers_losses_fillers_and_rates_are_passed_over() -> None:
    read = load("unknown_field_in_data_layer")
    said = " ".join(read.notes)
    for field in ("my_fork_jitter", "my_fork_reader", "force_mult", "my_fork_seed", "my_fork_balance"):
        assert f"ignored unknown field '{field}'" in said
    assert not any(layer.opaque for layer in read.layers)
    assert layers(bnfold.fold(read).net) == ["Input data", "Convolution conv1", "Softmax loss"]
