"""Outputs that say little, since a Softmax or a Sigmoid has driven them to the ends of their range.

The derivative of `y = sigmoid(x)` is `y*(1 - y)`, that of `y = softmax(x)` likewise, and that of `y = tanh(x)` is
`1 - y^2`: within END of an end, an error of `x` comes out a thousandfold smaller. An index (ArgMax) or a flag
(Threshold) shows no small error at all. Such outputs are compared, and so is what stands in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from bnfold.compare.backends import backend_of
from bnfold.compare.merging import BY_SUM

if TYPE_CHECKING:
    from bnfold.compare.models import Model

END = 1e-3
MOSTLY = 0.5  # an output is called saturated from this share of its positions on

MOVING = frozenset(
    [
        "Concat",
        "Crop",
        "Dropout",
        "Flatten",
        "Identity",
        "Permute",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Layers whose tops hold the values of their bottoms, in other places: what is saturated stays so."""


@dataclass(slots=True)
class Positions:
    """A running count of positions: how many there are, and how many of them are saturated."""

    saturated: float = field(default=0.0, metadata=BY_SUM)
    total: float = field(default=0.0, metadata=BY_SUM)

    def add(self, layer_type: str, values: Any) -> None:
        """Count one array behind a layer of `layer_type`, where it lies. What is not finite is no position."""
        xp = backend_of(values).xp
        wide = xp.astype(values, xp.float64)
        saturated, total = COUNTS[layer_type](wide[xp.isfinite(wide)])
        self.saturated += saturated
        self.total += total

    @property
    def share(self) -> float:
        """The share of saturated positions; 0 where there are none."""
        return self.saturated / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Saturating:
    """What makes an output saturate: the type of the layer, and the blobs that such layers read."""

    layer_type: str
    fronts: tuple[str, ...]


def saturating(model: Model) -> dict[str, Saturating]:
    """Output -> what makes it saturate, for those that a saturating layer writes, or moves of its values only."""
    found = {}
    for output in model.outputs:
        layers = _saturating_layers(model, output)
        if layers:
            fronts = [bottom for blob in layers for bottom in model.reads[blob][:1] if bottom in model.writers]
            found[output] = Saturating(model.writers[layers[0]].type, tuple(dict.fromkeys(fronts)))
    return found


def _saturating_layers(model: Model, output: str) -> list[str]:
    waiting, seen, found = [output], {output}, []
    while waiting:
        blob = waiting.pop()
        writer = model.writers.get(blob)
        if writer is None:
            continue
        if writer.type in COUNTS:
            found.append(blob)
        elif writer.type in MOVING:
            fresh = [bottom for bottom in model.reads[blob] if bottom not in seen]
            seen.update(fresh)
            waiting += fresh
    return found


def _one_of_many(values: Any) -> tuple[float, float]:
    """Softmax: each position is a distribution, so the values' sum counts them; one value near 1 saturates it."""
    return _count(values, values >= 1 - END), float(backend_of(values).xp.sum(values))


def _between_0_and_1(values: Any) -> tuple[float, float]:
    return _count(values, (values <= END) | (values >= 1 - END)), float(prod(values.shape))


def _between_ends(values: Any) -> tuple[float, float]:
    return _count(values, (values <= END - 1) | (values >= 1 - END)), float(prod(values.shape))


def _always(values: Any) -> tuple[float, float]:
    return float(prod(values.shape)), float(prod(values.shape))


def _count(values: Any, mask: Any) -> float:
    return float(backend_of(values).xp.count_nonzero(mask))


COUNTS: Mapping[str, Callable[[Any], tuple[float, float]]] = {
    "ArgMax": _always,
    "HardSigmoid": _between_0_and_1,
    "Sigmoid": _between_0_and_1,
    "Softmax": _one_of_many,
    "TanH": _between_ends,
    "Tanh": _between_ends,
    "Threshold": _always,
}
"""Layer type (Caffe's and ONNX's) -> (saturated positions, positions) of some of its values."""
