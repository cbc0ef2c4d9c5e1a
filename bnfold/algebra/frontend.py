"""What the laws ask of a language: Caffe is one front end (`bnfold.caffe.frontend`), ONNX the other.

A front end says which operator a layer is and carries out what was decided; it decides nothing itself. The sweep

    1. lets it take apart what is one layer in the language and several in the algebra (`prepare`), and may fuse too;
    2. asks once for shapes, protected blobs and taken names;
    3. asks for the operator of a layer whenever a law needs it, so the answer is made of what the layer is by then;
    4. hands weights and kept affines back (`absorb`, `rewrite`), after a plan is whole, so these cannot refuse;
    5. lets it take out what stood around affines that are gone (`drop_emptied`), and in the end put together again and
       share again (`finish`).

What the sweep does itself, on `bnfold.net`: it removes layers, renames blobs and connects readers anew. So for every
layer of the net, `layer.bottoms` are exactly the blobs that it reads as data (constants are none of them, and what a
body of If or Loop captures is one more bottom each), and the writer takes all names from `bottoms` and `tops`.
`layer.param`, `layer.source` and `net.origin` are the front end's own and are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bnfold.algebra.affine import Affine, Values
from bnfold.algebra.operators import Clip, Operator, Window

if TYPE_CHECKING:
    import numpy.typing as npt

    from bnfold.net import Layer, LazyArray, Net, Shape


@dataclass(slots=True, eq=False)
class FoldContext:
    """A net that is being folded, and how its user wants doubtful layers to be read.

    Attributes:
        net: the net; edited between calls.
        shapes: current name of a blob -> its shape, with -1 for an unknown size; None where the rank is unknown, too.
        stored_type: the type that the values of a kept affine are stored in; the widest of the net's, at least float32.
        assume_global_stats: take a normalisation that follows its batch as if it used its stored statistics.
        assumed: the layers for which that was done.
        whole: what the net is in a reason: the network, or a body of one of its layers.
        keep: blobs that the user keeps.
        excluded: layers that must stay exactly as they are, by identity.
        settled: whether every affine that stays has been tried both ways; only then may two of them become one node.
        types: layer, by identity -> the types of its first bottom and top in the language's terms; for the front end.
        size_arithmetic: layers, by identity, that compute sizes of blobs, in which no affine is looked for.
        patterns: layers, by identity, of patterns that stay as they are -> the function that they compute together.
        casts: layers, by identity, that change the type around affines and change it back -> the two layers. Their
            operators depend on what is left between them, so they are asked for anew each time.
        notes: sentences for the user, to be appended to.
    """

    net: Net
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    assume_global_stats: bool = False
    stored_type: npt.DTypeLike = "float32"
    assumed: list[Layer] = field(default_factory=list)
    whole: str = "network"
    keep: Collection[str] = ()
    excluded: Collection[int] = ()
    settled: bool = False
    types: Mapping[int, tuple[Any, Any]] = field(default_factory=dict)
    size_arithmetic: Collection[int] = ()
    patterns: Mapping[int, str] = field(default_factory=dict)
    casts: Mapping[int, tuple[Layer, Layer]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def assumes(self, layer: Layer) -> bool:
        """Whether a normalisation that follows its batch is taken as if it used its stored statistics."""
        return self.assume_global_stats and id(layer) not in self.excluded

    def note_assumed(self, how: str) -> None:
        """Append one note on all layers that `--assume-global-stats` applied to, saying how they were read."""
        if self.assumed:
            several = f"{len(self.assumed)} layers, the first of them " if len(self.assumed) > 1 else ""
            self.notes.append(f"{several}{self.assumed[0]}: taken {how}, as --assume-global-stats says")


class InnerNet(NamedTuple):
    """A network in a layer, as the branch of an If is one.

    Attributes:
        attribute: what it is in the layer: "then_branch".
        layer: the layer.
        net: the network, of which what it reads from outside are inputs; None where it cannot be read.
        why: a sentence where it cannot be read and might have folded; empty otherwise.
        put: has the layer hold another network in its place, one that was made of it.
    """

    attribute: str
    layer: Layer
    net: Net | None
    why: str
    put: Callable[[Net], None]

    @property
    def name(self) -> str:
        """What it is called: "then_branch of layer 'y' (If)"."""
        return f"{self.attribute} of {self.layer}"


class FrontEnd(Protocol):
    """The language of a net: `net.front`. It keeps no state of its own; a fold's state is the context.

    What a language may have nothing of has nothing as its default.

    Attributes:
        language: what it is called, "Caffe" or "ONNX".
        param_type: what `Layer.param` is.
        outputs_are_unread: whether a file does not list the outputs, since they are what nobody reads.
    """

    language: str
    param_type: type[Any]
    outputs_are_unread: bool

    @property
    def origin_type(self) -> type[Any] | UnionType:
        """What `Net.origin` is."""

    def prepare(self, context: FoldContext) -> None:
        """Take apart what is a normalisation, then an affine, and fuse what is one linear layer written as two.

        A BatchNorm with a fused ReLU becomes two layers, a LayerNormalization with scale and bias a core and an
        affine behind it; a MatMul and the Add behind it become one layer with a bias. Edits `context.net` by
        `insert`, `remove`, `rename` and `reconnect`; every blob that keeps its name must keep its value. The layers
        in `context.excluded` must stay as they are. `context.shapes` is empty; what is put there is not asked for
        again, if it is every blob of the net.
        """

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """The shape of every blob, as far as it is known, in time linear in the layers.

        Raises:
            ModelError: sizes do not fit.
        """

    def protected(self, net: Net) -> Mapping[str, str]:
        """Blobs that may neither change nor go, besides inputs, outputs and what the user keeps, each with why.

        What bodies of control flow capture, for example: `{"x": "'x' is read in a body of layer 'loop1' (Loop)"}`.
        """
        del net
        return {}

    def taken_names(self, net: Net) -> Iterable[str]:
        """Names that no new blob may have, besides those of blobs (initialisers, names within bodies)."""
        del net
        return ()

    def reads_values(self, layer: Layer, index: int) -> bool:
        """Whether a layer reads the values of this bottom; False where it wants the shape alone, whatever they are."""

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a layer is to the laws; asked often, so it should cost no more than reading parameters.

        An affine is read once, and what it becomes by compositions is the sweep's to remember. numpy's floating-point
        warnings are off meanwhile; what is not finite is refused afterwards.

        Raises:
            Blocked: it is an affine's type (a BatchNormalization, say, or an Add with a constant) that is no affine
                as it stands. It is then reported as kept, with the reason. Everything else that lets nothing pass is
                `Opaque`, with a reason where there is one.
            ModelError: what it learned makes no sense.
        """

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: Values | None) -> None:
        """Give a `Linear` or `Constant` layer new values.

        Args:
            net: the net, for a language in which a bias needs a layer of its own.
            layer: the layer.
            weight: has the shape and the type of the operator's weight, and is computed when it is read.
            bias: lies over the top like the operator's bias, and has full size along the axes that `outputs` names;
                to be rounded once (`Rounded`). It is finite in the weight's type. None where there is none, as before.
        """

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext, parts: Sequence[Affine] = ()) -> str:
        """Why an affine composed of parts could not be written at `layer` (it is not finite as stored), or empty."""

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """Write an affine that stays as the language's plain layer for one: Scale in Caffe, one node in ONNX.

        Args:
            layer: an affine that stays; its `type` is what the report says that it is now.
            affine: what it computes by now.
            context: shapes, and notes if sharing ends.
            composed: it took others in, so it must be rewritten; otherwise it may, where that is plainer (a
                BatchNorm's five values per channel become two), or stay as it is written.
        """

    def clip(self, layer: Layer, clip: Clip) -> None:
        """Have a layer cut at other bounds, of which some may be infinite, and others be finite that were not."""

    def weigh(self, layer: Layer, coefficients: Sequence[float]) -> None:
        """Give a `Sum` that stores its coefficients others."""
        del layer, coefficients

    def stored_statistics(self, layer: Layer) -> Any:
        """The parameters of a normalisation that follows its batch, made to take its stored statistics; else None."""

    def joins(self, layer: Layer, window: Window) -> bool:
        """Whether a convolution can be written so that it slides like `window`, whatever its kernel is."""

    def join(self, net: Net, layer: Layer, weight: LazyArray, bias: Values | None, window: Window) -> None:
        """Give a convolution new values of another kernel, which is what the last axes of `weight` say.

        Args:
            net, layer, weight, bias: as in `absorb`.
            window: how it slides from now on; `joins` has agreed.
        """

    def drop_emptied(self, context: FoldContext) -> Sequence[Layer]:
        """Take out layers that `prepare` found around affines and that change nothing now; returns them."""
        del context
        return ()

    def finish(self, context: FoldContext) -> None:
        """After the last edit: put together what was taken apart and stayed, settle which weights are still shared."""

    def bodies(self, net: Net) -> Iterable[InnerNet]:
        """The networks in the layers of a net; those in bodies are bodies of their nets."""
        del net
        return ()

    def pickled(self, net: Net) -> tuple[Any, ...] | None:
        """How `pickle` makes the net again, as `object.__reduce__` says it; None for layer by layer."""
        del net
        return None


