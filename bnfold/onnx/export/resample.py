"""Layers that change the resolution: Interp, Resample, the Resizes, UnPooling, Unpooling, the Upsamples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bnfold.caffe.layers import Interp, Resample, Resizing, UnPooling, Unpooling, Upsampling
from bnfold.caffe.layers.resample import PYRAMID, pyramid_matrix
from bnfold.net import Array
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import channels_first, channels_last, cut, reshape, sizes_behind_batch

SIZE_ALONE = "forks disagree about where the pixels of the smaller plane lie in the larger one"


def interp(block: Block) -> str:
    """Bilinear with aligned corners, `source = o*(H-1)/(H'-1)`, after cropping by the pads: Slice, Resize."""
    view = Interp.of(block.layer)
    height, width = block.shape[2:]
    x = block.bottom
    if view.pad_beg or view.pad_end:
        ends = [height + view.pad_end, width + view.pad_end]
        x = cut(block, x, [2, 3], [-view.pad_beg] * 2, ends, step="crop")
    return resized(block, x, block.tops[0][1:], **ALIGNED)


def pyramid(block: Block) -> str:
    """`x` and four averages of it, each brought to its plane again, as `rows @ x @ columns`: MatMul, Add."""
    image, _ = _planes(block)
    total = block.bottom
    for windows in PYRAMID:
        rows, columns = (pyramid_matrix(size, *window) for size, window in zip(image, windows, strict=True))
        total = block("Add", total, _by_matrices(block, rows, columns))
    return total


def resample(block: Block) -> str:
    """`rows @ x @ columns` (resample_layer.cu), by constants that depend on the sizes alone: MatMul."""
    image, size = _planes(block)
    return _by_matrices(block, *Resample.of(block.layer).matrices(block.layer, image, size))


def unpooling(block: Block) -> str:
    """Each pixel in the middle of its window (FIXED), or all over it (REP, DIV), as `rows @ x @ columns`: MatMul."""
    image, _ = _planes(block)
    return _by_matrices(block, *UnPooling.of(block.layer, block.shapes).matrices(image))


def unpooling_by_mask(block: Block) -> str:
    """Each pixel where the mask points; without one at each stride's beginning, as `rows @ x @ columns`: MatMul."""
    if len(block.bottoms) == 2:
        return _unpooled(block)
    image, _ = _planes(block)
    return _by_matrices(block, *Unpooling.of(block.layer).matrices(image))


def _planes(block: Block) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the bottom and of the top, if there is room for a matrix along each of the two axes."""
    _, _, height, width = block.images()
    _, _, tall, wide = block.tops[0]
    block.affords(height * tall + width * wide)
    return (height, width), (tall, wide)


def _by_matrices(block: Block, rows: Array, columns: Array) -> str:
    along = block("MatMul", block.bottom, block.floats(columns.T, "columns"), step="along")
    return block("MatMul", block.floats(rows, "rows"), along)


def resize_bilinear(block: Block) -> str:
    """Bilinear on one of four grids: Resize, between two Transposes where the channels are last."""
    view = Resizing.of(block.layer, block.shape)
    mode = {"plain": "asymmetric", "half_pixel_centers": "half_pixel"}.get(view.grid, view.grid)
    x = channels_first(block, last=view.last)
    sizes = (block.shape[3 if view.last else 1], *view.size)
    y = resized(block, x, sizes, mode="linear", coordinate_transformation_mode=mode)
    return channels_last(block, y, last=view.last)


def resize_nearest(block: Block) -> str:
    """The nearest pixel on one of four grids: Gather of rows, then of columns, so that every tie is the fork's."""
    view = Resizing.of(block.layer, block.shape)
    x, first = block.bottom, 1 if view.last else 2
    for axis, name in enumerate(("rows", "columns")):
        block.affords(view.size[axis])
        x = block("Gather", x, block.integers(view.sources(axis), name), axis=first + axis)
    return x


