"""Every type whose operator is `Linear` absorbs an affine from either side, or says why: none is so by name alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from algebra.random_nets import BATCH
from algebra.running import net_of, run
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime import InferenceSession

import bnfold
from bnfold.algebra.records import block
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.operators import BACKWARD_ONLY, FORWARD_ONLY, LINEAR, OPERATORS
from bnfold.net import Shape
from bnfold.onnx import operators as onnx_operators
from bnfold.onnx.operators import linear as onnx_linear

GIVEN = {
    "channel_shared": "false",
    "input_dim": "7",
    "kernel_depth": "2",
    "kernel_size": "3",
    "num_output": "4",
    "shape": "{ dim: 2 dim: 4 }",
}
"""What a layer has to say, by the fields that its record names."""

OF_A_TYPE = {"DeformableConvolution": "pad: 1 deformable_group: 2", "DepthwiseConvolution": "group: 4"}
"""What a type has to say besides."""

LEARN_AND_ABSORB_NOTHING = {
    "APL": "its max(x, 0) has no factor of its own",
    "CConvolution": "read as a Convolution where its masks are known, and refused elsewhere",
    "CInnerProduct": "read as an InnerProduct where its masks are known, and refused elsewhere",
    "FloorDiv": "it rounds what it divides",
    "FloorMod": "it takes away what it has rounded",
    "Lstm": "what an affine in front of it would do to its gates stays in the affine",
    "Pow": "its exponent is no factor",
    "SqueezeConvolution": "read as a Convolution where its masks are known, and refused elsewhere",
    "SqueezeDeconvolution": "read as a Deconvolution where its masks are known, and refused elsewhere",
    "SqueezeInnerProduct": "read as an InnerProduct where its masks are known, and refused elsewhere",
}


def test_a_type_that_learns_is_something_to_the_laws_or_has_a_reason() -> None:
    learns = {layer_type for layer_type, row in LAYERS.items() if row.blobs is not None}
    assert learns - set(OPERATORS) == set(LEARN_AND_ABSORB_NOTHING)


def text_of(layer_type: str, front: str, behind: str) -> str:
    """A layer by the fields of its record, with a Scale in front of it and one behind where such text is given."""
    message, fields = next(iter(LAYERS[layer_type].reads.items()))
    said = [f"{name}: {GIVEN[name]}" for name in fields.split() if name in GIVEN] + [OF_A_TYPE.get(layer_type, "")]
    shape, blob = f"dim: 2 dim: 4 {'dim: 5 ' * ('depth' in fields)}dim: 6 dim: 6", "x"
    cont = layer_type in FORWARD_ONLY
    if cont:
        shape = "dim: 5 dim: 2 dim: 4"
    if layer_type == "Embed":
        shape, blob = f"dim: {BATCH} {'dim: 4' * bool(front)}", "index"
    lines = [f'input: "{blob}" input_shape {{ {shape} }}', 'input: "cont" input_shape { dim: 5 dim: 2 }' * cont]
    if front:
        front += " axis: 2" * cont
        lines.append(f'layer {{ name: "front" type: "Scale" bottom: "{blob}" top: "f" scale_param {{ {front} }} }}')
        blob = "f"
    if layer_type == "DeformableConvolution":
        lines.append('input: "steps" input_shape { dim: 2 dim: 36 dim: 6 dim: 6 }')
        blob += '" bottom: "steps'
    bottom = f'bottom: "{blob}"' * (LAYERS[layer_type].bottoms != (0, 0)) + ' bottom: "cont"' * cont
    lines.append(f'layer {{ name: "l" type: "{layer_type}" {bottom} top: "y" {message} {{ {" ".join(said)} }} }}')
    if behind:
        lines.append(f'layer {{ name: "behind" type: "Scale" bottom: "y" top: "z" scale_param {{ {behind} }} }}')
    return "\n".join(lines)


UNEVENLY = "a shift in front of it reaches its outputs unevenly"

CAFFE_KEEPS = {
    ("LSTM", "behind"): "its gates are no sums that an affine passes",
    ("LSTM", "shift behind"): "its gates are no sums that an affine passes",
    ("Normalize", "shift behind"): "it adds no bias",
    ("RNN", "behind"): "its gates are no sums that an affine passes",
    ("RNN", "shift behind"): "its gates are no sums that an affine passes",
    ("Deconvolution", "shift in front"): UNEVENLY,
    ("Deconvolution3D", "shift in front"): UNEVENLY,
    ("DeformableConvolution", "shift in front"): "it would be missing where it reads outside of the image",
    ("DepthwiseDeconvolution", "shift in front"): UNEVENLY,
    ("Embed", "in front"): "it reads indices",
    ("Embed", "shift in front"): "it reads indices",
    ("LayerNorm", "in front"): "it normalises",
    ("LayerNorm", "shift in front"): "it normalises",
    ("Normalize", "in front"): "it divides by a norm",
    ("Normalize", "shift in front"): "it divides by a norm",
}
"""Layer type and where a Scale stands, with a shift or without -> why it stays there; elsewhere it is absorbed."""


def test_every_linear_type_of_one_direction_keeps_what_stands_on_its_other_side() -> None:
    keeps = {
        side: {layer_type for layer_type, where in CAFFE_KEEPS if where == side} for side in ("in front", "behind")
    }
    read = {layer_type for layer_type in LINEAR if LAYERS[layer_type].bottoms != (0, 0)}
    assert keeps == {"in front": BACKWARD_ONLY.keys() & read, "behind": set(FORWARD_ONLY)}


@pytest.mark.parametrize("shift", ["", "shift "])
@pytest.mark.parametrize("layer_type", sorted(LINEAR))
def test_a_linear_caffe_layer_absorbs_what_stands_behind_it(layer_type: str, shift: str) -> None:
    net = net_of(text_of(layer_type, "", f"bias_term: {'true' if shift else 'false'}"), 3)
    folded = bnfold.fold(net)
    if why := CAFFE_KEEPS.get((layer_type, f"{shift}behind")):
        (kept,) = folded.report.kept
        assert (kept.layer, why in kept.reason) == ("behind", True), kept
    else:
        assert [layer.type for layer in folded.net.layers if layer.name != "x"][-1] == layer_type
        assert not folded.report.kept
    np.testing.assert_allclose(run(folded.net)["z"], run(net)["z"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", ["", "shift "])
@pytest.mark.parametrize(
    "layer_type", sorted(layer_type for layer_type in LINEAR if LAYERS[layer_type].bottoms != (0, 0))
)
def test_a_linear_caffe_layer_absorbs_what_stands_in_front_of_it_or_says_why(layer_type: str, shift: str) -> None:
    net = net_of(text_of(layer_type, f"bias_term: {'true' if shift else 'false'}", ""), 3)
    folded = bnfold.fold(net)
    if why := CAFFE_KEEPS.get((layer_type, f"{shift}in front")):
        (kept,) = folded.report.kept
        assert (kept.layer, why in kept.reason) == ("front", True), kept
    else:
        assert "front" not in [layer.name for layer in folded.net.layers]
        assert not folded.report.kept
        np.testing.assert_allclose(run(folded.net)["y"], run(net)["y"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer_type", sorted(FORWARD_ONLY))
def test_what_a_recurrent_layer_reads_besides_takes_nothing_from_in_front(layer_type: str) -> None:
    """`cont` and a static input have no part in W_x; x as its own static input would need it twice."""
    text = """
        input: "x" input_shape { dim: 5 dim: 2 dim: 4 } input: "cont" input_shape { dim: 5 dim: 2 }
        input: "s" input_shape { dim: 2 dim: 3 }
        layer { name: "factor" type: "Scale" bottom: "s" top: "f" scale_param { bias_term: true } }
        layer { name: "l" type: "%s" bottom: "x" bottom: "cont" bottom: "f" top: "y"
                recurrent_param { num_output: 3 } }
    """
    net = net_of(text % layer_type, 3)
    folded = bnfold.fold(net)
    assert [kept.layer for kept in folded.report.kept] == ["factor"]
    np.testing.assert_allclose(run(folded.net)["y"], run(net)["y"], rtol=1e-12, atol=1e-12)


NODES: dict[str, tuple[int, Shape, Shape, dict[str, Any]]] = {
    "Conv": (1, (2, 4, 6, 6), (4, 4, 3, 3), {}),
    "DeformConv": (1, (2, 4, 6, 6), (4, 2, 1, 1), {"group": 2}),
    "ConvTranspose": (1, (2, 4, 6, 6), (4, 4, 3, 3), {}),
    "Einsum": (1, (2, 4, 3), (4, 4), {"equation": "bij,ik->bkj"}),
    "Gemm": (1, (3, 4), (4, 4), {}),
    "GroupNormalization": (1, (2, 4, 3, 3), (4,), {"num_groups": 2}),
    "InstanceNormalization": (1, (2, 4, 3, 3), (4,), {}),
    "LayerNormalization": (2, (2, 3, 4), (4,), {}),
    "MatMul": (2, (2, 3, 4), (4, 4), {}),
    "RMSNormalization": (2, (2, 3, 4), (4,), {}),
}
"""Operator -> the axis of its channels, what it reads, its weight, its attributes."""

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
"""Recurrent operator -> how many rows of its weight a hidden unit has."""

IN_FLOAT32 = {
    *("ai.onnx.ml.LinearClassifier", "ai.onnx.ml.LinearRegressor"),
    *("com.microsoft.Attention", "com.microsoft.BiasGelu", "com.microsoft.FastGelu"),
    *("com.microsoft.FusedConv", "com.microsoft.FusedGemm", "com.microsoft.FusedMatMul"),
    *("SimplifiedLayerNormalization", "com.microsoft.SkipLayerNormalization"),
    *("com.microsoft.MatMulNBits", "com.microsoft.SkipSimplifiedLayerNormalization"),
    *("HardSigmoid", "Selu"),
}
"""Operators that onnxruntime alone runs, or that hold float32: tests/onnx/test_scaler.py, test_fused.py and
traps/moves.txt try them."""


def model_of(op: str, front: bool) -> onnx.ModelProto:
    """An operator of ONNX between its input and a Mul, or behind one."""
    axis, bottom, shape, attributes = NODES[op]
    rng = np.random.default_rng(5)
    along = [4 if place == axis else 1 for place in range(len(bottom))]
    weights = {
        "w": rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape),
        "b": rng.normal(size=shape),
        "s": (np.array([-1.0, 2.0, 0.5, -3.0])).reshape(along),
    }
    weights |= {"o": rng.normal(size=(2, 2, 6, 6))} if op == "DeformConv" else {}
    inputs = [
        "m" if front else "x",
        "w",
        *weights.keys() & {"o"},
        *(["b"] * (op in ("GroupNormalization", "InstanceNormalization"))),
    ]
    linear = helper.make_node(op, inputs, ["z" if front else "y"], "l", **attributes)
    mul = helper.make_node("Mul", ["x" if front else "y", "s"], ["m" if front else "z"], "mul")
    graph = helper.make_graph(
        [mul, linear] if front else [linear, mul],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, bottom)],
        [helper.make_tensor_value_info("z", TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def test_the_linear_operators_of_onnx_are_those_tried_here() -> None:
    rows = onnx_operators.OPERATORS
    assert {op for op, rule in rows.items() if rule.__module__ == onnx_linear.__name__} == {*NODES, *GATES, *IN_FLOAT32}


def recurrent_model(op: str, directions: int, biased: bool) -> onnx.ModelProto:
    """A recurrent operator between a Mul with an Add and a Mul; its state has a bias of its own."""
    rng, rows = np.random.default_rng(9), 3 * GATES[op]
    weights = {
        "s": np.array([-1.0, 2.0, 0.5, -3.0]),
        "h": np.array([0.5, -2.0, 1.0, 0.25]),
        "w": rng.normal(size=(directions, rows, 4)),
        "r": rng.normal(size=(directions, rows, 3)),
        "b": rng.normal(size=(directions, 2 * rows)),
        "t": np.array([-1.0, 2.0, 0.5]),
    }
    direction = "bidirectional" if directions == 2 else "reverse"
    inputs = ["a", "w", "r", *["b"] * biased]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "s"], ["m"], "front"),
            helper.make_node("Add", ["m", "h"], ["a"], "shift"),
            helper.make_node(op, inputs, ["y"], "l", hidden_size=3, direction=direction),
            helper.make_node("Mul", ["y", "t"], ["z"], "behind"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (5, 2, 4))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("biased", [False, True], ids=["without bias", "with bias"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", sorted(GATES))
def test_a_recurrent_onnx_operator_takes_what_stands_in_front_alone(op: str, directions: int, biased: bool) -> None:
    model = recurrent_model(op, directions, biased)
    folded = bnfold.fold(bnfold.load(model.SerializeToString()))
    assert [layer.type for layer in folded.net.layers] == [op, "Mul"]
    (kept,) = folded.report.kept
    assert "its gates are no sums that an affine passes" in kept.reason
    assert bnfold.to_onnx(folded.net).graph.node[0].input[3] == ("b" if biased else "l.bias")
    x = np.random.default_rng(6).normal(size=(5, 2, 4)).astype(np.float32)
    assert_equal(model, bnfold.to_onnx(folded.net), x)


def assert_equal(model: onnx.ModelProto, folded: onnx.ModelProto, x: np.ndarray) -> None:
    before, after = (
        InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for each in (model, folded)
    )
    np.testing.assert_allclose(np.asarray(after), np.asarray(before), rtol=1e-5, atol=1e-5)


SHIFT_REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "Conv with pads": ("Conv", {"pads": [1, 0, 0, 0]}, "a shift in front of its padding"),
    "Conv padded to the same size": ("Conv", {"auto_pad": "SAME_UPPER"}, "a shift in front of its padding"),
    "ConvTranspose": ("ConvTranspose", {}, "a shift in front of it reaches its outputs unevenly"),
    "DeformConv": ("DeformConv", {"group": 2}, "would be missing where it reads outside of the image"),
    "Einsum": ("Einsum", {"equation": "bij,ik->bk"}, "it sums what it reads along an axis that its weight has not got"),
}
"""What takes no shift from in front: an operator, its attributes, and why."""


def shifted_model(op: str, attributes: dict[str, Any]) -> onnx.ModelProto:
    """An Add of one number for each channel, the operator behind it, and another Add, which takes any shift."""
    model = model_of(op, front=True)
    add, linear = model.graph.node
    add.op_type, add.name, linear.output[0] = "Add", "front", "y"
    del linear.attribute[:]
    linear.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    model.graph.node.append(helper.make_node("Add", ["y", "c"], ["z"], "behind"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.75), "c"))
    return model


def values_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (found,) = ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("name", SHIFT_REFUSED)
def test_a_shift_that_a_linear_onnx_operator_refuses_would_be_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, attributes, why = SHIFT_REFUSED[name]
    model = shifted_model(op, attributes)
    net, x = bnfold.load(model.SerializeToString()), np.random.default_rng(6).normal(size=NODES[op][1])
    folded = bnfold.fold(net)
    assert [why in kept.reason for kept in folded.report.kept if kept.layer == "front"] == [True]
    np.testing.assert_allclose(values_of(bnfold.to_onnx(folded.net), x), values_of(model, x), rtol=1e-9, atol=1e-9)
    monkeypatch.setattr("bnfold.algebra.absorb.block", lambda reason: block("" if why in reason else reason))
    anyway = bnfold.fold(net)
    assert "front" not in [layer.name for layer in anyway.net.layers]
    assert np.abs(values_of(bnfold.to_onnx(anyway.net), x) - values_of(model, x)).max() > 1e-3


def test_a_shift_in_front_of_a_conv_without_padding_goes_into_its_bias() -> None:
    model, x = shifted_model("Conv", {}), np.random.default_rng(6).normal(size=NODES["Conv"][1])
    folded = bnfold.fold(bnfold.load(model.SerializeToString()))
    assert [layer.type for layer in folded.net.layers] == ["Conv"]
    np.testing.assert_allclose(values_of(bnfold.to_onnx(folded.net), x), values_of(model, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("front", [False, True], ids=["behind", "in front"])
@pytest.mark.parametrize("op", sorted(NODES))
def test_a_linear_onnx_operator_absorbs_from_either_side_or_says_why(op: str, front: bool) -> None:
    model = model_of(op, front)
    folded = bnfold.fold(bnfold.load(model.SerializeToString()))
    if front and op.endswith("Normalization"):
        (kept,) = folded.report.kept
        assert "it normalises what it reads" in kept.reason
        return
    assert [layer.type for layer in folded.net.layers] == [op]
    x = np.random.default_rng(6).normal(size=NODES[op][1])
    before, after = (
        np.asarray(value)
        for each in (model, bnfold.to_onnx(folded.net))
        for value in ReferenceEvaluator(each).run(None, {"x": x})
    )
    np.testing.assert_allclose(np.asarray(after), np.asarray(before), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize(("factors", "absorbed"), [([2, 2, 2, -3, -3, -3], True), ([2, 2, 2, -3, -3, 5], False)])
def test_a_group_normalisation_with_a_scale_for_each_group_takes_what_its_groups_share(
    factors: list[float], absorbed: bool, opset: int
) -> None:
    rng = np.random.default_rng(8)
    both = np.array(factors).reshape(6, 1, 1)
    weights: dict[str, np.ndarray] = {"w": rng.normal(size=2), "b": rng.normal(size=2), "s": both, "h": -both}
    graph = helper.make_graph(
        [
            helper.make_node("GroupNormalization", ["x", "w", "b"], ["g"], "g", num_groups=2),
            helper.make_node("Mul", ["g", "s"], ["m"], "mul"),
            helper.make_node("Add", ["m", "h"], ["y"], "add"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6, 3, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 6, 3, 3))],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    folded = bnfold.fold(bnfold.load(model.SerializeToString()))
    assert [layer.type for layer in folded.net.layers][1:] == ([] if absorbed else ["BatchNormalization"])
    assert all("varies within a group" in kept.reason for kept in folded.report.kept if kept.layer == "add")
    x = rng.normal(size=(2, 6, 3, 3)).astype(np.float32)
    assert_equal(model, bnfold.to_onnx(folded.net), x)
