"""A choice of the user that nothing in the network leaves open is said to change nothing, whatever it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cases import golden
from nets import net as parsed
from onnx import parser

import bnfold

PLAIN = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop_offset": "caffe"}, "--crop-offset caffe changes nothing: "),
        ({"crop_offset": "aligned"}, "--crop-offset aligned changes nothing: "),
        ({"zero_scale_factor": "one"}, "--zero-scale-factor one changes nothing: "),
        ({"batchnorm_layout": "pspnet"}, "--batchnorm-layout pspnet changes nothing: "),
        ({"recurrent_state": True}, "--recurrent-state changes nothing: "),
        ({"stages": ["deploy"]}, "--stage deploy changes nothing: "),
        ({"level": 2}, "--level 2 changes nothing: "),
    ],
    ids=str,
)
def test_a_way_of_reading_that_no_layer_needs_changes_nothing(options: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(PLAIN)
    notes = bnfold.load(path, **options).notes
    assert [note.startswith(said) for note in notes] == [True], notes
    assert not bnfold.load(path).notes


def test_a_layout_that_stored_blobs_show_anyhow_changes_nothing() -> None:
    case = golden("bn_eps")
    (note,) = bnfold.load(case.prototxt, case.caffemodel, batchnorm_layout="bvlc").notes
    assert note == "--batchnorm-layout bvlc changes nothing: no layer would be read otherwise without it"
    assert not bnfold.load(case.prototxt, case.caffemodel, batchnorm_layout="nvcaffe").notes


def test_a_factor_of_zero_is_open_until_it_is_chosen() -> None:
    case = golden("bn_scale_factor_zero")
    notes = bnfold.load(case.prototxt, case.caffemodel, zero_scale_factor="caffe").notes
    assert not [note for note in notes if "changes nothing" in note]


def test_a_layout_is_needed_where_no_weights_tell(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(PLAIN)
    assert not bnfold.load(path, batchnorm_layout="nvcaffe").notes


def test_statistics_that_no_batch_is_taken_for_change_nothing() -> None:
    result = bnfold.fold(parsed(PLAIN), assume_global_stats=True)
    assert any(note.startswith("--assume-global-stats changes nothing: ") for note in result.report.notes)
    assert not bnfold.fold(parsed(PLAIN)).report.notes


@pytest.mark.parametrize(
    ("version", "inputs", "idle"),
    [(8, "float[1,4] x, float[4] b", False), (3, "float[1,4] x, float[4] b", True), (8, "float[1,4] x", True)],
)
def test_freezing_initialisers_that_nobody_may_feed_changes_nothing(version: int, inputs: str, idle: bool) -> None:
    text = f'<ir_version: {version}, opset_import: ["" : 13]> g ({inputs}) => (float[1,4] y)'
    model = parser.parse_model(f"{text} <float[4] b = {{1, 2, 3, 4}}> {{ y = Add(x, b) }}")
    assert any("changes nothing" in note for note in bnfold.load(model, freeze_initializers=True).notes) == idle
    assert not bnfold.load(model).notes
