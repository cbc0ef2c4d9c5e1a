"""The pass over the data: pieces merge to the same bytes, segments and overlap change nothing, memory is kept to."""

import pickle
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compare.small_pair import images, said
from growing import growth
from onnx import ModelProto, helper, parser
from onnx_models import change, classifier, model
from present import present

from bnfold.compare import backends, memory, planning
from bnfold.compare import engine as engines
from bnfold.compare.batches import BatchLayout
from bnfold.compare.checkpoint import plain
from bnfold.compare.comparison import Comparison, compare
from bnfold.compare.measure import Measurement, MeasurePlan
from bnfold.compare.merging import merge
from bnfold.data.samples import Arrays, Noise, Samples
from bnfold.errors import UsageError
from bnfold.net import Array
from bnfold.onnx.graph import inferred
from bnfold.onnx.working_memory import inner_bytes, sizes_of, working_bytes
from bnfold.options import CompareOptions
from bnfold.report.data import as_data
from bnfold.report.run import RunReport
from bnfold.runtime import engine

AZURE = "AzureExecutionProvider"


def pair() -> tuple[ModelProto, ModelProto]:
    return classifier(), change(classifier(), "conv1_w", (4, 1, 0, 2), 3.0)


def leave_room(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have so many bytes for weights and blobs, whatever else is in this process."""
    monkeypatch.setattr(engines, "memory_budget", lambda *_asked: size)


def parts(cuts: list[int], monkeypatch: pytest.MonkeyPatch, count: int = 80) -> list[Measurement]:
    """The measurements of a comparison, one for each part of its runs."""
    found: list[Measurement] = []

    def pass_over(self: Comparison, engine: engines.Engine, data: Samples, *_: object) -> list[Measurement]:
        ranges = list(zip([0, *cuts], [*cuts, -(-count // engine.layout.batch)], strict=True))
        found.extend(engine.measure(data, range(*ends))[0] for ends in ranges)
        return [merge(pickle.loads(pickle.dumps(found[0])), found[1])] if len(found) > 1 else [found[0]]

    monkeypatch.setattr(Comparison, "_pass_over", pass_over)
    ours, theirs = pair()
    Comparison(ours, images(count), CompareOptions(batch=2), labels=np.arange(count) % 5).against(theirs)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_parts_of_any_cut_merge_to_equal_bytes_wherever_they_were_measured(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, 40), 4))
    first, second = parts(cuts, monkeypatch), parts(cuts, monkeypatch)
    # As from other processes, which finished in another order.
    travelled = [pickle.dumps(part) for part in second]
    order = list(range(len(travelled)))
    chance.shuffle(order)
    arrived = {number: pickle.loads(travelled[number]) for number in order}
    whole, other = first[0], arrived[0]
    for number in range(1, len(first)):
        whole, other = merge(whole, first[number]), merge(other, arrived[number])
    assert plain(whole) == plain(other)


def test_compiled_code_finds_what_numpy_finds_in_whatever_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair()
    by_numpy = compare(ours, theirs, images(40), CompareOptions(batch=4))
    monkeypatch.setattr(backends, "MANY", 1)
    reports = [compare(ours, theirs, images(40), CompareOptions(batch=4))]
    leave_room(monkeypatch, 1 << 15)
    reports.append(compare(ours, theirs, images(40), CompareOptions(batch=4)))
    assert said(reports[0]) == said(reports[1]) != said(by_numpy)
    for one, two in zip(reports[0].blobs, by_numpy.blobs, strict=True):
        assert (one.max_abs, one.histogram) == (two.max_abs, two.histogram)
        assert one.cosine == pytest.approx(two.cosine, rel=1e-12)
        assert one.snr_db == pytest.approx(two.snr_db, rel=1e-12)


def test_what_is_no_sum_of_floats_is_equal_for_every_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = parts([], monkeypatch)
    cut = parts([7, 19, 33], monkeypatch)
    merged = cut[0]
    for part in cut[1:]:
        merged = merge(merged, part)
    ours, theirs = plain(whole), plain(merged)
    for name, error in ours["fields"]["errors"]["names"].items():
        for field, value in error["fields"].items():
            other = theirs["fields"]["errors"]["names"][name]["fields"][field]
            if field in ("channels", "channel_squares", "exact_sums"):
                continue
            if isinstance(value, float):
                assert other == pytest.approx(value, rel=1e-13), (name, field)
            else:
                assert other == value, (name, field)
    for field in ("count", "samples", "classification", "notes"):
        assert theirs["fields"][field] == ours["fields"][field]


def test_networks_run_in_segments_where_their_blobs_do_not_fit_and_give_the_same_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = compare(*pair(), images(40), labels=np.arange(40) % 5)
    for size in (-5000, 1, 2000, 20_000, 30_000):
        leave_room(monkeypatch, size)
        assert said(compare(*pair(), images(40), labels=np.arange(40) % 5)) == said(whole)


def test_a_segment_may_hold_blobs_of_one_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = classifier()
    for node in renamed.graph.node:
        node.output[0] = node.output[0].replace("conv", "own")
        node.input[0] = node.input[0].replace("conv", "own")
    expected = compare(classifier(), renamed, images(6))
    for size in (1, 20_000, 22_000):
        leave_room(monkeypatch, size)
        assert said(compare(classifier(), renamed, images(6))) == said(expected)


def test_every_blob_is_in_one_segment_and_none_is_larger_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[engines.Engine] = []
    real = engines.Engine.measure

    def measure(self: engines.Engine, *given: Any) -> list[Measurement]:
        seen.append(self)
        return real(self, *given)

    monkeypatch.setattr(engines.Engine, "measure", measure)
    leave_room(monkeypatch, 20_000)
    compare(*pair(), images(4))
    names = [name for segment in seen[0].segments for name in segment.names]
    assert sorted(names) == sorted(set(names)) == sorted(["conv1", "relu1", "conv2", "pool", "flat", "fc", "prob"])
    assert len(seen[0].segments) > 1
    assert not seen[0].overlapping
    assert not seen[0].alternating


def test_a_run_holds_what_is_still_read_and_the_outputs() -> None:
    """relu1 is the largest beside conv1, of which it is made: 2 samples of 6 x 8 x 8 each."""
    sizes = sizes_of(inferred(classifier(batch="N"), (), {"data": (2, 3, 8, 8)})[0])
    assert sizes["conv1"] == sizes["relu1"] == 2 * 6 * 8 * 8 * 4
    assert working_bytes(classifier(), sizes) == sizes["conv1"] + sizes["relu1"]


def test_sizes_that_nodes_compute_of_sizes_are_counted() -> None:
    """A Pad by what a ConstantOfShape and a Concat make, as PyTorch writes it, and a Reshape by halves of sizes."""
    whole = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, H, W] x) => (float[a, b, c] y) {
            two = Constant <value = int64[1] {2}> ()
            four = Constant <value = int64[1] {4}> ()
            zeros = ConstantOfShape <value = int64[1] {0}> (four)
            ones = ConstantOfShape <value = int64[1] {1}> (four)
            pads = Concat <axis = 0> (zeros, ones)
            padded = Pad (x, pads)
            sizes = Shape <start = 1, end = 2> (padded)
            half = Div (sizes, two)
            least = Constant <value = int64[1] {-1}> ()
            shape = Concat <axis = 0> (half, two, least)
            folded = Reshape (padded, shape)
            y = Relu (folded)
        }"""
    )
    sizes = sizes_of(inferred(whole, (), {"x": (1, 3, 7, 5)})[0])
    assert [sizes[name] for name in ("padded", "folded", "y")] == [2 * 4 * 8 * 6 * 4] * 3


