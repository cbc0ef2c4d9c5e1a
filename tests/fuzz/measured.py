"""Running bnfold in a process of its own, with a limit on its memory, and reading what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The peak is the process's own (VmHWM): what wait4 reports includes the parent's, from before exec.
_WRAPPER = """
import atexit, json, re, resource, runpy, sys, time
limit, report = int(sys.argv[1]), sys.argv[2]
def account():
    status = open("/proc/self/status").read()
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status).group(1)) * 1024
    with open(report, "w") as file:
        json.dump({"peak": peak, "seconds": time.process_time()}, file)
atexit.register(account)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv[:] = ["bnfold", *sys.argv[3:]]
runpy.run_module("bnfold", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a process said and took; memory in bytes, time in seconds of processor."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float


def bnfold(*arguments: str | Path, address_space: int = 4 << 30, timeout: float = 300) -> Run:
    """Run the command line. Fails when the process was killed or left no account."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [sys.executable, "-c", _WRAPPER, str(address_space), str(report), *map(str, arguments)],
            capture_output=True,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        account = json.loads(report.read_text())
    out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return Run(done.returncode, out, err, account["peak"], account["seconds"])
