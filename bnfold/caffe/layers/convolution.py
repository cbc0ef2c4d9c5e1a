"""Convolutions of every kind, Deconvolution, and Im2col, which has their windows."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Self

from bnfold.caffe.layers.axes import (
    DEFAULTS,
    UNKNOWN,
    Said,
    all_written,
    at_least_1,
    canonical_axis,
    each_size,
    is_empty,
    listed,
    listed_in_shape,
    per_axis,
)
from bnfold.caffe.layers.row import OTHERS, LayerType, ShapeFunction, count, four_axes, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes

COUNTS = ("kernel_size", "stride", "dilation", "num_output", "group")
"""What must be at least 1."""
ALWAYS_DEPTHWISE = frozenset({"ConvolutionDepthwise"})
DEPTHWISE_UNLESS_SAID = frozenset({"DepthwiseConv", "DepthwiseConvolution", "DepthwiseDeconvolution"})


class Local(NamedTuple):
    """What a Local says, a convolution that has a kernel of its own for each pixel of its top.

    Attributes:
        num_output: channels of the top.
        kernel, stride, pad: one number for both axes of the plane.
        bias: a bias is learned, for each value of the top.
    """

    num_output: int
    kernel: int
    stride: int
    pad: int
    bias: bool

    @classmethod
    def of(cls, layer: Layer) -> Self | None:
        """Read it; None for another Caffe's, which says nothing of this."""
        param = layer.param.local_param
        if not layer.param.HasField("local_param"):
            return None
        view = cls(param.num_output, param.kernel_size, param.stride, param.pad, param.bias_term)
        for name, value in (("num_output", view.num_output), ("kernel_size", view.kernel), ("stride", view.stride)):
            at_least_1(layer, name, (value,))
        return view

    def window(self) -> dict[str, list[int]]:
        """Kernel, stride and padding as attributes of ONNX's Conv."""
        return {"kernel_shape": [self.kernel] * 2, "strides": [self.stride] * 2, "pads": [self.pad] * 4}


