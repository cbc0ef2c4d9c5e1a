"""Weights times factors, computed when they are read.

A folded weight is `factor * weight`, in float64 and rounded once to the stored type. Keeping the law instead of the
result means that a folded net holds no second copy of its weights, and that a layer which absorbs several affines
still rounds only once. A bias is small, so it is kept as it is in float64, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from types import EllipsisType

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Affine, Values, aligned, everywhere
from bnfold.net import Array, DType, LazyArray, Shape, values_of

BFLOAT16_LARGEST = (2 - 2**-7) * 2.0**127
"""numpy's `finfo` does not know the type."""
CHUNK_VALUES = 1 << 16
"""How many values one chunk holds at most, unless a single row is longer: 512 KiB of float64, which stay in cache."""
BUFFERED_VALUES = 1 << 10
"""numpy writes a factor out for as many rows as its own buffer holds. Of rows of 1,024 values and more a buffer of this
size holds one, so that nothing is written out: less than half the time (docs/architecture.md), and no more below."""
LIGHT = 2.0**-40
"""The share of the largest possible product below which a channel counts as dead. Where products are checked as they
are computed, it is also the least that the largest value of a weight is assumed to be."""
FEWER = 16
"""How many times smaller than its factor a product may be where both lie below the normal numbers: dead channels."""
SEARCHED_AT_ONCE = 1 << 16
"""How many values are searched for extremes at once: 256 KiB of float32, which stay in cache for the second search."""

_checked_later: ContextVar[bool] = ContextVar("_checked_later", default=False)


class NotFiniteError(ArithmeticError):
    """While products were computed, one was not finite or all were too small: fold again, checking weights first."""


@contextmanager
def checked_while_computed() -> Iterator[None]:
    """Fold in the body without searching every weight first: a product that is not finite raises when it is read.

    For callers that write all weights at once and can begin again.
    """
    token = _checked_later.set(True)
    try:
        yield
    finally:
        _checked_later.reset(token)


@dataclass(frozen=True, eq=False, slots=True)
class Scaled:
    """`weight * factor[0] * factor[1] * ...`, each factor broadcast over `weight` seen as `view`.

    Attributes:
        weight: the stored values, any shape.
        view: the shape in which the factors broadcast, of the same size as `weight`; [group, Cin/group, Cout/group,
            kernel] for a grouped deconvolution.
        factors: float64 arrays of rank `len(view)`, no two of one shape.
        largest: the largest `|weight|`, NaN or infinite if some value is; None where products are looked at as they
            are computed.
        stored: the type that is stored, where the weight is known more exactly than that.
    """

    weight: Array
    view: Shape
    factors: tuple[Values, ...]
    largest: float | None
    stored: DType | None = None

    @property
    def shape(self) -> Shape:
        """The true shape of the blob."""
        return self.weight.shape

    @property
    def dtype(self) -> DType:
        """The type that is stored."""
        return self.stored or self.weight.dtype

    def array(self) -> Array:
        """The product in its true shape, computed in float64 and rounded once to `dtype`."""
        result = np.empty(self.weight.size, self.dtype)
        start = 0
        for chunk in self.chunks():
            result[start : start + chunk.size] = chunk
            start += chunk.size
        return result.reshape(self.shape)

    def chunks(self) -> Iterator[Array]:
        """The product as flat pieces in C order.

        A piece is a slab of one axis, so that the factors broadcast over it.

        Raises:
            NotFiniteError: see `largest`.
        """
        weight = self.weight.reshape(self.view)
        exact = np.empty(0)  # used again for every piece
        light = self.largest is None
        for slab in _slabs(self.view):
            part = weight[slab]
            if part.size > exact.size:
                exact = np.empty(part.size)
            product = exact[: part.size].reshape(part.shape)
            with np.errstate(all="ignore") if self.largest is None else nullcontext():
                product[...] = part
                with _buffer_of(BUFFERED_VALUES):
                    for factor in self.factors:
                        product *= _slab_of(factor, slab)
                chunk = rounded(product.reshape(-1), self.dtype)
                # NaN where any value is that, at which a comparison of bfloat16 would warn.
                peak = max(float(chunk.max()), -float(chunk.min())) if self.largest is None else 0.0
            if not peak < math.inf:
                raise NotFiniteError
            light = light and peak < _least_of(self.dtype)
            yield chunk
        if light and not keeps_digits(replace(self, largest=_largest(self.weight))):
            raise NotFiniteError

    def follows_the_law_of(self, other: Scaled) -> bool:
        """Whether both multiply by the same factors in the same view."""
        alike = self.view == other.view and len(self.factors) == len(other.factors)
        return alike and all(map(np.array_equal, self.factors, other.factors))


@dataclass(frozen=True, eq=False, slots=True)
class Rounded:
    """Values that are known in float64 and stored as another type.

    Attributes:
        exact: the values.
        dtype: the type that is stored.
    """

    exact: Values
    dtype: DType

    @property
    def shape(self) -> Shape:
        """The true shape of the blob."""
        return self.exact.shape

    def array(self) -> Array:
        """The values in their true shape, rounded once to `dtype`."""
        return rounded(self.exact, self.dtype)

    def chunks(self) -> Iterator[Array]:
        """All of them as one flat piece."""
        yield self.array().reshape(-1)


