"""Reads protobuf's text format, as far as prototxt files use it, without a schema.

    message := { field }
    field   := name [':'] '{' message '}'  |  name [':'] '<' message '>'
             | name ':' value              |  name ':' '[' value {',' value} ']'
    value   := number | word | string { string }

A message becomes a `Message`: each field name leads to the list of all its values, in file order. Without a schema
nothing tells an enum from a bool or a float from an int, so the accessors of `Message` convert on reading.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias, Union

Value: TypeAlias = Union[bool, int, float, str, "Message"]

WORDS: dict[str, Value] = {
    "False": False,
    "True": True,
    "false": False,
    "inf": float("inf"),
    "infinity": float("inf"),
    "nan": float("nan"),
    "true": True,
}

ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[fF]?(?![A-Za-z0-9_.]))
      | (?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[:{}<>\[\],;])""",
    re.VERBOSE,
)


class Message(dict[str, list[Value]]):
    """One message: field name -> all values. The accessors take the last value, as protobuf does, or a default."""

    def sub(self, field: str) -> Message:
        """The message in a field; repeated mentions of a single message are merged, as protobuf merges them."""
        merged = Message()
        for value in self.subs(field):
            for name, values in value.items():
                merged.setdefault(name, []).extend(values)
        return merged

    def subs(self, field: str) -> list[Message]:
        found = self.get(field, [])
        return [value for value in found if isinstance(value, Message)]

    def number(self, field: str, default: float) -> float:
        values = self.numbers(field)
        return values[-1] if values else default

    def numbers(self, field: str) -> list[float]:
        return [float(value) for value in self.get(field, []) if isinstance(value, (bool, int, float))]

    def integer(self, field: str, default: int) -> int:
        values = self.integers(field)
        return values[-1] if values else default

    def integers(self, field: str) -> list[int]:
        return [int(value) for value in self.get(field, []) if isinstance(value, (bool, int, float))]

    def flag(self, field: str, default: bool) -> bool:
        values = self.get(field, [])
        return bool(values[-1]) if values else default

    def word(self, field: str, default: str = "") -> str:
        values = self.words(field)
        return values[-1] if values else default

    def enum(self, field: str, default: str, numbers: dict[int, str]) -> str:
        """An enum's word, also when the file gives its number."""
        value = self.get(field, [default])[-1]
        return numbers[value] if isinstance(value, int) else str(value)

    def words(self, field: str) -> list[str]:
        return [value if isinstance(value, str) else str(value) for value in self.get(field, [])]


class Token(NamedTuple):
    """A piece of text, what kind it is, and the line it stands on."""

    kind: str
    text: str
    line: int


def parse(text: str) -> Message:
    """The message that a text holds; ValueError with the line number if it is not well formed."""
    return parse_message(tokenize(text), closed_by="")


def tokenize(text: str) -> list[Token]:
    """All tokens in reverse order, so that the parser can pop them, with an empty end token first."""
    tokens = []
    position, line = 0, 1
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"line {line}: cannot read {text[position : position + 20]!r}")
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match.group(), line))
        line += match.group().count("\n")
        position = match.end()
    tokens.append(Token("end", "", line))
    tokens.reverse()
    return tokens


def parse_message(tokens: list[Token], closed_by: str) -> Message:
    message = Message()
    while True:
        token = tokens.pop()
        if token.text == closed_by:
            return message
        if token.kind != "word":
            raise ValueError(f"line {token.line}: a field name was expected, not {token.text!r}")
        message.setdefault(token.text, []).extend(parse_field(tokens))
        while tokens[-1].text in (",", ";"):
            tokens.pop()


def parse_field(tokens: list[Token]) -> list[Value]:
    """What follows a field's name."""
    if tokens[-1].text == ":":
        tokens.pop()
    elif tokens[-1].text not in ("{", "<"):
        raise ValueError(f"line {tokens[-1].line}: ':' was expected, not {tokens[-1].text!r}")
    if tokens[-1].text != "[":
        return [parse_value(tokens)]
    tokens.pop()
    values: list[Value] = []
    while tokens[-1].text != "]":
        values.append(parse_value(tokens))
        if tokens[-1].text == ",":
            tokens.pop()
    tokens.pop()
    return values


def parse_value(tokens: list[Token]) -> Value:
    token = tokens.pop()
    if token.text == "{":
        return parse_message(tokens, closed_by="}")
    if token.text == "<":
        return parse_message(tokens, closed_by=">")
    if token.kind == "string":
        text = unquote(token.text)
        while tokens[-1].kind == "string":
            text += unquote(tokens.pop().text)
        return text
    if token.kind == "number":
        return parse_number(token.text)
    if token.kind == "word":
        return -float(token.text[1:]) if token.text.startswith("-") else WORDS.get(token.text, token.text)
    raise ValueError(f"line {token.line}: a value was expected, not {token.text!r}")


def parse_number(text: str) -> int | float:
    if re.fullmatch(r"[-+]?0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    text = text.rstrip("fF")
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def unquote(text: str) -> str:
    """The content of a quoted string."""

    def unescape(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] in "xX":
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8))
        return ESCAPES.get(code, code)

    return re.sub(r"\\([xX][0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", unescape, text[1:-1])
