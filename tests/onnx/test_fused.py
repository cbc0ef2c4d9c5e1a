"""What onnxruntime makes of several nodes, where it writes a model that it has optimised, hides no sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import run
from onnx_texts import assert_equal, folded, model, reasons, statistics, stored, types, values

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'


@pytest.mark.parametrize(
    "made",
    [
        "c = com.microsoft.BiasGelu (k, b)",
        "c = com.microsoft.FastGelu (k, b)",
        'c = com.microsoft.FusedGemm <activation = "Relu"> (f, v)',
        "c = com.microsoft.Gelu (k)",
        "c = com.microsoft.QuickGelu (k)",
        "c = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (k, k, b)",
    ],
)
def test_what_follows_an_operator_of_onnxruntime_has_known_sizes(made: str) -> None:
    """The Flatten says where the channels are only if what it reads has known sizes."""
    nodes = f"k = MatMul (x, v) f = Flatten (x) {made} d = Mul (c, s) e = Flatten (d) y = MatMul (e, w)"
    text = f"{HEAD} g (float[n,3] x) => (float[n,2] y) {{ {nodes} }}"
    before = model(text, v=values(3, 4), b=values(4, seed=2), s=values(4, seed=3), w=values(4, 2, seed=4))
    after = folded(before)
    assert "Mul" not in types(after)
    x = values(5, 3, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


LATER = "r = Relu (m) t = Tanh (r) d = Mul (t, s) e = Reshape (d, k) y = MatMul (e, w)"
"""Of which a Reshape says where the channels are only if what it reads has known sizes."""


@pytest.mark.parametrize(
    ("made", "columns"),
    [
        ("m = com.microsoft.Attention <num_heads = 2> (x, v, b)", 32),
        ("m = com.microsoft.Attention <num_heads = 2, qkv_hidden_sizes = [32, 32, 12]> (x, u, c)", 12),
        ("m = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)", 32),
        ("m = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (x, q, q, , , i, j)", 32),
        ("m = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (x, , , , , i, j)", 16),
        ("n, , , a = com.microsoft.SkipLayerNormalization (x, x, g) m = Add (n, a)", 32),
        ("n, , , m = com.microsoft.SkipSimplifiedLayerNormalization (x, x, g)", 32),
    ],
)
def test_what_follows_farther_behind_an_operator_of_onnxruntime_has_known_sizes(made: str, columns: int) -> None:
    ports = "float[2,3,32] x" + ", float[2,3,16] q" * ("q, q" in made)
    text = f"{HEAD} g ({ports}) => (float[2,z] y) {{ {made} {LATER} }}"
    floats = {"v": values(32, 96), "u": values(32, 76), "b": values(96, seed=2), "c": values(76), "g": values(32)}
    held = {name: one for name, one in floats.items() if f"{name}," in made or f"{name})" in made}
    held |= {"s": values(columns, seed=3), "w": values(3 * columns, 2, seed=4), "k": np.array([2, -1])}
    if "i, j" in made:
        held |= {"i": np.full(2, 2, np.int32), "j": np.array(3, np.int32)}
    before = model(text, **held)
    after = folded(before)
    assert "Mul" not in types(after)
    feeds = {"x": values(2, 3, 32, seed=5)} | ({"q": values(2, 3, 16, seed=6)} if "q, q" in made else {})
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("pool", ["", "MaxPool", "AveragePool"])
def test_what_follows_a_convolution_of_blocks_of_channels_has_known_sizes(pool: str, last: int) -> None:
    """Blocks of 8 or of 16 channels, as the processor has it, and a Reshape in between of sizes that are computed."""
    blocks = "com.microsoft.nchwc"
    pooled = f"p = {blocks}.{pool} <kernel_shape = [2, 2], strides = [2, 2]> (c)" if pool else ""
    made = f"c = {blocks}.Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, v, b)"
    if pool:  # which takes blocks alone
        made = f"f = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, v, b) c = {blocks}.ReorderInput (f)"
    nodes = f"""{made} {pooled}
    o = {blocks}.ReorderOutput <channels = 16, channels_last = {last}> ({"p" if pool else "c"}) h = Shape <end = 1> (o)
    a = Concat <axis = 0> (h, i, j) n = Reshape (o, a) m = Transpose <perm = [0, 2, 1]> (n) {LATER}"""
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft.nchwc" : 1]>
    g (float[2,3,8,8] x) => (float[2,z] y) {{ {nodes} }}"""
    columns = 16 if pool else 64
    held = {"v": values(16, 3, 3, 3), "b": values(16), "s": values(16, seed=3), "w": values(16 * columns, 2, seed=4)}
    held |= {"i": np.array([16]), "j": np.array([-1]), "k": np.array([2, -1])}
    before = model(text, **held)
    after = folded(before)
    assert "Mul" not in types(after)
    x = values(2, 3, 8, 8, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("said", "right"),
    [("alpha = 0.5", (4, 5)), ("transA = 1", (3, 5)), ("transB = 1", (5, 4)), ("transA = 1, transB = 1", (5, 3))],
)
def test_a_product_with_transposed_factors_has_known_sizes(said: str, right: tuple[int, int]) -> None:
    """The Flatten says where the columns are only if what it reads has known sizes."""
    nodes = f"k = com.microsoft.FusedMatMul <{said}> (x, z) d = Mul (k, s) e = Flatten (d) y = MatMul (e, w)"
    rows = 4 if "transA" in said else 3
    text = f"{HEAD} g (float[2,3,4] x, float[2,{right[0]},{right[1]}] z) => (float[2,2] y) {{ {nodes} }}"
    before = model(text, s=values(5, seed=3), w=values(rows * 5, 2, seed=4))
    after = folded(before)
    assert "Mul" not in types(after)
    feeds = {"x": values(2, 3, 4, seed=5), "z": values(2, *right, seed=6)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("factor", "left"), [(1, 0), (2, 0), (4, 1)])
