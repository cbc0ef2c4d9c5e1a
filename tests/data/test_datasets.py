"""What `--data` may name: folders, lists, arrays; and what it may not."""

import os
import pickle
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import h5py
import numpy as np
import pytest
from onnx_models import change, classifier
from PIL import Image
from present import present

from bnfold import compare
from bnfold.compare.memory import resident_memory
from bnfold.data import arrays as arrays_of_files
from bnfold.data.arrays import read_arrays
from bnfold.data.datasets import open_samples
from bnfold.data.preparation import Preparation
from bnfold.data.samples import Arrays, Feed, Noise, Part, Subset, input_misfit, part_of, picture_of
from bnfold.data.standins import FLAG, Indices
from bnfold.errors import ParseError, UsageError
from bnfold.net import Array, sizes

FEEDS = {"data": Feed((2, 3, 4, 5), np.dtype(np.float32))}


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)).save(path)


def test_a_folder_of_images_has_no_classes(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.BMP"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    samples = open_samples(tmp_path, FEEDS)
    assert samples.count == 3
    assert samples.labels is None
    assert [samples.name(number) for number in range(3)] == ["a.jpg", "b.png", "c.BMP"]
    assert samples.sample(0)["data"].shape == (3, 4, 5)
    assert present(samples.picture(0)).shape == (8, 10, 3)
    assert "3 images" in samples.description
    assert samples.description == f"3 images of {tmp_path}, 8x10 resized to 4x5"


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for place, name in enumerate(("dog/x.png", "cat/y.png", "cat/deep/z.png")):
        save(tmp_path / name, place)
    samples = open_samples(tmp_path, FEEDS, Preparation(scale=2))
    assert list(samples.class_names) == ["cat", "dog"]
    assert present(samples.labels).tolist() == [0, 0, 1]
    assert [samples.name(number) for number in range(3)] == ["cat/deep/z.png", "cat/y.png", "dog/x.png"]
    assert "times 2" in samples.description


def test_a_sub_folder_without_images_is_no_class(tmp_path: Path) -> None:
    for name in ("10/a.png", "2/c.png"):
        save(tmp_path / name)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").touch()
    samples = open_samples(tmp_path, FEEDS)
    assert present(samples.labels).tolist() == [2, 10]
    (tmp_path / "10").rename(tmp_path / "cat")
    samples = open_samples(tmp_path, FEEDS)
    assert (present(samples.labels).tolist(), list(samples.class_names)) == ([0, 1], ["2", "cat"])
    assert f"2 images of {tmp_path} (without images, so no class: 'annotations'), 8x10" in samples.description
    (tmp_path / "annotations").rename(tmp_path / "dogs")  # behind the classes it moves none
    assert f"2 images of {tmp_path}, 8x10" in open_samples(tmp_path, FEEDS).description
    save(tmp_path / "stray.png")  # one that was left there, and all classes are gone
    said = f"1 image of {tmp_path} (its sub-folders with images passed over: '2', 'cat'), 8x10"
    assert said in open_samples(tmp_path, FEEDS).description


def test_a_folder_of_all_but_images_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.data.datasets.MOST_OTHERS", 3)
    for number in range(3):
        save(tmp_path / "cat" / f"{number}.png")
    for number in range(3):
        (tmp_path / "cat" / f"{number}.txt").touch()
    assert open_samples(tmp_path, FEEDS).count == 3
    for number in range(4):
        (tmp_path / "cat" / f"folder{number}").mkdir()
    with pytest.raises(
        UsageError, match=r"cat' has more than [3-6] entries that are no images; give the folder of the im"
    ):
        open_samples(tmp_path, FEEDS)


def test_a_folder_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    for word in ("exists", "iterdir"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, word, refused)
            with pytest.raises(UsageError, match=f"^the data '{tmp_path}' cannot be read: Permission denied"):
                open_samples(tmp_path, FEEDS)


def test_a_folder_below_a_class_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    for name in ("cat/a.png", "cat/locked/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 6)).save(tmp_path / name)
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UsageError, match=r"the folder '.*locked' cannot be read: Permission denied"):
        open_samples(tmp_path, FEEDS)


def test_numbered_sub_folders_are_the_labels_themselves(tmp_path: Path) -> None:
    for name in ("10/a.png", "9/b.png", "2/c.png"):
        save(tmp_path / name)
    samples = open_samples(tmp_path, FEEDS)
    assert present(samples.labels).tolist() == [2, 9, 10]
    assert list(samples.class_names) == []


def test_a_list_has_paths_from_its_own_folder_and_labels_after_the_last_space(tmp_path: Path) -> None:
    save(tmp_path / "some images" / "a b.png")
    save(tmp_path / "c.png")
    (tmp_path / "list.txt").write_text("some images/a b.png 3\n\nc.png 1\n")
    samples = open_samples(tmp_path / "list.txt", FEEDS)
    assert present(samples.labels).tolist() == [3, 1]
    assert samples.name(0) == "some images/a b.png"
    (tmp_path / "plain.txt").write_text("c.png\n")
    assert open_samples(tmp_path / "plain.txt", FEEDS).labels is None
    (tmp_path / "broken.txt").write_text("c.png 1\nmissing.png 2\n")
    with pytest.raises(ParseError, match=r"broken\.txt:2: the file 'missing\.png' does not exist"):
        open_samples(tmp_path / "broken.txt", FEEDS)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("pictures/a.png 1", " in the folder of the list, where its paths start"),
        ("a.png,1", "; a line is `path label`, with a space between"),
        ("a.png\t1", "; a line is `path label`, with a space between"),
        ("a.png;1", "; a line is `path label`, with a space between"),
        ("0.1 0.2 0.3", "; a line is `path label`, with a space between"),
        ("b.png 1", "; paths start in the folder of the list"),
    ],
)
def test_a_list_whose_files_are_not_found_is_told_how_its_lines_are_read(
    line: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "pictures/a.png")
    (tmp_path / "pictures/list.txt").write_text(line, encoding="utf-8")
    with pytest.raises(ParseError, match=rf"list.txt:1: the file '{line.removesuffix(' 1')}' does not exist{hint}$"):
        open_samples(Path("pictures/list.txt"), FEEDS)


