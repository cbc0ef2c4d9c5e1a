"""Training nets become inference nets, and deploy nets stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nets
import pytest

import bnfold
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.read import build
from bnfold.caffe.text import parse_prototxt
from bnfold.errors import ModelError, UsageError
from bnfold.net import Net, Shape

DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { source: "train" } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { crop_size: 24 } }
"""
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 } }'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }'
ACCURACY = 'layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" }'


def read(*layers: str, **options: Any) -> Net:
    return build(parse_prototxt("\n".join(layers)), **options)


def lines(net: Net) -> list[str]:
    return [f"{layer.type} {layer.name}: {' '.join(layer.bottoms)} -> {' '.join(layer.tops)}" for layer in net.layers]


def layer(layer_type: str, name: str, bottoms: str = "", tops: str = "", rest: str = "") -> str:
    blobs = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name}" type: "{layer_type}" {" ".join(blobs)} {rest} }}'


def test_a_training_net_becomes_an_inference_net() -> None:
    net = read(DATA, FC, LOSS, ACCURACY)
    assert lines(net) == ["Input data:  -> data", "InnerProduct fc: data -> fc", "Softmax loss: fc -> loss"]
    assert net.inputs == {"data": (1, 3, 24, 24)}
    assert net.outputs == ["loss"]
    assert net.notes == [
        "made a net for inference: 'data' (Data) became Input, 'loss' (SoftmaxWithLoss) became Softmax, "
        "'accuracy' (Accuracy) was left out",
        "input 'data' is taken as 1x3x24x24: 'data' (Data) has crop_size 24, and of channels 3 are assumed; "
        "--input-shape sets another",
    ]


def test_layers_that_forks_added_to_v1_bring_samples_and_judge_as_those_of_v2_do() -> None:
    """DeepLab's words, and the third top of its data layer: the height and the width of each image."""
    net = read(
        """
        layers { name: "data" type: IMAGE_SEG_DATA top: "data" top: "label" top: "dim"
          transform_param { crop_size: 9 } }
        layers { name: "crf" type: DENSE_CRF bottom: "data" bottom: "dim" bottom: "data" top: "crf" }
        layers { name: "accuracy" type: SEG_ACCURACY bottom: "crf" bottom: "label" top: "accuracy" }
        """
    )
    assert lines(net) == ["Input data:  -> data dim", "DenseCRF crf: data dim data -> crf"]
    assert net.inputs == {"data": (1, 3, 9, 9), "dim": (1, 1, 1, 2)}


@pytest.mark.parametrize("layer_type", ["DetectionEvaluate", "DetectionEvaluateRefine"])
def test_what_judges_the_boxes_of_a_detector_goes(layer_type: str) -> None:
    net = read(DATA, FC, layer(layer_type, "judge", "fc label", "judged"))
    assert lines(net) == ["Input data:  -> data", "InnerProduct fc: data -> fc"]


def test_a_deploy_net_is_not_touched() -> None:
    text = 'input: "data" input_shape { dim: [2, 3, 4, 4] }\n' + FC + "\n" + layer("Softmax", "prob", "fc", "prob")
    net = read(text)
    assert net.notes == []
    for read_layer in net.layers:
        assert read_layer.source is not None
        assert read_layer.param is read_layer.source.param
        assert read_layer.source.text in text


def test_the_softmax_keeps_axis_and_name_and_drops_what_only_losses_have() -> None:
    loss = layer("SoftmaxWithLoss", "l", "fc label", "l", "softmax_param { axis: 2 } loss_weight: 2 loss_param {}")
    (softmax,) = [one for one in read(DATA, FC, loss).layers if one.name == "l"]
    assert (
        str(softmax.param).split()
        == str(
            parse_prototxt(
                'layer { name: "l" type: "Softmax" bottom: "fc" top: "l" softmax_param { axis: 2 } }'
            ).net.layer[0]
        ).split()
    )


