"""Intel's fused ReLU: the BatchNorm folds away and the ReLU stays."""

import nets
import numpy as np
import reference

from bnfold.algebra import fold
from bnfold.caffe.write import prototxt_text
from bnfold.net import Array, Net

HEAD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
"""
TAIL = """
layer { name: "next" type: "Convolution" bottom: "TOP" top: "next"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
"""
FUSED = 'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "TOP" batch_norm_param { relu: true } }'
SEPARATE = """
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "TOP" }
layer { name: "relu" type: "ReLU" bottom: "TOP" top: "TOP" }
"""


def run(net: Net) -> dict[str, Array]:
    """A net by the oracle, with the weights that it has in memory."""
    weights = {layer.name: [np.asarray(blob, np.float64) for blob in layer.blobs] for layer in net.layers}
    data = np.random.default_rng(3).standard_normal((2, 3, 6, 6)) * 3
    return reference.load(prototxt_text(net), weights=weights).run({"data": data}, dtype=np.float64)


def test_a_fused_relu_stays_where_its_batchnorm_folds() -> None:
    for top in ("conv", "bn"):
        fused = nets.net((HEAD + FUSED + TAIL).replace("TOP", top), 4)
        expected = run(nets.net((HEAD + SEPARATE + TAIL).replace("TOP", top), 4))
        result = fold(fused)
        assert [layer.type for layer in result.net.layers] == ["Input", "Convolution", "ReLU", "Convolution"]
        assert [layer.type for layer in fused.layers] == ["Input", "Convolution", "BatchNorm", "Convolution"]
        found = run(result.net)
        for blob in (top, "next"):
            assert np.abs(found[blob] - expected[blob]).max() < 1e-5 * np.ptp(expected[blob])
        assert (expected[top] == 0).any(), "the ReLU has something to do"


def test_a_fused_relu_whose_batchnorm_stays_leaves_a_scale_and_a_relu() -> None:
    fused = FUSED.replace('bottom: "conv"', 'bottom: "data"').replace("TOP", "bn")
    result = fold(nets.net(HEAD + fused, 4))
    assert [layer.type for layer in result.net.layers] == ["Input", "Convolution", "Scale", "ReLU"]
