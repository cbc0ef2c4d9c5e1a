"""Which layers are in the net: Caffe's include and exclude rules, for TEST unless another phase is asked for.

A layer is in if any `include` rule matches or, without `include`, if no `exclude` rule does. A rule matches if
everything that it names does: the phase, the level's limits, all of its stages, none of its `not_stage`s.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from bnfold.caffe.caffe_pb2 import TEST, LayerParameter, NetStateRule, Phase
from bnfold.errors import ModelError


def runs(layer: LayerParameter, level: int = 0, stages: Set[str] = frozenset(), phase: Phase = TEST) -> bool:
    """Whether a layer is in the net of a phase. Raises ModelError for rules of both kinds in a layer, as Caffe does."""
    if layer.include and layer.exclude:
        raise ModelError(f"layer '{layer.name}' ({layer.type}): has include and exclude rules; Caffe allows one kind")
    if layer.include:
        return _any_matches(layer.include, level, stages, phase)
    return not _any_matches(layer.exclude, level, stages, phase)


def _any_matches(rules: Sequence[NetStateRule], level: int, stages: Set[str], phase: Phase) -> bool:
    return any(_matches(rule, level, stages, phase) for rule in rules)


def _matches(rule: NetStateRule, level: int, stages: Set[str], phase: Phase) -> bool:
    return (
        not (rule.HasField("phase") and rule.phase != phase)
        and not (rule.HasField("min_level") and level < rule.min_level)
        and not (rule.HasField("max_level") and level > rule.max_level)
        and all(stage in stages for stage in rule.stage)
        and not any(stage in stages for stage in rule.not_stage)
    )
