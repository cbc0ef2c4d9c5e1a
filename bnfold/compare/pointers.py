"""What the indices of a blob point into, and how they are read: of ArgMax, of a pooling's mask, of steps of a stair.

A value of Ceil, Floor, Round, QuantizeLinear or a Cast to integers is an index, too: it says in which step of a
stair a value lies, and so is one of DynamicQuantizeLinear, whose steps follow from all that it reads. The value at
another step is the one of that step that is nearest: a value beside an edge may lie on either side of it. So is Sign,
and a flag of Caffe's Threshold, of Greater, Less and Equal: a stair of two steps, at a limit that is stored or
computed. Of two blobs that are computed the larger range counts. The flags of a Hardmax say which value is the largest.
A value of ThresholdedRelu or Shrink, or of a comparison and a choice that are one, says on which side of a limit lies
what it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.models import Model, values_stored
from bnfold.compare.probing import jump_of
from bnfold.net import Array, DType, Shape
from bnfold.options import ROUNDING
from bnfold.runtime import ELEMENTS

if TYPE_CHECKING:
    from onnx import NodeProto

Look = Callable[[Array, Array], Array | None]
"""(values, indices) -> the values at the indices, in the shape of the indices; None where they cannot be read so."""
Reader = Callable[[Array], Array | None]
"""Places among indices, as if these had one axis -> the values at the indices there; None as for a `Look`."""
ORIGIN = np.zeros(())
"""The limit of a Sign, and of the difference of two blobs."""


class Pointer(NamedTuple):
    """How the indices of a blob are read.

    Attributes:
        values: the blob that they point into, or two, whose difference counts.
        look: gives the values at some indices; None where steps do.
        what: what a tie is, for the report.
        limit: of flags, where one turns into the other.
        steps: of values that were rounded to steps, by which each is read where it lies.
        part: of values, on which of several sides they are; others of the same side are judged as any value is.
        steps_of: gives these steps of values and indices, where they follow from them.
    """

    values: tuple[str, ...]
    look: Look | None
    what: str = "indices differ on equal values"
    limit: Array = ORIGIN
    steps: Steps | None = None
    part: Callable[[Array], Array] | None = None
    steps_of: Callable[[Array, Array], Steps | None] | None = None

    def reader(self, values: Array, indices: Array, kind: DType) -> Reader | None:
        """What gives the values at some of the indices; None where they cannot be read so.

        Args:
            values: what they point into.
            indices: of either network.
            kind: the type that they have in the network of the values, of which steps end with that.
        """
        if self.look is not None:
            found = self.look(values, indices)
            return None if found is None else np.broadcast_to(found, indices.shape).reshape(-1).take
        steps = self.steps if self.steps_of is None else self.steps_of(values, indices)
        if steps is None or values.shape != indices.shape:
            return None
        flat, whole = values.reshape(-1), indices.reshape(-1)
        return lambda places: on_step(flat[places], whole[places], steps=steps.at(places, values.shape), kind=kind)


class Steps(NamedTuple):
    """Where the steps of a blob lie.

    Attributes:
        sizes: the scale and the zero point of QuantizeLinear, a number each or one for each place along `axis`.
        axis: of the sizes.
        edges: from where to where a step reaches; None for what is cut off towards 0 and becomes an integer.
        numbers: all that there are, rising, where they are not all whole numbers of a type.
    """

    sizes: Sequence[Array] = ()
    axis: int = 1
    numbers: Array | None = None
    edges: tuple[float, float] | None = (-0.5, 0.5)

    @property
    def have_ends(self) -> bool:
        """Whether there is a first and a last one."""
        return bool(self.sizes) or self.numbers is not None

    def at(self, places: Array, shape: Shape) -> Steps:
        """Those of some places of a blob, which has its axes in one."""
        if all(size.size == 1 for size in self.sizes):
            return self
        behind = prod(shape[self.axis % len(shape) + 1 :])
        along = places // behind % shape[self.axis % len(shape)]
        each = [size.reshape(-1)[along] if size.size > 1 else size for size in self.sizes]
        return self._replace(sizes=each, axis=0)

    def allowed(self, values: Array, whole: DType, tolerance: float, by_sample: bool, least: float) -> Array:
        """How far two values may be apart that are equal, in a shape that broadcasts to theirs.

        Values beyond the last step are cut off, and channels have steps of their own: of those that are between the
        steps of one channel the tolerance is a share, or rounding is one of all that it has.
        """
        by_channel = any(size.size > 1 for size in self.sizes)
        wide = values if values.dtype.name in ("float32", "float64") else values.astype(np.float64)
        kept = {0} if by_sample else set[int]()
        kept |= {self.axis % wide.ndim} if by_channel and wide.ndim else set()
        axes = tuple(axis for axis in range(wide.ndim) if axis not in kept)

        def extent(of: Array) -> Array:
            sound = np.isfinite(of)
            low = of.min(axis=axes, keepdims=True, where=sound, initial=least).astype(np.float64)
            high = of.max(axis=axes, keepdims=True, where=sound, initial=-least).astype(np.float64)
            size = np.where(high > low, high - low, np.maximum(np.abs(low), np.abs(high)))
            return np.where(np.isfinite(size), size, 0.0)

        unit = ROUNDING.get(values.dtype.name, ROUNDING["float32"])
        # Ends of float64 would make a copy twice as large.
        ends = [end.astype(wide.dtype) for end in self.ends(whole, wide.ndim)]
        between = 2 * tolerance * extent(np.clip(wide, *ends))
        return np.minimum(2 * tolerance * extent(wide), np.maximum(between, UNITS_BETWEEN * unit * extent(wide)))

    def ends(self, whole: DType, rank: int) -> tuple[Array, Array]:
        """The values of the first and the last step."""
        if self.numbers is not None:
            first, last = float(self.numbers[0]), float(self.numbers[-1])
        elif whole.kind in "iu" and self.sizes:
            first, last = float(np.iinfo(whole).min), float(np.iinfo(whole).max)
        else:
            first, last = -np.inf, np.inf
        scale, zero = self.scale_and_zero(rank)
        with np.errstate(invalid="ignore"):  # of a scale of 0
            low, high = ((end - zero) * scale for end in (first, last))
        return np.fmin(low, high), np.fmax(low, high)

    def scale_and_zero(self, rank: int) -> list[Array]:
        """The scale and the zero point: one number for all, or one for each place along the axis."""
        behind = max(rank - 1 - self.axis % max(rank, 1), 0)
        known = (*self.sizes, *UNSCALED[len(self.sizes) :])
        return [size.astype(np.float64).reshape(-1, *[1] * behind) for size in known]


def pointer_of(model: Model, blob: str) -> Pointer | None:
    """What a blob points into, if it holds indices: ArgMax, TopK, the mask of a MAX pooling, steps; else None."""
    writer = model.writers.get(blob)
    read = model.reads.get(blob, ())
    if writer is None or not read or not all(name in model.writers or name in model.feeds for name in read):
        return None
    if model.net is None:
        rule = ONNX_POINTERS.get(writer.type)
        if rule is None:
            return None
        from bnfold.onnx.narrow import STORED

        return rule(model, blob, model.makers.get(blob + STORED) or model.makers[blob])
    values = model.reads[blob][:1]
    layer = model.net.producer(blob)
    if layer is None:
        return None
    if layer.type == "ArgMax" and not layer.param.argmax_param.out_max_val:
        param = layer.param.argmax_param
        look = partial(along_axis, axis=param.axis, keepdims=True) if param.HasField("axis") else along_classes
        return Pointer(values, look)
    if layer.type == "Threshold":
        limit = np.asarray(layer.param.threshold_param.threshold)
        return Pointer(values, partial(on_side, limit=limit, turns=(False, True)), NEAR_LIMIT, limit)
    return Pointer(values, in_plane) if layer.type == "Pooling" and layer.tops.index(blob) == 1 else None


def _onnx_indices(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """How the indices of an ONNX node are read; None where it gives none."""
    if node.op_type in {"MaxPool", "TopK"} and node.output[0] == blob:
        return None  # the values themselves
    said = {attribute.name: attribute.i for attribute in node.attribute}
    values = model.reads[blob][:1]
    if node.op_type == "MaxPool":
        return Pointer(values, in_tensor) if not said.get("storage_order") else None
    is_top = node.op_type == "TopK"
    whole = is_top or bool(said.get("keepdims", 1))
    return Pointer(values, partial(along_axis, axis=said.get("axis", -1 if is_top else 0), keepdims=whole))


def _onnx_steps(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """How the steps of an ONNX node are read; None where they are of sizes that are computed."""
    from bnfold.onnx.narrow import narrow_numbers

    numbers = narrow_numbers(model.proto, blob)
    target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
    if target is not None and numbers is None and (target not in ELEMENTS or ELEMENTS[target].kind not in "iu"):
        return None  # it rounds, or widens
    names = [name for name in node.input[1:] if name]
    known = known_values(model, names)
    if any(name not in known or known[name].ndim > 1 for name in names):
        return None
    sizes = [known[name] for name in names]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    steps = Steps(sizes, axis, numbers, STEPS[node.op_type])
    return Pointer(model.reads[blob][:1], None, NEAR_EDGE, steps=steps)


def _onnx_own_steps(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """How the steps of a DynamicQuantizeLinear are read, and its zero point; its scale is compared as it is."""
    values = model.reads[blob][:1]
    if blob == node.output[0]:
        return Pointer(values, None, NEAR_EDGE, steps_of=own_steps)
    return Pointer(values, at_zero, NEAR_EDGE) if blob == node.output[2] else None


def _onnx_flags(model: Model, _: str, node: NodeProto) -> Pointer | None:
    """What the flags of a comparison, or the signs, say of which values; None where these are stored."""
    known = known_values(model, node.input)
    values = tuple(name for name in node.input if name not in known)
    if not values:
        return None
    limit, turns = next(iter(known.values()), ORIGIN), TURNS[node.op_type]
    if node.input[0] in known:  # the limit is above
        turns = turns[::-1]
    return Pointer(values, partial(on_side, limit=limit, turns=turns), NEAR_LIMIT, limit)


def _onnx_largest(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """What the flags of a Hardmax say of which values: 1 at the first of the largest."""
    opset = max((one.version for one in model.proto.opset_import if one.domain == node.domain), default=1)
    axis = next((said.i for said in node.attribute if said.name == "axis"), 1 if opset < 13 else -1)
    return Pointer(model.reads[blob][:1], partial(on_largest, axis=axis, joined=opset < 13))


def _onnx_parts(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """What a value says of that it was made of, where the operator jumps; None where it does not.

    ThresholdedRelu: y = x where x > alpha, else 0
    Shrink: y = x + bias where x < -lambd, x - bias where x > lambd, else 0
    """
    said = {attribute.name: attribute.f for attribute in node.attribute}
    is_shrink = node.op_type == "Shrink"
    limit, bias = said.get("lambd", 0.5) if is_shrink else said.get("alpha", 1.0), said.get("bias", 0.0)
    if limit <= bias if is_shrink else limit == 0:
        return None  # y = x - lambd, or a Relu, begins at 0; beyond, a sign tells no side
    return _at_jump(model.reads[blob][0], limit, _signs if is_shrink else _not_zero)


def _onnx_gates(model: Model, blob: str, node: NodeProto) -> Pointer | None:
    """The same of what is written as a comparison and a choice; None where that is no such operator.

    ThresholdedRelu: Where(x > alpha, x, 0), or x*Cast(x > alpha); Shrink: Where(abs(x) > lambd, x, 0)
    """
    from bnfold.onnx.pointwise import stretch_behind

    for front in dict.fromkeys(node.input):
        stretch = stretch_behind(model.makers, blob, {front}, FLAGS)
        if stretch is not None and not TURNS.keys().isdisjoint(inner.op_type for inner in stretch.nodes):
            known = known_values(model, stretch.constants)
            if (jump := jump_of((model, stretch, known))) is not None:
                return _at_jump(front, jump.limit, _signs if jump.is_even else _not_zero)
    return None


def _at_jump(front: str, limit: float, part: Callable[[Array], Array]) -> Pointer:
    look = partial(on_part, limit=limit, part=part)
    return Pointer((front,), look, "values differ at a jump that is near", np.asarray(limit), part=part)


def known_values(model: Model, names: Iterable[str], most: float = inf) -> dict[str, Array]:
    """Those of some tensors of an ONNX model that are stored, or that a Constant says, and hold no text, nor more than
    `most` values each.
    """
    found = model.stored({*names}).items()
    return {name: values_stored(held) for name, held in found if held.dtype != object and prod(held.shape) <= most}


STEPS = {"Cast": None, "Ceil": (-1.0, 0.0), "Floor": (0.0, 1.0), "QuantizeLinear": (-0.5, 0.5), "Round": (-0.5, 0.5)}
"""Operator -> from where to where a step of it reaches, from the whole number on that it gives; None to cut off."""
TURNS: dict[str, tuple[object, object]] = {
    "Equal": (False, False),
    "Greater": (False, True),
    "GreaterOrEqual": (False, True),
    "Less": (True, False),
    "LessOrEqual": (True, False),
    "Sign": (-1, 1),
}
"""Operator -> what it gives below a limit and above; Sign's is 0."""
ONNX_POINTERS: Mapping[str, Callable[[Model, str, NodeProto], Pointer | None]] = {
    **dict.fromkeys(("ArgMax", "ArgMin", "MaxPool", "TopK"), _onnx_indices),
    **dict.fromkeys(STEPS, _onnx_steps),
    **dict.fromkeys(TURNS, _onnx_flags),
    **dict.fromkeys(("Shrink", "ThresholdedRelu"), _onnx_parts),
    **dict.fromkeys(("Mul", "Where"), _onnx_gates),
    "DynamicQuantizeLinear": _onnx_own_steps,
    "Hardmax": _onnx_largest,
}
FLAGS = frozenset(("Cast",))
"""What makes numbers of flags, which `bnfold.onnx.pointwise` does not follow else, since it may round."""
PROBED = 4096  # values that tell the zero point of all
NEAR_TURN = 0.1  # of a step: where a zero point lies so near to the edge of another, it may be that
NEAR_EDGE = "values differ by a step whose edge is near"
NEAR_LIMIT = "flags differ at a limit that is near"
UNITS_BETWEEN = 64.0  # in the last place of the largest value: what rounding takes of one beside an edge
UNSCALED = (np.ones(1), np.zeros(1))
"""The scale and the zero point where there are none."""


