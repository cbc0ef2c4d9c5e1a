"""Parallel branches that are summed become one convolution, if that is the same and costs no more."""

from __future__ import annotations

import ml_dtypes
import nets
import numpy as np
import pytest
from algebra.running import assert_same, net_of, run
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import model

import bnfold
from bnfold.algebra import Folded, fold
from bnfold.errors import ModelError
from bnfold.net import Net

INPUT = 'input: "x" input_shape { dim: 2 dim: 4 dim: 9 dim: 10 }\n'
BN = """
layer {{ name: "bn_{0}" type: "BatchNorm" bottom: "{1}" top: "bn_{0}" }}
layer {{ name: "pos_scale_{0}" type: "Scale" bottom: "bn_{0}" top: "{0}" scale_param {{ bias_term: true }} }}
"""
REPVGG = f"""
{INPUT}
layer {{ name: "first" type: "Convolution" bottom: "x" top: "f"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "f" top: "r" }}
layer {{ name: "dense" type: "Convolution" bottom: "r" top: "d"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 bias_term: false }} }}
{BN.format("a", "d")}
layer {{ name: "point" type: "Convolution" bottom: "r" top: "p"
        convolution_param {{ num_output: 4 kernel_size: 1 bias_term: false }} }}
{BN.format("b", "p")}
{BN.format("c", "r")}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "s" }}
layer {{ name: "last" type: "ReLU" bottom: "s" top: "y" }}
"""


def conv(name: str, param: str, bottom: str = "x", outputs: int = 4) -> str:
    said = f"convolution_param {{ num_output: {outputs} {param} }}"
    return f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {said} }}\n'


def added(*bottoms: str, param: str = "") -> str:
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "sum" type: "Eltwise" {read} top: "s" {param} }}\n'


def types(net: Net) -> list[str]:
    return [layer.type for layer in net.layers if layer.type != "Input"]


def assert_joined(text: str, seed: int = 0) -> Net:
    """The net is one convolution, and all that survives has its value."""
    net = net_of(text, seed)
    result = fold(net)
    assert types(result.net) == ["Convolution"]
    assert_same(run(net), run(result.net))
    assert types(fold(result.net).net) == ["Convolution"]
    return result.net


def assert_left(text: str) -> None:
    net = net_of(text)
    assert types(fold(net).net) == types(net)


def test_a_block_of_repvgg_is_one_convolution() -> None:
    net = net_of(REPVGG)
    result = fold(net)
    assert types(result.net) == ["Convolution", "ReLU", "Convolution", "ReLU"]
    assert_same(run(net), run(result.net))
    (joined,) = result.report.joined
    assert (joined.layer, joined.into, joined.branches) == ("sum", ("dense",), ("point", "pos_scale_c"))
    assert not list(result.report.kept)
    taken = next(r for r in result.report.records if isinstance(r, Folded) and r.layer == "pos_scale_c")
    assert (taken.into, taken.through) == (("dense",), ("sum",))


@pytest.mark.parametrize("kernel", ["kernel_size: 1", "kernel_size: 3 pad: 1"])
def test_branches_of_blobs_without_a_plane_stay(kernel: str) -> None:
    """Caffe takes them for products of matrices, whatever their kernels are said to be."""
    flat = 'input: "x" input_shape { dim: 2 dim: 4 }\n'
    assert_left(flat + conv("a", "kernel_size: 1") + conv("b", kernel) + added("a", "b", "x"))


def test_a_block_is_left_as_it_is_when_asked() -> None:
    result = fold(net_of(REPVGG), join=False)
    assert types(result.net) == ["Convolution", "ReLU", "Convolution", "Convolution", "Scale", "Eltwise", "ReLU"]
    assert not list(result.report.joined)


def test_what_stands_behind_a_sum_goes_into_the_joined_convolution() -> None:
    text = REPVGG.replace('layer { name: "last"', BN.format("t", "s") + 'layer { name: "last"')
    text = text.replace('type: "ReLU" bottom: "s"', 'type: "ReLU" bottom: "t"')
    net = net_of(text)
    result = fold(net)
    assert types(result.net) == ["Convolution", "ReLU", "Convolution", "ReLU"]
    assert_same(run(net), run(result.net))


