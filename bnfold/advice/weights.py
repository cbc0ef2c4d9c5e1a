"""Rules about the names by which Caffe finds weights, and about what a BatchNorm has learned, with its caffemodel.

Each rule gives remarks on a draft, and its docstring says what it looks for; `bnfold.advice.rules` has the table.
Statistics that make no sense at all are not advice but an error, and reading the net for folding raises it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnfold.advice.draft import Draft, Written
from bnfold.advice.records import Remark
from bnfold.caffe import layer_types
from bnfold.caffe.batchnorm import Statistics

# NVCaffe stores a third blob too, and never divides by it.
DIVIDED = frozenset({"bvlc", "intel"})


def untrained_statistics(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm whose means all are 0 and whose variances all are 0, or all 1, in the caffemodel."""
    for written, _, statistics in draft.measured:
        if statistics is None or statistics.layout == "segnet" or _is_zero_factor(statistics):
            continue
        first = statistics.variance[:1]
        if not statistics.mean.any() and first in (0, 1) and (statistics.variance == first).all():
            yield Remark(written, f"every mean is 0 and every variance is {first[0]:g}")


def zero_scale_factor(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm whose third blob, the scale factor, is 0 in the caffemodel."""
    for written, layer, statistics in draft.measured:
        if statistics is None:
            instead = (
                "use a caffemodel that was trained with this layer; if an old NVCaffe wrote this one, whose statistics "
                "are meant as they stand, choose --zero-scale-factor one"
            )
            yield Remark(written, "its scale factor is 0 beside statistics that are not", instead)
        elif _is_zero_factor(statistics):
            with np.errstate(divide="ignore"):  # 1/sqrt(0*variance + eps), batch_norm_layer.cpp
                factor = 1 / np.sqrt(layer.param.batch_norm_param.eps)
            yield Remark(written, f"its scale factor is 0, so it multiplies by {factor:.0f} and subtracts nothing")


def _is_zero_factor(statistics: Statistics) -> bool:
    return statistics.factor == 0 and statistics.layout in DIVIDED


def layers_of_one_name(draft: Draft) -> Iterator[Remark]:
    """A layer that is called as an earlier one of the same net is.

    It is an error where one of the two has weights.
    """
    for view in draft.views:
        first: dict[str, Written] = {}
        for written in view.layers:
            other = first.setdefault(written.name, written)
            if other is not written and written.name:
                learns = {written.type, other.type} & layer_types.LEARNED
                yield Remark(written, f"called as {other.place} is", severity="error" if learns else None)
