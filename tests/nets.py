"""Nets for tests: an inline prototxt becomes a `Net` with weights that are seeded, signed and different per channel."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bnfold.caffe.layers import blob_shapes, infer_shapes
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.net import Array, Blobs, Layer, Net, Shape

FACTOR = 999.98  # what Caffe's moving average converges to
_SIGNS = np.array([-1.0, 1.0])


def net(prototxt: str, seed: int = 0, /, **weights: Iterable[Array]) -> Net:
    """The net that `prototxt` describes, read as a file is read.

    Args:
        prototxt: text of a net that says the shape of its inputs.
        seed: another seed gives other weights; a layer's weights depend on the seed and its name alone.
        weights: the blobs of single layers, by name, instead of seeded ones (`**{"a/b": [...]}` also works).

    Example:
        net('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } layer { name: "relu" type: "ReLU" ... }')
    """
    bare = build(parse_prototxt(prototxt))
    shapes = infer_shapes(bare)
    unused = set(weights) - {layer.name for layer in bare.layers}
    assert not unused, f"no layer is called {unused}"
    layers = [_learned(layer, shapes, seed, weights.get(layer.name)) for layer in bare.layers]
    return Net(
        bare.name,
        layers,
        bare.inputs,
        bare.outputs,
        bare.public,
        bare.notes,
        bare.file,
        origin=bare.origin,
        front=bare.front,
    )


def _learned(layer: Layer, shapes: dict[str, Shape | None], seed: int, given: Iterable[Array] | None) -> Layer:
    bottoms = [shapes[bottom] for bottom in layer.bottoms]
    if given is not None:
        arrays = [np.array(array, np.float32) for array in given]
    elif None in bottoms:
        arrays = []
    else:
        wanted = blob_shapes(layer, [shape for shape in bottoms if shape is not None])
        arrays = seeded(layer.type, wanted or [], seed, layer.name)
    for array in arrays:
        array.flags.writeable = False
    blobs = Blobs(arrays)
    assert layer.source is not None
    return replace(layer, blobs=blobs, source=layer.source._replace(blobs=blobs))


def seeded(layer_type: str, shapes: Sequence[Shape], seed: int = 0, name: str = "") -> list[Array]:
    """Blobs for a layer of type `layer_type`: signed, distinct per channel, of a size that keeps activations near 1."""
    if not shapes:
        return []
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if layer_type in ("BatchNorm", "CuDNNBatchNorm"):
        return [array.astype(np.float32) for array in _batch_norm(rng, shapes)]
    if layer_type in ("BN", "SyncBN") and len(shapes) == 4:
        gamma, beta, mean, variance = (_vector(rng, shape) for shape in shapes)
        return [array.astype(np.float32) for array in (gamma, beta, mean, abs(variance))]
    return [np.asarray(_blob(rng, shape, layer_type, index), np.float32) for index, shape in enumerate(shapes)]


def _batch_norm(rng: np.random.Generator, shapes: Sequence[Shape]) -> list[Array]:
    """BVLC: sums and their weight; with 5 blobs NVCaffe's order, whose third blob is 1; with 1xCx1x1, 0.15's order."""
    vectors = [_vector(rng, shape) for shape in shapes]
    if len(shapes) in (4, 5) and len(shapes[0]) == 4:
        vectors[3] = abs(vectors[3])
        return vectors[:4] + [np.zeros(shape) for shape in shapes[4:]]
    factor = FACTOR if len(shapes) == 3 else 1.0
    mean, variance = vectors[0], abs(vectors[1])
    return [mean * factor, variance * factor, np.full(shapes[2], factor), *vectors[3:]]


def _vector(rng: np.random.Generator, shape: Shape) -> Array:
    """Values between 0.5 and 1.5 with any sign: far from zero, so that dividing by them stays exact enough."""
    values: Array = rng.uniform(0.5, 1.5, shape) * _SIGNS[rng.integers(0, 2, shape)]  # as `choice` has it, and faster
    return values


def _blob(rng: np.random.Generator, shape: Shape, layer_type: str, index: int) -> Array:
    if index == 0 and len(shape) > 1 and layer_type not in ("Parameter", "PReLU", "Scale", "Bias"):
        fan_in = max(1, math.prod(shape[1:]))
        channel = 1 + 0.1 * np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        values: Array = rng.normal(0, 1, shape) * channel / np.sqrt(fan_in)
        return values
    return _vector(rng, shape)