def test_a_factor_goes_past_a_rotary_embedding_that_turns_pairs_of_values(factor: int, left: int) -> None:
    """One for each head does, and one for each value of a pair does not."""
    nodes = """q = MatMul (x, w) r = Reshape (q, s) t = Transpose <perm = [0, 2, 1, 3]> (r)
    e = com.microsoft.RotaryEmbedding <interleaved = 1> (t, i, c, d) y = Mul (e, k)"""
    text = f"{HEAD} g (float[2,3,5] x) => (float[2,2,3,4] y) {{ {nodes} }}"
    shapes = {1: (1,), 2: (2, 1, 1), 4: (4,)}
    constants = {"w": values(5, 8), "c": values(6, 2, seed=2), "d": values(6, 2, seed=3)}
    before = model(text, **constants, k=values(*shapes[factor], seed=4), i=np.arange(2, 8).reshape(2, 3) % 6, s=SPLIT)
    after = folded(before)
    assert types(after).count("Mul") == left
    x = values(2, 3, 5, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


SPLIT = np.array([0, 0, 2, 4])


def test_a_batch_normalization_goes_past_what_reads_a_convolution_with_an_activation() -> None:
    """Where the sum has its channels is known by the sizes of both its sides."""
    nodes = """c = com.microsoft.FusedConv <activation = "Relu", pads = [1, 1, 1, 1]> (x, u, b) a = Add (c, x)
    n = BatchNormalization (a, gamma, beta, mean, variance) p = GlobalAveragePool (n) f = Flatten (p)
    y = MatMul (f, w)"""
    text = f"{HEAD} g (float[n,3,8,8] x) => (float[n,2] y) {{ {nodes} }}"
    before = model(text, u=values(3, 3, 3, 3), b=values(3), w=values(3, 2, seed=3), **statistics())
    after = folded(before)
    assert types(after) == ["FusedConv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]
    x = values(2, 3, 8, 8, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


X = values(2, 3, 6, 6, seed=5)
IN_FRONT = "k = BatchNormalization (x, gamma, beta, mean, variance)"


@pytest.mark.parametrize(
    "said",
    [
        'activation = "Clip", activation_params = [-1.0, 2.0]',
        'activation = "HardSigmoid", activation_params = [0.02, 0.4]',
        'activation = "LeakyRelu", activation_params = [0.3]',
        'activation = "Relu", strides = [2, 1]',
        'activation = "Tanh"',
        "dilations = [2, 1]",
    ],
)
def test_a_convolution_with_an_activation_takes_a_batch_normalization_from_in_front(said: str) -> None:
    nodes = f"{IN_FRONT} y = com.microsoft.FusedConv <{said}> (k, w, b)"
    text = f"{HEAD} g (float[n,3,6,6] x) => (float[n,4,h,l] y) {{ {nodes} }}"
    before = model(text, w=values(4, 3, 3, 3) / 4, b=values(4, seed=2), **statistics())
    after = folded(before)
    assert types(after) == ["FusedConv"]
    assert after.graph.node[0].attribute == before.graph.node[1].attribute
    np.testing.assert_allclose(run(after, {"x": X})["y"], run(before, {"x": X})["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        ('activation = "Relu", alpha = 2.0, beta = 0.5', (3, 4)),
        ('activation = "LeakyRelu", activation_alpha = 0.3, transB = 1', (4, 3)),
    ],
)
@pytest.mark.parametrize("bias", [", b", ""])
def test_a_gemm_with_an_activation_takes_arithmetic_from_in_front(said: str, shape: tuple[int, ...], bias: str) -> None:
    nodes = f"k = Mul (x, s) m = Sub (h, k) y = com.microsoft.FusedGemm <{said}> (m, w{bias})"
    text = f"{HEAD} g (float[n,3] x) => (float[n,4] y) {{ {nodes} }}"
    before = model(text, w=values(*shape), b=values(4, seed=2), s=values(3, seed=3), h=values(3, seed=4))
    after = folded(before)
    assert types(after) == ["FusedGemm"]
    x = values(5, 3, seed=5)
    assert_equal(before, after, x)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (f'{IN_FRONT} y = com.microsoft.FusedConv <activation = "Relu"> (x, w, b, k)', "it takes one affine only"),
        (f'{IN_FRONT} y = com.microsoft.FusedConv <activation = "Relu"> (k, w, b, k)', "it takes one affine only"),
        (f"{IN_FRONT} y = com.microsoft.FusedConv <pads = [1, 1, 1, 1]> (k, v, b)", "wrong at the border"),
        ('k = com.microsoft.FusedConv <activation = "Relu"> (x, w, b) y = Mul (k, s)', "its Relu comes behind its"),
        ("k = com.microsoft.FusedConv (x, w, b, x) y = Mul (k, s)", "what it adds comes behind its weight"),
        ("k = Mul (x, s) y = com.microsoft.nchwc.Conv (k, w, b)", "in blocks of a size that the file does not say"),
    ],
)
def test_what_a_fused_convolution_does_not_take_stays_with_its_reason(nodes: str, why: str) -> None:
    """What it adds has no weight, and what comes behind an activation is not scaled by the weight."""
    head = HEAD.replace('"com.microsoft" : 1', '"com.microsoft" : 1, "com.microsoft.nchwc" : 1')
    text = f"{head} g (float[n,3,6,6] x) => (float[n,3,6,6] y) {{ {nodes} }}"
    given = {"b": values(3, seed=2), "s": values(3, 1, 1, seed=3), "w": values(3, 3, 1, 1), "v": values(3, 3, 3, 3)}
    before = model(text, **given, **statistics())
    assert types(folded(before)) == types(before)
    assert why in reasons(before)[0]


def test_a_factor_of_each_row_does_not_go_past_an_activation() -> None:
    nodes = 'k = Mul (x, s) m = com.microsoft.FusedGemm <activation = "Relu"> (k, w) y = MatMul (v, m)'
    before = model(
        f"{HEAD} g (float[3,3] x) => (float[2,4] y) {{ {nodes} }}",
        w=values(3, 4),
        v=values(2, 3, seed=2),
        s=-values(3, 1, seed=3),
    )
    assert types(folded(before)) == types(before)
    x, scale = values(3, 3, seed=5), -values(3, 1, seed=3)
    behind = scale * np.maximum(x @ values(3, 4), 0)
    assert np.abs(run(before, {"x": x})["y"] - values(2, 3, seed=2) @ behind).max() > 0.1


def test_a_batch_normalization_goes_back_into_a_fused_convolution_without_an_activation() -> None:
    nodes = "k = com.microsoft.FusedConv (x, w, b) y = BatchNormalization (k, gamma, beta, mean, variance)"
    text = f"{HEAD} g (float[n,3,6,6] x) => (float[n,3,4,4] y) {{ {nodes} }}"
    before = model(text, w=values(3, 3, 3, 3), b=values(3, seed=2), **statistics())
    after = folded(before)
    assert types(after) == ["FusedConv"]
    np.testing.assert_allclose(run(after, {"x": X})["y"], run(before, {"x": X})["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("said", ["alpha = 0.5", "transA = 1", "transB = 1", "alpha = -2.0, transA = 1, transB = 1"])
def test_a_product_with_a_transposed_matrix_takes_arithmetic_from_both_sides(said: str) -> None:
    """It has no bias, so what it makes of a shift goes on."""
    nodes = f"""k = BatchNormalization (x, gamma, beta, mean, variance) t = Mul (k, c)
    m = com.microsoft.FusedMatMul <{said}> (t, w) n = Mul (m, s) y = MatMul (n, v)"""
    rows, summed = (5, 4) if "transA" in said else (4, 5)
    text = f"{HEAD} g (float[n,3,4,5] x) => (float[n,3,{rows},2] y) {{ {nodes} }}"
    constants = {"w": values(*((6, summed) if "transB" in said else (summed, 6))), "v": values(6, 2, seed=2)}
    of_summed = values(*((summed, 1) if "transA" in said else (summed,)), seed=3)
    before = model(text, **constants, **statistics(), c=of_summed, s=values(6, seed=4))
    after = folded(before)
    assert types(after) == ["BatchNormalization", "FusedMatMul", "MatMul"]
    x = values(2, 3, 4, 5, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("said", ["alpha = 0.5", "transA = 1", "transB = 1", "transA = 1, transB = 1"])
@pytest.mark.parametrize("shape", [(4, 1), (5,)])
def test_a_factor_of_rows_or_of_columns_goes_past_a_product_of_transposed_data(
    said: str, shape: tuple[int, ...]
) -> None:
    left = "a = MatMul (z, p)" if "transA" in said else "a = MatMul (p, x)"
    right = "b = MatMul (q, x)" if "transB" in said else "b = MatMul (z, q)"
    nodes = f"{left} {right} m = com.microsoft.FusedMatMul <{said}> (a, b) y = Mul (m, k)"
    text = f"{HEAD} g (float[2,4,3] x, float[2,3,4] z) => (float[2,4,5] y) {{ {nodes} }}"
    q = values(*((5, 4) if "transB" in said else (4, 5)), seed=2)
    before = model(text, p=values(4, 4), q=q, k=values(*shape, seed=3))
    after = folded(before)
    assert types(after) == ["MatMul", "MatMul", "FusedMatMul"]
    feeds = {"x": values(2, 4, 3, seed=5), "z": values(2, 3, 4, seed=6)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "weight", "why"),
    [
        ("transBatchA = 1", (4, 6), "it moves the batch of what it reads"),
        ("transA = 1", (2, 4, 6), "its weight, or what it reads, is no matrix"),
    ],
)
def test_a_product_whose_axes_lie_otherwise_keeps_what_stands_behind_it(
    said: str, weight: tuple[int, ...], why: str
) -> None:
    text = f"""{HEAD} g (float[4,2,4] x) => (float[a,b,6] y)
    {{ c = Relu (x) m = com.microsoft.FusedMatMul <{said}> (c, w) y = Mul (m, k) }}"""
    before = model(text, w=values(*weight), k=values())
    assert any(why in reason for reason in reasons(before))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("com.microsoft.BiasGelu (x, b)", "it is not linear"),
        ("com.microsoft.FastGelu (x)", "it is not linear"),
        ("com.microsoft.QuickGelu (x)", "it is not linear"),
    ],
)
def test_an_operator_of_onnxruntime_says_why_no_affine_passes(made: str, why: str) -> None:
    text = f"{HEAD} g (float[2,n,4] x) => (float[2,n,4] y) {{ m = {made} y = Mul (m, s) }}"
    before = model(text, b=values(4), s=values(4, seed=2))
    assert any(f"'m' (com.microsoft.{made.split('.')[2].split()[0]}): {why}" in reason for reason in reasons(before))


GELUS = ["com.microsoft.BiasGelu ({}, b)", "com.microsoft.FastGelu ({}, b)", "com.microsoft.FastGelu ({})"]


@pytest.mark.parametrize("gelu", GELUS)
def test_a_gelu_that_adds_a_bias_takes_a_shift_from_in_front(gelu: str) -> None:
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,4] y) {{ k = Sub (x, h) y = {gelu.format('k')} }}"
    before = model(text, h=values(4, seed=2), **{"b": values(4)} if ", b" in gelu else {})
    after = folded(before)
    assert len(types(after)) == 1
    x = values(2, 3, 4, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gelu", GELUS)
def test_a_factor_in_front_of_a_gelu_that_adds_a_bias_would_be_another_network(gelu: str) -> None:
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,4] y) {{ k = Mul (x, h) y = {gelu.format('k')} }}"
    held = {"h": values(4, seed=2), **({"b": values(4)} if ", b" in gelu else {})}
    before = model(text, **held)
    assert any("it is not linear" in reason for reason in reasons(before))
    x = values(2, 3, 4, seed=5)
    wanted, factor = run(before, {"x": x})["y"], np.float32(2)
    for moved in ({"h": held["h"] * factor}, {name: one * factor for name, one in held.items()}):
        found = run(model(text, **{**held, **moved}), {"x": x})["y"]
        assert np.abs(found - factor * wanted).max() > 1e-3


