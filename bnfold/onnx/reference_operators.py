"""ONNX's operators in numpy for the float64 run, where onnx's own reference arithmetic is of no use.

What that computes otherwise than ONNX or onnxruntime do, rounds to float32, or holds in the memory of many blobs is
computed here; `recurrent` has what keeps a state, `detection_operators` what detectors have, `sampling_operators` what
reads between pixels, and `fused_operators` what onnxruntime makes of several nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import ValueInfoProto
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_dequantize_linear, op_loop, op_max_pool, op_max_unpool, op_resize, op_slice
from onnx.reference.ops._op import OpRunReduceNumpy
from onnx.reference.ops.aionnxml import _common_classifier
from onnx.reference.ops.aionnxml._op_run_aionnxml import OpRunAiOnnxMl

from bnfold.net import Array
from bnfold.onnx.arithmetic import on_at, over_norm, places_along, scattered
from bnfold.onnx.detection_operators import MaxRoiPool, NonMaxSuppression, RoiAlign
from bnfold.onnx.error_function import erf, gelu
from bnfold.onnx.recurrent import GRU, LSTM, RNN
from bnfold.onnx.sampling_operators import DeformConv, GridSample, sliding, with_bias


class AffineGrid(OpRun):
    """`theta @ (x, y, 1)` of each place, whose corners lie at -1 and 1, or do pixels' edges; onnx's own is float32."""

    def _run(self, theta: Array, size: Array, *, align_corners: int) -> tuple[Array]:
        inset = [0.0 if align_corners else 1 / count for count in size[2:]]
        along = [np.linspace(at - 1, 1 - at, count) for at, count in zip(inset, size[2:], strict=True)]
        places = np.stack([*np.meshgrid(*along, indexing="ij")[::-1], np.ones(size[2:])], axis=-1)
        moved = places.reshape(-1, places.shape[-1]) @ theta.swapaxes(1, 2)
        return (moved.reshape(-1, *size[2:], len(along)),)


class BatchNormalization(OpRun):
    """By the stored statistics: before opset 14 onnx's reference arithmetic mixes those of the batch into them."""

    def _run(self, x: Array, *learned: Array, epsilon: float, **_: object) -> tuple[Array]:
        along = (-1, *(1,) * (x.ndim - 2)) if learned[0].ndim == 1 else learned[0].shape
        scale, bias, mean, variance = (values.reshape(along) for values in learned)
        return (scale * (x - mean) / np.sqrt(variance + epsilon) + bias,)


