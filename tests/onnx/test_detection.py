"""Detections in standard operators: values, order of rows, the empty answer."""

from __future__ import annotations

import numpy as np
import pytest
from single_layer import assert_close, by_oracle, exported, exported_double, layer_net

from bnfold.compare.comparison import compare
from bnfold.errors import ModelError, UnsupportedError
from bnfold.net import Array, Net, Shape
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

PRIORS, CLASSES = 40, 5


def detector(rng: np.random.Generator, images: int, located: int = 1) -> list[Array]:
    """Locations, confidences and priors for a DetectionOutput."""
    loc = rng.normal(0, 0.5, (images, PRIORS * located * 4))
    scores = rng.random((images, PRIORS, CLASSES))
    scores /= scores.sum(2, keepdims=True)
    corner = rng.random((PRIORS, 2)) * 0.7
    boxes = np.concatenate([corner, corner + 0.1 + 0.2 * rng.random((PRIORS, 2))], axis=1)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))
    priors = np.stack([boxes.reshape(-1), variances.reshape(-1)])[None]
    return [np.asarray(array, np.float32) for array in (loc, scores.reshape(images, -1), priors)]


def output(**fields: object) -> str:
    defaults: dict[str, object] = {
        "num_classes": CLASSES,
        "code_type": "CENTER_SIZE",
        "keep_top_k": 12,
        "confidence_threshold": 0.2,
        "nms_param": "{ nms_threshold: 0.4 top_k: 15 }",
    }
    words = " ".join(
        f"{name} {value}" if name == "nms_param" else f"{name}: {value}" for name, value in (defaults | fields).items()
    )
    return f'type: "DetectionOutput" detection_output_param {{ {words} }}'


@pytest.mark.parametrize("opset", [11, 17, 21])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"code_type": "CORNER"},
        {"code_type": "CORNER_SIZE"},
        {"variance_encoded_in_target": "true"},
        {"code_type": "CORNER", "variance_encoded_in_target": "true", "nms_param": "{ nms_threshold: 0 }"},
        {"code_type": "CORNER", "variance_encoded_in_target": "true", "share_location": "false"},
        {"background_label_id": 2},
        {"background_label_id": -1, "share_location": "false"},
        {"keep_top_k": -1, "nms_param": "{ nms_threshold: 0.4 }"},
        {"keep_top_k": 1},
        {"share_location": "false"},
        {"nms_param": "{ nms_threshold: 0.4 top_k: 3 }"},
        {"nms_param": "{ nms_threshold: 1.5 top_k: 100 }"},
    ],
    ids=lambda fields: " ".join(fields) or "plain",
)
def test_detections_are_those_of_caffe_in_its_order(fields: dict[str, object], images: int, opset: int) -> None:
    rng = np.random.default_rng(images)
    inputs = detector(rng, images, CLASSES if "share_location" in fields else 1)
    text = output(**fields)
    net = layer_net(text, [x.shape for x in inputs])
    expected = by_oracle(text, net, inputs)
    assert expected[0].shape[2] >= images
    assert_close(exported(net, inputs, opset=opset), expected)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("objectness", [0.01, 0.4])
@pytest.mark.parametrize("layer_type", ["DetectionOutput", "DetectionOutputRefine"])
def test_the_boxes_of_refinedet_are_moved_twice_and_only_where_there_is_an_object(
    layer_type: str, objectness: float, code: str, images: int
) -> None:
    rng = np.random.default_rng(images)
    inputs = detector(rng, images)
    objects = rng.random((images, PRIORS * 2)).astype(np.float32)
    first = rng.normal(0, 0.5, (images, PRIORS * 4)).astype(np.float32)
    words = {"code_type": code, "keep_top_k": -1, "nms_param": "{ nms_threshold: 1.5 }"}
    text = output(**words, **({"objectness_score": 0.4} if objectness == 0.4 else {}))
    text = text.replace('"DetectionOutput"', f'"{layer_type}"')
    refined = [*inputs, objects, first]
    net = layer_net(text, [x.shape for x in refined])
    (expected,) = by_oracle(text, net, refined)
    assert_close(exported(net, refined), [expected])
    likely = inputs[1].reshape(images, PRIORS, CLASSES)[:, :, 1:] > 0.2
    assert len(expected[0, 0]) == (likely & (objects.reshape(images, PRIORS, 2)[:, :, 1:] >= objectness)).sum()
    (plain,) = by_oracle(output(**words), net, inputs)
    assert plain.shape != expected.shape or np.abs(plain - expected).max() > 1e-3


