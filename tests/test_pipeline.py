"""The golden path: records in, a record out, and the steps in an order that leaves nothing half-done."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from cases import by_onnxruntime, distance, golden
from present import present

import bnfold
from bnfold import pipeline
from bnfold.algebra import fold
from bnfold.algebra.records import Folded
from bnfold.caffe.write import prototxt_text
from bnfold.compare.comparison import compare
from bnfold.errors import ModelError, UsageError, WeightsError, WriteError
from bnfold.net import Blobs, Net
from bnfold.onnx import to_onnx
from bnfold.options import CompareOptions, OnnxOptions, ReadOptions
from bnfold.pipeline import Folding, Job, Reading, Writing
from bnfold.report.run import RunReport

CASE = golden("seed_resnet_bn_scale")


def job(*outputs: Path, name: str = CASE.name, writing: dict[str, object] | None = None, **options: object) -> Job:
    case = golden(name)
    return Job(
        Reading(case.prototxt, str(case.caffemodel)),
        Writing(outputs, **(writing or {})),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


def test_a_run_tells_what_was_read_folded_written_and_proven(tmp_path: Path) -> None:
    report = pipeline.run(job(tmp_path / "a.prototxt", tmp_path / "b.onnx"))
    assert len(present(report.original).layers) == 13
    assert report.folded is not None
    assert report.fold is not None
    assert len(report.folded.layers) == 7
    assert all(isinstance(record, Folded) for record in report.fold.records)
    assert report.written == (tmp_path / "a.prototxt", tmp_path / "a.caffemodel", tmp_path / "b.onnx")
    assert [proof.candidate for proof in report.proofs] == [str(tmp_path / "a.prototxt"), str(tmp_path / "b.onnx")]
    assert report.passed


def test_a_run_without_outputs_proves_the_net_in_memory() -> None:
    report = pipeline.run(job())
    assert report.written == ()
    assert len(report.proofs) == 1
    assert report.passed


def test_progress_is_told_for_every_output(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    pipeline.run(job(tmp_path / "a.prototxt", tmp_path / "b.onnx"), lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {f"comparing with {tmp_path / name}" for name in ("a.prototxt", "b.onnx")}
    for what in {what for what, _, _ in told}:
        steps = [(done, total) for name, done, total in told if name == what]
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_a_proof_sees_a_fault_in_the_file_and_not_in_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared is what was written: a writer that loses a weight is found out."""

    def broken(net: bnfold.Net, *args: object, **options: object) -> object:
        wrong = net.copy()
        layer = next(layer for layer in wrong.layers if layer.type == "Convolution")
        weight, *rest = (np.array(blob) for blob in layer.blobs)
        weight[2] *= 1.01
        layer.blobs = type(layer.blobs)([weight, *rest])
        return add_caffe(wrong, *args, **options)  # type: ignore[arg-type]

    from bnfold.caffe.write import add_caffe

    monkeypatch.setattr("bnfold.caffe.write.add_caffe", broken)
    report = pipeline.run(job(tmp_path / "a.prototxt"))
    assert not report.passed
    assert "differ" in report.proofs[0].verdict


def test_every_option_of_a_comparison_reaches_it(tmp_path: Path) -> None:
    data = np.random.default_rng(5).normal(size=(7, 3, 16, 16)).astype(np.float32)
    report = pipeline.run(job(tmp_path / "a.onnx", samples=data, comparing=CompareOptions(tolerance=0.0, layers=False)))
    (proof,) = report.proofs
    assert not proof.passed
    assert len(proof.samples) == 7
    assert [blob.blob for blob in proof.blobs] == ["res2a"]


def test_an_onnx_file_tells_its_sources_and_what_was_folded(tmp_path: Path) -> None:
    pipeline.run(job(tmp_path / "a.onnx"))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert metadata["source:net.caffemodel"].startswith("sha256:")
    assert metadata["folded"].split(",")[0] == "bn2a_branch1"


