"""ONNX as a language of the algebra: what `bnfold.algebra.frontend` asks of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Operator, Window
from bnfold.net import Layer, LazyArray, Net, Shape
from bnfold.onnx import operators, rewriting
from bnfold.onnx.constants import SHAPE_ALONE
from bnfold.onnx.node import Data

if TYPE_CHECKING:
    from bnfold.onnx.node import Node
    from bnfold.onnx.read import OnnxOrigin


class OnnxFrontEnd:
    """The language of nets that come from ONNX files. Names are identity; constants are no blobs."""

    language = "ONNX"

    def prepare(self, context: FoldContext) -> None:
        """A MatMul and the bias behind it become one layer."""
        rewriting.fuse_biases(context)

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """What onnx's inference finds, negative where a size is unknown."""
        from bnfold.onnx.edition import types_of

        types = types_of(net)
        blobs = dict.fromkeys(net.inputs)
        blobs |= dict.fromkeys(blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops))
        return {blob: types.shapes.get(blob) for blob in blobs}

    def protected(self, net: Net) -> Mapping[str, str]:
        """What bodies of control flow capture, and what the part for training names."""
        origin: OnnxOrigin = net.origin
        outputs = set(net.outputs)
        why = {name: f"'{name}' is named outside of the graph's nodes" for name in origin.pinned if name not in outputs}
        for layer in net.layers:
            outside = len(layer.bottoms) - layer.param.inner
            why |= {blob: f"'{blob}' is read in a body of {layer}" for blob in layer.bottoms[outside:]}
        return why

    def taken_names(self, net: Net) -> Iterable[str]:
        """Every name of the file, those within bodies among them."""
        origin: OnnxOrigin = net.origin
        return origin.names

    def reads_values(self, layer: Layer, index: int) -> bool:
        """Whether a node reads more of a bottom than its shape or type."""
        place, slots = SHAPE_ALONE.get(layer.type, -1), layer.param.slots
        spared = slots[place] if 0 <= place < len(slots) else None
        return not isinstance(spared, Data) or spared.index != index

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a node is: `bnfold.onnx.operators`."""
        return operators.operator(layer, context)

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: npt.NDArray[np.float64] | None) -> None:
        """New constants for a node."""
        del net
        rewriting.absorb(layer, weight, bias)

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext) -> str:
        """Why an affine could not be written in the place of a node."""
        return rewriting.refuses(layer, affine, context)

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """One BatchNormalization, or a Mul and an Add, for what took others in; anything else stays as it is."""
        if composed:
            rewriting.rewrite(layer, affine, context)

    def stored_statistics(self, layer: Layer) -> Node | None:
        """Out of training mode."""
        return rewriting.stored_statistics(layer)

    def joins(self, layer: Layer, window: Window) -> bool:
        """Whether a node is a Conv, which can say every padding."""
        del window
        return layer.type == "Conv"

    def join(
        self, net: Net, layer: Layer, weight: LazyArray, bias: npt.NDArray[np.float64] | None, window: Window
    ) -> None:
        """New constants and attributes for a Conv."""
        del net
        rewriting.join(layer, weight, bias, window)

    def finish(self, context: FoldContext) -> None:
        """What was one layer with a bias is two nodes again; what was assumed is said once; kept constants stay."""
        rewriting.part_biases(context)
        origin: OnnxOrigin = context.net.origin
        if kept := origin.constants.keys() & set(context.keep):
            context.net.origin = replace(origin, pinned=origin.pinned | kept)
        context.note_assumed("by its stored statistics")

    def pickled(self, net: Net) -> tuple[Any, ...]:
        """As the model that would be written."""
        from io import BytesIO

        from bnfold.onnx.api import save_onnx
        from bnfold.onnx.read import load_bytes
        from bnfold.options import ReadOptions

        stream = BytesIO()
        save_onnx(net, stream)
        return load_bytes, (stream.getvalue(), ReadOptions(), net.file)


ONNX = OnnxFrontEnd()
