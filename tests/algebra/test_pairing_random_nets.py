"""Random networks, folded and written: whatever `pair` makes partners of the original and of the file is equal."""

from __future__ import annotations

from dataclasses import replace

import nets
import numpy as np
from algebra.random_nets import prototxt
from algebra.running import net_of, run_versions
from seeds import seeded

from bnfold.algebra import fold
from bnfold.caffe.write import prototxt_text
from bnfold.compare.pairing import named_as, pair
from bnfold.net import Net

CRELU = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "negated" type: "Power" bottom: "conv" top: "negated" power_param { scale: -1 } }
layer { name: "joined" type: "Concat" bottom: "conv" bottom: "negated" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
"""
IN_PLACE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
"""


def blobs(net: Net) -> list[str]:
    return [top for layer in net.layers for top in layer.tops]


def as_read(net: Net) -> Net:
    """The net as it would be read from its file, where in-place versions are told apart by their writers alone."""
    weights = {layer.name: layer.blobs for layer in net.layers}
    read = nets.net(prototxt_text(net))
    layers = [replace(layer, blobs=weights[layer.name]) for layer in read.layers]
    return Net(read.name, layers, read.inputs, read.outputs, read.public)


def assert_partners_are_equal(net: Net, folded: Net, named: bool) -> dict[str, str]:
    written = named_as(as_read(folded), folded) if named else as_read(folded)
    before, after = run_versions(net), run_versions(written)
    pairs = pair(blobs(net), blobs(written), {}, folded=False)
    for blob, partner in pairs.items():
        largest = max(float(np.abs(before[blob]).max(initial=0.0)), 1e-3)
        assert before[blob].shape == after[partner].shape, (blob, partner)
        assert np.abs(before[blob] - after[partner]).max(initial=0.0) <= 1e-9 * largest, (blob, partner)
    return pairs


@seeded(200)
def test_partners_of_a_net_and_its_folded_file_are_equal(seed: int) -> None:
    net = net_of(prototxt(seed), seed)
    assert_partners_are_equal(net, fold(net).net, named=bool(seed % 2))


def test_a_version_that_an_affine_moved_through_is_called_otherwise_in_the_file() -> None:
    net = net_of(CRELU)
    folded = fold(net).net
    assert {"c", "c@scale"} <= assert_partners_are_equal(net, folded, named=False).keys()
    assert "c@joined" not in blobs(as_read(folded))


def test_versions_in_front_of_the_last_are_compared_where_the_net_in_memory_tells_what_they_are() -> None:
    net = net_of(IN_PLACE)
    folded = fold(net).net
    assert [layer.type for layer in folded.layers] == ["Input", "Convolution", "ReLU"]
    assert assert_partners_are_equal(net, folded, named=False).keys() == {"data", "c"}
    assert assert_partners_are_equal(net, folded, named=True).keys() == {"data", "c", "c@scale"}
