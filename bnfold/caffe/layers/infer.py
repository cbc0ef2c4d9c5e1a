"""Infer the shape of every blob of a net, and of every blob that its layers learn, from the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.caffe.layers.axes import UNKNOWN, is_empty
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.layers.row import LayerType, check_bottoms, check_count, check_tops
from bnfold.caffe.layers.table import LAYERS
from bnfold.errors import ModelError, few, telling_which
from bnfold.net import Layer, Net, Shape, sizes

ANOTHER = "; --input-shape sets another"
"""At the end of a note on an input's shape that no file states; where sizes do not fit, it may be the reason."""


def row_of(layer: Layer) -> LayerType | None:
    """What is known of a layer, None where its type or a field of its parameters has no meaning here."""
    return None if layer.opaque else LAYERS.get(layer_type_of(layer))


def output_shapes(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The shape of each top.

    Args:
        layer: any layer.
        bottoms: the shape of each bottom; -1 is a size that depends on the data.

    Returns:
        One shape per top, None when the layer's type is unknown or its parameters could not be read.

    Raises:
        ModelError: the sizes do not fit; the sentence names the layer, what is wrong and the sizes.
    """
    row = row_of(layer)
    if row is None:
        return None
    check_bottoms(layer, row, bottoms)
    tops = row.shapes(layer, bottoms)
    if tops is not None:
        check_tops(layer, tops)
    return tops


def bottom_shapes(layer: Layer, shapes: Mapping[str, Shape | None]) -> list[Shape] | None:
    """The shape of each bottom, None where one is unknown."""
    known = [shape for bottom in layer.bottoms if (shape := shapes.get(bottom)) is not None]
    return known if len(known) == len(layer.bottoms) else None


def possible_shapes(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The shape of each top, None also where the sizes do not fit: that is said where shapes are needed."""
    try:
        return output_shapes(layer, bottoms)
    except ModelError:
        return None


def infer_shapes(net: Net) -> dict[str, Shape | None]:
    """The shape of every blob, in execution order, in time linear in the layers.

    Returns:
        None for what an unknown layer type makes, and for everything that depends on it.

    Raises:
        ModelError: sizes do not fit, or a layer reads a blob that nobody makes.
    """
    try:
        with telling_which(net.file):
            return _inferred(net)
    except ModelError as error:
        if taken := [note.removesuffix(ANOTHER) for note in net.notes if note.endswith(ANOTHER)]:
            error.args = (f"{error}; but {few(taken, 4)}{ANOTHER}",)
        raise


def fitting_shapes(net: Net) -> dict[str, Shape | None]:
    """The same; none where sizes do not fit."""
    try:
        return infer_shapes(net)
    except ModelError:
        return {}


def _inferred(net: Net) -> dict[str, Shape | None]:
    shapes: dict[str, Shape | None] = {}
    for blob, shape in net.inputs.items():
        if is_empty(shape):
            raise ModelError(f"input '{blob}': a shape of {sizes(shape)} is empty; --input-shape sets another")
        shapes[blob] = shape
    for layer in net.layers:
        if not layer.bottoms and layer.tops and all(top in net.inputs for top in layer.tops):
            continue
        for bottom in layer.bottoms:
            if bottom not in shapes:
                raise ModelError(f"{layer}: no layer makes its bottom '{bottom}'")
        tops, bottoms = None, bottom_shapes(layer, shapes)
        if bottoms is not None:
            tops = output_shapes(layer, bottoms)
        elif (row := row_of(layer)) is not None:
            check_count(layer, row, len(layer.bottoms))
        for index, top in enumerate(layer.tops):
            shapes[top] = None if tops is None else tops[index]
    return shapes


def blob_shapes(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape] | None:
    """The true shapes of what the layer learned, as its parameters promise them.

    Args:
        layer: any layer; where dialects differ, the number of its blobs tells which one it is.
        bottoms: the shape of each bottom.

    Returns:
        One shape per blob, [] for a known type that learns nothing, None for an unknown type or where only the file
        knows.

    Raises:
        ModelError: the parameters do not fit the bottoms.
    """
    row = row_of(layer)
    if row is None:
        return None
    check_bottoms(layer, row, bottoms)
    if row.blobs is None:
        return []
    shapes = row.blobs(layer, bottoms)
    return None if shapes is None or any(UNKNOWN in shape for shape in shapes) else shapes
