"""What only training needs, and how it is left out (`--strip`), in messages and in binary records.

Left out: `diff` of every blob; learning rates and decays (`param`, unless it names a shared blob); fillers of layers
whose blobs are in the caffemodel; rules of phase, level and stage, which were decided at load.

Kept although it looks like training: the fillers of BatchNorm (in NVCaffe their presence means that the layer has a
scale and a bias) and of DummyData and Parameter layers (they *are* the values).
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache

from bnfold.caffe import caffe_pb2
from bnfold.caffe.blobs import DIFF, DOUBLE_DIFF
from bnfold.caffe.descriptors import Descriptor
from bnfold.caffe.layers import LAYERS
from bnfold.caffe.patch import Patched, joined, parts_of, replace_part
from bnfold.caffe.weights import EXCLUDE, INCLUDE
from bnfold.io.wire import LENGTH, VARINT, Buffer, encode_field, fields

PARAM, PHASE = 6, 10
_SPEC_NAME, _SPEC_SHARE_MODE = 1, 2

FILLED = sorted({name for row in LAYERS.values() if row.fillers and not row.dialects for name in row.reads})
"""The parameters whose fillers fill blobs, of BVLC's layers: the numbers of all others depend on the dialect."""


def stripped(param: caffe_pb2.LayerParameter, fillers: bool = True) -> caffe_pb2.LayerParameter:
    """A layer's parameters without what only training needs; `param` itself when it has nothing of the kind.

    Args:
        param: not changed.
        fillers: whether the fillers go too.
    """
    result = deepcopy(param)
    for name in ("include", "exclude"):
        result.ClearField(name)
    if param.phase == caffe_pb2.TEST:  # TRAIN makes a BatchNorm follow each batch
        result.ClearField("phase")
    named = [spec.name for spec in param.param]
    del result.param[:]
    for spec in param.param[: max((index + 1 for index, name in enumerate(named) if name), default=0)]:
        kept = result.param.add()
        if spec.name:
            kept.name = spec.name
        if spec.HasField("share_mode"):
            kept.share_mode = spec.share_mode
    for name, _, inner in _fillers(caffe_pb2.LayerParameter.DESCRIPTOR) if fillers else ():
        if result.HasField(name):
            for filler, _ in inner:
                getattr(result, name).ClearField(filler)
    return param if result == param else result


def strip_parts(parts: list[Patched], buffer: Buffer) -> None:
    """Take the same out of the fields of a `LayerParameter`, its blobs apart. Raises WireError."""
    for number in (INCLUDE, EXCLUDE, PHASE):
        replace_part(parts, number, b"")
    specs = [_stripped_spec(part, buffer) for part in parts if part.number == PARAM]
    while specs and not specs[-1][0]:
        specs.pop()
    replace_part(parts, PARAM, b"".join(encode_field(PARAM, spec) for _, spec in specs))
    for _, number, inner in _fillers(caffe_pb2.LayerParameter.DESCRIPTOR):
        dropped = {filler for _, filler in inner}
        for part in [part for part in parts if part.number == number]:
            source, begin, end = part.place(buffer)
            (whole,) = fields(source, begin, end)
            if whole.wire != LENGTH:
                continue
            kept = [inside for inside in parts_of(source, whole.at, whole.end) if inside.number not in dropped]
            parts[parts.index(part)] = Patched(number, new=encode_field(number, joined(kept, source)))


def strip_blob(buffer: Buffer, at: int, end: int) -> list[tuple[int, int]]:
    """The parts of the BlobProto in `buffer[at:end]` that are no gradients, as spans that do not touch.

    NVCaffe's `raw_diff_type` (11) and `raw_diff` (13) go too; Vitis has a `double_mask` at 11, of another wire type.
    """
    spans: list[tuple[int, int]] = []
    for number, wire, begin, _, stop in fields(buffer, at, end):
        if number in (DIFF, DOUBLE_DIFF) or (number, wire) in ((11, VARINT), (13, LENGTH)):
            continue
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((begin, stop))
    return spans


def _stripped_spec(part: Patched, buffer: Buffer) -> tuple[bool, bytes]:
    """Whether a ParamSpec names its blob, and the spec without rates and decays."""
    source, begin, end = part.place(buffer)
    kept: list[bytes] = []
    named = False
    for whole in fields(source, begin, end):
        for inner in fields(source, whole.at, whole.end) if whole.wire == LENGTH else ():
            if inner.number in (_SPEC_NAME, _SPEC_SHARE_MODE):
                kept.append(bytes(source[inner.begin : inner.end]))
                named = named or (inner.number == _SPEC_NAME and inner.end > inner.at)
    return named, b"".join(kept)


@cache
def _fillers(layer: Descriptor) -> tuple[tuple[str, int, tuple[tuple[str, int], ...]], ...]:
    """(name and number of a layer's sub-message, name and number of each filler in it)."""
    messages = []
    for name in FILLED:
        outer = layer.fields_by_name[name]
        inner = [field for field in outer.message_type.fields if field.message_type is not None]
        fillers = tuple((field.name, field.number) for field in inner if field.message_type.name == "FillerParameter")
        messages.append((name, outer.number, fillers))
    return tuple(messages)
