"""Whatever numbers a prototxt holds, shape inference answers or refuses in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from present import present

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers import LAYERS, blob_shapes, output_shapes
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Shape


def fuzzed(param: LayerParameter, draw: st.DrawFn) -> None:
    """Give some fields of every parameter message that the type could read arbitrary numbers."""
    numbers = st.one_of(st.integers(-3, 9), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1))
    for name in draw(st.sampled_from(FIELDS[param.type])):
        message = getattr(param, name)
        message.SetInParent()
        fields = list(message.DESCRIPTOR.fields)
        for field in draw(st.lists(st.sampled_from(fields), max_size=6)) if fields else []:
            fill(message, field, draw(st.lists(numbers, min_size=1, max_size=4)))


STRANGE = {7: math.nan, 8: math.inf, 9: 3e38}
"""Numbers that are drawn often, and what a field of floats gets for them."""


def fill(message: Message, field: FieldDescriptor, values: list[int]) -> None:
    """Set a numeric field, cut to what its type holds."""
    bits = {
        field.CPPTYPE_INT32: (-(2**31), 2**31),
        field.CPPTYPE_UINT32: (0, 2**32),
        field.CPPTYPE_INT64: (-(2**63), 2**63),
    }
    wrapped: list[float]
    if field.cpp_type in bits:
        low, high = bits[field.cpp_type]
        wrapped = [low + (value - low) % (high - low) for value in values]
    elif field.cpp_type == field.CPPTYPE_BOOL:
        wrapped = [bool(value % 2) for value in values]
    elif field.cpp_type == field.CPPTYPE_FLOAT:
        wrapped = [STRANGE.get(value, value / 2) for value in values]
    elif field.cpp_type == field.CPPTYPE_ENUM:
        members = [member.number for member in present(field.enum_type).values]
        wrapped = [members[value % len(members)] for value in values]
    elif field.cpp_type == field.CPPTYPE_MESSAGE and present(field.message_type).name == "BlobShape":
        target = getattr(message, field.name)
        (target.add() if hasattr(target, "add") else target).dim.extend(values)
        return
    else:
        return
    if hasattr(getattr(message, field.name), "extend"):
        getattr(message, field.name).extend(wrapped)
    else:
        setattr(message, field.name, wrapped[0])


def read_fields() -> dict[str, list[list[str]]]:
    """For each type, the parameter messages that its view may read."""
    names = [field.name for field in LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")]
    own = {
        "BN": ["bn_param"],
        "Im2col": ["convolution_param"],
        "LSTM": ["recurrent_param"],
        "Normalize": ["norm_param", "normalize_param"],
        "PriorBoxClustered": ["prior_box_param"],
        "RNN": ["recurrent_param"],
        "ReLU6": ["relu6_param", "relu_param"],
    }
    found = {}
    for layer_type in LAYERS:
        squeezed = layer_type.lower()
        matching = [name for name in names if name.replace("_", "").removesuffix("param").lower() == squeezed]
        if "onvolution" in layer_type:
            matching = ["convolution_param", "DepthwiseConvolution_param"]
        found[layer_type] = [own.get(layer_type) or matching or ["relu_param"]]
    return found


FIELDS = read_fields()


@st.composite
def hostile_layers(draw: st.DrawFn) -> tuple[Layer, list[Shape]]:
    param = LayerParameter(type=draw(st.sampled_from(sorted(LAYERS))))
    fuzzed(param, draw)
    dims = st.one_of(st.integers(-1, 9), st.sampled_from([64, 2**31 - 1, -5]))
    shapes = draw(st.lists(st.lists(dims, max_size=5).map(tuple), max_size=4))
    bottoms, tops = [f"b{i}" for i in range(len(shapes))], [f"t{i}" for i in range(draw(st.integers(0, 3)))]
    return Layer("x", param.type, bottoms, tops, Blobs(), param), shapes


@settings(max_examples=600, deadline=None)
@given(hostile_layers())
def test_arbitrary_parameters_raise_nothing_but_a_model_error(case: tuple[Layer, list[Shape]]) -> None:
    layer, bottoms = case
    tops = answer(output_shapes, layer, bottoms)
    assert all(isinstance(size, int) and size != 0 for top in tops or () for size in top)
    answer(blob_shapes, layer, bottoms)


def answer(
    question: Callable[[Layer, Sequence[Shape]], list[Shape] | None], layer: Layer, bottoms: list[Shape]
) -> list[Shape] | None:
    """The shapes, or None where the question is refused in a sentence that names the layer."""
    try:
        return question(layer, bottoms)
    except ModelError as error:
        sentence = str(error)
    assert sentence.startswith("layer 'x' (")
    return None
