"""The network that a caffemodel carries, as a document, for those who have lost the prototxt.

Names are lost in a binary, and the dialects disagree about numbers: field 143 of a layer is `input_param` in one and
`interp_param` in another. So each message is walked and given the numbers of the union schema (dialects.py). Where a
number has two meanings, the layer's type decides; what was decided there tells the dialect, which decides the rest.

A caffemodel holds the net as it was in memory, of the phase that wrote it: each layer says its phase, which goes, and
a blob with several readers goes through a Split layer, which goes too:

    Given:   conv1 -> conv1_conv1_0_split (Split) -> conv1_conv1_0_split_0, _1      Result:  conv1, read twice
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter, V1LayerParameter
from bnfold.caffe.descriptors import is_message, is_repeated
from bnfold.caffe.dialects import ALL, COLLISIONS, ELSEWHERE, RENUMBERED
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.text import Document
from bnfold.caffe.weights import WeightsFile, decode
from bnfold.errors import ParseError
from bnfold.io.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    WireError,
    encode_field,
    encode_tag,
    fields,
    signed,
    varint,
)

NET_LAYERS = {2: V1LayerParameter, 100: LayerParameter}


class Meaning(NamedTuple):
    """One thing that a number means: a field of the union, in these dialects."""

    field: FieldDescriptor
    dialects: frozenset[str]


def read_net(file: WeightsFile) -> Document:
    """The net in a caffemodel, with all parameters and without weights.

    Raises:
        ParseError: a layer is damaged, or the file has weights and no connections.
    """
    if not file.is_binary:
        raise ParseError("is an HDF5 snapshot, which has weights alone; give the prototxt too", file.path)
    reader = _Reader(file)
    net = NetParameter()
    buffer = file.buffer
    rest = [field for field in fields(buffer, 0, len(buffer)) if field.number not in NET_LAYERS]
    _merge(net, reader.translated(net.DESCRIPTOR, rest), "the net", file)
    for record in file.records:
        message: Any = net.layer.add() if record.version == 2 else net.layers.add()
        who = f"layer '{record.name}'"
        try:
            encoded = reader.translated(message.DESCRIPTOR, fields(buffer, record.at, record.end))
        except WireError as error:
            raise ParseError(f"{who} is damaged: {error}", file.path) from None
        _merge(message, encoded, who, file)
    for layer in net.layer:
        # Caffe takes a phase that a layer states over the net's own, so a BatchNorm would train.
        layer.ClearField("phase")
        _decide(layer)
    _undo_splits(net)
    if not any(layer.bottom for layer in net.layer) and not any(layer.bottom for layer in net.layers):
        raise ParseError("has weights and no network that connects them; give the prototxt too", file.path)
    return Document(net, notes=list(_doubts(net)), file=file.path)


def _merge(message: Any, encoded: bytes, who: str, file: WeightsFile) -> None:
    try:
        message.MergeFromString(encoded)
    except DecodeError as error:
        raise ParseError(f"{who} is damaged: {error}", file.path) from None


def _doubts(net: NetParameter) -> Iterator[str]:
    """Numbers with two meanings that nothing decides."""
    for layer in net.layer:
        pool = layer.pooling_param
        if layer.type == "Pooling" and pool.HasField("round_mode") and pool.round_mode == pool.CEIL:
            yield (
                f"layer '{layer.name}' (Pooling): the caffemodel says `round_mode: CEIL`, or `ceil_mode: false` if a "
                "fork with that field wrote it; the first is taken, and the prototxt would tell"
            )


def _decide(layer: LayerParameter) -> None:
    """Leave of a layer's rules what they say of the phase: the layer was in the net, so its stages and levels held."""
    for rule in layer.include:
        for name in ("min_level", "max_level", "stage", "not_stage"):
            rule.ClearField(name)
    phased = [rule for rule in layer.exclude if [field.name for field, _ in rule.ListFields()] == ["phase"]]
    kept = LayerParameter(exclude=phased)
    del layer.exclude[:]
    layer.exclude.extend(kept.exclude)


def _undo_splits(net: NetParameter) -> None:
    whole: dict[str, str] = {}
    kept = []
    for layer in net.layer:
        for index, bottom in enumerate(layer.bottom):
            layer.bottom[index] = whole.get(bottom, bottom)
        if layer.type == "Split" and list(layer.top) == [f"{layer.name}_{index}" for index in range(len(layer.top))]:
            whole.update(dict.fromkeys(layer.top, layer.bottom[0] if layer.bottom else layer.name))
        else:
            kept.append(layer)
    if whole:
        copies = NetParameter(layer=kept)
        del net.layer[:]
        net.layer.extend(copies.layer)


