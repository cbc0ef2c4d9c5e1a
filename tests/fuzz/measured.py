"""Running bnfold in a process of its own, with a limit on its memory, and reading what it took."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from present import present

ROOT = Path(__file__).resolve().parents[2]

# One process imports bnfold and forks for each order, since importing takes longer than most orders. VmHWM is the
# process's own peak, and writing 5 to clear_refs starts it anew.
_FORKING = """
import contextlib, io, json, os, re, resource, signal, sys, threading, time
from pathlib import Path
from bnfold.cli import main

def run(job):
    Path("/proc/self/clear_refs").write_text("5")
    said, complained, code, before = io.StringIO(), io.StringIO(), 0, time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            main(job)
        except SystemExit as stop:
            code = stop.code
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
    return [code, said.getvalue(), complained.getvalue(), peak, time.process_time() - before]

run(["inspect", sys.argv[1]])  # it takes the imports
assert threading.active_count() == 1, "a fork has one thread only"
print(flush=True)
for line in sys.stdin:
    folder, jobs, limit, timeout = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(folder)
    os.dup2(os.open("complaints", os.O_WRONLY | os.O_CREAT), 2)
    signal.alarm(timeout)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Path("report.json").write_text(json.dumps(list(map(run, jobs))))
    os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a command said and took: memory in bytes, all of the process, and time in seconds of processor."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float


@cache
def _forking() -> subprocess.Popen[str]:
    """What forks, ready to: it ends with this process."""
    # The budgets are those of a user's Python, whose development mode checks every allocation.
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDEVMODE": ""}
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as sound:
        sound.write('input: "data" input_dim: [1, 1, 1, 1] layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
        sound.flush()
        forking = subprocess.Popen(
            [sys.executable, "-c", _FORKING, sound.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        atexit.register(forking.__exit__, None, None, None)
        present(forking.stdout).readline()
    return forking


def several(jobs: Sequence[Sequence[str | Path]], address_space: int = 4 << 30, timeout: int = 300) -> list[Run]:
    """Run commands one after the other in one process. Fails when that was killed."""
    forking = _forking()
    with tempfile.TemporaryDirectory() as folder:
        order = folder, [list(map(str, job)) for job in jobs], address_space, timeout
        print(json.dumps(order), file=forking.stdin, flush=True)
        code = present(forking.stdout).readline().strip()
        report, complaints = Path(folder) / "report.json", Path(folder) / "complaints"
        assert report.exists(), f"the process ended with {code}: {complaints.read_text()[-2000:]}"
        return [Run(*run) for run in json.loads(report.read_text())]
