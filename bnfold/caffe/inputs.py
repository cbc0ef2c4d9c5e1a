"""The shape of every input: from the caller, from the file, or from what a data layer did to its samples.

The caller's shape wins. Then what a file states (`input_param`, MemoryData, DummyData) is taken as it is; what can be
concluded (a crop or a resize of a data layer, three channels) is taken and said aloud. What remains is an error that
names all inputs concerned, unless the caller is content with a guess.

What else a data layer does to its samples is said in words, since at inference it is gone:

    pixels = (crop(sample) - mean) * scale        data_transformer.cpp; mirroring and other chance belong to training
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from math import prod
from typing import NamedTuple

from bnfold.caffe.caffe_pb2 import BlobShape, InputParameter, LayerParameter, VideoDataParameter
from bnfold.caffe.hints import InputHint
from bnfold.caffe.layers.infer import ANOTHER
from bnfold.caffe.layers.source import for_each_top
from bnfold.caffe.limits import INT_MAX, MAX_AXES
from bnfold.caffe.printing import shortest_float
from bnfold.errors import ModelError, UsageError, did_you_mean_of, quoted
from bnfold.net import Layer, Net, Shape, sizes, with_each

GUESSES: tuple[Shape, ...] = (
    (224, 224),
    (360, 480),
    (227, 227),
    (299, 299),
    (300, 300),
    (512, 512),
    (32, 32),
    (28, 28),
)
"""The usual heights and widths, the most usual first; 360x480 is SegNet's, whose decoders state their sizes."""
LABELLED = frozenset({"Data", "ImageData", "MemoryData", "WindowData"})
"""Data layers whose second top is (N,) (data_layer.cpp, and that of each of the others)."""
COLOURS = 3
PLANES = {VideoDataParameter.RGB: COLOURS, VideoDataParameter.FLOW: 2}
FRAMES = 16
UNSAID = "nothing says its shape"  # in a note on a shape that is guessed

Hints = Callable[[str], InputHint]
"""What the readers of a blob and their weights tell about its shape."""


class MissingShapes(ModelError):
    """Nothing states the shape of some inputs."""


class Sample(NamedTuple):
    """What a data layer says about a sample: a shape, and how it came about if that was concluded."""

    shape: Shape
    reason: str = ""


class Guess(NamedTuple):
    """What becomes of inputs whose shape nothing states.

    Attributes:
        plane: height and width to take for them; None where the user is asked.
        example: height and width in the sentence that asks.
        fits: the weights tell that `plane` is right.
    """

    plane: Shape | None = None
    example: Shape = GUESSES[0]
    fits: bool = False


class Inputs(NamedTuple):
    """The layers with every input's shape set, the shapes by input, and sentences on what was assumed."""

    layers: list[Layer]
    shapes: dict[str, Shape]
    notes: list[str]


def give_shapes(
    layers: Sequence[Layer],
    data: Mapping[str, LayerParameter],
    overrides: Mapping[str, Sequence[int]],
    batch: int | None,
    guess: Guess,
    hints: Hints,
) -> Inputs:
    """Find the shape of every input and write it into its `Input` layer.

    Args:
        layers: of an inference net; its inputs are the tops of its `Input` layers.
        data: for inputs that a data layer brought, that layer.
        overrides: input -> its shape, whatever the file says.
        batch: the first dimension of every input, where it is given.
        guess: what becomes of inputs whose shape nothing states.
        hints: asked for what nothing states.

    Raises:
        UsageError: `given` names a blob that is no input, or a size is not positive.
        MissingShapes: inputs without a shape; it names all of them.
    """
    inputs = [top for layer in layers if layer.type == "Input" for top in layer.tops]
    _check(overrides, batch, inputs)
    shapes: dict[str, Shape] = {}
    notes: list[str] = []
    unknown: list[str] = []
    shaped: list[Layer] = []
    for layer in layers:
        if layer.type != "Input":
            shaped.append(layer)
            continue
        stated = _stated(layer)
        for index, top in enumerate(layer.tops):
            own = Sample(tuple(overrides[top])) if top in overrides else stated[index]
            sample = own or _concluded(top, data, shapes, hints)
            if sample is None:
                unknown.append(top)
                sample = _as_far_as_stated(layer, index, _guessed(hints(top), guess.plane or guess.example, guess.fits))
            shape = sample.shape
            if batch is not None and shape:
                shape = (batch, *shape[1:])
            if sample.reason:
                notes.append(f"input '{top}' is taken as {sizes(shape)}: {sample.reason}{ANOTHER}")
            shapes[top] = shape
        shaped.append(_with_shapes(layer, [shapes[top] for top in layer.tops]))
    if unknown and guess.plane is None:
        names = quoted(unknown)
        options = " ".join(f"--input-shape {top}={','.join(map(str, shapes[top]))}" for top in unknown)
        raise MissingShapes(
            f"nothing says the shape of {'input' if len(unknown) == 1 else 'inputs'} {names}: "
            f"give it, for example {options}"
        )
    return Inputs(shaped, shapes, notes)


