"""What no golden shows of the oracle's layers: against naive loops, against each other, or against values by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference

Array = npt.NDArray[Any]


def run(text: str, *bottoms: Any, blobs: tuple[Any, ...] = ()) -> list[Array]:
    arrays = [np.asarray(bottom, np.float64) for bottom in bottoms]
    return reference.forward(reference.layer(text), arrays, [np.asarray(blob, np.float64) for blob in blobs])


def noise(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape)


CONVOLUTION = """convolution_param {
    num_output: 6 group: 2 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 2 dilation: 1 dilation: 3
}"""


def test_convolution_is_the_sum_over_its_window() -> None:
    x, weight, bias = noise(2, 4, 7, 6), noise(6, 2, 3, 2), noise(6)
    (top,) = run(f'type: "Convolution" {CONVOLUTION}', x, blobs=(weight, bias))
    assert top.shape == (2, 6, 4, 7)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)])
    for n, c, i, j in np.ndindex(*top.shape):
        first = 2 * (c // 3)
        seen = padded[n, first : first + 2, 2 * i : 2 * i + 3, j : j + 4 : 3]
        assert top[n, c, i, j] == pytest.approx((seen * weight[c]).sum() + bias[c])


def test_deconvolution_is_the_transpose_of_convolution() -> None:
    x, weight = noise(2, 4, 7, 6), noise(6, 2, 3, 2)
    text = CONVOLUTION.replace("num_output", "bias_term: false num_output")
    (y,) = run(f'type: "Convolution" {text}', x, blobs=(weight,))
    other = noise(*y.shape)
    (back,) = run(f'type: "Deconvolution" {text}', other, blobs=(weight,))
    assert back.shape == x.shape
    assert (y * other).sum() == pytest.approx((x * back).sum())


def test_depthwise_layers_have_a_group_per_channel() -> None:
    x, weight = noise(1, 3, 5, 5), noise(3, 1, 3, 3)
    param = "convolution_param { num_output: 3 kernel_size: 3 bias_term: false"
    (top,) = run(f'type: "ConvolutionDepthwise" {param} }}', x, blobs=(weight,))
    (same,) = run(f'type: "DepthwiseConvolution" {param} group: 3 }}', x, blobs=(weight,))
    np.testing.assert_array_equal(top, same)


def test_batch_norm_layouts_are_told_apart() -> None:
    x, scale, bias, mean, variance = noise(2, 3, 4, 4), noise(3), noise(3) + 1, noise(3) + 2, np.array([1.0, 2.0, 3.0])
    expected = (x - mean.reshape(3, 1, 1)) / np.sqrt(variance.reshape(3, 1, 1) + 1e-5)
    (bvlc,) = run('type: "BatchNorm"', x, blobs=(10 * mean, 10 * variance, [10]))
    np.testing.assert_allclose(bvlc, expected)
    expected = expected * scale.reshape(3, 1, 1) + bias.reshape(3, 1, 1)
    flag = "batch_norm_param { scale_bias: true eps: 1e-9 }"
    old = [values.reshape(1, 3, 1, 1) for values in (scale, bias, mean, variance)]
    for text, blobs in (
        (flag, (mean, variance, [1], scale, bias)),
        (flag, (mean, variance, [0], scale, bias)),
        ("", (*old, np.zeros((1, 1, 1, 1)))),
        ("", tuple(old)),
    ):
        (top,) = run(f'type: "BatchNorm" {text}', x, blobs=blobs)
        np.testing.assert_allclose(top, expected)


def test_a_batch_norm_that_is_in_training_itself_follows_the_batch_unless_it_says_otherwise() -> None:
    x, blobs = noise(2, 3, 4, 4), (noise(3), np.array([1.0, 2.0, 3.0]), np.array([1.0]))
    batch, stored, train, frozen = (
        run(f'type: "BatchNorm" {text}', x, blobs=blobs)[0]
        for text in (
            "batch_norm_param { use_global_stats: false }",
            "",
            "phase: TRAIN",
            "phase: TRAIN batch_norm_param { use_global_stats: true }",
        )
    )
    assert np.abs(batch - stored).max() > 0.1
    np.testing.assert_array_equal(train, batch)
    np.testing.assert_array_equal(frozen, stored)


def test_first_of_equal_maxima_wins_in_pooling_and_last_in_argmax() -> None:
    ones = np.ones((1, 1, 2, 2))
    _, mask = run('type: "Pooling" top: "p" top: "m" pooling_param { kernel_size: 2 }', ones)
    assert mask.item() == 0
    (last,) = run('type: "ArgMax" argmax_param { top_k: 2 }', ones)
    assert last.reshape(-1).tolist() == [3, 2]


def test_average_of_a_window_that_starts_at_the_edge_is_nan() -> None:
    (top,) = run('type: "Pooling" pooling_param { pool: AVE kernel_size: 1 stride: 3 }', noise(1, 1, 6, 1))
    assert top.shape == (1, 1, 3, 1)
    assert np.isnan(top).reshape(-1).tolist() == [False, False, True]


@pytest.mark.parametrize(("layer_type", "hidden"), [("LSTM", 2), ("RNN", 1)])
def test_recurrent_state_that_is_exposed_carries_on(layer_type: str, hidden: int) -> None:
    x, static = noise(4, 2, 5), noise(2, 3)
    cont = np.array([[0, 1], [1, 1], [1, 0], [1, 1]])
    gates = 4 if layer_type == "LSTM" else 1
    blobs = [noise(3 * gates, 5), noise(3 * gates), noise(3 * gates, 3) + 1, noise(3 * gates, 3)]
    blobs += [] if layer_type == "LSTM" else [noise(3, 3) - 1, noise(3)]
    text = f'type: "{layer_type}" recurrent_param {{ num_output: 3 }}'
    (whole,) = run(text, x, cont, static, blobs=tuple(blobs))
    text = text.replace("3 }", "3 expose_hidden: true }")
    state = [np.zeros((1, 2, 3))] * hidden
    halves = []
    for part in (slice(0, 2), slice(2, 4)):
        top, *state = run(text, x[part], cont[part], static, *state, blobs=tuple(blobs))
        halves.append(top)
    np.testing.assert_allclose(np.concatenate(halves), whole)


def test_pointwise_layers_that_no_golden_has() -> None:
    x = np.array([[-2.0, 0.0, 3.0, 7.0]])
    (selu,) = run('type: "SELU"', x)
    np.testing.assert_allclose(selu, [[-1.520166468595695, 0, 3.152102961866441, 7.354907]], rtol=1e-7)
    (leaky,) = run('type: "ReLU6" relu6_param { negative_slope: 0.5 }', x)
    assert leaky.tolist() == [[-1, 0, 3, 6]]
    (bounded,) = run('type: "ReLU6" relu6_param { negative_slope: 0.5 threshold: 2.5 }', x)
    assert bounded.tolist() == [[-1, 0, 2.5, 2.5]]
    (line,) = run('type: "HardSigmoid" hardsigmoid_param { alpha: 0.25 beta: 0.375 }', x)
    assert line.tolist() == [[0, 0.375, 1, 1]]
    (scaled,) = run('type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }', x)
    assert scaled.tolist() == [[-1.5, 0, 2.25, 5.25]]


def test_channels_are_shuffled_and_pixels_spread() -> None:
    channels = np.arange(6.0).reshape(1, 6, 1, 1)
    (shuffled,) = run('type: "ShuffleChannel" shuffle_channel_param { group: 2 }', channels)
    assert shuffled.reshape(-1).tolist() == [0, 3, 1, 4, 2, 5]
    (spread,) = run(
        'type: "PixelShuffle" pixel_shuffle_param { upscale_factor: 2 }', np.arange(8.0).reshape(1, 8, 1, 1)
    )
    assert spread.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]


def test_reorg_reversed_undoes_reorg_when_read_as_its_shape() -> None:
    x = noise(2, 8, 4, 6)
    (back,) = run('type: "Reorg" reorg_param { stride: 2 reverse: true }', x)
    assert back.shape == (2, 2, 8, 12)
    (again,) = run('type: "Reorg" reorg_param { stride: 2 }', back.reshape(x.shape))
    np.testing.assert_array_equal(again.reshape(x.shape), x)


def test_regions_are_pooled_by_maximum_and_by_position() -> None:
    plane = np.arange(16.0).reshape(1, 1, 4, 4)
    regions = np.array([[0, 0, 0, 6, 6], [0, 4, 4, 4, 4]])  # at half scale: the whole plane, and one pixel
    (top,) = run('type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }', plane, regions)
    assert top.reshape(2, 4).tolist() == [[5, 7, 13, 15], [10, 10, 10, 10]]
    maps = np.arange(4.0).reshape(1, 4, 1, 1) * 100 + plane
    text = 'type: "PSROIPooling" psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 0.5 }'
    (top,) = run(text, maps, regions[:1] + np.array([0, 0, 0, 1, 1]))
    assert top.reshape(-1).tolist() == [2.5, 104.5, 210.5, 312.5]


def test_clustered_priors_have_the_given_sizes() -> None:
    text = 'type: "PriorBoxClustered" prior_box_param { width: 4 height: 2 width: 8 height: 8 variance: 0.5 step: 10 }'
    (top,) = run(text, np.zeros((1, 1, 1, 2)), np.zeros((1, 3, 10, 20)))
    boxes, variances = top.reshape(2, 2, 2, 4)
    np.testing.assert_allclose(boxes[0], [[0.15, 0.4, 0.35, 0.6], [0.05, 0.1, 0.45, 0.9]])
    np.testing.assert_allclose(boxes[1], boxes[0] + [0.5, 0, 0.5, 0])
    assert (variances == 0.5).all()


def detect(scores: list[list[float]], extra: str = "") -> list[list[float]]:
    """Three priors, of which the first two overlap by two thirds, with the scores of one class besides background."""
    priors = np.array([[0, 0, 0.5, 1], [0.1, 0, 0.6, 1], [0.7, 0, 1, 1]])
    bottom = np.stack([priors.reshape(-1), np.full(12, 0.1)])[np.newaxis]
    confidence = np.stack([1 - np.array(scores), np.array(scores)], axis=-1).reshape(len(scores), -1)
    text = f"""type: "DetectionOutput" detection_output_param {{
        num_classes: 2 confidence_threshold: 0.3 nms_param {{ nms_threshold: 0.5 {extra} }} }}"""
    (top,) = run(text, np.zeros((len(scores), 12)), confidence, bottom)
    return [row[:4] for row in top[0, 0].tolist()]


def test_detections_are_suppressed_per_image() -> None:
    assert detect([[0.4, 0.9, 0.8], [0.1, 0.1, 0.1], [0.5, 0.2, 0.3]]) == [
        [0, 1, 0.9, 0.1],
        [0, 1, 0.8, 0.7],
        [2, 1, 0.5, 0],
    ]
    assert detect([[0.4, 0.9, 0.8]], "top_k: 1") == [[0, 1, 0.9, 0.1]]


def test_detections_of_nothing_are_one_row_per_image() -> None:
    assert detect([[0.1] * 3, [0.2] * 3]) == [[0, -1, -1, -1], [1, -1, -1, -1]]


def test_yolo_boxes_are_decoded_from_their_cell() -> None:
    cells = np.zeros((1, 7, 2, 2))
    cells[0, 4] = -9
    cells[0, 4:7, 1, 0] = [9, 0, 9]  # one object, of the second class
    text = 'type: "YoloDetectionOutput" yolo_detection_output_param { num_classes: 2 num_box: 1 biases: 1 biases: 0.5 }'
    (top,) = run(text, cells)
    score = (1 / (1 + np.exp(-9.0))) ** 2
    np.testing.assert_allclose(top.reshape(-1), [0, 2, score, 0, 0.625, 0.5, 0.875])


def test_unknown_layer_types_are_refused() -> None:
    with pytest.raises(ValueError, match="'Mystery' is not in the reference's table"):
        run('type: "Mystery"', noise(1))


def test_errors_say_which_layer_they_are_in() -> None:
    net = reference.load('input: "x" layer { name: "odd" type: "Mystery" bottom: "x" top: "y" }')
    with pytest.raises(ValueError, match="Mystery") as caught:
        net.run({"x": noise(1)})
    assert caught.value.__notes__ == ["in layer 'odd' (Mystery)"]


def test_deephi_resize_is_opencvs() -> None:
    import cv2

    for height, width, tall, wide in ((5, 7, 11, 3), (4, 6, 8, 12), (22, 1, 49, 4), (9, 10, 1, 93), (14, 8, 7, 4)):
        x = noise(1, 2, height, width)
        for mode, flag in (("BILINEAR", cv2.INTER_LINEAR), ("NEAREST", cv2.INTER_NEAREST)):
            size = f"resize_type: {mode} new_height: {tall} new_width: {wide}"
            (top,) = run(f'type: "DeephiResize" deephi_resize_param {{ {size} }}', x)
            theirs = np.stack([cv2.resize(plane, (wide, tall), interpolation=flag) for plane in x[0]])
            # OpenCV has its weights in float32.
            np.testing.assert_allclose(top[0], theirs, atol=1e-5 if mode == "BILINEAR" else 0)
