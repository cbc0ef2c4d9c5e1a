"""An open batch: the goldens give the same for every item, and what fixes the batch says so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cases import TOLERANCE, distance, golden, goldens
from single_layer import layer_net

from bnfold.errors import UnsupportedError
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

# What the refusal says, for the goldens that cannot leave the batch open.
FIXED = {
    "bn_batch_stats_in_test": "statistics follow each batch",
    "op_lstm": "each step is written out",
    "op_rnn": "each step is written out",
    "op_scale_batch": "lie along the batch",
    "scale_axis0_full": "lie along the batch",
    "segnet_bn_learn_batch_stats": "statistics follow each batch",
    "ssd_permute_partial": "the batch does not stay in front",
}
# Goldens whose layers mix the items of a batch, so that three equal ones give another answer.
MIXING = {"op_batch_reindex", "op_concat_dim_legacy", "op_reduction_sumsq", "ssd_detector_with_bn"}


@pytest.mark.parametrize("name", sorted(set(goldens()) - set(FIXED)))
def test_a_golden_with_an_open_batch_gives_the_same_for_three_items(name: str):
    case = golden(name)
    net = case.load()
    model = to_onnx(net, dynamic_batch=True)
    onnx.checker.check_model(model, full_check=True)
    session = Session(model, threads=1)
    feeds = {name: case.inputs[net.public_name(name)] for name in session.inputs}
    opened = [name for name, port in session.inputs.items() if port.shape[0] is None]
    assert opened
    tripled = feeds | {name: np.concatenate([feeds[name]] * 3) for name in opened}
    for blob, value in session.run(tripled).items():
        answer = case.answers[net.public_name(blob)]
        if session.outputs[blob].shape[:1] == (None,):
            answer = np.concatenate([answer] * 3)
        if name not in MIXING:
            assert distance(value, answer) <= TOLERANCE


@pytest.mark.parametrize("name", FIXED)
def test_a_golden_that_fixes_the_batch_says_so(name: str):
    with pytest.raises(UnsupportedError, match=FIXED[name]):
        to_onnx(golden(name).load(), dynamic_batch=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } }', "does not stay in front"),
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: 12 } }', "does not fit together"),
        ('type: "Flatten" flatten_param { axis: 0 }', "it flattens the batch away"),
        ('type: "Slice" slice_param { axis: 0 }', "it cuts the batch"),
        ('type: "Permute" permute_param { order: 1 order: 0 }', "the batch does not stay in front"),
    ],
)
def test_a_layer_that_fixes_the_batch_says_so(text: str, reason: str):
    net = layer_net(text, [(2, 3, 4)])
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(net, dynamic_batch=True)


def test_a_second_input_of_another_size_stays_as_it_is():
    net = layer_net('type: "Bias" bias_param { axis: 1 }', [(2, 3, 4), (3, 4)])
    inputs = to_onnx(net, dynamic_batch=True).graph.input
    first, second = ([dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim] for x in inputs)
    assert first == ["N", 3, 4]
    assert second == [3, 4]


def test_a_multiple_of_the_batch_is_named_as_one():
    net = layer_net('type: "Tile" tile_param { axis: 0 tiles: 3 }', [(2, 5)])
    (output,) = to_onnx(net, dynamic_batch=True).graph.output
    assert output.type.tensor_type.shape.dim[0].dim_param == "3*N"
