"""Folding a whole net: one sweep over its affines, in execution order.

Each affine first tries to go back into the layers that make its bottom, then forward into all that read its top (a
following affine among them, so a run of affines that cannot move becomes one). What can do neither is kept, with both
reasons. A success removes a layer and adds none, so the sweep ends, and folding a folded net changes nothing.

Back before forward, and each affine on its own before a run is composed: a positive scale may pass a MAX pooling
that its composition with a negative one may not.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.algebra.absorb import rewritten_as_scale
from bnfold.algebra.affine import Affine
from bnfold.algebra.plan import Budget, Plan, Scene, plan_backward, plan_forward
from bnfold.algebra.recognise import AFFINES, Reading, recognise
from bnfold.algebra.records import Blocked, Dropped, Folded, FoldReport, Kept, Merged, Record
from bnfold.algebra.scaled import same_values
from bnfold.algebra.unfuse import unfuse_relus
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.layers import Dropout, infer_shapes
from bnfold.errors import ModelError, UsageError
from bnfold.net import Layer, Names, Net, Shape


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A folded net and the account of how it came about."""

    net: Net
    report: FoldReport


def fold(
    net: Net, *, keep: Collection[str] = (), exclude: Sequence[str] = (), assume_global_stats: bool = False
) -> FoldResult:
    """Fold every per-channel affine of a net into the weights around it.

    Args:
        net: a loaded net; it is not changed.
        keep: blobs that must survive with their values, besides the net's outputs.
        exclude: layer names, or patterns with `*` and `?`, that are left exactly as they are.
        assume_global_stats: fold a BatchNorm with `use_global_stats: false` as if it used its stored statistics.

    Returns:
        A net of its own, in which every blob that survives has its old value, and the report.

    Raises:
        UsageError: `keep` or `exclude` names nothing in the net.
        ModelError: a layer's statistics make no sense (the sentence names layer and channel).

    Example:
        >>> result = fold(load("deploy.prototxt", "net.caffemodel"))
        >>> [kept.reason for kept in result.report.kept]
        []
    """
    sweep = _Sweep(net.copy(), keep, exclude, Reading(assume_global_stats, net.batchnorm_layout, net.zero_factor))
    sweep.run()
    return FoldResult(sweep.net, sweep.report)


