"""What is known of a layer type is said in one place: the table of layers."""

from __future__ import annotations

import re

import pytest

from bnfold.caffe import layer_types
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.operators import AFFINES, LINEAR

SOURCE = re.compile(r"\w\.(cpp|cu|hpp|py)\b|arXiv:|Caffe\b|darknet|FlowNet2")
"""A file, a paper, or whose Caffe computes so."""


def test_a_type_with_shapes_has_parameters_that_mean_something() -> None:
    assert set(LAYERS) == layer_types.KNOWN
    assert all(layer_types.is_known(layer_type) for layer_type in LAYERS)


def test_types_that_learn_have_shapes() -> None:
    assert layer_types.KERNELS <= layer_types.LEARNED


@pytest.mark.parametrize("layer_type", sorted(LAYERS))
def test_a_formula_names_its_source(layer_type: str) -> None:
    row = LAYERS[layer_type]
    formulas = [row.shapes, *(table[layer_type] for table in (AFFINES, LINEAR) if layer_type in table)]
    for formula in formulas:
        assert SOURCE.search(formula.__doc__ or ""), f"{formula.__module__}.{formula.__qualname__} names no source"
