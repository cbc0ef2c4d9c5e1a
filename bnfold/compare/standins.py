"""What each input of a network means, told by the layer that reads it: regions, an image's size, indices, flags.

The values themselves are made in `bnfold.data.standins`; inputs that no row knows are real values, and get noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.caffe.layers import ROIPooling, Upsampling, infer_shapes
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.data.standins import (
    FLAG,
    LEAST_NOISE,
    AnyOf,
    Continuation,
    Fixed,
    ImageInfo,
    Indices,
    Lengths,
    Mask,
    Places,
    Priors,
    Regions,
    StandIn,
    Unread,
)
from bnfold.net import DType, Layer, Net, Shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from bnfold.data.samples import Feed
    from bnfold.onnx.weight import Weight

MARKABLE = 8  # of so few places each is drawn often
MOST_SIZES = 2  # that are tried as what a single number may be
STRIDE = 16  # pixels of an image to one of the map that a detector usually makes of it
MOST_KNOWN = 8  # numbers of those with which a model compares an input that are tried
SAME_VALUES = frozenset({"Dropout", "Flatten", "Reshape", "Split"})
"""Layers whose top has the values of their bottom in the same order, so that what reads the top reads the bottom."""


class _Reading(NamedTuple):
    """A layer that reads an input, the shapes of its bottoms, and the size of the image that the network takes."""

    layer: Layer
    shapes: list[Shape]
    image: tuple[int, int] | None


def stand_ins(net: Net) -> dict[str, StandIn]:
    """Input -> what it means, for the inputs of which a reader says it, and those that have none."""
    shapes, image = infer_shapes(net), _image(net)
    found = {blob: _meaning(net, blob, shapes, image) if net.uses(blob) else Unread() for blob in net.inputs}
    return {blob: meaning for blob, meaning in found.items() if meaning is not None}


def _meaning(net: Net, blob: str, shapes: Mapping[str, Shape | None], image: tuple[int, int] | None) -> StandIn | None:
    """What the first reader of which a row knows something says; readers behind layers that move nothing count."""
    waiting, seen = [blob], {blob}
    while waiting:
        for use in net.uses(waiting.pop()):
            layer = use.layer
            known = [shapes.get(bottom) for bottom in layer.bottoms]
            sizes = [shape for shape in known if shape is not None]
            row = READERS.get((layer_type_of(layer), use.index))
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
    """An input that is as small as the map of scores is no image but a map, too."""
    height, width = (max(size, 1) for size in reading.shapes[0][-2:])
    image = reading.image if reading.image and math.prod(reading.image) > height * width else None
    return ImageInfo(*(image or (STRIDE * height, STRIDE * width)))


def _mask(reading: _Reading) -> Places:
    plane = Upsampling.of(reading.layer).resized(reading.shapes[0][2:])
    return Places(max(math.prod(plane), 1) if min(plane, default=1) > 0 else 1)


def onnx_stand_ins(
    proto: ModelProto,
    inputs: Mapping[str, Feed],
    weights: Sequence[Weight],
    stated: Mapping[str, Feed] | None = None,
) -> dict[str, StandIn]:
    """The same of an ONNX model, by what its inputs take; in `stated` with the sizes that it leaves open."""
    from bnfold.onnx.input_numbers import makes_mask, stored_numbers

    planes = [feed.shape[2:] for feed in inputs.values() if len(feed.shape) == 4]
    sizes = [(height, width) for height, width in planes if height and width]
    image = max(sizes, key=math.prod, default=(224, 224))
    shapes: dict[str, Sequence[int]] = {name: [size or 0 for size in feed.shape] for name, feed in inputs.items()}
    shapes |= {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    shapes |= {weight.name: weight.shape for weight in weights}
    found: dict[str, StandIn] = {}
    readers = readers_of(proto)
    for blob, feed in inputs.items():
        for node, index in _readings(blob, readers):
            if (node.op_type, index) not in ONNX_READERS:
                continue
            if node.input[0] not in shapes:
                shapes = {node.input[0]: (), **_inferred_shapes(proto, weights), **shapes}
            numbers = {one.name: one.i for one in node.attribute}
            said = stored_numbers(proto, weights, MARKABLE).get(node.input[3]) if len(node.input) > 3 else None
            axes = range(len(shapes[node.input[0]])) if said is None else np.ravel(said).astype(int).tolist()
            meaning = ONNX_READERS[node.op_type, index](
                _OnnxReading(numbers, shapes[node.input[0]], image, len(node.output), axes)
            )
            if meaning is not None:
                found[blob] = meaning
                break
        if blob not in found and feed.dtype.kind in "iu":
            meaning = _computed_places(proto, weights, blob, feed.dtype, shapes)
            meaning = meaning or _counted_steps(proto, weights, blob, inputs, readers)
            meaning = meaning or _lengths(blob, inputs, stated or inputs)
            meaning = meaning or _known_numbers(proto, weights, blob, feed.dtype)
            meaning = meaning or _any_size(blob, inputs)
            if meaning in (None, FLAG) and MASKS.search(blob) and len(feed.shape) > 1:
                meaning = Mask()
            found |= {} if meaning is None else {blob: meaning}
        elif blob not in found and len(inputs) > 1 and makes_mask(proto, weights, blob, feed.dtype):
            found[blob] = FLAG
        if isinstance(meaning := found.get(blob), Indices) and feed.dtype.kind in "iu" and not meaning.least:
            found[blob] = _with_marks(proto, weights, blob, feed.dtype, meaning)
        if blob not in found and IMAGE_SIZES.fullmatch(blob) and feed.shape[-1:] in {(2,), (3,), (4,)} and sizes:
            stride = 1 if max(image) >= 2 * STRIDE else STRIDE  # or it is no image that boxes are found in but a map
            found[blob] = ImageInfo(stride * image[0], stride * image[1])
    return found


Readers = Mapping[str, Sequence[tuple["NodeProto", int]]]
"""Tensor -> the nodes that read it, and as which of their inputs."""


def readers_of(proto: ModelProto) -> Readers:
    """What reads each tensor of a model's own nodes."""
    found: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            found.setdefault(name, []).append((node, index))
    return found


