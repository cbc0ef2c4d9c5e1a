"""Noise is drawn at a magnitude at which the reference still tells one value from another."""

import tracemalloc
from typing import Any

import numpy as np
import onnx_texts
import pytest
from nets import net
from onnx import TensorProto, helper, parser
from onnx_models import change, classifier, model
from onnx_texts import model as text_model
from onnx_texts import net_of

import bnfold
from bnfold.compare import comparison, noise
from bnfold.compare.comparison import Comparison, compare
from bnfold.compare.models import open_model
from bnfold.compare.saturation import COUNTS, Positions, saturating
from bnfold.net import Blobs

INPUT = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
LINES = """
    layer { name: "conv" type: "Convolution" bottom: "%s" top: "conv"
            convolution_param { num_output: 6 kernel_size: 3 } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
"""
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "%s" top: "fc" inner_product_param { num_output: 5 } }'


def described(*layers: str, memory: int | None = None) -> str:
    made = net("\n".join([INPUT, *layers]))
    report = compare(made, bnfold.fold(made).net, memory=memory)
    assert report.passed
    return report.data


def test_a_net_that_does_not_saturate_gets_noise_of_1_8_and_64() -> None:
    assert "N(0, s^2) with s = 1, 8, 64 in turn" in described(LINES % "data")


def head(gain: float, layer_type: str) -> tuple[str, ...]:
    """`layer_type` behind a layer that makes its input `gain` times larger."""
    return (
        LINES % "data",
        f'layer {{ name: "up" type: "Power" bottom: "bn" top: "up" power_param {{ scale: {gain} shift: 0.1 }} }}',
        f'layer {{ name: "end" type: "{layer_type}" bottom: "up" top: "end" }}',
    )


@pytest.mark.parametrize("layer_type", ["Softmax", "Sigmoid", "TanH"])
def test_noise_is_as_small_as_keeps_the_output_from_saturating(layer_type: str) -> None:
    gains = (0.001, 0.3, 1, 3)
    scales = {gain: described(*head(gain, layer_type)).split("s = ")[1].split(" in turn")[0] for gain in gains}
    largest = [float(scales[gain].split(", ")[-1]) for gain in gains]
    assert largest[0] == 64
    assert largest == sorted(largest, reverse=True)
    assert len(set(largest)) > 1


def test_what_saturates_at_any_magnitude_gets_the_usual_noise() -> None:
    """By its biases: smaller noise would say less of the weights, and what stands in front is judged anyhow."""
    assert "s = 1, 8, 64 in turn" in described(*head(10000, "Sigmoid"))


def test_what_signed_noise_saturates_is_given_no_magnitudes_in_its_place() -> None:
    made = net(
        f"""{INPUT}
        layer {{ name: "minus" type: "Power" bottom: "data" top: "minus" power_param {{ scale: -1 }} }}
        layer {{ name: "relu" type: "ReLU" bottom: "minus" top: "relu" }}
        layer {{ name: "mean" type: "Reduction" bottom: "relu" top: "mean" reduction_param {{ axis: 1 }} }}
        layer {{ name: "up" type: "Power" bottom: "mean" top: "up" power_param {{ scale: 1e9 }} }}
        layer {{ name: "end" type: "Sigmoid" bottom: "up" top: "end" }}"""
    )
    assert "noise, N(0, s^2) with s = 1, 8, 64 in turn" in compare(made, made).data


def test_a_root_or_a_log_in_front_gets_no_negative_noise() -> None:
    for layer in (
        'layer { name: "root" type: "Power" bottom: "data" top: "root" power_param { power: 0.5 } }',
        'layer { name: "root" type: "Log" bottom: "data" top: "root" }',
    ):
        made = net("\n".join([INPUT, layer, LINES % "root", FC % "bn"]))
        report = compare(made, bnfold.fold(made).net)
        assert report.passed
        assert "|x| of x from N(0, s^2)" in report.data
        assert report.outputs[0].finite == report.outputs[0].values
        wrong = bnfold.fold(made).net
        conv = next(layer for layer in wrong.layers if layer.name == "conv")
        conv.blobs = Blobs([conv.blobs[0] * 1.01, *conv.blobs.stored[1:]])
        assert not compare(made, wrong).passed


