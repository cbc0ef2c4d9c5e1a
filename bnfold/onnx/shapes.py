"""The shape and type of every value of a model, by onnx's own inference on a copy without weights.

Sizes that nodes compute of sizes, of which onnx follows few, are followed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod

from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    TensorShapeProto,
    ValueInfoProto,
    defs,
    helper,
    inliner,
    numpy_helper,
    shape_inference,
)

from bnfold.errors import UsageError
from bnfold.net import Array, Shape
from bnfold.onnx.constants import Call
from bnfold.onnx.file import Tensor, element_type
from bnfold.onnx.node import bodies
from bnfold.onnx.sizes import MAX_SIZES, SIZED, UNKNOWN, coded, computed_sizes, is_open

MAX_SIZE = (1 << 63) - 1
"""Of an axis: `dim_value` is an int64 (onnx.proto)."""
_SMALL = 1 << 10
"""Bytes of a constant up to which its values, and not its shape alone, decide about shapes."""


def held(size: int) -> int:
    """A size that a user gave. Raises UsageError where ONNX cannot hold it."""
    if abs(size) > MAX_SIZE:
        raise UsageError(f"a size of {size} is more than ONNX can hold")
    return size


@dataclass(slots=True, eq=False)
class Types:
    """What is known about values before the network runs.

    Attributes:
        shapes: name -> shape; names whose rank is unknown are missing. A size that is not known is negative: -1 equals
            nothing, -2, -3 .. stand for sizes that the model names ("batch"), equal ones for equal sizes.
        elements: name -> ONNX element type; values that are no tensors are missing.
        numbers: what nodes compute of sizes that are known, though others may not be: the channels of an open batch.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, Array] = field(default_factory=dict)
    _named: dict[object, int] = field(default_factory=dict)

    def add(self, port: ValueInfoProto) -> None:
        """Take over what a declaration says."""
        if not port.type.HasField("tensor_type"):
            return
        tensor = port.type.tensor_type
        if tensor.elem_type:
            self.elements[port.name] = tensor.elem_type
        if tensor.HasField("shape"):
            self.shapes[port.name] = tuple(map(self._size, tensor.shape.dim))

    def refine(self, name: str, shape: Shape) -> bool:
        """Take over sizes that were not known; whether there were any. What is not known yet gets a name."""
        before = self.shapes.get(name, (UNKNOWN,) * len(shape))
        if len(before) != len(shape) or (name in self.shapes and min(before, default=0) >= 0):
            return False
        shape = tuple(old if old >= 0 or new == UNKNOWN else new for old, new in zip(before, shape, strict=True))
        is_new = name not in self.shapes or shape != before
        self.shapes[name] = tuple(
            self._number((name, axis)) if size == UNKNOWN else size for axis, size in enumerate(shape)
        )
        return is_new

    def _size(self, dim: TensorShapeProto.Dimension) -> int:
        if dim.HasField("dim_value"):
            return max(dim.dim_value, UNKNOWN)
        return self._number(dim.dim_param) if dim.dim_param else UNKNOWN

    def _number(self, name: object) -> int:
        return self._named.setdefault(name, UNKNOWN - 1 - len(self._named))


def infer(
    model: ModelProto, tensors: Iterable[Tensor], known: Mapping[str, Array] = {}, fed: Collection[str] = ()
) -> Types:
    """What onnx finds out about a model, as far as it comes.

    Args:
        model: without initialisers.
        tensors: the initialisers.
        known: values that were computed from constants, by name.
        fed: initialisers that may have other values when it runs.
    """
    copy, types = deepcopy(model), Types()
    graph = copy.graph
    for node in graph.node:
        if node.op_type == "GroupNormalization":  # onnx infers nothing of it, nor of what stands behind
            node.op_type = "Identity"
            del node.input[1:]
    for port in graph.input:
        for axis, dim in enumerate(port.type.tensor_type.shape.dim):
            if not dim.dim_param and (dim.dim_value < 0 or not dim.HasField("dim_value")):
                dim.dim_param = f"{port.name}?{axis}"  # a name, by which it is the same size behind what keeps it
    for port in _declared(copy):
        types.add(port)
    made = {name for node in graph.node for name in node.output}
    for port in [port for port in graph.output if port.name not in made]:
        graph.output.remove(port)  # onnx takes what an output says of an initialiser, even if that is nothing
    listed = {port.name for port in graph.input}
    for tensor in tensors:
        types.shapes.setdefault(tensor.name, tensor.shape)
        types.elements.setdefault(tensor.name, tensor.header.data_type)
        array = tensor.view
        if array is None:
            graph.initializer.append(tensor.header)
        elif array.nbytes <= _SMALL and array.dtype.kind in "iub":
            graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        elif tensor.name not in listed:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.header.data_type, tensor.shape))
    computed = {name: value for name, value in known.items() if value.dtype.kind in "iub" and value.nbytes <= _SMALL}
    if computed:
        _replace(copy, computed)
    for name, value in computed.items():
        types.shapes.setdefault(name, value.shape)
        types.elements.setdefault(name, helper.np_dtype_to_tensor_dtype(value.dtype))
    for port in _without_spread_einsums(copy, types):
        types.add(port)
    if any(_leaves_sizes(node, types) for node in graph.node):
        _follow_sizes(copy, types, fed)
    return types


