"""Collect an ONNX graph layer by layer: nodes, initialisers, names.

`Graph` is the whole, `Block` the nodes that one Caffe layer becomes. A layer function reads `block.bottoms`, adds
nodes, and returns the tensors that are its tops; closing the block gives those tensors the tops' names:

    def power(block):                       Given:   layer 'p' (Power), bottom x, top y
        y = block("Mul", x, scale)          Result:  p/mul: Mul(x, p/scale) -> p/mul
        return block("Add", y, shift)                p:     Add(p/mul, p/shift) -> y

Names are deterministic: the node that makes the first top has the layer's name, every other one `layer/step`; blobs
keep their names as tensors. Learned arrays stay what they are, views or lazy, until the model is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper

from bnfold.algebra.scaled import same_values
from bnfold.caffe.layers import UNKNOWN, canonical_axis
from bnfold.errors import WeightsError, counted
from bnfold.net import Array, DType, Layer, LazyArray, Names, Net, Shape, blobs_of, sizes
from bnfold.onnx.weight import ONNX_TYPES, Weight

# What a text of 100 bytes can ask for (a box for each pixel of a plane of 2^31) must meet an end. Published models stay
# far below either.
MAX_NUMBERS = 1 << 26
"""How many numbers all constants of a model may have that are computed here and not read from a caffemodel."""
MAX_NODES = 2_000_000


class Refused(Exception):
    """This layer cannot be said in ONNX as it is; the message says why, without naming the layer."""


class FixedBatch(Refused):
    """The layer writes the batch size into the model, where the user wants it open."""


class UnknownShape(Refused):
    """What the layer reads has no known shape, because a layer before it has no known form."""


@dataclass(slots=True, eq=False)
class Graph:
    """The nodes and initialisers of one network.

    Attributes:
        net: what is exported.
        shapes: blob -> shape; None where it is unknown, -1 where a size is only known at run time.
        opset: version of the standard operators.
        dtype: type of every float in the model.
        batched: the blobs whose first dimension is left open, with its name.
        nodes: in execution order.
        weights: initialisers by name, in order of first use.
    """

    net: Net
    shapes: Mapping[str, Shape | None]
    opset: int
    dtype: DType
    batched: Mapping[str, str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    computed: int = 0  # numbers in constants of our own
    tensor_names: Names = field(init=False)
    node_names: Names = field(init=False)
    _layer_names: set[str] = field(default_factory=set)  # that a node has already
    # An array, or the name by which it is shared, and its shape -> the weight.
    _learned: dict[tuple[int | str, Shape], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensor_names = Names(blobs_of(self.net), "_")
        self.node_names = Names((layer.name for layer in self.net.layers), "_")

    def node_of(self, layer: Layer) -> str:
        """The name of a layer's main node: the layer's, numbered where a layer in front of it has the same one."""
        if layer.name in self._layer_names:
            return self.node_names.new(layer.name)
        self._layer_names.add(layer.name)
        return layer.name

    def add_weight(self, name: str, stored: Array | LazyArray, shape: Shape, dtype: DType) -> str:
        """A new initialiser; its final name is returned."""
        name = self.tensor_names.new(name)
        self.weights[name] = Weight(name, stored, shape, dtype)
        return name

    def forget_weights(self, kept: int) -> None:
        """Take back all initialisers but the first `kept`; nodes are added when all of a layer's are made."""
        while len(self.weights) > kept:
            self.tensor_names.free(self.weights.popitem()[0])
        self._learned = {key: name for key, name in self._learned.items() if name in self.weights}

    def learned(self, layer: Layer, index: int, word: str, shape: Shape | None = None) -> str:
        """The initialiser of a learned blob; blobs that are one array, or shared by name and equal, are one."""
        stored = layer.blobs.stored[index]
        shape = tuple(stored.shape) if shape is None else shape
        share = layer.param_names[index]
        if found := self._learned.get((id(stored), shape)):
            return found
        if share and (found := self._learned.get((share, shape))) and same_values(self.weights[found].stored, stored):
            return found
        name = self.add_weight(f"{layer.name}/{word}", stored, shape, self.dtype)
        self._learned[id(stored), shape] = name
        if share:
            self._learned.setdefault((share, shape), name)
        return name


