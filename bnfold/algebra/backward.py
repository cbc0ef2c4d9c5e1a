"""Going back: an affine goes into the layers that make its bottom.

The demand "this blob shall carry A" starts at the affine's bottom and moves from layer to layer until every branch of
it has met a layer that absorbs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import islice

from bnfold.algebra import commute
from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Affines
from bnfold.algebra.journal import BACKWARD, Journal, Naming
from bnfold.algebra.movement import sees_nothing
from bnfold.algebra.operators import Move
from bnfold.algebra.plan import Plan, Scene
from bnfold.algebra.records import Blocked, block, require
from bnfold.net import Layer

MAX_ALTERNATIVES = 64
"""A sum may be of thousands of blobs, each of which could take the shift."""

MAX_TOGETHER = 256
"""Layers that a search looks at in which several readers of a blob want the same; an attention has some twenty."""

Search = Generator["Search", None, None]


def plan_backward(scene: Scene, layer: Layer, affine: Affine) -> Plan:
    """Move the affine of `layer` into the layers that make its bottom.

    Raises:
        Blocked: some layer on the way neither absorbs it nor lets it pass, or an output would get a reader.
    """
    journal = Journal(scene, BACKWARD)
    bottom, top = layer.bottoms[0], layer.tops[0]
    try:
        demand(journal, bottom, affine, layer)
    except Blocked as blocked:
        together = _demand_together(Journal(scene, BACKWARD), bottom, affine, layer) if journal.wider else None
        if together is None:
            raise Blocked(journal.why(blocked)) from None
        journal = together
    # Those that want the shape alone, or other elements, will read the bottom under the name of the top.
    others = [use.layer for use in scene.net.uses(bottom) if use.layer is not layer]
    if top in scene.unread and others:
        raise Blocked(f"{others[0]} reads '{bottom}', whose place '{top}' would take, and what is read is no output")
    return journal.plan()


def demand(journal: Journal, blob: str, affine: Affine, reader: Layer) -> None:
    """Have `blob` carry `affine`, which `reader` wants of it once. Raises Blocked if that cannot be."""
    _run(_demand(journal, blob, affine, reader))


def _demand(journal: Journal, blob: str, affine: Affine, reader: Layer, wanted: int = 1) -> Search:
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
    with Naming(producer):
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


def _demand_together(journal: Journal, blob: str, affine: Affine, reader: Layer) -> Journal | None:
    """Have `blob` carry what all that read a blob on the way want alike, as a scale the two of `x + pool(x)`.

    Returns:
        What was decided; None where it cannot be done.
    """
    searches: list[tuple[Journal, Wanted]] = [(journal, {blob: (affine, 1)})]
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


def _ways(journal: Journal, wanted: Wanted, reader: Layer) -> list[Wanted]:
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
