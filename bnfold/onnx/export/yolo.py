"""YOLO's decoding in standard operators, as the MobileNet-YOLO fork does it.

    x = (column + sigmoid(tx)) / W        w = e^tw * anchor_w / W        (v3: anchors in pixels of the network's input)
    v2: score = sigmoid(to) * max softmax(classes), kept from the threshold on
    v3: score = sigmoid(to) * sigmoid(class), kept above the threshold

Suppression runs over all classes, bottoms and images together and drops an overlap from its threshold on; rows are
(0, class + 1, score, box), best first. In v3 a box counts once for every class that passes; all its copies overlap
wholly, so only its best class can be left, and only that one is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnfold.caffe.layers import YoloDetectionOutput
from bnfold.caffe.layers.detection import BOX_ROW
from bnfold.net import Array
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.detection import or_nothing, suppressed
from bnfold.onnx.export.forms import cut, reduce, reshape, softmax, transpose

BOX = 5
"""Four coordinates and the score of an object stand in front of the classes."""


def yolo_v2(block: Block) -> str:
    """One or two bottoms, the same anchors in cells for both, one Softmax over a box's classes: NonMaxSuppression."""
    view = YoloDetectionOutput.of(block.layer)
    if view.coords != 4:
        raise Refused(f"coords {view.coords}: only boxes of 4 numbers are known")
    anchors = []
    for index in range(len(block.bottoms)):
        _, _, height, width = block.images(index)
        if height != width:
            raise Refused(f"on a plane of {height}x{width}, which is not square, the fork's decoding reads other cells")
        anchors.append(np.array(view.biases[: 2 * view.num_box]).reshape(-1, 2) / width)
    threshold = float(np.nextafter(np.float32(view.confidence_threshold), -np.inf))
    return _detections(block, view, anchors, threshold, exclusive=True)


def yolo_v3(block: Block) -> str:
    """One bottom per scale, each with its own anchors in pixels, a Sigmoid for every class: NonMaxSuppression."""
    view = YoloDetectionOutput.of(block.layer)
    if view.gaussian_box:
        raise Refused("gaussian_box: how its uncertainties count is not known")
    bottoms = len(block.bottoms)
    if len(view.masks) != bottoms or len(view.anchors_scale) != bottoms:
        raise Refused(f"{len(view.masks)} groups of masks and {len(view.anchors_scale)} scales for {bottoms} bottoms")
    biases = np.array(view.biases).reshape(-1, 2)
    if any(number >= len(biases) for mask in view.masks for number in mask):
        raise Refused(f"its masks {view.masks} name more anchors than the {len(biases)} there are")
    anchors = []
    for index in range(bottoms):
        _, _, height, width = block.images(index)
        pixels = np.array([width, height]) * view.anchors_scale[index]
        anchors.append(biases[list(view.masks[index][: view.num_box])] / pixels)
    return _detections(block, view, anchors, view.confidence_threshold, exclusive=False)


def _detections(
    block: Block, view: YoloDetectionOutput, anchors: Sequence[Array], threshold: float, *, exclusive: bool
) -> str:
    """The rows of all bottoms, `anchors` being those of each as parts of its plane."""
    parts, count = [], 0
    for index, own in enumerate(anchors):
        scale = _Scale(block, index, view, own)
        parts.append(scale.decoded(exclusive=exclusive))
        count += scale.count
    return _rows(block, parts, count, threshold, view.nms_threshold)


