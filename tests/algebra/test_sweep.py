"""Folding whole nets: what goes where, what stays and why."""

from __future__ import annotations

import pytest
from algebra.running import assert_same, net_of, run
from algebra.texts import CONV, PADDED, bn, checked, conv, data, layer, names, power, scale

from bnfold.algebra import Dropped, Folded, Kept, Merged, fold
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.errors import UsageError
from bnfold.net import Layer

# Records.


def test_a_run_of_affines_goes_into_the_convolution_before_it() -> None:
    result = checked(net_of(data() + conv("c", "data") + bn("b", "c") + scale("s", "b")))
    assert result.report.records == [
        Folded("b", "BatchNorm", into=("c",)),
        Folded("s", "Scale", into=("c",)),
    ]
    assert names(result.net) == ["data", "c"]
    assert result.net.layers[1].tops == ["s"]
    report = result.report
    assert (report.layers_before, report.layers_after) == (4, 2)
    assert (report.parameters_before, report.parameters_after) == (20 + 9 + 8, 20)


def test_an_affine_moves_back_through_layers_that_let_it_pass() -> None:
    text = data() + conv("c", "data") + layer("p", "Pooling", "c", "", "pooling_param { pool: MAX kernel_size: 2 }")
    result = checked(net_of(text + bn("b", "p")))
    assert result.report.records == [Folded("b", "BatchNorm", into=("c",), through=("p",))]
    assert [layer.tops for layer in result.net.layers] == [["data"], ["c/b"], ["b"]]


def test_an_affine_behind_a_gated_sum_scales_both_summands_and_shifts_the_free_one() -> None:
    gate = layer("p", "Pooling", "data", "", "pooling_param { pool: AVE global_pooling: true }")
    gate += conv("g", "p") + layer("k", "Sigmoid", "g")
    text = data() + gate + conv("c", "data") + conv("d", "data") + layer("a", "Axpy", "k c d") + bn("b", "a")
    result = checked(net_of(text))
    assert result.report.records == [Folded("b", "BatchNorm", into=("c", "d"), through=("a",))]


POOLED = (
    data()
    + conv("c", "data")
    + layer("p", "Pooling", "c", "", "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }")
    + layer("d", "Eltwise", "p c", "", "eltwise_param { coeff: 1 coeff: -0.5 }")
    + layer("s", "Power", "d", "", "power_param { scale: -3 }")
)


def test_a_scale_that_all_readers_of_a_blob_want_goes_in_front_of_it() -> None:
    result = checked(net_of(POOLED))
    assert result.report.records == [Folded("s", "Power", into=("c",), through=("d", "p"))]


def test_a_scale_that_one_reader_of_a_blob_does_not_want_stays() -> None:
    (kept,) = checked(net_of(POOLED + layer("t", "TanH", "c"))).report.kept
    assert "too, and needs it unchanged" in kept.reason


def test_no_layer_is_written_out_with_its_weights_for_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    powers = (
        layer(f"t{i}", "AbsVal", "d") + layer(f"u{i}", "Power", f"t{i}", "", f"power_param {{ scale: {i} }}")
        for i in (2, 3)
    )
    net = net_of(POOLED + "".join(powers))

    def written(self: object) -> str:
        raise AssertionError("which takes the time of printing arrays, and once for each reader of a blob")

    monkeypatch.setattr(Layer, "__repr__", written)
    assert len(fold(net).report.kept) == 3


@pytest.mark.parametrize("option", ["keep", "exclude"])
def test_a_scale_that_all_readers_want_stops_at_what_its_user_asks_to_leave(option: str) -> None:
    pooled = layer("c", "Pooling", "e", "", "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }")
    net = net_of(data() + conv("e", "data") + POOLED.replace(data() + conv("c", "data"), pooled))
    assert not checked(net).report.kept
    (kept,) = checked(net, **{option: ["e"]}).report.kept
    assert kept.layer == "s"


