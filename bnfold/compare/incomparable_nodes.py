"""The nodes of an ONNX network of which no values can be compared: those that draw, those that make no numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING

from bnfold.compare.records import Uncompared
from bnfold.runtime import BOOL, TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto

    from bnfold.compare.models import Model
    from bnfold.onnx.functions import Key
    from bnfold.onnx.stored_values import Parts
    from bnfold.onnx.weight import Weight

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


@dataclass(frozen=True, slots=True)
class IncomparableNodes:
    """The nodes of an ONNX network of which no values can be compared, and those behind them.

    Attributes:
        nodes: each as a message with its operators' version and a digest of what is stored for it.
        outputs: the network's outputs that they write, each with its reason.
        reads: what these nodes read of the rest of the network.
        blobs: what these nodes write.
        made: output that is no tensor of numbers -> what the node says that makes it.
        draws: output of a node that draws -> what the node says.
        drawn_for: output of the network -> the outputs of nodes that draw which it is made of.
    """

    nodes: tuple[bytes, ...] = ()
    outputs: tuple[Uncompared, ...] = ()
    reads: tuple[str, ...] = ()
    blobs: frozenset[str] = frozenset()
    made: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    draws: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    drawn_for: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def are_those_of(self, candidate: IncomparableNodes, compared: Mapping[str, str]) -> bool:
        """Whether the candidate has the same nodes, and they read only what was compared, or is fed as it is."""
        same = bool(self.nodes) and self.nodes == candidate.nodes
        return same and all(compared.get(name) == name for name in self.reads)  # equal nodes read equal names


ALL_COMPARABLE = IncomparableNodes()


def incomparable_nodes(parts: Parts) -> IncomparableNodes:
    """The nodes that draw, so that no two runs give the same, or make an output that is no tensor of numbers (maps of
    classes, as scikit-learn's classifiers give them, lists, text), and what stands behind these.
    """
    from bnfold.onnx.functions import functions_of
    from bnfold.onnx.node import domain_of, reads_by_place, settings_of
    from bnfold.onnx.stored_values import stored_weights

    model, weights, folder = parts
    graph, drawing = model.graph, _Drawing(functions_of(model), folder)
    flags = dict.fromkeys(["", *(port.name for port in graph.input)], False)  # not given; fed, as a stand-in is
    flags |= {one.name: bool(one.array().any()) for one in weights if one.dtype == bool and prod(one.shape) == 1}
    flags = drawing.known_among(graph.node, graph.initializer, flags)
    unlike = {port.name for port in graph.output if not _holds_numbers(port)}
    if not unlike and not any(drawing.draws(node, flags) for node in graph.node):
        return ALL_COMPARABLE
    hidden, culprit = _hidden_nodes(graph.node, drawing, flags, unlike)
    stored, versions = stored_weights(parts), {domain_of(one.domain): one.version for one in model.opset_import}
    messages, reads, made = list[bytes](), dict[str, None](), dict[str, tuple[object, ...]]()
    draws, drawn_for = dict[str, tuple[object, ...]](), dict[str, frozenset[str]]()
    for node in hidden:
        read, domain = [*filter(None, reads_by_place(node))], domain_of(node.domain)
        reads |= dict.fromkeys(name for name in read if name not in culprit and name not in stored)
        learned, version = [_digest(stored[name]) for name in read if name in stored], versions.get(domain, 1)
        messages.append(b"".join([node.SerializeToString(deterministic=True), str(version).encode(), *learned]))
        alike = domain, node.op_type, sorted(settings_of(node, version).items()), learned
        made |= {name: (place, *alike) for place, name in enumerate(node.output) if name in unlike}
        if node.op_type in (*DRAWING, "Dropout") and drawing.draws(node, flags):
            draws[node.output[0]] = alike
        roots = frozenset(node.output[:1]) & draws.keys()
        roots = roots.union(*(drawn_for.get(name, frozenset[str]()) for name in read))
        drawn_for |= dict.fromkeys(filter(None, node.output), roots)
    messages += [function.SerializeToString(deterministic=True) for function in model.functions]
    names = [port.name for port in graph.output if port.name in culprit]
    outputs = tuple(Uncompared(name, f"stands behind {culprit[name]}") for name in names)
    behind = {name: drawn_for[name] for name in names}
    return IncomparableNodes(tuple(messages), outputs, tuple(reads), frozenset(culprit), made, draws, behind)


def nodes_made_otherwise(ours: Model, theirs: Model, partners: Mapping[str, str]) -> list[str]:
    """The outputs without numbers whose last node says or reads other things in the candidate (labels, where it splits,
    a blob), and those made of what a node draws there that does. Inputs have their partners, too.
    """
    before, after = ours.incomparable, theirs.incomparable

    def differs(name: str, said: Mapping[str, object], others: Mapping[str, object], reads_any: bool = False) -> bool:
        return said[name] != others[name] or not (reads_any or _reads_partners(ours, theirs, name, partners))

    found = [name for name in before.made if name in after.made and differs(name, before.made, after.made)]
    both = before.draws.keys() & after.draws.keys()
    # What is drawn like another blob has its shape, whichever that is.
    likes = {name for name in both if ours.makers[name].op_type.endswith("Like")}
    drawn = {name for name in both if differs(name, before.draws, after.draws, name in likes)}
    for output, roots in before.drawn_for.items():
        if output in after.drawn_for and (roots & drawn or roots != after.drawn_for[output]):
            found.append(output)
    return list(dict.fromkeys(found))


def _reads_partners(ours: Model, theirs: Model, name: str, partners: Mapping[str, str]) -> bool:
    """Whether the nodes that make a value in both networks read no blobs that are partners of others, nor copies."""
    known = set(partners.values())
    for read, other in zip(ours.makers[name].input, theirs.makers[name].input, strict=False):
        wanted = {partners[source] for source in ours.copied_from(read) if source in partners}
        given = known.intersection(theirs.copied_from(other))
        if wanted and given and wanted.isdisjoint(given):
            return False
    return True


def _hidden_nodes(
    nodes: Iterable[NodeProto], drawing: _Drawing, flags: Mapping[str, bool], unlike: set[str]
) -> tuple[list[NodeProto], dict[str, str]]:
    """The nodes of which no values can be compared, and for each value that they make the first of them.

    Nodes are given in order of execution, flags as far as they are known, and outputs that are no tensors of numbers.
    """
    from bnfold.onnx.node import reads_by_place

    hidden: list[NodeProto] = []
    culprit: dict[str, str] = {}
    for node in nodes:
        # Of a blob whose values are unknown the shape is known all the same.
        read = () if node.op_type in ("Shape", "Size") else reads_by_place(node)
        cause, lost = next((culprit[name] for name in read if name in culprit), ""), [*filter(None, node.output)]
        if not cause and drawing.draws(node, flags):
            cause = f"node '{node.name or node.output[0]}' ({node.op_type}), which draws other values in each run"
        if not cause and not unlike.isdisjoint(node.output):
            cause = f"node '{node.name or node.output[0]}' ({node.op_type}), which makes no tensor of numbers"
            lost, node = [name for name in node.output if name in unlike], _labelling(node)
        if cause:
            hidden.append(node)
            culprit.update(dict.fromkeys(lost, cause))
    return hidden, culprit


def _labelling(node: NodeProto) -> NodeProto:
    """What makes labels that are text: of a linear classifier the scores beside them, which are compared and have all
    that it learned; of others all that they read.
    """
    from bnfold.onnx.node import with_attributes

    if node.op_type != "LinearClassifier":
        return node
    behind = with_attributes(node, "coefficients", "intercepts")
    behind.input[:] = [node.output[1]]
    return behind


def _digest(weight: Weight) -> bytes:
    """Of its type, its shape and its values."""
    digest = hashlib.sha256(f"{weight.dtype.name}{weight.shape}".encode())
    for piece in weight.pieces():
        digest.update(piece)
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
