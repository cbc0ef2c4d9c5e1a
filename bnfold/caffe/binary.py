"""The network that a caffemodel carries, as a document, for those who have lost the prototxt.

Names are lost in a binary, and the dialects disagree about numbers: field 143 of a layer is `input_param` in one and
`interp_param` in another. So each message is walked and given the numbers of the union schema (dialects.py), in all
ways in which some dialect reads it:

    Given:   106 { 1: 64  19: 1 }
    Result:  { num_output: 64  pad_type: 1 } in Synopsys' words, { num_output: 64  relu: true } in Intel's

A dialect that has not every number of a file did not write it, and where a number of a layer is that of parameters
that its type reads in some dialects alone, it was one of these. What is left is one reading, or several that say the
same; or several that differ, of which the caller keeps those whose shapes and weights fit.

A caffemodel holds the net as it was in memory, of the phase that wrote it: each layer says its phase, which goes, and
a blob with several readers goes through a Split layer, which goes too:

    Given:   conv1 -> conv1_conv1_0_split (Split) -> conv1_conv1_0_split_0, _1      Result:  conv1, read twice

Before Caffe had Input layers, its files named the inputs of a net at most (`Net::ToProto`): what no layer makes is one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter, V1LayerParameter
from bnfold.caffe.descriptors import Descriptor, is_message, is_repeated
from bnfold.caffe.dialects import ALL, DIALECTS, ELSEWHERE, ENUM_VALUES, FIELDS, RENUMBERED, RETYPED, VALUES
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.layers.fields import IDLE, IDLE_OF_LAYER
from bnfold.caffe.text import Foreign, PrototxtDocument
from bnfold.caffe.weights import WeightsFile, decode_name
from bnfold.errors import Guesses, ParseError, UsageError, few, listed, quoted
from bnfold.io.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Buffer,
    Field,
    WireError,
    encode_field,
    encode_tag,
    encode_varint,
    fields,
    signed,
    varint,
)

NET_LAYERS: dict[int, type[Message]] = {2: V1LayerParameter, 100: LayerParameter}


Dialects = frozenset[str]
Readings = dict[bytes, Dialects]
"""A message in the numbers of the union -> the dialects that read it so."""
Effect = tuple[int, str, str, str]
CONVERTERS = frozenset({"ncnn", "tengine", "mace", "x2paddle"})
"""They read what Caffes wrote, and write no caffemodel."""
FIRST_OF_A_TYPE = 100
"""The parameters of types have numbers from here on."""
CONNECTING = ("name", "type", "bottom", "top")


class DialectReading(NamedTuple):
    """What a file says if one of these dialects wrote it.

    Attributes:
        document: the net.
        dialects: whose words these are.
        effects: (place of a layer, its name and type, field, value) of each field that is neither idle nor as by
            default; empty where there is no other reading.
    """

    document: PrototxtDocument
    dialects: Dialects
    effects: frozenset[Effect] = frozenset()


class Meaning(NamedTuple):
    """One thing that a number means: a field of the union, in these dialects."""

    field: FieldDescriptor
    dialects: Dialects


def read_net(file: WeightsFile, dialect: str | None = None) -> list[DialectReading]:
    """The net in a caffemodel, with all parameters and without weights, in each way in which it can be read.

    Args:
        file: the caffemodel.
        dialect: whose numbers it has, one of `DIALECTS`; found out if None.

    Raises:
        ParseError: a layer is damaged, or has a number that `dialect` lacks, or there are no connections.
        UsageError: nobody knows `dialect`.
    """
    if not file.is_binary:
        raise ParseError("is an HDF5 snapshot, which has weights alone; give the prototxt too", file.path)
    if dialect is not None and dialect not in ALL:
        raise UsageError(
            f"--caffemodel-dialect {dialect}: there is no such dialect{Guesses().at(dialect, ALL)}; there are "
            f"{', '.join(DIALECTS)}"
        )
    reader = _Reader(file.buffer, ALL if dialect is None else frozenset({dialect}))
    rest = [field for field in fields(file.buffer, 0, len(file.buffer)) if field.number not in NET_LAYERS]
    whole = [("the net", 0, reader.read("the net", NetParameter.DESCRIPTOR, rest, file))]
    for record in file.records:
        who, number = f"layer '{record.name}'", 100 if record.version == 2 else 2
        encoded_fields = fields(file.buffer, record.at, record.end)
        whole.append((who, number, reader.read(who, NET_LAYERS[number].DESCRIPTOR, encoded_fields, file)))
    parts = [fields(file.buffer, record.at, record.end) for record in file.records if record.version == 2]
    unknown = [reader.unknown_field(part) for part in parts]
    alive = reader.among
    for _, _, read in whole:
        alive = alive & frozenset().union(*read.values()) or alive
    alive = alive - CONVERTERS or alive
    chosen: dict[tuple[bytes, ...], set[str]] = {}
    for one in DIALECTS:
        if one in alive:
            picked = tuple(_reading_in(read, one, alive) for _, _, read in whole)
            chosen.setdefault(picked, set()).add(one)
    readings: dict[frozenset[Effect], DialectReading] = {}
    for picked, some in chosen.items():
        messages = [(who, number, encoded) for (who, number, _), encoded in zip(whole, picked, strict=True)]
        document = _document(file, messages, unknown)
        effects = frozenset(_effects(document.net)) if len(chosen) > 1 else frozenset()
        same = readings.setdefault(effects, DialectReading(document, frozenset(), effects))
        readings[effects] = same._replace(dialects=same.dialects | some)
    return list(readings.values())


def _document(
    file: WeightsFile, messages: Iterable[tuple[str, int, bytes]], unknown: Sequence[str]
) -> PrototxtDocument:
    """A file by one reading of it: whose each message is, its number in the net, 0 for that itself, and what it says.

    Args:
        file: the caffemodel.
        messages: the messages.
        unknown: for each layer of V2 a field of it that no dialect has, empty where it has none.

    Raises:
        ParseError: a message is damaged, or nothing connects the layers.
    """
    net = NetParameter()
    for who, number, encoded in messages:
        message: Message = net if not number else net.layer.add() if number == 100 else net.layers.add()
        _merge(message, encoded, who, file)
    for layer in net.layer:
        # Caffe takes a phase that a layer states over the net's own, so a BatchNorm would train.
        layer.ClearField("phase")
        _keep_phase(layer)
    kept = _undo_splits(net)
    layers: list[LayerParameter | V1LayerParameter] = [*net.layer, *net.layers]
    if not any(layer.bottom for layer in layers) or not all([*layer.bottom, *layer.top] for layer in net.layer):
        raise ParseError("has weights and no network that connects them; give the prototxt too", file.path)
    made = {*net.input, *(top for layer in layers for top in layer.top)}
    lost = list(dict.fromkeys(bottom for layer in layers for bottom in layer.bottom if bottom not in made))
    notes = []
    if lost and not net.input_dim and not net.input_shape:
        net.input.extend(lost)
        notes.append(f"no layer of the caffemodel makes {quoted(lost)}: read as what comes from outside")
    foreign = Foreign({new: unknown[old] for new, old in enumerate(kept) if unknown[old]})
    return PrototxtDocument(net, notes=notes, file=file.path, foreign=foreign)


def sole_effect(readings: Sequence[DialectReading], opaque: Sequence[bool]) -> int | None:
    """Index of the only reading whose parameters have an effect that the others lack, which is then the likely one.

    Args:
        readings: what remains.
        opaque: of each, whether it has a layer that is not understood; such a reading does not count.

    Returns:
        None where there is no such reading, or more than one.
    """
    common = frozenset.intersection(*(reading.effects for reading in readings))
    telling = [index for index, reading in enumerate(readings) if reading.effects != common and not opaque[index]]
    return telling[0] if len(telling) == 1 else None


def difference(readings: Sequence[DialectReading]) -> str:
    """Where readings part: the first layer that they read in different ways, and what each takes it for."""
    common = frozenset.intersection(*(reading.effects for reading in readings))
    apart = [sorted(reading.effects - common) for reading in readings]
    position, who, *_ = min(effects[0] for effects in apart if effects)
    ways = []
    for effects, reading in zip(apart, readings, strict=True):
        words = " ".join(f"{field}: {value}" for other, _, field, value in effects if other == position)
        ways.append(f"{f'`{words}`' if words else 'nothing'} in {_names_of(reading.dialects)}")
    return f"{who}: a number in its parameters means {listed(ways)}"


def _effects(net: NetParameter) -> Iterable[Effect]:
    old = V1LayerParameter.LayerType
    layers: list[LayerParameter | V1LayerParameter] = [*net.layer, *net.layers]
    for position, layer in enumerate(layers):
        who = f"layer '{layer.name}' ({layer.type if isinstance(layer.type, str) else old.Name(layer.type)})"
        for param, value in layer.ListFields():
            if not is_message(param) or is_repeated(param):
                if param.name not in IDLE_OF_LAYER or param.name in CONNECTING:
                    yield position, who, param.name, str(value)
                continue
            averages = param.name != "pooling_param" or value.pool == value.AVE
            for field, one in value.ListFields():
                if field.name == "avg_include_pad" and not averages:
                    continue
                plain = not is_message(field) and not is_repeated(field)
                if field.name not in IDLE and not (plain and one == field.default_value):
                    text = field.enum_type.values_by_number[one].name if field.enum_type and plain else str(one)
                    if field.type == field.TYPE_BOOL and plain:
                        text = text.lower()
                    yield position, who, field.name, " ".join(text.split())


def _names_of(dialects: Dialects) -> str:
    """Dialects in the order of `DIALECTS`, three at the most by name."""
    return few([one for one in DIALECTS if one in dialects], 3)


def _reading_in(readings: Readings, dialect: str, alive: Dialects) -> bytes:
    """A message as read in a dialect; else in one of those that may have written the file, else in any."""
    for some in (frozenset({dialect}), alive, ALL):
        for encoded, dialects in readings.items():
            if dialects & some:
                return encoded
    return b""


def _merge(message: Message, encoded: bytes, who: str, file: WeightsFile) -> None:
    try:
        message.MergeFromString(encoded)
    except DecodeError as error:
        raise ParseError(f"{who} is damaged: {error}; copy it again", file.path) from None


def _keep_phase(layer: LayerParameter) -> None:
    """Keep only the phases among a layer's rules: it was in the net, so the stages and levels that it asks for held."""
    for rule in layer.include:
        for name in ("min_level", "max_level", "stage", "not_stage"):
            rule.ClearField(name)
    for index in reversed(range(len(layer.exclude))):
        if [field.name for field, _ in layer.exclude[index].ListFields()] != ["phase"]:
            del layer.exclude[index]


