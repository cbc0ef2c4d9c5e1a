"""A process that compares stays below the memory that it was given, or says how much it would take."""

import atexit
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from present import present

import bnfold
from bnfold.errors import UsageError
from bnfold.runtime import Session

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_models" / "digits_resnet.prototxt"
FORKING = """
import json, os, sys, threading, traceback
from pathlib import Path
import bnfold

bnfold.compare(sys.argv[1], sys.argv[1], exact=True)
assert threading.active_count() == 1, "a fork has one thread only"
for line in sys.stdin:
    script, *words = json.loads(line)
    if child := os.fork():
        print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    sys.argv[1:], code = words, 0
    Path("/proc/self/clear_refs").write_text("5")
    try:
        exec(script, {"__name__": "__main__"})
    except BaseException:
        code = traceback.print_exc() or 1
    sys.stdout.flush()
    os._exit(code)
"""
"""Imports once what all comparisons import, and forks for each; 5 has the system count anew what one held at most."""

SCRIPT = """
import hashlib, sys
from pathlib import Path
import numpy as np
import bnfold
from bnfold.compare import isolated
from bnfold.compare.engine import Engine
from bnfold.report.data import as_json
from bnfold.report.run import RunReport

def held(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))

class Popen(isolated.subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        children.append(self)

def end(child, really=isolated._end):
    global most
    most = max(most, held("self") + sum(held(one.pid) for one in children))
    children.remove(child)
    really(child)

def plan(self, *arguments, really=Engine._plan, **options):
    really(self, *arguments, **options)
    if is_open and not {None, 512}.issuperset(self.layout.feeds["data"].shape[2:]):
        return  # a second run, at other sizes
    global way
    runs = "two runs at a time" if self.overlapping else "one run at a time"
    way = "one network at a time" if self.alternating else "segments" if len(self.segments) > 1 else runs

children, most, way = [], 0, "refused"
Engine._plan = plan
isolated.subprocess.Popen, isolated._end = Popen, end
net = bnfold.load(sys.argv[1])
is_open = Path(sys.argv[1]).stem == "open"  # folders of tests have the word, too
data = np.random.default_rng(0).normal(size=(3, 3, 512, 256)).astype(np.float32) if is_open else None
try:
    whole = sys.argv[3:] != ["outputs"]
    report = bnfold.compare(net, bnfold.fold(net).net, data, memory=int(sys.argv[2]) or None, layers=whole)
    assert report.passed, report.verdict
    print(hashlib.sha256(as_json(RunReport(proofs=(report,))).encode()).hexdigest())
except bnfold.UsageError as error:
    print(error)
print(max(most, held("self")))
print(way)
"""
"""High-water marks are those of the program, and of the processes beside it, each time that one of these ends.

What the program reads when none is left, as the weights for the report, is never beside them.

`ru_maxrss` is that of the process that started it, too.
"""

REFUSED = """
import sys
import numpy as np
import bnfold

bnfold.compare(sys.argv[2], sys.argv[2])
net = bnfold.load(sys.argv[1])
opened = bnfold.Comparison(net, None, bnfold.CompareOptions(memory=1))
for _ in range(3):
    try:
        opened.against(net)
    except bnfold.UsageError as error:
        print(error)
    assert np.isfinite(net["fc"].blobs[0].sum())
"""
"""Three refusals of a process that has nothing but what it imports, with all weights read behind each."""

