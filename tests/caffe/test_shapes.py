"""Shapes: every golden's outputs, the traps of Caffe's arithmetic, and refusals of whatever does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from arrays import stored
from google.protobuf import text_format
from growing import growth

from bnfold.caffe.caffe_pb2 import EltwiseParameter, LayerParameter, NetParameter, NetStateRule, PoolingParameter
from bnfold.caffe.layers import Convolution, blob_shapes, infer_shapes, output_shapes
from bnfold.caffe.layers.convolution import MAX_VIEWS, VIEWS
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Net, Shape

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def layer_of(text: str, *, bottoms: int = 1, tops: int = 1, blobs: Sequence[Shape] = ()) -> Layer:
    """`type: "Pooling" pooling_param {...}` as a layer 'x' with so many bottoms and tops."""
    param = text_format.Parse(text, LayerParameter())
    learned = Blobs(np.zeros(shape, np.float32) for shape in blobs)
    return Layer("x", param.type, [f"b{i}" for i in range(bottoms)], [f"t{i}" for i in range(tops)], learned, param)


def tops_of(text: str, *bottoms: Shape, tops: int = 1) -> list[Shape]:
    shapes = output_shapes(layer_of(text, bottoms=len(bottoms), tops=tops), bottoms)
    assert shapes is not None
    return shapes


def is_in_test_net(param: LayerParameter) -> bool:
    def matches(rule: NetStateRule) -> bool:
        return not rule.HasField("phase") or rule.phase == 1

    return any(map(matches, param.include)) if param.include else not any(map(matches, param.exclude))


def golden_net(folder: Path) -> tuple[Net, dict[str, str]]:
    """The TEST net of a case and, for each name in the file, the blob that is its last version."""
    written = text_format.Parse((folder / "net.prototxt").read_text(), NetParameter())
    binary = NetParameter.FromString((folder / "net.caffemodel").read_bytes())
    learned = {layer.name: Blobs(np.zeros(list(blob.shape.dim)) for blob in layer.blobs) for layer in binary.layer}
    inputs = {name: array.shape for name, array in stored(folder / "inputs.npz").items()}
    given_shapes = folder / "input_shapes.json"
    if given_shapes.exists():
        inputs |= {name: tuple(shape) for name, shape in json.loads(given_shapes.read_text()).items()}
    version = {name: name for name in inputs}
    layers = []
    for param in filter(is_in_test_net, written.layer):
        if not param.bottom and all(top in inputs or top == "label" for top in param.top):
            continue
        if "label" in param.bottom:
            continue
        bottoms = [version[bottom] for bottom in param.bottom]
        for top in param.top:
            version[top] = f"{top}@{param.name}" if top in version else top
        tops = [version[top] for top in param.top]
        layers.append(Layer(param.name, param.type, bottoms, tops, learned.get(param.name, Blobs()), param))
    return Net(folder.name, layers, inputs), version


@pytest.mark.parametrize("case", CASES)
def test_inferred_shapes_are_those_of_the_golden_outputs(case: str) -> None:
    net, version = golden_net(GOLDEN / case)
    shapes = infer_shapes(net)
    outputs = stored(GOLDEN / case / "outputs.npz")
    assert outputs
    for name in outputs:
        inferred = shapes[version[name]]
        assert inferred is not None, name
        actual = outputs[name].shape
        assert len(inferred) == len(actual), (name, inferred, actual)
        assert all(a in (-1, b) for a, b in zip(inferred, actual, strict=True)), (name, inferred, actual)


@pytest.mark.parametrize("case", CASES)
def test_promised_blob_shapes_are_those_of_the_golden_weights(case: str) -> None:
    net, _ = golden_net(GOLDEN / case)
    shapes = infer_shapes(net)
    for layer in net.layers:
        bottoms = [shapes[bottom] or () for bottom in layer.bottoms]
        promised = blob_shapes(layer, bottoms)
        if promised is not None:
            assert tuple(promised) == layer.blobs.shapes, layer


# Traps of Caffe's arithmetic.


@pytest.mark.parametrize(
    ("text", "bottom", "top"),
    [
        ("kernel_size: 3 stride: 2", (1, 4, 8, 8), (1, 4, 4, 4)),  # ceil
        ("kernel_size: 3 stride: 2 round_mode: FLOOR", (1, 4, 8, 8), (1, 4, 3, 3)),
        ("kernel_size: 3 stride: 2 ceil_mode: false", (1, 4, 8, 8), (1, 4, 3, 3)),
        ("kernel_size: 3 stride: 2 ceil_mode: true", (1, 4, 8, 8), (1, 4, 4, 4)),
        ("kernel_size: 3 stride: 2 torch_pooling: true", (1, 4, 8, 8), (1, 4, 3, 3)),
        ("kernel_size: 2 stride: 2 pad: 1", (1, 4, 5, 5), (1, 4, 3, 3)),  # 4 windows, the last outside: taken back
        ("kernel_size: 1 stride: 2", (1, 4, 6, 6), (1, 4, 4, 4)),  # outside too, but nothing is taken back without pad
        ("kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1", (1, 4, 7, 7), (1, 4, 3, 7)),
        ("kernel_size: 3 pad_h: 1 pad_w: 0 stride: 2", (1, 4, 7, 7), (1, 4, 4, 3)),
        ("kernel_size: 5 stride: 3", (1, 4, 3, 3), (1, 4, 1, 1)),  # a window larger than the image, clipped to it
        ("global_pooling: true", (1, 4, 7, 9), (1, 4, 1, 1)),
        ("kernel_size_3d: 1 kernel_size_3d: 2 kernel_size_3d: 3", (1, 4, 3, 4, 5), (1, 4, 3, 3, 3)),
        ("kernel_size: 2 stride: 2", (-1, 4, -1, 8), (-1, 4, -1, 4)),
    ],
)
def test_pooling_rounds_and_clips_as_caffe_does(text: str, bottom: Shape, top: Shape) -> None:
    assert tops_of(f'type: "Pooling" pooling_param {{ {text} }}', bottom) == [top]


@pytest.mark.parametrize(
    ("text", "bottom", "top"),
    [
        ("kernel_size: 3 dilation: 2", (1, 3, 7, 7), (1, 8, 3, 3)),
        ("kernel_size: 3 hole: 2", (1, 3, 7, 7), (1, 8, 3, 3)),
        ("kernel_size: 3 hole_h: 1 hole_w: 3", (1, 3, 7, 7), (1, 8, 5, 1)),
        ("kernel_size: 3 kernel_size: 5 pad: 1 pad: 2 stride: 2 stride: 1", (1, 3, 7, 7), (1, 8, 4, 7)),
        ("kernel_h: 1 kernel_w: 3 pad_w: 1", (1, 3, 7, 7), (1, 8, 7, 7)),
        ("kernel_size: 3", (2, 3, 4, 5, 6), (2, 8, 2, 3, 4)),
        ("kernel_size: 3 axis: 2", (2, 3, 4, 9), (2, 3, 8, 7)),
        ("kernel_size: 3 axis: -2", (2, 3, 4, 9), (2, 3, 8, 7)),
        ("kernel_size: 3 stride: 2", (-1, 3, 224, -1), (-1, 8, 111, -1)),
    ],
)
def test_convolution_sizes_are_given_once_or_per_axis(text: str, bottom: Shape, top: Shape) -> None:
    assert tops_of(f'type: "Convolution" convolution_param {{ num_output: 8 {text} }}', bottom) == [top]


def test_a_window_that_a_program_changes_in_place_makes_another_top() -> None:
    layer = layer_of('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }')
    assert output_shapes(layer, [(1, 2, 8, 8)]) == [(1, 4, 6, 6)]
    layer.param.convolution_param.pad.append(1)
    assert output_shapes(layer, [(1, 2, 8, 8)]) == [(1, 4, 8, 8)]
    layer.type = "Deconvolution"
    assert output_shapes(layer, [(1, 2, 8, 8)]) == [(1, 4, 8, 8)]
    layer.param.convolution_param.stride.append(2)
    assert output_shapes(layer, [(1, 2, 8, 8)]) == [(1, 4, 15, 15)]


def test_layers_that_say_the_same_of_other_types_and_bottoms_are_not_taken_for_each_other() -> None:
    said = "convolution_param { num_output: 8 kernel_size: 3 pad_type: 1 stride: 2 }"
    assert tops_of(f'type: "Convolution" {said}', (1, 4, 7, 7)) == [(1, 8, 4, 4)]
    assert tops_of(f'type: "Convolution" {said}', (1, 4, 8, 8)) == [(1, 8, 4, 4)]
    views = [Convolution.of(layer_of(f'type: "{name}" {said}'), 2, (1, 4, size, size)) for name, size in KINDS]
    assert [(view.group, view.before, view.after) for view in views] == [
        (1, (1, 1), (1, 1)),
        (1, (0, 0), (1, 1)),
        (4, (1, 1), (1, 1)),
        (8, (1, 1), (1, 1)),
    ]


KINDS = [("Convolution", 7), ("Convolution", 8), ("ConvolutionDepthwise", 7), ("DepthwiseConv", 7)]


def test_few_of_the_windows_of_a_hostile_net_are_kept() -> None:
    layer = layer_of('type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 }')
    for number in range(1, 2 * MAX_VIEWS):
        layer.param.convolution_param.num_output = number
        assert Convolution.of(layer).num_output == number
        assert Convolution.of(layer) is Convolution.of(layer)
    assert len(VIEWS) <= MAX_VIEWS


def test_deconvolution_inverts_the_convolution() -> None:
    text = 'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 dilation: 2 }'
    assert tops_of(text, (1, 3, 5, 6)) == [(1, 6, 11, 13)]


def test_several_bottoms_of_a_convolution_make_several_tops() -> None:
    text = 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 1 }'
    assert tops_of(text, (1, 3, 5, 5), (1, 3, 5, 5), tops=2) == [(1, 2, 5, 5)] * 2


@pytest.mark.parametrize(
    ("text", "bottoms", "tops"),
    [
        ('type: "Concat"', [(2, 3, 4), (2, 5, 4)], [(2, 8, 4)]),
        ('type: "Concat" concat_param { axis: -1 }', [(2, 3, 4), (2, 3, 1)], [(2, 3, 5)]),
        ('type: "Concat" concat_param { concat_dim: 0 }', [(2, 3), (5, 3)], [(7, 3)]),
        ('type: "Concat" concat_param { axis: 0 }', [(-1, 3), (5, 3)], [(-1, 3)]),
        ('type: "Concat"', [(2, 3, -1), (2, 3, 7)], [(2, 6, 7)]),
        ('type: "Slice"', [(2, 6, 4)], [(2, 3, 4), (2, 3, 4)]),
        (
            'type: "Slice" slice_param { slice_dim: 0 slice_point: 1 slice_point: 3 }',
            [(6, 2)],
            [(1, 2), (2, 2), (3, 2)],
        ),
        ('type: "Slice" slice_param { axis: -1 slice_point: 1 }', [(2, 6)], [(2, 1), (2, 5)]),
        ('type: "Flatten"', [(2, 3, 4, 5)], [(2, 60)]),
        ('type: "Flatten" flatten_param { axis: -3 end_axis: -2 }', [(2, 3, 4, 5)], [(2, 12, 5)]),
        ('type: "Flatten"', [(-1, 3, 4, 5)], [(-1, 60)]),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 2 } }', [(2, 3, 4)], [(2, 6, 2)]),
        ('type: "Reshape" reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }', [(2, 3, 4, 5)], [(2, 12, 5)]),
        ('type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', [(2, 3)], [(2, 3, 1)]),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: 4 dim: -1 } }', [(-1, 8, 3)], [(-1, 4, 6)]),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: 4 } }', [(-1, 8)], [(-1, 4)]),
        ('type: "Permute" permute_param { order: 2 }', [(2, 3, 4, 5)], [(4, 2, 3, 5)]),
        ('type: "InnerProduct" inner_product_param { num_output: 7 axis: -1 }', [(2, 3, 4)], [(2, 3, 7)]),
        ('type: "InnerProduct" inner_product_param { num_output: 7 axis: 0 }', [(2, 3, 4)], [(7,)]),
        ('type: "ArgMax"', [(2, 5, 4, 3)], [(2, 1, 1, 1)]),
        ('type: "ArgMax" argmax_param { out_max_val: true top_k: 4 }', [(2, 5)], [(2, 2, 4)]),
        ('type: "ArgMax" argmax_param { axis: -2 top_k: 2 }', [(2, 5, 4, 3)], [(2, 5, 2, 3)]),
        ('type: "Reduction" reduction_param { axis: -1 operation: MEAN }', [(2, 5, 4)], [(2, 5)]),
        ('type: "Reduction"', [(2, 5, 4)], [()]),
        ('type: "Tile" tile_param { axis: -1 tiles: 3 }', [(2, 5)], [(2, 15)]),
        ('type: "Crop" crop_param { axis: -1 offset: 2 }', [(2, 5, 9), (9, 9, 4)], [(2, 5, 4)]),
        ('type: "Eltwise"', [(2, -1), (-1, 3)], [(2, 3)]),
        ('type: "Scale" scale_param { axis: 0 }', [(2, 3, 4), (2, 3)], [(2, 3, 4)]),
        ('type: "Scale"', [(2, 3, 4), ()], [(2, 3, 4)]),
        ('type: "Interp" interp_param { zoom_factor: 3 pad_beg: -1 }', [(1, 2, 5, 6)], [(1, 2, 10, 13)]),
        ('type: "Upsample" upsample_param { scale: 3 }', [(1, 2, 5, 6)], [(1, 2, 15, 18)]),
        ('type: "Upsample" upsample_param { pad_out_h: true }', [(1, 2, 5, 6), (1, 2, 5, 6)], [(1, 2, 9, 12)]),
        ('type: "Reorg" reorg_param { stride: 2 }', [(1, 2, 4, 6)], [(1, 8, 2, 3)]),
        ('type: "Reorg" reorg_param { stride: 2 reverse: true }', [(1, 8, 2, 3)], [(1, 2, 4, 6)]),
        ('type: "SPP" spp_param { pyramid_height: 1 }', [(1, 2, 5, 5)], [(1, 2, 1, 1)]),
        ('type: "SPP" spp_param { pyramid_height: 2 }', [(1, 2, 5, 5)], [(1, 10)]),
        ('type: "Im2col" convolution_param { kernel_size: 3 }', [(1, 2, 5, 6)], [(1, 18, 3, 4)]),
        (
            'type: "PriorBox" prior_box_param { min_size: 3 aspect_ratio: 2 }',
            [(1, 4, 2, 3), (1, 3, 9, 9)],
            [(1, 2, 72)],
        ),
        ('type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 2 }', [(1, 4, 9, 9), (-1, 5)], [(-1, 4, 3, 2)]),
        (
            'type: "PSROIPooling" psroi_pooling_param { output_dim: 2 group_size: 3 }',
            [(1, 18, 9, 9), (4, 5)],
            [(4, 2, 3, 3)],
        ),
        ('type: "DummyData" dummy_data_param { num: 1 channels: 2 height: 3 width: 4 }', [], [(1, 2, 3, 4)]),
        ('type: "DummyData" dummy_data_param { shape { dim: 2 dim: 7 } }', [], [(2, 7)]),
        ('type: "Input" input_param { shape { dim: 1 dim: 2 } }', [], [(1, 2), (1, 2)]),
        ('type: "LSTM" recurrent_param { num_output: 7 }', [(4, 2, 5), (4, 2), (2, 3)], [(4, 2, 7)]),
        (
            'type: "LSTM" recurrent_param { num_output: 7 expose_hidden: true }',
            [(4, 2, 5), (4, 2), (1, 2, 7), (1, 2, 7)],
            [(4, 2, 7), (1, 2, 7), (1, 2, 7)],
        ),
        ('type: "Local" local_param { num_output: 7 kernel_size: 3 stride: 2 pad: 1 }', [(2, 4, 5, 8)], [(2, 7, 3, 4)]),
        ('type: "Local" local_param { num_output: 7 kernel_size: 3 }', [(-1, -1, -1, 8)], [(-1, 7, -1, 6)]),
        ('type: "LSTMUnit"', [(1, 2, 7), (1, 2, 28), (1, 2)], [(1, 2, 7), (1, 2, 7)]),
        ('type: "LSTMUnit"', [(1, -1, 7), (1, 2, 28), (1, -1)], [(1, -1, 7), (1, -1, 7)]),
    ],
)
def test_tops_have_caffes_shapes(text: str, bottoms: list[Shape], tops: list[Shape]) -> None:
    assert tops_of(text, *bottoms, tops=len(tops)) == tops


def test_a_detector_leaves_the_number_of_boxes_open() -> None:
    text = 'type: "DetectionOutput" detection_output_param { num_classes: 3 }'
    assert tops_of(text, (1, 40), (1, 30), (1, 2, 40)) == [(1, 1, -1, 7)]


def test_a_detector_whose_counts_do_not_fit_by_ssds_rule_is_still_read() -> None:
    # FaceBoxes lays more priors per cell than SSD; folding has nothing to do with it, and the exporter asks again.
    text = 'type: "DetectionOutput" detection_output_param { num_classes: 3 }'
    assert tops_of(text, (1, 40), (1, 20), (1, 2, 40)) == [(1, 1, -1, 7)]


def test_clustered_priors_are_as_many_as_there_are_pairs_of_sizes() -> None:
    text = 'type: "PriorBoxClustered" prior_box_param { width: 3 width: 5 height: 4 height: 6 }'
    assert tops_of(text, (1, 4, 2, 3), (1, 3, 9, 9)) == [(1, 2, 2 * 3 * 2 * 4)]


# What does not fit is a sentence.


@pytest.mark.parametrize(
    ("text", "bottoms", "sentence"),
    [
        ('type: "Pooling" pooling_param { kernel_size: 2 stride: 0 }', [(1, 2, 8, 8)], "stride 0x0 must be at least 1"),
        (
            'type: "Pooling" pooling_param { kernel_size: 2 stride: 0 pad_type: 1 }',
            [(1, 2, 8, 8)],
            "stride 0x0 must be at least 1",
        ),
        (
            'type: "Convolution" convolution_param { num_output: 2 kernel_size: 2 stride: 0 pad_type: 1 }',
            [(1, 2, 8, 8)],
            "stride 0x0 must be at least 1",
        ),
        ('type: "Pooling" pooling_param { kernel_size: 7 }', [(1, 2, 6, 6)], "kernel 7x7 does not fit a plane of 6x6"),
        ('type: "Pooling" pooling_param { kernel_size: 2 pad: 2 }', [(1, 2, 6, 6)], "pad 2x2 must be smaller"),
        ('type: "Pooling" pooling_param { }', [(1, 2, 6, 6)], "kernel_size is not given"),
        ('type: "Pooling" pooling_param { kernel_size: 2 kernel_h: 2 }', [(1, 2, 6, 6)], "given both"),
        (
            'type: "Pooling" pooling_param { global_pooling: true pad: 1 }',
            [(1, 2, 6, 6)],
            "global pooling takes no pad",
        ),
        ('type: "Convolution" convolution_param { kernel_size: 3 }', [(1, 2, 6, 6)], "num_output 0 must be"),
        ('type: "Convolution" convolution_param { num_output: 4 kernel_h: 3 }', [(1, 2, 6, 6)], "kernel_size 3x0"),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 dilation: 4 }',
            [(1, 2, 6, 6)],
            "kernel 3x3 spans 9x9, which does not fit a plane of 6x6 with pad 0x0",
        ),
        # One pixel too few by two would be -1, which means "unknown".
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }',
            [(1, 2, 6, 1)],
            "does not fit a plane of 6x1",
        ),
        (
            'type: "Correlation" correlation_param { kernel_size: 1 max_displacement: 3 }',
            [(1, 1, 5, 7)] * 2,
            "max_displacement 3 leaves nothing of a plane of 5x7",
        ),
        (
            'type: "BroadcastMul"',
            [(1, 2, 5, 7)] * 2,
            "of 1x2x5x7 and 1x2x5x7 neither is one number for each channel",
        ),
        (
            'type: "Correlation1D" correlation_param { kernel_size: 1 max_displacement: 1 single_direction: 2 }',
            [(1, 1, 5, 7)] * 2,
            "single_direction 2 is none of -1, 0, 1",
        ),
        (
            'type: "UnPooling" unpooling_param { unpool: REP out_kernel_size: 3 out_pad: 2 }',
            [(1, 1, 1, 4)],
            "out_pad 2x2 leaves nothing of a plane of 1x4",
        ),
        (
            'type: "Upsample" upsample_param { scale: 2 mode: NEAREST }',
            [(1, 1, 5, 7)],
            "its fields are those of two layers called Upsample",
        ),
        (
            'type: "Upsample" upsample_param { mode: NEAREST height: 9 }',
            [(1, 1, 5, 7)],
            "it says neither height and width nor height_scale and width_scale",
        ),
        (
            'type: "Unpooling" unpooling_param { unpool: MAX kernel_size: 2 stride: 2 }',
            [(1, 1, 3, 4)] * 2,
            "nothing says the plane of its top, and forks differ .*; write `unpool_size`",
        ),
        ('type: "Unpooling" unpooling_param { unpool: REP unpool_size: 6 }', [(1, 1, 3, 4)], "`unpool: MAX` alone"),
        ('type: "Unpooling" unpooling_param { unpool_size: 6 pad: 1 }', [(1, 1, 3, 4)], "no unpooling with a pad"),
        (
            'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 1 pad: 1 }',
            [(1, 2, 6, 1)],
            "pad 1x1 leaves nothing of a plane of 6x1",
        ),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 group: 3 }',
            [(1, 2, 6, 6)],
            "group 3 does not divide 2 input and 4 output channels",
        ),
        (
            'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 kernel_size: 1 kernel_size: 1 }',
            [(1, 2, 6, 6)],
            "kernel_size has 3 values for 2 spatial axes",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 1 stride: 4000000000 }',
            [(1, 2, 6, 6)],
            "more than Caffe allows",
        ),
        ('type: "Concat" concat_param { axis: 4 }', [(1, 2), (1, 2)], "axis 4 is outside a blob of 2 axes"),
        ('type: "Concat" concat_param { axis: 1 concat_dim: 1 }', [(1, 2)], "axis and concat_dim are the same"),
        ('type: "Concat"', [(1, 2, 3), (1, 2, 4)], "must have the same shape"),
        ('type: "Eltwise"', [(1, 2), (1, 3)], "bottoms of 1x2 and 1x3 must have the same shape"),
        ('type: "Eltwise" eltwise_param { coeff: 1 }', [(1, 2), (1, 2)], "1 value of coeff for 2 bottoms"),
        ('type: "ReLU"', [], "it has 0 bottoms, but reads 1"),
        (
            'type: "LSTM" recurrent_param { num_output: 7 }',
            [(4, 3, 5), (4, 3), (2, 6)],
            "a bottom of 2x6 must be of 3x6 beside 3 sequences",
        ),
        (
            'type: "RNN" recurrent_param { num_output: 7 expose_hidden: true }',
            [(4, 3, 5), (4, 3), (1, 2, 7)],
            "a bottom of 1x2x7 must be of 1x3x7 beside 3 sequences",
        ),
        ('type: "LSTMUnit"', [(2, 3, 7), (2, 3, 28), (2, 3)], "first bottom has shape 2x3x7"),
        ('type: "LSTMUnit"', [(1, 3, 7), (1, 3, 21), (1, 3)], "bottoms of 1x3x21 and 1x3x28"),
        ('type: "LSTMUnit"', [(1, 3, 7), (1, 3, 28), (1, 2)], "bottoms of 1x2 and 1x3"),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }', [(1, 2)], "at most one -1"),
        (
            'type: "Padding" padding_param { pad_t: 1 pad_up: 2 }',
            [(1, 1, 5, 7)],
            "two layers called Padding: constant and mirror",
        ),
        ('type: "Reshape" reshape_param { shape { dim: 5 } }', [(1, 2)], "1x2 cannot become 5"),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: 4 } }', [(3, 2)], "3x2 does not divide by 4"),
        ('type: "Slice" slice_param { slice_point: 9 }', [(1, 4)], r"slice points \(9,\) do not cut 4 into 1 parts"),
        ('type: "SPP" spp_param { pyramid_height: 4000000000 }', [(1, 4, 8, 8)], "is not between 1 and 16"),
        ('type: "Scale" scale_param { num_axes: 9 }', [(1, 4, 8, 8)], "reach beyond a bottom of 1x4x8x8"),
        ('type: "Tile" tile_param { tiles: 2147483647 }', [(1, 4)], "more than Caffe allows"),
        ('type: "Local" local_param { num_output: 4 }', [(1, 2, 6, 6)], "kernel_size 0 must be at least 1"),
        (
            'type: "Local" local_param { num_output: 4 kernel_size: 5 pad: 1 }',
            [(1, 2, 2, 6)],
            "kernel 5 does not fit a plane of 2x6 with pad 1",
        ),
        ('type: "LRN" lrn_param { local_size: 4 }', [(1, 4, 8, 8)], "local_size 4 must be odd"),
        (
            'type: "SPP" spp_param { pyramid_height: 2 pool: AVE_EXC_PAD }',
            [(1, 3, 8, 8)],
            "pool AVE_EXC_PAD is none of MAX, AVE, STOCHASTIC",
        ),
        (
            'type: "Reduction" reduction_param { operation: MAX }',
            [(1, 4)],
            "operation MAX is none of SUM, ASUM, SUMSQ, ME",
        ),
        (
            'type: "Permute" permute_param { order: 1 order: 1 }',
            [(1, 4)],
            r"order \(1, 1\) must name axes of a blob of 2 axes, each once",
        ),
        (
            'type: "Transpose" transpose_param { dim: 1 dim: 1 }',
            [(1, 4)],
            "must name each of the 2 axes of its bottom once",
        ),
        (
            'type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }',
            [(1, 4)],
            "must be sizes, with at most one -1",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(text: str, bottoms: list[Shape], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        tops_of(text, *bottoms)
    assert str(caught.value).startswith("layer 'x' (")


def test_a_layer_with_too_many_tops_is_refused() -> None:
    with pytest.raises(ModelError, match="it has 2 tops, but makes 1"):
        tops_of('type: "ReLU"', (1, 2), tops=2)


def test_an_unknown_type_leaves_its_tops_and_what_follows_unknown() -> None:
    layers = [
        Layer("p", "Python", ["data"], ["p"], Blobs(), LayerParameter()),
        Layer("r", "ReLU", ["p"], ["r"], Blobs(), LayerParameter()),
        Layer("s", "ReLU", ["data"], ["s"], Blobs(), LayerParameter()),
    ]
    shapes = infer_shapes(Net("n", layers, {"data": (1, 2)}))
    assert shapes == {"data": (1, 2), "p": None, "r": None, "s": (1, 2)}


def test_a_bottom_that_nobody_makes_is_named() -> None:
    net = Net("n", [Layer("r", "ReLU", ["ghost"], ["r"], Blobs(), LayerParameter())], {})
    with pytest.raises(ModelError, match=r"layer 'r' \(ReLU\): no layer makes its bottom 'ghost'"):
        infer_shapes(net)


def test_an_input_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="input 'data': a shape of 0x3 is empty; --input-shape sets another"):
        infer_shapes(Net("n", [], {"data": (0, 3)}))


# The learned blobs.


@pytest.mark.parametrize(
    ("text", "bottoms", "blobs"),
    [
        (
            'type: "Convolution" convolution_param { num_output: 8 kernel_size: 3 group: 2 bias_term: false }',
            [(1, 6, 9, 9)],
            [(8, 3, 3, 3)],
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 8 kernel_size: 3 group: 2 }',
            [(1, 6, 9, 9)],
            [(6, 4, 3, 3), (8,)],
        ),
        (
            'type: "DepthwiseConvolution" convolution_param { num_output: 6 kernel_size: 3 }',
            [(1, 6, 9, 9)],
            [(6, 1, 3, 3), (6,)],
        ),
        (
            'type: "ConvolutionDepthwise" convolution_param { num_output: 6 kernel_size: 3 group: 1 bias_term: false }',
            [(1, 6, 9, 9)],
            [(6, 1, 3, 3)],
        ),
        ('type: "InnerProduct" inner_product_param { num_output: 7 }', [(2, 3, 4)], [(7, 12), (7,)]),
        ('type: "InnerProduct" inner_product_param { num_output: 7 transpose: true }', [(2, 12)], [(12, 7), (7,)]),
        ('type: "Scale" scale_param { axis: 1 num_axes: -1 bias_term: true }', [(2, 3, 4)], [(3, 4), (3, 4)]),
        ('type: "Scale" scale_param { num_axes: 0 }', [(2, 3, 4)], [()]),
        ('type: "Scale" scale_param { axis: 0 bias_term: true }', [(2, 3, 4), (2, 3)], [(2, 3)]),
        ('type: "Bias" bias_param { axis: -1 }', [(2, 3, 4)], [(4,)]),
        ('type: "BatchNorm"', [(2, 3, 4)], [(3,), (3,), (1,)]),
        (
            'type: "Local" local_param { num_output: 7 kernel_size: 3 }',
            [(2, 4, 5, 6)],
            [(7, 1, 36, 12), (1, 1, 7, 12)],
        ),
        (
            'type: "Local" local_param { num_output: 7 kernel_size: 3 bias_term: false }',
            [(2, 4, 5, 6)],
            [(7, 1, 36, 12)],
        ),
        ('type: "LSTM" recurrent_param { num_output: 2 }', [(4, 2, 5), (4, 2), (2, 3)], [(8, 5), (8,), (8, 3), (8, 2)]),
        ('type: "ReLU"', [(2, 3, 4)], []),
    ],
)
def test_parameters_promise_the_shapes_of_the_learned_blobs(
    text: str, bottoms: list[Shape], blobs: list[Shape]
) -> None:
    assert blob_shapes(layer_of(text, bottoms=len(bottoms)), bottoms) == blobs


def test_what_only_the_file_knows_is_not_promised() -> None:
    five = layer_of('type: "BatchNorm"', blobs=[(3,), (3,), (1,), (3,), (3,)])
    assert blob_shapes(five, [(1, 3, 4, 4)]) is None
    assert blob_shapes(layer_of('type: "BatchNorm" batch_norm_param { scale_bias: true }'), [(1, 3, 4, 4)]) is None
    local = layer_of('type: "Local" local_param { num_output: 7 kernel_size: 3 }')
    assert blob_shapes(local, [(1, 4, -1, 6)]) is None
    assert blob_shapes(layer_of('type: "Local" convolution_param { num_output: 7 }'), [(1, 4, 6, 6)]) is None
    dynamic = layer_of('type: "InnerProduct" inner_product_param { num_output: 7 }')
    assert blob_shapes(dynamic, [(1, -1)]) is None
    assert blob_shapes(layer_of('type: "Python"'), [(1, 3)]) is None


def test_shapes_of_ten_times_the_layers_take_about_ten_times_as_long() -> None:
    convolution = layer_of('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1 }').param
    relu = layer_of('type: "ReLU"').param

    def chain(count: int) -> Net:
        layers = [
            Layer(f"l{i}", param.type, [f"l{i - 1}"], [f"l{i}"], Blobs(), param)
            for i, param in enumerate([convolution, relu] * (count // 2))
        ]
        return Net("n", layers, {"l-1": (1, 4, 8, 8)})

    small, large = chain(2_000), chain(20_000)
    assert infer_shapes(large)["l19999"] == (1, 4, 8, 8)
    assert growth(lambda: infer_shapes(small), lambda: infer_shapes(large), below=25) < 25


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (2, 4, 5, 1)])
def test_an_eltwise_spreads_one_number_for_each_channel_over_the_plane(shape: Shape) -> None:
    first = (2, 4, 5, 6)
    if shape[2:] == (1, 1):
        assert tops_of('type: "Eltwise"', first, shape) == [first]
    else:
        with pytest.raises(ModelError, match="bottoms of 2x4x5x6 and 2x4x5x1 must have the same shape"):
            tops_of('type: "Eltwise"', first, shape)
    with pytest.raises(ModelError, match="must have the same shape"):
        tops_of('type: "Eltwise"', shape, first)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_an_axpy_of_blobs_without_channels_is_refused(shape: Shape) -> None:
    with pytest.raises(ModelError, match="fewer than 2"):
        tops_of('type: "Axpy"', shape, shape, shape)


@pytest.mark.parametrize("factor", ["3e38", "inf", "nan", "1e9"])
def test_a_factor_of_which_no_size_comes_is_refused(factor: str) -> None:
    said = f'type: "ResizeBilinear" resize_bilinear_param {{ data_format: "NCHW" scale_height: {factor} }}'
    with pytest.raises(ModelError, match=r"scale_height .* makes no size of 8"):
        tops_of(said, (1, 2, 8, 8))


BLOCKS = "block_shape: 1 block_shape: 2 block_shape: 3"


def test_space_to_batch_and_back_divide_and_multiply_sizes() -> None:
    pads = (0, 0, 1, 2, 0, 1)
    there = " ".join(f"paddings: {pad}" for pad in pads)
    back = " ".join(f"crops: {pad}" for pad in pads)
    forth = f'type: "SpaceToBatchND" space_to_batch_nd_param {{ {BLOCKS} {there} }}'
    assert tops_of(forth, (2, 4, 5, 8)) == [(12, 4, 4, 3)]
    assert tops_of(forth, (-1, 4, -1, 8)) == [(-1, 4, -1, 3)]
    inverse = f'type: "BatchToSpaceND" batch_to_space_nd_param {{ {BLOCKS} {back} }}'
    assert tops_of(inverse, (12, 4, 4, 3)) == [(2, 4, 5, 8)]
    assert tops_of(inverse, (-1, 4, 4, -1)) == [(-1, 4, 5, -1)]
    for bottom, said in (
        ((2, 4, 6, 8), "block 2 does not divide axis 2, padded to 9"),
        ((2, 4, 5), "3 blocks, and a bottom of 2x4x5 has fewer axes behind the batch"),
    ):
        with pytest.raises(ModelError, match=said):
            tops_of(forth, bottom)
    with pytest.raises(ModelError, match="one sample of 6, which do not divide 4"):
        tops_of(inverse, (4, 4, 4, 3))
    with pytest.raises(ModelError, match="is empty"):
        tops_of(inverse, (6, 4, 1, 3))
    for wrong, words in (("block_shape: 0 crops: 0 crops: 0", "at least 1"), ("block_shape: 2", "takes two for each")):
        with pytest.raises(ModelError, match=words):
            tops_of(f'type: "BatchToSpaceND" batch_to_space_nd_param {{ {wrong} }}', (4, 4, 4, 3))


def test_axes_are_put_in_one_after_the_other_each_at_its_number_and_how_many_were() -> None:
    def said(*axes: int) -> str:
        return f'type: "ExpandDimsND" expand_dims_nd_param {{ {" ".join(f"axis: {axis}" for axis in axes)} }}'

    assert tops_of(said(1), (2, 3)) == [(2, 1, 3)]
    assert tops_of(said(0, 2), (2, 3)) == [(1, 2, 3, 1)]
    assert tops_of(said(1, 1), (2, -1)) == [(2, 1, 1, -1)]
    assert tops_of(said(2, 0), (2, 3)) == [(2, 1, 3, 1)]
    assert tops_of(said(-1, -2), (2, 3)) == [(2, 3, 1, 1)]
    assert tops_of(said(), (2, 3)) == [(2, 3)]
    for axis in (3, -3):
        with pytest.raises(ModelError, match=f"axis {axis} is outside a blob of 2 axes"):
            tops_of(said(axis), (2, 3))


def test_a_stack_has_a_new_axis_and_an_unstack_one_less() -> None:
    assert tops_of('type: "Stack"', (2, 3), (2, -1), (2, 3)) == [(3, 2, 3)]
    assert tops_of('type: "Stack" stack_param { axis: -1 }', (2, 3), (2, 3)) == [(2, 3, 2)]
    with pytest.raises(ModelError, match="axis 3 is outside"):
        tops_of('type: "Stack" stack_param { axis: 3 }', (2, 3))
    with pytest.raises(ModelError, match="must have the same shape"):
        tops_of('type: "Stack"', (2, 3), (2, 4))
    assert tops_of('type: "Unstack" unstack_param { axis: -2 }', (2, 3, 4), tops=2) == [(2, 4), (2, 4)]
    with pytest.raises(ModelError, match="2 tops, and axis 0 of 1x3 fewer"):
        tops_of('type: "Unstack"', (1, 3), tops=2)


def test_norms_keep_their_axes_unless_told_and_logarithms_do_not() -> None:
    assert tops_of('type: "ReduceL1" reduce_l1_param { axes: 1 }', (2, 3, 4)) == [(2, 1, 4)]
    assert tops_of('type: "ReduceL2" reduce_l2_param { axes: -1 keepdims: 0 }', (2, 3, 4)) == [(2, 3)]
    assert tops_of('type: "ReduceL2"', (2, 3, 4)) == [(1, 1, 1)]
    for name in ("ReduceLogSumExp", "ReduceLogsumexp"):
        assert tops_of(f'type: "{name}" reduce_logsumexp_param {{ axis: 1 }}', (2, 3, 4)) == [(2, 4)]
    with pytest.raises(ModelError, match="axis names an axis twice"):
        tops_of('type: "ReduceL1" reduce_l1_param { axes: 1 axes: -2 }', (2, 3, 4))


@pytest.mark.parametrize("words", ["", "axis: 1 axis: -2", "axis: 1 p: 0"])
def test_a_normalisation_by_no_axis_or_no_power_is_refused(words: str) -> None:
    with pytest.raises(ModelError, match=r"axis must name axes of its bottom, each once|p 0 must be at least 1"):
        tops_of(f'type: "LpNormalization" lp_normalization_param {{ {words} }}', (2, 3, 4))


def test_matrices_are_multiplied_as_their_caffe_does_it() -> None:
    def product(words: str, *bottoms: Shape, blobs: Sequence[Shape] = ()) -> list[Shape] | None:
        layer = layer_of(f'type: "MatMul" matmul_param {{ {words} }}', bottoms=len(bottoms), blobs=blobs)
        return output_shapes(layer, bottoms)

    assert product("", (7, 2, 3), (7, 3, 5)) == [(7, 2, 5)]
    assert product("", (-1, 2, 3), (7, 3, 5)) == [(7, 2, 5)]
    assert product("", (7, 8, 2, 3), (3, 5)) == [(7, 8, 2, 5)]
    assert product("transpose_a: true transpose_b: true", (7, 3, 2), (7, 5, 3)) == [(7, 2, 5)]
    assert product("", (2, 3), blobs=[(3, 5)]) == [(2, 5)]
    assert product("blob_shape: 3 blob_shape: 5", (2, 3)) == [(2, 5)]
    assert product("", (2, 3)) is None
    for bottoms in (((3,), (3, 5)), ((3, 5), (7, 5, 5)), ((7, 7, 2, 3), (7, 3, 5))):
        with pytest.raises(ModelError, match="are not matrices that can be multiplied"):
            product("", *bottoms)
    with pytest.raises(ModelError, match="are not matrices that can be multiplied"):
        product("transpose_a: true", (7, 3, 2), (3, 5))
    for first, second in (((2, 3), (4, 5)), ((7, 2, 3), (6, 3, 5))):
        with pytest.raises(ModelError, match="must have the same shape"):
            product("", first, second)


def test_a_gemm_adds_what_broadcasts() -> None:
    def gemm(words: str, *bottoms: Shape) -> list[Shape]:
        return tops_of(f'type: "Gemm" gemm_param {{ {words} }}', *bottoms)

    for added in ((2, 5), (2, 1), (1, 5), (1,)):
        assert gemm("", (2, 3), (3, 5), added) == [(2, 5)]
    assert gemm("transA: 1 transB: 1", (3, 2), (5, 3), (1,)) == [(2, 5)]
    for wrong in ((5,), (), (5, 2), (1, 2, 5)):
        with pytest.raises(ModelError, match="is not added to 2x5"):
            gemm("", (2, 3), (3, 5), wrong)
    with pytest.raises(ModelError, match="must have the same shape"):
        gemm("transB: 1", (2, 3), (3, 5), (1,))
    with pytest.raises(ModelError, match="transA and transB are not 0 or 1"):
        gemm("transB: 2", (2, 3), (3, 5), (1,))
    with pytest.raises(ModelError, match="its first bottoms are no matrices"):
        gemm("", (2, 3, 1), (3, 5), (1,))


@pytest.mark.parametrize(
    ("text", "bottom", "reason"),
    [
        (
            'type: "Normalize" norm_param { across_spatial: true }',
            (2, 3, 4, 5, 6),
            "at most four axes, and it is 2x3x4x5x6",
        ),
        ('type: "BatchNorm"', (), "a bottom of shape scalar has fewer than 1 axis"),
    ],
)
def test_axes_at_which_caffe_stops_are_refused(text: str, bottom: Shape, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        tops_of(text, bottom)


def strided(words: str) -> str:
    """`begin 1 -2 | end 3 9 | axes 0 2` as a StridedSlice."""
    fields = [part.split() for part in words.split("|")]
    said = " ".join(f"{field}: {value}" for field, *values in fields for value in values)
    return f'type: "StridedSlice" strided_slice_param {{ {said} }}'


@pytest.mark.parametrize(
    ("words", "bottom", "top"),
    [
        ("begin 1 | end 3", (4, 5), (2, 5)),
        ("begin 0 1 | end 9 9 | strides 2 3", (5, 6), (3, 2)),
        ("begin -1 4 | end 0 -6 | strides -2 -1 | end_mask 3", (4, 5), (2, 5)),
        ("begin 9 | end 12", (4, 5), (1, 5)),
        ("begin -9 | end -1", (4, 5), (3, 5)),
        ("begin 0 | end 0 | begin_mask 1 | end_mask 1", (-1, 5), (-1, 5)),
        ("begin 0 1 | end 2147483647 3 | axes 0 1", (-1, 5), (-1, 2)),
        ("begin 0 -1 | end 0 0 | end_mask 1 | shrink_axis_mask 2", (4, 5, 6), (4, 6)),
        ("begin 0 0 | end 0 0 | new_axis_mask 2 | end_mask 1", (4, 5), (4, 1, 5)),
        ("begin 0 7 0 | end 0 9 2 | ellipsis_mask 1 | new_axis_mask 2", (4, 5, 6), (4, 5, 1, 2)),
        ("begin 0 1 | end 0 0 | ellipsis_mask 1 | shrink_axis_mask 2", (4, 5, 6), (4, 5)),
        ("begin 1 0 | end 3 0 | ellipsis_mask 2", (4, 5, 6), (2, 5, 6)),
        ("begin 1 0 | end 3 2 | axes -1 0 | begin_mask 3 | shrink_axis_mask 3", (4, 5, 6), (2, 5, 2)),
        ("begin -3 | end -1 | axes 1", (4, 4, 6), (4, 2, 6)),
    ],
)
def test_a_strided_slice_cuts_as_tensorflow_does_but_for_a_begin_behind_the_end(
    words: str, bottom: Shape, top: Shape
) -> None:
    assert tops_of(strided(words), bottom) == [top]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("begin 1 | end 3 4", "are of different numbers, or a stride is 0"),
        ("begin 1 | end 3 | strides 0", "are of different numbers, or a stride is 0"),
        ("begin 0 0 0 0 | end 1 1 1 1", "begin is of more axes than the 3"),
        ("begin 0 0 0 0 | end 1 1 1 1 | ellipsis_mask 4", "begin is of more axes than the 3"),
        ("begin 0 0 | end 1 1 | ellipsis_mask 3", "ellipsis_mask 3 is no one place"),
        ("begin 0 0 | end 1 1 | ellipsis_mask 4", "ellipsis_mask 4 is no one place"),
        ("begin 3 | end 2", "there is nothing along axis 0"),
        ("begin 0 | end 0 | strides 2", "there is nothing along axis 0"),
        ("begin 3 | end -9 | strides -1", "which versions of its Caffe read differently"),
        ("begin 0 -1 | end 0 9 | ellipsis_mask 1", "counts begin -1, the one of axis 2, from the end of another"),
        ("begin -1 | end 9 | axes 2", "counts begin -1, the one of axis 2, from the end of another"),
        ("begin 3 | end 4 | strides -1 | shrink_axis_mask 1", "takes one place with a stride of -1"),
        ("begin 1 1 | end 2 2 | axes 1 1", "do not say one axis for each"),
        ("begin 1 1 1 | end 2 2 2 | axes 2 1 0", "do not say one axis for each"),
        ("begin 1 | end 2 | axes 3", "axis 3 is outside"),
    ],
)
def test_a_strided_slice_that_its_caffe_reads_otherwise_or_not_at_all_is_refused(words: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        tops_of(strided(words), (4, 5, 6))


def test_a_cut_of_unknown_size_is_refused_where_it_says_how_much() -> None:
    for text in (strided("begin 1 | end 9 | end_mask 1"), 'type: "Piece" piece_param { begin: 1 size: -1 }'):
        with pytest.raises(ModelError, match=r"axis 0 of \? has no known size to cut"):
            tops_of(text, (-1,))
    assert tops_of('type: "Piece" piece_param { begin: 0 size: -1 }', (-1,)) == [(-1,)]


def test_a_piece_lies_inside_of_its_bottom() -> None:
    def piece(begin: int, size: int) -> str:
        return f'type: "Piece" piece_param {{ begin: {begin} size: {size} }}'

    assert tops_of(piece(1, 3), (4,)) == [(3,)]
    assert tops_of(piece(1, -1), (4,)) == [(3,)]
    for begin, size in ((1, 4), (-1, 1), (4, -1), (1, 0), (2, -2)):
        with pytest.raises(ModelError, match=f"{size} from {begin} on are not there along axis 0"):
            tops_of(piece(begin, size), (4,))
    with pytest.raises(ModelError, match="one number for each axis of 4x5"):
        tops_of(piece(1, 3), (4, 5))


def test_what_is_gathered_has_the_shape_of_its_indices() -> None:
    def gather(words: str, layer_type: str = "Gather", field: str = "gather_param") -> str:
        return f'type: "{layer_type}" {field} {{ {words} }}'

    assert tops_of(gather("indices: 2 indices: 0 shape: 2 shape: 1 axis: 1"), (4, 3, 5)) == [(4, 2, 1, 5)]
    assert tops_of(gather("indices: 2 shape: 0 axis: -2"), (4, 3, 5)) == [(4, 5)]
    assert tops_of(gather("indices: 2"), (-1, 3)) == [(3,)]
    assert output_shapes(layer_of('type: "Gather"'), [(4, 3)]) is None
    with pytest.raises(ModelError, match="there is no place 3 along axis 1 of 4x3"):
        tops_of(gather("indices: 3 axis: 1"), (4, 3))
    with pytest.raises(ModelError, match="1 index for a shape of 2"):
        tops_of(gather("indices: 3 shape: 2"), (4, 3))
    with pytest.raises(ModelError, match="0 indices for a shape of 0x3"):
        tops_of(gather("shape: 0 shape: 3"), (4, 3))
    several = "indices: 1 indices: 2 indices: 0 indices: 1 indices_shape: 2 indices_shape: 2"
    assert tops_of(gather(several, "GatherND", "gather_nd_param"), (2, 3, 5)) == [(2, 5)]
    with pytest.raises(ModelError, match="there is no place 2 along axis 1 of 2x2x5"):
        tops_of(gather(several, "GatherND", "gather_nd_param"), (2, 2, 5))
    with pytest.raises(ModelError, match="cannot index a blob of 2"):
        tops_of(gather(several, "GatherND", "gather_nd_param"), (2,))
    assert tops_of(gather("axis: -1", "GatherV2", "gather_v2_param"), (4, 3), (2, -1)) == [(4, 2, -1)]
    assert tops_of(gather("axis: 0", "GatherV2", "gather_v2_param"), (4, 3), ()) == [(3,)]


def test_copies_of_each_axis_and_a_shape_to_broadcast_to_are_held_to_the_bottom() -> None:
    def said(layer_type: str, message: str, field: str, *values: int) -> str:
        return f'type: "{layer_type}" {message} {{ {" ".join(f"{field}: {value}" for value in values)} }}'

    def tiles(*values: int) -> str:
        return said("TileND", "tile_nd_param", "multiples", *values)

    def broadcast(*values: int) -> str:
        return said("BroadcastTo", "broadcast_to_param", "shape", *values)

    assert tops_of(tiles(2, 3), (-1, 4, 5)) == [(-1, 12, 5)]
    for values in ((), (1, 1, 1, 1)):
        with pytest.raises(ModelError, match=f"multiples are {len(values)}, for a bottom of 3 axes"):
            tops_of(tiles(*values), (2, 4, 5))
    with pytest.raises(ModelError, match="multiples 2x0 must be at least 1"):
        tops_of(tiles(2, 0), (2, 4, 5))
    assert tops_of(broadcast(7, 2, 4, 5), (2, 1, 5)) == [(7, 2, 4, 5)]
    for shape in ((4, 5), (2, 4, 6), (2, 5, 1)):
        with pytest.raises(ModelError, match="does not broadcast to"):
            tops_of(broadcast(*shape), (2, 1, 5))


def test_the_windows_of_an_icnet_subgraph_need_a_plane_of_4_by_6() -> None:
    assert tops_of('type: "ICNetSubgraph"', (1, 2, 4, 6)) == [(1, 2, 4, 6)]
    assert tops_of('type: "ICNetSubgraph"', (1, 2, -1, 33)) == [(1, 2, -1, 33)]
    for plane in ((3, 6), (4, 5)):
        with pytest.raises(ModelError, match="is too small for its windows"):
            tops_of('type: "ICNetSubgraph"', (1, 2, *plane))


def test_a_deephi_resize_rounds_down_and_says_both_sizes() -> None:
    said = 'type: "DeephiResize" deephi_resize_param { scale_h: 2.6 scale_w: 0.4 }'
    assert tops_of(said, (1, 2, 8, 8)) == [(1, 2, 20, 3)]
    assert tops_of('type: "DeephiResize"', (1, 2, 8, 9)) == [(1, 2, 8, 9)]
    for half in ("new_height: 4", "new_width: 4", "scale_h: 2", "scale_w: 2"):
        with pytest.raises(ModelError, match="must be given together"):
            tops_of(f'type: "DeephiResize" deephi_resize_param {{ {half} }}', (1, 2, 8, 8))
    with pytest.raises(ModelError, match="a size of its top"):
        tops_of('type: "DeephiResize" deephi_resize_param { scale_h: 0.1 scale_w: 1 }', (1, 2, 8, 8))


@pytest.mark.parametrize("factor", ["3e38", "-3e38", "nan"])
def test_a_factor_of_a_deephi_resize_of_which_no_size_comes_is_refused(factor: str) -> None:
    with pytest.raises(ModelError, match=r"scale_h .* makes no size of 8"):
        tops_of(f'type: "DeephiResize" deephi_resize_param {{ scale_h: {factor} scale_w: 1 }}', (1, 2, 8, 8))


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        ((2, 5), (2,), "second bottom, the weight, has 10 values, and 12"),
        ((2, 6), (3,), "third bottom, the bias, has 3"),
    ],
)
def test_a_weight_or_a_bias_that_is_computed_and_does_not_fit_is_named(weight: Shape, bias: Shape, said: str) -> None:
    text = 'type: "InnerProduct" inner_product_param { num_output: 2 }'
    assert tops_of(text, (4, 6), (2, 6), (2,)) == [(4, 2)]
    with pytest.raises(ModelError, match=f"its {said}"):
        tops_of(text, (4, 6), weight, bias)


@pytest.mark.parametrize("method", PoolingParameter.PoolMethod.keys())
def test_every_method_that_a_pooling_can_have_has_a_shape(method: str) -> None:
    assert (
        len(tops_of(f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: 2 stride: 2 }}', (1, 4, 6, 6))) == 1
    )


@pytest.mark.parametrize("operation", EltwiseParameter.EltwiseOp.keys())
def test_every_operation_that_an_eltwise_can_have_has_a_shape(operation: str) -> None:
    text = f'type: "Eltwise" eltwise_param {{ operation: {operation} }}'
    assert tops_of(text, (1, 4), (1, 4)) == [(1, 4)]
