"""The order in which nodes run, for files that have them in another one.

ONNX wants each node behind those that make what it reads (docs/IR.md), and onnxruntime sorts the nodes of a graph while
it loads them, so some exporters never do. Bodies it takes only as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

from onnx import NodeProto

from bnfold.onnx.node import captured, reads_of


def run_order(nodes: Sequence[NodeProto]) -> list[int]:
    """The numbers of some nodes in an order in which they can run: of those that can, always the first in the file.

    Nodes that stand in such an order keep it, and so do those of which some wait for each other, as `circle` says.
    """
    order = list(range(len(nodes)))
    if _is_sorted(nodes):
        return order
    waits = _sorter(nodes)
    try:
        waits.prepare()
    except CycleError:
        return order
    ready: list[int] = []
    order.clear()
    while waits.is_active():
        for number in waits.get_ready():
            heappush(ready, number)
        order.append(heappop(ready))
        waits.done(order[-1])
    return order


def circle(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Nodes of which each reads what the one in front of it makes, and the first what the last makes, if there are."""
    try:
        _sorter(nodes).prepare()
    except CycleError as error:
        return [nodes[number] for number in error.args[1][1:]]
    return []


def _is_sorted(nodes: Sequence[NodeProto]) -> bool:
    made = set[str]()
    for node in reversed(nodes):
        made.update(node.output)
        made.discard("")
        if not made.isdisjoint(node.input) or (node.attribute and not made.isdisjoint(captured(node))):
            return False
    return True


def _sorter(nodes: Sequence[NodeProto]) -> TopologicalSorter[int]:
    """The numbers of the nodes, each behind those that make what it or its bodies read."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    waits = TopologicalSorter[int](dict.fromkeys(range(len(nodes)), ()))
    for number, node in enumerate(nodes):
        waits.add(number, *(makers[name] for name in reads_of(node) if name in makers))
    return waits
