"""What the rows of the commuting table are made of: a layer in one mode, and which affines it is tried with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from algebra.rows import (
    Array,
    Kind,
    Rng,
    any_affine,
    layer_of,
    run,
    signed,
    take,
)

from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Affines
from bnfold.net import Shape


@dataclass(frozen=True)
class Row:
    """One mode of one layer.

    Attributes:
        name: what mode it is.
        text: the layer.
        bottoms: their shapes.
        blobs: shapes of what it learned.
        tops: how many.
        oracle: the same layer in the oracle's words, where it knows it under another name.
        inputs: makes the bottoms where they cannot be noise.
    """

    name: str
    text: str
    bottoms: tuple[Shape, ...]
    blobs: tuple[Shape, ...] = ()
    tops: int = 1
    oracle: str = ""
    inputs: Callable[[Rng], list[Array]] | None = None

    @property
    def type(self) -> str:
        return str(layer_of(self.text).type)

    def sample(self, rng: Rng) -> tuple[list[Array], list[Array]]:
        """Bottoms and blobs, signed and different in every channel."""
        bottoms = self.inputs(rng) if self.inputs else [signed(rng, shape) for shape in self.bottoms]
        return bottoms, [signed(rng, shape) for shape in self.blobs]

    def run(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Array]:
        return run(self.oracle or self.text, bottoms, self.tops, blobs)


@dataclass(frozen=True)
class Back:
    """A row moved back: what passes from top number `top`, what is refused, and what doing it anyway would mean."""

    row: Row
    passes: Kind | None = None
    refuses: tuple[Kind, ...] = ()
    anyway: Callable[[Affine], Affines] | None = None
    top: int = 0


@dataclass(frozen=True)
class Forward:
    """A row moved forward; `passes` and `refuses` make what stands on every bottom."""

    row: Row
    passes: Callable[[Rng], Affines] | None = None
    refuses: tuple[Callable[[Rng], Affines], ...] = ()
    anyway: Callable[[Affines], Affines] | None = None


def once(*kinds: Kind | None, channels: int = 4) -> Callable[[Rng], Affines]:
    """An affine of each kind, one for each bottom."""
    return lambda rng: [kind(rng, channels) if kind else None for kind in kinds]


def the_same(kind: Kind, count: int, channels: int = 4) -> Callable[[Rng], Affines]:
    return lambda rng: [kind(rng, channels)] * count


def one_scale(rng: Rng) -> Affines:
    """One scale of both signs, and shifts of their own."""
    first, second = any_affine(rng, 4), any_affine(rng, 4)
    return [first, Affine(first.scale, second.shift)]


def channels_that_meet(row: Row) -> list[Array]:
    """For each top, which channels of the bottom reach which channel of the top, by the oracle alone: (top, bottom)."""
    (shape, *others) = row.bottoms
    labels = np.broadcast_to(np.arange(float(shape[1])).reshape(-1, *[1] * (len(shape) - 2)), shape)
    tops = row.run([labels, *(np.zeros(other) for other in others)], [])
    return [
        np.stack([np.isin(np.arange(shape[1]), top[:, channel]) for channel in range(top.shape[1])]) for top in tops
    ]


def alike(meets: Array) -> list[int]:
    """For each row of a relation, the first row that is connected with it."""
    connected = (meets @ meets.T.astype(np.int64)) > 0
    for _ in range(len(connected)):
        connected = (connected @ connected.astype(np.int64)) > 0
    return [int(np.argmax(row)) for row in connected]


def movable(row: Row, top: int = 0) -> Kind:
    """Channels of a top that share a channel of the bottom get the same values, all others different ones."""
    return lambda rng, channels: take(any_affine(rng, channels), np.array(alike(channels_that_meet(row)[top])))


def movable_forward(row: Row) -> Callable[[Rng], Affines]:
    """Channels of the bottom that meet in any top get the same values."""
    groups = np.array(alike(np.concatenate(channels_that_meet(row)).T))
    others: Affines = [None] * (len(row.bottoms) - 1)
    return lambda rng: [take(any_affine(rng, len(groups)), groups), *others]


def first_met(row: Row, top: int = 0) -> Callable[[Affine], Affines]:
    """Each channel of the bottom gets the values of the first channel that it reaches."""
    return lambda affine: [take(affine, channels_that_meet(row)[top].argmax(axis=0)), *[None] * (len(row.bottoms) - 1)]


def first_source(row: Row) -> Callable[[Affines], Affines]:
    """Each channel of a top gets the values of the first channel that reaches it."""

    def anyway(affines: Affines) -> Affines:
        assert affines[0] is not None
        return [take(affines[0], meets.argmax(axis=1)) for meets in channels_that_meet(row)]

    return anyway


def taking(*channels: int) -> Callable[[Affines], Affines]:
    """The top gets the values of these channels of the first bottom."""
    return lambda affines: [take(affine, np.array(channels)) for affine in affines[:1] if affine]


def taking_second(*channels: int) -> Callable[[Affines], Affines]:
    """The top gets the values of these channels of the second bottom."""
    return lambda affines: taking(*channels)(affines[1:])


def on_all(count: int) -> Callable[[Affine], Affines]:
    return lambda affine: [affine] * count


def rank(kind: Kind) -> Kind:
    """An affine with a scale of 0 in every channel but one: all that a window sees becomes equal."""

    def made(rng: Rng, channels: int) -> Affine:
        affine = kind(rng, channels)
        return Affine(np.where(np.arange(channels) == 0, affine.scale, 0.0), affine.shift)

    return made
