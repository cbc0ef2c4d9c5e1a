"""Every field of the schema, on every layer type: it changes what is computed, or means nothing, or stops the layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from cases import golden, goldens
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from present import present
from single_layer import assert_close, by_oracle, exported, layer_net, noise

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.descriptors import is_message, is_repeated
from bnfold.caffe.layers import LAYERS, fields, unread_fields
from bnfold.caffe.layers.fields import IDLE, IDLE_OF_LAYER, of_no_meaning
from bnfold.errors import BnfoldError, UnsupportedError
from bnfold.net import Blobs, Layer, Net, Shape
from bnfold.onnx import to_onnx

NUMBERS = (2, 3, 1, 0, 5, 7, -1)
WORDS = ("NCHW", "NHWC", "REFLECT", "EDGE", "CRD", "align_corners", "no_such_word")


def other_values(field: FieldDescriptor, message: Message) -> Iterator[Any]:
    """Values of a field that differ from what it is, be it that it is said at all."""
    now = getattr(message, field.name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        values: tuple[Any, ...] = (True, False)
    elif field.type == FieldDescriptor.TYPE_ENUM:
        values = tuple(value.number for value in present(field.enum_type).values)
    elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        values = WORDS
    elif field.type == FieldDescriptor.TYPE_FLOAT:
        values = (0.3, 2.0, 1.0, 0.0, 5.0, -1.0)
    else:
        unsigned = field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
        values = tuple(number for number in NUMBERS if number >= 0 or not unsigned)
    if is_repeated(field):
        yield from ([value] for value in values if [value] != list(now))
        yield from ([*now, value] for value in values if now)
    else:
        yield from (value for value in values if value != now or not message.HasField(field.name))


def put(message: Message, field: FieldDescriptor, value: Any) -> None:
    if is_repeated(field):
        message.ClearField(field.name)
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def fields_of(layer_type: str) -> Iterator[tuple[str, Any]]:
    """The fields of the messages that a type reads."""
    for name in LAYERS[layer_type].reads:
        message: Any = LayerParameter.DESCRIPTOR.fields_by_name[name].message_type
        yield from ((name, field) for field in message.fields)


@pytest.mark.parametrize("layer_type", sorted(LAYERS))
def test_a_field_that_is_read_by_nothing_stops_the_layer_by_its_name(layer_type: str) -> None:
    for name, field in fields_of(layer_type):
        if field.name in LAYERS[layer_type].reads[name].split() or field.name in IDLE:
            continue
        param = LayerParameter(name="l", type=layer_type)
        message = getattr(param, name)
        if is_message(field):
            getattr(message, field.name).add() if is_repeated(field) else getattr(message, field.name).SetInParent()
        elif is_repeated(field) or field.has_default_value:
            put(message, field, next(value for value in other_values(field, message) if value != field.default_value))
        else:
            put(message, field, field.default_value)  # without a default in the schema even a 0 says something
        assert f"`{field.name}`" in unread_fields(Layer("l", layer_type, ["x"], ["y"], Blobs(), param)), (
            f"{name}.{field.name}"
        )


def test_a_dropout_that_draws_at_test_is_refused_as_what_no_two_runs_agree_on() -> None:
    net = layer_net('type: "Dropout" dropout_param { sample_weights_test: true }', [IMAGE])
    with pytest.raises(UnsupportedError, match="`sample_weights_test` of its dropout_param drops values at random at"):
        to_onnx(net)
    assert not layer_net('type: "Dropout" dropout_param { sample_weights_test: false }', [IMAGE]).layers[-1].opaque


def test_a_noise_that_is_filled_is_added_at_test_too() -> None:
    net = layer_net('type: "Noise" noise_param { filler_param { type: "gaussian" std: 0.5 } }', [IMAGE])
    with pytest.raises(UnsupportedError, match="`filler_param` of its noise_param"):
        to_onnx(net)


def test_a_reason_stands_beside_each_field_that_means_nothing() -> None:
    assert all(IDLE.values())
    assert all(IDLE_OF_LAYER.values())
    assert not of_no_meaning(LayerParameter.DESCRIPTOR)


def test_a_field_of_a_layer_itself_without_a_reason_makes_it_opaque(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "IDLE_OF_LAYER", {name: why for name, why in IDLE_OF_LAYER.items() if name != "phase"})
    monkeypatch.setattr(fields, "of_no_meaning", of_no_meaning.__wrapped__)
    said = [LayerParameter(type="ReLU", phase=phase) for phase in ("TRAIN", "TEST")]  # TRAIN is the default
    reasons = [unread_fields(Layer("x", "ReLU", ["a"], ["b"], Blobs(), param)) for param in said]
    assert reasons == ["", "its `phase` has no meaning that is known here"]


@cache
def nets_with() -> dict[str, list[tuple[Net, int]]]:
    """Type -> goldens that have it, the smallest first, and where."""
    found: dict[str, list[tuple[Net, int]]] = {}
    nets = [golden(name).load() for name in goldens()]
    for net in sorted(nets, key=lambda net: len(net.layers)):
        for index, layer in enumerate(net.layers):
            if not layer.opaque:
                found.setdefault(layer.type, []).append((net, index))
    return found


IMAGE = (2, 4, 6, 8)
FILM = (2, 4, 4, 6, 6)
STEPS = (2, 36, 6, 8)
REFINEDET = [(2, 32), (2, 24), (1, 2, 32), (2, 16), (2, 32)]
WINDOW = "num_output: 4 kernel_size: 3"
SHAPES = (
    "kernel_shape { dim: 2 dim: 3 dim: 3 } stride_shape { dim: 2 dim: 1 dim: 1 } pad_shape { dim: 0 dim: 1 dim: 0 }"
)

NO_GOLDEN: dict[str, list[tuple[str, list[Shape]]]] = {
    "APL": [("apl_param { sums: 3 }", [IMAGE]), ("apl_param { sums: 1 }", [(2, 5)])],
    "Atan": [("", [IMAGE])],
    "BatchReduction": [
        ("", [IMAGE]),
        ("batch_reduction_param { level: 1 level: 2 reduction_param { axis: 2 operation: MEAN } }", [(2, 3, 5, 4)]),
        ("batch_reduction_param { level: 2 level: 1 reduction_param { axis: 1 coeff: 3 } }", [(2, 5)]),
        ("batch_reduction_param { level: 1 reduction_param { axis: -1 operation: MEAN } }", [(2, 3, 4)]),
    ],
    "BatchToSpaceND": [
        ("batch_to_space_nd_param { block_shape: 1 block_shape: 2 crops: 0 crops: 0 crops: 1 crops: 0 }", [IMAGE])
    ],
    "BroadcastMul": [("", [IMAGE, (2, 4, 1, 1)]), ("", [(2, 4), IMAGE])],
    "BroadcastTo": [("broadcast_to_param { shape: 2 shape: 3 shape: 4 }", [(2, 1, 4)])],
    "Ceil": [("", [IMAGE])],
    "Correlation1D": [
        ("correlation_param { pad: 3 kernel_size: 1 max_displacement: 3 }", [IMAGE, IMAGE]),
        (
            "correlation_param { pad: 2 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2 "
            "single_direction: 1 correlation_type: SUBTRACT }",
            [IMAGE, IMAGE],
        ),
    ],
    "CTCGreedyDecoder": [("", [(5, 2, 4), (5, 2)])],
    "ContinuationIndicator": [("continuation_indicator_param { time_step: 5 }", [(2, 4, 6)])],
    "Convolution3D": [
        (f"convolution3d_param {{ {WINDOW} kernel_depth: 2 }}", [FILM]),
        (f"convolution_param {{ {WINDOW} kernel_depth: 2 }}", [FILM]),
    ],
    "Deconvolution3D": [
        (f"convolution3d_param {{ {WINDOW} kernel_depth: 2 }}", [FILM]),
        (f"convolution_param {{ {WINDOW} kernel_depth: 2 temporal_stride: 2 }}", [FILM]),
    ],
    "DeephiResize": [
        ("deephi_resize_param { scale_h: 2 scale_w: 3 }", [IMAGE]),
        ("deephi_resize_param { resize_type: BILINEAR new_height: 7 new_width: 3 }", [IMAGE]),
    ],
    "DeformableConvolution": [
        (f"deformable_convolution_param {{ {WINDOW} group: 2 deformable_group: 2 pad: 1 }}", [IMAGE, STEPS]),
        (
            "deformable_convolution_param { num_output: 4 kernel_h: 3 kernel_w: 3 deformable_group: 2 pad_h: 1 "
            "pad_w: 1 stride_h: 1 stride_w: 1 }",
            [IMAGE, STEPS],
        ),
        (
            f"deformable_convolution_param {{ {WINDOW} deformable_group: 2 pad: 2 dilation: 2 stride: 1 }}",
            [IMAGE, STEPS],
        ),
    ],
    "DetectionOutputRefine": [("detection_output_param { num_classes: 3 }", REFINEDET)],
    "DepthwiseConv": [
        ("convolution_param { num_output: 4 kernel_size: 3 pad: 1 }", [IMAGE]),
        ("convolution_param { num_output: 4 kernel_size: 3 pad_l: 1 }", [IMAGE]),
    ],
    "DepthwiseDeconvolution": [
        (f"convolution_param {{ {WINDOW} }}", [IMAGE]),
        (f"convolution_param {{ {WINDOW} pad_l: 1 }}", [IMAGE]),
    ],
    "ExpandDimsND": [("expand_dims_nd_param { axis: 1 }", [IMAGE])],
    "Filter": [("", [IMAGE, (2, 1, 1, 1)]), ("", [IMAGE, (2,)])],
    "Floor": [("", [IMAGE])],
    "FloorDiv": [("", [IMAGE, IMAGE])],
    "FloorMod": [("", [IMAGE, IMAGE])],
    "Gemm": [("", [(3, 3), (3, 3), (1, 3)])],
    "GradientBlock": [("", [IMAGE])],
    "Gather": [("gather_param { indices: 2 indices: 0 indices: 2 indices: 1 shape: 2 shape: 2 axis: 1 }", [IMAGE])],
    "GatherND": [
        ("gather_nd_param { indices: 1 indices: 2 indices: 0 indices: 1 indices_shape: 2 indices_shape: 2 }", [IMAGE])
    ],
    "GatherV2": [("gather_v2_param { axis: 1 }", [IMAGE, (3,)])],
    "GradientClip": [("", [IMAGE])],
    "GradientReversal": [("", [IMAGE])],
    "GradientScaler": [("", [IMAGE])],
    "GradientSilent": [("", [IMAGE])],
    "Dtow": [("", [IMAGE]), ("dtow_param { method: MWTOD psize: 2 }", [IMAGE])],
    "ChannelwiseAffine": [("", [IMAGE])],
    "CReLU": [("", [IMAGE]), ("crelu_param { negative_slope: 0.5 concat_axis: 2 }", [IMAGE])],
    "NeedRemove": [("", [IMAGE])],
    "SyncBN": [("", [IMAGE])],
    "Flip": [("", [IMAGE]), ("flip_param { flip_width: false flip_height: true }", [IMAGE])],
    "GSTiling": [("gs_tiling_param { stride: 2 reverse: true }", [IMAGE])],
    "Div": [("", [IMAGE, IMAGE])],
    "ICNetSubgraph": [("", [IMAGE])],
    "LpNormalization": [("lp_normalization_param { axis: 1 p: 3 }", [IMAGE])],
    "LSTMUnit": [("", [(1, 2, 4), (1, 2, 16), (1, 2)])],
    "Local": [
        ("local_param { num_output: 3 kernel_size: 3 stride: 2 pad: 1 }", [IMAGE]),
        ("local_param { num_output: 3 kernel_size: 2 bias_term: false }", [IMAGE]),
    ],
    "Lstm": [
        ("lstm_param { num_output: 5 clipping_threshold: 1 }", [(4, 3, 6)]),
        ("lstm_param { num_output: 5 batch_size: 2 }", [(6, 3, 2)]),
    ],
    "MatMul": [
        ("", [(2, 3, 3), (2, 3, 3)]),
        ("matmul_param { blob_shape: 2 blob_shape: 3 blob_shape: 3 }", [(2, 3, 3)]),
    ],
    "Maximum": [("", [IMAGE, IMAGE])],
    "Minimum": [("", [IMAGE, IMAGE])],
    "Mul": [("mul_param { mul_shape: 8 }", [IMAGE]), ("", [IMAGE, IMAGE])],
    "Noise": [("noise_param { gaussian_std: 0.5 }", [IMAGE])],
    "Norm": [("", [(3, 7)])],
    "Normalization": [("", [(3, 7)])],
    "OutputDecay": [("", [IMAGE])],
    "Padding": [
        ("padding_param { pad_h: 1 pad_w: 2 }", [IMAGE]),
        ("padding_param { type: MIRROR pad_up: 1 pad_left: 2 }", [IMAGE]),
        ("padding_param { pad_t: 1 pad_l: 2 }", [IMAGE]),
    ],
    "Piece": [("piece_param { begin: 0 begin: 1 begin: 0 begin: 2 size: -1 size: 2 size: 3 size: -1 }", [IMAGE])],
    "PixelShuffle": [
        ("pixel_shuffle_param { upscale_factor: 2 }", [IMAGE]),
        ("pixelshuffle_param { upscale_factor: 2 }", [IMAGE]),
    ],
    "NdConvolution": [
        (f"convolution_param {{ num_output: 4 {SHAPES} }}", [FILM]),
        (f"convolution_param {{ {WINDOW} pad: 1 stride: 2 }}", [FILM]),
    ],
    "NdPooling": [
        ("pooling_param { kernel_shape { dim: 1 dim: 2 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 2 } }", [FILM]),
        ("pooling_param { pad_shape { dim: 1 dim: 0 dim: 0 } kernel_size: 2 stride: 2 }", [FILM]),
    ],
    "Pooling3D": [
        ("pooling3d_param { kernel_size: 3 kernel_depth: 1 stride: 2 }", [FILM]),
        ("pooling_param { kernel_size: 3 kernel_depth: 1 stride: 2 }", [FILM]),
    ],
    "Pow": [("", [IMAGE, IMAGE])],
    **{
        f"Reduce{name}": [(f"reduce_{name.lower()}_param {{ axis: 2 }}", [IMAGE])]
        for name in ("Max", "Min", "Prod", "Sum")
    },
    "ReduceL1": [("reduce_l1_param { axes: 2 }", [IMAGE])],
    "ReduceL2": [("reduce_l2_param { axes: 2 }", [IMAGE])],
    "ReduceLogSumExp": [("reduce_logsumexp_param { axis: 2 }", [IMAGE])],
    "ReduceLogsumexp": [("reduce_logsumexp_param { axis: 2 }", [IMAGE])],
    "Reverse": [("reverse_param { axis: 1 }", [IMAGE])],
    "Round": [("", [IMAGE])],
    "ScaledTanH": [("scaled_tanh_param { alpha: 1.5 beta: 0.5 }", [IMAGE])],
    "SELU": [("", [IMAGE])],
    "SeLuDropout": [("", [IMAGE])],
    "SignedSqrt": [("", [IMAGE])],
    "Sin": [("", [IMAGE])],
    "Softplus": [("", [IMAGE])],
    "Softsign": [("", [IMAGE])],
    "SpaceToBatchND": [
        (
            "space_to_batch_nd_param { block_shape: 1 block_shape: 2 paddings: 0 paddings: 0 paddings: 1 paddings: 3 }",
            [IMAGE],
        )
    ],
    "SpaceToDepth": [('space_to_depth_param { block_size: 2 data_format: "NCHW" }', [IMAGE])],
    "SpatialDropout": [("", [IMAGE])],
    "StridedSlice": [
        ("strided_slice_param { begin: 0 begin: 1 end: 2 end: 4 begin_mask: 1 end_mask: 1 }", [IMAGE]),
        ("strided_slice_param { begin: 2 begin: 1 begin: 0 end: 0 end: 5 end: 6 ellipsis_mask: 1 }", [IMAGE]),
        ("strided_slice_param { begin: 1 end: 4 axes: 2 }", [IMAGE]),
    ],
    "Sub": [("", [IMAGE, IMAGE])],
    "SpatialTransformer": [
        (
            "st_param { transform_type: 'affine' sampler_type: 'bilinear' output_H: 5 output_W: 3 theta_1_1: 0.5 "
            "theta_1_2: 0 theta_1_3: 0.25 }",
            [IMAGE, (2, 3)],
        ),
        ("st_param { theta_2_1: 0.5 theta_2_2: 0 theta_2_3: 0.25 }", [IMAGE, (2, 3)]),
    ],
    "Stack": [("stack_param { axis: 1 }", [IMAGE, IMAGE])],
    "ThresholdedReLU": [("thresholded_relu_param { alpha: 0.5 }", [IMAGE])],
    "TileND": [("tile_nd_param { multiples: 1 multiples: 2 }", [IMAGE])],
    "Tiling": [("tiling_param { tile_dim: 2 }", [IMAGE])],
    "UnPooling": [
        ("unpooling_param { unpool: FIXED out_kernel_size: 3 }", [IMAGE]),
        ("unpooling_param { unpool: FIXED out_kernel_h: 3 out_kernel_w: 2 }", [IMAGE]),
        ("unpooling_param { unpool: REP out_kernel_size: 3 out_stride_h: 2 out_stride_w: 1 }", [IMAGE]),
        ("unpooling_param { unpool: REP out_kernel_size: 3 out_pad_h: 1 out_pad_w: 0 }", [IMAGE]),
    ],
    "Unpooling": [
        ("unpooling_param { unpool: MAX stride: 2 unpool_size: 9 }", [IMAGE]),
        ("unpooling_param { stride_h: 1 stride_w: 2 unpool_h: 7 unpool_w: 9 }", [IMAGE]),
    ],
    "Unstack": [("unstack_param { axis: 1 }", [IMAGE])],
    "Transpose": [("transpose_param { dim: 0 dim: 3 dim: 1 dim: 2 }", [IMAGE])],
}
"""The types that no golden has, with nets of their own: the inside of the layer, and the shapes of its bottoms.

