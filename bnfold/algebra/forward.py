"""Going forward: an affine is taken off its blob, and every use of that must absorb it or let it pass."""

from __future__ import annotations

import heapq
from contextlib import suppress

from bnfold.algebra import commute
from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Affines
from bnfold.algebra.journal import FORWARD, Journal, Naming
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.records import Blocked, block, require
from bnfold.net import Layer


def plan_forward(scene: Scene, layer: Layer, affine: Affine) -> Plan:
    """Move the affine of `layer` into all the layers that read its top.

    Raises:
        Blocked: its top must survive, or some use neither absorbs the affine nor lets it pass.
    """
    journal = Journal(scene, FORWARD)
    try:
        return carry(journal, layer.tops[0], affine)
    except Blocked as blocked:
        if journal.wider and affine.keeps_zero:
            with suppress(Blocked):
                return carry(Journal(scene, FORWARD, past=True), layer.tops[0], affine)
        raise Blocked(journal.why(blocked)) from None


def carry(journal: Journal, start: str, affine: Affine) -> Plan:
    """Take `affine` off the blob `start`: all that read it take it in, or pass it on. Raises Blocked if one cannot."""
    scene = journal.scene
    carried: dict[str, Affine] = {}
    waiting: list[tuple[int, int]] = []
    seen: dict[int, Layer] = {}

    def arrive(blob: str, moved: Affine) -> None:
        block(scene.protected.get(blob, ""))
        uses = scene.uses(blob)
        require(len(uses) > 0 or blob != start, f"nobody reads '{blob}'")
        carried[blob] = moved
        for use in uses:
            if id(use.layer) not in seen:
                seen[id(use.layer)] = use.layer
                heapq.heappush(waiting, (scene.order[id(use.layer)], id(use.layer)))

    arrive(start, affine)
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
            with Naming(reader):
                leaving = commute.forward(operator, arriving, len(reader.tops))
            journal.through.append(reader)
        for top, moved in zip(reader.tops, leaving, strict=True):
            if moved is not None and not moved.is_identity:
                journal.moved.append(top)
                arrive(top, moved)
    return journal.plan()
