"""What a proof may not pass over: values that say nothing, outputs that nothing reaches, labels that fit nothing."""

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_models import change, classifier, model
from present import present

from bnfold import fold, load
from bnfold.compare.classify import near_chance
from bnfold.compare.comparison import compare
from bnfold.compare.records import DiffReport
from bnfold.compare.saturation import Positions
from bnfold.errors import UsageError
from bnfold.net import Array
from bnfold.options import CompareOptions

pytestmark = pytest.mark.usefixtures("in_one_process")

OUTPUTS = CompareOptions(layers=False)
IMAGES = np.random.default_rng(3).normal(0, 8, (40, 3, 8, 8)).astype(np.float32)


def gates(report: DiffReport) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in report.gates}


def test_values_that_are_nan_on_both_sides_prove_nothing() -> None:
    wrong = change(classifier(), "conv2_w", (7, 3, 1, 1), 5.0)
    report = compare(classifier(), wrong, np.full((2, 3, 8, 8), math.nan, np.float32))
    assert not report.passed
    assert gates(report)["compared"] is False
    assert gates(report)["tolerance"] is False  # nothing is finite, so nothing is within it
    assert report.verdict.startswith("Nothing is proved: output 'prob' has no finite value in common")
    assert "--data" in report.verdict
    assert report.outputs[0].finite == 0
    assert report.worst is None
    assert report.judged == 0


def test_an_input_of_size_0_proves_nothing_and_gets_no_other_size() -> None:
    network = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (0, 3)}, ["y"])
    report = compare(network, network)
    assert not report.passed
    assert [gate.sentence for gate in report.gates if not gate.passed] == [
        "output 'y' has no elements, so there is nothing to compare",
        "no compared blob has a finite value",
    ]


def test_the_share_that_is_not_finite_is_in_the_report() -> None:
    images = IMAGES[:4].copy()
    images[3] = math.nan
    report = compare(classifier(), classifier(), images)
    assert report.passed
    assert (report.outputs[0].finite, report.outputs[0].values) == (15, 20)
    assert any("output 'prob': 25 % of its values are not finite" in note for note in report.notes)


def test_an_output_that_is_finite_in_one_network_alone_proves_nothing_and_differs() -> None:
    report = compare(classifier(), change(classifier(), "fc_b", (0,), math.inf))
    assert gates(report) == {"compared": False, "outputs": True, "tolerance": False}
    assert report.verdict.startswith("The networks differ: ")


