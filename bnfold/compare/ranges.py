"""What folding does to int8: the spread of weight ranges over channels, and the growth of activations.

Per-tensor int8 has one step for all channels of a layer, `max |w| / 127`. A channel whose weights reach only to
1/16 of that has 4 bits less. Folding multiplies each channel by its own `gamma/sqrt(variance + eps)`, which can
spread the ranges; the ratio of the largest to the median range says what the typical channel loses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from bnfold.compare.models import Model
from bnfold.compare.records import LayerRange
from bnfold.net import Array

WORSE = 2.0  # the median channel loses a bit


def ratio(ranges: Array) -> float:
    """Largest / median per-channel range, over the channels that are not all 0; 1 when there are none."""
    alive = ranges[ranges > 0]
    return float(alive.max() / np.median(alive)) if alive.size else 1.0


def weight_ratios(model: Model) -> dict[str, float]:
    """Weighted layer -> ratio of its weight ranges."""
    from bnfold.onnx.graph import channel_ranges

    found = {layer: ratio(ranges) for layer, ranges in channel_ranges(model.proto, model.weights, model.folder)}
    model.release_pages()
    return found


def own_tops(model: Model, layers: Iterable[str]) -> dict[str, str]:
    """Layer -> its first top."""
    wanted = set(layers)
    tops: dict[str, str] = {}
    for blob, writer in model.writers.items():
        if writer.layer in wanted:
            tops.setdefault(writer.layer, blob)
    return tops


def layer_ranges(
    before: Mapping[str, float],
    after: Mapping[str, float],
    activations_before: Mapping[str, float],
    activations_after: Mapping[str, float],
) -> list[LayerRange]:
    """One record for each weighted layer of the candidate; layers are partners by name.

    Args:
        before, after: layer -> ratio of weight ranges, of the reference and of the candidate.
        activations_before, activations_after: layer -> range of its own top.
    """
    return [
        LayerRange(
            layer,
            before.get(layer),
            value,
            activations_before.get(layer),
            activations_after.get(layer),
            value >= WORSE * before.get(layer, value),
        )
        for layer, value in after.items()
    ]