@pytest.mark.parametrize(
    ("label", "kind"), [(np.array(["cat", "dog"]), "text"), (np.array([1j, 2]), "complex numbers")]
)
def test_labels_that_are_no_numbers_are_refused_by_the_name_of_their_array(
    label: Any, kind: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", data=np.ones((2, 3, 4, 5), np.float32), label=label)
    with pytest.raises(ParseError, match=rf"d\.npz: 'label' in it holds {kind} and not real numbers"):
        open_samples(tmp_path / "d.npz", FEEDS)


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png 3\n", encoding="utf-8-sig")
    assert present(open_samples(tmp_path / "list.txt", FEEDS).labels).tolist() == [3]


def test_the_lines_of_a_list_end_where_files_say_and_not_within_a_name(tmp_path: Path) -> None:
    names = ["a\u2028b.png", "c\x85d.png", "e.png", "f.png"]
    for name in names:
        save(tmp_path / name)
    lines = [f"{name} {place}" for place, name in enumerate(names)]
    (tmp_path / "list.txt").write_bytes("\n".join(lines[:2]).encode() + b"\r\n" + "\r".join(lines[2:]).encode())
    samples = open_samples(tmp_path / "list.txt", FEEDS)
    assert [samples.name(number) for number in range(samples.count)] == names
    assert present(samples.labels).tolist() == [0, 1, 2, 3]


def test_arrays_are_found_by_the_inputs_name_or_because_there_is_one(tmp_path: Path) -> None:
    data = np.zeros((5, 3, 4, 5), np.float32)
    np.savez(tmp_path / "a.npz", data=data, label=np.arange(5))
    np.savez(tmp_path / "b.npz", images=data, labels=np.arange(5)[:, None])
    np.save(tmp_path / "c.npy", data)
    for name in ("a.npz", "b.npz", "c.npy"):
        samples = open_samples(tmp_path / name, FEEDS)
        assert samples.count == 5
        assert list(samples.sample(0)) == ["data"]
    assert present(open_samples(tmp_path / "b.npz", FEEDS).labels).tolist() == [0, 1, 2, 3, 4]
    assert present(open_samples(tmp_path / "a.npz", FEEDS, labels=np.ones(5)).labels).tolist() == [1] * 5


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("name", ["label", "labels", "y", "target", "targets"])
def test_labels_have_the_same_names_in_either_kind_of_file(tmp_path: Path, suffix: str, name: str) -> None:
    data, classes = np.zeros((5, 3, 4, 5), np.float32), np.arange(5)
    write(tmp_path / f"a{suffix}", {"data": data, name: classes, "weights": classes + 9})
    samples = open_samples(tmp_path / f"a{suffix}", FEEDS)
    assert present(samples.labels).tolist() == classes.tolist()
    assert list(samples.sample(0)) == ["data"]
    both = FEEDS | {name: Feed((2,), np.dtype(np.int64))}
    assert open_samples(tmp_path / f"a{suffix}", both).labels is None  # it is an input


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_labels_that_are_given_go_first_and_those_of_the_file_are_not_read(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a{suffix}", {"data": np.zeros((5, 3, 4, 5), np.float32), "target": np.array([b"x"] * 5)})
    samples = open_samples(tmp_path / f"a{suffix}", FEEDS, labels=np.ones(5))
    assert present(samples.labels).tolist() == [1] * 5


def test_data_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_samples(tmp_path / "nowhere", FEEDS)
    with pytest.raises(UsageError, match=r"^there is no image in '.*': no name ends in \.bmp, "):
        open_samples(tmp_path, FEEDS)
    (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"neither a folder.*; save it as an \.npz"):
        open_samples(tmp_path / "bytes.bin", FEEDS)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        open_samples(tmp_path / "empty.txt", FEEDS)
    (tmp_path / "bad.npz").write_bytes(b"PK no")
    with pytest.raises(ParseError, match=r"bad\.npz"):
        open_samples(tmp_path / "bad.npz", FEEDS)
    np.savez(tmp_path / "other.npz", x=np.ones(2), y2=np.ones(2))
    with pytest.raises(
        UsageError, match=r"nothing for input 'data' \(it has 'x', 'y2'\); call an array as the input is called$"
    ):
        open_samples(tmp_path / "other.npz", FEEDS)
    np.savez(tmp_path / "uneven.npz", data=np.ones((4, 3, 4, 5)), label=np.ones(3))
    with pytest.raises(UsageError, match="there are 4 samples and 3 labels"):
        open_samples(tmp_path / "uneven.npz", FEEDS)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((7, 4, 5, 3), ": its channels stand last; give data.transpose(0, 3, 1, 2)"),
        ((4, 5, 3), ": it is one image whose channels stand last; give data.transpose(2, 0, 1)[None]"),
        ((3, 4, 5), ": it has no axis of channels; give (N, C, H, W), of one image data[None]"),
        ((7, 1, 4, 5), ": it is grey; give each plane 3 times, data.repeat(3, axis=1)"),
        ((7, 4, 4, 5), ": its images have four planes; without the last it is data[:, :3]"),
        ((7, 3, 8, 8), "; --input-shape sets another size for a net of a prototxt"),
        ((7, 2, 8, 8), ""),
        ((7, 60, 2), ""),
    ],
)
def test_of_an_array_in_another_layout_it_is_said_what_makes_it_fit(shape: tuple[int, ...], remedy: str) -> None:
    said = input_misfit("data", (1, 3, 4, 5), (1, *shape[1:]))
    assert said == f"input 'data' takes 1x3x4x5, and the data is {sizes((1, *shape[1:]))}{remedy}"
    if expression := re.search(r"data(\.\w+\(.*\)|\[).*$", remedy):
        made = eval(expression[0], {"data": np.zeros(shape)})
        assert made.shape[1:] == (3, 4, 5)


