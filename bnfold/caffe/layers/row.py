"""The record of a layer type, and what every shape function needs: unknown sizes, and refusals that name the layer.

A size of -1 depends on the data. It is equal to any size, and a product with it is unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.limits import INT_MAX, MAX_AXES
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes

ShapeFunction = Callable[[Layer, Sequence[Shape]], list[Shape] | None]
"""A layer and the shapes of its bottoms -> the shapes of its tops or blobs. Raises ModelError where they do not fit."""


class LayerType(NamedTuple):
    """All that reading, shapes, stand-in weights and the page of layers know of one Caffe layer type.

    Attributes:
        shapes: layer and shapes of its bottoms -> shapes of its tops, None where they cannot be known.
        bottoms: how many it reads at least and at most; None is no limit.
        rank: how many axes its first bottom must have at least.
        blobs: layer and shapes of its bottoms -> the true shapes of what it learned, None where only the file knows;
            None for a type that learns nothing.
        stand_in: what values a net without weights gets: numbers of one sign or of both, see `placeholder.VALUES`.
        fillers: the fields of its parameters that fill its blobs where a file has none, in the order of the blobs and
            separated by spaces; empty where that is not done here.
        reads: `*_param` -> the fields of it that have a meaning here, separated by spaces. A field that is set and is
            neither here nor in `fields.IDLE` makes the layer opaque.
        keeps: what the first top has of the first bottom's shape: "channels" is samples and channels, "shape" all of
            it, "each" all of every bottom's; empty where that is nothing, or `same`, or depends on more.
        shape_only: the bottoms that are read for their shape alone.
        fixed: bottom -> the shape that it always has, and what it holds.
        aligned: each pixel of the top lies on that pixel of every bottom, for a Crop without offset: the types that
            BVLC's coord_map.py passes through (PASS_THROUGH_LAYERS).
        gradient: what Backward_cpu reads that a layer in place behind it may have overwritten: the values of its "top"
            (dy/dx = y*(1 - y) in sigmoid_layer.cpp), or of its "bottom", which is its top where it is in place itself.
        products: what costs one multiplication for each learned value: a "sample", a "pixel" or "row" of the top, a
            "pixel read" of the bottom; an affine's cost is one for each "value" of the top.
        passes_variance: a Dropout's change of variance reaches a BatchNorm behind it (Li et al., arXiv:1801.05134).
        dialects: who has the type, empty for BVLC and the forks with it.
        assumed: as whose it is read where forks compute something else by the same words; a net with it gets a note.
        note: what a user should know besides.
    """

    shapes: ShapeFunction
    bottoms: tuple[int, int | None] = (1, 1)
    rank: int = 0
    blobs: ShapeFunction | None = None
    stand_in: Literal["positive", "scale", "shift", "weight"] = "weight"
    fillers: str = ""
    reads: Mapping[str, str] = MappingProxyType({})
    keeps: Literal["", "channels", "shape", "each"] = ""
    shape_only: tuple[int, ...] = ()
    fixed: Mapping[int, tuple[Shape, str]] = MappingProxyType({})
    aligned: bool = False
    gradient: Literal["", "bottom", "top"] = ""
    products: Literal["", "pixel", "pixel read", "row", "sample", "value"] = ""
    passes_variance: bool = False
    dialects: str = ""
    assumed: str = ""
    note: str = ""

    @property
    def kept(self) -> Literal["", "channels", "shape", "each"]:
        """What the first top has of the first bottom's shape: `keeps`, and all of it where the shapes are `same`."""
        return "shape" if self.shapes is same else self.keeps

    def message(self, layer: Layer) -> str:
        """The field that has a layer's parameters: of those of `reads` the first that is set, or the first.

        One that says nothing of what the first may say is beside it, and not in its place.
        """
        first = next(iter(self.reads))
        if len(self.reads) == 1:
            return first
        meanings = set(self.reads[first].split())
        alike = (name for name, fields in self.reads.items() if not meanings.isdisjoint(fields.split()))
        return next((name for name in alike if layer.param.HasField(name)), first)

    def parameters(self, layer: Layer) -> Any:
        """What is in that field."""
        return getattr(layer.param, self.message(layer))


DETECTORS = "SSD, NVCaffe 0.17, MobileNet-YOLO, Intel, Vitis, ncnn, Tengine, MACE, X2Paddle, TI, minicaffe"
OTHERS = "forks whose schema is not known here"


def same(_: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (neuron_layer.cpp, Reshape)."""
    return [bottoms[0]]


def four_axes(layer: Layer, bottom: Shape) -> Shape:
    """The bottom itself.

    Raises:
        ModelError: it is not (N, C, H, W).
    """
    if len(bottom) != 4:
        raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} is not (N, C, H, W)")
    return bottom


def per_channel(parameters: str) -> ShapeFunction:
    """One learned value for each channel, or one for all where these parameters say `channel_shared`."""

    def blobs(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
        return [() if getattr(layer.param, parameters).channel_shared else (bottoms[0][1],)]

    return blobs


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


def covered(layer: Layer, first: Shape, second: Shape, start: int) -> Shape:
    """The part of the first bottom's shape that the second lies along, from axis `start` on.

    Raises:
        ModelError: it reaches beyond, or has another shape.
    """
    part = first[start : start + len(second)]
    if len(part) < len(second):
        raise ModelError(f"{layer}: {sizes(second)} from axis {start} on reaches beyond a bottom of {sizes(first)}")
    return merged(layer, part, second)


def check_count(layer: Layer, row: LayerType, bottoms: int) -> None:
    """Refuse a wrong number of bottoms, and a layer that makes nothing.

    Raises:
        ModelError: the layer reads more or fewer, or has no top.
    """
    if not layer.tops and layer.type != "Silence":
        raise ModelError(f"{layer}: it has no top")
    least, most = row.bottoms
    if bottoms < least or (most is not None and bottoms > most):
        wanted = f"{least}" if most == least else f"{least} to {most}" if most else f"{least} or more"
        raise ModelError(f"{layer}: it has {counted(bottoms, 'bottom')}, but reads {wanted}")


def check_bottoms(layer: Layer, row: LayerType, bottoms: Sequence[Shape]) -> None:
    """Refuse a wrong number of bottoms, and shapes that no blob has.

    Raises:
        ModelError: the layer cannot read these bottoms.
    """
    check_count(layer, row, len(bottoms))
    for bottom in bottoms:
        if bottom and min(bottom) < 1 and (0 in bottom or min(bottom) < UNKNOWN):
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} is empty")
    if row.rank and len(bottoms[0]) < row.rank:
        raise ModelError(f"{layer}: a bottom of shape {sizes(bottoms[0])} has fewer than {counted(row.rank, 'axis')}")


def check_tops(layer: Layer, tops: Sequence[Shape]) -> None:
    """Refuse tops that Caffe could not make, and a layer that lists another number of them.

    Raises:
        ModelError: a top would be empty or too large.
    """
    if len(tops) != len(layer.tops):
        raise ModelError(f"{layer}: it has {len(layer.tops)} tops, but makes {len(tops)}")
    for top in tops:
        if len(top) > MAX_AXES:
            raise ModelError(f"{layer}: its top would have {len(top)} axes, and Caffe allows {MAX_AXES}")
        if top and min(top) < 1 and (0 in top or min(top) < UNKNOWN):
            raise ModelError(f"{layer}: its top would have shape {sizes(top)}, which is empty")
        if abs(prod(top)) > INT_MAX:
            raise ModelError(f"{layer}: its top would have shape {sizes(top)}, more than Caffe allows")
