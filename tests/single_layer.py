"""One layer as a net of its own: exported and run, beside what the oracle computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nets
import numpy as np
import onnx
import reference
from onnx.reference import ReferenceEvaluator

from bnfold.net import Array, Net, Shape
from bnfold.onnx import to_onnx
from bnfold.runtime import Session


def layer_net(text: str, shapes: Sequence[Shape], tops: int = 1, blobs: Sequence[Array] | None = None) -> Net:
    """A net of one layer; `text` is the inside of `layer { ... }` without name, bottoms and tops."""
    inputs = "".join(f'input: "x{i}" input_shape {{ {dims(shape)} }} ' for i, shape in enumerate(shapes))
    bottoms = " ".join(f'bottom: "x{i}"' for i in range(len(shapes)))
    outputs = " ".join(f'top: "y{i}"' for i in range(tops))
    given = {} if blobs is None else {"l": blobs}
    return nets.net(f'{inputs} layer {{ name: "l" {bottoms} {outputs} {text} }}', **given)


def dims(shape: Shape) -> str:
    return " ".join(f"dim: {size}" for size in shape)


def noise(shapes: Sequence[Shape], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes]


def exported(net: Net, inputs: Sequence[Array], **options: Any) -> list[Array]:
    """The net's outputs by onnxruntime."""
    model = to_onnx(net, **options)
    onnx.checker.check_model(model, full_check=True)
    session = Session(model, threads=1)
    values = session.run({name: inputs[int(name[1:])] for name in session.inputs})
    return [values[name] for name in sorted(values)]


def exported_double(net: Net, inputs: Sequence[Array], **options: Any) -> list[Array]:
    """The net's outputs in float64, by onnx's own evaluator: onnxruntime has few operators in that type."""
    model = to_onnx(net, dtype=np.float64, **options)
    onnx.checker.check_model(model, full_check=True)
    names = [value.name for value in model.graph.input]
    feeds = {name: inputs[int(name[1:])].astype(np.float64) for name in names}
    values = dict(
        zip((value.name for value in model.graph.output), ReferenceEvaluator(model).run(None, feeds), strict=True)
    )
    return [np.asarray(values[name]) for name in sorted(values)]


def by_oracle(text: str, net: Net, inputs: Sequence[Array], tops: int = 1) -> list[Array]:
    """The same by the numpy oracle."""
    outputs = " ".join(f'top: "y{i}"' for i in range(tops))
    blobs = [np.asarray(blob, np.float64) for blob in net.layers[-1].blobs]
    given = [np.asarray(x, np.float64) for x in inputs]
    return reference.forward(reference.layer(f"{text} {outputs}"), given, blobs)


def assert_close(ours: Sequence[Array], theirs: Sequence[Array], tolerance: float = 2e-5) -> None:
    """Same shapes, same NaNs, and values within `tolerance` of the range."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        odd = ~np.isfinite(other) | (np.abs(other) > 1e38)
        np.testing.assert_array_equal(mine[odd], other[odd].astype(mine.dtype))
        mine, other = mine[~odd].astype(np.float64), other[~odd]
        extent = max(np.abs(other).max(initial=0.0), 1e-30)
        assert np.abs(mine - other).max(initial=0.0) / extent <= tolerance
