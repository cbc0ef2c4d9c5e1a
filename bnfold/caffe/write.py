"""Writing a net as Caffe files: a prototxt that looks like the one that was read, and its caffemodel.

    from bnfold.caffe.write import save_caffe
    save_caffe(net, "out.prototxt")           # and out.caffemodel beside it

A layer that did not change keeps its text with the comments around it; where only blob names changed, they are changed
in that text; any other layer is printed in the indentation of its source. Both files appear together or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from google.protobuf.message import Message
from google.protobuf.text_format import Parse

from bnfold.algebra.scaled import same_in_order
from bnfold.caffe import layer_types
from bnfold.caffe.caffe_pb2 import LayerParameter, NetParameter
from bnfold.caffe.caffemodel import connections, write_caffemodel
from bnfold.caffe.inputs import with_stated_inputs
from bnfold.caffe.layout import without_fields
from bnfold.caffe.match import require_fitting
from bnfold.caffe.origin import Source
from bnfold.caffe.printing import APART, DEFAULT_INDENT, indentation_of, print_layer, quote
from bnfold.caffe.scan import Prototxt, TextField, replaced
from bnfold.caffe.stock import foreign_layers, in_readable_text, in_stock_words
from bnfold.caffe.strip import stripped
from bnfold.caffe.versions import file_names, in_file_order
from bnfold.errors import UnsupportedError, UsageError, quoted, telling_which
from bnfold.io.files import OutputSet, StrPath, os_path, require_suffix
from bnfold.net import Array, Layer, LazyArray, Net, require_net, with_each
from bnfold.options import Dialect, require_type


def save_caffe(
    net: Net,
    prototxt: StrPath,
    caffemodel: StrPath | None = None,
    *,
    strip: bool = False,
    dialect: Dialect = "bvlc",
    in_place: bool = False,
    outputs: OutputSet | None = None,
) -> list[Path]:
    """Write a net as a prototxt and a caffemodel that a stock Caffe loads.

    Args:
        net: not changed. Without weights only the prototxt is written.
        prototxt: where to.
        caffemodel: where to; beside the prototxt under the same stem if None.
        strip: leave out what only training needs: gradients, learning rates, fillers, rules of phase.
        dialect: "bvlc" writes what BVLC's Caffe reads, where that has words for it (`bnfold.caffe.stock`); "keep" keeps
            the words of the file, but for layers that are read as plain ones (`bnfold.caffe.plain`).
        in_place: allow to write onto the files that the net was read from.
        outputs: a set of files to add these to, which then decides what may be replaced; a set of their own if None.

    Returns:
        The files, the prototxt first.

    Raises:
        UsageError: an output is one of the inputs or has the suffix of another format, `caffemodel` is given for a net
            that has no weights, it is an ONNX net, or a layer with weights has the name of another.
        WeightsError: a layer was given blobs of other shapes than its parameters promise, or none where others have
            some.
        ParseError: a caffemodel that the net was read from was written to since, or is damaged where it is copied.
        UnsupportedError: the caffemodel would reach 2 GiB, which Caffe does not read; or a layer of an old prototxt has
            fields that no dialect has, and so cannot be written as today's; or a layer reads an output.
        WriteError: a file cannot be written; the old ones are as they were.

    Examples:
        >>> net = bnfold.load("deploy.prototxt", "net.caffemodel")
        >>> [path.name for path in bnfold.save_caffe(bnfold.fold(net).net, "folded.prototxt")]
        ['folded.prototxt', 'folded.caffemodel']
    """
    require_net(net, "save_caffe")
    require_type("prototxt", prototxt, "str | os.PathLike[str]")
    require_type("caffemodel", caffemodel, "str | os.PathLike[str] | None")
    prototxt, caffemodel = os_path(prototxt), None if caffemodel is None else os_path(caffemodel)
    require_type("dialect", dialect, "Dialect")
    require_type("strip", strip, "bool")
    require_type("in_place", in_place, "bool")
    require_type("outputs", outputs, "OutputSet | None")
    require_suffix(prototxt, "a prototxt", (".onnx", ".caffemodel"))
    require_suffix(caffemodel or "", "a caffemodel", (".onnx", ".prototxt"))
    if net.language != "Caffe":
        raise UsageError(
            f"the net is {net.language}, and Caffe has no layers for its operators; save it with save_onnx"
        )
    if outputs is not None:
        return add_caffe(net, prototxt, caffemodel, outputs, strip=strip, dialect=dialect)[0]
    with OutputSet(input_files(net), in_place=in_place) as own:
        return add_caffe(net, prototxt, caffemodel, own, strip=strip, dialect=dialect)[0]


def add_caffe(
    net: Net, prototxt: StrPath, caffemodel: StrPath | None, outputs: OutputSet, *, strip: bool, dialect: Dialect
) -> tuple[list[Path], list[str]]:
    """As `save_caffe`, among the files of a set; with sentences on what BVLC's Caffe cannot read of its own words.

    Raises:
        UsageError: there are no weights for a caffemodel.
        BnfoldError: as `save_caffe`.
    """
    has_weights = bool(net.origin and net.origin.weights) or any(layer.blobs for layer in net.layers)
    if caffemodel is not None and not has_weights:
        raise UsageError(f"{caffemodel}: the net was read without weights, so there are none to write")
    _require_unread(net, prototxt)
    with telling_which(net.file):
        require_fitting(net, complete=has_weights)
        _require_own_names(net)
        _require_shared(net)
        net = with_stated_inputs(with_each(net, _with_param_as_read))
        net = in_stock_words(net) if dialect == "bvlc" else in_readable_text(net, keep=True)
        foreign = foreign_layers(net) if dialect == "bvlc" else []
        net = in_file_order(net)
        names = file_names(net)
        text = prototxt_text(net, strip=strip, names=names)
    outputs.write_text(prototxt, text)
    if not has_weights:
        return [Path(prototxt)], foreign
    caffemodel = Path(caffemodel or Path(prototxt).with_suffix(".caffemodel"))
    write_caffemodel(net, names, outputs.open(caffemodel), strip=strip)
    return [Path(prototxt), caffemodel], foreign


def _with_param_as_read(layer: Layer) -> Layer:
    """A layer whose source says what the file did, where a program has written into the message of that."""
    source: Source | None = layer.source
    if source is None or not source.serialised or source.param.SerializeToString() == source.serialised:
        return layer
    return replace(layer, source=source._replace(param=LayerParameter.FromString(source.serialised)))


def _require_own_names(net: Net) -> None:
    """Stop where weights would go to another layer, since a caffemodel gives them by name. Raises UsageError."""
    called = Counter(layer.name for layer in net.layers)
    if shared := next((layer for layer in net.layers if layer.blobs and called[layer.name] > 1), None):
        raise UsageError(f"{shared}: another layer has its name, by which a caffemodel gives weights; rename one")


def _require_shared(net: Net) -> None:
    """Stop where layers share weights by name, of which a Caffe has one, and hold others. Raises UsageError."""
    owners: dict[str, tuple[Layer, Array | LazyArray]] = {}
    for layer in net.layers:
        for name, blob in zip(layer.param_names, layer.blobs.stored, strict=True):
            if name:
                owner, shared = owners.setdefault(name, (layer, blob))
                if not same_in_order(blob, shared):
                    raise UsageError(
                        f"{layer}: it shares weights as '{name}' with {owner}, which has others; give both the same, "
                        "or take the name out of one's param"
                    )


def _require_unread(net: Net, file: StrPath) -> None:
    """Stop where a file would have fewer outputs than the net. Raises UnsupportedError."""
    read = {bottom for layer in net.layers for bottom in layer.bottoms}
    if lost := [net.public_name(output) for output in net.outputs if output in read]:
        raise UnsupportedError(
            f"{file}: a layer reads {quoted(lost)}, and what is read is no output of a Caffe network"
        )


def input_files(net: Net) -> list[Path]:
    """The files that a net was read from."""
    files = [file.path for file in net.origin.weights] if net.origin else []
    return [Path(net.file), *files] if net.file else files


def prototxt_text(net: Net, *, strip: bool = False, names: Mapping[str, str] | None = None) -> str:
    """The prototxt of a net, in the words that it has.

    Args:
        net: not changed.
        strip: leave out what only training needs.
        names: blob -> its name in the file; found out if None.
    """
    if names is None:
        net = in_file_order(net)
        names = file_names(net)
    indent = indentation_of(layer.source.text for layer in net.layers if layer.source and layer.source.text)
    header = _header(net)
    layers = [_text_of(layer, names, strip, indent) for layer in net.layers]
    return header + "\n".join([*_missing_inputs(net, indent), *layers, ""])


def _header(net: Net) -> str:
    """What stands in front of the first layer: the net's name, and the comments around it."""
    header: str | None = net.origin.header if net.origin else None
    names = [field for field in Prototxt(header or "").fields() if field.name == "name"]
    if header is None or (net.name and not names):
        return (f"name: {quote(net.name)}\n" if net.name else "") + (header or "")
    if names and Parse(header, NetParameter()).name != net.name:
        return replaced(header, [(names[0].at, names[0].stop, quote(net.name))])
    return header


