"""Makes the sample models: trains three small Caffe nets on scikit-learn's digits and writes them as Caffe does.

    python -m venv ../torchenv && ../torchenv/bin/pip install torch==2.13.0 scikit-learn pillow numpy protobuf
    PYTHONPATH=. ../torchenv/bin/python sample_models/make.py            # all; or name some: digits_resnet ...
    PYTHONPATH=. ../torchenv/bin/python sample_models/make.py --data     # the held-out digits alone

The nets are defined by the prototxts beside this file, which this script reads and never writes. It writes
NAME.caffemodel, and with `--data` (or no name at all) digits_test.npz, digits_test.txt and digits/. All randomness is
seeded. The same machine and PyTorch give the same bytes; another processor may round differently.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format

from bnfold.caffe import caffe_pb2

if TYPE_CHECKING:
    from caffe_torch import CaffeNet

HERE = Path(__file__).parent
SEED = 20260
HELD_OUT = 360  # of 1797 digits
IMAGES_PER_CLASS = 10  # of the held-out digits, as PNG files
BATCH = 64

# A digit's grey values are 0..16 in the data set; as image files they are 0..240. Every step is exact in float32.
GREY_STEP = 15
PIXEL_MEAN = 73
PIXEL_SCALE = 1 / 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a Caffe solver file would say: SGD with momentum, the rate divided by 10 at each of `steps`."""

    base_lr: float
    iterations: int
    steps: tuple[int, ...]
    weight_decay: float
    momentum: float = 0.9


@dataclass(frozen=True, slots=True)
class Digits:
    """Grey values uint8 (N,8,8) in 0..240 with labels int64 (N,), for training and held out."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def digits() -> Digits:
    """The 1797 digits, split once by a fixed seed, in equal shares of each class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images * GREY_STEP).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    return Digits(train, train_labels, test, test_labels)


def preprocessed(images: np.ndarray) -> np.ndarray:
    """What the nets read, float32 (N,1,8,8): `(grey - 73) / 256`, as Caffe's mean_value and scale do it."""
    return (images[:, None].astype(np.float32) - np.float32(PIXEL_MEAN)) * np.float32(PIXEL_SCALE)


def write_held_out(data: Digits) -> None:
    """All held-out digits as digits_test.npz; some of each class as digits/CLASS/ROW.png, listed in digits_test.txt."""
    from PIL import Image

    np.savez_compressed(HERE / "digits_test.npz", data=preprocessed(data.test), label=data.test_labels)
    rows = [row for digit in range(10) for row in np.flatnonzero(data.test_labels == digit)[:IMAGES_PER_CLASS]]
    listing = []
    for row in sorted(rows):
        label = data.test_labels[row]
        path = HERE / "digits" / str(label) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.test[row]).save(path, optimize=True)
        listing.append(f"{path.relative_to(HERE).as_posix()} {label}\n")
    (HERE / "digits_test.txt").write_text("".join(listing))


def definition(name: str) -> Any:
    """The parsed prototxt of a sample model."""
    return text_format.Parse((HERE / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def train(name: str, data: Digits) -> CaffeNet:
    """The trained TRAIN net of a sample model, its BatchNorm sums as Caffe's solver would have left them."""
    import torch
    from caffe_torch import CaffeNet, training_definition

    recipe, deploy = RECIPES[name], definition(name)
    has_input = any(layer.type == "Input" for layer in deploy.layer)
    net = CaffeNet(training_definition(deploy, BATCH) if has_input else deploy, caffe_pb2.TRAIN)
    torch.manual_seed(SEED)
    images, labels = torch.from_numpy(preprocessed(data.train)), torch.from_numpy(data.train_labels)
    net.forward(images[:2], labels[:2])  # fills the blobs
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob in net.learned[layer.name]:
                blob.zero_()
    solver = torch.optim.SGD(
        list(net.parameter_groups(recipe.base_lr, recipe.weight_decay)), lr=recipe.base_lr, momentum=recipe.momentum
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(solver, list(recipe.steps), gamma=0.1)
    order = torch.empty(0, dtype=torch.int64)
    for iteration in range(recipe.iterations):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(images))])
        rows, order = order[:BATCH], order[BATCH:]
        loss = net.forward(images[rows], labels[rows])["loss"]
        solver.zero_grad()
        loss.backward()
        solver.step()
        schedule.step()
        if (iteration + 1) % 500 == 0:
            print(f"{name}: iteration {iteration + 1}, loss {loss.item():.4f}", flush=True)
    return net


def scores(name: str, net: CaffeNet, data: np.ndarray) -> np.ndarray:
    """The class scores (N,10) that the TEST net gives with what `net` learned; `data` is preprocessed."""
    import torch
    from caffe_torch import CaffeNet

    deploy = definition(name)
    last = next(layer.bottom[0] for layer in deploy.layer if layer.type in ("Softmax", "SoftmaxWithLoss"))
    with torch.no_grad():
        blobs = CaffeNet(deploy, caffe_pb2.TEST, net.learned).forward(torch.from_numpy(data))
    return np.asarray(blobs[last])


def main(arguments: list[str]) -> None:
    """Make what the command line names."""
    parser = argparse.ArgumentParser(description="Train and write the sample models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--data", action="store_true", help="write the held-out digits; without a NAME, nothing else")
    options = parser.parse_args(arguments)

    data = digits()
    if options.data or not options.names:
        write_held_out(data)
    for name in options.names or ([] if options.data else RECIPES):
        import torch

        torch.set_num_threads(1)
        started = time.monotonic()
        net = train(name, data)
        (HERE / f"{name}.caffemodel").write_bytes(net.snapshot().SerializeToString())
        right = int((scores(name, net, preprocessed(data.test)).argmax(1) == data.test_labels).sum())
        seconds = time.monotonic() - started
        print(f"{name}: {right} of {HELD_OUT} held-out digits right ({right / HELD_OUT:.2%}), {seconds:.0f} s")


RECIPES = {
    "digits_cifar10": Recipe(base_lr=0.1, iterations=5000, steps=(1000, 2000), weight_decay=0.0005),
    "digits_resnet": Recipe(base_lr=0.1, iterations=5000, steps=(1000, 2000), weight_decay=0.0005),
    "digits_train_test": Recipe(base_lr=0.05, iterations=5000, steps=(1000, 2000), weight_decay=0.0005),
}

if __name__ == "__main__":
    main(sys.argv[1:])
