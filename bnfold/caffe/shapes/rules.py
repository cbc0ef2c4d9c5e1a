"""What every shape function needs: sizes that may be unknown, and refusals that name the layer and the sizes.

A size of -1 depends on the data. It is equal to any size, and a product with it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from bnfold.caffe.params.axes import LARGEST, UNKNOWN, sizes
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

MOST_AXES = 32
"""Caffe's limit for a blob (`kMaxBlobAxes`)."""

ShapeFunction = Callable[[Layer, Sequence[Shape]], list[Shape] | None]


class Rule(NamedTuple):
    """How one layer type makes the shapes of its tops.

    Attributes:
        shapes: layer and shapes of its bottoms -> shapes of its tops, None where they cannot be known.
        least, most: how many bottoms it reads; None is no limit.
        rank: how many axes its first bottom must have at least.
    """

    shapes: ShapeFunction
    least: int = 1
    most: int | None = 1
    rank: int = 0


def count(shape: Sequence[int]) -> int:
    """How many elements, or UNKNOWN."""
    return UNKNOWN if UNKNOWN in shape else prod(shape)


def merged(layer: Layer, first: Shape, second: Shape) -> Shape:
    """The shape of two blobs that must have the same one; where one size is unknown, the other's.

    Raises:
        ModelError: they differ.
    """
    if first == second:
        return first
    if len(first) == len(second) and all(a == b or UNKNOWN in (a, b) for a, b in zip(first, second, strict=True)):
        return tuple(max(a, b) for a, b in zip(first, second, strict=True))
    raise ModelError(f"{layer}: bottoms of {sizes(first)} and {sizes(second)} must have the same shape")


def check_count(layer: Layer, rule: Rule, bottoms: int) -> None:
    """Refuse a wrong number of bottoms, and a layer that makes nothing.

    Raises:
        ModelError: the layer reads more or fewer, or has no top.
    """
    if not layer.tops and layer.type != "Silence":
        raise ModelError(f"{layer}: it has no top")
    if bottoms < rule.least or (rule.most is not None and bottoms > rule.most):
        wanted = f"{rule.least}" if rule.most == rule.least else f"{rule.least} to {rule.most or 'any number of'}"
        raise ModelError(f"{layer}: it has {bottoms} bottoms, but reads {wanted}")


def check_bottoms(layer: Layer, rule: Rule, bottoms: Sequence[Shape]) -> None:
    """Refuse a wrong number of bottoms, and shapes that no blob has.

    Raises:
        ModelError: the layer cannot read these bottoms.
    """
    check_count(layer, rule, len(bottoms))
    for bottom in bottoms:
        if bottom and (0 in bottom or min(bottom) < UNKNOWN):
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} holds nothing")
    if rule.rank and len(bottoms[0]) < rule.rank:
        raise ModelError(f"{layer}: a bottom of shape {sizes(bottoms[0])} has fewer than {rule.rank} axes")


def check_tops(layer: Layer, tops: Sequence[Shape]) -> None:
    """Refuse tops that Caffe could not make, and a layer that lists another number of them.

    Raises:
        ModelError: a top would be empty or too large.
    """
    if len(tops) != len(layer.tops):
        raise ModelError(f"{layer}: it has {len(layer.tops)} tops, but makes {len(tops)}")
    for top in tops:
        if len(top) > MOST_AXES:
            raise ModelError(f"{layer}: its top would have {len(top)} axes, and Caffe allows {MOST_AXES}")
        if top and (0 in top or min(top) < UNKNOWN):
            raise ModelError(f"{layer}: its top would have shape {sizes(top)}, which holds nothing")
        if abs(prod(top)) > LARGEST:
            raise ModelError(f"{layer}: its top would have shape {sizes(top)}, more than Caffe can hold")
