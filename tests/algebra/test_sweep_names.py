"""Names after folding: layers in place, new names, layers that do nothing, and weights shared by name."""

from __future__ import annotations

import pytest
from algebra.running import net_of, run
from algebra.texts import CONV, bn, checked, conv, data, layer, names, power, scale

from bnfold.algebra import Dropped, Folded, Kept, Merged, fold
from bnfold.net import Net

# In place, and names.


def test_a_net_in_place_stays_in_place_under_its_names() -> None:
    text = data() + conv("c", "data", "x") + bn("b", "x", "x") + scale("s", "x", "x") + layer("r", "ReLU", "x", "x")
    result = checked(net_of(text + conv("d", "x")))
    assert names(result.net) == ["data", "c", "r", "d"]
    assert [layer.tops for layer in result.net.layers] == [["data"], ["x@s"], ["x"], ["d"]]
    assert result.net.public == {"x@s": "x"}


def test_an_affine_moved_through_layers_in_place_takes_their_names_along() -> None:
    text = data() + conv("c", "data", "x") + layer("r", "ReLU", "x", "x") + layer("pos_scale", "Scale", "x", "y")
    result = checked(net_of(text + layer("t", "TanH", "y")))
    assert result.net.public_name(result.net.layers[1].tops[0]) == "y"
    assert result.net.layers[2].tops == ["y"]


def test_a_blob_that_is_read_before_it_is_overwritten_keeps_its_first_value() -> None:
    text = data() + conv("c", "data", "x") + layer("t", "TanH", "x") + bn("b", "x", "x")
    assert [kept.layer for kept in checked(net_of(text)).report.kept] == ["b"]


def test_the_blob_of_an_affine_that_went_forward_leaves_no_wrong_value_under_its_name() -> None:
    text = data() + conv("c", "data", "x") + layer("r", "ReLU", "x", "x") + bn("b", "x", "x") + conv("d", "x")
    result = checked(net_of(text))
    assert names(result.net) == ["data", "c", "r", "d"]
    assert "x" not in run(result.net)


def test_a_new_name_never_meets_one_that_is_there() -> None:
    pool = layer("p", "Pooling", "c", "", "pooling_param { kernel_size: 2 }")
    text = data() + conv("c", "data") + pool + bn("b", "p") + layer("t", "TanH", "data", "c/b")
    result = checked(net_of(text))
    assert result.net.layers[1].tops == ["c/b_2"]


def test_names_do_not_grow_with_the_number_of_affines_that_moved() -> None:
    text = (
        data() + conv("c", "data") + layer("r", "ReLU", "c") + power("q1", "r") + power("q2", "q1") + power("q3", "q2")
    )
    result = checked(net_of(text))
    assert result.net.layers[1].tops == ["c/q3"]


# Layers that do nothing.


def test_layers_that_do_nothing_are_dropped() -> None:
    text = (
        data()
        + conv("c", "data")
        + layer("p", "Power", "c")
        + layer("d", "Dropout", "p")
        + layer("j", "Concat", "d")
        + layer("s", "Split", "j", "x y")
    )
    result = checked(net_of(text + layer("t", "TanH", "x") + layer("u", "TanH", "y")))
    assert names(result.net) == ["data", "c", "t", "u"]
    dropped = {"p": "Power", "d": "Dropout", "j": "Concat", "s": "Split"}
    assert result.report.records == [Dropped(name, layer_type) for name, layer_type in dropped.items()]


def test_a_dropped_layer_leaves_the_output_its_name() -> None:
    result = checked(net_of(data() + conv("c", "data") + layer("d", "Dropout", "c")))
    assert [layer.tops for layer in result.net.layers] == [["data"], ["d"]]


@pytest.mark.parametrize("layer_type", ["Dropout", "Power"])
def test_a_layer_that_does_nothing_stays_where_both_its_names_must(layer_type: str) -> None:
    net = net_of(data() + conv("c", "data") + layer("d", layer_type, "c"))
    result = checked(net, keep=["c"])
    assert result.report.records == [
        Kept("d", layer_type, "it changes nothing, but both 'c' and 'd' must stay", layer_type),
    ]
    assert names(checked(net_of(data() + layer("d", layer_type, "data"))).net) == ["data", "d"]


