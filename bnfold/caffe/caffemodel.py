"""Writing a caffemodel: the source's records in their order, byte for byte where nothing changed.

    Given:   conv1 | bn1 | scale1 | relu1 | loss          (conv1 absorbed bn1 and scale1; the prototxt has no loss)
    Result:  conv1'                | relu1 | loss

A record is dropped when its layer was folded away, patched (see `patch`) when its layer changed, copied otherwise, and
so are the fields between records. Layers of V1 and V0 files become V2 layers; their blobs keep their bytes. All sizes
follow from shapes, so lengths are known before a value is computed, and values are streamed from where they are: the
file is written while the source is walked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import numpy as np

from bnfold.caffe import upgrade, upgrade_v0
from bnfold.caffe.blobs import DATA, DOUBLE, DOUBLE_DATA, FLOAT, SHAPE
from bnfold.caffe.limits import INT_MAX
from bnfold.caffe.patch import Patched, encode, parts_of, patch_parts, replace_part
from bnfold.caffe.printing import APART
from bnfold.caffe.strip import strip_blob, strip_parts, stripped
from bnfold.caffe.weights import RULES
from bnfold.errors import ParseError, UnsupportedError
from bnfold.io.files import Output
from bnfold.io.wire import LENGTH, Buffer, WireError, encode_field, encode_tag, encode_varint, fields
from bnfold.net import Array, Blobs, DType, Layer, LazyArray, Net, pieces_of

if TYPE_CHECKING:
    from bnfold.caffe.weights import Record, WeightsFile

# LayerParameter and NetParameter.
NAME, TYPE, BOTTOM, TOP, BLOBS = 1, 2, 3, 4, 7
NET_NAME, NET_LAYER = 1, 100
RULE_PHASE = 1

_STEP = 1 << 22  # bytes handed on at once
_AFTER_ALL = 1 << 30


class Span(NamedTuple):
    """Bytes that are there already, mostly in a source file."""

    buffer: Buffer
    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.begin


class Values(NamedTuple):
    """The values of a blob, little endian, as `dtype`: half precision goes out as float32."""

    blob: Array | LazyArray
    dtype: DType
    size: int  # in bytes

    @classmethod
    def of(cls, blob: Array | LazyArray) -> Self:
        """The values of a blob, which is in float64 where that is what it has."""
        dtype = DOUBLE if blob.dtype.itemsize == 8 else FLOAT
        return cls(blob, dtype, prod(blob.shape) * dtype.itemsize)


Piece: TypeAlias = bytes | Span | Values


def wrapped(pieces: list[Piece], number: int) -> list[Piece]:
    """A message of these pieces as a field: tag, length, pieces."""
    return [encode_tag(number, LENGTH) + encode_varint(_size(pieces)), *pieces]


def _size(pieces: Iterable[Piece]) -> int:
    """How many bytes pieces have."""
    return sum([len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces])


def write_caffemodel(net: Net, names: Mapping[str, str], output: Output, *, strip: bool) -> None:
    """Write the weights of `net`.

    Args:
        net: with weights.
        names: blob -> its name in the file, for the blobs where that differs.
        output: where to.
        strip: leave out what only training needs.

    Raises:
        ParseError: a layer that changed is damaged in the source.
        UnsupportedError: the file would be larger than Caffe reads.
        WriteError: the file cannot be written.
    """
    pieces = _merged(_NewCaffemodel(net, names, strip).pieces())
    if (size := _size(pieces)) > INT_MAX:
        raise UnsupportedError(
            f"{output.path}: would have {size:,} bytes, and Caffe reads no caffemodel of 2 GiB or more; write ONNX"
        )
    for piece in pieces:
        if isinstance(piece, bytes):
            output.write(piece)
            continue
        for data in _bytes_of(piece):
            output.write(data)


def connections(layer: Layer, names: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The bottoms and tops of a layer by their names in the file."""
    bottoms = tuple([names.get(blob, blob) for blob in layer.bottoms])
    return bottoms, tuple([names.get(blob, blob) for blob in layer.tops])


