"""Reading a network, whatever language it is written in: the suffix of its file says which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from bnfold.errors import UsageError
from bnfold.net import Net
from bnfold.options import ReadOptions, changed

StrPath = str | os.PathLike[str]
Model = StrPath | bytes | BinaryIO

ONNX_TOO = frozenset({"batch", "freeze_initializers", "guess_shapes", "input_shapes", "until"})
"""The fields of `ReadOptions` that mean something for an ONNX model."""


def load(
    model: Model,
    weights: Model | Sequence[StrPath] | None = None,
    *,
    options: ReadOptions = ReadOptions(),
    **changes: object,
) -> Net:
    """Read a trained network.

    Args:
        model: an ONNX model (`.onnx`); or Caffe's prototxt, of any dialect and age, for deployment or training; or a
            caffemodel, which carries its network. A path, the contents as bytes, or a binary stream.
        weights: the caffemodel of a prototxt; several files, as a list or joined by commas, where later ones replace
            earlier ones; None for a network without weights. HDF5 snapshots need the extra `hdf5`.
        options: how to read them.
        changes: fields of `ReadOptions` that replace those of `options`.

    Raises:
        ParseError: a file cannot be read, or is not what its name says; with the place.
        ModelError: it is no network: a blob that nobody makes, two makers of one, an input without a shape.
        UnsupportedError: it is one that cannot be folded, of whatever kind: it computes in integers, say.
        WeightsError: the weights do not fit; it names every layer concerned.
        UsageError: an option does not fit the model, or there is no option of a name that was given.

    Example:
        net = load("deploy.prototxt", "net.caffemodel", input_shapes={"data": (1, 3, 224, 224)})
        net = load("model.onnx")
    """
    options = changed(options, changes)
    if isinstance(model, bytes) or hasattr(model, "read"):
        return _from_memory(_contents(model), weights, options)
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"a model is a path, bytes or a binary stream, and not {type(model).__name__}")
    if isinstance(weights, bytes) or hasattr(weights, "read"):
        return _from_memory(Path(model).read_bytes(), weights, options)
    if not is_onnx(model):
        if options.freeze_initializers:
            raise UsageError("--freeze-initializers is for ONNX models; a caffemodel's weights are no inputs")
        from bnfold.caffe.read import load as load_caffe

        return load_caffe(model, weights, options=options)
    if weights is not None:
        raise UsageError(f"{model}: an ONNX model has its weights itself, so there is no second file to give")
    plain = ReadOptions()
    other = [one.name for one in fields(options) if getattr(options, one.name) != getattr(plain, one.name)]
    words = {"stages": "stage"}
    if idle := [f"--{words.get(name, name).replace('_', '-')}" for name in other if name not in ONNX_TOO]:
        raise UsageError(
            f"{model}: {' and '.join(idle)}: only Caffe's files are read in such a way, and this is an ONNX model"
        )
    from bnfold.onnx.read import load_onnx

    return load_onnx(model, options)


def _contents(model: Any) -> bytes:
    contents = model if isinstance(model, bytes) else model.read()
    if not isinstance(contents, bytes):
        raise UsageError("a stream that a model is read from gives bytes; open it with 'rb'")
    return contents


def _from_memory(model: bytes, weights: Any, options: ReadOptions) -> Net:
    """A model whose contents are at hand: a prototxt is text, and what has a zero byte or no text is ONNX."""
    with suppress(UnicodeDecodeError):
        if "\0" not in (text := model.decode()) and "layer" in text:
            # What is written back as it was is found in a mapped file.
            with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                prototxt, caffemodel = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
                prototxt.write_bytes(model)
                if isinstance(weights, bytes) or hasattr(weights, "read"):
                    caffemodel.write_bytes(_contents(weights))
                    weights = caffemodel
                net = load(prototxt, weights, options=options)
                net.file = ""
                return net
    if weights is not None:
        raise UsageError("an ONNX model has its weights itself, so there is no second file to give")
    from bnfold.onnx.read import load_bytes

    return load_bytes(model, options)


def is_onnx(model: StrPath) -> bool:
    """Whether a path's name says that it is an ONNX model."""
    return Path(model).suffix == ".onnx"