@pytest.mark.parametrize(
    ("node", "held"),
    [
        (
            """y = If (s) <then_branch = a () => (float[p, q] b) { c = Tile (x, k) d = Relu (c) b = Neg (x) },
                           else_branch = e () => (float[p, q] f) { f = Identity (x) }>""",
            (4 + 4) * 32,
        ),
        (
            """y = Loop (n, s, x) <body = a (int64 i, bool g, float[p, q] v) => (bool g, float[p, q] w)
                { c = Tile (v, k) d = Relu (c) r = ReduceSum <keepdims = 1> (d) w = Mul (v, r) }>""",
            (4 + 4) * 32,
        ),
        (
            """y = If (s) <then_branch = a () => (float[p, q] b) {
                b = If (s) <then_branch = h () => (float[p, q] t) { t = Tile (x, k) },
                            else_branch = e () => (float[p, q] f) { f = Identity (x) }> },
                else_branch = m () => (float[p, q] o) { o = Identity (x) }>""",
            4 * 32,
        ),
    ],
)
def test_what_a_body_holds_is_counted(node: str, held: int) -> None:
    """Of x, which has 32 bytes, tiled four times."""
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x, bool s, int64 n) => (float[p, q] y)'
    whole = parser.parse_model(f"{head} {{ k = Constant <value = int64[2] {{2, 2}}> () {node} z = Neg (x) }}")
    inner = inner_bytes(whole, *inferred(whole, (), {}))
    assert inner == {1: held}
    assert working_bytes(whole, {"x": 32}, inner) == held


