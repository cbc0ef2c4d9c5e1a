"""A model that tells where its nodes give something else as soon as what they read is a little larger.

Given:   a -> Relu -> r          Result:  the same, and     a -> Mul 1.01 -> Relu -> differs from r? -> r@0@nudged
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

NUDGE = 1.01
NUDGED = "@nudged"  # what a tensor of flags adds to the name of the node's output


class Operand(NamedTuple):
    """What a node reads at a place among its inputs; or an attribute of floats by its name."""

    node: NodeProto
    place: int | str

    @property
    def flags(self) -> str:
        """The tensor that says where the node gives something else."""
        return f"{self.node.output[0]}@{self.place}{NUDGED}"


def nudged(model: ModelProto, operands: Iterable[Operand], dtype: str) -> ModelProto:
    """The model with the flags of some operands as further tensors, of bools in the shape of what the node gives.

    Args:
        model: its own message is not changed.
        operands: each is made larger by itself.
        dtype: of what they are, by its name.
    """
    grown = deepcopy(model)
    factor = NUDGED + "@factor"
    grown.graph.initializer.append(numpy_helper.from_array(np.asarray(NUDGE, np.dtype(dtype)), factor))
    for operand in operands:
        node, flags = deepcopy(operand.node), operand.flags
        node.name = flags + "@node"
        for place, name in enumerate(node.output):
            node.output[place] = f"{name}{flags}" if name else ""
        if isinstance(operand.place, int):
            larger = flags + "@larger"
            grown.graph.node.append(helper.make_node("Mul", [node.input[operand.place], factor], [larger]))
            node.input[operand.place] = larger
        else:
            for attribute in node.attribute:
                attribute.f *= NUDGE if attribute.name == operand.place else 1
        difference = flags + "@difference"
        grown.graph.node.append(node)
        grown.graph.node.append(helper.make_node("Sub", [node.output[0], operand.node.output[0]], [difference]))
        grown.graph.node.append(helper.make_node("Cast", [difference], [flags], to=TensorProto.BOOL))
        grown.graph.output.append(ValueInfoProto(name=flags))
    return grown
