"""Patterns of nodes by which runtimes know a function and compute it as one: a fold leaves them as they are.

    x -> Div(sqrt(2)) -> Erf -> Add(1) -> Mul(x) -> Mul(0.5)                                GELU
    x -> Mul(1.702) -> Sigmoid -> Mul(x)                                                    an approximation of it
    d = Sub(x, ReduceMean(x)) -> Div(Sqrt(Add(ReduceMean(Pow(d, 2)), e))) -> Mul(g) -> Add(b)    LayerNormalization
    x -> Mul(Reciprocal(Sqrt(Add(ReduceMean(Pow(x, 2)), e)))) -> Mul(g)                      RMSNormalization
    q, s, z = DynamicQuantizeLinear(x), Cast(MatMulInteger(q, W, z)) -> Mul(Mul(s, w)) -> Add(b)     MatMul
    MatMul(Q, K) -> Div(sqrt(size)) -> Add(Mul(Sub(1, mask), -10000)) -> Softmax             attention

The numbers and vectors in them could go into the weights around. That would save a node or two, and onnxruntime would
find no pattern in what is left and compute it node by node. What a normalisation multiplies and adds last takes affines
from behind all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from math import log
from typing import NamedTuple

import numpy as np

from bnfold.net import Array, Layer, Net, Shape
from bnfold.onnx.error_function import erf, gelu
from bnfold.onnx.node import BottomInput, ConstantInput, Node

GELU, LAYER, MEAN_SQUARE, QUANTISED = "GELU", "LayerNormalization", "RMSNormalization", "quantised MatMul"
ATTENTION = "attention"
SCALED_LAST = frozenset({LAYER, MEAN_SQUARE})
"""Those that multiply data by a vector last, which takes affines from behind."""
MOST = 8  # layers in a row in front of a product; of GELU by tanh six
NEARLY = 2e-3
"""How far from GELU may be what is taken for it: its approximation by tanh is 5e-4 off, numbers in float16 as much."""


class Pattern(NamedTuple):
    """Layers that compute a function together.

    Attributes:
        name: what the function is called.
        layers: in execution order.
        shared: layers in front of them of which others may read what they make, as all attentions read one mask.
    """

    name: str
    layers: tuple[Layer, ...]
    shared: tuple[Layer, ...] = ()


class _Different(Exception):
    """Some layers are none of the patterns."""


def find_patterns(net: Net, shapes: Mapping[str, Shape | None], fixed: Set[str]) -> Iterator[Pattern]:
    """The patterns in a net of which nobody else reads what lies between.

    Args:
        net: the net.
        shapes: of its blobs, as far as they are known.
        fixed: blobs that somebody outside of the net reads.
    """
    around: dict[str, Callable[[Net, Layer], list[Pattern]]] = {
        **AROUND,
        "Sqrt": partial(_normalisation, shapes=shapes),
    }
    for layer in net.layers:
        if layer.type in around and layer.tops:
            with suppress(_Different):
                found = around[layer.type](net, layer)
                yield from [pattern for pattern in found if _is_closed(net, pattern, fixed)][:1]


def _is_closed(net: Net, pattern: Pattern, fixed: Set[str]) -> bool:
    """Whether nobody else reads what lies between the layers of a pattern."""
    own, between = set(map(id, pattern.layers)), [layer.tops[0] for layer in pattern.layers[:-1]]
    return fixed.isdisjoint(between) and all(id(use.layer) in own for blob in between for use in net.uses(blob))


def _maker(net: Net, blob: str, *types: str) -> Layer:
    """The layer that makes a blob, if it is of one of some types."""
    layer = net.producer(blob)
    if layer is None or layer.type not in types:
        raise _Different
    return layer


def _read(layer: Layer) -> str:
    """The first blob that a layer reads, if it reads more than constants."""
    if not layer.bottoms:
        raise _Different
    return layer.bottoms[0]


def _reader(net: Net, layer: Layer, *types: str) -> Layer:
    """The layer that alone reads what another one makes, if it is of one of some types."""
    readers = {id(use.layer): use.layer for use in net.uses(layer.tops[0])}
    if len(readers) != 1 or not set(types).issuperset(reader.type for reader in readers.values()):
        raise _Different
    return next(iter(readers.values()))


def _constant(layer: Layer) -> ConstantInput | None:
    """The constant beside the one blob that a layer reads; None where it reads more, or another number of inputs."""
    node: Node = layer.param
    constants = [slot for slot in node.slots if isinstance(slot, ConstantInput)]
    return constants[0] if len(node.slots) == 2 and len(constants) == 1 else None


def _number(layer: Layer) -> float | None:
    """The number beside the one blob that a layer reads; None where that is none, or more than one."""
    constant = _constant(layer)
    if constant is None:
        return None
    values = layer.blobs[constant.blob] if constant.blob >= 0 else constant.value
    return float(values.item()) if values is not None and values.size == 1 else None


# Of each value alone.

GATES = frozenset({"Erf", "Sigmoid", "Tanh"})
COMPUTED: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Erf": erf,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Sub": np.subtract,
    "Tanh": np.tanh,
}
"""Operator -> the function of its operands."""


def _gelu(net: Net, gate: Layer) -> list[Pattern]:
    """What multiplies a blob, or a part of it, by a function of it, and perhaps by a number behind that."""
    product = _reader(net, gate, *COMPUTED)
    last = gate
    while _number(product) is not None:
        last, product = product, _reader(net, product, *COMPUTED)
    others = [bottom for bottom in product.bottoms if bottom != last.tops[0]]
    if product.type != "Mul" or len(others) != 1:
        raise _Different
    part = net.producer(others[0])
    roots = others if part is None or _number(part) is None else [*part.bottoms, *others]
    ends = [list[Layer]()]
    with suppress(_Different):
        behind = _reader(net, product, *COMPUTED)
        if _number(behind) is not None:
            ends.insert(0, [behind])
    for root in roots:
        layers = dict[int, Layer]()
        if not all(_gather(net, blob, root, layers) for blob in product.bottoms):
            continue
        for end in ends:
            pattern = (*layers.values(), product, *end)
            if _is_gelu(pattern, root):
                return [Pattern(GELU, pattern)]
    raise _Different


def _gather(net: Net, blob: str, root: str, layers: dict[int, Layer], most: int = MOST) -> bool:
    """Note the layers that make a blob of another one and numbers, each behind what it reads; whether these are all.

    Of more than `most` in a row they are not.
    """
    layer = net.producer(blob)
    if blob == root or (layer is not None and id(layer) in layers):
        return True
    if layer is None or layer.type not in COMPUTED or not most:
        return False
    if len(layer.bottoms) < len(layer.param.slots) and _number(layer) is None:
        return False
    if not all(_gather(net, bottom, root, layers, most - 1) for bottom in layer.bottoms):
        return False
    layers[id(layer)] = layer
    return True


def _is_gelu(layers: tuple[Layer, ...], root: str) -> bool:
    """Whether layers compute `x*(1 + erf(x/sqrt(2)))/2` (Hendrycks and Gimpel 2016), or an approximation of it.

    That is theirs by tanh, or `x/(1 + exp(-a*x))` with any a but 1, which is a Swish.
    """
    x = np.linspace(-3, 3, 25)
    values: dict[str, Array] = {root: x}
    with np.errstate(all="ignore"):
        for layer in layers:
            slots = layer.param.slots
            operands = (
                values[layer.bottoms[slot.index]] if isinstance(slot, BottomInput) else _number(layer) for slot in slots
            )
            values[layer.tops[0]] = COMPUTED[layer.type](*operands)
        found = values[layers[-1].tops[0]]
        wanted = gelu(x)
        if any(layer.type == "Sigmoid" for layer in layers):
            at_end = float(found[-1]) / 3
            factor = log(at_end / (1 - at_end)) / 3 if 0 < at_end < 1 else 1.0
            wanted = x / (1 + np.exp(-factor * x)) * (np.nan if abs(factor - 1) < NEARLY else 1)
    return bool(np.all(np.abs(found - wanted) <= NEARLY))


# Of all values along the last axes.


def _normalisation(net: Net, root: Layer, shapes: Mapping[str, Shape | None]) -> list[Pattern]:
    """What divides by the root of a mean of squares, with what it multiplies last; first with what centres and adds."""
    added = _maker(net, _read(root), "Add")
    mean = _maker(net, _read(added), "ReduceMean")
    square = _maker(net, _read(mean), "Mul", "Pow")
    if not _is_square(square) or _number(added) is None or not _is_of_last_axes(mean, shapes):
        raise _Different
    divided, quotient = _divided_by(net, root)
    data, *centring = _centred(net, _read(square), shapes)
    same, *centring_too = _centred(net, divided, shapes)
    if data != same or bool(centring) != bool(centring_too):
        raise _Different
    layers = [square, mean, added, root, *quotient]
    layers += _applied(net, layers[-1], "Mul", mean)
    found = [Pattern(MEAN_SQUARE, tuple(layers))]
    if centring:
        with suppress(_Different):
            layers = [*centring, *centring_too, *layers, *_applied(net, layers[-1], "Add", mean)]
            found.insert(0, Pattern(LAYER, tuple({id(layer): layer for layer in layers}.values())))
    return found


def _is_square(layer: Layer) -> bool:
    """Whether a Pow or a Mul computes `x*x`."""
    if layer.type == "Mul":
        return len(layer.bottoms) == 2 and len(set(layer.bottoms)) == 1
    return _number(layer) == 2 and isinstance(layer.param.slots[0], BottomInput)


def _applied(net: Net, layer: Layer, op_type: str, mean: Layer) -> list[Layer]:
    """The layer of a type that has a constant for what another one makes, and a Cast in front of it.

    onnxruntime wants a constant of as many axes as the mean is taken over (`layer_norm_fusion.cc`).
    """
    reader = _reader(net, layer, "Cast", op_type)
    casts = [reader] if reader.type == "Cast" else []
    reader = _reader(net, reader, op_type) if casts else reader
    constant = _constant(reader)
    if constant is None or constant.blob < 0 or len(reader.blobs.shapes[constant.blob]) != len(_axes(mean)):
        raise _Different
    return [*casts, reader]


def _divided_by(net: Net, root: Layer) -> tuple[str, list[Layer]]:
    """The blob that is divided by a root, and the layers that do so: a Div, or a product with its inverse."""
    layer, layers, wanted = _reader(net, root, "Div", "Reciprocal"), list[Layer](), "Div"
    if layer.type == "Reciprocal" or (_number(layer) == 1 and isinstance(layer.param.slots[0], ConstantInput)):
        layers, root, layer, wanted = [layer], layer, _reader(net, layer, "Mul"), "Mul"
    divided = [bottom for bottom in layer.bottoms if bottom != root.tops[0]]
    if layer.type != wanted or len(divided) != 1 or (wanted == "Div" and layer.bottoms[0] != divided[0]):
        raise _Different
    return divided[0], [*layers, layer]


def _centred(net: Net, blob: str, shapes: Mapping[str, Shape | None]) -> tuple[str, *tuple[Layer, ...]]:
    """The blob whose mean a Sub has subtracted to make another, and the layers; that itself, where none did.

    Behind the Sub may be a Cast, which older exporters put in front of a Pow.
    """
    try:
        behind = _maker(net, blob, "Sub", "Cast")
        casts = [behind] if behind.type == "Cast" else []
        difference = _maker(net, _read(behind), "Sub") if casts else behind
        if len(difference.bottoms) == 2:
            mean = _maker(net, difference.bottoms[1], "ReduceMean")
            if mean.bottoms[:1] == difference.bottoms[:1] and _is_of_last_axes(mean, shapes):
                centring: tuple[Layer, ...] = (mean, difference, *casts)
                return (mean.bottoms[0], *centring)
    except _Different:
        pass
    return (blob,)


def _is_of_last_axes(mean: Layer, shapes: Mapping[str, Shape | None]) -> bool:
    """Whether a ReduceMean takes the mean of the last axes, and keeps them."""
    axes, shape = _axes(mean), shapes.get(mean.bottoms[0])
    if shape is not None:
        axes = [axis - len(shape) if axis >= 0 else axis for axis in axes]
    return bool(axes) and sorted(axes) == [*range(-len(axes), 0)] and bool(mean.param.attribute("keepdims", 1))


def _axes(mean: Layer) -> Sequence[int]:
    """The axes of a ReduceMean, as the node says them; none where it names none."""
    node: Node = mean.param
    return node.ints("axes") or node.integers(1) or ()


# Of whole numbers.


def _quantised(net: Net, matmul: Layer) -> list[Pattern]:
    """What multiplies a product of whole numbers by the scale of both, `s*w`; first with the bias that is added.

    Of the two scales s is that of data that a DynamicQuantizeLinear makes.
    """
    cast = _reader(net, matmul, "Cast")
    product = _reader(net, cast, "Mul")
    scales = [bottom for bottom in product.bottoms if bottom != cast.tops[0]]
    if len(scales) != 1:
        raise _Different
    scale = _maker(net, scales[0], "Mul")
    if _constant(scale) is None:
        raise _Different
    quantised = _maker(net, _read(scale), "DynamicQuantizeLinear")
    if matmul.bottoms[:1] != quantised.tops[:1]:
        raise _Different
    layers = (scale, matmul, cast, product)
    with suppress(_Different):
        bias = _reader(net, product, "Add")
        held = _constant(bias)
        sizes = bias.blobs.shapes[held.blob] if held is not None and held.blob >= 0 else ()
        if len(sizes) == 1 < sizes[0]:
            return [Pattern(QUANTISED, (*layers, bias)), Pattern(QUANTISED, layers)]
    return [Pattern(QUANTISED, layers)]


# Of what looks at what.


def _attention(net: Net, softmax: Layer) -> list[Pattern]:
    """What divides the products of queries and keys by a number and adds a mask to them."""
    masked = _maker(net, _read(softmax), "Add")
    for scores, mask in (masked.bottoms, masked.bottoms[::-1]) if len(masked.bottoms) == 2 else ():
        with suppress(_Different):
            scale = _maker(net, scores, "Div", "Mul")
            product = _maker(net, _read(scale), "MatMul")
            if _number(scale) is not None and len(product.bottoms) == 2:
                return [Pattern(ATTENTION, (product, scale, masked, softmax), _mask(net, mask))]
    raise _Different


def _mask(net: Net, blob: str) -> tuple[Layer, ...]:
    """The layers that make a mask to be added of one to be multiplied by, if it is written so."""
    with suppress(_Different):
        large = _maker(net, blob, "Mul")
        inverse = _maker(net, _read(large), "Sub")
        if _number(large) is not None and _number(inverse) is not None:
            return inverse, large
    return ()


AROUND: Mapping[str, Callable[[Net, Layer], list[Pattern]]] = {
    **dict.fromkeys(GATES, _gelu),
    "MatMulInteger": _quantised,
    "Softmax": _attention,
}
"""Operator -> the patterns around one, the largest first; around a Sqrt a normalisation, which shapes tell, too."""
