"""Layers that change the resolution: Interp, Upsample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least
from bnfold.caffe.layers.row import LayerType, four_axes, merged
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


class Interp(NamedTuple):
    """What PSPNet's Interp says: bilinear with aligned corners, after cropping by the pads.

    Attributes:
        height, width: the size wanted, None unless both are given and no factor is.
        zoom_factor, shrink_factor: None where not given; shrinking comes first.
        pad_beg, pad_end: at most 0: rows and columns cut off at either end.
    """

    height: int | None
    width: int | None
    zoom_factor: int | None
    shrink_factor: int | None
    pad_beg: int
    pad_end: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Interp.

        Raises:
            ModelError: nothing says the size, a factor is below 1, or a pad is above 0.
        """
        param = layer.param.interp_param
        zoom = param.zoom_factor if param.HasField("zoom_factor") else None
        shrink = param.shrink_factor if param.HasField("shrink_factor") else None
        explicit = zoom is None and shrink is None
        if explicit and not (param.HasField("height") and param.HasField("width")):
            raise ModelError(f"{layer}: neither height and width nor a zoom_factor or shrink_factor is given")
        for word, factor in (("zoom_factor", zoom), ("shrink_factor", shrink)):
            if factor is not None:
                at_least(layer, word, (factor,), 1)
        if explicit:
            at_least(layer, "height and width", (param.height, param.width), 1)
        if param.pad_beg > 0 or param.pad_end > 0:
            raise ModelError(f"{layer}: pad_beg and pad_end can only crop, so they must not be above 0")
        height, width = (param.height, param.width) if explicit else (None, None)
        return cls(height, width, zoom, shrink, param.pad_beg, param.pad_end)

    def resized(self, layer: Layer, image: Shape) -> Shape:
        """The plane of the top: `(H-1)/shrink + 1`, then `H + (H-1)*(zoom-1)`, or what is written.

        Raises:
            ModelError: the pads crop everything away.
        """
        return (self._resized(layer, image[0], self.height), self._resized(layer, image[1], self.width))

    def _resized(self, layer: Layer, size: int, wanted: int | None) -> int:
        if size == UNKNOWN:
            return UNKNOWN if wanted is None else wanted
        size += self.pad_beg + self.pad_end
        if size < 1:
            raise ModelError(f"{layer}: pad_beg {self.pad_beg} and pad_end {self.pad_end} leave nothing of the bottom")
        if wanted is not None:
            return wanted
        if self.shrink_factor is not None:
            size = (size - 1) // self.shrink_factor + 1
        if self.zoom_factor is not None:
            size += (size - 1) * (self.zoom_factor - 1)
        return size


class Upsample(NamedTuple):
    """What an Upsample says: YOLO's repeats each pixel, SegNet's puts it where a pooling mask points.

    Attributes:
        scale: (h, w) factors, each at least 1.
        size: (h, w) of the top where it is written; None follows from the factors.
        pad_out: (h, w): the top is one row or column smaller.
    """

    scale: tuple[int, int]
    size: tuple[int, int] | None
    pad_out: tuple[bool, bool]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Upsample; with a mask (two bottoms) the factor is 2 unless said.

        Raises:
            ModelError: a factor is no whole number of at least 1.
        """
        param = layer.param.upsample_param
        scale = param.scale if param.HasField("scale") else (2.0 if len(layer.bottoms) == 2 else 1.0)
        height: float = param.scale_h if param.HasField("scale_h") else scale
        width: float = param.scale_w if param.HasField("scale_w") else scale
        if not (1 <= height <= INT_MAX and 1 <= width <= INT_MAX and height == int(height) and width == int(width)):
            raise ModelError(f"{layer}: scale {height:g}x{width:g} must be whole and at least 1")
        size = (param.upsample_h, param.upsample_w) if param.HasField("upsample_h") else None
        if size is not None:
            at_least(layer, "upsample_h and upsample_w", size, 1)
        return cls((int(height), int(width)), size, (param.pad_out_h, param.pad_out_w))

    def resized(self, image: Shape) -> Shape:
        """The plane of the top."""
        if self.size is not None:
            return self.size
        return tuple(
            UNKNOWN if size == UNKNOWN else size * scale - pad
            for size, scale, pad in zip(image, self.scale, self.pad_out, strict=True)
        )


def interp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that the factors or sizes say."""
    bottom = four_axes(layer, bottoms[0])
    return [(*bottom[:2], *Interp.of(layer).resized(layer, bottom[2:]))]


def upsample(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the larger plane; a mask must have the bottom's shape."""
    bottom = four_axes(layer, bottoms[0])
    if len(bottoms) == 2:
        merged(layer, bottom, bottoms[1])
    return [(*bottom[:2], *Upsample.of(layer).resized(bottom[2:]))]


ROWS: Mapping[str, LayerType] = {
    "Interp": LayerType(
        shapes=interp,
        reads={"interp_param": "height width zoom_factor shrink_factor pad_beg pad_end"},
        dialects="PSPNet, ncnn, Tengine, MACE, TI",
    ),
    "Upsample": LayerType(
        shapes=upsample,
        most=2,
        reads={"upsample_param": "scale scale_h scale_w pad_out_h pad_out_w upsample_h upsample_w"},
        dialects="SegNet, MobileNet-YOLO, Tengine, X2Paddle, TI",
        note="by factors (YOLO), or by a pooling's mask (SegNet)",
    ),
}
