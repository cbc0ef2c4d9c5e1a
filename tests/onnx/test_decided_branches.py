"""An If whose condition no data decide is read as the branch that is taken, and any other stays."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto
from onnx_cases import error, run
from onnx_texts import folded, model, net_of, saved, statistics, types, values

import bnfold

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
SIZES = "float[n,2,5,5] x"
CONSTANTS = {
    "w": values(3, 2, 1, 1),
    "v": values(3, 2, 1, 1, seed=2),
    "yes": np.array(True),
    "no": np.array([False]),
    "two": np.array([2]),
    "one": np.array(1),
    "gain": values(3, 1, 1, seed=4),
    **statistics(),
}
NORMALISED = "a = BatchNormalization (c, gamma, beta, mean, variance)"
CHOICE = f"""c = Conv (x, w) y = If (yes) <
    then_branch = t () => (a) {{ {NORMALISED} }}, else_branch = e () => (b) {{ b = Conv (x, v) }}>"""


def net(nodes: str, inputs: str = SIZES) -> ModelProto:
    return model(f"{HEAD} g ({inputs}) => (float[n,3,h,l] y) {{ {nodes} }}", **CONSTANTS)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (CHOICE, ["Conv"]),
        (
            CHOICE.replace("yes", "no").replace("(b) { b", "(b) { d").replace("v) }", "v) b = Mul (d, gain) }"),
            ["Conv", "Conv"],
        ),
        (f"k = Constant <value = bool {{1}}> () {CHOICE.replace('yes', 'k')}", ["Conv"]),
        (
            f"d = Identity (x) s = Shape (d) i = Gather (s, one) k = Equal (i, two) {CHOICE.replace('yes', 'k')}",
            ["Conv"],
        ),
        (
            f"s = Shape <start = 0, end = 1> (x) k = Equal (s, two) {CHOICE.replace('yes', 'k')}",
            ["Shape", "Equal", "Conv", "If"],
        ),
        (
            """u = If (no) <then_branch = t () => (a) { a = Identity (v) },
                else_branch = e () => (b) { b = Identity (w) }>
            c = Conv (x, u) y = BatchNormalization (c, gamma, beta, mean, variance)""",
            ["Conv"],
        ),
        (
            """c = Conv (x, w) d, y = If (yes) <
                then_branch = t () => (g, a) <float[3] g = {0.5, -1.5, 2.5}>
                { a = BatchNormalization (c, g, beta, mean, variance) },
                else_branch = e () => (b, b) { b = Identity (c) }>""",
            ["Conv"],
        ),
        (
            f"""c = Conv (x, w) y = If (yes) <then_branch = t () => (a) {{
                k = Not (no) a = If (k) <
                    then_branch = tt () => (d) {{ {NORMALISED.replace("a =", "d =")} }},
                    else_branch = ee () => (f) {{ f = Sigmoid (c) }}>
            }}, else_branch = e () => (b) {{ b = Conv (x, v) }}>""",
            ["Conv"],
        ),
        (
            f"""c = Conv (x, w) n = ReduceMax <keepdims = 0> (c) z = Sub (n, n) i = Cast <to = 9> (z)
            y = If (i) <then_branch = t () => (a) {{ m = If (yes) <
                    then_branch = tt () => (d) {{ {NORMALISED.replace("a =", "d =")} }},
                    else_branch = ee () => (f) {{ f = Sigmoid (c) }}> a = Relu (m)
            }}, else_branch = e () => (b) {{ b = Conv (x, v) }}>""",
            ["Conv", "ReduceMax", "Sub", "Cast", "If"],
        ),
    ],
)
def test_the_branch_that_is_taken_folds_as_if_it_stood_in_line(nodes: str, left: list[str]) -> None:
    before = net(nodes)
    after = folded(before)
    assert types(after) == left
    x = values(2, 2, 5, 5, seed=3)
    assert error(run(after, {"x": x})["y"], run(before, {"x": x})["y"]) < 1e-6


def test_what_the_other_branch_alone_reads_goes_and_a_note_says_which_was_read() -> None:
    loaded = net_of(net(CHOICE))
    assert loaded.notes == [
        "1 If of a constant condition was read as the branch that it takes, and is written so where anything folds"
    ]
    stored = {tensor.name for tensor in saved(bnfold.fold(loaded).net).graph.initializer}
    assert stored == {"w", "c.bias", "gain", "no", "one", "two"}  # the last four of which nobody ever read


def test_a_model_in_which_nothing_folds_keeps_its_branches() -> None:
    before = net(CHOICE.replace(NORMALISED, "a = Sigmoid (c)"))
    assert folded(before) == before


def test_a_condition_that_may_be_fed_is_none_unless_initialisers_are_frozen() -> None:
    before = net(CHOICE, f"{SIZES}, bool yes")
    assert types(folded(before)) == ["Conv", "If"]
    assert types(folded(before, freeze_initializers=True)) == ["Conv"]


@pytest.mark.parametrize("lacks", ["then_branch", "output"])
def test_a_malformed_choice_stays_as_it_is(lacks: str) -> None:
    before = net(CHOICE)
    node = before.graph.node[1]
    if lacks == "output":
        del node.attribute[0].g.output[:]
    else:
        del node.attribute[0]
    loaded = net_of(before)
    assert "stay where they are: one has not the outputs of its If" in loaded.notes[0]
    assert saved(loaded) == before