def along_classes(values: Array, indices: Array) -> Array | None:
    """ArgMax: (N, 1, ...) indices along axis 1; without an axis in Caffe, over everything behind N."""
    if indices.shape[:2] != (len(values), 1):
        return None  # several best, or values beside indices
    rows = values
    if indices.shape[2:] != values.shape[2:]:
        rows = values.reshape(len(values), -1, *[1] * (indices.ndim - 2))
        if indices.shape[2:] != rows.shape[2:]:
            return None
    return np.asarray(np.take_along_axis(rows, _inside(indices, rows.shape[1]), axis=1))


def along_axis(values: Array, indices: Array, *, axis: int, keepdims: bool) -> Array | None:
    """ONNX's ArgMax, ArgMin and TopK: the place along one axis, which is left out without `keepdims`."""
    if not -values.ndim <= axis < values.ndim:
        return None
    places = indices if keepdims else np.expand_dims(indices, axis)
    if places.ndim != values.ndim or np.delete(places.shape, axis).tolist() != np.delete(values.shape, axis).tolist():
        return None
    return np.asarray(np.take_along_axis(values, _inside(places, values.shape[axis]), axis=axis)).reshape(indices.shape)


def in_plane(values: Array, indices: Array) -> Array | None:
    """Caffe's mask: the place in the plane of one channel (`pooling_layer.cpp`)."""
    if indices.shape[:2] != values.shape[:2]:
        return None
    planes = values.reshape(*values.shape[:2], -1)
    places = _inside(indices.reshape(*indices.shape[:2], -1), planes.shape[2])
    return np.asarray(np.take_along_axis(planes, places, axis=2)).reshape(indices.shape)


