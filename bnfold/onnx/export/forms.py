"""Operators whose written form depends on the opset, behind one call each.

    axes of Squeeze-like reductions   attribute before 18 (ReduceSum: 13), input after
    Split                             attribute before 13, input after
    Softmax                           before 13 it flattens, so it is only asked for the last axis

A shape given to `reshape` is ONNX's: 0 copies the bottom's size, one -1 takes what is left. Layer functions keep the
batch out of constants that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnfold.onnx.export.builder import Block, Refused


def reshape(block: Block, x: str, shape: Sequence[int], step: str = "reshape") -> str:
    """`x` in another shape of the same size.

    Raises:
        Refused: of more than one axis the size is unknown.
    """
    if sum(size < 0 for size in shape) > 1 or min(shape, default=0) < -1:
        raise Refused("it gives what it reads another shape, and several sizes of that are known only when it runs")
    return block("Reshape", x, block.integers(shape, f"{step}/shape"), step=step)


def transpose(block: Block, x: str, order: Sequence[int], step: str = "transpose") -> str:
    """`x` with its axes in another order; a scalar has none."""
    if not order:
        return x
    return block("Transpose", x, perm=list(order), step=step)


def channels_first(block: Block, *, last: bool) -> str:
    """The bottom with its channels in front of its plane; `last` says that they stand behind it."""
    return transpose(block, block.bottom, (0, 3, 1, 2), "channels_first") if last else block.bottom


def channels_last(block: Block, x: str, *, last: bool) -> str:
    """The opposite of `channels_first`, of a top."""
    return transpose(block, x, (0, 2, 3, 1), "channels_last") if last else x


def unsqueeze(block: Block, x: str, axes: Sequence[int], step: str = "unsqueeze") -> str:
    """`x` with new axes of size 1, numbered as in the result."""
    if block.opset >= 13:
        return block("Unsqueeze", x, block.integers(axes, f"{step}/axes"), step=step)
    return block("Unsqueeze", x, axes=list(axes), step=step)


def reduce(block: Block, operator: str, x: str, axes: Sequence[int], *, keep: bool = True, step: str = "") -> str:
    """One of the Reduce operators over `axes`, which stay as size 1 when `keep`; a scalar has none."""
    if not axes and operator in ("ReduceMax", "ReduceMean", "ReduceSum"):
        return x  # to ONNX no axes are all axes
    step = step or operator.lower()
    if block.opset >= (13 if operator == "ReduceSum" else 18):
        return block(operator, x, block.integers(axes, f"{step}/axes"), keepdims=int(keep), step=step)
    named = {"axes": list(axes)} if axes else {}
    return block(operator, x, **named, keepdims=int(keep), step=step)


def split(block: Block, x: str, sizes: Sequence[int], axis: int, step: str = "split") -> list[str]:
    """Consecutive parts of `x` along `axis`."""
    if len(sizes) == 1:
        return [x]
    if block.opset >= 13:
        lengths = block.integers(sizes, f"{step}/sizes")
        return block.several("Split", x, lengths, outputs=len(sizes), axis=axis, step=step)
    return block.several("Split", x, outputs=len(sizes), axis=axis, split=list(sizes), step=step)


def cut(
    block: Block,
    x: str,
    axes: Sequence[int],
    starts: Sequence[int],
    ends: Sequence[int],
    steps: Sequence[int] | None = None,
    step: str = "slice",
) -> str:
    """`x[start:end:step]` along each of `axes`."""
    inputs = [
        block.integers(starts, f"{step}/starts"),
        block.integers(ends, f"{step}/ends"),
        block.integers(axes, f"{step}/axes"),
    ]
    if steps is not None:
        inputs.append(block.integers(steps, f"{step}/steps"))
    return block("Slice", x, *inputs, step=step)


def halves(block: Block, x: str, axis: int, *names: str) -> list[str]:
    """The first two and the last two of four numbers along an axis."""
    return [cut(block, x, [axis], [at], [at + 2], step=name) for at, name in zip((0, 2), names, strict=True)]


def pad(
    block: Block, x: str, before: Sequence[int], after: Sequence[int], value: float = 0.0, step: str = "pad"
) -> str:
    """`x` with `before` and `after` elements of `value` along every axis, none given as negative."""
    inputs = [block.integers([*before, *after], f"{step}/pads")]
    if value != 0.0:
        inputs.append(block.floats(value, f"{step}/value"))
    return block("Pad", x, *inputs, mode="constant", step=step)


def softmax(block: Block, x: str, axis: int, rank: int, operator: str = "Softmax") -> str:
    """`e^x / sum e^x` along `axis` (from the front), or its logarithm."""
    if block.opset >= 13 or axis == rank - 1:
        return block(operator, x, axis=axis)
    order = [other for other in range(rank) if other != axis] + [axis]
    y = block(operator, transpose(block, x, order, "last"), axis=rank - 1)
    return transpose(block, y, np.argsort(order).tolist(), "back")


def scaled(block: Block, x: str, factor: float, step: str = "scale") -> str:
    """`factor * x`, and `x` itself when the factor is 1."""
    return x if factor == 1 else block("Mul", x, block.floats(factor, f"{step}/factor"), step=step)


def shifted(block: Block, x: str, term: float, step: str = "shift") -> str:
    """`x + term`, and `x` itself when the term is 0."""
    return x if term == 0 else block("Add", x, block.floats(term, f"{step}/term"), step=step)


def clip(block: Block, x: str, low: float, high: float, step: str = "clip") -> str:
    """`min(max(x, low), high)`."""
    return block("Clip", x, block.floats(low, f"{step}/min"), block.floats(high, f"{step}/max"), step=step)


def rectified(block: Block, x: str, slope: float) -> str:
    """`max(x, 0) + slope*min(x, 0)`."""
    return block("Relu", x) if slope == 0 else block("LeakyRelu", x, alpha=float(slope))


def window(
    kernel: Sequence[int], stride: Sequence[int], before: Sequence[int], after: Sequence[int], **more: Any
) -> dict[str, Any]:
    """The attributes of Conv and of the pools that say how a window slides."""
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*before, *after], **more}


def size_of_batch(block: Block, x: str) -> str:
    """The first dimension of `x` as a tensor of one integer, read at run time."""
    return cut(block, block("Shape", x, step="batch/shape"), [0], [0], [1], step="batch")


def sizes_behind_batch(block: Block, x: str, sizes: Sequence[int], step: str) -> str:
    """A shape as a tensor: the first dimension of `x`, read at run time where it is open, then `sizes`."""
    if not block.batched:
        return block.integers([block.shape[0], *sizes], step)
    return block("Concat", size_of_batch(block, x), block.integers(sizes, "plane"), axis=0)
