"""Sizes for what an ONNX model leaves open, so that noise can be drawn: the first usual ones that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from bnfold.compare.batches import PLANES, BatchLayout, choose_samples, run_at
from bnfold.compare.models import Model
from bnfold.compare.standins import onnx_stand_ins
from bnfold.data.preparation import Preparation
from bnfold.data.samples import Feed
from bnfold.errors import ModelError, UsageError
from bnfold.net import sizes
from bnfold.onnx.graph import WeightStore, with_input_sizes

COLOURS = 4  # up to which the last of four sizes, where it alone is stated, is of an image whose colours come last
ROWS = 4  # of regions of one image, or steps of one sentence


class Usual(NamedTuple):
    """Sizes that are often met together: an image's plane and colours, the values of a signal, and any other length."""

    height: int
    width: int
    colours: int = 3
    length: int = 16
    signal: int = 1024


USUAL = (
    Usual(224, 224),
    Usual(64, 64, length=64, signal=512),
    Usual(224, 224, colours=1, length=512, signal=16000),
    Usual(64, 64, colours=1, length=128, signal=4096),
    Usual(32, 32, length=256, signal=256),
    Usual(48, 320, length=1024, signal=128),  # a line of text
    Usual(32, 100, colours=1, length=400, signal=64),
    Usual(256, 256, length=3000, signal=8000),
    Usual(320, 320, length=4096, signal=400),
    Usual(416, 416, length=8000, signal=48000),
    Usual(512, 512, length=16000, signal=16),
    Usual(640, 640, length=1, signal=1),
)
"""What public models take: classifiers, segmenters, detectors and readers of text; tokens, frames and waveforms."""


def with_usual_sizes(model: Model, layout: BatchLayout) -> tuple[BatchLayout, str]:
    """What a run takes, with a size for each that both networks leave open, but the batch.

    Args:
        model: the reference, as ONNX; it runs on a sample of noise, to see which sizes it takes.
        layout: what both networks take.

    Returns:
        The layout, and a note that says the sizes; the layout as it was, and no words, if an input has no shape.

    Raises:
        UsageError: it takes none of `USUAL`.
        ModelError: it cannot be run at all.
    """
    start = 1 if layout.batched else 0
    unknown = [name for name, feed in layout.feeds.items() if None in feed.shape[start:]]
    if not unknown or not all(feed.ranked for feed in layout.feeds.values()):
        return layout, ""
    with WeightStore() as store:
        session = model.session(model.outputs, store)
        for usual in USUAL:
            sized = _with_shapes(model, layout, _shapes(model, layout, usual))
            one = replace(sized, batch=1) if sized.is_open else sized
            try:
                noise = choose_samples(None, None, one, 0, Preparation())
                given = session.run(run_at(noise, one, 0).feeds)
            except ModelError:
                continue
            if any(values.size for values in given.values()):
                chosen = " and ".join(f"'{name}' {sizes(sized.feeds[name].shape)}" for name in unknown)
                return sized, f"the model leaves sizes open; it was run with {chosen}, and --input-shape gives others"
    open_inputs = " and ".join(f"'{name}' has shape {sizes(layout.feeds[name].shape)}" for name in unknown)
    raise UsageError(
        f"input {open_inputs}; noise needs every size, and the network takes none of the usual ones, so give data or "
        "--input-shape"
    )


def _shapes(model: Model, layout: BatchLayout, usual: Usual) -> dict[str, tuple[int | None, ...]]:
    """Input -> its shape. Sizes of one name are equal; what is called a sum of names, as of a cache, is their sum."""
    ports = {port.name: port.type.tensor_type.shape.dim for port in model.proto.graph.input}
    names = {name: [dim.dim_param for dim in ports[name]] for name in layout.feeds}
    named: dict[str, int] = {}
    start, batch = (1 if layout.batched else 0), (1 if layout.is_open else layout.batch)
    for blob, feed in layout.feeds.items():
        for axis, name in enumerate(names[blob]):
            if name.isidentifier():
                named.setdefault(name, feed.shape[axis] or (batch if axis < start else _size(feed, axis, usual)))
    shapes: dict[str, tuple[int | None, ...]] = {}
    for blob, feed in layout.feeds.items():
        known = [
            size if size is not None else _sum(name, named) or _size(feed, axis, usual)
            for axis, (name, size) in enumerate(zip(names[blob], feed.shape, strict=True))
        ]
        shapes[blob] = (*feed.shape[:start], *known[start:])
    return shapes


def _sum(name: str, named: Mapping[str, int]) -> int:
    """What a size that is called `name` or `name + name` is; 0 where a term has none."""
    terms = [int(term) if term.isdigit() else named.get(term, 0) for term in name.replace(" ", "").split("+")]
    return sum(terms) if all(terms) else 0


def _size(feed: Feed, axis: int, usual: Usual) -> int:
    """A usual size for an open axis of an input."""
    shape, rank = feed.shape, len(feed.shape)
    if shape == (PLANES, None, None):
        return usual[axis - 1]
    if axis == 0:
        return ROWS if feed.meaning is not None and feed.meaning.joint else 1
    if rank == 3 and axis == 1 and shape[0] is not None:
        return 1  # the samples of a state, which begins with layers or directions
    if rank < 4:
        return usual.signal if rank < 3 and feed.meaning is None else usual.length
    last = shape[1] is None and shape[-1] is not None and shape[-1] <= COLOURS
    spatial = range(1, rank - 1) if last else range(2, rank)
    if axis not in spatial:
        return usual.colours
    return {spatial[-1]: usual.width, spatial[-2]: usual.height}.get(axis, usual.length)


def _with_shapes(model: Model, layout: BatchLayout, shapes: Mapping[str, tuple[int | None, ...]]) -> BatchLayout:
    """The layout with other shapes, and inputs that are no real values in what these mean."""
    feeds = {blob: replace(feed, shape=shapes[blob]) for blob, feed in layout.feeds.items()}
    meanings = onnx_stand_ins(with_input_sizes(model.proto, shapes), feeds, model.weights)
    return replace(
        layout, feeds={blob: replace(feed, meaning=meanings.get(blob, feed.meaning)) for blob, feed in feeds.items()}
    )
