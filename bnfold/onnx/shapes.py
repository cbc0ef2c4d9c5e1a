"""The shape and type of every value of a model, by onnx's own inference on a copy without weights.

Sizes that nodes compute of sizes, of which onnx follows few, are followed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from onnx import (
    GraphProto,
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
from bnfold.onnx.call import Call
from bnfold.onnx.constants import COPIES, MAX_COMPUTED, compute, shape_alone
from bnfold.onnx.file import Tensor, element_type
from bnfold.onnx.functions import MAX_NODES, expanded
from bnfold.onnx.misread import RULES, is_misread
from bnfold.onnx.node import STANDARD, attribute_value, bodies, opset_of
from bnfold.onnx.schemas import takes
from bnfold.onnx.sizes import MAX_SIZES, SIZED, UNKNOWN, Forms, coded, computed_sizes, is_open

MAX_SIZE = (1 << 63) - 1
"""Of an axis: `dim_value` is an int64 (onnx.proto)."""
FUSED = "com.microsoft"
"""The domain of what onnxruntime makes of several nodes where it writes a model that it has optimised."""
ACTIVATIONS = frozenset(
    (
        *("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "RotaryEmbedding"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    )
)
"""Operators of that domain whose first output has the sizes and the type of their first input."""
QUANTISING = {"DequantizeLinear": 1, "QuantizeLinear": 2}
"""Operators of that domain that give the sizes of their first input -> which input has the type that they give."""
CASTS_LIKE = 15
"""The opset since which there is a CastLike."""
COLUMNWISE = {"Binarizer": 0, "Imputer": 0, "Normalizer": TensorProto.FLOAT, "Scaler": TensorProto.FLOAT}
"""Operators of ai.onnx.ml that keep sizes, of which onnx infers nothing -> the type they give; 0 for what they read."""
ALIKE = {
    "SkipLayerNormalization": slice(0, None, 3),
    "SkipSimplifiedLayerNormalization": slice(0, None, 3),
    "Split": slice(None),
}
"""Operators that give several outputs of one shape -> which; the third behind the first is the sum of a norm."""
_SMALL = 1 << 13
"""Bytes of a constant up to which its values, and not its shape alone, decide about shapes."""


def held(size: int) -> int:
    """A size that a user gave. Raises UsageError where ONNX cannot hold it."""
    if abs(size) > MAX_SIZE:
        raise UsageError(f"a size of {size} is more than ONNX allows")
    return size


@dataclass(slots=True, eq=False)
class Types:
    """What is known about values before the network runs.

    Attributes:
        shapes: name -> shape; names whose rank is unknown are missing. A size that is not known is negative: -1 equals
            nothing, -2, -3 .. stand for sizes that the model names ("batch"), equal ones for equal sizes.
        elements: name -> ONNX element type; values that are no tensors are missing.
        forms: what sizes are that are computed from others which are not known.
        sizes: name -> whole numbers of which some follow from sizes that are not known (`bnfold.onnx.sizes.is_open`).
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, Array] = field(default_factory=dict)
    _named: dict[object, int] = field(default_factory=dict)
    forms: Forms = field(init=False)

    def __post_init__(self) -> None:
        self.forms = Forms(self._number)

    def add(self, port: ValueInfoProto) -> None:
        """Take over what a declaration says."""
        if not port.type.HasField("tensor_type"):
            return
        tensor = port.type.tensor_type
        if tensor.elem_type:
            self.elements[port.name] = tensor.elem_type
        if tensor.HasField("shape"):
            self.shapes[port.name] = tuple(map(self._size, tensor.shape.dim))

    def take(self, name: str, value: Array) -> None:
        """Take over what is seen of a value."""
        self.shapes[name] = value.shape
        if value.dtype.kind in "biuf":  # others go by names of their own
            self.elements.setdefault(name, helper.np_dtype_to_tensor_dtype(value.dtype))

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

    def adopt(self, name: str, shape: Shape, known: int) -> Shape:
        """Call sizes that are computed for the first time as the model does, so that its other names for them hold.

        Args:
            name: the value that has them.
            shape: what was computed.
            known: how many sizes had a name before.
        """
        declared = self.shapes.get(name, ())
        for new, old in zip(shape, declared, strict=True) if len(declared) == len(shape) else ():
            form = self.forms.made.get(coded(new))
            if new < UNKNOWN - known and old < UNKNOWN and form is not None and form.name != coded(old):
                self._named[form] = old
                self.forms.made.setdefault(coded(old), form)
                shape = tuple(old if size == new else size for size in shape)
        return shape

    def called(self, names: Iterable[str]) -> dict[int, str]:
        """Number of a size that is not known -> its name, of those that a model has."""
        return {self._named[name]: name for name in names if name in self._named}

    def dims(self, name: str, called: Mapping[int, str]) -> list[int | str | None] | None:
        """The sizes of a value as a model declares them, by what `called` gives; None where its rank is unknown."""
        shape = self.shapes.get(name)
        return None if shape is None else [size if size >= 0 else called.get(size) for size in shape]

    @property
    def count(self) -> int:
        """How many sizes that are not known have a name."""
        return len(self._named)

    def _size(self, dim: TensorShapeProto.Dimension) -> int:
        if dim.HasField("dim_value"):
            return max(dim.dim_value, UNKNOWN)
        return self._number(dim.dim_param) if dim.dim_param else UNKNOWN

    def _number(self, name: object) -> int:
        return self._named.setdefault(name, UNKNOWN - 1 - len(self._named))