def _undo_splits(net: NetParameter) -> list[int]:
    """Take out the Split layers that Caffe put in, by their names (`insert_splits.cpp`). Returns which are left."""
    whole: dict[str, str] = {}
    kept: list[int] = []
    for position, layer in enumerate(net.layer):
        for index, bottom in enumerate(layer.bottom):
            layer.bottom[index] = whole.get(bottom, bottom)
        named = [f"{layer.name}_{index}" for index in range(len(layer.top))]
        # A Split of the user's own may have outputs of the network among its tops.
        if layer.type == "Split" and layer.name.endswith("_split") and layer.bottom and list(layer.top) == named:
            whole.update(dict.fromkeys(layer.top, layer.bottom[0]))
        else:
            kept.append(position)
    if whole:
        copies = NetParameter(layer=[net.layer[position] for position in kept])
        del net.layer[:]
        net.layer.extend(copies.layer)
    return kept


class _Reader:
    """Gives the messages of one file the numbers of the union.

    Attributes:
        among: who may have written it.
    """

    def __init__(self, buffer: Buffer, among: Dialects) -> None:
        self.buffer, self.among = buffer, among
        self._known: dict[tuple[str, bytes], Readings] = {}

    def read(self, who: str, message: Descriptor, stored: Iterable[Field], file: WeightsFile) -> Readings:
        """A message of the file; see `readings`. Raises ParseError."""
        try:
            stored = list(stored)
            return self.readings(
                message, stored, self._layer_type(stored) if message is LayerParameter.DESCRIPTOR else ""
            )
        except WireError as error:
            raise ParseError(f"{who} is damaged: {error}; copy it again", file.path) from None
        except LookupError as error:
            raise ParseError(f"{who}: {error.args[0]}", file.path) from None

    def readings(self, message: Descriptor, stored: Iterable[Field], layer_type: str = "") -> Readings:
        """A message in the numbers of the union, as each dialect reads it that has all its numbers.

        Weights are left out, and so is what nobody knows or what is a parameter of other types than `layer_type`.
        """
        readings: Readings = {b"": self.among}
        for field in stored:
            options, longer = self._options(message, field, layer_type), Readings()
            for encoded, dialects in readings.items():
                for piece, who in options.items():
                    if both := dialects & who:
                        longer[encoded + piece] = longer.get(encoded + piece, frozenset()) | both
            if options and not longer:  # a fork of two dialects
                longer = {encoded + next(iter(options)): dialects for encoded, dialects in readings.items()}
            readings = longer or readings
        return readings

    def unknown_field(self, layer: Iterable[Field]) -> str:
        """A field in the parameters of a layer's type that no dialect has; empty where all are known."""
        layer = list(layer)
        row, outside, known = LAYERS.get(layer_type := self._layer_type(layer)), "", False
        for found in layer if row and row.reads else ():
            meanings = _meanings(LayerParameter.DESCRIPTOR).get(found.number, [])
            own = [one.field for one in meanings if _belongs(one.field.name, layer_type) and is_message(one.field)]
            for inner in fields(self.buffer, found.at, found.end) if own and found.wire == LENGTH else ():
                senses = [one.field for field in own for one in _meanings(field.message_type).get(inner.number, [])]
                if not any(_fits(sense, inner.wire) for sense in senses):
                    return f"unknown field, number {inner.number} of its {own[0].name}"
            known = known or bool(own)
            if not meanings and found.wire == LENGTH and found.number >= FIRST_OF_A_TYPE:
                outside = f"unknown field, number {found.number}, and none that its type has"
        return "" if known else outside

    def _options(self, message: Descriptor, found: Field, layer_type: str) -> Readings:
        """What one field may be, encoded anew, and in which dialects it is that."""
        meanings = _meanings(message).get(found.number, [])
        fitting = [meaning for meaning in meanings if _fits(meaning.field, found.wire)]
        if layer_type:
            own = [meaning for meaning in fitting if _belongs(meaning.field.name, layer_type)]
            if len(fitting) > 1 and not own:
                return {}  # a parameter of another type: it means nothing here, whichever it is
            fitting = own or fitting
        options: Readings = {}
        for field, dialects in fitting:
            for piece, who in self._values(field, found).items():
                options[piece] = options.get(piece, frozenset()) | (dialects & who)
        if fitting and self.among != ALL and not any(who & self.among for who in options.values()):
            whose = ", ".join(sorted(self.among))
            raise LookupError(f"number {found.number} of {_name(message)}, or what it holds, means nothing in {whose}")
        return options

    def _values(self, field: FieldDescriptor, found: Field) -> Readings:
        payload = bytes(self.buffer[found.at : found.end])
        if is_message(field):
            key = (_name(field.message_type), payload)
            if key not in self._known:
                self._known[key] = self.readings(field.message_type, fields(self.buffer, found.at, found.end))
            return {encode_field(field.number, inner): who for inner, who in self._known[key].items()}
        if found.wire == LENGTH:
            text = field.type == FieldDescriptor.TYPE_STRING
            return {encode_field(field.number, decode_name(payload).encode() if text else payload): ALL}
        tag = encode_tag(field.number, found.wire)
        if field.type == FieldDescriptor.TYPE_BOOL and varint(self.buffer, found.at, found.end)[0] > 1:
            return {}  # what protobuf writes for no bool
        if found.wire == VARINT and field.enum_type is not None:
            number = varint(self.buffer, found.at, found.end)[0]
            known = _numbers(field.enum_type).get(number) or {number: ALL}
            return {tag + encode_varint(value): who for value, who in known.items()}
        if found.wire == VARINT and field.type == FieldDescriptor.TYPE_FLOAT:
            whole = signed(varint(self.buffer, found.at, found.end)[0])
            return {encode_tag(field.number, FIXED32) + struct.pack("<f", whole): ALL}
        return {tag + payload: ALL}

    def _layer_type(self, layer: Iterable[Field]) -> str:
        words = [field for field in layer if field.number == 2 and field.wire == LENGTH]
        return decode_name(bytes(self.buffer[words[-1].at : words[-1].end])) if words else ""


