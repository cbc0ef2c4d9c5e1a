"""Opening a model in any form: a path, contents in memory, a stream, an ONNX message; Caffe's or ONNX."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from bnfold.errors import BnfoldError, ParseError, UsageError, WeightsError
from bnfold.io.files import descriptor_of, names_in, os_path
from bnfold.io.formats import text_of, utf16_of
from bnfold.io.mapping import map_file
from bnfold.net import Net
from bnfold.options import TEXT, ReadOptions, changed, differing

if TYPE_CHECKING:
    from onnx import ModelProto

    from bnfold.io.files import StrPath

    Model = StrPath | bytes | BinaryIO | ModelProto

PARTS = frozenset({"GraphProto", "NodeProto", "TensorProto"})
"""Messages of ONNX that are no whole model."""
ONNX_TOO = frozenset({"batch", "freeze_initializers", "guess_shapes", "input_shapes", "until"})
"""The fields of `ReadOptions` that mean something for an ONNX model."""


def load(
    model: Model,
    weights: StrPath | bytes | BinaryIO | Sequence[StrPath] | None = None,
    *,
    options: ReadOptions = ReadOptions(),
    **changes: object,
) -> Net:
    """Read a trained network.

    Args:
        model: an ONNX model (`.onnx`); or Caffe's prototxt, of any dialect and age, for deployment or training; or a
            caffemodel, which carries its network. A path, the contents as bytes, a binary stream, or an
            `onnx.ModelProto`.
        weights: the caffemodel of a prototxt; several files, as a list or joined by commas, where later ones replace
            earlier ones; None for a network without weights. HDF5 snapshots need the extra `hdf5`.
        options: how to read them.
        changes: fields of `ReadOptions` that replace those of `options`.

    Raises:
        ParseError: a file cannot be read, or is not what its name says; with the place.
        ModelError: it is no network: a blob that nobody makes, two makers of one, an input without a shape.
        UnsupportedError: it is one that cannot be folded, of whatever kind: it computes in integers, say.
        WeightsError: the weights do not fit; it names every layer concerned. Or an ONNX model in memory has weights in
            a file beside it, and so nowhere.
        UsageError: an argument is of another type, an option does not fit the model, or there is none of that name.

    Examples:
        >>> bnfold.load("deploy.prototxt", "net.caffemodel", input_shapes={"data": (1, 1, 8, 8)})
        <Net 'digits_resnet': 66 layers, 12,649 parameters, data -> prob>
        >>> bnfold.load("model.onnx")["conv1"].type
        'Conv'
    """
    options = changed(ReadOptions, options, changes)
    contents = contents_of(model)
    name = os_path(cast("StrPath", model)) if contents is None else name_of(contents)
    if contents is None and (pair := joined_pair(name)):
        raise UsageError(f"a prototxt and its caffemodel are two arguments: {pair[0]!r}, {pair[1]!r}")
    if contents is None and (piped := piped_onnx(name)) is not None:
        contents, name = piped, name_of(piped)
    if is_onnx(name):
        _require_alone(name, weights, options)
        from bnfold.onnx.read import load_bytes, load_onnx

        return load_onnx(name, options) if contents is None else load_bytes(contents, options)
    if options.freeze_initializers:
        what = f"{name} is none" if contents is None else "this is none"
        raise UsageError(f"--freeze-initializers is for ONNX models, and {what}: a caffemodel's weights are no inputs")
    from bnfold.caffe.read import load as load_caffe

    files = cast("StrPath | Sequence[StrPath] | None", weights)
    stored = contents_of(cast("Model", weights)) if isinstance(weights, bytes) or hasattr(weights, "read") else None
    if contents is None and stored is None:
        return load_caffe(name, files, options=options)
    from tempfile import TemporaryDirectory

    # What is written back as it was is found in a mapped file.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with _without_folder(folder):
            net = load_caffe(
                name if contents is None else _put(contents, folder, name),
                files if stored is None else _put(stored, folder, "weights.caffemodel"),
                options=options,
            )
        net.notes = [note.replace(f"{folder}{os.sep}", "") for note in net.notes]
    net.file = "" if contents is not None else net.file
    return net


def _put(contents: bytes, folder: str, name: str) -> Path:
    path = Path(folder, name)
    path.write_bytes(contents)
    return path


@contextmanager
def _without_folder(folder: str) -> Iterator[None]:
    """Take the name of a temporary folder out of the messages of errors."""
    try:
        yield
    except BnfoldError as error:
        error.args = tuple(str(word).replace(f"{folder}{os.sep}", "") for word in error.args)
        if isinstance(error, ParseError) and error.file is not None and str(error.file).startswith(folder):
            error.file = None
        raise


def contents_of(model: Model) -> bytes | None:
    """What a model in memory holds, or None where it is a path. Raises UsageError where it is neither."""
    if isinstance(model, str | os.PathLike):
        if isinstance(model, str) and "\n" in model and "{" in model:
            raise UsageError("a str is the path of a model; give the text of a prototxt as bytes")
        return None
    if isinstance(model, bytes):
        return _required(model, "what was given as a model has 0 bytes; give the contents of its file")
    if (part := type(model).__name__) in PARTS:
        raise UsageError(f"a {part} is a part of a model; give the whole ModelProto (onnx.helper.make_model(graph))")
    if hasattr(model, "SerializeToString"):
        try:
            return bytes(model.SerializeToString())
        except Exception:  # protobuf's EncodeError, which only bnfold.caffe may import
            raise UsageError("the message passes 2 GiB, more than protobuf writes; give the path of its file") from None
    if not hasattr(model, "read"):
        words = "a path, bytes, a binary stream or an ONNX message"
        inner = "; give its .net" if isinstance(getattr(model, "net", None), Net) else ""
        inner = "; its two files are two arguments" if isinstance(model, list | tuple) and len(model) == 2 else inner
        inner = "; give bytes(..) of it" if isinstance(model, bytearray | memoryview) else inner
        raise UsageError(f"a model is {words}, and not {type(model).__name__}{inner}")
    if getattr(model, "closed", False):
        raise UsageError("the stream that a model is read from is closed")
    try:
        contents = model.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"the stream that a model is read from cannot be read: {error}") from None
    if not isinstance(contents, bytes):
        raise UsageError("a stream that a model is read from gives bytes; open it with 'rb'")
    return _required(contents, "the stream that a model is read from is empty or at its end; stream.seek(0) rewinds it")


def _required(contents: bytes, message: str) -> bytes:
    if not contents:
        raise UsageError(message)
    return contents


def name_of(contents: bytes) -> str:
    """What to call a model in memory, by its kind: a prototxt is text; `begins_as_caffemodel` tells the others."""
    from bnfold.caffe.weights import begins_as_caffemodel

    text = text_of(contents).encode() if utf16_of(contents) else contents  # which may be a large model
    if re.search(rb"[\0-\x08]", text) is None:
        return "net.prototxt"
    return "net.caffemodel" if begins_as_caffemodel(contents) else "model.onnx"


def split_names(text: str) -> list[str]:
    """The names of files of models that are written as one word.

    Examples:
        >>> split_names("a.prototxt,b.onnx"), split_names("net.prototxt:net.caffemodel"), split_names("a,b:c.onnx")
        (['a.prototxt', 'b.onnx'], ['net.prototxt', 'net.caffemodel'], ['a,b:c.onnx'])
    """
    names = [""]
    for letter in text:
        if letter in ",:" and names[-1].lower().endswith((".prototxt", ".caffemodel", ".onnx")):
            names.append("")
        else:
            names[-1] += letter
    return [name for name in names if name]


def joined_pair(name: str) -> tuple[str, str] | None:
    """A prototxt and its caffemodels that are written as one word, which names no file; None for any other word."""
    network, *weights = split_names(name) or [""]
    networks = [one.lower().endswith((".onnx", *TEXT)) for one in weights]
    is_pair = network.lower().endswith(".prototxt") and weights and not any(networks)
    return (network, ",".join(weights)) if is_pair and not os.path.exists(name) else None


def is_onnx(model: StrPath) -> bool:
    """Whether a path's name says that it is an ONNX model."""
    return Path(model).suffix.lower() == ".onnx"