def test_the_rows_of_vitis_refinedet_are_compared_as_boxes() -> None:
    inputs = detector(np.random.default_rng(0), 1)
    net = layer_net(output().replace('"DetectionOutput"', '"DetectionOutputRefine"'), [x.shape for x in inputs])
    report = compare(net, to_onnx(net), {f"x{i}": x for i, x in enumerate(inputs)})
    assert report.passed
    assert report.detector is not None
    assert report.detector.matched == report.detector.reference_boxes > 0


@pytest.mark.parametrize("other", [0, 1, 3])
def test_bottoms_of_different_batches_are_refused(other: int) -> None:
    inputs = detector(np.random.default_rng(0), 1)
    inputs += [np.zeros((1, 2 * PRIORS), np.float32), np.zeros((1, 4 * PRIORS), np.float32)]
    shapes = [x.shape for x in inputs]
    to_onnx(layer_net(output(), shapes))
    shapes[other] = (2, *shapes[other][1:])
    with pytest.raises(UnsupportedError, match=r"locations and confidences are of [12, ]+ images"):
        to_onnx(layer_net(output(), shapes))


def test_a_fourth_bottom_alone_has_no_meaning_that_is_known() -> None:
    inputs = [*detector(np.random.default_rng(0), 1), np.zeros((1, 2 * PRIORS), np.float32)]
    with pytest.raises(UnsupportedError, match="it has 4 bottoms, and only the meaning of 3, or of RefineDet's 5"):
        to_onnx(layer_net(output(), [x.shape for x in inputs]))


@pytest.mark.parametrize(
    ("fields", "first", "reason"),
    [
        ({"share_location": "false"}, 4, "only where all classes share them"),
        ({}, 3, "needs 80 confidences and 160 locations"),
    ],
)
def test_a_first_step_that_fits_no_priors_is_refused(fields: dict[str, object], first: int, reason: str) -> None:
    rng = np.random.default_rng(0)
    inputs = detector(rng, 1, CLASSES if fields else 1)
    inputs += [np.zeros((1, PRIORS * 2), np.float32), np.zeros((1, PRIORS * first), np.float32)]
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(layer_net(output(**fields), [x.shape for x in inputs]))


PARTS = ((24, 3), (16, 2))
"""How many of the priors lie in each plane, and how many boxes each of its cells has; together PRIORS."""


