"""Reading a Caffe network: `load`, the one way from files to a `Net`.

prototxt -> messages (text) -> V2 (upgrade) -> the TEST net (phases) -> single assignment (versions)
         -> an inference net (deploy) -> shapes of inputs (inputs) -> weights (match)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bnfold.caffe import layer_types
from bnfold.caffe.alignment import align_crops
from bnfold.caffe.batchnorm import idle_choice_notes, layout_notes
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.deploy import deploy, ending_in, without_last_silence, without_missing_labels
from bnfold.caffe.frontend import CAFFE
from bnfold.caffe.hints import hint_of, plane_by_weights
from bnfold.caffe.inputs import GUESSES, Guess, MissingShapes, give_shapes, preparation_notes, prepared
from bnfold.caffe.layers import LAYERS, infer_shapes, row_of, unread_fields
from bnfold.caffe.layers.infer import fitting_shapes
from bnfold.caffe.layers.python_code import layer_type_of, python_notes
from bnfold.caffe.match import give_weights
from bnfold.caffe.origin import Origin
from bnfold.caffe.phases import decided, dropout_notes, idle_state_notes, left_out_notes, runs
from bnfold.caffe.plain import make_plain
from bnfold.caffe.states import expose_states, indicators_as_parameters, state_notes
from bnfold.caffe.text import PrototxtDocument, read_prototxt
from bnfold.caffe.upgrade import Upgraded, notes_on_inputs, upgrade, with_four_axes
from bnfold.caffe.versions import overlapping_notes, single_assignment
from bnfold.caffe.weights import WeightsFile, carries_net, read_weights
from bnfold.errors import (
    Guesses,
    ModelError,
    ParseError,
    UnsupportedError,
    UsageError,
    WeightsError,
    few,
    named,
    quoted,
    telling_which,
)
from bnfold.io.files import StrPath, os_path
from bnfold.net import Layer, Net, Shape
from bnfold.options import ReadOptions, changed


def load(
    prototxt: StrPath,
    caffemodel: StrPath | Sequence[StrPath] | None = None,
    *,
    options: ReadOptions = ReadOptions(),
    **changes: object,
) -> Net:
    """Read a Caffe network of any dialect as it is at TEST.

    Args:
        prototxt: the network: V2, V1 or V0, for deployment or training, or a solver that holds it; or a caffemodel,
            which carries its network.
        caffemodel: its weights; several files, as a list or joined by commas, where later ones replace earlier ones;
            None for a network without weights. HDF5 snapshots (`.caffemodel.h5`) need the extra `hdf5`.
        options: how to read them.
        changes: fields of `ReadOptions` that replace those of `options`.

    Raises:
        ParseError: a file cannot be read, or says what no Caffe understands; with the place.
        ModelError: it is not a network: a bottom that nobody makes, two makers of a blob, an input without a shape.
        UnsupportedError: it computes in integers.
        WeightsError: the weights do not fit; it names every layer concerned.
        UsageError: `input_shapes` names a blob that is no input, there is no option of a name that was given,
            `caffemodel_dialect` is given beside a prototxt, or two options exclude each other.
    """
    options = changed(ReadOptions, options, changes)
    if options.strict_fields and options.ignore_unknown_fields:
        raise UsageError("--strict-fields stops at what --ignore-unknown-fields skips; give one of the two")
    path, files = Path(prototxt), _paths(caffemodel)
    if len({os.path.realpath(one) for one in files}) < len(files):
        raise UsageError(f"a caffemodel is given twice: {', '.join(map(str, files))}; give each once")
    with telling_which(str(path), files):
        return _read(path, files, options)


def _read(path: Path, files: Sequence[Path], options: ReadOptions) -> Net:
    if carries_net(path):
        return _alone(path, files, options)
    if options.caffemodel_dialect is not None:
        raise UsageError("--caffemodel-dialect would be ignored: a prototxt says what its layers are")
    document = read_prototxt(
        path, ignore_unknown_fields=options.ignore_unknown_fields, strict_fields=options.strict_fields
    )
    return build(document, [read_weights(one) for one in files], options=options)


def _alone(path: Path, caffemodels: Sequence[Path], options: ReadOptions) -> Net:
    """The net that a caffemodel carries: the one reading of it whose shapes and weights fit.

    Raises:
        ParseError: several do, and they differ.
    """
    from bnfold.caffe import binary  # rare, and its tables take their time

    carrier = read_weights(path)
    files = [read_weights(one) for one in caffemodels] or [carrier]
    readings = binary.read_net(carrier, options.caffemodel_dialect)
    nets: list[tuple[binary.DialectReading, Net]] = []
    problems: list[ModelError] = []
    for reading in readings:
        try:
            net = build(reading.document, files, options=options)
            infer_shapes(net)
        except MissingShapes as error:
            beside = path.with_suffix(".prototxt")
            pair = f"its prototxt too, to bnfold diff as NET.prototxt:{path.name}"
            instead = f"the prototxt beside it too, {beside}" if beside.is_file() else pair
            error.args = (f"{error}; or give {instead}",)
            raise
        except ModelError as error:
            problems.append(error)
        else:
            nets.append((reading, net))
    if not nets:
        raise problems[0]
    left = [reading for reading, _ in nets]
    chosen = (
        0 if len(nets) == 1 else binary.sole_effect(left, [any(one.opaque for one in net.layers) for _, net in nets])
    )
    if chosen is None:
        raise ParseError(
            f"{binary.difference(left)}; nothing else in the file tells which it is: give the prototxt too, or say "
            "with --caffemodel-dialect whose Caffe wrote it",
            path,
        )
    reading, net = nets[chosen]
    if len(readings) > 1:
        words = binary.difference([reading, *(one for one in readings if one is not reading)])
        reason = "shapes and weights fit no other" if len(nets) == 1 else "by the others it would change nothing"
        net.notes.append(f"{words}; the first is taken, since {reason} (--caffemodel-dialect sets another)")
    return net


def build(
    document: PrototxtDocument,
    files: Sequence[WeightsFile] = (),
    *,
    options: ReadOptions = ReadOptions(),
    **changes: object,
) -> Net:
    """Make a `Net` of a prototxt that was read and caffemodels that were mapped; see `load`."""
    options = changed(ReadOptions, options, changes)
    inferring = _inferring(document, options)
    net, guessed = _with_shapes(partial(_assembled, document, inferring, files, options), files, options.guess_shapes)
    if files:
        net.notes += _give_weights(net, inferring.omitted, files, guessed, options.input_shapes or {})
    if options.recurrent_state:
        net = expose_states(net)
    net.notes += state_notes(net)
    net.notes += idle_choice_notes(net.layers, options.batchnorm_layout, options.zero_scale_factor)
    net.notes += make_plain(net.layers) + python_notes(net.layers) + _assumed(net.layers)
    net.notes += [*layout_notes(net.layers), *dropout_notes(net.layers)]
    net.batchnorm_layout, net.zero_factor = options.batchnorm_layout, options.zero_scale_factor
    return net


def _assembled(
    document: PrototxtDocument, inferring: _Inferring, files: Sequence[WeightsFile], options: ReadOptions, guess: Guess
) -> Net:
    """The inference net with the shapes of its inputs, and without weights. Raises MissingShapes as `give_shapes`."""
    names = frozenset(layer.name for layer in (*inferring.layers, *inferring.omitted))
    preparation = {top: words for top, data in inferring.data.items() if (words := prepared(data, top))}
    hints = partial(hint_of, inferring.layers, partial(_stored_shapes, files))
    inputs = give_shapes(inferring.layers, inferring.data, options.input_shapes or {}, options.batch, guess, hints)
    written = {top for layer in inputs.layers for top in layer.tops}
    net = Net(
        document.net.name,
        inputs.layers,
        inputs.shapes,
        list(inferring.outputs),
        public={blob: name for blob, name in inferring.public.items() if blob in written},
        notes=[*inferring.notes, *inputs.notes, *preparation_notes(preparation, inferring.data)],
        file=str(document.file or ""),
        preparation=preparation,
        origin=Origin(tuple(files), names, document.layout.header, inferring.data, document.layout.loose),
        front=CAFFE,
    )
    return with_four_axes(net) if document.net.layers else net


def _stored_shapes(files: Sequence[WeightsFile], layer: Layer) -> Sequence[Shape]:
    """The shapes of what the last caffemodel that has something for a layer has; none where no one has."""
    for file in reversed(files):
        if (record := file.find(layer.name)) and record.blobs:
            return record.blobs.shapes
    return ()


def _with_shapes(assembled: Callable[[Guess], Net], files: Sequence[WeightsFile], guess: bool) -> tuple[Net, bool]:
    """The net with the shapes that its inputs are known to have, or with a guess; and whether it was one.

    Raises:
        MissingShapes: they are not known, and are not to be guessed.
    """
    try:
        return assembled(Guess()), False
    except MissingShapes:
        stored = partial(_stored_shapes, files)
        plane = plane_by_weights(lambda plane: assembled(Guess(plane)), stored, GUESSES) if files else None
        if not guess:
            assembled(Guess(example=plane or GUESSES[0]))  # asks for it, now with what the weights tell
        if plane:
            return assembled(Guess(plane, fits=True)), True
        fitting = (one for one in GUESSES if fitting_shapes(assembled(Guess(one))))
        return assembled(Guess(next(fitting, GUESSES[0]))), True


class _Inferring(NamedTuple):
    """The layers of the inference net, before its inputs have shapes.

    Attributes:
        layers: in single assignment.
        data: the data layer behind each input that one made.
        public: blob -> its name in the file, where it has another.
        outputs: the blobs that were asked for; what nobody reads if empty.
        omitted: the layers on which these do not depend.
        notes: sentences on what was assumed.
    """

    layers: list[Layer]
    data: dict[str, LayerParameter]
    public: dict[str, str]
    outputs: list[str]
    omitted: list[Layer]
    notes: list[str]


def _inferring(document: PrototxtDocument, options: ReadOptions) -> _Inferring:
    """The layers of a document's inference net."""
    file, state, stages = document.file, document.net.state, tuple(options.stages)
    wanted = frozenset([*state.stage, *stages])
    everything = upgrade(document)
    level = state.level if options.level is None else options.level
    present, absent, borrowed = _at_test(everything, level, wanted)
    left = list(left_out_notes([layer.param for layer in absent], level, wanted))
    hint = "".join(f"; {sentence}" for sentence in left)
    borrowed += left
    borrowed += idle_state_notes([layer.param for layer in everything], stages, options.level)
    if not present:
        raise ModelError(f"{file or 'the net'}: no layer is in the TEST net{hint}")
    if untyped := [param.name for param, _, _ in present if not param.type]:
        raise ModelError(
            f"{file or 'the net'}: {named('layer', untyped)} without a type, which no Caffe takes; write it"
        )
    _refuse_integers(present, file)
    notes = [*document.notes, *notes_on_inputs(document.net, everything), *borrowed]
    present, unlabelled = without_missing_labels(present)
    layers, public, renamed = single_assignment(present, file, absent, hint)
    deployed = deploy(layers)
    layers, unsilenced = without_last_silence(deployed.layers)
    layers, indicated = indicators_as_parameters(layers)
    notes += [*unlabelled, *renamed, *deployed.notes, *unsilenced, *indicated]
    notes += overlapping_notes(layers)
    whole, outputs = layers, list[str]()
    if options.until:
        layers, outputs, cut = ending_in(layers, public, options.until)
        notes += cut
    if all(layer.type == "Input" for layer in layers):
        raise ModelError(f"{file or 'the net'}: nothing but inputs is in the TEST net{hint}")
    notes += [*_unknown(layers), *_mark_opaque(layers), *align_crops(layers, options.crop_offset)]
    kept = {id(layer) for layer in layers}
    omitted = [layer for layer in whole if id(layer) not in kept]
    return _Inferring(layers, deployed.data, public, outputs, omitted, notes)


