"""What operators cost before and after: counted by hand, and said to be unknown where it is."""

from __future__ import annotations

from dataclasses import replace

import onnx_cases
import pytest
from cases import golden, goldens
from nets import net

import bnfold
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


def test_what_stands_behind_an_unknown_shape_is_unknown_and_not_nothing() -> None:
    text = CAFFE.replace('name: "c"', 'name: "u" type: "Strange" bottom: "x" top: "u" } layer { name: "c"')
    text = text.replace('type: "Convolution" bottom: "x"', 'type: "Convolution" bottom: "u"')
    known = {layer.name: layer.blobs for layer in net(CAFFE).layers if layer.blobs}
    found = rows(net(text, **known))
    assert found["BatchNorm"][1] == "unknown -> 0"


@pytest.mark.parametrize("case", [*goldens(), *map(str, onnx_cases.cases())])
def test_shapes_that_the_fold_knew_count_what_inferring_them_anew_counts(case: str) -> None:
    original = bnfold.load(onnx_cases.FOLDER / case) if case.endswith(".onnx") else golden(case).load()
    result = bnfold.fold(original)
    run = RunReport(original, result.net, result.report)
    anew = RunReport(original, result.net, replace(result.report, shapes={}))
    assert result.report.shapes
    assert changes(run, every=True) == changes(anew, every=True)