def filtered(weight: float, activation: str = "Relu") -> ModelProto:
    """A convolution of one weight without a bias, and an activation."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "c"), helper.make_node(activation, ["c"], ["y"], "y")]
    return model(nodes, {"x": (1, 1, 2, 2)}, ["y"], {"w": np.full((1, 1, 1, 1), weight, np.float32)})


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("value", [0.0, -3e38])
@pytest.mark.parametrize("activation", ["Relu", "Identity"])
def test_blobs_that_are_0_or_infinite_alone_prove_nothing(activation: str, value: float, layers: bool) -> None:
    options = CompareOptions(layers=layers)
    values = np.full((3, 1, 2, 2), value, np.float32)
    report = compare(filtered(2, activation), filtered(3, activation), values, options)
    assert (report.passed, gates(report)["compared"]) == (False, False)
    assert gates(report)["tolerance"] == any(blob.finite for blob in report.blobs)
    assert report.verdict.startswith("Nothing is proved: ")
    assert not compare(filtered(2, activation), filtered(3, activation), -values[:, :, ::-1] + 1, options).passed


def test_an_output_of_zeros_is_judged_by_what_stands_in_front() -> None:
    values = np.full((3, 1, 2, 2), -1, np.float32)
    assert compare(filtered(2), filtered(2), values).passed
    report = compare(filtered(2), filtered(3), values, OUTPUTS)
    assert (report.passed, gates(report)["compared"], gates(report)["tolerance"]) == (False, True, False)


def test_weights_that_meet_nothing_but_zeros_are_said() -> None:
    """Behind a dead ReLU no weight of conv2 has any effect, and its bias is an output that is equal and not 0."""
    dead = classifier()
    for place in range(6):
        dead = change(dead, "conv1_b", (place,), -1e6)
    wrong = change(dead, "conv2_w", (7, 3, 1, 1), 5.0)
    report = compare(dead, wrong, IMAGES)
    assert report.passed
    note, other = (note for note in report.notes if "not proved" in note)
    assert other.startswith("layer 'conv2' has other values in the candidate ('conv2_w')")
    assert note.startswith("layer 'conv2': all that is read there is 0")
    assert not any("not proved" in note for note in compare(classifier(), classifier(), IMAGES).notes)


def test_axes_of_zeros_are_no_weights_that_something_has_to_prove() -> None:
    """As the state that an LSTM begins with is made of zeros, and gets an axis."""
    nodes = [
        helper.make_node("Sub", ["data", "data"], ["zeros"], "zeros"),
        helper.make_node("Unsqueeze", ["zeros", "axes"], ["state"], "state"),
        helper.make_node("Add", ["data", "state"], ["y"], "y"),
    ]
    made = model(nodes, {"data": (1, 3)}, ["y"], {"axes": np.array([0])})
    report = compare(made, made)
    assert report.passed
    assert not [note for note in report.notes if "not proved" in note]


def test_weights_that_read_channels_of_zeros_are_said() -> None:
    """Two channels of six never pass the ReLU, and a weight that reads one of them may be anything."""
    dead = change(change(classifier(), "conv1_b", (2,), -1e6), "conv1_b", (3,), -1e6)
    report = compare(dead, change(dead, "conv2_w", (7, 3, 1, 1), 5.0), IMAGES)
    assert report.passed
    note, other = (note for note in report.notes if "not proved" in note)
    assert other.startswith("layer 'conv2' has other values in the candidate ('conv2_w')")
    said = "2 of 14 channels that layers with weights read are 0 in all samples, most in front of 'conv2' (2 of 6): "
    assert note.startswith(said)
    assert not compare(dead, change(dead, "conv2_w", (7, 1, 1, 1), 5.0), IMAGES).passed


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "is 0 everywhere"), (7.0, "is 7 everywhere"), (np.nan, "has no finite value")]
)
def test_data_in_which_nothing_varies_is_said(value: float, said: str, layers: bool) -> None:
    wrong = change(change(classifier(), "conv1_w", (2, 1, 0, 0), 5.0), "conv1_w", (2, 1, 2, 2), -5.0)
    images = np.full((3, 3, 8, 8), value, np.float32)
    note = f"input 'data' {said}, so the weights that read it are not proved; give data that varies"
    report = compare(classifier(), wrong, images, layers=layers)
    assert report.passed == (value == 0)
    assert any(one.startswith(note) for one in report.notes)
    images[1, 2, 3, 4:6] = 1, 2
    assert not any(said in one for one in compare(classifier(), wrong, images, layers=layers).notes)


def test_an_input_that_is_the_same_beside_one_that_varies_is_not_said() -> None:
    added = model([helper.make_node("Add", ["x", "state"], ["y"], "add")], {"x": (1, 4), "state": (1, 4)}, ["y"])
    random = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)
    nothing = np.zeros((3, 4), np.float32)
    assert compare(added, added, {"x": random, "state": nothing}).notes == ()
    (note,) = compare(added, added, {"x": nothing + 2, "state": nothing}).notes
    assert note.startswith("input 'x' is 2 everywhere and 'state' is 0 everywhere, so")


@pytest.mark.parametrize("layers", [True, False])
def test_what_noise_of_a_large_magnitude_hides_is_found_in_a_sample_of_a_small_one(layers: bool) -> None:
    def shifted(by: float) -> ModelProto:
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "y")]
        stored = {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.array([by], np.float32)}
        return model(nodes, {"x": (1, 1, 8, 8)}, ["y"], stored)

    report = compare(shifted(1.0), shifted(1.002), options=CompareOptions(layers=layers))
    (blob,) = report.blobs
    assert blob.max_rel < 1e-4 < blob.judged == max(sample.max_rel for sample in report.samples)
    assert f"blob 'y' differs by {blob.judged:.1e} of its range in one sample, beyond the tolerance" in report.verdict
    bisected = compare(shifted(1.0), shifted(1.002), options=CompareOptions(layers=False, bisect=True))
    assert present(bisected.first_divergent).blob == "y"
    # Samples that are given are one set, whose range is that of all.
    both = np.concatenate([np.random.default_rng(0).normal(0, scale, (1, 1, 8, 8)) for scale in (1, 64)])
    given = compare(shifted(1.0), shifted(1.002), both.astype(np.float32), options=CompareOptions(layers=layers))
    assert given.passed
    assert given.blobs[0].judged == given.blobs[0].max_rel


def test_what_noise_of_a_large_magnitude_hides_is_no_rounding_either() -> None:
    def shifted(by: float) -> ModelProto:
        shift = np.zeros((1, 1, 32, 32), np.float32)
        shift[0, 0, 5, 7] = by
        return model([helper.make_node("Add", ["x", "s"], ["y"], "y")], {"x": (1, 1, 32, 32)}, ["y"], {"s": shift})

    report = compare(shifted(0.0), shifted(1e-3))
    (blob,) = report.blobs
    assert 1e-4 < blob.judged < 2e-4  # of 1,024 values one is wrong: 1e-7 of the range of all samples, on average
    assert (report.passed, report.as_exact) == (False, ())


def scores() -> ModelProto:
    """The classifier without its Softmax."""
    made = classifier(batch=1)
    made.graph.node.pop()
    made.graph.output[0].name = "fc"
    return made


def with_one_loud(count: int) -> Array:
    """Images of which one is a million times as large as the others, as where a missing value is written so."""
    images = np.random.default_rng(4).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)
    images[count // 2] *= 1e6
    return images


@pytest.mark.parametrize("count", [5, 40])  # of more than 16, a float64 run looks at some alone
@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("amount", [0.3, -2e-3])
def test_what_one_sample_of_a_large_magnitude_hides_is_found_in_the_others(
    count: int, layers: bool, amount: float
) -> None:
    """The loud sample differs most, by rounding."""
    reference = scores()
    rounded = change(reference, "conv1_w", (2, 1, 0, 0), 1.2e-7)
    beside_it = compare(reference, rounded, with_one_loud(count), layers=layers)
    assert beside_it.passed
    assert beside_it.outputs[0].worst == replace(beside_it.outputs[0].worst, sample=count // 2)
    for weight, place in {"conv1_b": (1,), "conv2_b": (7,), "fc_b": (3,)}.items():
        report = compare(reference, change(rounded, weight, place, amount), with_one_loud(count), layers=layers)
        assert not report.passed, weight
        assert report.outputs[0].max_rel < 1e-4 < report.outputs[0].judged
        assert "in one sample, beyond the tolerance" in report.verdict


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("layers", [True, False])
def test_a_right_fold_passes_beside_one_sample_of_a_large_magnitude(count: int, layers: bool) -> None:
    random = np.random.default_rng(2)
    drawn = {name: random.normal(0, 1, 4).astype(np.float32) for name in ("b", "gamma", "beta", "mean")}
    drawn |= {"variance": random.uniform(0.5, 2, 4).astype(np.float32)}
    drawn |= {"w": random.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["conv"], "conv"),
        helper.make_node("BatchNormalization", ["conv", "gamma", "beta", "mean", "variance"], ["bn"], "bn"),
        helper.make_node("Relu", ["bn"], ["relu"], "relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["y"], "pool"),
    ]
    network = load(model(nodes, {"data": ("N", 3, 8, 8)}, ["y"], drawn))
    folded = fold(network)
    assert [layer.name for layer in folded.net.layers] == ["conv", "relu", "pool"]
    assert compare(network, folded.net, with_one_loud(count), layers=layers).passed


def test_halving_finds_what_one_sample_of_a_large_magnitude_hides() -> None:
    report = compare(scores(), change(scores(), "conv2_b", (7,), 0.3), with_one_loud(40), bisect=True)
    assert report.first_divergent is not None
    assert report.first_divergent.blob == "conv2"


def test_no_output_in_common_proves_nothing() -> None:
    report = compare(classifier(classes=5), classifier(classes=4))
    assert gates(report)["compared"] is False
    assert "0 of 1 outputs compared; 1 has another shape in the candidate" in report.verdict


def test_labels_without_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="no samples are given: noise has no classes"):
        compare(classifier(), classifier(), labels=[1])


@pytest.mark.parametrize("label", [5, 30, -2, 1.5])
def test_a_label_that_is_no_class_is_refused(label: float) -> None:
    labels = np.array([0, 1, label, 2])
    with pytest.raises(UsageError, match=f"label {label:g} of sample 2: the network has 5 classes, 0 to 4"):
        compare(classifier(), classifier(), IMAGES[:4], labels=labels)
    assert compare(classifier(), classifier(), IMAGES[:4], labels=[0, 1, -1, 4]).passed


def test_there_is_one_label_for_each_sample() -> None:
    with pytest.raises(UsageError, match="labels"):
        compare(classifier(), classifier(), IMAGES[:4], labels=[0, 1])


def test_a_reference_no_better_than_chance_gets_a_note() -> None:
    answers = compare(classifier(), classifier(), IMAGES, labels=np.zeros(40, int)).classifier
    assert present(answers).known == 40
    labels = np.random.default_rng(0).integers(0, 5, 40)
    doubtful = compare(classifier(), classifier(), IMAGES, labels=labels)
    assert any("chance for 20 %" in note and "--mean" in note for note in doubtful.notes)
    better = [replace(present(doubtful.classifier), reference_top1=share) for share in (0.38, 0.42)]
    assert [near_chance(one) is None for one in better] == [False, True]  # three deviations of 40 samples are at 0.39


def test_a_reference_that_recognises_and_a_handful_of_samples_get_no_note() -> None:
    from bnfold.runtime import Session

    session = Session(classifier())
    answers = np.concatenate([session.run({"data": IMAGES[i : i + 2]})["prob"] for i in range(0, 40, 2)]).argmax(axis=1)
    assert not any("chance" in note for note in compare(classifier(), classifier(), IMAGES, labels=answers).notes)
    few = compare(classifier(), classifier(), IMAGES[:2], labels=(answers[:2] + 1) % 5)
    assert present(few.classifier).reference_top1 == 0
    assert not any("chance" in note for note in few.notes)


def counting(least: float) -> ModelProto:
    """The values above a threshold, as many as there are."""
    nodes = [
        helper.make_node("Greater", ["x", "least"], ["large"], "large"),
        helper.make_node("Reshape", ["large", "flat"], ["row"], "row"),
        helper.make_node("Compress", ["x", "row"], ["y"], "y"),
    ]
    weights = {"least": np.array([least], np.float32), "flat": np.array([-1])}
    return model(nodes, {"x": (1, 6)}, ["y"], weights)


def test_shapes_that_follow_the_values_are_compared_run_by_run() -> None:
    values = np.array([[1, 2, 3, 4, 5, 6], [0.1, 2, 0.2, 4, 5, 0.3]], np.float32)
    assert compare(counting(0.5), counting(0.5), values).passed
    report = compare(counting(0.5), counting(0.15), values)
    assert not report.passed
    assert "blob 'y': its shape is (3,) in the reference and (5,) in the candidate for sample 1" in report.notes
    assert "of another shape, in one of the networks" in report.verdict
    assert not [note for note in report.notes if "not finite" in note]


def mapped(
    weight: float = 2, classes: tuple[int, ...] = (0, 1), *, scored: bool = False, front: tuple[NodeProto, ...] = ()
) -> ModelProto:
    """What gives a map of each sample, as scikit-learn's classifiers do, or the scores beside it."""
    nodes = [
        *(front or [helper.make_node("Mul", ["x", "w"], ["p"], "p")]),
        helper.make_node("ZipMap", ["p"], ["maps"], "zip", domain="ai.onnx.ml", classlabels_int64s=classes),
    ]
    key = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    outputs = [helper.make_value_info("maps", helper.make_sequence_type_proto(key))]
    if scored:
        outputs.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, (3, 2)))
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, (3, 2))
    stored = [numpy_helper.from_array(np.array([weight], np.float32), "w")]
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(
        helper.make_graph(nodes, "g", [port], outputs, stored), opset_imports=versions, ir_version=8
    )


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
def test_an_output_of_maps_is_judged_by_what_it_is_made_of(scored: bool, options: CompareOptions) -> None:
    report = compare(mapped(scored=scored), mapped(scored=scored), options=options)
    assert report.passed
    assert [blob.blob for blob in report.blobs] == ["p"]
    assert "stands behind node 'zip' (ZipMap), which makes no tensor of numbers" in report.verdict
    assert not compare(mapped(scored=scored), mapped(2.1, scored=scored), options=options).passed
    other = compare(mapped(scored=scored), mapped(classes=(1, 0), scored=scored), options=options)
    assert not other.passed
    assert "the candidate makes output 'maps' by other settings" in other.verdict


