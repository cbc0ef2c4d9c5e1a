"""Comparing whole networks: planted faults must be named, harmless differences must pass."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import net
from onnx import helper
from onnx_models import change, classifier, model
from present import present

import bnfold
from bnfold.compare import comparison
from bnfold.compare.comparison import compare
from bnfold.compare.gates import agreement_gate, top1_gate
from bnfold.compare.models import Model
from bnfold.compare.pairs import PairRow, compare_pairs
from bnfold.data.preparation import Preparation
from bnfold.errors import ModelError, UsageError
from bnfold.options import CompareOptions, ReadOptions
from bnfold.runtime import Provider, engine


def test_a_model_equals_itself_bit_for_bit() -> None:
    report = compare(classifier(), classifier())
    assert report.passed
    assert report.verdict == "The networks compute the same, bit for bit."
    assert [blob.blob for blob in report.blobs] == ["conv1", "relu1", "conv2", "pool", "flat", "fc", "prob"]
    assert all(blob.max_abs == 0 and blob.snr_db == math.inf for blob in report.blobs)
    assert report.first_divergent is None
    assert "N(0, s^2)" in report.data


def test_what_a_softmax_makes_of_rounding_is_no_fault_of_it() -> None:
    random = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Softmax", ["s"], ["y"])]
    weights = [random.normal(5, 0.01, (64, 8))]  # whose scores are around 1000, and less than 1 apart
    weights.append(weights[0] * (1 + 2e-6 * random.normal(size=(64, 8))))
    first, second = (model(nodes, {"x": (4, 64)}, ["y"], {"w": weight.astype(np.float32)}) for weight in weights)
    report = compare(first, second, {"x": random.uniform(0, 6, (4, 64)).astype(np.float32)})
    errors = {blob.blob: blob.channel_rel for blob in report.blobs}
    assert errors["s"] < 1e-6
    assert errors["y"] > 1e-5
    assert report.first_divergent is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('type: "MVN" mvn_param { eps: 0.01 }', 'type: "MVN" mvn_param { eps: 0.0103 }'),
        ('type: "LRN" lrn_param { alpha: 0.01 }', 'type: "LRN" lrn_param { alpha: 0.0105 }'),
        ('type: "ReLU" relu_param { negative_slope: 0.1 }', 'type: "ReLU" relu_param { negative_slope: 0.1003 }'),
    ],
)
def test_a_setting_a_little_off_is_traced_to_its_layer_where_all_in_front_is_equal(right: str, wrong: str) -> None:
    text = """
        input: "data" input_shape {{ dim: 2 dim: 3 dim: 8 dim: 8 }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param {{ num_output: 6 kernel_size: 3 }} }}
        layer {{ name: "wrong" bottom: "conv" top: "wrong" {} }}
        layer {{ name: "fc" type: "InnerProduct" bottom: "wrong" top: "fc" inner_product_param {{ num_output: 4 }} }}
    """
    report = compare(
        net(text.format(right)), net(text.format(wrong)), np.random.default_rng(3).normal(0, 0.5, (2, 3, 8, 8))
    )
    assert not report.passed
    assert max(blob.channel_rel for blob in report.blobs) < 1e-3
    assert present(report.first_divergent).layer == "wrong"


@pytest.mark.parametrize(
    ("weight", "index", "layer", "channel"),
    [
        ("conv1_w", (4, 1, 0, 2), "conv1", 4),
        ("conv2_w", (7, 3, 1, 1), "conv2", 7),
        ("conv2_b", (2,), "conv2", 2),
        ("fc_w", (3, 5), "fc", 3),
        ("fc_b", (0,), "fc", 0),
    ],
)
def test_one_changed_weight_is_traced_to_its_layer_and_channel(
    weight: str, index: tuple[int, ...], layer: str, channel: int
) -> None:
    report = compare(classifier(), change(classifier(), weight, index, 0.05), tolerance=1e-5)
    assert not report.passed
    assert (present(report.first_divergent).layer, present(report.first_divergent).channel) == (layer, channel)
    assert present(report.first_divergent).before == 0
    assert f"the error starts at layer '{layer}'" in report.verdict


def test_no_channel_is_named_where_several_are_wrong() -> None:
    found = compare(classifier(), change(classifier(), "conv1_w", (slice(2, 4),), 0.05)).first_divergent
    assert (present(found).layer, present(found).channel) == ("conv1", None)


@pytest.mark.parametrize("bisect", [False, True])
def test_all_layers_are_named_that_may_be_at_fault_and_those_that_the_reference_alone_has(bisect: bool) -> None:
    """Between the input and `y` both have a convolution and a ReLU of blobs of other names; an AbsVal was lost."""
    text = """input: "x" input_shape { dim: 1 dim: 3 dim: 5 dim: 5 }
    layer { name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "abs" type: "AbsVal" bottom: "a" top: "b" }
    layer { name: "relu" type: "ReLU" bottom: "b" top: "y" }"""
    lines = text.splitlines()
    candidate = "\n".join([*lines[:2], lines[3]]).replace('"a"', '"c"').replace('"b"', '"c"')
    report = compare(net(text), net(candidate), bisect=bisect)
    found = present(report.first_divergent)
    assert (found.layer, found.suspects, found.missing) == ("conv", ("conv", "relu"), ("abs",))
    assert "; the error starts at one of the layers 'conv', 'relu'" in report.verdict
    assert found.lost == "; the reference also has layer 'abs' there"


def test_a_fault_within_the_tolerance_is_named() -> None:
    report = compare(classifier(), change(classifier(), "conv2_b", (2,), 1e-4))
    assert report.passed
    assert report.notes == (
        "the relative error grows from 0 to 1.6e-05 at layer 'conv2', more than rounding mostly adds, though within "
        "the tolerance; --exact tells whether it is rounding",
    )


def test_the_change_of_a_bias_is_measured_exactly() -> None:
    report = compare(classifier(), change(classifier(), "conv2_b", (2,), 0.25))
    blob = next(blob for blob in report.blobs if blob.blob == "conv2")
    assert blob.max_abs == pytest.approx(0.25, rel=1e-4)
    assert blob.mean_abs == pytest.approx(0.25 / 8, rel=1e-4)
    assert blob.bias == pytest.approx(0.25 / 8, rel=1e-4)
    assert blob.channel == 2
    assert blob.channel_share == pytest.approx(1)
    assert blob.worst.index[0] == 2


@pytest.mark.parametrize("options", [{}, {"layers": False}, {"bisect": True}], ids=["every blob", "outputs", "bisect"])
def test_an_output_that_is_an_initialiser_is_compared(options: dict[str, Any]) -> None:
    table = np.arange(4, dtype=np.float32)
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    one, other = (model([node], {"x": (2, 4)}, ["y", "table"], {"table": values}) for values in (table, -table))
    assert compare(one, one, **options).passed
    assert compare(one, other, **options).verdict.startswith("The networks differ: blob 'table' differs by 2.0 of its")


def test_only_outputs_are_compared_when_layers_are_not_wanted() -> None:
    report = compare(classifier(), change(classifier(), "conv1_b", (0,), 1.0), layers=False)
    assert [blob.blob for blob in report.blobs] == ["prob"]
    assert report.first_divergent is None
    assert not report.passed


@pytest.mark.parametrize("options", [{}, {"layers": False}, {"bisect": True}])
def test_networks_without_a_name_in_common_prove_nothing(options: dict[str, Any]) -> None:
    renamed = classifier()
    blobs = {name for node in renamed.graph.node for name in node.output}
    for node in renamed.graph.node:
        node.input[:] = [f"{name}_" if name in blobs else name for name in node.input]
        node.output[:] = [f"{name}_" for name in node.output]
    renamed.graph.output[0].name = "prob_"
    report = compare(classifier(), renamed, **options)
    assert not report.passed
    assert report.verdict.startswith(
        "Nothing is proved: no output was compared; pair outputs of other names with --map"
    )
    assert "no-verify" not in report.verdict


@pytest.mark.parametrize("layer", ["Softmax", "Relu"])
def test_a_label_that_is_no_number_is_named(layer: str) -> None:
    scores = model([helper.make_node(layer, ["data"], ["scores"])], {"data": ("N", 5)}, ["scores"])
    with pytest.raises(UsageError, match="label nan of sample 1: the network has 5 classes"):
        compare(scores, scores, np.zeros((3, 5), np.float32), labels=np.array([0, np.nan, 1]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": -1}, "a seed must be 0 or more"),
        ({"sample_limit": 1, "sample_seed": -1}, "a seed must be 0 or more"),
        ({"tolerance": math.inf}, "the tolerance is inf; it must be 0 or more, and finite"),
        ({"tolerance": 1.0}, "with 1 of its range a blob may hold any values, which proves nothing"),
        ({"tolerance": "1"}, "the option tolerance takes float or None, and not str"),
        ({"threads": 513}, "the option threads is from 0, for any, to 512 at most, and not 513"),
        ({"threads": 1 << 31}, "the option threads is from 0, for any, to 512 at most, and not 2147483648"),
        ({"seed": 1.5}, "the option seed takes int, and not float"),
        ({"provider": None}, "the option provider takes str, and not NoneType"),
        ({"memory": "4G"}, "the option memory takes int or None, and not str"),
        ({"layers": "no"}, "the option layers takes bool, and not str"),
        ({"min_agreement": 2}, "--min-agreement is a share, from 0 to 1, and not 2"),
        ({"options": {"tolerance": 1}}, "options are a CompareOptions, or its fields as keywords, and not dict"),
        ({"preparation": Preparation()}, "given arrays: what prepares images does nothing to arrays"),
        ({"labels": ["cat"] * 4}, "a label is the number of a class, and these are <U3"),
        ({"labels": {3: 1}}, "labels are a list of one class number for each sample, and not dict"),
        ({"labels": iter([1, 2, 3, 4])}, "labels are a list of one class number for each sample, and not list_iter"),
        ({"labels": [[1], [2, 3], 4, 5]}, "labels are a list of one class number for each sample, and not of lists"),
        ({"provider": "cuda"}, "--provider cuda: this onnxruntime has no"),
        ({"reference_provider": "cuda"}, "--reference-provider cuda: this onnxruntime has no"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(options: dict[str, Any], sentence: str) -> None:
    if "cuda" in options.values() and "CUDAExecutionProvider" in engine().get_available_providers():
        pytest.skip("it is here")
    with pytest.raises(UsageError, match=sentence):
        compare(classifier(), classifier(), np.zeros((4, 3, 8, 8), np.float32), **options)


@pytest.mark.parametrize("label", [1.5, -2, math.nan, math.inf])
def test_a_label_that_is_no_class_is_refused_where_the_network_is_no_classifier(label: float) -> None:
    regression = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3, 2, 2)}, ["y"])
    values = np.ones((3, 3, 2, 2), np.float32)
    with pytest.raises(
        UsageError, match=rf"label {label:g} of sample 2: a label is the number of a class, or -1 where"
    ):
        compare(regression, regression, values, labels=np.array([0, -1, label]))
    assert compare(regression, regression, values, labels=[0, -1, 5]).passed


def test_a_reference_runs_where_the_candidate_does_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "require_provider", lambda wanted, _: (wanted, Provider(wanted)))
    with pytest.raises(UsageError, match=r"--tf32 would be ignored: dml cannot multiply in TF32"):
        compare(classifier(), classifier(), provider="dml", tf32=True)
    with pytest.raises(UsageError, match=r"--tf32 would be ignored: dml and cpu cannot multiply in TF32"):
        compare(classifier(), classifier(), provider="dml", reference_provider="cpu", tf32=True)


def test_each_network_is_asked_for_its_types_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    session = Model.session

    def runnable(_: Model, provider: str) -> bool:
        asked.append(provider)
        return True

    monkeypatch.setattr(Model, "is_runnable", runnable)
    monkeypatch.setattr(Model, "session", lambda self, blobs, store, *_: session(self, blobs, store))
    monkeypatch.setattr(comparison, "require_provider", lambda wanted, _: (wanted, Provider(wanted)))
    changed = change(classifier(), "fc_w", (2, 5), 1.001)
    compare(classifier(), changed, provider="cuda", reference_provider="cpu")
    assert asked == ["cpu", "cuda"]


def test_scores_that_are_not_one_row_for_each_sample_classify_nothing() -> None:
    rows = model(
        [
            helper.make_node("Slice", ["data", "start", "end"], ["some"], "some"),
            helper.make_node("Softmax", ["some"], ["scores"], "scores", axis=1),
            helper.make_node(
                "Gather", ["data", "pairs"], ["rows"], "rows", axis=1
            ),  # which tells that axis 0 is the batch
        ],
        {"data": (4, 3)},
        ["scores", "rows"],
        {"start": np.array([0]), "end": np.array([1]), "pairs": np.array([[0, 1], [1, 2]])},
    )
    report = compare(rows, rows, np.ones((5, 3), np.float32), labels=[0] * 5)
    assert report.passed
    assert report.classifier is None
    assert "the labels say nothing here: no output has one score for each of so many classes" in report.notes


@pytest.mark.parametrize("given", [3, [np.zeros((3, 8, 8))], np.float32(1)])
def test_samples_that_are_none_are_named(given: Any) -> None:
    with pytest.raises(UsageError, match="samples are an array, one array for each input, or a path, and not"):
        compare(classifier(), classifier(), given)


def test_values_of_numpy_are_numbers_like_others() -> None:
    assert compare(classifier(), classifier(), tolerance=np.float32(1e-3), seed=np.int64(1)).passed


def test_constants_of_an_onnx_model_are_frozen_beside_a_caffe_model(tmp_path: Path) -> None:
    text = 'input: "x" input_shape { dim: 2 dim: 3 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    paths = tmp_path / "a.prototxt", tmp_path / "b.onnx"
    paths[0].write_text(text)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mul", ["r", "one"], ["y"])]
    fed = model(nodes, {"x": (2, 3), "one": (1,)}, ["y"], {"one": np.ones(1, np.float32)})
    onnx.save(fed, paths[1])
    assert compare(*paths, reading=ReadOptions(freeze_initializers=True)).passed
    with pytest.raises(
        UsageError, match=r"--freeze-initializers is for ONNX models, and .*a\.prototxt is none: a caffe"
    ):
        bnfold.load(paths[0], freeze_initializers=True)


def test_freezing_constants_is_refused_where_neither_model_is_onnx(tmp_path: Path) -> None:
    text = 'input: "x" input_shape { dim: 2 dim: 3 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    path = tmp_path / "a.prototxt"
    path.write_text(text)
    options = CompareOptions(reading=ReadOptions(freeze_initializers=True))
    for model_of in (str, Path):
        with pytest.raises(UsageError, match="--freeze-initializers would be ignored: neither model is ONNX"):
            compare(model_of(path), model_of(path), options=options)
    row = PairRow(0, str(path), str(path))  # of a table in which another row may have such models
    assert [report.passed for report in compare_pairs([row], None, options, lambda _, error: str(error), None)] == [
        True
    ]


def test_a_model_compared_with_itself_is_told_from_the_reference(tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    report = compare(tmp_path / "a.onnx", tmp_path / "a.onnx")
    assert (report.reference, report.candidate) == (f"{tmp_path}/a.onnx", f"{tmp_path}/a.onnx (candidate)")


def test_onnx_models_are_compared_as_far_as_asked(tmp_path: Path) -> None:
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(classifier(), paths[0])
    onnx.save(change(classifier(), "fc_w", (2, 3), 3.0), paths[1])
    assert not compare(*paths).passed
    report = compare(*paths, reading=ReadOptions(until=["pool"]))
    assert report.passed
    assert [blob.blob for blob in report.outputs] == ["pool"]
    with pytest.raises(
        UsageError, match=r"a\.onnx: --until nobody: the network has no blob of that name \(there are '"
    ):
        compare(*paths, reading=ReadOptions(until=["nobody"]))


def test_data_beyond_the_type_of_the_input_are_infinite_without_a_warning() -> None:
    report = compare(classifier(), classifier(), np.full((4, 3, 8, 8), 1e200))
    assert "no finite value in common" in report.verdict


def test_blobs_of_other_names_are_paired_by_the_map() -> None:
    renamed = classifier()
    for node in renamed.graph.node:
        node.input[:] = ["score" if name == "prob" else name for name in node.input]
        node.output[:] = ["score" if name == "prob" else name for name in node.output]
    renamed.graph.output[0].name = "score"
    report = compare(classifier(), renamed)
    assert not report.passed
    assert "no partner of the same name and shape for output 'prob'" in report.verdict
    assert report.unpaired == ("prob",)
    assert report.extra == ("score",)
    assert compare(classifier(), renamed, map={"prob": "score"}).passed
    with pytest.raises(UsageError, match="the candidate has no blob 'nobody'"):
        compare(classifier(), renamed, map={"prob": "nobody"})
    with pytest.raises(UsageError, match=r"^no partner in the other network for inputs? 'data'"):
        compare(classifier(), renamed, map={"prob": "score", "data": "nobody"})


def test_swapped_classes_flip_every_answer_between_them() -> None:
    swapped = classifier()
    first = classifier()
    for initializer in swapped.graph.initializer:
        if initializer.name in ("fc_w", "fc_b"):
            array = onnx.numpy_helper.to_array(initializer)[[1, 0, 2, 3, 4]]
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), initializer.name))
    data = np.random.default_rng(3).normal(0, 8, (37, 3, 8, 8)).astype(np.float32)
    from bnfold.runtime import Session

    answers = np.concatenate(
        [Session(first).run({"data": data[[i, min(i + 1, 36)]]})["prob"][:1] for i in range(37)]
    ).argmax(axis=1)
    report = compare(first, swapped, data, labels=answers)
    found = report.classifier
    flipped = np.flatnonzero(answers < 2)
    assert 0 < len(flipped) < 37
    assert [flip.sample for flip in present(found).flips] == flipped.tolist()
    assert all({flip.reference.label, flip.candidate.label} == {0, 1} for flip in present(found).flips)
    assert all(flip.reference.score == flip.candidate.score for flip in present(found).flips)
    assert present(found).agreement == 1 - len(flipped) / 37
    assert (present(found).reference_top1, present(found).reference_top5) == (1, 1)
    assert present(found).candidate_top1 == present(found).agreement
    assert present(present(found).flips[0].picture).shape == (8, 8, 3)
    assert present(report.first_divergent).layer == "fc"


def test_arrays_that_are_given_mean_what_they_mean_in_a_file(tmp_path: Path) -> None:
    data = np.random.default_rng(3).normal(0, 8, (1, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "a.npz", data=data, label=[3], other=np.zeros((5, 2)))
    with np.load(tmp_path / "a.npz") as arrays:
        given = compare(classifier(), classifier(), arrays)
    read = compare(classifier(), classifier(), tmp_path / "a.npz")
    assert (given.sample_count, present(given.classifier).known) == (1, 1)
    assert (given.blobs, given.classifier) == (read.blobs, read.classifier)


def test_scores_that_are_nan_are_no_answer() -> None:
    data = np.random.default_rng(3).normal(0, 8, (11, 3, 8, 8)).astype(np.float32)
    labels = np.arange(11) % 5
    silent = change(classifier(), "fc_b", (2,), np.nan)
    found = present(compare(classifier(), silent, data, labels=labels).classifier)
    assert (found.candidate_top1, found.agreement, found.flipped) == (0, 0, 11)
    both = present(compare(silent, silent, data, labels=labels).classifier)
    assert (both.reference_top1, both.candidate_top1, both.samples, both.agreement) == (0, 0, 0, 0)
    few = change(classifier(classes=4), "fc_b", (2,), np.nan)
    found = present(compare(classifier(classes=4), few, data, labels=labels % 4).classifier)
    assert (found.reference_top5, found.candidate_top5) == (1, 0)


def test_samples_of_which_no_network_gives_an_answer_agree_in_nothing() -> None:
    data = np.random.default_rng(3).normal(0, 8, (11, 3, 8, 8)).astype(np.float32)
    data[4:] = np.nan
    changed = change(classifier(), "fc_b", (0,), 5.0)
    report = compare(classifier(), changed, data, tolerance=10, min_agreement=0.75)
    right = compare(classifier(), classifier(), data, min_agreement=1.0)
    found, same = present(report.classifier), present(right.classifier)
    assert (found.samples, found.flipped) == (4, 4 - round(4 * found.agreement))
    assert found.agreement == 0.5
    assert not report.passed
    assert right.passed
    assert (same.samples, same.agreement) == (4, 1)
    note = "7 of 11 samples have a NaN among the scores 'prob' of both networks: no answers that agree"
    assert note in report.notes
    assert [math.isnan(sample.cosine) and math.isnan(sample.l2_rel) for sample in right.samples] == [False] * 4 + [
        True
    ] * 7
    data[:] = np.nan
    nothing = compare(classifier(), classifier(), data, min_agreement=0.0)
    assert "Nothing is proved" in nothing.verdict
    assert (present(nothing.classifier).samples, present(nothing.classifier).agreement) == (0, 0)


def test_gates_fail_with_a_sentence_that_says_which() -> None:
    changed = change(classifier(), "fc_b", (0,), 5.0)
    data = np.random.default_rng(3).normal(0, 8, (20, 3, 8, 8)).astype(np.float32)
    report = compare(classifier(), changed, data, tolerance=1, min_agreement=0.99)
    assert [gate.name for gate in report.gates if not gate.passed] == ["min-agreement"]
    assert "1 of 1 outputs have finite values in common" in [gate.sentence for gate in report.gates if gate.passed]
    assert "99 % needed" in report.verdict
    labels = np.full(20, 1)
    report = compare(classifier(), changed, data, tolerance=1, labels=labels, max_top1_drop=0)
    gate = report.gates[-1]
    assert gate.name == "max-top1-drop"
    assert gate.value == present(report.classifier).top1_drop
    with pytest.raises(UsageError, match="labels"):
        compare(classifier(), changed, data, max_top1_drop=0)


@pytest.mark.parametrize("batch", [1, 4, "N"])
def test_the_size_of_the_batch_changes_nothing(batch: int | str) -> None:
    data = np.random.default_rng(3).normal(size=(5, 3, 8, 8)).astype(np.float32)
    changed = change(classifier(batch=batch), "conv2_w", (7, 3, 1, 1), 0.05)
    report = compare(classifier(batch=batch), changed, data)
    blob = next(blob for blob in report.blobs if blob.blob == "conv2")
    again = compare(classifier(batch=2), change(classifier(batch=2), "conv2_w", (7, 3, 1, 1), 0.05), data)
    other = next(blob for blob in again.blobs if blob.blob == "conv2")
    assert blob.values == other.values == 5 * 8 * 36
    assert blob.worst == other.worst
    assert blob.max_abs == pytest.approx(other.max_abs, rel=1e-4)
    assert len(report.samples) == 5


def test_a_candidate_that_is_not_a_number_anywhere_fails() -> None:
    report = compare(classifier(), change(classifier(), "conv1_b", (3,), math.nan))
    assert not report.passed
    assert present(report.first_divergent).layer == "conv1"
    assert present(report.first_divergent).channel == 3
    assert "not finite" in report.verdict


def test_a_blob_of_another_shape_is_named_and_fails_if_it_is_an_output() -> None:
    report = compare(classifier(classes=5), classifier(classes=4))
    assert not report.passed
    assert any("'prob' was not compared" in note for note in report.notes)
    assert report.verdict.endswith("(0 of 1 outputs compared; 1 has another shape in the candidate).")
    assert "no partner of the same name and shape for output 'prob'" in report.verdict


def test_networks_of_which_the_only_blob_has_another_shape_differ() -> None:
    """To pair outputs of other names is no advice where the names are the same, and it is not that nothing is known."""
    wide, narrow = (
        model(
            [helper.make_node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[size, size])], {"x": (1, 2, 6, 6)}, ["y"]
        )
        for size in (2, 3)
    )
    assert compare(wide, narrow).verdict == (
        "The networks differ: no output was compared; no partner of the same name and shape for output 'y' "
        "(0 of 1 outputs compared; 1 has another shape in the candidate)."
    )


def test_an_inner_blob_of_another_size_is_a_difference_though_the_outputs_agree() -> None:
    """As a detector's that finds nothing: of all that is behind a pad that is wrong, the output alone agrees."""

    def net(kernel: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MaxPool", ["x"], ["inner"], "pool", kernel_shape=[kernel, kernel]),
            helper.make_node("GlobalMaxPool", ["inner"], ["y"], "y"),
        ]
        return model(nodes, {"x": (1, 2, 6, 6)}, ["y"])

    report = compare(net(1), net(2))
    assert report.verdict == (
        "The networks differ: blob 'inner', which layer 'pool' (MaxPool) makes, has another size: its shape is "
        "(1, 2, 6, 6) in the reference and (1, 2, 5, 5) in the candidate."
    )
    assert [gate.name for gate in report.gates if not gate.passed] == ["shapes"]
    assert compare(net(1), net(2), layers=False).passed


