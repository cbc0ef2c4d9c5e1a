"""Running a model: values, the ports it shows, and the sentences it refuses with."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import classifier, model

from bnfold import runtime
from bnfold.compare import memory
from bnfold.errors import ModelError, UsageError
from bnfold.runtime import PROVIDERS, Session, to_host


def test_a_model_runs_from_a_message_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    made = classifier()
    onnx.save(made, tmp_path / "net.onnx")
    data = np.random.default_rng(1).normal(size=(2, 3, 8, 8))
    first = Session(made).run({"data": data})["prob"]
    assert first.shape == (2, 5)
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(first, Session(made.SerializeToString()).run({"data": data})["prob"])
    np.testing.assert_array_equal(first, Session(tmp_path / "net.onnx").run({"data": data})["prob"])


def test_the_ports_show_shapes_and_types_and_open_sizes() -> None:
    session = Session(classifier(batch="N"))
    assert session.inputs["data"].shape == (None, 3, 8, 8)
    assert session.inputs["data"].dtype == np.float32
    assert list(session.outputs) == ["prob"]


def test_only_the_outputs_asked_for_come_back() -> None:
    made = classifier()
    made.graph.output.extend([helper.make_empty_tensor_value_info("conv1")])
    assert list(Session(made).run({"data": np.zeros((2, 3, 8, 8))}, ["conv1"])) == ["conv1"]


def test_nothing_comes_back_where_nothing_is_asked_for() -> None:
    assert Session(classifier()).run({"data": np.zeros((2, 3, 8, 8), np.float32)}, []) == {}


def test_optimisations_are_off_so_that_a_batch_normalisation_is_not_folded_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"w": np.ones((2, 1, 1, 1), np.float32)} | {n: np.ones(2, np.float32) for n in "gbmv"}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        helper.make_node("BatchNormalization", ["c", *"gbmv"], ["y"], "bn"),
    ]
    made = model(nodes, {"x": (1, 1, 2, 2)}, ["y"], weights)
    import onnxruntime

    seen = []
    genuine = onnxruntime.InferenceSession

    def spy(source: Any, options: Any, providers: Any) -> Any:
        options.optimized_model_filepath = str(tmp_path / "kept.onnx")
        seen.append(options.graph_optimization_level)
        return genuine(source, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    Session(made)
    assert seen == [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL]
    kept = onnx.load(tmp_path / "kept.onnx")
    assert [node.op_type for node in kept.graph.node] == ["Conv", "BatchNormalization"]


def test_a_number_is_fed_as_one() -> None:
    session = Session(model([helper.make_node("Neg", ["x"], ["y"])], {"x": ()}, ["y"]))
    assert session.run({"x": np.array(3.0, np.float32)})["y"].shape == ()


def test_wrong_feeds_are_refused_all_at_once() -> None:
    session = Session(classifier())
    with pytest.raises(UsageError, match=r"'data' is not given; there is no input 'image'"):
        session.run({"image": np.zeros((2, 3, 8, 8))})
    with pytest.raises(UsageError, match=r"\(2, 3, 9, 9\) where the model takes \(2, 3, 8, 8\)"):
        session.run({"data": np.zeros((2, 3, 9, 9))})


def test_what_is_not_a_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        Session(b"not a model")
    with pytest.raises(ModelError, match=r"cannot load '.*missing\.onnx'") as error:
        Session(tmp_path / "missing.onnx")
    assert "\n" not in str(error.value)
    newer = classifier()
    newer.ir_version = 99
    with pytest.raises(ModelError, match=r"cannot load the model: Unsupported model IR version: 99"):
        Session(newer)


def test_a_provider_that_onnxruntime_lacks_is_a_sentence_that_names_the_package() -> None:
    with pytest.raises(
        UsageError, match=r"no CUDAExecutionProvider; install onnxruntime-gpu in its place \(here is cpu"
    ):
        Session(classifier(), provider="cuda")


@pytest.mark.parametrize(("wanted", "meant"), [("cude", "cuda"), ("GPU", "cuda"), ("trt", "tensorrt")])
def test_a_provider_that_nobody_knows_is_a_sentence_that_names_the_others(wanted: str, meant: str) -> None:
    said = rf"^--provider {wanted}: there is no such provider \(did you mean '{meant}'\?\); there are cann, coreml, cpu"
    with pytest.raises(UsageError, match=said):
        Session(classifier(), provider=wanted)


def test_a_session_says_where_it_runs() -> None:
    execution = Session(classifier()).execution
    assert (execution.provider, execution.values, execution.tf32, execution.fallback) == ("cpu", "host", False, ())
    assert execution.versions.startswith("onnxruntime ")


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    cuda = PROVIDERS["cuda"]
    assert runtime._chain(cuda, False)[0][1]["use_tf32"] == "0"
    assert runtime._chain(cuda, True)[0][1]["use_tf32"] == "1"
    (first, second, last) = runtime._chain(PROVIDERS["tensorrt"], False)
    assert (first, second[1]["use_tf32"], last) == ("TensorrtExecutionProvider", "0", "CPUExecutionProvider")


def test_values_stay_where_they_lie_as_arrays_of_a_library_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    array_api_strict = pytest.importorskip("array_api_strict")
    data = np.random.default_rng(1).normal(size=(2, 3, 8, 8))
    expected = Session(classifier()).run({"data": data})["prob"]
    monkeypatch.setattr(runtime, "_device_library", lambda: array_api_strict)
    monkeypatch.setitem(runtime.PROVIDERS, "cpu", runtime.Provider("CPUExecutionProvider", device="cpu"))
    session = Session(classifier())
    found = session.run({"data": data})["prob"]
    assert type(found) is type(array_api_strict.asarray(1.0))
    assert session.execution.values == "array_api_strict"
    np.testing.assert_array_equal(np.from_dlpack(found), expected)
    assert to_host(expected) is expected


def test_what_is_no_tensor_of_numbers_is_told_alike_where_values_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    array_api_strict = pytest.importorskip("array_api_strict")
    words = helper.make_node("Constant", [], ["y"], value_strings=["a", "b"])
    pieces = helper.make_node("SequenceConstruct", ["x"], ["y"])
    ports = {
        "holds text": (words, helper.make_tensor_value_info("y", onnx.TensorProto.STRING, [2])),
        "is a sequence": (pieces, helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None)),
    }
    monkeypatch.setattr(runtime, "_device_library", lambda: array_api_strict)
    monkeypatch.setitem(runtime.PROVIDERS, "cpu", runtime.Provider("CPUExecutionProvider", device="cpu"))
    for sentence, (node, port) in ports.items():
        made = model([node], {"x": (2, 3)}, [])
        made.graph.output.append(port)
        session = Session(made)
        assert session.execution.values == "host"
        with pytest.raises(ModelError, match=f"'y' {sentence}"):
            session.run({"x": np.zeros((2, 3), np.float32)})


def test_types_that_numpy_has_not_come_to_the_host_as_float64() -> None:
    class Bfloat16:
        """An array of torch, as far as it matters."""

        def cpu(self) -> "Bfloat16":
            return self

        def numpy(self) -> None:
            raise TypeError("Got unsupported ScalarType BFloat16")

        def double(self) -> Any:
            return type("Float64", (), {"numpy": lambda _: np.array([1.5])})()

    np.testing.assert_array_equal(to_host(Bfloat16()), [1.5])


def test_a_provider_that_does_not_start_is_named_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been asked for by --provider or by --reference-provider."""
    monkeypatch.setattr(runtime.engine(), "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(UsageError, match=r"^the provider cuda: onnxruntime has it and cannot start it here"):
        Session(classifier(), provider="cuda")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_no_thread_of_a_session_leaves_the_processors_that_the_process_may_use(tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    program = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from bnfold.runtime import Session
session = Session(sys.argv[1])
threads = [int(thread) for thread in os.listdir("/proc/self/task")]
print(all(os.sched_getaffinity(thread) == os.sched_getaffinity(0) for thread in threads))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "net.onnx")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_the_quota_of_a_control_group_counts_as_processors(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(runtime, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert runtime.processors() == expected
    for name in files:
        (tmp_path / name).unlink()  # they are read once, and not by each session
    asked: list[int] = []
    options = runtime.engine().SessionOptions

    class Asked(options):  # type: ignore[misc, valid-type]
        """Notes what it is told."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "intra_op_num_threads":
                asked.append(value)
            super().__setattr__(name, value)

    monkeypatch.setattr(runtime.engine(), "SessionOptions", Asked)
    Session(classifier())
    assert asked == [0 if expected == 64 else expected]


@pytest.mark.parametrize(
    ("own", "limits", "use"),
    [
        ("0::/slurm/job_7/step_0\n", "slurm/job_7", ("cpu.max", "memory.max", "memory.current")),
        ("4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n", "{}/job", ("", "memory.limit_in_bytes", "memory.usage_in_bytes")),
        ("0::/../elsewhere\n", "", ("cpu.max", "memory.max", "memory.current")),
        ("nonsense", "", ("cpu.max", "memory.max", "memory.current")),
    ],
)
def test_the_limits_of_every_control_group_around_the_process_count(
    own: str, limits: str, use: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(runtime, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)), raising=False)
    monkeypatch.setattr(memory, "_free_in_machine", lambda: 10_000)
    (tmp_path / "own").write_text(own)
    quota, limit, used = use
    for controller, name, content in (
        ("memory", limit, "7000"),
        ("memory", used, "6000"),
        ("cpu", quota, "300000 100000"),
    ):
        folder = tmp_path / "groups" / limits.format(controller)
        folder.mkdir(parents=True, exist_ok=True)
        if name:
            (folder / name).write_text(content)
        else:
            (folder / "cpu.cfs_quota_us").write_text("300000")
            (folder / "cpu.cfs_period_us").write_text("100000")
    assert (memory.available_memory(), runtime.processors()) == (1000, 3)
    # Which files there are is looked up once, and what they say each time.
    (tmp_path / "own").unlink()
    (tmp_path / "groups" / limits.format("memory") / used).write_text("6500")
    assert memory.available_memory() == 500