LAYERS = 2  # convolutions; with four of them there are twice as many segments, and each takes twice as long
APART = 1  # of them, where each segment starts processes
MORE = {
    "known": {8: "one network at a time", 55: "segments", 120: "one run at a time"},
    "open": {8: "one network at a time", 60: "segments"},
    "apart": {8: "one network at a time", 130: "segments"},
    "decided": {20: "one network at a time", 100: "segments"},
}
"""Megabytes beyond the least, and what is in memory at once then.

What a process had before differs a bit. A first run in sizes that onnxruntime does not know takes more than the next.
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process held"),
]


@pytest.fixture(scope="module", params=MORE)
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Convolutions whose blobs have 8 MB, and a layer whose weights have 32 MB and some.

    Height and width are known, or open, and then those of the data; or the width is a number of values that are not
    small, which no shape tells. With an operator that nobody has bounded, it runs in a process of its own.
    """
    sizes: list[int | str] = ["height", "width"] if request.param == "open" else [512, 256]
    random = np.random.default_rng(0)
    nodes, stored, top = [], [], "data"

    def learned(name: str, *shape: int, least: float = -1.0) -> str:
        values = random.uniform(least, 1, shape).astype(np.float32)
        stored.append(numpy_helper.from_array(values / np.float32(max(shape[-1], 1) ** 0.5), name))
        return name

    if request.param == "decided":
        constants = {"low": np.float32(-1e9), "rows": np.array([3 * 512]), "front": np.array([1, 3, 512])}
        stored += [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
        nodes += [
            helper.make_node("Greater", ["data", "low"], ["is_met"]),
            helper.make_node("Cast", ["is_met"], ["ones"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
            helper.make_node("Div", ["count", "rows"], ["width"]),
            helper.make_node("Concat", ["front", "width"], ["sizes"], axis=0),
            helper.make_node("Reshape", ["data", "sizes"], ["shaped"]),
        ]
        top = "shaped"
    for number in range(APART if request.param == "apart" else LAYERS):
        conv, bn, relu = (f"{kind}{number}" for kind in ("conv", "bn", "relu"))
        kernel = learned(f"{conv}_w", 16, 3 if number == 0 else 16, 1, 1)
        nodes.append(helper.make_node("Conv", [top, kernel], [conv], name=conv))
        figures = [learned(f"{bn}_{name}", 16, least=0.1) for name in ("gamma", "beta", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [conv, *figures], [bn], name=bn))
        nodes.append(helper.make_node("Relu", [bn], [relu], name=relu))
        top = relu
    nodes.append(helper.make_node("AveragePool", [top], ["pool"], name="pool", kernel_shape=[32, 32], strides=[32, 32]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], name="flat"))
    weight = learned("fc_w", 4100, 2048)
    nodes.append(helper.make_node("Gemm", ["flat", weight], ["fc"], name="fc", transB=1))
    if request.param == "apart":
        nodes.append(helper.make_node("EyeLike", ["flat"], ["eye"], name="eye"))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("data", [1, 3, *sizes]), ("fc", [1, 4100]))
    ]
    graph = helper.make_graph(nodes, "large", ports[:1], ports[1:], stored)
    path = tmp_path_factory.mktemp("memory") / f"{request.param}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@cache
def forking() -> subprocess.Popen[str]:
    """What forks, which ends with this process."""
    command = [sys.executable, "-c", FORKING, str(SAMPLE)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.__exit__, None, None, None)
    return process


def lines_of(script: str, *words: object) -> list[str]:
    """What a script says in a process of its own."""
    process = forking()
    print(json.dumps([script, *map(str, words)]), file=process.stdin, flush=True)
    return [line.rstrip() for line in takewhile(lambda line: not line.startswith("ended"), present(process.stdout))]


def compared(model: Path, memory: int = 0, *words: str) -> tuple[str, int, str]:
    """The digest of the report, or the error; what the process held at the most; and what it held at once."""
    said, held, way = lines_of(SCRIPT, model, memory, *words)
    return said, int(held), way


@pytest.mark.parametrize(
    ("memory", "said"), [(5, "5 bytes"), (1_500_000, "1,500,000 bytes"), (2 * MIB, "2M"), (0, "0 bytes")]
)
def test_the_memory_that_is_too_little_is_said_as_it_was_given(memory: int, said: str) -> None:
    with pytest.raises(UsageError, match=rf"^{said} is too little memory: "):
        bnfold.compare(SAMPLE, SAMPLE, memory=memory)


