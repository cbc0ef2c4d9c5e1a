"""A comparison that goes on from a file, and the files that it does not go on from."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
from compare.hostile_samples import Hostile
from compare.small_pair import images, models, said
from onnx_models import change, classifier

import bnfold
from bnfold.compare import checkpoint, engine, matched
from bnfold.compare.checkpoint import plain, restored
from bnfold.compare.comparison import Comparison, compare
from bnfold.compare.measure import Measurement
from bnfold.compare.records import DiffReport
from bnfold.data.preparation import Preparation
from bnfold.data.samples import Samples
from bnfold.errors import BnfoldError, UsageError
from bnfold.net import Array
from bnfold.options import CompareOptions

PREPARED = """
layer {
  name: "images" type: "ImageData" top: "data" top: "label"
  transform_param { mean_file: "mean.npy" }
  image_data_param { source: "list.txt" batch_size: 1 new_height: 8 new_width: 8 }
}
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
"""


class Steady:
    """One and the same value in every sample."""

    description, labels, class_names = "steady", None, ()

    def __init__(self, count: int, value: float) -> None:
        self.count, self.value = count, value

    def sample(self, number: int) -> dict[str, Array]:
        return {"data": np.full((3, 8, 8), self.value, np.float32)}

    def name(self, number: int) -> str:
        return str(number)

    def picture(self, number: int) -> Array | None:
        return None


def test_a_comparison_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    pair, marker, file = models(tmp_path), tmp_path / "raised", tmp_path / "state.json"
    data = Hostile(150, marker, kill=False)
    with pytest.raises(RuntimeError, match="the disk is gone") as stopped:
        compare(*pair, data, batch=2, checkpoint=file)
    kept = f"4 of 7 pieces were done; '{file}' has them, and the same comparison goes on from it"
    assert stopped.value.__notes__ == [kept]
    assert json.loads(file.read_text())["pieces"] == 4
    measured: list[range] = []
    real = engine.Engine.measure

    def measure(self: engine.Engine, data: Samples, piece: range, *more: Any) -> list[Measurement]:
        measured.append(piece)
        return real(self, data, piece, *more)

    monkeypatch.setattr(engine.Engine, "measure", measure)
    resumed = compare(*pair, data, batch=2, checkpoint=file)
    assert [piece.start for piece in measured] == [64, 80, 96]
    assert said(resumed) == said(compare(*pair, data, batch=2))


@pytest.mark.parametrize(("every", "kept"), [(0.0, [0, 1, 2, 3]), (3600.0, [0])])
def test_the_state_is_written_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float, kept: list[int]
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", every)
    file, seen = tmp_path / "state.json", []

    def progress(*_step: int) -> None:
        seen.append(json.loads(file.read_text())["pieces"])

    compare(*models(tmp_path), images(128), batch=2, checkpoint=file, progress=progress)
    assert sorted(set(seen)) == kept


@pytest.mark.parametrize(("full", "kept"), [((1, 2, 3, 4, 5), 0), ((3, 4, 5), 2), ((1, 2), 4)])
def test_a_disk_that_is_full_by_then_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: tuple[int, ...], kept: int
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    pair, file, times = models(tmp_path), tmp_path / "state.json", []
    real = Path.write_text

    def write_text(path: Path, text: str, **options: Any) -> int:
        times.append(path)
        written = real(path, text, **options)
        if len(times) - 1 in full:
            raise OSError(28, "No space left on device")
        return written

    monkeypatch.setattr(Path, "write_text", write_text)
    report = compare(*pair, images(128), batch=2, checkpoint=file)
    lost = f"the checkpoint '{file}' cannot be written: No space left on device, so it has {kept} of the 4 pieces"
    assert (lost in report.notes) == (kept < 4)
    assert json.loads(file.read_text())["pieces"] == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.onnx", "state.json", "theirs.onnx"]
    resumed = compare(*pair, images(128), batch=2, checkpoint=file)
    assert said(resumed) == said(compare(*pair, images(128), batch=2))

    times.clear()
    with pytest.raises(RuntimeError, match="the disk is gone") as stopped:
        compare(*pair, Hostile(150, tmp_path / "raised", kill=False), batch=2, checkpoint=tmp_path / "other.json")
    said_lost = f"4 of 7 pieces were done; {lost}".replace("state.json", "other.json")
    assert (stopped.value.__notes__ == [said_lost]) == (kept < 4)


def test_a_checkpoint_is_not_gone_on_from_by_code_that_rounds_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(matched, "worthwhile", bool)
    pair, file = models(tmp_path), tmp_path / "state.json"
    compare(*pair, images(), checkpoint=file)
    compare(*pair, images(), checkpoint=file)
    monkeypatch.setattr(matched, "worthwhile", lambda _values: False)  # as where there is no numba
    with pytest.raises(UsageError, match=r"\(different: use of numba\); resume the same one"):
        compare(*pair, images(), checkpoint=file)


def test_a_checkpoint_of_another_comparison_is_refused(tmp_path: Path) -> None:
    pair, file = models(tmp_path), tmp_path / "state.json"
    compare(*pair, images(), checkpoint=file)
    with pytest.raises(UsageError, match=r"another comparison \(different: options\)"):
        compare(*pair, images(), checkpoint=file, tolerance=1e-5)
    with pytest.raises(UsageError, match=r"another comparison \(different: data\)"):
        compare(*pair, images() + 1, checkpoint=file)
    with pytest.raises(UsageError, match=r"\(different: data, options, batch\)"):  # and the models do not
        compare(*pair, images(), checkpoint=file, sample_limit=3, batch=2)
    with pytest.raises(UsageError, match=r"\(different: model 'candidate'\)"):
        compare(pair[0], change(classifier(), "conv2_w", (3, 1, 0, 0), 2e-3), images(), checkpoint=file)


def picture(tmp_path: Path) -> Path:
    """A folder with one."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(folder / "a.png")
    return folder


