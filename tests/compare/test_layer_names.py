"""Caffe's blobs in place beside models whose values are called by the layers that make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from algebra.random_nets import prototxt
from algebra.running import net_of
from nets import net
from onnx import ModelProto, helper, numpy_helper
from onnx_models import model
from seeds import seeded

import bnfold
from bnfold.compare.comparison import Comparison
from bnfold.net import Array, Blobs, Net

IN_PLACE = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "CONV"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "CONV" top: "CONV" }
layer { name: "scale" type: "Scale" bottom: "CONV" top: "CONV" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "CONV" top: "CONV" }
layer { name: "drop" type: "Dropout" bottom: "CONV" top: "CONV" }
layer { name: "fc" type: "InnerProduct" bottom: "CONV" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }"""


def in_place(top: str = "conv") -> Net:
    return net(IN_PLACE.replace("CONV", top))


def statistics(made: Net) -> dict[str, Array]:
    """What the BatchNorm and the Scale do, as BatchNormalization says it."""
    (mean, variance, factor), (gamma, beta) = list(made["bn"].blobs), list(made["scale"].blobs)
    return {"gamma": gamma, "beta": beta, "mean": mean / factor, "variance": variance / factor}


def converted(
    made: Net,
    *,
    folded: bool = False,
    names: Mapping[str, str] | None = None,
    nodes: Mapping[str, str] | None = None,
) -> ModelProto:
    """The net as a converter writes it that calls each value by the layer which makes it.

    Args:
        made: of `in_place`.
        folded: whether the convolution has the affines.
        names: layer -> what its value is called instead.
        nodes: layer -> what its node is called instead.
    """
    called = {layer.name: layer.name for layer in made.layers} | dict(names or {})
    affine, weights = statistics(made), {"w": made["conv"].blobs[0]}
    factor = affine["gamma"] / np.sqrt(affine["variance"] + np.float32(1e-5))
    if folded:
        weights |= {"w": weights["w"] * factor[:, None, None, None], "b": affine["beta"] - affine["mean"] * factor}
    else:
        weights |= affine
    last = called["conv" if folded else "bn"]
    made_by = [helper.make_node("Conv", ["data", "w", *(["b"] if folded else [])], [called["conv"]], "conv")]
    if not folded:
        made_by.append(helper.make_node("BatchNormalization", [called["conv"], *affine], [last], "bn"))
    made_by += [
        helper.make_node("Relu", [last], [called["relu"]], "relu"),
        helper.make_node("Flatten", [called["relu"]], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc_w", "fc_b"], [called["fc"]], "fc", transB=1),
        helper.make_node("Softmax", [called["fc"]], [called["prob"]], "prob", axis=1),
    ]
    for node in made_by:
        node.name = (nodes or {}).get(node.name, node.name)
    weights |= {"fc_w": made["fc"].blobs[0], "fc_b": made["fc"].blobs[1]}
    return model(made_by, {"data": (1, 3, 8, 8)}, [called["prob"]], weights)


def wrong(proto: ModelProto, tensor: str = "mean") -> ModelProto:
    """One channel of a weight off by a tenth of the largest."""
    (held,) = (one for one in proto.graph.initializer if one.name == tensor)
    values = numpy_helper.to_array(held).copy()
    values[1] += np.abs(values).max() / 10
    held.CopyFrom(numpy_helper.from_array(values, tensor))
    return proto


def pairs(reference: Net | ModelProto, candidate: Net | ModelProto) -> dict[str, str]:
    comparison = Comparison(reference)
    report = comparison.against(candidate)
    assert report.passed, report.verdict
    assert not report.unproved
    return {blob.blob: blob.partner for blob in report.blobs}


FIRST = {"conv@conv": "conv", "conv@scale": "bn", "conv": "relu", "fc": "fc", "prob": "prob"}


def test_a_converted_model_is_compared_by_what_its_layers_read() -> None:
    """The BatchNormalization has the Scale in it, and the Dropout is left out."""
    made = in_place()
    assert pairs(made, converted(made)) == FIRST
    assert pairs(converted(made), made) == {partner: blob for blob, partner in FIRST.items()}
    report = bnfold.compare(made, wrong(converted(made)))
    assert not report.passed
    assert report.first_divergent is not None
    assert report.first_divergent.blob == "conv@scale"
    assert not bnfold.compare(made, wrong(converted(made), "w")).passed


def test_a_converted_model_whose_convolution_has_the_affines_is_compared_behind_them() -> None:
    made = in_place()
    expected = {"conv@scale": "conv", "conv": "relu", "fc": "fc", "prob": "prob"}
    assert pairs(made, converted(made, folded=True)) == expected
    assert pairs(converted(made, folded=True), made) == {partner: blob for blob, partner in expected.items()}
    report = bnfold.compare(made, wrong(converted(made, folded=True), "b"))
    assert not report.passed
    assert report.first_divergent is not None
    assert report.first_divergent.blob == "conv@scale"


def test_a_model_that_was_simplified_after_it_was_converted_is_compared_by_what_its_layers_read() -> None:
    """The convolution makes what the BatchNormalization made, and no value has the name of the chain."""
    made = in_place()
    expected = {"conv@scale": "bn", "conv": "relu", "fc": "fc", "prob": "prob"}
    assert pairs(made, converted(made, folded=True, names={"conv": "bn"})) == expected
    assert pairs(converted(made, folded=True, names={"conv": "bn"}), made) == {
        one: name for name, one in expected.items()
    }
    other = converted(made, folded=True, names={"conv": "1", "relu": "2"}, nodes={"conv": "n1", "relu": "n2"})
    assert pairs(made, other) == {"fc": "fc", "prob": "prob"}


def test_a_normalisation_that_a_converter_left_out_is_found() -> None:
    made = in_place()
    bare = converted(made, folded=True)
    weight, bias = (one for name in "wb" for one in bare.graph.initializer if one.name == name)
    weight.CopyFrom(numpy_helper.from_array(made["conv"].blobs[0], "w"))
    bias.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), "b"))
    report = bnfold.compare(made, bare)
    assert not report.passed
    assert report.first_divergent is not None
    assert report.first_divergent.blob == "conv@scale"


