"""Functions written in several nodes, which runtimes know by these and compute as one: a fold keeps them so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import run
from onnx_texts import folded, model, net_of, stored, types, values

from bnfold import fold

HEAD = '<ir_version: 8, opset_import: ["" : 13]>'
NUMBERS = {
    "c": 0.044715,
    "eps": 1e-5,
    "half": 0.5,
    "inverse": 0.70710678,
    "one": 1.0,
    "p": 0.7978845608,
    "q": 1.702,
    "root": 1.4142135,
    "three": 3.0,
    "two": 2.0,
}
X = values(2, 3, 4, seed=5)

ERF = "d = Div (x, root) e = Erf (d) a = Add (e, one)"
TANH = "k = Pow (x, three) l = Mul (k, c) s = Add (x, l) d = Mul (s, p) e = Tanh (d) a = Add (e, one)"
FUSED = {
    f"{ERF} m = Mul (x, a) y = Mul (m, half)": "Gelu",
    f"{ERF} h = Mul (x, half) y = Mul (h, a)": "Gelu",
    f"{TANH} h = Mul (x, half) y = Mul (h, a)": "FastGelu",
    """j = Mul (x, c) k = Mul (j, x) l = Add (k, one) n = Mul (x, p) d = Mul (n, l) e = Tanh (d)
    a = Add (e, one) h = Mul (x, half) y = Mul (h, a)""": "FastGelu",
    "d = Mul (x, q) e = Sigmoid (d) y = Mul (x, e)": "QuickGelu",
    "d = Mul (two, x) e = Sigmoid (d) y = Mul (e, x)": "QuickGelu",
}
"""GELU and its approximations -> what onnxruntime makes of them."""
OTHERWISE = [
    "d = Mul (inverse, x) e = Erf (d) a = Add (one, e) m = Mul (a, x) y = Mul (half, m)",
    "d = Div (x, root) e = Erf (d) h = Mul (e, half) a = Add (h, half) y = Mul (x, a)",
    f"{ERF} m = Mul (x, a) y = Div (m, two)",
    f"{TANH} m = Mul (x, a) y = Mul (m, half)",
]
"""Other forms of GELU, which other runtimes know."""
CENTRED = "u = ReduceMean <axes = [-1]> (x) t = Sub (x, u)"
SPREAD = "k = Pow (t, two) v = ReduceMean <axes = [2]> (k) e = Add (v, eps) r = Sqrt (e)"
SQUARES = SPREAD.replace("(t, two)", "(x, two)")
NORMALISED = {
    f"{CENTRED} {SPREAD} n = Div (t, r) m = Mul (n, g) y = Add (m, b)": "LayerNormalization",
    f"{CENTRED} o = Sub (x, u) {SPREAD} n = Div (o, r) m = Mul (g, n) y = Add (b, m)": "LayerNormalization",
    f"{CENTRED} {SPREAD} n = Div (t, r) y = Mul (n, g)": "SimplifiedLayerNormalization",
    f"{SQUARES} n = Div (x, r) y = Mul (n, g)": "SimplifiedLayerNormalization",
    f"{SQUARES} i = Div (one, r) n = Mul (x, i) y = Mul (g, n)": "SimplifiedLayerNormalization",
}
"""Normalisations -> what onnxruntime makes of them."""


def between(nodes: str, behind: str = "z = MatMul (y, w2)", more: str = "") -> onnx.ModelProto:
    """Nodes between two products, which could take numbers and vectors."""
    text = f"{HEAD} g (float[n,3,4] data) => (float[n,3,5] z{more}) {{ x = MatMul (data, w1) {nodes} {behind} }}"
    arrays = {
        name: np.array(number, np.float32) for name, number in NUMBERS.items() if f" {name}" in nodes.replace("(", " ")
    }
    arrays |= {name: values(6, seed=seed) for seed, name in enumerate("gb", 3) if f"{name}" in nodes}
    return model(text, w1=values(4, 6), w2=values(6, 5, seed=2), **arrays)


def optimised(made: onnx.ModelProto, folder: Path) -> list[str]:
    """The operators that onnxruntime runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return types(onnx.load(options.optimized_model_filepath))


