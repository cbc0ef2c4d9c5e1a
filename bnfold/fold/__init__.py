"""The algebra: per-channel affines, the layers that let them pass, the layers that absorb them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from bnfold.fold.records import Blocked, Dropped, Folded, FoldReport, Kept, Merged, Record
from bnfold.fold.sweep import FoldResult, fold

__all__ = ["Blocked", "Dropped", "FoldReport", "FoldResult", "Folded", "Kept", "Merged", "Record", "fold"]


class _Callable(ModuleType):
    """`bnfold.fold` names both this package and its function: whichever Python finds there can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> FoldResult:
        return fold(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
