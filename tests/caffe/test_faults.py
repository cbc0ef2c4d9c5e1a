"""Kinds of faults that other people's files showed, each by a small net of our own in tests/faults."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from cases import TESTS, TOLERANCE, Case, assert_answers, by_onnxruntime, distance
from command_line import NET, TEXT, Run
from nets import net
from wire_encoder import blob
from wire_encoder import layer as layer_record
from wire_encoder import shape as dimensions

import bnfold
from bnfold.caffe.caffe_pb2 import FillerParameter, NetParameter
from bnfold.caffe.fillers import _values as filler_values
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.write import prototxt_text
from bnfold.errors import ModelError, UnsupportedError, UsageError, WeightsError
from bnfold.net import Net, Shape
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
    assert "'Silence' (Silence) discards all that the net computes: 'class8_ab' became its output" in net.notes
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


def test_labels_that_stay_an_input_were_not_prepared() -> None:
    text = """
        layer { name: "d" type: "ImageData" top: "data" top: "label" transform_param { crop_size: 4 scale: 0.5 } }
        layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 2 } }
        layer { name: "m" type: "Margin" bottom: "f" bottom: "label" top: "m" }
    """
    net = build(parse_prototxt(text))
    assert list(net.inputs) == ["data", "label"]
    assert net.preparation == {"data": "crop 4x4; scale 0.5"}
    assert [note.split(":")[0] for note in net.notes if "prepared" in note] == ["input 'data'"]


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


ELTWISE = """layer { name: "join" type: "Eltwise" bottom: "data" bottom: "copy" top: "data"
    eltwise_param { operation: %s } }"""


@pytest.mark.parametrize(
    ("writers", "output"),
    [
        (ELTWISE % "MAX", "data"),
        # In place Caffe's sum is of what it has set to 0, and an input alone is called what it is.
        (ELTWISE % "SUM", "data@join"),
        (IN_PLACE.format("act", "TanH"), "data"),
    ],
)
def test_a_split_stays_where_its_readers_would_keep_an_input_from_being_overwritten(writers: str, output: str) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 4 dim: 4 }}
        {IN_PLACE.format("first", "Sigmoid") if "Eltwise" not in writers else ""}
        layer {{ name: "split" type: "Split" bottom: "data" top: "copy" }}
        {writers}
        layer {{ name: "end" type: "Sigmoid" bottom: "copy" top: "end" }}
    """
    folded = bnfold.fold(net(text)).net
    again = build(parse_prototxt(prototxt_text(folded)))
    assert sorted(map(again.public_name, again.outputs)) == [output, "end"]


# What need not be refused


def test_unknown_fields_of_data_layers_losses_fillers_and_rates_are_passed_over() -> None:
    read = load("unknown_field_in_data_layer")
    said = " ".join(read.notes)
    for field in ("my_fork_jitter", "my_fork_reader", "force_mult", "my_fork_seed", "my_fork_balance"):
        assert f"ignored unknown field '{field}'" in said
    assert not any(layer.opaque for layer in read.layers)
    assert layers(bnfold.fold(read).net) == ["Input data", "Convolution conv1", "Softmax loss"]


def test_a_metric_whose_label_nobody_makes_goes() -> None:
    read = load("metric_without_label")
    assert read.outputs == ["prob"]
    assert "layer 'accuracy' (Accuracy) reads 'label', which no layer makes: labels" in read.notes


def test_a_loss_whose_label_nobody_makes_still_gives_its_prediction() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 2 }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" }
    """
    assert layers(build(parse_prototxt(text)))[1:] == ["Softmax loss"]


def test_a_prediction_that_nobody_makes_is_still_an_error() -> None:
    text = 'input: "data" input_shape { dim: 1 } layer { name: "a" type: "Accuracy" bottom: "x" bottom: "data" }'
    with pytest.raises(ModelError, match="reads 'x', which no layer makes"):
        build(parse_prototxt(text))


def test_a_data_layer_of_training_stands_for_the_input_that_is_overwritten_in_place() -> None:
    case = Case(FAULTS / "train_data_in_place")
    read = case.load()
    assert layers(read)[0] == "Input data"
    for candidate in (read, bnfold.fold(read).net):
        assert_answers(by_onnxruntime(candidate, case.inputs), case.answers, TOLERANCE)


def test_a_python_layer_with_a_loss_weight_is_a_loss() -> None:
    read = load("python_loss")
    assert layers(read) == ["Input d", "Convolution conv1", "InnerProduct ip1"]
    assert read.inputs == {"data": (1, 3, 12, 12)}


@pytest.mark.parametrize(
    ("said", "goes"),
    [('layer: "SmoothLossLayer"', True), ('layer: "Loss"', True), ('layer: "LosslessLayer"', False)],
)
def test_a_python_layer_called_a_loss_is_one(said: str, goes: bool) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 2 }} input: "label" input_shape {{ dim: 1 }}
        layer {{ name: "a" type: "ReLU" bottom: "data" top: "a" }}
        layer {{ name: "l" type: "Python" bottom: "a" bottom: "label" top: "l" python_param {{ {said} }} }}
    """
    assert ("Python l" not in layers(build(parse_prototxt(text)))) is goes


