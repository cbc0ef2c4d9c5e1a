"""What of a network can be compared when some layer cannot be run: everything that does not depend on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
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
from bnfold.runtime import BOOL, TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto

    from bnfold.caffe.caffe_pb2 import LayerParameter
    from bnfold.onnx.functions import Key
    from bnfold.onnx.graph import Parts
    from bnfold.onnx.weight import Weight


@dataclass(frozen=True, slots=True)
class Hidden:
    """The part of a network that cannot be run.

    Attributes:
        layers: those that cannot be run, and those behind them, in order of execution.
        reasons: name of a layer of Caffe that cannot be run -> why.
        outputs: the network's outputs among their tops, each with its reason.
        reads: what these layers read of the part that runs, and what that is a copy of.
        nodes: of an ONNX network these nodes, each as a message with its operators' version and a digest of what is
            stored for it.
        blobs: what these nodes write.
        made: of an ONNX network, output that is no tensor of numbers -> what the node says that makes it.
        draws: of an ONNX network, output of a node that draws -> what the node says.
        drawn_for: of an ONNX network, output -> the outputs of nodes that draw which it is made of.
        copies: of a network of Caffe, top of any layer that hands its bottom on -> that bottom.
        fed: top of such a layer of Caffe -> its shape, where what reads it runs, as if it were an input.
        whole: the network of Caffe with all its layers.
    """

    layers: tuple[Layer, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Uncompared, ...] = ()
    reads: tuple[str, ...] = ()
    nodes: tuple[bytes, ...] = ()
    blobs: frozenset[str] = frozenset()
    made: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    draws: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    drawn_for: Mapping[str, frozenset[str]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    fed: Mapping[str, Shape] = field(default_factory=dict)
    whole: Net | None = None


NOTHING_HIDDEN = Hidden()


def runnable(net: Net, fed: Mapping[str, Shape] | None = None) -> tuple[Net, Hidden]:
    """The part of a net that runs, and what stays hidden; the net itself where all of it runs.

    Args:
        net: of Caffe.
        fed: top of a layer that cannot be run -> the shape of what is fed in its place; by default each that has one,
            or for which one can be assumed (`assumed`).
    """
    from bnfold.compare.assumed import ROWS, assumed_shapes, shapes_given
    from bnfold.onnx.export.network import refused_layers

    shapes = assumed_shapes(net) if fed is None else shapes_given(net, fed)
    reasons = {id(layer): (layer.name, str(reason)) for layer, reason in refused_layers(net, shapes)}
    if not reasons:
        return net, NOTHING_HIDDEN
    made = {top: shapes[top] for layer in net.layers if id(layer) in reasons for top in layer.tops if net.uses(top)}
    asked = made if fed is None else fed
    fed = {
        top: tuple(ROWS if size == UNKNOWN else size for size in shape)
        for top, shape in made.items()
        if shape and top in asked
    }
    missing, kept, hidden = set[str](), list[Layer](), list[Layer]()
    for layer in net.layers:
        runs = id(layer) not in reasons and missing.isdisjoint(layer.bottoms)
        (kept if runs else hidden).append(layer)
        missing.update(() if runs else (top for top in layer.tops if top not in fed))
    part = net.with_layers(kept)
    part.inputs |= fed
    part.outputs = [top for layer in part.layers for top in layer.tops if not part.uses(top) and top not in part.inputs]
    culprit: dict[str, str] = {}
    for layer in hidden:
        before = [culprit[bottom] for bottom in layer.bottoms if bottom in culprit]
        culprit.update(dict.fromkeys(layer.tops, before[0] if before else layer.name))
    outputs = [
        Uncompared(blob, f"stands behind layer '{culprit[blob]}', which cannot be run")
        for blob in net.outputs
        if blob in culprit
    ]
    copies = _copies(net)
    reads = dict.fromkeys(bottom for layer in hidden for bottom in layer.bottoms if bottom not in culprit)
    reads |= dict.fromkeys(source for blob in reads for source in _sources(copies, blob))
    told = dict(reasons.values())
    return part, Hidden(tuple(hidden), told, tuple(outputs), tuple(reads), copies=copies, fed=fed, whole=net)


def _copies(net: Net) -> dict[str, str]:
    """Top -> bottom, where a layer hands on what it reads: a Split, a Dropout."""
    from bnfold.caffe.frontend import CAFFE

    context, copies = FoldContext(net, CAFFE.shapes(net)), dict[str, str]()
    for layer in net.layers:
        if not len(layer.blobs):  # what learned something computes
            with suppress(Blocked, ModelError):
                if isinstance(CAFFE.operator(layer, context), Alias):
                    copies.update(dict.fromkeys(layer.tops, layer.bottoms[0]))
    return copies


DRAWING = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
)
"""ONNX's operators that draw. A seed fixes the first run of a session, and each run goes on from there."""

