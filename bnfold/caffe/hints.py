"""What the readers and the weights of a network say about the shape of an input that nothing states.

Given:   data -> conv1 (weight 4x1x5x5) -> pool1 -> ip (weight 10x576)
Hint:    1 channel; and of square planes, 28x28 gives ip what it reads
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

from bnfold.caffe.layers import KERNELS, LAYERS, infer_shapes, row_of, types_where
from bnfold.caffe.layers.arrange import written_axis
from bnfold.caffe.layers.convolution import channels_read
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.errors import ModelError
from bnfold.net import Layer, Net, Shape

Stored = Callable[[Layer], Sequence[Shape]]
"""Layer -> the shapes of what it has learned, as far as they are known."""

MAX_PLANE = 2048
STEPS = 16
RECURRENT = ("LSTM", "RNN")
CALLED = {
    "gt_boxes": ((1, 5), "boxes with the class of each"),
    "im_info": ((1, 3), "the image's height, width and scale"),
}
"""Inputs of networks that propose regions, whose code names them so (py-faster-rcnn, roi_data_layer/layer.py)."""
KEEPS_CHANNELS = types_where(lambda row: row.kept)


class InputHint(NamedTuple):
    """What is known of an input: its whole shape where its reader fixes that, else perhaps its channels, and why."""

    shape: Shape | None = None
    channels: int | None = None
    axes: int = 2
    reason: str = ""


def hint_of(layers: Sequence[Layer], stored: Stored, blob: str) -> InputHint:
    """What the readers of `blob` tell: a convolution its channels, an InnerProduct or a pooling of regions all."""
    for layer, index in _readers(layers, blob):
        # Forks have proposals of many names.
        row = LAYERS.get("Proposal" if "Proposal" in layer_type_of(layer) else layer.type)
        if row is not None and index in row.fixed:
            shape, words = row.fixed[index]
            return InputHint(shape, reason=f"'{layer.name}' ({layer.type}) reads {words}")
    if blob in CALLED:
        shape, words = CALLED[blob]
        return InputHint(shape, reason=f"it is called like {words}")
    if (steps := _steps(layers, stored, blob)).shape is not None:
        return steps
    through = list(_through(layers, blob))
    by_weights = _by_weights(through, stored, blob)
    if by_weights == InputHint():
        channels = (_cut(layer, layers, stored) for layer, index in through if layer.type == "Slice" and index == 0)
        return InputHint(channels=next(filter(None, channels), None))
    return by_weights


def _steps(layers: Sequence[Layer], stored: Stored, blob: str) -> InputHint:
    """What is read in steps: (T, N, ...) by an LSTM or RNN, with flags of (T, N); words of (T, N) through an Embed."""
    for layer, index in _readers(layers, blob):
        behind = _readers(layers, layer.tops[0]) if layer.type == "Embed" and layer.tops else ((layer, index),)
        for reader, position in behind:
            if reader.type in RECURRENT and position < 2:
                features = (stored(reader) or [(1,)])[0][-1:] if position == 0 and reader is layer else ()
                return InputHint((STEPS, 1, *features), reason=f"'{reader.name}' ({reader.type}) reads it in steps")
    return InputHint()


def _by_weights(through: Iterable[tuple[Layer, int]], stored: Stored, blob: str) -> InputHint:
    for layer, index in through:
        shapes = stored(layer)
        if index or not shapes:
            continue
        row = row_of(layer)
        if layer.type in KERNELS and row is not None and len(shapes[0]) > 2:
            return InputHint(channels=channels_read(layer, shapes[0]), axes=len(shapes[0]) - 2)
        if layer.type == "InnerProduct" and blob in layer.bottoms and layer.param.inner_product_param.axis == 1:
            return InputHint((1, _columns(layer, shapes[0])), reason=f"'{layer.name}' has weights for as many")
        if row is not None and row.blobs and row.kept and prod(shapes[0]) == max(shapes[0], default=1) > 1:
            return InputHint(channels=prod(shapes[0]))
    return InputHint()


def _cut(layer: Layer, layers: Sequence[Layer], stored: Stored) -> int | None:
    """The channels that a Slice reads: its last point and the last part's, or for even parts as often any part's."""
    if written_axis(layer) != 1:
        return None
    parts = [_by_weights(_through(layers, top), stored, top).channels for top in layer.tops]
    if points := layer.param.slice_param.slice_point:
        return points[-1] + parts[-1] if parts[-1] else None
    return len(parts) * next(filter(None, parts), 0) or None


def plane_by_weights(assembled: Callable[[Shape], Net], stored: Stored, usual: Sequence[Shape]) -> Shape | None:
    """Height and width, of the usual ones or square, by which each InnerProduct reads what it has weights for.

    Args:
        assembled: the net for a plane.
        stored: what its layers have learned.
        usual: planes that are tried first.
    """
    differences = [_difference(assembled(plane), stored) for plane in usual]
    if not any(differences):
        return None  # pooled to one size: any plane fits
    if 0 in differences:
        return usual[differences.index(0)]
    # What an InnerProduct reads grows with the plane.
    sides = range(1, MAX_PLANE)
    low, high = (
        1 + bisect_left(sides, least, key=lambda size: _difference(assembled((size, size)), stored)) for least in (0, 1)
    )
    if low == high:
        return None
    size = max(range(low, high), key=lambda size: (size & -size, size))
    return size, size


def _difference(net: Net, stored: Stored) -> int:
    """-1 where an InnerProduct would read less than it has weights for, 1 where more, 0 where all fit or none tells."""
    try:
        shapes = infer_shapes(net)
    except ModelError:
        return -1  # a plane that is too small leaves nothing of it
    decided = False
    for layer in net.layers:
        learned = stored(layer) if layer.type == "InnerProduct" else ()
        bottom = shapes.get(layer.bottoms[0]) if learned else None
        if bottom is None or min(bottom) < 1:
            continue
        decided = decided or len(bottom) > 2
        axis = layer.param.inner_product_param.axis
        read, wanted = prod(bottom[axis:]), _columns(layer, learned[0])
        if read != wanted:
            return 1 if read > wanted else -1
    return 0 if decided else 2


def _readers(layers: Sequence[Layer], blob: str) -> Iterator[tuple[Layer, int]]:
    return ((layer, index) for layer in layers for index, bottom in enumerate(layer.bottoms) if bottom == blob)


def _through(layers: Sequence[Layer], blob: str) -> Iterator[tuple[Layer, int]]:
    """The readers of a blob, and those behind layers that keep its channels, in the order of the net."""
    same = {blob}
    for layer in layers:
        for index, bottom in enumerate(layer.bottoms):
            if bottom in same:
                yield layer, index
                if index == 0 and layer.type in KEEPS_CHANNELS:
                    same.update(layer.tops[:1])


def _columns(layer: Layer, weight: Shape) -> int:
    """How many values an InnerProduct reads, by its weight: N x K, in old files 1 x 1 x N x K."""
    transposed = layer.param.inner_product_param.transpose and len(weight) > 1
    return weight[-2] if transposed else weight[-1]
