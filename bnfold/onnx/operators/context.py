"""What a function of these tables looks at: a node with what is known around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bnfold.algebra.frontend import FoldContext
from bnfold.net import Array, Layer, LazyArray, Net, Shape
from bnfold.onnx.node import RESHAPING, BottomInput, ConstantInput, Node
from bnfold.onnx.sizes import UNKNOWN, is_open

MAX_VALUES = 1 << 22
"""Values of a constant that is read as an affine; more are a table of data."""


class Unfit(Exception):
    """The node is none of what the laws know; the message says why."""


class NodeContext(NamedTuple):
    """A node with what is known around it.

    Attributes:
        layer: the layer, whose `param` is the node.
        fold: the net that is being folded, its shapes, and what the user asked for.
    """

    layer: Layer
    fold: FoldContext

    @property
    def node(self) -> Node:
        """What the node says."""
        node: Node = self.layer.param
        return node

    def bottom(self, index: int = 0) -> Shape:
        """The shape of a bottom as the file says it, without sizes that were given to read it. Raises Unfit.

        Sizes that the file leaves open are negative, as in `bnfold.onnx.shapes.Types`: a fold is right for all of them.
        """
        return self._stated(self.layer.bottoms, index)

    def top(self, index: int = 0) -> Shape:
        """The shape of a top, likewise."""
        return self._stated(self.layer.tops, index)

    @property
    def given(self) -> tuple[Shape, Shape]:
        """The shapes of the first bottom and the first top at the sizes that were given. Raises Unfit."""
        return self._shape(self.layer.bottoms, 0), self._shape(self.layer.tops, 0)

    def _stated(self, blobs: Sequence[str], index: int) -> Shape:
        shape, origin, source = self._shape(blobs, index), self.fold.net.origin, self.layer.source
        if origin.declared is origin.types:
            return shape
        named = blobs  # of a layer that a program has put in, as the model calls them
        if source is not None:
            named = source.bottoms if blobs is self.layer.bottoms else source.tops
        declared = origin.declared.shapes.get(named[index] if len(named) == len(blobs) else "", ())
        if len(declared) != len(shape):
            return (UNKNOWN,) * len(shape)
        return tuple(
            one if one in (size, min(one, UNKNOWN)) else UNKNOWN for one, size in zip(declared, shape, strict=True)
        )

    def _shape(self, blobs: Sequence[str], index: int) -> Shape:
        if index >= len(blobs):
            raise Unfit("it reads nothing but constants")
        shape = self.fold.shapes.get(blobs[index])
        if shape is None:
            raise Unfit(f"the shape of '{blobs[index]}' is unknown")
        return shape

    @property
    def element(self) -> int:
        """ONNX's number of the type of the first bottom; 0 where it is unknown."""
        number: int = self.fold.types.get(id(self.layer), (0, 0))[0]
        return number

    def data(self, index: int) -> int | None:
        """Which bottom an input of the node is, by the number of the input; None for a constant, or nothing."""
        slot = self.node.slots[index] if index < len(self.node.slots) else None
        return slot.index if isinstance(slot, BottomInput) else None

    def learned(self, index: int) -> Array | LazyArray | None:
        """The stored values of an input, if that is a constant of a float type."""
        constant = self.node.constant(index)
        return self.layer.blobs.stored[constant.blob] if constant is not None and constant.blob >= 0 else None

    def values(self, index: int) -> Array | None:
        """The values of an input that is a constant of any type; None where it is none."""
        constant = self.node.constant(index)
        if constant is None:
            return None
        return self.layer.blobs[constant.blob] if constant.blob >= 0 else constant.value

    def shape_of(self, index: int) -> Shape:
        """The shape of an input, be it data or a constant. Raises Unfit."""
        if (place := self.data(index)) is not None:
            return self.bottom(place)
        if (value := self.values(index)) is None:
            raise Unfit(f"the shape of its input {index} is unknown")
        return value.shape

    def integers(self, name: str, index: int, since: int, what: str) -> Sequence[int] | None:
        """Whole numbers that are an attribute, and since an opset an input; None where neither is given.

        Raises:
            Unfit: something computes them, `what` saying which they are.
        """
        if self.node.opset < since:
            return self.node.ints(name) if self.node.has(name) else None
        found = self.node.integers(index)
        if found is None and self.node.given(index):
            raise Unfit(f"{what} known only when it runs")
        return found

    def stated_integers(self, index: int) -> Sequence[int | None] | None:
        """Whole numbers of an input as the file says them, None for each that depends on a size that it leaves open."""
        origin, name = self.fold.net.origin, self.node.proto.input[index]
        values = origin.declared.sizes.get(name)
        if values is not None:
            return [None if is_open(one) else int(one) for one in values.reshape(-1)]
        return self.node.integers(index)

    def flag(self, name: str, default: bool) -> bool:
        """An attribute that is 0 or 1. Raises Unfit: it is another number, which programs take for either."""
        number = self.node.attribute(name, int(default))
        if number not in (0, 1):
            raise Unfit(f"its {name} is neither 0 nor 1")
        return bool(number)

    def axes(self, since: int, rank: int) -> list[int] | None:
        """The attribute `axes`, from the front, which is the second input since an opset. Raises Unfit."""
        written = self.integers("axes", 1, since, "its axes are")
        return None if written is None else [axis_of(axis, rank) for axis in written]

    @property
    def has_constant(self) -> bool:
        """Whether a constant stands among the inputs."""
        return any(isinstance(slot, ConstantInput) for slot in self.node.slots)

    @property
    def is_fixed(self) -> bool:
        """Whether what the node reads first is made of constants alone, or of initialisers that may be fed."""
        net, first = self.fold.net, self.data(0)
        waiting = [] if first is None else [self.layer.bottoms[first]]
        seen: set[str] = set()
        while waiting:
            blob = waiting.pop()
            if blob in seen or blob in net.origin.fed:
                continue
            seen.add(blob)
            maker = net.producer(blob)
            if maker is None or maker.type.startswith("Random"):
                return False
            waiting += maker.bottoms
        return True

    @property
    def works_on_data(self) -> bool:
        """Whether neither of two operands is a weight, be it one that may be fed or is quantised."""
        net, operands = self.fold.net, [self.data(0), self.data(1)]
        blobs = [self.layer.bottoms[index] for index in operands if index is not None]
        makers = [net.producer(blob) for blob in blobs if blob not in net.origin.fed]
        quantised = any(maker is not None and maker.type in QUANTISED for maker in makers)
        return len(makers) == len(operands) and not quantised and not any(dequantising(net, blob) for blob in blobs)

    def only_data(self) -> None:
        """Raises Unfit where a constant stands among the inputs."""
        if self.has_constant:
            raise Unfit("a constant stands among what it reads")


