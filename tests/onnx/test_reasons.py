"""What keeps an affine where it is, by its words, and that the fold which it refuses would change the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx_cases import Array, run
from onnx_texts import folded, model, reasons, types, values
from onnx_traps import Trap

import bnfold
from bnfold.algebra.reasons import JUMPS, NOT_LINEAR
from bnfold.onnx.operators import OPERATORS, REFUSED

CONSTANTS = {
    "scale": values(3, 1, 1, seed=3),
    "shift": values(3, 1, 1, seed=5),
    "w": values(3, 3, 1, 1, seed=11),
    "number": np.array(1, np.int32),
}

# The reason, the nodes, and what they would be after the fold that is refused.
ROWS = [
    (
        "a product takes a scale, but no shift",
        "c = Conv (x, w) p = Mul (c, z) y = Add (p, shift)",
        "c = Conv (x, w) a = Add (c, shift) y = Mul (a, z)",
    ),
    (
        "a product lets a scale pass, but no shift",
        "a = Add (x, shift) p = Mul (a, z) y = Conv (p, w)",
        "p = Mul (x, z) a = Add (p, shift) y = Conv (a, w)",
    ),
    (
        "a sum needs the same scale on all its bottoms",
        "a = Mul (x, scale) p = Add (a, z) y = Conv (p, w)",
        "p = Add (x, z) a = Mul (p, scale) y = Conv (a, w)",
    ),
    (
        "its other bottoms do not carry the same affine",
        "a = Add (x, shift) p = Max (a, z) y = Conv (p, w)",
        "p = Max (x, z) a = Add (p, shift) y = Conv (a, w)",
    ),
    (
        "the affine varies along axis 2, and the weight has no such axis",
        "c = Conv (x, w) a, b = Split <axis = 2> (c) s = Mul (a, scale) y = Concat <axis = 2> (s, b)",
        "c = Conv (x, w) s = Mul (c, scale) a, b = Split <axis = 2> (s) y = Concat <axis = 2> (a, b)",
    ),
    (
        "it may round to another type",
        "a = Mul (x, scale) i = Cast <to = 6> (a) f = Cast <to = 1> (i) y = Conv (f, w)",
        "i = Cast <to = 6> (x) f = Cast <to = 1> (i) a = Mul (f, scale) y = Conv (a, w)",
    ),
    (
        "it may round to another type",
        "a = Mul (x, scale) i = CastLike (a, number) f = CastLike (i, z) y = Conv (f, w)",
        "i = CastLike (x, number) f = CastLike (i, z) a = Mul (f, scale) y = Conv (a, w)",
    ),
]


@pytest.mark.parametrize(("reason", "nodes", "refused"), ROWS)
def test_a_fold_that_would_change_the_values_is_refused_with_the_reason(reason: str, nodes: str, refused: str) -> None:
    ports = "(float[2,3,4,4] x, float[2,3,4,4] z) => (float[n,c,h,v] y)"
    before, wrong = (
        model(f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {text} }}', **CONSTANTS)
        for text in (nodes, refused)
    )
    assert any(reason in kept for kept in reasons(before)), reasons(before)
    feeds = {"x": 3 * values(2, 3, 4, 4, seed=13), "z": values(2, 3, 4, 4, seed=17)}
    assert np.abs(run(wrong, feeds)["y"] - run(before, feeds)["y"]).max() > 0.1


QUANTISING = {"DynamicQuantizeLinear", "QuantizeLinear"}
PLAIN = [op_type for op_type, why in REFUSED.items() if why in (JUMPS, NOT_LINEAR) and "." not in op_type]


@pytest.mark.parametrize("op_type", sorted({*PLAIN} - QUANTISING))
def test_an_operator_without_a_law_gives_other_values_behind_an_affine(op_type: str) -> None:
    assert op_type not in OPERATORS
    words = f"{op_type} <size = 3, alpha = 1.0>" if op_type == "LRN" else op_type
    before, behind = (
        model(
            f'<ir_version: 10, opset_import: ["" : 24]> g (float[2,3,4,4] x) => (float[n,c,h,v] y) {{ {nodes} }}',
            **CONSTANTS,
        )
        for nodes in (
            f"a = Mul (x, scale) p = Add (a, shift) y = {words} (p)",
            f"o = {words} (x) a = Mul (o, scale) y = Add (a, shift)",
        )
    )
    assert any(REFUSED[op_type] in kept for kept in reasons(before)), reasons(before)
    feeds = {"x": np.linspace(-2, 4, 96, dtype=np.float32).reshape(2, 3, 4, 4)}
    assert np.nanmax(np.abs(run(behind, feeds)["y"] - run(before, feeds)["y"])) > 0.05


# The reason, the inputs, the nodes in the shorthand of traps, and what they would be after the fold that is refused.
OTHERS = [
    (
        "its equation leaves letters out",
        "x[2,3,3]",
        'm = Mul(x, s{3}) y = Einsum <equation = "...i,ij->...j"> (m, w{3,3})',
        'm = Einsum <equation = "...i,ij->...j"> (x, w{3,3}) y = Mul(m, s{3})',
    ),
    (
        "its equation takes a diagonal",
        "x[3,3,3]",
        'm = Mul(x, s{3}) y = Einsum <equation = "bii->b"> (m)',
        'm = Einsum <equation = "bii->b"> (x) y = Mul(m, s{3})',
    ),
    (
        "what it works on is a constant, too",
        "x[2,4]",
        "m = Gemm(k{2,3}, w{3,4}, x) y = Mul(m, s{4})",
        "m = Mul(x, s{4}) y = Gemm(k{2,3}, w{3,4}, m)",
    ),
    (
        "it does not read two matrices",
        "x[4] z[4,4]",
        "m = Mul(x, s{4}) a = MatMul(m, z) y = MatMul(a, w{4,3})",
        "m = MatMul(x, z) a = Mul(m, s{4}) y = MatMul(a, w{4,3})",
    ),
    (
        "it normalises several axes at once",
        "x[2,3,4]",
        "m = LayerNormalization <axis = 1> (x, g{3,4}) y = Mul(m, s{3,1})",
        "m = Mul(x, s{3,1}) y = LayerNormalization <axis = 1> (m, g{3,4})",
    ),
    (
        "it takes from a constant",
        "i:int64[3]",
        "m = Gather <axis = 1> (t{3,3}, i) y = Mul(m, s{3})",
        "m = Mul(t{3,3}, s{3}) y = Gather <axis = 1> (m, i)",
    ),
    (
        "it reads a constant",
        "i:int64[3,3]",
        "m = GatherElements <axis = 1> (t{3,3}, i) y = Mul(m, s{3})",
        "m = Mul(t{3,3}, s{3}) y = GatherElements <axis = 1> (m, i)",
    ),
    (
        "its bounds leave nothing between them",
        "x[2,3,4,4]",
        "c = Conv(x, w{3,3,1,1}) m = Clip(c, lo{==1.0}, hi{==-0.5}) y = Mul(m, s{3,1,1})",
        "c = Conv(x, w{3,3,1,1}) m = Mul(c, s{3,1,1}) y = Clip(m, lo{==1.0}, hi{==-0.5})",
    ),
    (
        "a constant stands among what it reads",
        "x[3]",
        "m = Mul(x, s{3}) a = Max(m, k{1,1}) y = MatMul(a, w{3,2})",
        "m = Max(x, k{1,1}) a = Mul(m, s{3}) y = MatMul(a, w{3,2})",
    ),
    (
        "it puts a value of its own where its region ends",
        "x[2,3,4,4]",
        "m = Mul(x, s{3,1,1}) r = Resize RESIZED (m, roi{=0.0,0.0,0.0,0.0,1.0,1.0,3.0,3.0}, , n{=2,3,8,8})"
        " y = Conv(r, w{3,3,1,1})",
        "r = Resize RESIZED (x, roi{=0.0,0.0,0.0,0.0,1.0,1.0,3.0,3.0}, , n{=2,3,8,8}) m = Mul(r, s{3,1,1})"
        " y = Conv(m, w{3,3,1,1})",
    ),
    (
        "it pads with a value of its own that is not 0",
        "x[2,3,4,4]",
        "m = Mul(x, s{3,1,1}) p = Pad(m, n{=0,0,1,1,0,0,1,1}, v{==2.0}) y = Conv(p, w{3,3,1,1})",
        "p = Pad(x, n{=0,0,1,1,0,0,1,1}, v{==2.0}) m = Mul(p, s{3,1,1}) y = Conv(m, w{3,3,1,1})",
    ),
    (
        "values are rounded in front of it, where an affine would be rounded, too",
        "x[2,3,4,4]",
        "q = QuantizeLinear(x, t{==0.5}, z{=int8 3}) d = DequantizeLinear(q, t, z) y = Mul(d, s{3,1,1})",
        "m = Mul(x, s{3,1,1}) q = QuantizeLinear(m, t{==0.5}, z{=int8 3}) y = DequantizeLinear(q, t, z)",
    ),
    (
        "its product is not linear in this blob",
        "x[2,3,4,4] z[2,3,4,4]",
        "m = Mul(z, s{3,1,1}) d = Div(x, m) y = Conv(d, w{3,3,1,1})",
        "d = Div(x, z) m = Mul(d, s{3,1,1}) y = Conv(m, w{3,3,1,1})",
    ),
]

RESIZED = '<coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 2.0>'


def trap_of(inputs: str, nodes: str, **said: str) -> ModelProto:
    """The model without outputs called `unread` or `idle`; no node has the second as top, TopK not the first."""
    made = Trap("", nodes.replace("RESIZED", RESIZED), {"inputs": inputs, **said}).model()
    outputs = [port for port in made.graph.output if port.name not in ("unread", "idle")]
    del made.graph.output[:]
    made.graph.output.extend(outputs)
    for node in made.graph.node:
        named = [name for name in node.output if name != "idle"]
        node.output[:] = ["" if name == "unread" and len(named) > 1 else name for name in named]
    return made


@pytest.mark.parametrize(("reason", "inputs", "nodes", "refused"), OTHERS, ids=[row[0] for row in OTHERS])
def test_a_fold_of_other_inputs_that_would_change_the_values_is_refused_with_the_reason(
    reason: str, inputs: str, nodes: str, refused: str
) -> None:
    before, wrong = trap_of(inputs, nodes), trap_of(inputs, refused)
    assert any(reason in kept for kept in reasons(before)), reasons(before)
    feeds = Trap("", nodes, {"inputs": inputs}).feeds()
    assert np.abs(run(wrong, feeds)["y"] - run(before, feeds)["y"]).max() > 0.1


# The reason, the inputs, the nodes and what else is said: what no runtime runs, or what has no place to go.
UNRUN = [
    ("nobody reads 'unread'", "x[2,3,4,4]", "unread = Mul(x, s{3,1,1}) y = Relu(x)", {}),
    ("'y' (Add) has no bottom that could take it", "x[3,1] z[1,4]", "y = Add(x, z) e = Add(y, h{3,4})", {}),
    (
        "where the largest are does not tell how large they are",
        "x[2,3,4,4]",
        "m = Mul(x, s{3,1,1}) unread, i = TopK <axis = 1> (m, k{=3}) f = Cast <to = 1> (i) y = Conv(f, w{3,3,1,1})",
        {},
    ),
    ("it does not read one blob", "x[2,3] z[2,3]", "m = Mul(x, s{3}) n = Neg(m, z) y = MatMul(n, w{3,3})", {}),
    (
        "its attributes and inputs do not fit together",
        "x[2,3,4,4]",
        "m = Mul(x, s{3,1,1}) t = Upsample <scales = [1.0, 1.0]> (m) y = Conv(t, w{3,3,1,1})",
        {"opset": "7"},
    ),
    ("it makes nothing", "x[2,3]", "m = Mul(x, s{3}) idle = Relu(m) y = MatMul(m, w{3,3})", {}),
    (
        "its weight does not fit its groups",
        "x[2,4,3,3]",
        "m = Mul(x, s{4,1,1}) y = Conv <group = 2> (m, w{3,2,1,1})",
        {},
    ),
    (
        "its bias has the shape 1x3, which does not fit",
        "x[5,2,3]",
        "m = Add(x, h{3}) y = RNN <hidden_size = 3> (m, w{1,3,3}, r{1,3,3}, b{1,3})",
        {},
    ),
    (
        "how often it repeats is known only when it runs",
        "x[2,3] i:int64[2]",
        "m = Mul(x, s{3}) t = Tile(m, i) y = MatMul(t, w{3,3})",
        {},
    ),
    (
        "its channels are no multiple of its blocks",
        "x[2,6,3,3]",
        "m = Mul(x, s{6,1,1}) y = DepthToSpace <blocksize = 2> (m)",
        {},
    ),
    (
        "its plane is no multiple of its blocks",
        "x[2,6,3,4]",
        "m = Mul(x, s{6,1,1}) y = SpaceToDepth <blocksize = 2> (m)",
        {},
    ),
    ("its mask is read", "x[2,3,4,4]", "c = Conv(x, w{3,3,1,1}) d, m = Dropout(c) y = Mul(d, s{3,1,1})", {}),
    (
        "its parameters have not the shape of one sample (spatial 0)",
        "x[2,3,4,4]",
        "c = Conv(x, w{3,3,1,1}) y = BN(c, 3, spatial = 0)",
        {"opset": "8"},
    ),
    (
        "its keepdims is neither 0 nor 1",
        "x[2,3,4,4]",
        "m = Mul(x, s{3,1,1}) r = ReduceMax <axes = [1], keepdims = 2> (m) y = Conv(r, w{3,1,1,1})",
        {},
    ),
    ("its weight is no matrix", "x[2,3]", "m = Mul(x, s{3}) y = Gemm(m, w{3})", {}),
    ("it does not read two matrices", "x[3,3] z[3,3]", "m = Mul(x, s{3}) y = MatMul(m, z, z)", {}),
    (
        "its weight is no matrix for each direction",
        "x[5,2,3]",
        "m = Mul(x, s{3}) y = RNN <hidden_size = 3> (m, w{3,3}, r{1,3,3})",
        {},
    ),
    (
        "its scale is one of each group, of which it has another number",
        "x[2,6,4]",
        "m = GroupNormalization <num_groups = 3> (x, g{2}, b{2}) y = Mul(m, s{6,1})",
        {"opset": "18"},
    ),
    ("it works on blobs of four axes", "x[2,4,4]", "m = Mul(x, s{4,1}) y = DepthToSpace <blocksize = 2> (m)", {}),
    ("its pads do not fit its axes", "x[2,4,4]", "m = Mul(x, s{4,1}) y = Pad(m, n{=1,1})", {}),
    (
        "its mode 'mirror' has no law",
        "x[2,4,4]",
        'm = Mul(x, s{4,1}) y = Pad <mode = "mirror"> (m, n{=0,0,0,0,1,1})',
        {},
    ),
]


@pytest.mark.parametrize(("reason", "inputs", "nodes", "said"), UNRUN, ids=[row[0] for row in UNRUN])
def test_what_cannot_be_run_is_kept_with_the_reason(reason: str, inputs: str, nodes: str, said: dict[str, str]) -> None:
    found = reasons(trap_of(inputs, nodes, **said))
    assert any(reason in kept for kept in found), found


# The reason, where the limit stands, the inputs and the nodes: one value more than may be followed.
LIMITS = [
    (
        "its constant has 12 values, more than an affine may have",
        "onnx.operators.affine",
        "x[3,5]",
        "c = MatMul(x, w{5,4}) a = Add(c, h{3,4}) y = Mul(a, s{4})",
    ),
    (
        "axis 1 is too long to follow",
        "onnx.operators.movement",
        "x[2,12,4,4]",
        "m = Mul(x, s{12,1,1}) k = Slice(m, b{=11}, e{=-13}, a{=1}, j{=-1}) y = Conv(k, w{3,12,1,1})",
    ),
    (
        "it repeats axis 1, which is too long to follow",
        "onnx.operators.movement",
        "x[2,6,4,4]",
        "c = Conv(x, w{6,6,1,1}) k = Tile(c, b{=1,2,1,1}) y = Mul(k, s{12,1,1})",
    ),
    (
        "an axis of 6 is too long to be followed",
        "algebra.movement",
        "x[2,6,4,4]",
        "c = Conv(x, w{6,6,1,1}) k = Slice(c, b{=1}, e{=3}, a{=1}) y = Mul(k, s{2,1,1})",
    ),
    (
        "elements are too many to follow one by one",
        "algebra.movement",
        "x[2,12,4,4]",
        "c = Conv(x, w{12,12,1,1}) k = Reshape(c, b{=2,2,6,4,4}) y = Mul(k, s{2,1,1,1})",
    ),
]


@pytest.mark.parametrize(("reason", "module", "inputs", "nodes"), LIMITS, ids=[row[0] for row in LIMITS])
def test_more_values_than_are_followed_are_a_reason_and_as_many_are_not(
    reason: str, module: str, inputs: str, nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trap_of(inputs, nodes)
    for most, expected in ((11, True), (12, False)):
        monkeypatch.setattr(f"bnfold.{module}.MAX_VALUES", most)
        found = reasons(before)
        assert any(reason in kept for kept in found) == expected, found


def test_trees_jump_at_their_thresholds() -> None:
    said: dict[str, Any] = {
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.5, 0, 0],
        "nodes_treeids": [0] * 3,
        "nodes_nodeids": [0, 1, 2],
        "nodes_truenodeids": [1, 0, 0],
        "n_targets": 1,
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, -1.0],
    }
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["m"]),
        helper.make_node("TreeEnsembleRegressor", ["m"], ["y"], domain="ai.onnx.ml", **said),
    ]
    ports = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", (4, 3)), ("y", (4, 1)))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(values(3, seed=1), "k")])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    assert any(JUMPS in kept for kept in reasons(helper.make_model(graph, opset_imports=imports, ir_version=8)))


@pytest.mark.parametrize(
    ("way", "kind", "behind"),
    [
        ("w = DequantizeLinear <axis = 1> (q, s)", np.float16, 1),
        ("d = DequantizeLinear <axis = 1> (q, s) w = Cast <to = 10> (d)", np.float32, 1),
        ("d = DequantizeLinear <axis = 1> (q, s) w = Mul (d, k)", np.float16, 10),
        ("d = DequantizeLinear <axis = 1> (q, s) i = Div (d, l) w = Cast <to = 10> (i)", np.float32, 10),
    ],
)
def test_a_scale_stays_whose_numbers_would_leave_the_type(way: str, kind: type, behind: float) -> None:
    """127 times 100 is a number of float16, and 127 times 1,000 is not, though 1,000 is."""

    def dequantising(scale: float, factor: float) -> ModelProto:
        return model(
            f"""<ir_version: 10, opset_import: ["" : 21]> net (float16[1,2] x) => (float16[1,2] y)
            {{ {way} m = MatMul (x, w) y = Mul (m, f) }}""",
            q=np.array([[127, -127], [3, 5]], np.int8),
            s=(np.array([scale, 1]) / behind).astype(kind),
            k=np.array(behind, kind),
            l=np.array(1 / behind, kind),
            f=np.array([factor, 2], np.float16),
        )

    def computed(made: ModelProto) -> Array:
        return run(made, {"x": np.array([[0.01, 0.02]], np.float16)})["y"]

    kept = bnfold.fold(bnfold.load(dequantising(100, 10)))
    assert [layer.type for layer in kept.net.layers][-2:] == ["MatMul", "Mul"]
    assert "a folded weight would not be finite" in kept.report.kept[-1].reason
    assert np.isfinite(computed(dequantising(100, 10))).all()
    if way.startswith("w"):  # what else is in between onnxruntime computes in float32 on a CPU
        assert not np.isfinite(computed(dequantising(1000, 1))).all()
    fits = bnfold.fold(bnfold.load(dequantising(50, 10)))
    assert [layer.type for layer in fits.net.layers][-1] == "MatMul"
    broken = bnfold.fold(bnfold.load(dequantising(1000, 0.5)))
    assert "quantised" in broken.report.kept[-1].reason
    assert broken.report.kept[-1].reason.count("not finite") == 1


@pytest.mark.parametrize("bias", [(4,), (1, 4), ()])
def test_what_is_added_behind_a_quantised_weight_is_no_affine_that_stays(bias: tuple[int, ...]) -> None:
    proto = model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[n,5,3] x) => (float[n,5,4] y)
        { w = DequantizeLinear (q, s) m = MatMul (x, w) y = Add (m, b) }""",
        q=np.arange(12, dtype=np.int8).reshape(3, 4),
        s=np.array(0.1, np.float32),
        b=values(*bias),
    )
    assert not reasons(proto)
    assert types(folded(proto)) == types(proto)


