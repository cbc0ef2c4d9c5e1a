"""From a net that is trained to one that infers: data layers become inputs; labels, losses and metrics go.

    Given:   data (Data) -> data, label;  conv1 -> fc1;  loss (SoftmaxWithLoss): fc1, label;  accuracy: fc1, label
    Result:  data (Input) -> data;        conv1 -> fc1;  loss (Softmax): fc1

A blob is a *label* when all that reads it is losses and metrics, at the places where they read labels, or layers that
make nothing but labels. Whatever reads the top of a loss or metric goes too. A net with none of these is not touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

from bnfold.caffe import layer_types
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.descriptors import put
from bnfold.caffe.origin import Source
from bnfold.caffe.upgrade import Upgraded
from bnfold.errors import UsageError, did_you_mean_blob, quoted
from bnfold.net import Layer, Names, end_notes, needed_for


class Deployed(NamedTuple):
    """The layers that infer, sentences on what was assumed, and the data layer behind each input that one made."""

    layers: list[Layer]
    notes: list[str]
    data: dict[str, LayerParameter]


def deploy(layers: Sequence[Layer]) -> Deployed:
    """Make an inference net of the layers of a TEST net, in single assignment; the given layers stay as they are."""
    if not any(layer_types.is_data(layer.param) or layer_types.judges(layer.param) for layer in layers):
        return Deployed(list(layers), [], {})
    labels = _labels(layers)
    gone, dropped = _gone(layers, labels)
    # Of a loss only the prediction is read at inference.
    read = {
        bottom
        for layer in layers
        if id(layer) not in dropped
        for bottom in layer.bottoms[: 1 if layer_types.loss_of(layer.param) else None]
    } - gone
    names = Names((top for layer in layers for top in layer.tops), "")
    kept: list[Layer] = []
    data: dict[str, LayerParameter] = {}
    for layer in (layer for layer in layers if id(layer) not in dropped):
        if not layer_types.is_data(layer.param):
            kept.append(_inferring(layer, gone, names))
        # What nobody reads here is a label for the other phase.
        elif indices := [index for index, top in enumerate(layer.tops) if top in read]:
            data.update((layer.tops[index], layer.param) for index in indices)
            kept.append(_source(layer, indices))
    return Deployed(kept, _notes(layers, kept), data)


def _inferring(layer: Layer, gone: set[str], names: Names) -> Layer:
    """A layer that stays, and is no data layer, as it infers."""
    loss = layer_types.loss_of(layer.param)
    if layer.type == "Input" and not gone.isdisjoint(layer.tops):
        return _source(layer, [index for index, top in enumerate(layer.tops) if top not in gone])
    if layer.type == "Silence" and not gone.isdisjoint(layer.bottoms):
        indices = [index for index, bottom in enumerate(layer.bottoms) if bottom not in gone]
        return _rewritten(layer, LayerParameter(name=layer.name, type="Silence"), indices, [])
    if loss is None or not loss.becomes:
        return layer
    return _margin(layer, loss.becomes) if loss.goes_on else _prediction(layer, loss.becomes, names)


def without_missing_labels(layers: Sequence[Upgraded]) -> tuple[list[Upgraded], list[str]]:
    """The layers without the labels that losses and metrics read and nobody makes, and sentences that say so.

    A file for deployment may keep an Accuracy, which goes anyway, and have no layer left that brings its labels. What
    only prepares such labels goes with them.
    """
    made = {top for layer in layers for top in layer.param.top[:]}
    if all(made.issuperset(layer.param.bottom[:]) for layer in layers):
        return list(layers), []
    labels = _read_as_labels(layers)
    kept: list[Upgraded] = []
    notes: list[str] = []
    for layer in layers:
        param = layer.param
        if labels.issuperset(param.top) and param.top and any(bottom not in made for bottom in param.bottom):
            made.difference_update(param.top)
            notes.append(f"layer '{param.name}' ({param.type}) was left out: it prepares labels that no layer makes")
        else:
            kept.append(layer)
    for index, layer in enumerate(kept):
        param = layer.param
        missing = [bottom for bottom in param.bottom[_predictions(param) :] if bottom not in made]
        if missing:
            notes.append(f"layer '{param.name}' ({param.type}) reads {quoted(missing)}, which no layer makes: labels")
            without = deepcopy(param)
            without.bottom[:] = [bottom for bottom in param.bottom if bottom not in missing]
            kept[index] = layer._replace(param=without, text=None)
    return kept, notes


def _predictions(param: LayerParameter) -> int:
    """How many of a layer's bottoms, from the first on, are no labels."""
    loss = layer_types.loss_of(param)
    return loss.predictions if loss else 1 if layer_types.judges(param) else len(param.bottom)


