from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cases import GOLDEN
from google.protobuf import text_format

import bnfold
import bnfold.advice.draft as drafts
from bnfold.advice import RULES, Finding, advise
from bnfold.advice.records import Inspection
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.read import build, load
from bnfold.caffe.text import parse_prototxt
from bnfold.errors import BnfoldError, ParseError
from bnfold.net import Blobs, Layer, Net
from bnfold.report.grid import printed
from bnfold.report.plan import as_text

ROOT = Path(__file__).parents[1]
ZOO = ROOT.parent / "shared" / "zoo" / "prototxt"

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
DATA = 'layer { name: "data" type: "Data" top: "data" top: "label" }\n'
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" '
    "convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }\n"
)
CONV_WITH_BIAS = CONV.replace(" bias_term: false", "")
SCALE = 'layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }\n'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }\n'


def bn(
    fields: str = "", name: str = "bn", layer_type: str = "BatchNorm", bottom: str = "conv", top: str = "conv"
) -> str:
    return f'layer {{ name: "{name}" type: "{layer_type}" bottom: "{bottom}" top: "{top}" {fields} }}\n'


GOOD = CONV + bn() + SCALE + RELU


def rules(text: str, net: Net | None = None) -> list[str]:
    return [finding.rule for finding in advise(text, net)]


def only(text: str, net: Net | None = None) -> Finding:
    (finding,) = advise(text, net)
    return finding


@pytest.mark.parametrize("text", [INPUT + GOOD, DATA + GOOD + LOSS])
def test_the_good_pattern_gives_no_finding(text: str) -> None:
    assert advise(text) == []


def test_the_good_pattern_without_anything_in_place_gives_no_finding() -> None:
    scale = SCALE.replace('bottom: "conv" top: "conv"', 'bottom: "bn" top: "scale"')
    assert advise(INPUT + CONV + bn(top="bn") + scale) == []


def test_the_pattern_of_the_page_gives_no_finding() -> None:
    page = (ROOT / "docs" / "advice.md").read_text()
    pattern = page.split("```")[1]
    assert advise(INPUT + pattern) == []


# One BatchNorm.


def test_a_batchnorm_without_scale_is_found() -> None:
    finding = only(INPUT + CONV + bn() + RELU)
    assert (finding.rule, finding.layer, finding.severity) == ("batchnorm-without-scale", "bn", "warning")
    assert 'type: "Scale" bottom: "conv" top: "conv"' in finding.instead


def test_what_is_to_be_written_behind_a_batchnorm_silences_the_rule() -> None:
    instead = only(INPUT + CONV + bn() + RELU).instead.removesuffix(" behind it")
    assert advise(INPUT + CONV + bn() + instead + RELU) == []


def test_a_scale_by_another_blob_learns_no_gamma() -> None:
    gate = 'layer { name: "gate" type: "Scale" bottom: "bn" bottom: "data" top: "gate" }'
    assert rules(INPUT + CONV + bn(top="bn") + gate) == ["batchnorm-without-scale"]


def test_a_bias_alone_is_no_scale() -> None:
    bias = 'layer { name: "beta" type: "Bias" bottom: "conv" top: "conv" }'
    assert "only a Bias" in only(INPUT + CONV + bn() + bias).message


@pytest.mark.parametrize(
    "layer",
    [
        bn("batch_norm_param { scale_bias: true }"),
        bn("batch_norm_param { scale_filler { value: 1 } bias_filler { value: 0 } }"),
        bn("batch_norm_param { use_weight_bias: true }"),
        bn("param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 0 } param { lr_mult: 0 }"),
        bn(layer_type="BN"),
        bn(layer_type="SyncBN"),
    ],
    ids=["nvcaffe", "fillers", "intel", "vitis", "BN", "SyncBN"],
)
def test_a_batchnorm_with_a_gamma_of_its_own_needs_no_scale(layer: str) -> None:
    assert advise(INPUT + CONV + layer + RELU) == []


