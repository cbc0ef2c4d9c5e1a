"""Coverage-guided fuzzing of one target of `harness.py`.

    python tests/fuzz/guided.py TARGET -max_total_time=600 CORPUS_FOLDER [MORE SEEDS ...]

Needs `pip install atheris`; see docs/robustness.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["bnfold"]):
    from fuzz.harness import TARGETS, Target, limit_memory

SECONDS = 1.0
SECONDS_PER_BYTE = 20e-6
"""Of processor time, so that a busy machine is no finding. Without atheris' tracing it is a twentieth of that."""


class TooSlow(Exception):
    """An input took longer than its size allows."""


def limited(target: Target) -> Target:
    """The target with the time limit checked after every input."""

    def run(data: bytes) -> None:
        before = time.process_time()
        target(data)
        seconds = time.process_time() - before
        if seconds > SECONDS + SECONDS_PER_BYTE * len(data):
            raise TooSlow(f"{seconds:.2f} s for {len(data)} bytes")

    return run


if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    limit_memory()
    atheris.Setup(sys.argv, limited(target))
    atheris.Fuzz()
