"""Weights times factors: what is streamed is what is computed, in pieces of bounded size."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from seeds import seeded

from bnfold.algebra import scaled as module
from bnfold.algebra.scaled import (
    NotFiniteError,
    Scaled,
    checked_while_computed,
    keeps_digits,
    rounded,
    same_values,
    scaled,
    stays_finite,
)


def product(rng: np.random.Generator) -> tuple[Scaled, np.ndarray]:
    """A product of up to three factors that broadcast along any axes, and the same computed at once."""
    view = tuple(rng.integers(1, 7, rng.integers(1, 6)).tolist())
    weight = rng.standard_normal(view).astype([np.float32, np.float64][rng.integers(2)])
    exact = weight.astype(np.float64)
    shape = [(weight.size,), view][rng.integers(2)]
    blob: Any = weight.reshape(shape)
    for _ in range(rng.integers(1, 4)):
        factor = rng.standard_normal([size if rng.integers(2) else 1 for size in view])
        blob = scaled(blob, view, factor)
        exact = exact * factor
    return blob, exact.reshape(shape)


@seeded(200)
def test_the_chunks_are_the_array_in_pieces_of_bounded_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (blob, exact), limit = product(rng), int(rng.integers(1, 41))
    with mock.patch.object(module, "CHUNK_VALUES", limit):
        pieces = list(blob.chunks())
        array = blob.array()
    assert all(piece.ndim == 1 and piece.size <= limit and piece.dtype == blob.dtype for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces).reshape(blob.shape), array)
    assert array.shape == exact.shape
    np.testing.assert_allclose(array, exact, rtol=1e-15 if blob.dtype == np.float64 else 6e-8)


def test_an_empty_weight_has_no_chunks() -> None:
    blob = scaled(np.zeros((0, 3), np.float32), (0, 3), np.ones((1, 3)))
    assert list(blob.chunks()) == []
    assert blob.array().shape == (0, 3)
    assert stays_finite(blob)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1)])
def test_rounding_changes_no_shape(dtype: Any, shape: tuple[int, ...]) -> None:
    values = rounded(np.full(shape, 1.5), dtype)
    assert values.shape == shape
    assert values.dtype == dtype
    assert bool((values == 1.5).all())


def test_a_large_weight_is_never_copied_whole_while_it_is_streamed() -> None:
    weight = np.broadcast_to(np.float32(0.5), (64, 1 << 14))
    blob = scaled(np.ascontiguousarray(weight), weight.shape, np.full((64, 1), 2.0))
    assert max(chunk.size for chunk in blob.chunks()) <= module.CHUNK_VALUES
    assert sum(chunk.size for chunk in blob.chunks()) == weight.size


def test_factors_of_one_form_are_joined_so_that_many_affines_cost_no_more() -> None:
    blob: Any = np.ones((4, 3), np.float32)
    for _ in range(100):
        blob = scaled(blob, (4, 3), np.full((4, 1), 1.01))
        blob = scaled(blob, (4, 3), np.full((1, 3), 0.99))
    assert isinstance(blob, Scaled)
    assert len(blob.factors) == 2


def test_what_is_finite_is_decided_by_the_products_and_not_by_their_bound() -> None:
    weight = np.array([[1e-30, 1e30]], np.float32)
    assert stays_finite(scaled(weight, (1, 2), np.array([[1e30, 1e-30]])))
    assert not stays_finite(scaled(weight, (1, 2), np.array([[1e-30, 1e30]])))
    assert not stays_finite(scaled(weight, (1, 2), np.array([[np.nan, 1.0]])))
    assert not stays_finite(scaled(np.array([[np.nan, 0.0]], np.float32), (1, 2), np.zeros((1, 2))))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 3])
def test_one_value_that_is_not_finite_stops_products_that_are_checked_as_they_are_computed(
    dtype: Any, value: float, at: int
) -> None:
    weight = np.array([-1.5, 0.25, 3.0, -0.5], dtype)
    factor = np.array([[2.0], [-0.75]])
    assert np.isfinite(np.concatenate([*Scaled(weight, (2, 2), (factor,), None).chunks()]).astype(float)).all()
    weight[at] = value
    with pytest.raises(NotFiniteError):
        list(Scaled(weight, (2, 2), (factor,), None).chunks())


@pytest.mark.parametrize("swap", [False, True])
def test_same_values_are_the_same_however_they_are_stored(swap: bool) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    twice = scaled(weight, (2, 3), np.full((2, 1), 2.0))
    again = scaled(weight.copy(), (2, 3), np.full((2, 1), 2.0))
    other_law = scaled(scaled(weight, (2, 3), np.full((2, 1), 4.0)), (2, 3), np.full((1, 3), 0.5))
    one, *equal = (2 * weight, twice, again, other_law)
    for blob in equal:
        assert same_values(blob, one) if swap else same_values(one, blob)
    assert not same_values(twice, weight)
    assert not same_values(twice, twice.array().astype(np.float64))
    assert not same_values(twice, twice.array().reshape(3, 2))


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("dtype", "weight", "factor", "kept"),
    [
        (np.float16, 0.5, 1e-5, False),
        (np.float16, 0.5, 1e-3, True),
        (np.float16, 0.0, 1e-5, True),
        (np.float16, 1e-5, 0.5, False),  # it had few digits before, and has fewer
        (np.float16, 1e-5, 256.0, True),
        (np.float32, 0.5, 1e-39, False),
        (np.float32, 0.5, 1e-30, True),
        (np.float32, 0.5, 0.0, True),
        (np.float64, 0.5, 1e-300, True),
        (ml_dtypes.bfloat16, 0.5, 1e-39, False),
    ],
)
def test_products_that_are_below_the_normal_numbers_altogether_lose_digits(
    later: bool, dtype: Any, weight: float, factor: float, kept: bool
) -> None:
    values = np.array([[weight, weight / 4]]).astype(dtype)
    with checked_while_computed() if later else nullcontext():
        assert keeps_digits(scaled(values, (1, 2), np.array([[factor, factor / 2]]))) == kept


@pytest.mark.parametrize(("last", "kept"), [(1e-10, False), (1e-5, True), (0.0, False)])
def test_the_largest_product_is_looked_for_where_no_bound_tells(last: float, kept: bool) -> None:
    """The largest weight is scaled by the least factor."""
    values = np.array([[1.0, 1e-30]], np.float32)
    assert keeps_digits(scaled(values, (1, 2), np.array([[1e-40, last]]))) == kept


CHANNEL = [
    ((1.0, 0.3), np.float16, [[[1.0], [1e-6]]], False),
    ((1.0, 0.3), np.float16, [[[1.0], [-1e-6]]], False),
    ((1.0, 1e-6), np.float16, [[[1.0], [1.0]]], True),  # it had no more digits before
    ((1.0, 1e-6), np.float16, [[[1.0], [0.25]]], True),
    ((1.0, 0.3), np.float16, [[[1.0], [0.0]]], True),
    ((1.0, 1e-3), np.float16, [[[64.0], [1e-2]]], False),
    ((1.0, 0.3), np.float16, [[[1e3], [1e-4]], [[1e-3, 1e-3]]], False),
    ((1.0, 0.3), np.float32, [[[1.0], [1e-39]]], True),  # as in dead channels
    ((1e-30, 1e-30), np.float32, [[[1.0], [1e-9]]], False),
    ((1.0, 0.3), ml_dtypes.bfloat16, [[[1.0], [1e-39]]], True),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("weights", "dtype", "factors", "kept"), CHANNEL)
def test_a_channel_among_larger_ones_keeps_its_digits_too(
    weights: tuple[float, float], dtype: Any, factors: list[Any], kept: bool, turned: bool
) -> None:
    """Be it one of the outputs or of the inputs."""
    values, (scale, *others) = np.array([[one, -one / 2] for one in weights]).astype(dtype), map(np.array, factors)
    scale, values, others = scale.reshape(2, 1), values.reshape(2, 2), [other.reshape(1, 2) for other in others]
    if turned:
        scale, values, others = scale.T, values.T, [other.T for other in others]
    blob = scaled(values, (2, 2), scale)
    for other in others:
        blob = scaled(blob, (2, 2), other)
    assert keeps_digits(blob) == kept


def test_channels_are_looked_at_in_pieces() -> None:
    values, scale = np.ones((3, 50), np.float16), np.array([[1.0], [0.5], [1e-6]])
    with mock.patch.object(module, "CHUNK_VALUES", 7):
        assert not keeps_digits(scaled(values, (3, 50), scale))
        assert keeps_digits(scaled(values, (3, 50), scale[[0, 1, 1]]))
        assert keeps_digits(scaled(values[0, :1].reshape(()), (), np.array(0.5)))