def test_an_onnx_file_of_an_onnx_file_keeps_what_that_one_told(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }'
    )
    model.metadata_props.add(key="answer", value="42")
    onnx.save(model, tmp_path / "a.onnx")
    pipeline.run(Job(Reading(tmp_path / "a.onnx"), Writing((tmp_path / "b.onnx",))))
    assert onnx.load(tmp_path / "b.onnx").metadata_props == model.metadata_props


def test_both_ways_of_writing_hold_the_same_network(tmp_path: Path) -> None:
    report = pipeline.run(job(tmp_path / "a.prototxt", tmp_path / "a.onnx"))
    read = CASE.load(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    from bnfold.runtime import Session

    (ours,) = by_onnxruntime(read, CASE.inputs).values()
    (theirs,) = Session(tmp_path / "a.onnx").run(CASE.inputs).values()
    assert distance(ours, theirs) == 0
    assert report.passed


def test_the_loaded_net_is_what_it_was(tmp_path: Path) -> None:
    before = CASE.load()
    report = pipeline.run(job(tmp_path / "a.prototxt"))
    assert prototxt_text(present(report.original)) == prototxt_text(before)
    for ours, theirs in zip(present(report.original).layers, before.layers, strict=True):
        for blob, other in zip(ours.blobs, theirs.blobs, strict=True):
            assert blob.tobytes() == other.tobytes()


def test_folding_the_folded_files_again_changes_no_byte(tmp_path: Path) -> None:
    pipeline.run(job(tmp_path / "a.prototxt"))
    reading = Reading(tmp_path / "a.prototxt", str(tmp_path / "a.caffemodel"))
    report = pipeline.run(Job(reading, Writing((tmp_path / "b.prototxt",))))
    assert report.fold is not None
    assert report.fold.records == []
    assert (tmp_path / "a.prototxt").read_bytes() == (tmp_path / "b.prototxt").read_bytes()
    assert (tmp_path / "a.caffemodel").read_bytes() == (tmp_path / "b.caffemodel").read_bytes()


def test_converting_keeps_every_byte_of_a_net_that_needs_no_change(tmp_path: Path) -> None:
    report = pipeline.export(
        Reading(CASE.prototxt, str(CASE.caffemodel)), Writing((tmp_path / "a.prototxt",)), "prototxt"
    )
    assert isinstance(report, RunReport)
    assert report.fold is None
    assert report.passed
    assert (tmp_path / "a.caffemodel").read_bytes() == CASE.caffemodel.read_bytes()
    assert (tmp_path / "a.prototxt").read_text().strip() == CASE.prototxt.read_text().strip()


def test_a_net_without_weights_needs_no_caffemodel(tmp_path: Path) -> None:
    case = golden("op_sigmoid")
    report = pipeline.run(Job(Reading(case.prototxt), Writing((tmp_path / "a.prototxt", tmp_path / "a.onnx"))))
    assert report.passed
    assert report.written == (tmp_path / "a.prototxt", tmp_path / "a.onnx")


def test_a_caffemodel_of_the_same_stem_that_was_not_written_is_not_read_back(tmp_path: Path) -> None:
    case = golden("op_sigmoid")
    (tmp_path / "a.caffemodel").write_bytes(b"of something else")
    assert pipeline.run(Job(Reading(case.prototxt), Writing((tmp_path / "a.prototxt",)))).passed


def test_a_zero_scale_factor_is_read_back_as_it_was_read(tmp_path: Path) -> None:
    case = golden("bn_scale_factor_zero")
    reading = Reading(case.prototxt, str(case.caffemodel), ReadOptions(zero_scale_factor="caffe"))
    assert pipeline.run(Job(reading, Writing((tmp_path / "a.prototxt",)), folding=Folding(exclude=("b",)))).passed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"comparing": CompareOptions(tolerance=-1.0)}, "the tolerance is -1; it must be 0 or more"),
        ({"samples": "nix.npz"}, "the data 'nix.npz' does not exist"),
        ({"samples": {"data": np.zeros((2, 3, 16, 17), np.float32)}}, "takes 1x3x16x16, and the data is 1x3x16x17"),
        ({"samples": {"data": np.zeros(768, np.float32)}}, "takes 1x3x16x16, and the data is one number each"),
        ({"samples": {"other": np.zeros((2, 3, 16, 16), np.float32)}}, "for input 'data' .*; call an array as the"),
        (
            {"comparing": CompareOptions(max_top1_drop=0.1)},
            "--max-top1-drop needs a classifier",
        ),
        ({"folding": Folding(keep=("nix",))}, "--keep nix: the network has no blob of that name"),
        ({"folding": Folding(exclude=("nix",))}, "--exclude nix: the network has no layer of that name"),
        ({"writing": {"onnx": OnnxOptions(opset=3)}}, "opset 3: known are 11 to 21"),
    ],
    ids=["tolerance", "no data", "other sizes", "no sizes", "other input", "no labels", "keep", "exclude", "opset"],
)
def test_what_cannot_be_done_stops_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        pipeline.run(job(tmp_path / "a.prototxt", tmp_path / "a.onnx", **wrong))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