def in_parts(inputs: list[Array], layout: str, located: int = 1) -> list[Array]:
    """A detector's locations, confidences and priors as Synopsys' Caffe takes them, in two planes."""
    loc, conf = inputs[0].reshape(PRIORS, 4 * located), inputs[1].reshape(PRIORS, CLASSES)
    confidences, locations, start = [], [], 0
    for count, cell in PARTS:
        box, scores = loc[start : start + count], conf[start : start + count]
        start += count
        if layout:
            # Boxes lie by cell, and then by ratio: all boxes of the first ratio in front.
            box = box.reshape(count // cell, cell, 4).transpose(1, 0, 2)
            scores = scores.reshape(count // cell, cell, CLASSES).transpose(2, 1, 0)
            box = box.transpose(0, 2, 1) if layout == "no_permute" else box.reshape(count, 4).T
        locations.append(box.reshape(1, 4 * cell, 2, -1) if layout == "no_permute" else box.reshape(1, -1))
        confidences.append(scores[None] if layout == "no_permute" else scores.reshape(1, -1))
    return [*confidences, *locations, inputs[2]]


def parts_of(layout: str, **fields: object) -> str:
    words: dict[str, object] = {"nbottom": 2} | ({layout: "true"} if layout else {})
    return output(**words, ratio0=3, ratio1=2, **fields)


@pytest.mark.parametrize("opset", [11, 17, 21])
@pytest.mark.parametrize("layout", ["", "ratio_permute", "no_permute"])
def test_boxes_in_parts_are_those_of_one_bottom(layout: str, opset: int) -> None:
    inputs = detector(np.random.default_rng(0), 1)
    parts = in_parts(inputs, layout)
    net = layer_net(parts_of(layout), [x.shape for x in parts])
    whole = layer_net(output(), [x.shape for x in inputs])
    (expected,) = by_oracle(output(), whole, inputs)
    assert_close(by_oracle(parts_of(layout), net, parts), [expected], 1e-12)
    assert_close(exported(net, parts, opset=opset), [expected])


@pytest.mark.parametrize("layout", ["", "ratio_permute", "no_permute"])
def test_variances_of_boxes_in_parts_stay_where_they_are(layout: str) -> None:
    rng = np.random.default_rng(1)
    inputs = in_parts(detector(rng, 1), layout)
    inputs[-1][:, 1] = rng.random(PRIORS * 4) * 0.3
    net = layer_net(parts_of(layout), [x.shape for x in inputs])
    assert_close(exported(net, inputs), by_oracle(parts_of(layout), net, inputs))


def test_parts_may_have_priors_and_classes_boxes_of_their_own() -> None:
    inputs = detector(np.random.default_rng(2), 1, CLASSES)
    *parts, priors = in_parts(inputs, "", CLASSES)
    parts += np.split(priors, [PARTS[0][0] * 4], axis=2)
    text = parts_of("", share_location="false")
    net = layer_net(text, [x.shape for x in parts])
    whole = output(share_location="false")
    expected = by_oracle(whole, layer_net(whole, [x.shape for x in inputs]), inputs)
    assert_close(exported(net, parts), expected)


FLAT: list[Shape] = [(1, 120), (1, 80), (1, 96), (1, 64)]
TOGETHER: list[Shape] = [(1, 2, 160)]


@pytest.mark.parametrize(
    ("fields", "shapes", "reason"),
    [
        ({}, [(2, *shape[1:]) for shape in FLAT] + TOGETHER, "gives every image the boxes of the first"),
        (
            {"ratio_permute": "true", "share_location": "false"},
            FLAT + TOGETHER,
            "where classes have boxes of their own",
        ),
        ({"ratio_permute": "true"}, [*FLAT, (1, 2, 96), (1, 2, 64)], "reads priors in parts otherwise"),
        ({"ratio_permute": "true", "ratio1": 3}, FLAT + TOGETHER, "part 1, of 16 boxes, has no cells of 3"),
        ({"ratio_permute": "true", "ratio1": 0}, FLAT + TOGETHER, "part 1 has no ratio above 0"),
        ({"no_permute": "true"}, FLAT + TOGETHER, "part 0 is no plane"),
        ({}, [*FLAT[:3], (1, 60), *TOGETHER], "part 1, of 15 boxes, has 80 confidences"),
        ({}, [*FLAT, (1, 2, 168)], r"parts have \[24, 16\] boxes, and there are priors of \[42\]"),
        ({}, [*FLAT, (1, 2, 16, 10)], "its priors are not"),
        ({}, [(1, 60, 2), *FLAT[1:], *TOGETHER], "part 0 is not flat"),
        ({}, FLAT, "it has 4 bottoms, and only the meaning of 3, .* with nbottom 2 of 5 or 6"),
        ({"nbottom": 3}, [(1, 160), (1, 200), (1, 2, 320)], "it has 3 bottoms, .* with nbottom 3 of 7 or 9"),
    ],
)
def test_parts_that_no_caffe_reads_rightly_are_refused(
    fields: dict[str, object], shapes: list[Shape], reason: str
) -> None:
    words: dict[str, object] = {"nbottom": 2, "ratio0": 3, "ratio1": 2}
    with pytest.raises(UnsupportedError, match=reason):
        to_onnx(layer_net(output(**(words | fields)), shapes))


def test_two_layouts_of_parts_are_an_error() -> None:
    with pytest.raises(ModelError, match="ratio_permute and no_permute are two layouts"):
        to_onnx(layer_net(output(ratio_permute="true", no_permute="true", nbottom=2), FLAT + TOGETHER))


def test_parts_cannot_leave_the_batch_open() -> None:
    with pytest.raises(UnsupportedError, match="gives every image the boxes of the first, so the batch size cannot"):
        to_onnx(layer_net(output(nbottom=2), FLAT + TOGETHER), dynamic_batch=True)


@pytest.mark.parametrize("images", [1, 3])
def test_no_detection_at_all_gives_one_row_for_each_image(images: int) -> None:
    inputs = detector(np.random.default_rng(0), images)
    net = layer_net(output(confidence_threshold=0.999), [x.shape for x in inputs])
    (rows,) = exported(net, inputs)
    np.testing.assert_array_equal(rows, [[[[image, -1, -1, -1, -1, -1, -1] for image in range(images)]]])


def test_an_image_without_detections_has_no_row_when_another_has() -> None:
    loc, scores, priors = detector(np.random.default_rng(0), 2)
    scores[0] = 0
    net = layer_net(output(), [loc.shape, scores.shape, priors.shape])
    (rows,) = exported(net, [loc, scores, priors])
    assert (rows[0, 0, :, 0] == 1).all()


def test_a_batch_that_stays_open_gives_the_same_rows() -> None:
    inputs = detector(np.random.default_rng(0), 3)
    text = output()
    fixed = layer_net(text, [x.shape for x in inputs])
    opened = layer_net(text, [(1, *x.shape[1:]) for x in inputs])
    model_inputs = [*inputs[:2], inputs[2]]
    assert_close(exported(opened, model_inputs, dynamic_batch=True), exported(fixed, inputs))


def test_priors_that_an_open_batch_repeats_are_read_for_its_first_item() -> None:
    rng = np.random.default_rng(4)
    loc, scores, priors = detector(rng, 3)
    net = layer_net(output(), [loc[:1].shape, scores[:1].shape, priors.shape])
    session = Session(to_onnx(net, dynamic_batch=True), threads=1)
    inputs = [loc, scores, np.concatenate([priors, priors + 1, priors + 2])]
    rows = session.run({f"x{index}": array for index, array in enumerate(inputs)})
    assert_close([rows["y0"]], by_oracle(output(), net, inputs))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"nms_param": "{ nms_threshold: 0.6 eta: 0.5 }"}, "eta 0.5 changes the threshold"),
        ({"background_label_id": -1}, "background_label_id -1 is the label of the boxes that all classes share"),
    ],
)
def test_what_no_operator_or_no_caffe_computes_is_refused(fields: dict[str, object], reason: str) -> None:
    inputs = detector(np.random.default_rng(0), 1)
    net = layer_net(output(**fields), [x.shape for x in inputs])
    with pytest.raises(UnsupportedError, match=rf"layer 'l' \(DetectionOutput\): {reason}"):
        to_onnx(net)