LOGIC: Mapping[str, Callable[[Sequence[bool]], bool]] = {
    "And": all,
    "Identity": all,
    "Not": lambda read: not all(read),
    "Or": any,
}
"""Operator -> what it makes of flags."""


def drawn(parts: Parts) -> Hidden:
    """The nodes of an ONNX network of which no values can be compared, and what stands behind.

    They draw them, so that no two runs give the same, or make an output that is no tensor of numbers: maps of classes,
    as scikit-learn's classifiers give them, lists, text.
    """
    from bnfold.onnx.functions import functions_of
    from bnfold.onnx.graph import stored_weights
    from bnfold.onnx.node import STANDARD, captured, settings_of

    model, weights, folder = parts
    graph, drawing = model.graph, _Drawing(functions_of(model), folder)
    flags = dict.fromkeys(["", *(port.name for port in graph.input)], False)  # not given; fed, as a stand-in is
    flags |= {one.name: bool(one.array().any()) for one in weights if one.dtype == bool and prod(one.shape) == 1}
    flags = drawing.known_among(graph.node, graph.initializer, flags)
    unlike = {port.name for port in graph.output if not _holds_numbers(port)}
    if not unlike and not any(drawing.draws(node, flags) for node in graph.node):
        return NOTHING_HIDDEN
    stored, culprit = stored_weights(parts), dict[str, str]()
    versions = {"" if one.domain in STANDARD else one.domain: one.version for one in model.opset_import}
    nodes, reads, made = [], dict[str, None](), dict[str, tuple[object, ...]]()
    draws, drawn_for = dict[str, tuple[object, ...]](), dict[str, frozenset[str]]()
    for node in graph.node:
        read = [name for name in (*node.input, *sorted(captured(node))) if name]
        before = [culprit[name] for name in read if name in culprit and node.op_type not in ("Shape", "Size")]
        if not before and drawing.draws(node, flags):
            before = [f"node '{node.name or node.output[0]}' ({node.op_type}), which draws other values in each run"]
        if not before and not unlike.isdisjoint(node.output):
            before = [f"node '{node.name or node.output[0]}' ({node.op_type}), which makes no tensor of numbers"]
        if not before:
            continue
        culprit.update(dict.fromkeys(filter(None, node.output), before[0]))
        reads |= dict.fromkeys(name for name in read if name not in culprit and name not in stored)
        learned = [_digest(stored[name]) for name in read if name in stored]
        domain = "" if node.domain in STANDARD else node.domain
        version = versions.get(domain, 1)
        nodes.append(b"".join([node.SerializeToString(deterministic=True), str(version).encode(), *learned]))
        said = domain, node.op_type, sorted(settings_of(node, version).items()), learned
        made |= {name: (place, *said) for place, name in enumerate(node.output) if name in unlike}
        if node.op_type in (*DRAWING, "Dropout") and drawing.draws(node, flags):
            draws[node.output[0]] = said
        roots = frozenset(node.output[:1]) & draws.keys()
        roots = roots.union(*(drawn_for.get(name, frozenset[str]()) for name in read))
        drawn_for |= dict.fromkeys(filter(None, node.output), roots)
    outputs = [port.name for port in graph.output if port.name in culprit]
    uncompared = (Uncompared(name, f"stands behind {culprit[name]}") for name in outputs)
    nodes += [function.SerializeToString(deterministic=True) for function in model.functions]
    behind = {name: drawn_for[name] for name in outputs}
    return Hidden((), {}, tuple(uncompared), tuple(reads), tuple(nodes), frozenset(culprit), made, draws, behind)


def _digest(weight: Weight) -> bytes:
    """Of its type, its shape and its values."""
    digest = hashlib.sha256(f"{weight.dtype.name}{weight.shape}".encode())
    digest.update(weight.array().tobytes())
    return digest.digest()


