"""Folds that are exact and ill conditioned: where float32 loses what the original keeps.

A BatchNorm in front of a linear layer subtracts the mean first, `W*((x - mean)/std) + b`, and loses nothing. Folded
forward it is `W'*x + b'` with `W' = W/std` and `b' = b - W'*mean`: two numbers of the size `|mean|/std` that cancel to
one of size 1. Each is rounded to 24 bits, so about `2^-24 * |mean|/std` of the result is lost. (Folded backward, into
the layer that makes x, nothing is lost: x itself was rounded at the size of its mean.) One that stays loses as much as
`scale*x + shift`, as a Scale or with what was merged into it. Noise does not show it, since it does not lie where the
statistics are.

Affines that went the same way are one, so a mean counts as what it is in front of all of them, and a channel's loss as
what all of them make of it, beside one deviation of the channel that they make largest: a gamma of 1e-8 hides its
channel's. Where none of them is a normalisation, nothing tells where the data lies. Then `y = scale*x + shift` is taken
to be of the size of 1; where it multiplied first, and so rounded at the size of the product already, of the median
`|scale|` if that is larger. (One that adds and then multiplies may be a normalisation in single nodes.) A shift that
cancels takes about `2^-24 * |shift|` of it, but for one that stays and was added to a product already. (Types of 2
bytes have no values of 1 beside such a shift, but the mean of an image at 128 in float16: nothing is taken of them.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bnfold.algebra.affine import Affine, Values
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.records import Blocked, Folded, FoldReport, Kept, Merged
from bnfold.errors import BnfoldError, quoted
from bnfold.net import Layer, Net
from bnfold.options import ROUNDING, TOLERANCES

ONNX_PARAMETERS = 4  # scale, bias, mean, variance


class _Cancellation(NamedTuple):
    """What cancels in a layer.

    Attributes:
        layer: the layer.
        size: how many times larger than the result the numbers are that cancel.
        sentence: which numbers these are, and where; `{}` stands for the type and the share that is lost.
    """

    layer: Layer
    size: float
    sentence: str


class _Statistics(NamedTuple):
    """Mean and variance of each channel, and what is added to the variance."""

    mean: Values
    variance: Values
    eps: float


def ill_conditioned(original: Net, fold: FoldReport, tolerance: float | None = None) -> Iterator[str]:
    """A warning for each affine that no longer subtracts before it multiplies, at a loss beyond the tolerance.

    Args:
        original: the net before folding.
        fold: what became of its layers.
        tolerance: the loss that is worth a word, of the result's size; None for that of the layer's type.
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
    end = {layer: layer for layer in became}
    for record in reversed(merged):
        ways = [end[into] for into in record.into if into in end]
        end.update({layer: ways[0] for layer in record.layers if ways})
    runs: dict[str, list[Layer]] = {}
    for layer in original.layers:
        if layer.name in end:
            runs.setdefault(end[layer.name], []).append(layer)
    context = FoldContext(original, fold.shapes, assume_global_stats=True)
    forward = {record.layer for record in fold.folded}
    for last, run in runs.items():
        for layer, size, sentence in _cancellations(run, last in forward, context):
            stored = _type(layer, original)
            loss = size * ROUNDING[stored]
            if loss > (TOLERANCES[stored] if tolerance is None else tolerance):
                yield (
                    f"{layer} was {became[last]}, and {sentence.format(f'in {stored} about {loss:.0e}')}; compare "
                    f"with --data, or keep it with --exclude {layer.name}"
                )


def _cancellations(run: Sequence[Layer], forward: bool, context: FoldContext) -> Iterator[_Cancellation]:
    """What cancels in affines that became one, which stand in this order in the network.

    `forward` says that a linear layer took them; one that stays alone multiplies first already.
    """
    before = Affine()
    statistics: list[tuple[Layer, Affine, _Statistics]] = []
    shifts: list[tuple[float, Layer]] = []
    for layer in run:
        affine = _affine(layer, context)
        if (known := _statistics(layer, context.net)) is not None:
            statistics.append((layer, before, known))
        try:
            before = before.then(affine)
        except Blocked:  # channels were moved in between
            break
        shifts.append((_largest(affine.shift), layer))
    for layer, in_front, (mean, variance, eps) in statistics:
        (scale, shift), (gain, added) = _flat(in_front, mean.size), _flat(before, mean.size)
        with np.errstate(all="ignore"):
            far = np.abs(mean - shift) / np.sqrt(variance + eps)
            gain = gain / scale
            cancels = gain * (mean - shift)
            size = _largest(np.hypot(cancels + added, gain * np.sqrt(variance))) or 1
            cancels = np.where(np.isfinite(cancels), np.abs(cancels), 0)
        where = f"its mean lies {far[np.argmax(cancels)]:.1e} standard deviations from 0"
        lost = "{} of the result is lost by cancellation where the data has that mean"
        yield _Cancellation(layer, float(np.max(cancels)) / size, f"{where}: {lost}")
    fine = ROUNDING[_type(run[0], context.net)] <= ROUNDING["float32"]
    # What adds before it multiplies rounds what is left, and not the product.
    normalises = bool(np.all(_affine(run[0], context).scale == 1) and np.any(before.scale != 1))
    if not statistics and fine and (forward or normalises) and len(shifts) == len(run):
        size = _largest(before.shift / (1 if normalises else np.median(np.maximum(1, np.abs(before.scale)))))
        _, layer = max(shifts, key=lambda shift: shift[0])
        adds = f"it adds {size:.1e} where values of size 1 may be left"
        yield _Cancellation(layer, size, f"{adds}: {{}} of them is lost where the data cancels what it adds")


def _type(layer: Layer, net: Net) -> str:
    """The type in which a layer is computed; Caffe's are written and run in float32, as whatever they are stored."""
    names = [str(blob.dtype) for blob in layer.blobs] if net.language == "ONNX" else []
    return next((name for name in names if name in ROUNDING), "float32")


def _flat(affine: Affine, channels: int) -> tuple[Values, Values]:
    """Scale and shift of each channel; those of the identity where they differ within one."""
    scale, shift = affine.scale.reshape(-1), affine.shift.reshape(-1)
    return (scale, shift) if {scale.size, shift.size} <= {1, channels} else (np.ones(1), np.zeros(1))


def _largest(values: Values) -> float:
    """The largest finite magnitude; 0 where there is none."""
    magnitudes = np.abs(values)
    return float(np.max(magnitudes, initial=0.0, where=np.isfinite(magnitudes)))


def _affine(layer: Layer, context: FoldContext) -> Affine:
    """A layer as an affine; the identity where it is none as it stands."""
    front = context.net.front
    assert front is not None, "a net that was folded has a language"
    try:
        operator = front.operator(layer, context)
    except (Blocked, BnfoldError):
        return Affine()
    return operator if isinstance(operator, Affine) else Affine()


def _statistics(layer: Layer, net: Net) -> _Statistics | None:
    """What a normalisation knows of its input; None for other layers."""
    from bnfold.caffe.batchnorm import TYPES, read_batchnorm  # few folds go forward

    if layer.type == "BatchNormalization" and len(layer.blobs) == ONNX_PARAMETERS:
        mean, variance = (np.asarray(layer.blobs[index], np.float64) for index in (2, 3))
        return _Statistics(mean, variance, float(layer.param.attribute("epsilon", 1e-5)))
    if layer.type in TYPES:
        try:
            statistics = read_batchnorm(layer, net.batchnorm_layout, net.zero_factor)
        except BnfoldError:  # it was not folded by its statistics then
            return None
        return _Statistics(statistics.mean, statistics.variance, statistics.eps)
    return None
