"""What a layer of an ONNX net is: a node, which of its inputs are data and which are constants.

A node's inputs have places (`Conv(x, weight, bias)`), and an empty name where nothing is given. Of these, data are the
layer's `bottoms`, constants of a float type its `blobs`, and the rest (axes, shapes ..) stays here. What bodies of If,
Loop and Scan capture is a bottom, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    defs,
    helper,
    numpy_helper,
)

from bnfold.net import Array, Blobs, DType, Layer, Shape

T = TypeVar("T")

STANDARD = ("", "ai.onnx")
"""The two names of the domain of the standard operators."""
NEWEST = 28
"""The newest opset whose operators were looked through."""
FLOATS = frozenset({"bfloat16", "float16", "float32", "float64"})
"""The types whose constants are learned values; arithmetic on them is float64, rounded once."""

SHORT = frozenset({TensorProto.BFLOAT16, TensorProto.FLOAT16})
"""ONNX's numbers of those of them that have 2 bytes."""


@lru_cache(maxsize=64)
def is_float(dtype: DType) -> bool:
    """Whether a type is one of `FLOATS`; numpy makes the name of a type anew each time."""
    return dtype.name in FLOATS


def domain_of(name: str) -> str:
    """A domain of operators, whose standard one has two names."""
    return "" if name in STANDARD else name


def fed_tensor(port: ValueInfoProto) -> TypeProto.Tensor | None:
    """The tensor type of an input, which may be optional; None where it takes a list or a map."""
    kind = port.type.optional_type.elem_type if port.type.HasField("optional_type") else port.type
    return kind.tensor_type if kind.HasField("tensor_type") else None


def fed_kind(port: ValueInfoProto) -> str:
    """What an input takes, in a word: "lists", "text", or the type of numbers."""
    fed = fed_tensor(port)
    return "lists" if fed is None else TensorProto.DataType.Name(fed.elem_type).lower().replace("string", "text")


ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})
"""Operators of two inputs that are an affine of one where the other is a constant."""

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})

GELUS = ("com.microsoft.BiasGelu", "com.microsoft.FastGelu")
"""Operators that add a bias to what they put through a function."""
BIASES = {
    "Add": 1,
    **dict.fromkeys(GELUS, 1),
    "Conv": 2,
    "ConvTranspose": 2,
    "DeformConv": 3,
    "Gemm": 2,
    "com.microsoft.MatMulNBits": 5,
    "com.microsoft.SkipLayerNormalization": 3,
    **dict.fromkeys(RECURRENT, 3),
}
"""Operator -> which input is its bias."""
WEIGHTS: Mapping[str, int | None] = {
    **dict.fromkeys(GELUS),
    "com.microsoft.MatMulNBits": 2,
    "com.microsoft.SkipLayerNormalization": 2,
    "com.microsoft.SkipSimplifiedLayerNormalization": 2,
}
"""Operator -> which input is its weight, where that is neither of the first two; None where it has a bias alone."""

BODIES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


CHOOSING = frozenset({"ScatterElements", "ScatterND", "Where"})
"""Operators that put elements of two blobs into one."""


def puts_zeros(layer: Layer) -> bool:
    """Whether a layer puts zeros among its data, which no factor changes, and no other constants."""
    return layer.type in CHOOSING and len(layer.blobs) > 0 and not any(map(np.any, layer.blobs))


def opset_of(model: ModelProto) -> int:
    """The version of the standard operators; 0 where the model names none."""
    return next((item.version for item in model.opset_import if item.domain in STANDARD), 0)


def is_newer(op_type: str, opset: int) -> bool:
    """Whether an opset has, or may have, a newer version of a standard operator than was looked at."""
    if opset <= NEWEST:
        return False
    return opset > defs.onnx_opset_version() or defs.get_schema(op_type, opset).since_version > NEWEST


@dataclass(frozen=True, slots=True, eq=False)
class BottomInput:
    """An input that is `layer.bottoms[index]`."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class ConstantInput:
    """An input that is known before the network runs.

    Attributes:
        name: what the node calls it; empty for one that is new.
        value: its values; None where they are too many to compute, or of no type that numpy has.
        blob: its place among `layer.blobs`, -1 where it is none of them.
    """

    name: str
    value: Array | None
    blob: int = -1


Slot = BottomInput | ConstantInput | None
"""What stands at one place of a node's inputs."""