def _at_test(
    layers: Sequence[Upgraded], level: int, stages: frozenset[str]
) -> tuple[list[Upgraded], list[Upgraded], list[str]]:
    """The layers of the TEST net, the others, and sentences on exceptions.

    A file for training alone has its data layer in TRAIN; it shows where the input is, so it is taken all the same.
    """
    present = {index for index, layer in enumerate(layers) if runs(layer.param, level, stages)}
    made: set[str] = set()
    missing: set[str] = set()
    for index in sorted(present):
        missing.update(bottom for bottom in layers[index].param.bottom[:] if bottom not in made)
        made.update(layers[index].param.top[:])
    # What a layer makes in place of what is missing is still missing.
    made = {
        top
        for index in present
        for position, top in enumerate(layers[index].param.top[:])
        if top not in missing or top not in layers[index].param.bottom[position : position + 1]
    }
    notes = []
    for index, (param, _, _) in enumerate(layers):
        wanted = index not in present and not missing.isdisjoint(param.top) and made.isdisjoint(param.top)
        if wanted and layer_types.is_data(param):
            present.add(index)
            missing.difference_update(param.top)
            made.update(param.top)
            notes.append(f"layer '{param.name}' ({param.type}) is not in the TEST net, and stands for its input")
    return (
        [decided(layer) for index, layer in enumerate(layers) if index in present],
        [layer for index, layer in enumerate(layers) if index not in present],
        notes,
    )


