"""Fold the affines of a trained Caffe or ONNX network into its weights, and prove that it computes the same.

Examples:
    >>> net = bnfold.load("deploy.prototxt", "net.caffemodel")  # or bnfold.load("model.onnx")
    >>> result = bnfold.fold(net)
    >>> bnfold.compare(net, result.net, "images/").passed
    True
    >>> bnfold.save_onnx(result.net, "folded.onnx")

`help(bnfold.fold)` and its like say more; `bnfold --help` is about the command.
"""

from __future__ import annotations

# Packages named as the function that one calls: what is imported here cannot take the function's place later.
import bnfold.compare  # noqa: F401

del compare  # noqa: F821

TYPE_CHECKING = False  # as `typing` has it, during whose import Ctrl-C would still be Python's own
if TYPE_CHECKING:
    from typing import Any

    from bnfold.advice import advise as advise
    from bnfold.advice.records import Finding as Finding
    from bnfold.advice.records import Inspection as Inspection
    from bnfold.algebra import FoldReport as FoldReport
    from bnfold.algebra import FoldResult as FoldResult
    from bnfold.algebra import fold as fold
    from bnfold.algebra.records import Dropped as Dropped
    from bnfold.algebra.records import Folded as Folded
    from bnfold.algebra.records import Joined as Joined
    from bnfold.algebra.records import Kept as Kept
    from bnfold.algebra.records import Merged as Merged
    from bnfold.algebra.records import Moved as Moved
    from bnfold.caffe.write import save_caffe as save_caffe
    from bnfold.compare.comparison import Comparison as Comparison
    from bnfold.compare.comparison import compare as compare
    from bnfold.compare.records import Answer as Answer
    from bnfold.compare.records import BlobDiff as BlobDiff
    from bnfold.compare.records import Box as Box
    from bnfold.compare.records import ClassifierDiff as ClassifierDiff
    from bnfold.compare.records import DetectorDiff as DetectorDiff
    from bnfold.compare.records import DiffReport as DiffReport
    from bnfold.compare.records import FirstDivergent as FirstDivergent
    from bnfold.compare.records import Flip as Flip
    from bnfold.compare.records import Gate as Gate
    from bnfold.compare.records import Histogram as Histogram
    from bnfold.compare.records import LayerRange as LayerRange
    from bnfold.compare.records import Place as Place
    from bnfold.compare.records import SampleDiff as SampleDiff
    from bnfold.compare.records import Stray as Stray
    from bnfold.compare.records import Uncompared as Uncompared
    from bnfold.data.preparation import Preparation as Preparation
    from bnfold.errors import BnfoldError as BnfoldError
    from bnfold.errors import LeftoverWarning as LeftoverWarning
    from bnfold.errors import ModelError as ModelError
    from bnfold.errors import ParseError as ParseError
    from bnfold.errors import UnsupportedError as UnsupportedError
    from bnfold.errors import UsageError as UsageError
    from bnfold.errors import WeightsError as WeightsError
    from bnfold.errors import WriteError as WriteError
    from bnfold.loading import load as load
    from bnfold.net import Blobs as Blobs
    from bnfold.net import Layer as Layer
    from bnfold.net import Net as Net
    from bnfold.onnx import save_onnx as save_onnx
    from bnfold.onnx import to_onnx as to_onnx
    from bnfold.options import CompareOptions as CompareOptions
    from bnfold.options import OnnxOptions as OnnxOptions
    from bnfold.options import ReadOptions as ReadOptions
    from bnfold.report.run import RunReport as RunReport
    from bnfold.runtime import Execution as Execution

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
    "bnfold.errors": "BnfoldError LeftoverWarning ModelError ParseError UnsupportedError UsageError "
    "WeightsError WriteError",
    "bnfold.loading": "load",
    "bnfold.net": "Blobs Layer Net",
    "bnfold.onnx": "save_onnx to_onnx",
    "bnfold.options": "CompareOptions OnnxOptions ReadOptions",
    "bnfold.report.run": "RunReport",
    "bnfold.runtime": "Execution",
}

__all__ = sorted(name for names in _HOMES.values() for name in names.split())

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