class Fused(NamedTuple):
    """What became one layer: the MatMul's own record and constants, the blob between, and the layer of the Add."""

    param: Node
    blobs: Blobs
    between: str
    add: Layer


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """`layer.param` of an ONNX net: everything about a node but the names of its data and the values that it learned.

    Attributes:
        proto: the message, never written into; what it says of inputs and outputs is what the file said.
        opset: the version of its domain's operators.
        slots: what stands at each place of its inputs.
        outputs: for each place of its outputs, which of `layer.tops` it is; the name where nobody reads it, None for an
            empty one.
        captures: the constants that its bodies read, by name.
        inner: how many of the bottoms, the last ones, are read by its bodies.
        number: where it stands in the file, -1 for a node that is new.
        reading: that of `OnnxOrigin`, empty for a node that is new.
        fused: what a MatMul and the Add behind it were before they became one layer, while a net is folded.
        whole: what it was before its constants became layers of their own, likewise.
        replaces: the message whose outputs have the same sizes as this one's, where a fold wrote another.
        shaped: the shapes of its constants of a float type by which that holds, when the fold is done.
        rescaled: a fold gave a DequantizeLinear another scale.
        attributes: what the message says, by name.
    """

    proto: NodeProto
    opset: int
    slots: tuple[Slot, ...]
    outputs: tuple[int | str | None, ...]
    captures: tuple[str, ...] = ()
    inner: int = 0
    number: int = -1
    reading: bytes = b""
    fused: Fused | None = None
    whole: Node | None = None
    replaces: NodeProto | None = None
    shaped: tuple[Shape, ...] | None = None
    rescaled: bool = False
    attributes: dict[str, AttributeProto] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", {attribute.name: attribute for attribute in self.proto.attribute})

    @property
    def layer_type(self) -> str:
        """What its layer is called by type: the operator, behind its domain where that is not the standard one."""
        return self.proto.op_type if self.proto.domain in STANDARD else f"{self.proto.domain}.{self.proto.op_type}"

    def edited(self, *without: str, **attributes: object) -> Node:
        """The same with some attributes left out and others set."""
        proto = with_attributes(self.proto, *without, **attributes)
        return replace(self, proto=proto, replaces=None)

    def rewritten(self, *without: str, op_type: str = "", **attributes: object) -> Node:
        """As `edited`, perhaps as another operator, where the outputs keep their sizes: what a fold does to a node."""
        node = self.edited(*without, **attributes)
        node.proto.op_type = op_type or node.proto.op_type
        return replace(node, replaces=self.replaces or self.proto)

    def constant(self, place: int) -> ConstantInput | None:
        """The constant at a place, None where there is something else or nothing."""
        slot = self.slots[place] if place < len(self.slots) else None
        return slot if isinstance(slot, ConstantInput) else None

    def given(self, place: int) -> bool:
        """Whether anything stands at a place."""
        return place < len(self.slots) and self.slots[place] is not None

    def integers(self, place: int) -> list[int] | None:
        """The values of a constant of whole numbers; None where it is no constant, or absent."""
        constant = self.constant(place)
        if constant is None or constant.value is None or constant.value.dtype.kind not in "iub":
            return None
        return [int(value) for value in constant.value.reshape(-1)]

    def attribute(self, name: str, default: T) -> T:
        """An attribute's value, of the default's type."""
        return attribute_of(self.attributes.get(name), default)

    def ints(self, name: str) -> tuple[int, ...]:
        """The whole numbers of an attribute; none where it is absent."""
        found = self.attributes.get(name)
        return tuple(found.ints) if found is not None and found.type == AttributeProto.INTS else ()

    def floats(self, name: str) -> tuple[float, ...]:
        """The numbers of an attribute; none where it is absent."""
        found = self.attributes.get(name)
        return tuple(found.floats) if found is not None and found.type == AttributeProto.FLOATS else ()

    def has(self, name: str) -> bool:
        """Whether the node sets an attribute."""
        return name in self.attributes


def attribute_of(found: AttributeProto | None, default: T) -> T:
    """What an attribute says; the default where it is absent or says something of another type."""
    if found is None or found.type not in _TYPES[type(default)]:
        return default
    value: Any = helper.get_attribute_value(found)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def attribute_value(node: NodeProto, name: str, default: T) -> T:
    """What an attribute of a node says; the default where it is absent or says something of another type."""
    return attribute_of(next((one for one in node.attribute if one.name == name), None), default)


