"""What onnxruntime makes of a folded model has no more nodes than what it makes of the model as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper
from onnx_cases import run
from onnx_texts import folded, model, net_of, reasons, types, values

from bnfold import fold

LEVELS = [f"ORT_ENABLE_{name}" for name in ("BASIC", "EXTENDED", "ALL")]


def optimised(proto: ModelProto, path: Path, level: str = "ORT_ENABLE_ALL") -> Counter[str]:
    """The operators of the graph that onnxruntime runs, each with how many there are."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path / f"{level}.onnx")
    options.log_severity_level = 3  # that such a model fits this computer alone is no matter
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(types(onnx.load(options.optimized_model_filepath)))


def assert_no_more_nodes(before: ModelProto, after: ModelProto, path: Path) -> None:
    """At every level, and with the same values."""
    for level in LEVELS:
        was, now = optimised(before, path, level), optimised(after, path, level)
        assert now.total() <= was.total(), f"{level}: {was} -> {now}"
    given = {}
    for place, port in enumerate(before.graph.input, 60):
        tensor = port.type.tensor_type
        drawn = values(*(size.dim_value for size in tensor.shape.dim), seed=place)
        given[port.name] = drawn.astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    for name, wanted in run(before, given).items():
        np.testing.assert_allclose(run(after, given)[name], wanted, rtol=1e-4, atol=1e-4)


TRIPLE = {name: values(4, 4, seed=seed) for seed, name in enumerate(("u", "v", "w"), 20)}
"""The weights of query, key and value."""
PRODUCTS = "q = MatMul ({0}, u) k = MatMul ({0}, v) m = MatMul ({0}, w)"


@pytest.mark.parametrize(
    "nodes",
    [
        f"a = Add (x, h) {PRODUCTS.format('a')} y = Concat <axis = 2> (q, k, m)",
        f"b = Mul (x, s) a = Add (b, h) {PRODUCTS.format('a')} y = Concat <axis = 2> (q, k, m)",
        f"{PRODUCTS.format('x')} c = Concat <axis = 2> (q, k, m) y = Add (c, g)",
    ],
)
def test_a_shift_stays_where_more_than_one_product_without_a_bias_would_take_it(nodes: str, tmp_path: Path) -> None:
    held = {"h": values(4, seed=2), "s": values(4, seed=3), "g": values(12, seed=4)}
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,12] y) {{ {nodes} }}',
        **TRIPLE,
        **{name: value for name, value in held.items() if f", {name})" in nodes},
    )
    after = folded(before)
    assert Counter(types(after)) == {"Add": 1, "Concat": 1, "MatMul": 3}
    assert_no_more_nodes(before, after, tmp_path)
    assert "layer 'q' (MatMul) and 2 more have no bias, and each would need another layer that adds one" in str(
        reasons(before)
    )


def test_a_shift_stays_in_front_of_two_products_until_one_of_them_has_a_bias() -> None:
    """The Sub behind one is its bias; one Add more for the other is no more than the one that goes."""
    head = '<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,8] y)'
    two = "a = Add (x, h) q = MatMul (a, u) k = MatMul (a, v)"
    held = {"h": values(4, seed=2), "u": TRIPLE["u"], "v": TRIPLE["v"]}
    alone = model(f"{head} {{ {two} y = Concat <axis = 2> (q, k) }}", **held)
    assert types(folded(alone)) == types(alone)
    before = model(f"{head} {{ {two} m = Sub (q, s) y = Concat <axis = 2> (m, k) }}", **held, s=values(4, seed=3))
    after = folded(before)
    assert Counter(types(after)) == {"MatMul": 2, "Add": 2, "Concat": 1}
    assert folded(after).SerializeToString() == after.SerializeToString()
    x = values(1, 3, 4, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-5)


