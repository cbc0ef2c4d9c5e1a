"""The layers that an affine passes unchanged, each with what it asks of the affine."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from bnfold.algebra import reasons
from bnfold.algebra.operators import PLANE, Axes, Clip, Opaque, Operator, Pass, Regroup, Take
from bnfold.algebra.records import require
from bnfold.caffe.layers import (
    UNKNOWN,
    Convolution,
    Pad,
    Pooling,
    ReLU,
    Resizing,
    SpaceToBatch,
    UnPooling,
    Upsampling,
)
from bnfold.caffe.layers.activation import clip_bounds
from bnfold.caffe.layers.reduction import BatchReduction, Reduced, reduction_operation
from bnfold.caffe.layers.row import count
from bnfold.caffe.operators.context import LayerContext
from bnfold.caffe.operators.movement import MIXES_SAMPLES, SIZE_UNKNOWN, movement

_BATCH, _HEIGHT, _WIDTH = -2, -3, -4
"""Names of sizes that stay what they are."""

RECTIFIER = Pass(zero="a shift would move ReLU's threshold away from 0", order=reasons.TURNS_OVER)


def rectifier(context: LayerContext) -> Operator:
    """`max(x, 0) + slope*min(x, 0)` is linear on each side of 0, which a positive factor leaves in place.

    Source: relu_layer.cpp, prelu_layer.cpp; rrelu_layer.cpp of ducha-aiki's Caffe.
    """
    if context.layer.type == "ReLU" and ReLU.of(context.layer).bounded:
        return Opaque(reasons.CUTS)
    return RECTIFIER


def concatenated(context: LayerContext) -> Pass:
    """`max(x, 0)` and `max(-x, 0)` one behind the other: a positive factor of x is one of both.

    Source: crelu_layer.cpp of Cambricon's Caffe.
    """
    axis = context.axis(context.layer.param.crelu_param.concat_axis)
    require(axis != 0, MIXES_SAMPLES)
    size = context.bottom[axis]
    require(size != UNKNOWN, SIZE_UNKNOWN)
    return RECTIFIER._replace(steps=(Take(axis, np.tile(np.arange(size), 2), size),))


def clip(context: LayerContext) -> Operator:
    """`min(max(x, min), max)`.

    Source: clip_layer.cpp.
    """
    low, high = clip_bounds(context.layer)
    return Clip(low, high, np.dtype(np.float32)) if low <= high else Opaque(reasons.NOTHING_BETWEEN)


def magnitude(_: LayerContext) -> Pass:
    """`|s*x| = s*|x|` for s >= 0.

    Source: absval_layer.cpp.
    """
    return Pass(zero="a shift would move the 0 from which AbsVal measures", order="a negative scale would be lost")


def pooling(context: LayerContext) -> Operator:
    """MAX needs order kept; a padded AVE counts zeros that it does not sum, so it needs zero kept.

    MDS sums one value of each of the k*k parts of the channels, so an affine must be the same in all of them.

    Source: pooling_layer.cpp; MDS of OpenVINO's training Caffe.
    """
    shape = context.shape(context.layer.bottoms[0])
    rank = 5 if context.layer.type in ("NdPooling", "Pooling3D") else 4
    pool = Pooling.of(context.layer, shape or (UNKNOWN,) * rank)
    if not pool.windows_never_empty:
        return Opaque("a pooling window contains no input pixel, and what it gives then is no average")
    if pool.method == "MAX":
        strict = (
            "MAX pooling with a mask needs every scale > 0, and neither a tiny one nor a shift far beyond it"
            if len(context.layer.tops) > 1
            else ""
        )
        return Pass(order="MAX pooling needs every scale >= 0", strict=strict, plane=PLANE)
    if pool.method == "AVE":
        counted = pool.padded and pool.counts_padding
        return Pass(zero="padded AVE pooling needs every shift == 0" if counted else "", plane=PLANE)
    if pool.method == "MDS" and shape is not None and shape[1] != UNKNOWN:
        # Channel `tap*C' + c` of the bottom goes into channel c of the top.
        taps = math.prod(pool.kernel)
        parts = (_BATCH, taps, shape[1] // taps, _HEIGHT, _WIDTH)
        steps = (Regroup((_BATCH, shape[1], _HEIGHT, _WIDTH), parts), Axes((0, 2, 3, 4)))
        zero = "padded MDS pooling needs every shift == 0" if pool.padded else ""
        return Pass(zero=zero, plane=PLANE, steps=steps, total=taps)
    return Opaque(f"{pool.method} pooling is no fixed function")


def regions(_: LayerContext) -> Pass:
    """The largest pixel, or of ROIAlign the largest of four sums, of each bin of a region, which names its sample.

    Source: roi_pooling_layer.cpp of Fast R-CNN; roi_align_layer.cpp of CaffeROIAlign.
    """
    return Pass(zero=reasons.EMPTY_BIN, order=reasons.UNORDERED, plane=(0, *PLANE))


def regions_by_place(context: LayerContext) -> Pass:
    """The mean of channel `(c*g + i)*g + j` over bin (i, j) of a region, which names its sample.

    Source: psroi_pooling_layer.cu of R-FCN.
    """
    param = context.layer.param.psroi_pooling_param
    group, outputs = param.group_size, param.output_dim
    shape = (_BATCH, outputs * group * group, _HEIGHT, _WIDTH)
    steps = (Regroup(shape, (_BATCH, outputs, group, group, _HEIGHT, _WIDTH)), Axes((0, 1, 2, 3)))
    return Pass(zero=reasons.EMPTY_BIN, plane=(0, *PLANE), steps=steps)


def columns(context: LayerContext) -> Pass:
    """Each channel k times, once for each tap of the window.

    Source: im2col_layer.cpp.
    """
    axis, shape = context.axis(context.layer.param.convolution_param.axis), context.bottom
    require(len(context.layer.bottoms) == 1, "it lays out several blobs")
    require(axis != 0, MIXES_SAMPLES)
    require(shape[axis] != UNKNOWN, SIZE_UNKNOWN)
    view = Convolution.of(context.layer, len(shape) - axis - 1, shape)
    each = np.repeat(np.arange(shape[axis]), math.prod(view.kernel))
    zero = reasons.ZEROS_AROUND if view.padded else ""
    return Pass(zero=zero, plane=range(axis + 1, len(shape)), steps=(Take(axis, each, shape[axis]),))


def samples(_: LayerContext) -> Pass:
    """Whole samples in another order, some of them or some twice; other bottoms say which.

    Source: batch_reindex_layer.cpp, filter_layer.cpp.
    """
    return Pass(plane=(0,))


def gather_v2(context: LayerContext) -> Pass:
    """Elements of an axis that the other bottom says, so that all along it must be alike.

    Source: gather_v2_layer.cpp of Synopsys' Caffe.
    """
    bottom, indices = context.bottoms
    axis = context.axis(context.layer.param.gather_v2_param.axis)
    require(axis > 0 or len(indices) == 1, MIXES_SAMPLES)
    order = (*range(axis), *[None] * len(indices), *range(axis + 1, len(bottom)))
    return Pass(plane=(axis,), steps=(Axes(order),))


def interpolation(_: LayerContext) -> Pass:
    """Each output is a weighted mean of inputs, weights summing to 1; its pads only crop.

    Source: interp_layer.cpp of PSPNet's Caffe, resample_layer.cu of FlowNet2's, UpsampleDarknet of Synopsys'.
    """
    return Pass(plane=PLANE)


def pyramid(_: LayerContext) -> Pass:
    """A pixel and four weighted means of all: weights that sum to 5.

    Source: icnet_subgraph_layer.cpp of Synopsys' Caffe.
    """
    return Pass(plane=PLANE, total=5.0)


def resize(context: LayerContext) -> Pass:
    """Each output is a copy or a weighted mean of pixels; the plane is axes 1 and 2 where the channels are last.

    Source: Synopsys' Caffe; deephi_resize_layer.cpp of Vitis'.
    """
    return Pass(plane=(1, 2) if Resizing.of(context.layer, context.bottom).last else PLANE)


def sampling(context: LayerContext) -> Pass:
    """Weighted means of pixels, the weights summing to 1; what is outside of the image reads as 0, or as NaN.

    Source: flow_warp_layer.cu of FlowNet2's Caffe; st_layer.cu of Kaichun Mo's.
    """
    param = context.layer.param.flow_warp_param
    nan = context.layer.type == "FlowWarp" and param.fill_value == param.NOT_A_NUMBER
    return Pass(zero="" if nan else reasons.ZEROS_OUTSIDE, plane=PLANE)


def reduced(context: LayerContext) -> Pass:
    """A mean, a sum, an extreme or a norm of what is constant over the axes that it reduces.

    An extreme needs order kept, and a norm zero as well. A sum over the batch takes no shift, since the batch may be of
    any size.

    Source: ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceL1 and ReduceL2 of Synopsys' Caffe.
    """
    bottom = context.bottom
    axes, keep = Reduced.of(context.layer, len(bottom))
    stays = Axes(tuple(axis for axis in range(len(bottom)) if axis not in axes))
    passing = Pass(plane=axes, steps=() if keep else (stays,))
    if context.layer.type == "ReduceMean":
        return passing
    if context.layer.type in ("ReduceL1", "ReduceL2"):
        strict = (
            "the square of what is scaled so little or so much leaves float32" if context.layer.type[-1] == "2" else ""
        )
        zero, order = "a shift would move the 0 from which a norm measures", "a negative scale would be lost"
        return passing._replace(zero=zero, order=order, strict=strict)
    if context.layer.type != "ReduceSum":
        return passing._replace(order="a maximum or minimum needs every scale >= 0")
    total = count([bottom[axis] for axis in axes])
    unknown = 0 in axes or total == UNKNOWN
    return passing._replace(zero=reasons.SUM_OF_ANY_SIZE) if unknown else passing._replace(total=total)


def batch_reduction(context: LayerContext) -> Pass:
    """Means or sums of parts of an axis, over which an affine must be constant; sums of unlike parts take no shift.

    Source: batch_reduction_layer.cpp of PSPNet's Caffe.
    """
    view = BatchReduction.of(context.layer, context.bottom)
    stays = Axes(tuple(axis for axis in range(len(context.bottom)) if axis != view.axis))
    passing = Pass(plane=(view.axis,), steps=() if view.keep else (stays,))
    if view.mean:
        return passing
    if view.axis == 0 or UNKNOWN in view.parts or len(set(view.parts)) > 1:
        return passing._replace(zero=reasons.SUM_OF_ANY_SIZE)
    return passing._replace(total=view.parts[0])


def mean_variance(context: LayerContext) -> Operator:
    """`x - mean` over the plane, or over channels and plane, in which a shift vanishes; perhaps over a deviation.

    Source: mvn_layer.cpp.
    """
    param = context.layer.param.mvn_param
    factor = reasons.NORMALISES if param.normalize_variance else ""
    return Pass(factor=factor, plane=(1, *PLANE) if param.across_channels else PLANE, total=0.0)


def reduction(context: LayerContext) -> Operator:
    """`coeff` times a sum, a mean or a sum of magnitudes over `axis` and all axes behind it; squares let nothing pass.

    A sum over the batch takes no shift, since the batch may be of any size.

    Source: reduction_layer.cpp.
    """
    param, bottom, operation = context.layer.param.reduction_param, context.bottom, reduction_operation(context.layer)
    axis = context.axis(param.axis)
    passing = Pass(plane=range(axis, len(bottom)), steps=(Axes(tuple(range(axis))),))
    if operation == "SUMSQ" or not 0 < abs(param.coeff) < math.inf:
        return Opaque(f"{operation} times {param.coeff:g} lets no affine pass")
    if operation == "ASUM":
        zero, order = "a shift would move the 0 from which ASUM measures", "a negative scale would be lost"
        return passing._replace(zero=zero, order=order)
    total = param.coeff * (count(bottom[axis:]) if operation == "SUM" else 1)
    if operation == "SUM" and (axis == 0 or UNKNOWN in bottom[axis:] or total == 0):
        return passing._replace(zero=reasons.SUM_OF_ANY_SIZE)
    return passing._replace(total=total)


def pad(context: LayerContext) -> Operator:
    """Zeros around need zero kept; an edge or a mirror copies elements.

    Source: Pad and MirrorPad of Synopsys' Caffe; Padding of other forks.
    """
    bottom = context.bottom
    view = Pad.of(context.layer, bottom)
    axes = [axis for axis, pads in enumerate(zip(view.before, view.after, strict=True)) if any(pads)]
    if view.mode == "CONSTANT":
        if view.value != 0:
            return Opaque(f"it puts {view.value:g} around")
        return Pass(zero=reasons.ZEROS_AROUND, plane=axes)
    require(UNKNOWN not in [bottom[axis] for axis in axes], SIZE_UNKNOWN)
    modes: dict[str, Literal["edge", "reflect", "symmetric"]]
    modes = {"EDGE": "edge", "REFLECT": "reflect", "SYMMETRIC": "symmetric"}
    steps = []
    for axis in axes:
        indices = np.pad(np.arange(bottom[axis]), (view.before[axis], view.after[axis]), mode=modes[view.mode])
        steps.append(Take(axis, indices, bottom[axis] if axis else UNKNOWN))
    return movement(*steps)


def space_to_batch(context: LayerContext) -> Pass:
    """Pixels become samples, or samples pixels, so an affine must be the same for all; zeros around need zero kept.

    Source: SpaceToBatchND and BatchToSpaceND of Synopsys' Caffe.
    """
    view = SpaceToBatch.of(context.layer, context.bottom)
    padded = context.layer.type == "SpaceToBatchND" and any(map(any, view.pads))
    return Pass(zero=reasons.ZEROS_AROUND if padded else "", plane=(0, *view.axes))


def unpooling(context: LayerContext) -> Pass:
    """REP and DIV without gaps give weighted sums; where pixels stay empty, zero must be kept.

    Source: unpooling_layer.cpp of extended-caffe.
    """
    view = UnPooling.of(context.layer, [context.bottom, *map(context.known, context.layer.bottoms[1:])])
    covers = view.method != "FIXED" and all(s <= k for s, k in zip(view.stride, view.kernel, strict=True))
    zero = "" if covers else "an unpooling that leaves gaps needs every shift == 0"
    return Pass(zero=zero, plane=PLANE, total=1 / math.prod(view.kernel) if view.method == "DIV" else 1.0)


def unpooling_by_mask(_place: LayerContext) -> Pass:
    """It writes zeros wherever no pixel goes.

    Source: unpooling_layer.cpp of DeconvNet's Caffe.
    """
    return Pass(zero="an unpooling writes zeros between its pixels, so every shift must be 0", plane=PLANE)


def upsample(context: LayerContext) -> Pass:
    """Nearest repeats each pixel; by a pooling mask it writes zeros wherever the mask does not point.

    Source: upsample_layer.cpp of SegNet's Caffe and of MobileNet-YOLO's.
    """
    masked = Upsampling.of(context.layer).kind == "mask"
    return Pass(zero="upsampling by a mask writes zeros, so every shift must be 0" if masked else "", plane=PLANE)
