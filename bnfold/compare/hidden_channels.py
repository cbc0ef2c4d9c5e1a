"""Channels of which nothing that was compared shows a thing: a ReLU keeps them at 0, a Max always takes another.

    conv (wrong in one channel) -> Max -> y          conv -> Relu -> fc -> y, where only outputs are compared
    scores -> NonMaxSuppression -> Gather(boxes) -> y

What such a node reads is made a little larger in the candidate. If that changes no value of a channel in any sample,
neither does what is wrong with the weights that make it; and a slope or a bound likewise. It is asked of what was not
compared itself, and is not the reference's. What only chooses, as scores of which no value goes on, shows no small
error at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.batches import run_at
from bnfold.compare.divergence import upstream
from bnfold.compare.exact import EVERY_SAMPLE
from bnfold.compare.hidden_differences import LINEAR
from bnfold.compare.models import same_stored
from bnfold.errors import ModelError, counted
from bnfold.net import Array
from bnfold.options import ROUNDING
from bnfold.runtime import to_host

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from bnfold.compare.matched import MatchedCandidate
    from bnfold.onnx.graph import WeightStore
    from bnfold.onnx.nudging import Operand

HIDING: Mapping[str, str] = {
    "Clip": "",
    "HardSigmoid": "alpha",
    "HardSwish": "",
    "LeakyRelu": "alpha",
    "Max": "",
    "Min": "",
    "PRelu": "",
    "Relu": "",
    "Sigmoid": "",
    "Tanh": "",
    "ThresholdedRelu": "alpha",
    "Where": "",
}
"""Operator that may hide what it reads, value by value -> an attribute that its data may not reach, if it has one."""
CHOOSING: Mapping[str, tuple[int, ...]] = {
    "ArgMax": (0,),
    "ArgMin": (0,),
    "Equal": (0, 1),
    "Greater": (0, 1),
    "GreaterOrEqual": (0, 1),
    "Less": (0, 1),
    "LessOrEqual": (0, 1),
    "NonMaxSuppression": (0, 1),
    "TopK": (0,),
}
"""Operator whose integers and flags say which of the values at some places among its inputs is chosen, and not how
large these are; the first output of a TopK says that."""


class _Asked(NamedTuple):
    """What is made larger, and along which axis of what the node gives it has channels; None for one number."""

    operand: Operand
    name: str
    axis: int | None


def hidden_channels(matched: MatchedCandidate, store: WeightStore) -> Iterator[str]:
    """The notes on one candidate, whose weights lie in the store."""
    from bnfold.onnx.nudging import nudged

    search = _Search(matched)
    if choosing := list(search.choosing()):
        node, name = choosing[0]
        others = len({other for _, other in choosing} - {name})
        yield (
            f"'{name}' only chooses, in {node.op_type} '{node.output[0]}'{_and_others(others)}"
            ", and none of its values shows in what was compared, so it is not proved, nor what makes it"
        )
    searched, types = list(search.asked()), list(matched.theirs.float_types)
    if not searched or len(types) != 1:
        return
    flags = [each.operand.flags for each in searched]
    grown = replace(matched.theirs, proto=nudged(matched.theirs.proto, [each.operand for each in searched], types[0]))
    count, shown = min(matched.data.count, EVERY_SAMPLE), dict.fromkeys(flags, np.asarray(False))
    try:
        session = grown.session(flags, store, matched.options.threads, matched.options.provider)
        for start in range(0, count, matched.layout.batch):
            if not (left := [name for name in flags if not shown[name].all()]):
                break
            run = run_at(matched.data, matched.layout, start)
            feeds = {matched.inputs[name]: values for name, values in run.feeds.items()}
            given = session.run(feeds, left)
            for each, name in zip(searched, flags, strict=True):
                if name in given:
                    shown[name] = shown[name] | _seen(to_host(given[name]), each.axis)
    except ModelError as error:
        yield f"whether a Relu or a Max hides channels that are not proved was not looked at: {error}"
        return
    found = [(each, int((~shown[name]).sum()), shown[name].size) for each, name in zip(searched, flags, strict=True)]
    if hidden := [each for each in found if each[1]]:
        (operand, name, axis), most, size = max(hidden, key=lambda each: each[1])
        channels = "" if axis is None else f" ({most:,} of {size:,} channels)"
        where = "no sample" if count == matched.data.count else f"none of the first {count:,} samples"
        others = len({each.name for each, *_ in hidden}) - 1
        yield (
            f"'{name}'{channels} shows in {where} behind {operand.node.op_type} '{operand.node.output[0]}'"
            f"{_and_others(others)}, so it is not proved, nor what makes it; give other samples by --data"
        )


def _and_others(count: int) -> str:
    return f", and so do {counted(count, 'other')}" if count else ""


def _reads(node: NodeProto, output: str) -> Iterator[tuple[str, bool]]:
    """What a node reads for one of its outputs, in its bodies, too, and whether it only chooses by that."""
    from bnfold.onnx.node import bodies

    chooses = node.op_type in CHOOSING and (node.op_type, output) != ("TopK", node.output[0])
    yield from ((name, chooses and place in CHOOSING[node.op_type]) for place, name in enumerate(node.input))
    place = [*node.output].index(output)
    for body in bodies(node):
        ports = body.output[place : place + 1] if node.op_type == "If" else body.output
        yield from _read_around(body, [port.name for port in ports])


def _read_around(body: GraphProto, outputs: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """What some outputs of a body read of what is around it, and whether it is only chosen by that."""
    makers = {name: node for node in body.node for name in node.output if name}
    waiting, seen = [(name, False) for name in outputs], set[tuple[str, bool]]()
    while waiting:
        if (one := waiting.pop()) in seen:
            continue
        seen.add(one)
        name, chosen = one
        if name in makers:
            waiting += [(read, chosen or chooses) for read, chooses in _reads(makers[name], name)]
        else:
            yield name, chosen


def _seen(flags: Array, axis: int | None) -> Array:
    """In which channels something was seen."""
    if axis is None or flags.ndim < 2:
        return np.asarray(flags.any())
    return np.asarray(np.moveaxis(flags, axis, 0).reshape(flags.shape[axis], -1).any(axis=1))


@dataclass
class _Search:
    """What of a candidate may hide something."""

    matched: MatchedCandidate

    def asked(self) -> Iterator[_Asked]:
        """What is to be made larger, each by itself."""
        from bnfold.onnx.node import attribute_value
        from bnfold.onnx.nudging import Operand

        before, nodes = self.matched.ours.proto.graph.node, self.matched.theirs.proto.graph.node
        hiding = [node for node in nodes if node.op_type in HIDING and self._hides(node)]
        read = [name for node in hiding for name in node.input if name not in self.compared]
        changed = self._changed({*read, *upstream("", {**self.matched.theirs.inputs, "": read}, self.compared)})
        others = set(changed)
        for node in nodes if changed else ():
            others.update(node.output if others.intersection(node.input) - self.compared else ())
        numbers = {(node.op_type, attribute_value(node, HIDING.get(node.op_type, ""), 0.0)) for node in before}
        for node in hiding:
            for place, name in enumerate(node.input):
                is_flags = (node.op_type, place) == ("Where", 0)  # and not made larger: what makes them chooses
                if name in others - self.compared and not is_flags:
                    axis = self._axis(name) if name not in changed else 1 if changed[name] > 1 else None
                    yield _Asked(Operand(node, place), name, axis)
            attribute = HIDING[node.op_type]
            if (number := attribute_value(node, attribute, 0.0)) and (node.op_type, number) not in numbers:
                yield _Asked(Operand(node, attribute), attribute, None)

    def choosing(self) -> Iterator[tuple[NodeProto, str]]:
        """The nodes that choose, with what they choose by, where that shows nowhere else and is not the reference's."""
        theirs, shown, waiting = self.matched.theirs, set[str](), list(self.matched.pairs.values())
        met: dict[str, NodeProto] = {}
        while waiting:
            if (name := waiting.pop()) in shown or (node := theirs.makers.get(name)) is None:
                continue
            shown.add(name)
            for read, chooses in _reads(node, name):
                if chooses:
                    met[read] = node
                else:
                    waiting.append(read)
        hidden = {name: node for name, node in met.items() if name in theirs.makers and name not in shown}
        front = {name: {name, *upstream(name, theirs.inputs, self.compared)} for name in hidden}
        changed = self._changed(set().union(*front.values())).keys()
        yield from ((node, name) for name, node in hidden.items() if not changed.isdisjoint(front[name]))

    @cached_property
    def compared(self) -> set[str]:
        """The candidate's blobs that are compared or fed."""
        return {*self.matched.pairs.values(), *self.matched.inputs.values()}

    def _hides(self, node: NodeProto) -> bool:
        """Whether a node reads anything that is computed and not compared."""
        theirs = self.matched.theirs
        return any(name in theirs.makers and name not in theirs.constants for name in {*node.input} - self.compared)

    def _changed(self, names: set[str]) -> dict[str, int]:
        """Those of some names under which floats are stored that the reference has not under the same, and how many."""
        models = self.matched.ours, self.matched.theirs
        ours, theirs = (model.stored(names) for model in models)
        found = {
            name: prod(held.shape)
            for name, held in theirs.items()
            if held.dtype.name in ROUNDING and not same_stored(ours.get(name), held)
        }
        for model in models:
            model.release_pages()
        return found

    def _axis(self, name: str) -> int:
        """The axis of a blob's channels: 1, or the last one where a MatMul makes it."""
        while (node := self.matched.theirs.makers.get(name)) is not None and node.op_type not in LINEAR:
            name = node.input[0] if node.input else ""
        return -1 if node is not None and node.op_type == "MatMul" else 1
