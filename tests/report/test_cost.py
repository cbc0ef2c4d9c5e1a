"""What operators cost before and after: counted by hand, and said to be unknown where it is."""

from __future__ import annotations

from dataclasses import replace

import onnx_cases
import pytest
from cases import golden, goldens
from nets import net
from onnx_texts import model, net_of, statistics, values

import bnfold
from bnfold.onnx import edition
from bnfold.report.cost import changes
from bnfold.report.figures import amount
from bnfold.report.run import RunReport

CAFFE = """
input: "x" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 bias_term: false } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }
layer { name: "f" type: "InnerProduct" bottom: "b" top: "f" inner_product_param { num_output: 5 } }
"""


def rows(original: bnfold.Net, *, every: bool = False) -> dict[str, tuple[str, ...]]:
    result = bnfold.fold(original)
    found = changes(RunReport(original, result.net, result.report), every=every)
    return {row[0]: row[1:] for row in found}


def test_each_layer_counts_its_products_of_a_learned_value_and_an_input() -> None:
    found = rows(net(CAFFE), every=True)
    # 3 outputs a side; 2 samples; 4*3*3*3 weights at 9 places, 2*36 normalised values, 5*36 weights a row.
    assert found["Convolution"][:2] == ("1 -> 1", f"{amount(2 * 9 * 108)} -> {amount(2 * 9 * 108)}")
    assert found["BatchNorm"] == ("1 -> 0", "72 -> 0", "9 -> 0")
    assert found["InnerProduct"][1] == "360 -> 360"
    assert found["Convolution"][2] == "108 -> 112"


def test_a_kernel_for_each_pixel_is_multiplied_once_for_each_sample() -> None:
    found = rows(net(CAFFE.replace("Convolution", "Local").replace("convolution_param", "local_param")), every=True)
    assert found["Local"][:2] == ("1 -> 1", f"{amount(2 * 9 * 108)} -> {amount(2 * 9 * 108)}")


def test_what_stands_behind_an_unknown_shape_is_unknown_and_not_nothing() -> None:
    text = CAFFE.replace('name: "c"', 'name: "u" type: "Strange" bottom: "x" top: "u" } layer { name: "c"')
    text = text.replace('type: "Convolution" bottom: "x"', 'type: "Convolution" bottom: "u"')
    known = {layer.name: layer.blobs for layer in net(CAFFE).layers if layer.blobs}
    found = rows(net(text, **known))
    assert found["BatchNorm"][1] == "unknown -> 0"


@pytest.mark.parametrize(
    ("shape", "made", "work"),
    [("2,3,8,8", "2,4,3,3", 2), ("n,3,8,8", "n,4,3,3", 1), ("n,3,8,w", "n,4,3,v", None)],
)
def test_of_an_open_batch_one_sample_is_counted(shape: str, made: str, work: int | None) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[{shape}] x) => (float[{made}] y)
    {{ c = Conv <strides = [2, 2]> (x, w) y = BatchNormalization (c, gamma, beta, mean, variance) }}"""
    found = rows(net_of(model(text, w=values(4, 3, 3, 3), **statistics(4))), every=True)
    told = "unknown" if work is None else amount(work * 9 * 108)
    assert found["Conv"][1] == f"{told} -> {told}"
    assert found["BatchNormalization"][1] == ("unknown" if work is None else f"{work * 36}") + " -> 0"


def test_a_bias_behind_a_matmul_leaves_no_shape_to_be_inferred_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2,5,4] x) => (float[2,5,4] y)
    { m = MatMul (x, w) a = Add (m, b) y = Mul (a, s) }"""
    net = net_of(model(text, w=values(4, 4), b=values(4), s=values(4)))
    inferred = []
    monkeypatch.setattr(edition, "_found", lambda net, *_, **__: inferred.append(net))
    assert rows(net, every=True)["MatMul"] == ("1 -> 1", f"{amount(2 * 5 * 16)} -> {amount(2 * 5 * 16)}", "16 -> 16")
    assert not inferred


@pytest.mark.parametrize("case", [*goldens(), *map(str, onnx_cases.cases())])
def test_shapes_that_the_fold_knew_count_what_inferring_them_anew_counts(case: str) -> None:
    original = bnfold.load(onnx_cases.FOLDER / case) if case.endswith(".onnx") else golden(case).load()
    result = bnfold.fold(original)
    run = RunReport(original, result.net, result.report)
    anew = RunReport(original, result.net, replace(result.report, shapes={}))
    assert result.report.shapes
    assert changes(run, every=True) == changes(anew, every=True)