@pytest.mark.parametrize(
    "text",
    [
        "min_size: 10 min_size: 20 max_size: 15 max_size: 40 aspect_ratio: 2 aspect_ratio: 0.3 clip: true step: 8",
        "min_size: 7 aspect_ratio: 3 flip: false variance: 0.3 offset: 0.25 img_size: 90",
        "min_size: 7 img_h: 50 img_w: 70 step_h: 9 step_w: 11 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4",
        "min_size: 20 min_size: 60 max_size: 30 max_size: 70 aspect_ratio: 2 tf: true clip: true",
        "min_size: 60.5 aspect_ratio: 2 aspect_ratio: 3 tf: true yx_order: true",
        "min_size: 20 min_size: 60 max_size: 30 max_size: 70 aspect_ratio: 2 keras: true tf: true",
        "box_width: 15.5 box_width: 60 box_height: 8 box_height: 60 yx_order: true tf: true",
    ],
)
def test_prior_boxes_only_depend_on_shapes(text: str) -> None:
    text = f'type: "PriorBox" prior_box_param {{ {text} }}'
    shapes: list[Shape] = [(2, 3, 4, 5), (2, 3, 60, 80)]
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    net = layer_net(text, shapes)
    assert_close(exported(net, inputs), by_oracle(text, net, inputs), 1e-7)
    assert_close(exported_double(net, inputs), by_oracle(text, net, inputs), 1e-7)


