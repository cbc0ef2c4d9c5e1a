"""From an ONNX file to a net: nodes become layers, values that are known beforehand are none of its blobs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from operator import gt
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from bnfold.algebra.scaled import same_values
from bnfold.errors import (
    ModelError,
    ParseError,
    UnsupportedError,
    UsageError,
    WeightsError,
    counted,
    did_you_mean_blob,
    did_you_mean_of,
    telling_which,
)
from bnfold.net import Array, Blobs, Layer, Net, end_notes, sizes
from bnfold.onnx.file import ANEW, Document, Tensor, document_of, read_document
from bnfold.onnx.frontend import OnnxFrontEnd
from bnfold.onnx.functions import NoBody, is_branching, with_bodies, with_branches
from bnfold.onnx.node import (
    STANDARD,
    BottomInput,
    ConstantInput,
    Node,
    Slot,
    attribute_value,
    bodies,
    captured,
    is_float,
    keeps_outside,
    made_in,
    names_in,
)
from bnfold.onnx.order import circle
from bnfold.onnx.origin import CONSTANTS_ARE_INPUTS, NodeSource, OnnxOrigin
from bnfold.onnx.shapes import Types, held, infer, inputs_of
from bnfold.options import ReadOptions

ELEMENTS = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
"""The numbers of the types that a tensor's values may have."""

FREEZES_NOTHING = "--freeze-initializers changes nothing: no initialiser is an input that may be fed"

SORTS = "some nodes stand in front of those that make what they read, as ONNX forbids; they are written sorted"


def load_onnx(file: str | os.PathLike[str], options: ReadOptions) -> Net:
    """Read an ONNX model as a net. Weights are mapped, not read.

    Args:
        file: the model; what it keeps outside must lie in its folder.
        options: `input_shapes` and `batch` where the model leaves sizes open, and `freeze_initializers`.

    Raises:
        ParseError: the file cannot be read, or is no ONNX model.
        WeightsError: a tensor is said to lie where it does not, or may not.
        ModelError: what it says is no network.
        UnsupportedError: a node keeps values outside of the model.
        UsageError: `input_shapes` names what is no input.
    """
    return net_of(read_document(Path(file)), options)


def load_bytes(data: bytes, options: ReadOptions = ReadOptions(), file: str = "model.onnx") -> Net:
    """The same for a model in memory; `file` is what messages call it.

    Raises:
        WeightsError: its weights lie in another file.
        BnfoldError: as `load_onnx`.
    """
    document = document_of(data, Path(file), outside=False)
    if document.keeps_outside:
        raise WeightsError(
            f"{file}: has weights in a file beside it, and a model in memory lies in no folder; give its path, or load "
            "them into it first (onnx.load, onnx.external_data_helper)"
        )
    return net_of(document, options)


def net_of(document: Document, options: ReadOptions = ReadOptions()) -> Net:
    """The net that a file holds. Raises as `load_onnx`."""
    with telling_which(str(document.path)):
        return _net_of(document, options)


def _net_of(document: Document, options: ReadOptions) -> Net:
    found, (document, note) = document, with_bodies(document)
    document, decided = _with_branches(document, options)
    model = document.model
    tensors, listed, fixed = _stored(document, options)
    captures = [captured(node) for node in model.graph.node]
    _require_sense(document, tensors, captures)
    declared, types, constants, sized = _known(document, tensors, fixed, options)
    pinned = list(_other_reads(document))
    read = _Layers(model, constants, captures, {*pinned, *options.until})
    layers, inputs = read.layers, inputs_of(model, types, constants)
    outputs = [port.name for port in model.graph.output]
    origin = OnnxOrigin(
        document=document,
        found=found,
        types=types,
        constants=constants,
        expressions=read.expressions,
        fed=frozenset(tensors.keys() - fixed.keys()),
        readings=Counter((*read.reads, *pinned, *outputs)),
        pinned=frozenset(pinned),
        names=frozenset(names_in(model.graph)) | tensors.keys(),
        options=options,
        tensors=tensors,
        declared=declared,
        reading=read.reading,
        sized=sized,
    )
    ended: list[str] = []
    if options.until:
        outputs = list(dict.fromkeys(options.until))
        _require_computed(outputs, layers, constants, inputs, document.path)
        needed = _needed_for(outputs, model, captures)
        kept = [layer for layer in layers if not needed.isdisjoint(layer.tops)]
        ended = end_notes(outputs, len(layers) - len(kept))
        layers = kept
    freezes_nothing = options.freeze_initializers and not listed
    return Net(
        name=model.graph.name,
        _layers=layers,
        inputs=inputs,
        outputs=outputs,
        notes=[
            *[SORTS] * (not found.is_sorted),
            *filter(None, [note, decided]),
            *ended,
            *[FREEZES_NOTHING] * freezes_nothing,
        ],
        file=str(document.path),
        origin=origin,
        front=ONNX,
    )


