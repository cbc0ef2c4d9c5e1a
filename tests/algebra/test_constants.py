"""Constants that a net of Caffe computes from Parameters alone, and the layers that read them beside data."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from algebra.running import net_of
from algebra.texts import checked, conv, data, layer, names, scale

from bnfold.algebra import Folded, Kept, fold
from bnfold.caffe.placeholder import with_placeholder_weights
from bnfold.net import Blobs, Net

CODE = 'python_param {{ module: "eltwise" layer: "Eltwise" param_str: "{{ {} }}" }}'
PROD, SUM = "eltwise_param { operation: PROD }", "eltwise_param { operation: SUM coeff: 1 coeff: 1 }"
POSITIVE, SIGNED = np.array([0.5, 1.25, 0.75, 2]), np.array([-1.5, 0.5, 2, -0.75])


def parameter(name: str, *shape: int) -> str:
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Parameter" top: "{name}" parameter_param {{ shape {{ {dims} }} }} }}\n'


def rows(text: str) -> str:
    """Two rows of five values, an InnerProduct to four, then `text`."""
    start = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }\n'
    return f"{start}{layer('fc', 'InnerProduct', 'data', '', 'inner_product_param { num_output: 4 }')}{text}"


BATCH_NORM = (
    parameter("variance", 4)
    + parameter("eps")
    + layer("add", "Eltwise", "variance eps", "", SUM)
    + layer("rsqrt", "Power", "add", "", "power_param { power: -0.5 }")
    + parameter("gamma", 4)
    + layer("mul", "Eltwise", "rsqrt gamma", "", PROD)
    + layer("mul_1", "Python", "fc mul", "", CODE.format("'operation': 0, 'coeff': [1, 1]"))
    + parameter("mean", 4)
    + layer("mul_2", "Eltwise", "mean mul", "", PROD)
    + parameter("beta", 4)
    + layer("sub", "Eltwise", "beta mul_2", "", "eltwise_param { operation: SUM coeff: 1 coeff: -1 }")
    + layer("add_1", "Python", "mul_1 sub", "", CODE.format("'operation': 1, 'coeff': [1, 1]"))
)
"""A BatchNorm as Synopsys' converter writes one that TensorFlow has in parts, as in its DAN."""


def batch_norm() -> Net:
    return net_of(rows(BATCH_NORM), variance=[POSITIVE], eps=[np.array(0.001)])


def test_a_batchnorm_that_is_computed_in_parts_goes_into_the_weights() -> None:
    net = batch_norm()
    result = checked(net)
    assert names(result.net) == ["data", "fc"]
    assert [type(record) for record in result.report.records] == [Folded, Folded]
    assert result.report.notes == [
        "5 layers computed constants from Parameters alone, 'add' first: what they give is written where it is read"
    ]
    factor = net["gamma"].blobs[0] / np.sqrt(POSITIVE + 0.001)
    np.testing.assert_allclose(result.net["fc"].blobs[0], net["fc"].blobs[0] * factor[:, None], rtol=1e-12)


def test_a_plan_without_weights_takes_parameters_for_positive_as_a_variance_is() -> None:
    net = batch_norm()
    for learned in net.layers:
        learned.blobs = Blobs()
    assert names(fold(with_placeholder_weights(net)).net) == ["data", "fc"]


@pytest.mark.parametrize(
    ("layer_type", "param", "second"),
    [
        ("Add", "", (4,)),
        ("Div", "", (4,)),
        ("Maximum", "", ()),
        ("Minimum", "", (4,)),
        ("Mul", "", (1, 4)),
        ("Pow", "", (4,)),
        ("Sub", "", (4,)),
        ("Eltwise", "eltwise_param { operation: MAX }", (4,)),
        ("Eltwise", "eltwise_param { operation: MIN }", (4,)),
        ("Eltwise", "eltwise_param { operation: DIV }", ()),
        ("Eltwise", "eltwise_param { coeff: 0.5 coeff: -3 }", (4,)),
        ("Python", CODE.format("'operation': 3"), (4,)),
    ],
)
def test_what_is_computed_of_parameters_is_one_parameter(layer_type: str, param: str, second: tuple[int, ...]) -> None:
    text = parameter("a", 4) + parameter("b", *second) + layer("c", layer_type, "a b", "", param)
    text += layer("d", "Power", "c", "", "power_param { scale: -0.5 shift: 3 power: 2 }")
    text += layer("both", "Concat", "data d", "", "concat_param { axis: 0 }")
    start = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 } } }\n'
    top = (1, 4) if len(second) == 2 else (4,)
    start = start.replace("dim: 3", " ".join(f"dim: {size}" for size in (3, *top[1:])))
    result = checked(net_of(start + text, a=[POSITIVE], b=[np.resize([0.5, 3, 2], second)]))
    assert [(made.name, made.type) for made in result.net.layers] == [
        ("data", "Input"),
        ("d", "Parameter"),
        ("both", "Concat"),
    ]
    assert result.net["d"].blobs.shapes == (top,)


