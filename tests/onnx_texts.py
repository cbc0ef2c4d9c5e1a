"""ONNX models in text, and what the fold makes of them: for tests of small models."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper, parser
from onnx_cases import Array, run

from bnfold import fold, save_onnx
from bnfold.net import Net
from bnfold.onnx.read import load_bytes
from bnfold.options import ReadOptions


def values(*shape: int, seed: int = 1, dtype: Any = np.float32) -> Array:
    """Signed values that differ everywhere; exact in the smaller types, too."""
    drawn = np.random.default_rng(seed).uniform(0.4, 1.6, shape) * np.random.default_rng(seed + 1).choice(
        [-1, 1], shape
    )
    made: Array = drawn.astype(dtype)
    return made


def statistics(channels: int = 3, dtype: object = np.float32) -> dict[str, Array]:
    named = {name: values(channels, seed=seed, dtype=dtype) for seed, name in enumerate(("gamma", "beta", "mean"), 5)}
    return {**named, "variance": np.abs(values(channels, seed=9, dtype=dtype))}


def model(text: str, **constants: Array) -> ModelProto:
    parsed = parser.parse_model(text)
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return parsed


def net_of(proto: ModelProto, **options: object) -> Net:
    return load_bytes(proto.SerializeToString(), ReadOptions(**options))  # type: ignore[arg-type]


def saved(net: Net) -> ModelProto:
    stream = BytesIO()
    save_onnx(net, stream)
    return ModelProto.FromString(stream.getvalue())


def folded(proto: ModelProto, keep: tuple[str, ...] = (), **options: object) -> ModelProto:
    return saved(fold(net_of(proto, **options), keep=keep).net)


def reasons(proto: ModelProto, **options: object) -> list[str]:
    return [kept.reason for kept in fold(net_of(proto, **options)).report.kept]


def types(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def stored(proto: ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def assert_equal(before: ModelProto, after: ModelProto, x: Array) -> None:
    """Both give equal values, and not zeros alone behind a Relu."""
    wanted = run(before, {"x": x})["y"]
    assert (wanted > 0).any()
    np.testing.assert_allclose(run(after, {"x": x})["y"], wanted, rtol=1e-5, atol=1e-5)
