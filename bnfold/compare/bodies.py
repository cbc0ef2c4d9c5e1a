"""Bodies of If, Loop and Scan that differ, compared as networks of their own: data may never take a branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING, NamedTuple

from bnfold.compare.models import same_stored
from bnfold.compare.records import DiffReport, Gate
from bnfold.errors import BnfoldError, UsageError, quoted
from bnfold.loading import load
from bnfold.net import Net
from bnfold.options import CompareOptions

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto

    from bnfold.algebra.frontend import InnerNet
    from bnfold.compare.models import Model, Source


class Bodies(NamedTuple):
    """A body of the reference and that of the candidate; None for what is no network.

    Attributes:
        name: what it is called.
        ours, theirs: the two.
        held: stored values around them that they read and that differ.
    """

    name: str
    ours: Net | None
    theirs: Net | None
    held: tuple[str, ...] = ()


def with_bodies(
    report: DiffReport, bodies: Iterator[Bodies], compare: Callable[[Net, Net], DiffReport], required: bool
) -> DiffReport:
    """The report with a gate for each of some bodies that differ; what cannot be compared by itself does not pass where
    that is `required`, and otherwise a note says it.
    """
    gates, notes, limit = list(report.gates), list(report.notes), report.tolerance
    for name, ours, theirs, held in bodies:
        try:
            if ours is None or theirs is None:
                raise UsageError("the shape or type of what it reads is unknown")
            if ours.inputs.keys() != theirs.inputs.keys():
                raise UsageError(f"it reads {quoted(theirs.inputs)} in the place of {quoted(ours.inputs)}")
            if large := [one for one in held if one in ours.inputs]:  # which would be fed, the same to both
                raise UsageError(f"it reads {quoted(large)} from outside, which is another one there")
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
    """The bodies of nodes that make values of the same names, where they are not the same, or what they read is not
    that is stored around them; `sources` are what the two models were opened from.
    """
    if ours.net is not None or theirs.net is not None:
        return
    before, after = _said(ours.own.proto), _said(theirs.own.proto)
    held = {key: _held_otherwise(ours.own, theirs.own, before[key]) for key in before.keys() & after.keys()}
    changed = sorted(key for key, names in held.items() if names or _message(before[key]) != _message(after[key]))
    found = [_bodies(source, options) if changed else {} for source in sources]
    for key in changed:
        names = next((bodies[key].name for bodies in found if key in bodies), f"{key[-1]} of '{key[0]}'")
        one, other = (bodies[key].net if key in bodies else None for bodies in found)
        yield Bodies(names, one, other, held[key])


def _said(model: ModelProto) -> dict[tuple[str, ...], AttributeProto]:
    """The bodies in a model's nodes, by the names of what these make and of the attribute."""
    return {
        (*filter(None, node.output), attribute.name): attribute
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.HasField("g")
    }


def _message(attribute: AttributeProto) -> bytes:
    return attribute.SerializeToString(deterministic=True)


def _held_otherwise(ours: Model, theirs: Model, attribute: AttributeProto) -> tuple[str, ...]:
    """What a body reads from around it that either model stores, and not both the same."""
    from bnfold.onnx.node import captured_by

    names = captured_by(attribute.g)
    before, after = ours.stored(names), theirs.stored(names)
    return tuple(name for name in names if not same_stored(before.get(name), after.get(name)))


def _bodies(source: Source, options: CompareOptions) -> dict[tuple[str, ...], InnerNet]:
    net = source
    if not isinstance(net, Net):
        net = load(net, options=options.reading, input_shapes=options.input_shapes)
    assert net.front is not None
    return {(*body.layer.tops, body.attribute): body for body in net.front.bodies(net)}
