"""All layer types that are known here: the families' rows, joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bnfold.caffe.layers import (
    activation,
    affine,
    arithmetic,
    arrange,
    convolution,
    detection,
    flow,
    indexing,
    linear,
    normalisation,
    padding,
    pooling,
    recurrent,
    reduction,
    region,
    reorder,
    resample,
    source,
)
from bnfold.caffe.layers.row import LayerType

FAMILIES = (
    *(activation, affine, arithmetic, arrange, convolution, detection, flow, indexing, linear),
    *(normalisation, padding, pooling, recurrent, reduction, region, reorder, resample, source),
)
LAYERS: Mapping[str, LayerType] = {layer_type: row for family in FAMILIES for layer_type, row in family.ROWS.items()}
"""Caffe's layer type -> what is known of it."""


def types_where(holds: Callable[[LayerType], object]) -> frozenset[str]:
    """The layer types whose row has something."""
    return frozenset(layer_type for layer_type, row in LAYERS.items() if holds(row))