def _readings(blob: str, readers: Readers) -> Iterator[tuple[NodeProto, int]]:
    """All nodes that read a blob, behind what only reshapes or casts it, too, unless that says what it means."""
    from bnfold.onnx.node import RESHAPING

    waiting = [blob]
    while waiting:
        for node, index in readers.get(waiting.pop(), ()):
            yield node, index
            if (node.op_type, index) not in ONNX_READERS and node.op_type in RESHAPING | {"Cast"} and index == 0:
                waiting += node.output[:1]


def _computed_places(
    proto: ModelProto, weights: Sequence[Weight], blob: str, dtype: DType, shapes: Mapping[str, Sequence[int]]
) -> StandIn | None:
    """Those from which arithmetic makes places in tables, as Keras counts what is below 0 from the end."""
    from bnfold.onnx.input_numbers import made_of

    sizes: list[tuple[str, int]] = []
    for node in proto.graph.node:
        shape = shapes.get(node.input[0], ()) if node.op_type == "Gather" else ()
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        sizes += [(node.input[1], shape[axis])] if -len(shape) <= axis < len(shape) else []
    largest = max((size for _, size in sizes), default=0)
    made = made_of(proto, weights, blob, np.arange(largest, dtype=dtype)) if largest <= np.iinfo(dtype).max else {}
    fits = [(made[index] >= -size) & (made[index] < size) for index, size in sizes if index in made]
    limit = int(np.logical_and.accumulate(np.all(fits, axis=0)).sum()) if fits else 0
    return Indices(limit) if limit > 1 else None


def _with_marks(proto: ModelProto, weights: Sequence[Weight], blob: str, dtype: DType, places: Indices) -> Indices:
    """The places, with those among them that the model compares with a number, as a padding."""
    from bnfold.onnx.input_numbers import marked

    if not MARKABLE < places.limit <= np.iinfo(dtype).max:
        return places
    return replace(places, marked=tuple(marked(proto, weights, blob, np.arange(places.limit, dtype=dtype))))


def _known_numbers(proto: ModelProto, weights: Sequence[Weight], blob: str, dtype: DType) -> StandIn | None:
    """Those with which the model compares an input (a sampling rate, a class), and one with which it does not."""
    from bnfold.onnx.input_numbers import known_of

    ends = np.iinfo(dtype)
    known = [number for number in known_of(proto, weights, blob) if ends.min <= number <= ends.max]
    if known == list(range(len(known))):
        return Indices(max(len(known), 2)) if known else None
    return AnyOf((*known[:MOST_KNOWN], 0 if known[0] else 1))


