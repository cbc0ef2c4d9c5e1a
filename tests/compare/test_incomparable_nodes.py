"""What draws inside a function or a body, or by a flag that a Constant says: it is left out of the proof, and said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx.parser
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_models import change

from bnfold.compare.comparison import compare
from bnfold.compare.models import open_model
from bnfold.errors import ModelError
from bnfold.net import Array
from bnfold.options import CompareOptions

pytestmark = pytest.mark.usefixtures("in_one_process")

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]


def said(name: str, value: object) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def dropout(read: str, flag: str, written: str) -> NodeProto:
    return helper.make_node("Dropout", [read, "", flag], [written], written)


def called(name: str, *read: str, written: str = "z") -> NodeProto:
    return helper.make_node(name, read, [written], written, domain="f")


def functions(spread: float = 1.0) -> list[FunctionProto]:
    noise = helper.make_node("RandomNormalLike", ["i"], ["n"], scale=spread)
    bodies = {
        "Noisy": [noise, helper.make_node("Add", ["i", "n"], ["o"])],
        "Outer": [called("Noisy", "i", written="o")],
        "Drop": [dropout("i", "t", "o")],
        "Training": [said("t", True), dropout("i", "t", "o")],
    }
    return [
        helper.make_function("f", name, ["i", "t"] if name == "Drop" else ["i"], ["o"], nodes, OPSETS)
        for name, nodes in bodies.items()
    ]


def branch(name: str, nodes: Sequence[NodeProto], stored: dict[str, Array] | None = None) -> NodeProto:
    """An If whose first branch, which gives a blob of such a name, is taken."""
    bodies = [
        helper.make_graph(
            list(inside),
            "body",
            [],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, key) for key, value in (stored or {}).items()],
        )
        for out, inside in ((name, nodes), ("p", [helper.make_node("Identity", ["a"], ["p"])]))
    ]
    return helper.make_node("If", ["on"], ["z"], "z", then_branch=bodies[0], else_branch=bodies[1])


def network(between: Sequence[NodeProto], shift: float = 0.0, spread: float = 1.0) -> ModelProto:
    """A product `a`, what makes `z` of it, and a product of that."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "fc"), *between, helper.make_node("Mul", ["z", "b"], ["y"])]
    weights = {
        "w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) + np.float32(shift),
        "b": np.arange(1, 4, dtype=np.float32),
        "on": np.array(True),
        "off": np.array(False),
    }
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in SIZES.items()]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "test", ports[:1], ports[1:], stored)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=functions(spread))


SIZES = {"x": (2, 4), "y": (2, 3)}
COMPUTED = [helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0), said("far", np.float32(99))]
COMPUTED.append(helper.make_node("Less", ["most", "far"], ["computed"]))
DRAWS = {
    "a flag that is computed": [*COMPUTED, dropout("a", "computed", "z")],
    "a flag that a function is told, computed": [*COMPUTED, called("Drop", "a", "computed")],
    "a flag that a body computes": [branch("q", [*COMPUTED, dropout("a", "computed", "q")])],
    "a flag that is logic": [helper.make_node("Not", ["off"], ["t"]), dropout("a", "t", "z")],
    "a function": [called("Noisy", "a")],
    "a function of a function": [called("Outer", "a")],
    "a function in training": [called("Training", "a")],
    "a function that is told to train": [called("Drop", "a", "on")],
    "a function that a Constant tells to train": [said("t", True), called("Drop", "a", "t")],
    "a Constant": [said("t", True), dropout("a", "t", "z")],
    "a body": [branch("q", [dropout("a", "on", "q")])],
    "a body with a flag": [branch("q", [dropout("a", "t", "q")], {"t": np.array(True)})],
    "a body with a Constant": [branch("q", [said("t", True), dropout("a", "t", "q")])],
    "a body that calls": [branch("q", [called("Noisy", "a", written="q")])],
}
STEADY = {
    "a flag that is logic": [helper.make_node("And", ["on", "off"], ["t"]), dropout("a", "t", "z")],
    "a flag that is not given": [helper.make_node("Dropout", ["a", "", ""], ["z"])],
    "a function that is told nothing": [called("Drop", "a")],
    "a function": [called("Drop", "a", "off")],
    "a Constant": [said("t", False), dropout("a", "t", "z")],
    "a body": [branch("q", [dropout("a", "t", "q")], {"t": np.array(False)})],
}


@pytest.mark.parametrize("between", DRAWS.values(), ids=DRAWS)
def test_what_draws_is_left_out_wherever_it_stands(between: list[NodeProto]) -> None:
    report = compare(network(between), network(between))
    assert report.passed, report.verdict
    assert "0 of 1 outputs compared; 1 stands behind node 'z'" in report.verdict
    assert "which draws other values in each run" in report.verdict
    assert "a" in [blob.blob for blob in report.blobs]
    assert not compare(network(between), network(between, 0.1)).passed
    assert not compare(network(between), change(network(between), "b", (1,), 0.5)).passed