def _with_branches(document: Document, options: ReadOptions) -> tuple[Document, str]:
    """The file with branches in the place of Ifs of which neither data nor open sizes decide, and a note that says so.

    A branch may have Ifs of its own, of which the same is known when it is in place.
    """
    count = 0
    while choices := [node for node in document.model.graph.node if is_branching(node)]:
        model, (tensors, _, known) = document.model, _stored(document, options)
        given = {port.name for port in model.graph.input} - known.keys()
        if given.issuperset(node.input[0] for node in choices):  # as the switch of a decoder with and without a cache
            break
        _require_sense(document, tensors, [captured(node) for node in model.graph.node])
        infer(model, tensors.values(), known, document.constants)
        values = {node.input[0]: known.get(node.input[0]) for node in choices}
        decided = {name: bool(value.item()) for name, value in values.items() if value is not None and value.size == 1}
        if not decided:
            break
        try:
            document = with_branches(document, decided, {*_other_reads(document), *options.until})
        except NoBody as error:
            return document, f"the branches of Ifs whose conditions are constant stay where they are: {error}"
        count += sum(node.input[0] in decided for node in choices)
    if not count:
        return document, ""
    verb = "was read as the branch that it takes, and is" if count == 1 else "were read as their branches, and are"
    return document, f"{counted(count, 'If')} of a constant condition {verb} written so where anything folds"


def _known_by_sizes(
    constants: Mapping[str, Array | None], sized: Mapping[str, Array | None]
) -> dict[str, Array | None]:
    """The constants where the user gives sizes: what follows from the sizes alone is one without a value (None).

    Args:
        constants: those of the file as it is.
        sized: those that there are with the sizes; only integers and flags count of what the file leaves open.
    """
    whole = {name for name, value in sized.items() if value is not None and value.dtype.kind in "biu"}
    kept = constants.keys() | whole
    return {name: value if name in constants else None for name, value in sized.items() if name in kept}


def _needed_for(names: Iterable[str], model: ModelProto, captures: Sequence[Sequence[str]]) -> set[str]:
    """The names with all values that they are computed from, constants among them.

    Args:
        names: what is needed.
        model: its nodes stand in the order in which they run.
        captures: of each node, the names that its bodies read from outside.
    """
    needed = set(names)
    for node, inner in zip(reversed(model.graph.node), reversed(captures), strict=True):
        if any(name in needed for name in node.output if name):
            needed.update(node.input, inner)
    return needed


def _require_computed(
    names: Iterable[str], layers: Iterable[Layer], constants: Container[str], inputs: Container[str], file: Path
) -> None:
    """Stop where a network shall end in what no layer makes. Raises UsageError."""
    tops = dict.fromkeys(top for layer in layers for top in layer.tops)
    if missing := set(names) - tops.keys():
        name = min(missing)
        why = "the network has no blob of that name"
        if name in constants:
            why = "that is a weight, or computed before anything runs"
        elif name in inputs:
            why = "that is an input"
        raise UsageError(f"{file}: --until {name}: {why}{did_you_mean_blob(name, tops, '--until')}")


def give_sizes(model: ModelProto, input_shapes: Mapping[str, Sequence[int]], file: Path | str) -> None:
    """Write sizes that the user gives into a message.

    Raises:
        UsageError: there is no such input, or it has another number of axes.
    """
    ports = {port.name: port for port in model.graph.input}
    for name, shape in input_shapes.items():
        if name not in ports:
            guess = did_you_mean_of(name, ports)
            raise UsageError(f"{file}: --input-shape {name}: the network has no input of that name{guess}")
        kind = ports[name].type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim) != len(shape):
            raise UsageError(
                f"{file}: input '{name}' has {counted(len(kind.shape.dim), 'axis')}, and was given "
                f"{counted(len(shape), 'size')}"
            )
        del kind.shape.dim[:]
        for size in shape:
            kind.shape.dim.add(dim_value=held(size))


def _give_ranks(model: ModelProto, input_shapes: Mapping[str, Sequence[int]]) -> None:
    """Have inputs without a shape say as many axes as the user gives sizes, each open."""
    for port in model.graph.input:
        kind = port.type.tensor_type
        if port.name in input_shapes and port.type.HasField("tensor_type") and not kind.HasField("shape"):
            kind.shape.SetInParent()
            for _ in input_shapes[port.name]:
                kind.shape.dim.add()


def _give_batch(document: Document, batch: int) -> None:
    stored = {tensor.name for tensor in document.tensors}
    for port in document.model.graph.input:
        if port.name not in stored and port.type.tensor_type.shape.dim:
            port.type.tensor_type.shape.dim[0].dim_value = held(batch)


