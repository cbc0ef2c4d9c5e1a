"""Which value a name means in a network that calls what each layer makes by the layer, beside one that works in place.

    Caffe, in place: conv1 -> bn1 -> relu1, all on the blob 'conv1'
    converted:       Conv -> 'conv1' -> BatchNormalization -> 'bn1' -> Relu -> 'relu1'

Of the three values that Caffe calls 'conv1' the last one has the name, and most converters give it to the first. Layers
that are in both networks tell: what such a layer reads in the one and in the other is the same value, whatever was left
out or merged in front of it.

Of a fold this is not true, where an affine may have been moved through the layer; but there, a blob that keeps its name
keeps its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from bnfold.compare.hidden_differences import LINEAR
from bnfold.compare.pairing import versions
from bnfold.compare.unproved import BY_CHANNEL

if TYPE_CHECKING:
    from bnfold.compare.models import Model

ABSORBING = LINEAR.union(BY_CHANNEL)
"""What a converter may have folded affines into, but no activation."""


def misleading_names(ours: Model, theirs: Model) -> dict[str, str | None]:
    """Blobs of the reference whose partner is not the one of the same name -> that partner; None where there is none.

    One of the networks works in place, and the other calls what each layer makes by the layer; or both were exported
    from Caffe, and the steps within a layer have the layer's name, even if a fold changed the layer.
    """
    known, there = _steps_within_layers(ours), _steps_within_layers(theirs)
    steps = dict.fromkeys(step for step, blobs in known.items() if there.get(step, blobs) != blobs)
    if _has_moved_blobs(ours, theirs) or _has_moved_blobs(theirs, ours):
        return steps
    found = steps | _named_by_layers(ours, theirs)
    other = _named_by_layers(theirs, ours)
    found |= dict.fromkeys(other.keys() & ours.writers.keys())
    return found | {name: blob for blob, name in other.items() if name is not None}


def _steps_within_layers(model: Model) -> dict[str, frozenset[str]]:
    """Values of an exported network on the way to what one layer of Caffe gives -> all that the layer reads and makes.

    A node says of which layer it is. As long as the names of all these are the same, the layer computes the same.
    """
    values: dict[str, set[str]] = {}
    steps: dict[str, set[str]] = {}
    for node in model.proto.graph.node if model.net is None else ():
        layer = node.doc_string
        values.setdefault(layer, set()).update(model.reads.get(node.output[0], ()), node.output)
        if layer.startswith(f"layer '{node.name.rpartition('/')[0]}' ("):
            steps.setdefault(layer, set()).update(one for one in node.output if one.startswith(node.name))
    blobs = {layer: frozenset(values[layer]) for layer in steps}
    return {step: blobs[layer] for layer, made in steps.items() for step in made}


def _has_moved_blobs(folded: Model, original: Model) -> bool:
    """Whether one network was folded from the other: `blob/affine` is a blob that an affine was moved through.

    The affine is a layer, or a node of one (`layer/step`) where what was folded is the layer's ONNX.
    """
    layers = {writer.layer for writer in original.writers.values()}
    for name in folded.writers.keys() - original.writers.keys():
        for cut in (place for place, letter in enumerate(name) if letter == "/"):
            affine = name[cut + 1 :]
            if name[:cut] in original.writers and not layers.isdisjoint((affine, affine.rpartition("/")[0])):
                return True
    return False


class _Step(NamedTuple):
    """A layer of the chain, by its place there, that the other network has, too, and what it makes there."""

    place: int
    blob: str


def _named_by_layers(ours: Model, theirs: Model) -> dict[str, str | None]:
    """Blobs of a network that works in place -> their partners in one that does not, or None; where names mislead."""
    found: dict[str, str | None] = {}
    blobs = {writer.layer: blob for blob, writer in theirs.writers.items()}
    for public, chain in versions(ours.writers).items():
        if len(chain) > 1 and not any(name in theirs.writers for name in chain[:-1]):
            layers = [ours.writers[name].layer for name in chain]
            steps = list(_steps(public, layers, blobs, theirs))
            if len(steps) > 1 or (steps and _keeps_out(ours, theirs, chain, steps[0])):
                found |= _partners(chain, steps, ours, theirs)
    return found


def _steps(public: str, layers: Sequence[str], blobs: Mapping[str, str], theirs: Model) -> Iterator[_Step]:
    """The layers of a chain that the other network has, from the one on whose result has the chain's name there."""
    behind = 0
    if public in theirs.writers:
        maker = theirs.writers[public].layer
        first = maker if maker in layers else public
        if first not in layers[:-1]:
            return
        behind = layers.index(first) + 1
        yield _Step(behind - 1, public)
    for place, layer in enumerate(layers[behind:], behind):
        blob = blobs.get(layer, layer)
        if blob in theirs.writers:
            yield _Step(place, blob)


def _keeps_out(ours: Model, theirs: Model, chain: Sequence[str], step: _Step) -> bool:
    """Whether the layer of a step cannot have taken in all of the chain behind it, since an activation is there."""
    from bnfold.caffe.layers.activation import ROWS as ACTIVATIONS

    behind = (ours.writers[name].type for name in chain[step.place + 1 :])
    return theirs.writers[step.blob].type in ABSORBING and any(one in ACTIVATIONS for one in behind)


def _partners(chain: Sequence[str], steps: Sequence[_Step], ours: Model, theirs: Model) -> dict[str, str | None]:
    """The partners in one chain: what each of its layers reads, and what the last one makes."""
    found: dict[str, str | None] = {chain[-1]: None}
    for one, after in pairwise(steps):
        if one.blob in theirs.reads[after.blob]:
            found[chain[after.place - 1]] = one.blob
    if all(ours.writers[name].type == "Dropout" for name in chain[steps[-1].place + 1 :]):
        found[chain[-1]] = steps[-1].blob
    return found
