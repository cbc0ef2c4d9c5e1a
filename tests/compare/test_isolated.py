"""A model in a process of its own: the same values, its death is a sentence, and Ctrl-C ends it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import classifier, model
from present import present

from bnfold.compare import isolated
from bnfold.compare.comparison import compare
from bnfold.compare.isolated import IsolatedSession
from bnfold.errors import ModelError, UsageError
from bnfold.net import Array
from bnfold.onnx.graph import WeightStore
from bnfold.onnx.risks import needs_own_process
from bnfold.runtime import Session

IMAGES = np.random.default_rng(0).normal(0, 8, (2, 3, 8, 8)).astype(np.float32)


def stft() -> ModelProto:
    """A frame of length 0, by which onnxruntime divides."""
    nodes = [helper.make_node("STFT", ["signal", "step", "", "length"], ["y"], "stft")]
    ports = [
        helper.make_tensor_value_info("signal", TensorProto.FLOAT, (1, 128, 1)),
        helper.make_tensor_value_info("step", TensorProto.INT64, ()),
        helper.make_tensor_value_info("length", TensorProto.INT64, ()),
    ]
    graph = helper.make_graph(nodes, "g", ports, [helper.make_empty_tensor_value_info("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def looping(trips: int) -> ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Add", ["v", "one"], ["vo"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("co", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("vo", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    weights = {"m": np.array(trips), "t": np.array(True)}
    graph = helper.make_graph(
        [helper.make_node("Loop", ["m", "t", "x"], ["y"], "loop", body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless() -> ModelProto:
    return looping(2**62)


def test_the_values_are_those_of_the_same_process() -> None:
    made = classifier()
    apart, here = IsolatedSession(made), Session(made)
    assert (apart.inputs, apart.outputs, apart.execution) == (here.inputs, here.outputs, here.execution)
    for _ in range(2):
        np.testing.assert_array_equal(apart.run({"data": IMAGES})["prob"], here.run({"data": IMAGES})["prob"])
    with pytest.raises(UsageError, match="there is no input 'x'"):
        apart.run({"data": IMAGES, "x": IMAGES})


def test_a_loop_that_ends_is_run_in_float64_too() -> None:
    made = looping(3)
    report = compare(made, made, np.random.default_rng(4).normal(size=(4, 6)).astype(np.float32), exact=True)
    assert report.passed
    assert report.outputs[0].exact is not None
    assert 0 < report.outputs[0].exact < 1e-6
    assert not any("no exact column" in note for note in report.notes)


def test_values_that_lie_on_a_gpu_are_sent_by_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice:
        """An array of torch, as far as it matters: numpy cannot read it where it lies."""

        def __array__(self, *_: object) -> Array:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

        def cpu(self) -> OnDevice:
            return self

        def numpy(self) -> Array:
            return IMAGES

    session = Session(classifier())
    monkeypatch.setattr(Session, "run", lambda *_: {"prob": OnDevice()})
    answers = io.BytesIO()
    isolated._answered(answers, session, {"inputs": ["data"], "outputs": ["prob"]}, [IMAGES])
    answers.seek(0)
    header, values = isolated._read(answers)
    assert header["outputs"] == ["prob"]
    np.testing.assert_array_equal(values[0], IMAGES)
    session.execution = replace(session.execution, values="torch")
    assert isolated._described(session)["execution"]["values"] == "host"


def test_what_onnxruntime_refuses_is_the_same_sentence() -> None:
    broken = classifier()
    broken.graph.node[0].op_type = "Relu"
    for session in (Session, IsolatedSession):
        with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
            session(broken)


def test_the_death_of_a_model_is_a_sentence() -> None:
    made = stft()
    assert needs_own_process(made)
    with pytest.raises(ModelError, match="onnxruntime died while running it"):
        compare(made, made, {"signal": np.ones((1, 1, 128, 1)), "step": np.ones(1), "length": np.zeros(1)})


def test_an_einsum_of_batches_of_nothing_is_a_sentence() -> None:
    """Without a process of its own onnxruntime would end this one: it divides by the size of `a`."""
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,4] x) => (float[n,3,3] y) <int64[1] end = {2}> {
        none = Slice (x, end, end) y = Einsum <equation = "abc,adc->adb"> (none, none) }"""
    )
    assert needs_own_process(made)
    with pytest.raises(ModelError, match="onnxruntime died while running it"):
        compare(made, made, np.ones((2, 3, 4), np.float32))


def test_a_child_ends_with_its_session() -> None:
    session = IsolatedSession(classifier())
    child = session._child.process
    assert child.poll() is None
    del session
    assert child.poll() is not None


