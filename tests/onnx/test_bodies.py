"""Bodies of If, Loop and Scan: each is folded as a network of its own, and proved as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, run
from onnx_texts import folded, model, net_of, reasons, saved, statistics, stored, types, values

import bnfold
from bnfold.onnx.bodies import _put
from bnfold.pipeline import Folding, Job, Reading, Writing
from bnfold.pipeline import run as fold_files

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g'
pytestmark = pytest.mark.usefixtures("in_one_process")

NORM = "BatchNormalization (%s, gamma, beta, mean, variance)"
BRANCHES = f"""{HEAD} (float[2,3,6,6] x, bool s) => (float[2,3,4,4] y, float[2,3,4,4] z)
    {{ e = Relu (x)  z = Conv (x, w)
       y = If (s) <
           then_branch = t () => (float[2,3,4,4] a) {{ c = Conv (e, w) a = {NORM % "c"} }},
           else_branch = o () => (float[2,3,4,4] b) {{ d = Conv (x, u) f = Mul (d, k) q = Relu (f) b = Sigmoid (q) }}
       > }}"""
LOOP = f"""{HEAD} (float[2,3,6,6] x, int64 m, bool s) => (float[2,3,6,6] y)
    {{ y = Loop (m, s, x) <body = t (int64 i, bool q, float[2,3,6,6] v) => (bool p, float[2,3,6,6] a)
           {{ p = Not (s) c = Conv <pads = [1, 1, 1, 1]> (v, w) n = {NORM % "c"} a = Tanh (n) }}> }}"""
SCAN = f"""{HEAD} (float[5,2,3,6,6] x) => (float[5,2,3,4,4] y)
    {{ y = Scan <num_scan_inputs = 1, body = t (float[2,3,6,6] v) => (float[2,3,4,4] a)
           {{ c = Conv (v, w) a = {NORM % "c"} }}> (x) }}"""
NESTED = LOOP.replace(
    f"n = {NORM % 'c'}",
    f"""n = If (q) <
    then_branch = t2 () => (float[2,3,6,6] o) {{ c2 = Conv <pads = [1, 1, 1, 1]> (c, u) o = {NORM % "c2"} }},
    else_branch = e2 () => (float[2,3,6,6] r) {{ r = Mul (c, k) }}>""",
)
X = values(2, 3, 6, 6, seed=5)
FEEDS: dict[str, list[dict[str, Array]]] = {
    BRANCHES: [{"x": X, "s": np.array(True)}, {"x": X, "s": np.array(False)}],
    LOOP: [{"x": X, "m": np.array(3), "s": np.array(True)}],
    NESTED: [{"x": X, "m": np.array(2), "s": np.array(True)}, {"x": X, "m": np.array(2), "s": np.array(False)}],
    SCAN: [{"x": values(5, 2, 3, 6, 6, seed=6)}],
}


def made(text: str) -> ModelProto:
    weights = {"w": values(3, 3, 3, 3) / 3, "u": values(3, 3, 3, 3, seed=4) / 3}
    return model(text, **weights, k=values(3, 1, 1, seed=7), **statistics())


def bodies(proto: ModelProto) -> dict[str, GraphProto]:
    return {said.name: said.g for node in proto.graph.node for said in node.attribute if said.HasField("g")}


def inner_types(proto: ModelProto) -> dict[str, list[str]]:
    return {name: [node.op_type for node in body.node] for name, body in bodies(proto).items()}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (BRANCHES, {"then_branch": ["Conv"], "else_branch": ["Conv", "Mul", "Relu", "Sigmoid"]}),
        (BRANCHES.replace("Mul (d, k)", "Mul (k, d)").replace("Relu (f)", "Elu (f)"), None),
        (LOOP, {"body": ["Not", "Conv", "Tanh"]}),
        (NESTED, {"body": ["Not", "Conv", "If", "Tanh"]}),
        (SCAN, {"body": ["Conv"]}),
    ],
)
def test_what_stands_in_a_body_folds_into_a_convolution_there(text: str, left: dict[str, list[str]] | None) -> None:
    before = made(text)
    after = folded(before)
    onnx.checker.check_model(after, full_check=True)
    left = left or {"then_branch": ["Conv"], "else_branch": ["Conv", "Elu", "Sigmoid"]}
    assert inner_types(after) == {**left, **({"else_branch": ["Conv", "Relu", "Sigmoid"]} if text is BRANCHES else {})}
    assert folded(after) == after
    for feeds in FEEDS.get(text, FEEDS[BRANCHES]):
        wanted = run(before, feeds)
        for found in (run(after, feeds), dict(zip(wanted, ReferenceEvaluator(after).run(None, feeds), strict=True))):
            for name, values_found in found.items():
                np.testing.assert_allclose(values_found, wanted[name], rtol=1e-4, atol=1e-5)


def test_bodies_in_bodies_fold() -> None:
    (node,) = [node for node in bodies(folded(made(NESTED)))["body"].node if node.op_type == "If"]
    assert {one.name: [inner.op_type for inner in one.g.node] for one in node.attribute} == {
        "then_branch": ["Conv"],
        "else_branch": ["Mul"],
    }


def test_a_weight_that_others_read_stays_and_the_body_has_its_own() -> None:
    before = made(BRANCHES)
    after = folded(before)
    np.testing.assert_array_equal(stored(after)["w"], stored(before)["w"])
    (own,) = [one for one in bodies(after)["then_branch"].initializer if one.dims == [3, 3, 3, 3]]
    assert np.abs(numpy_helper.to_array(own) - stored(before)["w"]).max() > 0.1
    assert "u" not in stored(after)  # nobody else read it
    assert len({one.name for body in bodies(after).values() for one in body.initializer} | stored(after).keys()) == 4


def test_a_large_weight_that_others_read_is_not_stored_twice() -> None:
    before = made(BRANCHES)
    with mock.patch("bnfold.onnx.bodies.MAX_COPIED", 100):
        after = folded(before)
        assert [reason for reason in reasons(before) if "'w' is an input of the body" in reason]
    assert inner_types(after)["then_branch"] == ["Conv", "BatchNormalization"]
    assert inner_types(after)["else_branch"] == inner_types(folded(before))["else_branch"]


def test_new_names_in_a_body_are_nobodys_around_it() -> None:
    """A name may stand for one value alone, be it in a body or around it."""
    text = BRANCHES.replace("z = Conv (x, w)", "r = Neg (x) z = Conv (r, w)")
    before = made(text)
    for node in before.graph.node:
        node.output[:] = ["w/c" if name == "r" else name for name in node.output]
        node.input[:] = ["w/c" if name == "r" else name for name in node.input]
    after = folded(before)
    onnx.checker.check_model(after, full_check=True)
    names = [one.name for body in bodies(after).values() for one in body.initializer]
    assert "w/c" not in names
    for feeds in FEEDS[BRANCHES]:
        np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-4, atol=1e-5)


def unsized(text: str) -> ModelProto:
    """A model whose bodies say no shape of what they read, as TensorFlow's exporter leaves them."""
    proto = made(text)
    for body in bodies(proto).values():
        for port in body.input[2 if text != SCAN else 0 :]:  # onnxruntime wants a shape of what a Loop counts
            port.type.tensor_type.ClearField("shape")
    return proto


