"""What keeps an affine where it is, by its words, and that the fold which it refuses would change the values."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import run
from onnx_texts import model, reasons, values

CONSTANTS = {
    "scale": values(3, 1, 1, seed=3),
    "shift": values(3, 1, 1, seed=5),
    "w": values(3, 3, 1, 1, seed=11),
    "number": np.array(1, np.int32),
}

# The reason, the nodes, and what they would be after the fold that is refused.
ROWS = [
    (
        "a product takes a scale, but no shift",
        "c = Conv (x, w) p = Mul (c, z) y = Add (p, shift)",
        "c = Conv (x, w) a = Add (c, shift) y = Mul (a, z)",
    ),
    (
        "a product lets a scale pass, but no shift",
        "a = Add (x, shift) p = Mul (a, z) y = Conv (p, w)",
        "p = Mul (x, z) a = Add (p, shift) y = Conv (a, w)",
    ),
    (
        "a sum needs the same scale on all its bottoms",
        "a = Mul (x, scale) p = Add (a, z) y = Conv (p, w)",
        "p = Add (x, z) a = Mul (p, scale) y = Conv (a, w)",
    ),
    (
        "its other bottoms do not carry the same affine",
        "a = Add (x, shift) p = Max (a, z) y = Conv (p, w)",
        "p = Max (x, z) a = Add (p, shift) y = Conv (a, w)",
    ),
    (
        "the affine varies along axis 2, and the weight has no such axis",
        "c = Conv (x, w) a, b = Split <axis = 2> (c) s = Mul (a, scale) y = Concat <axis = 2> (s, b)",
        "c = Conv (x, w) s = Mul (c, scale) a, b = Split <axis = 2> (s) y = Concat <axis = 2> (a, b)",
    ),
    (
        "it may round to another type",
        "a = Mul (x, scale) i = Cast <to = 6> (a) f = Cast <to = 1> (i) y = Conv (f, w)",
        "i = Cast <to = 6> (x) f = Cast <to = 1> (i) a = Mul (f, scale) y = Conv (a, w)",
    ),
    (
        "it may round to another type",
        "a = Mul (x, scale) i = CastLike (a, number) f = CastLike (i, z) y = Conv (f, w)",
        "i = CastLike (x, number) f = CastLike (i, z) a = Mul (f, scale) y = Conv (a, w)",
    ),
]


@pytest.mark.parametrize(("reason", "nodes", "refused"), ROWS)
def test_a_fold_that_would_change_the_values_is_refused_with_the_reason(reason: str, nodes: str, refused: str) -> None:
    ports = "(float[2,3,4,4] x, float[2,3,4,4] z) => (float[n,c,h,v] y)"
    before, wrong = (
        model(f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {text} }}', **CONSTANTS)
        for text in (nodes, refused)
    )
    assert any(reason in kept for kept in reasons(before)), reasons(before)
    feeds = {"x": 3 * values(2, 3, 4, 4, seed=13), "z": values(2, 3, 4, 4, seed=17)}
    assert np.abs(run(wrong, feeds)["y"] - run(before, feeds)["y"]).max() > 0.1