@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
def test_maps_of_saturated_scores_are_judged_by_what_stands_in_front(options: CompareOptions) -> None:
    front = (
        helper.make_node("Mul", ["x", "x"], ["square"], "square"),
        helper.make_node("Div", ["w", "square"], ["scores"], "scores"),
        helper.make_node("Sigmoid", ["scores"], ["p"], "p"),
    )
    assert compare(mapped(1e9, front=front), mapped(1e9, front=front), options=options).passed
    report = compare(mapped(1e9, front=front), mapped(2e9, front=front), options=options)
    assert not report.passed
    assert any(note.startswith("blob 'p' is saturated by Sigmoid") for note in report.notes)


@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
@pytest.mark.parametrize(
    ("operators", "said"), [(("Sub",), "all that was compared is 0"), (("Sub", "Log"), "blob 'p'")]
)
def test_maps_of_what_says_nothing_prove_nothing(
    operators: tuple[str, ...], said: str, options: CompareOptions
) -> None:
    negative = helper.make_node("Sub", ["zero", "w"], ["less"], "less")
    front = [helper.make_node("Sub", ["x", "x"], ["p"], "p")]
    if "Log" in operators:
        front = [helper.make_node("Sub", ["x", "x"], ["zero"], "zero"), negative]
        front.append(helper.make_node("Log", ["less"], ["p"], "p"))
    report = compare(mapped(front=tuple(front)), mapped(front=tuple(front)), options=options)
    assert not report.passed
    assert said in report.verdict