SHRINKING = (
    LOOP.replace(" <pads = [1, 1, 1, 1]>", "")
    .replace("float[2,3,6,6] a", "float[2,3,h,w2] a")
    .replace("=> (float[2,3,6,6] y)", "=> (float[2,3,h,v2] y)")
)
OPEN = LOOP.replace("[2,3,6,6]", "[n,3,h,w2]")
FEEDS |= {SHRINKING: [{"x": X, "m": np.array(2), "s": np.array(True)}], OPEN: FEEDS[LOOP]}


@pytest.mark.parametrize("text", [LOOP, SHRINKING, OPEN, SCAN])
def test_a_body_that_says_no_shapes_has_those_that_it_is_given(text: str) -> None:
    before = unsized(text)
    after = folded(before)
    assert inner_types(after) == {"body": ["Conv"] if text is SCAN else ["Not", "Conv", "Tanh"]}
    assert bodies(after)["body"].input == bodies(before)["body"].input
    assert folded(after) == after
    for feeds in FEEDS[text]:
        np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-4, atol=1e-5)
    assert bnfold.compare(before, after, FEEDS[text][0]).passed
    assert not bnfold.compare(before, changed(after, one_channel, "body", 4), FEEDS[text][0]).passed


def test_what_a_turn_may_enlarge_is_no_size_that_is_known() -> None:
    """The first turn reads one row, and the next ones two and three, over which the Mul has one number for each."""
    text = f"""{HEAD} (float[1,3] x, int64 m, bool s) => (float[r,3] y)
        {{ y = Loop (m, s, x) <body = t (int64 i, bool q, float[1,3] v) => (bool p, float[r2,3] a)
               {{ p = Not (s) e = Concat <axis = 0> (v, v) f = MatMul (e, w) a = Mul (f, k) }}> }}"""
    before = model(text, w=values(3, 3), k=values(2, 1, seed=7))
    bodies(before)["body"].input[2].type.tensor_type.ClearField("shape")
    assert "of which the model leaves the size open" in reasons(before)[0]
    assert folded(before) == before