def test_a_gamma_that_only_the_weights_show_counts() -> None:
    c = np.ones(4, np.float32)
    net = weights(c * 0.5, c * 2, np.ones(1, np.float32), c, c)
    assert advise(INPUT + CONV + bn() + RELU, net) == []


def test_a_scale_without_bias_is_found() -> None:
    finding = only(INPUT + CONV + bn() + SCALE.replace("scale_param { bias_term: true }", ""))
    assert (finding.rule, finding.layer) == ("scale-without-bias", "scale")


def test_a_bias_layer_behind_a_scale_is_its_bias() -> None:
    bias = 'layer { name: "beta" type: "Bias" bottom: "conv" top: "conv" }'
    assert advise(INPUT + CONV + bn() + SCALE.replace("scale_param { bias_term: true }", "") + bias) == []


def test_a_scale_behind_something_else_may_lack_its_bias() -> None:
    assert advise(INPUT + CONV + SCALE.replace("scale_param { bias_term: true }", "")) == []


def test_batch_statistics_at_test_are_an_error() -> None:
    finding = only(INPUT + CONV + bn("batch_norm_param { use_global_stats: false }") + SCALE)
    assert (finding.rule, finding.severity) == ("global-stats-false", "error")


def test_batch_statistics_in_a_file_that_only_trains_are_a_note() -> None:
    data = DATA.replace("top", "include { phase: TRAIN } top", 1)
    finding = only(data + CONV + bn("batch_norm_param { use_global_stats: false }") + SCALE + LOSS)
    assert (finding.rule, finding.severity) == ("global-stats-false", "note")


def test_batch_statistics_that_nvcaffe_ignores_are_fine() -> None:
    assert advise(INPUT + CONV + bn("batch_norm_param { use_global_stats: false scale_bias: true }")) == []


def test_stored_statistics_in_training_are_found() -> None:
    finding = only(DATA + CONV + bn("batch_norm_param { use_global_stats: true }") + SCALE + LOSS)
    assert (finding.rule, finding.severity) == ("global-stats-true-in-training", "warning")


def test_stored_statistics_at_inference_are_fine() -> None:
    assert advise(INPUT + CONV + bn("batch_norm_param { use_global_stats: true }") + SCALE) == []


def test_stored_statistics_in_a_file_called_test_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "net_test.prototxt"
    path.write_text(DATA + CONV + bn("batch_norm_param { use_global_stats: true }") + SCALE + LOSS)
    assert advise(path) == []


def test_a_path_may_be_a_string_as_everywhere(tmp_path: Path) -> None:
    text = INPUT + CONV + bn()
    (tmp_path / "net.prototxt").write_text(text)
    assert advise(str(tmp_path / "net.prototxt")) == advise(text) != []
    with pytest.raises(ParseError, match=r"nowhere\.prototxt"):
        advise("nowhere.prototxt")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_zero_lr_mult_is_needless(count: int) -> None:
    finding = only(INPUT + CONV + bn("param { lr_mult: 0 decay_mult: 0 }" * count) + SCALE)
    assert (finding.rule, finding.severity) == ("lr-mult-needless", "note")


@pytest.mark.parametrize(
    ("specs", "outcome"),
    [
        ("param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 0 }", "sets them to 0"),
        ("param {} param {} param {}", "1 is the default"),
        ("param { lr_mult: 0.5 }", "Caffe stops"),
        ("param { decay_mult: 0 } param { decay_mult: 0 }", "Caffe stops"),
    ],
)
def test_any_other_lr_mult_is_wrong(specs: str, outcome: str) -> None:
    finding = only(INPUT + CONV + bn(specs) + SCALE)
    assert (finding.rule, finding.severity) == ("lr-mult-wrong", "error")
    assert outcome in finding.message


@pytest.mark.parametrize("eps", ["0.01", "1e-8", "0"])
def test_an_eps_far_from_the_default_is_found(eps: str) -> None:
    assert only(INPUT + CONV + bn(f"batch_norm_param {{ eps: {eps} }}") + SCALE).rule == "eps-far-from-default"


