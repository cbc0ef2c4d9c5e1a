"""Synopsys' layers that pick elements by where they are; each function names the ONNX operators that do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnfold.caffe.layers.indexing import Cut, gathered
from bnfold.onnx.export.builder import Block, LayerFunction, Refused
from bnfold.onnx.export.forms import cut, unsqueeze


def cut_layer(block: Block) -> str:
    """What it leaves along each axis: Slice, and Gather by a number where no axis is left; new axes by Unsqueeze."""
    view = Cut.of(block.layer, block.shape)
    gone = view.gone
    if view.picked[:1] not in ((), (None,)):
        block.fixes_batch("it cuts the batch")
    parts = [(axis, places) for axis, places in enumerate(view.picked) if places is not None and axis not in gone]
    x = block.bottom
    if parts:
        ends = [places.stop if places.stop >= 0 else -block.shape[axis] - 1 for axis, places in parts]
        starts, steps = ([getattr(places, word) for _, places in parts] for word in ("start", "step"))
        x = cut(block, x, [axis for axis, _ in parts], starts, ends, steps)
    for axis in reversed(gone):
        one = block.integers(view.picked[axis].start, f"place{axis}")  # type: ignore[union-attr]
        x = block("Gather", x, one, axis=axis, step=f"part{axis}")
    new = [place for place, axis in enumerate(view.order) if axis is None]
    return unsqueeze(block, x, new) if new else x


def gather(block: Block) -> str:
    """The places that are listed along an axis: Gather."""
    param = block.layer.param.gather_param
    if not param.indices:
        raise Refused("it lists no indices, so it is no layer of Synopsys' Caffe, and whose it is, is not known")
    axis = block.axis(param.axis)
    block.fixes_batch("it picks samples by their numbers", [axis])
    return block("Gather", block.bottom, _places(block, param.indices), axis=axis)


def gather_nd(block: Block) -> str:
    """The places that are listed by numbers along the first axes: GatherND."""
    block.fixes_batch("it picks samples by their numbers")
    return block("GatherND", block.bottom, _places(block, block.layer.param.gather_nd_param.indices))


def _places(block: Block, indices: Sequence[int]) -> str:
    return block.integers(np.reshape(indices, gathered(block.layer)), "places")


def gather_v2(block: Block) -> str:
    """The places along an axis that the second bottom says, as integers: Cast, Gather."""
    axis = block.axis(block.layer.param.gather_v2_param.axis)
    return block("Gather", block.bottom, block.as_integer(block.bottoms[1]), axis=axis)


FUNCTIONS: Mapping[str, LayerFunction] = {
    "Gather": gather,
    "GatherND": gather_nd,
    "GatherV2": gather_v2,
    "Piece": cut_layer,
    "StridedSlice": cut_layer,
}
