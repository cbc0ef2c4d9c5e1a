"""From samples to what a run takes: batches of the size that both networks share, the last one filled up."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from bnfold.data.arrays import label_among
from bnfold.data.preparation import Preparation
from bnfold.data.samples import ALL, Arrays, Data, Feed, Noise, Part, Samples, input_misfit, nothing_for
from bnfold.data.standins import LEAST_NOISE
from bnfold.errors import UsageError, plural, quoted
from bnfold.io.files import os_path
from bnfold.net import Array, fits, sizes
from bnfold.options import require_type
from bnfold.runtime import AnyArray

BlobValues: TypeAlias = Mapping[str, Array]
"""Blob or input -> its values in a run."""

DEFAULT_BATCH = 8  # where both models leave the batch open
PLANES = 3  # of an image in colours


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How samples make up a run.

    Attributes:
        feeds: input of the reference -> what it takes, sizes known wherever either network knows them.
        batch: samples per run; 1 where the inputs share no first axis, and a sample is then a whole run.
        batched: whether the first axis of every input is the sample.
        planned: whether the batch is decided, also where it is open.
    """

    feeds: Mapping[str, Feed]
    batch: int
    batched: bool
    planned: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the networks take batches of any size."""
        return self.batched and all(feed.shape[0] is None for feed in self.feeds.values())

    @property
    def leading(self) -> int:
        """How many axes of an input stand in front of those of a sample: that of the samples, if there is one."""
        return int(self.batched)

    @property
    def open_inputs(self) -> list[str]:
        """The inputs that leave sizes open besides the batch."""
        return [name for name, feed in self.feeds.items() if None in feed.shape[self.leading :]]

    @property
    def sample(self) -> tuple[bool, dict[str, Feed]]:
        """Whether the first axis is the sample, and the feeds of one sample: the same whatever the batch is."""
        feeds = {name: replace(feed, shape=feed.shape[self.leading :]) for name, feed in self.feeds.items()}
        return self.batched, feeds

    def has_rows(self, values: AnyArray) -> bool:
        """Whether a blob of a run has a row for each sample."""
        return has_rows(values, self.batch if self.batched else 0)

    def sizes(self, data: Samples) -> dict[str, tuple[int | None, ...]]:
        """Input -> its shape in a run, None for an open batch; other open sizes are those of the first sample."""
        shapes = {name: feed.shape for name, feed in self.feeds.items()}
        if self.open_inputs:
            sample = data.sample(0)
            shapes |= {name: (*shapes[name][: self.leading], *sample[name].shape) for name in self.open_inputs}
        return shapes


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the numbers of its samples, and the input values, padded by repeating the last sample."""

    numbers: range
    feeds: dict[str, Array]


def has_rows(values: AnyArray, rows: int) -> bool:
    """Whether a blob has a row for each of so many samples; of 0 it has none."""
    return bool(rows > 0 and values.ndim > 0 and values.shape[0] == rows)


def layout_of(
    reference: Mapping[str, Feed],
    candidate: Mapping[str, Feed],
    inputs: Mapping[str, str],
    made: Collection[tuple[int | None, ...]] = (),
) -> BatchLayout:
    """What both networks take.

    Args:
        reference, candidate: their inputs.
        inputs: input of the reference -> input of the candidate.
        made: shapes of the reference's outputs, which tell samples from planes and steps; none where that is known.

    Raises:
        UsageError: the two want different shapes.
    """
    feeds = {}
    for name, partner in inputs.items():
        ours, theirs = reference[name], candidate[partner]
        meaning = ours.meaning if ours.meaning is not None else theirs.meaning
        if not (ours.ranked and theirs.ranked):
            feeds[name] = replace(theirs if theirs.ranked else ours, dtype=ours.dtype, meaning=meaning)
            continue
        if not _fit(ours.shape, theirs.shape):
            raise UsageError(
                f"input '{name}' has shape {sizes(ours.shape)} in the reference and "
                f"{sizes(theirs.shape)} in the candidate{_way_out(ours.shape, theirs.shape)}"
            )
        shape = tuple(a if a is not None else b for a, b in zip(ours.shape, theirs.shape, strict=True))
        feeds[name] = Feed(shape, ours.dtype, meaning, unmade=ours.unmade)
    first = {feed.shape[0] if feed.shape else 0 for feed in feeds.values()}
    known = first - {None}
    joint = known != {1} and any(feed.meaning is not None and feed.meaning.joint for feed in feeds.values())
    batched = len(known) <= 1 and 0 not in first and not joint and _are_samples(next(iter(known), None), feeds, made)
    batch = next(iter(known), None) or DEFAULT_BATCH if batched else 1
    return BatchLayout(feeds, batch, batched)


