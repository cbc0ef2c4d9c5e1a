"""Layers that multiply by learned weights without windows: InnerProduct, Embed; and Parameter, which is one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, canonical_axis, fields_at_least_1
from bnfold.caffe.layers.convolution import SURGERY, SURGERY_FIELDS, squeezed
from bnfold.caffe.layers.row import LayerType, count
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


class InnerProduct(NamedTuple):
    """What an InnerProduct says.

    Attributes:
        num_output: size of the top's last axis; with a weight that is a bottom as many as that has rows.
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
    def of(cls, layer: Layer, bottoms: Sequence[Shape] = ()) -> Self:
        """Read an InnerProduct.

        Args:
            layer: the layer.
            bottoms: the shapes of what it reads, where one may be its weight.

        Raises:
            ModelError: `num_output` is missing or 0.
        """
        param = ROWS[layer.type].parameters(layer)
        slope = param.negative_slope if getattr(param, "relu", False) else None
        num_output = bottoms[1][0] if len(bottoms) > 1 and bottoms[1] and not param.transpose else UNKNOWN
        if num_output < 1:
            fields_at_least_1(layer, param, "num_output")
            num_output = param.num_output
        return cls(num_output, param.bias_term, param.axis, param.transpose, slope)


def parameter_shape(layer: Layer) -> Shape:
    """The shape of the blob that a Parameter learned and gives.

    Raises:
        ModelError: a dimension is negative or beyond what a blob can hold.
    """
    shape = tuple(layer.param.parameter_param.shape.dim)
    if any(not 0 <= size <= INT_MAX for size in shape):
        raise ModelError(f"{layer}: shape {shape} is not the shape of a blob")
    return shape


def embed(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """One more axis of num_output (embed_layer.cpp, Reshape)."""
    param = layer.param.embed_param
    fields_at_least_1(layer, param, "num_output")
    fields_at_least_1(layer, param, "input_dim")
    return [(*bottoms[0], param.num_output)]


def inner_product(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes in front of `axis`, num_output (inner_product_layer.cpp, Reshape).

    A second bottom is the weight, whose rows are counted and never divided by their norms, and a third the bias.
    """
    view = InnerProduct.of(layer, bottoms)
    axis = canonical_axis(view.axis, len(bottoms[0]), layer)
    if len(bottoms) == MOST_OPERANDS and not view.bias:
        raise ModelError(f"{layer}: its third bottom is a bias, and bias_term is false")
    needed = (count(bottoms[0][axis:]) * view.num_output, view.num_output)
    for what, given, values in zip(
        ("second bottom, the weight,", "third bottom, the bias,"), bottoms[1:], needed, strict=False
    ):
        if min(count(given), values) > 0 and count(given) != values:
            raise ModelError(f"{layer}: its {what} has {count(given)} values, and {values} are needed")
    return [(*bottoms[0][:axis], view.num_output)]


def parameter(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """The shape that it says; what it gives is what it learned (parameter_layer.hpp)."""
    return [parameter_shape(layer)]


def embed_blobs(layer: Layer, _: Sequence[Shape]) -> list[Shape] | None:
    """Weight (input_dim, N), bias (N) (embed_layer.cpp, LayerSetUp)."""
    param = layer.param.embed_param
    return [(param.input_dim, param.num_output), (param.num_output,)][: 2 if param.bias_term else 1]


def inner_product_blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """Weight (N, K) or, transposed, (K, N), bias (N) (inner_product_layer.cpp); as stored where it is a bottom."""
    if len(bottoms) > 1:
        return None
    view = InnerProduct.of(layer)
    flat = count(bottoms[0][canonical_axis(view.axis, len(bottoms[0]), layer) :])
    weight = (flat, view.num_output) if view.transpose else (view.num_output, flat)
    return [weight, (view.num_output,)][: 2 if view.bias else 1]


PRODUCT = "num_output bias_term axis transpose"
MOST_OPERANDS = 3  # what is multiplied, and OpenVINO's weight and bias

ROWS: Mapping[str, LayerType] = {
    "CInnerProduct": squeezed(
        LayerType(inner_product, blobs=inner_product_blobs),
        SURGERY,
        {"inner_product_param": PRODUCT, "cinner_product_param": SURGERY_FIELDS},
    ),
    "Embed": LayerType(
        embed,
        blobs=embed_blobs,
        fillers="weight_filler bias_filler",
        reads={"embed_param": "num_output input_dim bias_term"},
    ),
    "InnerProduct": LayerType(
        inner_product,
        bottoms=(1, MOST_OPERANDS),
        blobs=inner_product_blobs,
        fillers="weight_filler bias_filler",
        reads={"inner_product_param": f"{PRODUCT} relu negative_slope normalize"},
        products="row",
        passes_variance=True,
        note="a second bottom is the weight, a third the bias; OpenVINO's `normalize` is done once",
    ),
    "SqueezeInnerProduct": squeezed(
        LayerType(inner_product, blobs=inner_product_blobs),
        "Synopsys",
        {"squeeze_inner_product_param": f"{PRODUCT} gamma power"},
    ),
    "Parameter": LayerType(
        parameter,
        bottoms=(0, 0),
        blobs=parameter,
        stand_in="positive",
        fillers="blob_filler",
        reads={"parameter_param": "shape"},
    ),
}
