"""What a search for a plan has decided so far, and how layers on the way change, back or forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bnfold.algebra import commute
from bnfold.algebra.absorb import Change, OutOfRange, absorb_backward, absorb_forward
from bnfold.algebra.affine import Affine, everywhere
from bnfold.algebra.commute import Commuting
from bnfold.algebra.operators import Clip, Constant, Linear, Opaque, Operator, Pass
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.records import Blocked, block, require
from bnfold.net import Layer

LARGER = "the composition would vary along the axes of both"
MORE_LAYERS = "have no bias, and each would need another layer that adds one"


class _Taken(NamedTuple):
    """A layer that absorbs an affine, and what becomes of it; None for a layer that is an affine itself."""

    layer: Layer
    affine: Affine
    change: Change | None


class Direction(NamedTuple):
    """How the layers on the way change, back or forward.

    Attributes:
        change: the new weights of a layer that absorbs an affine.
        compose: (own, moving) -> the affine of a layer that takes the moving one in.
        rescale: (own, moving) -> the affine of a layer that lets the moving one past.
        clip: the new bounds of a Clip that lets it past.
    """

    change: Callable[[Linear | Constant, Affine], Change]
    compose: Callable[[Affine, Affine], Affine]
    rescale: Callable[[Affine, Affine], Affine]
    clip: Callable[[Clip, Affine], Clip]


@dataclass(slots=True, eq=False)
class Journal:
    """What a search has decided so far; a failed alternative is taken back by cutting the lists.

    Attributes:
        past: whether the moving affine has to get past other affines instead of merging, since other readers want it in
            front of them.
        wider: whether the search met another affine, or a blob with other readers; if it fails, a search past those
            may succeed.
        refused: why the first affine on the way could not take the moving one in.
    """

    scene: Scene
    direction: Direction
    absorbed: list[_Taken] = field(default_factory=list)
    rescaled: list[tuple[Layer, Affine | Clip]] = field(default_factory=list)
    through: list[Layer] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    past: bool = False
    wider: bool = False
    refused: str = ""

    def copy(self) -> Journal:
        """Another one that goes on from here by itself."""
        return replace(
            self, absorbed=[*self.absorbed], rescaled=[*self.rescaled], through=[*self.through], moved=[*self.moved]
        )

    def why(self, blocked: Blocked) -> str:
        """What stands in the way: an affine that could not take it, and what it met past that one."""
        return f"{self.refused}; and past it, {blocked}" if self.refused not in ("", str(blocked)) else str(blocked)

    def mark(self) -> tuple[int, int, int, int]:
        """How far it is, for `cut`."""
        return len(self.absorbed), len(self.through), len(self.moved), len(self.rescaled)

    def cut(self, mark: tuple[int, int, int, int]) -> None:
        """Take back what was decided since `mark`."""
        del self.absorbed[mark[0] :], self.through[mark[1] :], self.moved[mark[2] :], self.rescaled[mark[3] :]

    def absorb(self, layer: Layer, affine: Affine, top: int = 0) -> Commuting | None:
        """Note that `layer` takes the affine, if it is of a kind that absorbs; else say what the affine must get past.

        Going back it is the top of a number that shall carry it.

        Raises:
            Blocked: it is of such a kind, but cannot take this one; or nothing passes it.
        """
        change: Change | None = None
        with Naming(layer):
            operator = self._operator(layer)
            if isinstance(operator, Linear | Constant):
                require(top == 0, "its weight comes behind its first output alone")
                try:
                    change = self.direction.change(operator, affine)
                except OutOfRange:
                    self.scene.note_met(layer)
                    raise
                except Blocked:
                    if not isinstance(operator, Linear) or not self._passes_beside(operator, affine):
                        raise
                    return operator.beside
            elif isinstance(operator, Affine):
                if (passing := self._past(layer, operator, affine)) is not None:
                    return passing
            elif isinstance(operator, Clip):
                if (bounds := self.direction.clip(operator, affine)) != operator:
                    self.rescaled.append((layer, bounds))
                return Pass()
            else:
                return _commuting(operator, "")
        self.absorbed.append(_Taken(layer, affine, change))
        return None

    def _passes_beside(self, linear: Linear, affine: Affine) -> bool:
        """Whether an affine that a layer does not absorb gets past it: a factor, or a shift in front of a mean."""
        if isinstance(linear.beside, Pass):
            return self.direction is FORWARD and affine.sign == 1
        return linear.beside is not None and linear.bias is None and affine.keeps_zero

    def _past(self, layer: Layer, own: Affine, affine: Affine) -> Pass | None:
        """How the one that moves gets past an affine on the way, which is noted; None where that takes it in.

        Raises:
            Blocked: neither can be done.
        """
        self.wider = True
        self.scene.note_met(layer)
        refusal = ""
        if not self.past:
            try:
                self._writable(layer, own, affine, self.direction.compose)
            except Blocked as blocked:
                refusal = str(blocked)
            else:
                return None
        scales = self._shift_passes(own, affine)
        if not (affine.keeps_zero or own.sign or scales) or any(layer is other for other, _ in self.rescaled):
            raise Blocked(refusal)
        if not self.past:
            self.refused = self.refused or f"{layer}: {refusal}"
        if not own.keeps_zero:
            self.rescaled.append((layer, self._writable(layer, own, affine, self.direction.rescale)))
        return Pass(total=own.sign or (own.scale if scales else 1.0))

    def _shift_passes(self, own: Affine, affine: Affine) -> bool:
        """Whether a shift goes forward past a factor: `a*(x + h) = a*x + a*h`, where that has no more values."""
        if self.direction is not FORWARD or affine.sign != 1 or not own.keeps_zero:
            return False
        return affine.then(own).count <= max(own.count, affine.count)

    def passed(self, layer: Layer) -> Commuting:
        """What affines on several bottoms must get past.

        Raises:
            Blocked: they cannot.
        """
        with Naming(layer):
            return _commuting(self._operator(layer), "it takes one affine only")

    def _operator(self, layer: Layer) -> Operator:
        """What the layer is; the record of an affine that cannot be read says why it stays, so nobody else's need."""
        try:
            return self.scene.operator(layer)
        except Blocked:
            raise Blocked("it stays, and computes nothing that another affine could join") from None

    def plan(self) -> Plan:
        """All decisions as changes; a layer that was reached on two ways absorbs the composition.

        Raises:
            Blocked: together they cannot be carried out, or would make more layers than they save.
        """
        totals: dict[int, _Taken] = {}
        for taken in self.absorbed:
            before = totals.get(id(taken.layer))
            totals[id(taken.layer)] = self._joined(before, taken) if before else taken
        plan = Plan(
            rescaled=self.rescaled,
            through=list({id(layer): layer for layer in self.through}.values()),
            moved=list(dict.fromkeys(self.moved)),
        )
        for layer, _ in self.rescaled:
            require(id(layer) not in totals, f"{layer} is met twice, and differently")
        for layer, affine, change in totals.values():
            if change is not None:
                plan.changes.append((layer, change))
            elif isinstance(own := self.scene.operator(layer), Affine):
                with Naming(layer):
                    plan.merged.append((layer, self._writable(layer, own, affine, self.direction.compose)))
        adding = [layer for layer, change in plan.changes if self._needs_layer(layer, change)]
        if len(adding) > 1:
            for layer in adding:  # one may get a bias by another affine, and then take this one
                self.scene.note_met(layer)
            raise Blocked(f"{adding[0]} and {len(adding) - 1} more {MORE_LAYERS}")
        return plan

    def _needs_layer(self, layer: Layer, change: Change) -> bool:
        """Whether a layer gets a bias that another layer has to add."""
        linear = self.scene.operator(layer)
        return isinstance(linear, Linear) and linear.bias_apart and linear.bias is None and change.bias is not None

    def _writable(
        self, layer: Layer, own: Affine, affine: Affine, together: Callable[[Affine, Affine], Affine]
    ) -> Affine:
        """What a layer that is an affine becomes. Raises `Blocked` where its language could not say it."""
        composition = together(own, affine)
        require(composition.count <= max(own.count, affine.count), LARGER)
        block(self.scene.refuses(layer, composition, (own, affine)))
        return composition

    def _joined(self, before: _Taken, after: _Taken) -> _Taken:
        layer, affine = before.layer, before.affine.then(after.affine)
        with Naming(layer):
            operator = self.scene.operator(layer)
            change = self.direction.change(operator, affine) if isinstance(operator, Linear | Constant) else None
        return _Taken(layer, affine, change)


