"""A net in the words of BVLC's Caffe, as far as that has words for it.

    BatchNorm of NVCaffe, Intel ...   BatchNorm (mean, variance, 1) and Scale (gamma, beta)
    BN, SyncBN, CuDNNBatchNorm        likewise; BN with bn_mode: INFERENCE is a Scale
    EltwiseAffine, ChannelwiseAffine  Scale
    NeedRemove                        Split
    Axpy                              Flatten, Scale of two bottoms, Eltwise
    CReLU                             Power, Concat, ReLU
    Eltwise of a plane and channels   Flatten, Scale or Bias of two bottoms; a BroadcastMul likewise
    Eltwise along some axes           Scale or Bias of two bottoms
    DepthwiseConvolution ...          Convolution (or Deconvolution) with a group for each channel
    Pooling with ceil_mode            Pooling with round_mode
    relu: true in a layer             a ReLU behind it
    engine: MKL2017, forward_type ... nothing: they say how to compute, or how to train

What is left stays as it is, and `foreign_layers` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from operator import is_
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from google.protobuf.message import Message

from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import Statistics, read_batchnorm
from bnfold.caffe.caffe_pb2 import ConvolutionParameter, LayerParameter, NetParameter, PoolingParameter
from bnfold.caffe.descriptors import Descriptor, is_repeated, put
from bnfold.caffe.dialects import FIELDS, VALUES, members
from bnfold.caffe.layers import (
    KERNELS,
    LAYERS,
    Convolution,
    Eltwise,
    factor_of_channels,
    of_channels,
    output_shapes,
)
from bnfold.caffe.layers.convolution import ALWAYS_DEPTHWISE, DEPTHWISE_UNLESS_SAID, THREE_D
from bnfold.caffe.layers.fields import IDLE, IDLE_OF_LAYER
from bnfold.caffe.layers.infer import fitting_shapes
from bnfold.errors import BnfoldError, counted, few
from bnfold.net import Array, Blobs, Layer, LazyArray, Names, Net, Shape, with_each

DEFAULT_EPS = 1e-5
STOCK_CONVOLUTION = members(FIELDS, "ConvolutionParameter", "bvlc") or frozenset()
BY_AXIS = {f"{field}_3d": f"a {field} for each axis" for field in ("kernel_size", "pad", "stride")}
_NAMED = 3


def in_stock_words(net: Net) -> Net:
    """The net with every layer that BVLC's Caffe has other words for in these; itself where none is.

    Blobs keep their names and values; a layer that becomes several writes new versions of its top in between.
    """
    net = in_readable_text(net)
    writing = _Rewording(net)
    layers = [reworded for layer in net.layers for reworded in writing.reworded(layer)]
    if len(layers) == len(net.layers) and all(map(is_, layers, net.layers)):
        return net
    written = net.with_layers(layers)
    written.public.update(writing.public)
    return written


def in_readable_text(net: Net, *, keep: bool = False) -> Net:
    """The net without the text of layers at which Caffe stops: with a field given twice, or with one passed over.

    Args:
        net: not changed; itself where every text can stay.
        keep: keep what was passed over. The layers that BVLC's Caffe has not got keep it always.
    """
    if net.origin is None or not net.origin.loose:
        return net

    def readable(layer: Layer) -> Layer:
        return layer if _is_readable(layer, keep) else replace(layer, source=layer.source._replace(text=None))

    return with_each(net, readable)


def _is_readable(layer: Layer, keep: bool) -> bool:
    source = layer.source
    if source is None or not source.text or source.incomplete:
        return True
    if any(field.name in BY_AXIS for field, _ in layer.param.pooling_param.ListFields()):
        return True  # in Intel's words, or in those of a Caffe that lists them under BVLC's names
    try:
        text_format.Parse(source.text, NetParameter(), allow_unknown_field=keep or layer.type not in STOCK_TYPES)
    except text_format.ParseError:
        return False
    return True


def foreign_layers(net: Net) -> list[str]:
    """Sentences on the layers of a net in stock words that BVLC's Caffe cannot read all the same."""
    by_type: dict[str, list[str]] = {}
    shapes = fitting_shapes(net) if any(layer.type in OF_SHAPES for layer in net.layers) else {}
    for layer in net.layers:
        if layer.type not in STOCK_TYPES:
            by_type.setdefault(layer.type, []).append(f"'{layer.name}'")
        elif fields := sorted(_foreign_fields(layer)) or _foreign_bottoms(layer, shapes):
            by_type.setdefault(f"{layer.type} with {', '.join(fields)}", []).append(f"'{layer.name}'")
    if not by_type:
        return []
    listed = [f"{layer_type} ({few(names, _NAMED)})" for layer_type, names in by_type.items()]
    return [f"BVLC's Caffe has no form for these, which are written as they are: {'; '.join(listed)}"]