def _fit(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether two shapes may be the same, None being any size."""
    return len(one) == len(other) and all(None in sides or len({*sides}) == 1 for sides in zip(one, other, strict=True))


def _way_out(ours: Sequence[int | None], theirs: Sequence[int | None]) -> str:
    """What to do about inputs of different shapes, to end the sentence with."""
    for last, first, whose in ((theirs, ours, "candidate"), (ours, theirs, "reference")):
        if len(first) == len(last) == 4 and _fit([first[axis] for axis in (0, 2, 3, 1)], last):
            behind = "compare what is behind its Transpose, as onnx.utils.extract_model takes it out"
            return f": the channels of the {whose} stand last; {behind}"
    return "; --batch or --input-shape sets another for a net of a prototxt"


def _are_samples(rows: int | None, feeds: Mapping[str, Feed], made: Collection[tuple[int | None, ...]]) -> bool:
    """Whether the first axis of all inputs, of a size that is fixed, is that of samples.

    It is where there are four axes, which nobody writes without a batch, and where an output has a row or several for
    each, or a column, as steps of a sentence have. An input (3, height, width) is an image whose boxes may be of any
    number.
    """
    if rows in {None, 1} or not made or any(len(feed.shape) > 3 for feed in feeds.values()):
        return True
    first, second = ({shape[axis] for shape in made if len(shape) > axis} for axis in (0, 1))
    is_image = rows == PLANES and any(len(feed.shape) == 3 for feed in feeds.values())
    follows = rows in second or any(size is None or size % rows == 0 for size in first)
    return rows in first or (follows and not is_image)


def match_inputs(
    reference: Mapping[str, Feed], candidate: Mapping[str, Feed], named: Mapping[str, str]
) -> dict[str, str]:
    """Input of the reference -> input of the candidate: by name, or because there is only one.

    Raises:
        UsageError: an input has no partner.
    """
    if len(reference) == len(candidate) == 1 and not reference.keys() & named.keys():
        return dict(zip(reference, candidate, strict=True))
    inputs = {name: named.get(name, name) for name in reference}
    alone = [name for name, partner in inputs.items() if partner not in candidate]
    alone += [name for name in candidate if name not in inputs.values()]
    if alone:
        from bnfold.caffe.states import STATE

        how = "read both with --recurrent-state, or " * all(map(STATE.search, alone)) + "pair them with --map A=B"
        raise UsageError(f"no partner in the other network for {plural('input', len(alone))} {quoted(alone)}; {how}")
    return inputs


def choose_samples(
    given: Data,
    labels: Array | None,
    layout: BatchLayout,
    seed: int,
    preparation: Preparation | Callable[[], Preparation | None],
    part: Part = ALL,
    most_rows: int = 0,
) -> Samples:
    """The samples that the caller means.

    Args:
        given: None for noise, `Samples`, an array (for one input), a dictionary of arrays, or a path.
        labels: true classes, which go before those that the samples bring.
        layout: what the networks take.
        seed: of noise.
        preparation: of images; or what finds it, when there are images.
        part: the samples that will be looked at.
        most_rows: of a run up to which each is drawn and measured where rows may be no samples, but belong together; 0
            where they are samples.

    Raises:
        UsageError: they do not fit the inputs.
    """
    if given is None:
        feeds = {name: (_sample_shape(name, feed, layout), feed.meaning) for name, feed in layout.feeds.items()}
        if layout.batch <= most_rows:  # a run of each scale: rows of several would hide the smaller
            return Noise(feeds, LEAST_NOISE * layout.batch, seed, repeated=layout.batch)
        return Noise(feeds, max(LEAST_NOISE, most_rows), seed)
    if not layout.feeds:
        raise UsageError(
            "the networks have no input, so there is nothing that data could be fed to; compare without it"
        )
    from bnfold.data.datasets import is_arrays, needed, open_samples, read_inputs

    if isinstance(given, np.ndarray):
        given = {next(iter(needed(layout.feeds) or layout.feeds)): given}
    if hasattr(given, "sample"):
        return _own_samples(cast("Samples", given))
    if not isinstance(given, Mapping | str | os.PathLike):
        inner = "; np.stack makes an array of a list of them" if isinstance(given, list | tuple) else ""
        if inner and given and all(isinstance(one, str | os.PathLike) for one in given):
            inner = "; of several images give their folder, or a text file with a path in each line"
        raise UsageError(
            f"samples are an array, one array for each input, or a path, and not {type(given).__name__}{inner}"
        )
    if isinstance(given, Mapping):
        return _given_arrays(given, labels, layout)
    path = os_path(given)
    if is_arrays(path) and os.path.exists(path):
        arrays, labels = read_inputs(Path(path), layout.feeds, labels, part if layout.batched else ALL)
        return _given_arrays(arrays, labels, layout, path)
    return open_samples(path, layout.feeds, preparation, labels, part)


def _own_samples(own: Samples) -> Samples:
    """Samples of a class that a program has written. Raises UsageError where they are not as `Samples` has them."""
    if isinstance(own, type):
        raise UsageError(f"samples are an object, not the class {own.__name__} itself; pass an instance")
    words = ("class_names", "count", "description", "labels", "name")
    if missing := [word for word in words if not hasattr(own, word)]:
        raise UsageError(f"samples of a class of its own, {type(own).__name__}, have {quoted(missing)}, too")
    require_type(f"samples of a class of its own, {type(own).__name__}: the description", own.description, "str")
    require_type(f"{own.description}: the count of samples", own.count, "int")
    if not isinstance(own.count, int):  # onnx takes no number of numpy's as a size
        raise UsageError(f"{own.description}: the count of samples is {type(own.count).__name__}; give int(count)")
    if own.count < 1:
        raise UsageError(f"{own.description}: there are no samples")
    if not callable(own.name):
        raise UsageError(f"{own.description}: name is a method, name(number), and not {type(own.name).__name__}")
    require_type(f"{own.description}: the name of a sample", own.name(0), "str")
    if own.labels is not None and (not isinstance(own.labels, np.ndarray) or own.labels.shape != (own.count,)):
        given = sizes(own.labels.shape) if isinstance(own.labels, np.ndarray) else type(own.labels).__name__
        raise UsageError(
            f"{own.description}: labels are an array of one for each of {own.count:,} samples, and not {given}"
        )
    require_type(f"{own.description}: class_names", own.class_names, "Sequence[str]")
    return own


def _given_arrays(
    given: Mapping[str, Array], labels: Array | None, layout: BatchLayout, source: str = "given arrays"
) -> Arrays:
    """Arrays by input, with the labels that may be among them. Raises UsageError where one is masked."""
    label = label_among(given, layout.feeds) if labels is None else None
    if label is not None:
        labels = np.asarray(given[label])
        labels = labels.reshape(-1) if prod(labels.shape[1:]) == 1 else labels
    # As in a file, what no input takes is left alone; if all is such, a run says what there is.
    names = [name for name in given if name in layout.feeds] or list(given)
    if masked := [name for name in names if np.ma.is_masked(given[name])]:
        raise UsageError(f"{source}: '{masked[0]}' is a masked array; fill the masked values first")
    arrays = {name: np.asarray(given[name]) for name in names}
    if not layout.batched:
        arrays = {name: _as_runs(array, layout.feeds[name]) for name, array in arrays.items() if name in layout.feeds}
    return Arrays(arrays, None if labels is None else np.asarray(labels), source=source)


def runs(samples: Samples, layout: BatchLayout, numbers: range | None = None) -> Iterator[Run]:
    """The samples, a batch at a time; some runs by their numbers, or all. Raises UsageError where a sample does not
    fit an input.
    """
    for number in range(-(-samples.count // layout.batch)) if numbers is None else numbers:
        yield run_at(samples, layout, number * layout.batch)


def run_at(samples: Samples, layout: BatchLayout, start: int) -> Run:
    """The run that begins with sample `start`. Raises UsageError where a sample does not fit an input."""
    numbers = range(start, min(start + layout.batch, samples.count))
    rows = [_row(samples, number) for number in numbers]
    rows += [rows[-1]] * (layout.batch - len(rows))
    feeds = {}
    for name, feed in layout.feeds.items():
        if name not in rows[0] and feed.follows:
            drawn = Noise({name: (_sample_shape(name, feed, layout), feed.meaning)}, len(rows), scales=(1.0,))
            rows = [row | drawn.sample(start + place) for place, row in enumerate(rows)]
        if bare := [row for row in rows if name not in row]:
            raise UsageError(f"{samples.description}: {nothing_for([name], bare[0])}")
        arrays = [np.asarray(row[name]) for row in rows]
        if layout.batched and len({array.shape for array in arrays}) > 1:
            shapes = {array.shape: samples.name(number) for number, array in zip(numbers, arrays, strict=False)}
            unequal = [f"{sizes(shape) or 'one number'} ('{sample}')" for shape, sample in shapes.items()]
            raise UsageError(
                f"{samples.description}: samples of one run have one shape, and those of '{name}' are "
                f"{' and '.join(unequal[:2])}; a batch of 1 takes each by itself"
            )
        values = np.stack(arrays) if layout.batched else arrays[0]
        fitted = _fitted(values, feed)
        if fitted is None:
            found = "one number each" if layout.batched and values.ndim == 1 else ""
            raise UsageError(f"{samples.description}: {input_misfit(name, feed.shape, values.shape, found)}")
        feeds[name] = fitted
    return Run(numbers, feeds)


def _row(samples: Samples, number: int) -> dict[str, Array]:
    """One sample. Raises UsageError where it is no dictionary."""
    row = samples.sample(number)
    if not isinstance(row, Mapping):
        raise UsageError(f"{samples.description}: a sample is a dict from input to array, and not {type(row).__name__}")
    return row


def _fitted(values: Array, feed: Feed) -> Array | None:
    """The values in the input's shape, or None; axes of size 1 may differ: a list of vectors is (N,C) or (N,C,1,1)."""
    wanted = feed.shape
    if not feed.ranked:
        return values
    if fits(values.shape, wanted):
        return values
    if None not in wanted and [n for n in values.shape if n != 1] == [n for n in wanted if n != 1]:
        return values.reshape([int(n or 0) for n in wanted])
    return None


def _sample_shape(name: str, feed: Feed, layout: BatchLayout) -> tuple[int, ...]:
    wanted = feed.shape[layout.leading :]
    if None in wanted:
        lacks = f"has shape {sizes(feed.shape)}" if feed.ranked else "is declared without a shape"
        raise UsageError(f"input '{name}' {lacks}; noise needs every size, so give data or --input-shape")
    return tuple(int(size or 0) for size in wanted)


def _as_runs(array: Array, feed: Feed) -> Array:
    """Whole runs along a first axis of their own; they may lie one behind the other along the input's own."""
    if not feed.ranked or array.ndim == 0:
        return array[None]
    if array.ndim != len(feed.shape):
        return array
    rows = feed.shape[0] or len(array)
    return array.reshape(-1, rows, *array.shape[1:]) if len(array) and len(array) % rows == 0 else array[None]
