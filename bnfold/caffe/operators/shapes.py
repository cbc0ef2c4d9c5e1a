"""What can be known of shapes behind a layer whose type is unknown: ranks and channels, which weights say.

A convolution makes as many axes as its weight has and as many channels as it has rows, whatever it reads; and what it
reads has the same rank, and the channels that its weight takes. A layer that works element by element hands that on,
in both directions. Spatial sizes and the batch stay unknown; the laws hardly need them.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.caffe.layers import KERNELS, LAYERS, UNKNOWN, Convolution, infer_shapes
from bnfold.caffe.layers.convolution import channels_read
from bnfold.caffe.layers.infer import bottom_shapes, possible_shapes
from bnfold.errors import ModelError
from bnfold.net import Layer, Net, Shape

Shapes = dict[str, Shape | None]


def known_shapes(net: Net) -> Shapes:
    """The shape of every blob; where it does not follow from the inputs, what the weights say of it.

    Raises:
        ModelError: sizes do not fit.
    """
    shapes = infer_shapes(net)
    if None in shapes.values():
        _forward(net.layers, shapes)
        for layer in reversed(net.layers):
            _back(layer, shapes)
        _forward(net.layers, shapes)
    return shapes


def _forward(layers: Sequence[Layer], shapes: Shapes) -> None:
    for layer in layers:
        if all(shapes[top] is not None for top in layer.tops):
            continue
        tops, bottoms = None, bottom_shapes(layer, shapes)
        if bottoms is not None:
            tops = possible_shapes(layer, bottoms)
        elif len(layer.bottoms) == len(layer.tops) == 1 and (plane := _kernel_axes(layer)) is not None:
            channels = Convolution.of(layer, plane).num_output
            tops = [(UNKNOWN, channels, *(UNKNOWN,) * plane)]
        for top, shape in zip(layer.tops, tops or (), strict=False):
            shapes[top] = shape


def _back(layer: Layer, shapes: Shapes) -> None:
    top = shapes[layer.tops[0]] if layer.tops else None
    row = LAYERS.get(layer.type)
    bottoms = [bottom for bottom in layer.bottoms if shapes[bottom] is None]
    shape: Shape | None = None
    plane = _kernel_axes(layer)
    if len(bottoms) != len(layer.bottoms) or layer.opaque or row is None:
        return
    if len(bottoms) == 1 and plane is not None:
        shape = (UNKNOWN, channels_read(layer, layer.blobs.shapes[0]), *(UNKNOWN,) * plane)
    elif top is not None and row.kept and (len(bottoms) == 1 or row.kept == "each"):
        shape = (*top[:2], *(UNKNOWN,) * (len(top) - 2)) if row.kept == "channels" else top
        made = possible_shapes(layer, [shape] * len(bottoms))
        if made is None or made[0][:2] != top[:2]:
            return  # MDS pooling keeps no channels
    for bottom in bottoms:
        shapes[bottom] = shape


def _kernel_axes(layer: Layer) -> int | None:
    """How many axes the kernel of a convolution along the channels has, None for every other layer."""
    if layer.type not in KERNELS or not len(layer.blobs) or layer.opaque:
        return None
    plane = len(layer.blobs.shapes[0]) - 2
    try:
        return plane if Convolution.of(layer, plane).axis == 1 else None
    except ModelError:
        return None