@pytest.mark.parametrize(("nodes", "function"), [*FUSED.items(), *NORMALISED.items()])
def test_what_onnxruntime_computes_as_one_node_is_one_after_a_fold(nodes: str, function: str, tmp_path: Path) -> None:
    before = between(nodes)
    assert function in optimised(before, tmp_path)
    assert optimised(folded(before), tmp_path) == optimised(before, tmp_path)


@pytest.mark.parametrize("nodes", [*FUSED, *OTHERWISE, *NORMALISED])
def test_a_function_of_several_nodes_stays_byte_for_byte(nodes: str) -> None:
    before = between(nodes)
    assert folded(before).SerializeToString() == before.SerializeToString()
    report = fold(net_of(before)).report
    assert not report.records
    (note,) = report.notes
    assert note.endswith("written as several nodes, stays so: runtimes recognise it and compute it as one node")


@pytest.mark.parametrize(
    "nodes",
    [
        f"{ERF} y = Mul (x, a)",  # twice GELU
        f"{ERF.replace('root', 'two')} m = Mul (x, a) y = Mul (m, half)",
        f"{ERF.replace('one', 'half')} m = Mul (x, a) y = Mul (m, half)",
        f"{TANH.replace('c)', 'half)')} h = Mul (x, half) y = Mul (h, a)",
        "d = Mul (x, q) e = Sigmoid (d) m = Mul (x, e) y = Mul (m, two)",
        f"{CENTRED} {SPREAD} n = Div (t, r) y = Mul (n, g)".replace("[2]", "[1]"),
        f"{SQUARES} n = Div (r, x) y = Mul (n, g)",
        f"{CENTRED} {SPREAD} n = Div (x, r) y = Mul (n, g)",
        f"{CENTRED} {SQUARES} n = Div (t, r) y = Mul (n, g)",
        f"{SQUARES.replace('(x, two)', '(two, x)')} n = Div (x, r) y = Mul (n, g)",
        f"{SQUARES.replace('Pow (x, two)', 'Mul (x, two)')} n = Div (x, r) y = Mul (n, g)",
    ],
)
def test_what_is_nearly_such_a_function_is_taken_apart(nodes: str) -> None:
    """Of each a number or vector goes into a product, and the result is the same."""
    before = between(nodes)
    after = folded(before)
    assert len(types(after)) < len(types(before))
    np.testing.assert_allclose(run(after, {"data": X})["z"], run(before, {"data": X})["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nodes", ["e = Sigmoid (x) y = Mul (x, e)", "e = Sigmoid (x) m = Mul (x, e) y = Mul (m, two)"])
def test_a_swish_is_no_pattern(nodes: str) -> None:
    """There is no number in it that could go elsewhere, and one behind it may."""
    before = between(nodes)
    after = folded(before)
    assert types(after) == ["MatMul", "Sigmoid", "Mul", "MatMul"]
    assert not fold(net_of(before)).report.notes
    np.testing.assert_allclose(run(after, {"data": X})["z"], run(before, {"data": X})["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("d = Mul (x, g) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)", ""),
        ("d = Mul (x, q) e = Sigmoid (d) i = Div (one, e) y = Div (x, i)", ""),
        (f"o = Neg (x) {SPREAD.replace('(t', '(o')} n = Div (x, r) y = Mul (n, g)", ""),
        (f"{SQUARES.replace('(v, eps)', '(v, v)')} n = Div (x, r) y = Mul (n, g)", ""),
        (f"{SQUARES} i = Div (r, one) n = Mul (x, i) y = Mul (n, g)", ""),
        (f"{SQUARES} i = Div (two, r) n = Mul (x, i) y = Mul (n, g)", ""),
        (f"t = Sub (x, b) {SPREAD} n = Div (t, r) y = Mul (n, g)", "RMSNormalization"),
        (f"{CENTRED.replace('[-1]', '[1]')} {SPREAD} n = Div (t, r) m = Mul (n, g) y = Add (m, b)", "RMSNormalization"),
        (
            f"o = Neg (x) {CENTRED.replace('(x)', '(o)')} {SPREAD} n = Div (t, r) m = Mul (n, g) y = Add (m, b)",
            "RMSNormalization",
        ),
    ],
)
def test_what_is_built_nearly_as_a_pattern_is_none_or_a_smaller_one(nodes: str, left: str) -> None:
    before = between(nodes)
    after = folded(before)
    notes = fold(net_of(before)).report.notes
    assert [note.split(",")[0] for note in notes] == ([f"1 {left}"] if left else [])
    np.testing.assert_allclose(run(after, {"data": X})["z"], run(before, {"data": X})["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_that_loses_its_axis_makes_no_normalisation(keepdims: int) -> None:
    """Of a square matrix it divides the columns by what it is of the rows."""
    nodes = f"{SQUARES} n = Div (x, r) m = Mul (n, g) y = Mul (m, f)".replace("[2]>", f"[1], keepdims = {keepdims}>")
    before = model(
        f"{HEAD} g (float[4,4] x) => (float[4,4] y) {{ {nodes} }}",
        g=values(4, seed=3),
        f=values(4, seed=4),
        **{name: np.array(NUMBERS[name], np.float32) for name in ("eps", "two")},
    )
    after, x = folded(before), values(4, 4, seed=5)
    assert len(types(after)) == len(types(before)) - 1
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-5)
    assert bool(fold(net_of(before)).report.notes) == bool(keepdims)


@pytest.mark.parametrize("read", ["d", "a", "m"])
def test_a_function_of_which_somebody_reads_a_part_is_none(read: str) -> None:
    """onnxruntime cannot make one node of it."""
    nodes = next(iter(FUSED))
    before = between(nodes, more=f", float[n,3,6] {read}")
    after = folded(before)
    for name in ("z", read):
        np.testing.assert_allclose(run(after, {"data": X})[name], run(before, {"data": X})[name], rtol=1e-5, atol=1e-5)
    assert not fold(net_of(before)).report.notes


@pytest.mark.parametrize("nodes", NORMALISED)
@pytest.mark.parametrize("shift", [False, True])
def test_what_a_normalisation_multiplies_and_adds_last_takes_an_affine_from_behind(nodes: str, shift: bool) -> None:
    """Where it adds nothing, a shift has no place in it."""
    behind = "w = Mul (y, f) " + ("z = Add (w, h)" if shift else "z = Neg (w)")
    text = f"{HEAD} g (float[n,3,6] x) => (float[n,3,6] z) {{ {nodes} {behind} }}"
    arrays = {name: np.array(number, np.float32) for name, number in NUMBERS.items()}
    arrays |= {name: values(6, seed=seed) for seed, name in enumerate("gbfh", 3)}
    before = model(text, **arrays)
    after = folded(before)
    x = values(2, 3, 6, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["z"], run(before, {"x": x})["z"], rtol=1e-5, atol=1e-5)
    adds = " b" in nodes or "(b" in nodes
    assert len(types(before)) - len(types(after)) == (2 if adds or not shift else 1)
    assert stored(after)["eps"] == stored(before)["eps"]


@pytest.mark.parametrize("behind", ["z = Neg (i)", "z = Mul (i, two)", "j = Add (i, two) z = MatMul (j, w)"])
@pytest.mark.parametrize("nodes", ["m = Mul (x, a) i = Mul (m, half)", "h = Mul (x, half) i = Mul (h, a)"])
def test_a_number_of_one_axis_within_a_gelu_takes_nothing_in(nodes: str, behind: str, tmp_path: Path) -> None:
    """A vector of one value, which is no vector that a normalisation multiplies last."""
    nodes = f"{ERF} {nodes} {behind}"
    before = model(
        f"{HEAD} g (float[n,3,6] x) => (float[n,3,6] z) {{ {nodes} }}",
        **{
            name: np.full(1, NUMBERS[name], np.float32)
            for name in ("half", "one", "root", "two")
            if f" {name})" in nodes
        },
        **({"w": values(6, 6)} if " w)" in nodes else {}),
    )
    after = folded(before)
    assert "Gelu" in optimised(after, tmp_path)
    assert len(types(after)) == len(types(before))
    x = values(2, 3, 6, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["z"], run(before, {"x": x})["z"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1, 6), (1, 1, 6), (3, 1), (3, 6)])
