"""Stretches of a model whose nodes compute each value from the value at the same place of one blob, and from constants.

x -> Mul -> Add -> Clip -> y          x -> HardSigmoid -> y          x -> BatchNormalization -> PRelu -> y
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from bnfold.net import Array, DType, Shape
from bnfold.onnx.node import STANDARD

POINTWISE = frozenset(
    (
        *("Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Constant", "Div", "Dropout"),
        *("Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "Not"),
        *("Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Softplus"),
        *("Softsign", "Sqrt", "Sub", "Sum"),
        *("Tanh", "ThresholdedRelu", "Where", "Xor"),
    )
)
AFFINE = frozenset(("Add", "BatchNormalization", "Constant", "Div", "Dropout", "Identity", "Mul", "Neg", "Sub", "Sum"))
"""Of these with constants alone, a stretch is `a*x + b` in each channel."""
JUMPING = frozenset(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "ThresholdedRelu"))
LONGEST = 16  # nodes: what an operator was ever written as


class Stretch(NamedTuple):
    """Nodes in their order, the blob that they read, and the one that they make."""

    nodes: tuple[NodeProto, ...]
    front: str
    blob: str

    @property
    def types(self) -> str:
        """Their operators."""
        return ", ".join(node.op_type for node in self.nodes if node.op_type != "Constant")

    def then(self, behind: Stretch) -> Stretch:
        """This one, and another behind it."""
        nodes = {tuple(node.output): node for node in self.nodes}
        for node in behind.nodes:
            moved = NodeProto.FromString(node.SerializeToString())
            moved.input[:] = [self.blob if name == behind.front else name for name in node.input]
            nodes[(*node.output,)] = moved
        return Stretch((*nodes.values(),), self.front, behind.blob if behind.nodes else self.blob)

    @property
    def is_affine(self) -> bool:
        """Whether each value is `a*x + b` of the one that is read, as far as the operators tell."""
        reads = [self.front in node.input for node in self.nodes if node.op_type != "Constant"]
        return all(node.op_type in AFFINE for node in self.nodes) and sum(reads) <= 1

    @property
    def constants(self) -> set[str]:
        """What else they read, stored or said by a Constant."""
        return self._read - {name for node in self.nodes if node.op_type != "Constant" for name in node.output}

    @property
    def stored(self) -> set[str]:
        """What else they read and none of them makes."""
        return self._read - {name for node in self.nodes for name in node.output}

    @property
    def _read(self) -> set[str]:
        return {name for node in self.nodes for name in node.input if name} - {self.front}


def stretch_behind(
    makers: Mapping[str, NodeProto], blob: str, fronts: Collection[str], others: Collection[str] = ()
) -> Stretch | None:
    """The stretch that makes a blob of the nearest of `fronts`; None where it is none, or of more than one of them.

    Args:
        makers: value -> the node that makes it.
        blob: what is made.
        fronts: where it may begin.
        others: operators that may be in it besides `POINTWISE`.
    """
    nodes, read = _made_of(makers, blob, fronts, others)
    return Stretch(nodes, read.pop(), blob) if len(read) == 1 else None


def stretches_behind(makers: Mapping[str, NodeProto], blob: str, fronts: Collection[str]) -> Iterator[Stretch]:
    """The same; of several of the fronts, each stretch that makes the blob of one of them alone.

    As `x * erf(x)` of x, where erf(x) is one of them, too.
    """
    nodes, read = _made_of(makers, blob, fronts)
    if len(read) == 1:
        yield Stretch(nodes, next(iter(read)), blob)
    else:
        yield from filter(None, (stretch_behind(makers, blob, {front}) for front in sorted(read)))


def _made_of(
    makers: Mapping[str, NodeProto], blob: str, fronts: Collection[str], others: Collection[str] = ()
) -> tuple[tuple[NodeProto, ...], set[str]]:
    """The nodes that make a blob of the nearest of some fronts, and those; nothing where other nodes do."""
    nodes: dict[str, NodeProto] = {}
    read: set[str] = set()

    def walk(name: str) -> bool:
        node = makers.get(name)
        if name in fronts and name != blob and (node is None or node.op_type != "Constant"):
            read.add(name)
        elif node is not None and name not in nodes:
            is_one = node.op_type in POINTWISE or node.op_type in others
            if node.domain not in STANDARD or not is_one or len(nodes) == LONGEST:
                return False
            nodes[name] = node
            if not all(map(walk, filter(None, node.input))):
                return False
            nodes[name] = nodes.pop(name)  # behind what it reads
        return True

    return (tuple(nodes.values()), read) if walk(blob) else ((), set())


def joints(makers: Mapping[str, NodeProto], inputs: Collection[str]) -> tuple[set[str], set[str]]:
    """The values that no pointwise node makes of one other, and of these the ones that no pointwise node makes.

    Args:
        makers: value -> the node that makes it.
        inputs: of the model.
    """
    made = {name for name, node in makers.items() if node.op_type != "Constant"} | {*inputs}
    others = {name for name, node in makers.items() if node.domain not in STANDARD or node.op_type not in POINTWISE}
    others.update(inputs)
    return others | {name for name, node in makers.items() if len(made.intersection(node.input)) > 1}, others


def stretch_up_to(makers: Mapping[str, NodeProto], blob: str, fronts: Sequence[Collection[str]]) -> Stretch:
    """The longest stretch that makes a blob of what one of some sets of values has; of no nodes where there is none."""
    found = (stretch_behind(makers, blob, known) for known in fronts)
    return next(filter(None, found), Stretch((), blob, blob))


def stretch_model(model: ModelProto, stretch: Stretch, stored: Mapping[str, Array], dtype: DType) -> ModelProto:
    """A model of a stretch of another one alone, whose blobs are of one type and any shape."""
    tensors = [numpy_helper.from_array(stored[name], name) for name in stretch.stored]
    front = helper.make_tensor_value_info(stretch.front, helper.np_dtype_to_tensor_dtype(dtype), None)
    graph = helper.make_graph(stretch.nodes, "stretch", [front], [ValueInfoProto(name=stretch.blob)], tensors)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)


def numbers_said(nodes: Iterable[NodeProto]) -> list[float]:
    """The floats among the attributes of some nodes."""
    return [one.f for node in nodes for one in node.attribute if one.type == AttributeProto.FLOAT]


def channels_of(stretch: Stretch, stored: Mapping[str, Array]) -> set[int]:
    """How many channels its BatchNormalizations have, which count them along axis 1."""
    scales = [node.input[1] for node in stretch.nodes if node.op_type == "BatchNormalization"]
    return {stored[name].size for name in scales if name in stored}


def shapes_of(stretch: Stretch, stored: Mapping[str, Array]) -> list[Shape]:
    """The shapes of what else broadcasts with its blob."""
    return [
        stored[name].shape
        for node in stretch.nodes
        if node.op_type != "BatchNormalization"
        for name in node.input
        if name in stored
    ]