class _Reader:
    """Gives the messages of one file the numbers of the union."""

    def __init__(self, file: WeightsFile) -> None:
        self.buffer = file.buffer
        self.dialects = ALL
        for record in file.records:
            if record.version == 2 and record.type is not None:
                self._learn(record.type, fields(self.buffer, record.at, record.end))

    def _learn(self, kind: str, layer: Iterable[Field]) -> None:
        """Narrow the dialects by what the parameters of a layer must be."""
        for found in layer:
            if found.number in COLLISIONS or found.number in EVIDENCE:
                for meaning in _meanings(LayerParameter.DESCRIPTOR).get(found.number, ()):
                    if _belongs(meaning.field.name, kind) and self.dialects & meaning.dialects:
                        self.dialects &= meaning.dialects

    def translated(self, message: Any, found: Iterable[Field], reads: frozenset[str] = frozenset()) -> bytes:
        """The same message in the numbers of the union; weights and what has no meaning are left out.

        Where a number has two meanings, that of `reads` counts, the fields that the layer's type reads.
        """
        found = list(found)
        meanings = _meanings(message)
        kind = self._kind(found) if message is LayerParameter.DESCRIPTOR else ""
        pieces = []
        for number, wire, _, at, end in found:
            field = self._choose(meanings.get(number, ()), wire, kind, reads)
            if field is None:
                continue
            payload = self.buffer[at:end] if not is_message(field) else b""
            if wire == VARINT and field.type == FieldDescriptor.TYPE_FLOAT:
                # A whole number in the dialects that `dialects.RETYPED` names.
                whole = signed(varint(self.buffer, at, end)[0])
                pieces.append(encode_tag(field.number, FIXED32) + struct.pack("<f", whole))
            elif wire != LENGTH:
                pieces.append(encode_tag(field.number, wire) + payload)
            elif is_message(field):
                own = row.reads.get(field.name, "") if (row := LAYERS.get(kind)) else ""
                inner = self.translated(field.message_type, fields(self.buffer, at, end), frozenset(own.split()))
                pieces.append(encode_field(field.number, inner))
            else:
                text = field.type == FieldDescriptor.TYPE_STRING
                pieces.append(encode_field(field.number, decode(payload).encode() if text else payload))
        return b"".join(pieces)

    def _kind(self, layer: Iterable[Field]) -> str:
        words = [self.buffer[field.at : field.end] for field in layer if field.number == 2 and field.wire == LENGTH]
        return decode(words[-1]) if words else ""

    def _choose(
        self, meanings: Iterable[Meaning], wire: int, kind: str, reads: frozenset[str]
    ) -> FieldDescriptor | None:
        fitting = [meaning for meaning in meanings if _fits(meaning.field, wire)]
        if len(fitting) > 1 and kind:
            fitting = [meaning for meaning in fitting if _belongs(meaning.field.name, kind)] or fitting
        ours = [meaning for meaning in fitting if meaning.dialects & self.dialects]
        if len(ours) > 1 and reads:
            ours = [meaning for meaning in ours if meaning.field.name in reads] or ours
        if len(ours) > 1 and kind:
            return None  # a parameter of another type: it means nothing here, whichever it is
        return (ours or fitting)[0].field if fitting else None


@cache
def _meanings(message: Any) -> dict[int, list[Meaning]]:
    """What each number of a message can mean in a file."""
    meanings: dict[int, list[Meaning]] = {}
    taken: dict[int, set[str]] = {}
    for real in RENUMBERED.get(message.name, {}).values():
        for dialect, number in real.items():
            taken.setdefault(number, set()).add(dialect)
    moved, elsewhere = RENUMBERED.get(message.name, {}), ELSEWHERE.get(message.name, {})
    for field in message.fields:
        if is_message(field) and field.message_type.name == "BlobProto":
            continue
        real = moved.get(field.name, elsewhere.get(field.name, {}))
        numbers: dict[int, set[str]] = (
            {} if field.name in moved else {field.number: set(ALL - real.keys() - taken.get(field.number, set()))}
        )
        for dialect, number in real.items():
            numbers.setdefault(number, set()).add(dialect)
        for number, dialects in numbers.items():
            collision = COLLISIONS.get(number, {}) if message is LayerParameter.DESCRIPTOR else {}
            if message is LayerParameter.DESCRIPTOR and number in EVIDENCE:
                dialects = set(EVIDENCE[number])
            meanings.setdefault(number, []).append(Meaning(field, collision.get(field.name, frozenset(dialects))))
    return meanings


def _fits(field: FieldDescriptor, wire: int) -> bool:
    """Whether a field can be stored with this wire type."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return wire == LENGTH
    if wire == LENGTH:
        return is_repeated(field)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return wire in (FIXED32, VARINT)
    return wire == (FIXED64 if field.type == FieldDescriptor.TYPE_DOUBLE else VARINT)


def _belongs(name: str, kind: str) -> bool:
    """Whether a layer of type `kind` has its parameters in the field `name`."""
    if (row := LAYERS.get(kind)) and row.reads:
        return name in row.reads
    return kind.lower() == name.removesuffix("_param").replace("_", "").lower()


# Numbers of LayerParameter with one meaning that tell the dialect all the same, by what that message means in each.
EVIDENCE = {45: frozenset({"segnet", "ncnn"})}
