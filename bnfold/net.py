"""A network in memory: layers in execution order, blobs in single-assignment form, and the only edits of topology.

Single assignment means that each blob name is written once. Caffe lets a layer write on its own bottom ("in place");
at load every such write becomes a version of its own: the last one keeps the public name, an earlier one is called
`public@writer`, and `Net.public` remembers which name of the file it stands for. Saving puts the public names back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, cast, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from bnfold.errors import ModelError, UsageError, counted, quoted, telling_which
from bnfold.options import require_type

if TYPE_CHECKING:
    from bnfold.algebra.frontend import FrontEnd

Array = npt.NDArray[Any]
DType = np.dtype[Any]
Shape = tuple[int, ...]

PIECE = 1 << 20
"""Values of an array that are handed on at once."""


def sizes(shape: Iterable[int | None]) -> str:
    """A shape as people write it, with `?` for a size that is not known.

    Examples:
        >>> sizes((1, 3, 224, -1)), sizes(())
        ('1x3x224x?', 'scalar')
    """
    return "x".join("?" if size is None or size < 0 else str(size) for size in shape) or "scalar"


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether an array of a shape may go where another is wanted, of which None is an open size.

    Examples:
        >>> fits((8, 3), (None, 3)), fits((8, 3, 1), (None, 3))
        (True, False)
    """
    return len(shape) == len(wanted) and all(want in (None, have) for have, want in zip(shape, wanted, strict=True))


@runtime_checkable
class LazyArray(Protocol):
    """A learned array that is computed when it is read, so that a net never holds two copies of its weights."""

    @property
    def shape(self) -> Shape:
        """The true shape."""

    @property
    def dtype(self) -> DType:
        """The type that is stored."""

    def array(self) -> Array:
        """The values, shape `shape` and type `dtype`; the same at every call."""

    def chunks(self) -> Iterator[Array]:
        """The same values as consecutive one-dimensional pieces in C order, none larger than a few megabytes.

        Nobody changes a piece afterwards, so that it can be written while the next one is made.
        """


class Blobs(Sequence[Array]):
    """What a layer learned: a read-only sequence of arrays in their true shapes.

    Indexing gives a read-only `numpy.ndarray`: a view on the mapped caffemodel where nothing changed, a freshly
    computed array where the blob is a `LazyArray`. `stored` gives the items themselves, for those who stream them.

    Raises:
        UsageError: what is given is no list of arrays.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: Iterable[Array | LazyArray] = ()) -> None:
        try:
            blobs = iter(stored)
        except TypeError:  # also of an array without axes
            raise UsageError(f"blobs are given as a list of arrays, and not as {type(stored).__name__}") from None
        arrays = [one if isinstance(one, np.ndarray) else _kept(one, index) for index, one in enumerate(blobs)]
        self.stored: tuple[Array | LazyArray, ...] = tuple(arrays)

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Blobs: ...
    def __getitem__(self, index: int | slice) -> Array | Blobs:
        if isinstance(index, slice):
            return Blobs(self.stored[index])
        return _read(self.stored[index])

    def __iter__(self) -> Iterator[Array]:
        return map(_read, self.stored)

    def __repr__(self) -> str:
        return f"Blobs({', '.join(map(sizes, self.shapes))})"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of every blob, without computing any."""
        return tuple([blob.shape for blob in self.stored])

    def is_same(self, other: Blobs) -> bool:
        """Whether these are the very items of another sequence, and all of them."""
        return isinstance(other, Blobs) and len(self) == len(other) and all(map(is_, self.stored, other.stored))


NO_BLOBS = Blobs()
"""What a layer has that learned nothing: one for all, since a file may hold a quarter of a million of them."""


def values_of(blob: Array | LazyArray) -> Array:
    """The values of a stored blob, computed where it is lazy."""
    return blob if isinstance(blob, np.ndarray) else blob.array()


def pieces_of(blob: Array | LazyArray) -> Iterator[Array]:
    """The values of a stored blob in flat pieces, as `LazyArray.chunks` gives them."""
    if not isinstance(blob, np.ndarray):
        return blob.chunks()
    flat = blob.reshape(-1)
    return (flat[start : start + PIECE] for start in range(0, flat.size, PIECE))


