"""Random values that make sense to a network, for inputs that are no images: regions, indices, flags, an image's size.

Noise as a region lies outside of every image, and as an image's size makes it vanish: the layers behind would then
compute nothing, or the runtime would stop, and a comparison would prove nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bnfold.errors import few
from bnfold.net import Array, Shape

LEAST_NOISE = 3  # samples: one of each scale
OFTEN = 4  # the numbers of which one is marked
MIN_VARIANCE, MAX_VARIANCE = 0.1, 0.2  # of prior boxes: SSD's own


class StandIn:
    """What an input stands for, and how values of that kind are drawn.

    Attributes:
        joint: whether the rows along the first axis belong together (regions of one image, steps of one sentence), so
            that several rows are one sample.
        fixed: whether they follow from the network alone, so that data need not bring them.
    """

    __slots__ = ()
    joint: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """float32 values of `shape`."""
        raise NotImplementedError

    def __str__(self) -> str:
        """What they are, in few words."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Indices(StandIn):
    """Whole numbers in [least, limit), each as likely as the other: places, or with a least one lengths and values.

    Attributes:
        limit, least: of these numbers.
        marked: some of them with a meaning of their own, as that of a padding, which chance would hardly draw: one in
            `OFTEN` is one of these.
    """

    limit: int
    least: int = 0
    marked: tuple[int, ...] = ()

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Draw them one by one."""
        drawn = random.integers(self.least, self.limit, shape)
        if self.marked:
            drawn = np.where(random.integers(OFTEN, size=shape) == 0, random.choice(self.marked, shape), drawn)
        return drawn.astype(np.float32)

    def __str__(self) -> str:
        marked = f", one in {OFTEN} of them {' or '.join(map(str, self.marked))}" if self.marked else ""
        return f"whole numbers {f'from {self.least} on ' if self.least else ''}below {self.limit:,}{marked}"


@dataclass(frozen=True, slots=True)
class AnyOf(StandIn):
    """Some whole numbers that a network knows, each as likely as the other.

    Attributes:
        values: the numbers.
        most: of these that are drawn, the first that the network takes; 0 for all.
    """

    values: tuple[int, ...]
    most: int = 0

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Draw them one by one."""
        return random.choice(np.asarray(self.values, np.float32), shape)

    def __str__(self) -> str:
        return f"any of {few([str(value) for value in self.values])}"


FLAG = Indices(2)
"""What goes into whole numbers of which nothing is known, and into inputs that are true or false."""


@dataclass(frozen=True, slots=True)
class Mask(StandIn):
    """1 for what counts and 0 for what does not: mostly 1, and always in the first place of each row."""

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """One in `OFTEN` is 0."""
        drawn = (random.integers(OFTEN, size=shape) > 0).astype(np.float32)
        drawn[..., :1] = 1
        return drawn

    def __str__(self) -> str:
        return f"1, and one in {OFTEN} of them 0"


@dataclass(frozen=True, slots=True)
class Lengths(StandIn):
    """How many of so many steps count: from half of them on, since a convolution with a stride leaves nothing of one.

    Attributes:
        steps: all, which they are in the first sample, as in every batch that is padded to its longest.
        whole: whether they are all everywhere.
    """

    steps: int
    whole: bool = False

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Draw them one by one."""
        least = self.steps if self.whole else (self.steps + 1) // 2
        return random.integers(least, self.steps + 1, shape).astype(np.float32)

    def __str__(self) -> str:
        return f"lengths of {self.steps:,}" if self.whole else f"lengths up to {self.steps:,}"


@dataclass(frozen=True, slots=True)
class Fixed(StandIn):
    """The last of these values, as many as there is room for: sizes that an operator can take, or a switch."""

    values: tuple[float, ...]
    joint: ClassVar[bool] = True
    fixed: ClassVar[bool] = True

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """The same in every sample."""
        del random
        return np.resize(np.asarray(self.values[-max(math.prod(shape), 1) :], np.float32), shape)

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" for value in self.values)


@dataclass(frozen=True, slots=True)
class Continuation(StandIn):
    """LSTM's and RNN's `cont`: a sequence begins at step 0 and goes on until the last of `steps`."""

    steps: int
    joint: ClassVar[bool] = True
    fixed: ClassVar[bool] = True

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Row 0 is 0, all others are 1, as Caffe's users feed it (`lstm_layer.hpp`)."""
        del random
        values = np.ones(math.prod(shape), np.float32)
        values[: len(values) // self.steps] = 0
        return values.reshape(shape)

    def __str__(self) -> str:
        return "sequences that begin at step 0"


@dataclass(frozen=True, slots=True)
class Regions(StandIn):
    """Rows (image, x1, y1, x2, y2), or without the first: boxes inside image 0, in its pixels.

    Attributes:
        height, width: of the image.
        values: per row, 5 or 4.
    """

    height: float
    width: float
    values: int = 5
    joint: ClassVar[bool] = True

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Two corners each, the lower one first."""
        rows = np.zeros((-(-math.prod(shape) // self.values), self.values))
        ends = np.sort(random.random((len(rows), 2, 2)), axis=1) * [max(self.width - 1, 0), max(self.height - 1, 0)]
        rows[:, -4:] = ends.reshape(-1, 4)
        return np.resize(rows.astype(np.float32), shape)

    def __str__(self) -> str:
        return f"regions inside {self.height:g}x{self.width:g}"


@dataclass(frozen=True, slots=True)
class ImageInfo(StandIn):
    """Rows (height, width, scale ...) of the image that is fed, not scaled."""

    height: int
    width: int
    fixed: ClassVar[bool] = True

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """The same row for every image; PVANet's has two scales, and one of two values none."""
        del random
        count = 2 if shape[-1:] == (2,) else 3 if math.prod(shape) % 3 == 0 else 4
        return np.resize(np.array([self.height, self.width, 1, 1][:count], np.float32), shape)

    def __str__(self) -> str:
        return f"an image of {self.height}x{self.width}, scale 1"


@dataclass(frozen=True, slots=True)
class Places(StandIn):
    """A pooling mask: for each value of a plane another place in the plane of `limit` values that it came from."""

    limit: int

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Places of one plane differ while there are enough of them, since one of two equal ones would be lost."""
        size = math.prod(shape[-2:])
        planes = [np.resize(random.permutation(self.limit), size) for _ in range(math.prod(shape) // max(size, 1))]
        return np.asarray(planes, np.float32).reshape(shape)

    def __str__(self) -> str:
        return f"places in a plane of {self.limit:,}"


@dataclass(frozen=True, slots=True)
class Priors(StandIn):
    """SSD's prior boxes: a row of corners in [0, 1], and a row of variances."""

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """(.., 2, 4*K)."""
        boxes = -(-math.prod(shape) // 8)
        corners = np.sort(random.random((boxes, 2, 2)), axis=1)
        variances = np.resize([MIN_VARIANCE, MIN_VARIANCE, MAX_VARIANCE, MAX_VARIANCE], 4 * boxes)
        return np.resize(np.concatenate([corners.reshape(-1), variances]).astype(np.float32), shape)

    def __str__(self) -> str:
        return "prior boxes inside the image"


@dataclass(frozen=True, slots=True)
class Unread(StandIn):
    """An input that no layer reads, of those that are run: zeros are as good as anything."""

    fixed: ClassVar[bool] = True

    def draw(self, random: np.random.Generator, shape: Shape) -> Array:
        """Zeros."""
        del random
        return np.zeros(shape, np.float32)

    def __str__(self) -> str:
        return "zeros, since nothing that is run reads it"
