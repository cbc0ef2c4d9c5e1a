"""What an ONNX model stores, be it in its message, beside it or in another file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from math import prod
from pathlib import Path

import numpy as np
import onnx

from bnfold.net import Array
from bnfold.onnx.file import values_of
from bnfold.onnx.node import attribute_value
from bnfold.onnx.save import same_bytes
from bnfold.onnx.weight import Weight, little_endian

Parts = tuple[onnx.ModelProto, Sequence[Weight], Path | None]
"""A model, the weights that it is without, and where its external ones lie."""
WEIGHTED = {"Conv": "weight", "ConvTranspose": "transposed", "Gemm": "gemm", "MatMul": "columns"}
PIECE = 1 << 16  # values that are looked at at once


def equal_models(ours: Parts, theirs: Parts) -> bool:
    """Whether two models hold the same nodes and the same values, wherever these lie."""
    contents = []
    for model, _, _ in (ours, theirs):
        graph = deepcopy(model.graph)
        del graph.initializer[:]
        versions = sorted((version.domain, version.version) for version in model.opset_import)
        contents.append((graph, versions, list(model.functions)))
    if contents[0] != contents[1]:
        return False
    stored, others = (stored_under(model, weights) for model, weights, _ in (ours, theirs))
    return stored.keys() == others.keys() and all(
        same_weight(as_weight(one, ours[2]), as_weight(others[name], theirs[2])) for name, one in stored.items()
    )


def stored_weights(parts: Parts, names: Collection[str] | None = None) -> dict[str, Weight]:
    """Name -> what is stored, wherever it lies; of some names or of all."""
    model, weights, folder = parts
    stored = stored_under(model, weights)
    return {name: as_weight(one, folder) for name, one in stored.items() if names is None or name in names}


def same_weight(one: Weight, other: Weight) -> bool:
    """Whether two are equal in type, shape and every value."""
    return one.dtype.name == other.dtype.name and one.shape == other.shape and same_bytes(one, other)


def stored_under(model: onnx.ModelProto, weights: Sequence[Weight]) -> dict[str, onnx.TensorProto | Weight]:
    """Name -> a stored value, wherever it lies."""
    inside = {tensor.name: tensor for tensor in model.graph.initializer}
    return inside | {weight.name: weight for weight in weights}


def as_weight(stored: onnx.TensorProto | Weight, folder: Path | None) -> Weight:
    """What is stored, as a weight; external values lie in the folder."""
    if isinstance(stored, Weight):
        return stored
    return Weight.of(stored.name, values_of(stored, folder))


def channel_ranges(parts: Parts) -> Iterator[tuple[str, Array]]:
    """Each weighted node's name, and for each of its output channels the largest magnitude of the weights."""
    model, weights, folder = parts
    stored = stored_under(model, weights)
    for node in model.graph.node:
        layout = WEIGHTED.get(node.op_type)
        if layout is None or len(node.input) < 2 or node.input[1] not in stored:
            continue
        weight = as_weight(stored[node.input[1]], folder)
        if weight.nbytes:
            yield node.name or node.output[0], _ranges(weight, layout, node)


def _ranges(weight: Weight, layout: str, node: onnx.NodeProto) -> Array:
    """max |weight| per output channel, wherever the operator keeps that axis; no more of it is in memory than a piece.

    The weight is seen as (groups, rows, channels, values): a run of values is of one channel.
    """
    group, channels, length = 1, weight.shape[0], prod(weight.shape[1:])
    if layout == "transposed":  # (Cin, Cout/group, ...), Cin being group runs of Cin/group
        group, channels, length = attribute_value(node, "group", 1), weight.shape[1], prod(weight.shape[2:])
    elif layout == "columns" or (layout == "gemm" and not attribute_value(node, "transB", 0)):
        channels, length = weight.shape[-1], 1
    found, at = np.zeros((group, channels), weight.dtype), 0
    rows = prod(weight.shape) // (group * channels * length)
    for piece in weight.pieces():
        values = np.frombuffer(piece, little_endian(weight.dtype))
        for start in range(0, values.size, PIECE):
            some = np.abs(values[start : start + PIECE])
            begins = np.arange(at - at % length, at + some.size, length) - at
            runs = some if length == 1 else np.maximum.reduceat(some, np.maximum(begins, 0))
            _raise(found, runs, at // length, rows)
            at += some.size
    return found.reshape(-1)


def _raise(found: Array, runs: Array, first: int, rows: int) -> None:
    """Raise maxima, (groups, channels), to those of some runs, `first` being the number of the first of these."""
    channels, done = found.shape[1], 0
    while done < runs.size:
        row, channel = divmod(first + done, channels)
        whole = 0 if channel else min((runs.size - done) // channels, rows - row % rows)
        part = runs[done : done + (whole * channels or channels - channel)]
        own = found[row // rows, channel : channel + part.size]
        np.maximum(own, part.reshape(max(whole, 1), -1).max(axis=0), out=own)
        done += part.size
