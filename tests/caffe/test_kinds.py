"""What is known of a layer type is said in one place: the tables of shapes."""

from __future__ import annotations

from bnfold.caffe import kinds
from bnfold.caffe.shapes import BLOB_SHAPES, SHAPES


def test_a_type_with_shapes_has_parameters_that_mean_something() -> None:
    assert set(SHAPES) == kinds.KNOWN
    assert all(kinds.is_known(kind) for kind in SHAPES)


def test_types_that_learn_have_shapes() -> None:
    assert set(BLOB_SHAPES) <= set(SHAPES)
    assert kinds.KERNELS <= kinds.LEARNED