@pytest.mark.parametrize("wanted", [(2, 3), (None, 3, None), (1, 1, 4, 5)])
def test_where_a_shape_tells_nothing_no_layout_is_guessed(wanted: tuple[int | None, ...]) -> None:
    assert input_misfit("data", wanted, (5, 6, 7)) == f"input 'data' takes {sizes(wanted)}, and the data is 5x6x7"


def test_one_number_is_no_array_of_samples() -> None:
    with pytest.raises(UsageError, match=r"^given arrays: 'data' is one number; give an array of samples$"):
        Arrays({"data": np.zeros(())})


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(ParseError, match=r"bad\.png: cannot be read as an image"):
        open_samples(tmp_path, FEEDS).sample(0)
    save(tmp_path / "bad.png")
    small = {"data": Feed((1, 3, 4, 5), np.dtype(np.float32))}
    with pytest.raises(UsageError, match=r"bad\.png: the crop leaves 9x9, and the input takes 4x5; see --crop 4,5$"):
        open_samples(tmp_path, small, Preparation(crop=(9, 9))).sample(0)


def test_images_need_one_input_with_planes(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="one input"):
        open_samples(tmp_path, FEEDS | {"info": Feed((1, 3), np.dtype(np.float32))})
    with pytest.raises(UsageError, match=r"not \(N, C, H, W\) of images"):
        open_samples(tmp_path, {"data": Feed((1, 7), np.dtype(np.float32))})
    with pytest.raises(UsageError, match=r"not \(N, C, H, W\) of images"):
        open_samples(tmp_path, {"data": Feed((1, 3, None, 5), np.dtype(np.float32))})


