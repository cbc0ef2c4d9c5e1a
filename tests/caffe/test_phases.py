"""Which layers are in the TEST net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cases import TOLERANCE, Case, assert_answers, by_onnxruntime, distance
from wire_encoder import layer, length

import bnfold
from bnfold.caffe.layout import without_fields
from bnfold.caffe.read import load
from bnfold.errors import ModelError


def kept(rules: str, tmp_path: Path, **state: Any) -> bool:
    """Whether a layer with these rules is loaded."""
    text = f"""
        input: "data" input_shape {{ dim: 1 dim: 2 }}
        layer {{ name: "ruled" type: "ReLU" bottom: "data" top: "a" {rules} }}
        layer {{ name: "other" type: "ReLU" bottom: "data" top: "b" }}
    """
    (tmp_path / "net.prototxt").write_text(text)
    return "ruled" in [layer.name for layer in load(tmp_path / "net.prototxt", **state).layers]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("include { }", True),
        ("exclude { phase: TEST }", False),
        ("exclude { phase: TRAIN }", True),
        ("exclude { }", False),
        ("include { min_level: 1 }", False),
        ("include { min_level: 0 max_level: 0 }", True),
        ("include { max_level: -1 }", False),
        ('include { stage: "deploy" }', False),
        ('include { not_stage: "deploy" }', True),
        ('exclude { stage: "deploy" }', True),
        ('include { phase: TEST stage: "deploy" }', False),
        ("phase: TRAIN", True),
    ],
)
def test_rules_at_level_0_without_stages(rules: str, expected: bool, tmp_path: Path) -> None:
    assert kept(rules, tmp_path) is expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ('include { stage: "a" }', True),
        ('include { stage: "a" stage: "b" }', True),
        ('include { stage: "a" stage: "c" }', False),
        ('include { not_stage: "a" }', False),
        ('include { not_stage: "c" }', True),
        ('exclude { stage: "a" not_stage: "b" }', True),
    ],
)
def test_all_stages_of_a_rule_must_be_there_and_no_other(rules: str, expected: bool, tmp_path: Path) -> None:
    assert kept(rules, tmp_path, stages=("a", "b")) is expected


def test_the_level_is_held_to_both_limits(tmp_path: Path) -> None:
    rule = "include { min_level: 2 max_level: 3 }"
    assert [kept(rule, tmp_path, level=level) for level in (1, 2, 3, 4)] == [False, True, True, False]


def test_stages_of_the_file_count_too(tmp_path: Path) -> None:
    assert kept('include { stage: "s" } } state { stage: "s"', tmp_path)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_a_dropout_that_drops_at_random_says_that_it_is_taken_as_at_test(phase: str, tmp_path: Path) -> None:
    layer = f'layer {{ name: "d" type: "Dropout" bottom: "a" top: "b" phase: {phase} }}'
    (tmp_path / "net.prototxt").write_text(f'input: "a" input_dim: [1, 3, 4, 5] {layer}')
    notes = [note for note in load(tmp_path / "net.prototxt").notes if "drops at random there" in note]
    assert len(notes) == (phase == "TRAIN")


def test_rules_of_both_kinds_are_refused_as_in_caffe(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"layer 'ruled' \(ReLU\): has include and exclude rules"):
        kept("include { phase: TEST } exclude { phase: TRAIN }", tmp_path)


def test_a_net_without_layers_at_test_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text('layer { name: "a" type: "Data" top: "a" include { phase: TRAIN } }')
    with pytest.raises(ModelError, match=r"net\.prototxt: no layer is in the TEST net"):
        load(tmp_path / "net.prototxt")


FAULTS = Path(__file__).parent.parent / "faults"


def test_what_a_stage_decided_is_the_net_that_the_next_reader_sees(tmp_path: Path) -> None:
    case = Case(FAULTS / "stage_in_state")
    for name, net in (("as_it_is", case.load()), ("folded", bnfold.fold(case.load()).net)):
        paths = tmp_path / f"{name}.prototxt", tmp_path / f"{name}.caffemodel"
        bnfold.save_caffe(net, *paths)
        assert not [word for word in ("include", "exclude", "state") if word in paths[0].read_text()]
        assert_answers(by_onnxruntime(case.load(*paths), case.inputs), case.answers, TOLERANCE)


def test_without_its_relu_that_net_would_answer_otherwise() -> None:
    case = Case(FAULTS / "stage_in_state")
    net = case.load()
    net.reconnect(net.uses("c")[0], "c@bn")
    net.remove(next(layer for layer in net.layers if layer.name == "relu"))
    net.outputs = ["ip"]
    assert distance(by_onnxruntime(net, case.inputs)["ip"], case.answers["ip"]) > 0.01


def test_a_layer_of_another_stage_is_named_and_its_stage_takes_it_in() -> None:
    path = FAULTS / "stage_deploy_dropped" / "net.prototxt"
    shapes = {"data": (1, 3, 8, 8)}
    without, deployed = load(path, input_shapes=shapes), load(path, input_shapes=shapes, stages=["deploy"])
    assert "'softmax' (Softmax) is left out, and --stage deploy takes it in" in without.notes
    assert deployed.outputs == ["prob"]
    assert not [note for note in deployed.notes if "--stage" in note]


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (2, "'r0' (ReLU) and 'r1' (ReLU) are"),
        (3, "'r0' (ReLU), 'r1' (ReLU) and 'r2' (ReLU) are"),
        (7, "'r0' (ReLU), 'r1' (ReLU), 'r2' (ReLU), 'r3' (ReLU), 'r4' (ReLU) and 2 more are"),
    ],
)
def test_layers_that_one_stage_takes_in_are_named_together(count: int, named: str, tmp_path: Path) -> None:
    rules = 'include { stage: "a" } }'.join(
        f'layer {{ name: "r{place}" type: "ReLU" bottom: "data" top: "r{place}" ' for place in range(count)
    )
    assert kept(f'}} {rules} include {{ stage: "a" }}', tmp_path)
    assert load(tmp_path / "net.prototxt").notes == [f"{named} left out, and --stage a takes them in"]


def test_data_losses_and_metrics_of_another_stage_are_not_missed() -> None:
    net = load(FAULTS / "stage_deploy_dropped" / "net.prototxt", input_shapes={"data": (1, 3, 8, 8)})
    assert not [note for note in net.notes if "--stage val" in note or "--stage train" in note]


@pytest.mark.parametrize(
    ("rule", "behind", "fault"),
    [
        (
            'phase: TEST stage: "val"',
            "sig",
            "reads 'a', which only layer 'power' makes, and that one is not in the TEST",
        ),
        ("min_level: 3", "sig", "reads 'a', which only layer 'power' makes, and that one is not in the TEST net"),
        ('stage: "val"', "", "nothing but inputs is in the TEST net"),
    ],
)
def test_what_would_take_a_missing_layer_in_is_said_where_the_net_is_refused(
    rule: str, behind: str, fault: str, tmp_path: Path
) -> None:
    text = f"""input: "x" input_shape {{ dim: 1 dim: 2 }}
        layer {{ name: "power" type: "Power" bottom: "x" top: "a" include {{ {rule} }} }}"""
    text += 'layer { name: "sig" type: "Sigmoid" bottom: "a" top: "y" }' * bool(behind)
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "net.prototxt")
    option = "--level 3" if "level" in rule else "--stage val"
    assert fault in str(caught.value)
    assert str(caught.value).endswith(f"; 'power' (Power) is left out, and {option} takes it in")


def test_a_layer_of_another_level_is_named(tmp_path: Path) -> None:
    assert not kept("include { min_level: 2 }", tmp_path)
    net = load(tmp_path / "net.prototxt")
    assert net.notes == ["'ruled' (ReLU) is left out, and --level 2 takes it in"]
    assert kept("include { min_level: 2 }", tmp_path, level=2)


def test_a_stage_and_a_level_that_no_layer_asks_for_are_named(tmp_path: Path) -> None:
    assert kept('exclude { stage: "train" }', tmp_path)
    net = load(tmp_path / "net.prototxt", stages=["train", "trian", "deploy"], level=3)
    assert net.notes == [
        "--stage trian changes nothing: no layer asks for it (did you mean 'train'?)",
        "--stage deploy changes nothing: no layer asks for it",
        "--level 3 changes nothing: no layer asks for a level",
    ]


def test_the_level_of_the_file_counts_where_none_is_given(tmp_path: Path) -> None:
    assert kept("include { min_level: 2 } } state { level: 2", tmp_path)
    assert not kept("include { min_level: 2 } } state { level: 2", tmp_path, level=0)


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("layer { name: 'a' include { phase: TEST } top: 'b' }", "layer { name: 'a' top: 'b' }"),
        ("layer { include: { phase: TEST }, name: 'a' }", "layer { name: 'a' }"),
        (
            "layer {\n  name: 'a'\n  include {\n    phase: TEST\n  }\n  top: 'b' # b\n}",
            "layer {\n  name: 'a'\n  top: 'b' # b\n}",
        ),
        ("layer {\n  exclude { stage: 'x' } # why\n  exclude { stage: 'y' }\n}", "layer {\n  # why\n}"),
        ("layer { p { include { } } }", "layer { p { include { } } }"),
    ],
)
def test_rules_go_from_the_text_of_a_layer_and_nothing_else(written: str, left: str) -> None:
    assert without_fields(written, ("include", "exclude")) == left


def test_a_net_from_a_caffemodel_alone_has_the_layers_of_its_stage(tmp_path: Path) -> None:
    rules = length(8, length(4, "deploy")), length(8, length(5, "other")), length(9, length(4, "train"))
    layers = [
        layer(f"act{index}", "ReLU", extra=length(3, "data") + length(4, f"a{index}") + rule)
        for index, rule in enumerate(rules)
    ]
    (tmp_path / "net.caffemodel").write_bytes(b"".join([length(3, "data"), *layers]))
    net = load(tmp_path / "net.caffemodel", input_shapes={"data": (1, 2)})
    assert [each.name for each in net.layers] == ["input", "act0", "act1", "act2"]