def in_tensor(values: Array, indices: Array) -> Array | None:
    """ONNX's MaxPool: the place in the whole tensor."""
    return np.asarray(values.reshape(-1)[_inside(indices, values.size)])


def on_step(values: Array, whole: Array, *, steps: Steps, kind: DType | None = None) -> Array | None:
    """The nearest values that give such whole numbers, or such numbers of float8.

    Args:
        values, whole: what is read and what is made of it.
        steps: where they lie.
        kind: the type in which they end; that of the whole numbers by default.
    """
    numbers, edges = steps.numbers, steps.edges
    if values.shape != whole.shape or whole.dtype.kind not in "fiu":
        return None
    if numbers is None and edges is None and (values.dtype.kind, whole.dtype.kind) not in (("f", "i"), ("f", "u")):
        return None  # it rounds to another type, or widens
    scale, zero = steps.scale_and_zero(values.ndim)
    if numbers is not None:
        turns = np.array([-np.inf, *(numbers[1:] + numbers[:-1]) / 2, np.inf])
        place = np.searchsorted(numbers[:-1], whole)
        with np.errstate(invalid="ignore"):  # of a scale of 0
            low, high = ((turns[one] - zero) * scale for one in (place, place + 1))
    else:
        below, above = (-1.0 * (whole <= 0), 1.0 * (whole >= 0)) if edges is None else edges
        low, high = whole - zero, whole - zero
        for end, edge in ((low, below), (high, above)):  # in place, or there would be two more copies of either
            end += edge
            end *= scale
        if whole.dtype.kind in "iu":  # what is beyond the type comes out as its bounds
            bounds = np.iinfo(whole.dtype if kind is None else kind)
            low[whole == bounds.min], high[whole == bounds.max] = -np.inf, np.inf
    return np.clip(values, low, high, out=low).reshape(values.shape)


