"""HDF5 data as Caffe's HDF5Data layer reads it: in each file a data set per top, whose first axis is the sample.

The values are taken as they are; that layer transforms nothing (`hdf5_data_layer.cpp`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from bnfold.caffe.hdf5 import opened
from bnfold.data.arrays import NUMBERS, label_among
from bnfold.data.samples import Feed, Samples, labels_misfit, nothing_for, picture_of
from bnfold.errors import ParseError, UsageError, few, plural
from bnfold.net import Array

MISSING = "reading HDF5 data needs h5py: pip install 'bnfold[hdf5]'"
_LIBRARY = Lock()  # the HDF5 library is not made for several threads


@dataclass(frozen=True, slots=True)
class Tables:
    """Rows of HDF5 files, one behind the other, read when they are asked for.

    Attributes:
        files, starts: the files, and the number of the first row of each; one more entry for the end.
        inputs: the inputs, which are names of data sets.
        source: for the report.
        labels: of all rows, None where there are none.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    inputs: tuple[str, ...]
    source: str
    labels: Array | None = None
    class_names: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type[Tables], tuple[object, ...]]:
        """For workers, which may run in another folder: by whole paths."""
        files = tuple(path.absolute() for path in self.files)
        return Tables, (files, self.starts, self.inputs, self.source, self.labels, self.class_names)

    @property
    def description(self) -> str:
        """Count and place."""
        many = f" in {len(self.files)} files" if len(self.files) > 1 else ""
        return f"{self.count:,} {plural('sample', self.count)} of {self.source}{many}, values as they are"

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.starts[-1]

    def sample(self, number: int) -> dict[str, Array]:
        """One row of each data set. Raises ParseError where it is damaged."""
        place = bisect_right(self.starts, number) - 1
        row = number - self.starts[place]
        with _LIBRARY, opened(self.files[place], UsageError(MISSING)) as (h5py, file):
            tables = {name: _table(h5py, file, self.files[place], name) for name in self.inputs}
            try:
                return {name: np.asarray(table[row]) for name, table in tables.items()}
            except OSError as error:
                raise ParseError(f"its row {row} cannot be read: {error}", self.files[place]) from None

    def name(self, number: int) -> str:
        """The number, and the file where there are several."""
        place = bisect_right(self.starts, number) - 1
        return f"{self.files[place].name} {number - self.starts[place]}" if len(self.files) > 1 else str(number)

    def picture(self, number: int) -> Array | None:
        """The first input, if it has one or three planes."""
        return picture_of(next(iter(self.sample(number).values())))


def open_tables(files: Sequence[Path], source: str, feeds: Mapping[str, Feed], labels: Array | None) -> Samples:
    """The rows of some files.

    Args:
        files: in their order.
        source: what the user called them.
        feeds: the inputs; of those that data need not bring, what the first file has is read.
        labels: the true classes, which go before those of the files.

    Raises:
        UsageError: h5py is not installed, an input has no data set, or rows are not equally many.
        ParseError: a file is damaged.
    """
    starts, found, inputs, without = [0], [], tuple[str, ...](), list[str]()
    for path in files:
        with opened(path, UsageError(MISSING)) as (h5py, file):
            inputs = inputs or tuple(name for name, feed in feeds.items() if not feed.follows or name in file)
            counts = {name: len(_table(h5py, file, path, name)) for name in inputs}
            if len(set(counts.values())) != 1:
                numbers = ", ".join(f"{count:,} for '{name}'" for name, count in counts.items())
                raise UsageError(f"{path}: unequal numbers of samples: {numbers}")
            label = label_among(file, feeds) if labels is None else None
            count = next(iter(counts.values()))
            if label is not None:
                table = _table(h5py, file, path, label)
                if table.size != count:  # before its values are read
                    raise UsageError(f"{path}: {labels_misfit(table.shape, count)}")
                found.append(np.asarray(table).reshape(-1))
            elif count:
                without.append(str(path))
            starts.append(starts[-1] + count)
    if found and without:
        raise UsageError(f"{few(without)}: there are no labels, and other files of {source} have them")
    true = np.concatenate(found) if found else labels
    if true is not None and len(true) != starts[-1]:
        raise UsageError(f"{len(true):,} labels for {starts[-1]:,} samples of {source}")
    if not starts[-1]:
        raise UsageError(f"{source}: there are no samples")
    return Tables(tuple(files), tuple(starts), inputs, source, true)


def _table(h5py: ModuleType, file: Any, path: Path, name: str) -> Any:
    # Asked for its class alone, a link out of the file is not followed.
    if file.get(name, getclass=True, getlink=True) is not h5py.HardLink or not isinstance(file[name], h5py.Dataset):
        raise UsageError(f"{path}: {nothing_for([name], list(map(str, file)))}")
    table = file[name]
    if table.dtype.kind not in NUMBERS or not table.shape or table.is_virtual or table.external:
        raise ParseError(f"its data set '{name}' holds no rows of real numbers", path)
    return table
