"""The pass for GPUs, in numba's simulator; on a GPU itself `tests/runtimes` says what a comparison gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnfold.compare import backends
from bnfold.compare.backends import Bits

PROGRAM = Path(__file__).with_name("simulated_cuda.py")


def test_the_pass_for_gpus_gives_the_figures_of_numpy() -> None:
    pytest.importorskip("numba")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "what is left to the library"


class OnGpu:
    """An array of a GPU that nothing here can reach."""

    device = "cpu"
    view = __cuda_array_interface__ = None


def test_a_gpu_that_numba_cannot_reach_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import array_api_compat

    monkeypatch.setattr(backends, "_BACKENDS", {})
    monkeypatch.setattr(array_api_compat, "array_namespace", lambda array: np)
    assert type(backends.backend_of(OnGpu(), compiled=True)) is Bits
    assert type(backends.backend_of(OnGpu())) is Bits
