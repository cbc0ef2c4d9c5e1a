"""Operators of quantised networks for the float64 run: products of integers, and those that find a scale themselves.

Integers are multiplied as float64, which holds every sum of such products below 2^53 exactly, and by the code for real
numbers; numpy's own product of integers is some hundred times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array
from bnfold.onnx.reference_operators import Conv, MicrosoftOperator, total

STEPS_OF_BYTE = 255  # of 8 bits, unsigned


class ConvInteger(OpRun):
    """`conv(x - x_zero, w - w_zero)`, w_zero one value or one for each output channel."""

    def _run(self, x: Array, w: Array, x_zero: Any = None, w_zero: Any = None, **given: Any) -> tuple[Array]:
        y = Conv._run(self, _centred(x, x_zero), _centred(w, _of_channels(w_zero, w.ndim)), **given)[0]  # type: ignore[arg-type]
        return (_whole(y),)


class DynamicQuantizeLinear(OpRun):
    """Steps of the range of x with 0 in it: `scale = (max - min)/255`, `zero = round(-min/scale)`, then those of x."""

    def _run(self, x: Array) -> tuple[Array, Array, Array]:
        return _in_own_steps(x)


class DynamicQuantizeMatMul(MicrosoftOperator):
    """`a` in steps of its own range, times B in its steps, plus bias."""

    def _run(self, a: Array, b: Array, b_scale: Array, b_zero: Any = None, bias: Any = None) -> tuple[Array]:
        steps, scale, zero = _in_own_steps(a)
        product = _centred(steps, zero) @ _centred(b, b_zero) * (scale * b_scale)
        return (total(product, bias),)


class MatMulInteger(OpRun):
    """`(a - a_zero) @ (b - b_zero)`, a_zero one value or one for each row, b_zero one or one for each column."""

    def _run(self, a: Array, b: Array, a_zero: Any = None, b_zero: Any = None) -> tuple[Array]:
        return (_whole(_centred(a, _of_rows(a_zero)) @ _centred(b, b_zero)),)


class MatMulIntegerToFloat(MicrosoftOperator):
    """The same times both scales, plus bias."""

    def _run(
        self,
        a: Array,
        b: Array,
        a_scale: Array,
        b_scale: Array,
        a_zero: Any = None,
        b_zero: Any = None,
        bias: Any = None,
    ) -> tuple[Array]:
        product = _centred(a, a_zero) @ _centred(b, b_zero) * (a_scale * b_scale)
        return (total(product, bias),)


class MatMulNBits(MicrosoftOperator):
    """`a @ w.T + bias`, with `w = (code - zero)*scale` of codes of few bits, the first in the lowest bits of a byte.

    `block_size` of them along the last axis share scale and zero, which is half of the codes unless it is given: as
    codes of as few bits, or as numbers of a's type.
    """

    def _run(
        self,
        a: Array,
        codes: Array,
        scales: Array,
        zeros: Any = None,
        group: Any = None,
        bias: Any = None,
        *,
        K: int,  # noqa: N803 - as the attribute is called
        N: int,  # noqa: N803
        block_size: int,
        bits: int = 4,
        accuracy_level: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        if accuracy_level == 4 or group is not None:
            raise NotImplementedError("MatMulNBits quantises what it reads, or has an order of its own")
        blocks = -(-K // block_size)
        if zeros is None:
            zeros = np.full((N, blocks), 1 << (bits - 1))
        elif zeros.dtype.kind == "u":
            zeros = _unpacked(zeros.reshape(N, -1), bits)[:, :blocks]
        spread = (np.repeat(one.reshape(N, blocks), block_size, axis=1) for one in (scales, zeros))
        scale, zero = (one[:, :K] for one in spread)
        weight = (_unpacked(codes.reshape(N, -1), bits)[:, :K] - zero) * scale
        product = a @ weight.T
        return (total(product, bias),)


class QLinearConv(OpRun):
    """`round((conv(x - x_zero, w - w_zero) + bias) * x_scale*w_scale/y_scale) + y_zero`."""

    def _run(
        self,
        x: Array,
        x_scale: Array,
        x_zero: Array,
        w: Array,
        w_scale: Array,
        w_zero: Array,
        y_scale: Array,
        y_zero: Array,
        bias: Array | None = None,
        **given: Any,
    ) -> tuple[Array]:
        centred = _centred(x, x_zero), _centred(w, _of_channels(w_zero, w.ndim))
        y = Conv._run(self, *centred, None if bias is None else bias.astype(np.float64), **given)[0]  # type: ignore[arg-type]
        scale = x_scale * np.asarray(w_scale).reshape(-1, *[1] * (x.ndim - 2)) / y_scale
        return (_stepped(y * scale, y_zero),)


class QLinearMatMul(OpRun):
    """`round((a - a_zero) @ (b - b_zero) * a_scale*b_scale/y_scale) + y_zero`."""

    def _run(
        self,
        a: Array,
        a_scale: Array,
        a_zero: Array,
        b: Array,
        b_scale: Array,
        b_zero: Array,
        y_scale: Array,
        y_zero: Array,
    ) -> tuple[Array]:
        product = _centred(a, _of_rows(a_zero)) @ _centred(b, b_zero)
        return (_stepped(product * (_of_rows(a_scale) * b_scale / y_scale), y_zero),)


def _in_own_steps(x: Array) -> tuple[Array, Array, Array]:
    """The steps of x by its own range, their scale and that of 0; of what is 0 throughout the scale is 1."""
    low, high = float(np.min(x, initial=0.0)), float(np.max(x, initial=0.0))
    scale = (high - low) / STEPS_OF_BYTE if high > low else 1.0
    zero = np.asarray(np.clip(np.rint(-low / scale), 0, STEPS_OF_BYTE), np.uint8)
    return _stepped(x / scale, zero), np.asarray(scale, x.dtype), zero


def _stepped(values: Array, zero: Array) -> Array:
    """The nearest whole numbers, an even one of two, from `zero` on, and as far as its type goes."""
    ends = np.iinfo(zero.dtype)
    return np.asarray(np.clip(np.rint(values) + zero, ends.min, ends.max).astype(zero.dtype))


def _centred(steps: Array, zero: Any) -> Array:
    return steps.astype(np.float64) - (0.0 if zero is None else zero)


def _whole(values: Array) -> Array:
    """As 32 bits hold them, where a sum begins anew beyond."""
    return values.astype(np.int64).astype(np.int32)


def _of_rows(values: Any) -> Any:
    """One value for each row."""
    return values[..., np.newaxis] if values is not None and values.size > 1 and values.ndim == 1 else values


def _of_channels(zero: Any, axes: int) -> Any:
    """One value for each channel, which is the first axis of a weight."""
    return None if zero is None else zero.reshape(-1, *[1] * (axes - 1))


def _unpacked(packed: Array, bits: int) -> Array:
    """Codes of so many bits along the last axis of bytes."""
    codes = packed[..., np.newaxis] >> np.arange(0, 8, bits, dtype=np.uint8) & ((1 << bits) - 1)
    return codes.reshape(*packed.shape[:-1], -1).astype(np.float64)


QUANTISED_OPERATORS: tuple[type[OpRun], ...] = (
    ConvInteger, DynamicQuantizeLinear, DynamicQuantizeMatMul, MatMulInteger, MatMulIntegerToFloat, MatMulNBits,
    QLinearConv, QLinearMatMul,
)  # fmt: skip
