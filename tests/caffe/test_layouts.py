"""BatchNorm in the layout of every dialect, by the command line: it computes what its own Caffe computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from command_line import Run, files
from dialect_nets import (
    BETA,
    GAMMA,
    MEAN,
    ONE,
    VARIANCE,
    WRITE,
    ZERO,
    along,
    assert_computes,
    convolved,
    four,
    message,
    normalised,
    types,
    write,
)

from bnfold.net import Array


@dataclass(frozen=True)
class Layout:
    """A dialect's BatchNorm: what the text says, what is stored, what it means, which options it takes to know that."""

    text: str
    blobs: tuple[Array, ...]
    wanted: Array
    options: tuple[str, ...] = ()


BVLC = normalised(MEAN, VARIANCE, 1e-5)
ALL = normalised(MEAN, VARIANCE, 1e-5, GAMMA, BETA)

LAYOUTS = {
    "BVLC": Layout('type: "BatchNorm"', (MEAN * 999.98, VARIANCE * 999.98, ONE * 999.98), BVLC),
    "BVLC, 4-D": Layout('type: "BatchNorm"', (four(MEAN), four(VARIANCE), four(ONE)), BVLC),
    "CuDNN": Layout('type: "CuDNNBatchNorm"', (MEAN * 2, VARIANCE * 2, ONE * 2), BVLC),
    "Intel": Layout(
        'type: "BatchNorm" batch_norm_param { use_weight_bias: true }',
        (MEAN * 10, VARIANCE * 10, ONE * 10, GAMMA, BETA),
        ALL,
    ),
    "Intel with a ReLU": Layout(
        'type: "BatchNorm" batch_norm_param { bias_term: true relu: true }',
        (MEAN * 10, VARIANCE * 10, ONE * 10, GAMMA, BETA),
        np.maximum(ALL, 0),
    ),
    "NVCaffe 0.17": Layout(
        'type: "BatchNorm" batch_norm_param { scale_bias: true eps: 1e-9 }', (MEAN, VARIANCE, ONE, GAMMA, BETA), ALL
    ),
    "NVCaffe 0.16 by its fillers": Layout(
        'type: "BatchNorm" batch_norm_param { scale_filler { value: 1 } }', (MEAN, VARIANCE, ONE, GAMMA, BETA), ALL
    ),
    "NVCaffe's old format": Layout(
        'type: "BatchNorm" batch_norm_param { scale_bias: true }', (MEAN, VARIANCE, ZERO, GAMMA, BETA), ALL
    ),
    "NVCaffe 0.15": Layout('type: "BatchNorm"', (four(GAMMA), four(BETA), four(MEAN), four(VARIANCE)), ALL),
    "Vitis": Layout('type: "BatchNorm"', (*map(four, (GAMMA, BETA, MEAN, VARIANCE)), four(ZERO)), ALL),
    "PSPNet": Layout('type: "BN" bn_param { frozen: true }', tuple(map(four, (GAMMA, BETA, MEAN, VARIANCE))), ALL),
    "PSPNet's eps": Layout(
        'type: "BN" bn_param { eps: 0.25 }',
        tuple(map(four, (GAMMA, BETA, MEAN, VARIANCE))),
        normalised(MEAN, VARIANCE, 0.25, GAMMA, BETA),
    ),
    "SyncBN": Layout('type: "SyncBN"', tuple(blob.reshape(1, -1) for blob in (GAMMA, BETA, MEAN, VARIANCE)), ALL),
    "TSN": Layout(
        'type: "BN" bn_param { frozen: true }',
        tuple(blob.reshape(1, -1) for blob in (GAMMA, BETA, MEAN, 1 / np.sqrt(VARIANCE + 1e-5))),
        ALL,
        ("--batchnorm-layout", "tsn"),
    ),
    "SegNet": Layout(
        'type: "BN" bn_param { bn_mode: INFERENCE }',
        (four(GAMMA), four(BETA)),
        along(GAMMA) * convolved() + along(BETA),
    ),
    "BVLC with factor 0": Layout(
        'type: "BatchNorm"', (MEAN, VARIANCE, ZERO), convolved() / np.sqrt(1e-5), ("--zero-scale-factor", "caffe")
    ),
    "factor 0 that meant 1": Layout('type: "BatchNorm"', (MEAN, VARIANCE, ZERO), BVLC, ("--zero-scale-factor", "one")),
    "a scalar last that is not 0": Layout(
        'type: "BatchNorm"',
        (GAMMA, BETA, MEAN, VARIANCE, ONE * 7),
        ALL,
        ("--batchnorm-layout", "nvcaffe015"),
    ),
    "a mode beside four blobs": Layout(
        'type: "BN" bn_param { bn_mode: INFERENCE }',
        (GAMMA, BETA, MEAN, VARIANCE),
        ALL,
        ("--batchnorm-layout", "pspnet"),
    ),
}