def piped_onnx(path: StrPath) -> bytes | None:
    """The ONNX model behind a name like `/dev/stdin`; None where another one is, and for any other name."""
    if descriptor_of(path) is None:
        return None
    contents = bytes(map_file(Path(path)))
    return contents if is_onnx(name_of(contents)) else None


def likely_weights(prototxt: StrPath) -> str:
    """The caffemodel in the folder of a prototxt, of its stem or the only one there; empty where none is such."""
    folder, name = os.path.split(prototxt)
    names = [one for one in names_in(folder) if one.lower().endswith(".caffemodel")]
    stem = Path(name).stem
    alike = [one for one in names if Path(one).stem == stem] or names
    return os.path.join(folder, alike[0]) if len(alike) == 1 else ""


def require_weights(net: Net, how: Callable[[str], str] | None = None) -> None:
    """Stop where layers need weights and no caffemodel was given.

    Args:
        net: as it was read.
        how: what the caller does to give one, of the caffemodel that lies beside the net's file, or ""; by default it
            is named behind the prototxt.

    Raises:
        WeightsError: with the number of such layers, and the first.
    """
    if net.language == "ONNX" or (net.origin is not None and net.origin.weights):
        return
    from bnfold.caffe.layers.infer import blob_shapes, bottom_shapes, infer_shapes

    shapes = infer_shapes(net)
    bare = []
    for layer in net.layers:
        bottoms = bottom_shapes(layer, shapes)
        if not layer.blobs and bottoms is not None and blob_shapes(layer, bottoms):
            bare.append(layer)
    if bare:
        likely = likely_weights(net.file)
        behind = "name it behind the prototxt" + f", as in '{net.file} {likely}'" * bool(likely)
        raise WeightsError(
            f"{net.file}: no caffemodel was given, and {len(bare)} of its layers need weights, the first of them "
            f"{bare[0]}; {behind if how is None else how(likely)}"
        )


def _require_alone(name: str, weights: object, options: ReadOptions) -> None:
    """Refuse what means something beside a Caffe network alone. Raises UsageError."""
    if weights is not None:
        raise UsageError(f"{name}: an ONNX model has its weights itself, so there is no second file to give")
    other, words = differing(options, ReadOptions()), {"stages": "stage"}
    if idle := [f"--{words.get(name, name).replace('_', '-')}" for name in other if name not in ONNX_TOO]:
        raise UsageError(f"{name}: {' and '.join(idle)}: these options are for Caffe files, and this is an ONNX model")
