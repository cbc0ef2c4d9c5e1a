"""The largest magnitude of each output channel of a weight, found a piece at a time."""

import tracemalloc

import numpy as np
import pytest
from onnx import helper

from bnfold.net import Array, Shape
from bnfold.onnx import stored_values
from bnfold.onnx.weight import Weight


def ranges(operator: str, values: Array, **attributes: int) -> Array:
    node = helper.make_node(operator, ["x", "w"], ["y"], name="one")
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    model = helper.make_model(helper.make_graph([node], "net", [], []))
    ((name, found),) = stored_values.channel_ranges((model, (Weight.of("w", values),), None))
    assert name == "one"
    return found


@pytest.mark.parametrize("piece", [7, 64, 1 << 16])
@pytest.mark.parametrize(
    ("operator", "attributes", "shape", "seen", "axes"),
    [
        ("Conv", {"group": 2}, (6, 4, 3, 3), (6, 4, 3, 3), (1, 2, 3)),
        ("ConvTranspose", {"group": 3}, (6, 5, 2, 2), (3, 2, 5, 4), (1, 3)),
        ("ConvTranspose", {}, (7, 5, 1, 1), (1, 7, 5, 1), (1, 3)),
        ("Gemm", {}, (9, 11), (9, 11), (0,)),
        ("Gemm", {"transB": 1}, (9, 11), (9, 11), (1,)),
        ("MatMul", {}, (2, 9, 11), (2, 9, 11), (0, 1)),
    ],
)
def test_a_channel_has_the_largest_magnitude_of_its_values(
    operator: str,
    attributes: dict[str, int],
    shape: Shape,
    seen: Shape,
    axes: tuple[int, ...],
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_values, "PIECE", piece)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.abs(values).reshape(seen).max(axis=axes).reshape(-1)
    assert np.array_equal(ranges(operator, values, **attributes), expected)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MatMul"])
def test_a_weight_is_looked_at_beside_a_small_part_of_it(operator: str) -> None:
    values = np.zeros((1024, 256, 2, 2), np.float32)
    tracemalloc.start()
    try:
        ranges(operator, values)
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    finally:
        tracemalloc.stop()
