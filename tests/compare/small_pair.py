"""A small network and one that differs in a weight, images for both, and what a report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx_models import change, classifier

from bnfold.compare.records import DiffReport
from bnfold.net import Array
from bnfold.report.data import as_json
from bnfold.report.run import RunReport


def models(tmp_path: Path) -> tuple[str, str]:
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    onnx.save(classifier(), ours)
    onnx.save(change(classifier(), "conv2_w", (3, 1, 0, 0), 1e-3), theirs)
    return str(ours), str(theirs)


def images(count: int = 200, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(0, 8, (count, 3, 8, 8)).astype(np.float32)


def said(report: DiffReport) -> str:
    return as_json(RunReport(proofs=(report,)))
