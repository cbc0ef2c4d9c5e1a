"""What an ONNX net is as a file, decided and not written yet: which nodes changed or went, which initialisers did.

An initialiser keeps its name where one node alone reads it. Where others do, new values get a name of their own; where
nobody does any more, it goes, and so do the nodes that computed it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property

from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from bnfold.algebra.scaled import same_values
from bnfold.errors import UsageError, counted, quoted
from bnfold.io.wire import LENGTH, Field
from bnfold.net import Array, Layer, LazyArray, Names, Net, blobs_of, sizes
from bnfold.onnx.call import Call
from bnfold.onnx.file import NODE, Document, fill_constant, whole
from bnfold.onnx.fitting import fits
from bnfold.onnx.node import (
    BIASES,
    STANDARD,
    BottomInput,
    ConstantInput,
    Node,
    all_nodes,
    bodies,
    captured,
    made_in,
    opset_of,
)
from bnfold.onnx.origin import CONSTANTS_ARE_INPUTS, NodeSource, OnnxOrigin
from bnfold.onnx.save import EXTERNAL_FROM
from bnfold.onnx.shapes import Types, infer, inputs_of
from bnfold.onnx.stale_sizes import behind_edits
from bnfold.onnx.weight import Weight

Stored = Array | LazyArray


@dataclass(slots=True, eq=False)
class Edition:
    """What a net is as a file, decided and not written yet.

    Attributes:
        origin: the file that it is read from.
        nodes: the nodes in order: the number in the old file (-1 for a new one), and the message where it changed.
        fresh: initialisers that are new, or have new values, by name.
        gone: initialisers that nobody reads any more.
        values: blob of the old file -> its name now, where it has another one; None where it is gone.
        outputs: the outputs, where they are others than in the old file.
        name: the graph's name, where it is another.
        resized: what is said of values that a program gave other sizes than the file says, by their names of now.
    """

    origin: OnnxOrigin
    nodes: list[tuple[int, NodeProto | None]] = field(default_factory=list)
    fresh: dict[str, Weight] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    values: dict[str, str | None] = field(default_factory=dict)
    outputs: list[ValueInfoProto] | None = None
    name: str | None = None
    resized: dict[str, ValueInfoProto] = field(default_factory=dict)

    @property
    def document(self) -> Document:
        """The old file."""
        return self.origin.document

    @property
    def is_as_read(self) -> bool:
        """Whether nothing differs from the old file."""
        every = [(number, None) for number in range(len(self.document.model.graph.node))]
        other = self.fresh or self.gone or self.values
        return self.nodes == every and not other and self.outputs is None and self.name is None

    def renamed(self, port: ValueInfoProto) -> ValueInfoProto | None:
        """What is said about a value, under its name of now; None where it is gone."""
        name = self.values.get(port.name, port.name)
        if name is None or port.name in self.gone:
            return None
        if name in self.resized:
            return self.resized[name]
        if name == port.name:
            return self.fresh[name].port() if self._reshapes(port) else port
        renamed = deepcopy(port)
        renamed.name = name
        return renamed

    def loses(self, name: str) -> bool:
        """Whether a value is renamed or gone, so that what is annotated to it means nothing."""
        return name in self.values or name in self.gone

    def leaves(self, port: ValueInfoProto) -> bool:
        """Whether an input lists an initialiser that is gone, or has other values or sizes than one would feed."""
        frozen = self.origin.options.freeze_initializers and self.document.model.ir_version >= CONSTANTS_ARE_INPUTS
        return port.name in self.gone or (frozen and port.name in self.fresh) or self._reshapes(port)

    def _reshapes(self, port: ValueInfoProto) -> bool:
        """Whether a port declares an initialiser that has other sizes now, as a bias of one value that became a row."""
        fresh = self.fresh.get(port.name)
        return fresh is not None and port.type.tensor_type.shape != fresh.port().type.tensor_type.shape

    def new_inputs(self) -> list[ValueInfoProto]:
        """Old models list every initialiser as an input."""
        if self.document.model.ir_version >= CONSTANTS_ARE_INPUTS:
            return []
        listed = {port.name for port in self.document.model.graph.input if not self.leaves(port)}
        return [fresh.port() for fresh in self.fresh.values() if fresh.name not in listed]


def edition(net: Net) -> Edition:
    """How a net differs from the file that it came from. Raises UsageError at edits that no file can hold."""
    _require_own(net)
    _require_as_read(net)
    behind = behind_edits(net)
    edited = _Editing(net, behind).edit()
    _require_known(edited)
    _require_single(edited, net.inputs)
    untyped = {port.name for port in edited.outputs or () if port.type.WhichOneof("value") is None}
    if behind or untyped:
        found = _found(edited, behind | untyped, as_declared=True)
        _require_fitting(edited, behind, found)
        _resize(edited, behind | untyped, found)
    return edited


def _require_fitting(edited: Edition, behind: set[str], found: Types) -> None:
    """Stop at a node behind an edit that runtimes refuse by the sizes of what it reads. Raises UsageError."""
    model = edited.document.model
    for number, edit in edited.nodes:
        node = edit or model.graph.node[number]
        shapes = [found.shapes.get(name) for name in node.input]
        if not behind.isdisjoint(node.output) and not fits(Call(node, opset_of(model), (), shapes)):
            read = quoted(f"{name} {sizes(shapes[at] or ())}" for at, name in enumerate(node.input) if shapes[at])
            raise UsageError(f"{_called(node)}: what it reads does not fit together, and runtimes refuse that: {read}")


def _require_known(edited: Edition) -> None:
    """Stop at a node with another one's name, or of operators that have no version there. Raises UsageError."""
    model = edited.document.model
    old = model.graph.node
    names = Counter((node or old[number]).name for number, node in edited.nodes)
    had = Counter(node.name for node in old)
    versions = {item.domain for item in model.opset_import}
    for node in (node for _, node in edited.nodes if node is not None):
        layer = _called(node)
        if node.name and names[node.name] > max(1, had[node.name]):
            raise UsageError(f"{layer}: another node has its name, and runtimes refuse that; choose another")
        if node.domain not in STANDARD and node.domain not in versions:
            raise UsageError(f"{layer}: the model does not say which version of '{node.domain}' it uses (opset_import)")


