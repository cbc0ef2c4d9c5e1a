"""YOLO's decoding of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least
from bnfold.caffe.layers.detection import BOX_ROW
from bnfold.caffe.layers.row import LayerType
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape


class YoloDetectionOutput(NamedTuple):
    """What a YoloDetectionOutput (YOLO v2, one bottom or two) or Yolov3DetectionOutput (one bottom per scale) says.

    Attributes:
        num_classes: classes of each box.
        num_box: boxes per cell; in v2 as many as there are anchors, unless said.
        coords: numbers per box in v2 (4).
        confidence_threshold, nms_threshold: as in `DetectionOutput`.
        biases: width and height of each anchor, in cells (v2) or pixels (v3).
        masks: v3: for each bottom the anchors that it uses; () in v2.
        anchors_scale: v3: pixels per cell for each bottom; () in v2.
        gaussian_box: v3: each coordinate comes with an uncertainty.
    """

    num_classes: int
    num_box: int
    coords: int
    confidence_threshold: float
    nms_threshold: float
    biases: tuple[float, ...]
    masks: tuple[tuple[int, ...], ...] = ()
    anchors_scale: tuple[int, ...] = ()
    gaussian_box: bool = False

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read either layer.

        Raises:
            ModelError: classes or boxes are 0, or the masks do not divide among the groups.
        """
        if layer.type == "Yolov3DetectionOutput":
            return cls._v3(layer)
        param = layer.param.yolo_detection_output_param
        _check_pairs(layer, param.biases)
        boxes = param.num_box if param.HasField("num_box") or not param.biases else len(param.biases) // 2
        at_least(layer, "num_classes and num_box", (param.num_classes, boxes), 1)
        return cls(
            param.num_classes,
            boxes,
            param.coords,
            param.confidence_threshold,
            param.nms_threshold,
            tuple(param.biases),
        )

    @classmethod
    def _v3(cls, layer: Layer) -> Self:
        param = layer.param.yolov3_detection_output_param
        at_least(
            layer,
            "num_classes, num_box and mask_group_num",
            (param.num_classes, param.num_box, param.mask_group_num),
            1,
        )
        masks, groups = tuple(param.mask), param.mask_group_num
        _check_pairs(layer, param.biases)
        if len(masks) % groups:
            raise ModelError(f"{layer}: {len(masks)} masks do not divide among {groups} groups")
        each = max(len(masks) // groups, 1)
        return cls(
            param.num_classes,
            param.num_box,
            4,
            param.confidence_threshold,
            param.nms_threshold,
            tuple(param.biases),
            tuple(masks[i : i + each] for i in range(0, len(masks), each)),
            tuple(param.anchors_scale),
            param.gaussian_box,
        )


def _check_pairs(layer: Layer, biases: Sequence[float]) -> None:
    if len(biases) % 2:
        raise ModelError(f"{layer}: biases are pairs of width and height, and there are {len(biases)}")


def yolo_detection_output(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """(1, 1, K, 7), where K depends on the data (MobileNet-YOLO's Caffe)."""
    YoloDetectionOutput.of(layer)
    return [(1, 1, UNKNOWN, BOX_ROW)]


ROWS: Mapping[str, LayerType] = {
    "YoloDetectionOutput": LayerType(
        yolo_detection_output,
        bottoms=(1, 2),
        reads={"yolo_detection_output_param": "num_classes num_box coords confidence_threshold nms_threshold biases"},
        dialects="MobileNet-YOLO, ncnn",
        note="two bottoms have the same anchors; a plane that is not square is refused: the fork reads the wrong cells",
    ),
    "Yolov3DetectionOutput": LayerType(
        yolo_detection_output,
        bottoms=(1, None),
        reads={
            "yolov3_detection_output_param": "num_classes num_box confidence_threshold nms_threshold biases "
            "anchors_scale mask_group_num mask gaussian_box"
        },
        dialects="MobileNet-YOLO, ncnn",
        note="the boxes of all images go into one list and say image 0, as in the fork",
    ),
}
