"""The rows of the commuting table, in every mode of their layers: what passes, what is refused, and what that would be.

`BACK` and `FORWARD` at the foot are the tables; `test_commute` holds the laws to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from algebra import fork_rows
from algebra.commute_kinds import (
    Back,
    Forward,
    Row,
    movable,
    movable_forward,
    on_all,
    once,
    one_scale,
    rank,
    taking,
    the_same,
)
from algebra.rows import (
    Array,
    Rng,
    any_affine,
    keeps_both,
    keeps_order,
    keeps_strict_order,
    keeps_zero,
    mask_and_values,
    shift,
    signed,
    take,
    uniform,
)

from bnfold.algebra.affine import Affine
from bnfold.net import Shape


def pooling(param: str, tops: int = 1, shape: Shape = (2, 4, 5, 5)) -> Row:
    return Row(f"pooling {param}", f'type: "Pooling" pooling_param {{ {param} }}', (shape,), tops=tops)


def samples_and_order(rng: Rng) -> list[Array]:
    """Three samples, and five indices of them."""
    return [signed(rng, (3, 4, 2, 5)), rng.permutation(np.array([0.0, 1.0, 2.0, 2.0, 0.0]))]


def samples_and_selector(rng: Rng) -> list[Array]:
    """Four samples of two blobs, of which two are picked."""
    return [signed(rng, (4, 4, 3)), signed(rng, (4, 2)), rng.permutation([0.0, -0.5, 0.0, 2.0]).reshape(4, 1, 1)]


def regions(channels: int) -> Callable[[Rng], list[Array]]:
    """Two samples, and a region within one, one of the other that leaves the image, and one outside of it."""
    boxes = np.array([[1.0, 0, 1, 4, 3], [0, 2, -4, 9, 5], [1, 40, 40, 50, 50]])
    return lambda rng: [signed(rng, (2, channels, 5, 6)), boxes]


def tap_by_tap(rng: Rng) -> Affine:
    """Three channels, each alike in all nine taps of a window."""
    return take(any_affine(rng, 3), np.repeat(np.arange(3), 9))


def reduction(param: str) -> Row:
    return Row(f"reduction {param}", f'type: "Reduction" reduction_param {{ {param} }}', ((2, 4, 3, 5),))


def parts(param: str) -> Row:
    text = f'type: "BatchReduction" batch_reduction_param {{ {param} }}'
    return Row(f"parts {param}", text, ((2, 4, 8, 5),))


MEAN_OF_PARTS = parts("level: 2 level: 2 reduction_param { axis: 2 operation: MEAN }")
MEAN_OF_ALL = parts("reduction_param { axis: 3 operation: MEAN }")
SUM_OF_PARTS = parts("level: 2 level: 2 reduction_param { axis: 2 }")
SUM_OF_UNLIKE = parts("level: 1 level: 2 reduction_param { axis: -1 }")
ABS = Row("magnitude", 'type: "AbsVal"', ((2, 4, 5, 5),))
REDUCED = reduction("axis: 2 coeff: -0.5")
REDUCED_ONE = reduction("axis: -1")
REDUCED_MEAN = reduction("operation: MEAN axis: 2 coeff: -3")
REDUCED_MAGNITUDES = reduction("operation: ASUM axis: 2 coeff: -2")
REDUCED_SQUARES = reduction("operation: SUMSQ axis: 2")
REDUCED_NOTHING = reduction("axis: 2 coeff: 0")
REDUCED_NAN = reduction("axis: 2 coeff: nan")
NEGATIVE = Affine(np.array(-1.5), np.array(0.25))
REDUCED_ALL = reduction("")
REDUCED_ALL_MEAN = reduction("operation: MEAN coeff: 2")
MVN = Row("mvn", 'type: "MVN"', ((2, 4, 5, 5),))
MVN_MEAN = Row("mvn of the mean", 'type: "MVN" mvn_param { normalize_variance: false }', ((2, 4, 5, 5),))
MVN_ACROSS = Row(
    "mvn across channels",
    'type: "MVN" mvn_param { normalize_variance: false across_channels: true }',
    ((2, 4, 5, 5),),
)
RELU = Row("relu", 'type: "ReLU"', ((2, 4, 5, 5),))
LEAKY = Row("leaky relu", 'type: "ReLU" relu_param { negative_slope: 0.25 }', ((2, 4, 5),))
PRELU = Row("prelu", 'type: "PReLU"', ((2, 4, 3, 3),), ((4,),))
PRELU_2D = Row("prelu of two axes", 'type: "PReLU"', ((3, 4),), ((4,),))
PRELU_SHARED = Row("prelu shared", 'type: "PReLU" prelu_param { channel_shared: true }', ((2, 4, 3),), ((),))
POOL_MAX = pooling("pool: MAX kernel_size: 2 stride: 2")
POOL_MAX_PAD = pooling("pool: MAX kernel_size: 3 stride: 2 pad: 1")
POOL_MAX_FLOOR = pooling("pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR", shape=(1, 4, 6, 6))
POOL_MAX_GLOBAL = pooling("pool: MAX global_pooling: true")
POOL_MAX_MASK = pooling("pool: MAX kernel_size: 2 stride: 2", tops=2)
POOL_MAX_EMPTY = pooling("pool: MAX kernel_size: 1 stride: 3")
POOL_AVE = pooling("pool: AVE kernel_size: 3 stride: 1")
POOL_AVE_CEIL = pooling("pool: AVE kernel_size: 2 stride: 2")
POOL_AVE_GLOBAL = pooling("pool: AVE global_pooling: true")
POOL_AVE_PAD = pooling("pool: AVE kernel_size: 3 stride: 2 pad: 1")
POOL_AVE_PAD_H = pooling("pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0")
POOL_AVE_EMPTY = pooling("pool: AVE kernel_size: 1 stride: 3", shape=(2, 4, 6, 6))
CONCAT = Row("concat of channels", 'type: "Concat"', ((2, 3, 4), (2, 1, 4), (2, 2, 4)))
CONCAT_OLD = Row("concat by concat_dim", 'type: "Concat" concat_param { concat_dim: 1 }', ((2, 3), (2, 2)))
CONCAT_BACK_AXIS = Row("concat on axis -3", 'type: "Concat" concat_param { axis: -3 }', ((2, 3, 4, 2), (2, 2, 4, 2)))
CONCAT_H = Row("concat of rows", 'type: "Concat" concat_param { axis: 2 }', ((2, 4, 3, 2), (2, 4, 2, 2)))
CONCAT_N = Row("concat of samples", 'type: "Concat" concat_param { axis: 0 }', ((2, 4, 3), (1, 4, 3)))
SLICE = Row("slice even", 'type: "Slice"', ((2, 6, 3),), tops=3)
SLICE_POINTS = Row(
    "slice at points", 'type: "Slice" slice_param { slice_point: 1 slice_point: 4 }', ((2, 6, 3, 2),), tops=3
)
SLICE_H = Row("slice of rows", 'type: "Slice" slice_param { axis: 2 }', ((2, 4, 6),), tops=2)
SLICE_H_ONE = Row("slice into one", 'type: "Slice" slice_param { axis: -1 }', ((2, 4, 6),))
SLICE_N = Row("slice of samples", 'type: "Slice" slice_param { axis: 0 }', ((2, 4, 6),), tops=2)
TWO = ((2, 4, 3, 3), (2, 4, 3, 3))
SUM = Row("eltwise sum", 'type: "Eltwise"', TWO)
SUM_COEFF = Row("eltwise sum coeff", 'type: "Eltwise" eltwise_param { coeff: 0.5 coeff: -2 }', TWO)
SUM_ZERO = Row("eltwise sum coeff 0", 'type: "Eltwise" eltwise_param { coeff: 0 coeff: -2 }', TWO)
SUM_NOTHING = Row("eltwise sum all coeff 0", 'type: "Eltwise" eltwise_param { coeff: 0 coeff: 0 }', TWO)
PROD = Row("eltwise prod", 'type: "Eltwise" eltwise_param { operation: PROD }', TWO)
MAX = Row("eltwise max", 'type: "Eltwise" eltwise_param { operation: MAX }', TWO)
INTERP_ZOOM = Row("interp zoom", 'type: "Interp" interp_param { zoom_factor: 2 }', ((2, 4, 3, 4),))
INTERP_SHRINK = Row("interp shrink", 'type: "Interp" interp_param { shrink_factor: 2 }', ((2, 4, 5, 6),))
INTERP_CROP = Row(
    "interp crop", 'type: "Interp" interp_param { pad_beg: -1 pad_end: -1 height: 7 width: 4 }', ((1, 4, 5, 6),)
)
REINDEX = Row("samples by index", 'type: "BatchReindex"', ((3, 4, 2, 5), (5,)), inputs=samples_and_order)
ROI = Row(
    "largest pixels of regions",
    'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.75 }',
    ((2, 4, 5, 6), (3, 5)),
    inputs=regions(4),
)
ROI_ALIGN = replace(
    ROI,
    name="samples of regions",
    text='type: "ROIAlign" roi_align_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.75 }',
)
ROI_BY_PLACE = Row(
    "means of regions by place",
    'type: "PSROIPooling" psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 0.75 }',
    ((2, 12, 5, 6), (3, 5)),
    inputs=regions(12),
)
COLUMNS = Row("windows", 'type: "Im2col" convolution_param { kernel_h: 2 kernel_w: 3 stride: 2 }', ((2, 4, 5, 6),))
COLUMNS_PAD = Row("padded windows", 'type: "Im2col" convolution_param { kernel_size: 3 pad: 1 }', ((2, 3, 4, 5),))
FILTER = Row(
    "samples that are picked", 'type: "Filter"', ((4, 4, 3), (4, 2), (4, 1, 1)), tops=2, inputs=samples_and_selector
)
UPSAMPLE = Row("upsample nearest", 'type: "Upsample" upsample_param { scale: 2 }', ((2, 4, 2, 3),))
UPSAMPLE_MASK = Row("upsample by mask", 'type: "Upsample"', ((2, 4, 3, 3), (2, 4, 3, 3)), inputs=mask_and_values)
CROP = Row("crop of the plane", 'type: "Crop" crop_param { offset: 1 offset: 2 }', ((2, 4, 5, 6), (1, 1, 3, 2)))
CROP_C = Row("crop of channels", 'type: "Crop" crop_param { axis: 1 offset: 2 }', ((2, 5, 4, 4), (2, 2, 2, 2)))
CROP_N = Row("crop of samples", 'type: "Crop" crop_param { axis: 0 offset: 1 }', ((3, 5, 4, 4), (2, 4, 2, 3)))
SHUFFLE = Row("shuffle of channels", 'type: "ShuffleChannel" shuffle_channel_param { group: 3 }', ((2, 6, 2, 2),))
REORG = Row("reorg", 'type: "Reorg" reorg_param { stride: 2 }', ((2, 8, 4, 4),))
REORG_TALL = Row("reorg of a tall plane", 'type: "Reorg" reorg_param { stride: 2 }', ((1, 16, 6, 2),))
PERMUTE = Row(
    "permute of the plane", 'type: "Permute" permute_param { order: 0 order: 1 order: 3 order: 2 }', ((2, 4, 2, 3),)
)
PERMUTE_C = Row(
    "permute of channels", 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', ((2, 4, 2, 3),)
)
PERMUTE_C_1 = Row("permute of a plane of one row", 'type: "Permute" permute_param { order: 0 order: 2 }', ((2, 1, 3),))
PERMUTE_N = Row("permute of samples", 'type: "Permute" permute_param { order: 1 }', ((4, 4, 2),))
FLATTEN = Row("flatten", 'type: "Flatten"', ((2, 3, 2, 2),))
FLATTEN_1 = Row("flatten of planes of one pixel", 'type: "Flatten"', ((2, 3, 1, 1),))
FLATTEN_MID = Row("flatten of rows alone", 'type: "Flatten" flatten_param { axis: 2 }', ((2, 3, 2, 2),))
FLATTEN_END = Row("flatten but columns", 'type: "Flatten" flatten_param { end_axis: 2 }', ((2, 3, 2, 2),))
FLATTEN_N = Row("flatten of samples", 'type: "Flatten" flatten_param { axis: 0 end_axis: 1 }', ((2, 3, 4),))
RESHAPE = Row("reshape to two axes", 'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', ((2, 3, 2, 2),))
RESHAPE_C = Row(
    "reshape cutting channels", 'type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: -1 } }', ((2, 6, 2),)
)
RESHAPE_MIX = Row(
    "reshape across channels", 'type: "Reshape" reshape_param { shape { dim: 0 dim: 4 dim: -1 } }', ((2, 6, 2),)
)
RESHAPE_AXIS = Row(
    "reshape of the plane", 'type: "Reshape" reshape_param { axis: 2 shape { dim: -1 } }', ((2, 3, 2, 4),)
)
RESHAPE_N = Row("reshape of samples", 'type: "Reshape" reshape_param { shape { dim: 3 dim: 2 } }', ((2, 3),))
PIXELS = Row("pixel shuffle", 'type: "PixelShuffle" pixel_shuffle_param { upscale_factor: 2 }', ((2, 12, 2, 3),))
PIXELS_INTEL = replace(
    PIXELS, name="Intel's", text='type: "Reshape" reshape_param { pixelshuffler: 2 }', oracle=PIXELS.text
)
GATE = Row("scale by a bottom", 'type: "Scale" scale_param { axis: 0 }', ((2, 4, 3, 3), (2, 4)))
GATE_MID = Row("scale by rows", 'type: "Scale" scale_param { axis: 1 }', ((2, 4, 3, 3), (4, 3)))
TILE = Row("tile of channels", 'type: "Tile" tile_param { tiles: 3 }', ((2, 4, 3, 2),))
TILE_W = Row("tile of columns", 'type: "Tile" tile_param { axis: -1 tiles: 2 }', ((2, 4, 3, 2),))
TILE_N = Row("tile of samples", 'type: "Tile" tile_param { axis: 0 tiles: 2 }', ((2, 4, 3, 2),))
ADD = Row("bias by a bottom", 'type: "Bias" bias_param { axis: 0 }', ((2, 4, 3, 3), (2, 4)))
GATE_BIAS = Row("scale by a bottom with bias", 'type: "Scale" scale_param { axis: 0 bias_term: true }', TWO, (TWO[0],))


BACK = [
    *fork_rows.BACK,
    Back(ABS, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(CONCAT, any_affine),
    Back(CONCAT_OLD, any_affine),
    Back(CONCAT_BACK_AXIS, any_affine),
    Back(CONCAT_H, any_affine),
    Back(CONCAT_N, any_affine),
    Back(CROP, any_affine),
    Back(CROP_C, any_affine),
    Back(CROP_N, any_affine),
    Back(MAX, keeps_order, (any_affine,), on_all(2)),
    Back(MVN, None, (any_affine, keeps_zero, keeps_strict_order)),
    Back(MVN_MEAN, keeps_zero, (any_affine, keeps_strict_order)),
    Back(MVN_ACROSS, None, (any_affine, keeps_zero)),
    Back(PROD, keeps_zero, (any_affine, keeps_strict_order)),
    Back(SUM, any_affine),
    Back(SUM_COEFF, any_affine),
    Back(SUM_NOTHING, keeps_zero, (any_affine,)),
    Back(SUM_ZERO, any_affine),
    Back(FLATTEN, any_affine),
    Back(FLATTEN, movable(FLATTEN)),
    Back(FLATTEN_1, any_affine),
    Back(FLATTEN_END, any_affine),
    Back(FLATTEN_END, movable(FLATTEN_END)),
    Back(FLATTEN_MID, any_affine),
    Back(FLATTEN_N, uniform),
    Back(INTERP_CROP, any_affine),
    Back(INTERP_SHRINK, any_affine),
    Back(INTERP_ZOOM, any_affine),
    Back(PRELU, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(PRELU_2D, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(PRELU_SHARED, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(PERMUTE, any_affine),
    Back(PERMUTE_C, any_affine),
    Back(PERMUTE_C_1, any_affine),
    Back(PERMUTE_N, any_affine),
    Back(POOL_AVE, any_affine),
    Back(POOL_AVE_CEIL, any_affine),
    Back(POOL_AVE_EMPTY, None, (keeps_strict_order,)),
    Back(POOL_AVE_GLOBAL, any_affine),
    Back(POOL_AVE_PAD, keeps_zero, (any_affine, keeps_strict_order)),
    Back(POOL_AVE_PAD_H, keeps_zero, (any_affine, keeps_strict_order)),
    Back(POOL_MAX, keeps_order, (any_affine, keeps_zero)),
    Back(POOL_MAX_EMPTY, None, (keeps_strict_order,)),
    Back(POOL_MAX_FLOOR, keeps_order, (any_affine,)),
    Back(POOL_MAX_GLOBAL, keeps_order, (any_affine,)),
    Back(POOL_MAX_MASK, keeps_strict_order, (any_affine, rank(keeps_order))),
    Back(POOL_MAX_PAD, keeps_order, (any_affine,)),
    Back(RELU, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(LEAKY, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(MEAN_OF_PARTS, any_affine),
    Back(MEAN_OF_ALL, any_affine),
    Back(SUM_OF_PARTS, any_affine),
    Back(SUM_OF_UNLIKE, keeps_zero, (any_affine,)),
    Back(REDUCED, any_affine),
    Back(REDUCED_ONE, any_affine),
    Back(REDUCED_MEAN, any_affine),
    Back(REDUCED_MAGNITUDES, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(REDUCED_SQUARES, None, (keeps_both, any_affine)),
    Back(REDUCED_NAN, None, (keeps_strict_order,)),
    Back(REDUCED_NOTHING, None, (keeps_strict_order,)),
    Back(REORG, any_affine),
    Back(REORG, movable(REORG)),
    Back(REORG_TALL, any_affine),
    Back(REORG_TALL, movable(REORG_TALL)),
    Back(PIXELS, any_affine),
    Back(PIXELS_INTEL, any_affine),
    Back(RESHAPE, any_affine),
    Back(RESHAPE, movable(RESHAPE)),
    Back(RESHAPE_AXIS, any_affine),
    Back(RESHAPE_C, any_affine),
    Back(RESHAPE_MIX, any_affine),
    Back(RESHAPE_MIX, movable(RESHAPE_MIX)),
    Back(RESHAPE_N, uniform, (any_affine,), lambda affine: [take(affine, np.array([0, 1, 0]))]),
    Back(GATE, keeps_zero, (any_affine,)),
    Back(GATE_MID, keeps_zero, (any_affine,)),
    Back(ADD, any_affine),
    Back(GATE_BIAS, None, (keeps_zero, any_affine)),
    Back(SHUFFLE, any_affine),
    Back(SLICE, any_affine, top=0),
    Back(SLICE, any_affine, top=2),
    Back(SLICE_H, any_affine, top=1),
    Back(SLICE_H_ONE, any_affine),
    Back(SLICE_N, None, (any_affine,), on_all(1)),
    Back(SLICE_POINTS, any_affine, top=1),
    Back(TILE, movable(TILE)),
    Back(TILE, None, (any_affine,), lambda affine: [take(affine, np.arange(4))]),
    Back(TILE_W, any_affine),
    Back(TILE_N, any_affine),
    Back(REINDEX, any_affine),
    Back(ROI, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(ROI_ALIGN, keeps_both, (keeps_zero, keeps_strict_order)),
    Back(ROI_BY_PLACE, keeps_zero, (any_affine,), lambda affine: [take(affine, np.arange(12) // 4), None]),
    Back(COLUMNS, movable(COLUMNS)),
    Back(
        COLUMNS_PAD,
        lambda rng, _: tap_by_tap(rng).without_shift(),
        (lambda rng, _: tap_by_tap(rng), keeps_zero),
        lambda affine: [take(affine, np.arange(0, 27, 9))],
    ),
    Back(FILTER, any_affine, top=0),
    Back(UPSAMPLE, any_affine),
    Back(UPSAMPLE_MASK, keeps_zero, (any_affine,)),
]

FORWARD = [
    *fork_rows.FORWARD,
    Forward(ABS, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(CONCAT, lambda rng: [any_affine(rng, 3), None, any_affine(rng, 2)]),
    Forward(CONCAT_OLD, lambda rng: [None, any_affine(rng, 2)]),
    Forward(CONCAT_BACK_AXIS, lambda rng: [any_affine(rng, 3), any_affine(rng, 2)]),
    Forward(CONCAT_H, the_same(any_affine, 2)),
    Forward(CONCAT_H, once(any_affine, None)),
    Forward(CONCAT_H, once(any_affine, any_affine)),
    Forward(CONCAT_N, the_same(any_affine, 2), (once(any_affine, None), once(None, any_affine))),
    Forward(MVN, once(shift), (once(any_affine), once(keeps_zero))),
    Forward(MVN_MEAN, once(any_affine)),
    Forward(MVN_ACROSS, once(any_affine, channels=1), (once(any_affine), once(shift))),
    Forward(CROP, once(any_affine, None)),
    Forward(CROP, lambda rng: [None, any_affine(rng, 1)]),
    Forward(CROP_C, once(any_affine, None, channels=5)),
    Forward(CROP_N, once(any_affine, None, channels=5)),
    Forward(MAX, the_same(keeps_order, 2), (the_same(any_affine, 2), once(keeps_order, None), once(None, keeps_order))),
    Forward(PROD, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(PROD, once(keeps_zero, keeps_zero), (once(keeps_zero, any_affine),)),
    Forward(SUM, one_scale, (once(any_affine, any_affine), once(any_affine, None), once(None, any_affine))),
    Forward(SUM_COEFF, one_scale, (once(any_affine, any_affine),)),
    Forward(SUM_NOTHING, once(any_affine, None)),
    Forward(SUM_ZERO, once(any_affine, any_affine)),
    Forward(SUM_ZERO, once(any_affine, None)),
    Forward(FLATTEN, movable_forward(FLATTEN)),
    Forward(FLATTEN_1, once(any_affine, channels=3)),
    Forward(FLATTEN_END, movable_forward(FLATTEN_END)),
    Forward(FLATTEN_MID, once(any_affine, channels=3)),
    Forward(FLATTEN_N, once(uniform, channels=3), (once(any_affine, channels=3),), taking(0, 1, 2, 0)),
    Forward(INTERP_CROP, once(any_affine)),
    Forward(INTERP_SHRINK, once(any_affine)),
    Forward(INTERP_ZOOM, once(any_affine)),
    Forward(PRELU, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(PRELU_2D, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(PRELU_SHARED, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(PERMUTE, once(any_affine)),
    Forward(PERMUTE_C, once(any_affine)),
    Forward(PERMUTE_C_1, once(any_affine, channels=1)),
    Forward(PERMUTE_N, once(any_affine)),
    Forward(POOL_AVE, once(any_affine)),
    Forward(POOL_AVE_CEIL, once(any_affine)),
    Forward(POOL_AVE_EMPTY, None, (once(keeps_strict_order),)),
    Forward(POOL_AVE_GLOBAL, once(any_affine)),
    Forward(POOL_AVE_PAD, once(keeps_zero), (once(any_affine), once(keeps_strict_order))),
    Forward(POOL_AVE_PAD_H, once(keeps_zero), (once(any_affine), once(keeps_strict_order))),
    Forward(POOL_MAX, once(keeps_order), (once(any_affine), once(keeps_zero))),
    Forward(POOL_MAX_EMPTY, None, (once(keeps_strict_order),)),
    Forward(POOL_MAX_FLOOR, once(keeps_order), (once(any_affine),)),
    Forward(POOL_MAX_GLOBAL, once(keeps_order), (once(any_affine),)),
    Forward(POOL_MAX_MASK, once(keeps_strict_order), (once(any_affine), once(rank(keeps_order)))),
    Forward(POOL_MAX_PAD, once(keeps_order), (once(any_affine),)),
    Forward(RELU, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(LEAKY, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(MEAN_OF_PARTS, once(any_affine)),
    Forward(MEAN_OF_ALL, once(any_affine)),
    Forward(SUM_OF_PARTS, once(any_affine)),
    Forward(SUM_OF_UNLIKE, once(keeps_zero), (once(any_affine),)),
    Forward(REDUCED, once(any_affine)),
    Forward(REDUCED_ONE, once(any_affine)),
    Forward(REDUCED_MEAN, once(any_affine)),
    Forward(REDUCED_MAGNITUDES, once(keeps_both), (once(keeps_zero), once(keeps_strict_order))),
    Forward(REDUCED_SQUARES, None, (once(keeps_both), once(any_affine))),
    Forward(REDUCED_NAN, None, (once(keeps_strict_order),)),
    Forward(REDUCED_NOTHING, None, (once(keeps_strict_order),)),
    Forward(REDUCED_ALL, lambda _: [NEGATIVE.without_shift()], (lambda _: [NEGATIVE],)),
    Forward(REDUCED_ALL_MEAN, lambda _: [NEGATIVE], (lambda rng: [any_affine(rng, 4)],), lambda _: [NEGATIVE]),
    Forward(REORG, once(any_affine, channels=8)),
    Forward(REORG_TALL, once(any_affine, channels=16)),
    Forward(PIXELS, movable_forward(PIXELS)),
    Forward(PIXELS, once(any_affine, channels=12)),
    Forward(PIXELS_INTEL, once(any_affine, channels=12)),
    Forward(RESHAPE, movable_forward(RESHAPE)),
    Forward(RESHAPE_AXIS, once(any_affine, channels=3)),
    Forward(RESHAPE_C, once(any_affine, channels=6)),
    Forward(RESHAPE_MIX, once(any_affine, channels=6)),
    Forward(RESHAPE_N, once(uniform, channels=3), (once(any_affine, channels=3),), taking(0, 1)),
    Forward(GATE, once(keeps_zero, None), (once(any_affine, None),)),
    Forward(GATE, once(keeps_zero, keeps_zero), (once(keeps_zero, any_affine),)),
    Forward(GATE, once(None, keeps_zero), (once(None, any_affine),)),
    Forward(GATE_MID, lambda rng: [keeps_zero(rng, 4), uniform(rng, 3).without_shift()]),
    Forward(GATE_MID, lambda rng: [None, keeps_zero(rng, 3)]),
    Forward(ADD, one_scale, (once(any_affine, None),)),
    Forward(GATE_BIAS, None, (once(keeps_zero, None), once(None, keeps_zero))),
    Forward(SHUFFLE, once(any_affine, channels=6)),
    Forward(SLICE, once(any_affine, channels=6)),
    Forward(SLICE_H, once(any_affine)),
    Forward(SLICE_H_ONE, once(any_affine)),
    Forward(SLICE_N, once(any_affine)),
    Forward(SLICE_POINTS, once(any_affine, channels=6)),
    Forward(TILE, once(any_affine)),
    Forward(TILE_W, once(any_affine)),
    Forward(TILE_N, once(any_affine)),
    Forward(REINDEX, once(any_affine, None)),
    Forward(ROI, once(keeps_both, None), (once(keeps_zero, None), once(keeps_strict_order, None))),
    Forward(ROI_ALIGN, once(keeps_both, None), (once(keeps_zero, None), once(keeps_strict_order, None))),
    Forward(ROI_BY_PLACE, once(keeps_zero, None, channels=12), (once(any_affine, None, channels=12),), taking(0, 4, 8)),
    Forward(COLUMNS, once(any_affine)),
    Forward(
        COLUMNS_PAD,
        once(keeps_zero, channels=3),
        (once(any_affine, channels=3),),
        taking(*np.arange(27) // 9),
    ),
    Forward(FILTER, once(any_affine, None, None)),
    Forward(UPSAMPLE, once(any_affine)),
    Forward(UPSAMPLE_MASK, once(keeps_zero, None), (once(any_affine, None), once(None, uniform))),
]