def _require_single(edited: Edition, inputs: Iterable[str]) -> None:
    """Stop at no node at all, at one that makes what is an input or a constant, and at a body that makes what is there.

    Raises:
        UsageError: with the node and the name.
    """
    if not edited.nodes:
        raise UsageError("the net has no layer left, and runtimes refuse a model without a node")
    graph, tensors = edited.document.model.graph, edited.origin.tensors
    old = {*inputs, *tensors, *(name for node in graph.node for name in node.output)}
    made = {*inputs, *edited.fresh, *(tensors.keys() - edited.gone)}
    for number, edit in edited.nodes:
        node = edit or graph.node[number]
        if twice := made.intersection(filter(None, node.output)):
            raise UsageError(
                _TWICE.format(_called(node), "it makes", min(twice), "an input or a constant of the model")
            )
        inner = {name for body in bodies(node) for name in made_in(body) if edit is not None or name not in old}
        if twice := made.intersection(filter(None, inner)):
            raise UsageError(_TWICE.format(_called(node), "its bodies make", min(twice), "a value in front of it"))
        made.update(node.output)


_TWICE = "{}: {} '{}', and {} has that name; choose another (Net.rename)"


def _called(node: NodeProto) -> str:
    return f"layer '{node.name or next(iter(node.output), '')}' ({node.op_type})"


def _resize(edited: Edition, behind: set[str], found: Types) -> None:
    """Correct what the file says of the sizes and types of some values; what cannot be found out is left open."""
    graph = edited.document.model.graph
    outputs = list(graph.output) if edited.outputs is None else edited.outputs
    stated = filter(None, map(edited.renamed, graph.value_info))
    called = found.called(edited.origin.sizes_named)
    for port in (*outputs, *stated):
        if port.name in behind and port.type.WhichOneof("value") in (None, "tensor_type"):
            element = found.elements.get(port.name, port.type.tensor_type.elem_type)
            resized = _port(port, element, found.dims(port.name, called))
            if resized != port:
                edited.resized[port.name] = resized
    if any(port.name in edited.resized for port in outputs):
        edited.outputs = [edited.resized.get(port.name, port) for port in outputs]


