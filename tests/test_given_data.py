"""Data that users gave and nets that they folded with it, by the command line: what is right where it once was not."""

import os
from pathlib import Path

import nets
import numpy as np
import pytest
from command_line import Run
from PIL import Image

import bnfold
from bnfold.caffe.placeholder import with_placeholder_weights

CRELU = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv1/conv" type: "Convolution" bottom: "data" top: "conv1/conv"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "conv1/neg" type: "Power" bottom: "conv1/conv" top: "conv1/neg" power_param { scale: -1 } }
layer { name: "conv1/concat" type: "Concat" bottom: "conv1/conv" bottom: "conv1/neg" top: "conv1" }
layer { name: "conv1/scale" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "conv1/relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 2 kernel_size: 1 } }
"""
DATA = """
layer { name: "data" type: "ImageData" top: "data" transform_param { %s }
  image_data_param { new_height: %d new_width: %d is_color: false } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "s" type: "Scale" bottom: "fc" top: "s" }
"""
GREY = """
input: "data" input_shape { dim: 1 dim: 1 dim: 8 dim: 8 }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "s" type: "Scale" bottom: "fc" top: "s" }
"""
FOLD = ("fold", "net.prototxt", "net.caffemodel", "-o", "out.prototxt", "-o", "out.onnx")


def test_an_array_without_a_name_is_not_called_by_one(run: Run, here: Path) -> None:
    np.save("wrong.npy", np.zeros((2, 3, 8, 8), np.float32))
    grey = bnfold.load(GREY.encode(), input_shapes={"data": (1, 1, 8, 8)})
    with pytest.raises(bnfold.UsageError, match=r"wrong.npy: input 'data' takes 1x1x8x8, and the data is 2x3x8x8$"):
        bnfold.Comparison(with_placeholder_weights(grey), "wrong.npy")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (9, 7), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "images" / "deep.png")
    return tmp_path


def write(text: str, folder: Path) -> None:
    bnfold.save_caffe(nets.net(text), folder / "net.prototxt")


def write_with_data(transform: str, height: int, width: int, folder: Path) -> None:
    """A net whose data layer is in its prototxt, which saving leaves out."""
    bnfold.save_caffe(nets.net(GREY), folder / "net.prototxt")
    (folder / "net.prototxt").write_text(DATA % (transform, height, width))


def test_a_crelu_is_proved_with_all_its_blobs(here: Path, run: Run) -> None:
    write(CRELU, here)
    outcome = run(*FOLD)
    assert outcome.code == 0, outcome
    assert run("diff", "net.prototxt", "out.prototxt").code == 0
    assert run("diff", "net.prototxt", "out.onnx").code == 0


def test_the_data_line_names_sixteen_bits_and_the_size(here: Path, run: Run) -> None:
    write(GREY, here)
    outcome = run(*FOLD, "--data", "images")
    assert outcome.code == 0, outcome
    assert "1 image of images, 16 bits scaled to 8; 9x7 resized to 8x8" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--data", "images", "--resize", "1000000"), "resizing to 1000000x1000000 makes more than"),
        (("--data", "list.txt"), "list.txt:1: the label '--5' of 'images/deep.png' is no whole number"),
        (("--data", "fifo"), "fifo: is not a regular file"),
        (("--data", "fifo.npz"), "fifo.npz: is not a regular file"),
        (("--data", "images", "--mean", "fifo.binaryproto"), "fifo.binaryproto: is not a regular file"),
        (("--data", "images", "--sample", "3"), "say how many with --limit"),
        (("--limit", "3"), "take a part of given samples: name some by --data"),
        (("--batch", "99999999999999999999"), "more than"),
    ],
)
def test_data_that_cannot_be_meant_is_one_sentence(
    here: Path, run: Run, options: tuple[str, ...], sentence: str
) -> None:
    write(GREY, here)
    (here / "list.txt").write_text("images/deep.png --5\n")
    for name in ("fifo", "fifo.npz", "fifo.binaryproto"):
        os.mkfifo(here / name)
    outcome = run(*FOLD, *options)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (here / "out.prototxt").exists()


@pytest.mark.parametrize(
    ("transform", "size", "sentence"),
    [
        ('mean_file: "fifo.binaryproto"', 8, "fifo.binaryproto: is not a regular file"),
        ('mean_file: "../secret.npy"', 8, "the mean file '../secret.npy' is not there; give the mean with --mean"),
        ("crop_size: 8", 30_000, "resizing to 30000x30000 makes more than"),
    ],
)
def test_a_prototxt_cannot_make_it_wait_read_elsewhere_or_take_all_memory(
    here: Path, run: Run, transform: str, size: int, sentence: str
) -> None:
    folder = here / "net"
    folder.mkdir()
    write_with_data(transform, size, size, folder)
    np.save(here / "secret.npy", np.ones((1, 8, 8)))
    os.mkfifo(folder / "fifo.binaryproto")
    command = ("fold", "net/net.prototxt", "net/net.caffemodel", "-o", "out.onnx", "--data", "images")
    outcome = run(*command, "--input-shape", "data=1,1,8,8")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (here / "out.onnx").exists()


def test_channels_that_are_not_there_are_not_swapped(run: Run, here: Path) -> None:
    write(GREY, here)
    refused = run(*FOLD, "--data", "images", "--swap-channels")
    assert (refused.code, refused.err) == (
        2,
        "bnfold: --swap-channels would be ignored: input 'data' has one channel\n",
    )


@pytest.mark.parametrize("layer", ['type: "Minimum"', 'type: "Eltwise" eltwise_param { operation: MIN }'])
def test_a_minimum_is_not_told_to_be_a_maximum(layer: str) -> None:
    net = nets.net(f"""
    input: "data" input_shape {{ dim: 1 dim: 3 dim: 4 dim: 4 }}
    layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
      convolution_param {{ num_output: 3 kernel_size: 1 }} }}
    layer {{ name: "m" {layer} bottom: "c" bottom: "data" top: "m" }}
    layer {{ name: "s" type: "Scale" bottom: "m" top: "s" }}
    """)
    (kept,) = bnfold.fold(net).report.kept
    assert "layer 'm'" in kept.reason
    assert "a maximum or minimum needs every scale >= 0" in kept.reason
