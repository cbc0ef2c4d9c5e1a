"""Which layers are in the net: Caffe's include and exclude rules, for TEST unless another phase is asked for.

A layer is in if any `include` rule matches or, without `include`, if no `exclude` rule does. A rule matches if
everything that it names does: the phase, the level's limits, all of its stages, none of its `not_stage`s.

Rules that have been decided go (`decided`): the state that decided them is no part of what is written, so the next
reader would decide them anew, and otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from copy import deepcopy

from bnfold.caffe import layer_types
from bnfold.caffe.batchnorm import trains
from bnfold.caffe.caffe_pb2 import TEST, LayerParameter, NetStateRule, Phase
from bnfold.caffe.layout import without_fields
from bnfold.caffe.upgrade import Upgraded
from bnfold.errors import ModelError, did_you_mean
from bnfold.net import Layer


def runs(layer: LayerParameter, level: int = 0, stages: Set[str] = frozenset(), phase: Phase = TEST) -> bool:
    """Whether a layer is in the net of a phase (net.cpp, FilterNet). Raises ModelError for rules of both kinds."""
    rules = layer.include or layer.exclude
    if not rules:
        return True
    if layer.include and layer.exclude:
        raise ModelError(f"layer '{layer.name}' ({layer.type}): has include and exclude rules; Caffe allows one kind")
    return any(_matches(rule, level, stages, phase) for rule in rules) == bool(layer.include)


def _matches(rule: NetStateRule, level: int, stages: Set[str], phase: Phase) -> bool:
    return (
        not (rule.HasField("phase") and rule.phase != phase)
        and not (rule.HasField("min_level") and level < rule.min_level)
        and not (rule.HasField("max_level") and level > rule.max_level)
        and all(stage in stages for stage in rule.stage)
        and not any(stage in stages for stage in rule.not_stage)
    )


RULES = ("include", "exclude")
MAX_STATES = 10  # that are tried and named
MAX_LISTED = 5  # layers that are named together


def decided(layer: Upgraded) -> Upgraded:
    """A layer that is in, without its rules: in its message and in its text."""
    param, text, _ = layer
    if not param.include and not param.exclude:
        return layer
    ruleless = deepcopy(param)
    for name in RULES:
        ruleless.ClearField(name)
    return layer._replace(param=ruleless, text=without_fields(text, RULES) if text else text)


def left_out_notes(absent: Sequence[LayerParameter], level: int, stages: Set[str]) -> Iterator[str]:
    """Sentences on layers that a stage or a level would take in, and that mean something at inference.

    Args:
        absent: the layers that are not in the net.
        level, stages: of the net.
    """
    rules = _rules(absent)
    wanted = [layer for layer in absent if not (layer_types.judges(layer) or layer_types.is_data(layer))]
    named = dict.fromkeys(stage for rule in rules for stage in rule.stage if stage not in stages)
    limits = [getattr(rule, name) for rule in rules for name in ("min_level", "max_level") if rule.HasField(name)]
    states = [(f"--stage {stage}", level, stages | {stage}) for stage in named]
    states += [(f"--level {other}", other, stages) for other in dict.fromkeys(limits) if other != level]
    for option, other_level, other_stages in states[:MAX_STATES]:
        missed = [layer for layer in wanted if runs(layer, other_level, other_stages)]
        if missed:
            who = _listed([f"'{layer.name}' ({layer.type})" for layer in missed])
            verb = "is left out, and {} takes it in" if len(missed) == 1 else "are left out, and {} takes them in"
            yield f"{who} {verb.format(option)}"


def idle_state_notes(layers: Iterable[LayerParameter], stages: Iterable[str], level: int | None) -> Iterator[str]:
    """Sentences on stages and a level that a user gave, and that no rule of the file asks for."""
    rules = _rules(layers)
    known = {stage for rule in rules for stage in (*rule.stage, *rule.not_stage)}
    for stage in stages:
        if stage not in known:
            yield f"--stage {stage} changes nothing: no layer asks for it{did_you_mean(stage, known)}"
    if level is not None and not any(rule.HasField("min_level") or rule.HasField("max_level") for rule in rules):
        yield f"--level {level} changes nothing: no layer asks for a level"


def _rules(layers: Iterable[LayerParameter]) -> list[NetStateRule]:
    return [rule for layer in layers for rule in layer.include[:] + layer.exclude[:]]


def dropout_notes(layers: Sequence[Layer]) -> Iterator[str]:
    """Sentences on layers that drop at random in Caffe, since they state the phase TRAIN themselves."""
    for layer in layers:
        if layer.type.endswith("Dropout") and trains(layer.param):
            yield f"{layer}: its phase is TRAIN, so Caffe drops at random there; it is compared and exported as at TEST"


def _listed(words: Sequence[str]) -> str:
    shown, more = list(words[:MAX_LISTED]), len(words) - MAX_LISTED
    if more > 0:
        shown.append(f"{more} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
