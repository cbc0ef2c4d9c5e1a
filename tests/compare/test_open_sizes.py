"""Models that leave sizes open are proved on noise of sizes that they take, which a note says."""

import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnx_cases import Array
from onnx_texts import folded, model, statistics, stored, values

from bnfold import Comparison, compare
from bnfold.compare import open_sizes
from bnfold.errors import UsageError
from bnfold.options import ReadOptions
from bnfold.pipeline import Folding, Job, Reading, Writing
from bnfold.pipeline import run as fold_files


def net(inputs: str, body: str, **constants: Array) -> ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => (float[q,r,s,t] y)'
    made = model(f"{head} {{ {body} }}", **constants)
    for port in made.graph.input:
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = dim.dim_param.replace("_plus_", " + ")  # which the text has no way to say
    return made


def conv_bn(shape: str = "n,2,h,w", channels: int = 2, front: str = "p = Identity (x)") -> ModelProto:
    body = f"{front} c = Conv (p, k) y = BatchNormalization (c, gamma, beta, mean, variance)"
    constants = {"k": values(3, channels, 3, 3), **statistics()}
    return net(f"float[{shape}] x", body, **constants)


ROW = np.array([1, 1, 3])
CELL = "q = ReduceSum <keepdims = 1> (c) p = Mul (h, q) r = Reshape (p, one)"  # one sample alone fits


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (conv_bn(), "'x' ?x2x224x224"),
        (conv_bn("1,2,30,w"), "'x' 1x2x30x224"),
        (conv_bn("1,2,s,s"), "'x' 1x2x224x224"),
        (conv_bn("n,c,h,w", 1), "'x' ?x1x224x224"),
        (conv_bn("n,h,w,3", 3, "p = Transpose <perm = [0, 3, 1, 2]> (x)"), "'x' ?x224x224x3"),
        (
            net(
                "float[n,1,h,w] x",
                "c = Conv (x, k) p = ReduceMax <axes = [3]> (c) q = Squeeze (p, one) y = Add (q, table)",
                k=values(3, 1, 3, 3),
                one=np.array([3]),
                table=values(46),
            ),
            "'x' ?x1x48x320",
        ),
        (net("float[n,t] x", "y = MatMul (x, k)", k=values(512, 3)), "'x' ?x512"),
        (
            net(
                "int64[b,t] x, float[b,p,4] cache, float[b,p_plus_t] mask",
                "e = Gather (k, x) a = Concat <axis = 1> (cache, e) m = Unsqueeze (mask, last) y = Mul (a, m)",
                k=values(9, 4),
                last=np.array([2]),
            ),
            "'x' ?x16 and 'cache' ?x16x4 and 'mask' ?x32",
        ),
        (
            net(
                "float[b,t] x, float[2,b,3] state, float scale",
                "m = ReduceMean <axes = [1]> (x) s = Mul (m, scale) y = Add (state, s)",
            ),
            "'x' 1x1024 and 'state' 2x1x3",
        ),
        (
            net(
                "float[b,t] x, float[2,b,3] state",
                "m = ReduceMean <axes = [1]> (x) y = Add (state, m)",
            ),
            "'x' ?x1024 and 'state' 2x2x3",
        ),
        (net("float[1,t,4] x", "y = Softmax <axis = 1> (x)"), "'x' 1x16x4"),
        (net("float[1,b,3] state, float[b,t,3] x", "y = Add (x, state)"), "'state' 1x1x3 and 'x' ?x16x3"),
        (
            net("float[1,s,3] h, float[2,s,4] c, float[1,t,3] x", f"{CELL} y = Concat <axis = 1> (x, r)", one=ROW),
            "'h' 1x1x3 and 'c' 2x1x4 and 'x' 1x16x3",
        ),
    ],
)
def test_sizes_are_found_that_the_model_takes(made: ModelProto, said: str) -> None:
    report = compare(made, made)
    assert report.passed, report.verdict
    assert f"the model leaves sizes open; it was run with {said}, and --input-shape gives others" in report.notes