def local(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """(N, num_output, (H + 2p - k)/s + 1, likewise W) (local_layer.cpp, Reshape)."""
    batch, _, *plane = four_axes(layer, bottoms[0])
    view = Local.of(layer)
    if view is None:
        return None
    if any(size != UNKNOWN and size + 2 * view.pad < view.kernel for size in plane):
        raise ModelError(
            f"{layer}: kernel {view.kernel} does not fit a plane of {sizes(tuple(plane))} with pad {view.pad}"
        )
    tops = [UNKNOWN if size == UNKNOWN else (size + 2 * view.pad - view.kernel) // view.stride + 1 for size in plane]
    return [(batch, view.num_output, *tops)]


def local_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (num_output, 1, C*k*k, H'*W'), bias (1, 1, num_output, H'*W') (local_layer.cpp, LayerSetUp)."""
    view, tops = Local.of(layer), local(layer, bottoms)
    channels = bottoms[0][1]
    if view is None or tops is None or UNKNOWN in (channels, *tops[0][2:]):
        return None
    pixels = prod(tops[0][2:])
    bias: list[Shape] = [(1, 1, view.num_output, pixels)]
    return [(view.num_output, 1, channels * view.kernel**2, pixels), *bias[: view.bias]]


class Convolution(NamedTuple):
    """What a Convolution, Deconvolution or depthwise convolution says, one value per spatial axis in order h, w.

    Attributes:
        num_output: channels of the top.
        kernel, stride, dilation: length `spatial`.
        before, after: zeros in front of the image and behind it.
        group: channels are cut into this many groups that do not see each other.
        bias: a bias is learned.
        axis: the channel axis, as written (1; may count from the end).
        relu: slope of a ReLU that Intel Caffe fuses into the layer, None where it fuses none.
        same: TensorFlow's SAME, as Synopsys' Caffe computes it: the top has `ceil(H/s)` pixels, the padding follows.
    """

    num_output: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int
    bias: bool
    axis: int
    relu: float | None = None
    same: bool = False

    @classmethod
    def of(cls, layer: Layer, spatial: int = 2, bottom: Shape | None = None) -> Self:
        """Read a layer of a type in `KERNELS`, or an Im2col.

        Args:
            layer: the layer.
            spatial: how many axes follow the channel axis.
            bottom: the shape of what it reads; without it SAME is taken to pad wherever it may, and a
                ConvolutionDepthwise to have as many groups as outputs.

        Raises:
            ModelError: a value is missing, too small, or given twice.
        """
        message = ROWS[layer.type].message(layer)
        param = getattr(layer.param, message)
        # Layers repeat few windows, and each is asked for when a net is loaded, checked, folded and written.
        key = layer.type, message, param.SerializeToString(), spatial, bottom and tuple(bottom)
        view: Self | None = VIEWS.get(key)
        if view is None:
            if len(VIEWS) >= MAX_VIEWS:
                VIEWS.clear()
            view = VIEWS[key] = cls._of(layer, param, spatial, bottom)
        return view

    @classmethod
    def _of(cls, layer: Layer, param: Any, spatial: int, bottom: Shape | None) -> Self:
        said = all_written(param)
        kernel = _values(layer, said, "kernel_size", spatial)
        stride = _values(layer, said, "stride", spatial)
        before, after, same = _padding(layer, said, spatial, kernel, stride, bottom)
        view = cls(
            num_output=param.num_output,
            kernel=kernel,
            stride=stride,
            before=before,
            after=after,
            dilation=_dilation(layer, said, spatial),
            group=_group(layer, param, bottom),
            bias=param.bias_term,
            axis=param.axis,
            relu=param.negative_slope if said.get("relu") else None,
            same=same,
        )
        channels = (1, 1) if layer.type == "Im2col" else (view.num_output, view.group)
        if min(*channels, *kernel, *stride, *view.dilation) < 1:
            for word, values in zip(COUNTS, (kernel, stride, view.dilation, channels[:1], channels[1:]), strict=True):
                at_least_1(layer, word, values)
        return view

    @property
    def extent(self) -> tuple[int, ...]:
        """What a dilated kernel spans: `d*(k-1) + 1`."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)])

    @property
    def padded(self) -> bool:
        """Zeros enter from outside."""
        return any(self.before) or any(self.after)

    def convolved(self, image: Shape) -> Shape:
        """A convolution's top (conv_layer.cpp): `floor((H + pads - extent)/s) + 1`, or `ceil(H/s)`; 0 if none fits."""
        if self.same:
            return each_size(lambda size, s: -(-size // s), image, self.stride)
        windows = (self.stride, self.before, self.after, self.extent)
        return each_size(lambda size, s, b, a, e: (size + b + a - e) // s + 1, image, *windows)

    def deconvolved(self, image: Shape) -> Shape:
        """A deconvolution's top (deconv_layer.cpp): `s*(H-1) + extent - pads`; 0 where nothing is left."""
        windows = (self.stride, self.before, self.after, self.extent)
        return each_size(lambda size, s, b, a, e: s * (size - 1) + e - b - a, image, *windows)


VIEWS: dict[tuple[str, str, bytes, int, Shape | None], Any] = {}
"""What was read, by all that it follows from: type, field and bytes of the parameters, spatial axes, the bottom."""
MAX_VIEWS = 1 << 10
"""How much of that is kept; a hostile net has a quarter of a million windows."""

Param = Any
"""ConvolutionParameter, or what Tengine, C3D and Synopsys have for some types, with the same names."""


def _values(layer: Layer, said: Said, name: str, spatial: int) -> tuple[int, ...]:
    """Kernel, stride or pad, one value per spatial axis; C3D names the depth apart, video-caffe has a shape of them."""
    if layer.type == "NdConvolution":
        return per_axis(layer, said, name, spatial, listed_in_shape(said, name))
    depth = said.get(DEPTH[name]) if layer.type in THREE_D else None
    if layer.type not in THREE_D or (depth is None and len(listed(said, name)) >= spatial):
        return per_axis(layer, said, name, spatial)
    plane = per_axis(layer, said, name, 2)
    depth = DEFAULTS[name] if depth is None else depth
    if depth is None:
        raise ModelError(f"{layer}: {DEPTH[name]} is not given")
    return (depth, *plane)


def _dilation(layer: Layer, said: Said, spatial: int) -> tuple[int, ...]:
    """The distance between taps, which DeepLab calls hole (`kernel + (kernel - 1)*(hole - 1)`, im2col_layer.cpp)."""
    values = listed(said, "dilation")
    if not values:
        return per_axis(layer, said, "hole", spatial)  # 1 along each axis where neither is said
    if not said.keys().isdisjoint(HOLES):
        raise ModelError(f"{layer}: dilation and hole are both given; keep one")
    return per_axis(layer, said, "dilation", spatial, values)


def _padding(
    layer: Layer, said: Said, spatial: int, kernel: tuple[int, ...], stride: tuple[int, ...], bottom: Shape | None
) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Zeros in front, zeros behind, and whether they follow from SAME."""
    sides = synopsys_pads(layer, said, spatial)
    if sides is not None:
        return (*sides, False)
    if said.get("pad_type") and "Deconvolution" not in layer.type:
        image = (UNKNOWN,) * spatial if bottom is None else bottom[len(bottom) - spatial :]
        return (*same_pads(layer, said, image, kernel, stride), True)
    both = _values(layer, said, "pad", spatial)
    return both, both, False


def synopsys_pads(layer: Layer, said: Said, spatial: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Zeros in front and behind by `pad_t`, `pad_l`, `pad_b`, `pad_r`; None where all are 0.

    Raises:
        ModelError: the padding is given in another way too, or there is no plane.
    """
    if not any(map(said.get, SIDES)):
        return None
    top, left, bottom, right = (said.get(name, 0) for name in SIDES)
    if spatial != 2:
        raise ModelError(f"{layer}: pad_l, pad_r, pad_t, pad_b are for a plane, but the spatial axes number {spatial}")
    if listed(said, "pad") or "pad_h" in said or "pad_w" in said or said.get("pad_type"):
        raise ModelError(f"{layer}: pad_l, pad_r, pad_t, pad_b are given beside another padding; keep one")
    if min(top, left, bottom, right) < 0:
        raise ModelError(f"{layer}: pad_l {left}, pad_r {right}, pad_t {top}, pad_b {bottom} must be at least 0")
    return (top, left), (bottom, right)


def same_pads(
    layer: Layer, said: Said, image: Shape, kernel: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros of SAME: `max(k - s, 0)` together where s divides H, else `max(k - H mod s, 0)`; half of them in front.

    TensorFlow's, as Synopsys' Caffe has it: the dilation is not counted, so behind there are as many as the last of
    `ceil(H/s)` windows needs. Where H is unknown, padding is assumed wherever there can be some.

    Raises:
        ModelError: `pad_type` says something else, or stands beside another padding, or a stride is 0.
    """
    if said["pad_type"] != 1:
        raise ModelError(f"{layer}: pad_type {said['pad_type']} is neither 0 nor 1")
    if "pad" in said or "pad_h" in said or "pad_w" in said:
        raise ModelError(f"{layer}: pad_type is given beside pad; keep one")
    at_least_1(layer, "stride", stride)
    before, after, dilation = [], [], listed(said, "dilation")
    dilations = tuple(dilation) * len(kernel) if len(dilation) == 1 else tuple(dilation) or (1,) * len(kernel)
    for size, k, s, d in zip(image, kernel, stride, dilations, strict=True):
        if size == UNKNOWN:
            before.append(0)
            after.append(k - 1)
            continue
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        before.append(total // 2)
        last = (-(-size // s) - 1) * s - total // 2 + d * (k - 1) + 1
        after.append(max(last - size, 0))
    return tuple(before), tuple(after)


def _group(layer: Layer, param: Param, bottom: Shape | None) -> int:
    """As it is said; a depthwise layer has a group for each channel that it reads."""
    depthwise = layer.type in ALWAYS_DEPTHWISE or (layer.type in DEPTHWISE_UNLESS_SAID and not param.HasField("group"))
    if not depthwise:
        group: int = param.group
        return group
    channels = UNKNOWN if bottom is None or layer.type not in ALWAYS_DEPTHWISE else bottom[1]
    return param.num_output if channels == UNKNOWN else channels


def convolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Each bottom makes a top: (..., num_output, spatial...) (base_conv_layer.cpp, Reshape).

    An NdConvolution leaves out axes of size 1 (cudnn_ndconv_layer.cpp), or does not, so its top is unknown then.
    """
    tops = [_convolved(layer, bottom) for bottom in bottoms]
    unsure = layer.type == "NdConvolution" and any(1 in top[2:] for top in tops)
    return None if unsure else tops


def _convolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.convolved(bottom[axis + 1 :])
    if is_empty(top):
        raise ModelError(
            f"{layer}: kernel {sizes(view.kernel)} spans {sizes(view.extent)}, "
            f"which does not fit a plane of {sizes(bottom[axis + 1 :])} with pad {sizes(view.before)}; "
            "--input-shape sets a larger input"
        )
    return (*bottom[:axis], view.num_output, *top)


def convolution_view(layer: Layer, bottom: Shape) -> tuple[int, Convolution]:
    """The channel axis and the parameters, which must fit the bottom's channels.

    Raises:
        ModelError: they do not.
    """
    axis = canonical_axis(ROWS[layer.type].parameters(layer).axis, len(bottom), layer)
    spatial = len(bottom) - axis - 1
    if layer.type in THREE_D and spatial != 3:
        raise ModelError(f"{layer}: three axes have to follow the channel axis, and {spatial} follow axis {axis}")
    view = Convolution.of(layer, spatial, bottom)
    channels = bottom[axis]
    if (channels != UNKNOWN and channels % view.group) or view.num_output % view.group:
        raise ModelError(
            f"{layer}: group {view.group} does not divide {sizes((channels,))} input and "
            f"{view.num_output} output channels"
        )
    return axis, view


def deformable_convolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A convolution's; the second bottom has a step down and one along for each tap and pixel (Dai et al., 2017).

    Source: deformable_conv_layer.cpp of the forks that have it.
    """
    bottom, group = four_axes(layer, bottoms[0]), layer.param.deformable_convolution_param.deformable_group
    at_least_1(layer, "deformable_group", (group,))
    axis, view = convolution_view(layer, bottom)
    if axis != 1 or (bottom[1] != UNKNOWN and bottom[1] % group) or view.num_output % group:
        raise ModelError(f"{layer}: deformable_group {group} has to divide the channels, which lie along axis 1")
    top = _convolved(layer, bottom)
    merged(layer, (top[0], 2 * group * prod(view.kernel), *top[2:]), bottoms[1])
    return [top]


def deconvolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each bottom makes a top: (..., num_output, spatial...) (base_conv_layer.cpp, Reshape)."""
    return [_deconvolved(layer, bottom) for bottom in bottoms]


def _deconvolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.deconvolved(bottom[axis + 1 :])
    if is_empty(top):
        raise ModelError(f"{layer}: pad {sizes(view.before)} leaves nothing of a plane of {sizes(bottom[axis + 1 :])}")
    return (*bottom[:axis], view.num_output, *top)


def im2col(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A convolution's windows laid out along the channel axis (im2col_layer.cpp, Reshape)."""
    return [_columns(layer, bottom) for bottom in bottoms]


def _columns(layer: Layer, bottom: Shape) -> Shape:
    axis = canonical_axis(layer.param.convolution_param.axis, len(bottom), layer)
    view = Convolution.of(layer, len(bottom) - axis - 1, bottom)
    return (*bottom[:axis], count((bottom[axis], *view.kernel)), *view.convolved(bottom[axis + 1 :]))


def convolution_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (Cout, Cin/group, kernel...) or, transposed, (Cin, Cout/group, kernel...); bias (base_conv_layer.cpp)."""
    axis, view = convolution_view(layer, bottoms[0])
    first, second = view.num_output, bottoms[0][axis]
    if "Deconvolution" in layer.type:
        first, second = second, first
    return [(first, second // view.group, *view.kernel), (view.num_output,)][: 2 if view.bias else 1]


def channels_read(layer: Layer, weight: Shape) -> int:
    """How many channels a convolution reads that has such a weight. Raises ModelError where it makes no sense."""
    return weight[0] if layer.type in DECONVOLUTIONS else weight[1] * Convolution.of(layer, len(weight) - 2).group


def squeezed_blobs(weights: ShapeFunction) -> ShapeFunction:
    """Weight, bias, a mask for each, then two numbers of training where the file has them (Synopsys' Caffe).

    Dynamic Network Surgery has no such numbers (compress_conv_layer.cpp, compress_inner_product_layer.cpp).
    """

    def blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
        plain = weights(layer, bottoms)
        if plain is None or len(layer.blobs) not in (0, 2 * len(plain), 2 * len(plain) + 1):
            return None
        rest = [tuple(layer.blobs.shapes[-1])] if len(layer.blobs) % 2 else []
        return [*plain, *plain, *rest]

    return blobs


WINDOW = (
    "kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w dilation hole hole_h hole_w axis "
    "pad_type pad_l pad_r pad_t pad_b"
)
FIELDS = f"num_output bias_term group relu negative_slope {WINDOW}"
DEFORMABLE_FIELDS = (
    "num_output bias_term group deformable_group kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h "
    "pad_w dilation axis"
)
SQUEEZE_FIELDS = f"num_output bias_term group gamma power {WINDOW}"
SURGERY, SURGERY_FIELDS = (
    "Dynamic Network Surgery",
    "gamma power c_rate iter_stop weight_mask_filler bias_mask_filler pruning_type sparsity_ratio",
)
HOLES = ("hole", "hole_h", "hole_w")
SIDES = ("pad_t", "pad_l", "pad_b", "pad_r")
DEPTH = {"kernel_size": "kernel_depth", "stride": "temporal_stride", "pad": "temporal_pad"}
C3D_FIELDS = f"num_output bias_term {' '.join([*DEPTH, *DEPTH.values()])}"
THREE_D = frozenset({"Convolution3D", "Deconvolution3D"})
SYNOPSYS_PADS = "Synopsys' four pads and `pad_type: 1` (SAME, its dilation not counted), and DeepLab's `hole`, too"
NO_SAME = "Synopsys' four pads too; its `pad_type` means nothing"


def _row(shapes: ShapeFunction, dialects: str = "", note: str = SYNOPSYS_PADS, **reads: str) -> LayerType:
    return LayerType(
        shapes,
        bottoms=(1, None),
        blobs=convolution_blobs,
        fillers="weight_filler bias_filler",
        reads={
            "convolution_param": f"{FIELDS} {' '.join(DEPTH.values())}" if "convolution3d_param" in reads else FIELDS,
            **reads,
        },
        products="pixel read" if shapes is deconvolution else "pixel",
        passes_variance=True,
        dialects=dialects,
        note=note,
    )


def squeezed(row: LayerType, dialects: str, reads: Mapping[str, str]) -> LayerType:
    """The record of a type whose weights have masks, by that of the type without."""
    assert row.blobs is not None
    note = "read as the layer without masks, its weight times the mask"
    return row._replace(blobs=squeezed_blobs(row.blobs), reads=reads, dialects=dialects, note=note)


ROWS: Mapping[str, LayerType] = {
    "CConvolution": squeezed(
        _row(convolution), SURGERY, {"convolution_param": FIELDS, "cconvolution_param": SURGERY_FIELDS}
    ),
    "Convolution": _row(convolution),
    "Convolution3D": _row(
        convolution,
        "C3D",
        "a depth beside the plane: `kernel_depth`, `temporal_stride`, `temporal_pad`",
        convolution3d_param=f"{FIELDS} {' '.join(DEPTH.values())}",
    ),
    "ConvolutionDepthwise": _row(
        convolution,
        "soeaver's, Synopsys",
        "as many groups as channels come in, whatever is said; its outputs may be a multiple",
    ),
    "Deconvolution": _row(deconvolution, note=NO_SAME),
    "Deconvolution3D": _row(deconvolution, "C3D", "a depth beside the plane, as in Convolution3D")._replace(
        reads=dict.fromkeys(("convolution_param", "convolution3d_param"), C3D_FIELDS)
    ),
    "DepthwiseConv": _row(
        convolution, OTHERS, "HiSilicon's, as converters write it: as many groups as channels unless it says a group"
    ),
    "DepthwiseConvolution": _row(convolution, "MobileNet-YOLO, Tengine, soeaver's", DepthwiseConvolution_param=FIELDS),
    "DepthwiseDeconvolution": _row(deconvolution, OTHERS, NO_SAME),
    "DeformableConvolution": _row(
        deformable_convolution,
        "soeaver's",
        "each tap moved by the second bottom; zero outside of the image, and its last row and column go on for a pixel",
    )._replace(bottoms=(2, 2), reads={"deformable_convolution_param": DEFORMABLE_FIELDS}),
    "Im2col": LayerType(im2col, bottoms=(1, None), reads={"convolution_param": WINDOW}),
    "Local": LayerType(
        local,
        blobs=local_blobs,
        fillers="weight_filler bias_filler",
        reads={"local_param": "num_output bias_term kernel_size stride pad"},
        products="sample",
        dialects=OTHERS,
        note="a convolution with a kernel of its own for each pixel; where `local_param` says nothing, it is opaque",
    ),
    "NdConvolution": _row(
        convolution,
        OTHERS,
        "video-caffe's; where an axis of its top has size 1, its shape is unknown, since its Caffe may leave that out",
    )._replace(
        reads={
            "convolution_param": "num_output bias_term group kernel_size stride pad kernel_shape stride_shape pad_shape"
        }
    ),
    "SqueezeConvolution": squeezed(_row(convolution), "Synopsys", {"squeeze_convolution_param": SQUEEZE_FIELDS}),
    "SqueezeDeconvolution": squeezed(_row(deconvolution), "Synopsys", {"squeeze_convolution_param": SQUEEZE_FIELDS}),
}
KERNELS = frozenset(layer_type for layer_type, row in ROWS.items() if row.shapes in (convolution, deconvolution))
"""Types whose first blob is a kernel that slides over every bottom, with as many axes as it says and two more."""
DECONVOLUTIONS = frozenset(layer_type for layer_type, row in ROWS.items() if row.shapes is deconvolution)
