"""Layers that hold other values in the candidate, of which the data showed nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from onnx_texts import model as text_model

import bnfold

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)


def model(op_type: str, stored: Mapping[str, ArrayLike], **attributes: Any) -> onnx.ModelProto:
    """x -> the operator -> Relu -> y."""
    nodes = [
        helper.make_node(op_type, ["x", *stored], ["c"], name="c", **attributes),
        helper.make_node("Relu", ["c"], ["y"], name="y"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]) for name in "xy"]
    ports[0].type.tensor_type.shape.dim[1].dim_value = 4
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def clip(high: float) -> onnx.ModelProto:
    return model("Clip", {"low": np.float32(-9), "high": np.float32(high)})


def written_clip(high: float) -> onnx.ModelProto:
    """The same with a bound that a Constant writes out, under a name of its own."""
    found = clip(high)
    del found.graph.initializer[1]
    found.graph.node.insert(0, helper.make_node("Constant", [], [f"high{high}"], name="high", value_float=high))
    found.graph.node[1].input[2] = f"high{high}"
    return found


ONES = {"scale": np.ones(4, np.float32)}


def matmul(dead: float) -> onnx.ModelProto:
    weight = np.eye(4, dtype=np.float32)
    weight[:, 3] = [0, 0, dead, 0]
    return model("Gemm", {"w": weight, "b": np.array([0, 0, 0, -50], np.float32)})


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (clip(6), clip(8), "layer 'c' has other values in the candidate ('high')"),
        (written_clip(6.0), written_clip(8.0), "layer 'c' has other values in the candidate ('high6.0')"),
        (clip(6), model("Relu", {}), "(Relu in the place of Clip)"),
        (model("Elu", {}), model("Elu", {}, alpha=2.0), "(attribute 'alpha')"),
        # Measured as 6e-6, which is more where the variance is smaller.
        (model("LayerNormalization", ONES, epsilon=1e-7), model("LayerNormalization", ONES, epsilon=2e-7), "epsilon"),
    ],
)
def test_a_value_that_nothing_reached_is_said_not_to_be_proved(
    reference: onnx.ModelProto, candidate: onnx.ModelProto, said: str, layers: bool
) -> None:
    report = bnfold.compare(reference, candidate, np.abs(X), layers=layers)
    assert report.passed
    assert any(said in note and "not proved" in note for note in report.notes)
    assert report.unproved == ("c",)
    assert "; of layer 'c', which holds other values, the data shows nothing" in report.verdict
    assert "the data shows nothing" not in bnfold.compare(reference, reference, np.abs(X), layers=layers).verdict


def summed(found: onnx.ModelProto) -> onnx.ModelProto:
    """y -> MatMul -> z, by which y is no output."""
    found.graph.initializer.append(numpy_helper.from_array(np.tri(4, dtype=np.float32), "sums"))
    found.graph.node.append(helper.make_node("MatMul", ["y", "sums"], ["z"], name="z"))
    found.graph.output[0].name = "z"
    return found


def test_weights_of_a_dead_channel_are_said_not_to_be_proved_by_the_outputs() -> None:
    report = bnfold.compare(summed(matmul(1)), summed(matmul(2)), X, layers=False)
    assert report.passed
    assert any("layer 'c'" in note and "('w')" in note for note in report.notes)
    assert not bnfold.compare(summed(matmul(1)), summed(matmul(2)), X).passed


def test_weights_of_a_dead_channel_count_where_an_output_alone_hides_them() -> None:
    report = bnfold.compare(matmul(1), matmul(2), X, layers=False)
    assert not report.passed
    assert report.worst is not None
    assert report.worst.blob == "c"
    rounded = float(np.nextafter(np.float32(1), np.float32(2)))
    report = bnfold.compare(matmul(1), matmul(rounded), X, layers=False)
    assert report.passed
    assert not report.notes


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (model("Elu", {}), model("Elu", {}, alpha=1.0)),  # the default
        (model("LeakyRelu", {}, alpha=0.1), model("LeakyRelu", {}, alpha=0.10001)),  # measured: nothing is hidden
        (clip(6), clip(6)),
        (clip(6), written_clip(6.0)),
    ],
)
def test_equal_values_and_values_that_were_measured_need_no_word(
    reference: onnx.ModelProto, candidate: onnx.ModelProto
) -> None:
    report = bnfold.compare(reference, candidate, X)
    assert report.passed
    assert not any("other values" in note for note in report.notes)


CALL = """<ir_version: 8, opset_import: ["": 17, "own": 1]> g (float[N,4] x, bool s) => (float[N,4] y)
{ %s }
<domain: "own", opset_import: ["": 17, "own": 1]> outer (x, s) => (y) { y = own.inner (x, s) }
<domain: "own", opset_import: ["": 17]> inner (x, s) => (y)
{ z = If (s) <then_branch = t () => (p) { p = Relu (x) },
               else_branch = e () => (q) { k = Constant <value = float {%s}> () q = Mul (x, k) }>
  y = Identity (z) }"""
IN_A_BODY = """y = If (s) <then_branch = a () => (float[N,4] b) { b = own.inner (x, s) },
                           else_branch = c () => (float[N,4] d) { d = own.outer (x, s) }>"""


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("text", ["y = own.inner (x, s)", "y = own.outer (x, s)", IN_A_BODY])
def test_what_no_data_has_shown_of_a_function_is_said_not_to_be_proved(text: str) -> None:
    said, renamed, wrong = (onnx.parser.parse_model(CALL % (text, value)) for value in ("2.0", "2.0", "3.0"))
    for function in renamed.functions:
        for node in function.node:
            node.name, node.doc_string = f"{function.name}/{node.op_type}", "by another exporter"
    data = {"x": X, "s": np.array(True)}
    assert not bnfold.compare(said, renamed, data).notes
    report = bnfold.compare(said, wrong, data)
    assert any("layer 'y' has other values in the candidate (function '" in note for note in report.notes)
    assert not bnfold.compare(said, wrong, data | {"s": np.array(False)}).passed


def scaled(scale: float, high: float) -> onnx.ModelProto:
    """x -> Mul -> s -> Clip -> c -> Relu -> y."""
    found = clip(high)
    found.graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), "scale"))
    found.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["s"], name="s"))
    found.graph.node[1].input[0] = "s"
    return found


@pytest.mark.parametrize("layers", [True, False])
def test_rounding_in_front_of_a_value_that_nothing_reached_does_not_hide_it(layers: bool) -> None:
    report = bnfold.compare(scaled(1.1, 6), scaled(1.1000001, 8), X, layers=layers)
    assert report.passed
    assert report.worst is not None
    assert report.worst.max_abs > 0
    (note,) = (note for note in report.notes if "other values" in note)
    assert "layer 'c'" in note
    assert "('high')" in note
    assert "differs by rounding alone" in note


@pytest.mark.parametrize("step", [1e-7, 1e-6, 1e-5])
def test_weights_that_differ_by_as_little_as_is_seen_need_no_word(step: float) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    other = weight * np.float32(1 + step)
    report = bnfold.compare(model("MatMul", {"w": weight}), model("MatMul", {"w": other}), X)
    assert report.passed
    assert not any("other values" in note for note in report.notes)


Step = tuple[str, Mapping[str, ArrayLike], Mapping[str, Any]]


def chain(*steps: Step, opset: int = 18) -> onnx.ModelProto:
    """x -> the operators, each with what it has stored -> c -> Relu -> y."""
    found = model("Identity", {})
    del found.graph.node[0]
    found.opset_import[0].version = opset
    blob = "x"
    for number, (op_type, stored, attributes) in enumerate(steps):
        top = "c" if number + 1 == len(steps) else f"{op_type}{number}{len(steps)}"
        names = [f"{name}{number}" for name in stored]
        node = helper.make_node(op_type, [blob, *names], [top], name=top, **attributes)
        found.graph.node.insert(number, node)
        values = zip(stored.values(), names, strict=True)
        found.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, np.float32), name) for value, name in values
        )
        blob = top
    return found


def bounded(low: float, high: float, slope: float = 0.2) -> onnx.ModelProto:
    """`min(max(slope*x + 0.5, low), high)` in single steps."""
    return chain(("Mul", {"a": slope}, {}), ("Add", {"b": 0.5}, {}), ("Clip", {"low": low, "high": high}, {}))


HARD_SIGMOID = chain(("HardSigmoid", {}, {"alpha": 0.2, "beta": 0.5}))
LEAKY = chain(("LeakyRelu", {}, {"alpha": 0.1}))
NORMALISED: Step = ("BatchNormalization", {"g": [1, 2], "b": [3, 4], "m": [5, 6], "v": [7, 8]}, {"epsilon": 1.0})
FACTORS = np.array([1, 2]) / np.sqrt([8, 9])
SHIFTS = np.array([3, 4]) - np.array([5, 6]) * FACTORS
SCALED: Step = ("BatchNormalization", {"g": FACTORS, "b": SHIFTS, "m": [0, 0], "v": [1, 1]}, {"epsilon": 0.0})


WEIGHT = np.array([[1, -2], [3, 0.5]])
GEMM: Step = ("Gemm", {"w": WEIGHT, "b": [0.5, -0.5]}, {})
GEMM_NORMALISED: Step = ("Gemm", {"w": WEIGHT * FACTORS, "b": [0.5, -0.5] * FACTORS + SHIFTS}, {})
NORMALISED_GEMM: Step = ("Gemm", {"w": FACTORS[:, None] * WEIGHT, "b": SHIFTS @ WEIGHT + [0.5, -0.5]}, {})
LEAST: Step = ("Min", {"m": 200.0}, {})
TURN: Step = ("Transpose", {}, {"perm": [0, 1]})
MATMUL: Step = ("MatMul", {"w": np.tri(4)}, {})
MINUS_MATMUL: Step = ("MatMul", {"w": -np.tri(4)}, {})


def three(op_type: str) -> onnx.ModelProto:
    """What an operator makes of 3."""
    return chain(("Mul", {"a": 0.0}, {}), ("Add", {"b": 3.0}, {}), (op_type, {}, {}))


def summing(read: str) -> onnx.ModelProto:
    """A sum of x, or of r, which is 1 where x is 0."""
    other = "e = Equal (x, zero) f = Cast <to = 1> (e) r = Add (x, f) " * (read == "r")
    head = '<ir_version: 8, opset_import: ["" : 18]> net (float[N,4] x) => (float[N,M] y) <float zero = {0.0}>'
    return text_model(f"{head} {{ {other} c = MatMul ({read}, w) y = Relu (c) }}", w=np.ones((4, 2), np.float32))


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (three("Floor"), three("Ceil"), "(Ceil in the place of Floor)"),
        (
            chain(("Round", {}, {})),
            chain(("Add", {"b": 0.5}, {}), ("Floor", {}, {})),
            "(Add, Floor in the place of Round)",
        ),
        (summing("x"), summing("r"), "(Equal, Cast, Add where the reference has nothing)"),
        (chain(("Clip", {}, {"max": 6.0}), opset=6), clip(8), "(a value of Clip)"),
        (LEAKY, chain(("PRelu", {"s": [0.2]}, {})), "(PRelu in the place of LeakyRelu)"),
        (LEAKY, chain(("Relu", {}, {})), "(Relu in the place of LeakyRelu)"),
        (HARD_SIGMOID, bounded(0, 1.5), "(Mul, Add, Clip in the place of HardSigmoid)"),
        (bounded(0, 1), bounded(0, 1.5), "layer 'c'"),
        (bounded(0, 1), bounded(0.4, 1, slope=0.20001), "layer 'c'"),
        (model("ThresholdedRelu", {}, alpha=0.01), model("ThresholdedRelu", {}, alpha=0.011), "(attribute 'alpha')"),
        (chain(("Max", {"m": 0.0}, {})), chain(("Relu", {}, {}), ("Min", {"m": 7.0}, {})), "Min in the place of Max"),
        (chain(MATMUL), chain(LEAST, MATMUL), "(Min where the reference has nothing)"),
        (
            chain(MATMUL),
            chain(("Clip", {"low": -200, "high": 200}, {}), MATMUL),
            "(Clip where the reference has nothing)",
        ),
        (chain(LEAST, MATMUL), chain(MATMUL), "(nothing where the reference has Min)"),
        (chain(MATMUL), chain(MATMUL, LEAST), "(Min where the reference has nothing)"),
        (chain(MATMUL, LEAST), chain(MATMUL), "(nothing where the reference has Min)"),
        (chain(MATMUL, LEAST), chain(TURN, MATMUL, ("Min", {"m": 300.0}, {})), "(a value of Min)"),
        (chain(TURN, MATMUL), chain(LEAST, TURN, MATMUL), "(Min where the reference has nothing)"),
        (chain(("Softmax", {}, {})), chain(LEAST, ("Softmax", {}, {})), "(Min where the reference has nothing)"),
        (chain(MATMUL), chain(("Sqrt", {}, {}), ("Pow", {"two": 2.0}, {}), MATMUL), "(Sqrt, Pow where the reference"),
    ],
)
def test_what_no_data_has_shown_is_said_whatever_it_is_written_as(
    reference: onnx.ModelProto, candidate: onnx.ModelProto, said: str
) -> None:
    report = bnfold.compare(reference, candidate, np.abs(X))
    assert report.passed
    assert any("not proved" in note and said in note for note in report.notes), report.notes


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (chain(("Clip", {}, {"min": -9.0, "max": 6.0}), opset=6), clip(6)),
        (chain(("Relu", {}, {})), model("Clip", {"low": np.float32(0), "high": np.finfo(np.float32).max})),
        (LEAKY, chain(("PRelu", {"s": [0.1]}, {}))),
        (LEAKY, chain(("PRelu", {"s": [0.1, 0.1, 0.1, 0.1]}, {}), opset=9)),
        (HARD_SIGMOID, bounded(0, 1)),
        (chain(("Floor", {}, {})), chain(("Neg", {}, {}), ("Ceil", {}, {}), ("Neg", {}, {}))),
        (chain(NORMALISED), chain(("Mul", {"a": FACTORS}, {}), ("Add", {"b": SHIFTS}, {}))),
        (chain(NORMALISED), chain(SCALED)),
        (chain(MATMUL, ("Abs", {}, {}), MATMUL), chain(MATMUL, ("Abs", {}, {}), ("Neg", {}, {}), MINUS_MATMUL)),
        (chain(GEMM, NORMALISED), chain(GEMM_NORMALISED)),
        (chain(NORMALISED, GEMM), chain(NORMALISED_GEMM)),
        (chain(GEMM, NORMALISED, ("HardSwish", {}, {})), chain(GEMM_NORMALISED, ("HardSwish", {}, {}))),
        (chain(NORMALISED, ("Relu", {}, {}), GEMM), chain(SCALED, ("Relu", {}, {}), ("Identity", {}, {}), GEMM)),
    ],
)
def test_what_is_only_written_otherwise_needs_no_word(reference: onnx.ModelProto, candidate: onnx.ModelProto) -> None:
    channels = 2 if "BatchNormalization" in {node.op_type for node in reference.graph.node} else 4
    for one in (reference, candidate):
        one.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    report = bnfold.compare(reference, candidate, np.abs(X[:, :channels]))
    assert report.passed
    assert not any("other values" in note for note in report.notes), report.notes


POOLED = """<ir_version: 8, opset_import: ["": 17]> g (float[N,2,4,4] x) => (float[N,2] y)
<float[2,2,1,1] w = {1, -2, 3, 4}, float[2,2,1,1] v = {1, 2, -3, 4}, float zero = {0}, float high = {900}>
{ c = Conv (x, w) %s b = Conv (p, v) y = ReduceMax <axes = [2, 3], keepdims = 0> (b) }"""


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ("s = MaxPool <kernel_shape = [2, 2]> (c) p = Relu (s)", ""),
        ("a = MaxPool <kernel_shape = [2, 2]> (c) q = Max (zero, a) p = Identity (q)", ""),
        ("a = MaxPool <kernel_shape = [2, 2]> (c) p = Clip (a, zero, high)", "(Clip where the reference has Relu)"),
        ("a = Clip (c, zero, high) p = MaxPool <kernel_shape = [2, 2]> (a)", "(Clip where the reference has Relu)"),
        ("s = MaxPool <kernel_shape = [2, 2]> (c) p = Abs (s)", "(Abs where the reference has Relu)"),
    ],
)
@pytest.mark.parametrize("names", ["csp", "dtu"])
def test_what_rises_may_stand_in_front_of_a_largest_value_or_behind_it(candidate: str, said: str, names: str) -> None:
    one = onnx.parser.parse_model(POOLED % "r = Relu (c) p = MaxPool <kernel_shape = [2, 2]> (r)")
    other = onnx.parser.parse_model(POOLED % candidate)
    for node in other.graph.node:
        for blobs in (node.input, node.output):
            blobs[:] = [name.translate(str.maketrans("csp", names)) for name in blobs]
    data = np.random.default_rng(0).uniform(0, 1, (2, 2, 4, 4)).astype(np.float32)
    data[:, 0] += 2  # all that the first layer makes is positive
    report = bnfold.compare(one, other, data)
    assert report.passed
    assert [said in note for note in report.notes if "not proved" in note] == [True] * bool(said), report.notes


ROWS = """<ir_version: 8, opset_import: ["": 17]> g (int64[N,3] i) => (float[N,3,2] y)
<float[8,2] t = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, int64 few = {5}> { %s y = Gather (t, j) }"""


@pytest.mark.parametrize("guard", ["j = Min (i, few)", "j = Mod (i, few)", "j = Abs (i)"])
def test_rows_of_a_table_that_another_index_takes_are_said_not_to_be_proved(guard: str) -> None:
    right, wrong = (onnx.parser.parse_model(ROWS % text) for text in ("j = Identity (i)", guard.replace("j", "k", 1)))
    wrong.graph.node[1].input[1] = "k"
    report = bnfold.compare(right, wrong, np.array([[0, 1, 4], [2, 2, 3]]))
    assert report.passed
    assert [" in the candidate (" + guard.split()[2] in note for note in report.notes] == [True]


DETECTOR = """
input: "loc" input_shape { dim: 1 dim: 8 } input: "conf" input_shape { dim: 1 dim: 4 }
input: "prior" input_shape { dim: 1 dim: 2 dim: 8 }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
  detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.45 top_k: 30 } keep_top_k: 20
    confidence_threshold: 0.1 code_type: CENTER_SIZE } }