@pytest.mark.parametrize(
    ("layer_type", "param", "bottoms", "shape"),
    [
        ("Mul", "", "conv c", (4, 1, 1)),
        ("Mul", "", "c conv", (1, 4, 1, 1)),
        ("Mul", "", "conv c", ()),
        ("Add", "", "c conv", (4, 1, 1)),
        ("Sub", "", "conv c", (4, 1, 1)),
        ("Sub", "", "conv c", ()),
        ("Eltwise", PROD, "conv c", ()),
        ("Eltwise", "eltwise_param { operation: PROD axis: 1 }", "conv c", (4,)),
        ("Eltwise", "eltwise_param { operation: SUM axis: -3 }", "conv c", (4,)),
        ("Scale", "", "conv c", (4,)),
        ("Scale", "scale_param { axis: 0 }", "conv c", (1, 4)),
        ("Bias", "bias_param { axis: -3 }", "conv c", (4,)),
        ("Python", CODE.format("'operation': 1, 'coeff': [1, -1]"), "conv c", (4, 1, 1)),
    ],
)
def test_what_multiplies_data_by_a_constant_or_adds_one_is_an_affine(
    layer_type: str, param: str, bottoms: str, shape: tuple[int, ...]
) -> None:
    one_row = data().replace("dim: 2", "dim: 1")
    text = one_row + conv("conv", "data") + parameter("c", *shape) + layer("top", layer_type, bottoms, "", param)
    result = checked(net_of(text, c=[np.resize(SIGNED, shape)]))
    assert [type(record) for record in result.report.records] == [Folded]
    assert names(result.net) == ["data", "conv"]


def test_an_eltwise_of_one_row_and_a_constant_of_its_shape_is_an_affine() -> None:
    text = rows(parameter("c", 1, 4) + layer("sum", "Eltwise", "c fc", "", SUM)).replace("dim: 2", "dim: 1")
    assert names(checked(net_of(text, c=[SIGNED.reshape(1, 4)])).net) == ["data", "fc"]


