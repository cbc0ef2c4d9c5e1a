"""An open batch: the goldens give the same for every item, and what fixes the batch says so."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import reference
from cases import GOLDEN, TOLERANCE, distance, golden, goldens
from nets import net
from single_layer import by_oracle, layer_net, noise

from bnfold.errors import UnsupportedError
from bnfold.net import Net
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

# What the refusal says of layers that cannot leave the batch open, by their types.
FIXED_TYPES = {
    "LSTM": "its first axis is time, and each step is written out",
    "PSROIPooling": "its regions index the images",
    "Proposal": "it takes one image",
    "RNN": "its first axis is time, and each step is written out",
    "ROIAlign": "its regions index the images",
    "YoloDetectionOutput": "its rows do not say which image they belong to",
    "Yolov3DetectionOutput": "its rows do not say which image they belong to",
}
# And what it says of goldens whose parameters fix the batch, where others of their layers leave it open.
FIXED = {
    "bn_batch_stats_in_test": "statistics follow each batch",
    "op_scale_batch": "lie along the batch",
    "scale_axis0_full": "lie along the batch",
    "segnet_bn_learn_batch_stats": "statistics follow each batch",
    "ssd_permute_batch_moved_bn": "the batch does not stay in front",
    "ssd_permute_partial": "the batch does not stay in front",
}
# Goldens whose layers mix the items of a batch, so that three equal ones give another answer.
MIXING = {"op_batch_reindex", "op_concat_dim_legacy", "op_reduction_sumsq"}


def _fixed_types(name: str) -> list[str]:
    """The types in a golden's prototxt that fix the batch."""
    types = re.findall(r'\btype: *"(\w+)"', (GOLDEN / name / "net.prototxt").read_text())
    return sorted(FIXED_TYPES.keys() & types)


FIXED_BY_TYPE = [(name, layer_type) for name in goldens() for layer_type in _fixed_types(name)]


@pytest.mark.parametrize("name", sorted(set(goldens()) - set(FIXED) - {name for name, _ in FIXED_BY_TYPE}))
def test_a_golden_with_an_open_batch_gives_the_same_for_three_items(name: str) -> None:
    case = golden(name)
    net = case.load()
    model = to_onnx(net, dynamic_batch=True)
    onnx.checker.check_model(model, full_check=True)
    session = Session(model, threads=1)
    feeds = {name: case.inputs[net.public_name(name)] for name in session.inputs}
    opened = [name for name, port in session.inputs.items() if port.shape[0] is None]
    assert opened
    tripled = feeds | {name: np.concatenate([feeds[name]] * 3) for name in opened}
    for blob, value in session.run(tripled).items():
        answer = case.answers[net.public_name(blob)]
        if session.outputs[blob].shape[:1] == (None,):
            answer = np.concatenate([answer] * 3)
        elif images := _images_detected(net, model, blob):
            answer = _rows_of_three(answer, images)
        if name not in MIXING:
            assert distance(value, answer) <= TOLERANCE


def _images_detected(net: Net, model: onnx.ModelProto, blob: str) -> int:
    """Of how many images the rows of a DetectionOutput are, where that is the batch; else 0."""
    layer = net.producer(blob)
    if layer is None or layer.type != "DetectionOutput":
        return 0
    (located,) = [x for x in [*model.graph.input, *model.graph.value_info] if x.name == layer.bottoms[0]]
    if not located.type.tensor_type.shape.dim[0].dim_param:
        return 0
    return next(iter(net.inputs.values()))[0]


def _rows_of_three(rows: npt.NDArray[np.float32], images: int) -> npt.NDArray[np.float32]:
    """(1, 1, K, 7) rows, three times, each time numbered as the images behind those before."""
    first = np.array([images, 0, 0, 0, 0, 0, 0], np.float32)
    return np.concatenate([rows + time * first for time in range(3)], axis=2)


@pytest.mark.parametrize(("name", "layer_type"), FIXED_BY_TYPE)
def test_a_golden_with_a_layer_of_a_type_that_fixes_the_batch_says_so(name: str, layer_type: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        to_onnx(golden(name).load(), dynamic_batch=True)
    sentence = rf"layer '\S+' \({layer_type}\): {FIXED_TYPES[layer_type]}, so the batch size cannot stay open"
    assert [case for case in refused.value.cases if re.fullmatch(sentence, case)]


def test_every_type_that_fixes_the_batch_has_a_golden() -> None:
    assert {layer_type for _, layer_type in FIXED_BY_TYPE} == set(FIXED_TYPES)


@pytest.mark.parametrize("name", FIXED)
def test_a_golden_that_fixes_the_batch_says_so(name: str) -> None:
    with pytest.raises(UnsupportedError, match=FIXED[name]):
        to_onnx(golden(name).load(), dynamic_batch=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } }', "does not stay in front"),
        ('type: "Reshape" reshape_param { shape { dim: 2 dim: 12 } }', "does not fit together"),
        ('type: "Flatten" flatten_param { axis: 0 }', "it flattens the batch away"),
        ('type: "Slice" slice_param { axis: 0 }', "it cuts the batch"),
        ('type: "StridedSlice" strided_slice_param { begin: 0 end: 1 }', "it cuts the batch"),
        ('type: "Piece" piece_param { begin: 1 begin: 0 begin: 0 size: -1 size: -1 size: -1 }', "it cuts the batch"),
        ('type: "Gather" gather_param { indices: 1 shape: 1 }', "it picks samples by their numbers"),
        ('type: "GatherND" gather_nd_param { indices: 1 indices_shape: 1 }', "it picks samples by their numbers"),
        ('type: "BroadcastTo" broadcast_to_param { shape: 2 shape: 3 shape: 4 }', "does not fit together"),
        (
            'type: "MatMul" matmul_param { blob_shape: 2 blob_shape: 4 blob_shape: 3 }',
            "does not fit together",
        ),
        ('type: "Permute" permute_param { order: 1 order: 0 }', "the batch does not stay in front"),
        ('type: "ArgMax" argmax_param { axis: 0 }', "it searches the batch"),
        ('type: "InnerProduct" inner_product_param { num_output: 5 axis: 0 }', "its weights lie along the batch"),
        (
            'type: "Convolution" convolution_param { num_output: 5 kernel_size: 1 axis: 0 }',
            "its channels are the batch",
        ),
    ],
)
def test_a_layer_that_fixes_the_batch_says_so(text: str, reason: str) -> None:
    net = layer_net(text, [(2, 3, 4)])
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(net, dynamic_batch=True)


