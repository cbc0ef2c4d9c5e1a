"""Layers of training: how a loss reads its bottoms, and what judges predictions or writes blobs into files."""

from __future__ import annotations

from typing import NamedTuple


class Loss(NamedTuple):
    """How a loss reads its bottoms, and what remains of it at inference.

    `becomes` is the type that gives the prediction itself, None when the prediction is the bottom as it is; bottoms
    before `predictions` are predictions, the others labels and weights.
    """

    becomes: str | None = None
    predictions: int = 1


LOSSES = {
    "ContrastiveLoss": Loss(predictions=2),
    "EuclideanLoss": Loss(),
    "HingeLoss": Loss(),
    "InfogainLoss": Loss(),
    "L1Loss": Loss(),
    "MultiBoxLoss": Loss(predictions=3),
    "MultinomialLogisticLoss": Loss(),
    "RegionLoss": Loss(),
    "SigmoidCrossEntropyLoss": Loss("Sigmoid"),
    "SmoothL1Loss": Loss(),
    "SmoothL1LossOHEM": Loss(),
    "SoftmaxWithLoss": Loss("Softmax"),
    "SoftmaxWithLossOHEM": Loss("Softmax"),
    "TripletLoss": Loss(predictions=3),
    "YoloSeg": Loss(),
    "Yolov3": Loss(),
}


METRICS = frozenset({"DetectionEvaluate", "EvalDetection", "HDF5Output", "MatWrite", "SegmentationEvaluate"})


SINKS = frozenset({"HDF5Output", "MatWrite", "Silence"})
"""Layers that swallow what they read, whatever it is."""
