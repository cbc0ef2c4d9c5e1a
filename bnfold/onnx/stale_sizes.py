"""Which sizes that an ONNX file says hold no more of a net, since a program has changed what makes the values.

What a fold does keeps all of them: an affine has the sizes of what it reads, so that its name may go to another value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bnfold.net import Layer, Net, Shape
from bnfold.onnx.node import ARITHMETIC, STANDARD, ConstantInput
from bnfold.onnx.origin import NodeSource, OnnxOrigin
from bnfold.onnx.sizes import UNKNOWN

KEEPING = frozenset({"BatchNormalization", "Cast", "CastLike", "Dropout", "Identity", "Neg"})
"""Operators whose first output has the sizes of their first input."""


def behind_edits(net: Net) -> set[str]:
    """The blobs whose sizes may differ from those in the file, since a program edited a layer in front of them."""
    behind: set[str] = set()
    for layer, kept in _with_sizes_kept(net):
        if not kept or not behind.isdisjoint(layer.bottoms):
            behind.update(layer.tops)
    return behind


def edited_layers(net: Net) -> list[Layer]:
    """The layers of the file that a program has edited, so that their tops may have other sizes or types."""
    return [layer for layer, kept in _with_sizes_kept(net) if not kept and isinstance(layer.source, NodeSource)]


def _with_sizes_kept(net: Net) -> Iterator[tuple[Layer, bool]]:
    """Each layer, and whether its tops have the sizes that the file states, if its bottoms have."""
    known = _Known(net.origin.types.shapes, _kept(net.origin))
    read: dict[str, str] = {}  # what a blob is called now -> in the file
    for layer in net.layers:
        old: Sequence[str] = layer.source.tops if isinstance(layer.source, NodeSource) else layer.tops
        if is_bias := _is_bias(layer, net):
            old = [read.get(layer.bottoms[0], layer.bottoms[0])]
        tops = zip(layer.tops, old, strict=False)
        stated = all(new not in known.shapes or known.alike(new, was) for new, was in tops)
        yield layer, stated and (is_bias or _is_alike(layer, known, read))
        read.update(zip(layer.tops, old, strict=False))


class _Known(NamedTuple):
    """What is known of the sizes of the blobs of a file.

    Attributes:
        shapes: blob -> shape.
        first: blob -> another one, from which affines make it.
    """

    shapes: Mapping[str, Shape | None]
    first: Mapping[str, str]

    def alike(self, one: str, other: str) -> bool:
        """Whether two blobs have the same sizes for certain."""
        one, other = self.first.get(one, one), self.first.get(other, other)
        shape = self.shapes.get(one)
        return one == other or (shape is not None and UNKNOWN not in shape and shape == self.shapes.get(other))


def _kept(origin: OnnxOrigin) -> dict[str, str]:
    """Blob -> the one from which affines make it, that enlarge nothing."""
    shapes: Mapping[str, Shape | None] = origin.types.shapes
    first: dict[str, str] = {}
    for node in origin.document.model.graph.node:
        data = [name for name in node.input if name not in origin.constants]
        data = data[:1] if node.op_type == "CastLike" and data[:1] == node.input[:1] else data
        if len(data) != 1 or node.domain not in STANDARD or node.op_type not in KEEPING | ARITHMETIC:
            continue
        laid = (_is_laid(shapes.get(name), shapes.get(data[0])) for name in node.input if name != data[0])
        if node.op_type in KEEPING or all(laid):
            first[node.output[0]] = first.get(data[0], data[0])
    return first


def _is_laid(small: Shape | None, large: Shape | None) -> bool:
    """Whether a constant broadcasts over a blob without enlarging it; a scalar never enlarges one."""
    if small == ():
        return True
    if small is None or large is None or len(small) > len(large):
        return False
    return all(size in (1, other) for size, other in zip(reversed(small), reversed(large), strict=False))


def _is_alike(layer: Layer, known: _Known, read: Mapping[str, str]) -> bool:
    """Whether a layer has the node, weights of the shapes and blobs of the sizes that it has in the file.

    `read` says what the blobs in front of the layer are called there.
    """
    source = layer.source
    if not isinstance(source, NodeSource):
        return False
    if layer.param.proto is source.param.proto:
        same = layer.blobs.shapes[: len(source.blobs)] == source.blobs.shapes
    else:
        same = layer.param.replaces is source.param.proto and layer.param.shaped in (None, layer.blobs.shapes)
    bottoms = zip(layer.bottoms, source.bottoms, strict=False)
    return same and all(known.alike(read.get(new, new), old) for new, old in bottoms)


def _is_bias(layer: Layer, net: Net) -> bool:
    """Whether a new layer adds the bias of the MatMul in front of it, as a fold writes it, and so enlarges nothing."""
    matmul = net.producer(layer.bottoms[0]) if layer.type == "Add" and layer.source is None else None
    if matmul is None or matmul.type != "MatMul" or layer.param.replaces is not matmul.param.proto:
        return False
    left = isinstance(matmul.param.slots[0], ConstantInput)
    shapes = matmul.blobs.shapes
    if len(matmul.bottoms) > 1:  # its weight is what a DequantizeLinear makes of numbers
        maker = net.producer(matmul.bottoms[1])
        numbers = maker.param.constant(0) if maker is not None else None
        shapes = () if numbers is None or numbers.value is None else (numbers.value.shape,)
    wanted = {(shape[0], 1) if left else shape[-1:] for shape in shapes}
    return wanted == set(layer.blobs.shapes)