def test_noise_is_signed_seeded_and_the_same_for_every_batch_size() -> None:
    noise = Noise({"data": ((3, 40, 50), None), "index": ((6,), Indices(4))}, 6, seed=5)
    first = noise.sample(2)
    np.testing.assert_array_equal(first["data"], noise.sample(2)["data"])
    assert not np.array_equal(first["data"], noise.sample(5)["data"])
    assert not np.array_equal(first["data"], Noise(noise.feeds, 6, seed=6).sample(2)["data"])
    for number, scale in ((0, 1), (1, 8), (2, 64), (3, 1)):
        values = noise.sample(number)["data"]
        assert values.std() == pytest.approx(scale, rel=0.05)
        assert abs(values.mean()) < 0.05 * scale
    assert set(np.concatenate([noise.sample(n)["index"] for n in range(6)])) <= {0, 1, 2, 3}


def test_a_picture_is_red_green_blue_and_stretched() -> None:
    planes = np.zeros((3, 2, 2), np.float32)
    planes[2] = 50  # red in Caffe's order
    planes[0] = -50
    picture = picture_of(planes)
    assert present(picture)[0, 0].tolist() == [255, 128, 0]
    assert present(picture_of(np.zeros((1, 2, 2)))).shape == (2, 2, 3)
    assert picture_of(np.zeros((2, 2, 2))) is None
    assert picture_of(np.full((1, 2, 2), np.nan)) is None
    assert present(Arrays({"data": planes[None]}).picture(0)).shape == (2, 2, 3)


def test_the_data_line_says_what_is_done_to_the_pixels(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "c.png")
    done = "16 bits scaled to 8 (1 of 3); grey in all planes (2 of 3); 4x5 to 20x30 resized to 4x5"
    assert open_samples(tmp_path, FEEDS).description == f"3 images of {tmp_path}, {done}"
    one = {"data": Feed((1, 1, 4, 5), np.dtype(np.float32))}
    done = "16 bits scaled to 8 (1 of 3); colours made grey (1 of 3); 4x5 to 20x30 resized to 4x5"
    assert open_samples(tmp_path, one).description == f"3 images of {tmp_path}, {done}"
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    assert open_samples(tmp_path, one).description.endswith(", 16 bits scaled to 8")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "c.png")
    assert open_samples(tmp_path, one).description.endswith(", pixels as they are, 0..255")


