"""Each model of `tests/golden_onnx` folds to the fewest affines, to the same numbers, and loses nothing else."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx_cases import TOLERANCE, OnnxCase, affines_in, cases, error, run, values_of

from bnfold import fold, load, save_onnx
from bnfold.algebra import FoldReport, Kept

each_case = pytest.mark.parametrize("case", cases(), ids=str)


class Result(NamedTuple):
    original: ModelProto
    folded: ModelProto
    data: bytes
    report: FoldReport


@cache
def folded(case: OnnxCase) -> Result:
    result = fold(load(case.path))
    stream = BytesIO()
    save_onnx(result.net, stream)
    data = stream.getvalue()
    return Result(onnx.load(case.path), ModelProto.FromString(data), data, result.report)


@each_case
def test_the_count_of_affines_is_that_of_the_table(case: OnnxCase) -> None:
    assert affines_in(onnx.load(case.path)) == case.affines


@each_case
def test_outputs_stay_and_no_more_affines_than_the_fewest(case: OnnxCase) -> None:
    result = folded(case)
    onnx.checker.check_model(result.folded, full_check=True)
    got = run(result.data, case.inputs())
    for name, expected in case.outputs().items():
        assert error(got[name], expected) < TOLERANCE, name
    assert affines_in(result.folded) <= case.fewest


@each_case
def test_every_name_that_survives_keeps_its_value(case: OnnxCase) -> None:
    result = folded(case)
    names = sorted(set(values_of(result.original)) & set(values_of(result.folded)))
    before, after = (run(model, case.inputs(), names) for model in (result.original, result.folded))
    assert names
    for name in names:
        assert error(after[name], before[name]) < TOLERANCE, name


@each_case
def test_what_did_not_take_part_is_what_it_was(case: OnnxCase) -> None:
    result = folded(case)
    before, after = result.original, result.folded
    assert [port.SerializeToString() for port in before.graph.output] == [
        port.SerializeToString() for port in after.graph.output
    ]
    for field in ("ir_version", "opset_import", "producer_name", "metadata_props", "functions", "doc_string"):
        assert getattr(before, field) == getattr(after, field)
    tensors = {tensor.name: tensor for tensor in before.graph.initializer}
    same = [tensor.name for tensor in after.graph.initializer if tensor == tensors.get(tensor.name)]
    assert same == [name for name in tensors if name in same], "in their order"
    known = {name: place for place, name in enumerate(node.name for node in before.graph.node)}
    order = [known[node.name] for node in after.graph.node if node.name and node.name in known]
    assert order == sorted(order)
    read = {name for node in after.graph.node for name in node.input} | {port.name for port in after.graph.output}
    bodies = {"If", "Loop", "Scan"} & {node.op_type for node in after.graph.node}
    unread = {tensor.name for tensor in after.graph.initializer} - read
    assert bodies or not unread - _unread(before)


def _unread(model: ModelProto) -> set[str]:
    read = {name for node in model.graph.node for name in node.input} | {port.name for port in model.graph.output}
    return {tensor.name for tensor in model.graph.initializer} - read


@each_case
def test_a_second_fold_finds_nothing(case: OnnxCase, tmp_path: object) -> None:
    result = folded(case)
    path = f"{tmp_path}/folded.onnx"
    with open(path, "wb") as file:
        file.write(result.data)
    again = fold(load(path))
    assert not [record for record in again.report.records if not isinstance(record, Kept)]
    stream = BytesIO()
    save_onnx(again.net, stream)
    assert stream.getvalue() == result.data


def test_a_model_in_which_nothing_folds_is_written_as_it_was() -> None:
    kept = [case for case in cases() if not any(not isinstance(r, Kept) for r in folded(case).report.records)]
    assert len(kept) > 40
    for case in kept:
        assert folded(case).data == case.path.read_bytes(), case


def test_the_fold_of_all_leaves_what_is_known_to_have_to_stay() -> None:
    left = {str(case): affines_in(folded(case).folded) for case in cases()}
    assert {str(case): case.fewest - left[str(case)] for case in cases() if case.fewest != left[str(case)]} == BETTER


def test_the_comparison_can_fail() -> None:
    case = next(case for case in cases() if case.case == "torch_conv_bn_relu" and case.model == "ts_preserve.onnx")
    model = folded(case).folded
    weight = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.01
    changed = ModelProto()
    changed.CopyFrom(model)
    changed.graph.initializer[0].raw_data = np.ascontiguousarray(values).tobytes()
    expected = case.outputs()
    got = run(changed, case.inputs())
    assert any(error(got[name], expected[name]) > TOLERANCE for name in expected)


BETTER = {
    "gemm_cM1_bn/m.onnx": 1,
    "gemm_c_square_M1_bn/m.onnx": 1,
    "qdq_weight_bn/m.onnx": 1,
    "torch_split_once_bn/dyn_noopt.onnx": 2,
    "torch_split_once_bn/ts.onnx": 2,
    "torch_split_once_bn/ts_preserve.onnx": 2,
}
"""How many fewer are left than anything was seen to leave: a Gemm whose bias has one value for each row, and parts of a
blob that are taken one by one."""
