"""Layers that pool the plane: Pooling, SPP.

Caffe rounds the number of windows up, and may then take one back:

    out = ceil((H + before + after - k)/s) + 1                   (floor by round_mode)
    if any pad is not 0 and (out - 1)*s >= H + before: out -= 1  (the last window would start outside image and padding)
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Self

from bnfold.caffe.layers.axes import (
    DEFAULTS,
    UNKNOWN,
    all_written,
    at_least_1,
    each_size,
    listed,
    listed_in_shape,
    pads_below_kernel,
    per_axis,
)
from bnfold.caffe.layers.convolution import DEPTH, same_pads, synopsys_pads
from bnfold.caffe.layers.row import OTHERS, LayerType, count
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes

Param = Any
"""PoolingParameter or Pooling3DParameter."""


METHODS = ("MAX", "AVE", "STOCHASTIC")


class Pooling(NamedTuple):
    """What a Pooling or Pooling3D says about one bottom, one value per spatial axis in order h, w.

    Attributes:
        method: "MAX", "AVE", "STOCHASTIC", or OpenVINO's "MDS".
        kernel, stride: a global pooling has the plane as kernel, stride 1 and no pad.
        before, after: padding in front of the image and behind it.
        ceil: sizes are rounded up, so the last window may hang over.
        is_global: one window takes the whole plane.
        image: spatial sizes of the bottom.
        output: spatial sizes of the top.
        counts_padding: AVE divides by the window clipped to image and padding; else to the image alone (Intel's
            `avg_include_pad: false`, Synopsys' AVE_EXC_PAD).
        dilation: MDS: distance between the places of a window.
    """

    method: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    ceil: bool
    is_global: bool
    image: Shape
    output: Shape
    counts_padding: bool = True
    dilation: int = 1

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read a Pooling or Pooling3D.

        Args:
            layer: the layer.
            bottom: shape of its bottom, (N, C, spatial...).

        Raises:
            ModelError: a size is missing, given twice or too small, or no window fits the bottom.
        """
        param = layer.param.pooling_param
        if layer.type == "Pooling3D" and layer.param.HasField("pooling3d_param"):
            param = layer.param.pooling3d_param
        image = tuple(bottom[2:])
        if not image:
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} has no plane to pool")
        spatial = len(image)
        method, counts = _method(layer, param)
        ceil = _rounds_up(layer, param)
        kernel, stride = image, (1,) * spatial
        if not param.global_pooling:
            kernel = _values(layer, "kernel_size", param, spatial)
            stride = _values(layer, "stride", param, spatial)
        before, after, same = _padding(layer, param, image, kernel, stride)
        if param.global_pooling and (any(before) or any(after)):
            raise ModelError(f"{layer}: global pooling takes no pad, but pad is {sizes(before)}")
        if method == "MDS":
            return cls._position_sensitive(layer, bottom, kernel, stride, before)
        output = (1,) * spatial
        if same:
            output = each_size(lambda size, s: -(-size // s), image, stride)
        elif not param.global_pooling:
            output = pooled(layer, image, kernel, stride, before, after, ceil)
        return cls(method, kernel, stride, before, after, ceil, param.global_pooling, image, output, counts)

    @classmethod
    def _position_sensitive(
        cls, layer: Layer, bottom: Shape, kernel: tuple[int, ...], stride: tuple[int, ...], pad: tuple[int, ...]
    ) -> Self:
        image, dilation = tuple(bottom[2:]), layer.param.pooling_param.dilation
        at_least_1(layer, "dilation", (dilation,))
        at_least_1(layer, "kernel_size", kernel)
        at_least_1(layer, "stride", stride)
        if len(kernel) != 2 or kernel[0] != kernel[1]:
            raise ModelError(f"{layer}: MDS pooling takes a square kernel, not {sizes(kernel)}")
        if bottom[1] != UNKNOWN and bottom[1] % prod(kernel):
            raise ModelError(f"{layer}: {bottom[1]} channels are no multiple of its {prod(kernel)} places")
        output = each_size(
            lambda size, k, s, p: (size + 2 * p - dilation * (k - 1) - 1) // s + 1, image, kernel, stride, pad
        )
        return cls("MDS", kernel, stride, pad, pad, False, False, image, output, True, dilation)

    @property
    def padded(self) -> bool:
        """Something may enter from outside."""
        return any(self.before) or any(self.after)

    @property
    def windows_never_empty(self) -> bool:
        """Every window, clipped to the image, holds a pixel; False too where an unknown size leaves it open."""
        if self.is_global:
            return True
        for size, out, k, s, p in zip(self.image, self.output, self.kernel, self.stride, self.before, strict=True):
            if k <= p:
                return False
            if (s > k or self.padded) if size == UNKNOWN else (out - 1) * s - p >= size:
                return False
        return True


def pooled(
    layer: Layer,
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    ceil: bool,
) -> Shape:
    """How many windows Caffe lays along each spatial axis (pooling_layer.cpp, Reshape).

    Raises:
        ModelError: a kernel or stride is 0, a pad is as large as its kernel, or no window fits.
    """
    at_least_1(layer, "kernel_size", kernel)
    at_least_1(layer, "stride", stride)
    for pad in (before, after):
        pads_below_kernel(layer, "pad", pad, kernel)
    clips = any(before) or any(after)
    output = []
    for size, k, s, b, a in zip(image, kernel, stride, before, after, strict=True):
        if size == UNKNOWN:
            output.append(UNKNOWN)
            continue
        room = size + b + a - k
        out = (-(-room // s) if ceil else room // s) + 1
        if clips and (out - 1) * s >= size + b:
            out -= 1
        if out < 1:
            raise ModelError(
                f"{layer}: kernel {sizes(kernel)} does not fit a plane of {sizes(image)}; "
                "--input-shape sets a larger input"
            )
        output.append(out)
    return tuple(output)


def _method(layer: Layer, param: Param) -> tuple[str, bool]:
    """The method, and whether AVE counts padding; the dialects have numbers of their own for what they added."""
    name = param.DESCRIPTOR.fields_by_name["pool"].enum_type.values_by_number[param.pool].name
    if name in ("AVE_EXC_PAD", "AVE_TF"):
        return "AVE", False
    if name != "MDS" and getattr(param, "dilation", 1) != 1:
        raise ModelError(f"{layer}: dilation is for MDS, not for {name}")
    return name, getattr(param, "avg_include_pad", True)


def _rounds_up(layer: Layer, param: Param) -> bool:
    """Three dialects have a word of their own for rounding down: round_mode, ceil_mode and torch_pooling.

    Raises:
        ModelError: two of them contradict each other.
    """
    if layer.type == "NdPooling":
        return False
    if param.DESCRIPTOR.name == "Pooling3DParameter":
        # C3D rounds up; Synopsys has a word for it, and says no.
        rounds_up: bool = param.ceil_mode if param.HasField("ceil_mode") or not _in_words_of_c3d(param) else True
        return rounds_up
    both = param.HasField("round_mode") and param.HasField("ceil_mode")
    if both and (param.round_mode == param.CEIL) != param.ceil_mode:
        raise ModelError(f"{layer}: round_mode and ceil_mode contradict each other; keep one")
    return param.round_mode == param.CEIL and param.ceil_mode and not param.torch_pooling


def _in_words_of_c3d(param: Param) -> bool:
    return any(param.HasField(name) for name in DEPTH.values())


def _values(layer: Layer, name: str, param: Param, spatial: int) -> tuple[int, ...]:
    """Pooling's fields are single numbers; Intel Caffe lists those of 3-D pooling apart, C3D and Synopsys the depth."""
    said = all_written(param)
    if layer.type == "NdPooling":
        return per_axis(layer, said, name, spatial, listed_in_shape(said, name))
    if layer.type != "Pooling3D" or spatial != 3:
        return per_axis(layer, said, name, spatial, listed(said, f"{name}_3d") or None)
    plane, single = per_axis(layer, said, name, 2), said.get(name)
    depth = said.get(DEPTH[name])
    if depth is None and name != "pad":
        depth = said.get(f"{name.removesuffix('_size')}_d")
    if depth is None:
        depth = single if single is not None and not _in_words_of_c3d(param) else DEFAULTS[name] or plane[0]
    return (depth, *plane)


def _padding(
    layer: Layer, param: Param, image: Shape, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Padding in front, padding behind, and whether they follow from SAME."""
    spatial = len(image)
    if param.DESCRIPTOR.name == "Pooling3DParameter":
        apart = [(getattr(param, f"pad_{axis}0"), getattr(param, f"pad_{axis}1")) for axis in "dhw"]
        if spatial == 3 and any(map(any, apart)):
            return tuple(first for first, _ in apart), tuple(last for _, last in apart), False
    elif (sides := synopsys_pads(layer, said := all_written(param), spatial)) is not None:
        return (*sides, False)
    elif param.pad_type > (1 if param.global_pooling else 0):
        return (*same_pads(layer, said, image, kernel, stride), True)
    both = _values(layer, "pad", param, spatial)
    return both, both, False


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
        method = param.PoolMethod.Name(param.pool)
        if method not in METHODS:  # Synopsys' schema lists more, as of any pooling
            raise ModelError(f"{layer}: pool {method} is none of {', '.join(METHODS)}")
        return cls(tuple(_level(layer, method, image, 2**i) for i in range(param.pyramid_height)))


def _level(layer: Layer, method: str, image: Shape, bins: int) -> Pooling:
    kernel = tuple(-(-size // bins) for size in image)
    pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
    output = pooled(layer, image, kernel, kernel, pad, pad, ceil=True)
    return Pooling(method, kernel, kernel, pad, pad, True, False, image, output)


def _is_unsure(layer: Layer, view: Pooling) -> bool:
    """Whether implementations of NdPooling may differ: in rounding, in axes of size 1, in what an average counts.

    Source: cudnn_ndpooling_layer.cpp of the forks that have it, whose text alone says how it rounds.
    """
    windows = (view.image, view.kernel, view.stride, view.before, view.after)
    rounded_up = view.output if view.is_global else pooled(layer, *windows, ceil=True)
    return 1 in view.output or view.output != rounded_up or (view.method == "AVE" and view.padded)


def pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """(N, C), then one size per window; a second top is the mask of a MAX pooling (pooling_layer.cpp, Reshape)."""
    view = Pooling.of(layer, bottoms[0])
    if layer.type == "NdPooling" and _is_unsure(layer, view):
        return None
    channels = bottoms[0][1]
    if view.method == "MDS" and channels != UNKNOWN:
        channels //= prod(view.kernel)
    top = (bottoms[0][0], channels, *view.output)
    return [top, top] if len(layer.tops) == 2 and view.method == "MAX" else [top]


def spp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C, 1, 1) for one level; for more, every level flattened, one behind the other (spp_layer.cpp, Reshape)."""
    levels = SPP.of(layer, bottoms[0]).levels
    batch, channels = bottoms[0][:2]
    if len(levels) == 1:
        return [(batch, channels, *levels[0].output)]
    windows = sum(prod(level.output) for level in levels)
    return [(batch, count((channels, windows)))]


PADS = "pad pad_h pad_w"
WINDOW = f"pool kernel_size kernel_h kernel_w stride stride_h stride_w {PADS} global_pooling ceil_mode"
C3D = " ".join(DEPTH.values())

ROWS: Mapping[str, LayerType] = {
    "NdPooling": LayerType(
        pooling,
        rank=3,
        reads={"pooling_param": "pool kernel_size stride pad kernel_shape stride_shape pad_shape global_pooling"},
        keeps="channels",
        dialects=OTHERS,
        note="video-caffe's; its top's shape is unknown where windows do not fit exactly, where an average is padded, "
        "and where an axis has size 1, which its Caffe may leave out",
    ),
    "Pooling": LayerType(
        pooling,
        rank=3,
        reads={
            "pooling_param": f"{WINDOW} round_mode torch_pooling avg_include_pad kernel_size_3d stride_3d pad_3d "
            "pad_type pad_l pad_r pad_t pad_b dilation"
        },
        keeps="channels",
        passes_variance=True,
        note="`ceil_mode` (DenseNet, SENet) and `round_mode` (BVLC) are the same; never ONNX's `ceil_mode`; "
        "Synopsys' pads and AVE_EXC_PAD, OpenVINO's MDS too",
    ),
    "Pooling3D": LayerType(
        pooling,
        rank=5,
        reads={
            "pooling_param": f"{WINDOW} round_mode {C3D}",
            "pooling3d_param": f"{WINDOW} {C3D} kernel_d stride_d pad_d0 pad_d1 pad_h0 pad_h1 pad_w0 pad_w1",
        },
        keeps="channels",
        dialects="C3D, Synopsys",
        note="a depth beside the plane",
    ),
    "SPP": LayerType(spp, reads={"spp_param": "pyramid_height pool"}),
}