def test_images_behind_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"nothing")
    assert open_samples(tmp_path, FEEDS, part=Part(3)).description.endswith("8x10 resized to 4x5 (of the first 3)")
    with pytest.raises(ParseError, match=r"d\.png: cannot be read as an image"):
        open_samples(tmp_path, FEEDS)


@pytest.mark.parametrize("label", ["--5", "9" * 5000, "5.0", "+5"])
def test_a_label_that_is_no_number_of_usual_size_is_refused(tmp_path: Path, label: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(f"a.png 1\na.png {label}\n")
    with pytest.raises(ParseError, match=r"list\.txt:2: the label '.*' of 'a\.png' is no whole number") as caught:
        open_samples(tmp_path / "list.txt", FEEDS)
    assert len(str(caught.value)) < 400


def test_an_image_that_a_link_no_longer_leads_to_is_not_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ParseError, match=r"b\.png: cannot be read: it is a symbolic link to \S+gone"):
        open_samples(tmp_path, FEEDS)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    for name in ("fifo", "fifo.npz", "fifo.txt", "fifo.mdb", "fifo.h5"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ParseError, match="is not a regular file"):
            open_samples(tmp_path / name, FEEDS)
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.raises(UsageError, match="no image"):
        open_samples(tmp_path, FEEDS)
    (tmp_path / "list.txt").write_text("fifo.png 1\n")
    with pytest.raises(ParseError, match=r"the file 'fifo\.png' is not a regular file"):
        open_samples(tmp_path / "list.txt", FEEDS)


