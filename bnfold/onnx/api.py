"""The two ways out: a model in memory, or a file that is written while the weights stream past."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy.typing as npt
from onnx import ModelProto

from bnfold.errors import UnsupportedError, UsageError
from bnfold.io.files import OutputSet, StrPath
from bnfold.net import Net
from bnfold.onnx.export.network import build
from bnfold.onnx.save import LARGEST_MESSAGE, DataFile, Sink, fill, size_of, write_external, write_model


class ExportOptions(TypedDict, total=False):
    """What both ways take.

    opset: version of the standard operators, 11 to 21; 17 by default.
    outputs: the blobs that the model gives, `net.outputs` by default; any blob of the net may be named.
    dtype: float32 (the default) or float64, for weights and blobs alike.
    dynamic_batch: leave the first dimension open, as `N`, where the net allows it.
    allow_custom_ops: write layers that ONNX has no words for as nodes of the domain `caffe`.
    metadata: key-value pairs that the model carries.
    """

    opset: int
    outputs: Sequence[str] | None
    dtype: npt.DTypeLike
    dynamic_batch: bool
    allow_custom_ops: bool
    metadata: Mapping[str, str] | None


def to_onnx(net: Net, **options: Unpack[ExportOptions]) -> ModelProto:
    """The net as an ONNX model that gives Caffe's numbers.

    Layer names become node names, blob names tensor names.

    Args:
        net: any net that was loaded, folded or not.
        options: see `ExportOptions`.

    Raises:
        UnsupportedError: layers that ONNX has no form for, all named at once; or the model passes 2 GiB, which
            no message can hold: `save_onnx` can.
        UsageError: an unknown opset, dtype or output.

    Example:
        >>> model = to_onnx(net, opset=17)                          # doctest: +SKIP
    """
    model, graph = build(net, **options)
    if size_of(model, graph.weights.values()) > LARGEST_MESSAGE:
        raise UnsupportedError("the model passes 2 GiB, which no ONNX message can hold; save it with external data")
    return fill(model, graph.weights.values())


def save_onnx(net: Net, file: StrPath | Sink, *, external_data: bool = False, **options: Unpack[ExportOptions]) -> None:
    """Write the net as an ONNX file, without ever holding all its weights in memory.

    Args:
        net: any net that was loaded, folded or not.
        file: a path, which is written whole or not at all, or an open binary file.
        external_data: write the weights to `NAME.data` beside the model; always so when it passes 2 GiB.
        options: see `ExportOptions`.

    Raises:
        UnsupportedError, UsageError: as `to_onnx`; or `file` is no path where a second file must be written.
        WriteError: the file cannot be written.
    """
    if isinstance(file, str | os.PathLike):
        with OutputSet() as own:
            add_onnx(net, Path(file), own, external_data=external_data, **options)
        return
    model, graph = build(net, **options)
    weights = graph.weights.values()
    if external_data or size_of(model, weights) > LARGEST_MESSAGE:
        raise UsageError("external data is a second file, so give the path of the model and not an open file")
    write_model(file, model, weights)


def add_onnx(
    net: Net, path: Path, files: OutputSet, *, external_data: bool = False, **options: Unpack[ExportOptions]
) -> list[Path]:
    """Write the net as one of a set of files; returns the paths that were opened. Raises as `save_onnx`."""
    model, graph = build(net, **options)
    weights = graph.weights.values()
    if not external_data and size_of(model, weights) <= LARGEST_MESSAGE:
        write_model(files.open(path), model, weights)
        return [path]
    data = path.with_name(f"{path.name}.data")
    write_external(files.open(path), DataFile(files.open(data), data.name), model, weights)
    return [path, data]