def test_a_shift_in_front_of_a_gelu_of_unknown_width_stays() -> None:
    text = f"{HEAD} g (float[n,4,m] x) => (float[n,4,m] y) {{ k = Add (x, h) y = com.microsoft.FastGelu (k) }}"
    assert any("how many values it adds is unknown" in reason for reason in reasons(model(text, h=values(1))))


@pytest.mark.parametrize("gelu", GELUS[:2])
@pytest.mark.parametrize("front", ["Add (x, h)", "Mul (x, h)", "LayerNormalization (x, h, g)"])
def test_a_product_with_a_gelu_behind_it_takes_what_stands_in_front(gelu: str, front: str) -> None:
    """The bias is the GELU's again behind it, and what the product gives without it has another name."""
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,5] y) {{ k = {front} m = MatMul (k, w) y = {gelu.format('m')} }}"
    held = {
        "h": values(4, seed=2),
        "w": values(4, 5, seed=3),
        "b": values(5),
        **({"g": values(4)} if ", g" in front else {}),
    }
    before = model(text, **held)
    after = folded(before)
    assert types(after) == ["LayerNormalization"] * (", g" in front) + ["MatMul", types(before)[-1]]
    assert "m" not in {name for node in after.graph.node for name in node.output}
    if ", g" in front:
        assert (stored(after)[after.graph.node[0].input[1]] == 1).all()
    x = values(2, 3, 4, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)
    assert folded(after) == after


