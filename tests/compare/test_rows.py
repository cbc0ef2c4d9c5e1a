"""What computes each row of its batch by itself is run with no other number of rows, and all else is."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto
from onnx_cases import Array
from onnx_texts import model, values

from bnfold import compare
from bnfold.compare.models import open_model
from bnfold.compare.rows import ROWWISE, rows_alone
from bnfold.runtime import Session

ROW, IMAGE = "float[n,4,6] x", "float[n,4,6,6] x"
K, ONES = values(6), {"k": np.ones(1, np.float32)}
ZERO, ONE, FIRST = (np.array([number]) for number in (0, 1, -3))
SHAPE = "s = Shape (x) f = Gather (s, zero) z = Concat <axis = 0> (f, rest)"


def made(inputs: str, body: str, opset: int = 17, **constants: Array) -> ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => (float[q] y)'
    found = model(f"{head} {{ {body} }}", **constants)
    whole = {"ArgMax", "ArgMin"}.intersection(node.op_type for node in found.graph.node)
    found.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64 if whole else TensorProto.FLOAT
    found.graph.output[0].type.tensor_type.ClearField("shape")
    return found


UNARY = (
    *("Abs", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Softplus"),
    *("Softsign", "Sqrt", "Tanh", "ThresholdedRelu", "Hardmax", "LogSoftmax", "LpNormalization", "Softmax", "Dropout"),
    *("Flatten", "ArgMax <axis = 1>", "ArgMin <axis = -1>", "Unsqueeze <axes = [1]>", "Mean", "Max", "Sum"),
)
IMAGES = (
    *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LRN <size = 3>", "DepthToSpace <blocksize = 2>"),
    *("SpaceToDepth <blocksize = 2>", "AveragePool <kernel_shape = [2, 2]>", "MaxPool <kernel_shape = [2, 2]>"),
    *("LpPool <kernel_shape = [2, 2]>", "Transpose <perm = [0, 3, 1, 2]>"),
)
ALONE = [
    *(made(ROW, f"y = {one} (x)", 12 if "Unsqueeze" in one else 17) for one in UNARY),
    *(made(IMAGE, f"y = {one} (x)") for one in IMAGES),
    *(made(ROW, f"y = {one} (x, k)", k=K) for one in ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")),
    *(
        made(ROW, f"c = {one} (x, k) y = Where (c, x, k)", k=K)
        for one in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    *(
        made(ROW, f"b = Cast <to = 9> (x) c = Less (x, k) d = {one} (b, c) e = Not (d) y = Cast <to = 1> (e)", k=K)
        for one in ("And", "Or", "Xor")
    ),
    *(made(ROW, f"c = {one} (x) y = Cast <to = 1> (c)") for one in ("IsInf", "IsNaN")),
    *(
        made(ROW, f"y = {one} <axes = [1, -1]> (x)")
        for one in ROWWISE
        if one.startswith("Reduce") and one != "ReduceSum"
    ),
    made(ROW, "y = ReduceSum (x, a)", a=ONE),
    made(ROW, "y = Mod <fmod = 1> (x, k)", k=K),
    made(ROW, "y = Gelu (x)", 20),
    made(ROW, "y = Mish (x)", 18),
    made(ROW, "y = RMSNormalization (x, k)", 23, k=K),
    made(ROW, "y = LayerNormalization (x, k)", k=K),
    made(IMAGE, "y = GroupNormalization <num_groups = 2> (x, k, k)", 21, k=values(4)),
    made(IMAGE, "y = InstanceNormalization (x, k, k)", k=values(4)),
    made(IMAGE, "y = BatchNormalization (x, k, k, k, v)", k=values(4), v=np.abs(values(4))),
    made(IMAGE, "y = Conv (x, k)", k=values(3, 4, 3, 3)),
    made(IMAGE, "y = ConvTranspose (x, k)", k=values(4, 3, 3, 3)),
    made(
        IMAGE, "q = Cast <to = 2> (x) i = ConvInteger (q, k) y = Cast <to = 1> (i)", k=np.ones((3, 4, 3, 3), np.uint8)
    ),
    made(IMAGE, "y = Pad (x, a)", a=np.array([0, 0, 1, 1, 0, 0, 1, 1])),
    made(IMAGE, 'y = Resize <mode = "linear"> (x, , k)', k=np.array([1, 1, 2, 2], np.float32)),
    made(IMAGE, f'{SHAPE} y = Resize <mode = "linear"> (x, , , z)', zero=ZERO, rest=np.array([4, 9, 12])),
    made(IMAGE, "y = Upsample (x, k)", 9, k=np.array([1, 1, 2, 2], np.float32)),
    made(ROW, f"{SHAPE} y = Reshape (x, z)", zero=ZERO, rest=np.array([-1])),
    made(ROW, "y = Reshape (x, k)", k=np.array([-1, 3, 8])),
    made(ROW, "y = Reshape (x, k)", k=np.array([0, -1])),
    made("float[n,1,6] x", "y = Squeeze (x, a)", a=ONE),
    made(ROW, "a, b = Split <axis = 1> (x) y = Concat <axis = -1> (b, a)"),
    made(ROW, "y = Slice (x, a, b, a)", a=ONE, b=np.array([3])),
    made(ROW, "y, i = TopK (x, k)", k=ONE),
    made(ROW, "y = Gather <axis = 1> (x, k)", k=np.array([2, 0])),
    made("int64[n,3] x", "y = Gather (k, x)", k=values(9, 4)),
    made(ROW, "y = MatMul (x, k)", k=values(6, 3)),
    made(ROW, "t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, t)"),
    made(ROW, "y = MatMul (k, x)", k=values(3, 4)),
    made("float[n,6] x", "y = Gemm (x, k, c)", k=values(6, 3), c=values(3)),
    made(ROW, "q = QuantizeLinear (x, k) y = DequantizeLinear (q, k)", k=np.array(0.1, np.float32)),
]
MIXED = [
    made(ROW, "y = Add (x, k)", k=values(3, 1, 1)),
    made(ROW, "y = Sum (x, k)", k=values(1, 3, 4, 6)),
    made(ROW, "m = ReduceMax <axes = [1, 2], keepdims = 0> (x) y = Mul (x, m)"),
    *(made(ROW, f"y = {one} <axis = {axis}> (x)") for one in ("Softmax", "ArgMax", "Hardmax") for axis in (0, -3)),
    made(ROW, "y = ReduceMean <axes = [0]> (x)"),
    made(ROW, "y = ReduceMax (x)"),
    made(ROW, "y = ReduceSum (x, a)", a=FIRST),
    made(ROW, "y = Concat <axis = 0> (x, x)"),
    made(ROW, "y = Transpose <perm = [1, 0, 2]> (x)"),
    made(ROW, "y = Transpose (x)"),
    made(ROW, "y = Reshape (x, k)", k=np.array([-1, 6])),
    made(ROW, "y = Reshape (x, k)", k=np.array([3, -1])),
    made(ROW, "y = Squeeze (x)"),
    made(ROW, "y = CumSum (x, a)", a=np.array(0)),
    made(ROW, "s = Shape (x) c = Cast <to = 1> (s) m = ReduceMax (c) y = Div (x, m)"),
    made(ROW, f"{SHAPE} o = ConstantOfShape (z) y = Add (x, o)", zero=ZERO, rest=np.array([4, 6])),
    made(ROW, "y = Slice (x, a, b, a)", a=ZERO, b=np.array([2])),
    made(ROW, "q, s, z = DynamicQuantizeLinear (x) y = DequantizeLinear (q, s, z)"),
    made(ROW, "y = LSTM <hidden_size = 3> (x, k, r)", k=values(1, 12, 6), r=values(1, 12, 3)),
    made(IMAGE, "y = MeanVarianceNormalization (x)"),
    made(IMAGE, "p, y = MaxPool <kernel_shape = [2, 2]> (x)"),
    made(IMAGE, "y = Resize (x, , k)", k=np.array([2, 1, 1, 1], np.float32)),
    made(IMAGE, "y = Pad (x, a)", a=np.array([0, 0, 1, 1, 1, 0, 1, 1])),
    made("float[n,6] x", "y = Gemm <transA = 1> (x, k)", k=values(3, 3)),
    made("float[n,6] x", "y = MatMul (k, x)", k=values(3, 3)),
    made("float[n,6] x", "m = MatMul (x, k) y = Add (m, c)", k=values(6, 3), c=values(3, 3)),
    made(ROW, "y = Add <axis = 0, broadcast = 1> (x, k)", 6, k=values(3)),
]


@pytest.mark.parametrize("network", ALONE, ids=lambda one: "-".join(node.op_type for node in one.graph.node))
def test_each_row_of_many_is_what_it_is_by_itself(network: ModelProto) -> None:
    assert rows_alone(open_model(network, "reference"))
    session = Session(network)
    ((name, port),) = session.inputs.items()
    shape = (7, *(size or 1 for size in port.shape[1:]))
    random = np.random.default_rng(0)
    given = random.integers(9, size=shape) if port.dtype.kind == "i" else random.uniform(0.5, 3, shape)
    given = given.astype(port.dtype)
    together = session.run({name: given})["y"]
    apart = [session.run({name: given[row : row + 1]})["y"] for row in range(7)]
    assert np.allclose(together, np.concatenate(apart), rtol=1e-6, atol=1e-6)


def test_each_operator_is_tried() -> None:
    assert {node.op_type for network in ALONE for node in network.graph.node} >= ROWWISE.keys()


@pytest.mark.parametrize("network", MIXED, ids=lambda one: "-".join(node.op_type for node in one.graph.node))
def test_what_may_tell_rows_apart_is_known_to(network: ModelProto) -> None:
    assert not rows_alone(open_model(network, "reference"))


def test_no_other_number_of_rows_is_run_where_each_is_computed_by_itself() -> None:
    alone, mixed = made(ROW, "y = Relu (x)"), made(ROW, "m = ReduceMax <axes = [0]> (x) y = Sub (x, m)")
    assert not [gate for gate in compare(alone, alone).gates if gate.name == "sizes"]
    assert [gate for gate in compare(mixed, mixed).gates if gate.name == "sizes"]
    assert [gate for gate in compare(alone, made(ROW, "r = Relu (x) y = Squeeze (r)")).gates if gate.name == "sizes"]
