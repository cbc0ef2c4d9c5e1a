"""Reading Caffe's HDF5 snapshots: the blobs of a layer are the datasets `/data/LAYER/0`, `/data/LAYER/1`, ...

A layer's name may hold slashes, which HDF5 takes for groups. A blob that a layer shares with an earlier one is not
stored. h5py finds the datasets; the values of those that lie in one piece are views on the mapped file all the same.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bnfold.errors import BnfoldError, ParseError
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import read_file
from bnfold.net import Array

MAX_GROUPS = 250_000
SOLVER_STATE = "the state of a solver"
SAVED_BESIDE = ": give the .caffemodel that was saved beside it"


def read_layers(path: Path, buffer: mmap.mmap) -> list[tuple[str, dict[int, Array], str]]:
    """Name, stored blobs by number and what is wrong with them (empty when nothing is) of each layer that has any.

    Raises:
        ParseError: h5py is not installed, or the file is damaged or no snapshot of Caffe's.
    """
    missing = ParseError("is an HDF5 snapshot, which needs h5py: pip install 'bnfold[hdf5]'", path)
    with opened(path, missing) as (h5py, file):
        if file.get("data", getclass=True) is not h5py.Group:
            if "history" in file and "iter" in file:
                raise ParseError(f"is {SOLVER_STATE} and not a caffemodel{SAVED_BESIDE}", path)
            raise ParseError("is an HDF5 file and no snapshot of Caffe's, which has a group 'data'", path)
        return [_layer(h5py, name, group, buffer) for name, group in _groups(h5py, file["data"])]


@contextmanager
def opened(path: Path, missing: BnfoldError) -> Iterator[tuple[ModuleType, Any]]:
    """h5py and an open HDF5 file; whatever the HDF5 library raises meanwhile is a ParseError.

    Args:
        path: of the file.
        missing: what to say where h5py is not installed.

    Raises:
        ParseError: it is damaged, or no regular file.
    """
    try:
        h5py: ModuleType = import_module("h5py")
    except ImportError:
        raise missing from None
    if not path.is_file():
        raise ParseError("is not a regular file", path)
    try:
        with h5py.File(path, "r") as file:
            yield h5py, file
    except BnfoldError:
        raise
    except Exception as error:  # OSError, KeyError, RuntimeError ... of what the HDF5 library says
        other = other_format(read_file(path, HEAD), "an HDF5 file")
        damage = "is damaged or cut short, or is not an HDF5 file"
        raise ParseError(other or f"{damage}: {' '.join(str(error).split())}; copy it again", path) from None


def _groups(h5py: ModuleType, data: Any) -> Iterator[tuple[str, Any]]:
    """The groups that hold datasets, with their paths. Links out of the file or to other groups are not followed."""
    waiting = [("", data)]
    seen = 0
    while waiting:
        path, group = waiting.pop()
        links = [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]
        kinds = {name: group.get(name, getclass=True) for name in links}
        if path and h5py.Dataset in kinds.values():
            yield path, group
        inner = [f"{path}/{name}".lstrip("/") for name in links if kinds[name] is h5py.Group]
        seen += len(inner)
        if seen > MAX_GROUPS or any(name.count("/") > 100 for name in inner):
            raise ValueError(f"more than {MAX_GROUPS:,} groups, or groups nested more than 100 deep")
        waiting += [(name, data[name]) for name in reversed(inner)]


def _layer(h5py: ModuleType, name: str, group: Any, buffer: mmap.mmap) -> tuple[str, dict[int, Array], str]:
    stored = {int(key): group[key] for key in group if key.isdigit() and group.get(key, getclass=True) is h5py.Dataset}
    for index, dataset in stored.items():
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
            return name, {}, f"blob {index} holds {dataset.dtype}, which is no floating-point type of Caffe's"
    problem = ""
    if len(stored) <= max(stored, default=-1):
        problem = f"has blobs {', '.join(map(str, sorted(stored)))} only; the others are shared with other layers"
    return name, {index: _values(stored[index], buffer) for index in sorted(stored)}, problem


def _values(dataset: Any, buffer: mmap.mmap) -> Array:
    """A dataset's values: those of another width or byte order as floats, as HDF5 gives them to Caffe.

    Source: hdf5_load_nd_dataset in util/hdf5.cpp, which reads any float by H5LTread_dataset_float. Integers, which it
    takes too, are refused: they are the bits of halves where OpenCL Caffe wrote them.
    """
    offset, wanted = dataset.id.get_offset(), np.dtype(f"f{max(dataset.dtype.itemsize, 4)}")
    in_one_piece = offset is not None and dataset.chunks is None and dataset.external is None
    if in_one_piece and dataset.dtype == wanted and offset + dataset.nbytes <= len(buffer):
        return np.ndarray(dataset.shape, dataset.dtype, buffer, offset)
    if dataset.nbytes > 64 * len(buffer):
        raise ValueError(f"{dataset.name} declares {dataset.nbytes:,} bytes")
    values = np.asarray(dataset[()], wanted)
    values.flags.writeable = False
    return values
