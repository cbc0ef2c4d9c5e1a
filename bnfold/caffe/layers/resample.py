"""Layers that change the resolution: Interp, Resample, the Resizes, UnPooling, Unpooling, the Upsamples."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np

from bnfold.caffe.layers.axes import (
    UNKNOWN,
    all_written,
    at_least_1,
    each_size,
    fields_at_least_1,
    is_empty,
    pads_below_kernel,
    per_axis,
    written,
)
from bnfold.caffe.layers.row import OTHERS, LayerType, count, four_axes, merged
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError
from bnfold.net import Array, Layer, Shape, sizes


class Interp(NamedTuple):
    """What an Interp says: bilinear with aligned corners, after cropping by the pads.

    Attributes:
        height, width: the size wanted, None where factors or the second bottom say it.
        zoom_factor, shrink_factor: None where not given; shrinking comes first.
        full_zoom_factor: Synopsys': the size is multiplied by it; None where something else says the size.
        pad_beg, pad_end: at most 0: rows and columns cut off at either end.
    """

    height: int | None
    width: int | None
    zoom_factor: int | None
    shrink_factor: int | None
    full_zoom_factor: int | None
    pad_beg: int
    pad_end: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Interp: shrinking alone, zooming alone, a size, both factors, or a full zoom, the first that is said.

        Raises:
            ModelError: nothing says the size, a factor is below 1, or a pad is above 0.
        """
        param = layer.param.interp_param
        factors = {word: written(param, word) for word in ("zoom_factor", "shrink_factor", "full_zoom_factor")}
        for word, factor in factors.items():
            if factor is not None:
                at_least_1(layer, word, (factor,))
        if param.pad_beg > 0 or param.pad_end > 0:
            raise ModelError(f"{layer}: pad_beg and pad_end can only crop, so they must not be above 0")
        zoom, shrink, full = factors.values()
        height, width = None, None
        if len(layer.bottoms) == 2 or param.use_blob_size:
            if len(layer.bottoms) != 2:
                raise ModelError(f"{layer}: use_blob_size takes the size of a second bottom, and there is none")
            zoom, shrink, full = None, None, None
        elif (zoom is None) == (shrink is None) and param.HasField("height") and param.HasField("width"):
            height, width, zoom, shrink, full = param.height, param.width, None, None, None
            at_least_1(layer, "height and width", (height, width))
        elif zoom is not None or shrink is not None:
            full = None
        elif full is None:
            raise ModelError(f"{layer}: neither height and width nor a zoom_factor or shrink_factor is given")
        return cls(height, width, zoom, shrink, full, param.pad_beg, param.pad_end)

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
        if self.full_zoom_factor is not None:
            return size * self.full_zoom_factor
        if self.shrink_factor is not None:
            size = (size - 1) // self.shrink_factor + 1
        if self.zoom_factor is not None:
            size += (size - 1) * (self.zoom_factor - 1)
        return size


