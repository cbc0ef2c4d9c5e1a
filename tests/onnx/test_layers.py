"""Single layers in forms that no golden has, against the oracle, at the oldest and the newest opset."""

from __future__ import annotations

import re
from collections.abc import Callable

import nets
import numpy as np
import pytest
from single_layer import assert_close, by_oracle, exported, exported_double, layer_net, noise

from bnfold.caffe.layers import infer_shapes
from bnfold.errors import BnfoldError, UnsupportedError
from bnfold.net import Array, Shape
from bnfold.onnx import to_onnx

IMAGE = (2, 6, 7, 8)


def conv(layer_type: str, text: str) -> str:
    return f'type: "{layer_type}" convolution_param {{ {text} }}'


# name: (layer, shapes of its bottoms, number of tops)
CASES: dict[str, tuple[str, list[Shape], int]] = {
    "batch norm of icnet's training": (
        'type: "BatchNorm" batch_norm_param { icnet: true update_global_stats: false }',
        [IMAGE],
        1,
    ),
    "bias along the last two axes": ('type: "Bias" bias_param { axis: 2 num_axes: 2 }', [IMAGE], 1),
    "bias of two bottoms on axis 0": ('type: "Bias" bias_param { axis: 0 }', [IMAGE, (2, 6)], 1),
    "concat of one bottom": ('type: "Concat"', [IMAGE], 1),
    "convolution in one dimension": (conv("Convolution", "num_output: 4 kernel_size: 3 pad: 1"), [(2, 3, 9)], 1),
    "convolution of a film without a pad in time": (
        'type: "Convolution3D" convolution3d_param { num_output: 4 kernel_size: 3 kernel_depth: 2 pad: 1 }',
        [(2, 3, 4, 5, 6)],
        1,
    ),
    "deconvolution of a film": (
        'type: "Deconvolution3D" convolution3d_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 '
        "kernel_depth: 3 temporal_stride: 2 temporal_pad: 1 }",
        [(2, 3, 2, 5, 6)],
        1,
    ),
    "convolution of three bottoms": (conv("Convolution", "num_output: 4 kernel_size: 3 stride: 2"), [IMAGE] * 3, 3),
    "convolution with holes": (conv("Convolution", "num_output: 4 kernel_size: 3 pad: 2 hole: 2"), [IMAGE], 1),
    "crop with an offset per axis": (
        'type: "Crop" crop_param { axis: 1 offset: 2 offset: 0 offset: 3 }',
        [IMAGE, (2, 3, 7, 4)],
        1,
    ),
    "deconvolution with groups, stride and pad": (
        conv("Deconvolution", "num_output: 4 group: 2 kernel_h: 4 kernel_w: 3 stride: 2 pad: 1 dilation: 2"),
        [IMAGE],
        1,
    ),
    "deconvolution with holes": (
        conv("Deconvolution", "num_output: 4 kernel_size: 3 stride: 2 hole_h: 1 hole_w: 3"),
        [IMAGE],
        1,
    ),
    "depthwise convolution of a fork": (
        conv("ConvolutionDepthwise", "num_output: 6 kernel_size: 3 pad: 1"),
        [IMAGE],
        1,
    ),
    "deformable convolution": (
        'type: "DeformableConvolution" deformable_convolution_param { num_output: 8 kernel_h: 3 kernel_w: 2 pad: 1 '
        "stride_h: 2 stride_w: 1 dilation: 2 group: 2 deformable_group: 2 }",
        [(2, 4, 7, 6), (2, 24, 3, 6)],
        1,
    ),
    "dropout": ('type: "Dropout" dropout_param { dropout_ratio: 0.4 }', [IMAGE], 1),
    "eltwise maximum of three": ('type: "Eltwise" eltwise_param { operation: MAX }', [IMAGE] * 3, 1),
    "eltwise sum with a negative and a zero coefficient": (
        'type: "Eltwise" eltwise_param { operation: SUM coeff: -1.5 coeff: 0 coeff: 2 }',
        [IMAGE] * 3,
        1,
    ),
    "eltwise affine": ('type: "EltwiseAffine"', [IMAGE], 1),
    "icnet's own plane": ('type: "ICNetSubgraph"', [(1, 2, 33, 65)], 1),
    "icnet's windows cut at a smaller plane": ('type: "ICNetSubgraph"', [(2, 3, 20, 41)], 1),
    "largest of the plane": ('type: "ReduceMax" reduce_max_param { axis: -1 axis: 2 keepdims: true }', [IMAGE], 1),
    "smallest of all": ('type: "ReduceMin"', [IMAGE], 1),
    "smallest of one number": ('type: "ReduceMin"', [()], 1),
    "length of one number": ('type: "ReduceL2"', [()], 1),
    "product of channels": ('type: "ReduceProd" reduce_prod_param { axis: 1 }', [IMAGE], 1),
    "sum of the batch": ('type: "ReduceSum" reduce_sum_param { axis: 0 }', [IMAGE], 1),
    "sum of magnitudes of the plane": ('type: "ReduceL1" reduce_l1_param { axes: -1 axes: 2 keepdims: 0 }', [IMAGE], 1),
    "length of channels": ('type: "ReduceL2" reduce_l2_param { axes: 1 }', [IMAGE], 1),
    "length of all": ('type: "ReduceL2" reduce_l2_param { keepdims: 2 }', [IMAGE], 1),
    "logarithm of sums": (
        'type: "ReduceLogSumExp" reduce_logsumexp_param { axis: 1 axis: 3 keepdims: true }',
        [IMAGE],
        1,
    ),
    "logarithm of the sum of the batch": ('type: "ReduceLogsumexp" reduce_logsumexp_param { axis: 0 }', [IMAGE], 1),
    "by the length of the plane": ('type: "LpNormalization" lp_normalization_param { axis: 3 axis: -2 }', [IMAGE], 1),
    "by the sum of channels": ('type: "LpNormalization" lp_normalization_param { axis: 1 p: 1 }', [IMAGE], 1),
    "by the fourth root of a sum": ('type: "LpNormalization" lp_normalization_param { axis: 0 p: 4 }', [IMAGE], 1),
    "matrices of data": ('type: "MatMul"', [(2, 3, 4, 5), (2, 3, 5, 6)], 1),
    "matrices of data by one": ('type: "MatMul"', [(2, 3, 4, 5), (5, 6)], 1),
    "matrices turned round": (
        'type: "MatMul" matmul_param { transpose_a: true transpose_b: true }',
        [(2, 3, 5, 4), (2, 3, 6, 5)],
        1,
    ),
    "matrices by learned ones": (
        'type: "MatMul" matmul_param { blob_shape: 2 blob_shape: 5 blob_shape: 6 }',
        [(2, 4, 5)],
        1,
    ),
    "one matrix by a learned one": ('type: "MatMul" matmul_param { blob_shape: 5 blob_shape: 6 }', [(4, 5)], 1),
    "a learned matrix, turned round": (
        'type: "MatMul" matmul_param { transpose_b: true blob_shape: 6 blob_shape: 5 }',
        [(2, 4, 5)],
        1,
    ),
    "a matrix turned round by a learned one": (
        'type: "MatMul" matmul_param { transpose_a: true blob_shape: 5 blob_shape: 6 }',
        [(5, 4)],
        1,
    ),
    "gemm": ('type: "Gemm" gemm_param { alpha: 0.5 beta: -2 }', [(4, 5), (5, 6), (1, 6)], 1),
    "gemm turned round": (
        'type: "Gemm" gemm_param { transA: 1 transB: 1 beta: 3 }',
        [(5, 4), (6, 5), (4, 1)],
        1,
    ),
    "gemm with one number": ('type: "Gemm"', [(4, 5), (5, 6), (1,)], 1),
    "atan": ('type: "Atan"', [IMAGE], 1),
    "every other row from the last, one column, all channels": (
        'type: "StridedSlice" strided_slice_param { begin: 0 begin: 1 begin: -1 begin: 3 end: 0 end: 5 end: 0 end: 0 '
        "strides: 1 strides: 1 strides: -2 strides: 1 begin_mask: 1 end_mask: 5 shrink_axis_mask: 8 }",
        [IMAGE],
        1,
    ),
    "new axes around an ellipsis and one channel": (
        'type: "StridedSlice" strided_slice_param { begin: 1 begin: 0 begin: 0 begin: 2 begin: 0 end: 2 end: 1 end: 0 '
        "end: 3 end: 1 shrink_axis_mask: 1 new_axis_mask: 18 ellipsis_mask: 4 }",
        [IMAGE],
        1,
    ),
    "ranges along named axes, one to the front": (
        'type: "StridedSlice" strided_slice_param { begin: 5 begin: 1 end: 0 end: 5 strides: -1 strides: 3 axes: -2 '
        "axes: 1 }",
        [IMAGE],
        1,
    ),
    "what begins behind the end, around an ellipsis": (
        'type: "StridedSlice" strided_slice_param { begin: 7 begin: 0 begin: 0 begin: 9 begin: 8 end: 9 end: 0 end: 0 '
        "end: -9 end: 9 strides: 1 strides: 1 strides: 1 strides: -2 strides: 1 ellipsis_mask: 2 new_axis_mask: 4 "
        "end_mask: 8 shrink_axis_mask: 16 }",
        [IMAGE],
        1,
    ),
    "what begins behind the end of a named axis": (
        'type: "StridedSlice" strided_slice_param { begin: 9 begin: 9 end: 12 end: 0 strides: 2 strides: -2 axes: 1 '
        "axes: 3 }",
        [IMAGE],
        1,
    ),
    "all of a slice": (
        'type: "StridedSlice" strided_slice_param { begin: 3 end: 4 begin_mask: 1 end_mask: 1 }',
        [IMAGE],
        1,
    ),
    "a piece of samples, channels and plane": (
        'type: "Piece" piece_param { begin: 1 begin: 0 begin: 2 begin: 3 size: 1 size: -1 size: -1 size: 2 }',
        [IMAGE],
        1,
    ),
    "channels gathered as a table": (
        'type: "Gather" gather_param { indices: 5 indices: 0 indices: 5 indices: 2 shape: 2 shape: 2 axis: -3 }',
        [IMAGE],
        1,
    ),
    "one sample gathered": ('type: "Gather" gather_param { indices: 1 shape: 0 }', [IMAGE], 1),
    "places gathered by all numbers": (
        'type: "GatherND" gather_nd_param { indices: 1 indices: 5 indices: 6 indices: 7 indices: 0 indices: 0 '
        "indices: 3 indices: 1 indices_shape: 2 indices_shape: 4 }",
        [IMAGE],
        1,
    ),
    "tiles along all axes": (
        'type: "TileND" tile_nd_param { multiples: 2 multiples: 1 multiples: 3 multiples: 2 }',
        [IMAGE],
        1,
    ),
    "broadcast with an axis in front": (
        'type: "BroadcastTo" broadcast_to_param { shape: 3 shape: 2 shape: 4 shape: 5 }',
        [(2, 1, 5)],
        1,
    ),
    "axes put in": ('type: "ExpandDimsND" expand_dims_nd_param { axis: 0 axis: 2 axis: -1 }', [IMAGE], 1),
    "no axis put in": ('type: "ExpandDimsND"', [IMAGE], 1),
    "stack of three behind": ('type: "Stack" stack_param { axis: -1 }', [IMAGE, IMAGE, IMAGE], 1),
    "stack of one": ('type: "Stack"', [IMAGE], 1),
    "unstack of channels": ('type: "Unstack" unstack_param { axis: 1 }', [IMAGE], 3),
    "unstack of the batch, in part": ('type: "Unstack"', [IMAGE], 1),
    "batch to space with crops": (
        'type: "BatchToSpaceND" batch_to_space_nd_param { block_shape: 1 block_shape: 2 block_shape: 3 crops: 0 '
        "crops: 0 crops: 1 crops: 0 crops: 2 crops: 1 }",
        [(12, 3, 4, 5)],
        1,
    ),
    "batch to space of the channels": (
        'type: "BatchToSpaceND" batch_to_space_nd_param { block_shape: 2 crops: 0 crops: 0 }',
        [(4, 3, 5)],
        1,
    ),
    "space to batch with paddings": (
        'type: "SpaceToBatchND" space_to_batch_nd_param { block_shape: 1 block_shape: 2 block_shape: 3 paddings: 0 '
        "paddings: 0 paddings: 2 paddings: 3 paddings: 1 paddings: 0 }",
        [(2, 3, 5, 8)],
        1,
    ),
    "space to batch of the channels": (
        'type: "SpaceToBatchND" space_to_batch_nd_param { block_shape: 2 paddings: 0 paddings: 0 }',
        [(2, 4, 3)],
        1,
    ),
    "elu": ('type: "ELU" elu_param { alpha: 0.3 }', [IMAGE], 1),
    "flatten of the middle": ('type: "Flatten" flatten_param { axis: 1 end_axis: 2 }', [IMAGE], 1),
    "flatten of everything": ('type: "Flatten" flatten_param { axis: 0 }', [IMAGE], 1),
    "deephi resize to the nearest": (
        'type: "DeephiResize" deephi_resize_param { scale_h: 2.6 scale_w: 0.4 }',
        [IMAGE],
        1,
    ),
    "deephi resize, bilinear": (
        'type: "DeephiResize" deephi_resize_param { resize_type: BILINEAR new_height: 9 new_width: 4 }',
        [IMAGE],
        1,
    ),
    "gs tiling that says no way": ('type: "GSTiling" gs_tiling_param { stride: 2 }', [(2, 3, 4, 6)], 1),
    "gs tiling of pixels": ('type: "GSTiling" gs_tiling_param { stride: 2 reverse: false }', [(2, 3, 4, 6)], 1),
    "gs tiling of channels": ('type: "GSTiling" gs_tiling_param { stride: 3 reverse: true }', [(2, 18, 2, 4)], 1),
    "im2col with stride and dilation": (
        conv("Im2col", "kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 dilation: 2"),
        [IMAGE],
        1,
    ),
    "inner product on axis 0": ('type: "InnerProduct" inner_product_param { num_output: 5 axis: 0 }', [(3, 4)], 1),
    "inner product on the last axis, transposed": (
        'type: "InnerProduct" inner_product_param { num_output: 5 axis: -1 transpose: true bias_term: false }',
        [(2, 3, 4)],
        1,
    ),
    "inner product with a weight that is computed": (
        'type: "InnerProduct" inner_product_param { num_output: 5 transpose: true bias_term: false }',
        [(2, 3, 4), (12, 5)],
        1,
    ),
    "interp to one pixel": ('type: "Interp" interp_param { height: 1 width: 5 }', [IMAGE], 1),
    "lrn across 3": ('type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }', [IMAGE], 1),
    "lrn within 1": (
        'type: "LRN" lrn_param { local_size: 1 alpha: 0.5 beta: 0.6 norm_region: WITHIN_CHANNEL }',
        [IMAGE],
        1,
    ),
    "lrn within 5": (
        'type: "LRN" lrn_param { local_size: 5 alpha: 0.5 beta: 0.6 norm_region: WITHIN_CHANNEL }',
        [IMAGE],
        1,
    ),
    "mvn without variance": ('type: "MVN" mvn_param { normalize_variance: false }', [IMAGE], 1),
    "mvn with a large eps": ('type: "MVN" mvn_param { eps: 0.5 across_channels: true }', [IMAGE], 1),
    "normalize of nothing that is learned": ('type: "Normalize" normalize_param { }', [IMAGE], 1),
    "normalize of features, and their norms": (
        'type: "Normalize" normalize_param { normalize_type: "L2" bp_norm: true }',
        [(3, 5)],
        2,
    ),
    "normalize by absolute values, and by what": (
        'type: "Normalize" normalize_param { normalize_type: "L1" rescale: true }',
        [IMAGE],
        2,
    ),
    "normalize per channel over the plane": (
        'type: "Normalize" norm_param { across_spatial: true channel_shared: false eps: 0.1 }',
        [IMAGE],
        1,
    ),
    "flow that leads outside": ('type: "FlowWarp"', [(2, 3, 2, 3), (2, 2, 2, 3)], 1),
    "gradients of two blobs that are blocked": ('type: "GradientBlock"', [IMAGE, (2, 5)], 2),
    "one step of an LSTM": ('type: "LSTMUnit"', [(1, 3, 4), (1, 3, 16), (1, 3)], 2),
    "permute of three axes": ('type: "Permute" permute_param { order: 2 order: 0 }', [(2, 3, 4)], 1),
    "spatial transformer": (
        'type: "SpatialTransformer" st_param { output_H: 5 output_W: 9 }',
        [(2, 3, 5, 4), (2, 6, 1, 1)],
        1,
    ),
    "spatial transformer with a part of theta": (
        'type: "SpatialTransformer" st_param { theta_1_1: 0.8 theta_1_2: 0.1 theta_2_1: 0 theta_2_2: 1.3 }',
        [(2, 3, 5, 4), (2, 2)],
        1,
    ),
    "tiling by 3": ('type: "Tiling" tiling_param { tile_dim: 3 }', [(2, 18, 2, 4)], 1),
    "pixel shuffle by 3": ('type: "PixelShuffle" pixel_shuffle_param { upscale_factor: 3 }', [(2, 18, 2, 4)], 1),
    "power of a shift alone": ('type: "Power" power_param { scale: 0 shift: 2 power: 3 }', [IMAGE], 1),
    "power of whole numbers": ('type: "Power" power_param { scale: 2 shift: 0.5 power: 3 }', [IMAGE], 1),
    "prelu in five dimensions": ('type: "PReLU"', [(2, 3, 2, 3, 4)], 1),
    "reduction of the last axis": (
        'type: "Reduction" reduction_param { axis: -1 operation: ASUM coeff: 2 }',
        [IMAGE],
        1,
    ),
    "relu6": ('type: "ReLU6"', [IMAGE], 1),
    "relu6 of another bound": ('type: "ReLU6" relu6_param { threshold: 0.4 }', [IMAGE], 1),
    "relu6 with a slope and another bound": (
        'type: "ReLU6" relu6_param { negative_slope: 0.3 threshold: 0.4 }',
        [IMAGE],
        1,
    ),
    "relu6 whose bound is below 0": ('type: "ReLU6" relu6_param { threshold: -0.2 }', [IMAGE], 1),
    "hard sigmoid of brocolli": ('type: "HardSigmoid" hardsigmoid_param { alpha: 0.7 beta: 0.4 }', [IMAGE], 1),
    "relux whose bound is below 0": (
        'type: "ReLUX" relux_param { maximal_value: -0.5 negative_slope: 0.3 }',
        [IMAGE],
        1,
    ),
    "reorg backwards": ('type: "Reorg" reorg_param { stride: 2 reverse: true }', [(2, 8, 3, 5)], 1),
    "reshape that appends an axis": (
        'type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }',
        [(2, 3, 4)],
        1,
    ),
    "scale of all axes": ('type: "Scale" scale_param { axis: 0 num_axes: -1 bias_term: true }', [(2, 3, 4)], 1),
    "scale of one number": ('type: "Scale" scale_param { num_axes: 0 bias_term: true }', [IMAGE], 1),
    "scale of two bottoms with a bias": ('type: "Scale" scale_param { axis: 1 bias_term: true }', [IMAGE, (6, 7)], 1),
    "selu": ('type: "SELU"', [IMAGE], 1),
    "selu with constants": ('type: "SeLu" selu_param { lambda: 1.5 alpha: 0.75 }', [IMAGE], 1),
    "gradient reversal": ('type: "GradientReversal"', [IMAGE], 1),
    "gradient scaler": ('type: "GradientScaler" gradient_scaler_param { alpha: 5 }', [IMAGE], 1),
    "selu's dropout": ('type: "SeLuDropout"', [IMAGE], 1),
    "shuffle of three groups": ('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', [IMAGE], 1),
    "shuffle without a plane": ('type: "ShuffleChannel" shuffle_channel_param { group: 2 }', [(2, 6)], 1),
    "slice of the batch": ('type: "Slice" slice_param { axis: 0 slice_point: 1 }', [(3, 4)], 2),
    "slice into one": ('type: "Slice"', [IMAGE], 1),
    "softmax in the middle": ('type: "Softmax" softmax_param { axis: 2 }', [IMAGE], 1),
    "softmax of the batch": ('type: "Softmax" softmax_param { axis: 0 }', [(3, 4)], 1),
    "softmax without a plane": ('type: "Softmax"', [(3, 4)], 1),
    "split": ('type: "Split"', [IMAGE], 3),
    "spp of one level": ('type: "SPP" spp_param { pyramid_height: 1 }', [IMAGE], 1),
    "product by a bottom": (
        'type: "InnerProduct" inner_product_param { num_output: 4 bias_term: false transpose: true }',
        [(2, 3, 5), (15, 4)],
        1,
    ),
    "product by a bottom beside a bias that is one": (
        'type: "InnerProduct" inner_product_param { num_output: 4 axis: 2 }',
        [(2, 3, 5), (4, 5), (4, 1)],
        1,
    ),
    "product by the rows of a bottom, whatever else is said": (
        'type: "InnerProduct" inner_product_param { num_output: 7 normalize: true bias_term: false }',
        [(2, 3, 5), (4, 15)],
        1,
    ),
    "product by the rows of a bottom, whose number is not said": ('type: "InnerProduct"', [(2, 5), (4, 5), (4,)], 1),
    "relu below what a bottom says": ('type: "ReLU" relu_param { maximum: 0.1 }', [IMAGE, (2,)], 1),
    "relu below 6 and a bottom, with all else": (
        'type: "ReLU" relu_param { relu6: true negative_slope: -0.3 minimum: 0.3 }',
        [IMAGE, (1, 2)],
        1,
    ),
    "spp of averages": ('type: "SPP" spp_param { pyramid_height: 3 pool: AVE }', [(2, 3, 9, 11)], 1),
    "swish": ('type: "Swish" swish_param { beta: 1.7 }', [IMAGE], 1),
    "tile of the batch": ('type: "Tile" tile_param { axis: 0 tiles: 3 }', [(2, 3)], 1),
    "unpooling into the middle": (
        'type: "UnPooling" unpooling_param { unpool: FIXED out_kernel_h: 3 out_kernel_w: 2 out_stride: 2 out_pad_h: 1 '
        "out_pad_w: 0 }",
        [IMAGE],
        1,
    ),
    "unpooling into the middle of windows that reach outside": (
        'type: "UnPooling" unpooling_param { unpool: FIXED out_kernel_size: 4 out_stride: 1 out_pad: 3 }',
        [IMAGE],
        1,
    ),
    "unpooling by repetition": (
        'type: "UnPooling" unpooling_param { unpool: REP out_kernel_size: 3 out_stride: 2 out_pad: 1 }',
        [IMAGE],
        1,
    ),
    "unpooling by division with gaps": (
        'type: "UnPooling" unpooling_param { unpool: DIV out_kernel_size: 2 out_stride: 3 }',
        [IMAGE],
        1,
    ),
    "unpooling to the plane of a second bottom": (
        'type: "UnPooling" unpooling_param { unpool: DIV }',
        [IMAGE, (1, 1, 13, 30)],
        1,
    ),
    "unpooling of one row": ('type: "UnPooling" unpooling_param { unpool: REP }', [(2, 3, 1, 2), (1, 1, 5, 4)], 1),
    "unpooling to where strides begin": (
        'type: "Unpooling" unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 8 }',
        [IMAGE],
        1,
    ),
    "unpooling to fewer places than pixels": (
        'type: "Unpooling" unpooling_param { stride_h: 3 stride_w: 1 unpool_h: 5 unpool_w: 2 }',
        [IMAGE],
        1,
    ),
    "upsample of caffe plus": ('type: "Upsample" upsample_param { mode: BILINEAR height: 9 width: 7 }', [IMAGE], 1),
    "upsample by its factors": ('type: "Upsample" upsample_param { height_scale: 2 width_scale: 3 }', [IMAGE], 1),
    "upsample by factors to the nearest": (
        'type: "Upsample" upsample_param { mode: NEAREST height_scale: 2 width_scale: 3 }',
        [IMAGE],
        1,
    ),
    "upsample to the nearest": ('type: "Upsample" upsample_param { mode: NEAREST height: 9 width: 11 }', [IMAGE], 1),
    "upsample to another's size": ('type: "Upsample" upsample_param { mode: NEAREST }', [IMAGE, (2, 3, 9, 11)], 1),
    "upsample by three": ('type: "Upsample" upsample_param { scale: 3 }', [IMAGE], 1),
}


