"""The weights that tests use: signed, different in every channel, and the same for the same seed and name."""

from __future__ import annotations

import numpy as np
from nets import FACTOR, net, seeded

NET = """
    input: "data" input_shape { dim: [1, 3, 8, 8] }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "c"
      convolution_param { num_output: 8 kernel_size: 3 } }
    layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
    layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
"""


def test_weights_are_signed_and_differ_in_every_channel() -> None:
    _, conv, bn, scale = net(NET).layers
    for vector in (conv.blobs[1], bn.blobs[0], *scale.blobs):
        assert len(set(vector.tolist())) == 8
        assert vector.min() < 0 < vector.max()


def test_statistics_are_sums_with_their_weight_and_variances_are_positive() -> None:
    mean, variance, factor = seeded("BatchNorm", [(8,), (8,), (1,)])
    assert factor.tolist() == [np.float32(FACTOR)]
    assert (variance / FACTOR > 0.4).all()
    assert abs(mean).max() > 100


def test_weights_depend_on_the_seed_and_the_name_alone() -> None:
    assert np.array_equal(net(NET).layers[1].blobs[0], net(NET.partition('layer { name: "bn"')[0]).layers[1].blobs[0])
    assert not np.array_equal(net(NET).layers[1].blobs[0], net(NET, 1).layers[1].blobs[0])
    assert not np.array_equal(seeded("Bias", [(4,)], name="a")[0], seeded("Bias", [(4,)], name="b")[0])


def test_given_weights_win_and_nothing_is_writeable() -> None:
    given = net(NET, scale=[np.arange(8), np.ones(8)])
    assert given.layers[3].blobs[0].tolist() == list(range(8))
    assert not any(blob.flags.writeable for layer in given.layers for blob in layer.blobs)
