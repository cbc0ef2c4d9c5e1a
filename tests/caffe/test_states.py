"""What an LSTM or RNN keeps between two calls is said, and becomes an input and an output where the user wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference
from cases import TESTS, Array, Case, assert_answers, by_onnxruntime, golden
from nets import net as parsed

import bnfold
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.states import expose_states
from bnfold.errors import ModelError, UnsupportedError
from bnfold.net import Net

CASE = Case(TESTS / "faults" / "lstm_goes_on")

RNN = """
input: "x" input_shape { dim: 2 dim: 3 dim: 4 }
input: "cont" input_shape { dim: 2 dim: 3 }
layer { name: "rnn" type: "RNN" bottom: "x" bottom: "cont" top: "y" recurrent_param { num_output: 5 } }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip" inner_product_param { num_output: 2 axis: 2 } }
"""


def test_the_note_names_the_layer_and_the_choice() -> None:
    net = bnfold.load(CASE.prototxt, CASE.caffemodel)
    assert net.notes == [
        "layer 'lstm' (LSTM) keeps its state from call to call in Caffe, and starts at 0 in each call here; "
        "--recurrent-state makes the state an input and an output"
    ]
    assert list(net.inputs) == ["x", "cont"]


def test_several_layers_share_the_note() -> None:
    again = RNN.splitlines()[3].replace('"rnn"', '"again"').replace('"y"', '"z"')
    (note,) = parsed(RNN + again).notes
    assert note.startswith(
        "layer 'rnn' (RNN) and 1 more keep their state from call to call in Caffe, and start at 0 in"
    )


def test_where_the_state_is_exposed_there_is_nothing_to_say() -> None:
    assert not bnfold.load(CASE.prototxt, CASE.caffemodel, recurrent_state=True).notes
    assert not parsed('input: "x" input_shape { dim: 2 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }').notes


def two_calls(net: Net) -> Array:
    """The first step, then the second one from where the first one stopped."""
    assert list(net.inputs.items()) == [
        ("x", (1, 2, 3)),
        ("cont", (1, 2)),
        ("lstm_h_in", (1, 2, 4)),
        ("lstm_c_in", (1, 2, 4)),
    ]
    assert net.outputs == ["h", "lstm_h_out", "lstm_c_out"]
    state = {name: np.zeros((1, 2, 4), np.float32) for name in ("lstm_h_in", "lstm_c_in")}
    steps = []
    for t in range(2):
        step = {name: array[t : t + 1] for name, array in CASE.inputs.items()}
        got = by_onnxruntime(net, {**step, **state})
        steps.append(got["h"])
        state = {name: got[name.replace("_in", "_out")] for name in state}
    return np.concatenate(steps)


def test_two_calls_give_what_caffe_gave(tmp_path: Path) -> None:
    net = bnfold.load(CASE.prototxt, CASE.caffemodel, recurrent_state=True)
    assert_answers({"h": two_calls(net)}, CASE.answers, 2e-5)
    assert_answers({"h": two_calls(bnfold.fold(net).net)}, CASE.answers, 2e-5)
    bnfold.save_caffe(net, tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    written = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert_answers({"h": two_calls(written)}, CASE.answers, 2e-5)


def test_a_comparison_with_a_net_of_unwritten_state_names_the_option() -> None:
    told, plain = (bnfold.load(CASE.prototxt, CASE.caffemodel, recurrent_state=exposed) for exposed in (True, False))
    with pytest.raises(bnfold.UsageError, match=r"'lstm_h_in', 'lstm_c_in'; read both with --recurrent-state, or pair"):
        bnfold.compare(plain, told)


def test_an_rnn_has_one_state_and_the_other_outputs_stay() -> None:
    net = expose_states(parsed(RNN))
    assert list(net.inputs) == ["x", "cont", "rnn_h_in"]
    assert net.outputs == ["ip", "rnn_h_out"]


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    net = expose_states(parsed(RNN.replace('"cont"', '"rnn_h_in"')))
    assert list(net.inputs) == ["x", "rnn_h_in", "rnn_h_in#2"]


def test_a_golden_with_a_state_of_its_own_stays_as_it_is() -> None:
    case = golden("ssd_lstm_expose_hidden")
    told = bnfold.load(case.prototxt, case.caffemodel, recurrent_state=True)
    assert told.inputs == case.load().inputs


def test_a_fork_makes_the_indicator_itself() -> None:
    case = Case(TESTS / "faults" / "continuation_indicator")
    net = bnfold.load(case.prototxt, case.caffemodel)
    assert infer_shapes(net)["indicator"] == (5, 1)
    inputs = {"data": np.random.default_rng(0).standard_normal((5, 1, 6)).astype(np.float32)}
    told = {**inputs, "indicator": np.array([[0], [1], [1], [1], [1]], np.float32)}
    expected = reference.load(case.prototxt, case.caffemodel).run(told)
    assert_answers(by_onnxruntime(net, inputs), {"fc1": expected["fc1"]}, 2e-5)


INDICATED = """
input: "x" input_shape { dim: 5 dim: 3 dim: 4 }
layer { name: "p" type: "Permute" bottom: "x" top: "p" permute_param { order: 1 order: 0 order: 2 } }
layer { name: "i" type: "ContinuationIndicator" bottom: "p" top: "cont" continuation_indicator_param { time_step: 5 } }
layer { name: "rnn" type: "RNN" bottom: "x" bottom: "cont" top: "y" recurrent_param { num_output: 2 } }
"""


def test_a_bottom_says_for_how_many_sequences_an_indicator_is(tmp_path: Path) -> None:
    bnfold.save_caffe(parsed(INDICATED), tmp_path / "out.prototxt")
    read = bnfold.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel")
    assert infer_shapes(read)["cont"] == (5, 3)
    inputs = {"x": np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)}
    expected = reference.load(tmp_path / "out.prototxt", tmp_path / "out.caffemodel").run(inputs)
    assert_answers(by_onnxruntime(read, inputs), {"y": expected["y"]}, 2e-5)


@pytest.mark.parametrize(
    ("old", "new"), [("time_step: 5", "time_step: 5 batch_size: 3"), ("dim: 5 dim: 3 dim: 4", "dim: 1 dim: 1 dim: 1")]
)
def test_a_bottom_that_may_be_flags_or_a_number_of_sequences_is_refused(old: str, new: str) -> None:
    with pytest.raises(ModelError, match=r"'i'.* how many sequences there are, in another which go on"):
        infer_shapes(parsed(INDICATED.replace(old, new)))


def test_sequences_that_the_data_number_have_no_indicator_in_onnx() -> None:
    net = parsed("""
        input: "loc" input_shape { dim: 1 dim: 8 }
        input: "conf" input_shape { dim: 1 dim: 4 }
        input: "prior" input_shape { dim: 1 dim: 2 dim: 8 }
        layer { name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "rows"
          detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.5 } confidence_threshold: 0.1 } }
        layer { name: "p" type: "Permute" bottom: "rows" top: "some"
          permute_param { order: 2 order: 0 order: 1 order: 3 } }
        layer { name: "i" type: "ContinuationIndicator" bottom: "some" top: "cont"
          continuation_indicator_param { time_step: 5 } }
    """)
    assert infer_shapes(net)["cont"] == (5, -1)
    with pytest.raises(UnsupportedError, match="how many sequences there are depends on the data"):
        bnfold.to_onnx(net)


LONG = """
input: "x" input_shape {{ dim: 1 dim: 2 }}
layer {{ name: "r" type: "ReLU" bottom: "x" top: "y" }}
layer {{ name: "i" type: "ContinuationIndicator" top: "cont"
  continuation_indicator_param {{ time_step: {} batch_size: {} }} }}
"""


def test_an_indicator_that_no_blob_can_hold_takes_no_memory() -> None:
    with pytest.raises(ModelError, match=r"'i'.*: 100000x100000 is more than a blob holds"):
        parsed(LONG.format(100_000, 100_000))
    with pytest.raises(UnsupportedError, match="would take constants of 2,000,000,000 numbers"):
        bnfold.to_onnx(parsed(LONG.format(1, 2_000_000_000)))
