"""An affine in float32 between Casts of a network of float16, as converters write it that keep normalisations wide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Run
from ml_dtypes import bfloat16
from onnx import ModelProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array
from onnx_cases import run as values_of
from onnx_texts import folded, model, reasons, statistics, stored, types, values

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
NORM = "d = Cast <to = 1> (c) n = BatchNormalization (d, gamma, beta, mean, variance) y = Cast <to = 10> (n)"
X = values(2, 3, 6, 6, seed=5, dtype=np.float16)


def made(nodes: str, outputs: str = "float16[k,3,4,4] y", **constants: Array) -> ModelProto:
    given = {"w": values(3, 3, 3, 3, dtype=np.float16) / np.float16(8), "b": values(3, seed=2, dtype=np.float16)}
    text = f"{HEAD} g (float16[k,3,6,6] x) => ({outputs}) {{ c = Conv (x, w, b) {nodes} }}"
    return model(text, **given, **statistics(), **constants)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (NORM, ["Conv"]),
        (f"{NORM.replace('y =', 'q =')} y = Relu (q)", ["Conv", "Relu"]),
        (NORM.replace("Cast <to = 10> (n)", "Cast <to = 10> (r)").replace("y =", "r = Relu (n) y ="), ["Conv", "Relu"]),
        ("d = Cast <to = 1> (c) m = Sub (t, d) r = Relu (m) n = Mul (r, ss) y = Cast <to = 10> (n)", ["Conv", "Relu"]),
        ("d = Cast <to = 1> (c) n = Mul (d, s) y = Cast <to = 10> (n)", ["Conv"]),
        ("d = Cast <to = 1> (c) m = Mul (d, s) n = Sub (t, m) y = Cast <to = 10> (n)", ["Conv"]),
        (f"{NORM.replace('y =', 'q =')} y = Mul (q, h)", ["Conv"]),
        (f"a = Mul (c, h) {NORM.replace('(c)', '(a)')}", ["Conv"]),
        (f"a = MaxPool <kernel_shape = [1, 1]> (c) {NORM.replace('(c)', '(a)').replace('gamma', 'up')}", None),
    ],
)
def test_it_goes_into_the_convolution_and_the_casts_go(nodes: str, left: list[str] | None) -> None:
    factor, half = values(3, 1, 1, seed=3), values(3, 1, 1, seed=4, dtype=np.float16)
    before = made(nodes, s=factor, ss=factor * factor, t=values(3, 1, 1, seed=9), h=half, up=np.abs(values(3, seed=8)))
    after = folded(before)
    assert types(after) == (left or ["Conv", "MaxPool"])
    assert folded(after) == after
    wanted = values_of(before, {"x": X})["y"]
    found = values_of(after, {"x": X})["y"]
    assert wanted.dtype == found.dtype == np.float16
    np.testing.assert_allclose(found, wanted, rtol=4e-3, atol=4e-3 * np.abs(wanted).max())


RESIZED = "r = Resize (d, , scales)"


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (f"d = Cast <to = 1> (c) {RESIZED} e = Cast <to = 10> (r) y = Mul (e, h)", "Conv Cast Resize Cast"),
        (f"a = Mul (c, h) q = Relu (a) d = Cast <to = 1> (q) {RESIZED} e = Cast <to = 10> (r) y = Add (e, h)", None),
        (
            f"d = Cast <to = 1> (c) {RESIZED} m = Mul (r, s) n = Add (m, s) y = Cast <to = 10> (n)",
            "Conv Cast Resize Cast",
        ),
        (f"e = Cast <to = 1> (c) d = Mul (e, s) {RESIZED} y = Cast <to = 10> (r)", "Conv Cast Resize Cast"),
        (
            "d = Cast <to = 1> (c) m = GlobalAveragePool (d) e = Cast <to = 10> (m) y = Add (e, h)",
            "Conv Cast GlobalAveragePool Cast",
        ),
        ("d = Cast <to = 1> (c) m = ReduceSum (d, axes) e = Cast <to = 10> (m) y = Mul (e, h)", None),
    ],
)
def test_an_affine_passes_a_mean_that_is_taken_in_float32(nodes: str, left: str | None) -> None:
    further = {"scales": np.array([1, 1, 2, 2], np.float32), "axes": np.array([2, 3])}
    half, factor = values(3, 1, 1, seed=4, dtype=np.float16), values(3, 1, 1, seed=3)
    before = made(nodes, "float16[k,3,l,m] y", h=half, s=factor, **further)
    after = folded(before)
    if left is None:
        assert types(after)[-3:] == types(before)[-3:]
    else:
        assert types(after) == left.split()
    assert folded(after) == after
    wanted = values_of(before, {"x": X})["y"]
    np.testing.assert_allclose(values_of(after, {"x": X})["y"], wanted, rtol=4e-3, atol=4e-3 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "nodes",
    [
        "d = Cast <to = 1> (c) r = Relu (d) y = Cast <to = 10> (r)",  # no affine
        "d = Cast <to = 1> (c) r = Relu (d) n = Add (r, t) y = Cast <to = 10> (n)",  # a threshold would move
        "d = Cast <to = 1> (c) m = Add (d, t) r = Relu (m) n = Add (r, t) y = Cast <to = 10> (n)",
        "d = Cast <to = 1> (c) m = Add (d, t) r = Sigmoid (m) y = Cast <to = 10> (r)",
    ],
)
def test_casts_stay_around_what_does_not_fold(nodes: str) -> None:
    before = made(nodes, t=values(3, 1, 1, seed=9))
    assert types(folded(before)) == types(before)


def test_branches_are_joined_once_the_casts_have_gone() -> None:
    nodes = """e = Conv (c, v) d = Cast <to = 1> (e) n = Add (d, t) q = Cast <to = 10> (n)
    f = Conv (c, u) s = Add (f, q) y = Relu (s)"""
    weights = {name: values(3, 3, 1, 1, seed=at, dtype=np.float16) for at, name in enumerate("uv", 11)}
    before = made(nodes, "float16[k,3,4,4] y", t=values(3, 1, 1, seed=9), **weights)
    after = folded(before)
    assert types(after) == ["Conv", "Conv", "Relu"]
    assert folded(after) == after
    wanted = values_of(before, {"x": X})["y"]
    assert (wanted > 0).any()
    np.testing.assert_allclose(values_of(after, {"x": X})["y"], wanted, rtol=8e-3, atol=8e-3 * wanted.max())


@pytest.mark.parametrize(
    ("nodes", "outputs", "why"),
    [
        (
            NORM,
            "float16[k,3,4,4] y, float[k,3,4,4] n",
            "is rounded to float16 in front of it, and behind it to float32",
        ),
        (
            f"{NORM} z = Neg (n)",
            "float16[k,3,4,4] y, float[k,3,4,4] z",
            "is rounded to float16 in front of it, and behind it to float32",
        ),
        (
            NORM.replace("10", "11"),
            "double[k,3,4,4] y",
            "is rounded to float16 in front of it, and behind it to float32",
        ),
        (f"{NORM} z = Sigmoid (c)", "float16[k,3,4,4] y, float16[k,3,4,4] z", "reads 'c' too"),
        (NORM, "float16[k,3,4,4] y, float16[k,3,4,4] c", "'c' is an output"),
    ],
)
def test_what_is_wanted_in_float32_stays_in_it(nodes: str, outputs: str, why: str) -> None:
    before = made(nodes, outputs)
    after = folded(before)
    assert types(after) == types(before)
    assert why in reasons(before)[0]


def test_a_range_that_float16_lacks_is_refused() -> None:
    """What is 100,000 before it is made small again would be infinite in between."""
    nodes = "d = Cast <to = 1> (c) a = Mul (d, big) m = Mul (a, small) y = Cast <to = 10> (m)"
    before = made(nodes, big=np.array(1e5, np.float32), small=np.array(1e-5, np.float32))
    wanted, found = (values_of(one, {"x": X})["y"] for one in (before, folded(before)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=4e-3, atol=4e-3 * np.abs(wanted).max())


def test_a_channel_that_would_lose_digits_of_float16_stays() -> None:
    """Its weights of 4e-7 would have three bits; what it computes of large values has eleven."""
    small = {**statistics(dtype=np.float16), "gamma": np.array([0.7, -1.3, 1e-4], np.float16)}
    small["variance"] = np.array([0.9, 1.4, 6e3], np.float16)
    weight, x = values(3, 3, 3, 3, dtype=np.float16) / np.float16(4), X * np.float16(300)
    text = f"{HEAD} g (float16[k,3,6,6] x) => (float16[k,3,4,4] y) {{ y = Conv (x, w, b) }}"
    norm = "c = Conv (x, w) y = BatchNormalization (c, gamma, beta, mean, variance)"
    whole = text.replace("y = Conv (x, w, b)", norm)
    before = model(whole, w=weight, **{**small, "beta": small["mean"] * 0})
    assert types(folded(before)) == types(before)
    assert "too small for all digits of float16" in reasons(before)[0]
    scale = small["gamma"].astype(np.float64) / np.sqrt(small["variance"].astype(np.float64) + 1e-5)
    merged, shift = weight * scale[:, None, None, None], -small["mean"] * scale
    refused = model(text, w=merged.astype(np.float16), b=shift.astype(np.float16))
    exact = model(text.replace("float16", "double"), w=merged, b=shift)
    wanted = np.array(ReferenceEvaluator(exact).run(None, {"x": x.astype(np.float64)}))[0]
    errors = [np.abs(values_of(one, {"x": x})["y"][:, 2] - wanted[:, 2]).max() for one in (before, refused)]
    assert errors[1] > 20 * errors[0] > 0


def test_a_model_of_both_types_of_two_bytes_folds() -> None:
    """numpy has no common type of them."""
    nodes = "c = MatMul (x, w) y = Mul (c, s) d = MatMul (z, v) u = Mul (d, t)"
    ports = "(float16[n,4] x, bfloat16[n,4] z) => (float16[n,3] y, bfloat16[n,3] u)"
    half = {"w": values(4, 3, dtype=np.float16), "s": values(3, seed=3, dtype=np.float16)}
    other = {"v": values(4, 3, seed=4, dtype=bfloat16), "t": values(3, seed=6, dtype=bfloat16)}
    before = model(f"{HEAD.replace('17', '22').replace('8,', '10,')} g {ports} {{ {nodes} }}", **half, **other)
    after = folded(before)
    assert types(after) == ["MatMul", "MatMul"]
    found, was = stored(after), {name: one.astype(np.float64) for name, one in (half | other).items()}
    np.testing.assert_allclose(found["w"], was["w"] * was["s"], rtol=1e-3)
    np.testing.assert_allclose(found["v"].astype(np.float64), was["v"] * was["t"], rtol=8e-3)


def _scaled(weight: Array) -> Array:
    return weight * np.array([1, 1.03, 1], np.float16).reshape(3, 1, 1, 1)


def _swapped(weight: Array) -> Array:
    return weight[[1, 0, 2]]


@pytest.mark.parametrize("spoil", [None, _scaled, _swapped])
def test_its_proof_can_fail(run: Run, tmp_path: Path, spoil: Callable[[Array], Array] | None) -> None:
    before, out = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(made(NORM), before)
    assert run("fold", str(before), "-o", str(out)).code == 0
    after = onnx.load(out)
    assert types(after) == ["Conv"]
    if spoil is not None:
        (weight,) = (tensor for tensor in after.graph.initializer if len(tensor.dims) == 4)
        weight.CopyFrom(numpy_helper.from_array(spoil(numpy_helper.to_array(weight)), weight.name))
        onnx.save(after, out)
    assert run("diff", str(before), str(out)).code == (spoil is not None)