def test_a_second_top_of_a_loss_is_the_prediction() -> None:
    loss = layer("SoftmaxWithLoss", "l", "fc label", "l prob")
    assert lines(read(DATA, FC, loss, layer("Power", "weighted", "l", "w")))[2:] == ["Softmax l: fc -> prob"]


def test_a_loss_without_a_top_gets_one() -> None:
    assert read(DATA, FC, LOSS.replace('top: "loss"', "")).outputs == ["loss"]
    assert read(DATA, FC, LOSS.replace('top: "loss"', "").replace('name: "loss"', 'name: "fc"')).outputs == ["fc_prob"]


def test_losses_without_names_for_their_tops_get_one_each() -> None:
    nameless = LOSS.replace('top: "loss"', "").replace('name: "loss"', "")
    assert read(DATA, FC, nameless, nameless, nameless).outputs == ["prob", "prob_prob", "prob_prob2"]


def test_a_cross_entropy_becomes_a_sigmoid_and_other_losses_leave_the_prediction() -> None:
    assert lines(read(DATA, FC, LOSS.replace("SoftmaxWithLoss", "SigmoidCrossEntropyLoss")))[2] == (
        "Sigmoid loss: fc -> loss"
    )
    for layer_type in ("EuclideanLoss", "HingeLoss", "SmoothL1Loss", "SomebodysLoss"):
        net = read(DATA, FC, LOSS.replace("SoftmaxWithLoss", layer_type))
        assert lines(net) == ["Input data:  -> data", "InnerProduct fc: data -> fc"]
        assert net.outputs == ["fc"]


@pytest.mark.parametrize(
    "layer_type", ["LabelSpecificAdd", "LabelSpecificMargin", "CosinAddm", "CombinedMargin", "SVX"]
)
@pytest.mark.parametrize("tops", ["m", "m bias"])
def test_a_margin_that_training_adds_by_the_label_is_a_copy_and_what_stands_behind_it_stays(
    layer_type: str, tops: str
) -> None:
    margin = layer(layer_type, "margin", "fc label", tops)
    scale = layer("Scale", "scale", "m", "s", "scale_param { filler { value: 30 } }")
    silence = layer("Silence", "silence", tops.removeprefix("m").strip())
    net = read(DATA, FC, margin, scale, silence, layer("SoftmaxWithLoss", "loss", "s label", "loss"), ACCURACY)
    assert lines(net)[2:] == ["Power margin: fc -> m", "Scale scale: m -> s", "Softmax loss: s -> loss"]
    assert list(net.inputs) == ["data"]


def test_what_only_feeds_labels_goes_and_what_computes_the_prediction_stays() -> None:
    net = read(
        DATA,
        layer("Slice", "slice", "label", "one two"),
        layer("Silence", "silence", "two"),
        FC,
        layer("ArgMax", "best", "fc", "best"),
        layer("EuclideanLoss", "loss", "fc one", "loss"),
        layer("Accuracy", "accuracy", "best one", "accuracy"),
    )
    assert lines(net)[1:] == ["InnerProduct fc: data -> fc", "ArgMax best: fc -> best"]


def test_the_targets_of_an_autoencoder_stay() -> None:
    net = read(
        layer("Data", "data", "", "data", "transform_param { crop_size: 4 }"),
        layer("Flatten", "flat", "data", "flat"),
        layer("InnerProduct", "code", "flat", "code", "inner_product_param { num_output: 4 }"),
        layer("EuclideanLoss", "loss", "code flat", "loss"),
    )
    assert lines(net)[1:] == ["Flatten flat: data -> flat", "InnerProduct code: flat -> code"]


def test_a_label_from_a_data_layer_of_its_own_goes() -> None:
    net = read(
        layer("HDF5Data", "d", "", "data"), layer("HDF5Data", "l", "", "label"), FC, LOSS, input_shapes={"data": (1, 8)}
    )
    assert lines(net) == ["Input d:  -> data", "InnerProduct fc: data -> fc", "Softmax loss: fc -> loss"]