_TYPES: dict[type, tuple[int, ...]] = {
    float: (AttributeProto.FLOAT,),
    int: (AttributeProto.INT,),
    str: (AttributeProto.STRING,),
    tuple: (AttributeProto.INTS, AttributeProto.FLOATS),
}
"""The type of a default -> those of attributes that say the same."""


class Windows(NamedTuple):
    """How windows slide along the axes of a plane, as Conv, ConvTranspose and the pools say it: one number for each.

    Attributes:
        strides, dilations: 1 unless said.
        before, behind: pads, 0 unless said.
    """

    strides: Shape
    dilations: Shape
    before: Shape
    behind: Shape

    @classmethod
    def of(cls, attributes: Mapping[str, AttributeProto], count: int) -> Windows | None:
        """Those along `count` axes; None where what is said does not fit together."""
        unsaid: dict[str, Shape] = {"strides": (1,) * count, "dilations": (1,) * count, "pads": (0,) * (2 * count)}
        strides, dilations, pads = (attribute_of(attributes.get(name), one) or one for name, one in unsaid.items())
        if not len(strides) == len(dilations) == len(pads) / 2 == count:
            return None
        return cls(strides, dilations, pads[:count], pads[count:])

    def reach(self, kernel: Sequence[int]) -> list[int]:
        """How far a window of a kernel reaches along each axis."""
        return [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, self.dilations, strict=True)]


def why_misstated(node: NodeProto, opset: int) -> str:
    """Why runtimes refuse the attributes of a standard operator's node; empty where they take them."""
    if node.domain not in STANDARD or (known := _attributes(node.op_type, opset)) is None:
        return ""
    seen = set[str]()
    for one in node.attribute:
        if one.name in seen:
            return f"its attribute '{one.name}' is given twice"
        if known.get(one.name) != one.type:
            return f"its attribute '{one.name}' is none of the operator's, or of another type"
        seen.add(one.name)
    return ""


@lru_cache(maxsize=512)
def _attributes(op_type: str, opset: int) -> dict[str, int] | None:
    """The types of a standard operator's attributes; None where onnx does not know it."""
    if not defs.has(op_type, opset, ""):
        return None
    return {name: _number_of(one.type) for name, one in defs.get_schema(op_type, opset, "").attributes.items()}


def _number_of(kind: Any) -> int:
    """ONNX's number of an attribute's type, of which onnx's versions make enumerations of several kinds."""
    return int(getattr(kind, "value", kind))


def settings_of(node: NodeProto, opset: int) -> dict[str, bytes]:
    """The attributes of a node, serialised, with the defaults of a standard operator where it says nothing."""
    attributes = {one.name: one for one in node.attribute}
    if node.domain in STANDARD and defs.has(node.op_type, opset, ""):
        known = defs.get_schema(node.op_type, opset, "").attributes
        attributes = {name: one.default_value for name, one in known.items() if one.default_value.name} | attributes
    return {name: one.SerializeToString(deterministic=True) for name, one in attributes.items()}


def same_places(one: NodeProto, opset: int, other: NodeProto, others: int) -> bool:
    """Whether two nodes are one operator whose inputs and attributes mean the same in both opsets."""
    if (one.domain, one.op_type) != (other.domain, other.op_type):
        return False
    if opset == others or one.domain not in STANDARD or not defs.has(one.op_type, opset, ""):
        return opset == others
    schemas = [defs.get_schema(one.op_type, version, "") for version in (opset, others)]
    inputs, attributes = (
        [[port.name for port in schema.inputs] for schema in schemas],
        [{name: attribute.default_value for name, attribute in schema.attributes.items()} for schema in schemas],
    )
    return inputs[0] == inputs[1] and attributes[0] == attributes[1]


def floats_said(attribute: bytes | None) -> Array | None:
    """The values of one of `settings_of`; None where they are no floats."""
    parsed = AttributeProto.FromString(attribute or b"")
    is_float = parsed.type in (AttributeProto.FLOAT, AttributeProto.FLOATS)
    return np.asarray(helper.get_attribute_value(parsed)) if is_float else None


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a node carries."""
    for attribute in node.attribute:
        yield from graphs_of(attribute)


def graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    """The graphs that an attribute is."""
    if attribute.type in BODIES:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of their bodies."""
    for node in nodes:
        yield node
        for body in bodies(node) if node.attribute else ():
            yield from all_nodes(body.node)


