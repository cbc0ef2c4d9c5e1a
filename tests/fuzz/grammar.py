"""Turning arbitrary bytes into a small net with weights, so that a fuzzer gets past the parsers and into the folding.

Every input is a net: each choice (a type, a bottom, a field, a number) takes a byte or two, and 0 when they run out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import wire_encoder as encode
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers import LAYERS, blob_shapes, infer_shapes, output_shapes
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.errors import BnfoldError
from bnfold.net import Blobs, Layer, Shape

MAX_LAYERS = 12
MAX_VALUES = 4096

# Linear layers and affines are what folding is about, so they come up more often.
_FOLDING = ["BatchNorm", "Concat", "Convolution", "Deconvolution", "Eltwise", "InnerProduct", "Pooling", "ReLU"]
_ODD = ["Accuracy", "Data", "SoftmaxWithLoss", "Unknown"]
TYPES = sorted(LAYERS) + [*_FOLDING, "Scale"] * 5 + _ODD
NUMBERS = (0, 1, 2, 3, 1, 2, 4, -1, -2, 5, 8, 64, 255, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
VALUES = (1.0, -1.0, 0.5, 2.0, -0.25, 0.0, 1e-3, 7e-46, 1e38, -3e38, math.inf, math.nan, 1e-20, 3.0, -0.0, 1e20)


class Chooser:
    """Choices read off a row of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, limit: int) -> int:
        return (self.byte() << 8 | self.byte() if limit > 256 else self.byte()) % limit

    def of(self, choices: Sequence) -> object:  # type: ignore[type-arg]
        return choices[self.below(len(choices))]

    def rarely(self) -> bool:
        return self.byte() > 247

    def sometimes(self) -> bool:
        return self.byte() > 170


def model(data: bytes) -> tuple[str, bytes]:
    """The prototxt and the caffemodel that `data` chooses."""
    choose = Chooser(data)
    layers = [_input(choose)]
    shapes: dict[str, Shape | None] = {"data": tuple(layers[0].input_param.shape[0].dim)}
    for index in range(1 + choose.below(MAX_LAYERS)):
        layer = _layer(choose, index, list(shapes))
        if not _fits(layer, shapes) and not choose.rarely():
            # A net with one wrong layer is refused whole; most shall get further.
            layer = LayerParameter(name=layer.name, type="ReLU", bottom=layer.bottom[:1] or ["data"], top=[layer.name])
            _fits(layer, shapes)
        layers.append(layer)
    text = "\n".join(f"layer {{\n{text_format.MessageToString(layer)}}}" for layer in layers)
    return text, b"".join(_record(choose, layer, _promised(text)) for layer in layers)


def _fits(param: LayerParameter, shapes: dict[str, Shape | None]) -> bool:
    """Whether a layer can stand there; if so, the shapes of its tops are noted."""
    bottoms = [shapes.get(bottom) for bottom in param.bottom]
    second_writer = any(top in shapes for place, top in enumerate(param.top) if top not in param.bottom[place:][:1])
    if second_writer or len(set(param.top)) < len(param.top) or not shapes.keys() >= set(param.bottom):
        return False
    tops: Sequence[Shape | None] | None = None
    if None not in bottoms:
        layer = Layer(param.name, param.type, list(param.bottom), list(param.top), Blobs(), param)
        try:
            tops = output_shapes(layer, [shape for shape in bottoms if shape is not None])
        except BnfoldError:
            return False
    shapes.update(zip(param.top, tops or [None] * len(param.top), strict=True))
    return True


def _input(choose: Chooser) -> LayerParameter:
    layer = LayerParameter(name="data", type="Input", top=["data"])
    dims = [2, 4, 6, 6] if not choose.sometimes() else [1 + choose.below(8) for _ in range(choose.below(6))]
    layer.input_param.shape.add().dim.extend(dims)
    return layer


def _layer(choose: Chooser, index: int, made: Sequence[str]) -> LayerParameter:
    layer_type = str(choose.of(TYPES))
    layer = LayerParameter(name=f"l{index}", type=layer_type)
    rule = LAYERS.get(layer_type)
    least, most = rule.bottoms if rule else (1, None)
    more = choose.below(3) if most is None or most > least else 0
    for _ in range(least + more):
        # Mostly the newest blob, so that layers form chains.
        known = made if not choose.rarely() else ["nobody"]
        layer.bottom.append(str(choose.of(known)) if choose.sometimes() else made[-1])
    several = layer_type in ("Slice", "Split", "Pooling", "LSTM") or choose.rarely()
    for top in range(1 + (choose.below(3) if several else 0)):
        in_place = top < len(layer.bottom) and choose.sometimes()
        layer.top.append(layer.bottom[top] if in_place else f"{layer.name}_{top}")
    if layer_type in ("Convolution", "Deconvolution", "InnerProduct"):
        _linear(choose, layer)
    for name in FIELDS.get(layer_type, []):
        message = getattr(layer, name)
        fields = list(message.DESCRIPTOR.fields)
        for _ in range(choose.below(4) if fields else 0):
            _fill(choose, message, fields[choose.below(len(fields))])
    if choose.rarely():
        layer.param.add().name = str(choose.of(["shared", "", "other"]))
    if choose.rarely():
        layer.include.add().phase = choose.below(2)  # type: ignore[assignment]
    return layer