def test_inputs_that_do_not_fit_are_refused() -> None:
    other = model([helper.make_node("Relu", ["data"], ["prob"], "r")], {"data": (2, 3, 9, 9)}, ["prob"])
    with pytest.raises(
        UsageError, match=r"2x3x8x8 in the reference and 2x3x9x9 in the candidate; --batch or --input-shape"
    ):
        compare(classifier(), other)
    last = model([helper.make_node("Relu", ["data"], ["prob"], "r")], {"data": (2, 8, 8, 3)}, ["prob"])
    for networks, whose in (((classifier(), last), "candidate"), ((last, classifier()), "reference")):
        with pytest.raises(
            UsageError, match=rf"in the candidate: the channels of the {whose} stand last; compare what"
        ):
            compare(*networks)
    with pytest.raises(
        UsageError,
        match=r"^2 samples of given arrays: input 'data' takes 2x3x8x8, and the data is 2x3x4x4; --input-shape sets an",
    ):
        compare(classifier(), classifier(), np.zeros((2, 3, 4, 4)))
    with pytest.raises(
        UsageError, match=r"the data is 2x8x8x3: its channels stand last; give data.transpose\(0, 3, 1, 2\)"
    ):
        compare(classifier(), classifier(), np.zeros((2, 8, 8, 3)))
    with pytest.raises(UsageError, match="nothing for input 'data'"):
        compare(classifier(), classifier(), {"image": np.zeros((2, 3, 8, 8))})
    with pytest.raises(UsageError, match="no samples"):
        compare(classifier(), classifier(), np.zeros((0, 3, 8, 8)))
    with pytest.raises(UsageError, match="tolerance"):
        compare(classifier(), classifier(), tolerance=-1)


