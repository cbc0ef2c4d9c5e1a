"""Pooling in all of Caffe's forms, without `ceil_mode`: every pad and every divisor is written out.

Along one axis of size H, with kernel k, stride s, pads b and a and `out` windows, window i is `[i*s - b, i*s - b + k)`.

    MAX   the largest pixel of the window clipped to [0, H)
          = MaxPool with pads b and max(0, (out-1)*s + k - H - b), or a where that gives the same windows
    AVE   the sum over the window clipped to [0, H), divided by the size of the window clipped to [-b, H + a)
          = no overhang beyond H + a: AveragePool with these pads, which count
          = else: Pad with real zeros, then AveragePool whose end pads, the overhang, do not count

A window may lie outside the image where s > k and p = 0. Caffe then gives -FLT_MAX and mask -1 for MAX, and for AVE
0 divided by the (then not positive) size of the clipped window: zero, or NaN if that is zero.

Source: pooling_layer.cpp of BVLC, whose windows ONNX's MaxPool and AveragePool do not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bnfold.caffe.layers import SPP, Pooling
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.convolution import ND_UNSURE
from bnfold.onnx.export.forms import pad, reshape, transpose, window

FLT_MAX = float(np.finfo(np.float32).max)


def pooling(block: Block) -> str | list[str]:
    """MAX, perhaps with its mask, AVE, or STOCHASTIC, which weighs each pixel by itself: MaxPool, AveragePool."""
    view = Pooling.of(block.layer, block.shape)
    if view.method == "MAX":
        return maximum(block, view, mask=len(block.layer.tops) > 1)
    if len(block.layer.tops) > 1:
        raise Refused(f"only MAX pooling has a mask, not {view.method}")
    if view.method == "AVE":
        return average(block, block.bottom, view)
    if view.method == "MDS":
        return position_sensitive(block, view)
    return stochastic(block, view)


def nd_pooling(block: Block) -> str | list[str]:
    """MAX or AVE, where axes of size 1, rounding and what an average counts leave no doubt: MaxPool, AveragePool."""
    block.require_known_top(f"{ND_UNSURE}, or round or average in its own way")
    return pooling(block)


def maximum(block: Block, view: Pooling, *, mask: bool = False, step: str = "") -> str | list[str]:
    """The largest pixel of each window, and where it is: the index in the plane, as float."""
    if view.is_global and not mask:
        return block("GlobalMaxPool", block.bottom, step=step)
    inside = _inside(view)
    x, before, after = block.bottom, view.before, _after(inside)
    if block.is_double and not mask and any(before + after):
        # onnx's evaluator mixes up pads that differ between axes.
        x = pad(block, x, [0, 0, *before], [0, 0, *after], -FLT_MAX, "around")
        before = after = (0,) * len(view.kernel)
    sliding = window(view.kernel, view.stride, before, after)
    outputs = block.several("MaxPool", x, outputs=2 if mask else 1, step=step, **sliding)
    outputs[0] = _filled(block, outputs[0], view, inside, -FLT_MAX, "empty")
    if mask:
        # ONNX counts through the whole tensor, Caffe through one plane.
        plane = block("Mod", outputs[1], block.integers(math.prod(view.image), "plane"))
        where = block.as_float(plane, "mask")
        outputs[1] = _filled(block, where, view, inside, -1.0, "nowhere")
    return outputs if mask else outputs[0]


def average(block: Block, x: str, view: Pooling, step: str = "") -> str:
    """The mean of each window by Caffe's divisor."""
    if view.is_global:
        return block("GlobalAveragePool", x, step=step)
    inside, counted = _inside(view), view.counts_padding
    before, after = view.before, _after(inside)
    beyond = _overhang(inside, tuple(b + a for b, a in zip(view.before, view.after, strict=True)))
    if counted and any(beyond):
        if view.padded:
            x = pad(block, x, (0, 0, *view.before), (0, 0, *view.after), step="zeros")
        before, after, counted = (0,) * len(before), beyond, False
    sliding = window(view.kernel, view.stride, before, after, count_include_pad=int(counted))
    return _divided_empty(block, block("AveragePool", x, step=step, **sliding), view, inside)


def stochastic(block: Block, view: Pooling) -> str:
    """`sum x^2 / sum x` over each window, as Caffe's GPU code does at TEST."""
    if view.padded:
        raise Refused("STOCHASTIC pooling knows no pad")
    if not view.windows_never_empty:
        raise Refused("STOCHASTIC pooling with windows that hold no pixel divides by zero")
    square = average(block, block("Mul", block.bottom, block.bottom, step="square"), view, "squares")
    return block("Div", square, average(block, block.bottom, view, "sum"))