ODD = 'layer { name: "odd" type: "Odd" bottom: "res2a" top: "odd" }'
BEHIND = 'layer { name: "behind" type: "ReLU" bottom: "odd" top: "odd" }'


def with_an_unknown_layer(tmp_path: Path) -> Reading:
    (tmp_path / "net.prototxt").write_text(CASE.prototxt.read_text() + ODD + BEHIND)
    return Reading(tmp_path / "net.prototxt", str(CASE.caffemodel))


def test_a_layer_that_cannot_be_run_leaves_the_rest_to_be_proved(tmp_path: Path) -> None:
    reading = with_an_unknown_layer(tmp_path)
    report = pipeline.run(Job(reading, Writing((tmp_path / "a.prototxt",)), comparing=CompareOptions(layers=True)))
    (proof,) = report.proofs
    assert proof.passed
    assert {"res2a", "odd"} <= {blob.blob for blob in proof.blobs}  # the ReLU behind it was run
    assert any(note.endswith("depends on what cannot: layer 'odd' (Odd)") for note in report.notes)
    assert ODD in (tmp_path / "a.prototxt").read_text()


def test_a_fault_in_front_of_a_layer_that_cannot_be_run_is_found(tmp_path: Path) -> None:
    original = pipeline.read(with_an_unknown_layer(tmp_path))
    faulty = fold(original).net
    layer = next(layer for layer in faulty.layers if layer.type == "Convolution")
    layer.blobs = Blobs([layer.blobs[0] * 1.5, *layer.blobs.stored[1:]])
    assert not compare(original, faulty).passed
    assert compare(original, fold(original).net).passed


def test_what_stands_behind_a_layer_that_cannot_be_run_and_is_another_is_not_proved() -> None:
    """What such a layer makes can be fed to both networks only where it is the same in both."""
    net = nets.net(
        """
        input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "a" type: "Convolution" bottom: "data" top: "a"
                convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "drop" type: "Python" bottom: "a" top: "drop" python_param { module: "m" layer: "Drop" } }
        layer { name: "bn" type: "Scale" bottom: "drop" top: "bn" }
        layer { name: "bn2" type: "Scale" bottom: "bn" top: "bn2" }
        layer { name: "side" type: "ReLU" bottom: "a" top: "side" }
    """,
        bn=[np.array([2, 3, 4, 5], np.float32)],
        bn2=[np.array([2, 3, 4, 5], np.float32)],
    )
    same = compare(net, net.copy())
    assert same.passed
    changed = net.copy()
    changed["bn2"].blobs = Blobs([np.array([9, 9, 9, 9], np.float32)])
    assert not compare(net, changed).passed
    data = {"data": np.random.default_rng(0).normal(0, 8, (3, 3, 8, 8)).astype(np.float32)}  # it need not bring 'drop'
    assert compare(net, net.copy(), data).passed
    assert not compare(net, changed, data).passed
    drop = deepcopy(changed["drop"].param)
    drop.python_param.param_str = "another"
    changed["drop"].param = drop
    report = compare(net, changed)
    assert not report.passed  # though 'side' is equal
    assert report.verdict.startswith("The networks differ: the candidate makes output 'bn2' by other settings or ")
    assert report.verdict.endswith("(1 of 2 outputs compared; 1 stands behind layer 'drop', which cannot be run).")
    alone = net.without([net.layers[-1]])
    assert compare(alone, alone.copy()).passed
    report = compare(alone, changed.without([changed.layers[-1]]))
    assert not report.passed
    assert report.verdict == (
        "The networks differ: no output was compared; neither noise nor --data reaches one, and fold --no-verify "
        "writes without a proof; the candidate makes output 'bn2' by other settings or weights, or of another blob "
        "(0 of 1 outputs compared; 1 stands behind layer 'drop', which cannot be run)."
    )


