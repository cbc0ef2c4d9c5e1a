"""Prior boxes, and the decoding of detections, whose number is unknown: SSD's layers, OpenVINO's and YOLO's."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from bnfold.caffe.caffe_pb2 import PriorBoxParameter
from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, fields_at_least_1, written
from bnfold.caffe.layers.row import DETECTORS, LayerType, count, four_axes
from bnfold.errors import ModelError
from bnfold.net import Layer, Shape

BOX_ROW = 7
"""Image, label, score, xmin, ymin, xmax, ymax: SSD's DetectionOutput."""

LOWEST_FOR_ETA = 0.5
"""Up to this threshold eta does nothing (`ApplyNMSFast` in bbox_util.cpp)."""

INSET_SIZE, INSET = 60, 0.05
"""Synopsys' `tf`: the square of this min_size begins and ends so far inside, as a fraction of the image."""

ALIKE = 1e-6
"""SSD takes two aspect ratios that differ by less for one."""


class PriorGrid(NamedTuple):
    """Where a `PriorBox` lays its boxes, and how they are written.

    Attributes:
        clip: boxes are cut to the image.
        variances: four, as written or repeated (0.1 unless given).
        image: (h, w) where written, None for that of the second bottom.
        step: (h, w) in pixels, None for image size / feature map size.
        offset: (h, w): where in its cell a box is centred.
    """

    clip: bool
    variances: tuple[float, ...]
    image: tuple[int, int] | None
    step: tuple[float, float] | None
    offset: tuple[float, float]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read what an SSD PriorBox and OpenVINO's PriorBoxClustered have in common.

        Raises:
            ModelError: a size or variance makes no sense, or something is given twice or in part.
        """
        param = layer.param.prior_box_param
        variances = tuple(param.variance) or (0.1,)
        if len(variances) not in (1, 4) or not all(variance > 0 for variance in variances):
            raise ModelError(f"{layer}: variance {variances} must be one or four values above 0")
        image, step = _pair(layer, param, "img_size"), _pair(layer, param, "step")
        at_least_1(layer, "img_h and img_w", image or ())
        if step is not None and not all(size > 0 for size in step):
            raise ModelError(f"{layer}: step {step} must be above 0")
        offset = _pair(layer, param, "offset") or (param.offset, param.offset)
        return cls(param.clip, variances * (4 // len(variances)), image, step, offset)


class PriorBox(NamedTuple):
    """What an SSD PriorBox, or OpenVINO's PriorBoxClustered, says.

    Attributes:
        grid: where its boxes lie.
        min_sizes: one box of each, in whole pixels of the image: every Caffe that has the layer cuts off fractions.
        max_sizes: a box of `sqrt(min*max)` for each, also in whole pixels; empty, or one for each min_size.
        aspect_ratios: 1 first, then those given, each with its inverse where `flip` is set, none twice; in float32.
        faceboxes: Synopsys': sizes 32 and 64 make 16 and 4 boxes in each cell.
        order: of a size's boxes: "caffe" has that of max_size behind the first, "tf" behind all, "keras" in front.
        yx: y stands in front of x.
        listed: Synopsys' `box_width` and `box_height`, or the `width` and `height` of a PriorBoxClustered, in pixels of
            the image: these boxes and no others; () for none.
    """

    grid: PriorGrid
    min_sizes: tuple[int, ...]
    max_sizes: tuple[int, ...]
    aspect_ratios: tuple[float, ...]
    faceboxes: bool = False
    order: Literal["caffe", "tf", "keras"] = "caffe"
    yx: bool = False
    listed: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read either layer.

        Raises:
            ModelError: a size is missing or makes no box, or something is given twice or in part.
        """
        param = layer.param.prior_box_param
        if layer.type == "PriorBoxClustered":
            boxes = _listed_boxes(layer, param)
            return cls(PriorGrid.of(layer), (), (), (), listed=boxes)
        minima, maxima = tuple(param.min_size), tuple(param.max_size)
        if len(param.box_width) != len(param.box_height):
            raise ModelError(f"{layer}: box_width and box_height must be pairs")
        listed = tuple(zip(param.box_width, param.box_height, strict=True))
        if not (minima or listed) or not all(size > 0 for size in minima):
            raise ModelError(f"{layer}: min_size {minima} must name sizes above 0")
        if maxima and (len(maxima) != len(minima) or any(a >= b for a, b in zip(minima, maxima, strict=True))):
            raise ModelError(f"{layer}: max_size {maxima} must give one larger size for each min_size {minima}")
        if param.faceboxes and maxima:
            raise ModelError(f"{layer}: faceboxes has no max_size")
        if param.faceboxes and (param.tf or param.keras or param.yx_order or listed):
            raise ModelError(f"{layer}: faceboxes has its own boxes, and no order or list of others")
        ratios = _aspect_ratios(layer, param)
        return cls(
            PriorGrid.of(layer),
            tuple(map(int, minima)),
            tuple(map(int, maxima)),
            ratios,
            param.faceboxes,
            "keras" if param.keras else "tf" if param.tf else "caffe",
            param.yx_order,
            listed,
        )

    @property
    def per_cell(self) -> int:
        """How many boxes each cell of the feature map has."""
        if self.faceboxes:
            return sum(len(face_moves(size)) for size in self.min_sizes)
        if self.listed:
            return len(self.listed)
        return len(self.aspect_ratios) * len(self.min_sizes) + len(self.max_sizes)


