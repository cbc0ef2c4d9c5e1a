"""Giving layers their weights: records of caffemodels matched by name, and held to the shapes that parameters promise.

Old files store every blob with four dimensions (a bias is 1x1x1xC, a statistic 1xCx1x1). Where that differs from the
true shape by ones only, the blob gets its true shape, which is another view and no copy. All that does not fit is
reported at once: one wrong layer is a typo, a hundred are the caffemodel of another net.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from bnfold.algebra.scaled import same_in_order
from bnfold.caffe import layer_types
from bnfold.caffe.blobs import Half
from bnfold.caffe.fillers import filled, has_filler
from bnfold.caffe.layers import KERNELS, LAYERS
from bnfold.caffe.layers.arithmetic import ROWS as ARITHMETIC
from bnfold.caffe.layers.convolution import channels_read
from bnfold.caffe.layers.infer import blob_shapes, bottom_shapes, infer_shapes
from bnfold.caffe.weights import Record, WeightsFile
from bnfold.errors import ModelError, WeightsError, counted, few
from bnfold.net import NO_BLOBS, Array, Blobs, Layer, LazyArray, Net, Shape, sizes

_SHOWN = 20
_NAMED = 5
_ALWAYS_LEARN = layer_types.LEARNED - ARITHMETIC.keys() - {"LayerNorm", "Normalize"}
"""Types that learn, whatever they say and whatever shape it is that they read as their only bottom."""


def give_weights(
    layers: Sequence[Layer],
    files: Sequence[WeightsFile],
    shapes: Mapping[str, Shape | None],
    omitted: Sequence[Layer],
) -> list[str]:
    """Put into the layers what they learned.

    Args:
        layers: of the net that is loaded.
        files: caffemodels; what a later one has replaces what an earlier one has.
        shapes: the shape of each blob, None or missing where it is not known; weights are then taken as stored.
        omitted: of the network, but not of the net: what these share with its layers may be stored with them.

    Returns:
        Sentences on what is not in the files.

    Raises:
        WeightsError: weights are missing, damaged or misshapen; it names every layer concerned.
    """
    records = _by_name([*layers, *omitted], files)
    owners = _owners([*layers, *omitted], records)
    faults: list[str] = []
    by_filler: list[Layer] = []
    unclaimed = _unclaimed([*layers, *omitted], files)
    for layer in layers:
        record = records.get(layer.name)
        if layer.blobs and not (record and record.blobs):
            continue  # it brings its own
        shared = owners.get(id(layer))
        layer.blobs = shared or (record.blobs if record else NO_BLOBS)
        try:
            expected = _expected(layer, shapes)
            if expected and not layer.blobs and not (record and record.problem) and (values := filled(layer, expected)):
                by_filler.append(layer)
                layer.blobs = values
                continue
            problem = "" if shared or not record else record.problem
            layer.blobs = _fitted(layer, layer.blobs, expected, problem, unclaimed)
        except WeightsError as error:
            faults.append(str(error))
            continue
        if layer.source:
            layer.source = layer.source._replace(blobs=layer.blobs, record=record)
    if faults:
        strange = 2 * sum(any(file.find(layer.name) for file in files) for layer in layers) < len(faults)
        names = ", ".join(str(file.path) for file in files)
        raise WeightsError(_sentence(names, faults, ": is it the caffemodel of another network?" if strange else ""))
    for layer in omitted:
        if (record := records.get(layer.name)) and layer.source:
            layer.blobs, layer.source = record.blobs, layer.source._replace(record=record)
    return [*_filler_notes(by_filler), *_stored_twice(layers, files), *_share(layers, files, omitted)]


def require_fitting(net: Net, *, complete: bool = False) -> None:
    """Stop where a caller gave a layer blobs of other shapes than its parameters promise.

    Args:
        net: not changed.
        complete: also where a layer has none, so that a caffemodel with those of the others could not be read again.

    Raises:
        WeightsError: it names every such layer, what it has and what it needs.
    """
    learned = layer_types.LEARNED if complete else frozenset[str]()
    edited = [
        layer for layer in net.layers if not _has_shapes_as_read(layer) or (not layer.blobs and layer.type in learned)
    ]
    faults: list[str] = []
    try:
        shapes = infer_shapes(net) if edited else {}
    except ModelError:  # which says more of the net than of its blobs; whoever needs shapes says it
        return
    for layer in edited:
        expected = _expected(layer, shapes)
        if expected is None:
            if complete and _lacks_weights(layer):
                faults.append(f"{layer}: has no weights, and learns some")
            continue
        fitting = [*map(_vector, layer.blobs.shapes)] == [*map(_vector, expected)]
        if not fitting and (layer.blobs or filled(layer, expected) is None):
            faults.append(_misfit(layer, layer.blobs, expected))
    if faults:
        raise WeightsError(_sentence(net.file or "the net", faults))


def _vector(shape: Shape) -> Shape:
    """The shape of a vector without its ones, 1x64x1x1 being 64 to whoever reads it; any other as it is."""
    plain = _without_ones(shape)
    return plain if len(plain) < 2 else shape


def _has_shapes_as_read(layer: Layer) -> bool:
    """Whether the blobs have the shapes that they were read in, perhaps with a bias behind them that folding gave."""
    read = layer.source.blobs if layer.source else NO_BLOBS
    if layer.blobs is read:
        return True
    known, now = read.shapes, layer.blobs.shapes
    return now == known or (len(known) == 1 and now == (*known, known[0][:1]))


def _share(net: Sequence[Layer], files: Sequence[WeightsFile], omitted: Sequence[Layer]) -> list[str]:
    """Give one value to each blob that several layers share by name: what is stored last, as in Caffe.

    There the sharers have one blob between them, into which every record is copied (`Net::CopyTrainedLayersFrom`).
    Where none is stored it is the first layer's, by its filler (`Net::AppendParam`).
    """
    layers = [*net, *omitted]
    order = {id(file.buffer): position for position, file in enumerate(files)}
    sharers: dict[str, list[tuple[tuple[int, int], int, int]]] = {}
    for position, layer in enumerate(layers):
        record = layer.source.record if layer.source else None
        stands = (order[id(record.buffer)], record.begin) if record else UNSTORED
        for index, spec in enumerate(layer.param.param[: len(layer.blobs)]):
            if spec.name:
                sharers.setdefault(spec.name, []).append((stands, position, index))
    replaced: dict[int, list[Array | LazyArray]] = {}
    notes = []
    for name, members in sharers.items():
        _, position, index = max(members, key=lambda one: (one[0], -one[1], one[2]))
        last = layers[position].blobs.stored[index]
        for stands, other, blob in members:
            stored = layers[other].blobs.stored[blob]
            if np.prod(stored.shape) != np.prod(last.shape) or same_in_order(stored, last):
                continue
            replaced.setdefault(other, list(layers[other].blobs.stored))[blob] = _view(last, stored.shape)
            if stands != UNSTORED and other < len(net):
                notes.append(
                    f"{layers[other]} has another '{name}' stored than {layers[position]}, with which it shares it: "
                    f"that of {layers[position]} holds, which comes later, as in Caffe"
                )
    for position, blobs in replaced.items():
        layers[position].blobs = Blobs(blobs)
    return notes


def _stored_twice(layers: Sequence[Layer], files: Sequence[WeightsFile]) -> list[str]:
    """Where one file has two records of a layer with different blobs, of which Caffe copies the last."""
    twice: dict[str, None] = {}
    names = {layer.name for layer in layers}
    for file in files:
        for record in file.records:
            last = file.find(record.name)
            if last is None or last is record or not record.blobs or record.name not in names:
                continue
            blobs = record.blobs.stored, last.blobs.stored
            if len(record.blobs) != len(last.blobs) or not all(map(same_in_order, *blobs)):
                twice[f"'{record.name}' in {file.path.name}"] = None
    named = few(list(twice), _NAMED)
    return [f"two records of one layer differ, and the last holds, as in Caffe: {named}"] if twice else []


def _filler_notes(layers: Sequence[Layer]) -> list[str]:
    if not layers:
        return []
    named = sorted(f"'{layer.name}' ({layer.type})" for layer in layers)
    return [f"no weights are stored for {few(named, _NAMED)}: the values of the fillers, as in Caffe"]


def _by_name(layers: Sequence[Layer], files: Sequence[WeightsFile]) -> dict[str, Record]:
    """The record of each layer that has one: the last file's, and rather one with blobs."""
    records: dict[str, Record] = {}
    for file in files:
        for layer in layers:
            if (record := file.find(layer.name)) and (record.blobs or layer.name not in records):
                records[layer.name] = record
    return records


