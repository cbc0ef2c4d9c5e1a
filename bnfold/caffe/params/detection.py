"""Views of the detectors' layers: prior boxes, SSD's and YOLO's decoding, region proposals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from bnfold.caffe.params.axes import at_least
from bnfold.errors import ModelError
from bnfold.net import Layer

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import PriorBoxParameter

ALIKE = 1e-6
"""SSD takes two aspect ratios that differ by less for one."""


class PriorBox(NamedTuple):
    """What an SSD PriorBox says.

    Attributes:
        min_sizes: one box of each, in pixels of the image.
        max_sizes: with each a box of `sqrt(min*max)` follows; empty, or one for each min_size.
        aspect_ratios: 1 first, then those given, each with its inverse where `flip` is set, none twice; in float32.
        clip: boxes are cut to the image.
        variances: four, as written or repeated (0.1 unless given).
        image: (h, w) where written, None for that of the second bottom.
        step: (h, w) in pixels, None for image size / feature map size.
        offset: where in its cell a box is centred.
    """

    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]
    clip: bool
    variances: tuple[float, float, float, float]
    image: tuple[int, int] | None
    step: tuple[float, float] | None
    offset: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a PriorBox.

        Raises:
            ModelError: a size is missing or makes no box, or something is given twice or in part.
        """
        param = layer.param.prior_box_param
        minima, maxima = tuple(param.min_size), tuple(param.max_size)
        if not minima or not all(size > 0 for size in minima):
            raise ModelError(f"{layer}: min_size {minima} must name sizes above 0")
        if maxima and (len(maxima) != len(minima) or any(a >= b for a, b in zip(minima, maxima, strict=True))):
            raise ModelError(f"{layer}: max_size {maxima} must give one larger size for each min_size {minima}")
        return cls(
            min_sizes=minima,
            max_sizes=maxima,
            aspect_ratios=_aspect_ratios(layer, param),
            clip=param.clip,
            variances=_variances(layer, param),
            image=_image(layer, param),
            step=_step(layer, param),
            offset=param.offset,
        )

    @property
    def per_cell(self) -> int:
        """How many boxes each cell of the feature map has."""
        return len(self.aspect_ratios) * len(self.min_sizes) + len(self.max_sizes)


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