def test_an_inner_product_of_2014_meets_a_blob_of_four_axes() -> None:
    read = load("v1_eltwise_of_2014")
    inputs = {name: np.random.default_rng(1).normal(size=shape).astype("f") for name, shape in read.inputs.items()}
    ours = by_onnxruntime(bnfold.fold(read).net, inputs)["fq"]
    weight, bias = next(layer.blobs for layer in read.layers if layer.name == "ip")
    product = inputs["frames"].reshape(4, -1) @ weight.T + bias
    np.testing.assert_allclose(ours, product.reshape(4, 6, 1, 1) * inputs["filter"], rtol=1e-4, atol=1e-4)
    again = build(parse_prototxt(prototxt_text(read)))
    assert layers(again) == layers(read)


def test_bottoms_of_other_shapes_still_do_not_fit_in_v2() -> None:
    text = (FAULTS / "v1_eltwise_of_2014" / "net.prototxt").read_text()
    words = {"MEMORY_DATA": '"MemoryData"', "SILENCE": '"Silence"', "INNER_PRODUCT": '"InnerProduct"'}
    for old, new in (words | {"ELTWISE": '"Eltwise"', "layers": "layer"}).items():
        text = text.replace(old, new)
    with pytest.raises(ModelError, match="must have the same shape"):
        infer_shapes(build(parse_prototxt(text)))


# Fillers