@pytest.mark.parametrize("word", ["eps", "var_eps"])
def test_the_eps_of_a_bn_is_found_by_either_of_its_names(word: str) -> None:
    far, near = (advise(INPUT + CONV + bn(f"bn_param {{ {word}: {eps} }}", layer_type="BN")) for eps in ("0.1", "1e-5"))
    assert {one.rule for one in far} - {one.rule for one in near} == {"eps-far-from-default"}


@pytest.mark.parametrize("eps", ["1e-5", "9.999999747378752e-06", "0.001", "0.0010000000474974513", "1e-7"])
def test_an_eps_that_other_frameworks_use_is_fine(eps: str) -> None:
    assert advise(INPUT + CONV + bn(f"batch_norm_param {{ eps: {eps} }}") + SCALE) == []


def chain(*eps: str) -> str:
    layers, blob = [], "data"
    for index, value in enumerate(eps):
        top = f"bn{index}"
        layers.append(bn(f"batch_norm_param {{ eps: {value} scale_bias: true }}", top, bottom=blob, top=top))
        blob = top
    return INPUT + "".join(layers)


def test_two_eps_in_one_net_are_found_once() -> None:
    finding = only(chain("1e-5", "1e-3", "1e-5", "1e-3", "1e-5"))
    assert (finding.rule, finding.layer) == ("mixed-eps", "bn1")
    assert "0.001 here and in 1 more, and 1e-05 in 3 layers" in finding.message


def test_the_same_eps_in_other_digits_is_no_mixture() -> None:
    assert advise(chain("1e-5", "9.999999747378752e-06", "0.00001")) == []


# Phases and sharing.


TWINS = bn("include { phase: TRAIN } batch_norm_param { use_global_stats: false }") + bn(
    "include { phase: TEST } batch_norm_param { use_global_stats: true }"
)


def test_twins_of_two_phases_are_found_once() -> None:
    finding = only(DATA + CONV + TWINS + SCALE + LOSS)
    assert (finding.rule, finding.severity, finding.line) == ("phase-twins", "note", 3)
    assert "'bn' (line 4)" in finding.message


def test_twins_by_exclude_and_without_use_global_stats_are_found() -> None:
    text = bn("exclude { phase: TEST }") + bn("exclude { phase: TRAIN } batch_norm_param { use_global_stats: true }")
    assert only(DATA + CONV + text + SCALE + LOSS).rule == "phase-twins"


def test_twins_of_different_names_are_an_error() -> None:
    finding = only(DATA + CONV + TWINS.replace('"bn"', '"bn_train"', 1) + SCALE + LOSS)
    assert (finding.rule, finding.layer, finding.severity) == ("phase-twins", "bn_train", "error")


def test_twins_that_differ_in_more_are_no_twins() -> None:
    text = TWINS.replace("use_global_stats: true", "use_global_stats: true eps: 0.00002")
    assert "phase-twins" not in rules(DATA + CONV + text + SCALE + LOSS)


def siamese(names: Sequence[str], layer_type: str = "BatchNorm", more: str = "") -> str:
    text = INPUT
    specs = " ".join(f'param {{ name: "{name}" lr_mult: 0 }}' for name in names) + more
    for side in ("a", "b"):
        text += bn(specs, f"bn_{side}", layer_type, "data", f"bn_{side}")
        text += SCALE.replace("conv", f"bn_{side}").replace('"scale"', f'"scale_{side}"')
    return text


@pytest.mark.parametrize("names", [["mean", "variance"], ["mean", "variance", "factor"]])
def test_shared_statistics_are_found_on_every_layer_that_shares_them(names: list[str]) -> None:
    found = advise(siamese(names))
    assert [(finding.rule, finding.layer) for finding in found] == [
        ("shared-statistics", "bn_a"),
        ("shared-statistics", "bn_b"),
    ]
    assert "('mean', 'variance'" in found[0].message
    assert "'bn_b'" in found[0].message
    assert found[0].message.endswith("with their names") == (len(names) == 3)