A golden holds what a real Caffe computed, and these are layers of forks that none was made with. Which of their fields
matter can be asked of a net without answers.
"""


TOPS = {"LSTMUnit": 2}


@pytest.mark.parametrize(
    ("layer_type", "text", "shapes"),
    [(layer_type, text, shapes) for layer_type, cases in NO_GOLDEN.items() for text, shapes in cases],
)
def test_a_type_that_no_golden_has_computes_what_the_reference_does(
    layer_type: str, text: str, shapes: list[Shape]
) -> None:
    inside, inputs = f'type: "{layer_type}" {text}', noise(shapes)
    blobs = noise([(8,)], 1) if "mul_shape: 8" in text else None
    net = layer_net(inside, shapes, TOPS.get(layer_type, 1), blobs)
    assert_close(exported(net, inputs), by_oracle(inside, net, inputs))


NOT_IN_A_NET = {
    "CConvolution": "read as a Convolution, its weight times the mask",
    "CInnerProduct": "read as an InnerProduct, its weight times the mask",
    "DummyData": "it is an input of the net, and no layer",
    "SqueezeConvolution": "read as a Convolution, its weight times the mask",
    "SqueezeDeconvolution": "read as a Deconvolution, its weight times the mask",
    "SqueezeInnerProduct": "read as an InnerProduct, its weight times the mask",
}
"""The types that no net has once it is read, so that no field of theirs can be changed in one, and why."""


def test_the_types_that_no_golden_has_are_these() -> None:
    without = sorted(set(LAYERS) - set(nets_with()))
    assert without == sorted([*NO_GOLDEN, *NOT_IN_A_NET]), "a type that has a golden is in neither list"


@pytest.mark.parametrize(
    ("layer_type", "text", "shapes"),
    [
        (
            "DummyData",
            'dummy_data_param { shape { dim: 2 } } } layer { name: "r" type: "ReLU" bottom: "y0" top: "r"',
            [],
        ),
        ("CConvolution", f"convolution_param {{ {WINDOW} }} cconvolution_param {{ c_rate: 1 }}", [IMAGE]),
        ("CInnerProduct", "inner_product_param { num_output: 5 }", [IMAGE]),
        ("SqueezeConvolution", f"squeeze_convolution_param {{ {WINDOW} }}", [IMAGE]),
        ("SqueezeDeconvolution", f"squeeze_convolution_param {{ {WINDOW} }}", [IMAGE]),
        ("SqueezeInnerProduct", "squeeze_inner_product_param { num_output: 5 }", [IMAGE]),
    ],
)
def test_a_type_that_is_read_as_another_is_in_no_net(layer_type: str, text: str, shapes: list[Shape]) -> None:
    assert layer_type in NOT_IN_A_NET
    assert layer_type not in {layer.type for layer in layer_net(f'type: "{layer_type}" {text}', shapes).layers}


RATIOS = " ".join(f"ratio{part}: 2" for part in range(6))
BESIDE_GOLDENS: dict[str, list[tuple[str, list[Shape]]]] = {
    "Upsample": [
        ("upsample_param { height_scale: 2 width_scale: 3 }", [IMAGE]),
        ("upsample_param { mode: NEAREST height: 9 width: 11 }", [IMAGE]),
    ],
    "DetectionOutput": [
        ("detection_output_param { num_classes: 3 }", REFINEDET),
        (
            f"detection_output_param {{ num_classes: 3 ratio_permute: true {RATIOS} }}",
            [(1, 12)] * 6 + [(1, 16)] * 6 + [(1, 2, 96)],
        ),
        (
            "detection_output_param { num_classes: 3 no_permute: true nbottom: 2 }",
            [(1, 3, 2, 4)] * 2 + [(1, 8, 2, 2)] * 2 + [(1, 2, 64)],
        ),
    ],
    "Proposal": [
        (
            "proposal_param { stride_h: 4 stride_w: 4 nms_iou_th: 0.5 anchor { right: 9 bottom: 9 } }",
            [(1, 2, 6, 8), (1, 4, 6, 8), (1, 3)],
        )
    ],
}
"""Nets of types that goldens have, for fields that mean something in none of these."""


def bases_of(layer_type: str) -> list[tuple[Net, int]]:
    """Nets that have a type, and where."""
    goldens = [] if layer_type in NO_GOLDEN else nets_with()[layer_type][:24]
    tops, own = TOPS.get(layer_type, 1), {**NO_GOLDEN, **BESIDE_GOLDENS}.get(layer_type, [])
    nets = [layer_net(f'type: "{layer_type}" {text}', shapes, tops) for text, shapes in own]
    return goldens + [
        (net, index) for net in nets for index, layer in enumerate(net.layers) if layer.type == layer_type
    ]


ELSEWHERE = {
    ("BatchNorm", "bias_term"): "the number of blobs says it",
    ("BatchNorm", "use_weight_bias"): "the number of blobs says it",
    ("ConvolutionDepthwise", "group"): "the type is depthwise whatever it says",
    ("GradientClip", "gradient_clip"): "it scales gradients alone",
    ("Unstack", "num"): "the number of tops says it",
    **dict.fromkeys([("Noise", name) for name in LAYERS["Noise"].reads["noise_param"].split()], "it is training's"),
    ("ChannelwiseAffine", "channel_shared"): "the number of values says it",
    ("EltwiseAffine", "channel_shared"): "the number of values says it",
    **dict.fromkeys(
        [("GradientScaler", name) for name in ("alpha", "lower_bound", "max_iter", "threshold_iter", "upper_bound")],
        "it scales gradients alone",
    ),
    ("InnerProduct", "normalize"): "it is worked into the weights when they are read",
    ("Lstm", "clipping_threshold"): "it clips gradients alone",
    ("MatMul", "blob_shape"): "the blob has the shape",
    ("Mul", "mul_shape"): "the blob has the shape",
    **dict.fromkeys(
        [("OutputDecay", name) for name in ("output_decay", "regularization_type")], "it changes gradients alone"
    ),
    ("PriorBoxClustered", "flip"): "its boxes are listed one by one",
    ("SeLuDropout", "alpha"): "it drops nothing at TEST",
    ("SeLuDropout", "dropout_ratio"): "it drops nothing at TEST",
    ("SpatialDropout", "dropout_ratio"): "it drops nothing at TEST",
    **dict.fromkeys(
        [("Unpooling", name) for name in ("kernel_h", "kernel_size", "kernel_w")], "the plane of the top is said"
    ),
}
"""Fields that are known and change nothing in a net with its weights, and why."""


def with_help(param: LayerParameter, layer_type: str, name: str, field: str) -> None:
    """Set what a field needs beside it to mean something."""
    message = getattr(param, name)
    if field == "negative_slope" and layer_type not in ("CReLU", "ReLU", "ReLU6", "ReLUX"):
        message.relu = True
    elif layer_type == "MirrorPad" and field == "constant_values":
        message.mode = "CONSTANT"
    elif field in ("scale_height", "scale_width"):
        message.ClearField("output_height")
        message.ClearField("output_width")
    elif name == "DepthwiseConvolution_param":
        message.MergeFromString(param.convolution_param.SerializeToString())
        param.ClearField("convolution_param")
    elif name == "batch_norm_param" and layer_type == "CuDNNBatchNorm":
        param.ClearField("cudnn_batch_norm_param")


def outcome(net: Net) -> object:
    """The model, or why there is none."""
    try:
        return to_onnx(net).SerializeToString(deterministic=True)
    except BnfoldError as error:
        return str(error)


def with_param(net: Net, index: int, param: LayerParameter) -> object:
    changed = net.copy()
    changed.layers[index].param = param
    return outcome(changed)


Models = dict[tuple[int, int, bytes], object]  # of a net with the parameters of a layer


def changes(net: Net, index: int, name: str, field: FieldDescriptor, models: Models) -> bool:
    """Whether a value of a field makes another model; `models` keeps those of its net as it is."""
    base = LayerParameter()
    base.CopyFrom(net.layers[index].param)
    with_help(base, net.layers[index].type, name, field.name)
    key = id(net), index, base.SerializeToString(deterministic=True)
    if key not in models:
        models[key] = with_param(net, index, base)
    for value in other_values(field, getattr(base, name)):
        param = LayerParameter()
        param.CopyFrom(base)
        put(getattr(param, name), field, value)
        if with_param(net, index, param) != models[key]:
            return True
    return False


@pytest.mark.parametrize("layer_type", sorted(set(LAYERS) - set(NOT_IN_A_NET)))
def test_a_field_that_is_read_changes_the_model_or_is_refused(layer_type: str) -> None:
    bases = bases_of(layer_type)
    assert bases
    idle, models = [], Models()
    for name, field in fields_of(layer_type):
        if field.name not in LAYERS[layer_type].reads[name].split() or is_message(field):
            continue
        known = (layer_type, field.name) in ELSEWHERE
        if not known and not any(changes(net, index, name, field, models) for net, index in bases):
            idle.append(f"{name}.{field.name}")
    assert not idle, ", ".join(idle)


def test_parameters_in_another_message_are_those_of_another_layer_of_that_name() -> None:
    """MS-CNN's ROIAlign is no Synopsys' one: it samples points, and says their number in roi_pooling_param."""
    param = LayerParameter(type="ROIAlign")
    param.roi_pooling_param.pooled_h = param.roi_pooling_param.pooled_w = 5
    layer = Layer("roi", "ROIAlign", ["x", "rois"], ["y"], Blobs(), param)
    assert unread_fields(layer) == (
        "its parameters are in roi_pooling_param, where no ROIAlign that is known here has them"
    )
    param.roi_align_param.pooled_h = param.roi_align_param.pooled_w = 5
    assert not unread_fields(layer)
