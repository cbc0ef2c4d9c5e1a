"""Layers that pool regions of interest, and the one that proposes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, fields_at_least_1
from bnfold.caffe.layers.python_code import proposal_words
from bnfold.caffe.layers.row import LayerType, count, four_axes
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes


class Proposal(NamedTuple):
    """What a Proposal of the Faster R-CNN forks in C++ says.

    Attributes:
        feat_stride: pixels of the image per cell, down and across.
        base_size: side of the anchor that ratios and scales start from.
        min_size: width and height below which boxes do not count, in pixels of the unscaled image.
        ratios, scales: an anchor for each pair; 0.5, 1, 2 and 8, 16, 32 unless given.
        pre_nms_topn, post_nms_topn: boxes before and after suppression.
        nms_threshold: overlap that suppresses.
        words: whose: "pvanet" gives boxes below the least size the score 0, the others drop them; "synopsys" has
            boxes go by anchor, row, column, and cuts the image's size to whole pixels; "python" is py-faster-rcnn's;
            "vitis" has sides of `x2 - x1`, drops boxes that are not larger than the least size, and those after it
            has taken `pre_nms_topn`, and gives one region where none is left.
        listed: Vitis' anchors, which it lists instead of their ratios and scales.
    """

    feat_stride: tuple[int, int]
    base_size: int
    min_size: tuple[float, float]
    ratios: tuple[float, ...]
    scales: tuple[float, ...]
    pre_nms_topn: int
    post_nms_topn: int
    nms_threshold: float
    words: Literal["pvanet", "synopsys", "python", "vitis"] = "pvanet"
    listed: tuple[tuple[float, float, float, float], ...] = ()

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a Proposal, in PVANet's words, in Synopsys' or in Vitis'.

        Raises:
            ModelError: the layer is written in two forks' words at once; it keeps no box; a ratio makes no anchor.
        """
        if (said := proposal_words(layer)) is not None:
            # py-faster-rcnn's (lib/rpn/proposal_layer.py), with the TEST defaults of its config.
            return cls((said[0], said[0]), 16, (16, 16), (0.5, 1.0, 2.0), said[1], 6000, 300, 0.7, "python")
        param = layer.param.proposal_param
        named = {field.name for field, _ in param.ListFields()}
        for words, whose, read in (
            (VITIS_PROPOSAL, "Vitis'", cls._vitis),
            (SYNOPSYS_PROPOSAL, "Synopsys'", cls._synopsys),
        ):
            if not named.isdisjoint(words.split()):
                # Two names are PVANet's and Synopsys'.
                shared = {"feat_stride", "pre_nms_topn"} if words == SYNOPSYS_PROPOSAL else set()
                if others := sorted(named - set(words.split()) - shared):
                    raise ModelError(f"{layer}: beside {others[0]} stands a field of {whose}; keep one fork's")
                return read(layer)
        fields_at_least_1(layer, param, "feat_stride", "base_size", "post_nms_topn")
        ratios = tuple(param.ratio) or (0.5, 1.0, 2.0)
        if not all(0 < ratio < math.inf for ratio in ratios):
            raise ModelError(f"{layer}: ratio {ratios} must name numbers above 0")
        return cls(
            (param.feat_stride, param.feat_stride),
            param.base_size,
            (param.min_size, param.min_size),
            ratios,
            tuple(param.scale) or (8.0, 16.0, 32.0),
            param.pre_nms_topn,
            param.post_nms_topn,
            param.nms_thresh,
        )

    @classmethod
    def _synopsys(cls, layer: Layer) -> Self:
        param = layer.param.proposal_param
        fields_at_least_1(layer, param, "feat_stride", "anchor_base_size", "max_rois")
        return cls(
            (param.feat_stride, param.feat_stride),
            param.anchor_base_size,
            (param.rpn_min_size, param.rpn_min_size),
            (0.5, 1.0, 2.0) if param.anchor_ratio == 3 else (1.0,),
            (8.0, 16.0, 32.0) if param.anchor_scale == 3 else (32.0,),
            param.pre_nms_topn,
            param.max_rois,
            param.rpn_nms_thresh,
            words="synopsys",
        )

    @classmethod
    def _vitis(cls, layer: Layer) -> Self:
        """Its own proposal_layer.cpp."""
        param = layer.param.proposal_param
        fields_at_least_1(layer, param, "stride_h", "stride_w", "nms_input_num", "nms_output_num")
        if not param.anchor or not 0 <= param.nms_iou_th <= 1:
            raise ModelError(f"{layer}: it must list anchors, and have an nms_iou_th from 0 to 1")
        return cls(
            (param.stride_h, param.stride_w),
            0,
            (param.min_width, param.min_height),
            (),
            (),
            param.nms_input_num,
            param.nms_output_num,
            param.nms_iou_th,
            "vitis",
            tuple((anchor.left, anchor.top, anchor.right, anchor.bottom) for anchor in param.anchor),
        )