def test_a_child_runs_one_network_after_the_other_and_ends_with_the_store() -> None:
    with WeightStore() as store:
        session = IsolatedSession(classifier(), store)
        child, found = session._child.process, session.run({"data": IMAGES})["prob"]
        del session
        with pytest.raises(ModelError, match="cannot load"):
            IsolatedSession(b"none", store)
        session = IsolatedSession(classifier(), store)
        assert session._child.process is child
        np.testing.assert_array_equal(session.run({"data": IMAGES})["prob"], found)
        other = IsolatedSession(classifier(), store)
        assert other._child.process is not child
        del session
        assert child.poll() is None
        store.end_idle()
        assert child.poll() is not None
        assert other._child.process.poll() is None
    child = other._child.process
    del other
    assert child.poll() is not None


def test_a_child_that_died_of_a_model_runs_no_other() -> None:
    nothing = {"signal": np.ones((1, 128, 1)), "step": np.ones(()), "length": np.zeros(())}
    with WeightStore() as store:
        with pytest.raises(ModelError, match="died while running it"):
            IsolatedSession(stft(), store).run(nothing)
        assert store.idle_process() is None
        session = IsolatedSession(classifier(), store)
        session._child.process.kill()
        session._child.process.wait()
        del session
        IsolatedSession(classifier(), store).run({"data": IMAGES})


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are begun."""
    children: list[subprocess.Popen[bytes]] = []

    def begun(child: isolated.Child, really: Any = isolated.Child.__init__) -> None:
        really(child)
        children.append(child.process)

    monkeypatch.setattr(isolated.Child, "__init__", begun)
    return children


def test_what_is_rounded_otherwise_runs_in_processes_that_are_there(children: list[subprocess.Popen[bytes]]) -> None:
    """Of weights of 2 bytes nine networks with others are run for each kind of sample."""
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["e"], equation="ij,jk->ik"),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, (2, 6)) for name in "xy"]
    weight = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float16)
    moved = np.nextafter(weight, np.float16(9))
    made, other = (
        helper.make_model(
            helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(values, "w")]),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        for values in (weight, moved)
    )
    assert needs_own_process(made)
    report = compare(made, other)
    assert report.passed
    assert any("pass for rounding to float16" in note for note in report.notes)
    assert len(children) <= 4
    assert all(child.poll() is not None for child in children)


def test_networks_take_turns_in_processes_unless_memory_is_limited(children: list[subprocess.Popen[bytes]]) -> None:
    made, other = looping(3), looping(3)
    for one in (made, other):  # which is run at other sizes, too
        one.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"
    assert compare(made, other).passed
    assert len(children) <= 4
    assert compare(made, other, memory=1 << 40).passed
    assert len(children) > 8
    assert all(child.poll() is not None for child in children)


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_ctrl_c_ends_a_model_that_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").write_bytes(endless().SerializeToString())
    command = [sys.executable, "-m", "bnfold", "diff", str(tmp_path / "loop.onnx"), str(tmp_path / "loop.onnx")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    children: list[int] = []
    start = time.monotonic()
    while len(children) < 2 and time.monotonic() < start + 600:  # both networks are open
        time.sleep(0.1)
        children = _children(process.pid)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert b"interrupted" in said
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="looks for processes")
@pytest.mark.parametrize("then", ["s.run({'x': numpy.zeros((2, 6), 'f4')})", "del s; time.sleep(600)"])
def test_a_child_whose_parent_is_killed_leaves(then: str, tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").write_bytes(endless().SerializeToString())
    program = (
        "import numpy, time; from bnfold.compare.isolated import IsolatedSession as S;"
        "from bnfold.onnx.graph import WeightStore; store = WeightStore();"
        f"s = S({str(tmp_path / 'loop.onnx')!r}, store); print(s._child.process.pid, flush=True); {then}"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child = int(present(parent.stdout).readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    present(parent.stdout).close()
    start = time.monotonic()
    while os.path.exists(f"/proc/{child}") and time.monotonic() < start + 600:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}")


def _children(parent: int) -> list[int]:
    try:
        with open(f"/proc/{parent}/task/{parent}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def division(divisor: Array, dtype: int) -> ModelProto:
    nodes = [helper.make_node("Div", ["x", "d"], ["y"], "div")]
    return model(nodes, {"x": (2,)}, ["y"], {"d": divisor}, dtype=dtype)


def division_by(**constant: Any) -> ModelProto:
    """Of integers, by what a node gives; exporters write divisors so."""
    nodes = [helper.make_node("Constant", [], ["d"], **constant), helper.make_node("Div", ["x", "d"], ["y"])]
    return model(nodes, {"x": (2,)}, ["y"], dtype=TensorProto.INT64)


def split_in_pieces(**constants: Array) -> ModelProto:
    """Of `n` rows, which may be computed."""
    nodes = [helper.make_node("SplitToSequence", ["x", "n"], ["s"]), helper.make_node("SequenceAt", ["s", "i"], ["y"])]
    fed: dict[str, tuple[int | str, ...]] = {"x": (4,), "n": ()}
    return model(
        nodes,
        {name: shape for name, shape in fed.items() if name not in constants},
        ["y"],
        {"i": np.array(0), **constants},
        dtype=TensorProto.INT64,
    )


def computed(nodes: str) -> ModelProto:
    """`y` of some numbers, a flag and constants."""
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x, int64[2] n, bool c, uint8[1,1,3,3] q, float[2] z)
        => (y) <int64[2] two = {{2, 2}}, int64[2] none = {{0, 0}}> {{ {nodes} }}"""
    )


