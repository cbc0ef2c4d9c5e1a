"""Reading prototxt text: the file's bytes, the message they spell, and the text that each layer has for itself.

The message is made by protobuf's text parser against the union schema of all dialects. When it refuses, the text is
looked at field by field to find out what is meant: fields that no dialect has, words that no enum has, fields given
twice. Caffe stops at each; so do we, with place and guess, except that

- a layer of an unknown *type* may have whatever it likes: it stays opaque and is written back as it was;
- an unknown field that means nothing at inference (in data layers, losses, metrics, fillers and `param {}`, V1's
  `blobs_lr` in V2, a net's `mem_param`) is passed over, and any other one makes its layer opaque, as an unknown type
  does: what it computes is not known;
- but a slip of the pen (`kernal_size`) stops, with the guess; `strict_fields` stops at all of them;
- a singular field given twice counts as given last (protobuf's own rule for merging);
- `ignore_unknown_fields` drops unknown fields and reads on;
- V1 layers of forks may have types and parameters that only V2 knows.

Notes say each of these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format
from google.protobuf.message import Message

from bnfold.caffe import caffe_pb2
from bnfold.caffe.descriptors import Descriptor, is_repeated
from bnfold.caffe.layer_types import brings_samples, is_known, is_metric, loss
from bnfold.caffe.layout import TextLayout, read_layout
from bnfold.caffe.repetition import parse_net
from bnfold.caffe.scan import CLOSED, Prototxt, TextField, replaced
from bnfold.errors import Guesses, ParseError, did_you_mean, few
from bnfold.io.formats import HEAD, other_format, text_of
from bnfold.io.mapping import read_file

NET: Descriptor = caffe_pb2.NetParameter.DESCRIPTOR
LAYER: Descriptor = caffe_pb2.LayerParameter.DESCRIPTOR
V1: Descriptor = caffe_pb2.V1LayerParameter.DESCRIPTOR
# Fields of a solver, by which a file is known to be one.
SOLVER_NETS = ("net_param", "test_net_param", "train_net_param")
SOLVER_FILES = ("net", "test_net", "train_net")
SOLVER_SETTINGS = ("base_lr", "lr_policy", "max_iter", "snapshot_prefix", "solver_mode", "test_iter")
MAX_BYTES = 1 << 30
# Each layer costs memory and time whatever it says. Published nets have below 3,000.
MAX_LAYERS = 100_000
MAX_QUOTED = 200
_SHOWN = 5


@dataclass(slots=True, eq=False)
class Foreign:
    """What a text says that no message can hold; layers are numbered as they stand in the text, of one version.

    Attributes:
        opaque: layer -> the field or word of it that no dialect has, where that may change what it computes.
        types: V1 layer -> its type, where V1 has no such word.
        params: V1 layer -> its parameters that only V2 has.
    """

    opaque: dict[int, str] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    params: dict[int, caffe_pb2.LayerParameter] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class PrototxtDocument:
    """A prototxt as it was read, before any upgrade.

    Attributes:
        net: the message.
        layout: the text behind the message.
        notes: sentences on what was read with leniency.
        file: the prototxt, None when it came from memory.
        foreign: what the message has no place for.
    """

    net: caffe_pb2.NetParameter
    layout: TextLayout = field(default_factory=TextLayout)
    notes: list[str] = field(default_factory=list)
    file: Path | None = None
    foreign: Foreign = field(default_factory=Foreign)


def read_prototxt(path: Path, *, ignore_unknown_fields: bool = False, strict_fields: bool = False) -> PrototxtDocument:
    """Read a prototxt file; see `parse_prototxt`. Raises ParseError also when the file cannot be read."""
    content = read_file(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ParseError("has more than 1 GiB, which is too large for a prototxt", path)
    try:
        return parse_prototxt(
            decode_prototxt(content, path),
            path,
            ignore_unknown_fields=ignore_unknown_fields,
            strict_fields=strict_fields,
        )
    except ParseError:
        head = text_of(content[: 2 * HEAD]).encode("utf-8", "surrogateescape")  # UTF-16 has two bytes for a letter
        if other := other_format(head[:HEAD], "prototxt"):
            raise ParseError(other, path) from None
        raise


def parse_prototxt(
    text: str, file: Path | None = None, *, ignore_unknown_fields: bool = False, strict_fields: bool = False
) -> PrototxtDocument:
    """Parse the text of a net of any version, or of a solver that holds one in `net_param`.

    Args:
        text: what `decode_prototxt` made of the file.
        file: for messages.
        ignore_unknown_fields: drop fields that no dialect has, with a note, wherever they are.
        strict_fields: stop at each of them.

    Raises:
        ParseError: with line and column.
    """
    prototxt = Prototxt(text, file)
    commented = _behind_return(text)
    try:
        at, end, states = _net_span(prototxt)
        fields = list(prototxt.fields(at, end))
    except ParseError:
        if commented is None:
            raise
        raise prototxt.error(BEHIND_RETURN, commented) from None
    if sum(found.name in ("layer", "layers") for found in fields) > MAX_LAYERS:
        raise ParseError(f"has more than {MAX_LAYERS:,} layers, which no network has", file)
    _refuse_two_versions(prototxt, fields)
    document = PrototxtDocument(caffe_pb2.NetParameter(), file=file)
    body = text if (at, end) == (0, len(text)) else _blank(text, [(0, at), (end, len(text))])
    if _ESCAPED.search(body):
        body = CLOSED.sub(lambda token: _ESCAPED.sub("?", token.group()), body)
        if stray := _ESCAPED.search(body):
            raise prototxt.error("a byte that is no text stands outside comments and strings", stray.start())
    loose = False
    try:
        document.net = parse_net(body, fields)
    except (text_format.ParseError, RecursionError, ValueError):
        reader = _Diagnosis(prototxt, fields, ignore_unknown_fields, strict_fields)
        document.net, document.notes = reader.parse(body)
        document.foreign, loose = reader.foreign, True
        if not document.net.layer and not document.net.layers:
            raise ParseError("has no layers left without what was ignored, so it is not a network", file) from None
    if (at, end) != (0, len(text)):
        document.notes.append("the prototxt is a solver: of its fields only the net is read, and written")
        _filter_by_solver(document, prototxt, states)
    if commented is not None:
        line, column = prototxt.place(commented)
        document.notes.append(f"line {line}, column {column}: {BEHIND_RETURN}")
    document.layout = read_layout(prototxt, fields, at, end)._replace(loose=loose)
    return document


def decode_prototxt(content: bytes, path: Path | None = None) -> str:
    """The text of a prototxt in whatever encoding: only comments and names can differ, so nothing may be lost there.

    UTF-8 (or UTF-16: see `text_of`); bytes that are not stay in comments as surrogate escapes, so that writing with the
    same error handler gives them back, and in strings they are read as Latin-1, as in a caffemodel's names.
    Raises ParseError for a file that is no text.
    """
    text = text_of(content)
    if "\0" in text or _BINARY.match(text):
        from bnfold.caffe.weights import message_of  # rare

        what = message_of(content) or "binary"
        raise ParseError(f"is {what} and not a prototxt{_MEANT.get(what, '')}", path)
    text = text.replace("\r\n", "\n")
    if _ESCAPED.search(text):
        text = CLOSED.sub(_latin1_string, text)
    return text


# What a file is that is no text -> what to do.
_MEANT = {
    "an ONNX model": ": its name has to end in .onnx",
    "binary": ": was a caffemodel, or an ONNX model, given in its place?",
}

BEHIND_RETURN = (
    "a carriage return alone ends no comment, so this is part of one and is not read, by Caffe neither; give the file "
    "line feeds if it should be"
)
_BINARY = re.compile("\\s*(?:[\x01-\x08\x0e-\x1f]|\udca2\x06)")  # the last is the tag of a layer
_ESCAPED = re.compile("[\udc80-\udcff]")
_LINE = re.compile(r"\r\s*+(\S)")
_NUMBER = re.compile(r"-?[0-9]{1,10}")
_SIZE = re.compile(r"[0-9]{1,9}")


def _latin1_string(token: re.Match[str]) -> str:
    word = token.group()
    if word[0] == "#" or not _ESCAPED.search(word):
        return word
    return word.encode("utf-8", "surrogateescape").decode("latin-1")


def _behind_return(text: str) -> int | None:
    """Where a comment first goes on behind a carriage return, as in a file whose lines end with nothing else."""
    for token in CLOSED.finditer(text) if "\r" in text else ():
        comment = token.group().rstrip() if token.group()[0] == "#" else ""
        for line in _LINE.finditer(comment):
            if line[1] != "#":
                return token.start() + line.start(1)
    return None


def _filter_by_solver(document: PrototxtDocument, prototxt: Prototxt, states: Sequence[TextField]) -> None:
    """Merge a solver's `test_state` into the state of its net (solver.cpp, InitTestNets); several are of several nets.

    Raises:
        ParseError: it is no state.
    """
    if len(states) > 1:
        document.notes.append(f"the solver has {len(states)} test_states, each of one net; say what counts by --stage")
    for state in states if len(states) == 1 else ():
        try:
            text_format.Merge(prototxt.value(state), document.net.state)
        except (text_format.ParseError, ValueError):
            raise prototxt.error("the solver's test_state is no state of a net", state.begin) from None


def _net_span(prototxt: Prototxt) -> tuple[int, int, list[TextField]]:
    """Where the net's own fields are: the whole text, or the inside of a solver's `net_param`; its test_states."""
    fields: dict[str, TextField] = {}
    states: list[TextField] = []
    for found in prototxt.fields():
        if found.name in ("layer", "layers"):
            return 0, len(prototxt.text), []
        fields.setdefault(found.name, found)
        states += [found] * (found.name == "test_state")
    for name in SOLVER_NETS:
        if name in fields and fields[name].opener:
            # With a net of its own for testing, a state is of that one.
            tests = name == "test_net_param" or fields.keys().isdisjoint(("test_net_param", "test_net"))
            return fields[name].at, fields[name].stop, states if tests and name != "train_net_param" else []
    for name in SOLVER_FILES:
        if name in fields:
            net = prototxt.value(fields[name])
            more = ", and by --stage what its test_state says" if states else ""
            sentence = f"this is a solver, and its net is in another file: give {net} instead{more}"
            raise prototxt.error(sentence, fields[name].begin)
    if solving := [found for name, found in fields.items() if name in SOLVER_SETTINGS]:
        raise prototxt.error("this is a solver that names no net: give the net that it trains", solving[0].begin)
    if not fields:
        raise ParseError("is empty", prototxt.file)
    if all(name in NET.fields_by_name for name in fields):
        raise ParseError("has no layers, so it is not a network", prototxt.file)
    first = next(iter(fields.values()))
    if not any(name in NET.fields_by_name for name in fields) and not did_you_mean(first.name, NET.fields_by_name):
        others = f", nor {len(fields) - 1:,} more of its fields" if len(fields) > 1 else ""
        raise prototxt.error(
            f"this is no network: it has no layers, and no network has {first.name!r}{others}", first.begin
        )
    return 0, len(prototxt.text), []


def _refuse_two_versions(prototxt: Prototxt, fields: list[TextField]) -> None:
    """Caffe reads `layers` (V1) or `layer` (V2), and never both."""
    old = [found for found in fields if found.name == "layers"]
    new = [found for found in fields if found.name == "layer"]
    if old and new:
        odd, others = (old, new) if len(old) <= len(new) else (new, old)
        line, _ = prototxt.place(others[0].begin)
        raise prototxt.error(
            f"`{odd[0].name}` (V{2 - (odd is old)}) in a file with {len(others)} `{others[0].name}` "
            f"(V{2 - (odd is new)}, the first at line {line}): Caffe reads only one kind; write them all as `layer`",
            odd[0].begin,
        )


class _Action(Enum):
    """What is to be done about a problem."""

    IDLE = auto()  # it means nothing at inference: read on, and say so
    OPAQUE = auto()  # nobody knows what its layer computes
    STOP = auto()  # unless unknown fields are to be ignored
    FATAL = auto()


class _Problem(NamedTuple):
    """Something that protobuf's parser would stop at."""

    found: TextField
    layer: str
    reason: str
    action: _Action


