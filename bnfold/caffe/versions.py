"""Single assignment at load, undone at save: each write of a blob gets a name of its own, and back.

A top may reuse the name of the bottom at the same position ("in place"); Caffe knows no other second writing. Each
write is a version; the last one keeps the public name, another one is called `public@writer`:

    In a file:   conv1 -> conv1, bn1: conv1 -> conv1, relu1: conv1 -> conv1
    In memory:   conv1 -> conv1@conv1, bn1: conv1@conv1 -> conv1@bn1, relu1: conv1@bn1 -> conv1

Only an input keeps the public name always, since whoever runs the net calls it that. A blob without a name gets one,
and so does the second layer of a name: records, reports and nodes are found by it.

Some layers cannot work in place, since they read values that they have written over by then, or change the shape of
what they read. Caffe stops at a few of them (`CHECK_NE(top[0], bottom[0])`) and computes something else in the others;
their top is read, and written, as a blob of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from functools import cached_property
from operator import eq
from pathlib import Path

from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.layer_types import is_data
from bnfold.caffe.layers import types_where
from bnfold.caffe.origin import Source
from bnfold.caffe.upgrade import Upgraded
from bnfold.errors import ModelError, did_you_mean, few, quoted
from bnfold.net import NO_BLOBS, Layer, Names, Net, Use

_NAMED = 5  # names, or guesses, in one message


def single_assignment(
    upgraded: Sequence[Upgraded], file: Path | None = None, absent: Sequence[Upgraded] = (), hint: str = ""
) -> tuple[list[Layer], dict[str, str], list[str]]:
    """Layers that write each blob once, the public name of every blob whose name is another, and sentences on names.

    Args:
        upgraded: the layers of one phase, in order.
        file: for messages.
        absent: layers of the file that are not in this net, for messages.
        hint: what would take some of them in, for messages.

    Raises:
        ModelError: a bottom that no earlier layer makes, or a blob with two makers; it lists all of them.
    """
    versions = _Versions(upgraded, absent)
    layers = []
    called, renamed = _layer_names([param for param, _, _ in upgraded])
    for index, (param, text, opaque) in enumerate(upgraded):
        bottoms = versions.read(param)
        tops = versions.written(index, param)
        serialised = param.SerializeToString() if text is not None else b""
        source = Source(
            tuple(param.bottom[:]),
            tuple(param.top[:]),
            param,
            NO_BLOBS,
            text,
            incomplete=bool(opaque),
            serialised=serialised,
        )
        why = f"it sets an {opaque}" if opaque else ""
        layers.append(Layer(called[index], param.type, bottoms, tops, NO_BLOBS, param, source, why))
    if versions.faults and all(param.bottom for param, *_ in upgraded):
        hint += '; the net has no input: name what comes from outside, as in `input: "data" input_shape { dim: ... }`'
    if versions.faults:
        raise ModelError(f"{f'{file}: ' if file else ''}{'; '.join(versions.faults)}{hint}")
    return layers, versions.public, [*versions.notes, *renamed]


class _Versions:
    """The version of each blob that stands at the layer where a walk through the layers is.

    Attributes:
        public: version -> the name of its blob in the file, where it is another.
        faults: sentences on bottoms that nobody makes, and on blobs that are made twice.
        notes: sentences on blobs that were given a name.
    """

    def __init__(self, upgraded: Sequence[Upgraded], absent: Sequence[Upgraded]) -> None:
        self.public: dict[str, str] = {}
        self.faults: list[str] = []
        self.notes: list[str] = []
        self._current: dict[str, str] = {}
        self._maker: dict[str, str] = {}
        self._holder = _holders([param for param, _, _ in upgraded])
        self._names = Names(self._holder, "#")
        self._layers, self._absent = upgraded, absent
        self._guesses = _NAMED  # each looks at all names, so only the first few bottoms get one

    def read(self, param: LayerParameter) -> list[str]:
        """The versions that a layer reads."""
        bottoms = param.bottom[:]  # protobuf walks a list by index, up to an IndexError; a slice is a list of Python's
        for bottom in bottoms:
            if bottom not in self._current:
                self.faults.append(f"{_who(param)} reads '{bottom}', which {self._why_missing(bottom)}")
                self._current[bottom] = bottom
        return [self._current[bottom] for bottom in bottoms]

    def written(self, index: int, param: LayerParameter) -> list[str]:
        """The versions that the layer at a position writes."""
        written: dict[str, str] = {}
        bottoms = param.bottom[:]
        for position, top in enumerate(param.top[:]):
            in_place = bottoms[position : position + 1] == [top]
            if top in written or (top in self._maker and not in_place):
                first = self._maker.get(top, f"'{param.name}'")
                self.faults.append(f"{_who(param)} writes '{top}', which layer {first} has written already")
                continue
            version = top if self._holder[top] == index else self._names.new(f"{top}@{param.name}")
            if not top:
                version = self._names.new(param.name or param.type)
                self.notes.append(f"{_who(param)} writes a blob without a name, which is called '{version}' here")
            elif version != top:
                self.public[version] = top
            self._maker[top] = f"'{param.name}'"
            self._current[top] = written[top] = version
        return list(written.values())

    @cached_property
    def _makers(self) -> list[dict[str, str]]:
        """Blob -> the first layer that makes it, and does not change it in place, of the net's and of the others."""
        return [
            {top: param.name for param, *_ in reversed(layers) for top in param.top if top not in param.bottom}
            for layers in (self._layers, self._absent)
        ]

    def _why_missing(self, bottom: str) -> str:
        """The end of the sentence "it reads '...', which", of a bottom that no layer in front makes."""
        later, elsewhere = (makers.get(bottom) for makers in self._makers)
        if later is not None:
            return f"is made only later, by layer '{later}'"
        if elsewhere is not None:
            return f"only layer '{elsewhere}' makes, and that one is not in the TEST net"
        self._guesses -= 1
        return f"no layer makes{did_you_mean(bottom, self._maker) if self._guesses >= 0 else ''}"