def _commuting(operator: Operator, otherwise: str) -> Commuting:
    """An operator that affines can get past. Raises `Blocked` with the reason of one that is opaque, or `otherwise`."""
    if isinstance(operator, Commuting):
        return operator
    raise Blocked(operator.reason if isinstance(operator, Opaque) else otherwise)


class Naming(NamedTuple):
    """Puts the layer in front of the reason of a `Blocked` that is raised inside.

    A generator as a context manager would take longer, and this stands around every step.
    """

    layer: Layer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        del kind, traceback
        if isinstance(error, Blocked):
            error.with_traceback(None)  # by which it and the frame that it leaves through would hold each other
            reason = f": {error}" if str(error) else " neither absorbs an affine nor lets one pass"
            raise Blocked(f"{self.layer}{reason}") from None


def _rescaled(own: Affine, passing: Affine) -> Affine:
    """What is left of an affine that another moves back through.

    `s*(a*x + b) = a*(s*x) + s*b`, and with a shift, where a is 1 or -1, `s*(a*x + b) + h = a*(s*x + a*h) + s*b`.
    """
    return Affine(own.scale, own.then(passing.without_shift()).shift)


def _rescaled_by_inverse(own: Affine, passing: Affine) -> Affine:
    """What is left of an affine that another moves forward through.

    `a*(s*x) + b = s*(a*x + b/s)`, and with a shift, where a is 1 or -1, `a*(s*x + h) + b = s*(a*x + b/s) + a*h`.
    """
    require(everywhere(passing.scale != 0), "a scale of 0 cannot pass what adds a number")
    return _rescaled(own, Affine(1 / passing.scale))


BACKWARD = Direction(absorb_backward, lambda own, arriving: own.then(arriving), _rescaled, commute.clipped_back)
FORWARD = Direction(
    absorb_forward, lambda own, arriving: arriving.then(own), _rescaled_by_inverse, commute.clipped_forward
)