"""


TABLE = """<ir_version: 8, opset_import: ["" : 18]> net (int64[2,5] i) => (float[q,r] y) <int64[1] flat = {-1}>
{ f = Reshape (i, flat) g = Gather (k, f) y = NODES }"""


@pytest.mark.parametrize("nodes", ["Relu (g)", "Mul (g, two)", "Identity (g)"])
def test_rows_that_were_not_read_are_said_whatever_is_named_otherwise(nodes: str) -> None:
    """A fold may move a factor into the table, and then it is written otherwise behind it, too."""
    rows, changed = (
        np.arange(1, 2701, dtype=np.float32).reshape(900, 3),
        np.arange(1, 2701, dtype=np.float32).reshape(900, 3),
    )
    changed[-1] += 1000
    two = np.array(2, np.float32)
    reference = text_model(TABLE.replace("NODES", nodes), k=rows, two=two)
    other = (
        TABLE.replace("NODES", nodes)
        .replace("f =", "p =")
        .replace(", f)", ", p)")
        .replace("g ", "q ")
        .replace("(g", "(q")
    )
    report = bnfold.compare(reference, text_model(other, k=changed, two=two))
    assert report.passed
    assert any("has other values in the candidate ('k')" in note for note in report.notes)
    moved = text_model(other.replace("Mul (q, two)", "Identity (q)"), k=rows * (2 if "two" in nodes else 1))
    assert bnfold.compare(reference, moved).notes == ()


def test_settings_of_a_layer_that_is_many_nodes_are_said_not_to_be_proved(tmp_path: Path) -> None:
    paths = [tmp_path / "a.prototxt", tmp_path / "b.prototxt"]
    for path, text in zip(paths, (DETECTOR, DETECTOR.replace("top_k: 30", "top_k: 31")), strict=True):
        path.write_text(text)
    prior = np.array([[[0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.9, 0.9], [0.1, 0.1, 0.2, 0.2] * 2]], np.float32)
    scores = np.array([[0.2, 0.8, 0.4, 0.6]], np.float32)
    data = {"loc": np.zeros((1, 8), np.float32), "conf": scores, "prior": prior}
    report = bnfold.compare(bnfold.load(paths[0]), bnfold.load(paths[1]), data)
    assert report.passed
    assert any("layer 'out'" in note and "detection_output_param" in note for note in report.notes)


def test_settings_of_a_detector_that_reads_other_names_are_said_not_to_be_proved(tmp_path: Path) -> None:
    """A fold changes none of them, whatever it does with the layers in front."""
    text = DETECTOR.replace('"loc" input_shape', '"l" input_shape').replace(
        "layer {", 'layer { name: "p" type: "Power" bottom: "l" top: "loc" power_param { scale: 0.5 } } layer {'
    )
    other = text.replace('"loc"', '"boxes"')
    paths = [tmp_path / "a.prototxt", tmp_path / "b.prototxt", tmp_path / "c.prototxt"]
    for path, written in zip(paths, (text, other, other.replace("top_k: 30", "top_k: 31")), strict=True):
        path.write_text(written)
    prior = np.array([[[0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.9, 0.9], [0.1, 0.1, 0.2, 0.2] * 2]], np.float32)
    scores = np.array([[0.2, 0.8, 0.4, 0.6]], np.float32)
    data = {"l": np.zeros((1, 8), np.float32), "conf": scores, "prior": prior}
    reference, same, changed = (bnfold.load(path) for path in paths)
    assert not bnfold.compare(reference, same, data).unproved
    report = bnfold.compare(reference, changed, data)
    assert report.passed
    assert report.unproved == ("out",)
    assert "detection_output_param" in " ".join(report.notes)


WINDOWED = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,8,8] x) => (float[1,2,6,3] y)
<int64[4] shape = {1, 2, 6, 3}, int64[4] other = {0, 2, -1, 3}> { c = Conv <strides = [1, 2]%s> (x, w) y = %s }"""


