"""The two ways out: a model in memory, or a file that is written while the weights stream past."""

from __future__ import annotations

import os
from pathlib import Path

from onnx import ModelProto

from bnfold.errors import UnsupportedError, UsageError
from bnfold.io.files import OutputSet, StrPath
from bnfold.net import Net
from bnfold.onnx.export.network import build
from bnfold.onnx.save import LARGEST_MESSAGE, DataFile, Sink, fill, size_of, write_external, write_model
from bnfold.options import OnnxOptions, changed


def to_onnx(net: Net, *, options: OnnxOptions = OnnxOptions(), **changes: object) -> ModelProto:
    """The net as an ONNX model that gives Caffe's numbers.

    Layer names become node names, blob names tensor names.

    Args:
        net: any net that was loaded, folded or not.
        options: opset, types and form.
        changes: fields of `OnnxOptions` that replace those of `options`.

    Raises:
        UnsupportedError: layers that ONNX has no form for, all named at once; or the model passes 2 GiB, which
            no message can hold: `save_onnx` can.
        UsageError: an unknown opset, dtype, output or option.

    Example:
        >>> model = to_onnx(net, opset=17)                          # doctest: +SKIP
    """
    model, graph = build(net, changed(options, changes))
    if size_of(model, graph.weights.values()) > LARGEST_MESSAGE:
        raise UnsupportedError("the model passes 2 GiB, which no ONNX message can hold; save it with external data")
    return fill(model, graph.weights.values())


def save_onnx(net: Net, file: StrPath | Sink, *, options: OnnxOptions = OnnxOptions(), **changes: object) -> None:
    """Write the net as an ONNX file, without ever holding all its weights in memory.

    Args:
        net: any net that was loaded, folded or not.
        file: a path, which is written whole or not at all, or an open binary file.
        options: opset, types and form.
        changes: fields of `OnnxOptions` that replace those of `options`.

    Raises:
        UnsupportedError, UsageError: as `to_onnx`; or `file` is no path where a second file must be written.
        WriteError: the file cannot be written.
    """
    options = changed(options, changes)
    if isinstance(file, str | os.PathLike):
        with OutputSet() as own:
            add_onnx(net, Path(file), own, options)
        return
    model, graph = build(net, options)
    weights = graph.weights.values()
    if options.external_data or size_of(model, weights) > LARGEST_MESSAGE:
        raise UsageError("external data is a second file, so give the path of the model and not an open file")
    write_model(file, model, weights)


def add_onnx(net: Net, path: Path, files: OutputSet, options: OnnxOptions = OnnxOptions()) -> list[Path]:
    """Write the net as one of a set of files; returns the paths that were opened. Raises as `save_onnx`."""
    model, graph = build(net, options)
    weights = graph.weights.values()
    if not options.external_data and size_of(model, weights) <= LARGEST_MESSAGE:
        write_model(files.open(path), model, weights)
        return [path]
    # Beside the file itself, where a link leads to it: that is where a runtime looks.
    data = (Path(os.path.realpath(path)) if path.is_symlink() else path).with_name(f"{path.name}.data")
    try:
        data.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{data}: a model names its weights' file in UTF-8, and this is none; rename it") from None
    write_external(files.open(path), DataFile(files.open(data), data.name), model, weights)
    return [path, data]
