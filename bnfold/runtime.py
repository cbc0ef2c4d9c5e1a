"""Running a network: onnxruntime behind one small interface, and the only file that imports it.

Graph optimisations are off. onnxruntime fuses Convolution and BatchNormalization by itself; with them on, a
verification would test its folding and not ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import ModelError, UsageError
from bnfold.net import Array

if TYPE_CHECKING:
    from onnx import ModelProto

FATAL = 4  # onnxruntime's severity: its errors come as exceptions, too, and its warnings are about optimisations

DTYPES = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, slots=True)
class Port:
    """What an input takes or an output gives.

    Attributes:
        shape: one entry per axis; None where the model leaves the size open.
        dtype: numpy's type of the values.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


def engine() -> Any:
    """onnxruntime itself, which tells nobody anything.

    From 1.32 on it would write a device id and the names of models below the home folder, and look a host up; it
    looks for this variable when it is loaded, and is asked again in case the program has loaded it before.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.disable_telemetry_events()
    return onnxruntime


class Session:
    """One network, ready to run on the CPU with the same result every time.

    Args:
        model: an `onnx.ModelProto`, its serialised bytes, or the path of an ONNX file.
        threads: how many threads an operator may use; 0 leaves that to onnxruntime.
        folder: where the external data of a model that is given as message or bytes lies.

    Raises:
        ModelError: onnxruntime does not accept the model.

    Example:
        >>> session = Session("net.onnx")                           # doctest: +SKIP
        >>> session.run({"data": images})["prob"].shape             # doctest: +SKIP
        (16, 10)
    """

    __slots__ = ("_session", "inputs", "outputs")

    def __init__(
        self, model: ModelProto | bytes | str | os.PathLike[str], *, threads: int = 0, folder: Path | None = None
    ) -> None:
        onnxruntime = engine()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.intra_op_num_threads = threads
        options.log_severity_level = FATAL
        if folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        # Packed copies of the weights make runs no faster here, and a mapped file would be read into memory for them.
        options.add_session_config_entry("session.disable_prepacking", "1")
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else model
        if not isinstance(source, str | bytes):
            source = source.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but Exception
            name = f"'{source}'" if isinstance(source, str) else "the model"
            raise ModelError(f"onnxruntime cannot load {name}: {_sentence(error)}") from error
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the outputs.

        Args:
            feeds: input name -> values; the type is converted to what the model takes.
            outputs: the names wanted, all by default.

        Returns:
            Output name -> values, in the order asked for.

        Raises:
            UsageError: an input is missing, unknown or has another shape than the model's.
            ModelError: onnxruntime stops while running.
        """
        names = list(self.outputs if outputs is None else outputs)
        given = self._checked(feeds)
        try:
            values = self._session.run(names, given)
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run the model: {_sentence(error)}") from error
        return dict(zip(names, (np.asarray(value) for value in values), strict=True))

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        wrong = [f"input '{name}' is not given" for name in self.inputs if name not in feeds]
        wrong += [f"there is no input '{name}'" for name in feeds if name not in self.inputs]
        for name, port in self.inputs.items():
            if name in feeds and not fits(feeds[name].shape, port.shape):
                wrong.append(f"input '{name}' has shape {feeds[name].shape} where the model takes {port.shape}")
        if wrong:
            raise UsageError("; ".join(wrong))
        return {name: np.ascontiguousarray(feeds[name], port.dtype) for name, port in self.inputs.items()}


def fits(shape: Sequence[int], port: Sequence[int | None]) -> bool:
    """Whether an array of `shape` may go where `port` is asked for."""
    return len(shape) == len(port) and all(want in (None, have) for have, want in zip(shape, port, strict=True))


def _ports(nodes: Iterable[Any]) -> dict[str, Port]:
    return {
        node.name: Port(
            tuple(size if isinstance(size, int) else None for size in node.shape),
            np.dtype(DTYPES.get(node.type, np.float32)),
        )
        for node in nodes
    }


def _sentence(error: Exception) -> str:
    """The message without onnxruntime's code prefix and line breaks, since users read it in one line."""
    return " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