class Resizing(NamedTuple):
    """What a ResizeBilinear, ResizeNearestNeighbor or DeephiResize says about one bottom.

    Attributes:
        last: the channels are the last axis (NHWC, which is the default).
        image: (H, W) of the bottom.
        size: (H', W') of the top.
        grid: where the pixels of the top lie: "plain", "align_corners", "half_pixel_centers", "pytorch_half_pixel" or
            "half_pixel_onnx"; "opencv" is plain, counted as cv::resize does.
        linear: each pixel is a weighted mean of those around, and not a copy of the nearest.
    """

    last: bool
    image: tuple[int, int]
    size: tuple[int, int]
    grid: str
    linear: bool

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read any of the three.

        Raises:
            ModelError: the format is unknown, two grids are given, or no size, or one of two that belong together.
        """
        if layer.type == "DeephiResize":
            return cls._by_opencv(layer, bottom)
        param = ROWS[layer.type].parameters(layer)
        if param.data_format not in ("NHWC", "NCHW"):
            raise ModelError(f"{layer}: data_format {param.data_format!r} is neither NHWC nor NCHW")
        grids = ("align_corners", "half_pixel_centers", "pytorch_half_pixel", "half_pixel_onnx")
        given = [grid for grid in grids if getattr(param, grid, False)]
        if len(given) > 1:
            raise ModelError(f"{layer}: {' and '.join(given)} contradict each other; keep one")
        last = param.data_format == "NHWC"
        height, width = four_axes(layer, bottom)[1:3] if last else bottom[2:]
        wanted = []
        for size, name in ((height, "height"), (width, "width")):
            if param.HasField(f"output_{name}"):
                wanted.append(getattr(param, f"output_{name}"))
            else:
                wanted.append(_times(layer, size, f"scale_{name}", getattr(param, f"scale_{name}")))
            at_least_1(layer, f"output_{name}", [one for one in wanted if one != UNKNOWN])
        grid = given[0] if given else "plain"
        return cls(last, (height, width), (wanted[0], wanted[1]), grid, layer.type == "ResizeBilinear")

    @classmethod
    def _by_opencv(cls, layer: Layer, bottom: Shape) -> Self:
        """Read a DeephiResize, which calls cv::resize (deephi_resize_layer.cpp of Vitis' Caffe)."""
        param, image = layer.param.deephi_resize_param, four_axes(layer, bottom)[2:]
        for one, other in (("new_height", "new_width"), ("scale_h", "scale_w")):
            if param.HasField(one) != param.HasField(other):
                raise ModelError(f"{layer}: {one} and {other} must be given together")
        if param.HasField("new_height"):
            height, width = param.new_height, param.new_width
        else:
            height = _times(layer, image[0], "scale_h", param.scale_h)
            width = _times(layer, image[1], "scale_w", param.scale_w)
        at_least_1(layer, "a size of its top", [size for size in (height, width) if size != UNKNOWN])
        linear = param.resize_type == param.BILINEAR
        grid = "half_pixel_centers" if linear else "opencv"
        return cls(False, (image[0], image[1]), (height, width), grid, linear)

    def sources(self, axis: int) -> Array:
        """For each row (axis 0) or column of the top the nearest one of the bottom by the grid.

        Source: Synopsys' Caffe; resizeNN of OpenCV's resize.cpp, which counts in float64.
        """
        size, wanted = self.image[axis], self.size[axis]
        if self.grid == "opencv":
            places = np.floor(np.arange(wanted) * (1 / (wanted / size)))
            return np.asarray(places.clip(0, size - 1), np.int64)
        aligned = self.grid == "align_corners" and wanted > 1
        step = np.float32(size - 1) / np.float32(wanted - 1) if aligned else np.float32(size) / np.float32(wanted)
        places = np.arange(wanted, dtype=np.float32)
        if aligned:
            places = np.floor(places * step + np.float32(0.5))
        elif self.grid == "half_pixel_centers":
            places = np.floor((places + np.float32(0.5)) * step)
        elif self.grid == "half_pixel_onnx":
            places = np.floor((places + np.float32(0.5)) * step - np.float32(0.5))
        else:
            places = np.floor(places * step)
        return np.asarray(places.clip(0, size - 1), np.int64)


def _times(layer: Layer, size: int, name: str, factor: float) -> int:
    """`size * factor` in float32, rounded down; UNKNOWN stays."""
    if size == UNKNOWN:
        return UNKNOWN
    with np.errstate(over="ignore"):
        scaled = np.float32(size) * np.float32(factor)
    if not abs(scaled) <= INT_MAX:  # NaN is not, either
        raise ModelError(f"{layer}: {name} {factor:g} makes no size of {size}")
    return int(np.floor(scaled))


class Resample(NamedTuple):
    """What FlowNet's Resample says: a fixed matrix along each axis of the plane (resample_layer.cu).

        source x = o*fx + fy/2 - 0.5, y = o*fy + fx/2 - 0.5        fx = W/W', fy = H/H' (they change places)
        weight of a pixel at distance d: kernel(a*d), divided by the sum over the pixels inside the image

    Attributes:
        kind: "NEAREST", "LINEAR" or "CUBIC".
        antialias: the kernel is stretched when the plane shrinks.
        size: (H', W') of the top; None is the second bottom's.
    """

    kind: str
    antialias: bool
    size: tuple[int, int] | None

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Resample.

        Raises:
            ModelError: it is AREA, which stops FlowNet's Caffe, or nothing says the size.
        """
        param = layer.param.resample_param
        kind = param.ResampleType.Name(param.type)
        if kind == "AREA":
            raise ModelError(f"{layer}: type AREA is declared and not made in any Caffe")
        if len(layer.bottoms) == 2:
            return cls(kind, param.antialias, None)
        fields_at_least_1(layer, param, "height", "width")
        return cls(kind, param.antialias, (param.height, param.width))

    def matrices(self, layer: Layer, image: tuple[int, int], size: tuple[int, int]) -> tuple[Array, ...]:
        """(H', H) and (W', W): `top = rows @ image @ columns.T`.

        Raises:
            ModelError: a pixel of the top lies outside the image, which FlowNet's Caffe reads all the same.
        """
        fy, fx = (old / new for old, new in zip(image, size, strict=True))
        axes = zip(image, size, (fy, fx), (fx, fy), strict=True)
        return tuple(self._matrix(layer, *axis, shrinks=fx > 1 or fy > 1) for axis in axes)

    def _matrix(self, layer: Layer, old: int, new: int, factor: float, other: float, *, shrinks: bool) -> Array:
        source = np.arange(new) * factor + other / 2 - 0.5
        nearest = (np.sign(source) * np.floor(np.abs(source) + 0.5)).astype(np.int64)
        pixels = np.arange(old)
        if self.kind == "NEAREST":
            weights = np.asarray(pixels == nearest[:, None], np.float64)
        else:
            kernel, width = (_triangle, 2) if self.kind == "LINEAR" else (_catmull_rom, 4)
            stretch = 1 / factor if self.antialias and shrinks else 1.0
            radius = 2 if factor < 1 else math.ceil(width / stretch)
            near = np.abs(pixels - nearest[:, None]) <= radius
            weights = np.where(near, kernel(stretch * (source[:, None] - pixels)), 0.0)
        totals = weights.sum(axis=1, keepdims=True)
        if (totals == 0).any():
            raise ModelError(f"{layer}: its pixels reach beyond the image of its bottom, where nothing is defined")
        return np.asarray(weights / totals)


def _triangle(x: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def _catmull_rom(x: Array) -> Array:
    """The cubic kernel with a = -0.5."""
    d = np.abs(x)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


class UnPooling(NamedTuple):
    """What an UnPooling says: a fixed matrix along each axis of the plane (unpooling_layer.cpp of extended-caffe).

        window of pixel h: k places from h*s - p on, of (H - 1)*s - 2p + k
        FIXED puts the pixel into the middle of its window, REP into all of it, DIV too, divided by its k*k places
        where n windows overlap, each gives an nth in REP and DIV; the last one counts in FIXED

    Attributes:
        method: "FIXED", "DIV" or "REP".
        kernel, stride, pad: (h, w) each; with a second bottom they follow from the two planes.
    """

    method: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer, bottoms: Sequence[Shape]) -> Self:
        """Read an UnPooling.

        Raises:
            ModelError: it does not say its method, or its kernel; a pad is as large as the kernel; a plane is unknown.
        """
        param = layer.param.unpooling_param
        if not param.HasField("unpool"):
            raise ModelError(f"{layer}: nothing says its method; write `unpool: FIXED`, DIV or REP")
        method, image = param.Method.Name(param.unpool), four_axes(layer, bottoms[0])[2:]
        if len(bottoms) == 2:
            wanted = four_axes(layer, bottoms[1])[2:]
            if UNKNOWN in (*image, *wanted):
                raise ModelError(f"{layer}: its window follows from two planes, of which one has no known size")
            kernel = tuple(-(-new // old) for old, new in zip(image, wanted, strict=True))
            stride = tuple(1 if k == new else k for k, new in zip(kernel, wanted, strict=True))
            beyond = [(old - 1) * s + k for old, k, s in zip(image, kernel, stride, strict=True)]
            pad = tuple((far - new) // 2 for far, new in zip(beyond, wanted, strict=True))
        else:
            kernel, stride, pad = (
                per_axis(layer, all_written(param), name, 2) for name in ("out_kernel_size", "out_stride", "out_pad")
            )
            at_least_1(layer, "out_kernel_size", kernel)
            at_least_1(layer, "out_stride", stride)
        pads_below_kernel(layer, "out_pad", pad, kernel)
        return cls(method, kernel, stride, pad)

    def unpooled(self, layer: Layer, image: Shape) -> Shape:
        """The plane of the top. Raises ModelError where none is left."""
        windows = (self.kernel, self.stride, self.pad)
        size = each_size(lambda old, k, s, p: (old - 1) * s - 2 * p + k, image, *windows)
        if is_empty(size):
            raise ModelError(f"{layer}: out_pad {sizes(self.pad)} leaves nothing of a plane of {sizes(image)}")
        return size

    def matrices(self, image: tuple[int, int]) -> tuple[Array, ...]:
        """(H', H) and (W', W): `top = rows @ image @ columns.T`."""
        return tuple(self._matrix(*axis) for axis in zip(image, self.kernel, self.stride, self.pad, strict=True))

    def _matrix(self, old: int, kernel: int, stride: int, pad: int) -> Array:
        new = (old - 1) * stride - 2 * pad + kernel
        starts = np.arange(old) * stride - pad
        if self.method == "FIXED":
            return _one_to_one(np.clip((2 * starts + kernel - 1) // 2, 0, new - 1), new)
        places = np.arange(new)[:, None]
        inside = (places >= starts) & (places < starts + kernel)
        covered = np.maximum(inside.sum(axis=1, keepdims=True), 1)
        return np.asarray(inside / (covered * (kernel if self.method == "DIV" else 1)))


class Unpooling(NamedTuple):
    """What an Unpooling says: each pixel goes where a pooling mask points (unpooling_layer.cpp of DeconvNet's Caffe).

    Without a mask pixel (h, w) goes to (h*s, w*s), or to the last row and column that there are.

    Attributes:
        size: (h, w) of the top.
        stride: (h, w).
    """

    size: tuple[int, int]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Unpooling.

        Raises:
            ModelError: it is by another method than MAX, it is padded, or it does not say the plane of its top.
        """
        param = layer.param.unpooling_param
        if param.HasField("unpool") and param.unpool != param.MAX:
            raise ModelError(
                f"{layer}: it knows `unpool: MAX` alone; an UnPooling has {param.Method.Name(param.unpool)}"
            )
        said = all_written(param)
        if any(per_axis(layer, said, "pad", 2)):
            raise ModelError(f"{layer}: DeconvNet's Caffe has no unpooling with a pad")
        both = param.unpool_size
        size = (param.unpool_h or both, param.unpool_w or both)
        if not all(size):
            raise ModelError(
                f"{layer}: nothing says the plane of its top, and forks differ in what follows from the kernel; write "
                "`unpool_size`, or `unpool_h` and `unpool_w`"
            )
        stride = per_axis(layer, said, "stride", 2)
        at_least_1(layer, "stride", stride)
        return cls(size, stride)

    def matrices(self, image: tuple[int, int]) -> tuple[Array, ...]:
        """(H', H) and (W', W) without a mask: `top = rows @ image @ columns.T`."""
        axes = zip(image, self.size, self.stride, strict=True)
        return tuple(_one_to_one(np.minimum(np.arange(old) * stride, new - 1), new) for old, new, stride in axes)


def _one_to_one(places: Array, new: int) -> Array:
    """The matrix (new, old) that puts each pixel to its place, of which the last one counts where several go to one."""
    last = np.append(places[1:] != places[:-1], True)
    matrix = np.zeros((new, len(places)))
    matrix[places[last], np.flatnonzero(last)] = 1
    return matrix


class Upsampling(NamedTuple):
    """What an Upsample says: YOLO's repeats each pixel, SegNet's puts it where a pooling mask points.

    Attributes:
        scale: (h, w) factors, each at least 1.
        size: (h, w) of the top where it is written; None follows from the factors.
        pad_out: (h, w): the top is one row or column smaller.
        kind: "repeat", "mask", or caffe_plus' "nearest" and "linear", which say `mode` or a size in their own words.
        unsure: a size is all that is said. By that caffe_plus' is bilinear with aligned corners, and the layer of the
            hypercolumns (caffe-sds, upsample_layer.cpp) on half pixels: `I = (i - s/2)/s` for `s = H'/H`.
    """

    scale: tuple[int, int]
    size: tuple[int, int] | None
    pad_out: tuple[bool, bool]
    kind: Literal["repeat", "mask", "nearest", "linear"] = "repeat"
    unsure: bool = False

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Upsample; with a mask (two bottoms) the factor is 2 unless said.

        Raises:
            ModelError: a factor is no whole number of at least 1, or nothing says it and there is no mask.
        """
        param = layer.param.upsample_param
        said = ("scale", "scale_h", "scale_w", "upsample_h")
        if any(param.HasField(word) for word in ("mode", "height", "width", "height_scale", "width_scale")):
            if any(param.HasField(word) for word in said):
                raise ModelError(f"{layer}: its fields are those of two layers called Upsample")
            return cls._of_caffe_plus(layer)
        if len(layer.bottoms) == 1 and not any(param.HasField(word) for word in said):
            raise ModelError(
                f"{layer}: nothing says its factor, and forks differ in the default: SegNet's is 2, MobileNet-YOLO's "
                "1, TI's 0; write the one that is meant, `upsample_param { scale: 2 }`"
            )
        scale = param.scale if param.HasField("scale") else (2.0 if len(layer.bottoms) == 2 else 1.0)
        height: float = param.scale_h if param.HasField("scale_h") else scale
        width: float = param.scale_w if param.HasField("scale_w") else scale
        if not (1 <= height <= INT_MAX and 1 <= width <= INT_MAX and height == int(height) and width == int(width)):
            raise ModelError(f"{layer}: scale {height:g}x{width:g} must be whole and at least 1")
        size = (param.upsample_h, param.upsample_w) if param.HasField("upsample_h") else None
        if size is not None:
            at_least_1(layer, "upsample_h and upsample_w", size)
        kind: Literal["mask", "repeat"] = "mask" if len(layer.bottoms) == 2 else "repeat"
        return cls((int(height), int(width)), size, (param.pad_out_h, param.pad_out_w), kind)

    @classmethod
    def _of_caffe_plus(cls, layer: Layer) -> Self:
        param = layer.param.upsample_param
        kind: Literal["nearest", "linear"] = "nearest" if param.mode == param.NEAREST else "linear"
        if len(layer.bottoms) == 2:
            return cls((1, 1), None, (False, False), kind)
        if param.HasField("height") and param.HasField("width"):
            at_least_1(layer, "height and width", (param.height, param.width))
            size, unsure = (param.height, param.width), not param.HasField("mode")
            return cls((1, 1), size, (False, False), kind, unsure)
        if not (param.HasField("height_scale") and param.HasField("width_scale")):
            raise ModelError(f"{layer}: it says neither height and width nor height_scale and width_scale")
        at_least_1(layer, "height_scale and width_scale", (param.height_scale, param.width_scale))
        return cls((param.height_scale, param.width_scale), None, (False, False), kind)

    def resized(self, image: Shape) -> Shape:
        """The plane of the top."""
        if self.size is not None:
            return self.size
        return each_size(lambda size, scale, pad: size * scale - pad, image, self.scale, self.pad_out)


def _second_plane(layer: Layer, bottoms: Sequence[Shape]) -> Shape:
    """The plane of the second bottom, () where there is none."""
    return four_axes(layer, bottoms[1])[2:] if len(bottoms) == 2 else ()


def interp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that the factors, sizes or second bottom say (PSPNet, interp_layer.cpp)."""
    bottom, plane = four_axes(layer, bottoms[0]), _second_plane(layer, bottoms)
    view = Interp.of(layer)
    return [(*bottom[:2], *(plane or view.resized(layer, bottom[2:])))]


def resample(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that is said, or the second bottom's (FlowNet2, resample_layer.cpp)."""
    bottom = four_axes(layer, bottoms[0])
    return [(*bottom[:2], *(Resample.of(layer).size or _second_plane(layer, bottoms)))]


def resize(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, with another plane (Synopsys' Caffe; deephi_resize_layer.cpp of Vitis')."""
    bottom = four_axes(layer, bottoms[0])
    view = Resizing.of(layer, bottom)
    return [(bottom[0], *view.size, bottom[3]) if view.last else (*bottom[:2], *view.size)]


PYRAMID = (((33, 33), (65, 65)), ((17, 16), (33, 32)), ((13, 10), (25, 20)), ((8, 5), (15, 10)))
"""(kernel, stride) along both axes of ICNet's four averages of 33 x 65 pixels, whatever the plane is."""


def pyramid_matrix(size: int, kernel: int, stride: int) -> Array:
    """Averages of windows along an axis, of which the last may be cut, and each pixel between two of these.

    Source: icnet_subgraph_layer.cpp of Synopsys' Caffe.
    """
    count = math.ceil((size - kernel) / stride) + 1
    means = np.zeros((count, size))
    for window in range(count):
        stop = min(window * stride + kernel, size)
        means[window, window * stride : stop] = 1 / (stop - window * stride)
    pixels = np.arange(size)
    places = pixels * ((count - 1) / (size - 1))
    low = places.astype(np.int64).clip(0, count - 1)
    matrix = np.zeros((size, count))
    matrix[pixels, low] = 1 - (places - low)
    matrix[pixels, (low + 1).clip(0, count - 1)] += places - low
    result: Array = matrix @ means
    return result


def pyramid(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, of whose plane each average has a window (Synopsys' Caffe)."""
    bottom = four_axes(layer, bottoms[0])
    for axis, size in enumerate(bottom[2:]):
        if size != UNKNOWN and any(size <= (kernel - stride) for kernel, stride in (row[axis] for row in PYRAMID)):
            raise ModelError(f"{layer}: a plane of {sizes(bottom[2:])} is too small for its windows")
    return [bottom]


def unpooling_by_mask(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that is said (DeconvNet's Caffe, unpooling_layer.cpp)."""
    bottom = four_axes(layer, bottoms[0])
    return [(*bottom[:2], *Unpooling.of(layer).size)]


def unpooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that the windows cover (extended-caffe, unpooling_layer.cpp)."""
    bottom = four_axes(layer, bottoms[0])
    return [(*bottom[:2], *UnPooling.of(layer, bottoms).unpooled(layer, bottom[2:]))]


def upsample_darknet(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """`stride` times the plane (Synopsys' Caffe)."""
    bottom, stride = four_axes(layer, bottoms[0]), layer.param.upsample_darknet_param.stride
    at_least_1(layer, "stride", (stride,))
    return [(*bottom[:2], *(count((size, stride)) for size in bottom[2:]))]


def upsample(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), the larger plane (upsample_layer.cpp of SegNet, of MobileNet-YOLO); a mask has the bottom's shape.

    Of caffe_plus' with two bottoms it is the plane of the second.
    """
    bottom, view = four_axes(layer, bottoms[0]), Upsampling.of(layer)
    if view.kind == "mask":
        merged(layer, bottom, bottoms[1])
        return [(*bottom[:2], *view.resized(bottom[2:]))]
    return [(*bottom[:2], *(_second_plane(layer, bottoms) or view.resized(bottom[2:])))]


RESIZE = "align_corners output_height output_width data_format scale_height scale_width half_pixel_centers"

ROWS: Mapping[str, LayerType] = {
    "DeephiResize": LayerType(
        resize,
        reads={"deephi_resize_param": "resize_type scale_h scale_w new_height new_width"},
        keeps="channels",
        dialects="Vitis",
        note="to the nearest pixel unless `resize_type` says BILINEAR; its `use_dpu` means nothing",
    ),
    "ICNetSubgraph": LayerType(
        pyramid, keeps="shape", dialects="Synopsys", note="for ICNet's plane of 33 x 65; others are averaged alike"
    ),
    "Interp": LayerType(
        interp,
        bottoms=(1, 2),
        reads={"interp_param": "height width zoom_factor shrink_factor pad_beg pad_end full_zoom_factor use_blob_size"},
        keeps="channels",
        shape_only=(1,),
        dialects="PSPNet, ncnn, Tengine, MACE, TI, soeaver's, Synopsys",
        note="Synopsys' `full_zoom_factor` and soeaver's `use_blob_size` too",
    ),
    "Resample": LayerType(
        resample,
        bottoms=(1, 2),
        reads={"resample_param": "type width height antialias"},
        keeps="channels",
        shape_only=(1,),
        dialects="Synopsys, FlowNet2",
        note="as FlowNet's kernels weigh the pixels, which change the two factors' places in the half pixel",
    ),
    "ResizeBilinear": LayerType(
        resize,
        reads={"resize_bilinear_param": f"{RESIZE} pytorch_half_pixel"},
        dialects="Synopsys",
        note="NHWC unless `data_format` says NCHW",
    ),
    "ResizeNearestNeighbor": LayerType(
        resize,
        reads={"resize_nearest_neighbor_param": f"{RESIZE} half_pixel_onnx"},
        dialects="Synopsys",
        note="NHWC unless `data_format` says NCHW",
    ),
    "Unpooling": LayerType(  # before UnPooling, which is newer than the V1 that has one word for either
        unpooling_by_mask,
        bottoms=(1, 2),
        reads={
            "unpooling_param": "unpool kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w "
            "unpool_size unpool_h unpool_w"
        },
        keeps="channels",
        dialects=OTHERS,
        note="by MAX, as DeconvNet's Caffe computes it; the plane of the top must be said",
    ),
    "UnPooling": LayerType(
        unpooling,
        bottoms=(1, 2),
        reads={
            "unpooling_param": "unpool out_kernel_size out_kernel_h out_kernel_w out_stride out_stride_h out_stride_w "
            "out_pad out_pad_h out_pad_w"
        },
        keeps="channels",
        shape_only=(1,),
        dialects=OTHERS,
        note="as extended-caffe computes FIXED, DIV and REP; which one it is must be said",
    ),
    "Upsample": LayerType(
        upsample,
        bottoms=(1, 2),
        reads={
            "upsample_param": "scale scale_h scale_w pad_out_h pad_out_w upsample_h upsample_w mode height width "
            "height_scale width_scale"
        },
        keeps="channels",
        dialects="SegNet, MobileNet-YOLO, Tengine, X2Paddle, TI, Synopsys",
        note="by factors (YOLO), or by a pooling's mask (SegNet); caffe_plus', which says a `mode`, a `height` or a "
        "`height_scale`, is bilinear unless `mode: NEAREST`; CaffeMex' puts zeros between pixels by YOLO's words",
    ),
    "UpsampleDarknet": LayerType(
        upsample_darknet, reads={"upsample_darknet_param": "stride"}, keeps="channels", dialects="Synopsys"
    ),
}