@pytest.mark.parametrize("opset", [11, 21])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_gives_what_the_oracle_gives(name: str, opset: int) -> None:
    text, shapes, tops = CASES[name]
    net, inputs = layer_net(text, shapes, tops), noise(shapes)
    assert_close(exported(net, inputs, opset=opset), by_oracle(text, net, inputs, tops))


@pytest.mark.parametrize("value", [0.1, -1e-3, 3e5])
@pytest.mark.parametrize(
    "layer",
    [
        'type: "MVN"',
        'type: "MVN" mvn_param { across_channels: true }',
        'type: "MVN" mvn_param { normalize_variance: false }',
        'type: "MVN" mvn_param { add_eps_before_sqrt: true }',
        'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
        'type: "LayerNorm" layer_norm_param { elementwise_affine: false }',
    ],
)
def test_what_is_constant_has_no_deviation_that_rounding_could_blow_up(layer: str, value: float) -> None:
    net = layer_net(layer, [IMAGE], 1)
    for opset in (11, 21):
        (top,) = exported(net, [np.full(IMAGE, value, np.float32)], opset=opset)
        assert not top.any()


def test_a_mean_over_no_axes_is_the_value_itself() -> None:
    shapes: list[Shape] = [(2, 6)]
    (top,) = exported(layer_net('type: "MVN"', shapes, 1), noise(shapes))
    assert not top.any()