def _port(port: ValueInfoProto, element: int, dims: Sequence[int | str | None] | None) -> ValueInfoProto:
    """A port of another type and shape; without either where that is not known, since runtimes refuse a type 0."""
    made = deepcopy(port)
    made.ClearField("type")
    if element:
        made.type.CopyFrom(helper.make_tensor_type_proto(element, dims))
    return made


class _Editing:
    """The state of `edition`."""

    def __init__(self, net: Net, behind: set[str]) -> None:
        self._net = net
        self._behind = behind
        self._origin: OnnxOrigin = net.origin
        self._names = Names((*self._origin.names, *blobs_of(net)), "_")
        self._edition = Edition(net.origin)
        self._read: set[str] = set()
        self._taken: dict[str, list[Weight]] = {}

    @cached_property
    def _readers(self) -> Counter[str]:
        """How many inputs of the net's nodes have the name of an initialiser: a program may have put in others."""
        slots = (slot for layer in self._net.layers for slot in layer.param.slots)
        return Counter(slot.name for slot in slots if isinstance(slot, ConstantInput))

    def edit(self) -> Edition:
        graph = self._origin.document.model.graph
        if self._net.name != graph.name:
            self._edition.name = self._net.name
        if self._net.outputs != [port.name for port in graph.output]:
            self._edition.outputs = list(self._ports())
        layers = (layer for layer in self._net.layers if self._known.get(layer.param.number) is not layer)
        messages = {id(layer): self._message(layer) for layer in layers}
        alive = self._alive(messages)
        self._edition.nodes = list(self._ordered(messages, alive))
        kept = self._read | self._edition.fresh.keys()
        if not self._origin.options.until:  # who feeds an input would miss it
            kept |= self._origin.fed
        self._edition.gone = {name for name in self._origin.tensors.keys() - kept if self._origin.readings.get(name)}
        self._edition.values = self._values_now()
        return self._edition

    def _values_now(self) -> dict[str, str | None]:
        """What becomes of the names of values, as `Edition` has it."""
        graph, nodes = self._origin.document.model.graph, self._origin.document.model.graph.node
        present = {number for number, _ in self._edition.nodes}
        made = {name for number, node in self._edition.nodes for name in (node or nodes[number]).output}
        lost = (name for number, node in enumerate(nodes) if number not in present for name in node.output if name)
        values: dict[str, str | None] = dict.fromkeys(name for name in lost if name not in made)
        declared = {*self._net.outputs, *(port.name for port in graph.value_info)}
        for layer in self._net.layers:
            if isinstance(layer.source, NodeSource):
                for old, new in zip(layer.source.tops, layer.tops, strict=False):
                    if old != new and old not in made:
                        values[old] = None if new in declared else new
        return values

    def _ports(self) -> Iterator[ValueInfoProto]:
        """The outputs: those of the file as it declares them, others as far as their shapes and types are known."""
        origin, graph = self._origin, self._origin.document.model.graph
        called = origin.declared.called(origin.sizes_named)
        declared = {port.name: port for port in graph.output}
        lists = {port.name: port for port in graph.value_info if not port.type.HasField("tensor_type")}
        sources = ((layer.source, layer) for layer in self._net.layers if isinstance(layer.source, NodeSource))
        old = {new: was for source, layer in sources for was, new in zip(source.tops, layer.tops, strict=False)}
        for name in self._net.outputs:
            if name in declared:
                yield declared[name]
            else:  # sizes that were given are none of the file's
                was = old.get(name, name)
                dims = origin.declared.dims(was, called)
                port = _port(ValueInfoProto(name=name), origin.types.elements.get(was, 0), dims)
                if was in lists:
                    port.type.CopyFrom(lists[was].type)
                yield port

    def _message(self, layer: Layer) -> NodeProto | None:
        """The layer as a node; None where it is what it was. Notes what it reads."""
        param: Node = layer.param
        if layer.type != param.layer_type:
            raise UsageError(f"{layer}: its param is a {param.layer_type}, and what a node computes is said there")
        self._read.update(layer.bottoms, param.captures)
        if isinstance(layer.source, NodeSource) and param is layer.source.param:
            self._require_untouched(layer)
        stale = not self._behind.isdisjoint(layer.tops) and any(bodies(param.proto))
        if _is_unchanged(layer) and not stale:
            self._read.update(slot.name for slot in param.slots if isinstance(slot, ConstantInput))
            return None
        _require_ports(layer)
        node = deepcopy(param.proto)
        if stale:
            _forget_sizes(node)
        # A node without a name is called otherwise.
        if layer.name != (layer.source.name if isinstance(layer.source, NodeSource) else node.name):
            node.name = layer.name
        node.input[:] = [self._input(layer, param, place) for place in range(len(param.slots))]
        node.output[:] = [layer.tops[at] if isinstance(at, int) else at or "" for at in param.outputs]
        _rename_shards(node, param.proto)
        return node

    @cached_property
    def _places(self) -> list[Field]:
        """Where each node lies in the file."""
        return [part for part in self._origin.document.inner if part[:2] == (NODE, LENGTH)]

    def _require_untouched(self, layer: Layer) -> None:
        """Stop where a program has written into a node, whose shapes were found as it was. Raises UsageError."""
        place, proto = self._places[layer.param.number], layer.param.proto
        read = bytes(self._origin.document.buffer[place.at : place.end])
        slim, now = layer.param.number in self._origin.document.constants, proto.SerializeToString()
        if not slim and now != read and now != NodeProto.FromString(read).SerializeToString():
            raise UsageError(
                f"{layer}: a program has written into its node; set layer.param to param.edited(...) instead"
            )

    def _input(self, layer: Layer, param: Node, place: int) -> str:
        slot = param.slots[place]
        if slot is None:
            return ""
        if isinstance(slot, BottomInput):
            return layer.bottoms[slot.index]
        stored = layer.blobs.stored[slot.blob] if slot.blob >= 0 else slot.value
        if slot.name and stored is slot.value:
            self._read.add(slot.name)
            return slot.name
        assert stored is not None
        return self._named(layer, slot.name, stored, place)

    def _named(self, layer: Layer, old: str, stored: Stored, place: int) -> str:
        """The name of new values: the old one where nobody else reads it, that of equal values, or a new one."""
        for fresh in self._taken.get(old, ()) if old else ():
            if same_values(fresh.stored, stored):
                return fresh.name
        alone = self._origin.readings.get(old) == 1 and self._readers[old] == 1
        if old and alone and old not in self._origin.fed:
            name = old
        else:
            word = "bias" if place == BIASES.get(layer.type) else "value"
            name = self._names.new(f"{old}/{layer.name}" if old else f"{layer.name}.{word}")
        fresh = Weight.of(name, stored)
        self._edition.fresh[fresh.name] = fresh
        self._taken.setdefault(old, []).append(fresh)
        return fresh.name

    @cached_property
    def _known(self) -> dict[int, Layer]:
        """Number -> layer, of those that compute a constant all the same."""
        layers = (layer for layer in self._net.layers if layer.param.number >= 0)
        return {layer.param.number: layer for layer in layers if _is_known(layer, self._origin)}

    def _alive(self, messages: dict[int, NodeProto | None]) -> set[int]:
        """The nodes that compute constants and are still needed: they are read, or nobody ever read them.

        What is not needed reads nothing, so the messages of layers among them are made here.
        """
        nodes = self._origin.document.model.graph.node
        self._read |= self._origin.pinned | set(self._net.outputs)
        alive: set[int] = set()
        for number in range(len(nodes) - 1, -1, -1):
            expression = self._origin.expressions.get(number)
            layer = self._known.get(number)
            if expression is None and layer is None:
                continue
            outputs = [name for name in nodes[number].output if name]
            needed = any(name in self._read and name not in self._edition.fresh for name in outputs)
            if needed or not any(self._origin.readings.get(name) for name in outputs):
                alive.add(number)
                self._read.update(expression if expression is not None else ())
                if layer is not None:
                    messages[id(layer)] = self._message(layer)
        return alive

    def _ordered(
        self, messages: dict[int, NodeProto | None], alive: set[int]
    ) -> Iterator[tuple[int, NodeProto | None]]:
        """The nodes of the new file: layers in their order, what computes constants where it stood or is first read."""
        nodes, known = self._origin.document.model.graph.node, self._known
        makers = {name: number for number in (*self._origin.expressions, *known) for name in nodes[number].output}
        waiting = deque(sorted(self._origin.expressions))
        done: set[int] = set()
        for layer in self._net.layers:
            param, number = layer.param, layer.param.number
            is_known = known.get(number) is layer
            needed: set[int] = set()
            front = [number] if is_known else []
            while waiting and waiting[0] < number:
                front.append(waiting.popleft())
            read = (slot.name for slot in param.slots if isinstance(slot, ConstantInput))
            front += [makers[name] for name in (*read, *param.captures) if name in makers]
            while front:
                if (one := front.pop()) not in done:
                    done.add(one)
                    needed.add(one)
                    front += [makers[name] for name in nodes[one].input if name in makers]
            for one in sorted(needed & alive):
                yield one, messages[id(known[one])] if one in known else None
            if not is_known:
                yield number, messages[id(layer)]
        yield from ((number, None) for number in waiting if number in alive and number not in done)


