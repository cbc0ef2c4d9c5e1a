"""Normalisations that are no nodes of the graph: those in a model's own functions, and in branches that are taken.

Exporters that keep the modules of a framework write each as a function, and a BatchNormalization then stands in another
one than the convolution in front of it. A layer is a node of the graph, so nothing would fold into a call: where a
function normalises or is arithmetic alone, bodies are read in the place of calls. So is the branch of an If whose
condition no data decide, as PyTorch's scripted modules have it where a size or a flag does. Other bodies of If, Loop
and Scan are networks of their own (`bnfold.onnx.bodies`).

onnx has an inliner, too, which forgets what an attribute is that a call does not give, and whose names are lost in
bodies that hand on what they were given (`onnx/inliner/inliner.cc`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, helper

from bnfold.errors import counted
from bnfold.io.wire import LENGTH, MAX_MESSAGE
from bnfold.net import Names
from bnfold.onnx.file import GRAPH, INITIALIZER, SPARSE_INITIALIZER, Document, document_of, fill_constant
from bnfold.onnx.node import (
    ARITHMETIC,
    STANDARD,
    all_nodes,
    bodies,
    domain_of,
    graphs_of,
    held_by,
    made_in,
    names_in,
    reads_of,
    set_nodes,
)
from bnfold.onnx.save import field_head

NORMALISATIONS = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
)
"""What makes a body worthwhile: a function of anything else may be one that a runtime has a kernel for."""

PLAIN = ARITHMETIC | {"CastLike", "Constant", "Identity", "Neg"}
"""So does a body of these alone, which may be an affine: no runtime has more for it than they are."""

MAX_NODES = 1 << 18
"""Nodes up to which bodies are put in the place of calls, be it here or by onnx."""

Key = tuple[str, str, str]
"""What a function is called by: domain, name and overload (since IR 10)."""


class NoBody(Exception):
    """Calls cannot be replaced by bodies; the sentence says why."""


def with_bodies(document: Document) -> tuple[Document, str]:
    """The file with bodies in the place of calls, in memory, and a sentence that says so.

    It is the same file where no function that is called normalises or is arithmetic, without a sentence, or where
    bodies cannot be put in, with one that says why.
    """
    model = document.model
    functions, calls, first = _calls_of(model)
    called = _reached(first, calls)
    if not any(map(_may_fold, (functions[one] for one in called))):
        return document, ""
    said = f"{counted(len(first), 'call')} of {counted(len(called), 'function')} of the model's own"
    try:
        _require_few(model)
        versions = _versions(model, functions, called)
        model = deepcopy(document.model)
        nodes = _Inliner(functions, _names(document), {}).expanded(model.graph.node)
        data = _written(document, model, nodes, versions)
    except (NoBody, RecursionError) as error:
        why = str(error) if isinstance(error, NoBody) else "bodies stand in one another too deep"
        return document, f"{said} cannot be read as bodies ({why}), so nothing is folded there"
    verb = "was read as its body, and is" if len(first) == 1 else "were read as their bodies, and are"
    return document_of(data, document.path), f"{said} {verb} written so where anything folds"


def without_calls(model: ModelProto) -> ModelProto:
    """A copy in which bodies stand in the place of all calls, so that each attribute says what it is. Raises NoBody."""
    copy = deepcopy(model)
    functions, calls, first = _calls_of(copy)
    if not first:
        return copy
    _require_few(copy)
    versions = _versions(copy, functions, _reached(first, calls))
    taken = Names({*names_in(copy.graph), *(node.name for node in all_nodes(copy.graph.node))}, "__")
    set_nodes(copy.graph, _Inliner(functions, taken, {}).expanded(copy.graph.node))
    del copy.functions[:]
    _import(copy, versions)
    return copy


def _require_few(model: ModelProto) -> None:
    """Raises NoBody where bodies in the place of calls would be too many nodes."""
    if expanded(model) > MAX_NODES:
        raise NoBody(f"a function calls itself, or there would be more than {MAX_NODES:,} nodes")


def with_branches(document: Document, conditions: Mapping[str, bool], needed: Iterable[str]) -> Document:
    """The file with the branches of Ifs in their place whose conditions are known, in memory.

    What computed a condition goes, and so does what is stored, where only those read it that are gone.

    Args:
        document: a file.
        conditions: the conditions that are known, by name.
        needed: what else is read than by the nodes, as the outputs are.

    Raises:
        NoBody: the model would be too large, or an If is malformed.
    """
    model = deepcopy(document.model)
    gone = [node for node in document.model.graph.node if is_branching(node) and node.input[0] in conditions]
    nodes = list(_Inliner({}, _names(document), conditions).expanded(model.graph.node))
    reads = Counter(name for node in nodes for name in reads_of(node))
    reads.update([*needed, *(port.name for port in (*model.graph.output, *model.graph.input))])
    left, idle = list[NodeProto](), set(conditions)
    for node in reversed(nodes):
        if idle.issuperset(node.output) and not any(reads[name] for name in node.output):
            idle.update(node.input)
            reads.subtract(reads_of(node))
            gone.append(node)
        else:
            left.append(node)
    unread = {name for node in gone for name in reads_of(node) if not reads[name]}
    return document_of(_written(document, model, reversed(left), {}, unread), document.path)


def _may_fold(function: FunctionProto) -> bool:
    """Whether a function normalises, or is nothing but arithmetic in which a constant may stand."""
    nodes = list(all_nodes(function.node))
    has_constant = len(function.input) > 1 or any(node.op_type == "Constant" for node in nodes)
    is_arithmetic = all(node.op_type in PLAIN and node.domain in STANDARD for node in nodes)
    return (has_constant and is_arithmetic) or any(node.op_type in NORMALISATIONS for node in nodes)


def expanded(model: ModelProto) -> int:
    """How many nodes there are with those of all calls, the calls among them; more than `MAX_NODES` if without end.

    Some thirty functions that call each other twice make a thousand million nodes, of which onnx infers each.
    """
    functions, calls, first = _calls_of(model)
    sizes: dict[Key, int] = {}
    try:
        for key in TopologicalSorter(calls).static_order():
            within = sum(1 for _ in all_nodes(functions[key].node)) + sum(sizes[one] for one in calls[key])
            sizes[key] = min(within, MAX_NODES + 1)
    except CycleError:
        return MAX_NODES + 1
    return len(model.graph.node) + sum(sizes[one] for one in first)


def functions_of(model: ModelProto) -> dict[Key, FunctionProto]:
    """A model's own functions, by what they are called by."""
    return {key_of(function): function for function in model.functions}