@pytest.mark.parametrize("name", CASES)
def test_a_layer_in_float64_gives_what_the_oracle_gives(name: str) -> None:
    text, shapes, tops = CASES[name]
    net, inputs = layer_net(text, shapes, tops), noise(shapes)
    assert_close(exported_double(net, inputs), by_oracle(text, net, inputs, tops), 1e-6)


@pytest.mark.parametrize("opset", [11, 13, 14, 21])
@pytest.mark.parametrize(
    "text",
    [
        'type: "BatchNorm" batch_norm_param { use_global_stats: true eps: 0.01 }',
        'type: "Scale" scale_param { bias_term: true }',
    ],
)
def test_statistics_are_the_stored_ones_in_float64_at_any_opset(text: str, opset: int) -> None:
    """Below opset 14 onnx's evaluator standardises by the batch whatever a BatchNormalization says."""
    net, inputs = layer_net(text, [(2, 4, 3, 5)]), noise([(2, 4, 3, 5)])
    assert_close(exported_double(net, inputs, opset=opset), by_oracle(text, net, inputs), 1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", ["deformable convolution", "flow that leads outside"])
def test_what_is_moved_to_no_place_reads_what_is_outside(name: str, odd: float) -> None:
    text, shapes, tops = CASES[name]
    net, inputs = layer_net(text, shapes, tops), noise(shapes)
    inputs[1].flat[::5] = odd
    oracle = by_oracle(text, net, inputs, tops)
    assert_close(exported(net, inputs), oracle)
    assert_close(exported_double(net, inputs), oracle, 1e-9)


@pytest.mark.parametrize(
    ("param", "tops", "reason"),
    [
        ("", 1, 'if it is NormFace\'s, say so: normalize_param { normalize_type: "L2" }'),
        ("normalize_param { }", 2, "its second top is the norm in newer Caffes of NormFace"),
        ('normalize_param { normalize_type: "L3" }', 1, "its normalize_type is 'L3', and L1 and L2 are known"),
        ("normalize_param { } norm_param { }", 1, "norm_param is SSD's and normalize_param NormFace's; keep one"),
    ],
)
def test_a_normalize_whose_values_no_caffe_tells_has_no_onnx_form(param: str, tops: int, reason: str) -> None:
    with pytest.raises(BnfoldError, match=re.escape(reason)):
        to_onnx(layer_net(f'type: "Normalize" {param}', [IMAGE], tops))


@pytest.mark.parametrize(
    ("inside", "shape", "reason"),
    [
        ('type: "MultiStageMeanfield"', IMAGE, "it infers by iterations over all pairs of pixels"),
        ('type: "Norm"', IMAGE, "forks disagree about what it adds to the sum"),
        ('type: "Norm" norm_param { channel_shared: false }', (2, 5), "`channel_shared` of its norm_param"),
        ('type: "Normalization"', IMAGE, "forks disagree about the axes over which it sums"),
        ('type: "Normalization" normalization_param { norm: L2 }', (2, 5), "`norm` of its normalization_param"),
        ('type: "L2Norm"', (2, 5), "forks disagree about the axes over which it sums, and about what it adds"),
        ('type: "Sqrt"', IMAGE, "forks disagree about the roots of negative numbers"),
        ('type: "Upsample" upsample_param { height: 9 width: 7 }', IMAGE, "is meant, write `mode: BILINEAR`"),
        (
            'type: "Region" region_param { classes: 20 anchors: "1,2" }',
            IMAGE,
            "forks leave what becomes of its anchors",
        ),
    ],
)
def test_a_type_of_forks_that_disagree_has_no_onnx_form(inside: str, shape: Shape, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(reason)):
        to_onnx(layer_net(inside, [shape]))


@pytest.mark.parametrize(
    ("layer_type", "plain"),
    [("ConvolutionRistretto", "Convolution"), ("FcRistretto", "InnerProduct"), ("LRNRistretto", "LRN")],
)
def test_a_layer_that_rounds_as_ristretto_has_no_onnx_form_but_as_its_plain_type(layer_type: str, plain: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"it rounds as .*, and as {plain}, it is exported"):
        to_onnx(layer_net(f'type: "{layer_type}" quantization_param {{ bw_params: 8 }}', [IMAGE]))


def test_a_correlation_to_the_left_has_no_onnx_form_since_it_reads_the_row_before() -> None:
    param = "kernel_size: 1 max_displacement: 1 single_direction: -1"
    net = layer_net(f'type: "Correlation1D" correlation_param {{ {param} }}', [(1, 1, 2, 5)] * 2)
    assert infer_shapes(net)["y0"] == (1, 2, 2, 3)
    with pytest.raises(UnsupportedError, match="its Caffe reads in front of a row's beginning"):
        to_onnx(net)
    # Its first move is by -2, of a patch that lies max_displacement to the right: in row 1 from column -1 on.
    (moved,) = noise([(1, 1, 2, 5)])
    assert moved.ravel()[1 * 5 + 0 + 1 - 2] == moved[0, 0, 0, 4] != 0


def test_a_normalize_that_says_nothing_is_the_one_whose_weights_it_has() -> None:
    text, (x,) = 'type: "Normalize"', noise([IMAGE])
    net = layer_net(text, [IMAGE], blobs=[np.array([3.0], np.float32)])
    assert_close(exported(net, [x]), by_oracle(text, net, [x]))


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution"])
def test_a_channel_axis_further_back_makes_the_axes_in_front_the_batch(layer_type: str) -> None:
    window = "num_output: 5 kernel_size: 3 pad: 1"
    net = layer_net(conv(layer_type, f"axis: 2 {window}"), [(2, 3, 4, 6, 7)])
    (x,) = noise([(2, 3, 4, 6, 7)])
    (flat,) = by_oracle(conv(layer_type, window), net, [x.reshape(6, 4, 6, 7)])
    assert_close(exported(net, [x]), [flat.reshape(2, 3, *flat.shape[1:])])


def test_a_channel_axis_of_zero_makes_one_image() -> None:
    window = "num_output: 5 kernel_size: 3"
    net = layer_net(conv("Convolution", f"axis: 0 {window}"), [(4, 7)])
    (x,) = noise([(4, 7)])
    (flat,) = by_oracle(conv("Convolution", window), net, [x[None]])
    assert_close(exported(net, [x]), [flat[0]])


@pytest.mark.parametrize(
    ("text", "bottoms"),
    [("Scale", 1), ("Scale", 2), ("Bias", 1), ("Bias", 2)],
)
def test_one_number_leaves_a_blob_without_axes_without_axes(text: str, bottoms: int) -> None:
    """As Caffe has it behind a Reduction of all axes (scale_layer.cpp, Reshape, where num_axes() is 0)."""
    given = [np.array(2.5, np.float32)] if bottoms == 1 else None
    net = layer_net(f'type: "{text}" {text.lower()}_param {{ num_axes: 0 }}', [()] * bottoms, blobs=given)
    inputs = [np.array(3.0, np.float32), np.array(2.5, np.float32)][:bottoms]
    (found,) = exported(net, inputs)
    assert found.shape == ()
    assert found == (7.5 if text == "Scale" else 5.5)


@pytest.mark.parametrize("layer_type", ["LSTM", "RNN"])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
def test_a_recurrent_layer_gives_what_the_oracle_gives(layer_type: str, static: bool, exposed: bool) -> None:
    states = {"LSTM": 2, "RNN": 1}[layer_type] if exposed else 0
    text = f'type: "{layer_type}" recurrent_param {{ num_output: 4 expose_hidden: {str(exposed).lower()} }}'
    shapes: list[Shape] = [(5, 3, 2, 2), (5, 3), *[(3, 7)] * static, *[(1, 3, 4)] * states]
    net, inputs = layer_net(text, shapes, 1 + states), noise(shapes)
    inputs[1] = np.array([[0, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0]], np.float32)
    assert_close(exported(net, inputs), by_oracle(text, net, inputs, 1 + states))


@pytest.mark.parametrize("layer_type", ["LSTM", "RNN"])
def test_steps_at_which_all_sequences_are_known_to_go_on_multiply_nothing(layer_type: str) -> None:
    inside = f'type: "{layer_type}" recurrent_param {{ num_output: 4 }}'
    cont = np.array([[0, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]], np.float32)
    text = f"""
        input: "x0" input_shape {{ dim: 5 dim: 3 dim: 2 }}
        layer {{ name: "c" type: "Parameter" top: "c" parameter_param {{ shape {{ dim: 5 dim: 3 }} }} }}
        layer {{ name: "l" bottom: "x0" bottom: "c" top: "y0" {inside} }}
    """
    net, inputs = nets.net(text, c=[cont]), noise([(5, 3, 2)])
    assert_close(exported(net, inputs), by_oracle(inside, net, [*inputs, cont]))
    reads = [node.name for node in to_onnx(net).graph.node if node.op_type == "Slice" and "cut" in node.name]
    assert {name.split("/")[1] for name in reads} == {"2"}


@pytest.mark.parametrize("layer_type", ["LSTM", "RNN"])
def test_a_recurrent_layer_of_one_step_brings_no_weight_that_nothing_reads(layer_type: str) -> None:
    graph = to_onnx(layer_net(f'type: "{layer_type}" recurrent_param {{ num_output: 4 }}', [(1, 3, 2), (1, 3)])).graph
    read = {name for node in graph.node for name in node.input}
    assert {weight.name for weight in graph.initializer} <= read


@pytest.mark.parametrize("param", ["", "pad: 2", "stride: 2 bias_term: false", "kernel_size: 1 pad: 1 stride: 3"])
def test_a_local_gives_what_the_oracle_gives(param: str) -> None:
    shape = (2, 4, 5, 7)
    size = "" if "kernel_size" in param else "kernel_size: 3"
    text, (x,) = f'type: "Local" local_param {{ num_output: 3 {size} {param} }}', noise([shape])
    net = layer_net(text, [shape])
    oracle = by_oracle(text, net, [x])
    assert_close(exported(net, [x]), oracle)
    assert_close(exported_double(net, [x]), oracle, 1e-9)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it has no `local_param`"),
        ("convolution_param { num_output: 3 }", "its parameters are in convolution_param"),
    ],
)
def test_a_local_without_its_parameters_has_no_onnx_form(said: str, reason: str) -> None:
    net = layer_net(f'type: "Local" {said}', [(2, 4, 5, 7)], blobs=noise([(3, 4)]))
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(net)


