"""The whole road on every golden: read, fold, write, read back; the outputs stay those that a real Caffe gave."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import reference
from cases import TOLERANCE, Case, assert_answers, by_onnxruntime, distance, golden, goldens

import bnfold
from bnfold.caffe.batchnorm import AmbiguousZeroFactor
from bnfold.net import Net


@dataclass(frozen=True, slots=True)
class Road:
    """One golden and what became of it."""

    case: Case
    net: Net
    folded: bnfold.FoldResult
    prototxt: Path

    @property
    def caffemodel(self) -> Path:
        return self.prototxt.with_suffix(".caffemodel")


@pytest.fixture(scope="module", params=goldens())
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Road:
    case = golden(request.param)
    net = case.load()
    folded = bnfold.fold(net)
    prototxt = tmp_path_factory.mktemp(case.name) / "folded.prototxt"
    bnfold.save_caffe(folded.net, prototxt)
    return Road(case, net, folded, prototxt)


@pytest.mark.parametrize("name", goldens())
def test_what_is_kept_with_a_reason_holds_no_file_until_garbage_is_collected(name: str) -> None:
    """A reason that is caught far from where it arose must not hold the frames in between, and their weights."""
    gc.disable()
    try:
        case = golden(name)
        net = case.load(case.prototxt, case.caffemodel)  # anew: no other has its file
        result = bnfold.fold(net)
        file = weakref.ref(net.origin.weights[0].buffer)
        del net, result
        assert file() is None
    finally:
        gc.enable()


def test_a_net_as_it_is_answers_through_onnx_as_caffe_did(road: Road) -> None:
    assert_answers(by_onnxruntime(road.net, road.case.inputs), road.case.answers, TOLERANCE)


def test_a_folded_net_answers_through_onnx_as_caffe_did(road: Road) -> None:
    assert_answers(by_onnxruntime(road.folded.net, road.case.inputs), road.case.answers, TOLERANCE)


def test_folded_files_read_back_answer_through_onnx_as_caffe_did(road: Road) -> None:
    net = road.case.load(road.prototxt, road.caffemodel)
    assert_answers(by_onnxruntime(net, road.case.inputs), road.case.answers, TOLERANCE)


def test_folded_files_answer_in_the_oracle_as_caffe_did(road: Road) -> None:
    net = reference.load(road.prototxt, road.caffemodel)
    blobs = net.run(road.case.inputs)
    assert_answers({name: blobs[name] for name in net.outputs}, road.case.answers, TOLERANCE)


def test_files_written_without_folding_answer_in_the_oracle_as_caffe_did(road: Road, tmp_path: Path) -> None:
    bnfold.save_caffe(road.net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    net = reference.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    blobs = net.run(road.case.inputs)
    assert_answers({name: blobs[name] for name in net.outputs}, road.case.answers, TOLERANCE)


def test_every_blob_name_that_survives_keeps_its_value(road: Road) -> None:
    before = reference.load(road.case.prototxt, road.case.caffemodel).run(road.case.inputs)
    after = reference.load(road.prototxt, road.caffemodel).run(road.case.inputs)
    survivors = before.keys() & after.keys()
    assert survivors >= road.case.answers.keys()
    # The weights were rounded to float32 once.
    far = {name: distance(after[name], before[name]) for name in survivors}
    assert max(far.values()) < 2e-6, far


@pytest.mark.parametrize("use", [bnfold.fold, bnfold.to_onnx])
def test_what_a_zero_scale_factor_means_is_the_users_choice(use: Callable[[Net], object]) -> None:
    case = golden("bn_scale_factor_zero")
    net = bnfold.load(case.prototxt, case.caffemodel)
    with pytest.raises(AmbiguousZeroFactor, match=r"scale factor is 0 .* --zero-scale-factor"):
        use(net)
