"""Models whose files were once empty, wrong or not written at all, and nets that cost more than they are long."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from cases import TESTS
from command_line import Run
from growing import growth

import bnfold
from bnfold.compare.pairing import pair

FAULTS = TESTS / "faults"


def model(name: str) -> tuple[str, str]:
    return str(FAULTS / name / "net.prototxt"), str(FAULTS / name / "net.caffemodel")


def test_a_caffemodel_whose_last_weights_fold_away_still_holds_the_layers(run: Run) -> None:
    case = model("empty_caffemodel")
    assert run("fold", *case, "-o", "out.prototxt", "-o", "out.onnx").code == 0
    folded = bnfold.load("out.prototxt", "out.caffemodel")
    assert [layer.name for layer in folded.layers] == ["data", "r"]
    assert not any(layer.blobs for layer in folded.layers)
    assert run("fold", "out.prototxt", "out.caffemodel", "-o", "again.prototxt").code == 0
    assert Path("again.caffemodel").read_bytes() == Path("out.caffemodel").read_bytes()


def test_of_shared_weights_that_are_stored_differently_the_last_record_holds_as_in_caffe(run: Run) -> None:
    case = model("shared_params_stored_differently")
    net = bnfold.load(*case)
    # Stored are 3 for c1 and 5 for c2: Caffe copies record after record into their one blob, so b = 2*5*data.
    assert [float(layer.blobs[0].item()) for layer in net.layers if layer.blobs] == [5.0, 5.0]
    assert any("another 'w' stored" in note and "as in Caffe" in note for note in net.notes)
    for command in ("convert", "fold"):
        assert run(command, *case, "-o", "out.prototxt").code == 0
        assert bnfold.compare(net, bnfold.load("out.prototxt", "out.caffemodel"), tolerance=0.0).passed
    folded = bnfold.load("out.prototxt", "out.caffemodel")
    assert [float(layer.blobs[0].item()) for layer in folded.layers if layer.blobs] == [10.0, 5.0]


def test_shared_weights_that_are_stored_alike_keep_their_bytes(run: Run) -> None:
    from wire_encoder import blob, layer

    text = Path(model("shared_params_stored_differently")[0]).read_text()
    Path("net.prototxt").write_text(text)
    same = blob([5.0], 1, 1, 1, 1)
    Path("net.caffemodel").write_bytes(layer("c1", "Convolution", same) + layer("c2", "Convolution", same))
    assert not bnfold.load("net.prototxt", "net.caffemodel").notes
    assert run("convert", "net.prototxt", "net.caffemodel", "-o", "out.prototxt").code == 0
    assert Path("out.caffemodel").read_bytes() == Path("net.caffemodel").read_bytes()


def test_parameters_that_onnx_cannot_say_are_written_as_attributes(run: Run) -> None:
    case = model("opaque_in_front")
    assert run("export", *case, "-o", "out.onnx", "--allow-custom-ops").code == 0
    nodes = {node.name: node for node in onnx.load("out.onnx").graph.node}
    said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in nodes["drop"].attribute}
    assert said == {"python_param_module": b"spatial_dropout", "python_param_layer": b"SpatialDropoutLayer"}


def test_a_repeated_field_becomes_a_list(run: Run) -> None:
    text = Path(model("opaque_in_front")[0]).read_text()
    param = 'prior_box_param { min_size: 3.5 min_size: 7 variance: 0.1 } python_param { module: "spatial_dropout"'
    Path("net.prototxt").write_text(text.replace('python_param { module: "spatial_dropout"', param))
    shutil.copyfile(model("opaque_in_front")[1], "net.caffemodel")
    assert run("export", "net.prototxt", "net.caffemodel", "-o", "out.onnx", "--allow-custom-ops").code == 0
    (node,) = [node for node in onnx.load("out.onnx").graph.node if node.name == "drop"]
    said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert said["prior_box_param_min_size"] == pytest.approx([3.5, 7])
    assert said["prior_box_param_variance"] == pytest.approx([0.1])


# What a net may cost.


def in_place_chain(layers: int) -> str:
    """One blob that layer after layer writes anew."""
    sigmoids = "".join(f'layer {{ name: "s{i}" type: "Sigmoid" bottom: "y" top: "y" }}\n' for i in range(layers))
    return (
        'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 } } }\n'
        f'layer {{ name: "p" type: "Power" bottom: "x" top: "y" power_param {{ power: 2 }} }}\n{sigmoids}'
    )


@pytest.mark.slow
def test_a_chain_of_layers_in_place_costs_as_much_as_it_is_long(run: Run) -> None:
    def fold(layers: int) -> None:
        Path("net.prototxt").write_text(in_place_chain(layers))
        assert run("fold", "net.prototxt", "-o", "out.prototxt").code == 0

    fold(10)  # imports what the others need
    assert growth(lambda: fold(500), lambda: fold(4000), below=24) < 24, "what is quadratic takes 64 times as long"


def test_versions_of_one_blob_are_paired_without_listing_what_comes_after_each() -> None:
    def versions(count: int) -> None:
        names = [f"y@{number}" for number in range(count)] + ["y"]
        assert len(pair(names, names, {}, folded=False)) == len(names)

    # A list for each version is 1.25 billion entries.
    assert growth(lambda: versions(5_000), lambda: versions(50_000), below=25) < 25


def test_versions_are_partners_only_where_the_same_writers_come_after_them() -> None:
    assert pair(["c@conv", "c@bn", "c"], ["c@conv", "c"], {}, folded=False) == {"c": "c"}
    assert pair(["c@conv", "c@bn", "c"], ["c@bn", "c"], {}, folded=False) == {"c@bn": "c@bn", "c": "c"}
