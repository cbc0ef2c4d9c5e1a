"""What the fold changes in a file and what it leaves, told by small models in text."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from onnx_cases import Array, error, run, values_of
from onnx_texts import folded, model, net_of, reasons, saved, statistics, stored, types, values

from bnfold import compare, fold, load, save_onnx, to_onnx
from bnfold.algebra.records import Kept
from bnfold.errors import ModelError, ParseError, UnsupportedError, UsageError, WeightsError
from bnfold.onnx.read import load_bytes
from bnfold.options import ReadOptions
from bnfold.pipeline import Folding, Job, Reading, Writing, require_paths
from bnfold.pipeline import run as fold_files

CONV_BN = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,2,5,5] x) => (float[1,3,3,3] y)
{
    c = Conv (x, w)
    y = BatchNormalization <epsilon = 0.01> (c, gamma, beta, mean, variance)
}
"""


def conv_bn(text: str = CONV_BN, **more: Array) -> ModelProto:
    return model(text, w=values(3, 2, 3, 3), **statistics(), **more)


def require_same(before: ModelProto, after: ModelProto, tolerance: float = 2e-5) -> None:
    onnx.checker.check_model(after, full_check=True)
    feeds = {}
    for port in before.graph.input:
        if port.name not in stored(before):
            feeds[port.name] = values(*(dim.dim_value for dim in port.type.tensor_type.shape.dim), seed=3)
    names = sorted(set(values_of(before)) & set(values_of(after)))
    one, other = run(before, feeds, names), run(after, feeds, names)
    for name in names:
        assert error(other[name], one[name]) < tolerance, name


# Names of initialisers.


UNREAD = {
    "BatchNormalization": "r, m1, v1 = BatchNormalization <training_mode = 1> (c, gamma, beta, mean, variance)",
    "Dropout": "d, mask = Dropout (c) r = BatchNormalization (d, gamma, beta, mean, variance)",
    "MaxPool": "d, mask = MaxPool <kernel_shape = [2, 2]> (c) r = BatchNormalization (d, ones, beta, mean, variance)",
}


def with_further_outputs(kind: str, also: str = "") -> ModelProto:
    return conv_bn(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 5, 5] x) => (float[N, C, H, W] y{also}) {{ c = Conv (x, w) {UNREAD[kind]} y = Sigmoid (r) }}""",
        ones=np.array([1, 0, 2], np.float32),
    )


@pytest.mark.parametrize("kind", UNREAD)
def test_a_further_output_that_nobody_reads_keeps_no_affine(kind: str) -> None:
    before = with_further_outputs(kind)
    net = net_of(before)
    assert saved(net) == before
    result = fold(net, assume_global_stats=True)
    assert not result.report.kept
    assert "BatchNormalization" not in types(saved(result.net))
    assert all("" not in node.output for node in saved(result.net).graph.node)
    if kind != "BatchNormalization":  # whose values in training are others
        require_same(before, saved(result.net))


def test_a_batch_normalization_in_training_keeps_all_its_outputs_where_its_input_changes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 5, 5] x) => (float[N, C, H, W] y, float[N, C, H, W] c) {
        c = Conv (x, w) d = Dropout (c)
        y, m1, v1 = BatchNormalization <training_mode = 1> (d, gamma, beta, mean, variance) }"""
    before = conv_bn(text)
    after = folded(before)
    assert types(after) == ["Conv", "BatchNormalization"]
    assert list(after.graph.node[1].output) == ["y", "m1", "v1"]
    assert compare(before, after).passed


def test_a_further_output_that_nobody_reads_is_said_to_be_none_that_can_be_kept() -> None:
    net = net_of(with_further_outputs("Dropout"))
    with pytest.raises(
        UsageError, match=r"--keep mask: .* a further output that nobody reads, and no blob that can be"
    ):
        fold(net, keep=["mask"])


@pytest.mark.parametrize(
    ("kind", "also"), [("BatchNormalization", ", float[C] v1"), ("Dropout", ", bool[N, C, H, W] mask")]
)
def test_a_further_output_that_somebody_reads_stays(kind: str, also: str) -> None:
    before = with_further_outputs(kind, also)
    result = fold(net_of(before), assume_global_stats=True)
    assert len(result.report.kept) == 1
    assert saved(result.net) == before


def test_a_batch_normalization_that_is_in_training_by_its_outputs_stays_so() -> None:
    text = """<ir_version: 8, opset_import: ["" : 9]> g (float[1, 2, 5, 5] x) => (float[N, C, H, W] y) {
        c = Conv (x, w) n = Mul (c, gain) r, m1, v1, m2, v2 = BatchNormalization (n, gamma, beta, mean, variance)
        y = Sigmoid (r) }"""
    before = conv_bn(text, gain=np.array(2, np.float32))
    after = folded(before)
    assert types(after) == ["Conv", "BatchNormalization", "Sigmoid"]
    assert len(after.graph.node[1].output) == 5
    assert reasons(before) == [
        "it is in training mode, so its statistics follow each batch; --assume-global-stats folds it"
    ]
    assert types(saved(fold(net_of(before), assume_global_stats=True).net)) == ["Conv", "Sigmoid"]


@pytest.mark.parametrize("made", ["", "v = Abs (w)"])
def test_a_weight_that_is_standardised_in_training_mode_is_never_taken_by_stored_statistics(made: str) -> None:
    weight = "v" if made else "w"
    before = model(
        f"""<ir_version: 8, opset_import: ["" : 9]> g (float[1, 3, 5, 5] x) => (float[N, C, H, W] y) {{ {made}
        r, m1, v1, m2, v2 = BatchNormalization ({weight}, gamma, beta, mean, variance) y = Conv (x, r) }}""",
        w=values(4, 3, 3, 3),
        **statistics(),
    )
    result = fold(net_of(before), assume_global_stats=True)
    assert [kept.reason for kept in result.report.kept] == [
        "it is in training mode and standardises a weight, by statistics that no batch changes"
    ]
    require_same(before, saved(result.net))


def test_noise_that_is_normalised_in_training_mode_is_no_weight() -> None:
    before = model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 5, 5] x) => (float[N, C, H, W] y) {
        n = RandomNormal <shape = [1, 3, 5, 5]> ()
        r, m1, v1 = BatchNormalization <training_mode = 1> (n, gamma, beta, mean, variance) y = Add (x, r) }""",
        **statistics(),
    )
    assert reasons(before) == [
        "it is in training mode, so its statistics follow each batch; --assume-global-stats folds it"
    ]


@pytest.mark.parametrize(
    ("opset", "node"),
    [
        (9, "r, m1, v1, m2, v2 = BatchNormalization (q, gamma, beta, mean, variance)"),
        (17, "r, m1, v1 = BatchNormalization <training_mode = 1> (q, gamma, beta, mean, variance)"),
    ],
)
def test_a_batch_normalization_that_stays_has_the_stored_statistics_if_these_are_assumed(
    opset: int, node: str, tmp_path: Path
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[1, 3, 5, 5] x) => (float[N, C, H, W] y) {{
        q = Relu (x) {node} y = Relu (r) }}"""
    onnx.save(model(text, **statistics()), tmp_path / "training.onnx")
    job = Job(Reading(tmp_path / "training.onnx"), Writing((tmp_path / "out.onnx",)), Folding(assume_global_stats=True))
    assert fold_files(job).passed
    after = onnx.load(tmp_path / "out.onnx")
    assert types(after) == ["Relu", "BatchNormalization", "Relu"]
    assert list(after.graph.node[1].output) == ["r"]
    plain = model(
        text.replace("r, m1, v1, m2, v2", "r").replace("r, m1, v1", "r").replace("<training_mode = 1>", ""),
        **statistics(),
    )
    assert compare(plain, after).passed