def test_models_are_read_from_files_and_others_are_refused(tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "a.onnx")
    assert compare(tmp_path / "a.onnx", str(tmp_path / "a.onnx")).passed
    (tmp_path / "b.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(
        ModelError, match=r"b\.onnx: is text and not a model in ONNX: was a prototxt given in its place"
    ):
        compare(tmp_path / "a.onnx", tmp_path / "b.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        compare(tmp_path / "missing.onnx", tmp_path / "a.onnx")
    with pytest.raises(ModelError, match=r"a\.tflite: cannot be read: No such file"):
        compare(tmp_path / "a.onnx", tmp_path / "a.tflite")
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    with pytest.raises(UsageError, match=r"neither an \.onnx"):
        compare(tmp_path / "a.onnx", tmp_path / "a.tflite")


def test_weights_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    onnx.save_model(classifier(), tmp_path / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    report = compare(tmp_path / "a.onnx", classifier())
    assert report.passed
    assert len(report.ranges) == 3


def test_progress_is_called_with_samples_done_and_in_all() -> None:
    calls = []
    compare(
        classifier(), classifier(), np.zeros((5, 3, 8, 8)), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_the_range_check_warns_where_one_channel_outgrows_the_others() -> None:
    weights = next(w for w in classifier().graph.initializer if w.name == "conv2_w")
    array = onnx.numpy_helper.to_array(weights).copy()
    array[3] *= 50
    grown = classifier()
    next(w for w in grown.graph.initializer if w.name == "conv2_w").CopyFrom(
        onnx.numpy_helper.from_array(array, "conv2_w")
    )
    report = compare(classifier(), grown)
    ranges = {entry.layer: entry for entry in report.ranges}
    per_channel = np.abs(array).reshape(8, -1).max(axis=1)
    assert ranges["conv2"].ratio_after == pytest.approx(per_channel.max() / np.median(per_channel))
    assert ranges["conv2"].worse
    assert ranges["conv2"].bits_lost > 4
    assert not ranges["conv1"].worse
    assert present(ranges["conv2"].activation_after) > 10 * present(ranges["conv2"].activation_before)


def test_the_range_check_has_no_word_on_weights_that_are_not_finite() -> None:
    broken = classifier()
    weights = next(w for w in broken.graph.initializer if w.name == "conv2_w")
    array = onnx.numpy_helper.to_array(weights).copy()
    array[3, 0] = np.inf
    weights.CopyFrom(onnx.numpy_helper.from_array(array, "conv2_w"))
    report = compare(broken, broken)
    assert [(entry.bits_lost, entry.worse) for entry in report.ranges] == [(0, False)] * len(report.ranges)


def test_the_range_of_an_activation_that_never_changes_is_0() -> None:
    dead = classifier()
    for weights in dead.graph.initializer:
        if weights.name in ("conv1_w", "conv1_b"):
            weights.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(weights.dims), np.float32), weights.name))
    ranges = {entry.layer: entry for entry in compare(dead, dead).ranges}
    assert (ranges["conv1"].activation_before, ranges["conv1"].activation_after) == (0, 0)


