"""Fold the per-channel affines of a trained Caffe network into its weights, and prove that it computes the same."""

from __future__ import annotations

# Packages named as the function that one calls: what is imported here cannot take the function's place later.
import bnfold.compare  # noqa: F401

del compare  # noqa: F821

TYPE_CHECKING = False  # as `typing` has it, whose import takes the 10 ms in which Ctrl-C is still Python's own
if TYPE_CHECKING:
    from typing import Any

    from bnfold.algebra import FoldReport, FoldResult, fold
    from bnfold.caffe.write import save_caffe
    from bnfold.compare.comparison import compare
    from bnfold.compare.records import DiffReport
    from bnfold.errors import BnfoldError
    from bnfold.loading import load
    from bnfold.net import Layer, Net
    from bnfold.onnx import save_onnx, to_onnx
    from bnfold.options import CompareOptions, OnnxOptions, ReadOptions

__all__ = [
    "BnfoldError",
    "CompareOptions",
    "DiffReport",
    "FoldReport",
    "FoldResult",
    "Layer",
    "Net",
    "OnnxOptions",
    "ReadOptions",
    "compare",
    "fold",
    "load",
    "save_caffe",
    "save_onnx",
    "to_onnx",
]

# Where each name lives. They are imported when they are first used, so that `bnfold --help` waits for none of them.
_HOMES = {
    "BnfoldError": "bnfold.errors",
    "CompareOptions": "bnfold.options",
    "DiffReport": "bnfold.compare.records",
    "FoldReport": "bnfold.algebra",
    "FoldResult": "bnfold.algebra",
    "Layer": "bnfold.net",
    "Net": "bnfold.net",
    "OnnxOptions": "bnfold.options",
    "ReadOptions": "bnfold.options",
    "compare": "bnfold.compare.comparison",
    "fold": "bnfold.algebra",
    "load": "bnfold.loading",
    "save_caffe": "bnfold.caffe.write",
    "save_onnx": "bnfold.onnx",
    "to_onnx": "bnfold.onnx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bnfold' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
