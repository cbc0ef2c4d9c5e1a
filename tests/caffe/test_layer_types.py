"""What is known of a layer type is said in one place: the table of layers."""

from __future__ import annotations

from bnfold.caffe import layer_types
from bnfold.caffe.layers import LAYERS


def test_a_type_with_shapes_has_parameters_that_mean_something() -> None:
    assert set(LAYERS) == layer_types.KNOWN
    assert all(layer_types.is_known(layer_type) for layer_type in LAYERS)


def test_types_that_learn_have_shapes() -> None:
    assert layer_types.KERNELS <= layer_types.LEARNED