def test_a_scale_stays_whose_weight_would_lose_digits_where_it_is_cast() -> None:
    """In float32 the smaller scale is as exact as any; the numbers times it are no normal ones of float16."""

    def cast(factor: float) -> ModelProto:
        return model(
            """<ir_version: 10, opset_import: ["" : 21]> net (float16[1,2] x) => (float16[1,2] y)
            { d = DequantizeLinear <axis = 1> (q, s) w = Cast <to = 10> (d) m = MatMul (x, w) y = Mul (m, f) }""",
            q=np.array([[3, -127], [5, 7]], np.int8),
            s=np.array([0.01, 1], np.float32),
            f=np.array([factor, 2], np.float16),
        )

    kept = bnfold.fold(bnfold.load(cast(1e-4)))
    assert [layer.type for layer in kept.net.layers][-2:] == ["MatMul", "Mul"]
    assert "a folded weight would be too small for all digits of float16" in kept.report.kept[-1].reason
    exact = np.array([3, 5]) * 0.01 * float(np.float16(1e-4))
    assert (np.abs(exact.astype(np.float16) - exact) > 4e-3 * exact).any()
    fits = bnfold.fold(bnfold.load(cast(0.5)))
    assert [layer.type for layer in fits.net.layers][-1] == "MatMul"
