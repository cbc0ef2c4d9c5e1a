"""A comparison is opened once: the reference is read, exported and run once, whatever is held against it."""

import subprocess
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import golden
from nets import net
from onnx import ModelProto, TensorProto, helper
from onnx_models import change, classifier, model
from present import present

import bnfold
from bnfold import pipeline, runtime
from bnfold.compare import models
from bnfold.compare.comparison import Comparison, compare
from bnfold.errors import ModelError, UsageError
from bnfold.net import Array, Net
from bnfold.options import CompareOptions
from bnfold.pipeline import Job, Reading, Writing

CASE = golden("seed_resnet_bn_scale")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, object]]:
    """How often sessions were run, by the number of nodes of their model; and how often a net was exported."""
    counts: Counter[tuple[str, object]] = Counter()
    run, export = runtime.Session.run, models._from_net

    def counting_run(self: runtime.Session, *args: Any, **options: Any) -> dict[str, Array]:
        counts["runs", id(self)] += 1
        return run(self, *args, **options)

    def counting_export(made: Net, *args: Any) -> models.Model:
        counts["exported", made.file or "net"] += 1
        return export(made, *args)

    monkeypatch.setattr(runtime.Session, "run", counting_run)
    monkeypatch.setattr(models, "_from_net", counting_export)
    return counts


def test_two_outputs_are_proved_in_one_pass_over_the_reference(
    tmp_path: Path, counted: Counter[tuple[str, object]]
) -> None:
    paths = (tmp_path / "a.prototxt", tmp_path / "a.onnx")
    report = pipeline.run(Job(Reading(CASE.prototxt, str(CASE.caffemodel)), Writing(paths)))
    assert report.passed
    assert [proof.candidate for proof in report.proofs] == [str(path) for path in paths]
    runs = [count for (what, _), count in counted.items() if what == "runs"]
    assert len(runs) == 3  # the reference, and two candidates
    assert counted["exported", str(CASE.prototxt)] == 1


def test_one_reference_judges_many_candidates() -> None:
    opened = Comparison(classifier())
    assert opened.against(classifier()).passed
    assert not opened.against(change(classifier(), "fc_b", (0,), 1.0)).passed
    good, bad, other = opened.against_all(
        [classifier(), change(classifier(), "conv1_b", (0,), 1.0), change(classifier(), "conv2_b", (0,), 1.0)]
    )
    assert good.passed
    assert present(bad.first_divergent).layer == "conv1"
    assert present(other.first_divergent).layer == "conv2"
    assert good.data == bad.data == other.data


def test_what_a_candidate_is_compared_with_does_not_depend_on_the_others() -> None:
    opened = Comparison(classifier())
    candidates = [change(classifier(), "conv1_b", (channel,), 0.1) for channel in range(3)]
    together = opened.against_all(candidates)
    assert together == [opened.against(candidate) for candidate in candidates]
    assert together == [Comparison(classifier()).against(candidate) for candidate in candidates]


def test_a_net_that_did_not_change_needs_no_run(tmp_path: Path, counted: Counter[tuple[str, object]]) -> None:
    case = golden("op_sigmoid")
    paths = (tmp_path / "a.prototxt", tmp_path / "a.onnx")
    report = pipeline.run(Job(Reading(case.prototxt), Writing(paths)))
    assert report.passed
    assert [proof.equal for proof in report.proofs] == [True, True]
    assert "nothing had to be run" in report.proofs[0].verdict
    assert not any(what == "runs" for what, _ in counted)
    # A library user who compares a net with itself gets what was asked for.
    assert bnfold.compare(case.load(), case.load()).blobs