def _unknown(layers: Sequence[Layer]) -> list[str]:
    """A sentence for each type that nobody knows and that is close to one that is known, and one for all the others.

    A layer with parameters that no known type reads is some dialect's own (Synopsys' MatMul), and not misspelt.
    """
    own: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    sources = [
        layer.name
        for layer in layers
        if layer_types.brings_samples(layer.type, reads=True) and layer.type not in LAYERS
    ]
    for layer in layers:
        if not layer_types.is_known(layer_type_of(layer)):
            is_own = layer.type in layer_types.DISPUTED or _has_own_parameters(layer.param)
            (own if is_own else unknown).setdefault(layer.type, []).append(layer.name)
    guesses, notes, none = Guesses(), [], "no dialect that is known here has"
    for layer_type, names in unknown.items():
        meant = layer_types.ELSEWHERE.get(layer_type.lower())
        guess = guesses.at(layer_type, LAYERS) if meant is None else f" (did you mean '{meant}'?)" * bool(meant)
        if guess:
            notes.append(f"{none} a layer of type '{layer_type}'{guess}: {_left(names)}")
        else:
            own.setdefault(layer_type, []).extend(names)
    if sources:
        notes.append(f"no data layer that is known here reads blobs: {_left(sources)}")
    if coded := own.pop("Python", []):
        notes.append(f"what a layer of type 'Python' computes is code outside the network: {_left(coded)}")
    if disputed := {layer_type: own.pop(layer_type) for layer_type in layer_types.DISPUTED if layer_type in own}:
        names = [name for given in disputed.values() for name in given]
        notes.append(f"forks disagree about what layers of type {quoted(disputed)} compute: {_left(names)}")
    if own:
        whose = few([f"'{layer_type}'" for layer_type in own])
        notes.append(f"{none} layers of type {whose}: {_left([name for names in own.values() for name in names])}")
    return notes