def test_a_shift_goes_into_products_that_have_a_bias(tmp_path: Path) -> None:
    """Or that get one at no cost, as a Gemm."""
    shifted = " ".join(f"{name}b = Add ({name}, {name}h)" for name in "qkm")
    nodes = f"a = Add (x, h) {PRODUCTS.format('a')} {shifted} y = Concat <axis = 2> (qb, kb, mb)"
    biases = {f"{name}h": values(4, seed=seed) for seed, name in enumerate("qkm", 30)}
    with_biases = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,12] y) {{ {nodes} }}',
        h=values(4, seed=2),
        **TRIPLE,
        **biases,
    )
    of_matrices = model(
        '<ir_version: 8, opset_import: ["" : 17]> n (float[3,4] x) => (float[3,12] y) { '
        f"a = Add (x, h) {PRODUCTS.format('a')} y = Concat <axis = 1> (q, k, m) }}",
        h=values(4, seed=2),
        **TRIPLE,
    )
    for before in (with_biases, of_matrices):
        after = folded(before)
        assert len(types(after)) == len(types(before)) - 1
        assert_no_more_nodes(before, after, tmp_path)


@pytest.mark.parametrize("columns", [3, 5])
@pytest.mark.parametrize("front", ["Add (x, h)", "BatchNormalization (x, h, b, m, v)"])
def test_an_affine_goes_into_a_single_product_without_a_bias(columns: int, front: str) -> None:
    """What adds the bias behind it is one node, as what stood in front was."""
    named = {"h": values(4, seed=2)}
    if "Batch" in front:
        named |= {"b": values(4, seed=4), "m": values(4, seed=5), "v": np.abs(values(4, seed=6))}
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[2,4,3] x) => (float[2,3,{columns}] y) '
        f"{{ a = {front} t = Transpose <perm = [0, 2, 1]> (a) y = MatMul (t, w) }}".replace(
            "Add (x, h)", "Add (x, hc)"
        ),
        w=values(4, columns, seed=3),
        **({"hc": values(4, 1, seed=2)} if "Add" in front else named),
    )
    after = folded(before)
    assert types(after) == ["Transpose", "MatMul", "Add"]
    x = values(2, 4, 3, seed=7)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-5)


WHOLE = np.random.default_rng(0).integers(-100, 100, (4, 4), dtype=np.int8)
QUANTISED = "q, s, z = DynamicQuantizeLinear (x) m = MatMulInteger (q, n, z) f = Cast <to = 1> (m) k = Mul (s, t)"


@pytest.mark.parametrize(
    ("behind", "left"),
    [
        ("g = Mul (f, k) c = Mul (g, u) y = Add (c, b)", ["Mul", "Add"]),
        ("g = Mul (k, f) c = Add (g, b) d = Tanh (c) e = Mul (d, u) y = Sin (e)", ["Add", "Tanh", "Mul", "Sin"]),
        ("g = Mul (f, k) a = Add (b, g) c = Mul (a, half) y = MatMul (c, w)", ["Add", "MatMul"]),
    ],
)
def test_a_product_of_data_that_are_quantised_as_it_runs_stays_one_node(
    behind: str, left: list[str], tmp_path: Path
) -> None:
    held: dict[str, Any] = {
        "t": 0.02,
        "u": values(4, seed=3),
        "b": values(4, seed=4),
        "half": 0.5,
        "w": values(4, 4, seed=5),
    }
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,4] y) {{ {QUANTISED} {behind} }}',
        n=WHOLE,
        **{
            name: np.array(value, np.float32)
            for name, value in held.items()
            if f"{name})" in QUANTISED + behind or name == "b"
        },
    )
    after = folded(before)
    assert types(after)[-len(left) :] == left
    assert optimised(after, tmp_path)["DynamicQuantizeMatMul"] == 1
    assert_no_more_nodes(before, after, tmp_path)
    assert "quantised MatMul, written as several nodes, stays so" in "".join(fold(net_of(before)).report.notes)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_number_that_is_added_to_such_a_product_goes_on_into_the_next(shape: tuple[int, ...], tmp_path: Path) -> None:
    """It is no bias to onnxruntime, which wants one value for each column."""
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,4] y) '
        f"{{ {QUANTISED} g = Mul (f, k) a = Add (g, b) c = MatMul (a, w) y = Add (c, h) }}",
        n=WHOLE,
        t=np.array(0.02, np.float32),
        b=np.full(shape, 0.5, np.float32),
        w=values(4, 4, seed=5),
        h=values(4, seed=6),
    )
    after = folded(before)
    assert types(after) == [operator for operator in types(before) if operator != "Add"] + ["Add"]
    assert optimised(after, tmp_path)["DynamicQuantizeMatMul"] == 1
    x = values(1, 3, 4, seed=7)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("behind", "ports"),
    [
        ("g = Mul (f, k) c = Mul (g, u) y = Sin (c)", ", float[] k"),
        ("g = Mul (f, k) h = Mul (f, k) c = Mul (g, u) e = Tanh (h) d = Sin (c) y = Add (d, e)", ""),
        ("g = Mul (f, k) c = Mul (g, u) j = Neg (k) e = Tanh (j) d = Sin (c) y = Add (d, e)", ""),
    ],
)
def test_a_product_whose_parts_are_read_elsewhere_is_no_such_pattern(behind: str, ports: str) -> None:
    """Its scale is an output or read elsewhere, or the whole numbers are."""
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x) => (float[1,3,4] y{ports}) '
        f"{{ {QUANTISED} {behind} }}",
        n=WHOLE,
        t=np.array(0.02, np.float32),
        u=values(4, seed=3),
    )
    assert not any("quantised MatMul" in note for note in fold(net_of(before)).report.notes)


