"""Running a network: onnxruntime behind one small interface, and the only file that imports it.

Graph optimisations are off. onnxruntime fuses Convolution and BatchNormalization by itself; with them on, a
verification would test its folding and not ours.

An execution provider is a row of `PROVIDERS`. Where its values lie on a GPU they stay there, as arrays of CuPy or
torch.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from bnfold.errors import ModelError, UsageError, did_you_mean
from bnfold.io.signals import defer_signals
from bnfold.io.versions import installed
from bnfold.net import Array, DType, fits

if TYPE_CHECKING:
    from onnx import ModelProto

AnyArray = Any
"""An array of any library: numpy's or, where values stay on a GPU, CuPy's or torch's; they share no type."""
BOOL = 9  # onnx.TensorProto's element type, which DLPack says as bytes
TEXT = 8  # likewise
MANY = 8  # outputs from which on they are worth being bound
FATAL = 4  # onnxruntime's severity: its errors come as exceptions, too, and its warnings are about optimisations

# onnx.TensorProto's numbers of the types that numpy has, too; the module itself is imported in bnfold.onnx alone.
ELEMENTS: dict[int, DType] = {
    number: np.dtype(name)
    for number, name in enumerate(["f4", "u1", "i1", "u2", "i2", "i4", "i8", "O", "?", "f2", "f8", "u4", "u8"], 1)
    if name != "O"  # strings
}
SPELLED = {"float32": "float", "float64": "double"}
DTYPES = {f"tensor({SPELLED.get(dtype.name, dtype.name)})": dtype for dtype in ELEMENTS.values()}


@dataclass(frozen=True, slots=True)
class TensorPort:
    """What an input takes or an output gives.

    Attributes:
        shape: one entry per axis; None where the model leaves the size open. An unknown rank is (), as a scalar's:
            onnxruntime says no more, and takes any shape there.
        dtype: numpy's type of the values.
    """

    shape: tuple[int | None, ...]
    dtype: DType


