"""Which layer types bring data, judge predictions or are known at all: the words by which a prototxt is understood.

A known type is one whose parameters have a meaning here, so an unknown field in one of them cannot be passed over. All
other types are opaque: they are kept as they are, whatever they hold.
"""

from __future__ import annotations

from typing import NamedTuple

from bnfold.caffe.params import CONVOLUTIONS, DECONVOLUTIONS
from bnfold.caffe.shapes import BLOB_SHAPES, SHAPES


class Loss(NamedTuple):
    """How a loss reads its bottoms, and what remains of it at inference.

    `becomes` is the type that gives the prediction itself, None when the prediction is the bottom as it is; bottoms
    before `predictions` are predictions, the others labels and weights.
    """

    becomes: str | None = None
    predictions: int = 1


def is_data(kind: str, bottoms: int, tops: int) -> bool:
    """Whether a layer brings samples into the net. Forks have dozens, which all end in `Data`, and `Python` ones."""
    return bottoms == 0 and tops > 0 and (kind.endswith("Data") or kind == "Python")


def loss(kind: str) -> Loss | None:
    """What is known of a loss, None for a layer that is none."""
    if kind in LOSSES:
        return LOSSES[kind]
    return Loss() if kind.endswith(("Loss", "LossOHEM")) else None


def is_metric(kind: str) -> bool:
    """Whether a layer judges predictions, or writes blobs into a file, and computes nothing that inference needs."""
    return kind in METRICS or kind.endswith("Accuracy")


def is_in_text_alone(kind: str) -> bool:
    """Whether a layer of this type may have parameters in its text that its message has not."""
    return kind in TRAINING or not is_known(kind)


def is_known(kind: str) -> bool:
    """Whether the parameters of a type have a meaning here."""
    return kind in KNOWN or kind in LOSSES or is_metric(kind) or kind.endswith("Data")


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

# Layers that swallow what they read, whatever it is.
SINKS = frozenset({"HDF5Output", "MatWrite", "Silence"})

# Layers whose first blob is a kernel, with as many dimensions as it says.
KERNELS = CONVOLUTIONS | DECONVOLUTIONS

# Layers that learn make predictions, never labels.
LEARNED = frozenset(BLOB_SHAPES)

# Parameters of known types that no dialect of the schema has, and that inference can do without: they say how training
# begins, and what the blobs show anyway. They stay where they are, in the layer's text.
TRAINING = {"EltwiseAffine": frozenset({"eltwise_affine_param"}), "SeLuDropout": frozenset({"selu_dropout_param"})}

# What a type makes of its parameters is known as soon as the shapes of its tops are.
KNOWN = frozenset(SHAPES)