def test_a_body_of_unknown_sizes_stays_and_is_told() -> None:
    text = LOOP.replace("v) => (bool p", "v) => (bool p").replace("a = Tanh (n)", "o = Mul (k, n) a = Unsqueeze (o, z)")
    text = text.replace("p = Not (s)", "p = Not (s) z = Constant <value_ints = [0]> ()").replace(
        "float[2,3,6,6] a", "float[] a"
    )
    before = made(text.replace("=> (float[2,3,6,6] y)", "=> (float[] y)"))
    for port in (bodies(before)["body"].input[2], bodies(before)["body"].output[1]):
        port.type.tensor_type.ClearField("shape")
    before.graph.output[0].type.tensor_type.ClearField("shape")
    (note,) = bnfold.fold(net_of(before)).report.notes
    why = "the shape of 'v' may change from turn to turn"
    assert note == f"2 affines in body of layer 'y' (Loop): nothing is folded there, since {why}"
    assert folded(before) == before


def test_what_a_body_captures_without_a_shape_is_told() -> None:
    text = (
        BRANCHES.replace("e = Relu (x)", "e = Odd (x)")
        .replace('"" : 17', '"" : 17, "odd" : 1')
        .replace("Odd", "odd.Odd")
    )
    before = made(text)
    (note,) = bnfold.fold(net_of(before)).report.notes
    assert note.endswith("nothing is folded there, since the shape or type of 'e' is unknown")
    assert note.startswith("1 affine in then_branch")


def test_layers_and_blobs_in_bodies_are_excluded_and_kept_by_their_names() -> None:
    before = made(BRANCHES)
    then, other = (body.node for body in bodies(before).values())
    then[1].name, other[1].name = "norm", "factor"
    whole = inner_types(folded(before))
    kept = {"then_branch": ["Conv", "BatchNormalization"]}
    for asked in ({"exclude": "norm"}, {"exclude": "nor*"}, {"keep": "c"}, {"keep": ["c", "z"]}):
        assert inner_types(bnfold.to_onnx(bnfold.fold(net_of(before), **asked).net)) == whole | kept
    with pytest.raises(bnfold.UsageError, match="--exclude norn: the network has no layer of that name"):
        bnfold.fold(net_of(before), exclude="norn")
    with pytest.raises(bnfold.UsageError, match="--keep nix: the network has no blob of that name"):
        bnfold.fold(net_of(before), keep=["c", "nix"])