def _lengths(blob: str, inputs: Mapping[str, Feed], stated: Mapping[str, Feed]) -> StandIn | None:
    """How many steps of another input count: along its first open axis but the batch, or the smallest that is fixed.

    Of several inputs it is one with such an axis, whose name begins as that of the lengths.
    """
    sizes: dict[tuple[bool, int], int] = {}
    for name, feed in inputs.items():
        if name != blob and len(feed.shape) > 1:
            axes = zip(feed.shape[1:], stated[name].shape[1:], strict=True)
            opened = [size for size, known in axes if size and known is None]
            alike = takewhile(lambda letters: letters[0] == letters[1], zip(name, blob, strict=False))
            likely = bool(opened), len(list(alike))
            size = opened[0] if opened else min((size for size in feed.shape[1:] if size and size > 1), default=0)
            sizes.setdefault(likely, size)
    steps = sizes[max(sizes)] if sizes else 0
    is_one = all(size == 1 for size in inputs[blob].shape[1:])
    return Lengths(steps) if LENGTHS.search(blob) and is_one and steps > 1 else None


def _counted_steps(
    proto: ModelProto, weights: Sequence[Weight], blob: str, inputs: Mapping[str, Feed], readers: Readers
) -> StandIn | None:
    """Lengths of what the numbers of the steps are held against, as a mask is made: arange(steps) < length."""
    from bnfold.onnx.graph import inferred
    from bnfold.onnx.node import RESHAPING

    compared = [node for node, _ in _readings(blob, readers) if node.op_type in COUNTING]
    if not compared or any(size != 1 for size in inputs[blob].shape[1:]):
        return None
    makers = {name: node for node in proto.graph.node for name in node.output}
    types, values = inferred(proto, weights, {name: feed.shape for name, feed in inputs.items()})
    for name in (name for node in compared for name in node.input):
        while name in makers and makers[name].op_type in RESHAPING | {"Cast", "Expand"}:
            name = makers[name].input[0]
        shape, value = types.shapes.get(name, ()), values.get(name)
        is_range = name in makers and makers[name].op_type == "Range"
        counts = value is not None and value.size > 1 and bool((np.diff(value.reshape(-1)) == 1).all())
        if (is_range or counts) and shape and shape[-1] > 1:
            return Lengths(shape[-1])
    return None


def _any_size(blob: str, inputs: Mapping[str, Feed]) -> StandIn | None:
    """Of a single number that may be a limit or a place: the largest sizes of other inputs, 1 and 0.

    The reference takes some of these.
    """
    found = {size or 0 for name, feed in inputs.items() if name != blob for size in feed.shape[1:]}
    tried = sorted(found - {0, 1}, reverse=True)[:MOST_SIZES]
    shape = inputs[blob].shape
    is_one = all(size == 1 for size in shape[1:]) and shape[:1] in {(), (1,), (None,)}
    return AnyOf((*tried, 1, 0), LEAST_NOISE) if tried and is_one else None


def _inferred_shapes(proto: ModelProto, weights: Sequence[Weight]) -> dict[str, Sequence[int]]:
    """Tensor -> shape, with 0 for what is not known."""
    from bnfold.onnx.graph import with_inputs_for
    from bnfold.onnx.shapes import inferred_ports

    ports = inferred_ports(with_inputs_for(proto, weights))
    return {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim] for port in ports}


class _OnnxReading(NamedTuple):
    """What is known of a node that reads an input.

    Attributes:
        numbers: the whole numbers of its attributes.
        shape: of its first input.
        image: the size of the image.
        outputs: how many it writes.
        axes: what is stored as its fourth input, which says axes; all where nothing is.
    """

    numbers: Mapping[str, int]
    shape: Sequence[int]
    image: tuple[int, int]
    outputs: int
    axes: Sequence[int]

    def size(self, axis: int) -> int:
        """Of the first input along an axis; 0 where it has none of that number."""
        return self.shape[axis] if -len(self.shape) <= axis < len(self.shape) else 0


def _along(attribute: str, default: int, least: int = 0) -> Callable[[_OnnxReading], StandIn | None]:
    """Places along the axis that an attribute says, or with a least one a length."""

    def meaning(reading: _OnnxReading) -> StandIn | None:
        size = reading.size(reading.numbers.get(attribute, default))
        return Indices(size + least, least) if size > 0 else None

    return meaning


def _among_all(reading: _OnnxReading) -> StandIn:
    """Places that are there along every axis."""
    return Indices(max(min(reading.shape[reading.numbers.get("batch_dims", 0) :], default=1), 1))


