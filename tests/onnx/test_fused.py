"""What onnxruntime makes of several nodes, where it writes a model that it has optimised, hides no sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import run
from onnx_texts import folded, model, statistics, types, values

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'


@pytest.mark.parametrize(
    "made",
    [
        "c = com.microsoft.BiasGelu (k, b)",
        "c = com.microsoft.FastGelu (k, b)",
        'c = com.microsoft.FusedGemm <activation = "Relu"> (f, v)',
        "c = com.microsoft.Gelu (k)",
        "c = com.microsoft.QuickGelu (k)",
        "c = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (k, k, b)",
    ],
)
def test_what_follows_an_operator_of_onnxruntime_has_known_sizes(made: str) -> None:
    """The Flatten says where the channels are only if what it reads has known sizes."""
    nodes = f"k = MatMul (x, v) f = Flatten (x) {made} d = Mul (c, s) e = Flatten (d) y = MatMul (e, w)"
    text = f"{HEAD} g (float[n,3] x) => (float[n,2] y) {{ {nodes} }}"
    before = model(text, v=values(3, 4), b=values(4, seed=2), s=values(4, seed=3), w=values(4, 2, seed=4))
    after = folded(before)
    assert "Mul" not in types(after)
    x = values(5, 3, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_a_batch_normalization_goes_past_what_reads_a_convolution_with_an_activation() -> None:
    """Where the sum has its channels is known by the sizes of both its sides."""
    nodes = """c = com.microsoft.FusedConv <activation = "Relu", pads = [1, 1, 1, 1]> (x, u, b) a = Add (c, x)
    n = BatchNormalization (a, gamma, beta, mean, variance) p = GlobalAveragePool (n) f = Flatten (p)
    y = MatMul (f, w)"""
    text = f"{HEAD} g (float[n,3,8,8] x) => (float[n,2] y) {{ {nodes} }}"
    before = model(text, u=values(3, 3, 3, 3), b=values(3), w=values(3, 2, seed=3), **statistics())
    after = folded(before)
    assert types(after) == ["FusedConv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]
    x = values(2, 3, 8, 8, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)