@pytest.mark.parametrize(("turned", "shape"), [("", (4, 3)), ("matmul_param { transpose_b: true }", (3, 4))])
def test_a_product_with_a_matrix_of_a_parameter_is_an_inner_product_which_takes_a_shift(
    turned: str, shape: tuple[int, ...]
) -> None:
    text = parameter("c", *shape) + layer("product", "MatMul", "fc c", "", turned) + scale("scale", "product")
    result = checked(net_of(rows(text)))
    assert [made.type for made in result.net.layers] == ["Input", "InnerProduct", "InnerProduct"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_with_a_learned_matrix_is_read_as_an_inner_product(turned: bool) -> None:
    said = "transpose_b: true blob_shape: 3 blob_shape: 4" if turned else "blob_shape: 4 blob_shape: 3"
    text = layer("product", "MatMul", "fc", "", f"matmul_param {{ {said} }}") + scale("scale", "product")
    net = net_of(rows(text))
    assert (net["product"].type, net["product"].blobs.shapes) == ("InnerProduct", ((3, 4) if turned else (4, 3),))
    assert any("(MatMul): read as the InnerProduct that it is" in note for note in nets.net(rows(text)).notes)
    assert [made.type for made in checked(net).net.layers] == ["Input", "InnerProduct", "InnerProduct"]


@pytest.mark.parametrize("shape", [(1, 3), (1,), (1, 1)])
def test_a_gemm_of_parameters_is_an_inner_product_with_its_bias(shape: tuple[int, ...]) -> None:
    text = parameter("b", 3, 4) + parameter("c", *shape)
    text += layer("product", "Gemm", "fc b c", "", "gemm_param { transB: 1 }") + scale("scale", "product")
    result = checked(net_of(rows(text)))
    assert [made.type for made in result.net.layers] == ["Input", "InnerProduct", "InnerProduct"]


@pytest.mark.parametrize(
    ("param", "shape"),
    [("alpha: 0.5", (1, 3)), ("beta: 2", (1, 3)), ("", (2, 1)), ("", (2, 3)), ("transA: 1", (1, 3))],
)
def test_a_gemm_with_factors_or_a_value_for_each_row_keeps_its_constants(param: str, shape: tuple[int, ...]) -> None:
    text = parameter("b", *((2, 3) if "transA" in param else (4, 3))) + parameter("c", *shape)
    result = checked(net_of(rows(text + layer("product", "Gemm", "fc b c", "", f"gemm_param {{ {param} }}"))))
    assert [made.type for made in result.net.layers][-3:] == ["Parameter", "Parameter", "Gemm"]


def test_a_product_with_a_parameter_in_front_of_data_is_none() -> None:
    text = parameter("c", 3, 2) + layer("product", "MatMul", "c fc") + scale("scale", "product")
    result = checked(net_of(rows(text)))
    assert [made.type for made in result.net.layers][2:4] == ["Parameter", "MatMul"]


@pytest.mark.parametrize(
    ("layer_type", "param", "bottoms", "shape"),
    [
        ("Div", "", "relu c", (4, 1, 1)),
        ("Sub", "", "c relu", (4, 1, 1)),
        ("Maximum", "", "relu c", (4, 1, 1)),
        ("Mul", "", "relu c", (4, 5, 5)),
        ("Add", "", "relu c", (2, 1, 1, 1)),
        ("Mul", "", "relu c", (3, 1, 4, 1, 1)),
        ("Eltwise", "eltwise_param { coeff: 1 coeff: 3 axis: 1 }", "relu c", (4,)),
        ("Eltwise", "eltwise_param { operation: MAX axis: 1 }", "relu c", (4,)),
        ("Axpy", "", "c relu relu", (2, 4)),
    ],
)
def test_what_is_no_affine_of_one_axis_keeps_its_constant(
    layer_type: str, param: str, bottoms: str, shape: tuple[int, ...]
) -> None:
    text = (
        data() + layer("relu", "ReLU", "data") + parameter("c", *shape) + layer("top", layer_type, bottoms, "", param)
    )
    result = checked(net_of(text, c=[np.resize(SIGNED, shape)]))
    assert [made.type for made in result.net.layers] == ["Input", "ReLU", "Parameter", layer_type]
    assert result.report.notes == []


def test_a_constant_that_is_not_finite_is_left_to_the_net() -> None:
    net = net_of(rows(BATCH_NORM), variance=[-POSITIVE], eps=[np.array(0.001)])
    result = fold(net)
    # The root of a negative number is all that is wrong, and what is in front of it is evaluated.
    assert names(result.net) == [name for name in names(net) if name not in ("variance", "eps")]
    assert [result.net[name].type for name in ("add", "rsqrt", "mul_1")] == ["Parameter", "Power", "Python"]


def test_an_affine_by_a_constant_that_stays_is_a_scale_of_bvlcs_caffe() -> None:
    text = data() + layer("relu", "ReLU", "data") + parameter("c", 4, 1, 1) + layer("top", "Mul", "relu c")
    result = checked(net_of(text + layer("sigmoid", "Sigmoid", "top"), c=[SIGNED.reshape(4, 1, 1)]))
    (record,) = result.report.records
    assert isinstance(record, Kept)
    assert (result.net["top"].type, result.net["top"].bottoms) == ("Scale", ["relu"])
    np.testing.assert_array_equal(result.net["top"].blobs[0], SIGNED)


def test_what_the_user_keeps_or_excludes_stays_with_its_name() -> None:
    kept = checked(batch_norm(), keep="rsqrt")
    assert names(kept.net) == ["data", "fc", "rsqrt"]
    assert kept.net["rsqrt"].type == "Parameter"
    excluded = checked(batch_norm(), exclude="mul")
    assert [excluded.net[name].type for name in ("rsqrt", "mul", "mul_1")] == ["Parameter", "Eltwise", "Python"]


def test_a_constant_that_is_an_output_stays_one() -> None:
    text = rows(BATCH_NORM) + layer("shown", "Power", "mul", "", "power_param { power: 2 }")
    result = checked(net_of(text, variance=[POSITIVE], eps=[np.array(0.001)]))
    assert names(result.net) == ["data", "fc", "shown"]
