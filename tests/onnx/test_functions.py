"""A model's own functions: bodies that normalise are read in the place of their calls, and nothing else is touched."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx_cases import Array, error, run
from onnx_texts import folded, model, net_of, saved, statistics, types, values

import bnfold
from bnfold.compare.incomparable_nodes import ALL_COMPARABLE, incomparable_nodes
from bnfold.onnx.functions import expanded, without_calls
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
        "3 calls of 4 functions of the model's own were read as their bodies, and are written so where anything folds"
    ]
    diff = bnfold.compare(before, after)
    assert diff.passed
    assert {blob.blob for blob in diff.blobs} == {"y", "z"}


def test_nodes_of_bodies_are_named_apart_from_those_of_the_graph() -> None:
    """onnxruntime takes no two nodes of one name."""
    before = modules()
    before.graph.node.append(onnx.helper.make_node("Relu", ["y"], ["r"], name="n"))
    for function in before.functions:
        function.node[0].name = "n"
    np.testing.assert_allclose(run(folded(before), FEEDS)["y"], run(before, FEEDS)["y"], rtol=1e-5, atol=1e-5)


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
    assert note.startswith("3 calls of 4 functions of the model's own cannot be read as bodies")
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
    assert incomparable_nodes((doubling(40, "Dropout (x)"), (), None)) == ALL_COMPARABLE
    assert [one.blob for one in incomparable_nodes((doubling(40, "Dropout (x, , on)"), (), None)).outputs] == ["y"]


def test_calls_in_bodies_of_control_flow_are_replaced() -> None:
    before = model(IN_A_BRANCH, w=values(3, 2, 3, 3), **statistics())
    assert net_of(before).notes == [
        "1 call of 1 function of the model's own was read as its body, and is written so where anything folds",
    ]
    for branch in (True, False):
        feeds = {"x": values(1, 2, 5, 5, seed=3), "s": np.array(branch)}
        one, other = (run(proto, feeds, ["y"])["y"] for proto in (before, folded(before)))
        assert error(other, one) < 1e-6


def test_a_command_says_what_was_replaced(tmp_path: Path) -> None:
    onnx.save(modules(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    report = fold_files(Job(Reading(tmp_path / "model.onnx"), Writing((tmp_path / "out.onnx",))))
    assert report.passed
    assert any("were read as their bodies" in note for note in report.notes)
    assert types(onnx.load(tmp_path / "out.onnx")) == ["Conv", "Relu", "Add"]


HEAD = """
<ir_version: 10, opset_import: ["" : 17, "m" : 2]>
net (float[2,2,5,5] x, bool s) => (float[2,3,3,3] y)
"""
BODY = "gamma, beta, mean, variance"
PLAIN = '<ir_version: 8, opset_import: ["" : 17, "m" : 1]> net (float[2,2,5,5] x) => (float[2,3,3,3] y)'


def agrees(text: str, *expected: str, **constants: Array) -> None:
    """A model with functions, and its fold, compute the same, and this is what is left of its nodes."""
    before = model(HEAD + text, w=values(3, 2, 3, 3), **statistics(), **constants)
    after = folded(before)
    assert types(after) == list(expected)
    onnx.checker.check_model(after, full_check=True)
    for branch in (True, False):
        feeds = {**FEEDS, "s": np.array(branch)}
        assert error(run(after, feeds, ["y"])["y"], run(before, feeds, ["y"])["y"]) < 1e-6


@pytest.mark.parametrize("declared", ["<eps>", "<eps: float = 0.4>"])
@pytest.mark.parametrize("given", ["", "<eps = 0.7>"])
def test_an_attribute_that_a_call_does_not_give_is_the_default_of_the_function(declared: str, given: str) -> None:
    agrees(
        f"""{{ c = Conv (x, w)  y = m.Outer {given} (c, {BODY}) }}
        <domain: "m", opset_import: ["m" : 1]>
        Outer {declared} (x, {BODY}) => (y) {{ y = m.Inner <eps: float = @eps> (x, {BODY}) }}
        <domain: "m", opset_import: ["" : 17]>
        Inner <eps: float = 0.3> (x, {BODY}) => (y)
        {{ y = BatchNormalization <epsilon: float = @eps> (x, {BODY}) }}""",
        "Conv",
    )


def test_functions_of_one_name_are_told_apart_by_their_overload() -> None:
    agrees(
        f"""{{ c = Conv (x, w)  n = m.F:one (c, {BODY})  y = m.F:two (n) }}
        <domain: "m", overload: "one", opset_import: ["" : 17]>
        F (x, {BODY}) => (y) {{ y = BatchNormalization (x, {BODY}) }}
        <domain: "m", overload: "two", opset_import: ["" : 17]>
        F (x) => (y) {{ y = Relu (x) }}""",
        "Conv",
        "Relu",
    )


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("t = Mul (x, gamma)  y = Sub (mean, t)", ["Conv"]),
        ("k = Constant <value_float: float = @k> ()  t = Mul (k, x)  y = Add (t, beta)", ["Conv"]),
        ("t = Mul (x, x)  y = Neg (t)", ["Conv", "F"]),  # nothing folds
        ("t = Mul (x, gamma)  y = Sigmoid (t)", ["Conv", "F"]),  # for which a runtime may have a kernel
    ],
)
def test_a_function_of_arithmetic_alone_is_read_as_its_body(body: str, left: list[str]) -> None:
    channels = {name: values(3, 1, 1, seed=at) for at, name in enumerate(("gamma", "beta", "mean"), 5)}
    text = f"""{{ c = Conv (x, w)  y = m.F <k: float = -1.75> (c, gamma, beta, mean) }}
        <domain: "m", opset_import: ["" : 17]>
        F <k> (x, gamma, beta, mean) => (y) {{ {body} }}"""
    before = model(PLAIN + text, w=values(3, 2, 3, 3), **channels)
    after = folded(before)
    assert types(after) == left
    wanted = run(before, FEEDS, ["y"])["y"]
    other = np.array(ReferenceEvaluator(after).run(["y"], FEEDS))[0]
    for found in (run(after, FEEDS, ["y"])["y"], other):
        assert error(found, wanted) < 1e-5


def test_a_domain_that_only_a_function_names_is_named_by_the_model() -> None:
    agrees(
        f"""{{ c = Conv (x, w)  y = m.F (c, {BODY}) }}
        <domain: "m", opset_import: ["" : 17, "com.microsoft" : 1]>
        F (x, {BODY}) => (y) {{ n = BatchNormalization (x, {BODY})  y = com.microsoft.Gelu (n) }}""",
        "Conv",
        "Gelu",
    )


def test_domains_that_only_functions_name_stand_in_the_order_in_which_these_name_them() -> None:
    domains = [f"d{number}" for number in (5, 2, 6, 1, 4, 3)]
    steps = " ".join(f"x{at} = {domain}.Step (x{at - 1})" for at, domain in enumerate(domains, 1))
    imported = ", ".join(f'"{domain}" : 1' for domain in ["", *domains])
    text = f"""{PLAIN} {{ y = m.Steps (x) }}
        <domain: "m", opset_import: [{imported}]> Steps (x0) => (x6) {{ {steps} }}"""
    assert [item.domain for item in without_calls(model(text)).opset_import] == ["", "m", *domains]


def test_names_in_a_functions_bodies_stay_apart_from_those_of_the_graph_and_of_other_calls() -> None:
    agrees(
        f"""{{ n = Conv (x, w)  k = m.F <slope = 0.3> (n, s, {BODY})  y = m.F (k, s, {BODY}) }}
        <domain: "m", opset_import: ["" : 17]>
        F <slope: float = 0.7> (x, s, {BODY}) => (y)
        {{
            n = BatchNormalization (x, {BODY})
            trips = Constant <value = int64 {{2}}> ()
            p = Loop (trips, , n) <body = g (int64 i, bool k, float[2,3,3,3] q) => (bool k, float[2,3,3,3] r) {{
                r = Add (q, n)
            }}>
            y = If (s) <
                then_branch = g1 () => (a) {{ q = Neg (p)  a = LeakyRelu <alpha: float = @slope> (q) }},
                else_branch = g2 () => (b) {{ b = Abs (p) }}
            >
        }}""",
        *("Conv", "Constant", "Loop", "If", "BatchNormalization", "Constant", "Loop", "If"),
    )


def test_inputs_that_a_call_leaves_out_and_outputs_that_nobody_reads() -> None:
    agrees(
        f"""{{ , y = m.F (x, w, , {BODY}) }}
        <domain: "m", opset_import: ["" : 17]>
        F (x, w, b, {BODY}, more) => (n, y)
        {{ c = Conv (x, w, b)  n = BatchNormalization (c, {BODY})  y = Abs (n) }}""",
        "Conv",
        "Abs",
    )


def test_large_constants_of_graph_and_function_stay() -> None:
    before = model(
        HEAD
        + f"""{{ c = m.F (x, v, {BODY})  y = Add (c, c) }}
        <domain: "m", opset_import: ["" : 17]>
        F (x, v, {BODY}) => (y) {{ k = Add (v, w)  c = Conv (x, k)  y = BatchNormalization (c, {BODY}) }}""",
        **statistics(),
    )
    weights = [values(3, 2, 3, 3, seed=seed) + np.zeros((400, 1, 1, 1, 1), np.float32) for seed in (1, 4)]
    for nodes, name, value in zip((before.graph.node, before.functions[0].node), "vw", weights, strict=True):
        large = onnx.numpy_helper.from_array(value)
        whole = onnx.helper.make_node("Constant", [], ["whole"], value=large)
        zero = onnx.helper.make_node("Constant", [], ["zero"], value_int=0)
        nodes.insert(0, onnx.helper.make_node("Gather", ["whole", "zero"], [name]))
        nodes.insert(0, zero)
        nodes.insert(0, whole)
    after = folded(before)
    assert types(after) == ["Conv"]
    feeds = {**FEEDS, "s": np.array(True)}
    assert error(run(after, feeds, ["y"])["y"], run(before, feeds, ["y"])["y"]) < 1e-6
