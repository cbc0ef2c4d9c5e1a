"""Every row of the commuting table in every mode of its layer: the law holds, and what it refuses would be wrong.

Back is `A(L(x)) == L(A'(x))`, forward `L(A(x)) == A'(L(x))`, in float64 by the oracle, to 1e-12 of the largest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from unittest.mock import Mock

import numpy as np
import pytest
from algebra.commute_kinds import Back, Forward, Row
from algebra.commute_rows import BACK, CROP_C, FORWARD, POOL_MAX_MASK, SLICE, SLICE_H, SLICE_POINTS, pooling
from algebra.rows import Array, any_affine, applied, channel_affine, difference, layer_of, operator_of, run, signed
from seeds import seeded

from bnfold.algebra import commute, movement
from bnfold.algebra.affine import MAX_VALUES, Affine
from bnfold.algebra.commute import Affines, Commuting
from bnfold.algebra.movement import back, sees_nothing
from bnfold.algebra.operators import PLANE, Join, Move, Pass, Take
from bnfold.algebra.records import Blocked
from bnfold.caffe.operators import PASSING
from bnfold.net import Shape


def moved_back(case: Back, affine: Affine, blobs: Sequence[Array]) -> list[Affines]:
    layer = layer_of(case.row.text, len(case.row.bottoms), case.row.tops, blobs)
    operator = operator_of(layer, case.row.bottoms)
    assert isinstance(operator, Commuting)
    moved = list(commute.back(operator, affine, case.top, layer.bottoms))
    if not moved:
        raise Blocked("no bottom could take it")
    return moved


def moved_forward(row: Row, affines: Affines, blobs: Sequence[Array]) -> Affines:
    layer = layer_of(row.text, len(row.bottoms), row.tops, blobs)
    operator = operator_of(layer, row.bottoms)
    assert isinstance(operator, Commuting)
    return commute.forward(operator, affines, row.tops)


def two_ways_back(case: Back, affine: Affine, moved: Affines, bottoms: list[Array], blobs: list[Array]) -> float:
    """How much `L(A'(x))` differs from `A(L(x))`; the tops without an affine must not change."""
    wanted = case.row.run(bottoms, blobs)
    wanted[case.top] = applied(affine, wanted[case.top])
    return difference(wanted, case.row.run([applied(a, b) for a, b in zip(moved, bottoms, strict=True)], blobs))


def two_ways_forward(row: Row, affines: Affines, moved: Affines, bottoms: list[Array], blobs: list[Array]) -> float:
    """How much `A'(L(x))` differs from `L(A(x))`."""
    wanted = row.run([applied(a, b) for a, b in zip(affines, bottoms, strict=True)], blobs)
    return difference(wanted, [applied(a, t) for a, t in zip(moved, row.run(bottoms, blobs), strict=True)])


def back_id(case: Back) -> str:
    return f"{case.row.name}, top {case.top}" if case.row.tops > 1 else case.row.name


@pytest.mark.parametrize("case", [case for case in BACK if case.passes], ids=back_id)
@seeded(8)
def test_an_affine_moved_back_gives_the_same_tops(case: Back, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottoms, blobs = case.row.sample(rng)
    assert case.passes is not None
    affine = case.passes(rng, case.row.run(bottoms, blobs)[case.top].shape[1])
    alternatives = moved_back(case, affine, blobs)
    assert alternatives
    for moved in alternatives:
        assert two_ways_back(case, affine, moved, bottoms, blobs) <= 1e-12


@pytest.mark.parametrize("case", [case for case in FORWARD if case.passes], ids=lambda case: case.row.name)
@seeded(8)
def test_an_affine_moved_forward_gives_the_same_tops(case: Forward, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottoms, blobs = case.row.sample(rng)
    assert case.passes is not None
    affines = case.passes(rng)
    moved = moved_forward(case.row, affines, blobs)
    assert two_ways_forward(case.row, affines, moved, bottoms, blobs) <= 1e-12


@pytest.mark.parametrize("case", [case for case in BACK if case.refuses], ids=back_id)
@seeded(8)
def test_what_may_not_move_back_would_give_other_tops(case: Back, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottoms, blobs = case.row.sample(rng)
    for refused in case.refuses:
        affine = refused(rng, case.row.run(bottoms, blobs)[case.top].shape[1])
        with pytest.raises(Blocked):
            moved_back(case, affine, blobs)
        moved = case.anyway(affine) if case.anyway else [affine, *[None] * (len(bottoms) - 1)]
        assert not two_ways_back(case, affine, moved, bottoms, blobs) < 1e-3


@pytest.mark.parametrize("case", [case for case in FORWARD if case.refuses], ids=lambda case: case.row.name)
@seeded(8)
def test_what_may_not_move_forward_would_give_other_tops(case: Forward, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bottoms, blobs = case.row.sample(rng)
    for refused in case.refuses:
        affines = refused(rng)
        with pytest.raises(Blocked):
            moved_forward(case.row, affines, blobs)
        assert not two_ways_forward(case.row, affines, anyway_forward(case, affines), bottoms, blobs) < 1e-3


def anyway_forward(case: Forward, affines: Affines) -> Affines:
    if case.anyway:
        return case.anyway(affines)
    arriving = next(affine for affine in affines if affine is not None)
    return [arriving, *[None] * (case.row.tops - 1)]


def test_a_shift_passes_a_flow_warp_that_has_nan_outside() -> None:
    rng = np.random.default_rng(0)
    image, flow, affine = signed(rng, (2, 4, 3, 5)), rng.normal(size=(2, 2, 3, 5)), any_affine(rng, 4)
    text = 'type: "FlowWarp" flow_warp_param { fill_value: NOT_A_NUMBER }'
    assert operator_of(layer_of(text, 2), [image.shape, flow.shape]) == Pass(plane=PLANE)
    (behind,), (before,) = run(text, [image, flow]), run(text, [applied(affine, image), flow])
    assert np.isnan(before).any()
    np.testing.assert_allclose(applied(affine, behind), before, rtol=1e-12)


def test_every_row_of_the_table_has_its_properties() -> None:
    of_their_own = {"Clip"}  # tests/algebra/test_clip.py
    assert {case.row.type for case in BACK if case.passes} - {"Python"} == set(PASSING) - of_their_own
    assert {case.row.type for case in FORWARD if case.passes} - {"Python"} == set(PASSING) - of_their_own


def test_every_row_with_a_condition_shows_what_it_refuses() -> None:
    unconditional = {"Add", "Bias", "Concat", "Crop", "DepthToSpace", "Interp", "Permute", "PixelShuffle", "ReduceMean"}
    unconditional |= {"DeephiResize", "ExpandDimsND", "ICNetSubgraph", "Tiling", "Unstack"}
    unconditional |= {"Piece", "StridedSlice"}
    unconditional |= {"Axpy", "BatchReindex", "Filter", "Flatten", "Flip", "GSTiling", "Dtow"}
    unconditional |= {"Reorg", "Resample", "ResizeBilinear", "ResizeNearestNeighbor", "Reverse", "ShuffleChannel"}
    unconditional |= {"Clip", "SpaceToDepth", "Squeeze", "Sub", "Transpose", "UpsampleDarknet"}
    assert {case.row.type for case in BACK if case.refuses} - {"Python"} == set(PASSING) - unconditional


def test_stochastic_pooling_refuses_since_its_weights_are_its_values() -> None:
    row = pooling("pool: STOCHASTIC kernel_size: 2 stride: 2", shape=(1, 1, 2, 2))
    affine = channel_affine(1.0, 3.0, 1)
    with pytest.raises(Blocked, match="STOCHASTIC pooling is no fixed function"):
        moved_back(Back(row), affine, [])
    window = np.array([1.0, 2.0, 3.0, 4.0])
    # At TEST it gives the mean of the window weighted by itself.
    pooled, pooled_after = ((values**2).sum() / values.sum() for values in (window, window + 3.0))
    assert abs(pooled_after - (pooled + 3.0)) > 1e-3


def test_parts_of_more_channels_than_an_affine_may_have_keep_theirs() -> None:
    """The identity would be written out for each of the others."""
    with pytest.raises(Blocked, match="an affine of so many values is too large"):
        commute.forward(Join(1, (2, MAX_VALUES)), [Affine.along(1, [2.0, -3.0], 0.5), None], 1)


def test_an_affine_of_a_mask_cannot_move() -> None:
    with pytest.raises(Blocked, match="do not hold values of the channels"):
        moved_back(Back(POOL_MAX_MASK, top=1), channel_affine(2.0, 0.0, 4), [])


def test_a_reshape_of_a_vector_of_samples_makes_no_channels_that_an_affine_comes_from() -> None:
    row = Row("reshape", 'type: "Reshape" reshape_param { shape { dim: 2 dim: 3 } }', ((6,),))
    with pytest.raises(Blocked, match="depends on a size that is unknown"):
        moved_back(Back(row), channel_affine([2.0, 3.0, -1.0], 0.0, 3), [])


@pytest.mark.parametrize(
    ("text", "shape", "channels", "said"),
    [
        ('type: "Flatten"', (2, 3, -1, 4), 3, "depends on a size that is unknown"),
        ('type: "Crop" crop_param { axis: 1 }', (2, -1, 4, 4), 3, "how long axis 1 is, is unknown"),
        ('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', (2, -1, 2, 2), 3, "on a size that is unknown"),
        (
            'type: "Reshape" reshape_param { shape { dim: -1 dim: 6 } }',
            (-1, 3),
            6,
            "hold different elements",
        ),
    ],
)
def test_sizes_that_depend_on_the_data_stop_what_needs_them(text: str, shape: Shape, channels: int, said: str) -> None:
    bottoms = (shape, shape) if "Crop" in text else (shape,)
    row = Row("unknown sizes", text, bottoms)
    affine = any_affine(np.random.default_rng(0), channels)
    with pytest.raises(Blocked, match=said):
        moved_back(Back(row), affine, [])
    with pytest.raises(Blocked, match=said):
        moved_forward(row, [affine, *[None] * (len(bottoms) - 1)], [])


@pytest.mark.parametrize(
    "text",
    [
        'type: "ReLU"',
        'type: "Pooling" pooling_param { global_pooling: true }',
        'type: "Crop"',
        'type: "Flatten" flatten_param { axis: 2 }',
        'type: "Permute" permute_param { order: 0 order: 1 order: 3 order: 2 }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 0 dim: -1 dim: 1 } }',
        'type: "ShuffleChannel" shuffle_channel_param { group: 3 }',
        'type: "Slice"',
    ],
)
def test_sizes_that_depend_on_the_data_do_not_stop_what_does_not_need_them(text: str) -> None:
    shape = (2 if "Reshape" in text else -1, 3, -1, -1)
    row = Row("unknown sizes", text, (shape, shape) if "Crop" in text else (shape,))
    affine = channel_affine([0.5, 2.0, 3.0], 0.0, 3)
    (moved,) = moved_back(Back(row), affine, [])
    assert moved[0] is not None
    assert sorted(moved[0].scale.reshape(-1)) == sorted(affine.scale.reshape(-1))


def test_a_channel_that_is_cropped_away_gets_the_identity() -> None:
    (moved,) = moved_back(Back(CROP_C), channel_affine(3.0, 1.0, 2), [])
    assert moved[0] is not None
    np.testing.assert_array_equal(moved[0].scale, [[1, 1, 3, 3, 1]])
    np.testing.assert_array_equal(moved[0].shift, [[0, 0, 1, 1, 0]])


@pytest.mark.parametrize("row", [SLICE, SLICE_POINTS, SLICE_H], ids=lambda row: row.name)
def test_the_parts_of_a_slice_are_apart_as_the_walk_over_all_elements_says(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is looked at for another's sake, so that moving affines back from n parts takes n steps and not n*n."""
    operator = operator_of(layer_of(row.text, 1, row.tops, []), row.bottoms)
    assert isinstance(operator, Move)
    for top, other in permutations(operator.tops, 2):
        behind = Affine.along(operator.tops[0][0].axis, -3.0, 0.5)  # type: ignore[union-attr]
        assert sees_nothing(other, back(top, behind, alone=False))
    walk = Mock(side_effect=sees_nothing)
    monkeypatch.setattr(movement, "sees_nothing", walk)
    assert commute.back(operator, Affine.along(1, -3.0, 0.5), 0, ["x"])
    assert operator.apart
    assert not walk.called


