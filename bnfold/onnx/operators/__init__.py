"""What an ONNX node is to the laws of `bnfold.algebra`: a table from operator types to functions.

A function looks at one `NodeContext`, the node with the shapes around it, and gives the record of
`bnfold.algebra.operators` that says what the node does at inference, as the specification of the ONNX operator has it
that its docstring names first. Attributes and inputs are those of opset 7 and newer; what older opsets say otherwise is
opaque, and so is a version of an operator that is newer than what was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bnfold.algebra import reasons
from bnfold.algebra.operators import Operator
from bnfold.onnx.node import NEWEST, is_newer
from bnfold.onnx.operators import affine, join, linear, movement, passing
from bnfold.onnx.operators.context import NodeContext

OLDEST = 7
"""The oldest opset whose operators are read; before it, broadcasting was an attribute."""

OPERATORS: Mapping[str, Callable[[NodeContext], Operator]] = {
    "Abs": passing.rectifier,
    "Add": affine.add,
    "AveragePool": passing.average_pool,
    "BatchNormalization": affine.batch_normalization,
    "Cast": affine.cast,
    "CastLike": affine.cast_like,
    "Clip": passing.clip,
    "Compress": passing.compress,
    "Concat": join.concat,
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "CumSum": passing.cumulated,
    "DeformConv": linear.deform_conv,
    "DepthToSpace": movement.depth_to_space,
    "Div": affine.divide,
    "Dropout": affine.dropout,
    "Einsum": linear.einsum,
    "Expand": movement.expand,
    "Flatten": movement.reshape,
    "Gather": movement.gather,
    "GatherElements": passing.gather_elements,
    "GatherND": passing.gather_nd,
    "Gemm": linear.gemm,
    "GRU": linear.recurrent,
    "GlobalAveragePool": passing.global_pool,
    "GlobalLpPool": passing.norm_pool,
    "GlobalMaxPool": passing.global_max_pool,
    "GridSample": passing.grid_sample,
    "GroupNormalization": linear.group_normalization,
    "HardSigmoid": linear.hard_sigmoid,
    "Identity": affine.alias,
    "InstanceNormalization": linear.instance_normalization,
    "LSTM": linear.recurrent,
    "LayerNormalization": linear.layer_normalization,
    "LeakyRelu": passing.rectifier,
    "LpPool": passing.norm_pool,
    "MatMul": linear.matmul,
    "Max": join.extreme,
    "MaxPool": passing.max_pool,
    "MaxRoiPool": passing.regions,
    "Mean": join.mean,
    "MeanVarianceNormalization": passing.mean_variance,
    "Min": join.extreme,
    "Mul": affine.multiply,
    "Neg": affine.negate,
    "PRelu": passing.rectifier,
    "Pad": passing.pad,
    "Pow": affine.power,
    "RMSNormalization": linear.layer_normalization,
    "RNN": linear.recurrent,
    "ReduceL1": passing.reduce_norm,
    "ReduceL2": passing.reduce_norm,
    "ReduceMax": passing.reduce_extreme,
    "ReduceMean": passing.reduce_mean,
    "ReduceMin": passing.reduce_extreme,
    "ReduceSum": passing.reduce_sum,
    "Relu": passing.rectifier,
    "Reshape": movement.reshape,
    "Resize": passing.resize,
    "ReverseSequence": passing.reverse_sequence,
    "RoiAlign": passing.regions,
    "RotaryEmbedding": passing.rotary,
    "ScatterElements": join.scatter_elements,
    "ScatterND": join.scatter_nd,
    "Selu": linear.selu,
    "SequenceAt": movement.sequence_at,
    "SimplifiedLayerNormalization": linear.layer_normalization,
    "Slice": movement.slice_,
    "SpaceToDepth": movement.space_to_depth,
    "Split": movement.split,
    "SplitToSequence": movement.split_to_sequence,
    "Squeeze": movement.squeeze,
    "Sub": affine.subtract,
    "Sum": join.sum_,
    "ThresholdedRelu": passing.thresholded,
    "Tile": movement.tile,
    "TopK": passing.top_k,
    "Transpose": movement.transpose,
    "Trilu": passing.triangle,
    "Unsqueeze": movement.unsqueeze,
    "Upsample": passing.resize,
    "Where": join.where,
    "ai.onnx.ml.ArrayFeatureExtractor": movement.array_feature_extractor,
    "ai.onnx.ml.LinearClassifier": linear.linear_model,
    "ai.onnx.ml.LinearRegressor": linear.linear_model,
    "ai.onnx.ml.Scaler": affine.scaler,
    "com.microsoft.Attention": linear.attention,
    "com.microsoft.BiasGelu": linear.biased_gelu,
    "com.microsoft.FastGelu": linear.biased_gelu,
    "com.microsoft.FusedConv": linear.fused,
    "com.microsoft.FusedGemm": linear.fused,
    "com.microsoft.FusedMatMul": linear.fused_matmul,
    "com.microsoft.MatMulNBits": linear.matmul_of_bits,
    "com.microsoft.RotaryEmbedding": passing.rotary,
    "com.microsoft.SkipLayerNormalization": linear.skip_layer_normalization,
    "com.microsoft.SkipSimplifiedLayerNormalization": linear.skip_layer_normalization,
}

_NOT_LINEAR = (
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu HardSwish LRN Log LogSoftmax LpNormalization "
    "Mish Reciprocal ReduceLogSum ReduceLogSumExp ReduceProd ReduceSumSquare Sigmoid Sin "
    "Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh com.microsoft.Gelu com.microsoft.QuickGelu"
)
_JUMPING = (
    "Ceil DynamicQuantizeLinear Floor Hardmax QuantizeLinear Round Shrink Sign com.microsoft.QuantizeLinear "
    "ai.onnx.ml.Binarizer ai.onnx.ml.TreeEnsemble ai.onnx.ml.TreeEnsembleClassifier ai.onnx.ml.TreeEnsembleRegressor"
)
_ROUNDED = (
    "ConvInteger DequantizeLinear MatMulInteger QLinearConv QLinearMatMul com.microsoft.DequantizeLinear "
    "com.microsoft.QLinearAdd com.microsoft.QLinearMul"
)
_TELLING = "ArgMax ArgMin Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual NonMaxSuppression NonZero"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(_NOT_LINEAR.split(), reasons.NOT_LINEAR),
    **dict.fromkeys(_JUMPING.split(), reasons.JUMPS),
    **dict.fromkeys(_TELLING.split(), reasons.TELLS_PLACES),
    **dict.fromkeys(_ROUNDED.split(), reasons.ROUNDED),
    "com.microsoft.nchwc.Conv": (
        "its weight lies in blocks of a size that the file does not say; fold the model before it is optimised"
    ),
}
"""Why operators are opaque that do what some of these do, or of which it is plain."""


def why_opaque(op_type: str) -> str:
    """Why no affine passes an operator that is not in `OPERATORS`; empty where nothing more is to be said."""
    return REFUSED.get(op_type, reasons.UNKNOWN if "." in op_type else "")


def why_unread(op_type: str, opset: int) -> str:
    """Why it is not known what an operator does at an opset; empty where it is."""
    if "." in op_type:  # those of other domains are today what they were in their first version
        return ""
    if opset < OLDEST:
        return (
            f"opset {opset} is older than {OLDEST}, the oldest that is read; onnx.version_converter may bring it there"
        )
    newer = f"opset {opset} may define it differently from {NEWEST}, the newest known"
    return newer if is_newer(op_type, opset) else ""
