"""An affine that another one could not take in tries again when that one is gone, so a second fold finds nothing."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import onnx
import pytest
from algebra.running import net_of
from algebra.texts import bn, checked, conv, data, layer, names, power, scale
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold import fold, save_onnx
from bnfold.onnx.read import load_bytes

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,6] x) => (float[2,3,4] y) { a = Add (x, c) m = Mul (a, d) y = MatMul (m, w) }"""


def folded(data: bytes) -> bytes:
    stream = BytesIO()
    save_onnx(fold(load_bytes(data)).net, stream)
    return stream.getvalue()


def left_by_one_fold(model: onnx.ModelProto, rng: np.random.Generator) -> list[str]:
    """The nodes that are left of a model that a fold leaves equal and a second one leaves alone."""
    data = model.SerializeToString()
    once = folded(data)
    assert folded(once) == once
    feeds = {"x": rng.standard_normal((2, 3, 6)).astype(np.float32)}
    (wanted,), (found,) = (
        ReferenceEvaluator(onnx.ModelProto.FromString(each)).run(None, feeds) for each in (data, once)
    )
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-5, atol=1e-5)
    return [node.op_type for node in onnx.ModelProto.FromString(once).graph.node]


def test_what_stood_in_an_affines_way_may_be_gone_later() -> None:
    rng = np.random.default_rng(2)
    model = onnx.parser.parse_model(MODEL)
    for name, shape in (("c", (6,)), ("d", (6,)), ("w", (6, 4))):
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    assert left_by_one_fold(model, rng) == ["MatMul", "Add"]


def test_a_number_that_is_written_for_each_channel_stays_a_number() -> None:
    """Else it would join the BatchNorm in a second fold, whose values would then be one for each channel and column."""
    text = data() + conv("c", "data") + layer("t", "TanH", "c") + bn("b", "t")
    text += layer("cut", "Slice", "b", "d e", "slice_param { axis: -1 slice_point: 3 }") + power("p", "e")
    result = checked(net_of(text + layer("s", "Scale", "p", "", "scale_param { num_axes: 0 bias_term: true }")))
    assert names(result.net) == ["data", "c", "t", "b", "cut", "s"]


def test_an_alias_goes_when_what_wrote_over_its_input_is_gone() -> None:
    text = data() + layer("r", "ReLU", "data", "data") + layer("d", "Dropout", "data")
    text += layer("o", "Dropout", "data", "data", "dropout_param { dropout_ratio: 0.25 scale_train: false }")
    text += scale("s", "data") + layer("e", "Eltwise", "s d", "", "eltwise_param { operation: PROD }")
    assert names(checked(net_of(text)).net) == ["data", "r", "s", "e"]