@pytest.mark.parametrize(
    ("more", "ports"), [("", ", float[n,3,5] m"), (f"z = {GELUS[0].format('m')}", ", float[n,3,5] z"), ("", "")]
)
def test_a_product_whose_value_without_the_bias_is_read_elsewhere_has_an_add_of_its_own(more: str, ports: str) -> None:
    nodes = f"k = Add (x, h) m = MatMul (k, w) y = {GELUS[0].format('m')} {more}"
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,5] y{ports}) {{ {nodes} }}"
    before = model(text, h=values(4, seed=2), w=values(4, 5, seed=3), b=values(5))
    after = folded(before, keep=() if ports else ("m",))
    assert types(after)[:2] == ["MatMul", "Add"]
    x = values(2, 3, 4, seed=5)
    for name, wanted in run(before, {"x": x}).items():
        np.testing.assert_allclose(run(after, {"x": x})[name], wanted, rtol=1e-5, atol=1e-5)


def test_a_product_with_a_gelu_behind_it_that_takes_nothing_stays_what_it_is() -> None:
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,5] y) {{ m = MatMul (x, w) y = {GELUS[0].format('m')} }}"
    before = model(text, w=values(4, 5, seed=3), b=values(5))
    assert folded(before) == before


@pytest.mark.parametrize("bias", ["", ", b"])
def test_an_attention_takes_an_affine_from_in_front_and_none_from_behind(bias: str) -> None:
    nodes = f"k = Mul (x, s) l = Add (k, h) m = com.microsoft.Attention <num_heads = 2> (l, w{bias}) y = Mul (m, t)"
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,4] y) {{ {nodes} }}"
    held = {"s": values(4, seed=2), "h": values(4, seed=3), "w": values(4, 12, seed=4), "t": values(4, seed=6)}
    before = model(text, **held, **({"b": values(12, seed=7)} if bias else {}))
    after = folded(before)
    assert types(after) == ["Attention", "Mul"]
    assert any("its queries and keys go through a softmax" in reason for reason in reasons(before))
    x = values(2, 3, 4, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-5)


