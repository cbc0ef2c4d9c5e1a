"""Views of the layers that multiply by learned weights: convolutions, InnerProduct, Embed, LSTM, RNN, Parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from bnfold.caffe.params.axes import LARGEST, UNKNOWN, at_least, per_axis
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import ConvolutionParameter, DepthwiseConvolutionParameter, LayerParameter

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"})
DECONVOLUTIONS = frozenset({"Deconvolution", "DepthwiseDeconvolution"})
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


class InnerProduct(NamedTuple):
    """What an InnerProduct says.

    Attributes:
        num_output: size of the top's last axis.
        bias: a bias is learned.
        axis: the first axis that is flattened away, as written (1; may count from the end).
        transpose: the weight is stored (K, N) and not (N, K).
        relu: slope of a ReLU that Intel Caffe fuses into the layer, None where it fuses none.
    """

    num_output: int
    bias: bool
    axis: int
    transpose: bool
    relu: float | None = None

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an InnerProduct.

        Raises:
            ModelError: `num_output` is missing or 0.
        """
        param = layer.param.inner_product_param
        at_least(layer, "num_output", (param.num_output,), 1)
        slope = param.negative_slope if param.relu else None
        return cls(param.num_output, param.bias_term, param.axis, param.transpose, slope)


class Embed(NamedTuple):
    """What an Embed says: a table of `input_dim` rows of `num_output` values, and whether a bias is added."""

    num_output: int
    input_dim: int
    bias: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an Embed.

        Raises:
            ModelError: `num_output` or `input_dim` is missing or 0.
        """
        param = layer.param.embed_param
        at_least(layer, "num_output", (param.num_output,), 1)
        at_least(layer, "input_dim", (param.input_dim,), 1)
        return cls(param.num_output, param.input_dim, param.bias_term)


class Recurrent(NamedTuple):
    """What an LSTM or RNN says, with the meaning of its bottoms.

    Attributes:
        num_output: size D of the hidden state.
        expose_hidden: first states are bottoms and last states are tops.
        static: index of the input that is the same at every step, None where there is none.
        states: how many hidden blobs the type carries (LSTM: h and c; RNN: h).
        gates: rows of the input weight per hidden unit (LSTM: i, f, o, g; RNN: 1).
    """

    num_output: int
    expose_hidden: bool
    static: int | None
    states: int
    gates: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an LSTM or RNN; the number of its bottoms tells whether one is static.

        Raises:
            ModelError: `num_output` is missing or 0, or the number of bottoms fits no form of the layer.
        """
        param = layer.param.recurrent_param
        at_least(layer, "num_output", (param.num_output,), 1)
        states, gates = (2, 4) if layer.type == "LSTM" else (1, 1)
        extra = len(layer.bottoms) - 2 - (states if param.expose_hidden else 0)
        if extra not in (0, 1):
            raise ModelError(f"{layer}: {len(layer.bottoms)} bottoms fit neither with nor without a static input")
        return cls(param.num_output, param.expose_hidden, 2 if extra else None, states, gates)


class Parameter(NamedTuple):
    """What a Parameter layer says: the shape of the blob that it learned and gives."""

    shape: Shape

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Parameter.

        Raises:
            ModelError: a dimension is negative or beyond what a blob can hold.
        """
        shape = tuple(layer.param.parameter_param.shape.dim)
        if any(not 0 <= size <= LARGEST for size in shape):
            raise ModelError(f"{layer}: shape {shape} is none of a blob")
        return cls(shape)
