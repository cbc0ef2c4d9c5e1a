"""What moving one affine does to a net, and the net as those see it who plan that.

A plan is made whole, without touching the net, or not at all: whoever makes one stops with `Blocked` and a sentence at
the first thing in the way. `backward` and `forward` move any affine; `factors`, `coefficients`, `together` and
`branches` are for what these leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bnfold.algebra.absorb import Change
from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Clip, Operator, Sum, Window
from bnfold.algebra.records import Blocked, require
from bnfold.net import Layer, Net, Use

MAX_STEPS = 200_000
"""A model may be of millions of layers that all want to move."""
TOO_LONG = "the affines of this net stand too far from linear layers to be moved in reasonable time"


class Budget:
    """How many layers a fold may look at on its ways: else its time would grow with the square of a hostile net.

    Of published nets none is known that takes as many steps as it has layers.
    """

    def __init__(self, layers: int) -> None:
        self.left = 10_000 + min(4 * layers, MAX_STEPS)

    def spend(self) -> None:
        """One step. Raises Blocked when none is left."""
        self.left -= 1
        require(self.left >= 0, TOO_LONG)


@dataclass(slots=True, eq=False)
class Plan:
    """What moving one affine does to the net.

    Attributes:
        changes: the linear layers that absorb it, each with its new weights.
        merged: the affine layers that absorb it, each with the affine that it computes from now on.
        rescaled: the affine layers and Clips that it moves through, each with what it computes from now on.
        weighed: the sums whose coefficients take it, each with all of these.
        through: the layers that it moves through, each once, in the order they were crossed.
        moved: the blobs whose value changes on the way, each once.
    """

    changes: list[tuple[Layer, Change]] = field(default_factory=list)
    merged: list[tuple[Layer, Affine]] = field(default_factory=list)
    rescaled: list[tuple[Layer, Affine | Clip]] = field(default_factory=list)
    weighed: list[tuple[Layer, Sum]] = field(default_factory=list)
    through: list[Layer] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)

    @property
    def layers(self) -> set[int]:
        """All layers that change or that it moves through, by identity."""
        changed = (layer for layer, _ in (*self.changes, *self.merged, *self.rescaled))
        return set(map(id, (*changed, *self.through)))


class Scene(NamedTuple):
    """The net as a planner sees it.

    Attributes:
        net: never changed here.
        operator: what a layer is by now, an alias being the identity; raises `Blocked` for an affine that is
            none as it stands.
        reads_values: whether a use reads the values of its blob, and not the shape alone.
        unread: the outputs that would be none if anybody read them.
        refuses: why a composed affine could not be written at a layer; empty if it can.
        note_met: is called with each affine on the way and each layer that could not absorb; when one of them changes
            or goes, the affine that moves may be tried again.
        joins: whether the language can write a convolution with this window.
        order: position of each layer, by identity.
        protected: blob -> why it may neither change nor go.
        excluded: layers that may not be rewritten, by identity.
        budget: what all plans together may look at.
        shared_budget: the same for searches in which several readers of a blob want the same affine.
    """

    net: Net
    operator: Callable[[Layer], Operator]
    reads_values: Callable[[Use], bool]
    unread: Collection[str]
    refuses: Callable[[Layer, Affine, Sequence[Affine]], str]
    note_met: Callable[[Layer], None]
    joins: Callable[[Layer, Window], bool]
    order: Mapping[int, int]
    protected: Mapping[str, str]
    excluded: Collection[int]
    budget: Budget
    shared_budget: Budget

    def uses(self, blob: str) -> Sequence[Use]:
        """Every reading of the values of `blob`."""
        return [use for use in self.net.uses(blob) if self.reads_values(use)]

    def known_operator(self, layer: Layer) -> Operator | None:
        """What a layer is by now, None for an affine that is none as it stands."""
        try:
            return self.operator(layer)
        except Blocked:
            return None
