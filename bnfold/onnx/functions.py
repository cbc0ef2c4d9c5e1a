"""Normalisations that are no nodes of the graph: those in a model's own functions, and in bodies of control flow.

Exporters that keep the modules of a framework write each as a function, and a BatchNormalization then stands in another
one than the convolution in front of it. A layer is a node of the graph, so nothing would fold into a call: where a
function normalises, bodies are read in the place of calls. What stands in a body of If, Loop or Scan stays, and a note
says so.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import ModelProto, NodeProto, inliner

from bnfold.errors import counted, few
from bnfold.onnx.file import Document, document_of
from bnfold.onnx.node import bodies

NORMALISATIONS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    }
)
"""What makes a body worthwhile: a function of anything else may be one that a runtime has a kernel for."""


MAX_NODES = 1 << 18
"""Nodes up to which bodies are put in the place of calls, be it here or by onnx."""


def with_bodies(document: Document) -> tuple[Document, str]:
    """The file with bodies in the place of calls, in memory, and a sentence that says so.

    Args:
        document: a file.

    Returns:
        The same file where no function that is called normalises, without a sentence, or where bodies cannot be put in:
        a function calls itself, or asks for another version of the operators.
    """
    model = document.model
    if not model.functions:
        return document, ""
    functions = _functions(model)
    calls = _calls(model.graph.node, functions)
    called, waiting = set(calls), list(calls)
    while waiting:
        further = set(_calls(functions[waiting.pop()], functions)) - called
        called |= further
        waiting += further
    if not any(node.op_type in NORMALISATIONS for one in called for node in _all(functions[one])):
        return document, ""
    plain = _plain(document) if expanded(model) <= MAX_NODES else None
    said = f"{counted(len(calls), 'call')} of {counted(len(called), 'function')} of the model's own, which normalise,"
    if plain is None or _calls(plain.graph.node, functions):
        return document, (
            f"{said} cannot be replaced by bodies (a function calls itself or uses another version of the operators, "
            f"or there would be more than {MAX_NODES:,} nodes), so nothing is folded there"
        )
    # Nobody calls them any more, but a fold takes nothing out that it can leave.
    plain.functions.extend(model.functions)
    verb = "was replaced by its body" if len(calls) == 1 else "were replaced by their bodies"
    return document_of(plain.SerializeToString(), document.path), f"{said} {verb}"


def _plain(document: Document) -> ModelProto | None:
    try:
        return inliner.inline_local_functions(ModelProto.FromString(bytes(document.buffer[:])))
    except Exception:  # onnx's errors share no base
        return None


def expanded(model: ModelProto) -> int:
    """How many nodes there are with those of all calls, the calls among them; more than `MAX_NODES` if without end.

    Some thirty functions that call each other twice make a thousand million nodes, of which onnx infers each.
    """
    functions = _functions(model)
    calls = {key: _calls(nodes, functions) for key, nodes in functions.items()}
    sizes: dict[tuple[str, str], int] = {}
    try:
        for key in TopologicalSorter(calls).static_order():
            within = sum(1 for _ in _all(functions[key])) + sum(sizes[one] for one in calls[key])
            sizes[key] = min(within, MAX_NODES + 1)
    except CycleError:
        return MAX_NODES + 1
    return len(model.graph.node) + sum(sizes[one] for one in _calls(model.graph.node, functions))


def _functions(model: ModelProto) -> dict[tuple[str, str], Sequence[NodeProto]]:
    return {(function.domain, function.name): function.node for function in model.functions}


def left_in_bodies(model: ModelProto) -> list[str]:
    """A sentence on the normalisations in bodies of control flow, if there are any."""
    found = {
        f"'{node.name or node.output[0]}' ({node.op_type})": normalising
        for node in model.graph.node
        if (normalising := sum(one.op_type in NORMALISATIONS for body in bodies(node) for one in _all(body.node)))
    }
    said = counted(sum(found.values()), "normalisation")
    return [f"{said} in bodies of {few(list(found))}: nothing is folded there"] if found else []


def _calls(nodes: Iterable[NodeProto], functions: Container[tuple[str, str]]) -> list[tuple[str, str]]:
    """The functions that some nodes call, as often as they do."""
    return [key for node in _all(nodes) if (key := (node.domain, node.op_type)) in functions]


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of their bodies."""
    for node in nodes:
        yield node
        for body in bodies(node):
            yield from _all(body.node)
