"""Fold the affines of a trained Caffe or ONNX network into its weights, and prove that it computes the same.

Examples:
    >>> net = bnfold.load("deploy.prototxt", "net.caffemodel")  # or bnfold.load("model.onnx")
    >>> result = bnfold.fold(net)
    >>> bnfold.compare(net, result.net, "images/").passed
    True
    >>> files = bnfold.save_onnx(result.net, "folded.onnx")

`help(bnfold.fold)` and its like say more; `bnfold --help` is about the command.
"""

from __future__ import annotations

# Packages named as the function that one calls: what is imported here cannot take the function's place later.
import bnfold.compare  # noqa: F401

del compare  # noqa: F821

TYPE_CHECKING = False  # as `typing` has it, whose import takes the 10 ms in which Ctrl-C is still Python's own
if TYPE_CHECKING:
    from typing import Any

    from bnfold.advice import advise
    from bnfold.advice.records import Finding, Inspection
    from bnfold.algebra import FoldReport, FoldResult, fold
    from bnfold.algebra.records import Dropped, Folded, Joined, Kept, Merged, Moved
    from bnfold.caffe.write import save_caffe
    from bnfold.compare.comparison import Comparison, compare
    from bnfold.compare.records import (
        Answer,
        BlobDiff,
        Box,
        ClassifierDiff,
        DetectorDiff,
        DiffReport,
        FirstDivergent,
        Flip,
        Gate,
        Histogram,
        LayerRange,
        Place,
        SampleDiff,
        Stray,
        Uncompared,
    )
    from bnfold.data.preparation import Preparation
    from bnfold.data.samples import Samples
    from bnfold.errors import (
        BnfoldError,
        LeftoverWarning,
        ModelError,
        ParseError,
        UnsupportedError,
        UsageError,
        WeightsError,
        WriteError,
    )
    from bnfold.loading import load
    from bnfold.net import Blobs, Layer, Net
    from bnfold.onnx import save_onnx, to_onnx
    from bnfold.options import CompareOptions, OnnxOptions, ReadOptions
    from bnfold.report.run import RunReport
    from bnfold.runtime import Execution

    __version__: str

# Module -> the names that live there, which are imported when they are first used: `bnfold --help` waits for none.
_HOMES = {
    "bnfold.advice": "advise",
    "bnfold.advice.records": "Finding Inspection",
    "bnfold.algebra": "FoldReport FoldResult fold",
    "bnfold.algebra.records": "Dropped Folded Joined Kept Merged Moved",
    "bnfold.caffe.write": "save_caffe",
    "bnfold.compare.comparison": "Comparison compare",
    "bnfold.compare.records": "Answer BlobDiff Box ClassifierDiff DetectorDiff DiffReport FirstDivergent Flip "
    "Gate Histogram LayerRange Place SampleDiff Stray Uncompared",
    "bnfold.data.preparation": "Preparation",
    "bnfold.data.samples": "Samples",
    "bnfold.errors": "BnfoldError LeftoverWarning ModelError ParseError UnsupportedError UsageError "
    "WeightsError WriteError",
    "bnfold.loading": "load",
    "bnfold.net": "Blobs Layer Net",
    "bnfold.onnx": "save_onnx to_onnx",
    "bnfold.options": "CompareOptions OnnxOptions ReadOptions",
    "bnfold.report.run": "RunReport",
    "bnfold.runtime": "Execution",
}

__all__ = [
    "Answer",
    "BlobDiff",
    "Blobs",
    "BnfoldError",
    "Box",
    "ClassifierDiff",
    "CompareOptions",
    "Comparison",
    "DetectorDiff",
    "DiffReport",
    "Dropped",
    "Execution",
    "Finding",
    "FirstDivergent",
    "Flip",
    "FoldReport",
    "FoldResult",
    "Folded",
    "Gate",
    "Histogram",
    "Inspection",
    "Joined",
    "Kept",
    "Layer",
    "LayerRange",
    "LeftoverWarning",
    "Merged",
    "ModelError",
    "Moved",
    "Net",
    "OnnxOptions",
    "ParseError",
    "Place",
    "Preparation",
    "ReadOptions",
    "RunReport",
    "SampleDiff",
    "Samples",
    "Stray",
    "Uncompared",
    "UnsupportedError",
    "UsageError",
    "WeightsError",
    "WriteError",
    "advise",
    "compare",
    "fold",
    "load",
    "save_caffe",
    "save_onnx",
    "to_onnx",
]

if not TYPE_CHECKING:  # so that a name that there is not is an error for a type checker, too

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name == "__version__":
            return import_module("importlib.metadata").version("bnfold")
        home = next((module for module, names in _HOMES.items() if name in names.split()), None)
        if home is None:
            raise AttributeError(f"module 'bnfold' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    return __all__
