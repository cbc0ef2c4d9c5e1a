"""What exporters write as small expressions comes out as onnxruntime computes it, or is not computed at all."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper, parser
from onnx_cases import Array, run
from onnx_models import model

import bnfold
from bnfold.onnx.call import Call
from bnfold.onnx.constants import compute
from bnfold.onnx.referenced import REFERENCED

X = np.array([[[1, -2, 3], [-4, 5, -6]]], np.float32)
LAST, FIRST = 2**63 - 1, -(2**63)

COMPUTED: dict[str, list[list[int]]] = {
    "y = Flatten <axis = -1> (x)": [],
    "y = Flatten <axis = -3> (x)": [],
    "y = Flatten <axis = 0> (x)": [],
    "y = Flatten <axis = 3> (x)": [],
    "y = ReduceL2 <keepdims = 0> (x, a)": [[]],
    "y = ReduceMean (x, a)": [[1]],
    "y = ReduceMean <keepdims = 0> (x, a)": [[1, 0]],
    "y = ReduceSum (x, a)": [[-1, 1]],
    "y = ReduceSum <keepdims = 0> (x, a)": [[]],
    "y = ReduceSum (x)": [],
    "y = Slice (x, s, e, a, t)": [[0, LAST], [LAST, FIRST], [1, -1], [1, -2]],
    "y = Slice (x, s, e, a)": [[0], [2**31 - 1], [0]],
    "y = Squeeze (x)": [],
    "y = Squeeze (x, a)": [[0]],
    "y = Tile (x, r)": [[2, 1, 3]],
    "y = Unsqueeze (x, a)": [[-1, 0]],
}
"""Expression -> the whole numbers that it reads."""

LEFT: dict[str, list[list[int]]] = {
    "y = ReduceL2 <noop_with_empty_axes = 1> (x, a)": [[]],
    "y = Slice (x, s, e, a, t)": [[-1], [LAST], [2], [-1]],
    "y = Slice (x, s, e, a, u)": [[-1], [2**31 - 1], [2], [-2]],
    "y = Squeeze (x, a)": [[]],
}
"""What runtimes, or onnx and onnxruntime, read in two ways."""


def call_of(expression: str, read: list[list[int]]) -> Call:
    values: list[Array] = [X, *(np.array(one, np.int64) for one in read)]
    types = [value.dtype for value in values]
    return Call(parser.parse_node(expression), 18, values, [value.shape for value in values], types)


def both_of(expression: str, read: list[list[int]]) -> tuple[Array | None, Array]:
    """What is computed, and what onnxruntime computes."""
    call = call_of(expression, read)
    node, values = call.node, [value for value in call.inputs if value is not None]
    types = [TensorProto.FLOAT] + [TensorProto.INT64] * len(read)
    names = list(node.input)
    ports = [helper.make_tensor_value_info(*port) for port in zip(names, types, map(np.shape, values), strict=True)]
    graph = helper.make_graph([node], "one", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return compute(call), run(model, dict(zip(names, values, strict=True)))["y"]


@pytest.mark.parametrize("expression", COMPUTED)
def test_an_expression_is_what_onnxruntime_makes_of_it(expression: str) -> None:
    found, expected = both_of(expression, COMPUTED[expression])
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("expression", "opset"),
    [
        ("a, b, c = Split <axis = -1> (x, sizes)", 13),
        ("a, b = Split <axis = 1> (x)", 13),
        ("a, b = Split <axis = 2, split = [2, 1]> (x)", 11),
        ("a, b = Split <axis = 2, num_outputs = 2> (x)", 18),
    ],
)
def test_each_part_of_a_constant_is_what_onnxruntime_makes_of_it(expression: str, opset: int) -> None:
    node, sizes = parser.parse_node(expression), np.array([1, 0, 2])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(sizes, "sizes")],
    )
    made = run(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), {"x": X})
    for place, name in enumerate(node.output):
        found = compute(Call(node, opset, [X, sizes][: len(node.input)], output=place))
        assert found is not None
        np.testing.assert_array_equal(found, made[name])


@pytest.mark.parametrize("expression", LEFT)
def test_what_runtimes_read_in_two_ways_is_not_computed(expression: str) -> None:
    found, _ = both_of(expression, LEFT[expression])
    assert found is None


def test_a_mean_of_whole_numbers_is_not_computed() -> None:
    """It is cut to a whole number by some runtimes and rounded by others."""
    assert compute(Call(parser.parse_node("y = ReduceMean (x)"), 18, [X.astype(np.int64)])) is None


INTEGERS, REALS = np.array([[6, -7, 8]]), np.array([1.5, -2.5], np.float32)

# The expression, what it reads where runtimes have no value or disagree, what it reads where they agree, and on what.
WITHOUT_VALUE: list[tuple[str, list[Array], list[Array], list[object]]] = [
    ("y = Add (x, z)", [INTEGERS, np.array([2], np.int32)], [INTEGERS, np.array([2])], [[8, -5, 10]]),
    ("y = Cast <to = 2> (x)", [np.array([255.0, 256.0])], [np.array([255.0, 0.5])], [255, 0]),
    ("y = Cast <to = 3> (x)", [np.array([-129.0])], [np.array([-128.0])], [-128]),
    ("y = ConstantOfShape (x)", [np.array([2, -1])], [np.array([2, 1])], [[0], [0]]),
    ("y = Div (x, z)", [INTEGERS, np.array([[4, 0, 1]])], [INTEGERS, np.array([[4, 4, -3]])], [[1, -1, -2]]),
    ("y = Gather <axis = 1> (x, z)", [INTEGERS, np.array([3])], [INTEGERS, np.array([2])], [[8]]),
    ("y = Gather <axis = 1> (x, z)", [INTEGERS, np.array([-4])], [INTEGERS, np.array([-3])], [[6]]),
    ("y = Mod (x, z)", [REALS, REALS], [INTEGERS, np.array([4])], [[2, 1, 0]]),
    ("y = Mod (x, z)", [INTEGERS, np.array([0])], [INTEGERS, np.array([-4])], [[-2, -3, 0]]),
    ("y = Mod <fmod = 1> (x, z)", [INTEGERS, np.array([4], np.int32)], [INTEGERS, np.array([4])], [[2, -3, 0]]),
    (
        "y = Range (a, b, c)",
        [np.array(one) for one in (0.5, 3.0, 1.0)],
        [np.array(one) for one in (1, 6, 2)],
        [1, 3, 5],
    ),
    (
        "y = Range (a, b, c)",
        [np.array(one, np.float32) for one in (2**24, 2**24 + 4, 1)],
        [np.array(one, np.float32) for one in (4, -3, -2)],
        [4, 2, 0, -2],
    ),
    ("y = Unsqueeze (x, a)", [INTEGERS, np.array([3])], [INTEGERS, np.array([2])], [[[6], [-7], [8]]]),
    ("y = Unsqueeze (x, a)", [INTEGERS], [INTEGERS, np.array([0])], [[[6, -7, 8]]]),
    (
        "y = Where (c, x, z)",
        [INTEGERS > 0, INTEGERS, np.array([2], np.int32)],
        [INTEGERS > 0, INTEGERS, np.array([2])],
        [[6, 2, 8]],
    ),
]


@pytest.mark.parametrize(("expression", "without", "given", "expected"), WITHOUT_VALUE)
def test_an_expression_without_one_value_is_not_computed(
    expression: str, without: list[Array], given: list[Array], expected: list[object]
) -> None:
    node = parser.parse_node(expression)
    assert compute(Call(node, 18, without)) is None
    found = compute(Call(node, 18, given))
    assert found is not None
    np.testing.assert_array_equal(found, np.array(expected))


@pytest.mark.parametrize("target", [TensorProto.STRING, TensorProto.UNDEFINED])
def test_a_cast_to_no_numbers_is_not_computed(target: int) -> None:
    assert compute(Call(helper.make_node("Cast", ["x"], ["y"], to=target), 18, [X])) is None


def test_a_constant_of_text_or_with_zeros_left_out_is_not_computed() -> None:
    text = TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"1"])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(X[0, 0], "v"), numpy_helper.from_array(np.arange(3)), [4]
    )
    for said in ({"value": text}, {"sparse_value": sparse}, {"value_string": b"1"}):
        assert compute(Call(helper.make_node("Constant", [], ["y"], **said), 18, [])) is None


NORM = "(x, gamma, beta, mean, variance)"
ONE_BY_ONE = """Acos Acosh Asin Asinh Atan Atanh Celu Cosh Elu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Mish Selu
Shrink Sinh Softsign Tan"""
MADE_OF_WEIGHTS = {
    "y = Clip (x, low, high)": 18,
    "y = Clip (x, , high)": 11,
    "y = Clip (x, high, low)": 18,
    "y = MatMul (matrix, matrix)": 18,
    "y = MatMul (matrix, gamma)": 18,
    "y = MatMul (gamma, beta)": 18,
    "y = DequantizeLinear (q, scale, zero)": 13,
    "y = DequantizeLinear <axis = 0> (q, variance)": 13,
    "y = DequantizeLinear <axis = 0> (long, variance)": 13,
    "y = DequantizeLinear <axis = 0> (q, half)": 19,
    "y = Exp (x)": 18,
    "y = Relu (x)": 18,
    "y = Sigmoid (x)": 18,
    "y = Sign (x)": 18,
    "y = Softmax (x)": 18,
    "y = Softmax <axis = 1> (x)": 13,
    "y = Tanh (x)": 18,
    "y = ReduceProd <keepdims = 0> (x)": 18,
    "y = ReduceL1 (x)": 18,
    "y = ReduceMax <keepdims = 0> (x)": 18,
    "y = ReduceMin <axes = [1]> (x)": 13,
    "y = ReduceSumSquare <axes = [-1]> (x)": 13,
    "y = Cos (x)": 18,
    "y = Log (variance)": 18,
    "y = Mean (gamma, beta, mean)": 18,
    "y = Mean (low, x)": 8,
    "y = Round (halves)": 18,
    "y = Sin (x)": 18,
    "y = Softplus (x)": 18,
    "y = Sum (high, gamma, beta)": 18,
    "y = MatMul (x, stack)": 18,
    "y = Dropout (x)": 18,
    "y, m = Dropout (x, share, off)": 13,
    "y = Erf (x)": 13,
    "y = Gemm <transA = 1, alpha = 0.5> (matrix, matrix, gamma)": 13,
    'y = Einsum <equation = "or, ri -> oi"> (matrix, matrix)': 13,
    **dict.fromkeys((f"y = {name} (parts)" for name in ONE_BY_ONE.split()), 18),
    **{f"y = {name} (x, low)": 16 for name in ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "PRelu"]},
    **{f"y = {name} (flags, off)": 16 for name in ("And", "Or", "Xor")},
    "y = CumSum <exclusive = 1, reverse = 1> (x, last)": 14,
    'y = DepthToSpace <blocksize = 2, mode = "CRD"> (planes)': 13,
    "y = SpaceToDepth <blocksize = 2> (wide)": 13,
    "y = EyeLike <k = 1> (matrix)": 13,
    "y = GatherND (x, place)": 13,
    "y = GatherND (stack, spots)": 13,
    "y = ScatterND (x, place, low2)": 18,
    "y = ScatterND (x, spots, mean)": 13,
    'y = Gelu <approximate = "tanh"> (parts)': 20,
    "y = LpNormalization <axis = 1, p = 1> (x)": 13,
    "y = LpNormalization (nought)": 13,
    "y = Not (flags)": 13,
    "y = ArgMax <axis = 2, select_last_index = 1> (ties)": 13,
    "y = ArgMin <axis = -1, keepdims = 0> (ties)": 13,
    "y = Compress (matrix, flags)": 11,
    "y = Compress <axis = 1> (ties, flags)": 11,
    "y = GatherElements <axis = 1> (ties, spots2)": 13,
    "y = NonZero (ties)": 13,
    "y = OneHot <axis = 0> (place, depth, two2)": 11,
    "y = ScatterElements <axis = -1> (ties, spots3, ones)": 13,
    "y, i = TopK <axis = 2> (ties, count)": 11,
    "z, y = TopK <axis = 1, largest = 0> (ties, count)": 11,
    'y = Pad <mode = "reflect"> (x, pads)': 13,
    "y = Pad (x, two, high, axis)": 18,
    "y = ThresholdedRelu <alpha = 2.0> (x)": 13,
    "y = Trilu <upper = 0> (x)": 14,
    f"y = BatchNormalization <epsilon = 0.01> {NORM}": 18,
    f"y, m, v = BatchNormalization <epsilon = 0.01, training_mode = 1> {NORM}": 14,
}
"""Expression -> the opset."""
WEIGHTS: dict[str, Array] = {
    "x": X,
    "low": np.array(-2.5, np.float32),
    "high": np.array(3.5, np.float32),
    "q": np.array([-128, 77], np.int8),
    "long": np.array([123456789, -5], np.int32),
    "scale": np.array(0.3, np.float32),
    "half": np.array([0.3, 0.7], np.float16),
    "zero": np.array(-3, np.int8),
    "matrix": np.array([[1, 2], [-3, 0.5]], np.float32),
    "stack": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
    "flags": np.array([True, False, True]),
    "off": np.array(False),
    "last": np.array(-1, np.int64),
    "planes": np.arange(24, dtype=np.float32).reshape(1, 8, 1, 3),
    "wide": np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6),
    "parts": np.array([-1, -0.75, 0, 0.25, 1, 3, np.inf, np.nan], np.float32),
    "place": np.array([[0, 1]]),
    "spots": np.array([[0, 1, 0], [0, -2, -1]]),
    "twice": np.array([[0, 1, 0], [-1, -1, -3]]),
    "low2": np.array([[5, 6, 7]], np.float32),
    "pads": np.array([0, 1, 2, 0, 0, 1]),
    "axis": np.array([2]),
    "share": np.array(0.5, np.float32),
    "nought": np.array([[3, -4], [0, 0]], np.float32),
    "two": np.array([1, 2]),
    "ties": np.array([[[3, 0, 3, -1], [0, 2, 0, 2], [3, 2, -1, -1]]], np.float32),
    "spots2": np.array([[[0, 2, -1, 1], [1, 0, -2, 2]]]),
    "spots3": np.array([[[0, 2, -1, 1], [1, 0, -2, 3]]]),
    "depth": np.array(3),
    "two2": np.array([0.5, -2], np.float32),
    "ones": np.array([[[7, 8, 9, 10], [4, 5, 6, 11]]], np.float32),
    "count": np.array([2]),
    "halves": np.array([0.5, 1.5, -2.5, 2.501], np.float32),
    **{
        name: np.array(values, np.float32)
        for name, values in {"gamma": [2, -3], "beta": [0.5, 1], "mean": [-1, 4], "variance": [0.25, 9]}.items()
    },
}


@pytest.mark.parametrize("expression", MADE_OF_WEIGHTS)
def test_what_a_weight_is_made_of_is_what_onnxruntime_makes_of_it(expression: str) -> None:
    node, opset = parser.parse_node(expression), MADE_OF_WEIGHTS[expression]
    values = {name: WEIGHTS[name] for name in node.input if name}
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in values.items()}
    ports = [helper.make_tensor_value_info(name, kinds[name], value.shape) for name, value in values.items()]
    graph = helper.make_graph([node], "one", ports, [ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", opset)]
    expected = run(helper.make_model(graph, opset_imports=imports, ir_version=8), values)["y"]
    found = compute(Call(node, opset, [values.get(name) for name in node.input], output=[*node.output].index("y")))
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)  # values up to 20


def test_each_operator_that_is_computed_by_reference_has_an_expression() -> None:
    assert {parser.parse_node(one).op_type for one in MADE_OF_WEIGHTS} >= REFERENCED


@pytest.mark.parametrize(
    ("expression", "opset"),
    [
        ("y = DequantizeLinear <axis = 0> (x, gamma)", 13),  # of no whole numbers
        (f"y = BatchNormalization {NORM}", 8),  # by pixel, where `spatial` says so
        (f"y, m, v = BatchNormalization {NORM}", 13),  # in training mode, of which it is not said how
        ("y = Clip <max = 1.0> (x)", 10),
        ("y = MatMul (x, x)", 18),  # of sizes that do not fit
        ("y = Elu (x)", 12),
        ("y = ScatterND (x, twice, mean)", 13),  # at one place
        ("y = ScatterElements <axis = 2> (ties, spots2, ones)", 13),  # at one place
        ("y = ArgMax (parts)", 13),  # of NaN
        ("y, i = TopK <sorted = 0> (ties, count)", 11),  # in any order
        ("y = Compress (low, flags)", 11),  # of no axis
        ("y = Gelu (parts)", 13),  # which opset 20 brought
        ("y = Mul (gamma, beta, mean)", 13),  # numpy would write into the third
        ("y = Neg (flags)", 13),  # numpy has none of these
        ("y = Sqrt (place)", 13),  # of whole numbers
        ("y = Where (flags, depth, low)", 13),  # of two types
        ("y = Pad (x, gamma)", 18),  # by no whole numbers
        ("y = Dropout (x, high, flags)", 18),  # in training
        ('y = Einsum <equation = "...->"> (x)', 18),
        ("y = Softmax (x)", 12),  # of a matrix with all but the first axis as columns
    ],
)
def test_what_other_opsets_say_otherwise_is_not_computed(expression: str, opset: int) -> None:
    node = parser.parse_node(expression)
    assert compute(Call(node, opset, [WEIGHTS[name] for name in node.input])) is None


STEPS: Array = np.array([[-300.5, -2.5, -1.5, -0.5], [0.5, 1.5, 2.499, 300]], np.float32)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize(("scale", "zero", "axis"), [(1.0, 0, 1), (0.3, 5, 1), ([0.5, 7.0], [1, 3], 0)])
def test_numbers_are_rounded_to_steps_as_onnxruntime_does(kind: type, scale: object, zero: object, axis: int) -> None:
    """Halves to even, and what lies outside of the type to its ends."""
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], axis=axis)
    values: list[Array] = [STEPS, np.array(scale, np.float32), np.array(zero, kind)]
    made = model([node], {"x": (2, 4)}, ["y"], {"scale": values[1], "zero": values[2]}, opset=21)
    made.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    found, expected = compute(Call(node, 21, values)), run(made, {"x": STEPS})["y"]
    assert found is not None
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)


def test_numbers_are_not_rounded_to_steps_of_other_types_or_of_none() -> None:
    steps = [STEPS, np.array(0.5, np.float32), np.array(0, ml_dtypes.float8_e4m3fn)]
    assert compute(Call(parser.parse_node("y = QuantizeLinear (x, s, z)"), 21, steps)) is None
    assert compute(Call(parser.parse_node("y = QuantizeLinear <output_dtype = 3> (x, s)"), 21, steps[:2])) is None
    assert compute(Call(parser.parse_node("y = QuantizeLinear (x, s)"), 21, [STEPS, np.zeros((), np.float32)])) is None
    assert (
        compute(Call(parser.parse_node("y = QuantizeLinear (x, s)"), 21, [STEPS.astype(np.float16), steps[1]])) is None
    )


SMALL_FLOATS = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("stored", SMALL_FLOATS)
def test_weights_stored_in_a_smaller_type_fold_as_they_are_read(stored: type) -> None:
    random = np.random.default_rng(2)
    small: Array = random.normal(size=(4, 3, 2, 2)).astype(np.float32).astype(stored)
    learned = {name: random.uniform(0.5, 2, 4).astype(np.float32) for name in ("gamma", "beta", "mean", "variance")}
    nodes = [
        helper.make_node("Cast", ["w8"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["conv"], "conv"),
        helper.make_node("BatchNormalization", ["conv", *learned], ["y"], "bn"),
    ]
    made = model(nodes, {"x": (2, 3, 4, 4)}, ["y"], learned, opset=21)
    made.graph.initializer.append(numpy_helper.from_array(small, "w8"))
    made.ir_version = 10
    folded = bnfold.to_onnx(bnfold.fold(bnfold.load(made)).net)
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
    data = {"x": random.normal(size=(2, 3, 4, 4)).astype(np.float32)}
    np.testing.assert_allclose(run(folded, data)["y"], run(made, data)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_what_is_rounded_to_a_smaller_type_than_numpy_has_is_not_computed(target: str) -> None:
    """ONNX takes 1e6 for the largest number of float8, ml_dtypes for an infinite one."""
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DataType.Value(target))
    for rounded in (1e6, 1.001, np.inf, np.nan):
        assert compute(Call(node, 21, [np.array([1, rounded], np.float32)])) is None


@pytest.mark.parametrize("target", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_what_a_smaller_type_holds_is_computed(target: str) -> None:
    """PyTorch's exporter gives a Conv of bfloat16 a bias of zeros: `Expand(CastLike(0, x), [8])`."""
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(target))
    values = np.array([0, -1.5, 0.125], np.float32)
    for stored in (values, values.astype(dtype)):
        found = compute(Call(parser.parse_node("y = CastLike (x, t)"), 21, [stored, None], types=[stored.dtype, dtype]))
        assert found is not None
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(np.float32), values)


def test_no_more_is_computed_than_is_bounded() -> None:
    """Of each of these some operations are allowed, and not as many as they take."""
    square = np.ones((64, 64), np.float32)
    for expression in ("y = MatMul (x, x)", "y = Gemm (x, x)", 'y = Einsum <equation = "ab,bc,cd->ad"> (x, x, x)'):
        node = parser.parse_node(expression)
        values = [square] * len(node.input)
        assert compute(Call(node, 18, values), allowed=64**3 - 1) is None
        assert compute(Call(node, 18, values), allowed=64**4) is not None
    pads = Call(parser.parse_node("y = Pad (x, p)"), 18, [square, np.array([0, 0, 1 << 30, 1 << 30])])
    assert compute(pads) is None


def test_nothing_is_computed_once_as_much_as_is_allowed_was() -> None:
    for expression, read in COMPUTED.items():
        assert compute(call_of(expression, read), allowed=0) is None