COPYING = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a"
            convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
    layer { name: "bn" type: "Scale" bottom: "a" top: "a" }
    layer { name: "split" type: "Split" bottom: "a" top: "unary" top: "first" }
    layer { name: "crf" type: "MultiStageMeanfield" bottom: "unary" bottom: "first" bottom: "data" top: "crf" }
    layer { name: "relu" type: "ReLU" bottom: "crf" top: "crf" }
    layer { name: "drop" type: "Dropout" bottom: "crf" top: "crf" }
    layer { name: "fc" type: "InnerProduct" bottom: "crf" top: "fc" inner_product_param { num_output: 2 axis: 3 } }
"""


@pytest.mark.parametrize("layers", [True, False])
def test_copies_that_folding_drops_around_what_cannot_be_run_leave_it_the_same(layers: bool) -> None:
    net = nets.net(
        COPYING, a=[np.arange(-50, 58, dtype=np.float32).reshape(4, 3, 3, 3)], bn=[np.full(4, 3, np.float32)]
    )
    fc = next(layer for layer in net.layers if layer.name == "fc")
    fc.blobs = Blobs([np.arange(12, dtype=np.float32).reshape(2, 6), np.ones(2, np.float32)])
    folded = bnfold.fold(net).net
    assert [layer.name for layer in folded.layers] == ["input", "a", "crf", "relu", "fc"]
    report = compare(net, folded, layers=layers)
    assert report.passed
    assert [blob.blob for blob in report.blobs] == ["a", "crf", "fc"] if layers else ["a", "fc"]
    for name, index, wrong in (("crf", 1, "data"), ("fc", 0, "a"), ("relu", 0, "a")):
        other = folded.copy()
        layer = next(layer for layer in other.layers if layer.name == name)
        layer.bottoms[index] = wrong
        assert not compare(net, other, layers=layers).passed, name


@pytest.mark.parametrize("layers", [True, False])
def test_saturated_values_that_are_read_by_what_cannot_be_run_hide_no_fault(layers: bool) -> None:
    text = COPYING.replace(
        'layer { name: "split"',
        'layer { name: "sigmoid" type: "Sigmoid" bottom: "a" top: "s" } layer { name: "split"',
    ).replace('bottom: "a" top: "unary"', 'bottom: "s" top: "unary"')
    sides = [nets.net(text, bn=[np.full(4, scale, np.float32)]) for scale in (1e6, 2e6)]
    assert compare(sides[0], sides[0].copy(), layers=layers).passed
    assert not compare(sides[0], sides[1], layers=layers).passed


def test_a_layer_that_only_one_network_cannot_run_is_named_with_the_reason() -> None:
    text = """
        input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
        layer { name: "odd" type: "Odd" bottom: "relu" top: "odd" }
        """
    both, one = nets.net(text), nets.net(text.replace("Odd", "TanH"))
    notes = compare(one, both).notes
    assert any(note.startswith("layer 'odd' cannot be run in the candidate alone: ") for note in notes)
    assert not [note for note in compare(both, both.copy()).notes if "cannot be run" in note]


def test_a_layer_behind_what_cannot_run_that_was_folded_away_does_not_run_in_the_folded_network() -> None:
    net = nets.net(
        """
        input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
        layer { name: "odd" type: "Odd" bottom: "relu" top: "odd" }
        layer { name: "conv" type: "Convolution" bottom: "odd" top: "conv"
                convolution_param { num_output: 4 kernel_size: 1 } }
        layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
    """,
        conv=[np.arange(-6, 6, dtype=np.float32).reshape(4, 3, 1, 1), np.arange(4, dtype=np.float32)],
        bn=[np.array(values, np.float32) for values in ([1, -2, 3, -4], [1, 2, 3, 4], [1])],
    )
    folded = bnfold.fold(net).net
    assert "bn" not in [layer.name for layer in folded.layers]
    assert not [note for note in compare(net, folded).notes if "cannot be run in the" in note]


def test_a_net_of_which_nothing_runs_is_folded_and_says_so(tmp_path: Path) -> None:
    text = 'layer { name: "odd" type: "Odd" bottom: "data" top: "odd" }'
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 } ' + text
    (tmp_path / "net.prototxt").write_text(text)
    reading = Reading(tmp_path / "net.prototxt", str(CASE.caffemodel))
    report = pipeline.run(Job(reading, Writing((tmp_path / "a.prototxt",))))
    (proof,) = report.proofs
    assert proof.passed  # by the same layers in both
    assert not proof.blobs
    assert proof.verdict == "The networks are the same to the last weight, so nothing had to be run."
    assert any("layer 'odd' (Odd)" in note for note in report.notes)


def test_one_output_that_cannot_be_written_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="there is no folder"):
        pipeline.run(job(tmp_path / "a.prototxt", tmp_path / "nix" / "a.onnx"))
    assert not list(tmp_path.iterdir())


def test_missing_weights_are_an_error_for_folding_and_none_for_inspecting(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no caffemodel was given, and 9 of its layers need weights"):
        pipeline.run(Job(Reading(CASE.prototxt), Writing((tmp_path / "a.prototxt",))))
    inspection = pipeline.inspect(Reading(CASE.prototxt), Folding())
    assert not inspection.has_weights
    assert inspection.fold.layers_after == 7


def test_inspecting_plans_what_folding_does() -> None:
    reading = Reading(CASE.prototxt, str(CASE.caffemodel))
    report = pipeline.run(Job(reading, verify=False))
    assert report.fold is not None
    assert pipeline.inspect(reading, Folding()).fold == report.fold


def test_branches_kept_apart_stay_apart_in_an_onnx_plan(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 13]> net (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float[1,1,1,1] a = {2.0}, float[1,1,1,1] b = {3.0}>
        { left = Conv(x, a)  right = Conv(x, b)  y = Add(left, right) }""")
    onnx.save(model, tmp_path / "net.onnx")
    reading = Reading(tmp_path / "net.onnx")
    assert pipeline.inspect(reading, Folding()).fold.layers_after == 1
    assert pipeline.inspect(reading, Folding(join=False)).fold.layers_after == 3