def normalising(layout: Layout) -> None:
    layer_type = layout.text.split('"')[1]
    write(
        f'layer {{ name: "bn" bottom: "c" top: "y" {layout.text} }}',
        message("bn", layer_type, "c", "y", list(layout.blobs)),
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_batchnorm_of_every_layout_folds_to_what_its_caffe_computes(run: Run, name: str) -> None:
    layout = LAYOUTS[name]
    normalising(layout)
    outcome = run("fold", "net.prototxt", "net.caffemodel", *WRITE, *layout.options)
    assert outcome.code == 0, outcome
    assert set(types()) <= {"Input", "Convolution", "ReLU"}
    assert_computes(layout.wanted)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_batchnorm_of_every_layout_is_exported_as_what_its_caffe_computes(run: Run, name: str) -> None:
    layout = LAYOUTS[name]
    normalising(layout)
    outcome = run("export", "net.prototxt", "net.caffemodel", "-o", "out.onnx", *layout.options)
    assert outcome.code == 0, outcome
    assert_computes(layout.wanted)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.options])
@pytest.mark.parametrize("command", ["fold", "export"])
def test_what_can_be_read_in_two_ways_stops_with_the_option_that_decides(run: Run, command: str, name: str) -> None:
    layout = LAYOUTS[name]
    normalising(layout)
    before = files()
    outcome = run(command, "net.prototxt", "net.caffemodel", "-o", "out.onnx")
    assert outcome.code == 2
    assert "layer 'bn'" in outcome.err
    assert layout.options[0] in outcome.err
    assert files() == before


def test_segnets_learning_bn_stays_with_its_reason(run: Run) -> None:
    normalising(Layout('type: "BN"', (four(GAMMA), four(BETA)), ALL))
    outcome = run("fold", "net.prototxt", "net.caffemodel", *WRITE)
    assert outcome.code == 0
    assert types().count("BN") == 1
    assert "LEARN" in outcome.out
    c = convolved()
    centred = c - c.mean((0, 2, 3), keepdims=True)
    assert_computes(along(GAMMA) * centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-9) + along(BETA))


def test_synopsys_may_add_eps_to_the_root(run: Run) -> None:
    normalising(
        Layout('type: "BatchNorm" batch_norm_param { eps: 0.5 add_eps_before_sqrt: false }', (MEAN, VARIANCE, ONE), ALL)
    )
    assert run("fold", "net.prototxt", "net.caffemodel", *WRITE).code == 0
    assert_computes((convolved() - along(MEAN)) / (np.sqrt(along(VARIANCE)) + 0.5))


def test_eps_in_the_root_is_refused_where_nobody_has_it(run: Run) -> None:
    text = 'type: "BatchNorm" batch_norm_param { scale_bias: true add_eps_before_sqrt: false }'
    normalising(Layout(text, (MEAN, VARIANCE, ONE, GAMMA, BETA), ALL))
    outcome = run("fold", "net.prototxt", "net.caffemodel", *WRITE)
    assert outcome.code in (0, 2)
    assert "add_eps_before_sqrt" in outcome.err + outcome.out