def _guessed(hint: InputHint, plane: Shape, fits: bool) -> Sample:
    """A sample as the hint says, or an image of that plane."""
    if hint.shape is not None:
        return Sample(hint.shape, f"{UNSAID}, and {hint.reason}")
    depth = (FRAMES,) * (hint.axes - len(plane))
    return Sample((1, hint.channels or COLOURS, *depth, *plane), f"{UNSAID}{', and the weights fit this one' * fits}")


def _check(overrides: Mapping[str, Sequence[int]], batch: int | None, inputs: Sequence[str]) -> None:
    if unknown := [name for name in overrides if name not in inputs]:
        guess = did_you_mean_of(unknown[0], inputs)
        raise UsageError(f"--input-shape {unknown[0]}: the network has no input of that name{guess}")
    for name, shape in overrides.items():
        if len(shape) > MAX_AXES or prod(shape) > INT_MAX:
            raise UsageError(f"input '{name}' cannot have the shape {sizes(shape)}: it is more than Caffe allows")
    if batch is not None and batch > INT_MAX:
        raise UsageError(f"a batch of {batch} is more than Caffe allows")


def _stated(layer: Layer) -> list[Sample | None]:
    """The shape that an `Input` layer states for each top; one shape is for all, a size of 0 or less is none."""
    shapes = [tuple(shape.dim) for shape in layer.param.input_param.shape]
    if not shapes:
        return [None] * len(layer.tops)
    return [Sample(shape) if all(size > 0 for size in shape) else None for shape in for_each_top(layer, shapes)]


def _as_far_as_stated(layer: Layer, index: int, guess: Sample) -> Sample:
    """A guess with the axes and sizes that the `Input` layer states: of 1x1x-1x-1 the channel is no guess."""
    shapes = [tuple(shape.dim) for shape in layer.param.input_param.shape]
    stated = for_each_top(layer, shapes)[index] if shapes else ()
    if not stated:
        return guess
    others = guess.shape if len(guess.shape) == len(stated) else (1,) * len(stated)
    shape = tuple(said if said > 0 else other for said, other in zip(stated, others, strict=True))
    return Sample(shape, guess.reason.replace(UNSAID, f"it says no more than {sizes(stated)}"))


def _concluded(top: str, data: Mapping[str, LayerParameter], known: Mapping[str, Shape], hints: Hints) -> Sample | None:
    layer = data.get(top)
    if layer is None:
        return None
    index = list(layer.top).index(top) if top in layer.top else 0
    if layer.type == "DummyData":
        return _dummy(layer, index)
    if index == 1 and layer.type in LABELLED:
        batch = known.get(layer.top[0], ())[:1] or (layer.memory_data_param.batch_size or 1,)
        return Sample(batch, f"'{layer.name}' ({layer.type}) has a label for each sample")
    if index > 0:
        # DeepLab's third top has the height and the width of each image.
        return Sample((1, 1, 1, 2)) if (layer.type, index) == ("ImageSegData", 2) else None
    if layer.type == "MemoryData":
        memory = layer.memory_data_param
        return Sample((memory.batch_size, memory.channels, memory.height, memory.width))
    for size, word in _planes(layer):
        if all(size):
            return _of_plane(layer, size, word, hints(top).channels)
    return None


def _of_plane(layer: LayerParameter, plane: Shape, word: str, wanted: int | None) -> Sample:
    """A sample of that plane (video_data_layer.cpp of C3D, and of Temporal Segment Networks).

    Image:     C x H x W
    C3D's:     C x new_length x H x W
    Segments:  (num_segments*new_length*(3 of RGB or 2 of FLOW)) x H x W
    """
    video = layer.video_data_param
    depth: Shape = ()
    if wanted:
        count, source = wanted, f"the weights of its reader ask for {wanted}"
    elif video.HasField("modality"):
        planes, frames = PLANES[video.modality], video.num_segments * video.new_length
        count, source = planes * frames, f"{planes} for each of {frames} frames"
    elif layer.transform_param.force_gray or not layer.image_data_param.is_color:
        count, source = 1, "the data layer makes it grey"
    else:
        count, source = COLOURS, f"{COLOURS} are assumed"
    if not video.HasField("modality"):
        depth = tuple(param.new_length for param in (video, layer.image_data_param) if param.HasField("new_length"))[:1]
        word += "".join(f" and new_length {length}" for length in depth)
    return Sample((1, count, *depth, *plane), f"'{layer.name}' ({layer.type}) has {word}, and of channels {source}")


