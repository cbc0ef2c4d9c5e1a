"""What of a network can be compared when some layer cannot be run: everything that does not depend on it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.records import Uncompared
from bnfold.net import Layer, Net

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnfold.onnx.graph import Parts


@dataclass(frozen=True, slots=True)
class Hidden:
    """The part of a network that cannot be run.

    Attributes:
        layers: those that cannot be run, and those behind them, in order of execution.
        outputs: the network's outputs among their tops, each with its reason.
        reads: what these layers read of the part that runs.
        nodes: of an ONNX network these nodes, each as a message with a digest of what is stored for it.
        blobs: what these nodes write.
    """

    layers: tuple[Layer, ...] = ()
    outputs: tuple[Uncompared, ...] = ()
    reads: tuple[str, ...] = ()
    nodes: tuple[bytes, ...] = ()
    blobs: frozenset[str] = frozenset()


NOTHING_HIDDEN = Hidden()


def runnable(net: Net) -> tuple[Net, Hidden]:
    """The part of a net that runs, and what stays hidden; the net itself where all of it runs."""
    from bnfold.onnx.export.network import refused_layers

    refused = {id(layer) for layer in refused_layers(net)}
    if not refused:
        return net, NOTHING_HIDDEN
    part = net.without([layer for layer in net.layers if id(layer) in refused])
    part.outputs = [blob for blob in part.outputs if blob not in part.inputs]
    hidden = [
        layer for layer in net.layers if id(layer) in refused or any(not part.producer(top) for top in layer.tops)
    ]
    culprit: dict[str, str] = {}
    for layer in hidden:
        before = [culprit[bottom] for bottom in layer.bottoms if bottom in culprit]
        culprit.update(dict.fromkeys(layer.tops, before[0] if before else layer.name))
    outputs = [
        Uncompared(blob, f"stands behind layer '{culprit[blob]}', which cannot be run")
        for blob in net.outputs
        if blob in culprit
    ]
    reads = dict.fromkeys(bottom for layer in hidden for bottom in layer.bottoms if bottom not in culprit)
    return part, Hidden(tuple(hidden), tuple(outputs), tuple(reads))


DRAWING = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
)
"""ONNX's operators that draw. A seed fixes the first run of a session, and each run goes on from there."""


def drawn(parts: Parts) -> Hidden:
    """The nodes of an ONNX network that draw their values, and what stands behind: no two runs give the same."""
    from bnfold.onnx.graph import stored_weights
    from bnfold.onnx.node import captured

    graph = parts[0].graph
    if not any(_draws(node, parts) for node in graph.node):
        return NOTHING_HIDDEN
    stored, culprit = stored_weights(parts), dict[str, str]()
    nodes, reads = [], dict[str, None]()
    for node in graph.node:
        read = [name for name in (*node.input, *captured(node)) if name]
        before = [culprit[name] for name in read if name in culprit and node.op_type not in ("Shape", "Size")]
        if not before and _draws(node, parts):
            before = [f"node '{node.name or node.output[0]}' ({node.op_type}), which draws other values in each run"]
        if not before:
            continue
        culprit.update(dict.fromkeys(filter(None, node.output), before[0]))
        reads |= dict.fromkeys(name for name in read if name not in culprit and name not in stored)
        learned = [hashlib.sha256(stored[name].array().tobytes()).digest() for name in read if name in stored]
        nodes.append(b"".join([node.SerializeToString(deterministic=True), *learned]))
    outputs = [port.name for port in graph.output if port.name in culprit]
    uncompared = (Uncompared(name, f"stands behind {culprit[name]}") for name in outputs)
    return Hidden((), tuple(uncompared), tuple(reads), tuple(nodes), frozenset(culprit))


def _draws(node: NodeProto, parts: Parts) -> bool:
    from bnfold.onnx.graph import stored_weights
    from bnfold.onnx.node import bodies

    if node.op_type == "Dropout" and len(node.input) > 2:  # since opset 12: whether it is in training
        flag = stored_weights(parts, {node.input[2]}).get(node.input[2])
        return flag is not None and bool(flag.array().any())
    return node.op_type in DRAWING or any(_draws(inner, parts) for body in bodies(node) for inner in body.node)


def same_layers(reference: Sequence[Layer], candidate: Sequence[Layer]) -> bool:
    """Whether two lists hold the same layers, which compute the same of the same bottoms: equal to the last weight."""
    return len(reference) == len(candidate) and all(map(_same, reference, candidate))


def same_behind(reference: Hidden, candidate: Hidden, compared: Collection[str]) -> bool:
    """Whether what cannot be run is the same in both networks, and reads only what was compared or fed."""
    return (
        bool(reference.layers or reference.nodes)
        and same_layers(reference.layers, candidate.layers)
        and reference.nodes == candidate.nodes
        and set(reference.reads) <= set(compared)
    )


def _same(ours: Layer, theirs: Layer) -> bool:
    return (
        (ours.name, ours.type, ours.bottoms, ours.tops) == (theirs.name, theirs.type, theirs.bottoms, theirs.tops)
        and (ours.param is theirs.param or ours.param == theirs.param)
        and ours.blobs.shapes == theirs.blobs.shapes
        and all(
            np.array_equal(blob, other, equal_nan=True) for blob, other in zip(ours.blobs, theirs.blobs, strict=True)
        )
    )