def test_names_in_three_params_share_nothing_where_caffe_drops_them() -> None:
    text = siamese(["mean", "variance", "factor"])
    assert all("but not in Caffe 1.0, which drops three `param {}`" in finding.message for finding in advise(text))
    for layer in build(parse_prototxt(text)).layers:
        assert not [spec.name for spec in layer.param.param if layer.type == "BatchNorm"]


def test_a_name_that_nobody_else_has_shares_nothing() -> None:
    text = INPUT + CONV + bn('param { name: "mean" lr_mult: 0 }') + SCALE
    assert advise(text) == []


def test_gamma_and_beta_may_be_shared() -> None:
    text = siamese([], "BN", 'param { name: "gamma" } param { name: "beta" }')
    assert advise(text) == []


def test_the_statistics_of_a_bn_may_not_be_shared() -> None:
    text = siamese(["gamma", "beta", "mean", "variance"], "BN")
    assert rules(text) == ["shared-statistics"] * 2


# Neighbours.


def test_a_bias_in_front_of_a_batchnorm_is_found() -> None:
    finding = only(INPUT + CONV_WITH_BIAS + bn() + SCALE)
    assert (finding.rule, finding.layer, finding.severity) == ("bias-before-batchnorm", "conv", "note")
    assert finding.instead == "convolution_param { bias_term: false }"


def test_a_bias_of_an_inner_product_in_front_of_a_batchnorm_is_found() -> None:
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "conv" inner_product_param { num_output: 4 } }\n'
    assert only(INPUT + ip + bn() + SCALE).instead == "inner_product_param { bias_term: false }"


def test_a_bias_that_somebody_else_reads_is_needed() -> None:
    text = INPUT + CONV_WITH_BIAS + bn(top="bn") + SCALE.replace("conv", "bn")
    assert rules(text) == ["bias-before-batchnorm"]
    assert advise(text + 'layer { name: "side" type: "Sigmoid" bottom: "conv" top: "side" }') == []


def test_a_bias_along_another_axis_than_the_channels_is_needed() -> None:
    ip = 'name: "ip" type: "InnerProduct" bottom: "data" top: "conv" inner_product_param { num_output: 4 axis: 2 }'
    assert advise(INPUT + f"layer {{ {ip} }}\n" + bn() + SCALE) == []


def test_a_bias_in_front_of_frozen_statistics_is_learned() -> None:
    frozen = bn("batch_norm_param { use_global_stats: true }")
    assert rules(DATA + CONV_WITH_BIAS + frozen + SCALE + LOSS) == ["global-stats-true-in-training"]


def test_a_bias_in_front_of_a_bn_with_folded_statistics_is_fine() -> None:
    assert advise(INPUT + CONV_WITH_BIAS + bn("bn_param { bn_mode: INFERENCE }", layer_type="BN")) == []


@pytest.mark.parametrize("between", ["", CONV.replace('bottom: "data"', 'bottom: "drop"').replace("conv", "c2", 1)])
def test_a_dropout_in_front_of_a_batchnorm_is_found(between: str) -> None:
    drop = 'layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }\n'
    text = INPUT + drop + between + bn(bottom="conv" if between else "drop", top="bn") + SCALE.replace("conv", "bn")
    finding = only(text)
    assert (finding.rule, finding.layer) == ("dropout-before-batchnorm", "drop")


def test_a_dropout_behind_the_last_batchnorm_is_fine() -> None:
    assert advise(INPUT + GOOD + 'layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }') == []


def test_a_layer_in_place_over_what_another_reads_is_found() -> None:
    side = 'layer { name: "side" type: "Sigmoid" bottom: "conv" top: "side" }\n'
    finding = only(INPUT + CONV + side + bn() + SCALE)
    assert (finding.rule, finding.layer, finding.severity) == ("in-place-read-elsewhere", "bn", "error")
    assert "'side' (line 3)" in finding.message


def test_a_reader_of_the_last_version_of_a_blob_is_fine() -> None:
    sides = "".join(f'layer {{ name: "{n}" type: "Sigmoid" bottom: "conv" top: "{n}" }}\n' for n in ("one", "two"))
    assert advise(INPUT + GOOD + sides) == []


