"""A network to be compared: as ONNX, so that it can be run, with the layer that writes each of its blobs."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from bnfold.compare.incomparable_nodes import ALL_COMPARABLE, IncomparableNodes, incomparable_nodes
from bnfold.compare.isolated import IsolatedSession
from bnfold.compare.standins import onnx_stand_ins, stand_ins
from bnfold.compare.unrunnable_layers import ALL_RUN, UnrunnableLayers, runnable, same_layers
from bnfold.data.samples import UNRANKED, Feed
from bnfold.data.standins import FLAG, Indices
from bnfold.errors import ModelError, ParseError, UnsupportedError, UsageError, telling_which
from bnfold.io.files import descriptor_of, nearby, os_path
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import read_file, release_pages, require_unchanged
from bnfold.net import Array, DType, Net, Shape, require_net
from bnfold.options import ROUNDING, TEXT, CompareOptions
from bnfold.runtime import ELEMENTS, Session

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, TypeProto

    from bnfold.loading import Model as Given
    from bnfold.onnx.double import Conversion
    from bnfold.onnx.graph import WeightStore
    from bnfold.onnx.stored_values import Parts
    from bnfold.onnx.weight import Weight

    Source = Net | Given


@dataclass(frozen=True, slots=True)
class Writer:
    """The layer (or ONNX node) that writes a blob: name, type, and whether it learned anything."""

    layer: str
    type: str
    weighted: bool


@dataclass(repr=False)
class Model:
    """One side of a comparison.

    Attributes:
        name: what the user called it.
        proto: the network as ONNX, without its weights where it comes from a file or was a Caffe network.
        weights: these weights, read when they are asked for.
        net: the network as Caffe; None when it came as ONNX.
        folder: where external weights of `proto` lie.
        writers: blob -> who writes it, in order of execution.
        reads: value -> the values that its writer reads; lists and text, which are no blobs, are among them.
        feeds: input -> what it takes.
        outputs: the network's own outputs, as far as they can be run; an input that nobody reads is one in Caffe, and
            computes nothing.
        unrunnable: what of a Caffe network cannot be run; `net` is the rest.
        incomparable: what of an ONNX network no values can be compared of.
        mapped: the files that its weights lie in.
        path: where it was read, as the user said it; None where it was given.
        before: the network in its own types, where this is it in float32.
        notes: what was assumed when its file was read.
    """

    name: str
    proto: ModelProto
    weights: tuple[Weight, ...]
    net: Net | None
    folder: Path | None
    writers: dict[str, Writer]
    reads: dict[str, tuple[str, ...]]
    feeds: dict[str, Feed]
    outputs: list[str]
    mapped: tuple[mmap.mmap, ...] = ()
    unrunnable: UnrunnableLayers = ALL_RUN
    incomparable: IncomparableNodes = ALL_COMPARABLE
    path: str | None = None
    before: Model | None = None
    notes: tuple[str, ...] = ()

    def feeding(self, fed: Mapping[str, Shape]) -> Model:
        """The same, of which only some tops of layers that cannot be run are fed: those of `fed`, in its shapes."""
        if self.unrunnable.whole is None or fed == self.unrunnable.fed:
            return self
        return replace(_running(self.unrunnable.whole, self.name, fed), path=self.path, notes=self.notes)

    def __repr__(self) -> str:
        return f"<Model '{self.name}': {', '.join(self.feeds)} -> {', '.join(self.outputs)}>"

    @property
    def uncompared(self) -> UnrunnableLayers | IncomparableNodes:
        """The part of which no values are compared."""
        return self.incomparable if self.net is None else self.unrunnable

    @property
    def own(self) -> Model:
        """The network in its own types."""
        return self.before or self

    @cached_property
    def makers(self) -> dict[str, NodeProto]:
        """Value -> the node that makes it."""
        return {name: node for node in self.proto.graph.node for name in node.output}

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        """Value -> the tensor that a Constant says it is."""
        from bnfold.onnx.node import constants_among

        return constants_among(self.proto.graph.node)

    @cached_property
    def initializers(self) -> dict[str, TensorProto | Weight]:
        """Name -> what is stored under it, wherever it lies."""
        from bnfold.onnx.stored_values import stored_under

        return stored_under(self.proto, self.weights)

    @cached_property
    def stored_values(self) -> int:
        """How many values it stores."""
        stored = [prod(tensor.dims) for tensor in self.proto.graph.initializer]
        return sum([*stored, *(prod(weight.shape) for weight in self.weights)])

    @cached_property
    def inputs(self) -> dict[str, Sequence[str]]:
        """Value -> what the node that makes it reads, in its bodies, too."""
        from bnfold.onnx.node import captured

        return {name: [*node.input, *captured(node)] for name, node in self.makers.items()}

    def settings(self, blob: str) -> tuple[object, ...]:
        """What the node that makes a value says but for what it reads; bodies and functions are among it."""
        from bnfold.onnx.node import keeps_outside

        node = self.makers[blob]
        folder = self.folder if keeps_outside(node) else None
        said = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        called = [function.SerializeToString(deterministic=True) for function in self.proto.functions]
        versions = sorted((one.domain, one.version) for one in self.proto.opset_import)
        return node.domain, node.op_type, list(node.output).index(blob), said, called, versions, folder

    def reading_through_copies(self, compared: Collection[str]) -> Model:
        """The network, whose `reads` name in the place of a copy that is not compared what it was made of."""
        reads = {blob: tuple(self.source(name, compared) for name in read) for blob, read in self.reads.items()}
        return replace(self, reads=reads)

    @cached_property
    def float_types(self) -> set[str]:
        """The float types that its values have where it computes; a Cast reads another one, and makes it."""
        from bnfold.onnx.node import captured

        graph = self.proto.graph
        numbers = {port.type.tensor_type.elem_type for port in (*graph.input, *graph.output)}
        read = {port.name for port in graph.output}
        for node in graph.node:
            is_cast = node.op_type == "Cast"
            read.update(node.input[is_cast:], captured(node))
            numbers.update(attribute.i for attribute in node.attribute if is_cast and attribute.name == "to")
        numbers |= {tensor.data_type for tensor in graph.initializer if tensor.name in read}
        names = {FLOATS[number] for number in numbers if number in FLOATS}
        return names | {weight.dtype.name for weight in self.weights if weight.name in read}

    def float16_blobs(self) -> list[str]:
        """Its blobs of float16, in order of execution."""
        from bnfold.onnx.graph import inferred

        if "float16" not in self.float_types:
            return []
        types, _ = inferred(self.proto, self.weights, {name: feed.shape for name, feed in self.feeds.items()})
        return [name for name in self.writers if FLOATS.get(types.elements.get(name, 0)) == "float16"]

    @property
    def stored_type(self) -> str:
        """The coarsest of its float types."""
        names = self.float_types
        return next((name for name in FLOATS.values() if name in names), "float32")

    def copied_from(self, name: str) -> Iterator[str]:
        """A value, what it is a copy of, what that is one of, and so on."""
        yield name
        while (node := self.makers.get(name)) is not None and node.op_type in COPYING and node.output[0] == name:
            name = node.input[0]
            yield name

    def source(self, name: str, stops: Collection[str]) -> str:
        """What a value is a copy of: the nearest one among `stops`, or else the last one, which is no copy."""
        chain = [*self.copied_from(name)]
        return next((one for one in chain if one in stops), chain[-1])

    @property
    def output_shapes(self) -> list[tuple[int | None, ...]]:
        """What the network says of its outputs, None for an open size; `UNRANKED` where it says no shape."""
        said = [port.type.tensor_type for port in self.proto.graph.output]
        return [_sizes_of(tensor) if tensor.HasField("shape") else UNRANKED for tensor in said]

    @property
    def output_types(self) -> dict[str, str]:
        """Output -> the type of its numbers; those of other types are left out."""
        known = {number: dtype.name for number, dtype in ELEMENTS.items()} | FLOATS
        said = {port.name: port.type.tensor_type.elem_type for port in self.proto.graph.output}
        return {name: known[number] for name, number in said.items() if number in known}

    @property
    def tops(self) -> list[str]:
        """All blobs, in order of execution; of a network of Caffe with those that cannot be run."""
        whole = self.unrunnable.whole
        return [*self.writers] if whole is None else [top for layer in whole.layers for top in layer.tops]

    @property
    def layers(self) -> list[str]:
        """The layers that write something, in order of execution."""
        return list(dict.fromkeys(writer.layer for writer in self.writers.values()))

    @cached_property
    def is_isolated(self) -> bool:
        """Whether it runs in a process of its own, since it may loop for ever or end the one that runs it."""
        from bnfold.onnx.risks import needs_own_process

        return self.net is None and needs_own_process(self.proto)

    def session(
        self, blobs: Iterable[str], store: WeightStore, threads: int = 0, provider: str = "cpu", tf32: bool = False
    ) -> Session:
        """Something that computes `blobs` besides the outputs, as long as the store lasts that has its weights.

        Raises:
            ModelError: onnxruntime cannot run the network.
        """
        from bnfold.onnx.graph import exposed

        whole, folder = exposed(self.proto, blobs), self.folder
        require_unchanged(self.mapped)
        if self.weights:
            whole, folder = store.put(self.proto, blobs, self.weights, self.mapped)
        try:
            if self.is_isolated:
                return IsolatedSession(whole, store, threads=threads, folder=folder, provider=provider, tf32=tf32)
            return Session(whole, threads=threads, folder=folder, provider=provider, tf32=tf32)
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}; what cannot be run cannot be compared") from error

    def is_runnable(self, provider: str) -> bool:
        """Whether a provider has all operators in the types of the model; asked only where some are seldom there."""
        if self.net is not None or self.float_types.isdisjoint(SELDOM):
            return True
        ports = (*self.proto.graph.input, *self.proto.graph.output)
        unheld = provider == "cpu" and "bfloat16" in self.float_types
        if unheld or any(port.type.tensor_type.elem_type not in ELEMENTS for port in ports):
            return False  # numpy has no such values to be fed or given
        from bnfold.onnx.graph import with_inputs_for

        try:
            Session(with_inputs_for(self.proto, self.weights), provider=provider, folder=self.folder)
        except ModelError:
            return False
        return True

    def in_float32(self) -> Model:
        """The same network with its bfloat16 and float64 values as float32."""
        from bnfold.onnx.double import RUNNABLE

        weights = [replace(one, dtype=RUNNABLE.dtype) if RUNNABLE.tells(one.dtype) else one for one in self.weights]
        return replace(self._converted(weights, RUNNABLE), before=self)

    def rounded_otherwise(self, reference: Model, seed: int | None) -> Model:
        """The network in float32, as if the weights that are not the reference's had been rounded otherwise.

        Args:
            reference: what is stored there under the same name, value for value, was not rounded.
            seed: each value of 2 bytes is half a unit in its last place off, up or down by chance; None for none.
        """
        from bnfold.onnx.double import FINER
        from bnfold.onnx.stored_values import same_weight, stored_weights

        random = np.random.default_rng(seed)
        kept, weights = stored_weights(reference.parts), []
        # A fold writes 1 for a variance, exactly; moved with the factor it could undo by chance what that moves.
        variances = {
            read for node in self.proto.graph.node if node.op_type == "BatchNormalization" for read in node.input[4:5]
        }
        for name, weight in stored_weights(self.parts).items():
            if not FINER.tells(weight.dtype):
                weights.append(weight)
                continue
            values = weight.array().astype(np.float32)
            if seed is not None and not (name in kept and same_weight(weight, kept[name])):
                half = np.ldexp(np.float32(ROUNDING[weight.dtype.name] / 2), np.frexp(values)[1])
                exact = (values == 0) | ((values == 1) & (name in variances))
                values += np.where(exact, 0, half) * random.choice(np.array([-1, 1], np.float32), values.shape)
            weights.append(weight.of(name, values))
        other = self._with_stored(weights)
        return other._converted(other.weights, FINER)

    def moved_by_units(self, seed: int) -> Model:
        """The network with each real weight a unit in its last place off, up or down by chance."""
        from bnfold.onnx.stored_values import stored_weights

        random, weights = np.random.default_rng(seed), []
        for name, weight in stored_weights(self.parts).items():
            is_real = weight.dtype.name in ROUNDING and weight.dtype.kind == "f"
            weights.append(weight.of(name, off_by_units(weight.array(), random)) if is_real else weight)
        return self._with_stored(weights)

    def _with_stored(self, weights: Sequence[Weight]) -> Model:
        """The network with other values of all that it stores; text, which is no weight, stays where it is."""
        bare, text = deepcopy(self.proto), {weight.name for weight in weights if weight.dtype == object}
        del bare.graph.initializer[:]
        bare.graph.initializer.extend(one for one in self.proto.graph.initializer if one.name in text)
        return replace(self, proto=bare, weights=tuple(one for one in weights if one.name not in text), mapped=())

    def _converted(self, weights: Iterable[Weight], conversion: Conversion) -> Model:
        """The network with some float types as another one, given its weights in that."""
        from bnfold.onnx.double import converted

        feeds = {
            name: replace(feed, dtype=conversion.dtype) if conversion.tells(feed.dtype) else feed
            for name, feed in self.feeds.items()
        }
        return replace(self, proto=converted(self.proto, self.folder, conversion), weights=tuple(weights), feeds=feeds)

    @property
    def parts(self) -> Parts:
        """The model, the weights that it is without, and where its external ones lie."""
        return self.proto, self.weights, self.folder

    def stored(self, names: Collection[str]) -> dict[str, Weight | Array]:
        """Name -> what an ONNX model stores under it, or what a Constant says, which is an array; of some names."""
        from bnfold.onnx.file import values_of
        from bnfold.onnx.stored_values import stored_weights

        said = {name: values_of(self.constants[name], self.folder) for name in names if name in self.constants}
        return {**said, **stored_weights(self.parts, names)}

    def in_batches_of(self, batch: int) -> Model:
        """An ONNX model for another number of samples, which it may be unable to run."""
        from bnfold.onnx.graph import with_input_sizes

        feeds = {name: feed.in_batches_of(batch) for name, feed in self.feeds.items()}
        return replace(self, proto=with_input_sizes(self.proto, dict.fromkeys(feeds, (batch,))), feeds=feeds)

    def equals(self, other: Model) -> bool:
        """Whether the other is the same network to the last weight, so that there is nothing to run."""
        from bnfold.onnx.stored_values import equal_models

        return same_layers(self.unrunnable.layers, other.unrunnable.layers) and equal_models(self.parts, other.parts)

    def release_pages(self) -> None:
        """Give back the memory of the source's pages: whoever wants its weights again maps them again."""
        for buffer in self.mapped:
            release_pages(buffer)


