from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnfold.algebra.frontend import FoldContext
from bnfold.caffe.batchnorm import read_batchnorm
from bnfold.caffe.frontend import CAFFE
from bnfold.caffe.placeholder import with_placeholder_weights
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.upgrade import upgrade
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Net

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 8 dim: 8 } } }\n'


def net_of(text: str) -> Net:
    """A net without weights, whose text is in single assignment already."""
    params = [upgraded.param for upgraded in upgrade(parse_prototxt(INPUT + text))]
    layers = [Layer(p.name, p.type, list(p.bottom), list(p.top), Blobs(), p) for p in params]
    return Net("test", layers, {"data": (2, 6, 8, 8)})


def filled(text: str) -> list[Layer]:
    return with_placeholder_weights(net_of(text)).layers[1:]


def one(layer_type: str, rest: str = "") -> Layer:
    (layer,) = filled(f'layer {{ name: "it" type: "{layer_type}" bottom: "data" top: "it" {rest} }}')
    return layer


def test_a_weight_of_a_large_layer_takes_no_memory() -> None:
    layer = one("InnerProduct", "inner_product_param { num_output: 100000 }")
    assert layer.blobs.shapes == ((100000, 384), (100000,))
    assert layer.blobs[0].strides == (0, 0)
    assert layer.blobs[0].flat[0] != 0


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_a_convolution_gets_what_its_parameters_promise(layer_type: str) -> None:
    layer = one(layer_type, "convolution_param { num_output: 4 kernel_size: 3 group: 2 bias_term: false }")
    assert layer.blobs.shapes == (((4, 3, 3, 3) if layer_type == "Convolution" else (6, 2, 3, 3)),)


def test_a_scale_has_factors_of_both_signs_and_no_shift_is_zero() -> None:
    gamma, beta = one("Scale", "scale_param { bias_term: true }").blobs
    assert gamma.min() < 0 < gamma.max()
    assert beta.all()
    assert len(np.unique(gamma)) == len(np.unique(beta)) == 6


def test_an_eltwise_affine_has_factors_of_both_signs() -> None:
    slope, bias = one("EltwiseAffine").blobs
    assert slope.min() < 0 < slope.max()
    assert bias.all()


def test_a_scale_of_one_number_is_negative() -> None:
    (gamma,) = one("Scale", "scale_param { num_axes: 0 }").blobs
    assert gamma.shape == ()
    assert gamma < 0


def test_a_bias_shifts_every_channel() -> None:
    (shift,) = one("Bias").blobs
    assert shift.shape == (6,)
    assert shift.all()


def test_the_slopes_of_a_prelu_are_positive() -> None:
    (slope,) = one("PReLU").blobs
    assert slope.shape == (6,)
    assert (slope > 0).all()


@pytest.mark.parametrize(
    ("layer_type", "fields", "layout", "blobs"),
    [
        ("BatchNorm", "", "bvlc", 3),
        ("BatchNorm", "batch_norm_param { scale_bias: true }", "nvcaffe", 5),
        ("BatchNorm", "batch_norm_param { scale_filler { value: 1 } bias_filler { value: 0 } }", "nvcaffe", 5),
        ("BatchNorm", "batch_norm_param { bias_filler { value: 0 } }", "intel", 5),
        ("BatchNorm", "batch_norm_param { use_weight_bias: true }", "intel", 5),
        ("BatchNorm", "batch_norm_param { use_weight_bias: true bias_term: false }", "intel", 4),
        ("BatchNorm", "batch_norm_param { use_weight_bias: false }", "intel", 3),
        ("BatchNorm", "param {} param {} param {} param {}", "nvcaffe015", 4),
        ("BatchNorm", "param {} param {} param {} param {} batch_norm_param { scale_filler {} }", "nvcaffe015", 4),
        ("CuDNNBatchNorm", "", "bvlc", 3),
        ("BN", "", "ducha", 4),
        ("BN", "bn_param { frozen: true }", "pspnet", 4),
        ("BN", "bn_param { var_eps: 0.1 }", "ducha", 4),
        ("CuDNNBatchNorm", "cudnn_batch_norm_param { eps: 0.1 }", "cudnn", 4),
        ("BN", "bn_param { bn_mode: INFERENCE }", "segnet", 2),
        ("SyncBN", "", "pspnet", 4),
        ("BN", "bn_param { scale_filler { value: 1 } }", "segnet", 2),
    ],
)
def test_a_batchnorm_of_every_dialect_can_be_read(layer_type: str, fields: str, layout: str, blobs: int) -> None:
    layer = one(layer_type, fields)
    assert len(layer.blobs) == blobs
    statistics = read_batchnorm(layer)
    assert statistics.layout == layout
    assert statistics.factor in (None, 1)
    if layout != "segnet":
        assert np.asarray(affine_of(layer).shift).all()