def _forget_sizes(node: NodeProto) -> None:
    """Leave open what the bodies of a node say of sizes; they are found out from what they read."""
    for inner in all_nodes([node]):
        counts = 2 if inner.op_type == "Loop" else 0  # of rounds, and whether there is another; they are no data
        for body in bodies(inner):
            for port in (*body.input[counts:], *body.output, *body.value_info):
                if port.type.HasField("tensor_type"):
                    port.type.tensor_type.ClearField("shape")


def _is_known(layer: Layer, origin: OnnxOrigin) -> bool:
    """Whether what a layer computes is a constant all the same: it reads no more than a shape or a type."""
    made = origin.document.model.graph.node[layer.param.number].output  # a program may have renamed a blob since
    return bool(layer.tops) and all(top in origin.constants and top in made for top in layer.tops)


def _is_unchanged(layer: Layer) -> bool:
    source = layer.source
    if not isinstance(source, NodeSource) or layer.param is not source.param or layer.type != source.param.layer_type:
        return False
    connected = (tuple(layer.bottoms), tuple(layer.tops)) == (source.bottoms, source.tops)
    return connected and layer.name == source.name and layer.blobs.is_same(source.blobs)


def _require_ports(layer: Layer) -> None:
    """Stop at what a layer was given that its node has no place for. Raises UsageError."""
    param: Node = layer.param
    places = {
        "bottom": (len(layer.bottoms), sum(isinstance(slot, BottomInput) for slot in param.slots) + param.inner),
        "top": (len(layer.tops), sum(isinstance(at, int) for at in param.outputs)),
        "blob": (len(layer.blobs), sum(isinstance(slot, ConstantInput) and slot.blob >= 0 for slot in param.slots)),
    }
    for noun, (given, wanted) in places.items():
        if given != wanted:
            verb = "makes" if noun == "top" else "reads"
            raise UsageError(f"{layer}: it has {counted(given, noun)}, and its param {verb} {wanted}")
    inner = [name for name in captured(param.proto) if name not in param.captures] if param.inner else []
    if inner != list(layer.bottoms[len(layer.bottoms) - param.inner :]):
        raise UsageError(f"{layer}: its bodies read {quoted(inner)}, and a param with other bodies would read others")