def engine() -> Any:
    """onnxruntime itself, which tells nobody anything.

    From 1.32 on it would write a device id and the names of models below the home folder, and look a host up; it
    looks for this variable when it is loaded, and is asked again in case the program has loaded it before.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@dataclass(frozen=True, slots=True)
class Provider:
    """One of onnxruntime's execution providers.

    Attributes:
        engine: onnxruntime's own name for it.
        package: what has to be installed.
        options: what makes it compute in float32.
        tf32: the option by which it computes products with 10 bits, and its value; None where it has none.
        device: where it leaves values that are not asked to the host, as onnxruntime calls it.
        loads: modules whose import loads its libraries, where they are installed as packages.
    """

    engine: str
    package: str = "onnxruntime"
    options: Mapping[str, str] = field(default_factory=dict)
    tf32: tuple[str, str] | None = None
    device: str | None = None
    loads: tuple[str, ...] = ()


MEANT = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt"}
"""What some call a provider -> its name."""
# The convolution of cuDNN that is searched for by timing differs from run to run.
CUDA = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
PROVIDERS: dict[str, Provider] = {
    "cann": Provider("CANNExecutionProvider", "onnxruntime-cann", {"precision_mode": "force_fp32"}),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime (on macOS)"),
    "cpu": Provider("CPUExecutionProvider"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", CUDA, ("use_tf32", "1"), "cuda"),
    "dml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
    "migraphx": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx"),
    "openvino": Provider(
        "OpenVINOExecutionProvider", "onnxruntime-openvino", {"precision": "FP32"}, loads=("openvino",)
    ),
    "qnn": Provider("QNNExecutionProvider", "onnxruntime-qnn"),
    "tensorrt": Provider(
        "TensorrtExecutionProvider", "onnxruntime-gpu and tensorrt", {}, device="cuda", loads=("tensorrt",)
    ),
    "webgpu": Provider("WebGpuExecutionProvider", "onnxruntime-webgpu"),
    "xnnpack": Provider("XnnpackExecutionProvider", "onnxruntime (on mobile systems)"),
}
TF32 = frozenset({"cuda", "tensorrt"})
TF32_OFF = "NVIDIA_TF32_OVERRIDE"  # what NVIDIA's libraries read when they start; TensorRT has no option of its own


@dataclass(frozen=True, slots=True)
class Execution:
    """Where and by what a network was run.

    Attributes:
        provider: the short name.
        device: what the system calls it; empty where onnxruntime does not say.
        versions: of onnxruntime, and of what it computes with.
        tf32: whether products were allowed 10 bits.
        fallback: the nodes that the provider left to the CPU, "type 'name'"; None where onnxruntime does not say.
        values: where the values were measured: "host", or the library whose arrays they stayed in.
    """

    provider: str = "cpu"
    device: str = ""
    versions: str = ""
    tf32: bool = False
    fallback: tuple[str, ...] | None = ()
    values: str = "host"


class SessionOptions(TypedDict, total=False):
    """What a `Session` takes besides the model."""

    threads: int
    folder: str | os.PathLike[str] | None
    provider: str
    tf32: bool


class Session:
    """One network, ready to run with the same result every time.

    Args:
        model: an `onnx.ModelProto`, its serialised bytes, or the path of an ONNX file.
        threads: how many threads an operator may use; 0 for as many as the process can run at once.
        folder: where the external data of a model that is given as message or bytes lies.
        provider: a key of `PROVIDERS`, or onnxruntime's own name of one.
        tf32: let products have 10 bits where the provider has such units.

    Raises:
        ModelError: onnxruntime does not accept the model.
        UsageError: there is no such provider here.

    Examples:
        >>> session = Session("model.onnx")
        >>> session.run({"data": np.zeros((1, 1, 8, 8), np.float32)})["prob"].shape
        (1, 10)
    """

    __slots__ = ("_bindable", "_library", "_provider", "_session", "execution", "inputs", "outputs")

    def __init__(
        self,
        model: ModelProto | bytes | str | os.PathLike[str],
        *,
        threads: int = 0,
        folder: str | os.PathLike[str] | None = None,
        provider: str = "cpu",
        tf32: bool = False,
    ) -> None:
        onnxruntime = engine()
        name, self._provider = require_provider(provider)
        options = _options(onnxruntime, threads or _own_threads(), folder)
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else model
        if not isinstance(source, str | bytes):
            source = source.SerializeToString()
        try:
            # Its threads defer them from then on, so that no signal reaches one while the main thread defers it.
            with _without_tf32(name == "tensorrt" and not tf32), defer_signals():
                chain = _chain(self._provider, tf32)
                more = {}
                if name != "cpu":
                    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
                    more = {"enable_fallback": 0}  # it would print, and go on with less
                self._session = onnxruntime.InferenceSession(source, options, providers=chain, **more)
        except Exception as error:  # its exceptions share no base but Exception
            if name != "cpu" and self._provider.engine in str(error):
                raise UsageError(_unstarted(name, self._provider)) from error
            what = f"'{source}'" if isinstance(source, str) else "the model"
            raise ModelError(f"onnxruntime cannot load {what}: {_sentence(error)}") from error
        if self._provider.engine not in self._session.get_providers():
            raise UsageError(_unstarted(name, self._provider))
        outputs = self._session.get_outputs()
        self._bindable = all(node.type.startswith("tensor(") and node.type != "tensor(string)" for node in outputs)
        self._bindable &= hasattr(onnxruntime.capi.onnxruntime_pybind11_state.OrtValue, "__dlpack__")
        # Text and sequences come by the host, and all others with them.
        self._library = _device_library() if self._provider.device is not None and self._bindable else None
        self.inputs = _ports(self._session.get_inputs())
        self.outputs = _ports(self._session.get_outputs())
        self.execution = Execution(
            name,
            _device_name(self._provider.engine),
            _versions(name),
            tf32 and name in TF32,
            () if name == "cpu" else _on_cpu(self._session),
            "host" if self._library is None else self._library.__name__,
        )

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the outputs.

        Args:
            feeds: input name -> values; the type is converted to what the model takes.
            outputs: the names wanted, all by default.

        Returns:
            Output name -> values, in the order asked for: numpy's arrays, or those of `execution.values` on a GPU.

        Raises:
            UsageError: an input is missing, unknown or has another shape than the model's.
            ModelError: onnxruntime stops while running.
        """
        names = list(self.outputs if outputs is None else outputs)
        given = self._checked(feeds)
        if not names:  # onnxruntime takes it for all
            return {}
        try:
            if self._library is not None:
                return self._run_there(self._library, given, names)
            if len(names) > MANY and self._bindable:
                return self._run_there(np, given, names)
            values = self._session.run(names, given)
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run the model: {_sentence(error)}") from error
        for name, value in zip(names, values, strict=True):
            if isinstance(value, list | dict):
                kind = "sequence" if isinstance(value, list) else "map"
                raise ModelError(f"'{name}' is a {kind} and no tensor, so there is nothing to compare it by")
            if np.asarray(value).dtype == object:
                raise ModelError(f"'{name}' holds text, so there is nothing to compare it by")
        return dict(zip(names, (np.asarray(value) for value in values), strict=True))

    def _run_there(self, library: ModuleType, feeds: Mapping[str, Array], names: list[str]) -> dict[str, AnyArray]:
        """The outputs as arrays of a library, which share onnxruntime's memory.

        On the host, too: copies would be new pages from the system in every run, gigabytes where all blobs are outputs.
        """
        binding = self._session.io_binding()
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        for name in names:
            binding.bind_output(name, self._provider.device or "cpu")
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found = {}
        for name, value in zip(names, binding.get_outputs(), strict=True):
            if value.device_name() != (self._provider.device or "cpu") or value.element_type() == BOOL:
                found[name] = np.asarray(value.numpy())
            elif library.__name__ == "torch":  # it would ask for its stream first, which takes longer than all the rest
                found[name] = library.from_dlpack(value._ortvalue.__dlpack__())
            else:
                found[name] = library.from_dlpack(value._ortvalue)
        return found

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        wrong = [f"input '{name}' is not given" for name in self.inputs if name not in feeds]
        wrong += [f"there is no input '{name}'" for name in feeds if name not in self.inputs]
        for name, port in self.inputs.items():
            if name in feeds and port.shape and not fits(feeds[name].shape, port.shape):
                wrong.append(f"input '{name}' has shape {feeds[name].shape} where the model takes {port.shape}")
            # Python's objects, dates, text and complex numbers would be cast, or would stop it with numpy's words.
            elif name in feeds and not np.can_cast(feeds[name].dtype, np.float64, "same_kind"):
                wrong.append(f"input '{name}' is given as {feeds[name].dtype}, and takes real numbers")
        if wrong:
            raise UsageError("; ".join(wrong))
        with np.errstate(over="ignore"):  # what is beyond the model's type becomes infinite, as the report says
            return {name: np.asarray(feeds[name], port.dtype, order="C") for name, port in self.inputs.items()}


