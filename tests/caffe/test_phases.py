"""Which layers are in the TEST net."""

from __future__ import annotations

import pytest

from bnfold.caffe.read import load
from bnfold.errors import ModelError


def kept(rules: str, tmp_path, **state: object) -> bool:
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
def test_rules_at_level_0_without_stages(rules, expected, tmp_path):
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
def test_all_stages_of_a_rule_must_be_there_and_no_other(rules, expected, tmp_path):
    assert kept(rules, tmp_path, stages=("a", "b")) is expected


def test_the_level_is_held_to_both_limits(tmp_path):
    rule = "include { min_level: 2 max_level: 3 }"
    assert [kept(rule, tmp_path, level=level) for level in (1, 2, 3, 4)] == [False, True, True, False]


def test_stages_of_the_file_count_too(tmp_path):
    assert kept('include { stage: "s" } } state { stage: "s"', tmp_path)


def test_rules_of_both_kinds_are_refused_as_in_caffe(tmp_path):
    with pytest.raises(ModelError, match=r"layer 'ruled' \(ReLU\): has include and exclude rules"):
        kept("include { phase: TEST } exclude { phase: TRAIN }", tmp_path)


def test_a_net_without_layers_at_test_is_refused(tmp_path):
    (tmp_path / "net.prototxt").write_text('layer { name: "a" type: "Data" top: "a" include { phase: TRAIN } }')
    with pytest.raises(ModelError, match=r"net\.prototxt: no layer is in the TEST net"):
        load(tmp_path / "net.prototxt")