def _holders(params: Sequence[LayerParameter]) -> dict[str, int]:
    """Blob -> the position of the layer whose version keeps the public name: an input's, or the last one."""
    last = {top: index for index, param in enumerate(params) for top in param.top[:]}
    sources = [(index, param) for index, param in enumerate(params) if param.type == "Input" or is_data(param)]
    return last | {top: index for index, param in sources for top in param.top}


def _layer_names(params: Sequence[LayerParameter]) -> tuple[list[str], list[str]]:
    """The names of layers, all but the first of one name numbered, and a sentence on that."""
    names = [param.name for param in params]
    free, seen, numbered = Names(names, "#"), set[str](), []
    for name in names:
        numbered.append(free.new(name) if name in seen else name)
        seen.add(name)
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if not twice:
        return numbered, []
    named = quoted(twice[:_NAMED]) + (" ..." if len(twice) > _NAMED else "")
    learns = any(param.name in twice and param.type != "Input" and not is_data(param) for param in params)
    which = "what is stored goes to the first, and the others" if learns else "all but the first"
    return numbered, [f"more than one layer is called {named}: {which} are numbered ('{twice[0]}#2')"]


def _who(param: LayerParameter) -> str:
    return f"layer '{param.name}' ({param.type})"


def in_file_order(net: Net) -> Net:
    """The net with its layers in an order in which an input that is overwritten and put out can be so again.

    Any other blob's last version has the public name; here the input has it, too. Folding can leave a layer that reads
    an old version of a blob behind the one that overwrites it:

        Given:   relu: data -> data (put out), scale: data -> b            (data is an input)
        Result:  scale: data -> b, relu: data -> data
    """
    for output in net.outputs:
        blob, public = output, net.public_name(output)
        while public in net.inputs and blob != public and (layer := net.producer(blob)) is not None:
            position = layer.tops.index(blob)
            if position >= len(layer.bottoms) or not _was_in_place(layer, position, public):
                break
            blob = layer.bottoms[position]
            net = _behind(net, layer, {id(use.layer) for use in net.uses(blob)} - {id(layer)}) or net
    return net


