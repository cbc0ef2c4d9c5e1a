"""Folding a whole net: one sweep over its affines, in execution order.

Each affine first tries to go back into the layers that make its bottom, then forward into all that read its top (a
following affine among them, so a run of affines that cannot move becomes one). What can do neither is kept, with both
reasons. A success removes a layer and adds none, so the sweep ends, and folding a folded net changes nothing.

Back before forward, and each affine on its own before a run is composed: a positive scale may pass a MAX pooling
that its composition with a negative one may not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from bnfold.algebra.absorb import Change, tail_of, without_tail
from bnfold.algebra.affine import Affine
from bnfold.algebra.backward import plan_backward
from bnfold.algebra.branches import Junction, plan_junction
from bnfold.algebra.coefficients import plan_behind, plan_in_front
from bnfold.algebra.factors import plan_across, plan_apart
from bnfold.algebra.forward import plan_forward
from bnfold.algebra.frontend import FoldContext, FrontEnd
from bnfold.algebra.operators import Alias, Clip, Extreme, Join, Linear, Opaque, Operator, Product, Sum
from bnfold.algebra.plan import Budget, Plan, Scene
from bnfold.algebra.records import Blocked, Dropped, Folded, FoldReport, Joined, Kept, Merged, Moved, Record
from bnfold.algebra.together import plan_together
from bnfold.net import Layer, Names, Net, blobs_of


@dataclass(slots=True, eq=False)
class Sweep:
    """The state of one fold. Layers are keyed by identity: names need not be unique in Caffe."""

    net: Net
    front: FrontEnd
    context: FoldContext
    join: bool
    report: FoldReport
    names: Names = field(default_factory=lambda: Names((), "_"))
    bases: dict[str, str] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    operators: dict[int, Operator | Blocked] = field(default_factory=dict)
    aliases: set[int] = field(default_factory=set)
    composed: set[int] = field(default_factory=set)
    moving: Layer | None = None
    met: dict[int, list[Layer | None]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    repeated: dict[int, list[str]] = field(default_factory=dict)

    def run(self) -> None:
        """Sweep once; what is merged into on the way is looked at again."""
        self.report.layers_before, self.report.parameters_before = _size(self.net.layers)
        self._prepare()
        layers = list(self.net.layers)
        scene = self._scene(layers)
        movable = {id(layer) for layer in layers if self._may_move(layer)}
        for layer in layers:
            if id(layer) in self.aliases and id(layer) not in scene.excluded:
                self._drop(scene, layer)
        moving = (layer for layer in layers if id(layer) in movable or self._reads_once(scene, layer))
        waiting = deque(layer for layer in moving if id(layer) not in self.gone)
        self._move(scene, waiting)
        # Both are done in each turn, hence `|` and not `or`: what either removes may have stood in an affine's way.
        while self._drop_emptied() | (self.join and self._join_branches(scene, layers)):
            self._move(scene, deque(self._kept()))
        self.context.settled = True
        self._move(scene, deque(self._kept_to_try_last()))
        self._drop_emptied()
        for layer in layers:
            if id(layer) not in self.gone and id(layer) not in scene.excluded:
                self._move_tail(scene, layer)
        self._rewrite_kept()
        self.front.finish(self.context)
        self.report.records = [self.records[id(layer)] for layer in layers if id(layer) in self.records]
        self.report.notes = list(dict.fromkeys(self.context.notes))
        self.report.layers_after, self.report.parameters_after = _size(self.net.layers)

    def _prepare(self) -> None:
        """Have the language take apart what is several layers to the laws; find out types, shapes and names."""
        self.front.prepare(self.context)
        stored = {blob.dtype for layer in self.net.layers for blob in layer.blobs.stored if blob.dtype.itemsize > 4}
        self.context.stored_type = np.result_type(np.float32, *stored)
        if not self.report.shapes.keys() >= set(blobs_of(self.net)):
            self.report.shapes.update(self.front.shapes(self.net))
        self.names = Names((*self.report.shapes, *self.net.public.values(), *self.front.taken_names(self.net)), "_")

    def _scene(self, layers: Sequence[Layer]) -> Scene:
        protected = {blob: f"'{blob}' is an output of the {self.context.whole}" for blob in self.net.outputs}
        protected |= {blob: f"'{blob}' is an input of the {self.context.whole}" for blob in self.net.inputs}
        for blob in self.context.keep:
            protected.setdefault(blob, f"'{blob}' is named by --keep")
        return Scene(
            net=self.net,
            operator=self._operator,
            reads_values=lambda use: self.front.reads_values(use.layer, use.index),
            unread=frozenset(self.net.outputs if self.front.outputs_are_unread else ()),
            refuses=lambda layer, affine, parts: self.front.refuses(layer, affine, self.context, parts),
            note_met=lambda layer: self.met.setdefault(id(layer), []).append(self.moving),
            joins=self.front.joins,
            order={id(layer): position for position, layer in enumerate(layers)},
            protected={**self.front.protected(self.net), **protected},
            excluded=self.context.excluded,
            budget=Budget(len(layers)),
            shared_budget=Budget(len(layers)),
        )

    def _operator(self, layer: Layer) -> Operator:
        """What a layer is by now. An affine is read once, in float64; its values are rounded only at the end."""
        operator = self.operators.get(id(layer))
        if operator is None:
            try:
                operator = self.front.operator(layer, self.context)
            except Blocked as blocked:
                operator = blocked.with_traceback(None)  # which holds the frames, and with them the weights
            if isinstance(operator, Alias) or _takes_one(operator, layer):
                self.aliases.add(id(layer))
                operator = Affine() if len(layer.bottoms) == len(layer.tops) == 1 else Opaque()
            if id(layer) not in self.context.casts:
                self.operators[id(layer)] = operator
        if isinstance(operator, Blocked):
            raise Blocked(str(operator))
        return operator

    def _may_move(self, layer: Layer) -> bool:
        """Whether a layer is an affine, or of a kind that its user takes for one."""
        try:
            operator = self._operator(layer)
            return isinstance(operator, Affine) or (isinstance(operator, Product) and bool(operator.no_affine))
        except Blocked:
            return True

    def _reads_once(self, scene: Scene, layer: Layer) -> bool:
        """Have a sum of one blob alone read it once, as an affine; whether it is one.

        Given:   sum(x, x) -> y      Result:  x -> 2*x -> y, which becomes the sum again where it stays
        """
        if not _repeats_one(layer) or id(layer) in scene.excluded:
            return False
        operator = scene.known_operator(layer)
        if not isinstance(operator, Sum) or operator.gates or not sum(operator.coefficients) or self._is_tower(layer):
            return False
        self.repeated[id(layer)] = layer.bottoms
        self.net.reads(layer, layer.bottoms[:1])
        self.operators[id(layer)] = Affine(sum(operator.coefficients))
        return True

    def _is_tower(self, layer: Layer) -> bool:
        """Whether many such sums stand in front of one: each would be an affine that walks past all others."""
        for _ in range(MAX_TOWER):
            maker = self.net.producer(layer.bottoms[0])
            if maker is None or not (id(maker) in self.repeated or _repeats_one(maker)):
                return False
            layer = maker
        return True

    # One affine.

    def _move(self, scene: Scene, waiting: deque[Layer]) -> None:
        while waiting:
            layer = waiting.popleft()
            if id(layer) not in self.gone:
                waiting.extendleft(self._settle(scene, layer))

    def _kept(self) -> Iterator[Layer]:
        """The affines that stay so far."""
        return filter(self._stays, self.net.layers)

    def _stays(self, layer: Layer) -> bool:
        return isinstance(self.records.get(id(layer)), Kept)

    def _kept_to_try_last(self) -> list[Layer]:
        """What stays though it changes nothing, or met another affine: others may be gone."""
        met = {id(waiting) for moving in self.met.values() for waiting in moving}
        affines = ((layer, self.operators.get(id(layer))) for layer in self._kept())
        return [
            layer
            for layer, affine in affines
            if id(layer) in met or (isinstance(affine, Affine) and affine.is_identity)
        ]

    def _settle(self, scene: Scene, layer: Layer) -> list[Layer]:
        """Move one affine, or keep it with the reason.

        Returns:
            The affines that were settled before and took it in: what they are now may be able to move.
        """
        self.moving = layer
        if id(layer) in scene.excluded:
            return self._keep(layer, EXCLUDED)
        try:
            affine = self._operator(layer)
        except Blocked as blocked:
            return self._keep(layer, str(blocked))
        if isinstance(affine, Product):
            return self._keep(layer, affine.no_affine)
        assert isinstance(affine, Affine)
        # What another one undid is 1 but for the rounding of float64, and would be stored as 1.
        stored = affine.stored_as(self.context.stored_type) if id(layer) in self.composed else affine
        if not stored.is_identity:
            return self._first_open_way(scene, layer, affine)
        readers = [use.layer for use in self.net.uses(layer.tops[0])]
        if self._drop(scene, layer):
            return [*self._to_settle_again(layer), *(one for one in readers if self._reads_once(scene, one))]
        return self._keep(layer, f"it changes nothing, but both '{layer.bottoms[0]}' and '{layer.tops[0]}' must stay")

    def _first_open_way(self, scene: Scene, layer: Layer, affine: Affine) -> list[Layer]:
        """Move an affine back, forward, across, both ways or into a sum, or keep it; returns what `_settle` does."""
        try:
            plan = plan_backward(scene, layer, affine)
        except Blocked as blocked:
            behind = str(blocked)
        else:
            self._commit_backward(layer, plan)
            return self._to_settle_again(layer, plan)
        try:
            plan = plan_forward(scene, layer, affine)
        except Blocked as blocked:
            ahead = str(blocked)
        else:
            readers = [use.layer for use in self.net.uses(layer.tops[0])]
            self._commit_forward(layer, plan)
            again = [*self._to_settle_again(layer, plan), *self._in_front(layer)]
            return [*again, *(one for one in readers if self._reads_once(scene, one))]
        if (across := plan_across(scene, layer, affine)) is not None:
            self._commit_forward(layer, across, across=True)
            return self._to_settle_again(layer, across)
        if (apart := plan_apart(scene, layer, affine)) is not None:
            self._commit_apart(layer, *apart)
            return self._to_settle_again(layer, *apart)
        if (weighed := plan_behind(scene, layer, affine)) is not None:
            self._commit_backward(layer, weighed)
            return self._to_settle_again(layer)
        if (weighed := plan_in_front(scene, layer, affine)) is not None:
            self._commit_forward(layer, weighed)
            return self._to_settle_again(layer)
        if (together := plan_together(scene, layer, affine)) is not None:
            self._commit_together(*together)
            return [one for gone in together[1] for one in self._to_settle_again(gone)]
        return self._keep(layer, f"backward: {behind}; forward: {ahead}")

    def _to_settle_again(self, gone: Layer, *plans: Plan) -> list[Layer]:
        """What may move now: affines that took something in, and those that met them or the one gone on their way."""
        changed = [layer for plan in plans for layer, _ in plan.merged]
        waited = (layer for other in (*changed, gone) for layer in self.met.pop(id(other), ()))
        return [layer for layer in dict.fromkeys([*changed, *waited]) if layer is not None and self._stays(layer)]

    def _in_front(self, layer: Layer) -> list[Layer]:
        """The affine in front of one that is gone, if it had to stay: what stood in its way may have been that one."""
        producer = self.net.producer(layer.bottoms[0])
        return [producer] if producer is not None and self._stays(producer) else []

    def _keep(self, layer: Layer, reason: str) -> list[Layer]:
        """Leave an affine where it is, after which no other one can move that could not before: an empty list."""
        self.records[id(layer)] = Kept(layer.name, layer.type, reason, layer.type)
        return []

    def _drop(self, scene: Scene, layer: Layer) -> bool:
        """Take out a layer that changes nothing; False when both its names have to stay."""
        net, bottom = self.net, layer.bottoms[0]
        in_place = net.public_name(bottom) == net.public_name(layer.tops[0])
        readers_follow = not any(top in scene.protected for top in layer.tops) and not self._is_overwritten(layer)
        maker_follows = len(layer.tops) == 1 and bottom not in scene.protected
        # An output that others read too would be none in a file, where outputs are what nobody reads.
        maker_follows = maker_follows and (len(net.uses(bottom)) == 1 or (in_place and readers_follow))
        if maker_follows and (in_place or not readers_follow) and net.producer(bottom) is not None:
            top = layer.tops[0]
            self._remove(layer)
            self._rename(bottom, top, net.public_name(top))
        elif readers_follow:
            self._remove(layer)
            self._reconnect(layer)
        else:
            return False
        self.records[id(layer)] = Dropped(layer.name, layer.type)
        return True

    def _is_overwritten(self, layer: Layer) -> bool:
        """Whether another layer writes over what this one reads, an input, and could not if this one's readers did."""
        net, bottom = self.net, layer.bottoms[0]
        public = net.public_name(bottom)
        others = [use.layer for use in net.uses(bottom) if use.layer is not layer] if public in net.inputs else []
        return any(
            public in map(net.public_name, other.tops)
            and (bottom not in net.inputs or not set(layer.tops).isdisjoint(other.bottoms))
            for other in others
        )

    # Committing a plan: the only part that changes the net.

    def _commit_backward(self, layer: Layer, plan: Plan) -> None:
        """Given: L -> b -> .. -> A -> t.  Result: L' -> b/A -> .. -> t, and A is gone."""
        bottom, top = layer.bottoms[0], layer.tops[0]
        public = self.net.public_name(top)
        self._absorb(layer, plan, forward=False)
        self._remove(layer)
        self._rename_moved(layer, plan.moved, {bottom: (top, public)}, written=public)

    def _commit_forward(self, layer: Layer, plan: Plan, *, across: bool = False) -> None:
        """Given: A -> t -> .. -> u -> L.  Result: .. -> u/A -> L', where t's readers read A's bottom.

        Across, given: K -> k, x -> A -> t, product(t, k).  Result: K' -> k/A, product(x, k/A).
        """
        self._absorb(layer, plan, forward=not across)
        self._remove(layer)
        self._reconnect(layer)
        self._rename_moved(layer, plan.moved if across else plan.moved[::-1], {})

    def _commit_together(self, plan: Plan, layers: Sequence[Layer]) -> None:
        """Given: x -> A -> t, y -> B -> u, L(t, u) -> v, w.  Result: L'(x, y) -> v, w."""
        self._change(plan)
        into = tuple(taker.name for taker, _ in plan.changes)
        for layer in layers:
            self._remove(layer)
            self._reconnect(layer)
            self.records[id(layer)] = Folded(layer.name, layer.type, into, (), True)

    def _commit_apart(self, layer: Layer, plan: Plan, inverse: Plan) -> None:
        """Given: L -> b -> A -> t, b -> M -> u.  Result: L' -> t -> M' -> u."""
        self._absorb(layer, inverse, forward=True)
        ahead = self.records[id(layer)]
        self._commit_backward(layer, plan)
        self._rename_moved(layer, inverse.moved[::-1], {})
        behind = self.records[id(layer)]
        assert isinstance(ahead, Folded | Merged)
        assert isinstance(behind, Folded | Merged)
        into, through = (*behind.into, *ahead.into), (*behind.through, *ahead.through)
        self.records[id(layer)] = Folded(layer.name, layer.type, into, through, False)

    def _absorb(self, layer: Layer, plan: Plan, forward: bool) -> None:
        self._change(plan)
        through = tuple(crossed.name for crossed in plan.through)
        into = tuple(taker.name for taker, _ in (*plan.changes, *plan.merged, *plan.weighed))
        if plan.merged and not plan.changes:
            self.records[id(layer)] = Merged((layer.name,), layer.type, into, through)
        else:
            self.records[id(layer)] = Folded(layer.name, layer.type, into, through, forward)

    def _change(self, plan: Plan, *more: tuple[Layer, Change]) -> None:
        """Give all layers that a plan changes their new values, and more."""
        for layer, change in (*plan.changes, *more):
            self.front.absorb(self.net, layer, change.weight, change.bias)
            operator = self.operators.pop(id(layer))
            if isinstance(operator, Linear):
                self.operators[id(layer)] = operator._replace(weight=change.weight, bias=change.bias)
        for other, changed in (*plan.merged, *plan.rescaled, *plan.weighed):
            self.operators[id(other)] = changed
            self.composed.add(id(other))

    def _remove(self, layer: Layer) -> None:
        self.net.remove(layer)
        self.gone.add(id(layer))

    def _reconnect(self, layer: Layer) -> None:
        """Let the readers of a removed layer's tops read its bottom."""
        for top in layer.tops:
            for use in list(self.net.uses(top)):
                self.net.reconnect(use, layer.bottoms[0])
                if isinstance(self.operators.get(id(use.layer)), Product):
                    del self.operators[id(use.layer)]  # what it reads now may be its weight
            self.net.public.pop(top, None)

    def _rename_moved(
        self, layer: Layer, moved: Sequence[str], decided: dict[str, tuple[str, str]], written: str = ""
    ) -> None:
        """Give each blob whose value changed a new name; in-place versions stay in place under their new one.

        Args:
            layer: the affine that moved, and is gone.
            moved: the blobs, the last of the net first.
            decided: new name and public name, where they are settled.
            written: the public name of what the affine wrote, if it went back. Versions of that blob keep it, since the
                file shows one writer less behind them. Without such a trace a version would be taken for what it was.
        """
        public_names: dict[str, str] = {}
        for blob in moved:
            public, name = self.net.public_name(blob), self._fresh(blob, layer)
            named = public if public == written else public_names.get(public, name)
            new, named = decided.get(blob, (name, named))
            public_names.setdefault(public, named)
            self._rename(blob, new, named)

    def _fresh(self, blob: str, layer: Layer) -> str:
        """`conv1/bn1` for the blob conv1 that an affine bn1 moved through; `conv1/scale1` when scale1 follows."""
        base = self.bases.get(blob, blob)
        fresh = self.names.new(f"{base}/{layer.name}")
        self.bases[fresh] = base
        return fresh

    def _rename(self, blob: str, name: str, public: str) -> None:
        self.net.rename(blob, name, public)
        if self.report.shapes.get(name) is None:
            self.report.shapes[name] = self.report.shapes.get(blob)

    # Parallel branches.

    def _drop_emptied(self) -> bool:
        """Take out layers around affines that have gone; whether there was one."""
        emptied = self.front.drop_emptied(self.context)
        self.gone.update(map(id, emptied))
        return bool(emptied)

    def _join_branches(self, scene: Scene, layers: Sequence[Layer]) -> bool:
        """Make one convolution of each sum of branches that allows it; whether there was one."""
        joined = False
        for layer in layers:
            if id(layer) not in self.gone and (junction := plan_junction(scene, layer)) is not None:
                self._commit_junction(layer, junction)
                joined = True
        return joined

    def _commit_junction(self, layer: Layer, junction: Junction) -> None:
        """Given: x -> L -> a, x -> .. -> b, sum(a, b) -> y.  Result: x -> L' -> y."""
        into, top = junction.into, layer.tops[0]
        public = self.net.public_name(top)
        self.front.join(self.net, into, junction.weight, junction.bias, junction.window)
        self.operators.pop(id(into), None)
        self._remove(layer)
        for branch in junction.gone:
            self._remove(branch)
            if id(branch) in self.records:
                self.records[id(branch)] = Folded(branch.name, branch.type, (into.name,), (layer.name,), True)
        branches = tuple(branch.name for branch in junction.gone)
        self.records[id(layer)] = Joined(layer.name, layer.type, (into.name,), branches)
        self._rename(into.tops[0], top, public)

    # What a normalisation does last.

    def _move_tail(self, scene: Scene, layer: Layer) -> None:
        """Given: norm with scale and bias -> t -> L.  Result: norm with 1 and 0 -> t/norm -> L'.

        Only where linear layers are all that reads it, and none of them would have to add a bias that it had not.
        """
        linear = self.operators.get(id(layer))
        if not isinstance(linear, Linear) or not linear.tail:
            return
        tail = tail_of(linear)
        if tail.is_identity or not tail.is_finite:
            return
        try:
            plan = plan_forward(scene, layer, tail)
        except Blocked:
            return
        takers = [self.operators.get(id(taker)) for taker, _ in plan.changes]
        biased = all(isinstance(taker, Linear) and taker.bias is not None for taker in takers)
        if plan.merged or not (biased or tail.keeps_zero):
            return
        self._change(plan, (layer, without_tail(linear)))
        into, through = tuple(taker.name for taker, _ in plan.changes), tuple(other.name for other in plan.through)
        self.records[id(layer)] = Moved(layer.name, layer.type, into, through)
        self._rename_moved(layer, [*plan.moved[::-1], layer.tops[0]], {})

    # What stays.

    def _rewrite_kept(self) -> None:
        """An affine that took others in is written anew, and one that has a plainer form may be.

        So are new bounds and coefficients.
        """
        for layer in self.net.layers:
            record = self.records.get(id(layer))
            operator = self.operators.get(id(layer))
            if isinstance(operator, Clip) and id(layer) in self.composed:
                self.front.clip(layer, operator)
            elif isinstance(operator, Sum) and id(layer) in self.composed:
                self.front.weigh(layer, operator.coefficients)
            if id(layer) in self.repeated and id(layer) not in self.composed:
                self.net.reads(layer, layer.bottoms * len(self.repeated[id(layer)]))
                del self.records[id(layer)]
            elif isinstance(record, Kept) and isinstance(operator, Affine) and id(layer) not in self.context.excluded:
                self.front.rewrite(layer, operator, self.context, composed=id(layer) in self.composed)
                self.records[id(layer)] = Kept(record.layer, record.type, record.reason, layer.type)


def _repeats_one(layer: Layer) -> bool:
    """Whether a layer reads one blob alone, several times."""
    return len(layer.bottoms) > 1 == len({*layer.bottoms})


def _takes_one(operator: Operator | Blocked, layer: Layer) -> bool:
    """Whether a layer joins, adds up or compares several blobs, and reads but one: its top is that."""
    if isinstance(operator, Sum):
        return len(layer.bottoms) == 1 and operator.coefficients == (1.0,)
    return isinstance(operator, (Join, Extreme)) and len(layer.bottoms) == 1


def _size(layers: Sequence[Layer]) -> tuple[int, int]:
    """(layers, learned values)."""
    return len(layers), sum(prod(shape) for layer in layers for shape in layer.blobs.shapes)


EXCLUDED = "--exclude names it"
MAX_TOWER = 16  # sums of one blob alone, one behind the other