def functions_said(model: ModelProto) -> dict[Key, list[bytes]]:
    """What each of a model's own functions says, and those that it calls, but for the names of nodes and comments."""
    functions, calls, _ = _calls_of(model)

    def message(key: Key) -> bytes:
        said = FunctionProto.FromString(functions[key].SerializeToString())
        for one in (said, *all_nodes(said.node)):
            one.ClearField("doc_string")
        for node in all_nodes(said.node):
            node.ClearField("name")
        return said.SerializeToString(deterministic=True)

    messages = {key: message(key) for key in functions}
    return {first: [messages[key] for key in _reached([first], calls)] for first in functions}


def _reached(first: Iterable[Key], calls: dict[Key, list[Key]]) -> list[Key]:
    """The functions that are called from some of them, these first."""
    reached = dict.fromkeys(first)
    waiting = list(reached)
    while waiting:
        further = [key for key in calls[waiting.pop()] if key not in reached]
        reached |= dict.fromkeys(further)
        waiting += further
    return list(reached)


def _versions(model: ModelProto, functions: dict[Key, FunctionProto], called: Iterable[Key]) -> dict[str, int]:
    """The version of each domain of the operators that stay; a model need not name those of functions alone."""
    versions = {domain_of(item.domain): item.version for item in model.opset_import}
    for key in called:
        own = {domain_of(item.domain): item.version for item in functions[key].opset_import}
        for node in all_nodes(functions[key].node):
            domain = domain_of(node.domain)
            if key_of(node) in functions or domain not in own:
                continue
            if versions.setdefault(domain, own[domain]) != own[domain]:
                raise NoBody(f"function '{functions[key].name}' uses another version of the operators")
    return versions


