"""A shift in front of what subtracts a mean vanishes, where it is constant over what that is the mean of."""

import numpy as np
import pytest
from onnx_cases import run
from onnx_texts import folded, model, reasons, types, values

CONSTANTS = {
    "channels": values(4, 1, 1, seed=3),
    "rows": values(5, 1, seed=5),
    "columns": values(6, seed=7),
    "minus": np.array(-0.75, np.float32),
    "number": np.array(0.75, np.float32),
    "four": values(4, seed=11),
    "six": values(6, seed=13),
}
FEEDS = {"x": values(2, 4, 5, 6, seed=17)}


def layer_of(nodes: str) -> str:
    return f'<ir_version: 10, opset_import: ["" : 23]> net (float[2,4,5,6] x) => (float[2,4,5,6] y) {{ {nodes} }}'


INSTANCE = "InstanceNormalization (a, four, four)"
LAYER = "LayerNormalization (a, six, six)"
MEAN = "MeanVarianceNormalization <axes = [2, 3]> (a)"
GROUP = "GroupNormalization <num_groups = 2> (a, four, four)"


@pytest.mark.parametrize(
    ("affine", "normalisation"),
    [
        ("Add (x, channels)", INSTANCE),
        ("Sub (x, number)", INSTANCE),
        ("Add (x, channels)", "GroupNormalization <num_groups = 4> (a, four, four)"),
        ("Add (x, number)", GROUP),
        ("Add (x, rows)", LAYER),
        ("Add (x, channels)", LAYER),
        ("Add (x, channels)", MEAN),
        ("Add (x, channels)", "MeanVarianceNormalization (a)"),
        ("Sub (x, number)", "MeanVarianceNormalization <axes = [1]> (a)"),
    ],
)
def test_a_shift_vanishes(affine: str, normalisation: str) -> None:
    before = model(layer_of(f"a = {affine} y = {normalisation}"), **CONSTANTS)
    after = folded(before)
    assert types(after) == [normalisation.split()[0]]
    np.testing.assert_allclose(run(after, FEEDS)["y"], run(before, FEEDS)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("affine", "normalisation"),
    [
        ("Add (x, rows)", INSTANCE),
        ("Mul (x, minus)", INSTANCE),
        ("Add (x, channels)", GROUP),
        ("Add (x, columns)", LAYER),
        ("Mul (x, minus)", LAYER),
        ("Mul (x, minus)", MEAN),
        ("Add (x, rows)", MEAN),
        ("Add (x, number)", "RMSNormalization (a, six)"),
    ],
)
def test_what_does_not_vanish_stays(affine: str, normalisation: str) -> None:
    before = model(layer_of(f"a = {affine} y = {normalisation}"), **CONSTANTS)
    without = model(layer_of(f"a = Identity (x) y = {normalisation}"), **CONSTANTS)
    assert types(folded(before)) == types(before)
    (reason,) = reasons(before)
    assert "it normalises what it reads" in reason or "differ" in reason, reason
    assert np.abs(run(without, FEEDS)["y"] - run(before, FEEDS)["y"]).max() > 1e-2


def test_a_shift_behind_goes_no_way_in_front() -> None:
    before = model(
        layer_of("c = Conv (x, w) m = MeanVarianceNormalization <axes = [2, 3]> (c) y = Add (m, channels)"),
        w=values(4, 4, 1, 1),
        **CONSTANTS,
    )
    assert types(folded(before)) == types(before)


@pytest.mark.parametrize(("said", "left"), [("", ["Add", "GroupNormalization"]), (", stash_type = 11", None)])
def test_a_shift_of_doubles_stays_in_front_of_what_computes_in_float32(said: str, left: list[str] | None) -> None:
    """The values are off by the rounding of float32, of which doubles have none."""
    group = GROUP.replace("= 2", f"= 2{said}")
    text = layer_of(f"a = Add (x, number) y = {group}").replace("float[", "double[")
    constants = {name: value.astype(np.float64) for name, value in CONSTANTS.items() if name in ("number", "four")}
    before, feeds = model(text, **constants), {"x": FEEDS["x"].astype(np.float64)}
    assert types(folded(before)) == (left or ["GroupNormalization"])
    without = model(text.replace("Add (x, number)", "Identity (x)"), **constants)
    assert (np.abs(run(without, feeds)["y"] - run(before, feeds)["y"]).max() > 1e-9) == (left is not None)