def test_a_scale_of_which_two_readers_want_different_things_stays() -> None:
    shuffled = layer("q", "ShuffleChannel", "c", "", "shuffle_channel_param { group: 2 }")
    text = data() + conv("c", "data") + shuffled + layer("d", "Eltwise", "q c")
    (kept,) = checked(net_of(text + layer("s", "Scale", "d"))).report.kept
    assert kept.layer == "s"


def test_a_sum_of_one_blob_is_a_scale() -> None:
    doubled = layer("e", "Eltwise", "c", "", "eltwise_param { coeff: -2 }")
    result = checked(net_of(data() + conv("c", "data") + doubled + layer("t", "TanH", "e")))
    assert result.report.records == [Folded("e", "Eltwise", into=("c",))]
    plain = doubled.replace("coeff: -2", "")
    assert checked(net_of(data() + conv("c", "data") + plain + layer("t", "TanH", "e"))).report.records == [
        Dropped("e", "Eltwise")
    ]


THRICE = layer("e", "Eltwise", "c c c", "", "eltwise_param { coeff: 1 coeff: -2.5 coeff: 0.25 }")


def test_a_sum_that_reads_one_blob_several_times_is_a_scale() -> None:
    result = checked(net_of(data() + conv("c", "data") + bn("b", "c") + THRICE.replace('"c"', '"b"')))
    assert result.report.records == [Folded("b", "BatchNorm", into=("c",)), Folded("e", "Eltwise", into=("c",))]
    behind_dropout = layer("d", "Dropout", "c") + layer("e", "Eltwise", "c d") + layer("t", "TanH", "e")
    assert checked(net_of(data() + conv("c", "data") + behind_dropout)).report.records == [
        Dropped("d", "Dropout"),
        Folded("e", "Eltwise", into=("c",)),
    ]


def test_what_cancels_on_the_way_leaves_a_sum_of_one_blob() -> None:
    there_and_back = power("p", "c", "", "scale: -1") + power("q", "p", "", "scale: -1")
    result = checked(net_of(data() + conv("c", "data") + there_and_back + layer("e", "Eltwise", "q c")))
    assert names(result.net) == ["data", "c"]


def test_a_sum_of_one_blob_that_stays_is_the_sum_that_it_was() -> None:
    around = layer("c", "TanH", "data") + THRICE
    result = checked(net_of(data() + around + layer("t", "TanH", "e")))
    assert not result.report.records
    assert [(one.type, one.bottoms) for one in result.net.layers[2:]] == [("Eltwise", ["c"] * 3), ("TanH", ["e"])]
    merged = checked(net_of(data() + around + bn("b", "e") + layer("t", "TanH", "b")))
    assert merged.report.records[0] == Merged(("e",), "Eltwise", into=("b",))
    assert [one.type for one in merged.net.layers[2:]] == ["Scale", "TanH"]
    excluded = fold(net_of(data() + conv("c", "data") + THRICE), exclude="e")
    assert [one.type for one in excluded.net.layers[1:]] == ["Convolution", "Eltwise"]


def test_a_sum_of_one_blob_that_cancels_stays() -> None:
    nothing = THRICE.replace("0.25", "1.5")
    assert not checked(net_of(data() + conv("c", "data") + nothing)).report.records


def test_a_shift_behind_a_sum_of_a_blob_and_its_mean_stays() -> None:
    text = POOLED.replace("kernel_size: 3 stride: 1 pad: 1", "kernel_size: 1").replace("scale: -3", "shift: -3")
    (kept,) = checked(net_of(text)).report.kept
    assert "too, and needs it unchanged" in kept.reason


def test_a_gated_sum_that_reads_a_blob_twice_keeps_the_affine_behind_it() -> None:
    gate = layer("p", "Pooling", "data", "", "pooling_param { pool: AVE global_pooling: true }")
    text = data() + gate + layer("k", "Sigmoid", "p") + conv("c", "data") + layer("a", "Axpy", "k c c") + bn("b", "a")
    (kept,) = checked(net_of(text)).report.kept
    assert "a gated sum that reads a blob twice takes nothing" in kept.reason