def test_constant_and_bilinear_fillers_are_the_values_where_nothing_is_stored(tmp_path: Path) -> None:
    read = load("constant_filler_without_weights")
    assert (
        "no weights are stored for 'temperature' (Scale), 'up' (Deconvolution): the values of the fillers, as in Caffe"
    ) in read.notes
    blobs = {layer.name: layer.blobs for layer in read.layers}
    np.testing.assert_array_equal(blobs["temperature"][0], np.full(4, 2.606, "f"))
    ramp = np.array([0.25, 0.75, 0.75, 0.25], "f")
    np.testing.assert_array_equal(blobs["up"][0], np.broadcast_to(np.outer(ramp, ramp), (4, 1, 4, 4)))
    bnfold.save_caffe(read, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert not [note for note in again.notes if "filler" in note]
    np.testing.assert_array_equal(again.layers[-1].blobs[0], blobs["up"][0])


def test_a_bilinear_filler_of_an_odd_kernel_is_caffes() -> None:
    values = filler_values(FillerParameter(type="bilinear"), (1, 1, 3, 3))
    assert values is not None
    # f = 2, c = 0.75 by the lines of filler.hpp
    expected = [[(1 - abs(x / 2 - 0.75)) * (1 - abs(y / 2 - 0.75)) for x in range(3)] for y in range(3)]
    np.testing.assert_allclose(values[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "param",
    [
        'convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } }',
        "convolution_param { num_output: 2 kernel_size: 1 }",
        'convolution_param { num_output: 2 kernel_size: 1 weight_filler { } bias_filler { type: "gaussian" } }',
    ],
)
def test_random_fillers_and_none_are_no_values(param: str, tmp_path: Path) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }}
        layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" {param} }}
        layer {{ name: "x" type: "ReLU" bottom: "c" top: "x" }}
    """
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("x", "ReLU"))
    with pytest.raises(WeightsError, match="has no weights there"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def lacking(text: str, tmp_path: Path) -> str:
    """What is said of a network whose caffemodel has another layer alone."""
    image = 'input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }'
    (tmp_path / "net.prototxt").write_text(f'{image} {text} layer {{ name: "x" type: "ReLU" bottom: "b" top: "x" }}')
    (tmp_path / "net.caffemodel").write_bytes(layer_record("x", "ReLU"))
    with pytest.raises(WeightsError) as caught:
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    return str(caught.value).splitlines()[1].strip()


@pytest.mark.parametrize(
    ("layer_type", "param"),
    [
        ("BatchNorm", "batch_norm_param { use_weight_bias: true }"),
        ("BatchNorm", "batch_norm_param { scale_bias: true }"),
        ("BN", "bn_param { bn_mode: INFERENCE }"),
        ("BN", ""),
    ],
)
def test_normalisations_of_forks_need_their_weights_too(layer_type: str, param: str, tmp_path: Path) -> None:
    text = f'layer {{ name: "b" type: "{layer_type}" bottom: "data" top: "b" {param} }}'
    assert lacking(text, tmp_path) == f"layer 'b' ({layer_type}): has no weights there, and learns some"


@pytest.mark.parametrize("layer_type", ["BatchNorm", "BN", "Convolution", "InnerProduct", "Scale", "PReLU", "Bias"])
def test_what_learns_needs_its_weights_behind_a_layer_of_unknown_type(layer_type: str, tmp_path: Path) -> None:
    text = f"""
        layer {{ name: "m" type: "Mystery" bottom: "data" top: "m" }}
        layer {{ name: "b" type: "{layer_type}" bottom: "m" top: "b" }}
    """
    if layer_type == "Convolution":
        text = text.replace('top: "b"', 'top: "b" convolution_param { num_output: 2 kernel_size: 1 }')
    said = lacking(text, tmp_path)
    assert said == f"layer 'b' ({layer_type}): has no weights there, and learns some"


CONVOLUTION, INNER = "convolution_param { num_output: 3 kernel_size: 1", "inner_product_param { num_output: 3"


@pytest.mark.parametrize(
    ("layer_type", "param", "shapes", "needed"),
    [
        ("Convolution", CONVOLUTION, [(3, 4, 1, 1), (5,)], "3x4x1x1 and 3"),
        ("Convolution", CONVOLUTION, [(5, 4, 1, 1), (5,)], "3x4x1x1 and 3"),
        ("Convolution", CONVOLUTION, [(3, 4, 2, 2), (3,)], "3x4x1x1 and 3"),
        ("Convolution", CONVOLUTION, [(3, 4, 1, 1)], "3x4x1x1 and 3"),
        ("Convolution", f"{CONVOLUTION} bias_term: false", [(3, 4, 1, 1), (3,)], "3x4x1x1"),
        ("Convolution", f"{CONVOLUTION} axis: 2", [(3, 4, 1, 1), (1,)], "3x4x1x1 and 3"),
        ("Deconvolution", CONVOLUTION, [(4, 5, 1, 1), (3,)], "4x3x1x1 and 3"),
        ("InnerProduct", INNER, [(5, 4), (5,)], "3x4 and 3"),
        ("InnerProduct", INNER, [(1, 1, 3, 4), (1, 1, 1, 5)], "3x4 and 3"),
        ("InnerProduct", f"{INNER} transpose: true axis: -1", [(4, 5), (3,)], "4x3 and 3"),
        ("Convolution", CONVOLUTION, [(3, 4), (3, 4)], "3x4 and 3"),
        ("Deconvolution", CONVOLUTION, [(12,), (3,)], "a weight of two axes at least"),
        ("InnerProduct", INNER, [(12,), (3,)], "a weight of two axes at least"),
        ("Scale", "scale_param { bias_term: true", [(4,), (5,)], "4 and 4"),
        ("Scale", "scale_param { bias_term: true", [(4,), (1,)], "4 and 4"),
        ("Scale", "scale_param { axis: 2", [(4,), (4,)], "4"),
        ("Scale", "scale_param { num_axes: 2 bias_term: true", [(4, 5), (4,)], "4x5 and 4x5"),
        ("Scale", "scale_param { num_axes: 2 bias_term: true", [(20,), (4, 5)], "20 and 20"),
        ("Scale", "scale_param { axis: -1 bias_term: true", [(4,), (5,)], "4 and 4"),
    ],
)
def test_weights_are_held_to_the_parameters_behind_a_layer_of_unknown_type(
    layer_type: str, param: str, shapes: list[tuple[int, ...]], needed: str, tmp_path: Path
) -> None:
    (tmp_path / "net.prototxt").write_text(f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }}
        layer {{ name: "m" type: "Mystery" bottom: "data" top: "m" }}
        layer {{ name: "b" type: "{layer_type}" bottom: "m" top: "b" {param} }} }}
        layer {{ name: "n" type: "BatchNorm" bottom: "b" top: "n" }}
    """)
    stored = [blob([1.0] * int(np.prod(shape)), *shape) for shape in shapes]
    statistics = [blob([1.0] * 3, 3), blob([1.0] * 3, 3), blob([1.0], 1)]
    (tmp_path / "net.caffemodel").write_bytes(
        layer_record("b", layer_type, *stored) + layer_record("n", "BatchNorm", *statistics)
    )
    with pytest.raises(WeightsError, match=rf"layer 'b' \({layer_type}\): has .*, and needs {needed}(; with .*)?$"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def test_a_weight_whose_channels_no_group_divides_is_refused_behind_a_layer_of_unknown_type(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text("""
        input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
        layer { name: "m" type: "Mystery" bottom: "data" top: "m" }
        layer { name: "b" type: "Deconvolution" bottom: "m" top: "b"
            convolution_param { num_output: 2 kernel_size: 2 group: 2 bias_term: false } }
    """)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("b", "Deconvolution", blob([1.0] * 12, 3, 1, 2, 2)))
    with pytest.raises(WeightsError, match=r"group 2 does not divide 3 input .* by its stored weight of 3x1x2x2"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


@pytest.mark.parametrize(
    ("layer_type", "param", "shapes"),
    [
        ("Convolution", f"{CONVOLUTION} group: 3", [(3, 2, 1, 1), (1, 1, 1, 3)]),
        ("Convolution", f"{CONVOLUTION} axis: 2", [(3, 4, 1, 1), (3,)]),
        ("Convolution", f"{CONVOLUTION} axis: -3", [(3, 4, 1, 1), (3,)]),
        ("Convolution", CONVOLUTION, [(3, 4, 1, 1, 1), (3,)]),
        ("Deconvolution", f"{CONVOLUTION} group: 3 bias_term: false", [(6, 1, 1, 1)]),
        ("InnerProduct", INNER, [(1, 1, 3, 4), (1, 1, 1, 3)]),
        ("InnerProduct", INNER, [(3, 4, 1, 1), (3,)]),
        ("InnerProduct", f"{INNER} axis: 2 transpose: true bias_term: false", [(4, 3)]),
        ("InnerProduct", f"{INNER} axis: -2", [(3, 8), (3,)]),
        ("Scale", "scale_param { bias_term: true", [(1, 3, 1, 1), (3,)]),
        ("Scale", "scale_param { axis: 3 num_axes: 2", [(3, 1)]),
        ("Scale", "scale_param { axis: -1", [(3,)]),
        ("Scale", "scale_param { num_axes: -1", [(3, 2, 2)]),
        ("Scale", "scale_param { num_axes: 0", [()]),
    ],
)
def test_weights_that_keep_what_parameters_promise_are_taken_behind_one(
    layer_type: str, param: str, shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    (tmp_path / "net.prototxt").write_text(f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }}
        layer {{ name: "m" type: "Mystery" bottom: "data" top: "m" }}
        layer {{ name: "b" type: "{layer_type}" bottom: "m" top: "b" {param} }} }}
    """)
    sizes = [int(np.prod(shape)) for shape in shapes]
    stored = [blob(list(range(size)), *shape) for size, shape in zip(sizes, shapes, strict=True)]
    (tmp_path / "net.caffemodel").write_bytes(layer_record("b", layer_type, *stored))
    net = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert [values.ravel().tolist() for values in net["b"].blobs] == [list(range(size)) for size in sizes]


@pytest.mark.parametrize("layer_type", ["BatchNorm", "Normalize", "PReLU"])
def test_a_layer_that_is_not_understood_may_learn_nothing(layer_type: str, tmp_path: Path) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }}
        layer {{ name: "b" type: "{layer_type}" bottom: "data" top: "b" mystery_param {{ statistics: "none" }} }}
        layer {{ name: "x" type: "ReLU" bottom: "b" top: "x" }}
    """
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("x", "ReLU"))
    layer = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")["b"]
    assert "mystery_param" in layer.opaque
    assert not len(layer.blobs)


