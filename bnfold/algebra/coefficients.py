"""One number that can go nowhere else goes into the coefficients that a sum stores.

    in front    Given:  x -> A -> t, sum(t, y) -> u        Result:  sum(x, y) -> u, with c*s in the place of c
    behind      Given:  sum(x, y) -> t -> A -> u           Result:  sum(x, y) -> u, with s in all coefficients

`c*(s*x)` is `(c*s)*x`, whose coefficient is rounded once, as a folded weight is. What is tried first, and costs nothing
at inference, is to move the number into weights (`backward`, `forward` and `factors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.operators import Sum
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.scaled import largest_of, loses_digits
from bnfold.net import Layer


def plan_behind(scene: Scene, layer: Layer, affine: Affine) -> Plan | None:
    """Move the number of `layer` into the sum that makes its bottom; None where that is none, or others read it."""
    bottom, producer = layer.bottoms[0], scene.net.producer(layer.bottoms[0])
    if producer is None or bottom in scene.protected or len(scene.net.uses(bottom)) != 1:
        return None
    weighed = _weighed(scene, producer, affine, producer.bottoms)
    return None if weighed is None else Plan(weighed=[(producer, weighed)], moved=[bottom])


def plan_in_front(scene: Scene, layer: Layer, affine: Affine) -> Plan | None:
    """Move the number of `layer` into the sums that read its top; None where one of these is none."""
    top, plan = layer.tops[0], Plan()
    readers = {id(use.layer): use.layer for use in scene.net.uses(top)}
    for reader in readers.values() if top not in scene.protected else ():
        weighed = _weighed(scene, reader, affine, [top])
        if weighed is None:
            return None
        plan.weighed.append((reader, weighed))
    return plan if plan.weighed else None


def _weighed(scene: Scene, layer: Layer, affine: Affine, bottoms: Sequence[str]) -> Sum | None:
    """The sum with the number in the coefficients of some bottoms; None where they cannot hold it."""
    if not affine.keeps_zero or affine.count != 1 or id(layer) in scene.excluded:
        return None
    operator = scene.known_operator(layer)
    if not isinstance(operator, Sum) or not operator.stored:
        return None
    factor = float(affine.scale.flat[0])
    takes = [bottom in bottoms for bottom in layer.bottoms]
    coefficients = tuple(factor * c if taken else c for taken, c in zip(takes, operator.coefficients, strict=True))
    for size in map(abs, compress(coefficients, takes)):
        if not 0 < size <= largest_of(np.float32) or loses_digits(size, np.float32):
            return None
    return operator._replace(coefficients=coefficients)