HALVES = """<ir_version: 8, opset_import: ["" : 17]> net (float16[1,3,8,8] x) => (float16[1,3,8,8] y) {
    larger = Mul (x, many) sum = Add (larger, shift) r = Relu (sum) y = Mul (r, few) }"""


@pytest.mark.parametrize(
    ("many", "shift", "largest"),
    [(100, 0, 64), (1000, 0, 8), (2500, 0, 1), (20000, 0, 0.125), (2500, -65504, 64), (1, np.inf, 64)],
)
def test_values_of_float16_stay_off_the_end_of_their_type(many: float, shift: float, largest: float) -> None:
    """But for what is there at any magnitude, as a mask is."""
    numbers = {"many": many, "shift": shift, "few": 1 / many}
    made = text_model(HALVES, **{name: np.asarray(number, np.float16) for name, number in numbers.items()})
    assert f", {largest:g} in turn" in compare(made, made).data
    widened = text_model(
        HALVES.replace("float16", "float"), **{name: np.asarray(number, np.float32) for name, number in numbers.items()}
    )
    assert ", 64 in turn" in compare(widened, widened).data


def test_a_fold_of_what_large_noise_makes_infinite_in_float16_is_proved() -> None:
    """Near the end of their type one network rounds values to infinity that the other does not."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float16[1,3,40,40] x) => (float16[1,4,38,38] y)
        { c = Conv (x, w) d = Mul (c, by) y = Elu (d) }"""
    by, weight = (onnx_texts.values(*shape, dtype=np.float16) for shape in ((4, 1, 1), (4, 3, 3, 3)))
    reference = text_model(text, w=weight * np.float16(400), by=by)
    folded = bnfold.fold(net_of(reference)).net
    report = compare(net_of(reference), folded)
    assert report.passed, report.verdict
    assert not report.as_exact
    assert "d" in {blob.blob for blob in report.blobs}


def test_a_net_that_no_noise_gives_finite_values_proves_nothing() -> None:
    layer = 'layer { name: "root" type: "Power" bottom: "data" top: "root" power_param { power: 0.5 shift: -1e6 } }'
    made = net("\n".join([INPUT, layer, LINES % "root", FC % "bn"]))
    report = compare(made, bnfold.fold(made).net)
    assert not report.passed
    assert "no finite value in common; give other samples by --data" in report.verdict