@pytest.mark.parametrize(
    ("layer_type", "param"),
    [
        ("LayerNorm", "layer_norm_param { elementwise_affine: false }"),
        ("Normalize", 'normalize_param { normalize_type: "L2" }'),
        ("Normalize", ""),
    ],
)
@pytest.mark.parametrize("bottom", ["data", "m"])
def test_what_need_not_learn_needs_no_weights(layer_type: str, param: str, bottom: str, tmp_path: Path) -> None:
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 2 dim: 2 }}
        layer {{ name: "m" type: "Mystery" bottom: "data" top: "m" }}
        layer {{ name: "b" type: "{layer_type}" bottom: "{bottom}" top: "b" {param} }}
        layer {{ name: "x" type: "ReLU" bottom: "b" top: "x" }}
    """
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("x", "ReLU"))
    layer = bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")["b"]
    assert not layer.opaque
    assert not len(layer.blobs)


def test_the_normalize_of_ssd_needs_its_weights(tmp_path: Path) -> None:
    text = 'layer { name: "b" type: "Normalize" bottom: "data" top: "b" norm_param { channel_shared: false } }'
    assert lacking(text, tmp_path) == "layer 'b' (Normalize): has no weights there, and needs 3"


def test_a_filler_may_give_what_is_learned_behind_a_layer_of_unknown_type(tmp_path: Path) -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
        layer { name: "m" type: "Mystery" bottom: "data" top: "m" }
        layer { name: "b" type: "Scale" bottom: "m" top: "b" scale_param { filler { value: 2 } } }
        layer { name: "x" type: "ReLU" bottom: "b" top: "x" }
    """
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("x", "ReLU"))
    assert not bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel").layers[1].blobs


