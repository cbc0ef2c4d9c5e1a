"""Nets in float64 with seeded weights, and what the oracle says that a net in memory computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import nets
import numpy as np
import numpy.typing as npt
import reference
from algebra.random_nets import BATCH

from bnfold.caffe.write import prototxt_text
from bnfold.net import Blobs, Layer, Net

Values = dict[str, npt.NDArray[np.float64]]


def net_of(text: str, seed: int = 0, **weights: Sequence[npt.ArrayLike]) -> Net:
    """The net with seeded weights in float64; sharers share them, and layers called `pos_...` scale by no negative.

    `weights` gives single layers other blobs.
    """
    seeded = nets.net(text, seed)
    shared: dict[str, np.ndarray] = {}
    layers = [
        replace(layer, blobs=Blobs([np.asarray(blob, np.float64) for blob in weights[layer.name]]))
        if layer.name in weights
        else replace(layer, blobs=doubles(layer, shared))
        for layer in seeded.layers
    ]
    return Net(
        seeded.name, layers, seeded.inputs, seeded.outputs, seeded.public, origin=seeded.origin, front=seeded.front
    )


def doubles(layer: Layer, shared: dict[str, np.ndarray]) -> Blobs:
    arrays: list[np.ndarray] = []
    for name, blob in zip(layer.param_names, layer.blobs, strict=True):
        array = np.asarray(blob, np.float64)
        if layer.name.startswith("pos_scale") and not arrays:
            array = np.asarray(np.abs(array))
        arrays.append(shared.setdefault(name, array) if name else array)
    return Blobs(arrays)


def samples(net: Net, seed: int = 0) -> Mapping[str, np.ndarray]:
    """Signed noise for each input, or indices."""
    rng = np.random.default_rng(seed)
    noise = {blob: rng.standard_normal(shape) for blob, shape in net.inputs.items() if blob != "index"}
    return noise | {"index": rng.integers(0, 4, BATCH).astype(np.float64)} if "index" in net.inputs else noise


def run(net: Net, names: dict[str, str] | None = None) -> Values:
    """A net in memory by the oracle, under the names that a file would have, or others."""
    weights = {layer.name: list(layer.blobs) for layer in net.layers if layer.blobs}
    return reference.load(prototxt_text(net, names=names), weights=weights).run(samples(net))


def run_versions(net: Net) -> Values:
    """Every version of every blob, under its name in memory."""
    return run(net, {blob: blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops)})


def assert_same(before: Values, after: Values) -> None:
    """Every blob of one name has one value, to 1e-9 of its largest; a sum that cancels may leave rounding errors."""
    for blob in before.keys() & after.keys():
        assert before[blob].shape == after[blob].shape, blob
        largest = float(np.abs(before[blob]).max(initial=0.0))
        worst = float(np.abs(before[blob] - after[blob]).max(initial=0.0))
        assert worst <= 1e-9 * max(largest, 1e-3), f"{blob}: {worst:.3g} of {largest:.3g}"
