"""What a network costs to store and to run, by type of layer: learned values, and multiply-adds of one run.

Multiply-adds are counted as the definition of each layer does them: a convolution does every weight once for each
output position, a deconvolution once for each input position, a fully connected layer once for each row, and an affine
one for each value. What has no product of a learned value and an input counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from bnfold.algebra.operators import UNKNOWN_SIZE
from bnfold.net import Layer, Net, Shape
from bnfold.report.figures import amount

if TYPE_CHECKING:
    from bnfold.report.run import RunReport

Shapes = Mapping[str, Shape | None]


class Cost(NamedTuple):
    """Of all layers of one type.

    Attributes:
        layers: how many there are.
        parameters: learned values.
        multiply_adds: of one run at the net's input shapes, or of one sample where they leave the batch open; what is
            of unknown shape is not counted.
        complete: whether every shape that the count needs was known.
    """

    layers: int = 0
    parameters: int = 0
    multiply_adds: int = 0
    complete: bool = True


def total(parts: Iterable[Cost]) -> Cost:
    """What several types cost together."""
    layers, parameters, multiply_adds, complete = zip(Cost(), *parts, strict=True)
    return Cost(sum(layers), sum(parameters), sum(multiply_adds), all(complete))


def costs(net: Net, shapes: Shapes) -> dict[str, Cost]:
    """Type -> cost, in the order in which the types first occur."""
    by_type: dict[str, list[Layer]] = {}
    for layer in net.layers:
        by_type.setdefault(layer.type, []).append(layer)
    products = ONNX_PRODUCTS
    if net.language != "ONNX":
        from bnfold.caffe.layers import LAYERS

        products = {layer_type: row.products for layer_type, row in LAYERS.items()}
    return {layer_type: _cost(layers, shapes, products.get(layer_type, "")) for layer_type, layers in by_type.items()}


def _cost(layers: list[Layer], shapes: Shapes, each: str) -> Cost:
    done = [_products(layer, shapes, each) for layer in layers if layer.blobs] if each else []
    parameters = sum([prod(shape) for layer in layers for shape in layer.blobs.shapes])
    return Cost(len(layers), parameters, sum(filter(None, done)), None not in done)


COSTS = ("operator", "layers", "multiply-adds", "parameters")


def changes(run: RunReport, *, every: bool = False) -> list[tuple[str, str, str, str]]:
    """The rows below the headings `COSTS`: what each operator costs before and after, and at last all of them.

    Args:
        run: no row if it folded nothing.
        every: also the operators that there are as many of.
    """
    original, folded = run.original, run.folded
    if original is None or folded is None:
        return []
    known: Shapes = run.fold.shapes if run.fold is not None else {}
    sized = []
    for net in (original, folded):
        # A blob that survives keeps its value, and so its shape: what the folded net has is mostly known by now.
        known = known if _has_all(known, net) else {**_shapes(net), **known}
        sized.append(costs(net, _of_one_sample(net, known)))
    before, after = sized
    pairs = {
        layer_type: (before.get(layer_type, Cost()), after.get(layer_type, Cost())) for layer_type in (*before, *after)
    }
    rows = [_row(layer_type, old, new) for layer_type, (old, new) in pairs.items() if every or old.layers != new.layers]
    return rows and [*rows, _row("all", total(before.values()), total(after.values()))]


def _has_all(shapes: Shapes, net: Net) -> bool:
    return all(blob in shapes for layer in net.layers for blob in (*layer.bottoms, *layer.tops))


def _shapes(net: Net) -> Shapes:
    if net.front is not None:
        return net.front.shapes(net)
    from bnfold.caffe.layers import infer_shapes

    return infer_shapes(net)


def _of_one_sample(net: Net, shapes: Shapes) -> Shapes:
    """The shapes with 1 for the size, named by a number below -1, that is the first of all open inputs."""
    open_ones = {shape[0] for shape in map(shapes.get, net.inputs) if shape and shape[0] < 0}
    if len(open_ones) != 1:
        return shapes
    batch = open_ones.pop()
    return {
        blob: shape and tuple(1 if size == batch != UNKNOWN_SIZE else size for size in shape)
        for blob, shape in shapes.items()
    }


def _row(layer_type: str, old: Cost, new: Cost) -> tuple[str, str, str, str]:
    return (
        layer_type,
        f"{old.layers:,} -> {new.layers:,}",
        f"{_work(old)} -> {_work(new)}",
        f"{old.parameters:,} -> {new.parameters:,}",
    )


def _work(cost: Cost) -> str:
    if cost.complete:
        return amount(cost.multiply_adds)
    return f">= {amount(cost.multiply_adds)}" if cost.multiply_adds else "unknown"


def _products(layer: Layer, shapes: Shapes, each: str) -> int | None:
    """The products of one run, in which each learned value is used once for each place of the bottom or the top."""
    shape = shapes.get((layer.bottoms if each == "pixel read" else layer.tops)[0])
    if shape is None or min(shape, default=1) <= 0:
        return None
    learned = prod(layer.blobs.shapes[0])
    if each == "value":
        return prod(shape)
    if each == "sample":
        return learned * shape[0]
    return learned * (prod(shape[:-1]) if each == "row" else shape[0] * prod(shape[2:]))


ONNX_PRODUCTS: Mapping[str, str] = {
    "BatchNormalization": "value",
    "Conv": "pixel",
    "ConvTranspose": "pixel read",
    "DeformConv": "pixel",
    "Gemm": "row",
    "MatMul": "row",
    "Mul": "value",
}
"""Of ONNX's operators what `LayerType.products` says of Caffe's layer types."""
