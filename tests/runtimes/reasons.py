"""Why runtimes refuse or differ, and what was written otherwise for one of them: sentences for docs/runtimes.md."""

from __future__ import annotations

REFUSALS: tuple[tuple[str, str], ...] = (
    (
        "OpenVINO",
        "in `opencv_res10_face_300` two pairs of detections have scores that are equal to a rounding, and OpenVINO "
        "rounds the other way; the rows are the same.",
    ),
    (
        "ncnn",
        "averages whose last window hangs over the padded image (CEIL, as in `seed_cifar_bn_only_after_pool`): its "
        "converter has no word for pads that differ between sides and do not count. Zeros and a factor for each "
        "window would do, but cost every other runtime a second rounding, so this is left as it is.",
    ),
    (
        "ncnn",
        "maxima whose pads differ between sides: its converter pads in front twice. That is now written only where "
        "equal pads would give other windows.",
    ),
    (
        "ncnn",
        "what it has no layers for: TopK and so every detector, comparisons, Cast and so Embed, Tile, tensors of more "
        "than four axes, the indices of MaxPool, nets that are one constant.",
    ),
    (
        "ncnn",
        "a ReduceSum over one axis is read as one over none (`ssd_normalize_channel`, `op_reduction_asum`), and what "
        "mixes images or differs between them (`bn_batch_stats_in_test`, `scale_axis0_full`) has no place where the "
        "batch lies outside. These convert without a word and compute something else.",
    ),
    (
        "ncnn",
        "a linear Resize on the asymmetric grid is taken for the half-pixel one (`snps_resize_bilinear_plain`). "
        "Two MatMuls would do, but cost the others. Its files round constants (`snps_hardsigmoid_alpha_beta_bn`).",
    ),
    (
        "ncnn",
        "its converter spoils its own memory where there is a BatchNormalization, and dies in every second try or so "
        "(`senet_axpy`), so it is asked up to twelve times. Folded models have none, and do not die of it.",
    ),
    (
        "OpenCV 5",
        "it has no MaxRoiPool, and its NonMaxSuppression takes no score threshold below zero.",
    ),
    ("tract and onnx reference", "they have no MaxRoiPool."),
    ("onnx reference", "it refuses `snps_flow_warp`, where NumPy is given more than 64 arrays at once."),
    (
        "TVM",
        "its importer knows no indices of MaxPool, and few operators behind NonMaxSuppression, of open size. It "
        "refuses detectors, and gives a row for every box of a proposal (`pvan_proposal`); its MaxRoiPool rounds "
        "corners between two pixels otherwise (`soe_roi_pooling_half_edges`).",
    ),
    (
        "onnx reference",
        "its ConvTranspose cuts the weights of groups by outputs and gives every group the first one's bias; its LRN "
        "counts images where it means channels.",
    ),
)
"""Runtime, and what it does not do."""

FORMS_CHANGED: tuple[str, ...] = (
    "A box with swapped corners has no area in Caffe, and is put where no other box is before the suppression: OpenCV "
    "5 takes two boxes without area for one (`ssd_det_corner`).",
    "An overlap threshold of zero is the smallest float: OpenVINO suppresses at the threshold, too, and with it boxes "
    "that do not touch (`ssd_det_nms_threshold_zero`).",
    "ArgMax turns what it searches around before it is flattened: tract cannot take a Slice backwards past a Reshape.",
    "Detections are chosen from dense rows that end with those of an empty answer: OpenCV 5 dies of GatherND by "
    "no indices, and tract takes for granted that there is a first row.",
    "They are ordered by Gather over flat rows: onnx's evaluator gets GatherElements on one row wrong.",
    "Eltwise MAX of many bottoms is a chain: ncnn's converter drops the third input of Max.",
    "MaxPool and AveragePool have equal pads on both sides wherever these give the same windows.",
    "Means over the batch are taken over the plane first: OpenCV 5 gets both at once wrong.",
    "Sums of magnitudes are Abs and ReduceSum: OpenVINO gets the axes of ReduceL1 wrong.",
)
"""What no runtime loses by, and one needs."""