def _kept(blob: object, index: int) -> Array | LazyArray:
    """A blob that is no array of numpy's, as `Blobs` keeps it. Raises UsageError where it is none at all."""
    if isinstance(blob, np.generic):  # what numpy makes of arithmetic with an array of no axes
        return np.asarray(blob)
    if not hasattr(blob, "chunks"):  # what makes a `LazyArray`, of which `isinstance` takes a while
        raise UsageError(f"blob {index} is {type(blob).__name__}, and not an array")
    return cast("LazyArray", blob)


def _read(blob: Array | LazyArray) -> Array:
    array = values_of(blob)
    array.flags.writeable = False
    return array


@dataclass(slots=True, eq=False)
class Layer:
    """One layer: what it reads, what it writes, what it learned.

    `param` and `blobs` are values: an edit replaces them and never writes into them, so copies of a net share them.

    Attributes:
        bottoms: the blobs that it reads as data.
        tops: the blobs that it writes.
        blobs: what it learned, in ONNX the constants among its inputs; `Blobs([2 * layer.blobs[0]])` are others.
        param: how its language describes it, opaque to the algebra: a `LayerParameter` in Caffe.
        source: where it came from, for its writer.
        opaque: why its parameters are not understood, so that nothing passes it and it is written as it was; empty
            where they are.
    """

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    blobs: Blobs
    param: Any = field(repr=False)
    source: Any = field(default=None, repr=False)
    opaque: str = ""

    def __str__(self) -> str:
        return f"layer '{self.name}' ({self.type})"

    def copy(self) -> Layer:
        """A layer of its own that shares weights and parameters, which are values."""
        bottoms, tops = list(self.bottoms), list(self.tops)
        return Layer(self.name, self.type, bottoms, tops, self.blobs, self.param, self.source, self.opaque)

    @property
    def param_names(self) -> tuple[str, ...]:
        """The share name of each learned blob (`param { name: ... }` in Caffe), empty where it is the layer's own."""
        named = [spec.name for spec in getattr(self.param, "param", ())[: len(self.blobs)]]
        return tuple(named + [""] * (len(self.blobs) - len(named)))


class Use(NamedTuple):
    """One reading of a blob: `layer.bottoms[index]`. A layer that reads a blob twice is two uses."""

    layer: Layer
    index: int  # type: ignore[assignment]  # a tuple has a method of that name, which nobody needs here