def _behind(net: Net, layer: Layer, readers: Set[int]) -> Net | None:
    """The net with a layer, and all that depends on it, behind the last of the readers; None if it is, or cannot be."""
    layers = net.layers
    start = layers.index(layer)
    stop = max((index for index, other in enumerate(layers) if id(other) in readers), default=0) + 1
    made: set[str] = set()
    first: list[Layer] = []
    then: list[Layer] = []
    for other in layers[start:stop]:
        depends = other is layer or not made.isdisjoint(other.bottoms)
        if depends:
            made.update(other.tops)
        if depends and id(other) in readers:
            return None
        (then if depends else first).append(other)
    return net.with_layers([*layers[:start], *first, *then, *layers[stop:]]) if stop > start else None


def file_names(net: Net) -> dict[str, str]:
    """The name of every blob in a file: versions of one blob share its name again wherever Caffe would take that.

    A version can share the next one's name if the layer that writes the next reads it at the same position, and if
    nobody else reads it: Caffe gives each reader of a blob its own copy, and after that the layer is in place no more.
    (Readers in front of that layer are let through when the file that was read had it so.) Any other version is called
    as in memory, which is unique.
    """
    order = {id(layer): index for index, layer in enumerate(net.layers)}
    versions: dict[str, list[str]] = {}
    for layer in net.layers:
        for top in layer.tops:
            versions.setdefault(net.public_name(top), []).append(top)
    names: dict[str, str] = {}
    for public, blobs in versions.items():
        # The versions that share one name are a chain; the one with the public name in it gets that. Where that version
        # is gone (its affine went forward), no other may take its name, since none has its value; but for an input.
        last_of: dict[str, str] = {}
        for blob in reversed(blobs):
            last_of[blob] = last_of.get(_overwritten_by(net, blob, public, order), blob)
        holder = last_of.get(public)
        names.update((blob, public if last == holder else last) for blob, last in last_of.items())
        if holder is None:
            names.update((blob, public) for blob in blobs if blob in net.inputs)
    return names


def _overwritten_by(net: Net, blob: str, public: str, order: dict[int, int]) -> str:
    """The version that is written in the place of `blob`, empty if none can be."""
    for use in net.uses(blob):
        layer, position = use.layer, use.index
        if position >= len(layer.tops) or net.public_name(layer.tops[position]) != public or overlaps(layer):
            continue
        others = [other for other in net.uses(blob) if other != use]
        if not others or (
            _was_in_place(layer, position, public)
            and all(order[id(other.layer)] < order[id(layer)] for other in others)
            and (blob in net.inputs or all(_read_it(other, public) for other in others))
        ):
            return layer.tops[position]
    return ""


def _read_it(use: Use, public: str) -> bool:
    """Whether a layer read a blob of that name in the file, too."""
    source: Source | None = use.layer.source
    return source is not None and public in source.bottoms


def _was_in_place(layer: Layer, position: int, public: str) -> bool:
    source: Source | None = layer.source
    if source is None or position >= min(len(source.bottoms), len(source.tops)):
        return False
    return source.bottoms[position] == source.tops[position] == public


def overlaps(layer: Layer) -> bool:
    """Whether a layer, in place, would read what it has written over (by the sources of BVLC's Caffe and its forks).

    An Eltwise sets its top to 0 before it adds its bottoms (eltwise_layer.cpp, SUM).
    """
    return layer.type in OVERLAPPING or (layer.type == "Eltwise" and layer.param.eltwise_param.operation == SUM)


def overlapping_notes(layers: Sequence[Layer]) -> list[str]:
    """A sentence on the layers that are in place in the file and cannot be."""
    overlapping = [
        layer
        for layer in layers
        if layer.source and overlaps(layer) and any(map(eq, layer.source.bottoms, layer.source.tops))
    ]
    if not overlapping:
        return []
    return [
        f"{few(list(map(str, overlapping)), 1)}: in place, where BVLC's Caffe stops or reads what it has written over; "
        "it is read, and written, as if its top were a blob of its own"
    ]


SUM = LayerParameter().eltwise_param.SUM
OVERLAPPING = types_where(lambda row: row.kept not in ("shape", "each")) - {
    # These read each value before they write it, or have made what they need of it.
    *("Axpy", "BroadcastMul", "Norm", "Normalization", "Normalize", "Silence")
} | {"Flip", "LRN", "Reverse", "ShuffleChannel"}