def test_a_label_among_the_inputs_goes_with_its_shape() -> None:
    text = 'input: "data" input: "label" input_shape { dim: [1, 3] } input_shape { dim: 1 }'
    net = read(text, FC, LOSS)
    assert net.inputs == {"data": (1, 3)}
    assert [tuple(shape.dim) for shape in net.layers[0].param.input_param.shape] == [(1, 3)]


def test_a_target_layer_of_an_unknown_type_goes_with_the_labels_it_makes() -> None:
    net = read(
        layer("Python", "input", "", "data im_info gt_boxes"),
        FC,
        layer("Python", "targets", "fc gt_boxes im_info", "labels weights"),
        layer("SmoothL1Loss", "loss", "fc labels weights", "loss"),
        input_shapes={"data": (1, 3)},
    )
    assert lines(net) == ["Input input:  -> data", "InnerProduct fc: data -> fc"]


@pytest.mark.parametrize("layer_type", ["EuclideanLossHeatmap", "MultiTaskLossLayer", "AccuracyByClass"])
def test_a_type_that_no_dialect_has_judges_by_a_word_of_its_name(layer_type: str) -> None:
    net = read(DATA, FC, layer(layer_type, "judge", "fc label", "judged"))
    assert (list(net.inputs), net.outputs) == (["data"], ["fc"])


def test_what_only_begins_as_a_loss_or_a_data_layer_does_is_none() -> None:
    net = read(DATA, FC, layer("LossyCoder", "code", "fc", "code"), layer("Dataflow", "flow", "code", "flow"))
    assert net.outputs == ["flow"]


def test_a_net_that_ends_in_a_sink_is_no_label() -> None:
    net = read(DATA, FC, layer("ReLU", "act", "fc", "act"), layer("Silence", "hush", "fc label"))
    assert lines(net)[1:] == ["InnerProduct fc: data -> fc", "ReLU act: fc -> act", "Silence hush: fc -> "]
    net = read(DATA, FC, layer("HDF5Output", "file", "fc label"))
    assert net.outputs == ["fc"]


def test_a_loss_in_place_of_another_layer_takes_what_reads_it_along() -> None:
    net = read(DATA, FC, LOSS.replace("SoftmaxWithLoss", "HingeLoss"), layer("Power", "scaled", "loss", "scaled"))
    assert net.outputs == ["fc"]


def test_in_place_layers_in_front_of_a_loss_keep_the_names_of_the_file() -> None:
    relu = layer("ReLU", "relu", "fc", "fc")
    net = read(DATA, FC, relu, layer("SoftmaxWithLoss", "loss", "fc label", "loss"))
    assert list(net.layers[-1].param.bottom) == ["fc"]
    assert net.layers[-1].source.bottoms == ("fc",)


def test_a_net_for_training_alone_shows_its_input_too() -> None:
    net = read(
        layer("Data", "d", "", "data label", "include { phase: TRAIN } transform_param { crop_size: 8 }"), FC, LOSS
    )
    assert net.inputs == {"data": (1, 3, 8, 8)}
    assert net.notes[0] == "layer 'd' (Data) is not in the TEST net, and stands for its input"


