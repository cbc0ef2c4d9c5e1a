"""What each input of a network means, told by the layer that reads it: regions, an image's size, indices, flags.

The values themselves are made in `bnfold.data.standins`; inputs that no row knows are real values, and get noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bnfold.caffe.layers import ROIPooling, Upsample, infer_shapes
from bnfold.data.standins import Continuation, ImageInfo, Indices, Places, Priors, Regions, StandIn, Unread
from bnfold.net import Layer, Net, Shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from bnfold.data.samples import Feed

SAME_VALUES = frozenset({"Dropout", "Flatten", "Reshape", "Split"})
"""Layers whose top has the values of their bottom in the same order, so that what reads the top reads the bottom."""


class _Reading(NamedTuple):
    """A layer that reads an input, the shapes of its bottoms, and the size of the image that the network takes."""

    layer: Layer
    shapes: list[Shape]
    image: tuple[int, int] | None


def stand_ins(net: Net) -> dict[str, StandIn]:
    """Input -> what it means, for the inputs of which a reader says it, and those that have none."""
    shapes = infer_shapes(net)
    image = _image(net)
    found = {}
    for blob in net.inputs:
        meaning = _meaning(net, blob, shapes, image) if net.uses(blob) else Unread()
        if meaning is not None:
            found[blob] = meaning
    return found


def _meaning(net: Net, blob: str, shapes: Mapping[str, Shape | None], image: tuple[int, int] | None) -> StandIn | None:
    """What the first reader of which a row knows something says; readers behind layers that move nothing count."""
    waiting, seen = [blob], {blob}
    while waiting:
        for use in net.uses(waiting.pop()):
            layer = use.layer
            known = [shapes.get(bottom) for bottom in layer.bottoms]
            sizes = [shape for shape in known if shape is not None]
            row = READERS.get((layer.type, use.index))
            if row is not None and len(sizes) == len(known):
                return row(_Reading(layer, sizes, image))
            if layer.type in SAME_VALUES:
                waiting += [top for top in layer.tops if top not in seen]
                seen.update(layer.tops)
    return None


def _image(net: Net) -> tuple[int, int] | None:
    """(height, width) of the largest input that may be an image."""
    planes = [shape[2:] for shape in net.inputs.values() if len(shape) == 4 and min(shape[2:]) > 1]
    return max(((height, width) for height, width in planes), key=math.prod, default=None)


def _regions(reading: _Reading, scale: float) -> Regions:
    """Regions lie in the image, which is 1/spatial_scale times as large as the feature map."""
    height, width = reading.shapes[0][-2:]
    scale = scale if scale > 0 else 1.0
    return Regions(max(height / scale, 1.0), max(width / scale, 1.0))


def _image_info(reading: _Reading) -> ImageInfo:
    height, width = reading.image or tuple(16 * max(size, 1) for size in reading.shapes[0][-2:])  # its usual stride
    return ImageInfo(height, width)


def _mask(reading: _Reading) -> Places:
    plane = Upsample.of(reading.layer).resized(reading.shapes[0][2:])
    return Places(max(math.prod(plane), 1) if min(plane, default=1) > 0 else 1)


def onnx_stand_ins(
    proto: ModelProto, inputs: Mapping[str, Feed], stored: Mapping[str, Sequence[int]]
) -> dict[str, StandIn]:
    """The same of an ONNX model.

    Args:
        proto: the model.
        inputs: what its inputs take.
        stored: weight -> shape.
    """
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    planes = [feed.shape[2:] for feed in inputs.values() if len(feed.shape) == 4]
    sizes = [(height, width) for height, width in planes if height and width]
    image = max(sizes, key=math.prod, default=(224, 224))
    found: dict[str, StandIn] = {}
    for blob in inputs:
        waiting = [blob]
        while waiting and blob not in found:
            for node, index in readers.get(waiting.pop(), ()):
                meaning = _onnx_meaning(node, index, image, stored)
                if meaning is not None:
                    found.setdefault(blob, meaning)
                elif node.op_type in ONNX_SAME_VALUES and index == 0:
                    waiting += node.output[:1]
    return found


def _onnx_meaning(
    node: NodeProto, index: int, image: tuple[int, int], stored: Mapping[str, Sequence[int]]
) -> StandIn | None:
    if index == 1 and node.op_type in {"MaxRoiPool", "RoiAlign"}:
        return Regions(*image, values=5 if node.op_type == "MaxRoiPool" else 4)
    if index == 2 and node.op_type == "RoiAlign":
        return Indices(1)
    if index == 1 and node.op_type in {"Gather", "GatherElements"} and node.input[0] in stored:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        shape = stored[node.input[0]]
        return Indices(max(int(shape[axis]), 1)) if -len(shape) <= axis < len(shape) else None
    return None


ONNX_SAME_VALUES = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})

READERS: Mapping[tuple[str, int], Callable[[_Reading], StandIn]] = {
    ("BatchReindex", 1): lambda reading: Indices(max(reading.shapes[0][0], 1)),
    ("DetectionOutput", 2): lambda _: Priors(),
    ("Embed", 0): lambda reading: Indices(max(int(reading.layer.param.embed_param.input_dim), 1)),
    ("LSTM", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("PSROIPooling", 1): lambda reading: _regions(reading, reading.layer.param.psroi_pooling_param.spatial_scale),
    ("Proposal", 2): _image_info,
    ("RNN", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("ROIAlign", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("ROIPooling", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("Upsample", 1): _mask,
}
