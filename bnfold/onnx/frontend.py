"""ONNX as a language of the algebra: what `bnfold.algebra.frontend` asks of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext, FrontEnd, InnerNet
from bnfold.algebra.operators import Alias, Clip, Constant, Move, Opaque, Operator, Pass, Window
from bnfold.algebra.records import Blocked
from bnfold.algebra.scaled import Rounded, exact_values, why_unstorable
from bnfold.errors import counted, listed
from bnfold.net import Array, Blobs, DType, Layer, LazyArray, Net, Shape, blobs_of
from bnfold.onnx.biases import fuse_biases, part_biases
from bnfold.onnx.bodies import bodies_of
from bnfold.onnx.casts import drop_casts, pair_casts
from bnfold.onnx.constants import ELEMENTWISE, shape_alone
from bnfold.onnx.detached_constants import attach_constants, detach_constants
from bnfold.onnx.edition import types_of
from bnfold.onnx.file import element_type
from bnfold.onnx.node import (
    BIASES,
    RECURRENT,
    STANDARD,
    WEIGHTS,
    BottomInput,
    ConstantInput,
    Node,
    Slot,
    is_float,
    why_misstated,
)
from bnfold.onnx.operators import OPERATORS, why_opaque, why_unread
from bnfold.onnx.operators.affine import is_in_training
from bnfold.onnx.operators.context import DEQUANTISING, NodeContext, Unfit
from bnfold.onnx.operators.linear import in_pattern
from bnfold.onnx.operators.quantised import STORED, finish_rescaled, rescale
from bnfold.onnx.origin import OnnxOrigin
from bnfold.onnx.patterns import SCALED_LAST, find_patterns
from bnfold.onnx.shapes import Types
from bnfold.onnx.sizes import MOVING
from bnfold.onnx.stale_sizes import edited_layers
from bnfold.onnx.write import write_stream
from bnfold.options import ReadOptions


class OnnxFrontEnd(FrontEnd):
    """The language of nets that come from ONNX files. Names are identity; constants are no blobs.

    Args:
        read: what makes a net of a model in memory, by which a pickled net is made again.
    """

    language = "ONNX"
    param_type = Node
    origin_type = OnnxOrigin
    outputs_are_unread = False

    def __init__(self, read: Callable[[bytes, ReadOptions, str], Net]) -> None:
        self._read = read

    def prepare(self, context: FoldContext) -> None:
        """A MatMul and the bias behind it become one layer, constants that are joined with data layers of their own.

        What a program has changed is from now on what was read, as far as the sizes of the file are no more believed.
        """
        types = types_of(context.net)
        context.types = {
            id(layer): (_element(types, layer.bottoms), _element(types, layer.tops)) for layer in context.net.layers
        }
        context.size_arithmetic = set(_size_arithmetic(context.net))
        for layer in edited_layers(context.net) if types is not context.net.origin.types else ():
            layer.param, layer.source = layer.param.edited(), layer.source._replace(bottoms=tuple(layer.bottoms))
        self._find_patterns(context, types)
        context.casts = pair_casts(context)
        named = set(blobs_of(context.net))
        fuse_biases(context)
        detach_constants(context)
        context.shapes |= {blob: types.shapes.get(blob) for blob in blobs_of(context.net) if blob in named}

    def _find_patterns(self, context: FoldContext, types: Types) -> None:
        """Note the layers of patterns that runtimes compute as one node, and say how many patterns there are."""
        fixed = {*context.net.outputs, *self.protected(context.net)}
        found = [*find_patterns(context.net, types.shapes, fixed)]
        context.patterns = {
            id(layer): pattern.name for pattern in found for layer in (*pattern.layers, *pattern.shared)
        }
        if found:
            counts = Counter(pattern.name for pattern in found)
            named = listed([counted(count, name) for name, count in counts.items()])
            each, stay, them = (" each", "stay", "them") if len(found) > 1 else ("", "stays", "it")
            context.notes.append(
                f"{named}, written as several nodes{each}, {stay} so: runtimes recognise {them} and compute "
                f"{each.strip() or them} as one node"
            )

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """What onnx's inference finds, negative where a size is unknown."""
        types = types_of(net)
        return {blob: types.shapes.get(blob) for blob in blobs_of(net)}

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
        place, slots = shape_alone(layer.type), layer.param.slots
        spared = slots[place] if 0 <= place < len(slots) else None
        return not isinstance(spared, BottomInput) or spared.index != index

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a node is: a row of `bnfold.onnx.operators`.

        Raises:
            Blocked: it is an affine's type, and no affine as it stands.
        """
        rule = OPERATORS.get(layer.type)
        if rule is None:
            return Opaque(STORED if layer.type in DEQUANTISING and not layer.bottoms else why_opaque(layer.type))
        if why := why_unread(layer.type, layer.param.opset) or why_misstated(layer.param.proto, layer.param.opset):
            if layer.type == "BatchNormalization":
                raise Blocked(why)
            return Opaque(why)
        if not layer.tops:
            return Opaque("it makes nothing")
        place = NodeContext(layer, context)
        try:
            found = rule(place)
        except Unfit as unfit:
            return Opaque(str(unfit))
        except (ArithmeticError, LookupError, ValueError):
            return Opaque("its attributes and inputs do not fit together")
        if isinstance(found, Alias | Move | Pass) and place.data(0) != 0:
            return Opaque("it reads a constant")
        if isinstance(found, Affine) and len(layer.bottoms) != 1:
            return Opaque("it does not read one blob")
        if isinstance(found, Affine) and id(layer) in context.size_arithmetic:
            return Opaque("it computes with sizes")
        if isinstance(found, Affine) and id(layer) in context.patterns:
            name = context.patterns[id(layer)]
            return in_pattern(place, name, scaled_last=name in SCALED_LAST)
        return found if layer.bottoms or isinstance(found, Constant) else Opaque("it reads nothing but constants")

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None) -> None:
        """New constants; alpha and beta of a Gemm are in them. Some layers have them as attributes."""
        node: Node = layer.param
        if layer.type in _ATTRIBUTES:
            named = zip(_ATTRIBUTES[layer.type], (exact_values(weight), bias), strict=False)
            changed: dict[str, Any] = {name: values.reshape(-1) for name, values in named if values is not None}
            if not layer.type.startswith("ai.onnx.ml."):
                changed = {name: float(values[0]) for name, values in changed.items()}
            layer.param = node.rewritten(**changed)
            return
        place = WEIGHTS.get(layer.type, 1 if isinstance(node.slots[0], BottomInput) else 0)
        stored, slots, dtype = list(layer.blobs.stored), list(node.slots), weight.dtype
        held = node.slots[place] if place is not None else None
        if isinstance(held, BottomInput):
            dtype = rescale(net, layer, held.index, weight)
        elif place is not None:
            _put(slots, stored, place, weight)
        if bias is not None:
            written = np.ascontiguousarray(_as_stored(layer, bias))
            _put(slots, stored, BIASES.get(layer.type, 2), Rounded(written, dtype))
        layer.blobs = Blobs(stored)
        if node.proto.op_type in {"Gemm", "FusedGemm", "FusedMatMul"}:
            said = [] if isinstance(held, BottomInput) else ["alpha"]
            node = node.rewritten(*said, *(["beta"] if bias is not None else []))
        layer.param = replace(node, slots=tuple(slots))

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext, parts: Sequence[Affine] = ()) -> str:
        """Why an affine could not be written in the place of a node; empty if it can."""
        dtype = _type_of(layer, context)
        if layer.type == SCALER and _scaler_of(affine) is not None:
            return ""
        if layer.param.proto.domain not in STANDARD:
            return "together they would be an operator of another domain"
        if dtype is None:
            return "the type of its values is unknown"
        if reason := why_unstorable(affine, parts, dtype):
            return reason
        if parts and _may_enlarge(layer, affine, parts[0], context):
            return "together they would have as many values as sizes that were given, which the model leaves open"
        if _channels(layer, affine, context) is None:
            if affine.shape and _shape_of(layer, context) is None:
                return f"the shape of '{layer.bottoms[0]}' is unknown"
            if not affine.keeps_zero and not affine.sign:
                return "together they would be a factor and a summand, which are two nodes as before"
        return ""

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """Write an affine that took others in as a BatchNormalization, or along another axis as a Mul, Add or Sub.

        A BatchNormalization in training that was taken by its stored statistics has these from now on.
        """
        if not composed:
            layer.param = self.stored_statistics(layer) or layer.param
            return
        if layer.type == SCALER and (attributes := _scaler_of(affine)) is not None:
            layer.param = layer.param.rewritten(**attributes)
            return
        dtype = _type_of(layer, context)
        assert dtype is not None
        channels = _channels(layer, affine, context)
        if channels is not None:
            if layer.type == "BatchNormalization":  # whose parameters may be of a wider type than what it reads
                dtype = layer.blobs.stored[0].dtype
            both = [np.broadcast_to(part.reshape(-1), (channels,)) for part in (affine.scale, affine.shift)]
            _become(layer, "BatchNormalization", [*both, np.zeros(channels), np.ones(channels)], dtype, epsilon=0.0)
            return
        shape = _shape_of(layer, context)
        assert shape is not None or not affine.shape
        assert affine.keeps_zero or affine.sign, "a factor and a summand along no channels, which `refuses` stops"
        summing = "Add" if affine.sign > 0 else "Sub"
        op_type, values = ("Mul", affine.scale) if affine.keeps_zero else (summing, affine.shift)
        _become(layer, op_type, [_trailing(values, len(shape or ()))], dtype)

    def clip(self, layer: Layer, clip: Clip) -> None:
        """New attributes or inputs of a Clip, or a Max or a Min of another number."""
        node: Node = layer.param
        bounds = [None if np.isinf(bound) else bound for bound in (clip.low, clip.high)]
        if layer.type == "Clip" and node.opset < 11:
            changed: dict[str, Any] = {
                name: bound for name, bound in zip(("min", "max"), bounds, strict=True) if bound is not None
            }
            layer.param = node.rewritten("min", "max", **changed)
            return
        if layer.type != "Clip":
            layer.type = "Min" if bounds[0] is None else "Max"
            node = node.rewritten(op_type=layer.type)
            bounds = [bound for bound in bounds if bound is not None]
        slots: list[Slot] = [BottomInput(0), *[None] * len(bounds)]
        stored: list[Array | LazyArray] = []
        for place, bound in enumerate(bounds, 1):
            if bound is not None:
                old = node.constant(place) or node.constant(0) or ConstantInput("", None)
                blob = layer.blobs.stored[old.blob] if old.blob >= 0 else Rounded(np.array(np.nan), clip.dtype)
                slots[place] = replace(old, blob=len(stored))
                same = bool(np.all(exact_values(blob) == bound))
                stored.append(blob if same else Rounded(np.full(blob.shape, bound), clip.dtype))
        while slots[-1] is None:
            del slots[-1]
        layer.param, layer.blobs = replace(node, slots=tuple(slots)), Blobs(stored)

    def stored_statistics(self, layer: Layer) -> Node | None:
        """A BatchNormalization in training mode without it, None for every other node."""
        node: Node = layer.param
        if layer.type != "BatchNormalization" or not is_in_training(node):
            return None
        node = node.rewritten("training_mode")
        del node.proto.output[1:]  # what else it gives in training mode has no name
        return replace(node, outputs=node.outputs[:1])

    def joins(self, layer: Layer, window: Window) -> bool:
        """Whether a node is a Conv, which can say every padding."""
        del window
        return layer.type == "Conv"

    def join(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None, window: Window) -> None:
        """New constants for a Conv, and attributes; the last axes of the weight say the kernel's size."""
        self.absorb(net, layer, weight, bias)
        before, after = zip(*window.pads, strict=True)
        layer.param = layer.param.rewritten(
            "auto_pad",
            dilations=window.dilation,
            group=window.group,
            kernel_shape=weight.shape[2:],
            pads=(*before, *after),
            strides=window.stride,
        )

    def drop_emptied(self, context: FoldContext) -> Sequence[Layer]:
        """Pairs of Casts."""
        return drop_casts(context)

    def finish(self, context: FoldContext) -> None:
        """What `prepare` did is undone; what was assumed is said once; kept constants stay."""
        attach_constants(context.net)
        finish_rescaled(context.net)
        part_biases(context)
        for layer in context.net.layers:
            if layer.param.replaces is not None:
                layer.param = replace(layer.param, shaped=layer.blobs.shapes)
        origin: OnnxOrigin = context.net.origin
        if kept := origin.constants.keys() & set(context.keep):
            context.net.origin = replace(origin, pinned=origin.pinned | kept)
        context.note_assumed("by its stored statistics")

    def bodies(self, net: Net) -> Iterable[InnerNet]:
        """Those of If, Loop and Scan."""
        return bodies_of(net, self._read)

    def pickled(self, net: Net) -> tuple[Any, ...]:
        """As the model that would be written, and what was said when it was read of what is left."""
        stream, given = BytesIO(), net.origin.options
        write_stream(net, stream, inside=True)
        shapes = {name: tuple(shape) for name, shape in (given.input_shapes or {}).items() if name in net.inputs}
        options = ReadOptions(batch=given.batch, freeze_initializers=given.freeze_initializers, input_shapes=shapes)
        return self._read, (stream.getvalue(), options, net.file)


