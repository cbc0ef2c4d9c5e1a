"""Pooling in every combination of rounding, pad, stride and overhang, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from single_layer import assert_close, by_oracle, exported, exported_double, layer_net, noise

from bnfold.errors import UnsupportedError
from bnfold.onnx import to_onnx


def pooling(method: str, rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """A random window on a random plane; the stride may pass the kernel, so windows may be empty."""
    kernel = rng.integers(1, 5, 2)
    stride = rng.integers(1, 7, 2)
    pad = [int(rng.integers(0, k)) if rng.random() < 0.5 else 0 for k in kernel]
    height, width = (int(rng.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, pad, strict=True))
    text = (
        f'type: "Pooling" pooling_param {{ pool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} '
        f"stride_h: {stride[0]} stride_w: {stride[1]} pad_h: {pad[0]} pad_w: {pad[1]} "
        f"round_mode: {rng.choice(['CEIL', 'FLOOR'])} }}"
    )
    return text, (2, 3, height, width)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(("method", "tops"), [("AVE", 1), ("MAX", 1), ("MAX", 2)])
def test_any_pooling_gives_what_the_oracle_gives(method: str, tops: int, opset: int) -> None:
    rng = np.random.default_rng(opset)
    for seed in range(100):
        text, shape = pooling(method, rng)
        net = layer_net(text, [shape], tops)
        inputs = noise([shape], seed)
        assert_close(exported(net, inputs, opset=opset), by_oracle(text, net, inputs, tops))


@pytest.mark.parametrize("method", ["AVE", "MAX"])
def test_pooling_in_float64_gives_what_the_oracle_gives(method: str) -> None:
    rng = np.random.default_rng(1)
    for seed in range(100):
        text, shape = pooling(method, rng)
        net = layer_net(text, [shape])
        inputs = noise([shape], seed)
        assert_close(exported_double(net, inputs), by_oracle(text, net, inputs), 1e-12)


@pytest.mark.parametrize(
    "window",
    [
        "pool: MAX kernel_size: 3 stride: 2 pad: 1",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1 ceil_mode: false",
        "pool: AVE kernel_size_3d: [2, 3, 2] stride_3d: [2, 2, 1] pad_3d: [1, 0, 1]",
        "pool: MAX kernel_size_3d: [1, 2, 3] stride_3d: [1, 2, 2] round_mode: FLOOR",
        "pool: AVE global_pooling: true",
    ],
)
def test_a_volume_is_pooled_along_its_three_axes(window: str) -> None:
    shape = (2, 3, 5, 7, 6)
    net = layer_net(f'type: "Pooling" pooling_param {{ {window} }}', [shape])
    inputs = noise([shape])
    assert_close(
        exported(net, inputs),
        by_oracle(f'type: "Pooling" pooling_param {{ {window.replace("_3d", "")} }}', net, inputs),
    )


def test_intel_averages_may_leave_the_padding_out_of_the_divisor() -> None:
    text = 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 avg_include_pad: false }'
    x = np.ones((1, 1, 7, 7), np.float32)
    net = layer_net(text, [x.shape])
    (y,) = exported(net, [x])
    np.testing.assert_array_equal(y, np.ones((1, 1, 4, 4)))
    inputs = noise([x.shape])
    assert_close(exported(net, inputs), by_oracle(text, net, inputs))


def test_stochastic_pooling_weighs_each_pixel_by_itself() -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    x = np.abs(noise([(1, 2, 4, 4)])[0])
    blocks = x.reshape(1, 2, 2, 2, 2, 2).astype(np.float64)
    expected = (blocks**2).sum((3, 5)) / blocks.sum((3, 5))
    assert_close(exported(layer_net(text, [x.shape]), [x]), [expected])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pool: STOCHASTIC kernel_size: 3 pad: 1", "STOCHASTIC pooling knows no pad"),
        ("pool: STOCHASTIC kernel_size: 1 stride: 4", "divides by zero"),
    ],
)
def test_a_pooling_without_a_meaning_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(layer_net(f'type: "Pooling" pooling_param {{ {text} }}', [(1, 2, 6, 6)]))


def test_an_unpadded_pooling_is_one_node() -> None:
    net = layer_net('type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }', [(1, 2, 8, 8)])
    (node,) = to_onnx(net).graph.node
    assert node.name == "l"


@pytest.mark.parametrize(("size", "pads"), [(112, [1, 1, 1, 1]), (113, [1, 1, 1, 1]), (8, [1, 1, 1, 1])])
def test_pads_are_equal_on_both_sides_where_that_gives_the_same_windows(size: int, pads: list[int]) -> None:
    text = 'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }'
    (node,) = to_onnx(layer_net(text, [(1, 2, size, size)])).graph.node
    assert next(list(attribute.ints) for attribute in node.attribute if attribute.name == "pads") == pads
