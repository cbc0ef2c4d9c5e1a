"""Nets like those of torchvision, with BatchNormalization kept: they fold to the fewest affines and prove equal."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_cases import affines_in

from bnfold import compare, fold, to_onnx
from bnfold.onnx.read import load_bytes


class Builder:
    """Convolutions with BatchNormalization, in the ways that the four families join them."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.values = np.random.default_rng(11)
        self.numbers = count()

    def constant(self, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        name = f"p{next(self.numbers)}"
        self.stored.append(numpy_helper.from_array(self.values.uniform(low, high, shape).astype(np.float32), name))
        return name

    def ints(self, *values: int) -> str:
        name = f"p{next(self.numbers)}"
        self.stored.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op_type: str, *inputs: str, tops: int = 1, **attributes: Any) -> str:
        names = [f"{op_type.lower()}{next(self.numbers)}" for _ in range(tops)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=names[0], **attributes))
        return names[0]

    def conv(self, x: str, c: int, out: int, kernel: int = 3, group: int = 1) -> str:
        weight = self.constant(out, c // group, kernel, kernel)
        return self.node("Conv", x, weight, pads=[kernel // 2] * 4, group=group, kernel_shape=[kernel] * 2)

    def bn(self, x: str, c: int) -> str:
        gamma, beta, mean = self.constant(c, low=0.5, high=1.5), self.constant(c), self.constant(c)
        return self.node("BatchNormalization", x, gamma, beta, mean, self.constant(c, low=0.5, high=1.5))

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def shuffle(self, x: str, c: int) -> str:
        x = self.node("Reshape", x, self.ints(1, 2, c // 2, 8, 8))
        x = self.node("Transpose", x, perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", x, self.ints(1, c, 8, 8))

    def model(self, out: str, c: int) -> ModelProto:
        pooled = self.node("Flatten", self.node("GlobalAveragePool", out))
        score = self.node("Gemm", pooled, self.constant(c, 5), self.constant(5))
        ports = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), (score, [1, 5]))
        ]
        graph = helper.make_graph(self.nodes, "net", ports[:1], ports[1:], self.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet(b: Builder) -> ModelProto:
    x = b.relu(b.bn(b.conv("x", 3, 8), 8))
    for number in range(3):
        inner = b.bn(b.conv(b.relu(b.bn(b.conv(x, 8, 8), 8)), 8, 8), 8)
        short = b.bn(b.conv(x, 8, 8, 1), 8) if number == 1 else x
        x = b.relu(b.node("Add", inner, short))
    return b.model(x, 8)


def mobilenet(b: Builder) -> ModelProto:
    x = b.bn(b.conv("x", 3, 8), 8)
    for _ in range(3):
        inner = b.relu(b.bn(b.conv(x, 8, 16, 1), 16))
        inner = b.relu(b.bn(b.conv(inner, 16, 16, group=16), 16))
        x = b.node("Add", x, b.bn(b.conv(inner, 16, 8, 1), 8))
    return b.model(x, 8)


def shufflenet(b: Builder) -> ModelProto:
    x = b.relu(b.bn(b.conv("x", 3, 8), 8))
    for _ in range(2):
        inner = b.shuffle(b.relu(b.bn(b.conv(x, 8, 8, 1, group=2), 8)), 8)
        inner = b.bn(b.conv(b.bn(b.conv(inner, 8, 8, group=8), 8), 8, 8, 1, group=2), 8)
        x = b.relu(b.node("Add", x, inner))
    return b.model(x, 8)


def densenet(b: Builder) -> ModelProto:
    x, c = b.relu(b.bn(b.conv("x", 3, 8), 8)), 8
    for _ in range(3):
        inner = b.conv(b.relu(b.bn(x, c)), c, 8, 1)
        x, c = b.node("Concat", x, b.conv(b.relu(b.bn(inner, 8)), 8, 4), axis=1), c + 4
    return b.model(b.relu(b.bn(x, c)), c)


@pytest.mark.parametrize(("build", "fewest"), [(resnet, 0), (mobilenet, 0), (shufflenet, 0), (densenet, 4)])
def test_a_net_folds_to_the_fewest_affines_and_proves_equal(build: object, fewest: int) -> None:
    # In a DenseNet each block normalises what several read, in front of a ReLU: these stay, here as anywhere.
    net = load_bytes(build(Builder()).SerializeToString())  # type: ignore[operator]
    folded = fold(net).net
    assert affines_in(to_onnx(folded)) == fewest
    assert affines_in(to_onnx(net)) > fewest + 3
    report = compare(net, folded)
    assert report.passed, report.verdict