def infer(
    model: ModelProto, tensors: Collection[Tensor], constants: dict[str, Array | None], large: Mapping[int, Tensor] = {}
) -> Types:
    """What onnx finds out about a model, as far as it comes, and what its nodes compute of constants and of sizes.

    Args:
        model: the nodes.
        tensors: the initialisers that it does not hold itself.
        constants: values that are known beforehand, None where one cannot be had, to which those are added that nodes
            compute.
        large: number of a Constant node -> its value, where that is mapped.
    """
    copy, types, declared = _of_ports(model, tensors, constants)
    if _adds_to(declared, types, {size for port in model.graph.input for size in types.shapes.get(port.name, ())}):
        copy, types, _ = _of_ports(model, tensors, constants, believed=True)
    for name, value in constants.items():
        if value is not None:
            types.take(name, value)
    follower = _Follower(model, types, constants)
    for number, (node, readable) in enumerate(zip(model.graph.node, copy.graph.node, strict=True)):
        if number in large:
            constants[node.output[0]] = large[number].array()
        else:
            follower.visit(node, readable)
    return types


def _of_ports(
    model: ModelProto, tensors: Collection[Tensor], constants: Mapping[str, Array | None], *, believed: bool = False
) -> tuple[ModelProto, Types, dict[str, Shape]]:
    """What onnx infers from the inputs, in a copy that it can read, and what the model says of what its nodes make.

    Args:
        model: the nodes.
        tensors: the initialisers that it does not hold itself.
        constants: values that are known beforehand.
        believed: infer from what the model says, too, instead of handing it back.
    """
    matrices = {tensor.name for tensor in tensors if len(tensor.shape) == 2}
    copy, types = _readable(model, matrices), Types()
    for port in _declared(copy):
        types.add(port)
    made = {name for node in copy.graph.node for name in node.output} if not believed else set[str]()
    for port in (*copy.graph.output, *copy.graph.value_info):
        if port.name in made and port.type.HasField("tensor_type"):
            port.type.tensor_type.ClearField("shape")
    declared = {name: types.shapes.pop(name) for name in sorted(made & types.shapes.keys())}
    for header in (*(tensor.header for tensor in tensors), *model.graph.initializer):
        types.shapes.setdefault(header.name, tuple(header.dims))
        types.elements.setdefault(header.name, header.data_type)
    _put_in(copy.graph, tensors)
    for port in _without_misread(copy, types, constants):
        types.add(port)
    return copy, types, declared


def _adds_to(declared: Mapping[str, Shape], types: Types, traced: Collection[int]) -> bool:
    """Whether a model says something of sizes beside what follows from its inputs, and nothing against it.

    Who opens the batch of an input often leaves the sizes behind it as they were, and runtimes go by what nodes make.

    Args:
        declared: the shapes that it says.
        types: what follows.
        traced: the sizes of the inputs, those that are open among them.
    """
    adds = False
    for name, shape in declared.items():
        found = types.shapes.get(name, (UNKNOWN,) * len(shape))
        if len(found) != len(shape):
            return False
        for size, other in zip(found, shape, strict=True):
            if 0 <= other != size and (size >= 0 or size in traced):
                return False
            adds = adds or (size < 0 and size not in traced and other != UNKNOWN)
    return adds


