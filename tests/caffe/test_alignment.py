"""A Crop without offset starts where Caffes before 2016 put it, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nets import net as parsed

import bnfold
from bnfold.net import Net


def hed(more: str = "") -> str:
    """Two side outputs of an edge detector, cut to the image."""
    return f"""
input: "data" input_shape {{ dim: 1 dim: 3 dim: 40 dim: 48 }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 4 pad: 35 kernel_size: 3 }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "crop1" type: "Crop" bottom: "conv1" bottom: "data" top: "up1" {more} }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "up" type: "Deconvolution" bottom: "pool1" top: "up"
  convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 }} }}
layer {{ name: "crop2" type: "Crop" bottom: "up" bottom: "data" top: "up2" {more} }}
"""


def offsets(net: Net) -> list[list[int]]:
    return [list(layer.param.crop_param.offset) for layer in net.layers if layer.type == "Crop"]


def test_without_a_choice_it_is_aligned_and_both_readings_are_said() -> None:
    net = parsed(hed())
    assert offsets(net) == [[34, 34], [35, 35]]
    first, second = [note for note in net.notes if "Crop" in note]
    assert first == (
        "layer 'crop1' (Crop) says no offset: it is read as Caffes before 2016 aligned it, from 34, 34 on; today's "
        "would cut from 0, 0 on; choose with --crop-offset aligned or --crop-offset caffe"
    )
    assert "35, 35" in second


@pytest.mark.parametrize(("choice", "expected"), [("caffe", [[0], [0]]), ("aligned", [[34, 34], [35, 35]])])
def test_a_choice_holds_and_is_written(choice: Any, expected: list[list[int]], tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(hed())
    net = bnfold.load(path, crop_offset=choice)
    assert offsets(net) == expected
    assert not [note for note in net.notes if "Crop" in note]
    bnfold.save_caffe(net, tmp_path / "out.prototxt")
    assert offsets(bnfold.load(tmp_path / "out.prototxt")) == expected


def test_a_crop_of_todays_words_starts_where_today_does() -> None:
    assert offsets(parsed(hed("crop_param { axis: 2 }"))) == [[], []]


@pytest.mark.parametrize(
    "of",
    [
        'input: "other" input_shape { dim: 1 dim: 4 dim: 9 dim: 9 }',
        'layer { name: "other" type: "Convolution" bottom: "data" top: "other" '
        "convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }",
    ],
    ids=["of nothing in common", "of another scale"],
)
def test_where_older_caffes_stopped_today_is_meant(of: str) -> None:
    net = parsed(
        'input: "data" input_shape { dim: 1 dim: 4 dim: 32 dim: 32 }'
        f'{of} layer {{ name: "crop" type: "Crop" bottom: "data" bottom: "other" top: "y" }}'
    )
    assert offsets(net) == [[]]
    assert not net.notes
