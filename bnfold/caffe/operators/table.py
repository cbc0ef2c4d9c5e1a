"""What each layer type is to the laws: one row for each; a type without a row is opaque.

`AFFINES` are removed where that can be done; affines pass those of `PASSING`; those of `LINEAR` absorb, those of
`BACKWARD_ONLY` only what stands behind them and those of `FORWARD_ONLY` only what stands in front. What is an affine
with one bottom may let one pass with two. A row raises `Blocked` with the reason where a layer is none as it stands:
one of `AFFINES` is then kept with that reason, any other is opaque.
"""

from __future__ import annotations

from collections.abc import Mapping

from bnfold.algebra import reasons
from bnfold.algebra.operators import Operator
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.operators import affine, join, linear, movement, passing
from bnfold.caffe.operators.context import LayerContext, Row

AFFINES: Mapping[str, Row] = {
    **dict.fromkeys(BATCHNORMS, affine.batch_norm),
    "Add": affine.arithmetic,
    "Bias": affine.bias,
    "ChannelwiseAffine": affine.eltwise_affine,
    "Div": affine.arithmetic,
    "Dropout": affine.dropout,
    "Eltwise": affine.eltwise,
    "EltwiseAffine": affine.eltwise_affine,
    "GradientBlock": affine.each,
    "GradientClip": affine.split,
    "GradientReversal": affine.split,
    "GradientScaler": affine.split,
    "GradientSilent": affine.split,
    "Mul": affine.arithmetic,
    "NeedRemove": affine.split,
    "Noise": affine.split,
    "OutputDecay": affine.split,
    "Power": affine.power,
    "Scale": affine.scale,
    "SeLuDropout": affine.dropout,
    "SpatialDropout": affine.dropout,
    "Sub": affine.arithmetic,
}

PASSING: Mapping[str, Row] = {
    "AbsVal": passing.magnitude,
    "Add": join.broadcast_sum,
    "Axpy": join.gated,
    "BatchReduction": passing.batch_reduction,
    "BatchReindex": passing.samples,
    "BatchToSpaceND": passing.space_to_batch,
    "Bias": join.added,
    "BroadcastMul": join.multiplied_by_channels,
    "BroadcastTo": movement.broadcast_to,
    "CReLU": passing.concatenated,
    "Clip": passing.clip,
    "Concat": join.concat,
    "Crop": movement.crop,
    "DeephiResize": passing.resize,
    "DepthToSpace": movement.depth_to_space,
    "Div": join.broadcast_product,
    "Dtow": movement.depth_to_space,
    "Eltwise": join.eltwise,
    "ExpandDimsND": movement.expand_dims,
    "Filter": passing.samples,
    "Flatten": movement.flatten,
    "Flip": movement.reverse,
    "FlowWarp": passing.sampling,
    "GSTiling": movement.depth_to_space,
    "Gather": movement.gather,
    "GatherV2": passing.gather_v2,
    "ICNetSubgraph": passing.pyramid,
    "Im2col": passing.columns,
    "Interp": passing.interpolation,
    "MVN": passing.mean_variance,
    "MatMul": join.matrices,
    "Maximum": join.broadcast_extreme,
    "Minimum": join.broadcast_extreme,
    "MirrorPad": passing.pad,
    "Mul": join.broadcast_product,
    "NdPooling": passing.pooling,
    "PReLU": passing.rectifier,
    "PSROIPooling": passing.regions_by_place,
    "Pad": passing.pad,
    "Padding": passing.pad,
    "Permute": movement.permute,
    "Piece": movement.cut,
    "PixelShuffle": movement.pixel_shuffle,
    "Pooling": passing.pooling,
    "Pooling3D": passing.pooling,
    "ROIAlign": passing.regions,
    "ROIPooling": passing.regions,
    "RReLU": passing.rectifier,
    "ReLU": passing.rectifier,
    "ReduceL1": passing.reduced,
    "ReduceL2": passing.reduced,
    "ReduceMax": passing.reduced,
    "ReduceMean": passing.reduced,
    "ReduceMin": passing.reduced,
    "ReduceSum": passing.reduced,
    "Reduction": passing.reduction,
    "Reorg": movement.reorg,
    "Resample": passing.interpolation,
    "Reshape": movement.reshape,
    "ResizeBilinear": passing.resize,
    "ResizeNearestNeighbor": passing.resize,
    "Reverse": movement.reverse,
    "Scale": join.multiplied,
    "ShuffleChannel": movement.shuffle_channel,
    "Slice": movement.slice_,
    "SpaceToBatchND": passing.space_to_batch,
    "SpaceToDepth": movement.depth_to_space,
    "SpatialTransformer": passing.sampling,
    "Squeeze": movement.squeeze,
    "StridedSlice": movement.cut,
    "Sub": join.broadcast_sum,
    "Tile": movement.tile,
    "TileND": movement.tile_nd,
    "Tiling": movement.pixel_shuffle,
    "Transpose": movement.permute,
    "UnPooling": passing.unpooling,
    "Unpooling": passing.unpooling_by_mask,
    "Unstack": movement.unstack,
    "Upsample": passing.upsample,
    "UpsampleDarknet": passing.interpolation,
}

