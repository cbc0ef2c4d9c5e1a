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
# How long this machine takes for a fixed piece of Python, beside the machine that the budgets were stated on.
def slowness():
    before = time.process_time()
    for _ in range(20):
        sorted(str(number) for number in range(20_000))
    return max(1.0, (time.process_time() - before) / 0.12)
limit, jobs, report = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from bnfold.cli import main
runs, slow = [], slowness()
for job in jobs:
    Path("/proc/self/clear_refs").write_text("5")
    said, complained, code, before = io.StringIO(), io.StringIO(), 0, time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main(job)
        except SystemExit as stop:
            code = stop.code
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
    runs.append([code, said.getvalue(), complained.getvalue(), peak, time.process_time() - before])
slow = max(slow, slowness())
report.write_text(json.dumps([[*run, seconds / slow] for *run, seconds in runs]))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a command said and took; memory in bytes, all of the process.

    Time is in seconds of processor, of a machine as fast as the budgets are stated for.
    """

    code: int
    out: str
    err: str
    peak: int
    seconds: float


def bnfold(*arguments: str | Path, address_space: int = 4 << 30) -> Run:
    """Run one command."""
    return several([arguments], address_space)[0]


def several(jobs: Sequence[Sequence[str | Path]], address_space: int = 4 << 30, timeout: float = 300) -> list[Run]:
    """Run commands one after the other in one process. Fails when that was killed."""
    # The budgets are those of a user's Python, whose development mode checks every allocation.
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDEVMODE": ""}
    with tempfile.TemporaryDirectory() as folder:
        orders, report = Path(folder) / "orders.json", Path(folder) / "report.json"
        orders.write_text(json.dumps([list(map(str, job)) for job in jobs]))
        done = subprocess.run(
            [sys.executable, "-c", _WRAPPER, str(address_space), str(orders), str(report)],
            stderr=subprocess.PIPE,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, **environment},
        )
        assert report.exists(), f"the process ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        return [Run(*run) for run in json.loads(report.read_text())]
