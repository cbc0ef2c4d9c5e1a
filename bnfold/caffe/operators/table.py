"""What each layer type is to the laws: one row for each; a type without a row is opaque.

`AFFINES` are removed where that can be done; affines pass those of `PASSING`; those of `LINEAR` absorb. A row raises
`Blocked` with the reason where a layer is none as it stands: one of `AFFINES` is then kept with that reason, any other
is opaque.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.operators import affine, join, linear, movement, passing
from bnfold.caffe.operators.place import Row

AFFINES: Mapping[str, Row] = {
    **dict.fromkeys(BATCHNORMS, affine.batch_norm),
    "Bias": affine.bias,
    "Dropout": affine.dropout,
    "EltwiseAffine": affine.eltwise_affine,
    "Power": affine.power,
    "Scale": affine.scale,
    "SeLuDropout": affine.dropout,
    "SpatialDropout": affine.dropout,
}

PASSING: Mapping[str, Row] = {
    "Bias": join.added,
    "Concat": join.concat,
    "Crop": movement.crop,
    "Eltwise": join.eltwise,
    "Flatten": movement.flatten,
    "Interp": passing.interpolation,
    "PReLU": passing.rectifier,
    "Permute": movement.permute,
    "PixelShuffle": movement.pixel_shuffle,
    "Pooling": passing.pooling,
    "ReLU": passing.rectifier,
    "Reorg": movement.reorg,
    "Reshape": movement.reshape,
    "Scale": join.multiplied,
    "ShuffleChannel": movement.shuffle_channel,
    "Slice": movement.slice_,
    "Upsample": passing.upsample,
}

LINEAR: Mapping[str, Row] = {
    "Convolution": linear.convolution,
    "ConvolutionDepthwise": linear.convolution,
    "Deconvolution": linear.deconvolution,
    "DepthwiseConvolution": linear.convolution,
    "DepthwiseDeconvolution": linear.deconvolution,
    "Embed": linear.embed,
    "InnerProduct": linear.inner_product,
    "Normalize": linear.normalize,
    "Parameter": linear.parameter,
}

BACKWARD_ONLY = frozenset({"Embed", "Normalize", "Parameter"})

OPERATORS: Mapping[str, Row] = {"Split": affine.split, **PASSING, **LINEAR, **AFFINES}

SHAPE_ONLY: Mapping[str, Collection[int]] = {
    "Crop": (1,),
    "PriorBox": (0, 1),
    "PriorBoxClustered": (0, 1),
}
