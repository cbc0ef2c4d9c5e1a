"""An affine gets past what cuts at two bounds, which change: the law, what it refuses, and whole nets of Caffe.

`tests/onnx/traps` has those of ONNX.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from algebra.rows import Array, applied
from algebra.running import net_of
from algebra.texts import checked, conv, data, layer, names, power

from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import clipped_back, clipped_forward
from bnfold.algebra.operators import Clip
from bnfold.algebra.records import Blocked

FLOAT32 = np.dtype(np.float32)
BOUNDS = [(-1.5, 2.25), (0.0, 6.0), (-np.inf, 0.5), (0.5, np.inf), (-np.inf, np.inf), (3.0, 3.0)]
X = np.linspace(-9, 9, 37).reshape(1, 37)


def cut(clip: Clip, x: Array) -> Array:
    return np.asarray(np.minimum(np.maximum(x, clip.low), clip.high))


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize(("scale", "shift"), list(product((2.0, 0.3, -0.75), (0.0, 1.25))))
def test_the_bounds_are_moved_as_the_values_are(bounds: tuple[float, float], scale: float, shift: float) -> None:
    clip, affine = Clip(*bounds, FLOAT32), Affine(np.array(scale), np.array(shift))
    behind, inside = applied(affine, cut(clip, X)), cut(clipped_back(clip, affine), applied(affine, X))
    np.testing.assert_allclose(inside, behind, rtol=1e-15, atol=1e-15)
    if shift == 0:
        behind, inside = applied(affine, cut(clipped_forward(clip, affine), X)), cut(clip, applied(affine, X))
        np.testing.assert_allclose(inside, behind, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-np.inf, 0.0)])
def test_a_factor_for_each_channel_leaves_a_bound_of_0(low: float, high: float) -> None:
    clip, affine = Clip(low, high, FLOAT32), Affine.along(1, [2.0, 0.5, 0.0], 0.0)
    x = X[:, :36].reshape(12, 3)
    assert clipped_back(clip, affine) == clip == clipped_forward(clip, affine)
    np.testing.assert_array_equal(cut(clip, applied(affine, x)), applied(affine, cut(clip, x)))
    turned = Affine.along(1, [-2.0, -0.5, -1.0], 0.0)
    np.testing.assert_array_equal(cut(clipped_back(clip, turned), applied(turned, x)), applied(turned, cut(clip, x)))


@pytest.mark.parametrize(
    ("scale", "shift", "why"),
    [
        ([2.0, 0.5, 3.0], 0.0, "the same for all channels"),
        (1.0, [0.0, 0.5, -2.0], "the same for all channels"),
        ([2.0, -2.0, 2.0], 0.0, "both signs"),
    ],
)
def test_channels_that_would_be_cut_elsewhere_refuse(scale: object, shift: object, why: str) -> None:
    clip, affine = Clip(0.0, 6.0, FLOAT32), Affine.along(1, scale, shift)  # type: ignore[arg-type]
    x = X[:, :36].reshape(12, 3)
    for law in (clipped_back, clipped_forward) if affine.keeps_zero else (clipped_back,):
        with pytest.raises(Blocked, match=why):
            law(clip, affine)
    behind, inside = applied(affine, cut(clip, x)), applied(affine, x)
    lows, highs = (np.ravel(applied(affine, np.full((1, 3), bound))) for bound in (0.0, 6.0))
    for low, high in product((*lows, *highs), repeat=2):
        assert np.abs(cut(Clip(low, high, FLOAT32), inside) - behind).max() > 0.1


def test_a_shift_in_front_of_bounds_refuses_since_digits_would_be_lost() -> None:
    clip, shift = Clip(0.1, 6.0, FLOAT32), 2.0**20 + 0.25
    with pytest.raises(Blocked, match="digits are lost"):
        clipped_forward(clip, Affine(np.array(1.0), np.array(shift)))
    assert abs(float(np.float32(0.1 - shift)) + shift - 0.1) > 0.01


def test_bounds_that_float32_has_not_refuse() -> None:
    for bound, factor in ((3e38, 4.0), (1e-30, 1e-14)):
        with pytest.raises(Blocked, match="normal numbers of float32"):
            clipped_back(Clip(-bound, bound, FLOAT32), Affine(np.array(factor), np.array(0.0)))
        with np.errstate(all="ignore"):
            assert abs(float(np.float32(bound * factor)) / (bound * factor) - 1) > 0.01
    with pytest.raises(Blocked, match="leaves it no bounds"):
        clipped_forward(Clip(0.5, 6.0, FLOAT32), Affine(np.array(0.0), np.array(0.0)))


CLIP = "clip_param { min: -1.5 max: 0.25 }"
FULLY = "inner_product_param { num_output: 3 }"


@pytest.mark.parametrize("said", ["scale: 2", "scale: -0.5", "scale: 0.5 shift: 1.5"])
def test_one_number_behind_a_clip_of_caffe_goes_into_what_is_in_front(said: str) -> None:
    text = data() + conv("conv", "data") + layer("clip", "Clip", "conv", param=CLIP) + power("y", "clip", param=said)
    result = checked(net_of(text))
    assert names(result.net) == ["data", "conv", "clip"]


def test_one_number_in_front_of_a_clip_of_caffe_goes_into_what_is_behind() -> None:
    clip = layer("clip", "Clip", "power", param=CLIP)
    text = data() + power("power", "data", param="scale: -2") + clip + layer("y", "InnerProduct", "clip", param=FULLY)
    result = checked(net_of(text))
    assert names(result.net) == ["data", "clip", "y"]
    param = result.net["clip"].param.clip_param
    assert (param.min, param.max) == (-0.125, 0.75)


def test_factors_of_channels_stay_behind_a_clip_of_caffe() -> None:
    scale = layer("y", "Scale", "clip", param="scale_param { bias_term: true }")
    text = data() + conv("conv", "data") + layer("clip", "Clip", "conv", param=CLIP) + scale
    (kept,) = checked(net_of(text)).report.kept
    assert "layer 'clip' (Clip): " in kept.reason


def test_bounds_of_a_clip_of_caffe_in_the_wrong_order_let_nothing_pass() -> None:
    clip = layer("clip", "Clip", "conv", param="clip_param { min: 0.25 max: -1.5 }")
    text = data() + conv("conv", "data") + clip + power("y", "clip", param="scale: -2")
    assert names(checked(net_of(text)).net) == ["data", "conv", "clip", "y"]