def test_arrays_that_no_input_takes_are_not_unpacked(tmp_path: Path) -> None:
    # 3 GB of zeros in 3 MB, written in pieces.
    with ZipFile(tmp_path / "bomb.npz", "w", ZIP_DEFLATED) as archive:
        for name, array in (("data", np.zeros((2, 3, 4, 5), np.float32)), ("label", np.arange(2))):
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
        with archive.open("other.npy", "w", force_zip64=True) as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": (750_000_000,)}
            np.lib.format.write_array_header_1_0(stream, header)
            for _ in range(30):  # a hundredth of it: reading it would end in an error
                stream.write(bytes(1_000_000))
    tracemalloc.start()
    samples = open_samples(tmp_path / "bomb.npz", FEEDS)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert (samples.count, present(samples.labels).tolist()) == (2, [0, 1])
    with ZipFile(tmp_path / "big.npz", "w", ZIP_DEFLATED) as archive, archive.open("data.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, header | {"shape": (2, 375_000_000)})
    with pytest.raises(UsageError, match=r"big\.npz: input 'data' takes [0-9x]+, and the data is 2x375000000$"):
        open_samples(tmp_path / "big.npz", FEEDS)


def test_of_packed_arrays_no_more_rows_are_unpacked_than_are_asked_for(tmp_path: Path) -> None:
    data = np.arange(1.0, 61.0).reshape(5, 3, 4)
    np.savez_compressed(tmp_path / "x.npz", data=data, column=np.asfortranarray(data))
    found = read_arrays(tmp_path / "x.npz", rows=(0, 1))
    assert found["data"].shape == data.shape
    np.testing.assert_array_equal(found["data"][:2], data[:2])
    assert not found["data"][2:].any()
    np.testing.assert_array_equal(found["column"], data)
    np.save(tmp_path / "x.npy", data)
    for name, key in (("x.npz", "data"), ("x.npy", "")):
        array = read_arrays(tmp_path / name, rows=(0, 2, 3))[key]
        np.testing.assert_array_equal(array, data * np.reshape([1, 0, 1, 1, 0], (5, 1, 1)))
    one: dict[str, Any] = {"data": data, "same": data[:1], "shorter": data[:3]}
    np.savez_compressed(tmp_path / "y.npz", **one)
    found = read_arrays(tmp_path / "y.npz", rows=(2, 4))
    assert found["same"].tolist() == [data[0].tolist()]
    assert found["shorter"].tolist() == [[[0.0] * 4] * 3] * 2 + [data[2].tolist()]


@pytest.mark.parametrize("part", [Part(20), Part(2, 1)])
def test_a_comparison_of_some_samples_unpacks_nothing_behind_them(tmp_path: Path, part: Part) -> None:
    images = np.random.default_rng(0).normal(size=(500, 3, 8, 8)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", data=images)
    numbers = present(part.numbers(500))
    assert numbers[-1] < 400
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[-30_000:-1000] = bytes(29_000)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ParseError, match="is damaged"):
        compare(classifier(), classifier(), tmp_path / "x.npz")
    chosen: dict[str, Any] = {"sample_limit": part.most, "sample_seed": part.seed}
    report = compare(classifier(), change(classifier(), "fc_b", (0,), 0.5), tmp_path / "x.npz", **chosen)
    assert report.sample_count == part.most
    again = compare(classifier(), change(classifier(), "fc_b", (0,), 0.5), images[list(numbers)])
    assert [sample.max_abs for sample in report.samples] == [sample.max_abs for sample in again.samples]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory that is held is read there")
def test_rows_of_a_mapped_array_are_held_no_longer_than_they_are_used(tmp_path: Path) -> None:
    with open(tmp_path / "x.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (9, 1 << 21)})
        stream.truncate(stream.tell() + (9 << 23))
    samples = Arrays({"data": read_arrays(tmp_path / "x.npy")[""]})
    before = resident_memory()
    assert not any(samples.sample(number)["data"].any() for number in range(9))
    assert resident_memory() - before < 5 << 23


def test_labels_that_are_too_many_are_not_read(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.npz", "w", ZIP_DEFLATED) as archive:
        with archive.open("data.npy", "w") as stream:
            np.lib.format.write_array(stream, np.zeros((2, 3, 4, 5), np.float32))
        with archive.open("label.npy", "w") as stream:
            header = {"descr": "<i8", "fortran_order": False, "shape": (750_000_000,)}
            np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(UsageError, match="there are 2 samples and 750,000,000 labels"):
        open_samples(tmp_path / "a.npz", FEEDS)


@pytest.mark.parametrize("mapped", [0, 1 << 26])
def test_arrays_come_back_as_they_were_saved(tmp_path: Path, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_of_files, "MAPPED", mapped)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "a": np.asfortranarray(rng.normal(size=(3, 4, 5))),
        "b": rng.normal(size=(2, 2)).astype(">f4"),
        "c": rng.integers(0, 2, 7).astype(bool),
        "d": np.zeros((0, 3), np.float16),
        "e": np.array(5),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    np.save(tmp_path / "z.npy", arrays["a"])
    np.testing.assert_array_equal(read_arrays(tmp_path / "z.npy")[""], arrays["a"], strict=True)
    np.savez_compressed(tmp_path / "y.npz", **arrays)
    for name in ("x.npz", "y.npz"):
        for key, array in read_arrays(tmp_path / name).items():
            np.testing.assert_array_equal(array, arrays[key], strict=True)
        assert list(read_arrays(tmp_path / name, {"b"})) == ["b"]


def test_a_part_is_the_first_samples_or_any_by_a_seed() -> None:
    whole = Arrays({"data": np.arange(20.0).reshape(10, 2)}, np.arange(10) * 3, ("a", "b"))
    first = part_of(whole, 4, None)
    assert (first.count, present(first.labels).tolist()) == (4, [0, 3, 6, 9])
    assert first.description == "the first 4 of 10 samples of given arrays"
    chosen = part_of(whole, 4, 7)
    assert isinstance(chosen, Subset)
    numbers = list(chosen.numbers)
    assert numbers == sorted(set(numbers)) != [0, 1, 2, 3]
    assert [chosen.name(place) for place in range(4)] == [str(number) for number in numbers]
    assert chosen.sample(2)["data"].tolist() == [2.0 * numbers[2], 2.0 * numbers[2] + 1]
    assert present(chosen.labels).tolist() == [3 * number for number in numbers]
    assert chosen.class_names == ("a", "b")
    again, other = part_of(whole, 4, 7), part_of(whole, 4, 8)
    assert isinstance(again, Subset)
    assert isinstance(other, Subset)
    assert again.numbers == chosen.numbers != other.numbers
    assert chosen.description == "4, chosen by seed 7, of 10 samples of given arrays"
    assert pickle.loads(pickle.dumps(chosen)).numbers == chosen.numbers
    assert part_of(whole, 10, 7) is whole
    assert part_of(whole, 1, None).sample(0)["data"].tolist() == [0, 1]
    with pytest.raises(UsageError, match="a limit of 0 leaves no sample"):
        part_of(whole, 0, None)
    with pytest.raises(UsageError, match="say how many with --limit"):
        part_of(whole, None, 7)


def test_two_rows_are_two_samples_and_one_goes_with_all() -> None:
    given = Arrays({"data": np.arange(4.0).reshape(2, 2), "shape": np.full((1, 2), 7.0)})
    assert [given.sample(place)["data"].tolist() for place in range(2)] == [[0, 1], [2, 3]]
    assert [given.sample(place)["shape"].tolist() for place in range(2)] == [[7, 7]] * 2


def test_a_switch_is_off_and_on_in_turn_and_flags_are_drawn() -> None:
    feeds = {"data": ((2,), None), "training": ((1,), FLAG), "other": ((), FLAG), "mask": ((40,), FLAG)}
    noise = Noise(feeds, 4, seed=3)
    drawn = [noise.sample(place) for place in range(4)]
    assert [sample["training"].tolist() for sample in drawn] == [[0], [1], [0], [1]]
    assert [sample["other"].tolist() for sample in drawn] == [1, 0, 1, 0]
    assert all(set(sample["mask"].tolist()) == {0, 1} for sample in drawn)
    assert Noise(feeds, 4).sample(0)["training"].tolist() == [1], "seed 0 where none is given"


def test_files_of_a_relative_path_are_found_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images" / "cats").mkdir(parents=True)
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "images" / "cats" / "a.png")
    write(tmp_path / "rows.h5", {"data": np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)})
    monkeypatch.chdir(tmp_path)
    for place, last in (("images", 0), ("rows.h5", 1)):
        here = open_samples(place, FEEDS)
        before = here.sample(last)["data"]
        travelling = pickle.dumps(here)
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir("/")
            there = pickle.loads(travelling)
            assert np.array_equal(there.sample(last)["data"], before)
            assert before.any()
            assert (there.name(last), there.description) == (here.name(last), here.description)


def test_names_of_a_list_do_not_depend_on_who_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has whole paths, by which files of such a path would lie in the list's folder there alone."""
    for name in ("set/a.png", "set/deep/b.png", "c.png"):
        save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Path("set/list.txt").write_text(f"a.png 1\n{tmp_path}/set/deep/b.png 0\n../c.png 2\n", encoding="utf-8")
    here = open_samples("set/list.txt", FEEDS)
    there = pickle.loads(pickle.dumps(here))
    names = [here.name(number) for number in range(3)]
    assert names == [there.name(number) for number in range(3)] == ["a.png", "deep/b.png", "../c.png"]


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_grey_input_gets_a_jpeg_as_opencv_reads_it(tmp_path: Path, subsampling: int) -> None:
    """Its brightness alone; colours made grey are up to 6 levels away."""
    import cv2

    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=60, subsampling=subsampling)
    theirs = present(cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_GRAYSCALE))
    coloured = np.asarray(Image.open(tmp_path / "a.jpg").convert("L"))
    assert np.abs(theirs.astype(int) - coloured).max() > 1
    for channels, forced in ((1, False), (3, True)):
        feeds = {"data": Feed((1, channels, 40, 50), np.dtype(np.float32))}
        samples = open_samples(tmp_path, feeds, Preparation(grey=forced))
        np.testing.assert_array_equal(samples.sample(0)["data"], np.broadcast_to(theirs, (channels, 40, 50)))
        assert np.ptp(present(samples.picture(0)), axis=2).max() > 0