@dataclass(slots=True, eq=False, repr=False)
class Net:
    """A network in single-assignment form: each blob name is written once. Layers are in execution order.

    Attributes:
        name: the network's own name.
        inputs: input blob -> shape.
        outputs: in Caffe the blobs that nobody reads, in the order of their layers; in ONNX they may have readers.
        public: blob -> its name in the file, for the blobs whose name differs (in-place versions).
        notes: sentences about assumptions made while reading, for the user.
        file: the prototxt, for messages; empty when the net came from memory.
        batchnorm_layout: how the user wants every BatchNorm read, None to recognise it (`bnfold.caffe.batchnorm`).
        zero_factor: what scale_factor 0 beside statistics means to the user, None to refuse.
        preparation: input -> what the file's data layer did to its samples, which whoever runs the net has to do.
        origin: the files behind it, for its writer; None when it came from memory.
        front: the language that it is written in, for folding.
    """

    name: str
    _layers: list[Layer]
    inputs: dict[str, Shape]
    outputs: list[str] = field(default_factory=list)
    public: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    file: str = ""
    batchnorm_layout: str | None = None
    zero_factor: Literal["caffe", "one"] | None = None
    preparation: dict[str, str] = field(default_factory=dict)
    origin: Any = None
    front: FrontEnd | None = None
    _producers: dict[str, Layer] = field(default_factory=dict, init=False)
    _uses: dict[str, list[Use]] = field(default_factory=dict, init=False)
    _removed: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.rewire()
        if not self.outputs:
            self.outputs = [top for layer in self._layers for top in layer.tops if top not in self._uses]

    @property
    def language(self) -> str:
        """What it is written in: "Caffe" or "ONNX"."""
        return "Caffe" if self.front is None else self.front.language

    def __repr__(self) -> str:
        if broken := why_broken(self):
            return f"<Net {self.name!r} that an edit has broken: {broken}>"
        parameters = sum(prod(shape) for layer in self.layers for shape in layer.blobs.shapes)
        ends = f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        return f"<Net {self.name!r}: {len(self.layers)} layers, {parameters:,} parameters, {ends}>"

    def _repr_html_(self) -> str:
        from importlib import import_module

        return str(import_module("bnfold.report.notebook").net_summary(self))

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name: `net["conv1"]`. Raises KeyError, with the names that are close."""
        if not isinstance(name, str):
            is_place = type(name) is int and -len(self.layers) <= name < len(self.layers)
            by_place = f"; net.layers[{name}] is one by its place" * is_place
            raise KeyError(
                f"there is no layer '{name!s:.60}': a name is a str, and not {type(name).__name__}{by_place}"
            )
        found = next((layer for layer in self.layers if layer.name == name), None)
        if found is None:
            from difflib import get_close_matches

            close = get_close_matches(name, [layer.name for layer in self.layers])
            raise KeyError(f"there is no layer '{name}'" + (f"; did you mean {' or '.join(close)}?" if close else ""))
        return found

    def __contains__(self, name: object) -> bool:
        """Whether there is a layer of that name: `"conv1" in net`."""
        return isinstance(name, str) and any(layer.name == name for layer in self.layers)

    __iter__: ClassVar[None] = None  # over names or layers? Without this, Python would ask for net[0], net[1] ..

    def __copy__(self) -> Net:
        """A net of its own, since an edit changes layers."""
        return self.copy()

    def __deepcopy__(self, memo: object) -> Net:
        """Weights and parameters are values, so a copy shares them."""
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by value: as what it was written in, or layer by layer with all weights. Raises as `require_net`."""
        require_net(self, "pickle")
        if self.front is not None and (whole := self.front.pickled(self)) is not None:
            return whole
        values = (self.name, self.layers, self.inputs, self.outputs, self.public, self.notes, self.file)
        return Net, (*values, self.batchnorm_layout, self.zero_factor, self.preparation, None, self.front)

    @property
    def layers(self) -> list[Layer]:
        """The layers in execution order."""
        if self._removed:
            # Removing one by one from a list would make folding quadratic.
            self._layers = [layer for layer in self._layers if id(layer) not in self._removed]
            self._removed.clear()
        return self._layers

    def producer(self, blob: str) -> Layer | None:
        """The layer that writes `blob`, or None when nobody does."""
        return self._producers.get(_one_name(blob))

    def uses(self, blob: str) -> Sequence[Use]:
        """Every reading of `blob`, in no particular order."""
        return self._uses.get(_one_name(blob), ())

    def public_name(self, blob: str) -> str:
        """The name that `blob` has in a file."""
        return self.public.get(_one_name(blob), blob)

    def remove(self, layer: Layer) -> None:
        """Take `layer` out; rename the blob that replaces its tops. Raises UsageError where it is not in the net."""
        self._unwire_bottoms(layer)
        for top in layer.tops:
            del self._producers[top]
        self._removed.add(id(layer))

    def insert(self, layer: Layer, after: Layer) -> None:
        """Put a layer right behind another one. Raises UsageError where that is none of the net, or a top is made."""
        self.insert_behind([(after, layer)])

    def insert_first(self, layers: Iterable[Layer]) -> None:
        """Put layers that read nothing in front of all. Raises UsageError where one of their tops is made already."""
        first = self._new_layers(layers)
        self._layers = [*first, *self.layers]
        self._wire(first)

    def reads(self, layer: Layer, bottoms: Iterable[str]) -> None:
        """Make a layer read these blobs and no others. Raises UsageError where it is no layer of the net."""
        require_type("what a layer reads", bottoms, "Iterable[str]")
        names = [*map(_one_name, bottoms)]
        self._unwire_bottoms(layer)
        layer.bottoms = names
        for index, bottom in enumerate(names):
            self._uses.setdefault(bottom, []).append(Use(layer, index))

    def rewire(self) -> None:
        """Find makers and readers anew, where a program may have changed lists of bottoms and tops by itself."""
        self._producers.clear()
        self._uses.clear()
        self._wire(self.layers)

    def _unwire_bottoms(self, layer: Layer) -> None:
        """Forget what a layer of this net reads. Raises UsageError where it is none."""
        _list_of_layers([layer])
        if any(self._producers.get(top) is not layer for top in layer.tops):
            raise UsageError(f"{layer}: is no layer of this net, or writes what Net.rename was not told of")
        for index, bottom in enumerate(layer.bottoms):
            use, uses = Use(layer, index), self._uses.get(bottom, [])
            if use in uses:  # a program may have changed what it reads by itself
                uses.remove(use)

    def _new_layers(self, layers: Iterable[Layer]) -> list[Layer]:
        """Layers to put in. Raises UsageError where something is no layer, or writes what is written already."""
        new = _list_of_layers(layers)
        makers = dict(self._producers)
        for layer in new:
            _require_layer(layer, object if self.front is None else self.front.param_type)
            for top in layer.tops:
                if makers.setdefault(top, layer) is not layer:
                    raise UsageError(f"{layer}: blob '{top}' is written by {makers[top]} already")
        return new

    def _wire(self, layers: Iterable[Layer]) -> None:
        producers, uses = self._producers, self._uses
        for layer in layers:
            for index, bottom in enumerate(layer.bottoms):
                uses.setdefault(bottom, []).append(Use(layer, index))
            for top in layer.tops:
                if top in producers:
                    raise UsageError(f"{layer}: blob '{top}' is written by {producers[top]} already")
                producers[top] = layer

    def insert_behind(self, pairs: Iterable[tuple[Layer, Layer]]) -> None:
        """Put many layers in, each a pair (after, layer), in one walk. Raises UsageError as `insert` does."""
        if not isinstance(pairs, Iterable):
            raise UsageError(f"what is put in is a list of pairs (after, layer), and not {type(pairs).__name__}")
        new: dict[int, list[Layer]] = {}
        pairs = [*map(_pair_of_layers, pairs)]
        for (after, _), layer in zip(pairs, self._new_layers(layer for _, layer in pairs), strict=True):
            new.setdefault(id(after), []).append(layer)
        known = set(map(id, self.layers))
        if lost := [after for after, _ in pairs if id(after) not in known]:
            raise UsageError(f"{lost[0]}: is no layer of this net, so nothing can stand behind it")
        self._layers = [one for layer in self.layers for one in (layer, *new.get(id(layer), ()))]
        self._wire(layer for layers in new.values() for layer in layers)

    def reconnect(self, use: Use, blob: str) -> None:
        """Make one use read `blob` instead. Raises UsageError where that is none that `uses` gives."""
        require_type("what Net.reconnect changes", use, "Use")
        _one_name(blob)
        try:
            self._uses[use.layer.bottoms[use.index]].remove(use)
        except (IndexError, KeyError, ValueError):
            raise UsageError(f"{use.layer}: it does not read a bottom {use.index} in this net") from None
        use.layer.bottoms[use.index] = blob
        self._uses.setdefault(blob, []).append(use)

    def rename(self, blob: str, new: str, public: str | None = None) -> None:
        """Call `blob` `new`, for its producer and all its readers; `public` is its name in a file, if another.

        Readers that a removed `new` has left read it then. Raises UsageError where `new` is written, or `blob` is not.
        """
        for name in (blob, new, new if public is None else public):
            _one_name(name)
        if new != blob:
            if blob not in self._producers or new in self._producers:
                raise UsageError(f"cannot rename '{blob}' to '{new}': no layer writes the one, or one writes the other")
            layer = self._producers.pop(blob)
            layer.tops[layer.tops.index(blob)] = new
            self._producers[new] = layer
            for use in self._uses.pop(blob, ()):
                use.layer.bottoms[use.index] = new
                self._uses.setdefault(new, []).append(use)
            self.public.pop(blob, None)
        if public is not None and public != new:
            self.public[new] = public

    def without(self, layers: Iterable[Layer]) -> Net:
        """A net of its own without some layers and all that depends on them, whose outputs are what nobody reads then.

        Raises:
            UsageError: one is no layer of this net.
        """
        removed = _list_of_layers(layers)
        gone, known = set(map(id, removed)), set(map(id, self.layers))
        if lost := [layer for layer in removed if id(layer) not in known]:
            raise UsageError(f"{lost[0]}: is no layer of this net")
        missing: set[str] = set()
        kept: list[Layer] = []
        for layer in self.layers:
            if id(layer) in gone or not missing.isdisjoint(layer.bottoms):
                missing.update(layer.tops)
            else:
                kept.append(layer)
        return self._with(kept, outputs=[])

    def called(self, names: Mapping[str, str]) -> Net:
        """A net of its own whose blobs have other names; those that `names` does not have keep theirs."""
        require_type("names of blobs", names, "Mapping[str, str]")

        def new(blobs: Iterable[str]) -> list[str]:
            return [names.get(blob, blob) for blob in blobs]

        layers = [replace(layer, bottoms=new(layer.bottoms), tops=new(layer.tops)) for layer in self.layers]
        net = self._with(layers, new(self.outputs))
        net.inputs = dict(zip(new(self.inputs), self.inputs.values(), strict=True))
        net.public = dict(zip(new(self.public), self.public.values(), strict=True))
        return net

    def copy(self) -> Net:
        """A net of its own that shares weights and parameters, which are values.

        Raises:
            UsageError: an edit has put something into this one that no net holds, or has a blob written twice.
        """
        _require_types(self)
        return self._with(self.layers, self.outputs)

    def with_layers(self, layers: Sequence[Layer], notes: Sequence[str] = ()) -> Net:
        """A net of its own with other layers and the same outputs, and perhaps more notes."""
        require_type("notes", notes, "Sequence[str]")
        net = self._with(_list_of_layers(layers), self.outputs)
        net.notes += notes
        return net

    def _with(self, layers: Sequence[Layer], outputs: Sequence[str]) -> Net:
        return replace(
            self,
            _layers=[layer.copy() for layer in layers],
            inputs=dict(self.inputs),
            outputs=list(outputs),
            public=dict(self.public),
            notes=list(self.notes),
        )