def branching(divisor: str, inside: str = "") -> ModelProto:
    """A division in a branch, by what is around it or made `inside`."""
    body = f"{inside} w = Div (n, {divisor})"
    other = "g () => (v) { v = Identity (n) }"
    return computed(
        f"y = If (c) <then_branch = g () => (u) {{ u = If (c) <then_branch = g () => (w) {{ {body} }}, "
        f"else_branch = {other}> }}, else_branch = {other}>"
    )


@pytest.mark.parametrize(
    ("made", "alone"),
    [
        (classifier(), False),
        (branching("two"), False),
        (branching("none"), True),
        (branching("n"), True),
        (branching("two", "two = Identity (n)"), True),  # of the same name as what is around
        (branching("a", "a = Constant <value_ints = [2, 3]> ()"), False),
        (branching("two", 'e = Einsum <equation = "ij->ji"> (x)'), True),
        (
            computed(
                "a = If (c) <then_branch = g () => (u) { u = Identity (n) }, else_branch = g () => (u) "
                "{ u = Identity (n) }> y = Div (n, a)"
            ),
            True,
        ),
        (computed("y = Mod (n, two)"), False),
        (computed("y = Mod (n, none)"), True),
        (computed("a = CastLike (x, n) y = Div (n, a)"), True),
        (computed("a = SplitToSequence (x, two) k = SequenceLength (a) y = Div (n, k)"), True),
        (computed("a, s, p = DynamicQuantizeLinear (x) y = Div (z, s)"), False),
        (computed("a, s, p = DynamicQuantizeLinear (x) y = Div (q, a)"), True),
        (computed("y = ConvInteger (q, q)"), False),
        (computed("a = ConvInteger (q, q) y = Div (a, a)"), True),
        (division(np.zeros(2, np.float32), TensorProto.FLOAT), False),
        (division(np.array([2, 3]), TensorProto.INT64), False),
        (division(np.array([2, 0]), TensorProto.INT64), True),
        (division(np.array([2, -1]), TensorProto.INT64), True),  # of which the least integer ends the process
        (division_by(value=numpy_helper.from_array(np.array([2, 3]))), False),
        (division_by(value_ints=[2, 3]), False),
        (division_by(value_int=0), True),
        (division_by(value_ints=[2, 0]), True),
        (split_in_pieces(n=np.array(2)), False),
        (split_in_pieces(), True),
        (endless(), True),
        (model([helper.make_node("CastLike", ["x", "z"], ["y"])], {"x": (2,), "z": (2,)}, ["y"]), False),
        (model([helper.make_node("Div", ["x", "z"], ["y"])], {"x": (2,), "z": (2,)}, ["y"]), False),
        (
            model(
                [helper.make_node("Div", ["x", "z"], ["y"])],
                {"x": (2,), "z": (2,)},
                ["y"],
                dtype=TensorProto.INT64,
            ),
            True,
        ),
    ],
)
def test_only_models_that_may_loop_or_die_get_a_process(made: ModelProto, alone: bool) -> None:
    assert needs_own_process(made) is alone


def test_a_divisor_without_its_values_is_none_that_is_known() -> None:
    made = division(np.array([2, 3]), TensorProto.INT64)
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:8]
    assert needs_own_process(made)


@pytest.mark.parametrize("name", ["strides", "kernel_shape"])
def test_a_size_of_nothing_gets_a_process(name: str) -> None:
    made = classifier()
    made.graph.node[0].attribute.append(helper.make_attribute(name, [0, 1]))
    assert needs_own_process(made)


def test_an_output_of_a_split_that_has_no_name_is_no_end_of_the_process() -> None:
    made = model([helper.make_node("Split", ["x"], ["y", ""], axis=1)], {"x": (1, 4)}, ["y"])
    other = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 4)}, ["y"])
    with pytest.raises(ModelError, match=r"^reference: onnxruntime died while running it"):
        compare(made, other, {"x": np.ones((1, 4))})
    with pytest.raises(ModelError, match=r"^candidate: onnxruntime died while running it"):
        compare(other, made, {"x": np.ones((1, 4))})
