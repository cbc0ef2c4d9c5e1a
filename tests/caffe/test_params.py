"""Views of layer parameters: defaults, the ways of giving a size, legacy names, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from bnfold.caffe import layers as params
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers.activation import tanh_factors
from bnfold.caffe.layers.arrange import crop_offsets, written_axis
from bnfold.caffe.layers.axes import written
from bnfold.errors import ModelError
from bnfold.net import Blobs, Layer, Shape, sizes


def layer_of(text: str, bottoms: int = 1) -> Layer:
    param = text_format.Parse(text, LayerParameter())
    return Layer("x", param.type, [f"b{i}" for i in range(bottoms)], ["t"], Blobs(), param)


def convolution(text: str, layer_type: str = "Convolution", spatial: int = 2) -> params.Convolution:
    return params.Convolution.of(layer_of(f'type: "{layer_type}" convolution_param {{ {text} }}'), spatial)


def pooling(text: str, bottom: Shape = (1, 2, 8, 8)) -> params.Pooling:
    return params.Pooling.of(layer_of(f'type: "Pooling" pooling_param {{ {text} }}'), bottom)


def test_every_view_is_a_frozen_value_with_slots() -> None:
    views = [view for view in vars(params).values() if hasattr(view, "of")]
    assert len(views) > 15
    for view in views:
        assert issubclass(view, tuple)
        assert view._fields
        assert view.__slots__ == ()


# Axes.


@pytest.mark.parametrize(("axis", "rank", "canonical"), [(0, 1, 0), (-1, 4, 3), (-4, 4, 0), (3, 4, 3)])
def test_a_negative_axis_counts_from_the_end(axis: int, rank: int, canonical: int) -> None:
    assert params.canonical_axis(axis, rank) == canonical


@pytest.mark.parametrize(("axis", "rank"), [(4, 4), (-5, 4), (0, 0)])
def test_an_axis_outside_the_blob_is_refused(axis: int, rank: int) -> None:
    with pytest.raises(ModelError, match=f"axis {axis} is outside a blob of {rank} axes"):
        params.canonical_axis(axis, rank)


def test_sizes_are_written_as_people_write_them() -> None:
    assert sizes((1, -1, 224)) == "1x?x224"
    assert sizes(()) == "scalar"


# Convolution.


def test_a_convolution_has_caffes_defaults() -> None:
    view = convolution("num_output: 4 kernel_size: 3")
    assert view == params.Convolution(4, (3, 3), (1, 1), (0, 0), (0, 0), (1, 1), group=1, bias=True, axis=1, relu=None)


@pytest.mark.parametrize(
    ("text", "spatial", "kernel", "pad"),
    [
        ("kernel_size: 3 pad: 1", 2, (3, 3), (1, 1)),
        ("kernel_size: 3 kernel_size: 5 pad: 1 pad: 2", 2, (3, 5), (1, 2)),
        ("kernel_h: 3 kernel_w: 5 pad_h: 1", 2, (3, 5), (1, 0)),
        ("kernel_size: 3 pad: 1", 3, (3, 3, 3), (1, 1, 1)),
        ("kernel_size: 3", 1, (3,), (0,)),
    ],
)
def test_window_sizes_come_in_three_forms(text: str, spatial: int, kernel: Shape, pad: Shape) -> None:
    view = convolution("num_output: 4 " + text, spatial=spatial)
    assert (view.kernel, view.before, view.after) == (kernel, pad, pad)


@pytest.mark.parametrize(
    ("text", "spatial", "sentence"),
    [
        ("kernel_size: 3 kernel_h: 3", 2, "given both for all axes and as _h and _w"),
        ("kernel_h: 3 kernel_w: 3", 3, "the spatial axes number 3, not 2"),
        ("kernel_size: 3 stride_h: 2", 2, "stride 2x0 must be at least 1"),
        ("kernel_size: 3 dilation: 0", 2, "dilation 0x0 must be at least 1"),
        ("kernel_size: 3 hole: 0", 2, "dilation 0x0 must be at least 1"),
        ("kernel_size: 3 hole: 2 dilation: 2", 2, "dilation and hole are both given"),
        ("kernel_size: 3 pad: 1 pad: 1 pad: 1", 2, "pad has 3 values for 2 spatial axes"),
        ("", 2, "kernel_size is not given"),
        ("kernel_size: 3 group: 0", 2, "group 0 must be at least 1"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(text: str, spatial: int, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        convolution("num_output: 4 " + text, spatial=spatial)


@pytest.mark.parametrize(
    ("layer_type", "text", "group"),
    [
        ("Convolution", "", 1),
        ("DepthwiseConv", "", 6),
        ("DepthwiseConvolution", "", 6),
        ("DepthwiseConvolution", "group: 2", 2),
        ("ConvolutionDepthwise", "", 6),
        ("ConvolutionDepthwise", "group: 1", 6),
    ],
)
def test_depthwise_types_have_a_group_per_channel(layer_type: str, text: str, group: int) -> None:
    assert convolution(f"num_output: 6 kernel_size: 3 {text}", layer_type).group == group


def test_tengines_own_name_for_depthwise_parameters_is_read() -> None:
    layer = layer_of(
        'type: "DepthwiseConvolution" DepthwiseConvolution_param { num_output: 6 kernel_h: 3 kernel_w: 1 }'
    )
    view = params.Convolution.of(layer)
    assert (view.num_output, view.kernel, view.group) == (6, (3, 1), 6)


def test_intels_fused_relu_is_seen() -> None:
    assert convolution("num_output: 6 kernel_size: 3 relu: true negative_slope: 0.5").relu == 0.5
    assert convolution("num_output: 6 kernel_size: 3 negative_slope: 0.5").relu is None


# Pooling.


@pytest.mark.parametrize(
    ("text", "bottom", "safe"),
    [
        ("kernel_size: 3 stride: 2", (1, 2, 8, 8), True),
        ("kernel_size: 1 stride: 2", (1, 2, 8, 8), False),  # the window at 8 is behind the image
        ("kernel_size: 1 stride: 2", (1, 2, 7, 7), True),
        ("kernel_size: 2 stride: 2 pad: 1", (1, 2, 5, 5), True),
        ("kernel_size: 2 stride: 4 pad: 1 round_mode: FLOOR", (1, 2, 6, 6), True),
        ("kernel_size: 2 stride: 2", (1, 2, -1, 8), True),
        ("kernel_size: 2 stride: 3", (1, 2, -1, 8), False),  # some size has an empty window
        ("global_pooling: true", (1, 2, -1, 8), True),
    ],
)
def test_empty_windows_are_foreseen(text: str, bottom: Shape, safe: bool) -> None:
    assert pooling(text, bottom).windows_never_empty is safe


def test_windows_never_empty_agrees_with_counting_the_pixels() -> None:
    for size in range(1, 9):
        for kernel in range(1, 5):
            for stride in range(1, 6):
                for pad in range(kernel):
                    text = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
                    try:
                        view = pooling(text, (1, 1, size, size))
                    except ModelError:
                        continue
                    starts = np.arange(view.output[0]) * stride - pad
                    pixels = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
                    assert view.windows_never_empty == bool((pixels > 0).all()), (text, size)


def test_global_pooling_takes_the_plane() -> None:
    view = pooling("pool: AVE global_pooling: true", (1, 2, 7, 9))
    assert (view.method, view.kernel, view.stride, view.before, view.output) == ("AVE", (7, 9), (1, 1), (0, 0), (1, 1))
    assert view.is_global


@pytest.mark.parametrize(
    ("text", "ceil"),
    [
        ("", True),
        ("round_mode: FLOOR", False),
        ("ceil_mode: false", False),
        ("ceil_mode: true", True),
        ("torch_pooling: true", False),
        ("round_mode: FLOOR ceil_mode: false", False),
    ],
)
def test_rounding_has_a_word_in_each_dialect(text: str, ceil: bool) -> None:
    assert pooling("kernel_size: 2 " + text).ceil is ceil


def test_contradicting_words_for_rounding_are_refused() -> None:
    with pytest.raises(ModelError, match="round_mode and ceil_mode contradict each other"):
        pooling("kernel_size: 2 round_mode: FLOOR ceil_mode: true")


def test_spp_levels_are_caffes() -> None:
    one, two = params.SPP.of(layer_of('type: "SPP" spp_param { pyramid_height: 2 pool: AVE }'), (1, 2, 5, 6)).levels
    assert (one.kernel, one.before, one.output) == ((5, 6), (0, 0), (1, 1))
    assert (two.method, two.kernel, two.stride, two.before, two.output) == ("AVE", (3, 3), (3, 3), (1, 0), (2, 2))


# The others.


def test_old_names_of_axes_are_read() -> None:
    assert written_axis(layer_of('type: "Concat" concat_param { concat_dim: 2 }')) == 2
    assert written_axis(layer_of('type: "Slice" slice_param { slice_dim: 3 }')) == 3


def test_an_eltwise_sum_has_a_coefficient_for_each_bottom() -> None:
    assert params.Eltwise.of(layer_of('type: "Eltwise"'), 3) == params.Eltwise("SUM", (1.0, 1.0, 1.0))
    text = 'type: "Eltwise" eltwise_param { coeff: 1 coeff: -1 }'
    assert params.Eltwise.of(layer_of(text), 2).coeff == (1.0, -1.0)
    with pytest.raises(ModelError, match="coeff is for SUM, not for PROD"):
        params.Eltwise.of(layer_of('type: "Eltwise" eltwise_param { operation: PROD coeff: 1 }'), 1)


def test_a_field_that_is_not_written_is_told_from_one_that_is_false() -> None:
    def stats(text: str) -> bool | None:
        param = layer_of(f'type: "BatchNorm" batch_norm_param {{ {text} }}').param.batch_norm_param
        said: bool | None = written(param, "use_global_stats")
        return said

    assert (stats(""), stats("use_global_stats: false"), stats("use_global_stats: true")) == (None, False, True)


def test_nvcaffes_own_scale_is_seen_by_flag_or_filler() -> None:
    for text in ("scale_bias: true", "scale_filler { value: 1 }", "bias_filler { value: 0 }"):
        assert params.learns_scale(layer_of(f'type: "BatchNorm" batch_norm_param {{ {text} }}'))
    assert not params.learns_scale(layer_of('type: "BatchNorm"'))


def test_dropout_scales_at_test_only_where_training_does_not() -> None:
    assert params.dropout_scale(layer_of('type: "Dropout"')) == 1.0
    text = 'type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }'
    assert params.dropout_scale(layer_of(text)) == 0.75


def test_base_minus_one_is_e() -> None:
    assert params.log_of_base(layer_of('type: "Exp"')) == 1.0
    assert params.log_of_base(layer_of('type: "Log" log_param { base: 8 }')) == pytest.approx(np.log(8))
    for text in ('type: "Exp" exp_param { base: 0 }', 'type: "Exp" exp_param { base: nan }'):
        with pytest.raises(ModelError, match="must be above 0"):
            params.log_of_base(layer_of(text))
    with pytest.raises(ModelError, match="no logarithm of base 1"):
        params.log_of_base(layer_of('type: "Log" log_param { base: 1 }'))


def test_clip_has_no_default_bounds() -> None:
    with pytest.raises(ModelError, match="min and max must both be given"):
        params.clip_bounds(layer_of('type: "Clip" clip_param { min: 0 }'))


def test_a_scaled_tanh_says_both_factors() -> None:
    said = layer_of('type: "ScaledTanH" scaled_tanh_param { alpha: 2 beta: -0.5 }')
    assert tanh_factors(said) == (2, -0.5)
    with pytest.raises(ModelError, match="alpha and beta must both be given"):
        tanh_factors(layer_of('type: "ScaledTanH" scaled_tanh_param { alpha: 2 }'))


def test_a_permute_completes_its_order() -> None:
    layer = layer_of('type: "Permute" permute_param { order: 0 order: 2 }')
    assert params.permutation(layer, 4) == (0, 2, 1, 3)


def test_a_crop_offset_is_given_once_or_per_axis() -> None:
    def offsets(text: str) -> Shape:
        layer = layer_of(f'type: "Crop" crop_param {{ {text} }}')
        return crop_offsets(layer, 4)

    assert offsets("") == (0, 0, 0, 0)
    assert offsets("offset: 3") == (0, 0, 3, 3)
    assert offsets("axis: 1 offset: 1 offset: 2 offset: 3") == (0, 1, 2, 3)
    with pytest.raises(ModelError, match="2 offsets for 3 axes"):
        offsets("axis: 1 offset: 1 offset: 2")


def test_upsampling_by_a_mask_doubles_unless_said() -> None:
    assert params.Upsampling.of(layer_of('type: "Upsample"', bottoms=2)).scale == (2, 2)
    assert params.Upsampling.of(layer_of('type: "Upsample" upsample_param { scale_w: 3 }')).scale == (1, 3)
    with pytest.raises(ModelError, match=r"forks differ in the default.*write the one that is meant, `upsample_param"):
        params.Upsampling.of(layer_of('type: "Upsample"'))
    text = 'type: "Upsample" upsample_param { scale_h: 2 scale_w: 3 }'
    assert params.Upsampling.of(layer_of(text)).scale == (2, 3)
    with pytest.raises(ModelError, match=r"scale 1\.5x1\.5 must be whole"):
        params.Upsampling.of(layer_of('type: "Upsample" upsample_param { scale: 1.5 }'))


def test_a_recurrent_layer_tells_its_inputs_by_their_number() -> None:
    text = 'type: "LSTM" recurrent_param { num_output: 3 expose_hidden: true }'
    assert params.Recurrent.of(layer_of(text, bottoms=5)).static == 2
    assert params.Recurrent.of(layer_of(text, bottoms=4)).static is None
    with pytest.raises(ModelError, match="6 bottoms fit neither"):
        params.Recurrent.of(layer_of(text, bottoms=6))


def test_prior_boxes_have_each_aspect_ratio_once_with_its_inverse() -> None:
    text = "min_size: 4 min_size: 8 max_size: 8 max_size: 9 aspect_ratio: 3 aspect_ratio: 1 aspect_ratio: 3"
    view = params.PriorBox.of(layer_of(f'type: "PriorBox" prior_box_param {{ {text} }}'))
    assert view.aspect_ratios == (1.0, 3.0, float(np.float32(1 / 3)))
    assert view.per_cell == 2 * 3 + 2
    assert view.grid.variances == (0.1, 0.1, 0.1, 0.1)
    assert (view.grid.image, view.grid.step) == (None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must name sizes above 0"),
        ("min_size: 4 max_size: 4", "one larger size for each min_size"),
        ("min_size: 4 variance: 1 variance: 2", "one or four values"),
        ("min_size: 4 step: 1 step_h: 1", "step is given beside step_h"),
        ("min_size: 4 img_size: 1 img_h: 1", "img_size is given beside img_h"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio 0.0 must be above 0"),
        ("box_width: 4", "box_width and box_height must be pairs"),
        ("min_size: 32 faceboxes: true tf: true", "faceboxes has its own boxes"),
    ],
)
def test_prior_boxes_that_make_no_sense_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        params.PriorBox.of(layer_of(f'type: "PriorBox" prior_box_param {{ {text} }}'))


@pytest.mark.parametrize("text", ["", "width: 3", "width: 3 height: 4 height: 5", "width: 3 height: 0"])
def test_clustered_priors_need_pairs_of_sizes(text: str) -> None:
    with pytest.raises(ModelError, match="must be pairs of sizes above 0"):
        params.PriorBox.of(layer_of(f'type: "PriorBoxClustered" prior_box_param {{ {text} }}'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stride_h: 16 nms_iou_th: 0.7 anchor {}", "stride_h, stride_w, nms_input_num and nms_output_num"),
        ("stride_h: 16 stride_w: 16 nms_iou_th: 0.7", "must list anchors, and have an nms_iou_th from 0 to 1"),
        ("stride_h: 16 stride_w: 16 nms_iou_th: 1.5 anchor {}", "must list anchors, and have an nms_iou_th from 0"),
        ("stride_h: 16 stride_w: 16 anchor {} feat_stride: 16", "beside feat_stride stands a field of Vitis'"),
        ("max_rois: 16 ratio: 2", "beside ratio stands a field of Synopsys'"),
    ],
)
def test_a_proposal_says_all_that_its_fork_needs_and_nothing_of_another(text: str, reason: str) -> None:
    assert params.Proposal.of(layer_of('type: "Proposal"')).scales == (8.0, 16.0, 32.0)
    with pytest.raises(ModelError, match=reason):
        params.Proposal.of(layer_of(f'type: "Proposal" proposal_param {{ {text} }}'))


def test_yolo_v3_masks_are_split_among_its_bottoms() -> None:
    text = "mask: 3 mask: 4 mask: 0 mask: 1 anchors_scale: 32 anchors_scale: 16"
    layer = layer_of(f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ {text} }}', bottoms=2)
    view = params.YoloDetectionOutput.of(layer)
    assert (view.masks, view.anchors_scale) == (((3, 4), (0, 1)), (32, 16))