@pytest.mark.parametrize(
    ("param", "shape"), [("", (1, 3, 4)), ("", (6, 4)), ("batch_size: 3", (6, 4)), ("", (5, 1, 4))]
)
def test_the_lstm_of_crnn_gives_what_the_oracle_gives(param: str, shape: Shape) -> None:
    text, (x,) = f'type: "Lstm" lstm_param {{ num_output: 3 {param} }}', noise([shape])
    net = layer_net(text, [shape])
    oracle = by_oracle(text, net, [x])
    assert_close(exported(net, [x]), oracle)
    assert_close(exported_double(net, [x]), oracle, 1e-9)


@pytest.mark.parametrize(
    ("shapes", "rows", "reason"),
    [
        ([(5, 2, 4), (5, 2)], 4, "its second bottom lets it go on where the last call stopped"),
        ([(5, 2, 4)], 8, "its weights are not those of (steps, sequences, values), and nothing says `batch_size`"),
        ([(5, 2, 4, 1)], 4, "its weights are not those of (steps, sequences, values), and nothing says `batch_size`"),
    ],
)
def test_an_lstm_of_crnn_that_may_be_another_has_no_onnx_form(shapes: list[Shape], rows: int, reason: str) -> None:
    weights = noise([(12, rows), (12, 3), (12,)])
    net = layer_net('type: "Lstm" lstm_param { num_output: 3 }', shapes, blobs=weights)
    with pytest.raises(UnsupportedError, match=re.escape(reason)):
        to_onnx(net)