def _leaves_sizes(node: NodeProto, types: Types) -> bool:
    """Whether onnx has not followed a node: it reckons with sizes, or makes a blob of sizes that are not known."""
    unknown = (min(types.shapes.get(name, (UNKNOWN,)), default=0) < 0 for name in node.output)
    return node.op_type == "Shape" or (node.op_type in SIZED and any(unknown))


def _follow_sizes(model: ModelProto, types: Types, fed: Collection[str]) -> None:
    """Find what comes of a Reshape or Resize to sizes that nodes compute, and what stands behind it.

    Given:   Shape -> Gather -> Unsqueeze -> Concat with -1 -> Reshape, as PyTorch writes `x.view(x.size(0), -1)`
    Result:  of (N, 8, 4, 4) it makes (N, 128)

    Args:
        model: the nodes, and small constants.
        types: what onnx found, to which is added what is found here.
        fed: initialisers that may have other values.
    """
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    values: dict[str, Array] = {}
    for one in model.graph.initializer:
        types.shapes.setdefault(one.name, tuple(one.dims))
        types.elements.setdefault(one.name, one.data_type)
        if (
            one.name not in fed
            and one.data_type in (TensorProto.INT32, TensorProto.INT64)
            and prod(one.dims) <= MAX_SIZES
        ):
            value = Tensor(one, tuple(one.dims), element_type(one.data_type)).array()
            if value is not None and not is_open(value).any():
                values[one.name] = value
    changed: set[str] = set()
    for node in model.graph.node:
        shapes = (types.shapes.get(name) for name in node.input)
        coded_shapes = [shape if shape is None else tuple(map(coded, shape)) for shape in shapes]
        call = Call(node, opset, [values.get(name) for name in node.input], coded_shapes)
        if (value := computed_sizes(call)) is not None:
            values[node.output[0]] = value
        found: Mapping[str, Shape | None] = {}
        if node.op_type in SIZED and node.domain in ("", "ai.onnx") and node.output:
            found = {node.output[0]: SIZED[node.op_type](call)}
        elif not changed.isdisjoint(node.input):
            found = _inferred(model, call, types)
        changed.update(name for name, shape in found.items() if shape is not None and types.refine(name, shape))
    types.numbers = {name: value for name, value in values.items() if not is_open(value).any()}


def _inferred(model: ModelProto, call: Call, types: Types) -> dict[str, Shape]:
    """What onnx infers of one node by what is known of its inputs; a size that is not known goes by its number."""
    node, names = call.node, [name for name in call.node.input if name]
    if any(bodies(node)) or not all(name in types.elements for name in names):
        return {}
    inputs = {}
    for name in names:
        shape = types.shapes.get(name)
        sizes = None if shape is None else [None if one == UNKNOWN else one if one >= 0 else str(one) for one in shape]
        inputs[name] = helper.make_tensor_type_proto(types.elements[name], sizes)
    given = {
        name: numpy_helper.from_array(value, name)
        for name, value in zip(node.input, call.inputs, strict=True)
        if value is not None and not is_open(value).any()
    }
    try:
        schema = defs.get_schema(node.op_type, call.opset, node.domain)
        if len(node.input) > schema.max_input:  # a MatMul with the bias that is fused to it
            node = deepcopy(node)
            del node.input[schema.max_input :]
        found = shape_inference.infer_node_outputs(
            schema, node, inputs, given, None, list(model.opset_import), model.ir_version
        )
    except Exception:  # as for whole models
        return {}
    return {
        name: tuple(
            int(dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else UNKNOWN))
            for dim in one.tensor_type.shape.dim
        )
        for name, one in found.items()
        if one.tensor_type.HasField("shape")
    }


