"""The pass over a pair of blobs, against the dozen passes in float64 that it replaced, on hostile values, too."""

import math
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import array_api_strict
import numpy as np
import pytest
from compare import oracle

from bnfold.compare import backends, kernels, saturation
from bnfold.compare.backends import BINS
from bnfold.compare.batches import BatchLayout, Run
from bnfold.compare.kernels import bin_edge, measure_together
from bnfold.compare.measure import Measurement, MeasurePlan, _together
from bnfold.compare.metrics import BlobError, add_together, extremes, figures
from bnfold.compare.saturation import Positions
from bnfold.data.samples import Arrays
from bnfold.net import Array, Shape

Kind = type[np.floating[Any]]
Pair = tuple[Array, Array]
Data = Callable[..., Pair]

SHAPES = [
    (3, 5, 4, 3),
    (2, 1, 1, 1),
    (2, 70, 7, 7),
    (1, 3, 130, 131),
    (4, 1000),
    (1, 40_000),
    (2, 3, 50_000),
    (2, 2, 3),
    (5,),
    (),
]
SUMS = ("sum_abs", "sum_error", "squared_error", "squared_reference", "squared_candidate", "product")
COUNTS = ("values", "finite", "above", "nan", "inf", "partner_nan", "partner_inf", "zero")
ENDS = ("low", "high", "partner_low", "partner_high")


