"""Layers that compare two images, or move one: FlowNet's Correlation and FlowWarp, SpatialTransformer."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple, Self

import numpy as np

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, each_size, fields_at_least_1, is_empty
from bnfold.caffe.layers.row import OTHERS, LayerType, four_axes, merged
from bnfold.errors import ModelError
from bnfold.net import Array, Layer, Shape, sizes


class Correlation(NamedTuple):
    """How a Correlation moves its second image, down and along.

    Attributes:
        moves: along each of the two axes the steps of `stride_2`, from `-max_displacement` to it; a Correlation1D moves
            along alone, with `single_direction: 1` from 0 on, with -1 from one step too far to one before 0
            (correlation_layer1d.cu).
        pads: zeros on each side of an axis that it moves along.
        reaches: `max_displacement`, for such an axis.
    """

    moves: tuple[Sequence[int], Sequence[int]]
    pads: tuple[int, int]
    reaches: tuple[int, int]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read either of the two.

        Raises:
            ModelError: a stride or the kernel is below 1, or the kernel is even; or it moves in an unknown direction.
        """
        param = layer.param.correlation_param
        fields_at_least_1(layer, param, "kernel_size", "stride_1", "stride_2")
        if param.kernel_size % 2 == 0:
            raise ModelError(f"{layer}: kernel_size {param.kernel_size} must be odd")
        count, pad, reach = param.max_displacement // param.stride_2, param.pad, param.max_displacement
        ways = {0: range(-count, count + 1), 1: range(count + 1), -1: range(-count - 1, 0)}
        way = param.single_direction if layer.type == "Correlation1D" else 0
        if way not in ways:
            raise ModelError(f"{layer}: single_direction {way} is none of -1, 0, 1")
        moves = [step * param.stride_2 for step in ways[way]]
        if layer.type == "Correlation1D":
            return cls(([0], moves), (0, pad), (0, reach))
        return cls((moves, moves), (pad, pad), (reach, reach))


def correlation(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A channel for each move, the plane `ceil((H + 2p - 2(d + (k-1)/2))/stride_1)` (FlowNet2, correlation_layer.cpp).

    It is the mean over k x k x C of a patch of one image, with p zeros around, times a patch of the other, moved by at
    most d; or of their absolute difference. A Correlation1D has p = d = 0 down.
    """
    first, param = merged(layer, four_axes(layer, bottoms[0]), bottoms[1]), layer.param.correlation_param
    view, half = Correlation.of(layer), param.kernel_size // 2
    plane = each_size(
        lambda size, pad, reach: -(-(size + 2 * pad - 2 * (reach + half)) // param.stride_1),
        first[2:],
        view.pads,
        view.reaches,
    )
    if is_empty(plane):
        reach = param.max_displacement
        raise ModelError(f"{layer}: max_displacement {reach} leaves nothing of a plane of {sizes(first[2:])}")
    return [(first[0], prod(map(len, view.moves)), *plane)]


def flow_warp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The image's; the flow has two channels of its plane (FlowNet2, flow_warp_layer.cpp)."""
    image = four_axes(layer, bottoms[0])
    merged(layer, (image[0], 2, *image[2:]), bottoms[1])
    return [image]


class SpatialTransformer(NamedTuple):
    """What a SpatialTransformer says: an affine map from the plane of the top to that of the bottom (st_layer.cu).

        (x, y) = theta (s/H'*2 - 1, t/W'*2 - 1, 1)      top[s, t] = bottom[(x + 1)/2*H, (y + 1)/2*W], bilinear

    Attributes:
        image: (H, W) of the bottom.
        size: (H', W') of the top.
        theta: the six values row by row, None for each that the second bottom has.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    theta: tuple[float | None, ...]

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read it. Raises ModelError where it is no affine map, or not bilinear, or has no size."""
        param = layer.param.st_param
        for word, known in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(param, word) != known:
                raise ModelError(f"{layer}: {word} {getattr(param, word)!r} must be {known!r}")
        image = four_axes(layer, bottom)[2:]
        height, width = (
            getattr(param, name) if param.HasField(name) else size
            for name, size in zip(("output_H", "output_W"), image, strict=True)
        )
        at_least_1(layer, "output_H and output_W", [size for size in (height, width) if size != UNKNOWN])
        names = [f"theta_{row}_{column}" for row in (1, 2) for column in (1, 2, 3)]
        theta = [getattr(param, name) if param.HasField(name) else None for name in names]
        return cls((image[0], image[1]), (height, width), tuple(theta))

    def places(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Rows and columns in the bottom, each as (weights, constant): `given @ weights + constant` for each pixel."""
        grids = [np.arange(size) / size * 2 - 1 for size in self.size]
        s, t = (grid.ravel() for grid in np.meshgrid(*grids, indexing="ij"))
        read = [index for index, value in enumerate(self.theta) if value is None]
        constants = np.array([value or 0.0 for value in self.theta])
        terms = np.zeros((2, 6, s.size))
        for axis, size in enumerate(self.image):
            terms[axis, 3 * axis : 3 * axis + 3] = np.stack([s, t, np.ones_like(s)]) * size / 2
        down, along = ((part[read], constants @ part + size / 2) for part, size in zip(terms, self.image, strict=True))
        return down, along


def spatial_transformer(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(N, C), then the plane that is said, or the bottom's (st_layer.cpp, LayerSetUp)."""
    view, bottom = SpatialTransformer.of(layer, bottoms[0]), bottoms[0]
    unset, read = view.theta.count(None), bottoms[1][1:]
    if UNKNOWN not in read and prod(read) != unset:
        raise ModelError(f"{layer}: {unset} of 6 values of theta are not set, and its second bottom has {prod(read)}")
    return [(*bottom[:2], *view.size)]


ROWS: Mapping[str, LayerType] = {
    "Correlation": LayerType(
        correlation,
        bottoms=(2, 2),
        reads={"correlation_param": "pad kernel_size max_displacement stride_1 stride_2 correlation_type"},
        dialects="Synopsys, FlowNet2",
    ),
    "Correlation1D": LayerType(
        correlation,
        bottoms=(2, 2),
        reads={
            "correlation_param": "pad kernel_size max_displacement stride_1 stride_2 correlation_type single_direction"
        },
        dialects="Synopsys, FlowNet2",
        note="DispNet's and iResNet's: moves along the rows alone; `single_direction: -1` is refused",
    ),
    "FlowWarp": LayerType(
        flow_warp, bottoms=(2, 2), reads={"flow_warp_param": "fill_value"}, keeps="shape", dialects="Synopsys, FlowNet2"
    ),
    "SpatialTransformer": LayerType(
        spatial_transformer,
        bottoms=(2, 2),
        reads={
            "st_param": "transform_type sampler_type output_H output_W theta_1_1 theta_1_2 theta_1_3 theta_2_1 "
            "theta_2_2 theta_2_3"
        },
        keeps="channels",
        dialects=OTHERS,
        note="values of theta that are said are not read from the second bottom, as its GPU code has it",
    ),
}
