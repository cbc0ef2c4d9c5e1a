"""Both networks against the truth: a float64 run of the original, to see whether folding moved towards it or away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.models import Model
from bnfold.errors import UnsupportedError
from bnfold.net import Array

if TYPE_CHECKING:
    from bnfold.onnx.graph import Evaluator


@dataclass(slots=True)
class Exact:
    """The float64 run."""

    evaluator: Evaluator

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every blob, in float64."""
        return self.evaluator.run({name: np.asarray(values, np.float64) for name, values in feeds.items()})


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
