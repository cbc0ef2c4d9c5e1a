"""ONNX's operators that read between pixels, in numpy for the float64 run: onnx's own take one value at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array

CUBIC = -0.75
"""The factor of a cubic convolution, as in onnxruntime."""
TAKEN = 1 << 20
"""Values that a DeformConv takes at once."""


class GridSample(OpRun):
    """`y[n,c,p]` is between the pixels of `x[n,c]` around `grid[n,p]`, whose axes are told from the last to the first.

    A cubic mode reads what the border has beside it, and other modes move the place itself into the image.
    """

    def _run(self, x: Array, grid: Array, *, mode: str, padding_mode: str, align_corners: int) -> tuple[Array]:
        kind, sizes = mode.removeprefix("bi"), np.array(x.shape[2:])
        y = np.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
        for image, at, found in zip(x, np.moveaxis(grid[..., ::-1], -1, 1), y, strict=True):
            count = sizes.reshape(-1, *(1,) * (at.ndim - 1))
            places = (at + 1) / 2 * (count - 1) if align_corners else ((at + 1) * count - 1) / 2
            if kind == "nearest":
                places = np.rint(places)
            inset = 0.0 if align_corners else -0.5
            axes = [_Axis(size, inset, size - 1 - inset, padding_mode) for size in sizes.tolist()]
            if padding_mode == "reflection" or (padding_mode == "border" and kind != "cubic"):
                places = np.stack([axis.moved(along) for axis, along in zip(axes, places, strict=True)])
            found[:] = _sampled(image, places, axes, kind)
        return (y,)


class DeformConv(OpRun):
    """A convolution that reads its planes where an offset says, linearly and with 0 around them."""

    def _run(
        self, x: Array, weight: Array, offset: Array, bias: Array | None = None, mask: Array | None = None, **given: Any
    ) -> tuple[Array]:
        count, kernel, sizes = given["offset_group"] or 1, weight.shape[2:], offset.shape[2:]
        group, (strides, dilations, pads) = given["group"] or 1, sliding(given, len(kernel))
        offset = np.moveaxis(offset.reshape(len(x), count, *kernel, len(kernel), *sizes), 2 + len(kernel), 2)
        factors = None if mask is None else mask.reshape(len(x), count, 1, *kernel, *sizes)
        axes = [_Axis(size, 0.0, size - 1.0, "zeros") for size in x.shape[2:]]
        # (axes, kernel, sizes of y): where each would be read without an offset.
        around = np.indices(kernel).reshape(-1, *kernel, *(1,) * len(sizes)) * _along(dilations, 2 * len(sizes))
        start = np.indices(sizes).reshape(-1, *(1,) * len(kernel), *sizes) * _along(strides, 2 * len(sizes))
        around = around + start - _along(pads[0], 2 * len(sizes))
        y = np.empty((len(x), len(weight), *sizes), x.dtype)
        weights = weight.reshape(group, len(weight) // group, -1)
        rows = max(1, TAKEN * sizes[0] // max(1, x.shape[1] * around[0].size))
        for image, top in product(range(len(x)), range(0, sizes[0], rows)):
            some = (..., slice(top, top + rows), *(slice(None),) * (len(sizes) - 1))
            taken = [
                _sampled(plane, (around + moved)[some], axes, "linear")
                for plane, moved in zip(np.split(x[image], count), offset[image], strict=True)
            ]
            if factors is not None:
                taken = [values * factor[some] for values, factor in zip(taken, factors[image], strict=True)]
            columns = np.concatenate(taken).reshape(group, weights.shape[2], -1)
            y[image][:, top : top + rows] = (weights @ columns).reshape(-1, *taken[0].shape[1 + len(kernel) :])
        return (with_bias(y, bias),)


def sliding(given: Mapping[str, Any], axes: int) -> tuple[Array, Array, Array]:
    """Strides, dilations, and the pads in front and behind, along so many axes, by a node's attributes."""
    strides, dilations = (np.array(given.get(name) or [1] * axes) for name in ("strides", "dilations"))
    return strides, dilations, np.reshape(given.get("pads") or [0] * 2 * axes, (2, axes))


def with_bias(y: Array, bias: Array | None) -> Array:
    """`y`, (N, M, ...), plus a value for each channel, if there are any."""
    return y if bias is None else y + _along(bias, y.ndim - 2)


def _along(values: Array, axes: int) -> Array:
    return values.reshape(-1, *(1,) * axes)


class _Axis(NamedTuple):
    """An axis of a plane, the places where it ends, and what lies behind these."""

    size: int
    low: float
    high: float
    padding: str

    def moved(self, places: Array) -> Array:
        """Those that lie outside moved to the border, or reflected at the ends until they lie inside."""
        if self.padding == "border":
            return places.clip(0, self.size - 1)
        span = self.high - self.low
        turned = (places - self.low) % (2 * span) if span else np.zeros_like(places)
        inside = (places >= self.low) & (places <= self.high)
        return np.where(inside, places, self.low + np.minimum(turned, 2 * span - turned))

    def read(self, pixels: Array) -> tuple[Array, Array | None]:
        """Pixels of the axis for any, and which of them have a value, if not all."""
        inside = None
        if self.padding == "zeros":
            inside = (pixels >= 0) & (pixels < self.size)
        elif self.padding == "reflection":
            pixels = self.moved(pixels)
        return np.fmax(np.fmin(pixels, self.size - 1), 0).astype(np.int64), inside  # a place may be NaN


def _sampled(x: Array, places: Array, axes: Sequence[_Axis], kind: str) -> Array:
    """The values of planes, (C, sizes), at places, (axes, any shape); in that shape for each channel."""
    total = np.zeros((len(x), *places.shape[1:]), x.dtype)
    for taps in product(*(_taps(axis, along, kind) for axis, along in zip(axes, places, strict=True))):
        at: Any = slice(None), *(pixels for pixels, *_ in taps)
        taken = x[at]
        for _, inside, weight in taps:
            if inside is not None:
                taken[:, ~inside] = 0
            taken *= weight
        total += taken
    return total


def _taps(axis: _Axis, places: Array, kind: str) -> list[tuple[Array, Array | None, Array]]:
    """Each pixel that is read, whether it has a value, and what is taken of it."""
    first = np.floor(places)
    return [(*axis.read(first + step), weight) for step, weight in KINDS[kind](places - first)]


def _nearest(part: Array) -> Iterator[tuple[int, Array]]:
    yield 0, np.ones_like(part)


def _linear(part: Array) -> Iterator[tuple[int, Array]]:
    yield 0, 1 - part
    yield 1, part


def _cubic(part: Array) -> Iterator[tuple[int, Array]]:
    for step in (-1, 0, 1, 2):
        d = np.abs(part - step)
        near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
        far = ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC
        yield step, near if step in (0, 1) else far


KINDS: Mapping[str, Callable[[Array], Iterator[tuple[int, Array]]]] = {
    "cubic": _cubic,
    "linear": _linear,
    "nearest": _nearest,
}
"""Mode -> the pixels around a place, and what is taken of each, by how far behind a pixel the place is."""