def _holds_numbers(port: ValueInfoProto) -> bool:
    kind = port.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and port.type.tensor_type.elem_type != TEXT)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What draws in an ONNX model, its bodies and functions among it.

    Attributes:
        functions: what calls it -> function.
        folder: where external weights lie.
        known: function and the flags that it is given -> whether it draws.
    """

    functions: Mapping[Key, FunctionProto]
    folder: Path | None
    known: dict[tuple[Key, frozenset[tuple[str, bool]]], bool] = field(default_factory=dict)

    def known_among(
        self, nodes: Sequence[NodeProto], tensors: Iterable[TensorProto], around: Mapping[str, bool]
    ) -> dict[str, bool]:
        """Name -> flag: those around some nodes, stored beside them, of their constants, and the logic of these."""
        from bnfold.onnx.file import values_of
        from bnfold.onnx.node import constants_among

        flags = {**around}
        for name, one in (constants_among(nodes) | {one.name: one for one in tensors}).items():
            if one.data_type == BOOL and prod(one.dims) == 1:
                flags[name] = bool(values_of(one, self.folder).any())
        for node in nodes:
            if node.op_type in LOGIC and all(name in flags for name in node.input):
                flags[node.output[0]] = LOGIC[node.op_type]([flags[name] for name in node.input])
        return flags

    def draws(self, node: NodeProto, flags: Mapping[str, bool]) -> bool:
        """Whether a node draws, given the flags around it."""
        from bnfold.onnx.functions import key_of
        from bnfold.onnx.node import bodies

        if (called := self.functions.get(key_of(node))) is not None:
            read = zip_longest(called.input, node.input, fillvalue="")
            given = {"": False, **{name: flags[one] for name, one in read if one in flags}}
            key = key_of(node), frozenset(given.items())
            if key not in self.known:
                self.known[key] = False  # no function calls itself; one that does is not followed
                self.known[key] = self._any_of(called.node, (), given)
            return self.known[key]
        if node.op_type == "Dropout" and len(node.input) > 2:  # since opset 12: whether it is in training
            return flags.get(node.input[2], True)  # computed: it may be
        return node.op_type in DRAWING or any(self._any_of(body.node, body.initializer, flags) for body in bodies(node))

    def _any_of(self, nodes: Sequence[NodeProto], tensors: Iterable[TensorProto], around: Mapping[str, bool]) -> bool:
        flags = self.known_among(nodes, tensors, around)
        return any(self.draws(node, flags) for node in nodes)


def same_layers(reference: Sequence[Layer], candidate: Sequence[Layer]) -> bool:
    """Whether two lists hold the same layers, which compute the same of the same bottoms: equal to the last weight."""
    return [(layer.bottoms, layer.tops) for layer in reference] == [
        (layer.bottoms, layer.tops) for layer in candidate
    ] and all(map(_same, reference, candidate))


def same_behind(reference: Hidden, candidate: Hidden, compared: Mapping[str, str]) -> bool:
    """Whether what cannot be run is the same in both networks, and reads only what was compared or fed.

    Given:   proposal -> roi -> fc6 -> drop6 -> score        and:   proposal -> roi -> fc6 -> score
    Result:  the same, if proposal and roi read what was compared: a Dropout hands on what it reads

    Args:
        reference: what is hidden of it.
        candidate: likewise.
        compared: blob of the reference -> the candidate's that it was compared to, or that is fed as it is.
    """
    if not reference.layers:  # equal nodes read equal names
        same = bool(reference.nodes) and reference.nodes == candidate.nodes
        return same and all(compared.get(name) == name for name in reference.reads)
    partners = {**compared, **agreeing(reference, candidate, compared)}
    computing = [top for layer in _computing(reference) for top in layer.tops]
    outputs = [output.blob for output in reference.outputs]
    same = len([*_computing(reference)]) == len([*_computing(candidate)]) and partners.keys() >= {*computing}
    return same and _alike((reference, candidate), partners, outputs, outputs)


def differing_behind(reference: Hidden, candidate: Hidden, compared: Mapping[str, str]) -> list[str]:
    """The outputs that cannot be run and are not known to be made by the same layers of what was compared; arguments as
    in `same_behind`.
    """
    outputs = [output.blob for output in reference.outputs]
    if not reference.layers:
        return [] if same_behind(reference, candidate, compared) else outputs
    partners = {**compared, **agreeing(reference, candidate, compared)}
    return [name for name in outputs if not _alike((reference, candidate), partners, [name], [name])]


def agreeing(reference: Hidden, candidate: Hidden, compared: Mapping[str, str]) -> dict[str, str]:
    """Top -> the candidate's, of layers of Caffe that cannot be run and are the same, and read what was compared or
    what such layers make; arguments as in `same_behind`.
    """
    partners, agreed = dict(compared), dict[str, str]()
    for layer, other in _paired(reference, candidate):
        if _same(layer, other) and _alike((reference, candidate), partners, layer.bottoms, other.bottoms):
            made = dict(zip(layer.tops, other.tops, strict=True))
            partners |= made
            agreed |= made
    return agreed


def counterparts(reference: Hidden, candidate: Hidden) -> dict[str, str]:
    """Top that is fed in the place of a layer -> the candidate's in that place."""
    tops = {
        top: other
        for layer, one in _paired(reference, candidate)
        for top, other in zip(layer.tops, one.tops, strict=False)
    }
    return {top: tops[top] for top in reference.fed if tops.get(top) in candidate.fed}