def test_several_caffemodels_are_joined_by_commas(tmp_path: Path) -> None:
    first, second = tmp_path / "one.caffemodel", tmp_path / "two,three.caffemodel"
    shutil.copy(CASE.caffemodel, first)
    shutil.copy(CASE.caffemodel, second)
    assert Reading(CASE.prototxt, str(second)).files == [CASE.prototxt, second]
    both = Reading(CASE.prototxt, f"{first}, {CASE.caffemodel}")
    assert both.files == [CASE.prototxt, first, CASE.caffemodel]
    assert pipeline.run(Job(both)).passed


def test_inspecting_names_every_guess_where_one_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "HDF5Data" top: "one" top: "two" }
        layer { name: "rows" type: "Reshape" bottom: "one" top: "rows" reshape_param { shape { dim: 0 dim: 7 } } }
        layer { name: "sum" type: "Eltwise" bottom: "rows" bottom: "two" top: "sum" }
    """)
    with pytest.raises(ModelError, match=r"cannot become 1x7; but input 'one' is taken as .* input 'two' is taken as "):
        pipeline.inspect(Reading(tmp_path / "net.prototxt"), Folding())


def test_inspecting_guesses_a_size_that_fits(tmp_path: Path) -> None:
    """A decoder that states its sizes fits one usual input alone."""
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "Data" top: "data" }
        layer { name: "half" type: "Pooling" bottom: "data" top: "half" top: "mask"
                pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "up" type: "Upsample" bottom: "half" bottom: "mask" top: "up"
                upsample_param { scale: 2 upsample_h: 360 upsample_w: 480 } }
        layer { name: "sum" type: "Eltwise" bottom: "up" bottom: "data" top: "sum" }
    """)
    inspection = pipeline.inspect(Reading(tmp_path / "net.prototxt"), Folding())
    assert inspection.net.inputs == {"data": (1, 3, 360, 480)}
    assert any("nothing says its shape" in note for note in inspection.net.notes)


