"""The measures, against scipy, scikit-learn and numpy, and the rules for what is not finite."""

import math
from typing import Any

import numpy as np
import pytest
from present import present

from bnfold.compare.kernels import span
from bnfold.compare.merging import merge
from bnfold.compare.metrics import METRICS, BlobError, figures, relative
from bnfold.net import Array, Shape


def pair(seed: int = 0, shape: Shape = (7, 5, 4, 3), noise: float = 1e-3) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    reference = random.normal(size=shape).astype(np.float32)
    return reference, (reference + noise * random.normal(size=shape)).astype(np.float32)


def measure(reference: Array, candidate: Array, batch: int = 3, tolerance: float = 1e-3) -> tuple[BlobError, list[Any]]:
    error = BlobError(tolerance)
    samples = []
    for first in range(0, len(reference), batch):
        samples += error.add(reference[first : first + batch], candidate[first : first + batch], first)
    return error, samples


def test_the_figures_agree_with_scipy_and_scikit_learn() -> None:
    from scipy.spatial.distance import cosine  # here, since they take as long to import as all other tests of this file
    from sklearn.metrics import max_error, mean_absolute_error, mean_squared_error

    reference, candidate = pair()
    error, _ = measure(reference, candidate)
    r, c = reference.ravel().astype(float), candidate.ravel().astype(float)
    assert error.max_abs == pytest.approx(max_error(r, c), rel=1e-12)
    assert error.sum_abs / error.finite == pytest.approx(mean_absolute_error(r, c), rel=1e-12)
    assert error.squared_error / r.size == pytest.approx(mean_squared_error(r, c), rel=1e-12)
    assert figures(error)["cosine"] == pytest.approx(1 - cosine(r, c), rel=1e-12)
    assert figures(error)["l2_rel"] == pytest.approx(np.linalg.norm(c - r) / np.linalg.norm(r), rel=1e-12)
    assert figures(error)["snr_db"] == pytest.approx(10 * np.log10(r.var() / mean_squared_error(r, c)), rel=1e-2)
    assert figures(error)["snr_db"] == pytest.approx(-20 * math.log10(figures(error)["l2_rel"]), rel=1e-12)
    assert error.range == pytest.approx(np.ptp(r))
    assert error.sum_error / error.finite == pytest.approx((c - r).mean(), rel=1e-9)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_the_figures_do_not_depend_on_the_size_of_the_batch(batch: int) -> None:
    whole, samples = measure(*pair(), batch=7)
    parts, same = measure(*pair(), batch=batch)
    assert (parts.max_abs, parts.worst, parts.above, parts.range) == (
        whole.max_abs,
        whole.worst,
        whole.above,
        whole.range,
    )
    assert figures(parts)["cosine"] == pytest.approx(figures(whole)["cosine"], rel=1e-14)
    assert parts.histogram() == whole.histogram()
    assert [sample.max_abs for sample in same] == [sample.max_abs for sample in samples]


def test_the_share_above_the_tolerance_is_counted_against_each_samples_own_range() -> None:
    reference, candidate = pair()
    reference[3] *= 100  # its errors are now 100 times smaller against its range
    candidate[3] = reference[3] + (pair()[1] - pair()[0])[3]
    error, _ = measure(reference, candidate, tolerance=5e-4)
    e = np.abs(candidate.astype(float) - reference)
    limits = 5e-4 * np.array([np.ptp(sample.astype(float)) for sample in reference])
    assert error.above == np.count_nonzero(e > limits[:, None, None, None]) > 0


def test_the_largest_error_is_found_with_sample_channel_and_index() -> None:
    reference, candidate = pair(noise=1e-6)
    candidate[4, 2, 3, 1] += 0.5
    error, samples = measure(reference, candidate)
    assert (present(error.worst).sample, present(error.worst).index) == (4, (2, 3, 1))
    assert error.worst_channel[0] == 2
    assert max(range(7), key=lambda index: samples[index].max_rel) == 4
    expected = np.sqrt(np.square(candidate.astype(float) - reference).sum(axis=(0, 2, 3))[2] / (7 * 12))
    rms = np.sqrt(np.square(reference.astype(float)).mean())
    assert error.worst_channel[1] == pytest.approx(expected / rms, rel=1e-9)


def test_equal_blobs_have_no_error_and_infinite_signal_to_noise() -> None:
    reference, _ = pair()
    error, samples = measure(reference, reference.copy())
    assert (error.max_abs, figures(error)["l2_rel"], error.above, error.worst) == (0, 0, 0, None)
    assert figures(error)["snr_db"] == math.inf
    assert figures(error)["cosine"] == pytest.approx(1, rel=1e-15)
    assert error.histogram().zero == reference.size
    assert error.worst_channel == (None, 0.0, 0.0)
    assert samples[0].cosine == pytest.approx(1)