def deephi_resize(block: Block) -> str:
    """Bilinear on half-pixel centres: Resize; or the nearest pixel as OpenCV counts: Gather of rows, then columns."""
    return (resize_bilinear if Resizing.of(block.layer, block.shape).linear else resize_nearest)(block)


def upsample_darknet(block: Block) -> str:
    """Each pixel repeated stride x stride times: Resize to the nearest."""
    return _repeated(block, (block.layer.param.upsample_darknet_param.stride,) * 2)


def _repeated(block: Block, factors: tuple[int, int]) -> str:
    scales = block.floats32([1, 1, *factors], "scales")
    return block("Resize", block.bottom, _absent(block, "roi"), scales, **REPEATING)


def resized(block: Block, x: str, sizes: Sequence[int], /, **attributes: str) -> str:
    """`x`, whose first axis is that of the first bottom, with other sizes behind it: C, H and W."""
    kept = sizes_behind_batch(block, x, sizes, "sizes")
    scales, roi = _absent(block, "scales"), _absent(block, "roi")
    return block("Resize", x, roi, scales, kept, **attributes)


def _absent(block: Block, name: str) -> str:
    """An input of Resize that is not given: an empty name, before opset 13 an empty tensor, which all read still."""
    return "" if block.opset >= 13 else block.floats32([], name)


ALIGNED = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
"""Resize whose corners lie on those of the bottom."""

REPEATING = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""Resize that repeats each pixel."""


def upsample(block: Block) -> str:
    """Each pixel repeated scale x scale times: Resize to the nearest; or, with a mask, put where the mask points.

    caffe_plus' takes pixel `o*H // H'`, by Gather, or is bilinear with aligned corners as an Interp.
    """
    view = Upsampling.of(block.layer)
    if view.unsure:
        raise Refused(f"{SIZE_ALONE}; where caffe_plus' is meant, write `mode: BILINEAR`")
    if view.kind == "mask":
        return _unpooled(block)
    if view.kind == "linear":
        return resized(block, block.bottom, block.tops[0][1:], **ALIGNED)
    if view.kind == "nearest" and (view.size is not None or len(block.bottoms) == 2):
        x = block.bottom
        for axis in (2, 3):
            size, wanted = block.shape[axis], block.tops[0][axis]
            block.affords(wanted)
            x = block("Gather", x, block.integers(np.arange(wanted) * size // wanted, f"places{axis}"), axis=axis)
        return x
    if view.size is None and not any(view.pad_out):
        return _repeated(block, view.scale)
    return resized(block, block.bottom, block.tops[0][1:], **REPEATING)


def _unpooled(block: Block) -> str:
    """`zeros(plane)[mask] = x` in each plane: ScatterElements.

    Not MaxUnpool: it counts through the whole tensor, where Caffe's mask counts through one plane, and fewer runtimes
    have it.
    """
    channels, *plane = block.shape[1:]
    pixels, larger = math.prod(plane), math.prod(block.tops[0][2:])
    x = reshape(block, block.bottom, (0, channels, pixels), "flat")
    places = block.as_integer(reshape(block, block.bottoms[1], (0, channels, pixels), "mask"))
    shape = sizes_behind_batch(block, x, [channels, larger], "plane")
    zeros = block("Expand", block.floats([0.0], "zero"), shape)
    y = block("ScatterElements", zeros, places, x, axis=2)
    return reshape(block, y, (0, channels, *block.tops[0][2:]), "planes")


FUNCTIONS: Mapping[str, LayerFunction] = {
    "DeephiResize": deephi_resize,
    "ICNetSubgraph": pyramid,
    "Interp": interp,
    "Resample": resample,
    "ResizeBilinear": resize_bilinear,
    "ResizeNearestNeighbor": resize_nearest,
    "UnPooling": unpooling,
    "Unpooling": unpooling_by_mask,
    "Upsample": upsample,
    "UpsampleDarknet": upsample_darknet,
}
