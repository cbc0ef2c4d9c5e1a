"""What of a network can be compared when some layer cannot be run: everything that does not depend on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bnfold.compare.records import Uncompared
from bnfold.net import Layer, Net


@dataclass(frozen=True, slots=True)
class Hidden:
    """The part of a network that cannot be run.

    Attributes:
        layers: those that cannot be run, and those behind them, in order of execution.
        outputs: the network's outputs among their tops, each with its reason.
        reads: what these layers read of the part that runs.
    """

    layers: tuple[Layer, ...] = ()
    outputs: tuple[Uncompared, ...] = ()
    reads: tuple[str, ...] = ()


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


def same_layers(reference: Sequence[Layer], candidate: Sequence[Layer]) -> bool:
    """Whether two lists hold the same layers, which compute the same of the same bottoms: equal to the last weight."""
    return len(reference) == len(candidate) and all(map(_same, reference, candidate))


def same_behind(reference: Hidden, candidate: Hidden, compared: Collection[str]) -> bool:
    """Whether what cannot be run is the same in both networks, and reads only what was compared or fed."""
    return (
        bool(reference.layers)
        and same_layers(reference.layers, candidate.layers)
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