@pytest.mark.parametrize(("axes", "row"), [("", 4 * 4), (", scan_input_axes = [-1]", 2 * 4)])
def test_what_a_scan_holds_of_a_row_is_counted(axes: str, row: int) -> None:
    """A row of x, (2, 4), tiled ten times and made positive, beside the state, which has 32 bytes."""
    whole = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[p, q] t, float[p, q] y) {{
            k = Constant <value = int64[1] {{10}}> ()
            t, y = Scan <num_scan_inputs = 1{axes}, body = a (float[p, q] s, float[r] v) => (float[p, q] w, float[z] o)
                {{ w = Neg (s) c = Tile (v, k) o = Relu (c) }}> (x, x)
        }}"""
    )
    assert inner_bytes(whole, *inferred(whole, (), {})) == {1: 32 + 2 * 10 * row}


def test_where_both_networks_do_not_fit_one_is_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_room(monkeypatch, 1)
    opened = []
    real = engines.Engine._given

    def given(self: engines.Engine, segment: planning.Segment, place: int, feeds: Any) -> Any:
        values = real(self, segment, place, feeds)
        opened.append({other: list(one.sessions) for other, one in enumerate(self.segments) if place in one.sessions})
        return values

    monkeypatch.setattr(engines.Engine, "_given", given)
    compare(*pair(), images(4))
    assert opened
    assert not any(opened)


def test_one_run_at_a_time_gives_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = said(compare(*pair(), images(40)))
    monkeypatch.setattr(engines, "processors", lambda share: 1)
    assert said(compare(*pair(), images(40))) == expected


@pytest.mark.parametrize(("many", "least"), [(8657, 0), (8656, memory.COMPILED)])
def test_room_for_compiled_code_is_held_only_where_it_may_be_loaded(
    many: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight samples have 8656 values, of 4 bytes each."""
    kept = set()
    real = planning.Planner._code

    def code(self: planning.Planner) -> int:
        kept.add(real(self))
        return real(self)

    monkeypatch.setattr(planning, "find_spec", lambda _: object())
    monkeypatch.setattr(planning, "MANY", many)
    monkeypatch.setattr(planning.Planner, "_code", code)
    compare(*pair(), images(8), memory=1 << 40)
    assert kept == {least}


def test_the_memory_that_a_refusal_names_is_enough_for_a_process_that_holds_a_bit_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "resident_memory", lambda: memory.BARE)
    with pytest.raises(UsageError) as refused:
        compare(*pair(), images(2), memory=1)
    least = re.search(r"takes at least (\d+)M", str(refused.value))
    assert least is not None
    monkeypatch.setattr(memory, "resident_memory", lambda: memory.BARE + (3 << 20))
    assert compare(*pair(), images(2), memory=int(least[1]) << 20).blobs


