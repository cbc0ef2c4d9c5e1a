"""The layers that join several bottoms: one behind the other, or element by element."""

from __future__ import annotations

from bnfold.algebra.operators import Axes, Extreme, Join, Operator, Product, Spread, Steps, Sum
from bnfold.algebra.records import require
from bnfold.caffe.layers import UNKNOWN, Bias, Concat, Eltwise, Scale, canonical_axis
from bnfold.caffe.operators.place import Place


def concat(place: Place) -> Join:
    """One behind the other; along the batch, whose size may change, all alike."""
    axis = canonical_axis(Concat.of(place.layer).axis, len(place.tops[0]))
    return Join(axis, tuple(bottom[axis] if axis else UNKNOWN for bottom in place.bottoms))


def eltwise(place: Place) -> Operator:
    """SUM with its coefficients, PROD, MAX."""
    view = Eltwise.of(place.layer, len(place.layer.bottoms))
    if view.operation == "SUM":
        return Sum(view.coeff)
    return Product() if view.operation == "PROD" else Extreme()


def added(place: Place) -> Sum:
    """`x + y`, y laid over x from an axis on."""
    return Sum((1.0, 1.0), ((), _laid(place, Bias.of(place.layer).axis)))


def multiplied(place: Place) -> Product:
    """`x*y`, y laid over x from an axis on. A learned bias behind it cannot be scaled here."""
    require(not len(place.layer.blobs), "it adds a learned bias")
    return Product(((), _laid(place, Scale.of(place.layer).axis)))


def _laid(place: Place, axis: int) -> Steps:
    """How a second bottom lies over the first from `axis` on."""
    first, second = place.bottoms
    start = canonical_axis(axis, len(first))
    covered = range(start, start + len(second))
    spread = [Spread(axis) for axis in range(len(first)) if axis not in covered]
    return (Axes((*[None] * start, *range(len(second)), *[None] * (len(first) - covered.stop))), *spread)