def _options(onnxruntime: ModuleType, threads: int, folder: str | os.PathLike[str] | None) -> Any:
    """How onnxruntime is asked to run a network: as it is, and with the same result every time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # An arena keeps what a run needed, in pieces that the next one fits badly: a third more memory, and no faster.
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    # Packed copies of the weights make runs no faster here, and a mapped file would be read into memory for them.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Threads that wait for the next operator would take processors from those that measure.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _ports(nodes: Iterable[Any]) -> dict[str, TensorPort]:
    return {
        node.name: TensorPort(
            tuple(size if isinstance(size, int) else None for size in node.shape),
            np.dtype(DTYPES.get(node.type, np.float32)),
        )
        for node in nodes
    }


def _sentence(error: Exception) -> str:
    """The message without onnxruntime's codes, places in its source and line breaks: users read it in one line."""
    said = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return re.sub(r"^(\d+ : [A-Z_]+ : )?(/onnxruntime_src/.*?\) (?=[A-Z]))?", "", said).rstrip(".")


def require_provider(wanted: str, option: str = "--provider") -> tuple[str, Provider]:
    """The short name and the row of a provider that this onnxruntime has; `option` is where it was asked for.

    Raises:
        UsageError: there is none of that name, or it takes another package.
    """
    name = next((name for name, row in PROVIDERS.items() if wanted.lower() in (name, row.engine.lower())), None)
    available = engine().get_available_providers()
    if name is None:
        if wanted in available:
            return wanted, Provider(wanted)
        guess = did_you_mean(MEANT.get(wanted.lower(), wanted), PROVIDERS)
        raise UsageError(f"{option} {wanted}: there is no such provider{guess}; there are {', '.join(PROVIDERS)}")
    provider = PROVIDERS[name]
    if provider.engine not in available:
        have = [short for short, row in PROVIDERS.items() if row.engine in available]
        raise UsageError(
            f"{option} {name}: this onnxruntime has no {provider.engine}; install {provider.package} in its place "
            f"(here is {', '.join(have)})"
        )
    return name, provider


