"""Every upgrade that Caffe makes when it loads a net, so that the rest of this package sees one kind: V2 layers.

In the order of upgrade_proto.cpp: V0 to V1 (upgrade_v0.py); parameters of the data transform into `transform_param`; V1
to V2 (type words; `blobs_lr`, `weight_decay`, `param` and `blob_share_mode` into `param {}`); `input` fields into an
`Input` layer; the three `param {}` of a BatchNorm dropped, which old files used to freeze its statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bnfold.caffe import layer_types
from bnfold.caffe.caffe_pb2 import (
    BlobShape,
    InputParameter,
    LayerParameter,
    NetParameter,
    ParamSpec,
    TransformationParameter,
    V1LayerParameter,
)
from bnfold.caffe.descriptors import put
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.layers.infer import bottom_shapes, possible_shapes
from bnfold.caffe.origin import Source
from bnfold.caffe.upgrade_v0 import upgrade_v0
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Names, Net, Shape, sizes

if TYPE_CHECKING:
    from bnfold.caffe.text import Foreign, PrototxtDocument

AXES = 4
BATCH_NORM_PARAMS = 3
DEEP = frozenset({"Convolution3D", "Deconvolution3D", "Pooling3D"})
DIMS_OF_AN_INPUT = 4
MEETING = frozenset({"Concat", "Eltwise"})


class Upgraded(NamedTuple):
    """A V2 layer, and its own text where a V2 file has one; the text of legacy input fields is an Input layer's.

    `opaque` says which field or word of it no dialect has, so that nobody knows what the layer computes.
    """

    param: LayerParameter
    text: str | None
    opaque: str = ""


def upgrade(document: PrototxtDocument) -> list[Upgraded]:
    """All layers of a document as V2, in order, of all phases.

    Raises:
        ModelError: a layer that has no V2 form, or `input` fields that do not fit each other.
    """
    net = document.net
    foreign = document.foreign
    if net.layers:
        layers = [
            Upgraded(_upgrade_v1(layer, number, foreign), None, foreign.opaque.get(number, ""))
            for number, layer in upgrade_v0(net.layers, foreign.types, v2_type)
        ]
    else:
        for layer in net.layer:
            _move_transform(layer)
            # Shares nothing, as in Caffe: the names go with the learning rates.
            if layer.type == "BatchNorm" and len(layer.param) == BATCH_NORM_PARAMS:
                layer.ClearField("param")
        texts = document.layout.layers or [None] * len(net.layer)
        layers = [
            Upgraded(layer, text, foreign.opaque.get(number, ""))
            for number, (layer, text) in enumerate(zip(net.layer, texts, strict=True))
        ]
    for param in (layer.param for layer in layers):
        if param.blobs:
            raise ModelError(f"layer '{param.name}' ({param.type}): has weights in the text; give a caffemodel instead")
    return _input_layer(net, document.layout.inputs, layers) + layers


def notes_on_inputs(net: NetParameter, layers: Sequence[Upgraded]) -> list[str]:
    """A sentence where one input's `input_dim`s are not as many as Caffe takes, and all are its shape."""
    count = len(net.input_dim)
    if len(net.input) != 1 or net.input_shape or not count % _dims_of_an_input(net, layers):
        return []
    return [
        f"the {count} `input_dim`s are read as the shape of '{net.input[0]}'; Caffe takes 4, so write them as "
        "`input_shape { dim: ... }`"
    ]


def _dims_of_an_input(net: NetParameter, layers: Sequence[Upgraded]) -> int:
    """How many `input_dim`s an input has; C3D's Caffe counts the frames, too."""
    frames = len(net.input_dim) == (DIMS_OF_AN_INPUT + 1) * len(net.input)
    return DIMS_OF_AN_INPUT + (frames and any(layer.param.type in DEEP for layer in layers))


def _input_layer(net: NetParameter, text: str, layers: Sequence[Upgraded]) -> list[Upgraded]:
    """The legacy `input` fields as Caffe's `Input` layer, called `input`; none if there are none (UpgradeNetInput)."""
    inputs = list(net.input)
    shapes = []
    if net.input_shape:
        if len(net.input_shape) != len(inputs):
            raise ModelError(
                f"the net has {len(inputs)} `input`s and {len(net.input_shape)} `input_shape`s; write one for each"
            )
        shapes = list(net.input_shape)
    elif net.input_dim:
        dims, size = list(net.input_dim), _dims_of_an_input(net, layers)
        if len(inputs) == 1 and len(dims) % size:
            size = len(dims)  # as `notes_on_inputs` says
        elif len(inputs) == 1:
            del dims[size:]  # Caffe passes over them
        if len(dims) != size * len(inputs):
            raise ModelError(
                f"the net has {len(inputs)} `input`s and {len(dims)} `input_dim`s, not 4 for each; inputs with "
                "another number of axes are written as `input_shape { dim: ... }`"
            )
        shapes = [BlobShape(dim=dims[start : start + size]) for start in range(0, len(dims), size)]
    else:
        # Caffe passes over inputs without a shape, and some files name again what their Input layer brings.
        brought = {top for layer in net.layer if not layer.bottom for top in layer.top}
        inputs = [name for name in inputs if name not in brought]
    if not inputs:
        return []
    layer = LayerParameter(name="input", type="Input", top=inputs)
    if shapes:
        layer.input_param.CopyFrom(InputParameter(shape=shapes))
    return [Upgraded(layer, text or None)]


