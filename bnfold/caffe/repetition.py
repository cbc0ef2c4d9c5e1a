"""A net's text as a message: protobuf's text parser, asked once for what the layers say many times.

Layers differ in their names and repeat the rest, so each is cut in two:

    layer { name: "res2a" type: "Scale" bottom: "res2a" top: "res2a"      the head: plain strings, read here
            scale_param { bias_term: true } }                             the body: parsed once for all that say it

That parser is written in Python, and a network of hundreds of layers has a few dozen bodies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf import text_format

from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter, V1LayerParameter
from bnfold.caffe.scan import TextField

# Printable ASCII without quotes and backslashes means itself.
_STRING = r'\s*+(name|type|bottom|top)\s*+:\s*+"([ !#-\[\]-~]*+)"'
_HEAD, _HEAD_FIELD = re.compile(f"(?:{_STRING})*+"), re.compile(_STRING)


def parse_net(text: str, fields: Sequence[TextField]) -> NetParameter:
    """The message that a text spells.

    Args:
        text: what protobuf's parser may see of it.
        fields: those of the net, with their places in `text`.

    Raises:
        text_format.ParseError, ValueError, RecursionError: protobuf's parser would not take the whole, or it is to
            be asked itself.
    """
    heads: list[tuple[str, list[tuple[str, str]], str]] = []
    others: list[str] = []
    bodies: dict[tuple[str, str], int] = {}
    numbers = {"layer": 0, "layers": 0}
    for field in fields:
        if field.name not in numbers or field.opener not in ("{", "<"):
            others.append(text[field.begin : field.end])
            continue
        whole = _HEAD.match(text, field.at, field.stop)
        assert whole is not None, "the pattern matches the empty string"
        body = text[whole.end() : field.stop].strip()
        heads.append((field.name, _HEAD_FIELD.findall(whole[0]), body))
        if (field.name, body) not in bodies:
            bodies[field.name, body] = numbers[field.name]
            numbers[field.name] += 1
    said = NetParameter()
    text_format.Parse("\n".join(f"{kind} {{ {body}\n}}" for kind, body in bodies), said)
    net = NetParameter()
    text_format.Parse("\n".join(others), net)
    for kind, head, body in heads:
        if kind == "layer":
            _join(net.layer.add(), head, said.layer[bodies[kind, body]])
        else:
            _join(net.layers.add(), head, said.layers[bodies[kind, body]])
    return net


def _join(
    layer: LayerParameter | V1LayerParameter, head: list[tuple[str, str]], body: LayerParameter | V1LayerParameter
) -> None:
    """Make `layer` what its head and its body say. Raises ValueError where the two say one thing twice."""
    said: dict[str, list[str]] = {"name": [], "type": [], "bottom": [], "top": []}
    for word, value in head:
        said[word].append(value)
    layer.bottom.extend(said["bottom"])
    layer.top.extend(said["top"])
    for word in ("name", "type"):
        if said[word]:
            if len(said[word]) > 1 or body.HasField(word) or (word == "type" and isinstance(layer, V1LayerParameter)):
                raise ValueError(f"{word} is given twice, or is no string")
            setattr(layer, word, said[word][0])
    layer.MergeFrom(body)  # type: ignore[arg-type]  # both are of one kind