def position_sensitive(block: Block, view: Pooling) -> str:
    """MDS: `y[c] = sum over places p of x[p*C + c]` at that place, zeros outside: a convolution of one-hot kernels.

    Seen as (N, C, places, H, W), each output channel is a group that reads its places through a kernel each.
    """
    channels, places = block.tops[0][1], math.prod(view.kernel)
    x = reshape(block, block.bottom, (-1, places, channels, *view.image), "places")
    x = transpose(block, x, (0, 2, 1, 3, 4), "places_last")
    x = reshape(block, x, (-1, channels * places, *view.image), "groups")
    block.affords(channels * places * places)
    picks = np.tile(np.eye(places).reshape(1, places, *view.kernel), (channels, 1, 1, 1))
    sliding = window(view.kernel, view.stride, view.before, view.after, dilations=[view.dilation] * 2)
    return block("Conv", x, block.floats(picks, "picks"), group=channels, **sliding)


def spp(block: Block) -> str:
    """Pooled at several resolutions (spp_layer.cpp), each flattened, side by side: MaxPool or AveragePool, Concat."""
    levels = SPP.of(block.layer, block.shape).levels
    pooled = [_level(block, view, f"level{number}") for number, view in enumerate(levels)]
    if len(levels) == 1:
        return pooled[0]
    flat = [block("Flatten", y, axis=1, step=f"flat{number}") for number, y in enumerate(pooled)]
    return block("Concat", *flat, axis=1)


def _level(block: Block, view: Pooling, step: str) -> str:
    if view.method == "MAX":
        y = maximum(block, view, step=step)
        assert isinstance(y, str)
        return y
    if view.method == "AVE":
        return average(block, block.bottom, view, step)
    raise Refused("STOCHASTIC pooling in a pyramid")


def _inside(view: Pooling) -> Pooling:
    """The windows that begin before the image ends."""
    output = tuple(
        min(out, -(-(size + p) // s))
        for out, size, s, p in zip(view.output, view.image, view.stride, view.before, strict=True)
    )
    return view._replace(output=output)


def _overhang(view: Pooling, padding: tuple[int, ...]) -> tuple[int, ...]:
    """How far the last window reaches beyond the image and `padding` (in front and behind together, or in front)."""
    return tuple(
        max(0, (out - 1) * s + k - size - around)
        for out, size, k, s, around in zip(view.output, view.image, view.kernel, view.stride, padding, strict=True)
    )


def _after(view: Pooling) -> tuple[int, ...]:
    """The pads behind the image: as they are said where that gives the same windows, which suits more runtimes; pnnx
    pads twice where they differ. Else what the last window needs.
    """
    same = all(
        (size + b + a - k) // s + 1 == out
        for out, size, k, s, b, a in zip(
            view.output, view.image, view.kernel, view.stride, view.before, view.after, strict=True
        )
    )
    return view.after if same else _overhang(view, view.before)


def _filled(block: Block, y: str, view: Pooling, inside: Pooling, value: float, step: str) -> str:
    """`y` with the windows that lie outside the image."""
    missing = [out - have for out, have in zip(view.output, inside.output, strict=True)]
    return pad(block, y, [0] * (2 + len(missing)), [0, 0, *missing], value, step) if any(missing) else y


def _divided_empty(block: Block, y: str, view: Pooling, inside: Pooling) -> str:
    """The empty windows of an average: 0 divided by the size of the window clipped to the padded image."""
    if inside.output == view.output:
        return y
    y = _filled(block, y, view, inside, 0.0, "empty")
    divisors = np.ones((1,) * (2 + len(view.output)))
    for axis, (out, size, k, s, b, a) in enumerate(
        zip(view.output, view.image, view.kernel, view.stride, view.before, view.after, strict=True), start=2
    ):
        starts = np.arange(out) * s - b
        along = [1] * divisors.ndim
        along[axis] = out
        divisors = divisors * (np.minimum(starts + k, size + a) - starts).reshape(along)
    if (divisors == 0).any():
        y = block("Add", y, block.floats(np.where(divisors == 0, np.nan, 0.0), "undefined"))
    return y


FUNCTIONS: Mapping[str, LayerFunction] = {
    "NdPooling": nd_pooling,
    "Pooling": pooling,
    "Pooling3D": pooling,
    "SPP": spp,
}