def test_a_fold_of_a_model_with_open_sizes_is_proved_and_a_fault_in_it_is_found(tmp_path: Path) -> None:
    onnx.save(conv_bn(), tmp_path / "net.onnx")
    paths = tmp_path / "net.onnx", tmp_path / "out.onnx"
    done = fold_files(Job(Reading(paths[0], None, ReadOptions()), Writing((paths[1],)), Folding()))
    assert [proof.passed for proof in done.proofs] == [True]
    after = onnx.load(paths[1])
    assert [dim.dim_param for dim in after.graph.input[0].type.tensor_type.shape.dim] == ["n", "", "h", "w"]
    wrong = folded(conv_bn())
    for tensor in wrong.graph.initializer:
        if tensor.name in stored(wrong) and len(tensor.dims) == 1:
            array = stored(wrong)[tensor.name].copy()
            array[1] += 0.01 * np.abs(array).max()
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    report = compare(conv_bn(), wrong)
    assert not report.passed
    assert report.verdict.startswith("The networks differ: blob 'y'")


def test_sizes_that_the_candidate_states_go_before_usual_ones() -> None:
    report = compare(conv_bn(), conv_bn("4,2,7,9"))
    assert report.passed
    assert not any("sizes open" in note for note in report.notes)


def test_regions_lie_in_the_image_that_was_chosen() -> None:
    body = (
        "m = Conv <strides = [4, 4]> (x, k) i = Squeeze (g, first) "
        "y = RoiAlign <output_height = 2, output_width = 2> (m, r, i)"
    )
    made = net(
        "float[n,3,h,w] x, float[m,4] r, int64[m,1] g",
        body,
        k=values(2, 3, 4, 4),
        first=np.array([1]),
    )
    report = compare(made, made)
    assert report.passed, report.verdict
    assert "'r': regions inside 224x224" in report.data
    assert any("'r' 4x4" in note for note in report.notes), report.notes


def test_a_model_that_takes_no_usual_size_is_refused_unless_there_is_nothing_to_run(tmp_path: Path) -> None:
    odd = net("float[n,t] x", "y = MatMul (x, k)", k=values(7, 3))
    with pytest.raises(UsageError, match=r"'x' has shape \?x\?; noise needs every size, and .* --input-shape"):
        compare(odd, odd)
    assert compare(odd, odd, input_shapes={"x": (3, 7)}).passed
    onnx.save(odd, tmp_path / "net.onnx")
    reading, writing = Reading(tmp_path / "net.onnx", None, ReadOptions()), Writing((tmp_path / "out.onnx",))
    (proof,) = fold_files(Job(reading, writing, Folding())).proofs
    assert (proof.passed, proof.equal) == (True, True)


def test_sizes_are_sought_once_for_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[open_sizes.Usual] = []
    real = open_sizes._shapes

    def shapes(made: Any, layout: Any, usual: open_sizes.Usual, states: Any) -> dict[str, tuple[int | None, ...]]:
        tried.append(usual)
        return real(made, layout, usual, states)

    monkeypatch.setattr(open_sizes, "_shapes", shapes)
    opened = Comparison(conv_bn())
    assert opened.against(folded(conv_bn())).passed
    assert opened.against(conv_bn()).passed
    assert tried.count(open_sizes.USUAL[0]) == 1  # others are only for the run at other sizes


PLANES, STEPS = "float[n,2,h,w] x", "float[n,t] x"
POOL = "y = AveragePool <kernel_shape = [7, 7]> (x)"
TABLE = "s = Shape <start = 1> (x) p = Slice (k, zero, s, zero) y = Add (x, p)"
ZERO = np.array([0])
HALVED = "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], dilations = [1, 1]> (x)"


def rnn(factor: float) -> ModelProto:
    """Steps of any number, whose recurrent weight for one value is multiplied."""
    recurrent = values(1, 2, 2) * np.array([[1], [factor]], np.float32)
    return net("float[t,1,2] x", "y = RNN <hidden_size = 2> (x, w, r)", w=values(1, 2, 2), r=recurrent)


def scaled_from(start: int, shape: str, axis: int = 0) -> ModelProto:
    """What stands from a place of an open axis on is multiplied by 2."""
    body = f"s = Shape <start = {axis}, end = {axis + 1}> (x) p = Slice (k, zero, s, zero) y = Mul (x, p)"
    table = 1 + (np.arange(2000) >= start).astype(np.float32)
    return net(f"float[{shape}] x", body, k=table.reshape(-1, *[1] * (shape.count(",") - axis)), zero=ZERO)