PARTS = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,6] x) => (float[1,3,6] y) {
b = BatchNormalization (x, scale, bias, mean, variance) d, e = Split <axis = 0> (b)
p = Add (d, c) m = Sum (e, p, p) y = Add (m, k) }"""


def test_an_affine_moves_when_one_that_took_a_part_of_it_alone_is_gone() -> None:
    """`p` takes what is in front of it on its way, so the sum meets the scale on the other way alone."""
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(PARTS)
    for name in ("scale", "bias", "mean", "variance", "c", "k"):
        values = rng.uniform(0.5, 2, 3) if name == "variance" else rng.standard_normal((3, 1) if name in "ck" else 3)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    assert left_by_one_fold(model, rng) == ["Split", "Sum", "BatchNormalization"]


def test_a_number_goes_back_and_its_inverse_to_what_else_reads_the_blob() -> None:
    text = data() + conv("c", "data") + power("p", "c", param="scale: -0.5") + layer("t", "TanH", "p")
    text += layer("e", "Eltwise", "t c", "", "eltwise_param { operation: PROD }") + conv("last", "e")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "c", "t", "e", "last"]
    (folded,) = result.report.folded
    assert (folded.layer, folded.into) == ("p", ("c", "last"))
    shifted = text.replace("scale: -0.5", "scale: -0.5 shift: 0.25")
    assert "p" in names(checked(net_of(shifted)).net)


def test_a_blob_that_many_read_keeps_its_scale() -> None:
    """All others would take the inverse, for one layer less."""
    text = data() + conv("c", "data")
    for number in range(9):
        text += power(f"p{number}", "c", param=f"scale: {0.5 + number / 32}") + layer(
            f"t{number}", "TanH", f"p{number}"
        )
    assert len(checked(net_of(text)).report.kept) == 9
    few = text[: text.index(layer("t7", "TanH", "p7"))] + layer("t7", "TanH", "p7")
    assert len(checked(net_of(few)).report.kept) == 7


GATED = "eltwise_param { operation: PROD }"


def test_a_number_behind_a_gated_product_goes_to_what_is_gated_and_its_inverse_into_the_gate() -> None:
    """As nfnet scales what it has squeezed and excited: `s*(c*g(c)) = (s*c)*g((1/s)*(s*c))`."""
    text = data() + conv("c", "data")
    text += layer("pool", "Pooling", "c", "", "pooling_param { pool: AVE global_pooling: true }")
    text += layer("ip", "InnerProduct", "pool", "", "inner_product_param { num_output: 4 }")
    text += layer("g", "Sigmoid", "ip") + layer("m", "Scale", "c g", "", "scale_param { axis: 0 }")
    text += power("p", "m", param="scale: -0.5") + layer("sum", "Eltwise", "p data")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "c", "pool", "ip", "g", "m", "sum"]
    (folded,) = result.report.folded
    assert (folded.layer, folded.into, folded.through) == ("p", ("c", "ip"), ("m", "pool"))
    assert "p" in names(checked(net_of(text.replace("scale: -0.5", "scale: -0.5 shift: 0.25"))).net)


def test_a_number_stays_behind_a_product_that_its_inverse_would_reach_too() -> None:
    """Of `s*(c*relu(c))` and `(s*c)*relu((1/s)*(s*c))` s is left in the first alone, and 1/s is at a TanH."""
    text = data() + conv("c", "data") + layer("r", "ReLU", "c") + layer("m", "Eltwise", "c r", "", GATED)
    text += power("p", "m", param="scale: 0.5") + layer("t", "TanH", "p")
    assert "p" in names(checked(net_of(text)).net)


def test_a_number_that_can_go_nowhere_else_goes_to_the_other_factor_of_a_product() -> None:
    """`(s*c)*k = c*(s*k)`, where c is read as it is, too, and the product by what takes no factor."""
    text = data() + conv("c", "data") + conv("k", "data") + power("p", "c", param="scale: -0.5")
    text += layer("m", "Eltwise", "p k", "", GATED) + layer("t", "TanH", "m") + layer("u", "TanH", "c")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "c", "k", "m", "t", "u"]
    (folded,) = result.report.folded
    assert (folded.layer, folded.into) == ("p", ("k",))
    shifted = text.replace("scale: -0.5", "scale: -0.5 shift: 0.25")
    squared = text.replace(layer("m", "Eltwise", "p k", "", GATED), layer("m", "Eltwise", "p p k", "", GATED))
    summed = text.replace(GATED, "")
    for other in (shifted, squared, summed, text + layer("v", "TanH", "k"), text + layer("v", "TanH", "p")):
        assert other != text
        assert "p" in names(checked(net_of(other)).net)


PRODUCT = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,6] x) => (float[2,3,4] t, float[2,3,n] y)
<float s = {-0.375}> { q = MatMul (x, wq) t = Tanh (q) a = Mul (q, s) k = MatMul (x, wk) LAST y = Softmax (p) }"""
LASTS = {
    "r = Transpose <perm = [0, 2, 1]> (k) p = MatMul (a, r)": 0,
    "p = Div (a, k)": 1,
    "p = Div (k, a)": 1,
}


@pytest.mark.parametrize("last", LASTS)
def test_an_attentions_scale_goes_to_the_keys_where_others_read_the_queries(last: str) -> None:
    """What divides takes nothing, and gives nothing away."""
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(PRODUCT.replace("LAST", last))
    for name in ("wq", "wk"):
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal((6, 4)).astype(np.float32), name))
    once = onnx.ModelProto.FromString(folded(model.SerializeToString()))
    assert [node.op_type for node in once.graph.node].count("Mul") == LASTS[last]
    feeds = {"x": rng.standard_normal((2, 3, 6)).astype(np.float32)}
    for wanted, found in zip(*(ReferenceEvaluator(each).run(None, feeds) for each in (model, once)), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-4, atol=1e-5)
