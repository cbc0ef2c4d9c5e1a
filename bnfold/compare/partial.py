"""What of a network can be compared when some layer cannot be run: everything that does not depend on it."""

from __future__ import annotations

from bnfold.net import Net
from bnfold.onnx import refused_layers


def runnable(net: Net) -> tuple[Net, tuple[str, ...]]:
    """The part of a net that runs, and the layers that do not or that stand behind one that does not.

    The net itself where all of it runs.
    """
    refused = refused_layers(net)
    if not refused:
        return net, ()
    part = net.without(refused)
    part.outputs = [blob for blob in part.outputs if blob not in part.inputs]
    gone = {id(layer) for layer in refused}
    hidden = [layer for layer in net.layers if id(layer) in gone or any(not part.producer(top) for top in layer.tops)]
    return part, tuple(map(str, hidden))


def common_part(original: Net, candidate: Net) -> tuple[Net, Net]:
    """The parts of two nets that run, ending in the same blobs."""
    ours, theirs = runnable(original)[0].copy(), runnable(candidate)[0].copy()
    both = [blob for blob in ours.outputs if blob not in ours.inputs and theirs.producer(blob) is not None]
    ours.outputs, theirs.outputs = both, list(both)
    return ours, theirs
