"""Views of the layers that join, cut, move or repeat what they read, without weights of their own."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, Self

from bnfold.caffe.params.axes import at_least, canonical_axis
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

OPERATIONS = ("PROD", "SUM", "MAX")


class ArgMax(NamedTuple):
    """What an ArgMax says.

    Attributes:
        axis: the axis it searches, as written; None searches everything behind the first axis.
        top_k: how many of the largest it gives.
        out_max_val: give values: beside the indices without an axis, instead of them with one.
    """

    axis: int | None
    top_k: int
    out_max_val: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read an ArgMax.

        Raises:
            ModelError: `top_k` is 0.
        """
        param = layer.param.argmax_param
        at_least(layer, "top_k", (param.top_k,), 1)
        return cls(param.axis if param.HasField("axis") else None, param.top_k, param.out_max_val)


class Concat(NamedTuple):
    """What a Concat says: the axis along which it joins, as written; `concat_dim` is its old name."""

    axis: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Concat.

        Raises:
            ModelError: both names of the axis are given.
        """
        param = layer.param.concat_param
        if not param.HasField("concat_dim"):
            return cls(param.axis)
        if param.HasField("axis"):
            raise ModelError(f"{layer}: axis and concat_dim are the same; keep axis")
        return cls(param.concat_dim)


class Crop(NamedTuple):
    """What a Crop says: from `axis` on, as written, the first bottom is cut to the sizes of the second."""

    axis: int
    offset: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Crop."""
        param = layer.param.crop_param
        return cls(param.axis, tuple(param.offset))

    def offsets(self, layer: Layer, rank: int) -> tuple[int, ...]:
        """Where the cut starts along each of `rank` axes; 0 along those in front of `axis`.

        Raises:
            ModelError: there are neither none, nor one, nor as many offsets as axes to cut.
        """
        axis = canonical_axis(self.axis, rank, layer)
        cut = rank - axis
        if len(self.offset) not in (0, 1, cut):
            raise ModelError(f"{layer}: {len(self.offset)} offsets for {cut} axes")
        listed = self.offset if len(self.offset) == cut else (self.offset or (0,)) * cut
        return (0,) * axis + listed


class Eltwise(NamedTuple):
    """What an Eltwise says.

    Attributes:
        operation: "PROD", "SUM" or "MAX".
        coeff: SUM's factor for each bottom, 1 unless given.
    """

    operation: str
    coeff: tuple[float, ...]

    @classmethod
    def of(cls, layer: Layer, bottoms: int) -> Self:
        """Read an Eltwise of so many bottoms.

        Raises:
            ModelError: there are coefficients, but not one for each bottom, or they belong to no SUM.
        """
        param = layer.param.eltwise_param
        operation = OPERATIONS[param.operation] if param.operation in (0, 1, 2) else str(param.operation)
        coeff = tuple(param.coeff)
        if coeff and operation != "SUM":
            raise ModelError(f"{layer}: coeff is for SUM, not for {operation}")
        if coeff and len(coeff) != bottoms:
            raise ModelError(f"{layer}: {len(coeff)} values of coeff for {bottoms} bottoms")
        return cls(operation, coeff or (1.0,) * bottoms)


class Flatten(NamedTuple):
    """What a Flatten says: the axes from `axis` to `end_axis`, both included and as written, become one."""

    axis: int
    end_axis: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Flatten."""
        param = layer.param.flatten_param
        return cls(param.axis, param.end_axis)


class Permute(NamedTuple):
    """What a Permute says: the axes that come first; those not named follow in order."""

    order: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Permute."""
        return cls(tuple(layer.param.permute_param.order))

    def full_order(self, layer: Layer, rank: int) -> tuple[int, ...]:
        """`order` with the axes that it does not name.

        Raises:
            ModelError: an axis is named twice, or the blob has none of that number.
        """
        if any(axis >= rank for axis in self.order) or len(set(self.order)) < len(self.order):
            raise ModelError(f"{layer}: order {self.order} names no distinct axes of a blob of {rank} axes")
        return self.order + tuple(axis for axis in range(rank) if axis not in self.order)


class Reduction(NamedTuple):
    """What a Reduction says: all axes from `axis` on become one number, times `coeff`.

    Attributes:
        operation: "SUM", "ASUM", "SUMSQ" or "MEAN".
        axis: as written (0; may count from the end).
        coeff: factor of the result.
    """

    operation: str
    axis: int
    coeff: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Reduction.

        Raises:
            ModelError: the operation is none of BVLC Caffe's.
        """
        param = layer.param.reduction_param
        names = {param.SUM: "SUM", param.ASUM: "ASUM", param.SUMSQ: "SUMSQ", param.MEAN: "MEAN"}
        if param.operation not in names:
            raise ModelError(f"{layer}: reduction operation {param.operation} is none of SUM, ASUM, SUMSQ, MEAN")
        return cls(names[param.operation], param.axis, param.coeff)


class Reshape(NamedTuple):
    """What a Reshape says.

    Attributes:
        dims: the new axes; 0 copies the old size, -1 takes what is left.
        axis, num_axes: the span of old axes that they replace; -1 axes is all to the end.
        pixel_shuffle: Intel Caffe's factor r that moves r*r channels into each pixel's r*r neighbours; 1 does nothing.
    """

    dims: Shape
    axis: int
    num_axes: int
    pixel_shuffle: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Reshape."""
        param = layer.param.reshape_param
        return cls(tuple(param.shape.dim), param.axis, param.num_axes, param.pixelshuffler)

    def span(self, layer: Layer, rank: int) -> tuple[int, int]:
        """First old axis replaced and first one behind; an insertion may stand at either end.

        Raises:
            ModelError: the span leaves the blob.
        """
        start = self.axis if self.axis >= 0 else rank + self.axis + 1
        stop = rank if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= stop <= rank or self.num_axes < -1:
            raise ModelError(f"{layer}: axis {self.axis}, num_axes {self.num_axes} leave a blob of {rank} axes")
        return start, stop


class Slice(NamedTuple):
    """What a Slice says.

    Attributes:
        axis: the axis that it cuts, as written; `slice_dim` is its old name.
        points: where it cuts; empty cuts evenly.
    """

    axis: int
    points: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Slice.

        Raises:
            ModelError: both names of the axis are given.
        """
        param = layer.param.slice_param
        points = tuple(param.slice_point)
        if not param.HasField("slice_dim"):
            return cls(param.axis, points)
        if param.HasField("axis"):
            raise ModelError(f"{layer}: axis and slice_dim are the same; keep axis")
        return cls(param.slice_dim, points)

    def parts(self, layer: Layer, size: int, tops: int) -> tuple[int, ...]:
        """The size of each of `tops` parts of an axis of `size`.

        Raises:
            ModelError: the points do not cut `size` into that many parts, or it does not divide evenly.
        """
        if not self.points:
            if tops < 1 or size % tops:
                raise ModelError(f"{layer}: {size} does not divide evenly among {tops} tops")
            return (size // tops,) * tops
        edges = (0, *self.points, size)
        if len(self.points) != tops - 1 or any(a >= b for a, b in pairwise(edges)):
            raise ModelError(f"{layer}: slice points {self.points} do not cut {size} into {tops} parts")
        return tuple(b - a for a, b in pairwise(edges))


class Tile(NamedTuple):
    """What a Tile says: how often it repeats the bottom along `axis`, as written."""

    axis: int
    tiles: int

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Tile.

        Raises:
            ModelError: `tiles` is missing or below 1.
        """
        param = layer.param.tile_param
        at_least(layer, "tiles", (param.tiles,), 1)
        return cls(param.axis, param.tiles)
