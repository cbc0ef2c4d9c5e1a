"""A whole network at TEST: built from prototxt and weights, run one layer after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reference import text, upgrade
from reference.binary import Array, param_counts, read_weights
from reference.layers import forward
from reference.text import Message
from reference.upgrade import Shape, Source


@dataclass(eq=False, slots=True)
class ReferenceLayer:
    """One layer; its bottoms and tops are keys: the blob's name, or `blob@layer` where a later layer overwrites it."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    param: Message
    blobs: list[Array] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class ReferenceNet:
    """A network in which every blob is written once."""

    layers: list[ReferenceLayer]
    inputs: dict[str, Shape | None]  # public name -> shape, where the file says one
    input_keys: dict[str, str]  # public name -> key, another one if a layer overwrites the input
    outputs: list[str]  # blobs that nobody reads, as Caffe lists them
    names: set[str]  # keys that are public names: all but the overwritten versions

    def run(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        dtype: npt.DTypeLike = np.float64,
        input_shapes: Mapping[str, Shape] | None = None,
        versions: bool = False,
    ) -> dict[str, Array]:
        """All blobs of one forward pass.

        `inputs` holds an array per input; `input_shapes` reshapes some of them first. A blob that is overwritten in
        place appears with its last value under its name; with `versions`, each earlier one as `blob@layer` after
        the layer that wrote it (for a net input: after its Input layer, or twice its name if it has none).
        """
        values: dict[str, Array] = {}
        for name, key in self.input_keys.items():
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing; the net reads {', '.join(self.inputs)}")
            values[key] = np.asarray(inputs[name], dtype)
            if input_shapes and name in input_shapes:
                values[key] = values[key].reshape(input_shapes[name])
        for layer in self.layers:
            try:
                blobs = [np.asarray(blob, dtype) for blob in layer.blobs]
                tops = forward(layer.param, [values[key] for key in layer.bottoms], blobs)
            except Exception as error:
                error.add_note(f"in layer {layer.name!r} ({layer.type})")
                raise
            values.update(zip(layer.tops, tops, strict=True))
        return values if versions else {key: value for key, value in values.items() if key in self.names}


def load(
    prototxt: str | Path,
    caffemodel: str | Path | None = None,
    weights: Mapping[str, list[npt.NDArray[Any]]] | None = None,
) -> ReferenceNet:
    """The net of a prototxt (a path, or the text itself) with the blobs of a caffemodel, of `weights`, or of both.

    Blobs go to layers by name; `weights` counts where both name a layer. Raises ValueError for a text or file that is
    not well formed, and for a blob that is read before it is written.
    """
    is_path = isinstance(prototxt, Path) or ("{" not in prototxt and ":" not in prototxt)
    source = Path(prototxt).read_text(encoding="utf-8") if is_path else str(prototxt)
    message = upgrade.net_parameter(text.parse(source))
    learned: dict[str, list[Array]] = {} if caffemodel is None else read_weights(Path(caffemodel).read_bytes())
    learned.update(weights or {})

    layers = upgrade.layers_at_test(message)
    inputs = upgrade.sources(message, layers)
    layers = [layer for layer in layers if not upgrade.is_source(layer)]
    net, losses = assign_once(layers, inputs)
    if losses or any(source.optional for source in inputs):
        net, inputs = without_losses(net, inputs, losses)
    counts = param_counts(Path(caffemodel).read_bytes()) if caffemodel else {}
    for layer in net.layers:
        layer.blobs = list(learned.get(layer.name, []))
        layer.param["params_in_file"] = [counts.get(layer.name, 0)]
    return net