def test_a_batchnorm_over_the_values_of_a_relu_in_place_spoils_its_gradient() -> None:
    finding = only(DATA + CONV + RELU + bn() + SCALE + LOSS)
    assert (finding.rule, finding.layer, finding.severity) == ("in-place-spoils-gradient", "bn", "error")


def test_a_batchnorm_over_the_values_of_a_sigmoid_spoils_its_gradient() -> None:
    sigmoid = 'layer { name: "sigmoid" type: "Sigmoid" bottom: "data" top: "conv" }\n'
    assert only(DATA + sigmoid + bn() + SCALE + LOSS).rule == "in-place-spoils-gradient"


def test_nothing_is_spoiled_where_nothing_is_trained_or_the_relu_is_not_in_place() -> None:
    assert advise(INPUT + CONV + RELU + bn() + SCALE) == []
    relu = RELU.replace('top: "conv"', 'top: "relu"')
    assert advise(DATA + CONV + relu + bn(bottom="relu", top="relu") + SCALE.replace("conv", "relu") + LOSS) == []


# Deployment.


def test_a_loss_in_a_net_with_inputs_is_found() -> None:
    label = 'layer { name: "label" type: "Input" top: "label" }\n'
    finding = only(INPUT + label + GOOD + LOSS)
    assert (finding.rule, finding.layer) == ("loss-in-deploy", "loss")
    assert finding.instead == 'layer { name: "loss" type: "Softmax" bottom: "conv" top: "prob" }'


def test_a_margin_in_a_net_with_inputs_becomes_a_copy_with_the_same_top() -> None:
    margin = 'layer { name: "m" type: "LabelSpecificAdd" bottom: "conv" bottom: "data" top: "moved" }\n'
    wanted = 'layer { name: "m" type: "Power" bottom: "conv" top: "moved" }'
    assert only(INPUT + GOOD + margin).instead == wanted


def test_an_accuracy_in_a_net_with_inputs_is_left_out() -> None:
    accuracy = 'layer { name: "acc" type: "Accuracy" bottom: "conv" bottom: "data" top: "acc" }'
    assert only(INPUT + GOOD + accuracy).instead == "leave the layer out"


