"""Layers that scale and shift: the BatchNorm family, Scale, Bias, Power, Dropout, Axpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.caffe.layers.axes import UNKNOWN, canonical_axis
from bnfold.caffe.layers.row import OTHERS, LayerType, count, covered, merged, same
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


def learns_scale(layer: Layer) -> bool:
    """Whether a BatchNorm of NVCaffe learns gamma and beta too: by `scale_bias`, or by a filler for either."""
    param = layer.param.batch_norm_param
    return bool(param.scale_bias or param.HasField("scale_filler") or param.HasField("bias_filler"))


def dropout_scale(layer: Layer) -> float:
    """What a Dropout multiplies by at TEST: 1, or `1 - ratio` where training does not scale (dropout_layer.cpp).

    A SeLuDropout or SpatialDropout has no word for that and does nothing at inference, nor does what changes gradients
    alone: GradientBlock, GradientClip, GradientReversal, GradientScaler, GradientSilent and OutputDecay
    (gradient_clip_layer.cpp, ddtm/caffe's gradient_scaler_layer.cpp and so on). Nor does a Noise (noise_layer.cpp of
    sergeyk's Caffe and others).
    """
    param = layer.param.dropout_param
    return 1.0 if param.scale_train else 1.0 - param.dropout_ratio


def each(_: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Those of all bottoms (gradient_block_layer.cpp, Reshape)."""
    return list(bottoms)


def axpy(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`a*x + y` with a of (N, C) or (N, C, 1, 1) (SENet's Caffe, axpy_layer.cpp)."""
    factor, first, second = bottoms
    top = merged(layer, first, second)
    merged(layer, factor[:2], top[:2])
    if any(size not in (1, UNKNOWN) for size in factor[2:]):
        raise ModelError(f"{layer}: its first bottom has shape {sizes(factor)}, but must be one number per channel")
    return [top]


def factor_of_channels(layer: Layer, bottoms: Sequence[Shape]) -> int:
    """Which of a BroadcastMul's bottoms is one number for each channel, (N, C) or (N, C, 1, 1): the smaller.

    Raises:
        ModelError: neither is; of two of one size its Caffe reads the first numbers of the second.
    """
    for place, (small, large) in ((1, bottoms[::-1]), (0, bottoms)):
        if small[:2] == large[:2] and len(small) in (2, len(large)) and all(size == 1 for size in small[2:]):
            return place
    raise ModelError(f"{layer}: of {sizes(bottoms[0])} and {sizes(bottoms[1])} neither is one number for each channel")


def broadcast_mul(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The larger bottom's (jolibrain's Caffe, broadcast_mul_layer.cpp)."""
    return [bottoms[1 - factor_of_channels(layer, bottoms)]]


def scale(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The first bottom's (scale_layer.cpp and bias_layer.cpp, Reshape)."""
    _span(layer, bottoms)
    return [bottoms[0]]


def _span(layer: Layer, bottoms: Sequence[Shape]) -> Shape:
    """The part of the first bottom's shape that the factors lie along (scale_layer.cpp, LayerSetUp).

    Raises:
        ModelError: they reach beyond it, or a second bottom has another shape.
    """
    param = ROWS[layer.type].parameters(layer)
    bottom, axis, num_axes = bottoms[0], param.axis, param.num_axes
    if len(bottoms) == 2:
        if not bottoms[1]:
            return ()
        return covered(layer, bottom, bottoms[1], canonical_axis(axis, len(bottom), layer))
    if num_axes == 0:
        return ()
    first = canonical_axis(axis, len(bottom), layer)
    if num_axes == -1:
        return bottom[first:]
    if num_axes < -1 or first + num_axes > len(bottom):
        raise ModelError(f"{layer}: axis {axis} and num_axes {num_axes} reach beyond a bottom of {sizes(bottom)}")
    return bottom[first : first + num_axes]


def batch_norm_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Mean, variance, factor (batch_norm_layer.cpp, LayerSetUp); the other dialects are told apart by their shapes."""
    own = ("scale_bias", "scale_filler", "bias_filler", "use_weight_bias", "bias_term")
    if len(layer.blobs) != 3 and (layer.blobs or any(map(layer.param.batch_norm_param.HasField, own))):
        return None
    channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
    return [(channels,), (channels,), (1,)]


def bn_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Four of (1, C, 1, 1) in PSPNet, two in SegNet (bn_layer.cpp of both); four in a SyncBN (sync_bn_layer.cpp)."""
    number = 4 if layer.type == "SyncBN" else len(layer.blobs)
    if number not in (2, 4) or len(bottoms[0]) < 2:
        return None
    return [(1, bottoms[0][1], 1, 1)] * number


def eltwise_affine_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Slope and bias, one for each channel; where one for all channels is stored, that.

    Source: ducha-aiki's Caffe and channelwise_affine_layer.cpp of his pull request to BVLC.
    """
    shared = len(layer.blobs) > 0 and count(layer.blobs.shapes[0]) == 1
    return [() if shared else (bottoms[0][1],)] * 2


def scale_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Factors, or a Bias' values, unless they are a bottom; then a Scale's bias (scale_layer.cpp, LayerSetUp)."""
    biased = layer.type == "Scale" and layer.param.scale_param.bias_term
    return [_span(layer, bottoms)] * ((len(bottoms) == 1) + biased)


ELTWISE_AFFINE = LayerType(
    same,
    rank=2,
    blobs=eltwise_affine_blobs,
    stand_in="scale",
    reads={"eltwise_affine_param": "channel_shared"},
    products="value",
    passes_variance=True,
    dialects="ducha-aiki's",
)
GRADIENT = LayerType(same, dialects=OTHERS, note="it changes gradients alone")

ROWS: Mapping[str, LayerType] = {
    "Axpy": LayerType(axpy, bottoms=(3, 3), rank=2, reads={"axpy_param": ""}, dialects="SENet, X2Paddle, TI"),
    "BN": LayerType(
        same,
        blobs=bn_blobs,
        reads={"bn_param": "bn_mode eps var_eps moving_average"},
        products="value",
        dialects="PSPNet, SegNet, ncnn, minicaffe, ducha-aiki's, Synopsys",
        note="SegNet's LEARN follows each batch and is kept; INFERENCE folds; ducha-aiki's has its own eps, `var_eps`; "
        "four blobs of shape (1, C) may hold TSN's 1/sqrt(variance + eps): `--batchnorm-layout` says it",
    ),
    "BatchNorm": LayerType(
        same,
        rank=1,
        blobs=batch_norm_blobs,
        reads={
            "batch_norm_param": "eps use_global_stats scale_bias use_weight_bias bias_term relu add_eps_before_sqrt"
        },
        products="value",
        aligned=True,
        note="layouts are recognised, else `--batchnorm-layout` decides; Intel's fused ReLU is taken apart",
    ),
    "Bias": LayerType(
        scale,
        bottoms=(1, 2),
        blobs=scale_blobs,
        stand_in="shift",
        fillers="filler",
        reads={"bias_param": "axis num_axes"},
        keeps="shape",
        aligned=True,
        passes_variance=True,
    ),
    "ChannelwiseAffine": ELTWISE_AFFINE._replace(
        reads={"channelwise_affine_param": "channel_shared"}, dialects=OTHERS, note="EltwiseAffine under its first name"
    ),
    "CuDNNBatchNorm": LayerType(
        same,
        blobs=batch_norm_blobs,
        reads={"cudnn_batch_norm_param": "eps", "batch_norm_param": "eps use_global_stats"},
        products="value",
        dialects=OTHERS,
    ),
    "BroadcastMul": LayerType(
        broadcast_mul,
        bottoms=(2, 2),
        rank=2,
        dialects=OTHERS,
        note="DeepDetect's, of EfficientNet: either bottom is one number for each channel",
    ),
    "Dropout": LayerType(
        same,
        reads={"dropout_param": "dropout_ratio scale_train"},
        aligned=True,
        note="`scale_train: false` (SegNet, ncnn) multiplies by `1 - ratio`",
    ),
    "EltwiseAffine": ELTWISE_AFFINE,
    "GradientBlock": LayerType(
        each, bottoms=(1, None), keeps="each", dialects=OTHERS, note="it changes gradients alone, of several blobs"
    ),
    "GradientClip": GRADIENT._replace(reads={"gradient_clip_param": "gradient_clip"}),
    "GradientReversal": GRADIENT,
    "GradientScaler": GRADIENT._replace(
        reads={"gradient_scaler_param": "lower_bound upper_bound alpha max_iter threshold_iter"}
    ),
    "GradientSilent": GRADIENT,
    "NeedRemove": LayerType(
        same,
        dialects=OTHERS,
        note="PytorchToCaffe's for `contiguous`: a copy, which no Caffe has; it is to be taken out of the prototxt",
    ),
    "Noise": LayerType(
        same,
        reads={
            "noise_param": "gaussian_std uniform_range bias mean std_var lower upper alpha beta noise_type apply_type"
        },
        dialects=OTHERS,
        note="it adds noise in training alone; the one fork whose layer does so at TEST fills it by a `filler_param`",
    ),
    "OutputDecay": GRADIENT._replace(reads={"output_decay_param": "output_decay regularization_type"}),
    "Power": LayerType(same, reads={"power_param": "power scale shift"}, aligned=True),
    "SyncBN": LayerType(
        same,
        blobs=bn_blobs,
        reads={"bn_param": "eps"},
        products="value",
        dialects=OTHERS,
        note="the BN of yjxiong's Caffe (TSN) that trains on many GPUs: its statistics are mean and variance",
    ),
    "Scale": LayerType(
        scale,
        bottoms=(1, 2),
        blobs=scale_blobs,
        stand_in="scale",
        fillers="filler bias_filler",
        reads={"scale_param": "axis num_axes bias_term"},
        products="value",
        keeps="shape",
        aligned=True,
        passes_variance=True,
        note="with two bottoms it is no affine, and lets one pass",
    ),
    "SeLuDropout": LayerType(same, reads={"selu_dropout_param": "dropout_ratio alpha"}, dialects="soeaver's, Synopsys"),
    "SpatialDropout": LayerType(same, reads={"spatial_dropout_param": "dropout_ratio"}, dialects="Intel"),
}