@pytest.mark.parametrize("custom", [False, True])
def test_custom_operators_are_no_way_to_open_a_batch(custom: bool) -> None:
    net = layer_net('type: "Slice" slice_param { axis: 0 }', [(2, 3, 4)])
    with pytest.raises(UnsupportedError, match=r"as ONNX \(without --dynamic-batch they may fix the batch\):"):
        to_onnx(net, dynamic_batch=True, allow_custom_ops=custom)


def test_a_batch_of_one_that_is_squeezed_away_does_not_stay_in_front() -> None:
    net = layer_net('type: "Squeeze"', [(1, 1, 1)])
    with pytest.raises(UnsupportedError, match="shape scalar, and 2 with one more item"):
        to_onnx(net, dynamic_batch=True)


@pytest.mark.parametrize("layer_type", ["Bias", "Scale"])
def test_one_value_for_each_item_stays_with_its_item(layer_type: str) -> None:
    text = f'type: "{layer_type}" {layer_type.lower()}_param {{ axis: 0 }}'
    net = layer_net(text, [(1, 2, 2, 3), (1,)])
    session = Session(to_onnx(net, dynamic_batch=True), threads=1)
    x, values = noise([(3, 2, 2, 3), (3,)])
    (top,) = by_oracle(text, net, [x, values])
    np.testing.assert_allclose(session.run({"x0": x, "x1": values})["y0"], top, rtol=1e-6)


def test_a_second_input_of_another_size_stays_as_it_is() -> None:
    net = layer_net('type: "Bias" bias_param { axis: 1 }', [(2, 3, 4), (3, 4)])
    inputs = to_onnx(net, dynamic_batch=True).graph.input
    first, second = ([dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim] for x in inputs)
    assert first == ["N", 3, 4]
    assert second == [3, 4]


def test_a_multiple_of_the_batch_is_named_as_one() -> None:
    net = layer_net('type: "Tile" tile_param { axis: 0 tiles: 3 }', [(2, 5)])
    (output,) = to_onnx(net, dynamic_batch=True).graph.output
    assert output.type.tensor_type.shape.dim[0].dim_param == "3*N"


@pytest.mark.parametrize(
    "layer",
    [
        'type: "DeephiResize" deephi_resize_param { resize_type: BILINEAR new_height: 7 new_width: 3 }',
        'type: "Interp" interp_param { zoom_factor: 2 }',
        'type: "ResizeBilinear" resize_bilinear_param { data_format: "NCHW" output_height: 7 output_width: 4 }',
        'type: "Unpooling" unpooling_param { unpool_size: 6 } bottom: "mask"',
        'type: "Upsample" upsample_param { height_scale: 2 width_scale: 3 }',
        'type: "Upsample" upsample_param { scale: 2 } bottom: "mask"',
    ],
)
def test_a_batch_that_only_the_run_knows_is_read_there(layer: str) -> None:
    """As many samples as a Filter picks."""
    shape = "shape { dim: 4 dim: 3 dim: 3 dim: 3 }"
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ {shape} }} }}
        layer {{ name: "m" type: "Input" top: "m" input_param {{ {shape} }} }}
        layer {{ name: "which" type: "Input" top: "which" input_param {{ shape {{ dim: 4 }} }} }}
        layer {{ name: "f" type: "Filter" bottom: "x" bottom: "m" bottom: "which" top: "some" top: "mask" }}
        layer {{ name: "y" bottom: "some" {layer} top: "y" }}"""
    rng = np.random.default_rng(3)
    places = np.stack([np.sort(rng.permutation(36)[:9]).reshape(3, 3) for _ in range(12)]).reshape(4, 3, 3, 3)
    feeds = {"x": rng.normal(size=(4, 3, 3, 3)), "m": places, "which": np.array([1, 0, 1, 1])}
    feeds = {name: values.astype(np.float32) for name, values in feeds.items()}
    expected = reference.load(text).run({name: values.astype(np.float64) for name, values in feeds.items()})["y"]
    model = to_onnx(net(text))
    onnx.checker.check_model(model, full_check=True)
    assert distance(Session(model, threads=1).run(feeds)["y"], expected) < TOLERANCE


def test_a_greedy_decoder_whose_sequences_only_the_run_knows_is_refused() -> None:
    text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 5 } } }
        layer { name: "m" type: "Input" top: "m" input_param { shape { dim: 4 dim: 2 } } }
        layer { name: "which" type: "Input" top: "which" input_param { shape { dim: 4 } } }
        layer { name: "f" type: "Filter" bottom: "x" bottom: "m" bottom: "which" top: "some" top: "marks" }
        layer { name: "y" type: "CTCGreedyDecoder" bottom: "some" bottom: "marks" top: "y" }"""
    with pytest.raises(UnsupportedError, match="is known only when the model runs"):
        to_onnx(net(text))