def test_a_net_that_changed_by_one_weight_is_run() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 4 kernel_size: 3 } }
    """
    made = net(text)
    other = net(text, conv=[made.layers[-1].blobs[0] * np.float32(1.0001), made.layers[-1].blobs[1]])
    (same, changed) = Comparison(made).against_all([net(text), other], run_equal=False)
    assert (same.equal, same.passed, changed.equal, changed.passed) == (True, True, False, True)
    assert present(changed.worst).max_abs > 0


def test_the_data_is_looked_at_when_the_comparison_is_opened() -> None:
    with pytest.raises(UsageError, match="nothing for input 'data'"):
        Comparison(CASE.load(), {"other": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(UsageError, match="the tolerance is -1"):
        Comparison(CASE.load(), options=CompareOptions(tolerance=-1))
    with pytest.raises(UsageError, match="classifier"):
        Comparison(CASE.load(), options=CompareOptions(min_agreement=0.5))


def test_what_a_dropped_layer_wrote_in_place_hides_no_version(tmp_path: Path) -> None:
    """Dropout goes, so that fewer layers write on `c` behind the normalisation, whose value has its partner still."""
    bnfold.save_caffe(
        net("""
            input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
            layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                    convolution_param { num_output: 4 kernel_size: 3 } }
            layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
            layer { name: "sc" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
            layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
            layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
            layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 3 } }
        """),
        tmp_path / "net.prototxt",
    )
    reading = Reading(tmp_path / "net.prototxt", str(tmp_path / "net.caffemodel"))
    report = pipeline.run(Job(reading, Writing((tmp_path / "a.prototxt", tmp_path / "a.onnx"))))
    assert report.passed
    for proof in report.proofs:
        assert {"c@sc", "fc"} <= {blob.blob for blob in proof.blobs}


def test_models_are_equal_only_to_the_last_value_and_in_the_same_opset(tmp_path: Path) -> None:
    reference = Comparison(classifier()).reference

    def same(candidate: ModelProto | str) -> bool:
        return reference.equals(models.open_model(candidate, "candidate"))

    assert same(classifier())
    onnx.save_model(classifier(), tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    assert same(str(tmp_path / "a.onnx"))
    assert not same(change(classifier(), "fc_b", (0,), 1e-7))
    assert not same(change(classifier(), "conv1_w", (0, 0, 0, 0), 1e-7))
    assert not same(classifier(classes=4))
    older = classifier()
    older.opset_import[0].version = 13
    assert not same(older)


def traced(first: int) -> ModelProto:
    """A network that leaves its batch open, with a Reshape to so many samples, 0 for any."""
    weights: dict[str, Array] = {
        "w": np.random.default_rng(0).normal(0, 1, (4, 3, 1, 1)).astype(np.float32),
        "factor": np.array([0.5, -2, 3, 1], np.float32).reshape(4, 1, 1),
        "shape": np.array([first, 4, 16], np.int64),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        onnx.helper.make_node("Mul", ["c", "factor"], ["m"], "m"),
        onnx.helper.make_node("Reshape", ["m", "shape"], ["y"], "y"),
    ]
    return model(nodes, {"x": ("N", 3, 4, 4)}, ["y"], weights)


def test_an_open_batch_that_takes_one_sample_alone_is_run_one_by_one() -> None:
    said = "model.onnx leaves its batch open and takes one sample alone, so each was a run"
    folded = bnfold.fold(bnfold.load(traced(1))).net
    data = np.random.default_rng(1).normal(0, 1, (5, 3, 4, 4)).astype(np.float32)
    for samples in (None, data):
        report = bnfold.compare(bnfold.load(traced(1)), folded, samples)
        assert report.passed
        assert said in report.notes
    assert report.sample_count == 5
    assert not bnfold.compare(traced(1), change(bnfold.to_onnx(folded), "w", (2,), 0.1)).passed
    assert said not in bnfold.compare(traced(0), bnfold.fold(bnfold.load(traced(0))).net).notes


def test_an_open_batch_is_not_given_up_for_a_candidate() -> None:
    with pytest.raises(ModelError, match="cannot be reshaped to the requested shape"):
        bnfold.compare(traced(0), traced(1))
    with pytest.raises(ModelError, match="cannot be reshaped to the requested shape"):
        bnfold.compare(traced(1), traced(1), batch=2)
    with pytest.raises(
        ModelError, match="; its batch is open, and neither 3 samples nor one run; --batch gives another"
    ):
        bnfold.compare(traced(2), traced(2))
    assert bnfold.compare(traced(2), traced(2), batch=2).passed


def test_a_candidate_of_a_coarser_type_is_told_its_own_tolerance() -> None:
    reference, candidate = traced(0), traced(0)
    for tensor in candidate.graph.initializer:
        if tensor.name != "shape":
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for port in (*candidate.graph.input, *candidate.graph.output):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del candidate.graph.value_info[:]
    said = (
        "the candidate, whose values are stored as float16, is held to the tolerance of the reference; "
        "that of float16 is --tolerance 0.01"
    )
    report = bnfold.compare(reference, candidate)
    assert report.tolerance == 1e-4
    assert said in report.notes
    report = bnfold.compare(reference, candidate, tolerance=1e-2)
    assert report.passed
    assert said not in report.notes
    assert said not in bnfold.compare(candidate, candidate).notes


def summed(fed: str, weight: float, made: str) -> ModelProto:
    """`made` of an input `other`, plus `x` times a weight."""
    return onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]>
        graph ({fed} other, float[2, 3] x) => (float[2, 3] y) <float[1] w = {{{weight}}}>
        {{ {made} scaled = Mul (x, w) y = Add (read, scaled) }}""")


