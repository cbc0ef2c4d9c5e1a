"""Linear layers take an affine from either side exactly: by the oracle in float64, and to half a unit of float32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from algebra.rows import (
    Array,
    Kind,
    absorb_backward,
    absorb_forward,
    any_affine,
    applied,
    channel_affine,
    context_of,
    difference,
    keeps_zero,
    layer_of,
    operator_of,
    run,
    signed,
)
from algebra.running import net_of
from algebra.running import run as run_net
from google.protobuf import text_format
from seeds import seeded

import bnfold
from bnfold.algebra import absorb as laws
from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Constant, Linear, Port
from bnfold.algebra.records import Blocked
from bnfold.caffe.frontend import CAFFE
from bnfold.caffe.operators import BACKWARD_ONLY, FORWARD_ONLY, LINEAR
from bnfold.net import Blobs, Layer, Shape


@dataclass(frozen=True)
class Row:
    """A linear layer: what it is, what it says, what it reads, its weight, and what it takes from in front."""

    name: str
    type: str
    param: str
    bottom: Shape
    weight: Shape
    forward: Kind | None = any_affine
    steps: Shape | None = None

    def read(self, bottom: Array) -> list[Array]:
        """What it reads: beside the bottom perhaps places, which no affine changes."""
        return [bottom] if self.steps is None else [bottom, np.random.default_rng(1).normal(size=self.steps)]

    def shapes(self) -> list[Shape]:
        return [self.bottom] if self.steps is None else [self.bottom, self.steps]

    def text(self, bias: bool) -> str:
        fields = {
            "Convolution3D": "convolution3d_param",
            "Deconvolution3D": "convolution3d_param",
            "DeformableConvolution": "deformable_convolution_param",
            "Embed": "embed_param",
            "InnerProduct": "inner_product_param",
        }
        field = fields.get(self.type, "convolution_param")
        return f'type: "{self.type}" {field} {{ {self.param} bias_term: {"true" if bias else "false"} }}'

    def outputs(self) -> int:
        return int(self.param.split("num_output: ")[1].split()[0])

    def layer(self, blobs: list[Array], bias: bool) -> Layer:
        return layer_of(self.text(bias), len(self.shapes()), blobs=blobs)

    def sample(self, rng: np.random.Generator, bias: bool) -> tuple[Array, list[Array]]:
        blobs = [signed(rng, self.weight), signed(rng, (self.outputs(),))]
        if self.type == "Embed":
            return rng.integers(0, self.weight[0], self.bottom).astype(np.float64), blobs[: 1 + bias]
        return signed(rng, self.bottom), blobs[: 1 + bias]


ROWS = [
    Row("plain", "Convolution", "num_output: 5 kernel_size: 3", (2, 4, 6, 6), (5, 4, 3, 3)),
    Row("strided", "Convolution", "num_output: 5 kernel_size: 3 stride: 2", (2, 4, 6, 6), (5, 4, 3, 3)),
    Row("padded", "Convolution", "num_output: 5 kernel_size: 3 pad: 1", (2, 4, 6, 6), (5, 4, 3, 3), keeps_zero),
    Row(
        "padded one way",
        "Convolution",
        "num_output: 5 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1",
        (2, 4, 6, 6),
        (5, 4, 1, 3),
        keeps_zero,
    ),
    Row("rectangular", "Convolution", "num_output: 3 kernel_h: 1 kernel_w: 3", (2, 4, 6, 6), (3, 4, 1, 3)),
    Row("grouped", "Convolution", "num_output: 6 kernel_size: 2 group: 2", (2, 4, 5, 5), (6, 2, 2, 2)),
    Row("depthwise", "Convolution", "num_output: 4 kernel_size: 2 group: 4", (2, 4, 5, 5), (4, 1, 2, 2)),
    Row("depthwise times 2", "Convolution", "num_output: 8 kernel_size: 2 group: 4", (2, 4, 5, 5), (8, 1, 2, 2)),
    Row("dilated", "Convolution", "num_output: 3 kernel_size: 2 dilation: 2", (2, 4, 6, 6), (3, 4, 2, 2)),
    Row("one axis", "Convolution", "num_output: 3 kernel_size: 2", (2, 4, 6), (3, 4, 2)),
    Row("axis -3 of four", "Convolution", "num_output: 3 kernel_size: 2 axis: -3", (2, 4, 5, 6), (3, 4, 2, 2)),
    Row("three axes", "Convolution", "num_output: 3 kernel_size: 2", (1, 4, 3, 4, 3), (3, 4, 2, 2, 2)),
    Row("tengine", "DepthwiseConvolution", "num_output: 4 kernel_size: 2 group: 4", (2, 4, 5, 5), (4, 1, 2, 2)),
    Row(
        "three sides",
        "Convolution",
        "num_output: 5 kernel_size: 3 stride: 2 pad_l: 1 pad_t: 2 pad_b: 1",
        (2, 4, 6, 6),
        (5, 4, 3, 3),
        keeps_zero,
    ),
    Row(
        "same",
        "Convolution",
        "num_output: 5 kernel_size: 3 stride: 2 pad_type: 1",
        (2, 4, 6, 6),
        (5, 4, 3, 3),
        keeps_zero,
    ),
    Row("a film", "Convolution3D", "num_output: 3 kernel_size: 2 kernel_depth: 1", (1, 4, 3, 4, 3), (3, 4, 1, 2, 2)),
    Row(
        "a film of shapes",
        "NdConvolution",
        "num_output: 3 kernel_shape { dim: 1 dim: 2 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 1 }",
        (1, 4, 3, 5, 3),
        (3, 4, 1, 2, 2),
    ),
    Row(
        "a longer film",
        "Deconvolution3D",
        "num_output: 3 kernel_size: 3 stride: 2 pad: 1 kernel_depth: 2 temporal_stride: 3",
        (1, 4, 2, 4, 3),
        (4, 3, 2, 3, 3),
        keeps_zero,
    ),
    Row(
        "depthwise times 2, without group",
        "ConvolutionDepthwise",
        "num_output: 8 kernel_size: 2",
        (2, 4, 5, 5),
        (8, 1, 2, 2),
    ),
    Row("hisilicon", "DepthwiseConv", "num_output: 4 kernel_size: 3 stride: 2", (2, 4, 7, 5), (4, 1, 3, 3)),
    Row("without group", "ConvolutionDepthwise", "num_output: 4 kernel_size: 2", (2, 4, 5, 5), (4, 1, 2, 2)),
    Row("up", "Deconvolution", "num_output: 3 kernel_size: 3 stride: 2 pad: 1", (2, 4, 3, 3), (4, 3, 3, 3), keeps_zero),
    Row(
        "up grouped",
        "Deconvolution",
        "num_output: 6 kernel_size: 2 stride: 2 group: 2",
        (2, 4, 3, 3),
        (4, 3, 2, 2),
        keeps_zero,
    ),
    Row(
        "up depthwise", "Deconvolution", "num_output: 4 kernel_size: 2 group: 4", (2, 4, 3, 3), (4, 1, 2, 2), keeps_zero
    ),
    Row(
        "up widening", "Deconvolution", "num_output: 12 kernel_size: 2 group: 4", (2, 4, 3, 3), (4, 3, 2, 2), keeps_zero
    ),
    Row("up pointwise", "Deconvolution", "num_output: 6 kernel_size: 1 group: 2", (2, 4, 3, 3), (4, 3, 1, 1)),
    Row("plane", "InnerProduct", "num_output: 5", (2, 4, 2, 3), (5, 24)),
    Row("vector", "InnerProduct", "num_output: 5", (2, 4), (5, 4)),
    Row("axis -1 of two", "InnerProduct", "num_output: 5 axis: -1", (2, 4), (5, 4)),
    Row("transposed", "InnerProduct", "num_output: 5 transpose: true", (2, 4, 2, 3), (24, 5)),
    Row(
        "up without group",
        "DepthwiseDeconvolution",
        "num_output: 4 kernel_size: 2",
        (2, 4, 3, 3),
        (4, 1, 2, 2),
        keeps_zero,
    ),
    Row(
        "moved",
        "DeformableConvolution",
        "num_output: 6 kernel_size: 2 stride: 2 pad: 1 group: 2 deformable_group: 2",
        (2, 4, 5, 5),
        (6, 2, 2, 2),
        keeps_zero,
        (2, 16, 3, 3),
    ),
    Row("table", "Embed", "num_output: 5 input_dim: 3", (7,), (3, 5), None),
]


def run_change(row: Row, change: Layer, bottom: Array) -> Array:
    """The layer as it is after absorbing, by the oracle from its own parameters."""
    return run(text_format.MessageToString(change.param), row.read(bottom), blobs=list(change.blobs))[0]


def test_a_factor_on_the_steps_of_a_deformable_convolution_stays() -> None:
    text = """
        input: "x" input_shape { dim: 2 dim: 4 dim: 6 dim: 6 } input: "s" input_shape { dim: 2 dim: 18 dim: 6 dim: 6 }
        layer { name: "factor" type: "Scale" bottom: "s" top: "f" scale_param { bias_term: true } }
        layer { name: "l" type: "DeformableConvolution" bottom: "x" bottom: "f" top: "y"
                deformable_convolution_param { num_output: 4 kernel_size: 3 pad: 1 deformable_group: 1 } }
    """
    net = net_of(text, 3)
    folded = bnfold.fold(net)
    assert [kept.layer for kept in folded.report.kept] == ["factor"]
    without = net_of(text.replace('bottom: "f"', 'bottom: "s"'), 3)
    assert np.abs(run_net(without)["y"] - run_net(net)["y"]).max() > 1e-3


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.type} {row.name}")
@seeded(6)
def test_an_affine_behind_a_linear_layer_goes_into_it(row: Row, seed: int) -> None:
    rng, bias = np.random.default_rng(seed), bool(seed % 2)
    bottom, blobs = row.sample(rng, bias)
    affine = any_affine(rng, row.outputs())
    change = absorb_backward(row.layer(blobs, bias), row.shapes(), affine)
    wanted = applied(affine, run(row.text(bias), row.read(bottom), blobs=blobs)[0])
    assert difference([wanted], [run_change(row, change, bottom)]) <= 1e-12
    assert change.blobs.shapes == (row.weight, (row.outputs(),))


@pytest.mark.parametrize("row", [row for row in ROWS if row.forward], ids=lambda row: f"{row.type} {row.name}")
@seeded(6)
def test_an_affine_in_front_of_a_linear_layer_goes_into_it(row: Row, seed: int) -> None:
    rng, bias = np.random.default_rng(seed), bool(seed % 2)
    bottom, blobs = row.sample(rng, bias)
    assert row.forward is not None
    affine = row.forward(rng, row.bottom[1])
    change = absorb_forward(row.layer(blobs, bias), row.shapes(), affine)
    wanted = run(row.text(bias), row.read(applied(affine, bottom)), blobs=blobs)[0]
    assert difference([wanted], [run_change(row, change, bottom)]) <= 1e-12


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.forward is keeps_zero], ids=lambda row: f"{row.type} {row.name}"
)
def test_a_shift_in_front_of_zeros_refuses_since_it_would_be_wrong_at_the_border(row: Row) -> None:
    rng = np.random.default_rng(0)
    bottom, blobs = row.sample(rng, bias=True)
    affine = any_affine(rng, row.bottom[1])
    with pytest.raises(Blocked, match="a shift in front of"):
        absorb_forward(row.layer(blobs, bias=True), row.shapes(), affine)
    # Doing it anyway: scale the weight, and let the bias take what the shifts sum to where nothing is missing.
    scaled = absorb_forward(row.layer(blobs, bias=True), row.shapes(), affine.without_shift())
    inside = run_change(row, replace(scaled, blobs=Blobs([blobs[0], 0 * blobs[1]])), applied(affine, 0 * bottom))
    middle = tuple(size // 2 for size in inside.shape[2:])
    anyway = replace(scaled, blobs=Blobs([scaled.blobs[0], blobs[1] + inside[(0, slice(None), *middle)]]))
    wanted = run(row.text(bias=True), row.read(applied(affine, bottom)), blobs=blobs)[0]
    assert difference([wanted], [run_change(row, anyway, bottom)]) > 1e-3


def test_every_row_of_the_tables_has_its_properties() -> None:
    elsewhere = {"LayerNorm", "Local", "Normalize", "Parameter"} | FORWARD_ONLY.keys()
    assert {row.type for row in ROWS} == set(LINEAR) - elsewhere
    assert {row.type for row in ROWS if row.forward} == LINEAR.keys() - BACKWARD_ONLY.keys() - elsewhere


def local_of(pad: int, bias: bool) -> tuple[str, Array, list[Array]]:
    """Text, bottom and blobs of a Local whose top is (2, 5, 2 + 2*pad, 3 + 2*pad)."""
    rng = np.random.default_rng(0)
    text = f'type: "Local" local_param {{ num_output: 5 kernel_size: 2 pad: {pad} bias_term: {str(bias).lower()} }}'
    pixels = (2 + 2 * pad) * (3 + 2 * pad)
    return (
        text,
        signed(rng, (2, 4, 3, 4)),
        [signed(rng, (5, 1, 16, pixels)), signed(rng, (1, 1, 5, pixels))][: 1 + bias],
    )


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_local_takes_what_stands_behind_it_and_varies_along_any_axis(axis: int, pad: int, bias: bool) -> None:
    text, bottom, blobs = local_of(pad, bias)
    (top,) = run(text, [bottom], blobs=blobs)
    rng = np.random.default_rng(1)
    affine = Affine.along(axis, signed(rng, (top.shape[axis],)), signed(rng, (top.shape[axis],)) * bias)
    layer = layer_of(text, blobs=blobs)
    changed = absorb_backward(layer, [bottom.shape], affine)
    assert difference([applied(affine, top)], run(text, [bottom], blobs=list(changed.blobs))) <= 1e-12
    assert changed.blobs.shapes == layer.blobs.shapes
    if not bias:
        with pytest.raises(Blocked, match="it has no bias"):
            absorb_backward(layer, [bottom.shape], any_affine(rng, 5))


@pytest.mark.parametrize("pad", [0, 1])
def test_a_local_takes_what_stands_in_front_of_it_but_no_shift_at_a_padded_border(
    pad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, bottom, blobs = local_of(pad, bias=True)
    layer, affine = layer_of(text, blobs=blobs), any_affine(np.random.default_rng(1), 4)
    if pad:
        with pytest.raises(Blocked, match="a shift in front of its padding"):
            absorb_forward(layer, [bottom.shape], affine)
        with monkeypatch.context() as patch:
            patch.setattr("bnfold.algebra.absorb.block", lambda reason: None)
            anyway = absorb_forward(layer, [bottom.shape], affine)
        wanted = run(text, [applied(affine, bottom)], blobs=blobs)
        assert difference(wanted, run(text, [bottom], blobs=list(anyway.blobs))) > 1e-3
        affine = affine.without_shift()
    changed = absorb_forward(layer, [bottom.shape], affine)
    wanted = run(text, [applied(affine, bottom)], blobs=blobs)
    assert difference(wanted, run(text, [bottom], blobs=list(changed.blobs))) <= 1e-12
    with pytest.raises(Blocked, match="along axis 2"):
        absorb_forward(layer, [bottom.shape], Affine.along(2, [1.0, 2.0, 3.0], 0.0))


def test_a_local_without_a_bias_hands_a_shift_from_in_front_on() -> None:
    net = net_of(
        """
        input: "x" input_shape { dim: 2 dim: 4 dim: 6 dim: 6 }
        layer { name: "scale" type: "Scale" bottom: "x" top: "s" scale_param { bias_term: true } }
        layer { name: "l" type: "Local" bottom: "s" top: "l"
                local_param { num_output: 3 kernel_size: 4 bias_term: false } }
        layer { name: "fc" type: "InnerProduct" bottom: "l" top: "y" inner_product_param { num_output: 2 } }
        """,
        3,
    )
    folded = bnfold.fold(net)
    assert [layer.type for layer in folded.net.layers] == ["Input", "Local", "InnerProduct"]
    assert difference([run_net(net)["y"]], [run_net(folded.net)["y"]]) <= 1e-12


def test_the_scale_and_shift_of_a_layer_norm_take_an_affine() -> None:
    rng = np.random.default_rng(0)
    bottom, blobs = signed(rng, (2, 4, 3)), [signed(rng, (4, 3)), signed(rng, (4, 3))]
    text = 'type: "LayerNorm"'
    affine = any_affine(rng, 4)
    wanted = applied(affine, run(text, [bottom], blobs=blobs)[0])
    changed = absorb_backward(layer_of(text, blobs=blobs), [bottom.shape], affine)
    assert difference([wanted], run(text, [bottom], blobs=list(changed.blobs))) <= 1e-12
    assert changed.blobs.shapes == ((4, 3), (4, 3))


def test_the_scale_of_a_normalize_takes_a_factor_and_no_shift() -> None:
    rng = np.random.default_rng(0)
    bottom, scale = signed(rng, (2, 4, 3, 3)), np.abs(signed(rng, (4,)))
    text = 'type: "Normalize" norm_param { across_spatial: false channel_shared: false }'
    layer, affine = layer_of(text, blobs=[scale]), any_affine(rng, 4)
    wanted = applied(affine.without_shift(), run(text, [bottom], blobs=[scale])[0])
    changed = absorb_backward(layer, [bottom.shape], affine.without_shift())
    assert difference([wanted], run(text, [bottom], blobs=list(changed.blobs))) <= 1e-12
    with pytest.raises(Blocked, match="it adds no bias"):
        absorb_backward(layer, [bottom.shape], affine)


def test_one_scale_for_all_channels_of_a_normalize_takes_one_factor() -> None:
    rng = np.random.default_rng(0)
    bottom, scale = signed(rng, (2, 4, 3, 3)), np.abs(signed(rng, (1,)))
    text = 'type: "Normalize" norm_param { channel_shared: true }'
    layer = layer_of(text, blobs=[scale])
    factor = channel_affine(-2.5, 0.0, 4)
    changed = absorb_backward(layer, [bottom.shape], factor)
    wanted = applied(factor, run(text, [bottom], blobs=[scale])[0])
    assert difference([wanted], run(text, [bottom], blobs=list(changed.blobs))) <= 1e-12
    with pytest.raises(Blocked, match="varies along axis 1"):
        absorb_backward(layer, [bottom.shape], keeps_zero(rng, 4))


def test_a_parameter_takes_any_affine_that_does_not_enlarge_it() -> None:
    rng = np.random.default_rng(0)
    value = signed(rng, (2, 4, 1))
    layer = layer_of('type: "Parameter" parameter_param { shape { dim: 2 dim: 4 dim: 1 } }', 0, blobs=[value])
    constant, affine = operator_of(layer, []), any_affine(rng, 4)
    assert isinstance(constant, Constant)
    weight, bias, left = laws.absorb_backward(constant, affine)
    assert bias is None
    assert left is None
    np.testing.assert_allclose(weight.array(), applied(affine, value), rtol=1e-15)
    with pytest.raises(Blocked, match="an axis that the constant has not got"):
        laws.absorb_backward(constant, Affine.along(2, [1.0, 2.0], 0.0))


# The bias that is added.


def with_params(count: int, name: str = "") -> Layer:
    """A convolution without bias that has `count` times `param {}`."""
    named = f'name: "{name}" ' if name else ""
    params = f"param {{ {named}lr_mult: 2 decay_mult: 0.5 }} " * count
    text = f'type: "Convolution" {params} convolution_param {{ num_output: 2 kernel_size: 1 bias_term: false }}'
    return layer_of(text, blobs=[signed(np.random.default_rng(1), (2, 3, 1, 1))])


def test_a_shift_gives_a_bias_and_says_so() -> None:
    layer = with_params(0)
    change = absorb_backward(layer, [(1, 3, 4, 4)], channel_affine(2.0, [0.5, -1.0], 2))
    assert change.param.convolution_param.bias_term
    assert len(change.param.param) == 0
    np.testing.assert_array_equal(change.blobs[1], [0.5, -1.0])
    assert not layer.param.convolution_param.bias_term, "the old parameters are a value, and must not change"


def test_a_shift_that_is_written_out_over_the_plane_is_one_for_each_channel() -> None:
    layer, written_out = with_params(0), np.broadcast_to(np.array([0.5, -1.0]).reshape(1, 2, 1, 1), (1, 2, 4, 4))
    change = absorb_backward(layer, [(1, 3, 4, 4)], Affine(np.full((1, 2, 4, 4), 2.0), written_out))
    np.testing.assert_array_equal(change.blobs[1], [0.5, -1.0])


def test_a_scale_alone_gives_no_bias() -> None:
    layer = with_params(1)
    change = absorb_backward(layer, [(1, 3, 4, 4)], channel_affine([2.0, -1.0], 0.0, 2))
    assert change.param is layer.param
    assert len(change.blobs) == 1


def test_an_added_bias_gets_a_param_of_its_own_where_the_weight_has_one() -> None:
    layer = with_params(1, name="shared")
    change = absorb_forward(layer, [(1, 3, 4, 4)], channel_affine(2.0, 0.5, 3))
    weight, bias = change.param.param
    assert (weight.name, weight.lr_mult) == ("shared", 2)
    assert (bias.name, bias.lr_mult, bias.decay_mult) == ("", 2, 0.5)
    assert len(layer.param.param) == 1


def test_an_added_bias_takes_a_param_that_is_there_already() -> None:
    change = absorb_backward(with_params(2), [(1, 3, 4, 4)], channel_affine(2.0, 0.5, 2))
    assert len(change.param.param) == 2


def test_an_added_bias_is_said_where_tengine_keeps_a_depthwise_convolution() -> None:
    said = "num_output: 4 kernel_size: 2 stride: 2 bias_term: false"
    text = f'type: "DepthwiseConvolution" DepthwiseConvolution_param {{ {said} }}'
    layer = layer_of(text, blobs=[signed(np.random.default_rng(1), (4, 1, 2, 2))])
    param = absorb_backward(layer, [(1, 4, 4, 4)], channel_affine(2.0, 0.5, 4)).param
    assert not param.HasField("convolution_param"), "it would hide the other one"
    assert param.DepthwiseConvolution_param.bias_term
    assert param.DepthwiseConvolution_param.stride[:] == [2]


# Refusals.


def refuses(
    text: str,
    bottoms: list[Shape],
    blobs: list[Array],
    match: str,
    tops: int = 1,
    affine: Affine | None = None,
) -> None:
    """Neither way lets an affine in."""
    layer = layer_of(text, len(bottoms), tops, blobs)
    for absorb in (absorb_backward, absorb_forward):
        with pytest.raises(Blocked, match=match):
            absorb(layer, bottoms, affine or channel_affine(2.0, 0.0, 3))


def test_a_layer_that_works_on_several_blobs_refuses_since_the_others_would_change() -> None:
    blobs = [signed(np.random.default_rng(0), (3, 3, 1, 1))]
    text = 'type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 bias_term: false }'
    refuses(text, [(1, 3, 2, 2)] * 2, blobs, "several blobs", tops=2)


def test_a_weight_that_is_a_blob_of_the_net_refuses_since_nothing_is_learned() -> None:
    refuses(
        'type: "InnerProduct" inner_product_param { num_output: 3 bias_term: false }', [(1, 3), (3, 3)], [], "weight"
    )


def test_an_inner_product_along_another_axis_takes_what_lies_along_its_own_and_refuses_what_lies_elsewhere() -> None:
    rng = np.random.default_rng(0)
    text = 'type: "InnerProduct" inner_product_param { num_output: 3 axis: 2 bias_term: false }'
    bottom, weight, affine = signed(rng, (2, 3, 4)), signed(rng, (3, 4)), any_affine(rng, 3)
    refuses(text, [(2, 3, 4)], [weight], "varies along axis 1", affine=affine.without_shift())
    top = run(text, [bottom], blobs=[weight])[0]
    anyway = run(text, [bottom], blobs=[affine.scale.reshape(-1, 1) * weight])[0]
    assert difference([applied(affine.without_shift(), top)], [anyway]) > 1e-3
    behind = Affine.along(2, affine.scale, affine.shift)
    changed = absorb_backward(layer_of(text, blobs=[weight]), [(2, 3, 4)], behind)
    inside = run(text_format.MessageToString(changed.param), [bottom], blobs=list(changed.blobs))[0]
    assert difference([applied(behind, top)], [inside]) <= 1e-12
    front = Affine.along(2, *(signed(rng, (4,)) for _ in range(2)))
    changed = absorb_forward(layer_of(text, blobs=[weight]), [(2, 3, 4)], front)
    wanted = run(text, [applied(front, bottom)], blobs=[weight])[0]
    inside = run(text_format.MessageToString(changed.param), [bottom], blobs=list(changed.blobs))[0]
    assert difference([wanted], [inside]) <= 1e-12


def test_an_embed_of_more_than_a_list_takes_what_lies_along_its_last_axis_and_refuses_what_lies_elsewhere() -> None:
    rng = np.random.default_rng(0)
    text = 'type: "Embed" embed_param { num_output: 3 input_dim: 4 bias_term: false }'
    index, weight, affine = np.arange(6.0).reshape(2, 3) % 4, signed(rng, (4, 3)), any_affine(rng, 3)
    with pytest.raises(Blocked, match="varies along axis 1"):
        absorb_backward(layer_of(text, blobs=[weight]), [(2, 3)], affine)
    top = run(text, [index], blobs=[weight])[0]
    anyway = run(text, [index], blobs=[affine.scale * weight])[0]
    assert difference([applied(affine.without_shift(), top)], [anyway]) > 1e-3
    behind = Affine.along(2, affine.scale, affine.shift)
    changed = absorb_backward(layer_of(text, blobs=[weight]), [(2, 3)], behind)
    inside = run(text_format.MessageToString(changed.param), [index], blobs=list(changed.blobs))[0]
    assert difference([applied(behind, top)], [inside]) <= 1e-12


@pytest.mark.parametrize(
    ("text", "bottom", "weight"),
    [
        (
            'type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 relu: true }',
            (1, 3, 2, 2),
            (3, 3, 1, 1),
        ),
        ('type: "InnerProduct" inner_product_param { num_output: 3 relu: true }', (1, 3), (3, 3)),
    ],
)
def test_a_fused_relu_refuses_since_the_affine_stands_behind_it(text: str, bottom: Shape, weight: Shape) -> None:
    rng = np.random.default_rng(0)
    blobs = [signed(rng, weight), signed(rng, (3,))]
    with pytest.raises(Blocked, match="a ReLU is fused into it"):
        absorb_backward(layer_of(text, blobs=blobs), [bottom], channel_affine(2.0, 0.0, 3))
    plain = text.replace("relu: true", "")
    top = run(plain, [signed(rng, bottom)], blobs=blobs)[0]
    affine = keeps_zero(rng, 3)
    assert difference([applied(affine, np.maximum(top, 0))], [np.maximum(applied(affine, top), 0)]) > 1e-3


def test_a_fused_relu_takes_what_stands_in_front_of_the_convolution() -> None:
    rng = np.random.default_rng(0)
    text = 'type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 relu: true }'
    bottom, blobs, affine = (
        signed(rng, (1, 3, 2, 2)),
        [signed(rng, (3, 3, 1, 1)), signed(rng, (3,))],
        any_affine(rng, 3),
    )
    changed = absorb_forward(layer_of(text, blobs=blobs), [bottom.shape], affine)
    plain = text.replace("relu: true", "")
    wanted, found = (
        run(plain, [applied(affine, bottom)], blobs=blobs)[0],
        run(plain, [bottom], blobs=list(changed.blobs))[0],
    )
    assert difference([np.maximum(wanted, 0)], [np.maximum(found, 0)]) <= 1e-12


@pytest.mark.parametrize("axis", [0, 2, -3])
@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_a_convolution_along_another_axis_takes_what_lies_along_that(layer_type: str, axis: int) -> None:
    rng, kernel, group = np.random.default_rng(0), 1 if layer_type == "Deconvolution" else 2, 2
    said = f"num_output: 6 kernel_size: {kernel} group: 2 axis: {axis} bias_term: false"
    text = f'type: "{layer_type}" convolution_param {{ {said} }}'
    shape = (4, 5, 5) if axis == 0 else (2, 3, 4, 5, 5)
    ends = (6, 4 // group) if layer_type == "Convolution" else (4, 6 // group)
    bottom, blobs = signed(rng, shape), [signed(rng, (*ends, kernel, kernel))]
    for behind in (True, False):
        channels, place = 6 if behind else 4, axis % len(shape)
        affine = Affine.along(place, signed(rng, (channels,)), signed(rng, (channels,)))
        absorbed = (absorb_backward if behind else absorb_forward)(layer_of(text, blobs=blobs), [shape], affine)
        found = run(text.replace("false", "true"), [bottom], blobs=list(absorbed.blobs))
        front = run(text, [bottom if behind else applied(affine, bottom)], blobs=blobs)[0]
        assert difference([applied(affine, front) if behind else front], found) <= 1e-12
    elsewhere = Affine.along(1, signed(rng, shape[1:2]), signed(rng, shape[1:2]))
    refuses(text, [shape], blobs, "the affine varies along axis 1, and the weight has no such axis", affine=elsewhere)


def test_a_plane_of_unknown_size_stops_an_inner_product_alone() -> None:
    rng = np.random.default_rng(0)
    layer = layer_of('type: "InnerProduct" inner_product_param { num_output: 2 }', blobs=[signed(rng, (2, 12))])
    with pytest.raises(Blocked, match="unknown"):
        absorb_forward(layer, [(-1, 3, -1, -1)], channel_affine(2.0, 0.0, 3))


# One rounding, and nothing that is not finite.


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_folded_value_is_rounded_once_however_many_affines_came(times: int) -> None:
    rng = np.random.default_rng(times)
    weight, bias = (signed(rng, shape).astype(np.float32) for shape in ((2, 3, 1, 2), (2,)))
    text = 'type: "Convolution" convolution_param { num_output: 2 kernel_h: 1 kernel_w: 2 }'
    layer = layer_of(text, blobs=[weight, bias])
    exact_weight = np.vectorize(Fraction)(weight.astype(np.float64))
    exact_bias = np.vectorize(Fraction)(bias.astype(np.float64))
    for _ in range(times):
        behind, front = any_affine(rng, 2), any_affine(rng, 3)
        for absorb, affine in ((absorb_backward, behind), (absorb_forward, front)):
            layer = absorb(layer, [(1, 3, 4, 4)], affine)
        s, h = (np.vectorize(Fraction)(vector).reshape(-1, 1, 1, 1) for vector in (behind.scale, behind.shift))
        exact_weight, exact_bias = s * exact_weight, s.ravel() * exact_bias + h.ravel()
        s, h = (np.vectorize(Fraction)(vector).reshape(1, -1, 1, 1) for vector in (front.scale, front.shift))
        exact_bias = exact_bias + (exact_weight * h).sum(axis=(1, 2, 3))
        exact_weight = exact_weight * s
    for blob, exact in zip(layer.blobs, (exact_weight, exact_bias), strict=True):
        assert blob.dtype == np.float32
        for value, wanted in zip(blob.ravel(), exact.ravel(), strict=True):
            assert abs(Fraction(float(value)) - wanted) <= Fraction(51, 100) * Fraction(float(np.spacing(abs(value))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_stored_type_is_kept(dtype: type) -> None:
    weight: npt.NDArray[Any] = signed(np.random.default_rng(0), (2, 3)).astype(dtype)
    layer = layer_of('type: "InnerProduct" inner_product_param { num_output: 2 bias_term: false }', blobs=[weight])
    change = absorb_backward(layer, [(1, 3)], channel_affine(2.0, 1.0, 2))
    assert [blob.dtype for blob in change.blobs.stored] == [dtype, dtype]


@pytest.mark.parametrize(
    ("weight", "bias", "affine"),
    [
        (1e30, 1.0, channel_affine([1e9, 1.0], 0.0, 2)),
        (1.0, 1e30, channel_affine([1e9, 1.0], 0.0, 2)),
        (1.0, 1.0, channel_affine(1.0, [0.0, 1e39], 2)),
        (np.nan, 1.0, channel_affine(2.0, 0.0, 2)),
        (np.inf, 1.0, channel_affine(2.0, 0.0, 2)),
        (1.0, np.inf, channel_affine(2.0, 0.0, 2)),
    ],
)
def test_a_value_that_would_not_be_finite_refuses(weight: float, bias: float, affine: Affine) -> None:
    blobs = [np.full((2, 3), weight, np.float32), np.full(2, bias, np.float32)]
    layer = layer_of('type: "InnerProduct" inner_product_param { num_output: 2 }', blobs=blobs)
    with pytest.raises(Blocked, match="would not be finite"):
        absorb_backward(layer, [(1, 3)], affine)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_shifts_of_a_batch_of_matrices_are_summed_alike_in_any_pieces(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shift varies along the axis that the pieces are taken of."""
    rng = np.random.default_rng(2)
    weight, shift = rng.standard_normal((5, 3, 2)), rng.standard_normal((5, 1, 3))
    outputs, inputs = (Port(0, (0,)), Port(2, (2,))), (Port(0, (0,)), Port(2, (1,)))
    linear = Linear(weight, None, weight.shape, outputs, inputs, summed=(1,), no_bias="it has no bias")
    monkeypatch.setattr(laws, "SUMMED_AT_ONCE", at_once)
    left = laws.absorb_forward(linear, Affine(shift=shift)).left
    assert left is not None
    np.testing.assert_allclose(left.shift, shift @ weight, rtol=1e-12)