@pytest.mark.parametrize(
    "text",
    [
        conv("a", "kernel_size: 3 pad: 1") + conv("b", "kernel_size: 1") + added("a", "b"),
        conv("a", "kernel_size: 3 pad: 1") + added("a", "x"),
        conv("a", "kernel_size: 3 pad: 1 stride: 2") + conv("b", "kernel_size: 1 stride: 2") + added("a", "b"),
        conv("a", "kernel_size: 3 pad: 1 group: 2") + conv("b", "kernel_size: 1 group: 2") + added("b", "a", "x"),
        conv("a", "kernel_size: 3 pad: 1 group: 4") + added("x", "a"),
        conv("a", "kernel_size: 3 pad: 2 dilation: 2") + conv("b", "kernel_size: 1") + added("a", "b", "x"),
        conv("a", "kernel_size: 5 pad: 2") + conv("b", "kernel_size: 3 pad: 2 dilation: 2") + added("a", "b"),
        conv("a", "kernel_size: 5 pad: 2") + conv("b", "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1") + added("a", "b"),
        conv("a", "kernel_size: 1 bias_term: false") + conv("b", "kernel_size: 1 bias_term: false") + added("a", "b"),
        conv("a", "kernel_size: 3", outputs=6) + conv("b", "kernel_size: 3", outputs=6) + added("a", "b"),
        conv("a", "kernel_size: 3 pad: 1")
        + conv("b", "kernel_size: 1")
        + added("a", "b", "x", param="eltwise_param { coeff: 0.5 coeff: -2 coeff: 3 }"),
        conv("a", "kernel_size: 3 pad: 1") + added("a", "x", "x"),
        conv("a", "kernel_size: 3 pad: 1")
        + 'layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: -2 shift: 0.5 } }'
        + added("a", "p"),
    ],
)
def test_branches_that_slide_alike_are_one_convolution(text: str) -> None:
    assert_joined(INPUT + text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            conv("a", "kernel_h: 1 kernel_w: 3 pad_w: 1") + conv("b", "kernel_h: 3 kernel_w: 1 pad_h: 1"),
            "it would take more multiply-adds",
        ),
        (conv("a", "kernel_size: 3 pad: 1") + conv("b", "kernel_size: 3 pad: 1 group: 2"), "the groups differ"),
        (
            conv("a", "kernel_size: 1") + conv("c", "kernel_size: 1") + conv("b", "kernel_size: 1", "c"),
            "the blobs differ",
        ),
        (
            conv("a", "kernel_size: 3 pad: 1") + conv("b", "kernel_size: 1") + conv("c", "kernel_size: 1", "b"),
            "somebody else reads a branch",
        ),
    ],
)
def test_branches_that_are_not_one_convolution_stay(text: str, why: str) -> None:
    assert_left(INPUT + text + added("a", "b"))


def test_a_maximum_of_branches_stays() -> None:
    text = conv("a", "kernel_size: 3 pad: 1") + conv("b", "kernel_size: 1")
    assert_left(INPUT + text + added("a", "b", param="eltwise_param { operation: MAX }"))


def test_a_branch_that_is_kept_or_excluded_stays() -> None:
    net = net_of(INPUT + conv("a", "kernel_size: 3 pad: 1") + conv("b", "kernel_size: 1") + added("a", "b"))
    assert types(fold(net, keep=["a"]).net) == types(net)
    assert types(fold(net, exclude=["b"]).net) == types(net)
    assert types(fold(net, exclude=["sum"]).net) == types(net)


def test_a_chain_of_sums_is_one_convolution() -> None:
    names = "abcde"
    text = "".join(conv(name, "kernel_size: 3 pad: 1") for name in names)
    before = "a"
    for name in names[1:]:
        text += f'layer {{ name: "s{name}" type: "Eltwise" bottom: "{before}" bottom: "{name}" top: "s{name}" }}\n'
        before = f"s{name}"
    assert_joined(INPUT + text)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_weight_that_took_a_scale_before_is_rounded_once_where_it_is_summed(dtype: type) -> None:
    """1 - 0.97 has none of the digits that rounding 0.97 left: in bfloat16 it was 2 % off."""
    weight, scale = np.array([-0.7071, 1.3711], np.float32).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], "conv"),
        helper.make_node("Mul", ["conv", "scale"], ["scaled"], "scaled"),
        helper.make_node("Add", ["scaled", "x"], ["y"], "y"),
    ]
    stored: dict[str, np.ndarray] = {
        "w": np.full((1, 1, 1, 1), weight, dtype),
        "scale": np.full((1, 1, 1), scale, dtype),
    }
    made = model(nodes, {"x": (1, 1, 3, 3)}, ["y"], stored, 22, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    folded = bnfold.to_onnx(bnfold.fold(bnfold.load(made)).net)
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
    (joined,) = (numpy_helper.to_array(one) for one in folded.graph.initializer)
    assert joined.dtype == dtype
    exact = np.float64(weight) * np.float64(scale) + 1
    assert abs(joined.astype(np.float64) - exact) <= np.spacing(joined).astype(np.float64) / 2


def test_weights_that_would_not_be_finite_stay() -> None:
    text = INPUT + conv("a", "kernel_size: 1") + conv("b", "kernel_size: 1") + added("a", "b")
    huge = [np.full((4, 4, 1, 1), 3e38, np.float32), np.zeros(4, np.float32)]
    net = nets.net(text, a=huge, b=huge)
    assert types(fold(net).net) == types(net)


sizes = st.integers(1, 3)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    kernels=st.lists(st.tuples(sizes, sizes), min_size=2, max_size=3),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]),
    biased=st.booleans(),
    slack=st.integers(0, 2),
)
def test_whatever_is_joined_computes_the_same(
    kernels: list[tuple[int, int]],
    stride: tuple[int, int],
    dilation: int,
    group: int,
    biased: bool,
    slack: int,
) -> None:
    text = INPUT
    for index, kernel in enumerate(kernels):
        pads = [dilation * (size - 1) // 2 + slack for size in kernel]
        said = (
            f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} pad_h: {pads[0]} pad_w: {pads[1]} stride_h: {stride[0]} "
            f"stride_w: {stride[1]} dilation: {dilation} group: {group} bias_term: {'true' if biased else 'false'}"
        )
        text += conv(f"c{index}", said)
    text += added(*(f"c{index}" for index in range(len(kernels))))
    try:
        net = net_of(text)
    except ModelError as error:
        assume("must have the same shape" not in str(error))
        raise
    result = fold(net)
    assert len(set(kernels)) > 1 or len(result.report.joined) == 1
    assert_same(run(net), run(result.net))