def test_a_batch_normalization_that_is_in_training_by_its_outputs_keeps_them_where_its_input_changes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 9]>
        g (float[1, 2, 5, 5] x) => (float[N, C, H, W] y, float[N, C, H, W] c) {
        c = Conv (x, w) d = Dropout (c)
        y, m1, v1, m2, v2 = BatchNormalization (d, gamma, beta, mean, variance) }"""
    before = conv_bn(text)
    after = folded(before)
    assert types(after) == ["Conv", "BatchNormalization"]
    assert list(after.graph.node[1].output) == ["y", "m1", "v1", "m2", "v2"]
    assert compare(before, after).passed


def test_a_weight_that_one_node_reads_keeps_its_name_and_the_statistics_go() -> None:
    before = conv_bn()
    after = folded(before)
    assert types(after) == ["Conv"]
    assert list(stored(after)) == ["w", "c.bias"]
    require_same(before, after)


def test_a_weight_that_others_read_keeps_its_values_and_the_folded_one_gets_a_new_name() -> None:
    text = CONV_BN.replace("(float[1,3,3,3] y)", "(float[1,3,3,3] y, float[1,3,3,3] z)").replace(
        "}", "    z = Conv (x, w)\n}"
    )
    before = conv_bn(text)
    after = folded(before)
    np.testing.assert_array_equal(stored(after)["w"], stored(before)["w"])
    assert types(after) == ["Conv", "Conv"]
    assert after.graph.node[0].input[1] != "w"
    assert after.graph.node[1].input[1] == "w"
    require_same(before, after)


def test_weights_that_come_out_equal_stay_one() -> None:
    text = CONV_BN.replace("(float[1,3,3,3] y)", "(float[1,3,3,3] y, float[1,3,3,3] z)")
    text = text.replace(
        "}", "    d = Conv (x, w)\n    z = BatchNormalization <epsilon = 0.01> (d, gamma, beta, mean, variance)\n}"
    )
    after = folded(conv_bn(text))
    first, second = (node.input[1] for node in after.graph.node)
    assert first == second
    require_same(conv_bn(text), after)


def test_an_initialiser_that_nobody_ever_read_stays() -> None:
    before = conv_bn(unread=values(4), gone=values(2))
    assert {"unread", "gone"} <= set(stored(folded(before)))


def test_what_a_factor_of_the_type_of_data_is_made_of_goes_with_it() -> None:
    """A CastLike that reads data for its type alone is a constant, and keeps nothing once nobody reads it."""
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[n,3] x) => (float[n,2] y, float[n,3] z) {
    c = Constant <value_float = 2.0> () k = CastLike (c, x) r = Sqrt (k) s = CastLike (r, x) q = CastLike (c, x)
    m = MatMul (x, w) y = Mul (m, s) d = Relu (x) z = Mul (d, q) }"""
    before = model(text, w=values(3, 2))
    after = folded(before, keep=("z", "d"))
    assert types(after) == ["Constant", "CastLike", "MatMul", "Relu", "Mul"]
    require_same(before, after)


def test_metadata_functions_and_documents_stay() -> None:
    before = conv_bn()
    before.doc_string, before.producer_name, before.domain = "what it is for", "somebody", "example.org"
    before.metadata_props.add(key="answer", value="42")
    before.graph.doc_string = "a graph"
    before.graph.node[0].doc_string = "a convolution"
    before.graph.node[0].name = "first"
    before.functions.append(onnx.helper.make_function("local", "F", ["a"], ["b"], [], [helper.make_opsetid("", 17)]))
    after = folded(before)
    for field in ("doc_string", "producer_name", "domain", "metadata_props", "functions", "opset_import", "ir_version"):
        assert getattr(after, field) == getattr(before, field)
    assert after.graph.doc_string == "a graph"
    assert (after.graph.node[0].doc_string, after.graph.node[0].name) == ("a convolution", "first")


def test_a_message_is_what_the_file_would_be(tmp_path: Path) -> None:
    before = conv_bn(large=values(300))
    for tensor in before.graph.initializer:
        tensor.doc_string = f"about {tensor.name}"
    assert to_onnx(net_of(before)) == before
    net = fold(net_of(before)).net
    assert to_onnx(net) == saved(net)
    inside = to_onnx(load(external(tmp_path)))
    assert [numpy_helper.to_array(tensor).tobytes() for tensor in inside.graph.initializer] == [
        numpy_helper.to_array(tensor).tobytes() for tensor in conv_bn().graph.initializer
    ]


def test_what_training_and_annotations_name_is_left() -> None:
    before = conv_bn()
    before.training_info.add().update_binding.add(key="w", value="w")
    note = before.graph.quantization_annotation.add(tensor_name="x")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="beta")
    after = folded(before)
    for name in ("w", "beta"):
        np.testing.assert_array_equal(stored(after)[name], stored(before)[name])
    assert after.training_info == before.training_info
    assert after.graph.quantization_annotation == before.graph.quantization_annotation


def test_value_infos_follow_the_names() -> None:
    before = conv_bn(
        CONV_BN.replace("c = Conv (x, w)", "c = Conv (x, w)\n    p = MaxPool <kernel_shape = [1, 1]> (c)").replace(
            "(c, gamma", "(p, abs"
        ),
        abs=np.abs(values(3)),
    )
    before.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, 3, 3]))
    after = folded(before)
    assert types(after) == ["Conv", "MaxPool"]
    made = {name for node in after.graph.node for name in node.output}
    assert [port.name for port in after.graph.value_info] == [after.graph.node[0].output[0]]
    assert {port.name for port in after.graph.value_info} <= made


