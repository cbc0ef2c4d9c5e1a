"""Small ONNX models made by hand, for the tests of everything that runs or compares models."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: list[str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A checked model; `outputs` get their shapes from onnx's own inference."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    versions = [helper.make_opsetid("", opset)]
    versions += [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in nodes} - {""})]
    made = helper.make_model(graph, opset_imports=versions, ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def classifier(seed: int = 0, batch: int | str = 2, classes: int = 5) -> onnx.ModelProto:
    """conv1 -> relu1 -> conv2 -> pool -> fc -> prob, named as a Caffe export names them; 3x8x8 inputs."""
    random = np.random.default_rng(seed)
    weights = {
        "conv1_w": random.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "conv1_b": random.normal(0, 0.3, 6).astype(np.float32),
        "conv2_w": random.normal(0, 0.2, (8, 6, 3, 3)).astype(np.float32),
        "conv2_b": random.normal(0, 0.2, 8).astype(np.float32),
        "fc_w": random.normal(0, 0.5, (classes, 8)).astype(np.float32),
        "fc_b": random.normal(0, 0.1, classes).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["data", "conv1_w", "conv1_b"], ["conv1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2_w", "conv2_b"], ["conv2"], "conv2"),
        helper.make_node("GlobalAveragePool", ["conv2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc_w", "fc_b"], ["fc"], "fc", transB=1),
        helper.make_node("Softmax", ["fc"], ["prob"], "prob", axis=1),
    ]
    return model(nodes, {"data": (batch, 3, 8, 8)}, ["prob"], weights)


def change(
    made: onnx.ModelProto, weight: str, index: tuple[int | slice, ...], amount: float | np.ndarray
) -> onnx.ModelProto:
    """A copy with some values of one weight changed by `amount`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for initializer in copy.graph.initializer:
        if initializer.name == weight:
            array = numpy_helper.to_array(initializer).copy()
            array[index] += amount
            initializer.CopyFrom(numpy_helper.from_array(array, weight))
            return copy
    raise KeyError(weight)