def test_a_checkpoint_of_images_prepared_in_another_way_is_refused(tmp_path: Path) -> None:
    folder, file = picture(tmp_path), tmp_path / "state.json"
    mean = np.zeros((3, 40, 40), np.float32)
    pair = models(tmp_path)
    compare(*pair, folder, checkpoint=file, preparation=Preparation(mean, resize=(40, 40), crop=(8, 8)))
    compare(*pair, folder, checkpoint=file, preparation=Preparation(mean.copy(), resize=(40, 40), crop=(8, 8)))
    mean[:, 18:22, 18:22] = 50
    with pytest.raises(UsageError, match=r"another comparison \(different: data, options\)"):
        compare(*pair, folder, checkpoint=file, preparation=Preparation(mean, resize=(40, 40), crop=(8, 8)))


def test_a_checkpoint_of_a_mean_file_that_changed_is_refused(tmp_path: Path) -> None:
    """The prototxt, which says the mean, is the same."""
    folder, file = picture(tmp_path), tmp_path / "state.json"
    net = nets.net(PREPARED)
    text = tmp_path / "net.prototxt"
    bnfold.save_caffe(net, text)
    text.write_text(PREPARED)
    for value in (0, 50):
        mean = np.zeros((3, 8, 8), np.float32)
        mean[:, 3:5, 3:5] = value
        np.save(tmp_path / "mean.npy", mean)
        if value:
            with pytest.raises(UsageError, match=r"another comparison \(different: data\)"):
                compare(text, text, folder, checkpoint=file)
        else:
            compare(text, text, folder, checkpoint=file)


def bitmaps(folder: Path, planes: Array) -> Path:
    """Images whose files have one size, whatever is on them."""
    from PIL import Image

    (folder / "bitmaps").mkdir(exist_ok=True)
    for number, plane in enumerate(planes):
        Image.fromarray(plane.transpose(1, 2, 0)).save(folder / "bitmaps" / f"{number}.bmp")
    return folder / "bitmaps"


def database(folder: Path, planes: Array) -> Path:
    """An LMDB of raw records."""
    pytest.importorskip("lmdb")
    from data.test_lmdb import datum, write

    shutil.rmtree(folder / "lmdb", ignore_errors=True)
    return write(folder / "lmdb", {f"{number:08}": datum(plane) for number, plane in enumerate(planes)})