def test_a_large_factor_of_small_weights_is_no_overflow() -> None:
    blobs = [np.array([[1e-30, 1e30]], np.float32)]
    layer = layer_of('type: "InnerProduct" inner_product_param { num_output: 1 bias_term: false }', blobs=blobs)
    change = absorb_forward(layer, [(1, 2)], channel_affine([1e30, 1e-30], 0.0, 2))
    np.testing.assert_allclose(change.blobs[0], [[1.0, 1.0]], rtol=1e-6)


def test_an_affine_as_a_scale_layer_has_a_bias_only_where_there_is_a_shift() -> None:
    layer = layer_of(
        'name: "bn" type: "BatchNorm" bottom: "x" top: "y" param { lr_mult: 0 } batch_norm_param { eps: 1 }'
    )
    context = context_of(layer, [(1, 2, 3, 3)])
    change = as_scale(layer, channel_affine([2.0, 3.0], 0.0, 2), context)
    assert text_format.MessageToString(change.param, as_one_line=True) == (
        'name: "bn" type: "Scale" bottom: "x" top: "y" scale_param { }'
    )
    assert change.blobs.shapes == ((2,),)
    change = as_scale(layer, channel_affine([2.0, 3.0], [0.0, 1.0], 2), context)
    assert change.param.scale_param.bias_term
    assert change.blobs.shapes == ((2,), (2,))
    assert as_scale(layer, channel_affine(1e39, 0.0, 2), context).type == "BatchNorm"
    assert "not be finite" in CAFFE.refuses(layer, channel_affine(1e39, 0.0, 2), context)


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 4), ""), ((1, 1, 3), "axis: 2"), ((1, 4, 3), "num_axes: 2"), ((1, 4, 1, 5), "num_axes: 3")]
)
def test_an_affine_along_any_axes_is_one_scale_layer(shape: Shape, said: str) -> None:
    rng = np.random.default_rng(0)
    affine, bottom = Affine(signed(rng, shape), signed(rng, shape)), signed(rng, (2, 4, 3, 5))
    layer = layer_of('type: "Power"')
    change = as_scale(layer, affine, context_of(layer, [bottom.shape]), composed=True)
    assert said in text_format.MessageToString(change.param)
    found = run(
        text_format.MessageToString(change.param), [bottom], blobs=[np.asarray(b, np.float64) for b in change.blobs]
    )
    assert difference([applied(affine, bottom)], found) <= 1e-6


def as_scale(layer: Layer, affine: Affine, context: FoldContext, *, composed: bool = False) -> Layer:
    changed = replace(layer)
    CAFFE.rewrite(changed, affine, context, composed=composed)
    return changed


def test_the_sizes_of_these_rows_are_those_that_bnfold_promises() -> None:
    for row in ROWS:
        if row.type != "Embed":
            linear = operator_of(row.layer([np.zeros(row.weight)], bias=False), row.shapes())
            assert isinstance(linear, Linear)
            assert abs(prod(linear.view)) == prod(row.weight), row.name