def _require_own(net: Net) -> None:
    """Stop at a node that was read from another file: its number and the names of its constants mean others here.

    Raises:
        UsageError: with what to do instead.
    """
    for layer in net.layers:
        if layer.param.reading not in (b"", net.origin.reading):
            raise UsageError(
                f"{layer}: its node was read from another file, or with another bnfold.load, and its constants lie "
                "there; give its blobs to a layer of this net, or join the models before they are read"
            )


def _require_as_read(net: Net) -> None:
    """Stop at what a program has set and a model's file does not take. Raises UsageError."""
    origin: OnnxOrigin = net.origin
    inputs = inputs_of(origin.document.model, origin.types, origin.constants)
    if list(net.inputs) != list(inputs):
        raise UsageError(
            f"the inputs of an ONNX net stay those of its file, {quoted(inputs)}; they are now {quoted(net.inputs)}"
        )
    if changed := [name for name, shape in net.inputs.items() if tuple(shape) != inputs[name]]:
        raise UsageError(
            f"input '{changed[0]}' was read as {sizes(inputs[changed[0]])}, and keeps its sizes; bnfold.load gives it "
            "others (input_shapes, batch)"
        )
    if said := [f"Net.{word}" for word in _OF_CAFFE if getattr(net, word)]:
        raise UsageError(f"{said[0]} says what is in Caffe's files, and an ONNX net has none")


