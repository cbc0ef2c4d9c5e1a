"""FlowNet's layers that compare two images, or move one along a flow: Correlation, FlowWarp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least, each_size
from bnfold.caffe.layers.row import LayerType, four_axes, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


class Correlation(NamedTuple):
    """What a Correlation says: the mean over k x k x C of a patch of one image times patches of the other.

    Attributes:
        pad: zeros around both images.
        kernel: k, odd.
        reach: how far the patches of the second image are moved at most.
        stride: between patches of the first image.
        step: between the moves of the second image.
        subtracts: the mean of absolute differences instead of products.
    """

    pad: int
    kernel: int
    reach: int
    stride: int
    step: int
    subtracts: bool

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Correlation.

        Raises:
            ModelError: a size is missing or 0, or the kernel is even.
        """
        param = layer.param.correlation_param
        at_least(layer, "kernel_size, stride_1 and stride_2", (param.kernel_size, param.stride_1, param.stride_2), 1)
        if param.kernel_size % 2 == 0:
            raise ModelError(f"{layer}: kernel_size {param.kernel_size} must be odd")
        return cls(
            param.pad,
            param.kernel_size,
            param.max_displacement,
            param.stride_1,
            param.stride_2,
            param.correlation_type == param.SUBTRACT,
        )

    @property
    def moves(self) -> range:
        """Along each axis, how far the second image is moved."""
        count = self.reach // self.step
        return range(-count * self.step, count * self.step + 1, self.step)

    def correlated(self, layer: Layer, image: Shape) -> Shape:
        """The plane of the top: `ceil((H + 2p - 2(d + (k-1)/2))/stride_1)`.

        Raises:
            ModelError: nothing is left of it.
        """
        border = self.reach + (self.kernel - 1) // 2
        plane = each_size(lambda size: -(-(size + 2 * self.pad - 2 * border) // self.stride), image)
        if any(size < 1 and size != UNKNOWN for size in plane):
            raise ModelError(f"{layer}: max_displacement {self.reach} leaves nothing of a plane of {sizes(image)}")
        return plane


def correlation(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A channel for each move (FlowNet2, correlation_layer.cpp)."""
    first = merged(layer, four_axes(layer, bottoms[0]), bottoms[1])
    view = Correlation.of(layer)
    return [(first[0], len(view.moves) ** 2, *view.correlated(layer, first[2:]))]


def flow_warp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The image's; the flow has two channels of its plane (FlowNet2, flow_warp_layer.cpp)."""
    image = four_axes(layer, bottoms[0])
    merged(layer, (image[0], 2, *image[2:]), bottoms[1])
    return [image]


ROWS: Mapping[str, LayerType] = {
    "Correlation": LayerType(
        correlation,
        bottoms=(2, 2),
        reads={"correlation_param": "pad kernel_size max_displacement stride_1 stride_2 correlation_type"},
        dialects="Synopsys, FlowNet2",
    ),
    "FlowWarp": LayerType(
        flow_warp,
        bottoms=(2, 2),
        reads={"flow_warp_param": "fill_value"},
        keeps="shape",
        dialects="Synopsys, FlowNet2",
    ),
}
