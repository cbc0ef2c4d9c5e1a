"""Whether a model could keep onnxruntime busy for ever, or take its process along.

Nearly all operators do a bounded amount of work and answer what they cannot do with an error. The others, and sizes at
which even those divide by zero, are for a process of their own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from bnfold.onnx.node import STANDARD, bodies

MAX_SIZE = 1 << 31
SIZES = frozenset(
    {"block_size", "blocksize", "dilations", "group", "kernel_shape", "output_shape", "pooled_shape", "strides"}
)
DIVIDING = frozenset({"Div", "Mod", "SplitToSequence"})
WRITING_ALL = frozenset({"BatchNormalization", "Split"})
"""Operators whose every output onnxruntime writes, one without a name too, of which it dies."""
# Einsum is not among them: where a letter of both factors and the result has the size 0, onnxruntime divides by it.
# Nor are MatMulInteger, QLinearConv, QLinearMatMul and ReverseSequence: of each onnxruntime 1.32 dies at some sizes.
FAMILIES = {
    "one element for one": (
        "Abs Acos Acosh Asin Asinh Atan Atanh Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Dropout Elu "
        "Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu "
        "QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan "
        "Tanh ThresholdedRelu"
    ),
    "blobs that broadcast": (
        "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where Xor"
    ),
    "products with weights": "Conv ConvInteger ConvTranspose GRU Gemm LSTM MatMul RNN",
    "windows and regions": (
        "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LRN LpPool MaxPool MaxRoiPool Resize RoiAlign "
        "Upsample"
    ),
    "normalisations": (
        "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization LogSoftmax "
        "LpNormalization MeanVarianceNormalization RMSNormalization Softmax"
    ),
    "along some axes": (
        "ArgMax ArgMin CumSum DynamicQuantizeLinear Hardmax NonMaxSuppression ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK"
    ),
    "data moved": (
        "Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Pad Reshape ScatterElements ScatterND "
        "SequenceAt Slice SpaceToDepth Split SplitToSequence Squeeze Tile Transpose Trilu Unsqueeze"
    ),
    "bodies that are looked at, too": "If",
    "made of sizes": "Constant ConstantOfShape NonZero OneHot Range SequenceLength Shape Size",
}
"""Operators whose work their inputs' sizes bound."""
BOUNDED = frozenset(name for names in FAMILIES.values() for name in names.split())


def needs_own_process(model: ModelProto) -> bool:
    """Whether some operator may not end, or may end the process."""
    return _is_risky(model.graph, {}, frozenset())


def _is_risky(graph: GraphProto, around: Mapping[str, int], dividing: Collection[str]) -> bool:
    """The same of a graph.

    Args:
        graph: a model's, or a body.
        around: name -> element type, of what the graphs around it make.
        dividing: of these, the constants that anything may be divided by.
    """
    kinds = {port.name: port.type.tensor_type.elem_type for port in graph.input}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    constants = {tensor.name for tensor in graph.initializer if _divides(tensor)}
    own = kinds.keys() | {name for node in graph.node for name in node.output}
    kinds = {**around, **kinds}
    constants |= {name for name in dividing if name not in own}
    for node in graph.node:
        if node.domain not in STANDARD or node.op_type not in BOUNDED:
            return True
        if any(_strange(attribute) for attribute in node.attribute):
            return True
        if node.op_type in WRITING_ALL and not all(node.output):
            return True
        if node.op_type in DIVIDING and len(node.input) > 1 and node.input[1] not in constants:
            divisor = kinds.get(node.input[1], 0)
            if divisor not in FLOATS:
                return True
        if node.op_type == "Constant" and all(map(_constant_divides, node.attribute)):
            constants.update(node.output)
        if any(_is_risky(body, kinds, constants) for body in bodies(node)):
            return True
        for place, name in enumerate(node.output):
            kinds[name] = _kind(node, place, kinds)
    return False


def _kind(node: NodeProto, place: int, kinds: dict[str, int]) -> int:
    """The element type of an output, 0 where it is not known."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Cast":
        return attributes["to"].i if "to" in attributes else 0
    if node.op_type in COUNTING or (place == 1 and node.op_type in {"MaxPool", "TopK"}):
        return TensorProto.INT64
    if node.op_type in ASKING or (place == 1 and node.op_type == "Dropout"):
        return TensorProto.BOOL
    if node.op_type in {"Constant", "ConstantOfShape"}:
        if "value" in attributes:
            return attributes["value"].t.data_type
        return TensorProto.FLOAT if node.op_type == "ConstantOfShape" or "value_float" in attributes else 0
    if node.op_type == "DynamicQuantizeLinear":
        return TensorProto.FLOAT if place == 1 else TensorProto.UINT8
    giver = GIVERS.get(node.op_type, 0)
    return kinds.get(node.input[giver], 0) if len(node.input) > giver else 0


def _strange(attribute: AttributeProto) -> bool:
    """Whether it is a size that none can have."""
    sizes = [attribute.i] if attribute.type == AttributeProto.INT else list(attribute.ints)
    return attribute.name in SIZES and not all(0 < size < MAX_SIZE for size in sizes)


def _divides(tensor: TensorProto) -> bool:
    """Whether anything may be divided by it: the least integer not by -1, and none by 0."""
    if tensor.data_type in FLOATS:
        return True
    if math.prod(tensor.dims) > 1 << 20 or tensor.external_data:
        return False
    try:
        array = numpy_helper.to_array(tensor)
    except ValueError:  # more or fewer values than it has: onnxruntime says so
        return False
    return array.dtype.kind in "iu" and bool((array > 0).all())


def _constant_divides(value: AttributeProto) -> bool:
    """The same of what a Constant gives."""
    if value.type == AttributeProto.TENSOR:
        return _divides(value.t)
    return all(size > 0 for size in ([value.i] if value.type == AttributeProto.INT else value.ints))


ASKING = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)
COUNTING = frozenset({"ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "SequenceLength", "Shape", "Size"})
GIVERS = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "QuantizeLinear": 2, "Where": 1}
"""Operator -> which input its output has the type of, if that is not the first."""
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
