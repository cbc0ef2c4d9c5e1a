"""Layers that normalise by what they read: LRN, MVN, Normalize, Softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.caffe.layers.axes import canonical_axis, fields_at_least_1
from bnfold.caffe.layers.row import DETECTORS, OTHERS, LayerType, four_axes, per_channel, same
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


def lrn(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (lrn_layer.cpp, Reshape); the window, `local_size`, has a middle."""
    size = layer.param.lrn_param.local_size
    if size % 2 == 0:
        raise ModelError(f"{layer}: local_size {size} must be odd")
    return [four_axes(layer, bottoms[0])]


def softmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (softmax_layer.cpp, Reshape; LogSoftmax is Synopsys')."""
    param = ROWS[layer.type].parameters(layer)
    canonical_axis(param.axis, len(bottoms[0]), layer)
    return [bottoms[0]]


def channel_norm(_: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One channel (FlowNet2; Synopsys' Caffe)."""
    return [(bottoms[0][0], 1, *bottoms[0][2:])]


def layer_norm_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Scale and shift of a sample's shape, unless `elementwise_affine` is false (Synopsys' Caffe)."""
    return [bottoms[0][1:]] * 2 if layer.param.layer_norm_param.elementwise_affine else []


def normalize(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The bottom's in SSD; in NormFace it has four axes, and each pixel's norm may stand beside.

    Source: normalize_layer.cpp of both.
    """
    param, bottom = layer.param, bottoms[0]
    if param.HasField("norm_param") and param.HasField("normalize_param"):
        raise ModelError(f"{layer}: norm_param is SSD's and normalize_param NormFace's; keep one")
    if len(bottom) > 4:
        raise ModelError(f"{layer}: its Caffes read a bottom of at most four axes, and it is {sizes(bottom)}")
    if param.HasField("norm_param") or layer.blobs:
        return [bottom]
    if not param.HasField("normalize_param") and len(bottom) < 4:
        return None
    image = four_axes(layer, (*bottom, *(1,) * (4 - len(bottom))))
    return [image, (image[0], 1, *image[2:])][: max(len(layer.tops), 1)]


def normalize_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """A scale in SSD, nothing in NormFace; where neither's parameters are there, the file knows which it is."""
    if layer.param.HasField("normalize_param"):
        return []
    return per_channel("norm_param")(layer, bottoms) if layer.param.HasField("norm_param") or layer.blobs else None


def normalization(_: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The bottom's, if that is (N, C): forks disagree about others (normalization_layer.cpp)."""
    return [bottoms[0]] if len(bottoms[0]) == 2 else None


def norm(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Four axes of an (N, C); unknown of others, of which forks add another number (norm_layer.cpp of video_triplet).

    One that learned something is another layer.
    """
    return [(*bottoms[0], 1, 1)] if len(bottoms[0]) == 2 and not layer.blobs else None


def normalized_axes(layer: Layer, rank: int) -> list[int]:
    """The axes over which an LpNormalization takes its norm, from the front.

    Raises:
        ModelError: it names none, for which versions of its Caffe stand in differently, or p is 0.
    """
    param = layer.param.lp_normalization_param
    axes = sorted({canonical_axis(axis, rank, layer) for axis in param.axis})
    if not axes or len(axes) < len(param.axis):
        raise ModelError(f"{layer}: axis must name axes of its bottom, each once")
    fields_at_least_1(layer, param, "p")
    return axes


def lp_normalization(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (lp_normalization_layer.cpp, Reshape)."""
    normalized_axes(layer, len(bottoms[0]))
    return [bottoms[0]]


ROWS: Mapping[str, LayerType] = {
    "ChannelNorm": LayerType(channel_norm, rank=2, dialects="Synopsys, FlowNet2"),
    "GRN": LayerType(same, rank=2, reads={"grn_param": "bias"}, dialects="OpenVINO's training Caffe"),
    "LRN": LayerType(
        lrn, reads={"lrn_param": "local_size alpha beta norm_region k"}, keeps="shape", aligned=True, gradient="top"
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
    "LpNormalization": LayerType(
        lp_normalization,
        reads={"lp_normalization_param": "axis p"},
        keeps="shape",
        dialects="Synopsys",
        note="over the axes that it names; where it names none, versions of the fork differ",
    ),
    "MVN": LayerType(
        same,
        rank=2,
        reads={"mvn_param": "normalize_variance across_channels eps add_eps_before_sqrt"},
        aligned=True,
        note="Synopsys' `add_eps_before_sqrt: true` puts eps under the root",
    ),
    "Norm": LayerType(
        norm,
        reads={"norm_param": ""},
        dialects=OTHERS,
        note="of (N, C) alone, where the forks agree; the top has four axes, as in all of them",
    ),
    "Normalization": LayerType(
        normalization,
        reads={"normalization_param": ""},
        dialects=OTHERS,
        note="of (N, C) alone, where the forks agree; those that add 1e-12 to the sum, or choose a norm, say so by a "
        "`norm`",
    ),
    "Normalize": LayerType(
        normalize,
        rank=2,
        blobs=normalize_blobs,
        keeps="channels",
        stand_in="positive",
        fillers="scale_filler",
        reads={
            "norm_param": "across_spatial channel_shared eps add_eps_before_sqrt",
            "normalize_param": "normalize_type rescale fix_gradient bp_norm",
        },
        dialects=f"{DETECTORS}, NormFace",
        note="Synopsys' `add_eps_before_sqrt: false` takes eps out of the root, with `across_spatial`; NormFace's "
        "is told by its `normalize_param`, and learns nothing",
    ),
    "Softmax": LayerType(softmax, reads={"softmax_param": "axis"}, keeps="shape", gradient="top"),
}