@pytest.mark.parametrize("attributes", [", dilations = [1, 1], pads = [0, 0, 0, 0]", ', auto_pad = "VALID"', ""])
@pytest.mark.parametrize("reshape", ["Reshape (c, shape)", "Reshape (c, other)"])
def test_windows_and_shapes_that_are_only_written_otherwise_need_no_word(attributes: str, reshape: str) -> None:
    weight = np.linspace(-1, 1.5, 54, dtype=np.float32).reshape(2, 3, 3, 3)
    reference = text_model(WINDOWED % ("", "Reshape (c, shape)"), w=weight)
    report = bnfold.compare(reference, text_model(WINDOWED % (attributes, reshape), w=weight))
    assert report.passed
    assert not report.unproved


GATED = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,8,8] x) => (float[1,2,8,8] y)
<float zero = {0}, int64[4] size = {1, 4, 8, 8}>
{ Xa = Conv (x, w) Xg = GATE Xc = Conv (x, v) Xd = Relu (Xc) PRODUCT y = Conv (Xz, u) }"""


@pytest.mark.parametrize("gate", ["HardSigmoid (Xa)", "Relu (Xa)"])
@pytest.mark.parametrize(
    "product",
    ["Xz = Mul (Xg, Xd)", "Xz = Mul (Xd, Xg)", "Xf = Reshape (Xg, size) Xb = Max (Xc, zero) Xz = Mul (Xb, Xf)"],
)
def test_operands_that_are_turned_round_are_no_other_values(gate: str, product: str) -> None:
    shapes = {"w": (4, 3, 1, 1), "v": (4, 3, 1, 1), "u": (2, 4, 1, 1)}
    weights = {
        name: np.linspace(-1, 1 + place / 4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        for place, (name, shape) in enumerate(shapes.items())
    }
    text = GATED.replace("GATE", gate)
    reference = text_model(text.replace("PRODUCT", "Xz = Mul (Xg, Xd)").replace("X", "p"), **weights)
    report = bnfold.compare(reference, text_model(text.replace("PRODUCT", product).replace("X", "q"), **weights))
    assert report.passed
    assert not report.unproved


@pytest.mark.parametrize(("slope", "is_same"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("kink", [-1.926, -2.3, -3.1, -4.7])
def test_a_kink_off_zero_may_be_rounded_otherwise(kink: float, slope: float, is_same: bool) -> None:
    """Where a Relu begins, one network has 0 and the other what its product and its sum were rounded by."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[2,3,4] x) => (float[2,3,4] y) { %s }"""
    reference = text_model(
        text % "d = Sub (by, x) r = Relu (d) y = Div (r, over)",
        by=np.array(kink, np.float32),
        over=np.array(1.5, np.float32),
    )
    folded = text_model(
        text % "e = BatchNormalization (x, scale, bias, mean, variance) y = Relu (e)",
        scale=np.full(3, -slope / 1.5, np.float32) / np.float32(np.sqrt(1 / (1 + 1e-5))),
        bias=np.full(3, kink / 1.5, np.float32),
        mean=np.zeros(3, np.float32),
        variance=np.ones(3, np.float32),
    )
    for candidate in (reference, folded):
        report = bnfold.compare(reference, candidate, np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4))
        assert report.unproved == (() if is_same or candidate is reference else ("y",))


