"""What a network costs to store and to run, by type of layer: learned values, and multiply-adds of one run.

Multiply-adds are counted as the definition of each layer does them: a convolution does every weight once for each
output position, a deconvolution once for each input position, a fully connected layer once for each row, and an affine
one for each value. What has no product of a learned value and an input counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from bnfold.net import Layer, Net, Shape
from bnfold.report.figures import amount

if TYPE_CHECKING:
    from bnfold.report.run import RunReport

Shapes = Mapping[str, Shape | None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all layers of one type.

    Attributes:
        layers: how many there are.
        parameters: learned values.
        multiply_adds: of one run at the net's input shapes; what is of unknown shape is not counted.
        complete: whether every shape that the count needs was known.
    """

    layers: int = 0
    parameters: int = 0
    multiply_adds: int = 0
    complete: bool = True

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.layers + other.layers,
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.complete and other.complete,
        )


def costs(net: Net, shapes: Shapes) -> dict[str, Cost]:
    """Type -> cost, in the order in which the types first occur.

    Args:
        net: the network.
        shapes: blob -> shape, None where it is unknown.
    """
    by_type: dict[str, list[Layer]] = {}
    for layer in net.layers:
        by_type.setdefault(layer.type, []).append(layer)
    return {op_type: _cost(op_type, layers, shapes) for op_type, layers in by_type.items()}


def _cost(op_type: str, layers: list[Layer], shapes: Shapes) -> Cost:
    products = COUNTED.get(op_type)
    done = [products(layer, shapes) for layer in layers if layer.blobs] if products is not None else []
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
    known = run.fold.shapes if run.fold is not None else {}
    before, after = (costs(net, known if _has_all(known, net) else _shapes(net)) for net in (original, folded))
    pairs = {op_type: (before.get(op_type, Cost()), after.get(op_type, Cost())) for op_type in (*before, *after)}
    rows = [_row(op_type, old, new) for op_type, (old, new) in pairs.items() if every or old.layers != new.layers]
    return rows and [*rows, _row("all", sum(before.values(), Cost()), sum(after.values(), Cost()))]


def _has_all(shapes: Shapes, net: Net) -> bool:
    return all(blob in shapes for layer in net.layers for blob in (*layer.bottoms, *layer.tops))


def _shapes(net: Net) -> Shapes:
    if net.front is not None:
        return net.front.shapes(net)
    from bnfold.caffe.layers import infer_shapes

    return infer_shapes(net)


def _row(op_type: str, old: Cost, new: Cost) -> tuple[str, str, str, str]:
    return (
        op_type,
        f"{old.layers:,} -> {new.layers:,}",
        f"{_work(old)} -> {_work(new)}",
        f"{old.parameters:,} -> {new.parameters:,}",
    )


def _work(cost: Cost) -> str:
    if cost.complete:
        return amount(cost.multiply_adds)
    return f">= {amount(cost.multiply_adds)}" if cost.multiply_adds else "unknown"


def _known(shape: Shape | None) -> Shape | None:
    return shape if shape is not None and all(size > 0 for size in shape) else None


def _at_each_output(layer: Layer, shapes: Shapes) -> int | None:
    top = _known(shapes.get(layer.tops[0]))
    return None if top is None else prod(layer.blobs.shapes[0]) * top[0] * prod(top[2:])


def _at_each_input(layer: Layer, shapes: Shapes) -> int | None:
    bottom = _known(shapes.get(layer.bottoms[0]))
    return None if bottom is None else prod(layer.blobs.shapes[0]) * bottom[0] * prod(bottom[2:])


def _at_each_row(layer: Layer, shapes: Shapes) -> int | None:
    top = _known(shapes.get(layer.tops[0]))
    return None if top is None else prod(layer.blobs.shapes[0]) * prod(top[:-1])


def _at_each_value(layer: Layer, shapes: Shapes) -> int | None:
    top = _known(shapes.get(layer.tops[0]))
    return None if top is None else prod(top)


COUNTED: Mapping[str, Callable[[Layer, Shapes], int | None]] = {
    **dict.fromkeys(
        ("Conv", "Convolution", "Convolution3D", "ConvolutionDepthwise", "DepthwiseConvolution"), _at_each_output
    ),
    **dict.fromkeys(("ConvTranspose", "Deconvolution", "DepthwiseDeconvolution"), _at_each_input),
    **dict.fromkeys(("Gemm", "InnerProduct", "MatMul"), _at_each_row),
    **dict.fromkeys(
        ("BN", "BatchNorm", "BatchNormalization", "CuDNNBatchNorm", "EltwiseAffine", "Mul", "Scale"), _at_each_value
    ),
}