def blobs_of(net: Net) -> list[str]:
    """Every blob of a net, each once: the inputs, then those that layers make, in their order."""
    return list(dict.fromkeys([*net.inputs, *(top for layer in net.layers for top in layer.tops)]))


def with_each(net: Net, changed: Callable[[Layer], Layer]) -> Net:
    """The net with each layer as `changed` gives it; itself where that gives back all of them."""
    layers = list(map(changed, net.layers))
    return net if all(map(is_, layers, net.layers)) else net.with_layers(layers)


def needed_for(layers: Sequence[Layer], blobs: Iterable[str]) -> list[Layer]:
    """Of layers in execution order those that some blobs depend on."""
    needed, kept = set(blobs), []
    for layer in reversed(layers):
        if not needed.isdisjoint(layer.tops):
            needed.update(layer.bottoms)
            kept.append(layer)
    return kept[::-1]


def end_notes(ends: Iterable[str], left: int) -> list[str]:
    """What a user is told of a net that ends in some blobs: how many layers were left out, if any was."""
    return [f"the net ends in {quoted(ends)}: {counted(left, 'layer')} left out"] if left else []


def require_net(value: object, caller: str) -> None:
    """Stop at something else than a net, at one that edits have broken, or one whose file was written to since.

    Raises:
        UsageError: it is no net, or holds what no net does.
        ModelError: a layer reads what nobody in front of it makes, or makes what is made already.
        ParseError: a file was written to.
    """
    if not isinstance(value, Net):
        inner = "; give its .net" if isinstance(getattr(value, "net", None), Net) else ""
        raise UsageError(f"{caller} takes a net that bnfold.load has read, and got {type(value).__name__}{inner}")
    _require_types(value)
    with telling_which(value.file):
        _require_wired(value)
    value.rewire()
    if value.origin is not None:
        value.origin.require_unchanged()
    for layer in value.layers:
        if layer.source is None or layer.blobs is not layer.source.blobs:
            _require_arrays(layer, value)