def test_the_layout_that_the_user_asks_for_wins() -> None:
    net = net_of('layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }')
    net.batchnorm_layout = "nvcaffe015"
    (layer,) = with_placeholder_weights(net).layers[1:]
    assert len(layer.blobs) == 4
    assert read_batchnorm(layer, "nvcaffe015").gamma is not None


def affine_of(layer: Layer) -> Any:
    context = FoldContext(Net("test", [layer], {}), {layer.bottoms[0]: (2, 6, 8, 8)}, assume_global_stats=True)
    return CAFFE.operator(layer, context)


def test_a_batchnorm_that_learned_no_gamma_keeps_order() -> None:
    affine = affine_of(one("BatchNorm"))
    assert affine.keeps_order
    assert not affine.keeps_zero


def test_two_layers_learned_different_things_unless_they_share_them() -> None:
    text = """
        layer { name: "a" type: "Scale" bottom: "data" top: "a" }
        layer { name: "b" type: "Scale" bottom: "data" top: "b" }
        layer { name: "c" type: "Scale" bottom: "data" top: "c" param { name: "gamma" } }
        layer { name: "d" type: "Scale" bottom: "data" top: "d" param { name: "gamma" } }
    """
    a, b, c, d = (layer.blobs[0] for layer in filled(text))
    assert not np.array_equal(a, b)
    assert np.array_equal(c, d)


def test_the_same_net_gets_the_same_weights_in_every_run() -> None:
    assert np.array_equal(one("Scale").blobs[0], one("Scale").blobs[0])
    assert one("Scale").blobs[0][:2].tolist() == [-1.359375, 1.9375]


def test_what_nobody_can_know_stays_without_blobs() -> None:
    text = """
        layer { name: "odd" type: "Oddity" bottom: "data" bottom: "data" top: "odd" }
        layer { name: "bn" type: "BatchNorm" bottom: "odd" top: "bn" }
    """
    assert [len(layer.blobs) for layer in filled(text)] == [0, 0]


def test_an_unknown_type_with_one_bottom_is_taken_for_a_dropout_so_that_what_stands_behind_it_can_be_planned() -> None:
    text = """
        layer { name: "odd" type: "Python" bottom: "data" top: "odd" }
        layer { name: "bn" type: "BatchNorm" bottom: "odd" top: "bn" }
    """
    assert [layer.blobs.shapes for layer in filled(text)] == [(), ((6,), (6,), (1,))]


def test_a_convolution_behind_what_nobody_knows_reads_as_little_as_it_can() -> None:
    text = """
        layer { name: "odd" type: "Oddity" bottom: "data" bottom: "data" top: "odd" }
        layer { name: "conv" type: "Convolution" bottom: "odd" top: "conv"
                convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
    """
    assert [layer.blobs.shapes for layer in filled(text)][1:] == [((4, 1, 3, 3), (4,)), ((4,), (4,), (1,))]


def test_blobs_that_are_there_stay_and_the_net_is_not_changed() -> None:
    net = net_of('layer { name: "s" type: "Scale" bottom: "data" top: "s" }')
    assert len(net.layers[1].blobs) == 0
    loaded = with_placeholder_weights(net)
    assert len(net.layers[1].blobs) == 0
    again = with_placeholder_weights(loaded)
    assert again.layers[1].blobs.stored[0] is loaded.layers[1].blobs.stored[0]


def test_a_guess_that_does_not_fit_leaves_a_layer_without_stand_ins_and_refuses_no_net() -> None:
    unheard = 'layer { name: "u" type: "Unheard" bottom: "data" top: "u" }'
    depthwise = (
        'layer { name: "d" type: "ConvolutionDepthwise" bottom: "BOTTOM" top: "d" '
        "convolution_param { num_output: 8 kernel_size: 3 group: 8 } }"
    )
    # What the unheard one makes is guessed to have 6 channels as its bottom has.
    assert [len(layer.blobs) for layer in filled(unheard + depthwise.replace("BOTTOM", "u"))] == [0, 0]
    with pytest.raises(ModelError, match="group 6 does not divide 6 input"):
        filled(unheard + depthwise.replace("BOTTOM", "data"))