def _read_as_labels(layers: Sequence[Upgraded]) -> set[str]:
    """The blobs that are read, and by nothing but losses and metrics as labels, or by what prepares such."""
    labels: set[str] = set()
    wanted: set[str] = set()
    for layer in reversed(layers):
        param = layer.param
        prepares = bool(param.top) and labels.issuperset(param.top) and wanted.isdisjoint(param.top)
        for index, bottom in enumerate(param.bottom):
            is_label = index >= _predictions(param) or (prepares and not layer_types.judges(param))
            (labels if is_label else wanted).add(bottom)
    return labels - wanted


def ending_in(
    layers: Sequence[Layer], public: Mapping[str, str], blobs: Iterable[str]
) -> tuple[list[Layer], list[str], list[str]]:
    """The layers that some blobs depend on, those blobs by their names in memory, and sentences on what is left out.

    Raises:
        UsageError: there is no such blob, or only inputs are such.
    """
    versions = {top: top for layer in layers for top in layer.tops}
    versions |= {public[top]: top for layer in layers for top in layer.tops if top in public}
    versions |= {top: top for layer in layers if layer.bottoms for top in layer.tops}
    wanted = list(dict.fromkeys(blobs))
    if unknown := [blob for blob in wanted if blob not in versions]:
        guess = did_you_mean_blob(unknown[0], versions, "--until")
        raise UsageError(f"--until {unknown[0]}: the network has no blob of that name{guess}")
    outputs = [versions[blob] for blob in wanted]
    kept = needed_for(layers, outputs)
    if all(layer.type == "Input" for layer in kept):
        computed = [top for layer in layers if layer.type != "Input" for top in layer.tops]
        raise UsageError(f"--until {wanted[0]}: that is an input{did_you_mean_blob(wanted[0], computed)}")
    return kept, outputs, end_notes(wanted, len(layers) - len(kept))