@pytest.mark.parametrize(
    ("said", "kept"),
    [((), ()), ((1, 3), (1, 3)), ((1, 3, 1), (1, 3, 1)), ((1, 1, 1, 3), (3,)), ((1, 3, 1, 2), (1, 3, 1, 2))],
)
def test_only_a_shape_of_four_axes_loses_its_ones_behind_a_layer_of_unknown_type(
    said: Shape, kept: Shape, tmp_path: Path
) -> None:
    """Files of old Caffes say four axes of each blob; in newer ones (1, 3) lies along two of them."""
    text = """
        input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
        layer { name: "m" type: "Mystery" bottom: "data" top: "m" }
        layer { name: "b" type: "Scale" bottom: "m" top: "b" scale_param { num_axes: 2 } }
    """
    (tmp_path / "net.prototxt").write_text(text)
    stored = blob(range(1, 1 + prod(said))) + dimensions(*said)
    (tmp_path / "net.caffemodel").write_bytes(layer_record("b", "Scale", stored))
    assert bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")["b"].blobs.shapes == (kept,)


# Names


def test_what_is_stored_goes_to_the_first_layer_of_a_name_and_fillers_to_the_others() -> None:
    case = Case(FAULTS / "duplicate_layer_names")
    read = case.load()
    assert layers(read)[1:3] == ["Convolution conv", "Convolution conv#2"]
    for candidate in (read, bnfold.fold(read).net):
        assert_answers(by_onnxruntime(candidate, case.inputs), case.answers, TOLERANCE)


def test_a_layer_without_weights_says_that_its_name_is_there_twice(tmp_path: Path) -> None:
    text = (FAULTS / "duplicate_layer_names" / "net.prototxt").read_text().replace("constant", "xavier")
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(WeightsError, match=r"layer 'conv#2' .* no weights there \(two layers are called 'conv'"):
        bnfold.load(tmp_path / "net.prototxt", FAULTS / "duplicate_layer_names" / "net.caffemodel")


@pytest.mark.parametrize(
    "name", ["dup_name_record_kept", "dup_name_unreadable", "dup_name_wrong_weights", "duplicate_layer_names"]
)
def test_files_of_a_net_with_names_twice_are_read_back_as_they_were_meant(name: str, tmp_path: Path) -> None:
    read = load(name)
    inputs = {blob: np.random.default_rng(1).normal(size=shape).astype("f") for blob, shape in read.inputs.items()}
    truth = by_onnxruntime(read, inputs)
    for written in (read, bnfold.fold(read).net):
        bnfold.save_caffe(written, tmp_path / "out.prototxt")
        again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
        assert not [note for note in again.notes if "more than one" in note]
        assert_answers(by_onnxruntime(again, inputs), truth, TOLERANCE)


def test_a_blob_without_a_name_gets_one() -> None:
    read = load("empty_blob_name")
    assert "layer '' (Concat) writes a blob without a name, which is called 'Concat' here" in read.notes
    folded = bnfold.fold(read).net
    model = to_onnx(folded)
    onnx.checker.check_model(model, full_check=True)
    assert all(all(node.output) for node in model.graph.node)
    assert "" not in [top for layer in build(parse_prototxt(prototxt_text(folded))).layers for top in layer.tops]


# --until