def test_a_process_stays_below_its_memory_or_says_what_would_be_enough(model: Path) -> None:
    whole, most, way = compared(model)
    assert (len(whole), way) == (len(hashlib.sha256().hexdigest()), "two runs at a time")
    said, *_ = compared(model, 50 * MIB)
    found = re.fullmatch(r"50M is too little memory: comparing these networks takes at least (\d+)M, .*", said)
    assert found is not None, said
    least = int(found[1]) * MIB
    for more, meant in MORE[model.stem].items():
        said, held, way = compared(model, least + more * MIB)
        assert (said, way) == (whole, meant)
        assert held < min(least + more * MIB, most)


def test_what_was_read_of_a_mapped_model_before_it_is_compared_counts_once(tmp_path: Path) -> None:
    """A fold reads all weights when it writes them, and the proof behind it maps them anew."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4096, 4096)).astype(np.float32), "weight")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4096]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "weight"], ["y"], name="fc")
    graph = helper.make_graph([node], "large", ports[:1], ports[1:], [weight])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "large.onnx")
    del weight, graph
    ran = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path / "large.onnx"), "sample_models/digits_resnet.prototxt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    least = [int(said) for said in re.findall(r"takes at least (\d+)M", ran.stdout)]
    assert len(least) == 3
    assert abs(least[2] - least[0]) < 16, least


def test_no_page_of_a_source_is_in_memory_while_networks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are inferred with small weights, and reading one maps many pages around it, weight after weight."""
    random, top, stored, nodes = np.random.default_rng(0), "x", {}, []
    for number, (read, made) in enumerate([(256, 2048), (2048, 256), (256, 2048), (2048, 256)]):
        stored[f"weight{number}"] = random.normal(size=(read, made)) / read**0.5
        nodes.append(helper.make_node("MatMul", [top, f"weight{number}"], [f"fc{number}"], name=f"fc{number}"))
        stored[f"factor{number}"] = random.uniform(0.5, 1.5, made if made < read else 1)
        top = f"mul{number}"
        nodes.append(helper.make_node("Mul", [f"fc{number}", f"factor{number}"], [top], name=top))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 256]) for name in ("x", top)]
    weights = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()]
    graph = helper.make_graph(nodes, "spread", ports[:1], ports[1:], weights)
    path, held = tmp_path / "spread.onnx", list[int]()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    def run(session: Session, *arguments: Any, really: Any = Session.run) -> Any:
        maps = Path("/proc/self/smaps").read_text(encoding="utf-8").split(str(path))[1:]
        held.extend(int(one.split("Rss:")[1].split()[0]) for one in maps)
        return really(session, *arguments)

    monkeypatch.setattr(Session, "run", run)
    assert bnfold.compare(path, path, memory=2 << 30).passed
    assert held
    assert not any(held)


def test_weights_of_two_bytes_count_as_processors_compute_with_them(tmp_path: Path) -> None:
    """A session casts weights of float16 to float32, and keeps both."""
    random = np.random.default_rng(0)
    drawn = {"weight": random.normal(size=(4096, 4608)) / 64, "factor": random.uniform(0.5, 1.5, 4608)}
    stored = [numpy_helper.from_array(values.astype(np.float16), name) for name, values in drawn.items()]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, size]) for name, size in (("x", 4096), ("y", 4608))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["m"], name="fc"),
        helper.make_node("Mul", ["m", "factor"], ["y"], name="mul"),
    ]
    graph = helper.make_graph(nodes, "half", ports[:1], ports[1:], stored)
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    said, *_ = compared(path, 50 * MIB)
    found = re.search(r"at least (\d+)M", said)
    assert found is not None, said
    least = int(found[1]) * MIB
    said, held, _ = compared(path, least + 8 * MIB)
    assert len(said) == len(hashlib.sha256().hexdigest()), said
    assert held < least + 8 * MIB