def test_an_output_without_elements_is_not_told_to_be_given_data() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 0])
    ends = [helper.make_tensor(name, TensorProto.INT64, [1], [1]) for name in ("start", "end")]
    made = helper.make_model(
        helper.make_graph([helper.make_node("Slice", ["x", "start", "end", "end"], ["y"])], "net", [x], [y], ends),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    report = compare(made, made)
    assert not report.passed
    assert "output 'y' has no elements, so there is nothing to compare" in report.verdict


def test_several_outputs_and_layers_are_told_of_in_the_plural() -> None:
    two = classifier()
    two.graph.output.append(helper.make_tensor_value_info("conv1", TensorProto.FLOAT, None))
    report = compare(two, two, np.full((2, 3, 8, 8), np.nan, np.float32))
    assert "outputs 'conv1', 'prob' have no finite value in common" in report.verdict
    assert any(note.startswith("layers 'conv2', 'fc': all that is read there") for note in report.notes)


def test_the_candidate_has_no_say_in_the_noise() -> None:
    loud = change(classifier(), "fc_b", (0,), 1e6)
    assert compare(classifier(), loud).data == compare(classifier(), classifier()).data
    opened = Comparison(classifier())
    assert opened.against(loud).data == opened.against(classifier()).data


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shape", ["", "1"])
def test_a_flag_takes_both_values_so_that_what_depends_on_it_is_compared(shape: str, seed: int) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[2,3] x, bool[SHAPE] flag) => (float[2,3] y) <float then = {THEN}, float other = {OTHER}>
        {
            t = Mul (x, then)
            e = Mul (x, other)
            y = Where (flag, t, e)
        }
    """.replace("SHAPE", shape).replace("bool[]", "bool")
    right, *wrong = (
        parser.parse_model(text.replace("THEN", then).replace("OTHER", other))
        for then, other in (("2", "2"), ("3", "2"), ("2", "3"))
    )
    assert compare(right, right, seed=seed).passed
    assert not any(compare(right, one, seed=seed, layers=False).passed for one in wrong)


@pytest.mark.parametrize("rows", [8, 40])
def test_every_row_of_a_first_axis_is_compared(rows: int) -> None:
    node = helper.make_node("Add", ["x", "place"], ["y"])
    place = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    right, wrong = (
        model([node], {"x": (rows, 3)}, ["y"], {"place": values})
        for values in (place, np.vstack([place[:-1], place[:1]]))
    )
    report = compare(right, wrong)
    assert not report.passed
    assert report.sample_count == 3 * rows


@pytest.mark.parametrize("rows", [2, 3, 5])
@pytest.mark.parametrize("layers", [True, False])
def test_rows_that_may_belong_together_have_one_scale_in_a_run(rows: int, layers: bool) -> None:
    """A convolution over planes adds a row of small noise to those of large noise, beside which no bias counts."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["image"]),
        helper.make_node("Conv", ["image", "weight", "bias"], ["planes"], "conv", pads=[1] * 4),
        helper.make_node("Squeeze", ["planes", "axis"], ["y"]),
    ]
    weight = random.normal(size=(rows, rows, 3, 3)).astype(np.float32)
    bias = random.uniform(0.5, 1, rows).astype(np.float32) * random.choice(np.array([-1, 1], np.float32), rows)
    wrong = bias * np.where(np.arange(rows) == 1, np.float32(1.02), np.float32(1))
    right, other = (
        model(nodes, {"x": (rows, 8, 8)}, ["y"], {"weight": weight, "bias": values, "axis": np.array([0])})
        for values in (bias, wrong)
    )
    assert compare(right, right, layers=layers).passed
    report = compare(right, other, layers=layers)
    assert not report.passed
    assert f"s = 1, 8, 64 in turn for {rows} each" in report.data