def test_statistics_that_a_user_vouches_for_are_taken_in_bodies_too(tmp_path: Path) -> None:
    before = made(BRANCHES)
    bodies(before)["then_branch"].node[1].attribute.append(helper.make_attribute("training_mode", 1))
    onnx.save(before, tmp_path / "net.onnx")
    assert "--assume-global-stats folds it" in reasons(before)[0]
    writing, folding = Writing((tmp_path / "out.onnx",)), Folding(assume_global_stats=True)
    report = fold_files(Job(Reading(tmp_path / "net.onnx"), writing, folding=folding))
    assert report.passed
    assert [gate.name for gate in report.proofs[0].gates].count("body") == 2
    assert inner_types(onnx.load(tmp_path / "out.onnx"))["then_branch"] == ["Conv"]
    assert report.fold is not None
    (said,) = report.fold.notes
    assert said.startswith(
        "then_branch of layer 'y' (If): layer 'a' (BatchNormalization): taken by its stored statistics"
    )


def test_a_layer_that_is_excluded_keeps_its_bodies() -> None:
    before = made(LOOP)
    assert saved(bnfold.fold(net_of(before), exclude="y").net) == before


def test_a_body_in_which_nothing_folds_is_written_as_it_was() -> None:
    text = BRANCHES.replace("Conv (e, w)", "Sigmoid (z)").replace("f = Mul (d, k)", "i = Identity (d) f = Abs (i)")
    before = made(text)
    assert folded(before) == before
    assert any("backward" in reason for reason in reasons(before))


# The proof.


def changed(proto: ModelProto, edit: Callable[[Array], Array], body: str, rank: int) -> ModelProto:
    """A model of which a body has other values in its tensors of a rank."""
    other = ModelProto.FromString(proto.SerializeToString())
    for tensor in bodies(other)[body].initializer:
        if len(tensor.dims) == rank:
            tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor)), tensor.name))
    return other


def one_channel(held: Array) -> Array:
    factors = np.array([1, 1.01, 1], np.float32).reshape(-1, *[1] * (held.ndim - 1))
    return np.asarray(held * factors)


@pytest.mark.parametrize("body", ["then_branch", "else_branch"])
@pytest.mark.parametrize("branch", [True, False])
@pytest.mark.parametrize(
    ("edit", "rank"),
    [(one_channel, 4), (lambda held: held[[1, 0, 2]], 4), (lambda held: held * 0, 1), (one_channel, 1)],
    ids=["one percent in one channel", "swapped channels", "no bias", "one percent of a bias"],
)
def test_a_wrong_body_fails_whatever_branch_the_data_takes(
    edit: Callable[[Array], Array], rank: int, branch: bool, body: str
) -> None:
    before = made(BRANCHES.replace("f = Mul (d, k)", f"f = {NORM % 'd'}").replace("b = Sigmoid (q)", "b = Neg (q)"))
    after = folded(before)
    data = {"x": X, "s": np.array(branch)}
    right = bnfold.compare(before, after, data)
    assert right.passed
    assert [gate.passed for gate in right.gates if gate.name == "body"] == [True, True]
    assert not any("not proved" in note for note in right.notes)
    wrong = bnfold.compare(before, changed(after, edit, body, rank), data)
    assert not wrong.passed
    assert [gate.sentence.split()[0] for gate in wrong.gates if gate.name == "body" and not gate.passed] == [body]


def other_around(proto: ModelProto, name: str, edit: Callable[[Array], Array]) -> ModelProto:
    """A model that stores other values under a name, outside of all bodies."""
    other = ModelProto.FromString(proto.SerializeToString())
    (tensor,) = (tensor for tensor in other.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor)), name))
    return other


@pytest.mark.parametrize("moved", [0, 3e-5], ids=["all else equal", "all else off by more than rounding"])
@pytest.mark.parametrize(
    "edit", [one_channel, lambda held: held[[1, 0, 2]], np.negative], ids=["one percent", "swapped", "sign"]
)
@pytest.mark.parametrize("name", ["u", "k"])
def test_a_branch_that_captures_other_weights_fails_though_it_is_not_taken(
    name: str, edit: Callable[[Array], Array], moved: float
) -> None:
    before = made(BRANCHES.replace("b = Sigmoid (q)", "b = Neg (q)"))
    near = other_around(before, "w", lambda held: np.asarray(held * np.float32(1 + moved)))
    data = {"x": X, "s": np.array(True)}
    assert bnfold.compare(before, near, data).passed
    report = bnfold.compare(before, other_around(near, name, edit), data)
    assert not report.passed
    assert [gate.sentence.split()[0] for gate in report.gates if not gate.passed] == ["else_branch"]