def test_an_affine_that_cannot_go_back_goes_forward() -> None:
    result = checked(net_of(data() + bn("b", "data") + conv("c", "b") + conv("d", "b")))
    assert result.report.records == [Folded("b", "BatchNorm", into=("c", "d"), forward=True)]
    assert [layer.bottoms for layer in result.net.layers] == [[], ["data"], ["data"]]


def test_affines_that_cannot_move_become_one_scale() -> None:
    result = checked(net_of(data() + bn("b", "data") + scale("s", "b") + layer("t", "TanH", "s")))
    assert result.report.records == [
        Merged(("b",), "BatchNorm", into=("s",)),
        Kept("s", "Scale", result.report.records[1].reason, "Scale"),  # type: ignore[union-attr]
    ]
    assert names(result.net) == ["data", "s", "t"]


def test_a_batchnorm_that_stays_becomes_a_scale_and_says_why_it_stays() -> None:
    result = checked(net_of(data() + bn("b", "data") + layer("t", "TanH", "b")))
    (kept,) = result.report.kept
    assert (kept.layer, kept.type, kept.now) == ("b", "BatchNorm", "Scale")
    assert kept.reason == (
        "backward: 'data' is an input of the network; "
        "forward: layer 't' (TanH): it is not linear, and makes something else of a factor and of a shift"
    )
    assert result.net.layers[1].type == "Scale"
    assert result.net.layers[1].blobs.shapes == ((4,), (4,))


def test_a_scale_that_stays_is_not_touched() -> None:
    net = net_of(data() + scale("s", "data") + layer("t", "TanH", "s"))
    result = checked(net)
    assert result.net.layers[1].blobs is net.layers[1].blobs
    assert result.net.layers[1].param is net.layers[1].param


def test_an_affine_may_go_into_several_layers_and_affines_at_once() -> None:
    turned = power("q", "data", "", "scale: -1") + layer("r", "ReLU", "q")
    text = data() + conv("c", "data") + turned + layer("j", "Concat", "c r") + layer("pos_scale", "Scale", "j")
    result = checked(net_of(text))
    kept, folded = result.report.records
    assert isinstance(kept, Kept)
    assert (kept.layer, kept.type, kept.now) == ("q", "Power", "Scale")
    assert folded == Folded("pos_scale", "Scale", into=("c", "q"), through=("j", "r"))


def test_affines_that_undo_each_other_but_for_rounding_go() -> None:
    texts = power("p", "t", "", "scale: 3"), power("q", "p", "", f"scale: {1 / 3!r}")
    result = checked(net_of(data() + layer("t", "TanH", "data") + "".join(texts) + layer("u", "TanH", "q")))
    assert names(result.net) == ["data", "t", "u"]


def crop(name: str, start: int) -> str:
    return layer(name, "Crop", "c small", "", f"crop_param {{ axis: 1 offset: {start} offset: 0 offset: 0 }}")


SMALL = layer("small", "Convolution", "data", "", "convolution_param { num_output: 2 kernel_size: 1 }")


def test_readers_that_take_other_channels_of_a_blob_let_it_change() -> None:
    text = data() + SMALL + conv("c", "data") + crop("p", 0) + crop("q", 2) + bn("b", "p") + bn("e", "q")
    result = checked(net_of(text))
    assert result.report.records == [
        Folded("b", "BatchNorm", into=("c",), through=("p",)),
        Folded("e", "BatchNorm", into=("c",), through=("q",)),
    ]


def test_a_reader_that_takes_one_of_the_same_channels_does_not() -> None:
    text = data() + SMALL + conv("c", "data") + crop("p", 0) + crop("q", 1) + bn("b", "p") + layer("t", "TanH", "q")
    (kept,) = checked(net_of(text)).report.kept
    assert "layer 'q' (Crop) reads 'c' too, and needs it unchanged" in kept.reason


def test_a_reader_of_which_one_part_alone_takes_other_channels_does_not() -> None:
    text = data() + SMALL + conv("c", "data") + crop("p", 0) + bn("b", "p") + layer("parts", "Slice", "c", "q r")
    (kept,) = checked(net_of(text + layer("t", "TanH", "q") + layer("u", "TanH", "r"))).report.kept
    assert "layer 'parts' (Slice) reads 'c' too, and needs it unchanged" in kept.reason