@pytest.mark.parametrize("folded", [False, True])
def test_values_that_are_called_by_the_layers_tell_where_the_nodes_are_called_otherwise(folded: bool) -> None:
    made = in_place()
    unnamed = converted(made, folded=folded, nodes={name: f"{name}_1" for name in ("conv", "bn", "relu", "fc", "prob")})
    found = pairs(made, unnamed)
    assert found["conv@scale"] == ("conv" if folded else "bn")
    assert found["conv"] == "relu"


def test_nodes_that_are_called_by_the_layers_tell_where_a_blob_is_called_otherwise() -> None:
    made = in_place("c")
    found = pairs(made, converted(made, names={"conv": "c", "bn": "1", "relu": "2", "fc": "3"}))
    assert found == {"c@conv": "c", "c@scale": "1", "c": "2", "prob": "prob"}


def test_a_convolution_is_no_partner_of_what_an_activation_makes_in_its_place() -> None:
    """Its node and value have the names, and what follows has none that tell."""
    made = in_place()
    alone = converted(made, names={"bn": "1", "relu": "2"}, nodes={"bn": "n1", "relu": "n2"})
    assert pairs(made, alone) == {"fc": "fc", "prob": "prob"}
    assert pairs(alone, made) == {"fc": "fc", "prob": "prob"}


def test_what_an_activation_makes_keeps_the_name_of_the_chain() -> None:
    made = in_place()
    called = {"conv": "c1", "bn": "b1", "relu": "conv"}
    assert pairs(made, converted(made, names=called, nodes=called)) == {"conv": "conv", "fc": "fc", "prob": "prob"}


def test_a_value_that_something_else_changes_before_the_next_layer_has_no_partner() -> None:
    made = in_place()
    between = converted(made)
    between.graph.node.insert(1, helper.make_node("Neg", ["conv"], ["minus"], "minus"))
    between.graph.node[2].input[0] = "minus"
    report = bnfold.compare(made, between)
    assert not report.passed
    assert "conv" not in {blob.partner for blob in report.blobs}