@pytest.mark.parametrize("axis", ["", "axis: 1", "axis: -1"])
@pytest.mark.parametrize("values", ["", "out_max_val: true"])
def test_argmax_names_the_larger_of_two_equal_indices_first(axis: str, values: str) -> None:
    text = f'type: "ArgMax" argmax_param {{ top_k: 3 {axis} {values} }}'
    tied = np.tile(np.array([1, 3, 2, 3, 0, 3], np.float32), (2, 4, 1)).transpose(0, 2, 1)
    for x in (tied, tied.transpose(0, 2, 1)):
        net = layer_net(text, [x.shape])
        assert_close(exported(net, [x]), by_oracle(text, net, [x]), 0)


LENGTHS = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1]], np.float32)
CTC_WORDS = ["", "blank_index: 0", "ctc_merge_repeated: false", "blank_index: 2 ctc_merge_repeated: false"]


@pytest.mark.parametrize("opset", [11, 21])
@pytest.mark.parametrize("words", CTC_WORDS)
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_a_greedy_decoder_gives_what_the_oracle_gives(words: str, trailing: Shape, opset: int) -> None:
    text = f'type: "CTCGreedyDecoder" ctc_decoder_param {{ {words} }}'
    rng = np.random.default_rng(7)
    # Few classes in many steps, so that each sequence repeats itself and has blanks; one ends by its indicators.
    scores = rng.normal(size=(6, 3, 3, *trailing)).astype(np.float32)
    net = layer_net(text, [scores.shape, LENGTHS.shape], 2)
    ours = exported(net, [scores, LENGTHS], opset=opset)
    assert_close(ours, by_oracle(text, net, [scores, LENGTHS], 2))
    assert (ours[0] == -1).any()
    assert (ours[0] >= 0).any()


