"""Layers that pool the plane: Pooling, SPP.

Caffe rounds the number of windows up, and may then take one back:

    out = ceil((H + 2p - k)/s) + 1                          (floor by round_mode)
    if any pad is not 0 and (out - 1)*s >= H + p: out -= 1  (the last window would start outside image and padding)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least, per_axis, sizes
from bnfold.caffe.layers.row import LayerType
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import PoolingParameter


METHODS = ("MAX", "AVE", "STOCHASTIC")


class Pooling(NamedTuple):
    """What a Pooling says about one bottom, one value per spatial axis in order h, w.

    Attributes:
        method: "MAX", "AVE" or "STOCHASTIC".
        kernel, stride, pad: a global pooling has the plane as kernel, stride 1 and pad 0.
        ceil: sizes are rounded up, so the last window may hang over.
        is_global: one window takes the whole plane.
        image: spatial sizes of the bottom.
        output: spatial sizes of the top.
        counts_padding: AVE divides by the window clipped to image and padding; else to the image alone (Intel).
    """

    method: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    ceil: bool
    is_global: bool
    image: Shape
    output: Shape
    counts_padding: bool = True

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read a Pooling.

        Args:
            layer: the layer.
            bottom: shape of its bottom, (N, C, spatial...).

        Raises:
            ModelError: a size is missing, given twice or too small, or no window fits the bottom.
        """
        param = layer.param.pooling_param
        image = tuple(bottom[2:])
        if not image:
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} has no plane to pool")
        if param.pool not in (0, 1, 2):
            raise ModelError(f"{layer}: pooling method {param.pool} is none of Caffe's")
        spatial = len(image)
        pad = _values(layer, "pad", param, spatial)
        ceil = _rounds_up(layer, param)
        if param.global_pooling:
            if any(pad):
                raise ModelError(f"{layer}: global pooling takes no pad, but pad is {sizes(pad)}")
            kernel, stride = image, (1,) * spatial
        else:
            kernel = _values(layer, "kernel_size", param, spatial)
            stride = _values(layer, "stride", param, spatial)
        return cls(
            method=METHODS[param.pool],
            kernel=kernel,
            stride=stride,
            pad=pad,
            ceil=ceil,
            is_global=param.global_pooling,
            image=image,
            output=(1,) * spatial if param.global_pooling else pooled(layer, image, kernel, stride, pad, ceil),
            counts_padding=param.avg_include_pad,
        )

    @property
    def windows_never_empty(self) -> bool:
        """Every window, clipped to the image, holds a pixel; False too where an unknown size leaves it open."""
        if self.is_global:
            return True
        for size, out, k, s, p in zip(self.image, self.output, self.kernel, self.stride, self.pad, strict=True):
            if k <= p:
                return False
            if (s > k or p) if size == UNKNOWN else (out - 1) * s - p >= size:
                return False
        return True