@pytest.mark.parametrize("spread", [f"{CENTRED} {SPREAD} n = Div (t, r)", f"{SQUARES} n = Div (x, r)"])
def test_what_is_scaled_by_another_number_of_axes_is_no_normalisation(
    spread: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """onnxruntime makes one node of it only where the scale has the axes of the mean."""
    numbers = {name: np.array(NUMBERS[name], np.float32) for name in ("eps", "two")}
    vectors = {name: values(6, seed=seed) for seed, name in enumerate("fh", 3)}
    before = model(
        f"{HEAD} g (float[n,3,6] x) => (float[n,3,6] z) {{ {spread} m = Mul (n, g) w = Mul (m, f) z = Add (w, h) }}",
        g=values(*shape),
        **numbers,
        **vectors,
    )
    after = folded(before)
    assert not {"LayerNormalization", "SimplifiedLayerNormalization"}.intersection(optimised(before, tmp_path))
    assert not fold(net_of(before)).report.notes
    if shape[:1] != (3,):
        assert len(types(after)) == len(types(before)) - 1
    x = values(2, 3, 6, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["z"], run(before, {"x": x})["z"], rtol=1e-4, atol=1e-5)


def test_a_long_chain_of_gates_is_no_gelu() -> None:
    """It is not followed to its start, which took as many calls inside each other."""
    chain = " ".join(f"t{place + 1} = Tanh (t{place})" for place in range(1200)).replace("(t0)", "(x)")
    made = model(f"{HEAD} g (float[n] x) => (float[n] y) {{ {chain} y = Mul (t1200, x) }}")
    assert not fold(net_of(made)).report.notes


@pytest.mark.parametrize("read", ["t", "u"])
def test_a_normalisation_whose_centred_values_are_read_elsewhere_stays_one_without_a_mean(
    read: str, tmp_path: Path
) -> None:
    nodes = f"{CENTRED} {SPREAD} n = Div (t, r) m = Mul (n, g) y = Add (m, b)"
    before = between(nodes, more=f", float[n,3,d] {read}")
    after = folded(before)
    assert "SimplifiedLayerNormalization" in optimised(before, tmp_path)
    assert optimised(after, tmp_path) == optimised(before, tmp_path)
    np.testing.assert_allclose(run(after, {"data": X})["z"], run(before, {"data": X})["z"], rtol=1e-4, atol=1e-5)


def test_a_cast_in_front_of_the_squares_of_a_normalisation_is_part_of_it(tmp_path: Path) -> None:
    """Older exporters put one there, which changes nothing where data are in float32 and is dropped."""
    spread = SPREAD.replace("Pow (t", "Pow (wide")
    nodes = f"{CENTRED} wide = Cast <to = 1> (t) {spread} n = Div (t, r) m = Mul (n, g) y = Add (m, b)"
    before = between(nodes)
    after = folded(before)
    assert types(after) == [operator for operator in types(before) if operator != "Cast"]
    assert "LayerNormalization" in optimised(before, tmp_path)
    assert optimised(after, tmp_path) == optimised(before, tmp_path)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Add (held, held) s = Softmax (a) y = MatMul (x, s)",
        "k = Mul (held, held) v = ReduceMean <axes = [-1]> (k) e = Add (v, number) r = Sqrt (e) y = Div (x, r)",
        "e = Add (held, number) r = Sqrt (e) y = Div (x, r)",
        "r = Sqrt (held) y = Div (x, r)",
        "y = Softmax (held)",
    ],
)
def test_constants_that_nobody_can_compute_are_no_pattern(nodes: str) -> None:
    """numpy has no bfloat16, so that what reads such constants alone stays a node that reads no blob."""
    before = onnx.parser.parse_model(f"{HEAD} g (bfloat16[4,4] x) => (bfloat16[4,4] y) {{ {nodes} }}")
    for name, shape in {"held": (4, 4), "number": ()}.items():
        if name in nodes:
            held = onnx.helper.make_tensor(name, onnx.TensorProto.BFLOAT16, shape, [1.5] * (16 if shape else 1))
            before.graph.initializer.append(held)
    assert types(folded(before)) == types(before)
    assert not fold(net_of(before)).report.notes
