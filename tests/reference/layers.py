"""One layer at TEST: its numpy function by Caffe type, in a literal table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference import (
    layers_detect,
    layers_forks,
    layers_linear,
    layers_normalize,
    layers_pointwise,
    layers_shape,
    layers_window,
)
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
    layer_type = layer.word("type")
    if layer_type not in FORWARD:
        raise ValueError(f"layer type {layer_type!r} is not in the reference's table")
    # Caffe computes on through an overflow or a 0/0, and so does this.
    with np.errstate(all="ignore"):
        return FORWARD[layer_type](layer, list(bottoms), list(blobs))


FORWARD: dict[str, Forward] = {
    "AbsVal": layers_pointwise.absval,
    "Add": layers_forks.arithmetic,
    "APL": layers_pointwise.apl,
    "ArgMax": layers_shape.argmax,
    "Atan": layers_pointwise.atan,
    "Axpy": layers_pointwise.axpy,
    "BatchNorm": layers_normalize.batch_norm,
    "BatchReindex": layers_shape.batch_reindex,
    "BatchToSpaceND": layers_forks.batch_to_space,
    "Bias": layers_normalize.bias,
    "BN": layers_normalize.bn,
    "BNLL": layers_pointwise.bnll,
    "Ceil": layers_pointwise.ceil,
    "ChannelNorm": layers_forks.channel_norm,
    "Clip": layers_pointwise.clip,
    "Concat": layers_shape.concat,
    "ContinuationIndicator": layers_forks.continuation_indicator,
    "Convolution": layers_linear.convolution,
    "Convolution3D": layers_linear.convolution,
    "ConvolutionDepthwise": layers_linear.convolution,
    "Correlation": layers_forks.correlation,
    "Crop": layers_shape.crop,
    "CTCGreedyDecoder": layers_forks.ctc_greedy_decoder,
    "CuDNNBatchNorm": layers_normalize.cudnn_batch_norm,
    "Deconvolution": layers_linear.deconvolution,
    "DeephiResize": layers_forks.deephi_resize,
    "DeformableConvolution": layers_linear.deformable_convolution,
    "DepthToSpace": layers_forks.depth_to_space,
    "DepthwiseConvolution": layers_linear.convolution,
    "DepthwiseDeconvolution": layers_linear.deconvolution,
    "DetectionOutput": layers_detect.detection_output,
    "DetectionOutputRefine": layers_detect.detection_output,
    "Div": layers_forks.arithmetic,
    "Dropout": layers_pointwise.dropout,
    "Eltwise": layers_pointwise.eltwise,
    "EltwiseAffine": layers_normalize.eltwise_affine,
    "ELU": layers_pointwise.elu,
    "Embed": layers_linear.embed,
    "Exp": layers_pointwise.exp,
    "ExpandDimsND": layers_forks.expand_dims,
    "Filter": layers_shape.filter_,
    "Flatten": layers_shape.flatten,
    "Floor": layers_pointwise.floor,
    "FlowWarp": layers_forks.flow_warp,
    "GradientBlock": layers_shape.each,
    "GradientClip": layers_pointwise.dropout,
    "GradientReversal": layers_pointwise.dropout,
    "GradientScaler": layers_pointwise.dropout,
    "GradientSilent": layers_pointwise.dropout,
    "GRN": layers_forks.grn,
    "GSTiling": layers_forks.gs_tiling,
    "HardSigmoid": layers_forks.hard_sigmoid,
    "HardSwish": layers_forks.hard_swish,
    "HardTanH": layers_forks.hard_tanh,
    "ICNetSubgraph": layers_window.icnet_subgraph,
    "Im2col": layers_linear.im2col,
    "InnerProduct": layers_linear.inner_product,
    "Interp": layers_window.interp,
    "LayerNorm": layers_forks.layer_norm,
    "Log": layers_pointwise.log,
    "LogSoftmax": layers_forks.log_softmax,
    "LRN": layers_normalize.lrn,
    "LSTM": layers_linear.lstm,
    "LSTMUnit": layers_linear.lstm_unit,
    "Maximum": layers_forks.arithmetic,
    "Minimum": layers_forks.arithmetic,
    "MirrorPad": layers_forks.pad,
    "Mish": layers_forks.mish,
    "Mul": layers_forks.arithmetic,
    "MVN": layers_normalize.mvn,
    "Noise": layers_pointwise.dropout,
    "Normalization": layers_normalize.normalization,
    "Normalize": layers_normalize.normalize,
    "OutputDecay": layers_pointwise.dropout,
    "Pad": layers_forks.pad,
    "Padding": layers_forks.padding,
    "Parameter": layers_shape.parameter,
    "Permute": layers_shape.permute,
    "PixelShuffle": layers_shape.pixel_shuffle,
    "Pooling": layers_window.pooling,
    "Pooling3D": layers_window.pooling3d,
    "Pow": layers_forks.arithmetic,
    "Power": layers_pointwise.power,
    "PReLU": layers_pointwise.prelu,
    "PriorBox": layers_detect.prior_box,
    "PriorBoxClustered": layers_detect.prior_box_clustered,
    "Proposal": layers_forks.proposal,
    "PSROIPooling": layers_window.psroi_pooling,
    "Python": layers_forks.python,
    "ReduceMax": layers_forks.reduced,
    "ReduceMean": layers_forks.reduced,
    "ReduceMin": layers_forks.reduced,
    "ReduceProd": layers_forks.reduced,
    "ReduceSum": layers_forks.reduced,
    "Reduction": layers_shape.reduction,
    "ReLU": layers_pointwise.relu,
    "ReLU6": layers_pointwise.relu6,
    "ReLUX": layers_forks.relux,
    "Reorg": layers_shape.reorg,
    "Resample": layers_forks.resample,
    "Reshape": layers_shape.reshape,
    "ResizeBilinear": layers_forks.resize,
    "ResizeNearestNeighbor": layers_forks.resize,
    "Reverse": layers_forks.reverse,
    "RNN": layers_linear.rnn,
    "ROIAlign": layers_forks.roi_align,
    "ROIPooling": layers_window.roi_pooling,
    "Round": layers_pointwise.rounded,
    "RReLU": layers_forks.rrelu,
    "Scale": layers_normalize.scale,
    "ScaledTanH": layers_pointwise.scaled_tanh,
    "SELU": layers_pointwise.selu,
    "SeLU": layers_pointwise.selu,
    "SeLu": layers_pointwise.selu,
    "SeLuDropout": layers_pointwise.dropout,
    "ShuffleChannel": layers_shape.shuffle_channel,
    "Sigmoid": layers_pointwise.sigmoid,
    "Silence": layers_shape.silence,
    "Sin": layers_pointwise.sine,
    "Slice": layers_shape.slice_,
    "Softmax": layers_normalize.softmax,
    "Softplus": layers_pointwise.bnll,
    "Softsign": layers_pointwise.softsign,
    "SpaceToBatchND": layers_forks.space_to_batch,
    "SpaceToDepth": layers_forks.depth_to_space,
    "SpatialDropout": layers_pointwise.dropout,
    "SpatialTransformer": layers_forks.spatial_transformer,
    "Split": layers_shape.split,
    "SPP": layers_window.spp,
    "Squeeze": layers_forks.squeeze,
    "SqueezeConvolution": layers_linear.squeeze_convolution,
    "Stack": layers_forks.stack,
    "Sub": layers_forks.arithmetic,
    "Swish": layers_pointwise.swish,
    "TanH": layers_pointwise.tanh,
    "Threshold": layers_pointwise.threshold,
    "ThresholdedReLU": layers_pointwise.thresholded_relu,
    "Tile": layers_shape.tile,
    "Tiling": layers_shape.pixel_shuffle,
    "Transpose": layers_forks.transpose,
    "UnPooling": layers_forks.unpooling,
    "Unpooling": layers_forks.unpooling_by_mask,
    "Unstack": layers_forks.unstack,
    "Upsample": layers_window.upsample,
    "UpsampleDarknet": layers_forks.upsample_darknet,
    "YoloDetectionOutput": layers_detect.yolo_detection_output,
    "Yolov3DetectionOutput": layers_forks.yolov3_detection_output,
}
