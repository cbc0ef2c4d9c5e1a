"""Comparing two networks: blob by blob, sample by sample, answer by answer."""

from bnfold.diff.compare import compare
from bnfold.diff.measure import Progress
from bnfold.diff.records import (
    Answer,
    BlobDiff,
    Box,
    ClassifierDiff,
    DetectorDiff,
    DiffReport,
    Flip,
    Gate,
    Histogram,
    LayerRange,
    Onset,
    Place,
    SampleDiff,
    Stray,
)

__all__ = [
    "Answer",
    "BlobDiff",
    "Box",
    "ClassifierDiff",
    "DetectorDiff",
    "DiffReport",
    "Flip",
    "Gate",
    "Histogram",
    "LayerRange",
    "Onset",
    "Place",
    "Progress",
    "SampleDiff",
    "Stray",
    "compare",
]