@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
def test_equal_nodes_behind_blobs_of_other_names_read_other_blobs(options: CompareOptions) -> None:
    """The map pairs q with p, which says nothing of the p that the candidate's own ZipMap reads."""
    right = helper.make_node("Mul", ["x", "w"], ["q"], "q")
    wrong = helper.make_node("Mul", ["q", "w"], ["p"], "p")
    ours, theirs = mapped(), mapped(front=(right, wrong))
    assert not compare(ours, theirs, options=replace(options, map={"p": "q"})).passed
    two = deepcopy(ours)
    two.graph.node[1].input[0] = "x"
    two.graph.node[0].input[0] = "z"
    two.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (3, 2)))
    assert compare(two, two, options=options).passed
    assert not compare(two, two, options=replace(options, map={"x": "z", "z": "x"})).passed


def softmax_of_noise(weight: np.ndarray, opset: int = 17) -> ModelProto:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"], "r"),
        helper.make_node("Mul", ["r", "w"], ["m"], "m"),
        helper.make_node("Softmax", ["m"], ["y"], "y"),
    ]
    return model(nodes, {"x": (3, 3, 3)}, ["y"], {"w": weight}, opset=opset)


def test_what_is_drawn_is_the_same_by_equal_shapes_and_versions_of_operators_alone() -> None:
    weight = np.arange(1, 4, dtype=np.float32)
    assert compare(softmax_of_noise(weight), softmax_of_noise(weight)).passed
    for other in (softmax_of_noise(weight.reshape(3, 1)), softmax_of_noise(weight, 12)):
        assert not compare(softmax_of_noise(weight), other).passed


def test_an_output_that_is_a_list_is_the_same_where_equal_nodes_make_it_of_what_is_fed() -> None:
    def listed(axis: int, **settings: Any) -> ModelProto:
        node = helper.make_node("SplitToSequence", ["x"], ["s"], "s", axis=axis, **settings)
        port = helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 4))
        output = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "g", [port], [output])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def beside(made: ModelProto) -> ModelProto:
        made.graph.node.append(helper.make_node("Relu", ["x"], ["y"], "y"))
        made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 4)))
        return made

    assert compare(listed(1), listed(1)).passed
    assert not compare(listed(1), listed(0)).passed
    assert compare(beside(listed(1)), beside(listed(1, keepdims=1))).passed  # as it does by default
    for other in (listed(0), listed(1, keepdims=0)):
        report = compare(beside(listed(1)), beside(other))
        assert not report.passed
        assert "the candidate makes output 's' by other settings" in report.verdict


def test_an_output_whose_axes_of_size_1_stand_elsewhere_is_said() -> None:
    def part(keepdims: int) -> ModelProto:
        nodes = [
            helper.make_node("SplitToSequence", ["x"], ["list"], "list", axis=1, keepdims=keepdims),
            helper.make_node("SequenceAt", ["list", "i"], ["y"], "y"),
        ]
        return model(nodes, {"x": (4, 4)}, ["y"], {"i": np.array(1)})

    said = "output 'y': its shape is (4, 1) in the reference and (4,) in the candidate, and where a size is 1 is not"
    assert not compare(part(1), part(1)).notes
    assert [note for note in compare(part(1), part(0)).notes if note.startswith(said)]


@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
def test_an_output_that_is_a_list_of_another_blob_is_another(options: CompareOptions) -> None:
    def listed(read: str) -> ModelProto:
        nodes = [
            helper.make_node("Relu", ["x"], ["y"], "y"),
            helper.make_node("Neg", ["x"], ["z"], "z"),
            helper.make_node("Identity", ["y"], ["copy"], "copy"),
            helper.make_node("SplitToSequence", [read], ["s"], "s", axis=1),
        ]
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4, 4)) for name in "xyz"]
        output = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "g", ports[:1], [*ports[1:], output])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    assert compare(listed("y"), listed("copy"), options=options).passed
    assert compare(listed("copy"), listed("y"), options=options).passed
    for other in ("x", "z"):
        report = compare(listed("y"), listed(other), options=options)
        assert not report.passed
        assert "the candidate makes output 's' by other settings" in report.verdict