def says_the_same(layer: Layer) -> bool:
    """Whether name, type and parameters of a layer are those of its source."""
    source = layer.source
    if source is None or layer.name != source.param.name or layer.type != source.param.type:
        return False
    return layer.param is source.param or layer.param == source.param


def has_same_blobs(layer: Layer) -> bool:
    """Whether a layer still has the very blobs of its source."""
    return layer.source is not None and layer.blobs.is_same(layer.source.blobs)


class _NewCaffemodel:
    """One caffemodel in the making."""

    def __init__(self, net: Net, names: Mapping[str, str], strip: bool) -> None:
        self.net, self.names, self.strip = net, names, strip
        origin = net.origin
        self.files = [file for file in origin.weights if file.is_binary] if origin else []
        self.loaded = origin.layers if origin else frozenset()
        # Caffe ignores V2 layers beside V1 ones: a file is one or the other.
        self.copies = all(file.version == 2 for file in self.files)
        self.present = {layer.name: layer for layer in net.layers}
        self.by_record: dict[int, Layer] = {}
        self.new_after: dict[int, list[Layer]] = {}
        self._place_layers()
        self.anew = {layer.name for layers in self.new_after.values() for layer in layers}

    def _place_layers(self) -> None:
        """Find the record whose place each layer takes, or behind which it stands where it needs one of its own."""
        net = self.net
        # A snapshot carries the net, what learns nothing too; a file of weights alone has no place for that.
        carries_net = any(layer.source and layer.source.record and not layer.blobs for layer in net.layers)
        own = {id(record) for file in self.files for record in file.records}
        records = [layer.source.record if layer.source and self.files else None for layer in net.layers]
        stored_by = (layer for layer, record in zip(net.layers, records, strict=True) if record and record.blobs)
        stored = {name for layer in stored_by if id(layer.source.record) in own for name in layer.param_names} - {""}
        anchor = 0
        for layer, record in zip(net.layers, records, strict=True):
            if id(record) in own and id(record) not in self.by_record:  # the second layer of a record is a new one
                anchor = id(record)
                self.by_record[anchor] = layer
                continue
            is_new = record or not self.files or (carries_net and layer.source is None)
            # Else it has its blobs from a layer that shares them by name, and the source has no record of it.
            is_shared = stored.issuperset(layer.param_names) and has_same_blobs(layer) and says_the_same(layer)
            if is_new or (layer.blobs and not is_shared):
                self.new_after.setdefault(anchor, []).append(layer)

    def pieces(self) -> Iterator[Piece]:
        """The whole file."""
        if not self.files:
            yield encode_field(NET_NAME, self.net.name.encode())
        yield from self._new_after(0)
        if not self.by_record and not any(self.new_after.values()):
            # All that was stored has been folded away. A file without layers would pass for a broken one.
            for layer in self.net.layers:
                yield from wrapped(self._fresh(layer, None), NET_LAYER)
        for file in self.files:
            at = 0
            with _naming(file):
                for record in file.records:
                    # The fields between layers are those of the net: name, inputs. They are needed once.
                    if file is self.files[0] and at < record.begin:
                        yield Span(file.buffer, at, record.begin)
                    at = record.end
                    yield from self._record(record)
                    yield from self._new_after(id(record))
            if file is self.files[0]:
                yield Span(file.buffer, at, len(file.buffer))

    def _new_after(self, anchor: int) -> Iterator[Piece]:
        for layer in self.new_after.get(anchor, ()):
            yield from wrapped(self._fresh(layer, None), NET_LAYER)

    def _record(self, record: Record) -> Iterable[Piece]:
        layer = self.by_record.get(id(record))
        if layer is None:
            return self._unmatched(record)
        unchanged = self.copies and self._is_unchanged(layer) and record.name_bytes == layer.name.encode()
        if unchanged and not self.strip and not _has_rules(record):
            return (Span(record.buffer, record.begin, record.end),)
        if record.version == 2 and layer.source and record.type != layer.source.param.type and not layer.blobs:
            # A training net's data or loss layer of that name, which became an input or a softmax in the prototxt.
            return () if self.strip else self._copied(record)
        if record.version == 2 and layer.source and record.type == layer.type == layer.source.param.type:
            return wrapped(self._patched(layer, record), NET_LAYER)
        return wrapped(self._fresh(layer, record), NET_LAYER)

    def _unmatched(self, record: Record) -> Iterable[Piece]:
        """A record that no layer took its weights from."""
        if record.name in self.loaded:
            layer = self.present.get(record.name)
            if layer is None or layer.name in self.anew:
                return ()  # folded away, or another one's by now
            if layer.source and layer.source.record and (len(self.files) > 1 or not self._is_unchanged(layer)):
                return ()  # a record that another one replaces, and that may no longer fit
        elif self.strip:
            return ()
        return self._copied(record)

    def _copied(self, record: Record) -> Iterable[Piece]:
        if self.copies and not self.strip:
            return (Span(record.buffer, record.begin, record.end),)
        if record.version == 2:
            parts = self._stripped(parts_of(record.buffer, record.at, record.end), record.buffer)
            blobs = self._blobs(record, record.blobs, record.blobs)
            return wrapped(self._body(parts, record.buffer, blobs), NET_LAYER)
        return wrapped(self._upgraded(record), NET_LAYER)

    def _is_unchanged(self, layer: Layer) -> bool:
        source = layer.source
        return (
            source is not None
            and has_same_blobs(layer)
            and says_the_same(layer)
            and connections(layer, self.names) == (source.bottoms, source.tops)
        )

    def _patched(self, layer: Layer, record: Record) -> list[Piece]:
        """The record with what changed about the layer, and nothing else."""
        source = layer.source
        assert source is not None
        buffer = record.buffer
        parts = parts_of(buffer, record.at, record.end)
        bottoms, tops = connections(layer, self.names)
        if layer.name.encode() != record.name_bytes:  # also when only the encoding was another
            replace_part(parts, NAME, encode_field(NAME, layer.name.encode()))
        if bottoms != source.bottoms:
            replace_part(parts, BOTTOM, b"".join(encode_field(BOTTOM, name.encode()) for name in bottoms))
        if tops != source.tops:
            replace_part(parts, TOP, b"".join(encode_field(TOP, name.encode()) for name in tops))
        if _has_rules(record):
            for number in RULES:  # decided when the net was read
                replace_part(parts, number, b"")
        patch_parts(parts, buffer, source.param, layer.param, skip=APART)
        return self._body(self._stripped(parts, buffer), record.buffer, self._blobs(record, layer.blobs, source.blobs))

    def _fresh(self, layer: Layer, record: Record | None) -> list[Piece]:
        """A `LayerParameter` made of the layer as it is."""
        message = type(layer.param)()
        message.CopyFrom(layer.param)
        message.name, message.type = layer.name, layer.type
        bottoms, tops = connections(layer, self.names)
        message.bottom[:], message.top[:] = bottoms, tops
        del message.blobs[:]
        encoded = encode(stripped(message, fillers=len(layer.blobs) > 0) if self.strip else message)
        before = layer.source.blobs if layer.source else layer.blobs
        return self._body(parts_of(encoded, 0, len(encoded)), encoded, self._blobs(record, layer.blobs, before))

    def _upgraded(self, record: Record) -> list[Piece]:
        """A V1 or V0 layer that the net has not got, as the V2 layer that keeps its name, type and weights."""
        word = encode_field(TYPE, _upgraded_type(record).encode())
        parts = [Patched(NAME, new=encode_field(NAME, record.name.encode())), Patched(TYPE, new=word)]
        return self._body(parts, b"", self._blobs(record, record.blobs, record.blobs))

    def _stripped(self, parts: list[Patched], buffer: Buffer) -> list[Patched]:
        if self.strip:
            strip_parts(parts, buffer)
        return parts

    def _body(self, parts: list[Patched], source: Buffer, blobs: list[Piece]) -> list[Piece]:
        """The fields of a layer, with `blobs` in the place of its blobs."""
        body: list[Piece] = []
        for part in [*parts, Patched(_AFTER_ALL)]:
            if part.number >= BLOBS and blobs:
                body += blobs
                blobs = []
            if part.number in (BLOBS, _AFTER_ALL):
                continue
            body.append(Span(source, part.begin, part.end) if part.new is None else part.new)
        return body

    def _blobs(self, record: Record | None, blobs: Blobs, before: Blobs) -> list[Piece]:
        """The blobs of a layer as fields: the source's bytes for those that are still the same."""
        places = record.blob_fields() if record else []
        unchanged = {id(blob): place for blob, place in zip(before.stored, places, strict=False)}
        pieces: list[Piece] = []
        body: list[Piece]
        for blob in blobs.stored:
            place = unchanged.get(id(blob))
            if place is None or record is None:
                body = _new_blob(blob)
            elif self.strip:
                spans = strip_blob(record.buffer, place.at, place.end)
                body = [Span(record.buffer, begin, end) for begin, end in spans]
            elif place.number == BLOBS:
                pieces.append(Span(record.buffer, place.begin, place.end))
                continue
            else:
                body = [Span(record.buffer, place.at, place.end)]
            pieces += wrapped(body, BLOBS)
        return pieces


