"""Rules about one BatchNorm: its parameters, its phases and its statistics.

Each rule gives remarks on a draft, and its docstring says what it looks for; `bnfold.advice.rules` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from bnfold.advice.draft import BNS, STATISTICS, Draft, Written, normalising
from bnfold.advice.records import Remark
from bnfold.errors import few, quoted

DEFAULT_EPS = 1e-5  # caffe.proto
# 1e-3 is TensorFlow's default, and nets that were converted from there have it for a reason.
FAR_FROM_DEFAULT = 100
# Texts that went through float32 say 0.0010000000475 for 0.001.
SAME_EPS = 1.01


def eps_far_from_default(draft: Draft) -> Iterator[Remark]:
    """An `eps` that is more than 100 times the default of 1e-5, or less than a hundredth of it."""
    for written in normalising(draft.layers):
        eps, limit = written.eps, FAR_FROM_DEFAULT * SAME_EPS
        if not DEFAULT_EPS / limit <= eps <= DEFAULT_EPS * limit:
            yield Remark(written, f"eps is {eps:g}, and the default is {DEFAULT_EPS:g}")


def global_stats_false(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm of the TEST net with `use_global_stats: false`, which only NVCaffe's with `scale_bias` ignores.

    In a file whose data layers all are for TRAIN it is a note.
    """
    for written in normalising(draft.test.layers):
        # NVCaffe 0.17, the only dialect with scale_bias, looks at the phase alone.
        ignored = written.layer.param.batch_norm_param.scale_bias
        if written.global_stats is not False or ignored:
            continue
        if draft.only_trains:
            message = (
                "use_global_stats is false, as it is in training anyway, and will be copied into the file for TEST"
            )
            yield Remark(written, message, severity="note")
        else:
            yield Remark(written, "use_global_stats is false, and the layer is in the TEST net")


def global_stats_true_in_training(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm with `use_global_stats: true` in the TRAIN net of a file that is for training."""
    if not draft.trains:
        return
    for written in normalising(draft.train.layers):
        if written.global_stats:
            yield Remark(written, "use_global_stats is true, and the layer is in the TRAIN net")


def lr_mult_needless(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm whose `param {}` all say `lr_mult: 0` and share nothing, as Caffe does by itself."""
    for written in _statistics_only(draft):
        specs = written.specs
        if specs and not any(spec.lr_mult or spec.name for spec in specs):
            count = f"its {len(specs)} `param {{ lr_mult: 0 }}` say" if len(specs) > 1 else "its `param` says"
            yield Remark(written, f"{count} what Caffe does by itself")


def lr_mult_wrong(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm with a `param {}` whose `lr_mult` is not 0; a `param {}` that does not say it has 1."""
    for written in _statistics_only(draft):
        specs = written.specs
        rates = [spec.lr_mult for spec in specs]
        if not any(rates):
            continue
        values = ", ".join(f"{rate:g}" for rate in rates)
        unsaid = "" if all(spec.HasField("lr_mult") for spec in specs) else " (1 is the default)"
        if len(specs) == STATISTICS:
            outcome = "Caffe 1.0 sets them to 0, older ones let the solver change the statistics"
        else:
            outcome = 'Caffe stops: "Cannot configure batch normalization statistics as layer parameters"'
        yield Remark(written, f"lr_mult of its statistics is {values}{unsaid}: {outcome}")


def mixed_eps(draft: Draft) -> Iterator[Remark]:
    """Layers with another `eps` than most of the net; one finding for each such `eps`, on its first layer."""
    groups: list[list[Written]] = []
    for written in normalising(draft.layers):
        group = next((group for group in groups if _same(group[0].eps, written.eps)), None)
        if group is None:
            groups.append(group := [])
        group.append(written)
    usual = max(groups, key=len, default=[])
    for group in groups:
        if group is not usual:
            others = f" and in {len(group) - 1} more" if len(group) > 1 else ""
            yield Remark(group[0], f"eps is {group[0].eps:g} here{others}, and {usual[0].eps:g} in {len(usual)} layers")


def phase_twins(draft: Draft) -> Iterator[Remark]:
    """Two BatchNorms of the same bottom and top, one for TRAIN and one for TEST, that differ in use_global_stats only.

    With different names they are an error: Caffe hands statistics from the TRAIN net to the TEST net by layer name.
    """
    train, test = (set(view.layers) for view in draft.views)
    waiting: dict[tuple[str, ...], Written] = {}
    for written in normalising(draft.layers):
        if (written in train) == (written in test):
            continue
        key = (*written.layer.bottoms, "->", *written.layer.tops)
        twin = waiting.pop(key, None)
        if twin is None or (twin in train) == (written in train):
            waiting[key] = written
            continue
        trained, tested = (twin, written) if twin in train else (written, twin)
        if trained.global_stats or tested.global_stats is False or _bare(twin) != _bare(written):
            continue
        if trained.name == tested.name:
            yield Remark(twin, f"differs from {written.place} of the other phase in use_global_stats only")
        else:
            message = (
                f"differs from {written.place} of the other phase in use_global_stats and in its name, "
                "so the TEST net never sees what the TRAIN net has measured"
            )
            yield Remark(twin, message, severity="error")


def shared_statistics(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm whose mean, variance or factor has a `param { name: ... }` that another layer of its net has too."""
    for view in draft.views:
        owners: dict[str, list[Written]] = {}
        for written in view.layers:
            for name in {spec.name for spec in written.specs if spec.name}:
                owners.setdefault(name, []).append(written)
        for written in normalising(view.layers):
            # A layer that learns gamma and beta too may share those: they have a learning rate.
            names = [spec.name for spec in written.specs if not (written.learns_gamma and spec.lr_mult)]
            others = {other for name in names for other in owners.get(name, []) if other is not written}
            if others:
                shared = quoted(name for name in names if len(owners.get(name, ())) > 1)
                with_whom = [f"'{other.name}'" for other in sorted(others, key=lambda other: other.index)]
                message = f"shares its statistics ({shared}) with {few(with_whom, 3)}"
                if written.type == "BatchNorm" and len(written.specs) == STATISTICS:
                    # UpgradeNetBatchNorm in upgrade_proto.cpp.
                    message += ", but not in Caffe 1.0, which drops three `param {}` of a BatchNorm with their names"
                yield Remark(written, message)


def _statistics_only(draft: Draft) -> Iterator[Written]:
    """The BatchNorms that learn nothing but statistics."""
    return (written for written in normalising(draft.layers) if written.type not in BNS and not written.learns_gamma)


def _same(one: float, other: float) -> bool:
    return max(one, other) <= SAME_EPS * min(one, other)


def _bare(written: Written) -> object:
    """What a layer says, apart from its name, phase, learning rates and use_global_stats."""
    bare = deepcopy(written.layer.param)
    for name in ("name", "include", "exclude", "param"):
        bare.ClearField(name)
    bare.batch_norm_param.ClearField("use_global_stats")
    if not bare.batch_norm_param.ByteSize():
        bare.ClearField("batch_norm_param")
    return bare