@pytest.mark.parametrize(
    ("reference", "candidate", "data", "said"),
    [
        (net(PLANES, "y = GlobalAveragePool (x)"), net(PLANES, POOL), (3, 2, 7, 7), "2x2x67x93: "),
        (net(PLANES, "y = GlobalAveragePool (x)"), net(PLANES, POOL.replace("7", "224")), None, "gives nothing"),
        (
            net(PLANES, "y = Resize (x, , s)", s=np.array([1, 1, 2, 2], np.float32)),
            net(
                PLANES,
                "b = Shape <end = 2> (x) q = Concat <axis = 0> (b, s) y = Resize (x, , , q)",
                s=np.array([448, 448]),
            ),
            None,
            "2x2x67x93: ",
        ),
        (
            net(STEPS, "s = Shape (x) y = Reshape (x, s)"),
            net(STEPS, "y = Reshape (x, s)", s=np.array([3, -1])),
            (3, 5),
            "2x515 it gives nothing: ",
        ),
        (
            net("float[n,6] x", "y = Identity (x)"),
            net("float[n,6] x", "y = Reshape (x, s)", s=np.array([3, -1])),
            None,
            "2x6: ",
        ),
        (
            net(STEPS, TABLE, k=values(70), zero=ZERO),
            net(STEPS, TABLE, k=values(70) * (1 + (np.arange(70) == 40)).astype(np.float32), zero=ZERO),
            (5, 16),
            "2x64: ",
        ),
        (
            net("float[1,t,4] x", "y = ReduceSum (x, axis)", axis=np.array([1])),
            net(
                "float[1,t,4] x",
                "s = Slice (x, zero, most, axis) y = ReduceSum (s, axis)",
                axis=np.array([1]),
                most=np.array([16]),
                zero=ZERO,
            ),
            None,
            "1x77x4: ",
        ),
        (rnn(1.0), rnn(1.2), None, "2x1x2: "),  # of steps of several scales the first alone is not saturated
        (
            net("float[n,4] x", "y = Relu (x)"),
            net("float[n,4] x", "r = Relu (x) y = Squeeze (r)"),
            None,
            "1x4, output 'y'",
        ),
        (scaled_from(2000, "n,4"), scaled_from(100, "n,4"), (5, 4), "520x4: "),
        (scaled_from(2000, "n,t,4", 1), scaled_from(130, "n,t,4", 1), None, "1x1031x4: "),
        (net(PLANES, HALVED), net(PLANES, HALVED.replace("1]>", "1], ceil_mode = 1>")), None, "2x2x67x93: "),
        (
            net(PLANES, "s = Shape (x) y = Resize (x, , , s)"),
            net(PLANES, "s = Shape (x) q = Gather (s, i) y = Resize (x, , , q)", i=np.array([0, 1, 3, 2])),
            None,
            "2x2x67x93: ",
        ),
    ],
)
def test_what_is_equal_at_the_sizes_that_were_run_alone_fails(
    reference: ModelProto, candidate: ModelProto, data: tuple[int, ...] | None, said: str
) -> None:
    given = None if data is None else values(*data)
    failed = [gate for gate in compare(reference, candidate, given).gates if not gate.passed]
    assert [gate.name for gate in failed] == ["sizes"]
    assert said in failed[0].sentence
    assert compare(reference, reference, given).passed


