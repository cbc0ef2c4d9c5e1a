"""Typed views of Caffe's layer parameters: its defaults and its ways of writing sizes, in one place.

Each class reads one `*_param` message by its classmethod `of` and is a value from then on. Axes are kept as written
(`canonical_axis` counts them from the front), since only a blob's shape says what a negative one means.
"""

from bnfold.params.affine import BN, BatchNorm, Bias, Dropout, Power, Scale
from bnfold.params.arrange import (
    ArgMax,
    Concat,
    Crop,
    Eltwise,
    Flatten,
    Permute,
    Reduction,
    Reshape,
    Slice,
    Tile,
)
from bnfold.params.axes import UNKNOWN, canonical_axis, sizes
from bnfold.params.detection import DetectionOutput, PriorBox, PriorBoxClustered, Proposal, YoloDetectionOutput
from bnfold.params.linear import (
    CONVOLUTIONS,
    DECONVOLUTIONS,
    Convolution,
    Embed,
    InnerProduct,
    Parameter,
    Recurrent,
)
from bnfold.params.pointwise import (
    ELU,
    LRN,
    MVN,
    Clip,
    Exp,
    Log,
    Normalize,
    PReLU,
    ReLU,
    ReLU6,
    Softmax,
    Swish,
    Threshold,
)
from bnfold.params.pooling import SPP, Pooling, PSROIPooling, ROIPooling
from bnfold.params.resample import Interp, Reorg, ShuffleChannel, Upsample

__all__ = [
    "BN",
    "CONVOLUTIONS",
    "DECONVOLUTIONS",
    "ELU",
    "LRN",
    "MVN",
    "SPP",
    "UNKNOWN",
    "ArgMax",
    "BatchNorm",
    "Bias",
    "Clip",
    "Concat",
    "Convolution",
    "Crop",
    "DetectionOutput",
    "Dropout",
    "Eltwise",
    "Embed",
    "Exp",
    "Flatten",
    "InnerProduct",
    "Interp",
    "Log",
    "Normalize",
    "PReLU",
    "PSROIPooling",
    "Parameter",
    "Permute",
    "Pooling",
    "Power",
    "PriorBox",
    "PriorBoxClustered",
    "Proposal",
    "ROIPooling",
    "ReLU",
    "ReLU6",
    "Recurrent",
    "Reduction",
    "Reorg",
    "Reshape",
    "Scale",
    "ShuffleChannel",
    "Slice",
    "Softmax",
    "Swish",
    "Threshold",
    "Tile",
    "Upsample",
    "YoloDetectionOutput",
    "canonical_axis",
    "sizes",
]