TWICE = """<ir_version: 8, opset_import: ["" : 17]> net (float[2,3] x) => (float[2,3] y)
<float k = {1.5}, float one = {1}, float half = {0.5}, float low = {-0.1}>
{ m = Sum (x, x) e = Div (m, k) f = Erf (e) %s }"""


@pytest.mark.parametrize(
    ("nodes", "unproved"),
    [
        ("p = Mul (f, half) q = Add (p, half) y = Mul (m, q)", ()),
        ("p = Mul (f, half) q = Add (p, half) r = Mul (m, q) y = Max (r, low)", ("y",)),
    ],
)
def test_what_is_made_of_a_blob_twice_is_one_function_of_it(nodes: str, unproved: tuple[str, ...]) -> None:
    """Of m, and of what both networks make of m and call alike."""
    reference = onnx.parser.parse_model(TWICE % "g = Add (f, one) h = Mul (m, g) y = Mul (h, half)")
    candidate = onnx.parser.parse_model(TWICE % nodes)
    report = bnfold.compare(reference, candidate, np.linspace(0.1, 1, 6, dtype=np.float32).reshape(2, 3))
    assert report.passed
    assert report.unproved == unproved


SHAPED = """<ir_version: 8, opset_import: ["" : 17]> net (int64[2,2] i) => (float[2,2,2] y)
<int64[2] shape = {4, 2}, int64[2] other = {-1, 2}> { t = Reshape (k, %s) y = Gather (t, i) }"""