def test_a_data_layer_in_a_file_called_deploy_is_found(tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(DATA.replace("top:", "transform_param { crop_size: 224 } top:", 1) + GOOD)
    (finding,) = advise(path)
    assert (finding.rule, finding.layer) == ("data-in-deploy", "data")
    assert "shape { dim: 1 dim: 3 dim: 224 dim: 224 }" in finding.instead


def test_a_data_layer_of_a_net_that_cannot_be_trained_is_found() -> None:
    assert only(DATA + GOOD).rule == "data-in-deploy"


def test_layers_of_the_training_phase_are_fine_in_a_deploy_net() -> None:
    train = "".join(part.replace("type:", "include { phase: TRAIN } type:") for part in (DATA, LOSS))
    assert advise(INPUT.replace("type:", "include { phase: TEST } type:") + train + GOOD) == []


# Weights.


def weights(*blobs: np.ndarray, fields: str = "") -> Net:
    param = LayerParameter(name="bn", type="BatchNorm", bottom=["data"], top=["bn"])
    text_format.Merge(fields, param)
    return Net("", [Layer("bn", "BatchNorm", ["data"], ["bn"], Blobs(blobs), param)], {"data": (1, 4, 8, 8)})


def statistics(mean: float, variance: float, factor: float) -> Net:
    return weights(np.full(4, mean, np.float32), np.full(4, variance, np.float32), np.full(1, factor, np.float32))


WITH_BN = INPUT + GOOD


def test_trained_statistics_are_fine() -> None:
    assert advise(WITH_BN, statistics(0.5, 2, 999.98)) == []


def test_a_factor_of_zero_is_found() -> None:
    finding = only(WITH_BN, statistics(0, 0, 0))
    assert (finding.rule, finding.layer, finding.severity) == ("zero-scale-factor", "bn", "error")
    assert "multiplies by 316" in finding.message


def test_a_factor_of_zero_beside_statistics_is_found() -> None:
    finding = only(WITH_BN, statistics(0.5, 2, 0))
    assert finding.rule == "zero-scale-factor"
    assert "--zero-scale-factor one" in finding.instead


@pytest.mark.parametrize("variance", [0, 1])
def test_statistics_of_no_data_are_found(variance: float) -> None:
    finding = only(WITH_BN, statistics(0, variance, 1))
    assert (finding.rule, finding.severity) == ("untrained-statistics", "warning")


def test_statistics_that_make_no_sense_are_left_to_the_folding() -> None:
    assert advise(WITH_BN, statistics(float("nan"), 1, 1)) == []


# Order, places and the whole.


def test_findings_come_in_the_order_of_the_file_and_are_the_same_every_time() -> None:
    text = DATA + CONV_WITH_BIAS + bn("param { lr_mult: 0 }") + RELU + LOSS
    found = advise(text)
    assert [finding.rule for finding in found] == [
        "bias-before-batchnorm",
        "batchnorm-without-scale",
        "lr-mult-needless",
    ]
    assert found == advise(text)


@pytest.mark.parametrize(("count", "rest"), [(1, ""), (8, ""), (9, "1 more layer"), (11, "3 more layers")])
def test_a_rule_lists_eight_of_its_layers_and_counts_the_rest(count: int, rest: str) -> None:
    net = build(
        parse_prototxt('input: "x" input_shape { dim: 1 } layer { name: "t" type: "TanH" bottom: "x" top: "y" }')
    )
    findings = tuple(Finding("rule", f"l{place}", "note", "said", "why", "instead") for place in range(count))
    inspection = Inspection(net, bnfold.fold(net).report, findings, has_weights=True)
    lines = [line for line in printed(as_text(inspection)).splitlines() if line.startswith("  - ")]
    assert lines == [f"  - 'l{place}': said" for place in range(min(count, 8))] + [f"  - and {rest}; -v lists them"] * (
        count > 8
    )
    assert printed(as_text(inspection, verbosity=1)).count("': said\n") == count


def test_a_finding_has_the_line_of_its_layer() -> None:
    text = "# a comment\n\n" + INPUT + "# another\n" + CONV_WITH_BIAS + bn() + SCALE
    assert only(text).line == text[: text.index(CONV_WITH_BIAS)].count("\n") + 1


def test_legacy_inputs_do_not_shift_the_lines() -> None:
    text = 'input: "data"\ninput_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n' + CONV_WITH_BIAS + bn() + SCALE
    assert only(text).line == 3


def test_a_v1_file_has_lines_too() -> None:
    text = 'input: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 8\ninput_dim: 8\n' + (
        'layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" inner_product_param { num_output: 4 } }\n'
        'layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "data" }\n'
    )
    finding = only(text)
    assert (finding.rule, finding.line) == ("loss-in-deploy", 7)


def test_a_field_that_no_dialect_knows_is_no_reason_to_say_nothing() -> None:
    assert rules(INPUT + CONV + bn("batch_norm_param { novelty: 1 }") + RELU) == ["batchnorm-without-scale"]


def test_a_text_that_is_no_prototxt_is_an_error() -> None:
    with pytest.raises(ParseError, match=r"the '\{' of 'layer' is never closed"):
        advise("layer {")


def test_a_layer_in_both_phases_is_spoken_of_once() -> None:
    draft = drafts.read_draft(DATA + GOOD + LOSS)
    assert draft.train.layers == draft.test.layers
    assert len(advise(DATA + CONV + bn() + RELU + LOSS)) == 1


def test_a_name_that_two_layers_of_one_net_share_is_found() -> None:
    twice = RELU + RELU.replace('top: "conv1"', 'top: "b"')
    found = [finding for finding in advise(INPUT + CONV + twice) if finding.rule == "layers-of-one-name"]
    assert [finding.severity for finding in found] == ["warning"]
    assert "called as 'relu" in found[0].message
    nameless = twice.replace('name: "relu"', 'name: ""')
    assert "layers-of-one-name" not in [finding.rule for finding in advise(INPUT + CONV + nameless)]
    learned = INPUT + CONV + CONV.replace('top: "conv1"', 'top: "b"')
    assert [finding.severity for finding in advise(learned) if finding.rule == "layers-of-one-name"] == ["error"]


def test_twins_of_two_phases_may_share_a_name() -> None:
    twins = [DATA.replace("}", f"include {{ phase: {phase} }} }}") for phase in ("TRAIN", "TEST")]
    assert "layers-of-one-name" not in rules("".join(twins) + GOOD + LOSS)


@pytest.mark.parametrize(
    ("layer_type", "words"), [("Accuracy", "an Accuracy"), ("SoftmaxWithLoss", "a SoftmaxWithLoss")]
)
def test_a_sentence_has_the_article_of_its_noun(layer_type: str, words: str) -> None:
    text = INPUT + CONV + f'layer {{ name: "x" type: "{layer_type}" bottom: "conv1" bottom: "label" top: "x" }}'
    (finding,) = [finding for finding in advise(text) if finding.rule == "loss-in-deploy"]
    assert finding.message.startswith(f"{words}, while")


def test_every_rule_is_tested_here() -> None:
    source = Path(__file__).read_text()
    assert [name for name in RULES if f'"{name}"' not in source] == []


def test_the_rules_are_sorted_and_each_says_what_it_looks_for() -> None:
    assert list(RULES) == sorted(RULES)
    for name, rule in RULES.items():
        assert rule.check.__doc__, name
        assert not rule.why.endswith("."), name
        assert not rule.instead.endswith("."), name


def test_every_rule_has_its_heading_on_the_page() -> None:
    lines = (ROOT / "docs" / "advice.md").read_text().splitlines()
    assert [name for name in RULES if f"### {name}" not in lines] == []


@pytest.mark.skipif(not ZOO.is_dir(), reason="../shared is not here")
def test_every_published_prototxt_gets_advice_or_a_sentence() -> None:
    spoken: set[str] = set()
    refused = []
    for path in sorted(ZOO.glob("*.prototxt")):
        try:
            findings = advise(path)
        except BnfoldError as error:
            refused.append(str(error))
            continue
        lines = [finding.line or 0 for finding in findings]
        assert lines == sorted(lines), path
        spoken.update(finding.rule for finding in findings)
    assert len(refused) <= 6, refused
    assert not any("\n" in sentence for sentence in refused)
    assert spoken >= {"batchnorm-without-scale", "bias-before-batchnorm", "global-stats-false", "phase-twins"}


def test_advice_on_a_caffemodel_alone_is_about_the_net_that_was_read_from_it() -> None:
    caffemodel = GOLDEN / "ov_pooling_mds" / "net.caffemodel"
    draft = drafts.read_draft(caffemodel, load(caffemodel))
    pool = draft.find("p")
    assert pool is not None
    assert pool.layer.param.pooling_param.dilation == 2  # Synopsys would call it pad_type


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x08\x08\x12\x00:\x02\x12\x00", "is an ONNX model and not a prototxt: its name has to end in .onnx"),
        (b"\x08\x64\x12\x01a\x1a\x06*\x04\0\0\0\0 \x01", "is the state of a solver and not a prototxt"),
        (b"\x08\x01\x10\x03\x18\x01 \x01*\x04\0\0\0\0", "is one blob, as the file of a mean is, and not a prototxt"),
        (
            b"\xa2\x06\x03\n\x01a",
            "is binary and not a prototxt: was a caffemodel, or an ONNX model, given",
        ),
    ],
)
def test_a_model_in_the_place_of_a_prototxt_is_said_to_be_one(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "net.prototxt").write_bytes(content)
    with pytest.raises(ParseError, match=what):
        advise(tmp_path / "net.prototxt")
