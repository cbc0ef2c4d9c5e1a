"""Constants that vary over space, as position embeddings do, and those that are added to rows of a table."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, run
from onnx_texts import folded, model, reasons, statistics, types, values

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
NORM = "BatchNormalization (%s, gamma, beta, mean, variance)"
UP = "BatchNormalization (e, variance, beta, mean, variance)"
SUMMED = ["Conv", "Sub", "Conv", "Sub", "Add"]
IMAGE = {"x": values(2, 3, 6, 6, seed=5)}
ROWS = {"i": np.array([[1, 4, 2], [0, 3, 4]])}


def image(nodes: str) -> ModelProto:
    constants = {"w": values(3, 3, 3, 3), "u": values(3, 3, 3, 3, seed=9), "b": values(3, seed=2)}
    constants |= {
        "m": values(1, 3, 4, 4, seed=8),
        "plane": values(4, 4, seed=8),
        "n": values(3, 6, 6, seed=4),
        **statistics(),
    }
    return model(f"{HEAD} g (float[k,3,6,6] x) => (float[k,3,h,v] y) {{ {nodes} }}", **constants)


def rows(nodes: str, outputs: str = "float[k,3,4] y") -> ModelProto:
    constants = {"t": values(5, 4), "v": values(4, seed=2), "s": values(1, 1, 4, seed=3), "r": values(3, 4, seed=7)}
    return model(f"{HEAD} g (int64[k,3] i) => ({outputs}) {{ {nodes} }}", **constants, n=values(4, 5, seed=5))


def assert_same(before: ModelProto, after: ModelProto, feeds: dict[str, Array]) -> None:
    """By onnxruntime, and by onnx's own evaluator."""
    wanted = ReferenceEvaluator(before).run(None, feeds)
    for found in (ReferenceEvaluator(after).run(None, feeds), run(after, feeds).values()):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (f"c = Conv (x, w) d = Add (c, m) y = {NORM % 'd'}", ["Conv", "Add"]),
        (f"c = Conv (x, w, b) d = Sub (c, m) y = {NORM % 'd'}", ["Conv", "Add"]),
        (f"c = Conv (x, w) d = Sub (m, c) y = {NORM % 'd'}", ["Conv", "Sub"]),
        (f"c = Conv (x, w) d = Sub (m, c) e = Conv (x, u) f = Sub (m, e) g = Add (d, f) y = {NORM % 'g'}", SUMMED),
        (
            f"c = Conv (x, w) d = Add (m, c) e = Conv (x, u) f = Add (d, e) y = {NORM % 'f'}",
            ["Conv", "Add", "Conv", "Add"],
        ),
        (
            f"c = Conv (x, w) d = Add (c, m) e = MaxPool <kernel_shape = [2, 2]> (d) y = {UP}",
            ["Conv", "Add", "MaxPool"],
        ),
        (f"c = {NORM % 'x'} d = Add (c, n) y = Conv (d, w)", ["Add", "Conv"]),
        (f"c = {NORM % 'x'} d = Sub (n, c) y = Conv (d, w)", ["Sub", "Conv"]),
    ],
)
def test_a_batch_normalization_passes_a_map_of_constants(nodes: str, left: list[str]) -> None:
    before = image(nodes)
    after = folded(before)
    assert types(after) == left
    assert types(folded(after)) == types(after)
    assert_same(before, after, IMAGE)


def test_a_map_that_would_get_more_values_stays_and_what_stands_behind_it() -> None:
    before = image(f"c = Conv (x, w) d = Add (c, plane) y = {NORM % 'd'}")
    assert types(folded(before)) == types(before)
    assert "vary along the axes of both" in reasons(before)[1]