def with_stored_statistics(net: Net, folded: Net) -> Net:
    """The net with stored statistics in those normalisations that were folded although they follow the batch.

    Args:
        net: stays as it is.
        folded: what it became; a layer that is still there was not folded.
    """
    said = net.copy()
    _take_stored_statistics(said, folded, {id(layer.param) for layer in folded.layers})
    return said


def _take_stored_statistics(net: Net, folded: Net, kept: Collection[int]) -> bool:
    """Have the layers of a net take their stored statistics, but for those whose parameters are kept; whether any does.

    A body was read anew when it was folded, so its layers that follow the batch still are told by what they make.
    """
    front, changed = net.front, False
    assert front is not None
    for layer in net.layers:
        stored = None if id(layer.param) in kept else front.stored_statistics(layer)
        layer.param, changed = stored or layer.param, changed or stored is not None
    after = {(*body.layer.tops, body.attribute): body.net for body in front.bodies(folded)}
    for body in front.bodies(net):
        became = after.get((*body.layer.tops, body.attribute))
        if body.net is not None and became is not None:
            left = {top for one in became.layers if front.stored_statistics(one) is not None for top in one.tops}
            same = {id(one.param) for one in body.net.layers if not left.isdisjoint(one.tops)}
            if _take_stored_statistics(body.net, became, same):
                body.put(body.net)
                changed = True
    return changed
