"""Coverage-guided fuzzing of the prototxt reader and of all that follows from a text alone.

    python tests/fuzz/fuzz_text.py -max_total_time=600 CORPUS_FOLDER [MORE SEEDS ...]

Needs `pip install atheris`; see docs/robustness.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["bnfold"]):
    from fuzz.harness import limit_memory, limited, text

if __name__ == "__main__":
    limit_memory()
    atheris.Setup(sys.argv, limited(text))
    atheris.Fuzz()
