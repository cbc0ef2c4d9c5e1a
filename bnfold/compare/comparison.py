"""Comparing two networks in one pass over the data, a batch at a time: the entry of this package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.caffe.layers import infer_shapes
from bnfold.compare.batches import choose_samples, layout, match_inputs, runs
from bnfold.compare.classify import find_scores, require_labels
from bnfold.compare.exact import open_exact
from bnfold.compare.gates import NO_CLASSIFIER, NO_LABELS, NO_SAMPLES
from bnfold.compare.measure import Measurement, Progress
from bnfold.compare.memory import check_memory
from bnfold.compare.models import Model, open_model
from bnfold.compare.pairing import pair
from bnfold.compare.records import DiffReport
from bnfold.data.preparation import Preparation, from_prototxt
from bnfold.errors import UsageError
from bnfold.net import Array, Net
from bnfold.options import CompareOptions, changed

if TYPE_CHECKING:
    from bnfold.compare.models import Source


def compare(
    reference: Source,
    candidate: Source,
    samples: Any = None,
    options: CompareOptions = CompareOptions(),
    *,
    labels: Sequence[int] | Array | None = None,
    progress: Progress | None = None,
    **changes: object,
) -> DiffReport:
    """Run two networks on the same data and measure how far they differ.

    Args:
        reference, candidate: each a `Net`, an `onnx.ModelProto`, or a path: `.onnx`, `.prototxt` (weights beside it)
            or `NET.prototxt:WEIGHTS.caffemodel`.
        samples: `bnfold.data.samples.Samples`, an array of the single input, {input: array} with the sample as first
            axis, the path of a data set, or None for seeded, signed noise.
        options: what is compared, how, and what may differ.
        labels: the true class of each sample, -1 where unknown.
        progress: called with (samples done, samples in all).
        changes: fields of `CompareOptions` that replace those of `options`.

    Returns:
        The record of everything found; `report.passed` and `report.verdict` say it shortly.

    Raises:
        UsageError: inputs, blobs or samples do not fit together, a gate needs what is not there, or there is no such
            option.
        ModelError: a network cannot be read or run.
        UnsupportedError: a Caffe layer cannot be run.

    Example:
        >>> report = bnfold.compare("net.prototxt", "folded.onnx", images)      # doctest: +SKIP
        >>> report.passed, report.worst.blob                                    # doctest: +SKIP
        (True, 'res4b')
    """
    options = changed(options, changes)
    _require_tolerance(options.tolerance)
    if labels is not None and samples is None:
        raise UsageError(NO_SAMPLES)
    ours = open_model(reference, "reference", options)
    theirs = open_model(candidate, "candidate", options)
    for model in (ours, theirs):
        if model.net is not None:
            check_memory(model.net, options.layers)
    kin = _kin(ours, theirs)
    if ours.name == theirs.name:
        theirs.name += ", folded" if kin else ", candidate"
    named = dict(options.map)
    inputs = match_inputs(ours.feeds, theirs.feeds, named)
    shape = layout(ours.feeds, theirs.feeds, inputs)
    true = None if labels is None else np.asarray(labels)
    data = choose_samples(samples, true, shape, options.seed, options.preparation or partial(_said_by, ours))
    if true is not None and true.shape != (data.count,):
        raise UsageError(f"{data.description}, and the labels have shape {true.shape}; give one label per sample")
    blobs = {ours_blob: theirs_blob for ours_blob, theirs_blob in named.items() if ours_blob not in ours.feeds}
    pairs = pair(ours.writers, theirs.writers, blobs, kin=kin)
    true = data.labels if true is None else true
    notes: list[str] = []
    truth = open_exact(ours, notes) if options.exact else None
    measurement = Measurement(ours, theirs, pairs, shape, data, true, options.tolerance, options.layers, truth, notes)
    measurement.run(inputs, progress, options.threads)
    return measurement.report(options.seed, options.min_agreement, options.max_top1_drop)


def check(reference: Net, samples: Any = None, options: CompareOptions = CompareOptions()) -> None:
    """Raise now what `compare` would raise later about the reference, the data or a gate; the network is not run.

    For those who write files before they compare them. Arguments and exceptions are those of `compare`.
    """
    _require_tolerance(options.tolerance)
    check_memory(reference, options.layers)
    ours = open_model(reference, "reference")
    shape = layout(ours.feeds, ours.feeds, {name: name for name in ours.feeds})
    data = choose_samples(samples, None, shape, options.seed, options.preparation or partial(_said_by, ours))
    next(runs(data, shape), None)
    known = {name: size for name, size in infer_shapes(reference).items() if size is not None}
    scores = find_scores(ours, {name: name for name in ours.outputs}, known, data.labels)
    if scores is not None:
        require_labels(data.labels, known[scores][1], data.name)
    if options.min_agreement is not None and scores is None:
        raise UsageError(NO_CLASSIFIER)
    if options.max_top1_drop is not None and (scores is None or data.labels is None):
        raise UsageError(NO_LABELS)


def _require_tolerance(tolerance: float) -> None:
    if not tolerance >= 0:
        raise UsageError(f"the tolerance is {tolerance:g}; it must be 0 or more")


def _said_by(reference: Model) -> Preparation | None:
    """What the reference's own prototxt says about images; a caffemodel that carries its network says nothing."""
    path = Path(reference.net.file) if reference.net is not None and reference.net.file else None
    if path is None or path.suffix == ".caffemodel" or not path.is_file():
        return None
    return from_prototxt(path, ignore_unknown_fields=True)


def _kin(ours: Model, theirs: Model) -> bool:
    """Whether one net was made from the other in memory: copies share what their layers came from."""
    if ours.net is None or theirs.net is None:
        return False
    sources = {id(layer.source) for layer in ours.net.layers if layer.source is not None}
    return any(id(layer.source) in sources for layer in theirs.net.layers)