def assign_once(messages: list[Message], inputs: list[Source]) -> tuple[ReferenceNet, list[ReferenceLayer]]:
    """Give each version of a blob its own key, and list the layers that only serve training."""
    writers = [(source.blob, source.layer) for source in inputs]
    writers += [(top, message.word("name")) for message in messages for top in message.words("top")]
    last = {blob: i for i, (blob, _) in enumerate(writers)}

    current: dict[str, str] = {}
    taken: set[str] = set()
    position = 0

    def write(blob: str, layer: str) -> str:
        nonlocal position
        key = blob if last[blob] == position else f"{blob}@{layer}"
        while key in taken:
            key += "'"
        taken.add(key)
        current[blob] = key
        position += 1
        return key

    input_keys = {source.blob: write(source.blob, source.layer) for source in inputs}
    layers = []
    for message in messages:
        name, bottoms, tops = message.word("name"), message.words("bottom"), message.words("top")
        unknown = [blob for blob in bottoms if blob not in current]
        if unknown:
            raise ValueError(f"layer {name!r} reads {', '.join(unknown)}, which no layer before it writes")
        again = [blob for blob in tops if blob in current and blob not in bottoms]
        if again:
            raise ValueError(f"layer {name!r} writes {', '.join(again)} a second time, not in place")
        read = [current[blob] for blob in bottoms]
        layers.append(
            ReferenceLayer(name, message.word("type"), read, [write(blob, name) for blob in tops], param=message)
        )
    losses = [layer for layer in layers if serves_training(layer)]
    net = ReferenceNet(layers, {source.blob: source.shape for source in inputs}, input_keys, [], set(last))
    net.outputs = unread(net)
    return net, losses


def serves_training(layer: ReferenceLayer) -> bool:
    return "Loss" in layer.type or "Accuracy" in layer.type or layer.type in ("DetectionEvaluate", "HDF5Output")


def unread(net: ReferenceNet) -> list[str]:
    """Keys that nobody reads: inputs first, then tops, in order."""
    read = {key for layer in net.layers for key in layer.bottoms}
    written = [*net.input_keys.values(), *(key for layer in net.layers for key in layer.tops)]
    return [key for key in written if key not in read]


def without_losses(
    net: ReferenceNet, inputs: list[Source], losses: list[ReferenceLayer]
) -> tuple[ReferenceNet, list[Source]]:
    """A training net for inference: SoftmaxWithLoss becomes Softmax; other losses go, and what only they need.

    A loss needs its predictions, so these stay; they are its first bottom, or all but the labels of a MultiBoxLoss.
    What leads to nothing but a loss's further bottoms is a label, and goes with its data top.
    """
    labels = {source.blob for source in inputs if source.optional}
    live = {key for key in net.outputs if key not in labels}
    layers: list[ReferenceLayer] = []
    added: list[list[str]] = []
    for layer in reversed(net.layers):
        if layer in losses:
            predictions = layer.bottoms[:3] if layer.type == "MultiBoxLoss" else layer.bottoms[:1]
            live.update(predictions)
            if layer.type == "SoftmaxWithLoss":
                layers.append(as_softmax(layer))
                added.append(layers[-1].tops)
        elif not layer.tops or live.intersection(layer.tops):
            layers.append(layer)
            live.update(layer.bottoms if layer.tops else [])
    kept = [source for source in inputs if not source.optional or net.input_keys[source.blob] in live]
    available = {net.input_keys[source.blob] for source in kept}
    layers.reverse()
    for layer in list(layers):
        if available.issuperset(layer.bottoms):
            available.update(layer.tops)
        else:  # a Silence of something that went
            layers.remove(layer)
    shapes = {source.blob: source.shape for source in kept}
    keys = {source.blob: net.input_keys[source.blob] for source in kept}
    result = ReferenceNet(layers, shapes, keys, [], net.names.union(*added))
    result.outputs = unread(result)
    return result, kept


def as_softmax(layer: ReferenceLayer) -> ReferenceLayer:
    param = Message(layer.param)
    param["type"] = ["Softmax"]
    return ReferenceLayer(layer.name, "Softmax", layer.bottoms[:1], layer.tops[:1] or [layer.name], param)