def face_moves(size: int) -> list[tuple[int, int]]:
    """Where the boxes of a size lie around the cell's centre, (x, y) in pixels: FaceBoxes' densified anchors."""
    step, numbers = {32: (8, range(-2, 2)), 64: (16, range(-1, 1))}.get(size, (0, range(1)))
    return [(x * step, y * step) for y in numbers for x in numbers]


def _listed_boxes(layer: Layer, param: PriorBoxParameter) -> tuple[tuple[float, float], ...]:
    """Width and height of each box of a PriorBoxClustered."""
    widths, heights = param.width, param.height
    if not widths or len(widths) != len(heights) or not all(size > 0 for size in (*widths, *heights)):
        raise ModelError(f"{layer}: {len(widths)} widths and {len(heights)} heights must be pairs of sizes above 0")
    return tuple(zip(widths, heights, strict=True))


def _aspect_ratios(layer: Layer, param: PriorBoxParameter) -> tuple[float, ...]:
    ratios = [1.0]
    for ratio in param.aspect_ratio:
        if not ratio > 0:
            raise ModelError(f"{layer}: aspect_ratio {ratio} must be above 0")
        if not any(abs(ratio - other) < ALIKE for other in ratios):
            ratios += [ratio, _inverse(ratio)] if param.flip else [ratio]
    return tuple(ratios)


def _inverse(ratio: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(1.0 / ratio))


def _pair(layer: Layer, param: PriorBoxParameter, name: str) -> tuple[Any, Any] | None:
    """(h, w), written as one number or apart; None where it is not written."""
    height, width = (f"{name.removesuffix('_size')}_{side}" for side in "hw")
    single = written(param, name)
    if not (param.HasField(height) or param.HasField(width)):
        return None if single is None else (single, single)
    if single is not None:
        raise ModelError(f"{layer}: {name} is given beside {height} and {width}; keep one")
    return getattr(param, height), getattr(param, width)


REFINED = 5
"""How many bottoms RefineDet's DetectionOutput has: SSD's, and confidences and locations of its first step."""