def test_all_zeros_are_alike_and_unlike_anything_else() -> None:
    zeros, ones = np.zeros((2, 3)), np.ones((2, 3))
    assert figures(measure(zeros, zeros)[0])["cosine"] == 1
    error, _ = measure(zeros, ones)
    assert figures(error)["cosine"] == 0
    assert figures(error)["l2_rel"] == math.inf
    assert figures(error)["snr_db"] == -math.inf
    assert error.max_abs / error.range == 1


def test_values_that_are_not_finite_on_one_side_alone_are_an_infinite_error() -> None:
    reference, candidate = pair()
    candidate[2, 1, 0, 0] = np.nan
    error, samples = measure(reference, candidate)
    assert error.max_abs == math.inf
    assert (present(error.worst).sample, present(error.worst).index) == (2, (1, 0, 0))
    assert (error.nan, error.partner_nan) == (0, 1)
    assert error.worst_channel == (1, math.inf, 1.0)
    assert samples[2].max_abs == math.inf > samples[1].max_abs
    assert math.isfinite(figures(error)["l2_rel"])


def test_the_same_infinity_or_nan_on_both_sides_is_agreement() -> None:
    reference, candidate = pair()
    reference[0, 0, 0, 0] = candidate[0, 0, 0, 0] = np.nan
    reference[0, 0, 0, 1] = candidate[0, 0, 0, 1] = -np.inf
    error, _ = measure(reference, candidate)
    assert error.max_abs < 0.01
    assert (error.nan, error.partner_nan, error.inf, error.partner_inf) == (1, 1, 1, 1)
    candidate[0, 0, 0, 1] = np.inf
    assert measure(reference, candidate)[0].max_abs == math.inf


def test_the_range_leaves_out_what_is_not_finite() -> None:
    reference = np.array([[5.0, 9.0, np.nan]])
    error, _ = measure(reference, np.array([[5.0, 9.0, np.nan]]))
    assert error.range == 4


def test_the_histogram_counts_every_value_once_and_gives_quantiles() -> None:
    reference = np.zeros((1, 1000))
    candidate = np.concatenate([np.zeros(500), np.full(400, 1.1e-6), np.full(100, 2e-3)])[None]
    histogram = measure(reference, candidate)[0].histogram()
    assert histogram.zero == 500
    assert histogram.total == 1000
    assert histogram.counts[0] == 400
    assert histogram.counts[-1] == 100
    assert histogram.quantile(0.5) == 0
    assert 1.1e-6 <= histogram.quantile(0.9) <= 1.1e-6 * 1.25
    assert 2e-3 <= histogram.quantile(0.99) <= 2e-3 * 1.25


def test_a_blob_without_a_sample_axis_counts_as_one() -> None:
    error = BlobError(1e-4)
    assert len(error.add(np.ones((4, 2)), np.ones((4, 2)), by_sample=False)) == 1
    assert BlobError(1e-4).add(np.float32(1.0).reshape(()), np.float32(2.0).reshape(()))[0].max_abs == 1


def test_blobs_of_two_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\) against \(3, 2\)"):
        BlobError(1e-4).add(np.ones((2, 3)), np.ones((3, 2)))


def test_a_range_falls_back_to_the_magnitude_and_then_to_one() -> None:
    assert span(-1, 3) == 4
    assert span(-2, -2) == 2
    assert span(0, 0) == 1


MOST = float(np.finfo(np.float64).max)


def test_values_whose_squares_pass_float64_give_figures_without_a_warning() -> None:
    """`filterwarnings` of pyproject.toml makes an error of each warning."""
    reference = np.full((3, 2, 4), 1e308)
    candidate = reference * (1 + 1e-6)
    error, samples = measure(reference, candidate, batch=1)
    found = figures(error)
    assert error.max_abs == pytest.approx(1e302)
    assert found["max_rel"] == pytest.approx(1e-6)
    assert samples[0].max_rel == pytest.approx(1e-6)
    # What is made of sums that pass float64 is unknown: neither agreement nor the opposite of it.
    unknown = ("l2_rel", "cosine", "snr_db", "channel_rel", "channel_share")
    assert all(math.isnan(found[name]) for name in unknown)
    assert math.isnan(samples[0].cosine)
    assert error.worst_channel[0] is not None
    same = figures(measure(reference, reference.copy())[0])
    assert (same["max_rel"], same["l2_rel"], same["snr_db"]) == (0, 0, math.inf)