def off_by_units(values: Array, random: np.random.Generator) -> Array:
    """Each value that is not 0 a unit in its last place off, up or down by chance."""
    signs = random.choice(np.array([-1, 1], values.dtype), values.shape)
    return np.where(values == 0, values, values + np.spacing(values) * signs)


def values_stored(held: Weight | Array) -> Array:
    """One of what `Model.stored` gives as an array."""
    return held if isinstance(held, np.ndarray) else held.array()


def same_stored(one: Weight | Array | None, other: Weight | Array | None) -> bool:
    """Whether two of what `Model.stored` gives are equal to the last bit, or are missing both."""
    from bnfold.onnx.stored_values import same_weight
    from bnfold.onnx.weight import Weight

    if isinstance(one, Weight) and isinstance(other, Weight):
        return same_weight(one, other)
    if one is None or other is None:
        return one is other
    ours, theirs = values_stored(one), values_stored(other)
    return (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and ours.tobytes() == theirs.tobytes()


def open_model(source: Source, role: str, options: CompareOptions = CompareOptions()) -> Model:
    """Make a network comparable.

    Args:
        source: a `Net`, or what `bnfold.load` takes: contents, a message, or a path: `.onnx`, `.prototxt` (its
            weights are the `.caffemodel` of the same stem), `NET.prototxt:WEIGHTS.caffemodel` or a `.caffemodel`.
        role: what to call it when it has no file.
        options: its `batch`, and of a network that is read its `input_shapes` and its `reading`.

    Raises:
        UsageError: the path's ending says nothing.
        ModelError: the network cannot be read.
    """
    path = os_path(source) if isinstance(source, str | os.PathLike) else None
    name = "" if isinstance(source, Net) else role if path is None else path
    with telling_which(name, () if path is None else model_files(path)):
        model = _opened(source, role, options)
    if path is not None and descriptor_of(path) is None:
        model = replace(model, path=os.path.abspath(path))
    return model.in_batches_of(options.batch) if model.net is None and options.batch is not None else model


def _opened(source: Source, role: str, options: CompareOptions) -> Model:
    if isinstance(source, Net):
        require_net(source, "compare")
        if source.language == "ONNX":
            from bnfold.onnx.edition import message_of

            proto, weights = message_of(source)
            mapped = tuple(one for one in source.origin.buffers if isinstance(one, mmap.mmap))
            return replace(_from_onnx(proto, source.file or role, weights), mapped=mapped)
        return _from_net(source, source.file or role, options.batch)
    until, frozen, shapes = options.reading.until, options.reading.freeze_initializers, options.input_shapes
    outside = hasattr(source, "graph") and any(tensor.data_location for tensor in source.graph.initializer)
    if hasattr(source, "graph") and not (until or frozen or shapes or outside):
        return _from_onnx(cast("ModelProto", source), role)
    from bnfold.loading import contents_of, is_onnx, load, name_of
    from bnfold.onnx.read import load_bytes

    contents = contents_of(source)
    if contents is None:
        return _from_path(os_path(cast("str | os.PathLike[str]", source)), role, options)
    reading = replace(options.reading, input_shapes=shapes, batch=None)
    read = load_bytes(contents, reading) if is_onnx(name_of(contents)) else load(contents, options=reading)
    return replace(_opened(read, role, options), name=role)


def _from_path(path: str, role: str, options: CompareOptions) -> Model:
    from bnfold.loading import is_onnx, load, piped_onnx, require_weights

    if is_onnx(path):
        from bnfold.onnx.file import read_onnx
        from bnfold.onnx.read import give_sizes, load_onnx

        if options.reading.until or options.reading.freeze_initializers:  # what is in the file is not the whole answer
            reading = replace(options.reading, input_shapes=options.input_shapes, batch=None)
            return _named(load_onnx(path, reading), path, options)
        file = read_onnx(Path(path))
        give_sizes(file.model, options.input_shapes or {}, path)
        model = _from_onnx(file.model, path, file.weights)
        return replace(model, folder=file.folder, mapped=file.mapped)
    network, weights = split_pair(path)
    if not network.name.lower().endswith((*TEXT, ".caffemodel")) and descriptor_of(network) is None:
        if ":" not in path:
            head = read_file(network, HEAD)  # which says it where there is no such file
            if other := other_format(head, "onnx"):
                raise ParseError(other, network)
        raise UsageError(
            f"the {role} '{path}' is neither an .onnx, nor a .prototxt with the .caffemodel of the same stem, "
            f"nor NET.prototxt:WEIGHTS.caffemodel, nor a caffemodel that carries its network{nearby(path)}"
        )
    reading = options.reading
    if reading.freeze_initializers and piped_onnx(network) is None:  # then it is of the other model
        reading = replace(reading, freeze_initializers=False)
    if network.name.lower().endswith(TEXT):
        reading = replace(reading, caffemodel_dialect=None)
    net = load(network, weights, options=reading, batch=options.batch, input_shapes=options.input_shapes)
    require_weights(net, lambda likely: f"call the two {path}:{likely or 'WEIGHTS.caffemodel'}")
    return _named(net, path, replace(options, batch=None))


def _named(net: Net, path: str, options: CompareOptions) -> Model:
    """A network that was read for this comparison, which alone can tell what was assumed."""
    notes = tuple(f"{path}: {note}" for note in net.notes)
    return replace(_opened(net, path, options), name=path, notes=notes)


def split_pair(path: str) -> tuple[Path, Path | None]:
    """The network and the caffemodel that a model argument means, if it has one of its own.

    Examples:
        >>> [str(part) for part in split_pair("net.prototxt:other.caffemodel")]
        ['net.prototxt', 'other.caffemodel']
        >>> [str(part) for part in split_pair("net.caffemodel")]
        ['net.caffemodel', 'None']
    """
    if pair := re.fullmatch(r"(.*\.(?i:prototxt|pbtxt|txt)|/dev/(?:stdin|fd/\d+)):(.+)", path, re.DOTALL):
        return Path(pair[1]), Path(pair[2])
    stem = Path(path).parent / Path(path).stem
    names = [f"{stem}.caffemodel", f"{stem}.CAFFEMODEL"] if path.lower().endswith(TEXT) else []
    return Path(path), next((Path(name) for name in names if os.path.lexists(name)), None)


def model_files(path: str) -> list[Path]:
    """The files that a model argument means."""
    return [file for file in split_pair(path) if file is not None]


def _from_net(net: Net, name: str, batch: int | None) -> Model:
    net = net if batch is None else net_in_batches_of(net, batch)
    try:
        return _running(net, name)
    except (ModelError, UnsupportedError):  # what is fed in the place of layers may have other meanings
        return _running(net, name, {})


def _running(whole: Net, name: str, fed: Mapping[str, Shape] | None = None) -> Model:
    """What of a net of Caffe runs; `fed` as `runnable` takes it."""
    from bnfold.onnx.export.network import build

    net, unrunnable = whole, ALL_RUN
    try:
        proto, weights = build(net)
    except UnsupportedError:
        net, unrunnable = runnable(whole, fed)
        if not unrunnable.layers:
            raise
        proto, weights = build(net)
    tensors = {name for node in proto.graph.node for name in node.output}
    writers, reads = {}, {}
    for layer in net.layers:
        for top in layer.tops:
            if top in tensors:
                writers[top] = Writer(layer.name, layer.type, bool(layer.blobs))
                reads[top] = tuple(layer.bottoms)
    meanings = {**stand_ins(net), **(stand_ins(whole) if whole is not net else {})}
    feeds = {
        blob: replace(feed, meaning=meanings.get(blob, feed.meaning), unmade=blob in unrunnable.fed)
        for blob, feed in _feeds(proto).items()
    }
    outputs = [blob for blob in whole.outputs if blob in writers]
    mapped = tuple(file.buffer for file in net.origin.weights) if net.origin is not None else ()
    return Model(name, proto, weights, net, None, writers, reads, feeds, outputs, mapped, unrunnable)


def net_in_batches_of(net: Net, batch: int) -> Net:
    """A copy of a Caffe network for another number of samples."""
    net = net.copy()
    net.inputs = {blob: (batch, *shape[1:]) for blob, shape in net.inputs.items()}
    return net


def _from_onnx(proto: ModelProto, name: str, weights: tuple[Weight, ...] = ()) -> Model:
    from bnfold.onnx.graph import lists_in
    from bnfold.onnx.narrow import with_narrow_values_read
    from bnfold.onnx.node import bodies, reads_of
    from bnfold.onnx.scores import RAW, with_raw_scores

    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    stored = kinds | {weight.name: weight.element for weight in weights}
    learned = {name for name, kind in stored.items() if kind not in UNLEARNED}
    shown = [out.name for out in proto.graph.output if out.name in stored]
    writers = {name: Writer(name, "Constant", weighted=True) for name in shown}
    reads: dict[str, tuple[str, ...]] = dict.fromkeys(shown, ())
    incomparable = incomparable_nodes((proto, weights, None))
    lists = lists_in(proto, weights)
    for node in proto.graph.node:
        read = reads_of(node)
        weighted = any(name in learned for name in read) or any(body.initializer for body in bodies(node))
        for output in node.output:
            if not output or output in incomparable.blobs:
                continue
            reads[output] = tuple(name for name in read if name not in stored)
            if output not in lists:
                writers[output] = Writer(node.name or output, node.op_type, weighted)
    outputs = [out.name for out in proto.graph.output if out.name in writers]
    feeds = _feeds(proto, stored)
    for blob, meaning in onnx_stand_ins(proto, feeds, weights).items():
        feeds[blob] = replace(feeds[blob], meaning=meaning)
    proto = with_narrow_values_read(proto, weights)
    proto, saturating = with_raw_scores(proto)
    for scores in (name for name in saturating if name in writers):  # not behind what draws
        writers[scores + RAW], reads[scores + RAW] = writers[scores], reads[scores]
    return Model(name, proto, weights, None, None, writers, reads, feeds, outputs, incomparable=incomparable)


def require_numbers(model: Model) -> None:
    """Raise ModelError where an input takes what no data is: text, a list of tensors, numbers that numpy has not."""
    from bnfold.onnx.node import fed_kind, fed_tensor

    for port in model.proto.graph.input:
        fed = fed_tensor(port)
        if port.name in model.feeds and (fed is None or fed.elem_type not in ELEMENTS):
            said = f"takes {fed_kind(port)}, and a comparison feeds arrays of numbers"
            said += "; compare what reads numbers, as onnx.utils.extract_model takes it out"
            raise ModelError(f"{model.name}: input '{port.name}' {said}")


def _feeds(proto: ModelProto, stored: Collection[str] = ()) -> dict[str, Feed]:
    """What each input takes; old models list what is stored among their inputs."""
    from bnfold.onnx.node import fed_tensor

    feeds = {}
    for port in proto.graph.input:
        if port.name not in stored:
            fed = fed_tensor(port)
            tensor = port.type.tensor_type if fed is None else fed
            shape = _sizes_of(tensor)
            ranked = tensor.HasField("shape") or fed is None
            dtype = ELEMENTS.get(tensor.elem_type, np.dtype(np.float32))
            meaning = None if dtype.kind == "f" else _whole_numbers(dtype, len(shape))
            feeds[port.name] = Feed(shape if ranked else UNRANKED, dtype, meaning, ranked)
    return feeds


def _whole_numbers(dtype: DType, rank: int) -> Indices:
    """What an input is of which its type alone is known: pixels, a signal, or flags, as a mask of bytes is."""
    if dtype.name in ("int8", "int16", "uint16") or (dtype == np.uint8 and rank > 2):
        return Indices(np.iinfo(dtype).max + 1, np.iinfo(dtype).min)
    return FLAG


def _sizes_of(tensor: TypeProto.Tensor) -> tuple[int | None, ...]:
    """The shape that a type says, None for an open size."""
    dims = tensor.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in dims)


COPYING = frozenset({"Dropout", "Identity"})
"""Operators whose first output is their first input; a Dropout that draws is not compared at all."""

SELDOM = frozenset({"bfloat16", "float64"})
"""Types of which onnxruntime has many operators on no processor."""

UNLEARNED = frozenset({6, 7, 9})
"""ONNX's numbers of int32, int64 and bool, in which models hold sizes, axes and indices."""
FLOATS = {16: "bfloat16", 10: "float16", 1: "float32", 11: "float64"}
"""ONNX's numbers of floating types, the coarsest first."""
