"""The two ways out: a model in memory, or a file that is written while the weights stream past."""

from __future__ import annotations

import os
from io import TextIOBase
from pathlib import Path

from onnx import ModelProto

from bnfold.errors import UnsupportedError, UsageError, WriteError
from bnfold.io.files import OutputSet, StrPath, os_path, require_suffix
from bnfold.io.mapping import require_other
from bnfold.io.wire import MAX_MESSAGE
from bnfold.net import Net, require_net, sizes
from bnfold.onnx.save import DataFile, Sink, WholeModel, fill, write_external
from bnfold.onnx.weight import Weight
from bnfold.onnx.write import TOO_LARGE, named_data_file, require_no_others, whole_message, write_net, write_stream
from bnfold.options import OnnxOptions, changed, differing


def to_onnx(net: Net, *, options: OnnxOptions = OnnxOptions(), **changes: object) -> ModelProto:
    """The net as an ONNX model: of a Caffe net one that gives Caffe's numbers, of an ONNX net the model that it was.

    A Caffe net's layer names become node names, its blob names tensor names. Of a blob that layers write in place the
    last value keeps the name, and others are called `blob@layer`; where the blob is an input, the input keeps it.

    Args:
        net: any net that was loaded, folded or not.
        options: opset, types and form; an ONNX net keeps its own.
        changes: fields of `OnnxOptions` that replace those of `options`.

    Raises:
        UnsupportedError: layers that ONNX has no form for, all named at once; or the model passes 2 GiB, which
            no message can hold: `save_onnx` can.
        ModelError: a layer has no weights, or some that make no sense; or a file that the net was read from was written
            to since.
        UsageError: an unknown opset, dtype, output or option.

    Examples:
        >>> model = bnfold.to_onnx(bnfold.load("deploy.prototxt", "net.caffemodel"), opset=15)
        >>> model.opset_import[0].version, model.graph.output[0].name
        (15, 'prob')
    """
    require_net(net, "to_onnx")
    options = changed(OnnxOptions, options, changes)
    if net.language == "ONNX":
        _require_own(net, options)
        return whole_message(net)
    model, weights = _model(net, options)
    if WholeModel(model, weights).size > MAX_MESSAGE:
        raise UnsupportedError(TOO_LARGE)
    return fill(model, weights)


def save_onnx(net: Net, file: StrPath | Sink, *, options: OnnxOptions = OnnxOptions(), **changes: object) -> list[Path]:
    """Write the net as an ONNX file, without ever holding all its weights in memory.

    Args:
        net: any net that was loaded, folded or not.
        file: a path, which is written whole or not at all and replaces what is there; or an open binary file.
        options: opset, types and form.
        changes: fields of `OnnxOptions` that replace those of `options`.

    Returns:
        The files, as `save_caffe` does: the model, and its weights where they are a file of their own; none for an
        open file.

    Raises:
        UnsupportedError, ModelError, UsageError: as `to_onnx`; or `file` has the suffix of another format, is no
            path where a second file must be written, or is open and what the net was read from; or the weights would
            go where those of the model lie that was read, and stays.
        WriteError: the file cannot be written.

    Examples:
        >>> [path.name for path in bnfold.save_onnx(bnfold.load("model.onnx"), "same.onnx")]
        ['same.onnx']
        >>> bnfold.compare("model.onnx", "same.onnx").passed
        True
    """
    require_net(net, "save_onnx")
    options = changed(OnnxOptions, options, changes)
    if isinstance(file, str | os.PathLike):
        path = Path(os_path(file))
        require_suffix(path, "an ONNX model", (".prototxt", ".caffemodel"))
        with OutputSet() as own:
            return add_onnx(net, path, own, options)
    if not hasattr(file, "write") or isinstance(file, TextIOBase) or getattr(file, "closed", False):
        raise UsageError(f"a model is written to a path or an open binary file, and not to {type(file).__name__}")
    try:
        _write_stream(net, file, options)
    except OSError as error:
        raise WriteError(f"the open file cannot be written: {error.strerror or error}") from None
    return []


def _write_stream(net: Net, file: Sink, options: OnnxOptions) -> None:
    if options.external_data:
        raise UsageError(ONE_FILE)
    require_other(net.origin.buffers if net.origin is not None else (), file)
    if net.language == "ONNX":
        _require_own(net, options)
        write_stream(net, file)
    else:
        whole = WholeModel(*_model(net, options))
        if whole.size > MAX_MESSAGE:
            raise UsageError(ONE_FILE)
        whole.write(file)


def add_onnx(net: Net, path: Path, files: OutputSet, options: OnnxOptions) -> list[Path]:
    """Write the net as one of a set of files; returns the paths that were opened. Raises as `save_onnx`."""
    if net.language == "ONNX":
        _require_own(net, options)
        return write_net(net, path, files, external_data=options.external_data)
    model, weights = _model(net, options)
    if not options.external_data and (whole := WholeModel(model, weights)).size <= MAX_MESSAGE:
        whole.write(files.open_alone(path))
        return [path]
    data = named_data_file(path)
    require_no_others(path, data)
    write_external(files.open(path), DataFile(files.open(data), data.name), model, weights)
    return [path, data]


def _require_own(net: Net, options: OnnxOptions) -> None:
    """Refuse options that say how a Caffe net becomes ONNX, and other sizes than the model's. Raises UsageError."""
    if other := differing(options, OnnxOptions(external_data=options.external_data)):
        named = " and ".join(f"--{name.replace('_', '-')}" for name in other)
        raise UsageError(
            f"{net.file}: {named}: only a Caffe network becomes ONNX with these options, and this is an ONNX model"
        )
    _require_sizes(net)


def _require_sizes(net: Net) -> None:
    """Refuse sizes that were given where the model says others, since it is written as it was. Raises UsageError."""
    for name, given in net.inputs.items():
        declared = net.origin.declared.shapes.get(name) or ()
        if any(size >= 0 and size != other for size, other in zip(declared, given, strict=False)):
            raise UsageError(
                f"{net.file}: input '{name}' is {sizes(declared)} there, and stays so in what is written: sizes can be "
                "given where a model leaves them open"
            )


def _model(net: Net, options: OnnxOptions) -> tuple[ModelProto, tuple[Weight, ...]]:
    """A Caffe net as a model without its initialisers, and these."""
    from bnfold.onnx.export.network import build  # whose tables an ONNX net needs none of

    return build(net, options)


ONE_FILE = "external data is a second file, so give the path of the model and not an open file"
