"""What keeps an affine of a Caffe net where it is, by its words, and that the fold which it refuses changes values."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest
from algebra.rows import layer_of, operator_of
from algebra.running import net_of, run
from algebra.texts import CONV, conv, data, layer, power

from bnfold.algebra import fold
from bnfold.algebra.records import Blocked
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.layers.arithmetic import ROWS as ARITHMETIC
from bnfold.caffe.operators import OPERATORS
from bnfold.caffe.operators.table import REFUSED
from bnfold.net import Shape

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


WORDS = {
    "ArgMax": "argmax_param { axis: 1 top_k: 4 }",
    "Log": "log_param { shift: 9 }",
    "LpNormalization": "lp_normalization_param { axis: 1 }",
    "ScaledTanH": "scaled_tanh_param { alpha: 1 beta: 1 }",
}


@pytest.mark.parametrize("layer_type", REFUSED)
def test_a_type_without_a_row_is_known_and_gives_other_values_behind_an_affine(layer_type: str) -> None:
    assert layer_type in LAYERS.keys() - OPERATORS.keys()
    second = " data" if layer_type in ARITHMETIC else ""
    made = layer("y", layer_type, f"p{second}", "y", WORDS.get(layer_type, ""))
    other = layer("l", layer_type, f"data{second}", "l", WORDS.get(layer_type, ""))
    net = net_of(data() + power("p", "data", "", SHIFT) + made)
    (kept,) = fold(net).report.kept
    assert REFUSED[layer_type] in kept.reason
    behind = net_of(data() + other + power("y", "l", "", SHIFT))
    assert np.nanmax(np.abs(run(behind)["y"] - run(net)["y"])) > 0.05


def values(*shape: int) -> npt.NDArray[np.float64]:
    return np.linspace(0.5, 2.5, int(np.prod(shape))).reshape(shape)


LOCAL = 'type: "Local" local_param { num_output: 3 kernel_size: 3 }'
TILES = 'type: "TileND" tile_nd_param { multiples: 1 multiples: 2 multiples: 1 multiples: 1 }'
FOLLOWED = "caffe.operators.movement.MAX_VALUES"

# The reason, the layer, its blobs, a shape that it is said of and one that it is not, and a limit that is set to 8.
SHAPES = [
    ("its size is unknown", LOCAL, [(3, 1, 36, 4), (3, 4)], (2, 4, -1, 4), (-1, 4, 4, 4), ""),
    ("it enlarges its bottom", 'type: "Mul"', [(4, 1, 1)], (2, 1, 3, 3), (2, 4, 3, 3), ""),
    (
        "its 6 channels are no multiple of 2x2",
        'type: "Reorg" reorg_param { stride: 2 }',
        [],
        (2, 6, 4, 4),
        (2, 4, 4, 4),
        "",
    ),
    ("the axis that it repeats is too long to follow", TILES, [], (2, 5, 4, 4), (2, 4, 4, 4), FOLLOWED),
    ("'b0' has no channel axis, its shape is (4,)", 'type: "BatchNorm"', [(4,), (4,), (1,)], (4,), (2, 4), ""),
]


@pytest.mark.parametrize(("reason", "text", "blobs", "refused", "taken", "limit"), SHAPES, ids=[r[0] for r in SHAPES])
def test_a_shape_that_a_layer_has_no_law_for_is_the_reason(
    reason: str,
    text: str,
    blobs: list[Shape],
    refused: Shape,
    taken: Shape,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if limit:
        monkeypatch.setattr(f"bnfold.{limit}", 8)
    layer = layer_of(text, blobs=[values(*shape) for shape in blobs])
    with pytest.raises(Blocked, match=re.escape(reason)):
        operator_of(layer, [refused])
    operator_of(layer, [taken])


@pytest.mark.parametrize("layer_type", ["BatchNorm", "Bias", "Mul", "Scale"])
def test_more_channels_than_any_network_has_are_the_reason(layer_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.caffe.operators.affine.MAX_CHANNELS", 4)
    for channels in (5, 4):
        blobs = [values(channels), values(channels), values(1)][: 3 if layer_type == "BatchNorm" else 1]
        if layer_type == "Mul":
            blobs = [blobs[0].reshape(channels, 1, 1)]
        layer = layer_of(f'type: "{layer_type}"', blobs=blobs)
        if channels == 5:
            with pytest.raises(Blocked, match="'b0' has 5 channels, more than any trained network"):
                operator_of(layer, [(2, channels, 3, 3)])
        else:
            operator_of(layer, [(2, channels, 3, 3)])