def test_statistics_of_the_batch_stay_with_what_stands_behind_them() -> None:
    follows = "batch_norm_param { use_global_stats: false eps: 0.0009765625 }"
    text = data() + conv("c", "data") + layer("b", "BatchNorm", "c", "", follows) + scale("s", "b")
    result = checked(net_of(text))
    assert [kept.layer for kept in result.report.kept] == ["b", "s"]
    assert names(result.net) == ["data", "c", "b", "s"]
    assert result.net.layers[2].type == "BatchNorm"


def test_assuming_global_statistics_folds_them_and_notes_it() -> None:
    param = "batch_norm_param { use_global_stats: false eps: 0.0009765625 }"
    net = net_of(data() + conv("c", "data") + layer("b", "BatchNorm", "c", "", param))
    result = fold(net, assume_global_stats=True)
    assert names(result.net) == ["data", "c"]
    assert len(result.report.notes) == 1
    stored = net_of(data() + conv("c", "data") + layer("b", "BatchNorm", "c", "", param.replace("false", "true")))
    assert_same(run(stored), run(result.net))


# What must survive.


def test_an_output_in_front_of_an_affine_keeps_its_value() -> None:
    result = checked(net_of(data() + conv("c", "data") + layer("t", "TanH", "c") + bn("b", "c")))
    (kept,) = result.report.kept
    assert "layer 't' (TanH) reads 'c' too, and needs it unchanged" in kept.reason


def test_a_kept_blob_survives_and_stops_what_would_change_it() -> None:
    net = net_of(data() + conv("c", "data") + bn("b", "c"))
    result = checked(net, keep=["c"])
    (kept,) = result.report.kept
    assert "'c' is named by --keep" in kept.reason
    assert result.net.producer("c") is not None


def test_a_kept_blob_may_be_one_that_an_affine_makes() -> None:
    result = checked(net_of(data() + conv("c", "data") + bn("b", "c") + layer("t", "TanH", "b")), keep=["b"])
    assert names(result.net) == ["data", "c", "t"]


def test_keep_of_an_unknown_blob_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match=r"--keep nothing: the network has no blob of that name \(there are "):
        fold(net_of(data() + conv("c", "data")), keep=["nothing"])


@pytest.mark.parametrize("pattern", ["b", "*", "[b]", "?"])
def test_an_excluded_affine_is_left_exactly_as_it_is(pattern: str) -> None:
    net = net_of(data() + conv("c", "data") + bn("b", "c"))
    result = checked(net, exclude=[pattern])
    assert result.report.records == [Kept("b", "BatchNorm", "--exclude names it", "BatchNorm")]
    assert result.net.layers[2].blobs is net.layers[2].blobs


def test_an_excluded_layer_neither_absorbs_nor_lets_pass() -> None:
    text = (
        data() + conv("c", "data") + layer("p", "Pooling", "c", "", "pooling_param { kernel_size: 2 }") + bn("b", "p")
    )
    for name in ("c", "p"):
        result = checked(net_of(text), exclude=[name])
        (kept,) = result.report.kept
        assert f"layer '{name}'" in kept.reason
        assert "is excluded" in kept.reason