def pooled(
    layer: Layer,
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
) -> Shape:
    """How many windows Caffe lays along each spatial axis.

    Raises:
        ModelError: a kernel or stride is 0, a pad is as large as its kernel, or no window fits.
    """
    at_least(layer, "kernel_size", kernel, 1)
    at_least(layer, "stride", stride, 1)
    if any(p >= k for p, k in zip(pad, kernel, strict=True) if p):
        raise ModelError(f"{layer}: pad {sizes(pad)} must be smaller than the kernel {sizes(kernel)}")
    clips = any(pad)
    output = []
    for size, k, s, p in zip(image, kernel, stride, pad, strict=True):
        if size == UNKNOWN:
            output.append(UNKNOWN)
            continue
        room = size + 2 * p - k
        out = (-(-room // s) if ceil else room // s) + 1
        if clips and (out - 1) * s >= size + p:
            out -= 1
        if out < 1:
            raise ModelError(f"{layer}: kernel {sizes(kernel)} does not fit a plane of {sizes(image)}")
        output.append(out)
    return tuple(output)


def _rounds_up(layer: Layer, param: PoolingParameter) -> bool:
    """Three dialects have a word of their own for rounding down: round_mode, ceil_mode and torch_pooling.

    Raises:
        ModelError: two of them contradict each other.
    """
    both = param.HasField("round_mode") and param.HasField("ceil_mode")
    if both and (param.round_mode == param.CEIL) != param.ceil_mode:
        raise ModelError(f"{layer}: round_mode and ceil_mode contradict each other; keep one")
    return param.round_mode == param.CEIL and param.ceil_mode and not param.torch_pooling


def _values(layer: Layer, word: str, param: PoolingParameter, spatial: int) -> tuple[int, ...]:
    """Pooling's fields are single numbers; Intel Caffe lists those of 3-D pooling apart."""
    if word == "kernel_size":
        listed = param.kernel_size_3d or ([param.kernel_size] if param.HasField("kernel_size") else [])
        height = param.kernel_h if param.HasField("kernel_h") else None
        width = param.kernel_w if param.HasField("kernel_w") else None
        return per_axis(layer, word, listed, (height, width), spatial, None)
    if word == "stride":
        listed = param.stride_3d or ([param.stride] if param.HasField("stride") else [])
        height = param.stride_h if param.HasField("stride_h") else None
        width = param.stride_w if param.HasField("stride_w") else None
        return per_axis(layer, word, listed, (height, width), spatial, 1)
    listed = param.pad_3d or ([param.pad] if param.HasField("pad") else [])
    height = param.pad_h if param.HasField("pad_h") else None
    width = param.pad_w if param.HasField("pad_w") else None
    return per_axis(layer, word, listed, (height, width), spatial, 0)


class SPP(NamedTuple):
    """What an SPP says: level i of the pyramid pools the plane into about 2^i x 2^i windows.

    Attributes:
        levels: one `Pooling` per level, with the windows that Caffe chooses for this bottom.
    """

    levels: tuple[Pooling, ...]

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read an SPP.

        A level has `bins = 2^i` and `k = s = ceil(H/bins)`, `p = (k*bins - H + 1)/2` rounded down.

        Raises:
            ModelError: the bottom has no plane of known size, or a level does not fit it.
        """
        param = layer.param.spp_param
        if len(bottom) != 4 or UNKNOWN in bottom[2:]:
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} has no plane of known size")
        if not 1 <= param.pyramid_height <= 16:
            raise ModelError(f"{layer}: pyramid_height {param.pyramid_height} is not between 1 and 16")
        image = tuple(bottom[2:])
        return cls(tuple(_level(layer, METHODS[param.pool], image, 2**i) for i in range(param.pyramid_height)))


def _level(layer: Layer, method: str, image: Shape, bins: int) -> Pooling:
    kernel = tuple(-(-size // bins) for size in image)
    pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
    output = pooled(layer, image, kernel, kernel, pad, ceil=True)
    return Pooling(method, kernel, kernel, pad, True, False, image, output)


def pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then one size per window; a second top is the mask of a MAX pooling."""
    view = Pooling.of(layer, bottoms[0])
    top = (*bottoms[0][:2], *view.output)
    return [top, top] if len(layer.tops) == 2 and view.method == "MAX" else [top]


def spp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C, 1, 1) for one level; for more, every level flattened, one behind the other."""
    levels = SPP.of(layer, bottoms[0]).levels
    batch, channels = bottoms[0][:2]
    if len(levels) == 1:
        return [(batch, channels, *levels[0].output)]
    windows = sum(prod(level.output) for level in levels)
    return [(batch, channels if channels == UNKNOWN else channels * windows)]


ROWS: Mapping[str, LayerType] = {
    "Pooling": LayerType(
        shapes=pooling,
        rank=3,
        reads={
            "pooling_param": "pool kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w "
            "global_pooling round_mode ceil_mode torch_pooling avg_include_pad kernel_size_3d stride_3d pad_3d"
        },
        note="`ceil_mode` (DenseNet, SENet) and `round_mode` (BVLC) are the same; never ONNX's `ceil_mode`",
    ),
    "SPP": LayerType(shapes=spp, reads={"spp_param": "pyramid_height pool"}),
}
