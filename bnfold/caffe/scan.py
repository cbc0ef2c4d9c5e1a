"""Cutting prototxt text into its fields without knowing a schema, so that each keeps its place and its comments.

protobuf's own parser gives messages but neither places nor comments, and it knows only what the schema knows. This
scanner knows the grammar of fields alone: a name, a colon or not, and a scalar, a string, a `[list]` or a `{message}`.

Never done here: knowing what a field means, recursion (a hostile file nests as deep as it likes), changing the text.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bnfold.errors import ParseError

# A network nests 5 deep. protobuf's parser recurses, so what goes deeper must never reach it.
MAX_DEPTH = 64
# protobuf's parser takes many times the memory of a string that is all escapes.
MAX_VALUE = 1 << 20

CLOSERS = {"{": "}", "<": ">", "[": "]"}

_STRING = r""""[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'"""
_BLANK = re.compile(r"(?:\s++|#[^\n]*+)*+")
_NAME = re.compile(r"[A-Za-z_]\w*+|\[[\w./\s]*+\]")
_SCALAR = re.compile(
    rf"""(?:{_STRING})(?:(?:\s++|#[^\n]*+)*+(?:{_STRING}))*+|-?\s*+[^\s{{}}<>\[\],;:#"'-][^\s{{}}<>\[\],;:#"']*+"""
)
_PLACEHOLDER = re.compile(r"\$\{\w{1,60}\}|\$\w{1,60}|\{\{[^{}\n]{1,60}\}\}|%(?:\(\w{1,60}\))?[dfgrs]\b|@\w{1,60}@")
CLOSED = re.compile(rf"""#[^\n]*+|{_STRING}""")  # comments and strings, in which nothing else begins
_STRUCTURE = re.compile(rf"""((?:[^{{}}<>\[\]"'#]++|#[^\n]*+|{_STRING})*+)([{{}}<>\[\]"']|\Z)""")


class TextField(NamedTuple):
    """One field of a text: `text[begin:end]` is all of it, `text[at:stop]` the inside of its value.

    `opener` is the bracket that opens the value, empty for a scalar or a string; `at` and `stop` lie inside it.
    """

    name: str
    begin: int
    at: int
    stop: int
    end: int
    opener: str

    @property
    def span(self) -> tuple[int, int]:
        """Where all of it is."""
        return self.begin, self.end


class Prototxt:
    """A text and the file it came from, which turns an offset into a place.

    Args:
        text: the whole file, decoded.
        file: for messages; None when the text came from memory.
    """

    __slots__ = ("_line_starts", "file", "text")

    def __init__(self, text: str, file: Path | None = None) -> None:
        self.text, self.file = text, file
        self._line_starts = array("Q")  # a hostile file may be all line ends, and a list holds an object for each

    def value(self, field: TextField) -> str:
        """What stands in the place of a field's value."""
        return self.text[field.at : field.stop]

    def place(self, offset: int) -> tuple[int, int]:
        """The 1-based line and column of an offset."""
        if not self._line_starts:
            self._line_starts.append(0)
            self._line_starts.extend(found.end() for found in re.finditer("\n", self.text))
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def error(self, message: str, offset: int) -> ParseError:
        """An error that says where `offset` is, and if what a script should have filled in stands there."""
        for at in (offset, max(offset - 1, 0)):  # a scalar ends in front of the brace of ${NUM_LABELS}
            if unfilled := _PLACEHOLDER.match(self.text, at):
                way_out = "is a placeholder of a template: give the file that its script makes, or put the value there"
                return ParseError(f"{unfilled.group()!r} {way_out} ({message})", self.file, *self.place(at))
        return ParseError(message, self.file, *self.place(offset))

    def fields(self, at: int = 0, end: int | None = None) -> Iterator[TextField]:
        """The fields of the message in `text[at:end]`, in order. Raises ParseError where the grammar breaks."""
        text = self.text
        if end is None:
            end = len(text)
        at = _past_blank(text, at, end)
        while at < end:
            name = _NAME.match(text, at, end)
            if name is None:
                comment = " (a comment begins with '#')" if text[at] == "/" else ""
                raise self.error(f"expected the name of a field and found {_excerpt(text, at)}{comment}", at)
            field = self._field(name.group(), at, name.end(), end)
            yield field
            at = _past_blank(text, field.end, end)
            if at < end and text[at] in ",;":
                at = _past_blank(text, at + 1, end)

    def _field(self, name: str, begin: int, at: int, end: int) -> TextField:
        text = self.text
        at = _past_blank(text, at, end)
        colon = at < end and text[at] == ":"
        if colon:
            at = _past_blank(text, at + 1, end)
        if at < end and text[at] in CLOSERS:
            stop = self._closing(at, end, name)
            return TextField(name, begin, at + 1, stop, stop + 1, text[at])
        value = _SCALAR.match(text, at, end) if colon else None
        if value is None:
            wanted = "a value" if colon else "':' or '{'"
            found = _excerpt(text, at) if at < end else "the end"
            raise self.error(f"expected {wanted} after '{name[:40]}' and found {found}", min(at, end))
        self._check_length(at, value.end())
        return TextField(name, begin, at, value.end(), value.end(), "")

    def _check_length(self, at: int, end: int) -> None:
        if end - at > MAX_VALUE:
            raise self.error(f"a value of {end - at:,} characters, which is too long", at)

    def _check_strings(self, at: int, end: int) -> None:
        """Stop at a string that is too long between two brackets."""
        for string in CLOSED.finditer(self.text, at, end):
            if string[0][0] != "#":
                self._check_length(*string.span())

    def _closing(self, at: int, end: int, name: str) -> int:
        """Where the bracket at `at` closes."""
        open_brackets: list[tuple[str, int]] = []
        for token in _STRUCTURE.finditer(self.text, at, end):
            mark, place = token[2], token.start(2)
            if place - token.start() > MAX_VALUE:
                self._check_strings(token.start(), place)
            if not mark:
                break
            if mark in CLOSERS:
                open_brackets.append((CLOSERS[mark], place))
                if len(open_brackets) > MAX_DEPTH:
                    raise self.error(f"brackets are nested more than {MAX_DEPTH} deep, which is too deep", place)
            elif mark in ('"', "'"):
                raise self.error("a string is not closed on its line", place)
            else:
                wanted, opened = open_brackets.pop()
                if mark != wanted:
                    line, column = self.place(opened)
                    raise self.error(
                        f"found '{mark}' where '{wanted}' should close line {line}, column {column}", place
                    )
                if not open_brackets:
                    return place
        raise self.error(f"the '{self.text[at]}' of '{name}' is never closed", at)


def replaced(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """A text with other words in the place of spans: (begin, end, new text), in order."""
    pieces, at = [], 0
    for begin, end, new in edits:
        pieces += [text[at:begin], new]
        at = max(at, end)
    return "".join([*pieces, text[at:]])


def _past_blank(text: str, at: int, end: int) -> int:
    """The first place from `at` on that is neither white space nor comment."""
    match = _BLANK.match(text, at, end)
    assert match is not None, "the pattern matches the empty string"
    return match.end()


def _excerpt(text: str, at: int) -> str:
    word = re.compile(r"\w+|.", re.DOTALL).match(text, at)
    return repr(word.group()[:40]) if word else "the end of the file"