@cache
def _meanings(message: Descriptor) -> dict[int, list[Meaning]]:
    """What each number of a message can mean in a file."""
    meanings: dict[int, list[Meaning]] = {}
    name = _name(message)
    numbers = [table.get(name, {}) for table in (RENUMBERED, ELSEWHERE)]
    for field in message.fields:
        if not is_message(field) or field.message_type.name != "BlobProto":
            for number, dialects in _by_number(FIELDS, name, field, numbers):
                meanings.setdefault(number, []).append(Meaning(field, dialects))
    return meanings


@cache
def _numbers(enum: Descriptor) -> dict[int, dict[int, Dialects]]:
    """What each number of an enum can mean in a file: the value's number in the union, and in which dialects."""
    name = _name(enum)
    meanings: dict[int, dict[int, Dialects]] = {}
    for value in enum.values:
        for number, dialects in _by_number(VALUES, name, value, [ENUM_VALUES.get(name, {})]):
            values = meanings.setdefault(number, {})
            # Two names of one number are one value, the first.
            if new := dialects.difference(*values.values()):
                values[value.number] = new
    return meanings


def _by_number(
    table: Mapping[str, Mapping[Dialects, str]], name: str, member: Any, tables: list[dict[str, dict[str, int]]]
) -> Iterable[tuple[int, Dialects]]:
    """The numbers that dialects give to a field or to the value of an enum, and which dialects do."""
    owners = [some for some, words in table.get(name, {}).items() if member.name in words.split()]
    numbers: dict[int, set[str]] = {}
    # What no group has is the same in all that have it, or known by texts alone.
    for dialect in owners[0] if owners else ALL:
        real = next((one[member.name][dialect] for one in tables if dialect in one.get(member.name, {})), member.number)
        numbers.setdefault(real, set()).add(dialect)
    return [(number, frozenset(some)) for number, some in numbers.items()]


def _name(described: Descriptor) -> str:
    return str(described.full_name).removeprefix("bnfold.caffe.")


def _fits(field: FieldDescriptor, wire: int) -> bool:
    """Whether a field can be stored with this wire type."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return wire == LENGTH
    if wire == LENGTH:
        return is_repeated(field)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        # A whole number in some dialects.
        return wire == FIXED32 or (wire == VARINT and field.name in RETYPED.get(_name(field.containing_type), {}))
    return wire == (FIXED64 if field.type == FieldDescriptor.TYPE_DOUBLE else VARINT)


def _belongs(name: str, layer_type: str) -> bool:
    """Whether a layer of type `layer_type` has its parameters in the field `name`."""
    if (row := LAYERS.get(layer_type)) and row.reads:
        return name in row.reads
    return layer_type.lower() == name.removesuffix("_param").replace("_", "").lower()