def read_alike(reference: Hidden, candidate: Hidden, pairs: Mapping[str, str]) -> dict[str, str]:
    """Blob -> the candidate's, of those without a partner that the same layers read which no fold changes.

    Given:   conv -> c, norm -> c, odd -> c (in place, of an unknown type)
    Result:  c@norm -> c@conv of the folded file, where odd reads that; nothing is moved across odd

    Args:
        reference, candidate: what is hidden of them.
        pairs: the partners that are known.
    """
    taken = {*pairs.values()}
    return {
        blob: other
        for layer, one in _paired(reference, candidate)
        if _stays(layer) and _may_be_same(layer, one)
        for blob, other in zip(layer.bottoms, one.bottoms, strict=False)
        if blob not in pairs and other not in taken
    }


def _paired(reference: Hidden, candidate: Hidden) -> Iterator[tuple[Layer, Layer]]:
    """The layers that cannot be run, with those of the same name, the first with the first."""
    named: dict[str, list[Layer]] = {}
    for layer in _computing(candidate):
        named.setdefault(layer.name, []).append(layer)
    return ((layer, named[layer.name].pop(0)) for layer in _computing(reference) if named.get(layer.name))


def made_otherwise(
    reference: tuple[Net, Hidden], candidate: tuple[Net, Hidden], compared: Mapping[str, str]
) -> list[str]:
    """The outputs behind a layer of Caffe that cannot be run, if it is another one in the candidate, reads other blobs
    there, or is in one of the networks alone.

    Args:
        reference, candidate: each as a net that runs and what stays hidden.
        compared: as in `same_behind`.
    """
    (net, ours), (_, theirs) = reference, candidate
    partners = {**compared, **agreeing(ours, theirs, compared)}
    known, others = set(partners.values()), set[str]()
    for layer, other in _paired(ours, theirs):
        wanted = [{partners[one] for one in _sources(ours.copies, blob) if one in partners} for blob in layer.bottoms]
        given = [known.intersection(_sources(theirs.copies, blob)) for blob in other.bottoms]
        alike = all(one & two or not (one and two) for one, two in zip(wanted, given, strict=False))
        if not alike or (_stays(layer) and not _may_be_same(layer, other)):
            others.add(layer.name)
    names = [{layer.name for layer in (*runs.layers, *hidden.layers)} for runs, hidden in (reference, candidate)]
    lost, added = ({one.name for one in hidden.layers if _stays(one)} for hidden in (ours, theirs))
    found = _outputs_behind(ours, others | lost - names[1])
    outputs = (ours.whole or net).outputs
    return list(
        dict.fromkeys([*found, *(blob for blob in _outputs_behind(theirs, added - names[0]) if blob in outputs)])
    )


def _stays(layer: Layer) -> bool:
    """Whether no fold changes a layer, since nothing is known of what it computes."""
    return bool(layer.opaque) or layer_type_of(layer) not in OPERATORS


def _outputs_behind(hidden: Hidden, names: Collection[str]) -> list[str]:
    """The outputs that layers of some names make, or what stands behind these."""
    tops = set[str]()
    for layer in hidden.layers:
        tops.update(layer.tops if layer.name in names or not tops.isdisjoint(layer.bottoms) else ())
    return [output.blob for output in hidden.outputs if output.blob in tops]


def _alike(
    sides: tuple[Hidden, Hidden], partners: Mapping[str, str], ours: Iterable[str], others: Iterable[str]
) -> bool:
    """Whether blobs of both networks are, one by one, partners, or copies of such."""
    reference, candidate = sides
    return all(
        {partners.get(one) for one in _sources(reference.copies, blob)}.intersection(_sources(candidate.copies, other))
        for blob, other in zip_longest(ours, others)
    )


def _computing(hidden: Hidden) -> Iterator[Layer]:
    return (layer for layer in hidden.layers if not (layer.tops and hidden.copies.keys() >= set(layer.tops)))


def _sources(copies: Mapping[str, str], blob: str | None) -> Iterator[str]:
    """A blob, what it is a copy of, what that is one of, and so on."""
    while blob is not None:
        yield blob
        blob = copies.get(blob)


def run_in_one(reference: tuple[Net, Hidden], candidate: tuple[Net, Hidden]) -> list[str]:
    """Notes on the layers of Caffe that cannot be run in one of the networks, and are in the other, each as a net that
    runs and what stays hidden.
    """
    sides = (("reference", reference, candidate), ("candidate", candidate, reference))
    return [
        f"layer '{name}' cannot be run in the {side} alone: {reason}"
        for side, (_, hidden), (other, _) in sides
        for names in [{layer.name for layer in other.layers}]
        for name, reason in hidden.reasons.items()
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
