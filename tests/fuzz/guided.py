"""Coverage-guided fuzzing of one target of `harness.py`.

    python tests/fuzz/guided.py TARGET -max_total_time=600 CORPUS_FOLDER [MORE SEEDS ...]

Needs `pip install atheris`; see docs/robustness.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["bnfold"]):
    from fuzz.harness import TARGETS, limit_memory, limited

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    limit_memory()
    atheris.Setup(sys.argv, limited(target))
    atheris.Fuzz()