@pytest.mark.parametrize(
    ("fed", "made", "kind"),
    [
        (
            "string[2, 3]",
            "read = ai.onnx.ml.LabelEncoder <keys_strings = ['a'], values_floats = [1.0]> (other)",
            "text",
        ),
        ("seq(float[2, 3])", "first = Constant <value_int: int = 0> () read = SequenceAt (other, first)", "lists"),
        ("float8e4m3fn[2, 3]", "read = Cast <to: int = 1> (other)", "float8e4m3fn"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_an_input_that_takes_no_numbers_is_told(fed: str, made: str, kind: str, exact: bool) -> None:
    made = made.replace("'", '"')
    reference, candidate = summed(fed, 2, made), summed(fed, 2.5, made)
    said = f"reference: input 'other' takes {kind}, and a comparison feeds arrays of numbers; compare what"
    with pytest.raises(ModelError, match=said):
        bnfold.compare(reference, candidate, exact=exact)
    assert Comparison(reference).against_all([reference], run_equal=False)[0].equal


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("exact", [False, True])
def test_an_input_that_may_be_left_out_is_fed(exact: bool) -> None:
    made = "read = OptionalGetElement (other)"
    reference, candidate = summed("optional(float[2, 3])", 2, made), summed("optional(float[2, 3])", 2.5, made)
    assert not bnfold.compare(reference, candidate, exact=exact).passed
    candidate = summed("optional(float[2, 3])", 2.00001, made)
    report = bnfold.compare(reference, candidate, exact=exact)
    assert report.passed
    assert not exact or all(blob.exact is not None and blob.exact < 1e-6 for blob in report.blobs)
    data = {name: np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32) for name in ("other", "x")}
    assert bnfold.compare(reference, candidate, data).passed


CUT_OFF = """
import sys
import numpy as np
from bnfold import BnfoldError, compare

class Cutting:
    description, count, labels, class_names = "values", 64, None, ()

    def sample(self, number):
        if number == 40:
            open(sys.argv[3], "wb").close()
        return {"x": np.random.default_rng(number).normal(0, 1, (1024,)).astype(np.float32)}

    def name(self, number):
        return str(number)

    def picture(self, number):
        return None

try:
    compare(sys.argv[1], sys.argv[2], Cutting())
except BnfoldError as error:
    print(error)
"""


@pytest.mark.parametrize("outside", [False, True])
def test_a_model_that_is_cut_off_while_it_is_compared_does_not_end_the_process(tmp_path: Path, outside: bool) -> None:
    random = np.random.default_rng(1)
    weight = random.normal(0, 0.03, (1024, 1024)).astype(np.float32)
    other = weight.copy()
    other[3, 5] += 1e-6
    paths = [tmp_path / "ours.onnx", tmp_path / "theirs.onnx"]
    for path, values in zip(paths, (weight, other), strict=True):
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        network = model([node], {"x": (1, 1024)}, ["y"], {"w": values})
        onnx.save(network, path, save_as_external_data=outside, location=f"{path.name}.data")
    cut = tmp_path / "theirs.onnx.data" if outside else paths[1]
    command = [sys.executable, "-c", CUT_OFF, *map(str, paths), str(cut)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{cut}: was written to after it was read")


def test_data_for_networks_without_inputs_is_a_sentence() -> None:
    constant = model([helper.make_node("Identity", ["k"], ["y"])], {}, ["y"], {"k": np.array([1, -2], np.float32)})
    assert compare(constant, constant).passed
    with pytest.raises(UsageError, match="the networks have no input, so there is nothing that data could be fed to"):
        compare(constant, constant, np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("taken", [TensorProto.UINT8, TensorProto.INT64])
def test_an_input_of_whole_numbers_in_one_network_alone_is_said(taken: int) -> None:
    """Values between two of them are others in the two networks."""
    reference = classifier()
    casting = deepcopy(reference)
    casting.graph.input[0].type.tensor_type.elem_type = taken
    casting.graph.node[0].input[0] = "cast"
    casting.graph.node.insert(0, helper.make_node("Cast", ["data"], ["cast"], "cast", to=TensorProto.FLOAT))
    images = np.random.default_rng(0).normal(0, 8, (4, 3, 8, 8)).astype(np.float32)
    report = compare(reference, casting, np.abs(np.rint(images)))
    assert report.passed
    name = np.dtype(helper.tensor_dtype_to_np_dtype(taken)).name
    said = f"input 'data' takes float32 in the reference and {name} in the candidate, so nothing is proved of values"
    assert any(note.startswith(said) for note in report.notes)
    assert not compare(reference, casting, np.abs(images)).passed
    assert not any("takes" in note for note in compare(reference, reference, images).notes)


def test_a_range_beyond_float32_is_held_against_without_a_warning() -> None:
    ours, theirs = (
        model([helper.make_node("Add", ["x", "b"], ["y"])], {"x": ("N", 4)}, ["y"], {"b": np.full(4, by, np.float32)})
        for by in (1, 1.01)
    )
    x = np.array([[-3e38, 3e38, 1, 2], [2, 3, 4, -5], [7, -6, 8, 9]], np.float32)
    report = compare(ours, theirs, x)
    assert not report.passed
    assert report.blobs[0].max_rel < 1e-38