RECURRENT = """input: "t" input_shape { dim: 4 dim: 1 dim: 3 } input: "n" input_shape { dim: 4 dim: 1 }"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (layer("c", "Convolution", "data", "", CONV), "'c' (Convolution): it has no learned weight"),
        (layer("c", "LayerNorm", "data"), "'c' (LayerNorm): it has no learned weight"),
        (layer("c", "MatMul", "data"), "'c' (MatMul): what it multiplies by was learned"),
        (
            layer("p", "Parameter", "", "p", "parameter_param { shape { dim: 2 dim: 4 dim: 5 dim: 5 } }")
            + layer("c", "Add", "p data"),
            "'p' (Parameter): it has no learned value",
        ),
        (
            RECURRENT + layer("c", "LSTM", "t n", "", "recurrent_param { num_output: 2 }"),
            "'c' (LSTM): it has no learned weight",
        ),
    ],
)
def test_a_net_without_weights_keeps_what_they_would_take(text: str, reason: str) -> None:
    net = build(parse_prototxt(data() + text + power("q", "c")))
    (kept,) = fold(net).report.kept
    assert (kept.layer, reason in kept.reason) == ("q", True), kept.reason


def test_a_layer_whose_name_looks_like_a_pattern_can_be_excluded_by_it() -> None:
    result = checked(net_of(data() + conv("c", "data") + bn("b[1]", "c")), exclude=["b[1]"])
    assert [kept.layer for kept in result.report.kept] == ["b[1]"]


def test_an_excluded_layer_keeps_its_fused_relu() -> None:
    fused = layer("b", "BatchNorm", "c", "", "batch_norm_param { relu: true eps: 0.0009765625 }")
    result = checked(net_of(data() + conv("c", "data") + fused), exclude=["b"])
    assert names(result.net) == ["data", "c", "b"]
    assert result.net.layers[2].param.batch_norm_param.relu


def test_exclude_of_an_unknown_layer_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match=r"--exclude conv\*: the network has no layer of that name"):
        fold(net_of(data() + bn("b", "data")), exclude=["conv*"])


# Several readers, and readings.


def test_every_reader_of_a_blob_may_take_the_affine_in_front_of_it() -> None:
    text = data() + layer("t", "TanH", "data") + power("q", "t") + conv("c", "q", "", PADDED) + conv("d", "q")
    result = checked(net_of(text))
    assert result.report.records == [Folded("q", "Power", into=("c", "d"), forward=True)]


def test_one_reader_that_refuses_stops_the_affine_for_all() -> None:
    result = checked(net_of(data() + bn("b", "data") + conv("c", "b") + layer("t", "TanH", "b")))
    assert [kept.layer for kept in result.report.kept] == ["b"]


def test_an_eltwise_that_reads_a_blob_twice_wants_it_scaled_once() -> None:
    text = data() + conv("c", "data") + conv("d", "data") + layer("e", "Eltwise", "c d c") + layer("s", "Scale", "e")
    result = checked(net_of(text), join=False)
    assert result.report.records == [Folded("s", "Scale", into=("c", "d"), through=("e",))]


def test_a_sum_of_a_blob_with_itself_takes_its_part_of_a_shift() -> None:
    text = data() + conv("c", "data") + layer("e", "Eltwise", "c c", "", "eltwise_param { coeff: 0.5 coeff: 1 }")
    beside = data() + conv("d", "data") + conv("c", "data") + layer("e", "Eltwise", "c d c")
    assert checked(net_of(beside + scale("s", "e")), join=False).report.records == [
        Folded("s", "Scale", into=("c", "d"), through=("e",)),
    ]
    minus = text.replace("coeff: 0.5 coeff: 1", "coeff: 1 coeff: -1")
    (kept,) = checked(net_of(minus + scale("s", "e"))).report.kept
    assert "a sum whose coefficients cancel takes no shift" in kept.reason
    assert list(checked(net_of(minus + layer("s", "Scale", "e"))).report.kept) == []


def test_a_factor_of_a_gate_goes_through_the_product_into_what_reads_it() -> None:
    # The hard sigmoid of MobileNetV3: relu6(x + 3) / 6, times another blob.
    pooled = layer("p", "Pooling", "data", "", "pooling_param { pool: AVE global_pooling: true }") + layer(
        "f", "Flatten", "p"
    )
    gate = power("q", "f", "", "shift: 3") + layer("r", "ReLU6", "q") + power("h", "r", "", "scale: 0.125")
    text = (
        data()
        + pooled
        + gate
        + layer("g", "Scale", "data h", "", "scale_param { axis: 0 }")
        + conv("c", "g", "", PADDED)
    )
    result = checked(net_of(text))
    assert [kept.layer for kept in result.report.kept] == ["q"]
    assert list(result.report.folded) == [Folded("h", "Power", into=("c",), through=("g",), forward=True)]


def test_a_product_of_a_blob_with_itself_refuses_since_the_factor_would_be_squared() -> None:
    product = layer("e", "Eltwise", "c c", "", "eltwise_param { operation: PROD }")
    net = net_of(data() + conv("c", "data") + product + power("q", "e"))
    (kept,) = checked(net).report.kept
    assert "layer 'e' (Eltwise) reads 'c' 2 times, and wants 1 changed" in kept.reason


def test_a_product_of_which_no_factor_takes_an_affine_says_why_the_first_does_not() -> None:
    product = layer("e", "Eltwise", "t data", "", "eltwise_param { operation: PROD }")
    (kept,) = checked(net_of(data() + layer("t", "TanH", "data") + product + power("q", "e"))).report.kept
    assert "layer 't' (TanH)" in kept.reason


def test_an_affine_on_both_ways_to_one_layer_is_absorbed_once_as_their_composition() -> None:
    halves = layer("half", "Slice", "c", "x y", "slice_param { slice_point: 1 }")
    text = data() + conv("c", "data") + halves + layer("r", "ReLU", "x") + layer("j", "Concat", "y r")
    result = checked(net_of(text + layer("pos_scale", "Scale", "j")))
    assert result.report.records == [Folded("pos_scale", "Scale", into=("c",), through=("j", "half", "r"))]


def test_a_shift_goes_into_the_branch_of_a_sum_that_can_take_it() -> None:
    text = data() + layer("t", "TanH", "data") + conv("c", "data") + layer("e", "Eltwise", "t c")
    result = checked(net_of(text + layer("h", "Bias", "e")))
    assert result.report.records == [Folded("h", "Bias", into=("c",), through=("e",))]


def test_a_convolution_of_two_blobs_takes_no_affine_that_only_one_of_them_has() -> None:
    both = conv("c", "data other", "x y")
    text = data() + conv("o", "data", "other") + both + bn("b", "x") + conv("p", "b") + conv("q", "y")
    assert [
        kept.layer for kept in checked(net_of(text.replace(conv("p", "b"), layer("p", "TanH", "b")))).report.kept
    ] == ["b"]
    forward = data() + conv("o", "data", "other") + power("b", "data") + conv("c", "b other", "x y")
    assert [kept.layer for kept in checked(net_of(forward)).report.kept] == ["b"]


# Looking again.


def test_an_affine_that_another_one_went_into_is_looked_at_again_and_so_are_those_that_it_goes_into() -> None:
    """Only when l has gone back into k do both sides of g have one scale; then k goes forward, and m with it."""
    text = data(6) + layer("k", "Scale", "data") + layer("thirds", "Slice", "k", "a b c")
    text += (
        layer("r", "ReLU", "c") + scale("m", "r") + layer("v", "TanH", "data") + layer("w", "Slice", "v", "w1 w2 w3")
    )
    text += layer("e", "Eltwise", "m w1") + conv("f", "e") + layer("x", "TanH", "w2") + layer("y", "TanH", "w3")
    text += power("l", "b") + layer("g", "Eltwise", "a l") + conv("h", "g")
    net = net_of(text, k=[[2, 2, 1, 1, 0.5, 0.5]], m=[[2, 2], [0.25, -0.5]])
    result = checked(net)
    assert [kept.layer for kept in result.report.kept] == []


def test_an_affine_that_takes_one_part_and_lets_another_pass_does_neither() -> None:
    """What went into `b` on the way over `d` would be lost under what is left of `b` behind the way over `e`."""
    text = data() + conv("c", "data") + layer("r", "ReLU", "c") + scale("b", "r")
    text += layer("cut", "Slice", "b", "d e") + layer("f", "ReLU", "d") + layer("g", "ReLU", "e")
    text += layer("cat", "Concat", "f g") + layer("s", "Scale", "cat")
    net = net_of(text, b=[[2, -3, 1e-200, -2e-200], [0.5, 2, 3, 4]], s=[[3, 0.5, 1e-120, 2e-120]])
    kept = checked(net).report.kept
    assert [(record.layer, "layer 'b' (Scale) is met twice" in record.reason) for record in kept] == [
        ("b", False),
        ("s", True),
    ]
