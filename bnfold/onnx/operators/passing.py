"""What lets an affine pass if it fulfils conditions: rectifiers, pools, reductions, resizing, padding.

Each function states the formula of the ONNX operator that it names first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import TensorProto

from bnfold.algebra import reasons
from bnfold.algebra.operators import PLANE, Alias, Axes, Clip, Operator, Pass, Spread, Steps
from bnfold.net import Array
from bnfold.onnx.node import Windows
from bnfold.onnx.operators.context import SAME, NodeContext, Unfit, axis_of
from bnfold.onnx.sizes import UNKNOWN, last_window


def rectifier(context: NodeContext) -> Operator:
    """Abs, LeakyRelu, PRelu, Relu: `max(x, 0) + slope*min(x, 0)`, linear on each side of 0; `|x|` has the slope -1."""
    del context
    return Pass(zero="a shift would move its threshold away from 0", order=reasons.TURNS_OVER)


def thresholded(context: NodeContext) -> Operator:
    """ThresholdedRelu: x where it is larger than alpha, else 0; of alpha 0 a Relu."""
    if context.node.attribute("alpha", 1.0):
        raise Unfit("it jumps at its threshold, which rounding would move a value across")
    return rectifier(context)


def clip(context: NodeContext) -> Operator:
    """Clip: `min(max(x, low), high)`; bounds are inputs from opset 11 on, and of the type of x."""
    low, high = (_bound(context, name, index) for index, name in enumerate(("min", "max"), 1))
    if context.node.opset < 11 and context.element == TensorProto.DOUBLE:
        if any((low, high)):
            raise Unfit("its bounds are float32, and what it reads float64")
        return rectifier(context)
    return between(context, -np.inf if low is None else low, np.inf if high is None else high)


def between(context: NodeContext, low: float, high: float) -> Clip | Pass:
    """What cuts at two bounds, of which some may be infinite."""
    if low == -high == -np.inf:
        return Pass()
    if not low <= high or low == np.inf or high == -np.inf:
        raise Unfit(reasons.NOTHING_BETWEEN)
    return Clip(low, high, next((bound.dtype for bound in context.layer.blobs.stored), np.dtype(np.float32)))


def _bound(context: NodeContext, name: str, index: int) -> float | None:
    """A bound of a Clip, None where it is not given. Raises Unfit."""
    node = context.node
    if node.opset < 11:
        return node.attribute(name, 0.0) if node.has(name) else None
    values = context.values(index)
    if values is None and node.given(index):
        raise Unfit("its bounds are known only when it runs")
    return None if values is None else float(values.item())


def max_pool(context: NodeContext) -> Operator:
    """MaxPool: the largest of each window; padding never wins."""
    _reach(context)
    order = reasons.UNORDERED
    strict = "where a maximum is needs every scale > 0" if len(context.layer.tops) > 1 else ""
    return Pass(order=order, strict=strict, plane=PLANE)


def average_pool(context: NodeContext) -> Operator:
    """AveragePool: the mean of each window; with count_include_pad, zeros are counted that are not there."""
    node, reach = context.node, _reach(context)
    if not node.attribute("count_include_pad", 0):
        return Pass(plane=PLANE)
    zero = ""
    if any(node.ints("pads")) or node.attribute("auto_pad", "NOTSET") in SAME or node.attribute("ceil_mode", 0):
        zero = "it counts its padding (count_include_pad), so a shift would be wrong at the border"
    elif not _holds_windows(context, reach):
        zero = "it counts what a plane smaller than its window lacks (count_include_pad), and a shift would be missing"
    return Pass(zero=zero, plane=PLANE)


def _holds_windows(context: NodeContext, reach: Sequence[int]) -> bool:
    """Whether a plane that a pool takes is never smaller than its window.

    onnxruntime gives one value for one that is smaller by less than a stride, as if there were padding behind it.
    """
    strides = context.node.ints("strides") or (1,) * len(reach)
    plane = context.bottom()[2:] if context.fold.shapes.get(context.layer.bottoms[0]) else (UNKNOWN,) * len(reach)
    return all(
        size >= reached or (size < 0 and (stride == 1 or reached == 1))
        for size, reached, stride in zip(plane, reach, strides, strict=False)
    )


def _reach(context: NodeContext) -> list[int]:
    """How far each window reaches, by axis. Raises Unfit where one may hold nothing but padding."""
    node, kernel = context.node, context.node.ints("kernel_shape")
    windows = Windows.of(node.attributes, len(kernel))
    if not kernel or windows is None:
        raise Unfit("its kernel, strides and pads do not fit together")
    reach = windows.reach(kernel)
    if max(windows.dilations) > 1 and (
        any((*windows.before, *windows.behind)) or node.attribute("auto_pad", "NOTSET") in SAME
    ):
        raise Unfit("a dilated window of it may hold nothing but padding")
    if any(max(pads) >= size for *pads, size in zip(windows.before, windows.behind, reach, strict=True)):
        raise Unfit("a window of it may hold nothing but padding")
    if node.attribute("ceil_mode", 0) and node.opset < 22:  # since when one that begins behind the image is left out
        for axis, window in enumerate(zip(windows.before, windows.behind, reach, windows.strides, strict=True)):
            if window[1] + window[3] <= window[2]:
                continue  # it begins within the image, however large that is
            size = context.bottom()[2 + axis]
            if size < 0:
                raise Unfit("whether its last window (ceil_mode) holds anything depends on a size that is unknown")
            if last_window(size, *window) >= size:
                raise Unfit("its last window (ceil_mode) holds nothing but padding")
    return reach


def mean_variance(context: NodeContext) -> Operator:
    """MeanVarianceNormalization: `(x - mean)/(deviation + 1e-9)` over some axes, in which a shift vanishes."""
    axes, rank = context.node.ints("axes") or (0, 2, 3), len(context.bottom())
    return Pass(factor=reasons.NORMALISES, plane={axis_of(axis, rank) for axis in axes}, total=0.0)


def norm_pool(context: NodeContext) -> Operator:
    """LpPool, GlobalLpPool: the norm of each window, `|s*x| = s*|x|` for s >= 0, unless a power leaves float32."""
    del context
    return Pass(zero=NORM_ZERO, order=NORM_ORDER, strict=NORM_STRICT, plane=PLANE)


def global_pool(context: NodeContext) -> Operator:
    """GlobalAveragePool: the mean over the plane."""
    del context
    return Pass(plane=PLANE)


def global_max_pool(context: NodeContext) -> Operator:
    """GlobalMaxPool: the maximum over the plane."""
    del context
    return Pass(order=reasons.UNORDERED, plane=PLANE)


def reduce_mean(context: NodeContext) -> Operator:
    """ReduceMean: the mean over some axes."""
    return _reduction(context)


def reduce_extreme(context: NodeContext) -> Operator:
    """ReduceMax, ReduceMin: the largest or smallest over some axes."""
    return _reduction(context, order="an extreme needs every scale >= 0")


def reduce_sum(context: NodeContext) -> Operator:
    """ReduceSum: the sum over some axes; a shift comes out as many times as values are summed."""
    passing = _reduction(context)
    if not isinstance(passing, Pass):
        return passing
    summed = [size for axis, size in enumerate(context.bottom()) if axis in passing.plane]
    known = min(summed, default=1) > 0
    return passing._replace(total=float(prod(summed))) if known else passing._replace(zero=reasons.SUM_OF_ANY_SIZE)


def reduce_norm(context: NodeContext) -> Operator:
    """ReduceL1, ReduceL2: the norm over some axes, `|s*x| = s*|x|` for s >= 0, unless the square leaves float32."""
    strict = NORM_STRICT if context.layer.type == "ReduceL2" else ""
    return _reduction(context, zero=NORM_ZERO, order=NORM_ORDER, strict=strict)


def _reduction(context: NodeContext, zero: str = "", order: str = "", strict: str = "") -> Operator:
    """Axes are an input from opset 18 on, those of ReduceSum from 13 on."""
    shape = context.bottom()
    rank = len(shape)
    axes = context.axes(13 if context.layer.type == "ReduceSum" else 18, rank)
    kept = context.flag("keepdims", True)
    if not axes and context.flag("noop_with_empty_axes", False):
        # A norm of each value alone is its magnitude to some runtimes, and the value itself to others.
        is_norm = context.layer.type in {"ReduceL1", "ReduceL2"}
        return Pass(zero=zero, order=order, strict=strict) if is_norm else Alias()
    axes = axes or list(range(rank))
    if any(shape[axis] == 0 for axis in axes):
        raise Unfit("what comes out does not depend on what it reads, which has no values")
    steps: Steps = () if kept else (Axes(tuple(axis for axis in range(rank) if axis not in axes)),)
    return Pass(zero=zero, order=order, strict=strict, plane=set(axes), steps=steps)


def cumulated(context: NodeContext) -> Operator:
    """CumSum: sums of all values up to each along an axis."""
    axis = context.node.integers(1)
    if axis is None or len(axis) != 1:
        raise Unfit("its axis is known only when it runs")
    more = "it sums one value more at each step, so a shift would grow"
    return Pass(zero=more, plane={axis_of(axis[0], len(context.bottom()))})


def triangle(context: NodeContext) -> Operator:
    """Trilu: `x` on one side of a diagonal, 0 on the other."""
    del context
    return Pass(zero="it writes zeros, and a shift would be missing there")


def top_k(context: NodeContext) -> Operator:
    """TopK: the largest or smallest along an axis, and where they are."""
    if context.node.outputs[0] != 0:
        raise Unfit("where the largest are does not tell how large they are")
    strict = "where the largest are needs every scale > 0" if len(context.layer.tops) > 1 else ""
    axis = axis_of(context.node.attribute("axis", -1), len(context.bottom()))
    return Pass(order="what is largest needs every scale >= 0", strict=strict, plane={axis})


def gather_elements(context: NodeContext) -> Operator:
    """GatherElements: elements by their index along an axis, each by one of its own; of other axes the first ones."""
    bottom, top = context.bottom(), context.top()
    axis = axis_of(context.node.attribute("axis", 0), len(bottom))
    same = {other for other, size in enumerate(bottom) if other != axis and size == top[other] != UNKNOWN}
    return Pass(plane=set(range(len(bottom))) - same)


def gather_nd(context: NodeContext) -> Operator:
    """GatherND: what lies where indices say along its first axes, behind those of a batch."""
    batch, rank, places = context.node.attribute("batch_dims", 0), len(context.bottom()), context.shape_of(1)
    if not places or not 0 < places[-1] <= rank - batch:
        raise Unfit("how many axes its indices name is unknown")
    named = range(batch, batch + places[-1])
    order = (*range(batch), *[None] * (len(places) - 1 - batch), *range(named.stop, rank))
    added = range(batch, len(places) - 1)
    return Pass(plane=set(named), steps=(Axes(order), *map(Spread, added)))


def compress(context: NodeContext) -> Operator:
    """Compress: those along an axis that a mask keeps."""
    if not context.node.has("axis"):
        raise Unfit("it makes a row of what it reads")
    return Pass(plane={axis_of(context.node.attribute("axis", 0), len(context.bottom()))})


def rotary(context: NodeContext) -> Operator:
    """RotaryEmbedding, com.microsoft.RotaryEmbedding: pairs of the last axis, turned by angles of their own."""
    return Pass(zero="a shift would turn with what it shifts", plane={len(context.bottom()) - 1})


def reverse_sequence(context: NodeContext) -> Operator:
    """ReverseSequence: as many steps as each sequence has in the other order."""
    return Pass(plane={context.node.attribute("time_axis", 0)})


def resize(context: NodeContext) -> Operator:
    """Resize, Upsample: weighted means of neighbours, the weights summing to 1, along the axes whose size changes."""
    node = context.node
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Unfit("it puts a value of its own where its region ends (tf_crop_and_resize)")
    rank = len(context.bottom())
    return Pass(plane={axis for axis in range(rank) if not _stays(context, axis)})


def _stays(context: NodeContext, axis: int) -> bool:
    """Whether Resize leaves an axis as it is."""
    node = context.node
    first = 2 if node.opset >= 11 and context.layer.type == "Resize" else 1
    if context.layer.type == "Upsample" and node.has("scales"):
        return node.floats("scales")[axis] == 1.0
    if node.has("axes"):
        rank = len(context.bottom())
        return axis not in [axis_of(one, rank) for one in node.ints("axes")]
    scales = context.values(first)
    if scales is not None and scales.size:
        return bool(scales.size > axis and scales.reshape(-1)[axis] == 1.0)
    exact = node.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"  # other policies change sizes once more
    if first != 2 or not exact or not node.given(3):
        return False
    return context.top()[axis] == context.bottom()[axis] != UNKNOWN


def pad(context: NodeContext) -> Operator:
    """Pad: zeros around, or copies of what is inside; amounts are an input from opset 11 on, axes from 18."""
    node, rank = context.node, len(context.bottom())
    mode = node.attribute("mode", "constant")
    amounts = node.ints("pads") if node.opset < 11 else context.stated_integers(1)
    if amounts is None:
        raise Unfit("how much it pads is known only when it runs")
    written = context.integers("axes", 3, 18, "which axes it pads is")
    axes = range(rank) if written is None else [axis_of(axis, rank) for axis in written]
    if len(amounts) != 2 * len(axes):
        raise Unfit("its pads do not fit its axes")
    sides = dict(zip(axes, zip(amounts[: len(axes)], amounts[len(axes) :], strict=True), strict=True))
    around = {axis: both for axis, both in sides.items() if both != (0, 0)}
    if mode == "constant":
        value: Array | float | None = node.attribute("value", 0.0) if node.opset < 11 else 0.0
        if node.given(2):
            value = context.values(2)
        if value is None or np.any(np.asarray(value, np.float64) != 0):
            raise Unfit("it pads with a value of its own that is not 0")
        added = any(amount is None or amount > 0 for both in around.values() for amount in both)
        return Pass(zero="it pads with zeros, and a shift would be missing there" if added else "", plane=around.keys())
    if mode not in COPYING:
        raise Unfit(f"its mode '{mode}' has no law")
    return Pass(plane=around.keys())


def grid_sample(context: NodeContext) -> Operator:
    """GridSample: weighted means of pixels, the weights summing to 1; outside of the image zeros, or copies."""
    copies = context.node.attribute("padding_mode", "zeros") in {"border", "reflection"}
    return Pass(zero="" if copies else reasons.ZEROS_OUTSIDE, plane=PLANE)


def regions(context: NodeContext) -> Pass:
    """MaxRoiPool, RoiAlign: the maximum or mean of each bin of a region, which names its sample; 0 if it is empty."""
    largest = context.layer.type == "MaxRoiPool" or context.node.attribute("mode", "avg") == "max"
    order = reasons.UNORDERED if largest else ""
    return Pass(zero=reasons.EMPTY_BIN, order=order, plane=(0, *PLANE))


COPYING = frozenset({"edge", "reflect", "wrap"})
"""The modes of Pad that put copies of what is inside around it."""

NORM_ZERO = "a norm takes a scale, but no shift"
NORM_ORDER = "a negative scale would come out of a norm as positive"
NORM_STRICT = "powers of what is scaled so little or so much leave float32"
