"""Coverage-guided fuzzing of the other wire walk: an ONNX file of any bytes.

    python tests/fuzz/fuzz_onnx.py -max_total_time=600 CORPUS_FOLDER [MORE SEEDS ...]

Needs `pip install atheris`; see docs/robustness.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["bnfold"]):
    from fuzz.harness import limit_memory, limited, onnx

if __name__ == "__main__":
    limit_memory()
    atheris.Setup(sys.argv, limited(onnx))
    atheris.Fuzz()
