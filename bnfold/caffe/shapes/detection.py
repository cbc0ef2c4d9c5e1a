"""Shapes of the detectors' layers: prior boxes, regions of interest, and the boxes found, whose number is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.caffe.params import (
    UNKNOWN,
    PriorBox,
    PriorBoxClustered,
    Proposal,
    PSROIPooling,
    ROIPooling,
    YoloDetectionOutput,
    sizes,
)
from bnfold.caffe.shapes.arrange import four_axes
from bnfold.caffe.shapes.rules import count
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

BOX_ROW = 7
"""Image, label, score and four corners."""


def detection_output(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 1, K, 7), where K depends on the data.

    Whether locations, confidences and priors fit is not asked here: forks lay their priors by rules of their own.
    """
    del layer, bottoms
    return [(1, 1, UNKNOWN, BOX_ROW)]


def prior_box(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 2, H*W*boxes*4): corners, then variances."""
    return [_priors(layer, bottoms[0], PriorBox.of(layer).per_cell)]


def prior_box_clustered(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 2, H*W*boxes*4): corners, then variances."""
    return [_priors(layer, bottoms[0], PriorBoxClustered.of(layer).per_cell)]


def _priors(layer: Layer, feature: Shape, per_cell: int) -> Shape:
    return (1, 2, count((*four_axes(layer, feature)[2:], per_cell, 4)))


def proposal(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """(K, 5) regions, and their K scores where a second top asks for them."""
    Proposal.of(layer)
    regions: list[Shape] = [(UNKNOWN, 5), (UNKNOWN,)]
    return regions[: max(len(layer.tops), 1)]


def psroi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(R, output_dim, group_size, group_size)."""
    view = PSROIPooling.of(layer)
    channels = four_axes(layer, bottoms[0])[1]
    if channels not in (UNKNOWN, view.output_dim * view.group_size**2):
        raise ModelError(
            f"{layer}: output_dim {view.output_dim} and group_size {view.group_size} need "
            f"{view.output_dim * view.group_size**2} channels, not {channels}"
        )
    return [(_regions(layer, bottoms[1]), view.output_dim, view.group_size, view.group_size)]


def roi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(R, C, pooled_h, pooled_w)."""
    return [(_regions(layer, bottoms[1]), four_axes(layer, bottoms[0])[1], *ROIPooling.of(layer).pooled)]


def _regions(layer: Layer, regions: Shape) -> int:
    if count(regions[1:]) not in (5, UNKNOWN):
        raise ModelError(f"{layer}: its regions have shape {sizes(regions)}, but must be (R, 5)")
    return regions[0] if regions else 1


def yolo_detection_output(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """(1, 1, K, 7), where K depends on the data."""
    YoloDetectionOutput.of(layer)
    return [(1, 1, UNKNOWN, BOX_ROW)]
