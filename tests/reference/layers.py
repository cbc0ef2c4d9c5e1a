"""One layer at TEST: its numpy function by Caffe type, in a literal table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference import layers_detect, layers_linear, layers_normalize, layers_pointwise, layers_shape, layers_window
from reference import text as prototxt
from reference.binary import Array
from reference.text import Message

Forward = Callable[[Message, list[Array], list[Array]], list[Array]]


def layer(text: str) -> Message:
    """A layer from the inside of a `layer { ... }`, to run with `forward`."""
    return prototxt.parse(text)


def forward(layer: Message, bottoms: Sequence[Array], blobs: Sequence[Array] = ()) -> list[Array]:
    """The tops of one layer.

    `layer` is a `layer { ... }` message (see `layer`), `blobs` its learned blobs in Caffe's order. A layer whose top
    count matters (Slice, Split, the mask of Pooling) needs its `top` fields. Raises ValueError for a type that the
    table does not have.
    """
    kind = layer.word("type")
    if kind not in FORWARD:
        raise ValueError(f"layer type {kind!r} is not in the reference's table")
    # Caffe computes on through an overflow or a 0/0, and so does this.
    with np.errstate(all="ignore"):
        return FORWARD[kind](layer, list(bottoms), list(blobs))


FORWARD: dict[str, Forward] = {
    "AbsVal": layers_pointwise.absval,
    "ArgMax": layers_shape.argmax,
    "Axpy": layers_pointwise.axpy,
    "BN": layers_normalize.bn,
    "BNLL": layers_pointwise.bnll,
    "BatchNorm": layers_normalize.batch_norm,
    "BatchReindex": layers_shape.batch_reindex,
    "Bias": layers_normalize.bias,
    "Clip": layers_pointwise.clip,
    "Concat": layers_shape.concat,
    "Convolution": layers_linear.convolution,
    "ConvolutionDepthwise": layers_linear.convolution,
    "Crop": layers_shape.crop,
    "CuDNNBatchNorm": layers_normalize.batch_norm,
    "Deconvolution": layers_linear.deconvolution,
    "DepthwiseConvolution": layers_linear.convolution,
    "DepthwiseDeconvolution": layers_linear.deconvolution,
    "DetectionOutput": layers_detect.detection_output,
    "Dropout": layers_pointwise.dropout,
    "ELU": layers_pointwise.elu,
    "EltwiseAffine": layers_normalize.eltwise_affine,
    "Eltwise": layers_pointwise.eltwise,
    "Embed": layers_linear.embed,
    "Exp": layers_pointwise.exp,
    "Flatten": layers_shape.flatten,
    "Im2col": layers_linear.im2col,
    "InnerProduct": layers_linear.inner_product,
    "Interp": layers_window.interp,
    "LRN": layers_normalize.lrn,
    "LSTM": layers_linear.lstm,
    "Log": layers_pointwise.log,
    "MVN": layers_normalize.mvn,
    "Normalize": layers_normalize.normalize,
    "PReLU": layers_pointwise.prelu,
    "PSROIPooling": layers_window.psroi_pooling,
    "Parameter": layers_shape.parameter,
    "Permute": layers_shape.permute,
    "PixelShuffle": layers_shape.pixel_shuffle,
    "Pooling": layers_window.pooling,
    "Power": layers_pointwise.power,
    "PriorBox": layers_detect.prior_box,
    "PriorBoxClustered": layers_detect.prior_box_clustered,
    "RNN": layers_linear.rnn,
    "ROIPooling": layers_window.roi_pooling,
    "ReLU": layers_pointwise.relu,
    "ReLU6": layers_pointwise.relu6,
    "Reduction": layers_shape.reduction,
    "Reorg": layers_shape.reorg,
    "Reshape": layers_shape.reshape,
    "SELU": layers_pointwise.selu,
    "SPP": layers_window.spp,
    "Scale": layers_normalize.scale,
    "SeLu": layers_pointwise.selu,
    "SeLuDropout": layers_pointwise.dropout,
    "ShuffleChannel": layers_shape.shuffle_channel,
    "Sigmoid": layers_pointwise.sigmoid,
    "Silence": layers_shape.silence,
    "Slice": layers_shape.slice_,
    "Softmax": layers_normalize.softmax,
    "SpatialDropout": layers_pointwise.dropout,
    "Split": layers_shape.split,
    "Swish": layers_pointwise.swish,
    "TanH": layers_pointwise.tanh,
    "Threshold": layers_pointwise.threshold,
    "Tile": layers_shape.tile,
    "Upsample": layers_window.upsample,
    "YoloDetectionOutput": layers_detect.yolo_detection_output,
}
