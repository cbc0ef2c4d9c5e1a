"""Affines that stand alike in front of all blobs that one weight serves for go into that weight, all at once.

    Given:  x -> A -> t, y -> B -> u, L(t, u) -> v, w, with A = B        Result:  L'(x, y) -> v, w

`L(A(x))` and `L(A(y))` are `L'(x)` and `L'(y)` with the same L' (`bnfold.algebra.absorb`), as where a network compares
two images. Where A and B differ, or one is missing, no weight serves for both.
"""

from __future__ import annotations

from contextlib import suppress

from bnfold.algebra.absorb import absorb_forward
from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Opaque
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.records import Blocked
from bnfold.net import Layer


def plan_together(scene: Scene, layer: Layer, affine: Affine) -> tuple[Plan, list[Layer]] | None:
    """Move `layer`, and its like in front of the other bottoms, into what alone reads its top.

    Returns:
        The plan, and all layers that go by it, each once; None where there is no such layer, or it cannot take them.
    """
    reader = next((use.layer for use in scene.net.uses(layer.tops[0])), layer)
    operator = scene.known_operator(reader)
    if not isinstance(operator, Opaque) or operator.each is None or id(reader) in scene.excluded:
        return None
    makers = []
    for blob in dict.fromkeys(reader.bottoms):
        maker = scene.net.producer(blob)
        if maker is None or blob in scene.protected or any(use.layer is not reader for use in scene.net.uses(blob)):
            return None
        own = scene.known_operator(maker)
        if not isinstance(own, Affine) or not own.equals(affine) or id(maker) in scene.excluded:
            return None
        makers.append(maker)
    with suppress(Blocked):
        change = absorb_forward(operator.each, affine)
        return (Plan(changes=[(reader, change)]), makers) if change.left is None else None
    return None