@contextmanager
def _buffer_of(values: int) -> Iterator[None]:
    before = np.setbufsize(values)
    try:
        yield
    finally:
        np.setbufsize(before)


def largest_of(dtype: npt.DTypeLike) -> float:
    """The largest finite value of a floating type."""
    return _largest_of(np.dtype(dtype))


@cache
def _largest_of(dtype: DType) -> float:
    return BFLOAT16_LARGEST if dtype.name == "bfloat16" else float(np.finfo(dtype).max)


def loses_digits(largest: float, dtype: npt.DTypeLike) -> bool:
    """Whether values none of which is larger have fewer digits than their type: they lie below its normal numbers."""
    return 0 < largest < _least_of(np.dtype(dtype))


def why_unstorable(affine: Affine, parts: Iterable[Affine], dtype: npt.DTypeLike) -> str:
    """Why values of a type cannot hold an affine that is composed of parts; empty if they can."""
    limit = largest_of(dtype)
    if not all(everywhere(np.abs(values) <= limit) for values in (affine.scale, affine.shift)):
        return "the composition would not be finite as a stored value"
    product, *factors = aligned(affine.scale, *(part.scale for part in parts))
    if loses_digits(float(np.abs(product).max(initial=0.0)), dtype) or _loses_digits_of(product, factors, dtype):
        return f"the composition would be too small for all digits of {np.dtype(dtype)}"
    return ""


def _loses_digits_of(product: Values, parts: Iterable[Values], dtype: npt.DTypeLike) -> bool:
    """Whether a value below the normal numbers of a type has far fewer digits than what it is the product of."""
    least = _least_of(np.dtype(dtype))
    low = (product != 0) & (np.abs(product) < least)
    for part in parts if np.count_nonzero(low) else ():
        low = low & ((np.abs(part) >= least) | (np.abs(product) * FEWER < np.abs(part)))
    return bool(np.count_nonzero(low))


@cache
def _least_of(dtype: DType) -> float:
    return 2.0**-126 if dtype.name == "bfloat16" else float(np.finfo(dtype).tiny)


def rounded(values: Values, dtype: npt.DTypeLike) -> Array:
    """The values, rounded once to a floating type."""
    if np.dtype(dtype).kind == "f":  # bfloat16 is none of numpy's own
        return values.astype(dtype)
    # numpy would round to float32 first and so twice. Rounding to odd in between (Boldo and Melquiond 2008) keeps what
    # decides: it cuts off, and sets the last bit where anything was cut.
    values = np.asarray(values, order="C")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, as in other types
        single = values.astype(np.float32)
    single = np.where(np.abs(single.astype(np.float64)) > np.abs(values), np.nextafter(single, np.float32(0)), single)
    bits = single.view(np.uint32) | (single.astype(np.float64) != values).astype(np.uint32)
    return np.asarray(bits.view(np.float32).astype(dtype))


def exact_values(blob: Array | LazyArray) -> Values:
    """The values of a blob in float64, as exactly as they are known. Raises `NotFiniteError` as `Scaled.chunks`."""
    if isinstance(blob, Rounded):
        return blob.exact
    if isinstance(blob, Scaled):
        looked_at = replace(blob, largest=_largest(blob.weight))
        if blob.largest is None and not (stays_finite(looked_at) and keeps_digits(looked_at)):
            raise NotFiniteError
        return replace(looked_at, stored=np.dtype(np.float64)).array()
    return np.asarray(values_of(blob), np.float64)


def scaled(blob: Array | LazyArray, view: Shape, factor: Values) -> Scaled:
    """`blob * factor`, with `factor` broadcast over `blob` seen as `view`; factors of one form are joined."""
    if not isinstance(blob, Scaled):
        if isinstance(blob, Rounded):
            return Scaled(blob.exact, view, (factor,), _largest(blob.exact), blob.dtype)
        weight = values_of(blob)
        return Scaled(weight, view, (factor,), None if _checked_later.get() else _largest(weight))
    assert blob.view == view, f"a blob is folded as {blob.view} and as {view}"
    factors = {present.shape: present for present in blob.factors}
    present = factors.get(factor.shape)
    factors[factor.shape] = factor if present is None else present * factor
    return Scaled(blob.weight, view, tuple(factors.values()), blob.largest, blob.stored)


def _largest(weight: Array) -> float:
    """The largest absolute value; pieces that stay in cache are searched twice, for the maximum and the minimum."""
    # A stand-in for a weight is one number, seen in the weight's shape.
    flat = weight.reshape(-1) if any(weight.strides) else weight.reshape(-1)[:1]
    extremes = []
    for start in range(0, flat.size, SEARCHED_AT_ONCE):
        piece = flat[start : start + SEARCHED_AT_ONCE]
        # In a caffemodel values lie where they fall. numpy searches those that are not aligned at half its speed.
        piece = piece if piece.flags.aligned else piece.copy()
        extremes += [piece.max(), piece.min()]
    return float(np.abs(extremes).max()) if extremes else 0.0


