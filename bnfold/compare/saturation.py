"""Outputs that say little, since a Softmax or a Clip has driven them to the ends of their range.

The derivative of `y = sigmoid(x)` is `y*(1 - y)`, that of `y = softmax(x)` likewise, and that of `y = tanh(x)` is
`1 - y^2`: within END of an end, an error of `x` comes out a thousandfold smaller. A Clip shows none at its bounds, and
a ReLU none where it is 0. An index (ArgMax), a flag (Threshold, Greater) or a whole number (Round, Cast) shows no small
error at all. Such outputs are compared, and so is what stands in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from bnfold.compare.backends import backend_of
from bnfold.compare.merging import BY_SUM
from bnfold.compare.ties import WHOLE
from bnfold.runtime import AnyArray

if TYPE_CHECKING:
    from bnfold.compare.models import Model

END = 1e-3
MOSTLY = 0.5  # an output is called saturated from this share of its positions on
CLIPPED = 0.75  # likewise, where half of them are at a bound by nature

MOVING = frozenset(
    [
        "Cast",
        "Concat",
        "Crop",
        "DequantizeLinear",
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
"""Layers whose tops hold the values of their bottoms, in other places or types: what is saturated stays so."""


@dataclass(slots=True)
class Positions:
    """A running count of positions: how many there are, and how many of them are saturated."""

    saturated: float = field(default=0.0, metadata=BY_SUM)
    total: float = field(default=0.0, metadata=BY_SUM)

    def add(self, layer_type: str, values: AnyArray) -> None:
        """Count one array behind a layer of `layer_type`, where it lies. What is not finite is no position."""
        xp = backend_of(values).xp
        finite = xp.reshape(values, (-1,))
        if _count(finite, xp.isfinite) < prod(finite.shape):
            finite = finite[xp.isfinite(xp.astype(finite, xp.float64))]
        self.saturated += COUNTS[layer_type](finite)
        # Each position of a Softmax is a distribution, so their sum counts them.
        self.total += float(xp.sum(finite, dtype=xp.float64)) if layer_type == "Softmax" else prod(finite.shape)

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
    """Output -> what makes it saturate, for those that a saturating layer writes, or moves of its values only.

    So do the blobs that layers read which cannot be run: they are compared in the place of outputs. Steps are compared
    as the integers that they are: multiplied by sizes of their own, those of a small channel are nothing beside others.
    """
    from bnfold.onnx.scores import RAW

    found = {}
    for output in (*model.outputs, *model.uncompared.reads):
        layers = [blob for blob in sources(model, output) if type_of(model, blob) in COUNTS]
        if layers:
            fronts = [bottom for blob in layers for bottom in model.reads[blob] if bottom in model.writers]
            fronts += [blob for blob in layers if blob != output and model.writers[blob].type == "QuantizeLinear"]
            fronts += [blob + RAW for blob in layers if blob + RAW in model.writers]
            found[output] = Saturating(type_of(model, layers[0]), tuple(dict.fromkeys(fronts)))
    return found


def type_of(model: Model, blob: str) -> str:
    """The type of the layer that writes a blob, or of what a linear model puts behind its scores; none of a Cast that
    cuts nothing off.
    """
    from bnfold.onnx.scores import RAW, saturates

    layer_type, node = model.writers[blob].type, model.makers.get(blob)
    if layer_type == "Cast" and not _cuts_off(model, blob):
        return ""
    return saturates(node) if node is not None and blob + RAW in model.writers else layer_type


def _cuts_off(model: Model, blob: str) -> bool:
    """Whether a Cast makes whole numbers."""
    node = model.makers.get(blob)
    return node is not None and any(said.name == "to" and said.i in WHOLE for said in node.attribute)


def sources(model: Model, output: str) -> list[str]:
    """The blobs whose values a blob holds: itself, or behind layers that only move values what these moved."""
    waiting, seen, found = [output], {output}, []
    while waiting:
        blob = waiting.pop()
        writer = model.writers.get(blob)
        if writer is None:
            continue
        if writer.type in MOVING:
            fresh = [bottom for bottom in model.reads[blob] if bottom not in seen]
            seen.update(fresh)
            waiting += fresh
        if writer.type not in MOVING or (writer.type == "Cast" and _cuts_off(model, blob)):
            found.append(blob)
    return found


def _near(low: float, high: float) -> Callable[[AnyArray], int]:
    """How many positions are at one of the ends of what a layer gives."""
    return lambda values: _count(values, lambda some: (some <= low + END) | (some >= high - END))


def _always(values: AnyArray) -> int:
    return prod(values.shape)


def _clipped(values: AnyArray) -> int:
    """Clip: its bounds are the smallest and the largest value, where most positions have those; a ReLU6 has half of
    them at 0 where all is well."""
    size = prod(values.shape)
    if size < 2:
        return 0
    xp = backend_of(values).xp
    low, high = float(xp.min(values)), float(xp.max(values))
    at_ends = _count(values, lambda some: (some == low) | (some == high))
    return at_ends if at_ends > max(2, CLIPPED * size) else 0


def _dead(values: AnyArray) -> int:
    """ReLU: half of the positions are 0 in a layer that is well, and all in one that is dead."""
    size = prod(values.shape)
    return size if _count(values, lambda some: some == 0) == size else 0


def _indices(values: AnyArray) -> int:
    """TopK: of its two outputs the one that holds whole numbers."""
    return prod(values.shape) if _count(values, lambda some: some % 1 != 0) == 0 else 0


def _count(values: AnyArray, meet: Callable[[AnyArray], AnyArray]) -> int:
    """How many values meet a condition in float64; on the host block by block, or all would be there three times."""
    backend, size = backend_of(values), prod(values.shape)
    cuts = (slice(start, min(start + backend.block, size)) for start in range(0, size, backend.block))
    pieces = (backend.xp.astype(values[cut], backend.xp.float64) for cut in cuts)
    return sum(int(backend.xp.count_nonzero(meet(piece))) for piece in pieces)


SQUASHING: Mapping[str, Callable[[AnyArray], int]] = {
    **dict.fromkeys(("HardSigmoid", "Sigmoid"), _near(0, 1)),
    **dict.fromkeys(("TanH", "Tanh"), _near(-1, 1)),
    "Softmax": lambda values: _count(values, lambda some: some >= 1 - END),
}
"""Layer type (Caffe's and ONNX's) that a smaller input keeps off its ends -> as COUNTS."""

COUNTS: Mapping[str, Callable[[AnyArray], int]] = {
    **SQUASHING,
    **dict.fromkeys(("ArgMax", "ArgMin", "Hardmax", "Threshold"), _always),
    **dict.fromkeys(("And", "Equal", "Not", "Or", "Xor", "NonMaxSuppression", "NonZero"), _always),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _always),
    **dict.fromkeys(("Cast", "Ceil", "Floor", "Round", "Sign"), _always),
    **dict.fromkeys(("Clip", "HardTanH", "Max", "Min", "QuantizeLinear", "ReLU6"), _clipped),
    **dict.fromkeys(("ReLU", "Relu", "Shrink", "ThresholdedRelu"), _dead),
    "Erf": _near(-1, 1),
    "TopK": _indices,
}
"""Layer type (Caffe's and ONNX's) -> how many of some of its values are at saturated positions."""