def test_a_greedy_decoder_of_one_step_and_of_equal_scores_names_the_first_class() -> None:
    text = 'type: "CTCGreedyDecoder"'
    scores, marks = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2), np.float32)
    net = layer_net(text, [scores.shape, marks.shape])
    assert_close(exported(net, [scores, marks]), [np.zeros((2, 1, 1, 1))])


def test_labels_of_a_greedy_decoder_matter_to_its_accuracy_alone() -> None:
    shapes: list[Shape] = [(4, 2, 3), (4, 2), (4, 2)]
    scores, marks, labels = noise(shapes)
    alone = exported(layer_net('type: "CTCGreedyDecoder"', shapes[:2]), [scores, marks])
    assert_close(exported(layer_net('type: "CTCGreedyDecoder"', shapes), [scores, marks, labels]), alone)
    judging = layer_net('type: "CTCGreedyDecoder"', shapes, 3)
    assert [*infer_shapes(judging).values()][-3:] == [(2, 4, 1, 1), (2, 1, 1, 1), (1, 1, 1, 1)]
    with pytest.raises(UnsupportedError, match="says how often its third bottom, the labels, was found"):
        exported(judging, [scores, marks, labels])


def test_a_hard_sigmoid_is_a_clipped_line() -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32).reshape(1, 3, 11)
    assert_close(exported(layer_net('type: "HardSigmoid"', [x.shape]), [x]), [np.clip(0.2 * x + 0.5, 0, 1)])