def why_unknown(context: NodeContext, index: int) -> str:
    """Why an input of a node has no values that are known."""
    slot = context.node.slots[index] if index < len(context.node.slots) else None
    if slot is None:
        return "is missing"
    if isinstance(slot, ConstantInput):
        return f"'{slot.name}' has no values that can be read here"
    return _why_data(context, context.layer.bottoms[slot.index])


def _why_data(context: NodeContext, blob: str) -> str:
    """Why something that one would expect to be constant is none."""
    net = context.fold.net
    if blob in net.origin.fed:
        return (
            f"'{blob}' is an initialiser that is listed as an input, too, so it may be fed; "
            "--freeze-initializers takes it as a constant"
        )
    maker = net.producer(blob)
    if maker is None:
        return f"'{blob}' is an input of the {context.fold.whole}"
    if maker.type in QUANTISED:
        return f"'{blob}' is quantised: it comes from {maker}"
    return f"'{blob}' is computed by {maker}"


def dequantising(net: Net, blob: str) -> list[Layer]:
    """The DequantizeLinear that a blob comes from and what stands behind that; none where others make it.

    What stands behind it moves, casts or multiplies. The numbers have to be constants then: else it is data.
    """
    way: list[Layer] = []
    while (maker := net.producer(blob)) is not None and maker.type in DEQUANTISED:
        way.insert(0, maker)
        if maker.type in DEQUANTISING:
            return way if len(way) == 1 or not maker.bottoms else []
        if maker.type in SCALING and (len(maker.bottoms) > 1 or (maker.type == "Div" and maker.param.constant(0))):
            return []  # data, or what is divided by the weight
        blob = maker.bottoms[0]
    return []


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises Unfit where there is no such axis."""
    if not -rank <= axis < rank:
        raise Unfit(f"it has an axis {axis}, and what it reads {rank} of them")
    return axis % rank


SCALING = frozenset({"Div", "Mul"})
"""What multiplies a weight by a constant."""
DEQUANTISING = frozenset({"DequantizeLinear", "com.microsoft.DequantizeLinear"})
"""`(q - zero)*scale`; onnxruntime's own is of types that the standard one took later, and takes axes at once."""
DEQUANTISED = DEQUANTISING | RESHAPING | SCALING | {"Cast", "Transpose"}
"""What a weight that is stored as numbers of a byte may come through."""
QUANTISED = DEQUANTISING | {"QuantizeLinear", "com.microsoft.QuantizeLinear"}
SAME = frozenset({"SAME_LOWER", "SAME_UPPER"})
