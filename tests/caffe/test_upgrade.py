"""V0, V1 and legacy inputs become what Caffe makes of them at load."""

from __future__ import annotations

import pytest

from bnfold.caffe.caffe_pb2 import LayerParameter, ParamSpec
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.upgrade import notes_on_inputs, upgrade
from bnfold.errors import ModelError


def upgraded(text: str) -> list[LayerParameter]:
    return [layer.param for layer in upgrade(parse_prototxt(text))]


def parsed(text: str) -> list[LayerParameter]:
    return list(parse_prototxt(text).net.layer)


V0 = """
layers { layer { name: "data" type: "data" source: "db" meanfile: "m" batchsize: 64 scale: 0.5 cropsize: 227
  mirror: true } top: "data" top: "label" }
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers {
  layer {
    name: "conv1" type: "conv" num_output: 96 kernelsize: 11 stride: 4 group: 2 biasterm: false
    weight_filler { type: "gaussian" std: 0.01 } blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0.
  }
  bottom: "pad1" top: "conv1"
}
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 } bottom: "pool1" top: "norm1" }
layers { layer { name: "fc1" type: "innerproduct" num_output: 10 } bottom: "norm1" top: "fc1" }
layers { layer { name: "drop1" type: "dropout" dropout_ratio: 0.2 } bottom: "fc1" top: "fc1" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc1" bottom: "label" }
"""

V0_AS_V2 = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 64 }
  transform_param { mean_file: "m" scale: 0.5 crop_size: 227 mirror: true } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 96 kernel_size: 11 stride: 4 group: 2 bias_term: false pad: 2
    weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 } }