def test_a_hard_swish_is_x_times_a_clipped_line() -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32).reshape(1, 3, 11)
    assert_close(exported(layer_net('type: "HardSwish"', [x.shape]), [x]), [x * np.clip(x + 3, 0, 6) / 6])


def test_mish_is_x_times_the_tanh_of_softplus() -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32).reshape(1, 3, 11)
    assert_close(exported(layer_net('type: "Mish"', [x.shape]), [x]), [x * np.tanh(np.log1p(np.exp(x)))])


def test_a_floor_division_rounds_down_and_its_rest_has_the_divisors_sign() -> None:
    x, y = np.array([[7, -7, 7, -7, 6]], np.float32), np.array([[2, 2, -2, -2, 3]], np.float32)
    for layer_type, top in (("FloorDiv", [3, -4, -4, 3, 2]), ("FloorMod", [1, 1, -1, -1, 0])):
        two = layer_net(f'type: "{layer_type}"', [x.shape, y.shape])
        assert_close(exported(two, [x, y]), [np.array([top], np.float32)], tolerance=0)
        one = layer_net(f'type: "{layer_type}"', [x.shape], blobs=[y[0]])
        assert_close(exported(one, [x]), [np.array([top], np.float32)], tolerance=0)


@pytest.mark.parametrize(("layer_type", "rounded"), [("Ceil", np.ceil), ("Floor", np.floor), ("Round", np.rint)])
def test_integers_are_found_as_c_finds_them_halves_and_negative_numbers_too(
    layer_type: str, rounded: Callable[[Array], Array]
) -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32).reshape(1, 3, 11)
    assert_close(exported(layer_net(f'type: "{layer_type}"', [x.shape]), [x]), [rounded(x)], tolerance=0)