def _dummy(layer: LayerParameter, index: int) -> Sample | None:
    """DummyData's shapes, new or old; the last one is for all tops that follow."""
    dummy = layer.dummy_data_param
    shapes = [tuple(shape.dim) for shape in dummy.shape]
    if not shapes:
        shapes = list(zip(dummy.num, dummy.channels, dummy.height, dummy.width, strict=False))
    return Sample(shapes[min(index, len(shapes) - 1)]) if shapes else None


def _planes(layer: LayerParameter) -> list[tuple[Shape, str]]:
    """Height and width of a sample, and where they are said; the last thing that is done to it comes first."""
    transform = layer.transform_param
    resize = transform.resize_param[0] if transform.resize_param else None
    image, dense, video = layer.image_data_param, layer.dense_image_data_param, layer.video_data_param
    # C3D's V1 layer, which no upgrade changes, crops by the field that those of images had.
    crop = transform.crop_size or (image.crop_size if layer.type == "VideoData" else 0)
    return [
        ((crop, crop), f"crop_size {crop}"),
        ((transform.crop_h, transform.crop_w), "crop_h and crop_w"),
        ((transform.crop_height, transform.crop_width), "crop_height and crop_width"),
        ((dense.crop_height, dense.crop_width), "crop_height and crop_width"),
        ((resize.height, resize.width) if resize else (0, 0), "a resize_param"),
        ((image.new_height, image.new_width), "new_height and new_width"),
        ((video.new_height, video.new_width), "new_height and new_width"),
        ((dense.new_height, dense.new_width), "new_height and new_width"),
    ]


def _with_shapes(layer: Layer, shapes: list[Shape]) -> Layer:
    """`layer` stating these shapes; itself if it states them already."""
    parameter = InputParameter(shape=[BlobShape(dim=shape) for shape in shapes])
    if layer.param.input_param == parameter or [sample and sample.shape for sample in _stated(layer)] == shapes:
        return layer
    param: LayerParameter = deepcopy(layer.param)
    param.input_param.CopyFrom(parameter)
    return replace(layer, param=param)


def with_stated_inputs(net: Net) -> Net:
    """The net with `Input` layers that state the shapes of its inputs; itself where they do.

    Raises:
        UsageError: one makes what a program took from the inputs.
    """

    def stating(layer: Layer) -> Layer:
        if layer.type != "Input":
            return layer
        if gone := [top for top in layer.tops if top not in net.inputs]:
            raise UsageError(f"{layer}: what it makes, {quoted(gone)}, is no longer an input of the net")
        return _with_shapes(layer, [tuple(net.inputs[top]) for top in layer.tops])

    return with_each(net, stating)


def prepared(layer: LayerParameter, top: str) -> str:
    """`crop 227x227; mean 104,117,123; scale 0.00390625`, in the order of doing; empty where nothing is done.

    Of a data layer with labels only the first top is transformed (data_layer.cpp, load_batch).
    """
    transform = layer.transform_param
    words: list[str] = []
    if layer.type in LABELLED and top in layer.top[1:]:
        return ""
    if transform.force_gray:
        words.append("grey")
    if transform.crop_size:
        words.append(f"crop {transform.crop_size}x{transform.crop_size}")
    if transform.mean_file:
        words.append(f"mean {transform.mean_file}")
    if transform.mean_value:
        words.append(f"mean {','.join(map(shortest_float, transform.mean_value))}")
    if transform.HasField("scale") and transform.scale != 1:
        words.append(f"scale {shortest_float(transform.scale)}")
    return "; ".join(words)


def preparation_notes(preparation: Mapping[str, str], data: Mapping[str, LayerParameter]) -> Iterator[str]:
    """A sentence for each input whose values were changed: a crop alone is only its shape."""
    for top, words in preparation.items():
        changes = [word for word in words.split("; ") if not word.startswith("crop")]
        if changes:
            layer = data[top]
            done = ", ".join(words.split("; "))
            yield f"input '{top}': '{layer.name}' ({layer.type}) prepared its samples ({done}), and the net does not"
