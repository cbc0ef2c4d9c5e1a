"""Single assignment: each write of a blob has a name of its own, and gets the file's name back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.caffe.upgrade import Upgraded
from bnfold.caffe.versions import file_names, single_assignment
from bnfold.caffe.write import prototxt_text
from bnfold.errors import ModelError
from bnfold.net import Net, Use


def read(*lines: str) -> Net:
    """A net of lines like `conv: a b -> c`; one that reads nothing is an input, or called `parameter`."""
    upgraded = []
    for line in lines:
        name, _, blobs = line.partition(":")
        bottoms, _, tops = blobs.partition("->")
        word = "" if bottoms.strip() else {"parameter": "Parameter"}.get(name, "Input")
        upgraded.append(Upgraded(LayerParameter(name=name, type=word, bottom=bottoms.split(), top=tops.split()), None))
    layers, public, _ = single_assignment(upgraded)
    return Net("", layers, {}, public=public)


def line(name: str, bottoms: Iterable[str], tops: Iterable[str]) -> str:
    return f"{name}: {' '.join(bottoms)} -> {' '.join(tops)}"


def blobs(net: Net) -> list[str]:
    return [line(layer.name, layer.bottoms, layer.tops) for layer in net.layers]


def written(net: Net) -> list[str]:
    """The net as a file would have it."""
    names = file_names(net)
    return [
        line(layer.name, map(names.__getitem__, layer.bottoms), map(names.__getitem__, layer.tops))
        for layer in net.layers
    ]


IN_PLACE = ("data: -> data", "conv: data -> c", "bn: c -> c", "relu: c -> c", "ip: c -> ip")


def test_the_last_version_keeps_the_name_and_earlier_ones_are_called_by_their_writer() -> None:
    net = read(*IN_PLACE)
    assert blobs(net) == [
        "data:  -> data", "conv: data -> c@conv", "bn: c@conv -> c@bn", "relu: c@bn -> c", "ip: c -> ip"
    ]  # fmt: skip
    assert net.public == {"c@conv": "c", "c@bn": "c"}


def test_a_net_in_place_comes_back_in_place() -> None:
    net = read(*IN_PLACE)
    assert written(net) == [line.replace("data: ->", "data:  ->") for line in IN_PLACE]


def test_an_input_keeps_its_name_when_it_is_overwritten() -> None:
    net = read("data: -> data", "bn: data -> data", "scale: data -> data", "conv: data -> c")
    assert blobs(net) == [
        "data:  -> data", "bn: data -> data@bn", "scale: data@bn -> data@scale", "conv: data@scale -> c"
    ]  # fmt: skip
    assert written(net) == ["data:  -> data", "bn: data -> data", "scale: data -> data", "conv: data -> c"]


def test_what_a_layer_learned_is_no_input_and_loses_its_name_when_it_is_overwritten() -> None:
    net = read("data: -> data", "parameter: -> p", "scale: p -> p")
    assert blobs(net)[1:] == ["parameter:  -> p@parameter", "scale: p@parameter -> p"]
    assert net.outputs == ["data", "p"]


def test_only_the_same_position_is_in_place() -> None:
    with pytest.raises(ModelError, match=r"layer 'b' .* writes 'y', which layer 'a' has written already"):
        read("d: -> x", "a: x -> y", "b: x y -> y")
    net = read("d: -> x", "a: x -> y", "b: y x -> y")
    assert blobs(net)[2] == "b: y@a x -> y"


def test_a_reader_between_two_versions_reads_the_first() -> None:
    net = read("d: -> x", "a: x -> y", "early: y -> e", "relu: y -> y", "late: y -> l")
    assert [layer.bottoms for layer in net.layers[2:]] == [["y@a"], ["y@a"], ["y"]]


def test_versions_whose_writer_went_leave_no_gap() -> None:
    net = read(*IN_PLACE)
    bn = net.layers[2]
    (use,) = net.uses("c@bn")
    net.reconnect(use, "c@conv")
    net.remove(bn)
    assert written(net)[1:3] == ["conv: data -> c", "relu: c -> c"]


def test_a_version_with_a_second_reader_does_not_share_the_name() -> None:
    # Caffe copies a blob for each of two readers, and then refuses the layer that would write in place.
    net = read(*IN_PLACE)
    net.reconnect(Use(net.layers[4], 0), "c@bn")
    assert written(net)[1:] == ["conv: data -> c@bn", "bn: c@bn -> c@bn", "relu: c@bn -> c", "ip: c@bn -> ip"]


def test_a_version_moved_to_another_position_does_not_share_the_name() -> None:
    net = read("d: -> x", "a: x -> y", "b: y x -> y")
    net.layers[2].bottoms.reverse()
    moved = Net("", net.layers, {}, public=net.public)
    assert written(moved)[1:] == ["a: x -> y@a", "b: x y@a -> y"]


def test_earlier_readers_are_let_through_where_the_file_had_them() -> None:
    lines = ["d:  -> x", "a: x -> y", "early: y -> e", "relu: y -> y", "late: y -> l"]
    assert written(read(*lines)) == lines


def test_a_reader_that_comes_from_another_blob_does_not_share_the_name() -> None:
    # A PriorBox reads the shape alone, so the affine behind its bottom goes back, and the bottom takes the name.
    net = read("d: -> x", "conv: x -> c", "prior: c -> p", "bn: c -> y", "sigmoid: y -> y")
    net.remove(net.layers[3])
    net.rename("c", "y@bn", "y")
    assert written(net)[1:] == ["conv: x -> y@bn", "prior: y@bn -> p", "sigmoid: y@bn -> y"]


def test_whoever_reads_an_input_in_front_of_what_overwrites_it_is_let_through() -> None:
    # It cannot have another name, and nor can an output that overwrites it.
    net = read("data: -> data", "scale: data -> s", "conv: s -> c", "relu: data -> data")
    net.remove(net.layers[1])
    net.reconnect(Use(net.layers[1], 0), "data")
    net.inputs["data"] = (1,)
    assert written(net)[1:] == ["conv: data -> c", "relu: data -> data"]


def test_a_made_up_name_never_meets_a_name_of_the_file() -> None:
    net = read("d: -> x", "a: x -> y", "b: x -> y@a", "relu: y -> y")
    assert blobs(net)[1] == "a: x -> y@a#2"
    assert net.public == {"y@a#2": "y"}


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        read("in: -> image", "a: ghost -> x", "b: late -> x", "c: x -> late", "d: x -> z z")
    assert str(caught.value) == (
        "layer 'a' () reads 'ghost', which no layer makes; "
        "layer 'b' () reads 'late', which is made only later, by layer 'c'; "
        "layer 'b' () writes 'x', which layer 'a' has written already; "
        "layer 'd' () writes 'z', which layer 'd' has written already"
    )


def test_a_bottom_that_nobody_makes_is_guessed_among_the_blobs_in_front() -> None:
    with pytest.raises(ModelError, match=r"'a' \(\) reads 'cnv1', which no layer makes \(did you mean 'conv1'\?\)$"):
        read("in: -> image", "c: image -> conv1", "a: cnv1 -> cnv2")


def test_a_net_without_any_input_is_told_how_to_name_one() -> None:
    with pytest.raises(ModelError, match=r"reads 'data', which no layer makes; the net has no input: name what"):
        read("conv: data -> conv", "relu: conv -> conv")
    with pytest.raises(ModelError, match=r"which no layer makes$"):
        read("input: -> image", "conv: data -> conv", "relu: image -> y")


def test_a_layer_that_works_in_place_is_not_said_to_make_its_own_bottom() -> None:
    with pytest.raises(ModelError, match="reads 'bn', which no layer makes"):
        read("relu: bn -> bn")
    training = Upgraded(LayerParameter(name="bn", bottom=["x"], top=["bn"]), None)
    relu = Upgraded(LayerParameter(name="relu", bottom=["bn"], top=["bn"]), None)
    with pytest.raises(ModelError, match="which only layer 'bn' makes, and that one is not in the TEST net"):
        single_assignment([relu], None, [training])


def test_no_earlier_version_takes_the_name_of_one_that_is_gone() -> None:
    net = read(*IN_PLACE)
    relu, ip = net.layers[-2:]
    net.remove(relu)
    net.reconnect(Use(ip, 0), "c@bn")
    assert written(net) == ["data:  -> data", "conv: data -> c@bn", "bn: c@bn -> c@bn", "ip: c@bn -> ip"]


@pytest.mark.parametrize(
    ("layer", "overlapping"),
    [
        ('type: "Eltwise" bottom: "x" bottom: "other" top: "x"', True),
        ('type: "Eltwise" bottom: "x" bottom: "other" top: "x" eltwise_param { operation: PROD }', False),
        ('type: "Eltwise" bottom: "x" bottom: "other" top: "x" eltwise_param { operation: MAX }', False),
        ('type: "Pooling" bottom: "x" top: "x" pooling_param { kernel_size: 3 pad: 1 }', True),
        ('type: "Concat" bottom: "x" bottom: "other" top: "x"', True),
        ('type: "LRN" bottom: "x" top: "x"', True),
        ('type: "ReLU" bottom: "x" top: "x"', False),
        ('type: "Softmax" bottom: "x" top: "x"', False),
        ('type: "Scale" bottom: "x" bottom: "other" top: "x" scale_param { axis: 0 }', False),
        ('type: "Unknown" bottom: "x" top: "x"', False),
    ],
)
def test_a_layer_that_caffe_cannot_compute_in_place_is_said_and_written_with_a_top_of_its_own(
    layer: str, overlapping: bool
) -> None:
    net = build(
        parse_prototxt(f"""
            input: "data" input_shape {{ dim: 1 dim: 2 dim: 4 dim: 4 }}
            input: "other" input_shape {{ dim: 1 dim: 2 dim: 4 dim: 4 }}
            layer {{ name: "first" type: "TanH" bottom: "data" top: "x" }}
            layer {{ name: "second" {layer} }}
            layer {{ name: "third" type: "TanH" bottom: "x" top: "y" }}
        """)
    )
    said = [note for note in net.notes if "if its top were a blob of its own" in note]
    assert [note.partition(" (")[0] for note in said] == ["layer 'second'"] * overlapping
    first, second = (file_names(net)[blob] for blob in (net.layers[-3].tops[0], net.layers[-2].tops[0]))
    assert (second, first != second) == ("x", overlapping)
    again = build(parse_prototxt(prototxt_text(net)))
    assert again.outputs == net.outputs
    assert not any("blob of its own" in note for note in again.notes)
