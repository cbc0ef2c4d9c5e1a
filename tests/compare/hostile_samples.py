"""Samples that do something to the process that asks for one of them; workers import this module by its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnfold.errors import UnsupportedError
from bnfold.net import Array
from bnfold.onnx.evaluator import Evaluator

LOUD = 1000.0


@dataclass(frozen=True)
class Hostile:
    """Seeded noise of which one sample kills its process, or raises, as long as there is no `marker`.

    Attributes:
        trap: the number of the sample.
        marker: made when the trap is sprung; the second time it does nothing, unless `again`, and never where a file
            `mended` lies beside it.
        kill: the process dies; otherwise an exception is raised.
    """

    trap: int
    marker: Path
    again: bool = False
    kill: bool = True
    count: int = 200

    description = "noise with a trap"
    labels = None
    class_names = ()

    def sample(self, number: int) -> dict[str, Array]:
        mended = self.marker.with_name("mended").exists()
        if number == self.trap and not mended and (self.again or not self.marker.exists()):
            self.marker.touch()
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the disk is gone")
        return {"data": np.random.default_rng(number).normal(0, 8, (3, 8, 8)).astype(np.float32)}

    def name(self, number: int) -> str:
        return f"trap {number}"

    def picture(self, number: int) -> None:
        return


class Float64:
    """A float64 run that fails, each time with another reason, where what it is fed has a value above `LOUD`."""

    real = Evaluator.run

    @classmethod
    def begin(cls) -> None:
        """Fail from here on."""

        def run(self: Evaluator, feeds: Mapping[str, Array], *more: object) -> dict[str, Array]:
            loudest = max(float(values.max()) for values in feeds.values())
            if loudest > LOUD:
                raise UnsupportedError(f"{loudest:g} is too loud")
            return cls.real(self, feeds, *more)  # type: ignore[arg-type]

        Evaluator.run = run  # type: ignore[method-assign, assignment]

    @classmethod
    def end(cls) -> None:
        """And no more."""
        Evaluator.run = cls.real  # type: ignore[method-assign]