def _upgraded_type(record: Record) -> str:
    """The V2 word for the type of a record of any version, empty where there is none."""
    if record.version == 2:
        return record.type or ""
    number = record.type_number if record.version == 1 else upgrade_v0.TYPES.get(record.type or "", 0)
    return {int(old): word for old, word in upgrade.TYPES.items()}.get(int(number), "")


def _has_rules(record: Record) -> bool:
    """Whether a record has rules that another state would decide otherwise; the phase is TEST for every reader."""
    buffer = record.buffer
    found = fields(buffer, record.at, record.end) if record.has_rules else ()
    rules = (rule for rule in found if rule.number in RULES and rule.wire == LENGTH)
    return any(inner.number != RULE_PHASE for rule in rules for inner in fields(buffer, rule.at, rule.end))


def _new_blob(blob: Array | LazyArray) -> list[Piece]:
    """A BlobProto: values, then the shape, in the order of their numbers."""
    values = Values.of(blob)
    shape = encode_field(SHAPE, encode_field(1, b"".join(map(encode_varint, blob.shape))) if blob.shape else b"")
    if not values.size:
        return [shape]
    if values.dtype is DOUBLE:
        return [shape, *wrapped([values], DOUBLE_DATA)]
    return [*wrapped([values], DATA), shape]


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The same pieces with spans that follow each other in a file made one."""
    merged: list[Piece] = []
    last: Span | None = None
    for piece in pieces:
        if not isinstance(piece, Span):
            last = None
            merged.append(piece)
        elif last is not None and piece.buffer is last.buffer and piece.begin == last.end:
            last = merged[-1] = Span(last.buffer, last.begin, piece.end)
        else:
            last = piece
            merged.append(piece)
    return merged


def _bytes_of(piece: Span | Values) -> Iterator[memoryview]:
    """What a piece has to write, a few megabytes at a time."""
    if isinstance(piece, Span):
        view = memoryview(piece.buffer)
        for begin in range(piece.begin, piece.end, _STEP):
            yield view[begin : min(begin + _STEP, piece.end)]
    else:
        for chunk in pieces_of(piece.blob):
            if chunk.size:
                yield np.ascontiguousarray(chunk, piece.dtype).data.cast("B")


@contextlib.contextmanager
def _naming(file: WeightsFile) -> Iterator[None]:
    """Say in which file the bytes of a layer turned out to be damaged."""
    try:
        yield
    except WireError as error:
        raise ParseError(f"is damaged: {error}; copy it again", file.path) from None
