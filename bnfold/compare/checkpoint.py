"""The state of a comparison in a file, from which the same comparison goes on: JSON, in which nothing can be run.

The file says by hashes of what models, data and options it is, and of what batch, and how many pieces are in it. It has
the hash of all that, so that one that was damaged is refused. It is replaced whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.compare.classify import Classification
from bnfold.compare.detect import Detection
from bnfold.compare.exact import Distances
from bnfold.compare.measure import Measurement
from bnfold.compare.merging import merge
from bnfold.compare.metrics import BlobError
from bnfold.compare.models import Model
from bnfold.compare.records import Answer, Box, Flip, SampleDiff, Stray
from bnfold.compare.saturation import Positions
from bnfold.data.arrays import row_of
from bnfold.data.samples import Arrays, Samples, Subset
from bnfold.errors import ParseError, UsageError
from bnfold.io.files import os_path
from bnfold.io.mapping import open_regular, require_unchanged
from bnfold.io.signals import defer_signals
from bnfold.options import CompareOptions

if TYPE_CHECKING:
    from bnfold.compare.engine import Engine

SCHEMA = "bnfold-checkpoint-7"
EVERY = 10.0  # seconds between two times of writing
FREE = frozenset({"checkpoint", "cluster", "memory", "threads", "min_agreement", "max_top1_drop"})
"""Options that change nothing in what is measured."""

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Answer, BlobError, Box, Classification, Detection, Distances, Flip, Measurement, Positions, SampleDiff, Stray,
    )
}  # fmt: skip


class Checkpoint:
    """What was measured so far, and the file that keeps it, if there is to be one.

    Args:
        path: the file, which need not be there; None to keep nothing.

    Attributes:
        batch: samples per run of what is in the file; None where it is not there. The free memory had a say in it, and
            may be another today.
        notes: what was found when the networks were first run, which a run that goes on does not find again.
        saved: how many pieces are in the file.
        fault: why the last of them are not; empty where all are.
        pieces, found: how many pieces are in the measurements, one of which there is for each candidate.

    Raises:
        UsageError: the file is none of ours.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        place = "" if path is None else os_path(path)
        self.path = None if path is None else Path(place)
        self.identity: dict[str, str] = {}
        self.notes: list[str] = []
        self.pieces, self.found = (0, []) if self.path is None or not os.path.exists(place) else self._read(self.path)
        self.batch = int(self.identity["batch"]) if self.identity else None
        self.saved, self.fault = self.pieces, ""
        self._written = time.monotonic()

    def begin(self, engine: Engine, data: Samples, options: CompareOptions, notes: list[str]) -> None:
        """Say what is measured from here on, with the notes on it, which are kept for a run that goes on.

        Raises:
            UsageError: the file is of another comparison, or cannot be written.
        """
        if self.path is None:
            return
        models = engine.networks.models
        # Compiled code rounds in another order.
        identity = identity_of(models, data, options, engine.layout.batch) | {"use of numba": str(engine.compiled)}
        differing = [what for what, digest in identity.items() if self.identity.get(what, digest) != digest]
        if "batch" in differing:  # which stands in the sizes of either model, too
            differing = [what for what in differing if not what.startswith("model ")]
        if differing:
            words = {f"model {place}": f"model '{model.name}'" for place, model in enumerate(models, start=1)}
            raise UsageError(
                f"the checkpoint '{self.path}' was made by another comparison (different: "
                f"{', '.join(words.get(what, what) for what in differing)}); resume the same one, or name another file"
            )
        if not self.identity:
            self.identity, self.notes = identity, notes
            self.save()  # better now than after hours

    def add(self, measured: list[Measurement]) -> None:
        """Take in the next piece, and write the state if the last time is some seconds ago."""
        whole = zip(self.found, measured, strict=True)
        self.found = [merge(before, part) for before, part in whole] if self.found else measured
        self.pieces += 1
        if time.monotonic() >= self._written + EVERY:
            self.keep()

    def keep(self) -> None:
        """Write the state, where there is more than in the file; where that fails, `fault` says why.

        What was measured is worth more than the file, so a disk that is full by now does not end the comparison.
        """
        if self.pieces > self.saved:
            try:
                self.save()
            except (UsageError, MemoryError) as error:
                self.fault = f"{error or 'out of memory'}, so it has {self.saved} of the {self.pieces} pieces"
            self._written = time.monotonic()

    @property
    def whereabouts(self) -> str:
        """Where the pieces are that were done, to be put behind a sentence; empty where they are lost."""
        if self.fault:
            return f"; {self.fault}"
        has_them = self.pieces and self.path
        return f"; '{self.path}' has them, and the same comparison goes on from it" if has_them else ""

    def save(self) -> None:
        """Write the state.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.path is not None:
            state = {"schema": SCHEMA, "identity": self.identity, "notes": self.notes, "pieces": self.pieces}
            state["found"] = plain(self.found)
            self._replace(self.path, json.dumps(state | {"digest": _hash(state)}))
        self.saved, self.fault = self.pieces, ""

    def _replace(self, path: Path, text: str) -> None:
        beside = path.parent / f"{path.name}.{os.getpid()}"  # "." has no name
        try:
            with defer_signals():  # one more Ctrl-C would lose what the first one has saved
                beside.write_text(text, encoding="utf-8")
                beside.replace(path)
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte, of which there is no file
            with suppress(OSError, ValueError):
                beside.unlink()
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"the checkpoint '{path}' cannot be written: {reason}") from None

    def _read(self, path: Path) -> tuple[int, list[Measurement]]:
        try:
            with open_regular(path) as file:
                state = json.load(file)
            if state["schema"] != SCHEMA or state.pop("digest") != _hash(state):
                raise ValueError
            self.identity, self.notes = dict(state["identity"]), list(state["notes"])
            return int(state["pieces"]), list(restored(state["found"]))
        except (ParseError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UsageError(f"'{path}' is no checkpoint of a comparison; name another file") from None


def identity_of(models: Iterable[Model], data: Samples, options: CompareOptions, batch: int) -> dict[str, str]:
    """Hashes of what a comparison is made of."""
    chosen = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in FREE}
    found = {f"model {number}": digest_of(model) for number, model in enumerate(models, start=1)}
    return found | {"data": _data_digest(data), "options": _hash(plain(chosen)), "batch": str(batch)}


def digest_of(model: Model) -> str:
    """The hash of a network with its weights. Raises ParseError where its file was written to since it was read."""
    require_unchanged(model.mapped)
    hashed = hashlib.sha256(model.proto.SerializeToString(deterministic=True))
    for weight in model.weights:
        hashed.update(f"{weight.name}{weight.shape}{weight.dtype}".encode())
        for piece in weight.pieces():
            hashed.update(piece)
    return hashed.hexdigest()


def _data_digest(data: Samples) -> str:
    """The hash of all names and labels, of how images are prepared, and of what is in the samples.

    That is the bytes that images are decoded from, and the values of arrays and tables. Of samples that are none of
    these, the first one speaks for all.
    """
    from bnfold.data.datasets import Images
    from bnfold.data.tables import Tables

    source, numbers = (data.whole, data.numbers) if isinstance(data, Subset) else (data, range(data.count))
    parts = [data.description, data.count, list(data.class_names), data.labels, getattr(source, "preparation", None)]
    parts += [data.name(number) for number in range(data.count)]
    if isinstance(source, Arrays):
        for name, array in source.arrays.items():
            content = hashlib.sha256()
            for number in range(len(array)):  # a row at a time, since they may be more than there is memory for
                content.update(row_of(array, number).tobytes())
            parts += [name, array.shape, array.dtype.str, content.hexdigest()]
    elif isinstance(source, Images):
        parts += [hashlib.sha256(source.pictures.content(number)).hexdigest() for number in numbers]
    else:
        read = numbers if isinstance(source, Tables) else numbers[:1]
        parts += [_hash(plain(source.sample(number))) for number in read]
    return _hash(plain(parts))


def _hash(state: Any) -> str:
    """Of what `plain` gave, and of what JSON makes of that again."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=repr).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Records, arrays and tuples as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        inside = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"record": type(value).__name__, "fields": inside}
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"array": data, "type": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, tuple):
        return {"tuple": [plain(item) for item in value]}
    if isinstance(value, dict):
        return {"names": {name: plain(item) for name, item in value.items()}}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def restored(value: Any) -> Any:
    """What `plain` was given. Raises KeyError, TypeError or ValueError where it was given nothing like it."""
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "record" in value:
        return KINDS[value["record"]](**{name: restored(item) for name, item in value["fields"].items()})
    if "array" in value:
        flat = np.frombuffer(base64.b64decode(value["array"]), np.dtype(value["type"]))
        return flat.reshape(value["shape"]).copy()
    if "tuple" in value:
        return tuple(restored(item) for item in value["tuple"])
    return {name: restored(item) for name, item in value["names"].items()}