def test_what_float64_runs_begin_at_and_what_they_judge_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """768 values: five runs begin at them in float64; the reference has each, and a mask of it, the candidate each."""
    planners: list[planning.Planner] = []
    real = planning.Planner.plan

    def plan(self: planning.Planner, budget: int) -> planning.MemoryPlan:
        planners.append(self)
        return real(self, budget)

    monkeypatch.setattr(planning.Planner, "plan", plan)
    leave_room(monkeypatch, 1 << 30)
    compare(*pair(), images(2))
    planner = replace(planners[-1], in_double=True, judged=True)
    segment = replace(planner.known.networks.segment(), names=["relu1"])
    assert planner._bytes(segment) == 768 * (4 + 2 + 4)
    assert planner._bytes(replace(segment, beside=["conv1"])) == 2 * 768 * (4 + 2 + 4) + 5 * 768 * 8


def test_what_a_network_needs_is_worked_out_once_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    really = planning.NetworkNeeds._of_one

    def of_one(self: planning.NetworkNeeds, place: int, batch: int) -> memory.Needs:
        asked.append((place, batch))
        return really(self, place, batch)

    monkeypatch.setattr(planning.NetworkNeeds, "_of_one", of_one)
    compare(*pair(), images(8), CompareOptions(batch=4, memory=1 << 40))
    assert asked == [(0, 4), (1, 4)]


def test_an_open_batch_follows_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    models = classifier(batch="N"), change(classifier(batch="N"), "conv1_w", (4, 1, 0, 2), 3.0)
    assert compare(*models, images(8)).blobs[0].shape[0] == 8
    leave_room(monkeypatch, 60_000)
    assert 1 < compare(*models, images(8)).blobs[0].shape[0] < 8