def test_a_list_inside_a_net_that_was_folded_in_memory_is_no_blob() -> None:
    nodes = [
        helper.make_node("MatMul", ["w", "data"], ["c"], "c"),
        helper.make_node("Mul", ["c", "k"], ["m"], "m"),
        helper.make_node("SplitToSequence", ["m", "n"], ["list"], "list", axis=0),
        helper.make_node("SequenceAt", ["list", "i"], ["y"], "y"),
    ]
    weights = {"w": np.eye(2, dtype=np.float32), "k": np.float32(2), "n": np.int64(2), "i": np.int64(0)}
    made = model(nodes, {"data": (2, 4)}, ["y"], {name: np.asarray(value) for name, value in weights.items()})
    made.graph.ClearField("value_info")  # so that the types of what nodes make follow from the weights
    net = load(made.SerializeToString())
    folded = fold(net).net
    assert [layer.type for layer in folded.layers] == ["MatMul", "SplitToSequence", "SequenceAt"]
    assert [blob.blob for blob in compare(net, folded).blobs] == ["m", "y"]


def test_text_is_no_blob_and_as_an_output_follows_from_what_is_compared() -> None:
    as_text = helper.make_node("Cast", ["data"], ["text"], "text", to=TensorProto.STRING)
    as_number = helper.make_node("Cast", ["text"], ["number"], "number", to=TensorProto.FLOAT)
    made = model([as_text, as_number], {"data": (2, 3)}, ["number"])
    assert [blob.blob for blob in compare(made, made).blobs] == ["number"]
    scaled = helper.make_node("Mul", ["data", "two"], ["scaled"], "scaled")
    as_text.input[0] = "scaled"
    one, other = (
        model([scaled, as_text], {"data": (2, 3)}, ["text"], {"two": np.array([factor], np.float32)})
        for factor in (2, 3)
    )
    report = compare(one, one)
    assert report.passed
    assert "stands behind node 'text' (Cast), which makes no tensor of numbers" in report.verdict
    assert not compare(one, other).passed


@pytest.mark.parametrize("stored", [False, True])
def test_text_that_a_model_holds_keeps_nothing_else_from_being_compared(stored: bool) -> None:
    words = helper.make_node("Constant", [], ["held"], "held", value_strings=["a", "b", "c"])
    nodes = [
        *([] if stored else [words]),
        helper.make_node("Identity", ["held"], ["words"], "words"),
        helper.make_node("Equal", ["words", "held"], ["equal"], "equal"),
        helper.make_node("Cast", ["equal"], ["factor"], "factor", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["data", "factor"], ["y"], "y"),
    ]
    held = {"held": np.array(["a", "b", "c"], object)} if stored else {}
    made = model(nodes, {"data": (2, 3)}, ["y"], held, 19)
    assert [blob.blob for blob in compare(made, made).blobs] == ["equal", "factor", "y"]


def flat(layer: str, *bounds: float, scale: float = 1.0) -> ModelProto:
    """data -> conv -> scaled -> y, where the layer that makes y hides what is in front of it."""
    weights: dict[str, np.ndarray] = {
        "w": IMAGES[:4].reshape(4, -1)[:, :27].reshape(4, 3, 3, 3),
        "scale": np.array(scale, np.float32),
    }
    weights |= {f"bound{place}": np.array(bound, np.float32) for place, bound in enumerate(bounds)}
    tops = ["values", "y"] if layer == "TopK" else ["y"]
    if layer == "TopK":
        weights["bound0"] = np.array([1])
    behind = "Abs" if layer == "Relu" else "Identity"
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["conv"], "conv"),
        helper.make_node(behind, ["conv"], ["positive"], "positive"),
        helper.make_node("Mul", ["positive", "scale"], ["scaled"], "scaled"),
        helper.make_node(layer, ["scaled", *(name for name in weights if name.startswith("bound"))], tops, layer),
    ]
    return model(nodes, {"data": (2, 3, 8, 8)}, ["y"], weights)


@pytest.mark.parametrize(
    "reference",
    [
        flat("Clip", -1e-6, 1e-6),
        flat("Erf", scale=1e6),
        flat("Greater", 1e9),
        flat("Max", 1e9),
        flat("QuantizeLinear", 1e-6),
        flat("Relu", scale=-1.0),
        flat("Round", scale=1e-6),
        flat("Sign"),
        flat("TopK", 1),
    ],
    ids=lambda made: made.graph.node[-1].op_type,
)
def test_an_output_that_shows_no_small_error_is_judged_by_what_stands_in_front_of_it(reference: ModelProto) -> None:
    layer = reference.graph.node[-1].op_type
    report = compare(reference, change(reference, "w", (3, 0, 0, 0), 4.0), options=OUTPUTS)
    assert not report.passed
    assert any(f"output 'y' is saturated by {layer}" in note for note in report.notes)
    assert compare(reference, reference, options=OUTPUTS).passed


@pytest.mark.parametrize("copy", ["Identity", "Dropout"])
def test_what_hides_behind_a_copy_of_scores_is_judged_by_the_scores(copy: str) -> None:
    def squashed(nodes: list[NodeProto], front: str, bias: float) -> ModelProto:
        made = [helper.make_node("Conv", ["x", "w", "b"], ["c"], "c"), *nodes]
        made.append(helper.make_node("Sigmoid", [front], ["y"], "y"))
        weights = {"w": np.full((1, 1, 1, 1), 40, np.float32), "b": np.full(1, bias, np.float32)}
        return model(made, {"x": (1, 1, 4, 4)}, ["y"], weights)

    whole = squashed([helper.make_node(copy, ["c"], ["d"], "d")], "d", 300.0)
    images = np.random.default_rng(2).normal(size=(4, 1, 4, 4)).astype(np.float32)
    right = compare(whole, squashed([], "c", 300.0), images, OUTPUTS)
    assert right.passed
    assert any("so it is judged by what stands in front of it: 'c'" in note for note in right.notes)
    assert not compare(whole, squashed([], "c", 303.0), images, OUTPUTS).passed


