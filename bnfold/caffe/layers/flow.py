"""FlowNet's layers that compare two images, or move one along a flow: Correlation, FlowWarp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, each_size
from bnfold.caffe.layers.row import LayerType, four_axes, merged
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape, sizes


def correlation_moves(layer: Layer) -> range:
    """Along each axis, how far a Correlation moves the second image: in steps of `stride_2`, to `max_displacement`."""
    param = layer.param.correlation_param
    count = param.max_displacement // param.stride_2
    return range(-count * param.stride_2, count * param.stride_2 + 1, param.stride_2)


def correlation(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A channel for each move, the plane `ceil((H + 2p - 2(d + (k-1)/2))/stride_1)` (FlowNet2, correlation_layer.cpp).

    It is the mean over k x k x C of a patch of one image, with p zeros around, times a patch of the other, moved by at
    most d; or of their absolute difference.
    """
    first, param = merged(layer, four_axes(layer, bottoms[0]), bottoms[1]), layer.param.correlation_param
    at_least_1(layer, "kernel_size, stride_1 and stride_2", (param.kernel_size, param.stride_1, param.stride_2))
    if param.kernel_size % 2 == 0:
        raise ModelError(f"{layer}: kernel_size {param.kernel_size} must be odd")
    border = param.max_displacement + (param.kernel_size - 1) // 2
    plane = each_size(lambda size: -(-(size + 2 * param.pad - 2 * border) // param.stride_1), first[2:])
    if any(size < 1 and size != UNKNOWN for size in plane):
        reach = param.max_displacement
        raise ModelError(f"{layer}: max_displacement {reach} leaves nothing of a plane of {sizes(first[2:])}")
    return [(first[0], len(correlation_moves(layer)) ** 2, *plane)]


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