def test_what_the_users_pairs_say_goes_before_the_names_of_layers() -> None:
    made = in_place()
    report = bnfold.compare(made, converted(made), map={"conv": "conv"})
    assert not report.passed
    assert {blob.blob: blob.partner for blob in report.blobs}["conv"] == "conv"


def test_inner_names_of_other_values_are_said_where_all_outputs_agree() -> None:
    """As tools leave them that fold and keep the name of what a convolution makes."""
    text = IN_PLACE.replace("CONV", "bn").replace('top: "bn"', 'top: "conv"', 1)
    apart = net(text.replace('"BatchNorm" bottom: "bn"', '"BatchNorm" bottom: "conv"'))
    named = bnfold.compare(apart, converted(apart, folded=True))
    assert not named.passed
    notes = [note for note in named.notes if note.startswith("all outputs agree, and blob 'conv' inside does not; ")]
    assert len(notes) == 1
    outputs = bnfold.compare(apart, converted(apart, folded=True), layers=False)
    assert outputs.passed
    assert not outputs.unproved
    mapped = bnfold.compare(apart, converted(apart, folded=True), map={"bn@scale": "conv"})
    assert mapped.passed
    for report in (bnfold.compare(apart, wrong(converted(apart, folded=True), "b")), mapped):
        assert not any("all outputs agree" in note for note in report.notes)


@pytest.mark.parametrize(("factor", "is_far"), [(2.0, True), (1.002, False)])
def test_inner_names_of_a_fold_are_no_other_values_however_far_they_are_off(factor: float, is_far: bool) -> None:
    made = in_place()
    wrong = bnfold.fold(made).net
    wrong["conv"].blobs = Blobs([blob * np.float32(factor) for blob in wrong["conv"].blobs])
    weight, bias = list(wrong["fc"].blobs)
    wrong["fc"].blobs = Blobs([weight / np.float32(factor), bias])
    for candidate, is_said in ((wrong, False), (bnfold.to_onnx(wrong), is_far)):
        report = bnfold.compare(made, candidate)
        assert not report.passed
        assert any("all outputs agree" in note for note in report.notes) == is_said


def test_inner_names_of_other_values_are_said_behind_an_output_that_is_saturated() -> None:
    """By what stands in front of it, which agrees, too."""
    text = IN_PLACE.replace("CONV", "bn").replace('top: "bn"', 'top: "conv"', 1)
    apart = net(text.replace('"BatchNorm" bottom: "bn"', '"BatchNorm" bottom: "conv"'))
    weight, _ = list(apart["fc"].blobs)
    apart["fc"].blobs = Blobs([weight, np.array([1e5, 0, 0, 0, 0], np.float32)])
    report = bnfold.compare(apart, converted(apart, folded=True))
    assert any("is saturated by Softmax" in note for note in report.notes)
    assert any("all outputs agree, and blob 'conv' inside does not" in note for note in report.notes)
    wrong_fc = bnfold.compare(apart, wrong(converted(apart, folded=True), "fc_b"))
    assert not any("all outputs agree" in note for note in wrong_fc.notes)


def test_the_result_of_a_fold_keeps_equal_names() -> None:
    """Its convolution makes what the last layer made, and what is left of the chain is in place in both."""
    made = in_place()
    folded = bnfold.fold(made).net
    for candidate in (folded, bnfold.to_onnx(folded), bnfold.to_onnx(made)):
        report = bnfold.compare(made, candidate)
        assert report.passed
        assert {"conv", "fc", "prob"} <= {blob.blob for blob in report.blobs if blob.blob == blob.partner}