@pytest.mark.parametrize(
    "behind",
    [
        helper.make_node("Cast", ["levels"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("DequantizeLinear", ["levels", "bound0"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_levels_in_another_type_show_no_small_error_either(behind: NodeProto) -> None:
    reference = flat("QuantizeLinear", 1e-6)
    reference.graph.node[-1].output[0] = "levels"
    reference.graph.node.append(behind)
    del reference.graph.value_info[:]
    reference.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 4, 6, 6)))
    report = compare(reference, change(reference, "w", (3, 0, 0, 0), 4.0), options=OUTPUTS)
    assert not report.passed
    assert any("output 'y' is saturated by QuantizeLinear" in note for note in report.notes)


@pytest.mark.parametrize(("scale", "muted"), [(1.0, False), (1e6, True)])
def test_what_noise_saturates_between_layers_is_said_where_outputs_alone_are_compared(
    scale: float, muted: bool
) -> None:
    def squashed(wrong: float) -> ModelProto:
        random = np.random.default_rng(5)
        nodes = [
            helper.make_node("Conv", ["data", "w"], ["conv"], "conv"),
            helper.make_node("Add", ["conv", "b"], ["scores"], "scores"),
            helper.make_node("Sigmoid", ["scores"], ["p"], "p"),
            helper.make_node("Conv", ["p", "w2"], ["y"], "y"),
        ]
        weights = {
            "w": random.normal(size=(4, 3, 1, 1)),
            "b": wrong * scale * random.choice([-1, 1], (4, 1, 1)),
            "w2": random.normal(size=(2, 4, 1, 1)),
        }
        stored = {name: values.astype(np.float32) for name, values in weights.items()}
        return model(nodes, {"data": (2, 3, 8, 8)}, ["y"], stored)

    right, wrong = (
        compare(squashed(1), squashed(1), options=OUTPUTS),
        compare(squashed(1), squashed(1.1), options=OUTPUTS),
    )
    said = [note for note in right.notes if "blob 'p': saturated by the noise" in note]
    assert bool(said) == muted
    assert wrong.passed == muted  # which is why
    assert set(said) <= set(wrong.notes)
    assert not compare(squashed(1), squashed(1.1)).passed
    assert not [note for note in compare(squashed(1), squashed(1)).notes if "by the noise" in note]
    other = squashed(1.1)  # of which nothing inside can be compared
    renamed = {name: f"other_{name}" for name in ("conv", "scores", "p")}
    for node in other.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for report, way in (
        (compare(squashed(1), other), "map"),
        (compare(squashed(1), squashed(1.1), bisect=True), "bisect"),
    ):
        assert report.passed == muted
        assert any("'p': saturated by the noise, " in note and f"--{way}, or" in note for note in report.notes) == muted


def test_all_that_a_saturating_layer_reads_is_judged() -> None:
    random = np.random.default_rng(7)
    weights = {name: random.normal(size=(4, 3, 3, 3)).astype(np.float32) for name in ("w1", "w2")}
    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["first"], "first"),
        helper.make_node("Conv", ["data", "w2"], ["second"], "second"),
        helper.make_node("Add", ["second", "far"], ["moved"], "moved"),
        helper.make_node("Greater", ["first", "moved"], ["y"], "greater"),
    ]
    made = model(nodes, {"data": (2, 3, 8, 8)}, ["y"], weights | {"far": np.array(1e4, np.float32)})
    for name in weights:
        assert not compare(made, change(made, name, (3, 0, 0, 0), 4.0), options=OUTPUTS).passed
    assert compare(made, made, options=OUTPUTS).passed


def test_the_least_and_the_largest_of_two_values_are_no_bounds() -> None:
    found = Positions()
    found.add("Clip", np.array([[0.2, 0.7]], np.float32))
    assert (found.saturated, found.total) == (0, 2)


def test_half_of_the_positions_at_a_bound_is_what_a_relu_has() -> None:
    report = compare(flat("Clip", 0, 1e9), flat("Clip", 0, 1e9), options=OUTPUTS)
    assert not any("saturated" in note for note in report.notes)


@pytest.mark.parametrize("layers", [True, False])
def test_an_output_that_the_candidate_has_inside_alone_passes_where_the_user_pairs_it(layers: bool) -> None:
    inside = classifier()
    inside.graph.node.append(helper.make_node("Identity", ["prob"], ["answer"], "answer"))
    inside.graph.output[0].name = "answer"
    report = compare(classifier(), inside, layers=layers)
    assert gates(report) == {"compared": True, "outputs": False, "tolerance": True}
    said = "the candidate computes blob 'prob', and gives no such output"
    assert f"{said}; --map prob=prob compares it all the same" in report.verdict
    paired = compare(classifier(), inside, layers=layers, map={"prob": "prob"})
    assert (paired.passed, said in paired.notes) == (True, True)
    given = compare(classifier(), inside, layers=layers, map={"prob": "answer"})
    assert given.passed
    assert not any("gives no such output" in note for note in given.notes)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_ports_that_stand_in_another_order_are_said(kind: str) -> None:
    nodes = [helper.make_node("Sub", ["a", "b"], ["c"]), helper.make_node("Tanh", ["c"], ["d"])]
    reference = model(nodes, {"a": (2, 4), "b": (2, 4)}, ["c", "d"])
    moved = ModelProto.FromString(reference.SerializeToString())
    ports = getattr(moved.graph, kind)
    ports.append(ports[0])
    del ports[0]
    report = compare(reference, moved)
    assert report.passed
    first = "a" if kind == "input" else "c"
    note = f"{kind} '{first}' is the candidate's {kind} 2 and the reference's 1"
    assert [note in said for said in report.notes] == [True]
    assert not compare(reference, reference).notes


@pytest.mark.parametrize(("number", "name"), [(TensorProto.INT32, "int32"), (TensorProto.DOUBLE, "float64")])
def test_an_output_of_another_type_is_said(number: int, name: str) -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["k"], axis=1), helper.make_node("Cast", ["k"], ["y"], to=number)]
    reference, other = model(nodes[:1], {"x": (2, 4)}, ["k"]), model(nodes, {"x": (2, 4)}, ["y"])
    reference.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    other.graph.output[0].type.tensor_type.elem_type = number
    report = compare(reference, other, map={"k": "y"})
    said = f"output 'k' is int64 in the reference and {name} in the candidate: its values were compared"
    assert (report.passed, [said in note for note in report.notes].count(True)) == (True, 1)