def test_the_float64_run_is_in_the_budget_and_segments_change_none_of_its_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[tuple[int, bool]] = []
    real = engines.Engine._plan

    def plan(self: engines.Engine, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        plans.append((len(self.segments), self.overlapping))

    whole = compare(*pair(), images(8), exact=True)
    assert whole.blobs[0].exact is not None
    monkeypatch.setattr(engines.Engine, "_plan", plan)
    leave_room(monkeypatch, 80_000)
    compare(*pair(), images(8))
    assert said(compare(*pair(), images(8), exact=True)) == said(whole)
    assert plans == [(1, True), (3, False)]
    leave_room(monkeypatch, 50_000)
    compare(*pair(), images(8))
    with pytest.raises(UsageError, match=r"is too little memory: .* and 1M for the weights of the float64 run"):
        compare(*pair(), images(8), exact=True)


def test_samples_are_decoded_ahead_once_each_and_in_order() -> None:
    from bnfold.compare.threads import Threads

    asked = []

    class Data(Arrays):
        def sample(self, number: int) -> dict[str, Array]:
            asked.append(number)
            return super().sample(number)

    with Threads(3) as threads:
        ahead = engines.Ahead(Data({"data": np.arange(10)}), threads, 4)
        assert [ahead.sample(number)["data"] for number in range(10)] == list(range(10))
    assert sorted(asked) == list(range(10))


def test_samples_that_a_thread_hands_over_in_the_time_that_they_take_are_made_without_one() -> None:
    assert [Arrays({"data": np.zeros((2, *shape))}).parallel for shape in ((), (3, 8, 8), (3, 64, 64))] == [0, 0, 1]
    assert [Noise({"data": (shape, None)}, 2).parallel for shape in ((), (3, 8, 8), (3, 64, 64))] == [0, 0, 1]


def test_a_sample_that_cannot_be_read_ends_the_comparison_with_its_error() -> None:
    class Broken:
        parallel, count, labels, class_names, description = True, 30, None, (), "broken"

        def sample(self, number: int) -> dict[str, Any]:
            if number == 17:
                raise UsageError("sample 17 is broken")
            return {"data": images(1)[0]}

        def name(self, number: int) -> str:
            return str(number)

        def picture(self, number: int) -> None:
            return

    with pytest.raises(UsageError, match="sample 17 is broken"):
        compare(*pair(), Broken())


def test_halving_finds_the_first_blob_that_differs_in_few_runs() -> None:
    for blob, name, index in (
        ("conv1", "conv1_w", (4, 1, 0, 2)),
        ("conv2", "conv2_w", (3, 1, 0, 0)),
        ("fc", "fc_w", (2, 5)),
    ):
        faulty = change(classifier(), name, index, 3.0)
        report = compare(classifier(), faulty, images(40), bisect=True)
        assert (present(report.first_divergent).blob, present(report.first_divergent).layer) == (blob, blob)
        assert present(report.first_divergent).before == 0 < present(report.first_divergent).after
        assert [found.blob for found in report.outputs] == ["prob"]
        (note,) = [note for note in report.notes if "halving" in note]
        assert int(note.split()[-2]) <= 4  # of 7 blobs


def test_halving_judges_noise_by_the_range_of_each_sample_as_the_gate_does() -> None:
    """The samples of magnitude 1, 8 and 64 are one run; beside the largest, a shift of 1e-3 is 1e-5 of the range."""

    def net(shift: float) -> ModelProto:
        nodes = [
            helper.make_node("Relu", ["x"], ["front"], "front"),
            helper.make_node("Conv", ["front", "w", "b"], ["conv"], "conv"),
            helper.make_node("Abs", ["conv"], ["end"], "end"),
        ]
        weights = {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "b": np.array([0, shift, 0], np.float32)}
        return model(nodes, {"x": ("N", 3, 4, 4)}, ["end"], weights)

    report = compare(net(0), net(1e-3), bisect=True)
    assert not report.passed
    assert present(report.worst).max_rel < report.tolerance
    assert present(report.first_divergent).layer == "conv"


def branches(*wrong: str) -> ModelProto:
    """A branch of one convolution, which runs first, beside one of three; both are joined and read by a last one."""
    random, nodes, weights = np.random.default_rng(0), [], {}
    made = [("a1", "x", 3), ("b1", "x", 3), ("b2", "b1", 4), ("b3", "b2", 4), ("end", "cat", 8)]
    for name, read, channels in made:
        if name == "end":
            nodes.append(helper.make_node("Concat", ["a1", "b3"], ["cat"], "cat", axis=1))
        weights[f"{name}_w"] = random.normal(size=(4, channels, 1, 1)).astype(np.float32)
        weights[f"{name}_w"][0] *= 2 if name in wrong else 1
        nodes.append(helper.make_node("Conv", [read, f"{name}_w"], [name], name))
    return model(nodes, {"x": (2, 3, 4, 4)}, ["end"], weights)


@pytest.mark.parametrize("wrong", [["a1"], ["b2"], ["a1", "b2"], ["b1", "end"], ["b3"], ["end"]])
def test_halving_goes_on_where_a_branch_that_is_right_hid_the_first_blob_that_differs(wrong: list[str]) -> None:
    """Of a1, b1, b2, b3, cat and end with a wrong a1 the middle ones agree, and yet cat is not to blame."""
    found = compare(branches(), branches(*wrong), bisect=True).first_divergent
    assert (present(found).layer, present(found).blob) == (wrong[0], wrong[0])
    every = compare(branches(), branches(*wrong)).first_divergent
    assert (present(found).layer, present(found).suspects) == (present(every).layer, present(every).suspects)


def conditional(front: float = 1, shift: float = 0) -> ModelProto:
    """A convolution that only the body of an If reads, which adds a stored value to it."""
    found: ModelProto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 3, 4, 4] x) => (float[2, 2, 4, 4] y)
        <float[2, 3, 1, 1] w = {{{front}, 1, 1, 1, -1, 2}}, float[2, 1, 1] h = {{1, {1 + shift}}}> {{
            [front] front = Conv(x, w)
            [sum] sum = ReduceSum <keepdims = 0> (x)
            [on] on = Equal(sum, sum)
            [choice] y = If(on) <
                then_branch = t () => (float[2, 2, 4, 4] p) {{ p = Add(front, h) }},
                else_branch = e () => (float[2, 2, 4, 4] q) {{ q = Relu(front) }}>
        }}"""
    )
    return found


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("bisect", [False, True])
def test_what_the_body_of_an_if_reads_is_looked_at_before_the_if_is_named(bisect: bool) -> None:
    found = compare(conditional(), conditional(front=1.1), bisect=bisect).first_divergent
    assert (present(found).layer, present(found).blob) == ("front", "front")


@pytest.mark.usefixtures("in_one_process")
def test_an_if_whose_body_reads_stored_values_is_a_layer_with_weights() -> None:
    """Without any, an error of 2e-4 of its range might be rounding that it has made larger."""
    found = compare(conditional(), conditional(shift=0.01)).first_divergent
    assert present(found).layer == "choice"
    assert present(found).after < 1e-3


def test_nothing_is_sought_where_the_outputs_agree() -> None:
    report = compare(classifier(), classifier(), images(8), bisect=True)
    assert report.passed
    assert report.first_divergent is None
    assert not [note for note in report.notes if "halving" in note]


def test_the_report_says_where_the_networks_ran() -> None:
    data = as_data(RunReport(proofs=(compare(*pair(), images(4)),)))["comparisons"][0]
    assert data["reference_on"]["provider"] == data["candidate_on"]["provider"] == "cpu"
    assert compare(*pair(), images(4)).ran.startswith("Both networks ran on cpu (")


@pytest.mark.skipif(AZURE not in engine().get_available_providers(), reason="this onnxruntime has no other provider")
def test_the_report_names_the_nodes_that_a_provider_left_to_the_cpu() -> None:
    """The provider for services takes none."""
    one = model([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": (2, 3)}, ["y"])
    other = model([helper.make_node("LeakyRelu", ["x"], ["y"], "leaky", alpha=0.0)], {"x": (2, 3)}, ["y"])
    report = compare(one, other, provider=AZURE, reference_provider="cpu")
    assert present(report.candidate_on).fallback == ("LeakyRelu 'leaky'",)
    assert "1 node fell back to the CPU: LeakyRelu 'leaky')" in report.ran
    several = compare(*pair(), images(4), provider=AZURE)
    assert "7 nodes fell back to the CPU: Conv 'conv1', " in several.ran
    assert several.ran.endswith(" ..).")


def test_lists_do_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    from bnfold.compare import measure as measuring

    monkeypatch.setattr(measuring, "SAMPLES", 5)
    report = compare(*pair(), images(40))
    assert (len(report.samples), report.sample_count) == (5, 40)
    monkeypatch.setattr(measuring, "SAMPLES", 500)
    everything = compare(*pair(), images(40))
    worst = sorted(everything.samples, key=lambda sample: (-sample.max_rel, sample.sample))[:5]
    assert sorted(sample.sample for sample in worst) == [sample.sample for sample in report.samples]


def test_the_report_says_what_tf32_does(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engines.Engine.__init__

    def opened(self: engines.Engine, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        self.executions = [replace(self.executions[0], tf32=True), *self.executions[1:]]

    plain = compare(classifier(), classifier(), np.ones((2, 3, 8, 8)))
    monkeypatch.setattr(engines.Engine, "__init__", opened)
    found = compare(classifier(), classifier(), np.ones((2, 3, 8, 8)))
    assert not any("TF32" in note for note in plain.notes)
    assert any("with it 42 of 208 networks differed by more than 1e-4 on an H200" in note for note in found.notes)
    assert "with TF32" in found.ran


def test_a_plan_is_parted_in_time_that_grows_as_the_blobs_do() -> None:
    """Each segment of each piece of the data has its own."""

    def parted(count: int) -> Callable[[], MeasurePlan]:
        names = [f"blob{number}" for number in range(count)]
        plan = MeasurePlan({name: name for name in names}, BatchLayout({}, 2, batched=True), 1e-3)
        return lambda: plan.part(names, ((), ()))

    assert growth(parted(1000), parted(8000), below=24) < 24  # 64 if each name took as long as all of them


def test_processes_that_share_a_memory_have_the_same_part_of_it_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_memory", lambda: 1 << 20)
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 32)
    alone, shared = memory.memory_budget(1 << 30, 2), memory.memory_budget(1 << 30, 2, 4)
    assert alone is not None
    assert shared == alone - (3 << 28)
    assert memory.memory_budget(None, 2, 4) == 1 << 29
