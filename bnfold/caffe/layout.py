"""Which part of a prototxt's text belongs to which layer, so that layers that do not change keep their words.

Everything finds a place: comments and blank lines before a layer are the layer's, the rest of its last line too;
comments before other fields go to the next layer, and what stands at the end to the last one.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from bnfold.caffe.scan import Prototxt, TextField, replaced

INPUTS = frozenset({"input", "input_dim", "input_shape"})


class TextLayout(NamedTuple):
    """The text of a prototxt, in parts.

    Attributes:
        layers: for each `layer`, its own text; empty when they are not written one by one.
        lines: the line of each layer of any version.
        inputs: the text of the legacy `input`, `input_dim` and `input_shape` fields.
        header: what stands before the first layer or input, if a `name`, once, is all that it sets; None otherwise.
        loose: it has what protobuf's parser stops at: a field that was passed over, or is given twice.
    """

    layers: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    inputs: str = ""
    header: str | None = None
    loose: bool = False


def read_layout(prototxt: Prototxt, fields: Sequence[TextField], at: int, end: int) -> TextLayout:
    """Cut the text of a net, `prototxt.text[at:end]`, which has these fields."""
    text = prototxt.text
    ends = [_end_of_line(text, fields, index, end) for index in range(len(fields))]
    first = next((index for index, found in enumerate(fields) if found.name != "name"), len(fields))
    has_header = at == 0 and first < min(2, len(fields)) and fields[first].name in INPUTS | {"layer"}
    inputs = [index for index, found in enumerate(fields) if found.name in INPUTS]
    layers: list[str] = []
    lines: list[int] = []
    carried = ""
    for index, found in enumerate(fields):
        if found.name in ("layer", "layers"):
            lines.append(prototxt.place(found.begin)[0])
        gap = text[ends[index - 1] if index else at : found.begin]
        leading = "" if has_header and index <= first else _SEPARATOR.sub("", gap.removeprefix("\n"))
        if found.name == "layer":
            layers.append(carried + leading + text[found.begin : ends[index]])
            carried = ""
        elif "#" in leading and index not in inputs[1:]:
            carried += leading.rpartition("\n")[0] + "\n"
    pieces = [(fields[index].begin, ends[index]) for index in inputs]
    if inputs and inputs[-1] - inputs[0] == len(inputs) - 1:
        pieces = [(pieces[0][0], pieces[-1][1])]
    return TextLayout(
        () if any(found.name == "layer" and found.opener == "[" for found in fields) else tuple(layers),
        tuple(lines),
        "\n".join(text[begin:stop] for begin, stop in pieces),
        text[: fields[first].begin].rstrip(" \t") if has_header else None,
    )


def _end_of_line(text: str, fields: Sequence[TextField], index: int, end: int) -> int:
    """Where the text of a field ends: behind a comment on its line, and for the last one behind all comments."""
    stop = fields[index].end
    last = index + 1 == len(fields)
    rest = text[stop : end if last else fields[index + 1].begin]
    rest = rest if last else rest.partition("\n")[0]
    return stop + len(rest.rstrip()) if "#" in rest else stop + len(rest) - len(rest.lstrip(" \t"))


def without_fields(text: str, names: Collection[str]) -> str:
    """The text of one layer without some of its fields; a line that held nothing else goes with them.

    Args:
        text: a layer's own.
        names: `include`, or a path like `relu_param.engine`.
    """
    scanned = Prototxt(text)
    spans = [
        _with_line(text, begin, end)
        for whole in scanned.fields()
        if whole.opener in ("{", "<")
        for begin, end in _named(scanned, whole, "", names)
    ]
    return replaced(text, [(begin, end, "") for begin, end in spans])


def _named(scanned: Prototxt, outer: TextField, path: str, names: Collection[str]) -> Iterator[tuple[int, int]]:
    for inner in scanned.fields(outer.at, outer.stop):
        name = f"{path}{inner.name}"
        if name in names:
            yield inner.begin, inner.end
        elif inner.opener in ("{", "<") and any(other.startswith(f"{name}.") for other in names):
            yield from _named(scanned, inner, f"{name}.", names)


def _with_line(text: str, begin: int, end: int) -> tuple[int, int]:
    """A span, widened by the separator behind it, and to the whole lines that hold nothing else."""
    separator = _NEXT_SEPARATOR.match(text, end)
    end = separator.end() if separator else end
    start = text.rfind("\n", 0, begin) + 1
    stop = text.find("\n", end)
    if stop >= 0 and not text[start:begin].strip() and not text[end:stop].strip():
        return start, stop + 1
    # Within a line: one blank is left between its neighbours.
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    return begin, end


_NEXT_SEPARATOR = re.compile(r"\s*[,;]")
_SEPARATOR = re.compile(r"(?<=^)\s*[,;]")
