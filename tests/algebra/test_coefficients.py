"""One number goes into the coefficients of a sum where it can go nowhere else, from in front or from behind.

The factors are powers of 2, so that coefficients of float32 hold the products exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
from algebra.running import net_of
from algebra.texts import checked, conv, data, layer, names, power

from bnfold.algebra import Folded, fold
from bnfold.net import Net

OTHER = 'layer { name: "other" type: "Input" top: "other" input_param { shape { dim: 2 dim: 4 dim: 5 dim: 5 } } }\n'


def total(name: str, bottoms: str, said: str = "") -> str:
    return layer(name, "Eltwise", bottoms, "", f"eltwise_param {{ {said} }}")


def coefficients(net: Net, name: str = "sum") -> list[float]:
    return list(net[name].param.eltwise_param.coeff)


@pytest.mark.parametrize(("said", "expected"), [("", [-0.5, 1]), ("coeff: 4 coeff: -0.3", [-2, np.float32(-0.3)])])
def test_a_number_in_front_of_a_sum_becomes_its_coefficient(said: str, expected: list[float]) -> None:
    text = data() + OTHER + power("p", "data", param="scale: -0.5") + total("sum", "p other", said)
    result = checked(net_of(text))
    assert names(result.net) == ["data", "other", "sum"]
    assert result.net["sum"].bottoms == ["data", "other"]
    assert coefficients(result.net) == expected
    assert result.report.records == [Folded("p", "Power", into=("sum",), forward=True)]


def test_a_number_that_several_sums_read_goes_into_each() -> None:
    text = data() + OTHER + power("p", "data", param="scale: 4")
    text += total("sum", "p other") + total("second", "other p p", "coeff: 1 coeff: 2 coeff: -0.25")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "other", "sum", "second"]
    assert (coefficients(result.net), coefficients(result.net, "second")) == ([4, 1], [1, 8, -1])


def test_a_number_behind_a_sum_becomes_all_of_its_coefficients() -> None:
    text = data() + OTHER + total("sum", "data other", "coeff: 1 coeff: -3") + power("p", "sum", param="scale: 0.25")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "other", "sum"]
    assert coefficients(result.net) == [0.25, -0.75]
    assert result.net.outputs == ["p"]


def test_numbers_on_all_sides_of_a_sum_multiply() -> None:
    text = data() + OTHER + power("p", "data", param="scale: 4") + power("q", "other", param="scale: -2")
    text += total("sum", "p q", "coeff: 0.5 coeff: 3") + power("r", "sum", param="scale: 8")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "other", "sum"]
    assert coefficients(result.net) == [16, -48]


def test_weights_are_asked_first() -> None:
    text = data() + OTHER + conv("conv", "data") + power("p", "conv", param="scale: 0.5") + total("sum", "p other")
    assert coefficients(checked(net_of(text)).net) == []


def test_coefficients_of_float32_take_nothing_beside_weights_of_float64() -> None:
    text = data() + OTHER + conv("conv", "data") + layer("relu", "ReLU", "conv")
    net = net_of(text + power("p", "conv", param="scale: 0.1") + total("sum", "p other"))
    (kept,) = fold(net).report.kept
    assert kept.layer == "p"
    for one in net.layers:
        one.blobs = type(one.blobs)(blob.astype(np.float32) for blob in one.blobs)
    folded = fold(net)
    assert not folded.report.kept
    assert coefficients(folded.net) == [np.float32(np.float64(np.float32(0.1))), 1]


@pytest.mark.parametrize(
    "text",
    [
        power("p", "data", param="scale: 2 shift: 1") + total("sum", "p other"),
        power("p", "data") + total("sum", "p other", "operation: MAX"),
        power("p", "data", param="scale: 1e-30") + total("sum", "p other", "coeff: 1e-10 coeff: 1"),
        power("p", "data", param="scale: 1e30") + total("sum", "p other", "coeff: 1e10 coeff: 1"),
        power("p", "data") + total("sum", "p other") + layer("softmax", "Softmax", "p"),
        power("p", "data") + layer("sum", "Add", "p other"),
        total("sum", "data other") + power("p", "sum") + layer("softmax", "Softmax", "sum"),
        total("sum", "data other", "operation: PROD") + power("p", "sum", param="scale: 2 shift: 1"),
    ],
)
def test_what_no_coefficient_holds_stays(text: str) -> None:
    (kept,) = fold(net_of(data() + OTHER + text)).report.kept
    assert kept.layer == "p"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (power("p", "data") + total("sum", "p other"), {"keep": "p"}),
        (power("p", "data") + total("sum", "p other"), {"exclude": "sum"}),
        (total("sum", "data other") + power("p", "sum"), {"keep": "sum"}),
        (total("sum", "data other") + power("p", "sum"), {"exclude": "sum"}),
    ],
)
def test_what_a_user_keeps_takes_no_number(text: str, options: dict[str, str]) -> None:
    (kept,) = fold(net_of(data() + OTHER + text), **options).report.kept  # type: ignore[arg-type]
    assert kept.layer == "p"


def test_factors_of_channels_stay_in_front_of_a_sum() -> None:
    text = data() + OTHER + layer("s", "Scale", "data") + total("sum", "s other")
    net = net_of(text)
    net["s"].blobs = type(net["s"].blobs)([np.array([1, 2, 4, 8], np.float32)])
    (kept,) = fold(net).report.kept
    assert kept.layer == "s"
    net["s"].blobs = type(net["s"].blobs)([np.full(4, -8, np.float32)])
    assert coefficients(checked(net).net) == [-8, 1]