@pytest.mark.parametrize(
    ("first", "second", "left"), [("Mul (h, s)", "Div (m, t)", "Mul"), ("Add (s, h)", "Sub (m, t)", "Add")]
)
def test_numbers_join_whatever_the_sizes_and_an_output_behind_them_stays_declared(
    first: str, second: str, left: str
) -> None:
    before = model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[6] x, int64[N] sizes) => (float[2,3] y)
        <float s = {{-0.75}}, float t = {{2.5}}> {{ h = Reshape (x, sizes) m = {first} y = {second} }}"""
    )
    after = folded(before)
    assert types(after) == ["Reshape", left]
    assert after.graph.output == before.graph.output
    feeds = {"x": values(6), "sizes": np.array([2, 3])}
    one, other = (run(each.SerializeToString(), feeds, ["y"])["y"] for each in (before, after))
    assert error(other, one) < 1e-6


def test_what_is_said_of_initialisers_goes_with_them() -> None:
    """PyTorch declares each weight once more among the values."""
    before = conv_bn()
    for tensor in before.graph.initializer:
        before.graph.value_info.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
        before.graph.quantization_annotation.add(tensor_name=tensor.name)
    after = folded(before)
    assert [port.name for port in after.graph.value_info] == ["w"]
    assert [note.tensor_name for note in after.graph.quantization_annotation] == ["w"]


@pytest.mark.parametrize(("declared", "left"), [("c", []), ("y", ["y"]), ("b", ["b"]), ("bc", ["b"]), ("d", ["b"])])
def test_a_value_that_takes_the_name_of_another_is_declared_once(declared: str, left: list[str]) -> None:
    text = (
        CONV_BN if declared in "cy" else CONV_BN.replace("y = Batch", "b = Batch").replace("}", "    y = Relu (b)\n}")
    )
    before = conv_bn(text)
    for name in declared.replace("d", "c"):
        before.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 3, 3]))
    assert [port.name for port in folded(before).graph.value_info] == left


def test_an_output_that_is_an_initialiser_has_its_shape() -> None:
    before = model(
        """
        <ir_version: 3, opset_import: ["" : 13]>
        net (float[1,2,5,5] x, float[3,2,3,3] w, float[3,1,1] k) => (float[1,3,3,3] y, float[] k)
        {
            c = Conv (x, w)
            m = Mul (c, k)
            y = Mul (m, k)
        }
        """,
        w=values(3, 2, 3, 3),
        k=values(3, 1, 1),
    )
    assert types(folded(before)) == ["Conv"]


def test_an_affine_that_took_another_in_keeps_what_is_said_of_it() -> None:
    before = model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,5,5] x) => (float[1,3,5,5] y)
        {
            r = Relu (x)
            s = Add (r, k)
            [last] y = Mul (s, k)
        }
        """,
        k=values(3, 1, 1),
    )
    before.graph.node[-1].doc_string = "by hand"
    before.graph.node[-1].metadata_props.add(key="line", value="7")
    after = folded(before).graph.node[-1]
    assert (after.op_type, after.name, after.doc_string) == ("BatchNormalization", "last", "by hand")
    assert after.metadata_props == before.graph.node[-1].metadata_props


def test_an_affine_whose_shape_only_the_model_declares_is_taken_in_behind_an_unknown_one() -> None:
    before = model(
        """
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[1,3,5,5] x) => (float[1,3,5,5] z)
        <float[1,3,5,5] b>
        {
            a = own.Gelu (x)
            b = Neg (a)
            c = Mul (b, k)
            z = Tanh (c)
        }
        """,
        k=values(1),
    )
    after = folded(before)
    assert types(after) == ["Gelu", "Mul", "Tanh"]
    np.testing.assert_array_equal(numpy_helper.to_array(after.graph.initializer[0]).reshape(-1), -values(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_becomes_of_parameters_of_another_type_has_the_type_that_its_operator_wants(channels: int) -> None:
    text = f"""
    <ir_version: 8, opset_import: ["" : 15]>
    net (float16[1,{channels},5,5] x) => (float16[1,{channels},5,5] y)
    {{
        r = Relu (x)
        m = Mul (r, k)
        y = BatchNormalization (m, gamma, zero, zero, variance)
    }}
    """
    proto = model(text, **statistics(channels), zero=np.zeros(channels, np.float32), k=values(dtype=np.float16))
    after = folded(proto)
    assert types(after) == ["Relu", "Mul" if channels == 1 else "BatchNormalization"]
    read = {tensor.data_type for tensor in after.graph.initializer if tensor.name in after.graph.node[1].input}
    assert read == {TensorProto.FLOAT16 if channels == 1 else TensorProto.FLOAT}
    onnx.checker.check_model(after, full_check=True)


def test_a_node_that_is_new_has_a_name_of_its_own() -> None:
    before = model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[2,3,4] x) => (float[2,3,5] y)
        {
            [a] r = Add (x, k)
            [m] c = MatMul (r, w)
            ["m/bias"] y = Relu (c)
        }
        """,
        w=values(4, 5),
        k=values(4),
    )
    after = folded(before)
    assert [(node.op_type, node.name) for node in after.graph.node] == [
        ("MatMul", "m"),
        ("Add", "m/bias_2"),
        ("Relu", "m/bias"),
    ]
    x = values(2, 3, 4, seed=3)
    assert error(run(after, {"x": x})["y"], run(before, {"x": x})["y"]) < 1e-6


def test_an_old_model_lists_a_new_bias_as_an_input_and_no_longer_what_went() -> None:
    before = conv_bn(CONV_BN.replace("ir_version: 8", "ir_version: 3").replace('"" : 17', '"" : 8'))
    before.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        for tensor in before.graph.initializer
    )
    after = folded(before)
    assert types(after) == ["Conv"]
    assert [port.name for port in after.graph.input] == ["x", *stored(after)]
    onnx.checker.check_model(after)


@pytest.mark.parametrize("version", [3, 8])
def test_a_bias_whose_sizes_change_is_declared_with_the_new_ones(version: int) -> None:
    before = model(
        f"""
        <ir_version: {version}, opset_import: ["" : 11]>
        net (float[2,3] x) => (float[2,4] y)
        {{
            m = BatchNormalization (x, gamma, beta, mean, variance)
            y = Gemm (m, w, b)
        }}
        """,
        w=values(3, 4),
        b=np.array(0.5, np.float32),
        **statistics(),
    )
    ports = [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, one.dims) for one in before.graph.initializer]
    (before.graph.input if version == 3 else before.graph.value_info).extend(ports)
    after = folded(before)
    assert types(after) == ["Gemm"]
    declared = {port.name: port for port in (*after.graph.input, *after.graph.value_info)}
    for name, array in stored(after).items():
        assert tuple(dim.dim_value for dim in declared[name].type.tensor_type.shape.dim) == array.shape
    require_same(before, after)


def test_a_bias_without_a_value_is_left_as_it_is() -> None:
    before = model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[rows,3] x) => (float[rows,4] y)
        {
            g = Gemm (x, w, b)
            y = Mul (g, s)
        }
        """,
        w=values(3, 4),
        b=np.zeros((0, 1), np.float32),
        s=values(4),
    )
    assert "its bias has the shape 0x1, which does not fit" in reasons(before)[0]


def test_initialisers_that_may_be_fed_stay_unless_they_are_frozen() -> None:
    before = conv_bn()
    before.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        for tensor in before.graph.initializer
    )
    assert "may be fed; --freeze-initializers" in reasons(before)[0]
    assert folded(before) == before
    after = folded(before, freeze_initializers=True)
    assert types(after) == ["Conv"]
    assert [port.name for port in after.graph.input] == ["x"]


def test_an_initialiser_that_may_be_fed_stays_where_what_reads_it_goes() -> None:
    before = conv_bn()
    before.graph.node.add(op_type="Dropout", input=["y", "ratio"], output=["z"])
    before.graph.output[0].name = "z"
    before.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "ratio"))
    before.graph.input.append(helper.make_tensor_value_info("ratio", TensorProto.FLOAT, []))
    after = folded(before)
    assert types(after) == ["Conv"]
    assert [port.name for port in after.graph.input] == ["x", "ratio"]
    assert [port.name for port in folded(before, freeze_initializers=True).graph.input] == ["x"]


