"""Pixels are those that OpenCV gives, with which Caffe reads and resizes images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnfold.data.pixels import Kind, decoded, kind_of, resized
from bnfold.errors import UsageError

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


def test_colours_of_the_lab_space_become_grey() -> None:
    image = Image.new("LAB", (3, 2), (128, 90, 200))
    np.testing.assert_array_equal(decoded(image, grey=True), decoded(image.convert("RGB"), grey=True))


def test_values_of_more_than_sixteen_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 16 bits"):
        decoded(Image.fromarray(np.full((2, 2), 1 << 20, np.int32)), True)
    with pytest.raises(UsageError, match="no whole numbers"):
        decoded(Image.fromarray(np.zeros((2, 2), np.float32)), True)


@pytest.mark.parametrize("size", [(1_000_000, 1_000_000), (30_000, 30_000)])
def test_a_size_that_no_memory_holds_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"resizing to \d+x\d+ makes more than 67,108,864 pixels"):
        resized(np.zeros((8, 8), np.uint8), size)