SKIP = "com.microsoft.SkipLayerNormalization (x, z, g, b)"
SIMPLIFIED = "com.microsoft.SkipSimplifiedLayerNormalization (x, z, g)"
NORMS = [SKIP, SKIP.replace(", b", ""), SIMPLIFIED, "SimplifiedLayerNormalization (x, g)"]
PORTS = "float[n,3,4] x, float[n,3,4] z"


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("summed", [False, True])
def test_a_norm_of_a_sum_takes_what_stands_behind_it_and_leaves_the_sum(norm: str, summed: bool) -> None:
    """What the sum goes on to is known in its sizes, too."""
    other = norm.startswith("com.microsoft") and summed
    nodes = f"m{', , , a' * other} = {norm} o = Mul (m, s) y = Add (o, h) e = Flatten ({'a' if other else 'x'})"
    text = f"{HEAD} g ({PORTS}) => (float[n,3,4] y, float[n,2] v) {{ {nodes} d = Mul (e, t) v = MatMul (d, w) }}"
    constants = {"s": values(4, seed=2), "h": values(4, seed=3), "t": values(12, seed=4), "w": values(12, 2, seed=5)}
    constants |= {"b": values(4, seed=6)} if ", b" in norm else {}
    before = model(text, g=values(4), **constants)
    after = folded(before)
    shifted = norm in (SIMPLIFIED, "SimplifiedLayerNormalization (x, g)")
    assert [one for one in types(after) if one in ("Add", "Mul")] == ["Add"] * shifted
    feeds = {"x": values(2, 3, 4, seed=7), "z": values(2, 3, 4, seed=8)}
    for name, wanted in run(before, feeds).items():
        np.testing.assert_allclose(run(after, feeds)[name], wanted, rtol=1e-5, atol=1e-5)