BACKWARD_ONLY: Mapping[str, Row] = {
    "Embed": linear.embed,
    "LayerNorm": linear.layer_norm,
    "Normalize": linear.normalize,
    "Parameter": linear.parameter,
}

FORWARD_ONLY: Mapping[str, Row] = {
    "LSTM": linear.recurrent,
    "RNN": linear.recurrent,
}

LINEAR: Mapping[str, Row] = {
    **BACKWARD_ONLY,
    **FORWARD_ONLY,
    "Convolution": linear.convolution,
    "Convolution3D": linear.convolution,
    "ConvolutionDepthwise": linear.convolution,
    "Deconvolution": linear.deconvolution,
    "Deconvolution3D": linear.deconvolution,
    "DeformableConvolution": linear.deformable_convolution,
    "DepthwiseConv": linear.convolution,
    "DepthwiseConvolution": linear.convolution,
    "DepthwiseDeconvolution": linear.deconvolution,
    "InnerProduct": linear.inner_product,
    "Local": linear.local,
    "NdConvolution": linear.convolution,
}


_NOT_LINEAR = (
    "Atan BNLL ChannelNorm ELU Exp GRN HardSwish LRN Log LogSoftmax LpNormalization Mish Norm Normalization Pow "
    "ReduceLogSumExp ReduceLogsumexp ReduceProd SELU ScaledTanH SeLU SeLu Sigmoid SignedSqrt Sin Softmax Softplus "
    "Softsign Swish TanH"
)
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(_NOT_LINEAR.split(), reasons.NOT_LINEAR),
    **dict.fromkeys(("Ceil", "Floor", "FloorDiv", "FloorMod", "Round", "Threshold", "ThresholdedReLU"), reasons.JUMPS),
    **dict.fromkeys(("HardSigmoid", "HardTanH", "ReLU6", "ReLUX"), reasons.CUTS),
    "ArgMax": reasons.TELLS_PLACES,
}
"""Why types without a row are opaque, where that is plain."""


def why_opaque(layer_type: str) -> str:
    """Why no affine passes a type without a row; empty where nothing more is to be said."""
    return REFUSED.get(layer_type, "" if layer_type in LAYERS else reasons.UNKNOWN)


def _by_bottoms(context: LayerContext) -> Operator:
    """An affine where its values are learned; with a second bottom they are data."""
    table = AFFINES if len(context.layer.bottoms) == 1 else PASSING
    return table[layer_type_of(context.layer)](context)


OPERATORS: Mapping[str, Row] = {
    "Split": affine.split,
    **PASSING,
    **LINEAR,
    **AFFINES,
    **dict.fromkeys(AFFINES.keys() & PASSING.keys(), _by_bottoms),
}