def _ends(reading: _OnnxReading) -> StandIn | None:
    """Ends of which half is left at least along each axis that they may be of."""
    size = min((size for size in map(reading.size, reading.axes) if size > 1), default=0)
    return Indices(size + 1, max((size + 1) // 2, 2)) if size else None


def _parts(reading: _OnnxReading) -> StandIn | None:
    """Sizes of parts along an axis, of which the last has what is left."""
    size, parts = reading.size(reading.numbers.get("axis", 0)), reading.outputs
    each = size // parts
    return Fixed((*[each] * (parts - 1), size - each * (parts - 1))) if each else None


def _doubled(shape: Sequence[int]) -> StandIn | None:
    """The sizes of planes that are twice as large."""
    return Fixed((*shape[:2], *(2 * size for size in shape[2:]))) if min(shape, default=0) > 0 else None


def _scales(reading: _OnnxReading) -> StandIn | None:
    return _doubled([1] * len(reading.shape))


def _counts(limit: int) -> Callable[[_OnnxReading], StandIn]:
    return lambda _: Indices(limit, 1)


IMAGE_SIZES = re.compile(r"info|(im|image|img|orig|orig_im|target|orig_target)_(info|shape|sizes?)")
"""What exporters of detectors call the input of an image's height and width."""

COUNTING = frozenset(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"))
LENGTHS = re.compile(r"^(?!max|min)(.*[_.])?x?len(gth)?s?($|[_.])", re.IGNORECASE)
"""What exporters call the input of how many steps of another one count, as in `input_lengths` and `seq_len`."""
MASKS = re.compile(r"^(?!.*pad).*mask$", re.IGNORECASE)
"""Likewise of which of them count, as in `attention_mask`; one for the padding has them the other way round."""

ONNX_READERS: Mapping[tuple[str, int], Callable[[_OnnxReading], StandIn | None]] = {
    ("ConstantOfShape", 0): _counts(4),
    ("Dropout", 2): lambda _: Fixed((0,)),  # whether it is trained, at random
    ("Expand", 1): _counts(2),
    ("GRU", 4): _along("layout", 0, 1),
    ("Gather", 1): _along("axis", 0),
    ("GatherElements", 1): _along("axis", 0),
    ("GatherND", 1): _among_all,
    ("LSTM", 4): _along("layout", 0, 1),
    ("Loop", 0): _counts(4),
    ("MaxRoiPool", 1): lambda reading: Regions(*reading.image),
    ("NonMaxSuppression", 2): _along("", 1, 1),
    ("RNN", 4): _along("layout", 0, 1),
    ("Reshape", 1): lambda reading: Fixed((*[0] * (len(reading.shape) - 1), -1)),
    ("Resize", 2): _scales,
    ("Resize", 3): lambda reading: _doubled(reading.shape),
    ("ReverseSequence", 1): _along("time_axis", 0, 1),
    ("RoiAlign", 1): lambda reading: Regions(*reading.image, values=4),
    ("RoiAlign", 2): lambda _: Indices(1),
    ("ScatterElements", 1): _along("axis", 0),
    ("ScatterND", 1): _among_all,
    ("Slice", 2): _ends,
    ("Slice", 4): _counts(2),
    ("Split", 1): _parts,
    ("Tile", 1): _counts(3),
    ("TopK", 1): _along("axis", -1, 1),
    ("Upsample", 1): _scales,
}

READERS: Mapping[tuple[str, int], Callable[[_Reading], StandIn]] = {
    ("BatchReindex", 1): lambda reading: Indices(max(reading.shapes[0][0], 1)),
    ("DetectionOutput", 2): lambda _: Priors(),
    ("DetectionOutputRefine", 2): lambda _: Priors(),
    ("Embed", 0): lambda reading: Indices(max(int(reading.layer.param.embed_param.input_dim), 1)),
    ("GatherV2", 1): lambda reading: Indices(max(reading.shapes[0][reading.layer.param.gather_v2_param.axis], 1)),
    ("LSTM", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("PSROIPooling", 1): lambda reading: _regions(reading, reading.layer.param.psroi_pooling_param.spatial_scale),
    ("Proposal", 2): _image_info,
    ("RNN", 1): lambda reading: Continuation(max(reading.shapes[1][0], 1)),
    ("ROIAlign", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("ROIPooling", 1): lambda reading: _regions(reading, ROIPooling.of(reading.layer).spatial_scale),
    ("Upsample", 1): _mask,
}