def _size_arithmetic(net: Net) -> Iterator[int]:
    """The layers, by identity, that give sizes, and those that compute with nothing else, whose values are rounded.

    Given:   Shape -> Gather -> Cast -> Div -> Floor -> Cast -> Slice
    Result:  all in front of the Slice; what is as many values as a size says is a blob again
    """
    sizes: set[str] = set()
    for layer in net.layers:
        alone = layer.type in _ARITHMETIC and layer.bottoms and sizes.issuperset(layer.bottoms)
        if alone or layer.type in {"Shape", "Size"}:
            sizes.update(layer.tops)
            yield id(layer)


_ATTRIBUTES = {
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("gamma",),
    **dict.fromkeys(("ai.onnx.ml.LinearClassifier", "ai.onnx.ml.LinearRegressor"), ("coefficients", "intercepts")),
}
"""What weight and bias are called where they are attributes of a node."""

SCALER = "ai.onnx.ml.Scaler"
_ARITHMETIC = frozenset({*ELEMENTWISE, *MOVING, "Concat", "Mod", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"})


def _element(types: Types, blobs: Sequence[str]) -> int:
    """ONNX's number of the type of the first of some blobs; 0 where it is unknown."""
    return types.elements.get(blobs[0], 0) if blobs else 0


def _put(slots: list[Slot], stored: list[Array | LazyArray], place: int, values: LazyArray) -> None:
    """Have a place of a node's inputs hold new values."""
    present = slots[place] if place < len(slots) else None
    if isinstance(present, ConstantInput) and present.blob >= 0:
        stored[present.blob] = values
        return
    slots += [None] * (place + 1 - len(slots))
    slots[place] = ConstantInput("", None, len(stored))
    stored.append(values)


def _as_stored(layer: Layer, bias: Array) -> Array:
    """A bias as the node wants it: a vector, (M, 1) along the rows of a Gemm or MatMul, or a matrix.

    A recurrent node has one for each direction, and behind it another that goes with the state and stays.
    """
    if layer.type in RECURRENT:
        _, directions, _, rows = bias.shape
        known = layer.param.constant(3)
        present = np.zeros((directions, 2 * rows)) if known is None else exact_values(layer.blobs.stored[known.blob])
        return np.concatenate([bias.reshape(directions, rows), present[:, rows:]], axis=1)
    node: Node = layer.param
    left = node.proto.op_type in {"Gemm", "FusedGemm", "MatMul"} and isinstance(node.slots[0], ConstantInput)
    if node.proto.op_type in {"Gemm", "FusedGemm"} and bias.size != bias.shape[0 if left else 1]:
        return bias
    return bias.reshape(-1, 1) if left else bias.reshape(-1)


def _channels(layer: Layer, affine: Affine, context: FoldContext) -> int | None:
    """How many channels a BatchNormalization in the place of an affine has; None where it cannot be one."""
    dtype, shape = _type_of(layer, context), _shape_of(layer, context)
    if dtype is None or (dtype.name == "bfloat16" and layer.param.opset < 14):
        return None
    if shape is not None and len(shape) < 2:
        return None
    sizes = affine.shape
    varies = [axis for axis, size in enumerate(sizes) if size != 1]
    if not varies and context.settled and shape is not None and (len(shape) > 2 or shape[1] == 1):
        # Two passes over planes cost more than four numbers for each of them.
        both = not affine.keeps_zero and not affine.sign
        return shape[1] if both and shape[1] > 0 else None
    return sizes[1] if varies == [1] else None


def _scaler_of(affine: Affine) -> dict[str, Array] | None:
    """The attributes of a Scaler that computes an affine along columns without a factor of 0."""
    if affine.shape[:1] not in ((), (1,)) or len(affine.shape) > 2 or not bool((affine.scale != 0).all()):
        return None
    offset = -affine.shift / affine.scale
    both = {"scale": affine.scale + 0 * offset, "offset": offset}
    found = {name: values.reshape(-1).astype(np.float32) for name, values in both.items()}
    return found if all(bool(np.isfinite(values).all()) for values in found.values()) else None


def _may_enlarge(layer: Layer, affine: Affine, own: Affine, context: FoldContext) -> bool:
    """Whether an affine in the place of a node's own would broadcast an axis whose size the file does not state."""
    shape, sizes = _shape_of(layer, context), own.shape + (1,) * len(affine.shape)
    return shape is not None and any(
        size not in (1, before, declared) for size, before, declared in zip(affine.shape, sizes, shape, strict=False)
    )


def _trailing(values: Array, rank: int) -> Array:
    """Array laid over a blob's first axes as ONNX lays them, over its last."""
    sizes = values.shape + (1,) * (rank - values.ndim)
    first = next((axis for axis, size in enumerate(sizes) if size != 1), rank)
    return values.reshape(sizes[first:])


def _become(layer: Layer, op_type: str, values: Sequence[Array], dtype: DType, **attributes: Any) -> None:
    node: Node = layer.param.rewritten(*layer.param.attributes, op_type=op_type, **attributes)
    slots: tuple[Slot, ...] = (BottomInput(0), *(ConstantInput("", None, index) for index in range(len(values))))
    slots = slots[::-1] if op_type == "Sub" else slots  # the constant less what is read
    layer.type = op_type
    layer.blobs = Blobs(Rounded(np.array(one, order="C"), dtype) for one in values)
    layer.param = replace(node, slots=slots, outputs=(0,))


def _shape_of(layer: Layer, context: FoldContext) -> Shape | None:
    """The shape of what an affine reads, as the file says it, which is that of what it gives.

    What it reads changes with each affine that it takes in from in front, of which one alone may tell a size: a
    BatchNormalization has as many channels as parameters. What it gives stays, and so does what is known of that.
    """
    place, read, given = NodeContext(layer, context), None, None
    with suppress(Unfit):
        read = place.bottom()
    with suppress(Unfit):
        given = place.top()
    if read is None:
        return given or (context.shapes.get(layer.source.bottoms[0]) if layer.source is not None else None)
    if given is None or len(given) != len(read):
        return read
    return tuple(own if size < 0 else size for size, own in zip(read, given, strict=True))


def _type_of(layer: Layer, context: FoldContext) -> DType | None:
    """The float type of what a node gives."""
    found = element_type(context.types.get(id(layer), (0, 0))[1])
    if found is None:
        return next((blob.dtype for blob in layer.blobs.stored), None)
    return found if is_float(found) else None