def test_the_sum_that_a_norm_gives_takes_nothing_of_what_the_norm_multiplies_by() -> None:
    nodes = f"m, , , a = {SKIP} o = Mul (a, s) y = Relu (o) v = Relu (m)"
    text = f"{HEAD} g ({PORTS}) => (float[n,3,4] y, float[n,3,4] v) {{ {nodes} }}"
    before = model(text, g=values(4), b=values(4, seed=6), s=values(4, seed=2))
    assert any("its weight comes behind its first output alone" in reason for reason in reasons(before))


@pytest.mark.parametrize("norm", NORMS)
def test_the_tail_of_a_norm_of_a_sum_goes_into_what_reads_it(norm: str) -> None:
    nodes = f"m = {norm} k = MatMul (m, w) y = Add (k, c)"
    text = f"{HEAD} g ({PORTS}) => (float[n,3,5] y) {{ {nodes} }}"
    constants = {"w": values(4, 5, seed=2), "c": values(5, seed=3)} | (
        {"b": values(4, seed=6)} if ", b" in norm else {}
    )
    before = model(text, g=values(4), **constants)
    after = folded(before)
    scale, *bias = (stored(after)[name] for name in after.graph.node[0].input if name in stored(after))
    assert (scale == 1).all()
    assert not any(map(np.any, bias))
    feeds = {"x": values(2, 3, 4, seed=7), "z": values(2, 3, 4, seed=8)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_a_shift_in_front_of_a_norm_whose_mean_is_read_stays() -> None:
    """It vanishes in what is normalised, and not in the mean."""
    nodes = "k = Add (x, h) y, a = LayerNormalization (k, g)"
    text = f"{HEAD} g (float[n,3,4] x) => (float[n,3,4] y, float[n,3,1] a) {{ {nodes} }}"
    before = model(text, g=values(4), h=values())
    after = folded(before)
    assert types(after) == ["Add", "LayerNormalization"]


@pytest.mark.parametrize(("bits", "zero"), [(4, ", z"), (4, ""), (8, "")])
@pytest.mark.parametrize("flat", [False, True])
def test_the_scale_of_a_weight_of_few_bits_takes_factors(bits: int, zero: str, flat: bool) -> None:
    """One number from in front, and from behind what has a value for each column, of either sign."""
    nodes = f"""k = Mul (x, c)
    m = com.microsoft.MatMulNBits <K = 32, N = 4, bits = {bits}, block_size = 16> (k, q, s{zero})
    n = Mul (m, f) y = Relu (n)"""
    text = f"{HEAD} g (float[n,5,32] x) => (float[n,5,4] y) {{ {nodes} }}"
    draw = np.random.default_rng(3).integers
    constants = {"q": draw(0, 256, (4, 2, 2 * bits)).astype(np.uint8), "z": draw(0, 256, 4).astype(np.uint8)}
    scale = values(*((8,) if flat else (4, 2)))
    before = model(text, **constants, s=scale, c=values(), f=values(4, seed=2))
    after = folded(before)
    assert types(after) == ["MatMulNBits", "Relu"]
    x = values(2, 5, 32, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-2)


def test_the_scale_and_the_bias_of_a_weight_of_few_bits_take_an_affine() -> None:
    nodes = """m = com.microsoft.MatMulNBits <K = 32, N = 3, bits = 4, block_size = 32> (x, q, s, , , b)
    y = BatchNormalization (m, gamma, beta, mean, variance)"""
    text = f"{HEAD} g (float[n,32] x) => (float[n,3] y) {{ {nodes} }}"
    numbers = np.random.default_rng(3).integers(0, 256, (3, 1, 16)).astype(np.uint8)
    before = model(text, q=numbers, s=values(3, 1), b=values(3, seed=2), **statistics())
    after = folded(before)
    assert types(after) == ["MatMulNBits"]
    x = values(2, 32, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("ports", "front", "why"),
    [
        ("", "k = Add (x, c)", "takes no shift from in front"),
        ("", "k = Mul (x, g)", "varies along axis 1"),
        (", float[3,1] s", "k = Mul (x, c)", "its scale is none of its columns"),
    ],
)
def test_what_the_scale_of_a_weight_of_few_bits_cannot_take_stays(ports: str, front: str, why: str) -> None:
    nodes = f"{front} y = com.microsoft.MatMulNBits <K = 32, N = 3, bits = 4, block_size = 32> (k, q, s)"
    text = f"{HEAD} g (float[n,32] x{ports}) => (float[n,3] y) {{ {nodes} }}"
    numbers = np.random.default_rng(3).integers(0, 256, (3, 1, 16)).astype(np.uint8)
    fed = {} if ports else {"s": values(3, 1)}
    before = model(text, q=numbers, c=values(), g=values(32), **fed)
    assert any(why in reason for reason in reasons(before)), reasons(before)


@pytest.mark.parametrize(("scale", "zero"), [("", ""), ("4", "4"), ("", "4"), ("4", "")])
@pytest.mark.parametrize("opset", [15, 19])
def test_the_scale_of_onnxruntimes_own_quantised_weight_takes_an_affine(opset: int, scale: str, zero: str) -> None:
    """Its quantiser writes numbers of 16 bits so, for opsets whose DequantizeLinear has none of that type."""
    said, given = ("<axis = 0>", ", z") if scale or zero else ("", "")
    nodes = f"""e = com.microsoft.QuantizeLinear (x, a, o) d = com.microsoft.DequantizeLinear (e, a, o)
    w = com.microsoft.DequantizeLinear {said} (q, s{given}) c = Conv (d, w, b)
    n = BatchNormalization (c, gamma, beta, mean, variance) p = GlobalAveragePool (n) f = Flatten (p) y = Relu (f)"""
    head = HEAD.replace('"" : 17', f'"" : {opset}')
    text = f"{head} g (float[2,3,6,6] x) => (float[2,4] y) {{ {nodes} }}"
    draw, channels = np.random.default_rng(3).integers, (4,) if said else ()
    constants = {"q": draw(-(1 << 15), 1 << 15, (4, 3, 3, 3)).astype(np.int16), "b": values(4, seed=2)}
    constants["s"] = np.abs(values(*channels)) * (1 if scale else 0) + np.float32(1e-4)
    constants["z"] = (draw(-99, 99, channels) * bool(zero)).astype(np.int16)
    before = model(text, **constants, **statistics(4), a=np.array(1e-4, np.float32), o=np.array(7, np.int16))
    after = folded(before)
    assert types(after) == [one for one in types(before) if one != "BatchNormalization"]
    x = values(2, 3, 6, 6, seed=5)
    wanted = run(before, {"x": x})["y"]
    np.testing.assert_allclose(run(after, {"x": x})["y"], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_onnxruntimes_own_quantisation_of_data_says_why_no_affine_passes() -> None:
    text = f"""{HEAD} g (float[2,n,4] x) => (float[2,n,4] y) {{ m = Mul (x, s)
    e = com.microsoft.QuantizeLinear (m, a, o) d = com.microsoft.DequantizeLinear (e, a, o) y = Mul (d, s) }}"""
    front, behind = reasons(model(text, s=values(4), a=np.array(0.1, np.float32), o=np.array(7, np.int16)))
    assert "it jumps, and rounding would move a value across" in front
    assert "values are rounded in front of it" in behind