def _readable(model: ModelProto, matrices: Collection[str]) -> ModelProto:
    """A copy that onnx can infer from; open sizes of inputs have names, by which they are the same behind nodes.

    `matrices` are the initialisers with two axes.
    """
    copy = deepcopy(model)
    for node in copy.graph.node:
        if node.op_type in UNINFERRED or (node.domain == FUSED and node.op_type in ACTIVATIONS):
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1], node.name))
        elif node.domain == "ai.onnx.ml" and node.op_type in COLUMNWISE and opset_of(model):
            kind = COLUMNWISE[node.op_type]
            node.CopyFrom(helper.make_node("Cast" if kind else "Identity", node.input[:1], node.output, node.name))
            node.attribute.extend([helper.make_attribute("to", kind)] if kind else [])
        elif node.domain == FUSED and node.op_type in {"FusedConv", "FusedGemm"}:
            kept = [one for one in node.attribute if not one.name.startswith("activation")]
            del node.attribute[:], node.input[3:]
            node.attribute.extend(kept)
            node.domain, node.op_type = "", node.op_type.removeprefix("Fused")
        elif node.domain == FUSED and node.op_type == "FusedMatMul":
            _unfuse_matrices(node, matrices)
        elif node.domain == FUSED and node.op_type in QUANTISING and opset_of(model) >= CASTS_LIKE:
            like = node.input[QUANTISING[node.op_type] :][:1]
            if like and like[0]:
                node.CopyFrom(helper.make_node("CastLike", [node.input[0], like[0]], node.output, node.name))
        elif node.op_type == "STFT" and all(one.name != "onesided" for one in node.attribute):
            node.attribute.append(helper.make_attribute("onesided", 1))  # its default, for which onnx takes 0
            _forget_shapes(copy.graph)
    for port in copy.graph.input:
        for axis, dim in enumerate(port.type.tensor_type.shape.dim):
            if not dim.dim_param and (dim.dim_value < 0 or not dim.HasField("dim_value")):
                dim.dim_param = f"{port.name}?{axis}"
    return copy


def _unfuse_matrices(node: NodeProto, matrices: Collection[str]) -> None:
    """Make a FusedMatMul an Einsum, as far as its sizes go: `alpha*A*B`, of which A or B may be transposed."""
    if attribute_value(node, "transBatchA", 0) or attribute_value(node, "transBatchB", 0):
        return
    turned, turned_too = (attribute_value(node, name, 0) for name in ("transA", "transB"))
    if not turned and not turned_too:  # of vectors, too
        node.CopyFrom(helper.make_node("MatMul", node.input, node.output, node.name))
        return
    rows, columns = "ki" if turned else "ik", "jk" if turned_too else "kj"
    batches = ["" if name in matrices else "..." for name in node.input]  # onnx wants as many axes for either
    equation = f"{batches[0]}{rows},{batches[-1]}{columns}->...ij"
    node.CopyFrom(helper.make_node("Einsum", node.input, node.output, node.name, equation=equation))


def _put_in(graph: GraphProto, tensors: Iterable[Tensor]) -> None:
    """Have a graph hold initialisers, or list them as inputs where their values decide about no shape."""
    made = {name for node in graph.node for name in node.output}
    for port in [port for port in graph.output if port.name not in made]:
        graph.output.remove(port)  # onnx takes what an output says of an initialiser, even if that is nothing
    listed = {port.name for port in graph.input}
    for tensor in tensors:
        if tensor.view is None:
            graph.initializer.append(tensor.header)
        elif _decides(tensor.view):
            graph.initializer.append(numpy_helper.from_array(tensor.view, tensor.name))
        elif tensor.name not in listed:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.header.data_type, tensor.shape))


def inputs_of(model: ModelProto, types: Types, constants: Collection[str]) -> dict[str, Shape]:
    """The inputs that are no constants, -1 for a size that is unknown."""
    ports = [port.name for port in model.graph.input if port.name not in constants]
    return {name: tuple(max(size, UNKNOWN) for size in types.shapes.get(name) or ()) for name in ports}


