"""Shapes of the layers without bottoms that say the shape themselves: Input and DummyData."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


def dummy_data(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """One shape for all tops or one for each; the old form lists num, channels, height and width apart."""
    param = layer.param.dummy_data_param
    if param.shape:
        return _for_each_top(layer, [tuple(shape.dim) for shape in param.shape])
    columns = (param.num, param.channels, param.height, param.width)
    if len({len(column) for column in columns}) != 1:
        raise ModelError(f"{layer}: num, channels, height and width must be given equally often")
    return _for_each_top(layer, list(zip(*columns, strict=True)))


def input_(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """One shape for all tops or one for each."""
    return _for_each_top(layer, [tuple(shape.dim) for shape in layer.param.input_param.shape])


def _for_each_top(layer: Layer, shapes: list[Shape]) -> list[Shape]:
    if len(shapes) == 1:
        return shapes * len(layer.tops)
    if len(shapes) != len(layer.tops):
        raise ModelError(f"{layer}: {len(shapes)} shapes for {len(layer.tops)} tops")
    return shapes