def _unstarted(name: str, provider: Provider) -> str:
    """The sentence on a provider that onnxruntime has and that does not run."""
    return (
        f"the provider {name}: onnxruntime has it and cannot start it here: there is no device for it, or its "
        f"libraries are not installed (see {provider.package})"
    )


def give_back() -> None:
    """Have the C library give the system what is free between runs; it keeps pieces of up to 32 MB otherwise.

    Without it a comparison holds more than `--memory` allows (`tests/compare/test_memory.py`). It changes no setting of
    the allocator.
    """
    with suppress(AttributeError, OSError, TypeError):  # it may be another than glibc
        ctypes.CDLL(None).malloc_trim(0)


def processors(share: int = 1) -> int:
    """How many threads of this process can run at once: those of its affinity, or of the quota of a control group.

    `share` processes have the machine together.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((count, *_quotas(CONTROL_GROUPS, OWN_GROUPS))) // share)


@cache
def _quotas(_tree: Path, _own: Path) -> tuple[int, ...]:
    """What the control groups around this process allow, read once: each session asks, and a run opens many."""
    quotas = (_quota([group / name for name in names]) for group in control_groups("cpu") for names in QUOTAS)
    return tuple(quota for quota in quotas if quota is not None)


def control_groups(controller: str) -> Iterator[Path]:
    """The folders of the control groups that may limit this process: its own, as of a Slurm job, and those around it.

    Args:
        controller: like "memory", which has a tree of its own in the first version of control groups.
    """
    own = {"": "", controller: ""}
    with suppress(OSError, ValueError):  # another system than Linux
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    for tree in ("", controller):
        innermost = PurePosixPath("/", own[tree])
        for group in (innermost, *innermost.parents):
            yield CONTROL_GROUPS / tree / str(group).lstrip("/")


def control_files(controller: str, names: tuple[tuple[str, ...], ...]) -> tuple[tuple[Path, ...], ...]:
    """The files of these names that the control groups around this process have; for each group, each row of names."""
    return _control_files(controller, names, CONTROL_GROUPS, OWN_GROUPS)


@cache
def _control_files(
    controller: str, names: tuple[tuple[str, ...], ...], _tree: Path, _own: Path
) -> tuple[tuple[Path, ...], ...]:
    """Looked for once in a process: each comparison asks several times what is free, and of most groups none are."""
    rows = (tuple(group / name for name in row) for group in control_groups(controller) for row in names)
    return tuple(row for row in rows if all(map(os.path.exists, row)))


def _quota(files: Sequence[Path]) -> int | None:
    """The processors that a control group may use, a part of one counting as one; None where nothing limits it."""
    try:
        words = [word for file in files for word in file.read_text(encoding="ascii").split()]
        return -(-int(words[0]) // int(words[1])) if int(words[0]) > 0 else None
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return None


CONTROL_GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""Microseconds of a processor, and in how many; of a control group in its second version and its first."""