def _owners(layers: Sequence[Layer], records: Mapping[str, Record]) -> dict[int, Blobs]:
    """For layers of which not all is stored, the blobs that they share by name with layers of which it is."""
    shared: dict[str, Array | LazyArray] = {}
    for layer in layers:
        if (record := records.get(layer.name)) and (names := _shared_names(layer)):
            for index, blob in record.numbered.items() or enumerate(record.blobs.stored):
                if index in names:
                    shared.setdefault(names[index], blob)
    owners = {}
    for layer in layers:
        record = records.get(layer.name)
        if record and not record.numbered:
            continue
        numbered, names = record.numbered if record else {}, _shared_names(layer)
        count = max(len(layer.param.param), *(index + 1 for index in numbered), 0)
        stored = [numbered.get(index, shared.get(names.get(index, ""))) for index in range(count)]
        blobs = [blob for blob in stored if blob is not None]
        if blobs and len(blobs) == count:
            owners[id(layer)] = Blobs(blobs)
    return owners


def _shared_names(layer: Layer) -> dict[int, str]:
    """The names by which a layer shares blobs, by their numbers."""
    return {index: spec.name for index, spec in enumerate(layer.param.param[:]) if spec.name}


def _expected(layer: Layer, shapes: Mapping[str, Shape | None]) -> list[Shape] | None:
    bottoms = bottom_shapes(layer, shapes)
    try:
        expected = None if bottoms is None else blob_shapes(layer, bottoms)
    except ModelError as error:
        raise WeightsError(str(error)) from None
    if expected is None and layer.blobs:
        if len(layer.blobs.shapes[0]) < 2 and (layer.type in KERNELS or layer.type == "InnerProduct"):
            raise WeightsError(f"{layer}: has {_listed(layer.blobs.shapes)}, and needs a weight of two axes at least")
        weight = layer.blobs.shapes[0]
        try:
            if bottom := _supposed(layer, weight):
                return blob_shapes(layer, [bottom] * len(layer.bottoms))
        except ModelError as error:
            if layer.type in KERNELS:
                raise WeightsError(f"{error}, by its stored weight of {sizes(weight)}") from None
        if layer.type == "Scale" and len(layer.bottoms) == 1:  # over which axes, only the bottom tells
            return [_plain(layer, 0, weight)] * (1 + layer.param.scale_param.bias_term)
    return expected