class ROIPooling(NamedTuple):
    """What a ROIPooling or ROIAlign says.

    Attributes:
        pooled: (h, w) of each region's top.
        spatial_scale: pixels of the feature map per pixel of the image.
        pad_ratio: MS-CNN's: by how many of its widths and heights a region grows on each side before it is pooled.
    """

    pooled: tuple[int, int]
    spatial_scale: float
    pad_ratio: float = 0.0

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read a ROIPooling or ROIAlign.

        Raises:
            ModelError: a size of the top is missing or 0.
        """
        if layer.type == "ROIAlign":
            align = layer.param.roi_align_param
            height, width, scale, ratio = align.pooled_h, align.pooled_w, align.spatial_scale, 0.0
        else:
            param = layer.param.roi_pooling_param
            scale, ratio = param.spatial_scale, param.pad_ratio
            listed = tuple(param.pooled_size) or (param.pooled_h, param.pooled_w)
            if len(listed) > 2:
                raise ModelError(f"{layer}: pooled_size has {counted(len(listed), 'value')} for 2 spatial axes")
            height, width = listed[0], listed[-1]
        at_least_1(layer, "pooled_h and pooled_w", (height, width))
        return cls((height, width), scale, ratio)


def proposal(layer: Layer, _: Sequence[Shape]) -> list[Shape]:
    """(K, 5) regions, and if asked K scores, (K, 1) but in PVANet's Caffe (proposal_layer.py of py-faster-rcnn)."""
    words = Proposal.of(layer).words
    regions: list[Shape] = [(UNKNOWN, 5), (UNKNOWN,) if words == "pvanet" else (UNKNOWN, 1)]
    return regions[: 1 if words == "vitis" else max(len(layer.tops), 1)]


def psroi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(R, output_dim, group_size, group_size) (R-FCN, psroi_pooling_layer.cu)."""
    param, channels = layer.param.psroi_pooling_param, four_axes(layer, bottoms[0])[1]
    fields_at_least_1(layer, param, "output_dim")
    fields_at_least_1(layer, param, "group_size")
    needed = param.output_dim * param.group_size**2
    if channels not in (UNKNOWN, needed):
        raise ModelError(
            f"{layer}: output_dim {param.output_dim} and group_size {param.group_size} need {needed} channels, "
            f"not {channels}"
        )
    return [(_regions(layer, bottoms[1]), param.output_dim, param.group_size, param.group_size)]


def roi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(R, C, pooled_h, pooled_w) (Fast R-CNN, roi_pooling_layer.cpp)."""
    return [(_regions(layer, bottoms[1]), four_axes(layer, bottoms[0])[1], *ROIPooling.of(layer).pooled)]


def _regions(layer: Layer, regions: Shape) -> int:
    if count(regions[1:]) not in (5, UNKNOWN):
        raise ModelError(f"{layer}: its regions have shape {sizes(regions)}, but must be (R, 5)")
    return regions[0] if regions else 1


REGIONS = {1: ((1, 5), "regions: image, x1, y1, x2, y2")}
VITIS_PROPOSAL = "anchor nms_iou_th stride_h stride_w nms_input_num nms_output_num min_width min_height"
SYNOPSYS_PROPOSAL = "anchor_base_size anchor_scale anchor_ratio max_rois rpn_min_size rpn_nms_thresh"

ROWS: Mapping[str, LayerType] = {
    "PSROIPooling": LayerType(
        psroi_pooling,
        bottoms=(2, 2),
        reads={"psroi_pooling_param": "spatial_scale output_dim group_size"},
        fixed=REGIONS,
        dialects="Intel, ncnn, minicaffe, soeaver's",
    ),
    "Proposal": LayerType(
        proposal,
        bottoms=(2, 3),
        reads={
            "proposal_param": "feat_stride base_size min_size ratio scale pre_nms_topn post_nms_topn nms_thresh "
            f"{VITIS_PROPOSAL} {SYNOPSYS_PROPOSAL}"
        },
        fixed={2: ((1, 3), "the image's height, width and scale")},
        dialects="Vitis, minicaffe, PVANet, Synopsys",
        note="in PVANet's words, Synopsys' or Vitis', or as py-faster-rcnn's Python layer "
        "`rpn.proposal_layer.ProposalLayer` at the defaults of its config; one image",
    ),
    "ROIAlign": LayerType(
        roi_pooling,
        bottoms=(2, 2),
        reads={"roi_align_param": "pooled_h pooled_w spatial_scale"},
        fixed=REGIONS,
        dialects="ncnn, Synopsys",
        assumed="CaffeROIAlign's and Synopsys', the largest of four sums of pixels; other Caffes' is Mask R-CNN's mean "
        "of points by the same words",
        note="as CaffeROIAlign and Synopsys' Caffe compute it, which is not Mask R-CNN's",
    ),
    "ROIPooling": LayerType(
        roi_pooling,
        bottoms=(2, 2),
        reads={"roi_pooling_param": "pooled_h pooled_w pooled_size spatial_scale pad_ratio"},
        fixed=REGIONS,
        dialects="Intel, Vitis, ncnn, Tengine, X2Paddle, minicaffe, soeaver's, Synopsys, PVANet",
        note="MS-CNN's `pad_ratio` too",
    ),
}
