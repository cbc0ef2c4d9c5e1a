"""What a LayerNormalization multiplies and adds last goes forward into the MatMuls that read it, where all accept."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold import fold, save_onnx
from bnfold.algebra import FoldReport, Moved
from bnfold.onnx.read import load_bytes

RNG = np.random.default_rng(5)
WEIGHTS = {
    "scale": RNG.uniform(0.5, 2, 6) * [1, -1, 1, 1, -1, 1],
    "bias": RNG.standard_normal(6),
    "wq": RNG.standard_normal((6, 4)),
    "wk": RNG.standard_normal((6, 4)),
    "bq": RNG.standard_normal(4),
    "bk": RNG.standard_normal(4),
    "table": RNG.standard_normal((3, 6)),
}


def model(nodes: str, outputs: str, opset: int = 17) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[2,3,6] x) => ({", ".join(f"float[2,3,?] {name}" for name in outputs.split())}) {{ {nodes} }}"""
    parsed = onnx.parser.parse_model(text)
    read = {name for node in parsed.graph.node for name in node.input}
    for name, values in WEIGHTS.items():
        if name in read:
            parsed.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return parsed


def folded(before: onnx.ModelProto, tmp_path: Path) -> tuple[onnx.ModelProto, FoldReport]:
    result = fold(load_bytes(before.SerializeToString()))
    save_onnx(result.net, tmp_path / "out.onnx")
    return onnx.load(BytesIO((tmp_path / "out.onnx").read_bytes())), result.report


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
    one, other = (ReferenceEvaluator(net).run(None, {"x": x}) for net in (before, after))
    for wanted, found in zip(one, other, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def constants(net: onnx.ModelProto, operator: str) -> list[np.ndarray]:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in net.graph.initializer}
    (node,) = [node for node in net.graph.node if node.op_type == operator]
    return [values[name] for name in node.input if name in values]


ATTENTION = """
n = LayerNormalization (x, scale, bias)
l = MatMul (n, wq) q = Add (l, bq)
m = MatMul (n, wk) k = Add (m, bk)
"""


def test_the_scale_and_bias_of_a_layer_normalization_go_into_the_matmuls_that_read_it(tmp_path: Path) -> None:
    before = model(ATTENTION, "q k")
    after, report = folded(before, tmp_path)
    assert_same(before, after)
    scale, bias = constants(after, "LayerNormalization")
    assert (scale == 1).all()
    assert not bias.any()
    (record,) = report.records
    assert isinstance(record, Moved)
    assert record.type == "LayerNormalization"
    assert len(record.into) == 2
    again, _ = folded(after, tmp_path)
    assert again == after


def test_a_table_that_is_added_on_the_way_is_divided_by_the_scale(tmp_path: Path) -> None:
    before = model("n = LayerNormalization (x, scale) t = Add (n, table) q = MatMul (t, wq)", "q")
    after, report = folded(before, tmp_path)
    assert_same(before, after)
    (scale,), (table,) = constants(after, "LayerNormalization"), constants(after, "Add")
    assert (scale == 1).all()
    np.testing.assert_allclose(table, WEIGHTS["table"] / WEIGHTS["scale"], rtol=1e-6)
    (moved,) = [record for record in report.records if isinstance(record, Moved)]
    assert moved.through


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (ATTENTION, "q k n"),
        (ATTENTION + " r = Add (n, x)", "q k r"),
        (ATTENTION + " r = Softmax (n)", "q k r"),
        (ATTENTION + " r = MatMul (n, wq)", "q k r"),  # it would need a bias
        ("n = LayerNormalization (x, scale, bias) t = Transpose <perm = [0, 2, 1]> (n) r = Softmax (t)", "r"),
    ],
)
def test_they_stay_where_somebody_else_reads_it(nodes: str, outputs: str, tmp_path: Path) -> None:
    before = model(nodes, outputs)
    after, _ = folded(before, tmp_path)
    scale, bias = constants(after, "LayerNormalization")
    np.testing.assert_array_equal(scale, WEIGHTS["scale"].astype(np.float32))
    np.testing.assert_array_equal(bias, WEIGHTS["bias"].astype(np.float32))
    if "t = " not in nodes:
        assert_same(before, after)


def test_a_scale_stays_where_it_would_go_into_another_factor(tmp_path: Path) -> None:
    before = model("n = LayerNormalization (x, scale) m = Mul (n, bias) r = Softmax (m) q = MatMul (n, wq)", "r q")
    after, report = folded(before, tmp_path)
    assert after == before
    assert not [record for record in report.records if isinstance(record, Moved)]


def test_a_normalization_with_nothing_to_move_is_left_alone(tmp_path: Path) -> None:
    before = model("n = LayerNormalization (x, scale) q = MatMul (n, wq)", "q")
    del before.graph.initializer[:]
    for name, values in (("scale", np.ones(6)), ("wq", WEIGHTS["wq"])):
        before.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    after, report = folded(before, tmp_path)
    assert after == before
    assert not report.records
