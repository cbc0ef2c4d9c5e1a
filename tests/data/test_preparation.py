"""From an image to an input: the order of the steps and of the planes, as Caffe's data layers have them."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from present import present

import bnfold
from bnfold.data.preparation import Preparation, from_net, from_words, read_mean, read_mean_file
from bnfold.errors import ParseError, UsageError
from bnfold.options import CompareOptions


def image(height: int = 4, width: int = 6, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_planes_are_blue_green_red_in_0_to_255() -> None:
    pixels = np.asarray(image())
    planes = Preparation().planes(image(), 3, (4, 6))
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes, pixels[:, :, ::-1].transpose(2, 0, 1))
    swapped = Preparation(swap_channels=True).planes(image(), 3, (4, 6))
    np.testing.assert_array_equal(swapped, pixels.transpose(2, 0, 1))


def test_it_agrees_with_opencv_which_caffe_reads_images_with(tmp_path: Path) -> None:
    import cv2

    image(20, 30).save(tmp_path / "a.png")
    theirs = cv2.imread(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(Preparation().planes(image(20, 30), 3, (20, 30)), present(theirs).transpose(2, 0, 1))
    grey = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE)
    ours = Preparation().planes(image(20, 30), 1, (20, 30))[0]
    assert np.abs(ours - grey).max() <= 1  # both round 0.299 R + 0.587 G + 0.114 B, in different fixed point


def test_the_mean_goes_before_the_scale() -> None:
    planes = Preparation(mean=np.array([104, 117, 123.0]), scale=0.5).planes(image(), 3, (4, 6))
    listed = Preparation(mean=(104, 117, 123), scale=0.5).planes(image(), 3, (4, 6))
    np.testing.assert_array_equal(listed, planes)
    pixels = np.asarray(image())[:, :, ::-1].transpose(2, 0, 1).astype(float)
    np.testing.assert_allclose(planes, (pixels - np.array([104, 117, 123.0])[:, None, None]) * 0.5)


def test_settings_are_equal_by_their_values_whatever_holds_the_mean() -> None:
    one = Preparation(mean=[1, 2, 3], scale=2, crop=(4, 4))
    same = Preparation(mean=np.array([1.0, 2, 3]), scale=2.0, crop=(4, 4))
    assert (one == same, hash(one) == hash(same), one != Preparation()) == (True, True, True)
    assert CompareOptions(preparation=one) == CompareOptions(preparation=same)
    others = [Preparation(mean, scale, crop=(4, 4)) for mean, scale in (([1, 2], 2), ([1, 2, 4], 2), ([1, 2, 3], 1))]
    assert not [other for other in others if other == one]


def test_the_middle_is_cropped_of_the_image_and_of_the_mean_alike() -> None:
    mean = np.random.default_rng(1).normal(size=(3, 7, 9)).astype(np.float32)
    planes = Preparation(mean=mean, crop=(4, 4)).planes(image(7, 9), 3, (4, 4))
    pixels = np.asarray(image(7, 9))[:, :, ::-1].transpose(2, 0, 1)[:, 1:5, 2:6]
    np.testing.assert_allclose(planes, pixels - mean[:, 1:5, 2:6], rtol=1e-6)


def test_an_image_is_resized_to_what_the_input_takes() -> None:
    assert Preparation().planes(image(30, 40), 3, (5, 7)).shape == (3, 5, 7)
    assert Preparation(resize=(10, 10), crop=(8, 8)).planes(image(30, 40), 3, (8, 8)).shape == (3, 8, 8)


def test_a_grey_input_gets_one_plane_and_forced_grey_equal_ones() -> None:
    assert Preparation().planes(image(), 1, (4, 6)).shape == (1, 4, 6)
    planes = Preparation(grey=True).planes(image(), 3, (4, 6))
    np.testing.assert_array_equal(planes[0], planes[2])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Preparation(crop=(3, 3)), "the crop leaves 3x3, and the input takes 4x6; see --crop 4,6$"),
        (
            Preparation(mean=np.ones(4)),
            "the mean has 4 values, and the input is 3x4x6; give a number, one for each channel",
        ),
        (Preparation(mean=np.ones((3, 2, 2))), r"the mean has shape \(3, 2, 2\)"),
        (Preparation(mean=np.ones((3, 9, 9))), "the mean image is 9x9, and the images before the crop are 4x6"),
        (Preparation(resize=(8, 8)), "the image is 8x8, and the input takes 4x6; leave out --resize$"),
        (Preparation(resize=(2, 9), crop=(4, 6)), "the image is 2x9, and the input takes 4x6; the crop takes no more"),
    ],
)
def test_settings_that_do_not_lead_to_the_input_are_refused(settings: Preparation, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settings.planes(image(), 3, (4, 6))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scale": np.inf}, "the preparation: the mean and the scale of images must be finite"),
        ({"mean": np.array([1, np.nan, 3]), "origin": "--mean"}, "--mean: the mean and the scale of images"),
        ({"scale": 0.0}, "the preparation: a scale of 0 makes every image the same"),
        ({"scale": "half"}, "the preparation: mean and scale are numbers"),
        ({"resize": (8, 0)}, r"the preparation: resize and crop are \(height, width\), in pixels"),
        ({"crop": (8, 8, 8), "origin": "--crop"}, r"--crop: resize and crop are \(height, width\)"),
    ],
)
def test_settings_that_no_image_can_have_are_refused(settings: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}"):
        Preparation(**settings)


def test_the_settings_are_said_in_their_order() -> None:
    assert str(Preparation()) == "pixels as they are, 0..255"
    settings = Preparation(np.array([1.5, 2, 3]), 0.25, True, resize=(9, 8), crop=(4, 6), origin="--mean")
    assert str(settings) == "resized to 9x8; middle 4x6; minus mean 1.5, 2, 3; times 0.25; RGB (from --mean)"
    assert str(Preparation(np.ones((3, 4, 6)))) == "minus mean image"


@pytest.mark.parametrize(
    ("pixels", "channels", "count"),
    [((4, 6, 3), 1, "3"), ((4, 6, 3), 5, "1 or 3"), ((4, 6, 2), 3, "2"), ((4, 6), 2, "1 or 3")],
)
def test_an_image_whose_planes_are_not_the_inputs_is_refused(
    pixels: tuple[int, ...], channels: int, count: str
) -> None:
    with pytest.raises(UsageError, match=f"the input has {channels} channels, and an image has {count}$"):
        Preparation().planes(np.zeros(pixels, np.uint8), channels, (4, 6))


def test_a_mean_is_numbers_or_a_file(tmp_path: Path) -> None:
    assert read_mean("104, 117,123").tolist() == [104, 117, 123]
    mean = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    np.testing.assert_array_equal(read_mean(str(tmp_path / "mean.npy")), mean)
    shape = b"".join(bytes([number << 3, value]) for number, value in ((1, 1), (2, 3), (3, 2), (4, 2)))
    (tmp_path / "mean.binaryproto").write_bytes(shape + bytes([5 << 3 | 2, 48]) + struct.pack("<12f", *mean.ravel()))
    np.testing.assert_array_equal(read_mean_file(tmp_path / "mean.binaryproto").reshape(3, 2, 2), mean)
    assert Preparation(mean=read_mean_file(tmp_path / "mean.binaryproto")).planes(image(), 3, (2, 2)).shape == (3, 2, 2)


def test_a_mean_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither numbers"):
        read_mean("a,b,c")
    with pytest.raises(UsageError, match="neither numbers"):  # as of a shell's variable that is not set
        from_words(mean="")
    (tmp_path / "bad.binaryproto").write_bytes(b"\xff" * 9)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    for name in ("bad.binaryproto", "bad.npy", "missing.npy"):
        with pytest.raises(ParseError, match=name.replace(".", r"\.")):
            read_mean_file(tmp_path / name)


def test_a_mean_that_float32_cannot_hold_is_a_sentence_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.full((3, 2, 2), 1e300))
    for mean in ("1e40", str(tmp_path / "mean.npy")):  # numpy's warning would be an error here
        with pytest.raises(UsageError, match="the mean and the scale of images must be finite"):
            Preparation(mean=read_mean(mean))


READER = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }'


def prototxt(folder: Path, transform: str, extra: str = "") -> Path:
    path = folder / "net.prototxt"
    path.write_text(
        'layer { name: "train" type: "Data" top: "data" include { phase: TRAIN } transform_param { scale: 9 } }\n'
        f'layer {{ name: "test" type: "ImageData" top: "data" include {{ phase: TEST }} {extra}\n'
        f"  transform_param {{ {transform} }} }}\n" + READER
    )
    return path


def said(path: Path, **options: Any) -> Preparation | None:
    """What the net of a file says of images."""
    return from_net(bnfold.load(path, guess_shapes=True, **options))


def test_settings_are_taken_from_the_test_layer_of_the_prototxt(tmp_path: Path) -> None:
    path = prototxt(
        tmp_path, "mean_value: 104.007 mean_value: 117 mean_value: 123 scale: 0.017 crop_size: 2 mirror: true"
    )
    found = present(said(path))
    assert (found.scale, found.crop) == (float(np.float32(0.017)), (2, 2))
    np.testing.assert_array_equal(np.asarray(found.mean), np.array([104.007, 117, 123], np.float32))
    assert str(found) == "middle 2x2; minus mean 104.007, 117, 123; times 0.017 (from transform_param of 'test')"
    np.save(tmp_path / "mean.npy", np.ones((3, 2, 2)))
    path = prototxt(
        tmp_path, 'mean_file: "mean.npy"', "image_data_param { new_height: 5 new_width: 6 is_color: false }"
    )
    found = present(said(path))
    assert (np.asarray(found.mean).shape, found.resize, found.grey) == ((3, 2, 2), (5, 6), True)
    assert present(said(prototxt(tmp_path, "", "top: 'label'"))).scale == 1
    for side in ("new_height: 5", "new_width: 6"):  # which Caffe's ImageData refuses, too
        with pytest.raises(UsageError, match="resize and crop are"):
            said(prototxt(tmp_path, "", f"image_data_param {{ {side} }}"))
    (tmp_path / "none.prototxt").write_text('input: "data" ' + READER)
    assert said(tmp_path / "none.prototxt") is None
    with pytest.raises(UsageError, match=r"beside it the mean file 'missing\.npy' is not there"):
        said(prototxt(tmp_path, 'mean_file: "missing.npy"'))


STAGES = """
layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 8 scale: 0.5 } include { not_stage: "deep" } }
layer { name: "deep" type: "Data" top: "data" transform_param { crop_size: 8 scale: 0.25 } include { stage: "deep" } }
"""
V1 = """
layers { name: "d" type: DATA top: "data" data_param { crop_size: 8 scale: 0.5 } }
layers { name: "relu" type: RELU bottom: "data" top: "relu" }
"""
V0 = """
layers { layer { name: "d" type: "data" cropsize: 8 scale: 0.5 } top: "data" }
layers { layer { name: "relu" type: "relu" } bottom: "data" top: "relu" }
"""
TRAINED = (
    'layer { name: "d" type: "Data" top: "data" transform_param { scale: 0.5 crop_size: 8 } include { phase: TRAIN } }'
)


@pytest.mark.parametrize("text", [STAGES + READER, V1, V0, TRAINED + READER], ids=["stages", "v1", "v0", "train"])
def test_settings_are_those_of_the_data_layer_that_the_input_stands_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.prototxt").write_text(text)
    found = present(said(tmp_path / "net.prototxt"))
    assert (found.scale, found.crop, found.origin) == (0.5, (8, 8), "transform_param of 'd'")
    if text.startswith(STAGES):
        assert present(said(tmp_path / "net.prototxt", stages=["deep"])).scale == 0.25


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/secret.npy", "data/secret.npy", "secret.npy"])
def test_a_mean_file_is_read_only_where_it_lies_beside_the_prototxt(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "net"
    (folder / "data").mkdir(parents=True)
    np.save(tmp_path / "secret.npy", np.full((3, 2, 2), 7.0))
    name = name.replace("/etc", str(tmp_path))
    path = prototxt(folder, f'mean_file: "{name}"')
    with pytest.raises(UsageError, match=r"beside it the mean file .* is not there"):
        said(path)
    np.save(folder / "secret.npy", np.full((3, 2, 2), 5.0))
    assert np.all(present(present(said(path)).mean) == 5)


def test_a_mean_file_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.binaryproto")
    with pytest.raises(ParseError, match="is not a regular file"):
        said(prototxt(tmp_path, 'mean_file: "fifo.binaryproto"'))


def test_a_prototxt_that_resizes_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    path = prototxt(tmp_path, "crop_size: 4", "image_data_param { new_height: 30000 new_width: 30000 }")
    with pytest.raises(UsageError, match="resizing to 30000x30000 makes more than"):
        present(said(path)).planes(image(), 3, (4, 4))


def test_a_scale_that_passes_float32_makes_infinite_values_without_a_warning() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    assert np.isinf(Preparation(scale=1e38).planes(white, 3, (4, 4))).all()
