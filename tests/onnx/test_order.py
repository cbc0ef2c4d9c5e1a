"""Nodes that stand in front of those that make what they read: onnxruntime sorts them, and so does bnfold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Run
from onnx import ModelProto
from onnx_cases import run
from onnx_texts import assert_equal, folded, model, net_of, statistics, types, values

from bnfold import compare, load
from bnfold.errors import ModelError

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
SORTED = ["c = Conv (x, w)", "n = BatchNormalization (c, gamma, beta, mean, variance)", "y = Relu (n)"]


def made(nodes: list[str], inputs: str = "float[k,3,8,8] x") -> ModelProto:
    text = f"{HEAD} g ({inputs}) => (float[k,3,6,6] y) {{ {' '.join(nodes)} }}"
    return model(text, w=values(3, 3, 3, 3), **statistics())


def unsorted() -> ModelProto:
    return made(SORTED[::-1])


def test_a_model_whose_nodes_are_not_sorted_folds() -> None:
    before = unsorted()
    after = folded(before)
    assert types(after) == ["Conv", "Relu"]
    x = values(2, 3, 8, 8, seed=5)
    assert_equal(before, after, x)
    assert any("are written sorted" in note for note in net_of(before).notes)


def test_nodes_keep_their_order_where_they_can_run_in_it() -> None:
    """Of two branches that were written in turns, the one node that stood too early waits, and no other moves."""
    nodes = ["a = Relu (x)", "c = Sub (b, x)", "d = Abs (a)", "b = Neg (x)", "e = Sqrt (d)", "s = Add (c, e)"]
    nodes += ["y = Conv (s, w)"]
    net = net_of(made(nodes))
    assert [layer.type for layer in net.layers] == ["Relu", "Abs", "Neg", "Sub", "Sqrt", "Add", "Conv"]
    assert not net_of(made(SORTED)).notes


def test_a_body_that_reads_what_is_made_behind_its_node_waits_for_it() -> None:
    body = """q = If (flag) <then_branch = t () => (float[k,3,6,6] p) { p = Abs (n) },
    else_branch = e () => (float[k,3,6,6] r) { r = Neg (n) }> y = Relu (q)"""
    before = made([body, *SORTED[:2]], "float[k,3,8,8] x, bool flag")
    after = folded(before)
    assert types(after) == ["Conv", "If", "Relu"]
    feeds = {"x": values(2, 3, 8, 8, seed=5), "flag": np.array(False)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_large_constants_go_with_their_nodes() -> None:
    """Their values are not in the message, and are told by the number of the node."""
    before = unsorted()
    weight = values(3, 8192, seed=7)
    table = onnx.helper.make_node("Constant", [], ["t"], value=onnx.numpy_helper.from_array(weight))
    before.graph.node.insert(0, onnx.helper.make_node("MatMul", ["f", "t"], ["z"]))
    before.graph.node.insert(1, onnx.helper.make_node("ReduceMean", ["y"], ["f"], axes=[2, 3], keepdims=0))
    before.graph.node.append(table)
    before.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["k", 8192]))
    after = folded(before)
    assert types(after).count("BatchNormalization") == 0
    x = values(2, 3, 8, 8, seed=5)
    np.testing.assert_allclose(run(after, {"x": x})["z"], run(before, {"x": x})["z"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("outside", [False, True])
def test_both_commands_read_such_a_file_and_a_wrong_candidate_fails(run: Run, tmp_path: Path, outside: bool) -> None:
    before, out = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(unsorted(), before, save_as_external_data=outside, location="w.bin", size_threshold=0)
    assert run("fold", str(before), "-o", str(out)).code == 0
    assert types(onnx.load(out)) == ["Conv", "Relu"]
    assert run("diff", str(before), str(out)).code == 0
    wrong = onnx.load(out)
    weight = onnx.numpy_helper.to_array(wrong.graph.initializer[0]).copy()
    weight[1] *= 1.01
    wrong.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, wrong.graph.initializer[0].name))
    onnx.save(wrong, out)
    assert run("diff", str(before), str(out)).code == 1
    assert not compare(load(before), wrong).passed


def test_a_circle_is_told_with_its_nodes() -> None:
    with pytest.raises(ModelError, match=r"'y' \(Relu\) reads 'n'.*'c' \(Conv\), 'n' \(BatchNorm.*\), 'y' \(Relu\)$"):
        net_of(made(["y = Relu (n)", "c = Conv (y, w)", SORTED[1]]))
    with pytest.raises(ModelError, match="reads 'q', which nothing makes"):
        net_of(made(["y = Relu (q)"]))


def test_the_nodes_of_a_body_must_be_sorted_as_onnxruntime_wants_them() -> None:
    body = """y = If (flag) <then_branch = t () => (float[k,3,6,6] p) { p = Abs (q) q = Neg (n) },
    else_branch = e () => (float[k,3,6,6] r) { r = Neg (n) }>"""
    before = made([*SORTED[:2], body], "float[k,3,8,8] x, bool flag")
    with pytest.raises(ModelError, match="reads 'q', which its body makes only behind that; sort the nodes of the"):
        net_of(before)
    with pytest.raises(Exception, match="must be topologically sorted"):
        run(before, {})