def _list_of_layers(layers: object) -> list[Layer]:
    """The layers that a program gives, as a list. Raises UsageError where something is no layer."""
    listed = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else None
    if listed is None:
        raise UsageError(f"layers are given as a list of bnfold.Layer, and not as {type(layers).__name__}")
    if wrong := [layer for layer in listed if not isinstance(layer, Layer)]:
        hint = f"; net[{wrong[0]!r}] is the layer of that name" if isinstance(wrong[0], str) else ""
        raise UsageError(f"the layers of a net are bnfold.Layer, and not {type(wrong[0]).__name__}{hint}")
    return listed


def _pair_of_layers(pair: object) -> tuple[Layer, Layer]:
    """The layer that another one stands behind, and that other one. Raises UsageError where it is no such pair."""
    layers = _list_of_layers(pair)
    if len(layers) != 2:
        raise UsageError(f"what is put in is a pair (after, layer), and not {counted(len(layers), 'layer')}")
    return layers[0], layers[1]


def _one_name(blob: str) -> str:
    """The name of a blob that a program gives. Raises UsageError where it is none."""
    if not isinstance(blob, str) or not blob:
        raise UsageError(f"a blob is meant by its name, and not by {blob!r:.60}")
    return blob


def why_broken(net: Net) -> str:
    """What an edit has put into a net that none holds; empty where it has not."""
    try:
        _require_types(net)
        for layer in net.layers:
            _require_arrays(layer, net)
    except UsageError as error:
        return str(error)
    return ""


