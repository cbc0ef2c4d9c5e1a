"""Which Caffe layers are affines: each agrees with the oracle, and what is none is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from algebra.rows import Array, applied, context_of, difference, layer_of, run, signed
from seeds import seeded

from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Alias, Opaque, Operator
from bnfold.algebra.reasons import NOT_LINEAR, UNKNOWN
from bnfold.algebra.records import Blocked
from bnfold.caffe.batchnorm import AmbiguousZeroFactor, idle_choice_notes
from bnfold.caffe.frontend import CAFFE
from bnfold.caffe.operators import AFFINES
from bnfold.errors import ModelError
from bnfold.net import Shape


@dataclass(frozen=True)
class Row:
    """A layer that is an affine: what it says, what it reads, the shapes of what it learned."""

    text: str
    bottom: Shape
    blobs: tuple[Shape, ...] = ()
    factor: float = 1.0

    def sample(self, rng: np.random.Generator) -> tuple[Array, list[Array]]:
        """Noise; a blob where the factor of a BatchNorm stands holds that, and what may be a variance is positive."""
        blobs = [signed(rng, shape) for shape in self.blobs]
        if "BatchNorm" in self.text or len(blobs) == 4:
            blobs = [np.abs(blob) if index in (1, 3) else blob for index, blob in enumerate(blobs)]
        return signed(rng, self.bottom), [
            np.full(shape, self.factor) if shape == (1,) and self.bottom[1] > 1 else blob
            for shape, blob in zip(self.blobs, blobs, strict=True)
        ]


EPS = "eps: 0.0009765625"
BVLC = ((4,), (4,), (1,))
V015 = ((1, 4, 1, 1),) * 4
FOUR = (2, 4, 3, 3)

ROWS = [
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} }}', FOUR, BVLC),
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} use_global_stats: true }}', FOUR, BVLC, factor=999.5),
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} }}', (2, 4), BVLC, factor=0.25),
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} scale_bias: true }}', FOUR, (*BVLC, (4,), (4,))),
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} }}', FOUR, V015),
    Row(f'type: "CuDNNBatchNorm" batch_norm_param {{ {EPS} }}', FOUR, BVLC, factor=3.0),
    Row(f'type: "BN" bn_param {{ {EPS} }}', FOUR, V015),
    Row(f'type: "SyncBN" bn_param {{ {EPS} }}', FOUR, ((1, 4),) * 4),
    Row(f'type: "BN" bn_param {{ {EPS} frozen: true }}', FOUR, V015),
    Row('type: "BN" bn_param { bn_mode: INFERENCE }', FOUR, ((1, 4, 1, 1), (1, 4, 1, 1))),
    Row('type: "Bias"', FOUR, ((4,),)),
    Row('type: "Bias" bias_param { axis: -2 }', (2, 4, 3), ((4,),)),
    Row('type: "Bias" bias_param { num_axes: 0 }', FOUR, ((),)),
    Row('type: "Dropout"', FOUR),
    Row('type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }', FOUR),
    Row('type: "EltwiseAffine"', FOUR, ((4,), (4,))),
    Row('type: "EltwiseAffine"', (2, 4), ((), ())),
    Row('type: "ChannelwiseAffine"', FOUR, ((4,), (4,))),
    Row('type: "ChannelwiseAffine" channelwise_affine_param { channel_shared: true }', FOUR, ((), ())),
    Row('type: "Eltwise" eltwise_param { coeff: -0.5 }', FOUR),
    Row('type: "Power"', FOUR),
    Row('type: "Power" power_param { scale: -0.5 shift: 0.25 }', (2, 4)),
    Row('type: "Scale"', FOUR, ((4,),)),
    Row('type: "Scale" scale_param { bias_term: true }', (2, 4), ((4,), (4,))),
    Row('type: "Scale" scale_param { axis: -3 bias_term: true }', FOUR, ((4,), (4,))),
    Row('type: "Scale" scale_param { num_axes: 0 bias_term: true }', FOUR, ((), ())),
    Row('type: "Scale" scale_param { num_axes: -1 }', (2, 4, 1, 1), ((4, 1, 1),)),
    Row('type: "Scale" scale_param { axis: 0 num_axes: 2 }', (1, 4, 3), ((1, 4),)),
    Row('type: "Scale" scale_param { axis: 0 num_axes: -1 bias_term: true }', (1, 4, 1), ((1, 4, 1), (1, 4, 1))),
    Row('type: "Scale" scale_param { axis: 2 bias_term: true }', (2, 4, 1), ((1,), (1,))),
    Row('type: "GradientBlock"', FOUR),
    Row('type: "Noise" noise_param { noise_type: GAUSSIAN mean: 0.5 std_var: 2 }', FOUR),
    Row('type: "GradientClip" gradient_clip_param { gradient_clip: 10 }', FOUR),
    Row('type: "GradientReversal" phase: TRAIN', FOUR),
    Row('type: "GradientScaler" gradient_scaler_param { alpha: 5 max_iter: 1000 }', FOUR),
    Row('type: "GradientSilent"', FOUR),
    Row('type: "OutputDecay" output_decay_param { output_decay: 0.5 regularization_type: "L1" }', FOUR),
    Row('type: "SeLuDropout"', FOUR),
    Row('type: "SpatialDropout"', FOUR),
    Row('type: "NeedRemove"', FOUR),
    Row('type: "Add"', FOUR, ((4, 1, 1),)),
    Row('type: "Add"', FOUR, ((1, 4, 1, 3),)),
    Row('type: "Sub"', FOUR, ((4, 3, 1),)),
    Row('type: "Mul"', FOUR, ((4, 1, 1),)),
    Row('type: "Div"', FOUR, ((),)),
    Row('type: "BN" bn_param { var_eps: 0.0009765625 }', FOUR, V015),
    Row('type: "CuDNNBatchNorm" cudnn_batch_norm_param { eps: 0.0009765625 }', FOUR, V015),
    Row(f'type: "BatchNorm" batch_norm_param {{ {EPS} add_eps_before_sqrt: false }}', FOUR, BVLC),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.text)
@seeded(5)
def test_the_affine_of_a_layer_is_what_the_oracle_computes(row: Row, seed: int) -> None:
    bottom, blobs = row.sample(np.random.default_rng(seed))
    affine = read(row.text, row.bottom, blobs)
    if isinstance(affine, Alias):
        affine = Affine()
    assert isinstance(affine, Affine)
    assert difference(run(row.text, [bottom], blobs=blobs), [applied(affine, bottom)]) <= 1e-12


def test_a_layer_that_copies_several_blobs_is_no_affine() -> None:
    layer = layer_of('type: "GradientBlock"', 2, 2)
    assert CAFFE.operator(layer, context_of(layer, [FOUR, (2, 5)])) == Opaque("it copies several blobs")


def test_every_row_of_the_table_has_its_properties() -> None:
    assert {layer_of(row.text).type for row in ROWS} == set(AFFINES)


def read(text: str, bottom: Shape | None = FOUR, blobs: list[Array] | None = None) -> Operator:
    layer = layer_of(text, blobs=blobs or [])
    return CAFFE.operator(layer, context_of(layer, [bottom]))


def batch_norm(param: str = "") -> tuple[str, list[Array]]:
    rng = np.random.default_rng(0)
    blobs = [signed(rng, (4,)), np.abs(signed(rng, (4,))), np.array([1.0])]
    return f'type: "BatchNorm" batch_norm_param {{ {EPS} {param} }}', blobs


# What is none.


@pytest.mark.parametrize(
    ("text", "shape", "varies"),
    [
        ('type: "Scale" scale_param { axis: 2 }', (3,), (1, 1, 3)),
        ('type: "Scale" scale_param { axis: 1 num_axes: -1 }', (4, 3, 3), (1, 4, 3, 3)),
        ('type: "Scale" scale_param { axis: 0 }', (2,), (2,)),
        ('type: "Bias" bias_param { axis: 2 num_axes: 2 }', (3, 3), (1, 1, 3, 3)),
    ],
)
def test_values_that_differ_along_another_axis_are_an_affine_along_that_axis(
    text: str, shape: Shape, varies: Shape
) -> None:
    rng = np.random.default_rng(0)
    bottom, learned = signed(rng, FOUR), signed(rng, shape)
    affine = read(text, blobs=[learned])
    assert isinstance(affine, Affine)
    assert affine.shape == varies
    assert difference(run(text, [bottom], blobs=[learned]), [applied(affine, bottom)]) <= 1e-12


def test_values_that_are_equal_along_another_axis_are_one_affine() -> None:
    affine = read('type: "Scale" scale_param { axis: 1 num_axes: 3 }', blobs=[np.full((4, 3, 3), 2.5)])
    assert isinstance(affine, Affine)
    np.testing.assert_array_equal(affine.scale, 2.5)
    assert affine.shape == ()


def test_statistics_of_the_batch_are_refused_since_another_batch_gives_another_affine() -> None:
    text, blobs = batch_norm("use_global_stats: false")
    with pytest.raises(Blocked, match="use_global_stats is false, so its statistics follow each batch"):
        read(text, blobs=blobs)
    rng = np.random.default_rng(0)
    first, second = signed(rng, FOUR), signed(rng, FOUR)
    alone = run(text, [first], blobs=blobs)[0]
    together = run(text, [np.concatenate([first, second])], blobs=blobs)[0][:2]
    assert difference([alone], [together]) > 1e-3


def test_a_phase_that_a_layer_states_decides_where_use_global_stats_does_not() -> None:
    text, blobs = batch_norm("")
    with pytest.raises(Blocked, match="its phase is TRAIN, so its statistics follow each batch"):
        read(f"{text} phase: TRAIN", blobs=blobs)
    assert isinstance(read(f"{text} phase: TEST", blobs=blobs), Affine)
    text, blobs = batch_norm("use_global_stats: true")
    assert isinstance(read(f"{text} phase: TRAIN", blobs=blobs), Affine)
    with pytest.raises(Blocked, match="its phase is TRAIN, so it drops at random"):
        read('type: "Dropout" phase: TRAIN')


def test_statistics_of_the_batch_are_taken_as_stored_when_the_user_says_so_and_that_is_noted() -> None:
    text, blobs = batch_norm("use_global_stats: false")
    layer = layer_of(text, blobs=blobs)
    context = context_of(layer, [FOUR], assume_global_stats=True)
    affine, stored = CAFFE.operator(layer, context), read(text.replace("false", "true"), blobs=blobs)
    assert isinstance(affine, Affine)
    assert isinstance(stored, Affine)
    assert affine.equals(stored)
    assert context.assumed == [layer]
    left = context_of(layer, [FOUR], assume_global_stats=True)
    left.excluded = {id(layer)}
    with pytest.raises(Blocked, match="so its statistics follow each batch"):
        CAFFE.operator(layer, left)
    assert left.assumed == []
    CAFFE.finish(context)
    said = "layer 'x' (BatchNorm): taken as use_global_stats: true, as --assume-global-stats says"
    assert context.notes == [said]
    context.assumed.append(layer)
    CAFFE.finish(context)
    assert context.notes[1:] == [f"2 layers, the first of them {said}"]


def test_the_learn_mode_of_segnet_is_refused_since_it_follows_the_batch() -> None:
    rng = np.random.default_rng(0)
    blobs = [signed(rng, (1, 4, 1, 1)), signed(rng, (1, 4, 1, 1))]
    with pytest.raises(Blocked, match="bn_mode is LEARN"):
        read('type: "BN" bn_param { bn_mode: LEARN }', blobs=blobs)
    bottom = signed(rng, FOUR)
    learning, inference = (
        run(f'type: "BN" bn_param {{ bn_mode: {mode} }}', [bottom], blobs=blobs) for mode in ("LEARN", "INFERENCE")
    )
    assert difference(learning, inference) > 1e-3


@pytest.mark.parametrize("power", ["2", "0.5", "0"])
def test_a_power_that_is_not_1_is_no_affine(power: str) -> None:
    assert read(f'type: "Power" power_param {{ power: {power} scale: 2 }}') == Opaque(NOT_LINEAR)


@pytest.mark.parametrize("operation", ["PROD", "MAX"])
def test_an_eltwise_of_one_bottom_that_is_no_sum_is_not_known(operation: str) -> None:
    assert read(f'type: "Eltwise" eltwise_param {{ operation: {operation} }}') == Opaque()


def test_a_sum_of_one_bottom_times_nothing_stays() -> None:
    with pytest.raises(Blocked, match="its coefficient is 0"):
        read('type: "Eltwise" eltwise_param { coeff: 0 }')


def test_an_unknown_layer_is_no_affine() -> None:
    assert CAFFE.operator(layer_of('type: "Nobody"'), context_of(layer_of('type: "ReLU"'), [FOUR])) == Opaque(UNKNOWN)


def test_statistics_of_a_bottom_without_channels_are_refused() -> None:
    text, blobs = batch_norm()
    with pytest.raises(Blocked, match="no channel axis"):
        read(text, (4,), blobs)


@pytest.mark.parametrize("bottom", [None, (2, -1, 3)])
@pytest.mark.parametrize("row", [ROWS[0], ROWS[9], ROWS[17], ROWS[18]], ids=lambda row: row.text)
def test_weights_and_statistics_say_how_many_channels_there_are(row: Row, bottom: Shape | None) -> None:
    _, blobs = row.sample(np.random.default_rng(0))
    affine, known = read(row.text, bottom, blobs), read(row.text, row.bottom, blobs)
    assert isinstance(affine, Affine)
    assert isinstance(known, Affine)
    assert affine.equals(known)


def test_an_axis_that_counts_from_the_end_needs_the_rank() -> None:
    with pytest.raises(Blocked, match="the shape of 'b0' is unknown"):
        read('type: "Scale" scale_param { axis: -3 }', None, [np.array([2.0, 3.0])])


@pytest.mark.parametrize("text", ['type: "Scale"', 'type: "Bias"'])
def test_a_layer_without_its_values_is_refused(text: str) -> None:
    with pytest.raises(Blocked, match="it has no learned values"):
        read(text)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(Blocked, match="not finite"):
        read('type: "Scale"', blobs=[np.array([1.0, value, 1.0, 1.0])])


def test_statistics_of_another_number_of_channels_are_an_error() -> None:
    text, blobs = batch_norm()
    with pytest.raises(ModelError, match=r"layer 'x' \(BatchNorm\).* 4 .* 6"):
        read(text, (2, 6, 3, 3), blobs)


def test_a_factor_of_0_beside_no_statistics_is_noted_as_never_trained() -> None:
    text, _ = batch_norm()
    layer = layer_of(text, blobs=[np.zeros(4), np.zeros(4), np.zeros(1)])
    context = context_of(layer, [FOUR])
    affine = CAFFE.operator(layer, context)
    assert isinstance(affine, Affine)
    np.testing.assert_allclose(affine.scale, 32.0)
    assert context.notes == ["layer 'x' (BatchNorm): its scale_factor is 0, so it was never trained"]


@pytest.mark.parametrize("assumed", [False, True])
@pytest.mark.parametrize(("choice", "counts"), [("caffe", "as 0, as in Caffe"), ("one", "as they stand")])
def test_a_factor_of_0_beside_statistics_is_the_users_choice_also_where_they_are_assumed(
    choice: Literal["caffe", "one"], counts: str, assumed: bool
) -> None:
    text, blobs = batch_norm("use_global_stats: false" * assumed)
    layer = layer_of(text, blobs=[*blobs[:2], np.zeros(1)])
    context = context_of(layer, [FOUR], assume_global_stats=assumed)
    with pytest.raises(AmbiguousZeroFactor, match="--zero-scale-factor caffe or --zero-scale-factor one"):
        CAFFE.operator(layer, context)
    assert idle_choice_notes([layer], None, choice) == []
    context = context_of(layer, [FOUR], assume_global_stats=assumed)
    context.net.zero_factor = choice
    affine = CAFFE.operator(layer, context)
    k = 1 if choice == "one" else 0
    assert isinstance(affine, Affine)
    scale = 1 / np.sqrt(k * layer.blobs[1].astype(np.float64) + layer.param.batch_norm_param.eps)
    np.testing.assert_allclose(np.broadcast_to(affine.scale, (1, 4))[0], scale)
    np.testing.assert_allclose(np.broadcast_to(affine.shift, (1, 4))[0], -k * layer.blobs[0] * scale)
    said = f"its scale_factor is 0, and its mean and variance count {counts}, as --zero-scale-factor {choice} says"
    assert context.notes == [f"layer 'x' (BatchNorm): {said}"]


def test_arithmetic_stays_in_float64_whatever_is_stored() -> None:
    text, blobs = batch_norm()
    wide = read(text, blobs=[blob.astype(np.float32).astype(np.float64) for blob in blobs])
    narrow = read(text, blobs=[blob.astype(np.float32) for blob in blobs])
    assert isinstance(wide, Affine)
    assert isinstance(narrow, Affine)
    assert narrow.scale.dtype == np.float64
    assert narrow.equals(wide)
