"""Pixels are those that OpenCV gives, with which Caffe reads and resizes images."""

from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnfold.data.datasets import Files
from bnfold.data.decoding import decode
from bnfold.data.pixels import ORIENTATION, Kind, decoded, kind_of, resized
from bnfold.data.preparation import Preparation
from bnfold.errors import UsageError
from bnfold.net import Shape

SIZES = [
    ((480, 640), (224, 224)),
    ((100, 80), (50, 40)),  # halved: OpenCV takes means
    ((100, 80), (50, 41)),
    ((64, 64), (16, 16)),
    ((7, 9), (256, 255)),
    ((1, 1), (4, 3)),
    ((5, 1), (2, 7)),
]


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resizing_is_opencvs_bit_for_bit(
    before: tuple[int, int], after: tuple[int, int], shape: tuple[int, ...]
) -> None:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (*before, *shape), np.uint8)
    np.testing.assert_array_equal(resized(pixels, after), cv2.resize(pixels, after[::-1]))


def test_sixteen_bits_are_scaled_to_eight_as_opencv_does(tmp_path: Path) -> None:
    import cv2

    values = np.random.default_rng(1).integers(0, 1 << 16, (9, 7), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = Image.open(tmp_path / "deep.png")
    assert kind_of(image) == Kind((9, 7), False, True)
    theirs = cv2.imread(str(tmp_path / "deep.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(decoded(image, True), theirs)
    np.testing.assert_array_equal(decoded(image, False), cv2.imread(str(tmp_path / "deep.png")))


def test_transparency_and_palettes_are_read_as_opencv_reads_them(tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(0, 256, (6, 5, 4), np.uint8), "RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).quantize(9).save(tmp_path / "palette.png")
    for name in ("alpha.png", "palette.png"):
        np.testing.assert_array_equal(
            decoded(Image.open(tmp_path / name), False), cv2.imread(str(tmp_path / name)), err_msg=name
        )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_turned_by_their_orientation_as_opencv_does(tmp_path: Path, suffix: str, orientation: int) -> None:
    cv2 = pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)).save(path, exif=exif, lossless=True)
    read = cv2.imread(str(path))
    assert read.shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    assert np.array_equal(decoded(Files([path], tmp_path).load(0), grey=False), read)
    kind = Files([path], tmp_path).kind(0)
    assert (kind.size, kind.turned) == (read.shape[:2], orientation > 1)
    assert (orientation > 1) == ("turned as their EXIF orientation says" in Preparation().done([kind]))
    # Caffe decodes records of an LMDB unchanged.
    record = path.read_bytes()
    unchanged = cv2.imdecode(np.frombuffer(record, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded(decode(BytesIO(record), path, "1"), grey=False), unchanged)


@pytest.mark.parametrize("exif", [b"Exif\0\0nothing", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_damaged_orientation_is_none(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (24, 16)).save(tmp_path / "damaged.jpg", exif=exif)
    assert Files([tmp_path / "damaged.jpg"], tmp_path).load(0).size == (24, 16)


def test_colours_of_the_lab_space_become_grey() -> None:
    image = Image.new("LAB", (3, 2), (128, 90, 200))
    np.testing.assert_array_equal(decoded(image, grey=True), decoded(image.convert("RGB"), grey=True))


def test_values_of_more_than_sixteen_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 16 bits"):
        decoded(Image.fromarray(np.full((2, 2), 1 << 20, np.int32)), True)
    with pytest.raises(UsageError, match="no whole numbers"):
        decoded(Image.fromarray(np.zeros((2, 2), np.float32)), True)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3)])
def test_values_of_sixteen_bits_are_no_pixels_to_resize_and_stay_where_they_fit(shape: Shape) -> None:
    values = np.arange(300, 300 + prod(shape), dtype=np.uint16).reshape(shape)
    assert resized(values, (2, 3)) is values
    with pytest.raises(UsageError, match="no pixels of 8 bits"):
        resized(values, (3, 2))


@pytest.mark.parametrize("size", [(1_000_000, 1_000_000), (30_000, 30_000)])
def test_a_size_that_no_memory_holds_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"resizing to \d+x\d+ makes more than 67,108,864 pixels"):
        resized(np.zeros((8, 8), np.uint8), size)