def _decides(value: Array) -> bool:
    """Whether a constant's values, and not its shape alone, say of what shape something is."""
    return value.nbytes <= _SMALL and value.dtype.kind in "iub"


class _Follower:
    """Finds what comes of constants and of sizes, of which onnx follows few; nodes must be visited in their order.

    Given:   Shape -> Gather -> Unsqueeze -> Concat with -1 -> Reshape, as PyTorch writes `x.view(x.size(0), -1)`
    Result:  of (N, 8, 4, 4) it makes (N, 128)

    Args:
        model: the model.
        types: what onnx found, to which is added what is found here.
        constants: as for `infer`.
    """

    def __init__(self, model: ModelProto, types: Types, constants: dict[str, Array | None]) -> None:
        self._model, self._types, self._constants = model, types, constants
        self._opset = opset_of(model)
        self._outputs = {port.name for port in model.graph.output}
        stored = sum(value.size for value in constants.values() if value is not None)
        self._allowed = max(MAX_COMPUTED, COPIES * stored)
        self._sizes = types.sizes
        self._changed: set[str] = set()

    def visit(self, node: NodeProto, readable: NodeProto) -> None:
        """Find what a node makes; `readable` is the same node as onnx can read it."""
        types = self._types
        known = [self._valued(node, place, name) for place, name in enumerate(node.output) if name]
        if not all(known) and any(min(types.shapes.get(one, (UNKNOWN,)), default=0) < 0 for one in node.output):
            found = self._found(node, readable).items()
            self._changed.update(one for one, shape in found if shape is not None and types.refine(one, shape))

    def _valued(self, node: NodeProto, place: int, name: str) -> bool:
        """Find the value of an output; whether there is one."""
        value = self._constants[name] if name in self._constants else self._constant(node, place)
        if value is not None:
            self._constants[name] = value
        elif (value := self._counted(node, place)) is not None:
            (self._sizes if is_open(value).any() else self._constants)[name] = value
        else:
            return False
        self._types.take(name, value)
        if node.op_type != "Constant":
            self._changed.add(name)
        return True

    def _constant(self, node: NodeProto, place: int) -> Array | None:
        """What a node computes of constants alone."""
        if not _may_be_constant(node, self._constants):
            return None
        shapes = [self._types.shapes.get(one) for one in node.input]
        elements = [element_type(self._types.elements.get(one, 0)) for one in node.input]
        inputs = [self._constants.get(one) for one in node.input]
        value = compute(Call(node, self._opset, inputs, shapes, elements, place), self._allowed)
        if value is not None and value.base is None:
            self._allowed -= value.size
        return value

    def _counted(self, node: NodeProto, place: int) -> Array | None:
        """What a node computes of sizes, of which some are not known."""
        is_one = node.op_type == "Shape" or not self._sizes.keys().isdisjoint(node.input)
        return computed_sizes(self._call(node, place), self._types.forms) if is_one else None

    def _found(self, node: NodeProto, readable: NodeProto) -> Mapping[str, Shape | None]:
        """The shapes of what a node makes, as far as they follow from what onnx had not found."""
        shape, known, name = None, self._types.count, node.output[0]
        is_standard = node.domain in STANDARD
        rule = SIZED.get(node.op_type if is_standard else f"{node.domain}.{node.op_type}")
        if rule is not None:
            call = self._call(node)
            is_taken = not is_standard or takes(node.op_type, self._opset, call.inputs)
            shape = rule(call, self._types.forms) if is_taken else None
        alike = list(filter(None, node.output[ALIKE.get(node.op_type, slice(1))]))
        element = self._types.elements.get(node.input[0], 0) if shape is not None else 0
        for one in alike if element else ():  # of which onnx may infer no type either
            self._types.elements.setdefault(one, element)
        if shape is not None and node.op_type in ALIKE:
            return dict.fromkeys(alike, shape)
        if shape is not None:  # an output may be called as an input that has another size, since users name them
            return {name: shape if name in self._outputs else self._types.adopt(name, shape, known)}
        return {} if self._changed.isdisjoint(node.input) else _inferred(self._model, self._call(readable), self._types)

    def _call(self, node: NodeProto, place: int = 0) -> Call:
        """A node with the sizes that it reads, known or not."""
        shapes = (self._types.shapes.get(one) for one in node.input)
        coded_shapes = [shape and tuple(map(coded, shape)) for shape in shapes]
        return Call(node, self._opset, [self._size(one) for one in node.input], coded_shapes, output=place)

    def _size(self, name: str) -> Array | None:
        """A value that may be sizes; none of many numbers, nor one that only looks like a size that is open."""
        value = self._constants.get(name)
        if value is None or value.size > MAX_SIZES or is_open(value).any():
            return self._sizes.get(name)
        return value


