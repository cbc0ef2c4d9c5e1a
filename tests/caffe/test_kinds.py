"""What is known of a layer type is said in one place: the table of layers."""

from __future__ import annotations

from bnfold.caffe import kinds
from bnfold.caffe.layers import LAYERS


def test_a_type_with_shapes_has_parameters_that_mean_something() -> None:
    assert set(LAYERS) == kinds.KNOWN
    assert all(kinds.is_known(kind) for kind in LAYERS)


def test_types_that_learn_have_shapes() -> None:
    assert kinds.KERNELS <= kinds.LEARNED