def _require_types(net: Net) -> None:
    """Stop where a program has put something of another type into a net. Raises UsageError."""
    for word, kind in _KINDS.items():
        if not isinstance(getattr(net, word), kind):
            raise UsageError(f"Net.{word} is a {kind.__name__}, and not {type(getattr(net, word)).__name__}")
    for name, shape in net.inputs.items():
        if not isinstance(name, str) or not isinstance(shape, tuple | list) or not {*map(type, shape)} <= {int}:
            raise UsageError(f"input {name!r}: its shape is a tuple of int, and not {shape!r}")
    words = [*net.outputs, *net.notes, *net.public, *net.public.values(), *net.preparation, *net.preparation.values()]
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise UsageError(f"outputs, notes, public and preparation of a net hold str, and not {wrong[0]!r}")
    require_type("Net.batchnorm_layout", net.batchnorm_layout, "BatchNormLayout | None")
    require_type("Net.zero_factor", net.zero_factor, "ZeroScaleFactor | None")
    if net.front is not None and not hasattr(net.front, "origin_type"):
        raise UsageError(f"Net.front is what bnfold.load has put there, and not {type(net.front).__name__}")
    loaded = net.origin is None or hasattr(net.origin, "require_unchanged")
    if not (loaded if net.front is None else isinstance(net.origin, net.front.origin_type)):
        raise UsageError(f"Net.origin is what bnfold.load has put there, and not {type(net.origin).__name__}")
    for layer in _list_of_layers(net.layers):
        _require_layer(layer, object if net.front is None else net.front.param_type)
    _require_names(net)


def _require_layer(layer: Layer, param_type: type[Any]) -> None:
    """Stop where a program has put something of another type into a layer. Raises UsageError."""
    bottoms, tops = layer.bottoms, layer.tops
    if not (isinstance(bottoms, _NAMES) and isinstance(tops, _NAMES)):
        raise UsageError(f"{layer}: its bottoms and tops are lists of names, and not {bottoms!r} and {tops!r}")
    if wrong := [word for word in (layer.name, layer.type, *bottoms, *tops) if not isinstance(word, str)]:
        raise UsageError(f"{layer}: names and types are str, and not {wrong[0]!r}")
    if not isinstance(layer.param, param_type):
        raise UsageError(f"{layer}: its param is a {param_type.__name__}, and not {type(layer.param).__name__}")
    if layer.source is not None and not hasattr(layer.source, "blobs"):
        raise UsageError(f"{layer}: its source is what bnfold.load has put there, and not {layer.source!r}")


