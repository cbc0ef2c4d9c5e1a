"""Indices that differ because two scores are equal: ArgMax on a near tie says nothing about the networks.

An index is no measure: one rounding can turn class 3 into class 300. So where two ArgMax layers differ, the scores
that the reference's one reads decide. If they are equal within what the tolerance allows each of the two to move,
`r[i] - r[j] <= 2 * tolerance * range`, the answer is a tie, and is not counted as a difference.
"""

from __future__ import annotations

import numpy as np

from bnfold.compare.kernels import span
from bnfold.compare.models import Model
from bnfold.net import Array


def scores_behind(model: Model, blob: str) -> str | None:
    """The blob whose largest value an ArgMax output points at; None for other blobs."""
    writer = model.writers.get(blob)
    if writer is None or writer.type != "ArgMax":
        return None
    bottom = model.reads[blob][0]
    return bottom if bottom in model.writers else None


def settle_ties(reference: Array, candidate: Array, scores: Array, tolerance: float) -> tuple[Array, int]:
    """The candidate's indices with the reference's where both point at equal scores, and how many those are.

    Args:
        reference, candidate: (N, 1, ...) indices of the largest value, one per sample or one per position.
        scores: (N, classes, ...) of the reference. Other shapes (several best, values beside indices) are left alone.
    """
    differing = reference != candidate
    if not differing.any() or reference.shape[:2] != (len(scores), 1):
        return candidate, 0
    rows = scores
    if reference.shape[2:] != scores.shape[2:]:  # ArgMax without an axis, over everything behind N
        rows = scores.reshape(len(scores), -1, *[1] * (reference.ndim - 2))
        if reference.shape[2:] != rows.shape[2:]:
            return candidate, 0
    indices = [np.clip(side, 0, rows.shape[1] - 1).astype(np.int64) for side in (reference, candidate)]
    ours, theirs = (np.take_along_axis(rows, index, axis=1).astype(np.float64) for index in indices)
    tied = differing & (ours - theirs <= 2 * tolerance * span(float(scores.min()), float(scores.max())))
    return np.where(tied, reference, candidate), int(tied.sum())
