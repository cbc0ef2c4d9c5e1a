"""Every field of the schema, on every layer type: it changes what is computed, or means nothing, or stops the layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from cases import golden, goldens
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.descriptors import is_message, is_repeated
from bnfold.caffe.layers import LAYERS, unread_fields
from bnfold.caffe.layers.fields import IDLE, IDLE_OF_LAYER
from bnfold.errors import BnfoldError
from bnfold.net import Blobs, Layer, Net
from bnfold.onnx import to_onnx

NUMBERS = (2, 3, 1, 0, 5, 7, -1)
WORDS = ("NCHW", "NHWC", "REFLECT", "EDGE", "CRD", "align_corners", "no_such_word")


def other_values(field: FieldDescriptor, message: Message) -> Iterator[Any]:
    """Values of a field that differ from what it is, be it that it is said at all."""
    now = getattr(message, field.name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        values: tuple[Any, ...] = (True, False)
    elif field.type == FieldDescriptor.TYPE_ENUM:
        values = tuple(value.number for value in field.enum_type.values)
    elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        values = WORDS
    elif field.type == FieldDescriptor.TYPE_FLOAT:
        values = (0.3, 2.0, 1.0, 0.0, 5.0, -1.0)
    else:
        unsigned = field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
        values = tuple(number for number in NUMBERS if number >= 0 or not unsigned)
    if is_repeated(field):
        yield from ([value] for value in values if [value] != list(now))
        yield from ([*now, value] for value in values if now)
    else:
        yield from (value for value in values if value != now or not message.HasField(field.name))


def put(message: Message, field: FieldDescriptor, value: Any) -> None:
    if is_repeated(field):
        message.ClearField(field.name)
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def fields_of(kind: str) -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields of the messages that a type reads."""
    for name in LAYERS[kind].reads:
        for field in LayerParameter.DESCRIPTOR.fields_by_name[name].message_type.fields:
            yield name, field


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_field_that_is_read_by_nothing_stops_the_layer_by_its_name(kind: str) -> None:
    for name, field in fields_of(kind):
        if field.name in LAYERS[kind].reads[name].split() or field.name in IDLE:
            continue
        param = LayerParameter(name="l", type=kind)
        message = getattr(param, name)
        if is_message(field):
            getattr(message, field.name).add() if is_repeated(field) else getattr(message, field.name).SetInParent()
        else:
            default = None if is_repeated(field) else field.default_value
            put(message, field, next(value for value in other_values(field, message) if value != default))
        assert f"`{field.name}`" in unread_fields(Layer("l", kind, ["x"], ["y"], Blobs(), param)), (
            f"{name}.{field.name}"
        )


def test_a_reason_stands_beside_each_field_that_means_nothing() -> None:
    assert all(IDLE.values())
    assert all(IDLE_OF_LAYER.values())


@cache
def nets_with() -> dict[str, list[tuple[Net, int]]]:
    """Type -> goldens that have it, the smallest first, and where."""
    found: dict[str, list[tuple[Net, int]]] = {}
    nets = [golden(name).load() for name in goldens()]
    for net in sorted(nets, key=lambda net: len(net.layers)):
        for index, layer in enumerate(net.layers):
            if not layer.opaque:
                found.setdefault(layer.type, []).append((net, index))
    return found


ELSEWHERE = {
    ("BatchNorm", "bias_term"): "the number of blobs says it",
    ("BatchNorm", "use_weight_bias"): "the number of blobs says it",
    ("ConvolutionDepthwise", "group"): "the type is depthwise whatever it says",
    ("EltwiseAffine", "channel_shared"): "the number of values says it",
    ("InnerProduct", "normalize"): "it is worked into the weights when they are read",
    ("PriorBoxClustered", "flip"): "its boxes are listed one by one",
}
"""Fields that are known and change nothing in a net with its weights, and why."""


def with_help(param: LayerParameter, kind: str, name: str, field: str) -> None:
    """Set what a field needs beside it to mean something."""
    message = getattr(param, name)
    if field == "negative_slope" and kind not in ("ReLU", "ReLU6", "ReLUX"):
        message.relu = True
    elif kind == "MirrorPad" and field == "constant_values":
        message.mode = "CONSTANT"
    elif field in ("scale_height", "scale_width"):
        message.ClearField("output_height")
        message.ClearField("output_width")
    elif name == "DepthwiseConvolution_param":
        message.MergeFromString(param.convolution_param.SerializeToString())
        param.ClearField("convolution_param")
    elif name == "batch_norm_param" and kind == "CuDNNBatchNorm":
        param.ClearField("cudnn_batch_norm_param")


def outcome(net: Net) -> object:
    """The model, or why there is none."""
    try:
        return to_onnx(net).SerializeToString(deterministic=True)
    except BnfoldError as error:
        return str(error)


def with_param(net: Net, index: int, param: LayerParameter) -> object:
    changed = net.copy()
    changed.layers[index].param = param
    return outcome(changed)


def changes(net: Net, index: int, name: str, field: FieldDescriptor) -> bool:
    base = LayerParameter()
    base.CopyFrom(net.layers[index].param)
    with_help(base, net.layers[index].type, name, field.name)
    before = with_param(net, index, base)
    for value in other_values(field, getattr(base, name)):
        param = LayerParameter()
        param.CopyFrom(base)
        put(getattr(param, name), field, value)
        if with_param(net, index, param) != before:
            return True
    return False


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_field_that_is_read_changes_the_model_or_is_refused(kind: str) -> None:
    bases = nets_with().get(kind, [])[:24]
    if not bases:
        pytest.skip("no golden has this type")
    idle = []
    for name, field in fields_of(kind):
        if field.name not in LAYERS[kind].reads[name].split() or is_message(field):
            continue
        known = (kind, field.name) in ELSEWHERE
        if not known and not any(changes(net, index, name, field) for net, index in bases):
            idle.append(f"{name}.{field.name}")
    assert not idle, ", ".join(idle)
