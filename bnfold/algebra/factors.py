"""Where a factor of one number goes that can neither go back nor forward alone: to its neighbour, or both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bnfold.algebra import commute
from bnfold.algebra.affine import Affine
from bnfold.algebra.backward import demand, plan_backward
from bnfold.algebra.forward import carry
from bnfold.algebra.journal import BACKWARD, FORWARD, Journal
from bnfold.algebra.operators import Product
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.records import Blocked
from bnfold.net import Layer, Use

LEAST_APART = 2.0**-4
"""The least factor of which the inverse is given to others."""

MAX_APART = 8
"""Readers of a blob that is given another scale for the sake of one of them."""


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
            journal = Journal(scene, BACKWARD)
            with suppress(Blocked):
                demand(journal, bottom, affine, reader)
                return journal.plan()
    return None


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
            ahead = carry(Journal(_seen(scene, blob, reader, own=False), FORWARD), blob, inverse)
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