# What protobuf says of a value that is of another kind -> what its field takes.
_KINDS = (
    (r"Couldn't parse integer: (.*)", r"expected a whole number and found \1"),
    (r"Couldn't parse float: (.*)", r"expected a number and found \1"),
    (r"Value out of range: (.*)", r"\1 is out of range"),
    (r"Expected string but found: '?(.*?)'?", r"expected a word in quotes and found \1"),
    (r'Expected "true" or "false"', "expected true or false"),
    (r'Expected "(.)"', r"expected '\1'"),
)


def _in_our_words(said: str, before: str) -> str:
    """What protobuf says of a value, with its field, the last word `before` it; other sentences as they are."""
    field = re.search(r"(\w+)\s*:?\s*$", before[-MAX_QUOTED:])
    for pattern, ours in _KINDS:
        if found := re.fullmatch(pattern, said):
            return f"{field[1]}: {found.expand(ours)}" if field else found.expand(ours)
    return said


class _Diagnosis:
    """Finds out why a text does not parse, and parses it with what may be dropped taken out."""

    def __init__(self, prototxt: Prototxt, fields: list[TextField], ignore_unknown_fields: bool, strict: bool) -> None:
        self.prototxt, self.fields, self.ignore, self.strict = prototxt, fields, ignore_unknown_fields, strict
        self.notes: list[str] = []
        self.guesses = Guesses()
        self.dropped: list[tuple[int, int]] = []
        self.foreign = Foreign()
        self.moved: list[tuple[int, TextField]] = []
        self.number = 0  # of the layer that is looked at
        self.axes: list[tuple[int, str, list[int]]] = []
        # Layers in a list are not told apart here.
        self.has_lists = any(found.opener == "[" for found in fields if found.name in ("layer", "layers"))

    def parse(self, body: str) -> tuple[caffe_pb2.NetParameter, list[str]]:
        """The message and the notes. Raises ParseError."""
        problems: list[_Problem] = []
        number = 0
        for found in self.fields:
            if found.name in ("layer", "layers"):
                for problem in self._in_layer(found, number):
                    problems.append(problem)
                    if problem.action is _Action.OPAQUE:
                        hint = IGNORES * problem.reason.startswith("unknown field")
                        self.foreign.opaque.setdefault(number, problem.reason + hint)
                number += 1
            else:
                action = _Action.IDLE if found.name in MEMORY else _Action.STOP
                problems += self._in_field(found, NET, "the net", action)
        if any(self._stops(problem) for problem in problems):
            raise self._error([problem for problem in problems if self.strict or problem.action is not _Action.IDLE])
        if self.ignore:
            self.foreign.opaque.clear()
        self._note(problems)
        self.dropped += [problem.found.span for problem in problems]
        net = caffe_pb2.NetParameter()
        body = _blank(body, self.dropped)
        for owner, found in self.moved:
            param = self.foreign.params.setdefault(owner, caffe_pb2.LayerParameter())
            self._merge(body[found.begin : found.end], param, found.begin)
        self._merge(_blank(body, [found.span for _, found in self.moved]), net)
        for number, name, sizes in self.axes:
            getattr((net.layer or net.layers)[number].pooling_param, f"{name}_3d").extend(sizes)
        return net, self.notes

    def _merge(self, text: str, message: Message, begin: int = 0) -> None:
        """Parse what stands from `begin` on; Merge differs from Parse in one thing: a singular field may come twice."""
        try:
            text_format.Merge(text, message)
        except text_format.ParseError as error:
            # It begins with the place, and mostly quotes the whole line, which may be the whole file.
            lines, row = text.split("\n"), (error.GetLine() or 1) - 1
            quoted = f"'{''.join(lines[row : row + 1])}': "
            said = re.sub(r"^[\d:]+ *:? *", "", str(error)).removeprefix(quoted).rstrip(".")
            at = begin + sum(len(line) + 1 for line in lines[:row]) + (error.GetColumn() or 1) - 1
            layers = (
                found for found in self.fields if found.name in ("layer", "layers") and found.opener in ("{", "<")
            )
            around = [self.prototxt.fields(one.at, one.stop) for one in layers if one.begin <= at < one.end]
            where = "".join(f", in {_who(self._said(fields))}" for fields in around)
            said = _in_our_words(said[:MAX_QUOTED].replace("bnfold.caffe.", ""), text[: at - begin])
            raise self.prototxt.error(f"{said}{where}", at) from None
        except (RecursionError, ValueError) as error:
            raise ParseError(f"cannot be read: {error}", self.prototxt.file) from None

    def _said(self, fields: Iterable[TextField]) -> dict[str, str]:
        """What the fields of a layer say, without quotes."""
        return {found.name: self.prototxt.value(found).strip("\"'") for found in fields}

    def _stops(self, problem: _Problem) -> bool:
        if problem.action is _Action.FATAL:
            return True
        return not self.ignore and (self.strict or problem.action is _Action.STOP)

    def _note(self, problems: list[_Problem]) -> None:
        """One sentence for each field that is passed over, with the layers that have it."""
        said: dict[str, list[_Problem]] = {}
        for problem in problems:
            if self.ignore or problem.action is _Action.IDLE:
                said.setdefault(problem.reason, []).append(problem)
        for reason, alike in said.items():
            line, column = self.prototxt.place(alike[0].found.begin)
            layers = few([problem.layer for problem in alike], 1)
            why = "" if self.ignore else ": it means nothing at inference"
            self.notes.append(f"line {line}, column {column}: ignored {reason} in {layers}{why}")

    def _in_layer(self, layer: TextField, number: int) -> Iterator[_Problem]:
        if layer.opener == "[":
            return
        self.number = number
        fields = list(self.prototxt.fields(layer.at, layer.stop)) if layer.opener else []
        values = self._said(fields)
        layer_type, who = values.get("type", ""), _who(values)
        old = layer.name == "layers"
        if old and layer_type:
            layer_type = self._v1_type(layer_type, number, fields)
        source = brings_samples(layer_type) and "bottom" not in values
        opaque = not source and (not is_known(layer_type) or brings_samples(layer_type, reads=True))
        trains = source or loss(layer_type) is not None or is_metric(layer_type)
        seen: dict[str, TextField] = {}
        for found in fields:
            if old and found.name == "type" and number in self.foreign.types:
                self.dropped.append(found.span)
                continue
            stops = found.name in RULES or (trains and found.name in PREDICTING) or "layer" in values or self.has_lists
            action = _Action.STOP if stops else _Action.IDLE if trains else _Action.OPAQUE
            said = _message_of(found) if old else LAYER
            if old and said is LAYER:
                self.moved.append((number, found))
            problems = list(self._in_field(found, said, who, action))
            if problems and opaque and found.name not in COMMON_FIELDS:
                self.dropped.append(found.span)
                if self.moved and self.moved[-1][1] is found:
                    self.moved.pop()
            else:
                yield from problems
            self._note_repetition(found, seen, said, who)

    def _v1_type(self, word: str, number: int, fields: list[TextField]) -> str:
        """The V2 type of a V1 layer; a word that V1 has not is remembered."""
        from bnfold.caffe.upgrade import v2_type  # which reads documents

        known = v2_type(word)
        quoted = any(found.name == "type" and self.prototxt.text[found.at] in "\"'" for found in fields)
        if (quoted or word not in V1.enum_types_by_name["LayerType"].values_by_name) and not word.isdigit():
            self.foreign.types[number] = known
        return known

    def _in_field(self, found: TextField, message: Descriptor, who: str, action: _Action) -> Iterator[_Problem]:
        """What is wrong with one field of `message`, and in the fields below it; `action` is that of a foreign one."""
        known = message.fields_by_name.get(found.name)
        if message.name in IDLE_MESSAGES or (known is None and found.name in RATES):
            action = _Action.IDLE
        if known is None:
            yield self._unknown_field(found, message, who, action)
        elif found.opener == "[" and not is_repeated(known):
            reason = f"{message.name}'s {found.name} takes one value, and is given a list"
            yield _Problem(found, who, reason, _Action.FATAL)
        elif known.enum_type is not None and not found.opener:
            word, words = self.prototxt.value(found), known.enum_type.values_by_name
            if word not in words and not (_NUMBER.fullmatch(word) and int(word) in known.enum_type.values_by_number):
                yield self._unknown_value(found, message, who, action)
        elif known.message_type is not None and found.opener in ("{", "<"):
            yield from self._inside(found, known.message_type, who, action)

    def _unknown_field(self, found: TextField, message: Descriptor, who: str, action: _Action) -> _Problem:
        """A field that no dialect has."""
        names = list(message.fields_by_name)
        hint, slip = self._hint(found.name, names, message, stops=action is _Action.STOP)
        reason = f"unknown field '{found.name[:MAX_QUOTED]}' of {message.name}{hint}"
        return _Problem(found, who, reason, _Action.STOP if slip else action)

    def _unknown_value(self, found: TextField, message: Descriptor, who: str, action: _Action) -> _Problem:
        """A word that no enum has."""
        word, enum = self.prototxt.value(found), message.fields_by_name[found.name].enum_type
        stops = action is _Action.STOP or not word.isidentifier()
        hint, slip = self._hint(word, list(enum.values_by_name), enum, stops=stops)
        if slip or stops:
            return _Problem(found, who, f"{found.name} is {word}, a value that no dialect knows{hint}", _Action.FATAL)
        there = few(list(enum.values_by_name))
        reason = f"unknown value '{word[:MAX_QUOTED]}' of {message.name}'s {found.name} (there are {there})"
        return _Problem(found, who, reason, action)

    def _hint(self, word: str, words: list[str], owner: Descriptor, *, stops: bool) -> tuple[str, bool]:
        """What may be meant by a word, if that is to be said, and whether it is a slip of the pen."""
        if slip := self.guesses.slip(word, words, owner.full_name):
            return f" (did you mean '{slip}'?)", True
        return self.guesses.at(word, words) if stops else "", False

    def _inside(self, outer: TextField, message: Descriptor, who: str, action: _Action) -> Iterator[_Problem]:
        """What is wrong in the fields of a field that is a message."""
        fields = list(self.prototxt.fields(outer.at, outer.stop))
        if message is caffe_pb2.PoolingParameter.DESCRIPTOR and not self.has_lists:
            fields = self._without_sizes_by_axis(fields)
        seen: dict[str, TextField] = {}
        for found in fields:
            yield from self._in_field(found, message, who, action)
            self._note_repetition(found, seen, message, who)

    def _without_sizes_by_axis(self, fields: list[TextField]) -> list[TextField]:
        """The fields of a Pooling but for sizes of which there is one for each axis, as some Caffes take them.

        In those `kernel_size` is repeated (pooling_layer.cpp of video-caffe, mkldnn_pooling_layer.cpp of Intel's), and
        Intel's schema has `kernel_size_3d` for the same; in BVLC's there is one for all axes, as where all are equal.
        """
        left = fields
        for name in ("kernel_size", "stride", "pad"):
            same = [found for found in fields if found.name == name]
            words = [word for found in same for word in re.split(r"[\s,]+", self.prototxt.value(found)) if word]
            if (len(set(words)) > 1 or any(found.opener for found in same)) and all(map(_SIZE.fullmatch, words)):
                self.axes.append((self.number, name, [int(word) for word in words]))
                self.dropped += [found.span for found in same]
                left = [found for found in left if found.name != name]
        return left

    def _note_repetition(self, found: TextField, seen: dict[str, TextField], message: Descriptor, who: str) -> None:
        known = message.fields_by_name.get(found.name)
        if known is None or is_repeated(known):
            return
        before = seen.get(found.name)
        if before and known.message_type is None and self.prototxt.value(before) != self.prototxt.value(found):
            line, column = self.prototxt.place(found.begin)
            self.notes.append(
                f"line {line}, column {column}: '{found.name}' is given twice in {who}; the last one counts"
            )
        seen[found.name] = found

    def _error(self, problems: list[_Problem]) -> ParseError:
        problems = sorted(problems, key=lambda problem: not self._stops(problem))
        first, *others = problems
        message = f"{first.reason}, in {first.layer}"
        if others:
            words = list(dict.fromkeys(f"'{other.found.name}'" for other in others))
            more = ", ..." if len(words) > _SHOWN else ""
            line, _ = self.prototxt.place(min(other.found.begin for other in others))
            message += f"; and {len(others)} more from line {line} on: {', '.join(words[:_SHOWN])}{more}"
        if all(problem.action is not _Action.FATAL for problem in problems):
            message += "; it may change what the network computes, and --ignore-unknown-fields reads on without it"
        return self.prototxt.error(message, first.found.begin)


