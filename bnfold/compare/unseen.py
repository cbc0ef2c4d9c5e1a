"""Layers with other settings or weights in the candidate, of which the data showed nothing.

A bound of a Clip that no value reached, the weights of a channel that a ReLU keeps at 0, a row of a table that was not
read, the branch of an If that was not taken: the networks differ there, and all that was compared is equal, but for its
rounding. What a blob differs by is rounding up to

    FLOOR, or GROWTH times what differs in front of its layer, but AMPLIFIED at most,

by the same numbers by which a layer is at fault (`divergence`). Had a value behind a layer differed by more, its effect
would have been measured. So would one whose values differ by less than CLEAR times what is seen: that may be all.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.divergence import AMPLIFIED, FLOOR, GROWTH, upstream
from bnfold.compare.models import Model
from bnfold.compare.saturation import COUNTS
from bnfold.errors import named
from bnfold.net import Array
from bnfold.options import ROUNDING

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnfold.onnx.weight import Weight

Stored = Mapping[str, "Weight | Array"]

CLEAR = 100.0  # times what is seen: a setting that is so far off would show it, if the data reached it
UNITS = 4.0  # in the last place: what two roundings of one number differ by


def unseen(ours: Model, theirs: Model, pairs: Mapping[str, str], errors: Mapping[str, float]) -> list[str]:
    """A note on the layers that read the same blobs in both networks and hold other values, of which nothing is seen.

    Args:
        ours, theirs: the reference and the candidate.
        pairs: blob of the reference -> blob of the candidate, with the inputs.
        errors: blob of the reference that was compared -> its largest error, of its range.
    """
    versions = [{one.domain: one.version for one in model.proto.opset_import} for model in (ours, theirs)]
    if versions[0] != versions[1]:  # settings have other places and defaults there
        return []
    unit = max(ROUNDING[model.stored_type] for model in (ours, theirs))
    seen = _seen(theirs, {pairs[name]: error for name, error in errors.items()}, unit)
    partners = {name: node for node in theirs.proto.graph.node for name in node.output if seen.get(name, inf) < inf}
    couples = [
        (node, partners[name], seen[name])
        for node in ours.proto.graph.node
        if (name := next((pairs[name] for name in node.output if pairs.get(name) in partners), None))
        and node.domain == partners[name].domain
        and (node.op_type == partners[name].op_type or COUNTS.keys() >= {node.op_type, partners[name].op_type})
    ]
    stored = _stored(ours, [node for node, *_ in couples]), _stored(theirs, [partner for _, partner, _ in couples])
    found = _other_layers(ours, theirs, pairs, seen)
    for node, partner, error in couples:
        said, size = _difference(node, partner, stored, pairs, versions[0].get(node.domain, 1))
        if size > max(UNITS * unit, CLEAR * error):
            found[partner.name or partner.output[0]] = said, error
    for model in (ours, theirs):
        model.release_pages()
    if not found:
        return []
    first, *others = found
    said = f"{found[first][0]} of '{first}'" if others else found[first][0]
    have, it, are = ("have", "them", "they are") if others else ("has", "it", "it is")
    shown = "differs by rounding alone" if any(error for _, error in found.values()) else "is equal bit for bit"
    return [
        f"{named('layer', list(found))} {have} other values in the candidate ({said}), and what was compared behind "
        f"{it} {shown}, so {are} not proved; give data that tells the two apart by --data"
    ]


def _seen(model: Model, errors: Mapping[str, float], unit: float) -> dict[str, float]:
    """Tensor -> its error, or the largest of what was compared behind it; infinite where that is no rounding.

    Args:
        model: the candidate.
        errors: blob of it that was compared -> its error.
        unit: half a unit in the last place of its values, relative.
    """
    from bnfold.onnx.node import captured

    reads = {name: (*node.input, *captured(node)) for node in model.proto.graph.node for name in node.output}
    for name, read in model.reads.items():  # by the layers of Caffe, of which some are no nodes
        reads[name] = (*reads.get(name, ()), *read)
    own, scale = dict(errors), unit / ROUNDING["float32"]
    for blob, error in errors.items():
        before = max((errors.get(name, 0.0) for name in upstream(blob, reads, errors)), default=0.0) if error else 0.0
        if not error <= max(FLOOR * scale, min(GROWTH * before, AMPLIFIED * scale)):
            own[blob] = inf
    found: dict[str, float] = {}
    for blob in sorted(own, key=lambda blob: -own[blob]):
        waiting = [blob]
        while waiting:
            name = waiting.pop()
            if name and name not in found:
                found[name] = own[blob]
                waiting += reads.get(name, ())
    return found | own


def _other_layers(
    ours: Model, theirs: Model, pairs: Mapping[str, str], seen: Mapping[str, float]
) -> dict[str, tuple[str, float]]:
    """Layer of Caffe -> a group of settings that differs and what is seen, of those that read the same blobs.

    One may be many nodes.
    """
    found: dict[str, tuple[str, float]] = {}
    if ours.net is None or theirs.net is None:
        return found
    others = {top: layer for layer in theirs.net.layers for top in layer.tops if seen.get(top, inf) < inf}
    for layer in ours.net.layers:
        partner = next((others[pairs[top]] for top in layer.tops if pairs.get(top) in others), None)
        read = [pairs.get(bottom) for bottom in layer.bottoms]
        if partner is None or partner.type != layer.type or partner.bottoms != read or partner.param is layer.param:
            continue
        settings, changed = (
            {field.name: value for field, value in one.param.ListFields() if field.name.endswith("_param")}
            for one in (layer, partner)
        )
        names = [name for name in sorted(settings.keys() | changed.keys()) if settings.get(name) != changed.get(name)]
        if names:
            found[partner.name] = names[0], max(seen.get(top, 0.0) for top in partner.tops)
    return found


def _inputs(node: NodeProto) -> list[str]:
    from bnfold.onnx.node import captured

    return [*node.input, *sorted(captured(node))]


def _stored(model: Model, nodes: list[NodeProto]) -> Stored:
    """Name -> what is stored of what some nodes read, or said by a Constant."""
    from bnfold.onnx.file import values_of
    from bnfold.onnx.graph import stored_weights
    from bnfold.onnx.node import constants_among

    names = {name for node in nodes for name in _inputs(node)}
    constants = constants_among(model.proto.graph.node)
    said = {name: values_of(constants[name], model.folder) for name in names & constants.keys()}
    return {**said, **stored_weights(model.parts, names)}


def _difference(
    node: NodeProto, partner: NodeProto, stored: tuple[Stored, Stored], pairs: Mapping[str, str], version: int
) -> tuple[str, float]:
    """What two nodes hold most otherwise, and by how much, of its own size; 0 where they read other blobs."""
    from bnfold.onnx.node import floats_said, settings_of

    ours, theirs = _inputs(node), _inputs(partner)
    ours += [""] * (len(theirs) - len(ours))
    theirs += [""] * (len(ours) - len(theirs))
    known = [(one, other, stored[0].get(one), stored[1].get(other)) for one, other in zip(ours, theirs, strict=True)]
    if any(
        (one and mine is None) or (other and its is None) for one, other, mine, its in known if pairs.get(one) != other
    ):
        return "", 0.0
    if node.op_type != partner.op_type:
        return f"{partner.op_type} in the place of {node.op_type}", 1.0
    settings, others = settings_of(node, version), settings_of(partner, version)
    apart = [
        (f"attribute '{name}'", _apart(*(floats_said(held.get(name)) for held in (settings, others))))
        for name in sorted(settings.keys() | others.keys())
        if settings.get(name) != others.get(name)
    ]
    apart += [(f"'{one or other}'", _apart_stored(mine, its)) for one, other, mine, its in known if one + other]
    return max(apart, key=lambda found: found[1], default=("", 0.0))


def _apart_stored(one: Weight | Array | None, other: Weight | Array | None) -> float:
    from bnfold.onnx.graph import same_weight
    from bnfold.onnx.weight import Weight

    if isinstance(one, Weight) and isinstance(other, Weight) and same_weight(one, other):
        return 0.0
    if one is other:
        return 0.0
    return _apart(*(held.array() if isinstance(held, Weight) else held for held in (one, other)))


def _apart(one: Array | None, other: Array | None) -> float:
    """How far values are apart, of the largest of them; 1 where they are no floats of one shape, and not the same."""
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return 1.0
    if one.tobytes() == other.tobytes():
        return 0.0
    if one.dtype.name not in ROUNDING:
        return 1.0
    with np.errstate(all="ignore"):
        sides = [held.astype(np.float64) for held in (one, other)]
        size = np.abs(sides).max()
        return float(min(1.0, np.abs(sides[0] - sides[1]).max() / size)) if 0 < size < inf else 1.0
