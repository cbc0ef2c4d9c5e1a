"""Writing an ONNX net back losslessly: what did not take part is what it was, byte for byte.

The file is a row of fields (`bnfold.onnx.file`). Each field of the graph is written as it lies in the old file, unless
its node changed or went, or its initialiser did. New nodes follow the node in front of them; new initialisers follow
the last one. What did not change is never copied: it goes from the mapped file to the new one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from bnfold.errors import BnfoldError, UnsupportedError, UsageError
from bnfold.io.files import OutputSet, data_file, is_same_file
from bnfold.io.wire import LENGTH, MAX_MESSAGE, encode_field
from bnfold.net import Net
from bnfold.onnx.edition import Edition, edition
from bnfold.onnx.file import (
    GRAPH,
    INITIALIZER,
    INPUT,
    NAME,
    NODE,
    OUTPUT,
    SPARSE_INITIALIZER,
    VALUE_INFO,
    Document,
    Tensor,
    read_document,
)
from bnfold.onnx.origin import OnnxOrigin
from bnfold.onnx.save import EXTERNAL_FROM, DataFile, Initialiser, Piece, Sink, field_head, write_pieces
from bnfold.onnx.weight import Weight

_QUANTIZATION = 14


def write_net(net: Net, path: Path, files: OutputSet, *, external_data: bool) -> list[Path]:
    """Write an ONNX net as one of a set of files; returns the paths that were opened.

    Weights go to `NAME.data` beside the model with `external_data`, where the net's own were outside, and where the
    model passes 2 GiB.

    Raises:
        UsageError: the weights' file cannot be named in a model, or is that of the model that was read, which stays.
    """
    edited = _differences(net)
    document, pieces = edited.document, list(_pieces(edited))
    _require_left_whole(document, path, path)
    if not (external_data or document.keeps_outside) and _size(document, pieces) <= MAX_MESSAGE:
        _emit(files.open_alone(path), document, pieces)
        return [path]
    sink = files.open(path)
    data_path = named_data_file(path)
    _require_left_whole(document, path, data_path)
    require_no_others(path, data_path)
    data = DataFile(files.open(data_path), data_path.name)
    _emit(sink, document, [_placed(piece, data) for piece in _pieces(edited, split=True)])
    return [path, data_path]


def _require_left_whole(document: Document, model: Path, written: Path) -> None:
    """Stop where weights would be replaced of a model that is not. Raises UsageError."""
    own, *weights = document.paths
    if _is_at(document, model):
        return
    if any(is_same_file(file, written) for file in weights):
        raise UsageError(_LEFT.format(written, own))


def _is_at(document: Document, model: Path) -> bool:
    """Whether a model was read from there, be it there still or not."""
    return is_same_file(document.path, model) or os.path.realpath(document.path) == os.path.realpath(model)


def require_no_others(model: Path, data: Path) -> None:
    """Stop where weights would be replaced of another model, which lies beside them: it may have been renamed.

    Raises:
        UsageError: with the first such model.
    """
    for other in sorted(data.parent.glob("*.onnx")) if os.path.isfile(data) else ():
        files: list[Path] = []
        with suppress(BnfoldError):  # it is no model, and so has no weights
            files = [] if is_same_file(other, model) else read_document(other).paths[1:]
        if any(is_same_file(file, data) for file in files):
            raise UsageError(_LEFT.format(data, other))


_LEFT = "{}: holds the weights of {}, which would be another network; give another name"


def named_data_file(path: Path) -> Path:
    """Where a model has its weights if they are not in it. Raises UsageError where a model could not say so."""
    data = data_file(path)
    try:
        data.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{data}: a model names its weights' file in UTF-8, and this is none; rename it") from None
    return data


def write_stream(net: Net, sink: Sink, *, inside: bool = False) -> None:
    """Write an ONNX net to an open file, all weights inside; with `inside` also where the net's own lie outside.

    Raises:
        UsageError: the net's own weights lie outside, or it passes 2 GiB.
    """
    if not inside and net.origin.document.keeps_outside:
        raise UsageError("the weights of this model lie in a second file, so give a path and not an open file")
    too_large = "the model passes 2 GiB and needs a second file, so give a path and not an open file"
    _emit(sink, *_whole(net, UsageError(too_large)))


def whole_message(net: Net) -> ModelProto:
    """An ONNX net as a message, all weights inside. Raises UnsupportedError where it passes 2 GiB."""
    document, pieces = _whole(net, UnsupportedError(TOO_LARGE))
    model = ModelProto()
    for part in document.outer:
        if part[:2] != (GRAPH, LENGTH):
            model.MergeFromString(bytes(document.buffer[part.begin : part.end]))
    for piece in pieces:
        if isinstance(piece, Initialiser):
            model.graph.initializer.append(piece.inside())
        else:
            model.graph.MergeFromString(bytes(piece))
    return model


def _whole(net: Net, too_large: BnfoldError) -> tuple[Document, list[Piece]]:
    """The file that a net is written from, and the fields of its graph, all weights among them."""
    edited = _differences(net)
    document = edited.document
    pieces = list(_pieces(edited, split=document.keeps_outside))
    if _size(document, pieces) > MAX_MESSAGE:
        raise too_large
    return document, pieces


def _differences(net: Net) -> Edition:
    """How a net differs from the file that it is written from: nothing folded leaves the calls of functions."""
    origin: OnnxOrigin = net.origin
    edited = edition(net)
    if origin.found is origin.document or not edited.is_as_read:
        return edited
    return Edition(
        replace(origin, document=origin.found), [(number, None) for number in range(len(origin.found.model.graph.node))]
    )


TOO_LARGE = "the model passes 2 GiB, which no ONNX message can hold; save it with external data"


def _size(document: Document, pieces: Iterable[Piece]) -> int:
    """How many bytes the model takes with these pieces in its graph, and no fewer."""
    around = sum(part.end - part.begin for part in document.outer if part.number != GRAPH)
    return around + sum(map(len, pieces)) + 16


def _emit(sink: Sink, document: Document, pieces: Sequence[Piece]) -> None:
    view = memoryview(document.buffer)
    for part in document.outer:
        if part[:2] == (GRAPH, LENGTH):
            write_pieces(sink, [field_head(GRAPH, sum(map(len, pieces))), *pieces])
        else:
            sink.write(view[part.begin : part.end])


def _pieces(edited: Edition, split: bool = False) -> Iterator[Piece]:
    """The fields of the graph as they are to be written.

    With `split` the values of every initialiser are apart, so that they can be placed elsewhere.
    """
    document, counts = edited.document, Counter[int]()
    view, nodes = memoryview(document.buffer), _by_number(edited)
    at_end = [fresh for fresh in edited.fresh.values() if fresh.name not in edited.origin.tensors]
    old = [view[part.begin : part.end] for part in document.inner if part[:2] == (NODE, LENGTH)]

    def written(place: int) -> Iterator[Piece]:
        return (old[piece] if isinstance(piece, int) else piece for piece in nodes.get(place, ()))

    yield from written(-1)
    if edited.name is not None:
        yield encode_field(NAME, edited.name.encode())
    for part in document.inner:
        as_read = view[part.begin : part.end]
        if part.wire != LENGTH:  # a field of nobody's
            yield as_read
            continue
        position = counts[part.number]
        counts[part.number] += 1
        if part.number == NODE:
            yield from written(position)
        elif part.number == INITIALIZER:
            yield from _initialiser(document.tensors[position], as_read, edited, split)
            if position == len(document.tensors) - 1:
                yield from map(_values, at_end)
        else:
            yield from _edited(part.number, position, as_read, edited)
    if not document.tensors:
        yield from map(_values, at_end)
    yield from (_field(INPUT, port) for port in edited.new_inputs())


def _edited(number: int, position: int, as_read: Piece, edited: Edition) -> Iterable[Piece]:
    """A field of the old graph that is no node and no dense initialiser, as it is written; nothing where it goes.

    Args:
        number: that of the field.
        position: how many fields of that number stand in front of it.
        as_read: the field as it was.
        edited: the net.
    """
    graph = edited.document.model.graph
    if number == SPARSE_INITIALIZER:
        return _initialiser(edited.document.sparse[position], as_read, edited)
    if number == OUTPUT and edited.outputs is not None:
        return [_field(OUTPUT, port) for port in edited.outputs if position == 0]
    if number == VALUE_INFO:
        port = graph.value_info[position]
        now = edited.renamed(port)
        return [] if now is None else [as_read if now is port else _field(VALUE_INFO, now)]
    goes = (
        (number == NAME and edited.name is not None)
        or (number == INPUT and edited.leaves(graph.input[position]))
        or (number == _QUANTIZATION and edited.loses(graph.quantization_annotation[position].tensor_name))
    )
    return [] if goes else [as_read]


def _by_number(edited: Edition) -> dict[int, list[bytes | int]]:
    """Number of a node of the old file -> what is written in its place: nodes, or numbers of those that are as before.

    One that a program has moved behind a later one stands there.
    """
    placed: dict[int, list[bytes | int]] = {}
    place = -1
    for number, node in edited.nodes:
        place = max(place, number)
        placed.setdefault(place, []).append(number if node is None else _field(NODE, node))
    return placed


def _field(number: int, message: NodeProto | TensorProto | ValueInfoProto) -> bytes:
    return encode_field(number, message.SerializeToString(deterministic=True))


def _initialiser(tensor: Tensor, as_read: Piece, edited: Edition, split: bool = False) -> Iterable[Piece]:
    if (fresh := edited.fresh.get(tensor.name)) is not None:
        return [_values(fresh, tensor)]
    if tensor.name in edited.gone:
        return []
    if split and (weight := tensor.weight) is not None:
        return [Initialiser(tensor.bare(), weight)]
    return [as_read]


def _values(fresh: Weight, old: Tensor | None = None) -> Initialiser:
    """New values, under what the old message says of name, documentation and the like."""
    header = fresh.header() if old is None else old.bare()
    header.dims[:], header.data_type = fresh.shape, fresh.element
    return Initialiser(header, fresh)


def _placed(piece: Piece, data: DataFile) -> Piece:
    """An initialiser with its values in the other file, if they are many."""
    if not isinstance(piece, Initialiser) or piece.weight.nbytes < EXTERNAL_FROM:
        return piece
    return _field(INITIALIZER, piece.outside(data))
