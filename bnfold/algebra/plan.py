"""Where an affine can go: a plan is made whole, without touching the net, or not at all.

Going back, the demand "this blob shall carry A" starts at the affine's bottom and moves from layer to layer until
every branch of it has met a layer that absorbs. Going forward, the affine is taken off its blob and every use of that
blob must accept it. Both stop with `Blocked` and a sentence at the first thing in the way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from bnfold.algebra import commute
from bnfold.algebra.absorb import Change, OutOfRange, absorb_backward, absorb_forward
from bnfold.algebra.affine import Affine, everywhere
from bnfold.algebra.commute import Affines, Commuting
from bnfold.algebra.movement import sees_nothing
from bnfold.algebra.operators import Clip, Constant, Linear, Move, Opaque, Operator, Pass, Product, Sum, Window
from bnfold.algebra.records import Blocked, block, require
from bnfold.net import Layer, Net, Use

MAX_STEPS = 200_000
"""A model may be of millions of layers that all want to move."""
MAX_ALTERNATIVES = 64
"""A sum may be of thousands of blobs, each of which could take the shift."""

MAX_TOGETHER = 256
"""Layers that a search looks at in which several readers of a blob want the same; an attention has some twenty."""

LEAST_APART = 2.0**-4
"""The least factor of which the inverse is given to others."""

MAX_APART = 8
"""Readers of a blob that is given another scale for the sake of one of them."""

TOO_LONG = "the affines of this net stand too far from linear layers to be moved in reasonable time"
LARGER = "the composition would vary along the axes of both"


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


class _Taken(NamedTuple):
    """A layer that absorbs an affine, and what becomes of it; None for a layer that is an affine itself."""

    layer: Layer
    affine: Affine
    change: Change | None


class _Direction(NamedTuple):
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
class _Journal:
    """What a search has decided so far; a failed alternative is taken back by cutting the lists.

    Attributes:
        past: whether the moving affine has to get past other affines instead of merging, since other readers want it in
            front of them.
        wider: whether the search met another affine, or a blob with other readers; if it fails, a search past those
            may succeed.
        refused: why the first affine on the way could not take the moving one in.
    """

    scene: Scene
    direction: _Direction
    absorbed: list[_Taken] = field(default_factory=list)
    rescaled: list[tuple[Layer, Affine | Clip]] = field(default_factory=list)
    through: list[Layer] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    past: bool = False
    wider: bool = False
    refused: str = ""

    def copy(self) -> _Journal:
        return replace(
            self, absorbed=[*self.absorbed], rescaled=[*self.rescaled], through=[*self.through], moved=[*self.moved]
        )

    def why(self, blocked: Blocked) -> str:
        """What stands in the way: an affine that could not take it, and what it met past that one."""
        return f"{self.refused}; and past it, {blocked}" if self.refused not in ("", str(blocked)) else str(blocked)

    def mark(self) -> tuple[int, int, int, int]:
        return len(self.absorbed), len(self.through), len(self.moved), len(self.rescaled)

    def cut(self, mark: tuple[int, int, int, int]) -> None:
        del self.absorbed[mark[0] :], self.through[mark[1] :], self.moved[mark[2] :], self.rescaled[mark[3] :]

    def absorb(self, layer: Layer, affine: Affine, top: int = 0) -> Commuting | None:
        """Note that `layer` takes the affine, if it is of a kind that absorbs; else say what the affine must get past.

        Going back it is the top of a number that shall carry it.

        Raises:
            Blocked: it is of such a kind, but cannot take this one; or nothing passes it.
        """
        change: Change | None = None
        with _Naming(layer):
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
        with _Naming(layer):
            return _commuting(self._operator(layer), "it takes one affine only")

    def _operator(self, layer: Layer) -> Operator:
        """What the layer is; the record of an affine that cannot be read says why it stays, so nobody else's need."""
        try:
            return self.scene.operator(layer)
        except Blocked:
            raise Blocked("it stays, and computes nothing that another affine could join") from None

    def plan(self) -> Plan:
        """All decisions as changes; a layer that was reached on two ways absorbs the composition."""
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
                with _Naming(layer):
                    plan.merged.append((layer, self._writable(layer, own, affine, self.direction.compose)))
        return plan

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
        with _Naming(layer):
            operator = self.scene.operator(layer)
            change = self.direction.change(operator, affine) if isinstance(operator, Linear | Constant) else None
        return _Taken(layer, affine, change)


def _commuting(operator: Operator, otherwise: str) -> Commuting:
    """An operator that affines can get past. Raises `Blocked` with the reason of one that is opaque, or `otherwise`."""
    if isinstance(operator, Commuting):
        return operator
    raise Blocked(operator.reason if isinstance(operator, Opaque) else otherwise)


# Going back.

Search = Generator["Search", None, None]