@pytest.mark.parametrize(
    ("layer_type", "rest", "shape"),
    [
        ("MemoryData", "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }", (2, 3, 4, 5)),
        ("DummyData", "dummy_data_param { shape { dim: [2, 7] } }", (2, 7)),
        ("DummyData", "dummy_data_param { num: 1 channels: 2 height: 3 width: 4 }", (1, 2, 3, 4)),
        ("ImageData", "image_data_param { new_height: 5 new_width: 6 is_color: false }", (1, 1, 5, 6)),
        ("ImageData", "transform_param { crop_size: 4 } image_data_param { new_height: 5 new_width: 6 }", (1, 3, 4, 4)),
        ("AnnotatedData", "transform_param { resize_param { height: 5 width: 6 } }", (1, 3, 5, 6)),
        ("DrivingData2", "transform_param { crop_size: 7 }", (1, 3, 7, 7)),
        ("MatRead", "transform_param { crop_size: 5 }", (1, 3, 5, 5)),
        ("DataHeatmap", "transform_param { crop_size: 6 }", (1, 3, 6, 6)),
        ("WindowData", "window_data_param { crop_size: 9 }", (1, 3, 9, 9)),
        ("DenseImageData", "dense_image_data_param { crop_height: 5 crop_width: 6 }", (1, 3, 5, 6)),
        ("Data", "transform_param { crop_size: 4 force_gray: true }", (1, 1, 4, 4)),
        ("Input", "input_param { shape { dim: [1, 2] } }", (1, 2)),
    ],
)
def test_the_shape_comes_from_what_the_data_layer_says(layer_type: str, rest: str, shape: tuple[int, ...]) -> None:
    assert read(layer(layer_type, "d", "", "data", rest), FC).inputs == {"data": shape}


@pytest.mark.parametrize("layer_type", ["Data", "ImageData", "WindowData", "MemoryData"])
def test_a_label_that_a_layer_of_inference_reads_has_a_value_for_each_sample(layer_type: str) -> None:
    """As the margin of a loss for faces does, whose layer is of no known type."""
    text = f"""
        layer {{ name: "d" type: "{layer_type}" top: "data" top: "label" transform_param {{ crop_size: 8 }} }}
        layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ num_output: 4 }} }}
        layer {{ name: "margin" type: "Margin" bottom: "ip" bottom: "label" top: "margin" }}
    """
    net = build(parse_prototxt(text), input_shapes={"data": (5, 3, 8, 8)})
    assert net.inputs == {"data": (5, 3, 8, 8), "label": (5,)}
    assert any("has a label for each sample" in note for note in net.notes)


def test_a_given_shape_wins_and_the_batch_comes_on_top() -> None:
    assert read(DATA, FC, input_shapes={"data": [7, 1, 2, 2]}).inputs == {"data": (7, 1, 2, 2)}
    assert read(DATA, FC, batch=5).inputs == {"data": (5, 3, 24, 24)}
    net = read(
        layer("Input", "d", "", "data", "input_param { shape { dim: [1, 2] } }"), FC, input_shapes={"data": (3, 4)}
    )
    (shape,) = net.layers[0].param.input_param.shape
    assert tuple(shape.dim) == (3, 4)


INPUTS = [layer("Input", "i", "", "data more"), FC, layer("ReLU", "r", "more", "r")]


def test_inputs_without_a_shape_are_all_named_with_the_way_out() -> None:
    with pytest.raises(ModelError) as caught:
        read(*INPUTS)
    assert str(caught.value) == (
        "nothing says the shape of inputs 'data', 'more': give it, for example "
        "--input-shape data=1,3,224,224 --input-shape more=1,3,224,224"
    )


def test_a_shape_that_was_concluded_is_named_where_sizes_do_not_fit() -> None:
    """Temporal Segment Networks stack ten planes of flow for each of three segments, and no field here says so."""
    net = read(
        layer("VideoData", "video", "", "data label", "transform_param { crop_size: 32 }"),
        layer("Reshape", "segments", "data", "x", "reshape_param { shape { dim: [-1, 10, 32, 32] } }"),
    )
    wanted = "does not divide by 10x32x32; but input 'data' is taken as 1x3x32x32: 'video'.*assumed; --input-shape sets"
    with pytest.raises(ModelError, match=wanted):
        infer_shapes(net)