def noise(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    reference = np.asarray(random.normal(size=shape) * 10.0 ** random.integers(-3, 4), kind)
    return reference, np.asarray(reference + 10.0 ** -random.integers(2, 7) * random.normal(size=shape), kind)


def rectified(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    reference, candidate = noise(random, shape, kind)
    return np.maximum(reference, 0), np.maximum(candidate, 0)


def hostile(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    """Everything that a float can be, anywhere, on either side."""
    words = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 1e-38, 3e38, -3e38, math.inf, -math.inf, math.nan, 1e-20, 7.0, 1e6]
    sides = [np.asarray(random.choice(words, size=shape), kind) for _ in range(2)]
    same = random.random(shape) < 0.5
    return sides[0], np.asarray(np.where(same, sides[0], sides[1]), kind)


def unlike(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    return np.asarray(random.normal(size=shape), kind), np.asarray(random.normal(size=shape), kind)


def tiny(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    """Probabilities far below the smallest bin."""
    reference = np.asarray(10.0 ** random.uniform(-40, 0, shape), kind)
    return reference, np.asarray(reference * (1 + 1e-5 * random.normal(size=shape)), kind)


def broken(random: np.random.Generator, shape: Shape, kind: Kind = np.float32) -> Pair:
    """One value in a thousand is NaN on one side."""
    reference, candidate = noise(random, shape, kind)
    return reference, np.where(random.random(shape) < 1e-3, np.asarray(np.nan, kind), candidate)


DATA: list[Data] = [noise, rectified, hostile, unlike, tiny, broken]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracle's own, where squares overflow
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["numpy", "compiled"])
def test_one_pass_finds_what_a_dozen_found(compiled: bool, shape: Shape, data: Data, kind: Kind) -> None:
    random = np.random.default_rng([len(shape), math.prod(shape), DATA.index(data)])
    ours, theirs = BlobError(1e-3), oracle.BlobError(1e-3)
    for batch in range(2):
        with np.errstate(all="ignore"):
            pair = data(random, shape, kind)
        mine = add_together([ours], pair[:1], pair[1:], batch * 10, compiled=compiled)[0]
        other = theirs.add(*pair, batch * 10)
        assert [(one.max_abs, one.max_rel) for one in mine] == [(one.max_abs, one.max_rel) for one in other]
        sound = np.logical_and(*map(np.isfinite, pair)).reshape(len(mine), -1)
        for one, two, some in zip(mine, other, sound, strict=True):
            expected = (two.sums.l2_rel, two.sums.cosine) if some.any() else (math.nan, math.nan)
            assert (one.l2_rel, one.cosine) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert {name: getattr(ours, name) for name in COUNTS} == {name: getattr(theirs, name) for name in COUNTS}
    assert {name: getattr(ours, name) for name in ENDS} == {name: getattr(theirs, name) for name in ENDS}
    assert (ours.max_abs, ours.worst) == (theirs.max_abs, theirs.worst)
    assert ours.worst_channel[0] == theirs.worst_channel[0]
    assert ours.worst_channel[1:] == pytest.approx(theirs.worst_channel[1:], rel=1e-12)
    assert int(ours.bins.sum()) + ours.zero == ours.values - ours.lost
    assert ours.sum_abs == pytest.approx(theirs.sum_abs, rel=1e-12, nan_ok=True)
    # A sum with both signs may cancel, and is as exact as what cancels.
    assert ours.sum_error == pytest.approx(theirs.sum_error, rel=1e-12, abs=1e-15 * ours.sum_abs, nan_ok=True)
    sums = theirs.sums
    assert figures(ours)["l2_rel"] == pytest.approx(sums.l2_rel, rel=1e-12, nan_ok=True)
    assert figures(ours)["cosine"] == pytest.approx(sums.cosine, rel=1e-12, nan_ok=True)
    assert figures(ours)["snr_db"] == pytest.approx(sums.snr_db, rel=1e-12, nan_ok=True)


def test_the_compiled_pass_takes_finite_blocks_of_float32_and_no_others() -> None:
    backend = backends.backend_of(np.zeros(1), compiled=True)
    block = np.ones((2, 3, 5), np.float32)
    broken_block = np.where(block.cumsum().reshape(block.shape) == 7, np.float32(np.nan), block)
    assert backend.at_once(block, block, backend.counter(1)) is not None
    for other in (block.astype(np.float64), broken_block, np.ones((5, 3, 2), np.float32).T):
        assert backend.at_once(block, other, backend.counter(1)) is None
    assert backends.backend_of(np.zeros(1)).at_once(block, block, backend.counter(1)) is None


@pytest.mark.parametrize("strange", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 2047, 2048, 4999, 9999])
@pytest.mark.parametrize("side", [0, 1])
def test_the_compiled_pass_leaves_a_block_with_one_value_that_is_not_finite(
    strange: float, place: int, side: int
) -> None:
    backend = backends.backend_of(np.zeros(1), compiled=True)
    pair = [np.ones((2, 5, 1000), np.float32) for _ in range(2)]
    counter = backend.counter(1)
    assert backend.at_once(pair[0], pair[1], counter) is not None
    before = counter.counts().copy()
    pair[side].reshape(-1)[place] = strange
    assert backend.at_once(pair[0], pair[1], counter) is None
    assert (counter.counts() == before).all()


@pytest.mark.parametrize("values", [(-3, -1), (1, 3), (-1e-40, 1e-40), (-3e38, 3e38), (-0.0, 0.0)], ids=str)
def test_the_compiled_pass_finds_the_ends_and_the_channels_of_several_pieces(values: tuple[float, float]) -> None:
    backend = backends.backend_of(np.zeros(1), compiled=True)
    random = np.random.default_rng(8)
    ours, theirs = (np.asarray(random.uniform(*values, (3, 7, 1001)), np.float32) for _ in range(2))
    counter = backend.counter(1)
    summed = backend.at_once(ours, theirs, counter)
    assert summed is not None
    edges = [bin_edge(index) for index in range(BINS)]
    with np.errstate(over="ignore"):
        sizes = np.abs(theirs.astype(np.float64) - ours).astype(np.float32).ravel()
    bins = np.searchsorted(edges, sizes, "right") - 1
    assert counter.counts()[0].tolist() == np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS).tolist()
    rows = dict(zip(backends.ROWS, summed[0], strict=True))
    for name, blob in (("", ours), ("partner_", theirs)):
        assert (rows[f"{name}low"] == blob.min(axis=(1, 2))).all()
        assert (rows[f"{name}high"] == blob.max(axis=(1, 2))).all()
    squares = np.square(theirs.astype(np.float64) - ours)
    own = np.square(ours.astype(np.float64))
    for place, (name, squared) in enumerate({"squared_error": squares, "squared_reference": own}.items()):
        assert summed[1][place, 0] == pytest.approx(squared.sum(axis=(0, 2)), rel=1e-12)
        assert rows[name] == pytest.approx(squared.sum(axis=(1, 2)), rel=1e-12)


def test_code_is_compiled_for_many_values_where_numba_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.worthwhile(backends.MANY)
    assert not backends.worthwhile(backends.MANY - 1)
    backends._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "bnfold.compare.compiled", None)  # importing it fails, as where numba is missing
    assert not backends.worthwhile(backends.MANY)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_every_error_is_counted_in_the_bin_between_whose_edges_it_lies(kind: Kind) -> None:
    random = np.random.default_rng(5)
    errors = np.asarray(10.0 ** random.uniform(-20, 9, 100_001), kind)
    error = BlobError(1.0)
    error.add(np.zeros_like(errors), errors)
    edges = [bin_edge(index) for index in range(BINS + 1)]
    edges[0], edges[-1] = 0.0, math.inf
    assert error.bins.tolist() == np.histogram(errors.astype(np.float32), edges)[0].tolist()


