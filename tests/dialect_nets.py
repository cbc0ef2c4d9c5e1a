"""Small nets in any dialect: a convolution, what stands behind it, and what that computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import bnfold
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.net import Array
from bnfold.runtime import Session

C = 4
WRITE = ("-o", "out.prototxt", "-o", "out.onnx")
RNG = np.random.default_rng(20)
WEIGHT = RNG.normal(size=(C, 3, 1, 1))
X = RNG.normal(size=(2, 3, 5, 5)).astype(np.float32)
GAMMA, BETA, MEAN = (RNG.uniform(0.5, 1.5, C) * np.resize([1.0, -1.0], C) for _ in range(3))
VARIANCE = RNG.uniform(0.5, 1.5, C)
ONE, ZERO = np.ones(1), np.zeros(1)


def message(name: str, layer_type: str, bottom: str, top: str, blobs: Sequence[Array]) -> LayerParameter:
    """A layer of a caffemodel; its parameters are not in it, as they need not be."""
    layer = LayerParameter(name=name, type=layer_type, bottom=[bottom], top=[top])
    for values in blobs:
        blob = layer.blobs.add()
        blob.data.extend(values.reshape(-1).tolist())
        blob.shape.dim.extend(values.shape)
    return layer


def write(text: str, *layers: LayerParameter, stem: str = "net") -> None:
    """A net of a 1x1 convolution and what `text` puts behind its top `c`."""
    Path(f"{stem}.prototxt").write_text(
        'input: "x" input_shape { dim: 2 dim: 3 dim: 5 dim: 5 }\n'
        'layer { name: "conv" type: "Convolution" bottom: "x" top: "c"\n'
        f"  convolution_param {{ num_output: {C} kernel_size: 1 bias_term: false }} }}\n{text}\n",
        encoding="utf-8",
    )
    conv = message("conv", "Convolution", "x", "c", [WEIGHT])
    Path(f"{stem}.caffemodel").write_bytes(NetParameter(layer=[conv, *layers]).SerializeToString())


def convolved() -> Array:
    made: Array = np.einsum("oi,nihw->nohw", WEIGHT[:, :, 0, 0].astype(np.float32).astype(np.float64), X)
    return made


def along(vector: Array) -> Array:
    return vector.astype(np.float32).astype(np.float64).reshape(-1, 1, 1)


def normalised(
    mean: Array, variance: Array, eps: float, gamma: Array | None = None, beta: Array | None = None
) -> Array:
    """`gamma * (c - mean)/sqrt(variance + eps) + beta`, c being the convolution's top."""
    y = (convolved() - along(mean)) / np.sqrt(along(variance) + eps)
    y = y if gamma is None else along(gamma) * y
    return y if beta is None else y + along(beta)


def four(vector: Array) -> Array:
    return vector.reshape(1, -1, 1, 1)


def types(path: str = "out.prototxt") -> list[str]:
    return [layer.type for layer in bnfold.load(path, Path(path).with_suffix(".caffemodel")).layers]


def assert_computes(wanted: Array, path: str = "out.onnx") -> None:
    (ours,) = Session(path, threads=1).run({"x": X}).values()
    assert np.abs(ours - wanted).max() <= 2e-5 * np.ptp(wanted)