def plan_backward(scene: Scene, layer: Layer, affine: Affine) -> Plan:
    """Move the affine of `layer` into the layers that make its bottom.

    Raises:
        Blocked: some layer on the way neither absorbs it nor lets it pass, or an output would get a reader.
    """
    journal = _Journal(scene, BACKWARD)
    bottom, top = layer.bottoms[0], layer.tops[0]
    try:
        _run(_demand(journal, bottom, affine, layer))
    except Blocked as blocked:
        together = _demand_together(_Journal(scene, BACKWARD), bottom, affine, layer) if journal.wider else None
        if together is None:
            raise Blocked(journal.why(blocked)) from None
        journal = together
    # Those that want the shape alone, or other elements, will read the bottom under the name of the top.
    others = [use.layer for use in scene.net.uses(bottom) if use.layer is not layer]
    if top in scene.unread and others:
        raise Blocked(f"{others[0]} reads '{bottom}', whose place '{top}' would take, and what is read is no output")
    return journal.plan()


def _demand(journal: _Journal, blob: str, affine: Affine, reader: Layer, wanted: int = 1) -> Search:
    """Have `blob` carry `affine`; `wanted` of the readings by `reader` want it so."""
    scene = journal.scene
    if affine.is_identity:
        return
    block(scene.protected.get(blob, ""))
    journal.wider |= bool(journal.through) and len(scene.net.uses(blob)) > 1
    if reason := _why_unwanted(scene, blob, affine, reader, wanted):
        raise Blocked(reason)  # the first blob's readers want what they want in any search
    producer = scene.net.producer(blob)
    if producer is None:
        raise Blocked(f"'{blob}' is made by no layer")
    if id(producer) in scene.excluded:
        raise Blocked(f"{producer} is excluded")
    if journal.through:  # the layer next to an affine is looked at in any case
        scene.budget.spend()
    operator = journal.absorb(producer, affine, producer.tops.index(blob))
    if operator is None:
        journal.moved.append(blob)
        return
    with _Naming(producer):
        readings = filter(scene.reads_values, scene.net.uses(producer.bottoms[0]))
        alone = len(list(islice(readings, 2))) == 1  # thousands may read it
        laws = commute.back(operator, affine, producer.tops.index(blob), producer.bottoms, alone=alone)
        alternatives = list(islice(laws, MAX_ALTERNATIVES))
    journal.through.append(producer)
    journal.moved.append(blob)
    mark, refusal = journal.mark(), Blocked(f"{producer} has no bottom that could take it")
    for index, moved in enumerate(alternatives):
        try:
            for bottom, (part, count) in _by_bottom(producer, moved).items():
                yield _demand(journal, bottom, part, producer, count)
        except Blocked as blocked:
            journal.cut(mark)
            refusal = blocked if index == 0 else refusal
        else:
            return
    raise refusal


def _why_unwanted(scene: Scene, blob: str, affine: Affine, reader: Layer, wanted: int) -> str:
    """Why not all that read `blob` want it to carry `affine`; empty if they do."""
    uses = scene.net.uses(blob)
    own = sum(use.layer is reader and scene.reads_values(use) for use in uses)
    if own != wanted:
        return f"{reader} reads '{blob}' {own} times, and wants {wanted} changed"
    others = (use.layer for use in uses if use.layer is not reader and scene.reads_values(use))
    hindered = next((other for other in others if not _takes_others(scene, other, blob, affine)), None)
    return "" if hindered is None else f"{hindered} reads '{blob}' too, and needs it unchanged"


Wanted = dict[str, tuple[Affine, int]]
"""Blobs, each with the affine that it shall carry and how many of its readings want that."""


def _demand_together(journal: _Journal, blob: str, affine: Affine, reader: Layer) -> _Journal | None:
    """Have `blob` carry what all that read a blob on the way want alike, as a scale the two of `x + pool(x)`.

    Returns:
        What was decided; None where it cannot be done.
    """
    searches: list[tuple[_Journal, Wanted]] = [(journal, {blob: (affine, 1)})]
    for _ in range(MAX_TOGETHER):
        if not searches:
            break
        journal, wanted = searches.pop()
        if not wanted:
            return journal
        with suppress(Blocked):
            ways = _ways(journal, wanted, reader)
            searches += [(journal.copy() if index else journal, way) for index, way in enumerate(ways)][::-1]
    return None


