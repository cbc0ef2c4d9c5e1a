"""What of a Caffe network can be compared when some layer cannot be run: everything that does not depend on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Alias
from bnfold.algebra.records import Blocked
from bnfold.caffe.layers.axes import UNKNOWN
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.operators import OPERATORS
from bnfold.compare.records import Uncompared
from bnfold.errors import ModelError
from bnfold.net import Layer, Net, Shape
from bnfold.options import ROUNDING

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter
    from bnfold.compare.models import Model


@dataclass(frozen=True, slots=True)
class UnrunnableLayers:
    """The layers of a Caffe network that cannot be run, and those behind them.

    Attributes:
        layers: these layers, in order of execution.
        reasons: name of a layer that cannot be run -> why.
        outputs: the network's outputs among their tops, each with its reason.
        reads: what these layers read of the part that runs, and what that is a copy of.
        copies: top of any layer that hands its bottom on -> that bottom.
        fed: top of a layer that cannot be run -> its shape, where what reads it runs, as if it were an input.
        whole: the network with all its layers; None where all of them run.
    """

    layers: tuple[Layer, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Uncompared, ...] = ()
    reads: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    fed: Mapping[str, Shape] = field(default_factory=dict)
    whole: Net | None = None


ALL_RUN = UnrunnableLayers()


def runnable(net: Net, fed: Mapping[str, Shape] | None = None) -> tuple[Net, UnrunnableLayers]:
    """The part of a net that runs, and the layers that do not; the net itself where all of it runs.

    Args:
        net: of Caffe.
        fed: top of a layer that cannot be run -> the shape of what is fed in its place; by default each that has one,
            or for which one can be assumed (`assumed_shapes`).
    """
    from bnfold.compare.assumed_shapes import ROWS, assumed_shapes, shapes_given
    from bnfold.onnx.export.network import refused_layers

    shapes = assumed_shapes(net) if fed is None else shapes_given(net, fed)
    reasons = {id(layer): (layer.name, str(reason)) for layer, reason in refused_layers(net, shapes)}
    if not reasons:
        return net, ALL_RUN
    made = {top: shapes[top] for layer in net.layers if id(layer) in reasons for top in layer.tops if net.uses(top)}
    asked = made if fed is None else fed
    fed = {
        top: tuple(ROWS if size == UNKNOWN else size for size in shape)
        for top, shape in made.items()
        if shape and top in asked
    }
    kept, hidden = _divided(net, reasons, fed)
    part = net.with_layers(kept)
    part.inputs |= fed
    part.outputs = [top for layer in part.layers for top in layer.tops if not part.uses(top) and top not in part.inputs]
    culprit = _culprits(hidden)
    outputs = [
        Uncompared(blob, f"stands behind layer '{culprit[blob]}', which cannot be run")
        for blob in net.outputs
        if blob in culprit
    ]
    copies = _copies(net)
    reads = dict.fromkeys(bottom for layer in hidden for bottom in layer.bottoms if bottom not in culprit)
    reads |= dict.fromkeys(source for blob in reads for source in _sources(copies, blob))
    return part, UnrunnableLayers(tuple(hidden), dict(reasons.values()), tuple(outputs), tuple(reads), copies, fed, net)


def _divided(net: Net, refused: Collection[int], fed: Collection[str]) -> tuple[list[Layer], list[Layer]]:
    """The layers that run, and those that do not: they are refused, by their `id`, or read what no layer gives them."""
    missing, kept, hidden = set[str](), list[Layer](), list[Layer]()
    for layer in net.layers:
        runs = id(layer) not in refused and missing.isdisjoint(layer.bottoms)
        (kept if runs else hidden).append(layer)
        missing.update(() if runs else (top for top in layer.tops if top not in fed))
    return kept, hidden


def _culprits(hidden: Iterable[Layer]) -> dict[str, str]:
    """Top of a layer that does not run -> the name of the first layer in front of it that cannot be run, or its own."""
    culprit: dict[str, str] = {}
    for layer in hidden:
        before = [culprit[bottom] for bottom in layer.bottoms if bottom in culprit]
        culprit.update(dict.fromkeys(layer.tops, before[0] if before else layer.name))
    return culprit


def _copies(net: Net) -> dict[str, str]:
    """Top -> bottom, where a layer hands on what it reads: a Split, a Dropout."""
    from bnfold.caffe.frontend import CAFFE

    context, copies = FoldContext(net, dict(CAFFE.shapes(net))), dict[str, str]()
    for layer in net.layers:
        if not len(layer.blobs):  # what learned something computes
            with suppress(Blocked, ModelError):
                if isinstance(CAFFE.operator(layer, context), Alias):
                    copies.update(dict.fromkeys(layer.tops, layer.bottoms[0]))
    return copies


def same_layers(reference: Sequence[Layer], candidate: Sequence[Layer]) -> bool:
    """Whether two lists hold equal layers, to the last weight, with bottoms and tops of the same names."""
    return [(layer.bottoms, layer.tops) for layer in reference] == [
        (layer.bottoms, layer.tops) for layer in candidate
    ] and all(map(_same, reference, candidate))


def same_behind(reference: UnrunnableLayers, candidate: UnrunnableLayers, partners: Mapping[str, str]) -> bool:
    """Whether what cannot be run is the same in both networks, and reads only what was compared or fed.

    Given:   proposal -> roi -> fc6 -> drop6 -> score        and:   proposal -> roi -> fc6 -> score
    Result:  the same, if proposal and roi read what was compared: a Dropout hands on what it reads

    Args:
        reference, candidate: what cannot be run of them.
        partners: blob of the reference -> the candidate's that it was compared to, or that is fed as it is, and what
            `agreeing` makes of these.
    """
    computing = [top for layer in _computing(reference) for top in layer.tops]
    outputs = [output.blob for output in reference.outputs]
    same = len([*_computing(reference)]) == len([*_computing(candidate)]) and partners.keys() >= {*computing}
    return bool(reference.layers) and same and _alike(reference, candidate, partners, outputs, outputs)


def differing_behind(
    reference: UnrunnableLayers, candidate: UnrunnableLayers, partners: Mapping[str, str]
) -> list[str]:
    """The outputs that cannot be run and are not known to be made by the same layers of what was compared; arguments as
    in `same_behind`.
    """
    outputs = [output.blob for output in reference.outputs]
    return [name for name in outputs if not _alike(reference, candidate, partners, [name], [name])]


def agreeing(reference: UnrunnableLayers, candidate: UnrunnableLayers, compared: Mapping[str, str]) -> dict[str, str]:
    """Top -> the candidate's, of layers of Caffe that cannot be run and are the same, and read what was compared or
    what such layers make; `compared`: blob of the reference -> the candidate's.
    """
    partners, agreed = dict(compared), dict[str, str]()
    for layer, other in _paired(reference, candidate):
        if _same(layer, other) and _alike(reference, candidate, partners, layer.bottoms, other.bottoms):
            made = dict(zip(layer.tops, other.tops, strict=True))
            partners |= made
            agreed |= made
    return agreed


def counterparts(reference: UnrunnableLayers, candidate: UnrunnableLayers) -> dict[str, str]:
    """Top of a layer that cannot be run, and is fed -> the top of the candidate's layer in its place."""
    tops = {
        top: other
        for layer, one in _paired(reference, candidate)
        for top, other in zip(layer.tops, one.tops, strict=False)
    }
    return {top: tops[top] for top in reference.fed if tops.get(top) in candidate.fed}


