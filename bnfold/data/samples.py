"""Where the data of a comparison comes from: seeded noise and arrays; images and files are in `bnfold.data.datasets`.

A sample is a dictionary from input blob to array, without the batch axis. Samples are made one at a time and on
demand, so that a folder of any size can be compared without being held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from bnfold.data.arrays import row_of
from bnfold.data.standins import FLAG, AnyOf, Lengths, StandIn
from bnfold.errors import UsageError, named, plural, quoted
from bnfold.net import Array, DType, Shape, fits, sizes

SCALES = (1.0, 8.0, 64.0)
LEAST_PARALLEL = 1 << 13  # values of a sample, below which a thread hands it over in the time that it is drawn in
UNRANKED = (None, None)
"""The shape of a feed of unknown rank: the first axis is the sample, and the others are what data brings."""


def labels_misfit(shape: Sequence[int], count: int) -> str:
    """A sentence on labels of a shape that is not one number for each of `count` samples.

    Examples:
        >>> labels_misfit((3,), 4)
        'there are 4 samples and 3 labels'
        >>> labels_misfit((4, 10), 4)
        'the labels have shape (4, 10), and must be one class number per sample: of one-hot rows, labels.argmax(axis=1)'
    """
    if len(shape) == 1 or shape[:1] != (count,):
        given = prod(shape)
        return f"there are {count:,} {plural('sample', count)} and {given:,} {plural('label', given)}"
    way = "labels.reshape(-1)" if prod(shape) == count else "of one-hot rows, labels.argmax(axis=1)"
    return f"the labels have shape {tuple(shape)}, and must be one class number per sample: {way}"


def nothing_for(inputs: Sequence[str], there: Collection[str]) -> str:
    """A sentence on arrays among which there is none for some inputs; that of an `.npy` is called "".

    Examples:
        >>> nothing_for(["data"], ["x"])
        "there is nothing for input 'data' (it has 'x'); call an array as the input is called"
        >>> nothing_for(["a", "b"], [""])
        "there is nothing for inputs 'a', 'b': an .npy has one array without a name; give an .npz"
    """
    if list(there) == [""]:
        return f"there is nothing for {named('input', inputs)}: an .npy has one array without a name; give an .npz"
    has = f" (it has {quoted(there)})" if there else ""
    return f"there is nothing for {named('input', inputs)}{has}; call an array as the input is called"


def input_misfit(name: str, wanted: Sequence[int | None], found: Sequence[int], said: str = "") -> str:
    """A sentence on values of a shape that an input does not take, and what to do where the shape tells it.

    Args:
        name: of the input.
        wanted: the input's shape.
        found: the shape of the values, with the axis of samples.
        said: what to call it in the place of its sizes.

    Examples:
        >>> input_misfit("data", (1, 3, 8, 9), (5, 8, 9, 3))
        "input 'data' takes 1x3x8x9, and the data is 5x8x9x3: its channels stand last; give data.transpose(0, 3, 1, 2)"
        >>> input_misfit("x", (1, 10), (5, 9))
        "input 'x' takes 1x10, and the data is 5x9"
    """
    remedy = _remedy(wanted[1:], found[1:]) if len(wanted) == 4 else ""
    return f"input '{name}' takes {sizes(wanted)}, and the data is {said or sizes(found)}{remedy}"


def _remedy(wanted: Sequence[int | None], found: Sequence[int]) -> str:
    """What makes images fit (channels, height, width): the first of the usual slips that explains the shape."""
    channels, height, width = wanted
    slips = (
        ((height, width, channels), ": its channels stand last; give data.transpose(0, 3, 1, 2)"),
        ((width, channels), ": it is one image whose channels stand last; give data.transpose(2, 0, 1)[None]"),
        ((height, width), ": it has no axis of channels; give (N, C, H, W), of one image data[None]"),
        ((1, height, width), f": it is grey; give each plane {channels} times, data.repeat({channels}, axis=1)"),
        ((4, height, width), ": its images have four planes; without the last it is data[:, :3]" * (channels == 3)),
        ((channels, None, None), "; --input-shape sets another size for a net of a prototxt"),
    )
    return next((remedy for shape, remedy in slips if fits(found, shape)), "")


@dataclass(frozen=True, slots=True)
class Feed:
    """What one input of a network takes.

    Attributes:
        shape: with the batch axis; None where the model leaves the size open.
        dtype: of the values.
        meaning: what else than real values it takes (indices, regions ..), and values that mean it; None for these.
        ranked: whether the model says how many axes there are; `shape` is `UNRANKED` where it does not.
        unmade: whether it stands for what a layer makes that cannot be run, so that data does not bring it.
    """

    shape: tuple[int | None, ...]
    dtype: DType
    meaning: StandIn | None = None
    ranked: bool = True
    unmade: bool = False

    @property
    def follows(self) -> bool:
        """Whether data need not bring it."""
        return self.unmade or (self.meaning is not None and self.meaning.fixed)

    def in_batches_of(self, batch: int) -> Feed:
        """The same for another number of samples."""
        return replace(self, shape=(batch, *self.shape[1:])) if self.shape else self


class Samples(Protocol):
    """A finite source of samples, each of which can be asked for at any time: what a program may compare by.

    A class of your own needs no base class, `picture` only where the page shall show samples, and may have `parallel`:
    True where several threads may ask at once.

    Examples:
        >>> class Ramps:
        ...     description, count, labels, class_names = "ramps", 4, None, ()
        ...     def name(self, number):
        ...         return f"ramp {number}"
        ...     def sample(self, number):
        ...         return {"data": np.linspace(0, number, 64, dtype=np.float32).reshape(1, 8, 8)}
        >>> report = bnfold.compare("model.onnx", "folded.onnx", Ramps())
        >>> report.passed, report.sample_count, report.data
        (True, 4, 'ramps')
    """

    @property
    def description(self) -> str:
        """What the data is, in a sentence for the report."""

    @property
    def count(self) -> int:
        """How many samples there are."""

    @property
    def labels(self) -> Array | None:
        """The true class of each sample, -1 where unknown; None when there are none."""

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each class; empty when unknown."""

    def sample(self, number: int) -> dict[str, Array]:
        """Input blob -> values of one sample, without the batch axis."""

    def name(self, number: int) -> str:
        """What to call a sample in a report."""

    def picture(self, number: int) -> Array | None:
        """The sample for the eye: RGB, (height, width, 3), uint8; None where it is not an image."""


