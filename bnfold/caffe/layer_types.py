"""Which layer types bring data, judge predictions or are known at all: the words by which a prototxt is understood.

A known type is one whose parameters have a meaning here, so an unknown field in one of them cannot be passed over. All
other types are opaque: they are kept as they are, whatever they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from bnfold.caffe.layers import LAYERS, types_where

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter


class Loss(NamedTuple):
    """How a loss reads its bottoms, and what remains of it at inference.

    `becomes` is the type that gives the prediction itself, None when the prediction is the bottom as it is; bottoms
    before `predictions` are predictions, the others labels and weights. What stands behind one that `goes_on` stays:
    it is no loss itself, but moves predictions in training, by their labels.
    """

    becomes: str | None = None
    predictions: int = 1
    goes_on: bool = False


MARGIN = Loss("Power", goes_on=True)
"""The margins of AM-Softmax and ArcFace copy all scores but the label's own, and at TEST, or where no label is known,
that one too (label_specific_add_layer.cpp, label_specific_margin_layer.cpp, cosin_add_m_layer.cpp,
combined_margin_layer.cpp, sv_x_layer.cpp), as Power does, in place too. Those of L-Softmax and SphereFace make the
scores as well."""


LOSSES = {
    "CombinedMargin": MARGIN,
    "ContrastiveLoss": Loss(predictions=2),
    "CosinAddm": MARGIN,
    "EuclideanLoss": Loss(),
    "HingeLoss": Loss(),
    "InfogainLoss": Loss(),
    "L1Loss": Loss(),
    "LabelSpecificAdd": MARGIN,
    "LabelSpecificMargin": MARGIN,
    "LargeMarginInnerProduct": MARGIN._replace(becomes="InnerProduct"),
    "MarginInnerProduct": MARGIN._replace(becomes="InnerProduct"),
    "MultiBoxLoss": Loss(predictions=3),
    "MultinomialLogisticLoss": Loss(),
    "RegionLoss": Loss(),
    "SVX": MARGIN,
    "SigmoidCrossEntropyLoss": Loss("Sigmoid"),
    "SmoothL1Loss": Loss(),
    "SmoothL1LossOHEM": Loss(),
    "SoftmaxWithLoss": Loss("Softmax"),
    "SoftmaxWithLossOHEM": Loss("Softmax"),
    "TripletLoss": Loss(predictions=3),
    "YoloSeg": Loss(),
    "Yolov3": Loss(),
}


DISPUTED: Mapping[str, str] = {
    "ConvLSTM": "forks disagree about its bottoms, and about the sigmoid of its gates",
    **dict.fromkeys(
        ("L2Norm", "L2Normalization", "L2Normalize"),
        "forks disagree about the axes over which it sums, and about what it adds to the sum",
    ),
    "PSROIAlign": "forks disagree about the points of a bin that are read, and about what lies outside of the image",
    "PassThrough": "forks disagree about the order of the channels that they make of pixels",
    "Region": "forks leave what becomes of its anchors to programs outside of the network, and disagree about the rest",
    "Resize": "forks disagree about where the pixels of the smaller plane lie in the larger one",
    "Sqrt": "forks disagree about the roots of negative numbers",
    "Warp": "forks disagree about the pixels that lie outside of the image",
}
"""Types without a row, since forks that have them compute different things, and in what they differ."""


ELSEWHERE: Mapping[str, str] = {
    "celu": "",
    "gelu": "",
    "hsigmoid": "HardSigmoid",
    "hswish": "HardSwish",
    "leakyrelu": "ReLU",
    "silu": "Swish",
}
"""What other frameworks call functions, in small letters, and the type that computes them; none where no Caffe does."""


METRICS = frozenset(
    {
        "AlignmentAccuracy",
        "DenseboxMapEvaluation",
        "DetectionEvaluate",
        "DetectionEvaluateRefine",
        "EvalDetection",
        "HDF5Output",
        "MatWrite",
        "SegmentationEvaluate",
        "YoloEvalDetection",
    }
)


SINKS = frozenset({"HDF5Output", "MatWrite", "Silence"})
"""Layers that swallow what they read, whatever it is."""

TYPES = 256
"""Of how many types it is kept what they are: every layer is asked several times."""


def is_fixed_point(layer_type: str) -> bool:
    """Whether it is one of the types that Vitis' quantiser puts in place of others, or between them."""
    return layer_type == "FixedNeuron" or layer_type.endswith("Fixed")


@lru_cache(TYPES)
def brings_samples(layer_type: str, *, reads: bool = False) -> bool:
    """Whether it is a type of data layers: forks have dozens, most of which end in `Data` or like Vitis' DrivingData2.

    Of a layer that reads nothing `Data` may be any word, as in caffe-heatmap's DataHeatmap; FlowNet's DataAugmentation
    reads blobs, and is none. DeepLab's MatRead makes blobs of Matlab's files (mat_read_layer.cpp).
    """
    return re.search(_DATA_AT_END if reads else _DATA_TYPE, layer_type) is not None


def is_data(param: LayerParameter) -> bool:
    """Whether a layer brings samples into the net: one of those types, or a `Python` layer that reads nothing."""
    return not param.bottom and len(param.top) > 0 and (brings_samples(param.type) or param.type == "Python")


@lru_cache(TYPES)
def loss(layer_type: str) -> Loss | None:
    """What is known of a loss, None for a layer that is none.

    Forks have dozens, with `Loss` as a word of their names: SmoothL1LossOHEM, caffe-heatmap's EuclideanLossHeatmap.
    """
    if layer_type in LOSSES:
        return LOSSES[layer_type]
    return Loss() if re.search(_LOSS_TYPE, layer_type) else None


def loss_of(param: LayerParameter) -> Loss | None:
    """What is known of a layer as a loss: by its type, by its Python class, or by a weight that training gives it."""
    if not param.bottom or (known := loss(param.type)) is not None:
        return known if param.bottom else None
    if param.type == "Python" and re.search(_LOSS_CLASS, param.python_param.layer):
        return Loss()
    return Loss() if not is_known(param.type) and any(param.loss_weight) else None


def judges(param: LayerParameter) -> bool:
    """Whether a layer is a metric, by its type or by its Python class, or a loss."""
    if not param.bottom:
        return False
    python = param.type == "Python" and re.search(_METRIC_CLASS, param.python_param.layer) is not None
    return python or is_metric(param.type) or loss_of(param) is not None


@lru_cache(TYPES)
def is_metric(layer_type: str) -> bool:
    """Whether a layer judges predictions, or writes blobs into a file, and computes nothing that inference needs."""
    return layer_type in METRICS or re.search(_METRIC_TYPE, layer_type) is not None


@lru_cache(TYPES)
def is_known(layer_type: str) -> bool:
    """Whether the parameters of a type have a meaning here."""
    return (
        layer_type in LAYERS or layer_type in LOSSES or is_metric(layer_type) or brings_samples(layer_type, reads=True)
    )


_DATA_TYPE = r"Data(?![a-z])|^MatRead$"
_DATA_AT_END = r"Data[0-9]*$"
_LOSS_TYPE = r"[A-Za-z0-9]Loss(?![a-z])"
_METRIC_TYPE = r"Accuracy(?![a-z])"
_METRIC_CLASS = r"(?i)(accuracy|metrics?|eval|evaluation|evaluator)(_?layer)?$"
_LOSS_CLASS = r"(?i)loss(_?layer)?$"

LEARNED = types_where(lambda row: row.blobs)
"""Layers that learn make predictions, never labels."""