class _Rewording:
    """One net on its way into stock words."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.names = Names((layer.name for layer in net.layers), "#")
        self.blobs = Names((top for layer in net.layers for top in layer.tops), "#")
        self.public: dict[str, str] = {}
        self._shapes: Mapping[str, Shape | None] | None = None

    def reworded(self, layer: Layer) -> list[Layer]:
        """A layer as one or more layers; itself where there is nothing to say otherwise."""
        if layer.opaque:
            return [layer]
        rewrite = REWRITES.get(layer.type)
        layers = (rewrite(self, layer) if rewrite else None) or [layer]
        return [_without_idle_fields(one) for one in layers]

    def channels(self, layer: Layer) -> int | None:
        """How many channels a layer reads."""
        shape = self.shape(layer)
        return shape[1] if shape is not None and len(shape) > 1 and shape[1] > 0 else None

    def shape(self, layer: Layer, index: int = 0) -> Shape | None:
        """The shape of a layer's first bottom, or of another."""
        if self._shapes is None:
            self._shapes = fitting_shapes(self.net)
        return self._shapes.get(layer.bottoms[index])

    def same_shapes(self, layer: Layer, other: Layer) -> bool:
        """Whether two layers at one place are known to make tops of the same shapes."""
        bottom = self.shape(layer)
        return bottom is not None and output_shapes(layer, [bottom]) == output_shapes(other, [bottom])

    def chain(self, layer: Layer, *links: Layer) -> list[Layer]:
        """Layers one behind the other in the place of one: the last one writes its top."""
        top = layer.tops[0]
        chained, bottom = [], layer.bottoms[0]
        for index, link in enumerate(links):
            last = index + 1 == len(links)
            made = top if last else self.blobs.new(f"{top}@{link.name}")
            if not last:
                self.public[made] = self.net.public_name(top)
            chained.append(replace(link, bottoms=[bottom, *link.bottoms[1:]], tops=[made]))
            bottom = made
        return chained

    def layer(self, name: str, layer_type: str, *blobs: Array) -> Layer:
        """A new layer without connections."""
        name = self.names.new(name)
        return Layer(name, layer_type, [""], [""], Blobs(blobs), LayerParameter(name=name, type=layer_type))

    def beside(self, layer: Layer, word: str, layer_type: str, *bottoms: str) -> Layer:
        """A new layer, called by another one and a word, that reads some blobs and writes one of its own name."""
        new = self.layer(f"{layer.name}_{word}", layer_type)
        new.bottoms, new.tops = [*bottoms], [self.blobs.new(new.name)]
        return new


