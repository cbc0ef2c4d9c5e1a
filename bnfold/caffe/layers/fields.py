"""Fields of a layer's parameters that mean nothing at inference, and those that nobody here knows a meaning of.

A row of the table of layers names what it reads. What else is set must be in `IDLE`, or be what it is by default;
otherwise the layer computes something that is not known here, and is left as it is: nothing folds through it, and it
has no ONNX form. A field is never dropped silently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bnfold.caffe.descriptors import Descriptor, is_repeated
from bnfold.caffe.layers.table import LAYERS
from bnfold.net import Layer

LIBRARY = "says which library computes, or how it is asked to"
TRAINS = "is about training alone"
WRITES = "is about files that are written besides"


def _by_name(names: Mapping[str, str]) -> Mapping[str, str]:
    return {name: reason for reason, words in names.items() for name in words.split(" ")}


IDLE: Mapping[str, str] = _by_name(
    {
        LIBRARY: "conv_algorithm conv_algos_override cudnn_convolution_algo_seeker cudnn_flavor engine "
        "force_nd_im2col save_mem",
        TRAINS: "c_rate decay decay_exma dis_mode dummy_backward dynamicsplicing frozen gen_mode iter_stop momentum "
        "moving_average_fraction random_seed splicing_rate stable_prod_grad stats_batch_size to_compute_dU "
        "update_global_stats weight_fixed",
        WRITES: "debug_info label_map_file save_file save_output_param visualize visualize_threshold",
        "fills an input, which the user gives": "data_filler",
        "is read by nothing in the Caffe that has it": "ignore_id side use_dpu use_ignore_ids",
        "says how to round to integers, where scales and zero points ask for it": "quantize_method",
        "says how training begins": "bias_filler bias_mask_filler blob_filler filler offset_filler scale_filler "
        "shift_filler slope_filler weight_filler weight_mask_filler",
        "says which of two layers called BN it is, which the number of its blobs says too, and of a BatchNorm what "
        "training keeps": "icnet",
    }
)
"""Fields of any `*_param` that change nothing at inference, and why."""

IDLE_OF_LAYER: Mapping[str, str] = _by_name(
    {
        LIBRARY: "engine reshape_every_iter",
        TRAINS: "loss_weight propagate_down",
        WRITES: "debug",
        "tells BatchNorm and Dropout alone that they train": "phase",
        "chooses the row": "type",
        "connects": "bottom top",
        "names": "name",
        "says in what type a GPU computes": "backward_math backward_type cudnn_math_override forward_math forward_type",
    }
)
"""Fields of a layer itself, outside its `*_param`, that change nothing of what it computes."""

OPAQUE: Mapping[str, str] = {
    "sample_weights_test": "drops values at random at TEST, too, so that no two runs agree; without it the layer gives "
    "their mean",
}
"""Fields of any `*_param` whose meaning is known, and is nothing that can be computed or proved."""

COMMON_PARAMS = frozenset({"loss_param", "transform_param"})
"""Parameters that a layer of any type may have."""

IDENTITY: Mapping[str, float] = {
    f"{values}_{word}": neutral
    for values in ("bias", "input", "output", "weight")
    for word, neutral in (("scale", 1), ("zero_point", 0))
}
"""Fields by which Synopsys' Caffe rounds to integers, and the value at which it does not."""


def unread_fields(layer: Layer) -> str:
    """Why the parameters of a layer are not understood; empty where they are, or where the type is unknown anyhow."""
    row = LAYERS.get(layer.type)
    if row is None:
        return ""
    param = layer.param
    for message, names in row.reads.items():
        if param.HasField(message) and (problem := _unread(getattr(param, message), _words(names), message)):
            return problem
    if row.dialects and row.reads and not any(param.HasField(message) for message in row.reads):
        for field, _ in param.ListFields():
            if field.name.endswith("_param") and field.name not in COMMON_PARAMS:
                return f"its parameters are in {field.name}, where no {layer.type} that is known here has them"
    for field in of_no_meaning(param.DESCRIPTOR):
        if getattr(param, field.name) != field.default_value:
            return f"its `{field.name}` has no meaning that is known here"
    return ""


@cache
def of_no_meaning(layer: Descriptor) -> list[FieldDescriptor]:
    """The fields of a layer itself that nobody knows. There should be none; to list all that is set takes long."""
    return [field for field in layer.fields if field.message_type is None and field.name not in IDLE_OF_LAYER]


@cache
def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _unread(param: Message, reads: Collection[str], message: str) -> str:
    for field, value in param.ListFields():
        if field.name in reads or field.name in IDLE or _is_default(field, value):
            continue
        if field.name in IDENTITY:
            if all(number == IDENTITY[field.name] for number in (value if is_repeated(field) else [value])):
                continue
            return f"`{field.name}` of its {message} is not {IDENTITY[field.name]:g}, so it computes in integers"
        why = OPAQUE.get(field.name, "has no meaning that is known here for this type")
        return f"`{field.name}` of its {message} {why}"
    return ""


def _is_default(field: FieldDescriptor, value: object) -> bool:
    return field.has_default_value and field.message_type is None and value == field.default_value