def test_what_a_slice_leaves_out_may_change_where_that_changes_nothing_that_it_takes() -> None:
    """Of steps 1 and 2 of channels 0 and 1 a factor changes channel 0, so it may change its step 0, too."""
    slicing, behind = Move(((Take(1, slice(1, 3), 3), Take(2, slice(0, 2), 3)),)), Affine([[[2.0, 1.0]]])
    moved = [part for (part,) in commute.back(slicing, behind, 0, ["x"], alone=False)]
    assert [affine.shape for affine in moved if affine] == [(1, 3, 3), (1, 1, 3)]
    values = np.arange(1.0, 10.0).reshape(1, 3, 3)
    wanted = applied(behind, values[:, 1:, :2])
    for affine in moved:
        np.testing.assert_array_equal(applied(affine, values)[:, 1:, :2], wanted)
    refused = Affine(np.array([1.0, 2.0, 2.0]).reshape(1, 3, 1))  # all channels of these steps
    assert difference([applied(refused, values)[:, 1:, :2]], [wanted]) > 0.1


def test_parts_of_which_each_varies_along_another_axis_are_joined() -> None:
    """Of as many columns as the second has channels."""
    columns, channels = Affine(np.array([[[2.0, -3.0]]]), 0.5), Affine(np.array([[4.0, -5.0]]), np.array([[1.5, 2.5]]))
    x, y = np.arange(1.0, 7.0).reshape(1, 3, 2), np.arange(1.0, 5.0).reshape(1, 2, 2)
    (joined,) = commute.forward(Join(1, (3, 2)), [columns, channels], 1)
    wanted = np.concatenate([applied(columns, x), applied(channels, y)], 1)
    np.testing.assert_array_equal(applied(joined, np.concatenate([x, y], 1)), wanted)
