"""Arithmetic of two blobs that broadcast as in NumPy, which is how ONNX's operators broadcast too; and of matrices."""

from __future__ import annotations

from collections.abc import Mapping

from bnfold.caffe.layers.arithmetic import factors, operands
from bnfold.onnx.export.builder import Block, LayerFunction
from bnfold.onnx.export.forms import transpose


def _operator(name: str) -> LayerFunction:
    def function(block: Block) -> str:
        return block(name, *_both(block))

    function.__doc__ = f"{name} of two bottoms, or of a bottom and what was learned, broadcasting."
    return function


def _both(block: Block) -> tuple[str, str]:
    """The operands, the second a bottom or learned."""
    _, second = operands(block.layer, block.shapes)
    if len(block.bottoms) == 2:
        return block.bottoms[0], block.bottoms[1]
    if len(second) == block.rank and second[0] != 1:
        block.fixes_batch("its learned values lie along the batch")
    return block.bottom, block.learned(0, "operand")


def floor_division(block: Block) -> str:
    """`floor(x/y)`, or what that leaves of x, `x - floor(x/y)*y`: Div, Floor, Mul, Sub."""
    x, y = _both(block)
    whole = block("Floor", block("Div", x, y))
    return whole if block.layer.type == "FloorDiv" else block("Sub", x, block("Mul", whole, y))


def matmul(block: Block) -> str:
    """The product of the last two axes, each transposed or not: Transpose, MatMul."""
    param, (_, second) = block.layer.param.matmul_param, factors(block.layer, block.shapes)
    if len(block.bottoms) == 1 and len(second) > 2 and second[0] != 1:
        block.fixes_batch("its learned values lie along the batch")
    x, y = block.bottom, block.bottoms[1] if len(block.bottoms) == 2 else block.learned(0, "operand")
    if param.transpose_a:
        x = transpose(block, x, _turned(block.rank), "a")
    return block("MatMul", x, transpose(block, y, _turned(len(second)), "b") if param.transpose_b else y)


def _turned(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def gemm(block: Block) -> str:
    """`alpha*a*b + beta*c`, the first two transposed or not: Gemm."""
    param = block.layer.param.gemm_param
    if param.transA:
        block.fixes_batch("it sums over the batch")
    numbers = {"alpha": float(param.alpha), "beta": float(param.beta), "transA": param.transA, "transB": param.transB}
    return block("Gemm", *block.bottoms, **numbers)


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Add": _operator("Add"),
    "Div": _operator("Div"),
    "FloorDiv": floor_division,
    "FloorMod": floor_division,
    "Gemm": gemm,
    "MatMul": matmul,
    "Maximum": _operator("Max"),
    "Minimum": _operator("Min"),
    "Mul": _operator("Mul"),
    "Pow": _operator("Pow"),
    "Sub": _operator("Sub"),
}