def _ways(journal: _Journal, wanted: Wanted, reader: Layer) -> list[Wanted]:
    """What is still wanted after the last layer, in execution order, that makes a wanted blob; all readers were asked.

    Raises:
        Blocked: it cannot.
    """
    scene = journal.scene
    scene.shared_budget.spend()
    blob = max(wanted, key=lambda blob: scene.order.get(id(scene.net.producer(blob)), -1))
    (affine, count), producer = wanted[blob], scene.net.producer(blob)
    uses = scene.uses(blob)
    others = [use.layer for use in uses if use.layer is not reader and use.layer not in journal.through]
    alike = len(uses) - len(others) == count and all(_takes_others(scene, other, blob, affine) for other in others)
    if producer is None or blob in scene.protected or id(producer) in scene.excluded or not alike:
        raise Blocked(f"'{blob}' cannot change")
    rest = {other: wanted[other] for other in wanted if other != blob}
    journal.past = bool(rest)
    operator = journal.absorb(producer, affine, producer.tops.index(blob))
    journal.moved.append(blob)
    if operator is None:
        return [rest]
    journal.through.append(producer)
    ways: list[Wanted] = []
    # All readers of what a layer moves may want one thing, or each a thing of its own part.
    several = isinstance(operator, Move) and len(scene.uses(producer.bottoms[0])) > 1
    for alone in (True, False) if several else (True,):
        with suppress(Blocked):
            laws = commute.back(operator, affine, producer.tops.index(blob), producer.bottoms, alone=alone)
            for moved in islice(laws, MAX_ALTERNATIVES):
                ways += _with_demands(rest, _by_bottom(producer, moved))
    return ways


def _with_demands(wanted: Wanted, demands: Wanted) -> Iterator[Wanted]:
    """What is wanted together; nothing where two different things are wanted of one blob."""
    both = dict(wanted)
    for blob, (affine, count) in demands.items():
        present, others = wanted.get(blob, (affine, 0))
        if not present.equals(affine):
            return
        both[blob] = affine, others + count
    if len(both) <= MAX_ALTERNATIVES:
        yield both


def _takes_others(scene: Scene, layer: Layer, blob: str, affine: Affine) -> bool:
    """Whether a layer copies no element of `blob` that the affine changes, as the other Slices of a blob do."""
    scene.budget.spend()
    operator = scene.known_operator(layer)
    if isinstance(operator, Move) and layer.bottoms[0] == blob and layer.bottoms.count(blob) == 1:
        with suppress(Blocked):
            return all(sees_nothing(steps, affine) for steps in operator.tops)
    return False


def _by_bottom(producer: Layer, moved: Affines) -> dict[str, tuple[Affine, int]]:
    """The demand on each distinct bottom; a layer that reads a blob twice must want the same of it twice."""
    demands: dict[str, tuple[Affine, int]] = {}
    for bottom, affine in zip(producer.bottoms, moved, strict=True):
        if affine is None:
            continue
        present, uses = demands.get(bottom, (affine, 0))
        require(present.equals(affine), f"{producer} reads '{bottom}' twice and wants two different things of it")
        demands[bottom] = (affine, uses + 1)
    return demands


def _run(root: Search) -> None:
    """Run a search that yields the searches it depends on; a stack of our own, so depth is no matter of recursion."""
    stack, error = [root], None
    while stack:
        try:
            stack.append(next(stack[-1]) if error is None else stack[-1].throw(error))
            error = None
        except StopIteration:
            stack.pop()
            error = None
        except Blocked as blocked:
            stack.pop()
            error = blocked.with_traceback(None)
    try:
        if error is not None:
            raise error
    finally:
        error = None  # which holds this frame by its traceback


# Going forward.


def plan_forward(scene: Scene, layer: Layer, affine: Affine) -> Plan:
    """Move the affine of `layer` into all the layers that read its top.

    Raises:
        Blocked: its top must survive, or some use neither absorbs the affine nor lets it pass.
    """
    journal = _Journal(scene, FORWARD)
    try:
        return _carry_forward(journal, layer.tops[0], affine)
    except Blocked as blocked:
        if journal.wider and affine.keeps_zero:
            with suppress(Blocked):
                return _carry_forward(_Journal(scene, FORWARD, past=True), layer.tops[0], affine)
        raise Blocked(journal.why(blocked)) from None


def _carry_forward(journal: _Journal, start: str, affine: Affine) -> Plan:
    scene = journal.scene
    carried: dict[str, Affine] = {}
    waiting: list[tuple[int, int]] = []
    seen: dict[int, Layer] = {}

    def carry(blob: str, moved: Affine) -> None:
        block(scene.protected.get(blob, ""))
        uses = scene.uses(blob)
        require(len(uses) > 0 or blob != start, f"nobody reads '{blob}'")
        carried[blob] = moved
        for use in uses:
            if id(use.layer) not in seen:
                seen[id(use.layer)] = use.layer
                heapq.heappush(waiting, (scene.order[id(use.layer)], id(use.layer)))

    carry(start, affine)
    while waiting:
        # In execution order, so that all that reaches a layer has reached it when its turn comes.
        reader = seen[heapq.heappop(waiting)[1]]
        if id(reader) in scene.excluded:
            raise Blocked(f"{reader} is excluded")
        scene.budget.spend()
        arriving = list(map(carried.get, reader.bottoms))
        first, *others = arriving
        alone = first if not any(others) else None
        operator = journal.absorb(reader, alone) if alone else journal.passed(reader)
        if operator is None:
            change = journal.absorbed[-1].change
            leaving: Affines = [change and change.left, *[None] * (len(reader.tops) - 1)]
        else:
            with _Naming(reader):
                leaving = commute.forward(operator, arriving, len(reader.tops))
            journal.through.append(reader)
        for top, moved in zip(reader.tops, leaving, strict=True):
            if moved is not None and not moved.is_identity:
                journal.moved.append(top)
                carry(top, moved)
    return journal.plan()


