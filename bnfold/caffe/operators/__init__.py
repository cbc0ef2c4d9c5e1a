"""Caffe as a front end of the algebra: a layer as an operator, and back (`bnfold.algebra.frontend`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Opaque, Operator, Window
from bnfold.algebra.records import Blocked, require
from bnfold.caffe import rewriting
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import stored_statistics
from bnfold.caffe.operators.place import LayerContext
from bnfold.caffe.operators.shapes import known_shapes
from bnfold.caffe.operators.table import AFFINES, BACKWARD_ONLY, LINEAR, OPERATORS, PASSING, SHAPE_ONLY
from bnfold.errors import ModelError
from bnfold.net import Array, Layer, LazyArray, Net, Shape

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter

__all__ = ["AFFINES", "BACKWARD_ONLY", "CAFFE", "LINEAR", "OPERATORS", "PASSING", "Caffe", "LayerContext"]


@dataclass(frozen=True, slots=True)
class Caffe:
    """Caffe as a front end of the algebra (`bnfold.algebra.frontend`)."""

    language = "Caffe"

    def prepare(self, context: FoldContext) -> None:
        """Split every BatchNorm with a fused ReLU in two."""
        rewriting.unfuse_relus(context)

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """The shape of every blob."""
        return known_shapes(net)

    def protected(self, net: Net) -> Mapping[str, str]:
        """None: nothing captures a blob."""
        del net
        return {}

    def taken_names(self, net: Net) -> Iterable[str]:
        """None but those of blobs."""
        del net
        return ()

    def reads_values(self, layer: Layer, index: int) -> bool:
        """False for what says only how large something is to be."""
        return index not in SHAPE_ONLY.get(layer.type, ())

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a layer is.

        Raises:
            Blocked: the type is an affine's, but this layer is none.
            ModelError: its statistics make no sense.
        """
        read = OPERATORS.get(layer.type)
        if read is None:
            return Opaque(layer.opaque)
        try:
            require(not layer.opaque, layer.opaque)
            with np.errstate(all="ignore"):
                operator = read(LayerContext(layer, context))
            if isinstance(operator, Affine):
                require(operator.is_finite, "its scale or shift is not finite")
        except Blocked as blocked:
            if layer.type in AFFINES and len(layer.bottoms) == len(layer.tops) == 1:
                raise
            return Opaque(str(blocked))
        except ModelError as error:
            # A layer of known shape was checked already; behind an opaque one it is not ours to judge.
            if layer.type in AFFINES:
                raise
            return Opaque(str(error).removeprefix(f"{layer}: "))
        return operator

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None) -> None:
        """New blobs, and where a bias is new what Caffe needs beside it."""
        del net
        rewriting.absorb(layer, weight, bias)

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext) -> str:
        """Why no Scale could say it."""
        return rewriting.refuses(layer, affine, context)

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """As a Scale, if it took others in or is a BatchNorm."""
        if composed or layer.type in BATCHNORMS:
            rewriting.rewrite_as_scale(layer, affine, context, composed=composed)

    def stored_statistics(self, layer: Layer) -> LayerParameter | None:
        """With `use_global_stats: true`."""
        return stored_statistics(layer)

    def joins(self, layer: Layer, window: Window) -> bool:
        """Whether Caffe's fields can say the padding."""
        return rewriting.joins(layer, window)

    def join(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None, window: Window) -> None:
        """New blobs, and the sizes of the kernel and its padding."""
        del net
        rewriting.join(layer, weight, bias, window)

    def finish(self, context: FoldContext) -> None:
        """Blobs shared by name that came out different are no longer shared; what was assumed is said once."""
        rewriting.unshare(context)
        context.note_assumed("as use_global_stats: true")

    def pickled(self, net: Net) -> None:
        """Layer by layer: messages and arrays are values."""


CAFFE = Caffe()
