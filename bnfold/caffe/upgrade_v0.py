"""The oldest prototxts, V0 (`layers { layer { type: "conv" ... } }`), made into V1 as in upgrade_proto.cpp.

V0 keeps the connections outside and one flat list of parameters, for all types, inside. Each goes to the message of
its type, and padding, which was a layer of its own, into the layer that reads it (UpgradeV0PaddingLayers):

    Given:   data -> pad1 (padding, pad: 2) -> conv1        Result:  data -> conv1 (convolution_param { pad: 2 })
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from google.protobuf.message import Message

from bnfold.caffe.caffe_pb2 import V1LayerParameter
from bnfold.caffe.descriptors import is_repeated, put
from bnfold.errors import ModelError


def upgrade_v0(
    layers: Sequence[V1LayerParameter], types: dict[int, str], type_of: Callable[[str], str]
) -> list[tuple[int, V1LayerParameter]]:
    """V1 layers for V0 ones, with their places in the file; layers that are V1 already stay as they are.

    Args:
        layers: of any age.
        types: gets the V2 type, by `type_of`, of each layer whose word V0 has not; by its place.
        type_of: the V2 type for a word.

    Raises:
        ModelError: a parameter or a padding layer where its type has no place for it.
    """
    merged = _merge_padding(layers)
    types.update((number, type_of(layer.layer.type)) for number, layer in merged if _is_foreign(layer))
    return [(number, _upgrade(layer)) for number, layer in merged]


def _is_foreign(layer: V1LayerParameter) -> bool:
    return layer.HasField("layer") and layer.layer.type not in TYPES and bool(layer.layer.type)


def _merge_padding(layers: Sequence[V1LayerParameter]) -> list[tuple[int, V1LayerParameter]]:
    producer: dict[str, V1LayerParameter] = {}
    merged = []
    for number, original in enumerate(layers):
        layer = deepcopy(original)
        for index, bottom in enumerate(layer.bottom):
            source = producer.get(bottom)
            if source is None or source.layer.type != "padding":
                continue
            if layer.layer.type not in ("conv", "pool"):
                raise ModelError(f"{_who(layer)}: reads the padding layer '{source.layer.name}', but cannot pad")
            layer.layer.pad = source.layer.pad
            layer.bottom[index] = source.bottom[0]
        for top in layer.top:
            producer[top] = layer
        if layer.layer.type != "padding":
            merged.append((number, layer))
        elif len(layer.bottom) != 1 or len(layer.top) != 1:
            raise ModelError(f"{_who(layer)}: a padding layer has one bottom and one top")
    return merged


def _upgrade(old: V1LayerParameter) -> V1LayerParameter:
    if not old.HasField("layer"):
        return old
    flat = old.layer
    new = V1LayerParameter(name=flat.name, bottom=old.bottom, top=old.top)
    new.type = TYPES.get(flat.type, V1LayerParameter.NONE)
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    for descriptor, value in flat.ListFields():
        name = descriptor.name
        if name in ("name", "type"):
            continue
        if name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(new, name).extend(value)
            continue
        homes = (MESSAGES.get(layer_type, ("", "")) for layer_type in (flat.type, ""))
        message = next((message for message, names in homes if name in names.split(" ")), None)
        if message is None and flat.type in DATA:
            continue  # as in UpgradeV0LayerParameter; of such a layer only its tops stay
        if message is None:
            raise ModelError(f"{_who(old)}: has '{name}', which this type has no place for")
        target: Message = getattr(new, message) if message else new
        field = RENAMED.get(name, name.removeprefix("det_"))
        # V1 lists what V0 has once.
        put(target, field, [value] if is_repeated(target.DESCRIPTOR.fields_by_name[field]) else value)
    return new


def _who(layer: V1LayerParameter) -> str:
    return f"layer '{layer.layer.name}' (V0 type {layer.layer.type!r})"


_SAME_WORDS = (
    "accuracy bnll concat data dropout euclidean_loss flatten hdf5_data hdf5_output im2col infogain_loss lrn "
    "multinomial_logistic_loss relu sigmoid softmax softmax_loss split tanh window_data"
)
TYPES: dict[str, V1LayerParameter.LayerType] = {
    **{word: getattr(V1LayerParameter, word.upper()) for word in _SAME_WORDS.split(" ")},
    "conv": V1LayerParameter.CONVOLUTION,
    "images": V1LayerParameter.IMAGE_DATA,
    "innerproduct": V1LayerParameter.INNER_PRODUCT,
    "pool": V1LayerParameter.POOLING,
}

DATA = frozenset({"data", "hdf5_data", "images", "window_data"})

MESSAGES: dict[str, tuple[str, str]] = {
    "": ("transform_param", "cropsize meanfile mirror scale"),
    "concat": ("concat_param", "concat_dim"),
    "conv": ("convolution_param", "bias_filler biasterm group kernelsize num_output pad stride weight_filler"),
    "data": ("data_param", "batchsize rand_skip source"),
    "dropout": ("dropout_param", "dropout_ratio"),
    "hdf5_data": ("hdf5_data_param", "batchsize source"),
    "hdf5_output": ("", "hdf5_output_param"),
    "images": ("image_data_param", "batchsize new_height new_width rand_skip shuffle_images source"),
    "infogain_loss": ("infogain_loss_param", "source"),
    "innerproduct": ("inner_product_param", "bias_filler biasterm num_output weight_filler"),
    "lrn": ("lrn_param", "alpha beta k local_size"),
    "pool": ("pooling_param", "kernelsize pad pool stride"),
    "window_data": (
        "window_data_param",
        "batchsize det_bg_threshold det_context_pad det_crop_mode det_fg_fraction det_fg_threshold source",
    ),
}
"""V0 type, "" for all, -> the message of V1 and the flat parameters that go there."""

RENAMED = {
    "batchsize": "batch_size",
    "biasterm": "bias_term",
    "cropsize": "crop_size",
    "kernelsize": "kernel_size",
    "meanfile": "mean_file",
    "shuffle_images": "shuffle",
}
"""The V1 name of a flat parameter; those of a window's detector lose their `det_`."""