@dataclass(slots=True, eq=False)
class _Sweep:
    """The state of one fold. Layers are keyed by identity: names need not be unique in Caffe."""

    net: Net
    keep: Collection[str]
    exclude: Sequence[str]
    reading: Reading
    report: FoldReport = field(default_factory=FoldReport)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    names: Names = field(default_factory=lambda: Names((), "_"))
    bases: dict[str, str] = field(default_factory=dict)
    stored: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    records: dict[int, Record] = field(default_factory=dict)
    affines: dict[int, Affine | Blocked | None] = field(default_factory=dict)
    composed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Sweep once; what is merged into on the way is looked at again."""
        self.report.layers_before, self.report.parameters_before = _size(self.net.layers)
        excluded = self._excluded()
        unfuse_relus(self.net, excluded)
        layers = list(self.net.layers)
        self.stored = np.result_type(np.float32, *{blob.dtype for layer in layers for blob in layer.blobs.stored})
        self.shapes = dict(infer_shapes(self.net))
        self.names = Names((*self.shapes, *self.net.public.values()), "_")
        scene = self._scene(layers, excluded)
        for layer in layers:
            if _is_alias(layer) and id(layer) not in excluded:
                self._drop(scene, layer)
        waiting = deque(layer for layer in layers if layer.type in AFFINES and id(layer) not in self.gone)
        while waiting:
            layer = waiting.popleft()
            if id(layer) not in self.gone:
                waiting.extendleft(self._settle(scene, layer))
        self._rewrite_kept()
        self._unshare()
        self.report.records = [self.records[id(layer)] for layer in layers if id(layer) in self.records]
        self.report.notes = list(dict.fromkeys(self.reading.notes + self.report.notes))
        self.report.layers_after, self.report.parameters_after = _size(self.net.layers)

    def _excluded(self) -> set[int]:
        """The layers that are left alone, by identity."""
        excluded: set[int] = set()
        for pattern in self.exclude:
            matching = {id(layer) for layer in self.net.layers if _is_called(layer, pattern)}
            if not matching:
                raise UsageError(f"--exclude {pattern}: the network has no layer of that name")
            excluded |= matching
        return excluded

    def _scene(self, layers: Sequence[Layer], excluded: Collection[int]) -> Scene:
        protected = {blob: f"'{blob}' is an output of the network" for blob in self.net.outputs}
        protected |= {blob: f"'{blob}' is an input of the network" for blob in self.net.inputs}
        for blob in self.keep:
            if self.net.producer(blob) is None:
                raise UsageError(f"--keep {blob}: the network has no blob of that name")
            protected.setdefault(blob, f"'{blob}' is kept, as --keep asks")
        order = {id(layer): position for position, layer in enumerate(layers)}
        return Scene(self.net, self.shapes, order, protected, excluded, self._affine, Budget(len(layers)), self.stored)

    def _affine(self, layer: Layer) -> Affine | None:
        """The affine that a layer computes by now, in float64; the stored values are rounded only once, at the end."""
        if id(layer) not in self.affines:
            try:
                bottom = self.shapes.get(layer.bottoms[0]) if layer.bottoms else None
                self.affines[id(layer)] = recognise(layer, bottom, self.reading)
            except Blocked as blocked:
                self.affines[id(layer)] = blocked
        found = self.affines[id(layer)]
        if isinstance(found, Blocked):
            raise Blocked(str(found))
        return found

    # One affine.

    def _settle(self, scene: Scene, layer: Layer) -> list[Layer]:
        """Move one affine, or keep it with the reason.

        Returns:
            The affines that were settled before and took it in: what they are now may be able to move.
        """
        if id(layer) in scene.excluded:
            self._keep(layer, EXCLUDED)
            return []
        try:
            affine = self._affine(layer)
        except Blocked as blocked:
            self._keep(layer, str(blocked))
            return []
        if affine is None:
            return []
        if affine.is_identity:
            if not self._drop(scene, layer):
                self._keep(layer, f"it changes nothing, but both '{layer.bottoms[0]}' and '{layer.tops[0]}' must stay")
            return []
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with the layer's name
                plan = plan_backward(scene, layer, affine)
        except Blocked as blocked:
            behind = str(blocked)
        else:
            self._commit_backward(layer, plan)
            return self._settled(plan)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                plan = plan_forward(scene, layer, affine)
        except Blocked as blocked:
            self._keep(layer, f"backward: {behind}; forward: {blocked}")
        else:
            self._commit_forward(layer, plan)
            return self._settled(plan)
        return []

    def _settled(self, plan: Plan) -> list[Layer]:
        return [layer for layer, _ in plan.merged if id(layer) in self.records]

    def _keep(self, layer: Layer, reason: str) -> None:
        self.records[id(layer)] = Kept(layer.name, layer.type, reason, layer.type)

    def _drop(self, scene: Scene, layer: Layer) -> bool:
        """Take out a layer that changes nothing; False when both its names have to stay."""
        net, bottom = self.net, layer.bottoms[0]
        in_place = net.public_name(bottom) == net.public_name(layer.tops[0])
        readers_follow = not any(top in scene.protected for top in layer.tops)
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

    # Committing a plan: the only part that changes the net.

    def _commit_backward(self, layer: Layer, plan: Plan) -> None:
        """Given: L -> b -> .. -> A -> t.  Result: L' -> b/A -> .. -> t, and A is gone."""
        bottom, top = layer.bottoms[0], layer.tops[0]
        public = self.net.public_name(top)
        self._absorb(layer, plan, forward=False)
        self._remove(layer)
        self._rename_moved(layer, plan.moved, {bottom: (top, public)}, written=public)

    def _commit_forward(self, layer: Layer, plan: Plan) -> None:
        """Given: A -> t -> .. -> u -> L.  Result: .. -> u/A -> L', where t's readers read A's bottom."""
        self._absorb(layer, plan, forward=True)
        self._remove(layer)
        self._reconnect(layer)
        self._rename_moved(layer, plan.moved[::-1], {})

    def _absorb(self, layer: Layer, plan: Plan, forward: bool) -> None:
        for linear, change in plan.changes:
            linear.blobs, linear.param = change.blobs, change.param
        for other, affine in plan.merged:
            self.affines[id(other)] = affine
            self.composed.add(id(other))
        through = tuple(crossed.name for crossed in plan.through)
        if plan.merged and not plan.changes:
            into = tuple(other.name for other, _ in plan.merged)
            self.records[id(layer)] = Merged((layer.name,), layer.type, into, through)
        else:
            into = tuple(linear.name for linear, _ in plan.changes) + tuple(other.name for other, _ in plan.merged)
            self.records[id(layer)] = Folded(layer.name, layer.type, into, through, forward)

    def _remove(self, layer: Layer) -> None:
        self.net.remove(layer)
        self.gone.add(id(layer))

    def _reconnect(self, layer: Layer) -> None:
        """Let the readers of a removed layer's tops read its bottom."""
        for top in layer.tops:
            for use in list(self.net.uses(top)):
                self.net.reconnect(use, layer.bottoms[0])
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
        heirs: dict[str, str] = {}
        for blob in moved:
            public, name = self.net.public_name(blob), self._fresh(blob, layer)
            heir = public if public == written else heirs.get(public, name)
            new, heir = decided.get(blob, (name, heir))
            heirs.setdefault(public, heir)
            self._rename(blob, new, heir)

    def _fresh(self, blob: str, layer: Layer) -> str:
        """`conv1/bn1` for the blob conv1 that an affine bn1 moved through; `conv1/scale1` when scale1 follows."""
        base = self.bases.get(blob, blob)
        fresh = self.names.new(f"{base}/{layer.name}")
        self.bases[fresh] = base
        return fresh

    def _rename(self, blob: str, name: str, public: str) -> None:
        self.net.rename(blob, name, public)
        self.shapes[name] = self.shapes.get(blob)

    # What stays.

    def _rewrite_kept(self) -> None:
        """A BatchNorm that stays, and an affine that took others in, become a Scale."""
        for layer in self.net.layers:
            record = self.records.get(id(layer))
            affine = self.affines.get(id(layer))
            if not isinstance(record, Kept) or not isinstance(affine, Affine):
                continue
            if record.reason == EXCLUDED or (layer.type not in BATCHNORMS and id(layer) not in self.composed):
                continue
            try:
                change = rewritten_as_scale(layer, affine, self.stored)
            except Blocked as blocked:
                if id(layer) not in self.composed:
                    continue
                raise ModelError(f"{layer}: {blocked}") from None
            if any(layer.param_names):
                self.report.notes.append(f"{layer}: it shared its values by name, and has its own now")
            layer.type, layer.blobs, layer.param = "Scale", change.blobs, change.param
            self.records[id(layer)] = Kept(record.layer, record.type, record.reason, layer.type)

    def _unshare(self) -> None:
        """Weights shared by name stay shared where they came out equal; else each layer has its own from now on."""
        sharers: dict[str, list[tuple[Layer, int]]] = {}
        for layer in self.net.layers:
            for index, name in enumerate(layer.param_names):
                if name:
                    sharers.setdefault(name, []).append((layer, index))
        for name, members in sharers.items():
            (first, slot), *others = members
            if all(same_values(first.blobs.stored[slot], layer.blobs.stored[index]) for layer, index in others):
                continue
            for layer, index in members:
                param = type(layer.param)()
                param.CopyFrom(layer.param)
                param.param[index].ClearField("name")
                param.param[index].ClearField("share_mode")
                layer.param = param
            users = ", ".join(f"'{layer.name}'" for layer, _ in members)
            self.report.notes.append(f"'{name}' is no longer shared: {users} came out different")


def _is_alias(layer: Layer) -> bool:
    """Whether a layer gives what it reads, whatever its shape is."""
    return not layer.opaque and (
        layer.type == "Split" or (layer.type in DROPOUTS and Dropout.of(layer).test_scale == 1.0)
    )


def _is_called(layer: Layer, pattern: str) -> bool:
    """Whether a layer has this name, or one that the pattern matches; some names look like patterns themselves."""
    return layer.name == pattern or fnmatch.fnmatchcase(layer.name, pattern)


def _size(layers: Sequence[Layer]) -> tuple[int, int]:
    """(layers, learned values)."""
    count = 0
    for layer in layers:
        for shape in layer.blobs.shapes:
            values = 1
            for size in shape:
                values *= size
            count += values
    return len(layers), count


DROPOUTS = frozenset({"Dropout", "SeLuDropout", "SpatialDropout"})

EXCLUDED = "it is left alone, as --exclude asks"