def _batch_norm(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """`gamma * (x - mean) / sqrt(variance + eps) + beta`, in the order of the file's words: BatchNorm, then Scale."""
    if len(layer.bottoms) != 1 or len(layer.tops) != 1 or not layer.blobs:
        return None
    net = writing.net
    try:
        read = read_batchnorm(layer, net.batchnorm_layout, net.zero_factor)
    except BnfoldError:
        return None
    if read.batch_statistics:
        return None
    if layer.type == "BatchNorm" and read.layout == "bvlc" and _is_divided(layer, read, net) and not read.relu:
        return None
    links = [] if read.layout == "segnet" else [_normalisation(layer, read, net)]
    if read.gamma is not None or not links:
        links.append(_scale(writing, layer, read, first=not links))
    if read.relu:
        links.append(_relu(writing, layer))
    return writing.chain(layer, *links)


def _is_divided(layer: Layer, read: Statistics, net: Net) -> bool:
    """Whether mean and variance are stored as BVLC's are: to be divided by the third blob, with eps under the root."""
    meant_as_stored = read.factor == 0 and net.zero_factor == "one"
    at_root = layer.param.batch_norm_param.add_eps_before_sqrt
    return read.layout in ("bvlc", "intel") and at_root and not meant_as_stored


def _normalisation(layer: Layer, read: Statistics, net: Net) -> Layer:
    param = LayerParameter(name=layer.name, type="BatchNorm")
    param.batch_norm_param.SetInParent()
    if np.float32(read.eps) != np.float32(DEFAULT_EPS):
        param.batch_norm_param.eps = read.eps
    blobs: tuple[Array | LazyArray, ...] = (_vector(read.mean), _vector(read.variance), np.ones(1, np.float32))
    if _is_divided(layer, read, net):
        blobs = layer.blobs.stored[:3]
        if layer.param.batch_norm_param.HasField("use_global_stats"):
            param.batch_norm_param.use_global_stats = True
    return replace(layer, type="BatchNorm", param=param, blobs=Blobs(blobs))


def _scale(writing: _Rewording, layer: Layer, read: Statistics, *, first: bool) -> Layer:
    """Gamma and beta; in the place of the layer itself where it is the first."""
    gamma = np.ones_like(read.mean) if read.gamma is None else read.gamma
    blobs = [_vector(gamma)] if read.beta is None else [_vector(gamma), _vector(read.beta)]
    new = layer if first else writing.layer(f"{layer.name}_scale", "Scale")
    param = LayerParameter(name=new.name, type="Scale")
    param.scale_param.SetInParent()
    if read.beta is not None:
        param.scale_param.bias_term = True
    return replace(new, type="Scale", param=param, blobs=Blobs(blobs))


def _vector(values: npt.ArrayLike) -> Array:
    vector = np.asarray(values, np.float32).reshape(-1)
    vector.flags.writeable = False
    return vector


def _relu(writing: _Rewording, layer: Layer, slope: float = 0.0) -> Layer:
    relu = writing.layer(f"{layer.name}_relu", "ReLU")
    if slope:
        relu.param.relu_param.negative_slope = slope
    return relu


def _eltwise_affine(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """`x*slope[c] + bias[c]`."""
    del writing
    if not layer.blobs:
        return None
    param = _with_commons(layer, "Scale")
    param.scale_param.bias_term = len(layer.blobs) > 1
    if layer.blobs.shapes[0] == ():
        param.scale_param.num_axes = 0
    return [replace(layer, type="Scale", param=param)]


def _copy(writing: _Rewording, layer: Layer) -> list[Layer]:
    """A Split with one top."""
    del writing
    return [replace(layer, type="Split", param=_with_commons(layer, "Split"))]


def _convolution(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """A group for each channel where the type says so, and a ReLU of its own where one is fused.

    Fields that BVLC has not (a pad for each side, a depth beside the plane) are said by its own, where these can.
    """
    layer_type = "Deconvolution" if "Deconvolution" in layer.type else "Convolution"
    own = layer.param.convolution_param
    source: Message = LAYERS[layer.type].parameters(layer)
    relu = bool(own.relu) and len(layer.tops) == 1
    foreign = any(_is_foreign(source, field.name) for field, _ in source.ListFields())
    if layer_type == layer.type and not relu and not foreign:
        return None
    param = _with_commons(layer, layer_type)
    if foreign or layer.type in THREE_D:
        if not _say_by_view(writing, layer, param.convolution_param):
            return None
    else:
        for field, value in source.ListFields():
            if field.name in STOCK_CONVOLUTION:
                put(param.convolution_param, field.name, value)
    if layer.type in ALWAYS_DEPTHWISE | DEPTHWISE_UNLESS_SAID:
        group = _groups(writing, layer, layer_type)
        if group is None:
            return None
        param.convolution_param.group = group
    convolution = replace(layer, type=layer_type, param=param)
    return writing.chain(layer, convolution, _relu(writing, layer, own.negative_slope)) if relu else [convolution]


def _say_by_view(writing: _Rewording, layer: Layer, param: ConvolutionParameter) -> bool:
    """Say what a convolution computes in BVLC's fields; False where these cannot."""
    bottom = writing.shape(layer)
    if bottom is None or len(bottom) < 3:
        return False
    view = Convolution.of(layer, len(bottom) - 2, bottom)
    if view.before != view.after or view.axis != 1:
        return False
    param.num_output, param.bias_term = view.num_output, view.bias
    param.kernel_size.extend(view.kernel)
    for field, values, default in ((param.stride, view.stride, 1), (param.pad, view.before, 0)):
        field.extend(values if set(values) != {default} else ())
    param.dilation.extend(view.dilation if set(view.dilation) != {1} else ())
    if view.group != 1:
        param.group = view.group
    return True


def _is_foreign(source: Message, name: str) -> bool:
    """Whether a field says what BVLC's convolution has no word for."""
    return name not in ("relu", "negative_slope", *STOCK_CONVOLUTION) and not _is_idle(source, name)


def _groups(writing: _Rewording, layer: Layer, layer_type: str) -> int | None:
    """The channels of the bottom: a depthwise kernel sees one, unless a group is said for it."""
    convolution = layer.param.convolution_param
    if layer.type in DEPTHWISE_UNLESS_SAID and convolution.HasField("group"):
        return int(convolution.group)
    if layer_type == "Deconvolution" and layer.blobs:
        return layer.blobs.shapes[0][0]
    return writing.channels(layer)


def _axpy(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """`a*x + y` with a value of `a` for each channel: a Scale of two bottoms, from axis 0 on, and a sum."""
    if len(layer.bottoms) != 3 or len(layer.tops) != 1:
        return None
    factor, bottom, added = layer.bottoms
    flat = writing.beside(layer, "flat", "Flatten", factor)
    scale = writing.beside(layer, "scale", "Scale", bottom, flat.tops[0])
    scale.param.scale_param.axis = 0
    total = replace(layer, type="Eltwise", param=_with_commons(layer, "Eltwise"), bottoms=[scale.tops[0], added])
    return [flat, scale, total]


def _crelu(writing: _Rewording, layer: Layer) -> list[Layer]:
    """`relu(x)` and `relu(-x)` side by side."""
    crelu, bottom = layer.param.crelu_param, layer.bottoms[0]
    negated = writing.beside(layer, "negated", "Power", bottom)
    negated.param.power_param.scale = -1
    both = writing.beside(layer, "both", "Concat", bottom, *negated.tops)
    both.param.concat_param.axis = crelu.concat_axis
    relu = replace(layer, type="ReLU", param=_with_commons(layer, "ReLU"), bottoms=[*both.tops])
    if crelu.negative_slope:
        relu.param.relu_param.negative_slope = crelu.negative_slope
    return [negated, both, relu]


def _eltwise(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """A second bottom of another shape: a Scale or a Bias of two bottoms, from axis 0 on if it holds channels alone."""
    if len(layer.bottoms) != 2:
        return None
    first, second = writing.shape(layer), writing.shape(layer, 1)
    view = Eltwise.of(layer, 2)
    kind = {"PROD": "Scale", "SUM": "Bias"}.get(view.operation)
    if kind is None or view.coeff != (1.0, 1.0) or first is None or second is None:
        return None
    if of_channels(first, second):
        return _of_two_bottoms(writing, layer, kind, *layer.bottoms)
    return [_laid(layer, kind, view.axis, layer.bottoms)] if _differ(first, second) else None


def _broadcast_mul(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """The bottom with a number for each channel as the second of a Scale."""
    first, second = writing.shape(layer), writing.shape(layer, 1)
    if first is None or second is None:
        return None
    small = factor_of_channels(layer, [first, second])
    return _of_two_bottoms(writing, layer, "Scale", layer.bottoms[1 - small], layer.bottoms[small])


def _of_two_bottoms(writing: _Rewording, layer: Layer, kind: str, plane: str, channels: str) -> list[Layer]:
    flat = writing.beside(layer, "flat", "Flatten", channels)
    return [flat, _laid(layer, kind, 0, [plane, flat.tops[0]])]


def _laid(layer: Layer, kind: str, axis: int, bottoms: list[str]) -> Layer:
    param = _with_commons(layer, kind)
    (param.scale_param if kind == "Scale" else param.bias_param).axis = axis
    return replace(layer, type=kind, param=param, bottoms=bottoms)


def _pooling(writing: _Rewording, layer: Layer) -> list[Layer] | None:
    """`ceil_mode: false` is `round_mode: FLOOR`; where nothing is rounded neither is said, as older Caffes have it."""
    pool = layer.param.pooling_param
    if not any(pool.HasField(name) for name in ("ceil_mode", "torch_pooling")):
        return None
    param: LayerParameter = deepcopy(layer.param)
    for name in ("ceil_mode", "torch_pooling"):
        param.pooling_param.ClearField(name)
    reworded = replace(layer, param=param)
    if not (pool.ceil_mode and not pool.torch_pooling) and not writing.same_shapes(layer, reworded):
        param.pooling_param.round_mode = PoolingParameter.FLOOR
    return [reworded]


def _with_commons(layer: Layer, layer_type: str) -> LayerParameter:
    """The parameters of a layer that any type has: its name, and the rates and names of what it learns."""
    param = LayerParameter(name=layer.name, type=layer_type)
    param.param.extend(layer.param.param)
    return param


# Fields


def _without_idle_fields(layer: Layer) -> Layer:
    """The layer without the forks' fields that change nothing at inference; itself where it has none."""
    deep = layer.type in STOCK_TYPES
    if not any(_is_idle(message, name) for message, name in _foreign(layer.param, deep)):
        return layer
    param: LayerParameter = deepcopy(layer.param)
    for message, name in list(_foreign(param, deep)):
        if _is_idle(message, name):
            message.ClearField(name)
    for field, value in list(param.ListFields()):
        if isinstance(value, Message) and not value.ListFields() and getattr(layer.param, field.name).ListFields():
            param.ClearField(field.name)
    return replace(layer, param=param)


def _foreign_bottoms(layer: Layer, shapes: Mapping[str, Shape | None]) -> list[str]:
    count = len(layer.bottoms)
    if count > 1 and layer.type in OF_ONE_BOTTOM:
        return [counted(count, "bottom")]
    if layer.type not in OF_SHAPES or (first := shapes.get(layer.bottoms[0])) is None:
        return []
    if layer.type == "Eltwise":
        others = [shape for bottom in layer.bottoms if (shape := shapes.get(bottom)) is not None]
        return ["bottoms of different shapes"] if any(_differ(first, other) for other in others) else []
    allowed = range(PLANE_AXES, PLANE_AXES + 1) if layer.type == "Pooling" else range(PLANE_AXES + 1)
    return [] if len(first) in allowed else [counted(len(first), "axis")]


def _differ(first: Shape, second: Shape) -> bool:
    """Whether two shapes are known to be unlike."""
    return len(first) != len(second) or any(a != b and min(a, b) > 0 for a, b in zip(first, second, strict=True))


def _foreign_fields(layer: Layer) -> set[str]:
    fields = {BY_AXIS.get(name, name) for _, name in _foreign(layer.param, deep=True)}
    if layer.source is not None and layer.source.incomplete:
        fields.add("unknown fields")
    return fields


def _foreign(message: Message, deep: bool) -> Iterator[tuple[Message, str]]:
    """(message, name) of each field that BVLC's schema has not, or whose value it has not."""
    known, plain = _fields_of(message.DESCRIPTOR.name), _plain_fields(message.DESCRIPTOR)
    for field, value in message.ListFields():
        if field.name in plain:
            continue
        if known is not None and field.name not in known:
            yield message, field.name
        elif field.enum_type is not None:
            words = _values_of(field.enum_type.full_name)
            values = value if is_repeated(field) else [value]
            if words is not None and any(
                field.enum_type.values_by_number[number].name not in words for number in values
            ):
                yield message, field.name
        elif deep and isinstance(value, Message):
            yield from _foreign(value, deep)
        elif deep and field.message_type is not None and is_repeated(field):
            for inner in value:
                yield from _foreign(inner, deep)


@cache
def _fields_of(message: str) -> frozenset[str] | None:
    return members(FIELDS, message, "bvlc")


@cache
def _plain_fields(message: Descriptor) -> frozenset[str]:
    """The fields that BVLC's schema has, of numbers and text."""
    known = _fields_of(message.name)
    plain = {field.name for field in message.fields if field.enum_type is None and field.message_type is None}
    return frozenset(plain if known is None else known & plain)


@cache
def _values_of(enum: str) -> frozenset[str] | None:
    return members(VALUES, enum.removeprefix("bnfold.caffe."), "bvlc")


def _is_idle(message: Any, name: str) -> bool:
    """Whether a field changes nothing at inference, or says what is so anyway."""
    if message.DESCRIPTOR.name == "LayerParameter":
        return name in IDLE_OF_LAYER
    field = message.DESCRIPTOR.fields_by_name[name]
    is_default = field.message_type is None and not is_repeated(field) and getattr(message, name) == field.default_value
    return name in IDLE or message.DESCRIPTOR.name in ("FillerParameter", "ParamSpec") or is_default


Rewrite = Callable[[_Rewording, Layer], list[Layer] | None]

REWRITES: Mapping[str, Rewrite] = {
    **dict.fromkeys(BATCHNORMS, _batch_norm),
    **dict.fromkeys(KERNELS, _convolution),
    "Axpy": _axpy,
    "BroadcastMul": _broadcast_mul,
    "CReLU": _crelu,
    "ChannelwiseAffine": _eltwise_affine,
    "Eltwise": _eltwise,
    "EltwiseAffine": _eltwise_affine,
    "NeedRemove": _copy,
    "Pooling": _pooling,
}

_TRAINING = (
    "Accuracy ContrastiveLoss Data EuclideanLoss HDF5Data HDF5Output HingeLoss ImageData InfogainLoss "
    "MemoryData MultinomialLogisticLoss SigmoidCrossEntropyLoss SoftmaxWithLoss WindowData"
)
OF_ONE_BOTTOM = frozenset({"Im2col", "InnerProduct", "ReLU"})
"""What reads one bottom in BVLC's Caffe (ExactNumBottomBlobs) and more in a fork's."""
PLANE_AXES = 4
OF_SHAPES = frozenset({"Eltwise", "MVN", "Pooling"})
"""What takes bottoms of one shape alone, or (N, C, H, W) (Reshape of eltwise_layer.cpp and pooling_layer.cpp; num() and
its like of blob.hpp, which MVN asks for, know four axes), and of others in a fork."""
STOCK_TYPES = {layer_type for layer_type, row in LAYERS.items() if not row.dialects}.union(_TRAINING.split(" "))
"""The layer types of BVLC's Caffe (master; layer_factory.cpp and REGISTER_LAYER_CLASS), `Python` apart."""