def _import(model: ModelProto, versions: Mapping[str, int]) -> None:
    """Have a model name the version of each domain that it does not name."""
    known = {domain_of(item.domain) for item in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(*named) for named in versions.items() if named[0] not in known)


def _names(document: Document) -> Names:
    """The names of a file that are taken."""
    graph = document.model.graph
    nodes = {node.name for node in all_nodes(graph.node)}  # of which onnxruntime takes no two of one name
    return Names({*names_in(graph), *nodes, *(one.name for one in (*document.tensors, *document.sparse))}, "__")


def _written(
    document: Document,
    model: ModelProto,
    nodes: Iterable[NodeProto],
    versions: dict[str, int],
    without: Container[str] = (),
) -> bytes:
    """The bytes of a file with other nodes; weights are copied once, but for some. `model` is a copy to write into."""
    old, buffer = document.model.graph.node, memoryview(document.buffer)
    large = {old[number].output[0]: tensor for number, tensor in document.constants.items()}
    set_nodes(model.graph, nodes)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in large:
            fill_constant(node, large[node.output[0]])
    _import(model, versions)
    stored = [
        buffer[part.begin : part.end]
        for number, tensors in ((INITIALIZER, document.tensors), (SPARSE_INITIALIZER, document.sparse))
        for part, tensor in zip((part for part in document.inner if part[:2] == (number, LENGTH)), tensors, strict=True)
        if tensor.name not in without
    ]
    pieces: list[bytes | memoryview] = [model.graph.SerializeToString(), *stored]
    model.ClearField("graph")
    head = [model.SerializeToString(), field_head(GRAPH, sum(map(len, pieces)))]
    if sum(map(len, (*head, *pieces))) > MAX_MESSAGE:
        raise NoBody("the model would pass 2 GiB")
    return b"".join([*head, *pieces])