def test_a_range_that_passes_float64_does_not_make_an_error_nothing() -> None:
    reference = np.array([[MOST, -MOST, 0.0]])
    error, samples = measure(reference, reference * 0.5)
    assert span(-MOST, MOST) == error.range == MOST
    assert figures(error)["max_rel"] == samples[0].max_rel == 0.5
    assert error.above == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_ends_of_a_type_are_measured_and_merged_without_a_warning(dtype: type[np.floating]) -> None:
    random, ends = np.random.default_rng(0), np.finfo(dtype)
    pool = np.array([0, 1, np.nan, np.inf, -np.inf, ends.max, ends.min, ends.max / 2, ends.smallest_subnormal], dtype)
    for shape in ((2, 3, 4), (3, 2), (1, 1, 1), (4,), (2, 1, 70)):
        for values in (pool, pool[np.isfinite(pool)], pool[5:7]):
            parts = [BlobError(1e-4), BlobError(1e-4)]
            for part in parts:
                for _ in range(4):
                    reference, candidate = random.choice(values, shape), random.choice(values, shape)
                    part.add(reference, candidate)
                    part.add_exact(random.choice(pool, shape).astype(np.float64), reference, candidate)
            merged = merge(*parts)
            assert not merged.max_abs < 0
            assert set(figures(merged)) == {metric.name for metric in METRICS}


SMALL = 2  # the channel that is small


def small(size: float = 1e-4, wrong: float = 1.5, each: int = 60) -> tuple[Array, Array]:
    """Five channels, one of which is small and wrong by a factor, and noise as float32 has it."""
    random = np.random.default_rng(4)
    reference = random.normal(size=(1, 5, each)) * np.where(np.arange(5) == SMALL, size, 1)[:, np.newaxis]
    candidate = reference * (1 + 1e-7 * random.normal(size=reference.shape))
    candidate[:, SMALL] *= wrong
    return reference.astype(np.float32), candidate.astype(np.float32)


@pytest.mark.parametrize("wrong", [0.0, 0.8, 1.5, -1.0])
def test_a_channel_is_found_that_is_wrong_and_small_beside_the_others(wrong: float) -> None:
    once = measure(*small(wrong=wrong))[0]
    twice = merge(measure(*small(wrong=wrong))[0], measure(*small(wrong=wrong))[0])
    for error in (once, twice):
        place, apart = present(error.small_channel(2**-24))
        assert place == SMALL
        assert apart == pytest.approx(abs(wrong - 1), rel=1e-3)


def test_what_the_largest_value_is_rounded_by_makes_no_channel_wrong_beside_equal_ones() -> None:
    reference, _ = small(size=1e-8)
    candidate = reference.copy()
    candidate[:, SMALL] *= 1.5
    assert measure(reference, candidate)[0].small_channel(2**-24) is None


def test_no_channel_is_small_where_its_square_is_beyond_float64() -> None:
    reference = np.array([[[1.0, -2.0], [3.0, 5.0]]]) * 1e300
    assert measure(reference, reference * [[[1.0], [1.5]]])[0].small_channel(2**-53) is None


def test_the_worst_channel_is_that_of_the_largest_sum_where_another_has_few_finite_values() -> None:
    reference = np.full((1, 2, 8), np.nan, np.float32)
    reference[0, 0, 0], reference[0, 1] = 3, 4
    candidate = reference + np.array([[[1.0], [0.5]]], np.float32)
    place, error, share = measure(reference, candidate)[0].worst_channel
    assert place == 1
    assert error == pytest.approx(math.sqrt(2 * 2 / (9 + 8 * 16)))
    assert share == pytest.approx(2 / 3)


def test_a_channel_of_zeros_that_has_values_in_the_candidate_alone_is_found() -> None:
    reference, candidate = small()
    reference[:, SMALL] = 0
    assert measure(reference, candidate)[0].small_channel(2**-24) == (SMALL, math.inf)


def test_samples_are_held_against_what_half_of_them_have_where_others_are_a_hundred_times_as_large() -> None:
    reference = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (7, 1))
    reference[2] *= 1000
    reference[3] = 0  # which has no range, and is held against that of the others
    candidate = reference.copy()
    candidate[5, 1] += 0.5
    error = measure(reference, candidate)[0]
    assert (error.typical, error.farthest) == (4, (0.125, 5))  # the power of two above a range of 2
    assert error.judged == 0.125 > relative(error.max_abs, error.range)
    candidate[3, 1] += 1
    assert measure(reference, candidate)[0].farthest == (0.25, 3)
    reference[2] /= 11
    candidate[2] = reference[2]
    error = measure(reference, candidate)[0]
    assert (error.typical, error.judged) == (error.range, relative(error.max_abs, error.range))
    second = BlobError(1e-3)
    second.add(reference[4:], candidate[4:], 4)
    assert merge(measure(reference[:4], candidate[:4])[0], second).sizes == error.sizes


