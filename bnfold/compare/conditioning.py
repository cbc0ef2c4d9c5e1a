"""Folds that are exact and ill conditioned: where float32 loses what the original keeps.

A BatchNorm in front of a linear layer subtracts the mean first, `W*((x - mean)/std) + b`, and loses nothing. Folded
forward it is `W'*x + b'` with `W' = W/std` and `b' = b - W'*mean`: two numbers of the size `|mean|/std` that cancel to
one of size 1. Each is rounded to 24 bits, so about `2^-24 * |mean|/std` of the result is lost. (Folded backward, into
the layer that makes x, nothing is lost: x itself was rounded at the size of its mean.) One that stays loses as much as
`scale*x + shift`, as a Scale or with what was merged into it. Noise does not show it, since it does not lie where the
statistics are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnfold.algebra.records import Folded, FoldReport, Kept, Merged
from bnfold.errors import BnfoldError, quoted
from bnfold.net import Layer, Net

ONNX_PARAMETERS = 4  # scale, bias, mean, variance
ROUNDING = 2.0**-24  # half a unit in the last place of float32, relative


def ill_conditioned(original: Net, fold: FoldReport, tolerance: float) -> Iterator[str]:
    """A warning for each normalisation that lost its subtraction of the mean, at an expected loss beyond the tolerance.

    Args:
        original: the net before folding.
        fold: what became of its layers.
        tolerance: the loss that is worth a word, of the result's size.
    """
    merged = [record for record in fold.records if isinstance(record, Merged)]
    grown = {into for record in merged for into in record.into}
    became: dict[str, str] = {}
    for record in fold.records:
        if isinstance(record, Folded) and record.forward:
            became[record.layer] = f"folded into {quoted(record.into)} behind it"
        elif isinstance(record, Kept) and (record.now != record.type or record.layer in grown):
            became[record.layer] = "rewritten as scale*x + shift"
    # What was merged into one of these went the same way; the last merger is the nearest to it.
    for record in reversed(merged):
        ways = [became[into] for into in record.into if into in became]
        became.update({layer: ways[0] for layer in record.layers if ways})
    for layer in original.layers:
        if layer.name in became and (far := _deviations(layer, original)) * ROUNDING > tolerance:
            yield (
                f"{layer} was {became[layer.name]}, and its mean lies {far:.1e} standard deviations from 0: "
                f"in float32 about {far * ROUNDING:.0e} of the result is lost where the data has that mean, by "
                f"cancellation; compare with --data, or keep it with --exclude {layer.name}"
            )


def _deviations(layer: Layer, net: Net) -> float:
    """The largest `|mean|/sqrt(variance + eps)` over the channels of a normalisation; 0 for other layers."""
    from bnfold.caffe.batchnorm import TYPES, read_batchnorm  # few folds go forward

    if layer.type == "BatchNormalization" and len(layer.blobs) == ONNX_PARAMETERS:
        mean, variance = (np.asarray(layer.blobs[index], np.float64) for index in (2, 3))
        eps = float(layer.param.attribute("epsilon", 1e-5))
    elif layer.type in TYPES:
        try:
            statistics = read_batchnorm(layer, net.batchnorm_layout, net.zero_factor)
        except BnfoldError:  # it was not folded by its statistics then
            return 0.0
        mean, variance, eps = statistics.mean, statistics.variance, statistics.eps
    else:
        return 0.0
    with np.errstate(all="ignore"):
        far = np.abs(mean) / np.sqrt(variance + eps)
    return float(np.max(far, initial=0.0, where=np.isfinite(far)))