@pytest.mark.parametrize("between", STEADY.values(), ids=STEADY)
def test_what_does_not_draw_is_compared(between: list[NodeProto]) -> None:
    report = compare(network(between), network(between))
    assert report.passed
    assert "y" in [blob.blob for blob in report.blobs]


def test_a_function_that_draws_otherwise_is_no_proof() -> None:
    report = compare(network(DRAWS["a function"]), network(DRAWS["a function"], spread=2.0))
    assert report.verdict.startswith("Nothing is proved: no output was compared")


def test_a_function_that_calls_itself_ends_in_a_sentence() -> None:
    net = network([called("Round", "a")])
    net.functions.append(helper.make_function("f", "Round", ["i"], ["o"], [called("Round", "i", written="o")], OPSETS))
    with pytest.raises(ModelError, match="must not be recursive"):
        compare(net, net)


@pytest.mark.skipif(not hasattr(NodeProto(), "overload"), reason="this onnx knows no overloads")
def test_functions_of_one_name_are_told_apart_by_their_overload() -> None:
    def made(overload: str) -> ModelProto:
        net = network([called("Noisy", "a")])
        net.ir_version = 10
        quiet = helper.make_function("f", "Noisy", ["i"], ["o"], [helper.make_node("Abs", ["i"], ["o"])], OPSETS)
        quiet.overload = "quiet"
        net.functions.append(quiet)
        net.graph.node[1].overload = overload
        return net

    assert [one.blob for one in compare(made(""), made("")).uncompared] == ["y"]
    assert not compare(made("quiet"), made("quiet")).uncompared


def drawing(settings: str = "scale = 1.5", read: str = "k", added: str = "r", weight: float = 1.0) -> ModelProto:
    """Outputs that are drawn, by the size of a blob or by its values, and one that is not."""
    made = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2, 3, 6, 6] x) => (float[2, 4, 4, 4] y, float[2, 4, 4, 4] z, float[2, 4, 4, 4] q) {{
            a = Conv(x, w)
            k = Sigmoid(a)
            y = Sqrt(k)
            r = RandomNormalLike <{settings}> ({read})
            s = RandomUniformLike (k)
            z = Add({added}, c)
            q = Bernoulli({read})
        }}
        """
    )
    weights = np.random.default_rng(3).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    weights[2] *= np.float32(weight)
    made.graph.initializer.extend(
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([2], np.float32), "c")]
    )
    return made


@pytest.mark.parametrize("layers", [True, False])
def test_what_draws_otherwise_does_not_pass_by_other_outputs(layers: bool) -> None:
    reference = drawing()
    assert compare(reference, drawing(weight=1 + 1e-6), layers=layers).passed
    assert not compare(reference, drawing(weight=1.02), layers=layers).passed
    for other, output in ((drawing("scale = 2.0"), "z"), (drawing(added="s"), "z"), (drawing(read="y"), "q")):
        report = compare(reference, other, layers=layers)
        assert not report.passed
        assert f"the candidate makes output '{output}' by other settings or weights, or of another" in report.verdict


def labelled(*names: bytes, factor: float = 1.5) -> ModelProto:
    made = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[2, 3] x) => (float16[2, 3] y, string[2, 1] z) {
            y = Mul(x, k)
            a = ArgMax <axis = 1> (y)
            z = Gather(names, a)
        }
        """
    )
    text = TensorProto(name="names", data_type=TensorProto.STRING, dims=[len(names)], string_data=names)
    made.graph.initializer.extend([numpy_helper.from_array(np.full(3, factor, np.float16), "k"), text])
    return made


def test_labels_that_a_table_gives_as_text_have_to_be_the_same() -> None:
    reference = labelled(b"cat", b"dog", b"\xff")
    report = compare(reference, labelled(b"cat", b"dog", b"\xff"))
    assert report.passed
    assert "1 stands behind node 'z' (Gather), which makes no tensor of numbers" in report.verdict
    assert not compare(reference, labelled(b"cat", b"dog", b"\xfe")).passed
    assert not compare(reference, labelled(b"cat", b"dog", b"\xff", factor=1.6)).passed


def test_text_stays_in_a_model_whose_weights_are_rounded_otherwise() -> None:
    model = open_model(labelled(b"cat", b"dog", b"\xff"), "reference", CompareOptions())
    made = model.rounded_otherwise(model, None)
    assert [weight.name for weight in made.weights] == ["k"]
    assert list(made.proto.graph.initializer) == [model.proto.graph.initializer[1]]