@pytest.mark.parametrize("shape", ["shape", "other"])
def test_what_is_shaped_counts_though_the_shape_does_not(shape: str) -> None:
    rows = np.arange(8, dtype=np.float32)
    data = np.array([[0, 1], [2, 0]])
    reference = text_model(SHAPED % "shape", k=rows)
    assert not bnfold.compare(reference, text_model(SHAPED % shape, k=rows), data, layers=False).unproved
    report = bnfold.compare(reference, text_model(SHAPED % shape, k=rows + 9 * (rows > 5)), data, layers=False)
    assert report.passed
    assert report.unproved


CHOSEN = """<ir_version: 8, opset_import: ["" : 17]> net (float[2,5] x) => (float[2,3] y, int64[2,3] i)
<int64[1] k = {3}, float low = {0}, float high = {100}> { %s }"""


def test_what_a_layer_that_chooses_reads_and_how_many_may_be_written_otherwise() -> None:
    reference = onnx.parser.parse_model(CHOSEN % "a = Relu (x) y, i = TopK (a, k)")
    counted = onnx.parser.parse_model(
        CHOSEN % "b = Relu (x) n = Shape <start = 1> (x) m = Min (k, n) y, i = TopK (b, m)"
    )
    bounded = onnx.parser.parse_model(CHOSEN % "b = Clip (x, low, high) y, i = TopK (b, k)")
    assert not bnfold.compare(reference, counted).unproved
    assert any("(Clip where the reference has Relu)" in note for note in bnfold.compare(reference, bounded).notes)