def _variances(layer: Layer, param: PriorBoxParameter) -> tuple[float, float, float, float]:
    given = tuple(param.variance) or (0.1,)
    if len(given) not in (1, 4) or not all(variance > 0 for variance in given):
        raise ModelError(f"{layer}: variance {given} must be one or four values above 0")
    first, second, third, fourth = given * (4 // len(given))
    return first, second, third, fourth


def _image(layer: Layer, param: PriorBoxParameter) -> tuple[int, int] | None:
    apart = param.HasField("img_h") or param.HasField("img_w")
    if apart and param.HasField("img_size"):
        raise ModelError(f"{layer}: img_size is given beside img_h and img_w; keep one")
    if not apart and not param.HasField("img_size"):
        return None
    image = (param.img_h, param.img_w) if apart else (param.img_size, param.img_size)
    at_least(layer, "img_h and img_w", image, 1)
    return image


def _step(layer: Layer, param: PriorBoxParameter) -> tuple[float, float] | None:
    apart = param.HasField("step_h") or param.HasField("step_w")
    if apart and param.HasField("step"):
        raise ModelError(f"{layer}: step is given beside step_h and step_w; keep one")
    if not apart and not param.HasField("step"):
        return None
    step = (param.step_h, param.step_w) if apart else (param.step, param.step)
    if not all(size > 0 for size in step):
        raise ModelError(f"{layer}: step {step} must be above 0")
    return step


class PriorBoxClustered(NamedTuple):
    """What OpenVINO's PriorBoxClustered says: boxes whose sizes are written one by one.

    Attributes:
        widths, heights: one box of each pair, in pixels of the image.
        clip, variances, image, step, offset: as in `PriorBox`.
    """

    widths: tuple[float, ...]
    heights: tuple[float, ...]
    clip: bool
    variances: tuple[float, float, float, float]
    image: tuple[int, int] | None
    step: tuple[float, float] | None
    offset: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a PriorBoxClustered.

        Raises:
            ModelError: widths and heights are not pairs, or something is given twice or in part.
        """
        param = layer.param.prior_box_param
        widths, heights = tuple(param.width), tuple(param.height)
        if not widths or len(widths) != len(heights) or not all(size > 0 for size in widths + heights):
            raise ModelError(f"{layer}: {len(widths)} widths and {len(heights)} heights must be pairs of sizes above 0")
        return cls(
            widths,
            heights,
            param.clip,
            _variances(layer, param),
            _image(layer, param),
            _step(layer, param),
            param.offset,
        )

    @property
    def per_cell(self) -> int:
        """How many boxes each cell of the feature map has."""
        return len(self.widths)


class DetectionOutput(NamedTuple):
    """What an SSD DetectionOutput says.

    Attributes:
        num_classes: with the background.
        share_location: one box for all classes.
        background: the class that is never given; -1 for none.
        nms_threshold, nms_top_k, nms_eta: suppression within a class; top_k -1 takes all, eta 1 keeps the threshold.
        code_type: "CORNER", "CENTER_SIZE" or "CORNER_SIZE".
        keep_top_k: best boxes of an image over all classes; -1 is all.
        variance_encoded_in_target: offsets are not multiplied by the variances.
        confidence_threshold: scores at or below it do not count; None lets all.
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

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a DetectionOutput.

        Raises:
            ModelError: `num_classes` is missing or 0, or a threshold makes no sense.
        """
        param = layer.param.detection_output_param
        nms = param.nms_param
        at_least(layer, "num_classes", (param.num_classes,), 1)
        if not (nms.nms_threshold >= 0 and 0 < nms.eta <= 1):
            raise ModelError(f"{layer}: nms_threshold {nms.nms_threshold} or eta {nms.eta} makes no sense")
        codes = {1: "CORNER", 2: "CENTER_SIZE", 3: "CORNER_SIZE"}
        return cls(
            num_classes=param.num_classes,
            share_location=param.share_location,
            background=param.background_label_id,
            nms_threshold=nms.nms_threshold,
            nms_top_k=nms.top_k if nms.HasField("top_k") else -1,
            nms_eta=nms.eta,
            code_type=codes.get(param.code_type, str(param.code_type)),
            keep_top_k=param.keep_top_k,
            variance_encoded_in_target=param.variance_encoded_in_target,
            confidence_threshold=param.confidence_threshold if param.HasField("confidence_threshold") else None,
        )


class Proposal(NamedTuple):
    """What a Proposal of the Faster R-CNN forks in C++ says.

    Attributes:
        feat_stride: pixels of the image per cell.
        base_size: side of the anchor that ratios and scales start from.
        min_size: smaller boxes are dropped, in pixels of the unscaled image.
        ratios, scales: an anchor for each pair; 0.5, 1, 2 and 8, 16, 32 unless given.
        pre_nms_topn, post_nms_topn: boxes before and after suppression.
        nms_threshold: overlap that suppresses.
    """

    feat_stride: int
    base_size: int
    min_size: int
    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    pre_nms_topn: int
    post_nms_topn: int
    nms_threshold: float

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Proposal.

        Raises:
            ModelError: the layer is written in Vitis' words, whose arithmetic is another; it keeps no box; a ratio
                makes no anchor.
        """
        param = layer.param.proposal_param
        if param.anchor or param.HasField("nms_iou_th"):
            raise ModelError(f"{layer}: it lists its anchors as Vitis does; how Vitis decodes them is not known here")
        at_least(
            layer,
            "feat_stride, base_size and post_nms_topn",
            (param.feat_stride, param.base_size, param.post_nms_topn),
            1,
        )
        ratios = tuple(param.ratio) or (0.5, 1.0, 2.0)
        if not all(0 < ratio < math.inf for ratio in ratios):
            raise ModelError(f"{layer}: ratio {ratios} must name numbers above 0")
        return cls(
            param.feat_stride,
            param.base_size,
            param.min_size,
            ratios,
            tuple(param.scale) or (8.0, 16.0, 32.0),
            param.pre_nms_topn,
            param.post_nms_topn,
            param.nms_thresh,
        )


class YoloDetectionOutput(NamedTuple):
    """What a YoloDetectionOutput (YOLO v2, one bottom) or Yolov3DetectionOutput (one bottom per scale) says.

    Attributes:
        num_classes: classes of each box.
        num_box: boxes per cell.
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
        at_least(layer, "num_classes and num_box", (param.num_classes, param.num_box), 1)
        _check_pairs(layer, param.biases)
        return cls(
            param.num_classes,
            param.num_box,
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