class _Inliner:
    """Puts bodies in the place of calls, and branches in that of Ifs.

    Args:
        functions: those of the model; none calls itself.
        names: those that are taken.
        conditions: name of a condition that is known -> what it is.
    """

    def __init__(self, functions: dict[Key, FunctionProto], names: Names, conditions: Mapping[str, bool]) -> None:
        self._functions, self._names, self._conditions = functions, names, conditions

    def expanded(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        """The nodes, and in the place of those that are calls what they call, also within their bodies."""
        waiting = [iter(nodes)]
        while waiting:
            node = next(waiting[-1], None)
            if node is None:
                waiting.pop()
            elif (function := self._functions.get(key_of(node))) is not None:
                waiting.append(self._body(node, function))
            elif is_branching(node) and node.input[0] in self._conditions:
                waiting.append(self._branch(node, self._conditions[node.input[0]]))
            else:
                for body in bodies(node):  # whose own names may hide a condition
                    set_nodes(body, _Inliner(self._functions, self._names, {}).expanded(body.node))
                yield node

    def _body(self, call: NodeProto, function: FunctionProto) -> Iterator[NodeProto]:
        """The nodes of a function as they stand for one call of it."""
        if len(call.input) > len(function.input) or len(call.output) > len(function.output):
            raise NoBody(f"a call of function '{function.name}' has more inputs or outputs than it")
        given = [*call.input, *[""] * (len(function.input) - len(call.input))]
        names, handed = dict(zip(function.input, given, strict=True)), list[tuple[str, str]]()
        for name, top in zip(function.output, call.output, strict=False):
            if top and name in names:
                handed.append((names[name], top))
            elif top:
                names[name] = top
        attributes = {one.name: one for one in (*function.attribute_proto, *call.attribute)}
        for node in function.node:
            yield self._placed(node, names, attributes)
        for bottom, top in handed:
            yield helper.make_node("Identity", [bottom], [top])

    def _branch(self, choice: NodeProto, condition: bool) -> Iterator[NodeProto]:
        """The nodes of the branch of an If that is taken, its initialisers among them."""
        said = "then_branch" if condition else "else_branch"
        graph = next((attribute.g for attribute in choice.attribute if attribute.name == said), GraphProto())
        if len(graph.output) != len(choice.output):
            raise NoBody("one has not the outputs of its If")
        names, handed, own = dict[str, str](), list[tuple[str, str]](), set(made_in(graph))
        for port, top in zip(graph.output, choice.output, strict=True):
            if port.name in names or port.name not in own:
                handed.append((names.get(port.name, port.name), top))
            elif top:
                names[port.name] = top
        for tensor in graph.initializer:
            yield helper.make_node("Constant", [], [self._made(tensor.name, names)], value=tensor)
        for sparse in graph.sparse_initializer:
            yield helper.make_node("Constant", [], [self._made(sparse.values.name, names)], sparse_value=sparse)
        for node in graph.node:
            yield self._placed(node, names, {})
        for bottom, top in handed:
            yield helper.make_node("Identity", [bottom], [top])

    def _placed(self, node: NodeProto, names: dict[str, str], attributes: dict[str, AttributeProto]) -> NodeProto:
        """A node of a body by the names around its call, to which those are added that it makes."""
        placed = deepcopy(node)
        if node.name:
            placed.name = self._names.new(node.name)
        placed.input[:] = [names.get(name, name) for name in node.input]
        placed.output[:] = [self._made(name, names) for name in node.output]
        del placed.attribute[:]
        for attribute in node.attribute:
            if attribute.ref_attr_name and attribute.ref_attr_name not in attributes:
                continue  # nobody gives it, so the operator's own default counts
            one = placed.attribute.add()
            one.CopyFrom(attributes.get(attribute.ref_attr_name, attribute))
            one.name = attribute.name
            if not attribute.ref_attr_name:
                for body in graphs_of(one):
                    self._place(body, dict(names), attributes)
        return placed

    def _place(self, graph: GraphProto, names: dict[str, str], attributes: dict[str, AttributeProto]) -> None:
        """The same for the body of a node, whose own names hide those around it."""
        held = held_by(graph)
        for name in [*(one.name for one in held), *(name for node in graph.node for name in node.output)]:
            names.pop(name, None)
        for one in held:
            one.name = self._made(one.name, names)
        set_nodes(graph, (self._placed(node, names, attributes) for node in graph.node))
        for port in (*graph.output, *graph.value_info):
            port.name = names.get(port.name, port.name)

    def _made(self, name: str, names: dict[str, str]) -> str:
        """The name in the graph of a value that a body makes."""
        if name and name not in names:
            names[name] = self._names.new(name)
        return names.get(name, "")


def is_branching(node: NodeProto) -> bool:
    """Whether a node is an If."""
    return node.op_type == "If" and node.domain in STANDARD


def key_of(one: NodeProto | FunctionProto) -> Key:
    """What a node calls, if it is a call, and what a function is called by."""
    name = one.op_type if isinstance(one, NodeProto) else one.name
    return domain_of(one.domain), name, getattr(one, "overload", "")  # which onnx has since 1.17


def _calls_of(model: ModelProto) -> tuple[dict[Key, FunctionProto], dict[Key, list[Key]], list[Key]]:
    """A model's own functions, which of them each calls, and which the graph does, as often as they do."""
    functions = functions_of(model)

    def calls(nodes: Iterable[NodeProto]) -> list[Key]:
        return [key for node in all_nodes(nodes) if (key := key_of(node)) in functions]

    within = {key: calls(function.node) for key, function in functions.items()}
    return functions, within, calls(model.graph.node) if functions else []