@pytest.mark.parametrize("each", [1, 2, 5, 15])
@pytest.mark.parametrize("others", [1, 6])
def test_a_channel_of_a_few_values_is_found_that_is_wrong_beside_a_constant(each: int, others: int) -> None:
    random = np.random.default_rng(each)
    reference = random.uniform(5, 9, (1, others + 1, each)).astype(np.float32)
    reference[:, 0] = 1e6
    candidate = reference * np.float32(1 + 1e-7)
    candidate[:, others] *= 1.5
    error = measure(reference, candidate)[0]
    assert error.judged < 1e-4
    place, apart = present(error.small_channel(2**-24))
    assert place == others
    assert apart == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("is_alive", [True, False])
def test_one_value_a_channel_is_not_wrong_by_rounding_however_many_there_are(is_alive: bool) -> None:
    """Sums that were rounded at the size of their terms, the worst of them near 0; or what a ReLU leaves of them."""
    random = np.random.default_rng(0)
    reference, noise = random.normal(size=(1, 100_000)), random.normal(size=(1, 100_000))
    reference[0, np.abs(noise).argmax()] = 1e-4
    candidate = reference + 1e-5 * noise
    if not is_alive:
        reference, candidate = (np.maximum(values - 0.5, 0) for values in (reference, candidate))
    assert measure(reference.astype(np.float32), candidate.astype(np.float32))[0].small_channel(2**-24) is None


@pytest.mark.parametrize(
    "pair_of_blobs",
    [
        small(wrong=1.008),  # by less than a hundredth
        small(size=1e-7),  # no more than the others' rounding
        small(size=2e-6, each=1),  # of so few values some lie near 0
        small(wrong=1.0),
        pair(noise=1.0),  # all channels alike
    ],
    ids=["little", "rounding", "few", "right", "alike"],
)
def test_rounding_and_a_few_values_make_no_channel_wrong(pair_of_blobs: tuple[Array, Array]) -> None:
    assert measure(*pair_of_blobs)[0].small_channel(2**-24) is None


def beside(mask: float, *, wrong: float = 1.0, added: bool = False) -> float:
    """The largest error beside a mask at every third place, with noise as float32 has it."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(2, 3, 50))
    pair = [scores, wrong * scores * (1 + 1e-7 * random.normal(size=scores.shape))]
    for values in pair:
        values[..., ::3] = values[..., ::3] + mask if added else mask
    error = BlobError(1e-4)
    error.look_beside_mask(*(values.astype(np.float32) for values in pair))
    return error.beside


@pytest.mark.parametrize("mask", [-1e4, 1e4, -1e9, -1e30, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("added", [True, False])
def test_values_beside_a_mask_are_judged_without_it(mask: float, added: bool) -> None:
    assert beside(mask, wrong=1.5, added=added) == pytest.approx(0.5, rel=1e-5)
    assert beside(mask, added=added) < 1e-6


def test_values_beside_masks_of_several_numbers_are_judged_if_they_differ_by_more_than_these_are_rounded_by() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(1, 60)).astype(np.float32)
    pair = scores, 1.5 * scores
    for values, mask in ((values, mask) for values in pair for mask in (1, 2)):
        values[:, mask::6] = -1e4 * mask  # of two masks that are added, some places have both
    error = BlobError(1e-4)
    error.look_beside_mask(*pair)
    assert error.beside == pytest.approx(0.5, rel=1e-5)


def test_rounding_and_values_of_any_size_are_beside_no_mask() -> None:
    random = np.random.default_rng(0)
    large = random.choice([-1, 1], 100) * random.uniform(1, 1.9, 100)
    left = np.where(np.arange(100) % 2, large, 1e-8 * random.normal(size=100))  # x - mean of what is constant
    alone = np.where(np.arange(100) == 0, 1e3, left)
    for reference in (left, alone, random.normal(size=100), np.zeros(100)):
        error = BlobError(1e-4)
        candidate = reference + 3e-8 * random.normal(size=100)
        error.look_beside_mask(reference.astype(np.float32), candidate.astype(np.float32))
        assert error.beside == 0


@pytest.mark.parametrize(("near", "noted"), [(1, False), (3, False), (4, True)])
def test_a_few_scores_near_0_are_beside_no_mask(near: int, noted: bool) -> None:
    scores = -np.linspace(5.5, 10, 10)
    scores[:near] = 0.05
    error = BlobError(1e-4)
    error.look_beside_mask(*(values.astype(np.float32) for values in (scores, scores + 1e-5)))  # as of a deep network
    assert (error.beside > 0) == noted