def stays_finite(blob: Scaled) -> bool:
    """Whether every product is finite in its stored type; all are computed only where their bound does not decide."""
    if blob.largest is None:
        return True
    with np.errstate(all="ignore"):
        bound = blob.largest * math.prod(float(np.abs(factor).max(initial=0.0)) for factor in blob.factors)
        if bound < largest_of(blob.dtype) / 2:
            return True
        return all(bool(np.all(np.isfinite(chunk))) for chunk in blob.chunks())


def keeps_digits(blob: Scaled) -> bool:
    """Whether the largest product, and that of each channel, is 0 or a normal number of the type that is stored.

    A channel is what one value of a factor multiplies. One whose products are less than `LIGHT` of what the largest
    could be counts as dead. Bounds decide where they can.
    """
    sizes = [np.abs(factor) for factor in blob.factors]
    most = math.prod(float(size.max(initial=0.0)) for size in sizes)
    if blob.largest is None and not loses_digits(most * LIGHT, blob.dtype):
        return True
    least = math.prod(float(size.min(initial=np.inf)) for size in sizes)
    largest = _largest(blob.weight) if blob.largest is None else blob.largest
    dead = largest * most * LIGHT
    if loses_digits(largest * most, blob.dtype):
        return False
    if least > 0 and not loses_digits(min(largest * least, dead), blob.dtype):
        return True
    return not any(_loses_digits_by_channel(*peaks, dead, blob.dtype) for peaks in _peaks(blob))


def _loses_digits_by_channel(before: Values, after: Values, dead: float, dtype: DType) -> bool:
    """Whether what is largest in a channel has far fewer digits than before, or nothing has all of them."""
    lost = _loses_digits_of(after * (after >= dead), [before], dtype)
    return lost or loses_digits(float(after.max(initial=0.0)), dtype)


def _peaks(blob: Scaled) -> Iterator[tuple[Values, Values]]:
    """For each factor the largest `|weight|` and the largest `|product|` that each of its values stands for."""
    weight = blob.weight.reshape(blob.view)
    peaks = [(np.zeros(factor.shape), np.zeros(factor.shape)) for factor in blob.factors]
    for slab in _slabs(blob.view):
        part = np.abs(np.asarray(weight[slab], np.float64))
        product = math.prod((np.abs(_slab_of(factor, slab)) for factor in blob.factors), start=part)
        for factor, both in zip(blob.factors, peaks, strict=True):
            others = tuple(axis for axis, size in enumerate(factor.shape) if size == 1)
            for values, peak in zip((part, product), both, strict=True):
                so_far = _slab_of(peak, slab)
                np.maximum(so_far, values.max(axis=others, keepdims=True), out=so_far)
    yield from peaks


def same_values(one: Array | LazyArray, other: Array | LazyArray) -> bool:
    """Whether two blobs hold the same values; products are compared by their laws first, which is cheap."""
    if one is other:
        return True
    if tuple(one.shape) != tuple(other.shape) or one.dtype != other.dtype:
        return False
    if isinstance(one, Scaled) and isinstance(other, Scaled) and one.follows_the_law_of(other):
        return np.array_equal(one.weight, other.weight, equal_nan=True)
    return np.array_equal(values_of(one), values_of(other), equal_nan=True)


def same_in_order(one: Array | LazyArray, other: Array | LazyArray) -> bool:
    """Whether two blobs hold the same values one behind the other, whatever their types and shapes."""
    if one.dtype == other.dtype and tuple(one.shape) == tuple(other.shape):
        return same_values(one, other)
    return math.prod(one.shape) == math.prod(other.shape) and np.array_equal(
        values_of(one).reshape(-1), values_of(other).reshape(-1), equal_nan=True
    )


def _slab_of(factor: Values, slab: tuple[slice, ...]) -> Values:
    """The part of a factor that belongs to a slab; an axis of length 1 broadcasts and is taken whole."""
    parts = (part if size > 1 else slice(None) for part, size in zip(slab, factor.shape, strict=False))
    index: tuple[slice | EllipsisType, ...] = (*parts, ...)  # a view, even of a single value
    return factor[index]


def _slabs(view: Shape) -> Iterator[tuple[slice, ...]]:
    """Index tuples that cut `view` into consecutive pieces of at most `CHUNK_VALUES`, in C order.

    Leading axes are walked one index at a time until the rest is small enough to take several at once.
    """
    axis, rest = 0, int(np.prod(view))
    if rest == 0:
        return
    while axis < len(view) - 1 and rest // view[axis] > CHUNK_VALUES:
        rest //= view[axis]
        axis += 1
    inner = rest // view[axis] if view else 1
    step = max(1, CHUNK_VALUES // max(1, inner))
    for outer in np.ndindex(*view[:axis]):
        head = tuple(slice(index, index + 1) for index in outer)
        for start in range(0, view[axis] if view else 1, step):
            yield (*head, slice(start, start + step)) if view else ()