def _own_threads() -> int:
    """How many threads a session takes where nobody said it: 0, which is onnxruntime's own choice, on a whole machine.

    That takes every core and binds a thread to each, those that the process is kept from among them.
    """
    return own if (own := processors()) < (os.cpu_count() or 1) else 0


def to_host(values: AnyArray) -> Array:
    """An array that `Session.run` gave as numpy's, whichever library and device has it."""
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "get"):
        return np.asarray(values.get())
    try:
        return np.asarray(values.cpu().numpy())
    except TypeError:  # bfloat16 and float8, which numpy has not
        return np.asarray(values.cpu().double().numpy())


def _chain(provider: Provider, tf32: bool) -> list[Any]:
    """The provider with its options, and behind it what takes the nodes that it has no kernels for."""
    for module in provider.loads:
        with suppress(ImportError):
            import_module(module)
    if provider.device == "cuda":
        onnxruntime = engine()
        if hasattr(onnxruntime, "preload_dlls"):
            with suppress(Exception):  # what is missing shows when the session starts
                onnxruntime.preload_dlls()
    options = {**provider.options, **(dict([provider.tf32]) if tf32 and provider.tf32 is not None else {})}
    chain: list[Any] = [(provider.engine, options)] if options else [provider.engine]
    if provider is PROVIDERS["tensorrt"]:
        cuda = PROVIDERS["cuda"]
        chain.append((cuda.engine, {**cuda.options, **({"use_tf32": "1"} if tf32 else {})}))
    return chain if provider.engine == PROVIDERS["cpu"].engine else [*chain, PROVIDERS["cpu"].engine]


@contextmanager
def _without_tf32(wanted: bool) -> Iterator[None]:
    """Have the libraries of NVIDIA that start meanwhile compute in float32."""
    before = os.environ.get(TF32_OFF)
    if wanted:
        os.environ[TF32_OFF] = "0"
    try:
        yield
    finally:
        if wanted:
            if before is None:
                del os.environ[TF32_OFF]
            else:
                os.environ[TF32_OFF] = before


def _device_library() -> ModuleType | None:
    """Torch or CuPy, if one of them sees the GPU; None otherwise, and the values go to the host.

    Torch first, since CuPy rounds denormals to 0.
    """
    with suppress(Exception):  # an ImportError, or whatever it makes of a driver that it does not like
        torch = import_module("torch")
        if torch.cuda.is_available():
            return torch
    with suppress(Exception):
        cupy = import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount():
            return cupy
    return None


def _device_name(wanted: str) -> str:
    """What onnxruntime, or the library that sees the GPU, says of the device."""
    for device in engine().get_ep_devices() if hasattr(engine(), "get_ep_devices") else ():
        if device.ep_name == wanted:
            said = dict(device.device.metadata)
            return str(said.get("Description") or device.device.vendor)
    if PROVIDERS["cuda"].engine in engine().get_available_providers():
        library = _device_library()
        with suppress(Exception):
            if library is not None and library.__name__ == "cupy":
                return str(library.cuda.runtime.getDeviceProperties(0)["name"].decode())
            if library is not None:
                return str(library.cuda.get_device_name(0))
    return ""


def _versions(name: str) -> str:
    onnxruntime = engine()
    said = [f"onnxruntime {onnxruntime.__version__}"]
    if name in ("cuda", "tensorrt") and str(getattr(onnxruntime, "cuda_version", None) or ""):
        said.append(f"CUDA {onnxruntime.cuda_version}")
    packages = PROVIDERS[name].loads if name in PROVIDERS else ()
    said += [f"{package} {found}" for package in packages if (found := installed(package))]
    return ", ".join(said)


def _on_cpu(session: Any) -> tuple[str, ...] | None:
    """The nodes that no other provider took."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return tuple(
        f"{node.op_type} '{node.name}'"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == PROVIDERS["cpu"].engine
        for node in part.get_nodes()
    )