# Types.


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16], ids=lambda one: np.dtype(one).name
)
def test_arithmetic_is_float64_and_rounds_once_to_the_stored_type(dtype: type) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = CONV_BN.replace("float[", f"{TensorProto.DataType.Name(number).lower()}[")
    weight, said = values(3, 2, 3, 3, dtype=dtype), statistics(dtype=dtype)
    after = stored(folded(model(text, w=weight, **said)))
    gamma, beta, mean, variance = (said[name].astype(np.float64) for name in ("gamma", "beta", "mean", "variance"))
    scale = gamma / np.sqrt(variance + float(np.float32(0.01)))
    exact = weight.astype(np.float64) * scale.reshape(-1, 1, 1, 1)
    assert after["w"].dtype == dtype
    assert [after["w"].reshape(-1)[i] for i in range(54)] == [nearest(one, dtype) for one in exact.reshape(-1)]
    (bias,) = (value for name, value in after.items() if name != "w")
    assert bias.tolist() == [nearest(one, dtype) for one in beta - mean * scale]


def nearest(value: float, dtype: type) -> object:
    """The nearest number of a type, found among its neighbours."""
    around: Array = np.asarray(value, np.float32).astype(dtype).reshape(1)
    bits = around.view({2: np.int16, 4: np.int32, 8: np.int64}[around.itemsize])
    if around.itemsize == 8:
        return dtype(value)
    near = np.concatenate([(bits + step).view(dtype) for step in (-1, 0, 1)])
    return near[np.abs(near.astype(np.float64) - value).argmin()]


def test_a_half_model_is_held_to_the_tolerance_of_its_type(tmp_path: Path) -> None:
    text = CONV_BN.replace("float[", "float16[")
    before = model(text, w=values(3, 2, 3, 3, dtype=np.float16), **statistics(dtype=np.float16))
    onnx.save(before, tmp_path / "half.onnx")
    net = load(tmp_path / "half.onnx")
    report = compare(net, fold(net).net)
    assert report.passed
    assert report.tolerance == 1e-2
    assert compare(str(tmp_path / "half.onnx"), net, tolerance=1e-7).tolerance == 1e-7


MIXED = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[2,2,5,5] x) => (float[2,3,3,3] y) <{kind}[3,2,3,3] w, {kind}[3,1,1] k>
    {{
        [in] data = Cast <to: int = {to}> (x)
        weight = Cast <to: int = {to}> (w)
        scale = Cast <to: int = {to}> (k)
        [conv] c = Conv (data, weight)
        [mul] m = Mul (c, scale)
        [out] y = Cast <to: int = 1> (m)
    }}
"""


@pytest.mark.parametrize(("kind", "to", "tolerance"), [("float", 10, 1e-2), ("float16", 1, 1e-4)])
def test_the_tolerance_is_of_the_type_that_a_cast_makes_of_weights(kind: str, to: int, tolerance: float) -> None:
    dtype = np.float16 if kind == "float16" else np.float32
    learned = {"w": values(3, 2, 3, 3, dtype=dtype), "k": values(3, 1, 1, dtype=dtype)}
    net = net_of(model(MIXED.format(kind=kind, to=to), **learned))
    result = fold(net)
    casts = ["Cast"] * (to == 10)  # those to the type that there is are dropped
    assert [layer.type for layer in result.net.layers] == [*casts, "Conv", *casts]
    report = compare(net, result.net)
    assert report.passed
    assert report.tolerance == tolerance


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [("bfloat16", ml_dtypes.bfloat16, 8e-2), ("double", np.float64, 1e-4), ("float16", np.float16, 1e-2)],
)
def test_types_that_no_processor_has_a_convolution_of_are_proved_in_float32(
    kind: str, dtype: type, tolerance: float
) -> None:
    text = CONV_BN.replace("float[", f"{kind}[").replace("17", "22").replace("version: 8", "version: 10")
    before = model(text, w=values(3, 2, 3, 3, dtype=dtype), **statistics(dtype=dtype))
    net = net_of(before)
    result = fold(net)
    report = compare(net, result.net)
    assert report.passed
    assert report.tolerance == tolerance
    assert (kind == "float16") != any("were run in float32" in note for note in report.notes)
    wrong = saved(result.net)
    weight = next(tensor for tensor in wrong.graph.initializer if len(tensor.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    assert not compare(net, wrong).passed


@pytest.mark.parametrize(("kind", "to"), [("double", 1), ("float", 11)])
def test_a_double_convolution_between_casts_is_proved_in_float32(kind: str, to: int) -> None:
    dtype = np.float64 if kind == "double" else np.float32
    text = MIXED.format(kind=kind, to=11).replace("1> (m)", f"{to}> (m)").replace("float[2,3", f"{FLOATS[to]}[2,3")
    net = net_of(model(text, w=values(3, 2, 3, 3, dtype=dtype), k=values(3, 1, 1, dtype=dtype)))
    report = compare(net, fold(net).net)
    assert report.passed
    assert report.tolerance == 1e-4
    assert any("not all that is float64 can be computed" in note for note in report.notes)


FLOATS = {1: "float", 11: "double"}


def test_double_that_onnxruntime_has_is_proved_in_double() -> None:
    text = LINEAR.replace("float[", "double[")
    before = model(text, **{n: values(*s, seed=i, dtype=np.float64) for i, (n, s) in enumerate(LEARNED.items(), 3)})
    report = compare(net_of(before), fold(net_of(before)).net)
    assert report.passed
    assert report.tolerance == 1e-9


LEARNED = {"w": (3, 5), "b": (5,), "s": (5,)}

# Bodies.


LOOPED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,2,5,5] x, bool b) => (float[1,3,3,3] y, float[1,3,3,3] z)
{
    c = Conv (x, w)
    y = BatchNormalization <epsilon = 0.01> (c, gamma, beta, mean, variance)
    z = If (b) <
        then_branch = one () => (float[1,3,3,3] p) { p = Relu (CAPTURED) },
        else_branch = two () => (float[1,3,3,3] q) { q = Neg (y) }
    >
}
"""


def test_what_a_body_captures_is_used_and_neither_changes_nor_goes() -> None:
    before = conv_bn(LOOPED.replace("CAPTURED", "c"))
    assert "is read in a body" in reasons(before)[0]
    assert folded(before) == before


def test_a_body_reads_the_name_that_took_over() -> None:
    before = conv_bn(LOOPED.replace("CAPTURED", "y"))
    after = folded(before)
    assert types(after) == ["Conv", "If"]
    for flag in (True, False):
        feeds = {"x": values(1, 2, 5, 5), "b": np.array(flag)}
        for name, expected in run(before, feeds).items():
            assert error(run(after, feeds)[name], expected) < 2e-5


# Where the biases of MatMuls go.

