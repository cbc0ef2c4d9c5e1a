"""Layers that normalise by what they read: LRN, MVN, Normalize, Softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import canonical_axis
from bnfold.caffe.layers.row import DETECTORS, LayerType, four_axes, per_channel, same
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


class LRN(NamedTuple):
    """What an LRN says (lrn_layer.cpp).

    Attributes:
        local_size: window, odd: channels centred on each, or pixels each way within a channel.
        alpha, beta, k: of `x / (k + alpha/local_size * sum(x^2))^beta`; within a channel k is 1, whatever is said.
        across_channels: the window lies across channels and not in the plane.
    """

    local_size: int
    alpha: float
    beta: float
    k: float
    across_channels: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an LRN.

        Raises:
            ModelError: `local_size` is even.
        """
        param = layer.param.lrn_param
        if param.local_size % 2 == 0:
            raise ModelError(f"{layer}: local_size {param.local_size} must be odd")
        across = param.norm_region == param.ACROSS_CHANNELS
        return cls(param.local_size, param.alpha, param.beta, param.k, across)


def lrn(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (lrn_layer.cpp, Reshape)."""
    LRN.of(layer)
    return [four_axes(layer, bottoms[0])]


def softmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (softmax_layer.cpp, Reshape; LogSoftmax is Synopsys')."""
    param = layer.param.softmax_param if layer.type == "Softmax" else layer.param.log_softmax_param
    canonical_axis(param.axis, len(bottoms[0]), layer)
    return [bottoms[0]]


def channel_norm(_: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One channel (FlowNet2; Synopsys' Caffe)."""
    return [(bottoms[0][0], 1, *bottoms[0][2:])]


def layer_norm_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Scale and shift of a sample's shape, unless `elementwise_affine` is false (Synopsys' Caffe)."""
    return [bottoms[0][1:]] * 2 if layer.param.layer_norm_param.elementwise_affine else []


ROWS: Mapping[str, LayerType] = {
    "ChannelNorm": LayerType(channel_norm, rank=2, dialects="Synopsys, FlowNet2"),
    "GRN": LayerType(same, rank=2, reads={"grn_param": "bias"}, dialects="OpenVINO's training Caffe"),
    "LRN": LayerType(
        lrn,
        reads={"lrn_param": "local_size alpha beta norm_region k"},
        keeps="shape",
        aligned=True,
        gradient="top",
    ),
    "LayerNorm": LayerType(
        same,
        rank=2,
        blobs=layer_norm_blobs,
        reads={"layer_norm_param": "eps elementwise_affine"},
        dialects="Synopsys",
        note="over all axes of a sample",
    ),
    "LogSoftmax": LayerType(softmax, reads={"log_softmax_param": "axis"}, keeps="shape", dialects="Synopsys"),
    "MVN": LayerType(
        same,
        rank=2,
        reads={"mvn_param": "normalize_variance across_channels eps add_eps_before_sqrt"},
        aligned=True,
        note="Synopsys' `add_eps_before_sqrt: true` puts eps under the root",
    ),
    "Normalize": LayerType(
        same,
        rank=2,
        blobs=per_channel(shared="norm_param.channel_shared"),
        stand_in="positive",
        fillers="scale_filler",
        reads={"norm_param": "across_spatial channel_shared eps add_eps_before_sqrt"},
        dialects=DETECTORS,
        note="Synopsys' `add_eps_before_sqrt: false` takes eps out of the root, with `across_spatial`",
    ),
    "Softmax": LayerType(softmax, reads={"softmax_param": "axis"}, keeps="shape", gradient="top"),
}
