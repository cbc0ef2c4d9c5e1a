"""What folding did and did not do, as records: text, JSON and HTML are renderings of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnfold.io.rendered import Rendered

if TYPE_CHECKING:
    from bnfold.net import Shape


class Blocked(Exception):
    """An affine cannot go on; the message says where it stopped and why. A result, never an error for the user."""


def require(holds: bool, reason: str, kind: type[Blocked] = Blocked) -> None:
    """Block with `reason`, in this kind, unless the condition holds."""
    if not holds:
        raise kind(reason)


def block(reason: str) -> None:
    """Raise `Blocked` with `reason`, unless that is empty."""
    if reason:
        raise Blocked(reason)


@dataclass(frozen=True, slots=True)
class Folded:
    """An affine layer is gone: linear layers do its work.

    Attributes:
        layer: the layer that was removed.
        type: its type.
        into: the layers whose weights, or whose coefficients, took it.
        through: the layers that it was moved through to get there.
        forward: whether it went to the layers behind it rather than to those in front.
    """

    layer: str
    type: str
    into: tuple[str, ...]
    through: tuple[str, ...] = ()
    forward: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """An affine layer is gone: another affine layer, which stays for now, does both.

    Attributes:
        layers: the layers that were removed, in execution order.
        type: the type of the first.
        into: the affine layers that took them.
        through: the layers that were crossed.
    """

    layers: tuple[str, ...]
    type: str
    into: tuple[str, ...]
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A layer that does nothing at inference (Dropout, Split, an identity) is gone."""

    layer: str
    type: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An affine layer stays.

    Attributes:
        layer: the layer.
        type: its type in the original network.
        reason: the sentence that says what stands in its way.
        now: its type in the folded network; "Scale" where a BatchNorm or a whole run was rewritten as one.
    """

    layer: str
    type: str
    reason: str
    now: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A sum of parallel branches is gone: one convolution does all of it.

    Attributes:
        layer: the layer that summed.
        type: its type.
        into: the convolution, a branch itself.
        branches: the other branches' layers, which are gone too.
    """

    layer: str
    type: str
    into: tuple[str, ...]
    branches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """What a normalisation multiplied and added last is done by linear layers behind it; the layer stays.

    Attributes:
        layer: the normalisation.
        type: its type.
        into: the linear layers.
        through: the layers that were crossed.
    """

    layer: str
    type: str
    into: tuple[str, ...]
    through: tuple[str, ...] = ()


Record = Folded | Merged | Dropped | Kept | Joined | Moved


@dataclass(slots=True, repr=False)
class FoldReport(Rendered):
    """What one `fold` did.

    Attributes:
        records: what became of every affine layer, in execution order.
        notes: sentences about what the user should know (assumptions made, weights no longer shared).
        layers_before, layers_after: the number of layers.
        parameters_before, parameters_after: the number of learned values.
        shapes: blob -> its shape, of both networks, as far as folding knew them; None where even the rank is unknown,
            -1 for a size that is.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layers_before: int = 0
    layers_after: int = 0
    parameters_before: int = 0
    parameters_after: int = 0
    shapes: dict[str, Shape | None] = field(default_factory=dict)

    @property
    def folded(self) -> list[Folded]:
        """The layers that linear layers absorbed."""
        return [record for record in self.records if isinstance(record, Folded)]

    @property
    def merged(self) -> list[Merged]:
        """The layers that other affines took over."""
        return [record for record in self.records if isinstance(record, Merged)]

    @property
    def joined(self) -> list[Joined]:
        """The sums of branches that became one convolution."""
        return [record for record in self.records if isinstance(record, Joined)]

    @property
    def kept(self) -> list[Kept]:
        """The affine layers that stay, each with its reason."""
        return [record for record in self.records if isinstance(record, Kept)]

    def __repr__(self) -> str:
        gone = sum(len(record.layers) for record in self.merged) + len(self.folded)
        return f"<FoldReport: {self.layers_before} -> {self.layers_after} layers, {gone} folded, {len(self.kept)} kept>"