def _without_spread_einsums(model: ModelProto, types: Types) -> list[ValueInfoProto]:
    """What onnx says of values; of an Einsum it takes the first size of a letter, also where another one spreads it."""
    model.opset_import.add(domain=UNREAD, version=1)
    while True:
        found = inferred_ports(model, data_prop=True) or inferred_ports(model)
        known = Types(dict(types.shapes))
        for port in found:
            known.add(port)
        spread = [node for node in model.graph.node if node.op_type == "Einsum" and _spreads(node, known.shapes)]
        if not spread:
            return found
        for node in spread:
            node.domain, node.op_type = UNREAD, "Spread"


def _spreads(node: NodeProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether some letter of an Einsum is of size 1 in one factor, and perhaps of another in the next."""
    equation = next((one.s.decode() for one in node.attribute if one.name == "equation"), "").replace(" ", "")
    sizes: dict[str, set[int]] = {}
    for term, name in zip(equation.split("->")[0].split(","), node.input, strict=False):
        letters = term.replace("...", "")
        shape = shapes.get(name, (UNKNOWN,) * len(letters))
        behind = len(term.partition("...")[2]) if "..." in term else 0
        ends = [*shape[: len(letters) - behind], *shape[len(shape) - behind :]]
        for letter, size in zip(letters, ends, strict=False):
            sizes.setdefault(letter, set()).add(size)
    return any(1 in found and len(found) > 1 for found in sizes.values())


def _replace(model: ModelProto, computed: Mapping[str, Array]) -> None:
    """Put values in the place of the nodes that compute them."""
    graph = model.graph
    nodes = [node for node in graph.node if not _all_in(node.output, computed)]
    del graph.node[:]
    graph.node.extend(nodes)
    made = {name for node in nodes for name in node.output}
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in computed.items() if name not in made
    )


def _all_in(names: Iterable[str], computed: Collection[str]) -> bool:
    present = [name for name in names if name]
    return bool(present) and all(name in computed for name in present)


def inferred_ports(model: ModelProto, *, data_prop: bool = False) -> list[ValueInfoProto]:
    """What onnx says of the values of a model; nothing where an operator or a size makes no sense to it.

    It ends the process where a Slice cuts a size below 0, be it declared, as some exporters write one that is open, or
    found.
    """
    op_types = {node.op_type for node in model.graph.node}
    op_types |= {node.op_type for function in model.functions for node in function.node}
    if "Slice" in op_types:
        model = _without_negative(model)
        if not op_types.isdisjoint(SHRINKING) and _finds_negative(model):
            return []
    return _found(model, data_prop)


def _without_negative(model: ModelProto) -> ModelProto:
    """The model, with sizes that are declared below 0 left open."""
    if not _negative(_declared(model)):
        return model
    model = deepcopy(model)
    for dim in _negative(_declared(model)):
        dim.Clear()
    return model


def _declared(model: ModelProto) -> list[ValueInfoProto]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


def _negative(ports: Iterable[ValueInfoProto]) -> list[TensorShapeProto.Dimension]:
    return [dim for port in ports for dim in port.type.tensor_type.shape.dim if dim.dim_value < 0]


def _finds_negative(model: ModelProto) -> bool:
    """Whether a size comes out below 0 where nothing is cut."""
    try:
        trial = inliner.inline_local_functions(model) if model.functions else deepcopy(model)
    except Exception:  # functions that call each other for ever, say
        return True
    trial.opset_import.add(domain=UNREAD, version=1)
    for node in trial.graph.node:
        if node.op_type == "Slice":
            node.domain = UNREAD
    return bool(_negative(_found(trial, True) or _found(trial, False)))


def _found(model: ModelProto, data_prop: bool) -> list[ValueInfoProto]:
    try:
        graph = shape_inference.infer_shapes(model, data_prop=data_prop).graph
    except Exception:  # whatever onnx makes of it; the runtime will say it
        return []
    return [*graph.value_info, *graph.output]


SHRINKING = frozenset(
    [
        "AveragePool",
        "CenterCropPad",
        "Col2Im",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DeformConv",
        "Expand",
        "LpPool",
        "MaxPool",
        "Pad",
        "QLinearConv",
        "Resize",
        "RoiAlign",
        "Split",
        "TopK",
    ]
)
"""Operators of which onnx may infer a size below 0: a kernel that is larger than the image, a size that makes none."""
UNREAD = "unread"
"""A domain of which onnx infers nothing."""