def test_a_thresholded_relu_gives_nothing_at_its_threshold() -> None:
    x = np.array([[-3, 0.5, 0.75, 1, 1.25]], np.float32)
    for said, y in (("", [0, 0, 0, 0, 1.25]), ("alpha: 0.5", [0, 0, 0.75, 1, 1.25]), ("alpha: -4", x[0])):
        net = layer_net(f'type: "ThresholdedReLU" thresholded_relu_param {{ {said} }}', [x.shape])
        assert_close(exported(net, [x]), [np.array([y], np.float32)], tolerance=0)


def test_a_slice_that_begins_behind_the_end_gives_the_last_place_as_its_caffe_does() -> None:
    (x,) = noise([(2, 5)])
    for words in ("begin: 0 begin: 7 end: 2 end: 9", "begin: 0 begin: 7 end: 2 end: 0 strides: 1 strides: -9"):
        net = layer_net(f'type: "StridedSlice" strided_slice_param {{ {words} }}', [x.shape])
        assert_close(exported(net, [x]), [x[:, 4:]], tolerance=0)


def test_what_a_gather_takes_may_be_told_by_a_blob() -> None:
    (x,) = noise([(2, 3, 4)])
    places = np.array([[1, 0], [2.9, 1]], np.float32)
    net = layer_net('type: "GatherV2" gather_v2_param { axis: 1 }', [x.shape, places.shape])
    assert_close(exported(net, [x, places]), [x[:, [[1, 0], [2, 1]]]], tolerance=0)


def test_a_gather_that_lists_nothing_is_another_caffes() -> None:
    with pytest.raises(UnsupportedError, match="it lists no indices, so it is no layer of Synopsys' Caffe"):
        exported(layer_net('type: "Gather"', [(2, 3)]), noise([(2, 3)]))


def test_power_zero_is_one_even_of_infinity() -> None:
    x = np.array([[np.inf, -np.inf, np.nan, 0]], np.float32)
    (y,) = exported(layer_net('type: "Power" power_param { power: 0 }', [x.shape]), [x])
    np.testing.assert_array_equal(y, np.ones_like(x))


def test_a_power_that_has_no_real_value_is_refused() -> None:
    net = layer_net('type: "Power" power_param { scale: 0 shift: -1 power: 0.5 }', [(2, 3)])
    with pytest.raises(UnsupportedError, match="a constant made of its parameters"):
        exported(net, noise([(2, 3)]))


def test_an_inner_product_of_two_bottoms_takes_the_second_as_weight() -> None:
    text = 'type: "InnerProduct" inner_product_param { num_output: 5 }'
    shapes: list[Shape] = [(3, 2, 2), (5, 4)]
    bias = np.arange(5, dtype=np.float32)
    x, weight = noise(shapes)
    assert_close(exported(layer_net(text, shapes, blobs=[bias]), [x, weight]), [x.reshape(3, 4) @ weight.T + bias])


@pytest.mark.parametrize(
    "text",
    [
        'type: "Upsample" upsample_param { scale: 2 }',
        'type: "Unpooling" unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 4 }',
    ],
)
def test_the_mask_of_an_overlapping_pool_scatters_the_last_value(text: str) -> None:
    mask = np.array([[[[5, 5], [0, 12]]]], np.float32)
    x = np.array([[[[1, 2], [3, 4]]]], np.float32)
    net = layer_net(text, [x.shape, mask.shape])
    assert_close(exported(net, [x, mask]), by_oracle(text, net, [x, mask]), 0)