def test_rows_that_are_too_many_to_be_samples_are_said_not_to_be_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ROWS", 16)
    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (20, 3)}, ["y"])
    report = compare(made, made)
    assert report.sample_count == 16
    (said,) = (note for note in report.notes if note.startswith("of the 20 rows of a run 16 were compared"))
    assert "blobs without a row for each show the largest alone" in said


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("rows", [6, 16])
def test_all_rows_that_are_drawn_have_one_scale_in_a_run(
    rows: int, layers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a Reshape to (-1, 3) a blob has no row for each sample, and is measured a run at a time."""
    monkeypatch.setattr(comparison, "ROWS", 16)
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["split"]), helper.make_node("Add", ["split", "bias"], ["y"])]
    bias = np.array([0.3, -0.2, 0.5], np.float32)
    right, wrong = (
        model(nodes, {"x": (rows, 6)}, ["y"], {"shape": np.array([-1, 3]), "bias": values})
        for values in (bias, bias * np.array([1, 1, 1.02], np.float32))
    )
    assert compare(right, right, layers=layers).passed
    report = compare(right, wrong, layers=layers)
    assert not report.passed
    assert f"s = 1, 8, 64 in turn for {rows} each" in report.data


def test_a_seed_beside_samples_is_said_to_change_nothing() -> None:
    samples = np.zeros((2, 3, 8, 8), np.float32)
    said = "--seed 3 changes nothing: it is of noise, and samples are given"
    assert said in compare(classifier(), classifier(), samples, seed=3).notes
    assert said not in compare(classifier(), classifier(), seed=3).notes


def test_one_seed_gives_one_report() -> None:
    assert compare(classifier(), classifier(), seed=3) == compare(classifier(), classifier(), seed=3)
    assert compare(classifier(), classifier(), seed=3).blobs != compare(classifier(), classifier(), seed=4).blobs


def test_saturated_positions_are_counted_by_what_the_layer_gives() -> None:
    shares = {}
    for layer_type, values in {
        "Softmax": [[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]],
        "Sigmoid": [[0.0, 1.0, 0.5], [0.9, 0.1, 0.2]],
        "TanH": [[-1.0, 1.0, 0.0], [0.9, 0.1, np.nan]],
        "ArgMax": [[3.0]],
        "ReLU": [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        "Clip": [[0.0, 0.0, 0.0, 6.0, 6.0], [0.0, 0.0, 1.0, 2.0, 3.0]],
        "TopK": [[3.0, 1.0], [0.5, 1.0]],
    }.items():
        positions = Positions()
        for row in values:
            positions.add(layer_type, np.array([row], np.float32))
        shares[layer_type] = positions.share
    assert shares == {
        "Softmax": 0.5,
        "Sigmoid": pytest.approx(1 / 3),
        "TanH": 0.4,
        "ArgMax": 1.0,
        "ReLU": 0.5,
        "Clip": 0.5,
        "TopK": 0.5,
    }
    assert COUNTS.keys() >= shares.keys()


def test_what_saturates_an_output_is_found_behind_layers_that_move_values() -> None:
    made = net("\n".join([
        INPUT, LINES % "data",
        'layer { name: "soft" type: "Softmax" bottom: "bn" top: "soft" }',
        'layer { name: "flat" type: "Flatten" bottom: "soft" top: "flat" }',
        'layer { name: "relu" type: "ReLU" bottom: "bn" top: "relu" }',
    ]))  # fmt: skip
    found = saturating(open_model(made, "net"))
    assert {name: (cause.layer_type, cause.fronts) for name, cause in found.items()} == {
        "flat": ("Softmax", ("bn",)),
        "relu": ("ReLU", ("bn",)),
    }


BIASED = """
input: "data" input_shape { dim: 8 dim: 4 }
layer { name: "bias" type: "Bias" bottom: "data" top: "bias" bias_param { axis: 0 num_axes: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "bias" top: "fc" inner_product_param { num_output: 2 } }
"""


def test_every_row_of_a_caffe_net_that_learned_a_value_for_each_is_compared() -> None:
    values = np.arange(8, dtype=np.float32)
    fc = [np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), np.zeros(2, np.float32)]
    right, wrong = (net(BIASED, bias=[bias], fc=fc) for bias in (values, np.where(values == 5, -5, values)))
    assert compare(right, right).sample_count == 3 * 8
    assert not compare(right, wrong).passed
    data = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
    assert not compare(right, wrong, data).passed
    few = compare(right, right, data[:3])
    assert "of the 8 rows of a run 3 were compared, and no others are proved" in few.notes
    usual = BIASED.replace("axis: 0", "axis: 1")
    grown = net(usual, bias=[values[:4]], fc=fc)
    assert compare(grown, grown).sample_count == 3


@pytest.mark.parametrize("layer_type", sorted(COUNTS))
def test_saturated_positions_are_counted_beside_the_blob_and_half_of_it(layer_type: str) -> None:
    values = np.random.default_rng(0).uniform(size=1 << 20).astype(np.float32)
    tracemalloc.start()
    try:
        Positions().add(layer_type, values)
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("memory", [None, 1 << 40])
def test_what_a_trial_took_is_given_back_before_the_next_where_memory_is_limited(
    memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def give_back() -> None:
        done.append("given back")

    def trial(*found: Any, really: Any = noise._Trial) -> Any:
        done.append("tried")
        return really(*found)

    monkeypatch.setattr(noise, "give_back", give_back)
    monkeypatch.setattr(noise, "_Trial", trial)
    described(*head(50.0, "Sigmoid"), memory=memory)
    trials = done.count("tried")
    assert trials >= 2
    assert done == (["tried"] if memory is None else ["given back", "tried"]) * trials