@pytest.mark.parametrize("shape", ["a,b,c", "a,b,c,d,e"])
def test_no_input_that_is_open_along_all_axes_is_drawn_by_the_gigabyte(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plane of 16,000 steps each way has a quarter of a billion values, and cubes of images have more."""
    drawn = list[int]()

    def gives(*arguments: Any, really: Any = open_sizes._gives) -> bool:
        drawn.extend(prod(size or 1 for size in feed.shape) for feed in arguments[1].feeds.values())
        return bool(really(*arguments))

    monkeypatch.setattr(open_sizes, "_gives", gives)
    wrong = net(f"float[{shape}] x", "y = Reshape (x, seven)", seven=np.array([7, 11, 13, 17, 19]))
    with pytest.raises(UsageError, match="takes none of the usual ones"):
        compare(wrong, wrong)
    assert len(drawn) > 3
    assert max(drawn) <= 1 << 22


@pytest.mark.parametrize(("inputs", "front"), [("float[t,1,2] x", ""), ("int64[t,1] i", "x = Gather (table, i)")])
def test_what_many_steps_make_of_rounding_is_no_difference(inputs: str, front: str) -> None:
    """Of a recurrence that is chaotic a unit in the last place makes anything within some dozens of steps."""

    def recurrent(scaled: str, factor: float = 1) -> ModelProto:
        drawn = np.random.default_rng(16).standard_normal((1, 16, 18), np.float32)
        weights = {"w": drawn[..., :2] * np.float32(factor), "r": drawn[..., 2:], "table": values(9, 2)}
        return net(inputs, f"{front} {scaled}, w, r)", k=np.array(0.3, np.float32), **weights)

    reference = recurrent("s = Mul (x, k) y = RNN <hidden_size = 16> (s")
    report = compare(reference, recurrent("y = RNN <hidden_size = 16> (x", 0.3))
    assert report.passed, report.verdict
    assert "where its inputs, or weights, are rounded otherwise, so nothing is proved there" in report.notes[-1]
    assert not compare(reference, recurrent("y = RNN <hidden_size = 16> (x", 0.301)).passed


def test_sizes_that_one_network_alone_leaves_open_or_the_data_alone_have_are_said() -> None:
    report = compare(conv_bn(), conv_bn("n,2,7,9"))
    assert "input 'x' takes ?x2x?x? in the reference and ?x2x7x9 in the candidate, so of other sizes nothing is " in (
        "".join(report.notes)
    )
    odd, given = net("float[n,t] x", "y = MatMul (x, k)", k=values(7, 3)), values(3, 7)
    seen = "the model leaves sizes open, and no others were run than those of the data ('x' ?x7)"
    assert compare(odd, odd, given).notes == (seen,)


@pytest.mark.parametrize(
    ("start", "scale", "failed"),
    [(1, 1.0, []), (-2, 1.0, ["sizes"]), (1, 1.01, ["tolerance"])],
    ids=["the same", "other rows of one sample", "another weight"],
)
def test_outputs_without_an_element_at_other_sizes_say_nothing_there(
    start: int, scale: float, failed: list[str]
) -> None:
    """All samples but the first: of one sample none is left."""

    def rest(start: int, scale: float = 1.0) -> ModelProto:
        ends = {"start": np.array([start]), "end": np.array([1 << 40]), "zero": ZERO}
        text = "p = MatMul (x, k) y = Slice (p, start, end, zero)"
        return net("float[n,4] x", text, k=values(4, 3) * np.float32(scale), **ends)

    report = compare(rest(1), rest(start, scale))
    assert [gate.name for gate in report.gates if not gate.passed] == failed


def test_other_sizes_bring_no_other_values_than_those_of_given_data() -> None:
    bounded = net("float[n,t] x", "y = Clip (x, , most)", most=np.array(2, np.float32))
    report = compare(net("float[n,t] x", "y = Identity (x)"), bounded, values(3, 5))
    assert report.passed, report.verdict
    assert report.gates[-1].name == "sizes"


def test_sizes_that_take_more_than_the_memory_are_not_run() -> None:
    """What fits at the sizes of the data is compared as it was before others were run."""
    wide = net(PLANES, "y = Conv <pads = [1, 1, 1, 1]> (x, w)", w=values(4096, 2, 3, 3))
    data = values(4, 2, 2, 2)
    enough = least_memory(wide, data)
    report = compare(wide, wide, data, memory=enough)
    assert report.passed
    assert all("x2x2x2: " in gate.sentence for gate in report.gates if gate.name == "sizes")
    assert "no others were run than those of the data ('x' ?x2x2x2)" in " ".join(report.notes)
    roomy = compare(wide, wide, data, memory=4 << 30)
    assert [gate.passed for gate in roomy.gates if gate.name == "sizes"] == [True] * 2


def least_memory(model: ModelProto, data: Array) -> int:
    """Bytes that are enough for these data, by what a refusal says."""
    with pytest.raises(UsageError) as refused:
        compare(model, model, data, memory=1 << 20)
    said = re.search(r"takes at least ([\d,]+)M", str(refused.value))
    assert said is not None
    return (int(said[1].replace(",", "")) + 40) << 20