def _missing_inputs(net: Net, indent: str) -> Iterator[str]:
    """An Input layer for each input that no layer makes."""
    for blob, shape in net.inputs.items():
        if net.producer(blob) is None:
            param = LayerParameter()
            param.input_param.shape.add().dim.extend(shape)
            yield print_layer(blob, "Input", [], [net.public_name(blob)], param, indent)


def _text_of(layer: Layer, names: Mapping[str, str], strip: bool, indent: str) -> str:
    text: str | None = layer.source.text if layer.source else None
    bottoms, tops = connections(layer, names)
    # What is in the text alone would be lost with the text, so nothing is taken out of it.
    incomplete = bool(layer.source and layer.source.incomplete)
    strip = strip and layer_types.is_known(layer.type) and not incomplete
    param = stripped(layer.param, fillers=len(layer.blobs) > 0) if strip else layer.param
    if layer.source and text and layer.type == layer.source.param.type:
        gone = _gone(layer.source.param, param)
        if gone is not None:
            text = without_fields(text, gone) if gone else text
            same_name = layer.name == layer.source.param.name
            if same_name and (bottoms, tops) == (layer.source.bottoms, layer.source.tops):
                return text
            if renamed := _renamed(text, bottoms, tops, "" if same_name else layer.name):
                return renamed
    if text is None:
        if incomplete:
            raise UnsupportedError(
                f"{layer}: cannot be written as V2, since it stands in a file of V1 with fields that no dialect has; "
                "--ignore-unknown-fields leaves them out"
            )
        return print_layer(layer.name, layer.type, bottoms, tops, param, indent)
    before, after = _around(text)
    margin = before.rpartition("\n")[2]
    own = indentation_of([text.removeprefix(before)]).removeprefix(margin) or DEFAULT_INDENT
    return before + print_layer(layer.name, layer.type, bottoms, tops, param, own).replace("\n", f"\n{margin}") + after