def _linear(choose: Chooser, layer: LayerParameter) -> None:
    count = (4, 2, 8, 1)[choose.below(4)]
    bias = bool(choose.below(2))
    if layer.type == "InnerProduct":
        layer.inner_product_param.num_output, layer.inner_product_param.bias_term = count, bias
        return
    param = layer.convolution_param
    param.num_output, param.bias_term = count, bias
    param.kernel_size.append((1, 3, 2)[choose.below(3)])
    param.pad.append(choose.below(2))
    param.group = (1, 2, 4)[choose.below(3)] if choose.sometimes() else 1


def _fill(choose: Chooser, message: Message, field: FieldDescriptor) -> None:
    limits = {
        field.CPPTYPE_INT32: (-(2**31), 2**31),
        field.CPPTYPE_UINT32: (0, 2**32),
        field.CPPTYPE_INT64: (-(2**63), 2**63),
        field.CPPTYPE_UINT64: (0, 2**64),
    }
    value: object
    if field.cpp_type in limits:
        low, high = limits[field.cpp_type]
        value = low + (int(choose.of(NUMBERS)) - low) % (high - low)  # type: ignore[call-overload]
    elif field.cpp_type == field.CPPTYPE_BOOL:
        value = bool(choose.below(2))
    elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = choose.of(VALUES)
    elif field.cpp_type == field.CPPTYPE_ENUM and field.enum_type is not None:
        value = choose.of([member.number for member in field.enum_type.values])
    elif field.cpp_type == field.CPPTYPE_MESSAGE and field.message_type is not None:
        if field.message_type.name == "BlobShape":
            slot = getattr(message, field.name)
            dims = [int(choose.of(NUMBERS)) for _ in range(choose.below(6))]  # type: ignore[call-overload]
            (slot.add() if hasattr(slot, "add") else slot).dim.extend(dims)
        return
    else:
        return
    if hasattr(getattr(message, field.name), "append"):
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _promised(text: str) -> dict[str, list[Shape]]:
    """The shapes of what each layer learns, as far as the net makes sense."""
    try:
        net = build(parse_prototxt(text), guess_shapes=True)
        shapes = infer_shapes(net)
        found = {}
        for layer in net.layers:
            bottoms = [shape for bottom in layer.bottoms if (shape := shapes[bottom]) is not None]
            if len(bottoms) == len(layer.bottoms):
                found[layer.name] = blob_shapes(layer, bottoms) or []
    except BnfoldError:
        return {}
    return found


def _record(choose: Chooser, layer: LayerParameter, promised: dict[str, list[Shape]]) -> bytes:
    if choose.rarely():
        return b""
    shapes = list(promised.get(layer.name, []))
    if choose.rarely():
        shapes.append((choose.below(5), 4))
    blobs = []
    for index, shape in enumerate(shapes):
        count = math.prod(shape)
        if 0 <= count <= MAX_VALUES:
            values = _values(choose, count, positive=index == 1 and layer.type == "BatchNorm")
            blobs.append(encode.blob(values, *shape))
    return encode.layer(layer.name, layer.type, *blobs)


def _values(choose: Chooser, count: int, positive: bool) -> list[float]:
    """Different values in neighbouring places, with at most two odd ones among them."""
    seed = choose.byte()
    values = [((seed + 37 * index) % 97 - 48) / 32 for index in range(count)]
    if positive:
        values = [abs(value) for value in values]
    for _ in range(choose.below(3) if count and choose.sometimes() else 0):
        values[choose.below(count)] = float(choose.of(VALUES))  # type: ignore[arg-type]
    return values


def _fields_of_types() -> dict[str, list[str]]:
    """For each type the parameter messages that belong to it."""
    names = [field.name for field in LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")]
    own = {
        "Im2col": ["convolution_param"],
        "LSTM": ["recurrent_param"],
        "Normalize": ["norm_param", "normalize_param"],
        "PriorBoxClustered": ["prior_box_param"],
        "RNN": ["recurrent_param"],
    }
    found = {}
    for layer_type in TYPES:
        matching = [name for name in names if name.replace("_", "").removesuffix("param").lower() == layer_type.lower()]
        if "onvolution" in layer_type:
            matching = ["convolution_param"]
        found[layer_type] = own.get(layer_type) or matching
    return found


FIELDS = _fields_of_types()
