"""Layers with other settings or weights in the candidate, of which the data showed nothing.

A bound of a Clip that no value reached, the weights of a channel that a ReLU keeps at 0, a row of a table that was not
read, the branch of an If that was not taken: the networks differ there, and all that was compared is equal bit for bit.
Had a single value behind such a layer differed, its effect would have been measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bnfold.compare.divergence import upstream
from bnfold.compare.models import Model
from bnfold.compare.saturation import COUNTS
from bnfold.errors import named
from bnfold.net import Array

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnfold.onnx.weight import Weight

Stored = Mapping[str, "Weight | Array"]


def unseen(ours: Model, theirs: Model, pairs: Mapping[str, str], differs: Mapping[str, bool]) -> list[str]:
    """A note on the layers that read the same blobs in both networks and hold other values, of which nothing is seen.

    Args:
        ours, theirs: the reference and the candidate.
        pairs: blob of the reference -> blob of the candidate, with the inputs.
        differs: blob of the reference that was compared -> whether a value of it does.
    """
    versions = [{one.domain: one.version for one in model.proto.opset_import} for model in (ours, theirs)]
    if versions[0] != versions[1]:  # settings have other places and defaults there
        return []
    silent = _silent(theirs, {pairs[name]: said for name, said in differs.items()})
    partners = {name: node for node in theirs.proto.graph.node for name in node.output if name in silent}
    couples = [
        (node, partner)
        for node in ours.proto.graph.node
        if (partner := next((partners[pairs[name]] for name in node.output if pairs.get(name) in partners), None))
        and node.domain == partner.domain
        and (node.op_type == partner.op_type or COUNTS.keys() >= {node.op_type, partner.op_type})
    ]
    stored = _stored(ours, [node for node, _ in couples]), _stored(theirs, [partner for _, partner in couples])
    found = _other_layers(ours, theirs, pairs, silent)
    for node, partner in couples:
        said = _difference(node, partner, stored, pairs, versions[0].get(node.domain, 1))
        if said:
            found[partner.name or partner.output[0]] = said
    for model in (ours, theirs):
        model.release_pages()
    if not found:
        return []
    first, *others = found
    said = f"{found[first]} of '{first}'" if others else found[first]
    have, it, are = ("have", "them", "they are") if others else ("has", "it", "it is")
    return [
        f"{named('layer', list(found))} {have} other values in the candidate ({said}), and what was compared behind "
        f"{it} is equal bit for bit, so {are} not proved; give data that tells the two apart by --data"
    ]


def _silent(model: Model, differs: Mapping[str, bool]) -> set[str]:
    """The tensors of which something behind was compared, and nothing of that differs; their own word counts most."""
    from bnfold.onnx.node import captured

    reads = {name: (*node.input, *captured(node)) for node in model.proto.graph.node for name in node.output}
    for name, read in model.reads.items():  # by the layers of Caffe, of which some are no nodes
        reads[name] = (*reads.get(name, ()), *read)
    # One walk from all of them: a missing input, the only thing without a name, leads nowhere else.
    behind, shown = (
        set(upstream("", {**reads, "": names}))
        for names in ([*differs], [name for name, said in differs.items() if said])
    )
    return {blob for blob in behind if not differs.get(blob, blob in shown)}


def _other_layers(ours: Model, theirs: Model, pairs: Mapping[str, str], silent: set[str]) -> dict[str, str]:
    """Layer of Caffe -> a group of settings that differs, of those that read the same blobs; one may be many nodes."""
    found: dict[str, str] = {}
    if ours.net is None or theirs.net is None:
        return found
    others = {top: layer for layer in theirs.net.layers for top in layer.tops if top in silent}
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
            found[partner.name] = names[0]
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
) -> str:
    """The first thing that two nodes hold otherwise; nothing where they read other blobs."""
    from bnfold.onnx.node import settings_of

    ours, theirs = _inputs(node), _inputs(partner)
    ours += [""] * (len(theirs) - len(ours))
    theirs += [""] * (len(ours) - len(theirs))
    known = [(one, other, stored[0].get(one), stored[1].get(other)) for one, other in zip(ours, theirs, strict=True)]
    if any(
        (one and mine is None) or (other and its is None) for one, other, mine, its in known if pairs.get(one) != other
    ):
        return ""
    if node.op_type != partner.op_type:
        return f"{partner.op_type} in the place of {node.op_type}"
    settings, others = settings_of(node, version), settings_of(partner, version)
    for name in sorted(settings.keys() | others.keys()):
        if settings.get(name) != others.get(name):
            return f"attribute '{name}'"
    different = (one or other for one, other, mine, its in known if one + other and not _equal(mine, its))
    return next((f"'{name}'" for name in different), "")


def _equal(one: Weight | Array | None, other: Weight | Array | None) -> bool:
    from bnfold.onnx.graph import same_weight
    from bnfold.onnx.weight import Weight

    if isinstance(one, Weight) and isinstance(other, Weight):
        return same_weight(one, other)
    if one is None or other is None:
        return one is other
    values, others = (held.array() if isinstance(held, Weight) else held for held in (one, other))
    return values.dtype == others.dtype and values.shape == others.shape and values.tobytes() == others.tobytes()