def picture_of_sample(samples: Samples, number: int) -> Array | None:
    """The sample for the eye; None where it is no image, or a class that a program wrote makes no pictures.

    Raises:
        UsageError: what that class makes is no picture.
    """
    picture = samples.picture(number) if getattr(samples, "picture", None) is not None else None
    if picture is not None and not (
        isinstance(picture, np.ndarray)
        and picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[2] == 3
        and picture.size
    ):
        found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UsageError(
            f"{samples.description}: a picture is an array of uint8, (height, width, 3), or None, and not {found}"
        )
    return picture


Data = Samples | Array | Mapping[str, Array] | str | os.PathLike[str] | None
"""What a comparison is given: samples, an array of the single input, one for each input, a path; None for noise."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Signed Gaussian noise; every sample depends on the seed and its own number alone.

    Sample i is drawn from N(0, s^2) with the scales s in turn; 1, 8 and 64 by default, since some networks expect
    values around 1 and others pixels around 100 (`bnfold.compare.noise` says when others are chosen). Inputs that are
    no real values (indices, regions ..) get such as a network can mean.

    Args:
        feeds: input -> shape of one sample, and what else than real values it takes.
        count: of samples.
        seed: another one gives other values.
        scales: the standard deviations, in turn.
        signed: False for the magnitudes of such values, where a network takes no negative ones.
        repeated: samples in a row that have the same scale.
    """

    labels: ClassVar[None] = None
    class_names: ClassVar[tuple[str, ...]] = ()

    feeds: Mapping[str, tuple[Shape, StandIn | None]]
    count: int
    seed: int = 0
    scales: tuple[float, ...] = SCALES
    signed: bool = True
    repeated: int = 1

    @property
    def parallel(self) -> bool:
        """Whether several threads at once draw samples sooner than one does."""
        return sum(prod(shape) for shape, _ in self.feeds.values()) >= LEAST_PARALLEL

    @property
    def description(self) -> str:
        """The distribution, and what goes into the inputs that are no images."""
        meant = [f"; '{blob}': {meaning}" for blob, (_, meaning) in self.feeds.items() if meaning is not None]
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        drawn = "N(0, s^2)" if self.signed else "|x| of x from N(0, s^2)"
        each = f" for {self.repeated:,} each" * (self.repeated > 1)
        noise = (
            f"seeded noise, {drawn} with s = {scales} in turn{each}"
            if len(meant) < len(self.feeds)
            else "seeded values"
        )
        return f"{self.count:,} samples of {noise}, seed {self.seed}{''.join(meant)}"

    def sample(self, number: int) -> dict[str, Array]:
        """Draw one."""
        drawn = {}
        for place, (blob, (shape, meaning)) in enumerate(self.feeds.items()):
            random = np.random.default_rng([self.seed, number, place])
            choices = meaning.values if isinstance(meaning, AnyOf) else (0, 1) if meaning == FLAG else ()
            if choices and prod(shape) == 1:  # each in turn, since a branch may depend on it
                drawn[blob] = np.full(shape, choices[(self.seed + number + place) % len(choices)], np.float32)
            elif isinstance(meaning, Lengths) and not number:
                drawn[blob] = Lengths(meaning.steps, whole=True).draw(random, shape)
            elif meaning is not None:
                drawn[blob] = meaning.draw(random, shape)
            else:
                noise = random.standard_normal(shape, np.float32)
                scaled = noise * np.float32(self._scale(number))
                drawn[blob] = scaled if self.signed else np.abs(scaled)
        return drawn

    def name(self, number: int) -> str:
        """The number and the scale."""
        return f"noise {number} (s = {self._scale(number):g})"

    def _scale(self, number: int) -> float:
        return self.scales[number // self.repeated % len(self.scales)]

    def picture(self, number: int) -> Array | None:  # noqa: ARG002 - none of them has one
        """None, since noise is no image."""
        return None


@dataclass(frozen=True, slots=True)
class Arrays:
    """Samples that are there already, as arrays whose first axis is the sample.

    Args:
        arrays: input blob -> values; an array of one sample goes with all samples of the others.
        labels: the true class of each sample.
        class_names: name of each class.
        source: the file, for the description.

    Raises:
        UsageError: there is nothing, or the arrays do not have equally many samples.
    """

    arrays: Mapping[str, Array]
    labels: Array | None = None
    class_names: Sequence[str] = ()
    source: str = "given arrays"

    def __post_init__(self) -> None:
        if alone := [blob for blob, array in self.arrays.items() if not array.ndim]:
            raise UsageError(f"{self.source}: '{alone[0]}' is one number; give an array of samples")
        counts = {blob: len(array) for blob, array in self.arrays.items()}
        if not self.arrays or 0 in counts.values():
            raise UsageError(f"{self.source}: there are no samples")
        if len(several := {count for count in counts.values() if count > 1}) > 1:
            numbers = ", ".join(f"{count:,} for '{blob}'" for blob, count in counts.items())
            raise UsageError(f"{self.source}: unequal numbers of samples: {numbers}")
        count = max(several, default=1)
        if self.labels is not None and np.shape(self.labels) != (count,):
            raise UsageError(f"{self.source}: {labels_misfit(np.shape(self.labels), count)}")

    @property
    def description(self) -> str:
        """Count and file, and what is the same in all samples."""
        alone = [f"'{blob}'" for blob, array in self.arrays.items() if len(array) == 1 < self.count]
        return f"{self.count:,} {plural('sample', self.count)} of {self.source}" + (
            f", {', '.join(alone)} the same for all" if alone else ""
        )

    @property
    def count(self) -> int:
        """How many samples there are."""
        return max(len(array) for array in self.arrays.values())

    @property
    def parallel(self) -> bool:
        """Whether several threads at once read samples sooner than one does."""
        return sum(prod(array.shape[1:]) for array in self.arrays.values()) >= LEAST_PARALLEL

    def sample(self, number: int) -> dict[str, Array]:
        """One row of each array."""
        return {blob: row_of(array, number if len(array) > 1 else 0) for blob, array in self.arrays.items()}

    def name(self, number: int) -> str:
        """The number."""
        return str(number)

    def picture(self, number: int) -> Array | None:
        """The first input, if it has one or three planes, with its values stretched over black to white."""
        return picture_of(next(iter(self.sample(number).values())))


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the samples of a source, in its order.

    Attributes:
        whole: the source.
        numbers: of the samples that are taken.
        chosen: how, for the report.
    """

    whole: Samples
    numbers: tuple[int, ...]
    chosen: str

    @property
    def parallel(self) -> bool:
        """Whether samples may be asked for by several threads at once."""
        return bool(getattr(self.whole, "parallel", False))

    @property
    def description(self) -> str:
        """What was taken of what."""
        return f"{self.chosen} of {self.whole.description}"

    @property
    def count(self) -> int:
        """How many were taken."""
        return len(self.numbers)

    @property
    def labels(self) -> Array | None:
        """Their classes."""
        return None if self.whole.labels is None else np.asarray(self.whole.labels)[list(self.numbers)]

    @property
    def class_names(self) -> Sequence[str]:
        """As of the source."""
        return self.whole.class_names

    def sample(self, number: int) -> dict[str, Array]:
        """One of them."""
        return self.whole.sample(self.numbers[number])

    def name(self, number: int) -> str:
        """As the source calls it."""
        return self.whole.name(self.numbers[number])

    def picture(self, number: int) -> Array | None:
        """As of the source."""
        return picture_of_sample(self.whole, self.numbers[number])


class Part(NamedTuple):
    """Which samples are taken: the first `most`, or so many at random where there is a seed; all by default."""

    most: int | None = None
    seed: int | None = None

    def numbers(self, count: int) -> tuple[int, ...] | None:
        """Which of so many, in their order; None for all.

        Raises:
            UsageError: a seed without a number, or a number below 1.
        """
        if self.most is None:
            if self.seed is not None:
                raise UsageError(f"--sample {self.seed} chooses which samples are taken; say how many with --limit")
            return None
        if self.most < 1:
            raise UsageError(f"a limit of {self.most} leaves no sample")
        if self.most >= count:
            return None
        if self.seed is None:
            return tuple(range(self.most))
        return tuple(sorted(np.random.default_rng(self.seed).choice(count, self.most, replace=False).tolist()))


ALL = Part()


def part_of(samples: Samples, most: int | None, seed: int | None) -> Samples:
    """As `Part` says; exceptions are those of `Part.numbers`."""
    numbers = Part(most, seed).numbers(samples.count)
    if numbers is None:
        return samples
    return Subset(samples, numbers, f"the first {most:,}" if seed is None else f"{most:,}, chosen by seed {seed},")


def picture_of(planes: Array) -> Array | None:
    """An input as a picture: planes in Caffe's order blue, green, red, stretched over the whole scale.

    Args:
        planes: (1, height, width) or (3, height, width), of any range.
    """
    if planes.ndim != 3 or planes.shape[0] not in (1, 3) or min(planes.shape[1:]) < 2:
        return None
    values = np.asarray(planes, np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        return None
    stretched = np.rint((values - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    rgb = np.broadcast_to(stretched, (3, *stretched.shape[1:]))[::-1]
    return np.ascontiguousarray(rgb.transpose(1, 2, 0))
