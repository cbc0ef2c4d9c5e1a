"""Layers with other settings or weights in the candidate, of which the data showed nothing.

A bound of a Clip that no value reached, the weights of a channel that a ReLU keeps at 0, a row of a table that was not
read, the branch of an If that was not taken: the networks differ there, and all that was compared is equal, but for its
rounding. What a blob differs by is rounding up to

    GROWTH times FLOOR, or what differs in front of its layer if that is more, but AMPLIFIED at most,

by the same numbers by which a layer is at fault (`divergence`). Had a value behind a layer differed by more, its effect
would have been measured. So would one whose values differ by less than CLEAR times what is seen: that may be all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnfold.compare.divergence import AMPLIFIED, FLOOR, GROWTH, upstream
from bnfold.compare.models import Model, same_stored, values_stored
from bnfold.compare.pointers import known_values
from bnfold.compare.saturation import COUNTS
from bnfold.compare.standins import readers_of
from bnfold.compare.unrunnable_layers import layer_settings
from bnfold.errors import named
from bnfold.net import Array, Net
from bnfold.options import ROUNDING

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnfold.onnx.functions import Key
    from bnfold.onnx.pointwise import Stretch
    from bnfold.onnx.weight import Weight

Stored = Mapping[str, "Weight | Array"]
Judge = Callable[[Array, Array, Array], float]
"""(numbers, what the reference makes of them, what the candidate does) -> how far that is apart."""


class Difference(NamedTuple):
    """What two nodes hold otherwise, how far that is apart of its own size, and how many units of that are rounding."""

    where: str
    size: float
    units: float


class _NodesOfBlob(NamedTuple):
    """A blob of the reference, the node that makes it, and the candidate's that makes its partner."""

    blob: str
    node: NodeProto
    partner: NodeProto


class Couple(NamedTuple):
    """The nodes that make a blob of the candidate, or a value in front of it, value by value, in either network."""

    name: str
    ours: Stretch
    theirs: Stretch