def _stored(document: Document, options: ReadOptions) -> tuple[dict[str, Tensor], set[str], dict[str, Array | None]]:
    """The initialisers by name, those that are inputs, too, and the values of those that may not be fed.

    They are None for a type that numpy has not.

    Raises:
        WeightsError: one is of a type that onnx does not know, or has not the values that its shape and type need, or
            two of one name have different ones.
    """
    tensors: dict[str, Tensor] = {}
    stored: dict[str, Array | None] = {}
    for tensor in (*document.tensors, *document.sparse):
        called, values = f"{document.path}: tensor '{tensor.name}'", tensor.array()
        if tensor.header.data_type not in ELEMENTS:
            number = tensor.header.data_type
            raise WeightsError(
                f"{called} has the type {number or 'UNDEFINED'}, which this version of onnx does not know; update it"
            )
        if values is None and tensor.dtype is not None:
            lacks = f"has not the values that {sizes(tensor.shape)} of {tensor.dtype.name} need, or is part of another"
            raise WeightsError(f"{called} {lacks}; {ANEW}")
        if tensor.name in tensors:
            other = stored[tensor.name]
            if values is None or other is None or not same_values(other, values):
                raise WeightsError(f"{called} is stored twice, and runtimes differ in which they take; remove one")
        tensors[tensor.name], stored[tensor.name] = tensor, values
    may_be_fed = document.model.ir_version >= CONSTANTS_ARE_INPUTS
    listed = {port.name for port in document.model.graph.input if port.name in tensors and may_be_fed}
    may_change = set[str]() if options.freeze_initializers else listed
    return tensors, listed, {name: values for name, values in stored.items() if name not in may_change}


def _require_sense(document: Document, tensors: Mapping[str, Tensor], captures: Sequence[Sequence[str]]) -> None:
    """Stop at what is no graph: a value that is made twice, or read before it is made."""
    graph, file = document.model.graph, document.path
    known = any(item.domain in STANDARD for item in document.model.opset_import)
    if not known and any(node.domain in STANDARD for node in graph.node):
        raise ParseError("does not say which version of the standard operators it uses (opset_import); set it", file)
    made = set(tensors) | {port.name for port in graph.input}
    for number, (node, inner) in enumerate(zip(graph.node, captures, strict=True)):
        for name in (*node.input, *inner):
            if name and name not in made:
                raise ModelError(f"{file}: {_called(node, number)} reads '{name}', {_why_unmade(graph, node, name)}")
        for name in filter(None, node.output):
            if name in made:
                raise ModelError(f"{file}: {_called(node, number)} makes '{name}', which is there already; rename one")
            made.add(name)
        if keeps_outside(node):
            raise UnsupportedError(
                f"{file}: {_called(node, number)} keeps values of an attribute outside of the model; only initialisers "
                "may lie there: load and save it with onnx's own functions first"
            )
    for port in graph.output:
        if port.name not in made:
            raise ModelError(f"{file}: nothing makes its output '{port.name}'; take it out of the outputs")


def _why_unmade(graph: GraphProto, node: NodeProto, name: str) -> str:
    """Why nothing makes a value in front of a node that reads it."""
    if any(name in made_in(body) for body in bodies(node)):
        return "which its body makes only behind that; sort the nodes of the body"
    if name not in {made for other in graph.node for made in other.output}:
        return "which nothing makes"
    waiting = [f"'{one.name or next(iter(one.output))}' ({one.op_type})" for one in circle(graph.node)]
    return f"and nodes wait for each other in a circle: {', '.join(waiting[:9])}{' ..' * (len(waiting) > 9)}"


def _called(node: NodeProto, number: int) -> str:
    return f"node '{node.name or next(iter(node.output), number)}' ({node.op_type})"


def _known(
    document: Document, tensors: Mapping[str, Tensor], sized: dict[str, Array | None], options: ReadOptions
) -> tuple[Types, Types, dict[str, Array | None], dict[str, Array | None]]:
    """What `OnnxOrigin` has as `declared`, `types`, `constants` and `sized`, the last of which are given as stored.

    Sizes that the user gives are written into the message. A model stays open for others: what nodes compute of these
    is known to no law.
    """
    model, shapes, constants = document.model, options.input_shapes or {}, dict(sized)
    _give_ranks(model, shapes)
    # Shapes, and constants with what follows from them; of the two each may need the other.
    declared = infer(model, tensors.values(), constants, document.constants)
    if not shapes and options.batch is None:
        return declared, declared, constants, constants
    give_sizes(model, shapes, document.path)
    if options.batch is not None:
        _give_batch(document, options.batch)
    types = infer(model, tensors.values(), sized, document.constants)
    return declared, types, _known_by_sizes(constants, sized), sized