def drawing(node: NodeProto, *, shift: float = 0, more: bool = False) -> ModelProto:
    """A product, and a node behind it that draws or does not; perhaps with the product as an output, too."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "fc"), node, helper.make_node("Mul", ["z", "b"], ["y"])]
    weights = {
        "w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) + np.float32(shift),
        "b": np.arange(1, 4, dtype=np.float32),
        "ratio": np.array(0.5, np.float32),
        "training": np.array(True),
    }
    used = {name: weights[name] for made in nodes for name in made.input if name in weights}
    return model(nodes, {"x": (2, 4)}, ["a", "y"] if more else ["y"], used)


DRAWS = {
    "RandomNormalLike": helper.make_node("RandomNormalLike", ["a"], ["z"], "z", seed=1.0),
    "RandomUniform": helper.make_node("RandomUniform", [], ["z"], "z", shape=[2, 3]),
    "Dropout": helper.make_node("Dropout", ["a", "ratio", "training"], ["z"], "z"),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_stands_behind_a_node_that_draws_is_not_compared(name: str) -> None:
    reference = drawing(DRAWS[name])
    report = compare(reference, drawing(DRAWS[name]))
    assert report.passed
    assert f"0 of 1 outputs compared; 1 stands behind node 'z' ({name}), which draws other values" in report.verdict
    assert [blob.blob for blob in report.blobs] == ["a"]
    assert not compare(reference, drawing(DRAWS[name], shift=0.1)).passed
    behind = compare(reference, change(drawing(DRAWS[name]), "b", (1,), 0.5))
    assert behind.verdict.startswith("Nothing is proved: no output was compared")


@pytest.mark.parametrize("name", DRAWS)
def test_an_output_that_one_network_alone_draws_has_no_partner(name: str) -> None:
    plain = drawing(helper.make_node("Identity", ["a"], ["z"], "z"), more=True)
    random = drawing(DRAWS[name], more=True)
    assert compare(random, random).passed
    for pair in ((plain, random), (random, plain)):
        assert gates(compare(*pair)) == {"compared": True, "outputs": False, "tolerance": True}


def spread(small: float, wrong: float = 1.0) -> ModelProto:
    """Two convolutions with a ReLU between them, of the first of which a filter is small."""
    random = np.random.default_rng(6)
    first, second = (random.normal(size=shape).astype(np.float32) for shape in ((8, 3, 3, 3), (4, 8, 1, 1)))
    first[5] *= small * wrong
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"], "c"),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("Conv", ["r", "second"], ["y"], "y"),
    ]
    return model(nodes, {"x": (1, 3, 16, 16)}, ["y"], {"first": first, "second": second})


def test_a_wrong_filter_that_is_too_small_for_the_tolerance_is_said() -> None:
    report = compare(spread(1e-5), spread(1e-5, 1.5))
    assert report.passed
    (note,) = (note for note in report.notes if "of itself" in note)
    assert note.startswith("blob 'c': channel 5 differs by 50 % of itself, and so does one of blob 'r'; beside ")
    assert not compare(spread(1e-5), spread(1e-5, 1.5), None, CompareOptions(tolerance=1e-6)).passed
    by_little = compare(spread(1e-3), spread(1e-3, 1.02))  # as scores beside boxes in pixels
    assert by_little.passed
    assert any("channel 5 differs by 2 % of itself" in note for note in by_little.notes)
    assert not any("of itself" in note for note in compare(spread(1e-5), spread(1e-5, 1 + 1e-6)).notes)
    # What fails is said by the gate already.
    assert not any("of itself" in note for note in compare(spread(1.0), spread(1.0, 1.5)).notes)


def finding(threshold: float, wrong: float = 0.0, suppressing: float = 0.5, said: str = "") -> ModelProto:
    """Scores and boxes of a convolution each, and those of the boxes that are left; none of a large threshold.

    What is said stands behind the names of what is no output.
    """
    random = np.random.default_rng(2)
    weights = {
        "ws": random.normal(0, 0.3, (6, 3, 6, 6)).astype(np.float32),
        "wb": random.normal(0, 0.3, (24, 3, 6, 6)).astype(np.float32),
        "one_row": np.array([1, 1, 6]),
        "boxes_of_4": np.array([1, 6, 4]),
        "most": np.array([10]),
        "overlap": np.array([suppressing], np.float32),
        "threshold": np.array([threshold], np.float32),
        "place": np.array(2),
    }
    weights["ws"][1] += np.float32(wrong)
    read = ["boxes" + said, "scores" + said]
    nodes = [
        helper.make_node("Conv", ["x", "ws"], ["s" + said], "s"),
        helper.make_node("Reshape", ["s" + said, "one_row"], ["scores" + said], "scores"),
        helper.make_node("Conv", ["x", "wb"], ["b" + said], "b"),
        helper.make_node("Reshape", ["b" + said, "boxes_of_4"], ["boxes" + said], "boxes"),
        helper.make_node("NonMaxSuppression", [*read, "most", "overlap", "threshold"], ["left"], "left"),
        helper.make_node("Gather", ["left", "place"], ["places" + said], "places", axis=1),
        helper.make_node("Gather", [read[0], "places" + said], ["y"], "y", axis=1),
    ]
    return model(nodes, {"x": (1, 3, 6, 6)}, ["y", "left"], weights)


def test_a_detector_that_finds_nothing_is_proved_by_what_its_equal_layers_read() -> None:
    nothing = finding(1e9)
    report = compare(nothing, change(nothing, "wb", (0,), 1e-9))
    assert report.passed, report.verdict
    assert any("outputs 'left', 'y': in no sample there was an element" in note for note in report.notes)
    assert not compare(nothing, finding(1e9, wrong=0.01)).passed  # what they read differs
    assert compare(nothing, finding(1e9, suppressing=0.4)).verdict.startswith("Nothing is proved: ")
    by_outputs = compare(nothing, change(nothing, "wb", (0,), 1.0), options=OUTPUTS)
    assert "blob 'boxes' differs" in by_outputs.verdict  # what makes the boxes is another layer


@pytest.mark.parametrize("said", ["", "_1"])
def test_a_threshold_that_no_box_reached_is_named_whatever_the_boxes_are_called(said: str) -> None:
    some = finding(0.0)
    assert not compare(some, finding(0.0, said=said)).unproved
    for changed, where in (
        (finding(0.001, said=said), "threshold"),
        (finding(0.0, suppressing=0.51, said=said), "overlap"),
    ):
        report = compare(some, changed)
        assert report.passed
        assert "; of layer 'left', which holds other values, the data shows nothing" in report.verdict
        assert any(f"has other values in the candidate ('{where}')" in note for note in report.notes)
    assert not compare(some, finding(1e9, said=said)).passed


def test_scores_that_only_choose_boxes_are_compared_with_the_outputs() -> None:
    some = finding(-1e9)
    assert compare(some, some, options=OUTPUTS).passed
    report = compare(some, finding(-1e9, wrong=0.001), options=OUTPUTS)
    assert not report.passed
    assert "scores" in {blob.blob for blob in report.blobs}


def stepped(bias: float = 1.0, weight: float = 1.0, large: float = 1.0, by: str = "QuantizeLinear") -> ModelProto:
    """Two channels in steps of their own, of a size that follows them, or in whole numbers; the first is large."""
    sizes = np.array([large, 1.0], np.float32)
    middle = 2.7 if by == "QuantizeLinear" else 2.1  # which rounds, or cuts off
    weights = {
        "w": (np.array([[0.5, -0.25], [0.4, 0.3 * weight]], np.float32) * sizes[:, None])[:, :, None, None],
        "b": np.array([0.3, middle * bias], np.float32) * sizes,
    }
    if by == "QuantizeLinear":
        weights |= {"steps": sizes, "zero": np.zeros(2, np.int8)}
        behind = [
            helper.make_node("QuantizeLinear", ["c", "steps", "zero"], ["q"], "q", axis=1),
            helper.make_node("DequantizeLinear", ["q", "steps", "zero"], ["y"], "y", axis=1),
        ]
    else:
        behind = [
            helper.make_node("Cast", ["c"], ["q"], "q", to=TensorProto.INT32),
            helper.make_node("Cast", ["q"], ["y"], "y", to=TensorProto.FLOAT),
        ]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], "c"), *behind]
    return model(nodes, {"x": (1, 2, 3, 3)}, ["y"], weights)


@pytest.mark.parametrize("by", ["QuantizeLinear", "Cast"])
def test_what_moves_no_value_across_a_step_counts_in_front_of_it(by: str) -> None:
    values = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3) / 18 + 0.02
    right, wrong = (compare(stepped(by=by), stepped(bias, by=by), values, OUTPUTS) for bias in (1, 1.01))
    assert right.passed
    assert all(blob.max_abs == 0 for blob in wrong.outputs)
    assert (wrong.passed, "blob 'c' differs" in wrong.verdict) == (False, True)
    assert any("so it is judged by what stands in front of it: 'c'" in note for note in wrong.notes)


def test_the_steps_of_a_channel_that_is_small_count() -> None:
    right, wrong = (compare(stepped(large=1e4), stepped(1, one, large=1e4), options=OUTPUTS) for one in (1, 1.1))
    assert right.passed
    by_values = {blob.blob: blob.judged for blob in wrong.blobs}
    assert max(by_values["c"], by_values["y"]) < OUTPUTS.limit
    assert (wrong.passed, "blob 'q' differs" in wrong.verdict) == (False, True)


def scored(post_transform: str, changes: dict[int, float]) -> ModelProto:
    """A linear classifier of large scores, of which some coefficients, or intercepts behind them, are multiplied."""
    random = np.random.default_rng(5)
    learned = random.normal(0, 10, 24 + 4)
    for place, factor in changes.items():
        learned[place] *= factor
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        "classes",
        domain="ai.onnx.ml",
        classlabels_ints=[3, 1, 0, 2],
        coefficients=learned[:24].tolist(),
        intercepts=learned[24:].tolist(),
        post_transform=post_transform,
    )
    ports = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("x", TensorProto.FLOAT, ("n", 6)),
            ("label", TensorProto.INT64, ("n",)),
            ("scores", TensorProto.FLOAT, ("n", 4)),
        )
    ]
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:]), opset_imports=versions, ir_version=8)


@pytest.mark.parametrize("post_transform", ["LOGISTIC", "NONE", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("changes", [{2: 1.01}, {20: 0}, {25: -1}])
@pytest.mark.parametrize("options", [CompareOptions(), OUTPUTS])
def test_saturated_scores_of_a_linear_classifier_are_judged_by_what_its_coefficients_make(
    post_transform: str, changes: dict[int, float], options: CompareOptions
) -> None:
    assert compare(scored(post_transform, {}), scored(post_transform, {}), options=options).passed
    report = compare(scored(post_transform, {}), scored(post_transform, changes), options=options)
    assert not report.passed
    judged = {blob.blob: blob.judged for blob in report.blobs}
    assert judged["scores@raw" if post_transform == "LOGISTIC" else "scores"] > report.tolerance
