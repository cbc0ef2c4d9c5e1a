"""Where a Caffe net and its layers came from, kept so that what did not change is written back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from bnfold.io.mapping import require_unchanged
from bnfold.net import Blobs

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import LayerParameter
    from bnfold.caffe.weights import Record, WeightsFile
    from bnfold.io.wire import Buffer


class Source(NamedTuple):
    """Where a layer came from, kept so that what did not change is written back as it was.

    Attributes:
        bottoms, tops: the names in the file (public names, in place where the file is).
        param: the message as it was parsed; `layer.param is layer.source.param` means unchanged.
        blobs: the weights as they were read; `layer.blobs is layer.source.blobs` means unchanged.
        text: the layer's own text in a V2 prototxt, from `layer` to its closing brace; None when it was upgraded.
        record: where the layer stands in the caffemodel; None when the caffemodel has not got it.
        incomplete: `param` lacks a field or a word of the file that no dialect has.
        serialised: `param` as it was read, where there is a text: a program may have written into the message since.
    """

    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    param: LayerParameter
    blobs: Blobs
    text: str | None = None
    record: Record | None = None
    incomplete: bool = False
    serialised: bytes = b""

    def __reduce__(self) -> tuple[Any, ...]:
        # The record is a place in a mapped file, which another process has not got.
        return Source, tuple(self._replace(record=None))


class Origin(NamedTuple):
    """The files that a net came from, for what is written back as it was.

    Attributes:
        weights: the mapped caffemodels, in the order in which they were given.
        layers: the names of the layers that were loaded; a record of a caffemodel that has none of them is not ours
            to judge (a training layer) and is kept, while the record of one that was folded goes.
        header: the text of a V2 prototxt before its first layer, with its comments, if `name` is all that it sets.
        data: input -> the parameters of the data layer that it stands for.
        loose: the prototxt has what protobuf's parser stops at: a field that was passed over, or is given twice.
    """

    weights: tuple[WeightsFile, ...] = ()
    layers: frozenset[str] = frozenset()
    header: str | None = None
    data: Mapping[str, Any] = MappingProxyType({})
    loose: bool = False

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What the weights are views on."""
        return tuple(file.buffer for file in self.weights)

    def require_unchanged(self) -> None:
        """Stop where a caffemodel was written to since. Raises ParseError."""
        require_unchanged(self.buffers)