class Conv(OpRun):
    """`y[n,m,p] = bias[m] + sum_{c,k} weight[m,c,k] * x[n, c, p*stride + k*dilation - pad]`, some rows at a time.

    onnx's own holds the windows of all samples at once.
    """

    def _run(self, x: Array, weight: Array, bias: Array | None = None, **given: Any) -> tuple[Array]:
        axes, group = weight.ndim - 2, given["group"] or 1
        strides, dilations, pads = sliding(given, axes)
        reach = _span(1, weight, strides, dilations)
        if given["auto_pad"] in SAME:
            outputs = -(-np.array(x.shape[2:]) // strides)
            total = _span(outputs, weight, strides, dilations) - x.shape[2:]
            # onnxruntime leaves one value less out than windows skip, of those that are none of any window.
            pads = _shared(total + (total < 0), odd_first=given["auto_pad"] == "SAME_LOWER")
        x = _padded(x, pads)
        every: Any = ..., *(slice(None, None, step) for step in (*strides, *dilations))
        # (N, C, sizes of y, sizes of the kernel)
        windows = sliding_window_view(x, tuple(reach), tuple(range(2, 2 + axes)))[every]
        sizes = windows.shape[2 : 2 + axes]
        y = np.empty((len(x), len(weight), *sizes), x.dtype)
        weight = weight.reshape(group, len(weight) // group, -1)
        rows = max(1, WINDOWS // max(1, prod(windows.shape[1:]) // sizes[0]))
        for sample, start in product(range(len(x)), range(0, sizes[0], rows)):
            some = windows[sample, :, start : start + rows]
            columns = np.moveaxis(some, range(1, 1 + axes), range(-axes, 0)).reshape(group, weight.shape[2], -1)
            y[sample, :, start : start + rows] = (weight @ columns).reshape(-1, *some.shape[1 : 1 + axes])
        return (with_bias(y, bias),)


class ConvTranspose(OpRun):
    """`y[n, m, p*stride + k*dilation - pad]`, the sum of `weight[c,m,k] * x[n,c,p]` over c, k and p, plus `bias[m]`.

    onnx's own gives a group the weights and the bias of others.
    """

    def _run(self, x: Array, weight: Array, bias: Array | None = None, **given: Any) -> tuple[Array]:
        inputs, group = np.array(x.shape[2:]), given["group"] or 1
        strides, dilations, pads = sliding(given, len(inputs))
        whole = _span(inputs, weight, strides, dilations) + (given["output_padding"] or 0)
        outputs = given["output_shape"] or (inputs * strides if given["auto_pad"] in SAME else None)
        if outputs is not None:
            pads = _shared(np.maximum(whole - outputs, 0), odd_first=given["auto_pad"] != "SAME_UPPER")
            whole = np.maximum(whole, given["output_shape"] or 0)
        x = x.reshape(len(x), group, x.shape[1] // group, inputs.prod())
        kernel = weight.shape[2:]
        factors = weight.reshape(group, -1, weight.shape[1], prod(kernel)).transpose(3, 0, 2, 1)
        y = np.zeros((len(x), group, weight.shape[1], *whole), x.dtype)
        for place, factor in zip(np.ndindex(kernel), np.ascontiguousarray(factors), strict=True):
            made = factor @ x
            y[_window(place, inputs, strides, dilations)] += made.reshape(*made.shape[:3], *inputs)
        y = _within(y, pads, whole)
        return (with_bias(y.reshape(len(x), group * weight.shape[1], *y.shape[3:]), bias),)


class Col2Im(OpRun):
    """The sum of all windows, (N, C*kernel, windows), where they lie; onnx's own adds a value at a time."""

    def _run(self, x: Array, sizes: Array, kernel: Array, **given: Any) -> tuple[Array]:
        strides, dilations, pads = sliding(given, len(sizes))
        whole = sizes + pads.sum(axis=0)
        windows = (whole - (kernel - 1) * dilations - 1) // strides + 1
        x = x.reshape(len(x), -1, kernel.prod(), *windows)
        y = np.zeros((*x.shape[:2], *whole), x.dtype)
        for number, place in enumerate(np.ndindex(*kernel)):
            y[_window(place, windows, strides, dilations)] += x[:, :, number]
        return (_within(y, pads, whole),)


SAME = ("SAME_LOWER", "SAME_UPPER")
WINDOWS = 1 << 20
"""Values of windows that are held at once."""


def _span(windows: Array | int, weight: Array, strides: Array, dilations: Array) -> Array:
    """The size along each axis that so many windows take."""
    return np.asarray((windows - 1) * strides + (np.array(weight.shape[2:]) - 1) * dilations + 1)


def _window(place: Sequence[int], windows: Array, strides: Array, dilations: Array) -> Any:
    """The index of what so many windows have at one place of the kernel."""
    first = place * dilations
    return ..., *map(slice, first, first + (windows - 1) * strides + 1, strides)


def _within(y: Array, pads: Array, whole: Array) -> Array:
    """Planes of the sizes `whole` without their pads."""
    kept: Any = ..., *map(slice, pads[0], whole - pads[1])
    return np.asarray(y[kept])


def _shared(total: Array, *, odd_first: bool) -> Array:
    """The pads before and behind, negative where values are left out; rounded towards 0 as in onnxruntime's C++."""
    before = np.trunc((total + odd_first) / 2).astype(int)
    return np.array([before, total - before])


def _padded(x: Array, pads: Array, value: float = 0.0) -> Array:
    """A plane with pads around it, without what negative ones leave out."""
    if not pads.any():
        return x
    kept: Any = ..., *map(slice, np.maximum(-pads[0], 0), x.shape[2:] + np.minimum(pads[1], 0))
    x, (before, behind) = x[kept], np.maximum(pads, 0)
    sizes = np.array(x.shape[2:])
    y = np.full((*x.shape[:2], *before + sizes + behind), value, x.dtype)
    inside: Any = ..., *map(slice, before, before + sizes)
    y[inside] = x
    return y


class DequantizeLinear(op_dequantize_linear._CommonDequantizeLinear):
    """`(x - zero_point) * scale` at any opset: onnx has those from 19 on."""


class Erf(OpRun):
    """onnx's own takes a value at a time, and rounds it to float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (erf(x),)


class Gelu(OpRun):
    """As `gelu`: onnx's own has constants, and values of erf, of float32's digits."""

    def _run(self, x: Array, *, approximate: str) -> tuple[Array]:
        return (gelu(x, by_tanh=approximate == "tanh"),)


class LRN(OpRun):
    """Across channels: onnx's reference arithmetic computes as many of them as there are samples."""

    def _run(self, x: Array, *, size: int, alpha: float, beta: float, bias: float) -> tuple[Array]:
        before = (size - 1) // 2
        around = [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)]
        squares = np.pad(x * x, around)
        total = sum(squares[:, start : start + x.shape[1]] for start in range(size))
        return (x / (bias + alpha / size * total) ** beta,)


class AveragePool(OpRun):
    """The average over a window, of its pads too if they count, and never of what lies behind them (ceil_mode).

    onnx's own moves windows to the front where the last one ends more than one pixel behind the pads.
    """

    def _run(self, x: Array, count_include_pad: int = 0, **given: Any) -> tuple[Array]:
        values, counted = _windows(x, 0, 0, given), _windows(np.ones_like(x[:1, :1]), count_include_pad, 0, given)
        axes = tuple(range(x.ndim, values.ndim))
        return (values.sum(axis=axes) / counted.sum(axis=axes),)


class LpPool(OpRun):
    """`sum(|x|^p)^(1/p)` over a window."""

    def _run(self, x: Array, p: int = 2, **given: Any) -> tuple[Array]:
        values = _windows(np.abs(x) ** p, 0, 0, given)
        return (values.sum(axis=tuple(range(x.ndim, values.ndim))) ** (1 / p),)


def _windows(x: Array, pad: float, behind: float, given: Mapping[str, Any]) -> Array:
    """A pool's windows, (N, C, sizes of y, sizes of the kernel), as onnxruntime lays them: SAME knows of no dilation.

    What pads hold is given, what lies behind them, and the attributes.
    """
    sizes, kernel = np.array(x.shape[2:]), np.array(given["kernel_shape"])
    axes = len(kernel)
    steps, taps, around = sliding(given, axes)
    if (auto_pad := given.get("auto_pad")) in SAME:
        around = _shared((-(-sizes // steps) - 1) * steps + kernel - sizes, odd_first=auto_pad == "SAME_LOWER")
    reach = (kernel - 1) * taps + 1
    whole = sizes + around.sum(axis=0)
    last = (whole - reach) // steps
    if given.get("ceil_mode"):
        last = -((reach - whole) // steps)
        last -= last * steps >= sizes + around[0]  # the last window begins within the image
    x = _padded(x, around, pad)
    missing = np.maximum(last * steps + reach - whole, 0)
    x = _padded(x, np.array([missing * 0, missing]), behind)
    every: Any = ..., *map(slice, [None] * axes, last * steps + 1, steps), *(slice(None, None, step) for step in taps)
    return np.asarray(sliding_window_view(x, tuple(reach), tuple(range(2, 2 + axes)))[every])


class GlobalLpPool(OpRun):
    """Over a plane; onnx has none of its own."""

    def _run(self, x: Array, p: int = 2) -> tuple[Array]:
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class GlobalMaxPool(OpRun):
    """Over planes of any number of axes: onnx's own takes other axes where there are not two."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GatherElements(OpRun):
    """`y[i, j] = x[index[i, j], j]` for an axis of any length: onnx's own takes 64 values of it at most."""

    def _run(self, x: Array, index: Array, *, axis: int) -> tuple[Array]:
        return (x[places_along(index, axis)],)


class GatherND(OpRun):
    """The last axis of the index says places of the axes behind the batch's: onnx's own takes one after another."""

    def _run(self, x: Array, index: Array, *, batch_dims: int) -> tuple[Array]:
        batch = np.ogrid[tuple(map(slice, index.shape[:batch_dims]))] if batch_dims else []
        alike = [one.reshape(*one.shape, *(1,) * (index.ndim - 1 - batch_dims)) for one in batch]
        return (x[(*alike, *np.moveaxis(index, -1, 0))],)


class GroupNormalization(OpRun):
    """`scale*(x - mean)/sqrt(variance + epsilon) + B` of each group of channels; onnx's own is a function that is read
    anew for each call, and computes in `stash_type`.
    """

    def _run(
        self, x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, **_: object
    ) -> tuple[Array]:
        grouped = x.reshape(x.shape[0], num_groups, -1)
        centred = grouped - grouped.mean(axis=-1, keepdims=True)
        normal = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
        # Below opset 21 there is one of both for each group.
        by_channel = (np.repeat(values, x.shape[1] // len(values)) for values in (scale, bias))
        a, b = (values.reshape(-1, *[1] * (x.ndim - 2)) for values in by_channel)
        return (np.asarray(normal.reshape(x.shape) * a + b, x.dtype),)


class Hardmax(OpRun):
    """1 at the first largest value over all axes from `axis` on, as before opset 13; onnx's own takes `axis` alone."""

    def _run(self, x: Array, **_: object) -> tuple[Array]:
        rows = x.reshape(prod(x.shape[: _said_axis(self, x)]), -1)
        y = np.zeros_like(rows)
        y[np.arange(len(rows)), rows.argmax(axis=1)] = 1
        return (y.reshape(x.shape),)


class Loop(op_loop.Loop):
    """What the rounds make, along a new axis in front; a condition that is not given holds.

    onnx's own joins rounds along the first axis there is, and then makes none.
    """

    body: Any
    _run_body: Any

    def _run(  # type: ignore[override]
        self, count: Array | None, condition: Array | None, *states: Any, context: Mapping[str, Any], **given: Any
    ) -> tuple[Any, ...]:
        values, goes_on, turn = dict(context), np.array(True) if condition is None else condition, 0
        rounds: list[list[Array]] = [[] for _ in range(self.K)]
        while goes_on and (count is None or turn < count):
            values.update(zip(self.body.input_names, (np.array(turn), goes_on, *states), strict=True))
            goes_on, *made = self._run_body(values, attributes=given["attributes"])
            states = tuple(made[: self.N])
            for one, value in zip(rounds, made[self.N :], strict=True):
                one.append(value)
            turn += 1
        ports = self.body.proto_.output[1 + self.N :]
        return (
            *states,
            *(np.stack(made) if made else _none_of(port) for made, port in zip(rounds, ports, strict=True)),
        )


def _none_of(port: ValueInfoProto) -> Array:
    """No value of those that a port gives; a size that it leaves open is 0, as onnxruntime has it."""
    tensor = port.type.tensor_type
    sizes = [size.dim_value for size in tensor.shape.dim]
    return np.zeros([0, *sizes], tensor_dtype_to_np_dtype(tensor.elem_type))


class LpNormalization(OpRun):
    """Divided by `sum(|x|^p)^(1/p)` along an axis: onnx's own lets signs into the sum where p is odd."""

    def _run(self, x: Array, *, axis: int, p: int) -> tuple[Array]:
        return (over_norm(x, axis, p),)


class MeanVarianceNormalization(OpRun):
    """`(x - E x)/(sqrt(E (x - E x)^2) + 1e-9)` beside the first x; onnx's own holds float32 and squares the mean."""

    def _run(self, x: Array, *, axes: Sequence[int] = (0, 2, 3)) -> tuple[Array]:
        along = tuple(axis % x.ndim for axis in axes)
        moved = x - x[tuple(slice(1 if axis in along else None) for axis in range(x.ndim))]
        centred = moved - moved.mean(axis=along, keepdims=True)
        return (centred / (np.sqrt(np.square(centred).mean(axis=along, keepdims=True)) + 1e-9),)


class LogSoftmax(OpRun):
    """Over all axes from `axis` on, as before opset 13: onnx's reference arithmetic always takes `axis` alone."""

    def _run(self, x: Array, **_: object) -> tuple[Array]:
        axes = tuple(range(_said_axis(self, x), x.ndim))
        shifted = x - x.max(axis=axes, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(axis=axes, keepdims=True)),)


def _said_axis(operator: OpRun, x: Array) -> int:
    """The attribute `axis`, which is 1 by default before opset 13."""
    axes = [attribute.i for attribute in operator.onnx_node.attribute if attribute.name == "axis"]
    return (axes or [1])[0] % max(x.ndim, 1)


class OneHot(OpRun):
    """On at the index along a new axis; onnx's own takes no depth of shape (1)."""

    def _run(self, indices: Array, depth: Array, values: Array, *, axis: int) -> tuple[Array]:
        return (on_at(indices, depth, values, axis),)


class ReduceMean(OpRunReduceNumpy):
    """`sum(x) / count`; of nothing, where ONNX leaves it undefined, 0 as in onnxruntime.

    numpy's own mean of nothing warns by Python's `warnings`, which `np.errstate` does not still, and a filter of those
    would be one for all threads of the process.
    """

    def _run(self, x: Array, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> tuple[Array]:
        along = () if axes is None else tuple(np.asarray(axes).reshape(-1).tolist())
        if not along and noop_with_empty_axes:
            return (x,)
        along = along or tuple(range(x.ndim))
        total = np.asarray(x.sum(axis=along, keepdims=bool(keepdims)))
        count = x.size // max(1, total.size)
        return ((total / max(1, count)).astype(x.dtype),)


class Slice(op_slice.Slice_10):
    """The largest integer as an end is the end in the direction of the step: onnx's own takes it for an index."""

    def _run(self, x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Any:
        if steps is not None:
            to_start = (steps < 0) & np.isin(ends, [2**31 - 1, 2**63 - 1])
            ends = np.where(to_start, -(2**63), ends.astype(np.int64))
        return super()._run(x, starts, ends, axes, steps)  # type: ignore[no-untyped-call]


class Unsqueeze(OpRun):
    """Axes are those of what is made, as from opset 13 on: onnx's own puts in one after another in their order."""

    def _run(self, x: Array, *, axes: Sequence[int]) -> tuple[Array]:
        return (np.expand_dims(x, tuple(axes)),)


class Softmax(LogSoftmax):
    """The same without the logarithm."""

    def _run(self, x: Array, **_: object) -> tuple[Array]:
        return (np.exp(super()._run(x)[0]),)


class MaxPool(op_max_pool.MaxPool):
    """By the same windows; where they are asked for, indices come from onnx's own."""

    def _run(self, x: Array, *, storage_order: int = 0, **given: Any) -> tuple[Array, ...]:  # type: ignore[override]
        if len(self.onnx_node.output) == 1 and x.dtype.kind == "f":
            values = _windows(x, -np.inf, -np.inf, given)
            return (values.max(axis=tuple(range(x.ndim, values.ndim))),)
        pooled: tuple[Array, ...] = super()._run(x, storage_order=storage_order, **given)  # type: ignore[no-untyped-call]
        return pooled


class MaxUnpool(op_max_unpool.MaxUnpool):
    """Indices are places of the shape that is asked for: onnx's own takes them for those of the usual one."""

    def _run(self, x: Array, indices: Array, shape: Array | None = None, **given: Any) -> tuple[Array]:  # type: ignore[override]
        if shape is None:
            usual: tuple[Array] = super()._run(x, indices, **given)  # type: ignore[no-untyped-call]
            return usual
        y = np.zeros(shape, x.dtype)
        y.flat[indices.reshape(-1)] = x.reshape(-1)
        return (y,)


class LinearRegressor(OpRunAiOnnxMl):
    """`f(x @ coefficients.T + intercepts)`, as in onnxruntime (`ml_common.h`); onnx's own knows no f, nor a model
    without intercepts. Of one target onnxruntime takes no f but PROBIT.
    """

    def _run(
        self,
        x: Array,
        *,
        coefficients: Sequence[float],
        intercepts: Sequence[float] | None = None,
        targets: int = 1,
        post_transform: str = "NONE",
    ) -> tuple[Array]:
        scores = x @ np.reshape(coefficients, (targets, -1)).T + np.asarray(intercepts or 0.0)
        return (POST_TRANSFORMS[post_transform](scores) if targets > 1 or post_transform == "PROBIT" else scores,)


class Resize(op_resize.Resize):
    """Sizes are float32's products, rounded down: onnx's own rounds those of float64, and aligns corners of no size."""

    def _run(self, x: Array, roi: Any = None, scales: Array | None = None, *sizes: Any, **given: Any) -> Any:  # type: ignore[override]
        if scales is not None and scales.size:
            before = np.array(x.shape)[list(given["axes"] or range(x.ndim))]
            after = np.floor(scales.astype(np.float32) * before.astype(np.float32))
            aligned = given["coordinate_transformation_mode"] == "align_corners"
            # The scale above the quotient: its product is no less than the size.
            scales = np.where(aligned | (scales * before < after), np.nextafter(after / before, np.inf), scales)
        return super()._run(x, roi, scales, *sizes, **given)


class ScatterElements(OpRun):
    """`y[index[i, j], j] = update[i, j]`, or a sum with it: onnx's own sets a value at a time."""

    def _run(self, x: Array, index: Array, update: Array, *, axis: int, reduction: str = "none") -> tuple[Array]:
        return (scattered(x, places_along(index, axis), update, reduction),)


class Scatter(ScatterElements):
    """What opset 9 and 10 call ScatterElements, which onnx does not evaluate."""


class ScatterND(OpRun):
    """`y[index[i]] = update[i]`, or a sum with it, with places along the index's last axis; the same of onnx's own."""

    def _run(self, x: Array, index: Array, update: Array, *, reduction: str = "none") -> tuple[Array]:
        return (scattered(x, tuple(np.moveaxis(index, -1, 0)), update, reduction),)


class Upsample(OpRun):
    """`y[p] = x[p/scale]` along each axis: what is in front of that place, or in `linear` mode between it and the next.

    Places are float32's quotients, as in onnxruntime (`upsample.cc`); onnx's own repeats values, and does nothing else.
    """

    def _run(self, x: Array, scales: Any = None, *, mode: str) -> tuple[Array]:
        for axis, scale in enumerate(np.asarray(scales, np.float32)):
            last, size = x.shape[axis] - 1, int(np.float32(x.shape[axis]) * scale)
            place = np.arange(size, dtype=np.float32) / scale
            low = np.minimum(place.astype(np.int64), last)
            if mode == "linear" and scale != 1:
                part = (place - low).astype(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1))
                x = x.take(low, axis) * (1 - part) + x.take(np.minimum(low + 1, last), axis) * part
            else:
                x = x.take(low, axis)
        return (x,)


class MicrosoftOperator(OpRun):
    """An operator of onnxruntime's own domain."""

    op_domain = "com.microsoft"


def total(first: Array, *others: Array | None) -> Array:
    """The sum of one and of what else is given."""
    return reduce(np.add, (one for one in others if one is not None), first)


def softmax(scores: Array, axis: int = 1) -> Array:
    """`e^x` of each value along an axis, as a share of their sum."""
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


POST_TRANSFORMS: Mapping[str, Callable[[Array], Array]] = {
    "LOGISTIC": lambda scores: 1 / (1 + np.exp(-scores)),
    "NONE": lambda scores: scores,
    "PROBIT": _common_classifier.probit,
    "SOFTMAX": softmax,
    "SOFTMAX_ZERO": _common_classifier.softmax_zero,
}

OWN_OPERATORS: tuple[type[OpRun], ...] = (
    AffineGrid, AveragePool, BatchNormalization, Col2Im, Conv, ConvTranspose, DeformConv, DequantizeLinear, Erf, GRU,
    GatherElements, GatherND, Gelu, GlobalLpPool, GlobalMaxPool, GridSample, GroupNormalization, Hardmax, LRN, LSTM,
    LinearRegressor, LogSoftmax, Loop, LpNormalization, LpPool, MaxPool, MaxRoiPool, MaxUnpool,
    MeanVarianceNormalization, NonMaxSuppression, OneHot, RNN, ReduceMean, Resize, RoiAlign, Scatter, ScatterElements,
    ScatterND, Slice, Softmax, Unsqueeze, Upsample,
)  # fmt: skip
"""In place of onnx's own."""
BELOW: Mapping[type[OpRun], int] = {
    BatchNormalization: 14,
    DequantizeLinear: 19,
    Hardmax: 13,
    LogSoftmax: 13,
    Softmax: 13,
    Unsqueeze: 13,
}
"""The opset below which that is so, where onnx's own is right from there on."""