def _left(names: Sequence[str]) -> str:
    """What becomes of layers that nobody knows."""
    if len(names) == 1:
        return f"'{names[0]}' stays as written; nothing folds through it, and it has no ONNX form"
    several = few([f"'{name}'" for name in names], 1)
    return f"{several} stay as written; nothing folds through them, and they have no ONNX form"


def _has_own_parameters(param: LayerParameter) -> bool:
    names = [field.name for field, _ in param.ListFields() if field.name.endswith("_param")]
    return any(all(name not in row.reads for row in LAYERS.values()) for name in names)


def _mark_opaque(layers: Sequence[Layer]) -> list[str]:
    """Note in each layer why its parameters are not understood, and say each reason once."""
    alike: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        layer.opaque = layer.opaque or unread_fields(layer)
        if layer.opaque:
            alike.setdefault((layer.type, layer.opaque), []).append(layer)
    return [
        f"{few(list(map(str, group)), 1)}: {why}; left as it is: nothing folds through it, and it has no ONNX form"
        for (_, why), group in alike.items()
    ]


def _assumed(layers: Sequence[Layer]) -> list[str]:
    """A sentence for each type whose words mean something else in other Caffes: as whose they are read."""
    alike: dict[str, list[Layer]] = {}
    for layer in layers:
        row = row_of(layer)
        if row is not None and row.assumed:
            alike.setdefault(row.assumed, []).append(layer)
    return [f"{few(list(map(str, group)), 1)}: read as {assumed}" for assumed, group in alike.items()]


