"""Notes on what a comparison passes and does not prove: what its data never reached, or showed too little of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.batches import BatchLayout
from bnfold.compare.classify import near_chance
from bnfold.compare.gates import beside, is_blank
from bnfold.compare.hidden_differences import hidden_note, prepared_otherwise, unguarded_exponentials
from bnfold.compare.measure import Measurement, Spans
from bnfold.compare.metrics import magnitude
from bnfold.compare.models import Model
from bnfold.compare.records import BlobDiff, ClassifierDiff
from bnfold.compare.saturation import sources
from bnfold.errors import named
from bnfold.options import MOST_OF_FLOAT16, ROUNDING

if TYPE_CHECKING:
    from bnfold.compare.matched import MatchedCandidate

NEAR = 16.0  # times as large as the samples are inputs of which an overflow is said
FARTHER = 2.0  # times what the reference's blobs reach: what both reach overflows in both
BY_CHANNEL = ("Conv", "ConvTranspose", "Gemm", "Convolution", "Deconvolution", "InnerProduct")  # axis 1 of what is read


def unproved(
    matched: MatchedCandidate,
    found: Measurement,
    blobs: Sequence[BlobDiff],
    classifier: ClassifierDiff | None,
    hidden: Mapping[str, tuple[str, float]],
) -> Iterator[str]:
    """The notes on one candidate, given what was found in all samples, what is reported of it, and its
    `hidden_differences`.
    """
    if classifier is not None:
        yield from _unanswered(found.count, classifier)
    yield from _not_finite(blobs)
    yield from _empty_windows(matched.ours, blobs)
    yield from _unread(matched.ours, blobs)
    yield from _blank_channels(matched.ours, matched.layout, found)
    yield from _constant(matched.layout, found.reference_spans)
    yield from _small_channels(matched, found, blobs)
    yield from _beside_masks(found, blobs, matched.options.limit)
    yield from _overflowing(matched, found)
    yield from hidden_note(hidden)
    yield from prepared_otherwise(matched.ours, matched.theirs)
    yield from unguarded_exponentials(matched.ours, matched.theirs)
    yield from replace(matched.ties, counts=found.ties).notes()


def _unanswered(count: int, classifier: ClassifierDiff) -> Iterator[str]:
    """Samples without an answer, and answers that are no better than chance."""
    if silent := count - classifier.samples:
        names = f"{silent:,} of {count:,} samples"
        yield f"{names} have a NaN among the scores '{classifier.blob}' of both networks: no answers that agree"
    if (doubt := near_chance(classifier)) is not None:
        yield doubt


def _not_finite(blobs: Sequence[BlobDiff]) -> Iterator[str]:
    """Outputs of which some values are not finite in both networks."""
    for blob in blobs:
        if blob.is_output and 0 < blob.finite < blob.values and isfinite(blob.max_rel):
            share = 1 - blob.finite / blob.values
            yield f"output '{blob.blob}': {share * 100:.4g} % of its values are not finite, and say nothing"


def _empty_windows(model: Model, blobs: Sequence[BlobDiff]) -> Iterator[str]:
    """Blobs that a pooling makes, or others of its values, with the value of a window that holds none."""
    least = float(np.finfo(np.float32).min)
    low = [blob.blob for blob in blobs if blob.finite and blob.low == least]
    empty = [name for name in low if any("Pool" in model.writers[source].type for source in sources(model, name))]
    if empty:
        said = "a window without a value gives the least float32, beside which other values do not count"
        yield f"{named('blob', empty)}: {said}, so they are not proved"


def _unread(model: Model, blobs: Sequence[BlobDiff]) -> Iterator[str]:
    """Layers with weights that read nothing but blobs that are 0 everywhere."""
    blank = {blob.blob for blob in blobs if is_blank(blob)}
    layers = {
        writer.layer: None
        for name, writer in model.writers.items()
        if writer.weighted and model.reads[name] and blank.issuperset(model.reads[name])
    }
    if layers:
        said = "all that is read there is 0 or not finite, so the weights are not proved"
        yield f"{named('layer', list(layers))}: {said}; give other samples by --data"


def _blank_channels(model: Model, layout: BatchLayout, found: Measurement) -> Iterator[str]:
    """Channels that are 0 everywhere, of which layers with weights for each channel read some others."""
    blank: dict[str, tuple[int, int]] = {}
    for name, writer in model.writers.items():
        for blob in model.reads[name] if writer.weighted and writer.type in BY_CHANNEL else ():
            error = found.errors.get(blob)
            if error is not None and layout.batched and error.shape[:1] == (layout.batch,):
                blank[writer.layer] = error.blank_channels
    blank = {layer: (zero, channels) for layer, (zero, channels) in blank.items() if zero < channels}
    zero, channels = (sum(counts) for counts in zip((0, 0), *blank.values(), strict=True))
    if zero:
        most = max(blank, key=lambda layer: blank[layer][0])
        said = f"{zero:,} of {channels:,} channels that layers with weights read are 0 in all samples"
        where = f"most in front of '{most}' ({blank[most][0]:,} of {blank[most][1]:,})"
        yield f"{said}, {where}: the weights that read them are not proved; give other samples by --data"


def _constant(layout: BatchLayout, spans: Spans) -> Iterator[str]:
    """Data in which nothing varies; inputs of one value a sample, and those that follow, say nothing."""
    feeds = layout.sample[1].items()
    fed = [name for name, feed in feeds if set(feed.shape) - {1} and not feed.follows]
    found = {name: spans[name] for name in fed if name in spans}
    if found and all(low >= high for low, high in found.values()):  # infinity and -infinity where none is finite
        values = {
            name: f"is {low:g} everywhere" if low == high else "has no finite value"
            for name, (low, high) in found.items()
        }
        said = " and ".join(f"'{name}' {value}" for name, value in values.items())
        yield f"input {said}, so the weights that read it are not proved; give data that varies by --data"


def _small_channels(matched: MatchedCandidate, found: Measurement, blobs: Sequence[BlobDiff]) -> Iterator[str]:
    """Channels that differ by much of themselves, and are too small for the tolerance of their blob."""
    rounding = ROUNDING.get(matched.theirs.stored_type, ROUNDING["float32"])
    indices = {*matched.ties.indices, found.detection.blob if found.detection is not None else ""}
    small: dict[str, tuple[int, float]] = {}
    for name in (blob.blob for blob in blobs if blob.blob not in indices):
        error = found.errors[name]
        channel = error.small_channel(rounding)
        if channel is not None and not error.whole and error.judged <= matched.options.limit:
            small[name] = channel
    if small:
        first, *others = small
        place, apart = small[first]
        said = f"blob '{first}': channel {place} differs by {beside(apart * 100, 100, form='g', least=2)} % of itself"
        said += f", and so does one of {named('blob', others)}" if others else ""
        yield f"{said}; beside channels that are so much larger the tolerance passes it, and a smaller one would not"


def _overflowing(matched: MatchedCandidate, found: Measurement) -> Iterator[str]:
    """What inputs a few times as large would make infinite in the candidate, whose blobs are of float16, and not in the
    reference.
    """
    if "float16" not in matched.theirs.float_types:
        return
    ours, theirs = found.spans(matched.pairs)
    most, large = _largest(matched.ours, ours)[0], _largest(matched.theirs, theirs)
    if MOST_OF_FLOAT16 / NEAR < large[0] < MOST_OF_FLOAT16 and large[0] > FARTHER * most:
        beyond = f"{large[0]:,.0f}, of the {MOST_OF_FLOAT16:,} where float16 ends"
        beside_it = (
            f"the reference's blobs of float16 reach {most:,.0f}" if most else "the reference has none of float16"
        )
        times = f"{MOST_OF_FLOAT16 / large[0]:.2g}"
        yield (
            f"blob '{large[1]}' of the candidate reaches {beyond}, and {beside_it}: inputs {times} "
            "times as large may overflow in the candidate alone, which is not proved; give the largest by --data"
        )


def _largest(model: Model, spans: Spans) -> tuple[float, str]:
    """The largest magnitude of a network's blobs of float16, and the blob; 0 where it has none."""
    sizes = [(magnitude(*spans[name]), name) for name in model.float16_blobs() if name in spans]
    return max((one for one in sizes if isfinite(one[0])), default=(0.0, ""))


def _beside_masks(found: Measurement, blobs: Sequence[BlobDiff], limit: float) -> Iterator[str]:
    """What differs by more than the tolerance of its own size, beside a mask."""
    for blob in blobs:
        error = found.errors[blob.blob]
        if error.beside > limit >= error.judged and not error.whole:
            apart = beside(error.beside * 100, limit * 100, form="g", least=2)
            yield (
                f"blob '{blob.blob}': beside a mask, whose values are a hundred times larger or more, the others "
                f"differ by {apart} % of their largest; the tolerance passes it"
            )