def table(folder: Path, planes: Array) -> Path:
    """A list of one HDF5 file."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "rows.h5", "w") as file:
        file["data"] = planes
    (folder / "rows.txt").write_text("rows.h5\n")
    return folder / "rows.txt"


@pytest.mark.parametrize("written", [bitmaps, database, table])
def test_data_of_other_values_is_refused_though_its_files_have_the_same_size_and_time(
    tmp_path: Path, written: Callable[[Path, Array], Path]
) -> None:
    pair, file = models(tmp_path), tmp_path / "state.json"
    planes = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 8), np.uint8)

    def compared(**options: int) -> DiffReport:
        place = written(tmp_path, planes)
        for path in (place, *place.rglob("*"), tmp_path / "rows.h5"):
            if path.exists():
                os.utime(path, (1e9, 1e9))
        return compare(*pair, place, checkpoint=file, **options)  # type: ignore[arg-type]

    first = compared(sample_limit=5)
    planes[5] ^= 1  # which nobody reads
    assert said(compared(sample_limit=5)) == said(first)
    planes[4, 1, 3, 3] ^= 1
    with pytest.raises(UsageError, match=r"another comparison \(different: data\)"):
        compared(sample_limit=5)


def test_samples_of_the_callers_own_are_told_apart_by_their_values(tmp_path: Path) -> None:
    pair, file = models(tmp_path), tmp_path / "state.json"
    compare(*pair, Steady(8, 1.0), checkpoint=file)
    compare(*pair, Steady(8, 1.0), checkpoint=file)
    with pytest.raises(UsageError, match=r"another comparison \(different: data\)"):
        compare(*pair, Steady(8, 2.0), checkpoint=file)


def test_a_checkpoint_holds_the_batch_that_another_budget_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    pair = classifier(batch="N"), change(classifier(batch="N"), "conv1_w", (4, 1, 0, 2), 3.0)
    monkeypatch.setattr(engine, "memory_budget", lambda *_: 60_000)
    first = compare(*pair, images(), checkpoint=file)
    assert first.blobs[0].shape[0] < 8
    state = json.loads(file.read_text())
    for size in (1_000, 1 << 30):
        monkeypatch.setattr(engine, "memory_budget", lambda *_, size=size: size)
        again = compare(*pair, images(), checkpoint=file)
        assert said(again) == said(first)
    assert json.loads(file.read_text()) == state


def test_a_memory_that_is_too_little_is_refused_where_a_checkpoint_is_gone_on_from_too(tmp_path: Path) -> None:
    pair, path = models(tmp_path), tmp_path / "state"
    compare(*pair, images(), batch=2, checkpoint=path)
    with pytest.raises(UsageError, match=r"^1M is too little memory: comparing these networks takes at least"):
        compare(*pair, images(), batch=2, checkpoint=path, memory=1 << 20)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"schema": "other"}', '{"schema": "bnfold-checkpoint-7"}', "\0", "[" * 9_000]
)
def test_a_file_that_is_no_checkpoint_is_a_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    with pytest.raises(BnfoldError, match="is no checkpoint of a comparison"):
        compare(*models(tmp_path), images(), checkpoint=file)


@pytest.mark.parametrize("changed", [{"pieces": 1}, {"pieces": math.inf}, {"found": []}, {"found": [1]}, {"more": 1}])
def test_a_checkpoint_that_was_changed_is_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    pair, file = models(tmp_path), tmp_path / "state.json"
    compare(*pair, images(), batch=2, checkpoint=file)
    state = json.loads(file.read_text())
    file.write_text(json.dumps(state | changed))
    with pytest.raises(BnfoldError, match="is no checkpoint of a comparison"):
        compare(*pair, images(), batch=2, checkpoint=file)


def test_a_place_where_no_checkpoint_can_be_is_found_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.Engine, "measure", None)
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        compare(*models(tmp_path), images(), checkpoint=tmp_path / "none" / "state.json")


def test_a_measurement_survives_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = models(tmp_path)
    opened = Comparison(pair[0], images(), CompareOptions(), labels=np.arange(200) % 5)
    kept: list[Measurement] = []
    real = Comparison._pass_over

    def pass_over(*given: Any) -> list[Measurement]:
        kept.extend(real(*given))
        return kept

    monkeypatch.setattr(Comparison, "_pass_over", pass_over)
    opened.against(pair[1])
    again = restored(json.loads(json.dumps(plain(kept))))
    assert plain(again) == plain(kept)