def test_a_large_weight_that_others_read_too_is_not_compared_by_a_body_itself() -> None:
    text = f"""{HEAD} (float[2,3] x, bool s) => (float[2,3] y, float[3,3] z)
        {{ z = Relu (v)
           y = If (s) <then_branch = t () => (float[2,3] a) {{ a = Neg (x) }},
                       else_branch = o () => (float[2,3] b) {{ b = MatMul (x, v) }}> }}"""
    before = model(text, v=values(3, 3))
    other = other_around(before, "v", lambda held: np.where(held < 0, held * 1.5, held))  # of which z shows nothing
    data = {"x": X[:, :, 0, 0], "s": np.array(True)}
    with mock.patch("bnfold.onnx.bodies.MAX_COPIED", 8):
        told = bnfold.compare(before, other, data)
        assert any("it reads 'v' from outside, which is another one there" in note for note in told.notes)
        assert not bnfold.compare(net_of(before), net_of(other), data).passed


def test_branches_that_changed_places_fail() -> None:
    before = made(BRANCHES.replace("b = Sigmoid (q)", "b = Neg (q)"))
    swapped = folded(before)
    node = swapped.graph.node[-1]
    one, other = (GraphProto.FromString(said.g.SerializeToString()) for said in node.attribute)
    node.attribute[0].g.CopyFrom(other)
    node.attribute[1].g.CopyFrom(one)
    assert not bnfold.compare(before, swapped, {"x": X * 0, "s": np.array(True)}).passed


def test_a_body_that_reads_another_value_is_not_compared_by_itself_and_does_not_pass_as_a_fold() -> None:
    before = made(BRANCHES)
    other = net_of(made(BRANCHES.replace("Conv (e, w)", "Conv (x, w)")))
    data = {"x": np.abs(X), "s": np.array(True)}
    report = bnfold.compare(net_of(before), other, data)
    assert not report.passed
    assert "it reads 'x' in the place of 'e'" in report.gates[-1].sentence
    told = bnfold.compare(before, bnfold.to_onnx(other), data)  # no fold of the other
    assert any("is not compared by itself" in note for note in told.notes)


def test_a_file_is_written_once_its_bodies_are_proved(tmp_path: Path) -> None:
    onnx.save(made(BRANCHES), tmp_path / "net.onnx")
    report = fold_files(Job(Reading(tmp_path / "net.onnx"), Writing((tmp_path / "out.onnx",))))
    assert report.passed
    assert [gate.name for gate in report.proofs[0].gates].count("body") == 2
    assert inner_types(onnx.load(tmp_path / "out.onnx"))["then_branch"] == ["Conv"]
    assert types(onnx.load(tmp_path / "out.onnx")) == ["Relu", "Conv", "If"]


def test_a_file_whose_body_is_wrong_is_not_written(tmp_path: Path) -> None:
    onnx.save(made(LOOP), tmp_path / "net.onnx")

    def wrongly(net: bnfold.Net, layer: bnfold.Layer, attribute: str, held: bnfold.Net) -> None:
        _put(net, layer, attribute, net_of(changed_in(saved(held))))

    def changed_in(proto: ModelProto) -> ModelProto:
        for tensor in proto.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(one_channel(numpy_helper.to_array(tensor)), tensor.name))
        return proto

    with mock.patch("bnfold.onnx.bodies._put", wrongly):
        report = fold_files(Job(Reading(tmp_path / "net.onnx"), Writing((tmp_path / "out.onnx",))))
    assert not report.passed
    assert not (tmp_path / "out.onnx").exists()