@pytest.mark.parametrize(
    ("bottom", "through"),
    [("c", ""), ("p", layer("p", "Pooling", "c", "", "pooling_param { pool: AVE global_pooling: true }"))],
)
@pytest.mark.parametrize("reader", ["PriorBox", "Crop"])
def test_an_output_gets_no_reader_of_its_shape_since_it_would_be_none_in_the_file(
    bottom: str, through: str, reader: str
) -> None:
    bottoms = {"PriorBox": f"{bottom} data", "Crop": f"data {bottom}"}[reader]
    param = {"PriorBox": "prior_box_param { min_size: 2 }", "Crop": "crop_param { axis: 2 offset: 0 }"}[reader]
    text = data() + conv("c", "data") + through + bn("b", bottom) + layer("r", reader, bottoms, "", param)
    net = net_of(text)
    result = checked(net)
    read = {bottom for layer in result.net.layers for bottom in layer.bottoms}
    assert read.isdisjoint(net.outputs)
    (kept,) = result.report.kept
    said = f"layer 'r' ({reader}) reads '{bottom}', whose place 'b' would take, and what is read is no output"
    assert said in kept.reason
    assert checked(net_of(text + layer("t", "TanH", "b"))).report.kept == []


def test_affines_that_cancel_are_dropped_together() -> None:
    text = data() + layer("t", "TanH", "data") + power("p", "t", "", "scale: -4 shift: 1") + layer("u", "TanH", "p")
    cancels = power("q", "p", "", "scale: -0.25 shift: 0.25") + layer("u", "TanH", "q")
    result = checked(net_of(text.replace(layer("u", "TanH", "p"), cancels)))
    assert names(result.net) == ["data", "t", "u"]
    assert result.report.records == [Merged(("p",), "Power", into=("q",)), Dropped("q", "Power")]


def test_a_dropout_whose_bottom_has_an_unknown_shape_is_dropped_all_the_same() -> None:
    text = data() + layer("m", "Mystery", "data") + layer("d", "Dropout", "m") + layer("n", "Mystery", "d")
    assert names(fold(net_of(text)).net) == ["data", "m", "n"]


def test_a_dropout_that_scales_is_an_affine() -> None:
    text = data() + conv("c", "data")
    net = net_of(text + layer("d", "Dropout", "c", "", "dropout_param { dropout_ratio: 0.25 scale_train: false }"))
    assert checked(net).report.records == [Folded("d", "Dropout", into=("c",))]


# Shared weights.


def sharing(*layers: str) -> str:
    named = 'param { name: "w" } param { name: "b" } ' + CONV
    return data() + conv("c", "data", "", named) + conv("d", "data", "", named) + "".join(layers)


def share_names(net: Net) -> list[tuple[str, ...]]:
    return [layer.param_names for layer in net.layers if layer.type == "Convolution"]


def test_weights_that_come_out_equal_stay_shared() -> None:
    net = net_of(sharing(power("p", "c"), power("q", "d")))
    result = checked(net)
    assert share_names(result.net) == [("w", "b"), ("w", "b")]
    assert result.report.notes == []


def test_weights_that_come_out_different_are_shared_no_more_and_that_is_noted() -> None:
    net = net_of(sharing(power("p", "c")))
    result = checked(net)
    assert share_names(result.net) == [("", ""), ("", "")]
    assert result.report.notes == [
        "'w' is no longer shared: 'c', 'd' came out different",
        "'b' is no longer shared: 'c', 'd' came out different",
    ]
    assert share_names(net) == [("w", "b"), ("w", "b")]


def test_only_the_blob_that_differs_is_shared_no_more() -> None:
    result = checked(net_of(sharing(layer("h", "Bias", "c"))))
    assert share_names(result.net) == [("w", ""), ("w", "")]


def test_a_shared_scale_that_took_another_affine_in_has_its_own_values_and_that_is_noted() -> None:
    named = 'param { name: "g" } param { name: "h" } scale_param { bias_term: true }'
    text = data() + layer("t", "TanH", "data") + bn("n", "data") + layer("a", "Scale", "n", "", named)
    text += layer("b", "Scale", "t", "", named) + layer("u", "TanH", "a") + layer("v", "TanH", "b")
    result = checked(net_of(text))
    assert [kept.layer for kept in result.report.kept] == ["a", "b"]
    assert result.report.notes == ["layer 'a' (Scale): it shared its values by name, and has its own now"]
    assert [layer.param_names for layer in result.net.layers if layer.type == "Scale"] == [("", ""), ("g", "h")]