def test_a_share_is_said_in_as_many_figures_as_tell_whether_it_passes() -> None:
    data = np.random.default_rng(3).normal(0, 8, (9, 3, 8, 8)).astype(np.float32)
    found = present(compare(classifier(), classifier(), data, labels=np.zeros(9, int)).classifier)
    one_in_a_million = replace(found, samples=10**6, agreement=1 - 1e-6, reference_top1=0.5, candidate_top1=0.4899999)
    assert "agree for 99.9999 % of 1000000 samples, 100 % needed" in agreement_gate(one_in_a_million, 1).sentence
    assert "agree for 100 % of 1000000 samples, 99.99 % needed" in agreement_gate(one_in_a_million, 0.9999).sentence
    assert "drops by 1.00001 %, 1 % allowed" in top1_gate(one_in_a_million, 0.01).sentence
    assert "drops by 1 %, 2 % allowed" in top1_gate(one_in_a_million, 0.02).sentence
    assert top1_gate(replace(found, reference_top1=0.8, candidate_top1=0.7), 0.1).passed  # 0.10000000000000009


def test_what_was_assumed_of_a_file_that_was_read_for_it_is_told() -> None:
    path = Path(__file__).parents[2] / "sample_models" / "digits_train_test.prototxt"
    reading = ReadOptions(stages=("odd",))
    notes = compare(path, path, input_shapes={"data": (1, 1, 8, 8)}, reading=reading).notes
    for note in ("--stage odd changes nothing", "made a net for inference", "'digits' (Data) prepared its samples"):
        assert any(one.startswith(f"{path}: ") and note in one for one in notes), note