class Block:
    """The nodes that one layer becomes.

    Attributes:
        layer: the Caffe layer.
        bottoms: the tensors it reads.
        shapes: their shapes; `shape` is the first.
        tops: the shapes of its tops.
        opset, dtype: of the model.
    """

    __slots__ = ("bottoms", "dtype", "graph", "layer", "nodes", "opset")

    def __init__(self, graph: Graph, layer: Layer) -> None:
        self.graph, self.layer = graph, layer
        self.bottoms = list(layer.bottoms)
        self.opset, self.dtype = graph.opset, graph.dtype
        self.nodes: list[NodeProto] = []

    @property
    def bottom(self) -> str:
        """The first tensor that the layer reads."""
        return self.bottoms[0]

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the bottoms, -1 where a size is only known at run time. Raises UnknownShape."""
        return [_known(self.graph, blob) for blob in self.layer.bottoms]

    @property
    def shape(self) -> Shape:
        """The shape of the first bottom. Raises UnknownShape."""
        return _known(self.graph, self.layer.bottoms[0])

    @property
    def tops(self) -> list[Shape]:
        """The shapes of the tops. Raises UnknownShape."""
        return [_known(self.graph, blob) for blob in self.layer.tops]

    def require_known_top(self, reason: str) -> None:
        """Stop where the shape of what is read is known, and that of the top is not. Raises Refused, UnknownShape."""
        if self.shape and self.graph.shapes.get(self.layer.tops[0]) is None:
            raise Refused(reason)

    @property
    def rank(self) -> int:
        """The number of axes of the first bottom."""
        return len(self.shape)

    def axis(self, number: int) -> int:
        """An axis of the first bottom, counted from the front. Raises ModelError where there is no such axis."""
        return canonical_axis(number, self.rank, self.layer)

    def __call__(self, operator: str, *inputs: str, step: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that tensor."""
        return self.several(operator, *inputs, outputs=1, step=step, **attributes)[0]

    def several(self, operator: str, *inputs: str, outputs: int, step: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs and return those tensors."""
        name = f"{self.layer.name}/{step or operator.lower()}"
        if len(self.graph.nodes) + len(self.nodes) >= MAX_NODES:
            raise Refused(f"the model would have more than {MAX_NODES:,} nodes")
        numbered = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        tensors = [self.graph.tensor_names.new(tensor) for tensor in numbered]
        node = helper.make_node(
            operator,
            list(inputs),
            tensors,
            name=self.graph.node_names.new(name),
            doc_string=str(self.layer),
            domain=attributes.pop("domain", None),
            **attributes,
        )
        self.nodes.append(node)
        return tensors

    def floats(self, values: npt.ArrayLike, step: str) -> str:
        """A constant of the model's float type."""
        return self._stored(np.asarray(values, dtype=self.dtype), step)

    def floats32(self, values: npt.ArrayLike, step: str) -> str:
        """A constant that is float32 whatever the model's type is, as some inputs must be (Resize's scales)."""
        return self._stored(np.asarray(values, dtype=np.float32), step)

    def integers(self, values: npt.ArrayLike, step: str) -> str:
        """A constant of type int64: shapes, axes, indices."""
        return self._stored(np.asarray(values, dtype=np.int64), step)

    def _stored(self, array: Array, step: str) -> str:
        self._count(array.size)
        return self.graph.add_weight(f"{self.layer.name}/{step}", array, array.shape, array.dtype)

    def _count(self, count: int) -> None:
        self.affords(count)
        self.graph.computed += count

    def affords(self, count: int) -> None:
        """Refuse constants of `count` numbers where no model has so many; asked before they are computed."""
        if self.graph.computed + count > MAX_NUMBERS:
            raise Refused(f"it would take constants of {count:,} numbers, and a model may have {MAX_NUMBERS:,} in all")

    def images(self, index: int = 0) -> tuple[int, int, int, int]:
        """The shape of a bottom of images, (N, C, H, W)."""
        shape = self.shapes[index]
        if len(shape) != 4:
            raise Refused(f"a bottom has {counted(len(shape), 'axis')}, and it takes images, of 4")
        return shape[0], shape[1], shape[2], shape[3]

    def stored_shape(self, index: int, word: str) -> Shape:
        """The shape of the layer's blob `index` as it was loaded."""
        if index >= len(self.layer.blobs):
            raise WeightsError(f"{self.layer}: it has no learned {word}; load the net with its caffemodel")
        return tuple(self.layer.blobs.shapes[index])

    def as_float(self, x: str, step: str = "") -> str:
        """`x` in the model's float type."""
        return self("Cast", x, to=ONNX_TYPES[self.dtype.name], step=step)

    def as_integer(self, x: str, step: str = "") -> str:
        """`x` as int64, for indices."""
        return self("Cast", x, to=ONNX_TYPES["int64"], step=step)

    def as_float32(self, x: str, step: str) -> str:
        """`x` as float32, for operators that take nothing else."""
        return x if self.dtype == np.float32 else self("Cast", x, to=ONNX_TYPES["float32"], step=step)

    def constant(self, values: npt.ArrayLike) -> str:
        """A node that gives a value of the model's float type: for tops that do not depend on any input."""
        array = np.asarray(values, dtype=self.dtype)
        self._count(array.size)
        return self("Constant", value=numpy_helper.from_array(array))

    def learned(self, index: int, word: str, shape: Shape | None = None) -> str:
        """The initialiser of the layer's blob `index`, seen in `shape`."""
        stored = self.stored_shape(index, word)
        if shape is not None and math.prod(shape) != math.prod(stored):
            raise Refused(f"its {word} has the shape {sizes(stored)}, and {sizes(shape)} is needed")
        return self.graph.learned(self.layer, index, word, shape)

    @property
    def is_double(self) -> bool:
        """Whether the model is float64, which only onnx's own evaluator runs: forms that it gets wrong are avoided."""
        return self.dtype == np.float64

    @property
    def batched(self) -> bool:
        """Whether the first bottom's first dimension is known only when the model runs."""
        return self.bottom in self.graph.batched or (self.graph.shapes.get(self.bottom) or ())[:1] == (UNKNOWN,)

    def fixes_batch(self, reason: str, axes: Collection[int] = (0,)) -> None:
        """Say that what follows writes the sizes of some axes into the model, which must not be that of an open batch.

        Raises:
            FixedBatch: it is.
        """
        if 0 in axes and any(bottom in self.graph.batched for bottom in self.bottoms):
            raise FixedBatch(f"{reason}, so the batch size cannot stay open")

    def close(self, results: str | Sequence[str]) -> None:
        """Give the tensors that the layer function returned the names of the tops, and add the nodes to the graph."""
        returned = [results] if isinstance(results, str) else list(results)
        if len(returned) != len(self.layer.tops):
            raise Refused(f"it has {len(self.layer.tops)} tops, and layers of this type make {len(returned)}")
        made = {tensor for node in self.nodes for tensor in node.output}
        names: dict[str, str] = {}
        for tensor, top in zip(returned, self.layer.tops, strict=True):
            if tensor in made and tensor not in names:
                names[tensor] = top
            else:
                alias = self("Identity", names.get(tensor, tensor))
                names[alias] = top
        self._rename(names)
        self.graph.nodes.extend(self.nodes)

    def _rename(self, names: Mapping[str, str]) -> None:
        for node in self.nodes:
            for tensors in (node.input, node.output):
                tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
        for top in self.layer.tops[:1]:
            maker = next(node for node in self.nodes if top in node.output)
            maker.name = self.graph.node_of(self.layer)


LayerFunction = Callable[[Block], str | Sequence[str]]
"""Adds the nodes of a layer; gives the tensors that are its tops. Raises Refused, or WeightsError for damaged blobs."""


def _known(graph: Graph, blob: str) -> Shape:
    shape = graph.shapes.get(blob)
    if shape is None:
        raise UnknownShape(f"the shape of blob '{blob}' is not known")
    return shape