# To others.


def plan_across(scene: Scene, layer: Layer, affine: Affine) -> Plan | None:
    """Move a factor of `layer` into another factor of the product that alone reads its top: `(s*x)*y = x*(s*y)`.

    Given:   K -> k, x -> A -> t, product(t, k)     Result:  K' -> k/A, product(x, k/A)

    Returns:
        The plan; None where its top is read by something else, or the other factor cannot take it.
    """
    uses = scene.net.uses(layer.tops[0])
    if not affine.keeps_zero or affine.count != 1 or layer.tops[0] in scene.protected or len(uses) != 1:
        return None
    reader, own = uses[0].layer, uses[0].index
    product = scene.known_operator(reader)
    if not isinstance(product, Product) or not scene.reads_values(uses[0]) or id(reader) in scene.excluded:
        return None
    laid = commute.laid_over_top(product.laid, len(reader.bottoms))
    for index, bottom in enumerate(reader.bottoms) if laid[own] is not None else ():
        if index != own and laid[index] is not None:
            journal = _Journal(scene, BACKWARD)
            with suppress(Blocked):
                _run(_demand(journal, bottom, affine, reader))
                return journal.plan()
    return None


# Both ways.


def plan_apart(scene: Scene, layer: Layer, affine: Affine) -> tuple[Plan, Plan] | None:
    """Move a factor of `layer` back though others read its bottom, and its inverse forward into all of them.

    Given:   L -> b -> A -> t, b -> M -> u          Result:  L' -> t, t -> M' -> u      with s in L' and 1/s in M'
             L -> b -> P -> c -> A -> t, b -> M     Result:  L' -> b/A -> P -> t        likewise, P taking a factor

    One number alone, of which the inverse keeps every bit's worth, and no large one, which might leave a type's range.

    Returns:
        The plan of the factor and that of its inverse; None where either cannot be carried out.
    """
    factor = abs(affine.scale.reshape(-1)[0])
    if not affine.keeps_zero or affine.count != 1 or not LEAST_APART <= factor <= 1 / LEAST_APART:
        return None
    for blob, reader in _parting(scene, layer):
        with suppress(Blocked):
            behind = plan_backward(_seen(scene, blob, reader, own=True), layer, affine)
            inverse = Affine(1 / affine.scale, affine.shift)
            ahead = _carry_forward(_Journal(_seen(scene, blob, reader, own=False), FORWARD), blob, inverse)
            if not (behind.layers | {id(layer)}) & ahead.layers:
                return behind, ahead
    return None


def _parting(scene: Scene, layer: Layer) -> Iterator[tuple[str, Layer]]:
    """The blobs behind products from which a factor may go both ways, each with the reader that wants it.

    Of `x*gate(x)` that is x. The layers between are read by nobody else.
    """
    waiting = [(layer.bottoms[0], layer)]
    for blob, reader in waiting:
        if 1 < len(scene.net.uses(blob)) <= MAX_APART:
            yield blob, reader
        producer = scene.net.producer(blob)
        if producer is None or len(scene.uses(blob)) != 1 or len(waiting) > MAX_APART:
            continue
        try:
            scene.shared_budget.spend()
        except Blocked:
            return
        if isinstance(scene.known_operator(producer), Product):
            waiting += [(bottom, producer) for bottom in dict.fromkeys(producer.bottoms)]


def _seen(scene: Scene, blob: str, reader: Layer, own: bool) -> Scene:
    """The net as if `reader` were the only reader of a blob (`own`), or as if all others were."""

    def reads_values(use: Use) -> bool:
        counts = use.layer.bottoms[use.index] != blob or (use.layer is reader) == own
        return counts and scene.reads_values(use)

    return scene._replace(reads_values=reads_values, budget=scene.shared_budget)


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


BACKWARD = _Direction(absorb_backward, lambda own, arriving: own.then(arriving), _rescaled, commute.clipped_back)
FORWARD = _Direction(
    absorb_forward, lambda own, arriving: arriving.then(own), _rescaled_by_inverse, commute.clipped_forward
)


class _Naming(NamedTuple):
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
