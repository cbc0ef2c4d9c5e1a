"""Arithmetic of two blobs that broadcast as in NumPy, which is how ONNX's operators broadcast too."""

from __future__ import annotations

from collections.abc import Mapping

from bnfold.caffe.layers.arithmetic import operands
from bnfold.onnx.export.builder import Block, LayerFunction


def _operator(name: str) -> LayerFunction:
    def function(block: Block) -> str:
        _, second = operands(block.layer, block.shapes)
        if len(block.bottoms) == 2:
            return block(name, *block.bottoms)
        if len(second) == block.rank and second[0] != 1:
            block.fixes_batch("its learned values lie along the batch")
        return block(name, block.bottom, block.learned(0, "operand"))

    function.__doc__ = f"{name} of two bottoms, or of a bottom and what was learned, broadcasting."
    return function


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Add": _operator("Add"),
    "Div": _operator("Div"),
    "Maximum": _operator("Max"),
    "Minimum": _operator("Min"),
    "Mul": _operator("Mul"),
    "Pow": _operator("Pow"),
    "Sub": _operator("Sub"),
}
