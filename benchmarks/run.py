"""Measure bnfold against what a user would run instead, as ratios taken in one session on one machine.

    python benchmarks/run.py [--folder DIR] [--rounds N] [--only NAME ...] [--markdown FILE]
    python benchmarks/run.py --against COMMIT       this checkout beside another commit of it, and nothing else

Every measure is a whole process, page cache warm, the median of N rounds in which all commands of a table take turns,
so that a busy machine is busy for all of them. What is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PYTHON = sys.executable
BNFOLD = [str(Path(PYTHON).with_name("bnfold"))]
# pip compiles what it installs; a checkout has to be let keep what it compiled, or every start would compile it again.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Measure:
    """The median of some runs of one command: wall-clock seconds, processor seconds, largest resident size in bytes."""

    seconds: float
    processor: float
    resident: int


def once(command: Sequence[str]) -> Measure:
    """Run a command to its end; it must succeed."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        shutil.which(command[0]) or command[0],
        list(command),
        ENVIRONMENT,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return Measure(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turns(commands: dict[str, Sequence[str]], rounds: int) -> dict[str, Measure]:
    """The median measure of each command, after one run of each that does not count."""
    runs: dict[str, list[Measure]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            measured = once(command)
            if number:
                runs[name].append(measured)
    return {
        name: Measure(
            statistics.median(run.seconds for run in measured),
            statistics.median(run.processor for run in measured),
            max(run.resident for run in measured),
        )
        for name, measured in runs.items()
    }


def model(name: str, folder: Path) -> Path:
    """A model of `models.py`, made in a process of its own and on the disk before anything is measured.

    A process that is started has the largest size of the one that started it, and what is still to be written to the
    disk would be written beside what is measured.
    """
    subprocess.run(
        [PYTHON, str(Path(__file__).with_name("models.py")), str(folder), name], check=True, stdout=subprocess.DEVNULL
    )
    os.sync()
    return folder / f"{name}.prototxt"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"**{title}**", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


FLUSHED = "cp, flushed to the disk"


def speed(folder: Path, rounds: int) -> str:
    """Folding a file, against copying it and against merely loading it elsewhere."""
    parts = []
    for name in ("resnet152", "vgg16_bn"):
        net = model(name, folder)
        weights = net.with_suffix(".caffemodel")
        size = weights.stat().st_size
        out = folder / "out"
        source = folder / f"{name}.onnx"
        if not source.exists():
            subprocess.run([*BNFOLD, "export", *files(net), "-o", str(source)], check=True, stdout=subprocess.DEVNULL)
            os.sync()
        commands: dict[str, Sequence[str]] = {
            "numpy": [PYTHON, "-c", "import numpy"],
            "cp": ["cp", str(weights), str(folder / "copy.bin")],
            FLUSHED: ["dd", f"if={weights}", f"of={folder / 'copy.bin'}", "bs=4M", "conv=fsync"],
            "bnfold fold, Caffe to Caffe": [*fold(net), "-o", f"{out}.prototxt", "--no-verify"],
            "bnfold fold, Caffe to ONNX": [*fold(net), "-o", f"{out}.onnx", "--no-verify"],
            "bnfold fold, ONNX to ONNX": [*BNFOLD, "fold", str(source), "-o", f"{out}.onnx", "--no-verify"],
            "bnfold fold, Caffe to Caffe, verified": [*fold(net), "-o", f"{out}.prototxt"],
        }
        if find_spec("cv2"):
            read = f"import cv2; cv2.dnn.readNetFromCaffe({str(net)!r}, {str(weights)!r})"
            commands["OpenCV 4 readNetFromCaffe, only loading"] = [PYTHON, "-c", read]
        found = in_turns(commands, rounds)
        start, copies = found["numpy"].seconds, (found["cp"].seconds, found[FLUSHED].seconds)
        rows = []
        for command, measure in found.items():
            alone = measure.seconds - (0 if command in ("cp", FLUSHED, "numpy") else start)
            ratios = [f"{alone / copy:.1f}" for copy in copies]
            seconds, processor = f"{measure.seconds:.2f}", f"{measure.processor:.2f}"
            rows.append([command, seconds, *ratios, processor, f"{measure.resident / size:.2f}"])
        head = ("command", "seconds", "x cp*", "x flushed copy*", "processor seconds", "peak memory, x file")
        parts.append(table(f"{name}, {size / 1e6:.0f} MB", head, rows))
    return "\n".join([*parts, "\\* without the time of importing numpy\n"])


STAGES = """
import os, sys, time
started = float(sys.argv.pop(1))
marks = [("starting Python", time.time())]
mark = lambda what: marks.append((what, time.time()))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from bnfold.cli import main
mark("importing click and the command line")
import numpy
mark("importing numpy")
import bnfold.caffe.read, bnfold.caffe.write, bnfold.algebra, bnfold.pipeline as pipeline
mark("importing protobuf and bnfold")
def timed(module, name, what):
    function = getattr(module, name)
    def run(*given, **named):
        result = function(*given, **named)
        mark(what)
        return result
    setattr(module, name, run)
timed(pipeline, "load", "loading")
timed(bnfold.algebra, "fold", "folding")
timed(pipeline, "save", "saving")
try:
    main()
except SystemExit:
    mark("reporting")
for (what, at), (_, before) in zip(marks, [("", started), *marks]):
    print(f"{what}: {at - before:.6f}", file=sys.stderr)
"""
"""`bnfold fold` with a clock at each of its stages."""


def stages(folder: Path, rounds: int) -> str:
    """Where the time of folding goes."""
    net = model("resnet152", folder)
    command = [*files(net), "-o", str(folder / "out.prototxt"), "--no-verify"]
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        given = [PYTHON, "-c", STAGES, str(time.time()), "fold", *command]
        said = subprocess.run(given, env=ENVIRONMENT, check=True, capture_output=True, text=True).stderr
        for line in said.splitlines() if number else ():
            what, _, seconds = line.partition(": ")
            found.setdefault(what, []).append(float(seconds))
    medians = {what: statistics.median(seconds) for what, seconds in found.items()}
    whole = sum(medians.values())
    rows = [[what, f"{seconds * 1e3:.0f}", f"{seconds / whole:.0%}"] for what, seconds in medians.items()]
    return table("Stages of folding resnet152, Caffe to Caffe", ("stage", "milliseconds", "share"), rows)


def start_up(folder: Path, rounds: int) -> str:
    """How soon the command line answers."""
    sample = Path(__file__).parent.parent / "sample_models" / "digits_cifar10.prototxt"
    net = model("resnet50", folder)
    found = in_turns(
        {
            "python -c 'import numpy'": [PYTHON, "-c", "import numpy"],
            "bnfold --help": [*BNFOLD, "--help"],
            "bnfold inspect NET.prototxt": [*BNFOLD, "inspect", str(sample)],
            "bnfold inspect of a ResNet-50 with its weights": [*BNFOLD, "inspect", *files(net)],
        },
        rounds * 2,
    )
    numpy = found["python -c 'import numpy'"].seconds
    rows = [[name, f"{measure.seconds:.3f}", f"{measure.seconds / numpy:.2f}"] for name, measure in found.items()]
    return table("Start-up", ("command", "seconds", "x numpy"), rows)


def depth(folder: Path, rounds: int) -> str:
    """Time per layer, from 2,000 layers to 20,000."""
    chains = {count: model(f"chain-{count}", folder) for count in (2_000, 20_000)}
    commands = {
        f"{count}": [*fold(net), "-o", f"{folder}/out.prototxt", "--no-verify"] for count, net in chains.items()
    }
    found = in_turns({"nothing": [*BNFOLD, "inspect", "--help"], **commands}, rounds)
    start = found.pop("nothing").processor
    rows = [
        [f"{int(count):,}", f"{run.processor:.2f}", f"{(run.processor - start) / int(count) * 1e6:.0f}"]
        for count, run in found.items()
    ]
    return table("Depth", ("layers", "processor seconds", "microseconds per layer"), rows)


def folding_onnx(folder: Path, rounds: int) -> str:
    """Folding here, against folding the unfolded export with other tools; and how fast each result runs."""
    net = model("resnet152", folder)
    plain, ours = folder / "unfolded.onnx", folder / "folded.onnx"
    subprocess.run([*BNFOLD, "export", *files(net), "-o", str(plain)], check=True, stdout=subprocess.DEVNULL)
    from_onnx = folder / "folded_from_onnx.onnx"
    made = {"unfolded export": plain, "bnfold fold, of Caffe": ours, "bnfold fold, of ONNX": from_onnx}
    commands: dict[str, Sequence[str]] = {
        "bnfold fold, of Caffe": [*fold(net), "-o", str(ours), "--no-verify"],
        "bnfold fold, of ONNX": [*BNFOLD, "fold", str(plain), "-o", str(from_onnx), "--no-verify"],
    }
    for tool, script in TOOLS.items():
        if find_spec(tool):
            made[tool] = folder / f"{tool}.onnx"
            commands[tool] = [PYTHON, "-c", script, str(plain), str(made[tool])]
    found = in_turns(commands, max(1, rounds // 2))
    level = {"all off": "ORT_DISABLE_ALL", "as by default": "ORT_ENABLE_ALL"}
    times = {name: latencies(list(made.values()), option, rounds) for name, option in level.items()}
    rows = []
    for number, (name, path) in enumerate(made.items()):
        took = f"{found[name].seconds:.2f}" if name in found else ""
        each = [f"{times[option][0] / times[option][number]:.2f}" for option in level]
        rows.append([name, took, f"{path.stat().st_size / 1e6:.0f}", *each])
    head = ["made by", "seconds", "MB", *(f"speed in onnxruntime, optimisations {option}" for option in level)]
    missing = [tool for tool in TOOLS if not find_spec(tool)]
    note = f"\nNot installed here: {', '.join(missing)}.\n" if missing else ""
    return table("Folding an ONNX of resnet152; speed relative to the unfolded export", head, rows) + note


def latencies(paths: Sequence[Path], level: str, rounds: int) -> list[float]:
    """The median seconds of one run of each model, the models taking turns."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(str(path), options) for path in paths]
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    runs: list[list[float]] = [[] for _ in paths]
    for number in range(2 * rounds + 1):
        for session, times in zip(sessions, runs, strict=True):
            began = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            if number:
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in runs]


def against(commit: str, folder: Path, rounds: int) -> str:
    """This checkout and another commit of it in turns: the least of the rounds, by the clock and by processor time."""
    here = Path(__file__).parent.parent
    other = folder / "other"
    subprocess.run(["git", "-C", str(here), "worktree", "add", "-q", "--detach", str(other), commit], check=True)
    try:
        trees = {tree: ["env", f"PYTHONPATH={tree}", PYTHON, "-m", "bnfold"] for tree in (here, other)}
        commands: dict[str, list[str]] = {"inspect resnet50": ["inspect", *files(model("resnet50", folder))]}
        for name in ("resnet152", "chain-2000", "chain-20000"):
            for form in ("prototxt", "onnx") if name == "resnet152" else ("prototxt",):
                out = str(folder / f"out.{form}")
                commands[f"fold {name} to {form}"] = ["fold", *files(model(name, folder)), "-o", out, "--no-verify"]
        rows = []
        for name, arguments in commands.items():
            runs: dict[Path, list[Measure]] = {tree: [] for tree in trees}
            for number in range(rounds + 1):
                for tree, start in trees.items():
                    measured = once([*start, *arguments])
                    if number:
                        runs[tree].append(measured)
            row = [name]
            for what in ("seconds", "processor"):
                now, then = (min(getattr(run, what) for run in runs[tree]) for tree in (here, other))
                row += [f"{now:.3f}", f"{then:.3f}", f"{now / then:.2f}"]
            rows.append(row)
    finally:
        subprocess.run(["git", "-C", str(here), "worktree", "remove", "--force", str(other)], check=True)
    head = ("command", "seconds", "then", "x", "processor seconds", "then", "x")
    return table(f"This checkout against {commit}, the least of {rounds}", head, rows)


def fold(net: Path) -> list[str]:
    """`bnfold fold` of a model."""
    return [*BNFOLD, "fold", *files(net)]


def files(net: Path) -> list[str]:
    """A model as the arguments of a command."""
    return [str(net), str(net.with_suffix(".caffemodel"))]


BATCH = ("--batch", "8")


def comparing(folder: Path, rounds: int) -> str:
    """What a comparison costs beside running both networks on the same samples, on two processors and on all."""
    all_of_them = sorted(os.sched_getaffinity(0))
    rows, parts = [], []
    for name in ("resnet50", "resnet152"):
        net = model(name, folder)
        plain, ours = folder / f"{name}-unfolded.onnx", folder / f"{name}-folded.onnx"
        subprocess.run(
            [*BNFOLD, "export", *files(net), *BATCH, "-o", str(plain)], check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run([*fold(net), *BATCH, "-o", str(ours), "--no-verify"], check=True, stdout=subprocess.DEVNULL)
        for processors in dict.fromkeys([2, len(all_of_them)]):
            found = compared(plain, ours, all_of_them[:processors], "--rounds", str(rounds), "--terms")
            outputs, every, terms = found["outputs"], found["every blob"], found["terms"]
            rows.append(
                [
                    name,
                    str(processors),
                    f"{1 / found['bare']['seconds']:.1f}",
                    f"{outputs['ratio']:.2f} ({outputs['processor ratio']:.2f})",
                    f"{every['ratio']:.2f} ({every['processor ratio']:.2f})",
                    f"{1 / every['seconds']:.1f}",
                    f"{found['resident'] / 1e9:.1f}",
                ]
            )
            pairs = terms.pop("pairs")
            milliseconds = [f"{seconds * 1e3:.2f}" for seconds in terms.values()]
            parts.append(
                [name, str(processors), *milliseconds, f"{pairs / 1e6:.1f}", f"{terms['measure'] / pairs * 1e9:.1f}"]
            )
    sample = Path(__file__).parent.parent / "sample_models" / "digits_cifar10.prototxt"
    plain, ours = folder / "digits-unfolded.onnx", folder / "digits-folded.onnx"
    subprocess.run([*BNFOLD, "export", *files(sample), *BATCH, "-o", str(plain)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*fold(sample), *BATCH, "-o", str(ours), "--no-verify"], check=True, stdout=subprocess.DEVNULL)
    many = ["--count", "16384", "--rounds", str(rounds), "--workers", "0", "1", "2", "4"]
    rates = compared(plain, ours, all_of_them, *many)["samples/s"]
    shared = [["one process" if number == "0" else number, f"{rate:,.0f}"] for number, rate in rates.items()]
    head = ("network", "processors", "bare samples/s", "x bare, outputs", "x bare, every blob", "samples/s", "peak GB")
    terms_head = ("network", "processors", "decode", "run", "measure", "merge", "million pairs", "ns a pair")
    return "\n".join(
        [
            table("Comparing, beside running both networks alone; by processor time in brackets", head, rows),
            table("Processor milliseconds of a sample", terms_head, parts),
            table(
                f"Comparing every blob of digits_cifar10 by workers of one machine, {len(all_of_them)} processors",
                ("workers", "samples/s"),
                shared,
            ),
        ]
    )


def compared(reference: Path, candidate: Path, processors: Sequence[int], *options: str) -> dict[str, Any]:
    """What `comparing.py` says of two models on some processors."""
    command = [PYTHON, str(Path(__file__).with_name("comparing.py")), str(reference), str(candidate), *options]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, processors)
    )
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


TOOLS = {
    "onnxoptimizer": "import onnx, onnxoptimizer, sys; onnx.save(onnxoptimizer.optimize(onnx.load(sys.argv[1]),"
    " ['fuse_bn_into_conv', 'fuse_add_bias_into_conv']), sys.argv[2])",
    "onnxsim": "import onnx, onnxsim, sys; onnx.save(onnxsim.simplify(sys.argv[1])[0], sys.argv[2])",
    "onnxslim": "import onnxslim, sys; onnxslim.slim(sys.argv[1], sys.argv[2])",
}

TABLES = {
    "speed": speed,
    "stages": stages,
    "start_up": start_up,
    "depth": depth,
    "folding_onnx": folding_onnx,
    "comparing": comparing,
}


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the models are made and kept; a temporary one by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    parser.add_argument("--against", metavar="COMMIT", help="measure beside this commit, and nothing else")
    parser.add_argument("--markdown", type=Path, help="write the tables here too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        tables = [partial(TABLES[name], folder, given.rounds) for name in given.only]
        parts = []
        for measured in [partial(against, given.against, folder, given.rounds)] if given.against else tables:
            parts.append(measured())
            print(parts[-1], flush=True)
    if given.markdown:
        given.markdown.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
