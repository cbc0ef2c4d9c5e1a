"""What each input of a network means, told by the layer that reads it: regions, an image's size, indices, flags.

The values themselves are made in `bnfold.data.standins`; inputs that no row knows are real values, and get noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bnfold.caffe.layers import PSROIPooling, ROIPooling, Upsample, infer_shapes
from bnfold.data.standins import Continuation, ImageInfo, Indices, Places, Priors, Regions, StandIn, Unread
from bnfold.net import Layer, Net, Shape

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
    height, width = reading.image or tuple(16 * size for size in reading.shapes[0][-2:])  # Proposal's usual stride
    return ImageInfo(height, width)


def _mask(reading: _Reading) -> Places:
    return Places(math.prod(Upsample.of(reading.layer).resized(reading.shapes[0][2:])))


READERS: Mapping[tuple[str, int], Callable[[_Reading], StandIn]] = {
    ("BatchReindex", 1): lambda reading: Indices(max(reading.shapes[0][0], 1)),
    ("DetectionOutput", 2): lambda _: Priors(),
    ("Embed", 0): lambda reading: Indices(max(int(reading.layer.param.embed_param.input_dim), 1)),
    ("LSTM", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("PSROIPooling", 1): lambda reading: _regions(reading, PSROIPooling.of(reading.layer).spatial_scale),
    ("Proposal", 2): _image_info,
    ("RNN", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("ROIAlign", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("ROIPooling", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("Upsample", 1): _mask,
}
