"""What keeps an affine of a Caffe net where it is, by its words, and that the fold which it refuses changes values."""

from __future__ import annotations

import numpy as np
import pytest
from algebra.running import net_of, run
from algebra.texts import CONV, conv, data, layer, power

from bnfold.algebra import fold

SHIFT = "scale: 0.5 shift: 1"
GATED = layer("g", "Pooling", "data", "", "pooling_param { pool: AVE global_pooling: true }") + layer(
    "y", "TanH", "data"
)
PRODUCT = "scale_param { axis: 0 bias_term: true }"

# The reason, the net, and what it would be after the fold that is refused: weights are drawn by the layers' names.
ROWS = [
    (
        "a gate lets a scale pass, but no shift",
        GATED + power("p", "data", "", SHIFT) + layer("a", "Axpy", "g p y") + conv("end", "a"),
        GATED + layer("a", "Axpy", "g data y") + power("p", "a", "", SHIFT) + conv("end", "p"),
    ),
    (
        "it adds a learned bias",
        conv("c", "data") + layer("s", "Scale", "c data", "s", PRODUCT) + power("end", "s"),
        conv("c", "data") + power("p", "c") + layer("s", "Scale", "p data", "end", PRODUCT),
    ),
    (
        "it works on several blobs with one weight",
        layer("t", "TanH", "data") + layer("c", "Convolution", "data t", "c end", CONV) + power("p", "c"),
        layer("t", "TanH", "data")
        + layer("c", "Convolution", "data t", "c d", CONV)
        + power("p", "c")
        + power("end", "d"),
    ),
]


@pytest.mark.parametrize(("reason", "text", "refused"), ROWS, ids=[row[0] for row in ROWS])
def test_a_fold_that_would_change_the_values_is_refused_with_the_reason(reason: str, text: str, refused: str) -> None:
    net = net_of(data() + text)
    kept = [record.reason for record in fold(net).report.kept]
    assert any(reason in one for one in kept), kept
    assert np.abs(run(net_of(data() + refused))["end"] - run(net)["end"]).max() > 0.1
