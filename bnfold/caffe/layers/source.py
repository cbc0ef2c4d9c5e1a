"""Layers without bottoms that say the shape of their tops: Input and DummyData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.caffe.layers.row import LayerType
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape


def dummy_data(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """One shape for all tops or for each, in the old form as num, channels, height and width (dummy_data_layer.cpp)."""
    param = layer.param.dummy_data_param
    if param.shape:
        return for_each_top(layer, [tuple(shape.dim) for shape in param.shape])
    columns = (param.num, param.channels, param.height, param.width)
    if len({len(column) for column in columns}) != 1:
        raise ModelError(f"{layer}: num, channels, height and width must be given equally often")
    return for_each_top(layer, list(zip(*columns, strict=True)))


def input_(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """One shape for all tops or one for each (input_layer.cpp)."""
    return for_each_top(layer, [tuple(shape.dim) for shape in layer.param.input_param.shape])


def for_each_top(layer: Layer, shapes: list[Shape]) -> list[Shape]:
    """One shape for each top: one is for all.

    Raises:
        ModelError: there is another number of shapes.
    """
    if len(shapes) == 1:
        return shapes * len(layer.tops)
    if len(shapes) != len(layer.tops):
        raise ModelError(f"{layer}: {counted(len(shapes), 'shape')} for {counted(len(layer.tops), 'top')}")
    return shapes


ROWS: Mapping[str, LayerType] = {
    "DummyData": LayerType(
        dummy_data,
        bottoms=(0, 0),
        reads={"dummy_data_param": "shape num channels height width"},
        note="an input of the network",
    ),
    "Input": LayerType(input_, bottoms=(0, 0), reads={"input_param": "shape"}, note="an input of the network"),
}
