"""Convolutions of every kind, Deconvolution, and Im2col, which has their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least, canonical_axis, per_axis, sizes
from bnfold.caffe.layers.row import OTHERS, LayerType
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import ConvolutionParameter, DepthwiseConvolutionParameter, LayerParameter


ALWAYS_DEPTHWISE = frozenset({"ConvolutionDepthwise"})


DEPTHWISE_UNLESS_SAID = frozenset({"DepthwiseConvolution", "DepthwiseDeconvolution"})


class Convolution(NamedTuple):
    """What a Convolution, Deconvolution or depthwise convolution says, one value per spatial axis in order h, w.

    Attributes:
        num_output: channels of the top.
        kernel, stride, pad, dilation: length `spatial`.
        group: channels are cut into this many groups that do not see each other.
        bias: a bias is learned.
        axis: the channel axis, as written (1; may count from the end).
        relu: slope of a ReLU that Intel Caffe fuses into the layer, None where it fuses none.
    """

    num_output: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int
    bias: bool
    axis: int
    relu: float | None = None

    @classmethod
    def of(cls, layer: Layer, spatial: int = 2) -> Self:
        """Read a layer of a type in `CONVOLUTIONS`, `DECONVOLUTIONS` or Im2col.

        Args:
            layer: the layer.
            spatial: how many axes follow the channel axis.

        Raises:
            ModelError: a value is missing, too small, or given twice.
        """
        param = _convolution_param(layer)
        group = param.group
        if layer.type in ALWAYS_DEPTHWISE or (layer.type in DEPTHWISE_UNLESS_SAID and not param.HasField("group")):
            group = param.num_output
        fuses_relu = layer.param.convolution_param.relu
        view = cls(
            num_output=param.num_output,
            kernel=per_axis(layer, "kernel_size", param.kernel_size, _pair(param, "kernel"), spatial, None),
            stride=per_axis(layer, "stride", param.stride, _pair(param, "stride"), spatial, 1),
            pad=per_axis(layer, "pad", param.pad, _pair(param, "pad"), spatial, 0),
            dilation=per_axis(layer, "dilation", param.dilation, (None, None), spatial, 1),
            group=group,
            bias=param.bias_term,
            axis=param.axis,
            relu=layer.param.convolution_param.negative_slope if fuses_relu else None,
        )
        at_least(layer, "kernel_size", view.kernel, 1)
        at_least(layer, "stride", view.stride, 1)
        at_least(layer, "dilation", view.dilation, 1)
        if layer.type != "Im2col":
            at_least(layer, "num_output", (view.num_output,), 1)
            at_least(layer, "group", (view.group,), 1)
        return view

    @property
    def extent(self) -> tuple[int, ...]:
        """What a dilated kernel spans: `d*(k-1) + 1`."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)])

    def convolved(self, image: Shape) -> Shape:
        """Spatial sizes of a convolution's top: `floor((H + 2p - (d*(k-1)+1))/s) + 1`; 0 where nothing fits."""
        return tuple(
            [
                UNKNOWN if size == UNKNOWN else max(0, (size + 2 * p - d * (k - 1) - 1) // s + 1)
                for size, k, s, p, d in zip(image, self.kernel, self.stride, self.pad, self.dilation, strict=True)
            ]
        )

    def deconvolved(self, image: Shape) -> Shape:
        """Spatial sizes of a deconvolution's top: `s*(H-1) + d*(k-1)+1 - 2p`; 0 where nothing is left."""
        return tuple(
            [
                UNKNOWN if size == UNKNOWN else max(0, s * (size - 1) + d * (k - 1) + 1 - 2 * p)
                for size, k, s, p, d in zip(image, self.kernel, self.stride, self.pad, self.dilation, strict=True)
            ]
        )


def _convolution_param(layer: Layer) -> ConvolutionParameter | DepthwiseConvolutionParameter:
    """Tengine writes a depthwise convolution's parameters under a name of their own, with the same fields."""
    param: LayerParameter = layer.param
    if param.HasField("DepthwiseConvolution_param") and not param.HasField("convolution_param"):
        return param.DepthwiseConvolution_param
    return param.convolution_param


def _pair(param: ConvolutionParameter | DepthwiseConvolutionParameter, word: str) -> tuple[int | None, int | None]:
    if word == "kernel":
        height = param.kernel_h if param.HasField("kernel_h") else None
        return height, param.kernel_w if param.HasField("kernel_w") else None
    if word == "stride":
        height = param.stride_h if param.HasField("stride_h") else None
        return height, param.stride_w if param.HasField("stride_w") else None
    height = param.pad_h if param.HasField("pad_h") else None
    return height, param.pad_w if param.HasField("pad_w") else None


def convolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each bottom makes a top: (..., num_output, spatial...)."""
    return [_convolved(layer, bottom) for bottom in bottoms]


def _convolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.convolved(bottom[axis + 1 :])
    if any(size < 1 and size != UNKNOWN for size in top):
        raise ModelError(
            f"{layer}: kernel {sizes(view.kernel)} spans {sizes(view.extent)}, "
            f"which does not fit a plane of {sizes(bottom[axis + 1 :])} with pad {sizes(view.pad)}"
        )
    return (*bottom[:axis], view.num_output, *top)


def convolution_view(layer: Layer, bottom: Shape) -> tuple[int, Convolution]:
    """The channel axis and the parameters, which must fit the bottom's channels.

    Raises:
        ModelError: they do not.
    """
    axis = canonical_axis(layer.param.convolution_param.axis, len(bottom), layer)
    view = Convolution.of(layer, len(bottom) - axis - 1)
    channels = bottom[axis]
    if (channels != UNKNOWN and channels % view.group) or view.num_output % view.group:
        raise ModelError(
            f"{layer}: group {view.group} does not divide {sizes((channels,))} input and "
            f"{view.num_output} output channels"
        )
    return axis, view


def deconvolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Each bottom makes a top: (..., num_output, spatial...)."""
    return [_deconvolved(layer, bottom) for bottom in bottoms]


def _deconvolved(layer: Layer, bottom: Shape) -> Shape:
    axis, view = convolution_view(layer, bottom)
    top = view.deconvolved(bottom[axis + 1 :])
    if any(size < 1 and size != UNKNOWN for size in top):
        raise ModelError(f"{layer}: pad {sizes(view.pad)} leaves nothing of a plane of {sizes(bottom[axis + 1 :])}")
    return (*bottom[:axis], view.num_output, *top)


def im2col(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A convolution's windows laid out along the channel axis."""
    return [_columns(layer, bottom) for bottom in bottoms]


def _columns(layer: Layer, bottom: Shape) -> Shape:
    axis = canonical_axis(layer.param.convolution_param.axis, len(bottom), layer)
    view = Convolution.of(layer, len(bottom) - axis - 1)
    channels = bottom[axis] if bottom[axis] == UNKNOWN else bottom[axis] * prod(view.kernel)
    return (*bottom[:axis], channels, *view.convolved(bottom[axis + 1 :]))


def convolution_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (Cout, Cin/group, kernel...), bias (Cout)."""
    axis, view = convolution_view(layer, bottoms[0])
    weight = (view.num_output, bottoms[0][axis] // view.group, *view.kernel)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


def deconvolution_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (Cin, Cout/group, kernel...), bias (Cout)."""
    axis, view = convolution_view(layer, bottoms[0])
    weight = (bottoms[0][axis], view.num_output // view.group, *view.kernel)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


WINDOW = "kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w dilation axis"
FIELDS = f"num_output bias_term group relu negative_slope {WINDOW}"


def _convolution(dialects: str = "", note: str = "", **reads: str) -> LayerType:
    return LayerType(
        shapes=convolution,
        most=None,
        blobs=convolution_blobs,
        kernel=True,
        reads={"convolution_param": FIELDS, **reads},
        dialects=dialects,
        note=note,
    )


def _deconvolution(dialects: str = "") -> LayerType:
    return LayerType(
        shapes=deconvolution,
        most=None,
        blobs=deconvolution_blobs,
        kernel=True,
        reads={"convolution_param": FIELDS},
        dialects=dialects,
    )


ROWS: Mapping[str, LayerType] = {
    "Convolution": _convolution(),
    "ConvolutionDepthwise": _convolution(OTHERS, "as many groups as channels, whatever is said"),
    "Deconvolution": _deconvolution(),
    "DepthwiseConvolution": _convolution("MobileNet-YOLO, Tengine", DepthwiseConvolution_param=FIELDS),
    "DepthwiseDeconvolution": _deconvolution(OTHERS),
    "Im2col": LayerType(shapes=im2col, most=None, reads={"convolution_param": WINDOW}),
}
CONVOLUTIONS = frozenset(kind for kind, row in ROWS.items() if row.shapes is convolution)
DECONVOLUTIONS = frozenset(kind for kind, row in ROWS.items() if row.shapes is deconvolution)