def all_bodies(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    """The bodies of the nodes, and those in bodies."""
    for node in nodes:
        for body in bodies(node) if node.attribute else ():
            yield body
            yield from all_bodies(body.node)


def held_by(graph: GraphProto) -> list[ValueInfoProto | TensorProto]:
    """What a graph is given, and what it stores."""
    return [*graph.input, *graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]


def model_of(graph: GraphProto, whole: ModelProto) -> ModelProto:
    """A graph as a model, with the operators and functions of another one."""
    return ModelProto(
        ir_version=whole.ir_version, opset_import=whole.opset_import, functions=whole.functions, graph=graph
    )


def set_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Have a graph consist of some nodes, be they its own or others."""
    placed = list(nodes)
    del graph.node[:]
    graph.node.extend(placed)


def keeps_outside(node: NodeProto) -> bool:
    """Whether values of an attribute, or what a body stores, lie in another file."""
    if any(one.HasField("t") and one.t.data_location == TensorProto.EXTERNAL for one in node.attribute):
        return True
    return any(
        any(tensor.data_location == TensorProto.EXTERNAL for tensor in body.initializer)
        or any(keeps_outside(inner) for inner in body.node)
        for body in bodies(node)
    )


RESHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that give their first input another shape, if any."""
WRITTEN_OUT: Mapping[str, tuple[AttributeProto.AttributeType, npt.DTypeLike]] = {
    "value_float": (AttributeProto.FLOAT, np.float32),
    "value_floats": (AttributeProto.FLOATS, np.float32),
    "value_int": (AttributeProto.INT, np.int64),
    "value_ints": (AttributeProto.INTS, np.int64),
}
"""How a Constant may say numbers without a tensor: the form of the attribute, and their type."""


def written_out(attribute: AttributeProto) -> Array | None:
    """The numbers that an attribute of a Constant says without a tensor; None where it says none so."""
    form, dtype = WRITTEN_OUT.get(attribute.name, (None, None))
    return np.array(helper.get_attribute_value(attribute), dtype) if attribute.type == form else None


def constants_among(nodes: Iterable[NodeProto]) -> dict[str, TensorProto]:
    """Name -> the tensor that it is, of what Constants among some nodes make."""
    found = {}
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t"):
                found[node.output[0]] = attribute.t
            elif (said := written_out(attribute)) is not None:
                found[node.output[0]] = numpy_helper.from_array(said, node.output[0])
    return found


def with_attributes(node: NodeProto, *without: str, **attributes: object) -> NodeProto:
    """A copy of a node with some attributes left out and others set."""
    proto = deepcopy(node)
    kept = [one for one in proto.attribute if one.name not in without and one.name not in attributes]
    del proto.attribute[:]
    proto.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])
    return proto


def captured(node: NodeProto) -> list[str]:
    """The names that the bodies of a node read from outside, each once, in the order in which they are met."""
    return list(dict.fromkeys(name for body in bodies(node) for name in captured_by(body)))


def reads_of(node: NodeProto) -> list[str]:
    """The names that a node reads, its bodies among it."""
    return [name for name in (*node.input, *captured(node)) if name]


def reads_by_place(node: NodeProto) -> list[str]:
    """The names at the places of a node's inputs, and behind them, sorted, those that its bodies capture.

    So what two nodes read lies side by side, in whatever order their attributes stand.
    """
    return [*node.input, *sorted(captured(node))]


def captured_by(body: GraphProto) -> list[str]:
    """The names that a body and those in it read from outside, likewise."""
    found: dict[str, None] = {}
    _captured(body, [], found)
    return list(found)


def _captured(graph: GraphProto, around: list[set[str]], found: dict[str, None]) -> None:
    own = {held.name for held in held_by(graph)}
    scopes = [*around, own]
    for node in graph.node:
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                found[name] = None
        for body in bodies(node):  # protobuf reads messages no deeper than 100
            _captured(body, scopes, found)
        own.update(filter(None, node.output))
    for port in graph.output:
        if port.name and not any(port.name in scope for scope in scopes):
            found[port.name] = None


def made_in(graph: GraphProto) -> Iterator[str]:
    """Every name of a value that a graph or one of its bodies makes, holds or is given."""
    for one in (graph, *all_bodies(graph.node)):
        yield from (held.name for held in held_by(one))
        for node in one.node:
            yield from node.output


def names_in(graph: GraphProto) -> Iterator[str]:
    """Every name of a value in a graph and its bodies."""
    for one in (graph, *all_bodies(graph.node)):
        yield from (named.name for named in (*held_by(one), *one.output, *one.value_info))
        for node in one.node:
            yield from (*node.input, *node.output)