def test_a_layer_that_reads_another_blob_takes_a_bias_over(tmp_path: Path) -> None:
    """What a fold does with a Bias in front of it."""
    convolution = """layer { name: "c" type: "Convolution" bottom: "%s" top: "c"
      convolution_param { num_output: 2 kernel_size: 1 bias_term: %s } }"""
    bias = 'layer { name: "b" type: "Bias" bottom: "x" top: "b" }'
    weight, shift = np.array([[0.5, -1.5, 2], [3, 0.25, -1]], np.float32), np.array([1, -2, 0.5], np.float32)
    nets: list[bnfold.Net] = []
    for text in (bias + convolution % ("b", "false"), convolution % ("x", "true")):
        path = tmp_path / f"{len(nets)}.prototxt"
        path.write_text('input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 } ' + text)
        nets.append(bnfold.load(path))
    nets[0]["b"].blobs = bnfold.Blobs([shift])
    nets[0]["c"].blobs = bnfold.Blobs([weight[:, :, None, None]])
    nets[1]["c"].blobs = bnfold.Blobs([weight[:, :, None, None], weight @ shift])
    report = bnfold.compare(nets[0], nets[1])
    assert report.passed
    assert not report.unproved


def test_settings_of_caffe_that_are_only_written_otherwise_need_no_word(tmp_path: Path) -> None:
    text = """input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
    layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 } }
    layer { name: "r" type: "ReLU" bottom: "p" top: "r" }"""
    nets = []
    for number, written in enumerate((text, text.replace("kernel_size: 2", "pool: MAX kernel_h: 2 kernel_w: 2"))):
        path = tmp_path / f"{number}.prototxt"
        path.write_text(written)
        nets.append(bnfold.load(path))
    assert not any("other values" in note for note in bnfold.compare(nets[0], nets[1]).notes)