def without_last_silence(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers without Silence where that swallows all that the net computes, and a sentence that says so.

    Caffe's authors wrote it to keep blobs off the screen: the answer is read from the silenced blob.
    """
    computed = dict.fromkeys(top for layer in layers if layer.bottoms for top in layer.tops)
    silent = {
        id(layer) for layer in layers if layer.type == "Silence" and not computed.keys().isdisjoint(layer.bottoms)
    }
    others = [layer for layer in layers if id(layer) not in silent]
    read, heard = ({bottom for layer in some for bottom in layer.bottoms} for some in (layers, others))
    outputs = [top for top in computed if top not in heard]
    if not outputs or not read.issuperset(computed):
        return list(layers), []
    names = quoted(layer.name for layer in layers if id(layer) in silent)
    became = f"{quoted(outputs)} became its output{'s' * (len(outputs) > 1)}"
    return others, [f"{names} (Silence) discards all that the net computes: {became}"]


def _labels(layers: Sequence[Layer]) -> set[str]:
    """The blobs that are labels.

    From the back: a blob is a candidate if it is read where labels are read, or by layers that make only candidates.
    Then candidates are given up until all agrees: a known layer makes labels only of labels (so the `ArgMax` of the
    scores in front of a metric makes none), and what is read by a layer that stays is no label.
    """
    uses: dict[str, list[tuple[Layer, int]]] = {}
    for layer in layers:
        for position, bottom in enumerate(layer.bottoms):
            uses.setdefault(bottom, []).append((layer, position))
    labels: set[str] = set()
    for layer in reversed(layers):
        if layer_types.judges(layer.param) or layer.type in layer_types.LEARNED:
            continue
        open_tops = []
        for position, top in enumerate(layer.tops):
            wishes = {_wants_label(reader, place, labels) for reader, place in uses.get(top, ())}
            if wishes <= {None} and not (position > 0 and layer_types.is_data(layer.param)):
                open_tops.append(top)
            elif False not in wishes:
                labels.add(top)
        if layer.bottoms and not labels.isdisjoint(layer.tops):
            labels.update(open_tops)
    while given_up := {blob for layer in layers for blob in _no_labels(layer, labels)}:
        labels -= given_up
    return labels


def _wants_label(reader: Layer, position: int, labels: set[str]) -> bool | None:
    """Whether `reader`, whose tops have been looked at, reads a label at `position`; None if it does not care."""
    if reader.type in layer_types.SINKS:
        return None
    if layer_types.judges(reader.param):
        return position >= _predictions(reader.param)
    return bool(reader.tops) and labels.issuperset(reader.tops)


def _no_labels(layer: Layer, labels: set[str]) -> set[str]:
    """The candidates that cannot be labels because of what `layer` is."""
    if not layer.bottoms or layer_types.judges(layer.param) or layer.type in layer_types.SINKS:
        return set()
    # What is not known may compute labels of anything, like the target layers of region proposal networks.
    makes = labels.issuperset(layer.tops) and (not layer_types.is_known(layer.type) or labels.issuperset(layer.bottoms))
    return set() if makes and layer.tops else labels.intersection([*layer.bottoms, *layer.tops])


def _gone(layers: Sequence[Layer], labels: set[str]) -> tuple[set[str], set[int]]:
    """The blobs that go (labels, tops of losses and metrics, all that is made of them) and the layers, by id."""
    gone, dropped = set(labels), set()
    for layer in layers:
        loss = layer_types.loss_of(layer.param)
        if loss is not None and loss.becomes and layer.bottoms[0] not in gone:
            gone.update(layer.tops[1:] if loss.goes_on else layer.tops[:1])
            continue
        if not layer.bottoms or layer.type in layer_types.SINKS:
            goes = gone.issuperset([*layer.bottoms, *layer.tops]) or layer.type in layer_types.METRICS
        else:
            goes = layer_types.judges(layer.param) or not gone.isdisjoint([*layer.bottoms, *layer.tops])
        if goes:
            gone.update(layer.tops)
            dropped.add(id(layer))
    return gone, dropped


def _source(layer: Layer, places: list[int]) -> Layer:
    """An `Input` layer with some of the tops of a data or `Input` layer; a data layer's shape comes later."""
    param = LayerParameter(name=layer.name, type="Input")
    shapes = layer.param.input_param.shape
    if len(shapes) == len(layer.tops):
        param.input_param.shape.extend(shapes[place] for place in places)
    elif shapes:
        param.input_param.CopyFrom(layer.param.input_param)
    return _rewritten(layer, param, [], places)


def _prediction(layer: Layer, layer_type: str, names: Names) -> Layer:
    """A loss as the function inside it. Its second top, where it has one, is that function's value already."""
    param = LayerParameter(name=layer.name, type=layer_type)
    for field in ("softmax_param", "sigmoid_param"):
        if layer.param.HasField(field):
            getattr(param, field).CopyFrom(getattr(layer.param, field))
    if layer.tops:
        return _rewritten(layer, param, [0], [min(1, len(layer.tops) - 1)])
    # Old nets let Caffe name the top of a loss.
    top = layer.param.name or "prob"
    top = names.new(f"{top}_prob" if top in names else top)
    return _rewritten(replace(layer, tops=[top]), param, [0], [0], new_top=top)


def _margin(layer: Layer, layer_type: str) -> Layer:
    """A margin without it; a second top is a number for the log.

    What SphereFace's does to its weight is marked by its own field, and done where the weight is known (`plain`).
    Source: margin_inner_product_layer.cpp, largemargin_inner_product_layer.cpp.
    """
    param = LayerParameter(name=layer.name, type=layer_type)
    sphere = layer.param.HasField("margin_inner_product_param")
    margin = layer.param.margin_inner_product_param if sphere else layer.param.largemargin_inner_product_param
    if layer_type == "InnerProduct":
        put(param, "param", layer.param.param)
        product = param.inner_product_param
        product.num_output, product.axis, product.bias_term = margin.num_output, margin.axis, False
        if sphere:
            product.normalize = True
            param.margin_inner_product_param.SetInParent()
    return _rewritten(layer, param, [0], [0])


def _rewritten(layer: Layer, param: LayerParameter, bottoms: list[int], tops: list[int], new_top: str = "") -> Layer:
    """`layer` with another message and some of its bottoms and tops, given by their places."""
    assert layer.source is not None, "a layer that is read has a source"
    file_tops = (new_top,) if new_top else layer.source.tops
    param.bottom.extend(layer.source.bottoms[place] for place in bottoms)
    param.top.extend(file_tops[place] for place in tops)
    return replace(
        layer,
        type=param.type,
        bottoms=[layer.bottoms[place] for place in bottoms],
        tops=[layer.tops[place] for place in tops],
        param=param,
        source=Source(tuple(param.bottom), tuple(param.top), param, layer.blobs),
    )


def _notes(before: Sequence[Layer], after: Sequence[Layer]) -> list[str]:
    """What went and what changed its type, as one sentence."""
    left = {layer.name: layer.type for layer in after}
    changes = []
    for layer in before:
        now = left.get(layer.name)
        if now != layer.type:
            changes.append(f"'{layer.name}' ({layer.type}) {f'became {now}' if now else 'was left out'}")
    return [f"made a net for inference: {', '.join(changes)}"] if changes else []