def _supposed(layer: Layer, weight: Shape) -> Shape | None:
    """The shape of a bottom that a stored weight would fit, where it is unknown: the parameters promise the rest."""
    if layer.type in KERNELS and len(weight) > 1:
        before = max(1, layer.param.convolution_param.axis)
        return (*[1] * before, channels_read(layer, weight), *[1] * (len(weight) - 2))
    if layer.type == "InnerProduct" and len(weight) > 1:
        axis: int = layer.param.inner_product_param.axis
        plain = _without_ones(weight)
        read = (plain if len(plain) == 2 else weight)[-2 if layer.param.inner_product_param.transpose else -1]
        return (*[1] * axis, read) if axis >= 0 else (1, read, *[1] * (-axis - 1))
    axis, count = layer.param.scale_param.axis, layer.param.scale_param.num_axes
    if layer.type == "Scale" and len(layer.bottoms) == 1 and axis >= 0 and count in (-1, 0, 1, len(weight)):
        return (*[1] * axis, *(_without_ones(weight) if count == 1 else weight))
    return None


def _unclaimed(layers: Sequence[Layer], files: Sequence[WeightsFile]) -> Callable[[Sequence[Shape]], list[str]]:
    """Blobs of some shapes -> the records that have such and that no layer has the name of, as after a renaming."""

    @cache
    def names_by_shapes() -> dict[tuple[Shape, ...], list[str]]:
        claimed, names = {layer.name for layer in layers}, dict[tuple[Shape, ...], list[str]]()
        for record in (record for file in files for record in file.records if record.name not in claimed):
            names.setdefault(tuple(map(_without_ones, record.blobs.shapes)), []).append(record.name)
        return names

    return lambda shapes: names_by_shapes().get(tuple(map(_without_ones, shapes)), [])