CUT = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
    layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "odd" type: "Oracle" bottom: "c" top: "odd" }
    layer { name: "side" type: "ReLU" bottom: "data" top: "side" }
"""


@pytest.mark.parametrize(
    ("until", "left", "outputs"),
    [
        (["c"], ["Convolution c", "BatchNorm bn", "ReLU relu"], ["c"]),
        (["c@bn"], ["Convolution c", "BatchNorm bn"], ["c@bn"]),
        (["side", "c"], ["Convolution c", "BatchNorm bn", "ReLU relu", "ReLU side"], ["side", "c"]),
    ],
)
def test_a_net_ends_in_the_blobs_that_are_asked_for(until: list[str], left: list[str], outputs: list[str]) -> None:
    cut = build(parse_prototxt(CUT), until=until)
    assert layers(cut)[1:] == left
    assert cut.outputs == outputs
    assert any(note.startswith("the net ends in ") for note in cut.notes)


def test_an_unknown_end_is_answered_with_a_guess() -> None:
    with pytest.raises(
        UsageError, match=r"--until sid: the network has no blob of that name \(did you mean 'side'\?\)"
    ):
        build(parse_prototxt(CUT), until=["sid"])
    with pytest.raises(UsageError, match=r"--until data: that is an input \(there are "):
        build(parse_prototxt(CUT), until=["data"])


def test_a_layer_that_onnx_has_no_form_for_is_named_with_the_end_in_front_of_it() -> None:
    with pytest.raises(UnsupportedError, match="--until c ends the network in front of them"):
        to_onnx(net(CUT))


def test_the_end_in_front_of_a_layer_that_works_in_place_is_a_version_of_its_blob() -> None:
    text = CUT.replace('bottom: "c" top: "odd"', 'bottom: "c" top: "c"')
    with pytest.raises(UnsupportedError, match="--until c@relu ends the network in front of them"):
        to_onnx(net(text))
    assert build(parse_prototxt(text), until=["c@relu"]).outputs == ["c@relu"]


def test_what_is_cut_is_written_read_back_and_proved(run: Run) -> None:
    Path("net.prototxt").write_text(TEXT)
    outcome = run("fold", *NET, "-o", "out.prototxt", "-o", "out.onnx", "--until", "res2a")
    assert outcome.code == 0, outcome
    assert bnfold.load("out.prototxt", "out.caffemodel").outputs == ["res2a"]
    assert set(NetParameter.FromString(Path("out.caffemodel").read_bytes()).layer[-1].top) == {"res2a"}


# Shapes that nothing states


@pytest.mark.parametrize(
    ("name", "prototxt", "caffemodel", "shapes"),
    [
        ("guessed_shape_error", "lenet_train_val", "lenet_train_val", {"data": (1, 1, 28, 28)}),
        ("guessed_shape_error", "rfcn_stage", "rfcn_stage", {"data": (1, 3, 224, 224), "rois": (1, 5)}),
        ("inspect_guessed_shape", "train_val", "net", {"data": (1, 3, 16, 16)}),
        ("train_val_no_size", "net", "net", {"data": (1, 1, 28, 28)}),
    ],
)
def test_the_weights_tell_channels_and_size_and_the_readers_the_kind(
    name: str, prototxt: str, caffemodel: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    paths = FAULTS / name / f"{prototxt}.prototxt", FAULTS / name / f"{caffemodel}.caffemodel"
    read = bnfold.load(*paths, guess_shapes=True)
    assert read.inputs == shapes
    assert any("the weights fit this one" in note for note in read.notes) is (shapes["data"][-1] != 224)
    with pytest.raises(ModelError) as caught:
        bnfold.load(*paths)
    for name, shape in shapes.items():
        assert f"--input-shape {name}={','.join(map(str, shape))}" in str(caught.value)


def test_a_guess_that_the_weights_do_not_fit_is_called_one(tmp_path: Path) -> None:
    # 5 x 7 planes: no square one fits
    text = """
        layer { name: "d" type: "Data" top: "data" data_param { source: "x" } }
        layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 2 } }
    """
    flat = 'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }'
    (tmp_path / "net.prototxt").write_text(text.replace('layer { name: "ip"', flat + 'layer { name: "ip"'))
    (tmp_path / "net.caffemodel").write_bytes(
        layer_record("ip", "InnerProduct", blob([1.0] * 210, 2, 105), blob([1.0] * 2, 2))
    )
    with pytest.raises(WeightsError, match=r"guessed, since nothing says it: --input-shape data=1,3,224,224; give"):
        bnfold.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", guess_shapes=True)


def test_a_shape_that_was_asked_for_is_named_where_the_weights_do_not_fit_it(tmp_path: Path) -> None:
    made = net(
        """input: "data" input_shape { dim: 1 dim: 2 dim: 6 dim: 6 }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 3 kernel_size: 2 } }"""
    )
    bnfold.save_caffe(made, tmp_path / "net.prototxt")
    files = (tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    with pytest.raises(WeightsError) as caught:
        bnfold.load(*files, input_shapes={"data": (1, 2, 6)})
    assert "layer 'conv' (Convolution): has 3x2x2x2 and 3, and needs 3x2x2 and 3" in str(caught.value)
    assert "; --input-shape data=1,2,6 was asked for" in str(caught.value)


# Layers of few Caffes


def test_a_continuation_indicator_is_a_parameter_of_zeros_then_ones(tmp_path: Path) -> None:
    read = load("continuation_indicator")
    indicator = next(layer for layer in read.layers if layer.name == "indicator")
    assert indicator.type == "Parameter"
    np.testing.assert_array_equal(indicator.blobs[0], [[0], [1], [1], [1], [1]])
    data = {"data": np.random.default_rng(1).normal(size=(5, 1, 6)).astype("f")}
    before = by_onnxruntime(read, data)
    bnfold.save_caffe(read, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert_answers(by_onnxruntime(again, data), before, TOLERANCE)
    # The state goes on from step to step: each step alone gives another answer.
    alone = by_onnxruntime(read, {"data": np.roll(data["data"], 1, axis=0)})
    assert distance(alone["fc1"][1:], before["fc1"][:-1]) > 0.01


@pytest.mark.parametrize("prototxt", ["net.prototxt", "net_v1.prototxt"])
def test_c3ds_layers_are_convolution_and_pooling_on_three_axes(prototxt: str) -> None:
    path = FAULTS / "c3d_convolution3d" / prototxt
    read = load("c3d_convolution3d") if prototxt == "net.prototxt" else bnfold.load(path)
    shapes = infer_shapes(read)
    batch = read.inputs["data"][0]
    assert shapes[next(layer.tops[0] for layer in read.layers if layer.name == "pool1")] == (batch, 4, 8, 8, 8)
    if prototxt == "net_v1.prototxt":
        return
    folded = bnfold.fold(read).net
    assert [layer.type for layer in folded.layers] == ["Input", "Convolution3D", "ReLU", "Pooling3D", "InnerProduct"]
    data = {"data": np.random.default_rng(1).normal(size=read.inputs["data"]).astype("f")}
    assert_answers(by_onnxruntime(folded, data), by_onnxruntime(read, data), TOLERANCE)


def test_a_batch_norm_folds_into_c3ds_deconvolution_of_a_v1_file(tmp_path: Path) -> None:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        """input: "data" input_dim: 1 input_dim: 3 input_dim: 2 input_dim: 5 input_dim: 4
        layers { name: "d" type: DECONVOLUTION3D bottom: "data" top: "d" convolution_param {
          num_output: 4 kernel_size: 4 kernel_depth: 3 pad: 1 temporal_pad: 1 stride: 2 temporal_stride: 2 } }
        layers { name: "bn" type: BN bottom: "d" top: "bn" bn_param { bn_mode: INFERENCE } }"""
    )
    read = bnfold.load(prototxt)
    rng = np.random.default_rng(2)
    deconvolution, bn = read.layers[-2:]
    deconvolution.blobs = bnfold.Blobs([rng.normal(size=(3, 4, 3, 4, 4)).astype("f"), rng.normal(size=4).astype("f")])
    bn.blobs = bnfold.Blobs([np.array([1.5, -0.5, 2, -3], "f"), rng.normal(size=4).astype("f")])
    folded = bnfold.fold(read).net
    assert [layer.type for layer in folded.layers] == ["Input", "Deconvolution3D"]
    bnfold.save_caffe(folded, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert again.layers[-1].type == "Deconvolution"
    data = {"data": rng.normal(size=(1, 3, 2, 5, 4)).astype("f")}
    before = by_onnxruntime(read, data)
    assert before["bn"].shape == (1, 4, 3, 10, 8)
    assert_answers({"bn": by_onnxruntime(again, data)["bn"]}, before, TOLERANCE)


def test_the_shapes_of_video_caffe_are_sizes_and_a_side_of_one_may_be_left_out(tmp_path: Path) -> None:
    """`compute_output_shape` of the one source that is known leaves axes of size 1 out."""
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        """input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 6 dim: 6 }
        layer { name: "c" type: "NdConvolution" bottom: "data" top: "c" convolution_param { num_output: 4
          kernel_shape { dim: 3 dim: 3 dim: 3 } stride_shape { dim: 1 dim: 1 dim: 1 }
          pad_shape { dim: 1 dim: 1 dim: 1 } bias_term: false } }
        layer { name: "bn" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
        layer { name: "p" type: "NdPooling" bottom: "c" top: "p" pooling_param { pool: AVE
          kernel_shape { dim: 1 dim: 2 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 2 } } }
        layer { name: "q" type: "NdPooling" bottom: "p" top: "q" pooling_param {
          kernel_shape { dim: 4 dim: 3 dim: 3 } } }"""
    )
    read = bnfold.load(prototxt)
    rng = np.random.default_rng(4)
    weight, factors = rng.normal(size=(4, 3, 3, 3, 3)).astype("f"), rng.normal(size=(2, 4)).astype("f")
    read.layers[1].blobs, read.layers[2].blobs = bnfold.Blobs([weight]), bnfold.Blobs(factors)
    folded = bnfold.fold(read).net
    assert [layer.type for layer in folded.layers] == ["Input", "NdConvolution", "NdPooling", "NdPooling"]
    with pytest.raises(UnsupportedError, match=r"'q' \(NdPooling\): its Caffe may leave axes of size 1 out"):
        bnfold.save_onnx(folded, tmp_path / "out.onnx")
    bnfold.save_caffe(folded, tmp_path / "out.prototxt")
    again = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel", until=["p"])
    assert [layer.type for layer in again.layers] == ["Input", "Convolution", "NdPooling"]
    x = rng.normal(size=(1, 3, 4, 6, 6)).astype("f")
    wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3, 3), (2, 3, 4))
    convolved = np.einsum("ncdhwijk,ocijk->nodhw", windows, weight)
    scale, shift = (factor.reshape(4, 1, 1, 1) for factor in factors)
    pooled = (convolved * scale + shift).reshape(1, 4, 4, 3, 2, 3, 2).mean((4, 6))
    assert_answers(by_onnxruntime(again, {"data": x}), {"p": pooled}, TOLERANCE)


def test_what_only_prepares_labels_that_nobody_makes_goes_too() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 4 }
        layer { name: "cut" type: "Slice" bottom: "labels" top: "one" top: "two" }
        layer { name: "flat" type: "Flatten" bottom: "one" top: "flat" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "flat" top: "loss" }
        layer { name: "acc" type: "Accuracy" bottom: "data" bottom: "two" top: "acc" }
    """
    read = build(parse_prototxt(text))
    assert layers(read)[1:] == ["Softmax loss"]
    assert "layer 'cut' (Slice) was left out: it prepares labels that no layer makes" in read.notes


@pytest.mark.parametrize("name", ["AccuracyLayer", "MeanIoUMetric", "Evaluator"])
def test_a_python_layer_called_a_metric_is_one(name: str) -> None:
    text = f"""
        layer {{ name: "d" type: "Data" top: "data" top: "label" transform_param {{ crop_size: 4 }} }}
        layer {{ name: "a" type: "ReLU" bottom: "data" top: "a" }}
        layer {{ name: "m" type: "Python" bottom: "a" bottom: "label" top: "m" python_param {{ layer: "{name}" }} }}
    """
    assert layers(build(parse_prototxt(text))) == ["Input d", "ReLU a"]


def test_the_filler_of_a_parameter_is_its_value_where_nothing_is_stored(tmp_path: Path) -> None:
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(
        """input: "x" input_shape { dim: 1 dim: 2 }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {
          num_output: 1 bias_term: false } }
        layer { name: "p" type: "Parameter" top: "p" parameter_param {
          shape { dim: 1 dim: 1 } blob_filler { type: "constant" value: 0.75 } } }
        layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "p" top: "sum" }"""
    )
    stored = NetParameter()
    blob = stored.layer.add(name="fc", type="InnerProduct").blobs.add(data=[2, -3])
    blob.shape.dim.extend([1, 2])
    caffemodel.write_bytes(stored.SerializeToString())
    read = bnfold.load(prototxt, caffemodel)
    assert "no weights are stored for 'p' (Parameter): the values of the fillers, as in Caffe" in read.notes
    assert by_onnxruntime(read, {"x": np.array([[5, 1]], "f")})["sum"] == 7.75
