"""Layers that pick whole samples: BatchReindex by number, Filter by a value that is not 0."""

from __future__ import annotations

import nets
import numpy as np
import pytest
import reference
from cases import by_onnxruntime, distance
from single_layer import by_oracle, exported, layer_net, noise

from bnfold.algebra import fold
from bnfold.caffe.layers import infer_shapes
from bnfold.errors import ModelError
from bnfold.net import Array, Net, Shape

PICKING = """
input: "data" input_shape { dim: 4 dim: 3 dim: 6 dim: 6 }
input: "which" input_shape { dim: 4 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "picked" type: "%s" bottom: "conv" bottom: "which" top: "picked" }
layer { name: "bn" type: "BatchNorm" bottom: "picked" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "fc" type: "InnerProduct" bottom: "bn" top: "fc" inner_product_param { num_output: 2 } }
"""
WHICH = {"BatchReindex": [3.0, 0.0, 0.0, 1.0], "Filter": [-0.5, 0.0, 2.0, 0.0]}


def written(net: Net) -> dict[str, list[Array]]:
    return {layer.name: [np.asarray(blob) for blob in layer.blobs] for layer in net.layers}


@pytest.mark.parametrize("selector", [(4,), (4, 1), (4, 1, 1, 1)])
@pytest.mark.parametrize("picks", [[0, 1, 0, -2], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, np.nan]])
def test_a_filter_gives_the_samples_that_its_last_bottom_picks(selector: Shape, picks: list[float]) -> None:
    shapes = [(4, 3, 2), (4, 5), selector]
    net = layer_net('type: "Filter"', shapes, tops=2)
    inputs = [*noise(shapes[:2]), np.array(picks, np.float32).reshape(selector)]
    assert [infer_shapes(net)[top] for top in ("y0", "y1")] == [(-1, 3, 2), (-1, 5)]
    for one, other in zip(exported(net, inputs), by_oracle('type: "Filter"', net, inputs, 2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("selector", "tops", "sentence"),
    [
        ((4, 2), 1, "its selector has shape 4x2, but must have one value for each sample"),
        ((), 1, "its selector has no axes"),
        ((3,), 1, "bottoms of 4 and 3 must have the same shape"),
        ((4,), 2, "2 tops for 1 bottom to filter"),
    ],
)
def test_a_filter_whose_bottoms_do_not_fit_is_refused(selector: Shape, tops: int, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        layer_net('type: "Filter"', [(4, 3), selector], tops=tops)


@pytest.mark.parametrize("layer_type", sorted(WHICH))
def test_what_stands_behind_picked_samples_folds_in_front(layer_type: str) -> None:
    text = PICKING % layer_type
    net = nets.net(text)
    folded = fold(net).net
    assert [layer.type for layer in folded.layers[1:]] == ["Convolution", layer_type, "ReLU", "InnerProduct"]
    inputs = {"data": noise([(4, 3, 6, 6)])[0], "which": np.array(WHICH[layer_type], np.float32)}
    wanted = reference.load(text, weights=written(net)).run(inputs)["fc"]
    for one in (net, folded):
        assert distance(by_onnxruntime(one, inputs)["fc"], wanted) <= 1e-5


@pytest.mark.parametrize("layer_type", sorted(WHICH))
def test_what_differs_from_sample_to_sample_does_not_pass_where_samples_are_picked(layer_type: str) -> None:
    """The first sample of the top is not the first of the bottom, so the second Scale does not join the first one."""
    along = 'layer {{ name: "{1}" type: "Scale" bottom: "{0}" top: "{1}" scale_param {{ axis: 0 }} }}'
    head, _, rest = (PICKING % layer_type).partition('layer { name: "conv"')
    picked = rest[rest.index("layer") : rest.index('layer { name: "bn"')].replace('"conv"', '"front"')
    text = head + along.format("data", "front") + picked + along.format("picked", "behind")
    net = nets.net(text, front=[np.array([2.0, -1.0, 0.5, 3.0])], behind=[np.array([1.5, 2.0, -3.0, 0.25])])
    assert [layer.type for layer in fold(net).net.layers[1:]] == ["Scale", layer_type, "Scale"]
