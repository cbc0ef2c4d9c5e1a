"""The oldest prototxts, V0 (`layers { layer { type: "conv" ... } }`), made into V1 as in upgrade_proto.cpp.

V0 keeps the connections outside and one flat list of parameters, for all types, inside. Each goes to the message of
its type, and padding, which was a layer of its own, into the layer that reads it (UpgradeV0PaddingLayers):

    Given:   data -> pad1 (padding, pad: 2) -> conv1        Result:  data -> conv1 (convolution_param { pad: 2 })
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

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
    layer_type = TYPES.get(flat.type, V1LayerParameter.NONE)
    new = V1LayerParameter(name=flat.name, bottom=old.bottom, top=old.top, type=layer_type)
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    for descriptor, value in flat.ListFields():
        name = descriptor.name
        if name in ("name", "type"):
            continue
        if name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(new, name).extend(value)
            continue
        place = PLACES[name].get(flat.type) or PLACES[name].get("")
        if place is None:
            raise ModelError(f"{_who(old)}: has '{name}', which this type has no place for")
        message, _, field = place.rpartition(".")
        target: Any = getattr(new, message) if message else new
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

# Where a flat parameter goes in V1, by V0 type; "" stands for every type.
PLACES: dict[str, dict[str, str]] = {
    "alpha": {"lrn": "lrn_param.alpha"},
    "batchsize": {
        "data": "data_param.batch_size",
        "hdf5_data": "hdf5_data_param.batch_size",
        "images": "image_data_param.batch_size",
        "window_data": "window_data_param.batch_size",
    },
    "beta": {"lrn": "lrn_param.beta"},
    "bias_filler": {"conv": "convolution_param.bias_filler", "innerproduct": "inner_product_param.bias_filler"},
    "biasterm": {"conv": "convolution_param.bias_term", "innerproduct": "inner_product_param.bias_term"},
    "concat_dim": {"concat": "concat_param.concat_dim"},
    "cropsize": {"": "transform_param.crop_size"},
    "det_bg_threshold": {"window_data": "window_data_param.bg_threshold"},
    "det_context_pad": {"window_data": "window_data_param.context_pad"},
    "det_crop_mode": {"window_data": "window_data_param.crop_mode"},
    "det_fg_fraction": {"window_data": "window_data_param.fg_fraction"},
    "det_fg_threshold": {"window_data": "window_data_param.fg_threshold"},
    "dropout_ratio": {"dropout": "dropout_param.dropout_ratio"},
    "group": {"conv": "convolution_param.group"},
    "hdf5_output_param": {"hdf5_output": "hdf5_output_param"},
    "k": {"lrn": "lrn_param.k"},
    "kernelsize": {"conv": "convolution_param.kernel_size", "pool": "pooling_param.kernel_size"},
    "local_size": {"lrn": "lrn_param.local_size"},
    "meanfile": {"": "transform_param.mean_file"},
    "mirror": {"": "transform_param.mirror"},
    "new_channels": {},
    "new_height": {"images": "image_data_param.new_height"},
    "new_num": {},
    "new_width": {"images": "image_data_param.new_width"},
    "num_output": {"conv": "convolution_param.num_output", "innerproduct": "inner_product_param.num_output"},
    "pad": {"conv": "convolution_param.pad", "pool": "pooling_param.pad"},
    "pool": {"pool": "pooling_param.pool"},
    "rand_skip": {"data": "data_param.rand_skip", "images": "image_data_param.rand_skip"},
    "scale": {"": "transform_param.scale"},
    "shuffle_images": {"images": "image_data_param.shuffle"},
    "source": {
        "data": "data_param.source",
        "hdf5_data": "hdf5_data_param.source",
        "images": "image_data_param.source",
        "infogain_loss": "infogain_loss_param.source",
        "window_data": "window_data_param.source",
    },
    "stride": {"conv": "convolution_param.stride", "pool": "pooling_param.stride"},
    "weight_filler": {"conv": "convolution_param.weight_filler", "innerproduct": "inner_product_param.weight_filler"},
}
