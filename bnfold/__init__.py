"""Fold the affines of a trained Caffe or ONNX network into its weights, and prove that it computes the same."""

from __future__ import annotations

# Packages named as the function that one calls: what is imported here cannot take the function's place later.
import bnfold.compare  # noqa: F401

del compare  # noqa: F821

TYPE_CHECKING = False  # as `typing` has it, whose import takes the 10 ms in which Ctrl-C is still Python's own
if TYPE_CHECKING:
    from typing import Any

    from bnfold.advice import Finding, advise
    from bnfold.advice.records import Inspection
    from bnfold.algebra import Dropped, Folded, FoldReport, FoldResult, Kept, Merged, fold
    from bnfold.algebra.records import Joined
    from bnfold.caffe.write import save_caffe
    from bnfold.compare.comparison import Comparison, compare
    from bnfold.compare.records import BlobDiff, DiffReport, Gate
    from bnfold.errors import (
        BnfoldError,
        ModelError,
        ParseError,
        UnsupportedError,
        UsageError,
        WeightsError,
        WriteError,
    )
    from bnfold.net import Layer, Net
    from bnfold.onnx import save_onnx, to_onnx
    from bnfold.options import CompareOptions, OnnxOptions, ReadOptions
    from bnfold.pipeline import load
    from bnfold.report.run import RunReport

    __version__: str

# Where each name lives. They are imported when they are first used, so that `bnfold --help` waits for none of them.
_HOMES = {
    "BlobDiff": "bnfold.compare.records",
    "BnfoldError": "bnfold.errors",
    "CompareOptions": "bnfold.options",
    "Comparison": "bnfold.compare.comparison",
    "DiffReport": "bnfold.compare.records",
    "Dropped": "bnfold.algebra.records",
    "Finding": "bnfold.advice.records",
    "FoldReport": "bnfold.algebra",
    "FoldResult": "bnfold.algebra",
    "Folded": "bnfold.algebra.records",
    "Gate": "bnfold.compare.records",
    "Inspection": "bnfold.advice.records",
    "Joined": "bnfold.algebra.records",
    "Kept": "bnfold.algebra.records",
    "Layer": "bnfold.net",
    "Merged": "bnfold.algebra.records",
    "ModelError": "bnfold.errors",
    "Net": "bnfold.net",
    "OnnxOptions": "bnfold.options",
    "ParseError": "bnfold.errors",
    "ReadOptions": "bnfold.options",
    "RunReport": "bnfold.report.run",
    "UnsupportedError": "bnfold.errors",
    "UsageError": "bnfold.errors",
    "WeightsError": "bnfold.errors",
    "WriteError": "bnfold.errors",
    "advise": "bnfold.advice",
    "compare": "bnfold.compare.comparison",
    "fold": "bnfold.algebra",
    "load": "bnfold.pipeline",
    "save_caffe": "bnfold.caffe.write",
    "save_onnx": "bnfold.onnx",
    "to_onnx": "bnfold.onnx",
}

__all__ = [
    "BlobDiff",
    "BnfoldError",
    "CompareOptions",
    "Comparison",
    "DiffReport",
    "Dropped",
    "Finding",
    "FoldReport",
    "FoldResult",
    "Folded",
    "Gate",
    "Inspection",
    "Joined",
    "Kept",
    "Layer",
    "Merged",
    "ModelError",
    "Net",
    "OnnxOptions",
    "ParseError",
    "ReadOptions",
    "RunReport",
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
        if name not in _HOMES:
            raise AttributeError(f"module 'bnfold' has no attribute '{name}'")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