def _refuse_integers(layers: Sequence[Upgraded], file: Path | None) -> None:
    for field, whose in (("quantization_param", "Intel's"), ("fixed_param", "Vitis'")):
        quantised = [
            param
            for param, _, _ in layers
            if param.HasField(field) and (layer_types.is_known(param.type) or layer_types.is_fixed_point(param.type))
        ]
        if quantised:
            count, first = len(quantised), f"'{quantised[0].name}' ({quantised[0].type})"
            who = f"layer {first} has" if count == 1 else f"{count} layers, the first of them {first}, have"
            raise UnsupportedError(
                f"{file or 'the net'}: {who} a `{field}`, by which {whose} Caffe computes in integers; give the "
                "network as it was before"
            )


def _give_weights(
    net: Net,
    omitted: Sequence[Layer],
    files: Sequence[WeightsFile],
    guessed: bool,
    requested: Mapping[str, Sequence[int]],
) -> list[str]:
    # A guessed input need not fit; the weights are then taken as they are stored.
    shapes = fitting_shapes(net) if guessed else infer_shapes(net)
    try:
        return give_weights(net.layers, files, shapes, omitted)
    except WeightsError as error:
        if not guessed and not requested:
            raise
        stated = net.inputs if guessed else requested
        options = " ".join(f"--input-shape {name}={','.join(map(str, shape))}" for name, shape in stated.items())
        if guessed:
            asks = f"(guessed, since nothing says it: {options}; give the right shape)"
            raise WeightsError(f"{error}\n  {asks}") from None
        raise WeightsError(f"{error}; {options} was asked for") from None


def _paths(caffemodel: StrPath | Sequence[StrPath] | None) -> list[Path]:
    """Caffe joins several files by commas; a file may also have one in its name."""
    if caffemodel is None:
        return []
    if isinstance(caffemodel, str | os.PathLike):
        text = os_path(caffemodel)
        if text and ("," not in text or os.path.exists(text)):
            return [Path(text)]
        paths = [Path(part.strip()) for part in text.split(",") if part.strip()]
        if not paths:
            raise UsageError(f"'{text}' names no caffemodel")
        return paths
    listed: Sequence[object] = caffemodel if isinstance(caffemodel, list | tuple) else [caffemodel]
    if wrong := [one for one in listed if not isinstance(one, str | os.PathLike)]:  # None among them is no file
        kind = type(wrong[0]).__name__
        raise UsageError(f"caffemodels are given as paths, a single one also as bytes or a stream, and not as {kind}")
    return [path for one in caffemodel for path in _paths(one)]
