"""What constants and the float64 run compute alike, in numpy; `error_function` has another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.net import Array

REDUCTIONS: Mapping[str, np.ufunc] = {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}
"""What an update may be joined by with what is there already."""


def scattered(x: Array, places: tuple[Array, ...], update: Array, reduction: str = "none") -> Array:
    """`x` with updates at some places, or joined with what is there: ScatterND, ScatterElements."""
    y = x.copy()
    if reduction == "none":
        y[places] = update
    else:
        REDUCTIONS[reduction].at(y, places, update)
    return y


def places_along(index: Array, axis: int) -> tuple[Array, ...]:
    """The places that an index says along one axis, each with its own place along the others: ScatterElements."""
    places: list[Array] = list(np.ogrid[tuple(map(slice, index.shape))])
    places[axis] = index
    return tuple(places)


def over_norm(x: Array, axis: int, p: int) -> Array:
    """`x` over `sum(|x|^p)^(1/p)` along an axis, and 0 where that is 0: LpNormalization."""
    norm = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
    return np.asarray(np.divide(x, norm, out=np.zeros_like(x), where=norm != 0))


def on_at(indices: Array, depth: Array, values: Array, axis: int) -> Array:
    """On at the index along a new axis, counted from its end if negative, and off elsewhere: OneHot."""
    axis %= indices.ndim + 1
    count, (off, on) = int(depth.reshape(())), values
    counted = np.arange(count).reshape(-1, *(1,) * (indices.ndim - axis))
    chosen = np.expand_dims(np.where(indices < 0, indices + count, indices), axis)
    return np.asarray(np.where(chosen == counted, on, off))
