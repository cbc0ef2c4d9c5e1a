"""Both networks against the truth: a float64 run of the original, to see whether folding moved towards it or away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.metrics import Sums
from bnfold.compare.models import Model
from bnfold.errors import UnsupportedError
from bnfold.net import Array

if TYPE_CHECKING:
    from bnfold.onnx.graph import Evaluator


@dataclass(slots=True)
class Exact:
    """The float64 run, and the distance of either network from it."""

    evaluator: Evaluator
    ours: dict[str, Sums] = field(default_factory=dict)
    theirs: dict[str, Sums] = field(default_factory=dict)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every blob, in float64."""
        return self.evaluator.run({name: np.asarray(values, np.float64) for name, values in feeds.items()})

    def add(self, name: str, truth: Array, reference: Array, candidate: Array) -> None:
        """Measure one batch of one blob."""
        exact = np.asarray(truth, np.float64).reshape(-1)
        for sums, values in ((self.ours, reference), (self.theirs, candidate)):
            found = np.asarray(values, np.float64).reshape(-1)
            sound = np.isfinite(exact) & np.isfinite(found)
            batch = Sums.of(np.where(sound, exact, 0.0), np.where(sound, found, 0.0), axes=(0,))
            sums[name] = sums[name] + batch if name in sums else batch

    def result(self, name: str) -> tuple[float | None, float | None]:
        """`l2_rel` of the reference and of the candidate against the truth; None where it was not computed."""
        if name not in self.ours:
            return None, None
        return self.ours[name].l2_rel, self.theirs[name].l2_rel


def open_exact(reference: Model, notes: list[str]) -> Exact | None:
    """The float64 run of the reference, or None with a note that says why there is none."""
    if reference.net is None:
        notes.append("no exact column: the reference is an ONNX model, whose own arithmetic is float32")
        return None
    from bnfold.onnx.graph import Evaluator

    try:
        return Exact(Evaluator(reference.net, list(reference.writers)))
    except UnsupportedError as error:
        notes.append(f"no exact column: {error}")
        return None