def _require_names(net: Net) -> None:
    """Stop at a name that is empty, or that no file can hold. Raises UsageError."""
    blobs = [blob for layer in net.layers for blob in (*layer.bottoms, *layer.tops)]
    if not all(blobs):
        layer = next(layer for layer in net.layers if not all((*layer.bottoms, *layer.tops)))
        raise UsageError(f"{layer}: a blob has a name of one letter or more, and this reads or writes ''")
    words = [net.name, *net.outputs, *net.inputs, *net.public.values(), *blobs]
    words += [word for layer in net.layers for word in (layer.name, layer.type)]
    try:
        "".join(words).encode()
    except UnicodeEncodeError as error:
        word = next(word for word in words if error.object[error.start] in word)
        raise UsageError(f"names are UTF-8 in every file, and {word!a} is not: it has an unpaired surrogate") from None


_NAMES = (list, tuple)
_KINDS: dict[str, type] = {
    **dict.fromkeys(["inputs", "preparation", "public"], dict),
    **dict.fromkeys(["layers", "notes", "outputs"], list),
    **dict.fromkeys(["file", "name"], str),
}


def _require_wired(net: Net) -> None:
    """Stop where a blob has no maker in front of its readers, or two. Raises ModelError."""
    makers: dict[str, Layer | None] = dict.fromkeys(net.inputs)
    for layer in net.layers:
        for bottom in layer.bottoms:
            if bottom not in makers:
                raise ModelError(f"{layer}: no layer makes its bottom '{bottom}'")
        for top in layer.tops:
            if (first := makers.get(top)) is not None:
                raise ModelError(f"{layer}: it makes '{top}', which {first} has made already")
            makers[top] = layer
    known = getattr(net.origin, "constants", None)  # ONNX; outputs of Caffe are what nobody reads, whatever is said
    if known is not None and (lost := [name for name in net.outputs if name not in makers and name not in known]):
        raise ModelError(f"no layer makes the net's output '{lost[0]}'")


def _require_arrays(layer: Layer, net: Net) -> None:
    """Stop at blobs that somebody has put in and that no file can hold. Raises UsageError."""
    if not isinstance(layer.blobs, Blobs):
        raise UsageError(f"{layer}: its blobs are {type(layer.blobs).__name__}, and not bnfold.Blobs of arrays")
    before = layer.source.blobs.stored if layer.source is not None and net.language == "ONNX" else ()
    for index, blob in enumerate(layer.blobs.stored):
        if isinstance(blob, np.ndarray):
            known = index < len(before)
            if blob.dtype != before[index].dtype if known else not _is_float(blob.dtype) and net.language == "Caffe":
                wanted = before[index].dtype if known else "a floating-point type"
                raise UsageError(f"{layer}: blob {index} is of {blob.dtype}, and has to be of {wanted}")
            if type(blob) is not np.ndarray and np.ma.is_masked(blob):  # naming `np.ma` loads it
                raise UsageError(f"{layer}: blob {index} is masked, and no file can hold a mask; fill it")


def _is_float(dtype: DType) -> bool:
    """Whether it is a floating-point type, also one that another package gives numpy, as bfloat16."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.type is not np.void)


class Names:
    """Names that are taken, and how often each was asked for: counting from the start each time would be quadratic.

    Args:
        taken: the names that there are.
        mark: what stands between a name and its number.
    """

    def __init__(self, taken: Iterable[str], mark: str) -> None:
        self._taken, self._mark = set(taken), mark
        self._asked: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def new(self, name: str) -> str:
        """`name`, or the first of `name#2`, `name#3` ... that is free; it is taken from then on."""
        unique, number = name, self._asked.get(name, 1)
        while unique in self._taken:
            number += 1
            unique = f"{name}{self._mark}{number}"
        self._asked[name] = number
        self._taken.add(unique)
        return unique

    def free(self, name: str) -> None:
        """Let a name be given again."""
        self._taken.discard(name)
