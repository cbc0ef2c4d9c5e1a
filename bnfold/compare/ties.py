"""Indices that differ because two values are equal: ArgMax or a pooling mask on a near tie.

An index is no measure: one rounding can turn class 3 into class 300, or send a pooled value to another pixel. So where
the indices of the two networks differ, the values decide that the reference's layer chose from. If those at both places
are equal within what the tolerance allows each of the two to move,

    r[i] - r[j] <= 2 * tolerance * range of r in this sample,

the answer is a tie: it is counted, and not as a difference. What stands behind such an index would differ all the same
(an unpooling writes elsewhere), so the candidate runs once more with the reference's index in the place of its own, and
what stands behind is compared as strictly as everything else.

A value of Ceil, Floor, Round, QuantizeLinear or a Cast to integers is such an index, too: it says in which step of a
stair a value lies. The value at another step is the one of that step that is nearest: a value beside an edge may lie on
either side of it. So is a flag of Greater, Less and the like, if one side of the comparison is stored: a stair of two
steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnfold.compare.kernels import span
from bnfold.compare.models import Model
from bnfold.net import Array
from bnfold.options import CompareOptions
from bnfold.runtime import Session, to_host

if TYPE_CHECKING:
    from bnfold.onnx.graph import WeightStore

Look = Callable[[Array, Array], Array | None]
"""(values, indices) -> the values at the indices, in the shape of the indices; None where they cannot be read so."""


class Pointer(NamedTuple):
    """A blob of indices: the blob that it points into, and how, and what it is when it differs without counting."""

    values: str
    look: Look
    what: str = "indices differ on equal values"


@dataclass(slots=True)
class Ties:
    """The blobs of indices that both networks have, and the ties found so far.

    Attributes:
        candidate: the network that is run again.
        pointers: index blob of the reference -> what it points into, in order of execution.
        partners: index blob of the reference -> that of the candidate.
        tolerance: relative to the range.
        counts: index blob -> ties, and indices compared.
    """

    candidate: Model
    pointers: dict[str, Pointer]
    partners: dict[str, str]
    tolerance: float
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    _again: Session | None = None

    @classmethod
    def of(cls, reference: Model, candidate: Model, pairs: Mapping[str, str], tolerance: float) -> Ties:
        """What can be settled between two networks, given all blobs that are partners."""
        pointers = {name: pointer for name in pairs if (pointer := pointer_of(reference, name)) is not None}
        return cls(candidate, pointers, {name: pairs[name] for name in pointers}, tolerance)

    @property
    def wanted(self) -> tuple[list[str], list[str]]:
        """The blobs that have to be computed of the reference and of the candidate."""
        return [*self.pointers, *(pointer.values for pointer in self.pointers.values())], [*self.partners.values()]

    def settle(
        self,
        first: Mapping[str, Array],
        second: Mapping[str, Array],
        feeds: Mapping[str, Array],
        store: WeightStore,
        *,
        count: int | None,
        options: CompareOptions,
    ) -> Mapping[str, Any]:
        """The candidate's blobs as they are with the reference's indices where both point at equal values.

        Args:
            first, second: blobs of the reference and of the candidate; what `wanted` says is among them.
            feeds: what the candidate was fed.
            store: where its weights lie.
            count: how many samples of the batch are to be counted, the others being padding; None where all are one.
            options: how the candidate runs.
        """
        by_sample = count is not None
        chosen = self._settled(first, second, by_sample)
        indices = {self.partners[name]: indices for name, (indices, _) in chosen.items()}
        if any(tied.any() for _, tied in chosen.values()):
            if any(read in indices for reads in self.candidate.reads.values() for read in reads):
                second, chosen, indices = self._rerun(first, second, feeds, store, indices, by_sample, options)
            second = {**second, **indices}
        for name, (values, tied) in chosen.items():
            rows = slice(count) if by_sample and values.ndim else ...
            found, seen = self.counts.get(name, (0, 0))
            self.counts[name] = found + int(tied[rows].sum()), seen + values[rows].size
        return second

    def notes(self) -> list[str]:
        """A sentence for every blob that had ties."""
        read = {blob for reads in self.candidate.reads.values() for blob in reads}
        return [
            f"blob '{name}': {tied:,} of {seen:,} {self.pointers[name].what}, not counted"
            + ("; what stands behind was compared with the reference's" if self.partners[name] in read else "")
            for name, (tied, seen) in self.counts.items()
            if tied
        ]

    def _settled(
        self, first: Mapping[str, Array], second: Mapping[str, Array], by_sample: bool
    ) -> dict[str, tuple[Array, Array]]:
        """Index blob of the reference -> the candidate's indices with the reference's at ties, and where those are."""
        chosen = {}
        for name, pointer in self.pointers.items():
            reference, candidate = first[name], second[self.partners[name]]
            if reference.size != candidate.size:
                continue
            same = candidate.reshape(reference.shape)
            scores = first[pointer.values]
            indices, tied = settle_ties(reference, same, scores, self.tolerance, pointer.look, by_sample=by_sample)
            chosen[name] = indices.reshape(candidate.shape).astype(candidate.dtype, copy=False), tied
        return chosen

    def _rerun(
        self,
        first: Mapping[str, Array],
        second: Mapping[str, Array],
        feeds: Mapping[str, Array],
        store: WeightStore,
        indices: dict[str, Array],
        by_sample: bool,
        options: CompareOptions,
    ) -> tuple[Mapping[str, Any], dict[str, tuple[Array, Array]], dict[str, Array]]:
        """Run the candidate with indices given, until those behind the given ones are settled, too."""
        from bnfold.onnx.graph import OWN, with_inputs

        if self._again is None:
            cut = with_inputs(
                self.candidate.proto, {name: (value.dtype, value.ndim) for name, value in indices.items()}
            )
            blobs = [*(name for name in second if name not in indices), *(name + OWN for name in indices)]
            again = replace(self.candidate, proto=cut)
            self._again = again.session(blobs, store, options.threads, options.provider, options.tf32)
        chosen: dict[str, tuple[Array, Array]] = {}
        for _ in range(len(indices) + 1):  # each time one more blob of indices in a row is settled, at least
            given = indices
            second = self._again.run({**feeds, **given})
            second = {name.removesuffix(OWN): value for name, value in second.items() if name not in given}
            second |= {name: to_host(second[name]) for name in self.partners.values()}
            chosen = self._settled(first, second, by_sample)
            indices = given | {self.partners[name]: value for name, (value, _) in chosen.items()}
            if all(np.array_equal(indices[name], given[name]) for name in given):
                break
        return second, chosen, indices


def pointer_of(model: Model, blob: str) -> Pointer | None:
    """What a blob points into, if it holds indices: ArgMax, TopK, the mask of a MAX pooling, steps; else None."""
    writer = model.writers.get(blob)
    if writer is None or not model.reads[blob] or model.reads[blob][0] not in {*model.writers, *model.feeds}:
        return None
    values = model.reads[blob][0]
    if model.net is None:
        if (look := _onnx_look(model, blob, writer.type)) is not None:
            return Pointer(values, look)
        if (look := _onnx_steps(model, blob, writer.type)) is not None:
            return Pointer(values, look, "values differ by a step whose edge is near")
        look = _onnx_flags(model, blob, writer.type)
        return None if look is None else Pointer(values, look, "flags differ at a limit that is near")
    layer = model.net.producer(blob)
    if layer is None:
        return None
    if layer.type == "ArgMax" and not layer.param.argmax_param.out_max_val:
        param = layer.param.argmax_param
        look = partial(along_axis, axis=param.axis, keepdims=True) if param.HasField("axis") else along_classes
        return Pointer(values, look)
    return Pointer(values, in_plane) if layer.type == "Pooling" and layer.tops.index(blob) == 1 else None


def _onnx_look(model: Model, blob: str, op_type: str) -> Look | None:
    """How the indices of an ONNX node are read; None where it gives none."""
    if op_type not in {"ArgMax", "ArgMin", "MaxPool", "TopK"}:
        return None
    node = next(node for node in model.proto.graph.node if blob in node.output)
    if op_type in {"MaxPool", "TopK"} and node.output[0] == blob:
        return None  # the values themselves
    said = {attribute.name: attribute.i for attribute in node.attribute}
    if op_type == "MaxPool":
        return in_tensor if not said.get("storage_order") else None
    whole = op_type == "TopK" or bool(said.get("keepdims", 1))
    return partial(along_axis, axis=said.get("axis", -1 if op_type == "TopK" else 0), keepdims=whole)


def _onnx_steps(model: Model, blob: str, op_type: str) -> Look | None:
    """How the steps of an ONNX node are read; None where it makes none, or of sizes that are computed."""
    if op_type not in STEPS:
        return None
    from bnfold.onnx.file import values_of

    graph = model.proto.graph
    node = next(node for node in graph.node if blob in node.output)
    names = [name for name in node.input[1:] if name]
    known = {tensor.name: tensor for tensor in graph.initializer if tensor.name in names}
    makers = [maker for maker in graph.node if maker.op_type == "Constant" and maker.output[0] in names]
    known |= {maker.output[0]: one.t for maker in makers for one in maker.attribute if one.HasField("t")}
    if any(name not in known or len(known[name].dims) > 1 for name in names):
        return None
    sizes = [values_of(known[name], model.folder) for name in names]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    return partial(on_step, sizes=sizes, edges=STEPS[op_type], axis=axis)


def _onnx_flags(model: Model, blob: str, op_type: str) -> Look | None:
    """How the flags of a comparison are read; None where it is none, or one of two blobs that are computed."""
    if not op_type.startswith(("Greater", "Less")):
        return None
    from bnfold.onnx.graph import stored_weights

    node = next(node for node in model.proto.graph.node if blob in node.output)
    stored = stored_weights(model.parts, set(node.input))
    if len(stored) != 1:
        return None
    (name, limit), *_ = stored.items()
    above = op_type.startswith("Greater") == (node.input[1] == name)
    return partial(on_side, limit=limit.array(), above=above)


STEPS = {"Cast": None, "Ceil": (-1.0, 0.0), "Floor": (0.0, 1.0), "QuantizeLinear": (-0.5, 0.5), "Round": (-0.5, 0.5)}
"""Operator -> from where to where a step of it reaches, from the whole number on that it gives; None to cut off."""
UNSCALED = (np.ones(1), np.zeros(1))
"""The scale and the zero point where there are none."""


def settle_ties(
    reference: Array, candidate: Array, values: Array, tolerance: float, look: Look, *, by_sample: bool = True
) -> tuple[Array, Array]:
    """The candidate's indices with the reference's where both point at equal values, and where that is so.

    Args:
        reference, candidate: equally shaped indices.
        values: of the reference; what the indices point into.
        tolerance: relative to the range of the values, of each sample by itself if `by_sample`.
        look: how the indices are read. Indices that cannot be read so are left alone.
    """
    differing = reference != candidate
    ours = look(values, reference) if differing.any() else None
    theirs = look(values, candidate) if ours is not None else None
    if ours is None or theirs is None:
        return candidate, np.zeros(reference.shape, bool)
    samples = values.reshape(len(values) if by_sample and values.ndim else 1, -1)
    finite = np.isfinite(samples)
    lows = samples.min(axis=1, where=finite, initial=np.inf)
    highs = samples.max(axis=1, where=finite, initial=-np.inf)
    ranges = np.array([span(float(low), float(high)) for low, high in zip(lows, highs, strict=True)])
    with np.errstate(over="ignore"):
        allowed = 2 * tolerance * ranges
    if len(allowed) not in (1, len(reference) if reference.ndim else 0):
        return candidate, np.zeros(reference.shape, bool)
    with np.errstate(over="ignore", invalid="ignore"):
        gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    tied = differing & (gap <= allowed.reshape(-1, *[1] * (reference.ndim - 1)))
    return np.where(tied, reference, candidate), tied


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


def on_step(
    values: Array, whole: Array, *, sizes: Sequence[Array], edges: tuple[float, float] | None, axis: int
) -> Array | None:
    """The nearest values that give such whole numbers.

    Args:
        values, whole: what is read and what is made of it.
        sizes: the scale and the zero point of QuantizeLinear, a number each or one for each place along `axis`.
        edges: from where to where a step reaches; None for what is cut off towards 0 and becomes an integer.
        axis: of the sizes.
    """
    if values.shape != whole.shape or whole.dtype.kind not in "fiu":
        return None
    if edges is None and (values.dtype.kind, whole.dtype.kind) not in (("f", "i"), ("f", "u")):
        return None  # it rounds to another type, or widens
    behind = max(values.ndim - 1 - axis % max(values.ndim, 1), 0)
    scale, zero = (size.astype(np.float64).reshape(-1, *[1] * behind) for size in (*sizes, *UNSCALED[len(sizes) :]))
    below, above = (-1.0 * (whole <= 0), 1.0 * (whole >= 0)) if edges is None else edges
    low, high = ((whole - zero + edge) * scale for edge in (below, above))
    if whole.dtype.kind in "iu":  # what is beyond the type comes out as its bounds
        bounds = np.iinfo(whole.dtype)
        low[whole == bounds.min], high[whole == bounds.max] = -np.inf, np.inf
    return np.asarray(np.clip(values.astype(np.float64), low, high)).reshape(values.shape)


def on_side(values: Array, flags: Array, *, limit: Array, above: bool) -> Array | None:
    """The nearest values that give such flags.

    Args:
        values, flags: what is compared with a limit, and the answers.
        limit: one for all, or as it broadcasts to the values.
        above: values above the limit give True.
    """
    if values.shape != flags.shape or np.broadcast_shapes(values.shape, limit.shape) != values.shape:
        return None
    wide, limit = values.astype(np.float64), limit.astype(np.float64)
    return np.where(flags.astype(bool) == above, np.maximum(wide, limit), np.minimum(wide, limit))


def _inside(indices: Array, size: int) -> Array:
    """As whole numbers; -1 stands for an empty window, and other strays for nothing that could be looked up."""
    return np.asarray(np.clip(np.nan_to_num(indices), 0, max(size - 1, 0)), np.int64)