def test_a_product_of_other_data_than_its_scale_is_of_is_no_such_pattern() -> None:
    quantised = QUANTISED.replace("MatMulInteger (q, ", "MatMulInteger (o, ")
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x, uint8[1,3,4] o) => (float[1,3,4] y) '
        f"{{ {quantised} g = Mul (f, k) c = Mul (g, u) y = Sin (c) }}",
        n=WHOLE,
        t=np.array(0.02, np.float32),
        u=values(4, seed=3),
    )
    assert not fold(net_of(before)).report.notes
    after, o = folded(before), np.random.default_rng(1).integers(0, 255, (1, 3, 4), dtype=np.uint8)
    feeds = {"x": values(1, 3, 4, seed=7), "o": o}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-4, atol=1e-4)


def _projected(name: str, axes: str) -> str:
    """Queries, keys or values, one for each of two heads."""
    return f"""
        {name}m = MatMul (n, {name}w) {name}a = Add ({name}m, {name}b) {name}r = Reshape ({name}a, apart)
        {name} = Transpose <perm = {axes}> ({name}r)
    """


ATTENTION = f"""
    n = LayerNormalization <axis = -1> (x, g, b) {_projected("q", "[0,2,1,3]")} {_projected("k", "[0,2,3,1]")}
    {_projected("v", "[0,2,1,3]")} t = MatMul (q, k) {{scaled}} p = Softmax <axis = 3> (l) o = MatMul (p, v)
    oo = Transpose <perm = [0,2,1,3]> (o) j = Reshape (oo, joined) e = MatMul (j, w) f = Add (e, b) r = Add (f, n)
    y = LayerNormalization <axis = -1> (r, g, b)
"""
MASK = """
    m1 = Unsqueeze <axes = [1]> (mask) m2 = Unsqueeze <axes = [2]> (m1) m3 = Cast <to = 1> (m2) m4 = Sub (one, m3)
    m = Mul (m4, least)
"""


def _attention(scaled: str, ports: str, opset: int = 17) -> ModelProto:
    weights = {name: values(8, 8, seed=seed) for seed, name in enumerate(("qw", "kw", "vw", "w"), 40)}
    vectors = {name: values(8, seed=seed) for seed, name in enumerate(("qb", "kb", "vb", "g", "b"), 50)}
    numbers = {"one": 1.0, "least": -10000.0, "root": 2.0, "inverse": 0.5}
    nodes = (MASK if "mask" in ports else "") + ATTENTION.format(scaled=scaled)
    return model(
        f'<ir_version: 7, opset_import: ["" : {opset}]> n (float[1,3,8] x{ports}) => (float[1,3,8] y) {{ {nodes} }}',
        apart=np.array([0, 0, 2, 4]),
        joined=np.array([0, 0, 8]),
        **weights,
        **vectors,
        **{name: np.array(value, np.float32) for name, value in numbers.items() if name in nodes},
    )


