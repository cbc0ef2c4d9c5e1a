"""Compares the pass for GPUs with numpy's, in numba's simulator: run by test_compiled_cuda.py in a process of its own.

The simulator is chosen by a variable that numba reads when it is imported, and runs each thread of a GPU as one of
Python's, so blobs are small.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any
from unittest.mock import patch

import array_api_compat.numpy as xp
import numpy as np

from bnfold.compare import kernels
from bnfold.compare.backends import BinCounter, Float64
from bnfold.compare.compiled_cuda import PART, CompiledCuda
from bnfold.compare.kernels import measure_together

CASES = {
    "one value a row": ((2, 300, 1), 2),
    "rows that a thread takes alone": ((1, 5, 7), 1),
    "more rows than a block takes at a time": ((1, 200, 49), 1),
    "rows that threads share, of several blobs": ((2, 3, 40), 3),
    "a row of two parts": ((1, 1, PART + 808), 1),
    "rows of two parts, of several blobs": ((1, 2, PART + 130), 2),
}


class Simulated(CompiledCuda):
    """Few blocks, so that each takes several times; and which calls it has answered."""

    blocks = 3

    def __init__(self, like: Any) -> None:
        super().__init__(xp, like)
        self.device = None
        self.answered: list[bool] = []

    def at_once(self, reference: Any, candidate: Any, counter: BinCounter) -> tuple[Float64, Float64] | None:
        """Note whether it was answered."""
        found = super().at_once(reference, candidate, counter)
        self.answered.append(found is not None)
        return found


def compared(references: list[Any], candidates: list[Any], view: tuple[int, int, int]) -> list[bool]:
    """Hold every figure against numpy's; whether the pass answered."""
    simulated = Simulated(references[0])
    expected = [measure_together([r], [c], view, 1e-2)[0] for r, c in zip(references, candidates, strict=True)]
    with patch.object(kernels, "backend_of", return_value=simulated):
        found = measure_together(references, candidates, view, 1e-2, compiled=True)
    for ours, theirs in zip(found, expected, strict=True):
        for field in fields(ours):
            one, two = (np.asarray(getattr(side, field.name), np.float64) for side in (ours, theirs))
            slack = 1e-12 * float(theirs.sum_abs.max()) if field.name == "sum_error" else 0.0
            np.testing.assert_allclose(one, two, rtol=1e-12, atol=slack, err_msg=f"{field.name} of {view}")
    return simulated.answered


def main() -> None:
    random = np.random.default_rng(5)
    for what, (view, blobs) in CASES.items():
        references = [(10 * random.normal(size=view)).astype(np.float32) for _ in range(blobs)]
        differing = [10.0 ** random.integers(-8, 1) * (random.random(view) < 0.7) for _ in range(blobs)]
        candidates = [
            np.asarray(one + size * random.normal(size=view), np.float32)
            for one, size in zip(references, differing, strict=True)
        ]
        assert compared(references, candidates, view) == [True], what
        print(what)
    same = [np.full((1, 3, 50), -2.5, np.float32)]
    assert compared(same, same, (1, 3, 50)) == [True]
    tied = [same[0] + np.float32(0.5) * np.arange(3, dtype=np.float32).reshape(1, 3, 1)]
    assert compared(same, tied, (1, 3, 50)) == [True]  # the first of equal errors is its place
    print("equal, and equal errors")
    words = np.array([0.0, -0.0, 1e-45, 3e38, -3e38, 1e-20, 7.0], np.float32)
    sides = [random.choice(words, size=(2, 3, 30)) for _ in range(2)]
    assert compared([sides[0]], [sides[1]], (2, 3, 30)) == [True]
    print("extremes of float32")
    for word in (np.nan, np.inf, -np.inf):
        sides[0][1, 2, 5] = word
        assert compared([sides[0]], [sides[1]], (2, 3, 30)) == [False], word
    wide = [side.astype(np.float64) for side in sides]
    assert compared([wide[0]], [wide[1]], (2, 3, 30)) == [False]
    print("what is left to the library")


if __name__ == "__main__":
    main()
