"""What bnfold and other tools leave of the affines in `tests/golden_onnx`, and what they break.

    python benchmarks/onnx_tools.py [TOOL ...]

A tool runs over all models in one process of its own. Printed are: the models, the affines in them and those that are
left, models that come out wrong (an output is off by more than 2e-5 of its range) or not at all, values whose name
survives with another value, and the seconds for all models. A tool that is not installed is said to be missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnx  # noqa: E402
from onnx_cases import TOLERANCE, OnnxCase, affines_in, cases, error, run, values_of  # noqa: E402


def by_bnfold(path: str, out: str) -> None:
    from bnfold import fold, load, save_onnx

    save_onnx(fold(load(path)).net, out)


def by_onnxoptimizer(path: str, out: str) -> None:
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(path), onnxoptimizer.get_fuse_and_elimination_passes()), out)


def by_onnxruntime(path: str, out: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = out, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_onnxscript(path: str, out: str) -> None:
    import onnxscript.optimizer
    import onnxscript.rewriter

    onnx.save(onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(onnx.load(path))), out)


def by_onnxsim(path: str, out: str) -> None:
    import onnxsim

    onnx.save(onnxsim.simplify(path)[0], out)


def by_onnxslim(path: str, out: str) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(path)), out)


TOOLS: dict[str, Callable[[str, str], None]] = {
    "bnfold": by_bnfold,
    "onnxruntime": by_onnxruntime,
    "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
    "onnxoptimizer": by_onnxoptimizer,
    "onnxscript": by_onnxscript,
}


class Row(NamedTuple):
    """What a tool made of all models."""

    models: int
    affines: int
    left: int
    wrong: int
    failed: int
    renamed: int
    seconds: float


def work(tool: str, folder: Path) -> None:
    """The child: every model by one tool, and the seconds; one that fails has no output."""
    seconds = 0.0
    for number, case in enumerate(cases()):
        begun = time.perf_counter()
        try:
            TOOLS[tool](str(case.path), str(folder / f"{number}.onnx"))
        except ImportError:
            raise
        except Exception as reason:
            print(f"{tool}: {case}: {type(reason).__name__}: {str(reason)[:120]}", file=sys.stderr)
        seconds += time.perf_counter() - begun
        (folder / "seconds").write_text(json.dumps(seconds))


def judge(folder: Path) -> Row:
    """What came out."""
    left = wrong = failed = renamed = affines = 0
    for number, case in enumerate(cases()):
        affines += case.affines
        path = folder / f"{number}.onnx"
        verdict = check(case, path)
        if verdict is None:
            failed += 1
            left += case.affines
            continue
        affine_count, is_wrong, changed = verdict
        left, wrong, renamed = left + affine_count, wrong + is_wrong, renamed + changed
    return Row(len(cases()), affines, left, wrong, failed, renamed, json.loads((folder / "seconds").read_text()))


def check(case: OnnxCase, path: Path) -> tuple[int, bool, int] | None:
    """(affines left, whether an output is wrong, names with another value); None where it does not load or run."""
    try:
        model, original = onnx.load(path), onnx.load(case.path)
        names = sorted(set(values_of(model)) & set(values_of(original)))
        try:
            before, after = run(original, case.inputs(), names), run(model, case.inputs(), names)
        except Exception:  # a name of a type that cannot be an output
            before, after, names = {}, run(model, case.inputs()), []
        outputs = (
            dict(zip(case.outputs(), after, strict=False)) if not names else {name: name for name in case.outputs()}
        )
        wrong = any(error(after[outputs[name]], value) > TOLERANCE for name, value in case.outputs().items())
        changed = sum(error(after[name], before[name]) > TOLERANCE for name in names)
        return affines_in(model), wrong, changed
    except Exception as reason:
        print(f"{case}: {type(reason).__name__}: {str(reason)[:120]}", file=sys.stderr)
        return None


def main(tools: list[str]) -> None:
    """Every tool in turn, as a table."""
    print("| tool | models | affines | left | wrong | failed | names with another value | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for tool in tools or TOOLS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = subprocess.run(
                [sys.executable, __file__, "--work", tool, name], capture_output=True, text=True, check=False
            )
            if not (folder / "seconds").exists():
                print(f"| {tool} | {'missing' if 'ModuleNotFoundError' in child.stderr else 'crashed'} | | | | | | |")
                continue
            row = judge(folder)
            cells = (row.models, row.affines, row.left, row.wrong, row.failed, row.renamed, f"{row.seconds:.1f}")
            print(f"| {tool} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Path(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(TOOLS))
        tools = parser.parse_args().tools
        if unknown := set(tools) - set(TOOLS):  # `choices` would be asked about no tool, too
            parser.error(f"no tool is called {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
        main(tools)