MOVED = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "double" type: "Power" bottom: "pool" top: "double" power_param { scale: 2 } }"""
"""The factor is moved through both layers of `pool`, and into the convolution."""


def test_layers_that_an_affine_was_moved_through_read_other_values(tmp_path: Path) -> None:
    made = net(MOVED)
    folded = bnfold.fold(made).net
    assert {"conv/double", "pool@pool/double"} <= {top for layer in folded.layers for top in layer.tops}
    bnfold.save_caffe(folded, tmp_path / "f.prototxt", tmp_path / "f.caffemodel")
    files = bnfold.load(tmp_path / "f.prototxt", tmp_path / "f.caffemodel")
    for candidate in (folded, files, bnfold.to_onnx(folded)):
        assert pairs(made, candidate) == {"double": "double"}
        assert pairs(candidate, made) == {"double": "double"}
        assert pairs(bnfold.to_onnx(made), candidate) == {"double": "double"}


def test_steps_of_layers_that_were_moved_are_known_too() -> None:
    """The ONNX of the net is folded, in which the Scale is a Mul and an Add, and the Mul is moved behind the Add."""
    made = net(
        """input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
        layer { name: "tanh" type: "TanH" bottom: "data" top: "tanh" }
        layer { name: "s" type: "Scale" bottom: "tanh" top: "s" scale_param { axis: -1 bias_term: true } }
        layer { name: "drop" type: "Dropout" bottom: "s" top: "s" dropout_param { scale_train: false } }
        layer { name: "last" type: "Slice" bottom: "s" top: "last" }"""
    )
    candidate = bnfold.to_onnx(bnfold.fold(bnfold.load(bnfold.to_onnx(made))).net)
    assert "s@s/s/mul" in {one for node in candidate.graph.node for one in node.output}
    assert pairs(made, candidate) == pairs(candidate, made) == {"tanh": "tanh", "last": "last"}


@pytest.mark.parametrize("tail", ["", 'layer { name: "fc" type: "Sigmoid" bottom: "fc" top: "fc" }'])
def test_steps_within_a_layer_are_no_partners_where_a_fold_changed_what_it_reads(tail: str) -> None:
    """The Flatten in front of the Gemm has the layer's name, and reads another value since the shift is in the Gemm."""
    made = net(
        """input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }
        layer { name: "tanh" type: "TanH" bottom: "data" top: "tanh" }
        layer { name: "bias" type: "Bias" bottom: "tanh" top: "bias" }
        layer { name: "fc" type: "InnerProduct" bottom: "bias" top: "fc" inner_product_param { num_output: 5 } }"""
        + tail
    )
    reference, candidate = bnfold.to_onnx(made), bnfold.to_onnx(bnfold.fold(made).net)
    assert "fc/flatten" in {one for node in reference.graph.node for one in node.output}
    assert pairs(reference, candidate).keys() == ({"tanh", "fc@fc", "fc"} if tail else {"tanh", "fc"})
    # Names of an ONNX network are kept when that itself is folded.
    (known,) = Comparison(reference).against_all([reference], folded=[True])
    assert "fc/flatten" in {blob.blob for blob in known.blobs}
    for node in candidate.graph.node:
        node.ClearField("doc_string")  # which says that the layer was Caffe's
    report = bnfold.compare(reference, candidate)
    assert [blob.blob for blob in report.blobs if blob.judged > 1e-3] == ["fc/flatten"]
    assert not bnfold.compare(reference, wrong(bnfold.to_onnx(bnfold.fold(made).net), "fc/bias")).passed


def test_a_step_within_a_layer_that_took_in_an_affine_from_behind_is_no_partner() -> None:
    """The Gemm in front of the Reshape has the scale in it, and the layer gives what the Scale gave."""
    made = net(
        """input: "data" input_shape { dim: 1 dim: 3 dim: 4 }
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 axis: 2 } }
        layer { name: "scale" type: "Scale" bottom: "fc" top: "scale" scale_param { axis: 2 bias_term: true } }"""
    )
    reference, candidate = bnfold.to_onnx(made), bnfold.to_onnx(bnfold.fold(made).net)
    steps = [{one for node in model.graph.node for one in node.output} for model in (reference, candidate)]
    assert "fc/gemm" in steps[0] & steps[1]
    assert pairs(reference, candidate) == {"scale": "scale"}


@seeded(30)
def test_a_fold_of_a_random_net_is_proved_whatever_form_it_has(seed: int) -> None:
    made = net_of(prototxt(seed), seed)
    folded = bnfold.fold(made).net
    exported = bnfold.to_onnx(made), bnfold.to_onnx(folded)
    for reference, candidate in ((made, folded), (made, exported[1]), exported, (folded, exported[0])):
        report = bnfold.compare(reference, candidate)
        assert report.passed, report.verdict
        assert not any("inside" in note for note in report.notes)