LINEAR = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[2,4,3] x) => (float[2,4,5] y)
{
    m = MatMul (x, w)
    a = Add (m, b)
    y = Mul (a, s)
}
"""


def test_a_bias_stays_an_add_behind_a_matmul_of_rank_three() -> None:
    before = model(LINEAR, w=values(3, 5), b=values(5, seed=2), s=values(5, seed=4))
    after = folded(before)
    assert types(after) == ["MatMul", "Add"]
    assert set(stored(after)) == {"w", "b"}
    require_same(before, after)


def test_a_matmul_of_a_matrix_with_a_new_bias_becomes_a_gemm() -> None:
    text = (
        LINEAR.replace("[2,4,", "[4,")
        .replace("a = Add (m, b)", "")
        .replace("(a, s)", "(m, s)")
        .replace("Mul", "Sub", 2)
        .replace("MatSub", "MatMul")
    )
    before = model(text, w=values(3, 5), s=values(5, seed=4))
    after = folded(before)
    assert types(after) == ["Gemm"]
    require_same(before, after)


def test_a_matmul_and_its_bias_are_as_they_were_where_nothing_folds() -> None:
    before = model(LINEAR.replace("y = Mul (a, s)", "y = Softmax (a)"), w=values(3, 5), b=values(5, seed=2))
    assert folded(before) == before


def test_a_second_summand_behind_a_matmul_is_folded_or_left_as_it_was() -> None:
    text = LINEAR.replace("y = Mul (a, s)", "y = Add (a, s)")
    before = model(text, w=values(3, 5), b=values(5, seed=2), s=values(5, seed=4))
    after = folded(before)
    assert types(after) == ["MatMul", "Add"]
    require_same(before, after)
    old = model(text.replace("17", "1"), w=values(3, 5), b=values(5, seed=2), s=values(5, seed=4))
    assert folded(old) == old


def test_a_kept_blob_between_a_matmul_and_its_bias_keeps_its_value() -> None:
    before = model(LINEAR, w=values(3, 5), b=values(5, seed=2), s=values(5, seed=4))
    after = folded(before, keep=("m",))
    assert "m" in values_of(after)
    require_same(before, after)


# Options.


def test_a_constant_that_a_node_computes_stays_where_it_is_kept() -> None:
    text = CONV_BN.replace("c = Conv (x, w)", "z = CastLike (zero, x)  b = Expand (z, three)  c = Conv (x, w, b)")
    before = conv_bn(text, zero=np.zeros(1, np.int64), three=np.array([3]))
    assert types(folded(before)) == ["Conv"]
    after = folded(before, keep=("z",))
    assert types(after) == ["CastLike", "Conv"]
    require_same(before, after)


def test_until_ends_the_model_in_a_value() -> None:
    before = conv_bn(CONV_BN.replace("}", "    z = Relu (y)\n}").replace("] y)", "] z)"))
    after = folded(before, until=("y",))
    assert "the net ends in 'y': 1 layer left out" in net_of(before, until=("y",)).notes
    assert [port.name for port in after.graph.output] == ["y"]
    assert types(after) == ["Conv"]
    onnx.checker.check_model(after, full_check=True)
    with pytest.raises(UsageError, match=r"--until nothing: the network has no blob of that name \(there "):
        net_of(before, until=("nothing",))


SIZES = """
<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float[2,3] y)
<int64 zero = {0}, int64[1] axes = {0}, int64[1] rest = {-1}, float[3] b = {1, 2, 3}> {
    shape = Shape (x)
    rows = Gather <axis = 0> (shape, zero)
    row = Unsqueeze (rows, axes)
    wanted = Concat <axis = 0> (row, rest)
    reshaped = Reshape (x, wanted)
    y = Add (reshaped, b)
}
"""


@pytest.mark.parametrize("name", ["rows", "wanted", "b"])
def test_what_is_known_before_anything_runs_is_said_to_be_no_blob(name: str) -> None:
    net = load(parser.parse_model(SIZES))
    with pytest.raises(UsageError, match=f"--keep {name}: that is a weight, another value that is known before"):
        fold(net, keep=name)
    with pytest.raises(
        UsageError, match=rf"model\.onnx: --until {name}: that is a weight, or computed before anything"
    ):
        load(parser.parse_model(SIZES), until=[name])


def test_an_input_is_kept_anyhow_and_ends_nothing() -> None:
    net = load(parser.parse_model(SIZES))
    assert list(fold(net, keep="x").net.inputs) == ["x"]
    with pytest.raises(UsageError, match=r"model\.onnx: --until x: that is an input"):
        load(parser.parse_model(SIZES), until=["x"])


def test_until_keeps_the_shapes_that_it_needs_open_sizes_and_what_it_cannot_type() -> None:
    before = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[N,2,3] x, float[2,2,3] z) => (float[N,3] u) <int64[1] zero = {0}, int64[1] rest = {-1}>
        {
            r = Relu (z)
            s = Shape (r)
            n = Gather (s, zero)
            to = Concat <axis: int = 0> (n, rest)
            y = Reshape (x, to)
            w = own.Some (y)
            u = Neg (w)
            v = Abs (x)
        }
    """)
    after = saved(net_of(before, until=("y",)))
    assert types(after) == ["Relu", "Shape", "Gather", "Concat", "Reshape"]
    onnx.checker.check_model(after, full_check=True)
    output = saved(net_of(before, until=("v",), batch=2)).graph.output[0]
    assert not output.type.tensor_type.shape.dim[0].HasField("dim_value")
    assert not saved(net_of(before, until=("w",))).graph.output[0].HasField("type")