def read_alike(reference: UnrunnableLayers, candidate: UnrunnableLayers, pairs: Mapping[str, str]) -> dict[str, str]:
    """Blob -> the candidate's, of those without a partner that the same layers read which no fold changes.

    Given:   conv -> c, norm -> c, odd -> c (in place, of an unknown type)
    Result:  c@norm -> c@conv of the folded file, where odd reads that; nothing is moved across odd
    """
    taken = {*pairs.values()}
    return {
        blob: other
        for layer, one in _paired(reference, candidate)
        if _stays(layer) and _may_be_same(layer, one)
        for blob, other in zip(layer.bottoms, one.bottoms, strict=False)
        if blob not in pairs and other not in taken
    }


def _paired(reference: UnrunnableLayers, candidate: UnrunnableLayers) -> Iterator[tuple[Layer, Layer]]:
    """The layers that cannot be run, with those of the same name, the first with the first."""
    named: dict[str, list[Layer]] = {}
    for layer in _computing(candidate):
        named.setdefault(layer.name, []).append(layer)
    return ((layer, named[layer.name].pop(0)) for layer in _computing(reference) if named.get(layer.name))


def layers_made_otherwise(reference: Model, candidate: Model, partners: Mapping[str, str]) -> list[str]:
    """The outputs behind a layer of Caffe that cannot be run, if it is another one in the candidate, reads other blobs
    there, or is in one of the networks alone; `partners` as in `same_behind`.
    """
    ours, theirs = reference.unrunnable, candidate.unrunnable
    known, others = set(partners.values()), set[str]()
    for layer, other in _paired(ours, theirs):
        wanted = [{partners[one] for one in _sources(ours.copies, blob) if one in partners} for blob in layer.bottoms]
        given = [known.intersection(_sources(theirs.copies, blob)) for blob in other.bottoms]
        alike = all(one & two or not (one and two) for one, two in zip(wanted, given, strict=False))
        if not alike or (_stays(layer) and not _may_be_same(layer, other)):
            others.add(layer.name)
    names = [{layer.name for layer in (*_running(one), *one.unrunnable.layers)} for one in (reference, candidate)]
    lost, added = ({one.name for one in hidden.layers if _stays(one)} for hidden in (ours, theirs))
    found = _outputs_behind(ours, others | lost - names[1])
    whole = ours.whole or reference.net
    outputs = whole.outputs if whole is not None else ()
    return list(
        dict.fromkeys([*found, *(blob for blob in _outputs_behind(theirs, added - names[0]) if blob in outputs)])
    )


