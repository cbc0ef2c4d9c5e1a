"""A model's own functions: bodies that normalise are read in the place of their calls, and nothing else is touched."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx_cases import error, run
from onnx_texts import folded, model, net_of, saved, statistics, types, values

import bnfold
from bnfold.compare.partial import NOTHING_HIDDEN, drawn
from bnfold.onnx.functions import expanded
from bnfold.pipeline import Job, Reading, Writing
from bnfold.pipeline import run as fold_files

MODULES = """
<ir_version: 8, opset_import: ["" : 17, "modules" : 1]>
net (float[2,2,5,5] x) => (float[2,3,3,3] y, float[2,3,3,3] z)
{
    c = modules.Convolve (x, w)
    y = modules.Normalise <eps = 0.02> (c, gamma, beta, mean, variance)
    z = modules.Twice (y)
}
<domain: "modules", opset_import: ["" : 17]>
Convolve (x, w) => (y)
{
    y = Conv <pads = [0, 0, 0, 0]> (x, w)
}
<domain: "modules", opset_import: ["" : 17, "modules" : 1]>
Normalise <eps> (x, gamma, beta, mean, variance) => (y)
{
    normal = modules.Inner <eps: float = @eps> (x, gamma, beta, mean, variance)
    y = Relu (normal)
}
<domain: "modules", opset_import: ["" : 17]>
Inner <eps> (x, gamma, beta, mean, variance) => (y)
{
    y = BatchNormalization <epsilon: float = @eps> (x, gamma, beta, mean, variance)
}
<domain: "modules", opset_import: ["" : 17]>
Twice (x) => (y)
{
    y = Add (x, x)
}
"""
IN_A_BRANCH = """
<ir_version: 8, opset_import: ["" : 17, "modules" : 1]>
net (float[1,2,5,5] x, bool s) => (float[1,3,3,3] y)
{
    y = If (s) <
        then_branch = g1 () => (a) { a = modules.Both (x, w, gamma, beta, mean, variance) },
        else_branch = g2 () => (b) { b = Conv (x, w) }
    >
}
<domain: "modules", opset_import: ["" : 17]>
Both (x, w, gamma, beta, mean, variance) => (y)
{
    c = Conv (x, w)
    y = BatchNormalization (c, gamma, beta, mean, variance)
}
"""
FEEDS = {"x": values(2, 2, 5, 5, seed=3)}


def modules(text: str = MODULES) -> ModelProto:
    return model(text, w=values(3, 2, 3, 3), **statistics())


def test_a_normalisation_in_one_function_folds_into_a_convolution_in_another() -> None:
    before, after = modules(), folded(modules())
    assert types(after) == ["Conv", "Relu", "Add"]
    assert after.functions == before.functions, "nobody calls them, and they are no business of a fold"
    onnx.checker.check_model(after, full_check=True)
    one, other = run(before, FEEDS, ["y", "z"]), run(after, FEEDS, ["y", "z"])
    assert all(error(other[name], one[name]) < 1e-6 for name in one)
    assert net_of(before).notes == [
        "3 calls of 4 functions of the model's own, which normalise, were replaced by their bodies"
    ]
    diff = bnfold.compare(before, after)
    assert diff.passed
    assert {blob.blob for blob in diff.blobs} == {"y", "z"}


def test_a_model_in_which_nothing_folds_is_written_with_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(modules(), path)
    net = bnfold.load(path)
    assert [layer.type for layer in net.layers] == ["Conv", "BatchNormalization", "Relu", "Add"]
    bnfold.save_onnx(net, tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == path.read_bytes()
    assert saved(bnfold.fold(net, exclude="*").net) == bnfold.to_onnx(net) == modules()
    assert [layer.type for layer in pickle.loads(pickle.dumps(net)).layers] == [layer.type for layer in net.layers]


def test_a_net_that_ends_earlier_is_written_without_calls() -> None:
    net = bnfold.load(modules(), until=["y"])
    assert types(saved(net)) == ["Conv", "BatchNormalization", "Relu"]
    one = run(modules(), FEEDS, ["y"])["y"]
    np.testing.assert_array_equal(run(saved(net), FEEDS, ["y"])["y"], one)


def test_functions_that_do_not_normalise_stay() -> None:
    text = MODULES.replace("BatchNormalization <epsilon: float = @eps> (x, gamma, beta, mean, variance)", "Abs (x)")
    net = net_of(modules(text))
    assert [layer.type for layer in net.layers] == ["modules.Convolve", "modules.Normalise", "modules.Twice"]
    assert not net.notes
    assert folded(modules(text)) == modules(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("y = Relu (normal)", "y = modules.Normalise <eps: float = @eps> (x, gamma, beta, mean, variance)"),
        ('opset_import: ["" : 17]>\nInner', 'opset_import: ["" : 15]>\nInner'),
    ],
    ids=["circle", "version"],
)
def test_functions_that_cannot_be_put_in_stay_and_are_told(old: str, new: str) -> None:
    assert MODULES.count(old) == 1
    before = modules(MODULES.replace(old, new))
    net = net_of(before)
    assert [layer.type for layer in net.layers] == ["modules.Convolve", "modules.Normalise", "modules.Twice"]
    (note,) = net.notes
    assert note.startswith("3 calls of 4 functions of the model's own, which normalise, cannot be replaced by bodies")
    assert folded(before) == before


def doubling(count: int, op_type: str = "InstanceNormalization (x, x, x)") -> ModelProto:
    """As many functions, each of which calls the one before twice."""
    last = f"m.f{count - 1}"
    text = (
        f'<ir_version: 8, opset_import: ["" : 17, "m" : 1]> net (float[1,3] x) => (float[1,3] y) {{ y = {last} (x) }}\n'
    )
    text += f'<domain: "m", opset_import: ["" : 17]> f0 (x) => (y) {{ y = {op_type} }}\n'
    for one in range(1, count):
        body = f"a = m.f{one - 1} (x) y = m.f{one - 1} (a)"
        text += f'<domain: "m", opset_import: ["" : 17, "m" : 1]> f{one} (x) => (y) {{ {body} }}\n'
    return model(text)


def test_a_text_of_some_lines_makes_no_thousand_million_nodes() -> None:
    assert [expanded(doubling(count)) for count in (1, 2, 5)] == [2, 5, 47]
    assert len(net_of(doubling(5)).layers) == 16
    net = net_of(doubling(40))
    assert [layer.type for layer in net.layers] == ["m.f39"]
    assert "there would be more than 262,144 nodes" in net.notes[0]
    assert not net_of(doubling(40, "Relu (x)")).notes
    drawing = doubling(40, "Dropout (x, , on)")
    assert drawn((drawing, (), None)) == NOTHING_HIDDEN


def test_calls_in_bodies_of_control_flow_are_replaced() -> None:
    before = model(IN_A_BRANCH, w=values(3, 2, 3, 3), **statistics())
    assert net_of(before).notes == [
        "1 call of 1 function of the model's own, which normalise, was replaced by its body",
        "1 normalisation in bodies of 'y' (If): nothing is folded there",
    ]
    for branch in (True, False):
        feeds = {"x": values(1, 2, 5, 5, seed=3), "s": np.array(branch)}
        one, other = (run(proto, feeds, ["y"])["y"] for proto in (before, folded(before)))
        assert error(other, one) < 1e-6


def test_a_command_says_what_was_replaced(tmp_path: Path) -> None:
    onnx.save(modules(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    report = fold_files(Job(Reading(tmp_path / "model.onnx"), Writing((tmp_path / "out.onnx",))))
    assert report.passed
    assert any("were replaced by their bodies" in note for note in report.notes)
    assert types(onnx.load(tmp_path / "out.onnx")) == ["Conv", "Relu", "Add"]