INPUT = 'type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } }'
IMAGES = 'type: "ImageData" top: "x" image_data_param { source: "list" batch_size: 1 new_height: 4 new_width: 4 }'


@pytest.mark.parametrize("data", [INPUT, IMAGES])
@pytest.mark.parametrize("written", ["mean_value: 104 scale: 0.5", "mean_value: 104", ""])
def test_images_that_are_prepared_otherwise_are_said_not_to_be_proved(tmp_path: Path, written: str, data: str) -> None:
    text = f"""layer {{ name: "data" {data} transform_param {{ mean_value: 104 }} }}
    layer {{ name: "r" type: "ReLU" bottom: "x" top: "r" }}"""
    nets = []
    for number, said in enumerate(("mean_value: 104", written)):
        path = tmp_path / f"{number}.prototxt"
        path.write_text(
            text.replace("transform_param { mean_value: 104 }", f"transform_param {{ {said} }}" * bool(said))
        )
        nets.append(bnfold.load(path))
    report = bnfold.compare(nets[0], nets[1])
    note = "layer 'data': transform_param prepares images otherwise in the candidate"
    assert [note in one for one in report.notes] == [True] * (written != "mean_value: 104")


def test_a_pooling_with_windows_outside_is_said_not_to_be_proved(tmp_path: Path) -> None:
    text = """input: "x" input_shape { dim: 1 dim: 3 dim: 14 dim: 11 }
    layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { pool: MAX kernel_size: 2 stride: 5 } }"""
    nets = []
    for size in (2, 3):
        path = tmp_path / f"{size}.prototxt"
        path.write_text(text.replace("kernel_size: 2", f"kernel_size: {size}"))
        nets.append(bnfold.load(path))
    assert any("blob 'p'" in note and "not proved" in note for note in bnfold.compare(nets[0], nets[1]).notes)