_OF_CAFFE = ("public", "preparation", "batchnorm_layout", "zero_factor")


def types_of(net: Net) -> Types:
    """The shapes and types of a net's blobs; found anew where it is not as it was read."""
    _require_own(net)
    origin: OnnxOrigin = net.origin
    as_read = len(net.layers) + len(origin.expressions) == len(origin.document.model.graph.node)
    if as_read and all(map(_is_unchanged, net.layers)):
        return origin.types
    _require_as_read(net)
    behind = behind_edits(net)
    return _found(_Editing(net, behind).edit(), behind)


def _found(edited: Edition, behind: set[str], *, as_declared: bool = False) -> Types:
    """What can be found out about the blobs of a net that is no more as it was read.

    Args:
        edited: how it differs, without `resized`.
        behind: the blobs of which the file's sizes are not to be believed.
        as_declared: without the sizes that whoever read the file gave.
    """
    origin = edited.origin
    model, weights = _message(edited)
    numbers = origin.numbers
    if as_declared and origin.types is not origin.declared:
        numbers = {name: value for name, value in numbers.items() if name in origin.tensors}
        declared = {port.name: port for port in origin.document.declared_inputs()}
        for port in model.graph.input:
            port.CopyFrom(declared.get(port.name, port))
    for weight in weights:
        model.graph.input.append(weight.port())
    kept = [port for port in model.graph.value_info if port.name not in behind]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    for port in model.graph.output:
        if port.name in behind and port.type.HasField("tensor_type"):
            port.ClearField("type")
    return infer(model, (), dict(numbers))


# As a message.


def message_of(net: Net) -> tuple[ModelProto, tuple[Weight, ...]]:
    """The net as a model without its large weights, and these, which read their values when they are asked."""
    return _message(edition(net))


def _rename_shards(node: NodeProto, old: NodeProto) -> None:
    """Have what a node says of its values on several devices call them as they are called now."""
    names = dict([*zip(old.input, node.input, strict=False), *zip(old.output, node.output, strict=False)])
    for configuration in getattr(node, "device_configurations", ()):  # which onnx has since 1.18
        for spec in configuration.sharding_spec:
            spec.tensor_name = names.get(spec.tensor_name, spec.tensor_name)


def _message(edited: Edition) -> tuple[ModelProto, tuple[Weight, ...]]:
    document = edited.document
    model = deepcopy(document.model)
    graph = model.graph
    nodes = [node if node is not None else document.model.graph.node[number] for number, node in edited.nodes]
    if edited.name is not None:
        graph.name = edited.name
    del graph.node[:], graph.value_info[:], graph.input[:]
    graph.node.extend(nodes)
    for position, (number, node) in enumerate(edited.nodes):
        if node is None and number in document.constants:
            fill_constant(graph.node[position], document.constants[number])
    graph.value_info.extend(filter(None, map(edited.renamed, document.model.graph.value_info)))
    graph.input.extend(port for port in document.model.graph.input if not edited.leaves(port))
    graph.input.extend(edited.new_inputs())
    if edited.outputs is not None:
        del graph.output[:]
        graph.output.extend(edited.outputs)
    weights = []
    for tensor in (*document.tensors, *document.sparse):
        if tensor.name in edited.gone or tensor.name in edited.fresh:
            continue
        if (weight := tensor.weight) is not None and weight.nbytes >= EXTERNAL_FROM:
            weights.append(weight)
        else:
            graph.initializer.append(whole(tensor))
    return model, (*weights, *edited.fresh.values())