def test_the_square_of_60_lies_inside_as_in_tensorflow_with_y_in_front() -> None:
    sizes = "min_size: 60 max_size: 240 aspect_ratio: 4 flip: false"
    text = f'type: "PriorBox" prior_box_param {{ {sizes} tf: true yx_order: true }}'
    shapes: list[Shape] = [(1, 1, 1, 1), (1, 1, 50, 100)]
    (top,) = exported(layer_net(text, shapes), [np.zeros(shape, np.float32) for shape in shapes])
    square, ratio, larger = [-0.05, 0.25, 1.05, 0.75], [0.2, -0.1, 0.8, 1.1], [-0.7, -0.1, 1.7, 1.1]
    np.testing.assert_allclose(top[0, 0], [*square, *ratio, *larger], atol=1e-6)


@pytest.mark.parametrize("text", ["", "clip: true step: 9 offset: 0.25", "img_h: 50 img_w: 70 step_h: 9 step_w: 11"])
def test_clustered_priors_have_the_sizes_that_are_listed(text: str) -> None:
    listed = "width: 15.5 height: 33 width: 37 height: 20.25 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
    text = f'type: "PriorBoxClustered" prior_box_param {{ {listed} {text} }}'
    shapes: list[Shape] = [(2, 3, 4, 5), (2, 3, 60, 80)]
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    net = layer_net(text, shapes)
    assert_close(exported(net, inputs), by_oracle(text, net, inputs), 1e-7)


def yolo(threshold: float) -> str:
    return (
        'type: "YoloDetectionOutput" yolo_detection_output_param { num_classes: 3 num_box: 2 '
        f"biases: 1.5 biases: 2 biases: 3 biases: 1 confidence_threshold: {threshold} nms_threshold: 0.3 }}"
    )


@pytest.mark.parametrize("threshold", [0.1, 0.9999])
def test_yolo_v2_gives_its_rows_best_first(threshold: float) -> None:
    x = np.random.default_rng(5).normal(0, 1.5, (1, 16, 6, 6)).astype(np.float32)
    net = layer_net(yolo(threshold), [x.shape])
    assert_close(exported(net, [x], opset=11), by_oracle(yolo(threshold), net, [x]))
    assert_close(exported(net, [x]), by_oracle(yolo(threshold), net, [x]))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def yolo_v3_rows(bottoms: list[Array], threshold: float, overlap: float) -> list[list[float]]:
    """YOLO v3 by its loops: two boxes per cell, three classes, anchors 1..4 in pixels, planes of stride 8 and 16."""
    biases = [[10, 14], [23, 27], [37, 58], [81, 82]]
    masks = [[2, 3], [0, 1]]
    found: list[list[float]] = []
    for x, mask, stride in zip(bottoms, masks, (16, 8), strict=True):
        side = x.shape[3]
        cells = x.reshape(2, 8, side, side).astype(np.float64)
        for row, column, box in np.ndindex(side, side, 2):
            t = cells[box, :, row, column]
            centre = (np.array([column, row]) + sigmoid(t[:2])) / side
            half = np.exp(t[2:4]) * biases[mask[box]] / (side * stride) / 2
            for label, score in enumerate(sigmoid(t[5:]) * sigmoid(t[4])):
                if score > threshold:
                    found.append([0, label + 1, score, *(centre - half), *(centre + half)])
    found.sort(key=lambda row: -row[2])
    kept: list[list[float]] = []
    for row in found:
        if all(intersection_over_union(row[3:], other[3:]) < overlap for other in kept):
            kept.append(row)
    return kept