def _gone(old: Message, new: Message, path: str = "") -> list[str] | None:
    """The fields that `new` has lost, by their paths; None where it differs in anything else."""
    if old is new or old == new:
        return []
    after = {field.name: value for field, value in new.ListFields()}
    gone = []
    for field, before in old.ListFields():
        if path == "" and field.name in APART:
            after.pop(field.name, None)
            continue
        value = after.pop(field.name, None)
        if value is None:
            gone.append(f"{path}{field.name}")
        elif isinstance(value, Message):
            inner = _gone(before, value, f"{path}{field.name}.")
            if inner is None:
                return None
            gone += inner
        elif value != before:
            return None
    return None if after.keys() - (APART if path == "" else frozenset()) else gone


def _around(text: str) -> tuple[str, str]:
    """What stands before and after a layer in its text: comments, and the margin in front of `layer`."""
    whole = list(Prototxt(text).fields())
    if not whole or whole[0].name != "layer":
        return "", ""
    return text[: whole[0].begin], text[whole[-1].end :]


def _renamed(text: str, bottoms: tuple[str, ...], tops: tuple[str, ...], name: str) -> str:
    """The text of a layer with other blobs, and perhaps another name; empty when it is no layer of its own."""
    wanted = {"bottom": bottoms, "top": tops} | ({"name": (name,)} if name else {})
    fields: dict[str, list[TextField]] = {word: [] for word in wanted}
    scanned = Prototxt(text)
    wholes = list(scanned.fields())
    if [whole.name for whole in wholes] != ["layer"] or wholes[0].opener not in ("{", "<"):
        return ""
    for field in scanned.fields(wholes[0].at, wholes[0].stop):
        if field.name in fields:
            fields[field.name].append(field)
    if name and not fields["name"]:
        return ""
    return replaced(text, sorted(edit for word in wanted for edit in _edits(word, fields[word], wanted[word])))


def _edits(name: str, fields: list[TextField], blobs: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """What to write in the place of a layer's bottoms or tops: (begin, end, new text)."""
    if len(fields) == len(blobs) and not any(field.opener for field in fields):
        return [(field.at, field.stop, quote(blob)) for field, blob in zip(fields, blobs, strict=True)]
    if not fields:
        return []
    together = " ".join(f"{name}: {quote(blob)}" for blob in blobs)
    return [(fields[0].begin, fields[0].end, together), *((field.begin, field.end, "") for field in fields[1:])]