CLEAR = 100.0  # times what is seen: a setting that is so far off would show it, if the data reached it
UNITS = 4.0  # in the last place: what two roundings of one number differ by
COMPUTED = 256.0  # likewise: what a few operations differ by, of which some cancel
CHOOSING = frozenset(("GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin"))
COMMUTATIVE = frozenset(("Add", "Max", "Mean", "Min", "Mul", "Sum"))
SAFE = ("LogSoftmax", "ReduceLogSumExp", "Softmax")  # which subtract the largest value before exp
BOUNDING = CHOOSING | {"Abs", "Clip", "Max", "Min", "Relu", "Sigmoid", "Tanh", "TopK"}  # what keeps exp from it, mostly
MOST_OF_EXP = {"float16": 11, "float64": 709}
SELECTING = frozenset(("ArgMax", "ArgMin", "MaxRoiPool", "NonMaxSuppression", "RoiAlign", "TopK"))
"""Operators that no fold gives other settings, so that these are compared though blobs of other names are read."""
DETECTING = frozenset(
    ("DetectionOutput", "DetectionOutputRefine", "PSROIPooling", "Proposal", "ROIAlign", "ROIPooling")
)
"""Likewise layer types of Caffe."""
WINDOWS = frozenset(
    (
        *("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "output_padding", "output_shape"),
        *("pads", "strides"),
    )
)
"""Attributes that say which values are read together. Any values show that, and it can be written in several ways."""
LINEAR = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
PREPARING = "transform_param"


def hidden_differences(
    ours: Model, theirs: Model, pairs: Mapping[str, str], errors: Mapping[str, float]
) -> dict[str, tuple[str, float]]:
    """The layers that read the same blobs in both networks and hold other values, of which nothing is seen.

    Args:
        ours, theirs, pairs: the networks, and their blobs and inputs.
        errors: blob of the reference that was compared -> its largest error, of its range.

    Returns:
        layer of the candidate -> what it holds otherwise, and the largest error of what was compared behind it.
    """
    pairs = dict(_meant_alike(ours, theirs, pairs, errors))
    unit = max(ROUNDING[model.stored_type] for model in (ours, theirs))
    seen = _seen(theirs, {pairs[name]: error for name, error in errors.items()}, unit)
    found: dict[str, tuple[str, float]] = {}
    same: set[str] = set()
    for partner, (where, size, units) in _differences(ours, theirs, pairs, seen):
        error = max(seen.get(name, 0.0) for name in partner.output)
        if size > max(units * unit, CLEAR * error):
            found[partner.name or partner.output[0]] = where, error
        else:
            same.update(partner.output)
    found = _other_layers(ours, theirs, pairs, seen, same) | found
    for model in (ours, theirs):
        model.release_pages()
    return found


def hidden_note(found: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    """The note on `hidden_differences`, where there are any."""
    if not found:
        return
    first, *others = found
    where = f"{found[first][0]} of '{first}'" if others else found[first][0]
    have, it, are = ("have", "them", "they are") if others else ("has", "it", "it is")
    shown = "differs by rounding alone" if any(error for _, error in found.values()) else "is equal bit for bit"
    yield (
        f"{named('layer', list(found))} {have} other values in the candidate ({where}), and what was compared behind "
        f"{it} {shown}, so {are} not proved; give data that tells the two apart by --data"
    )


def _seen(model: Model, errors: Mapping[str, float], unit: float) -> dict[str, float]:
    """Tensor -> its error, or the largest of what was compared behind it; infinite where that is no rounding.

    Args:
        model: the candidate.
        errors: of its blobs that were compared.
        unit: half a unit in the last place of its values, relative.
    """
    reads = {**model.inputs}
    for name, read in model.reads.items():  # by the layers of Caffe, of which some are no nodes
        reads[name] = [*reads.get(name, ()), *read]
    own, scale = dict(errors), unit / ROUNDING["float32"]
    for blob, error in errors.items():
        before = max((errors.get(name, 0.0) for name in upstream(blob, reads, errors)), default=0.0) if error else 0.0
        if not error <= min(GROWTH * max(before, FLOOR * scale), AMPLIFIED * scale):
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


def _differences(
    ours: Model, theirs: Model, pairs: Mapping[str, str], seen: Mapping[str, float]
) -> Iterator[tuple[NodeProto, Difference]]:
    """The nodes of the candidate of which nothing is seen, and how they differ from the reference's of the same place.

    Two that compute each value from one are compared as functions, with what is in front of them up to a blob that both
    networks have, since there are many ways to write one; others by what they hold.
    """
    couples = _couples(ours, theirs, pairs, seen)
    held = _held_otherwise(ours, theirs, pairs, couples)
    unlike = {name: couples[name].blob for name, found in held.items() if found is None or found.size}
    sizes = dict(_functions(ours, theirs, unlike, pairs))
    others = {name: blob for name, blob in unlike.items() if name not in sizes and not held[name]}
    sizes |= _guards(ours, theirs, others, pairs)
    for name, (_, _, partner) in couples.items():
        found = held[name]
        if name in sizes:
            types, size = sizes[name]
            yield partner, Difference(types if found is None else found.where, size, COMPUTED)
        elif found is not None:
            yield partner, found


def _meant_alike(
    ours: Model, theirs: Model, pairs: Mapping[str, str], compared: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The pairs but for blobs that were not compared and may be other values, as tools leave it that fold and keep the
    name: a linear layer makes them, and an affine reads them in one of the networks alone.
    """
    from bnfold.onnx.pointwise import AFFINE

    read = readers_of(ours.proto), readers_of(theirs.proto)
    for blob, name in pairs.items():
        makers = ours.makers.get(blob), theirs.makers.get(name)
        linear = all(node is not None and node.op_type in LINEAR for node in makers)
        types = [
            {node.op_type for node, _ in known.get(one, ())} for known, one in zip(read, (blob, name), strict=True)
        ]
        if blob in compared or not linear or AFFINE.isdisjoint(types[0] ^ types[1]):
            yield blob, name


def _couples(
    ours: Model, theirs: Model, pairs: Mapping[str, str], seen: Mapping[str, float]
) -> dict[str, _NodesOfBlob]:
    """Blob of the candidate of which nothing is seen -> what makes it in either network."""
    blobs = {name: blob for blob, name in pairs.items() if blob in ours.makers}
    couples = {}
    for node in theirs.proto.graph.node:
        known = [name for name in node.output if name in seen]
        if known and max(seen[name] for name in known) < inf and (name := next(filter(blobs.get, known), None)):
            couples[name] = _NodesOfBlob(blobs[name], ours.makers[blobs[name]], node)
    return couples


def _held_otherwise(
    ours: Model, theirs: Model, pairs: Mapping[str, str], couples: Mapping[str, _NodesOfBlob]
) -> dict[str, Difference | None]:
    """How the nodes of each couple differ by what they hold; None where that cannot be told, see `_difference`."""
    from bnfold.onnx.functions import functions_said
    from bnfold.onnx.node import reads_by_place

    sides = (ours, [one.node for one in couples.values()]), (theirs, [one.partner for one in couples.values()])
    stored = [model.stored({name for node in nodes for name in reads_by_place(node)}) for model, nodes in sides]
    opsets = [{one.domain: one.version for one in model.proto.opset_import} for model in (ours, theirs)]
    functions = [functions_said(model.proto) for model in (ours, theirs)]
    return {
        name: _called_otherwise((node, partner), functions)
        or _difference(node, partner, stored, pairs, [known.get(node.domain, 1) for known in opsets])
        for name, (_, node, partner) in couples.items()
    }


def _functions(
    ours: Model, theirs: Model, blobs: Mapping[str, str], pairs: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, float]]]:
    """Of some blobs of the candidate, with their partners: what makes them value by value, how far that is apart."""
    from bnfold.compare.probing import apart
    from bnfold.onnx.pointwise import stretches_behind

    fronts = set(pairs.values())
    couples: list[Couple] = []
    for name, blob in blobs.items():
        ways = product(stretches_behind(ours.makers, blob, pairs), stretches_behind(theirs.makers, name, fronts))
        couples += [Couple(name, mine, its) for mine, its in ways if pairs[mine.front] == its.front]
    for (name, mine, its), size in _probed(ours, theirs, couples, apart):
        yield name, (_said(mine, its, "in the place of"), size)


def _said(ours: Stretch, theirs: Stretch, between: str) -> str:
    if ours.types == theirs.types:
        return f"a value of {theirs.types}"
    return f"{theirs.types or 'nothing'} {between} {ours.types or 'nothing'}"


def _guards(
    ours: Model, theirs: Model, blobs: Mapping[str, str], pairs: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    """Of some blobs of the candidate: what is made value by value beside the layer that makes it, and is no affine.

    Given:   x -> MatMul -> y        and:   x -> Clip -> MatMul -> Min -> y
    Result:  "Clip where the reference has nothing"

    A fold moves affines across a layer, and changes its weights by them. What else stands in front of it or behind it
    is the same in both networks, but for an affine.
    """
    from bnfold.compare.probing import bent, bent_across, bounded_otherwise

    behind, between, front, across = _beside_layers(ours, theirs, blobs, pairs)
    found: dict[str, tuple[str, float]] = {}
    moved = partial(bounded_otherwise, is_read=True)
    judges = (
        (behind, bounded_otherwise, True),
        (between, moved, True),
        (front, bent, False),
        (across, bent_across, False),
    )
    for couples, judge, far in judges:
        told = [one for one in couples if not (one.ours.is_affine and one.theirs.is_affine)]
        for (name, mine, its), size in _probed(ours, theirs, told, judge, far=far):
            if size > found.get(name, ("", 0.0))[1]:
                found[name] = _said(mine, its, "where the reference has"), size
    for name, mine, its in (*behind, *between):
        table, size = _tables(ours, theirs, mine, its)
        if size > found.get(name, ("", 0.0))[1]:
            found[name] = f"'{table}'", size
    return found


def _tables(ours: Model, theirs: Model, mine: Stretch, its: Stretch) -> tuple[str, float]:
    """The table that the candidate's Gather reads in front of a stretch, and how far from the reference's it is.

    That is 0 where the stretches are written otherwise, since a fold may have moved an affine into the table.
    """
    nodes = ours.makers[mine.front], theirs.makers[its.front]
    if mine.types != its.types or {node.op_type for node in nodes} != {"Gather"}:
        return "", 0.0
    held = [model.stored({node.input[0]}).get(node.input[0]) for model, node in zip((ours, theirs), nodes, strict=True)]
    return nodes[1].input[0], 0.0 if None in held else _apart_stored(*held)


def _beside_layers(
    ours: Model, theirs: Model, blobs: Mapping[str, str], pairs: Mapping[str, str]
) -> tuple[list[Couple], ...]:
    """What stands behind the layers that make some blobs, between layers of which neither network shows the other what
    they make, in front of the first of them, and there on both sides of one that chooses.
    """
    from bnfold.onnx.pointwise import Stretch, joints, stretch_up_to

    ends = [joints(model.makers, model.feeds) for model in (ours, theirs)]
    partners = {*pairs.values()}
    behind, between, front, across = list[Couple](), list[Couple](), list[Couple](), list[Couple]()
    nothing = Stretch((), "", ""), Stretch((), "", "")
    waiting = [(name, (blob, name), nothing, behind) for name, blob in blobs.items()]
    seen = {made for _, made, *_ in waiting}
    while waiting:
        name, made, after, couples = waiting.pop()
        mine, its = (
            stretch_up_to(model.makers, one, known[::-1])
            for model, one, known in zip((ours, theirs), made, ends, strict=True)
        )
        nodes = ours.makers.get(mine.front), theirs.makers.get(its.front)
        if nodes[0] is None or nodes[1] is None or not _alike(nodes[0], nodes[1]):
            continue
        # Of the largest value it is one whether something that rises stands in front or behind.
        chooses = nodes[0].op_type in CHOOSING and (mine.front, its.front) == (nodes[0].output[0], nodes[1].output[0])
        mine, its = mine.then(after[0]), its.then(after[1])
        is_judged = False
        for read in _operands(ours, theirs, nodes[0], nodes[1], pairs):
            if pairs.get(read[0]) == read[1]:
                continue
            if (common := _made_of_one(ours, theirs, read, pairs, partners)) is not None:
                first, second = common
                if chooses:
                    across.append(Couple(name, first.then(mine), second.then(its)))
                else:
                    front.append(Couple(name, first, second))
            elif read not in seen and pairs.keys().isdisjoint(read) and partners.isdisjoint(read):
                seen.add(read)
                # What makes them may be told apart.
                waiting.append((name, read, (mine, its), couples) if chooses else (name, read, nothing, between))
            else:
                continue
            is_judged |= chooses
        if not is_judged:
            couples.append(Couple(name, mine, its))
    return behind, between, front, across


def _operands(
    ours: Model, theirs: Model, node: NodeProto, partner: NodeProto, pairs: Mapping[str, str]
) -> list[tuple[str, str]]:
    """What two alike nodes read, side by side; of two operands that may be turned round, as more of them are alike."""
    from bnfold.onnx.node import RESHAPING

    def made_by(model: Model, name: str) -> str:
        while (made := model.makers.get(name)) is not None and made.op_type in RESHAPING | {"Expand"}:
            name = made.input[0]
        return made.op_type if made is not None else ""

    def alike(one: tuple[str, str]) -> bool:
        return pairs.get(one[0]) == one[1] or made_by(ours, one[0]) == made_by(theirs, one[1])

    given, turned = (list(zip(node.input, read, strict=False)) for read in (partner.input, partner.input[::-1]))
    may_turn = node.op_type in COMMUTATIVE and len(node.input) == len(partner.input) == 2
    return turned if may_turn and sum(map(alike, turned)) > sum(map(alike, given)) else given


def _probed(
    ours: Model, theirs: Model, couples: Sequence[Couple], judge: Judge, *, far: bool = False
) -> Iterator[tuple[Couple, float]]:
    """Couples of stretches with how far they are apart, of those that can be run; by `far` numbers, or by all."""
    from bnfold.compare.probing import MOST, probed

    stored = [
        known_values(ours, set[str]().union(*(one.ours.constants for one in couples)), MOST),
        known_values(theirs, set[str]().union(*(one.theirs.constants for one in couples)), MOST),
    ]
    for one in couples:
        made = probed((ours, one.ours, stored[0]), (theirs, one.theirs, stored[1]), far=far)
        if made is not None:
            yield one, judge(*made)


def _made_of_one(
    ours: Model, theirs: Model, values: tuple[str, str], pairs: Mapping[str, str], partners: Collection[str]
) -> tuple[Stretch, Stretch] | None:
    """What makes a value of either network of one blob that both have; None where none of them is made so."""
    ways = product(_stretches(ours, values[0], pairs.keys()), _stretches(theirs, values[1], partners))
    return next(((mine, its) for mine, its in ways if pairs.get(mine.front) == its.front), None)


def _stretches(model: Model, name: str, fronts: Collection[str]) -> Iterator[Stretch]:
    """What makes a value of a blob that both networks have: nothing, where it is one, and nodes."""
    from bnfold.onnx.pointwise import Stretch, stretch_behind

    if name in fronts:
        yield Stretch((), name, name)
    if (found := stretch_behind(model.makers, name, fronts)) is not None:
        yield found


def _alike(node: NodeProto, partner: NodeProto) -> bool:
    """Whether two nodes are one operator, or both linear with weights that may be written in several ways."""
    types = {node.op_type, partner.op_type}
    return node.domain == partner.domain and (len(types) == 1 or types <= LINEAR)


def _other_layers(
    ours: Model, theirs: Model, pairs: Mapping[str, str], seen: Mapping[str, float], same: set[str]
) -> dict[str, tuple[str, float]]:
    """Layer of Caffe -> a group of settings that differs and what is seen, of those that read the same blobs.

    One may be many nodes; where its tops are known to be the same, settings are only written otherwise.
    """
    found: dict[str, tuple[str, float]] = {}
    if ours.net is None or theirs.net is None:
        return found
    others = {top: layer for layer in theirs.net.layers for top in layer.tops if seen.get(top, inf) < inf}
    for layer in ours.net.layers:
        partner = next((others[pairs[top]] for top in layer.tops if pairs.get(top) in others), None)
        read = [pairs.get(bottom) for bottom in layer.bottoms]
        if partner is None or partner.type != layer.type or partner.param is layer.param:
            continue
        if partner.bottoms != read and layer.type not in DETECTING:
            continue
        settings, changed = layer_settings(layer), layer_settings(partner)
        unlike = {name for name in settings | changed if settings.get(name) != changed.get(name)} - {PREPARING}
        if unlike and not same.issuperset(partner.tops):
            found[partner.name] = min(unlike), max(seen.get(top, 0.0) for top in partner.tops)
    return found


def unguarded_exponentials(ours: Model, theirs: Model) -> list[str]:
    """A note on what overflows for large scores in the candidate alone: a Softmax that is written without its maximum.

    `exp(x) / sum exp(x)` is `exp(x - max x) / sum exp(x - max x)` up to the x of which exp is infinite. Noise is as
    small as keeps a Softmax from saturating, and does not reach that.
    """
    types, others = (Counter(node.op_type for node in model.proto.graph.node) for model in (ours, theirs))
    replaced = [one for one in SAFE if types[one] > others[one]]
    bare = [
        node.name or node.output[0]
        for node in theirs.proto.graph.node
        if node.op_type == "Exp" and BOUNDING.isdisjoint(_types_in_front(theirs, node.input[0]))
    ]
    if not (replaced and bare and others["Exp"] > types["Exp"]):
        return []
    most = MOST_OF_EXP.get(theirs.own.stored_type, 88)
    subtracts = f"{'have' if len(bare) > 1 else 'has'} no largest value subtracted in the candidate"
    reached = f"and where the reference has {' or '.join(replaced)} it is infinite for scores beyond {most}"
    return [
        f"{named('layer', bare)} (Exp) {subtracts}, {reached}: such are not proved; give data that has them by --data"
    ]


def _types_in_front(model: Model, name: str) -> set[str]:
    """The operators of which a value is made element by element, and those that these read."""
    from bnfold.onnx.pointwise import POINTWISE

    waiting, found, seen = [name], set[str](), {name}
    while waiting:
        node = model.makers.get(waiting.pop())
        if node is not None:
            found.add(node.op_type)
            fresh = [one for one in node.input if node.op_type in POINTWISE and one not in seen]
            seen.update(fresh)
            waiting += fresh
    return found


def prepared_otherwise(ours: Model, theirs: Model) -> list[str]:
    """A note on the layers of Caffe that prepare images otherwise in the candidate, which no data shows."""
    if ours.net is None or theirs.net is None:
        return []
    found = dict[str, None]()
    for first, second in zip(_preparing(ours.net), _preparing(theirs.net), strict=True):
        found |= dict.fromkeys(one[0] for top, one in first.items() if top in second and one[1] != second[top][1])
    said = "prepares images otherwise in the candidate; both networks were fed the same, so that is not proved"
    return [f"{named('layer', [*found])}: {PREPARING} {said}"] if found else []


def _preparing(net: Net) -> tuple[dict[str, tuple[str, Any]], dict[str, tuple[str, Any]]]:
    """Blob -> the layer that makes it and how that prepares images; and the same of data layers, which inputs stand for
    in a net for inference: what is written of that says nothing of it.
    """
    from bnfold.caffe.origin import Origin

    made = {top: (layer.name, layer_settings(layer).get(PREPARING)) for layer in net.layers for top in layer.tops[:1]}
    data = net.origin.data if isinstance(net.origin, Origin) else {}
    return made, {top: (layer.name, layer.transform_param) for top, layer in data.items()}


def _difference(
    node: NodeProto, partner: NodeProto, stored: Sequence[Stored], pairs: Mapping[str, str], opsets: Sequence[int]
) -> Difference | None:
    """What two nodes hold most otherwise; None where they read other blobs, or cannot be compared by what they hold."""
    from bnfold.onnx.node import RESHAPING, floats_said, reads_by_place, same_places, settings_of

    squashes = node.op_type != partner.op_type and COUNTS.keys() >= {node.op_type, partner.op_type}
    if node.domain != partner.domain or not (squashes or same_places(node, opsets[0], partner, opsets[1])):
        return None
    settings, others = settings_of(node, opsets[0]), settings_of(partner, opsets[1])
    # Bodies are compared by themselves (`bnfold.compare.bodies`), with what they capture.
    inner = {one.name for one in node.attribute if one.HasField("g") and node.output == partner.output}
    ours, theirs = ([*one.input] if inner else reads_by_place(one) for one in (node, partner))
    ours += [""] * (len(theirs) - len(ours))
    theirs += [""] * (len(ours) - len(theirs))
    known = [(one, other, stored[0].get(one), stored[1].get(other)) for one, other in zip(ours, theirs, strict=True)]
    reads_others = any(
        (one and mine is None) or (other and its is None) for one, other, mine, its in known if pairs.get(one) != other
    )
    if reads_others and not (
        node.op_type in SELECTING
        and all((bool(one), mine is None) == (bool(other), its is None) for one, other, mine, its in known)
    ):
        return None
    if node.op_type != partner.op_type:
        return Difference(f"{partner.op_type} in the place of {node.op_type}", 1.0, UNITS)
    if node.op_type in RESHAPING | {"Expand"}:  # the shape of the result says all but what is shaped
        known, settings, others = known[:1], {}, {}
    found = [
        (f"attribute '{name}'", _apart(*(floats_said(held.get(name)) for held in (settings, others))))
        for name in sorted((settings.keys() | others.keys()) - inner - WINDOWS)
        if settings.get(name) != others.get(name)
    ]
    found += [(f"'{one or other}'", _apart_stored(mine, its)) for one, other, mine, its in known if one + other]
    most = Difference(*max(found, key=lambda one: one[1], default=("", 0.0)), UNITS)
    return None if reads_others and not most.size else most


def _called_otherwise(
    nodes: tuple[NodeProto, NodeProto], functions: Sequence[Mapping[Key, Sequence[bytes]]]
) -> Difference | None:
    """A function of the model's own that both nodes call, also in their bodies, and that is another one; or None."""
    from bnfold.onnx.functions import key_of
    from bnfold.onnx.node import all_nodes

    called = [
        {key_of(one) for one in all_nodes([node])} & said.keys() for node, said in zip(nodes, functions, strict=True)
    ]
    others = [key for key in sorted(called[0] & called[1]) if functions[0][key] != functions[1][key]]
    return Difference(f"function '{others[0][1]}'", 1.0, UNITS) if others else None


def _apart_stored(one: Weight | Array | None, other: Weight | Array | None) -> float:
    if same_stored(one, other):
        return 0.0
    return _apart(*(None if held is None else values_stored(held) for held in (one, other)))


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
