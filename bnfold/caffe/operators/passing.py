"""The layers that an affine passes unchanged, each with what it asks of the affine."""

from __future__ import annotations

from bnfold.algebra.operators import PLANE, Opaque, Operator, Pass
from bnfold.caffe.layers import UNKNOWN, Pooling
from bnfold.caffe.operators.place import Place


def rectifier(_: Place) -> Pass:
    """`max(x, 0) + slope*min(x, 0)` is linear on each side of 0, which a positive factor leaves in place."""
    return Pass(zero="a shift would move ReLU's threshold away from 0", order="a negative scale turns it over")


def pooling(place: Place) -> Operator:
    """MAX needs order kept; a padded AVE counts zeros that it does not sum, so it needs zero kept."""
    shape = place.shape(place.layer.bottoms[0])
    pool = Pooling.of(place.layer, shape or (UNKNOWN,) * 4)
    if not pool.windows_never_empty:
        return Opaque("a pooling window contains no input pixel, and what it gives then is no average")
    if pool.method == "MAX":
        strict = (
            "MAX pooling with a mask needs every scale > 0, and neither a tiny one nor a shift far beyond it"
            if len(place.layer.tops) > 1
            else ""
        )
        return Pass(order="MAX pooling needs every scale >= 0", strict=strict, plane=PLANE)
    if pool.method == "AVE":
        counted = any(pool.pad) and pool.counts_padding
        return Pass(zero="padded AVE pooling needs every shift == 0" if counted else "", plane=PLANE)
    return Opaque(f"{pool.method} pooling is no fixed function")


def interpolation(_: Place) -> Pass:
    """Each output is a weighted mean of inputs, weights summing to 1; its pads only crop."""
    return Pass(plane=PLANE)


def upsample(place: Place) -> Pass:
    """Nearest repeats each pixel; by a pooling mask it writes zeros wherever the mask does not point."""
    masked = len(place.layer.bottoms) > 1
    return Pass(zero="upsampling by a mask writes zeros, so every shift must be 0" if masked else "", plane=PLANE)
