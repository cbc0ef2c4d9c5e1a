"""Normalisations that are no nodes of the graph: those in a model's own functions, and in bodies of control flow.

Exporters that keep the modules of a framework write each as a function, and a BatchNormalization then stands in another
one than the convolution in front of it. A layer is a node of the graph, so nothing would fold into a call: where a
function normalises, bodies are read in the place of calls. What stands in a body of If, Loop or Scan stays, and a note
says so.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

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
    functions = {(function.domain, function.name): function.node for function in model.functions}
    calls = _calls(model.graph.node, functions)
    called, waiting = set(calls), list(calls)
    while waiting:
        further = set(_calls(functions[waiting.pop()], functions)) - called
        called |= further
        waiting += further
    if not any(node.op_type in NORMALISATIONS for one in called for node in _all(functions[one])):
        return document, ""
    try:
        plain = inliner.inline_local_functions(ModelProto.FromString(bytes(document.buffer[:])))
        left = _calls(plain.graph.node, functions)
    except Exception:  # onnx's errors share no base
        left = calls
    said = f"{counted(len(calls), 'call')} of {counted(len(called), 'function')} of the model's own, which normalise,"
    if left:
        return document, (
            f"{said} cannot be replaced by bodies (a function calls itself, or uses another version of the operators), "
            "so nothing is folded there"
        )
    plain.functions.extend(
        model.functions
    )  # nobody calls them any more, but a fold takes nothing out that it can leave
    verb = "was replaced by its body" if len(calls) == 1 else "were replaced by their bodies"
    return document_of(plain.SerializeToString(), document.path), f"{said} {verb}"


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
