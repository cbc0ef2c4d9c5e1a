"""Running two networks on more samples at once than they were written for, where both let themselves.

A deploy net says one sample, and one by one a data set takes several times as long. A Caffe network lets itself if with
one more sample the first axis of its blobs grows and nothing else. What an ONNX model does is not said by its shapes
(it may hold constants that were computed for its batch), so it is tried: two runs of the size that it says, and one of
both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from bnfold.caffe.layers import infer_shapes
from bnfold.compare.batches import BatchLayout, run_at
from bnfold.compare.models import Model, net_in_batches_of
from bnfold.data.samples import Noise, Samples
from bnfold.errors import BnfoldError, UnsupportedError
from bnfold.net import Array

LEAST_ROWS = 2  # of a batch that is open: a candidate may be wrong in all but the first, which the second repeats
MAX_BATCH = 32  # samples: a batch of more makes no sample faster
WORTH, WORTH_TRYING = 4, 16  # runs as the networks say them, below which nothing is gained
ROOM = 1 << 29
"""Bytes of blobs of both networks. A machine's free memory is no rule here: figures would differ in their last bits."""
ALIKE = 1e-4  # of the range: sums are taken in another order


def widened(
    reference: Model, candidate: Model, inputs: Mapping[str, str], layout: BatchLayout, data: Samples
) -> tuple[Model, Model, BatchLayout]:
    """The networks and what a run takes: wider if that is worth it and both let themselves, else as they are."""
    as_they_are = reference, candidate, layout
    if layout.is_open:
        return reference, candidate, replace(layout, batch=min(layout.batch, max(data.count, LEAST_ROWS)))
    if not layout.batched or isinstance(data, Noise):
        return as_they_are
    batch = min(MAX_BATCH, data.count, max(layout.batch, ROOM // max(_sample_bytes(reference, layout), 1)))
    tried = reference.net is None or candidate.net is None
    if data.count < (WORTH_TRYING if tried else WORTH) * layout.batch or batch <= layout.batch:
        return as_they_are
    ours, theirs = with_batch(reference, batch), with_batch(candidate, batch)
    names = {name: name for name in inputs}
    sides = ((reference, names), (candidate, inputs))
    if ours is None or theirs is None or not all(_tried(*side, layout, data) for side in sides if side[0].net is None):
        return as_they_are
    feeds = {name: feed.in_batches_of(batch) for name, feed in layout.feeds.items()}
    return ours, theirs, BatchLayout(feeds, batch, True)


def with_batch(model: Model, batch: int) -> Model | None:
    """The network for another number of samples; None where it can be none. An ONNX model is to be tried then."""
    from bnfold.onnx.export.network import build, grows_with_batch

    if model.net is None:
        return model.in_batches_of(batch)
    if len({shape[:1] for shape in model.net.inputs.values()}) != 1 or not grows_with_batch(model.net):
        return None
    net = net_in_batches_of(model.net, batch)
    try:
        proto, weights = build(net)
    except UnsupportedError:
        return None
    feeds = {name: feed.in_batches_of(batch) for name, feed in model.feeds.items()}
    return replace(model, net=net, proto=proto, weights=weights, feeds=feeds)


def _sample_bytes(model: Model, layout: BatchLayout) -> int:
    """Of all blobs of both networks; for an ONNX model what its inputs take, a hundred times."""
    if model.net is None:
        return 100 * 4 * sum(prod(size or 1 for size in feed.shape[1:]) for feed in layout.feeds.values())
    sizes = (prod(blob) for blob in infer_shapes(model.net).values() if blob is not None and min(blob, default=1) > 0)
    return 2 * 4 * sum(sizes) // layout.batch


def _tried(model: Model, inputs: Mapping[str, str], layout: BatchLayout, data: Samples) -> bool:
    """Whether one run of two batches gives what two runs give."""
    from bnfold.onnx.graph import WeightStore

    batch = layout.batch
    runs = [run_at(data, layout, start) for start in (0, batch)]
    feeds = [{inputs[name]: values for name, values in run.feeds.items()} for run in runs]
    double = with_batch(model, 2 * batch)
    if double is None:
        return False
    both = {name: np.concatenate([part[name] for part in feeds]) for name in feeds[0]}
    try:
        with WeightStore() as store:
            apart = [model.session([], store).run(part) for part in feeds]
            together = double.session([], store).run(both)
    except BnfoldError:
        return False
    return all(_alike([part[name] for part in apart], values) for name, values in together.items())


def _alike(apart: list[Array], together: Array) -> bool:
    if any(part.ndim == 0 for part in apart) or together.shape != (2 * len(apart[0]), *apart[0].shape[1:]):
        return False
    expected = np.concatenate(apart).astype(np.float64)
    finite = np.isfinite(expected)
    extent = float(np.ptp(expected[finite])) if finite.any() else 0.0
    return bool(np.allclose(together, expected, rtol=ALIKE, atol=ALIKE * extent, equal_nan=True))
