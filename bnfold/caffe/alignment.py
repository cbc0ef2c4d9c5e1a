"""Where a Crop that says no offset starts: Caffes before 2016 laid its bottoms over each other by themselves.

Each layer places the pixels of its top over those of its bottom by `x_top = a*x_bottom + b`. Where both bottoms of a
Crop come from one blob, that says where the second lies in the first. BVLC's Caffe dropped this with 1.0: there, a
Crop without offset starts at 0, and `coord_map.py` computes the offset when the prototxt is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layers import DECONVOLUTIONS, KERNELS, LAYERS, Convolution, Pooling
from bnfold.errors import BnfoldError
from bnfold.net import Layer
from bnfold.options import CropOffset

_PLANE = 2
_LARGE = 1 << 20


class AxisLine(NamedTuple):
    """`x -> a*x + b` along an axis."""

    a: float = 1.0
    b: float = 0.0

    def after(self, first: AxisLine) -> AxisLine:
        """This line of what another gives."""
        return AxisLine(self.a * first.a, self.a * first.b + self.b)


AxisLines = Sequence[AxisLine]
"""One along each of the two axes of a plane."""


def align_crops(layers: Sequence[Layer], choice: CropOffset | None) -> list[str]:
    """Give each Crop that says nothing its offset, where the two readings differ.

    Args:
        layers: of a net, each blob written once; the parameters of such Crops are replaced.
        choice: the reading; None is "aligned", which is then said.

    Returns:
        A sentence for each Crop that was read by a guess, or one on a choice that none left open.
    """
    makers = {top: layer for layer in layers for top in layer.tops}
    notes, chosen = [], False
    for layer in layers:
        if layer.type != "Crop" or layer.param.HasField("crop_param") or len(layer.bottoms) != 2 or layer.opaque:
            continue
        offset = _offset(makers, *layer.bottoms)
        if offset is None or not any(offset):
            continue
        param: LayerParameter = deepcopy(layer.param)
        param.crop_param.offset.extend((0,) if choice == "caffe" else offset)
        layer.param, chosen = param, True
        if choice is None:
            notes.append(
                f"{layer} says no offset: it is read as Caffes before 2016 aligned it, from {offset[0]}, {offset[1]} "
                "on; today's would cut from 0, 0 on; choose with --crop-offset aligned or --crop-offset caffe"
            )
    if choice is not None and not chosen:
        notes.append(f"--crop-offset {choice} changes nothing: no Crop without offset could start elsewhere")
    return notes


def _offset(makers: Mapping[str, Layer], cut: str, like: str) -> tuple[int, int] | None:
    """Where the second blob starts in the first; None where older Caffes stopped, so that today's must be meant."""
    ours, others = _origins(makers, cut), _origins(makers, like)
    for blob, other in others.items():
        if (mine := ours.get(blob)) is None:
            continue
        pairs = list(zip(mine, other, strict=True))
        if any(abs(one.a - another.a) > 1e-9 for one, another in pairs):
            return None
        start = [round(one.b - another.b) for one, another in pairs]
        return None if min(start) < 0 else (start[0], start[1])
    return None


def _origins(makers: Mapping[str, Layer], blob: str) -> dict[str, AxisLines]:
    """Each blob that a blob is made of, nearest first, and where its pixels lie in it."""
    origins: dict[str, AxisLines] = {blob: [AxisLine()] * _PLANE}
    queue = deque([blob])
    while queue:
        top = queue.popleft()
        layer = makers.get(top)
        step = _lines(layer) if layer else None
        if layer is None or step is None:
            continue
        for bottom in layer.bottoms[: 1 if layer.type == "Crop" else None]:
            if bottom not in origins:
                origins[bottom] = [outer.after(inner) for outer, inner in zip(origins[top], step, strict=True)]
                queue.append(bottom)
    return origins


def _lines(layer: Layer) -> AxisLines | None:
    """From a layer's bottom to its top; None where that is no such line."""
    row = LAYERS.get(layer.type)
    try:
        if row is not None and row.aligned:
            return [AxisLine()] * _PLANE
        if layer.type in KERNELS:
            view = Convolution.of(layer)
            return _windows(view.extent, view.stride, view.before, layer.type in DECONVOLUTIONS)
        if layer.type == "Pooling":
            pool = Pooling.of(layer, (1, 1, _LARGE, _LARGE))
            return None if pool.is_global else _windows(pool.kernel, pool.stride, pool.before, False)
        if layer.type == "Crop":
            offset = layer.param.crop_param.offset or (0,)
            return [AxisLine(b=-float(offset[max(-2, -len(offset))])), AxisLine(b=-float(offset[-1]))]
    except BnfoldError:
        return None
    return None


def _windows(kernel: Sequence[int], stride: Sequence[int], before: Sequence[int], transposed: bool) -> AxisLines | None:
    if len(kernel) != _PLANE:
        return None
    return [
        AxisLine(s, (k - 1) / 2 - p) if transposed else AxisLine(1 / s, (p - (k - 1) / 2) / s)
        for k, s, p in zip(kernel, stride, before, strict=True)
    ]
