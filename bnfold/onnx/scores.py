"""The scores of a linear model of ai.onnx.ml, as a value of its own, in front of the function that it puts behind them.

Given:   x -> LinearClassifier (SOFTMAX) -> scores
Result:  the same, and x -> LinearClassifier (NONE) -> scores@raw
"""

from __future__ import annotations

from copy import deepcopy

from onnx import ModelProto, NodeProto

from bnfold.onnx.node import attribute_value, with_attributes

ACTIVATED = ("FusedConv", "FusedGemm")
LINEAR = ("LinearClassifier", "LinearRegressor")
RAW = "@raw"
POST_TRANSFORMS = {"LOGISTIC": "Sigmoid", "SOFTMAX": "Softmax", "SOFTMAX_ZERO": "Softmax"}
"""What such a model puts behind its scores, and saturates -> the type of a layer that does so."""


def with_raw_scores(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model, in which what a function may saturate is a value, too, and the scores that it makes of that."""
    found = [node for node in model.graph.node if saturates(node)]
    if not found:
        return model, []
    result = deepcopy(model)
    result.graph.node.extend(map(_raw, found))
    return result, [node.output[-1] for node in found]


def saturates(node: NodeProto) -> str:
    """The type of the layer that a linear model puts behind its scores, if that may saturate."""
    return POST_TRANSFORMS.get(attribute_value(node, "post_transform", ""), "") if node.op_type in LINEAR else ""


def activation_of(node: NodeProto) -> str:
    """What onnxruntime's own operators put behind their sums, as the type of a layer; empty for nothing."""
    return attribute_value(node, "activation", "") if node.op_type in ACTIVATED else ""


def _raw(node: NodeProto) -> NodeProto:
    raw = with_attributes(node, post_transform="NONE")
    raw.name = (node.name or node.output[-1]) + RAW
    raw.output[:] = [name + RAW for name in node.output]
    return raw
