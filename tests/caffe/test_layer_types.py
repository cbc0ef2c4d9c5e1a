"""What is known of a layer type is said in one place: the table of layers."""

from __future__ import annotations

import re

import pytest
from cases import golden, goldens

from bnfold.caffe import layer_types
from bnfold.caffe.caffe_pb2 import FillerParameter, LayerParameter
from bnfold.caffe.layers import KERNELS, LAYERS, infer_shapes, row_of, types_where
from bnfold.caffe.operators import AFFINES, LINEAR, PASSING
from bnfold.caffe.plain import SQUEEZED

SOURCE = re.compile(r"\w\.(cpp|cu|hpp|py)\b|arXiv:|Caffe\b|darknet|FlowNet2")
"""A file, a paper, or whose Caffe computes so."""


def test_a_type_with_shapes_has_parameters_that_mean_something() -> None:
    assert all(layer_types.is_known(layer_type) for layer_type in LAYERS)


def test_types_that_learn_have_shapes() -> None:
    assert KERNELS <= layer_types.LEARNED


@pytest.mark.parametrize("layer_type", sorted(LAYERS))
def test_a_formula_names_its_source(layer_type: str) -> None:
    row = LAYERS[layer_type]
    formulas = [row.shapes, *(table[layer_type] for table in (AFFINES, LINEAR, PASSING) if layer_type in table)]
    for formula in formulas:
        assert SOURCE.search(formula.__doc__ or ""), f"{formula.__module__}.{formula.__qualname__} names no source"


def test_what_a_type_keeps_of_a_shape_is_so_in_every_golden() -> None:
    seen = set()
    for name in goldens():
        net = golden(name).load()
        shapes = infer_shapes(net)
        for layer in net.layers:
            row = row_of(layer)
            if row is None or not row.kept or "MDS" in str(layer.param):
                continue
            seen.add(layer.type)
            top, first, *others = [shapes[blob] or () for blob in (layer.tops[0], *layer.bottoms)]
            assert top[:2] == first[:2] if row.kept == "channels" else top == first, f"{name}: {layer}"
            lies = row.kept == "each" and not layer.param.eltwise_param.HasField("axis")
            assert not lies or set(others) <= {top}, f"{name}: {layer}"
    assert len(seen) > 30


def test_crops_see_through_what_coord_map_py_passes() -> None:
    layers = "AbsVal BatchNorm Bias BNLL Dropout Eltwise ELU Log LRN Exp MVN Power ReLU PReLU Scale Sigmoid Split TanH"
    assert types_where(lambda row: row.aligned) == {*layers.split(" "), "Threshold"}


def test_what_a_row_says_of_bottoms_speaks_of_bottoms_that_there_are() -> None:
    for layer_type, row in LAYERS.items():
        most = row.bottoms[1]
        assert all(most is None or place < most for place in (*row.shape_only, *row.fixed)), layer_type
        assert row.bottoms[1] != 0 or not row.kept, layer_type


def test_fillers_are_fields_of_the_first_message_that_a_type_reads() -> None:
    for layer_type, row in LAYERS.items():
        if row.fillers and layer_type not in SQUEEZED:
            message = getattr(LayerParameter(), next(iter(row.reads)))
            assert all(isinstance(getattr(message, name), FillerParameter) for name in row.fillers.split(" "))