VIDEO = 'layer {{ name: "v" type: "VideoData" top: "data" {} }}'
FILM = 'layers {{ name: "v" type: VIDEO_DATA top: "data" {} }}'
CROP = "transform_param { crop_size: 32 }"


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (VIDEO.format(CROP + " video_data_param { new_length: 5 num_segments: 3 modality: FLOW }"), (1, 30, 32, 32)),
        (VIDEO.format(CROP + " video_data_param { num_segments: 3 modality: RGB }"), (1, 9, 32, 32)),
        (VIDEO.format(CROP + " video_data_param { new_length: 16 new_height: 40 new_width: 50 }"), (1, 3, 16, 32, 32)),
        (VIDEO.format("video_data_param { new_length: 8 new_height: 40 new_width: 50 }"), (1, 3, 8, 40, 50)),
        (
            FILM.format("image_data_param { crop_size: 32 new_length: 16 new_width: 9 new_height: 9 }"),
            (1, 3, 16, 32, 32),
        ),
    ],
)
def test_a_video_layer_says_frames_as_c3d_and_temporal_segment_networks_lay_them(
    data: str, shape: Shape, tmp_path: Path
) -> None:
    """C3D's 3 x new_length x H x W; the other's planes of all frames of all segments, 3 of RGB and 2 of FLOW."""
    kind = "layers { type: RELU" if data.startswith("layers") else 'layer { type: "ReLU"'
    (tmp_path / "net.prototxt").write_text(data + kind + ' name: "r" bottom: "data" top: "r" }')
    assert bnfold.load(tmp_path / "net.prototxt").inputs == {"data": shape}


def test_a_guess_is_said_aloud() -> None:
    net = read(*INPUTS, input_shapes={"more": (1, 2)}, guess_shapes=True)
    assert net.inputs == {"data": (1, 3, 224, 224), "more": (1, 2)}
    assert net.notes == [
        "input 'data' is taken as 1x3x224x224: nothing says its shape; --input-shape sets another",
    ]


def test_a_guess_beside_sizes_that_are_stated_is_of_the_others_alone() -> None:
    shape = "input_param { shape { dim: -1 dim: 3 dim: 16 dim: 0 } }"
    net = read(layer("Input", "data", "", "data", shape), layer("ReLU", "r", "data", "r"), guess_shapes=True)
    assert net.notes == [
        "input 'data' is taken as 1x3x16x224: it says no more than ?x3x16x0; --input-shape sets another"
    ]


@pytest.mark.parametrize(
    ("layer_type", "param"),
    [
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }"),
        ("Deconvolution", "convolution_param { num_output: 2 kernel_size: 3 }"),
        ("DepthwiseConvolution", "convolution_param { num_output: 5 kernel_size: 3 }"),
        ("Normalize", "norm_param { channel_shared: false }"),
        ("Bias", ""),
    ],
)
def test_the_first_weights_behind_what_keeps_channels_say_how_many_an_input_has(
    layer_type: str, param: str, tmp_path: Path
) -> None:
    stated = 'input: "data" input_shape { dim: 1 dim: 5 dim: 8 dim: 8 }'
    text = (
        'layer { name: "t" type: "TanH" bottom: "data" top: "t" }'
        'layer { name: "u" type: "Upsample" bottom: "t" top: "u" upsample_param { scale: 2 } }'
        f'layer {{ name: "c" type: "{layer_type}" bottom: "u" top: "c" {param} }}'
    )
    bnfold.save_caffe(nets.net(stated + text), tmp_path / "stated.prototxt")
    (tmp_path / "open.prototxt").write_text('input: "data"' + text)
    guessed = bnfold.load(tmp_path / "open.prototxt", tmp_path / "stated.caffemodel", guess_shapes=True)
    assert guessed.inputs == {"data": (1, 5, 224, 224)}


def test_a_shape_for_no_input_lists_the_inputs() -> None:
    with pytest.raises(
        UsageError, match=r"--input-shape label: the network has no input of that name \(there is 'data'\)$"
    ):
        read(DATA, FC, LOSS, input_shapes={"label": (1,)})


@pytest.mark.parametrize("shape", [(1, 0), (1, -1), (1.5, 2), ("a",)])
def test_a_shape_that_is_none_is_refused(shape: tuple[float, int] | tuple[int, ...] | tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="cannot have the shape"):
        read(DATA, FC, input_shapes={"data": shape})


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 0"):
        read(DATA, FC, batch=0)