@pytest.mark.parametrize("is_outside", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [("INT4", 4), ("UINT4", 4), ("COMPLEX64", 64)])
def test_constants_of_types_that_nothing_here_computes_with_stay_what_they_are(
    kind: str, bits: int, is_outside: bool, tmp_path: Path
) -> None:
    before, count = conv_bn(), 1 << 14
    odd = TensorProto(name="odd", data_type=TensorProto.DataType.Value(kind), dims=[count])
    odd.raw_data = np.random.default_rng(0).bytes(count * bits // 8)
    before.graph.initializer.append(odd)
    before.graph.node.append(helper.make_node("Identity", ["odd"], ["same"]))
    before.graph.output.append(helper.make_tensor_value_info("same", odd.data_type, [count]))
    onnx.save(before, tmp_path / "net.onnx", save_as_external_data=is_outside)
    save_onnx(fold(load(tmp_path / "net.onnx")).net, tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    assert types(after) == ["Conv", "Identity"]
    (kept,) = (tensor for tensor in after.graph.initializer if tensor.name == "odd")
    assert (kept.data_type, kept.dims, kept.raw_data) == (odd.data_type, odd.dims, odd.raw_data)


def test_a_batch_is_given_to_what_is_fed_but_to_no_weight_and_to_no_single_number() -> None:
    before = parser.parse_model("""
        <ir_version: 3, opset_import: ["" : 8]>
        net (float[N,2,3,3] x, float s, float[4,2,1,1] w) => (float[N,4,3,3] z) { y = Conv (x, w) z = Mul (y, s) }
    """)
    weight = np.array([2, -1, 3, 0.5, -4, 1, 5, -3], np.float32).reshape(4, 2, 1, 1)
    before.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    net = net_of(before, batch=3)
    assert net.inputs == {"x": (3, 2, 3, 3), "s": ()}
    after = {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim] for port in saved(net).graph.input}
    assert after == {"x": [0, 2, 3, 3], "s": [], "w": [4, 2, 1, 1]}
    assert compare(net, fold(net).net).passed


def test_open_sizes_are_given_by_name_and_an_unknown_name_is_a_sentence() -> None:
    before = conv_bn(CONV_BN.replace("[1,2,5,5]", "[N,2,H,W]").replace("[1,3,3,3]", "[N,3,A,B]"))
    assert types(folded(before)) == ["Conv"]
    assert net_of(before, input_shapes={"x": (4, 2, 9, 9)}).inputs == {"x": (4, 2, 9, 9)}
    with pytest.raises(
        UsageError, match=r"--input-shape data: the network has no input of that name \(there is 'x'\)$"
    ):
        net_of(before, input_shapes={"data": (1, 2, 3, 3)})


@pytest.mark.parametrize("given", [{"batch": 4}, {"input_shapes": {"x": (1, 2, 9, 9)}}])
def test_other_sizes_than_those_of_the_model_are_refused_before_it_is_proved(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    onnx.save(conv_bn(), tmp_path / "net.onnx")
    job = Job(Reading(tmp_path / "net.onnx", None, ReadOptions(**given)), Writing((tmp_path / "out.onnx",)))
    with pytest.raises(UsageError, match=r"net.onnx: input 'x' is 1x2x5x5 there, and stays so in what is written"):
        fold_files(job)


def test_sizes_are_given_to_models_that_are_compared(tmp_path: Path) -> None:
    before = conv_bn(
        CONV_BN.replace("float[1,2,5,5] x", "float[1,2,h,w] x").replace("float[1,3,3,3] y", "float[1,3,a,b] y")
    )
    (tmp_path / "a.onnx").write_bytes(before.SerializeToString())
    (tmp_path / "b.onnx").write_bytes(folded(before).SerializeToString())
    one, other = (str(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    given = compare(one, other, input_shapes={"x": (1, 2, 5, 6)})
    assert (given.passed, given.notes) == (True, ())
    with pytest.raises(UsageError, match=r"--input-shape y: the network has no input of that name \(there is 'x'\)$"):
        compare(one, other, input_shapes={"y": (1, 2, 5, 6)})


def test_an_input_that_is_declared_without_a_shape_is_no_scalar(tmp_path: Path) -> None:
    before = conv_bn()
    before.graph.input[0].type.tensor_type.ClearField("shape")
    after = folded(before)
    with pytest.raises(UsageError, match=r"'x' is declared without a shape; noise needs .* --input-shape"):
        compare(before, after)
    images = np.random.default_rng(0).normal(size=(6, 2, 5, 5)).astype(np.float32)
    for one, other in ((before, after), (conv_bn(), after), (before, folded(conv_bn()))):
        report = compare(one, other, images)
        assert (report.passed, len(report.samples)) == (True, 6), report.verdict
    onnx.save(before, tmp_path / "a.onnx")
    onnx.save(after, tmp_path / "b.onnx")
    assert compare(tmp_path / "a.onnx", tmp_path / "b.onnx", input_shapes={"x": (1, 2, 7, 6)}).passed


def test_options_of_caffe_are_refused_with_a_sentence(tmp_path: Path) -> None:
    onnx.save(conv_bn(), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="--level: these options are for Caffe files"):
        load(tmp_path / "net.onnx", level=1)
    with pytest.raises(UsageError, match="--opset: only a Caffe network becomes ONNX with these options"):
        save_onnx(load(tmp_path / "net.onnx"), tmp_path / "out.onnx", opset=13)


# Files beside the model.


@pytest.mark.parametrize("target", ["out.onnx", "out.onnx.data"])
def test_a_model_that_stays_keeps_its_weights(tmp_path: Path, target: str) -> None:
    path = external(tmp_path, "out.onnx.data")
    weights = path.with_name("weights.bin").rename(tmp_path / "out.onnx.data")
    before = weights.read_bytes()
    net = fold(load(path)).net
    with pytest.raises(UsageError, match=rf"out\.onnx\.data: holds the weights of .*{path.name}, .* another name"):
        save_onnx(net, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == sorted([path, weights])
    assert weights.read_bytes() == before
    path = path.rename(tmp_path / "out.onnx")
    save_onnx(fold(load(path)).net, path)
    assert compare(net, path).passed


def test_a_model_in_memory_takes_no_weights_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = external(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.bin").write_bytes(path.with_name("weights.bin").read_bytes()[::-1])  # of another model
    monkeypatch.chdir(other)
    message = onnx.load(path, load_external_data=False)
    with path.open("rb") as stream:
        for model in (message, message.SerializeToString(), stream):
            with pytest.raises(WeightsError, match="a model in memory lies in no folder; give its path, or load them"):
                load(model)
    with pytest.raises(WeightsError, match="a model in memory lies in no folder; give its path, or load them"):
        compare(path, message)
    assert compare(path, onnx.load(path)).passed


def external(tmp_path: Path, location: str = "weights.bin", **place: str) -> Path:
    proto = conv_bn()
    raw = b"\0" * 16
    for tensor in proto.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        said = {"location": location, "offset": str(len(raw)), "length": str(len(data)), **place}
        for key, value in said.items():
            tensor.external_data.add(key=key, value=value)
        raw += data
    (tmp_path / "weights.bin").write_bytes(raw)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "net.onnx"


def test_weights_beside_a_model_are_mapped_and_written_beside_the_new_one(tmp_path: Path) -> None:
    path = external(tmp_path)
    save_onnx(fold(load(path)).net, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    after = onnx.load(tmp_path / "out.onnx")
    assert types(after) == ["Conv"]
    require_same(conv_bn(), after)


def test_weights_go_beside_the_model_where_that_is_asked_for(tmp_path: Path) -> None:
    proto = conv_bn(large=values(300))
    proto.graph.node.append(helper.make_node("Add", ["large", "large"], ["more"]))
    proto.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [300]))
    save_onnx(net_of(proto), tmp_path / "out.onnx", external_data=True)
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    inside = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    assert {t.name for t in inside.graph.initializer if t.data_location == TensorProto.EXTERNAL} == {"large"}
    require_same(proto, onnx.load(tmp_path / "out.onnx"))


def test_weights_go_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "out.onnx").symlink_to("inner/model.onnx")
    save_onnx(net_of(conv_bn(large=values(300))), tmp_path / "out.onnx", external_data=True)
    assert sorted(path.name for path in (tmp_path / "inner").iterdir()) == ["model.onnx", "out.onnx.data"]
    assert compare(net_of(conv_bn(large=values(300))), tmp_path / "out.onnx").passed


def test_weights_beside_a_model_are_compared_wherever_in_its_folder_they_are_said_to_lie(tmp_path: Path) -> None:
    path = external(tmp_path, f"../{tmp_path.name}/weights.bin")
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        del tensor.external_data[2]  # the length
    path.write_bytes(proto.SerializeToString())
    save_onnx(fold(load(path)).net, tmp_path / "out.onnx")
    report = compare(path, tmp_path / "out.onnx", exact=True)
    assert report.passed
    assert report.ranges


def test_the_weights_that_a_model_has_beside_it_are_an_input_too(tmp_path: Path) -> None:
    (tmp_path / "out.onnx.data").write_bytes(external(tmp_path, "out.onnx.data").with_name("weights.bin").read_bytes())
    before = (tmp_path / "out.onnx.data").read_bytes()
    for in_place in (False, True):  # which would not help, so it is not offered
        with pytest.raises(
            UsageError, match=r"out\.onnx\.data: holds the weights of .*net\.onnx, .* give another name$"
        ):
            fold_files(Job(Reading(tmp_path / "net.onnx"), Writing((tmp_path / "out.onnx",), in_place=in_place)))
    with pytest.raises(UsageError, match=r"out\.onnx\.data: is an input of this run"):
        require_paths([tmp_path / "net.onnx"], reports=[tmp_path / "out.onnx.data"])
    assert (tmp_path / "out.onnx.data").read_bytes() == before
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_name_that_no_model_can_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names its weights' file in UTF-8"):
        save_onnx(net_of(conv_bn()), tmp_path / "out\udcff.onnx", external_data=True)


@pytest.mark.parametrize(
    ("location", "place", "sentence"),
    [
        ("../weights.bin", {}, "which is not a file in the folder of the model; put it there"),
        ("/etc/passwd", {}, "which is not a file in the folder of the model; put it there"),
        ("a\0b", {}, "which is not a file in the folder of the model; put it there"),
        ("", {}, "which is not a file in the folder of the model; put it there"),
        ("nothing.bin", {}, "lies in a file of its own: .*: cannot be read: .*; copy that beside the model"),
        ("weights.bin", {"offset": "999999"}, "lies at byte 999999"),
        ("weights.bin", {"offset": "-4"}, "lies at byte -4 of 'weights.bin', which no file has; write the model anew"),
        (
            "weights.bin",
            {"length": "3"},
            "has 3 bytes outside, and its shape and type need [0-9]+; write the model anew",
        ),
        ("weights.bin", {"offset": "many"}, "no number; write the model anew"),
    ],
)
def test_external_data_that_is_not_where_it_is_said_to_be_is_a_sentence(
    tmp_path: Path, location: str, place: dict[str, str], sentence: str
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4096)
    path = external(tmp_path / "inner", location, **place)
    with pytest.raises(WeightsError, match=sentence):
        load(path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = external(tmp_path / "inner", "link.bin")
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    (tmp_path / "inner" / "link.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="which is not a file in the folder"):
        load(path)


# Models that are none.


def test_what_is_no_graph_is_a_sentence() -> None:
    proto = conv_bn()
    proto.graph.node[0].input[0] = "y"
    with pytest.raises(ModelError, match="nodes wait for each other in a circle"):
        net_of(proto)
    proto.graph.node[0].input[0] = "nobody"
    with pytest.raises(ModelError, match="reads 'nobody', which nothing makes"):
        net_of(proto)
    proto = conv_bn()
    proto.graph.node[1].output[0] = "c"
    with pytest.raises(ModelError, match=r"makes 'c', which is there already; rename one$"):
        net_of(proto)
    proto = conv_bn()
    proto.graph.output[0].name = "other"
    with pytest.raises(ModelError, match="nothing makes its output 'other'; take it out"):
        net_of(proto)
    proto = conv_bn()
    del proto.opset_import[:]
    with pytest.raises(ParseError, match="does not say which version"):
        net_of(proto)
    for data, said in (
        (b"", "is empty"),
        (b"\x08\x08", "is not an ONNX model, or one without any node"),
        (b"PK\x03\x04junk", "is an archive and not a model in ONNX"),
        (
            conv_bn().SerializeToString()[:-7],
            "is not an ONNX model, or is damaged or cut short: .*; copy or export it again",
        ),
    ):
        with pytest.raises(ParseError, match=f"^model.onnx: {said}"):
            load_bytes(data)


def test_attributes_outside_of_the_model_are_a_sentence() -> None:
    proto = conv_bn()
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(values(3)))
    constant.attribute[0].t.data_location = TensorProto.EXTERNAL
    proto.graph.node.insert(0, constant)
    with pytest.raises(UnsupportedError, match="keeps values of an attribute outside"):
        net_of(proto)


def test_odd_names_are_names() -> None:
    proto = conv_bn(CONV_BN)
    for old, new in {"c": "a/b c\n", "y": "y\x1b[31m", "w": "w/" * 200, "x": "🙂"}.items():
        for names in [node.input for node in proto.graph.node] + [node.output for node in proto.graph.node]:
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
        ports: list[Any] = [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]
        for port in ports:
            port.name = new if port.name == old else port.name
    after = folded(proto)
    assert types(after) == ["Conv"]
    assert "w/" * 200 in stored(after)


def test_a_chain_of_identities_has_no_depth() -> None:
    proto = conv_bn()
    names = ["gamma", *(f"g{number}" for number in range(3000))]
    chain = [helper.make_node("Identity", [a], [b]) for a, b in pairwise(names)]
    proto.graph.node[1].input[1] = names[-1]
    nodes = [*chain, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert types(folded(proto)) == ["Conv"]


def test_a_sparse_weight_is_read_and_written_out_where_it_changes() -> None:
    dense = values(3, 2, 3, 3)
    dense.reshape(-1)[5:] = 0
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(dense.reshape(-1)[:5].copy(), "w"), numpy_helper.from_array(np.arange(5)), [3, 2, 3, 3]
    )
    before = model(CONV_BN, **statistics())
    before.graph.sparse_initializer.append(sparse)
    net = net_of(before)
    assert saved(net) == before
    after = saved(fold(net).net)
    assert types(after) == ["Conv"]
    assert not after.graph.sparse_initializer
    require_same(model(CONV_BN, w=dense, **statistics()), after)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_with_a_sparse_weight_is_compared(dtype: type) -> None:
    word = "double" if dtype is np.float64 else "float"
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net ({word}[1,2,5,5] x) => ({word}[1,2,5,5] y)
    {{
        m = Mul (k, x)
        r = Relu (m)
        y = Conv (r, w)
    }}
    """
    proto = model(text, w=values(2, 2, 1, 1, dtype=dtype))
    kept = numpy_helper.from_array(np.array([0.5], dtype), "k")
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(kept, numpy_helper.from_array(np.array([1])), [2, 1, 1])
    )
    after = folded(proto)
    assert types(after) == ["Relu", "Conv"]
    assert compare(proto, after).passed


def test_a_model_that_passes_two_gigabytes_gets_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.onnx.write.MAX_MESSAGE", 300)
    save_onnx(fold(net_of(conv_bn())).net, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    with pytest.raises(UsageError, match="passes 2 GiB"):
        save_onnx(net_of(conv_bn()), BytesIO())


def test_kept_records_name_what_stands_in_the_way() -> None:
    proto = conv_bn(
        CONV_BN.replace("c = Conv (x, w)", "c = Conv (x, v)").replace(
            "float[1,2,5,5] x", "float[1,2,5,5] x, float[3,2,3,3] v"
        )
    )
    assert "its weight 'v' is an input of the network" in reasons(proto)[0]
    assert all(isinstance(record, Kept) for record in fold(net_of(proto)).report.records)


def test_an_image_that_is_smaller_than_a_kernel_is_no_end_of_the_process() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[n,2,h,w] x) => (float[n,c,d,e] z)
    <int64[1] start = {1}, int64[1] end = {-1}, int64[1] axis = {2}>
    {
        c = Conv (x, k)
        p = Slice (c, start, end, axis)
        z = Mul (p, s)
    }
    """
    script = (
        "import sys; from bnfold.onnx.read import load_bytes; from bnfold.options import ReadOptions; import bnfold; "
        "net = load_bytes(sys.stdin.buffer.read(), ReadOptions(input_shapes={'x': (1, 2, 3, 3)})); "
        "print(len(bnfold.fold(net).report.kept))"
    )
    before = model(text, k=values(4, 2, 6, 6), s=values(4, 1, 1))
    assert in_a_process(script, before) == b"0"
    assert types(folded(before)) == ["Conv", "Slice"]


def in_a_process(script: str, proto: ModelProto) -> bytes:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=proto.SerializeToString(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("declared", ["x", "s"])
def test_a_slice_of_a_size_that_is_declared_as_below_0_is_no_end_of_the_process(declared: str) -> None:
    before = model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[1,2,5,5] x) => (float[n,c,d,e] z)
        <float[1,2,5,5] s, int64[1] start = {0}, int64[1] end = {1}, int64[1] axis = {0}>
        {
            s = Sigmoid (x)
            p = Slice (s, start, end, axis)
            c = Conv (p, w)
            z = Mul (c, k)
        }
        """,
        w=values(3, 2, 3, 3),
        k=values(3, 1, 1),
    )
    if declared == "x":
        del before.graph.value_info[:]
    port = before.graph.input[0] if declared == "x" else before.graph.value_info[0]
    port.type.tensor_type.shape.dim[0].dim_value = -1
    script = (
        "import sys; from bnfold.onnx.read import load_bytes; import bnfold; "
        "print(len(bnfold.fold(load_bytes(sys.stdin.buffer.read())).report.folded))"
    )
    assert in_a_process(script, before) == b"1"


@pytest.mark.parametrize(
    ("size", "nodes"),
    [
        (4, "s, i = TopK <axis = 0> (x, below) p = Slice (s, start, end, axis)"),
        (4, "s, t = Split <axis = 0> (x, both) p = Slice (s, start, end, axis)"),
        (-1, "s = Relu (x) p = own.First (s)"),
        (4, "s = Relu (x) p = own.FirstOfTop (s)"),
    ],
    ids=["TopK", "Split", "declared before a function", "found in a function"],
)
def test_a_size_below_0_is_no_end_of_the_process_wherever_it_comes_from(size: int, nodes: str) -> None:
    text = f"""
    <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    net (float[{size},2] x) => (float[n,m] z)
    <int64[1] start = {{0}}, int64[1] end = {{1}}, int64[1] axis = {{0}},
     int64[1] below = {{-3}}, int64[2] both = {{-1, 5}}>
    {{ {nodes} z = Tanh (p) }}
    <domain: "own", opset_import: ["" : 17]>
    First (s) => (p)
    {{ start = Constant <value_ints = [0]> () end = Constant <value_ints = [1]> () p = Slice (s, start, end, start) }}
    <domain: "own", opset_import: ["" : 17]>
    FirstOfTop (s) => (p)
    {{ start = Constant <value_ints = [0]> () end = Constant <value_ints = [1]> ()
       below = Constant <value_ints = [-3]> () t, i = TopK <axis = 0> (s, below) p = Slice (t, start, end, start) }}
    """
    script = "import sys; from bnfold.onnx.read import load_bytes; print(load_bytes(sys.stdin.buffer.read()))"
    assert in_a_process(script, parser.parse_model(text))


@pytest.mark.parametrize(("scale", "folds"), [([2.0, 0.5, 3.0], True), ([2.0, -0.5, 3.0], False)])
def test_a_positive_scale_alone_passes_a_pooling_of_regions(scale: list[float], folds: bool) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[2, 2, 5, 6] x, float[3, 5] r) => (float[3, 3, 2, 2] y)
    {
        c = Conv (x, weight)
        p = MaxRoiPool <pooled_shape = [2, 2]> (c, r)
        y = Mul (p, scale)
    }
    """
    proto = model(text, weight=values(3, 2, 1, 1), scale=np.array(scale, np.float32).reshape(3, 1, 1))
    regions = np.array([[1, 0, 1, 4, 3], [0, 2, 2, 9, 9], [1, 40, 40, 50, 50]], np.float32)
    feeds = {"x": values(2, 2, 5, 6), "r": regions}
    assert types(folded(proto)) == ["Conv", "MaxRoiPool"] + ([] if folds else ["Mul"])
    np.testing.assert_allclose(run(folded(proto), feeds)["y"], run(proto, feeds)["y"], rtol=1e-5)
    in_front = model(
        text.replace("(x, weight)", "(x, scaled)").replace("Mul (p, scale)", "Identity (p)"),
        scaled=stored(proto)["weight"] * np.array(scale, np.float32).reshape(3, 1, 1, 1),
    )
    assert (error(run(in_front, feeds)["y"], run(proto, feeds)["y"]) < 1e-5) == folds


def test_sizes_that_contradict_each_other_are_kept_with_a_reason() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float x) => (float y)
    {
        t = Transpose <perm = [0, 4611686018427387904]> (x)
        b = BatchNormalization (t, gamma, beta, mean, variance)
        y = BatchNormalization (b, scale, scale, scale, positive)
    }
    """
    proto = model(text, **statistics(3), scale=values(4), positive=np.abs(values(4)))
    assert folded(proto) == proto
    assert "have different numbers of channels" in " ".join(reasons(proto))


def test_affines_that_all_want_to_move_far_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 400
    names = ["x", *(f"t{number}" for number in range(count))]
    op_types = [("Mul", ["s"]) if number % 2 == 0 else ("Relu", []) for number in range(count)]
    nodes = [
        helper.make_node(op_type, [a, *more], [b])
        for (op_type, more), (a, b) in zip(op_types, pairwise(names), strict=True)
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", names[-1])]
    graph = helper.make_graph(
        nodes, "far", ports[:1], ports[1:], [numpy_helper.from_array(np.array([0.9], np.float32), "s")]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    monkeypatch.setattr("bnfold.algebra.plan.Budget.__init__", lambda self, _: setattr(self, "left", 100))
    assert any("too far from linear layers to be moved" in reason for reason in reasons(proto))


def test_a_pool_that_skips_pixels_of_a_padded_plane_keeps_the_indices_that_onnxruntime_needs_to_run_it() -> None:
    before = model(
        """<ir_version: 8, opset_import: ["" : 12]> g (float[1,3,6,6] x) => (float[1,3,3,3] y) {
            c = Conv (x, w)
            p, unread = MaxPool <kernel_shape = [1, 3], strides = [2, 2], auto_pad = "SAME_UPPER"> (c)
            y = Mul (p, s)
        }""",
        w=values(3, 3, 1, 1),
        s=np.abs(values(3, 1, 1)),
    )
    after = folded(before)
    assert types(after) == ["Conv", "MaxPool"]
    feeds = {"x": values(1, 3, 6, 6)}
    assert error(run(after, feeds, ["y"])["y"], run(before, feeds, ["y"])["y"]) < 1e-6


def test_what_a_node_says_of_its_values_on_several_devices_calls_them_by_their_names_of_now() -> None:
    """The convolution gives y by now, and its weight, which another one reads, has a name of its own."""
    before = conv_bn(CONV_BN.replace("=> (", "=> (float[1,3,3,3] z, ").replace("y = B", "z = Conv (x, w) y = B"))
    said = before.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    for name in ("x", "w", "c", "elsewhere"):
        said.sharding_spec.add(tensor_name=name, device=[0, 1])
    node = folded(before).graph.node[0]
    (kept,) = node.device_configurations
    assert [spec.tensor_name for spec in kept.sharding_spec] == ["x", node.input[1], "y", "elsewhere"]
    assert node.input[1] != "w"
    for spec, old in zip(kept.sharding_spec, said.sharding_spec, strict=True):
        spec.tensor_name = old.tensor_name
    assert kept == said
