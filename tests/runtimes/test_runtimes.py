"""Every case in every runtime that has an environment gives what docs/runtimes.md says.

Collected only when BNFOLD_RUNTIMES names the folder that environments.py made. One runtime: `-m opencv5`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import golden
from runtimes import record
from runtimes.environments import RUNTIMES, Runtime, installed, python_of
from runtimes.harness import FORMS, Worker, case_of, judge_case, names

FOLDER = Path(os.environ["BNFOLD_RUNTIMES"])
REPOSITORY = Path(__file__).parents[2]
RECORD = record.read()

pytestmark = pytest.mark.runtimes

# A program in a runtime's environment is slower to start than to run, so all cases of a runtime share it.
marked = [pytest.param(runtime, marks=getattr(pytest.mark, runtime.name), id=runtime.name) for runtime in RUNTIMES]


@pytest.fixture(scope="module", params=marked)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    if not chosen.can_run:
        pytest.skip("there is no GPU of NVIDIA's here")
    if chosen not in installed(FOLDER):
        pytest.skip(f"no environment: python tests/runtimes/environments.py {FOLDER} {chosen.name}")
    return chosen


@pytest.fixture(scope="module")
def worker(runtime: Runtime) -> Iterator[Worker]:
    with Worker(python_of(FOLDER, runtime.name), runtime.engine) as started:
        yield started


@pytest.mark.parametrize("name", names())
def test_a_runtime_gives_what_the_page_says(runtime: Runtime, worker: Worker, name: str) -> None:
    record = RECORD.get(runtime.name)
    if record is not None and name in record.untried:
        pytest.skip("the page says that it was not tried; tests/runtimes/table.py tries it")
    verdicts = [judge_case(worker, case_of(name), form) for form in FORMS]
    # Who has never been recorded is held to Caffe alone.
    expected = [verdict.kind for verdict in record.cases[name]] if record is not None else ["equal"] * len(FORMS)
    assert [verdict.kind for verdict in verdicts] == expected, verdicts


@pytest.mark.oldest_onnxruntime
def test_bnfold_itself_runs_with_everything_as_old_as_it_allows(tmp_path: Path) -> None:
    python = python_of(FOLDER, "oldest_onnxruntime")
    if not python.exists():
        pytest.skip(f"no environment: python tests/runtimes/environments.py {FOLDER} oldest_onnxruntime")
    case = golden("seed_resnet_bn_scale")
    outputs = [tmp_path / "folded.prototxt", tmp_path / "folded.onnx"]
    command: list[str | Path] = [python, "-m", "bnfold", "fold", case.prototxt, case.caffemodel, "--external-data"]
    for output in outputs:
        command += ["-o", output]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(output.exists() for output in outputs)