layer { name: "fc1" type: "InnerProduct" bottom: "norm1" top: "fc1" inner_product_param { num_output: 10 } }
layer { name: "drop1" type: "Dropout" bottom: "fc1" top: "fc1" dropout_param { dropout_ratio: 0.2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc1" bottom: "label" }
"""


def test_v0_becomes_v2_and_its_padding_layers_go_into_their_readers() -> None:
    assert upgraded(V0) == parsed(V0_AS_V2)


def test_v1_becomes_v2_with_its_rates_shares_and_rules() -> None:
    old = """
        layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 3
          param: "w" param: "b" blob_share_mode: STRICT blob_share_mode: PERMISSIVE
          strict_dim: false
          include { phase: TEST stage: "s" } convolution_param { num_output: 4 kernel_size: 3 } loss_weight: 0.5 }
        layers { name: "r" type: RELU bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }
        layers { name: "i" type: IM2COL } layers { name: "e" type: EUCLIDEAN_LOSS } layers { name: "m" type: MVN }
    """
    new = """
        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
          param { lr_mult: 1 decay_mult: 3 name: "w" share_mode: STRICT }
          param { lr_mult: 2 name: "b" share_mode: PERMISSIVE }
          include { phase: TEST stage: "s" } convolution_param { num_output: 4 kernel_size: 3 } loss_weight: 0.5 }
        layer { name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }
        layer { name: "i" type: "Im2col" } layer { name: "e" type: "EuclideanLoss" } layer { name: "m" type: "MVN" }
    """
    assert upgraded(old) == parsed(new)


@pytest.mark.parametrize(
    ("word", "layer_type"),
    [
        ("RELU6", "ReLU6"),
        ("PRIORBOX", "PriorBox"),
        ("CLIP", "Clip"),
        ("BN", "BN"),
        ("BATCH_NORM", "BatchNorm"),
        ("SMOOTH_L1_LOSS", "SmoothL1Loss"),
        ("MY_OWN", "MyOwn"),
        ("IMAGE_SEG_DATA", "ImageSegData"),
        ("SEG_ACCURACY", "SegAccuracy"),
        ("DENSE_CRF", "DenseCRF"),
        ("UNPOOLING", "Unpooling"),
        ('"Convolution"', "Convolution"),
    ],
)
def test_v1_words_of_forks_are_known(word: str, layer_type: str) -> None:
    assert upgraded(f'layers {{ name: "x" type: {word} }}')[0].type == layer_type
    if '"' not in word:
        assert upgraded(f'layers {{ layer {{ name: "x" type: "{word.lower()}" }} }}')[0].type in (
            layer_type,
            word.lower(),
        )


def test_v1_layers_of_forks_may_have_parameters_of_v2() -> None:
    old = """
        layers { name: "b" type: BN bottom: "x" top: "b" bn_param { slope_filler { type: "constant" } eps: 0.1 }
          blobs_lr: 1 }
        layers { name: "c" type: CONVOLUTION bottom: "b" top: "c" convolution_param { num_output: 3 } }
    """
    new = """
        layer { name: "b" type: "BN" bottom: "x" top: "b" param { lr_mult: 1 }
          bn_param { slope_filler { type: "constant" } eps: 0.1 } }
        layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 3 } }
    """
    assert upgraded(old) == parsed(new)


def test_the_transform_of_an_old_data_layer_moves() -> None:
    old = 'layers { name: "d" type: DATA data_param { source: "s" crop_size: 9 mirror: true scale: 2 mean_file: "m" } }'
    new = """layer { name: "d" type: "Data" data_param { source: "s" }
        transform_param { crop_size: 9 mirror: true scale: 2 mean_file: "m" } }"""
    assert upgraded(old) == parsed(new)


@pytest.mark.parametrize(
    "sizes",
    [
        "input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 input_dim: 6 input_dim: 7 input_dim: 8",
        "input_shape { dim: [1, 2, 3, 4] } input_shape { dim: [5, 6, 7, 8] }",
    ],
)
def test_input_fields_become_an_input_layer_in_front(sizes: str) -> None:
    layers = upgraded(f'input: "a" input: "b" {sizes} layer {{ name: "x" type: "ReLU" }}')
    assert (
        layers[0]
        == parsed(
            'layer { name: "input" type: "Input" top: "a" top: "b" '
            "input_param { shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } } }"
        )[0]
    )
    assert layers[1].name == "x"


@pytest.mark.parametrize("layer", ['layers { name: "p" type: POOLING3D }', 'layer { name: "p" type: "Pooling3D" }'])
def test_an_input_of_a_net_with_frames_has_five_sizes(layer: str) -> None:
    ((one, two), _) = (
        [tuple(shape.dim) for shape in found.input_param.shape]
        for found in upgraded(f'input: "a" input: "b" input_dim: [1, 3, 8, 9, 9, 1, 2, 4, 5, 6] {layer}')
    )
    assert (one, two) == ((1, 3, 8, 9, 9), (1, 2, 4, 5, 6))


@pytest.mark.parametrize(
    ("given", "shape", "words"),
    [
        ([1, 3, 4, 5, 2, 6, 7, 8], (1, 3, 4, 5), []),
        ([1, 3, 4, 5, 6], (1, 3, 4, 5, 6), ["the 5 `input_dim`s are read as the shape of 'a'; Caffe takes 4"]),
        ([1, 9], (1, 9), ["the 2 `input_dim`s are read as the shape of 'a'; Caffe takes 4"]),
    ],
)
def test_one_input_takes_four_sizes_or_all_with_a_note(
    given: list[int], shape: tuple[int, ...], words: list[str]
) -> None:
    document = parse_prototxt(f'input: "a" input_dim: {given} layer {{ name: "x" type: "ReLU" }}')
    layers = upgrade(document)
    (found,) = layers[0].param.input_param.shape
    assert tuple(found.dim) == shape
    assert [note.split(", so")[0] for note in notes_on_inputs(document.net, layers)] == words


def test_an_input_field_that_an_input_layer_repeats_is_passed_over() -> None:
    text = 'input: "data" layer { name: "in" type: "Input" top: "data" } layer { name: "x" type: "ReLU" }'
    assert [layer.name for layer in upgraded(text)] == ["in", "x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('input: "a" input: "b" input_dim: 1 layer {}', "2 `input`s and 1 `input_dim`s, not 4 for each"),
        ('input: "a" input: "b" input_dim: [1, 9] layer { type: "ReLU" }', "written as `input_shape { dim: ... }`"),
        ('input: "a" input_shape {} input_shape {} layer {}', "1 `input`s and 2 `input_shape`s; write one for each"),
        ('layers { name: "x" }', "layer 'x' (V1) without a type, which no Caffe takes; write it"),
        ('layers { name: "x" type: NONE }', "layer 'x' (V1) without a type, which no Caffe takes; write it"),
        ('layers { layer { name: "x" } }', "layer 'x' (V1) without a type, which no Caffe takes; write it"),
        ('layers { layer { name: "x" type: "relu" num_output: 3 } }', "has 'num_output', which this type has no place"),
        (
            'layers { layer { name: "p" type: "padding" } bottom: "a" top: "p" } '
            'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
            "layer 'r' (V0 type 'relu'): reads the padding layer 'p', but cannot pad",
        ),
        ('layers { layer { name: "p" type: "padding" } }', "a padding layer has one bottom and one top"),
        ('layer { name: "x" type: "ReLU" blobs { data: 1 } }', "layer 'x' (ReLU): has weights in the text"),
        ('layers { name: "x" type: RELU blobs { data: 1 } }', "layer 'x' (ReLU): has weights in the text"),
        ('layers { layer { name: "x" type: "relu" blobs { data: 1 } } }', "layer 'x' (ReLU): has weights in the text"),
        (
            'layers { name: "x" type: RELU resize_nearest_param {} }',
            "'resize_nearest_param' of V1 has no place in a V2",
        ),
    ],
)
def test_what_has_no_upgrade_is_refused(text: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        upgraded(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("word", ["data", "images", "hdf5_data", "window_data"])
def test_what_a_data_layer_of_v0_has_no_place_for_is_passed_over_as_in_caffe(word: str) -> None:
    flat = f'name: "d" type: "{word}" batchsize: 3 cropsize: 5 stride: 2 alpha: 0.5'
    (layer,) = upgraded(f'layers {{ layer {{ {flat} }} top: "data" top: "label" }}')
    assert (layer.name, list(layer.top), layer.transform_param.crop_size) == ("d", ["data", "label"], 5)


def test_the_frozen_rates_of_a_batch_norm_go_and_its_text_stays() -> None:
    frozen = 'layer { name: "b" type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } }'
    (layer,) = upgrade(parse_prototxt(frozen))
    assert list(layer.param.param) == []
    assert layer.text == frozen


def test_other_rates_of_a_batch_norm_stay() -> None:
    text = 'layer { name: "b" type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 0 } }'
    assert list(upgraded(text)[0].param) == [ParamSpec(lr_mult=0)] * 2