def _fitted(
    layer: Layer,
    blobs: Blobs,
    expected: list[Shape] | None,
    problem: str,
    unclaimed: Callable[[Sequence[Shape]], list[str]],
) -> Blobs:
    """The blobs in the shapes that are expected, or in plain ones where nothing is known. Raises WeightsError."""
    if problem:
        raise WeightsError(f"{layer}: {problem}")
    if expected is None:
        if _lacks_weights(layer):
            raise WeightsError(f"{layer}: has no weights there, and learns some")
        plain = [_plain(layer, index, shape) for index, shape in enumerate(blobs.shapes)]
        return blobs if plain == list(blobs.shapes) else _reshaped(blobs, plain)
    if list(blobs.shapes) == expected:
        return blobs
    if not blobs:
        called = layer.source.param.name if layer.source else layer.name
        twice = f" (two layers are called '{called}', and Caffe gives what is stored to the first)"
        twin = twice if called != layer.name else ""
        others = unclaimed(expected)
        renamed = f"; '{others[0]}' there has such, and no layer is called so" if len(others) == 1 else ""
        raise WeightsError(f"{layer}: has no weights there{twin}, and needs {_listed(expected)}{renamed}")
    if [_without_ones(shape) for shape in blobs.shapes] != [_without_ones(shape) for shape in expected]:
        raise WeightsError(_misfit(layer, blobs, expected))
    return _reshaped(blobs, expected)


def _lacks_weights(layer: Layer) -> bool:
    """Whether a layer needs some for certain, though nobody knows their shapes."""
    learns = layer.type in _ALWAYS_LEARN and not layer.opaque and len(layer.bottoms) == 1
    return learns and not layer.blobs and not has_filler(layer)


def _misfit(layer: Layer, blobs: Blobs, expected: Sequence[Shape]) -> str:
    needs = f"needs {_listed(expected)}" if expected else "learns nothing"
    stored = list(blobs.shapes)
    advice = f"; with `{field}` they fit" if (field := _field_for(layer, stored, list(expected))) else ""
    return f"{layer}: has {_listed(stored) or 'no weights'}, and {needs}{advice}"


def _field_for(layer: Layer, stored: list[Shape], expected: list[Shape]) -> str:
    """The field with which a layer would promise what is stored; empty where none is known."""
    if not stored or not expected:
        return ""
    if layer.type == "InnerProduct" and [stored[0][::-1], *stored[1:]] == expected:
        return f"transpose: {'false' if layer.param.inner_product_param.transpose else 'true'}"
    row = LAYERS.get(layer.type)
    parameters = row.parameters(layer) if row and row.reads else None
    fewer, more = sorted(([*map(_without_ones, shapes)] for shapes in (stored, expected)), key=len)
    bias = fewer[0] if layer.type == "Scale" else _without_ones((getattr(parameters, "num_output", 0),))
    fits = hasattr(parameters, "bias_term") and [*fewer, bias] == more
    return f"bias_term: {'true' if len(stored) > len(expected) else 'false'}" if fits else ""


def _plain(layer: Layer, index: int, shape: Shape) -> Shape:
    """A legacy shape without its ones, for what is a vector or a matrix in every layer of the type.

    What Synopsys' arithmetic learned broadcasts by the shape that it has: 1x3x1x1 lies along the channels.
    """
    if len(shape) != 4 or layer.type not in layer_types.LEARNED or layer.type in ARITHMETIC:
        return shape
    if layer.type == "InnerProduct" and index == 0 and shape[:2] == (1, 1):
        return shape[2:]
    is_kernel = index == 0 and layer.type in KERNELS
    return shape if is_kernel or np.prod(shape) != max(shape) else (max(shape),)


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _reshaped(blobs: Blobs, shapes: Sequence[Shape]) -> Blobs:
    return Blobs(_view(blob, shape) for blob, shape in zip(blobs.stored, shapes, strict=True))


def _view(blob: Array | LazyArray, shape: Shape) -> Array | LazyArray:
    if blob.shape == shape:
        return blob
    if isinstance(blob, Half):
        return Half(blob.stored.reshape(shape))
    assert isinstance(blob, np.ndarray), "a caffemodel has arrays and halves"
    return blob.reshape(shape)


def _sentence(where: str, faults: Sequence[str], hint: str = "") -> str:
    introduction = f"{where}: the weights of {counted(len(faults), 'layer')} do not fit the network{hint}"
    shown = [*faults[:_SHOWN], *([f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else [])]
    return "\n  ".join([introduction, *shown])


def _listed(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(sizes, shapes))


UNSTORED = (-1, -1)
"""The place of a layer that no file has a record of: in front of all that are stored."""
