"""Affines that stand alike in front of all bottoms of one convolution go into its weight together."""

from __future__ import annotations

import numpy as np
import pytest
from algebra.running import net_of
from algebra.texts import PADDED, checked, data, layer, names, power, scale

from bnfold.algebra import Folded, fold

OTHER = 'layer { name: "other" type: "Input" top: "other" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 5 } } }\n'
IMAGES = data() + OTHER
STRIDED = "convolution_param { num_output: 3 kernel_size: 2 stride: 2 }"
GROUPED = "convolution_param { num_output: 6 kernel_size: 3 group: 2 bias_term: false }"
ALIKE = [[1.5, -0.25, 2.0, 0.75], [0.5, -1.0, 0.25, 3.0]]
UNLIKE = [[1.5, -0.25, 2.0, 0.75], [0.5, -1.0, 0.25, 3.5]]


def of_both(name: str, layer_type: str, bottoms: str = "s t", param: str = STRIDED) -> str:
    return layer(name, layer_type, bottoms, "v w", param)


@pytest.mark.parametrize(
    ("layer_type", "param"), [("Convolution", STRIDED), ("Convolution", GROUPED), ("Deconvolution", "")]
)
def test_scales_alike_in_front_of_both_go_into_the_one_weight(layer_type: str, param: str) -> None:
    pointwise = "convolution_param { num_output: 3 kernel_size: 1 }"
    text = IMAGES + scale("s", "data") + scale("t", "other") + of_both("both", layer_type, param=param or pointwise)
    result = checked(net_of(text, s=ALIKE, t=ALIKE))
    assert names(result.net) == ["data", "other", "both"]
    assert result.net["both"].bottoms == ["data", "other"]
    assert result.report.records == [Folded(name, "Scale", into=("both",), forward=True) for name in "st"]


def test_a_factor_alike_in_front_of_both_goes_past_their_padding() -> None:
    text = IMAGES + power("s", "data", param="scale: -0.5") + power("t", "other", param="scale: -0.5")
    result = checked(net_of(text + of_both("both", "Convolution", param=PADDED)))
    assert names(result.net) == ["data", "other", "both"]


def test_one_affine_whose_top_is_both_bottoms_goes_once() -> None:
    text = data() + scale("s", "data") + of_both("both", "Convolution", "s s")
    result = checked(net_of(text, s=ALIKE))
    assert names(result.net) == ["data", "both"]
    assert result.report.records == [Folded("s", "Scale", into=("both",), forward=True)]


def test_runs_of_affines_go_one_after_the_other() -> None:
    text = IMAGES + power("p", "data") + power("q", "other") + scale("s", "p") + scale("t", "q")
    result = checked(net_of(text + of_both("both", "Convolution"), s=ALIKE, t=ALIKE))
    assert names(result.net) == ["data", "other", "both"]


@pytest.mark.parametrize(
    "text",
    [
        scale("s", "data") + of_both("both", "Convolution", "s other"),
        scale("s", "data") + of_both("both", "Convolution", "other s"),
        scale("s", "data") + layer("t", "ReLU", "other") + of_both("both", "Convolution"),
        scale("s", "data") + of_both("both", "Convolution", param=PADDED, bottoms="s s"),
        scale("s", "data") + of_both("both", "Convolution", "s s") + layer("r", "Softmax", "s"),
    ],
)
def test_what_stands_in_front_of_one_alone_stays(text: str) -> None:
    (kept,) = fold(net_of(IMAGES + text, s=ALIKE)).report.kept
    assert kept.layer == "s"
    assert "several blobs" in kept.reason or "'r' (Softmax)" in kept.reason


def test_affines_that_differ_stay_since_one_weight_serves_for_both() -> None:
    text = IMAGES + scale("s", "data") + scale("t", "other") + of_both("both", "Convolution")
    net = net_of(text, s=ALIKE, t=UNLIKE)
    assert [kept.layer for kept in fold(net).report.kept] == ["s", "t"]
    before, anyway = (fold(net_of(text, s=ALIKE, t=other)).net["both"].blobs[1] for other in (UNLIKE, ALIKE))
    assert np.abs(before - anyway).max() > 0.1


def test_planes_of_two_sizes_stay() -> None:
    other = OTHER.replace("dim: 5 dim: 5", "dim: 7 dim: 7")
    text = data() + other + scale("s", "data") + scale("t", "other") + of_both("both", "Convolution")
    assert len(fold(net_of(text, s=ALIKE, t=ALIKE)).report.kept) == 2


@pytest.mark.parametrize("options", [{"keep": "t"}, {"exclude": "t"}, {"exclude": "both"}])
def test_what_a_user_keeps_stays_on_both_sides(options: dict[str, str]) -> None:
    text = IMAGES + scale("s", "data") + scale("t", "other") + of_both("both", "Convolution")
    assert len(fold(net_of(text, s=ALIKE, t=ALIKE), **options).report.kept) == 2  # type: ignore[arg-type]
