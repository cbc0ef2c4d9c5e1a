"""The rows of the commuting table for layers that only forks have: what passes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from algebra.commute_kinds import (
    Back,
    Forward,
    Row,
    movable,
    movable_forward,
    on_all,
    once,
    one_scale,
    taking,
    the_same,
)
from algebra.rows import (
    Array,
    Kind,
    Rng,
    any_affine,
    keeps_both,
    keeps_order,
    keeps_strict_order,
    keeps_zero,
    mask_and_values,
    signed,
    take,
    uniform,
)

from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Affines
from bnfold.net import Shape

PLANE: Shape = (2, 4, 3, 5)
TWO = ((2, 4, 3, 3), (2, 4, 3, 3))


def layer(layer_type: str, param: str = "", shape: Shape = PLANE) -> Row:
    return Row(f"{layer_type} {param}", f'type: "{layer_type}" {param}', (shape,))


def twice(kind: Kind) -> Kind:
    """The second half of the channels gets the values of the first."""
    return lambda rng, channels: take(kind(rng, channels // 2), np.tile(np.arange(channels // 2), 2))


def first_half(affine: Affine) -> Affines:
    return [take(affine, np.arange(4))]


def pair(layer_type: str, second: Shape = TWO[1], param: str = "") -> Row:
    return Row(f"{layer_type} {second} {param}", f'type: "{layer_type}" {param}', (TWO[0], second))


def pads(layer_type: str, field: str, words: str = "") -> Row:
    around = "paddings: 0 paddings: 0 paddings: 0 paddings: 0 paddings: 1 paddings: 2 paddings: 0 paddings: 1"
    return layer(layer_type, f"{field} {{ {around} {words} }}")


def gate_and_scale(rng: Rng) -> Affines:
    """A scale on the gate, another on what it multiplies, and their product with a shift on the third."""
    gate, scale, other = keeps_zero(rng, 4), keeps_zero(rng, 4), any_affine(rng, 4)
    return [gate, scale, Affine(gate.scale * scale.scale, other.shift)]


def scale_and_all(rng: Rng) -> Affines:
    """One scale on both summands, and a shift on the one that no gate multiplies."""
    affine = any_affine(rng, 4)
    return [None, affine.without_shift(), affine]


def shifted_gate(rng: Rng) -> Affines:
    """A shift on the gate."""
    gate, affine = any_affine(rng, 4), any_affine(rng, 4)
    return [gate, None, Affine(gate.scale, affine.shift)]


def in_each_part(rng: Rng) -> Affines:
    """The same two channels in each of four parts."""
    return [take(any_affine(rng, 2), np.tile(np.arange(2), 4))]


def in_each_part_without_shift(rng: Rng) -> Affines:
    return [affine and affine.without_shift() for affine in in_each_part(rng)]


def positive(rng: Rng, channels: int) -> Affine:
    """Scales above 0, and no shift."""
    return keeps_strict_order(rng, channels).without_shift()


def places_below_3(*shape: int) -> Callable[[Rng], list[Array]]:
    """A blob, and which of its first three places along an axis are taken."""
    return lambda rng: [signed(rng, PLANE), rng.integers(0, 3, shape).astype(np.float64)]


RRELU = layer("RReLU", "rrelu_param { lb: 3 ub: 8 }")
RELU_TOP = layer("ReLU", "relu_param { maximum: 0.8 }")
RELU_BOTTOM = layer("ReLU", "relu_param { minimum: 0.5 }")
MIN = pair("Eltwise", param="eltwise_param { operation: MIN }")
DIV = pair("Eltwise", param="eltwise_param { operation: DIV }")
SUM_LAID = pair("Eltwise", (4,), "eltwise_param { axis: 1 coeff: 1 coeff: -0.5 }")
SUM_CHANNELS = pair("Eltwise", (2, 4, 1, 1), "eltwise_param { coeff: 1 coeff: -0.5 }")
PROD_CHANNELS = pair("Eltwise", (2, 4, 1, 1), "eltwise_param { operation: PROD }")
MAX_CHANNELS = pair("Eltwise", (2, 4, 1, 1), "eltwise_param { operation: MAX }")
BY_CHANNELS = pair("BroadcastMul", (2, 4, 1, 1))
BY_FLAT_CHANNELS = pair("BroadcastMul", (2, 4))
PROD_LAID = pair("Eltwise", (4, 3), "eltwise_param { operation: PROD axis: 1 }")
ADD, SUB, MUL, QUOTIENT = (pair(layer_type) for layer_type in ("Add", "Sub", "Mul", "Div"))
ADD_SPREAD, SUB_SPREAD, MUL_SPREAD = pair("Add", (4, 1, 1)), pair("Sub", (1, 4, 3, 1)), pair("Mul", (4, 1, 3))
ADD_NUMBER = pair("Add", ())
LESSER, GREATER, GREATER_SPREAD = pair("Minimum"), pair("Maximum"), pair("Maximum", (4, 3, 1))
CODE = 'python_param {{ module: "eltwise" layer: "Eltwise" param_str: "{{ {} }}" }}'
CODED_SUB = pair("Python", (4, 1, 1), CODE.format("'operation': 1, 'coeff': [1, -1]"))
CODED_QUOTIENT = pair("Python", param=CODE.format("'operation': 3"))
PAD, MIRROR_CONSTANT = pads("Pad", "pad_param"), pads("MirrorPad", "mirror_pad_param")
PAD_ONE = pads("Pad", "pad_param", "constant_values: 1")
MIRROR = pads("MirrorPad", "mirror_pad_param", 'mode: "REFLECT"')
MIRROR_EDGE = pads("MirrorPad", "mirror_pad_param", 'mode: "SYMMETRIC"')
EDGE = pads("MirrorPad", "mirror_pad_param", 'mode: "EDGE"')
PADDING = layer("Padding", "padding_param { pad_h: 1 pad_w: 2 }")
PADDING_MIRROR = layer("Padding", "padding_param { type: MIRROR pad_up: 1 pad_left: 2 }")
DEPTH = layer("DepthToSpace", 'depth_to_space_param { block_size: 2 data_format: "NCHW" }', (2, 12, 2, 3))
DEPTH_CRD = layer("DepthToSpace", 'depth_to_space_param { block_size: 2 data_format: "CRD" }', (2, 12, 2, 3))
DEPTH_LAST = layer("DepthToSpace", "depth_to_space_param { block_size: 2 }", (2, 4, 3, 8))
SPACE = layer("SpaceToDepth", 'space_to_depth_param { block_size: 2 data_format: "NCHW" }', (2, 4, 4, 6))
SPACE_CRD = layer("SpaceToDepth", 'space_to_depth_param { block_size: 2 data_format: "CRD" }', (2, 4, 4, 6))
REORG_BACK = layer("Reorg", "reorg_param { stride: 2 reverse: true }", (2, 8, 2, 3))
REVERSE = layer("Reverse", "reverse_param { axis: 1 axis: -1 }")
SQUEEZE = layer("Squeeze", "squeeze_param { axis: 2 }", (2, 4, 1, 5))
TRANSPOSE = layer("Transpose", "transpose_param { dim: 0 dim: 3 dim: 1 dim: 2 }")
MEAN = layer("ReduceMean", "reduce_mean_param { axis: 2 axis: 3 }")
MEAN_KEPT = layer("ReduceMean", "reduce_mean_param { axis: -1 keepdims: true }")
MEAN_CHANNELS = layer("ReduceMean", "reduce_mean_param { axis: 1 keepdims: true }")
RESAMPLE = layer("Resample", "resample_param { type: CUBIC height: 7 width: 8 }")
RESAMPLE_DOWN = layer("Resample", "resample_param { height: 2 width: 2 }")
BILINEAR = layer("ResizeBilinear", 'resize_bilinear_param { data_format: "NCHW" output_height: 7 output_width: 4 }')
NEAREST = layer(
    "ResizeNearestNeighbor", 'resize_nearest_neighbor_param { data_format: "NCHW" output_height: 7 output_width: 4 }'
)
NEAREST_LAST = layer("ResizeNearestNeighbor", "resize_nearest_neighbor_param { output_height: 7 output_width: 4 }")
OPENCV = layer("DeephiResize", "deephi_resize_param { scale_h: 2.5 scale_w: 0.4 }")
OPENCV_LINEAR = layer("DeephiResize", "deephi_resize_param { resize_type: BILINEAR new_height: 7 new_width: 4 }")
TILING = layer("Tiling", "tiling_param { tile_dim: 2 }", (2, 12, 2, 3))
TILED = layer("GSTiling", "gs_tiling_param { stride: 2 reverse: false }", (2, 4, 4, 6))
DTOW = layer("Dtow", "", (2, 12, 2, 3))
WTOD = layer("Dtow", "dtow_param { method: MWTOD }", (2, 4, 4, 6))
FLIP = layer("Flip")
CRELU = layer("CReLU", "crelu_param { negative_slope: 0.25 }")
CRELU_W = layer("CReLU", "crelu_param { concat_axis: -1 }")
FLIP_DOWN = layer("Flip", "flip_param { flip_height: true flip_width: false }")
UNTILED = layer("GSTiling", "gs_tiling_param { stride: 2 reverse: true }", (2, 12, 2, 3))
BATCHED = layer(
    "SpaceToBatchND",
    "space_to_batch_nd_param { block_shape: 1 block_shape: 2 block_shape: 3 paddings: 0 paddings: 0 paddings: 1 "
    "paddings: 0 paddings: 0 paddings: 1 }",
)
BATCHED_WHOLE = layer(
    "SpaceToBatchND",
    "space_to_batch_nd_param { block_shape: 1 block_shape: 3 paddings: 0 paddings: 0 paddings: 0 paddings: 0 }",
)
BATCHED_CHANNELS = layer("SpaceToBatchND", "space_to_batch_nd_param { block_shape: 2 paddings: 0 paddings: 0 }")
UNBATCHED_CHANNELS = layer("BatchToSpaceND", "batch_to_space_nd_param { block_shape: 2 crops: 0 crops: 0 }")
UNBATCHED = layer(
    "BatchToSpaceND",
    "batch_to_space_nd_param { block_shape: 1 block_shape: 2 crops: 0 crops: 0 crops: 1 crops: 0 }",
)
EXPANDED = layer("ExpandDimsND", "expand_dims_nd_param { axis: 2 axis: -1 }")
EXPANDED_BEFORE = layer("ExpandDimsND", "expand_dims_nd_param { axis: 1 }")
UNSTACKED = Row("Unstack", 'type: "Unstack" unstack_param { axis: 2 }', (PLANE,), tops=2)
UNSTACKED_CHANNELS = Row("Unstack channels", 'type: "Unstack" unstack_param { axis: 1 }', (PLANE,), tops=4)
STRIDED = layer(
    "StridedSlice",
    "strided_slice_param { begin: 0 begin: -1 begin: 1 begin: 0 end: 0 end: 0 end: 2 end: 9 strides: 1 strides: -2 "
    "strides: 1 strides: 2 begin_mask: 1 end_mask: 3 shrink_axis_mask: 4 }",
)
STRIDED_NEW = layer(
    "StridedSlice",
    "strided_slice_param { begin: 0 begin: 0 begin: 1 end: 0 end: 0 end: 4 ellipsis_mask: 1 new_axis_mask: 2 }",
)
STRIDED_CHANNEL = layer(
    "StridedSlice", "strided_slice_param { begin: 0 begin: 2 end: 0 end: 0 end_mask: 1 shrink_axis_mask: 2 }"
)
STRIDED_AXES = layer(
    "StridedSlice", "strided_slice_param { begin: 3 begin: 3 end: -5 end: 0 strides: -1 strides: -1 axes: 3 axes: 1 }"
)
PIECE = layer("Piece", "piece_param { begin: 0 begin: 1 begin: 0 begin: 2 size: -1 size: 2 size: 3 size: -1 }")
GATHERED = layer("Gather", "gather_param { indices: 3 indices: 0 indices: 3 shape: 3 axis: 1 }")
GATHERED_TABLE = layer(
    "Gather", "gather_param { indices: 3 indices: 0 indices: 2 indices: 1 shape: 2 shape: 2 axis: -1 }"
)
GATHERED_ONE = layer("Gather", "gather_param { indices: 2 shape: 0 axis: 2 }")
GATHERED_SAMPLES = layer("Gather", "gather_param { indices: 1 indices: 1 shape: 2 }")
CHOSEN = Row("GatherV2", 'type: "GatherV2" gather_v2_param { axis: 2 }', (PLANE, (2, 3)), inputs=places_below_3(2, 3))
CHOSEN_CHANNELS = Row(
    "GatherV2 of channels", 'type: "GatherV2" gather_v2_param { axis: 1 }', (PLANE, (3,)), inputs=places_below_3(3)
)
REPEATED = layer("TileND", "tile_nd_param { multiples: 1 multiples: 2 multiples: 1 multiples: 3 }")
BROADCAST = layer("BroadcastTo", "broadcast_to_param { shape: 2 shape: 4 shape: 3 shape: 5 }", (2, 4, 1, 5))
BROADCAST_CHANNELS = layer("BroadcastTo", "broadcast_to_param { shape: 2 shape: 4 shape: 3 }", (2, 1, 3))
MATRICES = Row("MatMul", 'type: "MatMul"', ((2, 4, 3), (2, 3, 5)))
MATRICES_BY_ONE = Row("MatMul by one", 'type: "MatMul"', ((2, 4, 2, 3), (3, 5)))
MATRICES_TURNED = Row(
    "MatMul turned", 'type: "MatMul" matmul_param { transpose_a: true transpose_b: true }', ((2, 3, 4), (2, 5, 3))
)
PYRAMID = layer("ICNetSubgraph", shape=(2, 4, 9, 17))
MOST = layer("ReduceMax", "reduce_max_param { axis: 2 axis: 3 }")
LEAST = layer("ReduceMin", "reduce_min_param { axis: -1 keepdims: true }")
TOTAL = layer("ReduceSum", "reduce_sum_param { axis: 2 axis: 3 }")
TOTAL_BATCH = layer("ReduceSum", "reduce_sum_param { axis: 0 keepdims: true }")
MAGNITUDES = layer("ReduceL1", "reduce_l1_param { axes: 3 axes: 2 keepdims: 0 }")
LENGTH = layer("ReduceL2", "reduce_l2_param { axes: -1 }")
UNPOOL = layer("UnPooling", "unpooling_param { unpool: REP out_kernel_size: 3 out_stride: 2 out_pad: 1 }")
UNPOOL_GAPS = layer("UnPooling", "unpooling_param { unpool: REP out_kernel_size: 2 out_stride: 3 }")
UNPOOL_MIDDLE = layer("UnPooling", "unpooling_param { unpool: FIXED out_kernel_size: 2 out_stride: 2 }")
UNPOOL_STRIDE = layer("Unpooling", "unpooling_param { unpool: MAX stride: 2 unpool_h: 8 unpool_w: 9 }")
UNPOOL_MASK = Row(
    "unpooling by mask", 'type: "Unpooling" unpooling_param { unpool_size: 6 }', TWO, inputs=mask_and_values
)
UNPOOL_PART = layer("UnPooling", "unpooling_param { unpool: DIV out_kernel_size: 2 out_stride: 2 }")
UNPOOL_SHARED = layer("UnPooling", "unpooling_param { unpool: DIV out_kernel_size: 3 out_stride: 2 out_pad: 1 }")
FLOW = Row("FlowWarp", 'type: "FlowWarp"', (PLANE, (2, 2, 3, 5)))
MAPPED = Row("SpatialTransformer", 'type: "SpatialTransformer" st_param { output_H: 4 }', (PLANE, (2, 6)))
AXPY = Row("Axpy", 'type: "Axpy"', ((2, 4, 1, 1), PLANE, PLANE))
AXPY_FLAT = Row("Axpy of (N, C)", 'type: "Axpy"', ((2, 4), PLANE, PLANE))
PLUS_LINEAR = layer("Upsample", "upsample_param { height_scale: 2 width_scale: 3 }")
PLUS_NEAREST = layer("Upsample", "upsample_param { mode: NEAREST height: 7 width: 4 }")
PLUS_LIKE = pair("Upsample", (2, 1, 7, 4), "upsample_param { mode: BILINEAR }")
DARKNET = layer("UpsampleDarknet", "upsample_darknet_param { stride: 2 }")
FULL_ZOOM = layer("Interp", "interp_param { full_zoom_factor: 2 }")
POOL_SIDES = layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_r: 1 pad_t: 2 }")
POOL_INSIDE = layer("Pooling", "pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1 }")
POOL_SAME = layer("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad_type: 1 }")
POOL_MDS = layer("Pooling", "pooling_param { pool: MDS kernel_size: 2 stride: 2 }", (2, 8, 5, 4))
POOL_MDS_PAD = layer("Pooling", "pooling_param { pool: MDS kernel_size: 2 pad: 1 dilation: 2 }", (2, 8, 4, 5))
POOL_3D = layer("Pooling3D", "pooling3d_param { kernel_size: 2 kernel_depth: 1 stride: 2 }", (2, 4, 2, 4, 4))
POOL_SHAPES = layer("NdPooling", "pooling_param { kernel_shape { dim: 1 dim: 2 dim: 2 } }", (2, 4, 2, 4, 4))

BACK = [
    Back(RRELU, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(RELU_TOP, None, (keeps_both,)),
    Back(RELU_BOTTOM, None, (keeps_both,)),
    Back(MIN, keeps_order, (any_affine,), on_all(2)),
    Back(DIV, keeps_zero, (any_affine,)),
    Back(SUM_LAID, any_affine),
    Back(PROD_LAID, keeps_zero, (any_affine,)),
    Back(SUM_CHANNELS, any_affine),
    Back(PROD_CHANNELS, keeps_zero, (any_affine,)),
    Back(MAX_CHANNELS, keeps_order, (any_affine,), on_all(2)),
    Back(ADD, any_affine),
    Back(ADD_SPREAD, any_affine),
    Back(ADD_NUMBER, uniform),
    Back(SUB, any_affine),
    Back(SUB_SPREAD, any_affine),
    Back(MUL, keeps_zero, (any_affine,)),
    Back(BY_CHANNELS, keeps_zero, (any_affine,)),
    Back(BY_FLAT_CHANNELS, keeps_zero, (any_affine,)),
    Back(MUL_SPREAD, keeps_zero, (any_affine,)),
    Back(QUOTIENT, keeps_zero, (any_affine,)),
    Back(CODED_SUB, any_affine),
    Back(CODED_QUOTIENT, keeps_zero, (any_affine,)),
    Back(LESSER, keeps_order, (any_affine,), on_all(2)),
    Back(GREATER, keeps_order, (any_affine,), on_all(2)),
    Back(PAD, keeps_zero, (any_affine,)),
    Back(PAD_ONE, None, (keeps_zero, any_affine)),
    Back(MIRROR_CONSTANT, keeps_zero, (any_affine,)),
    Back(MIRROR, any_affine),
    Back(MIRROR_EDGE, any_affine),
    Back(EDGE, any_affine),
    Back(PADDING, keeps_zero, (any_affine,)),
    Back(PADDING_MIRROR, any_affine),
    Back(DEPTH, any_affine),
    Back(DEPTH_CRD, any_affine),
    Back(SPACE, movable(SPACE)),
    Back(SPACE_CRD, movable(SPACE_CRD)),
    Back(REORG_BACK, any_affine),
    Back(REVERSE, any_affine),
    Back(SQUEEZE, any_affine),
    Back(TRANSPOSE, any_affine),
    Back(MEAN, any_affine),
    Back(MEAN_KEPT, any_affine),
    Back(MEAN_CHANNELS, any_affine),
    Back(RESAMPLE, any_affine),
    Back(RESAMPLE_DOWN, any_affine),
    Back(BILINEAR, any_affine),
    Back(OPENCV, any_affine),
    Back(OPENCV_LINEAR, any_affine),
    Back(TILING, any_affine),
    Back(DTOW, any_affine),
    Back(WTOD, any_affine),
    Back(FLIP, any_affine),
    Back(CRELU, twice(keeps_both), (twice(keeps_zero), twice(keeps_strict_order), keeps_both), first_half),
    Back(CRELU_W, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(FLIP_DOWN, any_affine),
    Back(NEAREST, any_affine),
    Back(NEAREST_LAST, uniform),
    Back(DARKNET, any_affine),
    Back(PLUS_LINEAR, any_affine),
    Back(PLUS_LIKE, any_affine),
    Back(PLUS_NEAREST, any_affine),
    Back(TILED, movable(TILED)),
    Back(UNTILED, any_affine),
    Back(BATCHED, keeps_zero, (any_affine,)),
    Back(BATCHED_WHOLE, any_affine),
    Back(UNBATCHED, any_affine),
    Back(BATCHED_CHANNELS, uniform),
    Back(UNBATCHED_CHANNELS, uniform, (any_affine,), lambda affine: [take(affine, np.arange(0, 8, 2))]),
    Back(EXPANDED, any_affine),
    Back(EXPANDED_BEFORE, uniform),
    Back(UNSTACKED, any_affine, top=1),
    Back(UNSTACKED_CHANNELS, uniform, top=2),
    Back(STRIDED, any_affine),
    Back(STRIDED_NEW, any_affine),
    Back(STRIDED_CHANNEL, uniform),
    Back(STRIDED_AXES, any_affine),
    Back(PIECE, any_affine),
    Back(GATHERED, movable(GATHERED), (any_affine,), lambda affine: [take(affine, np.array([1, 0, 0, 2]))]),
    Back(GATHERED_TABLE, any_affine),
    Back(GATHERED_ONE, any_affine),
    Back(GATHERED_SAMPLES, any_affine),
    Back(CHOSEN, any_affine),
    Back(CHOSEN_CHANNELS, uniform, (any_affine,), lambda affine: [take(affine, np.array([0, 1, 2, 0])), None]),
    Back(REPEATED, movable(REPEATED), (any_affine,), lambda affine: [take(affine, np.arange(4))]),
    Back(BROADCAST, any_affine),
    Back(BROADCAST_CHANNELS, uniform, (any_affine,), lambda affine: [take(affine, np.zeros(1, int))]),
    Back(MATRICES, keeps_zero, (any_affine,)),
    Back(MATRICES_BY_ONE, keeps_zero, (any_affine,)),
    Back(MATRICES_TURNED, keeps_zero),
    Back(PYRAMID, any_affine),
    Back(MOST, keeps_order, (any_affine,)),
    Back(LEAST, keeps_order, (any_affine,)),
    Back(TOTAL, any_affine),
    Back(TOTAL_BATCH, keeps_zero, (any_affine,)),
    Back(MAGNITUDES, keeps_both, (keeps_zero, keeps_order)),
    Back(LENGTH, positive, (keeps_zero, keeps_strict_order)),
    Back(UNPOOL, any_affine),
    Back(UNPOOL_GAPS, keeps_zero, (any_affine,)),
    Back(UNPOOL_MIDDLE, keeps_zero, (any_affine,)),
    Back(UNPOOL_STRIDE, keeps_zero, (any_affine,)),
    Back(UNPOOL_MASK, keeps_zero, (any_affine,)),
    Back(UNPOOL_PART, any_affine),
    Back(UNPOOL_SHARED, any_affine),
    Back(FLOW, keeps_zero, (any_affine,)),
    Back(MAPPED, keeps_zero, (any_affine,)),
    Back(AXPY, any_affine),
    Back(AXPY_FLAT, any_affine),
    Back(POOL_MDS, any_affine),
    Back(POOL_MDS_PAD, keeps_zero, (any_affine,), lambda affine: [take(affine, np.tile(np.arange(2), 4))]),
    Back(FULL_ZOOM, any_affine),
    Back(POOL_SIDES, keeps_zero, (any_affine, keeps_strict_order)),
    Back(POOL_INSIDE, any_affine),
    Back(POOL_SAME, keeps_order, (any_affine,)),
    Back(POOL_3D, keeps_order, (any_affine,)),
    Back(POOL_SHAPES, keeps_order, (any_affine,)),
]

FORWARD = [
    Forward(RRELU, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(RELU_TOP, None, (once(keeps_both),)),
    Forward(RELU_BOTTOM, None, (once(keeps_both),)),
    Forward(MIN, the_same(keeps_order, 2), (the_same(any_affine, 2),)),
    Forward(DIV, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(ADD, one_scale, (once(any_affine, any_affine), once(any_affine, None))),
    Forward(SUB, one_scale, (once(any_affine, any_affine),)),
    Forward(MUL, once(keeps_zero, keeps_zero), (once(keeps_zero, any_affine),)),
    Forward(BY_CHANNELS, once(keeps_zero, keeps_zero), (once(keeps_zero, any_affine),)),
    Forward(CODED_QUOTIENT, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(QUOTIENT, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(LESSER, the_same(keeps_order, 2), (the_same(any_affine, 2),)),
    Forward(GREATER, the_same(keeps_order, 2), (once(keeps_order, None),)),
    Forward(PAD, once(keeps_zero), (once(any_affine),)),
    Forward(PAD_ONE, None, (once(keeps_zero),)),
    Forward(MIRROR_CONSTANT, once(keeps_zero), (once(any_affine),)),
    Forward(MIRROR, once(any_affine)),
    Forward(MIRROR_EDGE, once(any_affine)),
    Forward(EDGE, once(any_affine)),
    Forward(PADDING, once(keeps_zero), (once(any_affine),)),
    Forward(PADDING_MIRROR, once(any_affine)),
    Forward(DEPTH, movable_forward(DEPTH)),
    Forward(DEPTH_CRD, movable_forward(DEPTH_CRD)),
    Forward(DEPTH_LAST, once(uniform)),
    Forward(SPACE, once(any_affine)),
    Forward(SPACE_CRD, once(any_affine)),
    Forward(REORG_BACK, movable_forward(REORG_BACK)),
    Forward(REVERSE, once(any_affine)),
    Forward(SQUEEZE, once(any_affine)),
    Forward(TRANSPOSE, once(any_affine)),
    Forward(MEAN, once(any_affine)),
    Forward(MEAN_KEPT, once(any_affine)),
    Forward(MEAN_CHANNELS, once(uniform)),
    Forward(RESAMPLE, once(any_affine)),
    Forward(RESAMPLE_DOWN, once(any_affine)),
    Forward(BILINEAR, once(any_affine)),
    Forward(OPENCV, once(any_affine)),
    Forward(OPENCV_LINEAR, once(any_affine)),
    Forward(TILING, movable_forward(TILING)),
    Forward(DTOW, movable_forward(DTOW)),
    Forward(WTOD, movable_forward(WTOD)),
    Forward(FLIP, once(any_affine)),
    Forward(CRELU, once(keeps_both), (once(keeps_zero), once(keeps_strict_order)), taking(0, 1, 2, 3, 0, 1, 2, 3)),
    Forward(CRELU_W, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(FLIP_DOWN, once(any_affine)),
    Forward(NEAREST, once(any_affine)),
    Forward(NEAREST_LAST, once(uniform)),
    Forward(DARKNET, once(any_affine)),
    Forward(PLUS_LINEAR, once(any_affine)),
    Forward(PLUS_NEAREST, once(any_affine)),
    Forward(TILED, once(any_affine)),
    Forward(UNTILED, movable_forward(UNTILED)),
    Forward(BATCHED, once(keeps_zero), (once(any_affine),)),
    Forward(BATCHED_WHOLE, once(any_affine)),
    Forward(UNBATCHED, once(any_affine)),
    Forward(BATCHED_CHANNELS, once(uniform)),
    Forward(UNBATCHED_CHANNELS, once(uniform)),
    Forward(EXPANDED, once(any_affine)),
    Forward(EXPANDED_BEFORE, once(uniform)),
    Forward(UNSTACKED, once(any_affine)),
    Forward(UNSTACKED_CHANNELS, once(uniform)),
    Forward(STRIDED, once(any_affine)),
    Forward(STRIDED_NEW, once(any_affine)),
    Forward(STRIDED_CHANNEL, once(any_affine)),
    Forward(STRIDED_AXES, once(any_affine)),
    Forward(PIECE, once(any_affine)),
    Forward(GATHERED, once(any_affine)),
    Forward(GATHERED_TABLE, once(any_affine)),
    Forward(GATHERED_ONE, once(any_affine)),
    Forward(GATHERED_SAMPLES, once(any_affine)),
    Forward(CHOSEN, once(any_affine, None)),
    Forward(CHOSEN_CHANNELS, once(uniform, None), (once(any_affine, None),), taking(0, 1, 2)),
    Forward(REPEATED, once(any_affine)),
    Forward(BROADCAST, once(any_affine)),
    Forward(BROADCAST_CHANNELS, once(uniform, channels=1)),
    Forward(MATRICES, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(MATRICES_BY_ONE, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(PYRAMID, once(any_affine)),
    Forward(MOST, once(keeps_order), (once(any_affine),)),
    Forward(LEAST, once(keeps_order), (once(any_affine),)),
    Forward(TOTAL, once(any_affine)),
    Forward(TOTAL_BATCH, once(keeps_zero), (once(any_affine),)),
    Forward(MAGNITUDES, once(keeps_both), (once(keeps_zero), once(keeps_order))),
    Forward(LENGTH, once(positive), (once(keeps_zero), once(keeps_strict_order))),
    Forward(UNPOOL, once(any_affine)),
    Forward(UNPOOL_GAPS, once(keeps_zero), (once(any_affine),)),
    Forward(UNPOOL_MIDDLE, once(keeps_zero), (once(any_affine),)),
    Forward(UNPOOL_STRIDE, once(keeps_zero), (once(any_affine),)),
    Forward(FLOW, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(MAPPED, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(UNPOOL_MASK, once(keeps_zero, None), (once(any_affine, None), once(None, uniform))),
    Forward(UNPOOL_PART, once(any_affine)),
    Forward(UNPOOL_SHARED, once(any_affine)),
    Forward(
        AXPY, gate_and_scale, (once(keeps_zero, None, None), once(None, any_affine, None), once(None, None, any_affine))
    ),
    Forward(AXPY, scale_and_all, (shifted_gate,)),
    Forward(POOL_MDS, in_each_part, (once(any_affine, channels=8),), taking(0, 1)),
    Forward(
        POOL_MDS_PAD,
        in_each_part_without_shift,
        (in_each_part,),
        taking(0, 1),
    ),
    Forward(FULL_ZOOM, once(any_affine)),
    Forward(POOL_SIDES, once(keeps_zero), (once(any_affine),)),
    Forward(POOL_INSIDE, once(any_affine)),
    Forward(POOL_SAME, once(keeps_order), (once(any_affine),)),
    Forward(POOL_3D, once(keeps_order), (once(any_affine),)),
    Forward(POOL_SHAPES, once(keeps_order), (once(any_affine),)),
]