def test_what_shows_in_no_output_is_sought_within_the_memory(tmp_path: Path) -> None:
    """The candidate runs once more for that, and weights are compared, of which each network has 64 MB."""
    random = np.random.default_rng(0)
    learned = {"weight": random.normal(0, 0.02, (4096, 4096)), "last": random.normal(0, 0.02, (4096, 3))}
    learned |= {name: random.uniform(0.5, 1.5, 4096) for name in ("gamma", "beta", "mean", "var")}
    stored = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in learned.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "weight"], ["fc"], name="fc"),
        helper.make_node("BatchNormalization", ["fc", *list(learned)[2:]], ["bn"], name="bn"),
        helper.make_node("Relu", ["bn"], ["relu"], name="relu"),
        helper.make_node("Gemm", ["relu", "last"], ["y"], name="last"),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, size]) for name, size in (("x", 4096), ("y", 3))
    ]
    graph = helper.make_graph(nodes, "hidden", ports[:1], ports[1:], stored)
    path = tmp_path / "hidden.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    said, *_ = compared(path, 50 * MIB, "outputs")
    found = re.search(r"at least (\d+)M", said)
    assert found is not None, said
    enough = (int(found[1]) + 32) * MIB
    said, held, _ = compared(path, enough, "outputs")
    assert len(said) == len(hashlib.sha256().hexdigest()), said
    assert held < enough


DECIDED = """
import sys
import bnfold

net = bnfold.load(sys.argv[1])
report = bnfold.compare(net, bnfold.fold(net).net, tolerance=float(sys.argv[2]), memory=int(sys.argv[3]))
print(*[report.passed, *report.as_exact])
print(*[note for note in report.notes if note.startswith("no float64 run decides")])
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")))
"""


@pytest.mark.parametrize(("layers", "decides"), [(2, False), (4, True)])
def test_a_decision_in_float64_stays_below_the_memory_or_says_what_would_be_enough(
    tmp_path: Path, layers: int, decides: bool
) -> None:
    """Blobs have 4 MB, of which five float64 runs hold some; a Sigmoid of large scores is beyond the tolerance.

    Of two layers both networks run at once in 270 MB; of four the float64 run goes in three segments.
    """
    random, nodes, stored, top = np.random.default_rng(0), [], [], "data"
    for number in range(layers):
        conv, bn = f"conv{number}", f"bn{number}"
        learned = {f"{conv}_w": random.normal(0, 0.35, (16, 3 if number == 0 else 16, 1, 1))}
        learned |= {f"{bn}_{name}": random.uniform(0.7, 1.3, 16) for name in ("gamma", "beta", "mean", "var")}
        stored += [numpy_helper.from_array(values.astype(np.float32), name) for name, values in learned.items()]
        nodes.append(helper.make_node("Conv", [top, f"{conv}_w"], [conv], name=conv))
        nodes.append(helper.make_node("BatchNormalization", [conv, *list(learned)[1:]], [bn], name=bn))
        top = f"relu{number}" if number < layers - 1 else "score"
        nodes.append(helper.make_node("Relu" if number < layers - 1 else "Identity", [bn], [top], name=top))
    stored.append(numpy_helper.from_array(np.asarray(100, np.float32), "factor"))
    nodes.append(helper.make_node("Mul", ["score", "factor"], ["large"], name="large"))
    nodes.append(helper.make_node("Sigmoid", ["large"], ["y"], name="y"))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 256, 256])
        for name, channels in (("data", 3), ("y", 16))
    ]
    graph = helper.make_graph(nodes, "scores", ports[:1], ports[1:], stored)
    path = tmp_path / "scores.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    def decided(memory: int) -> tuple[str, str, int]:
        verdict, note, held = lines_of(DECIDED, path, "3e-5", memory)
        return verdict, note, int(held)

    verdict, note, held = decided(270 * MIB)
    found = re.search(r"270M is too little memory: comparing these networks takes at least (\d+)M, ", note)
    assert found is not None, note
    assert verdict == "False"
    assert held < 270 * MIB
    if not decides:
        return
    enough = (int(found[1]) + 8) * MIB
    verdict, note, held = decided(enough)
    assert (verdict, note) == ("True y", "")
    assert held < enough
