"""Bodies of If, Loop and Scan that differ, compared as networks of their own: data may never take a branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING, NamedTuple

from bnfold.compare.records import DiffReport, Gate
from bnfold.errors import BnfoldError, UsageError, quoted
from bnfold.loading import load
from bnfold.net import Net
from bnfold.options import CompareOptions

if TYPE_CHECKING:
    from onnx import ModelProto

    from bnfold.algebra.frontend import InnerNet
    from bnfold.compare.models import Model, Source


class Bodies(NamedTuple):
    """A body of the reference and that of the candidate; None for what is no network."""

    name: str
    ours: Net | None
    theirs: Net | None


def with_bodies(
    report: DiffReport, bodies: Iterator[Bodies], compare: Callable[[Net, Net], DiffReport], required: bool
) -> DiffReport:
    """The report with a gate for each of some bodies.

    Args:
        report: on the two models.
        bodies: those that differ.
        compare: compares two nets.
        required: what cannot be compared by itself does not pass; otherwise a note says it.
    """
    gates, notes, limit = list(report.gates), list(report.notes), report.tolerance
    for name, ours, theirs in bodies:
        try:
            if ours is None or theirs is None:
                raise UsageError("the shape or type of what it reads is unknown")
            if ours.inputs.keys() != theirs.inputs.keys():
                raise UsageError(f"it reads {quoted(theirs.inputs)} in the place of {quoted(ours.inputs)}")
            found = compare(ours, theirs)
        except BnfoldError as error:
            notes.append(f"{name} is another one in the candidate, and is not compared by itself: {error}")
            gates += [Gate("body", limit, nan, False, notes[-1])] * required
        else:
            gates.append(Gate("body", limit, found.judged, found.passed, f"{name} by itself: {found.verdict}"))
            notes += [f"{name}: {note}" for note in found.notes]
    return replace(report, gates=tuple(gates), notes=tuple(dict.fromkeys(notes)))


def changed_bodies(
    ours: Model, theirs: Model, sources: tuple[Source, Source], options: CompareOptions
) -> Iterator[Bodies]:
    """The bodies of nodes that make values of the same names, where they are not the same.

    Args:
        ours, theirs: the two models, opened.
        sources: what they were opened from.
        options: how those are read that are no `Net` yet.
    """
    if ours.net is not None or theirs.net is not None:
        return
    before, after = _said(ours.own.proto), _said(theirs.own.proto)
    changed = sorted(key for key in before.keys() & after.keys() if before[key] != after[key])
    found = [_bodies(source, options) if changed else {} for source in sources]
    for key in changed:
        names = next((held[key].name for held in found if key in held), f"{key[-1]} of '{key[0]}'")
        one, other = (held[key].net if key in held else None for held in found)
        yield Bodies(names, one, other)


def _said(model: ModelProto) -> dict[tuple[str, ...], bytes]:
    """The bodies in a model's nodes, by the names of what these make and of the attribute."""
    return {
        (*filter(None, node.output), said.name): said.SerializeToString(deterministic=True)
        for node in model.graph.node
        for said in node.attribute
        if said.HasField("g")
    }


def _bodies(source: Source, options: CompareOptions) -> dict[tuple[str, ...], InnerNet]:
    net = source
    if not isinstance(net, Net):
        net = load(net, options=options.reading, input_shapes=options.input_shapes)
    assert net.front is not None
    return {(*body.layer.tops, body.attribute): body for body in net.front.bodies(net)}
