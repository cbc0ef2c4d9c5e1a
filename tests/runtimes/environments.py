"""The runtimes that exported models are tried in, and an environment of its own for each.

    python tests/runtimes/environments.py FOLDER [NAME ...]

makes FOLDER/NAME for every runtime, or those that are named, from the optional-dependency groups `runtime-NAME` of
pyproject.toml. They cannot share one: OpenCV 5 and the OpenCV 4 of our other tests have the same module, and each pins
what it likes. MNN is not among them: importing its converter runs pip in whatever Python comes first on the path, so no
environment holds it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime to try.

    Attributes:
        name: of its environment, its dependency group (`runtime-NAME`) and its marker.
        title: for people.
        engine: which function of worker.py runs it.
        alone: packages of the group that are installed without what they ask for.
        needs_gpu: it runs only where a GPU of NVIDIA's is.
    """

    name: str
    title: str
    engine: str
    alone: tuple[str, ...] = ()
    needs_gpu: bool = False

    @property
    def can_run(self) -> bool:
        """Whether what it needs is here."""
        return not self.needs_gpu or Path("/dev/nvidiactl").exists()


RUNTIMES = (
    Runtime("onnxruntime", "onnxruntime", "onnxruntime"),
    Runtime("oldest_onnxruntime", "onnxruntime, oldest", "onnxruntime"),
    Runtime("cuda", "onnxruntime, CUDA", "cuda", needs_gpu=True),
    Runtime("tensorrt", "onnxruntime, TensorRT", "tensorrt", needs_gpu=True),
    Runtime("opencv5", "OpenCV 5", "opencv"),
    Runtime("openvino", "OpenVINO", "openvino"),
    # pnnx asks for torch, and its converter is a program that needs none.
    Runtime("ncnn", "ncnn", "ncnn", alone=("pnnx",)),
    Runtime("tract", "tract", "tract"),
    Runtime("tvm", "TVM", "tvm"),
    Runtime("onnx_reference", "onnx reference", "onnx_reference"),
)


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of an environment, which may not be there."""
    return folder / name / "bin" / "python"


def installed(folder: Path) -> tuple[Runtime, ...]:
    """The runtimes that have an environment there."""
    return tuple(runtime for runtime in RUNTIMES if runtime.can_run and python_of(folder, runtime.name).exists())


def requirements(name: str) -> list[str]:
    """What pip is told to install."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    if name == "oldest_onnxruntime":
        # What bnfold itself asks for, everything as old as it allows.
        return [requirement.replace(">=", "==") for requirement in project["dependencies"]]
    groups: dict[str, list[str]] = project["optional-dependencies"]
    return groups[f"runtime-{name.replace('_', '-')}"]


def make(runtime: Runtime, folder: Path) -> None:
    """Create the environment and install the runtime there."""
    print(f"{runtime.name}: {folder / runtime.name}", flush=True)
    venv.create(folder / runtime.name, with_pip=True, symlinks=True)
    wanted = requirements(runtime.name)
    alone = [requirement for requirement in wanted if re.split(r"[<>=~!]", requirement)[0] in runtime.alone]
    for packages, options in (([*set(wanted) - set(alone)], []), (alone, ["--no-deps"])):
        if packages:
            pip = [str(python_of(folder, runtime.name)), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *options, *packages], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(runtime.name for runtime in RUNTIMES))
    given = parser.parse_args()
    if unknown := set(given.names) - {runtime.name for runtime in RUNTIMES}:
        parser.error(f"there is no runtime {', '.join(sorted(unknown))}")
    for runtime in RUNTIMES:
        if runtime.name in given.names or (not given.names and runtime.can_run):
            make(runtime, given.folder)


if __name__ == "__main__":
    main()
