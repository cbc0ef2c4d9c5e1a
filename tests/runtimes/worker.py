"""Runs ONNX models in one runtime, for a harness that must live through it: this file is run by the interpreter of that
runtime's own environment, so it imports nothing but the standard library, numpy and the runtime.

    PYTHON worker.py ENGINE

It reads one job per line, `{"model": path, "feeds": path, "answers": path, "inputs": [names], "outputs": [names]}`,
where `feeds` is an npz with the arrays in the order of `inputs`; it writes `answers` in the order of `outputs`, and one
line: `{}`, or `{"refused": the runtime's words, "printed": what it printed by itself}`, since some say only there why.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
Engine = Callable[[str, Arrays, list[str]], list[Any]]
LAST_WORDS = 2000


class RefusedError(Exception):
    """The runtime's words, where it raises nothing itself."""


class ChanceError(RefusedError):
    """Likewise, where another try may end otherwise: pnnx spoils its own memory, and dies or writes nonsense then.

    Args:
        message: the words.
        tries: how often it is worth to try.
    """

    def __init__(self, message: str, tries: int) -> None:
        super().__init__(message)
        self.tries = tries


def by_ncnn(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """Converted by pnnx, again where that dies."""
    done = 0
    while True:
        try:
            return _by_ncnn(model, feeds, outputs)
        except ChanceError as error:
            done += 1
            if done >= error.tries:
                raise


def _by_ncnn(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """Converted by pnnx, whose generated script says where the batch lies in each input and output."""
    import ncnn

    # Importing the package would ask for torch.
    converter = next(path for path in metadata.files("pnnx") or () if path.name == "pnnx" and "bin" not in path.parts)
    with tempfile.TemporaryDirectory() as folder:
        graph, weights, script = (Path(folder) / name for name in ("net.param", "net.bin", "net.py"))
        names = {"pnnxparam": "a", "pnnxbin": "b", "pnnxpy": "c.py", "pnnxonnx": "d"}
        paths = [f"{key}={Path(folder) / name}" for key, name in names.items()]
        paths += [f"ncnnparam={graph}", f"ncnnbin={weights}", f"ncnnpy={script}", "fp16=0"]
        _convert(str(converter.locate()), model, *paths)
        if not script.exists():
            raise RefusedError("the converter wrote nothing")
        text = script.read_text(encoding="utf-8")
        with ncnn.Net() as net:
            for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
                setattr(net.opt, f"use_{option}", False)
            net.opt.num_threads = 1
            if net.load_param(str(graph)) or net.load_model(str(weights)):
                raise ChanceError("the converted model does not load", 3)
            with net.create_extractor() as extractor:
                for index, value in enumerate(feeds.values()):
                    batch = _batch(text, rf'ex\.input\("in{index}", ncnn\.Mat\(.*?batch_index=(\d+)')
                    extractor.input(f"in{index}", ncnn.Mat(np.ascontiguousarray(value), **batch).clone())
                given = []
                for index in range(len(outputs)):
                    code, value = extractor.extract(f"out{index}")
                    if code:
                        raise RefusedError(f"extracting output {index} fails with code {code}")
                    given.append(np.array(value.numpy(**_batch(text, rf"out{index}\.numpy\(batch_index=(\d+)"))))
                return given


def _batch(script: str, pattern: str) -> dict[str, int]:
    found = re.search(pattern, script)
    return {"batch_index": int(found[1])} if found else {}


def by_onnx_reference(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(outputs, feeds))


def by_onnxruntime(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """With its optimisations, as users run it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, feeds))


def by_cuda(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """On a GPU, in float32."""
    return _on_gpu(model, feeds, outputs, [])


def by_tensorrt(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """By TensorRT, which has no option for it and reads this variable when it starts."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    import tensorrt  # noqa: F401 - its import loads its libraries

    return _on_gpu(model, feeds, outputs, ["TensorrtExecutionProvider"])


def _on_gpu(model: str, feeds: Arrays, outputs: list[str], first: list[str]) -> list[Any]:
    import onnxruntime

    onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [*first, ("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    wanted = first[0] if first else "CUDAExecutionProvider"
    if wanted not in session.get_providers():
        raise RefusedError(f"{wanted} does not start here")
    return list(session.run(outputs, feeds))


def by_opencv(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    import cv2

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(model)
    for name, value in feeds.items():
        net.setInput(value, name)
    return list(net.forward(outputs))


def by_openvino(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    """In float32: left alone, it computes in bfloat16 where the processor can."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    given = compiled(feeds)
    return [given[compiled.output(name)] for name in outputs]


def by_tract(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    import tract

    inference = tract.onnx().load(model)
    for index, value in enumerate(feeds.values()):
        inference.set_input_fact(index, ",".join([*map(str, value.shape), "f32"]))
    runnable = inference.into_model().into_runnable()
    return [value.to_numpy() for value in runnable.run(list(feeds.values()))]


def by_tvm(model: str, feeds: Arrays, outputs: list[str]) -> list[Any]:
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    imported = from_onnx(onnx.load(model), keep_params_in_input=False)
    compiled = tvm.compile(relax.get_pipeline("zero")(imported), target="llvm")
    machine = relax.VirtualMachine(compiled, tvm.cpu())
    given = machine["main"](*[tvm.runtime.tensor(value) for value in feeds.values()])
    return [value.numpy() for value in ([given] if len(outputs) == 1 else given)]


def _convert(*command: str) -> None:
    """Run a converter, which must not read our jobs. Whether it did its work shows in the files that it wrote."""
    code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    if code < 0:
        raise ChanceError(f"the converter died: {signal.Signals(-code).name}", 12)


def answer(engine: Engine, job: Mapping[str, Any], log: Any) -> dict[str, str]:
    """Run one job. Returns the line to write."""
    mark = log.seek(0, os.SEEK_END)
    try:
        with np.load(job["feeds"]) as arrays:
            feeds = dict(zip(job["inputs"], arrays.values(), strict=True))
        np.savez(job["answers"], *engine(job["model"], feeds, job["outputs"]))
    except Exception as error:
        log.seek(mark)
        printed = log.read().decode(errors="replace").strip()[-LAST_WORDS:]
        words = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
        return {"refused": words, "printed": printed}
    return {}


def main(name: str) -> None:
    """Answer jobs until there are no more."""
    engine = ENGINES[name]
    jobs, lines = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile(buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        versions = {package: metadata.version(package) for package in PACKAGES[name]}
        lines.write(json.dumps(versions) + "\n")
        lines.flush()
        for job in jobs:
            lines.write(json.dumps(answer(engine, json.loads(job), log)) + "\n")
            lines.flush()


ENGINES: Mapping[str, Engine] = {
    "cuda": by_cuda,
    "ncnn": by_ncnn,
    "onnx_reference": by_onnx_reference,
    "onnxruntime": by_onnxruntime,
    "opencv": by_opencv,
    "openvino": by_openvino,
    "tensorrt": by_tensorrt,
    "tract": by_tract,
    "tvm": by_tvm,
}

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "cuda": ("onnxruntime-gpu", "numpy"),
    "ncnn": ("ncnn", "pnnx"),
    "onnx_reference": ("onnx",),
    "onnxruntime": ("onnxruntime", "numpy"),
    "opencv": ("opencv-python-headless",),
    "openvino": ("openvino",),
    "tensorrt": ("onnxruntime-gpu", "tensorrt"),
    "tract": ("tract",),
    "tvm": ("apache-tvm",),
}

if __name__ == "__main__":
    main(sys.argv[1])
