"""Each small model of `traps` folds to the nodes that its text says, and every name that survives keeps its value."""

from __future__ import annotations

import re
from io import BytesIO

import onnx
import pytest
from onnx import ModelProto, helper
from onnx_cases import error, run, values_of
from onnx_traps import Trap, traps

from bnfold import compare, fold, save_onnx
from bnfold.algebra import FoldReport, Kept
from bnfold.onnx import shapes
from bnfold.onnx.read import ONNX, load_bytes

TOLERANCES = {"float": 2e-5, "double": 1e-13, "float16": 1e-2}


def folded(data: bytes, trap: Trap) -> tuple[bytes, FoldReport]:
    result = fold(load_bytes(data, trap.options))
    stream = BytesIO()
    save_onnx(result.net, stream)
    return stream.getvalue(), result.report


@pytest.mark.parametrize("trap", traps(), ids=str)
def test_a_small_model_folds_to_the_fewest_and_to_the_same_numbers(trap: Trap) -> None:
    model, feeds = trap.model(), trap.feeds()
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    written, report = folded(data, trap)
    result = ModelProto.FromString(written)
    onnx.checker.check_model(result, full_check=True)
    assert [port.name for port in result.graph.output] == [port.name for port in model.graph.output]
    names = sorted(set(values_of(model)) & set(values_of(result)))
    before, after = run(data, feeds, names), run(written, feeds, names)
    for name, expected in before.items():
        assert error(after[name], expected) < TOLERANCES[trap.dtype], name
    assert [node.op_type for node in result.graph.node] == trap.left, [str(kept) for kept in report.kept]
    again, more = folded(written, trap)
    assert not [record for record in more.records if not isinstance(record, Kept)]
    assert again == written


@pytest.mark.parametrize("trap", [trap for trap in traps() if "Concat" in trap.body], ids=str)
def test_constants_of_what_is_excluded_stay_where_they_are(trap: Trap) -> None:
    data, stream = trap.model().SerializeToString(), BytesIO()
    save_onnx(fold(load_bytes(data, trap.options), exclude="*").net, stream)
    assert stream.getvalue() == data


JOINED = [
    trap for trap in traps() if re.search(r"(Concat|Max|Mean|Min|Sum|Where) .*\{", trap.body) and "fed" not in trap.said
]


@pytest.mark.parametrize("trap", JOINED, ids=str)
def test_constants_that_nodes_hold_fold_as_those_that_the_model_holds(trap: Trap) -> None:
    model = trap.model()
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    held = [tensor for tensor in model.graph.initializer if tensor.name not in ports]
    left = [tensor for tensor in model.graph.initializer if tensor.name in ports]
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in held]
    nodes += model.graph.node
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(left)
    result = ModelProto.FromString(folded(model.SerializeToString(), trap)[0])
    onnx.checker.check_model(result, full_check=True)
    assert [node.op_type for node in result.graph.node if node.op_type != "Constant"] == trap.left


@pytest.mark.parametrize("trap", [trap for trap in traps() if "Sequence" in trap.body], ids=str)
def test_lists_of_tensors_are_left_out_of_a_proof(trap: Trap) -> None:
    net = load_bytes(trap.model().SerializeToString(), trap.options)
    report = compare(net, fold(net).net)
    assert report.passed
    assert "y" in {blob.blob for blob in report.blobs}
    assert "s" not in {blob.blob for blob in report.blobs}


@pytest.mark.parametrize("trap", [trap for trap in traps() if "Shape" in trap.body or "Reshape" in trap.body], ids=str)
def test_sizes_that_were_known_are_known_of_the_folded_net(trap: Trap) -> None:
    net = load_bytes(trap.model().SerializeToString(), trap.options)
    after = fold(net).net
    known = {
        blob: shape for blob, shape in ONNX.shapes(net).items() if shape is not None and min(shape, default=0) >= 0
    }
    found = ONNX.shapes(after)
    assert {blob: found[blob] for blob in known if blob in found} == {b: s for b, s in known.items() if b in found}


@pytest.mark.parametrize("trap", traps(), ids=str)
def test_what_a_model_says_of_sizes_stays(trap: Trap) -> None:
    model = onnx.shape_inference.infer_shapes(trap.model())
    for port in (*model.graph.value_info, *model.graph.output):
        for axis, dim in enumerate(port.type.tensor_type.shape.dim):
            dim.dim_param = f"{port.name}_{axis}"
    result = ModelProto.FromString(folded(model.SerializeToString(), trap)[0]).graph
    said = {port.name: port for port in (*model.graph.value_info, *model.graph.output)}
    assert all(said.get(port.name, port) == port for port in (*result.value_info, *result.output))


def test_each_is_there_once_and_there_are_many() -> None:
    names = [trap.name for trap in traps()]
    assert len(names) == len(set(names)) > 300
    types = {op_type for trap in traps() for op_type in re.findall(r"= (?:own\.)?(\w+)", trap.body)}
    assert len(types) > 70


@pytest.mark.parametrize("is_large", [False, True])
def test_a_weight_that_is_standardised_in_training_mode_is_a_constant_where_nobody_reads_the_statistics(
    is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trap,) = (trap for trap in traps() if "giving its statistics" in trap.name)
    if is_large:  # more than a small model may compute, and so much does a large one store
        monkeypatch.setattr(shapes, "MAX_COMPUTED", 1)
    model = trap.model()
    for port in [port for port in model.graph.output if port.name != "y"]:
        model.graph.output.remove(port)
    written, _ = folded(model.SerializeToString(), trap)
    assert [node.op_type for node in ModelProto.FromString(written).graph.node] == ["Conv"]
    feeds = trap.feeds()
    assert error(run(written, feeds, ["y"])["y"], run(model, feeds, ["y"])["y"]) < TOLERANCES["float"]