class _Scale:
    """One bottom: (1, boxes * (5 + classes), H, W), decoded to boxes (1, P, 4), scores and labels (1, 1, P)."""

    def __init__(self, block: Block, index: int, view: YoloDetectionOutput, anchors: Array) -> None:
        images, channels, height, width = block.images(index)
        block.fixes_batch("its rows do not say which image they belong to")
        self.block, self.name = block, f"scale{index}"
        self.images, self.plane, self.anchors = images, (height, width), anchors
        self.count = images * view.num_box * height * width
        self.numbers = BOX + view.num_classes
        if len(anchors) != view.num_box or channels != view.num_box * self.numbers:
            raise Refused(
                f"its {channels} channels are not {view.num_box} boxes of {self.numbers} numbers, each with an anchor"
            )
        block.affords(4 * self.count)
        # Boxes in the order image, row, column, anchor: the order that breaks ties.
        shape = (images, view.num_box, self.numbers, height, width)
        cells = reshape(block, block.bottoms[index], shape, f"{self.name}/cells")
        cells = transpose(block, cells, (0, 3, 4, 1, 2), f"{self.name}/boxes_last")
        self.cells = reshape(block, cells, (1, self.count, self.numbers), f"{self.name}/boxes")

    def decoded(self, *, exclusive: bool) -> tuple[str, str, str]:
        """Boxes, scores and labels; classes exclude each other (softmax) or not."""
        block = self.block
        score = block("Sigmoid", self._part("object", 4, 5), step=f"{self.name}/object_score")
        classes = self._part("classes", BOX, self.numbers)
        likely = softmax(block, classes, 2, 3) if exclusive else block("Sigmoid", classes, step=f"{self.name}/likely")
        best = reduce(block, "ReduceMax", likely, [2], step=f"{self.name}/best")
        label = block("ArgMax", likely, axis=2, keepdims=1, step=f"{self.name}/label")
        row = (1, 1, self.count)
        return (
            self._boxes(),
            reshape(block, block("Mul", score, best, step=f"{self.name}/scored"), row, f"{self.name}/scores"),
            reshape(block, label, row, f"{self.name}/labels"),
        )

    def _part(self, name: str, start: int, end: int) -> str:
        return cut(self.block, self.cells, [2], [start], [end], step=f"{self.name}/{name}")

    def _boxes(self) -> str:
        block, name = self.block, self.name
        height, width = self.plane
        cells = np.tile(np.repeat(np.arange(height * width), len(self.anchors)), self.images)
        row, column = np.divmod(cells, width)
        corner = block.floats(np.stack([column, row], axis=-1)[None], f"{name}/cell")
        inside = block("Sigmoid", self._part("shift", 0, 2), step=f"{name}/inside")
        centre = block("Add", inside, corner, step=f"{name}/centre_cells")
        cell = block.floats([1 / width, 1 / height], f"{name}/cell_size")
        centre = block("Mul", centre, cell, step=f"{name}/centre")
        anchors = np.tile(self.anchors, (self.images * height * width, 1))[None] / 2
        half_anchors = block.floats(anchors, f"{name}/half_anchors")
        half = block(
            "Mul", block("Exp", self._part("growth", 2, 4), step=f"{name}/grown"), half_anchors, step=f"{name}/half"
        )
        corners = [block("Sub", centre, half, step=f"{name}/low"), block("Add", centre, half, step=f"{name}/high")]
        return block("Concat", *corners, axis=2, step=f"{name}/corners")


def _rows(block: Block, parts: Sequence[tuple[str, str, str]], count: int, threshold: float, overlap: float) -> str:
    """The survivors of all `count` boxes, best first."""
    boxes, scores, labels = (
        block("Concat", *tensors, axis=axis, step=f"all_{name}") if len(parts) > 1 else tensors[0]
        for tensors, axis, name in zip(zip(*parts, strict=True), (1, 2, 2), ("boxes", "scores", "labels"), strict=True)
    )
    # Caffe drops an overlap of exactly the threshold too, the operator only what is above it.
    limit = max(float(np.nextafter(np.float32(min(overlap, 1.0)), np.float32(-1))), 0.0)
    cells = reshape(block, boxes, (1, 1, count, 4), "all_cells")
    survivors = suppressed(block, cells, scores, count, 1, threshold, limit)
    ranked, places = block.several(
        "TopK", survivors, block.integers([count], "every"), outputs=2, axis=1, step="best_first"
    )
    where = reshape(block, places, (-1,), "places_flat")
    score, label = (
        block("Gather", reshape(block, tensor, (-1, 1), f"{name}_column"), where, axis=0, step=f"chosen_{name}")
        for tensor, name in ((scores, "scores"), (labels, "labels"))
    )
    box = block("Gather", reshape(block, boxes, (-1, 4), "boxes_flat"), where, axis=0, step="chosen_boxes")
    number = block("Add", label, block.integers(1, "first_label"), step="label_number")
    number = block.as_float(number, "label_float")
    image = block("Mul", score, block.floats(0.0, "image_zero"), step="image")
    rows = block("Concat", image, number, score, box, axis=1, step="rows")
    return reshape(block, or_nothing(block, rows, ranked), (1, 1, -1, BOX_ROW), "blob")


FUNCTIONS: Mapping[str, LayerFunction] = {
    "YoloDetectionOutput": yolo_v2,
    "Yolov3DetectionOutput": yolo_v3,
}
