"""The algebra: per-channel affines, the layers that let them pass, the layers that absorb them."""

from __future__ import annotations

from bnfold.algebra.folding import FoldResult, fold
from bnfold.algebra.records import Blocked, Dropped, Folded, FoldReport, Joined, Kept, Merged, Moved, Record

__all__ = [
    "Blocked",
    "Dropped",
    "FoldReport",
    "FoldResult",
    "Folded",
    "Joined",
    "Kept",
    "Merged",
    "Moved",
    "Record",
    "fold",
]