def v2_type(word: str) -> str:
    """The V2 type of a V1 word: that of its letters (`SMOOTH_L1_LOSS` is SmoothL1Loss), or `IMAGE_SEG_DATA` in them."""
    known = word if word in LAYERS else ODD_WORDS.get(word) or _BY_LETTERS.get(word.replace("_", "").lower())
    return known or ("".join(part.capitalize() for part in word.split("_")) if word.isupper() else word)


def _upgrade_v1(old: V1LayerParameter, number: int, foreign: Foreign) -> LayerParameter:
    word = foreign.types.get(number) or TYPES.get(old.type)
    if word is None:
        raise ModelError(f"layer '{old.name}' (V1) without a type, which no Caffe takes; write it")
    new = LayerParameter(type=word)
    for descriptor, value in old.ListFields():
        if descriptor.name in V1_ONLY:
            continue
        name = RENAMED.get(descriptor.name, descriptor.name)
        if name not in LayerParameter.DESCRIPTOR.fields_by_name:
            raise ModelError(f"layer '{old.name}' ({new.type}): '{name}' of V1 has no place in a V2 layer")
        put(new, name, value)
    _upgrade_params(old, new)
    if number in foreign.params:
        new.MergeFrom(foreign.params[number])
    _move_transform(new)
    return new


def _upgrade_params(old: V1LayerParameter, new: LayerParameter) -> None:
    """Four parallel lists become one list of `param {}` (UpgradeV1LayerParameter)."""
    count = max(len(old.param), len(old.blob_share_mode), len(old.blobs_lr), len(old.weight_decay))
    new.param.extend(ParamSpec() for _ in range(count))
    for spec, name in zip(new.param, old.param, strict=False):
        spec.name = name
    for spec, mode in zip(new.param, old.blob_share_mode, strict=False):
        spec.share_mode = ParamSpec.PERMISSIVE if mode == V1LayerParameter.PERMISSIVE else ParamSpec.STRICT
    for spec, rate in zip(new.param, old.blobs_lr, strict=False):
        spec.lr_mult = rate
    for spec, decay in zip(new.param, old.weight_decay, strict=False):
        spec.decay_mult = decay


def _move_transform(layer: LayerParameter) -> None:
    """What a data layer does to its samples goes to `transform_param` (UpgradeNetDataTransformation)."""
    field = TRANSFORMED.get(layer.type)
    if field is None or not layer.HasField(field):
        return
    source = getattr(layer, field)
    for name in ("scale", "mean_file", "crop_size", "mirror"):
        if source.HasField(name):
            transform: TransformationParameter = layer.transform_param
            setattr(transform, name, getattr(source, name))
            source.ClearField(name)


def with_four_axes(net: Net) -> Net:
    """A net of V1 in which bottoms that meet have as many axes, with a note; `net` itself where nothing was missing.

    Until 2014 each blob had four, and an InnerProduct made N x C x 1 x 1. Today's makes N x C, and a layer that reads
    both kinds stops, so the shorter bottom gets its ones back:

        Given:   ip -> q (N, C);  prod (Eltwise): q, filter (N, C, 1, 1)
        Result:  ip -> q;  q_4d (Reshape): q -> q_4d;  prod (Eltwise): q_4d, filter
    """
    shapes: dict[str, Shape | None] = dict(net.inputs)
    names = Names((top for layer in net.layers for top in layer.tops), "#")
    layers: list[Layer] = []
    notes = []
    for original in net.layers:
        layer = replace(original, bottoms=list(original.bottoms))
        if not layer.bottoms and all(top in net.inputs for top in layer.tops):
            layers.append(layer)
            continue
        if layer.type in MEETING:
            known = [shapes.get(bottom) for bottom in layer.bottoms]
            if any(shape is not None and len(shape) == AXES for shape in known):
                for place, shape in enumerate(known):
                    if shape is not None and len(shape) < AXES:
                        reshape = _reshape(layer, place, shape, names)
                        layers.append(reshape)
                        shapes[reshape.tops[0]] = shape + (1,) * (AXES - len(shape))
                        layer.bottoms[place] = reshape.tops[0]
                        notes.append(f"{layer} reads {sizes(shape)} beside four axes: '{reshape.name}' adds the ones")
        bottoms = bottom_shapes(layer, shapes)
        tops = None if bottoms is None else possible_shapes(layer, bottoms)
        for place, top in enumerate(layer.tops):
            shapes[top] = tops[place] if tops else None
        layers.append(layer)
    return net.with_layers(layers, notes) if notes else net


def _reshape(reader: Layer, place: int, shape: Shape, names: Names) -> Layer:
    bottom = reader.bottoms[place]
    top = names.new(f"{bottom}_4d")
    param = LayerParameter(name=top, type="Reshape", bottom=[bottom], top=[top])
    param.reshape_param.shape.dim.extend([0] * len(shape) + [1] * (AXES - len(shape)))
    return Layer(top, "Reshape", [bottom], [top], Blobs(), param, Source((bottom,), (top,), param, Blobs()))


RENAMED = {"DepthwiseConvolution_parameter": "DepthwiseConvolution_param"}

TRANSFORMED = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}

V1_ONLY = frozenset({"blob_share_mode", "blobs_lr", "layer", "param", "strict_dim", "type", "weight_decay"})

ODD_WORDS = {"DENSE_CRF": "DenseCRF", "HDF5_DATA": "HDF5Data", "SOFTMAX_LOSS": "SoftmaxWithLoss"}
"""V1 words of types that are spelt otherwise."""

_BY_LETTERS = {word.lower(): word for word in (*reversed(list(LAYERS)), *layer_types.LOSSES, *layer_types.METRICS)}

TYPES = {number: v2_type(word) for word, number in V1LayerParameter.LayerType.items() if word != "NONE"}
"""The V2 type of each V1 layer."""
