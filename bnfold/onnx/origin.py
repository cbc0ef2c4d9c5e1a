"""What an ONNX net knows of the file that it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bnfold.io.mapping import require_unchanged
from bnfold.io.wire import Buffer
from bnfold.net import Array, Blobs
from bnfold.onnx.file import Document, Tensor
from bnfold.onnx.node import Node
from bnfold.onnx.shapes import Types
from bnfold.options import ReadOptions

CONSTANTS_ARE_INPUTS = 4
"""The first IR version in which an initialiser that is listed as an input may be fed."""


class NodeSource(NamedTuple):
    """`layer.source`: what a layer was in the file, so that what did not change is written back as it was."""

    param: Node
    blobs: Blobs
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class OnnxOrigin:
    """`net.origin`: the file behind an ONNX net.

    Attributes:
        document: the file, with bodies in the place of calls of its functions where these normalise.
        found: the file as it is.
        types: the shapes and types of its values.
        constants: name -> what is known beforehand; None where its values cannot be had.
        expressions: number of a node that computes a constant -> the names that it reads.
        fed: initialisers that whoever runs the model may replace, since they are listed as inputs, too.
        readings: name -> how often something in the file reads it.
        pinned: names that are read by something else than a node or as an output: by annotations, by what is for
            training.
        names: every name in the file.
        options: how it was read.
        tensors: the initialisers, by name.
        declared: what `types` would be without the sizes that whoever reads the file gave.
        reading: tells its nodes from those of another file, and of the same file read again.
        sized: `constants`, and those of a float type that follow from the sizes that were given.
    """

    document: Document
    found: Document
    types: Types
    constants: Mapping[str, Array | None]
    expressions: Mapping[int, tuple[str, ...]]
    fed: frozenset[str]
    readings: Mapping[str, int]
    pinned: frozenset[str]
    names: frozenset[str]
    options: ReadOptions = ReadOptions()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    declared: Types = field(default_factory=Types)
    reading: bytes = b""
    sized: Mapping[str, Array | None] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, Array | None]:
        """Constants that no fold changes, by name: what shapes may be found from."""
        return {name: value for name, value in self.sized.items() if value is not None and value.dtype.kind in "biu"}

    @property
    def sizes_named(self) -> set[str]:
        """The names of open sizes in the file."""
        graph = self.document.model.graph
        ports = (*self.document.declared_inputs(), *graph.output, *graph.value_info)
        return {dim.dim_param for port in ports for dim in port.type.tensor_type.shape.dim} - {""}

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What the weights are views on."""
        return (self.found.buffer, self.document.buffer, *(file.buffer for file in self.document.files.values()))

    def require_unchanged(self) -> None:
        """Stop where a file was written to since. Raises ParseError."""
        require_unchanged(self.buffers)