def masked(name: str, wrong: float, mask: float, *, softmax: bool = False) -> onnx.ModelProto:
    """x -> MatMul -> s -> Where -> m, and perhaps Softmax -> y."""
    weight = np.random.default_rng(0).normal(size=(4, 4))
    hidden = np.triu(np.ones((4, 4), np.bool_), 1)
    stored = {"w": np.float32(wrong * weight), "hidden": hidden, "mask": np.float32(mask)}
    nodes = [helper.make_node("MatMul", ["x", "w"], [name]), helper.make_node("Where", ["hidden", "mask", name], ["m"])]
    nodes += [helper.make_node("Softmax", ["m"], ["y"], axis=-1)] if softmax else []
    ports = [
        helper.make_tensor_value_info(port, TensorProto.FLOAT, [3, 4, 4]) for port in ("x", "y" if softmax else "m")
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in stored.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("mask", [-1e9, -1e30, float(np.finfo(np.float32).min)])
def test_scores_that_differ_beside_a_mask_are_said_to(mask: float) -> None:
    right = bnfold.compare(masked("s", 1, mask), masked("t", 1, mask))
    wrong = bnfold.compare(masked("s", 1, mask), masked("t", 1.5, mask))
    assert right.passed
    assert not right.notes
    assert wrong.passed
    assert any("blob 'm': beside a mask" in note and "50 %" in note for note in wrong.notes)
    right = bnfold.compare(masked("s", 1, mask, softmax=True), masked("t", 1, mask, softmax=True))
    assert right.passed
    for factor in (1.5, 1.02, 1.005):  # the float64 run, which is asked of small errors, holds scores to their own size
        wrong = bnfold.compare(masked("s", 1, mask, softmax=True), masked("t", factor, mask, softmax=True))
        assert not wrong.passed, factor


def test_a_mask_is_no_window_without_a_value() -> None:
    model = masked("s", 1, float(np.finfo(np.float32).min), softmax=True)
    assert not bnfold.compare(model, model).notes


SCORES = (
    """<ir_version: 8, opset_import: ["" : 17]> net (float[2,4] x) => (float[q,r] y) <int64[1] axis = {1}> { %s }"""
)
SHARES = "e = Exp (d) s = ReduceSum (e, axis) y = Div (e, s)"


@pytest.mark.parametrize(
    ("reference", "candidate", "is_said"),
    [
        ("f = Identity (x) y = Softmax (f)", f"d = Identity (x) {SHARES}", True),
        ("f = Identity (x) y = Softmax (f)", f"m = ReduceMax <axes = [1]> (x) d = Sub (x, m) {SHARES}", False),
        (f"d = Identity (x) {SHARES}", f"d = Identity (x) {SHARES}", False),
        (f"d = Identity (x) {SHARES}", "f = Identity (x) y = Softmax (f)", False),
    ],
)
def test_a_softmax_without_its_maximum_is_said_to_overflow(reference: str, candidate: str, is_said: bool) -> None:
    """Noise is as small as keeps a Softmax from saturating."""
    first, second = (onnx.parser.parse_model(SCORES % body) for body in (reference, candidate))
    report = bnfold.compare(first, second, layers=False)
    assert report.passed
    said = (
        "layer 'e' (Exp) has no largest value subtracted in the candidate, and where the reference has Softmax it is "
    )
    assert any(said in note for note in report.notes) == is_said


@pytest.mark.parametrize(("factor", "is_said"), [(256, True), (16, False), (1 / 64, False)])
def test_blobs_of_float16_that_larger_inputs_make_infinite_in_the_candidate_alone_are_said(
    factor: float, is_said: bool
) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float16[1,3,4,4] x) => (float16[1,2,4,4] y)'
    weight = np.random.default_rng(0).normal(0, 0.3, (2, 3, 1, 1)).astype(np.float16)
    stored = {"w": np.asarray(weight * np.float16(factor)), "back": np.asarray(1 / factor, np.float16)}
    reference = text_model(f"{head} {{ y = Conv (x, w) }}", w=weight)
    report = bnfold.compare(reference, text_model(f"{head} {{ c = Conv (x, w) y = Mul (c, back) }}", **stored))
    assert report.passed, report.verdict
    said = "of the 65,504 where float16 ends, and the reference's blobs of float16 reach"
    assert any("blob 'c' of the candidate reaches" in note and said in note for note in report.notes) == is_said