def _message_of(found: TextField) -> Descriptor:
    """The message that has a field of a V1 layer, which forks may have V2's parameters in."""
    is_spec = found.name == "param" and found.opener  # V1 has the name alone
    return LAYER if found.name in LAYER.fields_by_name and (found.name not in V1.fields_by_name or is_spec) else V1


def _who(said: Mapping[str, str]) -> str:
    return f"layer '{said.get('name', '')}' ({said.get('type', '')})"


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with spans overwritten by spaces, so that everything else keeps its place."""
    return replaced(text, ((begin, end, re.sub(r"[^\n]", " ", text[begin:end])) for begin, end in sorted(spans)))


IGNORES = " (if it changes nothing, --ignore-unknown-fields reads on without it)"

# What every layer has whatever its type, so that a fault there is a fault of the net.
COMMON_FIELDS = frozenset(
    {"bottom", "exclude", "include", "loss_weight", "name", "param", "phase", "propagate_down", "top", "type"}
)

# Rules decide which layers there are, whatever these compute.
RULES = frozenset({"exclude", "include"})

# Which blobs of a net may lie in one place (Temporal Segment Networks' Caffe), whatever they hold.
MEMORY = frozenset({"mem_param"})

# What a loss does to its prediction, which stays at inference.
PREDICTING = frozenset({"sigmoid_param", "softmax_param"})

# Messages that only training reads.
IDLE_MESSAGES = frozenset({"FillerParameter", "ParamSpec"})

# How a layer is trained, in words that it has in another version or inside `param {}`: no Caffe reads them as written.
RATES = frozenset({"blob_share_mode", "blobs_lr", "decay_mult", "lr_mult", "share_mode", "strict_dim", "weight_decay"})
