"""The whole road on public networks: their outputs stay those of a real Caffe, folded and unfolded, and in their files.

The files are other people's, so they are read where they lie, in ../shared, and are no part of this repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import reference
from cases import DEEP_TOLERANCE, TOLERANCE, ZOO, Array, Case, assert_answers, by_onnxruntime, distance

import bnfold
from bnfold import pipeline
from bnfold.errors import BnfoldError
from bnfold.net import Net

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason="needs the zoo in ../shared")

AFFINES_LEFT = {
    "published/cvgj_resnet10_deploy": 2,
    "published/darknet19_deploy": 0,
    "published/densenet121": 62,
    "published/inception-resnet-v2": 0,
    "published/inception-v3": 0,
    "published/inception-v4": 0,
    "published/lj_vggnet_bn_deploy": 0,
    "published/mobilenet_ssd_deploy": 0,
    "published/mobilenet_v1_shicai": 0,
    "published/mobilenet_v2_shicai": 0,
    "published/opencv_res10_face_300": 2,
    "published/resnet101": 0,
    "published/resnet101-v2": 33,
    "published/resnet50": 0,
    "published/resnext26-32x4d-priv": 0,
    "published/segnet_sun_low_res": 0,
    "published/senet_se_resnet50": 0,
    "published/xception": 0,
    "trained/arm_cifar10_m4": 0,
    "trained/htshinichi_test": 0,
    "trained/hyperlpr_finemapping": 0,
    "trained/lenet_v1_leinxx": 0,
    "trained/lj_captcha_resnet20": 0,
    "trained/lj_resnet": 0,
    "trained/lj_resnet20_b": 42,
    "trained/minivision_widerface_retinaface": 0,
    "trained/mtcnn_det1_relu": 6,
    "trained/mtcnn_fast_det1_bn": 0,
    "trained/retinaface_mnet_deconv_0517": 0,
    "trained/ssrnet_aoru45": 0,
    "trained/vgg68_landmarks": 0,
    "trained/wechat_qr_detect": 0,
    "trained/wechat_qr_sr": 0,
    "trained/yolo_mbv2_nano_voc": 0,
    "trained/yoloface100k": 0,
    "trained/yoloface50k": 0,
}
"""Every network with a real Caffe's outputs, and how many BatchNorm, BN and Scale layers stay in it, with a reason."""

UNANSWERED = {"hyperlpr_finemapping_fp16", "vgg68_landmarks_merged_by_peer", "vitis_espnet_encoder"}

# Untrained and deep, so that rounding is amplified: two float32 programs differ by more, and so do two nets of which
# one has folded weights. Against float64, Caffe's own outputs are wrong by as much.
DEEP = {"inception-v3", "inception-v4", "resnet101"}
FOLDED_TOLERANCE: Mapping[str, float] = {"inception-v4": 3e-4}
# Answers that are indices: a rounding may decide between two equal scores, so the scores behind them are compared.
SCORES = {"segnet_sun_low_res": "conv1_1_D"}


@dataclass(frozen=True)
class Road:
    """One network and what became of it."""

    name: str
    case: Case
    folder: Path

    @cached_property
    def net(self) -> Net:
        return self.case.load()

    @cached_property
    def folded(self) -> bnfold.FoldResult:
        return bnfold.fold(self.net)

    @cached_property
    def before(self) -> dict[str, Array]:
        return by_onnxruntime(self.net, self.case.inputs)

    @cached_property
    def after(self) -> dict[str, Array]:
        return by_onnxruntime(self.folded.net, self.case.inputs)

    @cached_property
    def files(self) -> Path:
        """The prototxt of the folded net."""
        path = self.folder / f"{self.case.name}.prototxt"
        bnfold.save_caffe(self.folded.net, path)
        return path

    @property
    def tolerance(self) -> float:
        return DEEP_TOLERANCE if self.case.name in DEEP else TOLERANCE

    def assert_as_caffe(self, outputs: Mapping[str, Array]) -> None:
        answers = self.case.answers
        if self.case.name in SCORES:
            assert_best_scores(self.case, outputs, answers)
        else:
            assert_answers(outputs, answers, self.tolerance)


@pytest.fixture(scope="module", params=AFFINES_LEFT, ids=lambda name: name.partition("/")[2])
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Road:
    name: str = request.param
    return Road(name, Case(ZOO / name), tmp_path_factory.mktemp("zoo"))


def assert_best_scores(case: Case, outputs: Mapping[str, Array], answers: Mapping[str, Array]) -> None:
    """Where we choose another class than Caffe did, an exact run must find both as good as each other."""
    scores = reference.load(case.prototxt, case.caffemodel).run(case.inputs)[SCORES[case.name]]
    for name, answer in answers.items():
        ours = np.take_along_axis(scores, outputs[name].astype(int), 1)
        theirs = np.take_along_axis(scores, answer.astype(int), 1)
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.ptp(scores), name


def test_a_network_as_it_is_answers_as_caffe_did(road: Road) -> None:
    road.assert_as_caffe(road.before)


def test_a_folded_network_answers_as_caffe_did_and_as_the_unfolded_one(road: Road) -> None:
    road.assert_as_caffe(road.after)
    if road.case.name not in SCORES:
        assert_answers(road.after, road.before, FOLDED_TOLERANCE.get(road.case.name, 1e-4))


def test_folded_files_answer_as_caffe_did(road: Road) -> None:
    road.assert_as_caffe(
        by_onnxruntime(road.case.load(road.files, road.files.with_suffix(".caffemodel")), road.case.inputs)
    )