def _other_reads(document: Document) -> Iterator[str]:
    """The names that quantisation annotations and the training part read, once for each reading."""
    for note in document.model.graph.quantization_annotation:
        yield from (entry.value for entry in note.quant_parameter_tensor_names)
    for training in document.model.training_info:
        yield from {*names_in(training.algorithm), *names_in(training.initialization)}
        for entry in (*training.initialization_binding, *training.update_binding):
            yield entry.key
            yield entry.value


LEAVES_OUT = {"BatchNormalization": 7, "Dropout": 7, "LayerNormalization": 17, "MaxPool": 8}
"""Operator -> the opset since which its first output is the same without the others, which exporters often name."""
GIVES_ALL = frozenset({"BatchNormalization"})
"""Operators of `LEAVES_OUT` whose outputs keep their names: before opset 14 they alone tell training mode, and since
then training mode is not valid without them."""


def _needs_all(node: NodeProto) -> bool:
    """Whether onnxruntime cannot run a node without its further outputs: a MaxPool with SAME that skips pixels."""
    strides, kernel = (attribute_value(node, name, ()) for name in ("strides", "kernel_shape"))
    is_same = attribute_value(node, "auto_pad", "").startswith("SAME")
    return node.op_type == "MaxPool" and is_same and any(map(gt, strides, kernel))


class _Layers:
    """Layers from nodes.

    Args:
        model: the nodes.
        constants: what is known beforehand.
        captures: what the bodies of each node read from outside.
        wanted: what else somebody reads.

    Attributes:
        layers: those that compute something, in order.
        expressions: number of a node that computes a constant from constants -> the names that it reads.
        reads: every name, as often as a node reads it.
        reading: what they have in common.
    """

    def __init__(
        self, model: ModelProto, constants: Mapping[str, Array | None], captures: Sequence[list[str]], wanted: set[str]
    ) -> None:
        self.reading = os.urandom(8)
        self._constants, self._opsets = constants, {item.domain: item.version for item in model.opset_import}
        self._wanted = wanted.union(*(node.input for node in model.graph.node), *captures)
        self._wanted |= {port.name for port in model.graph.output}
        self.layers: list[Layer] = []
        self.expressions: dict[int, tuple[str, ...]] = {}
        self.reads: list[str] = []
        for number, (node, inner) in enumerate(zip(model.graph.node, captures, strict=True)):
            reads = [name for name in (*node.input, *inner) if name]
            self.reads += reads
            outputs = [name for place, name in enumerate(node.output) if name in self._wanted or (name and not place)]
            if outputs and all(name in constants for name in (*outputs, *reads)):
                self.expressions[number] = tuple(reads)
            else:
                self.layers.append(self._layer(node, number, inner))

    def _layer(self, node: NodeProto, number: int, inner: list[str]) -> Layer:
        bottoms: list[str] = []
        stored: list[Array] = []
        slots: list[Slot] = []
        for name in node.input:
            if not name:
                slots.append(None)
            elif name in self._constants:
                value = self._constants[name]
                if value is not None and is_float(value.dtype):
                    slots.append(ConstantInput(name, value, len(stored)))
                    stored.append(value)
                else:
                    slots.append(ConstantInput(name, value))
            else:
                slots.append(BottomInput(len(bottoms)))
                bottoms.append(name)
        bottoms += [name for name in inner if name not in self._constants]
        opset = self._opsets.get(node.domain, self._opsets.get("ai.onnx" if node.domain == "" else "", 0))
        tops, outputs = self._outputs(node, opset)
        param = Node(
            node,
            opset,
            tuple(slots),
            outputs,
            tuple(name for name in inner if name in self._constants),
            sum(name not in self._constants for name in inner),
            number=number,
            reading=self.reading,
        )
        blobs = Blobs(stored)
        name = node.name or (tops[0] if tops else f"{node.op_type}{number}")
        source = NodeSource(param, blobs, tuple(bottoms), tuple(tops), name)
        return Layer(name, param.layer_type, bottoms, tops, blobs, param, source)

    def _outputs(self, node: NodeProto, opset: int) -> tuple[list[str], tuple[int | str | None, ...]]:
        """The tops of a node, and what stands at each place of its outputs, as `Node` has them."""
        names, idle = list(node.output), set[str]()
        if node.domain in STANDARD and opset >= LEAVES_OUT.get(node.op_type, opset + 1) and not _needs_all(node):
            idle = {*filter(None, names[1:])} - self._wanted
            while node.op_type not in GIVES_ALL and len(names) > 1 and (not names[-1] or names[-1] in idle):
                names.pop()
        tops = [name for name in names if name and name not in idle]
        places = iter(range(len(tops)))
        return tops, tuple(name if name in idle else next(places) if name else None for name in names)


ONNX = OnnxFrontEnd(load_bytes)
"""The front end of every net that is read here."""