def intersection_over_union(one: list[float], other: list[float]) -> float:
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    inside = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (areas[0] + areas[1] - inside)


def test_yolo_v3_gives_its_rows_best_first() -> None:
    text = (
        'type: "Yolov3DetectionOutput" yolov3_detection_output_param { num_classes: 3 num_box: 2 mask_group_num: 2 '
        "biases: 10 biases: 14 biases: 23 biases: 27 biases: 37 biases: 58 biases: 81 biases: 82 "
        "mask: 2 mask: 3 mask: 0 mask: 1 anchors_scale: 16 anchors_scale: 8 "
        "confidence_threshold: 0.3 nms_threshold: 0.3 }"
    )
    rng = np.random.default_rng(2)
    bottoms = [rng.normal(0, 1.2, (1, 16, side, side)).astype(np.float32) for side in (3, 6)]
    net = layer_net(text, [x.shape for x in bottoms])
    expected = np.array(yolo_v3_rows(bottoms, 0.3, 0.3)).reshape(1, 1, -1, 7)
    assert expected.shape[2] > 5
    assert_close(exported(net, bottoms), [expected])


def behind_detections(text: str) -> tuple[Net, list[Array]]:
    """A net with a layer behind a DetectionOutput, and what its inputs read; how many rows there are, no file says."""
    inputs = detector(np.random.default_rng(3), 3)
    layers = f'{output()} }} layer {{ name: "b" bottom: "y0" top: "z" {text}'
    return layer_net(layers, [x.shape for x in inputs]), inputs


@pytest.mark.parametrize("axis", [3, -1])
@pytest.mark.parametrize("opset", [11, 17, 21])
def test_a_row_for_each_detection_is_multiplied_and_put_back(axis: int, opset: int) -> None:
    text = f'type: "InnerProduct" inner_product_param {{ num_output: 5 axis: {axis} }}'
    net, inputs = behind_detections(text)
    rows = by_oracle(output(), net, inputs)
    expected = by_oracle(text, net, rows)
    assert rows[0].shape[2] > 3
    assert_close(exported(net, inputs, opset=opset), expected)


@pytest.mark.parametrize(
    "text",
    [
        'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 1 }',
        'type: "Interp" interp_param { height: 7 width: 4 }',
        'type: "Upsample" upsample_param { mode: NEAREST height: 9 width: 11 }',
        'type: "DeephiResize" deephi_resize_param { scale_h: 2 scale_w: 3 }',
        'type: "ResizeNearestNeighbor" resize_nearest_neighbor_param { data_format: "NCHW" output_height: 7 '
        "output_width: 4 }",
        'type: "UnPooling" unpooling_param { unpool: DIV out_kernel_size: 2 out_stride: 2 }',
        'type: "Flip" flip_param { flip_width: false flip_height: true }',
        'type: "Reverse" reverse_param { axis: 2 }',
        'type: "Padding" padding_param { type: MIRROR pad_up: 1 pad_left: 2 }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 1 dim: 7 dim: -1 } } } '
        'layer { name: "c" bottom: "z" top: "w" type: "Permute" permute_param { order: 0 order: 3 order: 2 order: 1 } '
        '} layer { name: "d" bottom: "w" top: "v" type: "Flip" flip_param { flip_width: false flip_height: true }',
    ],
)
def test_what_follows_from_the_number_of_detections_is_not_written_as_if_that_were_known(text: str) -> None:
    """Each of these wrote numbers that follow from a size of -1: a row less, other pixels, no model at all."""
    net, _ = behind_detections(text)
    with pytest.raises(UnsupportedError, match="known"):
        to_onnx(net)