def test_no_more_affines_stay_than_listed(road: Road) -> None:
    left = [layer.name for layer in road.folded.net.layers if layer.type in ("BatchNorm", "BN", "Scale")]
    kept = {record.layer: record.reason for record in road.folded.report.kept}
    two_bottoms = [layer.name for layer in road.folded.net.layers if layer.type == "Scale" and len(layer.bottoms) == 2]
    assert len(left) - len(two_bottoms) == AFFINES_LEFT[road.name], kept
    assert set(left) - set(two_bottoms) <= set(kept)


def test_no_network_of_the_zoo_is_left_out() -> None:
    found = {path.parent.name for path in ZOO.glob("*/*/net.prototxt")}
    assert found == {name.partition("/")[2] for name in AFFINES_LEFT} | UNANSWERED


def test_our_fold_of_vgg68_landmarks_agrees_with_a_peers_merge() -> None:
    case, peer = Case(ZOO / "trained/vgg68_landmarks"), Case(ZOO / "trained/vgg68_landmarks_merged_by_peer")
    ours = bnfold.fold(case.load()).net
    theirs = peer.load()
    assert_answers(by_onnxruntime(ours, case.inputs), by_onnxruntime(theirs, case.inputs), 1e-5)
    learned = {layer.name: layer.blobs for layer in ours.layers if layer.blobs}
    assert learned.keys() == {layer.name for layer in theirs.layers if layer.blobs}
    for layer in theirs.layers:
        for blob, other in zip(learned.get(layer.name, ()), layer.blobs, strict=True):
            assert distance(blob, other.reshape(blob.shape)) < 1e-5, layer.name


def test_half_precision_weights_are_those_of_the_single_precision_twin() -> None:
    case = Case(ZOO / "trained/hyperlpr_finemapping")
    net = Case(ZOO / "trained/hyperlpr_finemapping_fp16").load()
    assert_answers(by_onnxruntime(net, case.inputs), case.answers, 5e-4)  # halves: 2^-11


def test_vitis_batch_norms_fold_by_their_own_layout() -> None:
    case = Case(ZOO / "trained/vitis_espnet_encoder")
    net = bnfold.load(case.prototxt, case.caffemodel, input_shapes={"data": (1, 3, 64, 128)})
    folded = bnfold.fold(net)
    data = {"data": np.random.default_rng(1).normal(size=(1, 3, 64, 128))}
    oracle = reference.load(case.prototxt, case.caffemodel)
    blobs = oracle.run(data)
    truth = {name: blobs[name] for name in oracle.outputs}
    assert_answers(by_onnxruntime(net, data), truth, TOLERANCE)
    assert_answers(by_onnxruntime(folded.net, data), truth, TOLERANCE)
    assert not [layer for layer in folded.net.layers if layer.type == "BatchNorm"]


def test_batch_norms_that_follow_their_batch_stay_and_say_why() -> None:
    kept = list(bnfold.fold(Case(ZOO / "trained/lj_resnet20_b").load()).report.kept)
    following = [record for record in kept if record.type == "BatchNorm"]
    assert len(following) == 21
    assert all("use_global_stats is false" in record.reason for record in following)
    assert all("--assume-global-stats" in record.reason for record in following)


def test_assumed_global_statistics_fold_to_what_caffe_computes_with_them(tmp_path: Path) -> None:
    case = Case(ZOO / "trained/lj_resnet20_b")
    folded = bnfold.fold(case.load(), assume_global_stats=True)
    assert not [layer for layer in folded.net.layers if layer.type in ("BatchNorm", "Scale")]
    (note,) = [note for note in folded.report.notes if "--assume-global-stats" in note]
    assert note.startswith("21 layers, the first of them layer ")
    text = case.prototxt.read_text(encoding="utf-8")
    (tmp_path / "net.prototxt").write_text(text.replace("use_global_stats: False", "use_global_stats: true"))
    oracle = reference.load(tmp_path / "net.prototxt", case.caffemodel)
    blobs = oracle.run(case.inputs, input_shapes=case.input_shapes)
    truth = {name: blobs[name] for name in oracle.outputs}
    assert_answers(by_onnxruntime(folded.net, case.inputs), truth, TOLERANCE)


PROTOTXTS = sorted(path.stem for path in ZOO.glob("prototxt/*.prototxt"))

REFUSED = {
    "googlenet_bn_lim0606_deploy": "3102:1: `layers` \\(V1\\) in a file with 300 `layer`",
    "intel_resnet50_int8": "computes in integers",
    "pvanet_train": "reads 'rois', which only layer 'roi-data' makes, and that one is not in the TEST net",
}
"""The published prototxts that are broken or beyond every dialect, and what is said of them."""


@pytest.mark.parametrize("name", PROTOTXTS)
def test_every_published_prototxt_is_planned_or_refused_in_a_sentence(name: str) -> None:
    reading = pipeline.Reading(ZOO / "prototxt" / f"{name}.prototxt")
    if name in REFUSED:
        with pytest.raises(BnfoldError, match=REFUSED[name]):
            pipeline.inspect(reading, pipeline.Folding())
        return
    inspection = pipeline.inspect(reading, pipeline.Folding())
    assert not inspection.has_weights
    assert inspection.fold.layers_before == len(inspection.net.layers)
    assert all(record.reason for record in inspection.fold.kept)


def test_every_published_prototxt_is_there() -> None:
    assert len(PROTOTXTS) == 104
    assert set(PROTOTXTS) >= REFUSED.keys()
