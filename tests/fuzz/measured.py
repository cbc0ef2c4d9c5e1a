"""Running bnfold in a process of its own, with a limit on its memory, and reading what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# VmHWM is the process's own peak, and writing 5 to clear_refs starts it anew.
_WRAPPER = """
import contextlib, io, json, re, resource, sys, time
from pathlib import Path
limit, jobs, report = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from bnfold.cli import main
runs = []
for job in [["inspect", sys.argv[4]], *jobs]:  # the first takes the imports
    Path("/proc/self/clear_refs").write_text("5")
    said, complained, code, before = io.StringIO(), io.StringIO(), 0, time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main(job)
        except SystemExit as stop:
            code = stop.code
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
    runs.append([code, said.getvalue(), complained.getvalue(), peak, time.process_time() - before])
report.write_text(json.dumps(runs[1:]))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a command said and took: memory in bytes, all of the process, and time in seconds of processor."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float


def several(jobs: Sequence[Sequence[str | Path]], address_space: int = 4 << 30, timeout: float = 300) -> list[Run]:
    """Run commands one after the other in one process. Fails when that was killed."""
    # The budgets are those of a user's Python, whose development mode checks every allocation.
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDEVMODE": ""}
    with tempfile.TemporaryDirectory() as folder:
        orders, report, sound = (Path(folder) / name for name in ("orders.json", "report.json", "sound.prototxt"))
        sound.write_text(
            'input: "data" input_dim: [1, 1, 1, 1] layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
        )
        orders.write_text(json.dumps([list(map(str, job)) for job in jobs]))
        done = subprocess.run(
            [sys.executable, "-c", _WRAPPER, str(address_space), *map(str, (orders, report, sound))],
            stderr=subprocess.PIPE,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, **environment},
        )
        assert report.exists(), f"the process ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        return [Run(*run) for run in json.loads(report.read_text())]
