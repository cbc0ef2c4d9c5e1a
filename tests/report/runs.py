"""Runs that the tests of the renderings share."""

from __future__ import annotations

import numpy as np
from onnx_models import change, classifier

from bnfold.algebra.records import Dropped, Folded, FoldReport, Kept, Merged
from bnfold.compare.comparison import compare
from bnfold.compare.records import DiffReport
from bnfold.report.run import RunReport

NASTY = "<script>alert('x')</script> [red]&amp;| \N{GREEK SMALL LETTER BETA}"


def digits(count: int = 37) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 8, (count, 3, 8, 8)).astype(np.float32)


def failed() -> DiffReport:
    """A fault in channel 4 of conv1 that flips some answers."""
    faulty = change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0)
    return compare(classifier(), faulty, digits(), labels=np.arange(37) % 5, min_agreement=0.99)


def renamed(old: str = "conv2", new: str = NASTY) -> DiffReport:
    """The same network with one layer and blob of a name that tries to be markup."""
    models = classifier(), change(classifier(), "conv2_w", (7, 3, 1, 1), 0.5)
    for model in models:
        for node in model.graph.node:
            node.name = new if node.name == old else node.name
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
    return compare(*models, digits(4))


def folding() -> FoldReport:
    return FoldReport(
        records=[
            Folded("bn1", "BatchNorm", ("conv1",), ("pool1", "relu1")),
            Merged(("bn2", "scale2"), "BatchNorm", ("scale2",)),
            Dropped("drop", "Dropout"),
            Kept("bn3", "BatchNorm", NASTY, "Scale"),
        ],
        notes=["shared weights were split"],
        layers_before=12,
        layers_after=8,
        parameters_before=1234,
        parameters_after=1200,
    )


def run_report(*proofs: DiffReport, fold: FoldReport | None = None) -> RunReport:
    return RunReport(proofs=proofs or (failed(),), fold=fold)