def _running(model: Model) -> Sequence[Layer]:
    """The layers of Caffe of a network that run."""
    return model.net.layers if model.net is not None else ()


def _stays(layer: Layer) -> bool:
    """Whether no fold changes a layer, since nothing is known of what it computes."""
    return bool(layer.opaque) or layer_type_of(layer) not in OPERATORS


def _outputs_behind(hidden: UnrunnableLayers, names: Collection[str]) -> list[str]:
    """The outputs that layers of some names make, or what stands behind these."""
    tops = set[str]()
    for layer in hidden.layers:
        tops.update(layer.tops if layer.name in names or not tops.isdisjoint(layer.bottoms) else ())
    return [output.blob for output in hidden.outputs if output.blob in tops]


def _alike(
    reference: UnrunnableLayers,
    candidate: UnrunnableLayers,
    partners: Mapping[str, str],
    ours: Iterable[str],
    others: Iterable[str],
) -> bool:
    """Whether blobs of both networks are, one by one, partners, or copies of such."""
    return all(
        {partners.get(one) for one in _sources(reference.copies, blob)}.intersection(_sources(candidate.copies, other))
        for blob, other in zip_longest(ours, others)
    )


def _computing(hidden: UnrunnableLayers) -> Iterator[Layer]:
    return (layer for layer in hidden.layers if not (layer.tops and hidden.copies.keys() >= set(layer.tops)))


def _sources(copies: Mapping[str, str], blob: str | None) -> Iterator[str]:
    """A blob, what it is a copy of, what that is one of, and so on."""
    while blob is not None:
        yield blob
        blob = copies.get(blob)


def run_in_one(reference: Model, candidate: Model) -> list[str]:
    """Notes on the layers of Caffe that cannot be run in one of the networks, and run in the other."""
    sides = (("reference", reference, candidate), ("candidate", candidate, reference))
    return [
        f"layer '{name}' cannot be run in the {side} alone: {reason}"
        for side, one, other in sides
        for names in [{layer.name for layer in _running(other)}]
        for name, reason in one.unrunnable.reasons.items()
        if name in names
    ]


def _same(ours: Layer, theirs: Layer) -> bool:
    """Whether they compute the same, whatever their blobs are called."""
    return (
        (ours.name, ours.type, len(ours.tops)) == (theirs.name, theirs.type, len(theirs.tops))
        and (ours.param is theirs.param or _unnamed(ours.param) == _unnamed(theirs.param))
        and ours.blobs.shapes == theirs.blobs.shapes
        and all(
            np.array_equal(blob, other, equal_nan=True) for blob, other in zip(ours.blobs, theirs.blobs, strict=True)
        )
    )


def _may_be_same(ours: Layer, theirs: Layer) -> bool:
    """Whether they have the same type and settings, whatever else a file says of them, and weights up to rounding."""
    return (
        (ours.type, len(ours.bottoms), len(ours.tops)) == (theirs.type, len(theirs.bottoms), len(theirs.tops))
        and layer_settings(ours) == layer_settings(theirs)
        and ours.blobs.shapes == theirs.blobs.shapes
        and all(
            np.allclose(blob, other, rtol=0, atol=ROUNDING["float16"] * np.abs(blob).max(initial=0), equal_nan=True)
            for blob, other in zip(ours.blobs, theirs.blobs, strict=True)
        )
    )


def _unnamed(param: LayerParameter) -> LayerParameter:
    """What a layer says, without the blobs that it names."""
    unnamed = deepcopy(param)
    unnamed.ClearField("bottom")
    unnamed.ClearField("top")
    return unnamed


def layer_settings(layer: Layer) -> dict[str, Any]:
    """The parameters of a Caffe layer's type, by group: `pooling_param`."""
    return {field.name: value for field, value in layer.param.ListFields() if field.name.endswith("_param")}