def test_the_attention_of_a_bert_stays_one_node(tmp_path: Path) -> None:
    before = _attention("d = Div (t, root) l = Add (d, m)", ", int64[1,3] mask", opset=12)
    after = folded(before)
    assert optimised(after, tmp_path)["Attention"] == 1
    assert_no_more_nodes(before, after, tmp_path)
    assert "1 attention, written as several nodes, stays so" in "".join(fold(net_of(before)).report.notes)


def test_the_scale_of_an_attention_stays_in_front_of_a_mask_that_is_given(tmp_path: Path) -> None:
    """Tools that optimise a model before it is run make one node of it, whatever its mask is."""
    for scaled in ("d = Mul (t, inverse) l = Add (m, d)", "d = Div (t, root) l = Add (d, m)"):
        before = _attention(scaled, ", float[1,1,1,3] m")
        after = folded(before)
        assert types(after) == types(before)
        assert_no_more_nodes(before, after, tmp_path)


@pytest.mark.parametrize(
    ("scores", "mask", "left"),
    [
        ("t = MatMul (x, x) d = Div (t, two)", "i = Sub (one, m) k = Mul (i, v)", "MatMul Div Sub Mul Add Softmax"),
        ("t = MatMul (x, x) d = Div (t, two)", "i = Sub (m, v) k = Mul (i, three)", "MatMul Div Add Mul Add Softmax"),
        ("t = MatMul (x, x) d = Mul (t, v)", "k = Neg (m)", "MatMul Mul Mul Add Softmax"),
        ("t = MatMul (x, w) d = Div (t, two)", "k = Neg (m)", "MatMul Mul Add Softmax"),
    ],
)
def test_what_is_built_nearly_as_an_attention_with_a_mask_is_folded(scores: str, mask: str, left: str) -> None:
    """The mask is made with a vector, the scale is one, or the product is of a weight."""
    nodes = f"{scores} m = Mul (mask, three) {mask} l = Add (d, k) y = Softmax (l)"
    text = f"n (float[1,4,4] x, float[1,1,4] mask) => (float[1,4,4] y) {{ {nodes} }}"
    held = {"v": values(4, seed=3), "w": values(4, 4)}
    held |= {name: np.array(value, np.float32) for name, value in {"one": 1, "two": 2, "three": -3}.items()}
    before = model(
        f'<ir_version: 7, opset_import: ["" : 17]> {text}',
        **{name: value for name, value in held.items() if f"{name})" in nodes or f"({name}" in nodes},
    )
    after = folded(before)
    assert types(after) == left.split()
    assert bool(fold(net_of(before)).report.notes) == ("MatMul Div" in left)
    feeds = {"x": values(1, 4, 4, seed=7), "mask": values(1, 1, 4, seed=8)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_the_scale_of_an_attention_without_a_mask_goes_into_the_queries(tmp_path: Path) -> None:
    before = _attention("l = Div (t, root)", "")
    after = folded(before)
    assert "Div" not in types(after)
    assert_no_more_nodes(before, after, tmp_path)


def test_patterns_of_several_kinds_are_counted_in_one_sentence() -> None:
    gelu = "d = Div (g, root) e = Erf (d) a = Add (e, one) h = Mul (g, a) i = Mul (h, half)"
    looking = "j = Transpose <perm = [0,2,1]> (i) o = MatMul (i, j) u = Div (o, two) l = Add (u, mask) y = Softmax (l)"
    nodes = f"{QUANTISED} g = Mul (f, k) {gelu} {looking}"
    numbers = {"half": 0.5, "one": 1.0, "root": 2.0**0.5, "t": 0.02, "two": 2.0}
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> n (float[1,3,4] x, float[1,1,3] mask) => (float[1,3,3] y) '
        f"{{ {nodes} }}",
        n=WHOLE,
        **{name: np.array(value, np.float32) for name, value in numbers.items()},
    )
    (note,) = fold(net_of(before)).report.notes
    assert note.startswith("1 quantised MatMul, 1 GELU and 1 attention, written as several nodes each, stay so")