def test_an_exact_run_that_fails_costs_its_column_and_not_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("cannot reshape")

    monkeypatch.setattr("onnx.reference.op_run.OpRun.run", fail)
    (proof,) = pipeline.run(job(comparing=CompareOptions(exact=True))).proofs
    assert proof.passed
    assert any("no exact column" in note and "cannot reshape" in note for note in proof.notes)
    assert all(blob.exact is None for blob in proof.blobs)


@pytest.mark.parametrize(
    ("call", "guess"),
    [
        (lambda net: compare(net, net, tolerence=1e-3), r" \(did you mean 'tolerance'\?\)$"),
        (lambda net: to_onnx(net, opzet=17), r" \(did you mean 'opset'\?\)$"),
        (lambda net: to_onnx(net, half=True), "; there are opset, outputs, dtype, "),
        (lambda net: compare(net, net, atol=1e-3), r" \(did you mean 'tolerance'\?\)$"),
        (lambda net: compare(net, net, device="cuda"), r" \(did you mean 'provider'\?\)$"),
        (lambda net: compare(net, net, data="images/"), r" \(did you mean 'samples'\?\)$"),
        (lambda net: compare(net, net, limit=3), r" \(did you mean 'sample_limit'\?\)$"),
        (lambda net: to_onnx(net, images=3), "; there are opset, outputs, dtype, "),
        (lambda net: bnfold.load(CASE.prototxt, images=3), "; there are input_shapes, batch, "),
        (lambda net: to_onnx(net, atol=3), "; there are opset, outputs, dtype, "),
    ],
)
def test_an_option_that_does_not_exist_is_a_sentence(call: Callable[[Net], object], guess: str) -> None:
    with pytest.raises(UsageError, match=rf"there is no option '\w+'{guess}"):
        call(pipeline.read(Reading(CASE.prototxt, str(CASE.caffemodel))))


def test_keywords_replace_fields_of_the_options_record() -> None:
    net = pipeline.read(Reading(CASE.prototxt, str(CASE.caffemodel), ReadOptions(batch=3)), batch=5)
    assert {shape[0] for shape in net.inputs.values()} == {5}
    assert to_onnx(net, options=OnnxOptions(opset=11), opset=13).opset_import[0].version == 13


def test_a_large_source_is_hashed_where_that_is_asked_for_and_its_size_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = CASE.caffemodel.stat().st_size
    monkeypatch.setattr("bnfold.pipeline.MAX_HASHED", size - 1)
    told = {}
    for asked in (False, True):
        pipeline.run(job(tmp_path / "a.onnx", writing={"hash_sources": asked}))
        told[asked] = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert told[False]["source:net.caffemodel"] == f"{size} bytes"
    assert told[False]["source:net.prototxt"].startswith("sha256:")
    digest = hashlib.sha256(CASE.caffemodel.read_bytes()).hexdigest()
    assert told[True]["source:net.caffemodel"] == f"sha256:{digest}"