def _may_be_constant(node: NodeProto, constants: Collection[str]) -> bool:
    spared = shape_alone(node.op_type)
    return all(place == spared or not name or name in constants for place, name in enumerate(node.input))


def _inferred(model: ModelProto, call: Call, types: Types) -> dict[str, Shape | None]:
    """What onnx infers of one node by what is known of its inputs; a size that is not known goes by its number."""
    node, names = call.node, [name for name in call.node.input if name]
    if any(bodies(node)) or not all(name in types.elements for name in names) or is_misread(call):
        return {}
    inputs = {}
    for name in names:
        shape = types.shapes.get(name)
        sizes = None if shape is None else [None if one == UNKNOWN else one if one >= 0 else str(one) for one in shape]
        inputs[name] = helper.make_tensor_type_proto(types.elements[name], sizes)
    given = {
        name: numpy_helper.from_array(value, name)
        for name, value in zip(node.input, call.inputs, strict=True)
        if value is not None and _decides(value) and not is_open(value).any()
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
    for name, one in found.items():
        if one.tensor_type.elem_type:
            types.elements.setdefault(name, one.tensor_type.elem_type)
    return {
        name: tuple(
            int(dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else UNKNOWN))
            for dim in one.tensor_type.shape.dim
        )
        for name, one in found.items()
        if one.tensor_type.HasField("shape")
    }


def _without_misread(model: ModelProto, types: Types, constants: Mapping[str, Array | None]) -> list[ValueInfoProto]:
    """What onnx says of values; nothing of those of which it says something else than runtimes make."""
    opset = opset_of(model)
    model.opset_import.add(domain=UNREAD, version=1)
    scales = {name for node in model.graph.node if node.op_type in {"Resize", "Upsample"} for name in node.input}
    made = (node for node in model.graph.node if node.op_type == "Constant" and not scales.isdisjoint(node.output))
    values = {**constants, **{node.output[0]: compute(Call(node, opset, ())) for node in made}}
    while True:
        found = inferred_ports(model, data_prop=True) or inferred_ports(model)
        known = Types(dict(types.shapes))
        for port in found:
            known.add(port)
        nodes = [node for node in model.graph.node if node.op_type in RULES]
        calls = (
            Call(node, opset, [*map(values.get, node.input)], [*map(known.shapes.get, node.input)]) for node in nodes
        )
        misread = [call.node for call in calls if is_misread(call)]
        if not misread:
            return found
        for node in misread:
            node.domain = UNREAD
        for name in _forget_shapes(model.graph):
            types.shapes.pop(name, None)


def _forget_shapes(graph: GraphProto) -> list[str]:
    """Leave the shapes of values open that a file says, since onnx may have inferred them; returns their names."""
    for port in graph.value_info:
        if port.type.HasField("tensor_type"):
            port.type.tensor_type.ClearField("shape")
    return [port.name for port in graph.value_info]


def inferred_ports(model: ModelProto, *, data_prop: bool = False) -> list[ValueInfoProto]:
    """What onnx says of the values of a model; nothing where an operator or a size makes no sense to it, nor where the
    model's own functions make too many nodes.

    It ends the process where a Slice cuts a size below 0, be it declared, as some exporters write one that is open, or
    found.
    """
    if model.functions and expanded(model) > MAX_NODES:
        return []
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
    (
        *("AveragePool", "CenterCropPad", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Expand"),
        *("LpPool", "MaxPool", "Pad", "QLinearConv", "Resize", "RoiAlign", "Split", "TopK"),
    )
)
"""Operators of which onnx may infer a size below 0: a kernel that is larger than the image, a size that makes none."""
UNINFERRED = frozenset({"GroupNormalization", "MeanVarianceNormalization", "SimplifiedLayerNormalization"})
"""Operators that keep a shape, of which onnx infers nothing, nor of what stands behind."""
UNREAD = "unread"
"""A domain of which onnx infers nothing."""