def own_scale(values: Array) -> tuple[float, float]:
    """The scale of DynamicQuantizeLinear, 0 where there is none, and its zero point, not rounded (onnx's Operators.md).

    scale = (max(x, 0) - min(x, 0)) / 255, zero = round(-min(x, 0) / scale), y = round(x / scale) + zero, in float32
    """
    least, most = (np.float32(end(values, initial=0)) for end in (np.min, np.max))
    scale = (most - least) / np.float32(np.iinfo(np.uint8).max)
    return (float(scale), float(-least / scale)) if 0 < scale < inf else (0.0, 0.0)


def own_steps(values: Array, whole: Array) -> Steps | None:
    """The steps that DynamicQuantizeLinear makes of values, with the zero point that such whole numbers have."""
    scale, zero = own_scale(values)
    if not scale or values.shape != whole.shape:
        return None
    apart = slice(None, None, -(-values.size // PROBED))
    have = (whole.reshape(-1)[apart] - values.reshape(-1)[apart] / scale).mean(dtype=np.float64)
    low, high = (np.rint(zero + NEAR_TURN * side) for side in (-1, 1))
    return Steps([np.array([scale]), np.clip(np.rint([have]), low, high)])


def at_zero(values: Array, whole: Array) -> Array | None:
    """The nearest to -min(x, 0) of which DynamicQuantizeLinear makes such a zero point."""
    scale, zero = own_scale(values)
    return np.clip(zero, whole - 0.5, whole + 0.5) * scale if scale else None


def on_side(values: Array, flags: Array, *, limit: Array, turns: tuple[object, object]) -> Array | None:
    """The nearest values that give such flags.

    Args:
        values, flags: what is compared with a limit, and the answers.
        limit: one for all, or as it broadcasts to the values.
        turns: the answers below and above it; another one is that of the limit itself.
    """
    if values.shape != flags.shape or np.broadcast_shapes(values.shape, limit.shape) != values.shape:
        return None
    wide, limit = values.astype(np.float64), limit.astype(np.float64)
    below, above = (flags == turn for turn in turns)
    sides = [below & above, below, above]
    return np.select(sides, [wide, np.minimum(wide, limit), np.maximum(wide, limit)], limit)


def on_part(values: Array, made: Array, *, limit: float, part: Callable[[Array], Array]) -> Array | None:
    """The nearest values of which such are made: beyond the limit, below where it is negative, or between."""
    if values.shape != made.shape:
        return None
    wide, side = values.astype(np.float64), part(made)
    below = -limit if part is _signs else -np.inf
    return np.select(
        [side > 0, side < 0], [np.maximum(wide, limit), np.minimum(wide, below)], np.clip(wide, below, limit)
    )


def _signs(values: Array) -> Array:
    return np.asarray(np.sign(values))


def _not_zero(values: Array) -> Array:
    return np.asarray(values != 0)


def on_largest(values: Array, flags: Array, *, axis: int, joined: bool) -> Array | None:
    """The nearest values that give such flags: the largest one where a flag is 1, the next one where that has none.

    Args:
        values, flags: what a Hardmax reads, and what it gives.
        axis: along which there is one 1.
        joined: whether all axes from there on are one, as below opset 13.
    """
    if values.shape != flags.shape or not values.size:
        return None
    rows = np.moveaxis(values, axis, -1)
    if joined:
        rows = values.reshape(int(np.prod(values.shape[: axis % (values.ndim + 1)])), -1)
    ordered = np.sort(rows, axis=-1)
    best, next_best = ordered[..., -1:], ordered[..., -2:-1] if rows.shape[-1] > 1 else ordered
    found = [np.broadcast_to(one, rows.shape) for one in (best, np.where(rows == best, next_best, rows))]
    chosen, others = (one.reshape(values.shape) if joined else np.moveaxis(one, -1, axis) for one in found)
    return np.where(flags == 1, chosen, others)


def _inside(indices: Array, size: int) -> Array:
    """Indices as integers in the range of an axis: an empty window has -1, and a damaged index may be any number."""
    return np.asarray(np.clip(np.nan_to_num(indices), 0, max(size - 1, 0)), np.int64)