def test_an_error_at_an_edge_is_in_the_bin_above() -> None:
    edges = np.array([bin_edge(index) for index in range(BINS)], np.float32)[None]
    error = BlobError(1.0)
    error.add(np.zeros_like(edges), edges)
    assert error.bins.tolist() == [1] * BINS


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_another_library_of_the_array_api_finds_the_same(data: Data) -> None:
    random = np.random.default_rng(8)
    with np.errstate(all="ignore"):
        pair = data(random, (2, 6, 9, 5))
        host, strict = BlobError(1e-3), BlobError(1e-3)
        host.add(*pair)
        strict.add(array_api_strict.asarray(pair[0]), array_api_strict.asarray(pair[1]))
    ours, theirs = figures(host), figures(strict)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        if isinstance(value, float):
            assert theirs[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name
        else:
            assert theirs[name] == value, name


class CountingNamespace:
    """A library of the array API that counts its calls: on a GPU each is a kernel that is launched."""

    def __init__(self, xp: Any) -> None:
        self.xp, self.calls = xp, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.xp, name)
        if not callable(found) or isinstance(found, type):
            return found

        def counted(*given: Any, **named: Any) -> Any:
            self.calls += 1
            return found(*given, **named)

        return counted


def test_a_gpu_is_asked_as_often_for_a_dozen_blobs_as_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    counting = CountingNamespace(array_api_strict)
    backend = backends.Backend(counting, array_api_strict.asarray(0.0))
    monkeypatch.setattr(kernels, "backend_of", lambda array, compiled: backend)
    calls = {}
    for blobs in (1, 12):
        pairs = [[array_api_strict.asarray(side) for side in noise(random, (2, 3, 40))] for _ in range(blobs)]
        before = counting.calls
        kernels.measure_together([one for one, _ in pairs], [two for _, two in pairs], (2, 3, 40), 1.0)
        calls[blobs] = counting.calls - before
    assert calls[1] <= 70
    assert calls[12] <= calls[1] + 12 * 2 + 5  # a view of each blob, and one concatenation


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_blobs_that_are_measured_together_have_the_figures_that_they_have_alone(data: Data) -> None:
    random = np.random.default_rng(9)
    plan = MeasurePlan({name: name for name in "abcd"}, BatchLayout({}, 2, batched=True), 1e-3)
    shapes = {"a": (2, 6, 5, 5), "b": (2, 4, 70), "c": (2, 6, 5, 5), "d": (2, 6, 5, 5)}
    with np.errstate(all="ignore"):
        pairs = {name: data(random, shape) for name, shape in shapes.items()}
    sides = [{name: array_api_strict.asarray(pair[side]) for name, pair in pairs.items()} for side in range(2)]
    assert sorted(map(len, _together(plan, *sides))) == [1, 3]
    host = [{name: pair[side] for name, pair in pairs.items()} for side in range(2)]
    assert [len(group) for group in _together(plan, *host)] == [1, 1, 1, 1]
    found = Measurement.begun(plan)
    with ThreadPoolExecutor(1) as threads:
        found.add(plan, Run(range(2), {}), sides[0], sides[1], Arrays({"x": np.zeros((2, 1))}), {}, threads)()
    for name, pair in pairs.items():
        alone = BlobError(1e-3)
        alone.add(array_api_strict.asarray(pair[0]), array_api_strict.asarray(pair[1]))
        assert figures(found.errors[name]) == figures(alone)


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_ends_and_saturated_positions_are_found_where_the_values_lie(data: Data) -> None:
    with np.errstate(all="ignore"):
        values, _ = data(np.random.default_rng(11), (3, 4, 5))
        finite = values[np.isfinite(values)].astype(np.float64)
        other = array_api_strict.asarray(values)
        assert extremes(values) == extremes(other) == (finite.min(), finite.max())
        assert extremes(finite[0]) == (finite[0], finite[0])
        for layer_type in saturation.COUNTS:
            here, there = Positions(), Positions()
            here.add(layer_type, values)
            there.add(layer_type, other)
            assert (here.saturated, here.total) == pytest.approx((there.saturated, there.total), rel=1e-12), layer_type
            assert layer_type == "Softmax" or here.total == finite.size


def test_long_rows_are_cut_so_that_no_dot_product_is_shared_among_threads() -> None:
    cuts = list(kernels._blocks(backends.backend_of(np.zeros(1)), 2, 3, 50_000))
    assert max(cut[2].stop - cut[2].start for cut in cuts) <= backends.ROW
    seen = np.zeros((2, 3, 50_000), np.int8)
    for cut in cuts:
        seen[cut] += 1
    assert (seen == 1).all()


def test_bytes_are_measured_without_a_copy_of_their_blob_in_float64() -> None:
    blob = np.random.default_rng(0).integers(0, 256, (1, 16, 1 << 16), np.uint8)
    other = blob.copy()
    other[0, 3, 5] ^= 1
    measure_together([blob], [other], blob.shape, 1e-4)  # threads keep their blocks
    tracemalloc.start()
    try:
        measured = measure_together([blob], [other], blob.shape, 1e-4)[0]
        assert extremes(blob) == (0.0, 255.0)
        assert measured.above == 1
        assert tracemalloc.get_traced_memory()[1] < 4 * blob.nbytes
    finally:
        tracemalloc.stop()
