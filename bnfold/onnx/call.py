"""A node of an expression with the values that it reads, as far as they are known before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onnx import AttributeProto, NodeProto

from bnfold.net import Array, DType, Shape
from bnfold.onnx.node import T, attribute_of


class NotConstant(Exception):
    """This expression is not computed here."""


@dataclass(slots=True, eq=False)
class Call:
    """One node of an expression, with the values that it reads.

    Attributes:
        node: the node.
        opset: the version of the standard operators.
        inputs: the value at each place, None where nothing is given or it is no constant.
        shapes: the shape at each place, None where it is unknown.
        types: the element type at each place, None where it is unknown.
        output: the place of the output that is meant.
        attributes: what the node says, by name.
    """

    node: NodeProto
    opset: int
    inputs: Sequence[Array | None]
    shapes: Sequence[Shape | None] = ()
    types: Sequence[DType | None] = ()
    output: int = 0
    attributes: dict[str, AttributeProto] = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = {attribute.name: attribute for attribute in self.node.attribute}

    def attribute(self, name: str, default: T) -> T:
        """An attribute's value, of the default's type."""
        return attribute_of(self.attributes.get(name), default)

    def __getitem__(self, place: int) -> Array:
        value = self.value(place)
        if value is None:
            raise NotConstant
        return value

    def value(self, place: int) -> Array | None:
        """The value at a place; None where nothing is given, or it is no constant."""
        return self.inputs[place] if place < len(self.inputs) else None

    def shape(self, place: int = 0) -> Shape | None:
        """The shape at a place; None where nothing is given, or it is unknown."""
        return self.shapes[place] if place < len(self.shapes) else None

    def given(self, place: int) -> bool:
        """Whether anything stands at a place."""
        return place < len(self.node.input) and self.node.input[place] != ""

    def numbers(self, place: int, attribute: str = "", default: Sequence[int] | None = None) -> list[int]:
        """Whole numbers that newer operators take as an input and older ones as an attribute."""
        if self.given(place):
            return [int(value) for value in self[place].reshape(-1)]
        written = self.attribute(attribute, ()) if attribute else ()
        if not written and default is None:
            raise NotConstant
        return list(written or default or ())