def test_a_shift_stays_behind_a_map_in_front_of_what_takes_none() -> None:
    """The map is no way around a padding: beside the border the shift would be missing."""
    before = image(f"c = {NORM % 'x'} d = Add (c, n) y = Conv <pads = [1, 1, 1, 1]> (d, w)")
    after = folded(before)
    assert types(after) == types(before)
    refused = folded(image(f"c = {NORM % 'x'} d = Add (c, n) y = Conv (d, w)"))
    refused.graph.node[1].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    found, wanted = (run(one, IMAGE)["y"] for one in (refused, before))
    np.testing.assert_allclose(found[:, :, 1:-1, 1:-1], wanted[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)
    assert np.abs(found - wanted).max() > 0.1


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (f"c = Conv (x, w, b) d = {NORM % 'c'} y = Add (d, d)", ["Conv"]),
        ("c = Conv (x, w, b) d = Identity (c) e = Sum (c, d, c) y = Relu (e)", ["Conv", "Relu"]),
        ("c = Conv (x, w, b) d = Tanh (c) e = Add (d, d) y = Tanh (e)", ["Conv", "Tanh", "Add", "Tanh"]),
        (f"c = Conv (x, w) d = Tanh (c) e = Add (d, d) y = {NORM % 'e'}", ["Conv", "Tanh", "BatchNormalization"]),
        ("c = Conv (x, w, b) y = Sub (c, c)", ["Conv", "Sub"]),
    ],
)
def test_a_sum_of_one_blob_is_a_factor(nodes: str, left: list[str]) -> None:
    before = image(nodes)
    after = folded(before)
    assert types(after) == left
    assert folded(after) == after
    assert_same(before, after, IMAGE)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("c = Gather (t, i) y = Add (c, v)", ["Gather"]),
        ("c = Gather (t, i) d = Mul (c, s) y = Sub (v, d)", ["Gather"]),
        ("c = Gather (t, i) d = Add (c, v) y = Add (d, r)", ["Gather", "Add"]),
    ],
)
def test_an_embedding_takes_what_is_added_to_its_rows(nodes: str, left: list[str]) -> None:
    before = rows(nodes)
    after = folded(before)
    assert types(after) == left
    assert_same(before, after, ROWS)


def test_a_table_that_others_read_is_not_stored_twice() -> None:
    before = rows("c = Gather (t, i) y = Add (c, v) z = MatMul (n, t)", "float[k,3,4] y, float[4,4] z")
    assert types(folded(before)) == types(before)
    assert "others read its table, too" in reasons(before)[0]


def test_what_varies_along_positions_is_not_added_to_a_table() -> None:
    before = rows("c = Gather (t, i) y = Add (c, r)")
    assert types(folded(before)) == types(before)
    assert "varies along axis 1" in reasons(before)[0]


BEHIND = ["y = BatchNormalization (d, gamma, beta, mean, variance)", "e = Add (d, v) y = Relu (e)", "y = Sub (v, d)"]


def scattered(nodes: str, zeros: str = "z = ConstantOfShape (many)", reduction: str = "none") -> ModelProto:
    """Rows of a product, put or added onto zeros, of which some stay."""
    places = [[2], [3], [2], [8], [0], [1], [3]] if reduction == "add" else [[2], [3], [4], [8], [0], [1], [5]]
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g (float[7,3] x) => (float[n,4] y) {{
    f = MatMul (x, w) {zeros} d = ScatterND <reduction = "{reduction}"> (z, i, f) {nodes} }}"""
    held = {"w": values(3, 4), "v": values(4, seed=2), "i": np.array(places), "many": np.array([9, 4])}
    read = {name: one for name, one in held.items() if name in f"{nodes}wi" or name in zeros}
    return model(text, **read, **(statistics(4) if "gamma" in nodes else {}))


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("behind", BEHIND)
def test_zeros_that_rows_are_scattered_onto_take_a_shift(behind: str, reduction: str) -> None:
    """As those that a graph's messages are added onto. What the product adds goes to the rows, and never twice."""
    before = scattered(behind, reduction=reduction)
    after = folded(before)
    left = ["MatMul" if reduction == "add" else "Gemm", "ScatterND", *["Relu"] * ("Relu" in behind)]
    assert types(after) == left
    assert_same(before, after, {"x": values(7, 3, seed=9)})


@pytest.mark.parametrize(
    "nodes", ["y = Mul (d, v)", "e = Mul (d, v) y = Add (e, v)", f"{BEHIND[1]} k = Relu (d)", "y = Add (d, x2)"]
)
def test_zeros_that_nothing_is_added_to_alone_stay_zeros(nodes: str) -> None:
    nodes = nodes.replace("x2", "d")
    before = scattered(nodes)
    after = folded(before)
    assert "ConstantOfShape" in types(after)
    assert_same(before, after, {"x": values(7, 3, seed=9)})


def test_so_many_zeros_that_a_model_would_grow_by_them_stay_zeros() -> None:
    before = scattered(BEHIND[0])
    many = before.graph.initializer[[one.name for one in before.graph.initializer].index("many")]
    many.CopyFrom(numpy_helper.from_array(np.array([1 << 19, 4]), "many"))
    assert types(folded(before)) == types(before)


def test_zeros_that_take_no_shift_are_what_they_were() -> None:
    """Rows lie anywhere along the axis along which the shift varies."""
    before = scattered("y = Add (d, r)")
    before.graph.initializer.append(numpy_helper.from_array(values(9, 1, seed=6), "r"))
    assert folded(before) == before