class DetectionOutput(NamedTuple):
    """What an SSD DetectionOutput says; RefineDet's, which has two more bottoms; or Synopsys', which has them in parts.

    Attributes:
        num_classes: with the background.
        share_location: one box for all classes.
        background: the class that is never given; -1 for none.
        nms_threshold, nms_top_k, nms_eta: suppression within a class; top_k -1 takes all, eta 1 keeps the threshold.
        code_type: "CORNER", "CENTER_SIZE" or "CORNER_SIZE".
        keep_top_k: best boxes of an image over all classes; -1 is all.
        variance_encoded_in_target: offsets are not multiplied by the variances.
        confidence_threshold: scores at or below it do not count; None lets all.
        objectness: RefineDet: priors whose first step scores below it are background; None in SSD's.
        parts: Synopsys': so many bottoms of confidences, then as many of locations, then one of all priors or as many;
            0 where locations, confidences and priors are a bottom each.
        layout: of the parts: "" box by box; "ratio_permute" class by class and coordinate by coordinate; "no_permute"
            as a convolution leaves locations, and confidences class by class. In the latter two the boxes of a cell lie
            planes apart, but not their priors.
        ratios: "ratio_permute": how many boxes each cell of a part has.
    """

    num_classes: int
    share_location: bool
    background: int
    nms_threshold: float
    nms_top_k: int
    nms_eta: float
    code_type: str
    keep_top_k: int
    variance_encoded_in_target: bool
    confidence_threshold: float | None
    objectness: float | None
    parts: int
    layout: str
    ratios: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a DetectionOutput.

        Raises:
            ModelError: `num_classes` is missing or 0, a threshold makes no sense, or two layouts are given.
        """
        param = layer.param.detection_output_param
        nms = param.nms_param
        fields_at_least_1(layer, param, "num_classes")
        if not (nms.nms_threshold >= 0 and 0 < nms.eta <= 1):
            raise ModelError(f"{layer}: nms_threshold {nms.nms_threshold} or eta {nms.eta} makes no sense")
        layouts = [name for name in ("ratio_permute", "no_permute") if getattr(param, name)]
        if len(layouts) > 1:
            raise ModelError(f"{layer}: {' and '.join(layouts)} are two layouts; keep one")
        parts = param.nbottom if len(layer.bottoms) in (2 * param.nbottom + 1, 3 * param.nbottom) else 0
        # Caffe multiplies the threshold by eta after each box that it keeps, but only while it is above 0.5.
        eta = nms.eta if nms.nms_threshold > LOWEST_FOR_ETA else 1.0
        codes = {1: "CORNER", 2: "CENTER_SIZE", 3: "CORNER_SIZE"}
        return cls(
            num_classes=param.num_classes,
            share_location=param.share_location,
            background=param.background_label_id,
            nms_threshold=nms.nms_threshold,
            nms_top_k=nms.top_k if nms.HasField("top_k") else -1,
            nms_eta=eta,
            code_type=codes.get(param.code_type, str(param.code_type)),
            keep_top_k=param.keep_top_k,
            variance_encoded_in_target=param.variance_encoded_in_target,
            confidence_threshold=written(param, "confidence_threshold"),
            objectness=param.objectness_score if len(layer.bottoms) == REFINED < param.nbottom else None,
            parts=parts,
            layout="".join(layouts),
            ratios=tuple(getattr(param, ratio) for ratio in RATIOS.split()),
        )


def detection_output(_: Layer, __: Sequence[Shape]) -> list[Shape]:
    """(1, 1, K, 7), where K depends on the data (SSD, detection_output_layer.cpp).

    Whether locations, confidences and priors fit is not asked here: forks lay their priors by rules of their own.
    """
    return [(1, 1, UNKNOWN, BOX_ROW)]


def priors(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 2, H*W*boxes*4): corners, then variances (SSD, prior_box_layer.cpp, Reshape; OpenVINO's training Caffe)."""
    return [(1, 2, count((*four_axes(layer, bottoms[0])[2:], PriorBox.of(layer).per_cell, 4)))]


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
            ModelError: classes or boxes are 0, the anchors are no pairs, or the masks do not divide among the groups.
        """
        param, third = ROWS[layer.type].parameters(layer), layer.type == "Yolov3DetectionOutput"
        biases = tuple(param.biases)
        boxes = param.num_box if third or param.HasField("num_box") or not biases else len(biases) // 2
        if third:
            fields_at_least_1(layer, param, "num_classes", "num_box", "mask_group_num")
        if len(biases) % 2:
            raise ModelError(f"{layer}: biases are pairs of width and height, and there are {len(biases)}")
        said = param.num_classes, boxes, 4 if third else param.coords, param.confidence_threshold, param.nms_threshold
        if not third:
            at_least_1(layer, "num_classes and num_box", (param.num_classes, boxes))
            return cls(*said, biases)
        masks, groups = tuple(param.mask), param.mask_group_num
        if len(masks) % groups:
            raise ModelError(f"{layer}: {len(masks)} masks do not divide among {groups} groups")
        each = max(len(masks) // groups, 1)
        grouped = tuple(masks[i : i + each] for i in range(0, len(masks), each))
        return cls(*said, biases, grouped, tuple(param.anchors_scale), param.gaussian_box)


def yolo_detection_output(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """(1, 1, K, 7), where K depends on the data (MobileNet-YOLO's Caffe)."""
    YoloDetectionOutput.of(layer)
    return [(1, 1, UNKNOWN, BOX_ROW)]


PRIORS = "clip variance img_size img_h img_w step step_h step_w offset offset_h offset_w"

READ = (
    "num_classes share_location background_label_id nms_param code_type keep_top_k variance_encoded_in_target "
    "confidence_threshold objectness_score"
)

RATIOS = "ratio0 ratio1 ratio2 ratio3 ratio4 ratio5"

DETECTION = LayerType(detection_output, bottoms=(3, None), rank=1, reads={"detection_output_param": READ})

ROWS: Mapping[str, LayerType] = {
    "DetectionOutput": DETECTION._replace(
        reads={"detection_output_param": f"{READ} nbottom ratio_permute no_permute {RATIOS}"},
        dialects=f"{DETECTORS}, Synopsys",
        note="RefineDet's too, with five bottoms, and Synopsys', with several planes apart, for one image; its rows, "
        "their order and its empty answer are Caffe's; all images have the priors of the first; `eta` is refused where "
        "it does something, with a threshold above 0.5",
    ),
    "DetectionOutputRefine": DETECTION._replace(dialects="Vitis", note="what RefineDet calls DetectionOutput"),
    "PriorBox": LayerType(
        priors,
        bottoms=(2, 2),
        note="fractions of `min_size` and `max_size` are cut off, as every Caffe does; Synopsys' `faceboxes`, orders "
        "(`tf`, `keras`, `yx_order`) and listed boxes too",
        reads={
            "prior_box_param": "min_size max_size aspect_ratio flip faceboxes tf keras yx_order box_width box_height "
            f"{PRIORS}"
        },
        shape_only=(0, 1),
        dialects=DETECTORS,
    ),
    "PriorBoxClustered": LayerType(
        priors,
        bottoms=(2, 2),
        reads={"prior_box_param": f"width height flip {PRIORS}"},
        shape_only=(0, 1),
        dialects="OpenVINO's training Caffe",
    ),
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
